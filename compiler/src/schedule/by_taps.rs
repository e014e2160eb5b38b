//! Sums of which padding is a large part, such as convolutions of a dilation that is large for their image: one tap after the other, each
//! a product of what it reads with its weights, added to the sums of those outputs whose tap is inside.

use super::ScheduleError;
use super::borders::adds_nothing;
use super::emitter::{Emitter, coefficient, index_depends, is_float_lane};
use super::prepare::{preferred_order, scratch_of_results};
use crate::expr::{Affine, BinaryOp, Body, Expr, Ix, Node, ReduceOp, Stage, TensorId, Var};
use crate::tensor::DType;

/// The most taps.
const MAX_TAPS: usize = 25;
/// The least steps of a tap's sum: what they take, reading and writing sums must not show beside.
const MIN_DEPTH: usize = 128;
/// The largest share of steps that read elements.
const MAX_SHARE: f64 = 0.8;

/// The part of a sum's steps that are computed, of which so many read elements.
pub(super) fn share(depth: usize, read: f64) -> f64 {
    if is_sparse(depth, read) { read } else { 1.0 }
}

fn is_sparse(depth: usize, read: f64) -> bool {
    depth >= MIN_DEPTH && read <= MAX_SHARE
}

/// Taps along one axis of the operand.
struct Side {
    /// The output axis that moves along it, and how far a step of it goes.
    output: (usize, i64),
    /// What the first output's first tap reads, and how much there is to read.
    first: i64,
    dim: i64,
    /// Reduction axes, numbered behind those of outputs, with how far a step of each goes.
    taps: Vec<(usize, i64)>,
}

/// One tap of each side: the places along its axes, and outputs that read elements.
#[derive(Clone, Default)]
struct Tap {
    places: Vec<(usize, i64)>,
    outputs: Vec<(usize, std::ops::Range<i64>)>,
}

impl Tap {
    /// How many of the outputs along the sides these are.
    fn n_outputs(&self) -> i64 {
        self.outputs.iter().map(|(_, r)| r.end - r.start).product()
    }
}

/// Emits the stage, if it is such a sum; else does nothing.
pub(super) fn emit(e: &mut Emitter, stage: &Stage) -> Result<bool, ScheduleError> {
    let Body::Reduce { op: ReduceOp::Sum, value, finish } = &stage.body else { return Ok(false) };
    let Some((load, taps)) = taps(e, stage, value) else { return Ok(false) };
    if value.dtype() != DType::F32 || !is_float_lane(finish.dtype()) {
        return Ok(false);
    }
    let Some(columns) = columns(e, stage, value, &load) else { return Ok(false) };
    e.ensure_memory(stage.out, preferred_order(e, stage));
    let adjacent = stage.stride_along(&e.strides_of(stage.out), columns) == 1;
    let sums = scratch_of_results(e, stage, &stage.axes, columns, "sums");
    e.note(format!("taps({})", taps.len()));

    let n_outputs: i64 = taps[0].outputs.iter().map(|(o, _)| stage.axes[*o] as i64).product();
    let (mut first, last) = (true, adjacent && taps[taps.len() - 1].n_outputs() == n_outputs);
    if taps[0].n_outputs() < n_outputs {
        map(e, stage, sums, Expr::constant(DType::F32, 0.0))?;
        first = false;
    }
    let here: Vec<Ix> = (0..stage.axes.len()).map(Affine::axis).map(Ix::Affine).collect();
    let sum = Expr::new(Node::Load { tensor: sums, index: here, pad: None }, DType::F32);
    let plain = value.rewrite(&mut |x| if x == load { super::borders::plain(&x) } else { x });
    for (i, tap) in taps.iter().enumerate() {
        let acc = Expr::acc(DType::F32);
        let so_far = if first { acc } else { acc.binary(BinaryOp::Add, &sum) };
        first = false;
        if last && i + 1 == taps.len() {
            let finish = finish.with_acc(&so_far);
            one_tap(e, &Stage { body: body(plain.clone(), finish), ..stage.clone() }, tap)?;
        } else {
            let write = (0..stage.axes.len()).map(Affine::axis).collect();
            one_tap(e, &Stage { out: sums, write, body: body(plain.clone(), so_far), ..stage.clone() }, tap)?;
        }
    }
    if !last {
        let value = finish.with_acc(&sum);
        super::schedule_stage(e, &Stage { reduce: vec![], body: Body::Map(value), ..stage.clone() })?;
    }
    Ok(true)
}

fn body(value: Expr, finish: Expr) -> Body {
    Body::Reduce { op: ReduceOp::Sum, value, finish }
}

/// Sets all of a tensor that has the stage's axes.
fn map(e: &mut Emitter, stage: &Stage, out: TensorId, value: Expr) -> Result<(), ScheduleError> {
    let write = (0..stage.axes.len()).map(Affine::axis).collect();
    super::schedule_stage(e, &Stage { out, write, reduce: vec![], body: Body::Map(value), ..stage.clone() })
}

/// The part of a stage in which a tap reads elements, and only that tap of its sum.
fn one_tap(e: &mut Emitter, stage: &Stage, tap: &Tap) -> Result<(), ScheduleError> {
    let n = stage.axes.len();
    let kept: Vec<usize> = (n..n + stage.reduce.len()).filter(|a| tap.places.iter().all(|p| p.0 != *a)).collect();
    let outputs = |a: usize| tap.outputs.iter().find(|o| o.0 == a).map(|o| o.1.clone());
    let place = |form: &Affine| {
        form.substitute(|v| {
            let Var::Axis(i) = v else { return Affine::var(v) };
            let i = i as usize;
            match (tap.places.iter().find(|p| p.0 == i), kept.iter().position(|&a| a == i)) {
                (Some(p), _) => Affine::constant(p.1),
                (None, Some(k)) => Affine::axis(n + k),
                (None, None) => Affine::axis(i).offset(outputs(i).map_or(0, |r| r.start)),
            }
        })
    };
    let Body::Reduce { value, finish, .. } = &stage.body else { unreachable!("a sum") };
    let at = |x: &Expr| x.map_affine(&mut |a| place(a));
    let axes = (0..n).map(|a| outputs(a).map_or(stage.axes[a], |r| (r.end - r.start) as usize)).collect();
    let reduce = kept.iter().map(|&a| stage.reduce[a - n]).collect();
    let write = stage.write.iter().map(place).collect();
    super::schedule_stage(e, &Stage { out: stage.out, write, axes, reduce, bounds: vec![], body: body(at(value), at(finish)) })
}

/// The output axis that a constant factor has and the padded one has not.
fn columns(e: &Emitter, stage: &Stage, value: &Expr, load: &Expr) -> Option<usize> {
    let Node::Binary(BinaryOp::Mul, x, y) = value.node() else { return None };
    let other = if x == load { y } else { x };
    let (Node::Load { tensor, index, pad: None }, Node::Load { index: moving, .. }) = (other.node(), load.node()) else { return None };
    e.packable_constant(*tensor)?;
    let mut found = (0..stage.axes.len()).filter(|&a| stage.axes[a] > 1 && index_depends(index, a) && !index_depends(moving, a));
    match (found.next(), found.next()) {
        (Some(columns), None) => Some(columns),
        _ => None,
    }
}

/// The padded factor of a sum, and the taps that read elements, by rising number of outputs; `None` where it is none of these sums.
fn taps(e: &Emitter, stage: &Stage, value: &Expr) -> Option<(Expr, Vec<Tap>)> {
    let n = stage.axes.len();
    if stage.is_live() {
        return None;
    }
    let mut padded = vec![];
    value.visit(&mut |x| {
        if matches!(x.node(), Node::Load { pad: Some(_), .. }) {
            padded.push(x.clone());
        }
    });
    let [load] = &padded[..] else { return None };
    let Node::Load { tensor, pad: Some(pad), .. } = load.node() else { return None };
    if !adds_nothing(ReduceOp::Sum, value, load, pad) || (0..e.dims(*tensor).len()).any(|k| e.program().tensor(*tensor).bound(k).is_some())
    {
        return None;
    }
    let sides = sides(e, stage, load)?;
    let of_taps = |a: usize| sides.iter().any(|s| s.taps.iter().any(|t| t.0 == a));
    let depth: usize = (0..stage.reduce.len()).filter(|&i| !of_taps(n + i)).map(|i| stage.reduce[i]).product();
    let n_taps: usize = (0..stage.reduce.len()).filter(|&i| of_taps(n + i)).map(|i| stage.reduce[i]).product();
    if sides.is_empty() || n_taps > MAX_TAPS {
        return None;
    }
    let mut all = vec![Tap::default()];
    for side in &sides {
        all = all.iter().flat_map(|tap| side.extended(stage, tap)).collect();
    }
    let outputs: usize = sides.iter().map(|s| stage.axes[s.output.0]).product();
    let read: i64 = all.iter().map(Tap::n_outputs).sum();
    all.retain(|t| t.n_outputs() > 0);
    if all.is_empty() || !is_sparse(depth, read as f64 / (n_taps * outputs) as f64) {
        return None;
    }
    all.sort_by_key(Tap::n_outputs);
    Some((load.clone(), all))
}

/// The axes of the padded operand along which reads may be outside: taps of one output axis each.
fn sides(e: &Emitter, stage: &Stage, load: &Expr) -> Option<Vec<Side>> {
    let Node::Load { tensor, index, .. } = load.node() else { return None };
    let n = stage.axes.len();
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    let mut sides: Vec<Side> = vec![];
    for (ix, &dim) in index.iter().zip(e.dims(*tensor)) {
        let Ix::Affine(a) = ix else { return None };
        if a.terms.iter().any(|t| matches!(t.0, Var::Loop(_))) {
            return None;
        }
        let (lo, hi) = e.reach(a, &extents);
        if lo >= 0 && hi < dim as i64 {
            continue;
        }
        let moving: Vec<usize> = (0..extents.len()).filter(|&i| extents[i] > 1 && coefficient(ix, i) != 0).collect();
        let (outputs, taps): (Vec<usize>, Vec<usize>) = moving.into_iter().partition(|&i| i < n);
        let [output] = outputs[..] else { return None };
        let once = |i: usize| index.iter().filter(|other| coefficient(other, i) != 0).count() == 1;
        if coefficient(ix, output) < 1 || taps.is_empty() || !taps.iter().all(|&t| once(t)) || !once(output) {
            return None;
        }
        let taps = taps.into_iter().map(|t| (t, coefficient(ix, t))).collect();
        sides.push(Side { output: (output, coefficient(ix, output)), first: a.constant, dim: dim as i64, taps });
    }
    Some(sides)
}

impl Side {
    /// A tap of the sides before with each of this one's.
    fn extended(&self, stage: &Stage, tap: &Tap) -> Vec<Tap> {
        let n = stage.axes.len();
        let mut places: Vec<Vec<(usize, i64)>> = vec![vec![]];
        for &(axis, _) in &self.taps {
            let each = 0..stage.reduce[axis - n] as i64;
            places = places.iter().flat_map(|p| each.clone().map(move |k| [&p[..], &[(axis, k)]].concat())).collect();
        }
        let (output, step) = self.output;
        let extent = stage.axes[output] as i64;
        places
            .into_iter()
            .map(|places| {
                let offset: i64 = self.first + places.iter().zip(&self.taps).map(|(p, t)| p.1 * t.1).sum::<i64>();
                let before = |end: i64| -(offset - end).div_euclid(step);
                let start = before(0).clamp(0, extent);
                let outputs = start..before(self.dim).clamp(start, extent);
                Tap { places: [&tap.places[..], &places].concat(), outputs: [&tap.outputs[..], &[(output, outputs)]].concat() }
            })
            .collect()
    }
}

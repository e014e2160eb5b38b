//! Padding without a copy: a reduction of few steps reads its operand where it is. Loops over outputs are split where a step
//! of the reduction enters or leaves the padding, so that each step is known to read an element or to add nothing.

use super::across::Across;
use super::emitter::{Emitter, Point, Rest, Window, coefficient, expr_depends, index_depends, stride_along};
use super::reduce::loads;
use crate::expr::{Affine, BinaryOp, Const, Expr, Ix, Node, ReduceOp, Stage, Var};
use crate::tensor::Size;

/// Multiply-adds of one tile that may be written out, about.
const MAX_WRITTEN_OUT: usize = 800;
/// Elements of an axis on each side that may touch padding.
const MAX_BORDER: i64 = 8;
/// Parts that an axis may be split into.
const MAX_PARTS: usize = 8;

/// Whether a padded read is left in place, for the loops to be split around its padding.
pub(super) fn in_place(e: &Emitter, stage: &Stage, op: ReduceOp, value: &Expr, load: &Expr) -> bool {
    let Node::Load { tensor, index, pad: Some(pad) } = load.node() else { return false };
    let n = stage.axes.len();
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    if !index.iter().all(|ix| matches!(ix, Ix::Affine(_))) || !adds_nothing(op, value, load, pad) {
        return false;
    }
    if !bounds_hold(e, stage, value, load) {
        return false;
    }
    let mut split = vec![false; n];
    for (k, (ix, &dim)) in index.iter().zip(e.dims(*tensor)).enumerate() {
        let Ix::Affine(a) = ix else { return false };
        if e.program().tensor(*tensor).bound(k).is_some() {
            if let Some(walk) = (0..n).filter(|&a| coefficient(ix, a) != 0).find_map(|a| Walk::of(e, stage, load, a)) {
                split[walk.axis] = true;
            }
            continue;
        }
        let (lo, hi) = e.reach(a, &extents);
        if lo >= 0 && hi < dim as i64 {
            continue;
        }
        let moving: Vec<usize> = (0..n).filter(|&i| extents[i] > 1 && coefficient(ix, i) != 0).collect();
        if a.terms.iter().any(|t| matches!(t.0, Var::Loop(_))) {
            // Where the loops are, each step is inside or it is not.
            if moving.is_empty() && taps(stage, ix).iter().all(|&tap| is_decided(e.reach(&at_tap(a, tap), &extents), dim as i64)) {
                continue;
            }
            return false;
        }
        let [axis] = moving[..] else { return false };
        if split[axis] || coefficient(ix, axis) < 0 {
            return false;
        }
        split[axis] = true;
    }
    let fits = |axis: usize| match Walk::of(e, stage, load, axis) {
        Some(walk) => walk.is_short(e),
        None => {
            let (lo, hi) = interior(e, stage, &[load], axis);
            lo <= MAX_BORDER && stage.axes[axis] as i64 - hi <= MAX_BORDER && cuts(e, stage, &[load], axis).len() <= MAX_PARTS + 1
        }
    };
    if !(0..n).filter(|&a| split[a]).all(fits) {
        return false;
    }
    // Lanes lie along an axis that the padding does not know: adjacent elements, or columns of the other factor; or parts of the axis are.
    let strides = e.strides_of(*tensor);
    let stride = |axis: usize| -> i64 { stride_along(index, &strides, axis) };
    let adjacent = (0..n).any(|a| extents[a] >= 4 && !split[a] && stride(a) == 1) || Across::of(e, stage, value, load).is_some();
    let columns = (0..n).any(|a| {
        extents[a] >= 4 && !index_depends(index, a) && loads(value).iter().any(|l| expr_depends(l, a)) && {
            let strides = e.strides_of(stage.out);
            let unset = e.slots[stage.out.0 as usize].is_none();
            unset || stage.stride_along(&strides, a) == 1
        }
    });
    let steps: usize = stage.reduce.iter().product();
    match (adjacent, columns) {
        (true, _) => steps * 8 <= MAX_WRITTEN_OUT,
        (false, true) => steps * 28 <= MAX_WRITTEN_OUT,
        (false, false) => false,
    }
}

/// Whether every index along an axis that only a run knows is the stage's own axis, and so inside, or one that the loops are split for.
fn bounds_hold(e: &Emitter, stage: &Stage, value: &Expr, load: &Expr) -> bool {
    let Node::Load { tensor, index, .. } = load.node() else { return false };
    let decl = e.program().tensor(*tensor);
    let axis_alone = |ix: &Ix| if let Ix::Affine(a) = ix { single_axis(a) } else { None };
    index.iter().enumerate().all(|(k, ix)| {
        let mut live = (0..stage.axes.len()).filter(|&a| stage.bound(a).is_some() && coefficient(ix, a) != 0);
        match (decl.bound(k), live.next()) {
            (None, axis) => axis.is_none(),
            (Some(n), Some(axis)) if axis_alone(ix) == Some(axis) && stage.bound(axis) == Some(n) => true,
            // Steps of one read decide where loops are split.
            (Some(_), Some(axis)) => {
                let others = loads(value).into_iter().any(|l| l != *load && matches!(l.node(), Node::Load { pad: Some(_), .. }));
                !others && Walk::of(e, stage, load, axis).is_some()
            }
            (Some(_), None) => false,
        }
    })
}

/// How a padded read goes along an output axis whose extent only a run knows.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Walk {
    axis: usize,
    /// From one output to the next.
    step: i64,
    /// What the steps of the reduction add, ascending.
    offsets: Vec<i64>,
    /// Outputs: the most, and in one run.
    extent: (i64, Size),
    /// Elements there are to read: the most, and in one run.
    dim: (i64, Size),
}

/// A part of an output axis in which the same steps read elements.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The outputs.
    pub(super) rest: Rest,
    /// The steps.
    pub(super) window: Window,
    /// Whether those are all.
    pub(super) is_whole: bool,
}

impl Walk {
    /// The walk of a read along an axis; `None` where it does not go along it in this way, or reads all of it and nothing else.
    pub(super) fn of(e: &Emitter, stage: &Stage, load: &Expr, axis: usize) -> Option<Walk> {
        let Node::Load { tensor, index, pad: Some(_) } = load.node() else { return None };
        let n = stage.axes.len();
        let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
        let outputs = stage.bound(axis)?;
        if (n..extents.len()).any(|i| stage.bound(i).is_some()) {
            return None;
        }
        let mut along = (0..index.len()).filter(|&k| coefficient(&index[k], axis) != 0);
        let (k, None) = (along.next()?, along.next()) else { return None };
        let Ix::Affine(a) = &index[k] else { return None };
        let dim = e.program().tensor(*tensor).bound(k)?;
        let taps = |&(v, _): &(Var, i64)| match v {
            Var::Axis(i) if i as usize == axis => true,
            Var::Axis(i) => extents[i as usize] == 1 || i as usize >= n,
            Var::Loop(_) => false,
        };
        if !a.terms.iter().all(taps) || coefficient(&index[k], axis) < 0 || single_axis(a) == Some(axis) && dim == outputs {
            return None;
        }
        let (step, offsets, most) = steps(e, stage, load, axis)?;
        // Steps are written out, so that each knows whether it is outside.
        let reduced = (n..extents.len()).any(|i| expr_depends(load, i));
        let extent = (stage.axes[axis] as i64, outputs.clone());
        reduced.then(|| Walk { axis, step, offsets, extent, dim: (most, dim.clone()) })
    }

    /// Outputs before which a step reads before the first element.
    fn first(&self, offset: i64) -> i64 {
        ceil_div(-offset, self.step).clamp(0, self.extent.0)
    }

    /// Outputs in one run before the one at which a step reads past the last element.
    fn end(&self, offset: i64) -> Size {
        let end = self.dim.1.plus(&Size::Constant(self.step - 1 - offset)).floor(self.step);
        end.at_least(0).lesser(&self.extent.1)
    }

    /// Whether few outputs touch padding, in every run.
    fn is_short(&self, e: &Emitter) -> bool {
        let (Some(&least), Some(&most)) = (self.offsets.first(), self.offsets.last()) else { return false };
        let outside = e.span(&self.extent.1.minus(&self.end(most)));
        self.offsets.len() <= MAX_PARTS && self.first(least) <= MAX_BORDER && outside.is_some_and(|s| s.1 <= MAX_BORDER)
    }

    /// The output axis.
    pub(super) fn axis(&self) -> usize {
        self.axis
    }

    /// The axis in parts: first those that begin where steps leave the padding before it, each cut where steps enter what is behind it.
    pub(super) fn pieces(&self, e: &Emitter) -> Vec<Piece> {
        let (all, offsets) = (self.extent.0, &self.offsets);
        let (&first, &last) = (&offsets[0], &offsets[offsets.len() - 1]);
        let mut starts: Vec<i64> = offsets.iter().map(|&o| self.first(o)).chain([0]).collect();
        starts.sort_unstable();
        starts.dedup();
        // By the greatest step that is inside: where that begins and ends, and the most that it can end at.
        let mut classes = vec![(self.end(first), self.extent.1.clone(), all, first - 1)];
        for (i, &offset) in offsets.iter().enumerate() {
            let from = offsets.get(i + 1).map_or(Size::Constant(0), |&next| self.end(next));
            let most = ceil_div(self.dim.0 - offset, self.step).clamp(0, all);
            classes.push((from, self.end(offset), most, offset));
        }
        let mut pieces = vec![];
        for (i, &start) in starts.iter().enumerate() {
            let next = starts.get(i + 1).copied();
            let least = offsets.iter().copied().find(|&o| self.step * start + o >= 0).unwrap_or(last + 1);
            for (from, to, most, greatest) in classes.iter().rev() {
                let within = |s: &Size| next.map_or(s.at_least(start), |n| s.at_least(start).at_most(n));
                let (from, to) = (within(from), within(to));
                let range = start..(*most).min(next.unwrap_or(all));
                if range.is_empty() || e.span(&to.minus(&from)).is_some_and(|s| s.1 <= 0) {
                    continue;
                }
                let window = Window { axis: self.axis, least, most: *greatest };
                let is_whole = least == first && *greatest == last;
                pieces.push(Piece { rest: Rest::live(range, from, to), window, is_whole });
            }
        }
        pieces
    }
}

/// The axis that an index is.
pub(super) fn single_axis(index: &Affine) -> Option<usize> {
    match index.terms[..] {
        [(Var::Axis(axis), 1)] if index.constant == 0 => Some(axis as usize),
        _ => None,
    }
}

/// Whether a step that reads padding leaves the accumulator as it is.
pub(super) fn adds_nothing(op: ReduceOp, value: &Expr, load: &Expr, pad: &Expr) -> bool {
    let Node::Const(Const::Float(pad)) = pad.node() else { return false };
    match op {
        ReduceOp::Max => value == load && *pad == f64::NEG_INFINITY,
        ReduceOp::Min => value == load && *pad == f64::INFINITY,
        ReduceOp::Sum if *pad == 0.0 => {
            let factor = |x: &Expr, other: &Expr| x == load && matches!(other.node(), Node::Load { pad: None, .. });
            value == load || matches!(value.node(), Node::Binary(BinaryOp::Mul, x, y) if factor(x, y) || factor(y, x))
        }
        _ => false,
    }
}

/// The read without its padding.
pub(super) fn plain(load: &Expr) -> Expr {
    match load.node() {
        Node::Load { tensor, index, pad: Some(_) } => {
            Expr::new(Node::Load { tensor: *tensor, index: index.clone(), pad: None }, load.dtype())
        }
        _ => load.clone(),
    }
}

/// Whether a step at this point reads padding, for a read that is left in place.
pub(super) fn outside(e: &Emitter, load: &Expr, at: &Point) -> bool {
    let Node::Load { tensor, index, .. } = load.node() else { return false };
    index.iter().zip(e.dims(*tensor)).any(|(ix, &dim)| {
        let Ix::Affine(a) = ix else { return false };
        if let Some(window) = e.windows.iter().rev().find(|w| coefficient(ix, w.axis) != 0) {
            let steps = Affine { terms: a.terms.iter().copied().filter(|t| t.0 != Var::Axis(window.axis as u32)).collect(), ..a.clone() };
            let (lo, hi) = e.range(&e.affine(&steps, at));
            return lo < window.least || hi > window.most;
        }
        let (lo, hi) = e.range(&e.affine(a, at));
        let lanes = at.vector.map_or(0, |v| i64::from(v.valid - 1) * coefficient(ix, v.axis));
        hi + lanes.max(0) < 0 || lo + lanes.min(0) >= dim as i64
    })
}

/// The index of a load that moves along an output axis and may leave the operand: its coefficient, with the least and the greatest
/// offset that the reduction adds, all offsets, and the operand's extent.
fn steps(e: &Emitter, stage: &Stage, load: &Expr, axis: usize) -> Option<(i64, Vec<i64>, i64)> {
    let Node::Load { tensor, index, .. } = load.node() else { return None };
    let (ix, &dim) = index.iter().zip(e.dims(*tensor)).find(|(ix, _)| coefficient(ix, axis) != 0)?;
    let Ix::Affine(a) = ix else { return None };
    let offsets = taps(stage, ix).into_iter().map(|tap| a.constant + tap).collect();
    Some((coefficient(ix, axis), offsets, dim as i64))
}

/// What the reduction adds to an index, ascending.
fn taps(stage: &Stage, ix: &Ix) -> Vec<i64> {
    let n = stage.axes.len();
    let mut taps = vec![0];
    for (i, &extent) in stage.reduce.iter().enumerate() {
        let c = coefficient(ix, n + i);
        if c != 0 {
            taps = taps.iter().flat_map(|t| (0..extent as i64).map(move |k| t + c * k)).collect();
        }
    }
    taps.sort_unstable();
    taps.dedup();
    taps
}

/// An index at one step, of which only loops are left.
fn at_tap(a: &Affine, tap: i64) -> Affine {
    let terms = a.terms.iter().copied().filter(|t| matches!(t.0, Var::Loop(_))).collect();
    Affine { constant: a.constant + tap, terms }
}

/// Whether all of a range is inside, or nothing of it.
fn is_decided((lo, hi): (i64, i64), dim: i64) -> bool {
    lo >= 0 && hi < dim || hi < 0 || lo >= dim
}

/// The outputs along an axis whose every step is inside.
pub(super) fn interior(e: &Emitter, stage: &Stage, padded: &[&Expr], axis: usize) -> (i64, i64) {
    let extent = stage.axes[axis] as i64;
    let (mut lo, mut hi) = (0, extent);
    for (c, offsets, dim) in padded.iter().filter_map(|l| steps(e, stage, l, axis)) {
        lo = lo.max(ceil_div(-offsets[0], c));
        hi = hi.min(ceil_div(dim - offsets[offsets.len() - 1], c));
    }
    (lo.clamp(0, extent), hi.clamp(lo.clamp(0, extent), extent))
}

/// Where along an axis the steps that are inside change: its start, these places, its end.
pub(super) fn cuts(e: &Emitter, stage: &Stage, padded: &[&Expr], axis: usize) -> Vec<i64> {
    let extent = stage.axes[axis] as i64;
    let mut cuts = vec![0, extent];
    for (c, offsets, dim) in padded.iter().filter_map(|l| steps(e, stage, l, axis)) {
        for o in offsets {
            cuts.push(ceil_div(-o, c).clamp(0, extent));
            cuts.push(ceil_div(dim - o, c).clamp(0, extent));
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// `a / b` rounded up, `b` above zero.
fn ceil_div(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}

#[cfg(test)]
mod tests {
    use super::{Walk, cuts, in_place, interior};
    use crate::expr::{Body, Builder, Expr, Item, ReduceOp};
    use crate::schedule::Machine;
    use crate::schedule::emitter::Emitter;
    use crate::tensor::{DType, Parameter, Size};

    #[test]
    fn axes_are_cut_where_steps_leave_the_operand() {
        let mut b = Builder::new();
        let x = b.operand("x", DType::F32, &[20, 8]);
        let y = b.reduce(
            ReduceOp::Max,
            &[10, 8],
            &[5],
            |b, at, k| {
                let place = at[0].times(2).plus(&k[0]).offset(-2);
                b.load_padded(x, [place, at[1].clone()], Expr::constant(DType::F32, f64::NEG_INFINITY))
            },
            |_, _, acc| acc,
        );
        let program = b.finish(&[y]);
        let Item::Stage(stage) = &program.items[0] else { panic!("one stage") };
        let Body::Reduce { op, value, .. } = &stage.body else { panic!("a reduction") };
        let e = Emitter::new("k", &program, &Machine::wide(16, 32));
        assert!(in_place(&e, stage, *op, value, value));
        assert!(!in_place(&e, stage, ReduceOp::Sum, value, value));
        assert_eq!((interior(&e, stage, &[value], 0), interior(&e, stage, &[value], 1)), ((1, 9), (0, 8)));
        assert_eq!(cuts(&e, stage, &[value], 0), [0, 1, 9, 10]);
    }

    #[test]
    fn parts_of_a_varying_axis_are_right_at_every_size() {
        // Taps, step, padding before and after, dilation.
        for (taps, step, before, after, apart) in
            [(3, 1, 1, 1, 1), (5, 1, 2, 2, 1), (3, 2, 1, 1, 1), (5, 2, 2, 1, 1), (2, 2, 0, 1, 1), (3, 1, 2, 2, 2)]
        {
            let parameters = vec![Parameter::new("n", 1, 40, 1)];
            let read = Size::Parameter(0);
            let reach = apart * (taps - 1) + 1;
            let written = read.plus(&Size::Constant(before + after - reach)).floor(step).plus(&Size::Constant(1));
            let extent = |s: &Size| usize::try_from(s.value(&[40])).expect("an extent");
            let mut b = Builder::new();
            let x = b.operand("x", DType::F32, &[extent(&read), 8]);
            let y = b.reduce(
                ReduceOp::Sum,
                &[extent(&written), 8],
                &[usize::try_from(taps).expect("taps")],
                |b, at, k| {
                    let place = at[0].times(step).plus(&k[0].times(apart)).offset(-before);
                    b.load_padded(x, [place, at[1].clone()], Expr::constant(DType::F32, 0.0))
                },
                |_, _, acc| acc,
            );
            let mut program = b.finish(&[y]);
            program.parameters = parameters;
            program.tensors[0].bounds = vec![Some(read.clone()), None];
            program.tensors[1].bounds = vec![Some(written.clone()), None];
            let Item::Stage(stage) = &mut program.items[0] else { panic!("one stage") };
            stage.bounds = vec![Some(written.clone()), None, None];
            let stage = stage.clone();
            let Body::Reduce { op, value, .. } = &stage.body else { panic!("a reduction") };
            let e = Emitter::new("k", &program, &Machine::wide(16, 32));
            assert!(in_place(&e, &stage, *op, value, value));
            let pieces = Walk::of(&e, &stage, value, 0).expect("a walk").pieces(&e);
            assert_eq!(pieces.iter().filter(|p| p.is_whole).count(), 1);
            for n in 1..=40 {
                let mut seen = vec![0; usize::try_from(written.value(&[n]).max(0)).expect("an extent")];
                for piece in &pieces {
                    let run = piece.rest.clone().take(1);
                    let (from, to) = run.live.expect("live");
                    for i in from.value(&[n])..to.value(&[n]) {
                        assert!(run.range.contains(&i), "{i} of {n}");
                        seen[i as usize] += 1;
                        for o in (0..taps).map(|k| k * apart - before) {
                            let inside = (0..n).contains(&(step * i + o));
                            assert_eq!((piece.window.least..=piece.window.most).contains(&o), inside, "step {o} at {i} of {n}");
                        }
                    }
                }
                assert!(seen.iter().all(|&times| times == 1), "{n}: {seen:?}");
            }
        }
    }
}

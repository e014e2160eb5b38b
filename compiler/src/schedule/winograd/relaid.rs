//! Convolutions that are plain ones of another image, between copies: dilated ones, and those whose channels are not innermost.
//!
//! Outputs that lie a multiple of the dilation apart read the same phase of the image. One phase after the other along each side, with as many
//! zeros between them as a filter reaches over, they are one image, and the convolution of it is not dilated. The epilogue runs where
//! outputs are copied to their places.

use super::shape::{Shape, Side};
use crate::expr::{Affine, Body, Const, Expr, Ix, Node, ReduceOp, Stage, TensorId, Var};
use crate::schedule::ScheduleError;
use crate::schedule::emitter::Emitter;
use crate::schedule::prepare::{scratch_of_copy, scratch_of_results};
use crate::tensor::DType;

/// What it takes to copy an element, in slots of a multiply-add: along lanes, and from one innermost axis to another.
const COPY: [f64; 2] = [0.5, 2.0];

impl Side {
    /// From the first element of one phase to the first of the next, in the image of all.
    fn pitch(&self) -> i64 {
        let (read, outputs) = (self.dim.div_ceil(self.dilation) as i64, self.extent.div_ceil(self.dilation) as i64);
        let first = self.first_of_phase();
        (read - first.min(0)).max(outputs + self.taps as i64 - 1 + first).max(outputs)
    }

    fn first_of_phase(&self) -> i64 {
        self.first / self.dilation as i64
    }

    /// The side of the image of all phases.
    fn stacked(&self) -> Side {
        if self.dilation == 1 {
            return self.clone();
        }
        let (d, pitch) = (self.dilation, self.pitch() as usize);
        let extent = (d - 1) * pitch + self.extent.div_ceil(d);
        Side { extent, dim: d * pitch, first: self.first_of_phase(), dilation: 1, ..self.clone() }
    }

    /// Ranges of phases, each with how many of `n` elements are in one.
    fn phases(&self, n: usize) -> Vec<(std::ops::Range<usize>, usize)> {
        let (d, longer) = (self.dilation, n % self.dilation);
        [(0..longer, n / d + 1), (longer..d, n / d)].into_iter().filter(|(phases, n)| !phases.is_empty() && *n > 0).collect()
    }
}

/// An axis of a copy: the phases of a side, or what is in one, or any other.
struct Axes {
    extents: Vec<usize>,
}

impl Axes {
    fn push(&mut self, extent: usize) -> Affine {
        self.extents.push(extent);
        Affine::axis(self.extents.len() - 1)
    }
}

impl Shape {
    /// The plain convolution that this one is of another image.
    pub(super) fn stacked(&self) -> Shape {
        Shape { sides: [self.sides[0].stacked(), self.sides[1].stacked()], ..self.clone() }
    }

    pub(super) fn is_dilated(&self) -> bool {
        self.sides.iter().any(|s| s.dilation > 1)
    }

    /// Which copies it needs: of the image, of the outputs.
    pub(super) fn copies(&self, e: &Emitter, stage: &Stage) -> [bool; 2] {
        let [read, written] = self.lanes_are_adjacent(e, stage);
        [!read || self.is_dilated(), !written || self.is_dilated()]
    }

    /// Slots of a multiply-add that the copies take.
    pub(super) fn copying(&self, e: &Emitter, stage: &Stage) -> f64 {
        let adjacent = self.lanes_are_adjacent(e, stage);
        let [y, x] = &self.stacked().sides;
        let elements = [y.dim * x.dim * self.channels.1, y.extent * x.extent * self.columns.1];
        let each =
            |i: usize| if self.copies(e, stage)[i] { COPY[usize::from(!adjacent[i])] * (self.n_images * elements[i]) as f64 } else { 0.0 };
        each(0) + each(1)
    }

    /// Whether it can be copied: of one size in all runs, channels along one axis of the image.
    pub(super) fn may_be_relaid(&self, e: &Emitter, stage: &Stage) -> bool {
        let n = stage.axes.len() + stage.reduce.len();
        let dims = e.dims(self.input.0).len();
        (0..n).all(|a| stage.bound(a).is_none())
            && (0..dims).all(|k| e.program().tensor(self.input.0).bound(k).is_none())
            && self.channel_place().is_some()
    }

    /// The axis of the image that channels are.
    fn channel_place(&self) -> Option<usize> {
        let mut moving = (0..self.input.1.len()).filter(|&k| self.input.1[k].coefficient(Var::Axis(self.channels.0 as u32)) != 0);
        let (k, None) = (moving.next()?, moving.next()) else { return None };
        (self.input.1[k].coefficient(Var::Axis(self.channels.0 as u32)) == 1).then_some(k)
    }

    /// The side whose taps move along an axis of the image.
    fn side_along(&self, place: usize) -> Option<&Side> {
        self.sides.iter().find(|s| s.tap.is_some_and(|tap| self.input.1[place].coefficient(Var::Axis(tap as u32)) != 0))
    }

    /// Emits the copies of the image, and gives the plain convolution as a stage.
    pub(super) fn relaid(&self, e: &mut Emitter, stage: &Stage) -> Result<Stage, ScheduleError> {
        let [image, outputs] = self.copies(e, stage);
        let input = if image { self.copy_image(e)? } else { self.input.0 };
        let index: Vec<Ix> = (0..self.input.1.len())
            .map(|k| match self.side_along(k).filter(|s| s.dilation > 1) {
                Some(side) => Affine::axis(side.axis.expect("outputs along taps"))
                    .plus(&Affine::axis(side.tap.expect("taps")))
                    .offset(side.first_of_phase()),
                None => self.input.1[k].clone(),
            })
            .map(Ix::Affine)
            .collect();
        let Body::Reduce { value, .. } = &stage.body else { unreachable!("a convolution is a reduction") };
        let read = |x: &Expr| matches!(x.node(), Node::Load { tensor, .. } if *tensor == self.input.0);
        let value = value.rewrite(&mut |x| match x.node() {
            Node::Load { pad, .. } if read(&x) => {
                let pad = pad.clone().or_else(|| self.is_dilated().then(|| Expr::constant(DType::F32, 0.0)));
                Expr::new(Node::Load { tensor: input, index: index.clone(), pad }, x.dtype())
            }
            _ => x,
        });
        if !outputs {
            return Ok(Stage { body: with_value(&stage.body, value), ..stage.clone() });
        }
        let mut axes = stage.axes.clone();
        for side in self.stacked().sides {
            if let Some(o) = side.axis {
                axes[o] = side.extent;
            }
        }
        let out = scratch_of_results(e, stage, &axes, self.columns.0, "relaid");
        let body = Body::Reduce { op: ReduceOp::Sum, value, finish: Expr::acc(DType::F32) };
        Ok(Stage { out, write: (0..axes.len()).map(Affine::axis).collect(), axes, reduce: stage.reduce.clone(), bounds: vec![], body })
    }

    /// A copy of the image with channels innermost, phase by phase.
    fn copy_image(&self, e: &mut Emitter) -> Result<TensorId, ScheduleError> {
        let (tensor, channels) = (self.input.0, self.channel_place().expect("checked before"));
        let dims = e.dims(tensor).to_vec();
        let sides: Vec<Option<Side>> = (0..dims.len()).map(|k| self.side_along(k).filter(|s| s.dilation > 1).cloned()).collect();
        let relaid: Vec<usize> = (0..dims.len()).map(|k| sides[k].as_ref().map_or(dims[k], |s| s.stacked().dim)).collect();
        let copy = scratch_of_copy(e, tensor, &relaid, channels);
        if self.is_dilated() {
            let value = Expr::new(Node::Const(Const::Float(0.0)), DType::F32);
            let write = (0..dims.len()).map(Affine::axis).collect();
            crate::schedule::schedule_stage(
                e,
                &Stage { out: copy, write, axes: relaid, reduce: vec![], bounds: vec![], body: Body::Map(value) },
            )?;
        }
        for part in parts(&sides.iter().map(|s| s.as_ref().map(|s| s.phases(s.dim))).collect::<Vec<_>>()) {
            let mut axes = Axes { extents: vec![] };
            let (mut write, mut from) = (vec![], vec![]);
            for k in 0..dims.len() {
                let (to, at) = match (&sides[k], &part[k]) {
                    (Some(side), Some((phases, n))) => {
                        let phase = axes.push(phases.len()).offset(phases.start as i64);
                        let within = axes.push(*n);
                        (phase.times(side.pitch()).plus(&within), within.times(side.dilation as i64).plus(&phase))
                    }
                    _ => {
                        let at = axes.push(dims[k]);
                        (at.clone(), at)
                    }
                };
                write.push(to);
                from.push(Ix::Affine(at));
            }
            let value = Expr::new(Node::Load { tensor, index: from, pad: None }, DType::F32);
            let axes = axes.extents;
            crate::schedule::schedule_stage(e, &Stage { out: copy, write, axes, reduce: vec![], bounds: vec![], body: Body::Map(value) })?;
        }
        Ok(copy)
    }

    /// Copies the outputs of the plain convolution to their places, under the epilogue.
    pub(super) fn deliver(&self, e: &mut Emitter, stage: &Stage, plain: &Stage) -> Result<(), ScheduleError> {
        if plain.out == stage.out {
            return Ok(());
        }
        let side = |a: usize| self.sides.iter().find(|s| s.axis == Some(a) && s.dilation > 1);
        let all: Vec<_> = (0..stage.axes.len()).map(|a| side(a).map(|s| s.phases(s.extent))).collect();
        for part in parts(&all) {
            let mut axes = Axes { extents: vec![] };
            let (mut at, mut from) = (vec![], vec![]);
            for (a, choice) in part.iter().enumerate() {
                match (side(a), choice) {
                    (Some(side), Some((phases, n))) => {
                        let phase = axes.push(phases.len()).offset(phases.start as i64);
                        let within = axes.push(*n);
                        at.push(within.times(side.dilation as i64).plus(&phase));
                        from.push(Ix::Affine(phase.times(side.pitch()).plus(&within)));
                    }
                    _ => {
                        let place = axes.push(stage.axes[a]);
                        at.push(place.clone());
                        from.push(Ix::Affine(place));
                    }
                }
            }
            let place = |a: &Affine| {
                a.substitute(|v| match v {
                    Var::Axis(i) => at[i as usize].clone(),
                    Var::Loop(_) => Affine::var(v),
                })
            };
            let sum = Expr::new(Node::Load { tensor: plain.out, index: from, pad: None }, DType::F32);
            let value = self.finish.map_affine(&mut |a| place(a));
            let value = value.with_acc(&sum);
            let write = stage.write.iter().map(place).collect();
            let axes = axes.extents;
            crate::schedule::schedule_stage(
                e,
                &Stage { out: stage.out, write, axes, reduce: vec![], bounds: vec![], body: Body::Map(value) },
            )?;
        }
        Ok(())
    }
}

type Phases = (std::ops::Range<usize>, usize);

/// Every choice of one range of phases along each side that has phases.
fn parts(sides: &[Option<Vec<Phases>>]) -> Vec<Vec<Option<Phases>>> {
    sides.iter().fold(vec![vec![]], |parts, side| {
        let choices: Vec<Option<Phases>> = side.as_ref().map_or(vec![None], |ranges| ranges.iter().cloned().map(Some).collect());
        parts.iter().flat_map(|part| choices.iter().map(move |c| [&part[..], std::slice::from_ref(c)].concat())).collect()
    })
}

fn with_value(body: &Body, value: Expr) -> Body {
    let Body::Reduce { op, finish, .. } = body else { unreachable!("a convolution is a reduction") };
    Body::Reduce { op: *op, value, finish: finish.clone() }
}

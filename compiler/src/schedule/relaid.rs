//! Large windows over images whose channels are not innermost: lanes of channels are many and adjacent in a copy, where lanes of places
//! along a row are few, or strided. The epilogue runs where results are copied to their places.

use super::ScheduleError;
use super::across::Across;
use super::emitter::{Emitter, coefficient, is_float_lane, place_alone, stride_along, vector_ok};
use super::prepare::{scratch_of_copy, scratch_of_results};
use super::reduce::loads;
use crate::expr::{Affine, Body, Expr, Ix, Node, Stage, TensorId, Var};
use crate::tensor::DType;

/// Steps of a window that are worth copies of the image and of the results, and those of one that strides along the lanes.
const MIN_STEPS: [usize; 2] = [25, 9];

/// Emits the stage, if it is such a window and there are shuffles to copy with; else does nothing.
pub(super) fn emit(e: &mut Emitter, stage: &Stage) -> Result<bool, ScheduleError> {
    let Body::Reduce { op, value, finish } = &stage.body else { return Ok(false) };
    let Some((tensor, channels)) = image(e, stage, value) else { return Ok(false) };
    let in_lanes = loads(value).iter().any(|l| Across::of(e, stage, value, l).is_some());
    if value.dtype() != DType::F32 || !is_float_lane(finish.dtype()) || !vector_ok(value, channels) || in_lanes {
        return Ok(false);
    }
    let dims = e.dims(tensor).to_vec();
    let place = place_of(value, tensor, channels).expect("found before");
    let copy = scratch_of_copy(e, tensor, &dims, place);
    e.copy(tensor, copy, &dims)?;
    let value = value.rewrite(&mut |x| match x.node() {
        Node::Load { tensor: t, index, pad } if *t == tensor => {
            Expr::new(Node::Load { tensor: copy, index: index.clone(), pad: pad.clone() }, x.dtype())
        }
        _ => x,
    });
    let out = scratch_of_results(e, stage, &stage.axes, channels, "relaid");
    let write: Vec<Affine> = (0..stage.axes.len()).map(Affine::axis).collect();
    let body = Body::Reduce { op: *op, value, finish: Expr::acc(DType::F32) };
    super::schedule_stage(e, &Stage { out, write: write.clone(), body, ..stage.clone() })?;
    let result = Expr::new(Node::Load { tensor: out, index: write.iter().map(Ix::from).collect(), pad: None }, DType::F32);
    let value = finish.with_acc(&result);
    super::schedule_stage(e, &Stage { reduce: vec![], body: Body::Map(value), ..stage.clone() })?;
    Ok(true)
}

/// The axis of a tensor that an axis of the stage is, in every read of it.
fn place_of(value: &Expr, tensor: TensorId, channels: usize) -> Option<usize> {
    let mut found = None;
    let mut same = true;
    value.visit(&mut |x| {
        let Node::Load { tensor: t, index, .. } = x.node() else { return };
        if *t != tensor {
            return;
        }
        let place = place_alone(index, channels);
        same &= place.is_some() && found.is_none_or(|f| Some(f) == place);
        found = place;
    });
    found.filter(|_| same)
}

/// The only tensor in memory that a sum or comparison of a window reads, and the axis of its channels.
fn image(e: &Emitter, stage: &Stage, value: &Expr) -> Option<(TensorId, usize)> {
    let n = stage.axes.len();
    if !e.machine.shuffles() || stage.is_live() {
        return None;
    }
    let mut loads = vec![];
    value.visit(&mut |x| {
        if let Node::Load { tensor, index, .. } = x.node()
            && e.packable_constant(*tensor).is_none()
        {
            loads.push((*tensor, index.clone(), x.dtype()));
        }
    });
    let [(tensor, index, DType::F32)] = &loads[..] else { return None };
    if e.slots[tensor.0 as usize].is_none() || !index.iter().all(|ix| matches!(ix, Ix::Affine(a) if a.terms.iter().all(over_axes))) {
        return None;
    }
    // Every step of the reduction moves along the rows and columns of the image, and not along channels: no axis is summed whole.
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    let moves = |ix: &Ix, i: usize| extents[i] > 1 && coefficient(ix, i) != 0;
    let window = |i: usize| index.iter().any(|ix| moves(ix, i) && (0..n).any(|o| moves(ix, o)));
    if !(n..extents.len()).filter(|&i| extents[i] > 1).all(window) {
        return None;
    }
    let (strides, out_strides) = (e.strides_of(*tensor), e.strides_of(stage.out));
    let stride = |a: usize| stride_along(index, &strides, a);
    let reach = |a: usize| stage.stride_along(&out_strides, a);
    let row = (0..n).filter(|&a| extents[a] > 1).min_by_key(|&a| reach(a))?;
    let steps: usize = stage.reduce.iter().product();
    let slides = index.iter().any(|ix| moves(ix, row) && (n..extents.len()).any(|i| moves(ix, i)));
    if !slides || reach(row) != 1 || steps < MIN_STEPS[usize::from(stride(row) > 1)] {
        return None;
    }
    let lanes = e.machine.lanes as usize;
    let channels = (0..n).filter(|&a| a != row && extents[a] >= lanes && stride(a) > 1 && reach(a) > 1);
    let channels = channels.filter(|&a| place_of(value, *tensor, a).is_some()).min_by_key(|&a| stride(a))?;
    Some((*tensor, channels))
}

fn over_axes(term: &(Var, i64)) -> bool {
    matches!(term.0, Var::Axis(_))
}

//! An element-wise stage and the reduction of its rows, as softmax has them, in one loop: each element is combined as it is computed, and
//! written for those who read it later.

use super::emitter::Emitter;
use super::inner_product;
use super::prepare;
use super::reduce::outputs_in_lanes;
use super::{ScheduleError, within_bounds};
use crate::expr::{Affine, BinaryOp, Body, Expr, Ix, Node, Stage, TensorId, Var};
use crate::tensor::n_elements;

/// The reduction of what a map computes, and the stage that writes its values, of the reduction's axes; `None` where it is not of
/// all elements of the map, each once.
fn joined(map: &Stage, reduction: &Stage) -> Option<(Stage, Stage)> {
    let (Body::Map(computed), Body::Reduce { op, value, finish }) = (&map.body, &reduction.body) else { return None };
    let Node::Load { tensor, index, pad: None } = value.node() else { return None };
    if *tensor != map.out || reads(finish, map.out) || reads(computed, map.out) || reduction.reduce.len() != 1 {
        return None;
    }
    // Where each axis of the map is in the reduction.
    let mut places = vec![Affine::default(); map.axes.len()];
    let mut found = vec![];
    for (write, ix) in map.write.iter().zip(index) {
        let Ix::Affine(read) = ix else { return None };
        let ((of_map, start), (of_reduction, other)) = (one_axis(write)?, one_axis(read)?);
        match (of_map, of_reduction) {
            _ if start != other => return None,
            (Some(a), Some(r)) if map.extent(a) == reduction.extent(r) && map.bound(a) == reduction.bound(r) => {
                places[a] = Affine::axis(r);
                found.push((a, r));
            }
            (None, None) => {}
            _ => return None,
        }
    }
    let once = |n: usize, axis: &dyn Fn(usize) -> bool, is: &dyn Fn(&(usize, usize), usize) -> bool| {
        (0..n).all(|a| found.iter().filter(|f| is(f, a)).count() == 1 || axis(a) && !found.iter().any(|f| is(f, a)))
    };
    let n = reduction.axes.len();
    let covered = once(map.axes.len(), &|a| map.axes[a] == 1, &|f, a| f.0 == a);
    if !covered || !once(n + 1, &|r| r < n && reduction.axes[r] == 1, &|f, r| f.1 == r) {
        return None;
    }
    let at = |v: Var| match v {
        Var::Axis(i) => places[i as usize].clone(),
        Var::Loop(_) => Affine::var(v),
    };
    let computed = computed.map_affine(&mut |a| a.substitute(at));
    let body = Body::Reduce { op: *op, value: computed.clone(), finish: finish.clone() };
    let write = map.write.iter().map(|a| a.substitute(at)).collect();
    let written = Stage { out: map.out, write, body: Body::Map(computed), ..reduction.clone() };
    Some((Stage { body, ..reduction.clone() }, written))
}

/// The axis that an index moves along by ones, if it does along one, and the rest of it; `None` where it moves otherwise.
fn one_axis(a: &Affine) -> Option<(Option<usize>, Affine)> {
    let mut axes = a.terms.iter().filter_map(|&(v, k)| if let Var::Axis(i) = v { Some((i as usize, k)) } else { None });
    match (axes.next(), axes.next()) {
        (None, _) => Some((None, a.clone())),
        (Some((axis, 1)), None) => Some((Some(axis), a.plus(&Affine::axis(axis).times(-1)))),
        _ => None,
    }
}

fn reads(e: &Expr, t: TensorId) -> bool {
    let mut found = false;
    e.visit(&mut |e| found |= e.loaded() == Some(t));
    found
}

/// Emits both; false, and nothing, where the elements stay in the first-level cache, from which the registers of sums cost more than to
/// read them again, or where lanes of the reduction would not be along adjacent ones.
pub(super) fn emit(e: &mut Emitter, map: &Stage, reduction: &Stage) -> Result<bool, ScheduleError> {
    let Some((stage, written)) = joined(map, reduction) else { return Ok(false) };
    let Body::Reduce { op, value, finish } = &stage.body else { unreachable!("a reduction") };
    let axis = stage.axes.len();
    let one_or_none = (0..=axis).any(|a| stage.bound(a).is_some() && stage.extent(a) == 1);
    let bytes = n_elements(&map.axes) * value.dtype().size_bytes();
    // A product would be a tile of sums, which computes no single elements.
    if one_or_none || bytes <= e.machine.l1_bytes / 2 || matches!(value.node(), Node::Binary(BinaryOp::Mul, ..)) {
        return Ok(false);
    }
    e.ensure_memory(map.out, prepare::preferred_order(e, map));
    e.ensure_memory(stage.out, prepare::preferred_order(e, &stage));
    let adjacent = written.stride_along(&e.memory_of(map.out).2, axis) == 1;
    within_bounds(e, &stage, |e| {
        if !adjacent || outputs_in_lanes(e, &stage, value, finish).is_some() || inner_product::axis(e, &stage, value) != Some(axis) {
            return Ok(false);
        }
        e.forget();
        inner_product::emit(e, &stage, *op, value, finish, axis, Some(&written))?;
        Ok(true)
    })
}

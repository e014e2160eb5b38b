//! An element-wise stage and the reduction of its rows, as softmax has them, in one loop: each element is combined as it is computed, and
//! written for those who read it later.

use super::emitter::Emitter;
use super::inner_product;
use super::prepare;
use super::reduce::outputs_in_lanes;
use super::{ScheduleError, within_bounds};
use crate::expr::{Affine, BinaryOp, Body, Ix, Node, Stage, Var};

/// The reduction of what a map computes, and the stage that writes its values, of the reduction's axes; `None` where it is not of
/// all elements of the map, each once.
fn joined(map: &Stage, reduction: &Stage) -> Option<(Stage, Stage)> {
    let (Body::Map(computed), Body::Reduce { op, value, finish }) = (&map.body, &reduction.body) else { return None };
    let Node::Load { tensor, index, pad: None } = value.node() else { return None };
    // In a loop over time the map may read what the reduction wrote before.
    let again = finish.reads(map.out) || computed.reads(map.out) || computed.reads(reduction.out);
    if *tensor != map.out || again || reduction.reduce.len() != 1 {
        return None;
    }
    // Axes of the map, and those of the reduction that stand for them.
    let mut pairs: Vec<(usize, usize)> = vec![];
    for (write, ix) in map.write.iter().zip(index) {
        let Ix::Affine(read) = ix else { return None };
        let ((of_map, start), (of_reduction, other)) = (one_axis(map, write)?, one_axis(reduction, read)?);
        match (of_map, of_reduction) {
            _ if start != other => return None,
            (None, None) => {}
            (Some(a), Some(r)) if map.extent(a) == reduction.extent(r) && map.bound(a) == reduction.bound(r) => pairs.push((a, r)),
            _ => return None,
        }
    }
    let n = reduction.axes.len();
    let in_map = |a: usize| pairs.iter().filter(|p| p.0 == a).count();
    let in_reduction = |r: usize| pairs.iter().filter(|p| p.1 == r).count();
    let whole = (0..map.axes.len()).all(|a| in_map(a) == usize::from(map.axes[a] > 1))
        && (0..n).all(|r| in_reduction(r) == usize::from(reduction.axes[r] > 1))
        && in_reduction(n) == 1;
    if !whole {
        return None;
    }
    let at = |v: Var| match v {
        Var::Axis(i) => pairs.iter().find(|p| p.0 == i as usize).map_or_else(Affine::default, |p| Affine::axis(p.1)),
        Var::Loop(_) => Affine::var(v),
    };
    let computed = computed.map_affine(&mut |a| a.substitute(at));
    let body = Body::Reduce { op: *op, value: computed.clone(), finish: finish.clone() };
    let write = map.write.iter().map(|a| a.substitute(at)).collect();
    let written = Stage { out: map.out, write, body: Body::Map(computed), ..reduction.clone() };
    Some((Stage { body, ..reduction.clone() }, written))
}

/// The axis of more than one element that an index moves along by ones, if it does along one, and the rest of it; `None` where it
/// moves otherwise.
fn one_axis(stage: &Stage, a: &Affine) -> Option<(Option<usize>, Affine)> {
    let a = a.substitute(|v| match v {
        Var::Axis(i) if stage.extent(i as usize) == 1 => Affine::default(),
        v => Affine::var(v),
    });
    let mut axes = a.terms.iter().filter_map(|&(v, k)| if let Var::Axis(i) = v { Some((i as usize, k)) } else { None });
    match (axes.next(), axes.next()) {
        (None, _) => Some((None, a)),
        (Some((axis, 1)), None) => Some((Some(axis), a.plus(&Affine::axis(axis).times(-1)))),
        _ => None,
    }
}

/// Emits both; false, and nothing, where a row stays in the first-level cache, since the registers of sums cost more than to read it
/// again, or where lanes of the reduction would not be along adjacent ones.
pub(super) fn emit(e: &mut Emitter, map: &Stage, reduction: &Stage) -> Result<bool, ScheduleError> {
    let Some((stage, written)) = joined(map, reduction) else { return Ok(false) };
    let Body::Reduce { op, value, finish } = &stage.body else { unreachable!("a reduction") };
    let axis = stage.axes.len();
    let one_or_none = (0..=axis).any(|a| stage.bound(a).is_some() && stage.extent(a) == 1);
    let row_bytes = stage.reduce[0] * value.dtype().size_bytes();
    // A product would be a tile of sums, which computes no single elements.
    if one_or_none || row_bytes <= e.machine.l1_bytes / 2 || matches!(value.node(), Node::Binary(BinaryOp::Mul, ..)) {
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

#[cfg(test)]
mod tests {
    use super::joined;
    use crate::expr::{Item, parse};

    /// The two stages of a program as one, and where the map's elements go.
    fn both(stages: &str) -> Option<[String; 2]> {
        let text = format!("program(%x: f32[4,9,1], %z: f32[4,1,1]) -> (%z) {{\n{stages}\n}}");
        let program = parse(&text).unwrap_or_else(|e| panic!("{e}"));
        let [Item::Stage(map), Item::Stage(reduction)] = &program.items[..] else { panic!("two stages") };
        joined(map, reduction).map(|(one, written)| [one, written].map(|s| program.stage_text(&s)))
    }

    const MAP: &str = "%e[i0,i1,i2] = exp(%x[i0,i1,i2]) : f32[4,9,1]";

    #[test]
    fn a_row_is_computed_and_summed_at_once() {
        let [one, written] =
            both(&format!("{MAP}\n%y[i0,i1,i2] = reduce sum over r0 in 0..9: %e[i0,r0,i2] -> 1 / acc : f32[4,1,1]")).unwrap();
        insta::assert_snapshot!(one, @"%y[i0,i1,i2] = reduce sum over r0 in 0..9: exp(%x[i0,r0,0]) -> 1 / acc : f32[4,1,1]");
        insta::assert_snapshot!(written, @"%e[i0,r0,0] for i0 in 0..4, i1 in 0..1, i2 in 0..1 = exp(%x[i0,r0,0]) : f32[4,9,1]");
    }

    #[test]
    fn what_is_not_summed_once_each_stays_apart() {
        for reduction in [
            "%y[i0,i1,i2] = reduce sum over r0 in 0..8: %e[i0,r0,i2] : f32[4,1,1]",
            "%y[i0,i1,i2] = reduce sum over r0 in 0..8: %e[i0,r0+1,i2] : f32[4,1,1]",
            "%y[i0,i1,i2] = reduce sum over r0 in 0..9: %e[0,r0,i2] : f32[4,1,1]",
            "%y[i0,i1,i2] = reduce sum over r0 in 0..9: %e[i0,r0,i2] : f32[4,3,1]",
            "%y[i0,i1,i2] = reduce sum over r0 in 0..9: %e[i0,r0,i2] * 2 : f32[4,1,1]",
            "%y[i0,i1,i2] = reduce sum over r0 in 0..9: %e[i0,r0,i2] -> acc * %e[i0,0,0] : f32[4,1,1]",
        ] {
            assert_eq!(both(&format!("{MAP}\n{reduction}")), None, "{reduction}");
        }
        // The sum before, in a loop over time.
        let map = "%e[i0,i1,i2] = %x[i0,i1,i2] * %z[i0,0,0] : f32[4,9,1]";
        let reduction = |out: &str| format!("{map}\n%{out}[i0,i1,i2] = reduce sum over r0 in 0..9: %e[i0,r0,i2] : f32[4,1,1]");
        assert_eq!([both(&reduction("y")).is_some(), both(&reduction("z")).is_some()], [true, false]);
    }
}

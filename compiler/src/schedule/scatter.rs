//! Scatters: elements change one after the other, at places that data decides. Axes along which no two points meet go innermost, the one
//! whose elements are adjacent in lanes; a place serves all of theirs.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, expr_depends, fits_lanes, vector_ok};
use crate::expr::{Body, Expr, Stage, Var};
use crate::nest::{Affine, Index, Reg};

/// How a scatter is written out.
struct Plan {
    /// Axes whose points may meet, in their order.
    ordered: Vec<usize>,
    /// The others, those whose elements are farthest from each other first.
    free: Vec<usize>,
    /// The most lanes, along the last of those.
    lanes: Option<u32>,
}

/// What data decides of a scatter.
struct Scattered<'a> {
    stage: &'a Stage,
    when: Option<&'a Expr>,
    places: &'a [(usize, Expr)],
    value: &'a Expr,
}

pub(super) fn emit(e: &mut Emitter, stage: &Stage) -> Result<(), ScheduleError> {
    let Body::Scatter { when, places, value } = &stage.body else { unreachable!("asked before") };
    let s = Scattered { stage, when: when.as_ref(), places, value };
    let plan = plan(e, &s);
    e.note(plan.lanes.map_or_else(|| "scatter()".to_owned(), |n| format!("scatter(lanes={n})")));
    let point = Point { axes: vec![Affine::default(); stage.axes.len()], vector: None };
    let done = e.forgetting(|e| ordered_loops(e, &s, &plan, 0, &point));
    e.forget();
    done
}

fn plan(e: &mut Emitter, s: &Scattered<'_>) -> Plan {
    let stage = s.stage;
    let (_, _, strides) = e.memory_of(stage.out);
    let out_stride = |axis: usize| stage.stride_along(&strides, axis);
    let is_free = |axis: usize| {
        let of_axis = Var::Axis(axis as u32);
        let mut moved = stage.write.iter().filter(|w| w.coefficient(of_axis) != 0);
        let alone = matches!((moved.next(), moved.next()), (Some(w), None) if w.terms.len() == 1);
        alone && !s.when.into_iter().chain(s.places.iter().map(|p| &p.1)).any(|x| expr_depends(x, axis))
    };
    let (mut free, ordered): (Vec<usize>, Vec<usize>) = (0..stage.axes.len()).partition(|&axis| is_free(axis));
    free.sort_by_key(|&axis| -out_stride(axis).abs());
    let fits = |axis: usize| out_stride(axis) == 1 && fits_lanes(s.value.dtype()) && vector_ok(s.value, axis);
    let lanes = free.last().filter(|&&axis| fits(axis)).map(|_| e.machine.lanes);
    Plan { ordered, free, lanes }
}

fn ordered_loops(e: &mut Emitter, s: &Scattered<'_>, plan: &Plan, depth: usize, at: &Point) -> Result<(), ScheduleError> {
    if let Some(&axis) = plan.ordered.get(depth) {
        let run = Emitter::whole(s.stage, axis).take(1);
        return e.run_loop(&format!("i{axis}"), &run, |e, v| ordered_loops(e, s, plan, depth + 1, &at.moved(axis, v)));
    }
    let write = |e: &mut Emitter| {
        let (_, _, strides) = e.memory_of(s.stage.out);
        let mut found = vec![];
        for (axis, place) in s.places {
            let reg = e.value(place, at, None)?;
            found.push((e.place_along(s.stage.out, *axis, reg), strides[*axis]));
        }
        free_loops(e, s, plan, (0, &found), at)
    };
    let Some(when) = s.when else { return write(e) };
    let when = e.value(when, at, None)?;
    e.only_where(when, write)
}

fn free_loops(
    e: &mut Emitter,
    s: &Scattered<'_>,
    plan: &Plan,
    (depth, found): (usize, &[(Reg, i64)]),
    at: &Point,
) -> Result<(), ScheduleError> {
    let Some(&axis) = plan.free.get(depth) else { return element(e, s, found, at) };
    let (name, mut rest) = (format!("i{axis}"), Emitter::whole(s.stage, axis));
    let mut lanes = plan.lanes.filter(|_| depth + 1 == plan.free.len()).unwrap_or(0);
    while lanes >= 4 {
        let vector = Some(Lanes { axis, lanes, valid: lanes });
        let n = i64::from(lanes);
        for step in [n * e.machine.vectors_at_once() as i64, n] {
            e.run_loop(&name, &rest.take(step), |e, v| {
                let mut points = (0..step / n).map(|u| Point { vector, ..at.moved(axis, v.offset(u * n)) });
                points.try_for_each(|at| element(e, s, found, &at))
            })?;
        }
        lanes /= 2;
    }
    e.run_loop(&name, &rest.take(1), |e, v| free_loops(e, s, plan, (depth + 1, found), &at.moved(axis, v)))
}

fn element(e: &mut Emitter, s: &Scattered<'_>, found: &[(Reg, i64)], at: &Point) -> Result<(), ScheduleError> {
    let (buffer, affine) = e.place_of(s.stage, at);
    let (index, lanes) = (Index { affine, dynamic: found.to_vec() }, at.vector.map_or(1, |v| v.lanes));
    let old = s.value.has_acc().then(|| e.b.load(buffer, index.clone(), lanes));
    let new = e.value(s.value, at, old)?;
    let new = e.splat(new, lanes);
    e.b.store(buffer, index, new);
    Ok(())
}

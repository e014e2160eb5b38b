//! Loops over the tiles of a reduction, and over the reduction inside one.

use super::ask::Asks;
use super::plan::Plan;
use crate::expr::Stage;
use crate::nest::Affine;
use crate::schedule::emitter::{Emitter, Point, Rest, halves};
use crate::schedule::{ScheduleError, borders};

/// Called with the number of vectors and the valid lanes of the last one.
pub(super) type Columns<'f> = dyn FnMut(&mut Emitter, Point, usize, u32) -> Result<(), ScheduleError> + 'f;
pub(super) type Loops<'f> = dyn FnMut(&mut Emitter, Point, &mut Inner<'_>) -> Result<(), ScheduleError> + 'f;
pub(super) type Inner<'f> = dyn FnMut(&mut Emitter, Point) -> Result<(), ScheduleError> + 'f;

pub(super) fn outer_loops(e: &mut Emitter, plan: &Plan, axes: &[usize], point: Point, f: &mut Inner<'_>) -> Result<(), ScheduleError> {
    let Some((&axis, rest)) = axes.split_first() else { return f(e, point) };
    let name = format!("i{axis}");
    let mut body = |e: &mut Emitter, v: Affine| {
        let mut at = point.clone();
        at.axes[axis] = v;
        outer_loops(e, plan, rest, at, f)
    };
    if plan.stage.bound(axis).is_some() {
        return e.run_loop(&name, &Emitter::whole(&plan.stage, axis).take(1), body);
    }
    let cuts = borders::cuts(e, &plan.stage, &plan.padded.iter().collect::<Vec<_>>(), axis);
    if e.machine.threads > 1 && cuts.len() > 2 {
        return e.parts_loop(&name, &cuts, &mut body);
    }
    cuts.windows(2).try_for_each(|part| e.run_loop(&name, &Rest::of(part[0]..part[1]).take(1), &mut body))
}

pub(super) fn row_loop(
    e: &mut Emitter,
    plan: &Plan,
    point: Point,
    f: &mut dyn FnMut(&mut Emitter, Point, usize) -> Result<(), ScheduleError>,
) -> Result<(), ScheduleError> {
    let Some(axis) = plan.rows else { return f(e, point, 1) };
    let extent = plan.stage.axes[axis] as i64;
    let step = plan.tile.mr as i64;
    let full = extent / step * step;
    if plan.stage.bound(axis).is_some() {
        let mut rest = Emitter::whole(&plan.stage, axis);
        for step in halves(step) {
            e.run_loop(&format!("i{axis}"), &rest.take(step), |e, v| {
                let mut at = point.clone();
                at.axes[axis] = v;
                f(e, at, step as usize)
            })?;
        }
        return Ok(());
    }
    let mut parts = vec![(0..full, step), (full..extent, (extent - full).max(1))];
    if !plan.padded.is_empty() {
        // Tiles that touch padding are written out each by itself.
        let (lo, hi) = borders::interior(e, &plan.stage, &plan.padded.iter().collect::<Vec<_>>(), axis);
        let first = ((lo + step - 1) / step * step).min(full);
        let last = (hi / step * step).clamp(first, full);
        let alone = |from: i64, to: i64| (from..to).step_by(step as usize).map(move |at| (at..at + step, step));
        let rest = parts.pop();
        parts = alone(0, first).chain([(first..last, step)]).chain(alone(last, full)).chain(rest).collect();
    }
    for (range, step) in parts {
        e.for_loop(&format!("i{axis}"), range, step, |e, v| {
            let mut at = point.clone();
            at.axes[axis] = v;
            f(e, at, step as usize)
        })?;
    }
    Ok(())
}

/// `f` gets the number of vectors and the valid lanes of the last one.
pub(super) fn column_loop(e: &mut Emitter, plan: &Plan, point: Point, f: &mut Columns<'_>) -> Result<(), ScheduleError> {
    let Some(axis) = plan.vector else { return f(e, point, 1, 1) };
    let extent = plan.columns as i64;
    let lanes = plan.lanes as i64;
    let step = plan.tile.nv as i64 * lanes;
    if plan.stage.bound(axis).is_some() {
        let mut rest = Emitter::whole(&plan.stage, axis);
        let steps = [(step, plan.tile.nv, lanes as u32), (lanes, 1, lanes as u32), (1, 1, 1)];
        for (step, nv, valid) in steps {
            e.run_loop(&format!("i{axis}"), &rest.take(step), |e, v| {
                let mut at = point.clone();
                at.axes[axis] = v;
                f(e, at, nv, valid)
            })?;
        }
        return Ok(());
    }
    let full = extent / step * step;
    e.for_loop(&format!("i{axis}"), 0..full, step, |e, v| {
        let mut at = point.clone();
        at.axes[axis] = v;
        f(e, at, plan.tile.nv, lanes as u32)
    })?;
    last_columns(e, plan, axis, point, f)
}

/// The columns that fill no tile.
pub(super) fn last_columns(e: &mut Emitter, plan: &Plan, axis: usize, point: Point, f: &mut Columns<'_>) -> Result<(), ScheduleError> {
    let (extent, lanes) = (plan.columns as i64, plan.lanes as i64);
    let full = extent - extent % (plan.tile.nv as i64 * lanes);
    let rest = extent - full;
    if rest > 0 {
        let mut at = point;
        at.axes[axis] = Affine::constant(full);
        let vectors = (rest + lanes - 1) / lanes;
        f(e, at, vectors as usize, (rest - (vectors - 1) * lanes) as u32)?;
    }
    Ok(())
}

/// One loop over a reduction cut into `n` equal parts that are read side by side, and what is left: memory gives several streams
/// faster than one.
pub(super) fn streams(
    e: &mut Emitter,
    (axis, extent): (usize, usize),
    n: i64,
    point: Point,
    f: &mut Inner<'_>,
) -> Result<(), ScheduleError> {
    let part = extent as i64 / n;
    for (range, n) in [(0..part, n), (part * n..extent as i64, 1)] {
        e.for_loop(&format!("r{axis}"), range, 1, |e, v| {
            for u in 0..n {
                let mut at = point.clone();
                at.axes[axis] = v.offset(u * part);
                f(e, at)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Loops over the reduction, `unit` steps of its innermost axis at once, the innermost axes written out up to `budget` units.
pub(super) fn reduction_loops(
    e: &mut Emitter,
    (stage, unit): (&Stage, usize),
    axes: &[(usize, usize)],
    budget: usize,
    asks: Asks<'_>,
    point: Point,
    f: &mut Inner<'_>,
) -> Result<(), ScheduleError> {
    let Some((&(axis, extent), rest)) = axes.split_first() else { return f(e, point) };
    let steps = axes.iter().map(|a| a.1).product::<usize>().div_ceil(unit);
    let step = if rest.is_empty() { unit } else { 1 };
    if steps <= budget && axes.iter().all(|a| stage.bound(a.0).is_none()) {
        for k in (0..extent).step_by(step) {
            let mut at = point.clone();
            at.axes[axis] = Affine::constant(k as i64);
            reduction_loops(e, (stage, unit), rest, budget, Asks::default(), at, f)?;
        }
        return Ok(());
    }
    if !rest.is_empty() {
        return e.run_loop(&format!("r{axis}"), &Emitter::whole(stage, axis).take(1), |e, v| {
            let mut at = point.clone();
            at.axes[axis] = v;
            reduction_loops(e, (stage, unit), rest, budget, asks, at, f)
        });
    }
    let steps = e.machine.choice.steps as i64;
    let mut left = Emitter::whole(stage, axis);
    let unit = unit as i64;
    e.run_loop(&format!("r{axis}"), &left.take(steps * unit), |e, v| {
        let mut at = point.clone();
        at.axes[axis] = v.clone();
        asks.emit(e, &at);
        for u in 0..steps {
            let mut at = point.clone();
            at.axes[axis] = v.offset(u * unit);
            f(e, at)?;
        }
        Ok(())
    })?;
    // What is left of a unit is one iteration.
    let least = if unit == 1 { 0 } else { left.most() % unit };
    for step in [unit, least].into_iter().filter(|&s| s > 0) {
        e.run_loop(&format!("r{axis}"), &left.take(step), |e, v| {
            let mut at = point.clone();
            at.axes[axis] = v;
            f(e, at)
        })?;
    }
    Ok(())
}

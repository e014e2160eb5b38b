//! Loops over the tiles of a reduction, and over the reduction inside one.

use std::ops::Range;

use super::ask::Asks;
use super::plan::Plan;
use crate::expr::Stage;
use crate::nest::Affine;
use crate::schedule::emitter::{Emitter, Point, Rest, Run, halves};
use crate::schedule::{ScheduleError, borders};
use crate::tensor::Size;

/// The most rows that what a run leaves over is one tile of, whatever their number.
const MOST_AT_ONCE: i64 = 14;

/// Called with the number of vectors and the valid lanes of the last one.
pub(super) type Columns<'f> = dyn FnMut(&mut Emitter, Point, usize, u32) -> Result<(), ScheduleError> + 'f;
pub(super) type Loops<'f> = dyn FnMut(&mut Emitter, Point, &mut Inner<'_>) -> Result<(), ScheduleError> + 'f;
pub(super) type Inner<'f> = dyn FnMut(&mut Emitter, Point) -> Result<(), ScheduleError> + 'f;

pub(super) fn outer_loops(e: &mut Emitter, plan: &Plan, axes: &[usize], point: Point, f: &mut Inner<'_>) -> Result<(), ScheduleError> {
    let Some((&axis, rest)) = axes.split_first() else { return f(e, point) };
    let name = format!("i{axis}");
    let mut body = |e: &mut Emitter, v: Affine| outer_loops(e, plan, rest, point.moved(axis, v), f);
    if let Some(pieces) = plan.pieces.get(&axis) {
        for piece in pieces {
            e.in_window(piece.window, |e| e.run_loop(&name, &piece.rest.clone().take(1), &mut body))?;
        }
        return Ok(());
    }
    if plan.stage.bound(axis).is_some() {
        return e.run_loop(&name, &Emitter::whole(&plan.stage, axis).take(1), body);
    }
    let cuts = borders::cuts(e, &plan.stage, &plan.padded.iter().collect::<Vec<_>>(), axis);
    if e.machine.threads > 1 && cuts.len() > 2 {
        return e.parts_loop(&name, &cuts, &mut body);
    }
    cuts.windows(2).try_for_each(|part| e.run_loop(&name, &Rest::of(part[0]..part[1]).take(1), &mut body))
}

/// Called with the number of rows, and whether and how they ask for the next panel.
type RowTile<'f> = dyn FnMut(&mut Emitter, Point, usize, Asking) -> Result<(), ScheduleError> + 'f;

/// Which tile of some rows it is, as far as asking for the next panel goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asking {
    /// One of those that share it.
    Part,
    /// One after them.
    Nothing,
    /// The last one, of what a run leaves over: there may be no other.
    All,
    /// One of two that are all there is.
    Half(usize),
}

/// Where only a run knows how many rows there are, tiles that begin at a row from `asking` on ask for nothing.
pub(super) fn row_loop(e: &mut Emitter, plan: &Plan, asking: Option<i64>, point: Point, f: &mut RowTile<'_>) -> Result<(), ScheduleError> {
    let Some(axis) = plan.rows else { return f(e, point, 1, Asking::Part) };
    let extent = plan.stage.axes[axis] as i64;
    let step = plan.tile.mr as i64;
    let full = extent / step * step;
    let name = format!("i{axis}");
    let mut tiles =
        |e: &mut Emitter, run: &Run, asks: Asking| e.run_loop(&name, run, |e, v| f(e, point.moved(axis, v), run.step as usize, asks));
    if let Some(pieces) = plan.pieces.get(&axis) {
        for piece in pieces {
            let mut rest = piece.rest.clone();
            for step in halves(if piece.is_whole { step } else { 1 }) {
                e.in_window(piece.window, |e| tiles(e, &rest.take(step), Asking::Part))?;
            }
        }
        return Ok(());
    }
    if let Some(rows) = plan.stage.bound(axis) {
        if let Some(n) = asking.filter(|&n| n < extent) {
            return asking_tiles(e, (extent, rows), (step, n), &mut tiles);
        }
        let mut rest = Emitter::whole(&plan.stage, axis);
        let at_once = plan.padded.is_empty();
        let run = if is_even(e, step, at_once) { rest.take_evenly(step) } else { rest.take(step) };
        tiles(e, &run, Asking::Part)?;
        return last_rows(e, rest, (step, at_once), Asking::All, &mut tiles);
    }
    let mut parts = vec![(0..full, step), (full..extent, (extent - full).max(1))];
    if !plan.padded.is_empty() {
        // Tiles that touch padding are written out each by itself.
        let rest = parts.pop();
        parts = around_padding(e, plan, axis, (full, step)).into_iter().chain(rest).collect();
    }
    // What the taps of one tile are multiplied with stays in registers for the next, if they have room for it.
    let taps: usize = plan.stage.reduce.iter().product();
    let is_crowded = taps + 2 * plan.tile.mr > e.machine.n_registers;
    for (range, step) in parts {
        let run = Run { range, step, live: None };
        let mut tiles = |e: &mut Emitter| tiles(e, &run, Asking::Part);
        if !plan.padded.is_empty() && is_crowded { e.forgetting(tiles) } else { tiles(e) }?;
    }
    Ok(())
}

/// Tiles of so many places along an axis, those that touch padding each by itself.
fn around_padding(e: &Emitter, plan: &Plan, axis: usize, (full, step): (i64, i64)) -> Vec<(Range<i64>, i64)> {
    let (lo, hi) = borders::interior(e, &plan.stage, &plan.padded.iter().collect::<Vec<_>>(), axis);
    let first = ((lo + step - 1) / step * step).min(full);
    let last = (hi / step * step).clamp(first, full);
    let alone = |from: i64, to: i64| (from..to).step_by(step as usize).map(move |at| (at..at + step, step));
    alone(0, first).chain([(first..last, step)]).chain(alone(last, full)).collect()
}

type Tiles<'f> = dyn FnMut(&mut Emitter, &Run, Asking) -> Result<(), ScheduleError> + 'f;

/// Whether what a run leaves over of tiles of `step` rows is even tiles of so many rows.
fn is_even(e: &Emitter, step: i64, at_once: bool) -> bool {
    e.machine.exact && at_once && step <= MOST_AT_ONCE
}

/// What a run leaves over of tiles of `step` rows.
fn last_rows(
    e: &mut Emitter,
    mut rest: Rest,
    (mut step, at_once): (i64, bool),
    asking: Asking,
    f: &mut Tiles<'_>,
) -> Result<(), ScheduleError> {
    while step > if e.machine.exact && at_once { MOST_AT_ONCE } else { 1 } {
        step /= 2;
        f(e, &rest.take(step), asking)?;
    }
    if asking != Asking::All {
        return rest.at_once(step).iter().try_for_each(|run| f(e, run, asking));
    }
    rest.one_or_two(step).iter().try_for_each(|(run, half)| f(e, run, half.map_or(Asking::All, Asking::Half)))
}

/// All rows, of which the tiles of the first `n` ask for the next panel: each for its part where a run has as many, else the first for all
/// of it.
fn asking_tiles(e: &mut Emitter, (extent, rows): (i64, &Size), (step, n): (i64, i64), f: &mut Tiles<'_>) -> Result<(), ScheduleError> {
    let mut rest = Rest::new(extent, Some(rows));
    let tiles = if is_even(e, step, true) { rest.take_evenly(step) } else { rest.take(step) };
    let full = tiles.live.map_or(Size::Constant(0), |live| live.1);
    let run = |range: Range<i64>, to: Size| Run { live: Some((Size::Constant(range.start), to)), range, step };
    let are_all = full.plus(&Size::Constant(1 - n)).at_least(0).at_most(1);
    let some = full.at_most(1);
    if n > step {
        f(e, &run(0..step, some.minus(&are_all).times(step)), Asking::All)?;
    }
    f(e, &run(0..n, are_all.times(n)), Asking::Part)?;
    f(e, &run(n..extent, full.at_least(n)), Asking::Nothing)?;
    let (zero, none) = (Size::Constant(0), Size::Constant(1).minus(&some));
    last_rows(e, Rest::live(0..(2 * step - 1).min(extent), zero, rows.product(&none)), (step, true), Asking::All, f)?;
    let after = full.plus(&rows.minus(&full).product(&some));
    last_rows(e, Rest::live(0..extent, full, after), (step, true), Asking::Nothing, f)
}

/// Loops over columns in so many vectors at once, of panels where those are outermost; `f` gets the number of vectors and the valid
/// lanes of the last one.
pub(super) fn column_loop(
    e: &mut Emitter,
    plan: &Plan,
    (nv, panels): (usize, bool),
    point: Point,
    f: &mut Columns<'_>,
) -> Result<(), ScheduleError> {
    let Some(axis) = plan.vector else { return f(e, point, 1, 1) };
    let extent = plan.columns as i64;
    let lanes = plan.lanes as i64;
    let step = nv as i64 * lanes;
    if plan.stage.bound(axis).is_some() {
        let mut rest = Emitter::whole(&plan.stage, axis);
        // Parts of a vector are loads and stores of some of its lanes.
        let parts = halves(if e.machine.exact { lanes } else { 1 }).filter(|&part| part < lanes).map(|part| (part, 1, part));
        for (step, nv, valid) in [(step, nv, lanes), (lanes, 1, lanes)].into_iter().chain(parts) {
            e.run_loop(&format!("i{axis}"), &rest.take(step), |e, v| f(e, point.moved(axis, v), nv, valid as u32))?;
        }
        return Ok(());
    }
    let full = extent / step * step;
    // Where panels are outermost in some runs only, the others have none of them, and what is left of the columns has a plan of its own.
    let few = plan.few_rows.as_ref().filter(|_| panels);
    let parts = if plan.in_lanes.is_some() { around_padding(e, plan, axis, (full, step)) } else { vec![(0..full, step)] };
    for (range, step) in parts {
        let run = Run { range, step, live: few.map(|few| (Size::Constant(0), few.times(full))) };
        e.run_loop(&format!("i{axis}"), &run, |e, v| f(e, point.moved(axis, v), nv, lanes as u32))?;
    }
    if few.is_none() { last_columns(e, plan, nv, point, f) } else { Ok(()) }
}

/// The columns that fill no tile of so many vectors.
pub(super) fn last_columns(e: &mut Emitter, plan: &Plan, nv: usize, point: Point, f: &mut Columns<'_>) -> Result<(), ScheduleError> {
    let Some(axis) = plan.vector else { return Ok(()) };
    let (extent, lanes) = (plan.columns as i64, plan.lanes as i64);
    let full = extent - extent % (nv as i64 * lanes);
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
                f(e, point.moved(axis, v.offset(u * part)))?;
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
            reduction_loops(e, (stage, unit), rest, budget, Asks::default(), point.moved(axis, Affine::constant(k as i64)), f)?;
        }
        return Ok(());
    }
    if !rest.is_empty() {
        return e.run_loop(&format!("r{axis}"), &Emitter::whole(stage, axis).take(1), |e, v| {
            reduction_loops(e, (stage, unit), rest, budget, asks, point.moved(axis, v), f)
        });
    }
    let steps = e.machine.choice.steps as i64;
    let mut left = Emitter::whole(stage, axis);
    let unit = unit as i64;
    e.run_loop(&format!("r{axis}"), &left.take(steps * unit), |e, v| {
        asks.emit(e, &point.moved(axis, v.clone()))?;
        for u in 0..steps {
            f(e, point.moved(axis, v.offset(u * unit)))?;
        }
        Ok(())
    })?;
    // What is left of a unit is one iteration.
    let least = if unit == 1 { 0 } else { left.most() % unit };
    for step in [unit, least].into_iter().filter(|&s| s > 0) {
        e.run_loop(&format!("r{axis}"), &left.take(step), |e, v| f(e, point.moved(axis, v)))?;
    }
    Ok(())
}

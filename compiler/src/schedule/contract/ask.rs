//! What a tile asks for while it is computed: the weights of the next panel, the rows of the next tile.

use std::collections::HashMap;

use super::plan::Plan;
use crate::expr::Expr;
use crate::schedule::ScheduleError;
use crate::schedule::ahead::{Ahead, TileLoops};
use crate::schedule::blocks::Blocks;
use crate::schedule::emitter::{Emitter, Packed, Point, expr_depends};
use crate::schedule::reduce::loads;
use crate::schedule::results_ahead::ResultsAhead;
use crate::schedule::rows_ahead::RowsAhead;

/// The most panels of a thread of which each asks for the rows: beyond, only those do with which a thread begins. From its second panel on
/// rows are near, and asking again would take longer than the first one waits.
const MOST_ASKING_PANELS: usize = 3;
/// The most panels with which threads begin that are told apart.
const MOST_FIRST_PANELS: usize = 4;

/// What a tile asks for while it is computed.
#[derive(Clone, Copy, Default)]
pub(super) struct Asks<'a> {
    pub(super) weights: Option<&'a Ahead>,
    pub(super) rows: Option<&'a RowsAhead>,
    pub(super) results: Option<&'a ResultsAhead>,
}

impl Asks<'_> {
    /// Asks at one iteration of the reduction.
    pub(super) fn emit(self, e: &mut Emitter, at: &Point) -> Result<(), ScheduleError> {
        if let Some(weights) = self.weights {
            weights.emit(e, at);
        }
        if let Some(results) = self.results {
            results.emit(e, at);
        }
        self.rows.map_or(Ok(()), |rows| rows.emit(e, at))
    }
}

/// How the tiles of a panel ask for the next one.
pub(super) fn ahead(e: &Emitter, plan: &Plan, packed: &HashMap<Expr, Packed>, blocks: Option<&Blocks>) -> Option<Ahead> {
    let rows = plan.rows.map(|r| (r, asking_rows(plan).map_or(plan.stage.axes[r], |n| n as usize)));
    ahead_over(e, plan, packed, (rows, None), blocks)
}

/// How tiles of rows, one or two, ask for all of the next panel, where there may be no others.
pub(super) fn ahead_at_once(e: &Emitter, plan: &Plan, packed: &HashMap<Expr, Packed>, n: i64) -> Option<Ahead> {
    ahead_over(e, plan, packed, (None, Some(n)), None)
}

/// How tiles of these rows, or so many that may be all, ask for the next panel.
fn ahead_over(
    e: &Emitter,
    plan: &Plan,
    packed: &HashMap<Expr, Packed>,
    (rows, alone): (Option<(usize, usize)>, Option<i64>),
    blocks: Option<&Blocks>,
) -> Option<Ahead> {
    if plan.dot.is_some() {
        return None;
    }
    let mut packed = packed.iter().filter(|p| Some(p.1.axis) == plan.vector);
    let (Some((load, packed)), None, 1) = (packed.next(), packed.next(), plan.streams) else { return None };
    let outer: Vec<(usize, usize)> = plan.outer.iter().map(|&a| (a, plan.stage.axes[a])).collect();
    let column = (packed.axis, packed.panel / packed.nr);
    let batch: Vec<(usize, i64)> =
        plan.outer.iter().filter_map(|a| packed.strides.iter().find(|s| s.0 == *a)).map(|s| (s.0, s.1)).collect();
    let (panels, n_panels, outer) = if plan.columns_first || plan.few_rows.is_some() {
        let (turns, outer): (Vec<_>, Vec<_>) = outer.into_iter().partition(|o| batch.iter().any(|b| b.0 == o.0));
        if turns.iter().any(|o| !plan.batch.contains(&o.0)) {
            return None;
        }
        let n_panels = packed.full as usize * turns.iter().map(|o| o.1).product::<usize>();
        // Of an axis whose extent only a run knows, any iteration asks for all.
        ([batch, vec![column]].concat(), n_panels, outer.into_iter().filter(|o| plan.stage.bound(o.0).is_none()).collect())
    } else if packed.full == 1 && batch.len() == plan.outer.len() && batch.iter().map(|b| b.1).min() == Some(packed.panel) {
        (batch, outer.iter().map(|o| o.1).product(), vec![])
    } else {
        return None;
    };
    let loops = TileLoops {
        panels: &panels,
        n_panels,
        outer: &outer,
        rows,
        mr: plan.tile.mr,
        alone: alone.filter(|_| plan.rows.is_some()),
        reduction: &plan.packed_reduction,
        steps: e.machine.choice.steps,
        blocks,
    };
    Ahead::new(e, packed, load.dtype().size_bytes(), &loops)
}

/// Where only a run knows how many rows there are: the first rows, whose tiles ask for the next panel. A run that has fewer of them than
/// two tiles does not wait for that panel.
pub(super) fn asking_rows(plan: &Plan) -> Option<i64> {
    plan.stage.bound(plan.rows?)?;
    let others: usize = plan.outer.iter().filter(|&&a| plan.stage.bound(a).is_none()).map(|&a| plan.stage.axes[a]).product();
    Some((plan.tile.mr * if others > 1 { 1 } else { 2 }) as i64)
}

/// How the tiles of some rows ask for the next ones, where another thread may have written them.
pub(super) fn rows_ahead(e: &mut Emitter, plan: &Plan) -> Option<RowsAhead> {
    if e.machine.threads < 2 {
        return None;
    }
    let nr = plan.nr() as i64;
    let n_panels = if plan.columns_first { 1 } else { plan.columns as i64 / nr };
    let (n, threads) = (plan.columns / nr as usize, e.machine.threads);
    let first: Vec<i64> = match () {
        () if !plan.columns_first || n <= MOST_ASKING_PANELS * threads => vec![],
        () if threads > MOST_FIRST_PANELS => return None,
        () => (0..threads).map(|i| (i * n / threads) as i64 * nr).collect(),
    };
    let rows_ahead = rows_ahead_in(e, plan, n_panels)?;
    Some(if first.is_empty() { rows_ahead } else { rows_ahead.only_at(plan.vector?, first) })
}

/// How the tiles of some rows, of so many panels one after another, ask for the next ones: each for its part.
pub(super) fn rows_ahead_in(e: &mut Emitter, plan: &Plan, n_panels: i64) -> Option<RowsAhead> {
    let (Some(vector), Some(rows), &[reduction]) = (plan.vector, plan.rows, &plan.reduction[..]) else { return None };
    if plan.dot.is_some() || plan.streams != 1 {
        return None;
    }
    let of_rows: Vec<Expr> = loads(&plan.value).into_iter().filter(|l| !expr_depends(l, vector) && expr_depends(l, rows)).collect();
    let [load] = &of_rows[..] else { return None };
    let nr = plan.nr() as i64;
    RowsAhead::new(e, load, plan.stage.axes.len(), (rows, plan.tile.mr as i64), reduction, (vector, nr, n_panels))
}

/// How tiles ask for what they write.
pub(super) fn results_ahead(e: &mut Emitter, plan: &Plan) -> Option<ResultsAhead> {
    let (Some(vector), Some(rows), &[reduction]) = (plan.vector, plan.rows, &plan.reduction[..]) else { return None };
    if plan.dot.is_some() || plan.streams != 1 || !plan.padded.is_empty() || !plan.pieces.is_empty() {
        return None;
    }
    let nr = plan.nr() as i64;
    ResultsAhead::new(e, &plan.stage, &plan.finish, (rows, plan.tile.mr as i64), (vector, nr), reduction)
}

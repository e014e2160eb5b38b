//! Reductions in register tiles: rows by vectors of accumulators, the epilogue on them in registers.
//!
//! One template for matrix products, convolutions, depthwise convolutions, pooling and column sums: what a row or a vector
//! of the tile shares, value numbering loads once. After the implicit GEMM of XNNPACK and oneDNN; here all strides are
//! constants, so every row is an address displacement.

mod ask;
mod copied;
mod loops;
mod plan;
mod tile;
mod turned;

use std::collections::HashMap;

use crate::expr::{Expr, ReduceOp, Stage};
use crate::nest::Affine;
use crate::schedule::ScheduleError;
use crate::schedule::ahead::Ahead;
use crate::schedule::blocks::{Block, Blocks, Product};
use crate::schedule::emitter::{Emitter, Packed, Point};
use crate::schedule::pack::{Reduction, pack};
use crate::schedule::reduce::loads;
use crate::schedule::results_ahead::ResultsAhead;
use crate::schedule::rows_ahead::RowsAhead;
use crate::tensor::DType;
use ask::{Asks, ahead, ahead_at_once, asking_rows, results_ahead, rows_ahead, rows_ahead_in};
use copied::Copied;
use loops::{Asking, column_loop, last_columns, outer_loops, row_loop};
use plan::{Plan, plan};
use tile::tile;

pub(super) fn emit(
    e: &mut Emitter,
    stage: &Stage,
    op: ReduceOp,
    value: &Expr,
    finish: &Expr,
    vector: Option<usize>,
) -> Result<(), ScheduleError> {
    let mut tiles = Tiles::new(e, stage, op, value, finish, vector);
    tiles.arrange(e);
    if tiles.plan.is_window {
        e.forms.windows = true;
    } else {
        e.forms.tiles = true;
    }
    e.note(match tiles.plan.vector {
        Some(_) if tiles.plan.streams > 1 => format!("contract(mr=1 nr={} streams={})", tiles.nr(), tiles.plan.streams),
        Some(_) => {
            let dot = if tiles.plan.dot.is_some() { format!(" dot={}", tiles.plan.unit()) } else { String::new() };
            let blocks = tiles.blocks.as_ref().map_or(String::new(), |b| format!(" blocks={}", b.n));
            let group = if tiles.group > 1 { format!(" group={}", tiles.group) } else { String::new() };
            let copied = tiles.copied.as_ref().map_or("", |_| if tiles.plan.columns_first { " copied=panels" } else { " copied=all" });
            format!("contract(mr={} nr={} ku={}{dot}{blocks}{group}{copied})", tiles.plan.tile.mr, tiles.nr(), e.machine.choice.steps)
        }
        None => format!("contract(mr={} scalar)", tiles.plan.tile.mr),
    });
    let point = Point { axes: vec![Affine::default(); stage.axes.len() + stage.reduce.len()], vector: None };
    tiles.emit(e, point, &[])
}

/// A reduction in register tiles, its constants packed: emitted where a template wants it.
pub(super) struct Tiles {
    plan: Plan,
    packed: HashMap<Expr, Packed>,
    ahead: Option<Ahead>,
    /// For a tile that may be the only one, and for two that may be.
    all_ahead: Option<Ahead>,
    halves_ahead: Option<[Ahead; 2]>,
    rows_ahead: Option<RowsAhead>,
    results_ahead: Option<ResultsAhead>,
    blocks: Option<Blocks>,
    /// Panels that a tile of rows goes over before the next.
    group: usize,
    copied: Option<Copied>,
}

impl Tiles {
    pub(super) fn new(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr, vector: Option<usize>) -> Self {
        let plan = plan(e, stage, op, value, finish, vector);
        let mut packed = HashMap::new();
        if let Some(axis) = plan.vector {
            for load in loads(&plan.value) {
                let group = if plan.dot.as_ref().is_some_and(|d| d.column == load) { plan.unit() } else { 1 };
                let reduction = Reduction { read: &plan.packed_reduction, merged: &plan.reduction, group };
                let (axis, panel) = match plan.rows.filter(|_| plan.packs_rows.contains(&load)) {
                    Some(rows) => (rows, (plan.tile.mr, 1)),
                    None => (axis, (plan.nr(), plan.lanes)),
                };
                let batch: Vec<usize> = (0..plan.stage.axes.len()).filter(|&a| a != axis && plan.stage.axes[a] > 1).collect();
                if let Some(p) = pack(e, &plan.stage, &load, axis, panel, &batch, &reduction, plan.stage.axes[axis]) {
                    packed.insert(load, p);
                }
            }
        }
        let next = ahead(e, &plan, &packed, None);
        let at_once = |n: i64| asking_rows(&plan).and_then(|_| ahead_at_once(e, &plan, &packed, n));
        let (all_ahead, halves_ahead) = (at_once(1), at_once(2).map(|a| [a.of_tile(0), a.of_tile(1)]));
        let (rows_ahead, results_ahead) = (rows_ahead(e, &plan), results_ahead(e, &plan));
        Tiles { plan, packed, ahead: next, all_ahead, halves_ahead, rows_ahead, results_ahead, blocks: None, group: 1, copied: None }
    }

    /// Cuts the reduction into blocks, puts panels into groups and makes room for copies, where those are worth it.
    fn arrange(&mut self, e: &mut Emitter) {
        let plan = &self.plan;
        if let (Some(v), true, true) = (plan.vector, plan.columns_first && plan.streams == 1, plan.padded.is_empty())
            && plan.value.dtype() == DType::F32
            && !plan.stage.is_live()
        {
            let (_, outer) = plan.turns(&[]);
            let rows: Vec<(usize, usize)> = outer.iter().chain(&plan.rows).map(|&a| (a, plan.stage.axes[a])).collect();
            let (row_bytes, n_panels) = (plan.row_bytes(e, v), plan.columns / self.nr());
            let product = Product { row_bytes, rows: &rows, reduction: &plan.reduction, nr: self.nr(), n_panels };
            self.blocks = Blocks::new(e, &product);
            if self.blocks.is_none() && plan.pieces.is_empty() {
                let n_tiles = rows.iter().map(|r| r.1).product::<usize>() / plan.tile.mr;
                self.group = copied::group(e, (row_bytes, n_tiles), (plan.panel_bytes(), n_panels));
            }
            if self.group > 1 {
                self.rows_ahead = rows_ahead_in(e, plan, self.group as i64);
            }
            let next = ahead(e, plan, &self.packed, self.blocks.as_ref());
            self.ahead = next.map(|a| a.in_groups(self.group as i64));
        }
        self.copied = Copied::new(e, plan, self.group);
    }

    /// What tiles of so many vectors ask for.
    fn asks(&self, nv: usize, asking: Asking) -> Asks<'_> {
        let whole = nv == self.plan.tile.nv;
        let weights = match asking {
            Asking::Part => self.ahead.as_ref(),
            Asking::All => self.all_ahead.as_ref(),
            Asking::Half(i) => self.halves_ahead.as_ref().map(|halves| &halves[i]),
            Asking::Nothing => None,
        };
        Asks {
            weights: weights.filter(|_| whole),
            rows: self.rows_ahead.as_ref().filter(|_| whole),
            results: self.results_ahead.as_ref().filter(|_| whole),
        }
    }

    /// Rows of a tile.
    pub(super) fn mr(&self) -> usize {
        self.plan.tile.mr
    }

    /// Columns of a tile.
    pub(super) fn nr(&self) -> usize {
        self.plan.nr()
    }

    /// The loops over all outputs whose `fixed` axes are those of the point.
    pub(super) fn emit(&self, e: &mut Emitter, point: Point, fixed: &[usize]) -> Result<(), ScheduleError> {
        e.packed = self.packed.clone();
        let result = match self.plan.of_many_rows() {
            None => self.loops(e, &self.plan, point, fixed, self.plan.columns_first),
            Some(other) => self.loops(e, &self.plan, point.clone(), fixed, true).and_then(|()| self.loops(e, &other, point, fixed, false)),
        };
        e.packed.clear();
        result
    }

    fn loops(&self, e: &mut Emitter, plan: &Plan, point: Point, fixed: &[usize], columns_first: bool) -> Result<(), ScheduleError> {
        let (turns, outer) = plan.turns(fixed);
        outer_loops(e, plan, &turns, point, &mut |e, point| self.turn(e, plan, point, &outer, columns_first))
    }

    /// The loops inside those in whose turns other panels are copied.
    fn turn(&self, e: &mut Emitter, plan: &Plan, point: Point, outer: &[usize], columns_first: bool) -> Result<(), ScheduleError> {
        // In runs of many rows, weights are near.
        let far = columns_first || self.plan.few_rows.is_none();
        let asking = self.ahead.as_ref().filter(|_| far).and_then(|_| asking_rows(plan));
        if !columns_first {
            if let Some(copied) = &self.copied {
                copied.all(e, plan, point.clone())?;
            }
            return outer_loops(e, plan, outer, point, &mut |e, point| {
                row_loop(e, plan, asking, point, &mut |e, point, mr, asking| {
                    column_loop(e, plan, (plan.nv(mr), false), point, &mut |e, point, nv, valid| {
                        let asks = self.asks(nv, if far { asking } else { Asking::Nothing });
                        let tile = |e: &mut Emitter| tile(e, plan, (asks, None), point, (mr, nv, valid));
                        // Tiles beside each other would keep all weights in registers for each other.
                        if plan.in_lanes.is_some() { e.forgetting(tile) } else { tile(e) }
                    })
                })
            });
        }
        let column = |point: &Point| plan.vector.map_or(Affine::default(), |v| point.axes[v].clone());
        let panel = |e: &mut Emitter, plan: &Plan, point: Point, (nv, valid): (usize, u32), block: Option<&Block<'_>>| {
            if let Some(copied) = &self.copied {
                copied.panel(e, plan, &point, (nv, valid), (&column(&point), block))?;
            }
            outer_loops(e, plan, outer, point, &mut |e, point| {
                row_loop(e, plan, asking, point, &mut |e, point, mr, asking| {
                    tile(e, plan, (self.asks(nv, asking), block), point, (mr, nv, valid))
                })
            })
        };
        match (&self.blocks, plan.vector) {
            (Some(blocks), Some(axis)) => {
                let nr = self.nr() as i64;
                let panels = (plan.columns as i64 / nr, nr);
                let whole = (plan.tile.nv, plan.lanes as u32);
                blocks.emit(e, &format!("i{axis}"), panels, &mut |e, column, block| {
                    panel(e, plan, point.moved(axis, column), whole, Some(block))
                })?;
                last_columns(e, plan, plan.tile.nv, point, &mut |e, point, nv, valid| panel(e, plan, point, (nv, valid), None))
            }
            (None, Some(axis)) if self.group > 1 => {
                self.groups(e, plan, point.clone(), axis, outer)?;
                last_columns(e, plan, plan.tile.nv, point, &mut |e, point, nv, valid| panel(e, plan, point, (nv, valid), None))
            }
            _ => {
                let mut tiles = |e: &mut Emitter, point, nv, valid| panel(e, plan, point, (nv, valid), None);
                column_loop(e, plan, (plan.tile.nv, true), point.clone(), &mut tiles)?;
                let Some(few) = plan.of_few_rows() else { return Ok(()) };
                last_columns(e, &few, few.tile.nv, point, &mut |e, point, nv, valid| panel(e, &few, point, (nv, valid), None))
            }
        }
    }

    /// The loops over groups of panels: each tile of rows goes over the panels of one before the next.
    fn groups(&self, e: &mut Emitter, plan: &Plan, point: Point, axis: usize, outer: &[usize]) -> Result<(), ScheduleError> {
        let (nr, nv, valid) = (self.nr() as i64, plan.tile.nv, plan.lanes as u32);
        let (n_panels, group) = (plan.columns as i64 / nr, self.group as i64);
        let whole = n_panels / group * group;
        for (range, n) in [(0..whole * nr, group), (whole * nr..n_panels * nr, n_panels - whole)] {
            e.for_loop(&format!("i{axis}"), range, n * nr, |e, first| {
                let of = |point: &Point, panel: &Affine| point.moved(axis, first.plus(&panel.times(nr)));
                if let Some(copied) = &self.copied {
                    e.for_loop("panel", 0..n, 1, |e, panel| copied.panel(e, plan, &of(&point, &panel), (nv, valid), (&first, None)))?;
                }
                let rows = self.rows_ahead.as_ref().map(|r| r.within(axis, &first));
                let asks = Asks { rows: rows.as_ref(), ..self.asks(nv, Asking::Part) };
                outer_loops(e, plan, outer, point.clone(), &mut |e, point| {
                    row_loop(e, plan, None, point, &mut |e, point, mr, _| {
                        e.for_loop("panel", 0..n, 1, |e, panel| tile(e, plan, (asks, None), of(&point, &panel), (mr, nv, valid)))
                    })
                })
            })?;
        }
        Ok(())
    }
}

//! The operand of the columns, where it is no constant: copied into panels of the workspace, in the order in which tiles read it. In
//! place its rows are as far apart as it is wide, and what a tile reads of them shares few sets of the first-level cache, or fills pages
//! of which it needs a line each. After the packing of Goto and van de Geijn (2008).

use super::ask::Asks;
use super::loops::{Inner, column_loop, reduction_loops};
use super::plan::Plan;
use super::tile::{cell, narrow};
use crate::expr::{Expr, Ix, Node, Stage, Var};
use crate::nest::Affine;
use crate::nest::interchange::ENOUGH;
use crate::schedule::blocks::Block;
use crate::schedule::emitter::{Emitter, Packed, Point, expr_depends, stride_along};
use crate::schedule::reduce::{Along, along, loads};
use crate::schedule::{MAX_PRIVATE_BYTES, ScheduleError};
use crate::tensor::{DType, n_elements};

/// Fewest rows of a product for which a copy pays: an element is copied in the time of some of its multiply-adds.
const LEAST_ROWS: usize = 64;
/// The same where what a panel reads shares few sets of the first-level cache.
const LEAST_ALIASED_ROWS: usize = 24;
/// Pages that a panel may lie in: about as many as the first level of address translation knows.
const MOST_PAGES: usize = 96;
const PAGE_BYTES: usize = 4096;
/// Fewest tiles of rows that go over panels in groups: the first waits for all of a group.
const LEAST_TILES: usize = 16;
/// Most panels of a group.
const MOST_PANELS: usize = 4;
/// Steps of the reduction that are copied in one iteration.
const STEPS_AT_ONCE: usize = 4;

/// A read of which panels are copied.
pub(super) struct Copied {
    load: Expr,
    packed: Packed,
}

/// The read that moves along the columns, if panels of `nr` columns are worth a copy: where tiles of rows are many, and a panel is large
/// for the first-level cache, no larger than what each thread may have of its own, and lies in many pages, or in parts of lines.
pub(super) fn read(
    e: &Emitter,
    stage: &Stage,
    value: &Expr,
    (columns, rows, nr): (usize, usize, usize),
    reduction: &[(usize, usize)],
) -> Option<Expr> {
    let n = stage.axes.len();
    if !e.machine.exact || e.is_repeated() || stage.is_live() || value.dtype() != DType::F32 || stage.axes[columns] <= nr {
        return None;
    }
    let mut moving = loads(value).into_iter().filter(|l| expr_depends(l, columns));
    let (Some(load), None, Some(&(innermost, _))) = (moving.next(), moving.next(), reduction.last()) else { return None };
    let Node::Load { tensor, index, pad: None } = load.node() else { return None };
    let is_plain = |ix: &Ix| matches!(ix, Ix::Affine(a) if a.terms.iter().all(|t| matches!(t.0, Var::Axis(_))));
    if !index.iter().all(is_plain) || load.dtype() != DType::F32 || !matches!(along(e, &load, columns), Along::Unit) {
        return None;
    }
    let (moves, others): (Vec<usize>, Vec<usize>) = (0..n).partition(|&a| expr_depends(&load, a));
    let extent = |axes: &[usize]| axes.iter().map(|&a| stage.axes[a]).product::<usize>();
    let (depth, size) = (n_elements(&stage.reduce), DType::F32.size_bytes());
    let pitch: i64 = stride_along(index, &e.strides_of(*tensor), innermost);
    let pitch = pitch.unsigned_abs() as usize * size;
    let pages = depth.min(depth * pitch / PAGE_BYTES);
    let panel_bytes = depth * nr * size;
    let is_large = panel_bytes > e.machine.l1_bytes / 4 && panel_bytes <= MAX_PRIVATE_BYTES;
    let is_apart = pages > MOST_PAGES || !pitch.is_multiple_of(e.machine.line_bytes);
    // Lines in one or two places of the first-level cache displace each other.
    let least_rows = if pitch.is_multiple_of(e.machine.way_bytes() / 2) { LEAST_ALIASED_ROWS } else { LEAST_ROWS };
    // Windows that overlap would be copied several times.
    let is_once = extent(&moves) * depth <= n_elements(e.dims(*tensor));
    (is_large && is_apart && is_once && !moves.contains(&rows) && extent(&others) >= least_rows).then_some(load)
}

impl Copied {
    /// Places for the copies of what a plan reads: for the panels of a group, or where panels are not outermost for all.
    pub(super) fn new(e: &mut Emitter, plan: &Plan, group: usize) -> Option<Self> {
        let (load, axis) = (plan.copied.clone()?, plan.vector?);
        let Node::Load { tensor, .. } = load.node() else { return None };
        let nr = plan.nr();
        let n_panels = if plan.columns_first { group } else { plan.columns.div_ceil(nr) };
        let mut strides = vec![];
        let mut panel = nr as i64;
        for &(a, extent) in plan.reduction.iter().rev() {
            strides.push((a, panel, panel));
            panel *= extent as i64;
        }
        let name = format!("{}_panels", e.program().tensors[tensor.0 as usize].name);
        let buffer = e.scratch_buffer(&name, n_panels * plan.depth() * nr);
        let full = (plan.columns / nr) as i64;
        let packed = Packed { buffer, nr: nr as i64, group: 1, panel, full, axis, origin: Affine::default(), strides };
        Some(Copied { load, packed })
    }

    /// Copies what all panels read.
    pub(super) fn all(&self, e: &mut Emitter, plan: &Plan, point: Point) -> Result<(), ScheduleError> {
        let mut panel =
            |e: &mut Emitter, point: Point, nv: usize, valid: u32| self.panel(e, plan, &point, (nv, valid), (&Affine::default(), None));
        column_loop(e, plan, (plan.tile.nv, true), point, &mut panel)
    }

    /// Copies what a panel reads, in one block of the reduction or in all of it. The first panel of its group is at `origin`.
    pub(super) fn panel(
        &self,
        e: &mut Emitter,
        plan: &Plan,
        point: &Point,
        (nv, valid): (usize, u32),
        (origin, block): (&Affine, Option<&Block<'_>>),
    ) -> Result<(), ScheduleError> {
        let last = narrow(e, plan, valid);
        let packed = Packed { origin: origin.clone(), ..self.packed.clone() };
        e.packed.remove(&self.load);
        let part = block.map(|b| b.part(&plan.stage, &plan.reduction));
        let (stage, reduction) = part.as_ref().map_or((&plan.stage, &plan.reduction), |p| (&p.0, &p.1));
        let budget = if nv > STEPS_AT_ONCE { 1 } else { STEPS_AT_ONCE };
        let step: &mut Inner<'_> = &mut |e, mut point| {
            if let Some(block) = block {
                point.axes[block.axis()] = point.axes[block.axis()].plus(&block.base);
            }
            for vector in 0..nv {
                let at = cell(plan, &point, (0, vector), (nv, last, valid));
                let element = e.value(&self.load, &at, None)?;
                e.b.store(packed.buffer, packed.place(&at), element);
            }
            Ok(())
        };
        reduction_loops(e, (stage, 1), reduction, budget, Asks::default(), point.clone(), step)?;
        e.forget();
        e.packed.insert(self.load.clone(), packed.clone());
        Ok(())
    }
}

/// Whether panels are outermost where they are copied: where rows stay near for all of them, or are fewer than what is copied. Else all
/// panels are copied first.
pub(super) fn columns_first(e: &Emitter, row_bytes: usize, (panel_bytes, all_bytes): (usize, usize)) -> bool {
    row_bytes <= e.machine.rows_beside(panel_bytes) || row_bytes <= all_bytes || all_bytes > e.machine.l2_bytes / 2
}

/// How many panels each tile of rows goes over before the next: more than one where rows that do not stay near would else come from afar
/// for every panel.
pub(super) fn group(e: &Emitter, (row_bytes, n_tiles): (usize, usize), (panel_bytes, n_panels): (usize, usize)) -> usize {
    if row_bytes <= e.machine.rows_beside(panel_bytes) || n_tiles < LEAST_TILES {
        return 1;
    }
    let most = (e.machine.l2_bytes / 2).min(MAX_PRIVATE_BYTES) / panel_bytes.max(1);
    // As many that threads share them evenly, or enough: else loops would change places, and rows be outside of panels.
    let threads = e.machine.threads;
    let are_even = |n: usize| n > ENOUGH as usize * threads || n >= 2 * threads && n.is_multiple_of(threads);
    (2..=most.min(MOST_PANELS)).rev().find(|g| are_even(n_panels / g)).unwrap_or(1)
}

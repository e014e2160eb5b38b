//! The loops of a reduction in register tiles: which axes are rows, columns and outside them, and the tile.

use std::collections::HashMap;

use super::copied;
use crate::expr::{Expr, Ix, Node, ReduceOp, Stage, Var};
use crate::schedule::across::Across;
use crate::schedule::borders::{Piece, Walk};
use crate::schedule::cost::{Tile, choose_tile, n_streams, shared_columns, window_tile};
use crate::schedule::emitter::{Emitter, expr_depends, stride_along};
use crate::schedule::machine::Machine;
use crate::schedule::pack::packable;
use crate::schedule::reduce::loads;
use crate::schedule::{borders, dot};
use crate::tensor::{DType, Size, n_elements};

/// Panels that are worth a loop outside of the rows where the weights are more than the rows, and where they are less.
const LEAST_PANELS: usize = 4;
const MANY_PANELS: usize = 8;

/// A stage with its loops chosen.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) stage: Stage,
    pub(super) value: Expr,
    pub(super) finish: Expr,
    pub(super) op: ReduceOp,
    pub(super) vector: Option<usize>,
    pub(super) columns: usize,
    pub(super) rows: Option<usize>,
    pub(super) tile: Tile,
    /// Whether vectors of columns are summed of which rows share no operand.
    pub(super) is_window: bool,
    /// The read of those windows, where they slide along the lanes.
    pub(super) in_lanes: Option<Across>,
    /// Output axes other than rows and columns, outermost first.
    pub(super) outer: Vec<usize>,
    /// Reduction axes with their extents, outermost first.
    pub(super) reduction: Vec<(usize, usize)>,
    /// The same before adjacent axes were merged: the order inside packed panels.
    pub(super) packed_reduction: Vec<(usize, usize)>,
    /// Whether panels of columns are the outermost loop.
    pub(super) columns_first: bool,
    /// Outer axes in whose turns panels are others, where all of a turn's panels come before the next turn.
    pub(super) batch: Vec<usize>,
    /// Where only a run knows whether the rows are few enough for panels to be outermost: 1 if they are, else 0.
    pub(super) few_rows: Option<Size>,
    /// Parts of the reduction that are read side by side.
    pub(super) streams: usize,
    /// Reads whose padding the loops are split around.
    pub(super) padded: Vec<Expr>,
    /// How they are split along axes whose extents only a run knows.
    pub(super) pieces: HashMap<usize, Vec<Piece>>,
    pub(super) lanes: usize,
    /// Reads of constants that are packed in the order of the rows of tiles.
    pub(super) packs_rows: Vec<Expr>,
    /// The read of the columns' operand of which panels are copied.
    pub(super) copied: Option<Expr>,
    /// Cycles from a multiply-add to one that adds to its result.
    pub(super) latency: usize,
    /// Where several steps are taken at once.
    pub(super) dot: Option<dot::Product>,
}

impl Plan {
    /// Steps of the innermost axis of the reduction that are taken at once.
    pub(super) fn unit(&self) -> usize {
        self.dot.as_ref().map_or(1, |d| d.steps)
    }

    /// Axes outside rows and columns but for the `fixed` ones: those in whose turns panels are others, and the rest.
    pub(super) fn turns(&self, fixed: &[usize]) -> (Vec<usize>, Vec<usize>) {
        self.outer.iter().copied().filter(|a| !fixed.contains(a)).partition(|a| self.batch.contains(a))
    }

    /// Columns of a panel.
    pub(super) fn nr(&self) -> usize {
        self.tile.nv * self.lanes
    }

    /// Steps of the reduction.
    pub(super) fn depth(&self) -> usize {
        self.reduction.iter().map(|r| r.1).product()
    }

    /// Bytes of a panel of `f32`.
    pub(super) fn panel_bytes(&self) -> usize {
        self.depth() * self.nr() * DType::F32.size_bytes()
    }

    /// Bytes of which rows are read, in one turn.
    pub(super) fn row_bytes(&self, e: &Emitter, columns: usize) -> usize {
        if self.copied.is_none() {
            return row_bytes(e, &self.value, columns);
        }
        let (_, outer) = self.turns(&[]);
        let n_rows: usize = outer.iter().chain(&self.rows).map(|&a| self.stage.axes[a]).product();
        n_rows * self.depth() * DType::F32.size_bytes()
    }

    /// The plan of the runs in which panels are not outermost, although they are in others.
    pub(super) fn of_many_rows(&self) -> Option<Plan> {
        self.where_runs(&Size::Constant(1).minus(self.few_rows.as_ref()?))
    }

    /// The plan of the runs in which panels are outermost, although they are not in others.
    pub(super) fn of_few_rows(&self) -> Option<Plan> {
        self.where_runs(self.few_rows.as_ref()?)
    }

    /// The plan of the runs in which a size is 1; in others it is 0, and there are no rows.
    fn where_runs(&self, size: &Size) -> Option<Plan> {
        let axis = self.outer.first().copied().or(self.rows)?;
        let mut plan = self.clone();
        let all = self.stage.bound(axis).cloned().unwrap_or(Size::Constant(self.stage.axes[axis] as i64));
        plan.stage.bounds.resize(plan.stage.axes.len() + plan.stage.reduce.len(), None);
        plan.stage.bounds[axis] = Some(all.product(size));
        plan.few_rows = None;
        Some(plan)
    }

    /// Vectors in a row of a tile of so many rows: where tiles of fewer rows than the plan's are for what a run leaves over, enough sums
    /// to hide the latency of a multiply-add. Those are whole panels, so that they begin where a packed one does.
    pub(super) fn nv(&self, mr: usize) -> usize {
        let live = |a: usize| self.stage.bound(a).is_some();
        match (self.vector, self.rows) {
            (Some(v), Some(r)) if live(r) && !live(v) && mr < self.tile.mr => {
                let (wanted, most) = (self.latency.div_ceil(mr).div_ceil(self.tile.nv), self.columns / self.nr());
                self.tile.nv * wanted.min(most).max(1)
            }
            _ => self.tile.nv,
        }
    }
}

pub(super) fn plan(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr, vector: Option<usize>) -> Plan {
    let mut padded: Vec<Expr> = loads(value).into_iter().filter(|l| borders::in_place(e, stage, op, value, l)).collect();
    let walks: Vec<Walk> =
        padded.iter().flat_map(|l| (0..stage.axes.len()).filter_map(|a| Walk::of(e, stage, l, a)).collect::<Vec<_>>()).collect();
    let mut pieces: HashMap<usize, Vec<Piece>> = walks.iter().map(|w| (w.axis(), w.pieces(e))).collect();
    if vector.is_some_and(|v| pieces.contains_key(&v)) {
        // Lanes would lie across the parts: each decides for itself what it reads.
        pieces.clear();
        padded.clear();
    }
    let mut stage = stage.clone();
    let n = stage.axes.len();
    let (_, _, out_strides) = e.memory_of(stage.out);
    let out_stride = |stage: &Stage, axis: usize| -> i64 { stage.stride_along(&out_strides, axis) };
    let mut outer: Vec<usize> = (0..n).filter(|&a| Some(a) != vector && stage.axes[a] > 1).collect();
    outer.sort_by_key(|&a| -out_stride(&stage, a));
    let reach = |e: &Emitter, axis: usize| -> i64 {
        let strides = loads(value).into_iter().map(|l| {
            let Node::Load { tensor, index, .. } = l.node() else { return 0 };
            if e.packable_constant(*tensor).is_some() {
                return 0;
            }
            stride_along(index, &e.strides_of(*tensor), axis).abs()
        });
        strides.max().unwrap_or(0)
    };
    let mut reduction: Vec<usize> = (n..n + stage.reduce.len()).filter(|&a| stage.reduce[a - n] > 1).collect();
    reduction.sort_by_key(|&a| -reach(e, a));
    let in_lanes = loads(value).into_iter().find_map(|l| Across::of(e, &stage, value, &l)).filter(|w| Some(w.axis) == vector);
    if let (Some(window), Some(&row)) = (&in_lanes, outer.last()) {
        let innermost = window.innermost_step(&stage, row);
        reduction.sort_by_key(|&a| Some(a) == innermost);
    }

    let packed_reduction: Vec<(usize, usize)> = reduction.iter().map(|&a| (a, stage.reduce[a - n])).collect();
    let accesses = accesses(e, &stage, value, finish, vector, &packed_reduction, &|a| if a < n { out_stride(&stage, a) } else { 0 });
    let pinned = pinned(&[value, finish], n + stage.reduce.len());
    if let (Some(v), None) = (vector, &in_lanes) {
        lengthen(&mut stage, v, &mut outer, &pinned, &accesses);
    }
    let mut i = outer.len();
    while i >= 2 {
        i -= 1;
        let (o, r) = (outer[i - 1], outer[i]);
        if !pinned[o] && !pinned[r] && accesses.iter().all(|s| s[o] == s[r] * stage.axes[r] as i64) && join_bounds(&mut stage, o, r) {
            stage.axes[r] *= stage.axes[o];
            stage.axes[o] = 1;
            outer.remove(i - 1);
        }
    }
    let mut i = reduction.len();
    while i >= 2 {
        i -= 1;
        let (o, r) = (reduction[i - 1], reduction[i]);
        if !pinned[o] && !pinned[r] && accesses.iter().all(|s| s[o] == s[r] * stage.reduce[r - n] as i64) && join_bounds(&mut stage, o, r) {
            stage.reduce[r - n] *= stage.reduce[o - n];
            stage.reduce[o - n] = 1;
            reduction.remove(i - 1);
        }
    }
    let columns = vector.map_or(1, |v| stage.axes[v]);
    let machine = match vector {
        Some(v)
            if (in_lanes.is_some() || loads(value).iter().all(|l| in_part(e, l, v))) && loads(finish).iter().all(|l| in_part(e, l, v)) =>
        {
            e.machine.covering(columns)
        }
        _ => e.machine.narrowed(columns),
    };
    let lanes = if vector.is_some() { machine.lanes as usize } else { 1 };
    // Rows share what does not depend on them: the columns' operand.
    let shares = |a: usize| vector.is_some_and(|v| loads(value).iter().any(|l| expr_depends(l, v) && !expr_depends(l, a)));
    let rows = outer.iter().rev().copied().find(|&a| shares(a)).or(outer.last().copied());
    outer.retain(|&a| Some(a) != rows);
    let n_rows = rows.map_or(1, |r| stage.axes[r]);
    let packs_rows: Vec<Expr> = match (vector, rows) {
        (Some(v), Some(r)) if pieces.is_empty() && padded.is_empty() => {
            loads(value).into_iter().filter(|l| packs_rows(e, l, v, r) && !loads(finish).contains(l)).collect()
        }
        _ => vec![],
    };
    let broadcast = in_lanes.is_none() && vector.is_some_and(|v| loads(value).iter().any(|l| !expr_depends(l, v)));
    let tile = match vector {
        Some(_) if broadcast => choose_tile(&machine, n_rows, columns, rows.map_or(1, |r| rows_in_cache(e, value, r, &packs_rows))),
        Some(_) => {
            let vectors = columns.div_ceil(lanes);
            match n_rows {
                _ if let Some(tile) = machine.choice.window => tile.within(n_rows, vectors),
                _ if let (Some(window), Some(r)) = (&in_lanes, rows) => window.tile(&machine, &stage, r),
                _ if n_rows == 1 || rows.is_some_and(|r| machine.exact && is_apart(e, &stage, value, r)) => {
                    Tile { mr: 1, nv: vectors.min(8).min(sums_beside(&machine, &stage, value, vector)) }
                }
                _ if machine.exact && op == ReduceOp::Sum && n_rows > 3 => window_tile(&machine, n_rows),
                2 | 3 => Tile { mr: n_rows, nv: vectors.min(2) },
                _ if lanes == 8 => Tile { mr: 4, nv: vectors.min(2) },
                _ => Tile { mr: 4, nv: 1 },
            }
        }
        None => Tile { mr: n_rows.min(4), nv: 1 },
    };
    let reduction: Vec<(usize, usize)> = reduction.iter().map(|&a| (a, stage.reduce[a - n])).collect();
    let depth: usize = reduction.iter().map(|r| r.1).product();
    let dot = dot::Product::of(e, &stage, op, value, finish).map(|d| d.0);
    let dot = dot.filter(|d| vector.is_some() && padded.is_empty() && reduction.last().is_some_and(|r| r.0 == d.axis && r.1 >= d.steps));
    let element_bytes = dot.as_ref().map_or(4, |d| 4 / d.steps);
    let tile = if broadcast && rows.is_none() && !stage.is_live() { shared_columns(&machine, columns, depth, tile) } else { tile };
    let copied = match (vector, rows) {
        (Some(v), Some(r)) if broadcast && dot.is_none() && padded.is_empty() && pieces.is_empty() => {
            copied::read(e, &stage, value, (v, r, tile.nv * lanes), &reduction)
        }
        _ => None,
    };
    let mut few_rows = None;
    let columns_read: Vec<Expr> = loads(value).into_iter().filter(|l| vector.is_some_and(|v| expr_depends(l, v))).collect();
    let batch: Vec<usize> = outer.iter().copied().filter(|&a| columns_read.iter().any(|l| expr_depends(l, a))).collect();
    let columns_first = vector.is_some_and(|v| {
        let bytes = depth * columns * element_bytes;
        let n_panels = columns / (tile.nv * lanes);
        let in_turn = outer.iter().filter(|a| !batch.contains(a)).map(|&a| stage.axes[a]).product::<usize>();
        let in_turns = e.machine.exact && !stage.is_live() && columns_read.iter().all(|l| packable(e, l, v));
        if in_turn * n_rows.div_ceil(tile.mr) <= 1 || !batch.is_empty() && !in_turns {
            return false;
        }
        if bytes > e.machine.l2_bytes / 2 {
            return true;
        }
        let panel_bytes = depth * tile.nv * lanes * element_bytes;
        let Some(limit) = most_row_bytes(&e.machine, (n_panels, panel_bytes), bytes).map(|n| n / element_bytes * 4) else { return false };
        let in_run = row_bytes_in_run(e, value, v);
        match e.span(&in_run).filter(|_| in_run.constant().is_none()) {
            None => row_bytes(e, value, v) <= limit,
            Some((_, most)) if most as usize <= limit => true,
            Some((least, _)) if least as usize > limit => false,
            Some(_) => {
                few_rows = Some(Size::Constant(limit as i64 + 1).minus(&in_run).at_least(0).at_most(1));
                false
            }
        }
    });
    let plain_value =
        if pieces.is_empty() { value.clone() } else { value.rewrite(&mut |x| if padded.contains(&x) { borders::plain(&x) } else { x }) };
    let streams = match reduction[..] {
        _ if dot.is_some() => 1,
        [(axis, extent)] if stage.bound(axis).is_none() && e.machine.exact && broadcast && rows.is_none() && padded.is_empty() => {
            n_streams(&e.machine, extent, columns)
        }
        _ => 1,
    };
    let batch = if columns_first || copied.is_some() { batch } else { vec![] };
    let mut plan = Plan {
        stage,
        value: plain_value,
        finish: finish.clone(),
        op,
        vector,
        columns,
        rows,
        tile,
        is_window: vector.is_some() && !broadcast,
        in_lanes,
        outer,
        batch,
        reduction,
        packed_reduction,
        columns_first,
        few_rows,
        streams,
        padded,
        pieces,
        lanes,
        packs_rows: packs_rows.into_iter().filter(|_| tile.mr > 1 && dot.is_none()).collect(),
        copied,
        latency: e.machine.fma_latency,
        dot,
    };
    if let (Some(v), Some(_)) = (vector, &plan.copied) {
        plan.columns_first =
            copied::columns_first(e, plan.row_bytes(e, v), (plan.panel_bytes(), depth * columns * DType::F32.size_bytes()));
        plan.few_rows = None;
    }
    plan
}

/// The most bytes of rows for which so many panels of weights, of so many bytes in all, are the outermost loop although the second-level
/// cache would keep the weights: they come from memory while they are multiplied, and rows stay near. `None` where panels are no loop.
fn most_row_bytes(machine: &Machine, (n_panels, panel_bytes): (usize, usize), bytes: usize) -> Option<usize> {
    if !machine.exact || bytes < 128 << 10 || n_panels < LEAST_PANELS {
        return None;
    }
    // Of rows and weights, what is more is read once.
    let beside = machine.rows_beside(panel_bytes).min(bytes);
    Some(if n_panels < MANY_PANELS { beside } else { beside.max(machine.l2_bytes / 4) })
}

/// Bytes of the tensors of which rows are read: what does not depend on the columns.
fn row_bytes(e: &Emitter, value: &Expr, columns: usize) -> usize {
    let bytes = |l: &Expr| match l.node() {
        Node::Load { tensor, .. } => n_elements(&e.program().tensors[tensor.0 as usize].dims) * 4,
        _ => 0,
    };
    loads(value).iter().filter(|l| !expr_depends(l, columns)).map(bytes).sum()
}

/// The same in one run.
fn row_bytes_in_run(e: &Emitter, value: &Expr, columns: usize) -> Size {
    let bytes = |l: &Expr| match l.node() {
        Node::Load { tensor, .. } => {
            let decl = e.program().tensor(*tensor);
            let extent = |(k, &d): (usize, &usize)| decl.bound(k).cloned().unwrap_or(Size::Constant(d as i64));
            decl.dims.iter().enumerate().map(extent).fold(Size::Constant(4), |n, d| n.product(&d))
        }
        _ => Size::Constant(0),
    };
    loads(value).iter().filter(|l| !expr_depends(l, columns)).fold(Size::Constant(0), |sum, l| sum.plus(&bytes(l)))
}

/// Whether the first lanes of a vector along `axis` are one load.
fn in_part(e: &Emitter, load: &Expr, axis: usize) -> bool {
    let Node::Load { tensor, index, .. } = load.node() else { return true };
    if !expr_depends(load, axis) || packable(e, load, axis) {
        return true;
    }
    let stride: i64 = stride_along(index, &e.strides_of(*tensor), axis);
    matches!(load.dtype(), DType::F32 | DType::I32) && stride == 1
}

/// Makes the axis of the lanes and those outside it one, as far as elements follow each other along them in all that is read and written.
fn lengthen(stage: &mut Stage, lanes: usize, outer: &mut Vec<usize>, pinned: &[bool], accesses: &[Vec<i64>]) {
    while let Some(&o) = outer.last()
        && [o, lanes].iter().all(|&a| !pinned[a] && stage.bound(a).is_none())
        && accesses.iter().all(|s| s[o] == s[lanes] * stage.axes[lanes] as i64)
    {
        stage.axes[lanes] *= stage.axes[o];
        stage.axes[o] = 1;
        outer.pop();
    }
}

/// Makes the bound of two axes that become the inner one; false where that cannot be.
fn join_bounds(stage: &mut Stage, outer: usize, inner: usize) -> bool {
    if stage.bound(inner).is_some() {
        return false;
    }
    let n = stage.axes.len();
    let extent = if inner < n { stage.axes[inner] } else { stage.reduce[inner - n] };
    if let Some(bound) = stage.bounds.get_mut(outer).and_then(Option::take) {
        stage.bounds[inner] = Some(bound.times(extent as i64));
    }
    true
}

/// Whether a constant that all columns share is packed as tiles read it: a step of the reduction reads an element of each row, and rows
/// lie far apart. Where one load brings four steps of a row they stay as they are.
fn packs_rows(e: &Emitter, load: &Expr, columns: usize, rows: usize) -> bool {
    e.machine.exact && !e.machine.by_element && packable(e, load, rows) && !expr_depends(load, columns)
}

/// How many rows of what is read stay in the first-level cache at once: those that are whole ways apart share a set.
fn rows_in_cache(e: &Emitter, value: &Expr, rows: usize, packed: &[Expr]) -> usize {
    let apart = |l: &Expr| {
        let Node::Load { tensor, index, .. } = l.node() else { return false };
        let stride: i64 = stride_along(index, &e.strides_of(*tensor), rows);
        stride != 0 && stride * l.dtype().size_bytes() as i64 % e.machine.way_bytes().max(1) as i64 == 0
    };
    if loads(value).iter().any(|l| !packed.contains(l) && apart(l)) { e.machine.l1_ways } else { usize::MAX }
}

/// Whether rows read nothing that lies between what others read: columns of other matrices, not windows over one.
fn is_apart(e: &Emitter, stage: &Stage, value: &Expr, rows: usize) -> bool {
    let n = stage.axes.len();
    loads(value).iter().all(|l| {
        let Node::Load { tensor, index, pad } = l.node() else { return true };
        let strides = e.strides_of(*tensor);
        let along = |a: usize| stride_along(index, &strides, a);
        let reach: i64 = stage.reduce.iter().enumerate().map(|(i, &d)| along(n + i).abs() * (d as i64 - 1)).sum();
        pad.is_none() && along(rows).abs() > reach
    })
}

/// How many sums of one row leave registers for what each reads that all steps share, such as a scale and a shift.
fn sums_beside(machine: &Machine, stage: &Stage, value: &Expr, vector: Option<usize>) -> usize {
    let steps = stage.axes.len()..stage.axes.len() + stage.reduce.len();
    let stays = |l: &&Expr| vector.is_some_and(|v| expr_depends(l, v)) && !steps.clone().any(|a| expr_depends(l, a));
    let beside = machine.n_registers / (1 + loads(value).iter().filter(stays).count());
    1 << beside.max(1).ilog2()
}

/// Strides of every access along every axis of the stage.
///
/// Constants that will be packed count with the strides that they will have along the reduction.
fn accesses(
    e: &Emitter,
    stage: &Stage,
    value: &Expr,
    finish: &Expr,
    vector: Option<usize>,
    reduction: &[(usize, usize)],
    out_stride: &dyn Fn(usize) -> i64,
) -> Vec<Vec<i64>> {
    let n = stage.axes.len() + stage.reduce.len();
    let mut list: Vec<Vec<i64>> = vec![(0..n).map(out_stride).collect()];
    let packable: Vec<Expr> = loads(value).into_iter().filter(|l| vector.is_some_and(|v| packable(e, l, v))).collect();
    for x in [value, finish] {
        x.visit(&mut |x| {
            if let Node::Load { tensor, index, .. } = x.node() {
                let strides = e.strides_of(*tensor);
                let mut along: Vec<i64> = (0..n).map(|axis| stride_along(index, &strides, axis)).collect();
                if packable.contains(x) {
                    let mut stride = 1;
                    for &(axis, extent) in reduction.iter().rev().filter(|r| expr_depends(x, r.0)) {
                        along[axis] = stride;
                        stride *= extent as i64;
                    }
                }
                list.push(along);
            }
        });
    }
    list
}

/// Axes that more than strides depend on.
fn pinned(expressions: &[&Expr], n: usize) -> Vec<bool> {
    let mut pinned = vec![false; n];
    for x in expressions {
        x.visit(&mut |x| match x.node() {
            Node::Index(a) => a.terms.iter().for_each(|t| {
                if let Var::Axis(i) = t.0 {
                    pinned[i as usize] = true;
                }
            }),
            Node::Load { index, pad, .. } => {
                for ix in index {
                    match ix {
                        Ix::Affine(a) if pad.is_some() => a.terms.iter().for_each(|t| {
                            if let Var::Axis(i) = t.0 {
                                pinned[i as usize] = true;
                            }
                        }),
                        Ix::Affine(_) => {}
                        Ix::Checked(i) | Ix::Clamped(i) => (0..n).filter(|&a| expr_depends(i, a)).for_each(|a| pinned[a] = true),
                    }
                }
            }
            _ => {}
        });
    }
    pinned
}

//! Reductions in register tiles: rows by vectors of accumulators, the epilogue on them in registers.
//!
//! One template for matrix products, convolutions, depthwise convolutions, pooling and column sums: what a row or a vector
//! of the tile shares, value numbering loads once. After the implicit GEMM of XNNPACK and oneDNN; here all strides are
//! constants, so every row is an address displacement.

use std::collections::HashMap;

use super::ahead::{Ahead, TileLoops};
use super::blocks::{Block, Blocks, Product};
use super::cost::{Order, Tile, choose_tile, n_streams, shared_columns, window_tile};
use super::dot;
use super::emitter::{Emitter, Lanes, Packed, Point, Rest, Run, coefficient, expr_depends, halves, is_heavy};
use super::inner_product::accumulate;
use super::pack::{Reduction, pack, packable};
use super::reduce::{identity, loads};
use super::rows_ahead::RowsAhead;
use super::{ScheduleError, borders};
use crate::expr::{BinaryOp, Expr, Ix, Node, ReduceOp, Stage, Var};
use crate::nest::{Affine, Op, Reg, VecType};
use crate::tensor::{DType, n_elements};

/// Multiply-adds in the unrolled body of the innermost reduction loop, about.
const UNROLLED_STEPS: usize = 12;

/// A stage with its loops chosen.
struct Plan {
    stage: Stage,
    value: Expr,
    finish: Expr,
    op: ReduceOp,
    vector: Option<usize>,
    columns: usize,
    rows: Option<usize>,
    tile: Tile,
    /// Output axes other than rows and columns, outermost first.
    outer: Vec<usize>,
    /// Reduction axes with their extents, outermost first.
    reduction: Vec<(usize, usize)>,
    /// The same before adjacent axes were merged: the order inside packed panels.
    packed_reduction: Vec<(usize, usize)>,
    /// Whether panels of columns are the outermost loop.
    columns_first: bool,
    /// Parts of the reduction that are read side by side.
    streams: usize,
    /// Reads whose padding the loops are split around.
    padded: Vec<Expr>,
    lanes: usize,
    /// Where several steps are taken at once.
    dot: Option<dot::Product>,
}

impl Plan {
    /// Steps of the innermost axis of the reduction that are taken at once.
    fn unit(&self) -> usize {
        self.dot.as_ref().map_or(1, |d| d.steps)
    }
}

pub(super) fn emit(
    e: &mut Emitter,
    stage: &Stage,
    op: ReduceOp,
    value: &Expr,
    finish: &Expr,
    vector: Option<usize>,
) -> Result<(), ScheduleError> {
    let mut tiles = Tiles::new(e, stage, op, value, finish, vector);
    tiles.block(e);
    e.note(match tiles.plan.vector {
        Some(_) if tiles.plan.streams > 1 => format!("contract(mr=1 nr={} streams={})", tiles.nr(), tiles.plan.streams),
        Some(_) => {
            let dot = if tiles.plan.dot.is_some() { format!(" dot={}", tiles.plan.unit()) } else { String::new() };
            let blocks = tiles.blocks.as_ref().map_or(String::new(), |b| format!(" blocks={}", b.n));
            format!("contract(mr={} nr={} ku={}{dot}{blocks})", tiles.plan.tile.mr, tiles.nr(), e.machine.choice.steps)
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
    rows_ahead: Option<RowsAhead>,
    blocks: Option<Blocks>,
}

impl Tiles {
    pub(super) fn new(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr, vector: Option<usize>) -> Self {
        let plan = plan(e, stage, op, value, finish, vector);
        let mut packed = HashMap::new();
        if let Some(axis) = plan.vector {
            let nr = plan.tile.nv * plan.lanes;
            let batch: Vec<usize> = (0..plan.stage.axes.len()).filter(|&a| a != axis && plan.stage.axes[a] > 1).collect();
            for load in loads(&plan.value) {
                let group = if plan.dot.as_ref().is_some_and(|d| d.column == load) { plan.unit() } else { 1 };
                let reduction = Reduction { read: &plan.packed_reduction, merged: &plan.reduction, group };
                if let Some(p) = pack(e, &plan.stage, &load, axis, (nr, plan.lanes), &batch, &reduction, plan.columns) {
                    packed.insert(load, p);
                }
            }
        }
        let ahead = ahead(e, &plan, &packed, None);
        let rows_ahead = rows_ahead(e, &plan);
        Tiles { plan, packed, ahead, rows_ahead, blocks: None }
    }

    /// Cuts the reduction into blocks, where that is worth it.
    fn block(&mut self, e: &mut Emitter) {
        let plan = &self.plan;
        let (Some(v), true, true) = (plan.vector, plan.columns_first && plan.streams == 1, plan.padded.is_empty()) else { return };
        let axes = plan.stage.axes.len() + plan.stage.reduce.len();
        if plan.value.dtype() != DType::F32 || (0..axes).any(|a| plan.stage.bound(a).is_some()) {
            return;
        }
        let rows: Vec<(usize, usize)> = plan.outer.iter().chain(&plan.rows).map(|&a| (a, plan.stage.axes[a])).collect();
        let product = Product {
            row_bytes: row_bytes(e, &plan.value, v),
            rows: &rows,
            reduction: &plan.reduction,
            nr: self.nr(),
            n_panels: plan.columns / self.nr(),
        };
        self.blocks = Blocks::new(e, &product);
        self.ahead = ahead(e, plan, &self.packed, self.blocks.as_ref());
    }

    /// What tiles of so many vectors ask for.
    fn asks(&self, nv: usize) -> Asks<'_> {
        let whole = nv == self.plan.tile.nv;
        Asks { weights: self.ahead.as_ref().filter(|_| whole), rows: self.rows_ahead.as_ref().filter(|_| whole) }
    }

    /// Rows of a tile.
    pub(super) fn mr(&self) -> usize {
        self.plan.tile.mr
    }

    /// Columns of a tile.
    pub(super) fn nr(&self) -> usize {
        self.plan.tile.nv * self.plan.lanes
    }

    /// The loops over all outputs whose `fixed` axes are those of the point.
    pub(super) fn emit(&self, e: &mut Emitter, point: Point, fixed: &[usize]) -> Result<(), ScheduleError> {
        e.packed = self.packed.clone();
        let plan = &self.plan;
        let outer: Vec<usize> = plan.outer.iter().copied().filter(|a| !fixed.contains(a)).collect();
        let result = if plan.columns_first {
            let panel = |e: &mut Emitter, point: Point, (nv, valid): (usize, u32), block: Option<&Block<'_>>| {
                let asks = self.asks(nv);
                outer_loops(e, plan, &outer, point, &mut |e, point| {
                    row_loop(e, plan, point, &mut |e, point, mr| tile(e, plan, (asks, block), point, (mr, nv, valid)))
                })
            };
            match (&self.blocks, plan.vector) {
                (Some(blocks), Some(axis)) => {
                    let nr = self.nr() as i64;
                    let panels = (plan.columns as i64 / nr, nr);
                    let whole = (plan.tile.nv, plan.lanes as u32);
                    blocks.emit(e, &format!("i{axis}"), panels, &mut |e, column, block| {
                        let mut at = point.clone();
                        at.axes[axis] = column;
                        panel(e, at, whole, Some(block))
                    })?;
                    last_columns(e, plan, axis, point, &mut |e, point, nv, valid| panel(e, point, (nv, valid), None))
                }
                _ => column_loop(e, plan, point, &mut |e, point, nv, valid| panel(e, point, (nv, valid), None)),
            }
        } else {
            outer_loops(e, plan, &outer, point, &mut |e, point| {
                row_loop(e, plan, point, &mut |e, point, mr| {
                    column_loop(e, plan, point, &mut |e, point, nv, valid| {
                        let asks = self.asks(nv);
                        tile(e, plan, (asks, None), point, (mr, nv, valid))
                    })
                })
            })
        };
        e.packed.clear();
        result
    }
}

/// What a tile asks for while it is computed.
#[derive(Clone, Copy, Default)]
struct Asks<'a> {
    weights: Option<&'a Ahead>,
    rows: Option<&'a RowsAhead>,
}

impl Asks<'_> {
    /// Asks at one iteration of the reduction.
    fn emit(self, e: &mut Emitter, at: &Point) {
        if let Some(weights) = self.weights {
            weights.emit(e, at);
        }
        if let Some(rows) = self.rows {
            rows.emit(e, at);
        }
    }
}

/// How the tiles of a panel ask for the next one.
fn ahead(e: &Emitter, plan: &Plan, packed: &HashMap<Expr, Packed>, blocks: Option<&Blocks>) -> Option<Ahead> {
    if plan.dot.is_some() {
        return None;
    }
    let mut packed = packed.iter();
    let (Some((load, packed)), None, 1) = (packed.next(), packed.next(), plan.streams) else { return None };
    let outer: Vec<(usize, usize)> = plan.outer.iter().map(|&a| (a, plan.stage.axes[a])).collect();
    let column = (packed.axis, packed.panel / packed.nr);
    let batch: Vec<(usize, i64)> =
        plan.outer.iter().filter_map(|a| packed.strides.iter().find(|s| s.0 == *a)).map(|s| (s.0, s.1)).collect();
    let (panels, n_panels, outer) = if plan.columns_first {
        (vec![column], packed.full as usize, outer)
    } else if packed.full == 1 && batch.len() == plan.outer.len() && batch.iter().map(|b| b.1).min() == Some(packed.panel) {
        (batch, outer.iter().map(|o| o.1).product(), vec![])
    } else {
        return None;
    };
    let loops = TileLoops {
        panels: &panels,
        n_panels,
        outer: &outer,
        rows: plan.rows.map(|r| (r, plan.stage.axes[r])),
        mr: plan.tile.mr,
        reduction: &plan.packed_reduction,
        steps: e.machine.choice.steps,
        blocks,
    };
    Ahead::new(e, packed, load.dtype().size_bytes(), &loops)
}

/// How the tiles of some rows ask for the next ones, where another thread may have written them.
fn rows_ahead(e: &mut Emitter, plan: &Plan) -> Option<RowsAhead> {
    if plan.dot.is_some() {
        return None;
    }
    let (Some(vector), Some(rows), &[reduction]) = (plan.vector, plan.rows, &plan.reduction[..]) else { return None };
    if e.machine.threads < 2 || plan.streams != 1 {
        return None;
    }
    let of_rows: Vec<Expr> = loads(&plan.value).into_iter().filter(|l| !expr_depends(l, vector) && expr_depends(l, rows)).collect();
    let [load] = &of_rows[..] else { return None };
    let nr = (plan.tile.nv * plan.lanes) as i64;
    let n_panels = if plan.columns_first { 1 } else { plan.columns as i64 / nr };
    RowsAhead::new(e, load, plan.stage.axes.len(), (rows, plan.tile.mr as i64), reduction, (vector, nr, n_panels))
}

fn plan(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr, vector: Option<usize>) -> Plan {
    let padded: Vec<Expr> = loads(value).into_iter().filter(|l| borders::in_place(e, stage, op, value, l)).collect();
    let mut stage = stage.clone();
    let n = stage.axes.len();
    let (_, _, out_strides) = e.memory_of(stage.out);
    let out_stride = |stage: &Stage, axis: usize| -> i64 {
        stage.write.iter().zip(&out_strides).map(|(a, s)| a.coefficient(Var::Axis(axis as u32)) * s).sum()
    };
    let mut outer: Vec<usize> = (0..n).filter(|&a| Some(a) != vector && stage.axes[a] > 1).collect();
    outer.sort_by_key(|&a| -out_stride(&stage, a));
    let reach = |e: &Emitter, axis: usize| -> i64 {
        let strides = loads(value).into_iter().map(|l| {
            let Node::Load { tensor, index, .. } = l.node() else { return 0 };
            if e.packable_constant(*tensor).is_some() {
                return 0;
            }
            index.iter().zip(e.strides_of(*tensor)).map(|(ix, s)| coefficient(ix, axis) * s).sum::<i64>().abs()
        });
        strides.max().unwrap_or(0)
    };
    let mut reduction: Vec<usize> = (n..n + stage.reduce.len()).filter(|&a| stage.reduce[a - n] > 1).collect();
    reduction.sort_by_key(|&a| -reach(e, a));

    let packed_reduction: Vec<(usize, usize)> = reduction.iter().map(|&a| (a, stage.reduce[a - n])).collect();
    let accesses = accesses(e, &stage, value, finish, vector, &packed_reduction, &|a| if a < n { out_stride(&stage, a) } else { 0 });
    let pinned = pinned(&[value, finish], n + stage.reduce.len());
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
        Some(v) if [value, finish].into_iter().flat_map(loads).all(|l| in_part(e, &l, v)) => e.machine.covering(columns),
        _ => e.machine.narrowed(columns),
    };
    let lanes = if vector.is_some() { machine.lanes as usize } else { 1 };
    // Rows share what does not depend on them: the columns' operand.
    let shares = |a: usize| vector.is_some_and(|v| loads(value).iter().any(|l| expr_depends(l, v) && !expr_depends(l, a)));
    let rows = outer.iter().rev().copied().find(|&a| shares(a)).or(outer.last().copied());
    outer.retain(|&a| Some(a) != rows);
    let n_rows = rows.map_or(1, |r| stage.axes[r]);
    let broadcast = vector.is_some_and(|v| loads(value).iter().any(|l| !expr_depends(l, v)));
    let tile = match vector {
        Some(_) if broadcast => choose_tile(&machine, n_rows, columns, rows.map_or(1, |r| rows_in_cache(e, value, r))),
        Some(_) => {
            let vectors = columns.div_ceil(lanes);
            match n_rows {
                _ if machine.exact && op == ReduceOp::Sum && n_rows > 3 => window_tile(&machine, n_rows),
                1 => Tile { mr: 1, nv: vectors.min(8) },
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
    let tile = if broadcast && rows.is_none() && stage.bounds.iter().all(Option::is_none) {
        shared_columns(&machine, columns, depth, tile)
    } else {
        tile
    };
    let columns_first = vector.is_some_and(|v| {
        let bytes = depth * columns * element_bytes;
        let n_panels = columns / (tile.nv * lanes);
        let far = bytes > e.machine.l2_bytes / 2
            || machine.exact && n_panels >= 8 && bytes >= 128 << 10 && row_bytes(e, value, v) / 4 * element_bytes <= e.machine.l2_bytes / 4;
        let n_tiles = outer.iter().map(|&a| stage.axes[a]).product::<usize>() * n_rows.div_ceil(tile.mr);
        far && n_tiles > 1 && !outer.iter().any(|&a| loads(value).iter().any(|l| expr_depends(l, v) && expr_depends(l, a)))
    });
    let streams = match reduction[..] {
        _ if dot.is_some() => 1,
        [(axis, extent)] if stage.bound(axis).is_none() && e.machine.exact && broadcast && rows.is_none() && padded.is_empty() => {
            n_streams(&e.machine, extent, columns)
        }
        _ => 1,
    };
    Plan {
        stage,
        value: value.clone(),
        finish: finish.clone(),
        op,
        vector,
        columns,
        rows,
        tile,
        outer,
        reduction,
        packed_reduction,
        columns_first,
        streams,
        padded,
        lanes,
        dot,
    }
}

/// Bytes of the tensors of which rows are read: what does not depend on the columns.
fn row_bytes(e: &Emitter, value: &Expr, columns: usize) -> usize {
    let bytes = |l: &Expr| match l.node() {
        Node::Load { tensor, .. } => n_elements(&e.program().tensors[tensor.0 as usize].dims) * 4,
        _ => 0,
    };
    loads(value).iter().filter(|l| !expr_depends(l, columns)).map(bytes).sum()
}

/// Whether the first lanes of a vector along `axis` are one load.
fn in_part(e: &Emitter, load: &Expr, axis: usize) -> bool {
    let Node::Load { tensor, index, .. } = load.node() else { return true };
    if !expr_depends(load, axis) || packable(e, load, axis) {
        return true;
    }
    let stride: i64 = index.iter().zip(e.strides_of(*tensor)).map(|(ix, s)| coefficient(ix, axis) * s).sum();
    matches!(load.dtype(), DType::F32 | DType::I32) && stride == 1
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

/// How many rows of what is read stay in the first-level cache at once: those that are whole pages apart share its sets.
fn rows_in_cache(e: &Emitter, value: &Expr, rows: usize) -> usize {
    let apart = |l: &Expr| {
        let Node::Load { tensor, index, .. } = l.node() else { return false };
        let stride: i64 = index.iter().zip(e.strides_of(*tensor)).map(|(ix, s)| coefficient(ix, rows) * s).sum();
        stride != 0 && stride * l.dtype().size_bytes() as i64 % 4096 == 0
    };
    if loads(value).iter().any(apart) { 8 } else { usize::MAX }
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
                let mut along: Vec<i64> =
                    (0..n).map(|axis| index.iter().zip(&strides).map(|(ix, s)| coefficient(ix, axis) * s).sum()).collect();
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

/// Called with the number of vectors and the valid lanes of the last one.
type Columns<'f> = dyn FnMut(&mut Emitter, Point, usize, u32) -> Result<(), ScheduleError> + 'f;
type Loops<'f> = dyn FnMut(&mut Emitter, Point, &mut Inner<'_>) -> Result<(), ScheduleError> + 'f;
type Inner<'f> = dyn FnMut(&mut Emitter, Point) -> Result<(), ScheduleError> + 'f;

fn outer_loops(e: &mut Emitter, plan: &Plan, axes: &[usize], point: Point, f: &mut Inner<'_>) -> Result<(), ScheduleError> {
    let Some((&axis, rest)) = axes.split_first() else { return f(e, point) };
    let runs: Vec<Run> = match plan.stage.bound(axis) {
        Some(_) => vec![Emitter::whole(&plan.stage, axis).take(1)],
        None => {
            let cuts = borders::cuts(e, &plan.stage, &plan.padded.iter().collect::<Vec<_>>(), axis);
            cuts.windows(2).map(|part| Rest::of(part[0]..part[1]).take(1)).collect()
        }
    };
    for run in runs {
        e.run_loop(&format!("i{axis}"), &run, |e, v| {
            let mut at = point.clone();
            at.axes[axis] = v;
            outer_loops(e, plan, rest, at, f)
        })?;
    }
    Ok(())
}

fn row_loop(
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
fn column_loop(e: &mut Emitter, plan: &Plan, point: Point, f: &mut Columns<'_>) -> Result<(), ScheduleError> {
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
fn last_columns(e: &mut Emitter, plan: &Plan, axis: usize, point: Point, f: &mut Columns<'_>) -> Result<(), ScheduleError> {
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

/// A tile of `mr` rows and `nv` vectors, of the last of which so many lanes are valid: all of its reduction, or one block.
fn tile(
    e: &mut Emitter,
    plan: &Plan,
    (asks, block): (Asks<'_>, Option<&Block<'_>>),
    point: Point,
    (mr, nv, valid): (usize, usize, u32),
) -> Result<(), ScheduleError> {
    let dtype = plan.value.dtype();
    let lanes = plan.lanes as u32;
    let ty = VecType { dtype, lanes };
    let cell = |point: &Point, row: usize, vector: usize| {
        let mut at = point.clone();
        if let Some(r) = plan.rows {
            at.axes[r].constant += row as i64;
        }
        if let Some(axis) = plan.vector {
            at.axes[axis].constant += (vector * plan.lanes) as i64;
            at.vector = Some(Lanes { axis, lanes, valid: if vector + 1 == nv { valid } else { lanes } });
        }
        at
    };
    let start = identity(plan.op, dtype);
    let n = plan.stage.axes.len();
    let reduced: Vec<usize> = (n..n + plan.stage.reduce.len()).collect();
    let mut accs: Vec<Reg> = vec![];
    let waiting = |point: &Point, block: &Block<'_>, i: usize| {
        let (row, vector) = (i / nv, i % nv);
        block.place(&cell(point, row, 0), (vector * plan.lanes) as i64)
    };
    let first = e.constant(dtype, start, lanes);
    for i in 0..mr * nv {
        let acc = e.b.reg(ty);
        match block {
            Some(block) if !block.first => {
                let (buffer, at) = waiting(&point, block, i);
                e.b.set(acc, Op::Load { buffer, index: at.into() });
            }
            _ => e.b.set(acc, Op::Copy(first)),
        }
        accs.push(acc);
    }
    for row in 0..mr {
        for vector in 0..nv {
            e.hoist(&plan.value, &cell(&point, row, vector), &reduced)?;
        }
    }
    let order = e.machine.choice.order;
    let factors = (mr > 1).then(|| row_and_column_factors(plan)).flatten();
    let budget = match mr * nv {
        _ if !plan.padded.is_empty() => usize::MAX,
        8.. => UNROLLED_STEPS,
        _ => 2 * UNROLLED_STEPS,
    };
    let step = |e: &mut Emitter, point: Point| {
        if let Some(product) = &plan.dot {
            let extent = plan.reduction.last().map_or(1, |r| r.1);
            for row in 0..mr {
                let bytes = product.row(e, extent, &cell(&point, row, 0), lanes)?;
                for vector in 0..nv {
                    let weights = e.value(&product.column, &cell(&point, row, vector), None)?;
                    let acc = accs[row * nv + vector];
                    e.b.set(acc, Op::Dot(acc, bytes, weights));
                }
            }
            return Ok(());
        }
        for row in 0..mr {
            let inside = |e: &Emitter, vector: usize| !plan.padded.iter().any(|l| borders::outside(e, l, &cell(&point, row, vector)));
            let vectors: Vec<usize> = (0..nv).filter(|&vector| inside(e, vector)).collect();
            if vectors.is_empty() {
                continue;
            }
            if let Some((row_factor, column_factor)) = &factors
                && order != Order::AtUse
            {
                for vector in 0..if row == 0 { nv } else { 0 } {
                    e.value(column_factor, &cell(&point, 0, vector), None)?;
                }
                let broadcasts = match (order, row) {
                    (Order::Ahead, 0) => 0..2,
                    (Order::Ahead, _) => row + 1..row + 2,
                    (_, 0) => 0..mr,
                    _ => 0..0,
                };
                for ahead in broadcasts.start..broadcasts.end.min(mr) {
                    let factor = e.value(row_factor, &cell(&point, ahead, 0), None)?;
                    e.splat(factor, lanes);
                }
            }
            for vector in vectors {
                accumulate(e, plan.op, &plan.value, &cell(&point, row, vector), accs[row * nv + vector])?;
            }
        }
        Ok(())
    };
    let part = block.map(|b| b.part(&plan.stage, &plan.reduction));
    let (stage, reduction) = part.as_ref().map_or((&plan.stage, &plan.reduction), |p| (&p.0, &p.1));
    let weights = asks.weights.map(|a| block.map_or_else(|| a.clone(), |b| a.within(b)));
    let asks = Asks { weights: weights.as_ref(), rows: asks.rows.filter(|_| block.is_none()) };
    let loops: &mut Loops<'_> = match plan.streams {
        1 => &mut |e, point, f| reduction_loops(e, (stage, plan.unit()), reduction, budget, asks, point, f),
        n => &mut move |e, point, f| streams(e, plan.reduction[0], n as i64, point, f),
    };
    loops(e, point.clone(), &mut |e, mut point| {
        if let Some(block) = block {
            point.axes[block.axis()] = point.axes[block.axis()].plus(&block.base);
        }
        // Steps share the vectors that a window slides over, not broadcasts: those are loaded again for less than they would occupy.
        if factors.is_some() || plan.dot.is_some() { e.forgetting(|e| step(e, point)) } else { step(e, point) }
    })?;
    if let Some(block) = block.filter(|b| !b.last) {
        for (i, &acc) in accs.iter().enumerate() {
            let (buffer, at) = waiting(&point, block, i);
            e.b.store(buffer, at, acc);
        }
        return Ok(());
    }
    if plan.rows.is_some() && mr > 1 && is_heavy(&plan.finish) && matches!(dtype, DType::F32 | DType::I32) {
        return finish_from_memory(e, plan, &point, (mr, nv), &accs, &cell);
    }
    for row in 0..mr {
        for vector in 0..nv {
            let at = cell(&point, row, vector);
            let result = e.value(&plan.finish, &at, Some(accs[row * nv + vector]))?;
            e.store(&plan.stage, &at, result);
        }
    }
    Ok(())
}

/// Ends a tile in a loop over its rows: the sums go through a small buffer, which leaves all registers to the epilogue.
fn finish_from_memory(
    e: &mut Emitter,
    plan: &Plan,
    point: &Point,
    (mr, nv): (usize, usize),
    accs: &[Reg],
    cell: &dyn Fn(&Point, usize, usize) -> Point,
) -> Result<(), ScheduleError> {
    let rows = plan.rows.expect("a tile of several rows");
    let (lanes, width) = (plan.lanes as i64, (nv * plan.lanes) as i64);
    let buffer = e.tile_buffer(plan.value.dtype(), plan.tile.mr * plan.tile.nv * plan.lanes);
    for (i, &acc) in accs.iter().enumerate() {
        e.b.store(buffer, Affine::constant(i as i64 * lanes), acc);
    }
    e.forget();
    let together = (e.n_streams() / nv).clamp(1, mr);
    let full = (mr / together * together) as i64;
    for (range, step) in [(0..full, together), (full..mr as i64, (mr % together).max(1))] {
        e.for_loop("row", range, step as i64, |e, row| {
            let cells: Vec<(usize, usize)> = (0..step).flat_map(|u| (0..nv).map(move |vector| (u, vector))).collect();
            e.side_by_side(&cells, |e, &(u, vector)| {
                let row = row.offset(u as i64);
                let sum = e.b.load(buffer, row.times(width).offset(vector as i64 * lanes), plan.lanes as u32);
                let mut at = point.clone();
                at.axes[rows] = at.axes[rows].plus(&row);
                let at = cell(&at, 0, vector);
                let result = e.value(&plan.finish, &at, Some(sum))?;
                e.store(&plan.stage, &at, result);
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// The factors of a product of which one moves only along rows and the other only along columns.
fn row_and_column_factors(plan: &Plan) -> Option<(Expr, Expr)> {
    let (Node::Binary(BinaryOp::Mul, x, y), Some(axis), Some(rows)) = (plan.value.node(), plan.vector, plan.rows) else { return None };
    let (row, column) = if expr_depends(x, axis) { (y, x) } else { (x, y) };
    (!expr_depends(row, axis) && !expr_depends(column, rows)).then(|| (row.clone(), column.clone()))
}

/// One loop over a reduction cut into `n` equal parts that are read side by side, and what is left: memory gives several streams
/// faster than one.
fn streams(e: &mut Emitter, (axis, extent): (usize, usize), n: i64, point: Point, f: &mut Inner<'_>) -> Result<(), ScheduleError> {
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
fn reduction_loops(
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

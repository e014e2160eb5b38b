//! Reductions along adjacent elements: lanes along the reduction, several accumulators, combined at the end. Products of two
//! factors share their loads in a tile of rows and columns.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, Run, expr_depends, halves, stride_along, vector_ok};
use super::prepare::{transposable, transposed_constant};
use super::reduce::{Along, along, combine, identity, loads, loop_over};
use crate::expr::{BinaryOp, Expr, Node, ReduceOp, Stage};
use crate::nest::{Affine, Op, Reg, VecType};
use crate::tensor::{DType, n_elements};

/// Accumulators that hide the latency of an addition.
const ACCUMULATORS: i64 = 4;

/// Operations that add up the lanes of a sum.
const LANE_SUM: usize = 10;

/// Called with the points of a tile.
type Points<'f> = dyn FnMut(&mut Emitter, &[Point]) -> Result<(), ScheduleError> + 'f;

/// The reduction axis along which every read that moves is adjacent, if there is one worth lanes.
pub(super) fn axis(e: &Emitter, stage: &Stage, value: &Expr) -> Option<usize> {
    let n = stage.axes.len();
    (n..n + stage.reduce.len())
        .filter(|&a| stage.reduce[a - n] >= 8 && matches!(value.dtype(), DType::F32 | DType::I32) && vector_ok(value, a))
        .filter(|&a| loads(value).iter().all(|l| adjacent(e, l, a)))
        .max_by_key(|&a| stage.reduce[a - n])
}

fn adjacent(e: &Emitter, load: &Expr, axis: usize) -> bool {
    if matches!(load.node(), Node::Load { pad: Some(_), .. }) && expr_depends(load, axis) {
        return false;
    }
    match along(e, load, axis) {
        Along::Independent | Along::Unit => true,
        Along::Strided => false,
        Along::Constant => stride(e, load, axis) == 1 || transposable(e, load, axis).is_some(),
    }
}

/// Whether lanes along the reduction's `axis` take fewer operations than lanes along the outputs' axis `columns`: most of their vectors would
/// be empty, and what it costs to add up the lanes of each sum is less than that.
pub(super) fn is_shorter(e: &Emitter, stage: &Stage, axis: usize, columns: usize) -> bool {
    let (depth, n_columns) = (n_elements(&stage.reduce), stage.axes[columns]);
    let lanes = (e.machine.lanes as usize).min(stage.reduce[axis - stage.axes.len()]);
    (depth * n_columns).div_ceil(lanes) + LANE_SUM * n_columns < depth / 5 * 4
}

/// Elements from one step along an axis to the next.
fn stride(e: &Emitter, load: &Expr, axis: usize) -> i64 {
    let Node::Load { tensor, index, .. } = load.node() else { return 0 };
    stride_along(index, &e.strides_of(*tensor), axis)
}

/// The value with constants that it strides through transposed.
fn with_adjacent_constants(e: &mut Emitter, value: &Expr, axis: usize) -> Expr {
    let mut value = value.clone();
    for load in loads(&value) {
        if matches!(along(e, &load, axis), Along::Constant)
            && stride(e, &load, axis) != 1
            && let Some(moved) = transposed_constant(e, &load, axis)
        {
            value = value.rewrite(&mut |x| if x == load { moved.clone() } else { x });
        }
    }
    value
}

/// Output axes of a tile: rows that only one factor of the product depends on, columns that only the other does.
struct Tile {
    rows: Option<(usize, i64)>,
    columns: Option<(usize, i64)>,
}

impl Tile {
    fn of(e: &Emitter, stage: &Stage, value: &Expr) -> Self {
        let none = Tile { rows: None, columns: None };
        let Node::Binary(BinaryOp::Mul, x, y) = value.node() else { return none };
        let only = |a: &Expr, b: &Expr| {
            let axes = (0..stage.axes.len()).filter(|&i| stage.axes[i] > 1 && expr_depends(a, i) && !expr_depends(b, i));
            axes.max_by_key(|&i| stage.axes[i])
        };
        let (mut rows, mut columns) = (only(x, y), only(y, x));
        if rows.map(|a| stage.axes[a]) > columns.map(|a| stage.axes[a]) {
            (rows, columns) = (columns, rows);
        }
        let many = e.machine.n_registers >= 32;
        // Eight sums hide the latency of two multiply-adds a cycle.
        let (n_rows, n_columns) = match (rows, many) {
            (None, true) => (1, 8),
            (_, true) => (4, 4),
            (_, false) => (2, 4),
        };
        let sized = |axis: Option<usize>, n: i64| axis.map(|a| (a, n.min(stage.axes[a] as i64)));
        Tile { rows: sized(rows, n_rows), columns: sized(columns, n_columns) }
    }

    /// Loops over all outputs, tile by tile: `f` gets the points of each.
    fn for_each(&self, e: &mut Emitter, stage: &Stage, point: Point, f: &mut Points<'_>) -> Result<(), ScheduleError> {
        let tiled = [self.columns, self.rows];
        let others: Vec<usize> = (0..stage.axes.len()).filter(|&a| tiled.iter().flatten().all(|t| t.0 != a)).collect();
        loop_over(e, stage, &others, point, &mut |e, point| spread(e, stage, &tiled, vec![point], f))
    }
}

/// Loops over the tiled axes; inside, the points are those of one tile.
fn spread(
    e: &mut Emitter,
    stage: &Stage,
    tiled: &[Option<(usize, i64)>],
    points: Vec<Point>,
    f: &mut Points<'_>,
) -> Result<(), ScheduleError> {
    let Some((&first, rest)) = tiled.split_first() else { return f(e, &points) };
    let Some((axis, step)) = first else { return spread(e, stage, rest, points, f) };
    let extent = stage.axes[axis] as i64;
    let mut left = Emitter::whole(stage, axis);
    let runs: Vec<Run> = match left.is_live() {
        true => halves(step).map(|step| left.take(step)).collect(),
        false => {
            let full = left.take(step);
            let rest = (extent - full.range.end).max(1);
            vec![full, left.take(rest)]
        }
    };
    for run in runs {
        let step = run.step;
        e.run_loop(&format!("i{axis}"), &run, |e, v| {
            let shifted = points.iter().flat_map(|p| {
                let v = &v;
                (0..step).map(move |i| {
                    let mut at = p.clone();
                    at.axes[axis] = v.offset(i);
                    at
                })
            });
            spread(e, stage, rest, shifted.collect(), f)
        })?;
    }
    Ok(())
}

pub(super) fn emit(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr, axis: usize) -> Result<(), ScheduleError> {
    let value = &with_adjacent_constants(e, value, axis);
    let n = stage.axes.len();
    // Of a sum that is not long the end counts, which goes one by one.
    let mut lanes = e.machine.lanes;
    let depth = n_elements(&stage.reduce);
    while lanes > 4 && (depth < 4 * lanes as usize || stage.reduce[axis - n] % lanes as usize * 16 > stage.reduce[axis - n]) {
        lanes /= 2;
    }
    let (extent, dtype) = (stage.reduce[axis - n] as i64, value.dtype());
    let tile = Tile::of(e, stage, value);
    let size = |axis: Option<(usize, i64)>| axis.map_or(1, |a| a.1);
    let cells = size(tile.rows) * size(tile.columns);
    // The accumulators of a tile hide each other's latency.
    let accumulators = (ACCUMULATORS / cells).max(1);
    let wide = i64::from(lanes) * accumulators;
    e.note(match cells {
        1 => format!("reduce(lanes={lanes} accumulators={accumulators})"),
        _ => format!("reduce(lanes={lanes} accumulators={accumulators} mr={} nr={})", size(tile.rows), size(tile.columns)),
    });
    let others: Vec<usize> = (n..n + stage.reduce.len()).filter(|&a| a != axis).collect();
    let all: Vec<usize> = (n..n + stage.reduce.len()).collect();
    let point = Point { axes: vec![Affine::default(); n + stage.reduce.len()], vector: None };
    tile.for_each(e, stage, point, &mut |e, points| {
        let ty = VecType { dtype, lanes };
        let start = identity(op, dtype);
        let register = |e: &mut Emitter, ty: VecType| {
            let acc = e.b.reg(ty);
            let c = e.constant(dtype, start, ty.lanes);
            e.b.set(acc, Op::Copy(c));
            acc
        };
        let each = if extent >= wide { accumulators } else { 1 };
        let accs: Vec<Vec<Reg>> = points.iter().map(|_| (0..each).map(|_| register(e, ty)).collect()).collect();
        let has_tail = stage.bound(axis).is_some() || extent % i64::from(lanes) != 0;
        let tails: Vec<Reg> = points.iter().filter(|_| has_tail).map(|_| register(e, VecType::scalar(dtype))).collect();
        let vectors: Vec<Point> = points.iter().map(|p| Point { vector: Some(Lanes { axis, lanes, valid: lanes }), ..p.clone() }).collect();
        for vector in &vectors {
            e.hoist(value, vector, &all)?;
        }
        reduction_loops(e, stage, &others, vectors, &mut |e, vectors| {
            let mut left = Emitter::whole(stage, axis);
            for step in if each > 1 { vec![wide, i64::from(lanes)] } else { vec![i64::from(lanes)] } {
                e.run_loop("k", &left.take(step), |e, k| {
                    for u in 0..step / i64::from(lanes) {
                        for (at, accs) in vectors.iter().zip(&accs) {
                            let mut at = at.clone();
                            at.axes[axis] = k.offset(u * i64::from(lanes));
                            accumulate(e, op, value, &at, accs[u as usize % accs.len()])?;
                        }
                    }
                    Ok(())
                })?;
            }
            if has_tail {
                e.run_loop("k", &left.take(1), |e, k| {
                    for (at, &tail) in vectors.iter().zip(&tails) {
                        let mut at = Point { vector: None, ..at.clone() };
                        at.axes[axis] = k.clone();
                        accumulate(e, op, value, &at, tail)?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        let both = combine(op, dtype);
        for (i, (point, accs)) in points.iter().zip(&accs).enumerate() {
            let mut sums = accs.clone();
            while sums.len() > 1 {
                sums = sums.chunks(2).map(|p| if p.len() == 2 { e.b.binary(both, p[0], p[1]) } else { p[0] }).collect();
            }
            let mut total = e.b.op(VecType::scalar(dtype), Op::Horizontal(both, sums[0]));
            if let Some(&tail) = tails.get(i) {
                total = e.b.binary(both, total, tail);
            }
            let result = e.value(finish, point, Some(total))?;
            e.store(stage, point, result);
        }
        Ok(())
    })
}

/// Adds one value to an accumulator: a product by multiply-add, its broadcast factor first.
pub(super) fn accumulate(e: &mut Emitter, op: ReduceOp, value: &Expr, at: &Point, acc: Reg) -> Result<(), ScheduleError> {
    let lanes = e.b.ty(acc).lanes;
    if let (ReduceOp::Sum, Node::Binary(BinaryOp::Mul, x, y), true) = (op, value.node(), value.dtype().is_float()) {
        let (x, y) = (e.value(x, at, None)?, e.value(y, at, None)?);
        let (x, y) = if e.b.ty(x).lanes > e.b.ty(y).lanes { (y, x) } else { (x, y) };
        let (x, y) = (e.splat(x, lanes), e.splat(y, lanes));
        e.b.set(acc, Op::Fma(x, y, acc));
        return Ok(());
    }
    let x = e.value(value, at, None)?;
    let x = e.splat(x, lanes);
    let op = combine(op, value.dtype());
    e.b.set(acc, Op::Binary(op, acc, x));
    Ok(())
}

/// Loops over reduction axes, one element at a time.
fn reduction_loops(e: &mut Emitter, stage: &Stage, axes: &[usize], points: Vec<Point>, f: &mut Points<'_>) -> Result<(), ScheduleError> {
    let Some((&axis, rest)) = axes.split_first() else { return f(e, &points) };
    e.run_loop(&format!("r{axis}"), &Emitter::whole(stage, axis).take(1), |e, v| {
        let mut points = points.clone();
        points.iter_mut().for_each(|at| at.axes[axis] = v.clone());
        reduction_loops(e, stage, rest, points, f)
    })
}

//! Reductions along adjacent elements: lanes along the reduction, several accumulators, combined at the end. Products of two
//! factors share their loads in a tile of rows and columns.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, Rest, Run, expr_depends, halves, index_depends, is_heavy, stride_along, vector_ok};
use super::machine::Machine;
use super::prepare::{transposable, transposed_constant};
use super::reduce::{Along, along, combine, identity, loads, loop_over};
use crate::expr::{BinaryOp, Expr, Ix, Node, ReduceOp, Stage};
use crate::nest::{Affine, Op, Reg, VecType};
use crate::tensor::{DType, n_elements};

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

/// The elements that one loop along a reduction runs over, and the axes that stay around it: axes along which memory goes on as along the
/// inner one are part of that.
fn merged(e: &Emitter, stage: &Stage, value: &Expr, axis: usize) -> (usize, Vec<usize>) {
    let n = stage.axes.len();
    let extent_of = |a: usize| stage.reduce[a - n];
    let mut others: Vec<usize> = (n..n + stage.reduce.len()).filter(|&a| a != axis).collect();
    let mut extent = extent_of(axis);
    let goes_on = |a: usize, extent: usize| {
        let mut plain = true;
        value.visit(&mut |x| match x.node() {
            Node::Load { tensor, index, pad } => {
                let strides = e.strides_of(*tensor);
                let along = |a: usize| -> i64 { stride_along(index, &strides, a) };
                let depends = index_depends(index, a) || index_depends(index, axis);
                let affine = pad.is_none() && index.iter().all(|ix| matches!(ix, Ix::Affine(_)));
                plain &= !depends || affine && along(a) == along(axis) * extent as i64;
            }
            Node::Index(_) => plain &= !expr_depends(x, a) && !expr_depends(x, axis),
            _ => {}
        });
        plain
    };
    while stage.bound(axis).is_none()
        && let Some(i) = others.iter().position(|&a| stage.bound(a).is_none() && goes_on(a, extent))
    {
        extent *= extent_of(others.remove(i));
    }
    (extent, others)
}

/// Output axes of a tile: rows that only one factor of the product depends on, columns that only the other does.
struct Tile {
    rows: Option<(usize, i64)>,
    columns: Option<(usize, i64)>,
}

impl Tile {
    fn of(e: &Emitter, stage: &Stage, value: &Expr) -> Self {
        let Node::Binary(BinaryOp::Mul, x, y) = value.node() else { return Tile { rows: None, columns: None } };
        let sized = |axis: Option<usize>, n: i64| axis.map(|a| (a, n.min(stage.axes[a] as i64)));
        let longest = |a: &Expr, b: &Expr| {
            let axes = (0..stage.axes.len()).filter(|&i| stage.axes[i] > 1 && expr_depends(a, i) && !expr_depends(b, i));
            axes.max_by_key(|&i| stage.axes[i])
        };
        let (mut rows, mut columns) = (longest(x, y), longest(y, x));
        if rows.map(|a| stage.axes[a]) > columns.map(|a| stage.axes[a]) {
            (rows, columns) = (columns, rows);
        }
        let (n_rows, n_columns) = tile_sums(&e.machine, rows.is_some());
        Tile { rows: sized(rows, n_rows as i64), columns: sized(columns, n_columns as i64) }
    }

    /// Sums of a tile.
    fn cells(&self) -> i64 {
        [self.rows, self.columns].iter().flatten().map(|a| a.1).product()
    }

    /// Loops over all outputs, tile by tile: `f` gets the points of each.
    fn for_each(&self, e: &mut Emitter, stage: &Stage, point: Point, f: &mut Points<'_>) -> Result<(), ScheduleError> {
        let tiled = [self.columns, self.rows];
        let others: Vec<usize> = (0..stage.axes.len()).filter(|&a| tiled.iter().flatten().all(|t| t.0 != a)).collect();
        loop_over(e, stage, &others, point, &mut |e, point| spread(e, stage, &tiled, vec![point], f))
    }
}

/// Rows and columns of a tile: as many as hide the latency of multiply-adds, twice as many where rows share loads; half of that where registers
/// do not hold them with their operands.
fn tile_sums(machine: &Machine, has_rows: bool) -> (usize, usize) {
    if let Some(n) = machine.choice.sums {
        return if has_rows { ((n / 4).max(1), n.min(4)) } else { (1, n) };
    }
    let hiding = machine.sums_at_once().max(2);
    let (most, fewer) =
        if has_rows { ((hiding / 2, hiding / 2), ((hiding / 4).max(1), hiding / 2)) } else { ((1, hiding), (1, hiding / 2)) };
    if most.0 * most.1 + most.0 + most.1 < machine.n_registers { most } else { fewer }
}

/// How a reduction is written out.
struct Plan {
    /// Elements that the loop in lanes runs over.
    extent: i64,
    /// Axes of the reduction around it.
    others: Vec<usize>,
    tile: Tile,
    /// Lanes of the widest sums.
    lanes: u32,
    /// Lanes of the loops along the reduction, the widest first.
    widths: Vec<u32>,
    /// Sums of one output that go forward side by side.
    accumulators: i64,
}

impl Plan {
    fn of(e: &Emitter, stage: &Stage, value: &Expr, axis: usize) -> Self {
        let (extent, others) = merged(e, stage, value, axis);
        let (live, depth) = (stage.bound(axis).is_some(), n_elements(&stage.reduce));
        let tile = Tile::of(e, stage, value);
        let cells = tile.cells();
        // Of a sum that is not long the end counts. It goes one by one where only a run knows it, or a tile has no registers for narrower sums.
        let by_one = live || cells > 1;
        let mut lanes = e.machine.lanes;
        while lanes > 4 && (depth < 4 * lanes as usize || by_one && extent % lanes as usize * 16 > extent) {
            lanes /= 2;
        }
        let extent = extent as i64;
        // The accumulators of a tile hide each other's latency.
        let n = e.machine.choice.sums.unwrap_or(e.machine.accumulators()) as i64;
        // As many as values are computed side by side, which takes longer than to add them, and wants the registers.
        let most = if computes(value) { e.n_streams() as i64 } else { n };
        let accumulators = (n.min(most) / cells).max(1);
        Plan { extent, others, tile, lanes, widths: widths(extent, lanes, live, by_one), accumulators }
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

/// Emits the reduction; where `written` says where each value goes, it goes there too.
pub(super) fn emit(
    e: &mut Emitter,
    stage: &Stage,
    op: ReduceOp,
    value: &Expr,
    finish: &Expr,
    axis: usize,
    written: Option<&Stage>,
) -> Result<(), ScheduleError> {
    let value = &with_adjacent_constants(e, value, axis);
    let n = stage.axes.len();
    let (live, dtype) = (stage.bound(axis).is_some(), value.dtype());
    let Plan { extent, others, tile, lanes, widths, accumulators } = Plan::of(e, stage, value, axis);
    let (wide, cells) = (i64::from(lanes) * accumulators, tile.cells());
    e.forms.offer_sums((cells * accumulators) as usize, if cells > 1 { usize::MAX } else { extent as usize / lanes as usize });
    let size = |axis: Option<(usize, i64)>| axis.map_or(1, |a| a.1);
    e.note(match cells {
        1 => format!("reduce(lanes={lanes} accumulators={accumulators})"),
        _ => format!("reduce(lanes={lanes} accumulators={accumulators} mr={} nr={})", size(tile.rows), size(tile.columns)),
    });
    let all: Vec<usize> = (n..n + stage.reduce.len()).collect();
    let point = Point { axes: vec![Affine::default(); n + stage.reduce.len()], vector: None };
    tile.for_each(e, stage, point, &mut |e, points| {
        let start = identity(op, dtype);
        let register = |e: &mut Emitter, lanes: u32| {
            let acc = e.b.reg(VecType { dtype, lanes });
            let c = e.constant(dtype, start, lanes);
            e.b.set(acc, Op::Copy(c));
            acc
        };
        let each = if extent >= wide { accumulators } else { 1 };
        // By point and width.
        let sums: Vec<Vec<Vec<Reg>>> = points
            .iter()
            .map(|_| widths.iter().map(|&w| (0..if w == lanes { each } else { 1 }).map(|_| register(e, w)).collect()).collect())
            .collect();
        let widest = Some(Lanes { axis, lanes, valid: lanes });
        for point in points {
            e.hoist(value, &Point { vector: widest, ..point.clone() }, &all)?;
        }
        reduction_loops(e, stage, &others, points.to_vec(), &mut |e, points| {
            let mut left = if live { Emitter::whole(stage, axis) } else { Rest::of(0..extent) };
            for (w, &width) in widths.iter().enumerate() {
                let (vector, width) = ((width > 1).then_some(Lanes { axis, lanes: width, valid: width }), i64::from(width));
                let mut steps = vec![width];
                if w == 0 && each > 1 {
                    steps.insert(0, wide);
                }
                for step in steps {
                    e.run_loop("k", &left.take(step), |e, k| {
                        let places: Vec<(Point, Reg)> = (0..step / width)
                            .flat_map(|u| {
                                let (k, sums) = (k.offset(u * width), &sums);
                                points.iter().zip(sums).map(move |(at, sums)| {
                                    (Point { vector, ..at.moved(axis, k.clone()) }, sums[w][u as usize % sums[w].len()])
                                })
                            })
                            .collect();
                        if written.is_none() && !computes(value) {
                            return places.iter().try_for_each(|(at, sum)| accumulate(e, op, value, at, *sum));
                        }
                        places.chunks(e.n_streams()).try_for_each(|places| {
                            let mut values = vec![];
                            e.side_by_side(places, |e, (at, _)| {
                                let x = e.value(value, at, None)?;
                                values.push(x);
                                if let Some(written) = written {
                                    e.store(written, at, x);
                                }
                                Ok(())
                            })?;
                            places.iter().zip(values).for_each(|((_, sum), x)| add_to(e, op, value.dtype(), *sum, x));
                            Ok(())
                        })
                    })?;
                }
            }
            Ok(())
        })?;
        let both = combine(op, dtype);
        for (point, sums) in points.iter().zip(&sums) {
            let mut total = None;
            for sums in sums {
                let mut sums = sums.clone();
                while sums.len() > 1 {
                    sums = sums.chunks(2).map(|p| if p.len() == 2 { e.b.binary(both, p[0], p[1]) } else { p[0] }).collect();
                }
                let sum = match e.b.ty(sums[0]).lanes {
                    1 => sums[0],
                    _ => e.b.op(VecType::scalar(dtype), Op::Horizontal(both, sums[0])),
                };
                total = Some(total.map_or(sum, |total| e.b.binary(both, total, sum)));
            }
            let result = e.value(finish, point, total)?;
            e.store(stage, point, result);
        }
        Ok(())
    })
}

/// The lanes of the loops along a sum: the widest, and narrower ones or one for what that leaves.
fn widths(extent: i64, lanes: u32, live: bool, by_one: bool) -> Vec<u32> {
    let rest = extent % i64::from(lanes);
    let narrower = std::iter::successors(Some(lanes / 2), |w| Some(w / 2)).take_while(|&w| w >= 4);
    let narrower = narrower.filter(|&w| !by_one && rest & i64::from(w) != 0);
    let mut widths: Vec<u32> = std::iter::once(lanes).chain(narrower).collect();
    if live || rest % if by_one { i64::from(lanes) } else { 4 } != 0 {
        widths.push(1);
    }
    widths
}

/// Whether values take longer to compute than to add; a product is added by one instruction.
fn computes(value: &Expr) -> bool {
    is_heavy(value) && !matches!(value.node(), Node::Binary(BinaryOp::Mul, ..))
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
    add_to(e, op, value.dtype(), acc, x);
    Ok(())
}

/// Combines an accumulator with a value, the same in all lanes where it has one.
fn add_to(e: &mut Emitter, op: ReduceOp, dtype: DType, acc: Reg, x: Reg) {
    let x = e.splat(x, e.b.ty(acc).lanes);
    e.b.set(acc, Op::Binary(combine(op, dtype), acc, x));
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

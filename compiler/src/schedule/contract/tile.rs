//! One register tile: its sums, and what is made of them.

use super::ask::Asks;
use super::loops::{Loops, reduction_loops, streams};
use super::plan::Plan;
use super::turned;
use crate::expr::{BinaryOp, Expr, Node, ReduceOp};
use crate::nest::{Affine, Op, Reg, VecType};
use crate::schedule::blocks::Block;
use crate::schedule::choice::Order;
use crate::schedule::emitter::{Emitter, Lanes, Point, expr_depends, is_heavy};
use crate::schedule::inner_product::accumulate;
use crate::schedule::reduce::{combine, identity};
use crate::schedule::{ScheduleError, borders};
use crate::tensor::DType;

/// Multiply-adds in the unrolled body of the innermost reduction loop, about.
const UNROLLED_STEPS: usize = 12;

/// A tile of `mr` rows and `nv` vectors, of the last of which so many lanes are valid: all of its reduction, or one block.
pub(super) fn tile(
    e: &mut Emitter,
    plan: &Plan,
    (asks, block): (Asks<'_>, Option<&Block<'_>>),
    point: Point,
    (mr, nv, valid): (usize, usize, u32),
) -> Result<(), ScheduleError> {
    let dtype = plan.value.dtype();
    let lanes = plan.lanes as u32;
    let last = narrow(e, plan, valid);
    let lanes_of = |vector: usize| if vector + 1 == nv { last } else { lanes };
    let cell = |point: &Point, row: usize, vector: usize| cell(plan, point, (row, vector), (nv, last, valid));
    let start = identity(plan.op, dtype);
    let n = plan.stage.axes.len();
    let reduced: Vec<usize> = (n..n + plan.stage.reduce.len()).collect();
    let waiting = |point: &Point, block: &Block<'_>, i: usize| {
        let (row, vector) = (i / nv, i % nv);
        block.place(&cell(point, row, 0), (vector * plan.lanes) as i64)
    };
    let sum = |e: &mut Emitter, i: usize| {
        let ty = VecType { dtype, lanes: lanes_of(i % nv) };
        let first = e.constant(dtype, start, ty.lanes);
        let acc = e.b.reg(ty);
        match block {
            Some(block) if !block.first => {
                let (buffer, at) = waiting(&point, block, i);
                e.b.set(acc, Op::Load { buffer, index: at.into() });
            }
            _ => e.b.set(acc, Op::Copy(first)),
        }
        acc
    };
    let accs: Vec<Reg> = (0..mr * nv).map(|i| sum(e, i)).collect();
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
    let window = plan.in_lanes.as_ref().and_then(|w| Some((w, w.middle_step(&plan.stage)?)));
    // Steps in turn go to two sums, where one of each row would wait for the one before.
    let waits = 2 * mr * nv * e.machine.fma_tenths() <= e.machine.latency_tenths() && plan.op == ReduceOp::Sum;
    let in_turn = window.filter(|_| block.is_none() && waits && e.machine.n_registers >= 32).map(|(_, (axis, _))| axis);
    let second: Vec<Reg> = if in_turn.is_some() { (0..mr * nv).map(|i| sum(e, i)).collect() } else { vec![] };
    let step = |e: &mut Emitter, point: Point| {
        let odd = in_turn.is_some_and(|axis| point.axes[axis].constant % 2 == 1);
        let accs = if odd { &second } else { &accs };
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
        let inside =
            |e: &Emitter, row: usize, vector: usize| !plan.padded.iter().any(|l| borders::outside(e, l, &cell(&point, row, vector)));
        for row in 0..mr {
            let vectors: Vec<usize> = (0..nv).filter(|&vector| inside(e, row, vector)).collect();
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
                    if !inside(e, ahead, 0) {
                        continue;
                    }
                    let factor = e.value(row_factor, &cell(&point, ahead, 0), None)?;
                    e.splat(factor, lanes);
                }
            }
            if let Some((window, (axis, middle))) = &window
                && point.axes[*axis] == Affine::default()
            {
                let point = point.moved(*axis, Affine::constant(*middle));
                for &vector in &vectors {
                    e.value(&window.load, &cell(&point, row, vector), None)?;
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
    let others = if block.is_none() { asks } else { Asks::default() };
    let asks = Asks { weights: weights.as_ref(), ..others };
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
    for (&acc, &other) in accs.iter().zip(&second) {
        e.b.set(acc, Op::Binary(combine(plan.op, dtype), acc, other));
    }
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
    if mr > 1 && turned::is_turned(e, plan) {
        return (0..nv).try_for_each(|vector| {
            let at = |row: usize| cell(&point, row, vector);
            let finished = (0..mr).map(|row| e.value(&plan.finish, &at(row), Some(accs[row * nv + vector])));
            let results = finished.collect::<Result<Vec<_>, _>>()?;
            turned::store(e, plan, &results, &at);
            Ok(())
        });
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

/// The point of a row and a vector of a tile of `nv` vectors, the last of which has `last` lanes, of which so many are valid.
pub(super) fn cell(plan: &Plan, point: &Point, (row, vector): (usize, usize), (nv, last, valid): (usize, u32, u32)) -> Point {
    let mut at = point.clone();
    if let Some(r) = plan.rows {
        at.axes[r].constant += row as i64;
    }
    if let Some(axis) = plan.vector {
        let lanes = plan.lanes as u32;
        let (lanes, valid) = if vector + 1 == nv { (last, valid) } else { (lanes, lanes) };
        at.axes[axis].constant += (vector * plan.lanes) as i64;
        at.vector = Some(Lanes { axis, lanes, valid });
    }
    at
}

/// Lanes of the last vector of a tile, of which so many are valid: no more than it needs, since where a multiply-add of the widest vectors
/// is two of half of it, one of fewer lanes takes half the time.
pub(super) fn narrow(e: &Emitter, plan: &Plan, valid: u32) -> u32 {
    let lanes = plan.lanes as u32;
    if !e.machine.exact || plan.dot.is_some() || plan.vector.is_none() { lanes } else { valid.next_power_of_two().max(4).min(lanes) }
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
    let is_turned = plan.finish.dtype() == plan.value.dtype() && turned::is_turned(e, plan);
    let buffer = e.tile_buffer(plan.value.dtype(), (plan.tile.mr * plan.tile.nv).max(mr * nv) * plan.lanes);
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
                let mut at = point.clone();
                at.axes[rows] = at.axes[rows].plus(&row);
                let at = cell(&at, 0, vector);
                let (place, lanes) = (row.times(width).offset(vector as i64 * lanes), at.vector.map_or(1, |v| v.lanes));
                let sum = e.b.load(buffer, place.clone(), lanes);
                let result = e.value(&plan.finish, &at, Some(sum))?;
                if is_turned {
                    let result = e.splat(result, lanes);
                    e.b.store(buffer, place, result);
                } else {
                    e.store(&plan.stage, &at, result);
                }
                Ok(())
            })
        })?;
    }
    if !is_turned {
        return Ok(());
    }
    for vector in 0..nv {
        let at = |row: usize| cell(point, row, vector);
        let load = |row: usize| {
            let place = Affine::constant(row as i64 * width + vector as i64 * lanes);
            e.b.load(buffer, place, at(0).vector.map_or(1, |v| v.lanes))
        };
        let results: Vec<Reg> = (0..mr).map(load).collect();
        turned::store(e, plan, &results, &at);
    }
    Ok(())
}

/// The factors of a product of which one moves only along rows and the other only along columns.
fn row_and_column_factors(plan: &Plan) -> Option<(Expr, Expr)> {
    let (Node::Binary(BinaryOp::Mul, x, y), Some(axis), Some(rows)) = (plan.value.node(), plan.vector, plan.rows) else { return None };
    let (row, column) = if expr_depends(x, axis) { (y, x) } else { (x, y) };
    (!expr_depends(row, axis) && !expr_depends(column, rows)).then(|| (row.clone(), column.clone()))
}

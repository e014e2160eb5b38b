//! Reductions along adjacent elements: lanes along the reduction, several accumulators, combined at the end.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, vector_ok};
use super::reduce::{Along, along, combine, identity, loads, loop_over};
use crate::expr::{BinaryOp, Expr, Node, ReduceOp, Stage};
use crate::nest::{Affine, Op, Reg, VecType};
use crate::tensor::DType;

/// Accumulators that hide the latency of an addition.
const ACCUMULATORS: i64 = 4;

/// The reduction axis along which every read that moves is adjacent, if there is one worth lanes.
pub(super) fn axis(e: &Emitter, stage: &Stage, value: &Expr, _finish: &Expr) -> Option<usize> {
    let n = stage.axes.len();
    (n..n + stage.reduce.len())
        .filter(|&a| stage.reduce[a - n] >= 8 && value.dtype() == DType::F32 && vector_ok(value, a))
        .filter(|&a| loads(value).iter().all(|l| adjacent(e, l, a)))
        .max_by_key(|&a| stage.reduce[a - n])
}

fn adjacent(e: &Emitter, load: &Expr, axis: usize) -> bool {
    match along(e, load, axis) {
        Along::Independent | Along::Unit => true,
        Along::Strided => false,
        // Constants are read where they are.
        Along::Constant => {
            let Node::Load { tensor, index, .. } = load.node() else { return false };
            let stride: i64 = index.iter().zip(e.strides_of(*tensor)).map(|(ix, s)| super::emitter::coefficient(ix, axis) * s).sum();
            stride == 1
        }
    }
}

pub(super) fn emit(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr, axis: usize) -> Result<(), ScheduleError> {
    let n = stage.axes.len();
    // Of a sum that is not long the end counts, which goes one by one.
    let mut lanes = e.machine.lanes;
    while lanes > 4
        && (stage.reduce[axis - n] < 4 * lanes as usize || stage.reduce[axis - n] % lanes as usize * 16 > stage.reduce[axis - n])
    {
        lanes /= 2;
    }
    let extent = stage.reduce[axis - n] as i64;
    let wide = i64::from(lanes) * ACCUMULATORS;
    e.note(format!("reduce(lanes={lanes} accumulators={ACCUMULATORS})"));
    let others: Vec<usize> = (n..n + stage.reduce.len()).filter(|&a| a != axis).collect();
    let axes: Vec<usize> = (0..n).collect();
    let all: Vec<usize> = (n..n + stage.reduce.len()).collect();
    let point = Point { axes: vec![Affine::default(); n + stage.reduce.len()], vector: None };
    loop_over(e, stage, &axes, point, &mut |e, point| {
        let ty = VecType { dtype: DType::F32, lanes };
        let start = identity(op, DType::F32);
        let accs: Vec<Reg> = (0..if extent >= wide { ACCUMULATORS } else { 1 })
            .map(|_| {
                let acc = e.b.reg(ty);
                let c = e.constant(DType::F32, start, lanes);
                e.b.set(acc, Op::Copy(c));
                acc
            })
            .collect();
        let has_tail = extent % i64::from(lanes) != 0;
        let tail = has_tail.then(|| {
            let acc = e.b.reg(VecType::scalar(DType::F32));
            let c = e.constant(DType::F32, start, 1);
            e.b.set(acc, Op::Copy(c));
            acc
        });
        let vector = Point { vector: Some(Lanes { axis, lanes, valid: lanes }), ..point.clone() };
        e.hoist(value, &vector, &all)?;
        reduction_loops(e, stage, &others, vector, &mut |e, at| {
            let mut from = 0;
            for step in [wide, i64::from(lanes)] {
                let end = from + (extent - from) / step * step;
                e.for_loop("k", from..end, step, |e, k| {
                    for u in 0..step / i64::from(lanes) {
                        let mut at = at.clone();
                        at.axes[axis] = k.offset(u * i64::from(lanes));
                        accumulate(e, op, value, &at, accs[u as usize % accs.len()])?;
                    }
                    Ok(())
                })?;
                from = end;
            }
            if let Some(tail) = tail {
                let mut scalar = at.clone();
                scalar.vector = None;
                e.for_loop("k", from..extent, 1, |e, k| {
                    let mut at = scalar.clone();
                    at.axes[axis] = k;
                    accumulate(e, op, value, &at, tail)
                })?;
            }
            Ok(())
        })?;
        let both = combine(op, DType::F32);
        let mut sums = accs;
        while sums.len() > 1 {
            sums = sums.chunks(2).map(|p| if p.len() == 2 { e.b.binary(both, p[0], p[1]) } else { p[0] }).collect();
        }
        let mut total = e.b.op(VecType::scalar(DType::F32), Op::Horizontal(both, sums[0]));
        if let Some(tail) = tail {
            total = e.b.binary(both, total, tail);
        }
        let result = e.value(finish, &point, Some(total))?;
        e.store(stage, &point, result);
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
fn reduction_loops(
    e: &mut Emitter,
    stage: &Stage,
    axes: &[usize],
    point: Point,
    f: &mut dyn FnMut(&mut Emitter, Point) -> Result<(), ScheduleError>,
) -> Result<(), ScheduleError> {
    let Some((&axis, rest)) = axes.split_first() else { return f(e, point) };
    e.for_loop(&format!("r{axis}"), 0..stage.reduce[axis - stage.axes.len()] as i64, 1, |e, v| {
        let mut at = point.clone();
        at.axes[axis] = v;
        reduction_loops(e, stage, rest, at, f)
    })
}

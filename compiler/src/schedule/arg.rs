//! Positions of extreme values along one axis. Lanes lie along an axis of the output that is adjacent in what is read, or along the
//! reduction, of which each lane then takes its part; else one value goes after the other. All of them agree on every value: an
//! element that is not a number never wins, and a first one that is not is never beaten.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, Rest, stride_along, vector_ok};
use super::reduce::{Along, along, loads, loop_over};
use crate::expr::{Expr, Node, ReduceOp, Stage};
use crate::nest::{Affine, BinaryOp, CompareOp, Op, Reg, Scalar, VecType};
use crate::tensor::{DType, Tensor};

/// What is sought.
struct Search<'a> {
    stage: &'a Stage,
    value: &'a Expr,
    /// The reduction axis.
    axis: usize,
    extent: i64,
    is_max: bool,
    last: bool,
}

/// Vectors that are compared side by side: a comparison waits for the one before it. What a value is computed from needs registers too.
fn side_by_side(e: &Emitter, value: &Expr) -> i64 {
    let mut n_parts = 0;
    value.visit(&mut |_| n_parts += 1);
    let most = e.machine.n_registers.saturating_sub(3 + n_parts) / 2;
    e.machine.accumulators().min(most).max(1) as i64
}

/// Registers of the best values and their places.
type Best = (Reg, Reg);

/// How a load moves along an axis, of constants too as they lie in memory.
fn moves(e: &Emitter, load: &Expr, axis: usize) -> Along {
    match (along(e, load, axis), load.node()) {
        (Along::Constant, Node::Load { tensor, index, .. }) => {
            if stride_along(index, &e.strides_of(*tensor), axis) == 1 {
                Along::Unit
            } else {
                Along::Strided
            }
        }
        (other, _) => other,
    }
}

/// The position of the extreme value along the only reduction axis.
pub(super) fn emit(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, last: bool) -> Result<(), ScheduleError> {
    let (axis, extent) = (stage.axes.len(), stage.reduce[0] as i64);
    let search = Search { stage, value, axis, extent, is_max: op != ReduceOp::Min, last };
    let fits = matches!(value.dtype(), DType::F32 | DType::I32) && extent < i64::from(i32::MAX);
    let adjacent = |e: &Emitter, axis: usize| {
        let moves: Vec<Along> = loads(value).iter().map(|l| moves(e, l, axis)).collect();
        vector_ok(value, axis)
            && moves.iter().all(|m| matches!(m, Along::Unit | Along::Independent))
            && moves.iter().any(|m| matches!(m, Along::Unit))
    };
    let columns = (0..axis).filter(|&a| fits && stage.axes[a] >= 4 && adjacent(e, a)).max_by_key(|&a| stage.axes[a]);
    let lanes = i64::from(e.machine.lanes);
    if let Some(columns) = columns {
        return search.by_columns(e, columns);
    }
    if fits && extent >= 2 * lanes && adjacent(e, axis) {
        return search.by_parts(e);
    }
    e.note("arg()".to_owned());
    let axes: Vec<usize> = (0..axis).collect();
    loop_over(e, stage, &axes, search.origin(), &mut |e, point| {
        let best = search.first(e, &point, 1, DType::I64)?;
        search.one_by_one(e, &point, best, &mut Emitter::whole(stage, axis).after(1.min(extent)))?;
        e.store(stage, &point, best.1);
        Ok(())
    })
}

impl Search<'_> {
    fn origin(&self) -> Point {
        Point { axes: vec![Affine::default(); self.axis + 1], vector: None }
    }

    /// Whether a new value beats the best one.
    fn relation(&self) -> CompareOp {
        match (self.is_max, self.last) {
            (false, false) => CompareOp::Lt,
            (false, true) => CompareOp::Le,
            (true, false) => CompareOp::Gt,
            (true, true) => CompareOp::Ge,
        }
    }

    /// Registers that hold the first value, and its place.
    fn first(&self, e: &mut Emitter, point: &Point, lanes: u32, place: DType) -> Result<Best, ScheduleError> {
        let (best, at) = (e.b.reg(VecType { dtype: self.value.dtype(), lanes }), e.b.reg(VecType { dtype: place, lanes }));
        let value = e.value(self.value, point, None)?;
        let value = e.splat(value, lanes);
        e.b.set(best, Op::Copy(value));
        e.b.set(at, Op::Const(Scalar::Int(0)));
        Ok((best, at))
    }

    /// Takes the new values that are better, and where they are.
    fn take(&self, e: &mut Emitter, (best, at): Best, new: Reg, place: Reg) {
        let better = e.b.compare(self.relation(), new, best);
        e.b.set(best, Op::Select(better, new, best));
        e.b.set(at, Op::Select(better, place, at));
    }

    fn one_by_one(&self, e: &mut Emitter, point: &Point, best: Best, rest: &mut Rest) -> Result<(), ScheduleError> {
        e.run_loop("k", &rest.take(1), |e, k| {
            let new = e.value(self.value, &point.moved(self.axis, k.clone()), None)?;
            let place = e.b.index(k);
            self.take(e, best, new, place);
            Ok(())
        })
    }

    /// Lanes along an axis of the output.
    fn by_columns(&self, e: &mut Emitter, columns: usize) -> Result<(), ScheduleError> {
        let mut lanes = e.machine.lanes;
        while i64::from(lanes) > self.stage.axes[columns] as i64 {
            lanes /= 2;
        }
        e.note(format!("arg(lanes={lanes})"));
        let axes: Vec<usize> = (0..self.axis).filter(|&a| a != columns).collect();
        loop_over(e, self.stage, &axes, self.origin(), &mut |e, point| {
            let mut rest = Emitter::whole(self.stage, columns);
            for (n, lanes) in [(side_by_side(e, self.value), lanes), (1, lanes), (1, 1)] {
                e.run_loop(&format!("i{columns}"), &rest.take(n * i64::from(lanes)), |e, v| {
                    let vector = (lanes > 1).then_some(Lanes { axis: columns, lanes, valid: lanes });
                    let points: Vec<Point> = (0..n)
                        .map(|u| {
                            let mut at = Point { vector, ..point.clone() };
                            at.axes[columns] = v.offset(u * i64::from(lanes));
                            at
                        })
                        .collect();
                    self.columns(e, &points, lanes)
                })?;
            }
            Ok(())
        })
    }

    fn columns(&self, e: &mut Emitter, points: &[Point], lanes: u32) -> Result<(), ScheduleError> {
        let bests: Vec<Best> = points.iter().map(|p| self.first(e, p, lanes, DType::I32)).collect::<Result<_, _>>()?;
        let ty = VecType { dtype: DType::I32, lanes };
        let (place, one) = (e.b.reg(ty), e.b.int(ty, 1));
        e.b.set(place, Op::Const(Scalar::Int(0)));
        e.run_loop("k", &Emitter::whole(self.stage, self.axis).after(1).take(1), |e, k| {
            e.b.set(place, Op::Binary(BinaryOp::Add, place, one));
            for (point, &best) in points.iter().zip(&bests) {
                let new = e.value(self.value, &point.moved(self.axis, k.clone()), None)?;
                let new = e.splat(new, lanes);
                self.take(e, best, new, place);
            }
            Ok(())
        })?;
        for (point, best) in points.iter().zip(bests) {
            let place = e.b.convert(best.1, DType::I64);
            e.store(self.stage, point, place);
        }
        Ok(())
    }

    /// Lanes along the reduction.
    fn by_parts(&self, e: &mut Emitter) -> Result<(), ScheduleError> {
        let (lanes, at_once) = (e.machine.lanes, side_by_side(e, self.value));
        let wide = i64::from(lanes) * at_once;
        e.note(format!("arg(lanes={lanes} parts)"));
        let counted: Vec<i32> = (0..lanes as i32).collect();
        let counted = e.new_constant("places", Tensor::from_slice(&[lanes as usize], &counted));
        let axes: Vec<usize> = (0..self.axis).collect();
        loop_over(e, self.stage, &axes, self.origin(), &mut |e, point| {
            let n = if self.extent >= wide { at_once } else { 1 };
            let bests: Vec<Best> = (0..n).map(|_| self.first(e, &point, lanes, DType::I32)).collect::<Result<_, _>>()?;
            let ty = VecType { dtype: DType::I32, lanes };
            let (place, step) = (e.b.reg(ty), e.b.int(ty, i64::from(lanes)));
            let start = e.b.load(counted, Affine::default(), lanes);
            e.b.set(place, Op::Copy(start));
            let mut rest = Emitter::whole(self.stage, self.axis);
            let vector = Some(Lanes { axis: self.axis, lanes, valid: lanes });
            let steps: &[i64] = if n > 1 { &[n, 1] } else { &[1] };
            for &n in steps {
                e.run_loop("k", &rest.take(n * i64::from(lanes)), |e, k| {
                    for (u, &best) in (0..n).zip(&bests) {
                        let mut at = Point { vector, ..point.clone() };
                        at.axes[self.axis] = k.offset(u * i64::from(lanes));
                        let new = e.value(self.value, &at, None)?;
                        self.take(e, best, new, place);
                        e.b.set(place, Op::Binary(BinaryOp::Add, place, step));
                    }
                    Ok(())
                })?;
            }
            let best = self.of_lanes(e, &bests, lanes);
            self.one_by_one(e, &point, best, &mut rest)?;
            e.store(self.stage, &point, best.1);
            Ok(())
        })
    }

    /// The best of all lanes of some registers, as scalars.
    fn of_lanes(&self, e: &mut Emitter, bests: &[Best], lanes: u32) -> Best {
        let mut bests = bests.to_vec();
        while let [first, _, ..] = bests[..] {
            bests = bests.chunks(2).map(|p| if let [a, b] = p { self.better(e, *a, *b) } else { first }).collect();
        }
        let (values, places) = bests[0];
        let extreme = if self.is_max { BinaryOp::Max } else { BinaryOp::Min };
        let nearest = if self.last { BinaryOp::Max } else { BinaryOp::Min };
        let best = e.b.op(VecType::scalar(self.value.dtype()), Op::Horizontal(extreme, values));
        let all = e.splat(best, lanes);
        let holds = e.b.compare(CompareOp::Eq, values, all);
        let none = e.b.int(VecType { dtype: DType::I32, lanes }, if self.last { -1 } else { i64::from(i32::MAX) });
        let places = e.b.select(holds, places, none);
        let found = e.b.op(VecType::scalar(DType::I32), Op::Horizontal(nearest, places));
        let found = e.b.convert(found, DType::I64);
        // Lanes that begin with what is no number hold nothing else.
        let is_number = e.b.compare(CompareOp::Eq, best, best);
        let zero = e.b.int(VecType::scalar(DType::I64), 0);
        let found = e.b.select(is_number, found, zero);
        let (value, place) = (e.b.reg(VecType::scalar(self.value.dtype())), e.b.reg(VecType::scalar(DType::I64)));
        e.b.set(value, Op::Copy(best));
        e.b.set(place, Op::Copy(found));
        (value, place)
    }

    /// Of two vectors the better of each lane.
    fn better(&self, e: &mut Emitter, a: Best, b: Best) -> Best {
        let strictly = e.b.compare(if self.is_max { CompareOp::Gt } else { CompareOp::Lt }, b.0, a.0);
        let equal = e.b.compare(CompareOp::Eq, b.0, a.0);
        let sooner = e.b.compare(if self.last { CompareOp::Gt } else { CompareOp::Lt }, b.1, a.1);
        let sooner = e.b.binary(BinaryOp::And, equal, sooner);
        let wins = e.b.binary(BinaryOp::Or, strictly, sooner);
        (e.b.select(wins, b.0, a.0), e.b.select(wins, b.1, a.1))
    }
}

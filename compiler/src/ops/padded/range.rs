//! `Range` to a number that data decides.

use crate::expr::{self, BinaryOp, Expr, Ix, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Deciding, EvalError, Extent, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `Range` where `start` or `limit` is not constant: `extent` numbers, of which the first `count` are meant. More than `extent` stop the
    /// program.
    PaddedRange(start, limit, delta) -> (output, count) since [1] in "ai.tinsmith";
    /// The greatest count; -1 where that is not known.
    extent: i64,
}

/// The greatest count that is compiled.
const MAX_EXTENT: i64 = 1 << 20;
/// Numbers beyond are taken for these, so that differences do not wrap; they are out of range all the same.
const FAR: i64 = 1 << 60;

impl PaddedRange {
    fn step(x: &Operands) -> Result<f64, InferError> {
        let delta = x.value(2)?;
        match delta.to_f64s()[..] {
            [step] if step != 0.0 && step.is_finite() => Ok(step),
            _ => Err(InferError::Invalid(format!("a range in steps of `{delta:?}`"))),
        }
    }

    /// How many numbers there are.
    fn count(x: &Operands) -> Result<i64, EvalError> {
        let step = Self::step(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (start, limit) = (x.tensor(0), x.tensor(1));
        Ok(if start.dtype().is_float() {
            ((limit.to_f64s()[0] - start.to_f64s()[0]) / step).ceil().max(0.0) as i64
        } else {
            let distance = (limit.to_ints()[0] - start.to_ints()[0]) * step.signum() as i128;
            (distance.max(0) as u128).div_ceil(x.tensor(2).to_ints()[0].unsigned_abs()).min(i64::MAX as u128) as i64
        })
    }
}

impl Operator for PaddedRange {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, &[DType::I16, DType::I32, DType::I64, DType::F32, DType::F64])?;
        for i in 0..3 {
            x.require_same_dtype(i, 0)?;
            if x.dims(i)?.iter().any(|&d| d != 1) {
                return Err(InferError::Invalid(format!("operand {i} must be one number, not `{}`", x.ty(i)?)));
            }
        }
        Self::step(x)?;
        if !(0..=MAX_EXTENT).contains(&self.extent) {
            return Err(InferError::Unbounded { operand: if x.value(1).is_err() { 1 } else { 0 } });
        }
        Ok(vec![Type::fixed(dtype, &[self.extent as usize]), Type::fixed(DType::I64, &[1])])
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0].join(of[1])
    }

    fn sizes(&self, _: &Operands) -> Vec<Extent> {
        vec![Extent { result: 0, axis: 0, count: 1 }]
    }

    fn decides(&self, x: &Operands, _: usize) -> Option<Deciding> {
        let from_zero = x.ints(0).is_ok_and(|v| v == [0]) && x.ints(2).is_ok_and(|v| v == [1]);
        // A limit that is negative gives nothing.
        from_zero.then(|| Deciding { numbers: vec![], elements: vec![(1, 0)] })
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let count = Self::count(x)?;
        if count > self.extent {
            return Err(EvalError::IndexOutOfRange { index: count, extent: self.extent as usize + 1 });
        }
        let (start, delta, dims) = (x.tensor(0), x.tensor(2), [self.extent as usize]);
        let output = if start.dtype().is_float() {
            let (start_at, step) = (start.to_f64s()[0], delta.to_f64s()[0]);
            // As it is computed: in the type.
            let exact = |v: f64| if start.dtype() == DType::F64 { v } else { f64::from(v as f32) };
            Tensor::from_f64s(start.dtype(), &dims, &(0..self.extent).map(|i| start_at + exact(i as f64 * step)).collect::<Vec<_>>())
        } else {
            let (start_at, step) = (start.to_ints()[0], delta.to_ints()[0]);
            Tensor::from_ints(start.dtype(), &dims, &(0..i128::from(self.extent)).map(|i| start_at + i * step).collect::<Vec<_>>())
        };
        Ok(vec![output, Tensor::from_slice(&[1], &[count])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let dtype = b.dtype(x.tensor(0));
        let (step, delta) = (Self::step(x.facts)?, x.facts.value(2)?);
        let number = |b: &expr::Builder, i: usize| b.load(x.tensor(i), vec![0i64; b.dims(x.tensor(i)).len()]);
        let literal =
            |dtype: DType| if dtype.is_float() { Expr::constant(dtype, step) } else { Expr::int(dtype, delta.to_ints()[0] as i64) };
        let output = b.compute(&[self.extent as usize], |b, at| Expr::index(&at[0]).cast(dtype) * literal(dtype) + number(b, 0));
        let table = b.constant("count", Tensor::from_slice(&[self.extent as usize + 1], &(0..=self.extent).collect::<Vec<_>>()));
        let count = b.compute(&[1], |b, _| {
            let (start, limit) = (number(b, 0), number(b, 1));
            let count = if dtype.is_float() {
                let distance = limit.cast(DType::F64) - start.cast(DType::F64);
                (distance / Expr::constant(DType::F64, step)).unary(UnaryOp::Ceil).cast(DType::I64)
            } else {
                let near = |v: &Expr| {
                    v.cast(DType::I64)
                        .binary(BinaryOp::Max, &Expr::int(DType::I64, -FAR))
                        .binary(BinaryOp::Min, &Expr::int(DType::I64, FAR))
                };
                let (start, limit) = (near(&start), near(&limit));
                let distance = if step > 0.0 { limit.binary(BinaryOp::Sub, &start) } else { start.binary(BinaryOp::Sub, &limit) };
                let step = delta.to_ints()[0].unsigned_abs() as i64;
                let above =
                    distance.binary(BinaryOp::Max, &Expr::int(DType::I64, 0)).binary(BinaryOp::Add, &Expr::int(DType::I64, step - 1));
                above.binary(BinaryOp::Div, &Expr::int(DType::I64, step))
            };
            b.load(table, [Ix::Checked(count.binary(BinaryOp::Max, &Expr::int(DType::I64, 0)))])
        });
        Ok(vec![output, count])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, t};

    #[test]
    fn the_first_numbers_are_meant() {
        let run = |extent: i64, start: &str, limit: &str, delta: &str| {
            let check = Check::new(&format!("ai.tinsmith.PaddedRange extent={extent}")).results(2);
            check.run([t(start), t(limit), t(delta)])
        };
        assert_eq!(run(4, "i64[] 3", "i64[] 6", "i64[] 1"), [t("i64[4] 3 4 5 6"), t("i64[1] 3")]);
        assert_eq!(run(3, "i32[] 5", "i32[1] 0", "i32[] -2"), [t("i32[3] 5 3 1"), t("i64[1] 3")]);
        assert_eq!(run(2, "f32[] 1", "f32[] 1.6", "f32[] 0.5"), [t("f32[2] 1 1.5"), t("i64[1] 2")]);
        assert_eq!(run(2, "f64[] 1", "f64[] 0", "f64[] 0.5")[1], t("i64[1] 0"));
        assert_eq!(run(0, "i16[] 7", "i16[] 2", "i16[] 1")[1], t("i64[1] 0"));
        let error = |extent: i64, limit: &str| {
            check_error(&format!("ai.tinsmith.PaddedRange extent={extent}"), [t("i64[] 0"), t(limit), t("i64[] 1")])
        };
        assert_eq!(error(4, "i64[] 5"), "index 5 is out of range for extent 5");
        assert!(error(-1, "i64[] 5").contains("nothing says how large it gets"));
    }
}

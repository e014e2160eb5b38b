//! `Range`: numbers at equal distances.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Range.html>

use super::literal;
use crate::expr::{self, Expr, TensorId};
use crate::operator;
use crate::ops::padded::PaddedRange;
use crate::ops::{Args, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `start`, `start + delta`, ... up to, without, `limit`.
    Range(start, limit, delta) -> (output) since [11, 27];
}

impl Range {
    fn count(&self, x: &Operands) -> Result<usize, InferError> {
        let number = |i: usize| -> Result<(f64, i128), InferError> {
            let t = x.value(i)?;
            if t.len() != 1 {
                return Err(InferError::Invalid(format!("operand {i} must be one number, not `{}`", t.ty())));
            }
            Ok((t.to_f64s()[0], t.to_ints()[0]))
        };
        let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
        let invalid = || InferError::Invalid(format!("a range from {} to {} in steps of {}", start.0, limit.0, delta.0));
        let count = if x.dtype(0)?.is_float() {
            ((limit.0 - start.0) / delta.0).ceil().max(0.0)
        } else {
            let distance = if delta.1 >= 0 { limit.1 - start.1 } else { start.1 - limit.1 };
            if delta.1 == 0 {
                return Err(invalid());
            }
            (distance.max(0) as u128).div_ceil(delta.1.unsigned_abs()) as f64
        };
        if delta.0 == 0.0 || !(limit.0 - start.0).is_finite() || delta.0.is_nan() || count > 1e15 {
            Err(invalid())
        } else {
            Ok(count as usize)
        }
    }
}

/// How many numbers there are between these at most, in steps of `delta`; `None` if that is not bounded.
pub(in crate::ops) fn greatest_count(start: Interval, limit: Interval, delta: f64) -> Option<usize> {
    let count = if delta > 0.0 { (limit.high - start.low) / delta } else { (start.high - limit.low) / -delta };
    count.is_finite().then(|| count.ceil().max(0.0) as usize)
}

impl Operator for Range {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.dtype(0)?;
        if dtype == DType::Bool {
            return Err(InferError::ElementType { operand: 0, dtype });
        }
        x.require_same_dtype(1, 0)?;
        x.require_same_dtype(2, 0)?;
        Ok(vec![super::sized(dtype, &[self.count(x)?])?])
    }

    fn padded(&self, x: &Operands, of: &[Interval]) -> Option<Box<dyn Operator>> {
        let delta = x.value(2).ok().filter(|t| t.len() == 1)?.to_f64s()[0];
        let extent = greatest_count(of[0], of[1], delta).and_then(|n| i64::try_from(n).ok());
        Some(Box::new(PaddedRange { extent: extent.unwrap_or(-1) }))
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0].join(of[1])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let n = self.count(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (start, delta) = (x.tensor(0), x.tensor(2));
        Ok(vec![match start.dtype() {
            DType::F32 => {
                let (start, delta) = (start.as_slice::<f32>()[0], delta.as_slice::<f32>()[0]);
                Tensor::from_slice(&[n], &(0..n).map(|i| start + i as f32 * delta).collect::<Vec<_>>())
            }
            dtype if dtype.is_float() => {
                let (start, delta) = (start.to_f64s()[0], delta.to_f64s()[0]);
                Tensor::from_f64s(dtype, &[n], &(0..n).map(|i| start + i as f64 * delta).collect::<Vec<_>>())
            }
            dtype => {
                let (start, delta) = (start.to_ints()[0], delta.to_ints()[0]);
                Tensor::from_ints(dtype, &[n], &(0..n as i128).map(|i| start + i * delta).collect::<Vec<_>>())
            }
        }])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let dtype = b.dtype(x.tensor(0));
        let (start, delta) = (literal(x.facts.value(0)?), literal(x.facts.value(2)?));
        // Half-precision steps are exact in f32, sums of them are rounded once.
        let wide = if dtype.is_half() { DType::F32 } else { dtype };
        Ok(vec![b.compute(&x.result_dims(0), |_, at| (Expr::index(&at[0]).cast(wide) * delta.cast(wide) + start.cast(wide)).cast(dtype))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn numbers_at_equal_distances() {
        assert_eq!(check_op("Range", [t("i64[] 3"), t("i64[] 10"), t("i64[] 3")]), [t("i64[3] 3 6 9")]);
        assert_eq!(check_op("Range", [t("i32[] 3"), t("i32[] 0"), t("i32[] -2")]), [t("i32[2] 3 1")]);
        assert_eq!(check_op("Range", [t("f32[] 1"), t("f32[] 2"), t("f32[] 0.25")]), [t("f32[4] 1 1.25 1.5 1.75")]);
        assert_eq!(check_op("Range", [t("f32[] 2"), t("f32[] 1"), t("f32[] 1")]), [t("f32[0]")]);
        assert_eq!(check_error("Range", [t("i64[] 0"), t("i64[] 1"), t("i64[] 0")]), "a range from 0 to 1 in steps of 0");
        assert_eq!(check_error("Range", [t("f32[] 0"), t("f32[] 1"), t("f32[] 0")]), "a range from 0 to 1 in steps of 0");
    }
}

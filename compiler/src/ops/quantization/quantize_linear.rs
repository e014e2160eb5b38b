//! `QuantizeLinear`: real values as integers.
//! Spec: <https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html>

use super::{axes_of, for_each_scale, load_spread, spread, zero_points};
use crate::expr::{self, TensorId, UnaryOp};
use crate::operator;
use crate::ops::small_types::{Decoder, Encoder};
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, dtype_of_onnx};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `y = saturate(round(x / scale) + zero_point)`, rounding ties to even.
    QuantizeLinear(x, y_scale, "y_zero_point?") -> (y) since [10, 13, 19, 21, 23, 24, 25];
    /// The axis that scales and zero points belong to.
    axis: i64 = 1,
    /// Elements of `axis` that share a scale, where `y_scale` has the rank of `x`.
    block_size: i64 = 0,
    /// Element type of the result, as ONNX numbers it; that of the zero point, or `u8`, by default.
    output_dtype: i64 = 0,
    /// Type of the division, as ONNX numbers it; that of the scale by default.
    precision: i64 = 0,
    /// Whether numbers beyond the greatest of a small floating-point type become it.
    saturate: bool = true,
}

const INTEGERS: &[DType] = &[DType::I8, DType::U8, DType::I16, DType::U16];

impl QuantizeLinear {
    fn result_dtype(&self, x: &Operands) -> Result<DType, InferError> {
        let asked = match self.output_dtype {
            0 => None,
            n => Some(dtype_of_onnx(n).ok_or_else(|| InferError::Unsupported(format!("`output_dtype` {n} is not supported")))?),
        };
        let dtype = match (x.has(2), asked) {
            (true, asked) => {
                let zero = x.dtype(2)?;
                if asked.is_some_and(|a| a != zero) {
                    return Err(InferError::Invalid(format!("`output_dtype` is not the zero point's {zero}")));
                }
                zero
            }
            (false, asked) => asked.unwrap_or(DType::U8),
        };
        if INTEGERS.contains(&dtype) || dtype.is_small() {
            Ok(dtype)
        } else {
            Err(InferError::Unsupported(format!("quantization to {dtype} is not supported")))
        }
    }
}

/// Whether the type is one of the small floating-point types.
fn is_small_float(dtype: DType) -> bool {
    dtype.is_small() && !matches!(dtype, DType::U4 | DType::I4 | DType::U2 | DType::I2)
}

/// Least and greatest value of an integer type of at most 16 bits.
fn limits(dtype: DType) -> (f64, f64) {
    let (low, high) = dtype.int_range();
    (low as f64, high as f64)
}

impl Operator for QuantizeLinear {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &[DType::F16, DType::BF16, DType::F32, DType::I32])?;
        x.require_dtype(1, &[DType::F16, DType::BF16, DType::F32])?;
        if self.precision != 0 && dtype_of_onnx(self.precision) != Some(DType::F32) {
            return Err(InferError::Unsupported(format!("`precision` {} is not supported", self.precision)));
        }
        spread(x, self.axis, self.block_size)?;
        Ok(vec![x.ty(0)?.with_dtype(self.result_dtype(x)?)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        spread(x, self.axis, self.block_size).map_or_else(|_| Axes::unlinked(x), |s| axes_of(x, s))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (spread, dtype) = (spread(x, self.axis, self.block_size).map_err(invalid)?, self.result_dtype(x).map_err(invalid)?);
        let (value, scale) = (x.tensor(0), x.tensor(1).to_f64s());
        let zero = zero_points(x.tensor_opt(2), scale.len());
        let mut y = value.to_f64s();
        if is_small_float(dtype) {
            for_each_scale(value.dims(), spread, |i, s| y[i] = f64::from(y[i] as f32 / scale[s] as f32 + zero[s] as f32));
            return Ok(vec![Tensor::from_f64s_as(dtype, value.dims(), &y, self.saturate, "up")]);
        }
        let (low, high) = limits(dtype);
        // The quotient is rounded to `f32` first, which decides ties.
        for_each_scale(value.dims(), spread, |i, s| {
            let quotient = y[i] as f32 / scale[s] as f32;
            y[i] = (f64::from(quotient.round_ties_even()) + zero[s]).clamp(low, high);
        });
        Ok(vec![Tensor::from_f64s(dtype, value.dims(), &y)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let spread = spread(x.facts, self.axis, self.block_size)?;
        let (value, scale, zero) = (x.tensor(0), x.tensor(1), x.get(2));
        let dtype = x.results[0].dtype;
        if is_small_float(dtype) {
            let (decoder, encoder) = (Decoder::new(b, dtype), Encoder::new(b, dtype, self.saturate, "up"));
            return Ok(vec![b.compute(&x.result_dims(0), |b, at| {
                let mut v = b.load(value, at.to_vec()).cast(DType::F32) / load_spread(b, scale, spread, at).cast(DType::F32);
                if let Some(zero) = zero {
                    v = v + decoder.apply(b, &load_spread(b, zero, spread, at));
                }
                encoder.apply(b, &v)
            })]);
        }
        let (low, high) = limits(dtype);
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let v = b.load(value, at.to_vec()).cast(DType::F32) / load_spread(b, scale, spread, at).cast(DType::F32);
            let v = v.unary(UnaryOp::Round);
            let v = match zero {
                Some(zero) => v + load_spread(b, zero, spread, at).cast(DType::F32),
                None => v,
            };
            v.max_nan(&v.like(low)).min_nan(&v.like(high)).cast(dtype.storage())
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn ties_go_to_even_and_ends_saturate() {
        let x = || t("f32[6] 1 3 5 -1 1000 -1000");
        assert_eq!(check_op("QuantizeLinear", [x(), t("f32[] 2"), t("i8[] 1")]), [t("i8[6] 1 3 3 1 127 -128")]);
        assert_eq!(check_op("QuantizeLinear", [x(), t("f32[] 2")]), [t("u8[6] 0 2 2 0 255 0")]);
        check_op("QuantizeLinear axis=0", [random("f32[3,5]", 1), t("f32[3] 0.1 0.01 1"), t("u8[3] 128 0 3")]);
    }

    #[test]
    fn types_that_are_missing_are_named() {
        let x = || t("f32[2] 1 2");
        assert_eq!(check_error("QuantizeLinear output_dtype=6", [x(), t("f32[] 1")]), "quantization to i32 is not supported");
        assert_eq!(check_error("QuantizeLinear output_dtype=8", [x(), t("f32[] 1")]), "`output_dtype` 8 is not supported");
    }

    #[test]
    fn blocks_and_small_types() {
        let x = [t("f32[1,4] 1 2 30 40"), t("f32[1,2] 1 10")];
        assert_eq!(check_op("QuantizeLinear block_size=2", x), [t("u8[1,4] 1 2 3 4")]);
        for small in ["f8e4m3fn", "f8e5m2", "f4e2m1", "i4", "u4", "i2", "u2"] {
            for saturate in 0..2 {
                let zero = t(&format!("{small}[]"));
                check_op(&format!("QuantizeLinear saturate={saturate}"), [random("f32[5,3]", 1), t("f32[] 0.125"), zero]);
            }
        }
    }
}

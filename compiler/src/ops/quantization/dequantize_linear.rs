//! `DequantizeLinear`: the real values that integers stand for.
//! Spec: <https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html>

use super::{axes_of, for_each_scale, load_spread, spread, zero_points};
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::small_types::Decoder;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, dtype_of_onnx};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `y = (x - zero_point) * scale`, with one scale and zero point for all or for each element of `axis`.
    DequantizeLinear(x, x_scale, "x_zero_point?") -> (y) since [10, 13, 19, 21, 23, 24, 25, 28];
    /// The axis that scales and zero points belong to.
    axis: i64 = 1,
    /// Elements of `axis` that share a scale, where `x_scale` has the rank of `x`.
    block_size: i64 = 0,
    /// Element type of the result, as ONNX numbers it; that of the scale by default.
    output_dtype: i64 = 0,
}

const INTEGERS: &[DType] = &[DType::I8, DType::U8, DType::I16, DType::U16, DType::I32];
const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32];
const SCALES: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F8E8M0];

impl Operator for DequantizeLinear {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        if !x.dtype(0)?.is_small() {
            x.require_dtype(0, INTEGERS)?;
        }
        let scale = x.require_dtype(1, SCALES)?;
        if x.has(2) {
            x.require_same_dtype(2, 0)?;
        }
        spread(x, self.axis, self.block_size)?;
        let dtype = match self.output_dtype {
            0 if scale == DType::F8E8M0 => return Err(InferError::Invalid("scales of type `f8e8m0` need `output_dtype`".to_owned())),
            0 => scale,
            n => dtype_of_onnx(n)
                .filter(|d| FLOATS.contains(d))
                .ok_or_else(|| InferError::Unsupported(format!("`output_dtype` {n} is not supported")))?,
        };
        Ok(vec![x.ty(0)?.with_dtype(dtype)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        spread(x, self.axis, self.block_size).map_or_else(|_| Axes::unlinked(x), |s| axes_of(x, s))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let result = self.infer(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let spread = spread(x, self.axis, self.block_size).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (value, scale) = (x.tensor(0), x.tensor(1).to_f64s());
        let zero = zero_points(x.tensor_opt(2), scale.len());
        let mut y = value.to_f64s();
        for_each_scale(value.dims(), spread, |i, s| y[i] = (y[i] - zero[s]) * scale[s]);
        Ok(vec![Tensor::from_f64s(result[0].dtype, value.dims(), &y)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let spread = spread(x.facts, self.axis, self.block_size)?;
        let (value, scale, zero) = (x.tensor(0), x.tensor(1), x.get(2));
        let dtype = x.results[0].dtype;
        let (decoder, scales) = (Decoder::new(b, x.facts.dtype(0)?), Decoder::new(b, x.facts.dtype(1)?));
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let v = decoder.apply(b, &b.load(value, at.to_vec())).cast(DType::F32);
            let v = match zero {
                Some(zero) => v - decoder.apply(b, &load_spread(b, zero, spread, at)).cast(DType::F32),
                None => v,
            };
            (v * scales.apply(b, &load_spread(b, scale, spread, at)).cast(DType::F32)).cast(dtype)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn scales_spread_over_the_tensor_or_an_axis() {
        let x = || t("i8[2,2] 1 -2 3 -4");
        assert_eq!(check_op("DequantizeLinear", [x(), t("f32[] 0.5"), t("i8[] 1")]), [t("f32[2,2] 0 -1.5 1 -2.5")]);
        assert_eq!(check_op("DequantizeLinear axis=0", [x(), t("f32[2] 1 10")]), [t("f32[2,2] 1 -2 30 -40")]);
        assert_eq!(check_op("DequantizeLinear axis=-1", [x(), t("f32[2] 1 10"), t("i8[2] 1 0")]), [t("f32[2,2] 0 -20 2 -40")]);
        assert_eq!(check_op("DequantizeLinear", [t("i32[2] 70000 -3"), t("f32[1] 0.5")]), [t("f32[2] 35000 -1.5")]);
        check_op("DequantizeLinear axis=2", [random("u8[2,3,4]", 1), random("f32[4]", 2), random("u8[4]", 3)]);
    }

    #[test]
    fn scales_that_do_not_fit_are_refused() {
        let x = || t("u8[2,2] 1 2 3 4");
        assert_eq!(check_error("DequantizeLinear axis=0", [x(), t("f32[3] 1 1 1")]), "3 scales for axis 0 of u8[2,2]");
        let blocks = check_error("DequantizeLinear block_size=2", [x(), t("f32[1,2] 1 1")]);
        assert_eq!(blocks, "scales f32[1,2] for blocks of 2 along axis 1 of u8[2,2]");
    }

    #[test]
    fn scales_of_blocks_and_small_types() {
        let x = [t("i8[1,4] 1 2 3 4"), t("f32[1,2] 1 10")];
        assert_eq!(check_op("DequantizeLinear block_size=2", x), [t("f32[1,4] 1 2 30 40")]);
        check_op("DequantizeLinear block_size=3 axis=0", [random("u8[7,3]", 1), random("f32[3,3]", 2), random("u8[3,3]", 3)]);
        for small in ["f8e4m3fn", "f8e5m2", "f4e2m1", "i4", "u4", "i2", "u2"] {
            check_op("DequantizeLinear", [random(&format!("{small}[5,3]"), 1), t("f32[] 0.5"), random(&format!("{small}[]"), 3)]);
        }
    }
}

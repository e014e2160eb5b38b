//! `MatMulIntegerToFloat`, `DynamicQuantizeMatMul` and `QGemm`: products of integers, scaled.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulIntegerToFloat>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeMatMul>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QGemm>

use super::quantized::{BYTES, integer_product, quantize_by};
use super::steps::{add_optional, wide, wide_operand, wide_optional};
use crate::ops::composite::DynamicQuantizeLinear;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `y = (a - a_zero_point) * (b - b_zero_point) * a_scale * b_scale + bias`; scales and zero points of `b` one for all or one for each column.
    MatMulIntegerToFloat(a, b, a_scale, b_scale, "a_zero_point?", "b_zero_point?", "bias?") -> (y) since [1] in "com.microsoft";
}

operator! {
    /// `y = q(a) * (b - b_zero_point) * b_scale + bias`, where `q(a)` is `a` rounded to one of 256 numbers from its least to its greatest.
    DynamicQuantizeMatMul(a, b, b_scale, "b_zero_point?", "bias?") -> (y) since [1] in "com.microsoft";
}

operator! {
    /// `y = alpha * (a - a_zero_point) * (b - b_zero_point) * a_scale * b_scale + c` as real numbers or, where `y_scale` is given, quantized.
    QGemm(a, a_scale, a_zero_point, b, b_scale, b_zero_point, "c?", "y_scale?", "y_zero_point?") -> (y) since [1] in "com.microsoft";
    /// Scale of the product.
    alpha: f32 = 1.0,
    /// Whether `a` is transposed.
    trans_a as "transA": bool = false,
    /// Whether `b` is transposed.
    trans_b as "transB": bool = false,
}

composite!(MatMulIntegerToFloat);
composite!(DynamicQuantizeMatMul);
composite!(QGemm);

/// `sums * a_scale * b_scale + bias` in real numbers.
pub(super) fn scaled(s: &mut Steps<'_>, sums: Step, (a, b): (Step, Step), bias: Option<Step>) -> Result<Step, InferError> {
    let real = s.cast(sums, DType::F32)?;
    let (a, b) = (wide(s, a)?, wide(s, b)?);
    let scale = s.mul(a, b)?;
    if s.dims(scale)?.iter().filter(|&&d| d != 1).count() > 1 {
        return Err(InferError::Unsupported("scales of more than one axis are not supported here".to_owned()));
    }
    let y = s.mul(real, scale)?;
    add_optional(s, y, bias)
}

impl MatMulIntegerToFloat {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, BYTES)?;
        s.operands().require_dtype(1, BYTES)?;
        let dtype = s.operands().require_dtype(2, &[DType::F32, DType::F16])?;
        let (a, b) = ((s.operand(0)?, s.optional(4)), (s.operand(1)?, s.optional(5)));
        let sums = integer_product(s, a, b)?;
        let (scales, bias) = ((s.operand(2)?, s.operand(3)?), wide_optional(s, 6)?);
        let y = scaled(s, sums, scales, bias)?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

impl DynamicQuantizeMatMul {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, &[DType::F32])?;
        s.operands().require_dtype(1, BYTES)?;
        let a = wide_operand(s, 0)?;
        let rounded = s.apply_all(Box::new(DynamicQuantizeLinear {}), &[Some(a)], 3)?;
        let [a, a_scale, a_zero] = [rounded[0], rounded[1], rounded[2]];
        let b = (s.operand(1)?, s.optional(3));
        let sums = integer_product(s, (a, Some(a_zero)), b)?;
        let (b_scale, bias) = (s.operand(2)?, s.optional(4));
        Ok(vec![scaled(s, sums, (a_scale, b_scale), bias)?])
    }
}

impl QGemm {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, BYTES)?;
        s.operands().require_dtype(3, BYTES)?;
        if s.operands().rank(0)? != 2 || s.operands().rank(3)? != 2 {
            return Err(InferError::Invalid("the operands must be matrices".to_owned()));
        }
        let (mut a, mut b) = (s.operand(0)?, s.operand(3)?);
        if self.trans_a {
            a = s.transpose(a, &[1, 0])?;
        }
        if self.trans_b {
            b = s.transpose(b, &[1, 0])?;
        }
        let zeros = (s.operand(2)?, s.operand(5)?);
        let sums = integer_product(s, (a, Some(zeros.0)), (b, Some(zeros.1)))?;
        let addend = s.optional(6);
        let sums = add_optional(s, sums, addend)?;
        let (a_scale, b_scale) = (s.operand(1)?, s.operand(4)?);
        let alpha = s.number(DType::F32, self.alpha.into());
        let a_scale = s.mul(alpha, a_scale)?;
        let Some(y_scale) = s.optional(7) else {
            return Ok(vec![scaled(s, sums, (a_scale, b_scale), None)?]);
        };
        // One factor takes sums to the result's steps, as onnxruntime rounds it.
        let ratio = s.div(b_scale, y_scale)?;
        let steps = scaled(s, sums, (a_scale, ratio), None)?;
        let (one, zero) = (s.number(DType::F32, 1.0), s.optional(8));
        let dtype = zero.map_or(DType::U8, |zero| s.dtype(zero));
        Ok(vec![quantize_by(s, steps, one, zero, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_op, random, t};

    #[test]
    fn products_of_integers_are_exact() {
        let x = [t("u8[1,2] 3 5"), t("i8[2,2] 1 2 3 4"), t("f32[] 0.5"), t("f32[2] 2 4"), t("u8[] 1"), t("i8[2] 0 1"), t("f32[2] 0 100")];
        assert_eq!(check_op("com.microsoft.MatMulIntegerToFloat", x), [t("f32[1,2] 14 128")]);
        let x = [random("u8[3,4]", 1), random("u8[4,2]", 2), t("f32[] 0.5"), t("f32[] 0.25")];
        check_op("com.microsoft.MatMulIntegerToFloat", x);
        let gemm = [t("u8[1,2] 3 5"), t("f32[] 0.5"), t("u8[] 1"), t("u8[2,2] 1 3 2 4"), t("f32[] 2"), t("u8[] 0"), t("i32[2] 0 100")];
        assert_eq!(check_op("com.microsoft.QGemm transB=1", gemm.clone()), [t("f32[1,2] 14 120")]);
        let quantized = [&gemm[..], &[t("f32[] 2"), t("u8[] 7")]].concat();
        assert_eq!(check_op("com.microsoft.QGemm transB=1", quantized), [t("u8[1,2] 14 67")]);
    }

    #[test]
    fn one_operand_is_rounded_on_the_way() {
        let x = [t("f32[1,2] -1 254"), t("i8[2,1] 1 1"), t("f32[] 1"), t("i8[] 0"), t("f32[1] 1")];
        assert_eq!(check_op("com.microsoft.DynamicQuantizeMatMul", x), [t("f32[1,1] 254")]);
        let x = [random("f32[3,4]", 1), random("i8[4,2]", 2), t("f32[2] 0.5 0.25")];
        Check::new("com.microsoft.DynamicQuantizeMatMul").bound(1e-5, 1e-5).run(x);
        check_op("com.microsoft.DynamicQuantizeMatMul", [t("f32[1,2] 0"), t("u8[2,1] 1 1"), t("f32[] 1")]);
    }
}

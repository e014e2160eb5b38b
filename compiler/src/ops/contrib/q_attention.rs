//! `QAttention`: `Attention` whose projection is a product of integers.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QAttention>

use super::attention::Projected;
use super::heads::Masking;
use super::integer_matmul::scaled;
use super::quantized::{BYTES, integer_product};
use super::steps::wide_operand;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `Attention` of `input * weight * input_scale * weight_scale + bias`.
    QAttention(input, weight, bias, input_scale, weight_scale, "mask_index?", "input_zero_point?", "weight_zero_point?", "past?") -> (output, "present?")
        since [1] in "com.microsoft";
    /// Whether queries and keys turn by their place; not supported.
    do_rotary: bool = false,
    /// What hidden places get.
    mask_filter_value: f32 = -10000.0,
    /// Number of heads.
    num_heads: i64,
    /// Whether past and present are one buffer; not supported.
    past_present_share_buffer: bool = false,
    /// Factor of the products; the inverse root of the head's size by default.
    scale: Option<f32>,
    /// Whether queries see only the keys up to their own place.
    unidirectional: bool = false,
}

composite!(QAttention);

impl QAttention {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if self.do_rotary || self.past_present_share_buffer {
            return Err(InferError::Unsupported("rotary embeddings and shared buffers are not supported here".to_owned()));
        }
        s.operands().require_dtype(0, BYTES)?;
        s.operands().require_dtype(1, BYTES)?;
        let dtype = s.operands().require_dtype(3, &[DType::F32, DType::F16])?;
        let (a, b) = ((s.operand(0)?, s.optional(6)), (s.operand(1)?, s.optional(7)));
        let sums = integer_product(s, a, b)?;
        let (scales, bias) = ((s.operand(3)?, s.operand(4)?), wide_operand(s, 2)?);
        let qkv = scaled(s, sums, scales, Some(bias))?;
        let total = s.dims(qkv)?.last().copied().unwrap_or(0);
        if total % 3 != 0 {
            return Err(InferError::Invalid(format!("{total} elements are not queries, keys and values")));
        }
        let masking = Masking { filter: self.mask_filter_value, causal: self.unidirectional };
        let projected = Projected { heads: self.num_heads, scale: self.scale, masking, mask: 5, past: 8, bias: usize::MAX };
        projected.steps(s, qkv, [total / 3; 3], dtype)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};

    #[test]
    fn integers_are_projected() {
        let x = [
            random("u8[2,3,4]", 1),
            random("i8[4,12]", 2),
            random("f32[12]", 3),
            t("f32[] 0.1"),
            t("f32[12] 0.05"),
            t("i32[2,3] 1 1 0 1 0 0"),
        ];
        let x = [&x[..], &[t("u8[] 3"), t("i8[12] 1")]].concat();
        Check::new("com.microsoft.QAttention num_heads=2 unidirectional=1").results(2).run(x);
    }
}

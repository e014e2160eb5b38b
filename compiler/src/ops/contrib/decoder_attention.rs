//! `DecoderMaskedMultiHeadAttention`: attention of the one query that a decoder adds.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DecoderMaskedMultiHeadAttention>

use super::multi_head_attention::MultiHeadAttention;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `output = softmax(query * key^T * scale + mask + bias) * value` for each head, of queries of length 1; with caches that are not shared,
    /// and without beams.
    DecoderMaskedMultiHeadAttention(query, "key?", "value?", "mask_index?", "attention_bias?", "past_key?", "past_value?", "past_sequence_length?",
        "beam_width?", "cache_indirection?", "bias?") -> (output, "present_key?", "present_value?", "qk?") since [1] in "com.microsoft";
    /// What hidden places get.
    mask_filter_value: f32 = -10000.0,
    /// Number of heads.
    num_heads: i64,
    /// Whether the products are asked for.
    output_qk: bool = false,
    /// Whether past and present are one buffer; not supported.
    past_present_share_buffer: bool = false,
    /// Factor of the products; the inverse root of the head's size by default.
    scale: Option<f32>,
}

composite!(DecoderMaskedMultiHeadAttention);

impl DecoderMaskedMultiHeadAttention {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if self.past_present_share_buffer || s.operands().has(9) {
            return Err(InferError::Unsupported("buffers that past and present share, and beams, are not supported here".to_owned()));
        }
        let attention = MultiHeadAttention {
            mask_filter_value: self.mask_filter_value,
            num_heads: self.num_heads,
            scale: self.scale,
            unidirectional: false,
        };
        let order = [Some(0), Some(1), Some(2), Some(10), Some(3), Some(4), Some(5), Some(6)];
        let operands: Vec<Option<Step>> = order.iter().map(|i| i.and_then(|i| s.optional(i))).collect();
        s.apply_all(Box::new(attention), &operands, s.operands().n_results.max(1))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn one_query() {
        let r = |text: &str, seed| Some(random(text, seed));
        let x = [
            r("f32[2,1,8]", 1),
            r("f32[2,1,8]", 2),
            r("f32[2,1,8]", 3),
            Some(t("i32[2,3] 1 1 1 0 1 1")),
            None,
            r("f32[2,2,2,4]", 4),
            r("f32[2,2,2,4]", 5),
        ];
        let y = Check::new("com.microsoft.DecoderMaskedMultiHeadAttention num_heads=2").results(3).run(x.clone());
        assert_eq!(y[1].dims(), [2, 2, 3, 4]);
        let error = check_error("com.microsoft.DecoderMaskedMultiHeadAttention num_heads=2 past_present_share_buffer=1", x);
        assert_eq!(error, "buffers that past and present share, and beams, are not supported here");
    }
}

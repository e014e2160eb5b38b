//! `MultiHeadAttention`: attention of given queries, keys and values, packed or apart, with caches.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MultiHeadAttention>

use super::heads::{Lengths, Masking, heads_of, join_heads, mask_bias, products, scale_of, split_heads, weighted};
use super::steps::{add_optional, wide_operand, wide_optional};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `output = softmax(query * key^T * scale + mask + bias) * value` for each head.
    MultiHeadAttention(query, "key?", "value?", "bias?", "key_padding_mask?", "attention_bias?", "past_key?", "past_value?", "past_sequence_length?", "cache_indirection?")
        -> (output, "present_key?", "present_value?", "qk?") since [1] in "com.microsoft";
    /// What hidden places get.
    mask_filter_value: f32 = -10000.0,
    /// Number of heads.
    num_heads: i64,
    /// Factor of the products; the inverse root of the head's size by default.
    scale: Option<f32>,
    /// Whether queries see only the keys up to their own place.
    unidirectional: bool = false,
}

composite!(MultiHeadAttention);

/// Part `i` of the axis before the last one of `[batch,length,heads,parts,size]`, as `[batch,heads,length,size]`.
fn unpacked(s: &mut Steps<'_>, packed: Step, i: usize) -> Result<Step, InferError> {
    let dims = s.dims(packed)?;
    let part = s.slice(packed, 3, i, i + 1)?;
    let part = s.reshape(part, &[dims[0], dims[1], dims[2], dims[4]])?;
    s.transpose(part, &[0, 2, 1, 3])
}

/// Adds elements `from..from + width` of the bias to a projection, and splits it into heads; operands of rank 4 are split already.
fn biased(s: &mut Steps<'_>, x: Step, bias: Option<Step>, from: &mut usize, heads: usize) -> Result<Step, InferError> {
    let dims = s.dims(x)?;
    match (dims.len(), bias) {
        (4, None) => Ok(x),
        (4, Some(bias)) => {
            let width = dims[1] * dims[3];
            let part = s.slice(bias, 0, *from, *from + width)?;
            *from += width;
            let part = s.reshape(part, &[1, dims[1], 1, dims[3]])?;
            s.add(x, part)
        }
        (_, None) => split_heads(s, x, heads),
        (_, Some(bias)) => {
            let width = dims.last().copied().unwrap_or(0);
            let part = s.slice(bias, 0, *from, *from + width)?;
            *from += width;
            let x = s.add(x, part)?;
            split_heads(s, x, heads)
        }
    }
}

impl MultiHeadAttention {
    /// Queries, keys and values, `[batch,heads,length,size]`.
    fn qkv(&self, s: &mut Steps<'_>, heads: usize) -> Result<[Step; 3], InferError> {
        let (query, key, value) = (wide_operand(s, 0)?, wide_optional(s, 1)?, wide_optional(s, 2)?);
        let rank = s.dims(query)?.len();
        let parts = match (rank, key, value) {
            (5, None, None) => [unpacked(s, query, 0)?, unpacked(s, query, 1)?, unpacked(s, query, 2)?],
            (3, Some(key), None) if s.dims(key)?.len() == 5 => [query, unpacked(s, key, 0)?, unpacked(s, key, 1)?],
            (3, Some(key), Some(value)) => [query, key, value],
            _ => return Err(InferError::Unsupported("queries, keys and values of these shapes are not supported".to_owned())),
        };
        let (bias, mut from) = (wide_optional(s, 3)?, 0);
        Ok([
            biased(s, parts[0], bias, &mut from, heads)?,
            biased(s, parts[1], bias, &mut from, heads)?,
            biased(s, parts[2], bias, &mut from, heads)?,
        ])
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if s.optional(8).is_some() || s.optional(9).is_some() {
            return Err(InferError::Unsupported("buffers that past and present share are not supported here".to_owned()));
        }
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        let heads = heads_of(self.num_heads, "num_heads")?;
        let [q, mut k, mut v] = self.qkv(s, heads)?;
        match (wide_optional(s, 6)?, wide_optional(s, 7)?) {
            (Some(key), Some(value)) => (k, v) = (s.concat(&[key, k], 2)?, s.concat(&[value, v], 2)?),
            (None, None) => {}
            _ => return Err(InferError::Invalid("`past_key` and `past_value` come together".to_owned())),
        }
        let (qd, kd, vd) = (s.dims(q)?, s.dims(k)?, s.dims(v)?);
        if qd[..2] != kd[..2] || kd[..3] != vd[..3] || qd[3] != kd[3] || qd[1] != heads {
            return Err(InferError::Invalid(format!("queries {qd:?}, keys {kd:?} and values {vd:?} do not fit {heads} heads")));
        }
        let lengths = Lengths { batch: qd[0], queries: qd[2], keys: kd[2] };
        let mask = s.optional(4);
        let mask = mask_bias(s, mask, lengths, Masking { filter: self.mask_filter_value, causal: self.unidirectional })?;
        let scores = products(s, q, k, scale_of(self.scale, qd[3]))?;
        let scores = add_optional(s, scores, mask)?;
        let bias = wide_optional(s, 5)?;
        let scores = add_optional(s, scores, bias)?;
        let y = weighted(s, scores, v)?;
        let mut results = vec![join_heads(s, y)?, k, v, scores];
        results.truncate(s.operands().n_results.max(1));
        results.into_iter().map(|v| s.cast(v, dtype)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};
    use crate::tensor::Tensor;

    #[test]
    fn all_forms_agree() {
        let r = |text: &str, seed| Some(random(text, seed));
        let op = "com.microsoft.MultiHeadAttention num_heads=2";
        check_op(op, [r("f32[2,3,8]", 1), r("f32[2,5,8]", 2), r("f32[2,5,6]", 3)]);
        check_op(op, [r("f16[2,3,8]", 1), r("f16[2,5,8]", 2), r("f16[2,5,6]", 3), r("f16[22]", 4)]);
        check_op(op, [r("f32[2,3,2,3,4]", 1)]);
        check_op(op, [r("f32[2,3,2,3,4]", 1), None, None, r("f32[24]", 2)]);
        check_op(op, [r("f32[2,3,8]", 1), r("f32[2,5,2,2,4]", 2)]);
        check_op(op, [r("f32[2,3,8]", 1), r("f32[2,2,5,4]", 2), r("f32[2,2,5,3]", 3)]);
        let masked: [Option<Tensor>; 8] = [
            r("f32[2,3,8]", 1),
            r("f32[2,3,8]", 2),
            r("f32[2,3,8]", 3),
            None,
            Some(t("i32[2,5] 1 1 1 0 1 1 0 1 1 1")),
            r("f32[1,2,3,5]", 4),
            r("f32[2,2,2,4]", 5),
            r("f32[2,2,2,4]", 6),
        ];
        let y = Check::new(&format!("{op} unidirectional=1")).results(4).run(masked);
        assert_eq!(y.iter().map(|t| t.dims()[2]).collect::<Vec<_>>(), [8, 5, 5, 3]);
        let error = check_error(op, [r("f32[2,3,8]", 1), r("f32[2,5,6]", 2), r("f32[2,5,8]", 3)]);
        assert!(error.ends_with("do not fit 2 heads"), "{error}");
    }
}

//! `Attention`: projections of one input to queries, keys and values, and attention among them.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.Attention>

use super::heads::{Lengths, Masking, heads_of, join_heads, mask_bias, products, scale_of, split_heads, weighted};
use super::steps::{add_optional, wide, wide_operand, wide_optional};
use crate::ops::movement::Squeeze;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `output = softmax(q * k^T * scale + mask + bias) * v` for each head, where `q`, `k` and `v` are parts of `input * weights + bias`.
    Attention(input, weights, "bias?", "mask_index?", "past?", "attention_bias?", "past_sequence_length?") -> (output, "present?")
        since [1] in "com.microsoft";
    /// Whether queries and keys turn by their place; not supported.
    do_rotary: bool = false,
    /// What hidden places get.
    mask_filter_value: f32 = -10000.0,
    /// Number of heads.
    num_heads: i64,
    /// Whether past and present are one buffer; not supported.
    past_present_share_buffer: bool = false,
    /// Widths of queries, keys and values; equal by default.
    qkv_hidden_sizes: Vec<i64> = Vec::<i64>::new(),
    /// Elements of a head that turn.
    rotary_embedding_dim: i64 = 0,
    /// Factor of the products; the inverse root of the head's size by default.
    scale: Option<f32>,
    /// Whether queries see only the keys up to their own place.
    unidirectional: bool = false,
}

composite!(Attention);

/// What follows the projection in `Attention` and its quantized form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projected {
    pub(super) heads: i64,
    pub(super) scale: Option<f32>,
    pub(super) masking: Masking,
    /// Positions of the optional operands.
    pub(super) mask: usize,
    pub(super) past: usize,
    pub(super) bias: usize,
}

impl Projected {
    /// Output and present state from queries, keys and values side by side.
    pub(super) fn steps(&self, s: &mut Steps<'_>, qkv: Step, widths: [usize; 3], dtype: DType) -> Result<Vec<Step>, InferError> {
        let heads = heads_of(self.heads, "num_heads")?;
        let (a, b, c) = (widths[0], widths[0] + widths[1], widths.iter().sum());
        let q = s.slice(qkv, 2, 0, a)?;
        let k = s.slice(qkv, 2, a, b)?;
        let v = s.slice(qkv, 2, b, c)?;
        let [q, mut k, mut v] = [split_heads(s, q, heads)?, split_heads(s, k, heads)?, split_heads(s, v, heads)?];
        if let Some(past) = wide_optional(s, self.past)? {
            if s.dims(past)?.len() != 5 || s.dims(past)?[0] != 2 {
                return Err(InferError::Invalid(format!("the past is `{}`, not [2, batch, heads, length, size]", s.fact(past).ty)));
            }
            let zero = s.ints(&[0]);
            for (i, new) in [&mut k, &mut v].into_iter().enumerate() {
                let old = s.slice(past, 0, i, i + 1)?;
                let old = s.apply(Squeeze {}, &[old, zero])?;
                *new = s.concat(&[old, *new], 2)?;
            }
        }
        let (qd, keys) = (s.dims(q)?, s.dims(k)?[2]);
        let lengths = Lengths { batch: qd[0], queries: qd[2], keys };
        let mask = s.optional(self.mask);
        let mask = mask_bias(s, mask, lengths, self.masking)?;
        let scores = products(s, q, k, scale_of(self.scale, qd[3]))?;
        let scores = add_optional(s, scores, mask)?;
        let bias = wide_optional(s, self.bias)?;
        let scores = add_optional(s, scores, bias)?;
        let y = weighted(s, scores, v)?;
        let y = join_heads(s, y)?;
        let mut results = vec![s.cast(y, dtype)?];
        if s.operands().n_results > 1 {
            let (k, v) = (s.unsqueeze(k, 0)?, s.unsqueeze(v, 0)?);
            let present = s.concat(&[k, v], 0)?;
            results.push(s.cast(present, dtype)?);
        }
        Ok(results)
    }
}

impl Attention {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if self.do_rotary || self.past_present_share_buffer || s.optional(6).is_some() {
            return Err(InferError::Unsupported("rotary embeddings and shared buffers are not supported here".to_owned()));
        }
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        let (x, weights) = (wide_operand(s, 0)?, s.operand(1)?);
        let weights = wide(s, weights)?;
        let product = s.matmul(x, weights)?;
        let bias = wide_optional(s, 2)?;
        let qkv = add_optional(s, product, bias)?;
        let total = s.dims(qkv)?.last().copied().unwrap_or(0);
        let widths = match self.qkv_hidden_sizes[..] {
            [] if total % 3 == 0 => [total / 3; 3],
            [q, k, v] if q == k && q > 0 && v > 0 && q + k + v == total as i64 => [q, k, v].map(|n| n as usize),
            _ => return Err(InferError::Invalid(format!("`qkv_hidden_sizes` {:?} of {total} elements", self.qkv_hidden_sizes))),
        };
        let masking = Masking { filter: self.mask_filter_value, causal: self.unidirectional };
        let projected = Projected { heads: self.num_heads, scale: self.scale, masking, mask: 3, past: 4, bias: 5 };
        projected.steps(s, qkv, widths, dtype)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};
    use crate::tensor::Tensor;

    fn x(dtype: &str) -> Vec<Option<Tensor>> {
        ["[2,3,4]", "[4,12]", "[12]"].iter().enumerate().map(|(i, d)| Some(random(&format!("{dtype}{d}"), i as u64))).collect()
    }

    #[test]
    fn all_forms_agree() {
        for op in ["num_heads=2", "num_heads=2 unidirectional=1 scale=0.3", "num_heads=1 mask_filter_value=-3.0"] {
            let op = Check::new(&format!("com.microsoft.Attention {op}")).results(2);
            op.run(x("f32"));
            for mask in
                ["i32[2] 3 2", "i32[4] 3 2 1 0", "i32[2,3] 1 1 0 1 0 0", "i32[2,3,3] 1 1 0 1 0 1 0 1 1 1 1 1 1 1 0 0 1 1", "i32[2,1] 0"]
            {
                op.run([x("f32"), vec![Some(t(mask))]].concat());
            }
        }
        check_op("com.microsoft.Attention num_heads=2", x("f16"));
        let past = random("f32[2,2,2,5,2]", 9);
        let op = Check::new("com.microsoft.Attention num_heads=2 unidirectional=1").results(2);
        let y = op.run([x("f32"), vec![Some(t("i32[2,8] 1")), Some(past), Some(random("f32[1,2,3,8]", 8))]].concat());
        assert_eq!((y[0].dims(), y[1].dims()), (&[2, 3, 4][..], &[2, 2, 2, 8, 2][..]));
    }

    #[test]
    fn keys_and_values_of_other_widths() {
        let x = [random("f32[1,3,4]", 1), random("f32[4,10]", 2), random("f32[10]", 3)];
        let y = check_op("com.microsoft.Attention num_heads=2 qkv_hidden_sizes=[4,4,2]", x.clone());
        assert_eq!(y[0].dims(), [1, 3, 2]);
        assert_eq!(check_error("com.microsoft.Attention num_heads=2", x), "`qkv_hidden_sizes` [] of 10 elements");
        for mask in ["i32[8] 0", "i32[2,1,3,3] 0"] {
            let error = check_error("com.microsoft.Attention num_heads=2", [self::x("f32"), vec![Some(t(mask))]].concat());
            assert!(error.starts_with("a mask of type `i32["), "{error}");
        }
    }
}

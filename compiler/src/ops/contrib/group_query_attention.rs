//! `GroupQueryAttention` and `RotaryEmbedding`: attention whose keys and values are shared by groups of heads, with a cache and turned places.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.RotaryEmbedding>

use super::heads::{heads_of, join_heads, products, scale_of, split_heads};
use super::steps::{add_optional, wide_operand, wide_optional};
use crate::ops::composite;
use crate::ops::elementwise::{And, Less, LessOrEqual, Max, Tanh};
use crate::ops::movement::GatherElements;
use crate::ops::neural::Softmax;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `(a, b)` becomes `(a cos - b sin, a sin + b cos)` for the pairs of each head, by the rows of the caches that the places name.
    RotaryEmbedding(input, position_ids, cos_cache, sin_cache) -> (output) since [1] in "com.microsoft";
    /// Whether the elements of a pair are neighbours; otherwise they are half the turned elements apart.
    interleaved: bool = false,
    /// Only `false`.
    is_packed_batching: bool = false,
    /// Number of heads; by the caches' width by default.
    num_heads: i64 = 0,
    /// Elements of a head that are turned; all where it is 0.
    rotary_embedding_dim: i64 = 0,
    /// Only 1.
    scale: f32 = 1.0,
}

operator! {
    /// `output = softmax(query * key^T * scale) * value` for each head, over the keys up to its place; keys and values shared by groups of heads.
    GroupQueryAttention(query, "key?", "value?", "past_key?", "past_value?", seqlens_k, total_sequence_length, "cos_cache?", "sin_cache?", "position_ids?", "attention_bias?", "head_sink?")
        -> (output, "present_key?", "present_value?") since [1] in "com.microsoft";
    /// Whether queries see only the keys up to their own place; must be.
    causal: bool = true,
    /// Whether queries and keys are turned by their places.
    do_rotary: bool = false,
    /// Form of the cache's numbers; only `NONE`.
    k_quant_type: String = "NONE",
    /// Number of heads of keys and values.
    kv_num_heads: i64,
    /// Keys that a query sees, its own included; all where it is -1.
    local_window_size: i64 = -1,
    /// Number of heads of queries.
    num_heads: i64,
    /// Only 0.
    qk_output: i64 = 0,
    /// Whether the elements of a turned pair are neighbours.
    rotary_interleaved: bool = false,
    /// Factor of the products; the inverse root of the head's size by default.
    scale: Option<f32>,
    /// Whether the softmax has one more term; not supported.
    smooth_softmax: i64 = -1,
    /// Products become `softcap * tanh(product / softcap)` where it is above 0.
    softcap: f32 = 0.0,
    /// Form of the cache's numbers; only `NONE`.
    v_quant_type: String = "NONE",
}

composite!(RotaryEmbedding);
composite!(GroupQueryAttention);

/// `0..n` as `i64` with these extents.
fn counting(s: &mut Steps<'_>, dims: &[usize]) -> Step {
    let n = dims.iter().product::<usize>();
    s.constant(Tensor::from_slice(dims, &(0..n as i64).collect::<Vec<_>>()))
}

impl RotaryEmbedding {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if self.is_packed_batching || self.scale != 1.0 {
            return Err(InferError::Unsupported("packed batches and scales are not supported here".to_owned()));
        }
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        let (x, cos, sin) = (wide_operand(s, 0)?, wide_operand(s, 2)?, wide_operand(s, 3)?);
        let (dims, half) = (s.dims(x)?, s.dims(cos)?.last().copied().unwrap_or(0));
        let (batch, length) = match dims[..] {
            [batch, length, _] => (batch, length),
            [batch, _, length, _] => (batch, length),
            _ => return Err(InferError::Invalid(format!("an operand of rank {}", dims.len()))),
        };
        let mut num_heads = self.num_heads;
        if dims.len() == 3 && num_heads == 0 {
            num_heads = dims[2].checked_div(2 * half).unwrap_or(0) as i64;
        }
        let mut places = s.operand(1)?;
        if s.dims(places)? == [1] && (batch, length) != (1, 1) {
            let steps = counting(s, &[1, length]);
            places = s.add(places, steps)?;
            places = s.expand(places, &[batch, length])?;
        } else {
            places = s.reshape(places, &[batch, length])?;
        }
        let op = composite::RotaryEmbedding { interleaved: self.interleaved, num_heads, rotary_embedding_dim: self.rotary_embedding_dim };
        let y = s.apply(op, &[x, cos, sin, places])?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

/// Extents of one call.
struct Sizes {
    batch: usize,
    queries: usize,
    /// Length of the cache before and after.
    past: usize,
    present: usize,
    heads: usize,
    shared: usize,
    size: usize,
}

impl GroupQueryAttention {
    /// Queries, keys and values, `[batch,length,heads*size]`, and the size of a head.
    fn qkv(&self, s: &mut Steps<'_>, heads: usize, shared: usize) -> Result<([Step; 3], usize), InferError> {
        let q = wide_operand(s, 0)?;
        let dims = s.dims(q)?;
        let [_, _, wide] = dims[..] else { return Err(InferError::Invalid(format!("queries of rank {}", dims.len()))) };
        match (wide_optional(s, 1)?, wide_optional(s, 2)?) {
            (Some(k), Some(v)) if wide % heads == 0 => Ok(([q, k, v], wide / heads)),
            (None, None) if wide % (heads + 2 * shared) == 0 => {
                let size = wide / (heads + 2 * shared);
                let (a, b) = (heads * size, (heads + shared) * size);
                Ok(([s.slice(q, 2, 0, a)?, s.slice(q, 2, a, b)?, s.slice(q, 2, b, wide)?], size))
            }
            _ => Err(InferError::Invalid(format!("{wide} elements are not those of {heads} heads"))),
        }
    }

    /// The cache with new rows from place `past` on, `i64[batch,1,1,1]`, and zeros behind them.
    fn present(s: &mut Steps<'_>, old: Option<Step>, new: Step, past: Step, n: &Sizes) -> Result<Step, InferError> {
        let Some(old) = old else {
            return if n.present == n.queries {
                Ok(new)
            } else {
                Err(InferError::Unsupported("a total length without a past is not supported here".to_owned()))
            };
        };
        let both = s.concat(&[old, new], 2)?;
        let places = counting(s, &[1, 1, n.present, 1]);
        let (ahead, queries) = (s.sub(places, past)?, s.number(DType::I64, n.queries as f64));
        let start = s.number(DType::I64, n.past as f64);
        let moved = s.add(ahead, start)?;
        let is_old = s.apply(Less {}, &[places, past])?;
        let from = s.choose(is_old, places, moved)?;
        let inside = s.apply(Less {}, &[ahead, queries])?;
        let zero = s.number(DType::I64, 0.0);
        let from = s.choose(inside, from, zero)?;
        let from = s.expand(from, &[n.batch, n.shared, n.present, n.size])?;
        let rows = s.apply(GatherElements { axis: 2 }, &[both, from])?;
        let nothing = s.number(DType::F32, 0.0);
        s.choose(inside, rows, nothing)
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let plain = self.k_quant_type == "NONE" && self.v_quant_type == "NONE" && self.smooth_softmax <= 0 && self.qk_output == 0;
        if !plain || !self.causal || s.optional(11).is_some() {
            return Err(InferError::Unsupported("quantized caches, sinks and sight of later keys are not supported here".to_owned()));
        }
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        let (heads, shared) = (heads_of(self.num_heads, "num_heads")?, heads_of(self.kv_num_heads, "kv_num_heads")?);
        if heads % shared != 0 {
            return Err(InferError::Invalid(format!("{heads} heads share {shared}")));
        }
        let ([mut q, mut k, v], size) = self.qkv(s, heads, shared)?;
        let total = s.operands().ints(6)?.first().copied().and_then(|t| usize::try_from(t).ok()).unwrap_or(0);
        let old = [wide_optional(s, 3)?, wide_optional(s, 4)?];
        let past = match old[0] {
            Some(old) => s.dims(old)?.get(2).copied().unwrap_or(0),
            None => 0,
        };
        let dims = s.dims(q)?;
        let n = Sizes { batch: dims[0], queries: dims[1], past, present: past.max(total), heads, shared, size };
        if total < n.queries || total > n.past + n.queries {
            return Err(InferError::Invalid(format!("a total length of {total} for {} queries after {past} keys", n.queries)));
        }
        // The place of the first query: 0 where all keys are new, of which the last of a short text may be padding.
        let before = if old[0].is_none() {
            s.constant(Tensor::from_slice(&[n.batch, 1, 1, 1], &vec![0i64; n.batch]))
        } else {
            let last = s.operand(5)?;
            let last = s.cast(last, DType::I64)?;
            let last = s.reshape(last, &[n.batch, 1, 1, 1])?;
            let back = s.number(DType::I64, n.queries as f64 - 1.0);
            let (before, zero) = (s.sub(last, back)?, s.number(DType::I64, 0.0));
            s.apply(Max {}, &[before, zero])?
        };
        if self.do_rotary {
            let (cos, sin) = (wide_operand(s, 7)?, wide_operand(s, 8)?);
            let places = match s.optional(9) {
                Some(places) => places,
                None => {
                    let (first, steps) = (s.reshape(before, &[n.batch, 1])?, counting(s, &[1, n.queries]));
                    s.add(first, steps)?
                }
            };
            let turned = 2 * s.dims(cos)?.last().copied().unwrap_or(0);
            let rotary_embedding_dim = if turned == size { 0 } else { turned as i64 };
            for (x, num_heads) in [(&mut q, heads), (&mut k, shared)] {
                let op =
                    composite::RotaryEmbedding { interleaved: self.rotary_interleaved, num_heads: num_heads as i64, rotary_embedding_dim };
                *x = s.apply(op, &[*x, cos, sin, places])?;
            }
        }
        let [q, k, v] = [split_heads(s, q, heads)?, split_heads(s, k, shared)?, split_heads(s, v, shared)?];
        let k = Self::present(s, old[0], k, before, &n)?;
        let v = Self::present(s, old[1], v, before, &n)?;
        let y = self.attend(s, q, k, v, before, &n)?;
        let mut results = vec![y, k, v];
        results.truncate(s.operands().n_results.max(1));
        results.into_iter().map(|v| s.cast(v, dtype)).collect()
    }

    /// The weighted values, `[batch,queries,heads*size]`.
    fn attend(&self, s: &mut Steps<'_>, q: Step, k: Step, v: Step, before: Step, n: &Sizes) -> Result<Step, InferError> {
        let grouped = [n.batch, n.shared, n.heads / n.shared * n.queries];
        let q = s.reshape(q, &[&grouped[..], &[n.size]].concat())?;
        let mut scores = products(s, q, k, scale_of(self.scale, n.size))?;
        if self.softcap > 0.0 {
            let cap = s.number(DType::F32, self.softcap.into());
            let inside = s.div(scores, cap)?;
            let bent = s.apply(Tanh {}, &[inside])?;
            scores = s.mul(bent, cap)?;
        }
        let scores = s.reshape(scores, &[n.batch, n.heads, n.queries, n.present])?;
        let bias = wide_optional(s, 10)?;
        let scores = add_optional(s, scores, bias)?;
        let (keys, steps) = (counting(s, &[1, 1, 1, n.present]), counting(s, &[1, 1, n.queries, 1]));
        let place = s.add(before, steps)?;
        let mut seen = s.apply(LessOrEqual {}, &[keys, place])?;
        if self.local_window_size >= 0 {
            let width = s.number(DType::I64, self.local_window_size as f64);
            let behind = s.sub(place, width)?;
            let near = s.apply(Less {}, &[behind, keys])?;
            seen = s.apply(And {}, &[seen, near])?;
        }
        let least = s.number(DType::F32, f32::MIN.into());
        let scores = s.choose(seen, scores, least)?;
        let weights = s.apply(Softmax { axis: -1 }, &[scores])?;
        let weights = s.reshape(weights, &[&grouped[..], &[n.present]].concat())?;
        let y = s.matmul(weights, v)?;
        let y = s.reshape(y, &[n.batch, n.heads, n.queries, n.size])?;
        join_heads(s, y)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};
    use crate::tensor::Tensor;

    #[test]
    fn places_turn_pairs() {
        let x = |places: &str| [random("f32[2,3,8]", 1), t(places), random("f32[9,2]", 2), random("f32[9,2]", 3)];
        let shifted = check_op("com.microsoft.RotaryEmbedding", x("i64[1] 4"));
        assert_eq!(shifted, check_op("com.microsoft.RotaryEmbedding", x("i64[2,3] 4 5 6 4 5 6")));
        check_op("com.microsoft.RotaryEmbedding interleaved=1 num_heads=1 rotary_embedding_dim=4", x("i64[2,3] 0 1 2 8 7 6"));
    }

    #[test]
    fn caches_grow_or_are_filled() {
        let op = |more: &str| Check::new(&format!("com.microsoft.GroupQueryAttention num_heads=4 kv_num_heads=2{more}")).results(3);
        let r = |text: &str, seed| Some(random(text, seed));
        let caches = |n: usize| [r(&format!("f32[2,2,{n},4]"), 4), r(&format!("f32[2,2,{n},4]"), 5)];
        let new = [r("f32[2,2,16]", 1), r("f32[2,2,8]", 2), r("f32[2,2,8]", 3)];
        let prompt = [&new[..], &[None, None, Some(t("i32[2] 1 1")), Some(t("i32[1] 2"))]].concat();
        let first = op("").run(prompt);
        assert_eq!(first[1].dims(), [2, 2, 2, 4]);
        // A cache of nothing, and one of texts of which the second is shorter.
        let with = |n: usize, lasts: &str| [&new[..], &caches(n), &[Some(t(lasts)), Some(t("i32[1] 2"))]].concat();
        assert_eq!(op("").run(with(0, "i32[2] 1 1")), first);
        let short = op("").run(with(6, "i32[2] 1 0"));
        assert_eq!((short[1].dims(), &short[0]), (&[2, 2, 6, 4][..], &first[0]));
        let turned = [r("f32[9,2]", 6), r("f32[9,2]", 7)];
        for (length, total, lasts) in [(3, 5, "i32[2] 4 3"), (6, 5, "i32[2] 4 2")] {
            let tail = [Some(t(lasts)), Some(t(&format!("i32[1] {total}")))];
            let x: Vec<Option<Tensor>> = [&new[..], &caches(length), &tail, &turned].concat();
            let y = op(" do_rotary=1 softcap=5.0").run(x.clone());
            assert_eq!(y[1].dims(), [2, 2, length.max(total), 4]);
            op(" local_window_size=2 do_rotary=1 rotary_interleaved=1").run(x);
        }
        let packed = [r("f32[1,3,32]", 1), None, None, None, None, Some(t("i32[1] 2")), Some(t("i32[1] 3"))];
        op("").run(packed.clone());
        let error = check_error("com.microsoft.GroupQueryAttention num_heads=3 kv_num_heads=2", packed);
        assert_eq!(error, "3 heads share 2");
    }
}

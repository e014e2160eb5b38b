//! `Attention`: softmax of scaled products of queries and keys, times values; caches, masks, windows, shared heads.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Attention.html>

use crate::ops::elementwise::{Add, And, Equal, Exp, Less, LessOrEqual, Tanh, Where};
use crate::ops::movement::Pad;
use crate::ops::neural::{ReduceMax, ReduceSum, Softmax};
use crate::ops::{InferError, Step, Steps, dtype_of_onnx};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `y = softmax(q * k^T * scale + bias) * v` for each head; operands `[batch,heads,length,size]` or `[batch,length,heads*size]`.
    Attention(q, k, v, "attn_mask?", "past_key?", "past_value?", "nonpad_kv_seqlen?")
        -> (y, "present_key?", "present_value?", "qk_matmul_output?") since [23, 24, 25];
    /// Whether queries see only the keys up to their own place.
    is_causal: bool = false,
    /// Number of heads of keys and values, for operands of rank 3.
    kv_num_heads: Option<i64>,
    /// Keys before a query's place that it sees; all where it is -1.
    left_window_size: i64 = -1,
    /// Number of heads of queries, for operands of rank 3.
    q_num_heads: Option<i64>,
    /// What the fourth result holds: products, after the cap, after the bias, after the softmax.
    qk_matmul_output_mode: i64 = 0,
    /// Keys behind a query's place that it sees; all where it is -1.
    right_window_size: i64 = -1,
    /// Factor of the products; the inverse root of the head's size by default.
    scale: Option<f32>,
    /// Products become `softcap * tanh(product / softcap)` where it is above 0.
    softcap: f32 = 0.0,
    /// Type of the softmax, as ONNX numbers it; that of the operands by default.
    softmax_precision: Option<i64>,
}

composite!(Attention);

/// Where the first query stands among the keys.
#[derive(Clone, Copy)]
enum Offset {
    Known(i64),
    /// By batch, `i64[batch,1,1,1]`.
    Batch(Step),
}

impl Attention {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let [q, k, v] = [0, 1, 2].map(|i| s.operand(i));
        let (q, k, v) = (q?, k?, v?);
        let dtype = s.operands().require_dtype(0, &DType::FLOATS)?;
        let rank = s.operands().rank(0)?;
        if (s.operands().rank(1)?, s.operands().rank(2)?) != (rank, rank) || !matches!(rank, 3 | 4) {
            return Err(InferError::Invalid("queries, keys and values must all have rank 3 or 4".to_owned()));
        }
        if self.left_window_size < -1 || self.right_window_size < -1 {
            return Err(InferError::Invalid("a window is -1 or not negative".to_owned()));
        }
        let q = heads(s, q, self.q_num_heads, "q_num_heads")?;
        let k = heads(s, k, self.kv_num_heads, "kv_num_heads")?;
        let v = heads(s, v, self.kv_num_heads, "kv_num_heads")?;
        let past = match (s.optional(4), s.optional(5)) {
            (Some(key), Some(value)) => Some((key, value)),
            (None, None) => None,
            _ => return Err(InferError::Invalid("`past_key` and `past_value` come together".to_owned())),
        };
        let (key, value) = match past {
            Some((pk, pv)) => (s.concat(&[pk, k], 2)?, s.concat(&[pv, v], 2)?),
            None => (k, v),
        };
        let (qd, kd, vd) = (s.dims(q)?, s.dims(key)?, s.dims(value)?);
        let [batch, n_heads, n_queries, size] = qd[..] else { unreachable!("four axes") };
        let (kv_heads, n_keys) = (kd[1], kd[2]);
        if kd[3] != size || vd[1] != kv_heads || vd[2] != n_keys || kd[0] != batch || vd[0] != batch {
            return Err(InferError::Invalid(format!("queries {qd:?}, keys {kd:?} and values {vd:?} do not fit")));
        }
        if kv_heads == 0 || n_heads == 0 || n_heads % kv_heads != 0 {
            return Err(InferError::Invalid(format!("{n_heads} heads of queries share {kv_heads} of keys")));
        }
        let groups = n_heads / kv_heads;

        let products = self.products(s, q, key, dtype, groups)?;
        let capped = match self.softcap {
            cap if cap > 0.0 => {
                let cap = s.number(dtype, cap.into());
                let inside = s.div(products, cap)?;
                let bent = s.apply(Tanh {}, &[inside])?;
                s.mul(bent, cap)?
            }
            _ => products,
        };
        let nonpad = s.optional(6);
        let offset = match (past, nonpad) {
            (Some(_), _) => Offset::Known((n_keys - s.dims(k)?[2]) as i64),
            (None, Some(lengths)) => {
                let lengths = s.cast(lengths, DType::I64)?;
                let lengths = s.reshape(lengths, &[batch, 1, 1, 1])?;
                let queries = s.number(DType::I64, n_queries as f64);
                Offset::Batch(s.sub(lengths, queries)?)
            }
            (None, None) => Offset::Known(0),
        };
        let bias = self.bias(s, dtype, offset, n_queries, n_keys, batch)?;
        let biased = bias.as_ref().map_or(Ok(capped), |bias| s.add(capped, bias.sum))?;
        let precision = match self.softmax_precision {
            None => dtype,
            Some(n) => dtype_of_onnx(n)
                .filter(|d| DType::FLOATS.contains(d))
                .ok_or_else(|| InferError::Unsupported(format!("`softmax_precision` {n} is not supported")))?,
        };
        let precise = s.cast(biased, precision)?;
        let mut weights = softmax(s, precise)?;
        if let Some(Bias { sum: bias, .. }) = bias.filter(|bias| bias.may_hide_all) {
            // Queries that see no key get zeros.
            let axes = s.ints(&[-1]);
            let most = s.apply(ReduceMax { keepdims: true, noop_with_empty_axes: false }, &[bias, axes])?;
            let least = s.number(dtype, f64::NEG_INFINITY);
            let blind = s.apply(Equal {}, &[most, least])?;
            let zero = s.number(precision, 0.0);
            weights = s.choose(blind, zero, weights)?;
        }
        let weights = s.cast(weights, dtype)?;
        let shared = s.reshape(weights, &[batch, kv_heads, groups, n_queries, n_keys])?;
        let wide = s.unsqueeze(value, 2)?;
        let y = s.matmul(shared, wide)?;
        let mut y = s.reshape(y, &[batch, n_heads, n_queries, vd[3]])?;
        if rank == 3 {
            y = s.transpose(y, &[0, 2, 1, 3])?;
            y = s.reshape(y, &[batch, n_queries, n_heads * vd[3]])?;
        }
        let shown = match self.qk_matmul_output_mode {
            0 => products,
            1 => capped,
            2 => biased,
            3 => weights,
            mode => return Err(InferError::Invalid(format!("`qk_matmul_output_mode` is {mode}"))),
        };
        let mut results = vec![y, key, value, shown];
        results.truncate(s.operands().n_results.max(1));
        Ok(results)
    }

    /// The scaled products, `[batch,heads,queries,keys]`.
    fn products(&self, s: &mut Steps<'_>, q: Step, k: Step, dtype: DType, groups: usize) -> Result<Step, InferError> {
        let d = s.dims(q)?;
        let [batch, n_heads, n_queries, size] = d[..] else { unreachable!("four axes") };
        let n_keys = s.dims(k)?[2];
        let scale = self.scale.map_or_else(|| 1.0 / (size as f64).sqrt(), f64::from);
        // The specification scales both by the root; one factor does where no half precision can overflow.
        let half = dtype.is_half();
        let factor = s.number(dtype, if half { scale.sqrt() } else { scale });
        let q = if scale == 1.0 { q } else { s.mul(q, factor)? };
        let q = s.reshape(q, &[batch, n_heads / groups, groups, n_queries, size])?;
        let mut k = s.transpose(k, &[0, 1, 3, 2])?;
        if half && scale != 1.0 {
            k = s.mul(k, factor)?;
        }
        let k = s.unsqueeze(k, 2)?;
        let products = s.matmul(q, k)?;
        s.reshape(products, &[batch, n_heads, n_queries, n_keys])
    }

    /// What is added to the products, if anything is; minus infinity hides a key.
    fn bias(
        &self,
        s: &mut Steps<'_>,
        dtype: DType,
        offset: Offset,
        n_queries: usize,
        n_keys: usize,
        batch: usize,
    ) -> Result<Option<Bias>, InferError> {
        let (mut terms, mut all_see) = (vec![], false);
        if let Some(mask) = s.optional(3) {
            terms.push(mask_bias(s, mask, dtype, n_keys)?);
        }
        let lower = (self.left_window_size >= 0).then_some(self.left_window_size);
        let upper = match (self.is_causal, self.right_window_size) {
            (true, -1) => Some(0),
            (true, right) => Some(right.min(0)),
            (false, -1) => None,
            (false, right) => Some(right),
        };
        if lower.is_some() || upper.is_some() {
            terms.push(window_bias(s, dtype, offset, lower, upper, n_queries, n_keys)?);
            all_see = matches!(offset, Offset::Known(first) if all_see_some(first, lower, upper, n_queries, n_keys));
        }
        if let Some(lengths) = s.optional(6) {
            let lengths = s.cast(lengths, DType::I64)?;
            let lengths = s.reshape(lengths, &[batch, 1, 1, 1])?;
            let places = s.constant(counting(&[1, 1, 1, n_keys], |at| at as i64));
            let inside = s.apply(Less {}, &[places, lengths])?;
            terms.push(hidden_unless(s, inside, dtype)?);
        }
        let mut terms = terms.into_iter();
        let Some(first) = terms.next() else { return Ok(None) };
        all_see &= terms.len() == 0;
        let sum = terms.try_fold(first, |sum, term| s.add(sum, term))?;
        Ok(Some(Bias { sum, may_hide_all: !all_see && may_hide_all(s, sum) }))
    }
}

/// What is added to the products.
struct Bias {
    sum: Step,
    /// Whether some query may see no key.
    may_hide_all: bool,
}

/// Softmax of rows in the precision of their elements, which `softmax_precision` is about: half precision after each step.
fn softmax(s: &mut Steps<'_>, x: Step) -> Result<Step, InferError> {
    if !s.dtype(x).is_half() {
        return s.apply(Softmax { axis: -1 }, &[x]);
    }
    let axes = s.ints(&[-1]);
    let most = s.apply(ReduceMax { keepdims: true, noop_with_empty_axes: false }, &[x, axes])?;
    let below = s.sub(x, most)?;
    let powers = s.apply(Exp {}, &[below])?;
    let sum = s.apply(ReduceSum { keepdims: true, noop_with_empty_axes: false }, &[powers, axes])?;
    s.div(powers, sum)
}

/// `[batch,length,heads*size]` as `[batch,heads,length,size]`; operands of rank 4 are so already.
fn heads(s: &mut Steps<'_>, x: Step, heads: Option<i64>, name: &str) -> Result<Step, InferError> {
    let d = s.dims(x)?;
    let [batch, length, wide] = d[..] else { return Ok(x) };
    let heads = heads.ok_or_else(|| InferError::Invalid(format!("operands of rank 3 need `{name}`")))?;
    let heads = usize::try_from(heads)
        .ok()
        .filter(|&h| h > 0 && wide.is_multiple_of(h))
        .ok_or_else(|| InferError::Invalid(format!("`{name}` {heads} of {wide} elements")))?;
    let x = s.reshape(x, &[batch, length, heads, wide / heads])?;
    s.transpose(x, &[0, 2, 1, 3])
}

/// A constant of `i64` by flat position.
fn counting(dims: &[usize], f: impl Fn(usize) -> i64) -> Tensor {
    let n = dims.iter().product();
    Tensor::from_slice(dims, &(0..n).map(f).collect::<Vec<_>>())
}

/// 0 where `seen`, minus infinity elsewhere.
fn hidden_unless(s: &mut Steps<'_>, seen: Step, dtype: DType) -> Result<Step, InferError> {
    let (zero, least) = (s.number(dtype, 0.0), s.number(dtype, f64::NEG_INFINITY));
    s.choose(seen, zero, least)
}

/// A mask as an addend; keys behind its end are hidden.
fn mask_bias(s: &mut Steps<'_>, mask: Step, dtype: DType, n_keys: usize) -> Result<Step, InferError> {
    let dims = s.dims(mask)?;
    let given = *dims.last().ok_or_else(|| InferError::Invalid("a mask without axes".to_owned()))?;
    let mask = if s.dtype(mask) == DType::Bool { hidden_unless(s, mask, dtype)? } else { mask };
    if given >= n_keys || given == 1 && n_keys != 1 && dims.len() < 2 {
        return Ok(mask);
    }
    let mut pads = vec![0; 2 * dims.len()];
    *pads.last_mut().expect("an axis") = (n_keys - given) as i64;
    let (pads, least) = (s.ints(&pads), s.number(dtype, f64::NEG_INFINITY));
    s.apply(Pad { mode: "constant".to_owned() }, &[mask, pads, least])
}

/// Hides the keys outside `place - lower ..= place + upper` of each query.
fn window_bias(
    s: &mut Steps<'_>,
    dtype: DType,
    offset: Offset,
    lower: Option<i64>,
    upper: Option<i64>,
    n_queries: usize,
    n_keys: usize,
) -> Result<Step, InferError> {
    match offset {
        Offset::Known(first) => {
            // Steps, since what they give is another at other lengths.
            let places = |n: usize, from: i64| (from..from + n as i64).map(i128::from).collect::<Vec<_>>();
            let keys = s.constant(Tensor::from_ints(DType::I32, &[1, n_keys], &places(n_keys, 0)));
            let queries = s.constant(Tensor::from_ints(DType::I32, &[n_queries, 1], &places(n_queries, 0)));
            let side = |s: &mut Steps<'_>, width: i64, is_upper: bool| {
                let width = s.constant(Tensor::from_ints(DType::I32, &[1, 1], &[i128::from(first + width)]));
                let end = s.unfolded(Add {}, &[queries, width])?;
                let operands = if is_upper { [keys, end] } else { [end, keys] };
                s.unfolded(LessOrEqual {}, &operands)
            };
            let seen = match (upper.map(|n| side(s, n, true)).transpose()?, lower.map(|n| side(s, -n, false)).transpose()?) {
                (Some(a), Some(b)) => s.unfolded(And {}, &[a, b])?,
                (a, b) => a.or(b).expect("a side of the window"),
            };
            let (zero, least) = (s.number(dtype, 0.0), s.number(dtype, f64::NEG_INFINITY));
            s.unfolded(Where {}, &[seen, zero, least])
        }
        Offset::Batch(offset) => {
            // Place of the key minus number of the query.
            let distance = |at: usize| (at % n_keys.max(1)) as i64 - (at / n_keys.max(1)) as i64;
            let distance = s.constant(counting(&[1, 1, n_queries, n_keys], distance));
            let mut seen = None;
            if let Some(upper) = upper {
                let upper = s.number(DType::I64, upper as f64);
                let last = s.add(offset, upper)?;
                seen = Some(s.apply(LessOrEqual {}, &[distance, last])?);
            }
            if let Some(lower) = lower {
                let lower = s.number(DType::I64, lower as f64);
                let first = s.sub(offset, lower)?;
                let behind = s.apply(LessOrEqual {}, &[first, distance])?;
                seen = Some(seen.map_or(Ok(behind), |seen| s.apply(And {}, &[seen, behind]))?);
            }
            hidden_unless(s, seen.expect("a side of the window"), dtype)
        }
    }
}

/// Whether each query sees some key of those from `lower` before its place to `upper` behind it; the first is at place `first`.
fn all_see_some(first: i64, lower: Option<i64>, upper: Option<i64>, n_queries: usize, n_keys: usize) -> bool {
    (first..first + n_queries as i64).all(|place| {
        let (low, high) = (lower.map_or(0, |n| place - n).max(0), upper.map_or(i64::MAX, |n| place + n).min(n_keys as i64 - 1));
        low <= high
    })
}

/// Whether a row of the bias may be all minus infinity.
fn may_hide_all(s: &Steps<'_>, bias: Step) -> bool {
    let Some(value) = &s.fact(bias).value else { return true };
    let row = *value.dims().last().unwrap_or(&1);
    value.to_f64s().chunks(row.max(1)).any(|row| row.iter().all(|&b| b == f64::NEG_INFINITY))
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn weights_follow_the_products() {
        let y = check_op("Attention scale=1.0", [t("f32[1,1,1,1] 0"), t("f32[1,1,2,1] 1 2"), t("f32[1,1,2,1] 4 6")]);
        assert_eq!(y[0], t("f32[1,1,1,1] 5"));
        let y = check_op("Attention is_causal=1", [t("f32[1,1,2,1] 0"), t("f32[1,1,2,1] 1 2"), t("f32[1,1,2,1] 4 6")]);
        assert_eq!(y[0], t("f32[1,1,2,1] 4 5"));
    }

    #[test]
    fn all_forms_agree() {
        let x = || [random("f32[2,4,3,8]", 1), random("f32[2,2,5,8]", 2), random("f32[2,2,5,6]", 3)];
        for op in [
            "Attention",
            "Attention softcap=2.0",
            "Attention is_causal=1 scale=0.5",
            "Attention left_window_size=1 right_window_size=2",
            "Attention softmax_precision=1",
        ] {
            check_op(op, x());
            for mask in ["f32[3,5]", "bool[2,1,3,5]", "f32[4,1,4]"] {
                check_op(op, [&x()[..], &[random(mask, 4)]].concat());
            }
        }
        for mode in 0..4 {
            let op = format!("Attention softcap=1.5 qk_matmul_output_mode={mode}");
            let past = [random("f32[2,2,4,8]", 5), random("f32[2,2,4,6]", 6)];
            let mask = [random("f32[3,9]", 4)];
            Check::new(&op).results(4).run([&x()[..], &mask[..], &past[..]].concat());
        }
        let flat = [random("f32[2,3,8]", 1), random("f32[2,5,4]", 2), random("f32[2,5,6]", 3)];
        check_op("Attention q_num_heads=4 kv_num_heads=2", flat);
        let lengths = [None, None, None, Some(t("i64[2] 5 3"))];
        let operands = x().into_iter().map(Some).chain(lengths);
        check_op("Attention is_causal=1 left_window_size=2", operands);
    }

    #[test]
    fn queries_that_see_nothing_get_zeros() {
        let x = [t("f32[1,1,2,1] 1 2"), t("f32[1,1,2,1] 1 2"), t("f32[1,1,2,1] 4 6"), t("bool[2,2] 0 0 1 0")];
        assert_eq!(check_op("Attention", x)[0], t("f32[1,1,2,1] 0 4"));
    }

    #[test]
    fn shapes_fit() {
        let x = [t("f32[1,3,2,4]"), t("f32[1,2,2,4]"), t("f32[1,2,2,4]")];
        assert_eq!(check_error("Attention", x), "3 heads of queries share 2 of keys");
        let x = [t("f32[1,0,2,4]"), t("f32[1,2,2,4]"), t("f32[1,2,2,4]")];
        assert_eq!(check_error("Attention", x), "0 heads of queries share 2 of keys");
        let x = [t("f32[1,3,4]"), t("f32[1,2,4]"), t("f32[1,2,4]")];
        assert_eq!(check_error("Attention", x), "operands of rank 3 need `q_num_heads`");
    }
}

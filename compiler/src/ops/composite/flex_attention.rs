//! The two products of `FlexAttention`, whose scores and probabilities a model may change by graphs of its own: the reader puts these between.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html>

use crate::ops::{InferError, Step, Steps, dtype_of_onnx};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `q k^T * scale`, `[batch,heads,queries,keys]`, of `q: [batch,heads,queries,size]` and `k: [batch,kv_heads,keys,size]`, each head of which serves as
    /// many neighbouring ones of `q`; in the element type of the softmax.
    FlexScores(q, k) -> (scores) since [1] in "ai.tinsmith";
    /// The factor; by default one over the root of `size`.
    scale: Option<f32>,
    /// The element type of the softmax, by ONNX's number; by default `f32`, and `f64` for such.
    softmax_precision: Option<i64>,
}

operator! {
    /// `probs v`, `[batch,heads,queries,size]`, of `probs: [batch,heads,queries,keys]` and `v: [batch,kv_heads,keys,size]`, in the element type of `v`.
    FlexValues(probs, v) -> (y) since [1] in "ai.tinsmith";
}

composite!(FlexScores);
composite!(FlexValues);

/// Extents of an operand with four axes.
fn four(s: &Steps<'_>, v: Step) -> Result<[usize; 4], InferError> {
    let dims = s.dims(v)?;
    <[usize; 4]>::try_from(&dims[..]).map_err(|_| InferError::Invalid(format!("`{}` has not four axes", s.fact(v).ty)))
}

/// How many of so many heads share one of so many others.
fn groups(heads: usize, shared: usize) -> Result<usize, InferError> {
    if shared == 0 || !heads.is_multiple_of(shared) {
        return Err(InferError::Invalid(format!("{heads} heads of queries share {shared} of keys")));
    }
    Ok(heads / shared)
}

impl FlexScores {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, &DType::FLOATS)?;
        s.operands().require_same_dtype(1, 0)?;
        let (q, k) = (s.operand(0)?, s.operand(1)?);
        let ([batch, heads, queries, size], [kv_batch, kv_heads, keys, kv_size]) = (four(s, q)?, four(s, k)?);
        if (kv_batch, kv_size) != (batch, size) {
            return Err(InferError::Invalid(format!("queries `{}` and keys `{}` do not fit", s.fact(q).ty, s.fact(k).ty)));
        }
        let precision = match self.softmax_precision {
            None if dtype == DType::F64 => DType::F64,
            None => DType::F32,
            Some(n) => dtype_of_onnx(n)
                .filter(|d| DType::FLOATS.contains(d))
                .ok_or_else(|| InferError::Unsupported(format!("`softmax_precision` {n} is not supported")))?,
        };
        let groups = groups(heads, kv_heads)?;
        let scale = self.scale.unwrap_or(1.0 / (size as f32).sqrt());
        let root = s.number(dtype, scale.sqrt().into());
        // Both are scaled by the root, so that no half precision overflows.
        let (q, k) = (s.mul(q, root)?, s.mul(k, root)?);
        let q = s.reshape(q, &[batch, kv_heads, groups, queries, size])?;
        let k = s.transpose(k, &[0, 1, 3, 2])?;
        let k = s.unsqueeze(k, 2)?;
        let scores = s.matmul(q, k)?;
        let scores = s.reshape(scores, &[batch, heads, queries, keys])?;
        Ok(vec![s.cast(scores, precision)?])
    }
}

impl FlexValues {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let precision = s.operands().require_dtype(0, &DType::FLOATS)?;
        let dtype = s.operands().require_dtype(1, &DType::FLOATS)?;
        let (probs, v) = (s.operand(0)?, s.operand(1)?);
        let ([batch, heads, queries, keys], [v_batch, v_heads, v_keys, size]) = (four(s, probs)?, four(s, v)?);
        if (v_batch, v_keys) != (batch, keys) {
            return Err(InferError::Invalid(format!("probabilities `{}` and values `{}` do not fit", s.fact(probs).ty, s.fact(v).ty)));
        }
        let groups = groups(heads, v_heads)?;
        let probs = s.reshape(probs, &[batch, v_heads, groups, queries, keys])?;
        let v = s.cast(v, precision)?;
        let v = s.unsqueeze(v, 2)?;
        let y = s.matmul(probs, v)?;
        let y = s.reshape(y, &[batch, heads, queries, size])?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn heads_share_keys_and_values() {
        let scores = check_op("ai.tinsmith.FlexScores scale=4.0", [t("f32[1,2,1,1] 1 2"), t("f32[1,1,2,1] 3 5")]);
        assert_eq!(scores, [t("f32[1,2,1,2] 12 20 24 40")]);
        assert_eq!(check_op("ai.tinsmith.FlexValues", [t("f32[1,2,1,2] 1 0 0 1"), t("f32[1,1,2,1] 3 5")]), [t("f32[1,2,1,1] 3 5")]);
        for dtype in ["f32", "f64", "f16", "bf16"] {
            let x = |dims: &str, seed| random(&format!("{dtype}{dims}"), seed);
            let bound = if dtype == "bf16" || dtype == "f16" { 1e-2 } else { 1e-6 };
            Check::new("ai.tinsmith.FlexScores").bound(bound, bound).run([x("[2,4,3,8]", 1), x("[2,2,5,8]", 2)]);
            Check::new("ai.tinsmith.FlexValues").bound(bound, bound).run([random("f32[2,4,3,5]", 1), x("[2,2,5,6]", 2)]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let error = check_error("ai.tinsmith.FlexScores", [t("f32[1,3,1,1]"), t("f32[1,2,1,1]")]);
        assert_eq!(error, "3 heads of queries share 2 of keys");
        let error = check_error("ai.tinsmith.FlexScores", [t("f32[1,1,1]"), t("f32[1,2,1,1]")]);
        assert_eq!(error, "`f32[1,1,1]` has not four axes");
        let error = check_error("ai.tinsmith.FlexValues", [t("f32[1,1,1,2]"), t("f32[1,1,1,1]")]);
        assert_eq!(error, "probabilities `f32[1,1,1,2]` and values `f32[1,1,1,1]` do not fit");
    }
}

//! `SimplifiedLayerNormalization`, `SkipLayerNormalization` and `SkipSimplifiedLayerNormalization`: normalizations of a sum.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipLayerNormalization>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipSimplifiedLayerNormalization>

use super::steps::{add_optional, wide_operand, wide_optional};
use crate::ops::elementwise::{Reciprocal, Sqrt};
use crate::ops::neural::{LayerNormalization, RMSNormalization, ReduceMean};
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::{composite, operator};

operator! {
    /// `y = x / sqrt(mean of x * x + epsilon) * scale`, the mean over the axes from `axis` on: onnxruntime's form of `RMSNormalization`.
    SimplifiedLayerNormalization(x, scale) -> (y, "inv_std_var?") since [1];
    /// The first axis that is normalized.
    axis: i64 = -1,
    /// Added to the mean of squares.
    epsilon: f32 = 1e-5f32,
    /// The type of the statistics; only `f32` (1).
    stash_type: i64 = 1,
}

operator! {
    /// `output = (t - mean) / sqrt(variance + epsilon) * gamma + beta` over the last axis, where `t = input + skip + bias`.
    SkipLayerNormalization(input, skip, gamma, "beta?", "bias?") -> (output, "mean?", "inv_std_var?", "input_skip_bias_sum?")
        since [1] in "com.microsoft";
    /// Added to the variance.
    epsilon: f32 = 1e-12f32,
}

operator! {
    /// `output = t / sqrt(mean of t * t + epsilon) * gamma` over the last axis, where `t = input + skip + bias`.
    SkipSimplifiedLayerNormalization(input, skip, gamma, "bias?") -> (output, "mean?", "inv_std_var?", "input_skip_bias_sum?")
        since [1] in "com.microsoft";
    /// Added to the mean of squares.
    epsilon: f32 = 1e-12f32,
}

composite!(SimplifiedLayerNormalization);
composite!(SkipLayerNormalization);
composite!(SkipSimplifiedLayerNormalization);

/// `input + skip + bias`.
fn sum(s: &mut Steps<'_>, bias: usize) -> Result<Step, InferError> {
    let (input, skip, bias) = (wide_operand(s, 0)?, wide_operand(s, 1)?, wide_optional(s, bias)?);
    let total = s.add(input, skip)?;
    if s.fact(total).ty.shape != s.operands().ty(0)?.shape {
        return Err(InferError::Invalid(format!("`{}` does not broadcast to `{}`", s.operands().ty(1)?, s.operands().ty(0)?)));
    }
    add_optional(s, total, bias)
}

/// `1 / sqrt(mean of v * v + epsilon)` over the axes from `axis` on.
fn inverse_deviation(s: &mut Steps<'_>, v: Step, axis: i64, epsilon: f32) -> Result<Step, InferError> {
    let rank = s.fact(v).ty.rank();
    let axes: Vec<i64> = (normalize_axis(axis, rank)? as i64..rank as i64).collect();
    let (squared, axes) = (s.mul(v, v)?, s.ints(&axes));
    let mean = s.apply(ReduceMean { keepdims: true, noop_with_empty_axes: false }, &[squared, axes])?;
    let epsilon = s.number(s.dtype(v), epsilon.into());
    let shifted = s.add(mean, epsilon)?;
    let root = s.apply(Sqrt {}, &[shifted])?;
    s.apply(Reciprocal {}, &[root])
}

impl SimplifiedLayerNormalization {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, scale) = (s.operand(0)?, s.operand(1)?);
        let y = s.apply(RMSNormalization { axis: self.axis, epsilon: self.epsilon, stash_type: self.stash_type }, &[x, scale])?;
        if s.operands().n_results < 2 {
            return Ok(vec![y]);
        }
        let x = wide_operand(s, 0)?;
        let inverse = inverse_deviation(s, x, self.axis, self.epsilon)?;
        Ok(vec![y, s.cast(inverse, crate::tensor::DType::F32)?])
    }
}

impl SkipLayerNormalization {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().dtype(0)?;
        let total = sum(s, 4)?;
        let operands = [Some(total), Some(wide_operand(s, 2)?), wide_optional(s, 3)?];
        let n = s.operands().n_results.clamp(1, 3);
        let norm = LayerNormalization { axis: -1, epsilon: self.epsilon, stash_type: 1 };
        let mut results = s.apply_all(Box::new(norm), &operands, n)?;
        results[0] = s.cast(results[0], dtype)?;
        if s.operands().n_results > 3 {
            results.push(s.cast(total, dtype)?);
        }
        Ok(results)
    }
}

impl SkipSimplifiedLayerNormalization {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().dtype(0)?;
        let total = sum(s, 3)?;
        let gamma = wide_operand(s, 2)?;
        let y = s.apply(RMSNormalization { axis: -1, epsilon: self.epsilon, stash_type: 1 }, &[total, gamma])?;
        let mut results = vec![s.cast(y, dtype)?];
        if s.operands().n_results > 1 {
            let axes = s.ints(&[-1]);
            results.push(s.apply(ReduceMean { keepdims: true, noop_with_empty_axes: false }, &[total, axes])?);
        }
        if s.operands().n_results > 2 {
            results.push(inverse_deviation(s, total, -1, self.epsilon)?);
        }
        if s.operands().n_results > 3 {
            results.push(s.cast(total, dtype)?);
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn sums_are_normalized() {
        let x = || [t("f32[1,1,2] 0 2"), t("f32[1,1,2] 1 3"), t("f32[2] 1 2")];
        let y = Check::new("com.microsoft.SkipLayerNormalization epsilon=0.0").results(4).run(x());
        assert_eq!(y, [t("f32[1,1,2] -1 2"), t("f32[1,1,1] 3"), t("f32[1,1,1] 0.5"), t("f32[1,1,2] 1 5")]);
        let y = Check::new("com.microsoft.SkipSimplifiedLayerNormalization epsilon=3.0").results(4).run(x());
        assert_eq!(y, [t("f32[1,1,2] 0.25 2.5"), t("f32[1,1,1] 3"), t("f32[1,1,1] 0.25"), t("f32[1,1,2] 1 5")]);
        let y = Check::new("SimplifiedLayerNormalization epsilon=0.0").results(2).run([t("f32[1,2] 4 4"), t("f32[2] 1 2")]);
        assert_eq!(y, [t("f32[1,2] 1 2"), t("f32[1,1] 0.25")]);
    }

    #[test]
    fn operands_of_all_forms() {
        for dtype in ["f32", "f16", "bf16"] {
            let x = |dims: &str, seed| random(&format!("{dtype}{dims}"), seed);
            for skip in ["[2,3,4]", "[1,3,4]", "[3,4]"] {
                let operands = [x("[2,3,4]", 1), x(skip, 2), x("[4]", 3), x("[4]", 4), x("[4]", 5)];
                check_op("com.microsoft.SkipLayerNormalization epsilon=1e-3", operands.clone());
                let [a, b, gamma, bias, _] = operands;
                check_op("com.microsoft.SkipSimplifiedLayerNormalization epsilon=1e-3", [a, b, gamma, bias]);
            }
        }
        let error = check_error("com.microsoft.SkipLayerNormalization", [t("f32[1,2]"), t("f32[3,2]"), t("f32[2]")]);
        assert_eq!(error, "`f32[3,2]` does not broadcast to `f32[1,2]`");
    }
}

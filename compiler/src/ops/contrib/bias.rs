//! `BiasGelu`, `FastGelu`, `QuickGelu`, `BiasAdd` and `BiasSplitGelu`: activations and sums of what a linear layer gives.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasGelu>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FastGelu>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QuickGelu>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasAdd>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasSplitGelu>

use super::steps::{add_optional, wide_operand, wide_optional};
use crate::ops::elementwise::{Gelu, Swish};
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `c = gelu(a + b)`, by the error function.
    BiasGelu(a, b) -> (c) since [1] in "com.microsoft";
}

operator! {
    /// `y = gelu(x + bias)`, by the hyperbolic tangent.
    FastGelu(x, "bias?") -> (y) since [1] in "com.microsoft";
}

operator! {
    /// `y = x * sigmoid(alpha * x)`.
    QuickGelu(x) -> (y) since [1] in "com.microsoft";
    /// Slope of the sigmoid.
    alpha: f32 = 1.702,
}

operator! {
    /// `y = x + bias + skip`.
    BiasAdd(x, bias, skip) -> (y) since [1] in "com.microsoft";
}

operator! {
    /// `y = l * gelu(r)`, where `l` and `r` are the halves of the last axis of `x + bias`.
    BiasSplitGelu(x, bias) -> (y) since [1] in "com.microsoft";
}

composite!(BiasGelu);
composite!(FastGelu);
composite!(QuickGelu);
composite!(BiasAdd);
composite!(BiasSplitGelu);

/// GELU in the type it is computed in, rounded to the type of operand 0.
fn gelu(s: &mut Steps<'_>, v: Step, approximate: &str) -> Result<Vec<Step>, InferError> {
    let dtype = s.operands().dtype(0)?;
    let y = s.apply(Gelu { approximate: approximate.to_owned() }, &[v])?;
    Ok(vec![s.cast(y, dtype)?])
}

impl BiasGelu {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (wide_operand(s, 0)?, wide_operand(s, 1)?);
        let sum = s.add(a, b)?;
        gelu(s, sum, "none")
    }
}

impl FastGelu {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, bias) = (wide_operand(s, 0)?, wide_optional(s, 1)?);
        let sum = add_optional(s, x, bias)?;
        gelu(s, sum, "tanh")
    }
}

impl QuickGelu {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operand(0)?;
        Ok(vec![s.apply(Swish { alpha: self.alpha }, &[x])?])
    }
}

impl BiasAdd {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let [x, bias, skip] = [wide_operand(s, 0)?, wide_operand(s, 1)?, wide_operand(s, 2)?];
        let sum = s.add(x, bias)?;
        let sum = s.add(sum, skip)?;
        Ok(vec![s.cast(sum, s.operands().dtype(0)?)?])
    }
}

impl BiasSplitGelu {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, bias) = (wide_operand(s, 0)?, wide_operand(s, 1)?);
        let sum = s.add(x, bias)?;
        let dims = s.dims(sum)?;
        let (Some(&n), axis) = (dims.last(), dims.len() as i64 - 1) else {
            return Err(InferError::Invalid("the operand has no axis to split".to_owned()));
        };
        if n % 2 != 0 {
            return Err(InferError::Invalid(format!("an axis of extent {n} has no halves")));
        }
        let (l, r) = (s.slice(sum, axis, 0, n / 2)?, s.slice(sum, axis, n / 2, n)?);
        let r = s.apply(Gelu { approximate: "none".to_owned() }, &[r])?;
        let y = s.mul(l, r)?;
        Ok(vec![s.cast(y, s.operands().dtype(0)?)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{assert_close, check_error, check_op, random, t};

    #[test]
    fn sums_and_their_activations() {
        let y = check_op("com.microsoft.BiasGelu", [t("f32[2,2] 0 1 -2 0"), t("f32[2] 1 -1")]);
        assert_close(&y[0], &t("f32[2,2] 0.84134474 0 -0.15865526 -0.15865526"));
        assert_close(&check_op("com.microsoft.FastGelu", [t("f32[3] -1 0 1")])[0], &t("f32[3] -0.158808 0 0.841192"));
        assert_close(&check_op("com.microsoft.QuickGelu alpha=1.0", [t("f32[2] 0 1")])[0], &t("f32[2] 0 0.73105858"));
        assert_eq!(
            check_op("com.microsoft.BiasAdd", [t("f32[1,1,2] 1 2"), t("f32[2] 10 20"), t("f32[1,1,2] 5 5")])[0],
            t("f32[1,1,2] 16 27")
        );
        let y = check_op("com.microsoft.BiasSplitGelu", [t("f32[1,1,4] 2 3 1 0"), t("f32[4] 0 0 0 -1")]);
        assert_close(&y[0], &t("f32[1,1,2] 1.6826895 -0.47596578"));
        let error = check_error("com.microsoft.BiasSplitGelu", [t("f32[1,3]"), t("f32[3]")]);
        assert_eq!(error, "an axis of extent 3 has no halves");
    }

    #[test]
    fn half_precision() {
        for dtype in ["f16", "bf16"] {
            let x = |dims: &str, seed| random(&format!("{dtype}{dims}"), seed);
            check_op("com.microsoft.BiasGelu", [x("[2,4]", 1), x("[4]", 2)]);
            check_op("com.microsoft.FastGelu", [x("[2,4]", 1), x("[4]", 2)]);
            check_op("com.microsoft.BiasAdd", [x("[1,2,4]", 1), x("[4]", 2), x("[1,2,4]", 3)]);
        }
    }
}

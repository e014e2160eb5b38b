//! `SwiGLU`: a gate times its sigmoid times a value.
//! Spec: <https://onnx.ai/onnx/operators/onnx__SwiGLU.html>

use crate::ops::elementwise::Swish;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `y = a * sigmoid(alpha * a) * b`, of equal shapes.
    SwiGLU(a, b) -> (y) since [28];
    /// Factor inside the sigmoid.
    alpha: f32 = 1.0,
}

composite!(SwiGLU);

impl SwiGLU {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (s.operand(0)?, s.operand(1)?);
        let (x, y) = (&s.fact(a).ty, &s.fact(b).ty);
        if x.dims().zip(y.dims()).is_some_and(|(x, y)| x != y) {
            return Err(InferError::Invalid(format!("`{x}` and `{y}` are not of one shape")));
        }
        let gate = s.apply(Swish { alpha: self.alpha }, &[a])?;
        Ok(vec![s.mul(gate, b)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn gates() {
        assert_eq!(check_op("SwiGLU", [t("f32[2] 0 100"), t("f32[2] 3 2")])[0], t("f32[2] 0 200"));
        check_op("SwiGLU alpha=1.5", [random("f32[3,4]", 1), random("f32[3,4]", 2)]);
        assert_eq!(check_error("SwiGLU", [t("f32[2]"), t("f32[1]")]), "`f32[2]` and `f32[1]` are not of one shape");
    }
}

//! `Adagrad`: gradients scaled by the root of their squares so far.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adagrad.html>

use super::{grouped, regularized, scalar, scaled, shifted};
use crate::ops::elementwise::Sqrt;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `h' = h + q * q`, `x' = x - r / (1 + t * decay_factor) * q / (sqrt(h') + epsilon)`, where `q = norm_coefficient * x + g`, for each of the
    /// tensors `x...`, their gradients `g...` and accumulated squares `h...`; results `x'...`, `h'...`.
    Adagrad(r, t, "inputs*") -> ("outputs*") since [1] in "ai.onnx.preview.training";
    /// How the learning rate falls.
    decay_factor: f32 = 0.0f32,
    /// Added to the root.
    epsilon: f32 = 1e-6f32,
    /// Factor of the regularization.
    norm_coefficient: f32 = 0.0f32,
}

composite!(Adagrad);

impl Adagrad {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        grouped(s, |s, [x, g, h]| {
            let (r, t) = (scalar(s, 0, x)?, scalar(s, 1, x)?);
            let decay = scaled(s, t, self.decay_factor)?;
            let decay = shifted(s, decay, 1.0)?;
            let rate = s.div(r, decay)?;
            let q = regularized(s, x, g, self.norm_coefficient)?;
            let squared = s.mul(q, q)?;
            let h = s.add(h, squared)?;
            let root = s.apply(Sqrt {}, &[h])?;
            let root = shifted(s, root, self.epsilon)?;
            let step = s.mul(rate, q)?;
            let step = s.div(step, root)?;
            Ok([s.sub(x, step)?, h])
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn squares_accumulate() {
        let op = "ai.onnx.preview.training.Adagrad decay_factor=1.0 epsilon=0.0 norm_coefficient=1.0";
        // q = 1 + 2 = 3, h' = 16 + 9 = 25, rate = 10 / (1 + 1).
        let x = [t("f32[] 10"), t("i64[] 1"), t("f32[1] 1"), t("f32[1] 2"), t("f32[1] 16")];
        assert_eq!(Check::new(op).results(2).run(x), [t("f32[1] -2"), t("f32[1] 25")]);
    }

    #[test]
    fn groups_have_shapes_of_their_own() {
        for dtype in ["f32", "f64"] {
            let x = |dims: &str, seed| random(&format!("{dtype}{dims}"), seed);
            // Squares are not negative.
            let h = |dims: &str| t(&format!("{dtype}{dims} 1 2"));
            let operands = [t("f32[] 0.1"), t("i64[] 3"), x("[2]", 1), x("[2,1]", 2), x("[2]", 3), x("[2,1]", 4), h("[2]"), h("[2,1]")];
            Check::new("ai.onnx.preview.training.Adagrad norm_coefficient=0.01 decay_factor=0.1").results(4).run(operands);
        }
    }

    #[test]
    fn incomplete_groups_are_refused() {
        let x = [t("f32[] 10"), t("i64[] 1"), t("f32[1] 1"), t("f32[1] 2")];
        let error = "4 operands and 1 results, where 3 and 2 groups are wanted behind two";
        assert_eq!(check_error("ai.onnx.preview.training.Adagrad", x), error);
        let x = [t("f32[] 10"), t("i64[] 1"), t("f32[1] 1"), t("f32[2] 2 2"), t("f32[1] 2")];
        assert_eq!(check_error("ai.onnx.preview.training.Adagrad", x), "operand 3 is `f32[2]`, and operand 2 `f32[1]`");
    }
}

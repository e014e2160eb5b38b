//! `Momentum`: gradients that go on, plain or by Nesterov.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Momentum.html>

use super::{grouped, later, regularized, scalar, scaled};
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `v' = alpha * v + b * q` and `x' = x - r * v'`, or by Nesterov `x' = x - r * (q + alpha * v')`, where `q = norm_coefficient * x + g` and `b` is
    /// `beta`, in the first update 1; for each of the tensors `x...`, their gradients `g...` and momenta `v...`; results `x'...`, `v'...`.
    Momentum(r, t, "inputs*") -> ("outputs*") since [1] in "ai.onnx.preview.training";
    /// What stays of the momentum.
    alpha: f32,
    /// Factor of the gradient, but in the first update.
    beta: f32,
    /// `standard` or `nesterov`.
    mode: String,
    /// Factor of the regularization.
    norm_coefficient: f32,
}

composite!(Momentum);

impl Momentum {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let nesterov = match self.mode.as_str() {
            "standard" => false,
            "nesterov" => true,
            other => return Err(InferError::Invalid(format!("mode `{other}` is not `standard` or `nesterov`"))),
        };
        grouped(s, |s, [x, g, v]| {
            let r = scalar(s, 0, x)?;
            let (beta, one) = (s.number(s.dtype(x), self.beta.into()), s.number(s.dtype(x), 1.0));
            let later = later(s)?;
            let beta = s.choose(later, beta, one)?;
            let q = regularized(s, x, g, self.norm_coefficient)?;
            let (old, new) = (scaled(s, v, self.alpha)?, s.mul(beta, q)?);
            let v = s.add(old, new)?;
            let mut step = v;
            if nesterov {
                let ahead = scaled(s, v, self.alpha)?;
                step = s.add(q, ahead)?;
            }
            let step = s.mul(r, step)?;
            Ok([s.sub(x, step)?, v])
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn momenta_go_on() {
        let op = |mode: &str| format!("ai.onnx.preview.training.Momentum alpha=0.5 beta=2.0 mode=\"{mode}\" norm_coefficient=1.0");
        let x = |count| [t("f32[] 0.5"), count, t("f32[1] 1"), t("f32[1] 3"), t("f32[1] 4")];
        // q = 4; v' = 2 + 8, first 2 + 4.
        assert_eq!(Check::new(&op("standard")).results(2).run(x(t("i64[] 1"))), [t("f32[1] -4"), t("f32[1] 10")]);
        assert_eq!(Check::new(&op("standard")).results(2).run(x(t("i64[] 0"))), [t("f32[1] -2"), t("f32[1] 6")]);
        assert_eq!(Check::new(&op("nesterov")).results(2).run(x(t("i64[] 1"))), [t("f32[1] -3.5"), t("f32[1] 10")]);
        assert_eq!(check_error(&op("other"), x(t("i64[] 1"))), "mode `other` is not `standard` or `nesterov`");
    }

    #[test]
    fn groups() {
        let mut operands = vec![t("f32[] 0.1"), t("i64[] 3")];
        for seed in 0..3 {
            operands.extend([random("f32[2,3]", 2 * seed), random("f32[2]", 2 * seed + 1)]);
        }
        Check::new("ai.onnx.preview.training.Momentum alpha=0.9 beta=0.5 mode=\"nesterov\" norm_coefficient=0.1").results(4).run(operands);
    }
}

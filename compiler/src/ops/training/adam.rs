//! `Adam`: running means of gradients and of their squares.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html>

use super::{grouped, later, regularized, scalar, scaled, shifted};
use crate::ops::elementwise::{Pow, Sqrt};
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `v' = alpha * v + (1 - alpha) * q`, `h' = beta * h + (1 - beta) * q * q`, `x' = (1 - norm_coefficient_post) * (x - rate * v' / (sqrt(h') +
    /// epsilon))`, where `q = norm_coefficient * x + g` and `rate = r * sqrt(1 - beta^t) / (1 - alpha^t)`, before the first update `r`; for each of the
    /// tensors `x...`, their gradients `g...`, means `v...` and means of squares `h...`; results `x'...`, `v'...`, `h'...`.
    Adam(r, t, "inputs*") -> ("outputs*") since [1] in "ai.onnx.preview.training";
    /// What stays of the mean.
    alpha: f32 = 0.9f32,
    /// What stays of the mean of squares.
    beta: f32 = 0.999f32,
    /// Added to the root.
    epsilon: f32 = 1e-6f32,
    /// Factor of the regularization.
    norm_coefficient: f32 = 0.0f32,
    /// How much the result shrinks.
    norm_coefficient_post: f32 = 0.0f32,
}

composite!(Adam);

impl Adam {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        grouped(s, |s, [x, g, v, h]| {
            let (r, t) = (scalar(s, 0, x)?, scalar(s, 1, x)?);
            // `1 - base^t`, by which a mean that began at zero is too small.
            let missing = |s: &mut Steps<'_>, base: f32| {
                let (one, base) = (s.number(s.dtype(x), 1.0), s.number(s.dtype(x), base.into()));
                let power = s.apply(Pow {}, &[base, t])?;
                s.sub(one, power)
            };
            let (first, second) = (missing(s, self.alpha)?, missing(s, self.beta)?);
            let root = s.apply(Sqrt {}, &[second])?;
            let corrected = s.mul(r, root)?;
            let corrected = s.div(corrected, first)?;
            let later = later(s)?;
            let rate = s.choose(later, corrected, r)?;
            let q = regularized(s, x, g, self.norm_coefficient)?;
            let running = |s: &mut Steps<'_>, old, new, keep: f32| {
                let (old, new) = (scaled(s, old, keep)?, scaled(s, new, 1.0 - keep)?);
                s.add(old, new)
            };
            let v = running(s, v, q, self.alpha)?;
            let squared = s.mul(q, q)?;
            let h = running(s, h, squared, self.beta)?;
            let root = s.apply(Sqrt {}, &[h])?;
            let root = shifted(s, root, self.epsilon)?;
            let step = s.div(v, root)?;
            let step = s.mul(rate, step)?;
            let x = s.sub(x, step)?;
            Ok([scaled(s, x, 1.0 - self.norm_coefficient_post)?, v, h])
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};

    #[test]
    fn means_run() {
        let op = "ai.onnx.preview.training.Adam alpha=0.75 beta=0.75 epsilon=0.0 norm_coefficient_post=0.5";
        let x = |count| [t("f32[] 3"), count, t("f32[1] 2"), t("f32[1] 4"), t("f32[1] 8"), t("f32[1] 0")];
        // v' = 6 + 1, h' = 4; before the first update the rate is 3, after it 3 * sqrt(1/4) / (1/4).
        assert_eq!(Check::new(op).results(3).run(x(t("i64[] 0"))), [t("f32[1] -4.25"), t("f32[1] 7"), t("f32[1] 4")]);
        assert_eq!(Check::new(op).results(3).run(x(t("i64[] 1"))), [t("f32[1] -9.5"), t("f32[1] 7"), t("f32[1] 4")]);
    }

    #[test]
    fn groups() {
        let x = |dims: &str, seed| random(&format!("f32{dims}"), seed);
        let mut operands = vec![t("f32[] 0.1"), t("i64[] 3")];
        for seed in 0..3 {
            operands.extend([x("[2,3]", 2 * seed), x("[2]", 2 * seed + 1)]);
        }
        operands.extend([t("f32[2,3] 1 2 3 4 5 6"), t("f32[2] 1 2")]);
        Check::new("ai.onnx.preview.training.Adam norm_coefficient=0.01").results(6).run(operands);
    }
}

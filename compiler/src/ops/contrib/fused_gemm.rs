//! `FusedGemm`: `Gemm` with an activation.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FusedGemm>

use super::steps::activate;
use crate::ops::neural::Gemm;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `y = activation(alpha * a * b + beta * c)`, `a` and `b` transposed as asked for.
    FusedGemm(a, b, "c?") -> (y) since [1] in "com.microsoft";
    /// Name of the activation; none by default.
    activation: String = "",
    /// First parameter of the activation.
    activation_alpha: Option<f32>,
    /// Second parameter of the activation.
    activation_beta: Option<f32>,
    /// Third parameter of the activation.
    activation_gamma: Option<f32>,
    /// Scale of the product.
    alpha: f32 = 1.0,
    /// Scale of `c`.
    beta: f32 = 1.0,
    /// Whether `a` is transposed.
    trans_a as "transA": bool = false,
    /// Whether `b` is transposed.
    trans_b as "transB": bool = false,
}

composite!(FusedGemm);

impl FusedGemm {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let gemm = Gemm { alpha: self.alpha, beta: self.beta, trans_a: self.trans_a, trans_b: self.trans_b };
        let operands = [s.optional(0), s.optional(1), s.optional(2)];
        let y = s.apply_all(Box::new(gemm), &operands, 1)?[0];
        let parameters: Vec<f32> = [self.activation_alpha, self.activation_beta, self.activation_gamma].into_iter().flatten().collect();
        Ok(vec![activate(s, y, &self.activation, &parameters)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn an_activation_follows_the_product() {
        let x = || [t("f32[1,2] 1 -3"), t("f32[2,2] 1 2 3 4"), t("f32[2] 1 11")];
        assert_eq!(check_op("com.microsoft.FusedGemm activation=\"Relu\"", x())[0], t("f32[1,2] 0 1"));
        assert_eq!(check_op("com.microsoft.FusedGemm activation=\"LeakyRelu\" activation_alpha=0.5", x())[0], t("f32[1,2] -3.5 1"));
        assert_eq!(check_error("com.microsoft.FusedGemm activation=\"Sin\"", x()), "activation `Sin` is not supported");
    }
}

//! `Gelu`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Gelu.html>

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use super::broadcast::{self, FLOATS};
use crate::expr::{Builder, Expr, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type, erf};

operator! {
    /// `y = x / 2 * (1 + erf(x / sqrt(2)))`, or `y = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
    Gelu(x) -> (y) since [20];
    /// `none` or `tanh`.
    approximate: String = "none",
}

impl Gelu {
    fn is_tanh(&self) -> Result<bool, InferError> {
        match &self.approximate[..] {
            "none" => Ok(false),
            "tanh" => Ok(true),
            other => Err(InferError::Invalid(format!("`approximate` is \"none\" or \"tanh\", not {other:?}"))),
        }
    }
}

const CUBIC: f64 = 0.044_715;

impl Operator for Gelu {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.is_tanh()?;
        broadcast::same_type(x, FLOATS)
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let tanh = self.approximate == "tanh";
        let f = |[x]: [f64; 1]| {
            let inner = if tanh { (FRAC_2_PI.sqrt() * (x + CUBIC * x * x * x)).tanh() } else { erf(x * FRAC_1_SQRT_2) };
            0.5 * x * (1.0 + inner)
        };
        Ok(vec![broadcast::floats([x.tensor(0)], x.tensor(0).dtype(), f)])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (tanh, dtype) = (self.is_tanh()?, b.dtype(x.tensor(0)));
        let f = |v: &[Expr]| {
            let x = &v[0];
            let inner = if tanh {
                // sqrt(2 / pi) * (x + c * x^3) as x * (a + b * x^2).
                let a = FRAC_2_PI.sqrt();
                (x * &(x * x * (CUBIC * a) + a)).unary(UnaryOp::Tanh)
            } else {
                (x * FRAC_1_SQRT_2).unary(UnaryOp::Erf)
            };
            (x * 0.5) * (inner + 1.0)
        };
        Ok(vec![broadcast::lower(b, &[x.tensor(0)], dtype, f)])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_error, check_op, random, t};

    #[test]
    fn both_forms() {
        for op in ["Gelu", "Gelu approximate=\"tanh\""] {
            for dtype in ["f16", "bf16", "f32", "f64"] {
                Check::new(op).bound(if dtype == "f64" { 1e-12 } else { 1e-2 }, 1e-6).run([random(&format!("{dtype}[2,9]"), 1)]);
            }
            check_op(op, [t("f32[6] 0 nan inf 6 -6 -100")]);
        }
        assert_close(&check_op("Gelu", [t("f32[3] -1 0 1")])[0], &t("f32[3] -0.15865526 0 0.84134474"));
        assert_close(&check_op("Gelu approximate=\"tanh\"", [t("f32[3] -1 0 1")])[0], &t("f32[3] -0.158808 0 0.841192"));
        assert_eq!(check_error("Gelu approximate=\"erf\"", [t("f32[1]")]), "`approximate` is \"none\" or \"tanh\", not \"erf\"");
    }
}

//! Activation functions of one operand.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Relu.html>, <https://onnx.ai/onnx/operators/onnx__LeakyRelu.html>,
//! <https://onnx.ai/onnx/operators/onnx__ThresholdedRelu.html>, <https://onnx.ai/onnx/operators/onnx__Elu.html>,
//! <https://onnx.ai/onnx/operators/onnx__Selu.html>, <https://onnx.ai/onnx/operators/onnx__Celu.html>,
//! <https://onnx.ai/onnx/operators/onnx__Sigmoid.html>, <https://onnx.ai/onnx/operators/onnx__HardSigmoid.html>,
//! <https://onnx.ai/onnx/operators/onnx__HardSwish.html>, <https://onnx.ai/onnx/operators/onnx__Softplus.html>,
//! <https://onnx.ai/onnx/operators/onnx__Softsign.html>, <https://onnx.ai/onnx/operators/onnx__Mish.html>,
//! <https://onnx.ai/onnx/operators/onnx__Swish.html>, <https://onnx.ai/onnx/operators/onnx__Shrink.html>

use super::broadcast::{NUMBERS, SIGNED, unary};
use crate::expr::{CompareOp, Expr, UnaryOp};
use crate::operator;
use crate::tensor::{DType, softplus};

operator! {
    /// `y = max(x, 0)`; NaN of NaN.
    Relu(x) -> (y) since [1, 6, 13, 14];
}

operator! {
    /// `y = x < 0 ? alpha * x : x`.
    LeakyRelu(x) -> (y) since [1, 6, 16];
    /// Slope below zero.
    alpha: f32 = 0.01,
}

operator! {
    /// `y = x > alpha ? x : 0`.
    ThresholdedRelu(x) -> (y) since [10, 22];
    /// Threshold.
    alpha: f32 = 1.0,
}

operator! {
    /// `y = x < 0 ? alpha * (exp(x) - 1) : x`.
    Elu(x) -> (y) since [1, 6, 22];
    /// Scale below zero.
    alpha: f32 = 1.0,
}

operator! {
    /// `y = gamma * (x > 0 ? x : alpha * (exp(x) - 1))`.
    Selu(x) -> (y) since [1, 6, 22];
    /// Scale below zero.
    alpha: f32 = 1.673_263_2,
    /// Scale.
    gamma: f32 = 1.050_701,
}

operator! {
    /// `y = max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`.
    Celu(x) -> (y) since [12];
    /// Scale below zero.
    alpha: f32 = 1.0,
}

operator! {
    /// `y = 1 / (1 + exp(-x))`.
    Sigmoid(x) -> (y) since [1, 6, 13];
}

operator! {
    /// `y = max(0, min(1, alpha * x + beta))`.
    HardSigmoid(x) -> (y) since [1, 6, 22];
    /// Slope.
    alpha: f32 = 0.2,
    /// Value at zero.
    beta: f32 = 0.5,
}

operator! {
    /// `y = x * max(0, min(1, x / 6 + 1 / 2))`.
    HardSwish(x) -> (y) since [14, 22];
}

operator! {
    /// `y = log(1 + exp(x))`.
    Softplus(x) -> (y) since [1, 22];
}

operator! {
    /// `y = x / (1 + |x|)`.
    Softsign(input) -> (output) since [1, 22];
}

operator! {
    /// `y = x * tanh(softplus(x))`.
    Mish(x) -> (y) since [18, 22];
}

operator! {
    /// `y = x * sigmoid(alpha * x)`.
    Swish(x) -> (y) since [24];
    /// Scale of the sigmoid's argument.
    alpha: f32 = 1.0,
}

operator! {
    /// `y = x < -lambd ? x + bias : x > lambd ? x - bias : 0`.
    Shrink(input) -> (output) since [9];
    /// What is taken off.
    bias: f32 = 0.0,
    /// Half the width of what becomes 0.
    lambd: f32 = 0.5,
}

unary!(Relu, SIGNED, |_, x| if x < 0.0 { 0.0 } else { x }, |_, x| x.max(0), |_, x| x.max_nan(&x.like(0.0)));
unary!(LeakyRelu, |a, x| if x < 0.0 { f64::from(a.alpha) * x } else { x }, |a, x| negative(x, &(x * f64::from(a.alpha))));
unary!(ThresholdedRelu, |a, x| if x > f64::from(a.alpha) { x } else { 0.0 }, |a, x| {
    x.compare(CompareOp::Gt, &x.like(a.alpha.into())).select(x, &x.like(0.0))
});
unary!(Elu, |a, x| if x < 0.0 { f64::from(a.alpha) * x.exp_m1() } else { x }, |a, x| {
    negative(x, &(x.unary(UnaryOp::Expm1) * f64::from(a.alpha)))
});
unary!(Selu, |a, x| f64::from(a.gamma) * if x > 0.0 { x } else { f64::from(a.alpha) * x.exp_m1() }, |a, x| {
    let below = x.unary(UnaryOp::Expm1) * (f64::from(a.alpha) * f64::from(a.gamma));
    x.compare(CompareOp::Gt, &x.like(0.0)).select(&(x * f64::from(a.gamma)), &below)
});
unary!(
    Celu,
    |a, x| {
        let below = f64::from(a.alpha) * (x / f64::from(a.alpha)).exp_m1();
        (if x < 0.0 { 0.0 } else { x }) + if below > 0.0 { 0.0 } else { below }
    },
    |a, x| {
        let below = (x / f64::from(a.alpha)).unary(UnaryOp::Expm1) * f64::from(a.alpha);
        x.max_nan(&x.like(0.0)) + below.min_nan(&x.like(0.0))
    }
);
unary!(Sigmoid, |_, x| 1.0 / (1.0 + (-x).exp()), |_, x| x.unary(UnaryOp::Sigmoid));
unary!(HardSigmoid, |a, x| clamp01(f64::from(a.alpha) * x + f64::from(a.beta)), |a, x| {
    unit(&(x * f64::from(a.alpha) + f64::from(a.beta)))
});
unary!(HardSwish, |_, x| x * clamp01(x / 6.0 + 0.5), |_, x| x * &unit(&(x * (1.0 / 6.0) + 0.5)));
unary!(Softplus, |_, x| softplus(x), |_, x| x.unary(UnaryOp::Softplus));
unary!(Softsign, |_, x| x / (1.0 + x.abs()), |_, x| x / &(x.unary(UnaryOp::Abs) + 1.0));
unary!(Mish, |_, x| x * softplus(x).tanh(), |_, x| x * &x.unary(UnaryOp::Softplus).unary(UnaryOp::Tanh));
unary!(Swish, |a, x| x / (1.0 + (-f64::from(a.alpha) * x).exp()), |a, x| {
    let scaled = if a.alpha == 1.0 { x.clone() } else { x * f64::from(a.alpha) };
    x * &scaled.unary(UnaryOp::Sigmoid)
});
unary!(Shrink, NUMBERS, |a, x| a.shrunk(x), |a, x| a.shrunk(x as f64) as i128, |a, x| {
    // Integers as numbers that have fractions, which are cut off.
    let x = if x.dtype().is_float() { x.clone() } else { x.cast(DType::F64) };
    let (bias, lambd) = (f64::from(a.bias), f64::from(a.lambd));
    let above = x.compare(CompareOp::Gt, &x.like(lambd)).select(&(&x - bias), &x.like(0.0));
    x.compare(CompareOp::Lt, &x.like(-lambd)).select(&(&x + bias), &above)
});

impl Shrink {
    fn shrunk(&self, x: f64) -> f64 {
        let (bias, lambd) = (f64::from(self.bias), f64::from(self.lambd));
        if x < -lambd {
            x + bias
        } else if x > lambd {
            x - bias
        } else {
            0.0
        }
    }
}

/// `x < 0 ? below : x`.
pub(super) fn negative(x: &Expr, below: &Expr) -> Expr {
    x.compare(CompareOp::Lt, &x.like(0.0)).select(below, x)
}

/// Clamped to 0..1; NaN stays.
fn unit(x: &Expr) -> Expr {
    x.min_nan(&x.like(1.0)).max_nan(&x.like(0.0))
}

fn clamp01(x: f64) -> f64 {
    x.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_error, check_op, lowered, random, t};

    const ALL: [&str; 18] = [
        "Relu",
        "LeakyRelu",
        "LeakyRelu alpha=0.3",
        "ThresholdedRelu alpha=0.5",
        "Elu alpha=0.7",
        "Selu",
        "Celu alpha=0.5",
        "Celu alpha=-0.5",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Softplus",
        "Softsign",
        "Mish",
        "Swish",
        "Swish alpha=1.5",
        "Shrink lambd=0.75 bias=0.25",
        "Shrink lambd=1.5 bias=1.5",
    ];

    #[test]
    fn every_type() {
        for dtype in ["f16", "bf16", "f32", "f64"] {
            for op in ALL {
                let check = Check::new(op);
                let check = if dtype == "f64" { check.bound(1e-7, 1e-7) } else { check };
                check.run([random(&format!("{dtype}[3,7]"), 3)]);
                check.run([t(&format!("{dtype}[7] nan 0 -0 100 -100 inf 1"))]);
                check.run([t(&format!("{dtype}[0]"))]);
                check.run([t(&format!("{dtype}[] 0.25"))]);
            }
        }
        for dtype in ["i8", "i16", "i32", "i64"] {
            check_op("Relu", [random(&format!("{dtype}[9]"), 3)]);
        }
    }

    #[test]
    fn values() {
        for (op, x, y) in [
            ("Relu", "-1 0.5 nan", "0 0.5 nan"),
            ("LeakyRelu", "-1 0.5 nan", "-0.01 0.5 nan"),
            ("ThresholdedRelu", "-1 1 1.5", "0 0 1.5"),
            ("Elu", "-1 0 2", "-0.63212056 0 2"),
            ("Selu", "-1 0 2", "-1.1113307 0 2.101402"),
            ("Celu alpha=2.0", "-1 0 2", "-0.78693868 0 2"),
            ("Sigmoid", "-1 0 100", "0.26894142 0.5 1"),
            ("HardSigmoid", "-3 0 1", "0 0.5 0.7"),
            ("HardSwish", "-3 1 4", "0 0.6666667 4"),
            ("Softplus", "-100 0 1000", "3.783506e-44 0.69314718 1000"),
            ("Softsign", "-1 0 3", "-0.5 0 0.75"),
            ("Mish", "-1 0 2", "-0.30340146 0 1.9439590"),
            ("Swish", "-1 0 2", "-0.26894142 0 1.7615942"),
            ("Shrink lambd=1.5 bias=1.0", "-2 1 3", "-1 0 2"),
        ] {
            assert_close(&check_op(op, [t(&format!("f32[3] {x}"))])[0], &t(&format!("f32[3] {y}")));
        }
    }

    #[test]
    fn relu_is_one_maximum() {
        insta::assert_snapshot!(lowered("Relu", &["f32[2]"]), @r"
        program(%x0: f32[2]) -> (%y) {
          %y[i0] = max(0, %x0[i0]) : f32[2]
        }
        ");
        insta::assert_snapshot!(lowered("Relu", &["f16[2]"]), @r"
        program(%x0: f16[2]) -> (%y) {
          %y[i0] = f16(max(0, f32(%x0[i0]))) : f16[2]
        }
        ");
    }

    #[test]
    fn errors() {
        assert_eq!(check_error("Elu", [t("i32[2]")]), "operand 0 has element type `i32`, which is not supported here");
        assert_eq!(check_error("Elu beta=1.0", [t("f32[2]")]), "attribute `beta` is unknown");
    }
}

//! Trigonometric and hyperbolic functions and their inverses.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Sin.html>, <https://onnx.ai/onnx/operators/onnx__Cos.html>,
//! <https://onnx.ai/onnx/operators/onnx__Tan.html>, <https://onnx.ai/onnx/operators/onnx__Asin.html>,
//! <https://onnx.ai/onnx/operators/onnx__Acos.html>, <https://onnx.ai/onnx/operators/onnx__Atan.html>,
//! <https://onnx.ai/onnx/operators/onnx__Sinh.html>, <https://onnx.ai/onnx/operators/onnx__Cosh.html>,
//! <https://onnx.ai/onnx/operators/onnx__Tanh.html>, <https://onnx.ai/onnx/operators/onnx__Asinh.html>,
//! <https://onnx.ai/onnx/operators/onnx__Acosh.html>, <https://onnx.ai/onnx/operators/onnx__Atanh.html>

use super::broadcast::unary;
use crate::expr::UnaryOp;
use crate::operator;

operator! {
    /// The sine of an angle in radians.
    Sin(input) -> (output) since [7, 22];
}

operator! {
    /// The cosine of an angle in radians.
    Cos(input) -> (output) since [7, 22];
}

operator! {
    /// The tangent of an angle in radians.
    Tan(input) -> (output) since [7, 22];
}

operator! {
    /// The arc sine; NaN outside of -1..1.
    Asin(input) -> (output) since [7, 22];
}

operator! {
    /// The arc cosine; NaN outside of -1..1.
    Acos(input) -> (output) since [7, 22];
}

operator! {
    /// The arc tangent.
    Atan(input) -> (output) since [7, 22];
}

operator! {
    /// The hyperbolic sine.
    Sinh(input) -> (output) since [9, 22];
}

operator! {
    /// The hyperbolic cosine.
    Cosh(input) -> (output) since [9, 22];
}

operator! {
    /// The hyperbolic tangent.
    Tanh(input) -> (output) since [1, 6, 13];
}

operator! {
    /// The inverse hyperbolic sine.
    Asinh(input) -> (output) since [9, 22];
}

operator! {
    /// The inverse hyperbolic cosine; NaN below 1.
    Acosh(input) -> (output) since [9, 22];
}

operator! {
    /// The inverse hyperbolic tangent; NaN outside of -1..1.
    Atanh(input) -> (output) since [9, 22];
}

unary!(Sin, |_, x| x.sin(), |_, x| x.unary(UnaryOp::Sin));
unary!(Cos, |_, x| x.cos(), |_, x| x.unary(UnaryOp::Cos));
unary!(Tan, |_, x| x.tan(), |_, x| x.unary(UnaryOp::Tan));
unary!(Asin, |_, x| x.asin(), |_, x| x.unary(UnaryOp::Asin));
unary!(Acos, |_, x| x.acos(), |_, x| x.unary(UnaryOp::Acos));
unary!(Atan, |_, x| x.atan(), |_, x| x.unary(UnaryOp::Atan));
unary!(Sinh, |_, x| x.sinh(), |_, x| x.unary(UnaryOp::Sinh));
unary!(Cosh, |_, x| x.cosh(), |_, x| x.unary(UnaryOp::Cosh));
unary!(Tanh, |_, x| x.tanh(), |_, x| x.unary(UnaryOp::Tanh));
unary!(Asinh, |_, x| x.asinh(), |_, x| x.unary(UnaryOp::Asinh));
unary!(Acosh, |_, x| x.acosh(), |_, x| x.unary(UnaryOp::Acosh));
unary!(Atanh, |_, x| x.atanh(), |_, x| x.unary(UnaryOp::Atanh));

#[cfg(test)]
mod tests {
    use crate::ops::check::{assert_close, check_op, random, t};

    #[test]
    fn every_type() {
        for dtype in ["f16", "bf16", "f32", "f64"] {
            for op in ["Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh", "Acosh", "Atanh"] {
                check_op(op, [random(&format!("{dtype}[17]"), 3)]);
                check_op(op, [t(&format!("{dtype}[5] nan inf -inf 0 1"))]);
            }
        }
    }

    #[test]
    fn values() {
        for (op, x, y) in [
            ("Sin", 1.0, 0.841470985),
            ("Cos", 1.0, 0.540302306),
            ("Tan", 1.0, 1.557407725),
            ("Asin", 0.25, 0.252680255),
            ("Acos", 0.25, 1.318116072),
            ("Atan", 0.5, 0.463647609),
            ("Sinh", 1.0, 1.175201194),
            ("Cosh", 1.0, 1.543080635),
            ("Tanh", 1.0, 0.761594156),
            ("Asinh", 1.0, 0.881373587),
            ("Acosh", 2.0, 1.316957897),
            ("Atanh", 0.5, 0.549306144),
        ] {
            assert_close(&check_op(op, [t(&format!("f32[1] {x}"))])[0], &t(&format!("f32[1] {y}")));
        }
    }
}

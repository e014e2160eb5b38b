//! `Sqrt`, `Reciprocal`, `Exp`, `Log`, `Erf`, `Floor`, `Ceil`, `Round`, `Neg`, `Abs` and `Sign`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Sqrt.html>, <https://onnx.ai/onnx/operators/onnx__Reciprocal.html>,
//! <https://onnx.ai/onnx/operators/onnx__Exp.html>, <https://onnx.ai/onnx/operators/onnx__Log.html>,
//! <https://onnx.ai/onnx/operators/onnx__Erf.html>, <https://onnx.ai/onnx/operators/onnx__Floor.html>,
//! <https://onnx.ai/onnx/operators/onnx__Ceil.html>, <https://onnx.ai/onnx/operators/onnx__Round.html>,
//! <https://onnx.ai/onnx/operators/onnx__Neg.html>, <https://onnx.ai/onnx/operators/onnx__Abs.html>,
//! <https://onnx.ai/onnx/operators/onnx__Sign.html>

use super::broadcast::{NUMBERS, SIGNED, unary};
use crate::expr::{CompareOp, Expr, UnaryOp};
use crate::operator;
use crate::tensor::erf;

operator! {
    /// `y = sqrt(x)`; NaN below zero.
    Sqrt(x) -> (y) since [1, 6, 13];
}

operator! {
    /// `y = 1 / x`.
    Reciprocal(x) -> (y) since [1, 6, 13];
}

operator! {
    /// `y = e^x`.
    Exp(input) -> (output) since [1, 6, 13];
}

operator! {
    /// The natural logarithm.
    Log(input) -> (output) since [1, 6, 13];
}

operator! {
    /// The error function.
    Erf(input) -> (output) since [9, 13];
}

operator! {
    /// The greatest integer that is not greater.
    Floor(x) -> (y) since [1, 6, 13];
}

operator! {
    /// The least integer that is not less.
    Ceil(x) -> (y) since [1, 6, 13];
}

operator! {
    /// The nearest integer; halves go to the even one.
    Round(x) -> (y) since [11, 22];
}

operator! {
    /// `y = -x`. Integers wrap.
    Neg(x) -> (y) since [1, 6, 13];
}

operator! {
    /// `y = |x|`. Integers wrap.
    Abs(x) -> (y) since [1, 6, 13];
}

operator! {
    /// -1, 0 or 1 as `x` is below, at or above zero; NaN of NaN.
    Sign(input) -> (output) since [9, 13];
}

unary!(Sqrt, |_, x| x.sqrt(), |_, x| x.unary(UnaryOp::Sqrt));
unary!(Reciprocal, |_, x| 1.0 / x, |_, x| x.like(1.0) / x.clone());
unary!(Exp, |_, x| x.exp(), |_, x| x.unary(UnaryOp::Exp));
unary!(Log, |_, x| x.ln(), |_, x| x.unary(UnaryOp::Log));
unary!(Erf, |_, x| erf(x), |_, x| x.unary(UnaryOp::Erf));
unary!(Floor, |_, x| x.floor(), |_, x| x.unary(UnaryOp::Floor));
unary!(Ceil, |_, x| x.ceil(), |_, x| x.unary(UnaryOp::Ceil));
unary!(Round, |_, x| x.round_ties_even(), |_, x| x.unary(UnaryOp::Round));
unary!(Neg, SIGNED, |_, x| -x, |_, x| -x, |_, x| x.unary(UnaryOp::Neg));
unary!(Abs, NUMBERS, |_, x| x.abs(), |_, x| x.abs(), |_, x| if x.dtype().is_signed() { x.unary(UnaryOp::Abs) } else { x.clone() });
unary!(Sign, NUMBERS, |_, x| if x == 0.0 || x.is_nan() { x } else { x.signum() }, |_, x| x.signum(), |_, x| sign(x));

/// Zero and NaN are themselves.
fn sign(x: &Expr) -> Expr {
    let zero = x.like(0.0);
    let rest = if x.dtype().is_signed() { x.compare(CompareOp::Lt, &zero).select(&x.like(-1.0), x) } else { x.clone() };
    x.compare(CompareOp::Gt, &zero).select(&x.like(1.0), &rest)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn every_float_type() {
        for dtype in ["f16", "bf16", "f32", "f64"] {
            for op in ["Sqrt", "Reciprocal", "Exp", "Log", "Erf", "Floor", "Ceil", "Round", "Neg", "Abs", "Sign"] {
                check_op(op, [random(&format!("{dtype}[2,9]"), 3)]);
                check_op(op, [t(&format!("{dtype}[5] nan inf -inf 0 -0"))]);
                check_op(op, [t(&format!("{dtype}[2,0,3]"))]);
                check_op(op, [t(&format!("{dtype}[] 0.25"))]);
            }
        }
    }

    #[test]
    fn integers() {
        for op in ["Neg", "Abs", "Sign"] {
            for dtype in ["i8", "i16", "i32", "i64"] {
                check_op(op, [random(&format!("{dtype}[9]"), 3)]);
            }
        }
        assert_eq!(check_op("Neg", [t("i8[3] -128 5 0")]), [t("i8[3] -128 -5 0")]);
        assert_eq!(check_op("Abs", [t("i8[3] -128 5 -5")]), [t("i8[3] -128 5 5")]);
        assert_eq!(check_op("Abs", [t("u64[1] 18446744073709551615")]), [t("u64[1] 18446744073709551615")]);
        assert_eq!(check_op("Sign", [t("u8[2] 0 200")]), [t("u8[2] 0 1")]);
        assert_eq!(check_op("Sign", [t("i32[3] -9 0 7")]), [t("i32[3] -1 0 1")]);
    }

    #[test]
    fn values() {
        assert_eq!(check_op("Round", [t("f32[7] 0.5 1.5 2.5 -0.5 -1.5 2.4 -2.6")]), [t("f32[7] 0 2 2 -0 -2 2 -3")]);
        assert_eq!(check_op("Sqrt", [t("f32[2] 4 2.25")]), [t("f32[2] 2 1.5")]);
        assert_eq!(check_op("Sign", [t("f32[4] -3 0 nan inf")]), [t("f32[4] -1 0 nan 1")]);
        assert_eq!(check_op("Floor", [t("f32[2] -1.5 1.5")]), [t("f32[2] -2 1")]);
        assert_eq!(check_op("Ceil", [t("f32[2] -1.5 1.5")]), [t("f32[2] -1 2")]);
    }

    #[test]
    fn errors() {
        assert_eq!(check_error("Neg", [t("u8[2]")]), "operand 0 has element type `u8`, which is not supported here");
        assert_eq!(check_error("Sqrt", [t("i32[2]")]), "operand 0 has element type `i32`, which is not supported here");
    }
}

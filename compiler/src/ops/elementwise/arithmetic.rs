//! `Add`, `Sub`, `Mul` and `Div`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Add.html>, <https://onnx.ai/onnx/operators/onnx__Sub.html>,
//! <https://onnx.ai/onnx/operators/onnx__Mul.html>, <https://onnx.ai/onnx/operators/onnx__Div.html>

use super::broadcast::{NUMBERS, binary};
use crate::operator;
use crate::ops::Interval;

operator! {
    /// `c = a + b`, element by element with broadcasting. Integers wrap.
    Add(a, b) -> (c) since [1, 6, 7, 13, 14];
}

operator! {
    /// `c = a - b`, element by element with broadcasting. Integers wrap.
    Sub(a, b) -> (c) since [1, 6, 7, 13, 14];
}

operator! {
    /// `c = a * b`, element by element with broadcasting. Integers wrap.
    Mul(a, b) -> (c) since [1, 6, 7, 13, 14];
}

operator! {
    /// `c = a / b`, element by element with broadcasting. Integers truncate toward zero; by zero they give 0.
    Div(a, b) -> (c) since [1, 6, 7, 13, 14];
}

binary!(Add, NUMBERS, |a, b| a + b, |a, b| a + b, |a, b| a + b, |a, b| a + b, [Some(0.0); 2]);
binary!(Sub, NUMBERS, |a, b| a - b, |a, b| a - b, |a, b| a - b, |a, b| a - b, [None, Some(0.0)]);
binary!(Mul, NUMBERS, |a, b| a * b, |a, b| a.wrapping_mul(b), |a, b| a * b, Interval::times, [Some(1.0); 2]);
binary!(Div, NUMBERS, |a, b| a / b, |a, b| a.checked_div(b).unwrap_or(0), |a, b| a / b, Interval::over, [None, Some(1.0)]);

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn broadcasts() {
        assert_eq!(check_op("Add", [t("f32[2,1] 1 2"), t("f32[3] 10 20 30")]), [t("f32[2,3] 11 21 31 12 22 32")]);
        assert_eq!(check_op("Sub", [t("f32[] 1"), t("f32[2] 10 20")]), [t("f32[2] -9 -19")]);
        check_op("Add", [random("f32[4,1,3]", 1), random("f32[2,3]", 2)]);
        check_op("Mul", [random("f32[2,3,4]", 1), random("f32[3,1]", 2)]);
        check_op("Mul", [random("f32[0,3]", 1), random("f32[]", 2)]);
        check_op("Add", [random("f32[]", 1), random("f32[]", 2)]);
        check_op("Add", [random("f32[3,0]", 1), random("f32[1]", 2)]);
    }

    #[test]
    fn every_type() {
        for dtype in ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64"] {
            for op in ["Add", "Sub", "Mul", "Div"] {
                check_op(op, [random(&format!("{dtype}[2,5]"), 3), random(&format!("{dtype}[5]"), 4)]);
            }
        }
    }

    #[test]
    fn integers_wrap_and_divide() {
        assert_eq!(check_op("Add", [t("u8[2] 250 1"), t("u8[2] 10 2")]), [t("u8[2] 4 3")]);
        assert_eq!(check_op("Sub", [t("u64[1] 0"), t("u64[1] 1")]), [t("u64[1] 18446744073709551615")]);
        assert_eq!(check_op("Mul", [t("u64[1] 18446744073709551615"), t("u64[1] 18446744073709551615")]), [t("u64[1] 1")]);
        assert_eq!(check_op("Mul", [t("i64[1] 9007199254740993"), t("i64[1] 3")]), [t("i64[1] 27021597764222979")]);
        assert_eq!(check_op("Div", [t("i32[4] 7 -7 7 -7"), t("i32[4] 2 2 -2 0")]), [t("i32[4] 3 -3 -3 0")]);
        assert_eq!(check_op("Div", [t("i8[1] -128"), t("i8[1] -1")]), [t("i8[1] -128")]);
        assert_eq!(check_op("Div", [t("u64[1] 18446744073709551615"), t("u64[1] 2")]), [t("u64[1] 9223372036854775807")]);
    }

    #[test]
    fn special_values() {
        assert_eq!(check_op("Div", [t("f32[3] 1 -1 0"), t("f32[] 0")])[0].to_f64s()[..2], [f64::INFINITY, f64::NEG_INFINITY]);
        check_op("Mul", [t("f32[3] inf nan -0"), t("f32[] 0")]);
    }

    #[test]
    fn errors() {
        assert_eq!(check_error("Add", [t("f32[2]"), t("f32[3]")]), "shapes [2] and [3] do not broadcast");
        assert_eq!(check_error("Add", [t("f32[2]"), t("i32[2]")]), "operands 0 and 1 differ in element type: f32 and i32");
        assert_eq!(check_error("Add", [t("bool[2]"), t("bool[2]")]), "operand 0 has element type `bool`, which is not supported here");
        assert_eq!(check_error("Add", [t("f32[2]")]), "operand 1 is missing");
    }
}

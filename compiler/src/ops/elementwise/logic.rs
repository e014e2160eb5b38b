//! Logical operators on `bool`, bitwise ones and shifts on integers.
//! Spec: <https://onnx.ai/onnx/operators/onnx__And.html>, <https://onnx.ai/onnx/operators/onnx__Or.html>,
//! <https://onnx.ai/onnx/operators/onnx__Xor.html>, <https://onnx.ai/onnx/operators/onnx__Not.html>,
//! <https://onnx.ai/onnx/operators/onnx__BitwiseAnd.html>, <https://onnx.ai/onnx/operators/onnx__BitwiseOr.html>,
//! <https://onnx.ai/onnx/operators/onnx__BitwiseXor.html>, <https://onnx.ai/onnx/operators/onnx__BitwiseNot.html>,
//! <https://onnx.ai/onnx/operators/onnx__BitShift.html>

use super::broadcast::{self, INTS, binary, unary};
use crate::expr::{BinaryOp, Builder, CompareOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `c = a and b`, of `bool`, with broadcasting.
    And(a, b) -> (c) since [1, 7];
}

operator! {
    /// `c = a or b`, of `bool`, with broadcasting.
    Or(a, b) -> (c) since [1, 7];
}

operator! {
    /// `c = a != b`, of `bool`, with broadcasting.
    Xor(a, b) -> (c) since [1, 7];
}

operator! {
    /// `y = not x`, of `bool`.
    Not(x) -> (y) since [1];
}

operator! {
    /// `c = a & b`, bit by bit, with broadcasting.
    BitwiseAnd(a, b) -> (c) since [18];
}

operator! {
    /// `c = a | b`, bit by bit, with broadcasting.
    BitwiseOr(a, b) -> (c) since [18];
}

operator! {
    /// `c = a ^ b`, bit by bit, with broadcasting.
    BitwiseXor(a, b) -> (c) since [18];
}

operator! {
    /// `y = !x`, bit by bit.
    BitwiseNot(x) -> (y) since [18];
}

operator! {
    /// `z = x << y` or `x >> y`, with broadcasting. Shifts by all bits or more (or by less than 0) leave only copies of the sign, or 0.
    BitShift(x, y) -> (z) since [11, 28];
    /// `LEFT` or `RIGHT`.
    direction: String,
}

const BOOL: &[DType] = &[DType::Bool];

binary!(And, BOOL, |a, _| a, |a, b| a & b, |a, b| a.binary(BinaryOp::And, b));
binary!(Or, BOOL, |a, _| a, |a, b| a | b, |a, b| a.binary(BinaryOp::Or, b));
binary!(Xor, BOOL, |a, _| a, |a, b| a ^ b, |a, b| a.binary(BinaryOp::Xor, b));
unary!(Not, BOOL, |_, x| x, |_, x| x ^ 1, |_, x| x.unary(UnaryOp::Not));
binary!(BitwiseAnd, INTS, |a, _| a, |a, b| a & b, |a, b| a.binary(BinaryOp::And, b));
binary!(BitwiseOr, INTS, |a, _| a, |a, b| a | b, |a, b| a.binary(BinaryOp::Or, b));
binary!(BitwiseXor, INTS, |a, _| a, |a, b| a ^ b, |a, b| a.binary(BinaryOp::Xor, b));
unary!(BitwiseNot, INTS, |_, x| x, |_, x| !x, |_, x| x.unary(UnaryOp::Not));

impl BitShift {
    fn is_left(&self) -> Result<bool, InferError> {
        match &self.direction[..] {
            "LEFT" => Ok(true),
            "RIGHT" => Ok(false),
            other => Err(InferError::Invalid(format!("`direction` is \"LEFT\" or \"RIGHT\", not {other:?}"))),
        }
    }
}

impl Operator for BitShift {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.is_left()?;
        x.ty(1)?;
        broadcast::same_type(x, INTS)
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (left, dtype) = (self.direction == "LEFT", x.tensor(0).dtype());
        let bits = i128::from(dtype.bits());
        let shift = |[a, b]: [i128; 2]| match ((0..bits).contains(&b), left) {
            (false, true) => 0,
            (false, false) => a >> 127,
            (true, true) => a << b,
            (true, false) => a >> b,
        };
        Ok(vec![broadcast::ints([x.tensor(0), x.tensor(1)], dtype, shift)])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let op = if self.is_left()? { BinaryOp::Shl } else { BinaryOp::Shr };
        let dtype = b.dtype(x.tensor(0));
        let y = broadcast::lower(b, &[x.tensor(0), x.tensor(1)], dtype, |v| {
            // By constants only: for each bit of the amount, as far as it says.
            let zero = v[0].like(0.0);
            let shifted = (0..dtype.bits().trailing_zeros()).fold(v[0].clone(), |x, bit| {
                let by = x.like(f64::from(1 << bit));
                v[1].binary(BinaryOp::And, &by).compare(CompareOp::Ne, &zero).select(&x.binary(op, &by), &x)
            });
            let bits = v[1].like(dtype.bits().into());
            let mut inside = v[1].compare(CompareOp::Lt, &bits);
            let mut rest = zero.clone();
            if dtype.is_signed() {
                inside = inside.binary(BinaryOp::And, &v[1].compare(CompareOp::Ge, &zero));
                if op == BinaryOp::Shr {
                    rest = v[0].compare(CompareOp::Lt, &zero).select(&v[0].like(-1.0), &zero);
                }
            }
            inside.select(&shifted, &rest)
        });
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn logical() {
        let x = || [t("bool[2,1] 0 1"), t("bool[2] 0 1")];
        assert_eq!(check_op("And", x()), [t("bool[2,2] 0 0 0 1")]);
        assert_eq!(check_op("Or", x()), [t("bool[2,2] 0 1 1 1")]);
        assert_eq!(check_op("Xor", x()), [t("bool[2,2] 0 1 1 0")]);
        assert_eq!(check_op("Not", [t("bool[2] 0 1")]), [t("bool[2] 1 0")]);
        assert_eq!(check_error("And", [t("i32[1]"), t("i32[1]")]), "operand 0 has element type `i32`, which is not supported here");
    }

    #[test]
    fn bitwise() {
        for dtype in ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"] {
            for op in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"] {
                check_op(op, [random(&format!("{dtype}[2,5]"), 3), random(&format!("{dtype}[5]"), 4)]);
            }
            check_op("BitwiseNot", [random(&format!("{dtype}[5]"), 4)]);
        }
        assert_eq!(check_op("BitwiseNot", [t("u8[2] 0 5")]), [t("u8[2] 255 250")]);
        assert_eq!(check_op("BitwiseXor", [t("i8[2] -1 5"), t("i8[] 1")]), [t("i8[2] -2 4")]);
    }

    #[test]
    fn shifts() {
        for dtype in ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"] {
            for op in ["BitShift direction=\"LEFT\"", "BitShift direction=\"RIGHT\""] {
                check_op(op, [random(&format!("{dtype}[2,5]"), 3), random(&format!("{dtype}[5]"), 4)]);
            }
        }
        assert_eq!(check_op("BitShift direction=\"LEFT\"", [t("u8[4] 1 255 1 1"), t("u8[4] 3 1 8 255")]), [t("u8[4] 8 254 0 0")]);
        assert_eq!(check_op("BitShift direction=\"RIGHT\"", [t("u8[3] 255 255 255"), t("u8[3] 0 7 8")]), [t("u8[3] 255 1 0")]);
        assert_eq!(check_op("BitShift direction=\"RIGHT\"", [t("i8[4] -5 -5 5 -128"), t("i8[4] 1 9 -1 7")]), [t("i8[4] -3 -1 0 -1")]);
        let error = "`direction` is \"LEFT\" or \"RIGHT\", not \"UP\"";
        assert_eq!(check_error("BitShift direction=\"UP\"", [t("u8[1]"), t("u8[1]")]), error);
        assert_eq!(check_error("BitShift", [t("u8[1]"), t("u8[1]")]), "attribute `direction` is missing");
    }
}

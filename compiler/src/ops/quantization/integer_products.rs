//! `MatMulInteger`, `ConvInteger`, `QLinearMatMul` and `QLinearConv`: products of integers minus their zero points, exact in `i32`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__MatMulInteger.html>, <https://onnx.ai/onnx/operators/onnx__ConvInteger.html>,
//! <https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html>, <https://onnx.ai/onnx/operators/onnx__QLinearConv.html>

use super::products::{integer_conv, integer_matmul};
use crate::ops::elementwise::{Clip, Round};
use crate::ops::neural::convolution;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `y = (a - a_zero_point) * (b - b_zero_point)`, the matrix product in `i32`.
    MatMulInteger(a, b, "a_zero_point?", "b_zero_point?") -> (y) since [10];
}

convolution! {
    /// The convolution of `x - x_zero_point` with `w - w_zero_point`, in `i32`.
    ConvInteger(x, w, "x_zero_point?", "w_zero_point?") -> (y) since [10];
}

operator! {
    /// `y = saturate(round((a - a_zero_point) * (b - b_zero_point) * (a_scale * b_scale / y_scale)) + y_zero_point)`.
    QLinearMatMul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point) -> (y) since [10, 21];
}

convolution! {
    /// The convolution of quantized values, requantized as `QLinearMatMul` does; the bias is an integer.
    QLinearConv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, "b?") -> (y) since [10];
}

composite!(MatMulInteger);
composite!(ConvInteger);
composite!(QLinearMatMul);
composite!(QLinearConv);

/// What belongs to the rows of the left operand, the columns of the right one, or the filters of a convolution.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Rows,
    Columns,
    /// Channels of a result of this rank.
    Channels(usize),
}

/// A scale or zero point, with its axis where the side has it.
fn placed(s: &mut Steps<'_>, v: Step, side: Side) -> Result<Step, InferError> {
    let dims = s.dims(v)?;
    match (&dims[..], side) {
        ([] | [1], _) => s.reshape(v, &[]),
        ([n], Side::Rows) => s.reshape(v, &[*n, 1]),
        ([n], Side::Channels(rank)) => s.reshape(v, &[&[*n][..], &vec![1; rank - 2]].concat()),
        (_, Side::Rows | Side::Columns) => Ok(v),
        _ => Err(InferError::Invalid(format!("scales or zero points of extents {dims:?}"))),
    }
}

/// Integers of eight bits and their zero point, placed.
fn quantized(s: &mut Steps<'_>, x: usize, zero: usize, side: Side) -> Result<(Step, Option<Step>), InferError> {
    let dtype = s.operands().require_dtype(x, &[DType::I8, DType::U8])?;
    let value = s.operand(x)?;
    let Some(zero_point) = s.optional(zero) else { return Ok((value, None)) };
    s.operands().require_dtype(zero, &[dtype])?;
    Ok((value, Some(placed(s, zero_point, side)?)))
}

/// Scale `i` in `f32`, placed.
fn scale(s: &mut Steps<'_>, i: usize, side: Side) -> Result<Step, InferError> {
    s.operands().require_dtype(i, &[DType::F16, DType::BF16, DType::F32])?;
    let v = s.operand(i)?;
    let v = s.cast(v, DType::F32)?;
    placed(s, v, side)
}

/// Sums as integers of the type of the zero point: `saturate(round(sum * factor) + zero_point)`.
fn requantized(s: &mut Steps<'_>, sum: Step, factor: Step, zero: usize, side: Side) -> Result<Step, InferError> {
    let dtype = s.operands().require_dtype(zero, &[DType::I8, DType::U8])?;
    let sum = s.cast(sum, DType::F32)?;
    let scaled = s.mul(sum, factor)?;
    let rounded = s.apply(Round {}, &[scaled])?;
    let zero_point = s.operand(zero)?;
    let zero_point = s.cast(zero_point, DType::F32)?;
    let zero_point = placed(s, zero_point, side)?;
    let shifted = s.add(rounded, zero_point)?;
    let (low, high) = dtype.int_range();
    let (low, high) = (s.number(DType::F32, low as f64), s.number(DType::F32, high as f64));
    let clipped = s.apply(Clip {}, &[shifted, low, high])?;
    s.cast(clipped, dtype)
}

impl MatMulInteger {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (quantized(s, 0, 2, Side::Rows)?, quantized(s, 1, 3, Side::Columns)?);
        Ok(vec![integer_matmul(s, a, b)?])
    }
}

impl ConvInteger {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, w) = (quantized(s, 0, 2, Side::Columns)?, quantized(s, 1, 3, Side::Columns)?);
        Ok(vec![integer_conv(s, &self.conv(), x, w, None)?])
    }
}

impl QLinearMatMul {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (quantized(s, 0, 2, Side::Rows)?, quantized(s, 3, 5, Side::Columns)?);
        let sum = integer_matmul(s, a, b)?;
        let (a, b, y) = (scale(s, 1, Side::Rows)?, scale(s, 4, Side::Columns)?, scale(s, 6, Side::Rows)?);
        let product = s.mul(a, b)?;
        let factor = s.div(product, y)?;
        Ok(vec![requantized(s, sum, factor, 7, Side::Rows)?])
    }
}

impl QLinearConv {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let rank = s.operands().rank(3)?;
        let (x, w) = (quantized(s, 0, 2, Side::Columns)?, quantized(s, 3, 5, Side::Columns)?);
        let bias = s.optional(8);
        if bias.is_some() {
            s.operands().require_dtype(8, &[DType::I32])?;
        }
        let sum = integer_conv(s, &self.conv(), x, w, bias)?;
        let (x, w) = (scale(s, 1, Side::Columns)?, scale(s, 4, Side::Channels(rank))?);
        let y = scale(s, 6, Side::Columns)?;
        let product = s.mul(x, w)?;
        let factor = s.div(product, y)?;
        Ok(vec![requantized(s, sum, factor, 7, Side::Columns)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn integers_multiply() {
        let x = [t("u8[1,2] 3 4"), t("i8[2,1] -1 2"), t("u8[] 1"), t("i8[1] 1")];
        assert_eq!(check_op("MatMulInteger", x)[0], t("i32[1,1] -1"));
        check_op("MatMulInteger", [random("u8[2,3,4]", 1), random("i8[4,5]", 2), random("u8[3]", 3), random("i8[5]", 4)]);
        let x = [random("u8[1,4,5,5]", 1), random("i8[6,2,3,3]", 2), t("u8[] 7"), random("i8[6]", 3)];
        check_op("ConvInteger group=2 pads=[1,1,1,1]", x);
        assert_eq!(
            check_error("MatMulInteger", [t("i16[1,1]"), t("u8[1,1]")]),
            "operand 0 has element type `i16`, which is not supported here"
        );
    }

    #[test]
    fn sums_are_requantized() {
        let x = |y: &str| [t("u8[1,1] 5"), t("f32[] 0.5"), t("u8[] 0"), t("u8[1,1] 1"), t("f32[] 1"), t("u8[] 0"), t("f32[] 1"), t(y)];
        assert_eq!(check_op("QLinearMatMul", x("u8[] 1"))[0], t("u8[1,1] 3"), "2.5 rounds to 2");
        let x = [
            random("u8[2,3,4]", 1),
            t("f32[] 0.1"),
            t("u8[] 3"),
            random("i8[4,5]", 2),
            t("f32[5] 0.1 0.2 0.3 0.4 0.5"),
            random("i8[5]", 4),
            t("f32[] 0.25"),
            t("i8[] -3"),
        ];
        check_op("QLinearMatMul", x);
        let x = [
            random("u8[1,2,5,5]", 1),
            t("f32[] 0.1"),
            t("u8[] 3"),
            random("i8[4,2,3,3]", 2),
            t("f32[4] 0.1 0.2 0.3 0.4"),
            t("i8[4] 0 1 2 -3"),
            t("f32[] 0.25"),
            t("u8[] 100"),
            random("i32[4]", 5),
        ];
        check_op("QLinearConv strides=[2,1]", x);
    }
}

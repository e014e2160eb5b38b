//! Steps on quantized values: real numbers that they stand for, and exact sums of products of integers.

use crate::ops::quantization::{DequantizeLinear, QuantizeLinear, integer_matmul};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};

/// The integer types of 8 bits.
pub(super) const BYTES: &[DType] = &[DType::I8, DType::U8];

/// A value of one element without axes; others as they are.
fn scalar(s: &mut Steps<'_>, v: Step) -> Result<Step, InferError> {
    if s.dims(v)? == [1] { s.reshape(v, &[]) } else { Ok(v) }
}

/// Fails unless operand `i` is one number.
fn require_scalar(s: &Steps<'_>, v: Step, what: &str) -> Result<(), InferError> {
    if s.fact(v).ty.dims().is_some_and(|d| d.iter().product::<usize>() == 1) {
        Ok(())
    } else {
        Err(InferError::Unsupported(format!("{what} of type `{}`, more than one, is not supported here", s.fact(v).ty)))
    }
}

/// The real values of operand `x`, with scale and zero point in the next two; one for all elements.
pub(super) fn dequantize(s: &mut Steps<'_>, x: usize) -> Result<Step, InferError> {
    s.operands().require_dtype(x, BYTES)?;
    let (value, scale, zero) = (s.operand(x)?, s.operand(x + 1)?, s.optional(x + 2));
    dequantize_by(s, value, scale, zero)
}

/// The real values of `value`; one scale and zero point for all elements.
pub(super) fn dequantize_by(s: &mut Steps<'_>, value: Step, scale: Step, zero: Option<Step>) -> Result<Step, InferError> {
    require_scalar(s, scale, "a scale")?;
    let zero = zero_or_none(s, zero, s.dtype(value))?;
    let operands = [Some(value), Some(scalar(s, scale)?), Some(zero)];
    Ok(s.apply_all(Box::new(DequantizeLinear { axis: 1, block_size: 0, output_dtype: 0 }), &operands, 1)?[0])
}

/// Integers for real values, with scale and zero point in operands `scale` and `scale + 1`.
pub(super) fn quantize(s: &mut Steps<'_>, v: Step, scale: usize, dtype: DType) -> Result<Step, InferError> {
    let (by, zero) = (s.operand(scale)?, s.optional(scale + 1));
    quantize_by(s, v, by, zero, dtype)
}

/// Integers for real values; one scale and zero point for all elements.
pub(super) fn quantize_by(s: &mut Steps<'_>, v: Step, scale: Step, zero: Option<Step>, dtype: DType) -> Result<Step, InferError> {
    require_scalar(s, scale, "a scale")?;
    let zero = zero_or_none(s, zero, dtype)?;
    let operands = [Some(v), Some(scalar(s, scale)?), Some(zero)];
    let op = QuantizeLinear { axis: 1, block_size: 0, output_dtype: 0, precision: 0, saturate: true };
    Ok(s.apply_all(Box::new(op), &operands, 1)?[0])
}

/// The zero point, or 0 of this type.
fn zero_or_none(s: &mut Steps<'_>, zero: Option<Step>, dtype: DType) -> Result<Step, InferError> {
    match zero {
        Some(zero) => {
            require_scalar(s, zero, "a zero point")?;
            scalar(s, zero)
        }
        None => Ok(s.constant(Tensor::from_ints(dtype, &[], &[0]))),
    }
}

/// `sum over k of (a - a_zero) * (b - b_zero)`, exact in `i32`; a zero point of `b` may be one for each column.
pub(super) fn integer_product(
    s: &mut Steps<'_>,
    (a, a_zero): (Step, Option<Step>),
    (b, b_zero): (Step, Option<Step>),
) -> Result<Step, InferError> {
    let a_zero = match a_zero {
        Some(zero) => {
            require_scalar(s, zero, "a zero point")?;
            Some(scalar(s, zero)?)
        }
        None => None,
    };
    let b_zero = match b_zero {
        Some(zero) => Some(scalar(s, zero)?),
        None => None,
    };
    integer_matmul(s, (a, a_zero), (b, b_zero))
}

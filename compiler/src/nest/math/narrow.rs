//! Conversions to `f16` and `bf16` that round once, from types that `f32` does not hold exactly.
//!
//! On the way numbers are rounded to odd: what is between two numbers of the wider type becomes the one of them whose
//! last bit is set, so that the second rounding still knows on which side the number was.

use super::super::builder::Builder;
use super::super::ir::{BinaryOp, CompareOp, Reg, UnaryOp};
use crate::tensor::DType;

/// `x` as `to`, rounded to nearest even.
pub fn convert(b: &mut Builder, x: Reg, to: DType) -> Reg {
    let from = b.ty(x).dtype;
    // What is beyond f32's exact integers is infinite in f16.
    let by_way = match (from, to) {
        (DType::F64, DType::F16 | DType::BF16) => x,
        (DType::I32 | DType::U32, DType::BF16) => b.convert(x, DType::F64),
        (DType::I64 | DType::U64, DType::BF16) => to_odd(b, x, DType::F64),
        _ => return b.convert(x, to),
    };
    let single = to_odd(b, by_way, DType::F32);
    b.convert(single, to)
}

/// `x`, an `f64` or an integer of 64 bits, rounded to odd.
fn to_odd(b: &mut Builder, x: Reg, to: DType) -> Reg {
    let ty = b.ty(x);
    let bits = ty.with_dtype(if to == DType::F64 { DType::I64 } else { DType::I32 });
    let y = b.convert(x, to);
    let back = b.convert(y, ty.dtype);
    let (mut over, mut under) = (b.compare(CompareOp::Gt, back, x), b.compare(CompareOp::Lt, back, x));
    if ty.dtype.is_signed() {
        // Away from zero, or toward it: below zero the greater number is the smaller.
        let zero = if ty.dtype.is_float() { b.float(ty, 0.0) } else { b.int(ty, 0) };
        let negative = b.compare(CompareOp::Lt, x, zero);
        (over, under) = (b.select(negative, under, over), b.select(negative, over, under));
    }
    let [minus_one, zero, one] = [-1, 0, 1].map(|n| b.int(bits, n));
    let step = b.select(under, one, zero);
    let step = b.select(over, minus_one, step);
    let y_bits = b.bitcast(y, bits.dtype);
    let odd = b.binary(BinaryOp::And, y_bits, one);
    let is_odd = b.compare(CompareOp::Ne, odd, zero);
    let is_even = b.unary(UnaryOp::Not, is_odd);
    let step = b.select(is_even, step, zero);
    let y_bits = b.binary(BinaryOp::Add, y_bits, step);
    b.bitcast(y_bits, to)
}

//! Arithmetic of single values for the interpreter and for folding constants.
//!
//! A value is 64 bits: an `f64` for floating-point types, otherwise an `i64` that sign- or zero-extends the element.

use super::{BinaryOp, CompareOp, UnaryOp};
use crate::tensor::{DType, erf, round_bf16, round_f16, softplus};

/// A value of any element type.
pub(super) type Word = u64;

/// The word of a number of a floating-point type, rounded to it.
pub(super) fn float(dtype: DType, x: f64) -> Word {
    let rounded = match dtype {
        DType::F32 => f64::from(x as f32),
        DType::F16 => round_f16(x).to_f64(),
        DType::BF16 => round_bf16(x).to_f64(),
        _ => x,
    };
    rounded.to_bits()
}

/// The word of a number of an integer type or `bool`, wrapped to it.
pub(super) fn int(dtype: DType, x: i64) -> Word {
    let wrapped = match dtype {
        DType::Bool => i64::from(x != 0),
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        _ => x,
    };
    wrapped as u64
}

/// A function of one value of the type.
pub(super) fn unary(op: UnaryOp, dtype: DType, a: Word) -> Word {
    if dtype.is_float() {
        let x = f64::from_bits(a);
        let y = match op {
            UnaryOp::Neg => -x,
            UnaryOp::Abs => x.abs(),
            UnaryOp::Sqrt => x.sqrt(),
            UnaryOp::Floor => x.floor(),
            UnaryOp::Ceil => x.ceil(),
            UnaryOp::Round => x.round_ties_even(),
            UnaryOp::Not => x,
            UnaryOp::Exp => x.exp(),
            UnaryOp::ExpFtz => flushed(dtype, x.exp()),
            UnaryOp::Expm1 => x.exp_m1(),
            UnaryOp::Log => x.ln(),
            UnaryOp::Log1p => x.ln_1p(),
            UnaryOp::Tanh => x.tanh(),
            UnaryOp::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            UnaryOp::Erf => erf(x),
            UnaryOp::Sin => x.sin(),
            UnaryOp::Cos => x.cos(),
            UnaryOp::Softplus => softplus(x),
            UnaryOp::Tan => x.tan(),
            UnaryOp::Asin => x.asin(),
            UnaryOp::Acos => x.acos(),
            UnaryOp::Atan => x.atan(),
            UnaryOp::Sinh => x.sinh(),
            UnaryOp::Cosh => x.cosh(),
            UnaryOp::Asinh => x.asinh(),
            UnaryOp::Acosh => x.acosh(),
            UnaryOp::Atanh => x.atanh(),
        };
        return float(dtype, y);
    }
    let x = a as i64;
    match op {
        UnaryOp::Neg => int(dtype, x.wrapping_neg()),
        UnaryOp::Abs if dtype.is_signed() => int(dtype, x.wrapping_abs()),
        UnaryOp::Not if dtype == DType::Bool => a ^ 1,
        UnaryOp::Not => int(dtype, !x),
        _ => a,
    }
}

/// `y`, or zero where it is less than the normal numbers of the type that computes it.
fn flushed(dtype: DType, y: f64) -> f64 {
    let least = if dtype == DType::F64 { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() };
    if y < least { 0.0 } else { y }
}

/// A function of two values of the type.
pub(super) fn binary(op: BinaryOp, dtype: DType, a: Word, b: Word) -> Word {
    if dtype.is_float() {
        let (x, y) = (f64::from_bits(a), f64::from_bits(b));
        return match op {
            BinaryOp::Add => float(dtype, x + y),
            BinaryOp::Sub => float(dtype, x - y),
            BinaryOp::Mul => float(dtype, x * y),
            BinaryOp::Div => float(dtype, x / y),
            BinaryOp::Pow => float(dtype, x.powf(y)),
            BinaryOp::Min => return if x < y { a } else { b },
            BinaryOp::Max => return if x > y { a } else { b },
            _ => return a,
        };
    }
    let (x, y) = (a as i64, b as i64);
    let shift = (y as u32) & (dtype.bits() - 1);
    match op {
        BinaryOp::Add => int(dtype, x.wrapping_add(y)),
        BinaryOp::Sub => int(dtype, x.wrapping_sub(y)),
        BinaryOp::Mul => int(dtype, x.wrapping_mul(y)),
        BinaryOp::Div if y == 0 => 0,
        BinaryOp::Rem if y == 0 => 0,
        BinaryOp::Div if dtype == DType::U64 => a / b,
        BinaryOp::Rem if dtype == DType::U64 => a % b,
        BinaryOp::Div => int(dtype, x.wrapping_div(y)),
        BinaryOp::Rem => int(dtype, x.wrapping_rem(y)),
        BinaryOp::Min => {
            if compare(CompareOp::Lt, dtype, a, b) {
                a
            } else {
                b
            }
        }
        BinaryOp::Max => {
            if compare(CompareOp::Gt, dtype, a, b) {
                a
            } else {
                b
            }
        }
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl => int(dtype, x.wrapping_shl(shift)),
        BinaryOp::Shr if dtype == DType::U64 => a >> shift,
        BinaryOp::Shr => int(dtype, x >> shift),
        BinaryOp::Pow => a,
    }
}

/// A relation of two values of the type.
pub(super) fn compare(op: CompareOp, dtype: DType, a: Word, b: Word) -> bool {
    let order = match dtype {
        _ if dtype.is_float() => f64::from_bits(a).partial_cmp(&f64::from_bits(b)),
        DType::U64 => Some(a.cmp(&b)),
        _ => Some((a as i64).cmp(&(b as i64))),
    };
    match op {
        CompareOp::Eq => order.is_some_and(|o| o.is_eq()),
        CompareOp::Ne => order.is_none_or(|o| o.is_ne()),
        CompareOp::Lt => order.is_some_and(|o| o.is_lt()),
        CompareOp::Le => order.is_some_and(|o| o.is_le()),
        CompareOp::Gt => order.is_some_and(|o| o.is_gt()),
        CompareOp::Ge => order.is_some_and(|o| o.is_ge()),
    }
}

/// The bits in another type of the same size, as [`super::Node::Bits`] documents it.
pub(super) fn bits(from: DType, to: DType, a: Word) -> Word {
    let raw = match from {
        DType::F32 => (f64::from_bits(a) as f32).to_bits().into(),
        DType::F16 => round_f16(f64::from_bits(a)).to_bits().into(),
        DType::BF16 => round_bf16(f64::from_bits(a)).to_bits().into(),
        _ => a,
    };
    match to {
        DType::F32 => f64::from(f32::from_bits(raw as u32)).to_bits(),
        DType::F16 => half::f16::from_bits(raw as u16).to_f64().to_bits(),
        DType::BF16 => half::bf16::from_bits(raw as u16).to_f64().to_bits(),
        DType::F64 => raw,
        _ => int(to, raw as i64),
    }
}

/// A conversion, as [`super::Node::Cast`] documents it.
pub(super) fn cast(from: DType, to: DType, a: Word) -> Word {
    match (from.is_float(), to.is_float()) {
        (true, true) => float(to, f64::from_bits(a)),
        (true, false) => {
            let x = f64::from_bits(a);
            match to {
                DType::Bool => u64::from(x != 0.0),
                DType::I8 => i64::from(x as i8) as u64,
                DType::I16 => i64::from(x as i16) as u64,
                DType::I32 => i64::from(x as i32) as u64,
                DType::I64 => x as i64 as u64,
                DType::U8 => u64::from(x as u8),
                DType::U16 => u64::from(x as u16),
                DType::U32 => u64::from(x as u32),
                _ => x as u64,
            }
        }
        // Directly to `f32`: by way of `f64` would round twice.
        (false, true) if to == DType::F32 && from == DType::U64 => f64::from(a as f32).to_bits(),
        (false, true) if to == DType::F32 => f64::from(a as i64 as f32).to_bits(),
        (false, true) if from == DType::U64 => float(to, a as f64),
        (false, true) => float(to, a as i64 as f64),
        (false, false) => int(to, a as i64),
    }
}

//! Arithmetic of single elements on their bits, as [`super::ir`] documents it: functions for the interpreter to call.

use half::{bf16, f16};

use super::ir::{BinaryOp, CompareOp, UnaryOp};
use crate::tensor::{DType, round_bf16, round_f16};

pub(super) type Unary = fn(u64) -> u64;
pub(super) type Binary = fn(u64, u64) -> u64;
pub(super) type Ternary = fn(u64, u64, u64) -> u64;

/// An element type. What does not apply to a type returns its first operand; the verifier refuses such kernels.
trait Element: Copy + PartialOrd {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    fn fused(self, b: Self, c: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn rem(self, _: Self) -> Self {
        self
    }
    fn shl(self, _: u64) -> Self {
        self
    }
    fn shr(self, _: u64) -> Self {
        self
    }
    fn not(self) -> Self {
        self
    }
    fn round(self, _: UnaryOp) -> Self {
        self
    }
    fn from_f64(x: f64) -> Self;
    fn from_int(x: i128) -> Self;
    fn to_f64(self) -> f64;
    fn to_int(self) -> i128;
}

macro_rules! ints {
    ($($t:ident $bits:ident),*) => { $(impl Element for $t {
        fn of(bits: u64) -> Self { bits as $t }
        fn bits(self) -> u64 { (self as $bits).into() }
        fn add(self, b: Self) -> Self { self.wrapping_add(b) }
        fn sub(self, b: Self) -> Self { self.wrapping_sub(b) }
        fn mul(self, b: Self) -> Self { self.wrapping_mul(b) }
        fn div(self, b: Self) -> Self { if b == 0 { 0 } else { self.wrapping_div(b) } }
        fn rem(self, b: Self) -> Self { if b == 0 { 0 } else { self.wrapping_rem(b) } }
        fn fused(self, b: Self, c: Self) -> Self { self.wrapping_mul(b).wrapping_add(c) }
        fn neg(self) -> Self { self.wrapping_neg() }
        #[allow(unused_comparisons, reason = "one macro for signed and unsigned types")]
        fn abs(self) -> Self { if self < 0 { self.wrapping_neg() } else { self } }
        fn shl(self, by: u64) -> Self { self.wrapping_shl(by as u32) }
        fn shr(self, by: u64) -> Self { self.wrapping_shr(by as u32) }
        fn not(self) -> Self { !self }
        fn from_f64(x: f64) -> Self { x as $t }
        fn from_int(x: i128) -> Self { x as $t }
        fn to_f64(self) -> f64 { self as f64 }
        fn to_int(self) -> i128 { self.into() }
    })* };
}
ints!(i8 u8, i16 u16, i32 u32, i64 u64, u8 u8, u16 u16, u32 u32, u64 u64);

macro_rules! floats {
    ($($t:ident $bits:ident),*) => { $(impl Element for $t {
        fn of(bits: u64) -> Self { $t::from_bits(bits as $bits) }
        fn bits(self) -> u64 { self.to_bits().into() }
        fn add(self, b: Self) -> Self { self + b }
        fn sub(self, b: Self) -> Self { self - b }
        fn mul(self, b: Self) -> Self { self * b }
        fn div(self, b: Self) -> Self { self / b }
        fn fused(self, b: Self, c: Self) -> Self { self.mul_add(b, c) }
        fn neg(self) -> Self { -self }
        fn abs(self) -> Self { $t::abs(self) }
        fn round(self, op: UnaryOp) -> Self {
            match op {
                UnaryOp::Sqrt => self.sqrt(),
                UnaryOp::Floor => self.floor(),
                UnaryOp::Ceil => self.ceil(),
                UnaryOp::Trunc => self.trunc(),
                _ => self.round_ties_even(),
            }
        }
        fn from_f64(x: f64) -> Self { x as $t }
        fn from_int(x: i128) -> Self { x as $t }
        fn to_f64(self) -> f64 { self.into() }
        fn to_int(self) -> i128 { self as i128 }
    })* };
}
floats!(f32 u32, f64 u64);

macro_rules! halves {
    ($($t:ident $round:ident),*) => { $(impl Element for $t {
        fn of(bits: u64) -> Self { $t::from_bits(bits as u16) }
        fn bits(self) -> u64 { self.to_bits().into() }
        fn add(self, b: Self) -> Self { $t::from_f32(self.to_f32() + b.to_f32()) }
        fn sub(self, b: Self) -> Self { $t::from_f32(self.to_f32() - b.to_f32()) }
        fn mul(self, b: Self) -> Self { $t::from_f32(self.to_f32() * b.to_f32()) }
        fn div(self, b: Self) -> Self { $t::from_f32(self.to_f32() / b.to_f32()) }
        fn fused(self, b: Self, c: Self) -> Self { $round(self.to_f64().mul_add(b.to_f64(), c.to_f64())) }
        fn neg(self) -> Self { $t::from_bits(self.to_bits() ^ 0x8000) }
        fn abs(self) -> Self { $t::from_bits(self.to_bits() & 0x7fff) }
        fn round(self, op: UnaryOp) -> Self { $t::from_f32(Element::round(self.to_f32(), op)) }
        fn from_f64(x: f64) -> Self { $round(x) }
        fn from_int(x: i128) -> Self { $round(x as f64) }
        fn to_f64(self) -> f64 { self.to_f64() }
        fn to_int(self) -> i128 { self.to_f64() as i128 }
    })* };
}
halves!(f16 round_f16, bf16 round_bf16);

/// Runs `$body` with `$t` as the element type of `$dtype`; `bool` is 0 or 1 in a `u8`.
macro_rules! with {
    ($dtype:expr, $t:ident => $body:expr) => {
        crate::with_element!($dtype, $t => $body)
    };
}

pub(super) fn unary(op: UnaryOp, dtype: DType) -> Unary {
    if dtype == DType::Bool {
        return |a| a ^ 1;
    }
    fn of<T: Element>(op: UnaryOp) -> Unary {
        match op {
            UnaryOp::Neg => |a| T::of(a).neg().bits(),
            UnaryOp::Abs => |a| T::of(a).abs().bits(),
            UnaryOp::Sqrt => |a| T::of(a).round(UnaryOp::Sqrt).bits(),
            UnaryOp::Floor => |a| T::of(a).round(UnaryOp::Floor).bits(),
            UnaryOp::Ceil => |a| T::of(a).round(UnaryOp::Ceil).bits(),
            UnaryOp::Trunc => |a| T::of(a).round(UnaryOp::Trunc).bits(),
            UnaryOp::Round => |a| T::of(a).round(UnaryOp::Round).bits(),
            UnaryOp::Not => |a| T::of(a).not().bits(),
        }
    }
    with!(dtype, T => of::<T>(op))
}

pub(super) fn binary(op: BinaryOp, dtype: DType) -> Binary {
    fn of<T: Element>(op: BinaryOp) -> Binary {
        match op {
            BinaryOp::Add => |a, b| T::of(a).add(T::of(b)).bits(),
            BinaryOp::Sub => |a, b| T::of(a).sub(T::of(b)).bits(),
            BinaryOp::Mul => |a, b| T::of(a).mul(T::of(b)).bits(),
            BinaryOp::Div => |a, b| T::of(a).div(T::of(b)).bits(),
            BinaryOp::Rem => |a, b| T::of(a).rem(T::of(b)).bits(),
            BinaryOp::Min => |a, b| if T::of(a) < T::of(b) { a } else { b },
            BinaryOp::Max => |a, b| if T::of(a) > T::of(b) { a } else { b },
            BinaryOp::And => |a, b| a & b,
            BinaryOp::Or => |a, b| a | b,
            BinaryOp::Xor => |a, b| a ^ b,
            BinaryOp::Shl => |a, b| T::of(a).shl(b).bits(),
            BinaryOp::Shr => |a, b| T::of(a).shr(b).bits(),
        }
    }
    with!(dtype, T => of::<T>(op))
}

pub(super) fn multiply_add(dtype: DType, fused: bool) -> Ternary {
    fn of<T: Element>(fused: bool) -> Ternary {
        if fused { |a, b, c| T::of(a).fused(T::of(b), T::of(c)).bits() } else { |a, b, c| T::of(a).mul(T::of(b)).add(T::of(c)).bits() }
    }
    with!(dtype, T => of::<T>(fused))
}

pub(super) fn compare(op: CompareOp, dtype: DType) -> Binary {
    fn of<T: Element>(op: CompareOp) -> Binary {
        match op {
            CompareOp::Eq => |a, b| (T::of(a) == T::of(b)).into(),
            CompareOp::Ne => |a, b| (T::of(a) != T::of(b)).into(),
            CompareOp::Lt => |a, b| (T::of(a) < T::of(b)).into(),
            CompareOp::Le => |a, b| (T::of(a) <= T::of(b)).into(),
            CompareOp::Gt => |a, b| (T::of(a) > T::of(b)).into(),
            CompareOp::Ge => |a, b| (T::of(a) >= T::of(b)).into(),
        }
    }
    with!(dtype, T => of::<T>(op))
}

pub(super) fn convert(from: DType, to: DType) -> Unary {
    fn pair<A: Element, B: Element>(from_float: bool, to: DType) -> Unary {
        match (from_float, to) {
            (true, DType::Bool) => |a| (A::of(a).to_f64() != 0.0).into(),
            (false, DType::Bool) => |a| (A::of(a).to_int() != 0).into(),
            (true, _) => |a| B::from_f64(A::of(a).to_f64()).bits(),
            (false, _) => |a| B::from_int(A::of(a).to_int()).bits(),
        }
    }
    with!(from, A => with!(to, B => pair::<A, B>(from.is_float(), to)))
}

/// The bits of the value rounded to the type.
pub(super) fn from_f64(x: f64, dtype: DType) -> u64 {
    with!(dtype, T => <T as Element>::from_f64(x).bits())
}

/// The bits of the value wrapped to the type.
pub(super) fn from_int(x: i128, dtype: DType) -> u64 {
    with!(dtype, T => <T as Element>::from_int(x).bits())
}

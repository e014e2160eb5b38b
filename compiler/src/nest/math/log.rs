//! Logarithms.
//!
//! `x = 2^k * (1 + f)` with `1 + f` from `sqrt(1/2)` to `sqrt(2)`: `log(1 + f) = f - f^2/2 + f^3 * P(f)`.

use super::super::ir::{BinaryOp, CompareOp, Reg};
use super::Math;
use super::exp::exp_up_to_89;

/// `ln 2` in nine bits, so that its multiples are exact, and the rest.
const LN_2_HI: f32 = 0.693_359_4;
const LN_2_LO: f32 = -0.000_212_194_44;
/// Minimax, error below 2^-30.
const P: [f32; 9] =
    [0.333_333_13, -0.250_000_1, 0.200_020_72, -0.166_679_9, 0.142_203_63, -0.124_062_076, 0.118_834_704, -0.116_701_92, 0.067_495_56];
/// Bits of `sqrt(1/2)`.
const SQRT_HALF: i64 = 0x3f35_04f3;

/// `k`, as `f32`, and the number between `sqrt(1/2)` and `sqrt(2)`, of a normal positive number.
pub(super) fn split(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let bits = m.bits(x);
    let origin = m.int(SQRT_HALF);
    let k = m.sub(bits, origin);
    let k = m.shr(k, 23);
    let shifted = m.shl(k, 23);
    let mantissa = m.sub(bits, shifted);
    (m.convert(k), m.float(mantissa))
}

/// [`split`] of any positive number.
pub(super) fn split_subnormal(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let tiny = m.compare_c(CompareOp::Lt, x, f32::MIN_POSITIVE);
    let scaled = m.mul_c(x, 16_777_216.0);
    let x = m.select(tiny, scaled, x);
    let (k, mantissa) = split(m, x);
    let excess = m.choose(tiny, 24.0, 0.0);
    (m.sub(k, excess), mantissa)
}

/// `k * ln 2 + log(1 + f) + low`, where `low` is tiny beside `f` or `k`.
fn sum(m: &mut Math<'_>, k: Reg, f: Reg, low: Option<Reg>) -> Reg {
    let p = m.polynomial(f, &P);
    let f2 = m.mul(f, f);
    let f3 = m.mul(f2, f);
    let tail = m.mul(f3, p);
    let tail = m.fma_c(f2, -0.5, tail);
    let mut tail = m.fma_c(k, LN_2_LO, tail);
    if let Some(low) = low {
        tail = m.add(tail, low);
    }
    let y = m.add(f, tail);
    m.fma_c(k, LN_2_HI, y)
}

/// `y`, except where the logarithm of `x` is special: infinity and NaN are themselves, 0 gives -inf, less gives NaN.
fn special(m: &mut Math<'_>, x: Reg, y: Reg) -> Reg {
    let finite = m.compare_c(CompareOp::Lt, x, f32::INFINITY);
    let y = m.select(finite, y, x);
    let zero = m.c(0.0);
    let is_zero = m.b.compare(CompareOp::Eq, x, zero);
    let not_positive = m.b.compare(CompareOp::Le, x, zero);
    let instead = m.choose(is_zero, f32::NEG_INFINITY, f32::NAN);
    m.select(not_positive, instead, y)
}

pub(super) fn log(m: &mut Math<'_>, x: Reg) -> Reg {
    let (k, mantissa) = split_subnormal(m, x);
    let f = m.add_c(mantissa, -1.0);
    let y = sum(m, k, f, None);
    special(m, x, y)
}

/// `log(u) + lost / u` where `u = 1 + x` loses something to rounding.
pub(super) fn log1p(m: &mut Math<'_>, x: Reg) -> Reg {
    let u = m.add_c(x, 1.0);
    let lost = lost(m, x, u);
    let y = log_of_pair(m, u, lost);
    special(m, u, y)
}

/// `log(2 * a)` where `is_large`, elsewhere [`log1p`] of `x`.
pub(super) fn log1p_or_log(m: &mut Math<'_>, x: Reg, is_large: Reg, a: Reg) -> Reg {
    let u = m.add_c(x, 1.0);
    let lost = lost(m, x, u);
    let u = m.select(is_large, a, u);
    let zero = m.c(0.0);
    let lost = m.select(is_large, zero, lost);
    let y = log_of_pair(m, u, lost);
    let y = special(m, u, y);
    let double = m.choose(is_large, std::f32::consts::LN_2, 0.0);
    m.add(y, double)
}

/// `1 + x - u`: the greater of 1 and `x` is taken from `u` first, which is exact.
fn lost(m: &mut Math<'_>, x: Reg, u: Reg) -> Reg {
    let one = m.c(1.0);
    let is_greater = m.b.compare(CompareOp::Gt, x, one);
    let greater = m.select(is_greater, x, one);
    let less = m.select(is_greater, one, x);
    let back = m.sub(u, greater);
    m.sub(less, back)
}

/// `log(u + lost)` of a normal positive `u`.
fn log_of_pair(m: &mut Math<'_>, u: Reg, lost: Reg) -> Reg {
    let (k, mantissa) = split(m, u);
    let f = m.add_c(mantissa, -1.0);
    let low = m.div(lost, u);
    sum(m, k, f, Some(low))
}

/// `max(x, 0) + log1p(exp(-|x|))`.
pub(super) fn softplus(m: &mut Math<'_>, x: Reg) -> Reg {
    let a = m.abs(x);
    let a = m.neg(a);
    let e = exp_up_to_89(m, a);
    let u = m.add_c(e, 1.0);
    let lost = lost(m, e, u);
    let y = log_of_pair(m, u, lost);
    let zero = m.c(0.0);
    let positive = m.b.binary(BinaryOp::Max, zero, x);
    m.add(positive, y)
}

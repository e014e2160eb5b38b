//! Logarithms.
//!
//! `x = 2^k * (1 + f)` with `1 + f` from `sqrt(1/2)` to `sqrt(2)`: `log(1 + f) = f - f^2/2 + f^3 * P(f)`.

use super::super::ir::{BinaryOp, CompareOp, Reg};
use super::Math;
use super::exp::{exp_bounded, ln_2};

/// Minimax, error below 2^-30.
const P: [f64; 9] =
    [0.333_333_13, -0.250_000_1, 0.200_020_72, -0.166_679_9, 0.142_203_63, -0.124_062_076, 0.118_834_704, -0.116_701_92, 0.067_495_56];
/// The same with an error of 2^-57.
const P_DOUBLE: [f64; 21] = [
    0.333_333_333_333_333_3,
    -0.250_000_000_000_000_4,
    0.199_999_999_999_994_6,
    -0.166_666_666_666_432_23,
    0.142_857_142_858_507_73,
    -0.125_000_000_043_235_91,
    0.111_111_110_998_404_68,
    -0.099_999_996_347_807_17,
    0.090_909_093_716_499_86,
    -0.083_333_500_329_535_88,
    0.076_923_158_900_287_49,
    -0.071_424_150_395_472_02,
    0.066_660_153_564_322_7,
    -0.062_567_819_457_417_66,
    0.058_985_283_682_262_26,
    -0.055_007_045_724_057_43,
    0.050_654_096_664_845_7,
    -0.051_385_304_688_066_284,
    0.059_187_907_228_572_23,
    -0.053_961_619_312_197_895,
    0.023_264_220_927_877_086,
];
/// Bits of `sqrt(1/2)`.
const SQRT_HALF: i64 = 0x3f35_04f3;
const SQRT_HALF_DOUBLE: i64 = 0x3fe6_a09e_667f_3bcd;

/// `k`, as a float, and the number between `sqrt(1/2)` and `sqrt(2)`, of a normal positive number.
pub(super) fn split(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let bits = m.bits(x);
    let origin = m.int(m.of(SQRT_HALF, SQRT_HALF_DOUBLE));
    let k = m.sub(bits, origin);
    let k = m.shr(k, m.fraction_bits());
    let shifted = m.shl(k, m.fraction_bits());
    let mantissa = m.sub(bits, shifted);
    (m.convert(k), m.float(mantissa))
}

/// [`split`] of any positive number.
pub(super) fn split_subnormal(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let tiny = m.compare_c(CompareOp::Lt, x, m.of(f32::MIN_POSITIVE.into(), f64::MIN_POSITIVE));
    let scaled = m.mul_c(x, m.of(16_777_216.0, 18_014_398_509_481_984.0));
    let x = m.select(tiny, scaled, x);
    let (k, mantissa) = split(m, x);
    let excess = m.choose(tiny, m.of(24.0, 54.0), 0.0);
    (m.sub(k, excess), mantissa)
}

/// `k * ln 2 + log(1 + f) + low`, where `low` is tiny beside `f` or `k`.
fn sum(m: &mut Math<'_>, k: Reg, f: Reg, low: Option<Reg>) -> Reg {
    let [ln_2_high, ln_2_low] = ln_2(m);
    let p = m.polynomial(f, m.table(&P, &P_DOUBLE));
    let f2 = m.mul(f, f);
    let f3 = m.mul(f2, f);
    let tail = m.mul(f3, p);
    let tail = m.fma_c(f2, -0.5, tail);
    let mut tail = m.fma_c(k, ln_2_low, tail);
    if let Some(low) = low {
        tail = m.add(tail, low);
    }
    let y = m.add(f, tail);
    m.fma_c(k, ln_2_high, y)
}

/// `y`, except where the logarithm of `x` is special: infinity and NaN are themselves, 0 gives -inf, less gives NaN.
fn special(m: &mut Math<'_>, x: Reg, y: Reg) -> Reg {
    let finite = m.compare_c(CompareOp::Lt, x, f64::INFINITY);
    let y = m.select(finite, y, x);
    let zero = m.c(0.0);
    let is_zero = m.b.compare(CompareOp::Eq, x, zero);
    let not_positive = m.b.compare(CompareOp::Le, x, zero);
    let instead = m.choose(is_zero, f64::NEG_INFINITY, f64::NAN);
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
    let double = m.choose(is_large, std::f64::consts::LN_2, 0.0);
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
    let e = exp_bounded(m, a);
    let u = m.add_c(e, 1.0);
    let lost = lost(m, e, u);
    let y = log_of_pair(m, u, lost);
    let zero = m.c(0.0);
    let positive = m.b.binary(BinaryOp::Max, zero, x);
    m.add(positive, y)
}

//! The exponential and what is made of it.
//!
//! `x = n * ln 2 + r` with `|r| <= ln 2 / 2`: `e^x = 2^n * (1 + r + r^2 * Q(r))`.

use super::super::ir::Reg;
use super::Math;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` in nine bits, so that its multiples are exact, and the rest.
const LN_2_HI: f32 = 0.693_359_4;
const LN_2_LO: f32 = -0.000_212_194_44;
/// Minimax on `|r| <= ln 2 / 2`, error of `expm1` below 2^-26.
const Q: [f32; 5] = [0.499_999_97, 0.166_665_46, 0.041_667_435, 0.008_366_263, 0.001_387_066_7];

/// `e^r - 1` of the rest, and `n` in the low bits of an `i32`.
fn reduced(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let (n, n_bits) = m.nearest_multiple(x, LOG2_E);
    let r = m.fma_c(n, -LN_2_HI, x);
    let r = m.fma_c(n, -LN_2_LO, r);
    let q = m.polynomial(r, &Q);
    let qr = m.mul(q, r);
    (m.fma(qr, r, r), n_bits)
}

/// `2^(n + bias)` of the integer in the low bits; the exponent must be that of a normal number.
pub(super) fn power_of_two(m: &mut Math<'_>, n_bits: Reg, bias: i64) -> Reg {
    let shifted = m.shl(n_bits, 23);
    let one = m.int((127 + bias) << 23);
    let sum = m.add(shifted, one);
    m.float(sum)
}

/// `a * 2^n` for `n` in `-252..=254`, rounded once at most; NaN stays.
pub(super) fn scale(m: &mut Math<'_>, a: Reg, n_bits: Reg) -> Reg {
    let half = m.shr(n_bits, 1);
    let other = m.sub(n_bits, half);
    let (half, other) = (power_of_two(m, half, 0), power_of_two(m, other, 0));
    let a = m.mul(a, half);
    m.mul(a, other)
}

pub(super) fn exp(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, 89.0);
    exp_up_to_89(m, x)
}

/// [`exp`] of `x <= 89`.
pub(super) fn exp_up_to_89(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_least(x, -104.0);
    let (p, n) = reduced(m, x);
    let p = m.add_c(p, 1.0);
    scale(m, p, n)
}

/// `s * (e^r - 1)` and `s`, where `s = 2^(n + bias)`.
fn scaled_parts(m: &mut Math<'_>, x: Reg, bias: i64) -> (Reg, Reg) {
    let (p, n) = reduced(m, x);
    let s = power_of_two(m, n, bias);
    (m.mul(s, p), s)
}

/// `e^x - 1 = 2 * (s * (e^r - 1) + (s - 1/2))`, doubled last so that only it may overflow.
pub(super) fn expm1(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_least(x, -18.0);
    let x = m.at_most(x, 89.0);
    let (p, s) = scaled_parts(m, x, -1);
    let rest = m.add_c(s, -0.5);
    let half = m.add(p, rest);
    m.add(half, half)
}

/// `(e^x - 1) / 4` of `x >= 0`; beyond 89.6 so much that twice that is infinite.
pub(super) fn quarter_expm1(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, 89.6);
    let (p, s) = scaled_parts(m, x, -2);
    let rest = m.add_c(s, -0.25);
    m.add(p, rest)
}

/// `e^x / 4` of `x >= 0`; beyond 89.6 so much that twice that is infinite.
pub(super) fn quarter_exp(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, 89.6);
    let (p, s) = scaled_parts(m, x, -2);
    m.add(p, s)
}

/// `tanh |x| = -e / (e + 2)` where `e = expm1(-2 |x|)`; 1 beyond 9.02 in `f32`.
pub(super) fn tanh(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let a = m.at_most(a, 9.1);
    let a = m.mul_c(a, -2.0);
    let (p, s) = scaled_parts(m, a, 0);
    let rest = m.add_c(s, -1.0);
    let e = m.add(p, rest);
    let below = m.add_c(e, 2.0);
    let y = m.div(e, below);
    let y = m.abs(y);
    m.flip(y, sign)
}

/// `1 / (1 + e^-x)`; where `e^-x` overflows the power of two is infinite, and the result zero.
pub(super) fn sigmoid(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, 87.0);
    let x = m.at_least(x, -88.9);
    let x = m.neg(x);
    let (p, n) = reduced(m, x);
    let p = m.add_c(p, 1.0);
    let s = power_of_two(m, n, 0);
    let e = m.mul(p, s);
    let below = m.add_c(e, 1.0);
    let one = m.c(1.0);
    m.div(one, below)
}

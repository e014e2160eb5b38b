//! The exponential and what is made of it.
//!
//! `x = n * ln 2 + r` with `|r| <= ln 2 / 2`: `e^x = 2^n * (1 + r + r^2 * Q(r))`.

use super::super::ir::Reg;
use super::Math;

const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// `ln 2` in so few bits that its multiples are exact, and the rest: for `f32` nine, for `f64` forty.
const LN_2: [f64; 2] = [0.693_359_4, -0.000_212_194_44];
const LN_2_DOUBLE: [f64; 2] = [0.693_147_180_559_208_2, 7.371_002_565_167_799e-13];
/// Minimax on `|r| <= ln 2 / 2`, error of `expm1` below 2^-26.
const Q: [f64; 5] = [0.499_999_97, 0.166_665_46, 0.041_667_435, 0.008_366_263, 0.001_387_066_7];
/// The same with an error of 2^-60.
const Q_DOUBLE: [f64; 11] = [
    0.5,
    0.166_666_666_666_666_7,
    0.041_666_666_666_666_616,
    0.008_333_333_333_325_785,
    0.001_388_888_888_892_267_3,
    0.000_198_412_698_760_269_72,
    2.480_158_722_337_168_6e-5,
    2.755_725_388_994_174e-6,
    2.755_738_146_182_865_5e-7,
    2.510_583_743_671_249_3e-8,
    2.087_534_354_187_518_6e-9,
];

/// `e^-r`, of [`Q`].
const NEGATIVE: [f64; 7] = negative(Q);
const NEGATIVE_DOUBLE: [f64; 13] = negative(Q_DOUBLE);

/// The polynomial `1 - r + r^2 * Q(-r)`.
const fn negative<const N: usize, const M: usize>(q: [f64; N]) -> [f64; M] {
    let mut p = [1.0; M];
    p[1] = -1.0;
    let mut i = 0;
    while i < N {
        p[i + 2] = if i % 2 == 0 { q[i] } else { -q[i] };
        i += 1;
    }
    p
}

/// `ln 2` in two parts.
pub(super) fn ln_2(m: &Math<'_>) -> [f64; 2] {
    m.of(LN_2, LN_2_DOUBLE)
}

/// `e^r - 1` of the rest, and `n` in the low bits of an integer.
fn reduced(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let (n, n_bits) = m.nearest_multiple(x, LOG2_E);
    let [high, low] = ln_2(m);
    let r = m.fma_c(n, -high, x);
    let r = m.fma_c(n, -low, r);
    let q = m.polynomial(r, m.table(&Q, &Q_DOUBLE));
    let qr = m.mul(q, r);
    (m.fma(qr, r, r), n_bits)
}

/// `2^(n + bias)` of the integer in the low bits; the exponent must be that of a normal number.
pub(super) fn power_of_two(m: &mut Math<'_>, n_bits: Reg, bias: i64) -> Reg {
    let (fraction, exponent_bias) = (m.fraction_bits(), m.of(127, 1023));
    let shifted = m.shl(n_bits, fraction);
    let one = m.int((exponent_bias + bias) << fraction);
    let sum = m.add(shifted, one);
    m.float(sum)
}

/// `a * 2^n` for `n` in `-254..=254` (`f64`: `-2046..=2046`), rounded once at most; NaN stays. Of the least `n` it is zero.
pub(super) fn scale(m: &mut Math<'_>, a: Reg, n_bits: Reg) -> Reg {
    let half = m.shr(n_bits, 1);
    let other = m.sub(n_bits, half);
    let (half, other) = (power_of_two(m, half, 0), power_of_two(m, other, 0));
    let a = m.mul(a, half);
    m.mul(a, other)
}

pub(super) fn exp(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, m.of(89.0, 710.0));
    exp_bounded(m, x)
}

/// [`exp`] of `x <= 89` (`f64`: 710).
///
/// Where a sum holds terms of minus infinity or of numbers like it, as masked attention does, a result of zero must not be
/// rounded to zero, which processors do in microcode: at the least `x` both powers of two are zero, and all products exact.
pub(super) fn exp_bounded(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_least(x, m.of(-176.0, -1418.0));
    let (p, n) = reduced(m, x);
    let p = m.add_c(p, 1.0);
    scale(m, p, n)
}

/// [`exp`] of `x <= 88` (`f64`: 709) with one power of two, which is zero for the least `x`: so are results below the normal numbers.
pub(super) fn exp_ftz(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_least(x, m.of(-88.02, -709.08));
    let (p, n) = reduced(m, x);
    let s = power_of_two(m, n, 0);
    m.fma(p, s, s)
}

/// `s * (e^r - 1)` and `s`, where `s = 2^(n + bias)`.
fn scaled_parts(m: &mut Math<'_>, x: Reg, bias: i64) -> (Reg, Reg) {
    let (p, n) = reduced(m, x);
    let s = power_of_two(m, n, bias);
    (m.mul(s, p), s)
}

/// `e^x - 1 = 2 * (s * (e^r - 1) + (s - 1/2))`, doubled last so that only it may overflow.
pub(super) fn expm1(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_least(x, m.of(-18.0, -40.0));
    let x = m.at_most(x, m.of(89.0, 710.0));
    let (p, s) = scaled_parts(m, x, -1);
    let rest = m.add_c(s, -0.5);
    let half = m.add(p, rest);
    m.add(half, half)
}

/// `(e^x - 1) / 4` of `x >= 0`; beyond 89.6 (`f64`: 710.75) so much that twice that is infinite.
pub(super) fn quarter_expm1(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, m.of(89.6, 710.75));
    let (p, s) = scaled_parts(m, x, -2);
    let rest = m.add_c(s, -0.25);
    m.add(p, rest)
}

/// `e^x / 4` of `x >= 0`; beyond 89.6 (`f64`: 710.75) so much that twice that is infinite.
pub(super) fn quarter_exp(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, m.of(89.6, 710.75));
    let (p, s) = scaled_parts(m, x, -2);
    m.add(p, s)
}

/// `tanh |x| = -e / (e + 2)` where `e = expm1(-2 |x|)`; 1 beyond 9.02 in `f32`, 19.07 in `f64`.
pub(super) fn tanh(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let a = m.at_most(a, m.of(9.1, 19.1));
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
///
/// `e^-r = 1 + r * (-1 + r * Q)` is summed at once: its error counts only where `e^-x` is large.
pub(super) fn sigmoid(m: &mut Math<'_>, x: Reg) -> Reg {
    let x = m.at_most(x, m.of(87.0, 708.0));
    let x = m.at_least(x, m.of(-88.9, -710.1));
    // -x = n * ln 2 - r.
    let (n, n_bits) = m.nearest_multiple(x, -LOG2_E);
    let [high, low] = ln_2(m);
    let r = m.fma_c(n, high, x);
    let r = m.fma_c(n, low, r);
    let (single, double): (&'static [f64], &'static [f64]) = (&NEGATIVE, &NEGATIVE_DOUBLE);
    let p = m.polynomial(r, m.of(single, double));
    let s = power_of_two(m, n_bits, 0);
    let one = m.c(1.0);
    let below = m.fma(p, s, one);
    m.div(one, below)
}

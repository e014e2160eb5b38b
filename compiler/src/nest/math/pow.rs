//! `x^y = 2^(y * log2 x)`, with the logarithm and the product in pairs of floats.
//!
//! The first of a pair has at most half the significant bits where it is multiplied, so that products are exact.
//! With `s = (m - 1) / (m + 1)`: `log2 m = 2 / ln 2 * atanh s = 2 / (3 ln 2) * s * (3 + s^2 + s^4 * R(s^2))`.

use super::super::ir::{BinaryOp, CompareOp, Reg, UnaryOp};
use super::Math;
use super::exp::scale;
use super::log::split_subnormal;

/// Minimax for `|s| <= 0.1716`, error of the logarithm below 2^-36.
const R: [f64; 3] = [0.600_002_3, 0.428_206_4, 0.351_292_1];
/// The same with an error of 2^-67.
const R_DOUBLE: [f64; 8] = [
    0.6,
    0.428_571_428_571_440_54,
    0.333_333_333_324_827_06,
    0.272_727_275_033_436_3,
    0.230_768_924_165_957_23,
    0.200_022_085_189_476_17,
    0.175_593_149_303_254_68,
    0.175_851_817_646_577_67,
];
/// `2 / (3 ln 2)`: half the bits, the rest, and both.
const CP: [f64; 3] = [0.961_669_9, 0.000_126_772_05, 0.961_796_7];
const CP_DOUBLE: [f64; 3] = [0.961_796_686_053_276_1, 7.872_699_542_894_897e-9, 0.961_796_693_925_975_6];
/// `(2^r - 1) / r` for `|r| <= 1/2`, error below 2^-28.
const E: [f64; 6] = [std::f64::consts::LN_2, 0.240_226_48, 0.055_503_596, 0.009_618_5, 0.001_339_097_3, 0.000_153_288_83];
/// The same with an error of 2^-56.
const E_DOUBLE: [f64; 13] = [
    std::f64::consts::LN_2,
    0.240_226_506_959_100_72,
    0.055_504_108_664_821_58,
    0.009_618_129_107_628_484,
    0.001_333_355_814_642_841,
    0.000_154_035_303_933_617_68,
    1.525_273_380_411_653_5e-5,
    1.321_548_681_700_148_4e-6,
    1.017_808_596_596_301_2e-7,
    7.054_893_947_452_262e-9,
    4.445_551_590_567_468e-10,
    2.573_426_077_495_433_3e-11,
    1.368_645_359_375_171_5e-12,
];

/// `log2 x` of a positive finite number as a pair, the first of half the bits.
fn log2(m: &mut Math<'_>, x: Reg) -> (Reg, Reg) {
    let (k, x) = split_subnormal(m, x);
    let one = m.c(1.0);
    // s = u / d as s_hi + s_lo; d as d_hi + d_lo exactly.
    let u = m.sub(x, one);
    let d = m.add(x, one);
    let inverse = m.div(one, d);
    let s = m.mul(u, inverse);
    let s_hi = m.upper(s);
    let d_hi = m.upper(d);
    let back = m.sub(d_hi, one);
    let d_lo = m.sub(x, back);
    let minus_s_hi = m.neg(s_hi);
    let rest = m.fma(minus_s_hi, d_hi, u);
    let rest = m.fma(minus_s_hi, d_lo, rest);
    let s_lo = m.mul(rest, inverse);

    // t = 3 + s^2 + s^4 * R as t_hi + t_lo.
    let s2 = m.mul(s, s);
    let r = m.polynomial(s2, m.table(&R, &R_DOUBLE));
    let s4 = m.mul(s2, s2);
    let r = m.mul(s4, r);
    let square = m.mul(s_hi, s_hi);
    let twice = m.add(s_hi, s);
    let r = m.fma(s_lo, twice, r);
    let three = m.c(3.0);
    let t = m.add(square, three);
    let t = m.add(t, r);
    let t_hi = m.upper(t);
    let back = m.sub(t_hi, three);
    let back = m.sub(back, square);
    let t_lo = m.sub(r, back);

    // p = s * t.
    let p = m.mul(s_hi, t_hi);
    let low = m.mul(s_lo, t_hi);
    let low = m.fma(t_lo, s, low);
    let sum = m.add(p, low);
    let p_hi = m.upper(sum);
    let back = m.sub(p_hi, p);
    let p_lo = m.sub(low, back);

    // times 2 / (3 ln 2), plus k.
    let [cp_hi, cp_lo, cp] = m.of(CP, CP_DOUBLE);
    let z_hi = m.mul_c(p_hi, cp_hi);
    let z_lo = m.mul_c(p_hi, cp_lo);
    let z_lo = m.fma_c(p_lo, cp, z_lo);
    let sum = m.add(z_hi, z_lo);
    let sum = m.add(sum, k);
    let hi = m.upper(sum);
    let back = m.sub(hi, k);
    let back = m.sub(back, z_hi);
    (hi, m.sub(z_lo, back))
}

/// `2^(hi + lo)`.
fn exp2(m: &mut Math<'_>, hi: Reg, lo: Reg) -> Reg {
    let (n, n_bits) = m.nearest_multiple(hi, 1.0);
    let r = m.sub(hi, n);
    let r = m.add(r, lo);
    let e = m.polynomial(r, m.table(&E, &E_DOUBLE));
    let one = m.c(1.0);
    let y = m.fma(e, r, one);
    scale(m, y, n_bits)
}

pub(super) fn pow(m: &mut Math<'_>, x: Reg, y: Reg) -> Reg {
    let (zero, one) = (m.c(0.0), m.c(1.0));
    let a = m.abs(x);
    let (hi, lo) = log2(m, a);
    let finite = m.compare_c(CompareOp::Lt, a, f64::INFINITY);
    let hi = m.select(finite, hi, a);
    let is_zero = m.b.compare(CompareOp::Eq, a, zero);
    let minus_infinity = m.c(f64::NEG_INFINITY);
    let hi = m.select(is_zero, minus_infinity, hi);

    // y * log2 a as a pair; alone what overflows, underflows or is not a number.
    let y_hi = m.upper(y);
    let y_lo = m.sub(y, y_hi);
    let p_hi = m.mul(y_hi, hi);
    let p_lo = m.mul(y, lo);
    let p_lo = m.fma(y_lo, hi, p_lo);
    let sum = m.add(p_hi, p_lo);
    let back = m.sub(p_hi, sum);
    let rest = m.add(back, p_lo);
    let alone = m.mul(y, hi);
    let size = m.abs(alone);
    let bound = m.of(200.0, 1200.0);
    let usual = m.compare_c(CompareOp::Le, size, bound);
    let hi = m.select(usual, sum, alone);
    let lo = m.select(usual, rest, zero);
    let hi = m.at_most(hi, bound);
    let hi = m.at_least(hi, -bound);
    let power = exp2(m, hi, lo);
    let is_one = m.b.compare(CompareOp::Eq, a, one);
    let power = m.select(is_one, one, power);

    // The sign of x where y is odd; not a number where y has a fraction.
    let whole = m.unary(UnaryOp::Trunc, y);
    let is_whole = m.b.compare(CompareOp::Eq, whole, y);
    let half = m.mul_c(y, 0.5);
    let whole_half = m.unary(UnaryOp::Trunc, half);
    let has_half = m.b.compare(CompareOp::Ne, whole_half, half);
    let odd = m.both(is_whole, has_half);
    let sign = m.sign(x);
    let no_sign = m.int(0);
    let sign = m.select(odd, sign, no_sign);
    let power = m.flip(power, sign);
    let negative = m.b.compare(CompareOp::Lt, x, zero);
    let fraction = m.not(is_whole);
    let bad = m.both(negative, fraction);
    let bad = m.both(bad, finite);
    let nan = m.c(f64::NAN);
    let power = m.select(bad, nan, power);

    // 1^y and x^0 are 1 even of NaN.
    let x_is_one = m.b.compare(CompareOp::Eq, x, one);
    let y_is_zero = m.b.compare(CompareOp::Eq, y, zero);
    let certain = m.b.binary(BinaryOp::Or, x_is_one, y_is_zero);
    m.select(certain, one, power)
}

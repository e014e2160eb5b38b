//! Sine, cosine and tangent: Cody-Waite reduction by `pi / 2`, then one of two polynomials.
//!
//! `x = n * pi / 2 + r`. The multiples of the parts of `pi / 2` are exact for `|n| < 2^16` (`f64`: 2^26); where the subtractions round,
//! what they lose is kept.

use super::super::ir::{BinaryOp, CompareOp, Reg};
use super::Math;

/// `pi / 2` in parts of eight bits, and the rest: from the first two nothing is lost, of the last two nothing is kept.
const PARTS: [f64; 7] = [1.570_312_5, 0.000_482_559_2, 1.266_598_7e-6, 9.895_302e-10, 2.557_953_9e-12, 5.384_581_7e-15, 5.721_189e-18];
/// The same in parts of 27 bits: from the first nothing is lost.
const PARTS_DOUBLE: [f64; 6] = [
    1.570_796_325_802_803,
    9.920_935_739_593_517e-10,
    5.721_188_709_663_575e-18,
    1.644_625_689_296_520_7e-26,
    4.335_905_065_061_890_3e-35,
    2.167_416_841_324_354e-51,
];
/// `(sin r / r - 1) / r^2` in `r^2`, error below 2^-32.
const S: [f64; 4] = [-0.166_666_67, 0.008_333_379, -0.000_198_530_69, 2.832_629_4e-6];
/// The same with an error of 2^-57.
const S_DOUBLE: [f64; 7] = [
    -0.166_666_666_666_666_66,
    0.008_333_333_333_333_331,
    -0.000_198_412_698_412_645_67,
    2.755_731_921_895_476_2e-6,
    -2.505_210_610_025_599e-8,
    1.605_851_087_531_919_5e-10,
    -7.585_486_485_235_938e-13,
];
/// `(cos r - 1 + r^2 / 2) / r^4` in `r^2`, error below 2^-36.
const C: [f64; 4] = [0.041_666_668, -0.001_388_898, 0.000_024_822_008, -2.887_845e-7];
/// The same with an error of 2^-60.
const C_DOUBLE: [f64; 7] = [
    0.041_666_666_666_666_664,
    -0.001_388_888_888_888_888_7,
    2.480_158_730_158_436_7e-5,
    -2.755_731_922_118_91e-7,
    2.087_675_571_758_440_3e-9,
    -1.147_044_935_446_677_3e-11,
    4.745_198_807_202_876e-14,
];

/// Sine and cosine of the rest, and `n` in the low bits of an integer.
fn reduced(m: &mut Math<'_>, x: Reg) -> (Reg, Reg, Reg) {
    let (n, n_bits) = m.nearest_multiple(x, std::f64::consts::FRAC_2_PI);
    let parts = m.table(&PARTS, &PARTS_DOUBLE);
    let (exact, rest) = parts.split_at(m.of(2, 1));
    let (kept, rest) = rest.split_at(3);
    let mut r = exact.iter().fold(x, |r, part| m.fma_c(n, -part, r));
    let mut low = None;
    for &part in kept {
        let next = m.fma_c(n, -part, r);
        let lost = m.sub(r, next);
        let lost = m.fma_c(n, -part, lost);
        low = Some(low.map_or(lost, |low| m.add(low, lost)));
        r = next;
    }
    let low = low.expect("three parts");
    let low = rest.iter().fold(low, |low, part| m.fma_c(n, -part, low));
    let r = m.add(r, low);
    // Beyond the range of the reduction the polynomials must not explode.
    let r = m.at_most(r, 0.8);
    let r = m.at_least(r, -0.8);

    let z = m.mul(r, r);
    let s = m.polynomial(z, m.table(&S, &S_DOUBLE));
    let s = m.mul(s, z);
    let sine = m.fma(s, r, r);
    let c = m.polynomial(z, m.table(&C, &C_DOUBLE));
    let minus_half = m.c(-0.5);
    let c = m.fma(c, z, minus_half);
    let one = m.c(1.0);
    let cosine = m.fma(c, z, one);
    (sine, cosine, n_bits)
}

/// Whether bit 0 of the integer is set.
fn is_odd(m: &mut Math<'_>, n_bits: Reg) -> Reg {
    let bit = m.and_bits(n_bits, 1);
    let zero = m.int(0);
    m.b.compare(CompareOp::Ne, bit, zero)
}

/// `sin(x + quarters * pi / 2)`.
fn sine_after(m: &mut Math<'_>, x: Reg, quarters: i64) -> Reg {
    let (sine, cosine, n_bits) = reduced(m, x);
    let n_bits = if quarters == 0 {
        n_bits
    } else {
        let quarters = m.int(quarters);
        m.b.binary(BinaryOp::Add, n_bits, quarters)
    };
    let odd = is_odd(m, n_bits);
    let y = m.select(odd, cosine, sine);
    // Bit 1 is the sign.
    let sign = m.shl(n_bits, m.of(30, 62));
    let sign = m.and_bits(sign, m.sign_bit());
    m.flip(y, sign)
}

pub(super) fn sin(m: &mut Math<'_>, x: Reg) -> Reg {
    sine_after(m, x, 0)
}

pub(super) fn cos(m: &mut Math<'_>, x: Reg) -> Reg {
    sine_after(m, x, 1)
}

pub(super) fn tan(m: &mut Math<'_>, x: Reg) -> Reg {
    let (sine, cosine, n_bits) = reduced(m, x);
    let odd = is_odd(m, n_bits);
    let above = m.select(odd, cosine, sine);
    let below = m.select(odd, sine, cosine);
    let y = m.div(above, below);
    let sign = m.shl(n_bits, m.of(31, 63));
    m.flip(y, sign)
}

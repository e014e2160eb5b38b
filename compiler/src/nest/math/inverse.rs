//! Inverse trigonometric functions: odd polynomials after range reduction.

use super::super::ir::{CompareOp, Reg, UnaryOp};
use super::Math;

/// `(asin x / x - 1) / x^2` in `x^2` for `|x| <= 1/2`, error below 2^-31.
const ASIN: [f64; 6] = [0.166_666_6, 0.075_005_196, 0.044_514_276, 0.031_828_072, 0.014_367_849, 0.037_608_72];
/// The same with an error of 2^-57.
const ASIN_DOUBLE: [f64; 13] = [
    0.166_666_666_666_666_69,
    0.074_999_999_999_984_33,
    0.044_642_857_146_355_43,
    0.030_381_944_138_531_247,
    0.022_372_172_942_149_89,
    0.017_352_392_720_869_973,
    0.013_971_212_973_552_933,
    0.011_479_177_415_184_906,
    0.010_322_814_350_185_78,
    0.005_457_506_718_640_358,
    0.017_400_879_442_694_02,
    -0.014_851_887_071_247_204,
    0.028_757_851_367_421_566,
];
/// `(atan x / x - 1) / x^2` in `x^2` for `|x| <= tan(pi / 8)`, error below 2^-30.
const ATAN: [f64; 5] = [-0.333_333_16, 0.199_985_28, -0.142_443_88, 0.105_991_2, -0.060_898_63];
/// The same with an error of 2^-58.
const ATAN_DOUBLE: [f64; 12] = [
    -0.333_333_333_333_333_3,
    0.199_999_999_999_998_04,
    -0.142_857_142_856_598_28,
    0.111_111_111_051_554_47,
    -0.090_909_087_535_008_77,
    0.076_922_963_750_321_43,
    -0.066_664_248_857_382_55,
    0.058_789_289_978_347_75,
    -0.052_304_542_706_502_44,
    0.045_515_932_206_265_49,
    -0.034_570_561_981_427_744,
    0.016_285_756_855_221_028,
];
const PI: f64 = std::f64::consts::PI;
/// What `f32` loses of `pi`, and `f64`.
const PI_LO: f64 = -8.742_278e-8;
const PI_LO_DOUBLE: f64 = 1.224_646_799_147_353_2e-16;

fn pi_lo(m: &Math<'_>) -> f64 {
    m.of(PI_LO, PI_LO_DOUBLE)
}

/// Of `|x| <= 1`: whether it is above 1/2, and there `asin(sqrt((1 - |x|) / 2))`, else `asin |x|`.
fn reduced_asin(m: &mut Math<'_>, a: Reg) -> (Reg, Reg) {
    let is_large = m.compare_c(CompareOp::Gt, a, 0.5);
    let half = m.c(0.5);
    let z = m.fma_c(a, -0.5, half);
    let root = m.unary(UnaryOp::Sqrt, z);
    let square = m.mul(a, a);
    let z = m.select(is_large, z, square);
    let s = m.select(is_large, root, a);
    let p = m.polynomial(z, m.table(&ASIN, &ASIN_DOUBLE));
    let p = m.mul(p, z);
    (is_large, m.fma(p, s, s))
}

/// `pi / 2 - 2 * asin(sqrt((1 - |x|) / 2))` above 1/2.
pub(super) fn asin(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let (is_large, s) = reduced_asin(m, a);
    let low = m.c(pi_lo(m) / 2.0);
    let twice = m.fma_c(s, -2.0, low);
    let large = m.add_c(twice, PI / 2.0);
    let y = m.select(is_large, large, s);
    m.flip(y, sign)
}

/// `2 * asin(sqrt((1 - x) / 2))` above 1/2, its difference from `pi` below -1/2, `pi / 2 - asin x` between.
pub(super) fn acos(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let (is_large, s) = reduced_asin(m, a);
    let negative = m.compare_c(CompareOp::Lt, x, 0.0);
    let signed = m.flip(s, sign);
    let between = m.neg(signed);
    let between = m.add_c(between, pi_lo(m) / 2.0);
    let between = m.add_c(between, PI / 2.0);
    let double = m.add(signed, signed);
    let low = m.choose(negative, pi_lo(m), 0.0);
    let high = m.choose(negative, PI, 0.0);
    let large = m.add(double, low);
    let large = m.add(large, high);
    m.select(is_large, large, between)
}

/// `pi / 2 - atan(1 / x)` above `tan(3 pi / 8)`, `pi / 4 + atan((x - 1) / (x + 1))` above `tan(pi / 8)`.
pub(super) fn atan(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let is_large = m.compare_c(CompareOp::Gt, a, 2.414_213_562_373_095);
    let is_middle = m.compare_c(CompareOp::Gt, a, 0.414_213_562_373_095_03);
    let one = m.c(1.0);
    let minus_one = m.c(-1.0);
    let (above, below) = (m.add(a, minus_one), m.add(a, one));
    let above = m.select(is_middle, above, a);
    let above = m.select(is_large, minus_one, above);
    let below = m.select(is_middle, below, one);
    let below = m.select(is_large, a, below);
    let t = m.div(above, below);
    let z = m.mul(t, t);
    let p = m.polynomial(z, m.table(&ATAN, &ATAN_DOUBLE));
    let p = m.mul(p, z);
    let (zero, quarter, half) = (m.c(0.0), m.c(PI / 4.0), m.c(PI / 2.0));
    let base = m.select(is_middle, quarter, zero);
    let base = m.select(is_large, half, base);
    let y = m.fma(p, t, t);
    // pi_lo / PI times the base is what the base lacks.
    let y = m.fma_c(base, pi_lo(m) / PI, y);
    let y = m.add(y, base);
    m.flip(y, sign)
}

//! The error function: an odd polynomial near 0, beyond it `1 - 2^G(|x|)` in `f32`, in `f64`
//! `1 - e^(-x^2) * W((|x| - c) / (|x| + c))`.

use super::super::ir::{BinaryOp, CompareOp, Reg};
use super::Math;
use super::exp::exp_bounded;

/// `erf(x) / x - 1` in `x^2` up to 0.48, error below 2^-23.
const E: [f64; 4] = [0.128_379_06, -0.376_111_4, 0.112_512_104, -0.024_574_112];
/// `log2(1 - erf(x))` from 0.46 to 3.93, error of erf below 2^-27.
const G: [f64; 7] = [0.000_050_466_977, -1.628_383_9, -0.916_539_4, -0.152_519_91, 0.033_404_37, -0.004_750_246_6, 0.000_321_845_32];
/// `2^f` for `|f| <= 1/2`, error below 2^-23.
const P: [f64; 6] = [1.0, 0.693_147_06, 0.240_222_42, 0.055_507_336, 0.009_671_513, 0.001_326_472_7];

/// As [`E`] up to 0.66, error below 2^-56.
const E_DOUBLE: [f64; 13] = [
    0.128_379_167_095_512_6,
    -0.376_126_389_031_837_54,
    0.112_837_916_709_551_23,
    -0.026_866_170_645_130_322,
    0.005_223_977_625_425_947,
    -0.000_854_832_702_176_306_3,
    0.000_120_553_328_691_260_42,
    -1.492_564_531_365_130_8e-5,
    1.646_195_949_770_673_4e-6,
    -1.636_257_156_897_849_2e-7,
    1.476_024_827_269_693_8e-8,
    -1.185_156_325_981_679_3e-9,
    6.967_711_744_755_571e-11,
];
/// `c`, and `e^(x^2) * (1 - erf(x))` from 0.79 to 6 in `(x - c) / (x + c)`, error of erf below 2^-58.
const CENTER: f64 = 2.1875;
const W: [f64; 18] = [
    0.236_745_378_740_146_28,
    -0.405_204_341_094_754_95,
    0.248_318_003_219_959_98,
    -0.099_127_172_760_232_9,
    0.017_087_206_003_006_776,
    0.004_706_158_920_427_059_4,
    -0.002_449_496_842_171_108_2,
    -0.000_448_654_310_681_810_24,
    0.000_340_946_722_504_502_1,
    9.398_725_070_801_37e-5,
    -4.607_533_668_677_771e-5,
    -2.501_856_919_236_237_8e-5,
    3.491_273_605_548_384_6e-6,
    5.989_758_807_372_28e-6,
    9.601_271_778_223_264e-7,
    -1.015_338_844_295_268_4e-6,
    -4.544_381_400_942_895_5e-7,
    5.487_374_674_178_801_6e-8,
];

pub(super) fn erf(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    // erf is 1 in f32 from 3.92 on, in f64 from 5.93 on.
    let a = m.at_most(a, m.of(3.93, 6.0));
    let large = m.of(large as fn(&mut Math<'_>, Reg) -> Reg, large_double)(m, a);

    let z = m.mul(a, a);
    let p = m.polynomial(z, m.table(&E, &E_DOUBLE));
    let small = m.fma(p, a, a);

    let is_large = m.compare_c(CompareOp::Gt, a, m.of(0.47, 0.8));
    let y = m.select(is_large, large, small);
    m.flip(y, sign)
}

/// `1 - 2^G(a)`.
fn large(m: &mut Math<'_>, a: Reg) -> Reg {
    let g = m.polynomial(a, &G);
    let (n, n_bits) = m.nearest_multiple(g, 1.0);
    let f = m.sub(g, n);
    let p = m.polynomial(f, &P);
    // `n` is -26 at least: its sum with the exponent is that of a normal number.
    let (p, n) = (m.bits(p), m.shl(n_bits, 23));
    let e = m.b.binary(BinaryOp::Add, p, n);
    let e = m.float(e);
    let one = m.c(1.0);
    m.sub(one, e)
}

/// `1 - e^(-a^2) * W`.
fn large_double(m: &mut Math<'_>, a: Reg) -> Reg {
    let (above, below) = (m.add_c(a, -CENTER), m.add_c(a, CENTER));
    let t = m.div(above, below);
    let w = m.polynomial(t, &W);
    let square = m.mul(a, a);
    let minus = m.neg(square);
    let e = exp_bounded(m, minus);
    let rest = m.mul(e, w);
    let one = m.c(1.0);
    m.sub(one, rest)
}

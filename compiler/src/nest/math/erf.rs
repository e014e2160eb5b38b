//! The error function: an odd polynomial near 0, beyond it `1 - 2^G(|x|)`.

use super::super::ir::{BinaryOp, CompareOp, Reg};
use super::Math;

/// `erf(x) / x - 1` in `x^2` up to 0.48, error below 2^-23.
const E: [f32; 4] = [0.128_379_06, -0.376_111_4, 0.112_512_104, -0.024_574_112];
/// `log2(1 - erf(x))` from 0.46 to 3.93, error of erf below 2^-27.
const G: [f32; 7] = [0.000_050_466_977, -1.628_383_9, -0.916_539_4, -0.152_519_91, 0.033_404_37, -0.004_750_246_6, 0.000_321_845_32];
/// `2^f` for `|f| <= 1/2`, error below 2^-23.
const P: [f32; 6] = [1.0, 0.693_147_06, 0.240_222_42, 0.055_507_336, 0.009_671_513, 0.001_326_472_7];

pub(super) fn erf(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    // erf is 1 in f32 from 3.92 on.
    let a = m.at_most(a, 3.93);

    let g = m.polynomial(a, &G);
    let (n, n_bits) = m.nearest_multiple(g, 1.0);
    let f = m.sub(g, n);
    let p = m.polynomial(f, &P);
    // `n` is -26 at least: its sum with the exponent is that of a normal number.
    let (p, n) = (m.bits(p), m.shl(n_bits, 23));
    let e = m.b.binary(BinaryOp::Add, p, n);
    let e = m.float(e);
    let one = m.c(1.0);
    let large = m.sub(one, e);

    let z = m.mul(a, a);
    let p = m.polynomial(z, &E);
    let small = m.fma(p, a, a);

    let is_large = m.compare_c(CompareOp::Gt, a, 0.47);
    let y = m.select(is_large, large, small);
    m.flip(y, sign)
}

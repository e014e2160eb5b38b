//! The error function: an odd polynomial near 0, beyond it `1 - e^G(|x|)`.

use super::super::ir::{CompareOp, Reg};
use super::Math;
use super::exp::exp_normal;

/// `erf(x) / x - 1` in `x^2` up to 0.95, error below 2^-25.
const E: [f32; 6] = [0.128_379_14, -0.376_124_1, 0.112_810_135, -0.026_739_476, 0.004_955_833, -0.000_581_123_2];
/// `log(1 - erf(x))` from 0.9 to 3.93, error of erf below 2^-33.
const G: [f32; 8] =
    [0.000_169_209_1, -1.129_488_5, -0.633_400_6, -0.108_220_786, 0.025_080_994, -0.004_156_452_6, 0.000_431_447_76, -0.000_020_834_645];

pub(super) fn erf(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    // erf is 1 in f32 from 3.92 on.
    let a = m.at_most(a, 3.93);

    let g = m.polynomial(a, &G);
    let e = exp_normal(m, g);
    let one = m.c(1.0);
    let large = m.sub(one, e);

    let z = m.mul(a, a);
    let p = m.polynomial(z, &E);
    let small = m.fma(p, a, a);

    let is_large = m.compare_c(CompareOp::Gt, a, 0.921_875);
    let y = m.select(is_large, large, small);
    m.flip(y, sign)
}

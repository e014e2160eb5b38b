//! Hyperbolic functions from `expm1`, their inverses from `log1p`.

use super::super::ir::{CompareOp, Reg, UnaryOp};
use super::Math;
use super::exp::{quarter_exp, quarter_expm1};
use super::log::{log1p, log1p_or_log};

/// With `q = (e^|x| - 1) / 4`: `sinh |x| = 2 * (q + q / (4 * q + 1))`, doubled last so that only it may overflow.
pub(super) fn sinh(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let q = quarter_expm1(m, a);
    let one = m.c(1.0);
    let below = m.fma_c(q, 4.0, one);
    let other = m.div(q, below);
    let y = m.add(q, other);
    let y = m.add(y, y);
    m.flip(y, sign)
}

/// With `q = e^|x| / 4`: `cosh x = 2 * (q + 1 / (16 * q))`.
pub(super) fn cosh(m: &mut Math<'_>, x: Reg) -> Reg {
    let a = m.abs(x);
    let q = quarter_exp(m, a);
    let sixteenth = m.c(0.0625);
    let other = m.div(sixteenth, q);
    let y = m.add(q, other);
    m.add(y, y)
}

/// From here on `a + sqrt(a * a +- 1)` is `2 * a`.
fn large(m: &Math<'_>) -> f64 {
    m.of(8192.0, 536_870_912.0)
}

/// `log1p(a + a^2 / (1 + sqrt(a^2 + 1)))`.
pub(super) fn asinh(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let is_large = m.compare_c(CompareOp::Gt, a, large(m));
    let square = m.mul(a, a);
    let root = m.add_c(square, 1.0);
    let root = m.unary(UnaryOp::Sqrt, root);
    let below = m.add_c(root, 1.0);
    let rest = m.div(square, below);
    let w = m.add(a, rest);
    let y = log1p_or_log(m, w, is_large, a);
    m.flip(y, sign)
}

/// `log1p(t + sqrt(t * (t + 2)))` where `t = x - 1`.
pub(super) fn acosh(m: &mut Math<'_>, x: Reg) -> Reg {
    let is_large = m.compare_c(CompareOp::Gt, x, large(m));
    let t = m.add_c(x, -1.0);
    let other = m.add_c(t, 2.0);
    let root = m.mul(t, other);
    let root = m.unary(UnaryOp::Sqrt, root);
    let w = m.add(t, root);
    let y = log1p_or_log(m, w, is_large, x);
    let small = m.compare_c(CompareOp::Lt, x, 1.0);
    let nan = m.c(f64::NAN);
    m.select(small, nan, y)
}

/// `log1p(2 * a / (1 - a)) / 2`.
pub(super) fn atanh(m: &mut Math<'_>, x: Reg) -> Reg {
    let sign = m.sign(x);
    let a = m.abs(x);
    let above = m.add(a, a);
    let one = m.c(1.0);
    let below = m.sub(one, a);
    let w = m.div(above, below);
    let y = log1p(m, w);
    let y = m.mul_c(y, 0.5);
    m.flip(y, sign)
}

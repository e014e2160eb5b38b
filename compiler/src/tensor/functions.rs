//! Functions of `f64` that the standard library lacks, and correct rounding to half floats.

use half::{bf16, f16};

/// `log(1 + e^x)`, without overflow.
pub fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

/// The error function, within a few units in the 14th digit.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a >= 6.0 {
        return 1f64.copysign(x);
    }
    if a < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
            if term.abs() < 1e-18 * sum.abs() {
                break;
            }
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    // The continued fraction of the complement.
    let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (a + f));
    (1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())).copysign(x)
}

/// Whether a number is one, or minus one, times a power of two; none that is subnormal.
pub fn is_power_of_two(x: f64) -> bool {
    x.is_normal() && x.to_bits() & ((1 << 52) - 1) == 0
}

/// An `f32` that rounds to the same number of fewer bits as `x`: of the two around `x`, the one whose last bit is set.
fn to_odd(x: f64) -> f32 {
    let y = x as f32;
    let back = f64::from(y);
    if back == x || x.is_nan() || y.to_bits() & 1 == 1 {
        return y;
    }
    let bits = y.to_bits();
    f32::from_bits(if back.abs() > x.abs() { bits - 1 } else { bits + 1 })
}

/// `x` rounded to nearest even, once.
pub fn round_f16(x: f64) -> f16 {
    f16::from_f32(to_odd(x))
}

/// `x` rounded to nearest even, once.
pub fn round_bf16(x: f64) -> bf16 {
    bf16::from_f32(to_odd(x))
}

#[cfg(test)]
mod tests {
    use super::{erf, is_power_of_two, round_bf16, round_f16, softplus};

    #[test]
    fn half_floats_round_once() {
        // A number, what is halfway to the next, and what is just beyond.
        for bits in (0..0x7bff).step_by(13) {
            let [x, next] = [bits, bits + 1].map(|b| half::f16::from_bits(b).to_f64());
            let middle = f64::midpoint(x, next);
            let even = if bits % 2 == 0 { x } else { next };
            let around = [middle.next_down(), middle, middle.next_up()];
            assert_eq!(around.map(|m| round_f16(m).to_f64()), [x, even, next]);
            assert_eq!(around.map(|m| round_f16(-m).to_f64()), [-x, -even, -next]);
            let [x, next] = [bits, bits + 1].map(|b| half::bf16::from_bits(b).to_f64());
            let middle = f64::midpoint(x, next);
            let even = if bits % 2 == 0 { x } else { next };
            assert_eq!([middle.next_down(), middle, middle.next_up()].map(|m| round_bf16(m).to_f64()), [x, even, next]);
        }
        assert_eq!(
            [1e6, 65519.99, 65520.0, -1e300].map(|x| round_f16(x).to_f32()),
            [f32::INFINITY, 65504.0, f32::INFINITY, f32::NEG_INFINITY]
        );
        assert!(round_f16(f64::NAN).is_nan() && round_bf16(f64::NAN).is_nan());
    }

    #[test]
    fn known_values() {
        for (x, y) in [
            (0.0, 0.0),
            (1e-10, 1.128_379_167_095_512_6e-10),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.9, 0.999_958_902_121_900_5),
            (3.1, 0.999_988_351_342_632_8),
            (7.0, 1.0),
        ] {
            assert!((erf(x) - y).abs() <= 1e-13 * y.abs(), "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
        assert!([1.0, -4.0, 2f64.powi(-1022)].into_iter().all(is_power_of_two));
        assert!(![0.0, 3.0, 2f64.powi(-1023), f64::INFINITY, f64::NAN].into_iter().any(is_power_of_two));
        assert_eq!([softplus(1e3), softplus(-1e3), softplus(0.0)], [1e3, 0.0, 2f64.ln()]);
        assert!(softplus(f64::NAN).is_nan());
    }
}

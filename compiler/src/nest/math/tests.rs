//! Emitted functions against `f64` references, through the interpreter, with and without fused multiply-add.
//!
//! `TINSMITH_EXHAUSTIVE=1` tries every `f32` (in a release build, many minutes a function), `=64` every 64th;
//! otherwise a dense sample.

use bytemuck::{cast_slice, pod_read_unaligned};

use super::super::{Access, Builder, Function, verify};
use super::*;
use crate::codegen::testing::eval_with;

const LANES: usize = 64;

/// What the emitted function gives for each argument (pair).
fn run(function: Function, fused: bool, x: &[f32], y: &[f32]) -> Vec<f32> {
    let n = x.len().next_multiple_of(LANES);
    let mut b = Builder::new("f", "");
    let buffers: Vec<_> = ["x", "y"].into_iter().map(|name| b.buffer(name, DType::F32, n, Access::Read)).collect();
    let out = b.buffer("out", DType::F32, n, Access::Write);
    b.for_loop("i", 0..n as i64, LANES as i64, |b, i| {
        let i = super::super::Affine::var(i);
        let args: Vec<_> = buffers[..function.n_args()].iter().map(|&buffer| b.load(buffer, i.clone(), LANES as u32)).collect();
        let result = function.emit(b, &args).unwrap();
        b.store(out, i, result);
    });
    let kernel = b.finish();
    assert_eq!(verify(&kernel), []);
    let padded = |x: &[f32]| {
        let mut bytes = cast_slice::<f32, u8>(x).to_vec();
        bytes.resize(n * 4, 0);
        bytes
    };
    let mut buffers = vec![padded(x), padded(y), vec![0; n * 4]];
    eval_with(&kernel, &mut buffers, fused).unwrap();
    buffers[2].chunks_exact(4).map(pod_read_unaligned).take(x.len()).collect()
}

/// Error in units in the last place of `exact`; infinity counts as the number after the greatest.
fn ulps(got: f32, exact: f64) -> f64 {
    if got.is_nan() || exact.is_nan() {
        return if got.is_nan() && exact.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let limit = 2f64.powi(128);
    let value = |x: f64| if x.abs() >= limit { limit.copysign(x) } else { x };
    let exponent = ((exact.abs().to_bits() >> 52) as i32 - 1023).clamp(-126, 127);
    (value(got.into()) - value(exact)).abs() / 2f64.powi(exponent - 23)
}

fn check(function: Function, x: &[f32], y: &[f32], exact: impl Fn(f64, f64) -> f64) -> f64 {
    let mut worst = 0.0;
    for fused in [true, false] {
        for (i, got) in run(function, fused, x, y).into_iter().enumerate() {
            let second = y.get(i).copied().unwrap_or(0.0);
            let expected = exact(x[i].into(), second.into());
            let error = ulps(got, expected);
            assert!(
                error <= function.max_ulp() || got == 0.0 && expected.abs() < function.zero_below(DType::F32),
                "{function:?}({:?}, {second:?}), fused {fused}: {got:?}, exactly {expected:?}, {error} ulp",
                x[i]
            );
            worst = f64::max(worst, error);
        }
    }
    worst
}

/// Distance of the numbers tried, if many are asked for.
fn exhaustive() -> Option<usize> {
    let step = std::env::var("TINSMITH_EXHAUSTIVE").ok()?;
    Some(step.parse::<usize>().expect("TINSMITH_EXHAUSTIVE is a number").max(1))
}

/// Numbers of every exponent, and `|x| <= dense` evenly.
fn sample(dense: f32) -> Vec<f32> {
    let mut x: Vec<f32> = (0..=u32::MAX).step_by(143_053).map(f32::from_bits).collect();
    x.extend((-15_000..=15_000).map(|i| dense * i as f32 / 15_000.0));
    x.extend([0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45]);
    x.extend([-1, 1].map(|sign| f32::from_bits((f32::NAN.to_bits() as i32 + sign * 3) as u32)));
    x
}

/// Checks `function` where `|x| <= range`, and that nothing is far off elsewhere.
fn check_unary(function: Function, dense: f32, range: f32, exact: impl Fn(f64) -> f64) {
    check_where(function, dense, |x| !x.is_finite() || x.abs() <= range, exact);
}

/// Checks `function` of all numbers up to `most`, and NaN.
fn check_below(function: Function, dense: f32, most: f32, exact: impl Fn(f64) -> f64) {
    check_where(function, dense, |x| x.is_nan() || *x <= most, exact);
}

fn check_where(function: Function, dense: f32, inside: impl Fn(&f32) -> bool, exact: impl Fn(f64) -> f64) {
    let x: Vec<f32> = sample(dense).into_iter().filter(&inside).collect();
    let mut worst = check(function, &x, &[], |x, _| exact(x));
    if let Some(step) = exhaustive() {
        for high in 0..1 << 12 {
            let x: Vec<f32> = (0..1 << 20).step_by(step).map(|low| f32::from_bits(high << 20 | low)).filter(&inside).collect();
            worst = worst.max(check(function, &x, &[], |x, _| exact(x)));
        }
    }
    eprintln!("{function:?}: {worst:.3} ulp");
}

/// Error function in `f64`: the Taylor series, or the continued fraction of its complement.
fn erf_f64(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (a + f));
    (1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())).copysign(x)
}

#[test]
fn exponentials() {
    check_unary(Function::Exp, 105.0, f32::MAX, f64::exp);
    check_below(Function::ExpFtz, 105.0, 88.0, f64::exp);
    check_unary(Function::Expm1, 20.0, f32::MAX, f64::exp_m1);
    check_unary(Function::Sigmoid, 20.0, f32::MAX, |x| 1.0 / (1.0 + (-x).exp()));
    check_unary(Function::Tanh, 10.0, f32::MAX, f64::tanh);
}

#[test]
fn logarithms() {
    check_unary(Function::Log, 2.0, f32::MAX, f64::ln);
    check_unary(Function::Log1p, 2.0, f32::MAX, f64::ln_1p);
    check_unary(Function::Softplus, 20.0, f32::MAX, |x| x.max(if x.is_nan() { x } else { 0.0 }) + (-x.abs()).exp().ln_1p());
}

#[test]
fn error_function() {
    assert!((erf_f64(1.0) - 0.842_700_792_949_714_9).abs() < 1e-15 && (erf_f64(2.999) - erf_f64(3.001)).abs() < 1e-6);
    check_unary(Function::Erf, 4.5, f32::MAX, erf_f64);
}

#[test]
fn trigonometric_functions() {
    for (function, exact) in [(Function::Sin, f64::sin as fn(f64) -> f64), (Function::Cos, f64::cos), (Function::Tan, f64::tan)] {
        check_unary(function, 10.0, 1e5, exact);
        check_unary(function, 1e5, 1e5, exact);
    }
    // Close to multiples of pi / 2.
    let near: Vec<f32> = (1..60_000).map(|n| (f64::from(n) * std::f64::consts::FRAC_PI_2) as f32).collect();
    check(Function::Sin, &near, &[], |x, _| x.sin());
    check(Function::Cos, &near, &[], |x, _| x.cos());
    for function in [Function::Sin, Function::Cos] {
        for y in run(function, false, &sample(1e9), &[]) {
            assert!(y.is_nan() || y.abs() <= 1.0, "{function:?} is {y}");
        }
    }
}

#[test]
fn inverse_trigonometric_functions() {
    check_unary(Function::Asin, 1.1, f32::MAX, f64::asin);
    check_unary(Function::Acos, 1.1, f32::MAX, f64::acos);
    check_unary(Function::Atan, 10.0, f32::MAX, f64::atan);
}

#[test]
fn hyperbolic_functions() {
    check_unary(Function::Sinh, 90.0, f32::MAX, f64::sinh);
    check_unary(Function::Cosh, 90.0, f32::MAX, f64::cosh);
    check_unary(Function::Asinh, 10.0, f32::MAX, f64::asinh);
    check_unary(Function::Acosh, 10.0, f32::MAX, |x| {
        if x < 1.0 {
            f64::NAN
        } else if x > 1e9 {
            x.acosh()
        } else {
            (x - 1.0 + ((x - 1.0) * (x + 1.0)).sqrt()).ln_1p()
        }
    });
    check_unary(Function::Atanh, 1.0, f32::MAX, |x| 0.5 * (2.0 * x.abs() / (1.0 - x.abs())).ln_1p() * x.signum());
}

#[test]
fn powers() {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32) as u32
    };
    let (mut x, mut y) = (vec![], vec![]);
    let mut worst = 0.0;
    let n = if exhaustive().is_some() { 1000 } else { 1 };
    for _ in 0..n {
        for i in 0..60_000 {
            // Any bits; and pairs whose result is a normal number.
            let a = f32::from_bits(random());
            let b = match i % 4 {
                0 => f32::from_bits(random()),
                1 => (random() % 41) as f32 - 20.0,
                _ => (f64::from(random()) / f64::from(u32::MAX) * 300.0 - 150.0) as f32 / a.abs().log2(),
            };
            let a = if i % 4 == 3 { 1.0 + f32::from_bits(random()).rem_euclid(1.0) * 0.5 - 0.25 } else { a };
            let b = if i % 4 == 3 { (random() % 4000) as f32 * 0.1 - 200.0 } else { b };
            x.push(a);
            y.push(b);
        }
        worst = check(Function::Pow, &x, &y, f64::powf).max(worst);
        x.clear();
        y.clear();
    }
    eprintln!("Pow: {worst:.3} ulp");
}

#[test]
fn powers_of_special_values() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        1.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        1e-45,
        -1e-45,
        16_777_216.0,
        16_777_215.0,
        -16_777_215.0,
        0.999_999_94,
        1.000_000_1,
        f32::MIN_POSITIVE,
    ];
    let pairs: Vec<(f32, f32)> = special.iter().flat_map(|&x| special.iter().map(move |&y| (x, y))).collect();
    let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    check(Function::Pow, &x, &y, f64::powf);
    for ((x, y), got) in pairs.into_iter().zip(run(Function::Pow, true, &x, &y)) {
        let expected = f64::from(x).powf(y.into());
        assert!(got.is_nan() || got.is_sign_negative() == expected.is_sign_negative(), "pow({x:?}, {y:?}) = {got:?}, exactly {expected:?}");
    }
}

#[test]
fn special_results_are_exact() {
    let inf = f32::INFINITY;
    let cases = [
        (Function::Exp, [-inf, -200.0, 0.0, 100.0, inf], [0.0, 0.0, 1.0, inf, inf]),
        (Function::ExpFtz, [-inf, -1e30, -89.0, -88.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]),
        (Function::Expm1, [-inf, -200.0, 0.0, 100.0, inf], [-1.0, -1.0, 0.0, inf, inf]),
        (Function::Log, [0.0, -0.0, 1.0, inf, inf], [-inf, -inf, 0.0, inf, inf]),
        (Function::Log1p, [-1.0, 0.0, inf, inf, inf], [-inf, 0.0, inf, inf, inf]),
        (Function::Softplus, [-inf, -200.0, 100.0, 1e30, inf], [0.0, 0.0, 100.0, 1e30, inf]),
        (Function::Tanh, [-inf, -20.0, 0.0, 20.0, inf], [-1.0, -1.0, 0.0, 1.0, 1.0]),
        (Function::Sigmoid, [-inf, -200.0, 0.0, 200.0, inf], [0.0, 0.0, 0.5, 1.0, 1.0]),
        (Function::Erf, [-inf, -5.0, 0.0, 5.0, inf], [-1.0, -1.0, 0.0, 1.0, 1.0]),
        (Function::Sinh, [-inf, -100.0, 0.0, 100.0, inf], [-inf, -inf, 0.0, inf, inf]),
        (Function::Cosh, [-inf, -100.0, 0.0, 100.0, inf], [inf, inf, 1.0, inf, inf]),
        (Function::Atanh, [-1.0, 0.0, 1.0, 0.0, 0.0], [-inf, 0.0, inf, 0.0, 0.0]),
    ];
    for (function, x, expected) in cases {
        for fused in [true, false] {
            assert_eq!(run(function, fused, &x, &[]), expected, "{function:?}");
        }
    }
}

#[test]
fn every_floating_point_type_has_code() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        for function in Function::ALL {
            let mut b = Builder::new("f", "");
            let out = b.buffer("y", dtype, 1, Access::Write);
            let x = b.float(VecType::scalar(dtype), 0.5);
            let y = function.emit(&mut b, &vec![x; function.n_args()]).unwrap();
            b.store(out, super::super::Affine::constant(0), y);
            assert_eq!(verify(&b.finish()), [], "{function:?} {dtype}");
        }
    }
    let mut b = Builder::new("f", "");
    let x = b.int(VecType::scalar(DType::I32), 1);
    assert_eq!(exp(&mut b, x).unwrap_err().to_string(), "Exp of i32 has no code");
}

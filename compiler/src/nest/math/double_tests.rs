//! `f64` functions against values of much higher precision (`testsuite/scripts/math_oracle.py`), and densely against
//! the standard library; conversions to half floats against exact rounding.

use bytemuck::{AnyBitPattern, cast_slice, pod_read_unaligned};
use half::{bf16, f16};

use super::super::{Access, Affine, Builder, verify};
use super::*;
use crate::codegen::testing::eval_with;
use crate::tensor::{round_bf16, round_f16};

const ORACLE: &str = include_str!("double_oracle.txt");
const LANES: usize = 16;

/// What the code that `emit` makes gives for each argument (pair), both of type `from`, as bytes of type `to`.
fn run(from: DType, to: DType, fused: bool, args: &[Vec<u8>], emit: impl Fn(&mut Builder, &[Reg]) -> Reg) -> Vec<u8> {
    let n = (args[0].len() / from.size_bytes()).next_multiple_of(LANES);
    let mut b = Builder::new("f", "");
    let buffers: Vec<_> = (0..args.len()).map(|i| b.buffer(format!("x{i}"), from, n, Access::Read)).collect();
    let out = b.buffer("out", to, n, Access::Write);
    b.for_loop("i", 0..n as i64, LANES as i64, |b, i| {
        let loaded: Vec<_> = buffers.iter().map(|&buffer| b.load(buffer, Affine::var(i), LANES as u32)).collect();
        let result = emit(b, &loaded);
        b.store(out, Affine::var(i), result);
    });
    let kernel = b.finish();
    assert_eq!(verify(&kernel), []);
    let mut memory: Vec<Vec<u8>> = args.to_vec();
    memory.iter_mut().for_each(|x| x.resize(n * from.size_bytes(), 0));
    memory.push(vec![0; n * to.size_bytes()]);
    eval_with(&kernel, &mut memory, fused).unwrap();
    let mut result = memory.pop().expect("the result");
    result.truncate(args[0].len() / from.size_bytes() * to.size_bytes());
    result
}

fn elements<T: AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(pod_read_unaligned).collect()
}

fn run_function(function: Function, fused: bool, args: &[Vec<f64>]) -> Vec<f64> {
    let args: Vec<Vec<u8>> = args.iter().map(|x| cast_slice(x).to_vec()).collect();
    elements(&run(DType::F64, DType::F64, fused, &args, |b, x| function.emit(b, x).unwrap()))
}

/// `got - exact` in units in the last place of `exact`, which is `near + rest` units.
fn ulps(got: f64, near: f64, rest: f64) -> f64 {
    if got.is_nan() || near.is_nan() || got == near {
        return if got.is_nan() == near.is_nan() { rest.abs() } else { f64::INFINITY };
    }
    if got.is_infinite() || near.is_infinite() {
        // Infinity counts as the number after the greatest.
        let finite = if got.is_infinite() { near } else { got };
        return if finite.abs() == f64::MAX { 1.0 } else { f64::INFINITY };
    }
    let exponent = ((near.abs().to_bits() >> 52) as i32 - 1023).clamp(-1022, 1023);
    // In two steps, since the unit of a small number is subnormal, and that of a great one is far from 1.
    ((got - near) / 2f64.powi(exponent) * 2f64.powi(52) - rest).abs()
}

#[test]
fn all_functions_are_exact_to_a_few_ulp() {
    let bits = |s: &str| f64::from_bits(u64::from_str_radix(s, 16).unwrap());
    for function in Function::ALL {
        let name = format!("{function:?}");
        let lines: Vec<Vec<&str>> = ORACLE.lines().map(|l| l.split(' ').collect()).filter(|l: &Vec<&str>| l[0] == name).collect();
        assert_eq!(lines.len(), 45, "{name}");
        let n = function.n_args();
        let args: Vec<Vec<f64>> = (1..=n).map(|i| lines.iter().map(|l| bits(l[i])).collect()).collect();
        let mut worst = 0.0;
        for fused in [true, false] {
            for (line, got) in lines.iter().zip(run_function(function, fused, &args)) {
                let error = ulps(got, bits(line[n + 1]), line[n + 2].parse().unwrap());
                assert!(error <= function.max_ulp(), "{line:?}, fused {fused}: {got:?} {:016x}, {error} ulp", got.to_bits());
                worst = f64::max(worst, error);
            }
        }
        eprintln!("{name}: {worst:.3} ulp");
    }
}

/// Numbers of every exponent, `|x| <= dense` evenly, and special ones.
fn sample(dense: f64) -> Vec<f64> {
    let mut x: Vec<f64> = (0..=u64::MAX).step_by(0x0003_4567_89ab_cdef).map(f64::from_bits).collect();
    x.extend((-5000..=5000).map(|i| dense * f64::from(i) / 5000.0));
    x.extend([0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324]);
    x
}

#[test]
fn functions_agree_with_the_standard_library() {
    type Exact = fn(f64) -> f64;
    let all: [(Function, f64, f64, Exact); 17] = [
        (Function::Exp, 750.0, f64::MAX, f64::exp),
        (Function::ExpFtz, 750.0, f64::MAX, f64::exp),
        (Function::Expm1, 40.0, f64::MAX, f64::exp_m1),
        (Function::Log, 2.0, f64::MAX, f64::ln),
        (Function::Log1p, 2.0, f64::MAX, f64::ln_1p),
        (Function::Sigmoid, 50.0, f64::MAX, |x| 1.0 / (1.0 + (-x).exp())),
        (Function::Tanh, 22.0, f64::MAX, f64::tanh),
        (Function::Sin, 1e8, 1e8, f64::sin),
        (Function::Cos, 10.0, 1e8, f64::cos),
        (Function::Tan, 10.0, 1e8, f64::tan),
        (Function::Asin, 1.1, f64::MAX, f64::asin),
        (Function::Acos, 1.1, f64::MAX, f64::acos),
        (Function::Atan, 10.0, f64::MAX, f64::atan),
        (Function::Sinh, 720.0, f64::MAX, f64::sinh),
        (Function::Cosh, 720.0, f64::MAX, f64::cosh),
        (Function::Asinh, 10.0, f64::MAX, |x| {
            let a = x.abs();
            let y = if a > 1e150 { a.ln() + std::f64::consts::LN_2 } else { (a + a * a / (1.0 + (a * a + 1.0).sqrt())).ln_1p() };
            y.copysign(x)
        }),
        (Function::Atanh, 1.0, f64::MAX, |x| 0.5 * (2.0 * x.abs() / (1.0 - x.abs())).ln_1p() * x.signum()),
    ];
    for (function, dense, range, exact) in all {
        let most = if function == Function::ExpFtz { 709.0 } else { f64::INFINITY };
        let x: Vec<f64> = sample(dense).into_iter().filter(|x| !(x.is_finite() && x.abs() > range || *x > most)).collect();
        for fused in [true, false] {
            for (&x, got) in x.iter().zip(run_function(function, fused, std::slice::from_ref(&x))) {
                let expected = exact(x);
                // The standard library rounds as well.
                let is_close = ulps(got, expected, 0.0) <= function.max_ulp() + 2.0;
                let vanishes = got == 0.0 && expected.abs() < function.zero_below(DType::F64);
                assert!(is_close || vanishes, "{function:?}({x:?}), fused {fused}: {got:?}, about {expected:?}");
            }
        }
    }
}

#[test]
fn powers_agree_with_the_standard_library() {
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
        10.0,
        1e-300,
        -1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::MAX,
        5e-324,
        4_503_599_627_370_497.0,
        9_007_199_254_740_992.0,
        0.999_999_999_999_999_9,
        1.000_000_000_000_000_2,
    ];
    let (x, y): (Vec<f64>, Vec<f64>) = special.iter().flat_map(|&x| special.iter().map(move |&y| (x, y))).unzip();
    for ((x, y), got) in x.iter().zip(&y).zip(run_function(Function::Pow, true, &[x.clone(), y.clone()])) {
        let expected = x.powf(*y);
        assert!(ulps(got, expected, 0.0) <= 5.0, "pow({x:?}, {y:?}) = {got:?}, not {expected:?}");
        assert!(got.is_nan() || got.is_sign_negative() == expected.is_sign_negative(), "pow({x:?}, {y:?}) = {got:?}");
    }
}

/// Numbers on both sides of what halves `ties`, from above and below.
fn around(ties: impl Iterator<Item = f64>) -> Vec<f64> {
    ties.flat_map(|x| [x, f64::from_bits(x.to_bits() + 1), f64::from_bits(x.to_bits().wrapping_sub(1))]).flat_map(|x| [x, -x]).collect()
}

#[test]
fn conversions_to_half_floats_round_once() {
    // Midpoints of neighbouring numbers, and what an f32 cannot tell from them.
    let halves = (0..0x7bffu16).step_by(7).map(|i| f64::midpoint(f16::from_bits(i).to_f64(), f16::from_bits(i + 1).to_f64()));
    let mut x = around(halves);
    x.extend(sample(70000.0));
    x.extend(sample(1e-4));
    let got = run(DType::F64, DType::F16, false, &[cast_slice(&x).to_vec()], |b, x| convert(b, x[0], DType::F16));
    for (x, got) in x.iter().zip(elements::<u16>(&got)) {
        let (got, expected) = (f16::from_bits(got), round_f16(*x));
        assert!(got.is_nan() && expected.is_nan() || got.to_bits() == expected.to_bits(), "{x:?}: {got:?}, not {expected:?}");
    }
    let brains = (0..0x7f7fu16).step_by(7).map(|i| f64::midpoint(bf16::from_bits(i).to_f64(), bf16::from_bits(i + 1).to_f64()));
    let mut x = around(brains);
    x.extend(sample(70000.0));
    let got = run(DType::F64, DType::BF16, false, &[cast_slice(&x).to_vec()], |b, x| convert(b, x[0], DType::BF16));
    for (x, got) in x.iter().zip(elements::<u16>(&got)) {
        let (got, expected) = (bf16::from_bits(got), round_bf16(*x));
        assert!(got.is_nan() && expected.is_nan() || got.to_bits() == expected.to_bits(), "{x:?}: {got:?}, not {expected:?}");
    }
}

#[test]
fn conversions_of_integers_to_bf16_round_once() {
    // Just above and below the midpoint of two numbers of 8 bits, also where f64 cannot tell.
    let mut x: Vec<i64> = (8..62).flat_map(|e| [0x181i64, 0x183, 0x1fd, 0x101].map(|m| if e >= 8 { m << (e - 8) } else { m })).collect();
    x = x.into_iter().flat_map(|x| [x, x + 1, x - 1, -x, -x - 1, 1 - x]).chain([0, 1, -1, i64::MAX, i64::MIN]).collect();
    let got = run(DType::I64, DType::BF16, false, &[cast_slice(&x).to_vec()], |b, x| convert(b, x[0], DType::BF16));
    let exact = |x: i64| {
        // Eight significant bits of the magnitude, ties to even.
        let a = x.unsigned_abs();
        let drop = (64 - a.leading_zeros()).saturating_sub(8);
        let (kept, rest) = (a >> drop, a & ((1u64 << drop) - 1));
        let half = if drop == 0 { 0 } else { 1u64 << (drop - 1) };
        let up = drop > 0 && (rest > half || rest == half && kept & 1 == 1);
        ((kept + u64::from(up)) as f64 * 2f64.powi(drop as i32)).copysign(if x < 0 { -1.0 } else { 1.0 })
    };
    for (&x, got) in x.iter().zip(elements::<u16>(&got)) {
        assert_eq!(bf16::from_bits(got).to_f64(), exact(x), "{x}");
    }
    let x: Vec<u32> = x.iter().map(|&x| x as u32).collect();
    let got = run(DType::U32, DType::BF16, false, &[cast_slice(&x).to_vec()], |b, x| convert(b, x[0], DType::BF16));
    for (&x, got) in x.iter().zip(elements::<u16>(&got)) {
        assert_eq!(bf16::from_bits(got).to_f64(), exact(x.into()), "{x}");
    }
}

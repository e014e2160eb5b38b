//! `Mod`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Mod.html>

use super::broadcast::{self, NUMBERS};
use crate::expr::{BinaryOp, Builder, CompareOp, Expr, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, broadcast_dims};

operator! {
    /// `c = a mod b`, with broadcasting.
    ///
    /// The result has the sign of `b`, or with `fmod` the sign of `a`. Integers modulo 0 give 0.
    Mod(a, b) -> (c) since [10, 13];
    /// Whether the remainder is C's `fmod`.
    fmod: bool = false,
}

impl Operator for Mod {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.ty(1)?;
        broadcast::same_type(x, NUMBERS)
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let integers = |[a, b]: [i128; 2]| {
            let rest = a.checked_rem(b).unwrap_or(0);
            if !self.fmod && rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        };
        let floats = |[a, b]: [f64; 2]| {
            let rest = a % b;
            match rest {
                _ if self.fmod => rest,
                0.0 => rest.copysign(b),
                _ if (rest < 0.0) != (b < 0.0) => rest + b,
                _ => rest,
            }
        };
        Ok(vec![broadcast::numbers([x.tensor(0), x.tensor(1)], floats, integers)])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let operands = [x.tensor(0), x.tensor(1)];
        let dtype = b.dtype(operands[0]);
        match dtype {
            _ if dtype.is_float() => Ok(vec![lower_floats(b, operands, dtype, self.fmod)]),
            _ => Ok(vec![broadcast::lower(b, &operands, dtype, |v| {
                let rest = v[0].binary(BinaryOp::Rem, &v[1]);
                if self.fmod || !dtype.is_signed() {
                    return rest;
                }
                let zero = rest.like(0.0);
                let differ = rest.binary(BinaryOp::Xor, &v[1]).compare(CompareOp::Lt, &zero);
                let wrong = differ.binary(BinaryOp::And, &rest.compare(CompareOp::Ne, &zero));
                wrong.select(&(&rest + &v[1]), &rest)
            })]),
        }
    }
}

/// Long division in `f64`. Each round takes off a part of the quotient, of as many bits as leave its product exact.
fn lower_floats(b: &mut Builder, operands: [TensorId; 2], dtype: DType, fmod: bool) -> TensorId {
    let dims = broadcast_dims(b.dims(operands[0]), b.dims(operands[1])).expect("shapes that infer accepted");
    let (f64, compute) = (DType::F64, broadcast::wide(dtype));
    let rest = b.compute(&dims, |b, at| b.load_broadcast(operands[0], at).cast(f64));
    // Quotients of `f32` reach 2^277, those of `f64` 2^2098.
    let (n_rounds, round): (usize, fn(&Expr, &Expr) -> Expr) = if dtype == f64 { (90, round_double) } else { (13, round_single) };
    b.repeat(n_rounds, |b, _| {
        b.write(rest, &dims, |b, at| {
            let (x, y) = (b.load(rest, at), b.load_broadcast(operands[1], at).cast(f64));
            (at.to_vec(), round(&x, &y))
        });
    });
    b.compute(&dims, |b, at| {
        let (x, y) = (b.load_broadcast(operands[0], at).cast(f64), b.load_broadcast(operands[1], at).cast(f64));
        let (rest, zero) = (b.load(rest, at), x.like(0.0));
        // Rounding the quotient up leaves a rest of the wrong sign.
        let step = y.unary(UnaryOp::Abs);
        let up = rest.compare(CompareOp::Lt, &zero).select(&(&rest + &step), &rest);
        let down = rest.compare(CompareOp::Gt, &zero).select(&(&rest - &step), &rest);
        let finite = x.compare(CompareOp::Lt, &zero).select(&down, &up);
        // An infinite divisor leaves finite numbers as they are.
        let infinite = step.compare(CompareOp::Eq, &x.like(f64::INFINITY));
        let bounded = x.unary(UnaryOp::Abs).compare(CompareOp::Lt, &x.like(f64::INFINITY));
        let rest = infinite.binary(BinaryOp::And, &bounded).select(&x, &finite);
        if fmod {
            return rest.cast(dtype);
        }
        let (rest, y) = (rest.cast(compute), y.cast(compute));
        let zero = rest.like(0.0);
        let differ = rest.compare(CompareOp::Lt, &zero).binary(BinaryOp::Xor, &y.compare(CompareOp::Lt, &zero));
        let wrong = differ.binary(BinaryOp::And, &rest.compare(CompareOp::Ne, &zero));
        wrong.select(&(&rest + &y), &rest).cast(dtype)
    })
}

/// `x` less a multiple of `y`, which is an `f32`: that of the upper bits of the quotient.
fn round_single(x: &Expr, y: &Expr) -> Expr {
    let quotient = x / y;
    let split = &quotient * 536_870_913.0;
    let high = &split - &(&split - &quotient);
    x - &(&toward_zero(&high) * y)
}

/// `x` less a multiple of `y`, any `f64`: 26 bits of the quotient times the halves of `y`.
fn round_double(x: &Expr, y: &Expr) -> Expr {
    let upper = |x: &Expr| x.bits(DType::I64).binary(BinaryOp::And, &Expr::int(DType::I64, !0x7ff_ffff)).bits(DType::F64);
    // What overflows is taken off as a multiple of `y` times a power of two.
    let scaled = |y: &Expr| {
        let great = (x / y).unary(UnaryOp::Abs).compare(CompareOp::Ge, &x.like(2f64.powi(900)));
        great.select(&(y * 2f64.powi(800)), y)
    };
    let y = scaled(&scaled(y));
    let whole = toward_zero(&upper(&(x / &y)));
    let high = upper(&y);
    let low = &y - &high;
    &(x - &(&whole * &high)) - &(&whole * &low)
}

fn toward_zero(x: &Expr) -> Expr {
    x.compare(CompareOp::Lt, &x.like(0.0)).select(&x.unary(UnaryOp::Ceil), &x.unary(UnaryOp::Floor))
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_op, random, t};

    #[test]
    fn signs() {
        let x = || [t("i32[6] -4 7 5 4 -7 8"), t("i32[6] 2 -3 8 -2 3 5")];
        assert_eq!(check_op("Mod", x()), [t("i32[6] 0 -2 5 0 2 3")]);
        assert_eq!(check_op("Mod fmod=1", x()), [t("i32[6] 0 1 5 0 -1 3")]);
        assert_eq!(check_op("Mod", [t("i32[1] 5"), t("i32[1] 0")]), [t("i32[1] 0")]);
        assert_eq!(check_op("Mod", [t("i8[1] -128"), t("i8[1] -1")]), [t("i8[1] 0")]);
        for dtype in ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"] {
            check_op("Mod", [random(&format!("{dtype}[2,5]"), 1), random(&format!("{dtype}[5]"), 2)]);
            check_op("Mod fmod=1", [random(&format!("{dtype}[2,5]"), 1), random(&format!("{dtype}[5]"), 2)]);
        }
    }

    #[test]
    fn floats_are_exact() {
        let exact = Check::new("Mod fmod=1").bound(0.0, 0.0);
        let y = exact.run([t("f32[6] -4.3 7.2 5 4.3 -7.2 8"), t("f32[6] 2.1 -3.4 8 -2.1 3.4 5")]);
        assert_eq!(y[0].to_f64s()[2..6], [5.0, f64::from(4.3f32 % -2.1), f64::from(-7.2f32 % 3.4), 3.0]);
        for dtype in ["f16", "bf16", "f32"] {
            exact.run([random(&format!("{dtype}[50,1]"), 1), random(&format!("{dtype}[40]"), 2)]);
        }
        exact.run([t("f32[5,1] 3e38 -1.7e20 5.9999995 1e10 -3"), t("f32[6] 1e-45 3 -7e-12 0.1 1.17e-38 1.9e-3")]);
        exact.run([t("f32[6] inf nan 1 1 -1 0"), t("f32[6] 1 1 0 inf -inf 3")]);
    }

    #[test]
    fn doubles_are_exact() {
        for op in ["Mod fmod=1", "Mod"] {
            let exact = Check::new(op).bound(0.0, 0.0);
            exact.run([random("f64[50,1]", 1), random("f64[40]", 2)]);
            exact.run([t("f64[5,1] 1.7e308 -1.7e20 5.9999999999999995 1e10 -3"), t("f64[7] 5e-324 3 -7e-12 0.1 2.3e-308 1.9e-3 1.3e308")]);
            exact.run([t("f64[6] inf nan 1 1 -1 0"), t("f64[6] 1 1 0 inf -inf 3")]);
        }
    }

    #[test]
    fn without_fmod_the_sign_is_that_of_the_divisor() {
        let y = Check::new("Mod").run([t("f32[6] -4.5 7.5 5 4.5 -7.5 8"), t("f32[6] 2 -3 8 -2 3 5")]);
        assert_eq!(y[0], t("f32[6] 1.5 -1.5 5 -1.5 1.5 3"));
        for dtype in ["f16", "bf16", "f32"] {
            Check::new("Mod").run([random(&format!("{dtype}[50,1]"), 1), random(&format!("{dtype}[40]"), 2)]);
        }
        Check::new("Mod").run([t("f32[6] inf nan 1 1 -1 0"), t("f32[6] 1 1 0 inf inf 3")]);
    }
}

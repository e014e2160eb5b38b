//! `Pow`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Pow.html>

use super::broadcast::{self, NUMBERS, wide};
use crate::expr::{BinaryOp, Builder, CompareOp, Expr, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, broadcast_dims};

operator! {
    /// `z = x ^ y`, of the type of `x`, with broadcasting.
    ///
    /// Integers wrap; of negative exponents, all but those of 1 and -1 give 0. A floating-point exponent of an integer
    /// truncates the result.
    Pow(x, y) -> (z) since [1, 7, 12, 13, 15];
}

impl Operator for Pow {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, NUMBERS)?;
        x.require_dtype(1, NUMBERS)?;
        Ok(vec![Type::new(dtype, broadcast::shape(x)?)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (base, exponent) = (x.tensor(0), x.tensor(1));
        let dtype = base.dtype();
        Ok(vec![if dtype.is_float() || exponent.dtype().is_float() {
            broadcast::floats([base, exponent], dtype, |[a, b]| a.powf(b))
        } else {
            broadcast::ints([base, exponent], dtype, |[a, b]| power(a, b))
        }])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (base, exponent) = (x.tensor(0), x.tensor(1));
        let dtype = b.dtype(base);
        let known = broadcast::uniform(x.facts, 1);
        let dims = x.result_dims(0);
        // A known exponent does not widen the shape if it is one number for all.
        let fits = b.dims(base) == dims;
        if dtype.is_float() {
            if let Some(y) = known.filter(|_| fits)
                && let Some(f) = special(y)
            {
                return Ok(vec![broadcast::lower(b, &[base], dtype, |v| f(&v[0]))]);
            }
            let wide = wide(dtype);
            return Ok(vec![broadcast::lower(b, &[base, exponent], dtype, |v| v[0].binary(BinaryOp::Pow, &v[1].cast(wide)))]);
        }
        if let Some(y) = known.filter(|&y| fits && (0.0..=8.0).contains(&y) && y.fract() == 0.0) {
            return Ok(vec![broadcast::lower(b, &[base], dtype, |v| {
                (1..y as usize).fold(if y == 0.0 { v[0].like(1.0) } else { v[0].clone() }, |p, _| p * v[0].clone())
            })]);
        }
        if b.dtype(exponent).is_float() {
            let f64 = DType::F64;
            return Ok(vec![broadcast::lower(b, &[base, exponent], dtype, |v| v[0].cast(f64).binary(BinaryOp::Pow, &v[1].cast(f64)))]);
        }
        Ok(vec![lower_integers(b, base, exponent)])
    }
}

/// `a ^ b` modulo `2^128`, so that it wraps to any type.
fn power(a: i128, b: i128) -> i128 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 if b % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut rest) = (1i128, a, b);
    while rest > 0 {
        if rest & 1 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest >>= 1;
    }
    result
}

/// What computes this exponent of any number, special values included, without a power.
fn special(y: f64) -> Option<fn(&Expr) -> Expr> {
    // The root of minus infinity is NaN, its power 0.5 is infinity.
    fn root(x: &Expr) -> Expr {
        x.compare(CompareOp::Eq, &x.like(f64::NEG_INFINITY)).select(&x.like(f64::INFINITY), &(x + 0.0).unary(UnaryOp::Sqrt))
    }
    Some(match y {
        0.0 => |x| x.like(1.0),
        1.0 => |x| x.clone(),
        2.0 => |x| x * x,
        3.0 => |x| &(x * x) * x,
        4.0 => |x| {
            let square = x * x;
            &square * &square
        },
        -1.0 => |x| x.like(1.0) / x.clone(),
        0.5 => root,
        -0.5 => |x| x.like(1.0) / root(x),
        _ => return None,
    })
}

/// By squaring, bit after bit of the exponent.
fn lower_integers(b: &mut Builder, base: TensorId, exponent: TensorId) -> TensorId {
    let (dtype, of_exponent) = (b.dtype(base), b.dtype(exponent));
    let dims = broadcast_dims(b.dims(base), b.dims(exponent)).expect("shapes that infer accepted");
    let square = b.compute(&dims, |b, at| b.load_broadcast(base, at));
    let result = b.compute(&dims, |_, _| Expr::int(dtype, 1));
    let exponent_dims = b.dims(exponent).to_vec();
    let rest = b.compute(&exponent_dims, |b, at| b.load(exponent, at));
    b.repeat(of_exponent.bits() as usize, |b, _| {
        b.write(result, &dims, |b, at| {
            let rest = b.load_broadcast(rest, at);
            let odd = rest.binary(BinaryOp::And, &rest.like(1.0)).compare(CompareOp::Ne, &rest.like(0.0));
            let now = b.load(result, at);
            (at.to_vec(), odd.select(&(&now * &b.load(square, at)), &now))
        });
        b.write(square, &dims, |b, at| {
            let x = b.load(square, at);
            (at.to_vec(), &x * &x)
        });
        b.write(rest, &exponent_dims, |b, at| {
            let rest = b.load(rest, at);
            (at.to_vec(), rest.binary(BinaryOp::Shr, &rest.like(1.0)))
        });
    });
    if !of_exponent.is_signed() {
        return result;
    }
    // The bits of a negative exponent are right for 1 and -1, whose powers repeat.
    b.compute(&dims, |b, at| {
        let (x, y, power) = (b.load_broadcast(base, at), b.load_broadcast(exponent, at), b.load(result, at));
        let one = x.compare(CompareOp::Eq, &x.like(1.0));
        let unit = if dtype.is_signed() { one.binary(BinaryOp::Or, &x.compare(CompareOp::Eq, &x.like(-1.0))) } else { one };
        let keep = unit.binary(BinaryOp::Or, &y.compare(CompareOp::Ge, &y.like(0.0)));
        keep.select(&power, &power.like(0.0))
    })
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, lowered, random, t};

    #[test]
    fn floats() {
        assert_eq!(check_op("Pow", [t("f32[3] 1 2 3"), t("f32[3] 4 5 6")]), [t("f32[3] 1 32 729")]);
        assert_eq!(check_op("Pow", [t("f32[3] 1 2 3"), t("i64[] 2")]), [t("f32[3] 1 4 9")]);
        for dtype in ["f16", "bf16", "f32", "f64"] {
            for exponent in ["f32", "i32", "u8", "f16"] {
                check_op("Pow", [random(&format!("{dtype}[2,5]"), 1), random(&format!("{exponent}[5]"), 2)]);
            }
        }
    }

    #[test]
    fn special_exponents() {
        for exponent in ["0", "1", "2", "3", "4", "-1", "0.5", "-0.5", "1.5", "nan", "inf"] {
            let x = t("f32[11] nan inf -inf 0 -0 1 -1 2 -2 1e-20 1e20");
            Check::new("Pow").bound(1e-5, 1e-30).run([x.clone(), t(&format!("f32[] {exponent}"))]);
            Check::new("Pow").bound(1e-5, 1e-30).run([x, t(&format!("f32[2,1] {exponent}"))]);
        }
    }

    #[test]
    fn integers() {
        assert_eq!(check_op("Pow", [t("i32[3] 1 2 3"), t("i32[3] 4 5 6")]), [t("i32[3] 1 32 729")]);
        assert_eq!(check_op("Pow", [t("i64[2] 3 -3"), t("i64[] 39")]), [t("i64[2] 4052555153018976267 -4052555153018976267")]);
        assert_eq!(check_op("Pow", [t("i64[1] 3"), t("i64[] 65")])[0].to_ints(), [i128::from(3i64.wrapping_pow(65))]);
        let x = t("i32[5] 0 1 -1 2 -3");
        for (y, z) in [("0", "1 1 1 1 1"), ("7", "0 1 -1 128 -2187"), ("-1", "0 1 -1 0 0"), ("-2", "0 1 1 0 0")] {
            assert_eq!(check_op("Pow", [x.clone(), t(&format!("i64[] {y}"))]), [t(&format!("i32[5] {z}"))]);
        }
        for dtype in ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"] {
            check_op("Pow", [random(&format!("{dtype}[2,5]"), 1), random("i32[5]", 2)]);
            check_op("Pow", [random(&format!("{dtype}[5]"), 1), random("u8[2,5]", 2)]);
        }
        assert_eq!(check_op("Pow", [t("i32[3] 4 2 9"), t("f32[3] 0.5 3 1.5")]), [t("i32[3] 2 8 27")]);
        assert_eq!(check_error("Pow", [t("bool[1]"), t("f32[1]")]), "operand 0 has element type `bool`, which is not supported here");
    }

    #[test]
    fn integers_by_squaring() {
        insta::assert_snapshot!(lowered("Pow", &["i32[2]", "u8[]"]), @r"
        program(%x0: i32[2], %x1: u8[]) -> (%y.1) {
          %y[i0] = %x0[i0] : i32[2]
          %y.1[i0] = 1i32 : i32[2]
          %y.2[] = %x1[] : u8[]
          repeat l0 in 0..8 {
            %y.1[i0] = select((%y.2[] & 1u8) != 0u8, %y.1[i0] * %y[i0], %y.1[i0]) : i32[2]
            %y[i0] = %y[i0] * %y[i0] : i32[2]
            %y.2[] = %y.2[] >> 1u8 : u8[]
          }
        }
        ");
    }
}

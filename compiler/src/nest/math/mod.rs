//! Transcendental functions as nest code: polynomials after range reduction, of the loop form's basic operations only.
//!
//! Each works on any number of lanes of `f32` or `f64`, by the same steps with other numbers ([`Math::of`]); `f16` and `bf16`
//! compute in `f32`. Errors stay within
//! [`Function::max_ulp`] whether [`Op::Fma`] rounds once or twice, so nothing relies on a fused operation being exact:
//! what must be exact is a product of few bits. Special values follow IEEE 754 and C: NaN, infinities, overflow to
//! infinity, gradual underflow. The sign of a zero result is not promised, except for `pow`.

mod erf;
mod exp;
mod hyperbolic;
mod inverse;
mod log;
mod narrow;
mod pow;
mod trigonometric;

#[cfg(test)]
mod double_tests;
#[cfg(test)]
mod tests;

use thiserror::Error;

use super::builder::Builder;
use super::ir::{BinaryOp, CompareOp, Op, Reg, UnaryOp, VecType};
use crate::tensor::DType;

pub use narrow::convert;

/// A function that is emitted as code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Function {
    /// `e^x`.
    Exp,
    /// `e^x` of `x <= 88` (`f64`: 709); what is below the normal numbers may be zero.
    ExpFtz,
    /// `e^x - 1`, accurate near 0.
    Expm1,
    /// Natural logarithm.
    Log,
    /// `log(1 + x)`, accurate near 0.
    Log1p,
    /// `log(1 + e^x)`, without overflow.
    Softplus,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Error function.
    Erf,
    /// Sine; the argument is reduced well for `|x| <= 1e5` (`f64`: 1e8), beyond that the result is only somewhere in `[-1, 1]`.
    Sin,
    /// Cosine; see [`Function::Sin`].
    Cos,
    /// Tangent; see [`Function::Sin`].
    Tan,
    /// Arc sine.
    Asin,
    /// Arc cosine.
    Acos,
    /// Arc tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// `x^y`, as IEEE 754 `pow`.
    Pow,
}

/// An element type that a function has no code for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{function:?} of {dtype} has no code")]
pub struct Unsupported {
    /// The function.
    pub function: Function,
    /// The type.
    pub dtype: DType,
}

impl Function {
    /// All, in declaration order.
    pub const ALL: [Function; 21] = [
        Function::Exp,
        Function::ExpFtz,
        Function::Expm1,
        Function::Log,
        Function::Log1p,
        Function::Softplus,
        Function::Tanh,
        Function::Sigmoid,
        Function::Erf,
        Function::Sin,
        Function::Cos,
        Function::Tan,
        Function::Asin,
        Function::Acos,
        Function::Atan,
        Function::Sinh,
        Function::Cosh,
        Function::Asinh,
        Function::Acosh,
        Function::Atanh,
        Function::Pow,
    ];

    /// Greatest error of `f32` and `f64` results in units in the last place of the exact result.
    pub fn max_ulp(self) -> f64 {
        match self {
            Function::Exp | Function::ExpFtz | Function::Log | Function::Sin | Function::Cos => 2.0,
            Function::Expm1 | Function::Log1p | Function::Softplus | Function::Tanh | Function::Sigmoid | Function::Atan => 3.0,
            Function::Erf | Function::Pow | Function::Tan | Function::Asin | Function::Acos => 4.0,
            Function::Sinh | Function::Cosh | Function::Asinh | Function::Acosh | Function::Atanh => 4.0,
        }
    }

    /// Results nearer to zero than this may be zero.
    pub fn zero_below(self, dtype: DType) -> f64 {
        match (self, dtype) {
            (Function::Sigmoid, DType::F64) => 8e-309,
            (Function::Sigmoid, _) => 4.3e-39,
            (Function::ExpFtz, DType::F64) => f64::MIN_POSITIVE,
            (Function::ExpFtz, _) => f32::MIN_POSITIVE.into(),
            _ => 0.0,
        }
    }

    /// Number of arguments.
    pub fn n_args(self) -> usize {
        if self == Function::Pow { 2 } else { 1 }
    }

    /// Emits the function of `args`, registers of one type.
    ///
    /// # Panics
    /// If the number of arguments is not [`Function::n_args`].
    pub fn emit(self, b: &mut Builder, args: &[Reg]) -> Result<Reg, Unsupported> {
        assert_eq!(args.len(), self.n_args(), "arguments of {self:?}");
        let dtype = b.ty(args[0]).dtype;
        match dtype {
            DType::F32 | DType::F64 => Ok(self.emit_float(b, args)),
            DType::F16 | DType::BF16 => {
                let wide: Vec<Reg> = args.iter().map(|&a| b.convert(a, DType::F32)).collect();
                let y = self.emit_float(b, &wide);
                Ok(b.convert(y, dtype))
            }
            _ => Err(Unsupported { function: self, dtype }),
        }
    }

    fn emit_float(self, b: &mut Builder, args: &[Reg]) -> Reg {
        let x = args[0];
        let m = &mut Math { ty: b.ty(x), b };
        match self {
            Function::Exp => exp::exp(m, x),
            Function::ExpFtz => exp::exp_ftz(m, x),
            Function::Expm1 => exp::expm1(m, x),
            Function::Log => log::log(m, x),
            Function::Log1p => log::log1p(m, x),
            Function::Softplus => log::softplus(m, x),
            Function::Tanh => exp::tanh(m, x),
            Function::Sigmoid => exp::sigmoid(m, x),
            Function::Erf => erf::erf(m, x),
            Function::Sin => trigonometric::sin(m, x),
            Function::Cos => trigonometric::cos(m, x),
            Function::Tan => trigonometric::tan(m, x),
            Function::Asin => inverse::asin(m, x),
            Function::Acos => inverse::acos(m, x),
            Function::Atan => inverse::atan(m, x),
            Function::Sinh => hyperbolic::sinh(m, x),
            Function::Cosh => hyperbolic::cosh(m, x),
            Function::Asinh => hyperbolic::asinh(m, x),
            Function::Acosh => hyperbolic::acosh(m, x),
            Function::Atanh => hyperbolic::atanh(m, x),
            Function::Pow => pow::pow(m, x, args[1]),
        }
    }
}

macro_rules! functions {
    ($($name:ident $function:ident $doc:literal),* $(,)?) => { $(
        #[doc = $doc]
        pub fn $name(b: &mut Builder, x: Reg) -> Result<Reg, Unsupported> {
            Function::$function.emit(b, &[x])
        }
    )* };
}
functions! {
    exp Exp "[`Function::Exp`] of a register.",
    exp_ftz ExpFtz "[`Function::ExpFtz`] of a register.",
    expm1 Expm1 "[`Function::Expm1`] of a register.",
    log Log "[`Function::Log`] of a register.",
    log1p Log1p "[`Function::Log1p`] of a register.",
    softplus Softplus "[`Function::Softplus`] of a register.",
    tanh Tanh "[`Function::Tanh`] of a register.",
    sigmoid Sigmoid "[`Function::Sigmoid`] of a register.",
    erf Erf "[`Function::Erf`] of a register.",
    sin Sin "[`Function::Sin`] of a register.",
    cos Cos "[`Function::Cos`] of a register.",
    tan Tan "[`Function::Tan`] of a register.",
    asin Asin "[`Function::Asin`] of a register.",
    acos Acos "[`Function::Acos`] of a register.",
    atan Atan "[`Function::Atan`] of a register.",
    sinh Sinh "[`Function::Sinh`] of a register.",
    cosh Cosh "[`Function::Cosh`] of a register.",
    asinh Asinh "[`Function::Asinh`] of a register.",
    acosh Acosh "[`Function::Acosh`] of a register.",
    atanh Atanh "[`Function::Atanh`] of a register.",
}

/// [`Function::Pow`] of two registers.
pub fn pow(b: &mut Builder, x: Reg, y: Reg) -> Result<Reg, Unsupported> {
    Function::Pow.emit(b, &[x, y])
}

/// Short names for arithmetic of `f32` or `f64`, and for integer arithmetic on its bits.
struct Math<'a> {
    b: &'a mut Builder,
    ty: VecType,
}

impl Math<'_> {
    /// What serves `f32`, or `f64`.
    fn of<T>(&self, single: T, double: T) -> T {
        if self.ty.dtype == DType::F64 { double } else { single }
    }

    /// [`Math::of`] tables.
    fn table(&self, single: &'static [f64], double: &'static [f64]) -> &'static [f64] {
        self.of(single, double)
    }

    /// The integers of as many bits.
    fn int_type(&self) -> DType {
        self.of(DType::I32, DType::I64)
    }

    /// Bits of the significand that are stored.
    fn fraction_bits(&self) -> i64 {
        self.of(23, 52)
    }

    /// A constant, rounded to the type.
    fn c(&mut self, x: f64) -> Reg {
        let x = self.of(f64::from(x as f32), x);
        self.b.float(self.ty, x)
    }

    fn int(&mut self, x: i64) -> Reg {
        self.b.int(self.ty.with_dtype(self.int_type()), x)
    }

    fn add(&mut self, a: Reg, b: Reg) -> Reg {
        self.b.binary(BinaryOp::Add, a, b)
    }

    fn sub(&mut self, a: Reg, b: Reg) -> Reg {
        self.b.binary(BinaryOp::Sub, a, b)
    }

    fn mul(&mut self, a: Reg, b: Reg) -> Reg {
        self.b.binary(BinaryOp::Mul, a, b)
    }

    fn div(&mut self, a: Reg, b: Reg) -> Reg {
        self.b.binary(BinaryOp::Div, a, b)
    }

    fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        self.b.fma(a, b, c)
    }

    fn add_c(&mut self, a: Reg, c: f64) -> Reg {
        let c = self.c(c);
        self.add(a, c)
    }

    fn mul_c(&mut self, a: Reg, c: f64) -> Reg {
        let c = self.c(c);
        self.mul(a, c)
    }

    /// `a * k + c`.
    fn fma_c(&mut self, a: Reg, k: f64, c: Reg) -> Reg {
        let k = self.c(k);
        self.fma(a, k, c)
    }

    fn unary(&mut self, op: UnaryOp, a: Reg) -> Reg {
        self.b.unary(op, a)
    }

    fn abs(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::Abs, a)
    }

    fn neg(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::Neg, a)
    }

    /// The lesser of `a` and the constant; NaN stays.
    fn at_most(&mut self, a: Reg, c: f64) -> Reg {
        let c = self.c(c);
        self.b.binary(BinaryOp::Min, c, a)
    }

    /// The greater of `a` and the constant; NaN stays.
    fn at_least(&mut self, a: Reg, c: f64) -> Reg {
        let c = self.c(c);
        self.b.binary(BinaryOp::Max, c, a)
    }

    fn compare_c(&mut self, op: CompareOp, a: Reg, c: f64) -> Reg {
        let c = self.c(c);
        self.b.compare(op, a, c)
    }

    fn select(&mut self, cond: Reg, a: Reg, b: Reg) -> Reg {
        self.b.select(cond, a, b)
    }

    fn both(&mut self, a: Reg, b: Reg) -> Reg {
        self.b.binary(BinaryOp::And, a, b)
    }

    fn not(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::Not, a)
    }

    /// The bits as integers.
    fn bits(&mut self, a: Reg) -> Reg {
        self.b.bitcast(a, self.int_type())
    }

    /// The number of these bits.
    fn float(&mut self, a: Reg) -> Reg {
        self.b.bitcast(a, self.ty.dtype)
    }

    fn shl(&mut self, a: Reg, by: i64) -> Reg {
        let by = self.int(by);
        self.b.binary(BinaryOp::Shl, a, by)
    }

    fn shr(&mut self, a: Reg, by: i64) -> Reg {
        let by = self.int(by);
        self.b.binary(BinaryOp::Shr, a, by)
    }

    fn and_bits(&mut self, a: Reg, mask: i64) -> Reg {
        let mask = self.int(mask);
        self.b.binary(BinaryOp::And, a, mask)
    }

    /// The upper half of the significand, 12 bits of 24 or 26 of 53: products of two such are exact.
    fn upper(&mut self, a: Reg) -> Reg {
        let a = self.bits(a);
        let a = self.and_bits(a, self.of(!0xfff, !0x7ff_ffff));
        self.float(a)
    }

    /// `c[0] + c[1] * x + ...`.
    fn polynomial(&mut self, x: Reg, c: &[f64]) -> Reg {
        let (last, rest) = c.split_last().expect("a coefficient");
        let mut sum = self.c(*last);
        for &c in rest.iter().rev() {
            let c = self.c(c);
            sum = self.fma(sum, x, c);
        }
        sum
    }

    fn sign_bit(&self) -> i64 {
        self.of(i32::MIN.into(), i64::MIN)
    }

    /// The sign bit of `a`, as an integer.
    fn sign(&mut self, a: Reg) -> Reg {
        let a = self.bits(a);
        self.and_bits(a, self.sign_bit())
    }

    /// `a`, negated where the sign bits say so.
    fn flip(&mut self, a: Reg, sign: Reg) -> Reg {
        let a = self.bits(a);
        let a = self.b.binary(BinaryOp::Xor, a, sign);
        self.float(a)
    }

    /// The integer nearest to `a * k`, and that integer in the low bits of an integer.
    fn nearest_multiple(&mut self, a: Reg, k: f64) -> (Reg, Reg) {
        // Adding this to a small number rounds it to an integer, which the low bits of the sum then hold.
        let rounder = self.c(1.5 * self.of((1i64 << 23) as f64, (1i64 << 52) as f64));
        let sum = self.fma_c(a, k, rounder);
        (self.sub(sum, rounder), self.bits(sum))
    }

    /// The value in every lane of the mask's type, from two constants.
    fn choose(&mut self, cond: Reg, a: f64, b: f64) -> Reg {
        let (a, b) = (self.c(a), self.c(b));
        self.select(cond, a, b)
    }

    fn convert(&mut self, a: Reg) -> Reg {
        let ty = self.ty;
        self.b.op(ty, Op::Convert(a))
    }
}

//! Operators that compute each element from the elements at its place.

mod activation;
mod arithmetic;
mod bit_cast;
mod broadcast;
mod cast;
mod comparison;
mod extremum;
mod functions;
mod gelu;
mod identity;
mod logic;
mod modulo;
mod power;
mod prelu;
mod select;
mod trigonometric;

use super::Schema;

pub use activation::{
    Celu, Elu, HardSigmoid, HardSwish, LeakyRelu, Mish, Relu, Selu, Shrink, Sigmoid, Softplus, Softsign, Swish, ThresholdedRelu,
};
pub use arithmetic::{Add, Div, Mul, Sub};
pub use bit_cast::BitCast;
pub use cast::{Cast, CastLike};
pub use comparison::{Equal, Greater, GreaterOrEqual, IsInf, IsNaN, Less, LessOrEqual};
pub use extremum::{Clip, Max, Mean, Min, Sum};
pub use functions::{Abs, Ceil, Erf, Exp, Floor, Log, Neg, Reciprocal, Round, Sign, Sqrt};
pub use gelu::Gelu;
pub use identity::{Dropout, Identity};
pub use logic::{And, BitShift, BitwiseAnd, BitwiseNot, BitwiseOr, BitwiseXor, Not, Or, Xor};
pub use modulo::Mod;
pub use power::Pow;
pub use prelu::PRelu;
pub use select::Where;
pub use trigonometric::{Acos, Acosh, Asin, Asinh, Atan, Atanh, Cos, Cosh, Sin, Sinh, Tan, Tanh};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &Abs::SCHEMA,
    &Acos::SCHEMA,
    &Acosh::SCHEMA,
    &Add::SCHEMA,
    &And::SCHEMA,
    &Asin::SCHEMA,
    &Asinh::SCHEMA,
    &Atan::SCHEMA,
    &Atanh::SCHEMA,
    &BitCast::SCHEMA,
    &BitShift::SCHEMA,
    &BitwiseAnd::SCHEMA,
    &BitwiseNot::SCHEMA,
    &BitwiseOr::SCHEMA,
    &BitwiseXor::SCHEMA,
    &Cast::SCHEMA,
    &CastLike::SCHEMA,
    &Ceil::SCHEMA,
    &Celu::SCHEMA,
    &Clip::SCHEMA,
    &Cos::SCHEMA,
    &Cosh::SCHEMA,
    &Div::SCHEMA,
    &Dropout::SCHEMA,
    &Elu::SCHEMA,
    &Equal::SCHEMA,
    &Erf::SCHEMA,
    &Exp::SCHEMA,
    &Floor::SCHEMA,
    &Gelu::SCHEMA,
    &Greater::SCHEMA,
    &GreaterOrEqual::SCHEMA,
    &HardSigmoid::SCHEMA,
    &HardSwish::SCHEMA,
    &Identity::SCHEMA,
    &IsInf::SCHEMA,
    &IsNaN::SCHEMA,
    &LeakyRelu::SCHEMA,
    &Less::SCHEMA,
    &LessOrEqual::SCHEMA,
    &Log::SCHEMA,
    &Max::SCHEMA,
    &Mean::SCHEMA,
    &Min::SCHEMA,
    &Mish::SCHEMA,
    &Mod::SCHEMA,
    &Mul::SCHEMA,
    &Neg::SCHEMA,
    &Not::SCHEMA,
    &Or::SCHEMA,
    &PRelu::SCHEMA,
    &Pow::SCHEMA,
    &Reciprocal::SCHEMA,
    &Relu::SCHEMA,
    &Round::SCHEMA,
    &Selu::SCHEMA,
    &Shrink::SCHEMA,
    &Sigmoid::SCHEMA,
    &Sign::SCHEMA,
    &Sin::SCHEMA,
    &Sinh::SCHEMA,
    &Softplus::SCHEMA,
    &Softsign::SCHEMA,
    &Sqrt::SCHEMA,
    &Sub::SCHEMA,
    &Sum::SCHEMA,
    &Swish::SCHEMA,
    &Tan::SCHEMA,
    &Tanh::SCHEMA,
    &ThresholdedRelu::SCHEMA,
    &Where::SCHEMA,
    &Xor::SCHEMA,
];

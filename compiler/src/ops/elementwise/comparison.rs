//! `Equal`, `Greater`, `GreaterOrEqual`, `Less`, `LessOrEqual`, `IsNaN` and `IsInf`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Equal.html>, <https://onnx.ai/onnx/operators/onnx__Greater.html>,
//! <https://onnx.ai/onnx/operators/onnx__GreaterOrEqual.html>, <https://onnx.ai/onnx/operators/onnx__Less.html>,
//! <https://onnx.ai/onnx/operators/onnx__LessOrEqual.html>, <https://onnx.ai/onnx/operators/onnx__IsNaN.html>,
//! <https://onnx.ai/onnx/operators/onnx__IsInf.html>

use super::broadcast::{self, FLOATS, NUMBERS, relation};
use crate::expr::{Builder, CompareOp, Expr, TensorId};
use crate::operator;
use crate::ops::small_types::Decoder;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `c = a == b`, with broadcasting; false of NaN.
    Equal(a, b) -> (c) since [1, 7, 11, 13, 19];
}

operator! {
    /// `c = a > b`, with broadcasting; false of NaN.
    Greater(a, b) -> (c) since [1, 7, 9, 13];
}

operator! {
    /// `c = a >= b`, with broadcasting; false of NaN.
    GreaterOrEqual(a, b) -> (c) since [12, 16];
}

operator! {
    /// `c = a < b`, with broadcasting; false of NaN.
    Less(a, b) -> (c) since [1, 7, 9, 13];
}

operator! {
    /// `c = a <= b`, with broadcasting; false of NaN.
    LessOrEqual(a, b) -> (c) since [12, 16];
}

operator! {
    /// Whether `x` is NaN.
    IsNaN(x) -> (y) since [9, 13, 20];
}

operator! {
    /// Whether `x` is infinite.
    IsInf(x) -> (y) since [10, 20];
    /// Whether minus infinity counts.
    detect_negative: bool = true,
    /// Whether infinity counts.
    detect_positive: bool = true,
}

relation!(Equal, &DType::ALL, f64::eq, i128::eq, Eq, Interval::equals);
relation!(Greater, NUMBERS, f64::gt, i128::gt, Gt, |a, b| b.less(a));
relation!(GreaterOrEqual, NUMBERS, f64::ge, i128::ge, Ge, |a, b| !a.less(b));
relation!(Less, NUMBERS, f64::lt, i128::lt, Lt, Interval::less);
relation!(LessOrEqual, NUMBERS, f64::le, i128::le, Le, |a, b| !b.less(a));

/// The types of 8 bits that have values which are no numbers.
const F8: &[DType] = &[DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ];

macro_rules! predicate {
    ($name:ident, $eval:expr, $lower:expr) => {
        impl Operator for $name {
            fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
                Ok(vec![broadcast::same_type(x, &[FLOATS, F8].concat())?[0].with_dtype(DType::Bool)])
            }

            fn axes(&self, x: &Operands) -> Axes {
                Axes::elementwise(x)
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let f: fn(&$name, f64) -> bool = $eval;
                let values = x.tensor(0).to_f64s();
                Ok(vec![Tensor::from_bools(x.tensor(0).dims(), values.into_iter().map(|x| f(self, x)))])
            }

            fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
                let f: fn(&$name, &Expr) -> Expr = $lower;
                let decoder = Decoder::new(b, x.facts.dtype(0)?);
                Ok(vec![b.compute(&x.dims(0), |b, at| {
                    let v = decoder.apply(b, &b.load(x.tensor(0), at));
                    f(self, &v.cast(broadcast::wide(v.dtype())))
                })])
            }
        }
    };
}
predicate!(IsNaN, |_, x| x.is_nan(), |_, x| x.compare(CompareOp::Ne, x));
predicate!(IsInf, |a, x| x == f64::INFINITY && a.detect_positive || x == f64::NEG_INFINITY && a.detect_negative, |a, x| {
    let is = |y: f64| x.compare(CompareOp::Eq, &x.like(y));
    match (a.detect_negative, a.detect_positive) {
        (true, true) => is(f64::INFINITY).binary(crate::expr::BinaryOp::Or, &is(f64::NEG_INFINITY)),
        (true, false) => is(f64::NEG_INFINITY),
        (false, true) => is(f64::INFINITY),
        (false, false) => Expr::int(DType::Bool, 0),
    }
});

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};
    use crate::tensor::{DType, Tensor};

    #[test]
    fn every_type() {
        for dtype in ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64"] {
            for op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"] {
                check_op(op, [random(&format!("{dtype}[2,5]"), 3), random(&format!("{dtype}[5]"), 4)]);
            }
        }
        assert_eq!(check_op("Equal", [t("bool[3] 1 0 1"), t("bool[3] 1 1 0")]), [t("bool[3] 1 0 0")]);
    }

    #[test]
    fn values() {
        let x = || [t("f32[4] 1 2 3 nan"), t("f32[4] 2 2 2 nan")];
        assert_eq!(check_op("Equal", x()), [t("bool[4] 0 1 0 0")]);
        assert_eq!(check_op("Greater", x()), [t("bool[4] 0 0 1 0")]);
        assert_eq!(check_op("GreaterOrEqual", x()), [t("bool[4] 0 1 1 0")]);
        assert_eq!(check_op("Less", x()), [t("bool[4] 1 0 0 0")]);
        assert_eq!(check_op("LessOrEqual", x()), [t("bool[4] 1 1 0 0")]);
        assert_eq!(check_op("Less", [t("u64[1] 1"), t("u64[1] 18446744073709551615")]), [t("bool[1] 1")]);
        assert_eq!(check_op("Equal", [t("i64[1] 9007199254740993"), t("i64[1] 9007199254740992")]), [t("bool[1] 0")]);
    }

    #[test]
    fn kinds_of_floats() {
        for dtype in ["f16", "bf16", "f32", "f64"] {
            let x = || [t(&format!("{dtype}[4] 1 nan inf -inf"))];
            assert_eq!(check_op("IsNaN", x()), [t("bool[4] 0 1 0 0")]);
            assert_eq!(check_op("IsInf", x()), [t("bool[4] 0 0 1 1")]);
            assert_eq!(check_op("IsInf detect_negative=0", x()), [t("bool[4] 0 0 1 0")]);
            assert_eq!(check_op("IsInf detect_positive=0", x()), [t("bool[4] 0 0 0 1")]);
            assert_eq!(check_op("IsInf detect_positive=0 detect_negative=0", x()), [t("bool[4] 0")]);
        }
        // 1, NaN, and both infinities.
        let codes = || [Tensor::from_bytes(DType::F8E5M2, &[4], &[0x3c, 0x7f, 0x7c, 0xfc])];
        assert_eq!(check_op("IsNaN", codes()), [t("bool[4] 0 1 0 0")]);
        assert_eq!(check_op("IsInf detect_positive=0", codes()), [t("bool[4] 0 0 0 1")]);
        assert_eq!(check_op("IsNaN", [Tensor::from_bytes(DType::F8E4M3FN, &[2], &[0x38, 0x7f])]), [t("bool[2] 0 1")]);
        assert_eq!(check_error("Less", [t("bool[1]"), t("bool[1]")]), "operand 0 has element type `bool`, which is not supported here");
    }
}

//! `Cast` and `CastLike`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Cast.html>, <https://onnx.ai/onnx/operators/onnx__CastLike.html>

use crate::expr::{Builder, TensorId};
use crate::operator;
use crate::ops::small_types::{Decoder, Encoder};
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, SmallFloat, Tensor, Type};

operator! {
    /// The elements in another type.
    ///
    /// Floats round to nearest even; float to integer truncates, saturates and gives 0 of NaN; integers wrap; to `bool` is
    /// "not zero".
    Cast(input) -> (output) since [1, 6, 9, 13, 19, 21, 23, 24, 25];
    /// The type.
    to: DType,
    /// Concerns 8-bit floats only.
    saturate: bool = true,
    /// Concerns 8-bit exponents only.
    round_mode: String = "up",
}

operator! {
    /// The elements in the type of another operand, as `Cast`.
    CastLike(input, target_type) -> (output) since [15, 19, 21, 23, 24, 25];
    /// Concerns 8-bit floats only.
    saturate: bool = true,
    /// Concerns 8-bit exponents only.
    round_mode: String = "up",
}

macro_rules! conversion {
    ($name:ident, $to:expr) => {
        impl Operator for $name {
            fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
                let to: fn(&$name, &Operands) -> Result<DType, InferError> = $to;
                Ok(vec![x.ty(0)?.with_dtype(to(self, x)?)])
            }

            fn axes(&self, x: &Operands) -> Axes {
                let labels: Vec<Option<u32>> = (0..x.rank(0).unwrap_or(0) as u32).map(Some).collect();
                let mut axes = Axes::unlinked(x);
                axes.operands[0].clone_from(&labels);
                Axes { results: vec![labels], elementwise: true, ..axes }
            }

            fn value_from_types(&self, x: &Operands) -> Option<Vec<Tensor>> {
                // Of a second operand only the type matters.
                let second = x.facts.get(1)?.as_ref()?.value.is_none();
                x.value(0).ok().filter(|_| second)?;
                self.eval(x).ok()
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let to: fn(&$name, &Operands) -> Result<DType, InferError> = $to;
                let to = to(self, x).map_err(|e| EvalError::Invalid(e.to_string()))?;
                Ok(vec![cast(x.tensor(0), to, self.saturate, &self.round_mode)])
            }

            fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
                of[0]
            }

            fn same_as(&self, x: &Operands, of: &[Interval]) -> Option<usize> {
                let to: fn(&$name, &Operands) -> Result<DType, InferError> = $to;
                let to = Interval::of_dtype(to(self, x).ok().filter(|to| to.is_int())?);
                let int = x.dtype(0).is_ok_and(|from| from.is_int());
                (int && of[0].low >= to.low && of[0].high <= to.high).then_some(0)
            }

            fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
                let to: fn(&$name, &Operands) -> Result<DType, InferError> = $to;
                let (from, to) = (x.facts.dtype(0)?, to(self, x.facts)?);
                if from == to || !from.is_small() && !to.is_small() {
                    return Ok(vec![b.map(&[x.tensor(0)], |v| v[0].cast(to.storage()))]);
                }
                let (decoder, encoder) = (Decoder::new(b, from), Encoder::new(b, to, self.saturate, &self.round_mode));
                let input = x.tensor(0);
                Ok(vec![b.compute(&x.result_dims(0), |b, at| encoder.apply(b, &decoder.apply(b, &b.load(input, at))))])
            }
        }
    };
}
conversion!(Cast, |op, _| Ok(op.to));
conversion!(CastLike, |_, x| x.dtype(1));

fn cast(x: &Tensor, to: DType, saturate: bool, round: &str) -> Tensor {
    let is_float = x.dtype().is_float() || SmallFloat::new(x.dtype(), true, "up").is_some();
    match (is_float, to) {
        (_, to) if to == x.dtype() => x.clone(),
        (_, to) if SmallFloat::new(to, true, "up").is_some() => Tensor::from_f64s_as(to, x.dims(), &x.to_f64s(), saturate, round),
        (true, _) => Tensor::from_f64s(to, x.dims(), &x.to_f64s()),
        // Directly to `f32`: by way of `f64` would round twice.
        (false, DType::F32) => Tensor::from_slice(x.dims(), &x.to_ints().into_iter().map(|i| i as f32).collect::<Vec<_>>()),
        (false, _) => Tensor::from_ints(to, x.dims(), &x.to_ints()),
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    const TYPES: [&str; 13] = ["bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64"];

    #[test]
    fn every_pair() {
        for from in TYPES {
            for to in TYPES {
                check_op(&format!("Cast to={to}"), [random(&format!("{from}[2,9]"), 1)]);
                check_op("CastLike", [random(&format!("{from}[9]"), 1), random(&format!("{to}[2]"), 1)]);
            }
        }
    }

    #[test]
    fn floats_to_integers() {
        let x = || [t("f32[8] 1.9 -1.9 nan inf -inf 300 -300 0.1")];
        assert_eq!(check_op("Cast to=i8", x()), [t("i8[8] 1 -1 0 127 -128 127 -128 0")]);
        assert_eq!(check_op("Cast to=u8", x()), [t("u8[8] 1 0 0 255 0 255 0 0")]);
        assert_eq!(check_op("Cast to=bool", x()), [t("bool[8] 1 1 1 1 1 1 1 1")]);
        assert_eq!(check_op("Cast to=i64", [t("f32[2] 1e30 -1e30")])[0].to_ints(), [i64::MAX.into(), i64::MIN.into()]);
        assert_eq!(check_op("Cast to=u64", [t("f64[1] 1e30")])[0].to_ints(), [u64::MAX.into()]);
    }

    #[test]
    fn integers() {
        assert_eq!(check_op("Cast to=i8", [t("i32[3] 300 -129 5")]), [t("i8[3] 44 127 5")]);
        assert_eq!(check_op("Cast to=u64", [t("i32[1] -1")]), [t("u64[1] 18446744073709551615")]);
        assert_eq!(check_op("Cast to=f32", [t("u64[1] 18446744073709551615")]), [t("f32[1] 18446744073709551616")]);
        // Rounded once, not by way of `f64`.
        assert_eq!(check_op("Cast to=f32", [t("i64[1] 9007199791611905")]), [t("f32[1] 9007200328482816")]);
        assert_eq!(check_op("Cast to=bool", [t("i64[3] 0 256 -1")]), [t("bool[3] 0 1 1")]);
    }

    #[test]
    fn halves() {
        assert_eq!(check_op("Cast to=f16", [t("f32[4] 1e6 -1e6 1.0009765625 nan")]), [t("f16[4] inf -inf 1.0009765625 nan")]);
        assert_eq!(check_op("Cast to=bf16", [t("f32[2] 1.00390625 1.01171875")]), [t("bf16[2] 1 1.015625")]);
    }

    #[test]
    fn small_types_convert() {
        for small in ["f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1", "u4", "i4", "u2", "i2"] {
            for other in ["f32", "f16", "i32", "u8", "f8e5m2", "i4", small] {
                check_op(&format!("Cast to={small} saturate=0"), [random(&format!("{other}[40]"), 1)]);
                check_op(&format!("Cast to={other}"), [random(&format!("{small}[40]"), 2)]);
            }
            check_op(&format!("Cast to={small}"), [t("f32[9] 0 -0 nan inf -inf 1e9 -1e9 3.5 -1e-9")]);
        }
        let x = t("f32[5] 3.4 -7.9 0.5 15 1.5");
        assert_eq!(check_op("Cast to=i4", [x.clone()])[0].to_ints(), [3, -7, 0, -1, 1]);
        assert_eq!(check_op("Cast to=u2", [x])[0].to_ints(), [3, 1, 0, 3, 1]);
    }

    #[test]
    fn unknown_types() {
        assert_eq!(check_error("Cast to=8", [t("f32[1]")]), "attribute `to` has the wrong type: Int(8)");
        assert_eq!(check_error("Cast", [t("f32[1]")]), "attribute `to` is missing");
    }
}

//! `BitCast`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__BitCast.html>

use crate::expr::{BinaryOp, Builder, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// The bits of each element as those of another type, of as many bits.
    ///
    /// As `bool` an element is "not zero".
    BitCast(input) -> (output) since [26];
    /// The type.
    to: DType,
}

impl Operator for BitCast {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let from = x.dtype(0)?;
        if from.packed_bits() != self.to.packed_bits() {
            let message = format!("`{from}` has {} bits, `{}` has {}", from.packed_bits(), self.to, self.to.packed_bits());
            return Err(InferError::Invalid(message));
        }
        Ok(vec![x.ty(0)?.with_dtype(self.to)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let unused = 8 - self.to.packed_bits().min(8);
        let byte = |&b: &u8| match self.to {
            DType::Bool => u8::from(b != 0),
            DType::I4 | DType::I2 => ((b << unused) as i8 >> unused) as u8,
            _ => b << unused >> unused,
        };
        let bytes: Vec<u8> = if unused > 0 || self.to == DType::Bool { t.bytes().iter().map(byte).collect() } else { t.bytes().to_vec() };
        Ok(vec![Tensor::from_bytes(self.to, t.dims(), &bytes)])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![b.map(&[x.tensor(0)], |v| convert(&v[0], self.to))])
    }
}

/// The bits of a stored element as a stored element of type `to`.
fn convert(e: &Expr, to: DType) -> Expr {
    let stored = to.storage();
    let e = if e.dtype() == DType::Bool { e.cast(DType::U8) } else { e.clone() };
    let unused = 8 - to.packed_bits().min(8);
    if unused > 0 {
        let e = e.cast(stored);
        let by = e.like(unused.into());
        return e.binary(BinaryOp::Shl, &by).binary(BinaryOp::Shr, &by);
    }
    if e.dtype().is_float() || stored.is_float() { e.bits(stored) } else { e.cast(stored) }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};
    use crate::tensor::DType;

    #[test]
    fn bits_stay() {
        assert_eq!(check_op("BitCast to=i32", [t("f32[3] 1 -2 0")]), [t("i32[3] 1065353216 -1073741824 0")]);
        assert_eq!(check_op("BitCast to=f64", [t("i64[1] 4607182418800017408")]), [t("f64[1] 1")]);
        assert_eq!(check_op("BitCast to=u16", [t("f16[2] 1 -1")]), [t("u16[2] 15360 48128")]);
        assert_eq!(check_op("BitCast to=i8", [t("u8[2] 255 1")]), [t("i8[2] -1 1")]);
        assert_eq!(check_op("BitCast to=u8", [t("bool[2] 1 0")]), [t("u8[2] 1 0")]);
        assert_eq!(check_op("BitCast to=bool", [t("u8[3] 1 0 4")]), [t("bool[3] 1 0 1")]);
        assert_eq!(check_op("BitCast to=i4", [t("u4[3] 15 7 8")]), [t("i4[3] -1 7 -8")]);
    }

    #[test]
    fn every_pair() {
        let all = || DType::ALL.into_iter().chain(DType::SMALL);
        for from in all() {
            for to in all().filter(|to| to.packed_bits() == from.packed_bits()) {
                check_op(&format!("BitCast to={to}"), [random(&format!("{from}[2,9]"), 1)]);
            }
        }
        assert_eq!(check_error("BitCast to=f32", [t("f64[1]")]), "`f64` has 64 bits, `f32` has 32");
    }
}

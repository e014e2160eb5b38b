//! `PRelu`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__PRelu.html>

use super::broadcast;
use crate::expr::{Builder, CompareOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type};

operator! {
    /// `y = x < 0 ? slope * x : x`; `slope` is broadcast to the shape of `x`.
    PRelu(x, slope) -> (y) since [1, 6, 7, 9, 16];
}

const TYPES: &[DType] = &[DType::I32, DType::I64, DType::U32, DType::U64, DType::F16, DType::BF16, DType::F32, DType::F64];

impl Operator for PRelu {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (ty, slope) = (x.ty(0)?, x.ty(1)?);
        let y = broadcast::same_type(x, TYPES)?;
        let fits = |(a, b): (&Dim, &Dim)| a.fixed().is_none() || b.fixed().is_none() || a == b;
        if y[0].rank() != ty.rank() || !y[0].shape.0.iter().zip(&ty.shape.0).all(fits) {
            return Err(InferError::Invalid(format!("a slope of shape {} does not broadcast to {}", slope.shape, ty.shape)));
        }
        Ok(vec![ty.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let f = |[x, s]: [f64; 2]| if x < 0.0 { s * x } else { x };
        let g = |[x, s]: [i128; 2]| if x < 0 { s * x } else { x };
        Ok(vec![broadcast::numbers([x.tensor(0), x.tensor(1)], f, g)])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let dtype = b.dtype(x.tensor(0));
        let y = broadcast::lower(b, &[x.tensor(0), x.tensor(1)], dtype, |v| {
            v[0].compare(CompareOp::Lt, &v[0].like(0.0)).select(&(&v[0] * &v[1]), &v[0])
        });
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn one_slope_for_each_channel() {
        let y = check_op("PRelu", [t("f32[1,2,3] -1 0 1 -2 nan 2"), t("f32[2,1] 0.5 -1")]);
        assert_eq!(y, [t("f32[1,2,3] -0.5 0 1 2 nan 2")]);
        for dtype in ["i32", "i64", "u32", "u64", "f16", "bf16", "f32", "f64"] {
            check_op("PRelu", [random(&format!("{dtype}[2,3,4]"), 1), random(&format!("{dtype}[3,1]"), 2)]);
            check_op("PRelu", [random(&format!("{dtype}[2,3,4]"), 1), random(&format!("{dtype}[]"), 2)]);
        }
    }

    #[test]
    fn a_slope_of_more_elements() {
        assert_eq!(check_error("PRelu", [t("f32[3]"), t("f32[2,3]")]), "a slope of shape [2,3] does not broadcast to [3]");
        assert_eq!(check_error("PRelu", [t("f32[1]"), t("f32[3]")]), "a slope of shape [3] does not broadcast to [1]");
    }
}

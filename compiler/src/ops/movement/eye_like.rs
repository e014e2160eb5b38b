//! `EyeLike`: ones on a diagonal.
//! Spec: <https://onnx.ai/onnx/operators/onnx__EyeLike.html>

use crate::expr::{self, CompareOp, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// A matrix of the extents of `input` with ones on diagonal `k` and zeros elsewhere.
    EyeLike(input) -> (output) since [9, 22];
    /// Element type; that of `input` where it is absent.
    dtype: Option<DType>,
    /// The diagonal: above the main one if positive.
    k: i64 = 0,
}

impl Operator for EyeLike {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        if ty.rank() != 2 {
            return Err(InferError::Invalid(format!("`{ty}` is not a matrix")));
        }
        Ok(vec![ty.with_dtype(self.dtype.unwrap_or(ty.dtype))])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let input = x.tensor(0);
        let (rows, columns) = (input.dims()[0], input.dims()[1]);
        let one = Tensor::from_ints(self.dtype.unwrap_or(input.dtype()), &[1], &[1]);
        let on_diagonal = |at: &[usize]| at[1] as i128 == at[0] as i128 + i128::from(self.k);
        Ok(vec![one.gather(&[rows, columns], |at| on_diagonal(at).then_some(0))])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let dtype = x.results[0].dtype;
        // Any diagonal outside the matrix is as good as the nearest one.
        let k = self.k.clamp(-(x.dims(0)[0] as i64), x.dims(0)[1] as i64);
        Ok(vec![b.compute(&x.result_dims(0), |_, at| {
            let on_diagonal = Expr::index(&at[1]).compare(CompareOp::Eq, &Expr::index(&at[0].offset(k)));
            on_diagonal.select(&Expr::int(dtype, 1), &Expr::int(dtype, 0))
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn ones_on_a_diagonal() {
        assert_eq!(check_op("EyeLike", [random("i32[2,3]", 1)]), [t("i32[2,3] 1 0 0 0 1 0")]);
        assert_eq!(check_op("EyeLike dtype=f32 k=-1", [random("i32[2,2]", 1)]), [t("f32[2,2] 0 0 1 0")]);
        assert_eq!(check_op("EyeLike k=9223372036854775807", [random("f32[2,2]", 1)]), [t("f32[2,2] 0 0 0 0")]);
    }
}

//! `Trilu`: the upper or lower triangle of matrices.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Trilu.html>

use super::scalar_of;
use crate::expr::{self, BinaryOp, CompareOp, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `input` with 0 on the other side of diagonal `k` of its last two axes; `k` is 0 where it is absent.
    Trilu(input, "k?") -> (output) since [14];
    /// Whether the elements on and above the diagonal are kept, or those on and below.
    upper: bool = true,
}

impl Operator for Trilu {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        if ty.rank() < 2 {
            return Err(InferError::Invalid(format!("`{ty}` is not a matrix")));
        }
        if x.has(1) && !x.dtype(1)?.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: x.dtype(1)? });
        }
        if x.has(1) && x.ty(1)?.dims().is_some_and(|d| d.iter().product::<usize>() != 1) {
            return Err(InferError::Invalid(format!("k of type `{}`", x.ty(1)?)));
        }
        Ok(vec![ty.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        axes.operands[0] = (0..axes.operands[0].len() as u32).map(Some).collect();
        axes.results = vec![axes.operands[0].clone()];
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let data = x.tensor(0);
        let k = x.tensor_opt(1).and_then(|k| k.to_ints().first().copied()).unwrap_or(0);
        let rank = data.dims().len();
        let mut flat = 0;
        Ok(vec![data.gather(data.dims(), |at| {
            flat += 1;
            let above = at[rank - 1] as i128 - at[rank - 2] as i128 - k;
            (if self.upper { above >= 0 } else { above <= 0 }).then_some(flat - 1)
        })])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let input = x.tensor(0);
        let k = match x.get(1) {
            Some(k) => scalar_of(b, k, x.facts.get(1).and_then(|f| f.value.as_ref())).cast(DType::I64),
            None => Expr::int(DType::I64, 0),
        };
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let (row, column) = (&at[at.len() - 2], &at[at.len() - 1]);
            let diagonal = Expr::index(row).binary(BinaryOp::Add, &k);
            let kept = Expr::index(column).compare(if self.upper { CompareOp::Ge } else { CompareOp::Le }, &diagonal);
            let value = b.load(input, at);
            kept.select(&value, &Expr::int(value.dtype(), 0))
        })])
    }
}

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

/// A diagonal beyond those of any matrix.
const FAR: i64 = 1 << 40;

impl Operator for Trilu {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        if ty.rank() < 2 {
            return Err(InferError::Invalid(format!("`{ty}` is not a matrix")));
        }
        if x.has(1) && !x.dtype(1)?.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: x.dtype(1)? });
        }
        if x.has(1) && x.ty(1)?.dims().is_some_and(|d| d.iter().any(|&d| d != 1)) {
            return Err(InferError::Invalid(format!("k of type `{}`", x.ty(1)?)));
        }
        Ok(vec![ty.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        // What is kept depends on the place in the matrix.
        let outer = axes.operands[0].len().saturating_sub(2);
        axes.operands[0].iter_mut().take(outer).enumerate().for_each(|(i, label)| *label = Some(i as u32));
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
        let k = k.binary(BinaryOp::Max, &Expr::int(DType::I64, -FAR)).binary(BinaryOp::Min, &Expr::int(DType::I64, FAR));
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let (row, column) = (&at[at.len() - 2], &at[at.len() - 1]);
            let diagonal = Expr::index(row).binary(BinaryOp::Add, &k);
            let kept = Expr::index(column).compare(if self.upper { CompareOp::Ge } else { CompareOp::Le }, &diagonal);
            let value = b.load(input, at);
            kept.select(&value, &Expr::int(value.dtype(), 0))
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn one_side_of_a_diagonal() {
        let x = || t("f32[2,3] 1 2 3 4 5 6");
        assert_eq!(check_op("Trilu", [x()]), [t("f32[2,3] 1 2 3 0 5 6")]);
        assert_eq!(check_op("Trilu upper=0", [x()]), [t("f32[2,3] 1 0 0 4 5 0")]);
        assert_eq!(check_op("Trilu", [x(), t("i64[] 1")]), [t("f32[2,3] 0 2 3 0 0 6")]);
        check_op("Trilu upper=0", [random("i64[2,4,4]", 1), t("i64[] -2")]);
        for k in [i64::MIN, i64::MAX] {
            check_op("Trilu", [random("f32[3,4]", 1), t(&format!("i64[] {k}"))]);
        }
        assert_eq!(check_error("Trilu", [random("f32[3]", 1)]), "`f32[3]` is not a matrix");
        assert_eq!(check_error("Trilu", [x(), t("i64[0]")]), "k of type `i64[0]`");
    }
}

//! `OneHot`: indices as vectors with one element on.
//! Spec: <https://onnx.ai/onnx/operators/onnx__OneHot.html>

use super::{literal, wrap_index_expr};
use crate::expr::{self, CompareOp, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type};

operator! {
    /// A new axis of extent `depth`: `values[1]` at the index, `values[0]` elsewhere (everywhere if the index is out of range).
    OneHot(indices, depth, values) -> (output) since [9, 11];
    /// Place of the new axis in the result.
    axis: i64 = -1,
}

impl OneHot {
    fn place(&self, x: &Operands) -> Result<(usize, usize), InferError> {
        let axis = crate::ops::normalize_axis(self.axis, x.rank(0)? + 1)?;
        let depth = x.value(1)?.to_ints().first().copied().unwrap_or(0);
        match usize::try_from(depth) {
            Ok(depth) if depth > 0 => Ok((axis, depth)),
            _ => Err(InferError::Invalid(format!("depth {depth}"))),
        }
    }
}

impl Operator for OneHot {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (indices, values) = (x.ty(0)?, x.ty(2)?);
        if values.dims().is_some_and(|d| d != [2]) {
            return Err(InferError::Invalid(format!("values `{values}` are not two")));
        }
        if indices.dtype == DType::Bool {
            return Err(InferError::ElementType { operand: 0, dtype: indices.dtype });
        }
        let (axis, depth) = self.place(x)?;
        let mut dims = indices.shape.0.clone();
        dims.insert(axis, Dim::Fixed(depth));
        let ty = values.with_dims(dims);
        ty.dims().map_or(Ok(ty.clone()), |dims| super::sized(ty.dtype, &dims)).map(|ty| vec![ty])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (axis, depth) = self.place(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (indices, values) = (x.tensor(0), x.tensor(2));
        let inner: usize = indices.dims()[axis..].iter().product();
        let on = indices.to_ints();
        let mut dims = indices.dims().to_vec();
        dims.insert(axis, depth);
        let outer = on.len() / inner.max(1);
        let hot = values.gather(&[outer, depth, inner], |at| {
            let index = on[at[0] * inner + at[2]];
            let index = if index < 0 { index + depth as i128 } else { index };
            Some(usize::from(index == at[1] as i128))
        });
        Ok(vec![hot.reshape(&dims)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (axis, depth) = self.place(x.facts)?;
        let (indices, values) = (x.tensor(0), x.tensor(2));
        let known = x.facts.get(2).and_then(|f| f.value.clone());
        let value = |b: &expr::Builder, i: usize| match &known {
            Some(values) => literal(&values.gather(&[], |_| Some(i))),
            None => b.load(values, [i as i64]),
        };
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let mut place = at.to_vec();
            let along = place.remove(axis);
            let index = wrap_index_expr(&b.load(indices, place).cast(DType::I64), depth);
            index.compare(CompareOp::Eq, &Expr::index(&along)).select(&value(b, 1), &value(b, 0))
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn one_element_is_on() {
        let values = || t("f32[2] 0 1");
        assert_eq!(check_op("OneHot", [t("i64[2] 1 -1"), t("i64[] 3"), values()]), [t("f32[2,3] 0 1 0 0 0 1")]);
        assert_eq!(check_op("OneHot axis=0", [t("i64[2] 1 3"), t("i64[] 2"), values()]), [t("f32[2,2] 0 0 1 0")]);
        assert_eq!(check_op("OneHot", [t("f32[1] 1"), t("f32[1] 2"), t("i32[2] 7 8")]), [t("i32[1,2] 7 8")]);
        assert_eq!(check_error("OneHot", [t("i64[1] 0"), t("i64[] 0"), values()]), "depth 0");
        assert_eq!(check_error("OneHot", [t("i64[1] 0"), t("i64[] 2"), t("f32[1] 0")]), "values `f32[1]` are not two");
    }
}

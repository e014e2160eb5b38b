//! `Shape`: the extents of a value, and their product (`Size`).
//! Spec: <https://onnx.ai/onnx/operators/onnx__Shape.html>

use super::index_table;
use crate::expr::{self, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// The extents of axes `start` to, without, `end`, as `i64`.
    Shape(data) -> (shape) since [1, 13, 15, 19, 21, 23, 24, 25];
    /// First axis; negative ones count from the back, and outside ones are clamped.
    start: i64 = 0,
    /// Axis behind the last; the rank where it is absent.
    end: Option<i64>,
}

operator! {
    /// The number of elements, as `i64`.
    Size(data) -> (size) since [1, 13, 19, 21, 23, 24, 25];
}

impl Shape {
    fn range(&self, x: &Operands) -> Result<std::ops::Range<usize>, InferError> {
        let rank = x.rank(0)? as i64;
        let from_front = |axis: i64| (if axis < 0 { axis.saturating_add(rank) } else { axis }).clamp(0, rank) as usize;
        let (start, end) = (from_front(self.start), from_front(self.end.unwrap_or(rank)));
        Ok(start..end.max(start))
    }
}

impl Operator for Shape {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        Ok(vec![Type::fixed(DType::I64, &[self.range(x)?.len()])])
    }

    fn extents(&self, x: &Operands) -> Option<std::ops::Range<usize>> {
        self.range(x).ok()
    }

    fn value_from_types(&self, x: &Operands) -> Option<Vec<Tensor>> {
        let dims = &x.ty(0).ok()?.shape.0[self.range(x).ok()?];
        let extents: Vec<i64> = dims.iter().map(|d| d.fixed().map(|d| d as i64)).collect::<Option<_>>()?;
        Some(vec![Tensor::from_slice(&[extents.len()], &extents)])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        self.value_from_types(x).ok_or_else(|| EvalError::Invalid("a value of unknown extents".to_owned()))
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let extents: Vec<i64> = x.dims(0)[self.range(x.facts)?].iter().map(|&d| d as i64).collect();
        let table = index_table(b, "extents", &[extents.len()], &extents);
        Ok(vec![b.compute(&[extents.len()], |b, at| b.load(table, at).cast(DType::I64))])
    }
}

impl Operator for Size {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.ty(0)?;
        Ok(vec![Type::fixed(DType::I64, &[])])
    }

    fn value_from_types(&self, x: &Operands) -> Option<Vec<Tensor>> {
        let size = x.dims(0).ok()?.into_iter().try_fold(1usize, usize::checked_mul)?;
        Some(vec![Tensor::scalar(size as i64)])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![Tensor::scalar(x.tensor(0).len() as i64)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let size = x.dims(0).iter().product::<usize>();
        Ok(vec![b.compute(&[], |_, _| Expr::int(DType::I64, size as i64))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn extents_are_numbers() {
        assert_eq!(check_op("Shape", [random("f32[2,3,4]", 1)]), [t("i64[3] 2 3 4")]);
        assert_eq!(check_op("Shape start=1 end=-1", [random("f32[2,3,4]", 1)]), [t("i64[1] 3")]);
        assert_eq!(check_op("Shape start=-100 end=100", [random("bool[2,0]", 1)]), [t("i64[2] 2 0")]);
        assert_eq!(check_op("Shape start=2 end=1", [random("f32[2,3,4]", 1)]), [t("i64[0]")]);
        assert_eq!(check_op("Size", [random("f32[2,3,4]", 1)]), [t("i64[] 24")]);
        assert_eq!(check_op("Size", [random("f32[]", 1)]), [t("i64[] 1")]);
    }
}

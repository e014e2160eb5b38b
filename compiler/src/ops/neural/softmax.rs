//! `Softmax`, `LogSoftmax` and `Hardmax`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Softmax.html>, <https://onnx.ai/onnx/operators/onnx__LogSoftmax.html>,
//! <https://onnx.ai/onnx/operators/onnx__Hardmax.html>

use super::widen::{FLOATS, load_wide};
use crate::expr::{self, Affine, CompareOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type, n_elements};

operator! {
    /// `y = exp(x) / sum of exp(x)` along one axis.
    Softmax(input) -> (output) since [1, 11, 13];
    /// The axis.
    axis: i64 = -1,
}

operator! {
    /// `y = x - log(sum of exp(x))` along one axis.
    LogSoftmax(input) -> (output) since [1, 11, 13];
    /// The axis.
    axis: i64 = -1,
}

operator! {
    /// 1 at the first greatest element along one axis, 0 elsewhere.
    Hardmax(input) -> (output) since [1, 11, 13];
    /// The axis.
    axis: i64 = -1,
}

macro_rules! along_an_axis {
    ($name:ident, $eval:expr, $lower:expr) => {
        impl Operator for $name {
            fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
                x.require_dtype(0, FLOATS)?;
                x.axis(0, self.axis)?;
                Ok(vec![x.ty(0)?.clone()])
            }

            fn axes(&self, x: &Operands) -> Axes {
                let (Ok(axis), Ok(rank)) = (x.axis(0, self.axis), x.rank(0)) else { return Axes::unlinked(x) };
                let labels: Vec<Option<u32>> = (0..rank).map(|i| (i != axis).then_some(i as u32)).collect();
                Axes { operands: vec![labels.clone()], results: vec![labels], elementwise: false }
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
                Ok(vec![rows(x.tensor(0), axis, $eval)])
            }

            fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
                let axis = x.facts.axis(0, self.axis)?;
                Ok(vec![$lower(b, x.tensor(0), axis)])
            }
        }
    };
}

along_an_axis!(
    Softmax,
    |row| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    },
    |b: &mut expr::Builder, x: TensorId, axis: usize| {
        let (dims, dtype) = (b.dims(x).to_vec(), b.dtype(x));
        let max = max_along(b, x, axis);
        let exp = b.compute(&dims, |b, at| centered(b, x, max, at, axis).unary(UnaryOp::Exp));
        let value = |b: &expr::Builder, at: &[Affine], over: &[Affine]| b.load(exp, with(at, axis, over[0].clone()));
        let inverse = b.reduce(ReduceOp::Sum, &with(&dims, axis, 1), &[dims[axis]], value, |_, _, sum| sum.like(1.0) / sum);
        b.compute(&dims, |b, at| (b.load(exp, at) * b.load(inverse, with(at, axis, Affine::default()))).cast(dtype))
    }
);

along_an_axis!(
    LogSoftmax,
    |row| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log = row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        row.iter_mut().for_each(|x| *x = *x - max - log);
    },
    |b: &mut expr::Builder, x: TensorId, axis: usize| {
        let (dims, dtype) = (b.dims(x).to_vec(), b.dtype(x));
        let max = max_along(b, x, axis);
        let log = sum_of_exp(b, x, max, axis, |sum| sum.unary(UnaryOp::Log));
        b.compute(&dims, |b, at| (centered(b, x, max, at, axis) - b.load(log, with(at, axis, Affine::default()))).cast(dtype))
    }
);

along_an_axis!(
    Hardmax,
    |row| {
        let best = (0..row.len()).reduce(|a, b| if row[b] > row[a] { b } else { a });
        row.iter_mut().enumerate().for_each(|(i, x)| *x = f64::from(u8::from(Some(i) == best)));
    },
    |b: &mut expr::Builder, x: TensorId, axis: usize| {
        let (dims, dtype) = (b.dims(x).to_vec(), b.dtype(x));
        if dims[axis] == 0 {
            return b.compute(&dims, |_, _| Expr::constant(dtype, 0.0));
        }
        let best =
            b.arg(ReduceOp::Max, false, &with(&dims, axis, 1), dims[axis], |b, at, over| load_wide(b, x, &with(at, axis, over.clone())));
        b.compute(&dims, |b, at| {
            let here = Expr::index(&at[axis]).compare(CompareOp::Eq, &b.load(best, with(at, axis, Affine::default())));
            here.select(&Expr::constant(dtype, 1.0), &Expr::constant(dtype, 0.0))
        })
    }
);

/// `list` with another entry at `axis`.
pub(super) fn with<T: Clone>(list: &[T], axis: usize, entry: T) -> Vec<T> {
    let mut list = list.to_vec();
    list[axis] = entry;
    list
}

/// The greatest value along the axis, which keeps extent 1.
fn max_along(b: &mut expr::Builder, x: TensorId, axis: usize) -> TensorId {
    let dims = b.dims(x).to_vec();
    let value = |b: &expr::Builder, at: &[Affine], over: &[Affine]| load_wide(b, x, &with(at, axis, over[0].clone()));
    b.reduce(ReduceOp::Max, &with(&dims, axis, 1), &[dims[axis]], value, |_, _, e| e)
}

/// `finish` of the sum along the axis of `exp(x - max)`.
fn sum_of_exp(b: &mut expr::Builder, x: TensorId, max: TensorId, axis: usize, finish: impl FnOnce(Expr) -> Expr) -> TensorId {
    let dims = b.dims(x).to_vec();
    let value =
        |b: &expr::Builder, at: &[Affine], over: &[Affine]| centered(b, x, max, &with(at, axis, over[0].clone()), axis).unary(UnaryOp::Exp);
    b.reduce(ReduceOp::Sum, &with(&dims, axis, 1), &[dims[axis]], value, |_, _, sum| finish(sum))
}

/// `x - max` at `at`.
fn centered(b: &expr::Builder, x: TensorId, max: TensorId, at: &[Affine], axis: usize) -> Expr {
    load_wide(b, x, at) - b.load(max, with(at, axis, Affine::default()))
}

/// Applies `f` to every row along `axis`.
fn rows(x: &Tensor, axis: usize, f: impl Fn(&mut [f64])) -> Tensor {
    let dims = x.dims();
    let (n, inner) = (dims[axis], n_elements(&dims[axis + 1..]));
    let mut values = x.to_f64s();
    let mut row = vec![0.0; n];
    for start in (0..n_elements(&dims[..axis])).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
        row.iter_mut().enumerate().for_each(|(k, r)| *r = values[start + k * inner]);
        f(&mut row);
        row.iter().enumerate().for_each(|(k, r)| values[start + k * inner] = *r);
    }
    Tensor::from_f64s(x.dtype(), dims, &values)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn rows_sum_to_one() {
        assert_eq!(check_op("Softmax", [t("f32[2,2] 1000 1000 -1000 -1000")])[0], t("f32[2,2] 0.5"));
        assert_eq!(check_op("LogSoftmax", [t("f32[1,2] 0 -inf")])[0], t("f32[1,2] 0 -inf"));
        assert_eq!(check_op("Hardmax", [t("f32[2,3] 1 3 3 2 1 0")])[0], t("f32[2,3] 0 1 0 1 0 0"));
    }

    #[test]
    fn all_forms_agree() {
        for op in ["Softmax", "LogSoftmax", "Hardmax"] {
            for axis in [0, 1, -1] {
                for x in ["f32[2,3,4]", "f16[2,3,4]", "f64[2,1,3]", "f32[2,0,3]"] {
                    check_op(&format!("{op} axis={axis}"), [random(x, 1)]);
                }
            }
        }
        assert_eq!(check_error("Softmax axis=1", [t("f32[2]")]), "axis 1 of a value of rank 1");
    }
}

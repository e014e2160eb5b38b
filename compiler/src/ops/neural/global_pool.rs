//! `GlobalAveragePool`, `GlobalMaxPool` and `GlobalLpPool`: reductions over all spatial axes.
//! Spec: <https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html> and its neighbours.

use super::average_pool::{power, require_exponent, root};
use super::widen::{FLOATS, load_wide};
use crate::expr::{self, Expr, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type, n_elements};

operator! {
    /// `y[n,c,1,..]` is the mean of `x[n,c,..]`.
    GlobalAveragePool(x) -> (y) since [1, 22];
}

operator! {
    /// `y[n,c,1,..]` is the greatest value of `x[n,c,..]`.
    GlobalMaxPool(x) -> (y) since [1, 22];
}

operator! {
    /// `y[n,c,1,..]` is the `p`-norm of `x[n,c,..]`.
    GlobalLpPool(x) -> (y) since [1, 2, 22];
    /// The exponent of the norm.
    p: i64 = 2,
}

impl Operator for GlobalAveragePool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        pooled(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        pool_axes(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![planes(x, |p| p.iter().sum::<f64>() / p.len() as f64)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let n = n_elements(&x.dims(0)[2..]) as f64;
        Ok(vec![reduce_planes(b, x, ReduceOp::Sum, |e| e, |sum| sum / n)])
    }
}

impl Operator for GlobalMaxPool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        pooled(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        pool_axes(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![planes(x, |p| p.iter().copied().fold(f64::NEG_INFINITY, f64::max))])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![reduce_planes(b, x, ReduceOp::Max, |e| e, |max| max)])
    }
}

impl Operator for GlobalLpPool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        require_exponent(self.p)?;
        pooled(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        pool_axes(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let p = self.p as f64;
        Ok(vec![planes(x, |v| v.iter().map(|x| x.abs().powf(p)).sum::<f64>().powf(1.0 / p))])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![reduce_planes(b, x, ReduceOp::Sum, |e| power(&e, self.p), |sum| root(&sum, self.p))])
    }
}

fn pooled(x: &Operands) -> Result<Vec<Type>, InferError> {
    x.require_dtype(0, FLOATS)?;
    let ty = x.ty(0)?;
    if ty.rank() < 2 {
        return Err(InferError::Invalid(format!("expected batch, channels and spatial axes, found {ty}")));
    }
    let ones = std::iter::repeat_n(Dim::Fixed(1), ty.rank() - 2);
    Ok(vec![Type::new(ty.dtype, ty.shape.0[..2].iter().cloned().chain(ones).collect())])
}

fn pool_axes(x: &Operands) -> Axes {
    let rank = x.rank(0).unwrap_or(0);
    let labels: Vec<Option<u32>> = (0..rank as u32).map(|i| (i < 2).then_some(i)).collect();
    Axes { operands: vec![labels.clone()], results: vec![labels], elementwise: false }
}

fn planes(x: &Operands, f: impl Fn(&[f64]) -> f64) -> Tensor {
    let t = x.tensor(0);
    let (head, plane) = t.dims().split_at(2);
    let (values, n) = (t.to_f64s(), n_elements(plane));
    let out: Vec<f64> = (0..n_elements(head)).map(|i| f(&values[i * n..][..n])).collect();
    Tensor::from_f64s(t.dtype(), &[head, &vec![1; plane.len()]].concat(), &out)
}

fn reduce_planes(
    b: &mut expr::Builder,
    x: &Args<'_>,
    op: ReduceOp,
    value: impl FnOnce(Expr) -> Expr,
    finish: impl FnOnce(Expr) -> Expr,
) -> TensorId {
    let (t, dims) = (x.tensor(0), x.dims(0));
    let dtype = b.dtype(t);
    if dims.len() == 2 {
        return b.compute(&dims, |b, at| finish(value(load_wide(b, t, at))).cast(dtype));
    }
    let load = |b: &expr::Builder, at: &[expr::Affine], over: &[expr::Affine]| value(load_wide(b, t, &[&at[..2], over].concat()));
    b.reduce(op, &x.result_dims(0), &dims[2..], load, |_, _, e| finish(e).cast(dtype))
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn planes_become_points() {
        let x = || [t("f32[1,2,2,2] 1 2 3 6 -3 0 4 0")];
        assert_eq!(check_op("GlobalAveragePool", x())[0], t("f32[1,2,1,1] 3 0.25"));
        assert_eq!(check_op("GlobalMaxPool", x())[0], t("f32[1,2,1,1] 6 4"));
        assert_eq!(check_op("GlobalLpPool p=1", x())[0], t("f32[1,2,1,1] 12 7"));
        assert_eq!(check_op("GlobalLpPool", [t("f32[1,1,2] 3 4")])[0], t("f32[1,1,1] 5"));
        for op in ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"] {
            check_op(op, [random("f16[2,3,4,5]", 1)]);
            check_op(op, [random("f64[2,3,2,1,3]", 1)]);
            check_op(op, [random("f32[2,3]", 1)]);
        }
    }
}

//! `LayerNormalization` and `RMSNormalization`: over the last axes.
//! Spec: <https://onnx.ai/onnx/operators/onnx__LayerNormalization.html>, <https://onnx.ai/onnx/operators/onnx__RMSNormalization.html>

use super::widen::{FLOATS, load_wide, wide};
use crate::expr::{self, Affine, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, Fact, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type, broadcast_offset, for_each_index, n_elements};

operator! {
    /// `y = (x - mean) / sqrt(variance + epsilon) * scale + b`, mean and variance over the axes from `axis` on.
    LayerNormalization(x, scale, "b?") -> (y, "mean?", "inv_std_dev?") since [17];
    /// The first axis that is normalized.
    axis: i64 = -1,
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
    /// The type of the statistics; only `f32` (1).
    stash_type: i64 = 1,
}

operator! {
    /// `y = x / sqrt(mean of x * x + epsilon) * scale`, the mean over the axes from `axis` on.
    RMSNormalization(x, scale) -> (y) since [23];
    /// The first axis that is normalized.
    axis: i64 = -1,
    /// Added to the mean of squares.
    epsilon: f32 = 1e-5f32,
    /// The type of the statistics; only `f32` (1).
    stash_type: i64 = 1,
}

/// Fails unless statistics are kept in `f32`.
pub(super) fn require_stash(stash_type: i64) -> Result<(), InferError> {
    if stash_type == 1 { Ok(()) } else { Err(InferError::Unsupported(format!("`stash_type` {stash_type} is not supported, only 1 (f32)"))) }
}

/// Fails unless operand `i` broadcasts to operand 0 without changing its shape.
fn require_fit(x: &Operands, i: usize) -> Result<(), InferError> {
    x.require_dtype(i, FLOATS)?;
    let (a, b) = (x.ty(0)?, x.ty(i)?);
    let fits = b.rank() <= a.rank()
        && b.shape.0.iter().rev().zip(a.shape.0.iter().rev()).all(|(b, a)| match (b.fixed(), a.fixed()) {
            (Some(b), Some(a)) => b == 1 || a == b,
            _ => true,
        });
    if fits { Ok(()) } else { Err(InferError::Invalid(format!("{b} does not broadcast to {a}"))) }
}

/// Axes in front of `axis` are linked, in operands that have them too.
fn outer_axes(x: &Operands, axis: Result<usize, InferError>) -> Axes {
    let (Ok(axis), Ok(ty)) = (axis, x.ty(0)) else { return Axes::unlinked(x) };
    let label = |f: &Fact| -> Vec<Option<u32>> {
        let dims = &f.ty.shape.0;
        let skip = ty.rank() - dims.len().min(ty.rank());
        dims.iter().enumerate().map(|(i, d)| (skip + i < axis && *d == ty.shape.0[skip + i]).then_some((skip + i) as u32)).collect()
    };
    let operands: Vec<_> = x.facts.iter().map(|f| f.as_ref().map_or(vec![], label)).collect();
    let results = vec![operands[0].clone(); x.n_results.max(1)];
    Axes { operands, results, elementwise: false }
}

impl Operator for LayerNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        require_stash(self.stash_type)?;
        let axis = x.axis(0, self.axis)?;
        require_fit(x, 1)?;
        if x.has(2) {
            require_fit(x, 2)?;
        }
        let ty = x.ty(0)?;
        let statistics = ty.shape.0.iter().enumerate().map(|(i, d)| if i < axis { d.clone() } else { Dim::Fixed(1) });
        let statistics = Type::new(DType::F32, statistics.collect());
        let mut types = vec![ty.clone(), statistics.clone(), statistics];
        types.truncate(x.n_results.max(1));
        Ok(types)
    }

    fn axes(&self, x: &Operands) -> Axes {
        outer_axes(x, x.axis(0, self.axis))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let n = n_elements(&t.dims()[axis..]);
        let mut values = t.to_f64s();
        let (mut means, mut deviations) = (vec![], vec![]);
        for row in values.chunks_exact_mut(n.max(1)) {
            let mean = row.iter().sum::<f64>() / n as f64;
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            let inverse = 1.0 / (var + f64::from(self.epsilon)).sqrt();
            row.iter_mut().for_each(|v| *v = (*v - mean) * inverse);
            means.push(mean);
            deviations.push(inverse);
        }
        let (scale, bias) = (x.tensor(1).to_f64s(), x.tensor_opt(2).map(Tensor::to_f64s));
        for_each_index(t.dims(), |i, at| {
            values[i] *= scale[broadcast_offset(x.tensor(1).dims(), at)];
            if let Some(bias) = &bias {
                values[i] += bias[broadcast_offset(x.tensor(2).dims(), at)];
            }
        });
        let dims: Vec<usize> = t.dims().iter().enumerate().map(|(i, &d)| if i < axis { d } else { 1 }).collect();
        if n == 0 {
            means = vec![f64::NAN; n_elements(&dims)];
            deviations.clone_from(&means);
        }
        let mut out = vec![
            Tensor::from_f64s(t.dtype(), t.dims(), &values),
            Tensor::from_f64s(DType::F32, &dims, &means),
            Tensor::from_f64s(DType::F32, &dims, &deviations),
        ];
        out.truncate(x.n_results.max(1));
        Ok(out)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (t, scale, bias) = (x.tensor(0), x.tensor(1), x.get(2));
        let (dims, dtype, axis) = (x.dims(0), b.dtype(t), x.facts.axis(0, self.axis)?);
        let compute = wide(dtype);
        let rows: Vec<usize> = dims.iter().enumerate().map(|(i, &d)| if i < axis { d } else { 1 }).collect();
        let (inner, n) = (&dims[axis..], n_elements(&dims[axis..]) as f64);
        let element = |b: &expr::Builder, at: &[Affine], over: &[Affine]| load_wide(b, t, &[&at[..axis], over].concat());
        let mean = b.reduce(ReduceOp::Sum, &rows, inner, element, |_, _, sum| sum / n);
        let squared = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
            let d = element(b, at, over) - b.load(mean, at.to_vec());
            &d * &d
        };
        let inverse = b.reduce(ReduceOp::Sum, &rows, inner, squared, |_, _, sum| inverse_root(sum, n, self.epsilon));
        let y = b.compute(&dims, |b, at| {
            let row = row_of(at, axis);
            let normal = (load_wide(b, t, at) - b.load(mean, row.clone())) * b.load(inverse, row);
            let scaled = normal * b.load_broadcast(scale, at).cast(compute);
            bias.map_or(scaled.clone(), |bias| scaled + b.load_broadcast(bias, at).cast(compute)).cast(dtype)
        });
        let mut out = vec![y];
        for statistic in [mean, inverse].into_iter().take(x.results.len() - 1) {
            out.push(if compute == DType::F32 { statistic } else { b.map(&[statistic], |v| v[0].cast(DType::F32)) });
        }
        Ok(out)
    }
}

impl Operator for RMSNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        require_stash(self.stash_type)?;
        x.axis(0, self.axis)?;
        require_fit(x, 1)?;
        Ok(vec![x.ty(0)?.with_dtype(x.dtype(1)?)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        outer_axes(x, x.axis(0, self.axis))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (t, scale) = (x.tensor(0), x.tensor(1));
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let n = n_elements(&t.dims()[axis..]);
        let mut values = t.to_f64s();
        for row in values.chunks_exact_mut(n.max(1)) {
            let mean = row.iter().map(|v| v * v).sum::<f64>() / n as f64;
            let root = (mean + f64::from(self.epsilon)).sqrt();
            row.iter_mut().for_each(|v| *v /= root);
        }
        let factors = scale.to_f64s();
        for_each_index(t.dims(), |i, at| values[i] *= factors[broadcast_offset(scale.dims(), at)]);
        Ok(vec![Tensor::from_f64s(scale.dtype(), t.dims(), &values)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (t, scale) = (x.tensor(0), x.tensor(1));
        let (dims, axis) = (x.dims(0), x.facts.axis(0, self.axis)?);
        let (compute, dtype) = (wide(b.dtype(t)), b.dtype(scale));
        let rows: Vec<usize> = dims.iter().enumerate().map(|(i, &d)| if i < axis { d } else { 1 }).collect();
        let n = n_elements(&dims[axis..]) as f64;
        let squared = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
            let e = load_wide(b, t, &[&at[..axis], over].concat());
            &e * &e
        };
        let inverse = b.reduce(ReduceOp::Sum, &rows, &dims[axis..], squared, |_, _, sum| inverse_root(sum, n, self.epsilon));
        Ok(vec![b.compute(&dims, |b, at| {
            let normal = load_wide(b, t, at) * b.load(inverse, row_of(at, axis));
            (normal * b.load_broadcast(scale, at).cast(compute)).cast(dtype)
        })])
    }
}

/// `1 / sqrt(sum / n + epsilon)`.
pub(super) fn inverse_root(sum: Expr, n: f64, epsilon: f32) -> Expr {
    let deviation = (sum / n + f64::from(epsilon)).unary(UnaryOp::Sqrt);
    deviation.like(1.0) / deviation
}

/// The index of the statistics of the row that holds `at`.
fn row_of(at: &[Affine], axis: usize) -> Vec<Affine> {
    at.iter().enumerate().map(|(i, a)| if i < axis { a.clone() } else { Affine::default() }).collect()
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn rows_are_normalized() {
        let y = Check::new("LayerNormalization epsilon=0.0").results(3).run([t("f32[1,2] 1 5"), t("f32[2] 1 2"), t("f32[2] 0 1")]);
        assert_eq!(y, [t("f32[1,2] -1 3"), t("f32[1,1] 3"), t("f32[1,1] 0.5")]);
        assert_eq!(check_op("RMSNormalization epsilon=0.0", [t("f32[1,2] 3 3"), t("f32[2] 1 2")])[0], t("f32[1,2] 1 2"));
    }

    #[test]
    fn all_forms_agree() {
        for (axis, scale) in [(-1, "[4]"), (1, "[3,4]"), (0, "[2,3,4]"), (1, "[4]"), (-2, "[3,1]"), (2, "[2,1,4]")] {
            for dtype in ["f32", "f16", "f64"] {
                let (x, s) = (random(&format!("{dtype}[2,3,4]"), 1), random(&format!("{dtype}{scale}"), 2));
                Check::new(&format!("LayerNormalization axis={axis}")).results(3).run([x.clone(), s.clone(), s.clone()]);
                check_op(&format!("LayerNormalization axis={axis}"), [x.clone(), s.clone()]);
                check_op(&format!("RMSNormalization axis={axis}"), [x, s]);
            }
        }
        check_op("RMSNormalization", [random("f16[2,4]", 1), random("f32[4]", 2)]);
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        assert_eq!(check_error("LayerNormalization", [t("f32[2,3]"), t("f32[2]")]), "f32[2] does not broadcast to f32[2,3]");
        assert_eq!(check_error("LayerNormalization axis=2", [t("f32[2,3]"), t("f32[3]")]), "axis 2 of a value of rank 2");
        let error = check_error("RMSNormalization stash_type=10", [t("f32[2,3]"), t("f32[3]")]);
        assert_eq!(error, "`stash_type` 10 is not supported, only 1 (f32)");
    }
}

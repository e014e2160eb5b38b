//! `LpNormalization`, `MeanVarianceNormalization` and `LRN`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__LpNormalization.html>, <https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html>,
//! <https://onnx.ai/onnx/operators/onnx__LRN.html>

use super::average_pool::{power, root};
use super::softmax::with;
use super::widen::{FLOATS, load_wide, wide};
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type, for_each_index, n_elements, row_major_strides};

operator! {
    /// `y = x / norm of x` along one axis; 0 where the norm is 0.
    LpNormalization(input) -> (output) since [1, 22];
    /// The axis.
    axis: i64 = -1,
    /// The exponent of the norm: 1 or 2.
    p: i64 = 2,
}

operator! {
    /// `y = (x - mean) / (standard deviation + 1e-9)`, both over `axes`.
    MeanVarianceNormalization(x) -> (y) since [9, 13];
    /// The axes.
    axes: Vec<i64> = vec![0i64, 2, 3],
}

operator! {
    /// `y = x / (bias + alpha / size * sum of x * x) ^ beta`, the sum over `size` neighbouring channels.
    LRN(x) -> (y) since [1, 13];
    /// Scale of the sum.
    alpha: f32 = 1e-4f32,
    /// The exponent.
    beta: f32 = 0.75f32,
    /// The addend.
    bias: f32 = 1.0f32,
    /// Number of channels that are summed.
    size: i64,
}

/// Added to the deviation by `MeanVarianceNormalization`.
const DEVIATION_OFFSET: f64 = 1e-9;

impl Operator for LpNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        x.axis(0, self.axis)?;
        if !matches!(self.p, 1 | 2) {
            return Err(InferError::Invalid(format!("`p` is {}, neither 1 nor 2", self.p)));
        }
        Ok(vec![x.ty(0)?.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(axis) = x.axis(0, self.axis) else { return Axes::unlinked(x) };
        others(x, |i| i == axis)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let mut values = t.to_f64s();
        for_each_row(
            t.dims(),
            |i| i == axis,
            |row| {
                let sum: f64 = row.iter().map(|&i| if self.p == 1 { values[i].abs() } else { values[i] * values[i] }).sum();
                let norm = if self.p == 1 { sum } else { sum.sqrt() };
                row.iter().for_each(|&i| values[i] = if norm == 0.0 { 0.0 } else { values[i] / norm });
            },
        );
        Ok(vec![Tensor::from_f64s(t.dtype(), t.dims(), &values)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (t, dims, axis) = (x.tensor(0), x.dims(0), x.facts.axis(0, self.axis)?);
        let dtype = b.dtype(t);
        let value = |b: &expr::Builder, at: &[Affine], over: &[Affine]| power(&load_wide(b, t, &with(at, axis, over[0].clone())), self.p);
        let norm = b.reduce(ReduceOp::Sum, &with(&dims, axis, 1), &[dims[axis]], value, |_, _, sum| root(&sum, self.p));
        Ok(vec![b.compute(&dims, |b, at| {
            let norm = b.load(norm, with(at, axis, Affine::default()));
            let zero = norm.like(0.0);
            norm.compare(CompareOp::Eq, &zero).select(&zero, &(load_wide(b, t, at) / norm.clone())).cast(dtype)
        })])
    }
}

impl MeanVarianceNormalization {
    /// By axis: whether it is normalized over.
    fn reduced(&self, x: &Operands) -> Result<Vec<bool>, InferError> {
        let mut reduced = vec![false; x.rank(0)?];
        for &axis in &self.axes {
            reduced[x.axis(0, axis)?] = true;
        }
        Ok(reduced)
    }
}

impl Operator for MeanVarianceNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        self.reduced(x)?;
        Ok(vec![x.ty(0)?.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(reduced) = self.reduced(x) else { return Axes::unlinked(x) };
        others(x, |i| reduced[i])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let reduced = self.reduced(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let mut values = t.to_f64s();
        for_each_row(
            t.dims(),
            |i| reduced[i],
            |row| {
                let n = row.len() as f64;
                let mean = row.iter().map(|&i| values[i]).sum::<f64>() / n;
                let deviation = (row.iter().map(|&i| (values[i] - mean).powi(2)).sum::<f64>() / n).sqrt();
                row.iter().for_each(|&i| values[i] = (values[i] - mean) / (deviation + DEVIATION_OFFSET));
            },
        );
        Ok(vec![Tensor::from_f64s(t.dtype(), t.dims(), &values)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (t, dims, reduced) = (x.tensor(0), x.dims(0), self.reduced(x.facts)?);
        let dtype = b.dtype(t);
        let rows: Vec<usize> = dims.iter().zip(&reduced).map(|(&d, &r)| if r { 1 } else { d }).collect();
        let extents: Vec<usize> = dims.iter().zip(&reduced).filter(|(_, r)| **r).map(|(&d, _)| d).collect();
        let n = n_elements(&extents) as f64;
        if extents.is_empty() {
            return Ok(vec![b.map(&[t], |v| v[0].binary(BinaryOp::Sub, &v[0]))]);
        }
        let element = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
            let mut over = over.iter();
            let index: Vec<Affine> = at
                .iter()
                .zip(&reduced)
                .map(|(a, &r)| if r { over.next().expect("an index for each axis").clone() } else { a.clone() })
                .collect();
            load_wide(b, t, &index)
        };
        let mean = b.reduce(ReduceOp::Sum, &rows, &extents, element, |_, _, sum| sum / n);
        let squared = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
            let d = element(b, at, over) - b.load(mean, at.to_vec());
            &d * &d
        };
        let deviation = b.reduce(ReduceOp::Sum, &rows, &extents, squared, |_, _, sum| (sum / n).unary(UnaryOp::Sqrt) + DEVIATION_OFFSET);
        Ok(vec![b.compute(&dims, |b, at| {
            let row: Vec<Affine> = at.iter().zip(&reduced).map(|(a, &r)| if r { Affine::default() } else { a.clone() }).collect();
            ((load_wide(b, t, at) - b.load(mean, row.clone())) / b.load(deviation, row)).cast(dtype)
        })])
    }
}

impl Operator for LRN {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        if x.rank(0)? < 2 {
            return Err(InferError::Invalid(format!("expected batch, channels and spatial axes, found {}", x.ty(0)?)));
        }
        if !(1..=i64::from(u16::MAX)).contains(&self.size) {
            return Err(InferError::Invalid(format!("`size` is {}", self.size)));
        }
        Ok(vec![x.ty(0)?.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        others(x, |i| i == 1)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let values = t.to_f64s();
        let mut out = values.clone();
        let (before, after) = ((self.size as usize - 1) / 2, self.size as usize / 2);
        for_each_row(
            t.dims(),
            |i| i == 1,
            |row| {
                for c in 0..row.len() {
                    let near = &row[c.saturating_sub(before)..(c + after + 1).min(row.len())];
                    let sum: f64 = near.iter().map(|&i| values[i] * values[i]).sum();
                    let base = f64::from(self.bias) + f64::from(self.alpha) / self.size as f64 * sum;
                    out[row[c]] = values[row[c]] / base.powf(self.beta.into());
                }
            },
        );
        Ok(vec![Tensor::from_f64s(t.dtype(), t.dims(), &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (t, dims) = (x.tensor(0), x.dims(0));
        let dtype = b.dtype(t);
        let before = (self.size - 1) / 2;
        let value = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
            let index = with(at, 1, at[1].plus(&over[0]).offset(-before));
            let e = b.load_padded(t, index, Expr::constant(dtype, 0.0)).cast(wide(dtype));
            &e * &e
        };
        let y = b.reduce(ReduceOp::Sum, &dims, &[self.size as usize], value, |b, at, sum| {
            let base = sum * (f64::from(self.alpha) / self.size as f64) + f64::from(self.bias);
            let root = base.unary(UnaryOp::Sqrt);
            let divisor = match self.beta {
                1.0 => base,
                0.5 => root,
                0.75 => &root * &root.unary(UnaryOp::Sqrt),
                beta => base.binary(BinaryOp::Pow, &base.like(beta.into())),
            };
            (load_wide(b, t, at) / divisor).cast(dtype)
        });
        Ok(vec![y])
    }
}

/// All axes are linked, except those that `apart` names.
fn others(x: &Operands, apart: impl Fn(usize) -> bool) -> Axes {
    let labels: Vec<Option<u32>> = (0..x.rank(0).unwrap_or(0)).map(|i| (!apart(i)).then_some(i as u32)).collect();
    Axes { operands: vec![labels.clone()], results: vec![labels], elementwise: false }
}

/// Calls `f` with the flat positions of each set of elements that differ only along the axes that `along` names.
fn for_each_row(dims: &[usize], along: impl Fn(usize) -> bool, mut f: impl FnMut(&[usize])) {
    let strides = row_major_strides(dims);
    let part = |inner: bool| -> Vec<usize> {
        let axes: Vec<usize> = (0..dims.len()).filter(|&i| along(i) == inner).collect();
        let extents: Vec<usize> = axes.iter().map(|&i| dims[i]).collect();
        let mut offsets = vec![];
        for_each_index(&extents, |_, at| offsets.push(at.iter().zip(&axes).map(|(a, &i)| a * strides[i]).sum()));
        offsets
    };
    let (outer, inner) = (part(false), part(true));
    for start in outer {
        f(&inner.iter().map(|i| start + i).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn norms_divide() {
        assert_eq!(check_op("LpNormalization", [t("f32[2,2] 3 4 0 0")])[0], t("f32[2,2] 0.6 0.8 0 0"));
        assert_eq!(check_op("LpNormalization p=1", [t("f32[1,2] -1 3")])[0], t("f32[1,2] -0.25 0.75"));
        for op in [
            "LpNormalization axis=0",
            "LpNormalization axis=1 p=1",
            "MeanVarianceNormalization axes=[0,2]",
            "MeanVarianceNormalization axes=[]",
        ] {
            check_op(op, [random("f32[3,4,2]", 1)]);
            check_op(op, [random("f16[3,4,2]", 2)]);
        }
        check_op("MeanVarianceNormalization", [random("f32[2,3,2,2]", 1)]);
        assert_eq!(check_error("LpNormalization p=3", [t("f32[2]")]), "`p` is 3, neither 1 nor 2");
    }

    #[test]
    fn neighbouring_channels_inhibit() {
        let y = check_op("LRN size=2 alpha=2.0 beta=1.0 bias=0.0", [t("f32[1,3,1] 1 2 2")]);
        assert_eq!(y[0], t("f32[1,3,1] 0.2 0.25 0.5"));
        for op in ["LRN size=3", "LRN size=4 beta=0.5 alpha=1.0", "LRN size=5 beta=0.6 bias=2.0"] {
            check_op(op, [random("f32[2,6,2,2]", 1)]);
        }
    }
}

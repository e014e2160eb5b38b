//! `InstanceNormalization` and `GroupNormalization`: over spatial axes and groups of channels.
//! Spec: <https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html>, <https://onnx.ai/onnx/operators/onnx__GroupNormalization.html>

use super::layer_norm::{inverse_root, require_stash};
use super::widen::{FLOATS, Squeezed, require_equal, require_vector, wide};
use crate::expr::{self, Affine, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type, n_elements};

operator! {
    /// `y = (x - mean) / sqrt(variance + epsilon) * scale[c] + b[c]`, mean and variance of each plane `x[n,c,..]`.
    InstanceNormalization(input, scale, b) -> (output) since [1, 6, 22];
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
}

operator! {
    /// `y = (x - mean) / sqrt(variance + epsilon) * scale[c] + bias[c]`, mean and variance over each group of channels of `x[n,c,..]`.
    GroupNormalization(x, scale, bias) -> (y) since [18, 21];
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
    /// Number of groups; divides the channels.
    num_groups: i64,
    /// The type of the statistics; only `f32` (1).
    stash_type: i64 = 1,
}

impl Operator for InstanceNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        infer(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        let rank = x.rank(0).unwrap_or(0) as u32;
        let labels: Vec<Option<u32>> = (0..rank).map(|i| (i < 2).then_some(i)).collect();
        Axes { operands: vec![labels.clone(), vec![Some(1)], vec![Some(1)]], results: vec![labels], elementwise: false }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval(x, x.tensor(0).dims()[1], self.epsilon)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![lower(b, x, x.dims(0)[1], self.epsilon)])
    }
}

impl Operator for GroupNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        require_stash(self.stash_type)?;
        let types = infer(x)?;
        let channels = types[0].shape.0[1].fixed().ok_or_else(|| InferError::UnboundDimension { operand: 0, ty: types[0].clone() })?;
        if self.num_groups < 1 || !channels.is_multiple_of(self.num_groups as usize) {
            return Err(InferError::Invalid(format!("{channels} channels in {} groups", self.num_groups)));
        }
        Ok(types)
    }

    fn axes(&self, x: &Operands) -> Axes {
        let rank = x.rank(0).unwrap_or(0) as u32;
        let labels: Vec<Option<u32>> = (0..rank).map(|i| (i < 1).then_some(i)).collect();
        Axes { operands: vec![labels.clone(), vec![None], vec![None]], results: vec![labels], elementwise: false }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval(x, self.num_groups as usize, self.epsilon)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![lower(b, x, self.num_groups as usize, self.epsilon)])
    }
}

fn infer(x: &Operands) -> Result<Vec<Type>, InferError> {
    x.require_dtype(0, FLOATS)?;
    let ty = x.ty(0)?;
    if ty.rank() < 2 {
        return Err(InferError::Invalid(format!("expected batch, channels and spatial axes, found {ty}")));
    }
    for (i, what) in [(1, "the scale"), (2, "the bias")] {
        x.require_dtype(i, FLOATS)?;
        require_vector(&x.ty(i)?.shape.0, &ty.shape.0[1], what)?;
    }
    require_equal(&x.ty(1)?.shape.0[0], &x.ty(2)?.shape.0[0], "scale and bias differ in extent")?;
    Ok(vec![ty.clone()])
}

fn eval(x: &Operands, groups: usize, epsilon: f32) -> Tensor {
    let t = x.tensor(0);
    let (channels, plane) = (t.dims()[1], n_elements(&t.dims()[2..]));
    let (scale, bias) = (x.tensor(1).to_f64s(), x.tensor(2).to_f64s());
    let mut values = t.to_f64s();
    let n = channels / groups.max(1) * plane;
    for group in values.chunks_exact_mut(n.max(1)) {
        let mean = group.iter().sum::<f64>() / n as f64;
        let var = group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let root = (var + f64::from(epsilon)).sqrt();
        group.iter_mut().for_each(|v| *v = (*v - mean) / root);
    }
    for (i, v) in values.iter_mut().enumerate() {
        let c = i / plane % channels;
        *v = *v * scale[c] + bias[c];
    }
    Tensor::from_f64s(t.dtype(), t.dims(), &values)
}

fn lower(b: &mut expr::Builder, x: &Args<'_>, groups: usize, epsilon: f32) -> TensorId {
    let (t, scale, bias) = (x.tensor(0), x.tensor(1), x.tensor(2));
    let (dims, dtype) = (x.dims(0), b.dtype(t));
    let compute = wide(dtype);
    let size = dims[1] / groups.max(1);
    let n = (size * n_elements(&dims[2..])) as f64;
    let over = Squeezed::new(&[&[size], &dims[2..]].concat(), |i| i != 0);
    let element = |b: &expr::Builder, at: &[Affine], k: &[Affine]| {
        let k = over.expand(k);
        let channel = at[1].times(size as i64).plus(&k[0]);
        b.load(t, [&[at[0].clone(), channel], &k[1..]].concat()).cast(compute)
    };
    let rows = [dims[0], groups];
    let mean = b.reduce(ReduceOp::Sum, &rows, &over.dims, element, |_, _, sum| sum / n);
    let squared = |b: &expr::Builder, at: &[Affine], k: &[Affine]| {
        let d = element(b, at, k) - b.load(mean, at.to_vec());
        &d * &d
    };
    let inverse = b.reduce(ReduceOp::Sum, &rows, &over.dims, squared, |_, _, sum| inverse_root(sum, n, epsilon));
    let out = b.declare(dtype, &dims);
    let axes = Squeezed::new(&[&[dims[0], groups, size], &dims[2..]].concat(), |i| i != 2);
    b.write(out, &axes.dims, |b, at| {
        let at = axes.expand(at);
        let channel = at[1].times(size as i64).plus(&at[2]);
        let index = [&[at[0].clone(), channel.clone()], &at[3..]].concat();
        let row = at[..2].to_vec();
        let normal = (b.load(t, index.clone()).cast(compute) - b.load(mean, row.clone())) * b.load(inverse, row);
        let y = normal * b.load(scale, [channel.clone()]).cast(compute) + b.load(bias, [channel]).cast(compute);
        (index, y.cast(dtype))
    });
    out
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn groups_are_normalized() {
        let y = check_op("GroupNormalization num_groups=1 epsilon=0.0", [t("f32[1,2,1] 1 5"), t("f32[2] 1 2"), t("f32[2] 0 1")]);
        assert_eq!(y[0], t("f32[1,2,1] -1 3"));
        let y = check_op("InstanceNormalization epsilon=0.0", [t("f32[1,1,2] 1 5"), t("f32[1] 2"), t("f32[1] 1")]);
        assert_eq!(y[0], t("f32[1,1,2] -1 3"));
        for op in [
            "GroupNormalization num_groups=2",
            "GroupNormalization num_groups=4",
            "GroupNormalization num_groups=1",
            "InstanceNormalization",
        ] {
            for (x, v) in [("f32[2,4,3,2]", "f32[4]"), ("f16[2,4,3]", "f16[4]"), ("f64[1,4,2,2,2]", "f64[4]")] {
                check_op(op, [random(x, 1), random(v, 2), random(v, 3)]);
            }
        }
    }

    #[test]
    fn groups_divide_channels() {
        let error = |op: &str| check_error(op, [t("f32[1,6,4]"), t("f32[6]"), t("f32[6]")]);
        assert_eq!(error("GroupNormalization num_groups=4"), "6 channels in 4 groups");
        assert_eq!(error("GroupNormalization num_groups=0"), "6 channels in 0 groups");
    }
}

//! `BatchNormalization`, for inference.
//! Spec: <https://onnx.ai/onnx/operators/onnx__BatchNormalization.html>

use super::widen::{FLOATS, require_vector, wide};
use crate::expr::{self, Affine, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type, n_elements};

operator! {
    /// `y[n,c,..] = (x[n,c,..] - mean[c]) / sqrt(var[c] + epsilon) * scale[c] + b[c]`.
    BatchNormalization(x, scale, b, mean, var) -> (y, "running_mean?", "running_var?") since [1, 6, 7, 9, 14, 15];
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
    /// Of training.
    momentum: f32 = 0.9f32,
    /// Whether mean and variance are those of the batch; not supported.
    training_mode: bool = false,
}

impl Operator for BatchNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        if self.training_mode || x.n_results > 1 {
            return Err(InferError::Unsupported("`training_mode` 1 (the statistics of the batch) is not supported".to_owned()));
        }
        x.require_dtype(0, FLOATS)?;
        let ty = x.ty(0)?;
        let channels = match ty.rank() {
            0 => return Err(InferError::Invalid("a scalar has no channels".to_owned())),
            1 => Dim::Fixed(1),
            _ => ty.shape.0[1].clone(),
        };
        for (i, what) in [(1, "the scale"), (2, "the bias"), (3, "the mean"), (4, "the variance")] {
            x.require_dtype(i, FLOATS)?;
            require_vector(&x.ty(i)?.shape.0, &channels, what)?;
        }
        Ok(vec![ty.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let rank = x.rank(0).unwrap_or(0) as u32;
        let labels: Vec<Option<u32>> = (0..rank).map(Some).collect();
        let channel = vec![(rank > 1).then_some(1)];
        let operands = [vec![labels.clone()], vec![channel; 4]].concat();
        Axes { operands, results: vec![labels], elementwise: true }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let (inner, channels) = if t.dims().len() < 2 { (1, 1) } else { (n_elements(&t.dims()[2..]), t.dims()[1]) };
        let [scale, bias, mean, var] = [1, 2, 3, 4].map(|i| x.tensor(i).to_f64s());
        let normal = |(i, v): (usize, f64)| {
            let c = i / inner % channels;
            (v - mean[c]) / (var[c] + f64::from(self.epsilon)).sqrt() * scale[c] + bias[c]
        };
        let y: Vec<f64> = t.to_f64s().into_iter().enumerate().map(normal).collect();
        Ok(vec![Tensor::from_f64s(t.dtype(), t.dims(), &y)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let [t, scale, bias, mean, var] = [0, 1, 2, 3, 4].map(|i| x.tensor(i));
        let (dims, dtype) = (x.dims(0), b.dtype(t));
        let compute = wide(dtype);
        let channels = b.dims(scale).to_vec();
        let factor = b.compute(&channels, |b, at| {
            let deviation = (b.load(var, at.to_vec()).cast(compute) + f64::from(self.epsilon)).unary(UnaryOp::Sqrt);
            b.load(scale, at.to_vec()).cast(compute) / deviation
        });
        Ok(vec![b.compute(&dims, |b, at| {
            let c = if at.len() < 2 { Affine::default() } else { at[1].clone() };
            let of = |v| b.load(v, [c.clone()]).cast(compute);
            ((b.load(t, at.to_vec()).cast(compute) - of(mean)) * of(factor) + of(bias)).cast(dtype)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn channels_are_shifted_and_scaled() {
        let parameters = [t("f32[2] 1 3"), t("f32[2] 0 10"), t("f32[2] 1 2"), t("f32[2] 4 1")];
        let x = [vec![t("f32[1,2,2] 1 3 2 3")], parameters.to_vec()].concat();
        assert_eq!(check_op("BatchNormalization epsilon=0.0", x)[0], t("f32[1,2,2] 0 1 10 13"));
        for image in ["f32[2,3,4,5]", "f16[2,3]", "f64[2,3,1]"] {
            let v = |seed| random("f32[3]", seed);
            check_op("BatchNormalization", [random(image, 1), v(2), v(3), v(4), t("f32[3] 0.5 1 2")]);
        }
    }

    #[test]
    fn training_is_refused() {
        let x = [t("f32[1,1]"), t("f32[1]"), t("f32[1]"), t("f32[1]"), t("f32[1]")];
        assert_eq!(
            check_error("BatchNormalization training_mode=1", x),
            "`training_mode` 1 (the statistics of the batch) is not supported"
        );
    }
}

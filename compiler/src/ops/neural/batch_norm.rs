//! `BatchNormalization`: by statistics that are given, or in training mode by those of the batch.
//! Spec: <https://onnx.ai/onnx/operators/onnx__BatchNormalization.html>

use super::reduce::ReduceMean;
use super::widen::{FLOATS, require_vector, wide};
use crate::expr::{self, Affine, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, Expansion, InferError, LowerError, Operands, Operator, Steps};
use crate::tensor::{Dim, Tensor, Type, n_elements};

operator! {
    /// `y[n,c,..] = (x[n,c,..] - mean[c]) / sqrt(var[c] + epsilon) * scale[c] + b[c]`.
    BatchNormalization(x, scale, b, mean, var) -> (y, "running_mean?", "running_var?") since [1, 6, 7, 9, 14, 15];
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
    /// In training mode, the share of what was in the running statistics.
    momentum: f32 = 0.9f32,
    /// Whether mean and variance are those of the batch.
    training_mode: bool = false,
}

impl Operator for BatchNormalization {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        if x.n_results > if self.training_mode { 3 } else { 1 } {
            return Err(InferError::Invalid(format!("{} results with `training_mode` {}", x.n_results, u8::from(self.training_mode))));
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
        if self.training_mode {
            return Ok(self.expansion(x)?.types);
        }
        Ok(vec![ty.clone()])
    }

    fn expand(&self, x: &Operands) -> Option<Expansion> {
        if self.training_mode { self.expansion(x).ok() } else { None }
    }

    fn axes(&self, x: &Operands) -> Axes {
        if self.training_mode {
            return Axes::unlinked(x);
        }
        let rank = x.rank(0).unwrap_or(0) as u32;
        let labels: Vec<Option<u32>> = (0..rank).map(Some).collect();
        let channel = vec![(rank > 1).then_some(1)];
        let operands = [vec![labels.clone()], vec![channel; 4]].concat();
        Axes { operands, results: vec![labels], elementwise: true }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        if self.training_mode {
            return self.expansion(x).map_err(|e| EvalError::Invalid(e.to_string()))?.eval(x);
        }
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
        if self.training_mode {
            return self.expansion(x.facts)?.lower(b, x);
        }
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

impl BatchNormalization {
    /// In training mode, what it is made of: the statistics, the same operator with them, and the running ones.
    fn expansion(&self, x: &Operands) -> Result<Expansion, InferError> {
        let mut s = Steps::new(x);
        let [t, scale, bias] = [s.operand(0)?, s.operand(1)?, s.operand(2)?];
        let rank = s.dims(t)?.len();
        if rank < 2 {
            return Err(InferError::Unsupported(format!("training mode of a value of rank {rank}")));
        }
        let running = [s.operand(3)?, s.operand(4)?];
        let kind = s.dtype(running[0]);
        let compute = wide(s.dtype(t));
        let axes: Vec<i64> = (0..rank as i64).filter(|&i| i != 1).collect();
        let axes = s.ints(&axes);
        let mean_of = |s: &mut Steps<'_>, v, keepdims| s.apply(ReduceMean { keepdims, noop_with_empty_axes: false }, &[v, axes]);
        let t_wide = s.cast(t, compute)?;
        let centre = mean_of(&mut s, t_wide, true)?;
        let apart = s.sub(t_wide, centre)?;
        let squares = s.mul(apart, apart)?;
        let statistics = [mean_of(&mut s, t_wide, false)?, mean_of(&mut s, squares, false)?];
        let inference = BatchNormalization { training_mode: false, ..self.clone() };
        let mut results = vec![s.apply(inference, &[t, scale, bias, statistics[0], statistics[1]])?];
        for (old, new) in running.into_iter().zip(statistics).take(x.n_results.max(1) - 1) {
            let [kept, share] = [self.momentum, 1.0 - self.momentum].map(|f| s.number(compute, f.into()));
            let old = s.cast(old, compute)?;
            let (old, new) = (s.mul(old, kept)?, s.mul(new, share)?);
            let sum = s.add(old, new)?;
            results.push(s.cast(sum, kind)?);
        }
        Ok(s.finish(&results))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

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
    fn in_training_the_statistics_are_those_of_the_batch() {
        let parameters = [t("f32[2] 1 3"), t("f32[2] 0 10"), t("f32[2] 1 2"), t("f32[2] 4 1")];
        let x = [vec![t("f32[1,2,2] 1 3 2 6")], parameters.to_vec()].concat();
        let y = Check::new("BatchNormalization epsilon=0.0 momentum=0.75 training_mode=1").results(3).run(x);
        assert_eq!(y, [t("f32[1,2,2] -1 1 7 13"), t("f32[2] 1.25 2.5"), t("f32[2] 3.25 1.75")]);
        for image in ["f32[2,3,4,5]", "f16[4,3]", "f64[2,3,3]"] {
            let v = |seed| random("f32[3]", seed);
            Check::new("BatchNormalization training_mode=1").results(3).run([random(image, 1), v(2), v(3), v(4), t("f32[3] 0.5 1 2")]);
        }
        let x = [t("f32[1,1]"), t("f32[1]"), t("f32[1]"), t("f32[1]"), t("f32[1]")];
        let error = "training mode of a value of rank 1";
        assert_eq!(
            check_error("BatchNormalization training_mode=1", [t("f32[1]"), x[1].clone(), x[2].clone(), x[3].clone(), x[4].clone()]),
            error
        );
    }
}

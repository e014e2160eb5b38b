//! `DequantizeLinear`: the real values that integers stand for.
//! Spec: <https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html>

use super::{axes_of, for_each_scale, load_spread, spread, zero_points};
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, dtype_of_onnx};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `y = (x - zero_point) * scale`, with one scale and zero point for all or for each element of `axis`.
    DequantizeLinear(x, x_scale, "x_zero_point?") -> (y) since [10, 13, 19, 21, 23, 24, 25];
    /// The axis that scales and zero points belong to.
    axis: i64 = 1,
    /// Elements of `axis` that share a scale; not supported.
    block_size: i64 = 0,
    /// Element type of the result, as ONNX numbers it; that of the scale by default.
    output_dtype: i64 = 0,
}

const INTEGERS: &[DType] = &[DType::I8, DType::U8, DType::I16, DType::U16, DType::I32];
const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32];

impl Operator for DequantizeLinear {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, INTEGERS)?;
        let scale = x.require_dtype(1, FLOATS)?;
        if x.has(2) {
            x.require_same_dtype(2, 0)?;
        }
        spread(x, self.axis, self.block_size)?;
        let dtype = match self.output_dtype {
            0 => scale,
            n => dtype_of_onnx(n)
                .filter(|d| FLOATS.contains(d))
                .ok_or_else(|| InferError::Unsupported(format!("`output_dtype` {n} is not supported")))?,
        };
        Ok(vec![x.ty(0)?.with_dtype(dtype)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        spread(x, self.axis, self.block_size).map_or_else(|_| Axes::unlinked(x), |s| axes_of(x, s))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let result = self.infer(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let spread = spread(x, self.axis, self.block_size).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (value, scale) = (x.tensor(0), x.tensor(1).to_f64s());
        let zero = zero_points(x.tensor_opt(2), scale.len());
        let mut y = value.to_f64s();
        for_each_scale(value.dims(), spread, |i, s| y[i] = (y[i] - zero[s]) * scale[s]);
        Ok(vec![Tensor::from_f64s(result[0].dtype, value.dims(), &y)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let spread = spread(x.facts, self.axis, self.block_size)?;
        let (value, scale, zero) = (x.tensor(0), x.tensor(1), x.get(2));
        let dtype = x.results[0].dtype;
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let v = b.load(value, at.to_vec()).cast(DType::F32);
            let v = match zero {
                Some(zero) => v - load_spread(b, zero, spread, at).cast(DType::F32),
                None => v,
            };
            (v * load_spread(b, scale, spread, at).cast(DType::F32)).cast(dtype)
        })])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dequantize(axis: i64, operands: [Option<Tensor>; 3]) -> Result<Vec<f64>, String> {
        let op = DequantizeLinear { axis, block_size: 0, output_dtype: 0 };
        let x = Operands::of_values(operands, 1);
        op.infer(&x).map_err(|e| e.to_string())?;
        Ok(op.eval(&x).map_err(|e| e.to_string())?[0].to_f64s())
    }

    #[test]
    fn scales_spread_over_the_tensor_or_an_axis() {
        let x = Tensor::from_slice(&[2, 2], &[1i8, -2, 3, -4]);
        let whole = dequantize(1, [Some(x.clone()), Some(Tensor::scalar(0.5f32)), Some(Tensor::scalar(1i8))]);
        assert_eq!(whole.unwrap(), [0.0, -1.5, 1.0, -2.5]);
        let scales = Tensor::from_slice(&[2], &[1f32, 10.0]);
        assert_eq!(dequantize(0, [Some(x.clone()), Some(scales.clone()), None]).unwrap(), [1.0, -2.0, 30.0, -40.0]);
        assert_eq!(dequantize(-1, [Some(x), Some(scales), None]).unwrap(), [1.0, -20.0, 3.0, -40.0]);
    }

    #[test]
    fn scales_that_do_not_fit_are_refused() {
        let x = Tensor::from_slice(&[2, 2], &[1u8, 2, 3, 4]);
        let error = dequantize(0, [Some(x), Some(Tensor::from_slice(&[3], &[1f32; 3])), None]).unwrap_err();
        assert_eq!(error, "3 scales for axis 0 of u8[2,2]");
    }
}

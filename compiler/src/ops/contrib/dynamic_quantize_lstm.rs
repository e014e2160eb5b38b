//! `DynamicQuantizeLSTM`: an LSTM with quantized weights.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeLSTM>
//!
//! The inputs, and each row of the state at each time, are rounded to one of 256 numbers from the least to the greatest before their product.
//! onnxruntime rounds the rows of as much of a batch together as it multiplies at once.

use super::integer_matmul::scaled;
use super::quantized::BYTES;
use crate::ops::composite::DynamicQuantizeLinear;
use crate::ops::neural::{ByteLSTM, ReduceSum};
use crate::ops::quantization::{integer_matmul, signed_weights};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `LSTM` with weights `w[direction,input,gate]` and `r[direction,hidden,gate]` of 8 bits, scaled for each direction or each gate's element.
    DynamicQuantizeLSTM(x, w, r, "b?", "sequence_lens?", "initial_h?", "initial_c?", "p?", w_scale, w_zero_point, r_scale, r_zero_point)
        -> ("y?", "y_h?", "y_c?") since [1] in "com.microsoft";
    /// First parameters of activations.
    activation_alpha: Vec<f32> = Vec::<f32>::new(),
    /// Second parameters of activations.
    activation_beta: Vec<f32> = Vec::<f32>::new(),
    /// Names of activations; sigmoid, tanh and tanh for each direction by default.
    activations: Vec<String> = Vec::<String>::new(),
    /// Bound of what activations get; none by default.
    clip: Option<f32>,
    /// `forward`, `reverse` or `bidirectional`.
    direction: String = "forward",
    /// Number of hidden elements.
    hidden_size: Option<i64>,
    /// Whether the input gate decides what is forgotten.
    input_forget: bool = false,
}

composite!(DynamicQuantizeLSTM);

/// Weights `[direction,from,gate]` and, `[direction,gate]`, their scales in `f32` and their zero points in `i32`.
struct Weights {
    value: Step,
    dims: [usize; 3],
    scale: Step,
    zero: Step,
}

impl Weights {
    fn of(s: &mut Steps<'_>, weights: usize, scale: usize) -> Result<Self, InferError> {
        s.operands().require_dtype(weights, BYTES)?;
        let value = s.operand(weights)?;
        let [directions, from, gates] = s.dims(value)?[..] else {
            return Err(InferError::Invalid(format!("weights of type `{}`", s.operands().ty(weights)?)));
        };
        let spread = |s: &mut Steps<'_>, i: usize, dtype: DType| {
            let v = s.operand(i)?;
            let v = s.cast(v, dtype)?;
            let v = match s.dims(v)?[..] {
                [n] if n == directions => s.reshape(v, &[directions, 1])?,
                [n, g] if n == directions && g == gates => return Ok(v),
                _ => {
                    return Err(InferError::Invalid(format!(
                        "scales of type `{}` for weights `{}`",
                        s.fact(v).ty,
                        s.operands().ty(weights)?
                    )));
                }
            };
            s.expand(v, &[directions, gates])
        };
        let (scale, zero) = (spread(s, scale, DType::F32)?, spread(s, scale + 1, DType::I32)?);
        Ok(Weights { value, dims: [directions, from, gates], scale, zero })
    }
}

impl DynamicQuantizeLSTM {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, &[DType::F32])?;
        let (w, r) = (Weights::of(s, 1, 8)?, Weights::of(s, 2, 10)?);
        let [directions, from, gates] = w.dims;
        let all = directions * gates;
        // The inputs of all directions are one product.
        let x = s.operand(0)?;
        let rounded = s.apply_all(Box::new(DynamicQuantizeLinear {}), &[Some(x)], 3)?;
        let columns = s.transpose(w.value, &[1, 0, 2])?;
        let columns = s.reshape(columns, &[from, all])?;
        let (w_zero, w_scale) = (s.reshape(w.zero, &[all])?, s.reshape(w.scale, &[all])?);
        let sums = integer_matmul(s, (rounded[0], Some(rounded[2])), (columns, Some(w_zero)))?;
        let bias = match s.optional(3) {
            Some(bias) => {
                let (wb, rb) = (s.slice(bias, 1, 0, gates)?, s.slice(bias, 1, gates, 2 * gates)?);
                let bias = s.add(wb, rb)?;
                Some(s.reshape(bias, &[all])?)
            }
            None => None,
        };
        let inputs = scaled(s, sums, (rounded[1], w_scale), bias)?;
        let [_, hidden, of_state] = r.dims;
        if of_state != gates || gates != 4 * hidden || self.hidden_size.is_some_and(|h| h != hidden as i64) {
            let (w, r) = (s.operands().ty(1)?, s.operands().ty(2)?);
            return Err(InferError::Invalid(format!("`hidden_size` is {:?}, but the weights are {w} and {r}", self.hidden_size)));
        }
        let (values, zero) = signed_weights(s, r.value, r.zero, |i| i / gates / hidden * gates + i % gates)?;
        let zero = match zero {
            Some(zero) => Some(s.expand(zero, &[directions, gates])?),
            None => None,
        };
        let mut less = s.cast(values, DType::I32)?;
        if let Some(zero) = zero {
            let zero = s.unsqueeze(zero, 1)?;
            less = s.sub(less, zero)?;
        }
        let axes = s.ints(&[1]);
        let r_sums = s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[less, axes])?;
        let lstm = ByteLSTM {
            activation_alpha: self.activation_alpha.clone(),
            activation_beta: self.activation_beta.clone(),
            activations: self.activations.clone(),
            clip: self.clip,
            direction: self.direction.clone(),
            input_forget: self.input_forget,
        };
        let mut operands = vec![Some(inputs), Some(r.scale), Some(values), Some(r_sums)];
        operands.extend((4..8).map(|i| s.optional(i)));
        operands.push(zero);
        let n = s.operands().n_results.max(1);
        s.apply_all(Box::new(lstm), &operands, n)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};

    #[test]
    fn weights_are_scaled_and_transposed() {
        for (scale, zero) in [("[2]", "[2] 3"), ("[2,12]", "[2,12] 3")] {
            let mut x = vec![Some(random("f32[4,1,5]", 1)), Some(random("u8[2,5,12]", 2)), Some(random("u8[2,3,12]", 3))];
            x.extend([None, None, None, None, None]);
            let scale = || Some(t(&format!("f32{scale} 0.03")));
            let zero = || Some(t(&format!("u8{zero}")));
            x.extend([scale(), zero(), scale(), zero()]);
            let op = Check::new("com.microsoft.DynamicQuantizeLSTM direction=\"bidirectional\" hidden_size=3").results(3);
            assert_eq!(op.run(x)[0].dims(), [4, 2, 1, 3]);
        }
    }
}

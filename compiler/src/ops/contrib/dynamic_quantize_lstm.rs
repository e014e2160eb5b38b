//! `DynamicQuantizeLSTM`: an LSTM with quantized weights.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeLSTM>
//!
//! onnxruntime rounds inputs and states to 256 numbers before each product; here they keep their precision.

use super::quantized::BYTES;
use crate::ops::neural::LSTM;
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

/// Weights `[direction,from,gate]` as real `[direction,gate,from]`.
fn weights(s: &mut Steps<'_>, weights: usize, scale: usize) -> Result<Step, InferError> {
    s.operands().require_dtype(weights, BYTES)?;
    let dims = s.operands().dims(weights)?;
    let [directions, _, gates] = dims[..] else {
        return Err(InferError::Invalid(format!("weights of type `{}`", s.operands().ty(weights)?)));
    };
    let spread = |s: &mut Steps<'_>, i: usize| {
        let v = s.operand(i)?;
        let v = s.cast(v, DType::F32)?;
        match s.dims(v)?[..] {
            [n] if n == directions => s.reshape(v, &[directions, 1, 1]),
            [n, g] if n == directions && g == gates => s.reshape(v, &[directions, 1, gates]),
            _ => Err(InferError::Invalid(format!("scales of type `{}` for weights `{}`", s.fact(v).ty, s.operands().ty(weights)?))),
        }
    };
    let (scales, zeros) = (spread(s, scale)?, spread(s, scale + 1)?);
    let w = s.operand(weights)?;
    let w = s.cast(w, DType::F32)?;
    let w = s.sub(w, zeros)?;
    let w = s.mul(w, scales)?;
    s.transpose(w, &[0, 2, 1])
}

impl DynamicQuantizeLSTM {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, &[DType::F32])?;
        let (w, r) = (weights(s, 1, 8)?, weights(s, 2, 10)?);
        let lstm = LSTM {
            activation_alpha: self.activation_alpha.clone(),
            activation_beta: self.activation_beta.clone(),
            activations: self.activations.clone(),
            clip: self.clip,
            direction: self.direction.clone(),
            hidden_size: self.hidden_size,
            input_forget: self.input_forget,
            layout: 0,
        };
        let mut operands = vec![s.optional(0), Some(w), Some(r)];
        operands.extend((3..8).map(|i| s.optional(i)));
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

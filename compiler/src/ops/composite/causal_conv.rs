//! `CausalConvWithState`: a depthwise convolution over the past, whose end is handed on.
//! Spec: <https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html>

use crate::ops::elementwise::Swish;
use crate::ops::neural::Conv;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `output[n,c,t] = activation(sum over k of padded[n,c,t+k] * weight[c,0,k] + bias[c])`, the padding being the past state.
    CausalConvWithState(input, weight, "bias?", "past_state?") -> (output, present_state) since [27];
    /// `none`, `silu` or `swish`.
    activation: String = "none",
}

composite!(CausalConvWithState);

impl CausalConvWithState {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (input, weight) = (s.operand(0)?, s.operand(1)?);
        let dtype = s.operands().require_dtype(0, &DType::FLOATS)?;
        let (dims, w) = (s.dims(input)?, s.dims(weight)?);
        let ([batch, channels, length], [filters, 1, taps]) = (&dims[..], &w[..]) else {
            return Err(InferError::Invalid(format!("an input of extents {dims:?} and weights of {w:?}")));
        };
        if filters != channels || *taps == 0 {
            return Err(InferError::Invalid(format!("an input of extents {dims:?} and weights of {w:?}")));
        }
        let state = [*batch, *channels, taps - 1];
        let past = match s.optional(3) {
            Some(past) if s.dims(past)? != state => {
                return Err(InferError::Invalid(format!("a past state of extents {:?} instead of {state:?}", s.dims(past)?)));
            }
            Some(past) => past,
            None => s.constant(Tensor::zeros(dtype, &state)),
        };
        let padded = if *taps > 1 { s.concat(&[past, input], 2)? } else { input };
        let conv = Conv {
            auto_pad: "NOTSET".to_owned(),
            dilations: vec![],
            group: *channels as i64,
            kernel_shape: vec![],
            pads: vec![],
            strides: vec![],
        };
        let bias = s.optional(2);
        let mut y = s.apply_all(Box::new(conv), &[Some(padded), Some(weight), bias], 1)?[0];
        match &self.activation[..] {
            "none" => {}
            "silu" | "swish" => y = s.apply(Swish { alpha: 1.0 }, &[y])?,
            other => return Err(InferError::Invalid(format!("activation `{other}`"))),
        }
        let present = s.slice(padded, 2, *length, length + taps - 1)?;
        Ok(vec![y, present])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn the_past_comes_first() {
        let x = [t("f32[1,1,3] 1 2 3"), t("f32[1,1,2] 10 1")];
        assert_eq!(check_op("CausalConvWithState", x), [t("f32[1,1,3] 1 12 23"), t("f32[1,1,1] 3")]);
        let x = || [random("f32[2,3,5]", 1), random("f32[3,1,4]", 2), random("f32[3]", 3), random("f32[2,3,3]", 4)];
        check_op("CausalConvWithState", x());
        check_op("CausalConvWithState activation=\"silu\"", x());
        check_op("CausalConvWithState", [random("f32[2,3,2]", 1), random("f32[3,1,1]", 2)]);
        assert_eq!(check_error("CausalConvWithState activation=\"tanh\"", x()), "activation `tanh`");
    }
}

//! `FusedConv`: `Conv` with an addend and an activation.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FusedConv>

use super::steps::{activate, add_optional};
use crate::composite;
use crate::ops::neural::convolution;
use crate::ops::{InferError, Step, Steps};

convolution! {
    /// `y = activation(conv(x, w, b) + z)`.
    FusedConv(x, w, "b?", "z?") -> (y) since [1] in "com.microsoft";
    /// Name of the activation; none by default.
    activation: String = "",
    /// Parameters of the activation, in its order.
    activation_params: Vec<f32> = Vec::<f32>::new(),
}

composite!(FusedConv);

impl FusedConv {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let operands = [s.optional(0), s.optional(1), s.optional(2)];
        let y = s.apply_all(Box::new(self.conv()), &operands, 1)?[0];
        let z = s.optional(3);
        if let Some(z) = z
            && s.dims(z)? != s.dims(y)?
        {
            return Err(InferError::Invalid(format!("the addend is {}, and the convolution {}", s.fact(z).ty, s.fact(y).ty)));
        }
        let y = add_optional(s, y, z)?;
        Ok(vec![activate(s, y, &self.activation, &self.activation_params)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn addend_and_activation() {
        let x = [t("f32[1,1,3] 1 -2 3"), t("f32[1,1,1] 2"), t("f32[1] 1"), t("f32[1,1,3] 0 0 -20")];
        assert_eq!(check_op("com.microsoft.FusedConv activation=\"Relu\"", x)[0], t("f32[1,1,3] 3 0 0"));
        let x = [random("f32[1,3,5,5]", 1), random("f32[4,3,3,3]", 2)];
        check_op("com.microsoft.FusedConv activation=\"Clip\" activation_params=[-1.0,2.0] pads=[1,1,1,1] strides=[2,2]", x);
        let error = check_error("com.microsoft.FusedConv", [t("f32[1,1,3]"), t("f32[1,1,1]"), t("f32[1]"), t("f32[1,1,1]")]);
        assert_eq!(error, "the addend is f32[1,1,1], and the convolution f32[1,1,3]");
    }
}

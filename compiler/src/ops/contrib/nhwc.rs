//! `NhwcConv`, `NhwcFusedConv`, `NhwcMaxPool` and `QLinearConv`: operators of images whose channels are the last axis.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.NhwcConv>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.NhwcFusedConv>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.NhwcMaxPool>

use super::steps::{activate, add_optional, channels_second};
use crate::ops::neural::{Conv, MaxPool, convolution};
use crate::ops::quantization::QLinearConv as Quantized;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

convolution! {
    /// `Conv` of `x[n,..,c]` with weights `w[o,taps,i]`.
    NhwcConv(x, w, "b?") -> (y) since [1] in "com.microsoft";
}

convolution! {
    /// `y = activation(conv(x, w, b) + z)` of `x[n,..,c]` with weights `w[o,i,taps]`, in half precision.
    NhwcFusedConv(x, w, "b?", "z?") -> (y) since [1] in "com.microsoft";
    /// Name of the activation; none by default.
    activation: String = "",
    /// Parameters of the activation, in its order.
    activation_params: Vec<f32> = Vec::<f32>::new(),
}

convolution! {
    /// `QLinearConv`, of `x[n,..,c]` where asked for; weights are `w[o,i,taps]`.
    QLinearConv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, "b?") -> (y) since [1] in "com.microsoft";
    /// Whether channels are the last axis instead of the second.
    channels_last: bool = false,
}

operator! {
    /// `MaxPool` of `x[n,..,c]`.
    NhwcMaxPool(x) -> (y) since [1] in "com.microsoft";
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Whether a last window that reaches behind the padding counts.
    ceil_mode: bool = false,
    /// Distance of neighbouring elements of a window; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Extents of the window.
    kernel_shape: Vec<i64>,
    /// Padding, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

composite!(NhwcConv);
composite!(NhwcFusedConv);
composite!(QLinearConv);
composite!(NhwcMaxPool);

impl NhwcConv {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, w, b) = (s.operand(0)?, s.operand(1)?, s.optional(2));
        let rank = s.fact(w).ty.rank() as i64;
        if rank < 3 {
            return Err(InferError::Invalid(format!("weights of type `{}`", s.fact(w).ty)));
        }
        let inside: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let w = s.transpose(w, &inside)?;
        let conv = self.conv();
        Ok(vec![channels_second(s, x, true, |s, x| Ok(s.apply_all(Box::new(conv), &[Some(x), Some(w), b], 1)?[0]))?])
    }
}

impl NhwcFusedConv {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, w, b) = (s.operand(0)?, s.operand(1)?, s.optional(2));
        let conv = self.conv();
        let y = channels_second(s, x, true, |s, x| Ok(s.apply_all(Box::new(conv), &[Some(x), Some(w), b], 1)?[0]))?;
        let z = s.optional(3);
        let y = add_optional(s, y, z)?;
        Ok(vec![activate(s, y, &self.activation, &self.activation_params)?])
    }
}

impl QLinearConv {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operand(0)?;
        let mut operands: Vec<Option<Step>> = (0..9).map(|i| s.optional(i)).collect();
        let Conv { auto_pad, dilations, group, kernel_shape, pads, strides } = self.conv();
        let conv = Quantized { auto_pad, dilations, group, kernel_shape, pads, strides };
        Ok(vec![channels_second(s, x, self.channels_last, |s, x| {
            operands[0] = Some(x);
            Ok(s.apply_all(Box::new(conv), &operands, 1)?[0])
        })?])
    }
}

impl NhwcMaxPool {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operand(0)?;
        let pool = MaxPool {
            auto_pad: self.auto_pad.clone(),
            ceil_mode: self.ceil_mode,
            dilations: self.dilations.clone(),
            kernel_shape: self.kernel_shape.clone(),
            pads: self.pads.clone(),
            storage_order: 0,
            strides: self.strides.clone(),
        };
        Ok(vec![channels_second(s, x, true, |s, x| s.apply(pool, &[x]))?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn channels_are_last() {
        let x = [t("f32[1,2,1,2] 1 2 3 4"), t("f32[1,1,1,2] 1 10"), t("f32[1] 5")];
        assert_eq!(check_op("com.microsoft.NhwcConv", x.clone()), [t("f32[1,2,1,1] 26 48")]);
        let [x, _, b] = x;
        let z = t("f32[1,2,1,1] -30 0");
        let y = check_op("com.microsoft.NhwcFusedConv activation=\"Relu\"", [x, t("f32[1,2,1,1] 1 10"), b, z]);
        assert_eq!(y, [t("f32[1,2,1,1] 0 48")]);
        assert_eq!(check_op("com.microsoft.NhwcMaxPool kernel_shape=[2,1]", [t("u8[1,2,1,2] 1 9 3 4")]), [t("u8[1,1,1,2] 3 9")]);
        check_op("com.microsoft.NhwcConv pads=[1,1,1,1] strides=[2,2] group=2", [random("f32[1,5,6,4]", 1), random("f32[6,3,3,2]", 2)]);
        let q = |last: &str, x: &str| {
            let scales = [t("f32[] 0.5"), t("u8[] 3")];
            let y = [&[random(x, 1)][..], &scales, &[random("i8[3,2,1,1]", 2), t("f32[] 0.25"), t("i8[] 0"), t("f32[] 9"), t("u8[] 100")]]
                .concat();
            check_op(&format!("com.microsoft.QLinearConv channels_last={last}"), y)[0].dims().to_vec()
        };
        assert_eq!((q("1", "u8[1,4,5,2]"), q("0", "u8[1,2,4,5]")), (vec![1, 4, 5, 3], vec![1, 3, 4, 5]));
    }
}

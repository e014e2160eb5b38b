//! `QLinearSigmoid`, `QLinearLeakyRelu` and `QLinearSoftmax`: functions of quantized values.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearSigmoid>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearLeakyRelu>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearSoftmax>

use super::quantized::{dequantize, quantize};
use crate::ops::elementwise::{LeakyRelu, Sigmoid};
use crate::ops::neural::Softmax;
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::{composite, operator};

operator! {
    /// `y = 1 / (1 + exp(-x))`.
    QLinearSigmoid(x, x_scale, "x_zero_point?", y_scale, "y_zero_point?") -> (y) since [1] in "com.microsoft";
}

operator! {
    /// `y = x < 0 ? alpha * x : x`.
    QLinearLeakyRelu(x, x_scale, "x_zero_point?", y_scale, "y_zero_point?") -> (y) since [1] in "com.microsoft";
    /// Slope below 0.
    alpha: f32 = 0.01,
}

operator! {
    /// `y = exp(x) / sum of exp(x)` along one axis, or along all axes from one on.
    QLinearSoftmax(x, x_scale, "x_zero_point?", y_scale, y_zero_point) -> (y) since [1] in "com.microsoft";
    /// The axis.
    axis: i64 = -1,
    /// The opset whose `Softmax` this is: below 13, all axes from `axis` on are one.
    opset: i64,
}

composite!(QLinearSigmoid);
composite!(QLinearLeakyRelu);
composite!(QLinearSoftmax);

impl QLinearSigmoid {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = dequantize(s, 0)?;
        let y = s.apply(Sigmoid {}, &[x])?;
        Ok(vec![quantize(s, y, 3, s.operands().dtype(0)?)?])
    }
}

impl QLinearLeakyRelu {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = dequantize(s, 0)?;
        let y = s.apply(LeakyRelu { alpha: self.alpha }, &[x])?;
        Ok(vec![quantize(s, y, 3, s.operands().dtype(0)?)?])
    }
}

impl QLinearSoftmax {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = dequantize(s, 0)?;
        let dims = s.dims(x)?;
        let axis = normalize_axis(self.axis, dims.len())?;
        let y = if self.opset < 13 {
            let flat = s.reshape(x, &[dims[..axis].iter().product(), dims[axis..].iter().product()])?;
            let y = s.apply(Softmax { axis: 1 }, &[flat])?;
            s.reshape(y, &dims)?
        } else {
            s.apply(Softmax { axis: axis as i64 }, &[x])?
        };
        Ok(vec![quantize(s, y, 3, s.operands().dtype(0)?)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn functions_of_what_integers_stand_for() {
        let x = |v: &str| [t(v), t("f32[] 0.5"), t("u8[] 10"), t("f32[] 0.01"), t("u8[] 5")];
        assert_eq!(check_op("com.microsoft.QLinearSigmoid", x("u8[3] 10 0 255")), [t("u8[3] 55 6 105")]);
        assert_eq!(check_op("com.microsoft.QLinearLeakyRelu alpha=0.01", x("u8[3] 8 0 11")), [t("u8[3] 4 0 55")]);
        assert_eq!(check_op("com.microsoft.QLinearSoftmax opset=13", x("u8[2,2] 1 1 255 0")), [t("u8[2,2] 55 55 105 5")]);
        let x = [random("i8[2,3,4]", 1), t("f32[] 0.1"), t("i8[] 1"), t("f32[] 0.004"), t("i8[] -128")];
        let flat = check_op("com.microsoft.QLinearSoftmax opset=12 axis=1", x.clone());
        assert_ne!(flat, check_op("com.microsoft.QLinearSoftmax opset=13 axis=1", x));
    }
}

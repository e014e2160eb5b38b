//! `QLinearAveragePool`, `QLinearGlobalAveragePool` and `QLinearReduceMean`: means of quantized values.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearAveragePool>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearGlobalAveragePool>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearReduceMean>

use super::quantized::{dequantize, quantize};
use super::steps::channels_second;
use crate::ops::neural::{AveragePool, GlobalAveragePool, ReduceMean};
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `y` is the mean of a window of `x`.
    QLinearAveragePool(x, x_scale, "x_zero_point?", y_scale, "y_zero_point?") -> (y) since [1] in "com.microsoft";
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Whether a last window that reaches behind the padding counts.
    ceil_mode: bool = false,
    /// Whether channels are the last axis instead of the second.
    channels_last: bool = false,
    /// Whether padding counts as zeros, instead of not at all.
    count_include_pad: bool = false,
    /// Extents of the window.
    kernel_shape: Vec<i64>,
    /// Padding, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

operator! {
    /// `y` is the mean over all spatial axes of `x`.
    QLinearGlobalAveragePool(x, x_scale, x_zero_point, y_scale, y_zero_point) -> (y) since [1] in "com.microsoft";
    /// Whether channels are the last axis instead of the second.
    channels_last: bool = false,
}

operator! {
    /// `reduced` is the mean over some axes of `data`.
    QLinearReduceMean(data, data_scale, "data_zero_point?", reduced_scale, "reduced_zero_point?") -> (reduced) since [1] in "com.microsoft";
    /// The axes.
    axes: Vec<i64>,
    /// Whether they stay, with extent 1.
    keepdims: bool,
}

composite!(QLinearAveragePool);
composite!(QLinearGlobalAveragePool);
composite!(QLinearReduceMean);

impl QLinearAveragePool {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = dequantize(s, 0)?;
        let pool = AveragePool {
            auto_pad: self.auto_pad.clone(),
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
            dilations: vec![],
            kernel_shape: self.kernel_shape.clone(),
            pads: self.pads.clone(),
            strides: self.strides.clone(),
        };
        let y = channels_second(s, x, self.channels_last, |s, x| s.apply(pool, &[x]))?;
        Ok(vec![quantize(s, y, 3, s.operands().dtype(0)?)?])
    }
}

impl QLinearGlobalAveragePool {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = dequantize(s, 0)?;
        let y = channels_second(s, x, self.channels_last, |s, x| s.apply(GlobalAveragePool {}, &[x]))?;
        Ok(vec![quantize(s, y, 3, s.operands().dtype(0)?)?])
    }
}

impl QLinearReduceMean {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (data, axes) = (dequantize(s, 0)?, s.ints(&self.axes));
        let y = s.apply(ReduceMean { keepdims: self.keepdims, noop_with_empty_axes: false }, &[data, axes])?;
        Ok(vec![quantize(s, y, 3, s.operands().dtype(0)?)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn means_of_what_integers_stand_for() {
        let x = |v: &str| [t(v), t("f32[] 0.5"), t("u8[] 10"), t("f32[] 0.25"), t("u8[] 5")];
        assert_eq!(check_op("com.microsoft.QLinearGlobalAveragePool", x("u8[1,2,1,2] 10 14 20 20")), [t("u8[1,2,1,1] 9 25")]);
        let last = check_op("com.microsoft.QLinearGlobalAveragePool channels_last=1", x("u8[1,1,2,2] 10 20 14 20"));
        assert_eq!(last, [t("u8[1,1,1,2] 9 25")]);
        let pooled = check_op("com.microsoft.QLinearAveragePool kernel_shape=[2] pads=[1,0]", x("u8[1,1,3] 10 14 20"));
        assert_eq!(pooled, [t("u8[1,1,3] 5 9 19")]);
        let mut y = x("u8[1,1]");
        y[0] = random("u8[2,3,4]", 1);
        assert_eq!(check_op("com.microsoft.QLinearReduceMean axes=[1] keepdims=0", y)[0].dims(), [2, 4]);
    }
}

//! `QLinearAdd`, `QLinearMul` and `QLinearWhere`: element by element, on quantized values.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearAdd>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearMul>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearWhere>

use super::quantized::{dequantize, quantize};
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `c = a + b`, with broadcasting.
    QLinearAdd(a, a_scale, "a_zero_point?", b, b_scale, "b_zero_point?", c_scale, "c_zero_point?") -> (c) since [1] in "com.microsoft";
}

operator! {
    /// `c = a * b`, with broadcasting.
    QLinearMul(a, a_scale, "a_zero_point?", b, b_scale, "b_zero_point?", c_scale, "c_zero_point?") -> (c) since [1] in "com.microsoft";
}

operator! {
    /// `z = condition ? x : y`, with broadcasting.
    QLinearWhere(condition, x, x_scale, x_zero_point, y, y_scale, y_zero_point, z_scale, z_zero_point) -> (z) since [1] in "com.microsoft";
}

composite!(QLinearAdd);
composite!(QLinearMul);
composite!(QLinearWhere);

impl QLinearAdd {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (dequantize(s, 0)?, dequantize(s, 3)?);
        let sum = s.add(a, b)?;
        Ok(vec![quantize(s, sum, 6, s.operands().dtype(0)?)?])
    }
}

impl QLinearMul {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (dequantize(s, 0)?, dequantize(s, 3)?);
        let product = s.mul(a, b)?;
        Ok(vec![quantize(s, product, 6, s.operands().dtype(0)?)?])
    }
}

impl QLinearWhere {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (condition, x, y) = (s.operand(0)?, dequantize(s, 1)?, dequantize(s, 4)?);
        let z = s.choose(condition, x, y)?;
        Ok(vec![quantize(s, z, 7, s.operands().dtype(1)?)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn integers_stand_for_numbers() {
        let (a, b) = ([t("u8[3] 10 20 250"), t("f32[] 0.5"), t("u8[] 10")], [t("u8[1] 4"), t("f32[] 2"), t("u8[] 1")]);
        let y = [t("f32[] 1"), t("u8[] 100")];
        let x = [&a[..], &b[..], &y[..]].concat();
        assert_eq!(check_op("com.microsoft.QLinearAdd", x.clone()), [t("u8[3] 106 111 226")]);
        assert_eq!(check_op("com.microsoft.QLinearMul", x.clone()), [t("u8[3] 100 130 255")]);
        let x = [&[t("bool[3] 1 0 1")][..], &x].concat();
        assert_eq!(check_op("com.microsoft.QLinearWhere", x), [t("u8[3] 100 106 220")]);
        let x = [None, Some(random("i8[2,3]", 1)), Some(t("f32[] 0.25")), None, Some(random("i8[3]", 2)), Some(t("f32[] 0.5")), None];
        check_op("com.microsoft.QLinearAdd", [&x[1..], &[Some(t("f32[] 1.0"))]].concat());
        let error = check_error("com.microsoft.QLinearAdd", [&x[1..], &[Some(t("f32[2] 1.0"))]].concat());
        assert_eq!(error, "a scale of type `f32[2]`, more than one, is not supported here");
    }
}

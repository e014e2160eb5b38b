//! `QLinearConcat`: quantized values one after another, each with its own scale.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QLinearConcat>

use super::quantized::{dequantize, quantize_by};
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// The values `inputs[3 * i]`, with scales `inputs[3 * i + 1]` and zero points `inputs[3 * i + 2]`, one after another along an axis.
    QLinearConcat(y_scale, y_zero_point, "inputs*") -> (y) since [1] in "com.microsoft";
    /// The axis.
    axis: i64,
}

composite!(QLinearConcat);

impl QLinearConcat {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let n = s.operands().len();
        if n < 5 || n % 3 != 2 {
            return Err(InferError::Invalid(format!("{n} operands are not a scale, a zero point and triples")));
        }
        let dtype = s.operands().dtype(1)?;
        let mut parts = vec![];
        for i in (2..n).step_by(3) {
            let x = dequantize(s, i)?;
            let (scale, zero) = (s.operand(0)?, s.optional(1));
            parts.push(quantize_by(s, x, scale, zero, dtype)?);
        }
        Ok(vec![s.concat(&parts, self.axis)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn scales_are_made_equal() {
        let y = [t("f32[] 1"), t("u8[] 100")];
        let x = [t("u8[2] 10 20"), t("f32[] 0.5"), t("u8[] 10"), t("u8[1] 4"), t("f32[] 2"), t("u8[] 1")];
        assert_eq!(check_op("com.microsoft.QLinearConcat axis=0", [&y[..], &x].concat()), [t("u8[3] 100 105 106")]);
        let error = check_error("com.microsoft.QLinearConcat axis=0", [&y[..], &x[..5]].concat());
        assert_eq!(error, "7 operands are not a scale, a zero point and triples");
    }
}

//! `MatMulInteger16`, `MulInteger` and `ReduceSumInteger`: products and sums of small integers, exact in 32 bits.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulInteger16>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MulInteger>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.ReduceSumInteger>

use super::quantized::BYTES;
use crate::ops::neural::ReduceSum;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// The matrix product of integers of 16 bits.
    MatMulInteger16(a, b) -> (y) since [1] in "com.microsoft";
}

operator! {
    /// `c = (a - a_zero_point) * (b - b_zero_point)`, with broadcasting.
    MulInteger(a, "a_zero_point?", b, "b_zero_point?") -> (c) since [1] in "com.microsoft";
}

operator! {
    /// The sum over some axes.
    ReduceSumInteger(data) -> (reduced) since [1] in "com.microsoft";
    /// The axes.
    axes: Vec<i64>,
    /// Whether they stay, with extent 1.
    keepdims: bool,
}

composite!(MatMulInteger16);
composite!(MulInteger);
composite!(ReduceSumInteger);

impl MatMulInteger16 {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let a = s.operands().require_dtype(0, &[DType::I16, DType::U16])?;
        let b = s.operands().require_dtype(1, &[DType::I16, DType::U16])?;
        let wide = if (a, b) == (DType::U16, DType::U16) { DType::U32 } else { DType::I32 };
        let (a, b) = (s.operand(0)?, s.operand(1)?);
        let (a, b) = (s.cast(a, wide)?, s.cast(b, wide)?);
        Ok(vec![s.matmul(a, b)?])
    }
}

impl MulInteger {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let centered = |s: &mut Steps<'_>, i: usize| {
            s.operands().require_dtype(i, BYTES)?;
            let v = s.operand(i)?;
            let v = s.cast(v, DType::I32)?;
            let Some(zero) = s.optional(i + 1) else { return Ok(v) };
            let zero = s.cast(zero, DType::I32)?;
            s.sub(v, zero)
        };
        let (a, b) = (centered(s, 0)?, centered(s, 2)?);
        Ok(vec![s.mul(a, b)?])
    }
}

impl ReduceSumInteger {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let wide = if s.operands().require_dtype(0, BYTES)? == DType::U8 { DType::U32 } else { DType::I32 };
        let data = s.operand(0)?;
        let (data, axes) = (s.cast(data, wide)?, s.ints(&self.axes));
        Ok(vec![s.apply(ReduceSum { keepdims: self.keepdims, noop_with_empty_axes: false }, &[data, axes])?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, t};

    #[test]
    fn wide_results() {
        assert_eq!(check_op("com.microsoft.MatMulInteger16", [t("i16[1,2] 300 -2"), t("i16[2,1] 300 1000")]), [t("i32[1,1] 88000")]);
        let x = [t("u8[2] 200 0"), t("u8[] 100"), t("u8[1] 0"), t("u8[] 5")];
        assert_eq!(check_op("com.microsoft.MulInteger", x), [t("i32[2] -500 500")]);
        assert_eq!(check_op("com.microsoft.ReduceSumInteger axes=[1] keepdims=0", [t("u8[1,3] 255 255 1")]), [t("u32[1] 511")]);
    }
}

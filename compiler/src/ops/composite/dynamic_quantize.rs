//! `DynamicQuantizeLinear`: quantization to `u8` by the range of the values.
//! Spec: <https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html>

use crate::ops::elementwise::{Equal, Max, Min, Round};
use crate::ops::neural::{ReduceMax, ReduceMin};
use crate::ops::quantization::QuantizeLinear;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `y = QuantizeLinear(x, y_scale, y_zero_point)`, whose range is that of `x` and 0.
    DynamicQuantizeLinear(x) -> (y, y_scale, y_zero_point) since [11];
}

composite!(DynamicQuantizeLinear);

impl DynamicQuantizeLinear {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operand(0)?;
        let dtype = s.operands().require_dtype(0, &[DType::F32])?;
        let (zero, one, top) = (s.number(dtype, 0.0), s.number(dtype, 1.0), s.number(dtype, 255.0));
        let greatest = s.apply(ReduceMax { keepdims: false, noop_with_empty_axes: false }, &[x])?;
        let least = s.apply(ReduceMin { keepdims: false, noop_with_empty_axes: false }, &[x])?;
        let (greatest, least) = (s.apply(Max {}, &[greatest, zero])?, s.apply(Min {}, &[least, zero])?);
        let range = s.sub(greatest, least)?;
        let flat = s.apply(Equal {}, &[greatest, least])?;
        let range = s.choose(flat, one, range)?;
        let scale = s.div(range, top)?;
        let below = s.div(least, scale)?;
        let place = s.sub(zero, below)?;
        let (place, high) = (s.apply(Max {}, &[place, zero])?, top);
        let place = s.apply(Min {}, &[place, high])?;
        let place = s.apply(Round {}, &[place])?;
        let zero_point = s.cast(place, DType::U8)?;
        let quantize = QuantizeLinear { axis: 1, block_size: 0, output_dtype: 0, precision: 0, saturate: true };
        let y = s.apply(quantize, &[x, scale, zero_point])?;
        Ok(vec![y, scale, zero_point])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn the_range_decides() {
        let y = check_op("DynamicQuantizeLinear", [t("f32[3] 0 127.5 -127.5")]);
        assert_eq!(y, [t("u8[3] 128 255 0"), t("f32[] 1"), t("u8[] 128")]);
        assert_eq!(check_op("DynamicQuantizeLinear", [t("f32[2] 0 0")])[0], t("u8[2] 0 0"));
        check_op("DynamicQuantizeLinear", [random("f32[3,4]", 1)]);
    }
}

//! `ConvTransposeWithDynamicPads`: `ConvTranspose` with its padding as an operand.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.ConvTransposeWithDynamicPads>

use crate::ops::neural::ConvTranspose;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// The transpose of a convolution, without `pads` elements at the edges, which are known when compiling: all in front, then all behind.
    ConvTransposeWithDynamicPads(x, w, "pads?", "b?") -> (y) since [1] in "com.microsoft";
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Distance of neighbouring taps; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Number of groups of channels.
    group: i64 = 1,
    /// Extents of the window; those of `w` by default.
    kernel_shape: Vec<i64> = Vec::<i64>::new(),
    /// Added to the output extents; 0 by default.
    output_padding: Vec<i64> = Vec::<i64>::new(),
    /// Distance of outputs of neighbouring inputs; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

composite!(ConvTransposeWithDynamicPads);

impl ConvTransposeWithDynamicPads {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let pads = if s.optional(2).is_some() { s.operands().ints(2)? } else { vec![] };
        let op = ConvTranspose {
            auto_pad: self.auto_pad.clone(),
            dilations: self.dilations.clone(),
            group: self.group,
            kernel_shape: self.kernel_shape.clone(),
            output_padding: self.output_padding.clone(),
            output_shape: vec![],
            pads,
            strides: self.strides.clone(),
        };
        let operands = [s.optional(0), s.optional(1), s.optional(3)];
        s.apply_all(Box::new(op), &operands, 1)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_op, random, t};

    #[test]
    fn the_padding_is_an_operand() {
        let x = || [random("f32[1,2,4,5]", 1), random("f32[2,3,3,3]", 2)];
        let expected = check_op("ConvTranspose pads=[1,0,1,2] strides=[2,1]", x());
        let [a, w] = x();
        let op = Check::new("com.microsoft.ConvTransposeWithDynamicPads strides=[2,1]");
        assert_eq!(op.run([Some(a), Some(w), Some(t("i64[4] 1 0 1 2")), None]), expected);
        check_op("com.microsoft.ConvTransposeWithDynamicPads", x());
    }
}

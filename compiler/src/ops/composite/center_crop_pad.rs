//! `CenterCropPad`: the middle of a value, or the value in the middle of zeros.
//! Spec: <https://onnx.ai/onnx/operators/onnx__CenterCropPad.html>

use crate::ops::movement::Pad;
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::{composite, operator};

operator! {
    /// `input_data` cropped or padded with zeros on both sides to the extents in `shape`; the odd element is behind.
    CenterCropPad(input_data, shape) -> (output_data) since [18];
    /// The axes that `shape` gives extents of; all by default.
    axes: Option<Vec<i64>>,
}

composite!(CenterCropPad);

impl CenterCropPad {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let mut x = s.operand(0)?;
        let (dims, shape) = (s.dims(x)?, s.operands().ints(1)?);
        let rank = dims.len();
        let axes: Vec<i64> = self.axes.clone().unwrap_or_else(|| (0..rank as i64).collect());
        if axes.len() != shape.len() {
            return Err(InferError::Invalid(format!("{} extents for {} axes", shape.len(), axes.len())));
        }
        let mut pads = vec![0i64; 2 * rank];
        for (&axis, &wanted) in axes.iter().zip(&shape) {
            let axis = normalize_axis(axis, rank)?;
            let wanted = usize::try_from(wanted).map_err(|_| InferError::Invalid(format!("{wanted} as an extent")))?;
            let given = dims[axis];
            if wanted < given {
                let from = (given - wanted) / 2;
                x = s.slice(x, axis as i64, from, from + wanted)?;
            } else {
                let more = (wanted - given) as i64;
                (pads[axis], pads[rank + axis]) = (more / 2, more - more / 2);
            }
        }
        if pads.iter().any(|&p| p != 0) {
            let pads = s.ints(&pads);
            x = s.apply(Pad { mode: "constant".to_owned() }, &[x, pads])?;
        }
        Ok(vec![x])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn the_middle_stays() {
        assert_eq!(check_op("CenterCropPad", [t("f32[5] 1 2 3 4 5"), t("i64[1] 2")])[0], t("f32[2] 2 3"));
        assert_eq!(check_op("CenterCropPad", [t("f32[2] 1 2"), t("i64[1] 5")])[0], t("f32[5] 0 1 2 0 0"));
        check_op("CenterCropPad axes=[-1,0]", [random("f32[4,3,7]", 1), t("i64[2] 9 3")]);
        check_op("CenterCropPad", [random("f32[4,3]", 1), t("i64[2] 4 3")]);
        assert_eq!(check_error("CenterCropPad", [t("f32[2,2]"), t("i64[1] 5")]), "1 extents for 2 axes");
    }
}

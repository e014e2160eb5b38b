//! `ExpandDims`, `UnfoldTensor` and `TorchEmbedding`: elements in other places.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.ExpandDims>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.UnfoldTensor>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.TorchEmbedding>

use crate::ops::movement::Gather;
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::{composite, operator};

operator! {
    /// `x` with an axis of extent 1 at `axis`.
    ExpandDims(x, axis) -> (y) since [1] in "com.microsoft";
}

operator! {
    /// All slices of `size` positions of axis `dim`, `step` apart; the positions of a slice are a new last axis.
    UnfoldTensor(input) -> (output) since [1] in "com.microsoft";
    /// The axis.
    dim: i64 = -1,
    /// Positions of a slice.
    size: i64,
    /// Distance of slices.
    step: i64 = 1,
}

operator! {
    /// The rows of `weight` that `indices` name; what else there is matters in training only.
    TorchEmbedding(weight, indices, "padding_idx?", "scale_grad_by_freq?") -> (y) since [1] in "com.microsoft";
}

composite!(ExpandDims);
composite!(UnfoldTensor);
composite!(TorchEmbedding);

impl ExpandDims {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operand(0)?;
        match s.operands().ints(1)?[..] {
            [axis] => Ok(vec![s.unsqueeze(x, axis)?]),
            _ => Err(InferError::Invalid("`axis` is not one number".to_owned())),
        }
    }
}

impl UnfoldTensor {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operand(0)?;
        let dims = s.dims(x)?;
        let axis = normalize_axis(self.dim, dims.len())?;
        if self.step < 1 || self.size < 1 || self.size > dims[axis] as i64 {
            return Err(InferError::Invalid(format!("slices of {} positions, {} apart, of {}", self.size, self.step, dims[axis])));
        }
        let count = (dims[axis] as i64 - self.size) / self.step + 1;
        let places: Vec<i64> = (0..count).flat_map(|i| (0..self.size).map(move |j| i * self.step + j)).collect();
        let places = s.constant(crate::tensor::Tensor::from_slice(&[count as usize, self.size as usize], &places));
        let y = s.apply(Gather { axis: axis as i64 }, &[x, places])?;
        let order: Vec<i64> = (0..=dims.len() as i64).filter(|&a| a != axis as i64 + 1).chain([axis as i64 + 1]).collect();
        Ok(vec![s.transpose(y, &order)?])
    }
}

impl TorchEmbedding {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (weight, indices) = (s.operand(0)?, s.operand(1)?);
        Ok(vec![s.apply(Gather { axis: 0 }, &[weight, indices])?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn elements_in_other_places() {
        assert_eq!(check_op("com.microsoft.ExpandDims", [t("f32[2] 1 2"), t("i32[] -1")]), [t("f32[2,1] 1 2")]);
        let y = check_op("com.microsoft.UnfoldTensor dim=0 size=2 step=2", [t("f32[5] 1 2 3 4 5")]);
        assert_eq!(y, [t("f32[2,2] 1 2 3 4")]);
        assert_eq!(check_op("com.microsoft.UnfoldTensor dim=1 size=3", [random("f32[2,7,3]", 1)])[0].dims(), [2, 5, 3, 3]);
        assert_eq!(check_op("com.microsoft.TorchEmbedding", [t("f32[2,1] 1 2"), t("i64[1] 1")]), [t("f32[1,1] 2")]);
        let error = check_error("com.microsoft.UnfoldTensor size=9", [t("f32[3]")]);
        assert_eq!(error, "slices of 9 positions, 1 apart, of 3");
    }
}

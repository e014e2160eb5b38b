//! `MaxUnpool`: values put back where the greatest of each window was.
//! Spec: <https://onnx.ai/onnx/operators/onnx__MaxUnpool.html>

use crate::ops::movement::{Pad, ScatterElements};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// Zeros with `x` at the flat positions `i`, as `MaxPool` gives them.
    MaxUnpool(x, i, "output_shape?") -> (output) since [9, 11, 22];
    /// Extents of the windows.
    kernel_shape: Vec<i64>,
    /// Padding that the pool had, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

composite!(MaxUnpool);

/// The largest result that is not refused.
const MAX_ELEMENTS: usize = 1 << 28;

impl MaxUnpool {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, &DType::FLOATS)?;
        let (x, places) = (s.operand(0)?, s.operand(1)?);
        let dims = s.dims(x)?;
        let space = dims.len().saturating_sub(2);
        let or = |list: &[i64], n: usize, default: i64| if list.is_empty() { vec![default; n] } else { list.to_vec() };
        let (strides, pads) = (or(&self.strides, space, 1), or(&self.pads, 2 * space, 0));
        if space == 0 || s.dims(places)? != dims || self.kernel_shape.len() != space || strides.len() != space || pads.len() != 2 * space {
            return Err(InferError::Invalid(format!("positions `{}` of `{}`", s.fact(places).ty, s.fact(x).ty)));
        }
        let extent = |i: usize| {
            let least = (dims[2 + i] as i64 - 1).checked_mul(strides[i])?.checked_add(self.kernel_shape[i])?;
            usize::try_from(least.checked_sub(pads[i])?.checked_sub(pads[space + i])?).ok()
        };
        let inner: Option<Vec<usize>> = (0..space).map(extent).collect();
        let inner = inner.map(|inner| [&dims[..2], &inner[..]].concat());
        let fits = |d: &Vec<usize>| d.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= MAX_ELEMENTS);
        let inner = inner.filter(fits).ok_or_else(|| InferError::Invalid("windows that do not fit".to_owned()))?;
        let n: usize = dims.iter().product();
        let (values, places) = (s.reshape(x, &[n])?, s.reshape(places, &[n])?);
        let canvas = s.constant(Tensor::zeros(dtype, &[inner.iter().product()]));
        let scatter = ScatterElements { axis: 0, reduction: "none".to_owned() };
        let scattered = s.apply(scatter, &[canvas, places, values])?;
        let mut y = s.reshape(scattered, &inner)?;
        if s.operands().has(2) {
            // A larger result has zeros behind.
            let wanted = s.operands().ints(2)?;
            let more: Vec<i64> = wanted.iter().zip(&inner).map(|(w, &d)| w - d as i64).collect();
            if wanted.len() != inner.len() || more.iter().any(|&m| !(0..1 << 31).contains(&m)) {
                return Err(InferError::Invalid(format!("an output of {wanted:?} for windows that reach {inner:?}")));
            }
            if more.iter().any(|&m| m > 0) {
                let pads = s.ints(&[vec![0; inner.len()], more].concat());
                y = s.apply(Pad { mode: "constant".to_owned() }, &[y, pads])?;
            }
        }
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn values_go_back() {
        let x = [t("f32[1,1,2] 5 6"), t("i64[1,1,2] 1 2")];
        assert_eq!(check_op("MaxUnpool kernel_shape=[2] strides=[2]", x)[0], t("f32[1,1,4] 0 5 6 0"));
        let x = [t("f32[1,1,2] 5 6"), t("i64[1,1,2] 1 2"), t("i64[3] 1 1 5")];
        assert_eq!(check_op("MaxUnpool kernel_shape=[2] strides=[2]", x)[0], t("f32[1,1,5] 0 5 6 0 0"));
        let x = [t("f32[1,1,2]"), t("i64[1,1,3]")];
        assert_eq!(check_error("MaxUnpool kernel_shape=[2]", x), "positions `i64[1,1,3]` of `f32[1,1,2]`");
    }
}

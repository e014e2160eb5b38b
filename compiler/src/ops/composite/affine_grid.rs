//! `AffineGrid`: where affine maps take the points of a regular grid.
//! Spec: <https://onnx.ai/onnx/operators/onnx__AffineGrid.html>

use crate::ops::{InferError, Step, Steps};
use crate::tensor::{Tensor, for_each_index};
use crate::{composite, operator};

operator! {
    /// `grid[n,..,:] = theta[n] * (x, y, .., 1)` over points of -1 to 1 along the last axes of `size`.
    AffineGrid(theta, size) -> (grid) since [20];
    /// Whether -1 and 1 are the middles of the outermost points instead of their outer sides.
    align_corners: bool = false,
}

composite!(AffineGrid);

impl AffineGrid {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let theta = s.operand(0)?;
        let (size, dims, dtype) = (s.operands().ints(1)?, s.dims(theta)?, s.dtype(theta));
        let extents: Option<Vec<usize>> = size.iter().map(|&n| usize::try_from(n).ok().filter(|&n| n < 1 << 24)).collect();
        let extents = extents.ok_or_else(|| InferError::Invalid(format!("sizes {size:?}")))?;
        let n = extents.len().saturating_sub(2);
        if !matches!(n, 2 | 3) || dims[..] != [extents[0], n, n + 1] {
            return Err(InferError::Invalid(format!("maps of extents {dims:?} for sizes {size:?}")));
        }
        let space = &extents[2..];
        let points: usize = space.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n < 1 << 28).unwrap_or(0);
        if points == 0 {
            return Err(InferError::Invalid(format!("sizes {size:?}")));
        }
        let place = |i: usize, extent: usize| match (self.align_corners, extent) {
            (true, 1) => -1.0,
            (true, _) => -1.0 + 2.0 * i as f64 / (extent - 1) as f64,
            (false, _) => -1.0 + (2.0 * i as f64 + 1.0) / extent as f64,
        };
        // One column a point: the last axis of space is the first coordinate.
        let mut columns = vec![1.0; (n + 1) * points];
        for_each_index(space, |flat, at| {
            for (c, axis) in (0..n).rev().enumerate() {
                columns[c * points + flat] = place(at[axis], space[axis]);
            }
        });
        let columns = s.constant(Tensor::from_f64s(dtype, &[n + 1, points], &columns));
        let grid = s.matmul(theta, columns)?;
        let grid = s.transpose(grid, &[0, 2, 1])?;
        Ok(vec![s.reshape(grid, &[&[extents[0]], space, &[n]].concat())?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn points_move() {
        let identity = || t("f32[1,2,3] 1 0 0 0 1 0");
        let y = check_op("AffineGrid align_corners=1", [identity(), t("i64[4] 1 1 2 2")]);
        assert_eq!(y[0], t("f32[1,2,2,2] -1 -1 1 -1 -1 1 1 1"));
        let y = check_op("AffineGrid", [identity(), t("i64[4] 1 1 1 2")]);
        assert_eq!(y[0], t("f32[1,1,2,2] -0.5 0 0.5 0"));
        check_op("AffineGrid", [random("f32[2,3,4]", 1), t("i64[5] 2 1 2 3 4")]);
        assert_eq!(check_error("AffineGrid", [identity(), t("i64[3] 1 1 2")]), "maps of extents [1, 2, 3] for sizes [1, 1, 2]");
    }
}

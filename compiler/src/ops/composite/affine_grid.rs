//! `AffineGrid`: where affine maps take the points of a regular grid.
//! Spec: <https://onnx.ai/onnx/operators/onnx__AffineGrid.html>

use crate::ops::elementwise::{Cast, Div, Sub, Where};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
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
        let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
        let theta = s.cast(theta, wide)?;
        // `theta` by columns, in the order of its own axes: the last axis of space is the first coordinate.
        let column = |s: &mut Steps<'_>, k: usize| -> Result<Step, InferError> {
            let column = s.slice(theta, 2, k, k + 1)?;
            s.reshape(column, &[&[extents[0]][..], &vec![1; n], &[n]].concat())
        };
        let mut grid: Option<Step> = None;
        for (k, axis) in (0..n).rev().enumerate() {
            let places = self.places(s, space[axis], wide)?;
            let places = s.reshape(places, &(0..n + 2).map(|i| if i == axis + 1 { space[axis] } else { 1 }).collect::<Vec<_>>())?;
            let column = column(s, k)?;
            let part = s.mul(column, places)?;
            grid = Some(match grid {
                Some(sum) => s.add(sum, part)?,
                None => part,
            });
        }
        let shift = column(s, n)?;
        let grid = grid.expect("axes of space");
        let grid = s.add(grid, shift)?;
        Ok(vec![s.cast(grid, dtype)?])
    }

    /// The coordinates along one axis, from -1 to 1.
    fn places(&self, s: &mut Steps<'_>, extent: usize, dtype: DType) -> Result<Step, InferError> {
        let table = |f: &dyn Fn(f64) -> f64| (0..extent).map(|i| f(i as f64)).collect::<Vec<_>>();
        let twice = if self.align_corners { table(&|i| 2.0 * i) } else { table(&|i| 2.0 * i + 1.0) };
        let twice = s.constant(Tensor::from_f64s(DType::F64, &[extent], &twice));
        let (steps, one) = (extent - usize::from(self.align_corners), s.number(DType::F64, 1.0));
        let steps = s.number(DType::F64, steps as f64);
        let parts = s.unfolded(Div {}, &[twice, steps])?;
        let mut places = s.unfolded(Sub {}, &[parts, one])?;
        if self.align_corners {
            // The only point of an axis is its first.
            let is_first = s.constant(Tensor::from_bools(&[extent], (0..extent).map(|i| i == 0)));
            let first = s.number(DType::F64, -1.0);
            places = s.unfolded(Where {}, &[is_first, first, places])?;
        }
        s.unfolded(Cast { to: dtype, saturate: true, round_mode: "up".to_owned() }, &[places])
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

//! `MaxRoiPool`: the greatest values in the bins of regions of an image.
//! Spec: <https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html>

use super::widen::{FLOATS, wide};
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, Ix, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements};

operator! {
    /// `y[r,c]` is the region `rois[r] = [image, left, top, right, bottom]`, ends included, of channel `c`: in each of `pooled_shape` bins the
    /// greatest element that the bin touches, and 0 in a bin outside the image.
    MaxRoiPool(x, rois) -> (y) since [1, 22];
    /// Bins from top to bottom and from left to right.
    pooled_shape: Vec<i64>,
    /// Elements of `x` for one unit of `rois`.
    spatial_scale: f32 = 1.0f32,
}

/// Greatest extents, so that places are exact enough in `f32`.
const MAX_EXTENT: usize = 1 << 20;

/// The nearest integer; halves go away from zero.
fn rounded(v: &Expr) -> Expr {
    let (up, down) = ((v + 0.5).unary(UnaryOp::Floor), (v - 0.5).unary(UnaryOp::Ceil));
    v.compare(CompareOp::Ge, &v.like(0.0)).select(&up, &down)
}

impl Operator for MaxRoiPool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, FLOATS)?;
        x.require_same_dtype(1, 0)?;
        let (image, rois) = (x.dims(0)?, x.dims(1)?);
        if image.len() != 4 || rois.len() != 2 || rois[1] != 5 || image[2..].iter().any(|&d| d == 0 || d > MAX_EXTENT) {
            return Err(InferError::Invalid(format!("regions {} of {}", x.ty(1)?, x.ty(0)?)));
        }
        match self.pooled_shape[..] {
            [h, w] if (1..=1 << 12).contains(&h) && (1..=1 << 12).contains(&w) => {
                Ok(vec![Type::fixed(dtype, &[rois[0], image[1], h as usize, w as usize])])
            }
            _ => Err(InferError::Invalid(format!("`pooled_shape` is {:?}", self.pooled_shape))),
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (image, rois) = (x.tensor(0).to_f64s(), x.tensor(1).to_f64s());
        let [n, channels, height, width]: [usize; 4] = x.tensor(0).dims().try_into().expect("four axes");
        let dims = [x.tensor(1).dims()[0], channels, self.pooled_shape[0] as usize, self.pooled_shape[1] as usize];
        if let Some(&index) = rois.iter().step_by(5).find(|&&i| !(0.0..n as f64).contains(&i)) {
            return Err(EvalError::IndexOutOfRange { index: index as i64, extent: n });
        }
        // Places are as exact as they are computed: where a bin ends depends on it.
        let double = x.tensor(0).dtype() == DType::F64;
        let exact = |v: f64| if double { v } else { f64::from(v as f32) };
        let mut out = vec![0.0; n_elements(&dims)];
        for_each_index(&dims, |flat, i| {
            let roi = &rois[i[0] * 5..][..5];
            let channel = &image[(roi[0] as usize * channels + i[1]) * height * width..][..height * width];
            let range = |axis: usize, extent: usize| {
                let [start, end] = [2 - axis, 4 - axis].map(|k| exact(roi[k] * f64::from(self.spatial_scale)).round());
                let bin = exact((end - start + 1.0).max(1.0) / dims[2 + axis] as f64);
                let place = |v: f64| (v + start).clamp(0.0, extent as f64) as usize;
                place(exact(i[2 + axis] as f64 * bin).floor())..place(exact((i[2 + axis] + 1) as f64 * bin).ceil())
            };
            let (rows, columns) = (range(0, height), range(1, width));
            let values = rows.flat_map(|r| columns.clone().map(move |c| channel[r * width + c]));
            out[flat] = values.reduce(f64::max).unwrap_or(0.0);
        });
        Ok(vec![Tensor::from_f64s(x.tensor(0).dtype(), &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (image, rois) = (x.tensor(0), x.tensor(1));
        let (dtype, extents, dims) = (b.dtype(image), x.dims(0), x.result_dims(0));
        let compute = wide(dtype);
        // First position and end of each bin along an axis, `[rois,bins]`.
        let mut ends = |axis: usize, behind: i64| {
            b.compute(&[dims[0], dims[2 + axis]], |b, at| {
                let side = |k: usize| {
                    rounded(&(b.load(rois, [at[0].clone(), Affine::constant(k as i64)]).cast(compute) * f64::from(self.spatial_scale)))
                };
                let (start, end) = (side(2 - axis), side(4 - axis));
                let size = (&end - &start + 1.0).binary(BinaryOp::Max, &start.like(1.0));
                let place = Expr::index(&at[1].offset(behind)).cast(compute) * (size / start.like(dims[2 + axis] as f64));
                let place = place.unary(if behind == 0 { UnaryOp::Floor } else { UnaryOp::Ceil }) + start.clone();
                let place = place.binary(BinaryOp::Max, &start.like(0.0)).binary(BinaryOp::Min, &start.like(extents[2 + axis] as f64));
                place.cast(DType::I64)
            })
        };
        let bins = [0, 1].map(|axis| [ends(axis, 0), ends(axis, 1)]);
        let inside = |b: &expr::Builder, bins: [TensorId; 2], roi: &Affine, bin: &Affine, place: &Affine| {
            let place = Expr::index(place);
            let [first, end] = bins.map(|t| b.load(t, [roi, bin]));
            place.compare(CompareOp::Ge, &first).binary(BinaryOp::And, &place.compare(CompareOp::Lt, &end))
        };
        let least = Expr::constant(compute, f64::NEG_INFINITY);
        let rows = b.reduce(
            ReduceOp::Max,
            &[dims[0], dims[1], dims[2], extents[3]],
            &[extents[2]],
            |b, at, over| {
                let index = b.load(rois, [at[0].clone(), Affine::default()]).cast(DType::I64);
                let value = b.load(image, [Ix::Checked(index), Ix::from(&at[1]), Ix::from(&over[0]), Ix::from(&at[3])]).cast(compute);
                inside(b, bins[0], &at[0], &at[2], &over[0]).select(&value, &least)
            },
            |_, _, greatest| greatest,
        );
        let y = b.reduce(
            ReduceOp::Max,
            &dims,
            &[extents[3]],
            |b, at, over| {
                let value = b.load(rows, [&at[0], &at[1], &at[2], &over[0]]);
                inside(b, bins[1], &at[0], &at[3], &over[0]).select(&value, &least)
            },
            |b, at, greatest| {
                let some = |axis: usize| {
                    let [first, end] = bins[axis].map(|t| b.load(t, [&at[0], &at[2 + axis]]));
                    first.compare(CompareOp::Lt, &end)
                };
                some(0).binary(BinaryOp::And, &some(1)).select(&greatest, &greatest.like(0.0)).cast(dtype)
            },
        );
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn bins_of_regions() {
        let image = || t("f32[1,1,3,4] 0 1 2 3 4 5 6 7 8 9 10 11");
        let op = "MaxRoiPool pooled_shape=[1,2]";
        assert_eq!(check_op(op, [image(), t("f32[2,5] 0 0 0 3 2 0 1 1 1 1")]), [t("f32[2,1,1,2] 9 11 5 5")]);
        // What is outside the image, and an end before the start.
        assert_eq!(check_op(op, [image(), t("f32[2,5] 0 2 0 5 0 0 3 2 1 1")]), [t("f32[2,1,1,2] 3 0 11 11")]);
        let rois = "[3,5] 1 0.6 1.4 9.1 7 0 -3 2 4 30 1 5 5 6 7";
        for dtype in ["f32", "f64", "f16"] {
            let op = "MaxRoiPool pooled_shape=[3,2] spatial_scale=0.5";
            check_op(op, [random(&format!("{dtype}[2,2,5,6]"), 1), t(&format!("{dtype}{rois}"))]);
        }
        assert_eq!(check_error(op, [image(), t("f32[1,4]")]), "regions f32[1,4] of f32[1,1,3,4]");
    }
}

//! `RoiAlign`: regions of an image at one size.
//! Spec: <https://onnx.ai/onnx/operators/onnx__RoiAlign.html>

use super::widen::{FLOATS, wide};
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, Ix, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements};

operator! {
    /// `y[r,c]` is the region `rois[r] = [left, top, right, bottom]` of channel `c` of image `batch_indices[r]`: in each of
    /// `output_height` times `output_width` bins, the mean or the maximum of values between the elements, by bilinear
    /// interpolation.
    RoiAlign(x, rois, batch_indices) -> (y) since [10, 16, 22];
    /// `half_pixel`, or `output_half_pixel`: regions are not moved by half an element, and at least one element large.
    coordinate_transformation_mode: String = "half_pixel",
    /// `avg`, or `max`: the greatest of the weighted neighbours.
    mode: String = "avg",
    /// Bins from top to bottom.
    output_height: i64 = 1,
    /// Bins from left to right.
    output_width: i64 = 1,
    /// Values of a bin along each axis; 0: as many as the bin is elements large, rounded up.
    sampling_ratio: i64 = 0,
    /// Elements of `x` for one unit of `rois`.
    spatial_scale: f32 = 1.0f32,
}

/// Greatest extents, so that places are exact enough in `f32`.
const MAX_EXTENT: usize = 1 << 20;

impl RoiAlign {
    /// Whether regions are moved by half an element.
    fn is_moved(&self) -> bool {
        self.coordinate_transformation_mode == "half_pixel"
    }
}

/// Values that have weight at one element of an axis, where their distance is at least a half: places within one of it, and a margin.
const NEAR: usize = 8;

impl RoiAlign {
    /// Means of as many values as bins are large: weights of rows and of columns are apart, as every value of a bin is a row by a column.
    fn adaptive(&self, x: &Operands) -> Tensor {
        let (image, rois, images) = (x.tensor(0).to_f64s(), x.tensor(1).to_f64s(), x.tensor(2).to_ints());
        let [_, channels, height, width]: [usize; 4] = x.tensor(0).dims().try_into().expect("four axes");
        let bins = [self.output_height as usize, self.output_width as usize];
        // Counts depend on rounding: it is that of the type.
        let exact = |v: f64| if x.tensor(0).dtype() == DType::F64 { v } else { f64::from(v as f32) };
        let weights = |roi: usize, bin: usize, axis: usize, extent: usize| {
            let end = |k: usize| exact(exact(rois[roi * 4 + k] * f64::from(self.spatial_scale)) - if self.is_moved() { 0.5 } else { 0.0 });
            let (start, end) = (end(1 - axis), end(3 - axis));
            let size = exact(end - start);
            let size = exact(if self.is_moved() { size } else { size.max(1.0) } / bins[axis] as f64);
            let count = size.ceil().max(0.0);
            let first = start + bin as f64 * size;
            let step = size / count;
            let mut weights = vec![0.0; extent];
            let mut sample = if count > 1.0 { ((-2.0 - first) / step).floor().max(0.0) } else { 0.0 };
            while sample < count {
                let at = first + (sample + 0.5) * step;
                if at > extent as f64 {
                    break;
                }
                if at >= -1.0 {
                    let at = at.clamp(0.0, (extent - 1) as f64);
                    let low = at.floor() as usize;
                    weights[low] += 1.0 - (at - low as f64);
                    weights[(low + 1).min(extent - 1)] += at - low as f64;
                }
                sample += 1.0;
            }
            (weights, count)
        };
        let dims = [images.len(), channels, bins[0], bins[1]];
        let mut out = vec![0.0; n_elements(&dims)];
        for_each_index(&dims, |flat, i| {
            let channel = &image[(images[i[0]] as usize * channels + i[1]) * height * width..][..height * width];
            let ((rows, n_rows), (columns, n_columns)) = (weights(i[0], i[2], 0, height), weights(i[0], i[3], 1, width));
            let row = |y: usize| (0..width).map(|x| columns[x] * channel[y * width + x]).sum::<f64>();
            let sum: f64 = (0..height).map(|y| rows[y] * row(y)).sum();
            out[flat] = sum / (n_rows * n_columns).max(1.0);
        });
        Tensor::from_f64s(x.tensor(0).dtype(), &dims, &out)
    }

    /// As [`Self::adaptive`]: two products, over rows and over columns.
    fn lower_adaptive(&self, b: &mut expr::Builder, x: &Args<'_>) -> TensorId {
        let (image, rois, images) = (x.tensor(0), x.tensor(1), x.tensor(2));
        let (dtype, extents, dims) = (b.dtype(image), x.dims(0), x.result_dims(0));
        let compute = wide(dtype);
        // Where a region begins, how large its bins are, and how many values they have, along an axis.
        let mut grid = |axis: usize| {
            b.compute(&[dims[0], 3], |b, at| {
                let is = |n: i64| Expr::index(&at[1]).compare(CompareOp::Eq, &Expr::int(DType::I64, n));
                let shift = if self.is_moved() { 0.5 } else { 0.0 };
                let end = |k: usize| {
                    b.load(rois, [at[0].clone(), Affine::constant(k as i64)]).cast(compute) * f64::from(self.spatial_scale) - shift
                };
                let (start, end) = (end(1 - axis), end(3 - axis));
                let size = &end - &start;
                let size = if self.is_moved() { size } else { size.binary(BinaryOp::Max, &size.like(1.0)) };
                let size = &size / &size.like(dims[2 + axis] as f64);
                let count = size.unary(UnaryOp::Ceil).binary(BinaryOp::Max, &size.like(0.0));
                is(0).select(&start, &is(1).select(&size, &count))
            })
        };
        let grids = [grid(0), grid(1)];
        let mut weights = |axis: usize| {
            let extent = extents[2 + axis];
            b.reduce(
                ReduceOp::Sum,
                &[dims[0], dims[2 + axis], extent],
                &[NEAR],
                |b, at, over| {
                    let part = |k: i64| b.load(grids[axis], [at[0].clone(), Affine::constant(k)]);
                    let (start, size, count) = (part(0), part(1), part(2));
                    let number = |a: &Affine| Expr::index(a).cast(compute);
                    let first = start + number(&at[1]) * size.clone();
                    let step = &size / &count.binary(BinaryOp::Max, &count.like(1.0));
                    let place = number(&at[2]);
                    // The first value that may be near, of several; of one it is that.
                    let nearest = ((&place - &first - 1.0) / step.clone() - 0.5).unary(UnaryOp::Floor) - 1.0;
                    let several = count.compare(CompareOp::Gt, &count.like(1.0));
                    let sample = several.select(&nearest, &count.like(0.0)) + number(&over[0]);
                    let there =
                        sample.compare(CompareOp::Ge, &count.like(0.0)).binary(BinaryOp::And, &sample.compare(CompareOp::Lt, &count));
                    let at = first + (sample + 0.5) * step;
                    let inside = at
                        .compare(CompareOp::Ge, &at.like(-1.0))
                        .binary(BinaryOp::And, &at.compare(CompareOp::Le, &at.like(extent as f64)));
                    let at = at.binary(BinaryOp::Max, &at.like(0.0)).binary(BinaryOp::Min, &at.like((extent - 1) as f64));
                    let distance = (&at - &place).binary(BinaryOp::Max, &(&place - &at));
                    let weight = (distance.like(1.0) - distance).binary(BinaryOp::Max, &at.like(0.0));
                    there.binary(BinaryOp::And, &inside).select(&weight, &weight.like(0.0))
                },
                |_, _, sum| sum,
            )
        };
        let [rows, columns] = [weights(0), weights(1)];
        let partial = b.reduce(
            ReduceOp::Sum,
            &[dims[0], dims[1], dims[2], extents[3]],
            &[extents[2]],
            |b, at, over| {
                let index = b.load(images, [at[0].clone()]);
                let value = b.load(image, [Ix::Checked(index), Ix::from(&at[1]), Ix::from(&over[0]), Ix::from(&at[3])]).cast(compute);
                b.load(rows, [&at[0], &at[2], &over[0]]) * value
            },
            |_, _, sum| sum,
        );
        b.reduce(
            ReduceOp::Sum,
            &dims,
            &[extents[3]],
            |b, at, over| b.load(columns, [&at[0], &at[3], &over[0]]) * b.load(partial, [&at[0], &at[1], &at[2], &over[0]]),
            |b, at, sum| {
                let counts = grids.map(|grid| b.load(grid, [at[0].clone(), Affine::constant(2)]));
                let all = &counts[0] * &counts[1];
                (sum / all.binary(BinaryOp::Max, &all.like(1.0))).cast(dtype)
            },
        )
    }
}

impl Operator for RoiAlign {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, FLOATS)?;
        x.require_same_dtype(1, 0)?;
        x.require_dtype(2, &[DType::I64])?;
        let (image, rois, indices) = (x.dims(0)?, x.dims(1)?, x.dims(2)?);
        if image.len() != 4 || rois.len() != 2 || rois[1] != 4 || indices != [rois[0]] {
            return Err(InferError::Invalid(format!("regions {} of images {} for {}", x.ty(1)?, x.ty(2)?, x.ty(0)?)));
        }
        if !matches!(&self.coordinate_transformation_mode[..], "half_pixel" | "output_half_pixel") {
            return Err(InferError::Invalid(format!("`coordinate_transformation_mode` is `{}`", self.coordinate_transformation_mode)));
        }
        if !matches!(&self.mode[..], "avg" | "max") {
            return Err(InferError::Invalid(format!("`mode` is `{}`", self.mode)));
        }
        if self.sampling_ratio == 0 && self.mode == "max" {
            return Err(InferError::Unsupported("`sampling_ratio` 0 (as many values as the region is large) with `mode` `max`".to_owned()));
        }
        let sizes = [self.output_height, self.output_width, self.sampling_ratio.max(1)];
        if sizes.iter().any(|&n| !(1..=1 << 12).contains(&n)) || image[2..].iter().any(|&d| d == 0 || d > MAX_EXTENT) {
            return Err(InferError::Unsupported(format!("bins, and values in each, of {sizes:?} over {}", x.ty(0)?)));
        }
        Ok(vec![Type::fixed(dtype, &[rois[0], image[1], self.output_height as usize, self.output_width as usize])])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if axes.operands.len() == 3 && axes.operands[1..].iter().all(|labels| !labels.is_empty()) {
            // Every region gives its own part of the result.
            axes.operands[1][0] = Some(0);
            axes.operands[2][0] = Some(0);
            axes.results = vec![vec![Some(0), None, None, None]];
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (image, rois, images) = (x.tensor(0).to_f64s(), x.tensor(1).to_f64s(), x.tensor(2).to_ints());
        let [n, channels, height, width]: [usize; 4] = x.tensor(0).dims().try_into().expect("four axes");
        if let Some(&index) = images.iter().find(|&&i| !(0..n as i128).contains(&i)) {
            return Err(EvalError::IndexOutOfRange { index: index as i64, extent: n });
        }
        let bins = [self.output_height as usize, self.output_width as usize];
        if self.sampling_ratio == 0 {
            return Ok(vec![self.adaptive(x)]);
        }
        let samples = self.sampling_ratio as usize;
        let dims = [images.len(), channels, bins[0], bins[1]];
        let mut out = vec![0.0; n_elements(&dims)];
        // Neighbours of a place along an axis, and their weights.
        let neighbours = |at: f64, extent: usize| {
            if !(-1.0..=extent as f64).contains(&at) {
                return [(0, 0.0); 2];
            }
            let at = at.clamp(0.0, (extent - 1) as f64);
            let low = at.floor();
            [(low as usize, 1.0 - (at - low)), ((low as usize + 1).min(extent - 1), at - low)]
        };
        for_each_index(&dims, |flat, i| {
            let channel = &image[(images[i[0]] as usize * channels + i[1]) * height * width..][..height * width];
            let place = |axis: usize, sample: usize| {
                let end = |k: usize| rois[i[0] * 4 + k] * f64::from(self.spatial_scale) - if self.is_moved() { 0.5 } else { 0.0 };
                let (start, end) = (end(1 - axis), end(3 - axis));
                let size = if self.is_moved() { end - start } else { (end - start).max(1.0) };
                let bin = size / bins[axis] as f64;
                start + i[2 + axis] as f64 * bin + (sample as f64 + 0.5) * bin / samples as f64
            };
            let (mut sum, mut greatest) = (0.0, f64::NEG_INFINITY);
            for sample in 0..samples * samples {
                for (y, wy) in neighbours(place(0, sample / samples), height) {
                    for (x, wx) in neighbours(place(1, sample % samples), width) {
                        let value = wy * wx * channel[y * width + x];
                        sum += value;
                        greatest = greatest.max(value);
                    }
                }
            }
            out[flat] = if self.mode == "max" { greatest } else { sum / (samples * samples) as f64 };
        });
        Ok(vec![Tensor::from_f64s(x.tensor(0).dtype(), &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (image, rois, images) = (x.tensor(0), x.tensor(1), x.tensor(2));
        let (dtype, extents, dims) = (b.dtype(image), x.dims(0), x.result_dims(0));
        let compute = wide(dtype);
        if self.sampling_ratio == 0 {
            return Ok(vec![self.lower_adaptive(b, x)]);
        }
        let samples = self.sampling_ratio as usize;
        // Where the first value of the first bin is, and the distances of bins and of values: by region, axis, and which of the three.
        let grid = b.compute(&[dims[0], 2, 3], |b, at| {
            let number = |v: f64| Expr::constant(compute, v);
            let is = |a: &Affine, n: i64| Expr::index(a).compare(CompareOp::Eq, &Expr::int(DType::I64, n));
            let coordinate = |k: i64| b.load(rois, [at[0].clone(), Affine::constant(k)]).cast(compute) * f64::from(self.spatial_scale);
            let pick = |vertical: i64, horizontal: i64| is(&at[1], 0).select(&coordinate(vertical), &coordinate(horizontal));
            let shift = if self.is_moved() { 0.5 } else { 0.0 };
            let (start, end) = (pick(1, 0) - shift, pick(3, 2) - shift);
            let size = &end - &start;
            let size = if self.is_moved() { size } else { size.binary(BinaryOp::Max, &size.like(1.0)) };
            let bins = is(&at[1], 0).select(&number(dims[2] as f64), &number(dims[3] as f64));
            let bin = &size / &bins;
            let step = &bin * (1.0 / samples as f64);
            let first = &start + &(&step * 0.5);
            is(&at[2], 0).select(&first, &is(&at[2], 1).select(&bin, &step))
        });
        let place = |b: &expr::Builder, at: &[Affine], sample: &Affine, axis: usize| {
            let part = |k: i64| b.load(grid, [at[0].clone(), Affine::constant(axis as i64), Affine::constant(k)]);
            let count = |a: &Affine| Expr::index(a).cast(compute);
            part(0) + count(&at[2 + axis]) * part(1) + count(sample) * part(2)
        };
        // Neighbours of a place along an axis, and their weights.
        let neighbours = |at: &Expr, extent: usize| {
            let inside =
                at.compare(CompareOp::Ge, &at.like(-1.0)).binary(BinaryOp::And, &at.compare(CompareOp::Le, &at.like(extent as f64)));
            let at = at.binary(BinaryOp::Max, &at.like(0.0)).binary(BinaryOp::Min, &at.like((extent - 1) as f64));
            let low = at.unary(UnaryOp::Floor);
            let rest = &at - &low;
            let index = low.cast(DType::I64);
            let weight = |w: Expr| inside.select(&w, &w.like(0.0));
            let next = index.binary(BinaryOp::Add, &Expr::int(DType::I64, 1));
            [(index, weight(rest.like(1.0) - rest.clone())), (next, weight(rest))]
        };
        let is_max = self.mode == "max";
        let y = b.reduce(
            if is_max { ReduceOp::Max } else { ReduceOp::Sum },
            &dims,
            &[samples, samples],
            |b, at, over| {
                let [rows, columns] = [0, 1].map(|axis| neighbours(&place(b, at, &over[axis], axis), extents[2 + axis]));
                let mut all: Option<Expr> = None;
                for (y, wy) in &rows {
                    for (x, wx) in &columns {
                        let index = b.load(images, [at[0].clone()]);
                        let index = [Ix::Checked(index), Ix::from(&at[1]), Ix::Clamped(y.clone()), Ix::Clamped(x.clone())];
                        let value = &(wy * wx) * &b.load(image, index).cast(compute);
                        all = Some(all.map_or(value.clone(), |all| if is_max { all.binary(BinaryOp::Max, &value) } else { all + value }));
                    }
                }
                all.expect("four neighbours")
            },
            |_, _, all| if is_max { all } else { all * (1.0 / (samples * samples) as f64) }.cast(dtype),
        );
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn regions() {
        let image = "f32[1,1,4,4] 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15";
        let op = "RoiAlign sampling_ratio=1 output_height=2 output_width=2";
        // Middles of the four quarters.
        let y = Check::new(op).run([t(image), t("f32[1,4] 0.5 0.5 4.5 4.5"), t("i64[1] 0")]);
        assert_eq!(y, [t("f32[1,1,2,2] 5 7 13 15")]);
        let error = check_error("RoiAlign mode=\"max\"", [t(image), t("f32[1,4] 0 0 4 4"), t("i64[1] 0")]);
        assert_eq!(error, "`sampling_ratio` 0 (as many values as the region is large) with `mode` `max`");
    }

    #[test]
    fn bins_have_as_many_values_as_they_are_large() {
        let image = "f32[1,1,4,4] 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15";
        // The whole image in one bin: four by four values, which are its elements.
        let y = Check::new("RoiAlign").run([t(image), t("f32[1,4] 0 0 4 4"), t("i64[1] 0")]);
        assert_eq!(y, [t("f32[1,1,1,1] 7.5")]);
        // A region without extent has no values; one outside the image has zeros.
        let y = Check::new("RoiAlign").run([t(image), t("f32[2,4] 2 1 2 3 9 9 20 20"), t("i64[2] 0 0")]);
        assert_eq!(y, [t("f32[2,1,1,1] 0 0")]);
        let rois = || t("f32[5,4] 0.3 0.7 4.1 3.2 -3 -2 1 1 2 2 2.4 2.3 3 4 1 2 -40 -30 90 70");
        for place in ["half_pixel", "output_half_pixel"] {
            let op = format!("RoiAlign coordinate_transformation_mode=\"{place}\" output_height=3 output_width=2 spatial_scale=0.75");
            Check::new(&op).bound(1e-3, 1e-3).run([random("f32[2,3,5,4]", 1), rois(), t("i64[5] 1 0 0 1 0")]);
        }
        let rois = t("f64[1,4] 0.3 0.7 4.1 3.2");
        Check::new("RoiAlign output_width=2").bound(1e-3, 1e-3).run([random("f64[1,2,5,1]", 1), rois, t("i64[1] 0")]);
    }

    #[test]
    fn all_forms_agree() {
        let rois = || t("f32[4,4] 0.3 0.7 4.1 3.2 -3 -2 1 1 2 2 2 2 5 5 90 70");
        for mode in ["avg", "max"] {
            for place in ["half_pixel", "output_half_pixel"] {
                let op = format!(
                    "RoiAlign mode=\"{mode}\" coordinate_transformation_mode=\"{place}\" sampling_ratio=2 output_height=3 output_width=2"
                );
                let check = Check::new(&format!("{op} spatial_scale=0.75")).bound(1e-3, 1e-3);
                check.run([random("f32[2,3,5,4]", 1), rois(), t("i64[4] 1 0 0 1")]);
            }
        }
        let rois = t("f64[1,4] 0.3 0.7 4.1 3.2");
        Check::new("RoiAlign sampling_ratio=3").bound(1e-3, 1e-3).run([random("f64[1,2,5,4]", 1), rois, t("i64[1] 0")]);
    }
}

//! `CropAndResize`: boxes of images at one size.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.CropAndResize>

use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, Ix, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements};

operator! {
    /// `y[r,c]` is the box `rois[r] = [top, left, bottom, right]`, 0 to 1 over the middles of the outermost elements, of channel `c` of image
    /// `batch_indices[r]`, between the elements.
    CropAndResize(x, rois, batch_indices, crop_size) -> (y) since [1] in "com.microsoft";
    /// What is outside the image.
    extrapolation_value: f32 = 0.0f32,
    /// `bilinear` or `nearest`.
    mode: String = "bilinear",
}

/// Greatest extents, so that places are exact enough in `f32`.
const MAX_EXTENT: usize = 1 << 20;

impl Operator for CropAndResize {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &[DType::F32])?;
        x.require_dtype(1, &[DType::F32])?;
        x.require_dtype(2, &[DType::I32])?;
        let (image, rois, images) = (x.dims(0)?, x.dims(1)?, x.dims(2)?);
        if image.len() != 4
            || rois.len() != 2
            || rois[1] != 4
            || images != [rois[0]]
            || image[2..].iter().any(|&d| d == 0 || d > MAX_EXTENT)
        {
            return Err(InferError::Invalid(format!("boxes {} of images {} for {}", x.ty(1)?, x.ty(2)?, x.ty(0)?)));
        }
        if !matches!(&self.mode[..], "bilinear" | "nearest") {
            return Err(InferError::Invalid(format!("`mode` is `{}`", self.mode)));
        }
        match x.ints(3)?[..] {
            [h, w] if (1..=1 << 16).contains(&h) && (1..=1 << 16).contains(&w) => {
                Ok(vec![Type::fixed(DType::F32, &[rois[0], image[1], h as usize, w as usize])])
            }
            _ => Err(InferError::Invalid("`crop_size` is not two extents".to_owned())),
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let dims = self.infer(x).map_err(|e| EvalError::Invalid(e.to_string()))?[0].dims().expect("fixed extents");
        let (image, rois, images) = (x.tensor(0).to_f64s(), x.tensor(1).to_f64s(), x.tensor(2).to_ints());
        let [n, channels, height, width]: [usize; 4] = x.tensor(0).dims().try_into().expect("four axes");
        if let Some(&index) = images.iter().find(|&&i| !(0..n as i128).contains(&i)) {
            return Err(EvalError::IndexOutOfRange { index: index as i64, extent: n });
        }
        let mut out = vec![0.0; n_elements(&dims)];
        for_each_index(&dims, |flat, i| {
            let channel = &image[(images[i[0]] as usize * channels + i[1]) * height * width..][..height * width];
            let place = |axis: usize, extent: usize| {
                let (start, end) = (rois[i[0] * 4 + axis], rois[i[0] * 4 + axis + 2]);
                let last = (extent - 1) as f64;
                let at = match dims[2 + axis] {
                    1 => 0.5 * (start + end) * last,
                    n => start * last + i[2 + axis] as f64 * ((end - start) * last / (n - 1) as f64),
                };
                (0.0..=last).contains(&at).then_some(at)
            };
            let value = |y: f64, x: f64| channel[y as usize * width + x as usize];
            out[flat] = match (place(0, height), place(1, width)) {
                (Some(y), Some(x)) if self.mode == "nearest" => value(y.round(), x.round()),
                (Some(y), Some(x)) => {
                    let (dy, dx) = (y - y.floor(), x - x.floor());
                    let row = |y: f64| value(y, x.floor()) * (1.0 - dx) + value(y, x.ceil()) * dx;
                    row(y.floor()) * (1.0 - dy) + row(y.ceil()) * dy
                }
                _ => self.extrapolation_value.into(),
            };
        });
        Ok(vec![Tensor::from_f64s(DType::F32, &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (image, rois, images) = (x.tensor(0), x.tensor(1), x.tensor(2));
        let (extents, dims) = (x.dims(0), x.result_dims(0));
        let number = |v: f64| Expr::constant(DType::F32, v);
        let y = b.compute(&dims, |b, at| {
            let mut inside: Option<Expr> = None;
            let mut places = vec![];
            for axis in 0..2 {
                let corner = |k: usize| b.load(rois, [at[0].clone(), Affine::constant(k as i64)]);
                let (start, end) = (corner(axis), corner(axis + 2));
                let last = (extents[2 + axis] - 1) as f64;
                let place = match dims[2 + axis] {
                    1 => (&start + &end) * 0.5 * last,
                    n => &start * last + Expr::index(&at[2 + axis]).cast(DType::F32) * ((&end - &start) * last / number((n - 1) as f64)),
                };
                let here = place.compare(CompareOp::Ge, &number(0.0)).binary(BinaryOp::And, &place.compare(CompareOp::Le, &number(last)));
                inside = Some(inside.map_or(here.clone(), |i| i.binary(BinaryOp::And, &here)));
                places.push(place);
            }
            let value = |y: &Expr, x: &Expr| {
                let image_of = Ix::Checked(b.load(images, [at[0].clone()]).cast(DType::I64));
                b.load(image, [image_of, Ix::from(&at[1]), Ix::Clamped(y.cast(DType::I64)), Ix::Clamped(x.cast(DType::I64))])
            };
            let low: Vec<Expr> = places.iter().map(|p| p.unary(UnaryOp::Floor)).collect();
            let rest: Vec<Expr> = places.iter().zip(&low).map(|(p, l)| p - l).collect();
            let found = if self.mode == "nearest" {
                // Halves go away from zero.
                let near: Vec<Expr> =
                    low.iter().zip(&rest).map(|(l, r)| r.compare(CompareOp::Ge, &number(0.5)).select(&(l + 1.0), l)).collect();
                value(&near[0], &near[1])
            } else {
                let row = |y: &Expr| value(y, &low[1]) * (number(1.0) - rest[1].clone()) + value(y, &(&low[1] + 1.0)) * rest[1].clone();
                row(&low[0]) * (number(1.0) - rest[0].clone()) + row(&(&low[0] + 1.0)) * rest[0].clone()
            };
            inside.expect("two axes").select(&found, &number(self.extrapolation_value.into()))
        });
        Ok(vec![y])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn boxes() {
        let x = |mode: &str, rois: &str, size: &str| {
            let check = Check::new(&format!("com.microsoft.CropAndResize mode=\"{mode}\" extrapolation_value=-1.0"));
            check.run([t("f32[1,1,2,3] 0 1 2 3 4 5"), t(rois), t("i32[1] 0"), t(size)]).remove(0)
        };
        assert_eq!(x("bilinear", "f32[1,4] 0 0 1 1", "i32[2] 2 3"), t("f32[1,1,2,3] 0 1 2 3 4 5"));
        assert_eq!(x("bilinear", "f32[1,4] 0 0.25 1 0.75", "i32[2] 1 2"), t("f32[1,1,1,2] 2 3"));
        assert_eq!(x("bilinear", "f32[1,4] 0 0.5 0 1.5", "i32[2] 1 3"), t("f32[1,1,1,3] 1 2 -1"));
        assert_eq!(x("nearest", "f32[1,4] 0 0 1 0.25", "i32[2] 2 2"), t("f32[1,1,2,2] 0 1 3 4"));
        let rois = t("f32[3,4] 0.1 0.2 0.7 0.9 -0.5 0 0.5 1 0.9 0.9 0.2 0.1");
        for mode in ["bilinear", "nearest"] {
            let op = format!("com.microsoft.CropAndResize mode=\"{mode}\"");
            Check::new(&op).bound(1e-3, 1e-3).run([random("f32[2,3,5,7]", 1), rois.clone(), t("i32[3] 1 0 1"), t("i32[2] 4 3")]);
        }
        let error = check_error("com.microsoft.CropAndResize", [t("f32[1,1,2,2]"), t("f32[1,3]"), t("i32[1]"), t("i32[2] 1 1")]);
        assert_eq!(error, "boxes f32[1,3] of images i32[1] for f32[1,1,2,2]");
    }
}

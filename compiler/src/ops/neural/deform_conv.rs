//! `DeformConv`: convolution whose taps are moved by offsets that data gives.
//! Spec: <https://onnx.ai/onnx/operators/onnx__DeformConv.html>

use super::widen::{FLOATS, load_wide, require_vector, wide};
use super::window::{Window, WindowAttributes, list, spatial};
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, Ix, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type, for_each_index, n_elements};

operator! {
    /// As `Conv` over two spatial axes, where each tap of each window reads `x` at its place plus an offset, between elements
    /// by bilinear interpolation, and is multiplied by `mask`. Outside `x` is 0.
    ///
    /// `offset: T[n, offset_group * kh * kw * 2, oh, ow]`, `mask: T[n, offset_group * kh * kw, oh, ow]`.
    DeformConv(x, w, offset, "b?", "mask?") -> (y) since [19, 22];
    /// Distance of neighbouring taps; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Number of groups of channels.
    group: i64 = 1,
    /// Extents of the window; those of `w` by default.
    kernel_shape: Vec<i64> = Vec::<i64>::new(),
    /// Number of groups of channels that share offsets.
    offset_group: i64 = 1,
    /// Padding, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

/// Extents.
struct Plan {
    window: Window,
    /// Images, groups, filters and channels in a group.
    n: usize,
    groups: usize,
    filters: usize,
    channels: usize,
    /// Groups of offsets, and the channels of each.
    offset_groups: usize,
    per_offset: usize,
}

impl DeformConv {
    fn plan(&self, x: &Operands) -> Result<Plan, InferError> {
        let (image, w) = (x.dims(0)?, x.dims(1)?);
        let input = spatial(x)?;
        if input.len() != 2 || w.len() != 4 {
            return Err(InferError::Unsupported(format!("weights {} over {}: not two spatial axes", x.ty(1)?, x.ty(0)?)));
        }
        let kernel = list(&self.kernel_shape, 2, 0, 1, "kernel_shape")?;
        if kernel != [0, 0] && kernel != w[2..] {
            return Err(InferError::Invalid(format!("`kernel_shape` is {kernel:?}, but the weights are {}", x.ty(1)?)));
        }
        let attributes =
            WindowAttributes { strides: &self.strides, dilations: &self.dilations, pads: &self.pads, auto_pad: "", ceil_mode: false };
        let window = Window::new(&input, &w[2..], &attributes)?;
        let [groups, offset_groups] = [self.group, self.offset_group].map(|g| usize::try_from(g).unwrap_or(0));
        let fits = groups > 0 && offset_groups > 0 && w[0].is_multiple_of(groups) && image[1].is_multiple_of(offset_groups);
        if !fits || image[1] != w[1] * groups {
            let message = format!("weights {} in {groups} groups, offsets in {offset_groups}, for {}", x.ty(1)?, x.ty(0)?);
            return Err(InferError::Invalid(message));
        }
        Ok(Plan {
            window,
            n: image[0],
            groups,
            filters: w[0] / groups,
            channels: w[1],
            offset_groups,
            per_offset: image[1] / offset_groups,
        })
    }
}

impl Operator for DeformConv {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, FLOATS)?;
        for i in (1..5).filter(|&i| x.has(i)) {
            x.require_same_dtype(i, 0)?;
        }
        let p = self.plan(x)?;
        let places = p.offset_groups * n_elements(&p.window.kernel);
        for (i, per_place) in [(2, 2), (4, 1)] {
            let dims = [&[p.n, places * per_place], &p.window.output[..]].concat();
            if x.has(i) && x.dims(i)? != dims {
                return Err(InferError::Invalid(format!("operand {i} is {}, expected {dims:?}", x.ty(i)?)));
            }
        }
        x.ty(2)?;
        if x.has(3) {
            require_vector(&x.ty(3)?.shape.0, &Dim::Fixed(p.groups * p.filters), "the bias")?;
        }
        Ok(vec![Type::fixed(dtype, &[&[p.n, p.groups * p.filters], &p.window.output[..]].concat())])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let p = self.plan(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let [image, w, offset] = [0, 1, 2].map(|i| x.tensor(i).to_f64s());
        let (bias, mask) = (x.tensor_opt(3).map(Tensor::to_f64s), x.tensor_opt(4).map(Tensor::to_f64s));
        let ([height, width], [kh, kw], [oh, ow]) = [&p.window.input, &p.window.kernel, &p.window.output].map(|d| [d[0], d[1]]).into();
        let (taps, plane) = (kh * kw, oh * ow);
        let all = p.groups * p.channels;
        // What is at a place of a channel, between its elements.
        let at = |channel: usize, y: f64, x: f64| {
            let (top, left) = (y.floor(), x.floor());
            let mut sum = 0.0;
            for (i, j) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
                let (r, c) = (top + i, left + j);
                if (0.0..height as f64).contains(&r) && (0.0..width as f64).contains(&c) {
                    let weight = (1.0 - (y - r).abs()) * (1.0 - (x - c).abs());
                    sum += weight * image[channel * height * width + r as usize * width + c as usize];
                }
            }
            sum
        };
        let dims = [p.n, p.groups * p.filters, oh, ow];
        let mut out = vec![0.0; n_elements(&dims)];
        for_each_index(&dims, |flat, i| {
            let (image_at, filter, pixel) = (i[0], i[1], i[2] * ow + i[3]);
            let mut sum = bias.as_ref().map_or(0.0, |b| b[filter]);
            for c in 0..p.channels {
                let channel = filter / p.filters * p.channels + c;
                let group = channel / p.per_offset;
                for tap in 0..taps {
                    let place = (image_at * p.offset_groups + group) * taps + tap;
                    let moved = |axis: usize, step: usize| {
                        let base = i[2 + axis] * p.window.strides[axis] + step * p.window.dilations[axis];
                        base as f64 - p.window.begin[axis] as f64 + offset[(place * 2 + axis) * plane + pixel]
                    };
                    let value = at(image_at * all + channel, moved(0, tap / kw), moved(1, tap % kw));
                    sum += value * w[(filter * p.channels + c) * taps + tap] * mask.as_ref().map_or(1.0, |m| m[place * plane + pixel]);
                }
            }
            out[flat] = sum;
        });
        Ok(vec![Tensor::from_f64s(x.tensor(0).dtype(), &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let p = self.plan(x.facts)?;
        let (dtype, n) = (b.dtype(x.tensor(0)), p.n);
        let compute = wide(dtype);
        let (input, kernel, output) = (p.window.input.clone(), p.window.kernel.clone(), p.window.output.clone());
        let image = b.reshape(x.tensor(0), &[&[n, p.offset_groups, p.per_offset], &input[..]].concat());
        let places = [&[n, p.offset_groups], &kernel[..]].concat();
        let offset = b.reshape(x.tensor(2), &[&places[..], &[2], &output[..]].concat());
        let mask = x.get(4).map(|m| b.reshape(m, &[&places[..], &output[..]].concat()));

        // What every tap reads, over image, group of offsets, channel, tap, window.
        let taps = [&[n, p.offset_groups, p.per_offset], &kernel[..], &output[..]].concat();
        let read = b.compute(&taps, |b, at| {
            let place: Vec<Expr> = (0..2)
                .map(|axis| {
                    let from = p.window.taps(&at[5..], &at[3..5]).swap_remove(axis);
                    let index = [&at[..2], &at[3..5], &[Affine::constant(axis as i64)], &at[5..]].concat();
                    Expr::index(&from).cast(compute) + b.load(offset, index).cast(compute)
                })
                .collect();
            let first: Vec<Expr> = place.iter().map(|v| v.unary(UnaryOp::Floor)).collect();
            let mut sum: Option<Expr> = None;
            for corner in [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] {
                let mut index: Vec<Ix> = at[..3].iter().map(Ix::from).collect();
                let mut weight: Option<Expr> = None;
                for axis in 0..2 {
                    let element = &first[axis] + corner[axis];
                    let rest = &place[axis] - &first[axis];
                    let share = if corner[axis] > 0.0 { rest } else { rest.like(1.0) - rest };
                    let inside = element
                        .compare(CompareOp::Ge, &element.like(0.0))
                        .binary(BinaryOp::And, &element.compare(CompareOp::Lt, &element.like(input[axis] as f64)));
                    let share = inside.select(&share, &share.like(0.0));
                    weight = Some(weight.map_or(share.clone(), |w| w * share));
                    index.push(Ix::Clamped(element.cast(DType::I64)));
                }
                let value = b.load(image, index).cast(compute) * weight.expect("two axes");
                sum = Some(sum.map_or(value.clone(), |s| s + value));
            }
            let sum = sum.expect("four corners");
            match mask {
                Some(mask) => sum * b.load(mask, [&at[..2], &at[3..]].concat()).cast(compute),
                None => sum,
            }
        });

        let read = b.reshape(read, &[&[n, p.groups, p.channels], &kernel[..], &output[..]].concat());
        let w = b.reshape(x.tensor(1), &[&[p.groups, p.filters, p.channels], &kernel[..]].concat());
        let bias = x.get(3).map(|bias| b.reshape(bias, &[p.groups, p.filters]));
        let y = b.reduce(
            ReduceOp::Sum,
            &[&[n, p.groups, p.filters], &output[..]].concat(),
            &[&[p.channels], &kernel[..]].concat(),
            |b, at, over| b.load(read, [&at[..2], over, &at[3..]].concat()) * load_wide(b, w, &[&at[1..3], over].concat()),
            |b, at, sum| bias.map_or(sum.clone(), |bias| sum + load_wide(b, bias, &at[1..3])).cast(dtype),
        );
        Ok(vec![b.reshape(y, &x.result_dims(0))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn taps_move() {
        let image = "f32[1,1,3,3] 0 1 2 3 4 5 6 7 8";
        let offset = "f32[1,8,2,2] 0.5 0 0 0  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0 0  0 0 0 0  0 0 -9 0";
        let y = check_op("DeformConv", [t(image), t("f32[1,1,2,2] 1 1 1 1"), t(offset)]);
        // The first tap of the first window half a row down; the last tap of the third window far outside.
        assert_eq!(y, [t("f32[1,1,2,2] 9.5 12 13 24")]);
    }

    #[test]
    fn all_forms_agree() {
        let check = |op: &str| Check::new(op).bound(1e-3, 1e-3);
        let x = |image, w, offset| vec![Some(random(image, 1)), Some(random(w, 2)), Some(random(offset, 3))];
        check("DeformConv").run(x("f32[2,2,5,4]", "f32[3,2,2,2]", "f32[2,8,4,3]"));
        check("DeformConv pads=[1,0,1,1] strides=[2,1] dilations=[1,2]").run(x("f32[1,2,5,4]", "f32[3,2,2,2]", "f32[1,8,3,3]"));
        let mut all = x("f32[1,4,4,4]", "f32[6,2,2,2]", "f32[1,16,3,3]");
        all.extend([Some(random("f32[6]", 4)), Some(random("f32[1,8,3,3]", 5))]);
        check("DeformConv group=2 offset_group=2").run(all);
        let mut masked = x("f64[1,4,3,3]", "f64[2,4,1,2]", "f64[1,4,3,2]");
        masked.extend([None, Some(random("f64[1,2,3,2]", 5))]);
        check("DeformConv").run(masked);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let error = check_error("DeformConv", [t("f32[1,1,3,3]"), t("f32[1,1,2,2]"), t("f32[1,4,2,2]")]);
        assert_eq!(error, "operand 2 is f32[1,4,2,2], expected [1, 8, 2, 2]");
        let error = check_error("DeformConv", [t("f32[1,1,3]"), t("f32[1,1,2]"), t("f32[1,2,2]")]);
        assert_eq!(error, "weights f32[1,1,2] over f32[1,1,3]: not two spatial axes");
    }
}

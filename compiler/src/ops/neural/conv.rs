//! `Conv`: convolution over any number of spatial axes.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Conv.html>

use super::widen::{Squeezed, load_summed, load_wide, require_equal, require_vector, scaled_add, summed};
use super::window::{Window, WindowAttributes, spatial};
use crate::expr::{self, Expr, ReduceOp, TensorId};
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type, n_elements};

/// Declares a convolution: [`operator!`] with the attributes of `Conv` after its own, and a method `conv` that gives the `Conv` of these.
macro_rules! convolution {
    (@attributes $($head:tt)*) => {
        $crate::operator! {
            $($head)*
            /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
            auto_pad: String = "NOTSET",
            /// Distance of neighbouring taps; 1 by default.
            dilations: Vec<i64> = Vec::<i64>::new(),
            /// Number of groups of channels.
            group: i64 = 1,
            /// Extents of the window; those of `w` by default.
            kernel_shape: Vec<i64> = Vec::<i64>::new(),
            /// Padding, all in front, then all behind; 0 by default.
            pads: Vec<i64> = Vec::<i64>::new(),
            /// Distance of neighbouring windows; 1 by default.
            strides: Vec<i64> = Vec::<i64>::new(),
        }
    };
    ($(#[$($doc:tt)*])+ $name:ident $($rest:tt)*) => {
        $crate::ops::neural::convolution! { @attributes $(#[$($doc)*])+ $name $($rest)* }

        impl $name {
            fn conv(&self) -> $crate::ops::neural::Conv {
                $crate::ops::neural::Conv {
                    auto_pad: self.auto_pad.clone(),
                    dilations: self.dilations.clone(),
                    group: self.group,
                    kernel_shape: self.kernel_shape.clone(),
                    pads: self.pads.clone(),
                    strides: self.strides.clone(),
                }
            }
        }
    };
}
pub(crate) use convolution;

convolution! {
    @attributes
    /// `y[n,o,..] = sum over i and taps of x[n,i,..] * w[o,i,taps] + b[o]`, in `group` groups of channels.
    Conv(x, w, "b?") -> (y) since [1, 11, 22];
}

/// The floating-point types, and `i32` for the integer convolutions that are made of this one.
const ELEMENTS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32];

impl Conv {
    fn window(&self, x: &Operands) -> Result<Window, InferError> {
        let w = x.dims(1)?;
        let input = spatial(x)?;
        if w.len() != input.len() + 2 {
            return Err(InferError::Invalid(format!("input {} and weights {} differ in rank", x.ty(0)?, x.ty(1)?)));
        }
        if !self.kernel_shape.is_empty() && !self.kernel_shape.iter().copied().eq(w[2..].iter().map(|&k| k as i64)) {
            return Err(InferError::Invalid(format!("`kernel_shape` is {:?}, but the weights are {}", self.kernel_shape, x.ty(1)?)));
        }
        let attributes = WindowAttributes {
            strides: &self.strides,
            dilations: &self.dilations,
            pads: &self.pads,
            auto_pad: &self.auto_pad,
            ceil_mode: false,
        };
        Window::new(&input, &w[2..], &attributes)
    }
}

impl Operator for Conv {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, ELEMENTS)?;
        x.require_same_dtype(1, 0)?;
        let window = self.window(x)?;
        let (image, w) = (x.ty(0)?, x.dims(1)?);
        if self.group < 1 || !w[0].is_multiple_of(self.group as usize) {
            return Err(InferError::Invalid(format!("{} filters in {} groups", w[0], self.group)));
        }
        require_equal(&image.shape.0[1], &Dim::Fixed(w[1] * self.group as usize), "channels of the input and of the weights differ")?;
        if x.has(2) {
            x.require_same_dtype(2, 0)?;
            require_vector(&x.ty(2)?.shape.0, &Dim::Fixed(w[0]), "the bias")?;
        }
        let dims = [image.shape.0[0].clone(), w[0].into()].into_iter().chain(window.output.iter().map(|&d| d.into()));
        Ok(vec![Type::new(dtype, dims.collect())])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(window) = self.window(x) else { return Axes::unlinked(x) };
        let pixel: Vec<Option<u32>> = (0..window.rank()).map(|i| window.is_pointwise(i).then_some(2 + i as u32)).collect();
        // Slicing filters of a grouped convolution would change its groups.
        let filter = (self.group == 1).then_some(1);
        let operands = vec![
            [&[Some(0), None], &pixel[..]].concat(),
            [&[filter, None], &vec![None; window.rank()][..]].concat(),
            if x.has(2) { vec![filter] } else { vec![] },
        ];
        Axes { operands, results: vec![[&[Some(0), filter], &pixel[..]].concat()], elementwise: false }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let window = self.window(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (image, w) = (x.tensor(0), x.tensor(1));
        let (n, channels, filters) = (image.dims()[0], image.dims()[1], w.dims()[0]);
        let (per_group, group_filters) = (w.dims()[1], filters / self.group as usize);
        let (xv, wv) = (image.to_f64s(), w.to_f64s());
        let bias = x.tensor_opt(2).map(Tensor::to_f64s);
        let (plane_in, plane_out, taps) = (n_elements(&window.input), n_elements(&window.output), n_elements(&window.kernel));
        let mut out = vec![0.0; n * filters * plane_out];
        for b in 0..n {
            for o in 0..filters {
                let y = &mut out[(b * filters + o) * plane_out..][..plane_out];
                y.fill(bias.as_ref().map_or(0.0, |v| v[o]));
                for i in 0..per_group {
                    let image = &xv[(b * channels + o / group_filters * per_group + i) * plane_in..][..plane_in];
                    slide(&window, 0, y, image, &wv[(o * per_group + i) * taps..][..taps]);
                }
            }
        }
        let dims = [&[n, filters], &window.output[..]].concat();
        Ok(vec![Tensor::from_f64s(image.dtype(), &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        self.lower_padded(b, x, x.get(2), None)
    }
}

impl Conv {
    /// The convolution of operands 0 and 1; what is outside reads as the only element of `padding`, or 0.
    pub(in crate::ops) fn lower_padded(
        &self,
        b: &mut expr::Builder,
        x: &Args<'_>,
        bias: Option<TensorId>,
        padding: Option<TensorId>,
    ) -> Result<Vec<TensorId>, LowerError> {
        let window = self.window(x.facts)?;
        let (image, w) = (x.tensor(0), x.tensor(1));
        let (groups, dims, w_dims) = (self.group as usize, x.result_dims(0), x.dims(1));
        let (group_filters, per_group) = (dims[1] / groups, w_dims[1]);
        let padded = window.is_padded(b.any_padding);
        let dtype = x.results[0].dtype;
        let out = b.declare(dtype, &dims);

        // Axes n, group, filter in the group, output pixels; then channel in the group, taps.
        let axes = Squeezed::new(&[&[dims[0], groups, group_filters], &window.output[..]].concat(), |i| match i {
            1 => false,
            2 => groups == 1,
            _ => true,
        });
        let over = Squeezed::new(&[&[per_group], &window.kernel[..]].concat(), |_| false);
        let filter = |at: &[expr::Affine]| at[1].times(group_filters as i64).plus(&at[2]);
        let product = |b: &expr::Builder, at: &[expr::Affine], k: &[expr::Affine]| {
            let (at, k) = (axes.expand(at), over.expand(k));
            let channel = at[1].times(per_group as i64).plus(&k[0]);
            let index = [&[at[0].clone(), channel], &window.taps(&at[3..], &k[1..])[..]].concat();
            let outside = || padding.map_or(Expr::constant(b.dtype(image), 0.0), |p| b.load(p, vec![0i64; b.dims(p).len()]));
            let pixel = if padded { b.load_padded(image, index, outside()) } else { b.load(image, index) };
            pixel.cast(summed(b.dtype(image))) * load_summed(b, w, &[&[filter(&at)], &k[..]].concat())
        };
        let finish = |b: &expr::Builder, at: &[expr::Affine], sum: Expr| {
            let at = axes.expand(at);
            bias.map_or(sum.clone(), |bias| sum + load_wide(b, bias, &[filter(&at)])).cast(dtype)
        };
        let place = |at: &[expr::Affine]| {
            let at = axes.expand(at);
            [&[at[0].clone(), filter(&at)], &at[3..]].concat()
        };
        if over.dims.is_empty() {
            b.write(out, &axes.dims, |b, at| (place(at), finish(b, at, product(b, at, &[]))));
        } else {
            b.write_reduce(out, ReduceOp::Sum, &axes.dims, &over.dims, place, product, finish);
        }
        Ok(vec![out])
    }
}

/// Adds to `y` the window's products with one filter plane, axis by axis from `axis` on.
fn slide(window: &Window, axis: usize, y: &mut [f64], x: &[f64], w: &[f64]) {
    let (ys, xs, ws) = (y.len() / window.output[axis].max(1), x.len() / window.input[axis].max(1), w.len() / window.kernel[axis]);
    if y.is_empty() || x.is_empty() {
        return;
    }
    for k in 0..window.kernel[axis] {
        let (first, behind) = window.windows_with(axis, k);
        if axis + 1 < window.rank() {
            for at in first..behind {
                let from = window.tap(axis, at, k).expect("a tap inside");
                slide(window, axis + 1, &mut y[at * ys..][..ys], &x[from * xs..][..xs], &w[k * ws..][..ws]);
            }
        } else if first < behind {
            let from = window.tap(axis, first, k).expect("a tap inside");
            if window.strides[axis] == 1 {
                scaled_add(&mut y[first..behind], w[k], &x[from..]);
            } else {
                for (o, &p) in y[first..behind].iter_mut().zip(x[from..].iter().step_by(window.strides[axis])) {
                    *o += w[k] * p;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, lowered, random, t};
    use crate::tensor::Tensor;

    #[test]
    fn windows_slide_over_the_padded_image() {
        let y = check_op("Conv pads=[1,1]", [t("f32[1,1,4] 1 2 3 4"), t("f32[1,1,3] 1 10 100"), t("f32[1] 0.5")]);
        assert_eq!(y[0], t("f32[1,1,4] 210.5 321.5 432.5 43.5"));
    }

    #[test]
    fn all_forms_agree() {
        for (op, x, w) in [
            ("Conv", "f32[2,3,5,6]", "f32[4,3,3,2]"),
            ("Conv strides=[2,2] pads=[1,0,2,1]", "f32[2,3,5,6]", "f32[4,3,3,2]"),
            ("Conv", "f32[2,3,5,4]", "f32[4,3,1,1]"),
            ("Conv group=2 dilations=[2,1]", "f32[2,4,6,5]", "f32[6,2,2,2]"),
            ("Conv group=3 pads=[1,1,1,1]", "f32[1,3,4,4]", "f32[3,1,3,3]"),
            ("Conv group=3", "f64[1,3,4,4]", "f64[6,1,1,1]"),
            ("Conv auto_pad=\"SAME_LOWER\" strides=[2]", "f16[1,2,7]", "f16[3,2,4]"),
            ("Conv auto_pad=\"SAME_UPPER\"", "f32[1,1,3,3,4]", "f32[2,1,2,3,2]"),
            ("Conv", "f32[0,2,5]", "f32[3,2,2]"),
            ("Conv pads=[1,1]", "i32[1,2,5]", "i32[3,2,2]"),
        ] {
            check_op(op, [random(x, 1), random(w, 2)]);
        }
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        let error = |op: &str, x: &str, w: &str| check_error(op, [t(x), t(w)]);
        assert_eq!(error("Conv", "f32[1,3,4,4]", "f32[2,2,3,3]"), "channels of the input and of the weights differ: 3 and 2");
        assert_eq!(error("Conv", "f32[1,3,2,2]", "f32[2,3,3,3]"), "a window of 3 elements over 2 padded ones");
        assert_eq!(error("Conv group=2", "f32[1,4,4]", "f32[3,2,3]"), "3 filters in 2 groups");
        assert_eq!(error("Conv strides=[0]", "f32[1,2,4]", "f32[3,2,3]"), "`strides` has the value 0");
        assert_eq!(error("Conv auto_pad=\"FULL\"", "f32[1,2,4]", "f32[3,2,3]"), "`auto_pad` is `FULL`");
        assert_eq!(error("Conv", "i16[1,2,4]", "i16[3,2,3]"), "operand 0 has element type `i16`, which is not supported here");
        assert_eq!(check_error::<Tensor>("Conv", []), "operand 0 is missing");
    }

    #[test]
    fn unit_axes_of_groups_are_left_out() {
        insta::assert_snapshot!(lowered("Conv group=2 pads=[0,1]", &["f32[1,2,5]", "f32[2,1,3]", "f32[2]"]), @r"
        program(%x0: f32[1,2,5], %x1: f32[2,1,3], %x2: f32[2]) -> (%y) {
          %y[i0,i1,i2] = reduce sum over r0 in 0..3: (%x0[i0,i1,i2+r0] else 0) * %x1[i1,0,r0] -> acc + %x2[i1] : f32[1,2,4]
        }
        ");
    }
}

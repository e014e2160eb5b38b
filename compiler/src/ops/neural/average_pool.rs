//! `AveragePool` and `LpPool`: the mean and the norm of each window.
//! Spec: <https://onnx.ai/onnx/operators/onnx__AveragePool.html>, <https://onnx.ai/onnx/operators/onnx__LpPool.html>

use super::max_pool::{for_each_window, pool_axes, pooled, reduce_window};
use super::widen::{FLOATS, wide};
use super::window::{Window, pooling_window};
use crate::expr::{self, BinaryOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements};

operator! {
    /// `y[n,c,..]` is the mean of a window of `x[n,c,..]`.
    AveragePool(x) -> (y) since [1, 7, 10, 11, 19, 22];
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Whether a last window that reaches behind the padding counts.
    ceil_mode: bool = false,
    /// Whether padding counts as zeros, instead of not at all.
    count_include_pad: bool = false,
    /// Distance of neighbouring elements of a window; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Extents of the window.
    kernel_shape: Vec<i64>,
    /// Padding, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

operator! {
    /// `y[n,c,..]` is the `p`-norm of a window of `x[n,c,..]`.
    LpPool(x) -> (y) since [1, 2, 11, 18, 22];
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Whether a last window that reaches behind the padding counts.
    ceil_mode: bool = false,
    /// Distance of neighbouring elements of a window; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Extents of the window.
    kernel_shape: Vec<i64>,
    /// The exponent of the norm.
    p: i64 = 2,
    /// Padding, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

impl AveragePool {
    fn window(&self, x: &Operands) -> Result<Window, InferError> {
        pooling_window!(self, x)
    }

    /// Elements counted along axis `i`: first position and one behind the last.
    fn counted(&self, window: &Window, i: usize) -> (i64, i64) {
        let pad = |n: usize| if self.count_include_pad { n as i64 } else { 0 };
        (-pad(window.begin[i]), window.input[i] as i64 + pad(window.end[i]))
    }

    /// How many elements window `at` of axis `i` averages, at any extent of the axis.
    fn count(&self, window: &Window, i: usize, at: &expr::Affine) -> Expr {
        let (first, behind) = self.counted(window, i);
        let int = |c: i64| Expr::int(DType::I64, c);
        let start = Expr::index(&at.times(window.strides[i] as i64).offset(-(window.begin[i] as i64)));
        let dilation = window.dilations[i] as i64;
        // Taps below a position: those at whole numbers of steps before it.
        let below = |position: Expr| {
            let room = (position - start.clone()).binary(BinaryOp::Max, &int(0));
            let steps = if dilation == 1 { room } else { (room + int(dilation - 1)) / int(dilation) };
            steps.binary(BinaryOp::Min, &int(window.kernel[i] as i64))
        };
        below(Expr::extent(behind)) - below(int(first))
    }

    /// How many elements the windows of axis `i` average, by window.
    fn counts(&self, window: &Window, i: usize) -> Vec<usize> {
        let (first, behind) = self.counted(window, i);
        let position = |at: usize, k: usize| (at * window.strides[i] + k * window.dilations[i]) as i64 - window.begin[i] as i64;
        (0..window.output[i]).map(|at| (0..window.kernel[i]).filter(|&k| (first..behind).contains(&position(at, k))).count()).collect()
    }
}

impl Operator for AveragePool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        Ok(vec![pooled(x, &self.window(x)?)?])
    }

    fn axes(&self, x: &Operands) -> Axes {
        pool_axes(x, self.window(x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let window = self.window(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let counts: Vec<Vec<usize>> = (0..window.rank()).map(|i| self.counts(&window, i)).collect();
        let mut divisors = vec![];
        for_each_index(&window.output, |_, at| divisors.push(at.iter().zip(&counts).map(|(&i, c)| c[i]).product::<usize>()));
        Ok(vec![eval_pool(x, &window, |v| v, |sum, flat| sum / divisors[flat] as f64)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let window = self.window(x.facts)?;
        let (image, dims) = (x.tensor(0), x.result_dims(0));
        let (dtype, zero) = (b.dtype(image), Expr::constant(b.dtype(image), 0.0));
        let compute = wide(dtype);
        // What a window averages depends on how far the last one is from the border.
        let ends = self.ceil_mode || !self.count_include_pad || self.auto_pad.starts_with("SAME");
        let of_any_extent = ends && (0..window.rank()).any(|i| b.spread(image, 2 + i).1);
        if (b.any_padding || of_any_extent) && window.is_padded(true) {
            let mean = |_: &expr::Builder, at: &[expr::Affine], sum: Expr| {
                let counts = (0..window.rank()).map(|i| self.count(&window, i, &at[2 + i]));
                let count = counts.reduce(|a, b| a * b).expect("a window has axes");
                (&sum / &count.cast(compute)).cast(dtype)
            };
            return Ok(vec![reduce_window(b, ReduceOp::Sum, image, &window, &dims, zero, |e| e.cast(compute), mean)]);
        }
        let counts: Vec<Vec<usize>> = (0..window.rank()).map(|i| self.counts(&window, i)).collect();
        // Axes along which windows differ in what they average go into a table, the others into a factor.
        let varying: Vec<usize> = (0..window.rank()).filter(|&i| counts[i].iter().any(|&c| c != counts[i][0])).collect();
        let constant: usize = (0..window.rank()).filter(|i| !varying.contains(i)).filter_map(|i| counts[i].first()).product();
        let extents: Vec<usize> = varying.iter().map(|&i| window.output[i]).collect();
        let mut factors = vec![];
        for_each_index(&extents, |_, at| {
            factors.push(1.0 / (constant * at.iter().zip(&varying).map(|(&o, &i)| counts[i][o]).product::<usize>()) as f64)
        });
        let table = (!varying.is_empty()).then(|| b.constant("factors", Tensor::from_f64s(compute, &extents, &factors)));
        let y = reduce_window(
            b,
            ReduceOp::Sum,
            image,
            &window,
            &dims,
            zero,
            |e| e.cast(compute),
            |b, at, sum| {
                let factor = match table {
                    Some(table) => b.load(table, varying.iter().map(|&i| at[2 + i].clone())),
                    None => sum.like(1.0 / constant as f64),
                };
                (sum * factor).cast(dtype)
            },
        );
        Ok(vec![y])
    }
}

impl LpPool {
    fn window(&self, x: &Operands) -> Result<Window, InferError> {
        pooling_window!(self, x)
    }
}

impl Operator for LpPool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        require_exponent(self.p)?;
        Ok(vec![pooled(x, &self.window(x)?)?])
    }

    fn axes(&self, x: &Operands) -> Axes {
        pool_axes(x, self.window(x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let window = self.window(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let p = self.p as f64;
        Ok(vec![eval_pool(x, &window, |v| v.abs().powf(p), |sum, _| sum.powf(1.0 / p))])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let window = self.window(x.facts)?;
        let (image, dims) = (x.tensor(0), x.result_dims(0));
        let (dtype, zero) = (b.dtype(image), Expr::constant(b.dtype(image), 0.0));
        let value = |e: Expr| power(&e.cast(wide(dtype)), self.p);
        let y = reduce_window(b, ReduceOp::Sum, image, &window, &dims, zero, value, |_, _, sum| root(&sum, self.p).cast(dtype));
        Ok(vec![y])
    }
}

/// Fails unless `p` can be the exponent of a norm.
pub(super) fn require_exponent(p: i64) -> Result<(), InferError> {
    if p > 0 { Ok(()) } else { Err(InferError::Invalid(format!("`p` is {p}"))) }
}

/// `|e|` to the power `p`.
pub(super) fn power(e: &Expr, p: i64) -> Expr {
    match p {
        1 => e.unary(UnaryOp::Abs),
        2 => e * e,
        _ => e.unary(UnaryOp::Abs).binary(BinaryOp::Pow, &e.like(p as f64)),
    }
}

/// The `p`-th root.
pub(super) fn root(e: &Expr, p: i64) -> Expr {
    match p {
        1 => e.clone(),
        2 => e.unary(UnaryOp::Sqrt),
        _ => e.binary(BinaryOp::Pow, &e.like(1.0 / p as f64)),
    }
}

/// Sums `f` of the elements of each window; `finish` gets the sum and the number of the window in its plane.
fn eval_pool(x: &Operands, window: &Window, f: impl Fn(f64) -> f64, finish: impl Fn(f64, usize) -> f64) -> Tensor {
    let image = x.tensor(0);
    let values = image.to_f64s();
    let (plane_in, plane_out) = (n_elements(&window.input), n_elements(&window.output));
    let dims = [&image.dims()[..2], &window.output[..]].concat();
    let mut out = vec![0.0; n_elements(&dims)];
    for_each_window(image.dims()[0] * image.dims()[1], window, |flat, plane, positions| {
        let sum = positions.iter().map(|&p| f(values[plane * plane_in + p])).sum();
        out[flat] = finish(sum, flat % plane_out);
    });
    Tensor::from_f64s(image.dtype(), &dims, &out)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn padding_counts_when_asked() {
        let x = || [t("f32[1,1,3] 2 4 6")];
        assert_eq!(check_op("AveragePool kernel_shape=[2] pads=[1,1]", x())[0], t("f32[1,1,4] 2 3 5 6"));
        assert_eq!(check_op("AveragePool kernel_shape=[2] pads=[1,1] count_include_pad=1", x())[0], t("f32[1,1,4] 1 3 5 3"));
        assert_eq!(check_op("AveragePool kernel_shape=[2] strides=[2] ceil_mode=1 count_include_pad=1", x())[0], t("f32[1,1,2] 3 6"));
    }

    #[test]
    fn all_forms_agree() {
        for (attributes, x) in [
            ("kernel_shape=[3,2] strides=[2,1] pads=[1,0,1,1]", "f32[2,2,5,4]"),
            ("kernel_shape=[2] strides=[3] ceil_mode=1", "f32[1,2,7]"),
            ("kernel_shape=[3] dilations=[2] pads=[1,2]", "f16[1,2,5]"),
            ("kernel_shape=[2,2,2] auto_pad=\"SAME_UPPER\"", "f64[1,1,3,3,3]"),
        ] {
            check_op(&format!("AveragePool {attributes}"), [random(x, 1)]);
            check_op(&format!("AveragePool {attributes} count_include_pad=1"), [random(x, 1)]);
            check_op(&format!("LpPool {attributes}"), [random(x, 1)]);
            check_op(&format!("LpPool p=1 {attributes}"), [random(x, 1)]);
            check_op(&format!("LpPool p=3 {attributes}"), [random(x, 1)]);
        }
        assert_eq!(check_error("LpPool kernel_shape=[2] p=0", [t("f32[1,1,3]")]), "`p` is 0");
    }
}

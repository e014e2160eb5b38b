//! `MaxPool`: the greatest value of each window, and where it is.
//! Spec: <https://onnx.ai/onnx/operators/onnx__MaxPool.html>

use super::widen::NUMBERS;
use super::window::{Window, pooling_window};
use crate::expr::{self, Affine, BinaryOp, Expr, Ix, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements, row_major_strides};

operator! {
    /// `y[n,c,..]` is the greatest value of a window of `x[n,c,..]`; `indices` is its position in `x`, flattened.
    MaxPool(x) -> (y, "indices?") since [1, 8, 10, 11, 12, 22];
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Whether a last window that reaches behind the padding counts.
    ceil_mode: bool = false,
    /// Distance of neighbouring elements of a window; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Extents of the window.
    kernel_shape: Vec<i64>,
    /// Padding, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Whether `indices` count spatial axes column-major (1) instead of row-major (0).
    storage_order: i64 = 0,
    /// Distance of neighbouring windows; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

/// Extents of a window given as an attribute.
pub(super) fn extents(kernel_shape: &[i64]) -> Result<Vec<usize>, InferError> {
    kernel_shape.iter().map(|&k| usize::try_from(k).map_err(|_| InferError::Invalid(format!("`kernel_shape` has the value {k}")))).collect()
}

/// The type of a pool's result.
pub(super) fn pooled(x: &Operands, window: &Window) -> Result<Type, InferError> {
    let ty = x.ty(0)?;
    let dims = ty.shape.0[..2].iter().cloned().chain(window.output.iter().map(|&d| d.into()));
    Ok(Type::new(ty.dtype, dims.collect()))
}

/// Axes of a pool: batch and channels are linked, and spatial axes that the window leaves alone.
pub(super) fn pool_axes(x: &Operands, window: Result<Window, InferError>) -> Axes {
    let Ok(window) = window else { return Axes::unlinked(x) };
    let labels: Vec<Option<u32>> =
        [Some(0), Some(1)].into_iter().chain((0..window.rank()).map(|i| window.is_pointwise(i).then_some(2 + i as u32))).collect();
    Axes { operands: vec![labels.clone()], results: vec![labels], elementwise: false }
}

/// Calls `f(flat output index, plane, flat positions inside the plane of the input)` for every window.
pub(super) fn for_each_window(planes: usize, window: &Window, mut f: impl FnMut(usize, usize, &[usize])) {
    let strides = row_major_strides(&window.input);
    let plane_out = n_elements(&window.output);
    let mut positions = vec![];
    for_each_index(&window.output, |flat, at| {
        positions.clear();
        for_each_index(&window.kernel, |_, over| {
            let taps = (0..window.rank()).map(|i| window.tap(i, at[i], over[i]).map(|p| p * strides[i]));
            positions.extend(taps.sum::<Option<usize>>());
        });
        for plane in 0..planes {
            f(plane * plane_out + flat, plane, &positions);
        }
    });
}

/// The least value of a type: what padding of a maximum holds.
pub(super) fn least(dtype: DType) -> Expr {
    if dtype.is_float() { Expr::constant(dtype, f64::NEG_INFINITY) } else { Expr::int(dtype, dtype.int_range().0 as i64) }
}

impl MaxPool {
    fn window(&self, x: &Operands) -> Result<Window, InferError> {
        pooling_window!(self, x)
    }

    /// Distance in `indices` of neighbouring elements, by spatial axis.
    fn index_strides(&self, input: &[usize]) -> Vec<usize> {
        if self.storage_order == 0 {
            return row_major_strides(input);
        }
        let reversed: Vec<usize> = input.iter().rev().copied().collect();
        row_major_strides(&reversed).into_iter().rev().collect()
    }

    fn lower_indices(&self, b: &mut expr::Builder, image: TensorId, window: &Window, dims: &[usize]) -> TensorId {
        let (rank, dtype) = (window.rank(), b.dtype(image));
        let int = |n: usize| Expr::int(DType::I64, n as i64);
        // Position in the input, by axis, of the tap with this row-major number.
        let taps = |at: &[Affine], tap: &Expr| -> Vec<Expr> {
            let strides = row_major_strides(&window.kernel);
            (0..rank)
                .map(|i| {
                    let k = tap.binary(BinaryOp::Div, &int(strides[i])).binary(BinaryOp::Rem, &int(window.kernel[i]));
                    let start = at[2 + i].times(window.strides[i] as i64).offset(-(window.begin[i] as i64));
                    Expr::index(&start) + k * int(window.dilations[i])
                })
                .collect()
        };
        // Clamping repeats elements of the window as long as its taps are neighbours, which leaves the first greatest one.
        let clamped = window.dilations.iter().all(|&d| d == 1);
        let best = b.arg(ReduceOp::Max, false, dims, n_elements(&window.kernel), |b, at, over| {
            let wrap = |e| if clamped { Ix::Clamped(e) } else { Ix::Checked(e) };
            let spatial = taps(at, &Expr::index(over)).into_iter().map(wrap);
            let index: Vec<Ix> = [Ix::from(&at[0]), Ix::from(&at[1])].into_iter().chain(spatial).collect();
            if clamped { b.load(image, index) } else { b.load_padded(image, index, least(dtype)) }
        });
        let plane: usize = n_elements(&window.input);
        let channels = dims[1];
        let order = self.index_strides(&window.input);
        b.compute(dims, |b, at| {
            let start = at[0].times((channels * plane) as i64).plus(&at[1].times(plane as i64));
            taps(at, &b.load(best, at.to_vec())).iter().enumerate().fold(Expr::index(&start), |sum, (i, p)| {
                let inside = p.binary(BinaryOp::Max, &int(0)).binary(BinaryOp::Min, &int(window.input[i].saturating_sub(1)));
                sum + inside * int(order[i])
            })
        })
    }
}

impl Operator for MaxPool {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, NUMBERS)?;
        if !matches!(self.storage_order, 0 | 1) {
            return Err(InferError::Invalid(format!("`storage_order` is {}", self.storage_order)));
        }
        let y = pooled(x, &self.window(x)?)?;
        let indices = y.with_dtype(DType::I64);
        Ok(if x.n_results > 1 { vec![y, indices] } else { vec![y] })
    }

    fn axes(&self, x: &Operands) -> Axes {
        // Indices count from the start of the whole operand.
        if x.n_results > 1 { Axes::unlinked(x) } else { pool_axes(x, self.window(x)) }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let window = self.window(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let image = x.tensor(0);
        let planes = image.dims()[0] * image.dims()[1];
        let plane = n_elements(&window.input);
        let dims = [&image.dims()[..2], &window.output[..]].concat();
        let mut at = vec![None; n_elements(&dims)];
        // Integers above 2^53 compare equal as `f64`; they are compared exactly.
        let exact = matches!(image.dtype(), DType::I64 | DType::U64).then(|| image.to_ints());
        let values = image.to_f64s();
        let greater = |a: usize, b: usize| exact.as_ref().map_or(values[a] > values[b], |v| v[a] > v[b]);
        for_each_window(planes, &window, |flat, p, positions| {
            at[flat] = positions.iter().map(|&q| p * plane + q).reduce(|best, q| if greater(q, best) { q } else { best });
        });
        let strides = row_major_strides(image.dims());
        let y = match at.iter().all(Option::is_some) {
            true => {
                let out = row_major_strides(&dims);
                image.gather(&dims, |index| at[index.iter().zip(&out).map(|(i, s)| i * s).sum::<usize>()])
            }
            false if image.dtype().is_float() => {
                let v: Vec<f64> = at.iter().map(|a| a.map_or(f64::NEG_INFINITY, |a| values[a])).collect();
                Tensor::from_f64s(image.dtype(), &dims, &v)
            }
            false => return Err(EvalError::Invalid("a window without elements".to_owned())),
        };
        if x.n_results < 2 {
            return Ok(vec![y]);
        }
        let order = self.index_strides(&window.input);
        let index = |flat: usize| -> i64 {
            let inside: usize = (0..window.rank()).map(|i| flat / strides[2 + i] % window.input[i] * order[i]).sum();
            (flat / plane * plane + inside) as i64
        };
        let indices: Vec<i64> = at.iter().map(|a| a.map_or(0, index)).collect();
        Ok(vec![y, Tensor::from_slice(&dims, &indices)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let window = self.window(x.facts)?;
        let (image, dims) = (x.tensor(0), x.result_dims(0));
        let dtype = b.dtype(image);
        let y = reduce_window(b, ReduceOp::Max, image, &window, &dims, least(dtype), |e| e, |_, _, e| e);
        Ok(if x.results.len() > 1 { vec![y, self.lower_indices(b, image, &window, &dims)] } else { vec![y] })
    }
}

/// A pool's reduction over its windows, with `pad` outside the input.
#[expect(clippy::too_many_arguments, reason = "a reduction over a window")]
pub(super) fn reduce_window(
    b: &mut expr::Builder,
    op: ReduceOp,
    image: TensorId,
    window: &Window,
    dims: &[usize],
    pad: Expr,
    value: impl FnOnce(Expr) -> Expr,
    finish: impl FnOnce(&expr::Builder, &[Affine], Expr) -> Expr,
) -> TensorId {
    let padded = window.is_padded(b.any_padding);
    b.reduce(
        op,
        dims,
        &window.kernel,
        |b, at, over| {
            let index = [&at[..2], &window.taps(&at[2..], over)[..]].concat();
            value(if padded { b.load_padded(image, index, pad) } else { b.load(image, index) })
        },
        finish,
    )
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn the_first_greatest_element_wins() {
        let both = Check::new("MaxPool kernel_shape=[2,2] pads=[1,1,0,0]").results(2);
        let y = both.run([t("f32[1,1,2,3] -1 5 5 7 5 5")]);
        assert_eq!(y[0], t("f32[1,1,2,3] -1 5 5 7 7 5"));
        assert_eq!(y[1], t("i64[1,1,2,3] 0 1 1 3 3 1"));
        let columns = Check::new("MaxPool kernel_shape=[2,2] storage_order=1").results(2).run([t("f32[1,1,2,3] -1 5 5 7 5 5")]);
        assert_eq!(columns[1], t("i64[1,1,1,2] 1 2"));
    }

    #[test]
    fn all_forms_agree() {
        for (op, x) in [
            ("MaxPool kernel_shape=[3,2] strides=[2,1] pads=[1,0,1,1]", "f32[2,2,5,4]"),
            ("MaxPool kernel_shape=[2] strides=[3] ceil_mode=1", "f32[1,2,7]"),
            ("MaxPool kernel_shape=[2] dilations=[2] pads=[1,1]", "f16[1,2,5]"),
            ("MaxPool kernel_shape=[2,2,2] auto_pad=\"SAME_UPPER\"", "f32[1,1,3,3,3]"),
            ("MaxPool kernel_shape=[2,2] pads=[1,1,1,1]", "i8[1,2,3,3]"),
            ("MaxPool kernel_shape=[2,2] strides=[2,2]", "u8[1,2,4,4]"),
        ] {
            check_op(op, [random(x, 1)]);
            Check::new(op).results(2).run([random(x, 2)]);
        }
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        assert_eq!(check_error("MaxPool kernel_shape=[2]", [t("f32[1,1,2,2]")]), "a window of 1 axes over 2 spatial axes");
        assert_eq!(check_error("MaxPool kernel_shape=[-2]", [t("f32[1,1,2]")]), "`kernel_shape` has the value -2");
        assert_eq!(check_error("MaxPool", [t("f32[1,1,2]")]), "attribute `kernel_shape` is missing");
    }
}

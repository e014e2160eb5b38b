//! `TopK`: the greatest or least elements along an axis, and their positions.
//! Spec: <https://onnx.ai/onnx/operators/onnx__TopK.html>

use super::extent;
use crate::expr::{self, Expr, TensorId};
use crate::operator;
use crate::ops::padded::PaddedTopK;
use crate::ops::sorting::{self, Most};
use crate::ops::{Args, Axes, Counted, EvalError, InferError, Interval, LowerError, Operands, Operator, tournament};
use crate::tensor::{DType, Tensor, Type, for_each_index, row_major_strides};

operator! {
    /// The `k` greatest (or least) elements of each row along `axis`, in order, and where they are; NaN is the greatest, equal ones keep their order.
    TopK(x, k) -> (values, indices) since [1, 10, 11, 24];
    /// The axis.
    axis: i64 = -1,
    /// Whether the greatest are wanted.
    largest: bool = true,
    /// Whether the results are in order; they always are.
    sorted: bool = true,
}

impl TopK {
    /// The axis and the number of elements.
    fn plan(&self, x: &Operands) -> Result<(usize, usize), InferError> {
        let axis = x.axis(0, self.axis)?;
        let k = match x.ints(1)?[..] {
            [k] => extent(k)?,
            _ => return Err(InferError::Invalid("`k` must be one number".to_owned())),
        };
        match x.ty(0)?.shape.0[axis].fixed() {
            Some(n) if k > n => Err(InferError::Invalid(format!("{k} of {n} elements"))),
            _ => Ok((axis, k)),
        }
    }
}

impl Operator for TopK {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &DType::NUMBERS)?;
        let (axis, k) = self.plan(x)?;
        let mut ty = x.ty(0)?.clone();
        ty.shape.0[axis] = k.into();
        let indices = ty.with_dtype(DType::I64);
        Ok(vec![ty, indices])
    }

    fn interval_of_further(&self, x: &Operands, result: usize) -> Interval {
        let extent = x.axis(0, self.axis).ok().and_then(|axis| x.ty(0).ok()?.shape.0[axis].fixed());
        match extent {
            Some(n) if result == 1 => Interval::new(0.0, n.saturating_sub(1) as f64),
            _ => Interval::ALL,
        }
    }

    fn counted(&self, x: &Operands) -> Option<Counted> {
        let most = self.plan(x).ok().map(|(_, k)| k as i64);
        Some(Counted { op: Box::new(PaddedTopK { axis: self.axis, largest: self.largest, most }), of: vec![0], at: 2 })
    }

    fn padded(&self, x: &Operands, of: &[Interval]) -> Option<Box<dyn Operator>> {
        let extent = x.axis(0, self.axis).ok().and_then(|axis| x.ty(0).ok()?.shape.0[axis].fixed())?;
        let most = Some(of[1].high.max(0.0)).filter(|&most| most < extent as f64).map(|most| most as i64);
        Some(Box::new(PaddedTopK { axis: self.axis, largest: self.largest, most }))
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(axis) = x.axis(0, self.axis) {
            let labels: Vec<Option<u32>> = (0..axes.operands[0].len()).map(|i| (i != axis).then_some(i as u32)).collect();
            axes.operands[0].clone_from(&labels);
            axes.results = vec![labels.clone(), labels];
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (axis, k) = self.plan(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let data = x.tensor(0);
        let (floats, ints) = (data.to_f64s(), if data.dtype().is_float() { vec![] } else { data.to_ints() });
        let order = |a: usize, b: usize| {
            let up = if ints.is_empty() {
                let (a, b) = (floats[a], floats[b]);
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            } else {
                ints[a].cmp(&ints[b])
            };
            if self.largest { up.reverse() } else { up }
        };
        let strides = row_major_strides(data.dims());
        let (n, mut rows, mut dims) = (data.dims()[axis], data.dims().to_vec(), data.dims().to_vec());
        (rows[axis], dims[axis]) = (1, k);
        let out_strides = row_major_strides(&dims);
        let mut sources = vec![0; dims.iter().product()];
        let mut indices = vec![0i64; sources.len()];
        for_each_index(&rows, |_, at| {
            let start: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
            let out: usize = at.iter().zip(&out_strides).map(|(i, s)| i * s).sum();
            let mut places: Vec<usize> = (0..n).collect();
            places.sort_by(|&a, &b| order(start + a * strides[axis], start + b * strides[axis]));
            for (r, &place) in places.iter().take(k).enumerate() {
                sources[out + r * out_strides[axis]] = start + place * strides[axis];
                indices[out + r * out_strides[axis]] = place as i64;
            }
        });
        let values = data.gather(&dims, |at| Some(sources[at.iter().zip(&out_strides).map(|(i, s)| i * s).sum::<usize>()]));
        Ok(vec![values, Tensor::from_slice(&dims, &indices)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (axis, k) = self.plan(x.facts)?;
        let (data, dims, out_dims) = (x.tensor(0), x.dims(0), x.result_dims(0));
        if out_dims.contains(&0) {
            let dtype = b.dtype(data);
            let values = b.compute(&out_dims, |_, _| Expr::int(dtype, 0));
            return Ok(vec![values, b.compute(&out_dims, |_, _| Expr::int(DType::I64, 0))]);
        }
        let ((n, n_varies), (most, k_varies)) = (b.spread(data, axis), b.result_spread(0, axis, k));
        let dtype = b.dtype(data);
        // Orders of these are not the least or greatest number of 32 bits.
        let has_margin = dtype == DType::F32 || dtype.bits() < 32;
        let first = (has_margin && !n_varies && !k_varies).then(|| {
            let inner = (axis + 1..dims.len()).map(|axis| b.spread(data, axis).0).product();
            tournament::first_places(b, &dims, axis, inner, k, |b, at| {
                let order = sorting::narrow_order_of(&b.load(data, at));
                if self.largest { order } else { sorting::descending(&order) }
            })
        });
        let indices = first.flatten().unwrap_or_else(|| {
            let orders = b.compute(&dims, |b, at| {
                let order = sorting::order_of(&b.load(data, at));
                if self.largest { sorting::descending(&order) } else { order }
            });
            sorting::first_places(b, &[orders], dtype.bits() <= 32, axis, k, Most { n, k: most }).1
        });
        Ok(vec![sorting::at_places(b, data, axis, indices), indices])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn the_greatest_come_first() {
        let x = || t("f32[5] 1 nan 3 3 -2");
        assert_eq!(check_op("TopK", [x(), t("i64[1] 3")]), [t("f32[3] nan 3 3"), t("i64[3] 1 2 3")]);
        assert_eq!(check_op("TopK largest=0", [x(), t("i64[1] 5")]), [t("f32[5] -2 1 3 3 nan"), t("i64[5] 4 0 2 3 1")]);
        for dtype in ["f32", "f64", "i8", "u64", "i64", "f16"] {
            check_op("TopK axis=1", [random(&format!("{dtype}[2,9,3]"), 1), t("i64[1] 4")]);
            check_op("TopK axis=0 largest=0", [random(&format!("{dtype}[7,2]"), 2), t("i64[1] 7")]);
        }
        for (n, k) in [(9, 1), (67, 5), (33, 33)] {
            for dtype in ["f32", "u32", "bf16", "f64", "i64", "u64"] {
                check_op("TopK axis=0", [random(&format!("{dtype}[{n},3]"), 3), t(&format!("i64[1] {k}"))]);
                check_op("TopK largest=0", [random(&format!("{dtype}[2,{n}]"), 4), t(&format!("i64[1] {k}"))]);
            }
        }
        // All of them, blocks, and networks of rows side by side; many are equal.
        for (dims, axis, k) in [("2,150", 1, 3), ("700", 0, 2), ("2,700,2", 1, 40), ("3,70,5", 1, 4), ("64,4", 0, 64), ("300,4", 0, 20)] {
            for dtype in ["f32", "f16", "u8"] {
                let x = random(&format!("{dtype}[{dims}]"), 5);
                for largest in [0, 1] {
                    check_op(&format!("TopK axis={axis} largest={largest}"), [x.clone(), t(&format!("i64[1] {k}"))]);
                }
            }
        }
        let y = check_op("TopK", [t("f32[7] 0 -0 -inf inf nan -1 0"), t("i64[1] 7")]);
        assert_eq!(y[1], t("i64[7] 4 3 0 1 6 5 2"));
        let y = check_op("TopK largest=0", [t("f64[7] 0 -0 -inf inf nan -1 0"), t("i64[1] 7")]);
        assert_eq!(y[1], t("i64[7] 2 5 0 1 6 3 4"));
        let y = check_op("TopK", [t("u64[3] 5 18446744073709551615 9223372036854775808"), t("i64[1] 3")]);
        assert_eq!(y[1], t("i64[3] 1 2 0"));
        let y = check_op("TopK largest=0", [t("i64[5] 9223372036854775807 7 -9223372036854775808 9223372036854775807 7"), t("i64[1] 5")]);
        assert_eq!(y[1], t("i64[5] 2 1 4 0 3"));
        check_op("TopK", [t("f32[2,0]"), t("i64[1] 0")]);
        assert_eq!(check_error("TopK", [x(), t("i64[1] 6")]), "6 of 5 elements");
    }
}

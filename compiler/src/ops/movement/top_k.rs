//! `TopK`: the greatest or least elements along an axis, and their positions.
//! Spec: <https://onnx.ai/onnx/operators/onnx__TopK.html>

use super::extent;
use crate::expr::{self, Affine, BinaryOp, Builder, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::operator;
use crate::ops::padded::PaddedTopK;
use crate::ops::sorting;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
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

/// More comparisons than this are refused.
const MAX_STEPS: usize = 1 << 36;

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

    fn padded(&self, _: &Operands) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedTopK { axis: self.axis, largest: self.largest }))
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
        let n = dims[axis];
        if out_dims.contains(&0) {
            let dtype = b.dtype(data);
            let values = b.compute(&out_dims, |_, _| Expr::int(dtype, 0));
            return Ok(vec![values, b.compute(&out_dims, |_, _| Expr::int(DType::I64, 0))]);
        }
        let dtype = b.dtype(data);
        let indices = if dtype.bits() <= 32 && n <= u32::MAX as usize {
            self.by_keys(b, data, axis, k)
        } else {
            self.by_rank(b, data, axis, &out_dims)?
        };
        let values = b.compute(&out_dims, |b, at| {
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            from[axis] = Ix::Clamped(b.load(indices, at));
            b.load(data, from)
        });
        Ok(vec![values, indices])
    }
}

impl TopK {
    /// The positions by keys of an order and a position each, the least of which a network finds.
    fn by_keys(&self, b: &mut Builder, data: TensorId, axis: usize, k: usize) -> TensorId {
        let dims = b.dims(data).to_vec();
        let keys = b.compute(&dims, |b, at| {
            let order = order_of(&b.load(data, at));
            let order = if self.largest { order.binary(BinaryOp::Xor, &Expr::int(DType::I64, -1)) } else { order };
            order.binary(BinaryOp::Shl, &Expr::int(DType::I64, 32)).binary(BinaryOp::Or, &Expr::index(&at[axis]))
        });
        let least = sorting::least(b, keys, axis, k);
        b.map(&[least], |key| key[0].binary(BinaryOp::And, &Expr::int(DType::I64, i64::from(u32::MAX))))
    }

    /// The positions by counting how many elements come before each one: for types whose order and position make no key of 64 bits.
    fn by_rank(&self, b: &mut Builder, data: TensorId, axis: usize, out_dims: &[usize]) -> Result<TensorId, LowerError> {
        let dims = b.dims(data).to_vec();
        let n = dims[axis];
        let steps = dims.iter().product::<usize>().checked_mul(n);
        if steps.is_none_or(|steps| steps > MAX_STEPS) {
            return Err(LowerError::Unsupported(format!("an order of {n} elements, for {dims:?}")));
        }
        let place = |at: &[Affine], i: &Affine| {
            let mut at = at.to_vec();
            at[axis] = i.clone();
            at
        };
        // How many elements come before each one.
        let (one, zero) = (Expr::int(DType::I64, 1), Expr::int(DType::I64, 0));
        let before = |b: &Builder, at: &[Affine], over: &[Affine]| {
            let (here, there) = (b.load(data, at), b.load(data, place(at, &over[0])));
            let earlier = Expr::index(&over[0]).compare(CompareOp::Lt, &Expr::index(&at[axis]));
            self.precedes(&there, &here, &earlier).select(&one, &zero)
        };
        let rank = b.reduce(ReduceOp::Sum, &dims, &[n], before, |_, _, sum| sum);
        let found = |b: &Builder, at: &[Affine], over: &[Affine]| {
            let is_it = b.load(rank, place(at, &over[0])).compare(CompareOp::Eq, &Expr::index(&at[axis]));
            is_it.select(&Expr::index(&over[0]), &zero)
        };
        Ok(b.reduce(ReduceOp::Max, out_dims, &[n], found, |_, _, index| index))
    }

    /// Whether `a` comes before `b`; `earlier` decides between equal ones.
    fn precedes(&self, a: &Expr, b: &Expr, earlier: &Expr) -> Expr {
        let and = |a: &Expr, b: &Expr| a.binary(BinaryOp::And, b);
        let or = |a: &Expr, b: &Expr| a.binary(BinaryOp::Or, b);
        let op = if self.largest { CompareOp::Gt } else { CompareOp::Lt };
        let (mut strictly, mut equal) = (a.compare(op, b), a.compare(CompareOp::Eq, b));
        if a.dtype().is_float() {
            let (nan_a, nan_b) = (a.compare(CompareOp::Ne, a), b.compare(CompareOp::Ne, b));
            let (first, second) = if self.largest { (&nan_a, &nan_b) } else { (&nan_b, &nan_a) };
            strictly = or(&strictly, &and(first, &second.unary(expr::UnaryOp::Not)));
            equal = or(&equal, &and(&nan_a, &nan_b));
        }
        or(&strictly, &and(&equal, earlier))
    }
}

/// A number of 32 bits, signed, in the order of the element's value; equal elements have one, and NaN has the greatest.
fn order_of(x: &Expr) -> Expr {
    let dtype = x.dtype();
    if dtype.is_float() {
        let x = x.cast(DType::F32);
        let zero = Expr::constant(DType::F32, 0.0);
        let bits = x.compare(CompareOp::Eq, &zero).select(&zero, &x).bits(DType::I32);
        let below = bits.compare(CompareOp::Lt, &Expr::int(DType::I32, 0));
        let order = below.select(&bits.binary(BinaryOp::Xor, &Expr::int(DType::I32, i64::from(i32::MAX))), &bits);
        return x.compare(CompareOp::Ne, &x).select(&Expr::int(DType::I32, i64::from(i32::MAX)), &order).cast(DType::I64);
    }
    let wide = x.cast(DType::I64);
    if dtype == DType::U32 { wide.binary(BinaryOp::Sub, &Expr::int(DType::I64, 1 << 31)) } else { wide }
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
            for dtype in ["f32", "u32", "bf16"] {
                check_op("TopK axis=0", [random(&format!("{dtype}[{n},3]"), 3), t(&format!("i64[1] {k}"))]);
                check_op("TopK largest=0", [random(&format!("{dtype}[2,{n}]"), 4), t(&format!("i64[1] {k}"))]);
            }
        }
        let y = check_op("TopK", [t("f32[7] 0 -0 -inf inf nan -1 0"), t("i64[1] 7")]);
        assert_eq!(y[1], t("i64[7] 4 3 0 1 6 5 2"));
        check_op("TopK", [t("f32[2,0]"), t("i64[1] 0")]);
        assert_eq!(check_error("TopK", [x(), t("i64[1] 6")]), "6 of 5 elements");
    }
}

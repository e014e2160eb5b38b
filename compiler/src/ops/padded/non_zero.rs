//! `NonZero`: the places of all elements that are not zero.
//! Spec: <https://onnx.ai/onnx/operators/onnx__NonZero.html>

use super::selection::{Ranks, flag};
use crate::expr::{self, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, Extent, Fill, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements, row_major_strides};

operator! {
    /// The indices of the elements that are not zero, one column each, in row-major order: `i64[rank, n]`.
    NonZero(x) -> (y) since [9, 13];
}

operator! {
    /// `NonZero` of a value that is not constant: `y` has a column for every element, of which the first `count` are meant.
    PaddedNonZero(x) -> (y, count) since [1] in "ai.tinsmith";
}

/// The flat positions of what is not zero.
fn places(x: &Tensor) -> Vec<usize> {
    let zero: Vec<bool> =
        if x.dtype().is_float() { x.to_f64s().iter().map(|&v| v == 0.0).collect() } else { x.to_ints().iter().map(|&v| v == 0).collect() };
    (0..x.len()).filter(|&i| !zero[i]).collect()
}

fn columns(dims: &[usize], places: &[usize], n: usize) -> Tensor {
    let mut y = vec![0i64; dims.len() * n];
    for (axis, stride) in row_major_strides(dims).into_iter().enumerate() {
        for (k, place) in places.iter().enumerate() {
            y[axis * n + k] = (place / stride.max(1) % dims[axis].max(1)) as i64;
        }
    }
    Tensor::from_slice(&[dims.len(), n], &y)
}

fn check(x: &Operands) -> Result<(), InferError> {
    if x.rank(0)? == 0 { Err(InferError::Unsupported("the places of a scalar".to_owned())) } else { Ok(()) }
}

impl Operator for NonZero {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        check(x)?;
        Ok(vec![Type::fixed(DType::I64, &[x.rank(0)?, places(x.value(0)?).len()])])
    }

    fn padded(&self, _: &Operands, _: &[Interval]) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedNonZero {}))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let places = places(x.tensor(0));
        Ok(vec![columns(x.tensor(0).dims(), &places, places.len())])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let value = x.facts.value(0)?;
        let places = places(value);
        let table = b.constant("places", columns(value.dims(), &places, places.len()));
        let dims = b.dims(table).to_vec();
        Ok(vec![b.compute(&dims, |b, at| b.load(table, at))])
    }
}

impl Operator for PaddedNonZero {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        check(x)?;
        Ok(vec![Type::fixed(DType::I64, &[x.rank(0)?, n_elements(&x.dims(0)?)]), Type::fixed(DType::I64, &[1])])
    }

    fn interval(&self, x: &Operands, _: &[Interval]) -> Interval {
        let greatest = x.dims(0).ok().and_then(|dims| dims.into_iter().max()).unwrap_or(0);
        Interval::new(0.0, greatest.saturating_sub(1) as f64)
    }

    fn fill(&self, _: &Operands, _: usize, _: usize) -> Option<Fill> {
        Some(Fill::Zero)
    }

    fn sizes(&self, _: &Operands) -> Vec<Extent> {
        vec![Extent { result: 0, axis: 1, count: 1 }]
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let places = places(x.tensor(0));
        let y = columns(x.tensor(0).dims(), &places, x.tensor(0).len());
        Ok(vec![y, Tensor::from_slice(&[1], &[places.len() as i64])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, dims, out_dims) = (x.tensor(0), x.dims(0), x.result_dims(0));
        let flags = b.compute(&dims, |b, at| flag(&b.load(input, at)));
        let flags = b.reshape(flags, &[out_dims[1]]);
        let ranks = Ranks::of(b, flags);
        let y = b.compute(&out_dims, |_, _| Expr::int(DType::I64, 0));
        for axis in 0..dims.len() {
            ranks.close_up(b, y, Some(axis as i64), &dims, |at| Expr::index(&at[axis]));
        }
        Ok(vec![y, ranks.count])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_op, random, t};

    #[test]
    fn places_are_in_order() {
        let x = || t("f32[2,3] 0 1 nan -2 0 0");
        assert_eq!(check_op("NonZero", [x()]), [t("i64[2,3] 0 0 1 1 2 0")]);
        let check = Check::new("ai.tinsmith.PaddedNonZero").results(2);
        assert_eq!(check.run([x()]), [t("i64[2,6] 0 0 1 0 0 0 1 2 0 0 0 0"), t("i64[1] 3")]);
        for (seed, ty) in ["bool[3,5,7]", "i8[40]", "f64[2,9]", "u8[1,1]", "f32[0,4]"].into_iter().enumerate() {
            check.run([random(ty, seed as u64)]);
        }
        assert_eq!(check.run([t("i32[4] 0")])[1], t("i64[1] 0"));
    }
}

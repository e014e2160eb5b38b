//! `Compress`: the slices of an axis that a condition chooses.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Compress.html>

use super::selection::{chosen, flag};
use crate::expr::{self, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, Extent, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements, row_major_strides};

operator! {
    /// The slices along `axis` of `input` at the places where `condition` is true; without an axis, the elements of `input` flat.
    Compress(input, condition) -> (output) since [9, 11];
    /// The axis.
    axis: Option<i64>,
}

operator! {
    /// `Compress` by a condition that is not constant: of the axis of `output`, which is as long as the condition, the first `count` are meant.
    PaddedCompress(input, condition) -> (output, count) since [1] in "ai.tinsmith";
    /// The axis.
    axis: Option<i64>,
}

/// The extents of the input as they are cut, and the axis.
fn plan(axis: Option<i64>, x: &Operands) -> Result<(Vec<usize>, usize), InferError> {
    x.require_dtype(1, &[DType::Bool])?;
    let dims = x.dims(0)?;
    let (dims, axis) = match axis {
        Some(axis) => (dims, x.axis(0, axis)?),
        None => (vec![n_elements(&dims)], 0),
    };
    match x.dims(1)?[..] {
        [n] if n <= dims[axis] => Ok((dims, axis)),
        [n] => Err(InferError::Invalid(format!("{n} conditions for an axis of {}", dims[axis]))),
        _ => Err(InferError::Invalid(format!("the condition is `{}`, not a vector", x.ty(1)?))),
    }
}

fn places(condition: &Tensor) -> Vec<usize> {
    condition.to_ints().iter().enumerate().filter(|(_, c)| **c != 0).map(|(i, _)| i).collect()
}

/// The slices at these places; 0 stands in for those behind the last.
fn eval(axis: Option<i64>, x: &Operands, n: Option<usize>) -> Result<Tensor, EvalError> {
    let (dims, axis) = plan(axis, x).map_err(|e| EvalError::Invalid(e.to_string()))?;
    let places = places(x.tensor(1));
    let mut out = dims.clone();
    out[axis] = n.unwrap_or(places.len());
    let strides = row_major_strides(&dims);
    Ok(x.tensor(0).reshape(&dims).gather(&out, |at| {
        let place = |a: usize| if a == axis { places.get(at[a]).copied().unwrap_or(0) } else { at[a] };
        Some((0..dims.len()).map(|a| place(a) * strides[a]).sum())
    }))
}

/// The slices of the operand at the places that a tensor `[n]` holds.
fn take(b: &mut expr::Builder, x: &Args<'_>, cut: &(Vec<usize>, usize), places: TensorId) -> TensorId {
    let (dims, axis) = cut;
    let input = b.reshape(x.tensor(0), dims);
    let out = x.result_dims(0);
    let dtype = b.dtype(input);
    if out.contains(&0) {
        return b.compute(&out, |_, _| Expr::int(dtype, 0));
    }
    b.compute(&out, |b, at| {
        let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
        from[*axis] = Ix::Clamped(b.load(places, [&at[*axis]]).cast(DType::I64));
        b.load(input, from)
    })
}

impl Operator for Compress {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (mut dims, axis) = plan(self.axis, x)?;
        dims[axis] = places(x.value(1)?).len();
        Ok(vec![Type::fixed(x.dtype(0)?, &dims)])
    }

    fn padded(&self, _: &Operands, _: &[Interval]) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedCompress { axis: self.axis }))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![eval(self.axis, x, None)?])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let cut = plan(self.axis, x.facts)?;
        let places: Vec<i64> = places(x.facts.value(1)?).into_iter().map(|i| i as i64).collect();
        let table = b.constant("places", Tensor::from_slice(&[places.len()], &places));
        Ok(vec![take(b, x, &cut, table)])
    }
}

impl Operator for PaddedCompress {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (mut dims, axis) = plan(self.axis, x)?;
        dims[axis] = x.dims(1)?[0];
        Ok(vec![Type::fixed(x.dtype(0)?, &dims), Type::fixed(DType::I64, &[1])])
    }

    fn sizes(&self, x: &Operands) -> Vec<Extent> {
        plan(self.axis, x).map(|(_, axis)| vec![Extent { result: 0, axis, count: 1 }]).unwrap_or_default()
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let count = places(x.tensor(1)).len() as i64;
        Ok(vec![eval(self.axis, x, Some(x.tensor(1).len()))?, Tensor::from_slice(&[1], &[count])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let cut = plan(self.axis, x.facts)?;
        let condition = x.tensor(1);
        let flags = b.compute(&x.dims(1), |b, at| flag(&b.load(condition, at)));
        let (positions, count) = chosen(b, flags);
        Ok(vec![take(b, x, &cut, positions), count])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn chosen_slices_stay_in_order() {
        let (x, c) = (|| t("f32[3,2] 1 2 3 4 5 6"), || t("bool[3] false true true"));
        assert_eq!(check_op("Compress axis=0", [x(), c()]), [t("f32[2,2] 3 4 5 6")]);
        assert_eq!(check_op("Compress", [x(), t("bool[5] false true false false true")]), [t("f32[2] 2 5")]);
        assert_eq!(check_error("Compress axis=1", [x(), c()]), "3 conditions for an axis of 2");
        let padded = |axis: &str| Check::new(&format!("ai.tinsmith.PaddedCompress {axis}")).results(2);
        assert_eq!(padded("axis=0").run([x(), c()]), [t("f32[3,2] 3 4 5 6 1 2"), t("i64[1] 2")]);
        padded("").run([random("u8[2,3,4]", 1), random("bool[20]", 2)]);
        padded("axis=-1").run([random("f64[2,0,4]", 1), random("bool[4]", 2)]);
        padded("axis=1").run([random("bool[2,30,4]", 3), random("bool[29]", 4)]);
    }
}

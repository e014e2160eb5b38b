//! `ReverseSequence`: the first elements of each sequence backwards.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ReverseSequence.html>

use super::view::identity_view;
use crate::expr::{self, BinaryOp, CompareOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, View};
use crate::tensor::{DType, Tensor, Type, row_major_strides};

operator! {
    /// For each sequence of the batch, its first `sequence_lens` elements backwards and the rest as they are.
    ReverseSequence(input, sequence_lens) -> (y) since [10];
    /// The axis of the batch: 0 or 1.
    batch_axis: i64 = 1,
    /// The axis of time: 0 or 1.
    time_axis: i64 = 0,
}

impl Operator for ReverseSequence {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (ty, lens) = (x.ty(0)?, x.ty(1)?);
        if ty.rank() < 2 || lens.rank() != 1 || !matches!((self.batch_axis, self.time_axis), (0, 1) | (1, 0)) {
            return Err(InferError::Invalid(format!("`{ty}` with lengths `{lens}`, batch {}, time {}", self.batch_axis, self.time_axis)));
        }
        if !lens.dtype.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: lens.dtype });
        }
        match (ty.shape.0[self.batch_axis as usize].fixed(), lens.shape.0[0].fixed()) {
            (Some(n), Some(m)) if n != m => Err(InferError::Invalid(format!("{m} lengths for a batch of {n}"))),
            _ => Ok(vec![ty.clone()]),
        }
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        axes.operands[0] = (0..axes.operands[0].len()).map(|i| (i as i64 != self.time_axis).then_some(i as u32)).collect();
        axes.operands[1] = vec![Some(self.batch_axis as u32); axes.operands[1].len()];
        axes.results = vec![axes.operands[0].clone()];
        axes
    }

    /// Lengths that are all the whole axis, or none of it: the axis backwards, or as it is.
    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let lens = x.ints(1).ok()?;
        let mut forms = identity_view(x.rank(0).ok()?);
        if lens.iter().all(|n| (0..=1).contains(n)) {
            return Some(vec![View::Affine(forms)]);
        }
        let extent = x.ty(0).ok()?.shape.0[self.time_axis as usize].fixed()? as i64;
        let form = &mut forms[self.time_axis as usize];
        *form = form.times(-1).offset(extent - 1);
        lens.iter().all(|&n| n == extent).then(|| vec![View::Affine(forms)])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let input = x.tensor(0);
        let (batch, time) = (self.batch_axis as usize, self.time_axis as usize);
        let lens: Vec<i64> = x.tensor(1).to_ints().into_iter().map(|n| n as i64).collect();
        let extent = input.dims()[time];
        if let Some(&index) = lens.iter().find(|&&n| n < 0 || n > extent as i64) {
            return Err(EvalError::IndexOutOfRange { index, extent });
        }
        let strides = row_major_strides(input.dims());
        Ok(vec![input.gather(input.dims(), |at| {
            let here: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
            let (t, len) = (at[time], lens[at[batch]] as usize);
            Some(if t < len { here - t * strides[time] + (len - 1 - t) * strides[time] } else { here })
        })])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, lens) = (x.tensor(0), x.tensor(1));
        let (batch, time) = (self.batch_axis as usize, self.time_axis as usize);
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let len = b.load(lens, [&at[batch]]).cast(DType::I64);
            let t = Expr::index(&at[time]);
            let mirrored = len.binary(BinaryOp::Sub, &Expr::index(&at[time].offset(1)));
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            from[time] = Ix::Checked(t.compare(CompareOp::Lt, &len).select(&mirrored, &t));
            b.load(input, from)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn only_the_first_elements_turn() {
        let x = || t("f32[2,3] 1 2 3 4 5 6");
        assert_eq!(check_op("ReverseSequence time_axis=1 batch_axis=0", [x(), t("i64[2] 2 3")]), [t("f32[2,3] 2 1 3 6 5 4")]);
        assert_eq!(check_op("ReverseSequence", [x(), t("i64[3] 2 0 1")]), [t("f32[2,3] 4 2 3 1 5 6")]);
        check_op("ReverseSequence", [random("i64[3,2,2]", 1), t("i32[2] 3 2")]);
        check_op("ReverseSequence", [random("i64[3,2,2]", 1), t("i32[2] 3 3")]);
        check_op("ReverseSequence", [random("i64[3,2,2]", 1), t("i32[2] 0 1")]);
        assert_eq!(check_error("ReverseSequence", [x(), t("i64[3] 3 0 1")]), "index 3 is out of range for extent 2");
        assert_eq!(check_error("ReverseSequence", [x(), t("i64[2] 1 1")]), "2 lengths for a batch of 3");
    }
}

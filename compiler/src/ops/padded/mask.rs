//! Padding made zero, so that it is harmless as an index.

use crate::expr::{self, CompareOp, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index};

operator! {
    /// `x`, and zero from position `count` of the axis on.
    Mask(x, count) -> (y) since [1] in "ai.tinsmith";
    /// The axis.
    axis: i64 = 0,
}

impl Operator for Mask {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.axis(0, self.axis)?;
        x.require_dtype(1, &[DType::I64])?;
        Ok(vec![x.ty(0)?.clone()])
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0].join(Interval::new(0.0, 0.0))
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(axis) = x.axis(0, self.axis) {
            axes.operands[0] = (0..axes.operands[0].len()).map(|i| (i != axis).then_some(i as u32)).collect();
            axes.results = vec![axes.operands[0].clone()];
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (input, count) = (x.tensor(0), x.tensor(1).to_ints()[0]);
        let mut keep = vec![];
        for_each_index(input.dims(), |_, at| keep.push((at[axis] as i128) < count));
        let size = input.dtype().size_bytes();
        let bytes: Vec<u8> =
            input.bytes().chunks(size).zip(keep).flat_map(|(e, keep)| if keep { e.to_vec() } else { vec![0; size] }).collect();
        Ok(vec![Tensor::from_bytes(input.dtype(), input.dims(), &bytes)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let axis = x.facts.axis(0, self.axis)?;
        let (input, count) = (x.tensor(0), x.tensor(1));
        let zero = Expr::int(b.dtype(input), 0);
        Ok(vec![b.compute(&x.dims(0), |b, at| {
            let meant = Expr::index(&at[axis]).compare(CompareOp::Lt, &b.load(count, [0i64]));
            meant.select(&b.load(input, at), &zero)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn what_is_behind_the_count_is_zero() {
        let x = || t("i64[2,3] 1 2 3 4 5 6");
        assert_eq!(check_op("ai.tinsmith.Mask axis=1", [x(), t("i64[1] 2")]), [t("i64[2,3] 1 2 0 4 5 0")]);
        assert_eq!(check_op("ai.tinsmith.Mask", [x(), t("i64[1] 1")]), [t("i64[2,3] 1 2 3 0 0 0")]);
        check_op("ai.tinsmith.Mask", [random("f16[5]", 1), t("i64[1] 9")]);
    }
}

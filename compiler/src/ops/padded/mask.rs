//! Padding made zero, so that it is harmless as an index.

use crate::expr::{self, CompareOp, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, n_elements};

operator! {
    /// `x`, and from position `count` of the axis on zero, or what `fill` says.
    Mask(x, count) -> (y) since [1] in "ai.tinsmith";
    /// The axis.
    axis: i64 = 0,
    /// `zero`, `one`, or the `lowest` or `greatest` value of the type.
    fill: String = "zero",
}

impl Mask {
    /// The number that fills an element type, in that type.
    fn filling(&self, dtype: DType) -> Option<Tensor> {
        let (low, high) = if dtype.is_int() { dtype.int_range() } else { (0, 1) };
        let extreme = |float: f64, int: i128| match dtype {
            DType::Bool => Tensor::from_bools(&[], [int != 0]),
            dtype if dtype.is_float() => Tensor::from_f64s(dtype, &[], &[float]),
            dtype => Tensor::from_ints(dtype, &[], &[int]),
        };
        match &self.fill[..] {
            "zero" => Some(Tensor::from_bytes(dtype, &[], &vec![0; dtype.size_bytes()])),
            "one" => Some(extreme(1.0, 1)),
            "lowest" => Some(extreme(f64::NEG_INFINITY, low)),
            "greatest" => Some(extreme(f64::INFINITY, high)),
            _ => None,
        }
    }
}

impl Operator for Mask {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.axis(0, self.axis)?;
        x.require_dtype(1, &[DType::I64])?;
        if x.ty(1)?.dims().is_some_and(|dims| n_elements(&dims) != 1) {
            return Err(InferError::Invalid(format!("a count of type `{}`", x.ty(1)?)));
        }
        if self.filling(x.dtype(0)?).is_none() {
            return Err(InferError::Invalid(format!("`fill` is `{}`", self.fill)));
        }
        Ok(vec![x.ty(0)?.clone()])
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        if self.fill == "zero" { of[0].join(Interval::new(0.0, 0.0)) } else { Interval::ALL }
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
        let fill = self.filling(input.dtype()).ok_or_else(|| EvalError::Invalid(format!("`fill` is `{}`", self.fill)))?;
        let bytes: Vec<u8> =
            input.bytes().chunks(size).zip(keep).flat_map(|(e, keep)| if keep { e.to_vec() } else { fill.bytes().to_vec() }).collect();
        Ok(vec![Tensor::from_bytes(input.dtype(), input.dims(), &bytes)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let axis = x.facts.axis(0, self.axis)?;
        let (input, count) = (x.tensor(0), x.tensor(1));
        let fill = self.filling(x.facts.dtype(0)?).ok_or_else(|| LowerError::Unsupported(format!("`fill` is `{}`", self.fill)))?;
        let fill = b.constant("fill", Tensor::from_bytes(b.dtype(input), &[], fill.bytes()));
        let first = vec![0i64; x.dims(1).len()];
        Ok(vec![b.compute(&x.dims(0), |b, at| {
            let meant = Expr::index(&at[axis]).compare(CompareOp::Lt, &b.load(count, first.clone()));
            meant.select(&b.load(input, at), &b.load(fill, Vec::<i64>::new()))
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn what_is_behind_the_count_is_zero() {
        assert!(check_error("ai.tinsmith.Mask", [random("f16[5]", 1), t("i64[2] 1 2")]).contains("a count of type `i64[2]`"));
        let x = || t("i64[2,3] 1 2 3 4 5 6");
        assert_eq!(check_op("ai.tinsmith.Mask axis=1", [x(), t("i64[1] 2")]), [t("i64[2,3] 1 2 0 4 5 0")]);
        assert_eq!(check_op("ai.tinsmith.Mask", [x(), t("i64[1] 1")]), [t("i64[2,3] 1 2 3 0 0 0")]);
        check_op("ai.tinsmith.Mask", [random("f16[5]", 1), t("i64[1] 9")]);
        check_op("ai.tinsmith.Mask", [random("f16[5]", 1), t("i64[] 3")]);
        let lowest = check_op("ai.tinsmith.Mask fill=\"lowest\"", [t("i8[3] 1 2 3"), t("i64[1] 1")]);
        assert_eq!(lowest, [t("i8[3] 1 -128 -128")]);
        let greatest = check_op("ai.tinsmith.Mask fill=\"greatest\"", [t("f32[3] 1 2 3"), t("i64[1] 2")]);
        assert_eq!(greatest, [t("f32[3] 1 2 inf")]);
        check_op("ai.tinsmith.Mask fill=\"one\"", [random("bool[5]", 1), t("i64[1] 2")]);
    }
}

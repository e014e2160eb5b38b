//! An element that says how much is meant.

use crate::expr::{self, BinaryOp, CompareOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements};

operator! {
    /// Element `at` of `x`, row-major; one that is negative or greater than `most` stops the program.
    Count(x) -> (count) since [1] in "ai.tinsmith";
    /// The place.
    at: i64 = 0,
    /// The greatest number.
    most: i64,
}

/// A greater number is no extent.
const MAX: i64 = 1 << 24;

impl Operator for Count {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &[DType::I64])?;
        if !(0..=MAX).contains(&self.most) || !(0..n_elements(&x.dims(0)?) as i64).contains(&self.at) {
            return Err(InferError::Invalid(format!("element {} of `{}`, at most {}", self.at, x.ty(0)?, self.most)));
        }
        Ok(vec![Type::fixed(DType::I64, &[1])])
    }

    fn source(&self, _: &Operands, _: usize) -> Option<(usize, usize)> {
        Some((0, self.at as usize))
    }

    fn interval(&self, _: &Operands, _: &[Interval]) -> Interval {
        Interval::new(0.0, self.most as f64)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let index = x.tensor(0).to_ints()[self.at as usize] as i64;
        if !(0..=self.most).contains(&index) {
            return Err(EvalError::IndexOutOfRange { index, extent: self.most as usize + 1 });
        }
        Ok(vec![Tensor::from_slice(&[1], &[index])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let input = b.reshape(x.tensor(0), &[n_elements(&x.dims(0))]);
        let zero = b.constant("within", Tensor::from_slice(&[1], &[0i64]));
        Ok(vec![b.compute(&[1], |b, _| {
            let count = b.load(input, [self.at]);
            let number = |n: i64| Expr::int(DType::I64, n);
            let within = count.compare(CompareOp::Ge, &number(0)).binary(BinaryOp::And, &count.compare(CompareOp::Le, &number(self.most)));
            b.load(zero, [Ix::Checked(within.select(&number(0), &number(-1)))]) + count
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn extents_are_in_range() {
        let x = || t("i64[3] 4 5 -1");
        assert_eq!(check_op("ai.tinsmith.Count at=1 most=5", [x()]), [t("i64[1] 5")]);
        assert_eq!(check_error("ai.tinsmith.Count most=3", [x()]), "index 4 is out of range for extent 4");
        assert_eq!(check_error("ai.tinsmith.Count at=2 most=3", [x()]), "index -1 is out of range for extent 4");
        assert!(check_error("ai.tinsmith.Count at=3 most=3", [x()]).contains("element 3 of `i64[3]`"));
    }
}

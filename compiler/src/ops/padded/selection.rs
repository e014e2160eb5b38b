//! The positions of the elements that flags choose, in order.

use crate::expr::{BinaryOp, Builder, CompareOp, Expr, ReduceOp, TensorId};
use crate::ops::LowerError;
use crate::tensor::DType;

/// More comparisons than this are refused.
const MAX_STEPS: usize = 1 << 36;

/// The positions of the nonzero elements of `flags: i64[n]`, as `i64[n]`, 0 behind the last; and how many there are, as `i64[1]`.
pub(super) fn chosen(b: &mut Builder, flags: TensorId) -> Result<(TensorId, TensorId), LowerError> {
    let n = b.dims(flags)[0];
    if n.checked_mul(n).is_none_or(|steps| steps > MAX_STEPS) {
        return Err(LowerError::Unsupported(format!("a choice among {n} elements that data makes")));
    }
    let zero = Expr::int(DType::I64, 0);
    if n == 0 {
        let none = b.compute(&[0], |_, _| zero.clone());
        return Ok((none, b.compute(&[1], |_, _| zero.clone())));
    }
    let before = b.reduce(
        ReduceOp::Sum,
        &[n],
        &[n],
        |b, at, over| {
            let earlier = Expr::index(&over[0]).compare(CompareOp::Lt, &Expr::index(&at[0]));
            earlier.select(&b.load(flags, over), &zero)
        },
        |_, _, sum| sum,
    );
    let positions = b.reduce(
        ReduceOp::Max,
        &[n],
        &[n],
        |b, at, over| {
            let here = b.load(before, over).compare(CompareOp::Eq, &Expr::index(&at[0]));
            let is_it = here.binary(BinaryOp::And, &b.load(flags, over).compare(CompareOp::Ne, &zero));
            is_it.select(&Expr::index(&over[0]), &zero)
        },
        |_, _, position| position,
    );
    let count = b.reduce(ReduceOp::Sum, &[1], &[n], |b, _, over| b.load(flags, over), |_, _, sum| sum);
    Ok((positions, count))
}

/// 1 where `x` is not zero (NaN is not), else 0.
pub(super) fn flag(x: &Expr) -> Expr {
    let (zero, one) = (Expr::int(x.dtype(), 0), Expr::int(DType::I64, 1));
    x.compare(CompareOp::Ne, &zero).select(&one, &Expr::int(DType::I64, 0))
}

//! The positions of the elements that flags choose, in order.

use crate::expr::{Builder, CompareOp, Expr, ReduceOp, TensorId};
use crate::ops::sorting;
use crate::tensor::DType;

/// The positions of the nonzero elements of `flags: i64[n]`, as `i64[n]`, 0 behind the last; and how many there are, as `i64[1]`.
pub(super) fn chosen(b: &mut Builder, flags: TensorId) -> (TensorId, TensorId) {
    let n = b.dims(flags)[0];
    let zero = Expr::int(DType::I64, 0);
    if n == 0 {
        let none = b.compute(&[0], |_, _| zero.clone());
        return (none, b.compute(&[1], |_, _| zero.clone()));
    }
    let upto = running_sums(b, flags);
    let all = b.flat_spread(flags);
    b.note_spread(upto, &all);
    // The first place with so many: below it are all places with fewer.
    let below = sorting::count_up_to(b, upto, 0, &[n], |at| at.to_vec(), |at| Expr::index(&at[0]));
    let positions = b.compute(&[n], |b, at| {
        let below = b.load(below, at);
        below.compare(CompareOp::Lt, &Expr::int(DType::I64, n as i64)).select(&below, &zero)
    });
    let count = b.reduce(ReduceOp::Sum, &[1], &[n], |b, _, over| b.load(flags, over), |_, _, sum| sum);
    (positions, count)
}

/// The sums of the elements of `x: i64[n]` up to each one, of at least one.
pub(super) fn running_sums(b: &mut Builder, x: TensorId) -> TensorId {
    let n = b.dims(x)[0];
    let sums = b.declare(DType::I64, &[n]);
    b.write(sums, &[1], |b, at| (at.to_vec(), b.load(x, at)));
    if n > 1 {
        b.repeat(n - 1, |b, i| {
            b.write(sums, &[1], |b, at| {
                let (before, here) = (i.plus(&at[0]), i.plus(&at[0]).offset(1));
                (vec![here.clone()], &b.load(sums, [before]) + &b.load(x, [here]))
            });
        });
    }
    sums
}

/// 1 where `x` is not zero (NaN is not), else 0.
pub(super) fn flag(x: &Expr) -> Expr {
    let (zero, one) = (Expr::int(x.dtype(), 0), Expr::int(DType::I64, 1));
    x.compare(CompareOp::Ne, &zero).select(&one, &Expr::int(DType::I64, 0))
}

//! The positions of the elements that flags choose, in order.

use crate::expr::{Affine, Builder, CompareOp, Expr, Place, ReduceOp, TensorId};
use crate::tensor::DType;

/// The positions of the nonzero elements of `flags: i64[n]`, as `i64[n]`, 0 behind the last; and how many there are, as `i64[1]`.
pub(super) fn chosen(b: &mut Builder, flags: TensorId) -> (TensorId, TensorId) {
    let ranks = Ranks::of(b, flags);
    (ranks.positions(b), ranks.count)
}

/// Where the elements go that flags choose, if they stand one behind the other.
pub(super) struct Ranks {
    /// How many are chosen before each element, `i64[n]`.
    pub(super) before: TensorId,
    /// How many are chosen, `i64[1]`.
    pub(super) count: TensorId,
}

impl Ranks {
    /// Of `flags: i64[n]`, which are 1 or 0.
    pub(super) fn of(b: &mut Builder, flags: TensorId) -> Ranks {
        let n = b.dims(flags)[0];
        let zero = Expr::int(DType::I64, 0);
        if n == 0 {
            return Ranks { before: flags, count: b.compute(&[1], |_, _| zero) };
        }
        let before = b.declare(DType::I64, &[n]);
        b.write(before, &[1], |_, at| (at.to_vec(), zero));
        if n > 1 {
            b.repeat(n - 1, |b, i| {
                b.write(before, &[1], |b, at| {
                    let last = i.plus(&at[0]);
                    (vec![last.offset(1)], &b.load(before, [last.clone()]) + &b.load(flags, [last]))
                });
            });
        }
        let count = b.reduce(ReduceOp::Sum, &[1], &[n], |b, _, over| b.load(flags, over), |_, _, sum| sum);
        Ranks { before, count }
    }

    /// The positions of what is chosen, `i64[n]`, 0 behind the last.
    pub(super) fn positions(&self, b: &mut Builder) -> TensorId {
        let dims = b.dims(self.before).to_vec();
        let positions = b.compute(&dims, |_, _| Expr::int(DType::I64, 0));
        self.close_up(b, positions, None, &dims, |at| Expr::index(&at[0]));
        positions
    }

    /// Writes the values of the chosen elements of `dims`, `n` in all, into zeros: the `n` of `to`, or those of a row of it.
    pub(super) fn close_up(&self, b: &mut Builder, to: TensorId, row: Option<i64>, dims: &[usize], value: impl Fn(&[Affine]) -> Expr) {
        if b.dims(self.before) == [0] {
            return;
        }
        let place = |rank: Expr| row.map(|r| Place::Known(Affine::constant(r))).into_iter().chain([Place::Data(rank)]).collect();
        // Every element goes where the next chosen one will: without branches, and only what is written last may not be meant.
        let before = b.reshape(self.before, dims);
        b.scatter(to, dims, None, |b, at, _| (place(b.load(before, at)), value(at)));
        let n = Expr::extent(b.dims(self.before)[0] as i64);
        let count = |b: &Builder| b.load(self.count, [0i64]);
        let ends_early = |b: &Builder, _: &[Affine]| count(b).compare(CompareOp::Lt, &n);
        b.scatter(to, &[1], Some(&ends_early), |b, _, _| (place(count(b)), Expr::int(DType::I64, 0)));
    }
}

/// 1 where `x` is not zero (NaN is not), else 0.
pub(super) fn flag(x: &Expr) -> Expr {
    let (zero, one) = (Expr::int(x.dtype(), 0), Expr::int(DType::I64, 1));
    x.compare(CompareOp::Ne, &zero).select(&one, &Expr::int(DType::I64, 0))
}

//! `ScatterND` of updates of which data decides how many there are.

use super::extents::{check_extents, is_meant, meant_extents};
use crate::expr::{self, BinaryOp, CompareOp, Expr, Ix, Meant, TensorId};
use crate::operator;
use crate::ops::movement::ScatterND;
use crate::ops::{Args, EvalError, Fact, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type};

operator! {
    /// `ScatterND` of as much of `indices` and `updates` as `extents` says, `i64[rank]` of `indices`. Where updates lie along one axis,
    /// there may be more or fewer rows of them than of indices beyond what is meant.
    PaddedScatterND(data, indices, updates, extents) -> (output) since [1] in "ai.tinsmith";
    /// How updates combine with what is there.
    reduction: String = "none",
}

impl PaddedScatterND {
    /// The operator of all updates, and its operands: `updates` with as many rows as `indices`.
    fn whole(&self, x: &Operands) -> Result<(ScatterND, Operands), InferError> {
        check_extents(x, 3, 1)?;
        let mut facts = x.facts[..3].to_vec();
        let (rows, updates) = (x.dims(1)?.first().copied(), x.ty(2)?);
        if let (2, Some(rows), true) = (x.rank(1)?, rows, updates.rank() > 0) {
            let dims = [Dim::Fixed(rows)].into_iter().chain(updates.shape.0[1..].iter().cloned());
            facts[2] = Some(Fact::of(updates.with_dims(dims)));
        }
        Ok((ScatterND { reduction: self.reduction.clone() }, Operands { facts, n_results: 1 }))
    }
}

impl Operator for PaddedScatterND {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (op, operands) = self.whole(x)?;
        op.infer(&operands)
    }

    fn carries(&self, x: &Operands, operand: usize, axis: usize, of: &[Interval]) -> Option<(usize, usize)> {
        let (op, operands) = self.whole(x).ok()?;
        op.carries(&operands, operand, axis, of)
    }

    fn heeds(&self, x: &Operands, operand: usize, axis: usize, _: &[Interval]) -> bool {
        // The axes that say which update it is.
        matches!(operand, 1 | 2) && x.rank(1).is_ok_and(|rank| axis + 1 < rank)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (op, mut operands) = self.whole(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let mut outer = meant_extents(x, 3, 1);
        let n = x.tensor(1).dims()[outer.len() - 1];
        outer.pop();
        if let [rows] = &mut outer[..] {
            *rows = (*rows).min(x.tensor(2).dims()[0]);
        }
        let inner = &x.tensor(2).dims()[outer.len()..];
        for (i, dims) in [(1, [&outer[..], &[n]].concat()), (2, [&outer[..], inner].concat())] {
            operands.facts[i] = Some(Fact::from(x.tensor(i).first(&dims)));
        }
        op.eval(&operands)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (op, operands) = self.whole(x.facts)?;
        let (index_dims, mut update_dims) = (x.dims(1), x.dims(2));
        let n_outer = index_dims.len() - 1;
        let mut updates = x.tensor(2);
        let n_updates = update_dims.first().copied().unwrap_or(1);
        if n_updates == 0 || index_dims[..n_outer].contains(&0) || x.dims(0).contains(&0) {
            return Ok(vec![b.compute(&x.dims(0), |b, at| b.load(x.tensor(0), at))]);
        }
        let others = n_outer == 1 && (b.any_size || index_dims[0] != n_updates);
        if others {
            update_dims[0] = index_dims[0];
            updates = b.compute(&update_dims, |b, at| {
                let row = [Ix::Clamped(Expr::index(&at[0]))];
                b.load(updates, row.into_iter().chain(at[1..].iter().map(Ix::from)).collect::<Vec<_>>())
            });
        }
        let extents = x.tensor(3);
        let meant = |b: &expr::Builder, at: &[expr::Affine]| {
            let all = is_meant(b, extents, &at[..n_outer]);
            let there = Expr::index(&at[0]).compare(CompareOp::Lt, &Expr::extent(n_updates as i64));
            if others { all.binary(BinaryOp::And, &there) } else { all }
        };
        let inner = Args { facts: &operands, tensors: vec![x.tensors[0], x.tensors[1], Some(updates)], results: x.results };
        let when: Option<&Meant<'_>> = if n_outer > 0 { Some(&meant) } else { None };
        Ok(vec![op.lower_where(b, &inner, when)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn only_updates_that_are_meant_land() {
        let op = "ai.tinsmith.PaddedScatterND";
        let x = || t("f32[2,2] 1 2 3 4");
        let places = || t("i64[3,2] 0 1 1 0 9 -9");
        for (meant, y) in [("2 2", "1 8 9 4"), ("1 2", "1 8 3 4"), ("0 2", "1 2 3 4")] {
            let y = t(&format!("f32[2,2] {y}"));
            let meant = || t(&format!("i64[2] {meant}"));
            assert_eq!(check_op(op, [x(), places(), t("f32[3] 8 9 7"), meant()])[0], y);
            // More rows of updates than of indices, and fewer.
            assert_eq!(check_op(op, [x(), places(), t("f32[4] 8 9 7 6"), meant()])[0], y);
            assert_eq!(check_op(op, [x(), places(), t("f32[2] 8 9"), meant()])[0], y);
        }
        for reduction in ["none", "add", "max"] {
            let op = format!("{op} reduction=\"{reduction}\"");
            check_op(&op, [random("f32[5,3]", 1), t("i64[2,2,1] 0 4 -1 9"), random("f32[2,2,3]", 2), t("i64[3] 2 1 1")]);
            let places = t(&format!("i64[65,2] {}", (0..65).map(|i| format!("{} {} ", i % 7, (i * i) % 9)).collect::<String>()));
            for meant in ["i64[2] 40 2", "i64[2] 65 2", "i64[2] 0 2"] {
                check_op(&op, [random("f32[7,9,11]", 5), places.clone(), random("f32[65,11]", 6), t(meant)]);
            }
        }
        check_op(&format!("{op} reduction=\"add\""), [t("bool[3] 0 1 0"), t("i64[2,1] 0 2"), t("bool[2] 1 1"), t("i64[2] 1 1")]);
        check_op(op, [random("f32[3]", 1), t("i64[0,1]"), t("f32[0]"), t("i64[2] 0 1")]);
        check_op(op, [random("f32[3]", 1), t("i64[2,1] 0 1"), t("f32[0]"), t("i64[2] 0 1")]);
        let y = check_op(op, [t("f32[3] 1 2 3"), t("i64[3,1] 0 1 2"), t("f32[2] 7 8"), t("i64[2] 3 1")]);
        assert_eq!(y, [t("f32[3] 7 8 3")]);
    }
}

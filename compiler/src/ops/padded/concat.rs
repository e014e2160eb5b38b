//! `Concat` of operands of which data decides how much is meant.

use super::extents::check_extents;
use super::selection::chosen;
use crate::expr::{self, CompareOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::movement::Concat;
use crate::ops::{Args, Axes, Deciding, EvalError, Extent, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, row_major_strides};

operator! {
    /// `Concat` of the first `n` operands along `axis`, of each of which as much is meant as its extents say, `i64[rank]`: the others in order.
    /// Behind the `count` elements that are meant stands the first one.
    PaddedConcat("inputs_and_extents*") -> (output, count) since [1] in "ai.tinsmith";
    /// The axis.
    axis: i64,
    /// How many operands are joined.
    n: i64,
}

impl PaddedConcat {
    fn whole(&self, x: &Operands) -> Result<(Concat, Operands, usize), InferError> {
        let n = usize::try_from(self.n).ok().filter(|&n| n > 0 && x.len() == 2 * n);
        let n = n.ok_or_else(|| InferError::Invalid(format!("{} operands to join {} of them", x.len(), self.n)))?;
        for i in n..2 * n {
            check_extents(x, i, i - n)?;
        }
        Ok((Concat { axis: self.axis }, Operands { facts: x.facts[..n].to_vec(), n_results: 1 }, x.axis(0, self.axis)?))
    }
}

impl Operator for PaddedConcat {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (op, operands, _) = self.whole(x)?;
        let mut types = op.infer(&operands)?;
        types.push(Type::fixed(DType::I64, &[1]));
        Ok(types)
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok((op, operands, _)) = self.whole(x) {
            let joined = op.axes(&operands);
            axes.operands.splice(..joined.operands.len(), joined.operands);
            axes.results = joined.results;
        }
        axes
    }

    fn heeds(&self, x: &Operands, operand: usize, axis: usize, _: &[Interval]) -> bool {
        (operand as i64) < self.n && x.axis(0, self.axis).is_ok_and(|a| a == axis)
    }

    fn sizes(&self, x: &Operands) -> Vec<Extent> {
        x.axis(0, self.axis).map(|axis| vec![Extent { result: 0, axis, count: 1 }]).unwrap_or_default()
    }

    fn decides(&self, x: &Operands, _: usize) -> Option<Deciding> {
        let (_, operands, axis) = self.whole(x).ok()?;
        let n = operands.len();
        let numbers = (0..n).map(|i| x.dims(i).map(|dims| dims[axis] as i64)).collect::<Result<_, _>>().ok()?;
        Some(Deciding { numbers, elements: (n..2 * n).map(|i| (i, axis)).collect() })
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[..self.n as usize].iter().copied().reduce(Interval::join).unwrap_or(Interval::ALL)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (op, operands, axis) = self.whole(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let all = op.eval(&operands)?.swap_remove(0);
        let (mut places, mut start) = (vec![], 0);
        for i in 0..operands.len() {
            let extent = x.tensor(i).dims()[axis];
            let meant = (x.tensor(operands.len() + i).to_ints()[axis].max(0) as usize).min(extent);
            places.extend(start..start + meant);
            start += extent;
        }
        let strides = row_major_strides(all.dims());
        let output = all.gather(all.dims(), |at| {
            let along = |a: usize| if a == axis { places.get(at[a]).copied().unwrap_or(0) } else { at[a] };
            Some((0..at.len()).map(|a| along(a) * strides[a]).sum())
        });
        Ok(vec![output, Tensor::from_slice(&[1], &[places.len() as i64])])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (op, operands, axis) = self.whole(x.facts)?;
        let n = operands.len();
        let dims = x.result_dims(0);
        let all = op.lower(b, &Args { facts: &operands, tensors: x.tensors[..n].to_vec(), results: &x.results[..1] })?[0];
        let flags = b.declare(DType::I64, &dims[axis..=axis]);
        let mut start = 0;
        for i in 0..n {
            let extent = x.dims(i)[axis];
            let extents = x.tensor(n + i);
            b.write(flags, &[extent], |b, at| {
                let meant = Expr::index(&at[0]).compare(CompareOp::Lt, &b.load(extents, [axis as i64]));
                (vec![at[0].offset(start)], meant.select(&Expr::int(DType::I64, 1), &Expr::int(DType::I64, 0)))
            });
            start += extent as i64;
        }
        let (places, count) = chosen(b, flags);
        let output = b.compute(&dims, |b, at| {
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            from[axis] = Ix::Clamped(b.load(places, [at[axis].clone()]));
            b.load(all, from)
        });
        Ok(vec![output, count])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};

    #[test]
    fn what_is_meant_closes_up() {
        let check = |text: &str| Check::new(&format!("ai.tinsmith.PaddedConcat {text}")).results(2);
        let y = check("axis=0 n=2").run([t("f32[3] 1 2 3"), t("f32[2] 4 5"), t("i64[1] 2"), t("i64[1] 1")]);
        assert_eq!(y, [t("f32[5] 1 2 4 1 1"), t("i64[1] 3")]);
        let y = check("axis=-1 n=2").run([t("i64[2,2] 1 2 3 4"), t("i64[2,1] 5 6"), t("i64[2] 2 0"), t("i64[2] 2 1")]);
        assert_eq!(y, [t("i64[2,3] 5 1 1 6 3 3"), t("i64[1] 1")]);
        check("axis=1 n=3").run([
            random("f16[2,3,4]", 1),
            random("f16[2,1,4]", 2),
            random("f16[2,5,4]", 3),
            t("i64[3] 2 1 4"),
            t("i64[3] 2 1 4"),
            t("i64[3] 2 9 4"),
        ]);
    }
}

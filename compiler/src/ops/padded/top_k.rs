//! `TopK` of as many elements as data says.

use super::extents::check_extents;
use crate::expr::{self, CompareOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::movement::TopK;
use crate::ops::{Args, Axes, Counted, Deciding, EvalError, Extent, Fact, Fill, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `TopK` where `k` is not constant: the first `most` elements in order, or all, of which the first `count` are meant. A `k` that is negative or greater
    /// than the extent, that of `extents` where it is given, stops the program.
    PaddedTopK(x, k, "extents?") -> (values, indices, count) since [1] in "ai.tinsmith";
    /// The axis.
    axis: i64 = -1,
    /// Whether the greatest are wanted.
    largest: bool = true,
    /// No `k` is greater.
    most: Option<i64>,
}

impl PaddedTopK {
    /// The operator that puts the whole axis into order, its operands, and the axis.
    fn whole(&self, x: &Operands) -> Result<(TopK, Operands, usize), InferError> {
        let axis = x.axis(0, self.axis)?;
        let n = x.dims(0)?[axis];
        if !x.dtype(1)?.is_int() || x.dims(1)?.iter().any(|&d| d != 1) {
            return Err(InferError::Invalid("`k` must be one number".to_owned()));
        }
        let most = self.most.map_or(n as i64, |most| most.clamp(0, n as i64));
        let k = Fact::from(Tensor::from_slice(&[1], &[most]));
        let operands = Operands { facts: vec![x.facts[0].clone(), Some(k)], n_results: 2 };
        if x.has(2) {
            check_extents(x, 2, 0)?;
        }
        Ok((TopK { axis: self.axis, largest: self.largest, sorted: true }, operands, axis))
    }
}

impl Operator for PaddedTopK {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (op, operands, _) = self.whole(x)?;
        let mut types = op.infer(&operands)?;
        types.push(Type::fixed(DType::I64, &[1]));
        Ok(types)
    }

    fn interval_of_further(&self, x: &Operands, result: usize) -> Interval {
        self.whole(x).map_or(Interval::ALL, |(op, operands, _)| op.interval_of_further(&operands, result))
    }

    fn decides(&self, _: &Operands, _: usize) -> Option<Deciding> {
        Some(Deciding { numbers: vec![], elements: vec![(1, 0)] })
    }

    fn counted(&self, x: &Operands) -> Option<Counted> {
        (!x.has(2)).then(|| Counted { op: Box::new(self.clone()), of: vec![0], at: 2 })
    }

    fn fill(&self, x: &Operands, operand: usize, axis: usize) -> Option<Fill> {
        let ordered = x.has(2) && operand == 0 && x.axis(0, self.axis).is_ok_and(|a| a == axis);
        ordered.then_some(if self.largest { Fill::Lowest } else { Fill::Greatest })
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(axis) = x.axis(0, self.axis) {
            axes.operands[0] = (0..axes.operands[0].len()).map(|i| (i != axis).then_some(i as u32)).collect();
            axes.results = vec![axes.operands[0].clone(); 2];
        }
        axes
    }

    fn sizes(&self, x: &Operands) -> Vec<Extent> {
        x.axis(0, self.axis).map(|axis| [0, 1].map(|result| Extent { result, axis, count: 2 }).to_vec()).unwrap_or_default()
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (op, operands, axis) = self.whole(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let extent = x.tensor(0).dims()[axis];
        let k = x.tensor(1).to_ints()[0] as i64;
        let extent = x.tensor_opt(2).map_or(extent, |t| t.to_ints()[axis] as usize);
        let extent = self.most.map_or(extent, |most| extent.min(most.max(0) as usize));
        if !(0..=extent as i64).contains(&k) {
            return Err(EvalError::IndexOutOfRange { index: k, extent: extent + 1 });
        }
        let mut results = op.eval(&operands)?;
        results.push(Tensor::from_slice(&[1], &[k]));
        Ok(results)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (op, operands, axis) = self.whole(x.facts)?;
        let mut results = op.lower(b, &Args { facts: &operands, tensors: vec![x.tensors[0], None], results: &x.results[..2] })?;
        let n = x.result_dims(0)[axis] as i64;
        let table = b.constant("k", Tensor::from_slice(&[n as usize + 1], &(0..=n).collect::<Vec<_>>()));
        let k = x.tensor(1);
        let first = vec![0i64; b.dims(k).len()];
        results.push(b.compute(&[1], |b, _| {
            let k = b.load(k, first).cast(DType::I64);
            let at = x.get(2).map_or_else(
                || k.clone(),
                |extents| k.compare(CompareOp::Le, &b.load(extents, [axis as i64])).select(&k, &Expr::int(DType::I64, n + 1)),
            );
            b.load(table, [Ix::Checked(at)])
        }));
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn all_are_in_order_and_the_first_are_meant() {
        let check = |text: &str| Check::new(&format!("ai.tinsmith.PaddedTopK {text}")).results(3);
        let x = || t("f32[4] 1 3 2 3");
        assert_eq!(check("").run([x(), t("i64[1] 2")]), [t("f32[4] 3 3 2 1"), t("i64[4] 1 3 2 0"), t("i64[1] 2")]);
        check("axis=0 largest=0").run([random("i32[5,3]", 1), t("i64[1] 0")]);
        let of_two = [t("f32[4] 1 3 -inf -inf"), t("i64[1] 2"), t("i64[1] 2")];
        assert_eq!(check("").run(of_two.clone())[2], t("i64[1] 2"));
        let [x2, _, extents] = of_two;
        assert_eq!(check_error("ai.tinsmith.PaddedTopK", [x2, t("i64[1] 3"), extents]), "index 3 is out of range for extent 3");
        assert_eq!(check_error("ai.tinsmith.PaddedTopK", [x(), t("i64[1] 5")]), "index 5 is out of range for extent 5");
    }
}

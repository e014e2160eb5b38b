//! `ScatterElements` of updates of which data decides how many there are.

use super::extents::{check_extents, is_meant, meant_extents};
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::movement::ScatterElements;
use crate::ops::{Args, EvalError, Fact, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// `ScatterElements` of as much of `indices` and `updates` as `extents` says, `i64[rank]`.
    PaddedScatterElements(data, indices, updates, extents) -> (output) since [1] in "ai.tinsmith";
    /// The axis.
    axis: i64 = 0,
    /// How updates combine with what is there.
    reduction: String = "none",
}

impl PaddedScatterElements {
    fn whole(&self, x: &Operands) -> Result<(ScatterElements, Operands), InferError> {
        check_extents(x, 3, 1)?;
        let op = ScatterElements { axis: self.axis, reduction: self.reduction.clone() };
        Ok((op, Operands { facts: x.facts[..3].to_vec(), n_results: 1 }))
    }
}

impl Operator for PaddedScatterElements {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (op, operands) = self.whole(x)?;
        op.infer(&operands)
    }

    fn carries(&self, x: &Operands, operand: usize, axis: usize, of: &[Interval]) -> Option<(usize, usize)> {
        let (op, operands) = self.whole(x).ok()?;
        op.carries(&operands, operand, axis, of)
    }

    fn heeds(&self, _: &Operands, operand: usize, _: usize, _: &[Interval]) -> bool {
        operand == 1 || operand == 2
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (op, mut operands) = self.whole(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let dims = meant_extents(x, 3, 1);
        for i in 1..3 {
            operands.facts[i] = Some(Fact::from(x.tensor(i).first(&dims)));
        }
        op.eval(&operands)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (op, operands) = self.whole(x.facts)?;
        let inner = Args { facts: &operands, tensors: x.tensors[..3].to_vec(), results: x.results };
        let dims = x.dims(1);
        if dims.contains(&0) {
            return op.lower(b, &inner);
        }
        // Nothing has no place, not even for what is not meant.
        if x.dims(0).contains(&0) {
            return Ok(vec![b.compute(&x.dims(0), |b, at| b.load(x.tensor(0), at))]);
        }
        let extents = x.tensor(3);
        Ok(vec![op.lower_where(b, &inner, Some(&|b, at| is_meant(b, extents, at)))?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn only_updates_that_are_meant_land() {
        let op = |text: &str| format!("ai.tinsmith.PaddedScatterElements {text}");
        let y = check_op(&op(""), [t("f32[3] 1 2 3"), t("i64[3] 2 0 0"), t("f32[3] 10 20 30"), t("i64[1] 1")]);
        assert_eq!(y, [t("f32[3] 1 2 10")]);
        let y = check_op(&op(""), [t("f32[3] 1 2 3"), t("i64[3] 2 9 -9"), t("f32[3] 10 20 30"), t("i64[1] 1")]);
        assert_eq!(y, [t("f32[3] 1 2 10")]);
        for reduction in ["none", "add"] {
            let text = op(&format!("axis=1 reduction=\"{reduction}\""));
            check_op(&text, [random("f32[2,3]", 1), t("i64[2,3] 2 0 0 1 0 2"), random("f32[2,3]", 2), t("i64[2] 1 2")]);
            let places: Vec<String> = (0..35 * 24).map(|i| ((i * i * 5 + i / 3) % 40).to_string()).collect();
            let places = t(&format!("i64[35,24] {}", places.join(" ")));
            let text = op(&format!("reduction=\"{reduction}\""));
            for meant in ["i64[2] 20 24", "i64[2] 35 7", "i64[2] 0 24"] {
                check_op(&text, [random("f32[40,24]", 1), places.clone(), random("f32[35,24]", 2), t(meant)]);
            }
        }
    }
}

//! `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html>,
//! <https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html>

use crate::ops::elementwise::{Equal, Neg};
use crate::ops::movement::{Gather, GatherElements};
use crate::ops::neural::{LogSoftmax, ReduceMean, ReduceSum};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `loss[n,..] = -input[n,target[n,..],..] * weight[target[n,..]]`, then the mean (by weight) or the sum of all.
    NegativeLogLikelihoodLoss(input, target, "weight?") -> (loss) since [12, 13, 22];
    /// The class that counts nothing.
    ignore_index: Option<i64>,
    /// `none`, `sum` or `mean`.
    reduction: String = "mean",
}

operator! {
    /// The negative log likelihood loss of the logarithms of `softmax(scores)` over classes.
    SoftmaxCrossEntropyLoss(scores, labels, "weights?") -> (output, "log_prob?") since [12, 13];
    /// The class that counts nothing.
    ignore_index: Option<i64>,
    /// `none`, `sum` or `mean`.
    reduction: String = "mean",
}

composite!(NegativeLogLikelihoodLoss);
composite!(SoftmaxCrossEntropyLoss);

impl NegativeLogLikelihoodLoss {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (input, target, weight) = (s.operand(0)?, s.operand(1)?, s.optional(2));
        Ok(vec![likelihood_loss(s, input, target, weight, self.ignore_index, &self.reduction)?])
    }
}

impl SoftmaxCrossEntropyLoss {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (scores, labels, weights) = (s.operand(0)?, s.operand(1)?, s.optional(2));
        let log = s.apply(LogSoftmax { axis: 1 }, &[scores])?;
        let loss = likelihood_loss(s, log, labels, weights, self.ignore_index, &self.reduction)?;
        Ok(if s.operands().n_results > 1 { vec![loss, log] } else { vec![loss] })
    }
}

fn likelihood_loss(
    s: &mut Steps<'_>,
    input: Step,
    target: Step,
    weight: Option<Step>,
    ignore: Option<i64>,
    reduction: &str,
) -> Result<Step, InferError> {
    let (rank, dtype) = (s.fact(input).ty.rank(), s.dtype(input));
    if rank < 2 || s.fact(target).ty.rank() != rank - 1 {
        return Err(InferError::Invalid(format!("targets `{}` of `{}`", s.fact(target).ty, s.fact(input).ty)));
    }
    if !matches!(s.dtype(target), DType::I32 | DType::I64) {
        return Err(InferError::ElementType { operand: 1, dtype: s.dtype(target) });
    }
    let target = s.cast(target, DType::I64)?;
    let ignored = match ignore {
        Some(index) => {
            let index = s.constant(crate::tensor::Tensor::scalar(index));
            Some(s.apply(Equal {}, &[target, index])?)
        }
        None => None,
    };
    let zero = s.number(dtype, 0.0);
    // Classes that do not count need not exist.
    let class = match ignored {
        Some(ignored) => {
            let first = s.number(DType::I64, 0.0);
            s.choose(ignored, first, target)?
        }
        None => target,
    };
    let place = s.unsqueeze(class, 1)?;
    let picked = s.apply(GatherElements { axis: 1 }, &[input, place])?;
    let dims = s.dims(target)?;
    let picked = s.reshape(picked, &dims)?;
    let mut loss = s.apply(Neg {}, &[picked])?;
    let mut weights = match weight {
        Some(weight) => {
            let w = s.apply(Gather { axis: 0 }, &[weight, class])?;
            loss = s.mul(w, loss)?;
            Some(w)
        }
        None => None,
    };
    if let Some(ignored) = ignored {
        loss = s.choose(ignored, zero, loss)?;
        let all = match weights {
            Some(w) => w,
            None => s.number(dtype, 1.0),
        };
        weights = Some(s.choose(ignored, zero, all)?);
    }
    let sum = |s: &mut Steps<'_>, v: Step| s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[v]);
    match (reduction, weights) {
        ("none", _) => Ok(loss),
        ("sum", _) => sum(s, loss),
        ("mean", None) => s.apply(ReduceMean { keepdims: false, noop_with_empty_axes: false }, &[loss]),
        ("mean", Some(weights)) => {
            let (loss, weights) = (sum(s, loss)?, sum(s, weights)?);
            s.div(loss, weights)
        }
        (other, _) => Err(InferError::Invalid(format!("reduction `{other}`"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn losses() {
        let x = || [t("f32[2,2] -1 -2 -3 -4"), t("i64[2] 1 0")];
        assert_eq!(check_op("NegativeLogLikelihoodLoss reduction=\"none\"", x())[0], t("f32[2] 2 3"));
        assert_eq!(check_op("NegativeLogLikelihoodLoss", x())[0], t("f32[] 2.5"));
        assert_eq!(check_op("NegativeLogLikelihoodLoss ignore_index=1", x())[0], t("f32[] 3"));
        let weighted = [&x()[..], &[t("f32[2] 1 4")]].concat();
        assert_eq!(check_op("NegativeLogLikelihoodLoss reduction=\"sum\"", weighted)[0], t("f32[] 11"));
    }

    #[test]
    fn all_forms_agree() {
        for reduction in ["none", "sum", "mean"] {
            for ignore in ["", " ignore_index=-5", " ignore_index=2"] {
                let target = if ignore.contains("-5") { "i64[2,3] -5 1 2 0 3 -5" } else { "i64[2,3] 0 1 2 0 3 2" };
                let x = [random("f32[2,4,3]", 1), t(target), t("f32[4] 1 2 0.5 3")];
                for n in 2..=3 {
                    check_op(&format!("NegativeLogLikelihoodLoss reduction=\"{reduction}\"{ignore}"), x[..n].to_vec());
                    let op = format!("SoftmaxCrossEntropyLoss reduction=\"{reduction}\"{ignore}");
                    Check::new(&op).results(2).run(x[..n].to_vec());
                }
            }
        }
    }

    #[test]
    fn targets_fit() {
        let x = [t("f32[2,3,4]"), t("i64[2]")];
        assert_eq!(check_error("NegativeLogLikelihoodLoss", x), "targets `i64[2]` of `f32[2,3,4]`");
    }
}

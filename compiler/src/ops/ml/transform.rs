//! What the operators of this domain share: real rows, and what becomes of scores.

use crate::ops::elementwise::{Abs, Exp, Greater, Neg, Sigmoid};
use crate::ops::neural::{ArgMax, ReduceMax, ReduceSum, Softmax};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};

/// The element types of features.
pub(super) const FEATURES: &[DType] = &[DType::F32, DType::F64, DType::I64, DType::I32];

/// Operand 0 as rows of `f32`; a vector is one row.
pub(super) fn rows(s: &mut Steps<'_>) -> Result<Step, InferError> {
    s.operands().require_dtype(0, FEATURES)?;
    let x = s.operand(0)?;
    let x = s.cast(x, DType::F32)?;
    match s.dims(x)?[..] {
        [_, _] => Ok(x),
        [n] => s.reshape(x, &[1, n]),
        _ => Err(InferError::Unsupported(format!("features of type `{}` are not rows", s.fact(x).ty))),
    }
}

/// A list of numbers as a constant of these extents.
pub(super) fn table(s: &mut Steps<'_>, values: &[f32], dims: &[usize], what: &str) -> Result<Step, InferError> {
    if values.len() != dims.iter().product::<usize>() {
        return Err(InferError::Invalid(format!("`{what}` has {} elements, not {dims:?}", values.len())));
    }
    Ok(s.constant(Tensor::from_slice(dims, values)))
}

/// Scores after a transformation.
pub(super) fn post_transform(s: &mut Steps<'_>, scores: Step, name: &str) -> Result<Step, InferError> {
    match name {
        "NONE" => Ok(scores),
        "LOGISTIC" => s.apply(Sigmoid {}, &[scores]),
        "SOFTMAX" => s.apply(Softmax { axis: -1 }, &[scores]),
        "SOFTMAX_ZERO" => softmax_zero(s, scores),
        _ => Err(InferError::Unsupported(format!("`post_transform` \"{name}\" is not supported"))),
    }
}

/// The softmax of what is not about 0; the rest takes no part in the sum, and stays about 0.
fn softmax_zero(s: &mut Steps<'_>, x: Step) -> Result<Step, InferError> {
    let axes = s.ints(&[-1]);
    let max = s.apply(ReduceMax { keepdims: true, noop_with_empty_axes: false }, &[x, axes])?;
    let centered = s.sub(x, max)?;
    let grown = s.apply(Exp {}, &[centered])?;
    let down = s.apply(Neg {}, &[max])?;
    let down = s.apply(Exp {}, &[down])?;
    let small = s.mul(x, down)?;
    let size = s.apply(Abs {}, &[x])?;
    let (least, zero) = (s.number(DType::F32, 1e-7), s.number(DType::F32, 0.0));
    let counts = s.apply(Greater {}, &[size, least])?;
    let counted = s.choose(counts, grown, zero)?;
    let sum = s.apply(ReduceSum { keepdims: true, noop_with_empty_axes: false }, &[counted, axes])?;
    let y = s.choose(counts, grown, small)?;
    s.div(y, sum)
}

/// The labels of a classifier: integers, as nothing else has a tensor here.
pub(super) fn integer_labels<'a>(ints: &'a [i64], strings: &[String]) -> Result<&'a [i64], InferError> {
    match (ints, strings) {
        (_, [_, ..]) => {
            Err(InferError::Unsupported("labels that are strings are not supported: let the classifier learn from integers".to_owned()))
        }
        ([], []) => Err(InferError::Invalid("there are no labels".to_owned())),
        (ints, []) => Ok(ints),
    }
}

/// The label of the first greatest score in each row.
pub(super) fn best_label(s: &mut Steps<'_>, scores: Step, labels: &[i64]) -> Result<Step, InferError> {
    let best = s.apply(ArgMax { axis: 1, keepdims: false, select_last_index: false }, &[scores])?;
    let labels = s.constant(Tensor::from_slice(&[labels.len()], labels));
    s.apply(crate::ops::movement::Gather { axis: 0 }, &[labels, best])
}

/// Label and scores where one score `[n,1]` decides between two labels: the second one above `threshold`.
pub(super) fn binary(s: &mut Steps<'_>, score: Step, threshold: f64, labels: &[i64], scores: [Step; 2]) -> Result<Vec<Step>, InferError> {
    let n = s.dims(score)?[0];
    let threshold = s.number(DType::F32, threshold);
    let above = s.apply(Greater {}, &[score, threshold])?;
    let above = s.reshape(above, &[n])?;
    let [first, second] = [labels[0], labels[1]].map(|l| s.constant(Tensor::scalar(l)));
    let label = s.choose(above, second, first)?;
    Ok(vec![label, s.concat(&scores, 1)?])
}

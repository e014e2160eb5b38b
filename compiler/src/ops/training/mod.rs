//! Operators of the domain `ai.onnx.preview.training`: steps of optimizers, over groups of tensors. Each is others in order.
//! Spec: <https://onnx.ai/onnx/operators/#ai-onnx-preview-training>

mod adagrad;
mod adam;
mod momentum;

use super::{InferError, Schema, Step, Steps};
use crate::tensor::DType;

pub use adagrad::Adagrad;
pub use adam::Adam;
pub use momentum::Momentum;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[&Adagrad::SCHEMA, &Adam::SCHEMA, &Momentum::SCHEMA];

/// The results for operands `r`, `t` and groups of as many tensors each: `one` makes the new values of the `i`-th of every group, which
/// come in groups too. All are of one element type, and those of one position of one shape.
fn grouped<const GROUPS: usize, const RESULTS: usize>(
    s: &mut Steps<'_>,
    one: impl Fn(&mut Steps<'_>, [Step; GROUPS]) -> Result<[Step; RESULTS], InferError>,
) -> Result<Vec<Step>, InferError> {
    let all = s.operands().len();
    let n = all.saturating_sub(2) / GROUPS;
    if n == 0 || all != 2 + GROUPS * n || s.operands().n_results > RESULTS * n {
        let message =
            format!("{all} operands and {} results, where {GROUPS} and {RESULTS} groups are wanted behind two", s.operands().n_results);
        return Err(InferError::Invalid(message));
    }
    for i in 0..2 {
        if s.operands().rank(i)? != 0 {
            return Err(InferError::Invalid(format!("operand {i} is `{}`, not a scalar", s.operands().ty(i)?)));
        }
    }
    s.operands().require_dtype(1, &[DType::I64])?;
    let mut columns: Vec<[Step; RESULTS]> = vec![];
    for i in 0..n {
        let places: [usize; GROUPS] = std::array::from_fn(|group| 2 + group * n + i);
        s.operands().require_dtype(places[0], &[DType::F32, DType::F64])?;
        for &place in &places {
            let (first, ty) = (s.operands().ty(places[0])?, s.operands().ty(place)?);
            if first != ty {
                return Err(InferError::Invalid(format!("operand {place} is `{ty}`, and operand {} `{first}`", places[0])));
            }
        }
        let mut tensors = vec![];
        for place in places {
            tensors.push(s.operand(place)?);
        }
        let tensors = <[Step; GROUPS]>::try_from(tensors).expect("as many as there are groups");
        columns.push(one(s, tensors)?);
    }
    Ok((0..RESULTS).flat_map(|k| columns.iter().map(move |column| column[k])).collect())
}

/// `v * x`, a number.
fn scaled(s: &mut Steps<'_>, v: Step, x: f32) -> Result<Step, InferError> {
    let x = s.number(s.dtype(v), x.into());
    s.mul(v, x)
}

/// `v + x`, a number.
fn shifted(s: &mut Steps<'_>, v: Step, x: f32) -> Result<Step, InferError> {
    let x = s.number(s.dtype(v), x.into());
    s.add(v, x)
}

/// The gradient with that of `norm * |x|^2 / 2`.
fn regularized(s: &mut Steps<'_>, x: Step, g: Step, norm: f32) -> Result<Step, InferError> {
    let extra = scaled(s, x, norm)?;
    s.add(extra, g)
}

/// Operand `i`, a scalar, in the element type of `like`.
fn scalar(s: &mut Steps<'_>, i: usize, like: Step) -> Result<Step, InferError> {
    let v = s.operand(i)?;
    let dtype = s.dtype(like);
    s.cast(v, dtype)
}

/// Whether the count of updates is positive.
fn later(s: &mut Steps<'_>) -> Result<Step, InferError> {
    let t = s.operand(1)?;
    let zero = s.number(DType::I64, 0.0);
    s.apply(super::elementwise::Greater {}, &[t, zero])
}

//! Steps that several operators of this domain are made of.

use crate::ops::elementwise::{Clip, HardSigmoid, HardSwish, LeakyRelu, Relu, Sigmoid, Tanh};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;

/// The value in the type that it is computed in: half precision in `f32`.
pub(super) fn wide(s: &mut Steps<'_>, v: Step) -> Result<Step, InferError> {
    match s.dtype(v) {
        DType::F16 | DType::BF16 => s.cast(v, DType::F32),
        _ => Ok(v),
    }
}

/// Operand `i` in the type that it is computed in.
pub(super) fn wide_operand(s: &mut Steps<'_>, i: usize) -> Result<Step, InferError> {
    let v = s.operand(i)?;
    wide(s, v)
}

/// Optional operand `i` in the type that it is computed in.
pub(super) fn wide_optional(s: &mut Steps<'_>, i: usize) -> Result<Option<Step>, InferError> {
    s.optional(i).map(|v| wide(s, v)).transpose()
}

/// `v + other`, where there is another.
pub(super) fn add_optional(s: &mut Steps<'_>, v: Step, other: Option<Step>) -> Result<Step, InferError> {
    other.map_or(Ok(v), |other| s.add(v, other))
}

/// An activation by name, with its parameters; an empty name is none.
pub(super) fn activate(s: &mut Steps<'_>, v: Step, name: &str, parameters: &[f32]) -> Result<Step, InferError> {
    let parameter = |i: usize, default: f32| parameters.get(i).copied().unwrap_or(default);
    match name {
        "" => Ok(v),
        "Relu" => s.apply(Relu {}, &[v]),
        "Tanh" => s.apply(Tanh {}, &[v]),
        "Sigmoid" => s.apply(Sigmoid {}, &[v]),
        "HardSwish" => s.apply(HardSwish {}, &[v]),
        "LeakyRelu" => s.apply(LeakyRelu { alpha: parameter(0, 0.01) }, &[v]),
        "HardSigmoid" => s.apply(HardSigmoid { alpha: parameter(0, 0.2), beta: parameter(1, 0.5) }, &[v]),
        "Clip" => {
            let [min, max] = [parameter(0, f32::MIN), parameter(1, f32::MAX)].map(|x| s.number(s.dtype(v), x.into()));
            s.apply(Clip {}, &[v, min, max])
        }
        _ => Err(InferError::Unsupported(format!("activation `{name}` is not supported"))),
    }
}

/// Applies `f` to a value whose channels are the second axis, whatever `last` says of `x`.
pub(super) fn channels_second(
    s: &mut Steps<'_>,
    x: Step,
    last: bool,
    f: impl FnOnce(&mut Steps<'_>, Step) -> Result<Step, InferError>,
) -> Result<Step, InferError> {
    let rank = s.dims(x)?.len() as i64;
    if !last || rank < 3 {
        return f(s, x);
    }
    let inside: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let outside: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let x = s.transpose(x, &inside)?;
    let y = f(s, x)?;
    s.transpose(y, &outside)
}

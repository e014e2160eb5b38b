//! Conversions between real values and the integers that stand for them.

mod dequantize_linear;
mod quantize_linear;

use super::{Axes, InferError, Operands, Schema};
use crate::expr::{Affine, Builder, Expr, TensorId};
use crate::tensor::{Tensor, for_each_index};

pub use dequantize_linear::DequantizeLinear;
pub use quantize_linear::QuantizeLinear;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[&DequantizeLinear::SCHEMA, &QuantizeLinear::SCHEMA];

/// How scales and zero points spread over the elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spread {
    /// One for all.
    Tensor,
    /// One for each element of this axis.
    Axis(usize),
}

/// Checks scale and zero point against the operand, and says how they spread.
fn spread(x: &Operands, axis: i64, block_size: i64) -> Result<Spread, InferError> {
    let (value, scale) = (x.ty(0)?, x.ty(1)?);
    if block_size != 0 {
        return Err(InferError::Unsupported(format!("`block_size` {block_size} (scales of blocks) is not supported")));
    }
    if x.has(2) && x.ty(2)?.shape != scale.shape {
        return Err(InferError::Invalid(format!("the scale is {scale}, but the zero point {}", x.ty(2)?)));
    }
    match scale.rank() {
        0 => Ok(Spread::Tensor),
        1 if scale.dims() == Some(vec![1]) => Ok(Spread::Tensor),
        1 => {
            let axis = x.axis(0, axis)?;
            match (scale.shape.0[0].fixed(), value.shape.0[axis].fixed()) {
                (Some(a), Some(b)) if a != b => Err(InferError::Invalid(format!("{a} scales for axis {axis} of {value}"))),
                _ => Ok(Spread::Axis(axis)),
            }
        }
        rank => Err(InferError::Invalid(format!("scales of rank {rank}"))),
    }
}

fn axes_of(x: &Operands, spread: Spread) -> Axes {
    let rank = x.rank(0).unwrap_or(0);
    let labels: Vec<Option<u32>> = (0..rank as u32).map(Some).collect();
    let side = |i: usize| match spread {
        Spread::Axis(axis) if x.has(i) => vec![Some(axis as u32)],
        _ => vec![None; x.rank(i).unwrap_or(0)],
    };
    Axes { operands: vec![labels.clone(), side(1), side(2)], results: vec![labels], elementwise: true }
}

/// Calls `f(flat, flat index of the scale)` for each element.
fn for_each_scale(dims: &[usize], spread: Spread, mut f: impl FnMut(usize, usize)) {
    for_each_index(dims, |flat, at| match spread {
        Spread::Tensor => f(flat, 0),
        Spread::Axis(axis) => f(flat, at[axis]),
    });
}

/// The scale's (or zero point's) element for the element at `at`.
fn load_spread(b: &Builder, t: TensorId, spread: Spread, at: &[Affine]) -> Expr {
    match spread {
        Spread::Tensor => b.load(t, vec![0i64; b.dims(t).len()]),
        Spread::Axis(axis) => b.load(t, [at[axis].clone()]),
    }
}

/// The zero points as numbers, or zeros.
fn zero_points(zero: Option<&Tensor>, n: usize) -> Vec<f64> {
    zero.map_or(vec![0.0; n], Tensor::to_f64s)
}

//! Conversions between real values and the integers that stand for them.

mod byte_products;
mod dequantize_linear;
mod integer_products;
mod products;
mod quantize_linear;

use super::{Axes, InferError, Operands, Schema};
use crate::expr::{Affine, BinaryOp, Builder, Expr, Ix, TensorId};
use crate::tensor::{DType, Dim, Tensor, Type, for_each_index};

pub use byte_products::{ByteConv, ByteMatMul};
pub use dequantize_linear::DequantizeLinear;
pub use integer_products::{ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul};
pub(super) use products::{integer_matmul, signed_weights};
pub use quantize_linear::QuantizeLinear;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &ByteConv::SCHEMA,
    &ByteMatMul::SCHEMA,
    &ConvInteger::SCHEMA,
    &DequantizeLinear::SCHEMA,
    &MatMulInteger::SCHEMA,
    &QLinearConv::SCHEMA,
    &QLinearMatMul::SCHEMA,
    &QuantizeLinear::SCHEMA,
];

/// How scales and zero points spread over the elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spread {
    /// One for all.
    Tensor,
    /// One for each element of this axis.
    Axis(usize),
    /// One for so many neighbours along this axis.
    Block(usize, usize),
}

/// Checks scale and zero point against the operand, and says how they spread.
fn spread(x: &Operands, axis: i64, block_size: i64) -> Result<Spread, InferError> {
    let (value, scale) = (x.ty(0)?, x.ty(1)?);
    let single = |ty: &Type| ty.rank() < 2 && ty.shape.0.iter().all(|d| *d == Dim::Fixed(1));
    if x.has(2) && x.ty(2)?.shape != scale.shape && !(single(scale) && single(x.ty(2)?)) {
        return Err(InferError::Invalid(format!("the scale is {scale}, but the zero point {}", x.ty(2)?)));
    }
    if block_size != 0 {
        let axis = x.axis(0, axis)?;
        let block = usize::try_from(block_size).map_err(|_| InferError::Invalid(format!("`block_size` is {block_size}")))?;
        let blocks = |i: usize, d: usize| if i == axis { d.div_ceil(block) } else { d };
        let fits = |(i, (s, v)): (usize, (&Dim, &Dim))| s.fixed().zip(v.fixed()).is_none_or(|(s, v)| s == blocks(i, v));
        if scale.rank() != value.rank() || !scale.shape.0.iter().zip(&value.shape.0).enumerate().all(fits) {
            return Err(InferError::Invalid(format!("scales {scale} for blocks of {block} along axis {axis} of {value}")));
        }
        return Ok(Spread::Block(axis, block));
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
    // Slices of blocks would move their borders.
    let cut = |i: u32| !matches!(spread, Spread::Block(axis, _) if axis == i as usize);
    let labels: Vec<Option<u32>> = (0..rank as u32).map(|i| cut(i).then_some(i)).collect();
    let side = |i: usize| match spread {
        Spread::Axis(axis) if x.has(i) => vec![Some(axis as u32)],
        Spread::Block(axis, _) if x.has(i) => (0..rank as u32).map(|i| (i != axis as u32).then_some(i)).collect(),
        _ => vec![None; x.rank(i).unwrap_or(0)],
    };
    Axes { operands: vec![labels.clone(), side(1), side(2)], results: vec![labels], elementwise: true }
}

/// Calls `f(flat, flat index of the scale)` for each element.
fn for_each_scale(dims: &[usize], spread: Spread, mut f: impl FnMut(usize, usize)) {
    for_each_index(dims, |flat, at| match spread {
        Spread::Tensor => f(flat, 0),
        Spread::Axis(axis) => f(flat, at[axis]),
        Spread::Block(axis, block) => f(
            flat,
            dims.iter().enumerate().fold(0, |sum, (i, &d)| match i == axis {
                true => sum * d.div_ceil(block) + at[i] / block,
                false => sum * d + at[i],
            }),
        ),
    });
}

/// The scale's (or zero point's) element for the element at `at`.
fn load_spread(b: &Builder, t: TensorId, spread: Spread, at: &[Affine]) -> Expr {
    match spread {
        Spread::Tensor => b.load(t, vec![0i64; b.dims(t).len()]),
        Spread::Axis(axis) => b.load(t, [at[axis].clone()]),
        Spread::Block(axis, block) => {
            let mut index: Vec<Ix> = at.iter().map(Ix::from).collect();
            let blocks = Expr::index(&at[axis]).binary(BinaryOp::Div, &Expr::int(DType::I64, block as i64));
            index[axis] = Ix::Clamped(blocks);
            b.load(t, index)
        }
    }
}

/// The zero points as numbers, or zeros.
fn zero_points(zero: Option<&Tensor>, n: usize) -> Vec<f64> {
    zero.map_or(vec![0.0; n], Tensor::to_f64s)
}

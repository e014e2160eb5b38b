//! Operators that move elements: shapes, indices, copies.

mod col2im;
mod concat;
mod constant_of_shape;
mod copy;
mod cumsum;
mod depth_to_space;
mod expand;
mod eye_like;
mod flatten;
mod gather;
mod gather_elements;
mod gather_nd;
mod grid_sample;
mod one_hot;
mod pad;
mod pieces;
mod range;
mod reshape;
mod resize;
mod reverse_sequence;
mod sampled;
mod scatter;
mod scatter_elements;
mod scatter_nd;
mod shape;
mod slice;
mod split;
mod squeeze;
mod taps;
mod tensor_scatter;
mod tile;
mod top_k;
mod transpose;
mod trilu;
mod unsqueeze;
mod upsample;
mod view;

pub(super) use view::{eval_view, lower_view, source_of};

use super::{InferError, Schema};
use crate::expr::{BinaryOp, Builder, CompareOp, Expr, TensorId};
use crate::tensor::{DType, Tensor, Type};

pub use col2im::Col2Im;
pub use concat::Concat;
pub use constant_of_shape::ConstantOfShape;
pub use cumsum::{CumProd, CumSum};
pub use depth_to_space::{DepthToSpace, SpaceToDepth};
pub use expand::Expand;
pub use eye_like::EyeLike;
pub use flatten::Flatten;
pub use gather::Gather;
pub use gather_elements::GatherElements;
pub use gather_nd::GatherND;
pub use grid_sample::GridSample;
pub use one_hot::OneHot;
pub use pad::Pad;
pub use range::Range;
pub use reshape::Reshape;
pub use resize::Resize;
pub use reverse_sequence::ReverseSequence;
pub use scatter_elements::ScatterElements;
pub use scatter_nd::ScatterND;
pub use shape::{Shape, Size};
pub use slice::Slice;
pub(super) use slice::slice_of;
pub use split::Split;
pub use squeeze::Squeeze;
pub use tensor_scatter::TensorScatter;
pub use tile::Tile;
pub use top_k::TopK;
pub use transpose::Transpose;
pub use trilu::Trilu;
pub use unsqueeze::Unsqueeze;
pub use upsample::Upsample;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &Col2Im::SCHEMA,
    &Concat::SCHEMA,
    &ConstantOfShape::SCHEMA,
    &CumProd::SCHEMA,
    &CumSum::SCHEMA,
    &DepthToSpace::SCHEMA,
    &Expand::SCHEMA,
    &EyeLike::SCHEMA,
    &Flatten::SCHEMA,
    &Gather::SCHEMA,
    &GatherElements::SCHEMA,
    &GatherND::SCHEMA,
    &GridSample::SCHEMA,
    &OneHot::SCHEMA,
    &Pad::SCHEMA,
    &Range::SCHEMA,
    &Reshape::SCHEMA,
    &Resize::SCHEMA,
    &ReverseSequence::SCHEMA,
    &ScatterElements::SCHEMA,
    &ScatterND::SCHEMA,
    &Shape::SCHEMA,
    &Size::SCHEMA,
    &Slice::SCHEMA,
    &SpaceToDepth::SCHEMA,
    &Split::SCHEMA,
    &Squeeze::SCHEMA,
    &TensorScatter::SCHEMA,
    &Tile::SCHEMA,
    &TopK::SCHEMA,
    &Transpose::SCHEMA,
    &Trilu::SCHEMA,
    &Unsqueeze::SCHEMA,
    &Upsample::SCHEMA,
];

/// The largest result, in bytes, that an operator may make out of small operands.
const MAX_BYTES: usize = 1 << 36;

/// A type of these extents; fails where a value of it could not exist.
fn sized(dtype: DType, dims: &[usize]) -> Result<Type, InferError> {
    let ty = Type::fixed(dtype, dims);
    // An extent of 0 does not make the others harmless: tables of positions are as long as they are.
    match dims.iter().try_fold(dtype.size_bytes(), |bytes, &d| bytes.checked_mul(d.max(1))) {
        Some(bytes) if bytes <= MAX_BYTES => Ok(ty),
        _ => Err(InferError::Invalid(format!("the result `{ty}` is too large"))),
    }
}

/// A non-negative extent that a value of the model gives.
fn extent(n: i64) -> Result<usize, InferError> {
    usize::try_from(n).map_err(|_| InferError::Invalid(format!("{n} as an extent")))
}

/// An index that counts from the back where it is negative, from the front; `None` if it is out of range.
fn wrap_index(index: i64, extent: usize) -> Option<usize> {
    let from_front = if index < 0 { index + extent as i64 } else { index };
    (0..extent as i64).contains(&from_front).then_some(from_front as usize)
}

/// The `i64` index that `index`, of any integer type, means along an axis of `extent`: negative ones count from the back.
fn wrap_index_expr(index: &Expr, extent: usize) -> Expr {
    if !index.dtype().is_signed() {
        return index.cast(DType::I64);
    }
    let index = index.cast(DType::I64);
    let wrapped = index.binary(BinaryOp::Add, &Expr::int(DType::I64, extent as i64));
    index.compare(CompareOp::Lt, &Expr::int(DType::I64, 0)).select(&wrapped, &index)
}

/// The first element of a constant as an expression, as it is stored.
fn literal(value: &Tensor) -> Expr {
    let value = &value.stored();
    if value.dtype().is_float() {
        Expr::constant(value.dtype(), value.to_f64s()[0])
    } else {
        Expr::int(value.dtype(), value.to_ints()[0] as i64)
    }
}

/// The only element of operand `t`, as a constant where it is known.
fn scalar_of(b: &Builder, t: TensorId, value: Option<&Tensor>) -> Expr {
    match value {
        Some(value) if !value.is_empty() => literal(value),
        _ => b.load(t, vec![0i64; b.dims(t).len()]),
    }
}

/// A constant tensor of indices, `i32` where they fit.
fn index_table(b: &mut Builder, name: &str, dims: &[usize], indices: &[i64]) -> TensorId {
    let narrow = indices.iter().all(|&i| i32::try_from(i).is_ok());
    let wide: Vec<i128> = indices.iter().map(|&i| i.into()).collect();
    b.constant(name, Tensor::from_ints(if narrow { DType::I32 } else { DType::I64 }, dims, &wide))
}

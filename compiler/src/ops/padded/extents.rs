//! How much of an operand is meant, where a further operand lists its extents, `i64[rank]`.

use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, TensorId};
use crate::ops::{InferError, Operands};
use crate::tensor::DType;

/// Checks that operand `at` lists the extents of operand `of`.
pub(super) fn check_extents(x: &Operands, at: usize, of: usize) -> Result<(), InferError> {
    if x.dtype(at)? != DType::I64 || x.dims(at)? != [x.rank(of)?] {
        return Err(InferError::Invalid(format!("`{}` as the extents of `{}`", x.ty(at)?, x.ty(of)?)));
    }
    Ok(())
}

/// The extents of operand `of` that are meant by operand `at`.
pub(super) fn meant_extents(x: &Operands, at: usize, of: usize) -> Vec<usize> {
    x.tensor(of).dims().iter().zip(x.tensor(at).to_ints()).map(|(&d, e)| d.min(e.max(0) as usize)).collect()
}

/// Whether the element at these places along the first axes, at least one, is meant.
pub(super) fn is_meant(b: &expr::Builder, extents: TensorId, at: &[Affine]) -> Expr {
    is_below(at, |axis| b.load(extents, [axis as i64]))
}

/// Whether these places are all below the extent of their axis, of at least one.
pub(super) fn is_below(at: &[Affine], extent: impl Fn(usize) -> Expr) -> Expr {
    let inside = |axis: usize| Expr::index(&at[axis]).compare(CompareOp::Lt, &extent(axis));
    (1..at.len()).fold(inside(0), |all, axis| all.binary(BinaryOp::And, &inside(axis)))
}

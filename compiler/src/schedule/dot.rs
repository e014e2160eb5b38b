//! Sums of products of bytes by dot products of the target: several steps of a reduction in each lane of 32 bits. Weights are packed by so
//! many steps; of the other factor as many adjacent bytes are read at once and broadcast.

use super::ScheduleError;
use super::cost::Dot;
use super::emitter::{Emitter, Lanes, Point, coefficient, expr_depends, vector_ok};
use super::pack::packable;
use crate::expr::{BinaryOp, Expr, Ix, Node, ReduceOp, Stage};
use crate::nest::Reg;
use crate::tensor::DType;

/// The fewest columns for which lanes are columns.
const MIN_COLUMNS: usize = 4;

/// A sum of products of `u8` in memory and of constant `i8`.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// The read of unsigned bytes, adjacent along the last axis of the reduction.
    pub(super) row: Expr,
    /// The read of signed constants, packed.
    pub(super) column: Expr,
    /// The axis of the reduction of which several steps are taken at once.
    pub(super) axis: usize,
    /// How many steps.
    pub(super) steps: usize,
}

/// A byte of this type, widened to `i32`.
fn byte(e: &Expr, dtype: DType) -> Option<&Expr> {
    let Node::Cast(a) = e.node() else { return None };
    (e.dtype() == DType::I32 && a.dtype() == dtype && matches!(a.node(), Node::Load { pad: None, .. })).then_some(a)
}

impl Product {
    /// The sum as such a product, with the output axis that is its columns; `None` where the target has no dot products, or it is none.
    pub(super) fn of(e: &Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr) -> Option<(Self, usize)> {
        let Dot::Quads = e.machine.dot else { return None };
        let steps = 4;
        let (ReduceOp::Sum, Node::Binary(BinaryOp::Mul, x, y)) = (op, value.node()) else { return None };
        let (row, column) = match (byte(x, DType::U8), byte(y, DType::I8)) {
            (Some(row), Some(column)) => (row, column),
            _ => (byte(y, DType::U8)?, byte(x, DType::I8)?),
        };
        let n = stage.axes.len();
        let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
        let reduced = || (n..extents.len()).filter(|&a| extents[a] > 1);
        if !reduced().all(|a| expr_depends(column, a) && stage.bound(a).is_none()) {
            return None;
        }
        let axis = reduced().filter(|&a| stride(e, row, a) == Some(1)).max_by_key(|&a| extents[a])?;
        let columns = (0..n)
            .filter(|&a| extents[a] >= MIN_COLUMNS && !expr_depends(row, a) && packable(e, column, a) && vector_ok(finish, a))
            .max_by_key(|&a| extents[a])?;
        Some((Product { row: row.clone(), column: column.clone(), axis, steps }, columns))
    }

    /// The bytes of a row at a point, the same in every lane: those of `steps` steps, zeros after the last.
    pub(super) fn row(&self, e: &mut Emitter, extent: usize, at: &Point, lanes: u32) -> Result<Reg, ScheduleError> {
        let steps = self.steps as i64;
        let (from, to) = e.range(&at.axes[self.axis]);
        let valid = if from == to { steps.min(extent as i64 - from) } else { steps };
        let mut at = at.clone();
        at.vector = Some(Lanes { axis: self.axis, lanes: steps as u32, valid: valid as u32 });
        let bytes = e.value(&self.row, &at, None)?;
        Ok(e.repeated(bytes, lanes))
    }
}

/// How far a plain read moves along an axis.
fn stride(e: &Emitter, load: &Expr, axis: usize) -> Option<i64> {
    let Node::Load { tensor, index, pad: None } = load.node() else { return None };
    if index.iter().any(|ix| matches!(ix, Ix::Checked(i) | Ix::Clamped(i) if expr_depends(i, axis))) {
        return None;
    }
    Some(index.iter().zip(e.strides_of(*tensor)).map(|(ix, s)| coefficient(ix, axis) * s).sum())
}

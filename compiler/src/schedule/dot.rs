//! Sums of products of bytes by dot products of the target: several steps of a reduction in each lane of 32 bits. Weights are packed by so
//! many steps; of the other factor as many adjacent bytes are read at once and broadcast.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, expr_depends, stride_along, vector_ok};
use super::machine::Dot;
use super::pack::packable;
use super::prepare;
use crate::expr::{BinaryOp, Const, Expr, Ix, Node, ReduceOp, Stage};
use crate::nest::{self, Reg};
use crate::tensor::DType;

/// The fewest columns for which lanes are columns.
const MIN_COLUMNS: usize = 4;

/// A sum of products of `u8` in memory and of constant `i8`; in pairs both are `i16`, the constant when it is packed.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// The read of unsigned bytes, or of a copy of them as `i16`, adjacent along the last axis of the reduction.
    pub(super) row: Expr,
    /// The read of signed constants, packed.
    pub(super) column: Expr,
    /// The axis of the reduction of which several steps are taken at once.
    pub(super) axis: usize,
    /// How many steps.
    pub(super) steps: usize,
}

/// A read of this type, widened to `i32`.
fn part(e: &Expr, dtype: DType) -> Option<&Expr> {
    let Node::Cast(a) = e.node() else { return None };
    (e.dtype() == DType::I32 && a.dtype() == dtype && matches!(a.node(), Node::Load { pad: None, .. })).then_some(a)
}

impl Product {
    /// The sum as such a product, with the output axis that is its columns; `None` where the target has no dot products, or it is none.
    pub(super) fn of(e: &Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr) -> Option<(Self, usize)> {
        let steps = match e.machine.dot {
            Dot::None => return None,
            Dot::Pairs => 2,
            Dot::Quads => 4,
        };
        let (ReduceOp::Sum, Node::Binary(BinaryOp::Mul, x, y)) = (op, value.node()) else { return None };
        let row = |x| part(x, DType::U8).or_else(|| part(x, DType::I16).filter(|_| steps == 2));
        let (row, column) = match (row(x), part(y, DType::I8)) {
            (Some(row), Some(column)) => (row, column),
            _ => (row(y)?, part(x, DType::I8)?),
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

    /// The value with the row read from a copy of its tensor as `i16`, which products in pairs take.
    pub(super) fn widened(&self, e: &mut Emitter, value: &Expr) -> Result<Option<Expr>, ScheduleError> {
        if self.steps != 2 || self.row.dtype() == DType::I16 {
            return Ok(None);
        }
        let copy = prepare::converted_copy(e, &self.row, DType::I16)?;
        let wide = copy.cast(DType::I32);
        Ok(Some(value.rewrite(&mut |x| if part(&x, DType::U8) == Some(&self.row) { wide.clone() } else { x })))
    }

    /// What `steps` steps of a row are at a point, the same in every lane. After the last of `extent` steps it is anything: the weights
    /// are zero there.
    pub(super) fn row(&self, e: &mut Emitter, extent: usize, at: &Point, lanes: u32) -> Result<Reg, ScheduleError> {
        let steps = self.steps as i64;
        let (from, to) = e.range(&at.axes[self.axis]);
        let valid = if from == to { steps.min(extent as i64 - from) } else { steps };
        let mut at = at.clone();
        if valid == steps {
            at.vector = Some(Lanes { axis: self.axis, lanes: steps as u32, valid: steps as u32 });
            let parts = e.value(&self.row, &at, None)?;
            let word = e.word_of(parts);
            return Ok(e.words_as(word, self.row.dtype(), lanes));
        }
        at.vector = None;
        let mut word = None;
        for u in 0..valid {
            let mut at = at.clone();
            at.axes[self.axis].constant += u;
            let part = e.value(&self.row.cast(DType::I32), &at, None)?;
            let by = e.constant(DType::I32, Const::Int(u * 32 / steps), 1);
            let part = e.b.binary(nest::BinaryOp::Shl, part, by);
            word = Some(word.map_or(part, |word| e.b.binary(nest::BinaryOp::Or, word, part)));
        }
        Ok(e.words_as(word.expect("a step"), self.row.dtype(), lanes))
    }
}

/// How far a plain read moves along an axis.
fn stride(e: &Emitter, load: &Expr, axis: usize) -> Option<i64> {
    let Node::Load { tensor, index, pad: None } = load.node() else { return None };
    if index.iter().any(|ix| matches!(ix, Ix::Checked(i) | Ix::Clamped(i) if expr_depends(i, axis))) {
        return None;
    }
    Some(stride_along(index, &e.strides_of(*tensor), axis))
}

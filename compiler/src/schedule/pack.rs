//! Constants laid out for a kernel: panels of `nr` columns, the reduction in the kernel's order inside each. The last panel
//! has only as many columns as its vectors cover.

use super::emitter::{Emitter, Packed, coefficient, index_depends};
use crate::expr::{Expr, Ix, Node, Stage, Var};
use crate::tensor::{Tensor, n_elements};

/// Whether `load` reads a constant that [`pack`] takes.
pub(super) fn packable(e: &Emitter, load: &Expr, axis: usize) -> bool {
    let Node::Load { tensor, index, pad: None } = load.node() else { return false };
    e.bound(axis).is_none() && e.packable_constant(*tensor).is_some() && over_axes_only(index) && index_depends(index, axis)
}

/// Whether every index is an affine form of the stage's axes, so that no loop outside the stage moves it.
pub(super) fn over_axes_only(index: &[Ix]) -> bool {
    index.iter().all(|ix| matches!(ix, Ix::Affine(a) if a.terms.iter().all(|t| matches!(t.0, Var::Axis(_)))))
}

/// Packs the constant that `load` reads, if it is a constant with plain indices: `[batch axes][panel][reduction axes][nr]`.
///
/// `batch` are output axes, `reduction` the stage's axes in loop order, outermost first; both with extents above one.
/// Columns past the end are zero: fewer than `lanes`.
#[expect(clippy::too_many_arguments, reason = "a load, and how the kernel walks it")]
pub(super) fn pack(
    e: &mut Emitter,
    stage: &Stage,
    load: &Expr,
    axis: usize,
    (nr, lanes): (usize, usize),
    batch: &[usize],
    reduction: &[(usize, usize)],
    column_extent: usize,
) -> Option<Packed> {
    if !packable(e, load, axis) {
        return None;
    }
    let Node::Load { tensor, index, .. } = load.node() else { return None };
    let value = e.packable_constant(*tensor)?.clone();
    let strides = e.strides_of(*tensor);
    let stride = |axis: usize| -> i64 { index.iter().zip(&strides).map(|(ix, s)| coefficient(ix, axis) * s).sum() };
    let base: i64 = index
        .iter()
        .zip(&strides)
        .map(|(ix, s)| match ix {
            Ix::Affine(a) => a.constant * s,
            _ => 0,
        })
        .sum();
    let batch: Vec<(usize, usize)> = batch.iter().filter(|&&a| index_depends(index, a)).map(|&a| (a, stage.axes[a])).collect();
    let reduction: Vec<(usize, usize)> = reduction.iter().filter(|r| index_depends(index, r.0)).copied().collect();
    let full = column_extent / nr;
    let last = (column_extent % nr).next_multiple_of(lanes);
    let depth: usize = reduction.iter().map(|r| r.1).product();
    let panel = depth * nr;
    let one_batch = full * panel + depth * last;
    let n_batch: usize = batch.iter().map(|b| b.1).product();

    let size = value.dtype().size_bytes();
    let bytes = value.bytes();
    let mut packed = vec![0u8; n_batch * one_batch * size];
    let outer: Vec<i64> = offsets(&batch, &stride);
    let inner: Vec<i64> = offsets(&reduction, &stride);
    let column = stride(axis);
    let mut at = 0;
    for &o in &outer {
        for first in (0..column_extent).step_by(nr) {
            let columns = nr.min(column_extent - first);
            let width = if columns == nr { nr } else { last };
            for &k in &inner {
                let from = base + o + k + first as i64 * column;
                if column == 1 {
                    let from = from as usize * size;
                    packed[at..at + columns * size].copy_from_slice(&bytes[from..from + columns * size]);
                } else {
                    for j in 0..columns {
                        let from = (from + j as i64 * column) as usize * size;
                        packed[at + j * size..][..size].copy_from_slice(&bytes[from..from + size]);
                    }
                }
                at += width * size;
            }
        }
    }
    let mut by_axis = vec![];
    let mut s = 1;
    for &(a, extent) in reduction.iter().rev() {
        by_axis.push((a, s * nr as i64, s * last as i64));
        s *= extent as i64;
    }
    let mut s = one_batch as i64;
    for &(a, extent) in batch.iter().rev() {
        by_axis.push((a, s, s));
        s *= extent as i64;
    }
    let name = format!("{}_packed", e.program().tensors[tensor.0 as usize].name);
    let packed = Tensor::from_bytes(value.dtype(), &[n_batch * one_batch], &packed);
    debug_assert_eq!(n_elements(packed.dims()) * size, at);
    let buffer = e.new_constant(&name, packed);
    Some(Packed { buffer, nr: nr as i64, panel: panel as i64, full: full as i64, axis, strides: by_axis })
}

/// The source offsets of every combination of the axes, the last fastest.
pub(super) fn offsets(axes: &[(usize, usize)], stride: &impl Fn(usize) -> i64) -> Vec<i64> {
    let mut list = vec![0];
    for &(axis, extent) in axes {
        let s = stride(axis);
        list = list.iter().flat_map(|&o| (0..extent as i64).map(move |i| o + i * s)).collect();
    }
    list
}

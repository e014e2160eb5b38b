//! Constants laid out for a kernel: panels of `nr` columns, the reduction in the kernel's order inside each. The last panel
//! has only as many columns as its vectors cover.

use super::emitter::{Emitter, Packed, index_depends, stride_along};
use crate::expr::{Expr, Ix, Node, Stage, Var};
use crate::nest::Affine;
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

/// The axes of a reduction in loop order, outermost first; of extents above one.
pub(super) struct Reduction<'a> {
    /// As the constant is read along them.
    pub(super) read: &'a [(usize, usize)],
    /// As the loops are, where adjacent axes were merged.
    pub(super) merged: &'a [(usize, usize)],
    /// Steps of the innermost loop that are adjacent for each column, zeros after its last: 1, or 4, or 2 of `i8` that become `i16`.
    pub(super) group: usize,
}

/// Packs the constant that `load` reads, if it is a constant with plain indices: `[batch axes][panel][reduction axes][nr]`, and with groups
/// `[batch axes][panel][reduction axes, the last in groups][nr][group]`.
///
/// `batch` are output axes with extents above one.
/// Columns past the end are zero: fewer than `lanes`.
#[expect(clippy::too_many_arguments, reason = "a load, and how the kernel walks it")]
pub(super) fn pack(
    e: &mut Emitter,
    stage: &Stage,
    load: &Expr,
    axis: usize,
    (nr, lanes): (usize, usize),
    batch: &[usize],
    over: &Reduction<'_>,
    column_extent: usize,
) -> Option<Packed> {
    if !packable(e, load, axis) {
        return None;
    }
    let Node::Load { tensor, index, .. } = load.node() else { return None };
    let value = e.packable_constant(*tensor)?.clone();
    let strides = e.strides_of(*tensor);
    let stride = |axis: usize| -> i64 { stride_along(index, &strides, axis) };
    let base: i64 = index
        .iter()
        .zip(&strides)
        .map(|(ix, s)| match ix {
            Ix::Affine(a) => a.constant * s,
            _ => 0,
        })
        .sum();
    let batch: Vec<(usize, usize)> = batch.iter().filter(|&&a| index_depends(index, a)).map(|&a| (a, stage.axes[a])).collect();
    let reduction: Vec<(usize, usize)> = over.read.iter().filter(|r| index_depends(index, r.0)).copied().collect();
    let group = over.group;
    // A reduction with groups moves in all its axes, so that its loops and the reads are the same steps.
    let run = if group == 1 { 1 } else { over.merged.last().map_or(1, |r| r.1) };
    let full = column_extent / nr;
    let last = (column_extent % nr).next_multiple_of(lanes);
    let depth: usize = reduction.iter().map(|r| r.1).product::<usize>() / run * run.next_multiple_of(group);
    let panel = depth * nr;
    let one_batch = full * panel + depth * last;
    let n_batch: usize = batch.iter().map(|b| b.1).product();

    let value = if group == 2 {
        Tensor::from_slice(value.dims(), &value.as_slice::<i8>().iter().map(|&v| v.into()).collect::<Vec<i16>>())
    } else {
        value
    };
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
            for steps in inner.chunks(run).flat_map(|run| run.chunks(group)) {
                if group > 1 {
                    for (u, k) in steps.iter().enumerate() {
                        for j in 0..columns {
                            let from = (base + o + k + (first + j) as i64 * column) as usize * size;
                            packed[at + (j * group + u) * size..][..size].copy_from_slice(&bytes[from..from + size]);
                        }
                    }
                    at += width * group * size;
                    continue;
                }
                let k = steps[0];
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
    for (i, &(a, extent)) in if group == 1 { &reduction[..] } else { over.merged }.iter().rev().enumerate() {
        by_axis.push((a, s * nr as i64, s * last as i64));
        s *= if i == 0 { extent.next_multiple_of(group) } else { extent } as i64;
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
    Some(Packed {
        buffer,
        nr: nr as i64,
        group: group as i64,
        panel: panel as i64,
        full: full as i64,
        axis,
        origin: Affine::default(),
        strides: by_axis,
    })
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

//! Windows whose lanes lie along the rows they slide over: depthwise convolutions and pooling of images whose columns are adjacent.
//! Padding stays in place, as lanes of a constant; every second element is taken from vectors by shuffles.

use super::cost::Tile;
use super::emitter::{Emitter, coefficient, expr_depends, index_depends, stride_along};
use super::machine::Machine;
use super::reduce::loads;
use crate::expr::{Expr, Ix, Node, Stage, Var};
use crate::tensor::DType;

/// The fewest columns that are worth lanes.
const MIN_COLUMNS: usize = 4;
/// The most steps of a padded window that are worth lanes where vectors have four.
const MAX_STEPS_OF_FOUR: usize = 16;
/// The longest stride along the lanes.
const MAX_STRIDE: i64 = 2;
/// The most rows of a tile, by stride.
const MAX_ROWS: [usize; 2] = [8, 4];
/// Registers beside sums and what rows share: weights, and what shuffles and an epilogue keep.
const OTHER_REGISTERS: usize = 6;

/// A read of a window in lanes.
#[derive(Clone)]
pub(super) struct Across {
    /// The output axis of the lanes.
    pub(super) axis: usize,
    /// The read.
    pub(super) load: Expr,
    /// Elements from one lane to the next.
    stride: i64,
    index: Vec<Ix>,
}

/// Whether the lanes of a read of a window lie along an output axis.
pub(super) fn is_across(e: &Emitter, stage: &Stage, value: &Expr, load: &Expr, axis: usize) -> bool {
    Across::of(e, stage, value, load).is_some_and(|window| window.axis == axis)
}

impl Across {
    /// A read whose elements along an output axis are adjacent, or of which every second one is read, while nothing else of the value moves
    /// along that axis, and every output reads elements of its own.
    pub(super) fn of(e: &Emitter, stage: &Stage, value: &Expr, load: &Expr) -> Option<Self> {
        let Node::Load { tensor, index, pad } = load.node() else { return None };
        let n = stage.axes.len();
        let decl = e.program().tensor(*tensor);
        let live = stage.is_live() || (0..index.len()).any(|k| decl.bound(k).is_some());
        if !e.machine.exact || live || (load.dtype(), value.dtype()) != (DType::F32, DType::F32) || e.packable_constant(*tensor).is_some() {
            return None;
        }
        let only_axes = |ix: &Ix| matches!(ix, Ix::Affine(a) if a.terms.iter().all(|t| matches!(t.0, Var::Axis(_))));
        if e.slots[tensor.0 as usize].is_none() || !index.iter().all(only_axes) {
            return None;
        }
        let mut outputs = (0..n).filter(|&a| stage.axes[a] > 1);
        if !outputs.clone().all(|a| index_depends(index, a)) {
            return None;
        }
        // Vectors of four lanes are not loaded in part: elements beside padding go one by one.
        if e.machine.lanes == 4 && pad.is_some() && stage.reduce.iter().product::<usize>() > MAX_STEPS_OF_FOUR {
            return None;
        }
        let strides = e.strides_of(*tensor);
        let unset = e.slots[stage.out.0 as usize].is_none();
        let out_strides = if unset { vec![] } else { e.strides_of(stage.out) };
        let longest = if e.machine.shuffles() { MAX_STRIDE } else { 1 };
        let axis = outputs.find(|&axis| {
            let stride = stride_along(index, &strides, axis);
            let mut along = index.iter().filter(|ix| coefficient(ix, axis) != 0);
            let (Some(ix), None) = (along.next(), along.next()) else { return false };
            (1..=longest).contains(&stride)
                && coefficient(ix, axis) == stride
                && step_along(stage, ix).is_some()
                && (unset || stage.stride_along(&out_strides, axis) == 1)
                && stage.axes[axis] >= MIN_COLUMNS
                && loads(value).iter().all(|l| l == load || !expr_depends(l, axis))
        })?;
        Some(Across { axis, load: load.clone(), stride: stride_along(index, &strides, axis), index: index.clone() })
    }

    /// The part of the index that moves along an output axis.
    fn index_along(&self, axis: usize) -> Option<&Ix> {
        self.index.iter().find(|ix| coefficient(ix, axis) != 0)
    }

    /// The step of the reduction that goes innermost, so that few of the vectors that rows share are kept: the one along which rows do. Where
    /// one vector gives elements of even and of odd number, that is the one along the lanes, as it is without this.
    pub(super) fn innermost_step(&self, stage: &Stage, row: usize) -> Option<usize> {
        self.index_along(row).filter(|_| self.stride == 1).and_then(|ix| step_along(stage, ix)).map(|s| s.0)
    }

    /// The axis of the steps along the lanes, and the one in the middle, where the others' vectors are made of its: those of every second
    /// element.
    pub(super) fn middle_step(&self, stage: &Stage) -> Option<(usize, i64)> {
        let (axis, steps) = self.index_along(self.axis).filter(|_| self.stride == 2).and_then(|ix| step_along(stage, ix))?;
        Some((axis, (steps as i64 - 1) / 2))
    }

    /// The tile of one vector, of so many rows as registers hold sums and shared vectors of, that reads the fewest rows of the image.
    pub(super) fn tile(&self, machine: &Machine, stage: &Stage, row: usize) -> Tile {
        let rows = stage.axes[row];
        let taps = |ix: Option<&Ix>| ix.and_then(|ix| step_along(stage, ix)).map_or(1, |s| s.1);
        let down = self.index_along(row);
        let (height, width) = (taps(down), taps(self.index_along(self.axis)));
        let step = down.map_or(1, |ix| coefficient(ix, row).unsigned_abs() as usize).max(1);
        let kept = |mr: usize| match self.stride {
            1 => mr + step.min(height),
            _ => 2 * mr + (mr - 1) * step.min(height.saturating_sub(step)) * width,
        };
        let read = |mr: usize| if mr == 0 { 0 } else { (mr - 1) * step.min(height) + height + 1 };
        let fitting =
            (1..=MAX_ROWS[self.stride as usize - 1].min(rows)).filter(|&mr| mr + kept(mr) + OTHER_REGISTERS <= machine.n_registers);
        let mr = fitting.min_by_key(|&mr| (rows / mr * read(mr) + read(rows % mr), mr)).unwrap_or(1);
        Tile { mr, nv: 1 }
    }
}

/// The axis of the reduction along which a part of an index moves, and its extent.
fn step_along(stage: &Stage, ix: &Ix) -> Option<(usize, usize)> {
    let n = stage.axes.len();
    (0..stage.reduce.len()).find(|&a| stage.reduce[a] > 1 && coefficient(ix, n + a) != 0).map(|a| (n + a, stage.reduce[a]))
}

#[cfg(test)]
mod tests {
    use super::{Across, Tile};
    use crate::expr::{Body, Builder, Expr, Item, ReduceOp};
    use crate::schedule::Machine;
    use crate::schedule::emitter::Emitter;
    use crate::tensor::DType;

    /// The tile of a window over an image of so many rows and columns, by machine; `None` where lanes do not lie along its rows.
    fn tile(machine: &Machine, [rows, columns]: [usize; 2], kernel: [usize; 2], stride: i64) -> Option<Tile> {
        let mut b = Builder::new();
        let x = b.operand("x", DType::F32, &[4, rows, columns]);
        let out = [rows, columns].map(|n| (n - 1) / stride as usize + 1);
        let y = b.reduce(
            ReduceOp::Max,
            &[4, out[0], out[1]],
            &kernel,
            |b, at, k| {
                let place = |i: usize| at[i + 1].times(stride).plus(&k[i]).offset(-(kernel[i] as i64 - 1) / 2);
                b.load_padded(x, [at[0].clone(), place(0), place(1)], Expr::constant(DType::F32, f64::NEG_INFINITY))
            },
            |_, _, acc| acc,
        );
        let program = b.finish(&[y]);
        let Item::Stage(stage) = &program.items[0] else { panic!("one stage") };
        let Body::Reduce { value, .. } = &stage.body else { panic!("a reduction") };
        let mut e = Emitter::new("k", &program, machine);
        e.ensure_memory(crate::expr::TensorId(0), None);
        let window = Across::of(&e, stage, value, value)?;
        assert_eq!(window.axis, 2);
        Some(window.tile(machine, stage, 1))
    }

    #[test]
    fn lanes_lie_along_rows_that_fill_them() {
        let (zmm, ymm) = (Machine::wide(16, 32), Machine::wide(8, 16));
        let mr = |machine: &Machine, size, kernel, stride| tile(machine, size, kernel, stride).map(|t| t.mr);
        assert_eq!(mr(&zmm, [56, 56], [3, 3], 1), Some(8));
        assert_eq!(mr(&zmm, [5, 56], [3, 3], 1), Some(5));
        assert_eq!(mr(&ymm, [56, 7], [3, 3], 1), Some(4));
        assert_eq!(mr(&zmm, [56, 3], [3, 3], 1), None);
        assert_eq!([mr(&zmm, [56, 56], [3, 3], 2), mr(&ymm, [56, 56], [3, 3], 2)], [Some(4), Some(2)]);
        assert_eq!([mr(&zmm, [56, 56], [5, 5], 2), mr(&ymm, [56, 56], [5, 5], 2)], [Some(2), Some(1)]);
        assert_eq!(mr(&zmm, [56, 80], [3, 3], 3), None);
        assert_eq!(mr(&Machine::vector128(16, true), [56, 56], [3, 3], 1), None);
    }
}

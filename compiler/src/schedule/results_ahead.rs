//! What a tile of a short product writes, and reads beside its operands, is asked for while its sums are computed, where it comes from
//! beyond the second-level cache: one row of the tile after the other.

use super::emitter::{Emitter, Point, expr_depends, stride_along};
use super::reduce::loads;
use crate::expr::{Expr, Ix, Node, Stage};
use crate::nest::Affine;
use crate::tensor::n_elements;

/// Iterations of the reduction for each row of a tile beyond which the tile takes too long to wait for its results.
const MOST_ITERATIONS: i64 = 2;

/// What a tile asks for of its results and their other operands.
pub(super) struct ResultsAhead {
    stage: Stage,
    /// Loads of the epilogue, with the elements between rows.
    loads: Vec<(Expr, i64)>,
    /// Elements between rows of the results.
    row: i64,
    reduction: usize,
    /// Steps of the reduction for each row.
    steps: i64,
    /// Lines in a row of a tile.
    lines: i64,
    line: i64,
}

impl ResultsAhead {
    /// How tiles of `mr` rows of so many columns ask; `None` where it gains nothing, or rows are no whole number of steps apart.
    pub(super) fn new(
        e: &mut Emitter,
        stage: &Stage,
        finish: &Expr,
        (rows, mr): (usize, i64),
        (vector, nr): (usize, i64),
        (reduction, depth): (usize, usize),
    ) -> Option<Self> {
        let decl = e.program().tensor(stage.out);
        let (size, n) = (decl.dtype.size_bytes(), n_elements(&decl.dims));
        if !e.machine.exact || n * size <= e.machine.l2_bytes || stage.is_live() {
            return None;
        }
        let each = e.machine.choice.steps as i64;
        let per_row = depth as i64 / each / mr;
        if !(1..=MOST_ITERATIONS).contains(&per_row) {
            return None;
        }
        let steps = each * per_row;
        let mut of_epilogue = vec![];
        for load in loads(finish) {
            let Node::Load { tensor, index, pad: None } = load.node() else { continue };
            if e.packable_constant(*tensor).is_some() || !index.iter().all(|ix| matches!(ix, Ix::Affine(_))) || !expr_depends(&load, rows) {
                continue;
            }
            let strides = e.memory_of(*tensor).2;
            let (row, column) = (stride_along(index, &strides, rows), stride_along(index, &strides, vector));
            if column == 1 && row % steps == 0 {
                of_epilogue.push((load, row));
            }
        }
        let mut origin = Point { axes: vec![Affine::default(); stage.axes.len() + stage.reduce.len()], vector: None };
        let first = e.place_of(stage, &origin).1.constant;
        origin.axes[rows] = Affine::constant(1);
        let row = e.place_of(stage, &origin).1.constant - first;
        if row % steps != 0 || row < nr {
            return None;
        }
        let line = (e.machine.line_bytes / size) as i64;
        let lines = (nr + line - 1) / line;
        Some(ResultsAhead { stage: stage.clone(), loads: of_epilogue, row, reduction, steps, lines, line })
    }

    /// Asks at one iteration of the reduction.
    pub(super) fn emit(&self, e: &mut Emitter, at: &Point) {
        let mut asked = vec![];
        let (buffer, place) = e.place_of(&self.stage, at);
        asked.push((buffer, place, self.row));
        for (load, row) in &self.loads {
            let Node::Load { tensor, index, .. } = load.node() else { unreachable!("loads only") };
            let (buffer, offset, strides) = e.memory_of(*tensor);
            let place = index.iter().zip(&strides).fold(Affine::constant(offset), |sum, (ix, &s)| match ix {
                Ix::Affine(a) => sum.plus(&e.affine(a, at).times(s)),
                Ix::Checked(_) | Ix::Clamped(_) => unreachable!("affine indices only"),
            });
            asked.push((buffer, place, *row));
        }
        for (buffer, place, row) in asked {
            let place = place.plus(&at.axes[self.reduction].times(row / self.steps));
            (0..self.lines).for_each(|i| e.b.prefetch(buffer, place.offset(i * self.line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::nest::{Kernel, Stmt};
    use crate::schedule::Machine;
    use crate::schedule::ahead::tests::{product, unasked};
    use crate::tensor::Tensor;

    fn kernel(rows: usize, depth: usize, columns: usize) -> Kernel {
        let weights = Tensor::from_slice(&[depth, columns], &vec![1f32; depth * columns]);
        product(&Machine::wide(16, 32), [rows, depth, columns], weights).kernel
    }

    #[test]
    fn short_sums_ask_for_what_they_write() {
        for (rows, depth, columns, asks) in [
            (1400, 64, 128, true),
            (1402, 56, 160, true),
            (1400, 128, 256, true),
            (1400, 256, 128, false),
            (140, 64, 128, false),
            (1400, 32, 128, false),
        ] {
            let kernel = kernel(rows, depth, columns);
            assert_eq!(crate::nest::verify(&kernel), []);
            let (n, missed) = unasked(&kernel, |stmt, _| matches!(stmt, Stmt::Store { .. }));
            assert_eq!(missed * 50 <= n, asks, "{rows}x{depth}x{columns}: {missed} lines of {n} not asked for");
        }
    }
}

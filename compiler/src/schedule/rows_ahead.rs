//! Rows that another thread may have written, and that its core's cache holds, are asked for one tile ahead: while a tile of a product is
//! computed, those of the next one arrive in the second-level cache.

use super::ScheduleError;
use super::emitter::{Emitter, Point, stride_along};
use crate::expr::{Expr, Ix, Node, Var};
use crate::nest::{Affine, BufferId};

/// What a tile asks for of the next one's rows.
pub(super) struct RowsAhead {
    buffer: BufferId,
    /// The first element of the next tile, as seen from the first of the stage, whose place loops around it move.
    next: Affine,
    /// Elements for each unit of the axes that number tiles, panels and the steps of the reduction.
    terms: Vec<(usize, i64)>,
    /// Lines in one iteration of the reduction.
    lines: i64,
    line: i64,
    /// Where only some panels ask: the axis of columns, and those with which they begin.
    only: Option<(usize, Vec<i64>)>,
}

impl RowsAhead {
    /// How to ask for the rows of the next tile, `mr` rows on, of a load that does not depend on the columns: those of a tile are one
    /// piece of memory, each step of the reduction asks for its part. Where the tiles of several panels have the same rows, each asks
    /// for some.
    pub(super) fn new(
        e: &mut Emitter,
        load: &Expr,
        n_axes: usize,
        (rows, mr): (usize, i64),
        (reduction, depth): (usize, usize),
        (column, nr, n_panels): (usize, i64, i64),
    ) -> Option<Self> {
        let Node::Load { tensor, index, pad: None } = load.node() else { return None };
        if !e.machine.exact || e.packable_constant(*tensor).is_some() || !index.iter().all(|ix| matches!(ix, Ix::Affine(_))) {
            return None;
        }
        let (steps, line) = (e.machine.choice.steps as i64, (e.machine.line_bytes / load.dtype().size_bytes()) as i64);
        let (buffer, offset, strides) = e.memory_of(*tensor);
        let along = |axis: usize| stride_along(index, &strides, axis);
        let (row, depth) = (along(rows), depth as i64);
        if along(reduction) != 1 || row < depth || row > depth + depth / 4 || depth < 2 * steps {
            return None;
        }
        let part = (mr * row + n_panels - 1) / n_panels.max(1);
        let each = (part + depth - 1) / depth;
        let fixed = Point { axes: vec![Affine::default(); index_axes(index)], vector: None };
        let first = index.iter().zip(&strides).fold(Affine::constant(offset + mr * row), |sum, (ix, &s)| match ix {
            Ix::Affine(a) => sum.plus(&e.affine(a, &fixed).times(s)),
            _ => sum,
        });
        let mut terms: Vec<(usize, i64)> = (0..n_axes).map(|axis| (axis, along(axis))).filter(|t| t.1 != 0).collect();
        terms.push((reduction, each));
        if n_panels > 1 {
            terms.push((column, part / nr));
        }
        Some(RowsAhead { buffer, next: first, terms, lines: (each * steps + line - 1) / line, line, only: None })
    }

    /// The same by the panels only that begin at one of these columns.
    pub(super) fn only_at(self, axis: usize, columns: Vec<i64>) -> Self {
        RowsAhead { only: Some((axis, columns)), ..self }
    }

    /// The same in a group of panels, the first of which is at `origin` along the columns.
    pub(super) fn within(&self, columns: usize, origin: &Affine) -> Self {
        let each = self.terms.iter().filter(|t| t.0 == columns).fold(0, |sum, t| sum + t.1);
        RowsAhead { next: self.next.plus(&origin.times(-each)), terms: self.terms.clone(), only: self.only.clone(), ..*self }
    }

    /// Asks at one iteration of the reduction.
    pub(super) fn emit(&self, e: &mut Emitter, at: &Point) -> Result<(), ScheduleError> {
        let start = self.terms.iter().fold(self.next.clone(), |sum, &(axis, k)| sum.plus(&at.axes[axis].times(k)));
        let ask = |e: &mut Emitter| {
            for i in 0..self.lines {
                e.b.prefetch(self.buffer, start.offset(i * self.line));
            }
            Ok(())
        };
        let Some((axis, columns)) = &self.only else { return ask(e) };
        columns.iter().try_for_each(|&c| e.branch((at.axes[*axis].clone(), c, c + 1), ask, |_| Ok(())))
    }
}

/// One more than the greatest number of an axis that an index moves along.
fn index_axes(index: &[Ix]) -> usize {
    let of = |ix: &Ix| match ix {
        Ix::Affine(a) => a.terms.iter().map(|t| if let Var::Axis(i) = t.0 { i as usize + 1 } else { 0 }).max(),
        _ => None,
    };
    index.iter().filter_map(of).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use crate::nest::{Affine, Kernel, Stmt};
    use crate::schedule::Machine;
    use crate::schedule::ahead::tests::{is_blocked, value, walk};
    use crate::tensor::Tensor;

    /// A matrix product for so many threads, its reduction in one piece.
    fn product(rows: usize, depth: usize, columns: usize, threads: usize) -> Kernel {
        let machine = Machine { threads, l2_bytes: 2 << 20, ..Machine::wide(16, 32) };
        let weights = Tensor::from_slice(&[depth, columns], &vec![1f32; depth * columns]);
        let kernel = crate::schedule::ahead::tests::product(&machine, [rows, depth, columns], weights).kernel;
        assert!(!is_blocked(&kernel), "{rows}x{depth}x{columns}");
        assert_eq!(crate::nest::verify(&kernel), []);
        kernel
    }

    #[test]
    fn the_rows_of_the_next_tile_are_asked_for_where_threads_share_them() {
        for (rows, depth, columns) in [(56, 256, 64), (56, 256, 192), (56, 256, 256), (49, 512, 960), (128, 768, 768)] {
            let kernel = product(rows, depth, columns, 2);
            // Line and, of each tile that asks for it, the row it begins with.
            let mut asked: HashMap<i64, BTreeSet<i64>> = HashMap::new();
            let mut tiles = BTreeSet::new();
            walk(&kernel.body, &mut vec![], &mut |stmt, buffer, index, at| {
                if !matches!(stmt, Stmt::Prefetch { .. }) || kernel.buffers[buffer.0 as usize].len != rows * depth {
                    return;
                }
                // What fills no tile has no loop, and no rows after it.
                let Some(&(rows_var, _)) = index.terms.iter().find(|t| t.1 == depth as i64) else { return };
                let row = value(&Affine::var(rows_var), at);
                tiles.insert(row);
                asked.entry(value(index, at) / 16).or_default().insert(row);
            });
            let tiles: Vec<i64> = tiles.into_iter().collect();
            assert!(tiles.len() > 1, "{rows}x{depth}x{columns}");
            for pair in tiles.windows(2) {
                let lines = pair[1] * depth as i64 / 16..(pair[1] + (pair[1] - pair[0]).min(rows as i64 - pair[1])) * depth as i64 / 16;
                let n = lines.clone().count();
                let missed = lines.filter(|l| !asked.get(l).is_some_and(|by| by.contains(&pair[0]))).count();
                assert!(missed * 20 <= n, "{rows}x{depth}x{columns}: of the rows from {}, {missed} lines of {n} come unasked", pair[1]);
            }
            assert_eq!(n_asked(&product(rows, depth, columns, 1), rows * depth), 0);
        }
    }

    /// How often rows of so many elements are asked for.
    fn n_asked(kernel: &Kernel, len: usize) -> usize {
        let mut n = 0;
        walk(&kernel.body, &mut vec![], &mut |stmt, buffer, _, _| {
            n += usize::from(matches!(stmt, Stmt::Prefetch { .. }) && kernel.buffers[buffer.0 as usize].len == len);
        });
        n
    }

    #[test]
    fn of_many_panels_only_those_ask_for_rows_with_which_threads_begin() {
        let asked = |columns: usize, threads: usize| n_asked(&product(56, 256, columns, threads), 56 * 256);
        // Panels of 32 columns.
        let of_panel = asked(192, 2) / 6;
        assert!(of_panel > 0);
        assert_eq!([asked(256, 2), asked(512, 2), asked(512, 4), asked(1024, 8)], [2, 2, 4, 0].map(|n| n * of_panel));
    }
}

//! Weights that come from memory are asked for one panel ahead: while the tiles of a panel are computed, the next one arrives in the
//! second-level cache. Panels follow each other in memory in the order of the loops over them.
//!
//! Rows that another thread may have written, and that its cache holds, are asked for one tile ahead.

use super::emitter::{Emitter, Packed, Point, coefficient};
use crate::expr::{Expr, Ix, Node};
use crate::nest::{Affine, BufferId};

/// Bytes of a cache line.
const LINE_BYTES: i64 = 64;
/// Most lines asked for in one iteration of the reduction: beyond, the tiles are too few to hide anything.
const MAX_LINES: i64 = 6;

/// What tiles ask for: each a part of the next panel, or of the next rows.
#[derive(Clone)]
pub(super) struct Ahead {
    buffer: BufferId,
    /// Elements from the first of the buffer, or from where the tile is, to what it asks for.
    from: i64,
    /// Elements for each unit of the axes that number the panels, the tiles, the steps of the reduction.
    terms: Vec<(usize, i64)>,
    /// Lines in one iteration.
    lines: i64,
    line: i64,
}

/// The loops that tiles run in: panels outermost, then `outer`, then rows in tiles of `mr`, then the reduction in steps of `steps`.
pub(super) struct TileLoops<'a> {
    /// Axes that number panels, with the elements between them.
    pub(super) panels: &'a [(usize, i64)],
    /// How many panels there are at least.
    pub(super) n_panels: usize,
    pub(super) outer: &'a [(usize, usize)],
    pub(super) rows: Option<(usize, usize)>,
    pub(super) mr: usize,
    pub(super) reduction: &'a [(usize, usize)],
    pub(super) steps: usize,
}

impl Ahead {
    /// How to ask for the next panel of `packed`; `None` where that gains nothing.
    pub(super) fn new(e: &Emitter, packed: &Packed, size_bytes: usize, loops: &TileLoops<'_>) -> Option<Self> {
        let (panel, line) = (packed.panel, LINE_BYTES / size_bytes as i64);
        let two_fit = 2 * panel as usize * size_bytes <= e.machine.l2_bytes / 8 * 7;
        if !e.machine.exact || loops.n_panels < 2 || !two_fit || loops.reduction.iter().any(|r| packed.strides.iter().all(|s| s.0 != r.0)) {
            return None;
        }
        if loops.outer.iter().chain(&loops.rows).any(|o| packed.strides.iter().any(|s| s.0 == o.0)) {
            return None;
        }
        let row_tiles = loops.rows.map_or(1, |r| r.1.div_ceil(loops.mr)) as i64;
        let n_tiles = row_tiles * loops.outer.iter().map(|o| o.1 as i64).product::<i64>();
        let depth: i64 = loops.reduction.iter().map(|r| r.1 as i64).product();
        let iterations = depth / loops.steps as i64 * n_tiles;
        if iterations == 0 || n_tiles < 2 {
            return None;
        }
        let lines = (panel + line * iterations - 1) / (line * iterations);
        // Elements for each step of the reduction.
        let each = lines * line / loops.steps as i64;
        if lines > MAX_LINES || each * loops.steps as i64 != lines * line {
            return None;
        }
        let mut terms = loops.panels.to_vec();
        terms.extend(
            loops.reduction.iter().filter_map(|r| packed.strides.iter().find(|s| s.0 == r.0)).map(|s| (s.0, s.1 / packed.nr * each)),
        );
        // Parts of tiles overlap a little rather than leave gaps.
        let by_row = depth * each / loops.mr as i64;
        let mut part = by_row * loops.mr as i64;
        if let Some((axis, _)) = loops.rows {
            terms.push((axis, by_row));
            part *= row_tiles;
        }
        for &(axis, extent) in loops.outer.iter().rev() {
            terms.push((axis, part));
            part *= extent as i64;
        }
        Some(Ahead { buffer: packed.buffer, from: panel, terms, lines, line })
    }

    /// How to ask for the rows of the next tile, `mr` rows on, of a load that does not depend on the columns: those of a tile are one
    /// piece of memory, each step of the reduction asks for its part. Where the tiles of several panels have the same rows, each asks for some.
    pub(super) fn of_rows(
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
        let (steps, line) = (e.machine.choice.steps as i64, LINE_BYTES / load.dtype().size_bytes() as i64);
        let (buffer, offset, strides) = e.memory_of(*tensor);
        let along = |axis: usize| index.iter().zip(&strides).map(|(ix, s)| coefficient(ix, axis) * s).sum::<i64>();
        let (row, depth) = (along(rows), depth as i64);
        if along(reduction) != 1 || row < depth || row > depth + depth / 4 || depth < 2 * steps {
            return None;
        }
        let part = (mr * row + n_panels - 1) / n_panels.max(1);
        let each = (part + depth - 1) / depth;
        let constant: i64 = index.iter().zip(&strides).map(|(ix, s)| if let Ix::Affine(a) = ix { a.constant * s } else { 0 }).sum();
        let mut terms: Vec<(usize, i64)> = (0..n_axes).map(|axis| (axis, along(axis))).filter(|t| t.1 != 0).collect();
        terms.push((reduction, each));
        if n_panels > 1 {
            terms.push((column, part / nr));
        }
        Some(Ahead { buffer, from: offset + constant + mr * row, terms, lines: (each * steps + line - 1) / line, line })
    }

    /// Asks at one iteration of the reduction.
    pub(super) fn emit(&self, e: &mut Emitter, at: &Point) {
        let start = self.terms.iter().fold(Affine::constant(self.from), |sum, &(axis, k)| sum.plus(&at.axes[axis].times(k)));
        for i in 0..self.lines {
            e.b.prefetch(self.buffer, start.offset(i * self.line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use crate::expr::{Builder, Expr, ReduceOp};
    use crate::nest::{Affine, BufferId, Kernel, Stmt, Var};
    use crate::schedule::{Machine, Memory, Source, Storage, schedule};
    use crate::tensor::{DType, Tensor, dense_strides};

    fn walk(block: &[Stmt], at: &mut Vec<(Var, i64)>, f: &mut impl FnMut(BufferId, &Affine, &[(Var, i64)])) {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => {
                    for i in (l.start..l.end).step_by(l.step as usize) {
                        at.push((l.var, i));
                        walk(&l.body, at, f);
                        at.pop();
                    }
                }
                Stmt::Prefetch { buffer, index } => f(*buffer, index, at),
                _ => {}
            }
        }
    }

    /// A matrix product for so many threads.
    fn product(rows: usize, depth: usize, columns: usize, threads: usize) -> Kernel {
        let mut b = Builder::new();
        let x = b.operand("x", DType::F32, &[rows, depth]);
        let w = b.operand("w", DType::F32, &[depth, columns]);
        let y = b.reduce(
            ReduceOp::Sum,
            &[rows, columns],
            &[depth],
            |b, at, k| b.load(x, [at[0].clone(), k[0].clone()]) * b.load(w, [k[0].clone(), at[1].clone()]),
            |_, _, acc: Expr| acc,
        );
        let program = b.finish(&[y]);
        let memory = |id: usize, dims: [usize; 2]| Memory {
            storage: Storage { id, name: format!("s{id}"), dtype: DType::F32, len: dims[0] * dims[1] },
            offset: 0,
            strides: dense_strides(&dims, &[0, 1]),
        };
        let weights = Source::Constant(Tensor::from_slice(&[depth, columns], &vec![1f32; depth * columns]));
        let machine = Machine { threads, ..Machine::wide(16, 32) };
        let k =
            schedule("k", &program, vec![Source::Memory(memory(0, [rows, depth])), weights], vec![memory(1, [rows, columns])], &machine);
        let kernel = k.unwrap().kernel;
        assert_eq!(crate::nest::verify(&kernel), []);
        kernel
    }

    /// Lines of the weights of a product that are asked for before their panel begins, and those that are not, the first panel aside.
    fn lines(rows: usize, depth: usize, columns: usize) -> (usize, usize) {
        let kernel = product(rows, depth, columns, 1);
        let Some(Stmt::Loop(panels)) = kernel.body.first() else { panic!("a loop over panels") };
        let panel = panels.step * depth as i64;
        let mut asked = BTreeSet::new();
        walk(&kernel.body, &mut vec![], &mut |_, index, at| {
            let value = |v: Var| at.iter().find(|a| a.0 == v).map_or(0, |a| a.1);
            let element = index.constant + index.terms.iter().map(|t| t.1 * value(t.0)).sum::<i64>();
            // In time: while the panel before is computed.
            if element / panel == value(panels.var) / panels.step + 1 {
                asked.insert(element / 16);
            }
        });
        let wanted: Vec<i64> = (panel / 16..(depth * columns / 16) as i64).collect();
        let missed = wanted.iter().filter(|line| !asked.contains(line)).count();
        (wanted.len() - missed, missed)
    }

    #[test]
    fn every_panel_but_the_first_is_asked_for() {
        for (rows, depth, columns) in [(128, 768, 768), (56, 260, 1024), (49, 512, 960), (30, 300, 640)] {
            let (asked, missed) = lines(rows, depth, columns);
            assert!(missed * 20 <= asked, "{rows}x{depth}x{columns}: {asked} lines asked for, {missed} not");
        }
    }

    #[test]
    fn the_rows_of_the_next_tile_are_asked_for_where_threads_share_them() {
        for (rows, depth, columns) in [(56, 256, 64), (56, 256, 256), (49, 512, 960), (128, 768, 768)] {
            let kernel = product(rows, depth, columns, 2);
            // Line and, of each tile that asks for it, the row it begins with.
            let mut asked: HashMap<i64, BTreeSet<i64>> = HashMap::new();
            let mut tiles = BTreeSet::new();
            walk(&kernel.body, &mut vec![], &mut |buffer, index, at| {
                if kernel.buffers[buffer.0 as usize].len != rows * depth {
                    return;
                }
                let value = |v: Var| at.iter().find(|a| a.0 == v).map_or(0, |a| a.1);
                // What fills no tile has no loop, and no rows after it.
                let Some(&(rows_var, _)) = index.terms.iter().find(|t| t.1 == depth as i64) else { return };
                let element = index.constant + index.terms.iter().map(|t| t.1 * value(t.0)).sum::<i64>();
                tiles.insert(value(rows_var));
                asked.entry(element / 16).or_default().insert(value(rows_var));
            });
            let tiles: Vec<i64> = tiles.into_iter().collect();
            assert!(tiles.len() > 1, "{rows}x{depth}x{columns}");
            for pair in tiles.windows(2) {
                let lines = pair[1] * depth as i64 / 16..(pair[1] + (pair[1] - pair[0]).min(rows as i64 - pair[1])) * depth as i64 / 16;
                let n = lines.clone().count();
                let missed = lines.filter(|l| !asked.get(l).is_some_and(|by| by.contains(&pair[0]))).count();
                assert!(missed * 20 <= n, "{rows}x{depth}x{columns}: of the rows from {}, {missed} lines of {n} come unasked", pair[1]);
            }
            let alone = product(rows, depth, columns, 1);
            walk(&alone.body, &mut vec![], &mut |buffer, _, _| assert_ne!(alone.buffers[buffer.0 as usize].len, rows * depth));
        }
    }

    #[test]
    fn few_rows_and_small_weights_ask_for_nothing() {
        assert_eq!(lines(4, 512, 960).0, 0);
        assert_eq!(lines(128, 64, 64).0, 0);
    }
}

//! Weights that come from memory are asked for one panel ahead: while the tiles of a panel are computed, the next one arrives in the
//! second-level cache. Panels follow each other in memory in the order of the loops over them.

use super::blocks::{Block, Blocks};
use super::emitter::{Emitter, Packed, Point};
use crate::nest::{Affine, BufferId};

/// Most lines asked for in one iteration of the reduction: beyond, the tiles are too few to hide anything.
const MAX_LINES: i64 = 6;
/// The same where other rows may follow, of which a run says how many.
const MAX_ALONE: i64 = 8;

/// What the tiles of a panel ask for: each a part of the next panel.
#[derive(Clone)]
pub(super) struct Ahead {
    buffer: BufferId,
    /// Elements from one panel to the next.
    panel: i64,
    /// Where what comes next begins, as seen from the panel.
    start: Affine,
    /// Elements for each unit of the axis that is cut.
    cut: i64,
    /// Elements for each unit of the axes that number the panels, the tiles, the steps of the reduction.
    terms: Vec<(usize, i64)>,
    /// Lines in one iteration.
    lines: i64,
    line: i64,
    /// Elements that one of several tiles of different heights asks for.
    share: i64,
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
    /// Where `rows` does not say so: how many tiles of rows there are, if these may be all.
    pub(super) alone: Option<i64>,
    pub(super) reduction: &'a [(usize, usize)],
    pub(super) steps: usize,
    /// The blocks of the reduction outside the panels' loop.
    pub(super) blocks: Option<&'a Blocks>,
}

impl Ahead {
    /// How to ask for the next panel of `packed`; `None` where that gains nothing.
    pub(super) fn new(e: &Emitter, packed: &Packed, size_bytes: usize, loops: &TileLoops<'_>) -> Option<Self> {
        let n_blocks = loops.blocks.map_or(1, |b| b.n as i64);
        let (panel, line) = (packed.panel / n_blocks, (e.machine.line_bytes / size_bytes) as i64);
        let two_fit = 2 * panel as usize * size_bytes <= e.machine.l2_bytes / 8 * 7;
        if !e.machine.exact || loops.n_panels < 2 || !two_fit || loops.reduction.iter().any(|r| packed.strides.iter().all(|s| s.0 != r.0)) {
            return None;
        }
        if loops.outer.iter().chain(&loops.rows).any(|o| packed.strides.iter().any(|s| s.0 == o.0)) {
            return None;
        }
        let row_tiles = loops.rows.map_or(loops.alone.unwrap_or(1), |r| r.1.div_ceil(loops.mr) as i64);
        let n_tiles = row_tiles * loops.outer.iter().map(|o| o.1 as i64).product::<i64>();
        let depth = loops.reduction.iter().map(|r| r.1 as i64).product::<i64>() / n_blocks;
        let iterations = depth / loops.steps as i64 * n_tiles;
        if iterations == 0 || n_tiles < 2 && loops.alone.is_none() {
            return None;
        }
        let lines = (panel + line * iterations - 1) / (line * iterations);
        // Elements for each step of the reduction.
        let each = lines * line / loops.steps as i64;
        if lines > if loops.alone.is_some() { MAX_ALONE } else { MAX_LINES } || each * loops.steps as i64 != lines * line {
            return None;
        }
        let mut terms = loops.panels.to_vec();
        terms.extend(
            loops.reduction.iter().filter_map(|r| packed.strides.iter().find(|s| s.0 == r.0)).map(|s| (s.0, s.1 / packed.nr * each)),
        );
        // Parts of tiles overlap a little rather than leave gaps.
        let by_row = depth * each / loops.mr as i64;
        let share = if loops.rows.is_some() { by_row * loops.mr as i64 } else { depth * each };
        let mut part = share * row_tiles;
        terms.extend(loops.rows.map(|(axis, _)| (axis, by_row)));
        for &(axis, extent) in loops.outer.iter().rev() {
            terms.push((axis, part));
            part *= extent as i64;
        }
        let cut = loops.blocks.and_then(|b| packed.strides.iter().find(|s| s.0 == b.axis)).map_or(0, |s| s.1);
        Some(Ahead { buffer: packed.buffer, panel: packed.panel, start: Affine::constant(packed.panel), cut, terms, lines, line, share })
    }

    /// The same where tiles go over panels in groups of so many: those of a panel ask for the one that has its place in the next group.
    pub(super) fn in_groups(self, panels: i64) -> Self {
        Ahead { start: self.start.times(panels), ..self }
    }

    /// The same in a block of the reduction.
    pub(super) fn within(&self, block: &Block<'_>) -> Self {
        Ahead { start: block.next(self.panel, self.cut), ..self.clone() }
    }

    /// What tile number `i` asks for, of tiles that may be all.
    pub(super) fn of_tile(&self, i: i64) -> Self {
        Ahead { start: self.start.offset(i * self.share), ..self.clone() }
    }

    /// Asks at one iteration of the reduction.
    pub(super) fn emit(&self, e: &mut Emitter, at: &Point) {
        let start = self.terms.iter().fold(self.start.clone(), |sum, &(axis, k)| sum.plus(&at.axes[axis].times(k)));
        for i in 0..self.lines {
            e.b.prefetch(self.buffer, start.offset(i * self.line));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use crate::expr::{Builder, Expr, ReduceOp};
    use crate::nest::{Affine, BufferId, Cond, Kernel, Op, Stmt, Var};
    use crate::schedule::{Arg, Machine, Memory, Scheduled, Source, Storage, schedule};
    use crate::tensor::{DType, Tensor, dense_strides};

    /// The product of `s0` by constant weights in `s1`: rows, depth, columns.
    pub(in crate::schedule) fn product(machine: &Machine, [rows, depth, columns]: [usize; 3], weights: Tensor) -> Scheduled {
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
        let sources = vec![Source::Memory(memory(0, [rows, depth])), Source::Constant(weights)];
        schedule("k", &program, sources, vec![memory(1, [rows, columns])], machine).expect("a kernel")
    }

    /// Whether the reduction is in blocks.
    pub(in crate::schedule) fn is_blocked(kernel: &Kernel) -> bool {
        kernel.buffers.iter().any(|b| b.name.starts_with("sums."))
    }

    /// What an index is where loops are at these values.
    pub(in crate::schedule) fn value(affine: &Affine, at: &[(Var, i64)]) -> i64 {
        affine.constant + affine.terms.iter().map(|t| t.1 * at.iter().find(|a| a.0 == t.0).map_or(0, |a| a.1)).sum::<i64>()
    }

    /// Calls `f` with every prefetch, load and store, in the order in which they run: its buffer, its index, the values of loops.
    pub(in crate::schedule) fn walk(block: &[Stmt], at: &mut Vec<(Var, i64)>, f: &mut impl FnMut(&Stmt, BufferId, &Affine, &[(Var, i64)])) {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => {
                    for i in (l.start..l.end).step_by(l.step as usize) {
                        at.push((l.var, i));
                        walk(&l.body, at, f);
                        at.pop();
                    }
                }
                Stmt::If { cond: Cond::Within(ranges), then, otherwise } => {
                    let holds = ranges.iter().all(|(affine, low, high)| (*low..*high).contains(&value(affine, at)));
                    walk(if holds { then } else { otherwise }, at, f);
                }
                Stmt::Prefetch { buffer, index } => f(stmt, *buffer, index, at),
                Stmt::Set { op: Op::Load { buffer, index } | Op::Gather { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
                    f(stmt, *buffer, &index.affine, at)
                }
                Stmt::Set { .. } | Stmt::If { cond: Cond::Reg(_), .. } => {}
            }
        }
    }

    /// Lines of 16 elements that a kernel touches for the first time by what `counts`, and those of them that were not asked for before.
    pub(in crate::schedule) fn unasked(kernel: &Kernel, counts: impl Fn(&Stmt, BufferId) -> bool) -> (usize, usize) {
        let (mut asked, mut touched, mut missed) = (HashSet::new(), HashSet::new(), 0);
        walk(&kernel.body, &mut vec![], &mut |stmt, buffer, index, at| {
            let line = (buffer, value(index, at) / 16);
            if matches!(stmt, Stmt::Prefetch { .. }) {
                asked.insert(line);
            } else if counts(stmt, buffer) && touched.insert(line) {
                missed += usize::from(!asked.contains(&line));
            }
        });
        (touched.len(), missed)
    }

    /// Lines of the weights of a product that are asked for before they are read, and those that are not; and whether its reduction is in
    /// blocks.
    fn lines(rows: usize, depth: usize, columns: usize) -> (usize, usize, bool) {
        let machine = Machine::wide(16, 32);
        let scheduled = product(&machine, [rows, depth, columns], Tensor::from_slice(&[depth, columns], &vec![1f32; depth * columns]));
        let kernel = scheduled.kernel;
        assert_eq!(crate::nest::verify(&kernel), []);
        let weights = BufferId(scheduled.args.iter().position(|a| matches!(a, Arg::Constant(_))).expect("weights") as u32);
        let (read, missed) = unasked(&kernel, |stmt, buffer| buffer == weights && matches!(stmt, Stmt::Set { .. }));
        (read - missed, missed, is_blocked(&kernel))
    }

    #[test]
    fn every_panel_but_the_first_is_asked_for() {
        for (rows, depth, columns, blocks) in [
            (28, 768, 768, false),
            (56, 260, 1024, false),
            (49, 512, 960, false),
            (30, 300, 640, false),
            (64, 1040, 768, true),
            (28, 2064, 352, true),
        ] {
            let (asked, missed, blocked) = lines(rows, depth, columns);
            assert!(missed * 10 <= asked, "{rows}x{depth}x{columns}: {asked} lines asked for, {missed} not");
            assert_eq!(blocked, blocks, "{rows}x{depth}x{columns}");
        }
    }

    #[test]
    fn weights_that_are_more_than_the_rows_are_asked_for_although_both_stay_near() {
        let (asked, missed, _) = lines(140, 256, 224);
        assert!(asked > 0 && missed * 6 <= asked, "{asked} lines asked for, {missed} not");
        assert_eq!(lines(280, 256, 224).0, 0);
    }

    #[test]
    fn few_rows_and_small_weights_ask_for_nothing() {
        assert_eq!(lines(4, 512, 960).0, 0);
        assert_eq!(lines(128, 64, 64).0, 0);
    }
}

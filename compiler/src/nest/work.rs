//! What statements cost, in half cycles or so: where sizes are greatest, and what of it is that of one run.

use std::collections::{HashMap, HashSet};

use super::footprint::Steps;
use super::ir::{Affine, Buffer, Kernel, Loop, Op, Stmt, Var, for_each_access, loops};
use super::parallel::top_loop;

/// What a statement costs: its operations, and a share for the memory it reaches where the loops around it stand still.
pub fn work(kernel: &Kernel, stmt: &Stmt) -> u64 {
    let block = std::slice::from_ref(stmt);
    let bytes: usize = reached(kernel, &loops(block), block).into_iter().sum();
    operations(stmt).saturating_add(work_of_bytes(bytes))
}

/// Bytes of each buffer between the first and the last that statements reach while these loops run; all where data decides.
fn reached(kernel: &Kernel, running: &[&Loop], block: &[Stmt]) -> Vec<usize> {
    let inner: HashMap<Var, Steps> = running.iter().map(|l| (l.var, Steps::of(l))).collect();
    let mut ends: Vec<Option<(i64, i64)>> = vec![None; kernel.buffers.len()];
    for_each_access(block, &mut |buffer, index, _| {
        let whole = (0, kernel.buffers[buffer.0 as usize].len as i64);
        let ends = &mut ends[buffer.0 as usize];
        let values = |var| inner.get(&var).map_or((0, 0), |s| (s.start, s.start + s.step * (s.n - 1).max(0)));
        let (first, last) = if index.dynamic.is_empty() { index.affine.range(values) } else { whole };
        let (from, to) = ends.unwrap_or((first, last));
        *ends = Some((from.min(first), to.max(last)));
    });
    let bytes = |(b, ends): (&Buffer, Option<(i64, i64)>)| {
        let n = ends.map_or(0, |(from, to)| (to.abs_diff(from) as usize).saturating_add(1).min(b.len));
        n.saturating_mul(b.dtype.size_bytes())
    };
    kernel.buffers.iter().zip(ends).map(bytes).collect()
}

/// What memory costs that is reached.
fn work_of_bytes(bytes: usize) -> u64 {
    bytes as u64 / 16
}

/// Live loops beside each other: parts of an axis, of which no run has all at their longest.
struct Parts<'k> {
    /// Of those with the least work for each element, the one with the most elements.
    main: &'k Loop,
    /// The most elements of all together.
    most: i64,
    /// The elements of one run.
    runs: Affine,
    /// What they cost together.
    operations: u64,
}

impl<'k> Parts<'k> {
    fn of(block: &'k [Stmt]) -> Option<Self> {
        let loops: Vec<&Loop> = block.iter().filter(|s| is_part(s)).filter_map(top_loop).collect();
        let step = |l: &Loop| l.step.max(1).unsigned_abs();
        let costs = loops.iter().map(|&l| (l, all_operations(&l.body).saturating_add(2)));
        let (main, cost) = costs.min_by_key(|&(l, cost)| (cost / step(l), l.start - l.end))?;
        let (start, end) = loops.iter().fold((main.start, main.end), |(a, b), l| (a.min(l.start), b.max(l.end)));
        let lives = loops.iter().filter_map(|l| l.live.as_ref());
        let runs = lives.fold(Affine::default(), |sum, live| sum.plus(&live.to).plus(&live.from.times(-1)));
        let most = end - start;
        Some(Parts { main, most, runs, operations: cost.saturating_mul(most.max(0).unsigned_abs().div_ceil(step(main))) })
    }
}

/// Operations that a statement executes, loops counted as often as they run.
fn operations(stmt: &Stmt) -> u64 {
    match stmt {
        Stmt::Loop(l) => (Steps::of(l).n.max(0) as u64).saturating_mul(all_operations(&l.body).saturating_add(2)),
        Stmt::If { then, otherwise, .. } => all_operations(then).max(all_operations(otherwise)).saturating_add(2),
        Stmt::Set { op: Op::Const(_) | Op::Copy(_), .. } => 0,
        Stmt::Set { op: Op::Binary(super::BinaryOp::Div | super::BinaryOp::Rem, ..) | Op::Unary(super::UnaryOp::Sqrt, _), .. } => 16,
        Stmt::Set { .. } | Stmt::Prefetch { .. } => 1,
        Stmt::Store { .. } => 2,
    }
}

fn is_part(stmt: &Stmt) -> bool {
    top_loop(stmt).is_some_and(|l| l.live.is_some())
}

fn all_operations(block: &[Stmt]) -> u64 {
    let parts = Parts::of(block).map_or(0, |parts| parts.operations);
    block.iter().filter(|s| !is_part(s)).fold(parts, |sum, s| sum.saturating_add(operations(s)))
}

/// What a run has of the live loops with most of the work, each as a size and its greatest value.
pub(super) fn live_shares(block: &[Stmt]) -> Vec<(Affine, i64)> {
    let mut shares = vec![];
    let mut block = block;
    loop {
        let most = block.iter().filter(|s| !is_part(s)).max_by_key(|s| operations(s));
        block = match (Parts::of(block), most) {
            (Some(parts), most) if most.is_none_or(|s| operations(s) <= parts.operations) => {
                shares.push((parts.runs, parts.most));
                &parts.main.body
            }
            (_, Some(Stmt::Loop(l))) => &l.body,
            (_, Some(Stmt::If { then, otherwise, .. })) => {
                if all_operations(then) >= all_operations(otherwise) {
                    then
                } else {
                    otherwise
                }
            }
            _ => return shares,
        };
    }
}

/// The share in the work of a loop of the buffers that no live loop in it moves over.
pub(super) fn fixed_work(kernel: &Kernel, l: &Loop) -> u64 {
    let running: Vec<&Loop> = std::iter::once(l).chain(loops(&l.body)).collect();
    let live: HashSet<Var> = running[1..].iter().filter(|l| l.live.is_some()).map(|l| l.var).collect();
    let mut moved = vec![false; kernel.buffers.len()];
    for_each_access(&l.body, &mut |buffer, index, _| {
        let moves = !index.dynamic.is_empty() || index.affine.terms.iter().any(|t| live.contains(&t.0));
        moved[buffer.0 as usize] |= moves;
    });
    let still = reached(kernel, &running, &l.body).into_iter().zip(moved).filter(|b| !b.1);
    work_of_bytes(still.map(|b| b.0).sum())
}

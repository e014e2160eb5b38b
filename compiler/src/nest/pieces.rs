//! A kernel as the pieces of which each runs on one thread or on many.
//!
//! Pieces are the outermost parallel loops and what is between them. Neighbours of which none writes what another one touches are *joined*: all
//! their iterations are handed out at once. A loop that is not parallel but holds loops that are, such as one over time, takes *turns*: its pieces
//! run once for each of its iterations, whose number the caller leaves in the table of arguments, after the sizes.

use std::collections::HashMap;

use super::footprint::{Steps, apart};
use super::ir::{Access, Affine, Cond, Kernel, Live, Loop, Op, Reg, SizeVar, Stmt, Var, for_each_operand, for_each_set};
use super::parallel::{is_spread, top_loop};
use super::work::{fixed_work, live_shares, work};

/// The most loops that are joined.
const MAX_JOINED: usize = 16;

/// A part of a kernel: statements on one thread, or the iterations of one loop on many.
#[derive(Clone, PartialEq, Debug)]
pub struct Piece {
    /// The statements, with the buffers of the whole; in turns with one size more, the number of the turn.
    pub kernel: Kernel,
    /// What its iterations do, if they may run on several threads.
    pub spread: Option<Spread>,
    /// Whether it may run at the same time as the piece before, and all that that one is joined with.
    pub joined: bool,
    /// Which loop calls it, and how often. Neighbours of one loop are called in turn.
    pub turn: Option<Turn>,
}

/// The outermost loop of a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    /// Number of iterations, at least two; where the loop is live, at most so many.
    pub n: i64,
    /// [`work`] of all iterations.
    pub work: u64,
    /// What runs of a live loop, and its step: without iterations, the piece must not be called.
    pub live: Option<(Live, i64)>,
    /// What runs of the live loops inside that have most of the work, each as a size and its greatest value.
    pub inner: Vec<(Affine, i64)>,
    /// The part of the work that is the same whatever these run: memory that they do not move over, such as weights.
    pub fixed: u64,
}

/// Work is not told apart beyond this: products with a size, below [`MOST_ELEMENTS`], do not overflow.
pub const MOST_WORK: u64 = 1 << 36;
const MOST_ELEMENTS: i64 = 1 << 26;
/// The most that is told apart of the work of iterations beside each other.
const MOST_WEIGHT: u64 = 1 << 16;

impl Spread {
    /// What of some work is that of one iteration.
    pub fn of_each(&self, work: u64) -> u64 {
        (work / self.n.max(1) as u64).clamp(1, 1 << 31)
    }

    /// Loops beside each other as one, and how often an iteration of each counts in it: by its work, that of the least once.
    pub fn joined(spreads: &[&Spread]) -> (Self, Vec<i64>) {
        let each = |s: &&Spread| s.of_each(s.work);
        let least = spreads.iter().map(each).min().unwrap_or(1);
        let weights: Vec<i64> = spreads.iter().map(|s| ((each(s) + least / 2) / least).min(MOST_WEIGHT) as i64).collect();
        let sum = |f: fn(&Spread) -> u64| spreads.iter().fold(0u64, |sum, s| sum.saturating_add(f(s)));
        let inner = spreads.iter().max_by_key(|s| s.work).map_or_else(Vec::new, |s| s.inner.clone());
        let n = spreads.iter().zip(&weights).map(|(s, weight)| s.n * weight).sum();
        (Spread { n, work: sum(|s| s.work), live: None, inner, fixed: sum(|s| s.fixed) }, weights)
    }

    /// What runs of the live loops inside, as far as it can be multiplied with work.
    pub fn shares(&self) -> impl Iterator<Item = &(Affine, i64)> {
        self.inner.iter().filter(|(_, most)| (1..MOST_ELEMENTS).contains(most))
    }

    /// The work of `n` iterations in a run of these sizes.
    pub fn work_of(&self, n: u64, size: impl Fn(Var) -> i64) -> u64 {
        let all = self.of_each(self.work.saturating_sub(self.fixed)).saturating_mul(n).min(MOST_WORK);
        let share = |work, (part, most): &(Affine, i64)| work * part.value(&size).clamp(1, *most).unsigned_abs() / most.unsigned_abs();
        self.shares().fold(all, share).saturating_add(self.of_each(self.fixed).saturating_mul(n))
    }
}

/// A loop that calls pieces in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Number of the statement, which tells two such loops apart.
    pub id: usize,
    /// The first number, the one that is past the last, and what is between two.
    pub numbers: (i64, i64, i64),
}

impl Turn {
    /// Number of iterations.
    pub fn n(&self) -> u64 {
        let (start, end, step) = self.numbers;
        (end - start).max(0).unsigned_abs() / step.max(1).unsigned_abs()
    }
}

/// A kernel as a sequence of pieces that can be called one after the other. Where its parallel loops cannot be taken out of it, that
/// is the kernel itself, on one thread.
pub fn pieces(kernel: &Kernel) -> Vec<Piece> {
    split(kernel).unwrap_or_else(|| vec![Piece { kernel: kernel.clone(), spread: None, joined: false, turn: None }])
}

/// The loop that a statement is, if it takes turns.
pub(super) fn turning(stmt: &Stmt) -> Option<&Loop> {
    let Stmt::Loop(l) = stmt else { return None };
    let takes = !l.parallel && l.live.is_none() && l.start >= 0 && Steps::of(l).n > 1;
    let fixed = |s: &Stmt| matches!(s, Stmt::Loop(inner) if inner.live.is_none());
    let mut shared = l.body.iter().filter(|s| is_spread(s)).peekable();
    (takes && shared.peek().is_some() && shared.all(fixed)).then_some(l)
}

/// The statements of a body by pieces: each loop that threads share or that takes turns, and what is between them.
pub(super) fn runs(body: &[Stmt]) -> impl Iterator<Item = &[Stmt]> {
    let alone = |s: &Stmt| is_spread(s) || turning(s).is_some();
    body.chunk_by(move |a, b| !alone(a) && !alone(b))
}

/// By statement of a body: of those that threads share, whether it is joined with the one before.
pub(super) fn joins(kernel: &Kernel, body: &[Stmt]) -> Vec<Option<bool>> {
    let mut group: Vec<&Stmt> = vec![];
    let mut joined = vec![];
    for s in body {
        let with_others = match s {
            Stmt::Loop(l) if is_spread(s) && l.live.is_none() => {
                let with_others = !group.is_empty() && group.len() < MAX_JOINED && group.iter().all(|g| apart(kernel, g, s));
                if !with_others {
                    group.clear();
                }
                group.push(s);
                Some(with_others)
            }
            Stmt::Set { op, .. } if !matches!(op, Op::Check(..)) => None,
            _ => {
                group.clear();
                is_spread(s).then_some(false)
            }
        };
        joined.push(with_others);
    }
    joined
}

/// The pieces, where there are several or one that threads share.
pub(super) fn split(kernel: &Kernel) -> Option<Vec<Piece>> {
    if !kernel.body.iter().any(|s| is_spread(s) || turning(s).is_some()) {
        return Some(vec![Piece { kernel: kernel.clone(), spread: None, joined: false, turn: None }]);
    }
    let mut cut = Cut { kernel, n_sets: vec![0; kernel.regs.len()], pieces: vec![] };
    for_each_set(&kernel.body, &mut |r, _| cut.n_sets[r.0 as usize] += 1);
    let joins = joins(kernel, &kernel.body);
    let mut first = 0;
    for run in runs(&kernel.body) {
        match turning(&run[0]) {
            Some(l) => cut.turns(l, first)?,
            None => {
                if !is_idle(run) {
                    cut.piece(run, first, joins[first] == Some(true))?;
                }
            }
        }
        first += run.len();
    }
    let mut pieces = cut.pieces;
    if let [_, _, ..] = &pieces[..] {
        for (i, piece) in pieces.iter_mut().enumerate() {
            piece.kernel.name = format!("{}/{i}", kernel.name);
        }
    }
    Some(pieces)
}

/// Whether statements only set registers, to what can be had again.
fn is_idle(run: &[Stmt]) -> bool {
    run.iter().all(|s| matches!(s, Stmt::Set { op, .. } if !matches!(op, Op::Check(..))))
}

struct Cut<'k> {
    kernel: &'k Kernel,
    n_sets: Vec<u32>,
    pieces: Vec<Piece>,
}

impl Cut<'_> {
    /// The statements from `first` on of the kernel's body.
    fn piece(&mut self, run: &[Stmt], first: usize, joined: bool) -> Option<()> {
        let [mut body] = self.before([(&self.kernel.body, first)], run)?;
        let spread = match top_loop(&run[0]) {
            Some(l) if is_spread(&run[0]) => {
                body.push(Stmt::Loop(l.clone()));
                let live = l.live.clone().map(|live| (live, l.step));
                Some(Spread {
                    n: Steps::of(l).n,
                    work: work(self.kernel, &run[0]),
                    live,
                    inner: live_shares(&l.body),
                    fixed: fixed_work(self.kernel, l),
                })
            }
            _ => {
                body.extend(run.iter().cloned());
                None
            }
        };
        self.pieces.push(Piece { kernel: Kernel { body, ..self.kernel.clone() }, spread, joined, turn: None });
        Some(())
    }

    /// The pieces of a loop that is statement `id` of the kernel's body: each runs that loop from one number, which it is told, to the next.
    fn turns(&mut self, l: &Loop, id: usize) -> Option<()> {
        let mut kernel = Kernel { body: vec![], ..self.kernel.clone() };
        let number = Var(kernel.vars.len() as u32);
        let name = |i: usize| if i == 0 { "turn".to_owned() } else { format!("turn.{i}") };
        let name = (0..).map(name).find(|n| !kernel.vars.contains(n))?;
        kernel.vars.push(name);
        kernel.sizes.push(SizeVar { var: number, high: l.end - l.step, most: None });
        let live = Live { from: Affine::var(number), to: Affine::var(number).offset(l.step) };
        let once = |body: Vec<Stmt>| {
            let one = Loop { body, live: Some(live.clone()), ..l.clone() };
            let cond = one.guard().unwrap_or(Cond::Within(vec![]));
            Stmt::If { cond, then: vec![Stmt::Loop(one)], otherwise: vec![] }
        };
        let turn = Some(Turn { id, numbers: (l.start, l.end, l.step) });
        let joins = joins(self.kernel, &l.body);
        let mut first = 0;
        for run in runs_of_a_turn(&l.body) {
            if !is_idle(run) {
                let [mut body, mut inner] = self.before([(&self.kernel.body, id), (&l.body, first)], run)?;
                let spread = match run {
                    [Stmt::Loop(shared)] if is_spread(&run[0]) => {
                        inner.extend(shared.body.iter().cloned());
                        body.push(Stmt::Loop(Loop { body: vec![once(inner)], ..shared.clone() }));
                        let inner = live_shares(&shared.body);
                        Some(Spread {
                            n: Steps::of(shared).n,
                            work: work(self.kernel, &run[0]),
                            live: None,
                            inner,
                            fixed: fixed_work(self.kernel, shared),
                        })
                    }
                    _ => {
                        inner.extend(run.iter().cloned());
                        body.push(once(inner));
                        None
                    }
                };
                let joined = joins[first] == Some(true);
                self.pieces.push(Piece { kernel: Kernel { body, ..kernel.clone() }, spread, joined, turn });
            }
            first += run.len();
        }
        Some(())
    }

    /// What sets the registers that `run` reads from before, in each of the blocks around it, of which so many statements have run: registers
    /// that can be set again anywhere, since they are set once, to what does not change.
    fn before<const N: usize>(&self, blocks: [(&[Stmt], usize); N], run: &[Stmt]) -> Option<[Vec<Stmt>; N]> {
        let mut at: HashMap<Reg, (usize, usize)> = HashMap::new();
        for (level, (block, _)) in blocks.iter().enumerate() {
            for (i, stmt) in block.iter().enumerate() {
                let Stmt::Set { reg, op } = stmt else { continue };
                let stays = match op {
                    Op::Load { buffer, .. } | Op::Gather { buffer, .. } => self.kernel.buffers[buffer.0 as usize].access == Access::Read,
                    Op::Check(..) => false,
                    _ => true,
                };
                if stays && self.n_sets[reg.0 as usize] == 1 {
                    at.insert(*reg, (level, i));
                }
            }
        }
        let mut set = vec![false; self.kernel.regs.len()];
        let mut wanted = vec![];
        exposed(run, &mut set, &mut wanted);
        let mut wanted: Vec<(Reg, usize)> = wanted.into_iter().map(|r| (r, N - 1)).collect();
        let mut needed = blocks.map(|(_, first)| vec![false; first]);
        while let Some((r, innermost)) = wanted.pop() {
            let &(level, i) = at.get(&r)?;
            if level > innermost || i >= needed[level].len() {
                return None;
            }
            if std::mem::replace(&mut needed[level][i], true) {
                continue;
            }
            if let Stmt::Set { op, .. } = &blocks[level].0[i] {
                for_each_operand(op, |r| wanted.push((r, level)));
            }
        }
        Some(std::array::from_fn(|level| {
            let (block, first) = blocks[level];
            (0..first).filter(|&i| needed[level][i]).map(|i| block[i].clone()).collect()
        }))
    }
}

/// The statements of a turn by pieces: there are no turns in turns.
pub(super) fn runs_of_a_turn(body: &[Stmt]) -> impl Iterator<Item = &[Stmt]> {
    body.chunk_by(|a, b| !is_spread(a) && !is_spread(b))
}

/// Registers that are read where they may not have been set inside.
fn exposed(block: &[Stmt], set: &mut Vec<bool>, found: &mut Vec<Reg>) {
    for stmt in block {
        let mut read = |r: Reg| {
            if !set[r.0 as usize] {
                found.push(r);
            }
        };
        match stmt {
            Stmt::Set { reg, op } => {
                for_each_operand(op, read);
                set[reg.0 as usize] = true;
            }
            Stmt::Store { index, value, .. } => {
                read(*value);
                index.dynamic.iter().for_each(|d| read(d.0));
            }
            Stmt::Prefetch { .. } => {}
            Stmt::Loop(l) => exposed(&l.body, set, found),
            Stmt::If { cond, then, otherwise } => {
                if let Cond::Reg(r) = cond {
                    read(*r);
                }
                let before = set.clone();
                exposed(then, set, found);
                let one = std::mem::replace(set, before);
                exposed(otherwise, set, found);
                set.iter_mut().zip(one).for_each(|(a, b)| *a &= b);
            }
        }
    }
}

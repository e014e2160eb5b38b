//! Loops that run on several threads: which may, proved; and a kernel as the pieces of which each runs on one thread or on many.
//!
//! Iterations of a parallel loop are independent: no register goes from one to another, none writes what another touches
//! ([`super::footprint`]), and of a private buffer, of which each thread has its own copy, each reads only what it has
//! written ([`super::coverage`]). [`verify`](super::verify) asks for all of it; [`mark`] finds the outermost loops that
//! have it.

use std::collections::HashMap;

use super::coverage::writes_before_reads;
use super::footprint::{Steps, collisions};
use super::ir::{Access, Buffer, BufferId, Cond, Kernel, Live, Loop, Op, Reg, Stmt, for_each_operand, for_each_set, guarded};
use super::print::Text;
use super::verify::{Problem, VerifyError, verify_structure};

/// Bytes to which a thread's copy of a private buffer is rounded up: no two threads write one cache line.
pub const COPY_ALIGN_BYTES: usize = 64;

impl Buffer {
    /// Size of one copy, if it can be had.
    pub fn copy_bytes(&self) -> Option<usize> {
        let bytes = self.len.checked_mul(self.dtype.size_bytes())?;
        if self.private { bytes.checked_next_multiple_of(COPY_ALIGN_BYTES) } else { Some(bytes) }
    }

    /// Size with a copy for each of `workers` threads where it is private.
    pub fn total_bytes(&self, workers: usize) -> Option<usize> {
        self.copy_bytes()?.checked_mul(if self.private { workers } else { 1 })
    }
}

/// A part of a kernel: all of it on one thread, or the iterations of one loop on many.
#[derive(Clone, PartialEq, Debug)]
pub struct Piece {
    /// The statements, with the buffers of the whole.
    pub kernel: Kernel,
    /// What its iterations do, if they may run on several threads.
    pub spread: Option<Spread>,
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
}

/// The loop that a statement is, alone or under the condition that it runs.
fn top_loop(stmt: &Stmt) -> Option<&Loop> {
    if let Stmt::Loop(l) = stmt { Some(l) } else { guarded(stmt) }
}

/// The outermost loop of a kernel that is nothing else, if it is parallel.
pub fn spread_loop(kernel: &Kernel) -> Option<&Loop> {
    let (last, before) = kernel.body.split_last()?;
    match last {
        Stmt::Loop(l) if l.parallel && Steps::of(l).n > 1 && before.iter().all(|s| matches!(s, Stmt::Set { .. })) => Some(l),
        _ => None,
    }
}

/// What a statement costs, in half cycles or so: its operations, and a share for the memory it reaches.
pub fn work(kernel: &Kernel, stmt: &Stmt) -> u64 {
    let mut touched = vec![false; kernel.buffers.len()];
    buffers_of(std::slice::from_ref(stmt), &mut touched);
    let bytes: usize = kernel.buffers.iter().zip(touched).filter(|t| t.1).filter_map(|(b, _)| b.copy_bytes()).sum();
    operations(stmt).saturating_add(bytes as u64 / 16)
}

fn buffers_of(block: &[Stmt], touched: &mut [bool]) {
    for stmt in block {
        match stmt {
            Stmt::Loop(l) => buffers_of(&l.body, touched),
            Stmt::If { then, otherwise, .. } => {
                buffers_of(then, touched);
                buffers_of(otherwise, touched);
            }
            Stmt::Set { op: Op::Load { buffer, .. }, .. } | Stmt::Store { buffer, .. } => touched[buffer.0 as usize] = true,
            Stmt::Set { .. } | Stmt::Prefetch { .. } => {}
        }
    }
}

/// Operations that a statement executes, loops counted as often as they run.
fn operations(stmt: &Stmt) -> u64 {
    let all = |block: &[Stmt]| block.iter().fold(0u64, |sum, s| sum.saturating_add(operations(s)));
    match stmt {
        Stmt::Loop(l) => (Steps::of(l).n.max(0) as u64).saturating_mul(all(&l.body).saturating_add(2)),
        Stmt::If { then, otherwise, .. } => all(then).max(all(otherwise)).saturating_add(2),
        Stmt::Set { op: Op::Const(_) | Op::Copy(_), .. } => 0,
        Stmt::Set { op: Op::Binary(super::BinaryOp::Div | super::BinaryOp::Rem, ..) | Op::Unary(super::UnaryOp::Sqrt, _), .. } => 16,
        Stmt::Set { .. } | Stmt::Prefetch { .. } => 1,
        Stmt::Store { .. } => 2,
    }
}

/// Marks the outermost loops whose work is at least so much and whose iterations are independent; buffers for which `private` holds may
/// become private.
pub fn mark(kernel: &mut Kernel, least_work: u64, private: impl Fn(BufferId, &Buffer) -> bool) {
    for i in 0..kernel.body.len() {
        let Some(l) = top_loop(&kernel.body[i]) else { continue };
        if l.parallel || Steps::of(l).n < 2 || work(kernel, &kernel.body[i]) < least_work {
            continue;
        }
        let fresh: Vec<BufferId> = collisions(kernel, l).into_iter().filter(|b| !kernel.buffers[b.0 as usize].private).collect();
        if fresh.iter().any(|&b| !private(b, &kernel.buffers[b.0 as usize])) {
            continue;
        }
        let mut marked = kernel.clone();
        for b in &fresh {
            marked.buffers[b.0 as usize].private = true;
        }
        match &mut marked.body[i] {
            Stmt::Loop(l) => l.parallel = true,
            Stmt::If { then, .. } => {
                if let [Stmt::Loop(l)] = &mut then[..] {
                    l.parallel = true;
                }
            }
            _ => {}
        }
        if verify_structure(&marked).is_empty() && prove(&marked).is_empty() && split(&marked).is_some() {
            *kernel = marked;
        }
    }
}

/// What is wrong with the parallel loops of a kernel whose structure is right.
pub(super) fn prove(kernel: &Kernel) -> Vec<VerifyError> {
    let mut errors = vec![];
    let text = Text::new(kernel);
    for stmt in &kernel.body {
        loops(kernel, stmt, &text, &mut errors);
    }
    for (i, buffer) in kernel.buffers.iter().enumerate().filter(|b| b.1.private) {
        for run in runs(&kernel.body) {
            let id = BufferId(i as u32);
            let sound = match top_loop(&run[0]) {
                Some(l) if is_spread(&run[0]) => writes_before_reads(kernel, id, &l.body, &[(l.var, Steps::of(l))]),
                _ => writes_before_reads(kernel, id, run, &[]),
            };
            if !sound {
                let problem = Problem::ReadBeforeWritten { buffer: buffer.name.clone() };
                errors.push(VerifyError { place: text.head(&run[0]), problem });
            }
        }
    }
    errors
}

fn loops(kernel: &Kernel, stmt: &Stmt, text: &Text<'_>, errors: &mut Vec<VerifyError>) {
    match stmt {
        Stmt::Loop(l) => {
            if l.parallel {
                for b in collisions(kernel, l) {
                    let buffer = &kernel.buffers[b.0 as usize];
                    if !buffer.private {
                        let problem = Problem::Dependent { buffer: buffer.name.clone() };
                        errors.push(VerifyError { place: text.head(stmt), problem });
                    }
                }
            }
            l.body.iter().for_each(|s| loops(kernel, s, text, errors));
        }
        Stmt::If { then, otherwise, .. } => then.iter().chain(otherwise).for_each(|s| loops(kernel, s, text, errors)),
        Stmt::Set { .. } | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
    }
}

/// The kernel with every loop on one thread.
pub fn serial(kernel: &Kernel) -> Kernel {
    fn walk(block: &mut [Stmt]) {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => {
                    l.parallel = false;
                    walk(&mut l.body);
                }
                Stmt::If { then, otherwise, .. } => {
                    walk(then);
                    walk(otherwise);
                }
                Stmt::Set { .. } | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
            }
        }
    }
    let mut serial = kernel.clone();
    walk(&mut serial.body);
    serial
}

/// Whether the parallel loops stay independent where pairs of buffers share memory, `true` for those that begin at one place.
pub fn stays_parallel(kernel: &Kernel, same: &[(BufferId, BufferId, bool)]) -> bool {
    let buffer = |b: BufferId| &kernel.buffers[b.0 as usize];
    let alike = |&(a, b, aligned): &(BufferId, BufferId, bool)| {
        aligned && buffer(a).dtype == buffer(b).dtype && !buffer(a).private && !buffer(b).private
    };
    if !same.iter().all(alike) {
        return false;
    }
    fn rename(block: &mut [Stmt], from: BufferId, to: BufferId) {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => rename(&mut l.body, from, to),
                Stmt::If { then, otherwise, .. } => {
                    rename(then, from, to);
                    rename(otherwise, from, to);
                }
                Stmt::Set { op: Op::Load { buffer, .. }, .. } | Stmt::Store { buffer, .. } | Stmt::Prefetch { buffer, .. }
                    if *buffer == from =>
                {
                    *buffer = to
                }
                Stmt::Set { .. } | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
            }
        }
    }
    let mut shared = kernel.clone();
    for &(to, from, _) in same {
        rename(&mut shared.body, from, to);
    }
    prove(&shared).is_empty()
}

/// A kernel as a sequence of pieces that can be called one after the other. Where its parallel loops cannot be taken out of it, that
/// is the kernel itself, on one thread.
pub fn pieces(kernel: &Kernel) -> Vec<Piece> {
    split(kernel).unwrap_or_else(|| vec![Piece { kernel: kernel.clone(), spread: None }])
}

/// Whether a statement of a kernel's body is a loop that threads share.
fn is_spread(stmt: &Stmt) -> bool {
    top_loop(stmt).is_some_and(|l| l.parallel && Steps::of(l).n > 1)
}

/// The statements of a kernel's body by pieces: each loop that threads share, and what is between them, which one thread runs.
fn runs(body: &[Stmt]) -> impl Iterator<Item = &[Stmt]> {
    body.chunk_by(|a, b| !is_spread(a) && !is_spread(b))
}

fn split(kernel: &Kernel) -> Option<Vec<Piece>> {
    if !kernel.body.iter().any(is_spread) {
        return Some(vec![Piece { kernel: kernel.clone(), spread: None }]);
    }
    let definitions = Definitions::of(kernel);
    let mut pieces = vec![];
    let mut first = 0;
    for run in runs(&kernel.body) {
        let unguarded = top_loop(&run[0]).filter(|l| is_spread(&run[0]) && l.live.is_some()).map(|l| [Stmt::Loop(l.clone())]);
        let n = run.len();
        let run = unguarded.as_ref().map_or(run, |l| &l[..]);
        let idle = run.iter().all(|s| matches!(s, Stmt::Set { op, .. } if !matches!(op, Op::Check(..))));
        if !idle {
            let mut body = definitions.before(first, run)?;
            body.extend(run.iter().cloned());
            let spread = match run {
                [Stmt::Loop(l)] if is_spread(&run[0]) => {
                    let live = l.live.clone().map(|live| (live, l.step));
                    Some(Spread { n: Steps::of(l).n, work: work(kernel, &run[0]), live })
                }
                _ => None,
            };
            pieces.push(Piece { kernel: Kernel { body, ..kernel.clone() }, spread });
        }
        first += n;
    }
    if let [_, _, ..] = &pieces[..] {
        for (i, piece) in pieces.iter_mut().enumerate() {
            piece.kernel.name = format!("{}/{i}", kernel.name);
        }
    }
    Some(pieces)
}

/// Registers that can be set again anywhere: set once, at the top, to what does not change.
struct Definitions<'k> {
    kernel: &'k Kernel,
    at: HashMap<Reg, usize>,
}

impl<'k> Definitions<'k> {
    fn of(kernel: &'k Kernel) -> Self {
        let mut n_sets = vec![0; kernel.regs.len()];
        for_each_set(&kernel.body, &mut |r, _| n_sets[r.0 as usize] += 1);
        let mut at = HashMap::new();
        for (i, stmt) in kernel.body.iter().enumerate() {
            let Stmt::Set { reg, op } = stmt else { continue };
            let stays = match op {
                Op::Load { buffer, .. } => kernel.buffers[buffer.0 as usize].access == Access::Read,
                Op::Check(..) => false,
                _ => true,
            };
            if stays && n_sets[reg.0 as usize] == 1 {
                at.insert(*reg, i);
            }
        }
        Definitions { kernel, at }
    }

    /// What sets the registers that `run`, the statements from `first` on, reads from before.
    fn before(&self, first: usize, run: &[Stmt]) -> Option<Vec<Stmt>> {
        let mut set = vec![false; self.kernel.regs.len()];
        let mut wanted = vec![];
        exposed(run, &mut set, &mut wanted);
        let mut needed = vec![false; first];
        while let Some(r) = wanted.pop() {
            let &i = self.at.get(&r)?;
            if i >= first || std::mem::replace(&mut needed[i], true) {
                if i >= first {
                    return None;
                }
                continue;
            }
            if let Stmt::Set { op, .. } = &self.kernel.body[i] {
                for_each_operand(op, |r| wanted.push(r));
            }
        }
        Some((0..first).filter(|&i| needed[i]).map(|i| self.kernel.body[i].clone()).collect())
    }
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

#[cfg(test)]
mod tests;

//! Loops that run on several threads: which may, proved, and which are worth it. [`super::pieces`] is a kernel cut at them.
//!
//! Iterations of a parallel loop are independent: no register goes from one to another, none writes what another touches
//! ([`super::footprint`]), and of a private buffer, of which each thread has its own copy, each reads only what it has
//! written ([`super::coverage`]). [`verify`](super::verify) asks for all of it; [`mark`] finds the outermost loops that
//! have it, and those in a loop that takes turns.

use super::coverage::writes_before_reads;
use super::footprint::{Steps, collisions};
use super::ir::{Buffer, BufferId, Kernel, Loop, Op, Stmt, Var, guarded};
use super::pieces::{joins, runs, runs_of_a_turn, split, turning};
use super::print::Text;
use super::verify::{Problem, VerifyError, verify_structure};
use super::work::work;

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

/// The loop that a statement is, alone or under the condition that it runs.
pub(super) fn top_loop(stmt: &Stmt) -> Option<&Loop> {
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

/// How much more work than elsewhere is worth several threads in each turn: what they wrote goes from core to core every time.
const WORTH_A_TURN: u64 = 2;

/// The loop that is the statement with these numbers, one in the other.
fn loop_at<'k>(block: &'k mut [Stmt], at: &[usize]) -> Option<&'k mut Loop> {
    let (&i, inside) = at.split_first()?;
    let is_guarded = guarded(&block[i]).is_some();
    let l = match &mut block[i] {
        Stmt::Loop(l) => l,
        Stmt::If { then, .. } if is_guarded => match &mut then[..] {
            [Stmt::Loop(l)] => l,
            _ => return None,
        },
        _ => return None,
    };
    if inside.is_empty() { Some(l) } else { loop_at(&mut l.body, inside) }
}

/// Marks the outermost loops whose iterations are independent and whose work is at least so much, alone or with those that they are joined
/// with; and of a loop that cannot be marked those in it, where that is so in each of its iterations. Buffers for which `private` holds may
/// become private.
pub fn mark(kernel: &mut Kernel, least_work: u64, private: impl Fn(BufferId, &Buffer) -> bool) {
    let candidate = |s: &Stmt| top_loop(s).is_some_and(|l| !l.parallel && Steps::of(l).n > 1);
    let works: Vec<u64> = kernel.body.iter().map(|s| if candidate(s) { work(kernel, s) } else { 0 }).collect();
    let mut chosen: Vec<bool> = works.iter().map(|&w| w > 0 && w >= least_work).collect();
    let all = works.iter().fold(0u64, |sum, &w| sum.saturating_add(w));
    if all >= least_work && works.iter().zip(&chosen).any(|(&w, &c)| w > 0 && !c) {
        let mut trial = kernel.clone();
        mark_outermost(&mut trial, |i| works[i] > 0, &private);
        for group in together(&joins(&trial, &trial.body)) {
            let sum = group.iter().fold(0u64, |sum, &i| sum.saturating_add(works[i]));
            if sum >= least_work {
                group.iter().for_each(|&i| chosen[i] |= works[i] > 0);
            }
        }
    }
    mark_outermost(kernel, |i| chosen[i], &private);
    for i in 0..kernel.body.len() {
        if candidate(&kernel.body[i]) {
            mark_in_turns(kernel, i, least_work.saturating_mul(WORTH_A_TURN), &private);
        }
    }
}

/// The statements of each group that [`joins`] joins.
fn together(joined: &[Option<bool>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![];
    for (i, before) in joined.iter().enumerate().filter_map(|(i, j)| Some((i, (*j)?))) {
        match groups.last_mut() {
            Some(group) if before => group.push(i),
            _ => groups.push(vec![i]),
        }
    }
    groups
}

/// Marks those of the outermost loops that are chosen, by number of the statement, and independent.
pub(super) fn mark_outermost(kernel: &mut Kernel, chosen: impl Fn(usize) -> bool, private: &impl Fn(BufferId, &Buffer) -> bool) {
    for i in (0..kernel.body.len()).filter(|&i| chosen(i)) {
        mark_one(kernel, &[i], private);
    }
}

/// Marks what is worth it in the iterations of the loop that is statement `i`.
fn mark_in_turns(kernel: &mut Kernel, i: usize, least_work: u64, private: &impl Fn(BufferId, &Buffer) -> bool) {
    let Stmt::Loop(turn) = &kernel.body[i] else { return };
    let worth = |s: &Stmt| match s {
        Stmt::Loop(l) => !l.parallel && l.live.is_none() && Steps::of(l).n > 1 && work(kernel, s) >= least_work,
        _ => false,
    };
    let chosen: Vec<usize> = (0..turn.body.len()).filter(|&j| worth(&turn.body[j])).collect();
    for j in chosen {
        let mut marked = kernel.clone();
        mark_one(&mut marked, &[i, j], private);
        if turning(&marked.body[i]).is_some() {
            *kernel = marked;
        }
    }
}

/// Marks a loop if it is independent where buffers that may be private are, and these then.
fn mark_one(kernel: &mut Kernel, at: &[usize], private: &impl Fn(BufferId, &Buffer) -> bool) {
    let mut marked = kernel.clone();
    let Some(l) = loop_at(&mut marked.body, at) else { return };
    l.parallel = true;
    let l = l.clone();
    for b in collisions(kernel, &l) {
        let buffer = &mut marked.buffers[b.0 as usize];
        if !buffer.private && !private(b, buffer) {
            return;
        }
        buffer.private = true;
    }
    if is_sound(&marked) {
        *kernel = marked;
    }
}

/// Whether a kernel that was marked is proved and can be taken apart.
fn is_sound(marked: &Kernel) -> bool {
    verify_structure(marked).is_empty() && prove(marked).is_empty() && split(marked).is_some()
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
            let sound = match turning(&run[0]) {
                // What one piece of a turn writes, another may read on another thread.
                Some(turn) => runs_of_a_turn(&turn.body).all(|piece| fills_first(kernel, id, piece, &[(turn.var, Steps::of(turn))])),
                None => fills_first(kernel, id, run, &[]),
            };
            if !sound {
                let problem = Problem::ReadBeforeWritten { buffer: buffer.name.clone() };
                errors.push(VerifyError { place: text.head(&run[0]), problem });
            }
        }
    }
    errors
}

/// Whether a piece, in these loops, reads of a private buffer only what it has written: each iteration, where threads share it.
fn fills_first(kernel: &Kernel, buffer: BufferId, piece: &[Stmt], around: &[(Var, Steps)]) -> bool {
    match top_loop(&piece[0]) {
        Some(l) if is_spread(&piece[0]) => writes_before_reads(kernel, buffer, &l.body, &[around, &[(l.var, Steps::of(l))]].concat()),
        _ => writes_before_reads(kernel, buffer, piece, around),
    }
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

/// Whether two buffers that share memory are one: they begin at one place, which `true` says, and have elements of one type.
pub(super) fn are_one(kernel: &Kernel, &(a, b, aligned): &(BufferId, BufferId, bool)) -> bool {
    let (a, b) = (&kernel.buffers[a.0 as usize], &kernel.buffers[b.0 as usize]);
    aligned && a.dtype == b.dtype && !a.private && !b.private
}

/// Whether the parallel loops stay independent where pairs of buffers share memory, `true` for those that begin at one place.
pub fn stays_parallel(kernel: &Kernel, same: &[(BufferId, BufferId, bool)]) -> bool {
    if !same.iter().all(|pair| are_one(kernel, pair)) {
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
                Stmt::Set { op: Op::Load { buffer, .. } | Op::Gather { buffer, .. }, .. }
                | Stmt::Store { buffer, .. }
                | Stmt::Prefetch { buffer, .. }
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
    let kept = |stmt: &Stmt, other: &Stmt| match (turning(stmt), turning(other)) {
        (Some(a), Some(b)) => joins(kernel, &a.body) == joins(&shared, &b.body),
        _ => true,
    };
    prove(&shared).is_empty()
        && joins(kernel, &kernel.body) == joins(&shared, &shared.body)
        && kernel.body.iter().zip(&shared.body).all(|(a, b)| kept(a, b))
}

/// Whether a statement of a kernel's body is a loop that threads share.
pub(super) fn is_spread(stmt: &Stmt) -> bool {
    top_loop(stmt).is_some_and(|l| l.parallel && Steps::of(l).n > 1)
}

#[cfg(test)]
mod tests;

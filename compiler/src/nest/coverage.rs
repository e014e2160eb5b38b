//! Scratch that begins empty: the proof that a piece of code reads of a buffer only what it has written before.
//!
//! Walks the statements in order and keeps the places that are surely written: intervals of elements, moved by the
//! variables of open loops. A loop's places, once it is done, are those of all its iterations.

use std::collections::BTreeMap;

use super::footprint::Steps;
use super::ir::{Affine, BufferId, Index, Kernel, Op, Stmt, Var};

/// Places written: `terms + sum(stride * x) + low ..` so many elements, for every `x` of a box.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Written {
    /// Open loops that move it.
    terms: Vec<(Var, i64)>,
    /// Stride, positive, and number of values.
    dims: Vec<(i64, i64)>,
    low: i64,
    lanes: i64,
}

/// Whether the statements, begun with an empty buffer and the loops `open` at any iteration, load only what they stored.
pub(super) fn writes_before_reads(kernel: &Kernel, buffer: BufferId, block: &[Stmt], open: &[(Var, Steps)]) -> bool {
    let mut c = Coverage { kernel, buffer, open: open.iter().copied().collect(), written: vec![], sound: true };
    c.block(block);
    c.sound
}

struct Coverage<'k> {
    kernel: &'k Kernel,
    buffer: BufferId,
    open: BTreeMap<Var, Steps>,
    written: Vec<Written>,
    sound: bool,
}

impl Coverage<'_> {
    fn block(&mut self, block: &[Stmt]) {
        for stmt in block {
            match stmt {
                Stmt::Set { reg, op: Op::Load { buffer, index } } if *buffer == self.buffer => {
                    self.sound &= self.covers(index, self.kernel.regs[reg.0 as usize].lanes.into());
                }
                Stmt::Set { .. } | Stmt::Prefetch { .. } => {}
                Stmt::Store { buffer, index, value } => {
                    if *buffer == self.buffer && index.dynamic.is_empty() {
                        let lanes = self.kernel.regs[value.0 as usize].lanes.into();
                        let Affine { constant, terms } = index.affine.clone();
                        self.written.push(Written { terms, dims: vec![], low: constant, lanes });
                    }
                }
                Stmt::If { then, otherwise, .. } => {
                    let before = self.written.clone();
                    self.block(then);
                    let one = std::mem::replace(&mut self.written, before);
                    self.block(otherwise);
                    // Written on both ways.
                    self.written.retain(|w| one.contains(w));
                }
                Stmt::Loop(l) => {
                    let steps = Steps::of(l);
                    self.open.insert(l.var, steps);
                    self.block(&l.body);
                    self.open.remove(&l.var);
                    for w in &mut self.written {
                        let Some(at) = w.terms.iter().position(|t| t.0 == l.var) else { continue };
                        let (_, c) = w.terms.remove(at);
                        let stride = c * steps.step;
                        w.low += c * steps.start + stride.min(0) * (steps.n - 1);
                        if steps.n > 1 {
                            w.dims.push((stride.abs(), steps.n));
                        }
                    }
                }
            }
            if !self.sound {
                return;
            }
        }
    }

    /// Whether everything that an access can reach is written, whatever the open loops' variables are.
    fn covers(&mut self, index: &Index, lanes: i64) -> bool {
        if !index.dynamic.is_empty() {
            return false;
        }
        self.tidy();
        self.written.iter().any(|w| {
            let Some(length) = dense(w) else { return false };
            let mut rest = index.affine.clone();
            w.terms.iter().for_each(|&(v, c)| rest.add_term(v, -c));
            let known = rest.terms.iter().all(|t| self.open.contains_key(&t.0));
            let last = |v: Var| self.open.get(&v).map_or((0, 0), |s| (s.start, s.start + s.step * (s.n - 1)));
            let (low, high) = rest.range(last);
            known && w.low <= low && high + lanes <= w.low + length
        })
    }

    /// Puts together what lies side by side, and what is equally spaced.
    fn tidy(&mut self) {
        let all = &mut self.written;
        for w in all.iter_mut() {
            w.dims.sort_unstable();
            if let Some(length) = dense(w) {
                (w.dims, w.lanes) = (vec![], length);
            }
        }
        let like = |a: &Written, b: &Written| a.terms == b.terms && a.dims == b.dims;
        let spaced = |all: &[Written]| {
            let mut out: Vec<Written> = vec![];
            let mut i = 0;
            while i < all.len() {
                let mut n = 1;
                while i + n < all.len()
                    && like(&all[i], &all[i + n])
                    && all[i + n].lanes == all[i].lanes
                    && all[i + n].low - all[i + n - 1].low == all[i + 1].low - all[i].low
                {
                    n += 1;
                }
                let mut w = all[i].clone();
                if n > 2 {
                    w.dims.push((all[i + 1].low - all[i].low, n as i64));
                    w.dims.sort_unstable();
                    if let Some(length) = dense(&w) {
                        (w.dims, w.lanes) = (vec![], length);
                    }
                } else {
                    n = 1;
                }
                out.push(w);
                i += n;
            }
            out
        };
        for _ in 0..2 {
            all.sort_unstable();
            let mut wide: Vec<Written> = vec![];
            for w in all.drain(..) {
                match wide.last_mut() {
                    Some(last) if like(last, &w) && w.low <= last.low + last.lanes => {
                        last.lanes = last.lanes.max(w.low + w.lanes - last.low);
                    }
                    _ => wide.push(w),
                }
            }
            *all = spaced(&wide);
        }
    }
}

/// The length of the interval that the places fill without holes.
fn dense(w: &Written) -> Option<i64> {
    let mut length = w.lanes;
    let mut dims = w.dims.clone();
    dims.sort_unstable();
    for (stride, n) in dims {
        if stride > length {
            return None;
        }
        length += stride * (n - 1);
    }
    Some(length)
}

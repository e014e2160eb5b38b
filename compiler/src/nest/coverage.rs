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
                    self.tidy();
                    let one = std::mem::replace(&mut self.written, before);
                    self.block(otherwise);
                    self.tidy();
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
            let mut rest = index.affine.clone();
            w.terms.iter().for_each(|&(v, c)| rest.add_term(v, -c));
            let mut low = rest.constant - w.low;
            // Strides and last multiples of what the open loops add, none of them negative.
            let mut terms = vec![];
            for &(v, c) in &rest.terms {
                let Some(s) = self.open.get(&v) else { return false };
                let (stride, last) = (c * s.step, s.n - 1);
                low += c * s.start + stride.min(0) * last;
                terms.push((stride.abs(), last));
            }
            inside(w, low, &terms, lanes)
        })
    }

    /// Puts together what lies side by side, and what is equally spaced.
    fn tidy(&mut self) {
        let all = &mut self.written;
        all.iter_mut().for_each(close);
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
                    close(&mut w);
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
            all.iter_mut().for_each(close);
        }
    }
}

/// Whether `low + sum(stride * x) ..` so many lanes, counted from the first of the places, is always among them.
fn inside(w: &Written, low: i64, terms: &[(i64, i64)], lanes: i64) -> bool {
    let mut dims = w.dims.clone();
    dims.sort_unstable();
    let Some((stride, n)) = dims.pop() else {
        return low >= 0 && low + terms.iter().map(|t| t.0 * t.1).sum::<i64>() + lanes <= w.lanes;
    };
    // What moves in whole strides stays among their number, and the rest inside one of them.
    let (whole, part): (Vec<_>, Vec<_>) = terms.iter().copied().partition(|t| t.0 % stride == 0);
    let (first, within) = (low.div_euclid(stride), low.rem_euclid(stride));
    let last = first + whole.iter().map(|t| t.0 / stride * t.1).sum::<i64>();
    let smaller = Written { dims, ..w.clone() };
    first >= 0 && last < n && inside(&smaller, within, &part, lanes)
}

/// Makes one interval of those that touch each other.
fn close(w: &mut Written) {
    w.dims.sort_unstable();
    while let Some(&(stride, n)) = w.dims.first()
        && stride <= w.lanes
    {
        w.lanes += stride * (n - 1);
        w.dims.remove(0);
    }
    // What continues at the same distance is one row.
    let mut i = 1;
    while i < w.dims.len() {
        let ((stride, n), (next, m)) = (w.dims[i - 1], w.dims[i]);
        if next == stride * n {
            w.dims[i - 1].1 = n * m;
            w.dims.remove(i);
        } else {
            i += 1;
        }
    }
}

//! Scratch that begins empty: the proof that a piece of code reads of a buffer only what it has written before.
//!
//! Walks the statements in order and keeps the places that are surely written: intervals of elements, moved by the
//! variables of open loops. A loop's places, once it is done, are those of all its iterations. What a live loop writes one
//! behind another is an interval between sizes; it is joined with those that begin where it ends, and holds what is between
//! sizes that live loops, or the sizes' own bounds, put in order.

use std::collections::{BTreeMap, BTreeSet};

use super::footprint::Steps;
use super::ir::{Access, Affine, BufferId, Index, Kernel, Live, Loop, Op, Stmt, Var, for_each_access, guarded, live_loops};

/// Places written: `terms + sum(stride * x) + low ..` so many elements, for every `x` of a box.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Written {
    /// Open loops that move it.
    terms: Vec<(Var, i64)>,
    /// Stride, positive, and number of values.
    dims: Vec<(i64, i64)>,
    low: i64,
    lanes: i64,
    /// Where a live loop wrote, in place of lanes.
    run: Option<Run>,
}

/// `stride` elements for each number from one size to another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Run {
    from: Affine,
    to: Affine,
    stride: i64,
}

/// Whether the statements, begun with an empty buffer and the loops `open` at any iteration, load only what they stored.
pub(super) fn writes_before_reads(kernel: &Kernel, buffer: BufferId, block: &[Stmt], open: &[(Var, Steps)]) -> bool {
    let loops = live_loops(&kernel.body).into_iter().map(|(_, live)| (live.from.clone(), live.to.clone()));
    let bounds = kernel.sizes.iter().filter_map(|s| Some((Affine::var(s.var), Affine::var(s.most?))));
    let order = loops.chain(bounds).collect::<BTreeSet<_>>();
    let open = open.iter().copied().collect();
    let mut c = Coverage { kernel, buffer, open, live: BTreeMap::new(), order, written: vec![], sound: true };
    c.block(block);
    c.sound
}

/// Sizes up to which live loops load what is stored and loaded, each with one up to which others store it: what the proof would know.
pub fn loads_and_stores_end(kernel: &Kernel) -> BTreeSet<(Var, Var)> {
    fn size(a: &Affine) -> Option<Var> {
        if let ([(var, 1)], 0) = (&a.terms[..], a.constant) { Some(*var) } else { None }
    }
    // By buffer: where loads end, and where stores do.
    let mut ends: BTreeMap<BufferId, [BTreeSet<Var>; 2]> = BTreeMap::new();
    for (l, live) in live_loops(&kernel.body) {
        let Some(end) = size(&live.to) else { continue };
        for_each_access(&l.body, &mut |buffer, index, stored| {
            let is_scratch = kernel.buffers[buffer.0 as usize].access == Access::ReadWrite;
            if is_scratch && index.affine.terms.iter().any(|t| t.0 == l.var) {
                ends.entry(buffer).or_default()[usize::from(stored)].insert(end);
            }
        });
    }
    let pairs = ends.values().flat_map(|[loads, stores]| loads.iter().flat_map(move |&a| stores.iter().map(move |&b| (a, b))));
    pairs.filter(|(a, b)| a != b).collect()
}

struct Coverage<'k> {
    kernel: &'k Kernel,
    buffer: BufferId,
    open: BTreeMap<Var, Steps>,
    /// Open loops that are live, with their steps.
    live: BTreeMap<Var, (Live, i64)>,
    /// Sizes of which the first is at most the second.
    order: BTreeSet<(Affine, Affine)>,
    written: Vec<Written>,
    sound: bool,
}

impl Coverage<'_> {
    fn block(&mut self, block: &[Stmt]) {
        for stmt in block {
            match stmt {
                _ if let Some(l) = guarded(stmt) => self.live_loop(l),
                Stmt::Set { reg, op: Op::Load { buffer, index } | Op::Gather { buffer, index } } if *buffer == self.buffer => {
                    self.sound &= self.covers(index, self.kernel.regs[reg.0 as usize].lanes.into());
                }
                Stmt::Set { .. } | Stmt::Prefetch { .. } => {}
                Stmt::Store { buffer, index, value } => {
                    if *buffer == self.buffer && index.dynamic.is_empty() {
                        let lanes = self.kernel.regs[value.0 as usize].lanes.into();
                        let Affine { constant, terms } = index.affine.clone();
                        self.written.push(Written { terms, dims: vec![], low: constant, lanes, run: None });
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
                Stmt::Loop(l) => self.counted_loop(l),
            }
            if !self.sound {
                return;
            }
        }
    }

    /// A loop that always has all its iterations.
    fn counted_loop(&mut self, l: &Loop) {
        let steps = Steps::of(l);
        self.open.insert(l.var, steps);
        self.tidy();
        let before = self.written.clone();
        self.block(&l.body);
        if !self.sound && steps.n > 1 {
            self.sound = carried(&before, self.buffer, l, steps).into_iter().any(|(now, next)| {
                (self.sound, self.written) = (true, [&before[..], &[now]].concat());
                self.block(&l.body);
                self.sound && self.holds(&next)
            });
        }
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

    /// Whether places are written.
    fn holds(&mut self, places: &Written) -> bool {
        self.tidy();
        self.written.iter().filter(|w| w.run.is_none()).any(|w| {
            let mut rest = Affine { constant: places.low - w.low, terms: places.terms.clone() };
            w.terms.iter().for_each(|&(v, c)| rest.add_term(v, -c));
            self.reach(&rest).is_some_and(|(low, mut terms)| {
                terms.extend(places.dims.iter().map(|d| (d.0, d.1 - 1)));
                inside(w, low, &terms, places.lanes)
            })
        })
    }

    /// A loop that may have no iterations: of its own, only what they write one behind another stays.
    fn live_loop(&mut self, l: &Loop) {
        let Some(live) = &l.live else { return };
        let before = self.written.clone();
        self.open.insert(l.var, Steps::of(l));
        self.live.insert(l.var, (live.clone(), l.step));
        self.block(&l.body);
        self.open.remove(&l.var);
        self.live.remove(&l.var);
        self.tidy();
        let after = std::mem::replace(&mut self.written, before);
        for mut w in after {
            let Some(at) = w.terms.iter().position(|t| t.0 == l.var) else { continue };
            let (_, c) = w.terms.remove(at);
            if w.run.is_none() && c > 0 && w.lanes >= c * l.step {
                (w.lanes, w.run) = (0, Some(Run { from: live.from.clone(), to: live.to.clone(), stride: c }));
                self.written.push(w);
            }
        }
        self.tidy();
    }

    /// Whether a size is at most another, as far as is known.
    fn at_most(&self, a: &Affine, b: &Affine) -> bool {
        let mut reached = vec![a];
        let mut next = 0;
        while let Some(&at) = reached.get(next) {
            if at == b || at.is_constant() && b.is_constant() && at.constant <= b.constant {
                return true;
            }
            next += 1;
            for (from, to) in &self.order {
                if from == at && !reached.contains(&to) {
                    reached.push(to);
                }
            }
        }
        false
    }

    /// Whether an access that moves with a live loop stays in what is written between sizes.
    fn in_run(&self, w: &Written, run: &Run, rest: &Affine, lanes: i64) -> bool {
        rest.terms.iter().any(|&(v, c)| {
            let Some((live, step)) = self.live.get(&v) else { return false };
            let block = Written { terms: vec![], dims: w.dims.clone(), low: 0, lanes: c * step, run: None };
            let mut offset = rest.offset(-w.low);
            offset.add_term(v, -c);
            let inside_block = || self.reach(&offset).is_some_and(|(low, terms)| inside(&block, low, &terms, lanes));
            c == run.stride && self.at_most(&run.from, &live.from) && self.at_most(&live.to, &run.to) && inside_block()
        })
    }

    /// The least value of a form of open loops' variables; strides and last multiples of what these add, none of them negative.
    fn reach(&self, form: &Affine) -> Option<(i64, Vec<(i64, i64)>)> {
        let mut low = form.constant;
        let mut terms = vec![];
        for &(v, c) in &form.terms {
            let s = self.open.get(&v)?;
            let (stride, last) = (c * s.step, s.n - 1);
            low += c * s.start + stride.min(0) * last;
            terms.push((stride.abs(), last));
        }
        Some((low, terms))
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
            if let Some(run) = &w.run {
                return self.in_run(w, run, &rest, lanes);
            }
            self.reach(&rest.offset(-w.low)).is_some_and(|(low, terms)| inside(w, low, &terms, lanes))
        })
    }

    /// Puts together what lies side by side, and what is equally spaced.
    fn tidy(&mut self) {
        let all = &mut self.written;
        all.iter_mut().for_each(close);
        let like = |a: &Written, b: &Written| a.terms == b.terms && a.dims == b.dims && a.run == b.run;
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
                    Some(last) if like(last, &w) && w.run.is_none() && w.low <= last.low + last.lanes => {
                        last.lanes = last.lanes.max(w.low + w.lanes - last.low);
                    }
                    _ => wide.push(w),
                }
            }
            *all = spaced(&wide);
            all.iter_mut().for_each(close);
            join_runs(all);
        }
    }
}

/// Places written before a loop that may move along with what it writes, so that each iteration finds them behind those of the one before:
/// where they are in an iteration, and in the next.
fn carried(before: &[Written], buffer: BufferId, l: &Loop, steps: Steps) -> Vec<(Written, Written)> {
    let mut speeds = BTreeSet::new();
    for_each_access(&l.body, &mut |b, index, stored| {
        speeds.extend(index.affine.terms.iter().filter(|t| b == buffer && stored && t.0 == l.var).map(|t| t.1));
    });
    let along = |w: &Written, c: i64| {
        let mut now = Written { low: w.low - c * steps.start, ..w.clone() };
        now.terms.push((l.var, c));
        now.terms.sort_unstable();
        let next = Written { low: now.low + c * steps.step, ..now.clone() };
        (now, next)
    };
    speeds.into_iter().flat_map(|c| before.iter().filter(|w| w.run.is_none()).map(move |w| along(w, c))).collect()
}

/// Joins what live loops wrote with what others did: that begins where it ends, or that is the next rows.
fn join_runs(all: &mut Vec<Written>) {
    let mut i = 0;
    while i < all.len() {
        let joined = (0..all.len()).filter(|&j| j != i).find_map(|j| Some((j, one_run(&all[i], &all[j])?)));
        match joined {
            Some((j, one)) => {
                all[i] = one;
                all.remove(j);
                i = 0;
            }
            None => i += 1,
        }
    }
}

/// The two as one.
fn one_run(a: &Written, b: &Written) -> Option<Written> {
    let (Some(of_a), Some(of_b)) = (&a.run, &b.run) else { return None };
    if a.terms != b.terms {
        return None;
    }
    if (&of_a.to, of_a.stride) == (&of_b.from, of_b.stride) && (&a.dims, a.low) == (&b.dims, b.low) {
        return Some(Written { run: Some(Run { to: of_b.to.clone(), ..of_a.clone() }), ..a.clone() });
    }
    if of_a == of_b && a.dims == b.dims && b.low > a.low && a.dims.iter().all(|d| d.0 * d.1 <= b.low - a.low) {
        let two = (b.low - a.low, 2);
        return Some(Written { dims: a.dims.iter().copied().chain([two]).collect(), ..a.clone() });
    }
    let (inner, &(stride, n)) = a.dims.split_last().map(|(last, rest)| (rest, last))?;
    let next = match &b.dims[..] {
        rows if rows == inner => 1,
        [rest @ .., (other, m)] if rest == inner && *other == stride => *m,
        _ => return None,
    };
    let mut dims = a.dims.clone();
    *dims.last_mut()? = (stride, n + next);
    (of_a == of_b && b.low == a.low + stride * n).then(|| Written { dims, ..a.clone() })
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

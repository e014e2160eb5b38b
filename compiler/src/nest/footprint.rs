//! Which elements iterations of a loop touch: the proof that no iteration writes what another one reads or writes.
//!
//! An access is `own * k + sum(stride * x) + constant`, where `k` counts the loop's iterations and every `x` runs over a
//! box of its own. Two iterations collide where a difference of two such sums is zero. [`nonzero`] excludes that as in a
//! number of mixed radix: where the small strides together cannot reach the common divisor of the large ones, large and
//! small parts must both vanish. Nothing here looks at how a schedule came to its loops.

use std::collections::BTreeMap;

use super::ir::{Affine, BufferId, Index, Kernel, Loop, Op, Stmt, Var};

/// Start, step and number of iterations of an open loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) n: i64,
}

impl Steps {
    pub(super) fn of(l: &Loop) -> Self {
        let (start, step, n) = l.spans();
        Steps { start, step, n }
    }
}

/// Elements that one statement, or several like it, touch in one iteration: `lanes` consecutive ones from
/// `own * k + sum(stride * x) + constant` on, with `0 <= x <= last`, every stride positive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Touched {
    own: i128,
    /// Loops around the one that is looked at: the same for all its iterations.
    outer: Vec<(Var, i64)>,
    /// Stride and last value, descending.
    terms: Vec<(i128, i128)>,
    constant: i128,
    lanes: i128,
}

/// What the iterations of a loop do with one buffer.
#[derive(Default, Debug)]
struct Use {
    stores: Vec<Touched>,
    loads: Vec<Touched>,
    /// Whether some index is not affine.
    dynamic: bool,
    stored: bool,
}

/// The buffers of which an iteration may write what another one touches.
pub(super) fn collisions(kernel: &Kernel, l: &Loop) -> Vec<BufferId> {
    let mut uses: BTreeMap<BufferId, Use> = BTreeMap::new();
    let mut inner = BTreeMap::new();
    survey(kernel, &l.body, l, &mut inner, &mut uses);
    let n = Steps::of(l).n;
    let unproved = |u: &mut Use| {
        if !u.stored || n < 2 {
            return false;
        }
        if u.dynamic {
            return true;
        }
        merge(&mut u.stores);
        merge(&mut u.loads);
        u.stores.iter().any(|s| u.stores.iter().chain(&u.loads).any(|t| !disjoint(s, t, n)))
    };
    uses.into_iter().filter_map(|(buffer, mut u)| unproved(&mut u).then_some(buffer)).collect()
}

/// Whether neither of two statements writes what the other one touches. Private buffers are each one's own.
pub(super) fn apart(kernel: &Kernel, a: &Stmt, b: &Stmt) -> bool {
    // No variable is the one of this loop.
    let around = Loop { var: Var(u32::MAX), start: 0, end: 1, step: 1, live: None, parallel: false, body: vec![] };
    let [one, other] = [a, b].map(|s| {
        let mut uses: BTreeMap<BufferId, Use> = BTreeMap::new();
        survey(kernel, std::slice::from_ref(s), &around, &mut BTreeMap::new(), &mut uses);
        for u in uses.values_mut() {
            merge(&mut u.stores);
            merge(&mut u.loads);
        }
        uses
    });
    let clear = |writer: &Use, of: &Use| writer.stores.iter().all(|s| of.stores.iter().chain(&of.loads).all(|t| never_meet(s, t, None)));
    one.iter().all(|(buffer, u)| match other.get(buffer) {
        Some(v) if (u.stored || v.stored) && !kernel.buffers[buffer.0 as usize].private => {
            !u.dynamic && !v.dynamic && clear(u, v) && clear(v, u)
        }
        _ => true,
    })
}

fn survey(kernel: &Kernel, block: &[Stmt], around: &Loop, inner: &mut BTreeMap<Var, Steps>, uses: &mut BTreeMap<BufferId, Use>) {
    for stmt in block {
        match stmt {
            // One number that sizes say is the same for all iterations.
            Stmt::Loop(l) if l.live.as_ref().is_some_and(|live| live.to == live.from.offset(l.step)) => {
                survey(kernel, &l.body, around, inner, uses);
            }
            Stmt::Loop(l) => {
                inner.insert(l.var, Steps::of(l));
                survey(kernel, &l.body, around, inner, uses);
                inner.remove(&l.var);
            }
            Stmt::If { then, otherwise, .. } => {
                survey(kernel, then, around, inner, uses);
                survey(kernel, otherwise, around, inner, uses);
            }
            Stmt::Set { reg, op: Op::Load { buffer, index } } => {
                let lanes = kernel.regs[reg.0 as usize].lanes;
                let u = uses.entry(*buffer).or_default();
                match touched(index, lanes, around, inner) {
                    Some(t) => u.loads.push(t),
                    None => u.dynamic = true,
                }
            }
            Stmt::Set { op: Op::Gather { buffer, .. }, .. } => uses.entry(*buffer).or_default().dynamic = true,
            Stmt::Store { buffer, index, value } => {
                let lanes = kernel.regs[value.0 as usize].lanes;
                let u = uses.entry(*buffer).or_default();
                u.stored = true;
                match touched(index, lanes, around, inner) {
                    Some(t) => u.stores.push(t),
                    None => u.dynamic = true,
                }
            }
            Stmt::Set { .. } | Stmt::Prefetch { .. } => {}
        }
    }
}

fn touched(index: &Index, lanes: u32, around: &Loop, inner: &BTreeMap<Var, Steps>) -> Option<Touched> {
    if !index.dynamic.is_empty() {
        return None;
    }
    let Affine { constant, terms } = &index.affine;
    let mut t = Touched { own: 0, outer: vec![], terms: vec![], constant: (*constant).into(), lanes: lanes.into() };
    for &(var, c) in terms {
        if var == around.var {
            t.own = i128::from(c) * i128::from(around.step);
            t.constant += i128::from(c) * i128::from(around.start);
        } else if let Some(s) = inner.get(&var) {
            let (stride, last) = (i128::from(c) * i128::from(s.step), i128::from(s.n) - 1);
            t.constant += i128::from(c) * i128::from(s.start) + stride.min(0) * last;
            add_term(&mut t.terms, stride.abs(), last);
        } else {
            t.outer.push((var, c));
        }
    }
    Some(t)
}

fn add_term(terms: &mut Vec<(i128, i128)>, stride: i128, last: i128) {
    if stride == 0 || last == 0 {
        return;
    }
    match terms.iter_mut().find(|t| t.0 == stride) {
        Some(t) => t.1 += last,
        None => terms.push((stride, last)),
    }
    terms.sort_unstable_by(|a, b| b.cmp(a));
}

/// Statements that differ in their constants only become one: adjacent ones wider, equally spaced ones a term.
fn merge(all: &mut Vec<Touched>) {
    all.sort_unstable_by(|a, b| (a.own, &a.outer, &a.terms, a.constant, a.lanes).cmp(&(b.own, &b.outer, &b.terms, b.constant, b.lanes)));
    let like = |a: &Touched, b: &Touched| a.own == b.own && a.outer == b.outer && a.terms == b.terms;
    let mut wide: Vec<Touched> = vec![];
    for t in all.drain(..) {
        match wide.last_mut() {
            Some(last) if like(last, &t) && t.constant <= last.constant + last.lanes => {
                last.lanes = last.lanes.max(t.constant + t.lanes - last.constant);
            }
            _ => wide.push(t),
        }
    }
    let mut i = 0;
    while i < wide.len() {
        let mut n = 1;
        while i + n < wide.len()
            && like(&wide[i], &wide[i + n])
            && wide[i + n].lanes == wide[i].lanes
            && wide[i + n].constant - wide[i + n - 1].constant == wide[i + 1].constant - wide[i].constant
        {
            n += 1;
        }
        let mut t = wide[i].clone();
        if n > 1 {
            add_term(&mut t.terms, wide[i + 1].constant - wide[i].constant, n as i128 - 1);
        }
        all.push(t);
        i += n;
    }
}

/// A stride and the least and greatest value of what it is multiplied with.
type Term = (i128, i128, i128);

/// Whether no two different iterations of `n` touch a common element, one by `a` and the other by `b`.
fn disjoint(a: &Touched, b: &Touched, n: i64) -> bool {
    if a.own != b.own || a.own == 0 {
        return false;
    }
    let n = i128::from(n);
    [(1, n - 1), (1 - n, -1)].into_iter().all(|(low, high)| {
        let (low, high) = if a.own > 0 { (low, high) } else { (-high, -low) };
        never_meet(a, b, Some((a.own.abs(), low, high)))
    })
}

/// Whether `a` and `b` have no element in common, whatever their terms are, where `a` is moved by a term more.
fn never_meet(a: &Touched, b: &Touched, moved: Option<Term>) -> bool {
    if a.outer != b.outer {
        return false;
    }
    let mut terms: Vec<Term> = vec![];
    let mut add = |(stride, low, high): Term| match terms.iter_mut().find(|t| t.0 == stride) {
        Some(t) => (t.1, t.2) = (t.1 + low, t.2 + high),
        None => terms.push((stride, low, high)),
    };
    moved.into_iter().for_each(&mut add);
    a.terms.iter().for_each(|&(stride, last)| add((stride, 0, last)));
    b.terms.iter().for_each(|&(stride, last)| add((stride, -last, 0)));
    add((1, 1 - b.lanes, a.lanes - 1));
    terms.sort_unstable_by(|x, y| y.cmp(x));
    nonzero(&terms, a.constant - b.constant)
}

/// Whether `constant + sum(stride * x)` is proved not to be zero for any `x` in their ranges; strides are positive and descend.
fn nonzero(terms: &[Term], constant: i128) -> bool {
    let (low, high) = span(terms);
    if constant + low > 0 || constant + high < 0 {
        return true;
    }
    let Some(divisor) = terms.iter().map(|t| t.0).reduce(gcd) else { return constant != 0 };
    if constant % divisor != 0 {
        return true;
    }
    if let [(stride, low, high)] = terms {
        return !(*low..=*high).contains(&(-constant / stride));
    }
    let mut divisor = 0;
    for cut in 1..terms.len() {
        divisor = gcd(divisor, terms[cut - 1].0);
        let (large, small) = terms.split_at(cut);
        let (low, high) = span(small);
        let rest = constant.rem_euclid(divisor);
        for rest in [rest, rest - divisor] {
            // The small part with its constant stays between two multiples of the divisor, so that both parts must vanish.
            if rest + low > -divisor && rest + high < divisor && (nonzero(large, constant - rest) || nonzero(small, rest)) {
                return true;
            }
        }
    }
    false
}

fn span(terms: &[Term]) -> (i128, i128) {
    terms.iter().fold((0, 0), |(a, b), &(stride, low, high)| (a + stride * low, b + stride * high))
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

//! The bounds proof: interval arithmetic shows that every access of a kernel stays inside its buffer.
//!
//! Requires: structure and types verified. Loop variables have constant ranges; a [`Cond::Within`] narrows them inside its
//! branches, and what it says of a sum of several variables is kept as a fact about that sum. Integers in
//! registers have intervals too, one for all lanes of a vector. Whatever is not understood has the range of its type, so the proof can only fail safely.

use std::collections::BTreeMap;

use super::ir::{Affine, BinaryOp, BufferId, Cond, Index, Kernel, Loop, Op, Reg, Scalar, Stmt, UnaryOp, Var, for_each_set};
use super::print::Text;
use super::verify::{Bound, Problem, VerifyError, int_range};
use crate::tensor::DType;

/// Facts tried at once on one sum; more are sound to forget.
const MAX_FACTS: usize = 6;

/// The accesses that cannot be proved in bounds.
pub(super) fn prove(kernel: &Kernel) -> Vec<VerifyError> {
    run(kernel).errors
}

/// How many elements lie between those that the lanes of one gather may be, for every register that is set to gathers.
pub fn spreads(kernel: &Kernel) -> BTreeMap<Reg, i128> {
    run(kernel).spreads
}

fn run(kernel: &Kernel) -> Prover<'_> {
    let mut p = Prover { kernel, text: Text::new(kernel), errors: vec![], spreads: BTreeMap::new() };
    let sizes = kernel.sizes.iter().map(|s| (s.var, VarRange { range: Interval::new(0, s.high.into()), start: 0, step: 1 }));
    let mut state = State { vars: sizes.collect(), facts: vec![], regs: vec![None; kernel.regs.len()] };
    p.block(&kernel.body, &mut state);
    p
}

/// All integers from `low` to `high`, both included.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Interval {
    low: i128,
    high: i128,
}

impl Interval {
    fn new(low: i128, high: i128) -> Self {
        Interval { low, high }
    }

    fn point(x: i128) -> Self {
        Interval { low: x, high: x }
    }

    fn is_empty(self) -> bool {
        self.low > self.high
    }

    fn plus(self, o: Interval) -> Self {
        Interval::new(self.low.saturating_add(o.low), self.high.saturating_add(o.high))
    }

    fn times(self, o: Interval) -> Self {
        let products = [self.low, self.high].map(|a| [o.low, o.high].map(|b| a.saturating_mul(b)));
        let products = products.concat();
        Interval::new(products.iter().copied().fold(i128::MAX, i128::min), products.iter().copied().fold(i128::MIN, i128::max))
    }

    fn scale(self, k: i64) -> Self {
        self.times(Interval::point(k.into()))
    }

    fn union(self, o: Interval) -> Self {
        Interval::new(self.low.min(o.low), self.high.max(o.high))
    }

    fn intersect(self, o: Interval) -> Self {
        Interval::new(self.low.max(o.low), self.high.min(o.high))
    }

    fn is_in(self, o: Interval) -> bool {
        o.low <= self.low && self.high <= o.high
    }
}

/// The values of an open loop's variable: `start + k * step`, narrowed to `range`.
#[derive(Clone, Copy)]
struct VarRange {
    range: Interval,
    start: i64,
    step: i64,
}

impl VarRange {
    /// Narrowed, ends moved inward to values that the variable takes.
    fn narrow(&mut self, to: Interval) {
        let (start, step) = (i128::from(self.start), i128::from(self.step));
        let range = self.range.intersect(to);
        if range.is_empty() {
            self.range = range;
            return;
        }
        let low = range.low + (start - range.low).rem_euclid(step);
        let high = range.high - (range.high - start).rem_euclid(step);
        self.range = Interval::new(low, high);
    }
}

type Terms = Vec<(Var, i64)>;

#[derive(Clone)]
struct State {
    vars: BTreeMap<Var, VarRange>,
    // Sums of at least two terms, without their constants.
    facts: Vec<(Terms, Interval)>,
    regs: Vec<Option<Interval>>,
}

impl State {
    fn var(&self, v: Var) -> Interval {
        self.vars.get(&v).map_or(int_interval(DType::I64), |v| v.range)
    }

    fn simple_sum(&self, terms: &[(Var, i64)]) -> Interval {
        terms.iter().fold(Interval::point(0), |sum, &(v, c)| sum.plus(self.var(v).scale(c)))
    }

    /// The interval of a sum: of its terms, and of every way to write it as multiples of facts plus other terms.
    fn sum(&self, terms: &[(Var, i64)], facts: &[(Terms, Interval)]) -> Interval {
        let mut best = self.simple_sum(terms);
        for (i, (fact, interval)) in facts.iter().enumerate() {
            let mut tried: Vec<i64> = vec![];
            for &(v, c) in fact {
                let Some(&(_, of)) = terms.iter().find(|t| t.0 == v) else { continue };
                let Some(k) = of.checked_div(c).filter(|k| k.checked_mul(c) == Some(of) && !tried.contains(k)) else { continue };
                tried.push(k);
                let Some(rest) = minus(terms, fact, k) else { continue };
                best = best.intersect(interval.scale(k).plus(self.sum(&rest, &facts[i + 1..])));
            }
        }
        best
    }

    fn affine(&self, a: &Affine) -> Interval {
        Interval::point(a.constant.into()).plus(self.sum(&a.terms, &self.facts))
    }

    /// Learns `low <= affine <= high`; false if that cannot be.
    fn learn(&mut self, a: &Affine, within: Interval) -> bool {
        let known = self.affine(a).intersect(within);
        if known.is_empty() {
            return false;
        }
        let sum = known.plus(Interval::point(-i128::from(a.constant)));
        for &(v, c) in &a.terms {
            let rest: Terms = a.terms.iter().copied().filter(|t| t.0 != v).collect();
            let rest = self.simple_sum(&rest);
            // c * v is in sum - rest.
            let (low, high) = (sum.low.saturating_sub(rest.high), sum.high.saturating_sub(rest.low));
            let c = i128::from(c);
            let to = if c > 0 {
                Interval::new(div_ceil(low, c), div_floor(high, c))
            } else {
                Interval::new(div_ceil(high.saturating_neg(), -c), div_floor(low.saturating_neg(), -c))
            };
            if let Some(var) = self.vars.get_mut(&v) {
                var.narrow(to);
                if var.range.is_empty() {
                    return false;
                }
            }
        }
        if a.terms.len() > 1 {
            // What was known of the same sum is part of what is known now.
            self.facts.retain(|f| f.0 != a.terms);
            if self.facts.len() == MAX_FACTS {
                self.facts.remove(0);
            }
            self.facts.push((a.terms.clone(), sum));
        }
        true
    }

    fn reg(&self, r: Reg, kernel: &Kernel) -> Interval {
        self.regs[r.0 as usize].unwrap_or(int_interval(kernel.regs[r.0 as usize].dtype))
    }
}

fn div_ceil(a: i128, b: i128) -> i128 {
    a.saturating_neg().div_euclid(b).saturating_neg()
}

fn div_floor(a: i128, b: i128) -> i128 {
    a.div_euclid(b)
}

/// `terms - k * fact`.
fn minus(terms: &[(Var, i64)], fact: &[(Var, i64)], k: i64) -> Option<Terms> {
    let mut rest = terms.to_vec();
    for &(v, c) in fact {
        let by = c.checked_mul(k)?;
        match rest.iter_mut().find(|t| t.0 == v) {
            Some(t) => t.1 = t.1.checked_sub(by)?,
            None => rest.push((v, by.checked_neg()?)),
        }
    }
    rest.retain(|t| t.1 != 0);
    Some(rest)
}

/// All values of the type; of floats, nothing is known and nothing asked.
fn int_interval(dtype: DType) -> Interval {
    let (low, high) = if dtype.is_float() { (i128::MIN, i128::MAX) } else { int_range(dtype) };
    Interval::new(low, high)
}

struct Prover<'a> {
    kernel: &'a Kernel,
    text: Text<'a>,
    errors: Vec<VerifyError>,
    spreads: BTreeMap<Reg, i128>,
}

impl Prover<'_> {
    fn block(&mut self, body: &[Stmt], state: &mut State) {
        for s in body {
            match s {
                Stmt::Loop(l) => self.a_loop(l, state),
                Stmt::Set { reg, op } => {
                    match op {
                        Op::Load { buffer, index } => self.access(s, *buffer, index, self.kernel.regs[reg.0 as usize].lanes, state),
                        // Each lane by itself; what is known of the places holds for all of them.
                        Op::Gather { buffer, index } => {
                            self.access(s, *buffer, index, 1, state);
                            let spread = index.spread().map(|(places, _)| state.reg(places, self.kernel)).map_or(0, |at| at.high - at.low);
                            let most = self.spreads.entry(*reg).or_default();
                            *most = spread.max(*most);
                        }
                        _ => {}
                    }
                    let known = self.op(*reg, op, state);
                    if let Op::Check(a, end) = op {
                        // The statements after a check run only where it passed.
                        let passed = Interval::new(0, i128::from(*end) - 1).intersect(state.reg(*a, self.kernel));
                        if !passed.is_empty() {
                            state.regs[a.0 as usize] = Some(passed);
                        }
                    }
                    state.regs[reg.0 as usize] = known;
                }
                Stmt::Store { buffer, index, value } => {
                    self.access(s, *buffer, index, self.kernel.regs[value.0 as usize].lanes, state);
                }
                Stmt::Prefetch { .. } => {}
                Stmt::If { cond, then, otherwise } => self.branch(cond, then, otherwise, state),
            }
        }
    }

    fn a_loop(&mut self, l: &Loop, state: &mut State) {
        // Any iteration may begin with what any other has set.
        for_each_set(&l.body, &mut |r, _| state.regs[r.0 as usize] = None);
        let range = Interval::new(l.start.into(), i128::from(l.end) - i128::from(l.step));
        let step = if l.live.is_some() { 1 } else { l.step };
        state.vars.insert(l.var, VarRange { range, start: l.start, step });
        let (facts, vars) = (state.facts.clone(), state.vars.clone());
        if let Some(live) = &l.live {
            // The last iteration is a step before the end.
            let ahead = Affine::var(l.var).plus(&live.to.times(-1));
            state.learn(&ahead, Interval::new(i64::MIN.into(), -i128::from(l.step)));
        }
        self.block(&l.body, state);
        (state.facts, state.vars) = (facts, vars);
        state.vars.remove(&l.var);
    }

    fn branch(&mut self, cond: &Cond, then: &[Stmt], otherwise: &[Stmt], state: &mut State) {
        let (mut yes, mut no) = (state.clone(), state.clone());
        let (mut yes_runs, mut no_runs) = (true, true);
        if let Cond::Within(ranges) = cond {
            yes_runs = ranges.iter().all(|(a, low, high)| yes.learn(a, Interval::new((*low).into(), i128::from(*high) - 1)));
            if let [(a, low, high)] = ranges.as_slice() {
                // Outside one range: below or above it, and known which if the other side cannot be.
                let all = state.affine(a);
                let below = Interval::new(all.low, all.high.min(i128::from(*low) - 1));
                let above = Interval::new(all.low.max((*high).into()), all.high);
                no_runs = match (below.is_empty(), above.is_empty()) {
                    (true, true) => false,
                    (true, false) => no.learn(a, above),
                    (false, true) => no.learn(a, below),
                    (false, false) => no.learn(a, below.union(above)),
                };
            } else if ranges.is_empty() {
                no_runs = false;
            }
        }
        if yes_runs {
            self.block(then, &mut yes);
        }
        if no_runs {
            self.block(otherwise, &mut no);
        }
        state.regs = match (yes_runs, no_runs) {
            (true, false) => yes.regs,
            (false, true) => no.regs,
            _ => yes.regs.into_iter().zip(no.regs).map(|(a, b)| Some(a?.union(b?))).collect(),
        };
    }

    fn access(&mut self, s: &Stmt, buffer: BufferId, index: &Index, lanes: u32, state: &State) {
        let b = &self.kernel.buffers[buffer.0 as usize];
        let at = index.dynamic.iter().fold(state.affine(&index.affine), |sum, &(r, k)| sum.plus(state.reg(r, self.kernel).scale(k)));
        let allowed = Interval::new(0, b.len as i128 - i128::from(lanes));
        if !at.is_in(allowed) {
            let problem = Problem::Bounds { buffer: b.name.clone(), low: Bound(at.low), high: Bound(at.high), lanes, len: b.len };
            self.errors.push(VerifyError { place: self.text.head(s), problem });
        }
    }

    /// What is known of an integer, or of every lane of a vector of them, after `reg = op`.
    fn op(&self, reg: Reg, op: &Op, state: &State) -> Option<Interval> {
        let ty = self.kernel.regs[reg.0 as usize];
        if ty.dtype.is_float() {
            return None;
        }
        let of = |r: Reg| state.reg(r, self.kernel);
        let all = int_interval(ty.dtype);
        let found = match op {
            Op::Const(Scalar::Int(x)) => Interval::point((*x).into()),
            Op::Index(a) => state.affine(a),
            Op::Copy(a) | Op::Splat(a) | Op::Lane(a, _) => of(*a),
            Op::Pack(regs) => regs.iter().map(|&r| of(r)).reduce(Interval::union)?,
            Op::Select(_, a, b) | Op::Shuffle(_, a, b) => of(*a).union(of(*b)),
            Op::Convert(a) if !self.kernel.regs[a.0 as usize].dtype.is_float() && ty.dtype != DType::Bool => of(*a),
            Op::Fma(a, b, c) => of(*a).times(of(*b)).plus(of(*c)),
            Op::Check(a, end) => {
                let passed = Interval::new(0, i128::from(*end) - 1);
                let both = passed.intersect(of(*a));
                if both.is_empty() { passed } else { both }
            }
            Op::Unary(UnaryOp::Neg, a) => of(*a).scale(-1),
            Op::Unary(UnaryOp::Abs, a) => {
                let a = of(*a);
                let greatest = a.low.abs().max(a.high.abs());
                Interval::new(a.low.max(-a.high).max(0), greatest)
            }
            Op::Binary(op, a, b) => binary(*op, of(*a), of(*b))?,
            _ => return None,
        };
        // What may wrap is unknown.
        found.is_in(all).then_some(found)
    }
}

fn binary(op: BinaryOp, a: Interval, b: Interval) -> Option<Interval> {
    let constant = (b.low == b.high).then_some(b.low);
    Some(match op {
        BinaryOp::Add => a.plus(b),
        BinaryOp::Sub => a.plus(b.scale(-1)),
        BinaryOp::Mul => a.times(b),
        BinaryOp::Min => Interval::new(a.low.min(b.low), a.high.min(b.high)),
        BinaryOp::Max => Interval::new(a.low.max(b.low), a.high.max(b.high)),
        BinaryOp::Div => {
            let by = constant.filter(|&by| by > 0)?;
            Interval::new(a.low / by, a.high / by)
        }
        BinaryOp::Rem => {
            let by = constant.filter(|&by| by > 0)?;
            let inside = Interval::new(1 - by, by - 1);
            if a.is_in(inside) { a } else { Interval::new(if a.low < 0 { 1 - by } else { 0 }, if a.high > 0 { by - 1 } else { 0 }) }
        }
        BinaryOp::And if a.low >= 0 && b.low >= 0 => Interval::new(0, a.high.min(b.high)),
        BinaryOp::Shl => a.times(Interval::point(1 << constant.filter(|c| (0..64).contains(c))?)),
        BinaryOp::Shr => {
            let by = constant.filter(|c| (0..64).contains(c))?;
            Interval::new(a.low >> by, a.high >> by)
        }
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{parse, verify};

    /// The unproved accesses among statements that may use `x: f32[n] read` and `at: i64[4] read`.
    fn unproved(n: usize, statements: &str) -> Vec<String> {
        let text = format!("kernel @t (x: f32[{n}] read, at: i64[4] read) {{\n{statements}\n}}");
        verify(&parse(&text).unwrap()).iter().map(|e| e.to_string()).collect()
    }

    fn proves(n: usize, statements: &str) {
        assert_eq!(unproved(n, statements), [""; 0], "{statements}");
    }

    /// It is proved with `n` elements, and not with one less.
    fn needs(n: usize, statements: &str) {
        proves(n, statements);
        assert_ne!(unproved(n - 1, statements), [""; 0], "{statements}");
    }

    #[test]
    fn affine_accesses_need_their_last_element() {
        needs(4, "%0: f32x4 = load x[0]");
        needs(12, "for i in 0..12 step 4 { %0: f32x4 = load x[i] }");
        needs(11, "for i in 0..12 step 3 { %0: f32x2 = load x[i] }");
        needs(60, "for i in 0..3 { for j in 0..4 { for k in 0..5 { %0: f32 = load x[20*i + 5*j + k] } } }");
        needs(8, "for i in 0..8 { %0: f32 = load x[-1*i + 7] }");
        let problem = "cannot prove that 1 elements at -1..=6 are inside `x`, which has 8, in `%0: f32 = load x[i - 1]`";
        assert_eq!(unproved(8, "for i in 0..8 { %0: f32 = load x[i - 1] }"), [problem]);
    }

    #[test]
    fn a_condition_on_one_variable_narrows_it() {
        needs(8, "for i in -2..10 { if 0 <= i < 8 { %0: f32 = load x[i] } }");
        needs(15, "for i in -2..10 { if 0 <= 2*i + 1 < 16 { %0: f32 = load x[2*i] } }");
        needs(8, "for i in 0..100 step 4 { if 0 <= i < 6 { %0: f32x4 = load x[i] } }");
        needs(4, "for i in 0..8 { if 0 <= -1*i + 3 < 8 { %0: f32 = load x[i] } }");
        needs(4, "for i in 0..10 { if 0 <= i < 6 { } else { %0: f32 = load x[i - 6] } }");
        needs(4, "for i in 0..10 { if 4 <= i < 20 { } else { %0: f32 = load x[i] } }");
        proves(1, "for i in 0..10 { if 10 <= i < 20 { %0: f32 = load x[i] } }");
        proves(1, "for i in 0..10 { if 0 <= i < 10 { } else { %0: f32 = load x[i] } }");
        assert_ne!(unproved(10, "for i in -1..11 { if 0 <= i < 10 { } else { %0: f32 = load x[i] } }"), [""; 0]);
        assert_ne!(unproved(8, "for i in -2..10 { if 0 <= i < 8 { } %0: f32 = load x[i] }"), [""; 0]);
    }

    #[test]
    fn conditions_on_sums_bound_their_multiples() {
        let convolution = "for oh in 0..4 { for ow in 0..4 { for kh in 0..3 { for kw in 0..3 { for c in 0..8 step 4 {
            if 0 <= 2*oh + kh - 1 < 7 and 0 <= 2*ow + kw - 1 < 7 {
              %0: f32x4 = load x[112*oh + 56*kh + 16*ow + 8*kw + c - 64]
            } } } } } }";
        needs(7 * 7 * 8, convolution);
        needs(6, "for i in 0..8 { for j in 0..8 { if 0 <= i - j < 6 { %0: f32 = load x[i - j] } } }");
        needs(6, "for i in 0..8 { for j in 0..8 { if 0 <= i - j < 6 { %0: f32 = load x[-1*i + j + 5] } } }");
        // Many conditions on one sum are one fact.
        let chain =
            (8..15).fold("%0: f32 = load x[i - j]".to_owned(), |inner, low| format!("if {low} <= i + j < 50 {{ }} else {{ {inner} }}"));
        needs(6, &format!("for i in 0..8 {{ for j in 0..8 {{ if 0 <= i - j < 6 {{ {chain} }} }} }}"));
        // A sum of small parts has small parts.
        needs(5, "for i in 0..8 { for j in 0..8 { if 0 <= i + j < 5 { %0: f32 = load x[i] %1: f32 = load x[j] } } }");
    }

    #[test]
    fn registers_have_intervals() {
        let load = "%0: i64 = load at[0]";
        assert_ne!(unproved(1 << 20, &format!("{load} %1: f32 = load x[%0]")), [""; 0]);
        needs(9, &format!("{load} %0: i64 = check %0, 9 %1: f32 = load x[%0]"));
        needs(9, &format!("{load} %2: i64 = check %0, 9 %1: f32 = load x[%0]"));
        needs(31, &format!("{load} %0: i64 = check %0, 9 %1: f32 = load x[3*%0 + 6]"));
        needs(8, &format!("{load} %1: i64 = const 0 %2: i64 = const 7 %0: i64 = max %0, %1 %0: i64 = min %2, %0 %3: f32 = load x[%0]"));
        needs(9, &format!("{load} %1: i64 = const 5 %0: i64 = rem %0, %1 %3: f32 = load x[%0 + 4]"));
        needs(4, "for i in 0..12 { %0: i64 = index i %1: i64 = const 3 %0: i64 = div %0, %1 %2: f32 = load x[%0] }");
        needs(3, "for i in 0..12 { %0: i64 = index i %1: i64 = const 2 %0: i64 = shr %0, %1 %2: f32 = load x[%0] }");
        needs(
            14,
            "for i in 0..3 { %0: i64 = index i %1: i64 = const 3 %0: i64 = mul %0, %1 %0: i64 = add %0, %0 %2: f32 = load x[%0 + 1] }",
        );
        needs(
            12,
            &format!(
                "{load} %1: i64 = check %0, 9 %2: i64 = const 11 %3: bool = lt %0, %2 %4: i64 = select %3, %1, %2 %5: f32 = load x[%4]"
            ),
        );
        needs(256, "%0: u8 = const 1 for i in 0..4 { %0: u8 = add %0, %0 } %1: i64 = convert %0 %2: f32 = load x[%1]");
    }

    #[test]
    fn all_lanes_of_a_gather_are_inside() {
        let load = "%0: i64x2 = load at[0]";
        needs(9, &format!("{load} %0: i64x2 = check %0, 9 %1: i32x2 = convert %0 %2: f32x2 = gather x[%1]"));
        needs(12, &format!("{load} %3: i64x2 = check %0, 9 %1: i32x2 = convert %3 %2: f32x2 = gather x[%1 + 3]"));
        needs(9, &format!("{load} %1: i32x2 = convert %0 %1: i32x2 = check %1, 9 %2: f32x2 = gather x[%1]"));
        assert_ne!(unproved(1 << 20, &format!("{load} %1: i32x2 = convert %0 %2: f32x2 = gather x[%1]")), [""; 0]);
        // What is checked is not what wraps.
        assert_ne!(unproved(99, "%0: i64x2 = load at[0] %1: i32x2 = convert %0 %0: i64x2 = check %0, 9 %2: f32x2 = gather x[%1]"), [""; 0]);
        let clamped = "%0: i64x2 = load at[0] %1: i32x2 = convert %0 %2: i32x2 = const 0 %3: i32x2 = const 7
            %1: i32x2 = max %1, %2 %1: i32x2 = min %1, %3";
        needs(8, &format!("{clamped} %4: f32x2 = gather x[%1]"));
        needs(64, &format!("{clamped} %4: i32x2 = const 8 %5: i32x2 = fma %1, %4, %1 %6: f32x2 = gather x[%5]"));
        needs(26, &format!("for i in 0..8 {{ {clamped} %4: i64 = index i %4: i64 = check %4, 5 %5: f32x2 = gather x[2*i + %4 + %1] }}"));
        needs(6, "%0: i32 = const 5 %1: i32 = const 2 %2: i32x2 = pack %0, %1 %3: f32x2 = gather x[%2]");
        needs(6, "%0: i32 = const 2 %1: i32 = const 5 %2: i32x2 = pack %0, %1 %3: f32x2 = gather x[%2]");
        let kernel = parse(&format!("kernel @t (x: f32[64] read, at: i64[4] read) {{ {clamped} %4: f32x2 = gather x[%1 + 20] }}")).unwrap();
        assert_eq!(super::spreads(&kernel).into_values().collect::<Vec<_>>(), [7]);
        // Sums in lanes wrap at 32 bits.
        let wraps = "%1: i32x2 = const 2147483647 %2: i32x2 = add %1, %1 %3: i32x2 = const 1 %2: i32x2 = min %2, %3";
        assert_ne!(unproved(99, &format!("{wraps} %4: f32x2 = gather x[%2]")), [""; 0]);
    }

    #[test]
    fn registers_set_in_a_loop_or_a_branch_are_not_trusted() {
        let counter = "%0: i64 = const 0 %1: i64 = const 1";
        assert_ne!(unproved(99, &format!("{counter} for i in 0..4 {{ %2: f32 = load x[%0] %0: i64 = add %0, %1 }}")), [""; 0]);
        assert_ne!(unproved(99, &format!("{counter} for i in 0..4 {{ %0: i64 = add %0, %1 %2: f32 = load x[%0] }}")), [""; 0]);
        needs(7, &format!("{counter} for i in 0..4 {{ %0: i64 = add %0, %1 %0: i64 = check %0, 7 %2: f32 = load x[%0] }}"));
        let branch = |set: &str| format!("{counter} %3: bool = const true if %3 {{ %0: i64 = const {set} }} %2: f32 = load x[%0]");
        needs(6, &branch("5"));
        assert_ne!(unproved(99, &branch("-1")), [""; 0]);
        // Wrapping arithmetic is not bounded by its mathematical interval.
        let wraps = "%0: i64 = const 9223372036854775807 %1: i64 = add %0, %0 %2: i64 = const 1 %1: i64 = min %1, %2 %3: f32 = load x[%1]";
        assert_ne!(unproved(9, wraps), [""; 0]);
    }
}

//! Checks kernels: structure and types here, the bounds proof in [`super::bounds`].
//!
//! All problems are collected. The bounds proof runs only on kernels whose structure is right.

use std::fmt;

use thiserror::Error;

use super::bounds;
use super::ir::{
    Access, Affine, BinaryOp, BufferId, CompareOp, Cond, Index, Kernel, Loop, Op, Reg, Scalar, Stmt, UnaryOp, Var, VecType, for_each_set,
    guarded,
};
use super::parallel;
use super::print::Text;
use crate::tensor::DType;

/// More lanes than any schedule uses; keeps hostile text from asking for gigabytes.
const MAX_LANES: u32 = 1 << 12;

/// A problem and the statement that has it.
#[derive(Clone, PartialEq, Debug)]
pub struct VerifyError {
    /// The statement's line of text; empty for problems of the header.
    pub place: String,
    /// The problem.
    pub problem: Problem,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { write!(f, "{}", self.problem) } else { write!(f, "{}, in `{}`", self.problem, self.place) }
    }
}

impl std::error::Error for VerifyError {}

/// What can be wrong with a kernel.
#[derive(Clone, PartialEq, Debug, Error)]
#[expect(missing_docs, reason = "the messages say it, the fields are what they print")]
pub enum Problem {
    #[error("two {what}s are named `{name}`")]
    DuplicateName { what: &'static str, name: String },
    #[error("schedule `{0}` cannot be printed: it holds ` (` or a line break")]
    Schedule(String),
    #[error("register %{reg} has {lanes} lanes, not a power of two up to {MAX_LANES}")]
    Lanes { reg: u32, lanes: u32 },
    #[error("register %{0} does not exist")]
    NoRegister(u32),
    #[error("buffer {0} does not exist")]
    NoBuffer(u32),
    #[error("variable {0} does not exist")]
    NoVariable(u32),
    #[error("variable `{0}` belongs to two loops")]
    VariableOfTwoLoops(String),
    #[error("variable `{0}` is used outside its loop")]
    VariableOutsideLoop(String),
    #[error("{start}..{end} step {step} is not a whole number of at least one iteration")]
    TripCount { start: i64, end: i64, step: i64 },
    #[error("live loop `{0}` is not alone in a branch that asks whether it runs")]
    NotGuarded(String),
    #[error("size `{0}` is not from 0 on, not alone of its name, or bounded by what is no other size")]
    Size(String),
    #[error("the terms of an affine value are not sorted by variable, without zeros")]
    AffineForm,
    #[error("register %{0} is read before it is set on every path")]
    NotSet(u32),
    #[error("register %{reg} is carried through parallel loop `{var}`, whose iterations are independent")]
    Carried { reg: u32, var: String },
    #[error("buffer `{0}` is only read")]
    StoreToRead(String),
    #[error("register %{reg} is {found}, expected {expected}")]
    Type { reg: u32, found: VecType, expected: String },
    #[error("`{op}` does not apply to {dtype}")]
    Unsupported { op: &'static str, dtype: DType },
    #[error("the constant is not a value of {0}")]
    Constant(DType),
    #[error("shift amount %{reg} is not a register set once, to a constant in 0..{bits}")]
    ShiftAmount { reg: u32, bits: u32 },
    #[error("lane {lane} of {lanes}")]
    NoLane { lane: u32, lanes: u32 },
    #[error("{found} scalars packed into {expected} lanes")]
    Pack { found: usize, expected: u32 },
    #[error("no register at the end of the index, with stride 1, says where each of several lanes is")]
    NoPlaces,
    #[error("a check against {0} never passes")]
    EmptyCheck(i64),
    #[error("cannot prove that iterations do not write what others touch of `{buffer}`")]
    Dependent { buffer: String },
    #[error("cannot prove that private `{buffer}` is written before it is read")]
    ReadBeforeWritten { buffer: String },
    #[error("private `{0}` is not scratch that is written and read")]
    PrivateAccess(String),
    #[error("cannot prove that {lanes} elements at {low}..={high} are inside `{buffer}`, which has {len}")]
    Bounds { buffer: String, low: Bound, high: Bound, lanes: u32, len: usize },
}

/// An end of an interval, for messages; `?` where nothing useful is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound(pub i128);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 <= i64::MIN.into() || self.0 >= i64::MAX.into() { f.write_str("?") } else { write!(f, "{}", self.0) }
    }
}

/// All problems of the kernel; empty when it may be compiled.
pub fn verify(kernel: &Kernel) -> Vec<VerifyError> {
    let errors = verify_structure(kernel);
    if !errors.is_empty() {
        return errors;
    }
    let mut errors = bounds::prove(kernel);
    errors.extend(parallel::prove(kernel));
    errors
}

/// All problems except accesses that cannot be proved in bounds.
pub(super) fn verify_structure(kernel: &Kernel) -> Vec<VerifyError> {
    let n_regs = kernel.regs.len();
    let mut v = Verifier {
        kernel,
        text: Text::new(kernel),
        errors: vec![],
        place: None,
        constants: vec![Constness::Unset; n_regs],
        n_loops: vec![0; kernel.vars.len()],
        open: kernel.vars.iter().enumerate().map(|(i, _)| kernel.sizes.iter().any(|s| s.var.0 as usize == i)).collect(),
        set: vec![false; n_regs],
        carried: vec![None; n_regs],
    };
    v.header();
    find_constants(&kernel.body, &mut v.constants);
    v.block(&kernel.body);
    v.errors
}

/// What is known of the value of a register in the whole kernel.
#[derive(Clone, Copy, PartialEq)]
enum Constness {
    Unset,
    Once(i64),
    Other,
}

fn find_constants(body: &[Stmt], known: &mut [Constness]) {
    for_each_set(body, &mut |reg, op| {
        if let Some(k) = known.get_mut(reg.0 as usize) {
            *k = match (*k, op) {
                (Constness::Unset, Op::Const(Scalar::Int(x))) => Constness::Once(*x),
                _ => Constness::Other,
            };
        }
    });
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    text: Text<'a>,
    errors: Vec<VerifyError>,
    place: Option<&'a Stmt>,
    constants: Vec<Constness>,
    n_loops: Vec<u32>,
    open: Vec<bool>,
    set: Vec<bool>,
    // The parallel loop that made a register unset.
    carried: Vec<Option<Var>>,
}

impl<'a> Verifier<'a> {
    fn error(&mut self, problem: Problem) {
        let place = self.place.map_or(String::new(), |s| self.text.head(s));
        self.errors.push(VerifyError { place, problem });
    }

    fn header(&mut self) {
        let kernel = self.kernel;
        let schedule = &kernel.schedule;
        if schedule.contains(" (") || schedule.starts_with('(') || schedule.contains(['\n', '\r']) || schedule.trim() != schedule {
            self.error(Problem::Schedule(schedule.clone()));
        }
        self.unique("buffer", kernel.buffers.iter().map(|b| b.name.as_str()).collect());
        self.unique("variable", kernel.vars.iter().map(|v| v.as_str()).collect());
        for (i, s) in kernel.sizes.iter().enumerate() {
            match kernel.vars.get(s.var.0 as usize) {
                None => self.error(Problem::NoVariable(s.var.0)),
                Some(name) if s.high < 0 || kernel.sizes[..i].iter().any(|t| t.var == s.var) => self.error(Problem::Size(name.clone())),
                Some(name) if s.most.is_some_and(|m| m == s.var || kernel.sizes.iter().all(|t| t.var != m)) => {
                    self.error(Problem::Size(name.clone()));
                }
                Some(_) => self.n_loops[s.var.0 as usize] += 1,
            }
        }
        for b in kernel.buffers.iter().filter(|b| b.private && b.access != Access::ReadWrite) {
            self.error(Problem::PrivateAccess(b.name.clone()));
        }
        for (reg, ty) in kernel.regs.iter().enumerate() {
            if !ty.lanes.is_power_of_two() || ty.lanes > MAX_LANES {
                self.error(Problem::Lanes { reg: reg as u32, lanes: ty.lanes });
            }
        }
    }

    fn unique(&mut self, what: &'static str, mut names: Vec<&str>) {
        names.sort_unstable();
        let mut twice: Vec<_> = names.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].to_owned()).collect();
        twice.dedup();
        for name in twice {
            self.error(Problem::DuplicateName { what, name });
        }
    }

    fn block(&mut self, body: &'a [Stmt]) {
        for s in body {
            self.place = Some(s);
            match s {
                Stmt::Loop(l) => {
                    if l.live.is_some() && !l.parallel {
                        self.error(Problem::NotGuarded(self.kernel.vars.get(l.var.0 as usize).cloned().unwrap_or_default()));
                    }
                    self.a_loop(l);
                }
                Stmt::If { then, .. } if guarded(s).is_some() => {
                    let Some(Stmt::Loop(l)) = then.first() else { continue };
                    let before = self.set.clone();
                    self.a_loop(l);
                    self.set.iter_mut().zip(before).for_each(|(s, b)| *s &= b);
                }
                Stmt::Set { reg, op } => {
                    if let Some(ty) = self.ty(*reg) {
                        self.op(*reg, ty, op);
                        self.set[reg.0 as usize] = true;
                    }
                }
                Stmt::Store { buffer, index, value } => self.store(*buffer, index, *value),
                Stmt::Prefetch { buffer, index } => self.prefetch(*buffer, index),
                Stmt::If { cond, then, otherwise } => {
                    match cond {
                        Cond::Within(ranges) => ranges.iter().for_each(|(a, _, _)| self.affine(a)),
                        Cond::Reg(r) => self.expect(*r, VecType::scalar(DType::Bool)),
                    }
                    let before = self.set.clone();
                    self.block(then);
                    let after_then = std::mem::replace(&mut self.set, before);
                    self.block(otherwise);
                    self.set.iter_mut().zip(after_then).for_each(|(s, t)| *s &= t);
                }
            }
        }
    }

    fn a_loop(&mut self, l: &'a Loop) {
        let length = l.end.checked_sub(l.start);
        let whole = l.step >= 1 && l.end > l.start && length.is_some_and(|n| if l.live.is_some() { n >= l.step } else { n % l.step == 0 });
        if let Some(live) = &l.live {
            let kernel = self.kernel;
            let sizes = |a: &Affine| a.terms.iter().all(|t| kernel.sizes.iter().any(|s| s.var == t.0));
            if !sizes(&live.from) || !sizes(&live.to) || live.from.is_constant() && live.from.constant != l.start {
                self.error(Problem::TripCount { start: l.start, end: l.end, step: l.step });
            }
            self.affine(&live.from);
            self.affine(&live.to);
        }
        if !whole {
            self.error(Problem::TripCount { start: l.start, end: l.end, step: l.step });
        }
        let var = l.var.0 as usize;
        if var >= self.open.len() {
            return self.error(Problem::NoVariable(l.var.0));
        }
        self.n_loops[var] += 1;
        if self.n_loops[var] == 2 {
            self.error(Problem::VariableOfTwoLoops(self.kernel.vars[var].clone()));
        }
        if l.parallel {
            self.forget(l);
        }
        self.open[var] = true;
        self.block(&l.body);
        self.open[var] = false;
        if l.parallel {
            self.forget(l);
        }
    }

    /// Iterations of a parallel loop see no register of each other, and what follows sees none of theirs.
    fn forget(&mut self, l: &Loop) {
        let (set, carried) = (&mut self.set, &mut self.carried);
        for_each_set(&l.body, &mut |r, _| {
            let r = r.0 as usize;
            if r < set.len() {
                set[r] = false;
                carried[r] = Some(l.var);
            }
        });
    }

    fn store(&mut self, buffer: BufferId, index: &Index, value: Reg) {
        self.index(index);
        let ty = self.read(value);
        let Some(b) = self.kernel.buffers.get(buffer.0 as usize) else {
            return self.error(Problem::NoBuffer(buffer.0));
        };
        if b.access == Access::Read {
            self.error(Problem::StoreToRead(b.name.clone()));
        }
        if let Some(ty) = ty {
            self.same(value, ty, ty.with_dtype(b.dtype));
        }
    }

    fn prefetch(&mut self, buffer: BufferId, index: &Affine) {
        self.affine(index);
        if self.kernel.buffers.get(buffer.0 as usize).is_none() {
            self.error(Problem::NoBuffer(buffer.0));
        }
    }

    fn affine(&mut self, a: &Affine) {
        if !a.terms.is_sorted_by(|x, y| x.0 < y.0) || a.terms.iter().any(|t| t.1 == 0) {
            self.error(Problem::AffineForm);
        }
        for &(v, _) in &a.terms {
            match self.open.get(v.0 as usize) {
                None => self.error(Problem::NoVariable(v.0)),
                Some(false) => self.error(Problem::VariableOutsideLoop(self.kernel.vars[v.0 as usize].clone())),
                Some(true) => {}
            }
        }
    }

    fn index(&mut self, index: &Index) {
        self.affine(&index.affine);
        for &(r, _) in &index.dynamic {
            self.expect(r, VecType::scalar(DType::I64));
        }
    }

    fn ty(&mut self, r: Reg) -> Option<VecType> {
        let ty = self.kernel.regs.get(r.0 as usize).copied();
        if ty.is_none() {
            self.error(Problem::NoRegister(r.0));
        }
        ty
    }

    /// The type of a register that is read here.
    fn read(&mut self, r: Reg) -> Option<VecType> {
        let ty = self.ty(r)?;
        if !self.set[r.0 as usize] {
            let problem = match self.carried[r.0 as usize] {
                Some(v) => Problem::Carried { reg: r.0, var: self.kernel.vars[v.0 as usize].clone() },
                None => Problem::NotSet(r.0),
            };
            self.error(problem);
        }
        Some(ty)
    }

    fn same(&mut self, r: Reg, found: VecType, expected: VecType) {
        if found != expected {
            self.error(Problem::Type { reg: r.0, found, expected: expected.to_string() });
        }
    }

    fn expect(&mut self, r: Reg, expected: VecType) {
        if let Some(found) = self.read(r) {
            self.same(r, found, expected);
        }
    }

    fn applies(&mut self, op: &'static str, dtype: DType, yes: bool) {
        if !yes {
            self.error(Problem::Unsupported { op, dtype });
        }
    }

    fn op(&mut self, reg: Reg, ty: VecType, op: &Op) {
        let (dtype, number) = (ty.dtype, ty.dtype != DType::Bool);
        match op {
            Op::Const(x) => {
                if !is_value(*x, dtype) {
                    self.error(Problem::Constant(dtype));
                }
            }
            Op::Index(a) => {
                self.affine(a);
                self.same(reg, ty, VecType::scalar(DType::I64));
            }
            Op::Load { buffer, index } => {
                self.index(index);
                match self.kernel.buffers.get(buffer.0 as usize) {
                    Some(b) => self.same(reg, ty, ty.with_dtype(b.dtype)),
                    None => self.error(Problem::NoBuffer(buffer.0)),
                }
            }
            Op::Gather { buffer, index } => {
                match index.spread() {
                    Some((places, rest)) if ty.lanes > 1 && index.dynamic.last().is_some_and(|d| d.1 == 1) => {
                        self.index(&rest);
                        self.expect(places, ty.with_dtype(DType::I32));
                    }
                    _ => self.error(Problem::NoPlaces),
                }
                self.applies("gather", dtype, matches!(dtype, DType::F32 | DType::I32 | DType::U32));
                match self.kernel.buffers.get(buffer.0 as usize) {
                    Some(b) => self.same(reg, ty, ty.with_dtype(b.dtype)),
                    None => self.error(Problem::NoBuffer(buffer.0)),
                }
            }
            Op::Copy(a) => self.expect(*a, ty),
            Op::Splat(a) => self.expect(*a, VecType::scalar(dtype)),
            Op::Lane(a, lane) => {
                self.same(reg, ty, VecType::scalar(dtype));
                if let Some(found) = self.read(*a) {
                    self.same(*a, found, found.with_dtype(dtype));
                    if *lane >= found.lanes {
                        self.error(Problem::NoLane { lane: *lane, lanes: found.lanes });
                    }
                }
            }
            Op::Pack(regs) => {
                if regs.len() != ty.lanes as usize {
                    self.error(Problem::Pack { found: regs.len(), expected: ty.lanes });
                }
                regs.iter().for_each(|&r| self.expect(r, VecType::scalar(dtype)));
            }
            Op::Unary(op, a) => {
                self.applies(op.name(), dtype, unary_applies(*op, dtype));
                self.expect(*a, ty);
            }
            Op::Binary(op, a, b) => {
                self.applies(op.name(), dtype, binary_applies(*op, dtype));
                self.expect(*a, ty);
                self.expect(*b, ty);
                if matches!(op, BinaryOp::Shl | BinaryOp::Shr) && self.constants.get(b.0 as usize).is_some_and(|c| !is_shift(*c, dtype)) {
                    self.error(Problem::ShiftAmount { reg: b.0, bits: dtype.bits() });
                }
            }
            Op::Fma(a, b, c) => {
                self.applies("fma", dtype, number);
                [a, b, c].iter().for_each(|r| self.expect(**r, ty));
            }
            Op::Compare(op, a, b) => {
                self.same(reg, ty, ty.with_dtype(DType::Bool));
                if let Some(found) = self.read(*a) {
                    self.applies(op.name(), found.dtype, found.dtype != DType::Bool || matches!(op, CompareOp::Eq | CompareOp::Ne));
                    self.same(*a, found, ty.with_dtype(found.dtype));
                    self.expect(*b, ty.with_dtype(found.dtype));
                }
            }
            Op::Select(c, a, b) => {
                self.expect(*c, ty.with_dtype(DType::Bool));
                self.expect(*a, ty);
                self.expect(*b, ty);
            }
            Op::Convert(a) => {
                if let Some(found) = self.read(*a) {
                    self.same(*a, found, ty.with_dtype(found.dtype));
                }
            }
            Op::Bitcast(a) => {
                self.applies("bitcast", dtype, number);
                if let Some(found) = self.read(*a) {
                    self.applies("bitcast", found.dtype, found.dtype != DType::Bool);
                    let same = found.lanes == ty.lanes && found.dtype.size_bytes() == dtype.size_bytes();
                    if !same && !is_group(found, ty) && !is_group(ty, found) {
                        let expected = format!("{} lanes of {} bytes", ty.lanes, dtype.size_bytes());
                        self.error(Problem::Type { reg: a.0, found, expected });
                    }
                }
            }
            Op::Dot(c, a, b) => {
                self.applies("dot", dtype, dtype == DType::I32);
                self.expect(*c, ty);
                let (x, y, n) = match self.read(*a) {
                    Some(VecType { dtype: DType::I16, .. }) => (DType::I16, DType::I16, 2),
                    _ => (DType::U8, DType::I8, 4),
                };
                for (r, dtype) in [(*a, x), (*b, y)] {
                    self.expect(r, VecType { dtype, lanes: n * ty.lanes });
                }
            }
            Op::Shuffle(order, a, b) => {
                self.applies(order.name(), dtype, number && ty.lanes > 1);
                self.expect(*a, ty);
                self.expect(*b, ty);
            }
            Op::Horizontal(op, a) => {
                let known = matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Min | BinaryOp::Max);
                self.applies("horizontal", dtype, number && known);
                self.same(reg, ty, VecType::scalar(dtype));
                if let Some(found) = self.read(*a) {
                    self.same(*a, found, found.with_dtype(dtype));
                }
            }
            Op::Check(a, end) => {
                if !(dtype == DType::I32 && ty.lanes > 1) {
                    self.same(reg, ty, ty.with_dtype(DType::I64));
                }
                self.expect(*a, ty);
                if *end < 1 {
                    self.error(Problem::EmptyCheck(*end));
                }
            }
        }
    }
}

/// Whether several lanes of `parts` have the bits of one of `words`.
fn is_group(parts: VecType, words: VecType) -> bool {
    let types = matches!(parts.dtype, DType::I8 | DType::U8 | DType::I16) && matches!(words.dtype, DType::I32 | DType::U32);
    types && Some(parts.lanes) == words.lanes.checked_mul(4 / parts.dtype.size_bytes() as u32)
}

fn unary_applies(op: UnaryOp, dtype: DType) -> bool {
    match op {
        UnaryOp::Neg | UnaryOp::Abs => dtype != DType::Bool,
        UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round => dtype.is_float(),
        UnaryOp::Not => !dtype.is_float(),
    }
}

fn binary_applies(op: BinaryOp, dtype: DType) -> bool {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min | BinaryOp::Max => dtype != DType::Bool,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !dtype.is_float(),
        BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => dtype.is_int(),
    }
}

fn is_shift(c: Constness, dtype: DType) -> bool {
    matches!(c, Constness::Once(x) if (0..dtype.bits().into()).contains(&x))
}

/// Whether the constant is a value of the type; negative numbers stand for the upper half of `u64`.
fn is_value(x: Scalar, dtype: DType) -> bool {
    match (x, dtype) {
        (Scalar::Float(_), DType::F64) => true,
        (Scalar::Float(x), DType::F32) => f64::from(x as f32) == x || x.is_nan(),
        (Scalar::Float(x), DType::F16) => crate::tensor::round_f16(x).to_f64() == x || x.is_nan(),
        (Scalar::Float(x), DType::BF16) => crate::tensor::round_bf16(x).to_f64() == x || x.is_nan(),
        (Scalar::Int(_), DType::I64 | DType::U64) => true,
        (Scalar::Int(x), DType::Bool) => matches!(x, 0 | 1),
        (Scalar::Int(x), _) if dtype.is_int() => {
            let (low, high) = int_range(dtype);
            (low..=high).contains(&x.into())
        }
        _ => false,
    }
}

/// Least and greatest value of an integer type or `bool`.
pub(super) fn int_range(dtype: DType) -> (i128, i128) {
    if dtype == DType::Bool {
        return (0, 1);
    }
    let bits = dtype.bits();
    if dtype.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        verify(&parse(text).unwrap()).iter().map(|e| e.to_string()).collect()
    }

    /// The problems of statements that may use `x: f32[8] read`, `y: f32[8] write` and `z: i64[8] readwrite`.
    fn body(statements: &str) -> Vec<String> {
        problems(&format!("kernel @t (x: f32[8] read, y: f32[8] write, z: i64[8] readwrite) {{\n{statements}\n}}"))
    }

    #[test]
    fn good_kernels_have_no_problems() {
        let relu = "par i in 0..8 step 4 {
            %0: f32x4 = load x[i]
            %1: f32x4 = const 0.0
            %2: f32x4 = max %1, %0
            store y[i], %2
        }";
        assert_eq!(body(relu), [""; 0]);
        let sum = "%0: f32 = const 0.0
            for i in 0..8 { %1: f32 = load x[i] %0: f32 = add %0, %1 }
            store y[0], %0";
        assert_eq!(body(sum), [""; 0]);
        let both = "%0: bool = const true
            if %0 { %1: f32 = const 0.0 } else { %1: f32 = const 1.0 }
            store y[0], %1";
        assert_eq!(body(both), [""; 0]);
        assert_eq!(body("%0: i64 = load z[0] %1: i64 = const 63 %2: i64 = shr %0, %1 store z[0], %2"), [""; 0]);
    }

    #[test]
    fn each_problem_is_found() {
        let cases = [
            ("%0: f32x3 = const 1.0", "register %0 has 3 lanes, not a power of two up to 4096"),
            ("for i in 0..7 step 2 { }", "0..7 step 2 is not a whole number of at least one iteration, in `for i in 0..7 step 2`"),
            ("for i in 3..3 { }", "3..3 step 1 is not a whole number of at least one iteration, in `for i in 3..3`"),
            ("for i in 0..2 step 0 { }", "0..2 step 0 is not a whole number of at least one iteration, in `for i in 0..2 step 0`"),
            (
                "%0: bool = const true if %0 { %1: f32 = const 0.0 } store y[0], %1",
                "register %1 is read before it is set on every path, in `store y[0], %1`",
            ),
            (
                "%0: f32 = const 0.0 par i in 0..8 { %1: f32 = load x[i] %0: f32 = add %0, %1 }",
                "register %0 is carried through parallel loop `i`, whose iterations are independent, in `%0: f32 = add %0, %1`",
            ),
            (
                "par i in 0..8 { %0: f32 = load x[i] } store y[0], %0",
                "register %0 is carried through parallel loop `i`, whose iterations are independent, in `store y[0], %0`",
            ),
            ("%0: f32 = load x[0] store x[0], %0", "buffer `x` is only read, in `store x[0], %0`"),
            ("%0: i64 = load z[0] store y[0], %0", "register %0 is i64, expected f32, in `store y[0], %0`"),
            ("%0: f64 = load x[0]", "register %0 is f64, expected f32, in `%0: f64 = load x[0]`"),
            ("%0: i32 = index 3", "register %0 is i32, expected i64, in `%0: i32 = index 3`"),
            ("%0: f32 = load x[0] %1: f32x2 = neg %0", "register %0 is f32, expected f32x2, in `%1: f32x2 = neg %0`"),
            ("%0: f32x2 = load x[0] %1: f32x4 = splat %0", "register %0 is f32x2, expected f32, in `%1: f32x4 = splat %0`"),
            ("%0: f32 = load x[0] %1: f32 = lt %0, %0", "register %1 is f32, expected bool, in `%1: f32 = lt %0, %0`"),
            ("%0: f32 = load x[0] %1: f32 = select %0, %0, %0", "register %0 is f32, expected bool, in `%1: f32 = select %0, %0, %0`"),
            ("%0: f32x2 = load x[0] %1: f32 = lane %0, 2", "lane 2 of 2, in `%1: f32 = lane %0, 2`"),
            ("%0: f32 = load x[0] %1: f32x2 = pack %0", "1 scalars packed into 2 lanes, in `%1: f32x2 = pack %0`"),
            ("%0: f32 = load x[0] %1: i64 = bitcast %0", "register %0 is f32, expected 1 lanes of 8 bytes, in `%1: i64 = bitcast %0`"),
            ("%0: f32x2 = load x[0] %1: i32 = convert %0", "register %0 is f32x2, expected f32, in `%1: i32 = convert %0`"),
            ("%0: f32 = load x[0] %1: f32 = and %0, %0", "`and` does not apply to f32, in `%1: f32 = and %0, %0`"),
            ("%0: f32 = load x[0] %1: f32 = rem %0, %0", "`rem` does not apply to f32, in `%1: f32 = rem %0, %0`"),
            ("%0: i64 = load z[0] %1: i64 = floor %0", "`floor` does not apply to i64, in `%1: i64 = floor %0`"),
            ("%0: bool = const true %1: bool = add %0, %0", "`add` does not apply to bool, in `%1: bool = add %0, %0`"),
            ("%0: bool = const true %1: bool = lt %0, %0", "`lt` does not apply to bool, in `%1: bool = lt %0, %0`"),
            ("%0: f32x2 = load x[0] %1: f32 = horizontal sub %0", "`horizontal` does not apply to f32, in `%1: f32 = horizontal sub %0`"),
            (
                "%0: i32 = const 1 %1: u8x4 = const 1 %2: i32 = dot %0, %1, %1",
                "register %1 is u8x4, expected i8x4, in `%2: i32 = dot %0, %1, %1`",
            ),
            ("%0: i8 = const 128", "the constant is not a value of i8, in `%0: i8 = const 128`"),
            (
                "%0: i64 = load z[0] %1: i64 = shl %0, %0",
                "shift amount %0 is not a register set once, to a constant in 0..64, in `%1: i64 = shl %0, %0`",
            ),
            (
                "%0: i64 = load z[0] %1: i64 = const 64 %2: i64 = shl %0, %1",
                "shift amount %1 is not a register set once, to a constant in 0..64, in `%2: i64 = shl %0, %1`",
            ),
            ("%0: i64 = load z[0] %1: i64 = check %0, 0", "a check against 0 never passes, in `%1: i64 = check %0, 0`"),
            ("%0: i32 = const 1 %1: i32 = check %0, 8", "register %1 is i32, expected i64, in `%1: i32 = check %0, 8`"),
            ("%0: i64x2 = load z[0] %1: f32x2 = gather x[%0]", "register %0 is i64x2, expected i32x2, in `%1: f32x2 = gather x[%0]`"),
            ("%0: i32x2 = const 1 %1: f32x4 = gather x[%0]", "register %0 is i32x2, expected i32x4, in `%1: f32x4 = gather x[%0]`"),
            ("%0: i32x2 = const 1 %1: i64x2 = gather z[%0]", "`gather` does not apply to i64, in `%1: i64x2 = gather z[%0]`"),
            (
                "%0: i32x2 = const 1 %1: f32x2 = gather x[2*%0]",
                "no register at the end of the index, with stride 1, says where each of several lanes is, in `%1: f32x2 = gather x[2*%0]`",
            ),
            ("%0: i32x2 = const 1 %1: f32x2 = load x[%0]", "register %0 is i32x2, expected i64, in `%1: f32x2 = load x[%0]`"),
        ];
        for (text, expected) in cases {
            assert_eq!(body(text), [expected], "{text}");
        }
    }

    #[test]
    fn what_text_cannot_say_is_found_too() {
        let kernel = parse("kernel @t (y: f32[1] write) { for i in 0..1 { %0: f32 = const 0.5 store y[i], %0 } }").unwrap();
        let with = |change: &dyn Fn(&mut Kernel)| {
            let mut k = kernel.clone();
            change(&mut k);
            verify(&k).iter().map(|e| e.problem.to_string()).collect::<Vec<_>>()
        };
        let set = |k: &mut Kernel, s: Stmt| k.body.push(s);
        let affine = |terms| Stmt::Set { reg: Reg(1), op: Op::Index(Affine { constant: 0, terms }) };
        let i64s = |k: &mut Kernel| k.regs.push(VecType::scalar(DType::I64));
        assert_eq!(
            with(&|k| k.schedule = "map (lanes=4)".into()),
            ["schedule `map (lanes=4)` cannot be printed: it holds ` (` or a line break"]
        );
        assert_eq!(with(&|k| k.vars.push("i".into())), ["two variables are named `i`"]);
        assert_eq!(with(&|k| k.buffers.push(k.buffers[0].clone())), ["two buffers are named `y`"]);
        assert_eq!(with(&|k| k.body.push(k.body[0].clone())), ["variable `i` belongs to two loops"]);
        assert_eq!(with(&|k| set(k, Stmt::Set { reg: Reg(5), op: Op::Index(Affine::constant(0)) })), ["register %5 does not exist"]);
        let store = |buffer, value| Stmt::Store { buffer, index: Affine::constant(0).into(), value };
        assert_eq!(with(&|k| set(k, store(BufferId(1), Reg(0)))), ["buffer 1 does not exist"]);
        assert_eq!(
            with(&|k| {
                i64s(k);
                set(k, affine(vec![(Var(0), 1)]));
            }),
            ["variable `i` is used outside its loop"]
        );
        assert_eq!(
            with(&|k| {
                i64s(k);
                set(k, affine(vec![(Var(1), 0)]));
            }),
            ["the terms of an affine value are not sorted by variable, without zeros", "variable 1 does not exist"]
        );
        let third = |k: &mut Kernel| set(k, Stmt::Set { reg: Reg(0), op: Op::Const(Scalar::Float(1.0 / 3.0)) });
        assert_eq!(with(&third), ["the constant is not a value of f32"]);
    }
}

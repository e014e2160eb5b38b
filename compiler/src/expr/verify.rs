//! Checks a [`Program`]: types, ranks, that affine indices stay inside their tensors, that writes are injective.

use std::collections::HashSet;

use super::{Affine, BinaryOp, Body, CompareOp, Const, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorId, UnaryOp, Var};
use crate::tensor::{DType, row_major_strides};

/// A rule that a program breaks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{tensor}`: {message}")]
pub struct VerifyError {
    /// The tensor whose computation or declaration is wrong.
    pub tensor: String,
    /// What is wrong.
    pub message: String,
}

/// Everything that is wrong with the program, in order.
pub fn verify(program: &Program) -> Vec<VerifyError> {
    let mut v = Verifier { program, loops: vec![], defined: HashSet::new(), errors: vec![] };
    v.declarations();
    // Later checks index `tensors` by what the items say.
    if v.errors.is_empty() && v.ids(&program.items) {
        v.items(&program.items);
        for &t in &program.results {
            if !v.defined.contains(&t) {
                v.error(t, "a result that nothing computes");
            }
        }
    }
    v.errors
}

struct Verifier<'a> {
    program: &'a Program,
    /// Enclosing loops and their extents.
    loops: Vec<(u32, usize)>,
    defined: HashSet<TensorId>,
    errors: Vec<VerifyError>,
}

/// What variables an expression may use, and whether it may use the accumulator.
struct Scope<'a> {
    stage: &'a Stage,
    extents: Vec<usize>,
    acc: Option<DType>,
}

impl Verifier<'_> {
    fn error(&mut self, tensor: TensorId, message: impl Into<String>) {
        let tensor = self.program.tensors.get(tensor.0 as usize).map_or_else(|| format!("#{}", tensor.0), |t| format!("%{}", t.name));
        self.errors.push(VerifyError { tensor, message: message.into() });
    }

    fn exists(&mut self, t: TensorId) -> bool {
        let exists = (t.0 as usize) < self.program.tensors.len();
        if !exists {
            self.error(t, "no such tensor");
        }
        exists
    }

    fn declarations(&mut self) {
        let p = self.program;
        let mut names = HashSet::new();
        for (i, t) in p.tensors.iter().enumerate() {
            if !names.insert(&t.name) {
                self.error(TensorId(i as u32), "the name is used twice");
            }
            if t.dims.iter().try_fold(t.dtype.size_bytes(), |n, &d| n.checked_mul(d)).is_none_or(|n| n > isize::MAX as usize) {
                self.error(TensorId(i as u32), "larger than the address space");
            }
        }
        for &t in &p.operands {
            if self.exists(t) && !self.defined.insert(t) {
                self.error(t, "an operand twice");
            }
        }
        for (t, value) in &p.constants {
            if !self.exists(*t) {
                continue;
            }
            let decl = &p.tensors[t.0 as usize];
            if (decl.dtype, &decl.dims[..]) != (value.dtype(), value.dims()) {
                self.error(*t, format!("declared {}{:?}, but the constant is {}", decl.dtype, decl.dims, value.ty()));
            }
            if !self.defined.insert(*t) {
                self.error(*t, "a constant and something else");
            }
        }
        for &t in &p.results {
            self.exists(t);
        }
    }

    fn ids(&mut self, items: &[Item]) -> bool {
        for item in items {
            match item {
                Item::Repeat { items, .. } => {
                    self.ids(items);
                }
                Item::Reshape { out, input } => {
                    self.exists(*out);
                    self.exists(*input);
                }
                Item::Stage(stage) => {
                    self.exists(stage.out);
                    for e in stage.expressions() {
                        let mut ids = vec![];
                        e.visit(&mut |e| ids.extend(e.loaded()));
                        for t in ids {
                            self.exists(t);
                        }
                    }
                }
            }
        }
        self.errors.is_empty()
    }

    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Stage(stage) => self.stage(stage),
                Item::Reshape { out, input } => {
                    let (a, b) = (self.program.tensor(*out), self.program.tensor(*input));
                    if a.dtype != b.dtype || a.dims.iter().product::<usize>() != b.dims.iter().product::<usize>() {
                        self.error(*out, format!("a reshape of {}{:?} to {}{:?}", b.dtype, b.dims, a.dtype, a.dims));
                    }
                    self.reads(*out, *input);
                    self.writes(*out);
                }
                Item::Repeat { var, extent, items, .. } => {
                    if self.loops.iter().any(|l| l.0 == *var) {
                        let message = format!("loop {var} inside itself");
                        self.errors.push(VerifyError { tensor: format!("loop {var}"), message });
                        continue;
                    }
                    // What a later item writes, an earlier one may read in the next iteration.
                    let mut written = vec![];
                    outputs(items, &mut written);
                    let new: Vec<TensorId> = written.into_iter().filter(|t| self.defined.insert(*t)).collect();
                    self.loops.push((*var, *extent));
                    self.items(items);
                    self.loops.pop();
                    self.defined.extend(new);
                }
            }
        }
    }

    fn reads(&mut self, out: TensorId, t: TensorId) {
        if !self.defined.contains(&t) {
            let name = &self.program.tensor(t).name;
            self.error(out, format!("reads `%{name}` before anything computes it"));
        }
    }

    fn writes(&mut self, t: TensorId) {
        if self.program.operands.contains(&t) || self.program.constants.iter().any(|c| c.0 == t) {
            self.error(t, "an operand or constant is written");
        }
        self.defined.insert(t);
    }

    fn stage(&mut self, stage: &Stage) {
        let all = [&stage.axes[..], &stage.reduce].concat();
        let full = Scope { stage, extents: all, acc: None };
        let outer = Scope { stage, extents: stage.axes.clone(), acc: None };
        let decl = self.program.tensor(stage.out);
        if !stage.reduce.is_empty() && matches!(stage.body, Body::Map(_) | Body::Scatter { .. }) {
            self.error(stage.out, "reduction axes without a reduction");
        }
        let result = match &stage.body {
            Body::Map(e) => {
                self.expression(e, &outer);
                e.dtype()
            }
            Body::Reduce { op: _, value, finish } => {
                self.expression(value, &full);
                if value.dtype() == DType::Bool {
                    self.error(stage.out, "a reduction of `bool`");
                }
                self.expression(finish, &Scope { acc: Some(value.dtype()), ..outer });
                finish.dtype()
            }
            Body::Arg { op, value, .. } => {
                self.expression(value, &full);
                if stage.reduce.len() != 1 || !matches!(op, ReduceOp::Max | ReduceOp::Min) {
                    self.error(stage.out, "a position needs one axis, and the greatest or least");
                } else if stage.reduce[0] == 0 && !stage.axes.contains(&0) {
                    self.error(stage.out, "a position along an empty axis");
                }
                DType::I64
            }
            Body::Scatter { when, places, value } => {
                self.places(stage, when.as_ref(), places, &outer);
                self.expression(value, &Scope { acc: Some(decl.dtype), ..outer });
                value.dtype()
            }
        };
        if result != decl.dtype {
            self.error(stage.out, format!("declared `{}`, computed as `{result}`", decl.dtype));
        }
        self.write(stage);
        self.self_reads(stage);
        self.writes(stage.out);
    }

    fn places(&mut self, stage: &Stage, when: Option<&Expr>, places: &[(usize, Expr)], scope: &Scope<'_>) {
        if let Some(when) = when {
            if when.dtype() != DType::Bool {
                self.error(stage.out, format!("a condition of type `{}`", when.dtype()));
            }
            self.expression(when, scope);
        }
        if !self.defined.contains(&stage.out) {
            self.error(stage.out, "a scatter into what nothing wrote before");
        }
        for (i, (axis, e)) in places.iter().enumerate() {
            if stage.write.get(*axis) != Some(&Affine::default()) || places[..i].iter().any(|p| p.0 == *axis) {
                self.error(stage.out, format!("a scatter along axis {axis}, which is no axis or has another place"));
            }
            if e.dtype() != DType::I64 {
                self.error(stage.out, format!("a place of type `{}`", e.dtype()));
            }
            self.expression(e, scope);
        }
    }

    fn write(&mut self, stage: &Stage) {
        let dims = &self.program.tensor(stage.out).dims;
        if stage.write.len() != dims.len() {
            return self.error(stage.out, format!("written with {} indices, of rank {}", stage.write.len(), dims.len()));
        }
        let scope = Scope { stage, extents: stage.axes.clone(), acc: None };
        let known = stage.write.iter().all(|a| self.variables(a, &scope));
        if !known || stage.axes.contains(&0) {
            return;
        }
        for (axis, (a, &d)) in stage.write.iter().zip(dims).enumerate() {
            let (lo, hi) = self.range(a, &stage.axes);
            if lo < 0 || hi >= d as i64 {
                self.error(stage.out, format!("axis {axis} of extent {d} is written at {lo}..={hi}"));
                return;
            }
        }
        if matches!(stage.body, Body::Scatter { .. }) {
            return;
        }
        // In range, so different indices are different offsets; each stride must exceed all that smaller ones can add up to.
        let flat = stage.write.iter().zip(row_major_strides(dims)).fold(Affine::default(), |sum, (a, s)| sum.plus(&a.times(s as i64)));
        let mut strides: Vec<(i64, i64)> = stage
            .axes
            .iter()
            .enumerate()
            .filter(|x| *x.1 > 1)
            .map(|(i, &n)| (flat.coefficient(Var::Axis(i as u32)).abs(), n as i64))
            .collect();
        strides.sort_unstable();
        let mut reach = 0;
        for (stride, extent) in strides {
            if stride <= reach {
                return self.error(stage.out, "two points of the axes may write one element");
            }
            reach += stride * (extent - 1);
        }
    }

    /// A stage may read its own tensor at the place it writes, or where it provably never writes.
    fn self_reads(&mut self, stage: &Stage) {
        if matches!(stage.body, Body::Scatter { .. }) {
            if stage.expressions().iter().any(|e| e.reads(stage.out)) {
                self.error(stage.out, "a scatter that reads its own tensor");
            }
            return;
        }
        let n = (stage.axes.len() + stage.reduce.len()) as u32;
        for (which, e) in stage.expressions().into_iter().enumerate() {
            let same_place_allowed = !(which == 0 && matches!(stage.body, Body::Reduce { .. } | Body::Arg { .. }));
            let mut overlap = false;
            e.visit(&mut |e| {
                let Node::Load { tensor, index, .. } = e.node() else { return };
                if *tensor != stage.out {
                    return;
                }
                let affine: Vec<Option<&Affine>> = index.iter().map(|ix| if let Ix::Affine(a) = ix { Some(a) } else { None }).collect();
                let same = affine.iter().zip(&stage.write).all(|(a, w)| *a == Some(w));
                let apart = affine.iter().zip(&stage.write).any(|(a, w)| {
                    let Some(a) = a else { return false };
                    let other = w.substitute(|v| match v {
                        Var::Axis(i) => Affine::var(Var::Axis(i + n)),
                        l => Affine::var(l),
                    });
                    let extents = [&stage.axes[..], &stage.reduce, &stage.axes].concat();
                    let (lo, hi) = self.range(&a.plus(&other.times(-1)), &extents);
                    lo > 0 || hi < 0
                });
                overlap |= !(apart || same && same_place_allowed);
            });
            if overlap {
                self.error(stage.out, "reads elements of its own tensor that it may write elsewhere");
            }
        }
    }

    /// Whether all variables are in scope.
    fn variables(&mut self, a: &Affine, scope: &Scope<'_>) -> bool {
        for &(v, _) in &a.terms {
            let known = match v {
                Var::Loop(l) => self.loops.iter().any(|x| x.0 == l),
                Var::Axis(i) => (i as usize) < scope.extents.len(),
            };
            if !known {
                self.error(scope.stage.out, format!("unknown variable {v:?}"));
                return false;
            }
        }
        true
    }

    /// Least and greatest value of a form whose variables are in scope and have values.
    fn range(&self, a: &Affine, extents: &[usize]) -> (i64, i64) {
        a.range(|v| {
            let extent = match v {
                Var::Loop(l) => self.loops.iter().find(|x| x.0 == l).map_or(1, |x| x.1),
                Var::Axis(i) => extents.get(i as usize).copied().unwrap_or(1),
            };
            (0, extent.max(1) as i64 - 1)
        })
    }

    fn expression(&mut self, e: &Expr, scope: &Scope<'_>) {
        let mut nodes = vec![];
        e.visit(&mut |e| nodes.push(e.clone()));
        for e in nodes {
            if let Err(message) = self.node(&e, scope) {
                self.error(scope.stage.out, message);
            }
        }
    }

    fn node(&mut self, e: &Expr, scope: &Scope<'_>) -> Result<(), String> {
        let dtype = e.dtype();
        let require = |ok: bool, what: &str| if ok { Ok(()) } else { Err(format!("{what} of `{dtype}`")) };
        match e.node() {
            Node::Const(Const::Float(_)) => require(dtype.is_float(), "a floating-point constant"),
            Node::Const(Const::Int(x)) => require(!dtype.is_float() && (dtype != DType::Bool || matches!(x, 0 | 1)), "an integer constant"),
            Node::Index(a) => {
                self.variables(a, scope);
                require(dtype == DType::I64, "an index")
            }
            Node::Size(_) => require(dtype == DType::I64, "a size"),
            Node::Acc if scope.acc == Some(dtype) => Ok(()),
            Node::Acc => Err("an accumulator of another type, or outside of a reduction's end".to_owned()),
            Node::Load { tensor, index, pad } => self.load(*tensor, index, pad.as_ref(), dtype, scope),
            Node::Unary(op, a) => {
                let ok = match op {
                    UnaryOp::Neg | UnaryOp::Abs => dtype != DType::Bool,
                    UnaryOp::Not => !dtype.is_float(),
                    _ => dtype.is_float(),
                };
                require(ok && a.dtype() == dtype, &format!("{op:?}"))
            }
            Node::Binary(op, a, b) => {
                let ok = match op {
                    BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => dtype.is_int(),
                    BinaryOp::Pow => dtype.is_float(),
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !dtype.is_float(),
                    BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min | BinaryOp::Max => dtype != DType::Bool,
                };
                require(ok && a.dtype() == dtype && b.dtype() == dtype, &format!("{op:?}"))
            }
            Node::Compare(op, a, b) => {
                let ordered = !matches!(op, CompareOp::Eq | CompareOp::Ne);
                let ok = a.dtype() == b.dtype() && dtype == DType::Bool && !(ordered && a.dtype() == DType::Bool);
                if ok { Ok(()) } else { Err(format!("{op:?} of `{}` and `{}` as `{dtype}`", a.dtype(), b.dtype())) }
            }
            Node::Select(c, a, b) => require(c.dtype() == DType::Bool && a.dtype() == dtype && b.dtype() == dtype, "a select"),
            Node::Cast(_) => Ok(()),
            Node::Bits(a) => {
                let same_size = a.dtype().size_bytes() == dtype.size_bytes();
                require(same_size && dtype != DType::Bool && a.dtype() != DType::Bool, "bits")
            }
        }
    }

    fn load(&mut self, tensor: TensorId, index: &[Ix], pad: Option<&Expr>, dtype: DType, scope: &Scope<'_>) -> Result<(), String> {
        self.reads(scope.stage.out, tensor);
        let decl = self.program.tensor(tensor);
        if decl.dtype != dtype || pad.is_some_and(|p| p.dtype() != dtype) {
            return Err(format!("a load or padding of `%{}` as `{dtype}`", decl.name));
        }
        if decl.dims.len() != index.len() {
            return Err(format!("`%{}` of rank {} is read with {} indices", decl.name, decl.dims.len(), index.len()));
        }
        for (axis, ix) in index.iter().enumerate() {
            let d = decl.dims[axis];
            match ix {
                Ix::Affine(a) => {
                    if !self.variables(a, scope) || pad.is_some() || scope.extents.contains(&0) || self.loops.iter().any(|l| l.1 == 0) {
                        continue;
                    }
                    let (lo, hi) = self.range(a, &scope.extents);
                    if lo < 0 || hi >= d as i64 {
                        return Err(format!("axis {axis} of `%{}`, of extent {d}, is read at {lo}..={hi}", decl.name));
                    }
                }
                Ix::Checked(e) | Ix::Clamped(e) if e.dtype() != DType::I64 => {
                    return Err(format!("`%{}` is indexed by `{}`", decl.name, e.dtype()));
                }
                Ix::Checked(_) | Ix::Clamped(_) => {}
            }
        }
        Ok(())
    }
}

fn outputs(items: &[Item], out: &mut Vec<TensorId>) {
    for item in items {
        match item {
            Item::Stage(s) => out.push(s.out),
            Item::Reshape { out: t, .. } => out.push(*t),
            Item::Repeat { items, .. } => outputs(items, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Builder, Place};

    fn errors(f: impl FnOnce(&mut Builder, TensorId) -> TensorId) -> String {
        let mut b = Builder::new();
        let x = b.operand("x", DType::F32, &[4]);
        let y = f(&mut b, x);
        verify(&b.finish(&[y])).into_iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_read_outside() {
        assert_eq!(
            errors(|b, x| b.compute(&[4], |b, at| b.load(x, [at[0].offset(1)]))),
            "`%t`: axis 0 of `%x`, of extent 4, is read at 1..=4"
        );
        assert_eq!(errors(|b, x| b.compute(&[4], |b, at| b.load_padded(x, [at[0].offset(1)], Expr::constant(DType::F32, 0.0)))), "");
        assert_eq!(errors(|b, x| b.compute(&[0], |b, at| b.load(x, [at[0].offset(9)]))), "");
    }

    #[test]
    fn a_write_outside_or_twice() {
        let write = |a: i64, c: i64| {
            errors(move |b, x| {
                let y = b.declare(DType::F32, &[7]);
                b.write(y, &[4], |b, at| (vec![at[0].times(a).offset(c)], b.load(x, at)));
                y
            })
        };
        assert_eq!(write(2, 0), "");
        assert_eq!(write(-2, 6), "");
        assert_eq!(write(2, 1), "`%t`: axis 0 of extent 7 is written at 1..=7");
        assert_eq!(write(0, 1), "`%t`: two points of the axes may write one element");
    }

    #[test]
    fn a_shuffled_write_is_injective() {
        let text = errors(|b, _| {
            let y = b.declare(DType::F32, &[6, 4]);
            b.write(y, &[2, 4, 3], |b, at| (vec![at[0].times(3).plus(&at[2]), at[1].clone()], b.load(TensorId(0), [&at[1]])));
            y
        });
        assert_eq!(text, "");
    }

    #[test]
    fn types() {
        let not = |e: &Expr| e.unary(UnaryOp::Not);
        assert_eq!(errors(|b, x| b.compute(&[4], |b, at| not(&b.load(x, at)))), "`%t`: Not of `f32`");
        let text = errors(|b, x| {
            let y = b.declare(DType::I32, &[4]);
            b.write(y, &[4], |b, at| (at.to_vec(), b.load(x, at)));
            y
        });
        assert_eq!(text, "`%t`: declared `i32`, computed as `f32`");
    }

    #[test]
    fn a_stage_reads_itself() {
        let stage = |offset: i64, reduce: bool| {
            errors(move |b, x| {
                let y = b.declare(DType::F32, &[4]);
                b.write(y, &[4], |b, at| (at.to_vec(), b.load(x, at)));
                if reduce {
                    let at = |at: &[Affine]| at.to_vec();
                    b.write_reduce(y, ReduceOp::Sum, &[4], &[2], at, |b, at, _| b.load(y, at), |_, _, acc| acc);
                } else {
                    b.write(y, &[2], |b, at| (at.to_vec(), b.load(y, [at[0].offset(offset)])));
                }
                y
            })
        };
        let overlap = "`%t`: reads elements of its own tensor that it may write elsewhere";
        assert_eq!(stage(0, false), "");
        assert_eq!(stage(1, false), overlap);
        assert_eq!(stage(2, false), "");
        assert_eq!(stage(0, true), overlap);
    }

    #[test]
    fn a_scatter_changes_what_was_written() {
        let scatter = |before: bool, reads: bool, cast: bool| {
            errors(|b, x| {
                let y = if before { b.copy(x) } else { b.declare(DType::F32, &[4]) };
                b.scatter(y, &[9], None, |b, at, old| {
                    let place = Expr::index(&at[0]);
                    (vec![Place::Data(if cast { place.cast(DType::I32) } else { place })], if reads { b.load(y, [0i64]) } else { old })
                });
                y
            })
        };
        assert_eq!(scatter(true, false, false), "");
        assert_eq!(scatter(false, false, false), "`%t`: a scatter into what nothing wrote before");
        assert_eq!(scatter(true, true, false), "`%t`: a scatter that reads its own tensor");
        assert_eq!(scatter(true, false, true), "`%t`: a place of type `i32`");
    }

    #[test]
    fn a_result_that_nothing_computes() {
        assert_eq!(errors(|b, _| b.declare(DType::F32, &[1])), "`%t`: a result that nothing computes");
    }
}

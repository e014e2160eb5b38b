//! Which registers a statement reads before it sets them, and sets: what decides the parameters of loop and join blocks.

use std::collections::HashMap;

use crate::nest::{Cond, Index, Reg, Stmt, for_each_operand};

/// A set of registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Regs(Vec<u64>);

impl Regs {
    pub(super) fn new(n_regs: usize) -> Self {
        Regs(vec![0; n_regs.div_ceil(64)])
    }

    pub(super) fn insert(&mut self, r: Reg) {
        self.0[r.0 as usize / 64] |= 1 << (r.0 % 64);
    }

    pub(super) fn remove(&mut self, r: Reg) {
        self.0[r.0 as usize / 64] &= !(1 << (r.0 % 64));
    }

    pub(super) fn contains(&self, r: Reg) -> bool {
        self.0[r.0 as usize / 64] >> (r.0 % 64) & 1 == 1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Reg> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &w)| (0..64).filter(move |b| w >> b & 1 == 1).map(move |b| Reg(i as u32 * 64 + b)))
    }

    fn zip(&self, other: &Regs, f: impl Fn(u64, u64) -> u64) -> Regs {
        Regs(self.0.iter().zip(&other.0).map(|(&a, &b)| f(a, b)).collect())
    }

    pub(super) fn union(&self, other: &Regs) -> Regs {
        self.zip(other, |a, b| a | b)
    }

    pub(super) fn intersection(&self, other: &Regs) -> Regs {
        self.zip(other, |a, b| a & b)
    }

    pub(super) fn without(&self, other: &Regs) -> Regs {
        self.zip(other, |a, b| a & !b)
    }
}

/// What a piece of code does with registers.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Read before it is set inside.
    pub(super) exposed: Regs,
    /// Set on every path.
    pub(super) always_set: Regs,
    /// Set on some path.
    pub(super) maybe_set: Regs,
}

/// The facts of every loop and branch of a kernel.
pub(super) struct Liveness {
    n_regs: usize,
    // By address of the statement, which the kernel keeps in place while it is compiled.
    facts: HashMap<*const Stmt, Facts>,
}

impl Liveness {
    pub(super) fn of(body: &[Stmt], n_regs: usize) -> Self {
        let mut liveness = Liveness { n_regs, facts: HashMap::new() };
        liveness.block(body);
        liveness
    }

    pub(super) fn none(&self) -> Regs {
        Regs::new(self.n_regs)
    }

    /// The facts of a loop or a branch.
    pub(super) fn facts(&self, stmt: &Stmt) -> &Facts {
        &self.facts[&std::ptr::from_ref(stmt)]
    }

    /// For every loop and branch of a block, last first: what is read after it, given what is read after the block.
    pub(super) fn live_after(&self, block: &[Stmt], after: &Regs) -> Vec<Regs> {
        let mut live = after.clone();
        let mut found = vec![];
        for stmt in block.iter().rev() {
            match stmt {
                Stmt::Loop(_) | Stmt::If { .. } => {
                    let facts = self.facts(stmt);
                    let before = live.without(&facts.always_set).union(&facts.exposed);
                    found.push(std::mem::replace(&mut live, before));
                }
                Stmt::Set { reg, op } => {
                    live.remove(*reg);
                    for_each_operand(op, |r| live.insert(r));
                }
                Stmt::Store { index, value, .. } => {
                    live.insert(*value);
                    for_each_dynamic(index, |r| live.insert(r));
                }
                Stmt::Prefetch { .. } => {}
            }
        }
        found
    }

    fn block(&mut self, block: &[Stmt]) -> Facts {
        let mut all = Facts { exposed: self.none(), always_set: self.none(), maybe_set: self.none() };
        for stmt in block {
            let read = |all: &mut Facts, r: Reg| {
                if !all.always_set.contains(r) {
                    all.exposed.insert(r);
                }
            };
            match stmt {
                Stmt::Set { reg, op } => {
                    for_each_operand(op, |r| read(&mut all, r));
                    all.always_set.insert(*reg);
                    all.maybe_set.insert(*reg);
                }
                Stmt::Store { index, value, .. } => {
                    read(&mut all, *value);
                    for_each_dynamic(index, |r| read(&mut all, r));
                }
                Stmt::Prefetch { .. } => {}
                Stmt::Loop(l) => {
                    let facts = self.block(&l.body);
                    self.join(&mut all, stmt, facts);
                }
                Stmt::If { cond, then, otherwise } => {
                    let (a, b) = (self.block(then), self.block(otherwise));
                    let mut exposed = a.exposed.union(&b.exposed);
                    if let Cond::Reg(r) = cond {
                        exposed.insert(*r);
                    }
                    let facts =
                        Facts { exposed, always_set: a.always_set.intersection(&b.always_set), maybe_set: a.maybe_set.union(&b.maybe_set) };
                    self.join(&mut all, stmt, facts);
                }
            }
        }
        all
    }

    fn join(&mut self, all: &mut Facts, stmt: &Stmt, facts: Facts) {
        all.exposed = all.exposed.union(&facts.exposed.without(&all.always_set));
        all.always_set = all.always_set.union(&facts.always_set);
        all.maybe_set = all.maybe_set.union(&facts.maybe_set);
        self.facts.insert(std::ptr::from_ref(stmt), facts);
    }
}

fn for_each_dynamic(index: &Index, f: impl FnMut(Reg)) {
    index.dynamic.iter().map(|d| d.0).for_each(f);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nest::{BinaryOp, Builder, Op, VecType};
    use crate::tensor::DType;

    #[test]
    fn an_accumulator_is_read_before_it_is_set_and_a_temporary_is_not() {
        let mut b = Builder::new("k", "");
        let ty = VecType::scalar(DType::F32);
        let acc = b.float(ty, 0.0);
        let mut temporary = acc;
        b.for_loop("i", 0..4, 1, |b, _| {
            temporary = b.binary(BinaryOp::Add, acc, acc);
            b.set(acc, Op::Copy(temporary));
        });
        let kernel = b.finish();
        let liveness = Liveness::of(&kernel.body, kernel.regs.len());
        let facts = liveness.facts(&kernel.body[1]);
        assert_eq!(facts.exposed.iter().collect::<Vec<_>>(), [acc]);
        assert!(facts.always_set.contains(temporary) && facts.maybe_set.contains(acc));
        assert_eq!(liveness.live_after(&kernel.body, &liveness.none()), [liveness.none()]);
    }
}

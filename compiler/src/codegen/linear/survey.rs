//! What is known of a nest's registers before its code is made: uses, definitions, constants; and runs of statements that are one
//! operation of a machine.

use std::collections::HashSet;

use crate::nest::{BufferId, Cond, Index, Kernel, Op, Reg, Scalar, Stmt, Var, for_each_operand};
use crate::tensor::DType;

/// Counts over a kernel.
#[derive(Debug)]
pub(in crate::codegen) struct Survey {
    /// How often each register is read.
    pub(in crate::codegen) uses: Vec<u32>,
    /// How often each register is set.
    pub(in crate::codegen) sets: Vec<u32>,
    /// The registers that are constants throughout.
    pub(in crate::codegen) constants: Vec<Option<Scalar>>,
    /// Variables whose value is asked for.
    pub(in crate::codegen) counted: HashSet<Var>,
}

impl Survey {
    /// Looks at a kernel.
    pub(in crate::codegen) fn of(kernel: &Kernel) -> Self {
        let n = kernel.regs.len();
        let mut s = Survey { uses: vec![0; n], sets: vec![0; n], constants: vec![None; n], counted: HashSet::new() };
        s.block(&kernel.body);
        for (c, &sets) in s.constants.iter_mut().zip(&s.sets) {
            if sets != 1 {
                *c = None;
            }
        }
        s
    }

    fn block(&mut self, block: &[Stmt]) {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => self.block(&l.body),
                Stmt::If { cond, then, otherwise } => {
                    match cond {
                        Cond::Reg(r) => self.uses[r.0 as usize] += 1,
                        Cond::Within(ranges) => self.counted.extend(ranges.iter().flat_map(|r| r.0.terms.iter().map(|t| t.0))),
                    }
                    self.block(then);
                    self.block(otherwise);
                }
                Stmt::Set { reg, op } => {
                    self.sets[reg.0 as usize] += 1;
                    if let Op::Const(c) = op {
                        self.constants[reg.0 as usize] = Some(*c);
                    }
                    if let Op::Index(a) = op {
                        self.counted.extend(a.terms.iter().map(|t| t.0));
                    }
                    for_each_operand(op, |r| self.uses[r.0 as usize] += 1);
                }
                Stmt::Store { index, value, .. } => {
                    self.uses[value.0 as usize] += 1;
                    index.dynamic.iter().for_each(|d| self.uses[d.0.0 as usize] += 1);
                }
                Stmt::Prefetch { .. } => {}
            }
        }
    }

    /// The tail that the statements begin with, if its scalars are used nowhere else.
    pub(in crate::codegen) fn tail<'k>(&self, block: &'k [Stmt], kernel: &Kernel) -> Option<Tail<'k>> {
        let tail = stored_tail(block, kernel)?;
        let private = |s: &Stmt| match s {
            Stmt::Set { reg, .. } => self.uses[reg.0 as usize] == 1 && self.sets[reg.0 as usize] == 1,
            _ => true,
        };
        block[..tail.n_statements()].iter().all(private).then_some(tail)
    }
}

/// A vector of words whose first lanes, at least two, are stored one by one to consecutive places.
#[derive(Debug)]
pub(in crate::codegen) struct Tail<'k> {
    pub(in crate::codegen) vector: Reg,
    pub(in crate::codegen) n: u32,
    /// Where the first goes.
    pub(in crate::codegen) buffer: BufferId,
    pub(in crate::codegen) index: &'k Index,
}

impl Tail<'_> {
    /// Each lane is taken and stored.
    pub(in crate::codegen) fn n_statements(&self) -> usize {
        2 * self.n as usize
    }
}

/// The tail that the statements begin with.
pub(in crate::codegen) fn stored_tail<'k>(block: &'k [Stmt], kernel: &Kernel) -> Option<Tail<'k>> {
    let Some(Stmt::Set { op: Op::Lane(vector, 0), .. }) = block.first() else { return None };
    let ty = kernel.regs[vector.0 as usize];
    if !matches!(ty.dtype, DType::F32 | DType::I32 | DType::U32) {
        return None;
    }
    let mut first: Option<(BufferId, &'k Index)> = None;
    let mut n = 0;
    for pair in block.as_chunks::<2>().0 {
        let [Stmt::Set { reg, op: Op::Lane(v, lane) }, Stmt::Store { buffer, index, value }] = pair else { break };
        if v != vector || *lane != n || value != reg || n >= ty.lanes || kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
            break;
        }
        match first {
            None => first = Some((*buffer, index)),
            Some((b, start)) => {
                if b != *buffer || start.dynamic != index.dynamic || start.affine.offset(n.into()) != index.affine {
                    break;
                }
            }
        }
        n += 1;
    }
    first.filter(|_| n >= 2).map(|(buffer, index)| Tail { vector: *vector, n, buffer, index })
}

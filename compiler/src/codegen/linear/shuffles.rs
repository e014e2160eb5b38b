//! Shuffles of which a machine has no instruction, made of single lanes: a nest to an equal nest.

use std::borrow::Cow;

use crate::nest::{Kernel, Loop, Op, Reg, Shuffle, Stmt, VecType, for_each_set};

/// A kernel whose only shuffles are of types that the machine `has` them of.
pub(in crate::codegen) fn spell_out<'k>(kernel: &'k Kernel, has: &dyn Fn(VecType) -> bool) -> Cow<'k, Kernel> {
    let mut some = false;
    for_each_set(&kernel.body, &mut |reg, op| some |= matches!(op, Op::Shuffle(..)) && !has(kernel.regs[reg.0 as usize]));
    if !some {
        return Cow::Borrowed(kernel);
    }
    let mut regs = kernel.regs.clone();
    let body = block(&kernel.body, &mut regs, has);
    Cow::Owned(Kernel { regs, body, ..kernel.clone() })
}

fn block(body: &[Stmt], regs: &mut Vec<VecType>, has: &dyn Fn(VecType) -> bool) -> Vec<Stmt> {
    let mut out = vec![];
    for stmt in body {
        match stmt {
            Stmt::Loop(l) => out.push(Stmt::Loop(Loop { body: block(&l.body, regs, has), ..l.clone() })),
            Stmt::If { cond, then, otherwise } => {
                out.push(Stmt::If { cond: cond.clone(), then: block(then, regs, has), otherwise: block(otherwise, regs, has) });
            }
            Stmt::Set { reg, op: Op::Shuffle(order, a, b) } if !has(regs[reg.0 as usize]) => {
                let lanes = (0..regs[reg.0 as usize].lanes).map(|i| lane(*reg, (*order, *a, *b), i, regs, &mut out)).collect();
                out.push(Stmt::Set { reg: *reg, op: Op::Pack(lanes) });
            }
            other => out.push(other.clone()),
        }
    }
    out
}

/// One lane of a shuffle, as a scalar.
fn lane(reg: Reg, (order, a, b): (Shuffle, Reg, Reg), i: u32, regs: &mut Vec<VecType>, out: &mut Vec<Stmt>) -> Reg {
    let VecType { dtype, lanes } = regs[reg.0 as usize];
    let from = order.source(i, lanes);
    let scalar = Reg(regs.len() as u32);
    regs.push(VecType::scalar(dtype));
    let op = if from < lanes { Op::Lane(a, from) } else { Op::Lane(b, from - lanes) };
    out.push(Stmt::Set { reg: scalar, op });
    scalar
}

//! What a machine has no instructions for, made of what it has: a nest to an equal nest.

use std::borrow::Cow;

use crate::nest::{Kernel, Loop, Op, Reg, Stmt, VecType, for_each_set};

/// A kernel under construction whose registers some operations have more of.
pub(super) struct Spelling {
    pub(super) regs: Vec<VecType>,
    pub(super) out: Vec<Stmt>,
}

impl Spelling {
    /// A fresh register that is set to something.
    pub(super) fn set(&mut self, ty: VecType, op: Op) -> Reg {
        let reg = Reg(self.regs.len() as u32);
        self.regs.push(ty);
        self.out.push(Stmt::Set { reg, op });
        reg
    }
}

/// A kernel in which operations of some kind are spelled out: those that are become what `spell` says, the others stay.
pub(super) fn spell_out<'k>(
    kernel: &'k Kernel,
    is_spelled: &dyn Fn(&Op, VecType) -> bool,
    spell: &dyn Fn(&mut Spelling, Reg, &Op),
) -> Cow<'k, Kernel> {
    let mut some = false;
    for_each_set(&kernel.body, &mut |reg, op| some |= is_spelled(op, kernel.regs[reg.0 as usize]));
    if !some {
        return Cow::Borrowed(kernel);
    }
    let mut s = Spelling { regs: kernel.regs.clone(), out: vec![] };
    let body = block(&mut s, &kernel.body, is_spelled, spell);
    Cow::Owned(Kernel { regs: s.regs, body, ..kernel.clone() })
}

fn block(s: &mut Spelling, body: &[Stmt], is_spelled: &dyn Fn(&Op, VecType) -> bool, spell: &dyn Fn(&mut Spelling, Reg, &Op)) -> Vec<Stmt> {
    let around = std::mem::take(&mut s.out);
    for stmt in body {
        let stmt = match stmt {
            Stmt::Loop(l) => Stmt::Loop(Loop { body: block(s, &l.body, is_spelled, spell), ..l.clone() }),
            Stmt::If { cond, then, otherwise } => {
                Stmt::If { cond: cond.clone(), then: block(s, then, is_spelled, spell), otherwise: block(s, otherwise, is_spelled, spell) }
            }
            Stmt::Set { reg, op } if is_spelled(op, s.regs[reg.0 as usize]) => {
                spell(s, *reg, op);
                continue;
            }
            other => other.clone(),
        };
        s.out.push(stmt);
    }
    std::mem::replace(&mut s.out, around)
}

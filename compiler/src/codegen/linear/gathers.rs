//! Gathers and checks of vectors that a machine has no instructions for, made of single lanes: a nest to an equal nest.

use std::borrow::Cow;

use crate::nest::{Kernel, Loop, Op, Reg, Stmt, VecType, for_each_set};
use crate::tensor::DType;

/// A kernel whose only gathers and checks of vectors are of types that the machine `has` them of.
pub(in crate::codegen) fn spell_out<'k>(kernel: &'k Kernel, has: &dyn Fn(VecType) -> bool) -> Cow<'k, Kernel> {
    let is_spelled = |op: &Op, ty: VecType| match op {
        Op::Gather { .. } => !has(ty),
        Op::Check(..) => ty.lanes > 1 && !has(ty),
        _ => false,
    };
    let mut some = false;
    for_each_set(&kernel.body, &mut |reg, op| some |= is_spelled(op, kernel.regs[reg.0 as usize]));
    if !some {
        return Cow::Borrowed(kernel);
    }
    let mut s = Spelling { regs: kernel.regs.clone(), is_spelled: &is_spelled };
    let body = s.block(&kernel.body);
    Cow::Owned(Kernel { regs: s.regs, body, ..kernel.clone() })
}

struct Spelling<'a> {
    regs: Vec<VecType>,
    is_spelled: &'a dyn Fn(&Op, VecType) -> bool,
}

impl Spelling<'_> {
    fn block(&mut self, body: &[Stmt]) -> Vec<Stmt> {
        let mut out = vec![];
        for stmt in body {
            match stmt {
                Stmt::Loop(l) => out.push(Stmt::Loop(Loop { body: self.block(&l.body), ..l.clone() })),
                Stmt::If { cond, then, otherwise } => {
                    out.push(Stmt::If { cond: cond.clone(), then: self.block(then), otherwise: self.block(otherwise) });
                }
                Stmt::Set { reg, op } if (self.is_spelled)(op, self.regs[reg.0 as usize]) => self.set(*reg, op, &mut out),
                other => out.push(other.clone()),
            }
        }
        out
    }

    fn scalar(&mut self, dtype: DType, op: Op, out: &mut Vec<Stmt>) -> Reg {
        let reg = Reg(self.regs.len() as u32);
        self.regs.push(VecType::scalar(dtype));
        out.push(Stmt::Set { reg, op });
        reg
    }

    /// One lane of a vector of integers, as an index.
    fn place(&mut self, from: Reg, lane: u32, out: &mut Vec<Stmt>) -> Reg {
        let dtype = self.regs[from.0 as usize].dtype;
        let scalar = self.scalar(dtype, Op::Lane(from, lane), out);
        if dtype == DType::I64 { scalar } else { self.scalar(DType::I64, Op::Convert(scalar), out) }
    }

    fn set(&mut self, reg: Reg, op: &Op, out: &mut Vec<Stmt>) {
        let VecType { dtype, lanes } = self.regs[reg.0 as usize];
        match op {
            Op::Gather { buffer, index } => {
                let (places, scalars) = index.spread().expect("the verifier has seen the places");
                let mut all = vec![];
                for lane in 0..lanes {
                    let mut index = scalars.clone();
                    index.dynamic.push((self.place(places, lane, out), 1));
                    all.push(self.scalar(dtype, Op::Load { buffer: *buffer, index }, out));
                }
                out.push(Stmt::Set { reg, op: Op::Pack(all) });
            }
            Op::Check(a, end) => {
                for lane in 0..lanes {
                    let place = self.place(*a, lane, out);
                    self.scalar(DType::I64, Op::Check(place, *end), out);
                }
                out.push(Stmt::Set { reg, op: Op::Copy(*a) });
            }
            _ => out.push(Stmt::Set { reg, op: op.clone() }),
        }
    }
}

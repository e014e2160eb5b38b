//! Shuffles of which a machine has no instruction, made of single lanes.

use std::borrow::Cow;

use super::spelled::{self, Spelling};
use crate::nest::{Kernel, Op, Reg, Stmt, VecType};

/// A kernel whose only shuffles are of types that the machine `has` them of.
pub(in crate::codegen) fn spell_out<'k>(kernel: &'k Kernel, has: &dyn Fn(VecType) -> bool) -> Cow<'k, Kernel> {
    spelled::spell_out(kernel, &|op, ty| matches!(op, Op::Shuffle(..)) && !has(ty), &by_lane)
}

fn by_lane(s: &mut Spelling, reg: Reg, op: &Op) {
    let &Op::Shuffle(order, a, b) = op else { unreachable!("only shuffles are spelled out") };
    let VecType { dtype, lanes } = s.regs[reg.0 as usize];
    let lane = |i: u32| {
        let from = order.source(i, lanes);
        let op = if from < lanes { Op::Lane(a, from) } else { Op::Lane(b, from - lanes) };
        s.set(VecType::scalar(dtype), op)
    };
    let lanes = (0..lanes).map(lane).collect();
    s.out.push(Stmt::Set { reg, op: Op::Pack(lanes) });
}

//! Gathers and checks of vectors that a machine has no instructions for, made of single lanes.

use std::borrow::Cow;

use super::spelled::{self, Spelling};
use crate::nest::{Kernel, Op, Reg, Stmt, VecType};
use crate::tensor::DType;

/// A kernel whose only gathers and checks of vectors are of types that the machine `has` them of.
pub(in crate::codegen) fn spell_out<'k>(kernel: &'k Kernel, has: &dyn Fn(VecType) -> bool) -> Cow<'k, Kernel> {
    let is_spelled = |op: &Op, ty: VecType| match op {
        Op::Gather { .. } => !has(ty),
        Op::Check(..) => ty.lanes > 1 && !has(ty),
        _ => false,
    };
    spelled::spell_out(kernel, &is_spelled, &by_lane)
}

/// One lane of a vector of integers, as an index.
fn place(s: &mut Spelling, from: Reg, lane: u32) -> Reg {
    let dtype = s.regs[from.0 as usize].dtype;
    let scalar = s.set(VecType::scalar(dtype), Op::Lane(from, lane));
    if dtype == DType::I64 { scalar } else { s.set(VecType::scalar(DType::I64), Op::Convert(scalar)) }
}

fn by_lane(s: &mut Spelling, reg: Reg, op: &Op) {
    let VecType { dtype, lanes } = s.regs[reg.0 as usize];
    let op = match op {
        Op::Gather { buffer, index } => {
            let (places, scalars) = index.spread().expect("the verifier has seen the places");
            let mut all = vec![];
            for lane in 0..lanes {
                let mut index = scalars.clone();
                index.dynamic.push((place(s, places, lane), 1));
                all.push(s.set(VecType::scalar(dtype), Op::Load { buffer: *buffer, index }));
            }
            Op::Pack(all)
        }
        Op::Check(a, end) => {
            for lane in 0..lanes {
                let place = place(s, *a, lane);
                s.set(VecType::scalar(DType::I64), Op::Check(place, *end));
            }
            Op::Copy(*a)
        }
        other => other.clone(),
    };
    s.out.push(Stmt::Set { reg, op });
}

//! Instructions of A64 before register allocation, and the registers that there are.

use super::code::{Code, Condition};
use crate::codegen::linear::list::{self, Instruction};
pub(super) use crate::codegen::linear::list::{Base, FAIL, Mem, Virtual};
use crate::codegen::linear::registers::File;

/// Which registers a virtual one may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// General purpose, 64 bits.
    General,
    /// Vectors of 128 bits; a scalar is its first lane.
    Vector,
}

/// An operand, in the order of the text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Operand {
    /// Written.
    Def(Virtual),
    /// Read.
    Use(Virtual),
    /// Read and written.
    Both(Virtual),
    /// Memory.
    Mem(Mem),
}

/// One instruction.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Inst {
    pub(super) code: Code,
    pub(super) operands: Vec<Operand>,
    /// A lane, a shift, a condition, a constant; 0 where there is none.
    pub(super) immediate: i64,
    /// Whether it works on two lanes, not four.
    pub(super) half: bool,
}

/// An entry of the list.
pub(super) type Step = list::Step<Inst>;
/// A function under construction.
pub(super) type Body = list::Body<Inst>;

impl Inst {
    pub(super) fn new(code: Code, operands: &[Operand], immediate: i64) -> Self {
        Inst { code, operands: operands.to_vec(), immediate, half: false }
    }
}

impl Instruction for Inst {
    type Class = Class;
    type Jump = Condition;

    fn for_each_register(&self, mut f: impl FnMut(Virtual, bool, bool)) {
        for operand in &self.operands {
            match *operand {
                Operand::Def(v) => f(v, false, true),
                Operand::Use(v) => f(v, true, false),
                Operand::Both(v) => f(v, true, true),
                Operand::Mem(m) => m.for_each_register(&mut f),
            }
        }
    }

    fn rename(&mut self, from: Virtual, to: Virtual) {
        let swap = |v: &mut Virtual| {
            if *v == from {
                *v = to;
            }
        };
        for operand in &mut self.operands {
            match operand {
                Operand::Def(v) | Operand::Use(v) | Operand::Both(v) => swap(v),
                Operand::Mem(m) => m.rename(swap),
            }
        }
    }

    fn copy(&self) -> Option<(Virtual, Virtual)> {
        match (self.code, &self.operands[..]) {
            (Code::Move | Code::MoveX, &[Operand::Def(to), Operand::Use(from)]) => Some((from, to)),
            _ => None,
        }
    }

    fn touches_slot(&self) -> bool {
        self.operands.iter().any(|o| matches!(o, Operand::Mem(m) if m.is_slot()))
    }

    fn always(jump: Condition) -> bool {
        jump == Condition::Always
    }
}

/// The registers of A64, in the order in which they are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers;

impl Registers {
    /// Numbers of general registers; the last ten belong to the caller. The frame pointer, the link register, the platform's
    /// register and two for linkers stay out of it.
    pub(super) const GENERAL: [u8; 26] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28];
    /// Numbers of vector registers; the lower halves of the last eight belong to the caller.
    pub(super) const VECTOR: [u8; 32] =
        [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12, 13, 14, 15];
    /// Positions of the first of each that must be saved.
    pub(super) const FIRST_SAVED: [usize; 2] = [16, 24];
}

impl File<Inst> for Registers {
    const N_BANKS: usize = 2;

    fn bank(class: Class) -> usize {
        match class {
            Class::General => 0,
            Class::Vector => 1,
        }
    }

    fn n_registers(&self, bank: usize) -> usize {
        [Registers::GENERAL.len(), Registers::VECTOR.len()][bank]
    }

    fn load_slot(&self, class: Class, to: Virtual, slot: usize) -> Inst {
        let code = if class == Class::General { Code::LoadX } else { Code::LoadQ };
        Inst::new(code, &[Operand::Def(to), Operand::Mem(Mem::slot(slot))], 0)
    }

    fn store_slot(&self, class: Class, slot: usize, from: Virtual) -> Inst {
        let code = if class == Class::General { Code::StoreX } else { Code::StoreQ };
        Inst::new(code, &[Operand::Use(from), Operand::Mem(Mem::slot(slot))], 0)
    }
}

//! The registers of x86-64.

use iced_x86::{Code, Register};

use super::Isa;
use super::inst::{Body, Class, Inst, Mem, Operand, View, Virtual};
use crate::codegen::linear::registers::{Allocation, File};

/// General registers in the order in which they are taken: the first four bring the parameters, the last six belong to the
/// caller and are saved.
const GENERAL: [Register; 15] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::RAX,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// Position in [`GENERAL`] of the first that must be saved.
const FIRST_SAVED: usize = 9;
/// The register for an operand; `None` for one that is never used.
pub(super) fn register(allocation: &Allocation, v: Virtual, view: View) -> Option<Register> {
    let n = allocation.position(v)?;
    Some(match view {
        View::X => Register::XMM0 + n as u32,
        View::Y => Register::YMM0 + n as u32,
        View::Z => Register::ZMM0 + n as u32,
        View::K => Register::K1 + n as u32,
        View::R64 => GENERAL[n],
        View::R32 => Register::EAX + (GENERAL[n] as u32 - Register::RAX as u32),
        View::R16 => Register::AX + (GENERAL[n] as u32 - Register::RAX as u32),
        View::R8 => low_byte(GENERAL[n]),
    })
}

/// Registers that the function must save, among those it uses.
pub(super) fn saved(allocation: &Allocation, body: &Body) -> Vec<Register> {
    let used = allocation.used::<Inst, Isa>(body, 0);
    (FIRST_SAVED..GENERAL.len()).filter(|&n| used >> n & 1 == 1).map(|n| GENERAL[n]).collect()
}

fn low_byte(r: Register) -> Register {
    match r {
        Register::RDI => Register::DIL,
        Register::RAX => Register::AL,
        Register::RCX => Register::CL,
        Register::RDX => Register::DL,
        Register::RSI => Register::SIL,
        Register::RBX => Register::BL,
        Register::RBP => Register::BPL,
        Register::R8 => Register::R8L,
        Register::R9 => Register::R9L,
        Register::R10 => Register::R10L,
        Register::R11 => Register::R11L,
        Register::R12 => Register::R12L,
        Register::R13 => Register::R13L,
        Register::R14 => Register::R14L,
        _ => Register::R15L,
    }
}

/// Code that moves a register of a class from memory, and to it.
fn moves(class: Class, isa: Isa) -> (Code, Code, View) {
    match class {
        Class::General => (Code::Mov_r64_rm64, Code::Mov_rm64_r64, View::R64),
        Class::Vector(lanes) => (super::forms::LOAD.code(isa, lanes), super::forms::STORE.code(isa, lanes), View::lanes(lanes)),
        Class::Mask => (Code::VEX_Kmovw_kr_km16, Code::VEX_Kmovw_m16_kr, View::K),
    }
}

impl Isa {
    fn slot(slot: usize) -> Operand {
        Operand::Mem(Mem::slot(slot), false)
    }
}

impl File<Inst> for Isa {
    const N_BANKS: usize = 3;

    fn bank(class: Class) -> usize {
        match class {
            Class::General => 0,
            Class::Vector(_) => 1,
            Class::Mask => 2,
        }
    }

    fn n_registers(&self, bank: usize) -> usize {
        match (bank, self) {
            (0, _) => GENERAL.len(),
            (1, Isa::V2 | Isa::V3) => 16,
            (1, Isa::V4) => 32,
            _ => 7,
        }
    }

    fn load_slot(&self, class: Class, to: Virtual, slot: usize) -> Inst {
        let (load, _, view) = moves(class, *self);
        Inst { code: load, operands: vec![Operand::Def(to, view), Isa::slot(slot)], mask: None }
    }

    fn store_slot(&self, class: Class, slot: usize, from: Virtual) -> Inst {
        let (_, store, view) = moves(class, *self);
        Inst { code: store, operands: vec![Isa::slot(slot), Operand::Use(from, view)], mask: None }
    }
}

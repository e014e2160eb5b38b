//! Instructions of x86-64 before register allocation: iced's operation codes over virtual registers.

use iced_x86::Code;

use crate::codegen::linear::list::{self, Instruction};
pub(super) use crate::codegen::linear::list::{Base, FAIL, Label, Mem, Virtual};

/// An entry of the list.
pub(super) type Step = list::Step<Inst>;

/// Which registers a virtual one may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// General purpose, 64 bits.
    General,
    /// Vectors of so many 32-bit lanes at most.
    Vector(u32),
    /// Masks of AVX-512.
    Mask,
}

/// The part of a register that an instruction names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// 128 bits.
    X,
    /// 256 bits.
    Y,
    /// 512 bits.
    Z,
    /// 64 bits.
    R64,
    /// 32 bits.
    R32,
    /// 16 bits.
    R16,
    /// 8 bits.
    R8,
    /// A mask.
    K,
}

impl View {
    /// The vector register for so many 32-bit lanes.
    pub(super) fn lanes(lanes: u32) -> Self {
        match lanes {
            16 => View::Z,
            8 => View::Y,
            _ => View::X,
        }
    }
}

/// An operand, in the order of the instruction.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Operand {
    /// Written.
    Def(Virtual, View),
    /// Read.
    Use(Virtual, View),
    /// Read and written.
    Both(Virtual, View),
    /// Memory; whether its one element is broadcast.
    Mem(Mem, bool),
    /// A single element of memory for each lane of a vector register, which says how many words of 32 bits it is from there.
    Places(Mem, Virtual, View),
    /// An immediate.
    Imm(i64),
}

/// One instruction.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Inst {
    pub(super) code: Code,
    pub(super) operands: Vec<Operand>,
    /// The mask, and whether lanes without it become zero; where they stay, the destination is `Both`.
    pub(super) mask: Option<(Virtual, bool)>,
}

/// A function under construction.
pub(super) type Body = list::Body<Inst>;

impl Body {
    pub(super) fn inst(&mut self, code: Code, operands: &[Operand]) {
        self.push(Step::Inst(Inst { code, operands: operands.to_vec(), mask: None }));
    }

    pub(super) fn masked(&mut self, code: Code, operands: &[Operand], mask: Virtual, zero: bool) {
        self.push(Step::Inst(Inst { code, operands: operands.to_vec(), mask: Some((mask, zero)) }));
    }
}

impl Instruction for Inst {
    type Class = Class;
    type Jump = Code;

    fn for_each_register(&self, mut f: impl FnMut(Virtual, bool, bool)) {
        for operand in &self.operands {
            match *operand {
                Operand::Def(v, _) => f(v, false, true),
                Operand::Use(v, _) => f(v, true, false),
                Operand::Both(v, _) => f(v, true, true),
                Operand::Mem(m, _) => m.for_each_register(&mut f),
                Operand::Places(m, v, _) => {
                    m.for_each_register(&mut f);
                    f(v, true, false);
                }
                Operand::Imm(_) => {}
            }
        }
        if let Some((v, _)) = self.mask {
            // A gather takes lanes out of its mask as it goes.
            f(v, true, self.operands.iter().any(|o| matches!(o, Operand::Places(..))));
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
                Operand::Def(v, _) | Operand::Use(v, _) | Operand::Both(v, _) => swap(v),
                Operand::Mem(m, _) => m.rename(swap),
                Operand::Places(m, v, _) => {
                    m.rename(swap);
                    swap(v);
                }
                Operand::Imm(_) => {}
            }
        }
        if let Some((v, _)) = &mut self.mask {
            swap(v);
        }
    }

    fn copy(&self) -> Option<(Virtual, Virtual)> {
        let moves = matches!(
            self.code,
            Code::Mov_r64_rm64
                | Code::Movaps_xmm_xmmm128
                | Code::VEX_Vmovaps_xmm_xmmm128
                | Code::VEX_Vmovaps_ymm_ymmm256
                | Code::EVEX_Vmovaps_xmm_k1z_xmmm128
                | Code::EVEX_Vmovaps_ymm_k1z_ymmm256
                | Code::EVEX_Vmovaps_zmm_k1z_zmmm512
                | Code::VEX_Kmovw_kr_km16
        );
        match (moves && self.mask.is_none(), &self.operands[..]) {
            (true, &[Operand::Def(to, _), Operand::Use(from, _)]) => Some((from, to)),
            _ => None,
        }
    }

    fn touches_slot(&self) -> bool {
        self.operands.iter().any(|o| matches!(o, Operand::Mem(m, _) if m.is_slot()))
    }

    fn always(jump: Code) -> bool {
        jump == Code::Jmp_rel32_64
    }
}

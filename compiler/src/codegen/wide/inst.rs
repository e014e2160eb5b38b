//! Instructions before register allocation: iced's operation codes over virtual registers, in one linear list with labels.

use std::collections::HashMap;

use iced_x86::Code;

/// A virtual register; mutable, any number of definitions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Virtual(pub(super) u32);

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

/// What a memory operand starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    /// An address in a register.
    Register(Virtual),
    /// An entry of the constants behind the code.
    Pool(usize),
    /// A spilled register.
    Slot(usize),
}

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mem {
    pub(super) base: Base,
    pub(super) index: Option<(Virtual, u32)>,
    pub(super) displacement: i64,
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

/// A place to jump to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Label(pub(super) usize);

/// An entry of the list.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    Inst(Inst),
    Label(Label),
    /// A jump; conditional unless the code is `Jmp_rel32_64`.
    Jump(Code, Label),
}

/// Where every function's failed checks go: behind its end.
pub(super) const FAIL: Label = Label(0);

/// A function under construction.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) steps: Vec<Step>,
    /// Loop depth of each step.
    pub(super) depths: Vec<u32>,
    pub(super) classes: Vec<Class>,
    pub(super) pool: Pool,
    pub(super) n_slots: usize,
    pub(super) n_labels: usize,
    depth: u32,
}

impl Body {
    pub(super) fn virtual_register(&mut self, class: Class) -> Virtual {
        self.classes.push(class);
        Virtual(self.classes.len() as u32 - 1)
    }

    pub(super) fn label(&mut self) -> Label {
        self.n_labels += 1;
        Label(self.n_labels)
    }

    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
        self.depths.push(self.depth);
    }

    pub(super) fn inst(&mut self, code: Code, operands: &[Operand]) {
        self.push(Step::Inst(Inst { code, operands: operands.to_vec(), mask: None }));
    }

    pub(super) fn masked(&mut self, code: Code, operands: &[Operand], mask: Virtual, zero: bool) {
        self.push(Step::Inst(Inst { code, operands: operands.to_vec(), mask: Some((mask, zero)) }));
    }

    /// Starts a loop; what follows is one deeper.
    pub(super) fn open_loop(&mut self) -> Label {
        let head = self.label();
        self.depth += 1;
        self.push(Step::Label(head));
        head
    }

    /// Ends a loop with a jump back to its head.
    pub(super) fn close_loop(&mut self, code: Code, head: Label) {
        self.push(Step::Jump(code, head));
        self.depth -= 1;
    }
}

impl Inst {
    /// Calls `f` with every virtual register, and whether it is read and written.
    pub(super) fn for_each_register(&self, mut f: impl FnMut(Virtual, bool, bool)) {
        for operand in &self.operands {
            match *operand {
                Operand::Def(v, _) => f(v, false, true),
                Operand::Use(v, _) => f(v, true, false),
                Operand::Both(v, _) => f(v, true, true),
                Operand::Mem(m, _) => {
                    if let Base::Register(v) = m.base {
                        f(v, true, false);
                    }
                    if let Some((v, _)) = m.index {
                        f(v, true, false);
                    }
                }
                Operand::Imm(_) => {}
            }
        }
        if let Some((v, _)) = self.mask {
            f(v, true, false);
        }
    }

    /// Replaces registers.
    pub(super) fn rename(&mut self, from: Virtual, to: Virtual) {
        let swap = |v: &mut Virtual| {
            if *v == from {
                *v = to;
            }
        };
        for operand in &mut self.operands {
            match operand {
                Operand::Def(v, _) | Operand::Use(v, _) | Operand::Both(v, _) => swap(v),
                Operand::Mem(m, _) => {
                    if let Base::Register(v) = &mut m.base {
                        swap(v);
                    }
                    if let Some((v, _)) = &mut m.index {
                        swap(v);
                    }
                }
                Operand::Imm(_) => {}
            }
        }
        if let Some((v, _)) = &mut self.mask {
            swap(v);
        }
    }

    /// Source and destination of a plain copy between registers.
    pub(super) fn copy(&self) -> Option<(Virtual, Virtual)> {
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
}

/// Constants behind a function's code.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Contents and alignment, which is the size.
    pub(super) entries: Vec<Vec<u8>>,
    known: HashMap<Vec<u8>, usize>,
}

impl Pool {
    /// The entry with these bytes; their number is a power of two.
    pub(super) fn entry(&mut self, bytes: Vec<u8>) -> usize {
        let entries = &mut self.entries;
        *self.known.entry(bytes).or_insert_with_key(|bytes| {
            entries.push(bytes.clone());
            entries.len() - 1
        })
    }
}

//! Where the values of the nest's registers are, and instructions over them in the form that the level has.
//!
//! A vector of `f32`, `i32` or `u32` has lanes of one word, as have narrower elements: integers extended by their sign, `f16`
//! and `bf16` as their bits. `f64`, `i64` and `u64` have lanes of two words. A condition is a mask register at
//! `x86-64-v4`, elsewhere a vector of words that are all ones or all zeros. Bytes and `i16` that only integer dot products read
//! stay as they are in memory: such a register is *packed*.

use super::forms::{self, Forms};
use super::inst::{Class, Mem, Operand, View, Virtual};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{Reg, Scalar, VecType};
use crate::tensor::DType;

/// A load that has not been emitted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// All lanes, from memory.
    Load(Mem),
    /// One element of memory in all lanes.
    Broadcast(Mem),
}

/// The bits of a constant in each lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bits {
    value: u64,
    wide: bool,
}

impl Bits {
    /// A lane of one word.
    pub(super) fn word(value: u32) -> Self {
        Bits { value: value.into(), wide: false }
    }

    /// A lane of two words.
    pub(super) fn long(value: u64) -> Self {
        Bits { value, wide: true }
    }

    pub(super) fn f32(x: f32) -> Self {
        Bits::word(x.to_bits())
    }

    pub(super) fn f64(x: f64) -> Self {
        Bits::long(x.to_bits())
    }

    pub(super) fn is_wide(self) -> bool {
        self.wide
    }

    pub(super) fn is_zero(self) -> bool {
        self.value == 0
    }

    /// The bytes of a lane of one word.
    pub(super) fn word_bytes(self) -> [u8; 4] {
        (self.value as u32).to_le_bytes()
    }

    /// As many words of it as asked for, at least one lane.
    fn bytes(self, words: u32) -> Vec<u8> {
        let lane = &self.value.to_le_bytes()[..if self.wide { 8 } else { 4 }];
        lane.iter().copied().cycle().take((4 * words as usize).max(lane.len())).collect()
    }
}

/// A value that is held as it is in memory, in lanes of one word.
pub(super) fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32)
}

/// An integer that is narrower than its lanes.
pub(super) fn is_narrow(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16)
}

/// An integer of 64 bits; as a scalar it is in a general register.
pub(super) fn is_long(dtype: DType) -> bool {
    matches!(dtype, DType::I64 | DType::U64)
}

/// A value with lanes of two words.
pub(super) fn is_wide(dtype: DType) -> bool {
    dtype.size_bytes() == 8
}

/// Words of a vector with so many lanes.
pub(super) fn words(ty: VecType) -> u32 {
    ty.lanes * if is_wide(ty.dtype) { 2 } else { 1 }
}

impl Select<'_> {
    pub(super) fn ty(&self, r: Reg) -> VecType {
        self.frame.kernel.regs[r.0 as usize]
    }

    /// Words of the vector that holds a register.
    pub(super) fn words(&self, r: Reg) -> u32 {
        let ty = self.ty(r);
        if self.packed[r.0 as usize] { ty.lanes * ty.dtype.size_bytes() as u32 / 4 } else { words(ty) }
    }

    pub(super) fn vector(&mut self, words: u32) -> Virtual {
        self.frame.body.virtual_register(Class::Vector(words.max(4)))
    }

    /// The virtual register of a register, whatever it holds now.
    pub(super) fn home(&mut self, r: Reg) -> Result<Virtual, Refused> {
        if let Some(v) = self.homes[r.0 as usize] {
            return Ok(v);
        }
        let (ty, words) = (self.ty(r), self.words(r));
        let class = match ty.dtype {
            _ if words > self.isa.lanes() => return refuse(format!("it holds {ty}")),
            d if is_long(d) && ty.lanes == 1 => Class::General,
            DType::Bool if self.isa == Isa::V4 => Class::Mask,
            _ => Class::Vector(words.max(4)),
        };
        let v = self.frame.body.virtual_register(class);
        self.homes[r.0 as usize] = Some(v);
        Ok(v)
    }

    /// Its virtual register, if it has one.
    pub(super) fn known_home(&self, r: Reg) -> Option<Virtual> {
        self.homes[r.0 as usize]
    }

    /// The value of a register that is a constant throughout the kernel.
    pub(super) fn constant(&self, r: Reg) -> Option<Scalar> {
        self.survey.constants[r.0 as usize]
    }

    /// The bits of a lane of a constant register, unless it is in a general register.
    pub(super) fn lane_constant(&self, r: Reg) -> Option<Bits> {
        let ty = self.ty(r);
        if is_long(ty.dtype) && ty.lanes == 1 {
            return None;
        }
        Some(self.bits_of(ty.dtype, self.packed[r.0 as usize], self.constant(r)?))
    }

    /// The bits of a lane that holds a scalar.
    pub(super) fn bits_of(&self, dtype: DType, packed: bool, c: Scalar) -> Bits {
        let (float, int) = match c {
            Scalar::Float(x) => (x, x as i64),
            Scalar::Int(x) => (x as f64, x),
        };
        match dtype {
            DType::F32 => Bits::f32(float as f32),
            DType::F64 => Bits::f64(float),
            DType::F16 => Bits::word(crate::tensor::round_f16(float).to_bits().into()),
            DType::BF16 => Bits::word(crate::tensor::round_bf16(float).to_bits().into()),
            DType::I64 | DType::U64 => Bits::long(int as u64),
            DType::Bool => Bits::word(if int != 0 { u32::MAX } else { 0 }),
            DType::I16 if packed => Bits::word(u32::from(int as u16) * 0x1_0001),
            _ if packed => Bits::word(u32::from_le_bytes([int as u8; 4])),
            _ => Bits::word(int as u32),
        }
    }

    /// Constant bytes as an operand that is not broadcast; their number is a power of two.
    pub(super) fn pool_bytes(&mut self, bytes: Vec<u8>) -> Operand {
        let entry = self.frame.body.pool.entry(bytes);
        Operand::Mem(Mem::pool(entry), false)
    }

    /// A constant as an operand of an instruction that has lanes of its size and broadcasts.
    pub(super) fn pool(&mut self, bits: Bits, words: u32) -> Operand {
        let broadcasts = self.isa == Isa::V4;
        let entry = self.frame.body.pool.entry(bits.bytes(if broadcasts { 1 } else { words.max(4) }));
        Operand::Mem(Mem::pool(entry), broadcasts)
    }

    /// A constant in a fresh register.
    pub(super) fn fill(&mut self, bits: Bits, words: u32) -> Virtual {
        let v = self.vector(words);
        self.fill_into(v, bits, words);
        v
    }

    pub(super) fn fill_into(&mut self, v: Virtual, bits: Bits, words: u32) {
        let view = View::lanes(words);
        if bits.is_zero() {
            // Reads nothing, whatever the register held: only the encoding names it as a source.
            let n = if self.isa == Isa::V2 { 2 } else { 3 };
            self.frame.body.inst(forms::XOR.code(self.isa, words), &[Operand::Def(v, view); 3][..n]);
            return;
        }
        let (forms, size) = match (self.isa, bits.wide) {
            (Isa::V2, _) => (forms::LOAD, 4),
            (_, true) => (forms::BROADCAST_LOAD_64, 1),
            (_, false) => (forms::BROADCAST_LOAD, 1),
        };
        let m = self.pool_bytes(bits.bytes(size));
        self.inst2(forms, words, v, m);
    }

    /// A register's value as the last source operand of an instruction over its lanes: in a register or in memory.
    pub(super) fn operand(&mut self, r: Reg) -> Result<Operand, Refused> {
        let words = self.words(r);
        if let Some(bits) = self.lane_constant(r) {
            return Ok(self.pool(bits, words));
        }
        if let Some((m, broadcast)) = self.memory_operand(r) {
            self.pending.remove(&r);
            return Ok(Operand::Mem(m, broadcast));
        }
        let v = self.value(r)?;
        Ok(Operand::Use(v, View::lanes(words)))
    }

    /// Whether [`Self::operand`] would be in memory.
    pub(super) fn in_memory(&self, r: Reg) -> bool {
        self.lane_constant(r).is_some() || self.memory_operand(r).is_some()
    }

    /// A load of the register that an instruction can do: not at `x86-64-v2`, where it would have to be aligned.
    fn memory_operand(&self, r: Reg) -> Option<(Mem, bool)> {
        let (ty, words) = (self.ty(r), self.words(r));
        let whole = self.packed[r.0 as usize] || is_word(ty.dtype) || is_wide(ty.dtype);
        match (self.pending.get(&r)?, self.isa) {
            (_, Isa::V2) => None,
            (&Pending::Load(m), _) if whole && words >= 4 => Some((m, false)),
            (&Pending::Load(m), Isa::V4) if whole && ty.lanes == 1 => Some((m, true)),
            (&Pending::Broadcast(m), Isa::V4) => Some((m, true)),
            _ => None,
        }
    }

    /// A register's value in a virtual register, which must not be changed.
    pub(super) fn value(&mut self, r: Reg) -> Result<Virtual, Refused> {
        let (ty, words) = (self.ty(r), self.words(r));
        if let Some(c) = self.constant(r) {
            return Ok(match (self.lane_constant(r), c) {
                (Some(bits), _) if ty.dtype == DType::Bool && self.isa == Isa::V4 => self.mask_constant(!bits.is_zero()),
                (Some(bits), _) => self.fill(bits, words),
                (None, Scalar::Int(x)) => {
                    let v = self.general();
                    self.set_general(v, x);
                    v
                }
                (None, Scalar::Float(_)) => return refuse(format!("a constant of {ty}")),
            });
        }
        let v = self.home(r)?;
        match self.pending.remove(&r) {
            Some(Pending::Load(m)) => self.load_now(v, r, m)?,
            Some(Pending::Broadcast(m)) => self.broadcast_load(v, words, is_wide(ty.dtype), m),
            None => {}
        }
        Ok(v)
    }

    /// An operand in a register.
    pub(super) fn in_register(&mut self, operand: Operand, words: u32) -> Virtual {
        match operand {
            Operand::Use(v, _) => v,
            operand => {
                let v = self.vector(words);
                match operand {
                    Operand::Mem(m, true) => self.broadcast_load(v, words, false, m),
                    operand => self.inst2(forms::LOAD, words, v, operand),
                }
                v
            }
        }
    }

    /// `to = from`, both vectors of so many words.
    pub(super) fn move_vector(&mut self, to: Virtual, from: Virtual, words: u32) {
        if to != from {
            self.inst2(forms::MOVE, words, to, Operand::Use(from, View::lanes(words)));
        }
    }

    /// `to = f(from)`.
    pub(super) fn inst2(&mut self, forms: Forms, words: u32, to: Virtual, from: Operand) {
        self.frame.body.inst(forms.code(self.isa, words), &[Operand::Def(to, View::lanes(words)), from]);
    }

    /// `to = f(from, constant)`.
    pub(super) fn inst2_imm(&mut self, forms: Forms, words: u32, to: Virtual, from: Operand, imm: i64) {
        self.frame.body.inst(forms.code(self.isa, words), &[Operand::Def(to, View::lanes(words)), from, Operand::Imm(imm)]);
    }

    /// `to = f(a, b)`.
    pub(super) fn inst3(&mut self, forms: Forms, words: u32, to: Virtual, a: Virtual, b: Operand) {
        self.inst3_with(forms, words, to, a, &[b]);
    }

    /// `to = f(a, b, constant)`.
    pub(super) fn inst3_imm(&mut self, forms: Forms, words: u32, to: Virtual, a: Virtual, b: Operand, imm: i64) {
        self.inst3_with(forms, words, to, a, &[b, Operand::Imm(imm)]);
    }

    /// A shift of lanes to the left or right by a constant.
    pub(super) fn shift(&mut self, forms: Forms, words: u32, to: Virtual, a: Virtual, by: i64) {
        self.inst3_with(forms, words, to, a, &[Operand::Imm(by)]);
    }

    /// `to = f(a, rest)`. Instructions of SSE overwrite their first source.
    fn inst3_with(&mut self, forms: Forms, words: u32, to: Virtual, a: Virtual, rest: &[Operand]) {
        let (code, view) = (forms.code(self.isa, words), View::lanes(words));
        if self.isa != Isa::V2 {
            let mut operands = vec![Operand::Def(to, view), Operand::Use(a, view)];
            operands.extend_from_slice(rest);
            self.frame.body.inst(code, &operands);
            return;
        }
        let needed = to != a && matches!(rest.first(), Some(&Operand::Use(b, _)) if b == to);
        let t = if needed { self.vector(words) } else { to };
        self.move_vector(t, a, words);
        let mut operands = vec![Operand::Both(t, view)];
        operands.extend_from_slice(rest);
        self.frame.body.inst(code, &operands);
        self.move_vector(to, t, words);
    }

    /// `to = f(a, b)`, whose operands may change places.
    pub(super) fn commutative(&mut self, forms: Forms, words: u32, to: Virtual, a: Virtual, b: Operand) {
        match b {
            Operand::Use(v, view) if v == to => self.inst3(forms, words, to, v, Operand::Use(a, view)),
            b => self.inst3(forms, words, to, a, b),
        }
    }
}

//! Loads and stores, and how far their addresses reach.

use super::code::Code;
use super::inst::{Base, Inst, Mem, Operand, Virtual};
use super::select::Select;
use super::word::reaches;
use crate::codegen::linear::flow::{At, Flow};
use crate::codegen::linear::{Refused, refuse};
use crate::nest::{BufferId, Index, Reg, VecType};
use crate::tensor::DType;

/// Load and store of so many words.
fn codes(words: u32) -> (Code, Code) {
    match words {
        1 => (Code::LoadS, Code::StoreS),
        2 => (Code::LoadD, Code::StoreD),
        _ => (Code::LoadQ, Code::StoreQ),
    }
}

/// Whether memory holds a value as registers do.
fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32)
}

impl<'k> Select<'k> {
    /// Where an access of so many bytes is.
    pub(super) fn memory(&mut self, at: At, bytes: u32) -> Mem {
        let mut base = at.base;
        if let Some((index, scale)) = at.index {
            base = self.scaled_sum(base, index, scale);
        }
        let reaches = reaches(at.displacement, bytes.into());
        let index = (!reaches).then(|| (self.hoisted_number(at.displacement), 1));
        Mem { base: Base::Register(base), index, displacement: if reaches { at.displacement } else { 0 } }
    }

    /// Loads a register that is not constant.
    pub(super) fn load(&mut self, reg: Reg, buffer: BufferId, index: &Index) -> Result<(), Refused> {
        let ty = self.ty(reg);
        if self.frame.kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
            return refuse(format!("a load of {ty} from a buffer of another type"));
        }
        let to = self.home(reg)?;
        let at = self.place(buffer, index)?;
        match ty {
            VecType { dtype: DType::I64, lanes: 1 } => {
                let m = self.memory(at, 8);
                self.inst(Code::LoadX, &[Operand::Def(to), Operand::Mem(m)]);
            }
            VecType { dtype, lanes } if is_word(dtype) => {
                let m = self.memory(at, 4 * lanes);
                self.inst(codes(lanes).0, &[Operand::Def(to), Operand::Mem(m)]);
            }
            _ => return refuse(format!("a load of {ty}")),
        }
        Ok(())
    }

    /// Loads neighbouring scalars into the lanes of a fresh register: two, or four.
    pub(super) fn load_lanes(&mut self, buffer: BufferId, index: &Index, n: u32) -> Result<Virtual, Refused> {
        let to = self.vector();
        let at = self.place(buffer, index)?;
        let m = self.memory(at, 4 * n);
        self.inst(codes(n).0, &[Operand::Def(to), Operand::Mem(m)]);
        Ok(to)
    }

    /// Loads two vectors that follow each other.
    pub(super) fn load_pair(&mut self, (first, second): (Reg, Reg), buffer: BufferId, index: &Index) -> Result<(), Refused> {
        let (a, b) = (self.home(first)?, self.home(second)?);
        let at = self.place(buffer, index)?;
        if at.index.is_none() && at.displacement % 16 == 0 && (-1024..1024).contains(&at.displacement) {
            let m = Mem::at(at.base, at.displacement);
            self.inst(Code::LoadPair, &[Operand::Def(a), Operand::Def(b), Operand::Mem(m)]);
            return Ok(());
        }
        for (to, by) in [(a, 0), (b, 16)] {
            let m = self.memory(At { displacement: at.displacement + by, ..at }, 16);
            self.inst(Code::LoadQ, &[Operand::Def(to), Operand::Mem(m)]);
        }
        Ok(())
    }

    /// Stores a register.
    pub(super) fn store(&mut self, buffer: BufferId, index: &Index, value: Reg) -> Result<(), Refused> {
        let ty = self.ty(value);
        if self.frame.kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
            return refuse(format!("a store of {ty} to a buffer of another type"));
        }
        match ty {
            VecType { dtype: DType::I64, lanes: 1 } => {
                let v = self.value(value)?;
                let at = self.place(buffer, index)?;
                let m = self.memory(at, 8);
                self.inst(Code::StoreX, &[Operand::Use(v), Operand::Mem(m)]);
                Ok(())
            }
            VecType { dtype, lanes } if is_word(dtype) => self.store_first(value, lanes, buffer, index),
            _ => refuse(format!("a store of {ty}")),
        }
    }

    /// Stores the first lanes of a vector of words.
    pub(super) fn store_first(&mut self, value: Reg, n: u32, buffer: BufferId, index: &Index) -> Result<(), Refused> {
        let v = self.value(value)?;
        let at = self.place(buffer, index)?;
        let (whole, single) = if n == 3 { (2, true) } else { (n, false) };
        let m = self.memory(at, 4 * whole);
        self.inst(codes(whole).1, &[Operand::Use(v), Operand::Mem(m)]);
        if single {
            let third = self.vector();
            self.inst_with(Code::LaneScalar, &[Operand::Def(third), Operand::Use(v)], 2);
            let m = self.memory(At { displacement: at.displacement + 8, ..at }, 4);
            self.inst(Code::StoreS, &[Operand::Use(third), Operand::Mem(m)]);
        }
        Ok(())
    }

    /// A constant of a word in all lanes, in a register that is set once, at the function's begin.
    pub(super) fn hoisted_bits(&mut self, bits: u32) -> Virtual {
        if let Some(&v) = self.bits.get(&bits) {
            return v;
        }
        let v = self.vector();
        let inst = self.fill(v, bits);
        self.hoisted.push(inst);
        self.bits.insert(bits, v);
        v
    }

    /// A number in a general register that is set once, at the function's begin.
    pub(super) fn hoisted_number(&mut self, x: i64) -> Virtual {
        if let Some(&v) = self.numbers.get(&x) {
            return v;
        }
        let v = self.general();
        self.hoisted.push(Inst::new(Code::SetX, &[Operand::Def(v)], x));
        self.numbers.insert(x, v);
        v
    }

    /// The instruction that puts a word into all lanes.
    pub(super) fn fill(&mut self, to: Virtual, bits: u32) -> Inst {
        if bits == 0 {
            return Inst::new(Code::Zeros, &[Operand::Def(to)], 0);
        }
        let entry = self.frame.body.pool.entry(bits.to_le_bytes().repeat(super::LANES as usize));
        Inst::new(Code::LoadQ, &[Operand::Def(to), Operand::Mem(Mem::pool(entry))], 0)
    }
}

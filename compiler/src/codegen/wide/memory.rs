//! Loads and stores: elements of any size, whole vectors, the first lanes of one.

use iced_x86::Code;

use super::forms;
use super::inst::{Mem, Operand, View, Virtual};
use super::operands::{Bits, is_long, is_wide, is_word, words};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{Reg, VecType};
use crate::tensor::DType;

impl Select<'_> {
    /// Emits the load of a register, of any type.
    pub(super) fn load_now(&mut self, to: Virtual, r: Reg, m: Mem) -> Result<(), Refused> {
        let ty = self.ty(r);
        if is_long(ty.dtype) && ty.lanes == 1 {
            self.frame.body.inst(Code::Mov_r64_rm64, &[Operand::Def(to, View::R64), Operand::Mem(m, false)]);
            return Ok(());
        }
        if self.packed[r.0 as usize] {
            self.load_bytes(to, ty.lanes * ty.dtype.size_bytes() as u32, m);
            return Ok(());
        }
        let words = words(ty);
        match ty.dtype {
            DType::Bool => self.load_bool(to, ty.lanes, m),
            d if is_word(d) || is_wide(d) => self.load_bytes(to, 4 * words, m),
            d if ty.lanes == 1 => {
                let t = self.general();
                let code = match d {
                    DType::I8 => Code::Movsx_r32_rm8,
                    DType::U8 => Code::Movzx_r32_rm8,
                    DType::I16 => Code::Movsx_r32_rm16,
                    _ => Code::Movzx_r32_rm16,
                };
                self.frame.body.inst(code, &[Operand::Def(t, View::R32), Operand::Mem(m, false)]);
                self.move_from_general(to, t);
            }
            d => self.load_narrow(to, d, words, m),
        }
        Ok(())
    }

    /// Elements of one or two bytes, in lanes of a word.
    pub(super) fn load_narrow(&mut self, to: Virtual, dtype: DType, words: u32, m: Mem) {
        let forms = match dtype {
            DType::I8 => forms::WIDEN_I8,
            DType::I16 => forms::WIDEN_I16,
            d if d.size_bytes() == 1 => forms::WIDEN_U8,
            _ => forms::WIDEN_U16,
        };
        let from = if words < 4 {
            let t = self.vector(4);
            self.load_bytes(t, words * dtype.size_bytes() as u32, m);
            Operand::Use(t, View::X)
        } else {
            Operand::Mem(m, false)
        };
        self.inst2(forms, words, to, from);
    }

    /// So many bytes as they are in memory, the number being a power of two.
    pub(super) fn load_bytes(&mut self, to: Virtual, n_bytes: u32, m: Mem) {
        let m = Operand::Mem(m, false);
        match n_bytes {
            1 | 2 => {
                let t = self.general();
                let code = if n_bytes == 1 { Code::Movzx_r32_rm8 } else { Code::Movzx_r32_rm16 };
                self.frame.body.inst(code, &[Operand::Def(t, View::R32), m]);
                self.move_from_general(to, t);
            }
            4 => self.inst2(forms::LOAD_SCALAR, 1, to, m),
            8 => self.inst2(forms::LOAD_PAIR, 1, to, m),
            _ => self.inst2(forms::LOAD, n_bytes / 4, to, m),
        }
    }

    /// The first bytes of a vector, their number being a power of two.
    pub(super) fn store_bytes(&mut self, v: Virtual, n_bytes: u32, m: Mem) {
        let m = Operand::Mem(m, false);
        match n_bytes {
            1 | 2 => {
                let t = self.general();
                self.move_to_general(t, v);
                self.store_low(t, n_bytes, m);
            }
            4 => self.frame.body.inst(forms::STORE_SCALAR.code(self.isa, 1), &[m, Operand::Use(v, View::X)]),
            8 => self.frame.body.inst(forms::STORE_PAIR.code(self.isa, 1), &[m, Operand::Use(v, View::X)]),
            _ => self.frame.body.inst(forms::STORE.code(self.isa, n_bytes / 4), &[m, Operand::Use(v, View::lanes(n_bytes / 4))]),
        }
    }

    /// The lowest byte or two of a general register.
    pub(super) fn store_low(&mut self, v: Virtual, n_bytes: u32, m: Operand) {
        if n_bytes == 1 {
            self.frame.body.inst(Code::Mov_rm8_r8, &[m, Operand::Use(v, View::R8)]);
        } else {
            self.frame.body.inst(Code::Mov_rm16_r16, &[m, Operand::Use(v, View::R16)]);
        }
    }

    pub(super) fn broadcast_load(&mut self, to: Virtual, words: u32, wide: bool, m: Mem) {
        let m = Operand::Mem(m, false);
        if wide {
            self.inst2(forms::BROADCAST_LOAD_64, words, to, m);
        } else if self.isa == Isa::V2 {
            self.inst2(forms::LOAD_SCALAR, 1, to, m);
            self.inst2_imm(forms::PERMUTE, 4, to, Operand::Use(to, View::X), 0);
        } else {
            self.inst2(forms::BROADCAST_LOAD, words, to, m);
        }
    }

    pub(super) fn store(&mut self, v: Virtual, r: Reg, m: Mem) -> Result<(), Refused> {
        let ty = self.ty(r);
        if is_long(ty.dtype) && ty.lanes == 1 {
            self.frame.body.inst(Code::Mov_rm64_r64, &[Operand::Mem(m, false), Operand::Use(v, View::R64)]);
            return Ok(());
        }
        if self.packed[r.0 as usize] {
            self.store_bytes(v, ty.lanes * ty.dtype.size_bytes() as u32, m);
            return Ok(());
        }
        match ty.dtype {
            DType::Bool if ty.lanes == 1 => {
                let t = self.bool_bit_of(v);
                self.store_low(t, 1, Operand::Mem(m, false));
            }
            DType::Bool => {
                let t = self.vector(ty.lanes);
                self.mask_to_lanes(t, ty.lanes, v, Bits::word(1));
                self.store_narrow(t, VecType { dtype: DType::U8, lanes: ty.lanes }, m);
            }
            d if is_word(d) || is_wide(d) => self.store_bytes(v, 4 * words(ty), m),
            d if d.size_bytes() < 4 => self.store_narrow(v, ty, m),
            _ => return refuse(format!("a store of {ty}")),
        }
        Ok(())
    }

    /// Stores the low bytes of every word.
    fn store_narrow(&mut self, v: Virtual, ty: VecType, m: Mem) {
        let size = ty.dtype.size_bytes() as u32;
        if ty.lanes >= 4 && self.isa == Isa::V4 {
            let forms = if size == 1 { forms::NARROW_8 } else { forms::NARROW_16 };
            let code = forms.code(self.isa, ty.lanes);
            self.frame.body.inst(code, &[Operand::Mem(m, false), Operand::Use(v, View::lanes(ty.lanes))]);
            return;
        }
        let t = if ty.lanes == 1 { v } else { self.narrow(v, ty.lanes, size) };
        self.store_bytes(t, ty.lanes * size, m);
    }

    /// The low one or two bytes of every word, side by side.
    pub(super) fn narrow(&mut self, v: Virtual, lanes: u32, size: u32) -> Virtual {
        let t = self.vector(4);
        if self.isa == Isa::V4 {
            let forms = if size == 1 { forms::NARROW_8 } else { forms::NARROW_16 };
            let code = forms.code(self.isa, lanes);
            // Sixteen lanes of two bytes are a vector of 256 bits.
            let to = if lanes * size == 32 { self.vector(8) } else { t };
            let view = View::lanes(if lanes * size == 32 { 8 } else { 4 });
            self.frame.body.inst(code, &[Operand::Def(to, view), Operand::Use(v, View::lanes(lanes))]);
            return to;
        }
        let order: Vec<u8> = (0..16).map(|i| if i < 4 * size { (i / size * 4 + i % size) as u8 } else { 0x80 }).collect();
        let order = order.repeat(lanes.max(4) as usize / 4);
        let order = self.pool_bytes(order);
        if lanes <= 4 {
            self.inst3(forms::SHUFFLE_BYTES, 4, t, v, order);
            return t;
        }
        let shuffled = self.vector(8);
        self.inst3(forms::SHUFFLE_BYTES, 8, shuffled, v, order);
        if size == 2 {
            let both = self.vector(8);
            self.inst2_imm(forms::PERMUTE_64, 8, both, Operand::Use(shuffled, View::Y), 8);
            return both;
        }
        let high = self.vector(4);
        self.quarter(high, shuffled, 8, 1);
        self.inst3(forms::LOW_PAIRS, 4, t, shuffled, Operand::Use(high, View::X));
        t
    }

    /// Stores the first `n` lanes of a word each.
    pub(super) fn store_first(&mut self, v: Virtual, lanes: u32, n: u32, m: Mem) {
        let (mut v, mut n, mut m) = (v, n, m);
        if self.isa == Isa::V4 && lanes >= 4 {
            let mask = self.lanes_mask(0, n);
            let code = forms::STORE.code(self.isa, lanes);
            self.frame.body.masked(code, &[Operand::Mem(m, false), Operand::Use(v, View::lanes(lanes))], mask, false);
            return;
        }
        if n == 8 || n == 4 && lanes == 4 {
            self.store_bytes(v, 4 * n, m);
            return;
        }
        if n >= 4 {
            self.store_bytes(v, 16, m);
            let high = self.vector(4);
            self.quarter(high, v, 8, 1);
            (v, n, m.displacement) = (high, n - 4, m.displacement + 16);
        }
        if n >= 2 {
            self.store_bytes(v, 8, m);
            let high = self.vector(4);
            self.inst3(forms::HIGH_TO_LOW, 4, high, v, Operand::Use(v, View::X));
            (v, n, m.displacement) = (high, n - 2, m.displacement + 8);
        }
        if n == 1 {
            self.store_bytes(v, 4, m);
        }
    }

    /// A vector from a general register's 32 bits.
    pub(super) fn move_from_general(&mut self, to: Virtual, from: Virtual) {
        self.frame.body.inst(forms::FROM_GPR.code(self.isa, 1), &[Operand::Def(to, View::X), Operand::Use(from, View::R32)]);
    }

    pub(super) fn move_to_general(&mut self, to: Virtual, from: Virtual) {
        self.frame.body.inst(forms::TO_GPR.code(self.isa, 1), &[Operand::Def(to, View::R32), Operand::Use(from, View::X)]);
    }

    /// A vector from a general register's 64 bits.
    pub(super) fn move_from_general_64(&mut self, to: Virtual, from: Virtual) {
        self.frame.body.inst(forms::FROM_GPR_64.code(self.isa, 1), &[Operand::Def(to, View::X), Operand::Use(from, View::R64)]);
    }

    pub(super) fn move_to_general_64(&mut self, to: Virtual, from: Virtual) {
        self.frame.body.inst(forms::TO_GPR_64.code(self.isa, 1), &[Operand::Def(to, View::R64), Operand::Use(from, View::X)]);
    }
}

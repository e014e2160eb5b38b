//! Lanes of vectors: broadcasts, single lanes, vectors of scalars, and all lanes combined.

use super::forms;
use super::inst::{Mem, Operand, View, Virtual};
use super::operands::{Bits, Pending, is_long, is_wide, is_word, words};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{BinaryOp, Reg, VecType};
use crate::tensor::DType;

/// Lanes of a vector that are consecutive in memory.
#[derive(Clone, Copy)]
struct Run {
    /// Where the first lane of the vector would be.
    memory: Mem,
    /// The first of these lanes.
    first: u32,
    n: u32,
    /// What is in the others.
    fill: Bits,
}

impl Select<'_> {
    /// The first lane of a vector in every lane.
    pub(super) fn splat(&mut self, to: Virtual, from: Virtual, words: u32, wide: bool) {
        let from = Operand::Use(from, View::X);
        match self.isa {
            _ if wide => self.inst2(forms::BROADCAST_64, words, to, from),
            Isa::V2 => self.inst2_imm(forms::PERMUTE, 4, to, from, 0),
            _ => self.inst2(forms::BROADCAST, words, to, from),
        }
    }

    /// A scalar register in every lane of a vector that is not of conditions.
    pub(super) fn splat_register(&mut self, to: Virtual, ty: VecType, a: Reg) -> Result<(), Refused> {
        let (words, wide) = (words(ty), is_wide(ty.dtype));
        if let Some(c) = self.constant(a) {
            let bits = self.bits_of(ty.dtype, false, c);
            self.fill_into(to, bits, words);
        } else if let (Some(&Pending::Load(m)), true) = (self.pending.get(&a), is_word(ty.dtype) || wide) {
            self.pending.remove(&a);
            self.broadcast_load(to, words, wide, m);
        } else if is_long(ty.dtype) {
            let (v, t) = (self.value(a)?, self.vector(4));
            self.move_from_general_64(t, v);
            self.splat(to, t, words, true);
        } else {
            let v = self.value(a)?;
            self.splat(to, v, words, wide);
        }
        Ok(())
    }

    /// Four words of a vector, from a multiple of four.
    pub(super) fn quarter(&mut self, to: Virtual, v: Virtual, words: u32, n: u32) {
        let code = forms::EXTRACT_QUARTER.code(self.isa, words);
        self.frame.body.inst(code, &[Operand::Def(to, View::X), Operand::Use(v, View::lanes(words)), Operand::Imm(n.into())]);
    }

    /// The word of a vector, and what follows it in its lane, as the first.
    pub(super) fn lane(&mut self, to: Virtual, v: Virtual, words: u32, word: u32) {
        let mut v = v;
        if word >= 4 {
            let t = if word.is_multiple_of(4) { to } else { self.vector(4) };
            self.quarter(t, v, words, word / 4);
            v = t;
        }
        let order = match word % 4 {
            0 => return self.move_vector(to, v, 4),
            1 => 0x55,
            // Two words, the lane of a longer element.
            2 => 0xee,
            _ => 0xff,
        };
        self.inst2_imm(forms::PERMUTE, 4, to, Operand::Use(v, View::X), order);
    }

    /// One lane of a vector that is not of conditions, as a scalar.
    pub(super) fn lane_register(&mut self, to: Virtual, a: Reg, lane: u32) -> Result<(), Refused> {
        let ty = self.ty(a);
        let v = self.value(a)?;
        if is_long(ty.dtype) {
            if ty.lanes == 1 {
                self.move_general(to, v);
            } else {
                self.long_lane(to, v, words(ty), lane);
            }
        } else {
            self.lane(to, v, words(ty), lane * words(ty) / ty.lanes);
        }
        Ok(())
    }

    /// One lane of 64 bits, in a general register.
    pub(super) fn long_lane(&mut self, to: Virtual, v: Virtual, words: u32, lane: u32) {
        let mut v = v;
        if lane >= 2 {
            let t = self.vector(4);
            self.quarter(t, v, words, lane / 2);
            v = t;
        }
        if lane.is_multiple_of(2) {
            self.move_to_general_64(to, v);
        } else {
            let code = forms::EXTRACT_64.code(self.isa, 1);
            self.frame.body.inst(code, &[Operand::Def(to, View::R64), Operand::Use(v, View::X), Operand::Imm(1)]);
        }
    }

    /// Lanes that are consecutive in memory, the others being one constant: where the first of all lanes would be, the first of these, how many
    /// they are, and the constant, 0 if there are no others.
    fn packed_run(&self, regs: &[Reg]) -> Option<Run> {
        let mem = |r: Reg| match self.pending.get(&r) {
            Some(&Pending::Load(m)) if is_word(self.ty(r).dtype) => Some(m),
            _ => None,
        };
        let begin = regs.iter().position(|&r| mem(r).is_some())?;
        let memory = mem(regs[begin])?;
        let follows = |&(i, &r): &(usize, &Reg)| mem(r) == Some(Mem { displacement: memory.displacement + 4 * i as i64, ..memory });
        let n = regs[begin..].iter().enumerate().take_while(follows).count();
        let mut others = regs[..begin].iter().chain(&regs[begin + n..]).map(|&r| self.lane_constant(r));
        let fill = others.next().unwrap_or(Some(Bits::word(0)))?;
        let memory = Mem { displacement: memory.displacement - 4 * begin as i64, ..memory };
        (n > 1 && others.all(|other| other == Some(fill))).then_some(Run { memory, first: begin as u32, n: n as u32, fill })
    }

    /// Some of four or more lanes from memory; false, and nothing is emitted, where that is no matter of a few instructions.
    fn load_run(&mut self, to: Virtual, words: u32, Run { memory, first, n, fill }: Run) -> bool {
        let view = View::lanes(words);
        match self.isa {
            _ if n == words => self.load_bytes(to, 4 * words, memory),
            Isa::V4 => {
                let mask = self.lanes_mask(first, n);
                let zeroing = fill.is_zero();
                let to = if zeroing {
                    Operand::Def(to, view)
                } else {
                    self.fill_into(to, fill, words);
                    Operand::Both(to, view)
                };
                self.frame.body.masked(forms::LOAD.code(self.isa, words), &[to, Operand::Mem(memory, false)], mask, zeroing);
            }
            Isa::V3 => {
                let is_read = |i: u32| (first..first + n).contains(&i);
                let bytes = (0..words).flat_map(|i| (if is_read(i) { u32::MAX } else { 0 }).to_le_bytes()).collect();
                let (mask, place) = (self.vector(words), self.pool_bytes(bytes));
                self.inst2(forms::LOAD, words, mask, place);
                let read = if fill.is_zero() { to } else { self.vector(words) };
                self.inst3(forms::MASKED_LOAD, words, read, mask, Operand::Mem(memory, false));
                if !fill.is_zero() {
                    let other = self.fill(fill, words);
                    self.blend(to, words, false, mask, Operand::Use(read, view), other);
                }
            }
            Isa::V2 if first == 0 && fill.is_zero() => {
                self.load_bytes(to, 8, memory);
                if n == 3 {
                    let third = Mem { displacement: memory.displacement + 8, ..memory };
                    self.inst3_imm(forms::INSERT, 4, to, to, Operand::Mem(third, false), 0x20);
                }
            }
            Isa::V2 => return false,
        }
        true
    }

    /// Scalars as the lanes of a vector that is not of conditions in masks.
    pub(super) fn pack(&mut self, to: Virtual, regs: &[Reg], ty: VecType) -> Result<(), Refused> {
        let words = words(ty);
        if is_long(ty.dtype) {
            let lanes = regs.iter().map(|&r| self.value(r)).collect::<Result<Vec<_>, _>>()?;
            if let [one] = lanes[..] {
                self.move_general(to, one);
            } else {
                self.pack_long(to, &lanes);
            }
            return Ok(());
        }
        if ty.lanes == 1 {
            let v = self.value(regs[0])?;
            self.move_vector(to, v, words);
            return Ok(());
        }
        if ty.lanes >= 4
            && let Some(run) = self.packed_run(regs)
            && self.load_run(to, words, run)
        {
            for r in &regs[run.first as usize..][..run.n as usize] {
                self.pending.remove(r);
            }
            return Ok(());
        }
        if let (true, Some(all)) = (is_word(ty.dtype), regs.iter().map(|&r| self.lane_constant(r)).collect::<Option<Vec<_>>>()) {
            let mut bytes: Vec<u8> = all.into_iter().flat_map(Bits::word_bytes).collect();
            bytes.resize(bytes.len().max(16), 0);
            let place = self.pool_bytes(bytes);
            self.inst2(forms::LOAD, words, to, place);
            return Ok(());
        }
        let mut quarters = vec![];
        for quarter in regs.chunks(if is_wide(ty.dtype) { 2 } else { 4 }) {
            let mut x = self.value(quarter[0])?;
            for (i, &r) in quarter.iter().enumerate().skip(1) {
                let t = self.vector(4);
                if is_wide(ty.dtype) {
                    let from = self.value(r)?;
                    self.inst3(forms::LOW_64, 4, t, x, Operand::Use(from, View::X));
                } else {
                    let from = match self.pending.get(&r) {
                        Some(&Pending::Load(m)) if is_word(ty.dtype) => {
                            self.pending.remove(&r);
                            Operand::Mem(m, false)
                        }
                        _ => Operand::Use(self.value(r)?, View::X),
                    };
                    self.inst3_imm(forms::INSERT, 4, t, x, from, 16 * i as i64);
                }
                x = t;
            }
            quarters.push(x);
        }
        self.join(to, &quarters, words);
        Ok(())
    }

    /// A vector of quarters of four words.
    pub(super) fn join(&mut self, to: Virtual, quarters: &[Virtual], words: u32) {
        let mut whole = quarters[0];
        for (q, &x) in quarters.iter().enumerate().skip(1) {
            let t = self.vector(words);
            self.inst3_imm(forms::INSERT_QUARTER, words, t, whole, Operand::Use(x, View::X), q as i64);
            whole = t;
        }
        self.move_vector(to, whole, words);
    }

    /// A vector of general registers.
    pub(super) fn pack_long(&mut self, to: Virtual, lanes: &[Virtual]) {
        let quarters: Vec<Virtual> = lanes.chunks(2).map(|pair| self.pair(pair)).collect();
        self.join(to, &quarters, 2 * lanes.len() as u32);
    }

    /// One or two general registers in a vector.
    pub(super) fn pair(&mut self, lanes: &[Virtual]) -> Virtual {
        let x = self.vector(4);
        self.move_from_general_64(x, lanes[0]);
        match lanes.get(1) {
            Some(&second) => {
                let t = self.vector(4);
                self.inst3_imm(forms::INSERT_64, 4, t, x, Operand::Use(second, View::R64), 1);
                t
            }
            None => x,
        }
    }

    /// Lanes combined as the interpreter does: the upper half with the lower until one is left.
    pub(super) fn horizontal(&mut self, to: Virtual, ty: VecType, op: BinaryOp, a: Reg) -> Result<(), Refused> {
        let mut v = self.value(a)?;
        let mut n = self.words(a);
        if is_long(ty.dtype) && self.ty(a).lanes == 1 {
            self.move_general(to, v);
            return Ok(());
        }
        if self.ty(a).dtype == DType::Bool {
            return refuse("conditions combined");
        }
        let (wide, half) = (is_wide(ty.dtype), ty.dtype.is_half());
        let least = if wide { 2 } else { 1 };
        while n > least {
            let high = self.vector(n / 2);
            match n {
                16 => {
                    let code = forms::EXTRACT_HALF.code(self.isa, 16);
                    self.frame.body.inst(code, &[Operand::Def(high, View::Y), Operand::Use(v, View::Z), Operand::Imm(1)]);
                }
                8 => self.quarter(high, v, 8, 1),
                4 => self.lane(high, v, 4, 2),
                _ => self.lane(high, v, 4, 1),
            }
            n /= 2;
            let sum = self.vector(n);
            let part = VecType { dtype: ty.dtype, lanes: n / least };
            if half {
                self.half_binary(sum, part, op, v, high)?;
            } else {
                self.binary_values(sum, part, op, v, high)?;
            }
            v = sum;
        }
        if is_long(ty.dtype) {
            self.move_to_general_64(to, v);
        } else {
            self.move_vector(to, v, least);
        }
        Ok(())
    }
}

//! Words of two vectors: within every four, within and across the halves of 256 bits, and any at `x86-64-v4`.

use super::forms::{self, Forms};
use super::inst::{Mem, Operand, View, Virtual};
use super::operands::Pending;
use super::select::Select;
use super::{Isa, Refused};
use crate::nest::{Reg, Shuffle};

/// `shufps` that takes the words of even number of each operand, and of odd number.
const EVEN: i64 = 0x88;
const ODD: i64 = 0xdd;

impl Select<'_> {
    /// A vector of words of two vectors that are as long.
    pub(super) fn shuffle(&mut self, to: Virtual, words: u32, order: Shuffle, a: Reg, b: Reg) -> Result<(), Refused> {
        match (order, words) {
            (_, 2) => self.shuffle_two(to, order, a, b),
            (Shuffle::ZipLow, 4) | (Shuffle::ZipLow4, _) => self.of_both(forms::LOW_PAIRS, to, words, a, b),
            (Shuffle::ZipHigh, 4) | (Shuffle::ZipHigh4, _) => self.of_both(forms::HIGH_PAIRS, to, words, a, b),
            (Shuffle::LowHalves, 4) => self.of_both(forms::LOW_64, to, 4, a, b),
            (Shuffle::HighHalves, 4) => self.of_both(forms::HIGH_64, to, 4, a, b),
            (Shuffle::Even, 4) => self.of_both_by(forms::PAIRS, to, 4, (a, b), EVEN),
            (Shuffle::Odd, 4) => self.of_both_by(forms::PAIRS, to, 4, (a, b), ODD),
            (Shuffle::Next | Shuffle::Previous, _) => self.shifted(to, words, order.source(0, words), a, b),
            _ if self.isa == Isa::V4 => self.shuffle_any(to, words, order, a, b),
            (Shuffle::LowHalves, _) => self.halves(to, a, b, 0),
            (Shuffle::HighHalves, _) => self.halves(to, a, b, 1),
            (Shuffle::ZipLow | Shuffle::ZipHigh, _) => {
                let (a, b) = (self.value(a)?, Operand::Use(self.value(b)?, View::Y));
                let (low, high) = (self.vector(8), self.vector(8));
                self.inst3(forms::LOW_PAIRS, 8, low, a, b);
                self.inst3(forms::HIGH_PAIRS, 8, high, a, b);
                let which = if order == Shuffle::ZipLow { 0x20 } else { 0x31 };
                self.inst3_imm(forms::HALVES, 8, to, low, Operand::Use(high, View::Y), which);
                Ok(())
            }
            (Shuffle::Even | Shuffle::Odd, _) => {
                // A pair of each operand in each half.
                let t = self.vector(8);
                self.of_both_by(forms::PAIRS, t, 8, (a, b), if order == Shuffle::Even { EVEN } else { ODD })?;
                self.inst2_imm(forms::PERMUTE_64, 8, to, Operand::Use(t, View::Y), 0xd8);
                Ok(())
            }
        }
    }

    fn of_both(&mut self, forms: Forms, to: Virtual, words: u32, a: Reg, b: Reg) -> Result<(), Refused> {
        let (a, b) = (self.value(a)?, self.operand(b)?);
        self.inst3(forms, words, to, a, b);
        Ok(())
    }

    fn of_both_by(&mut self, forms: Forms, to: Virtual, words: u32, (a, b): (Reg, Reg), imm: i64) -> Result<(), Refused> {
        let (a, b) = (self.value(a)?, Operand::Use(self.value(b)?, View::lanes(words)));
        self.inst3_imm(forms, words, to, a, b, imm);
        Ok(())
    }

    /// As many words as either has, from a word of the first on.
    fn shifted(&mut self, to: Virtual, words: u32, from: u32, a: Reg, b: Reg) -> Result<(), Refused> {
        let bytes = 4 * i64::from(from);
        if self.isa == Isa::V4 {
            let (high, low) = (self.value(b)?, self.operand(a)?);
            self.inst3_imm(forms::ALIGN_WORDS, words, to, high, low, i64::from(from));
            return Ok(());
        }
        if words == 4 {
            return self.of_both_by(forms::ALIGN_BYTES, to, 4, (b, a), bytes);
        }
        // Each half continues in the one behind it.
        let between = self.vector(8);
        self.of_both_by(forms::HALVES, between, 8, (a, b), 0x21)?;
        let (high, low) = if from < 4 { (between, self.value(a)?) } else { (self.value(b)?, between) };
        self.inst3_imm(forms::ALIGN_BYTES, 8, to, high, Operand::Use(low, View::Y), bytes % 16);
        Ok(())
    }

    /// The first words, the second, or those where the operands meet.
    fn shuffle_two(&mut self, to: Virtual, order: Shuffle, a: Reg, b: Reg) -> Result<(), Refused> {
        let (a, b) = (self.value(a)?, self.value(b)?);
        if order.source(0, 2) == 1 && order.source(1, 2) == 2 {
            let t = self.vector(4);
            self.inst3_imm(forms::PAIRS, 4, t, a, Operand::Use(b, View::X), 0x05);
            self.inst2_imm(forms::PERMUTE, 4, to, Operand::Use(t, View::X), 0x08);
            return Ok(());
        }
        let t = self.vector(4);
        self.inst3(forms::LOW_PAIRS, 4, t, a, Operand::Use(b, View::X));
        self.lane(to, t, 4, if order.source(0, 2) == 0 { 0 } else { 2 });
        Ok(())
    }

    /// The lower or the upper halves of vectors of 256 bits, of which loads that wait are only done by half.
    fn halves(&mut self, to: Virtual, a: Reg, b: Reg, half: i64) -> Result<(), Refused> {
        let waiting = |s: &Self, r: Reg| match s.pending.get(&r) {
            Some(&Pending::Load(m)) => Some(Mem { displacement: m.displacement + 16 * half, ..m }),
            _ => None,
        };
        let low = match waiting(self, a) {
            Some(m) if a != b && waiting(self, b).is_some() => {
                self.pending.remove(&a);
                let t = self.vector(4);
                self.load_bytes(t, 16, m);
                t
            }
            _ if half == 0 => self.value(a)?,
            _ => {
                let (a, b) = (self.value(a)?, Operand::Use(self.value(b)?, View::Y));
                self.inst3_imm(forms::HALVES, 8, to, a, b, 0x31);
                return Ok(());
            }
        };
        let high = match waiting(self, b) {
            Some(m) => {
                self.pending.remove(&b);
                Operand::Mem(m, false)
            }
            None => Operand::Use(self.value(b)?, View::X),
        };
        self.inst3_imm(forms::INSERT_QUARTER, 8, to, low, high, 1);
        Ok(())
    }

    /// Any words.
    fn shuffle_any(&mut self, to: Virtual, words: u32, order: Shuffle, a: Reg, b: Reg) -> Result<(), Refused> {
        let (a, b) = (self.value(a)?, self.value(b)?);
        let view = View::lanes(words);
        let places = self.pool_bytes((0..words).flat_map(|i| order.source(i, words).to_le_bytes()).collect());
        let t = self.vector(words);
        self.inst2(forms::LOAD, words, t, places);
        let operands = [Operand::Both(t, view), Operand::Use(a, view), Operand::Use(b, view)];
        self.frame.body.inst(forms::SHUFFLE_WORDS.code(self.isa, words), &operands);
        self.move_vector(to, t, words);
        Ok(())
    }
}

//! Elements from where the lanes of a vector say, and checks of all lanes.
//!
//! There is an instruction for it since `x86-64-v3`, but Zen 4 takes it apart into more steps than it takes to move the places to general
//! registers and to load each element into its lane. The instruction wins where eight lanes or more come from beyond the first-level cache.

use iced_x86::Code;

use super::forms;
use super::inst::{Inst, Mem, Operand, Step, View, Virtual};
use super::operands::{Bits, is_long, is_word, words};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::{Flow as _, Relation};
use crate::codegen::linear::list::FAIL;
use crate::nest::{BufferId, CompareOp, Index, Reg, VecType};
use crate::tensor::DType;

/// Gathers and checks that have code here.
pub(super) fn has(ty: VecType) -> bool {
    (is_word(ty.dtype) || ty.dtype == DType::I64) && words(ty) >= 4
}

/// An unsigned number that is not below another.
const NOT_BELOW: i64 = 5;

impl Select<'_> {
    /// `reg = gather buffer[index]`.
    pub(super) fn gather(&mut self, reg: Reg, buffer: BufferId, index: &Index) -> Result<(), Refused> {
        let ty = self.ty(reg);
        let Some((places, scalars)) = index.spread() else { return refuse("a gather without places") };
        if self.frame.kernel.buffers[buffer.0 as usize].dtype != ty.dtype || !has(ty) {
            return refuse(format!("a gather of {ty}"));
        }
        let at = self.place(buffer, &scalars)?;
        let base = match at.index {
            Some((v, scale)) => self.scaled_sum(at.base, v, scale),
            None => at.base,
        };
        let v = self.value(places)?;
        let to = self.home(reg)?;
        // Lanes one by one are faster as long as the elements come from the first-level cache.
        let far = self.spreads.get(&reg).is_some_and(|&spread| 4 * spread > self.unit.l1d_bytes as i128);
        if far && ty.lanes >= 8 {
            self.gather_at_once(to, ty.lanes, v, Mem::at(base, at.displacement));
        } else {
            self.gather_by_lane(to, ty.lanes, v, base, at.displacement);
        }
        Ok(())
    }

    fn gather_at_once(&mut self, to: Virtual, lanes: u32, places: Virtual, m: Mem) {
        let view = View::lanes(lanes);
        // The result, the places and the mask are different registers.
        let whole = self.fill(Bits::word(0), lanes);
        let places = Operand::Places(m, places, view);
        if self.isa == Isa::V4 {
            let mask = self.mask_constant(true);
            self.frame.body.masked(forms::GATHER.code(self.isa, lanes), &[Operand::Both(whole, view), places], mask, false);
        } else {
            let mask = self.vector(lanes);
            self.frame.body.inst(forms::EQUAL_I32.code(self.isa, lanes), &[Operand::Def(mask, view); 3]);
            let operands = vec![Operand::Both(whole, view), places, Operand::Both(mask, view)];
            self.frame.body.push(Step::Inst(Inst { code: forms::GATHER.code(self.isa, lanes), operands, mask: None }));
        }
        self.move_vector(to, whole, lanes);
    }

    fn gather_by_lane(&mut self, to: Virtual, lanes: u32, places: Virtual, base: Virtual, displacement: i64) {
        // Read once, should it be on the stack.
        let near = self.general();
        self.move_general(near, base);
        let m = Mem::at(near, displacement);
        let mut quarters = vec![];
        for quarter in 0..lanes / 4 {
            let four = if quarter == 0 { places } else { self.vector(4) };
            if quarter > 0 {
                self.quarter(four, places, lanes, quarter);
            }
            let mut x: Option<Virtual> = None;
            for pair in 0..2 {
                let both = self.general();
                self.long_lane(both, four, 4, pair);
                let low = self.general();
                self.frame.body.inst(Code::Movsxd_r64_rm32, &[Operand::Def(low, View::R64), Operand::Use(both, View::R32)]);
                self.frame.body.inst(Code::Sar_rm64_imm8, &[Operand::Both(both, View::R64), Operand::Imm(32)]);
                for (i, place) in [low, both].into_iter().enumerate() {
                    let element = Operand::Mem(Mem { index: Some((place, 4)), ..m }, false);
                    let t = self.vector(4);
                    match x {
                        None => self.inst2(forms::LOAD_SCALAR, 1, t, element),
                        Some(x) => self.inst3_imm(forms::INSERT, 4, t, x, element, 16 * (2 * i64::from(pair) + i as i64)),
                    }
                    x = Some(t);
                }
            }
            quarters.extend(x);
        }
        self.join(to, &quarters, lanes);
    }

    /// Leaves the kernel unless every lane is in `0..end`.
    pub(super) fn check_lanes(&mut self, reg: Reg, a: Reg, end: i64) -> Result<(), Refused> {
        let ty = self.ty(a);
        let (words, long) = (words(ty), is_long(ty.dtype));
        if !has(ty) {
            return refuse(format!("a check of {ty}"));
        }
        let (v, view) = (self.value(a)?, View::lanes(words));
        let bits = |x: i64| if long { Bits::long(x as u64) } else { Bits::word(x.min(1 << 31) as u32) };
        if self.isa == Isa::V4 {
            let outside = self.new_mask_for(words);
            let forms = if long { forms::COMPARE_U64 } else { forms::COMPARE_U32 };
            let end = self.pool(bits(end), words);
            self.frame
                .body
                .inst(forms.code(self.isa, words), &[Operand::Def(outside, View::K), Operand::Use(v, view), end, Operand::Imm(NOT_BELOW)]);
            self.frame.body.inst(Code::VEX_Kortestw_kr_kr, &[Operand::Use(outside, View::K); 2]);
        } else if long {
            // The sign of a lane that is beyond the last, or negative.
            let last = self.pool(bits(end - 1), words);
            let beyond = self.raw(ty, CompareOp::Gt, v, last);
            let outside = self.vector(words);
            self.inst3(forms::OR, words, outside, beyond, Operand::Use(v, view));
            let signs = self.general();
            self.frame.body.inst(forms::SIGNS_64.code(self.isa, words), &[Operand::Def(signs, View::R32), Operand::Use(outside, view)]);
            self.compare_constant(signs, 0);
        } else {
            // The lesser of a lane and the last is the lane.
            let last = self.pool(bits((end - 1).min(i64::from(i32::MAX))), words);
            let (lesser, differs) = (self.vector(words), self.vector(words));
            self.inst3(forms::MIN_U32, words, lesser, v, last);
            self.inst3(forms::XOR, words, differs, lesser, Operand::Use(v, view));
            self.frame.body.inst(forms::TEST.code(self.isa, words), &[Operand::Use(differs, view); 2]);
        }
        self.jump(Relation::NotEqual, FAIL);
        let to = self.home(reg)?;
        self.move_vector(to, v, words);
        Ok(())
    }
}

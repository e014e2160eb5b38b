//! Conditions. A `bool` is a mask register with AVX-512, else a vector of words that are all ones or all zeros.
//!
//! A comparison of longer elements gives lanes of two words, where there are no mask registers; such a *raw* mask is narrowed
//! where it becomes a condition, and a condition is widened where it is used for longer elements.

use iced_x86::Code;

use super::forms::{self, Forms};
use super::inst::{Class, Operand, View, Virtual};
use super::operands::{Bits, is_long, is_wide, words};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{BinaryOp, CompareOp, Op, Reg, Scalar, UnaryOp, VecType};
use crate::tensor::DType;

/// Predicates of AVX that SSE has too.
fn float_predicate(op: CompareOp) -> i64 {
    match op {
        CompareOp::Eq => 0,
        CompareOp::Lt => 1,
        CompareOp::Le => 2,
        CompareOp::Ne => 4,
        // Without a signal for NaN, as no status is read.
        CompareOp::Ge => 0x1d,
        CompareOp::Gt => 0x1e,
    }
}

fn int_predicate(op: CompareOp) -> i64 {
    match op {
        CompareOp::Eq => 0,
        CompareOp::Lt => 1,
        CompareOp::Le => 2,
        CompareOp::Ne => 4,
        CompareOp::Ge => 5,
        CompareOp::Gt => 6,
    }
}

impl Select<'_> {
    /// A fresh register for a mask, raw or not.
    pub(super) fn new_mask_for(&mut self, words: u32) -> Virtual {
        if self.isa == Isa::V4 { self.frame.body.virtual_register(Class::Mask) } else { self.vector(words) }
    }

    /// A mask register with all lanes or none.
    pub(super) fn mask_constant(&mut self, set: bool) -> Virtual {
        let mask = self.frame.body.virtual_register(Class::Mask);
        self.mask_constant_into(mask, set);
        mask
    }

    fn mask_constant_into(&mut self, mask: Virtual, set: bool) {
        let code = if set { Code::VEX_Kxnorw_kr_kr_kr } else { Code::VEX_Kxorw_kr_kr_kr };
        self.frame.body.inst(code, &[Operand::Def(mask, View::K); 3]);
    }

    fn move_mask(&mut self, to: Virtual, from: Virtual, lanes: u32) {
        if self.isa != Isa::V4 {
            self.move_vector(to, from, lanes);
        } else if to != from {
            self.frame.body.inst(Code::VEX_Kmovw_kr_km16, &[Operand::Def(to, View::K), Operand::Use(from, View::K)]);
        }
    }

    fn mask_op(&mut self, code: Code, forms: Forms, to: Virtual, lanes: u32, a: Virtual, b: Virtual) {
        if self.isa == Isa::V4 {
            self.frame.body.inst(code, &[Operand::Def(to, View::K), Operand::Use(a, View::K), Operand::Use(b, View::K)]);
        } else {
            self.inst3(forms, lanes, to, a, Operand::Use(b, View::lanes(lanes)));
        }
    }

    /// `to = not a`.
    fn mask_not(&mut self, to: Virtual, a: Virtual, words: u32) {
        if self.isa == Isa::V4 {
            self.frame.body.inst(Code::VEX_Knotw_kr_kr, &[Operand::Def(to, View::K), Operand::Use(a, View::K)]);
        } else {
            let ones = self.pool(Bits::word(u32::MAX), words);
            self.inst3(forms::XOR, words, to, a, ones);
        }
    }

    pub(super) fn compare(&mut self, reg: Reg, op: CompareOp, a: Reg, b: Reg) -> Result<(), Refused> {
        let ty = self.ty(a);
        if is_long(ty.dtype) && ty.lanes == 1 {
            return self.compare_long(reg, op, a, b);
        }
        let to = self.home(reg)?;
        if ty.dtype == DType::Bool {
            let (a, b) = (self.value(a)?, self.value(b)?);
            if op == CompareOp::Ne {
                self.mask_op(Code::VEX_Kxorw_kr_kr_kr, forms::XOR, to, ty.lanes, a, b);
            } else if self.isa == Isa::V4 {
                self.mask_op(Code::VEX_Kxnorw_kr_kr_kr, forms::XOR, to, ty.lanes, a, b);
            } else {
                self.inst3(forms::EQUAL_I32, ty.lanes, to, a, Operand::Use(b, View::lanes(ty.lanes)));
            }
            return Ok(());
        }
        let (v, other, ty) = if ty.dtype.is_half() {
            let (a, b) = (self.half_as_f32(a)?, self.half_as_f32(b)?);
            (a, Operand::Use(b, View::lanes(ty.lanes)), ty.with_dtype(DType::F32))
        } else {
            (self.value(a)?, self.operand(b)?, ty)
        };
        self.compare_into(to, ty, op, v, other);
        Ok(())
    }

    /// A comparison as a condition.
    pub(super) fn compare_into(&mut self, to: Virtual, ty: VecType, op: CompareOp, a: Virtual, b: Operand) {
        if self.isa == Isa::V4 || !is_wide(ty.dtype) {
            self.raw_compare(to, ty, op, a, b);
        } else {
            let raw = self.vector(words(ty));
            self.raw_compare(raw, ty, op, a, b);
            self.low_words(to, raw, ty.lanes);
        }
    }

    /// A comparison as a raw mask in a fresh register.
    pub(super) fn raw(&mut self, ty: VecType, op: CompareOp, a: Virtual, b: Operand) -> Virtual {
        let mask = self.new_mask_for(words(ty));
        self.raw_compare(mask, ty, op, a, b);
        mask
    }

    /// A comparison as a raw mask.
    fn raw_compare(&mut self, to: Virtual, ty: VecType, op: CompareOp, a: Virtual, b: Operand) {
        let (words, wide, float) = (words(ty), is_wide(ty.dtype), ty.dtype.is_float());
        let view = View::lanes(words);
        if self.isa == Isa::V4 {
            let (forms, predicate) = match ty.dtype {
                DType::F32 => (forms::COMPARE, float_predicate(op)),
                DType::F64 => (forms::COMPARE_F64, float_predicate(op)),
                DType::I64 => (forms::COMPARE_I64, int_predicate(op)),
                DType::U64 => (forms::COMPARE_U64, int_predicate(op)),
                DType::U32 => (forms::COMPARE_U32, int_predicate(op)),
                _ => (forms::COMPARE_I32, int_predicate(op)),
            };
            let code = forms.code(self.isa, words);
            self.frame.body.inst(code, &[Operand::Def(to, View::K), Operand::Use(a, view), b, Operand::Imm(predicate)]);
            return;
        }
        if float {
            let forms = if wide { forms::COMPARE_F64 } else { forms::COMPARE };
            if self.isa == Isa::V2 && matches!(op, CompareOp::Gt | CompareOp::Ge) {
                let b = self.in_register(b, words);
                let op = if op == CompareOp::Gt { CompareOp::Lt } else { CompareOp::Le };
                self.inst3_imm(forms, words, to, b, Operand::Use(a, view), float_predicate(op));
            } else {
                self.inst3_imm(forms, words, to, a, b, float_predicate(op));
            }
            return;
        }
        let (equal, greater) = if wide { (forms::EQUAL_I64, forms::GREATER_I64) } else { (forms::EQUAL_I32, forms::GREATER_I32) };
        let (mut a, mut b) = (a, b);
        if matches!(ty.dtype, DType::U32 | DType::U64) && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            // With the other sign, unsigned numbers order as signed ones.
            let sign = if wide { Bits::long(1 << 63) } else { Bits::word(1 << 31) };
            let (x, y, sign) = (self.vector(words), self.vector(words), self.fill(sign, words));
            self.inst3(forms::XOR, words, x, a, Operand::Use(sign, view));
            self.inst3(forms::XOR, words, y, sign, b);
            (a, b) = (x, Operand::Use(y, view));
        }
        let swapped = matches!(op, CompareOp::Lt | CompareOp::Ge);
        let negated = matches!(op, CompareOp::Ne | CompareOp::Le | CompareOp::Ge);
        let forms = if matches!(op, CompareOp::Eq | CompareOp::Ne) { equal } else { greater };
        if swapped {
            let first = self.in_register(b, words);
            (a, b) = (first, Operand::Use(a, view));
        }
        if negated {
            let t = self.vector(words);
            self.inst3(forms, words, t, a, b);
            self.mask_not(to, t, words);
        } else {
            self.inst3(forms, words, to, a, b);
        }
    }

    /// The condition as a raw mask for elements of two words.
    pub(super) fn raw_of(&mut self, mask: Virtual, lanes: u32, wide: bool) -> Virtual {
        if self.isa == Isa::V4 || !wide {
            return mask;
        }
        let raw = self.vector(2 * lanes);
        self.inst2(forms::WIDEN_I32, 2 * lanes, raw, Operand::Use(mask, View::X));
        raw
    }

    /// `to = mask ? v : 0`, for a raw mask.
    pub(super) fn keep(&mut self, to: Virtual, words: u32, wide: bool, v: Virtual, mask: Virtual) {
        if self.isa == Isa::V4 {
            let forms = if wide { forms::MOVE_64 } else { forms::MOVE };
            let view = View::lanes(words);
            self.frame.body.masked(forms.code(self.isa, words), &[Operand::Def(to, view), Operand::Use(v, view)], mask, true);
        } else {
            self.commutative(forms::AND, words, to, v, Operand::Use(mask, View::lanes(words)));
        }
    }

    /// `to = mask ? 0 : v`, for a raw mask.
    pub(super) fn clear(&mut self, to: Virtual, words: u32, wide: bool, v: Virtual, mask: Virtual) {
        if self.isa == Isa::V4 {
            let other = self.new_mask_for(words);
            self.mask_not(other, mask, words);
            self.keep(to, words, wide, v, other);
        } else {
            self.inst3(forms::AND_NOT, words, to, mask, Operand::Use(v, View::lanes(words)));
        }
    }

    /// `to = mask ? yes : no`, for a raw mask.
    pub(super) fn blend(&mut self, to: Virtual, words: u32, wide: bool, mask: Virtual, yes: Operand, no: Virtual) {
        let view = View::lanes(words);
        match self.isa {
            Isa::V4 => {
                let forms = if wide { forms::BLEND_64 } else { forms::BLEND };
                self.frame.body.masked(forms.code(self.isa, words), &[Operand::Def(to, view), Operand::Use(no, view), yes], mask, false);
            }
            Isa::V3 => {
                let code = forms::BLENDV.code(self.isa, words);
                self.frame.body.inst(code, &[Operand::Def(to, view), Operand::Use(no, view), yes, Operand::Use(mask, view)]);
            }
            Isa::V2 => {
                let (kept, other) = (self.vector(words), self.vector(words));
                self.inst3(forms::AND, words, kept, mask, yes);
                self.inst3(forms::AND_NOT, words, other, mask, Operand::Use(no, view));
                self.inst3(forms::OR, words, to, kept, Operand::Use(other, view));
            }
        }
    }

    /// `to = cond ? a : b`, vectors that are not of conditions.
    pub(super) fn select_lanes(&mut self, to: Virtual, ty: VecType, cond: Reg, a: Reg, b: Reg) -> Result<(), Refused> {
        let (words, wide) = (words(ty), is_wide(ty.dtype));
        let mask = self.value(cond)?;
        let mask = self.raw_of(mask, ty.lanes, wide);
        let zero = |r: Reg| self.lane_constant(r).is_some_and(Bits::is_zero);
        if zero(b) {
            let v = self.value(a)?;
            self.keep(to, words, wide, v, mask);
        } else if self.isa != Isa::V4 && zero(a) {
            let v = self.value(b)?;
            self.clear(to, words, wide, v, mask);
        } else {
            let no = self.value(b)?;
            let yes = self.operand(a)?;
            self.blend(to, words, wide, mask, yes, no);
        }
        Ok(())
    }

    /// The bits where the condition holds, 0 elsewhere.
    pub(super) fn mask_to_lanes(&mut self, to: Virtual, lanes: u32, mask: Virtual, bits: Bits) {
        let wide = bits.is_wide();
        let words = if wide { 2 * lanes } else { lanes };
        let mask = self.raw_of(mask, lanes, wide);
        if self.isa == Isa::V4 {
            let value = self.fill(bits, words);
            self.keep(to, words, wide, value, mask);
        } else {
            let bits = self.pool(bits, words);
            self.inst3(forms::AND, words, to, mask, bits);
        }
    }

    /// A scalar condition in a general register: 1 where it holds, else 0.
    pub(super) fn bool_bit(&mut self, r: Reg) -> Result<Virtual, Refused> {
        let v = self.value(r)?;
        Ok(self.bool_bit_of(v))
    }

    /// The first lane of a condition as a bit.
    pub(super) fn bool_bit_of(&mut self, v: Virtual) -> Virtual {
        let t = self.general();
        if self.isa == Isa::V4 {
            self.frame.body.inst(Code::VEX_Kmovw_r32_kr, &[Operand::Def(t, View::R32), Operand::Use(v, View::K)]);
        } else {
            self.move_to_general(t, v);
        }
        self.frame.body.inst(Code::And_rm32_imm32, &[Operand::Both(t, View::R32), Operand::Imm(1)]);
        t
    }

    /// Sets the flags: "equal" where the condition does not hold.
    pub(super) fn compare_bool(&mut self, r: Reg) -> Result<(), Refused> {
        let t = self.bool_bit(r)?;
        self.frame.body.inst(Code::Test_rm32_r32, &[Operand::Use(t, View::R32), Operand::Use(t, View::R32)]);
        Ok(())
    }

    /// A condition in all lanes from a general register that is 0 or 1.
    pub(super) fn bool_from_bit(&mut self, to: Virtual, bit: Virtual, lanes: u32) {
        let t = self.general();
        self.frame.body.inst(Code::Mov_r32_rm32, &[Operand::Def(t, View::R32), Operand::Use(bit, View::R32)]);
        self.frame.body.inst(Code::Neg_rm32, &[Operand::Both(t, View::R32)]);
        if self.isa == Isa::V4 {
            self.frame.body.inst(Code::VEX_Kmovw_kr_r32, &[Operand::Def(to, View::K), Operand::Use(t, View::R32)]);
        } else {
            self.move_from_general(to, t);
            if lanes > 1 {
                self.splat(to, to, lanes, false);
            }
        }
    }

    /// A condition from the flags, by an instruction that sets a byte.
    pub(super) fn bool_from_flags(&mut self, to: Virtual, code: Code) {
        let (low, bit) = (self.general(), self.general());
        self.frame.body.inst(code, &[Operand::Def(low, View::R8)]);
        self.frame.body.inst(Code::Movzx_r32_rm8, &[Operand::Def(bit, View::R32), Operand::Use(low, View::R8)]);
        self.bool_from_bit(to, bit, 1);
    }

    pub(super) fn load_bool(&mut self, to: Virtual, lanes: u32, m: super::inst::Mem) {
        if lanes == 1 {
            let byte = self.general();
            self.frame.body.inst(Code::Movzx_r32_rm8, &[Operand::Def(byte, View::R32), Operand::Mem(m, false)]);
            self.frame.body.inst(Code::Test_rm32_r32, &[Operand::Use(byte, View::R32), Operand::Use(byte, View::R32)]);
            self.bool_from_flags(to, Code::Setne_rm8);
            return;
        }
        let wide = self.vector(lanes);
        self.load_narrow(wide, DType::U8, lanes, m);
        let zero = self.fill(Bits::word(0), lanes);
        // Bytes are not negative.
        self.raw_compare(to, VecType { dtype: DType::I32, lanes }, CompareOp::Gt, wide, Operand::Use(zero, View::lanes(lanes)));
    }

    /// Scalar conditions as the lanes of a mask register.
    fn pack_mask(&mut self, to: Virtual, regs: &[Reg]) -> Result<(), Refused> {
        let all = self.general();
        for (i, &r) in regs.iter().enumerate() {
            let bit = self.bool_bit(r)?;
            if i == 0 {
                self.move_general(all, bit);
                continue;
            }
            self.frame.body.inst(Code::Shl_rm32_imm8, &[Operand::Both(bit, View::R32), Operand::Imm(i as i64)]);
            self.frame.body.inst(Code::Or_r32_rm32, &[Operand::Both(all, View::R32), Operand::Use(bit, View::R32)]);
        }
        self.frame.body.inst(Code::VEX_Kmovw_kr_r32, &[Operand::Def(to, View::K), Operand::Use(all, View::R32)]);
        Ok(())
    }

    /// `reg = op`, a condition.
    pub(super) fn mask(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let ty = self.ty(reg);
        let lanes = ty.lanes;
        let to = self.home(reg)?;
        let masks = self.isa == Isa::V4;
        match op {
            Op::Const(Scalar::Int(x)) if masks => self.mask_constant_into(to, *x != 0),
            Op::Const(Scalar::Int(x)) => self.fill_into(to, Bits::word(if *x != 0 { u32::MAX } else { 0 }), lanes),
            Op::Copy(a) => {
                let v = self.value(*a)?;
                self.move_mask(to, v, lanes);
            }
            Op::Splat(a) if masks => {
                let bit = self.bool_bit(*a)?;
                self.bool_from_bit(to, bit, lanes);
            }
            Op::Splat(a) => {
                let v = self.value(*a)?;
                self.splat(to, v, lanes, false);
            }
            Op::Lane(a, lane) => {
                let (v, from) = (self.value(*a)?, self.ty(*a).lanes);
                if masks {
                    let by = Operand::Imm((*lane).into());
                    self.frame.body.inst(Code::VEX_Kshiftrw_kr_kr_imm8, &[Operand::Def(to, View::K), Operand::Use(v, View::K), by]);
                } else {
                    self.lane(to, v, from, *lane);
                }
            }
            Op::Pack(regs) if masks => self.pack_mask(to, regs)?,
            Op::Pack(regs) => self.pack(to, regs, ty)?,
            Op::Unary(UnaryOp::Not, a) => {
                let v = self.value(*a)?;
                self.mask_not(to, v, lanes);
            }
            Op::Binary(op @ (BinaryOp::And | BinaryOp::Or | BinaryOp::Xor), a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                let (code, forms) = match op {
                    BinaryOp::And => (Code::VEX_Kandw_kr_kr_kr, forms::AND),
                    BinaryOp::Or => (Code::VEX_Korw_kr_kr_kr, forms::OR),
                    _ => (Code::VEX_Kxorw_kr_kr_kr, forms::XOR),
                };
                self.mask_op(code, forms, to, lanes, a, b);
            }
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.value(*c)?, self.value(*a)?, self.value(*b)?);
                if masks {
                    let (yes, no) = (self.new_mask_for(lanes), self.new_mask_for(lanes));
                    self.mask_op(Code::VEX_Kandw_kr_kr_kr, forms::AND, yes, lanes, c, a);
                    self.mask_op(Code::VEX_Kandnw_kr_kr_kr, forms::AND_NOT, no, lanes, c, b);
                    self.mask_op(Code::VEX_Korw_kr_kr_kr, forms::OR, to, lanes, yes, no);
                } else {
                    self.blend(to, lanes, false, c, Operand::Use(a, View::lanes(lanes)), b);
                }
            }
            _ => return refuse(format!("{op:?} of {ty}")),
        }
        Ok(())
    }
}

//! Conditions. A `bool` is a lane mask: in a vector register with AVX2, in a mask register with AVX-512.

use iced_x86::Code;

use super::forms;
use super::inst::{Class, Operand, View, Virtual};
use super::select::{Select, is_word, refuse};
use super::{Isa, Refused};
use crate::nest::{BinaryOp, CompareOp, Op, Reg, Scalar, UnaryOp, VecType};
use crate::tensor::DType;

/// A predicate of floating-point comparison: unordered or not equal.
const NOT_EQUAL: i64 = 4;

fn float_predicate(op: CompareOp) -> i64 {
    match op {
        CompareOp::Eq => 0,
        CompareOp::Ne => NOT_EQUAL,
        CompareOp::Lt => 0x11,
        CompareOp::Le => 0x12,
        CompareOp::Gt => 0x1e,
        CompareOp::Ge => super::vectors::GREATER_OR_EQUAL,
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
    pub(super) fn new_class_mask(&mut self) -> Virtual {
        self.body.virtual_register(Class::Mask)
    }

    /// A mask register with all lanes or none.
    pub(super) fn mask_constant(&mut self, set: bool) -> Virtual {
        let mask = self.new_class_mask();
        self.mask_constant_into(mask, set);
        mask
    }

    fn mask_constant_into(&mut self, mask: Virtual, set: bool) {
        let code = if set { Code::VEX_Kxnorw_kr_kr_kr } else { Code::VEX_Kxorw_kr_kr_kr };
        self.body.inst(code, &[Operand::Def(mask, View::K); 3]);
    }

    /// A mask with the view of its class.
    fn mask_view(&self, lanes: u32) -> View {
        if self.isa == Isa::V4 { View::K } else { View::lanes(lanes) }
    }

    fn move_mask(&mut self, to: Virtual, from: Virtual, lanes: u32) {
        if self.isa == Isa::V3 {
            self.move_vector(to, from, lanes);
        } else if to != from {
            self.body.inst(Code::VEX_Kmovw_kr_km16, &[Operand::Def(to, View::K), Operand::Use(from, View::K)]);
        }
    }

    pub(super) fn compare(&mut self, reg: Reg, op: CompareOp, a: Reg, b: Reg) -> Result<(), Refused> {
        let ty = self.ty(a);
        if ty.dtype == DType::I64 {
            return self.compare_i64(reg, op, a, b);
        }
        if !is_word(ty.dtype) {
            return refuse(format!("a comparison of {ty}"));
        }
        let to = self.home(reg)?;
        if ty.dtype == DType::F32 || self.isa == Isa::V4 {
            let v = self.value(a)?;
            let other = self.operand(b)?;
            self.compare_into(to, ty, op, v, other);
            return Ok(());
        }
        if ty.dtype == DType::U32 && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return refuse("an unsigned comparison without masks");
        }
        let (forms, a, b, negated) = match op {
            CompareOp::Eq => (forms::EQUAL_INT, a, b, false),
            CompareOp::Ne => (forms::EQUAL_INT, a, b, true),
            CompareOp::Gt => (forms::GREATER_INT, a, b, false),
            CompareOp::Lt => (forms::GREATER_INT, b, a, false),
            CompareOp::Le => (forms::GREATER_INT, a, b, true),
            CompareOp::Ge => (forms::GREATER_INT, b, a, true),
        };
        let v = self.value(a)?;
        let other = self.operand(b)?;
        if negated {
            let t = self.vector(ty.lanes);
            self.inst3(forms, ty.lanes, t, v, other);
            let ones = self.pool(u32::MAX, ty.lanes);
            self.inst3(forms::XOR, ty.lanes, to, t, ones);
        } else {
            self.inst3(forms, ty.lanes, to, v, other);
        }
        Ok(())
    }

    /// A comparison that is one instruction.
    fn compare_into(&mut self, to: Virtual, ty: VecType, op: CompareOp, a: Virtual, b: Operand) {
        let (forms, predicate) = match ty.dtype {
            DType::F32 => (forms::COMPARE, float_predicate(op)),
            DType::U32 => (forms::COMPARE_UINT, int_predicate(op)),
            _ => (forms::COMPARE_INT, int_predicate(op)),
        };
        let (view, mask) = (View::lanes(ty.lanes), self.mask_view(ty.lanes));
        self.body.inst(forms.code(self.isa, ty.lanes), &[Operand::Def(to, mask), Operand::Use(a, view), b, Operand::Imm(predicate)]);
    }

    pub(super) fn not_equal(&mut self, to: Virtual, ty: VecType, a: Virtual, b: Virtual) -> Result<(), Refused> {
        let other = Operand::Use(b, View::lanes(ty.lanes));
        if ty.dtype == DType::F32 || self.isa == Isa::V4 {
            self.compare_into(to, ty, CompareOp::Ne, a, other);
        } else {
            let t = self.vector(ty.lanes);
            self.inst3(forms::EQUAL_INT, ty.lanes, t, a, other);
            let ones = self.pool(u32::MAX, ty.lanes);
            self.inst3(forms::XOR, ty.lanes, to, t, ones);
        }
        Ok(())
    }

    /// `to = cond ? a : b`.
    pub(super) fn select_word(&mut self, to: Virtual, lanes: u32, cond: Reg, a: Reg, b: Reg) -> Result<(), Refused> {
        let (mask, no) = (self.value(cond)?, self.value(b)?);
        let yes = self.operand(a)?;
        let view = View::lanes(lanes);
        if self.isa == Isa::V4 {
            self.body.masked(forms::BLEND.code(self.isa, lanes), &[Operand::Def(to, view), Operand::Use(no, view), yes], mask, false);
        } else {
            let code = forms::BLENDV.code(self.isa, lanes);
            self.body.inst(code, &[Operand::Def(to, view), Operand::Use(no, view), yes, Operand::Use(mask, view)]);
        }
        Ok(())
    }

    /// The bits where the condition holds, 0 elsewhere.
    pub(super) fn mask_to_word(&mut self, to: Virtual, lanes: u32, a: Reg, bits: u32) -> Result<(), Refused> {
        let mask = self.value(a)?;
        let view = View::lanes(lanes);
        if self.isa == Isa::V4 {
            let entry = self.body.pool.repeated(bits, 1);
            let m = super::inst::Mem { base: super::inst::Base::Pool(entry), index: None, displacement: 0 };
            let code = forms::BROADCAST_LOAD.code(self.isa, lanes);
            self.body.masked(code, &[Operand::Def(to, view), Operand::Mem(m, false)], mask, true);
        } else {
            let bits = self.pool(bits, lanes);
            self.inst3(forms::AND, lanes, to, mask, bits);
        }
        Ok(())
    }

    /// The condition in a general register: nonzero where it holds.
    pub(super) fn bool_bit(&mut self, r: Reg) -> Result<Virtual, Refused> {
        let v = self.value(r)?;
        let t = self.general();
        if self.isa == Isa::V4 {
            self.body.inst(Code::VEX_Kmovw_r32_kr, &[Operand::Def(t, View::R32), Operand::Use(v, View::K)]);
        } else {
            self.move_to_general(t, v);
        }
        self.body.inst(Code::And_rm32_imm32, &[Operand::Both(t, View::R32), Operand::Imm(1)]);
        Ok(t)
    }

    /// Sets the flags: "equal" where the condition does not hold.
    pub(super) fn test_bool(&mut self, r: Reg) -> Result<(), Refused> {
        let t = self.bool_bit(r)?;
        self.body.inst(Code::Test_rm32_r32, &[Operand::Use(t, View::R32), Operand::Use(t, View::R32)]);
        Ok(())
    }

    /// A scalar condition from a general register that is 0 or 1.
    pub(super) fn bool_from_bit(&mut self, to: Virtual, bit: Virtual) {
        let t = self.general();
        self.body.inst(Code::Mov_r32_rm32, &[Operand::Def(t, View::R32), Operand::Use(bit, View::R32)]);
        self.body.inst(Code::Neg_rm32, &[Operand::Both(t, View::R32)]);
        if self.isa == Isa::V4 {
            self.body.inst(Code::VEX_Kmovw_kr_r32, &[Operand::Def(to, View::K), Operand::Use(t, View::R32)]);
        } else {
            self.move_from_general(to, t);
        }
    }

    pub(super) fn load_bool(&mut self, to: Virtual, lanes: u32, m: Operand) {
        if lanes == 1 {
            let (byte, bit) = (self.general(), self.general());
            self.body.inst(Code::Movzx_r32_rm8, &[Operand::Def(byte, View::R32), m]);
            self.body.inst(Code::Test_rm32_r32, &[Operand::Use(byte, View::R32), Operand::Use(byte, View::R32)]);
            let low = self.general();
            self.body.inst(Code::Setne_rm8, &[Operand::Def(low, View::R8)]);
            self.body.inst(Code::Movzx_r32_rm8, &[Operand::Def(bit, View::R32), Operand::Use(low, View::R8)]);
            self.bool_from_bit(to, bit);
            return;
        }
        let wide = self.vector(lanes);
        self.inst2(forms::WIDEN_U8, lanes, wide, m);
        let zero = self.fill(0, lanes);
        let ty = VecType { dtype: DType::I32, lanes };
        if self.isa == Isa::V4 {
            self.compare_into(to, ty, CompareOp::Ne, wide, Operand::Use(zero, View::lanes(lanes)));
        } else {
            // Bytes are not negative.
            self.inst3(forms::GREATER_INT, lanes, to, wide, Operand::Use(zero, View::lanes(lanes)));
        }
    }

    pub(super) fn store_bool(&mut self, v: Virtual, lanes: u32, m: Operand) -> Result<(), Refused> {
        if lanes > 1 {
            return refuse("a store of conditions in lanes");
        }
        let t = self.general();
        if self.isa == Isa::V4 {
            self.body.inst(Code::VEX_Kmovw_r32_kr, &[Operand::Def(t, View::R32), Operand::Use(v, View::K)]);
        } else {
            self.move_to_general(t, v);
        }
        self.body.inst(Code::And_rm32_imm32, &[Operand::Both(t, View::R32), Operand::Imm(1)]);
        self.body.inst(Code::Mov_rm8_r8, &[m, Operand::Use(t, View::R8)]);
        Ok(())
    }

    /// `reg = op`, a condition.
    pub(super) fn mask(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let lanes = self.ty(reg).lanes;
        let to = self.home(reg)?;
        let view = self.mask_view(lanes);
        let masks = self.isa == Isa::V4;
        match op {
            Op::Const(Scalar::Int(x)) if masks => self.mask_constant_into(to, *x != 0),
            Op::Const(Scalar::Int(x)) => self.fill_into(to, if *x != 0 { u32::MAX } else { 0 }, lanes),
            Op::Copy(a) => {
                let v = self.value(*a)?;
                self.move_mask(to, v, lanes);
            }
            Op::Splat(a) if masks => {
                let bit = self.bool_bit(*a)?;
                self.bool_from_bit(to, bit);
            }
            Op::Splat(a) => {
                let v = self.value(*a)?;
                self.splat(to, v, lanes);
            }
            Op::Lane(a, lane) => {
                let (v, from) = (self.value(*a)?, self.ty(*a).lanes);
                if masks {
                    let by = Operand::Imm((*lane).into());
                    self.body.inst(Code::VEX_Kshiftrw_kr_kr_imm8, &[Operand::Def(to, View::K), Operand::Use(v, View::K), by]);
                } else {
                    self.lane(to, v, from, *lane);
                }
            }
            Op::Unary(UnaryOp::Not, a) => {
                let v = self.value(*a)?;
                if masks {
                    self.body.inst(Code::VEX_Knotw_kr_kr, &[Operand::Def(to, View::K), Operand::Use(v, View::K)]);
                } else {
                    let ones = self.pool(u32::MAX, lanes);
                    self.inst3(forms::XOR, lanes, to, v, ones);
                }
            }
            Op::Binary(op @ (BinaryOp::And | BinaryOp::Or | BinaryOp::Xor), a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                let (code, forms) = match op {
                    BinaryOp::And => (Code::VEX_Kandw_kr_kr_kr, forms::AND),
                    BinaryOp::Or => (Code::VEX_Korw_kr_kr_kr, forms::OR),
                    _ => (Code::VEX_Kxorw_kr_kr_kr, forms::XOR),
                };
                let code = if masks { code } else { forms.code(self.isa, lanes) };
                self.body.inst(code, &[Operand::Def(to, view), Operand::Use(a, view), Operand::Use(b, view)]);
            }
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.value(*c)?, self.value(*a)?, self.value(*b)?);
                if masks {
                    let (yes, no) = (self.new_class_mask(), self.new_class_mask());
                    let k = |v| Operand::Use(v, View::K);
                    self.body.inst(Code::VEX_Kandw_kr_kr_kr, &[Operand::Def(yes, View::K), k(c), k(a)]);
                    self.body.inst(Code::VEX_Kandnw_kr_kr_kr, &[Operand::Def(no, View::K), k(c), k(b)]);
                    self.body.inst(Code::VEX_Korw_kr_kr_kr, &[Operand::Def(to, View::K), k(yes), k(no)]);
                } else {
                    let code = forms::BLENDV.code(self.isa, lanes);
                    let used = |v| Operand::Use(v, view);
                    self.body.inst(code, &[Operand::Def(to, view), used(b), used(a), used(c)]);
                }
            }
            _ => return refuse(format!("{op:?} of {}", self.ty(reg))),
        }
        Ok(())
    }
}

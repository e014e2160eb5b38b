//! 64-bit scalars, which are mostly positions, in general registers.

use iced_x86::Code;

use super::Refused;
use super::inst::{Operand, View, Virtual};
use super::select::{Select, refuse};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{BinaryOp, CompareOp, Op, Reg, Scalar, UnaryOp};
use crate::tensor::DType;

impl Select<'_> {
    /// `to = a op b` by an instruction that overwrites its first operand.
    fn two_address(&mut self, code: Code, to: Virtual, a: Virtual, b: Virtual) {
        let t = self.general();
        self.move_general(t, a);
        self.frame.body.inst(code, &[Operand::Both(t, View::R64), Operand::Use(b, View::R64)]);
        self.move_general(to, t);
    }

    /// `to = op a`, by instructions on a copy.
    fn in_place(&mut self, to: Virtual, a: Virtual, f: impl FnOnce(&mut Self, Virtual)) {
        let t = self.general();
        self.move_general(t, a);
        f(self, t);
        self.move_general(to, t);
    }

    /// `reg = op`, an `i64` or `u64`.
    pub(super) fn integer(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let to = self.home(reg)?;
        let dtype = self.ty(reg).dtype;
        let signed = dtype == DType::I64;
        let both = |v| Operand::Both(v, View::R64);
        match op {
            Op::Const(Scalar::Int(x)) => self.set_general(to, *x),
            Op::Index(affine) => {
                let v = self.affine(affine)?;
                self.move_general(to, v);
            }
            Op::Unary(UnaryOp::Neg, a) => {
                let v = self.value(*a)?;
                self.in_place(to, v, |s, t| s.frame.body.inst(Code::Neg_rm64, &[both(t)]));
            }
            Op::Unary(UnaryOp::Not, a) => {
                let v = self.value(*a)?;
                self.in_place(to, v, |s, t| s.frame.body.inst(Code::Not_rm64, &[both(t)]));
            }
            Op::Unary(UnaryOp::Abs, a) if signed => {
                let v = self.value(*a)?;
                self.in_place(to, v, |s, t| {
                    s.frame.body.inst(Code::Neg_rm64, &[both(t)]);
                    s.frame.body.inst(Code::Test_rm64_r64, &[Operand::Use(v, View::R64), Operand::Use(v, View::R64)]);
                    s.frame.body.inst(Code::Cmovns_r64_rm64, &[both(t), Operand::Use(v, View::R64)]);
                });
            }
            Op::Unary(UnaryOp::Abs, a) => {
                let v = self.value(*a)?;
                self.move_general(to, v);
            }
            Op::Binary(op @ (BinaryOp::Shl | BinaryOp::Shr), a, b) => {
                let Some(Scalar::Int(by)) = self.constant(*b) else { return refuse("a shift by a variable amount") };
                let v = self.value(*a)?;
                let code = match (op, signed) {
                    (BinaryOp::Shl, _) => Code::Shl_rm64_imm8,
                    (_, true) => Code::Sar_rm64_imm8,
                    (_, false) => Code::Shr_rm64_imm8,
                };
                self.in_place(to, v, |s, t| s.frame.body.inst(code, &[both(t), Operand::Imm(by)]));
            }
            Op::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                let code = match (op, signed) {
                    (BinaryOp::Min, true) => Code::Cmovl_r64_rm64,
                    (BinaryOp::Min, false) => Code::Cmovb_r64_rm64,
                    (_, true) => Code::Cmovg_r64_rm64,
                    (_, false) => Code::Cmova_r64_rm64,
                };
                self.in_place(to, b, |s, t| {
                    s.frame.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(a, View::R64), Operand::Use(b, View::R64)]);
                    s.frame.body.inst(code, &[both(t), Operand::Use(a, View::R64)]);
                });
            }
            Op::Binary(op @ (BinaryOp::Div | BinaryOp::Rem), a, b) => {
                let safe = matches!(self.constant(*b), Some(Scalar::Int(x)) if x != 0 && x != -1);
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.divide_general(to, dtype, *op, a, b, safe);
            }
            Op::Binary(op, a, b) => {
                let code = match op {
                    BinaryOp::Add => Code::Add_r64_rm64,
                    BinaryOp::Sub => Code::Sub_r64_rm64,
                    BinaryOp::Mul => Code::Imul_r64_rm64,
                    BinaryOp::And => Code::And_r64_rm64,
                    BinaryOp::Or => Code::Or_r64_rm64,
                    _ => Code::Xor_r64_rm64,
                };
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.two_address(code, to, a, b);
            }
            Op::Fma(a, b, c) => {
                let (a, b, c) = (self.value(*a)?, self.value(*b)?, self.value(*c)?);
                let t = self.general();
                self.two_address(Code::Imul_r64_rm64, t, a, b);
                self.two_address(Code::Add_r64_rm64, to, t, c);
            }
            Op::Select(c, a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                let t = self.general();
                self.move_general(t, b);
                self.compare_bool(*c)?;
                self.frame.body.inst(Code::Cmovne_r64_rm64, &[both(t), Operand::Use(a, View::R64)]);
                self.move_general(to, t);
            }
            _ => return refuse(format!("{op:?} of {dtype}")),
        }
        Ok(())
    }

    pub(super) fn compare_long(&mut self, reg: Reg, op: CompareOp, a: Reg, b: Reg) -> Result<(), Refused> {
        let signed = self.ty(a).dtype == DType::I64;
        let (a, b) = (self.value(a)?, self.value(b)?);
        let to = self.home(reg)?;
        self.frame.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(a, View::R64), Operand::Use(b, View::R64)]);
        let code = match (op, signed) {
            (CompareOp::Eq, _) => Code::Sete_rm8,
            (CompareOp::Ne, _) => Code::Setne_rm8,
            (CompareOp::Lt, true) => Code::Setl_rm8,
            (CompareOp::Le, true) => Code::Setle_rm8,
            (CompareOp::Gt, true) => Code::Setg_rm8,
            (CompareOp::Ge, true) => Code::Setge_rm8,
            (CompareOp::Lt, false) => Code::Setb_rm8,
            (CompareOp::Le, false) => Code::Setbe_rm8,
            (CompareOp::Gt, false) => Code::Seta_rm8,
            (CompareOp::Ge, false) => Code::Setae_rm8,
        };
        self.bool_from_flags(to, code);
        Ok(())
    }

    /// The first word of a vector, an integer of a narrower type, as one of 64 bits.
    pub(super) fn extend_to_long(&mut self, to: Virtual, from: DType, v: Virtual) {
        if from.is_signed() {
            let t = self.general();
            self.move_to_general(t, v);
            self.frame.body.inst(Code::Movsxd_r64_rm32, &[Operand::Def(to, View::R64), Operand::Use(t, View::R32)]);
        } else {
            self.move_to_general(to, v);
        }
    }
}

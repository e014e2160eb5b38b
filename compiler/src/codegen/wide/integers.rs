//! 64-bit scalars, which are mostly positions, in general registers.

use iced_x86::Code;

use super::Refused;
use super::inst::{Operand, View, Virtual};
use super::select::{Select, is_narrow, refuse};
use crate::nest::{BinaryOp, CompareOp, Op, Reg, Scalar, UnaryOp};
use crate::tensor::DType;

impl Select<'_> {
    /// `to = a op b` by an instruction that overwrites its first operand.
    fn two_address(&mut self, code: Code, to: Virtual, a: Virtual, b: Virtual) {
        let t = self.general();
        self.move_general(t, a);
        self.body.inst(code, &[Operand::Both(t, View::R64), Operand::Use(b, View::R64)]);
        self.move_general(to, t);
    }

    /// `reg = op`, an `i64`.
    pub(super) fn integer(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let to = self.home(reg)?;
        match op {
            Op::Const(Scalar::Int(x)) => self.set_general(to, *x),
            Op::Index(affine) => {
                let v = self.affine(affine)?;
                self.move_general(to, v);
            }
            Op::Copy(a) | Op::Splat(a) | Op::Lane(a, 0) => {
                let v = self.value(*a)?;
                self.move_general(to, v);
            }
            Op::Unary(UnaryOp::Neg, a) => {
                let v = self.value(*a)?;
                let t = self.general();
                self.move_general(t, v);
                self.body.inst(Code::Neg_rm64, &[Operand::Both(t, View::R64)]);
                self.move_general(to, t);
            }
            Op::Unary(UnaryOp::Not, a) => {
                let v = self.value(*a)?;
                let t = self.general();
                self.move_general(t, v);
                self.body.inst(Code::Not_rm64, &[Operand::Both(t, View::R64)]);
                self.move_general(to, t);
            }
            Op::Binary(op @ (BinaryOp::Shl | BinaryOp::Shr), a, b) => {
                let Some(Scalar::Int(by)) = self.constant(*b) else { return refuse("a shift by a variable amount") };
                let v = self.value(*a)?;
                let t = self.general();
                self.move_general(t, v);
                let code = if *op == BinaryOp::Shl { Code::Shl_rm64_imm8 } else { Code::Sar_rm64_imm8 };
                self.body.inst(code, &[Operand::Both(t, View::R64), Operand::Imm(by)]);
                self.move_general(to, t);
            }
            Op::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                let t = self.general();
                self.move_general(t, b);
                self.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(a, View::R64), Operand::Use(b, View::R64)]);
                let code = if *op == BinaryOp::Min { Code::Cmovl_r64_rm64 } else { Code::Cmovg_r64_rm64 };
                self.body.inst(code, &[Operand::Both(t, View::R64), Operand::Use(a, View::R64)]);
                self.move_general(to, t);
            }
            Op::Binary(op, a, b) => {
                let code = match op {
                    BinaryOp::Add => Code::Add_r64_rm64,
                    BinaryOp::Sub => Code::Sub_r64_rm64,
                    BinaryOp::Mul => Code::Imul_r64_rm64,
                    BinaryOp::And => Code::And_r64_rm64,
                    BinaryOp::Or => Code::Or_r64_rm64,
                    BinaryOp::Xor => Code::Xor_r64_rm64,
                    _ => return refuse(format!("{op:?} of i64")),
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
                self.test_bool(*c)?;
                self.body.inst(Code::Cmovne_r64_rm64, &[Operand::Both(t, View::R64), Operand::Use(a, View::R64)]);
                self.move_general(to, t);
            }
            _ => return refuse(format!("{op:?} of i64")),
        }
        Ok(())
    }

    pub(super) fn compare_i64(&mut self, reg: Reg, op: CompareOp, a: Reg, b: Reg) -> Result<(), Refused> {
        if self.ty(a).lanes != 1 {
            return refuse("a comparison of 64-bit lanes");
        }
        let (a, b) = (self.value(a)?, self.value(b)?);
        let to = self.home(reg)?;
        self.body.inst(Code::Cmp_r64_rm64, &[Operand::Use(a, View::R64), Operand::Use(b, View::R64)]);
        let code = match op {
            CompareOp::Eq => Code::Sete_rm8,
            CompareOp::Ne => Code::Setne_rm8,
            CompareOp::Lt => Code::Setl_rm8,
            CompareOp::Le => Code::Setle_rm8,
            CompareOp::Gt => Code::Setg_rm8,
            CompareOp::Ge => Code::Setge_rm8,
        };
        let (low, bit) = (self.general(), self.general());
        self.body.inst(code, &[Operand::Def(low, View::R8)]);
        self.body.inst(Code::Movzx_r32_rm8, &[Operand::Def(bit, View::R32), Operand::Use(low, View::R8)]);
        self.bool_from_bit(to, bit);
        Ok(())
    }

    /// An integer or condition as `i64`.
    pub(super) fn extend_to_i64(&mut self, to: Virtual, from: DType, a: Reg) -> Result<(), Refused> {
        match from {
            DType::Bool => {
                let bit = self.bool_bit(a)?;
                self.move_general(to, bit);
            }
            DType::I64 => {
                let v = self.value(a)?;
                self.move_general(to, v);
            }
            DType::U32 | DType::U8 | DType::U16 => {
                let v = self.value(a)?;
                self.move_to_general(to, v);
            }
            d if d == DType::I32 || is_narrow(d) => {
                let v = self.value(a)?;
                let t = self.general();
                self.move_to_general(t, v);
                self.body.inst(Code::Movsxd_r64_rm32, &[Operand::Def(to, View::R64), Operand::Use(t, View::R32)]);
            }
            _ => return refuse(format!("a conversion of {from} to i64")),
        }
        Ok(())
    }
}

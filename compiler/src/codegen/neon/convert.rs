//! Conversions between `f32`, integers of 32 bits, conditions, and scalars of 64 bits.

use super::code::Code;
use super::inst::{Operand, Virtual};
use super::select::Select;
use crate::codegen::linear::flow::Flow;
use crate::codegen::linear::{Refused, refuse};
use crate::nest::{Reg, VecType};
use crate::tensor::DType;

impl<'k> Select<'k> {
    /// A value in another type of 32 bits.
    pub(super) fn convert(&mut self, ty: VecType, to: Virtual, a: Reg) -> Result<(), Refused> {
        use DType::{Bool, F32, I32, I64, U32};
        let from = self.ty(a);
        if from.lanes != ty.lanes {
            return refuse(format!("a conversion of {from} to {ty}"));
        }
        let (v, n) = (self.value(a)?, ty.lanes);
        let operands = [Operand::Def(to), Operand::Use(v)];
        match (from.dtype, ty.dtype) {
            (x, y) if x == y => self.move_vector(to, v),
            (I32 | U32, I32 | U32) => self.move_vector(to, v),
            (I32, F32) => self.lanes(Code::Scvtf, n, &operands, 0),
            (U32, F32) => self.lanes(Code::Ucvtf, n, &operands, 0),
            (F32, I32) => self.lanes(Code::Fcvtzs, n, &operands, 0),
            (F32, U32) => self.lanes(Code::Fcvtzu, n, &operands, 0),
            (Bool, F32 | I32 | U32) => {
                let one = self.hoisted_bits(if ty.dtype == F32 { 1f32.to_bits() } else { 1 });
                self.lanes(Code::And, n, &[operands[0], operands[1], Operand::Use(one)], 0);
            }
            (F32 | I32 | U32, Bool) => {
                let (zero, code) = (self.hoisted_bits(0), if from.dtype == F32 { Code::Fcmeq } else { Code::Cmeq });
                self.lanes(code, n, &[operands[0], operands[1], Operand::Use(zero)], 0);
                self.lanes(Code::Not, n, &[Operand::Def(to), Operand::Use(to)], 0);
            }
            (I64, F32) => self.inst(Code::ScvtfX, &operands),
            (I64, I32 | U32) => self.inst(Code::FmovFromW, &operands),
            _ => return refuse(format!("a conversion of {from} to {ty}")),
        }
        Ok(())
    }

    /// A scalar of 64 bits of another.
    pub(super) fn convert_to_long(&mut self, to: Virtual, a: Reg) -> Result<(), Refused> {
        let from = self.ty(a);
        let v = self.value(a)?;
        let operands = [Operand::Def(to), Operand::Use(v)];
        match from {
            VecType { dtype: DType::I64, lanes: 1 } => self.move_general(to, v),
            VecType { dtype: DType::F32, lanes: 1 } => self.inst(Code::FcvtzsX, &operands),
            VecType { dtype: DType::U32, lanes: 1 } => self.inst(Code::FmovToW, &operands),
            VecType { dtype: DType::I32, lanes: 1 } => {
                self.inst(Code::FmovToW, &operands);
                self.inst(Code::Sxtw, &[Operand::Def(to), Operand::Use(to)]);
            }
            _ => return refuse(format!("a conversion of {from} to i64")),
        }
        Ok(())
    }
}

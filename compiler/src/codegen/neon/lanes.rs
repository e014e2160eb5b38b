//! Scalars into vectors and back.

use super::code::Code;
use super::inst::{Operand, Virtual};
use super::select::Select;
use crate::codegen::linear::Refused;
use crate::nest::{BinaryOp, Reg, VecType};

impl<'k> Select<'k> {
    /// Scalars as the lanes of a vector.
    pub(super) fn pack(&mut self, to: Virtual, regs: &[Reg]) -> Result<(), Refused> {
        // The result may be one of the operands.
        let whole = self.vector();
        for (lane, &r) in (0..).zip(regs) {
            let v = self.value(r)?;
            match lane {
                0 => self.move_vector(whole, v),
                lane => self.inst_with(Code::Insert, &[Operand::Both(whole), Operand::Use(v)], lane),
            }
        }
        self.move_vector(to, whole);
        Ok(())
    }

    /// All lanes combined: lane `i` with lane `i + n/2`, until one is left.
    pub(super) fn horizontal(&mut self, op: BinaryOp, to: Virtual, a: Reg) -> Result<(), Refused> {
        let ty = self.ty(a);
        let mut v = self.value(a)?;
        let mut lanes = ty.lanes;
        while lanes > 1 {
            lanes /= 2;
            let (upper, both) = (self.vector(), if lanes == 1 { to } else { self.vector() });
            let bytes = i64::from(4 * lanes);
            self.lanes(Code::Extract, super::LANES, &[Operand::Def(upper), Operand::Use(v), Operand::Use(v)], bytes);
            self.binary(op, VecType { lanes, ..ty }, both, v, upper)?;
            v = both;
        }
        self.move_vector(to, v);
        Ok(())
    }
}

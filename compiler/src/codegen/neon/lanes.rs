//! Scalars into vectors and back.

use super::code::Code;
use super::inst::{Operand, Virtual};
use super::select::Select;
use crate::codegen::linear::Refused;
use crate::nest::{BinaryOp, Reg, Shuffle, VecType};

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

    /// Lanes of two vectors.
    pub(super) fn shuffle(&mut self, order: Shuffle, n: u32, to: Virtual, a: Virtual, b: Virtual) {
        let code = match order {
            Shuffle::ZipLow | Shuffle::ZipLow4 => Code::Zip1,
            Shuffle::ZipHigh | Shuffle::ZipHigh4 => Code::Zip2,
            Shuffle::Even => Code::Uzp1,
            Shuffle::Odd => Code::Uzp2,
            Shuffle::LowHalves if n == 2 => Code::Zip1,
            Shuffle::HighHalves if n == 2 => Code::Zip2,
            Shuffle::Next | Shuffle::Previous => Code::Extract,
            Shuffle::LowHalves | Shuffle::HighHalves => {
                // The halves of one operand change places, so that those that are wanted are neighbours.
                let t = self.vector();
                let turned = if order == Shuffle::LowHalves { a } else { b };
                self.lanes(Code::Extract, n, &[Operand::Def(t), Operand::Use(turned), Operand::Use(turned)], 8);
                let (low, high) = if order == Shuffle::LowHalves { (t, b) } else { (a, t) };
                self.lanes(Code::Extract, n, &[Operand::Def(to), Operand::Use(low), Operand::Use(high)], 8);
                return;
            }
        };
        let places = if code == Code::Extract { 4 * i64::from(order.source(0, n)) } else { 0 };
        self.lanes(code, n, &[Operand::Def(to), Operand::Use(a), Operand::Use(b)], places);
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

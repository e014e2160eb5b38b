//! Integer division and remainder: by zero they give 0, and the minimum by -1 wraps.

use iced_x86::Code;

use super::Refused;
use super::forms;
use super::inst::{Operand, View, Virtual};
use super::operands::{is_long, words};
use super::select::Select;
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{BinaryOp, CompareOp, VecType};
use crate::tensor::DType;

impl Select<'_> {
    /// `to = a / b` or the remainder, lane by lane; `safe` where `b` is known to be neither 0 nor -1.
    pub(super) fn divide_lanes(
        &mut self,
        to: Virtual,
        ty: VecType,
        op: BinaryOp,
        a: Virtual,
        b: Virtual,
        safe: bool,
    ) -> Result<(), Refused> {
        if is_long(ty.dtype) {
            let mut quarters = vec![];
            for first in (0..ty.lanes).step_by(2) {
                let pair = [first, first + 1].map(|lane| {
                    let [x, y, t] = [(); 3].map(|()| self.general());
                    self.long_lane(x, a, words(ty), lane);
                    self.long_lane(y, b, words(ty), lane);
                    self.divide_general(t, ty.dtype, op, x, y, safe);
                    t
                });
                quarters.push(self.pair(&pair));
            }
            self.join(to, &quarters, words(ty));
            return Ok(());
        }
        // The quotient of two words, rounded to f64 and truncated, is exact; infinities and NaN leave a word of 0.
        let (lanes, wide) = (ty.lanes, 2 * ty.lanes);
        let [x, y, quotient] = [(); 3].map(|()| self.vector(wide));
        self.word_to_f64(x, ty, a);
        self.word_to_f64(y, ty, b);
        self.inst3(forms::DIV_F64, wide, quotient, x, Operand::Use(y, View::lanes(wide)));
        let whole = self.vector(lanes);
        self.truncate_to_words(whole, lanes, quotient);
        if op == BinaryOp::Div {
            self.wrap(to, whole, lanes, ty.dtype);
            return Ok(());
        }
        let used = |v| Operand::Use(v, View::lanes(words(ty)));
        let [product, rest, wrapped] = [(); 3].map(|()| self.vector(lanes));
        self.inst3(forms::MUL_I32, lanes, product, whole, used(b));
        self.inst3(forms::SUB_I32, lanes, rest, a, used(product));
        self.wrap(wrapped, rest, lanes, ty.dtype);
        let zero = self.fill(super::operands::Bits::word(0), lanes);
        let by_zero = self.raw(VecType { dtype: DType::I32, lanes }, CompareOp::Eq, zero, used(b));
        self.clear(to, lanes, false, wrapped, by_zero);
        Ok(())
    }

    /// `to = a / b` or the remainder, of general registers.
    pub(super) fn divide_general(&mut self, to: Virtual, dtype: DType, op: BinaryOp, a: Virtual, b: Virtual, safe: bool) {
        let signed = dtype == DType::I64;
        let code = if signed { Code::Idiv_rm64 } else { Code::Div_rm64 };
        let used = |v| Operand::Use(v, View::R64);
        let remainder = Operand::Imm((op == BinaryOp::Rem).into());
        if safe {
            self.frame.body.inst(code, &[Operand::Def(to, View::R64), used(a), used(b), remainder]);
            return;
        }
        // A divisor of 1 in place of 0 and -1, and the result corrected.
        let [divisor, one, zero, result] = [(); 4].map(|()| self.general());
        self.set_general(one, 1);
        self.set_general(zero, 0);
        self.move_general(divisor, b);
        let test = |s: &mut Self| s.frame.body.inst(Code::Test_rm64_r64, &[used(b), used(b)]);
        let is_minus_one = |s: &mut Self| s.frame.body.inst(Code::Cmp_rm64_imm32, &[used(b), Operand::Imm(-1)]);
        test(self);
        self.frame.body.inst(Code::Cmove_r64_rm64, &[Operand::Both(divisor, View::R64), used(one)]);
        if signed {
            is_minus_one(self);
            self.frame.body.inst(Code::Cmove_r64_rm64, &[Operand::Both(divisor, View::R64), used(one)]);
        }
        self.frame.body.inst(code, &[Operand::Def(result, View::R64), used(a), used(divisor), remainder]);
        if op == BinaryOp::Div {
            if signed {
                let negated = self.general();
                self.move_general(negated, a);
                self.frame.body.inst(Code::Neg_rm64, &[Operand::Both(negated, View::R64)]);
                is_minus_one(self);
                self.frame.body.inst(Code::Cmove_r64_rm64, &[Operand::Both(result, View::R64), used(negated)]);
            }
            test(self);
            self.frame.body.inst(Code::Cmove_r64_rm64, &[Operand::Both(result, View::R64), used(zero)]);
        }
        self.move_general(to, result);
    }
}

//! Conversions between element types.

use iced_x86::Code;

use super::arithmetic::TOWARD_ZERO;
use super::forms;
use super::inst::{Operand, View, Virtual};
use super::operands::{Bits, is_long, is_narrow, is_wide, words};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{CompareOp, Reg, VecType};
use crate::tensor::DType;

/// Added to an `f64` that is integral, leaves the integer in its low word: 1.5 * 2^52.
const TO_LOW_WORD: f64 = 6_755_399_441_055_744.0;
/// 2^31, 2^32, 2^63, 2^64.
const TWO_TO_31: f64 = 2_147_483_648.0;
const TWO_TO_32: f64 = 4_294_967_296.0;
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// Least and greatest value of an integer of up to 32 bits.
fn range(dtype: DType) -> (f64, f64) {
    let bits = i32::from(dtype.bits() as u16);
    if dtype.is_signed() { (-(2f64.powi(bits - 1)), 2f64.powi(bits - 1) - 1.0) } else { (0.0, 2f64.powi(bits) - 1.0) }
}

impl Select<'_> {
    pub(super) fn convert(&mut self, reg: Reg, a: Reg) -> Result<(), Refused> {
        let (from, ty) = (self.ty(a), self.ty(reg));
        let lanes = ty.lanes;
        let to = self.home(reg)?;
        match (from.dtype, ty.dtype) {
            (d, e) if d == e => {
                let v = self.value(a)?;
                match d {
                    _ if is_long(d) && lanes == 1 => self.move_general(to, v),
                    DType::Bool if self.isa == Isa::V4 => {
                        self.frame.body.inst(Code::VEX_Kmovw_kr_km16, &[Operand::Def(to, View::K), Operand::Use(v, View::K)]);
                    }
                    _ => self.move_vector(to, v, self.words(a)),
                }
            }
            (DType::Bool, e) => self.bool_into(to, ty, e, a)?,
            (d, DType::F32) if d.is_half() => self.half_to_f32(to, a)?,
            (d, e) if d.is_half() => {
                let v = self.half_as_f32(a)?;
                if e.is_half() {
                    self.half_from_f32(to, lanes, e, v);
                } else {
                    self.f32_into(to, ty, Operand::Use(v, View::lanes(lanes)))?;
                }
            }
            (DType::F32, e) if e.is_half() => {
                let v = self.value(a)?;
                self.half_from_f32(to, lanes, e, v);
            }
            // An f32 on the way rounds once only where it is exact, or where everything it rounds overflows.
            (d, e) if e.is_half() && (is_narrow(d) || e == DType::F16 && d.is_int()) => {
                let t = self.vector(lanes);
                self.int_into_f32(t, from, a)?;
                self.half_from_f32(to, lanes, e, t);
            }
            (_, e) if e.is_half() => return refuse(format!("a conversion of {from} to {ty}")),
            (d, DType::Bool) => self.not_zero(to, from, d, a)?,
            (DType::F32, _) => {
                let a = self.operand_of_lanes(a)?;
                self.f32_into(to, ty, a)?;
            }
            (DType::F64, DType::F32) => {
                let a = self.operand_of_lanes(a)?;
                let code = forms::FROM_F64.code(self.isa, words(from));
                self.frame.body.inst(code, &[Operand::Def(to, View::lanes(lanes)), a]);
            }
            (DType::F64, _) => {
                let v = self.value(a)?;
                self.f64_into(to, ty, v)?;
            }
            (_, DType::F32) => self.int_into_f32(to, from, a)?,
            (_, DType::F64) => self.int_into_f64(to, from, a)?,
            _ => self.int_to_int(to, from, ty, a)?,
        }
        Ok(())
    }

    /// An operand that may be in memory only where all of it is read.
    fn operand_of_lanes(&mut self, a: Reg) -> Result<Operand, Refused> {
        if self.ty(a).lanes > 1 && self.words(a) >= 4 {
            self.operand(a)
        } else {
            Ok(Operand::Use(self.value(a)?, View::lanes(self.words(a))))
        }
    }

    fn bool_into(&mut self, to: Virtual, ty: VecType, e: DType, a: Reg) -> Result<(), Refused> {
        if is_long(e) && ty.lanes == 1 {
            let bit = self.bool_bit(a)?;
            self.move_general(to, bit);
            return Ok(());
        }
        let mask = self.value(a)?;
        let one = self.bits_of(e, false, crate::nest::Scalar::Int(1));
        self.mask_to_lanes(to, ty.lanes, mask, one);
        Ok(())
    }

    fn not_zero(&mut self, to: Virtual, from: VecType, d: DType, a: Reg) -> Result<(), Refused> {
        let v = self.value(a)?;
        if is_long(d) && from.lanes == 1 {
            self.frame.body.inst(Code::Test_rm64_r64, &[Operand::Use(v, View::R64), Operand::Use(v, View::R64)]);
            self.bool_from_flags(to, Code::Setne_rm8);
            return Ok(());
        }
        let zero = self.fill(Bits::word(0), words(from));
        self.compare_into(to, from, CompareOp::Ne, v, Operand::Use(zero, View::lanes(words(from))));
        Ok(())
    }

    /// An integer as `f32`.
    fn int_into_f32(&mut self, to: Virtual, from: VecType, a: Reg) -> Result<(), Refused> {
        let (lanes, view) = (from.lanes, View::lanes(from.lanes));
        match from.dtype {
            DType::U32 if self.isa == Isa::V4 => {
                let a = self.operand(a)?;
                self.inst2(forms::FROM_U32, lanes, to, a);
            }
            DType::U32 => {
                // Both halves are exact, and the sum rounds once.
                let v = self.value(a)?;
                let [high, low, high_float, low_float, scaled] = [(); 5].map(|()| self.vector(lanes));
                self.shift(forms::SHR_32, lanes, high, v, 16);
                let mask = self.pool(Bits::word(0xffff), lanes);
                self.inst3(forms::AND, lanes, low, v, mask);
                self.inst2(forms::FROM_I32, lanes, high_float, Operand::Use(high, view));
                self.inst2(forms::FROM_I32, lanes, low_float, Operand::Use(low, view));
                let scale = self.pool(Bits::f32(65536.0), lanes);
                self.inst3(forms::MUL, lanes, scaled, high_float, scale);
                self.inst3(forms::ADD, lanes, to, scaled, Operand::Use(low_float, view));
            }
            d if !is_long(d) => {
                let a = if is_narrow(d) { Operand::Use(self.value(a)?, view) } else { self.operand(a)? };
                self.inst2(forms::FROM_I32, lanes, to, a);
            }
            d if self.isa == Isa::V4 => {
                let v = self.long_vector(a)?;
                let forms = if d == DType::U64 { forms::FROM_U64 } else { forms::FROM_I64 };
                let code = forms.code(self.isa, 2 * lanes);
                self.frame.body.inst(code, &[Operand::Def(to, view), Operand::Use(v, View::lanes(2 * lanes))]);
            }
            d => {
                let mut x = None;
                for (i, v) in self.long_lanes(a)?.into_iter().enumerate() {
                    let float = self.vector(4);
                    self.long_to_scalar(float, v, d, DType::F32);
                    x = Some(match x {
                        None => float,
                        Some(x) => {
                            let t = self.vector(4);
                            self.inst3_imm(forms::INSERT, 4, t, x, Operand::Use(float, View::X), 16 * i as i64);
                            t
                        }
                    });
                }
                if let Some(x) = x {
                    self.move_vector(to, x, lanes);
                }
            }
        }
        Ok(())
    }

    /// An integer as `f64`.
    fn int_into_f64(&mut self, to: Virtual, from: VecType, a: Reg) -> Result<(), Refused> {
        let words = 2 * from.lanes;
        match from.dtype {
            d if !is_long(d) => {
                let v = self.value(a)?;
                self.word_to_f64(to, from, v);
            }
            d if self.isa == Isa::V4 => {
                let v = self.long_vector(a)?;
                let forms = if d == DType::U64 { forms::F64_FROM_U64 } else { forms::F64_FROM_I64 };
                self.inst2(forms, words, to, Operand::Use(v, View::lanes(words)));
            }
            d => {
                let mut quarters = vec![];
                for pair in self.long_lanes(a)?.chunks(2) {
                    let low = self.vector(4);
                    self.long_to_scalar(low, pair[0], d, DType::F64);
                    if let Some(&second) = pair.get(1) {
                        let (high, both) = (self.vector(4), self.vector(4));
                        self.long_to_scalar(high, second, d, DType::F64);
                        self.inst3(forms::LOW_64, 4, both, low, Operand::Use(high, View::X));
                        quarters.push(both);
                    } else {
                        quarters.push(low);
                    }
                }
                self.join(to, &quarters, words);
            }
        }
        Ok(())
    }

    /// An integer of up to 32 bits, in words, as `f64`.
    pub(super) fn word_to_f64(&mut self, to: Virtual, from: VecType, v: Virtual) {
        let words = 2 * from.lanes;
        let half = Operand::Use(v, View::lanes(from.lanes));
        if from.dtype != DType::U32 {
            self.inst2(forms::F64_FROM_I32, words, to, half);
        } else if self.isa == Isa::V4 {
            self.inst2(forms::F64_FROM_U32, words, to, half);
        } else {
            // As the low bits of 2^52 it is a number already.
            let (wide, number) = (self.vector(words), self.vector(words));
            self.inst2(forms::WIDEN_U32, words, wide, half);
            let base = Operand::Use(self.fill(Bits::f64(4_503_599_627_370_496.0), words), View::lanes(words));
            self.inst3(forms::OR, words, number, wide, base);
            self.inst3(forms::SUB_F64, words, to, number, base);
        }
    }

    /// A scalar of 64 bits from a general register as a float, where there is no instruction for vectors.
    fn long_to_scalar(&mut self, to: Virtual, v: Virtual, from: DType, float: DType) {
        let (convert, add) =
            if float == DType::F32 { (forms::SCALAR_FROM_I64, forms::ADD) } else { (forms::SCALAR_F64_FROM_I64, forms::ADD_F64) };
        let one = |s: &mut Self, to: Virtual, v: Virtual| {
            // Clears what the instruction would merge with.
            let zero = s.fill(Bits::word(0), 1);
            s.inst3(convert, 1, to, zero, Operand::Use(v, View::R64));
        };
        if from == DType::I64 {
            return one(self, to, v);
        }
        // Half of a large number, its last bit kept for rounding, and twice that.
        let [half, last] = [(); 2].map(|()| self.general());
        self.move_general(half, v);
        self.move_general(last, v);
        self.frame.body.inst(Code::Shr_rm64_imm8, &[Operand::Both(half, View::R64), Operand::Imm(1)]);
        self.frame.body.inst(Code::And_rm32_imm32, &[Operand::Both(last, View::R32), Operand::Imm(1)]);
        self.frame.body.inst(Code::Or_r64_rm64, &[Operand::Both(half, View::R64), Operand::Use(last, View::R64)]);
        let sign = self.general();
        self.move_general(sign, v);
        self.frame.body.inst(Code::Sar_rm64_imm8, &[Operand::Both(sign, View::R64), Operand::Imm(63)]);
        let [small, halved, large, mask] = [(); 4].map(|()| self.vector(4));
        one(self, small, v);
        one(self, halved, half);
        self.inst3(add, 4, large, halved, Operand::Use(halved, View::X));
        self.move_from_general_64(mask, sign);
        self.blend(to, 4, float == DType::F64, mask, Operand::Use(large, View::X), small);
    }

    /// The lanes of an integer of 64 bits in general registers.
    pub(super) fn long_lanes(&mut self, a: Reg) -> Result<Vec<Virtual>, Refused> {
        let v = self.value(a)?;
        let ty = self.ty(a);
        Ok(if ty.lanes == 1 { vec![v] } else { self.long_lanes_of(v, ty.lanes) })
    }

    pub(super) fn long_lanes_of(&mut self, v: Virtual, lanes: u32) -> Vec<Virtual> {
        (0..lanes)
            .map(|i| {
                let t = self.general();
                self.long_lane(t, v, 2 * lanes, i);
                t
            })
            .collect()
    }

    /// An integer of 64 bits in a vector, even a scalar.
    fn long_vector(&mut self, a: Reg) -> Result<Virtual, Refused> {
        let v = self.value(a)?;
        if self.ty(a).lanes > 1 {
            return Ok(v);
        }
        let t = self.vector(4);
        self.move_from_general_64(t, v);
        Ok(t)
    }

    /// An `f32` as something else than a half or a condition.
    fn f32_into(&mut self, to: Virtual, ty: VecType, a: Operand) -> Result<(), Refused> {
        let lanes = ty.lanes;
        match ty.dtype {
            DType::Bool => {
                let (v, zero) = (self.in_register(a, lanes), self.fill(Bits::word(0), lanes));
                self.compare_into(to, ty.with_dtype(DType::F32), CompareOp::Ne, v, Operand::Use(zero, View::lanes(lanes)));
            }
            DType::F32 => {
                let v = self.in_register(a, lanes);
                self.move_vector(to, v, lanes);
            }
            DType::F64 => {
                let v = self.in_register(a, lanes);
                self.inst2(forms::TO_F64, 2 * lanes, to, Operand::Use(v, View::lanes(lanes)));
            }
            d if is_long(d) => {
                let (v, wide) = (self.in_register(a, lanes), self.vector(2 * lanes));
                self.inst2(forms::TO_F64, 2 * lanes, wide, Operand::Use(v, View::lanes(lanes)));
                self.f64_into(to, ty, wide)?;
            }
            d => {
                let v = self.in_register(a, lanes);
                self.f32_to_int(to, lanes, d, v);
            }
        }
        Ok(())
    }

    /// Truncates and saturates to an integer of up to 32 bits; NaN becomes 0.
    fn f32_to_int(&mut self, to: Virtual, lanes: u32, d: DType, v: Virtual) {
        let view = View::lanes(lanes);
        let used = |v| Operand::Use(v, view);
        let float = VecType { dtype: DType::F32, lanes };
        match d {
            DType::I32 => {
                let [number, raw] = [(); 2].map(|()| self.vector(lanes));
                let limit = self.pool(Bits::f32(TWO_TO_31 as f32), lanes);
                let high = self.raw(float, CompareOp::Ge, v, limit);
                let nan = self.raw(float, CompareOp::Ne, v, used(v));
                self.clear(number, lanes, false, v, nan);
                self.inst2(forms::TO_I32, lanes, raw, used(number));
                // Where the value is too great, all bits of 0x8000_0000 flip.
                self.flip(to, lanes, raw, high);
            }
            DType::U32 if self.isa == Isa::V4 => {
                // All ones where it is too great, as asked for; NaN and negative numbers become zero before.
                let zero = self.fill(Bits::word(0), lanes);
                let t = self.vector(lanes);
                self.inst3(forms::MAX, lanes, t, v, used(zero));
                self.inst2(forms::TO_U32, lanes, to, used(t));
            }
            DType::U32 => {
                let zero = self.fill(Bits::word(0), lanes);
                let [number, part, rest, low, sign, both] = [(); 6].map(|()| self.vector(lanes));
                self.inst3(forms::MAX, lanes, number, v, used(zero));
                let limit = self.pool(Bits::f32(TWO_TO_31 as f32), lanes);
                let big = self.raw(float, CompareOp::Ge, number, limit);
                self.inst3(forms::AND, lanes, part, big, limit);
                self.inst3(forms::SUB, lanes, rest, number, used(part));
                self.inst2(forms::TO_I32, lanes, low, used(rest));
                let sign_bit = self.pool(Bits::word(1 << 31), lanes);
                self.inst3(forms::AND, lanes, sign, big, sign_bit);
                self.inst3(forms::XOR, lanes, both, low, used(sign));
                let beyond = self.pool(Bits::f32(TWO_TO_32 as f32), lanes);
                let beyond = self.raw(float, CompareOp::Ge, number, beyond);
                self.inst3(forms::OR, lanes, to, both, used(beyond));
            }
            d => {
                let (low, high) = range(d);
                let [number, least, most] = [(); 3].map(|()| self.vector(lanes));
                if d.is_signed() {
                    let nan = self.raw(float, CompareOp::Ne, v, used(v));
                    self.clear(number, lanes, false, v, nan);
                } else {
                    self.move_vector(number, v, lanes);
                }
                let low = self.fill(Bits::f32(low as f32), lanes);
                let high = self.pool(Bits::f32(high as f32), lanes);
                self.inst3(forms::MAX, lanes, least, number, used(low));
                self.inst3(forms::MIN, lanes, most, least, high);
                self.inst2(forms::TO_I32, lanes, to, used(most));
            }
        }
    }

    /// Flips all bits where the mask holds.
    fn flip(&mut self, to: Virtual, words: u32, v: Virtual, mask: Virtual) {
        if self.isa == Isa::V4 {
            let t = self.vector(words);
            let view = View::lanes(words);
            self.move_vector(t, v, words);
            let ones = self.pool(Bits::word(u32::MAX), words);
            let code = forms::XOR.code(self.isa, words);
            self.frame.body.masked(code, &[Operand::Both(t, view), Operand::Use(t, view), ones], mask, false);
            self.move_vector(to, t, words);
        } else {
            self.inst3(forms::XOR, words, to, v, Operand::Use(mask, View::lanes(words)));
        }
    }

    /// An `f64` as an integer, truncated and saturated; NaN becomes 0.
    fn f64_into(&mut self, to: Virtual, ty: VecType, v: Virtual) -> Result<(), Refused> {
        let words = 2 * ty.lanes;
        let used = |v| Operand::Use(v, View::lanes(words));
        let float = VecType { dtype: DType::F64, lanes: ty.lanes };
        let number = self.vector(words);
        let nan = self.raw(float, CompareOp::Ne, v, used(v));
        self.clear(number, words, true, v, nan);
        if !is_long(ty.dtype) {
            let (low, high) = range(ty.dtype);
            let [least, most] = [(); 2].map(|()| self.vector(words));
            let (low, high) = (self.pool(Bits::f64(low), words), self.pool(Bits::f64(high), words));
            self.inst3(forms::MAX_F64, words, least, number, low);
            self.inst3(forms::MIN_F64, words, most, least, high);
            self.truncate_to_words(to, ty.lanes, most);
            return Ok(());
        }
        let least = if ty.dtype == DType::U64 {
            let (t, zero) = (self.vector(words), self.fill(Bits::word(0), words));
            self.inst3(forms::MAX_F64, words, t, number, used(zero));
            t
        } else {
            number
        };
        let result = if is_wide(ty.dtype) && ty.lanes == 1 { self.vector(4) } else { to };
        let limit = if ty.dtype == DType::U64 { TWO_TO_64 } else { TWO_TO_63 };
        if self.isa == Isa::V4 {
            // Too great a number gives all ones, or the sign bit, whose bits flip then.
            let unsigned = ty.dtype == DType::U64;
            let raw = self.vector(words);
            self.inst2(if unsigned { forms::F64_TO_U64 } else { forms::F64_TO_I64 }, words, raw, used(least));
            if unsigned {
                self.move_vector(result, raw, words);
            } else {
                let limit = self.pool(Bits::f64(limit), words);
                let high = self.raw(float, CompareOp::Ge, least, limit);
                self.flip_long(result, words, raw, high);
            }
        } else {
            let sign = Bits::f64(TWO_TO_63);
            let [part, rest, raw, low] = [(); 4].map(|()| self.vector(words));
            let limit = self.pool(Bits::f64(limit), words);
            let high = self.raw(float, CompareOp::Ge, least, limit);
            let from = if ty.dtype == DType::U64 {
                let half = self.pool(sign, words);
                let big = self.raw(float, CompareOp::Ge, least, half);
                self.inst3(forms::AND, words, part, big, half);
                self.inst3(forms::SUB_F64, words, rest, least, used(part));
                Some((rest, big))
            } else {
                None
            };
            self.truncate_lanes(raw, ty.lanes, from.map_or(least, |f| f.0));
            if let Some((_, big)) = from {
                let [bit, both] = [(); 2].map(|()| self.vector(words));
                let sign_bit = self.pool(Bits::long(1 << 63), words);
                self.inst3(forms::AND, words, bit, big, sign_bit);
                self.inst3(forms::XOR, words, both, raw, used(bit));
                self.inst3(forms::OR, words, result, both, used(high));
            } else {
                self.move_vector(low, raw, words);
                self.inst3(forms::XOR, words, result, low, used(high));
            }
        }
        if ty.lanes == 1 {
            self.move_to_general_64(to, result);
        }
        Ok(())
    }

    fn flip_long(&mut self, to: Virtual, words: u32, v: Virtual, mask: Virtual) {
        let (t, view) = (self.vector(words), View::lanes(words));
        self.move_vector(t, v, words);
        let ones = self.pool(Bits::long(u64::MAX), words);
        let code = forms::XOR_64.code(self.isa, words);
        self.frame.body.masked(code, &[Operand::Both(t, view), Operand::Use(t, view), ones], mask, false);
        self.move_vector(to, t, words);
    }

    /// `f64` to `i64` lane by lane; what is out of range gives the sign bit.
    fn truncate_lanes(&mut self, to: Virtual, lanes: u32, v: Virtual) {
        let mut found = vec![];
        for i in 0..lanes {
            let x = self.vector(4);
            self.lane(x, v, 2 * lanes, 2 * i);
            let t = self.general();
            let code = forms::SCALAR_F64_TO_I64.code(self.isa, 1);
            self.frame.body.inst(code, &[Operand::Def(t, View::R64), Operand::Use(x, View::X)]);
            found.push(t);
        }
        self.pack_long(to, &found);
    }

    /// Numbers that fit a word, of `f64`, truncated.
    pub(super) fn truncate_to_words(&mut self, to: Virtual, lanes: u32, v: Virtual) {
        let words = 2 * lanes;
        let [whole, placed] = [(); 2].map(|()| self.vector(words));
        self.inst2_imm(forms::ROUND_F64, words, whole, Operand::Use(v, View::lanes(words)), TOWARD_ZERO);
        let base = self.pool(Bits::f64(TO_LOW_WORD), words);
        self.inst3(forms::ADD_F64, words, placed, whole, base);
        self.low_words(to, placed, lanes);
    }

    /// The low word of every lane of two.
    pub(super) fn low_words(&mut self, to: Virtual, v: Virtual, lanes: u32) {
        if lanes == 1 {
            self.move_vector(to, v, 4);
        } else if self.isa == Isa::V4 {
            let code = forms::NARROW_64.code(self.isa, 2 * lanes);
            self.frame.body.inst(code, &[Operand::Def(to, View::lanes(lanes)), Operand::Use(v, View::lanes(2 * lanes))]);
        } else if lanes == 2 {
            self.inst2_imm(forms::PERMUTE, 4, to, Operand::Use(v, View::X), 8);
        } else {
            let high = self.vector(4);
            self.quarter(high, v, 8, 1);
            self.inst3_imm(forms::PAIRS, 4, to, v, Operand::Use(high, View::X), 0x88);
        }
    }

    fn int_to_int(&mut self, to: Virtual, from: VecType, ty: VecType, a: Reg) -> Result<(), Refused> {
        let lanes = ty.lanes;
        let (d, e) = (from.dtype, ty.dtype);
        if !(d.is_int() && e.is_int()) {
            return refuse(format!("a conversion of {from} to {ty}"));
        }
        let v = self.value(a)?;
        match (is_long(d), is_long(e)) {
            (true, true) if lanes == 1 => self.move_general(to, v),
            (true, true) => self.move_vector(to, v, 2 * lanes),
            (false, true) if lanes == 1 => self.extend_to_long(to, d, v),
            (false, true) => {
                let forms = if d.is_signed() { forms::WIDEN_I32 } else { forms::WIDEN_U32 };
                self.inst2(forms, 2 * lanes, to, Operand::Use(v, View::lanes(lanes)));
            }
            (true, false) => {
                let low = self.vector(lanes);
                if lanes == 1 {
                    self.move_from_general(low, v);
                } else {
                    self.low_words(low, v, lanes);
                }
                self.wrap(to, low, lanes, e);
            }
            (false, false) => self.wrap(to, v, lanes, e),
        }
        Ok(())
    }
}

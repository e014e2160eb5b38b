//! `f16` and `bf16`: held as their bits, computed with as `f32`.

use super::Refused;
use super::forms;
use super::inst::{Operand, View, Virtual};
use super::operands::{Bits, Pending};
use super::select::Select;
use crate::nest::{BinaryOp, CompareOp, Reg, VecType};
use crate::tensor::DType;

impl Select<'_> {
    /// A register as `f32`, in a fresh register.
    pub(super) fn half_as_f32(&mut self, a: Reg) -> Result<Virtual, Refused> {
        let to = self.vector(self.words(a));
        self.half_to_f32(to, a)?;
        Ok(to)
    }

    /// `to = a` as `f32`.
    pub(super) fn half_to_f32(&mut self, to: Virtual, a: Reg) -> Result<(), Refused> {
        let (words, dtype) = (self.words(a), self.ty(a).dtype);
        if let (DType::F16, true, true, Some(&Pending::Load(m))) = (dtype, self.unit.f16c, words >= 4, self.pending.get(&a)) {
            self.pending.remove(&a);
            self.inst2(forms::FROM_F16, words, to, Operand::Mem(m, false));
            return Ok(());
        }
        let v = self.value(a)?;
        self.half_bits_to_f32(to, words, dtype, v);
        Ok(())
    }

    fn half_bits_to_f32(&mut self, to: Virtual, words: u32, dtype: DType, v: Virtual) {
        if dtype == DType::BF16 {
            self.shift(forms::SHL_32, words, to, v, 16);
        } else if self.unit.f16c {
            let packed = if words == 1 { v } else { self.narrow(v, words, 2) };
            self.inst2(forms::FROM_F16, words, to, Operand::Use(packed, View::lanes(words / 2)));
        } else {
            self.f16_to_f32(to, words, v);
        }
    }

    fn f16_to_f32(&mut self, to: Virtual, words: u32, v: Virtual) {
        let view = View::lanes(words);
        let used = |v| Operand::Use(v, view);
        let word = |s: &mut Self, bits: u32| s.pool(Bits::word(bits), words);
        let [magnitude, sign, up, shifted, scaled, infinite, bits] = [(); 7].map(|()| self.vector(words));
        let mask = word(self, 0x7fff);
        self.inst3(forms::AND, words, magnitude, v, mask);
        self.inst3(forms::XOR, words, sign, v, used(magnitude));
        self.shift(forms::SHL_32, words, up, sign, 16);
        // With its exponent in place but biased as in f16, the number is 2^112 too small; scaling also normalizes.
        self.shift(forms::SHL_32, words, shifted, magnitude, 13);
        let scale = word(self, 0x7780_0000);
        self.inst3(forms::MUL, words, scaled, shifted, scale);
        let exponent = word(self, 0x7f80_0000);
        self.inst3(forms::OR, words, infinite, shifted, exponent);
        let largest = word(self, 0x7bff);
        let special = self.raw(VecType { dtype: DType::I32, lanes: words }, CompareOp::Gt, magnitude, largest);
        self.blend(bits, words, false, special, used(infinite), scaled);
        self.inst3(forms::OR, words, to, bits, used(up));
    }

    /// `to = v`, an `f32`, rounded to nearest even.
    pub(super) fn half_from_f32(&mut self, to: Virtual, words: u32, dtype: DType, v: Virtual) {
        if dtype == DType::BF16 {
            self.bf16_from_f32(to, words, v);
        } else if self.unit.f16c {
            let t = self.vector(4.max(words / 2));
            let view = View::lanes(words / 2);
            let code = forms::TO_F16.code(self.isa, words);
            self.frame.body.inst(code, &[Operand::Def(t, view), Operand::Use(v, View::lanes(words)), Operand::Imm(0)]);
            self.inst2(forms::WIDEN_U16, words, to, Operand::Use(t, view));
        } else {
            self.f16_from_f32(to, words, v);
        }
    }

    fn bf16_from_f32(&mut self, to: Virtual, words: u32, v: Virtual) {
        let used = |v| Operand::Use(v, View::lanes(words));
        let [kept, odd, sum, rounded, down, quieted] = [(); 6].map(|()| self.vector(words));
        self.shift(forms::SHR_32, words, kept, v, 16);
        let one = self.pool(Bits::word(1), words);
        self.inst3(forms::AND, words, odd, kept, one);
        let almost_half = self.pool(Bits::word(0x7fff), words);
        self.inst3(forms::ADD_I32, words, sum, v, almost_half);
        self.inst3(forms::ADD_I32, words, rounded, sum, used(odd));
        self.shift(forms::SHR_32, words, down, rounded, 16);
        let quiet = self.pool(Bits::word(0x40), words);
        self.inst3(forms::OR, words, quieted, kept, quiet);
        let nan = self.raw(VecType { dtype: DType::F32, lanes: words }, CompareOp::Ne, v, used(v));
        self.blend(to, words, false, nan, used(quieted), down);
    }

    fn f16_from_f32(&mut self, to: Virtual, words: u32, v: Virtual) {
        let used = |v| Operand::Use(v, View::lanes(words));
        let word = |s: &mut Self, bits: u32| s.pool(Bits::word(bits), words);
        let ints = VecType { dtype: DType::I32, lanes: words };
        let [sign, magnitude, kept, odd, biased, sum, normal] = [(); 7].map(|()| self.vector(words));
        let sign_bit = word(self, 1 << 31);
        self.inst3(forms::AND, words, sign, v, sign_bit);
        self.inst3(forms::XOR, words, magnitude, v, used(sign));
        // Normal results: rebias the exponent and add just below half, plus one if the kept part is odd.
        self.shift(forms::SHR_32, words, kept, magnitude, 13);
        let one = word(self, 1);
        self.inst3(forms::AND, words, odd, kept, one);
        let rebias = word(self, 0xc800_0fff);
        self.inst3(forms::ADD_I32, words, biased, magnitude, rebias);
        self.inst3(forms::ADD_I32, words, sum, biased, used(odd));
        self.shift(forms::SHR_32, words, normal, sum, 13);
        // Subnormal results: adding 0.5 aligns the fraction, and the adder rounds.
        let [aligned, subnormal, finite, result, up, special] = [(); 6].map(|()| self.vector(words));
        let half = word(self, 0x3f00_0000);
        self.inst3(forms::ADD, words, aligned, magnitude, half);
        self.inst3(forms::SUB_I32, words, subnormal, aligned, half);
        let largest_subnormal = word(self, 0x387f_ffff);
        let is_normal = self.raw(ints, CompareOp::Gt, magnitude, largest_subnormal);
        self.blend(finite, words, false, is_normal, used(normal), subnormal);
        let infinity = word(self, 0x7f80_0000);
        let is_nan = self.raw(ints, CompareOp::Gt, magnitude, infinity);
        let (nan, infinite) = (self.fill(Bits::word(0x7e00), words), self.fill(Bits::word(0x7c00), words));
        self.blend(special, words, false, is_nan, used(nan), infinite);
        let largest = word(self, 0x477f_ffff);
        let overflows = self.raw(ints, CompareOp::Gt, magnitude, largest);
        self.blend(result, words, false, overflows, used(special), finite);
        self.shift(forms::SHR_32, words, up, sign, 16);
        self.inst3(forms::OR, words, to, result, used(up));
    }

    /// `to = a op b`, whose operands are the bits of halves.
    pub(super) fn half_binary(&mut self, to: Virtual, ty: VecType, op: BinaryOp, a: Virtual, b: Virtual) -> Result<(), Refused> {
        let words = ty.lanes;
        let [x, y, z] = [(); 3].map(|()| self.vector(words));
        self.half_bits_to_f32(x, words, ty.dtype, a);
        self.half_bits_to_f32(y, words, ty.dtype, b);
        self.binary_values(z, ty.with_dtype(DType::F32), op, x, y)?;
        self.half_from_f32(to, words, ty.dtype, z);
        Ok(())
    }
}

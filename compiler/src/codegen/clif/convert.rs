//! Conversions between element types.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, types};

use super::function::Lower;
use super::value::{Val, constant_bits, int_vector, lane_type, n_parts, part_type};
use crate::codegen::CodegenError;
use crate::nest::{CompareOp, Scalar, VecType};
use crate::tensor::DType;

impl Lower<'_, '_> {
    /// `val`, whose elements are `from`, as `to`.
    pub(super) fn convert(&mut self, from: DType, to: VecType, val: &Val) -> Result<Val, CodegenError> {
        let source = to.with_dtype(from);
        if from == to.dtype {
            return Ok(val.clone());
        }
        match (from, to.dtype) {
            (DType::F16 | DType::BF16, _) => {
                let single = self.half_to_f32(from, to.lanes, val);
                self.convert(DType::F32, to, &single)
            }
            (DType::F32, DType::F16 | DType::BF16) => Ok(self.f32_to_half(to, val)),
            // An f32 on the way rounds once only where it is exact, or where everything it rounds overflows.
            (DType::Bool | DType::I8 | DType::U8 | DType::I16 | DType::U16, DType::F16 | DType::BF16)
            | (DType::I32 | DType::U32 | DType::I64 | DType::U64, DType::F16) => {
                let single = self.convert(from, to.with_dtype(DType::F32), val)?;
                Ok(self.f32_to_half(to, &single))
            }
            (_, DType::F16 | DType::BF16) => self.unsupported(format!("conversion of {source} to {to}")),
            (DType::Bool, _) => Ok(self.bool_to(to, val)),
            (_, DType::Bool) => {
                let zero = self.make_constant(source, Scalar::Int(0));
                self.compare(CompareOp::Ne, source, val, &zero)
            }
            _ if to.lanes == 1 => Ok(Val::scalar(self.convert_scalar(from, to.dtype, val.parts[0]))),
            _ => Ok(self.convert_vector(from, to, val)),
        }
    }

    fn bool_to(&mut self, to: VecType, val: &Val) -> Val {
        if to.lanes == 1 {
            let x = val.parts[0];
            return Val::scalar(match to.dtype {
                DType::F32 | DType::F64 => self.b.ins().fcvt_from_uint(lane_type(to.dtype), x),
                dtype if dtype.size_bytes() == 1 => x,
                dtype => self.b.ins().uextend(lane_type(dtype), x),
            });
        }
        let mask = self.resize_mask(to.lanes, val, to.dtype.size_bytes());
        let one = self.splat_bits(int_vector(to.dtype.size_bytes()), constant_bits(to.dtype, Scalar::Int(1)));
        let parts: Vec<ir::Value> = mask.into_iter().map(|m| self.b.ins().band(m, one)).collect();
        Val::vector(self.casts(&parts, part_type(to.dtype)))
    }

    fn convert_scalar(&mut self, from: DType, to: DType, x: ir::Value) -> ir::Value {
        let ty = lane_type(to);
        match (from.is_float(), to.is_float()) {
            (true, true) if to == DType::F64 => self.b.ins().fpromote(ty, x),
            (true, true) => self.b.ins().fdemote(ty, x),
            (false, true) if from.is_signed() => self.b.ins().fcvt_from_sint(ty, x),
            (false, true) => self.b.ins().fcvt_from_uint(ty, x),
            (true, false) if to.size_bytes() < 4 => {
                let wide = self.b.ins().fcvt_to_sint_sat(types::I32, x);
                let (low, high) = int_range(to);
                let (low, high) = (self.b.ins().iconst(types::I32, low), self.b.ins().iconst(types::I32, high));
                let clamped = self.b.ins().smax(wide, low);
                let clamped = self.b.ins().smin(clamped, high);
                self.b.ins().ireduce(ty, clamped)
            }
            (true, false) if to.is_signed() => self.b.ins().fcvt_to_sint_sat(ty, x),
            (true, false) => self.b.ins().fcvt_to_uint_sat(ty, x),
            (false, false) => match to.size_bytes().cmp(&from.size_bytes()) {
                std::cmp::Ordering::Less => self.b.ins().ireduce(ty, x),
                std::cmp::Ordering::Equal => x,
                std::cmp::Ordering::Greater if from.is_signed() => self.b.ins().sextend(ty, x),
                std::cmp::Ordering::Greater => self.b.ins().uextend(ty, x),
            },
        }
    }

    fn convert_vector(&mut self, from: DType, to: VecType, val: &Val) -> Val {
        let (lanes, dtype) = (to.lanes, to.dtype);
        match (from.is_float(), dtype.is_float()) {
            (false, false) => Val::vector(self.resize_ints(lanes, &val.parts, from, dtype.size_bytes())),
            (false, true) if dtype == DType::F32 && from.size_bytes() <= 4 => {
                let wide = self.resize_ints(lanes, &val.parts, from, 4);
                let unsigned = from == DType::U32;
                let convert =
                    |x| if unsigned { self.b.ins().fcvt_from_uint(types::F32X4, x) } else { self.b.ins().fcvt_from_sint(types::F32X4, x) };
                Val::vector(wide.into_iter().map(convert).collect())
            }
            (true, false) if from == DType::F32 && dtype.size_bytes() <= 4 => Val::vector(self.f32_to_ints(lanes, &val.parts, dtype)),
            (true, true) if dtype == DType::F64 => {
                let parts = (0..n_parts(lanes, 8))
                    .map(|i| {
                        let part = val.parts[i / 2];
                        let part = if i % 2 == 0 { part } else { self.high_half(part) };
                        self.b.ins().fvpromote_low(part)
                    })
                    .collect();
                Val::vector(parts)
            }
            _ => {
                let scalars: Vec<ir::Value> =
                    self.lanes(to.with_dtype(from), val).into_iter().map(|x| self.convert_scalar(from, dtype, x)).collect();
                self.pack(to, &scalars)
            }
        }
    }

    fn high_half(&mut self, part: ir::Value) -> ir::Value {
        let ty = self.b.func.dfg.value_type(part);
        let x = self.cast(part, types::I8X16);
        let x = self.shuffle(x, x, std::array::from_fn(|i| 8 + i as u8 % 8));
        self.cast(x, ty)
    }

    /// Integer lanes at another width: extended by their sign, or truncated.
    fn resize_ints(&mut self, lanes: u32, parts: &[ir::Value], from: DType, bytes: usize) -> Vec<ir::Value> {
        let mut parts = parts.to_vec();
        let mut width = from.size_bytes();
        while width < bytes {
            parts = self.widen_ints(lanes, &parts, width, from.is_signed());
            width *= 2;
        }
        while width > bytes {
            parts = self.truncate_ints(&parts, width);
            width /= 2;
        }
        parts
    }

    /// The low halves of integer lanes that are `bytes` wide.
    pub(super) fn truncate_ints(&mut self, parts: &[ir::Value], bytes: usize) -> Vec<ir::Value> {
        self.narrow_pairs(parts, |s, a, b| {
            if bytes == 8 {
                return s.every_other_word(a, b);
            }
            if !s.caps.x86 {
                let (a, b) = (s.cast(a, types::I8X16), s.cast(b, types::I8X16));
                let half = bytes / 2;
                let x = s.shuffle(a, b, std::array::from_fn(|i| ((i / half) * bytes + i % half) as u8));
                return s.cast(x, int_vector(half));
            }
            // With the high half made a copy of the sign, the saturating instruction does not saturate.
            let amount = s.b.ins().iconst(types::I32, bytes as i64 * 4);
            let [a, b] = [a, b].map(|x| {
                let up = s.b.ins().ishl(x, amount);
                s.b.ins().sshr(up, amount)
            });
            s.b.ins().snarrow(a, b)
        })
    }

    fn f32_to_ints(&mut self, lanes: u32, parts: &[ir::Value], to: DType) -> Vec<ir::Value> {
        if to == DType::U32 {
            return parts.iter().map(|&x| self.b.ins().fcvt_to_uint_sat(types::I32X4, x)).collect();
        }
        let words: Vec<ir::Value> = parts.iter().map(|&x| self.b.ins().fcvt_to_sint_sat(types::I32X4, x)).collect();
        match to {
            DType::I32 => words,
            DType::U16 => {
                let (low, high) = (self.splat_bits(types::I32X4, 0), self.splat_bits(types::I32X4, 0xffff));
                let clamped: Vec<ir::Value> = words
                    .into_iter()
                    .map(|x| {
                        let x = self.b.ins().smax(x, low);
                        self.b.ins().smin(x, high)
                    })
                    .collect();
                self.resize_ints(lanes, &clamped, DType::I32, 2)
            }
            _ => {
                let halves = self.narrow_pairs(&words, |s, a, b| s.b.ins().snarrow(a, b));
                match to {
                    DType::I16 => halves,
                    DType::I8 => self.narrow_pairs(&halves, |s, a, b| s.b.ins().snarrow(a, b)),
                    _ => self.narrow_pairs(&halves, |s, a, b| s.b.ins().unarrow(a, b)),
                }
            }
        }
    }

    fn half_to_f32(&mut self, from: DType, lanes: u32, val: &Val) -> Val {
        if lanes == 1 {
            let wide = self.b.ins().uextend(types::I32, val.parts[0]);
            let vector = self.in_vector(wide);
            let single = self.half_bits_to_f32(from, vector);
            return Val::scalar(self.b.ins().extractlane(single, 0));
        }
        let wide = self.widen_ints(lanes, &val.parts, 2, false);
        Val::vector(wide.into_iter().map(|x| self.half_bits_to_f32(from, x)).collect())
    }

    fn shift_words(&mut self, x: ir::Value, left: i64) -> ir::Value {
        let amount = self.b.ins().iconst(types::I32, left.abs());
        if left > 0 { self.b.ins().ishl(x, amount) } else { self.b.ins().ushr(x, amount) }
    }

    /// Half floats in the low halves of four words, as `f32x4`.
    fn half_bits_to_f32(&mut self, from: DType, x: ir::Value) -> ir::Value {
        if from == DType::BF16 {
            let bits = self.shift_words(x, 16);
            return self.cast(bits, types::F32X4);
        }
        let word = |s: &mut Self, bits: u32| s.splat_bits(types::I32X4, bits.into());
        let (sign_bit, magnitude_bits) = (word(self, 0x8000), word(self, 0x7fff));
        let sign = self.b.ins().band(x, sign_bit);
        let sign = self.shift_words(sign, 16);
        let magnitude = self.b.ins().band(x, magnitude_bits);
        // With its exponent in place but biased as in f16, the number is 2^112 too small; scaling also normalizes.
        let shifted = self.shift_words(magnitude, 13);
        let scale = self.splat_bits(types::F32X4, 0x7780_0000);
        let small = self.cast(shifted, types::F32X4);
        let scaled = self.b.ins().fmul(small, scale);
        let scaled = self.cast(scaled, types::I32X4);
        let (largest, exponent) = (word(self, 0x7bff), word(self, 0x7f80_0000));
        let special = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, largest);
        let infinite = self.b.ins().bor(shifted, exponent);
        let bits = self.blend(special, infinite, scaled);
        let bits = self.b.ins().bor(bits, sign);
        self.cast(bits, types::F32X4)
    }

    fn f32_to_half(&mut self, to: VecType, val: &Val) -> Val {
        if to.lanes == 1 {
            let vector = self.in_vector(val.parts[0]);
            let words = self.f32_to_half_bits(to.dtype, vector);
            let word = self.b.ins().extractlane(words, 0);
            return Val::scalar(self.b.ins().ireduce(types::I16, word));
        }
        let words: Vec<ir::Value> = val.parts.iter().map(|&x| self.f32_to_half_bits(to.dtype, x)).collect();
        Val::vector(self.truncate_ints(&words, 4))
    }

    /// `f32x4` rounded to nearest even, as half floats in the low halves of four words.
    fn f32_to_half_bits(&mut self, to: DType, x: ir::Value) -> ir::Value {
        let word = |s: &mut Self, bits: u32| s.splat_bits(types::I32X4, bits.into());
        let bits = self.cast(x, types::I32X4);
        let one = word(self, 1);
        if to == DType::BF16 {
            let kept = self.shift_words(bits, -16);
            let odd = self.b.ins().band(kept, one);
            let (almost_half, quiet) = (word(self, 0x7fff), word(self, 0x40));
            let rounded = self.b.ins().iadd(bits, almost_half);
            let rounded = self.b.ins().iadd(rounded, odd);
            let rounded = self.shift_words(rounded, -16);
            let nan = self.b.ins().fcmp(FloatCC::NotEqual, x, x);
            let quieted = self.b.ins().bor(kept, quiet);
            return self.blend(nan, quieted, rounded);
        }
        let sign_bit = word(self, 0x8000_0000);
        let sign = self.b.ins().band(bits, sign_bit);
        let magnitude = self.b.ins().bxor(bits, sign);
        // Normal results: rebias the exponent and add just below half, plus one if the kept part is odd.
        let kept = self.shift_words(magnitude, -13);
        let odd = self.b.ins().band(kept, one);
        let rebias = word(self, 0xc800_0fff);
        let normal = self.b.ins().iadd(magnitude, rebias);
        let normal = self.b.ins().iadd(normal, odd);
        let normal = self.shift_words(normal, -13);
        // Subnormal results: adding 0.5 aligns the fraction, and the adder rounds.
        let half = word(self, 0x3f00_0000);
        let (magnitude_float, half_float) = (self.cast(magnitude, types::F32X4), self.cast(half, types::F32X4));
        let aligned = self.b.ins().fadd(magnitude_float, half_float);
        let aligned = self.cast(aligned, types::I32X4);
        let subnormal = self.b.ins().isub(aligned, half);
        let least_normal = word(self, 0x3880_0000);
        let is_subnormal = self.b.ins().icmp(IntCC::SignedLessThan, magnitude, least_normal);
        let finite = self.blend(is_subnormal, subnormal, normal);
        let (infinity, nan, single_infinity, least_overflow) =
            (word(self, 0x7c00), word(self, 0x7e00), word(self, 0x7f80_0000), word(self, 0x4780_0000));
        let is_nan = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, single_infinity);
        let special = self.blend(is_nan, nan, infinity);
        let overflows = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, magnitude, least_overflow);
        let result = self.blend(overflows, special, finite);
        let sign = self.shift_words(sign, -16);
        self.b.ins().bor(result, sign)
    }
}

fn int_range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::I16 => (i16::MIN.into(), i16::MAX.into()),
        _ => (0, u16::MAX.into()),
    }
}

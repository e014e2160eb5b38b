//! Arithmetic, comparisons and shifts. Most Cranelift instructions take scalars and vectors alike, so one piece of code
//! serves both; what the target has for scalars only goes lane by lane.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self, InstBuilder, types};

use super::function::Lower;
use super::value::{Val, int_vector, lane_type, part_type};
use crate::codegen::CodegenError;
use crate::nest::{BinaryOp, CompareOp, Scalar, UnaryOp, VecType};
use crate::tensor::DType;

impl Lower<'_, '_> {
    fn map(&mut self, a: &Val, mut f: impl FnMut(&mut Self, ir::Value) -> ir::Value) -> Val {
        Val { parts: a.parts.iter().map(|&x| f(self, x)).collect(), mask_bytes: a.mask_bytes }
    }

    fn map2(&mut self, a: &Val, b: &Val, mut f: impl FnMut(&mut Self, ir::Value, ir::Value) -> ir::Value) -> Val {
        Val { parts: a.parts.iter().zip(&b.parts).map(|(&x, &y)| f(self, x, y)).collect(), mask_bytes: a.mask_bytes }
    }

    /// `f` of the scalars of every lane.
    fn by_lane2(&mut self, ty: VecType, a: &Val, b: &Val, mut f: impl FnMut(&mut Self, ir::Value, ir::Value) -> ir::Value) -> Val {
        let (a, b) = (self.lanes(ty, a), self.lanes(ty, b));
        let results: Vec<ir::Value> = a.into_iter().zip(b).map(|(x, y)| f(self, x, y)).collect();
        self.pack(ty, &results)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, ty: VecType, a: &Val) -> Result<Val, CodegenError> {
        let dtype = ty.dtype;
        Ok(match op {
            UnaryOp::Not if dtype == DType::Bool && ty.lanes == 1 => self.map(a, |s, x| s.b.ins().bxor_imm_u(x, 1)),
            UnaryOp::Not if !dtype.is_float() => self.map(a, |s, x| s.b.ins().bnot(x)),
            UnaryOp::Neg | UnaryOp::Abs if dtype.is_half() => {
                let (sign, magnitude) = (self.same_bits(ty, 0x8000), self.same_bits(ty, 0x7fff));
                self.map(a, |s, x| if op == UnaryOp::Neg { s.b.ins().bxor(x, sign) } else { s.b.ins().band(x, magnitude) })
            }
            _ if dtype.is_half() && op != UnaryOp::Not => {
                let single = ty.with_dtype(DType::F32);
                let x = self.convert(dtype, single, a)?;
                let x = self.unary(op, single, &x)?;
                self.convert(DType::F32, ty, &x)?
            }
            _ if dtype == DType::Bool => return self.unsupported(format!("{op:?} of {ty}")),
            UnaryOp::Neg if dtype.is_float() => self.map(a, |s, x| s.b.ins().fneg(x)),
            UnaryOp::Neg => self.map(a, |s, x| s.b.ins().ineg(x)),
            UnaryOp::Abs if dtype.is_float() => self.map(a, |s, x| s.b.ins().fabs(x)),
            UnaryOp::Abs if dtype.is_signed() => self.map(a, |s, x| s.b.ins().iabs(x)),
            UnaryOp::Abs => a.clone(),
            UnaryOp::Sqrt if dtype.is_float() => self.map(a, |s, x| s.b.ins().sqrt(x)),
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round if dtype.is_int() => a.clone(),
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round => self.map(a, |s, x| s.round(op, x)),
            UnaryOp::Not | UnaryOp::Sqrt => return self.unsupported(format!("{op:?} of {ty}")),
        })
    }

    fn same_bits(&mut self, ty: VecType, bits: u64) -> ir::Value {
        if ty.lanes == 1 { self.scalar_bits(ty.dtype, bits) } else { self.splat_bits(part_type(ty.dtype), bits) }
    }

    /// Rounding to an integral value. Where the target has no instruction for it, adding and subtracting a power of two
    /// rounds to nearest, and comparisons correct that.
    fn round(&mut self, op: UnaryOp, x: ir::Value) -> ir::Value {
        if !self.caps.x86 || self.caps.sse42 {
            return match op {
                UnaryOp::Floor => self.b.ins().floor(x),
                UnaryOp::Ceil => self.b.ins().ceil(x),
                UnaryOp::Trunc => self.b.ins().trunc(x),
                _ => self.b.ins().nearest(x),
            };
        }
        let ty = self.b.func.dfg.value_type(x);
        if !ty.is_vector() {
            let vector = self.in_vector(x);
            let rounded = self.round(op, vector);
            return self.b.ins().extractlane(rounded, 0);
        }
        // The first power of two from which on every number is integral.
        let (sign_bit, one, integral) = if ty == types::F32X4 {
            (1 << 31, u64::from(1f32.to_bits()), u64::from(8_388_608f32.to_bits()))
        } else {
            (1 << 63, 1f64.to_bits(), 4_503_599_627_370_496f64.to_bits())
        };
        let (sign_bit, one, integral) = (self.splat_bits(ty, sign_bit), self.splat_bits(ty, one), self.splat_bits(ty, integral));
        let magnitude = self.b.ins().fabs(x);
        let sign = self.b.ins().band(x, sign_bit);
        // Trunc is the floor of the magnitude.
        let y = if op == UnaryOp::Trunc { magnitude } else { x };
        let shifted = self.b.ins().fadd(magnitude, integral);
        let nearest = self.b.ins().fsub(shifted, integral);
        let nearest = if op == UnaryOp::Trunc { nearest } else { self.b.ins().bor(nearest, sign) };
        let small = self.b.ins().fcmp(FloatCC::LessThan, magnitude, integral);
        let small = self.cast(small, ty);
        let nearest = self.b.ins().bitselect(small, nearest, y);
        let rounded = match op {
            UnaryOp::Round => return nearest,
            UnaryOp::Ceil => {
                let below = self.b.ins().fcmp(FloatCC::LessThan, nearest, y);
                let below = self.cast(below, ty);
                let step = self.b.ins().band(below, one);
                self.b.ins().fadd(nearest, step)
            }
            _ => {
                let above = self.b.ins().fcmp(FloatCC::LessThan, y, nearest);
                let above = self.cast(above, ty);
                let step = self.b.ins().band(above, one);
                self.b.ins().fsub(nearest, step)
            }
        };
        self.b.ins().bor(rounded, sign)
    }

    pub(super) fn binary(&mut self, op: BinaryOp, ty: VecType, a: &Val, b: &Val) -> Result<Val, CodegenError> {
        let dtype = ty.dtype;
        if dtype == DType::Bool {
            return self.binary_bool(op, ty, a, b);
        }
        let bitwise = matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor);
        if dtype.is_float() && (bitwise || op == BinaryOp::Rem) {
            return self.unsupported(format!("{op:?} of {ty}"));
        }
        if dtype.is_half() {
            let single = ty.with_dtype(DType::F32);
            let (x, y) = (self.convert(dtype, single, a)?, self.convert(dtype, single, b)?);
            let z = self.binary(op, single, &x, &y)?;
            return self.convert(DType::F32, ty, &z);
        }
        if dtype.is_float() {
            return Ok(self.map2(a, b, |s, x, y| match op {
                BinaryOp::Add => s.b.ins().fadd(x, y),
                BinaryOp::Sub => s.b.ins().fsub(x, y),
                BinaryOp::Mul => s.b.ins().fmul(x, y),
                BinaryOp::Div => s.b.ins().fdiv(x, y),
                _ => s.float_min_max(op == BinaryOp::Min, x, y),
            }));
        }
        let signed = dtype.is_signed();
        Ok(match op {
            BinaryOp::Mul if ty.lanes > 1 && dtype.size_bytes() == 1 => self.multiply_bytes(ty, a, b),
            BinaryOp::Min | BinaryOp::Max if ty.lanes > 1 && dtype.size_bytes() == 8 => {
                let (x, y) = if op == BinaryOp::Min { (a, b) } else { (b, a) };
                let less = self.compare(CompareOp::Lt, ty, x, y)?;
                self.select(ty, &less, a, b)
            }
            _ => self.map2(a, b, |s, x, y| match (op, signed) {
                (BinaryOp::Add, _) => s.b.ins().iadd(x, y),
                (BinaryOp::Sub, _) => s.b.ins().isub(x, y),
                (BinaryOp::Mul, _) => s.b.ins().imul(x, y),
                (BinaryOp::And, _) => s.b.ins().band(x, y),
                (BinaryOp::Or, _) => s.b.ins().bor(x, y),
                (BinaryOp::Xor, _) => s.b.ins().bxor(x, y),
                (BinaryOp::Min, true) => s.b.ins().smin(x, y),
                (BinaryOp::Min, false) => s.b.ins().umin(x, y),
                (BinaryOp::Max, true) => s.b.ins().smax(x, y),
                (BinaryOp::Max, false) => s.b.ins().umax(x, y),
                (BinaryOp::Div | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr, _) => unreachable!("have functions of their own"),
            }),
        })
    }

    /// `x < y ? x : y`, or `x > y ? x : y`, in the form that Cranelift knows as one x86 instruction.
    fn float_min_max(&mut self, min: bool, x: ir::Value, y: ir::Value) -> ir::Value {
        let less = if min { self.b.ins().fcmp(FloatCC::LessThan, x, y) } else { self.b.ins().fcmp(FloatCC::LessThan, y, x) };
        let ty = self.b.func.dfg.value_type(x);
        if ty.is_vector() {
            let less = self.cast(less, ty);
            self.b.ins().bitselect(less, x, y)
        } else {
            self.b.ins().select(less, x, y)
        }
    }

    fn binary_bool(&mut self, op: BinaryOp, ty: VecType, a: &Val, b: &Val) -> Result<Val, CodegenError> {
        let b = if ty.lanes == 1 { b.clone() } else { Val::mask(self.resize_mask(ty.lanes, b, a.mask_bytes), a.mask_bytes) };
        Ok(match op {
            BinaryOp::And | BinaryOp::Min => self.map2(a, &b, |s, x, y| s.b.ins().band(x, y)),
            BinaryOp::Or | BinaryOp::Max => self.map2(a, &b, |s, x, y| s.b.ins().bor(x, y)),
            BinaryOp::Xor => self.map2(a, &b, |s, x, y| s.b.ins().bxor(x, y)),
            _ => return self.unsupported(format!("{op:?} of {ty}")),
        })
    }

    fn multiply_bytes(&mut self, ty: VecType, a: &Val, b: &Val) -> Val {
        let a = self.widen_ints(ty.lanes, &a.parts, 1, false);
        let b = self.widen_ints(ty.lanes, &b.parts, 1, false);
        let products: Vec<ir::Value> = a.into_iter().zip(b).map(|(x, y)| self.b.ins().imul(x, y)).collect();
        Val::vector(self.truncate_ints(&products, 2))
    }

    pub(super) fn fma(&mut self, ty: VecType, a: &Val, b: &Val, c: &Val) -> Result<Val, CodegenError> {
        if ty.dtype.is_half() || ty.dtype == DType::Bool {
            return self.unsupported(format!("multiply-add of {ty}"));
        }
        let fused = self.caps.fma && matches!(ty.dtype, DType::F32 | DType::F64);
        if !fused {
            let product = self.binary(BinaryOp::Mul, ty, a, b)?;
            return self.binary(BinaryOp::Add, ty, &product, c);
        }
        let parts = (0..a.parts.len()).map(|i| self.b.ins().fma(a.parts[i], b.parts[i], c.parts[i])).collect();
        Ok(Val::vector(parts))
    }

    pub(super) fn shift(&mut self, op: BinaryOp, ty: VecType, a: &Val, amount: &Val, known: Option<Scalar>) -> Result<Val, CodegenError> {
        if !ty.dtype.is_int() {
            return self.unsupported(format!("{op:?} of {ty}"));
        }
        let signed = ty.dtype.is_signed();
        let shift = |s: &mut Self, x: ir::Value, n: ir::Value| match (op, signed) {
            (BinaryOp::Shl, _) => s.b.ins().ishl(x, n),
            (_, true) => s.b.ins().sshr(x, n),
            (_, false) => s.b.ins().ushr(x, n),
        };
        if let Some(Scalar::Int(n)) = known {
            let n = self.b.ins().iconst(types::I32, n & i64::from(ty.dtype.bits() - 1));
            return Ok(self.map(a, |s, x| shift(s, x, n)));
        }
        Ok(self.by_lane2(ty, a, amount, shift))
    }

    /// Integer division and remainder; by zero they give 0, and the minimum by -1 wraps.
    pub(super) fn divide_ints(&mut self, op: BinaryOp, ty: VecType, a: &Val, b: &Val, known: Option<Scalar>) -> Val {
        let dtype = ty.dtype;
        let safe = matches!(known, Some(Scalar::Int(n)) if n != 0 && n != -1);
        self.by_lane2(ty, a, b, |s, x, y| s.divide_scalars(op, dtype, x, y, safe))
    }

    fn divide_scalars(&mut self, op: BinaryOp, dtype: DType, x: ir::Value, y: ir::Value, safe: bool) -> ir::Value {
        let (narrow, signed) = (lane_type(dtype), dtype.is_signed());
        let wide = if dtype.size_bytes() < 4 { types::I32 } else { narrow };
        let extend = |s: &mut Self, v: ir::Value| match (wide == narrow, signed) {
            (true, _) => v,
            (_, true) => s.b.ins().sextend(wide, v),
            (_, false) => s.b.ins().uextend(wide, v),
        };
        let (x, y) = (extend(self, x), extend(self, y));
        let result = if safe {
            self.divide_instruction(op, signed, x, y)
        } else {
            let one = self.b.ins().iconst(wide, 1);
            let zero = self.b.ins().iconst(wide, 0);
            let by_zero = self.b.ins().icmp_imm_s(IntCC::Equal, y, 0);
            let by_minus_one = if signed { self.b.ins().icmp_imm_s(IntCC::Equal, y, -1) } else { by_zero };
            let special = self.b.ins().bor(by_zero, by_minus_one);
            let divisor = self.b.ins().select(special, one, y);
            let result = self.divide_instruction(op, signed, x, divisor);
            if op == BinaryOp::Rem {
                result
            } else {
                let negated = self.b.ins().ineg(x);
                let result = self.b.ins().select(by_minus_one, negated, result);
                self.b.ins().select(by_zero, zero, result)
            }
        };
        if wide == narrow { result } else { self.b.ins().ireduce(narrow, result) }
    }

    fn divide_instruction(&mut self, op: BinaryOp, signed: bool, x: ir::Value, y: ir::Value) -> ir::Value {
        match (op, signed) {
            (BinaryOp::Div, true) => self.b.ins().sdiv(x, y),
            (BinaryOp::Div, false) => self.b.ins().udiv(x, y),
            (_, true) => self.b.ins().srem(x, y),
            (_, false) => self.b.ins().urem(x, y),
        }
    }

    /// A comparison of two registers of type `ty`.
    pub(super) fn compare(&mut self, op: CompareOp, ty: VecType, a: &Val, b: &Val) -> Result<Val, CodegenError> {
        let dtype = ty.dtype;
        if dtype.is_half() {
            let single = ty.with_dtype(DType::F32);
            let (x, y) = (self.convert(dtype, single, a)?, self.convert(dtype, single, b)?);
            return self.compare(op, single, &x, &y);
        }
        let b = if dtype == DType::Bool && ty.lanes > 1 {
            Val::mask(self.resize_mask(ty.lanes, b, a.mask_bytes), a.mask_bytes)
        } else {
            b.clone()
        };
        let mask_bytes = match (ty.lanes, dtype) {
            (1, _) => 0,
            (_, DType::Bool) => a.mask_bytes,
            _ => dtype.size_bytes(),
        };
        let parts = a.parts.iter().zip(&b.parts).map(|(&x, &y)| self.compare_values(op, dtype, x, y)).collect();
        Ok(Val { parts, mask_bytes })
    }

    fn compare_values(&mut self, op: CompareOp, dtype: DType, x: ir::Value, y: ir::Value) -> ir::Value {
        if dtype.is_float() {
            let cc = match op {
                CompareOp::Eq => FloatCC::Equal,
                CompareOp::Ne => FloatCC::NotEqual,
                CompareOp::Lt => FloatCC::LessThan,
                CompareOp::Le => FloatCC::LessThanOrEqual,
                CompareOp::Gt => FloatCC::GreaterThan,
                CompareOp::Ge => FloatCC::GreaterThanOrEqual,
            };
            return self.b.ins().fcmp(cc, x, y);
        }
        let cc = match (op, dtype.is_signed()) {
            (CompareOp::Eq, _) => IntCC::Equal,
            (CompareOp::Ne, _) => IntCC::NotEqual,
            (CompareOp::Lt, true) => IntCC::SignedLessThan,
            (CompareOp::Le, true) => IntCC::SignedLessThanOrEqual,
            (CompareOp::Gt, true) => IntCC::SignedGreaterThan,
            (CompareOp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
            (CompareOp::Lt, false) => IntCC::UnsignedLessThan,
            (CompareOp::Le, false) => IntCC::UnsignedLessThanOrEqual,
            (CompareOp::Gt, false) => IntCC::UnsignedGreaterThan,
            (CompareOp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
        };
        let ty = self.b.func.dfg.value_type(x);
        if self.caps.x86 && !self.caps.sse42 && ty == types::I64X2 {
            return self.compare_wide_lanes(cc, x, y);
        }
        self.b.ins().icmp(cc, x, y)
    }

    /// 64-bit lanes one by one: the comparison itself came with SSE4.2.
    fn compare_wide_lanes(&mut self, cc: IntCC, x: ir::Value, y: ir::Value) -> ir::Value {
        let lanes: Vec<ir::Value> = (0..2u8)
            .map(|i| {
                let (x, y) = (self.b.ins().extractlane(x, i), self.b.ins().extractlane(y, i));
                let bit = self.b.ins().icmp(cc, x, y);
                let bit = self.b.ins().uextend(types::I64, bit);
                self.b.ins().ineg(bit)
            })
            .collect();
        let mask = self.b.ins().scalar_to_vector(int_vector(8), lanes[0]);
        self.b.ins().insertlane(mask, lanes[1], 1)
    }
}

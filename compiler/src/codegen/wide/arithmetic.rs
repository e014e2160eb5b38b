//! Operations lane by lane. A scalar that is not in a general register is a vector of which only the first lane counts.

use super::forms::{self, Forms};
use super::inst::{Operand, View, Virtual};
use super::operands::{Bits, is_long, is_narrow, is_wide, words};
use super::select::{Select, refuse};
use super::{Isa, Refused};
use crate::codegen::linear::flow::Flow as _;
use crate::nest::{BinaryOp, CompareOp, Op, Reg, Scalar, UnaryOp, VecType};
use crate::tensor::DType;

/// Rounding of `roundps` without an exception for inexact results.
pub(super) const TOWARD_ZERO: i64 = 11;

impl Select<'_> {
    /// `reg = op`.
    pub(super) fn op(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let ty = self.ty(reg);
        let mut other = None;
        crate::nest::for_each_operand(op, |r| {
            if self.packed[r.0 as usize] {
                other = Some(r);
            }
        });
        if (other.is_some() || self.packed[reg.0 as usize]) && !matches!(op, Op::Copy(_) | Op::Const(_) | Op::Bitcast(_) | Op::Dot(..)) {
            return refuse(format!("{op:?} of bytes that are read as words"));
        }
        match op {
            Op::Gather { buffer, index } => self.gather(reg, *buffer, index),
            Op::Check(a, end) if ty.lanes > 1 => self.check_lanes(reg, *a, *end),
            Op::Check(a, end) => {
                let v = self.value(*a)?;
                self.check(v, *end);
                let to = self.home(reg)?;
                self.move_general(to, v);
                Ok(())
            }
            Op::Compare(op, a, b) => self.compare(reg, *op, *a, *b),
            Op::Convert(a) => self.convert(reg, *a),
            Op::Bitcast(a) => self.bitcast(reg, *a),
            Op::Lane(a, lane) if ty.dtype != DType::Bool => {
                let to = self.home(reg)?;
                self.lane_register(to, *a, *lane)
            }
            Op::Horizontal(op, a) => {
                let to = self.home(reg)?;
                self.horizontal(to, ty, *op, *a)
            }
            Op::Copy(a) | Op::Splat(a) if is_long(ty.dtype) && ty.lanes == 1 => {
                let (v, to) = (self.value(*a)?, self.home(reg)?);
                self.move_general(to, v);
                Ok(())
            }
            Op::Pack(regs) if ty.dtype != DType::Bool => {
                let to = self.home(reg)?;
                self.pack(to, regs, ty)
            }
            _ if ty.dtype == DType::Bool => self.mask(reg, op),
            _ if is_long(ty.dtype) && ty.lanes == 1 => self.integer(reg, op),
            _ => self.lanes_op(reg, ty, op),
        }
    }

    fn lanes_op(&mut self, reg: Reg, ty: VecType, op: &Op) -> Result<(), Refused> {
        let words = self.words(reg);
        let to = self.home(reg)?;
        match op {
            Op::Const(c) => {
                let bits = self.bits_of(ty.dtype, self.packed[reg.0 as usize], *c);
                self.fill_into(to, bits, words);
            }
            Op::Copy(a) => match self.lane_constant(*a) {
                Some(bits) => self.fill_into(to, bits, words),
                None => {
                    let v = self.value(*a)?;
                    self.move_vector(to, v, words);
                }
            },
            Op::Splat(a) => self.splat_register(to, ty, *a)?,
            Op::Unary(op, a) => self.unary(to, ty, *op, *a)?,
            Op::Binary(op, a, b) => self.binary(to, ty, *op, *a, *b)?,
            Op::Fma(a, b, c) if ty.dtype.is_float() && !ty.dtype.is_half() => {
                if self.isa == Isa::V2 {
                    self.multiply_add(to, ty, *a, *b, *c)?;
                } else {
                    self.fma(to, ty, *a, *b, *c)?;
                }
            }
            Op::Fma(a, b, c) if ty.dtype.is_int() => {
                let (a, b, c) = (self.value(*a)?, self.value(*b)?, self.value(*c)?);
                let t = self.vector(words);
                self.binary_values(t, ty, BinaryOp::Mul, a, b)?;
                self.binary_values(to, ty, BinaryOp::Add, t, c)?;
            }
            Op::Select(c, a, b) => self.select_lanes(to, ty, *c, *a, *b)?,
            Op::Dot(c, a, b) => self.dot(to, words, *c, *a, *b)?,
            Op::Shuffle(order, a, b) if super::operands::is_word(ty.dtype) => self.shuffle(to, words, *order, *a, *b)?,
            _ => return refuse(format!("{op:?} of {ty}")),
        }
        Ok(())
    }

    /// An integer that is narrower than its lanes, brought back into the range of its type.
    pub(super) fn wrap(&mut self, to: Virtual, v: Virtual, words: u32, dtype: DType) {
        let bits = i64::from(dtype.bits());
        match dtype {
            DType::I8 | DType::I16 => {
                let t = self.vector(words);
                self.shift(forms::SHL_32, words, t, v, 32 - bits);
                self.shift(forms::SAR_32, words, to, t, 32 - bits);
            }
            DType::U8 | DType::U16 | DType::F16 | DType::BF16 => {
                let mask = self.pool(Bits::word((1 << bits) - 1), words);
                self.inst3(forms::AND, words, to, v, mask);
            }
            _ => self.move_vector(to, v, words),
        }
    }

    fn unary(&mut self, to: Virtual, ty: VecType, op: UnaryOp, a: Reg) -> Result<(), Refused> {
        let (words, wide) = (words(ty), is_wide(ty.dtype));
        let with_bits = |s: &mut Self, narrow: Forms, long: Forms, bits: Bits| -> Result<(), Refused> {
            let v = s.value(a)?;
            let bits = s.pool(bits, words);
            s.inst3(if wide { long } else { narrow }, words, to, v, bits);
            Ok(())
        };
        let sign = match ty.dtype {
            DType::F64 => Bits::long(1 << 63),
            DType::F32 => Bits::word(1 << 31),
            _ => Bits::word(0x8000),
        };
        let magnitude = match ty.dtype {
            DType::F64 => Bits::long(u64::MAX >> 1),
            DType::F32 => Bits::word(u32::MAX >> 1),
            _ => Bits::word(0x7fff),
        };
        match op {
            UnaryOp::Neg if ty.dtype.is_float() => with_bits(self, forms::XOR, forms::XOR_64, sign)?,
            UnaryOp::Abs if ty.dtype.is_float() => with_bits(self, forms::AND, forms::AND_64, magnitude)?,
            _ if ty.dtype.is_half() => {
                let v = self.half_as_f32(a)?;
                let t = self.vector(words);
                self.round_or_root(t, ty.with_dtype(DType::F32), op, Operand::Use(v, View::lanes(words)))?;
                self.half_from_f32(to, words, ty.dtype, t);
            }
            UnaryOp::Not if ty.dtype.is_int() => {
                let ones = match ty.dtype {
                    DType::U8 => Bits::word(0xff),
                    DType::U16 => Bits::word(0xffff),
                    _ if wide => Bits::long(u64::MAX),
                    _ => Bits::word(u32::MAX),
                };
                with_bits(self, forms::XOR, forms::XOR_64, ones)?;
            }
            UnaryOp::Neg => {
                let zero = self.fill(Bits::word(0), words);
                let a = self.value(a)?;
                self.binary_values(to, ty, BinaryOp::Sub, zero, a)?;
            }
            UnaryOp::Abs if !ty.dtype.is_signed() => {
                let v = self.value(a)?;
                self.move_vector(to, v, words);
            }
            UnaryOp::Abs if wide && self.isa != Isa::V4 => {
                let v = self.value(a)?;
                let (zero, flipped) = (self.fill(Bits::word(0), words), self.vector(words));
                let view = View::lanes(words);
                let negative = self.raw(ty, CompareOp::Gt, zero, Operand::Use(v, view));
                self.inst3(forms::XOR, words, flipped, v, Operand::Use(negative, view));
                self.inst3(forms::SUB_I64, words, to, flipped, Operand::Use(negative, view));
            }
            UnaryOp::Abs => {
                let narrow = is_narrow(ty.dtype);
                let a = if narrow { Operand::Use(self.value(a)?, View::lanes(words)) } else { self.operand(a)? };
                let t = if narrow { self.vector(words) } else { to };
                self.inst2(if wide { forms::ABS_I64 } else { forms::ABS_I32 }, words, t, a);
                if narrow {
                    self.wrap(to, t, words, ty.dtype);
                }
            }
            _ => {
                let a = self.operand(a)?;
                self.round_or_root(to, ty, op, a)?;
            }
        }
        Ok(())
    }

    fn round_or_root(&mut self, to: Virtual, ty: VecType, op: UnaryOp, a: Operand) -> Result<(), Refused> {
        let (root, round) = if is_wide(ty.dtype) { (forms::SQRT_F64, forms::ROUND_F64) } else { (forms::SQRT, forms::ROUND) };
        let mode = match op {
            UnaryOp::Floor => 9,
            UnaryOp::Ceil => 10,
            UnaryOp::Trunc => TOWARD_ZERO,
            UnaryOp::Round => 8,
            UnaryOp::Sqrt if ty.dtype.is_float() => {
                self.inst2(root, words(ty), to, a);
                return Ok(());
            }
            _ => return refuse(format!("{op:?} of {ty}")),
        };
        if !ty.dtype.is_float() {
            return refuse(format!("{op:?} of {ty}"));
        }
        self.inst2_imm(round, words(ty), to, a, mode);
        Ok(())
    }

    fn binary(&mut self, to: Virtual, ty: VecType, op: BinaryOp, a: Reg, b: Reg) -> Result<(), Refused> {
        let words = words(ty);
        match op {
            BinaryOp::Shl | BinaryOp::Shr => {
                let Some(Scalar::Int(by)) = self.constant(b) else { return refuse("a shift by a variable amount") };
                let v = self.value(a)?;
                self.shift_lanes(to, ty, op, v, by);
                return Ok(());
            }
            _ if ty.dtype.is_half() => {
                let (a, b) = (self.half_as_f32(a)?, self.half_as_f32(b)?);
                let t = self.vector(words);
                self.binary_values(t, ty.with_dtype(DType::F32), op, a, b)?;
                self.half_from_f32(to, words, ty.dtype, t);
                return Ok(());
            }
            BinaryOp::Div | BinaryOp::Rem if ty.dtype.is_int() => {
                let safe = matches!(self.constant(b), Some(Scalar::Int(x)) if x != 0 && x != -1);
                let (a, b) = (self.value(a)?, self.value(b)?);
                return self.divide_lanes(to, ty, op, a, b, safe);
            }
            _ => {}
        }
        if let Some((forms, commutes)) = self.binary_forms(op, ty.dtype)
            && !is_narrow(ty.dtype)
        {
            let (a, b) = if commutes && self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
            let a = self.value(a)?;
            let b = self.operand(b)?;
            if commutes {
                self.commutative(forms, words, to, a, b);
            } else {
                self.inst3(forms, words, to, a, b);
            }
            return Ok(());
        }
        let (a, b) = (self.value(a)?, self.value(b)?);
        self.binary_values(to, ty, op, a, b)
    }

    /// `to = a op b` for values in registers.
    pub(super) fn binary_values(&mut self, to: Virtual, ty: VecType, op: BinaryOp, a: Virtual, b: Virtual) -> Result<(), Refused> {
        let words = words(ty);
        let other = Operand::Use(b, View::lanes(words));
        if let Some((forms, commutes)) = self.binary_forms(op, ty.dtype) {
            let wraps = is_narrow(ty.dtype) && matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul);
            let t = if wraps { self.vector(words) } else { to };
            if commutes {
                self.commutative(forms, words, t, a, other);
            } else {
                self.inst3(forms, words, t, a, other);
            }
            if wraps {
                self.wrap(to, t, words, ty.dtype);
            }
            return Ok(());
        }
        match op {
            BinaryOp::Mul if is_long(ty.dtype) => self.multiply_long(to, words, a, b),
            BinaryOp::Min | BinaryOp::Max if is_long(ty.dtype) => {
                let less = if op == BinaryOp::Min { CompareOp::Lt } else { CompareOp::Gt };
                let mask = self.raw(ty, less, a, other);
                self.blend(to, words, true, mask, Operand::Use(a, View::lanes(words)), b);
            }
            _ => return refuse(format!("{op:?} of {ty}")),
        }
        Ok(())
    }

    /// The low 64 bits of products, from products of halves.
    fn multiply_long(&mut self, to: Virtual, words: u32, a: Virtual, b: Virtual) {
        let view = View::lanes(words);
        let used = |v| Operand::Use(v, view);
        let [a_high, b_high, low, first, second, cross, up] = [(); 7].map(|()| self.vector(words));
        self.shift(forms::SHR_64, words, a_high, a, 32);
        self.shift(forms::SHR_64, words, b_high, b, 32);
        self.inst3(forms::MUL_LOW, words, low, a, used(b));
        self.inst3(forms::MUL_LOW, words, first, a_high, used(b));
        self.inst3(forms::MUL_LOW, words, second, b_high, used(a));
        self.inst3(forms::ADD_I64, words, cross, first, used(second));
        self.shift(forms::SHL_64, words, up, cross, 32);
        self.inst3(forms::ADD_I64, words, to, low, used(up));
    }

    fn shift_lanes(&mut self, to: Virtual, ty: VecType, op: BinaryOp, v: Virtual, by: i64) {
        let (words, wide, left) = (words(ty), is_wide(ty.dtype), op == BinaryOp::Shl);
        match (left, ty.dtype) {
            (true, d) if is_narrow(d) => {
                let t = self.vector(words);
                self.shift(forms::SHL_32, words, t, v, by);
                self.wrap(to, t, words, d);
            }
            (true, _) => self.shift(if wide { forms::SHL_64 } else { forms::SHL_32 }, words, to, v, by),
            (false, DType::I64) if self.isa != Isa::V4 => {
                // The sign bit, shifted down, is extended by a subtraction.
                let (t, flipped) = (self.vector(words), self.vector(words));
                let sign = Operand::Use(self.fill(Bits::long(1 << (63 - by)), words), View::lanes(words));
                self.shift(forms::SHR_64, words, t, v, by);
                self.inst3(forms::XOR, words, flipped, t, sign);
                self.inst3(forms::SUB_I64, words, to, flipped, sign);
            }
            (false, DType::I64) => self.shift(forms::SAR_64, words, to, v, by),
            (false, DType::U64) => self.shift(forms::SHR_64, words, to, v, by),
            (false, DType::U32) => self.shift(forms::SHR_32, words, to, v, by),
            // Narrower types are extended by their sign.
            (false, _) => self.shift(forms::SAR_32, words, to, v, by),
        }
    }

    /// `a * b + c`, rounded twice.
    fn multiply_add(&mut self, to: Virtual, ty: VecType, a: Reg, b: Reg, c: Reg) -> Result<(), Refused> {
        let words = words(ty);
        let (multiply, add) = if is_wide(ty.dtype) { (forms::MUL_F64, forms::ADD_F64) } else { (forms::MUL, forms::ADD) };
        let (a, b) = if self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
        // The product overwrites a factor: one that is of no more use, if there is one.
        let (a, b) =
            if !self.in_memory(b) && self.survey.uses[b.0 as usize] == 1 && self.survey.uses[a.0 as usize] != 1 { (b, a) } else { (a, b) };
        let x = self.value(a)?;
        let y = self.operand(b)?;
        let product = self.vector(words);
        self.inst3(multiply, words, product, x, y);
        if !self.in_memory(c) && self.known_home(c) == Some(to) {
            self.inst3(add, words, to, to, Operand::Use(product, View::lanes(words)));
        } else {
            let z = self.operand(c)?;
            self.inst3(add, words, to, product, z);
        }
        Ok(())
    }

    /// `a * b + c`, rounded once: the form whose overwritten source is of no more use.
    fn fma(&mut self, to: Virtual, ty: VecType, a: Reg, b: Reg, c: Reg) -> Result<(), Refused> {
        let words = words(ty);
        let (f132, f213, f231) = if is_wide(ty.dtype) {
            (forms::FMA132_F64, forms::FMA213_F64, forms::FMA231_F64)
        } else {
            (forms::FMA132, forms::FMA213, forms::FMA231)
        };
        let home = |s: &Self, r: Reg| !s.in_memory(r) && s.known_home(r) == Some(to);
        let last = |s: &Self, r: Reg| s.survey.uses[r.0 as usize] == 1;
        let view = View::lanes(words);
        if self.in_memory(c) {
            // 213: first * second + third.
            let (a, b) = if home(self, b) || self.in_memory(a) || !home(self, a) && last(self, b) { (b, a) } else { (a, b) };
            let (a, b) = (self.value(a)?, self.value(b)?);
            let c = self.operand(c)?;
            let t = self.overwrite(to, a, words, &[b]);
            self.frame.body.inst(f213.code(self.isa, words), &[Operand::Both(t, view), Operand::Use(b, view), c]);
            self.move_vector(to, t, words);
            return Ok(());
        }
        let (a, b) = if self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
        if self.in_memory(b) {
            let (x, z) = (self.value(a)?, self.value(c)?);
            let by = self.operand(b)?;
            if z != to && !last(self, c) && (x == to || last(self, a)) {
                // 132: first * third + second.
                let t = self.overwrite(to, x, words, &[z]);
                self.frame.body.inst(f132.code(self.isa, words), &[Operand::Both(t, view), Operand::Use(z, view), by]);
                self.move_vector(to, t, words);
            } else {
                // 231: second * third + first.
                let t = self.overwrite(to, z, words, &[x]);
                self.frame.body.inst(f231.code(self.isa, words), &[Operand::Both(t, view), Operand::Use(x, view), by]);
                self.move_vector(to, t, words);
            }
            return Ok(());
        }
        let (x, y, z) = (self.value(a)?, self.value(b)?, self.value(c)?);
        let (forms, first, second, third) = match () {
            () if z == to => (f231, z, x, y),
            () if x == to => (f213, x, y, z),
            () if y == to => (f213, y, x, z),
            () if last(self, c) => (f231, z, x, y),
            () if last(self, a) => (f213, x, y, z),
            () if last(self, b) => (f213, y, x, z),
            () => (f231, z, x, y),
        };
        let t = self.overwrite(to, first, words, &[second, third]);
        self.frame.body.inst(forms.code(self.isa, words), &[Operand::Both(t, view), Operand::Use(second, view), Operand::Use(third, view)]);
        self.move_vector(to, t, words);
        Ok(())
    }

    /// A register that holds `from` and may be changed: `to`, unless the others still need what that holds.
    fn overwrite(&mut self, to: Virtual, from: Virtual, words: u32, others: &[Virtual]) -> Virtual {
        let t = if others.contains(&to) { self.vector(words) } else { to };
        self.move_vector(t, from, words);
        t
    }

    /// `c` and the products in each word: four of unsigned and signed bytes, or two of `i16`.
    fn dot(&mut self, to: Virtual, words: u32, c: Reg, a: Reg, b: Reg) -> Result<(), Refused> {
        let view = View::lanes(words);
        let used = |v| Operand::Use(v, view);
        if self.ty(a).dtype == DType::I16 {
            let (sum, first) = (self.value(c)?, self.value(a)?);
            let second = match self.operand(b)? {
                Operand::Mem(m, true) => used(self.in_register(Operand::Mem(m, true), words)),
                other => other,
            };
            let products = self.vector(words);
            self.inst3(forms::MULTIPLY_PAIRS, words, products, first, second);
            self.commutative(forms::ADD_I32, words, to, sum, used(products));
            return Ok(());
        }
        let (sum, unsigned) = (self.value(c)?, self.value(a)?);
        if self.unit.vnni {
            let signed = self.operand(b)?;
            let signed = match signed {
                Operand::Use(v, _) if v == to => {
                    let t = self.vector(words);
                    self.move_vector(t, v, words);
                    used(t)
                }
                other => other,
            };
            let t = self.overwrite(to, sum, words, &[unsigned]);
            self.frame.body.inst(forms::DOT.code(self.isa, words), &[Operand::Both(t, view), used(unsigned), signed]);
            self.move_vector(to, t, words);
            return Ok(());
        }
        let signed = self.value(b)?;
        // Bytes of even and of odd places as 16 bits; two products of them are a word.
        let [even_a, odd_a, up, even_b, odd_b, even, odd, both] = [(); 8].map(|()| self.vector(words));
        let low = self.pool_bytes([0xff, 0].repeat(2 * words.max(4) as usize));
        self.inst3(forms::AND, words, even_a, unsigned, low);
        self.shift(forms::SHR_16, words, odd_a, unsigned, 8);
        self.shift(forms::SHL_16, words, up, signed, 8);
        self.shift(forms::SAR_16, words, even_b, up, 8);
        self.shift(forms::SAR_16, words, odd_b, signed, 8);
        self.inst3(forms::MULTIPLY_PAIRS, words, even, even_a, used(even_b));
        self.inst3(forms::MULTIPLY_PAIRS, words, odd, odd_a, used(odd_b));
        self.inst3(forms::ADD_I32, words, both, even, used(odd));
        self.commutative(forms::ADD_I32, words, to, sum, used(both));
        Ok(())
    }

    fn bitcast(&mut self, reg: Reg, a: Reg) -> Result<(), Refused> {
        let (from, ty) = (self.ty(a), self.ty(reg));
        let (v, to) = (self.value(a)?, self.home(reg)?);
        let general = |ty: VecType| is_long(ty.dtype) && ty.lanes == 1;
        match (general(from), general(ty)) {
            (true, true) => self.move_general(to, v),
            (true, false) => self.move_from_general_64(to, v),
            (false, true) => self.move_to_general_64(to, v),
            (false, false) if self.packed[reg.0 as usize] || self.packed[a.0 as usize] || ty.dtype.size_bytes() >= 4 => {
                self.move_vector(to, v, self.words(reg));
            }
            (false, false) => self.wrap(to, v, self.words(reg), ty.dtype),
        }
        Ok(())
    }

    /// The instruction of an operator, if it is one, and whether it commutes.
    fn binary_forms(&self, op: BinaryOp, dtype: DType) -> Option<(Forms, bool)> {
        let masks = self.isa == Isa::V4;
        // Narrower integers are extended, so that signed instructions order the unsigned ones too.
        let unsigned = dtype == DType::U32;
        Some(match (dtype, op) {
            (DType::F32, BinaryOp::Add) => (forms::ADD, true),
            (DType::F32, BinaryOp::Sub) => (forms::SUB, false),
            (DType::F32, BinaryOp::Mul) => (forms::MUL, true),
            (DType::F32, BinaryOp::Div) => (forms::DIV, false),
            // The second operand where either is NaN.
            (DType::F32, BinaryOp::Min) => (forms::MIN, false),
            (DType::F32, BinaryOp::Max) => (forms::MAX, false),
            (DType::F64, BinaryOp::Add) => (forms::ADD_F64, true),
            (DType::F64, BinaryOp::Sub) => (forms::SUB_F64, false),
            (DType::F64, BinaryOp::Mul) => (forms::MUL_F64, true),
            (DType::F64, BinaryOp::Div) => (forms::DIV_F64, false),
            (DType::F64, BinaryOp::Min) => (forms::MIN_F64, false),
            (DType::F64, BinaryOp::Max) => (forms::MAX_F64, false),
            (d, _) if d.is_float() => return None,
            (DType::I64 | DType::U64, BinaryOp::Add) => (forms::ADD_I64, true),
            (DType::I64 | DType::U64, BinaryOp::Sub) => (forms::SUB_I64, false),
            (DType::I64 | DType::U64, BinaryOp::Mul) if masks => (forms::MUL_I64, true),
            (DType::I64, BinaryOp::Min) if masks => (forms::MIN_I64, true),
            (DType::I64, BinaryOp::Max) if masks => (forms::MAX_I64, true),
            (DType::U64, BinaryOp::Min) if masks => (forms::MIN_U64, true),
            (DType::U64, BinaryOp::Max) if masks => (forms::MAX_U64, true),
            (DType::I64 | DType::U64, BinaryOp::And) => (forms::AND_64, true),
            (DType::I64 | DType::U64, BinaryOp::Or) => (forms::OR_64, true),
            (DType::I64 | DType::U64, BinaryOp::Xor) => (forms::XOR_64, true),
            (DType::I64 | DType::U64, _) => return None,
            (_, BinaryOp::Add) => (forms::ADD_I32, true),
            (_, BinaryOp::Sub) => (forms::SUB_I32, false),
            (_, BinaryOp::Mul) => (forms::MUL_I32, true),
            (_, BinaryOp::Min) => (if unsigned { forms::MIN_U32 } else { forms::MIN_I32 }, true),
            (_, BinaryOp::Max) => (if unsigned { forms::MAX_U32 } else { forms::MAX_I32 }, true),
            (_, BinaryOp::And) => (forms::AND, true),
            (_, BinaryOp::Or) => (forms::OR, true),
            (_, BinaryOp::Xor) => (forms::XOR, true),
            (_, BinaryOp::Div | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr) => return None,
        })
    }
}

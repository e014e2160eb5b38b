//! Operations on 32-bit lanes. A scalar is a vector of which only the first lane counts.

use iced_x86::Code;

use super::forms::{self, Forms};
use super::inst::{Mem, Operand, View, Virtual};
use super::select::{Pending, Select, is_narrow, is_word, refuse};
use super::{Isa, Refused};
use crate::nest::{BinaryOp, Op, Reg, Scalar, UnaryOp, VecType};
use crate::tensor::DType;

/// Bits of 2^31 as `f32`.
const TWO_TO_31: u32 = 0x4f00_0000;
/// Comparison predicates of AVX: neither is NaN; greater or equal.
pub(super) const ORDERED: i64 = 7;
pub(super) const GREATER_OR_EQUAL: i64 = 0x1d;

impl Select<'_> {
    /// `reg = op`.
    pub(super) fn op(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let ty = self.ty(reg);
        match op {
            Op::Check(a, end) => {
                let v = self.value(*a)?;
                self.check(v, *end);
                let to = self.home(reg)?;
                self.move_general(to, v);
                Ok(())
            }
            Op::Compare(op, a, b) => self.compare(reg, *op, *a, *b),
            Op::Convert(a) => self.convert(reg, *a),
            _ if ty.dtype == DType::I64 => self.integer(reg, op),
            _ if ty.dtype == DType::Bool => self.mask(reg, op),
            _ if is_word(ty.dtype) => self.word(reg, ty, op),
            Op::Copy(a) if is_narrow(ty.dtype) => {
                let (v, to) = (self.value(*a)?, self.home(reg)?);
                self.move_vector(to, v, ty.lanes);
                Ok(())
            }
            Op::Splat(a) if is_narrow(ty.dtype) => {
                let (v, to) = (self.value(*a)?, self.home(reg)?);
                self.splat(to, v, ty.lanes);
                Ok(())
            }
            _ => refuse(format!("{op:?} of {ty}")),
        }
    }

    fn word(&mut self, reg: Reg, ty: VecType, op: &Op) -> Result<(), Refused> {
        let (lanes, float) = (ty.lanes, ty.dtype == DType::F32);
        let to = self.home(reg)?;
        match op {
            Op::Const(c) => {
                let bits = match (*c, float) {
                    (Scalar::Float(x), true) => (x as f32).to_bits(),
                    (Scalar::Int(x), true) => (x as f32).to_bits(),
                    (Scalar::Int(x), false) => x as u32,
                    (Scalar::Float(_), false) => return refuse("a constant of another type"),
                };
                self.fill_into(to, bits, lanes);
            }
            Op::Copy(a) => match self.word_constant(*a) {
                Some(bits) => self.fill_into(to, bits, lanes),
                None => {
                    let v = self.value(*a)?;
                    self.move_vector(to, v, lanes);
                }
            },
            Op::Bitcast(a) if is_word(self.ty(*a).dtype) && self.ty(*a).lanes == lanes => {
                let v = self.value(*a)?;
                self.move_vector(to, v, lanes);
            }
            Op::Splat(a) => self.splat_word(to, *a, lanes)?,
            Op::Lane(a, lane) => {
                let (v, from) = (self.value(*a)?, self.ty(*a).lanes);
                self.lane(to, v, from, *lane);
            }
            Op::Pack(regs) => self.pack(to, regs, lanes)?,
            Op::Unary(op, a) => self.unary(to, ty, *op, *a)?,
            Op::Binary(op, a, b) => self.binary(to, ty, *op, *a, *b)?,
            Op::Fma(a, b, c) if float => self.fma(to, lanes, *a, *b, *c)?,
            Op::Fma(a, b, c) => {
                let t = self.vector(lanes);
                self.three(forms::MUL_INT, lanes, t, *a, *b, true)?;
                let c = self.operand(*c)?;
                self.inst3(forms::ADD_INT, lanes, to, t, c);
            }
            Op::Select(c, a, b) => self.select_word(to, lanes, *c, *a, *b)?,
            Op::Horizontal(op, a) => self.horizontal(to, ty, *op, *a)?,
            _ => return refuse(format!("{op:?} of {ty}")),
        }
        Ok(())
    }

    pub(super) fn inst2(&mut self, forms: Forms, lanes: u32, to: Virtual, from: Operand) {
        self.body.inst(forms.code(self.isa, lanes), &[Operand::Def(to, View::lanes(lanes)), from]);
    }

    pub(super) fn inst3(&mut self, forms: Forms, lanes: u32, to: Virtual, a: Virtual, b: Operand) {
        let view = View::lanes(lanes);
        self.body.inst(forms.code(self.isa, lanes), &[Operand::Def(to, view), Operand::Use(a, view), b]);
    }

    /// `to = a op b`; a commutative one takes either from memory.
    fn three(&mut self, forms: Forms, lanes: u32, to: Virtual, a: Reg, b: Reg, commutes: bool) -> Result<(), Refused> {
        let (a, b) = if commutes && self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
        let a = self.value(a)?;
        let b = self.operand(b)?;
        self.inst3(forms, lanes, to, a, b);
        Ok(())
    }

    /// Emits a load of any type.
    pub(super) fn load_now(&mut self, to: Virtual, ty: VecType, m: Mem) -> Result<(), Refused> {
        let (lanes, m) = (ty.lanes, Operand::Mem(m, false));
        match ty.dtype {
            DType::I64 => self.body.inst(Code::Mov_r64_rm64, &[Operand::Def(to, View::R64), m]),
            DType::Bool => self.load_bool(to, lanes, m),
            d if is_word(d) && lanes == 1 => self.inst2(forms::LOAD_SCALAR, 1, to, m),
            d if is_word(d) => self.inst2(forms::LOAD, lanes, to, m),
            d if lanes == 1 => {
                let t = self.general();
                let code = match d {
                    DType::I8 => Code::Movsx_r32_rm8,
                    DType::U8 => Code::Movzx_r32_rm8,
                    DType::I16 => Code::Movsx_r32_rm16,
                    DType::U16 => Code::Movzx_r32_rm16,
                    _ => return refuse(format!("a load of {ty}")),
                };
                self.body.inst(code, &[Operand::Def(t, View::R32), m]);
                self.move_from_general(to, t);
            }
            d => {
                let forms = match d {
                    DType::I8 => forms::WIDEN_I8,
                    DType::U8 => forms::WIDEN_U8,
                    DType::I16 => forms::WIDEN_I16,
                    DType::U16 => forms::WIDEN_U16,
                    _ => return refuse(format!("a load of {ty}")),
                };
                self.inst2(forms, lanes, to, m);
            }
        }
        Ok(())
    }

    pub(super) fn store(&mut self, v: Virtual, ty: VecType, m: Mem) -> Result<(), Refused> {
        let (lanes, m) = (ty.lanes, Operand::Mem(m, false));
        match ty.dtype {
            DType::I64 => self.body.inst(Code::Mov_rm64_r64, &[m, Operand::Use(v, View::R64)]),
            DType::Bool => return self.store_bool(v, lanes, m),
            d if is_word(d) && lanes == 1 => self.body.inst(forms::STORE_SCALAR.code(self.isa, 1), &[m, Operand::Use(v, View::X)]),
            d if is_word(d) => self.body.inst(forms::STORE.code(self.isa, lanes), &[m, Operand::Use(v, View::lanes(lanes))]),
            _ => return refuse(format!("a store of {ty}")),
        }
        Ok(())
    }

    /// Stores the first `n` lanes.
    pub(super) fn store_first(&mut self, v: Virtual, lanes: u32, n: u32, m: Mem) {
        let (mut v, mut n, mut m) = (v, n, m);
        if self.isa == Isa::V4 {
            let mask = self.first_lanes(n);
            let code = forms::STORE.code(self.isa, lanes);
            self.body.masked(code, &[Operand::Mem(m, false), Operand::Use(v, View::lanes(lanes))], mask, false);
            return;
        }
        if n == 8 || n == 4 && lanes == 4 {
            self.body.inst(forms::STORE.code(self.isa, n), &[Operand::Mem(m, false), Operand::Use(v, View::lanes(n))]);
            return;
        }
        if n >= 4 {
            self.body.inst(forms::STORE.code(self.isa, 4), &[Operand::Mem(m, false), Operand::Use(v, View::X)]);
            let high = self.vector(4);
            self.quarter(high, v, 8, 1);
            (v, n, m.displacement) = (high, n - 4, m.displacement + 16);
        }
        if n >= 2 {
            self.body.inst(forms::STORE_PAIR.code(self.isa, 4), &[Operand::Mem(m, false), Operand::Use(v, View::X)]);
            let high = self.vector(4);
            self.inst3(forms::HIGH_TO_LOW, 4, high, v, Operand::Use(v, View::X));
            (v, n, m.displacement) = (high, n - 2, m.displacement + 8);
        }
        if n == 1 {
            self.body.inst(forms::STORE_SCALAR.code(self.isa, 1), &[Operand::Mem(m, false), Operand::Use(v, View::X)]);
        }
    }

    pub(super) fn move_from_general(&mut self, to: Virtual, from: Virtual) {
        self.body.inst(forms::FROM_GPR.code(self.isa, 1), &[Operand::Def(to, View::X), Operand::Use(from, View::R32)]);
    }

    pub(super) fn move_to_general(&mut self, to: Virtual, from: Virtual) {
        self.body.inst(forms::TO_GPR.code(self.isa, 1), &[Operand::Def(to, View::R32), Operand::Use(from, View::X)]);
    }

    pub(super) fn splat(&mut self, to: Virtual, from: Virtual, lanes: u32) {
        self.inst2(forms::BROADCAST, lanes, to, Operand::Use(from, View::X));
    }

    fn splat_word(&mut self, to: Virtual, a: Reg, lanes: u32) -> Result<(), Refused> {
        if let Some(bits) = self.word_constant(a) {
            self.fill_into(to, bits, lanes);
        } else if let Some(&Pending::Load(m)) = self.pending.get(&a) {
            self.pending.remove(&a);
            self.inst2(forms::BROADCAST_LOAD, lanes, to, Operand::Mem(m, false));
        } else {
            let v = self.value(a)?;
            self.splat(to, v, lanes);
        }
        Ok(())
    }

    /// Four lanes of a vector, from a multiple of four.
    pub(super) fn quarter(&mut self, to: Virtual, v: Virtual, lanes: u32, n: u32) {
        let code = forms::EXTRACT_QUARTER.code(self.isa, lanes);
        self.body.inst(code, &[Operand::Def(to, View::X), Operand::Use(v, View::lanes(lanes)), Operand::Imm(n.into())]);
    }

    pub(super) fn lane(&mut self, to: Virtual, v: Virtual, lanes: u32, lane: u32) {
        let mut v = v;
        if lane >= 4 {
            let t = if lane.is_multiple_of(4) { to } else { self.vector(4) };
            self.quarter(t, v, lanes, lane / 4);
            v = t;
        }
        if lane.is_multiple_of(4) {
            self.move_vector(to, v, 4);
        } else {
            let code = forms::PERMUTE.code(self.isa, 4);
            self.body.inst(code, &[Operand::Def(to, View::X), Operand::Use(v, View::X), Operand::Imm((lane % 4 * 0x55).into())]);
        }
    }

    /// How many of the first lanes are consecutive in memory, the others being the constant 0.
    fn packed_tail(&self, regs: &[Reg]) -> Option<(Mem, u32)> {
        let mem = |r: Reg| match self.pending.get(&r) {
            Some(&Pending::Load(m)) if is_word(self.ty(r).dtype) => Some(m),
            _ => None,
        };
        let first = mem(regs[0])?;
        let mut n = 1;
        while n < regs.len() && mem(regs[n]) == Some(Mem { displacement: first.displacement + 4 * n as i64, ..first }) {
            n += 1;
        }
        let zeros = regs[n..].iter().all(|&r| self.word_constant(r) == Some(0));
        (n > 1 && zeros).then_some((first, n as u32))
    }

    fn pack(&mut self, to: Virtual, regs: &[Reg], lanes: u32) -> Result<(), Refused> {
        if lanes == 1 {
            let v = self.value(regs[0])?;
            self.move_vector(to, v, 1);
            return Ok(());
        }
        if let Some((m, n)) = self.packed_tail(regs) {
            for r in &regs[..n as usize] {
                self.pending.remove(r);
            }
            let m = Operand::Mem(m, false);
            if n == lanes {
                self.inst2(forms::LOAD, lanes, to, m);
            } else if self.isa == Isa::V4 {
                let mask = self.first_lanes(n);
                self.body.masked(forms::LOAD.code(self.isa, lanes), &[Operand::Def(to, View::lanes(lanes)), m], mask, true);
            } else {
                let bytes = (0..lanes).flat_map(|i| (if i < n { u32::MAX } else { 0 }).to_le_bytes()).collect();
                let entry = self.body.pool.entry(bytes);
                let mask = self.vector(lanes);
                let place = Mem { base: super::inst::Base::Pool(entry), index: None, displacement: 0 };
                self.inst2(forms::LOAD, lanes, mask, Operand::Mem(place, false));
                self.inst3(forms::MASKED_LOAD, lanes, to, mask, m);
            }
            return Ok(());
        }
        let mut whole: Option<Virtual> = None;
        for (q, quarter) in regs.chunks(4).enumerate() {
            if q > 0 && quarter.iter().all(|&r| self.word_constant(r) == Some(0)) && whole.is_none() {
                return refuse("a vector that starts with nothing");
            }
            let mut x = self.value(quarter[0])?;
            for (i, &r) in quarter.iter().enumerate().skip(1) {
                let t = self.vector(4);
                let from = match self.pending.get(&r) {
                    Some(&Pending::Load(m)) => {
                        self.pending.remove(&r);
                        Operand::Mem(m, false)
                    }
                    _ => Operand::Use(self.value(r)?, View::X),
                };
                let code = forms::INSERT.code(self.isa, 4);
                self.body.inst(code, &[Operand::Def(t, View::X), Operand::Use(x, View::X), from, Operand::Imm(16 * i as i64)]);
                x = t;
            }
            whole = Some(match whole {
                None => x,
                Some(w) => {
                    let t = self.vector(lanes);
                    let view = View::lanes(lanes);
                    let code = forms::INSERT_QUARTER.code(self.isa, lanes);
                    self.body.inst(code, &[Operand::Def(t, view), Operand::Use(w, view), Operand::Use(x, View::X), Operand::Imm(q as i64)]);
                    t
                }
            });
        }
        if let Some(w) = whole {
            self.move_vector(to, w, lanes);
        }
        Ok(())
    }

    fn unary(&mut self, to: Virtual, ty: VecType, op: UnaryOp, a: Reg) -> Result<(), Refused> {
        let (lanes, float) = (ty.lanes, ty.dtype == DType::F32);
        let with_bits = |s: &mut Self, forms: Forms, bits: u32| -> Result<(), Refused> {
            let v = s.value(a)?;
            let bits = s.pool(bits, lanes);
            s.inst3(forms, lanes, to, v, bits);
            Ok(())
        };
        match op {
            UnaryOp::Neg if float => with_bits(self, forms::XOR, 1 << 31)?,
            UnaryOp::Abs if float => with_bits(self, forms::AND, u32::MAX >> 1)?,
            UnaryOp::Not if !float => with_bits(self, forms::XOR, u32::MAX)?,
            UnaryOp::Neg => {
                let zero = self.fill(0, lanes);
                let a = self.operand(a)?;
                self.inst3(forms::SUB_INT, lanes, to, zero, a);
            }
            UnaryOp::Abs if ty.dtype == DType::U32 => {
                let v = self.value(a)?;
                self.move_vector(to, v, lanes);
            }
            UnaryOp::Abs => {
                let a = self.operand(a)?;
                self.inst2(forms::ABS_INT, lanes, to, a);
            }
            UnaryOp::Sqrt if float => {
                let a = self.operand(a)?;
                self.inst2(forms::SQRT, lanes, to, a);
            }
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round if float => {
                let mode = match op {
                    UnaryOp::Floor => 9,
                    UnaryOp::Ceil => 10,
                    UnaryOp::Trunc => 11,
                    _ => 8,
                };
                let a = self.operand(a)?;
                let code = forms::ROUND.code(self.isa, lanes);
                self.body.inst(code, &[Operand::Def(to, View::lanes(lanes)), a, Operand::Imm(mode)]);
            }
            _ => return refuse(format!("{op:?} of {ty}")),
        }
        Ok(())
    }

    fn binary(&mut self, to: Virtual, ty: VecType, op: BinaryOp, a: Reg, b: Reg) -> Result<(), Refused> {
        let lanes = ty.lanes;
        if let BinaryOp::Shl | BinaryOp::Shr = op {
            let Some(Scalar::Int(by)) = self.constant(b) else { return refuse("a shift by a variable amount") };
            let forms = match (op, ty.dtype) {
                (BinaryOp::Shl, DType::I32 | DType::U32) => forms::SHL,
                (_, DType::I32) => forms::SAR,
                (_, DType::U32) => forms::SHR,
                _ => return refuse(format!("{op:?} of {ty}")),
            };
            let (v, view) = (self.value(a)?, View::lanes(lanes));
            self.body.inst(forms.code(self.isa, lanes), &[Operand::Def(to, view), Operand::Use(v, view), Operand::Imm(by)]);
            return Ok(());
        }
        let (forms, commutes) = word_forms(op, ty.dtype).ok_or_else(|| Refused(format!("{op:?} of {ty}")))?;
        self.three(forms, lanes, to, a, b, commutes)
    }

    /// `a * b + c`, rounded once: the form whose overwritten source is of no more use.
    fn fma(&mut self, to: Virtual, lanes: u32, a: Reg, b: Reg, c: Reg) -> Result<(), Refused> {
        let home = |s: &Self, r: Reg| !s.in_memory(r) && s.known_home(r) == Some(to);
        let last = |s: &Self, r: Reg| s.uses[r.0 as usize] == 1;
        let view = View::lanes(lanes);
        if self.in_memory(c) {
            // 213: first * second + third.
            let (a, b) = if home(self, b) || self.in_memory(a) || !home(self, a) && last(self, b) { (b, a) } else { (a, b) };
            let (a, b) = (self.value(a)?, self.value(b)?);
            let c = self.operand(c)?;
            let t = self.overwrite(to, a, lanes, &[b]);
            self.body.inst(forms::FMA213.code(self.isa, lanes), &[Operand::Both(t, view), Operand::Use(b, view), c]);
            self.move_vector(to, t, lanes);
            return Ok(());
        }
        let (a, b) = if self.in_memory(a) && !self.in_memory(b) { (b, a) } else { (a, b) };
        if self.in_memory(b) {
            let (x, z) = (self.value(a)?, self.value(c)?);
            let by = self.operand(b)?;
            if z != to && !last(self, c) && (x == to || last(self, a)) {
                // 132: first * third + second.
                let t = self.overwrite(to, x, lanes, &[z]);
                self.body.inst(forms::FMA132.code(self.isa, lanes), &[Operand::Both(t, view), Operand::Use(z, view), by]);
                self.move_vector(to, t, lanes);
            } else {
                // 231: second * third + first.
                let t = self.overwrite(to, z, lanes, &[x]);
                self.body.inst(forms::FMA231.code(self.isa, lanes), &[Operand::Both(t, view), Operand::Use(x, view), by]);
                self.move_vector(to, t, lanes);
            }
            return Ok(());
        }
        let (x, y, z) = (self.value(a)?, self.value(b)?, self.value(c)?);
        let (forms, first, second, third) = match () {
            () if z == to => (forms::FMA231, z, x, y),
            () if x == to => (forms::FMA213, x, y, z),
            () if y == to => (forms::FMA213, y, x, z),
            () if last(self, c) => (forms::FMA231, z, x, y),
            () if last(self, a) => (forms::FMA213, x, y, z),
            () if last(self, b) => (forms::FMA213, y, x, z),
            () => (forms::FMA231, z, x, y),
        };
        let t = self.overwrite(to, first, lanes, &[second, third]);
        self.body.inst(forms.code(self.isa, lanes), &[Operand::Both(t, view), Operand::Use(second, view), Operand::Use(third, view)]);
        self.move_vector(to, t, lanes);
        Ok(())
    }

    /// A register that holds `from` and may be changed: `to`, unless the others still need what that holds.
    fn overwrite(&mut self, to: Virtual, from: Virtual, lanes: u32, others: &[Virtual]) -> Virtual {
        let t = if others.contains(&to) { self.vector(lanes) } else { to };
        self.move_vector(t, from, lanes);
        t
    }

    fn horizontal(&mut self, to: Virtual, ty: VecType, op: BinaryOp, a: Reg) -> Result<(), Refused> {
        let (forms, _) = word_forms(op, ty.dtype).ok_or_else(|| Refused(format!("horizontal {op:?} of {}", ty.dtype)))?;
        let (mut v, mut n) = (self.value(a)?, self.ty(a).lanes);
        while n > 1 {
            let high = self.vector(n / 2);
            match n {
                16 => {
                    let code = forms::EXTRACT_HALF.code(self.isa, 16);
                    self.body.inst(code, &[Operand::Def(high, View::Y), Operand::Use(v, View::Z), Operand::Imm(1)]);
                }
                8 => self.quarter(high, v, 8, 1),
                4 => self.inst3(forms::HIGH_TO_LOW, 4, high, v, Operand::Use(v, View::X)),
                _ => self.lane(high, v, 4, 1),
            }
            n /= 2;
            let sum = self.vector(n);
            self.inst3(forms, n, sum, v, Operand::Use(high, View::lanes(n)));
            v = sum;
        }
        self.move_vector(to, v, 1);
        Ok(())
    }

    fn convert(&mut self, reg: Reg, a: Reg) -> Result<(), Refused> {
        let (from, ty) = (self.ty(a), self.ty(reg));
        let lanes = ty.lanes;
        let to = self.home(reg)?;
        match (from.dtype, ty.dtype) {
            (DType::I32, DType::F32) => {
                let a = self.operand(a)?;
                self.inst2(forms::FROM_INT, lanes, to, a);
            }
            (DType::U32, DType::F32) if self.isa == Isa::V4 => {
                let a = self.operand(a)?;
                self.inst2(forms::FROM_UINT, lanes, to, a);
            }
            (d, DType::F32) if is_narrow(d) => {
                let v = self.value(a)?;
                self.inst2(forms::FROM_INT, lanes, to, Operand::Use(v, View::lanes(lanes)));
            }
            (d, DType::I32 | DType::U32) if is_narrow(d) || matches!(d, DType::I32 | DType::U32) => {
                let v = self.value(a)?;
                self.move_vector(to, v, lanes);
            }
            (d, e) if d == e && is_word(d) => {
                let v = self.value(a)?;
                self.move_vector(to, v, lanes);
            }
            (DType::F32, DType::I32) => self.float_to_int(to, lanes, a)?,
            (DType::F32 | DType::I32 | DType::U32, DType::Bool) => {
                let zero = self.fill(0, lanes);
                let v = self.value(a)?;
                self.not_equal(to, from, v, zero)?;
            }
            (DType::Bool, DType::F32) => self.mask_to_word(to, lanes, a, 1f32.to_bits())?,
            (DType::Bool, DType::I32 | DType::U32) => self.mask_to_word(to, lanes, a, 1)?,
            (DType::I64, DType::F32) => {
                let (v, zero) = (self.value(a)?, self.fill(0, 1));
                let code = forms::FROM_I64.code(self.isa, 1);
                self.body.inst(code, &[Operand::Def(to, View::X), Operand::Use(zero, View::X), Operand::Use(v, View::R64)]);
            }
            (DType::I64, DType::I32 | DType::U32) => {
                let v = self.value(a)?;
                self.move_from_general(to, v);
            }
            (d, DType::I64) if lanes == 1 => self.extend_to_i64(to, d, a)?,
            _ => return refuse(format!("a conversion of {from} to {ty}")),
        }
        Ok(())
    }

    /// Truncates and saturates; NaN becomes 0.
    fn float_to_int(&mut self, to: Virtual, lanes: u32, a: Reg) -> Result<(), Refused> {
        let v = self.value(a)?;
        let view = View::lanes(lanes);
        let (compare, truncate) = (forms::COMPARE.code(self.isa, lanes), forms::TO_INT.code(self.isa, lanes));
        let limit = self.pool(TWO_TO_31, lanes);
        let t = self.vector(lanes);
        if self.isa == Isa::V4 {
            let (ordered, high) = (self.new_class_mask(), self.new_class_mask());
            let used = Operand::Use(v, view);
            self.body.inst(compare, &[Operand::Def(ordered, View::K), used, used, Operand::Imm(ORDERED)]);
            self.body.inst(compare, &[Operand::Def(high, View::K), used, limit, Operand::Imm(GREATER_OR_EQUAL)]);
            self.body.masked(truncate, &[Operand::Def(t, view), used], ordered, true);
            // Where the value is too great, all bits of 0x8000_0000 flip.
            let ones = self.pool(u32::MAX, lanes);
            let xor = forms::XOR.code(self.isa, lanes);
            self.body.masked(xor, &[Operand::Both(t, view), Operand::Use(t, view), ones], high, false);
            self.move_vector(to, t, lanes);
            return Ok(());
        }
        let (ordered, high, raw, flipped) = (self.vector(lanes), self.vector(lanes), self.vector(lanes), self.vector(lanes));
        let used = Operand::Use(v, view);
        self.body.inst(compare, &[Operand::Def(ordered, view), used, used, Operand::Imm(ORDERED)]);
        self.body.inst(compare, &[Operand::Def(high, view), used, limit, Operand::Imm(GREATER_OR_EQUAL)]);
        self.body.inst(truncate, &[Operand::Def(raw, view), used]);
        self.inst3(forms::XOR, lanes, flipped, raw, Operand::Use(high, view));
        self.inst3(forms::AND, lanes, to, flipped, Operand::Use(ordered, view));
        Ok(())
    }
}

/// The instruction of an operator, and whether it commutes.
fn word_forms(op: BinaryOp, dtype: DType) -> Option<(Forms, bool)> {
    let float = dtype == DType::F32;
    let signed = dtype == DType::I32;
    Some(match op {
        BinaryOp::Add if float => (forms::ADD, true),
        BinaryOp::Sub if float => (forms::SUB, false),
        BinaryOp::Mul if float => (forms::MUL, true),
        BinaryOp::Div if float => (forms::DIV, false),
        // The second operand where either is NaN.
        BinaryOp::Min if float => (forms::MIN, false),
        BinaryOp::Max if float => (forms::MAX, false),
        _ if float => return None,
        BinaryOp::Add => (forms::ADD_INT, true),
        BinaryOp::Sub => (forms::SUB_INT, false),
        BinaryOp::Mul => (forms::MUL_INT, true),
        BinaryOp::Min => (if signed { forms::MIN_INT } else { forms::MIN_UINT }, true),
        BinaryOp::Max => (if signed { forms::MAX_INT } else { forms::MAX_UINT }, true),
        BinaryOp::And => (forms::AND, true),
        BinaryOp::Or => (forms::OR, true),
        BinaryOp::Xor => (forms::XOR, true),
        BinaryOp::Div | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => return None,
    })
}

//! Operations over lanes of words, and over scalars of 64 bits.

use super::code::{Code, Condition};
use super::inst::{Operand, Virtual};
use super::select::Select;
use crate::codegen::linear::flow::Flow;
use crate::codegen::linear::{Refused, refuse};
use crate::nest::{BinaryOp, CompareOp, Kernel, Op, Reg, Scalar, UnaryOp, VecType, for_each_set};
use crate::tensor::DType;

/// Which registers never hold a signalling NaN: what comes of arithmetic, and what is copied from it.
pub(super) fn quiet(kernel: &Kernel) -> Vec<bool> {
    let mut quiet = vec![true; kernel.regs.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for_each_set(&kernel.body, &mut |reg, op| {
            let is = |r: &Reg| quiet[r.0 as usize];
            let stays = match op {
                Op::Const(_) | Op::Fma(..) | Op::Convert(_) => true,
                Op::Unary(op, a) => !matches!(op, UnaryOp::Neg | UnaryOp::Abs) || is(a),
                Op::Binary(BinaryOp::Min | BinaryOp::Max, a, b) | Op::Select(_, a, b) => is(a) && is(b),
                Op::Horizontal(BinaryOp::Add | BinaryOp::Mul, _) | Op::Binary(..) => true,
                Op::Copy(a) | Op::Splat(a) | Op::Lane(a, _) => is(a),
                _ => false,
            };
            if quiet[reg.0 as usize] && !stays {
                (quiet[reg.0 as usize], changed) = (false, true);
            }
        });
    }
    quiet
}

fn def(v: Virtual) -> Operand {
    Operand::Def(v)
}

fn used(v: Virtual) -> Operand {
    Operand::Use(v)
}

impl<'k> Select<'k> {
    /// Sets a register.
    pub(super) fn op(&mut self, reg: Reg, op: &Op) -> Result<(), Refused> {
        let ty = self.ty(reg);
        let to = self.home(reg)?;
        if ty.dtype == DType::I64 {
            return self.long(to, op);
        }
        let n = ty.lanes;
        match op {
            Op::Const(c) => {
                let bits = self.word_of(ty.dtype, *c)?;
                let inst = self.fill(to, bits);
                self.inst(inst.code, &inst.operands);
            }
            Op::Copy(a) => {
                if let Some(c) = self.constant(*a) {
                    return self.op(reg, &Op::Const(c));
                }
                let a = self.value(*a)?;
                self.move_vector(to, a);
            }
            Op::Splat(a) => {
                let a = self.value(*a)?;
                self.lanes(Code::Dup, n, &[def(to), used(a)], 0);
            }
            Op::Lane(a, lane) => {
                let a = self.value(*a)?;
                self.inst_with(Code::LaneScalar, &[def(to), used(a)], (*lane).into());
            }
            Op::Pack(regs) => self.pack(to, regs)?,
            Op::Unary(op, a) => {
                let a = self.value(*a)?;
                self.unary(*op, ty, to, a)?;
            }
            Op::Binary(op @ (BinaryOp::Shl | BinaryOp::Shr), a, b) => {
                let Some(Scalar::Int(by)) = self.constant(*b) else { return refuse("a shift by a variable amount") };
                let a = self.value(*a)?;
                match (op, ty.dtype, by) {
                    (_, DType::I32 | DType::U32, 0) => self.move_vector(to, a),
                    (BinaryOp::Shl, DType::I32 | DType::U32, 1..32) => self.lanes(Code::Shl, n, &[def(to), used(a)], by),
                    (BinaryOp::Shr, DType::I32, 1..32) => self.lanes(Code::Sshr, n, &[def(to), used(a)], by),
                    (BinaryOp::Shr, DType::U32, 1..32) => self.lanes(Code::Ushr, n, &[def(to), used(a)], by),
                    _ => return refuse(format!("a shift of {ty} by {by}")),
                }
            }
            Op::Binary(BinaryOp::Mul, a, b) if ty.dtype == DType::F32 && (self.is_element(*a) || self.is_element(*b)) => {
                let (element, other) = if self.is_element(*a) { (*a, *b) } else { (*b, *a) };
                let ((v, lane), other) = (self.elements[&element], self.value(other)?);
                self.lanes(Code::FmulElement, n, &[def(to), used(other), used(v)], lane.into());
            }
            Op::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) if ty.dtype == DType::F32 && self.bounds(*op, *a, *b).is_some() => {
                let code = self.bounds(*op, *a, *b).expect("asked above");
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.lanes(code, n, &[def(to), used(a), used(b)], 0);
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.binary(*op, ty, to, a, b)?;
            }
            Op::Fma(a, b, c) => self.multiply_add(ty, to, (*a, *b), *c)?,
            Op::Compare(op, a, b) => self.compare_values(*op, to, *a, *b)?,
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.value(*c)?, self.value(*a)?, self.value(*b)?);
                self.choose(n, to, c, a, b);
            }
            Op::Convert(a) => self.convert(ty, to, *a)?,
            Op::Bitcast(a) => {
                let from = self.ty(*a);
                let words = |d: DType| matches!(d, DType::F32 | DType::I32 | DType::U32);
                if from.lanes != n || !words(from.dtype) || !words(ty.dtype) {
                    return refuse(format!("the bits of {from} as {ty}"));
                }
                let a = self.value(*a)?;
                self.move_vector(to, a);
            }
            Op::Horizontal(op, a) => self.horizontal(*op, to, *a)?,
            Op::Shuffle(order, a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                self.shuffle(*order, n, to, a, b);
            }
            Op::Load { .. } | Op::Gather { .. } | Op::Index(_) | Op::Check(..) | Op::Dot(..) => return refuse(format!("{op:?} of {ty}")),
        }
        Ok(())
    }

    fn is_element(&self, r: Reg) -> bool {
        self.ty(r).lanes > 1 && self.elements.contains_key(&r)
    }

    /// `to = a * b + c`, or that in place of `c`.
    fn multiply_add(&mut self, ty: VecType, to: Virtual, (a, b): (Reg, Reg), c: Reg) -> Result<(), Refused> {
        let (a, b) = if self.is_element(b) && !self.is_element(a) { (b, a) } else { (a, b) };
        let (code, immediate, factors) = match (ty.dtype, self.is_element(a)) {
            (DType::F32, true) => {
                let (v, lane) = self.elements[&a];
                (Code::FmlaElement, i64::from(lane), [self.value(b)?, v])
            }
            (DType::F32, false) => (Code::Fmla, 0, [self.value(a)?, self.value(b)?]),
            (DType::I32 | DType::U32, _) => (Code::Mla, 0, [self.value(a)?, self.value(b)?]),
            _ => return refuse(format!("a multiply-add of {ty}")),
        };
        let c = self.value(c)?;
        let sum = if c != to && factors.contains(&to) { self.vector() } else { to };
        self.move_vector(sum, c);
        self.lanes(code, ty.lanes, &[Operand::Both(sum), used(factors[0]), used(factors[1])], immediate);
        self.move_vector(to, sum);
        Ok(())
    }

    /// The one instruction that a minimum or maximum with a constant is: of two numbers that are not zeros of different sign it does
    /// what the comparison would, and of NaN too.
    fn bounds(&self, op: BinaryOp, a: Reg, b: Reg) -> Option<Code> {
        let number = |r: Reg| match self.constant(r) {
            Some(Scalar::Float(x)) if !x.is_nan() => Some(x as f32),
            _ => None,
        };
        let max = op == BinaryOp::Max;
        match (number(a), number(b)) {
            // The constant where the other is NaN; between zeros the constant, which must be the one that the instruction prefers.
            (None, Some(c)) if self.quiet[a.0 as usize] && (c != 0.0 || c.is_sign_positive() == max) => {
                Some(if max { Code::Fmaxnm } else { Code::Fminnm })
            }
            // The other where it is NaN; the instruction knows zeros apart, the comparison does not.
            (Some(c), None) if c != 0.0 => Some(if max { Code::Fmax } else { Code::Fmin }),
            _ => None,
        }
    }

    fn unary(&mut self, op: UnaryOp, ty: VecType, to: Virtual, a: Virtual) -> Result<(), Refused> {
        let code = match (op, ty.dtype) {
            (UnaryOp::Neg, DType::F32) => Code::Fneg,
            (UnaryOp::Abs, DType::F32) => Code::Fabs,
            (UnaryOp::Sqrt, DType::F32) => Code::Fsqrt,
            (UnaryOp::Floor, DType::F32) => Code::Frintm,
            (UnaryOp::Ceil, DType::F32) => Code::Frintp,
            (UnaryOp::Trunc, DType::F32) => Code::Frintz,
            (UnaryOp::Round, DType::F32) => Code::Frintn,
            (UnaryOp::Neg, DType::I32 | DType::U32) => Code::Neg,
            (UnaryOp::Abs, DType::I32) => Code::Abs,
            (UnaryOp::Abs, DType::U32) => Code::Move,
            (UnaryOp::Not, DType::I32 | DType::U32 | DType::Bool) => Code::Not,
            _ => return refuse(format!("{op:?} of {ty}")),
        };
        match code {
            Code::Move => self.move_vector(to, a),
            code => self.lanes(code, ty.lanes, &[def(to), used(a)], 0),
        }
        Ok(())
    }

    /// `to = op(a, b)` in every lane.
    pub(super) fn binary(&mut self, op: BinaryOp, ty: VecType, to: Virtual, a: Virtual, b: Virtual) -> Result<(), Refused> {
        use BinaryOp as B;
        use DType::{Bool, F32, I32, U32};
        let code = match (op, ty.dtype) {
            (B::Add, F32) => Code::Fadd,
            (B::Sub, F32) => Code::Fsub,
            (B::Mul, F32) => Code::Fmul,
            (B::Div, F32) => Code::Fdiv,
            (B::Min | B::Max, F32) => {
                // `a < b ? a : b` is `b > a ? a : b`.
                let mask = self.vector();
                let (x, y) = if op == B::Min { (b, a) } else { (a, b) };
                self.lanes(Code::Fcmgt, ty.lanes, &[def(mask), used(x), used(y)], 0);
                self.choose(ty.lanes, to, mask, a, b);
                return Ok(());
            }
            (B::Add, I32 | U32) => Code::Add,
            (B::Sub, I32 | U32) => Code::Sub,
            (B::Mul, I32 | U32) => Code::Mul,
            (B::Min, I32) => Code::Smin,
            (B::Max, I32) => Code::Smax,
            (B::Min, U32) => Code::Umin,
            (B::Max, U32) => Code::Umax,
            (B::And, I32 | U32 | Bool) => Code::And,
            (B::Or, I32 | U32 | Bool) => Code::Orr,
            (B::Xor, I32 | U32 | Bool) => Code::Eor,
            _ => return refuse(format!("{op:?} of {ty}")),
        };
        self.lanes(code, ty.lanes, &[def(to), used(a), used(b)], 0);
        Ok(())
    }

    /// `to = c ? a : b` in every lane.
    pub(super) fn choose(&mut self, lanes: u32, to: Virtual, c: Virtual, a: Virtual, b: Virtual) {
        if to == b && to != c {
            self.lanes(Code::Bit, lanes, &[Operand::Both(to), used(a), used(c)], 0);
        } else if to == a && to != c {
            self.lanes(Code::Bif, lanes, &[Operand::Both(to), used(b), used(c)], 0);
        } else {
            // Where the result is an operand as well, another register holds it until the end.
            let t = if to == a || to == b { self.vector() } else { to };
            self.move_vector(t, c);
            self.lanes(Code::Bsl, lanes, &[Operand::Both(t), used(a), used(b)], 0);
            self.move_vector(to, t);
        }
    }

    fn compare_values(&mut self, op: CompareOp, to: Virtual, a: Reg, b: Reg) -> Result<(), Refused> {
        use CompareOp as C;
        let from = self.ty(a);
        let (x, y) = (self.value(a)?, self.value(b)?);
        if from == VecType::scalar(DType::I64) {
            let condition = match op {
                C::Eq => Condition::Eq,
                C::Ne => Condition::Ne,
                C::Lt => Condition::Lt,
                C::Le => Condition::Le,
                C::Gt => Condition::Gt,
                C::Ge => Condition::Ge,
            };
            self.compare(x, y);
            let mask = self.general();
            self.inst_with(Code::Csetm, &[def(mask)], condition as i64);
            self.inst(Code::FmovFromW, &[def(to), used(mask)]);
            return Ok(());
        }
        let (x, y) = if matches!(op, C::Lt | C::Le) { (y, x) } else { (x, y) };
        let code = match (op, from.dtype) {
            (C::Eq | C::Ne, DType::F32) => Code::Fcmeq,
            (C::Lt | C::Gt, DType::F32) => Code::Fcmgt,
            (C::Le | C::Ge, DType::F32) => Code::Fcmge,
            (C::Eq | C::Ne, DType::I32 | DType::U32 | DType::Bool) => Code::Cmeq,
            (C::Lt | C::Gt, DType::I32) => Code::Cmgt,
            (C::Le | C::Ge, DType::I32) => Code::Cmge,
            (C::Lt | C::Gt, DType::U32) => Code::Cmhi,
            (C::Le | C::Ge, DType::U32) => Code::Cmhs,
            _ => return refuse(format!("a comparison of {from}")),
        };
        self.lanes(code, from.lanes, &[def(to), used(x), used(y)], 0);
        if op == C::Ne {
            self.lanes(Code::Not, from.lanes, &[def(to), used(to)], 0);
        }
        Ok(())
    }

    /// A condition as a number of 32 bits, in a general register: 0 if it is false.
    pub(super) fn bool_number(&mut self, r: Reg) -> Result<Virtual, Refused> {
        let v = self.value(r)?;
        let number = self.general();
        self.inst(Code::FmovToW, &[def(number), used(v)]);
        Ok(number)
    }

    /// Sets a scalar of 64 bits.
    fn long(&mut self, to: Virtual, op: &Op) -> Result<(), Refused> {
        match op {
            Op::Const(Scalar::Int(x)) => self.set_general(to, *x),
            Op::Index(a) => {
                let v = self.affine(a)?;
                self.move_general(to, v);
            }
            Op::Copy(a) => {
                let a = self.value(*a)?;
                self.move_general(to, a);
            }
            Op::Check(a, end) => {
                let a = self.value(*a)?;
                self.check(a, *end);
                self.move_general(to, a);
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.value(*a)?, self.value(*b)?);
                let operands = [def(to), used(a), used(b)];
                match op {
                    BinaryOp::Add => self.inst(Code::AddX, &operands),
                    BinaryOp::Sub => self.inst(Code::SubX, &operands),
                    BinaryOp::Mul => self.inst(Code::MulX, &operands),
                    BinaryOp::Min | BinaryOp::Max => {
                        self.compare(a, b);
                        let first = if *op == BinaryOp::Min { Condition::Lt } else { Condition::Gt };
                        self.inst_with(Code::CselX, &operands, first as i64);
                    }
                    _ => return refuse(format!("{op:?} of i64")),
                }
            }
            Op::Fma(a, b, c) => {
                let (a, b, c) = (self.value(*a)?, self.value(*b)?, self.value(*c)?);
                self.inst(Code::MaddX, &[def(to), used(a), used(b), used(c)]);
            }
            Op::Select(c, a, b) => {
                let (number, a, b) = (self.bool_number(*c)?, self.value(*a)?, self.value(*b)?);
                self.compare_constant(number, 0);
                self.inst_with(Code::CselX, &[def(to), used(a), used(b)], Condition::Ne as i64);
            }
            Op::Convert(a) => self.convert_to_long(to, *a)?,
            _ => return refuse("an operation of i64".to_owned()),
        }
        Ok(())
    }
}

//! The operations of the nest, each to scalar or vector instructions.

use cranelift_codegen::ir::{self, InstBuilder, types};

use super::function::Lower;
use super::value::{Val, int_vector, lane_type, n_parts, part_type};
use crate::codegen::CodegenError;
use crate::nest::{BinaryOp, Op, Reg, VecType};
use crate::tensor::DType;

impl Lower<'_, '_> {
    /// The value that `op` gives a register of type `ty`.
    pub(super) fn op(&mut self, ty: VecType, op: &Op) -> Result<Val, CodegenError> {
        Ok(match op {
            Op::Const(c) => self.make_constant(ty, *c),
            Op::Index(affine) => Val::scalar(self.affine(affine)?),
            Op::Load { buffer, index } => {
                if self.kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
                    return self.malformed(format!("load of {ty} from a buffer of another type"));
                }
                let (address, displacement) = self.address(*buffer, index)?;
                self.load(ty, address, displacement)
            }
            Op::Gather { buffer, index } => {
                let Some((places, scalars)) = index.spread() else { return self.malformed("a gather without places") };
                if self.kernel.buffers[buffer.0 as usize].dtype != ty.dtype {
                    return self.malformed(format!("gather of {ty} from a buffer of another type"));
                }
                let places = self.operand(ty.with_dtype(DType::I32), places)?;
                let (base, displacement) = self.address(*buffer, &scalars)?;
                let mut lanes = vec![];
                for place in self.lanes(ty.with_dtype(DType::I32), &places) {
                    let place = self.b.ins().sextend(types::I64, place);
                    let offset = self.b.ins().imul_imm_s(place, ty.dtype.size_bytes() as i64);
                    let address = self.b.ins().iadd(base, offset);
                    lanes.push(self.load(VecType::scalar(ty.dtype), address, displacement).parts[0]);
                }
                self.pack(ty, &lanes)
            }
            Op::Copy(a) => self.operand(ty, *a)?,
            Op::Splat(a) => {
                let x = self.operand(VecType::scalar(ty.dtype), *a)?;
                self.splat(ty, x.parts[0])
            }
            Op::Lane(a, lane) => {
                let from = self.ty(*a);
                if from.dtype != ty.dtype || ty.lanes != 1 || *lane >= from.lanes {
                    return self.malformed(format!("lane {lane} of {from} is no {ty}"));
                }
                let val = self.get(*a)?;
                Val::scalar(self.lane(from, &val, *lane))
            }
            Op::Pack(regs) => {
                if regs.len() != ty.lanes as usize {
                    return self.malformed(format!("{} scalars packed into {ty}", regs.len()));
                }
                let scalars: Vec<ir::Value> =
                    regs.iter().map(|&r| Ok(self.operand(VecType::scalar(ty.dtype), r)?.parts[0])).collect::<Result<_, CodegenError>>()?;
                self.pack(ty, &scalars)
            }
            Op::Unary(op, a) => {
                let a = self.operand(ty, *a)?;
                self.unary(*op, ty, &a)?
            }
            Op::Binary(op @ (BinaryOp::Shl | BinaryOp::Shr), a, amount) => {
                let known = self.constant(*amount);
                let (a, amount) = (self.operand(ty, *a)?, self.operand(ty, *amount)?);
                self.shift(*op, ty, &a, &amount, known)?
            }
            Op::Binary(op @ (BinaryOp::Div | BinaryOp::Rem), a, b) if ty.dtype.is_int() => {
                let known = self.constant(*b);
                let (a, b) = (self.operand(ty, *a)?, self.operand(ty, *b)?);
                self.divide_ints(*op, ty, &a, &b, known)
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.operand(ty, *a)?, self.operand(ty, *b)?);
                self.binary(*op, ty, &a, &b)?
            }
            Op::Fma(a, b, c) => {
                let (a, b, c) = (self.operand(ty, *a)?, self.operand(ty, *b)?, self.operand(ty, *c)?);
                self.fma(ty, &a, &b, &c)?
            }
            Op::Compare(op, a, b) => {
                let from = self.ty(*a);
                if ty != from.with_dtype(DType::Bool) {
                    return self.malformed(format!("a comparison of {from} is no {ty}"));
                }
                let (a, b) = (self.operand(from, *a)?, self.operand(from, *b)?);
                self.compare(*op, from, &a, &b)?
            }
            Op::Select(cond, a, b) => {
                let cond = self.operand(ty.with_dtype(DType::Bool), *cond)?;
                let (a, b) = (self.operand(ty, *a)?, self.operand(ty, *b)?);
                self.select(ty, &cond, &a, &b)
            }
            Op::Convert(a) => {
                let from = self.ty(*a);
                if from.lanes != ty.lanes {
                    return self.malformed(format!("conversion of {from} to {ty}"));
                }
                let a = self.get(*a)?;
                self.convert(from.dtype, ty, &a)?
            }
            Op::Bitcast(a) => {
                let from = self.ty(*a);
                let bits = |ty: VecType| ty.lanes * ty.dtype.bits();
                if bits(from) != bits(ty) || from.dtype == DType::Bool || ty.dtype == DType::Bool {
                    return self.malformed(format!("the bits of {from} as {ty}"));
                }
                let val = self.get(*a)?;
                if from.lanes != ty.lanes && (from.lanes == 1 || ty.lanes == 1) {
                    return Ok(self.cast_group(from, ty, &val));
                }
                let to = if ty.lanes == 1 { lane_type(ty.dtype) } else { part_type(ty.dtype) };
                Val::vector(self.casts(&val.parts, to))
            }
            Op::Dot(c, a, b) => {
                let parts = |dtype: DType| VecType { dtype, lanes: 4 / dtype.size_bytes() as u32 * ty.lanes };
                let (x, y) = if self.ty(*a).dtype == DType::I16 { (DType::I16, DType::I16) } else { (DType::U8, DType::I8) };
                let (c, a, b) = (self.operand(ty, *c)?, self.operand(parts(x), *a)?, self.operand(parts(y), *b)?);
                self.dot(ty, x, &c, &a, &b)
            }
            Op::Shuffle(order, a, b) => {
                let both = [*a, *b].map(|r| self.operand(ty, r).map(|val| self.lanes(ty, &val)));
                let [a, b] = both;
                let all = [a?, b?].concat();
                let lanes: Vec<ir::Value> = (0..ty.lanes).map(|i| all[order.source(i, ty.lanes) as usize]).collect();
                self.pack(ty, &lanes)
            }
            Op::Horizontal(op, a) => {
                let from = self.ty(*a);
                if from.dtype != ty.dtype || ty.lanes != 1 {
                    return self.malformed(format!("a reduction of {from} is no {ty}"));
                }
                let val = self.get(*a)?;
                self.horizontal(*op, from, &val)?
            }
            Op::Check(a, end) => {
                let val = self.operand(ty, *a)?;
                let lanes = if ty.lanes == 1 { val.parts.clone() } else { self.lanes(ty, &val) };
                for lane in lanes {
                    let lane = if ty.dtype == DType::I32 { self.b.ins().sextend(types::I64, lane) } else { lane };
                    self.check(lane, *end);
                }
                val
            }
        })
    }

    /// Four bytes as a scalar of 32 bits, or the other way.
    fn cast_group(&mut self, from: VecType, ty: VecType, val: &Val) -> Val {
        if from.lanes == 1 {
            let word = self.b.ins().scalar_to_vector(types::I32X4, val.parts[0]);
            return Val::vector(vec![self.cast(word, part_type(ty.dtype))]);
        }
        let words = self.cast(val.parts[0], types::I32X4);
        Val::scalar(self.b.ins().extractlane(words, 0))
    }

    /// `c` and the products in each lane: four of unsigned and signed bytes, or two of `i16`.
    fn dot(&mut self, ty: VecType, parts: DType, c: &Val, a: &Val, b: &Val) -> Val {
        let mut sums = vec![];
        for (&a, &b) in a.parts.iter().zip(&b.parts) {
            if parts == DType::I16 {
                let (a, b) =
                    ([self.b.ins().swiden_low(a), self.b.ins().swiden_high(a)], [self.b.ins().swiden_low(b), self.b.ins().swiden_high(b)]);
                let (low, high) = (self.b.ins().imul(a[0], b[0]), self.b.ins().imul(a[1], b[1]));
                sums.push(self.add_pairs(low, high));
                continue;
            }
            let halves =
                [(self.b.ins().uwiden_low(a), self.b.ins().swiden_low(b)), (self.b.ins().uwiden_high(a), self.b.ins().swiden_high(b))];
            // A product of bytes fits 16 bits.
            let pairs = halves.map(|(a, b)| {
                let products = self.b.ins().imul(a, b);
                let (low, high) = (self.b.ins().swiden_low(products), self.b.ins().swiden_high(products));
                self.add_pairs(low, high)
            });
            sums.push(self.add_pairs(pairs[0], pairs[1]));
        }
        if ty.lanes == 1 {
            let sum = self.b.ins().extractlane(sums[0], 0);
            return Val::scalar(self.b.ins().iadd(c.parts[0], sum));
        }
        Val::vector(c.parts.iter().zip(sums).map(|(&c, sum)| self.b.ins().iadd(c, sum)).collect())
    }

    /// Sums of neighbouring words, those of `a` before those of `b`.
    fn add_pairs(&mut self, a: ir::Value, b: ir::Value) -> ir::Value {
        let (x, y) = (self.cast(a, types::I8X16), self.cast(b, types::I8X16));
        let words = |first: [u8; 4]| std::array::from_fn(|i| first[i / 4] + (i % 4) as u8);
        let (even, odd) = (self.shuffle(x, y, words([0, 8, 16, 24])), self.shuffle(x, y, words([4, 12, 20, 28])));
        let (even, odd) = (self.cast(even, types::I32X4), self.cast(odd, types::I32X4));
        self.b.ins().iadd(even, odd)
    }

    fn operand(&self, ty: VecType, reg: Reg) -> Result<Val, CodegenError> {
        let found = self.kernel.regs.get(reg.0 as usize).copied();
        if found != Some(ty) {
            return self.malformed(format!("expected a register of {ty}, found {}", found.map_or("none".into(), |t| t.to_string())));
        }
        self.get(reg)
    }

    /// `cond ? a : b`, lane by lane.
    pub(super) fn select(&mut self, ty: VecType, cond: &Val, a: &Val, b: &Val) -> Val {
        if ty.lanes == 1 {
            return Val::scalar(self.b.ins().select(cond.parts[0], a.parts[0], b.parts[0]));
        }
        if ty.dtype == DType::Bool {
            let bytes = cond.mask_bytes;
            let (a, b) = (self.resize_mask(ty.lanes, a, bytes), self.resize_mask(ty.lanes, b, bytes));
            let parts = (0..a.len()).map(|i| self.blend(cond.parts[i], a[i], b[i])).collect();
            return Val::mask(parts, bytes);
        }
        let mask = self.resize_mask(ty.lanes, cond, ty.dtype.size_bytes());
        Val::vector((0..mask.len()).map(|i| self.blend(mask[i], a.parts[i], b.parts[i])).collect())
    }

    /// `mask ? a : b` for a mask whose lanes are all ones or all zeros.
    pub(super) fn blend(&mut self, mask: ir::Value, a: ir::Value, b: ir::Value) -> ir::Value {
        let ty = self.b.func.dfg.value_type(a);
        if self.caps.x86 && self.caps.sse42 {
            let (mask, a, b) = (self.cast(mask, types::I8X16), self.cast(a, types::I8X16), self.cast(b, types::I8X16));
            let x = self.b.ins().blendv(mask, a, b);
            return self.cast(x, ty);
        }
        let mask = self.cast(mask, ty);
        self.b.ins().bitselect(mask, a, b)
    }

    /// All lanes combined: the upper half with the lower, until one is left.
    fn horizontal(&mut self, op: BinaryOp, from: VecType, val: &Val) -> Result<Val, CodegenError> {
        if !matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Min | BinaryOp::Max) {
            return self.malformed(format!("a reduction by {op:?}"));
        }
        if from.lanes == 1 {
            return Ok(val.clone());
        }
        if from.dtype == DType::Bool {
            if !matches!(op, BinaryOp::Min | BinaryOp::Max) {
                return self.malformed(format!("a reduction of bool by {op:?}"));
            }
            let lanes = self.lanes(from, val);
            let mut all = lanes[0];
            for &lane in &lanes[1..] {
                all = if op == BinaryOp::Min { self.b.ins().band(all, lane) } else { self.b.ins().bor(all, lane) };
            }
            return Ok(Val::scalar(all));
        }
        let bytes = from.dtype.size_bytes();
        let mut parts = val.parts.clone();
        let mut lanes = from.lanes;
        while lanes > 1 {
            lanes /= 2;
            let half = VecType { dtype: from.dtype, lanes };
            let upper =
                if parts.len() > 1 { parts.split_off(parts.len() / 2) } else { vec![self.move_down(parts[0], lanes as usize * bytes)] };
            // A scalar is left in lane 0, where the vector operation serves as well.
            let ty = VecType { lanes: lanes.max(2), ..half };
            parts.truncate(n_parts(ty.lanes, bytes));
            let (low, high) = (Val::vector(parts), Val::vector(upper));
            parts = self.binary(op, ty, &low, &high)?.parts;
        }
        let x = self.cast(parts[0], part_type(from.dtype));
        Ok(Val::scalar(self.b.ins().extractlane(x, 0)))
    }

    /// The vector with byte `bytes` (8, 4, 2 or 1) moved to byte 0.
    fn move_down(&mut self, part: ir::Value, bytes: usize) -> ir::Value {
        let ty = self.b.func.dfg.value_type(part);
        let x = match bytes {
            8 | 4 => {
                let x = self.cast(part, types::I8X16);
                let order = std::array::from_fn(|i| (bytes + i % bytes) as u8);
                self.shuffle(x, x, order)
            }
            _ => {
                let x = self.cast(part, int_vector(2 * bytes));
                let amount = self.b.ins().iconst(types::I32, 8 * bytes as i64);
                self.b.ins().ushr(x, amount)
            }
        };
        self.cast(x, ty)
    }
}

//! Random kernels of loops, branches, accumulators and checked indices, all in bounds.

use super::Numbers;
use crate::nest::{
    Access, Affine, BinaryOp, BufferId, Builder, CompareOp, Cond, Index, Kernel, Op, Reg, Scalar, Shuffle, UnaryOp, Var, VecType,
};
use crate::tensor::DType;

struct Maker {
    numbers: Numbers,
    b: Builder,
    // Registers that are set here, with the loop variables in scope.
    regs: Vec<Reg>,
    vars: Vec<(Var, i64)>,
    buffers: Vec<BufferId>,
    budget: usize,
    /// Whether values have 32 bits only, beside scalars of `i64`, and neither divisions of integers nor conditions in memory.
    words: bool,
}

const TYPES: [DType; 13] = DType::ALL;
const LANES_OF_RANDOM: [u32; 7] = [1, 1, 2, 4, 4, 8, 16];
const LEN: usize = 512;

const WORDS: [DType; 4] = [DType::F32, DType::F32, DType::I32, DType::U32];

impl Maker {
    fn kernel(seed: u64, words: bool) -> Kernel {
        let mut b = Builder::new(format!("random_{seed}"), "");
        let mut buffers = vec![];
        for d in TYPES {
            buffers.push(b.buffer(format!("read_{d}"), d, LEN, Access::Read));
            buffers.push(b.buffer(format!("write_{d}"), d, LEN, Access::ReadWrite));
        }
        let mut m = Maker { numbers: Numbers(seed), b, regs: vec![], vars: vec![], buffers, budget: 40, words };
        for _ in 0..6 {
            m.set();
        }
        m.block(0);
        m.b.finish()
    }

    fn pick(&mut self, n: usize) -> usize {
        (self.numbers.next() >> 20) as usize % n
    }

    fn reg(&mut self, ty: VecType) -> Reg {
        let found: Vec<Reg> = self.regs.iter().copied().filter(|&r| self.b.ty(r) == ty).collect();
        if !found.is_empty() && self.pick(4) > 0 {
            let at = self.pick(found.len());
            return found[at];
        }
        let op = self.leaf(ty);
        let r = self.b.op(ty, op);
        self.regs.push(r);
        r
    }

    fn index(&mut self, lanes: u32) -> Index {
        let mut affine = Affine::default();
        let mut room = LEN as i64 - i64::from(lanes) - 80;
        for (var, last) in self.vars.clone() {
            let stride = self.pick(9) as i64;
            if stride > 0 && stride * last <= room {
                room -= stride * last;
                affine = affine.plus(&Affine::var(var).times(stride));
            }
        }
        affine.constant += self.pick(room as usize + 1) as i64;
        let mut dynamic = vec![];
        if self.pick(4) == 0 {
            let x = self.reg(VecType::scalar(DType::I64));
            let (low, high) = (self.b.int(VecType::scalar(DType::I64), 0), self.b.int(VecType::scalar(DType::I64), 20));
            let x = self.b.binary(BinaryOp::Max, x, low);
            let x = self.b.binary(BinaryOp::Min, x, high);
            let x = if self.pick(2) == 0 { self.b.op(VecType::scalar(DType::I64), Op::Check(x, 21)) } else { x };
            dynamic.push((x, 1 + self.pick(4) as i64));
        }
        Index { affine, dynamic }
    }

    fn buffer(&mut self, dtype: DType, writable: bool) -> BufferId {
        let at = 2 * TYPES.iter().position(|&d| d == dtype).unwrap();
        let kind = if writable { 1 } else { self.pick(2) };
        self.buffers[at + kind]
    }

    fn leaf(&mut self, ty: VecType) -> Op {
        let in_memory = !(self.words && ty.dtype == DType::Bool);
        match if in_memory { self.pick(4) } else { 0 } {
            0 => Op::Const(if ty.dtype.is_float() { Scalar::Float(self.pick(9) as f64 - 4.0) } else { Scalar::Int(self.pick(2) as i64) }),
            1 if ty == VecType::scalar(DType::I64) => {
                let mut affine = Affine::constant(self.pick(5) as i64 - 2);
                for (var, _) in self.vars.clone() {
                    affine.add_term(var, self.pick(5) as i64 - 2);
                }
                Op::Index(affine)
            }
            2 if ty.lanes > 1 && matches!(ty.dtype, DType::F32 | DType::I32 | DType::U32) => {
                // Room for the places too.
                let mut index = self.index(32);
                index.dynamic.push((self.places(ty.lanes), 1));
                Op::Gather { buffer: self.buffer(ty.dtype, false), index }
            }
            _ => Op::Load { buffer: self.buffer(ty.dtype, false), index: self.index(ty.lanes) },
        }
    }

    /// Where lanes are, from 0 to 20.
    fn places(&mut self, lanes: u32) -> Reg {
        let ty = VecType { dtype: if self.words || self.pick(2) == 0 { DType::I32 } else { DType::I64 }, lanes };
        let x = self.reg(ty);
        let (low, high) = (self.b.int(ty, 0), self.b.int(ty, 20));
        let x = self.b.binary(BinaryOp::Max, x, low);
        let x = self.b.binary(BinaryOp::Min, x, high);
        let x = if self.pick(2) == 0 { self.b.op(ty, Op::Check(x, 21)) } else { x };
        self.b.convert(x, DType::I32)
    }

    fn dtype(&mut self) -> DType {
        if self.words { WORDS[self.pick(WORDS.len())] } else { TYPES[self.pick(TYPES.len())] }
    }

    fn ty(&mut self) -> VecType {
        if self.words && self.pick(6) == 0 {
            return VecType::scalar(DType::I64);
        }
        if self.words {
            return VecType { dtype: self.dtype(), lanes: LANES_OF_RANDOM[self.pick(LANES_OF_RANDOM.len())] };
        }
        VecType { dtype: TYPES[self.pick(TYPES.len())], lanes: LANES_OF_RANDOM[self.pick(LANES_OF_RANDOM.len())] }
    }

    /// An operation of arithmetic; products of halves and multiply-adds of them have no code.
    fn number(&mut self, ty: VecType) -> Op {
        use BinaryOp as B;
        let int = ty.dtype.is_int();
        match self.pick(12) {
            0..5 => {
                let op = [B::Add, B::Sub, B::Mul, B::Min, B::Max][self.pick(5)];
                Op::Binary(op, self.reg(ty), self.reg(ty))
            }
            5 | 6 if self.words && ty.dtype == DType::I64 => self.leaf(ty),
            5 if int && self.words => Op::Binary([B::And, B::Or, B::Xor][self.pick(3)], self.reg(ty), self.reg(ty)),
            7 if self.words && ty.dtype == DType::I64 => self.leaf(ty),
            5 if int => Op::Binary([B::Div, B::Rem, B::And, B::Or, B::Xor][self.pick(5)], self.reg(ty), self.reg(ty)),
            6 if int => {
                let by = self.pick(ty.dtype.bits() as usize) as i64;
                let by = if ty.dtype == DType::I8 { by & 7 } else { by };
                let amount = self.b.int(ty, by);
                Op::Binary([B::Shl, B::Shr][self.pick(2)], self.reg(ty), amount)
            }
            5 => Op::Binary(B::Div, self.reg(ty), self.reg(ty)),
            6 => {
                let op = [UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Trunc, UnaryOp::Round][self.pick(5)];
                Op::Unary(op, self.reg(ty))
            }
            7 => Op::Unary([UnaryOp::Neg, UnaryOp::Abs][self.pick(2)], self.reg(ty)),
            8 | 9 if !matches!(ty.dtype, DType::F16 | DType::BF16) => Op::Fma(self.reg(ty), self.reg(ty), self.reg(ty)),
            10 if ty.dtype == DType::I32 && ty.lanes <= 4 && !self.words => {
                let bytes = |dtype| VecType { dtype, lanes: 4 * ty.lanes };
                let mut load = |dtype| {
                    let op = Op::Load { buffer: self.buffer(dtype, false), index: self.index(4 * ty.lanes) };
                    self.b.op(bytes(dtype), op)
                };
                let (a, b) = (load(DType::U8), load(DType::I8));
                Op::Dot(self.reg(ty), a, b)
            }
            _ => self.leaf(ty),
        }
    }

    fn op(&mut self, ty: VecType) -> Op {
        let number = ty.dtype != DType::Bool;
        match self.pick(10) {
            0..3 if number => self.number(ty),
            0 => Op::Binary([BinaryOp::And, BinaryOp::Or, BinaryOp::Xor][self.pick(3)], self.reg(ty), self.reg(ty)),
            1 | 2 => {
                use CompareOp as C;
                let long = self.words && ty.lanes == 1 && self.pick(3) == 0;
                let from = if long { VecType::scalar(DType::I64) } else { ty.with_dtype(self.dtype()) };
                let ops: &[C] = if from.dtype == DType::Bool { &[C::Eq, C::Ne] } else { &[C::Eq, C::Ne, C::Lt, C::Le, C::Gt, C::Ge] };
                Op::Compare(ops[self.pick(ops.len())], self.reg(from), self.reg(from))
            }
            3 => Op::Select(self.reg(ty.with_dtype(DType::Bool)), self.reg(ty), self.reg(ty)),
            4 | 5 => {
                let from = self.dtype();
                let half = matches!(ty.dtype, DType::F16 | DType::BF16);
                let rounds_twice = half && (from == DType::F64 || ty.dtype == DType::BF16 && from.is_int() && from.size_bytes() >= 4);
                if rounds_twice { self.leaf(ty) } else { Op::Convert(self.reg(ty.with_dtype(from))) }
            }
            6 if self.words && ty.dtype == DType::I64 => self.leaf(ty),
            6 if ty.lanes > 1 => match self.pick(3) {
                2 if number => Op::Shuffle(Shuffle::ALL[self.pick(Shuffle::ALL.len())], self.reg(ty), self.reg(ty)),
                0 => Op::Splat(self.reg(VecType::scalar(ty.dtype))),
                _ => Op::Pack((0..ty.lanes).map(|_| self.reg(VecType::scalar(ty.dtype))).collect()),
            },
            6 => {
                let from = VecType { lanes: [2, 4, 8][self.pick(3)], ..ty };
                match self.pick(2) {
                    0 if number => {
                        let op = [BinaryOp::Add, BinaryOp::Mul, BinaryOp::Min, BinaryOp::Max][self.pick(4)];
                        Op::Horizontal(op, self.reg(from))
                    }
                    _ => Op::Lane(self.reg(from), self.pick(from.lanes as usize) as u32),
                }
            }
            7 if !number => Op::Unary(UnaryOp::Not, self.reg(ty)),
            _ => self.leaf(ty),
        }
    }

    fn set(&mut self) {
        let at = self.pick(2 * self.regs.len() + 1);
        let old = self.regs.get(at).copied();
        let ty = match old {
            Some(r) => self.b.ty(r),
            None => self.ty(),
        };
        let op = self.op(ty);
        match old {
            Some(r) => self.b.set(r, op),
            None => {
                let r = self.b.op(ty, op);
                self.regs.push(r);
            }
        }
    }

    fn store(&mut self) {
        let ty = self.ty();
        let (buffer, index, value) = (self.buffer(ty.dtype, true), self.index(ty.lanes), self.reg(ty));
        self.b.store(buffer, index, value);
    }

    // The builder takes closures, so that `self` lends its builder while one is open.
    fn nested(&mut self, depth: usize, add: impl FnOnce(&mut Builder, &mut dyn FnMut(&mut Builder, Option<(Var, i64)>))) {
        let mut b = std::mem::replace(&mut self.b, Builder::new("", ""));
        let known = self.regs.len();
        add(&mut b, &mut |b, var| {
            std::mem::swap(b, &mut self.b);
            let n_vars = self.vars.len();
            self.vars.extend(var);
            self.block(depth + 1);
            self.vars.truncate(n_vars);
            if var.is_none() {
                self.regs.truncate(known);
            }
            std::mem::swap(b, &mut self.b);
        });
        self.b = b;
    }

    fn block(&mut self, depth: usize) {
        for _ in 0..3 + self.pick(4) {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            match self.pick(if depth < 3 { 8 } else { 5 }) {
                0..3 => self.set(),
                3 | 4 => self.store(),
                5 | 6 => {
                    let (start, step, trips) = (self.pick(3) as i64, 1 + self.pick(3) as i64, [1, 2, 3, 5][self.pick(4)]);
                    let end = start + step * trips;
                    self.nested(depth, |b, body| b.for_loop("i", start..end, step, |b, var| body(b, Some((var, end - step)))));
                }
                _ => {
                    let cond = if self.vars.is_empty() || self.pick(2) == 0 {
                        Cond::Reg(self.reg(VecType::scalar(DType::Bool)))
                    } else {
                        let at = self.pick(self.vars.len());
                        let var = self.vars[at].0;
                        Cond::Within(vec![(Affine::var(var).times(2).offset(-3), self.pick(4) as i64 - 2, self.pick(9) as i64)])
                    };
                    self.nested(depth, |b, body| {
                        let body = std::cell::RefCell::new(body);
                        b.branch(cond, |b| (body.borrow_mut())(b, None), |b| (body.borrow_mut())(b, None));
                    });
                }
            }
        }
    }
}

/// Random kernels of loops, branches, accumulators and checked indices.
pub(in crate::codegen) fn random_kernels(seeds: std::ops::Range<u64>) -> Vec<Kernel> {
    seeds.map(|i| Maker::kernel(i * 7919, false)).collect()
}

/// The same of values of 32 bits and scalars of `i64`.
pub(in crate::codegen) fn random_kernels_of_words(seeds: std::ops::Range<u64>) -> Vec<Kernel> {
    seeds.map(|i| Maker::kernel(i * 7919, true)).collect()
}

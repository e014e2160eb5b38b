//! Vectors that are longer than the machine's, split into several registers: a nest to an equal nest.

use std::borrow::Cow;

use crate::nest::{BinaryOp, Index, Kernel, Loop, Op, Reg, Shuffle, Stmt, VecType, for_each_operand, for_each_set};
use crate::tensor::DType;

/// The registers of elements shorter than words that stay as they are in memory: operands of dot products, and what has the bits of words.
pub(in crate::codegen) fn packed(kernel: &Kernel) -> Vec<bool> {
    let mut packed = vec![false; kernel.regs.len()];
    let fills_words = |r: Reg| match kernel.regs[r.0 as usize] {
        VecType { dtype: DType::I8 | DType::U8, lanes } => lanes.is_multiple_of(4),
        VecType { dtype: DType::I16, lanes } => lanes.is_multiple_of(2),
        _ => false,
    };
    let mut copies = vec![];
    for_each_set(&kernel.body, &mut |reg, op| {
        let mut mark = |r: Reg| packed[r.0 as usize] |= fills_words(r);
        match op {
            Op::Dot(_, a, b) => [*a, *b].into_iter().for_each(&mut mark),
            Op::Bitcast(a) if kernel.regs[a.0 as usize].lanes != kernel.regs[reg.0 as usize].lanes => {
                [reg, *a].into_iter().for_each(&mut mark)
            }
            Op::Copy(a) | Op::Bitcast(a) => copies.push((reg, *a)),
            _ => {}
        }
    });
    let mut changed = true;
    while changed {
        changed = false;
        for &(a, b) in &copies {
            let (a, b) = (a.0 as usize, b.0 as usize);
            if packed[a] != packed[b] {
                (packed[a], packed[b], changed) = (true, true, true);
            }
        }
    }
    packed
}

/// A kernel whose vectors fit registers of so many lanes of 32 bits.
pub(in crate::codegen) fn legalize(kernel: &Kernel, lanes: u32) -> Cow<'_, Kernel> {
    let packed = packed(kernel);
    let ty = |r: Reg| kernel.regs[r.0 as usize];
    let is_wide = |dtype: DType| dtype.size_bytes() == 8;
    let mut most = lanes;
    // Values on the way to results of such operations are twice as long as words.
    for_each_set(&kernel.body, &mut |reg, op| {
        let mut wide = is_wide(ty(reg).dtype) && ty(reg).lanes > 1;
        for_each_operand(op, |r| wide |= is_wide(ty(r).dtype) && ty(r).lanes > 1);
        let divides = matches!(op, Op::Binary(BinaryOp::Div | BinaryOp::Rem, ..)) && ty(reg).dtype.is_int() && ty(reg).lanes > 1;
        if wide || divides {
            most = lanes / 2;
        }
    });
    let lanes_of = |r: usize| if packed[r] { 4 / kernel.regs[r].dtype.size_bytes() as u32 * most } else { most };
    if (0..kernel.regs.len()).all(|r| kernel.regs[r].lanes <= lanes_of(r)) {
        return Cow::Borrowed(kernel);
    }
    let mut s = Split { kernel, parts: vec![], regs: vec![], lanes: vec![] };
    for (r, ty) in kernel.regs.iter().enumerate() {
        let lanes = ty.lanes.min(lanes_of(r));
        let parts = (0..ty.lanes / lanes).map(|_| s.fresh(VecType { dtype: ty.dtype, lanes })).collect();
        s.parts.push(parts);
        s.lanes.push(lanes);
    }
    let body = s.block(&kernel.body);
    Cow::Owned(Kernel { regs: s.regs, body, ..kernel.clone() })
}

struct Split<'k> {
    kernel: &'k Kernel,
    /// The registers that stand for each of the kernel's.
    parts: Vec<Vec<Reg>>,
    /// Lanes of each of them.
    lanes: Vec<u32>,
    regs: Vec<VecType>,
}

impl Split<'_> {
    fn fresh(&mut self, ty: VecType) -> Reg {
        self.regs.push(ty);
        Reg(self.regs.len() as u32 - 1)
    }

    /// The part of a register; a register of one part has it in every place.
    fn part(&self, r: Reg, i: usize) -> Reg {
        let parts = &self.parts[r.0 as usize];
        parts[i.min(parts.len() - 1)]
    }

    fn index(&self, index: &Index, offset: u32) -> Index {
        Index {
            affine: index.affine.offset(offset.into()),
            dynamic: index.dynamic.iter().map(|&(r, stride)| (self.part(r, 0), stride)).collect(),
        }
    }

    fn block(&mut self, block: &[Stmt]) -> Vec<Stmt> {
        let mut out = vec![];
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => out.push(Stmt::Loop(Loop { body: self.block(&l.body), ..l.clone() })),
                Stmt::If { cond, then, otherwise } => {
                    let cond = match cond {
                        crate::nest::Cond::Reg(r) => crate::nest::Cond::Reg(self.part(*r, 0)),
                        other => other.clone(),
                    };
                    out.push(Stmt::If { cond, then: self.block(then), otherwise: self.block(otherwise) });
                }
                Stmt::Store { buffer, index, value } => {
                    for (i, &part) in self.parts[value.0 as usize].iter().enumerate() {
                        let index = self.index(index, i as u32 * self.lanes[value.0 as usize]);
                        out.push(Stmt::Store { buffer: *buffer, index, value: part });
                    }
                }
                Stmt::Prefetch { .. } => out.push(stmt.clone()),
                Stmt::Set { reg, op } => self.set(*reg, op, &mut out),
            }
        }
        out
    }

    fn set(&mut self, reg: Reg, op: &Op, out: &mut Vec<Stmt>) {
        if let Op::Horizontal(combine, a) = op {
            return self.horizontal(reg, *combine, *a, out);
        }
        let n = self.parts[reg.0 as usize].len();
        if let (Op::Shuffle(order, a, b), 2..) = (op, n) {
            return self.shuffle(reg, *order, (*a, *b), out);
        }
        for i in 0..n {
            let part = |r: &Reg| self.part(*r, i);
            let op = match op {
                Op::Load { buffer, index } => Op::Load { buffer: *buffer, index: self.index(index, i as u32 * self.lanes[reg.0 as usize]) },
                Op::Gather { buffer, index } => {
                    let (places, scalars) = index.spread().expect("the verifier has seen the places");
                    let mut index = self.index(&scalars, 0);
                    index.dynamic.push((self.part(places, i), 1));
                    Op::Gather { buffer: *buffer, index }
                }
                Op::Pack(regs) => {
                    let lanes = self.lanes[reg.0 as usize] as usize;
                    let regs = regs[i * lanes..(i + 1) * lanes].iter().map(|&r| self.part(r, 0)).collect();
                    Op::Pack(regs)
                }
                Op::Lane(a, lane) => {
                    let lanes = self.lanes[a.0 as usize];
                    Op::Lane(self.part(*a, (lane / lanes) as usize), lane % lanes)
                }
                Op::Const(c) => Op::Const(*c),
                Op::Index(a) => Op::Index(a.clone()),
                Op::Copy(a) => Op::Copy(part(a)),
                Op::Splat(a) => Op::Splat(part(a)),
                Op::Unary(op, a) => Op::Unary(*op, part(a)),
                Op::Binary(op, a, b) => Op::Binary(*op, part(a), part(b)),
                Op::Fma(a, b, c) => Op::Fma(part(a), part(b), part(c)),
                Op::Compare(op, a, b) => Op::Compare(*op, part(a), part(b)),
                Op::Select(c, a, b) => Op::Select(part(c), part(a), part(b)),
                Op::Convert(a) => Op::Convert(part(a)),
                Op::Bitcast(a) => Op::Bitcast(part(a)),
                Op::Dot(c, a, b) => Op::Dot(part(c), part(a), part(b)),
                Op::Check(a, end) => Op::Check(part(a), *end),
                Op::Shuffle(order, a, b) => Op::Shuffle(*order, part(a), part(b)),
                Op::Horizontal(combine, a) => Op::Horizontal(*combine, part(a)),
            };
            out.push(Stmt::Set { reg: self.parts[reg.0 as usize][i], op });
        }
    }

    /// A part of the result takes lanes of two parts, each of an operand or both of one.
    fn shuffle(&mut self, reg: Reg, order: Shuffle, (a, b): (Reg, Reg), out: &mut Vec<Stmt>) {
        let to = self.parts[reg.0 as usize].clone();
        let ty = VecType { dtype: self.kernel.regs[reg.0 as usize].dtype, lanes: self.lanes[reg.0 as usize] };
        let n = to.len();
        let zipped = |i: usize| if i.is_multiple_of(2) { Shuffle::ZipLow } else { Shuffle::ZipHigh };
        let half = |i: usize, from: usize| if i < n / 2 { self.part(a, from + i) } else { self.part(b, from + i - n / 2) };
        let either = |i: usize| if i < n { self.part(a, i) } else { self.part(b, i - n) };
        let ops: Vec<Op> = (0..n)
            .map(|i| match order {
                Shuffle::ZipLow => Op::Shuffle(zipped(i), self.part(a, i / 2), self.part(b, i / 2)),
                Shuffle::ZipHigh => Op::Shuffle(zipped(i), self.part(a, n / 2 + i / 2), self.part(b, n / 2 + i / 2)),
                Shuffle::Even | Shuffle::Odd => Op::Shuffle(order, either(2 * i), either(2 * i + 1)),
                // Four lanes are two parts.
                Shuffle::ZipLow4 if ty.lanes < 4 => Op::Shuffle(zipped(i), self.part(a, i / 2 * 2), self.part(b, i / 2 * 2)),
                Shuffle::ZipHigh4 if ty.lanes < 4 => Op::Shuffle(zipped(i), self.part(a, i / 2 * 2 + 1), self.part(b, i / 2 * 2 + 1)),
                Shuffle::ZipLow4 | Shuffle::ZipHigh4 => Op::Shuffle(order, self.part(a, i), self.part(b, i)),
                Shuffle::LowHalves => Op::Copy(half(i, 0)),
                Shuffle::HighHalves => Op::Copy(half(i, n / 2)),
                Shuffle::Next => Op::Shuffle(order, either(i), either(i + 1)),
                Shuffle::Previous => Op::Shuffle(order, either(n - 1 + i), either(n + i)),
            })
            .collect();
        // All are read before any of what may be an operand is set.
        let made: Vec<Reg> = ops.iter().map(|_| self.fresh(ty)).collect();
        out.extend(made.iter().zip(ops).map(|(&reg, op)| Stmt::Set { reg, op }));
        out.extend(to.iter().zip(made).map(|(&reg, from)| Stmt::Set { reg, op: Op::Copy(from) }));
    }

    /// The upper half of the parts is combined with the lower until one is left.
    fn horizontal(&mut self, reg: Reg, combine: BinaryOp, a: Reg, out: &mut Vec<Stmt>) {
        let ty = VecType { dtype: self.kernel.regs[a.0 as usize].dtype, lanes: self.lanes[a.0 as usize] };
        let mut parts = self.parts[a.0 as usize].clone();
        while parts.len() > 1 {
            let upper = parts.split_off(parts.len() / 2);
            for (low, high) in parts.iter_mut().zip(upper) {
                let both = self.fresh(ty);
                out.push(Stmt::Set { reg: both, op: Op::Binary(combine, *low, high) });
                *low = both;
            }
        }
        out.push(Stmt::Set { reg: self.part(reg, 0), op: Op::Horizontal(combine, parts[0]) });
    }
}

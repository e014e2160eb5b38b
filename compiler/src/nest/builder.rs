//! Builds a [`Kernel`] statement by statement.

use std::collections::HashMap;

use super::ir::{
    Access, Affine, BinaryOp, Buffer, BufferId, CompareOp, Cond, Index, Kernel, Live, Loop, Op, Reg, Scalar, SizeVar, Stmt, UnaryOp, Var,
    VecType,
};
use crate::tensor::DType;

/// A kernel under construction; statements go to the innermost open loop or branch.
#[derive(Debug)]
pub struct Builder {
    kernel: Kernel,
    open: Vec<Vec<Stmt>>,
    /// How many variables were given each name.
    var_names: HashMap<String, usize>,
}

impl Builder {
    /// An empty kernel.
    pub fn new(name: impl Into<String>, schedule: impl Into<String>) -> Self {
        Builder {
            kernel: Kernel {
                name: name.into(),
                schedule: schedule.into(),
                buffers: vec![],
                vars: vec![],
                sizes: vec![],
                regs: vec![],
                body: vec![],
            },
            open: vec![vec![]],
            var_names: HashMap::new(),
        }
    }

    /// Adds a buffer of `len` elements.
    pub fn buffer(&mut self, name: impl Into<String>, dtype: DType, len: usize, access: Access) -> BufferId {
        self.kernel.buffers.push(Buffer { name: name.into(), dtype, len, access, private: false });
        BufferId(self.kernel.buffers.len() as u32 - 1)
    }

    /// The number of elements of a buffer.
    pub fn buffer_len(&self, buffer: BufferId) -> usize {
        self.kernel.buffers[buffer.0 as usize].len
    }

    /// Element type of a buffer.
    pub fn buffer_dtype(&self, buffer: BufferId) -> DType {
        self.kernel.buffers[buffer.0 as usize].dtype
    }

    /// The type of a register.
    pub fn ty(&self, reg: Reg) -> VecType {
        self.kernel.regs[reg.0 as usize]
    }

    /// `for name in start..end step step { body }`. Nothing is emitted for an empty range; a single iteration stays a loop.
    ///
    /// # Panics
    /// If `end - start` is not a multiple of `step`.
    pub fn for_loop(&mut self, name: &str, range: std::ops::Range<i64>, step: i64, body: impl FnOnce(&mut Self, Var)) {
        self.any_loop(name, range, step, false, body);
    }

    /// A loop whose iterations may run on different threads.
    pub fn par_loop(&mut self, name: &str, range: std::ops::Range<i64>, step: i64, body: impl FnOnce(&mut Self, Var)) {
        self.any_loop(name, range, step, true, body);
    }

    fn any_loop(&mut self, name: &str, range: std::ops::Range<i64>, step: i64, parallel: bool, body: impl FnOnce(&mut Self, Var)) {
        if range.is_empty() {
            return;
        }
        assert_eq!((range.end - range.start) % step, 0, "loop {name} {range:?} step {step}");
        let var = self.var(name);
        let body = self.block(|b| body(b, var));
        self.push(Stmt::Loop(Loop { var, start: range.start, end: range.end, step, live: None, parallel, body }));
    }

    /// The part `live` of a loop over `range`, and the condition that there is one. Its last value is at most `range.end - step`.
    pub fn live_loop(&mut self, name: &str, range: std::ops::Range<i64>, step: i64, live: Live, body: impl FnOnce(&mut Self, Var)) {
        if range.end - range.start < step {
            return;
        }
        let var = self.var(name);
        let body = self.block(|b| body(b, var));
        let l = Loop { var, start: range.start, end: range.end, step, live: Some(live), parallel: false, body };
        let cond = l.guard().expect("a live loop");
        self.push(Stmt::If { cond, then: vec![Stmt::Loop(l)], otherwise: vec![] });
    }

    /// A number from 0 to `high` that a caller passes.
    pub fn size(&mut self, name: &str, high: i64) -> Var {
        let var = self.var(name);
        self.kernel.sizes.push(SizeVar { var, high, most: None });
        var
    }

    fn var(&mut self, name: &str) -> Var {
        let taken = self.var_names.entry(name.to_owned()).or_default();
        self.kernel.vars.push(if *taken == 0 { name.to_owned() } else { format!("{name}.{taken}") });
        *taken += 1;
        Var(self.kernel.vars.len() as u32 - 1)
    }

    /// Asks for the cache line of an element.
    pub fn prefetch(&mut self, buffer: BufferId, index: Affine) {
        self.push(Stmt::Prefetch { buffer, index });
    }

    /// `if cond { then } else { otherwise }`.
    pub fn branch(&mut self, cond: Cond, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        let then = self.block(then);
        let otherwise = self.block(otherwise);
        self.push(Stmt::If { cond, then, otherwise });
    }

    /// The statements that `body` adds, taken out.
    pub fn block(&mut self, body: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.open.push(vec![]);
        body(self);
        self.open.pop().expect("the block opened above")
    }

    /// A new register, not yet set.
    pub fn reg(&mut self, ty: VecType) -> Reg {
        self.kernel.regs.push(ty);
        Reg(self.kernel.regs.len() as u32 - 1)
    }

    /// `reg = op`.
    pub fn set(&mut self, reg: Reg, op: Op) {
        self.push(Stmt::Set { reg, op });
    }

    /// A new register set to `op`.
    pub fn op(&mut self, ty: VecType, op: Op) -> Reg {
        let reg = self.reg(ty);
        self.set(reg, op);
        reg
    }

    /// A floating-point constant in every lane.
    pub fn float(&mut self, ty: VecType, x: f64) -> Reg {
        self.op(ty, Op::Const(Scalar::Float(x)))
    }

    /// An integer or `bool` constant in every lane.
    pub fn int(&mut self, ty: VecType, x: i64) -> Reg {
        self.op(ty, Op::Const(Scalar::Int(x)))
    }

    /// `lanes` elements from `index`.
    pub fn load(&mut self, buffer: BufferId, index: impl Into<Index>, lanes: u32) -> Reg {
        let ty = VecType { dtype: self.buffer_dtype(buffer), lanes };
        self.op(ty, Op::Load { buffer, index: index.into() })
    }

    /// The elements at `index` and as much further on as each lane of `places` says.
    pub fn gather(&mut self, buffer: BufferId, index: impl Into<Index>, places: Reg) -> Reg {
        let ty = self.ty(places).with_dtype(self.buffer_dtype(buffer));
        let mut index = index.into();
        index.dynamic.push((places, 1));
        self.op(ty, Op::Gather { buffer, index })
    }

    /// Stores all lanes.
    pub fn store(&mut self, buffer: BufferId, index: impl Into<Index>, value: Reg) {
        self.push(Stmt::Store { buffer, index: index.into(), value });
    }

    /// The affine value as an `i64` scalar.
    pub fn index(&mut self, affine: Affine) -> Reg {
        self.op(VecType::scalar(DType::I64), Op::Index(affine))
    }

    /// A scalar in `lanes` lanes (itself for one lane).
    pub fn splat(&mut self, a: Reg, lanes: u32) -> Reg {
        if lanes == 1 {
            return a;
        }
        let ty = VecType { dtype: self.ty(a).dtype, lanes };
        self.op(ty, Op::Splat(a))
    }

    /// One operand.
    pub fn unary(&mut self, op: UnaryOp, a: Reg) -> Reg {
        let ty = self.ty(a);
        self.op(ty, Op::Unary(op, a))
    }

    /// Two operands.
    pub fn binary(&mut self, op: BinaryOp, a: Reg, b: Reg) -> Reg {
        let ty = self.ty(a);
        self.op(ty, Op::Binary(op, a, b))
    }

    /// `a * b + c`.
    pub fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        let ty = self.ty(a);
        self.op(ty, Op::Fma(a, b, c))
    }

    /// A comparison.
    pub fn compare(&mut self, op: CompareOp, a: Reg, b: Reg) -> Reg {
        let ty = self.ty(a).with_dtype(DType::Bool);
        self.op(ty, Op::Compare(op, a, b))
    }

    /// `cond ? a : b`.
    pub fn select(&mut self, cond: Reg, a: Reg, b: Reg) -> Reg {
        let ty = self.ty(a);
        self.op(ty, Op::Select(cond, a, b))
    }

    /// The value in another element type (itself if it has that type).
    pub fn convert(&mut self, a: Reg, dtype: DType) -> Reg {
        let ty = self.ty(a);
        if ty.dtype == dtype { a } else { self.op(ty.with_dtype(dtype), Op::Convert(a)) }
    }

    /// The bits in another element type.
    pub fn bitcast(&mut self, a: Reg, dtype: DType) -> Reg {
        let ty = self.ty(a).with_dtype(dtype);
        self.op(ty, Op::Bitcast(a))
    }

    /// `acc` and the products in each lane: of four bytes, the first unsigned, or of two `i16`.
    pub fn dot(&mut self, acc: Reg, unsigned: Reg, signed: Reg) -> Reg {
        let ty = self.ty(acc);
        self.op(ty, Op::Dot(acc, unsigned, signed))
    }

    /// Adds a statement.
    pub fn push(&mut self, stmt: Stmt) {
        self.open.last_mut().expect("the kernel's own block").push(stmt);
    }

    /// The kernel.
    ///
    /// # Panics
    /// If a loop is still open.
    pub fn finish(mut self) -> Kernel {
        assert_eq!(self.open.len(), 1, "an open loop");
        self.kernel.body = self.open.pop().expect("the kernel's own block");
        self.kernel
    }
}

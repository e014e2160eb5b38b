//! One kernel to one Cranelift function: control flow, registers as SSA values, statements.
//!
//! Loops test at the bottom, since they run at least once. A loop's block has parameters for its counter, its stepping
//! pointers, and only those registers that live from one iteration to the next; everything else is plain dominance.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Block, BlockArg, InstBuilder, MemFlagsData, types};
use cranelift_frontend::FunctionBuilder;
use tinsmith_targets::abi::StatusCode;

use super::super::address::{Addresses, Pointer, scaled_displacement, wide_displacement};
use super::liveness::{Liveness, Regs};
use super::value::{Caps, Val};
use crate::codegen::CodegenError;
use crate::nest::{Affine, BufferId, Cond, Index, Kernel, Loop, Op, Reg, Scalar, Stmt, Var, VecType, for_each_set, parallel::spread_loop};

/// What a kernel returns when all went well.
pub const OK: i64 = StatusCode::Ok as i64;
/// What a kernel returns when a data-dependent index is out of range.
pub const INDEX_OUT_OF_RANGE: i64 = StatusCode::IndexOutOfRange as i64;

/// A function under construction.
pub(super) struct Lower<'k, 'f> {
    pub(super) kernel: &'k Kernel,
    pub(super) b: FunctionBuilder<'f>,
    pub(super) caps: Caps,
    pub(super) target: &'k str,
    addresses: Addresses,
    liveness: Liveness,
    env: Vec<Option<Val>>,
    // Registers that are set once, to a constant.
    constants: Vec<Option<Scalar>>,
    vars: HashMap<Var, ir::Value>,
    pointers: HashMap<Pointer, ir::Value>,
    scaled: HashMap<(Reg, i64), ir::Value>,
    fail: Option<Block>,
    /// The loop of which only a part runs, and the part: its first and last iteration but one.
    part: Option<(Var, ir::Value, ir::Value)>,
}

impl<'k, 'f> Lower<'k, 'f> {
    /// Fills the function of `b`, whose signature takes the argument table and returns the status.
    pub(super) fn run(
        kernel: &'k Kernel,
        b: FunctionBuilder<'f>,
        caps: Caps,
        target: &'k str,
    ) -> Result<FunctionBuilder<'f>, CodegenError> {
        let limit = if caps.x86 { wide_displacement } else { scaled_displacement };
        let addresses = Addresses::plan(kernel, limit).map_err(|var| CodegenError::Malformed {
            kernel: kernel.name.clone(),
            what: format!("loop variable {} is used outside its loop", kernel.vars.get(var.0 as usize).map_or("?", |v| v)),
        })?;
        let n_regs = kernel.regs.len();
        let mut lower = Lower {
            kernel,
            b,
            caps,
            target,
            addresses,
            liveness: Liveness::of(&kernel.body, n_regs),
            env: vec![None; n_regs],
            constants: single_constants(&kernel.body, n_regs),
            vars: HashMap::new(),
            pointers: HashMap::new(),
            scaled: HashMap::new(),
            fail: None,
            part: None,
        };
        lower.entry();
        let nothing = lower.liveness.none();
        lower.block(&kernel.body, &nothing)?;
        let ok = lower.b.ins().iconst(types::I32, OK);
        lower.b.ins().return_(&[ok]);
        if let Some(fail) = lower.fail {
            lower.b.switch_to_block(fail);
            lower.b.set_cold_block(fail);
            let status = lower.b.ins().iconst(types::I32, INDEX_OUT_OF_RANGE);
            lower.b.ins().return_(&[status]);
        }
        lower.b.seal_all_blocks();
        Ok(lower.b)
    }

    fn entry(&mut self) {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        let [table, begin, end, worker] = self.b.block_params(entry)[..] else { unreachable!("a kernel's function has four parameters") };
        self.part = spread_loop(self.kernel).map(|l| (l.var, begin, end));
        for (i, buffer) in self.kernel.buffers.iter().enumerate() {
            let mut base = self.b.ins().load(types::I64, MemFlagsData::trusted(), table, i as i32 * 8);
            if buffer.private {
                let copy = self.b.ins().imul_imm_s(worker, buffer.copy_bytes().unwrap_or(0) as i64);
                base = self.b.ins().iadd(base, copy);
            }
            self.pointers.insert(Pointer { buffer: BufferId(i as u32), terms: vec![], far: 0 }, base);
        }
        for (i, size) in self.kernel.sizes.iter().enumerate() {
            let at = (self.kernel.buffers.len() + i) as i32 * 8;
            let value = self.b.ins().load(types::I64, MemFlagsData::trusted(), table, at);
            self.vars.insert(size.var, value);
        }
        for pointer in std::mem::take(&mut self.addresses.fixed) {
            if pointer.far != 0 {
                let base = self.pointers[&Pointer { far: 0, ..pointer.clone() }];
                let moved = self.add_constant(base, pointer.far);
                self.pointers.insert(pointer, moved);
            }
        }
    }

    pub(super) fn malformed<T>(&self, what: impl Into<String>) -> Result<T, CodegenError> {
        Err(CodegenError::Malformed { kernel: self.kernel.name.clone(), what: what.into() })
    }

    pub(super) fn unsupported<T>(&self, what: impl Into<String>) -> Result<T, CodegenError> {
        Err(CodegenError::Unsupported { kernel: self.kernel.name.clone(), what: what.into(), target: self.target.to_owned() })
    }

    pub(super) fn ty(&self, reg: Reg) -> VecType {
        self.kernel.regs[reg.0 as usize]
    }

    pub(super) fn get(&self, reg: Reg) -> Result<Val, CodegenError> {
        match self.env.get(reg.0 as usize) {
            Some(Some(val)) => Ok(val.clone()),
            _ => self.malformed(format!("register {} is read before it is set", reg.0)),
        }
    }

    /// The value of a register that is a constant throughout the kernel.
    pub(super) fn constant(&self, reg: Reg) -> Option<Scalar> {
        self.constants.get(reg.0 as usize).copied().flatten()
    }

    pub(super) fn add_constant(&mut self, x: ir::Value, c: i64) -> ir::Value {
        if c == 0 { x } else { self.b.ins().iadd_imm_s(x, c) }
    }

    fn block(&mut self, block: &'k [Stmt], after: &Regs) -> Result<(), CodegenError> {
        let mut live = self.liveness.live_after(block, after);
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => {
                    let after = live.pop().expect("one set for each loop and branch");
                    self.any_loop(stmt, l, &after)?;
                }
                Stmt::If { cond, then, otherwise } => {
                    let after = live.pop().expect("one set for each loop and branch");
                    self.branch(stmt, cond, then, otherwise, &after)?;
                }
                Stmt::Set { reg, op } => {
                    let val = self.op(self.ty(*reg), op)?;
                    self.set(*reg, val);
                }
                Stmt::Store { buffer, index, value } => {
                    let ty = self.ty(*value);
                    if ty.dtype != self.kernel.buffers[buffer.0 as usize].dtype {
                        return self.malformed(format!("store of {ty} to a buffer of another type"));
                    }
                    let val = self.get(*value)?;
                    let (address, displacement) = self.address(*buffer, index)?;
                    self.store(ty, &val, address, displacement);
                }
                // Cranelift has no instruction for it.
                Stmt::Prefetch { .. } => {}
            }
        }
        Ok(())
    }

    fn set(&mut self, reg: Reg, val: Val) {
        for stride in self.addresses.scales.get(&reg).cloned().unwrap_or_default() {
            let scaled = if stride == 1 { val.parts[0] } else { self.b.ins().imul_imm_s(val.parts[0], stride) };
            self.scaled.insert((reg, stride), scaled);
        }
        self.env[reg.0 as usize] = Some(val);
    }

    /// Address and displacement of the first element of an access.
    pub(super) fn address(&mut self, buffer: BufferId, index: &Index) -> Result<(ir::Value, i32), CodegenError> {
        let size = self.kernel.buffers[buffer.0 as usize].dtype.size_bytes();
        let (pointer, displacement) = self.addresses.split(buffer, &index.affine, size);
        let Some(&(mut address)) = self.pointers.get(&pointer) else {
            return self.malformed(format!("an index of buffer {} uses a variable outside its loop", buffer.0));
        };
        for &(reg, stride) in &index.dynamic {
            let Some(&offset) = self.scaled.get(&(reg, stride * size as i64)) else {
                return self.malformed(format!("register {} is used in an index before it is set", reg.0));
            };
            address = self.b.ins().iadd(address, offset);
        }
        Ok((address, displacement as i32))
    }

    /// An affine value in elements.
    pub(super) fn affine(&mut self, affine: &Affine) -> Result<ir::Value, CodegenError> {
        let mut constant = affine.constant;
        let mut sum = None;
        for &(var, coefficient) in &affine.terms {
            if let Some(value) = self.addresses.single(var) {
                constant += value * coefficient;
                continue;
            }
            let Some(&value) = self.vars.get(&var) else {
                return self.malformed(format!("loop variable {} is used outside its loop", self.kernel.vars[var.0 as usize]));
            };
            let term = if coefficient == 1 { value } else { self.b.ins().imul_imm_s(value, coefficient) };
            sum = Some(match sum {
                None => term,
                Some(sum) => self.b.ins().iadd(sum, term),
            });
        }
        Ok(match sum {
            None => self.b.ins().iconst(types::I64, constant),
            Some(sum) => self.add_constant(sum, constant),
        })
    }

    /// Leaves the kernel with a status unless `0 <= value < end`.
    pub(super) fn check(&mut self, value: ir::Value, end: i64) {
        let fail = match self.fail {
            Some(fail) => fail,
            None => *self.fail.insert(self.b.create_block()),
        };
        let next = self.b.create_block();
        let bad = self.b.ins().icmp_imm_s(IntCC::UnsignedGreaterThanOrEqual, value, end);
        self.b.ins().brif(bad, fail, &[], next, &[]);
        self.b.switch_to_block(next);
    }

    fn any_loop(&mut self, stmt: &Stmt, l: &'k Loop, after: &Regs) -> Result<(), CodegenError> {
        if l.step < 1 || l.end <= l.start || l.live.is_none() && (l.end - l.start) % l.step != 0 {
            return self.malformed(format!("loop {} runs from {} to {} by {}", self.kernel.vars[l.var.0 as usize], l.start, l.end, l.step));
        }
        let facts = self.liveness.facts(stmt);
        let (exposed, maybe_set) = (facts.exposed.clone(), facts.maybe_set.clone());
        let live_in = after.without(&facts.always_set).union(&exposed);
        let body_after = after.union(&exposed);
        if l.live.is_none() && l.end - l.start == l.step {
            return self.block(&l.body, after);
        }
        let carried: Vec<Reg> = maybe_set.intersection(&live_in).iter().filter(|r| self.env[r.0 as usize].is_some()).collect();
        let stepping = self.addresses.stepping.get(&l.var).cloned().unwrap_or_default();

        let part = self.part.filter(|p| p.0 == l.var);
        let origin = l.live.as_ref().map(|live| self.affine(&live.from)).transpose()?;
        let nth = |lower: &mut Self, n: ir::Value| {
            let scaled = lower.b.ins().imul_imm_s(n, l.step);
            match origin {
                Some(origin) => lower.b.ins().iadd(scaled, origin),
                None => lower.add_constant(scaled, l.start),
            }
        };
        let (from, to) = match (part, &l.live, origin) {
            (Some((_, begin, end)), ..) => (nth(self, begin), Some(nth(self, end))),
            (None, Some(live), Some(origin)) => (origin, Some(self.affine(&live.to)?)),
            _ => (self.b.ins().iconst(types::I64, l.start), None),
        };
        let mut first: Vec<BlockArg> = vec![from.into()];
        for s in &stepping {
            let parent = self.pointers[&s.parent];
            first.push(match to {
                Some(_) => {
                    let moved = self.b.ins().imul_imm_s(from, s.stride);
                    let moved = self.b.ins().iadd(parent, moved);
                    self.add_constant(moved, s.pointer.far).into()
                }
                None => self.add_constant(parent, l.start * s.stride + s.pointer.far).into(),
            });
        }
        for &r in &carried {
            first.extend(self.carried_parts(r)?.into_iter().map(BlockArg::from));
        }
        let body = self.b.create_block();
        let counter = self.b.append_block_param(body, types::I64);
        let pointers: Vec<ir::Value> = stepping.iter().map(|_| self.b.append_block_param(body, types::I64)).collect();
        let params: Vec<Val> = carried.iter().map(|&r| self.carried_params(body, r)).collect();
        self.b.ins().jump(body, &first);
        self.b.switch_to_block(body);
        self.vars.insert(l.var, counter);
        for (s, &pointer) in stepping.iter().zip(&pointers) {
            self.pointers.insert(s.pointer.clone(), pointer);
        }
        for (&r, val) in carried.iter().zip(params) {
            self.set(r, val);
        }

        self.block(&l.body, &body_after)?;

        let next = self.b.ins().iadd_imm_s(counter, l.step);
        let mut again: Vec<BlockArg> = vec![next.into()];
        for (s, &pointer) in stepping.iter().zip(&pointers) {
            again.push(self.add_constant(pointer, l.step * s.stride).into());
        }
        for &r in &carried {
            again.extend(self.carried_parts(r)?.into_iter().map(BlockArg::from));
        }
        let done = self.b.create_block();
        let more = match to {
            Some(to) => self.b.ins().icmp(IntCC::NotEqual, next, to),
            None => self.b.ins().icmp_imm_s(IntCC::NotEqual, next, l.end),
        };
        self.b.ins().brif(more, body, &again, done, &[]);
        self.b.switch_to_block(done);
        self.vars.remove(&l.var);
        for s in &stepping {
            self.pointers.remove(&s.pointer);
        }
        Ok(())
    }

    fn branch(&mut self, stmt: &Stmt, cond: &Cond, then: &'k [Stmt], otherwise: &'k [Stmt], after: &Regs) -> Result<(), CodegenError> {
        let cond = self.condition(cond)?;
        let facts = self.liveness.facts(stmt);
        let changed: Vec<Reg> = facts.maybe_set.intersection(after).iter().collect();
        let defined = |r: &Reg| self.env[r.0 as usize].is_some() || facts.always_set.contains(*r);
        let merged: Vec<Reg> = changed.iter().copied().filter(defined).collect();
        let blocks = [self.b.create_block(), self.b.create_block()];
        let join = self.b.create_block();
        self.b.ins().brif(cond, blocks[0], &[], blocks[1], &[]);
        let before = (self.env.clone(), self.scaled.clone());
        for (block, stmts) in blocks.into_iter().zip([then, otherwise]) {
            self.b.switch_to_block(block);
            (self.env, self.scaled) = before.clone();
            self.block(stmts, after)?;
            let mut args: Vec<BlockArg> = vec![];
            for &r in &merged {
                args.extend(self.carried_parts(r)?.into_iter().map(BlockArg::from));
            }
            self.b.ins().jump(join, &args);
        }
        let params: Vec<(Reg, Val)> = merged.iter().map(|&r| (r, self.carried_params(join, r))).collect();
        self.b.switch_to_block(join);
        (self.env, self.scaled) = before;
        for &r in &changed {
            self.env[r.0 as usize] = None;
        }
        for (r, val) in params {
            self.set(r, val);
        }
        Ok(())
    }

    fn condition(&mut self, cond: &Cond) -> Result<ir::Value, CodegenError> {
        match cond {
            Cond::Reg(r) => Ok(self.get(*r)?.parts[0]),
            Cond::Within(ranges) => {
                let mut all = None;
                for (affine, low, high) in ranges {
                    let value = self.affine(&affine.offset(-low))?;
                    let inside = self.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, value, (high - low).max(0));
                    all = Some(match all {
                        None => inside,
                        Some(all) => self.b.ins().band(all, inside),
                    });
                }
                Ok(match all {
                    Some(all) => all,
                    None => self.b.ins().iconst(types::I8, 1),
                })
            }
        }
    }
}

fn single_constants(body: &[Stmt], n_regs: usize) -> Vec<Option<Scalar>> {
    let (mut counts, mut found) = (vec![0; n_regs], vec![None; n_regs]);
    for_each_set(body, &mut |reg, op| {
        counts[reg.0 as usize] += 1;
        found[reg.0 as usize] = if let Op::Const(c) = op { Some(*c) } else { None };
    });
    found.into_iter().zip(counts).map(|(c, n)| if n == 1 { c } else { None }).collect()
}

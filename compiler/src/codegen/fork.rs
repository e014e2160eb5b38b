//! The hand-off of a parallel piece to the threads of a pool, in Cranelift's form.
//!
//! `fork(pool, kernel, n, most, table)` runs the iterations `0..n` of a kernel: here where there is no pool, else in as many
//! equal shares as the pool has threads, at most `most`, each on a thread of the pool's choice. A share's number says which
//! copy of private buffers is its own. All it needs is on the stack.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, FuncRef, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, types};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{FuncId, Linkage, Module};
use tinsmith_targets::abi::Pool;

use super::CodegenError;
use super::clif::{N_PARAMS, OK};
use super::entry::{EntryOptions, define_with};
use crate::nest::parallel::Spread;

/// Work, as nests count it, that is worth a thread of its own: some microseconds, more than a hand-off takes.
pub const WORK_OF_A_THREAD: u64 = 25_000;

// What a share is told, by offset.
const TABLE: i32 = 0;
const KERNEL: i32 = 8;
const N: i32 = 16;
const SHARES: i32 = 24;
const STATUS: i32 = 32;
const JOB_BYTES: u32 = 40;

/// The most threads that a piece gains from, where so much work is worth one.
pub fn most_workers(spread: &Spread, workers: usize, thread_work: u64) -> usize {
    let worth = (spread.work / thread_work.max(1)).max(1);
    workers.min(usize::try_from(worth).unwrap_or(usize::MAX)).min(usize::try_from(spread.n).unwrap_or(1)).max(1)
}

/// The function in the one that calls it.
pub(super) struct Fork {
    function: FuncRef,
    pool: ir::Value,
}

impl Fork {
    pub(super) fn new<M: Module>(module: &mut M, b: &mut FunctionBuilder<'_>, id: FuncId, pool: ir::Value) -> Self {
        Fork { function: module.declare_func_in_func(id, b.func), pool }
    }

    /// Runs `n` iterations of a piece; the status.
    pub(super) fn call(&self, b: &mut FunctionBuilder<'_>, kernel: FuncRef, n: ir::Value, most: ir::Value, table: ir::Value) -> ir::Value {
        let address = b.ins().func_addr(types::I64, kernel);
        let call = b.ins().call(self.function, &[self.pool, address, n, most, table]);
        b.inst_results(call)[0]
    }
}

/// Defines the hand-off.
pub(super) fn define<M: Module>(module: &mut M, options: &EntryOptions) -> Result<FuncId, CodegenError> {
    let name = |what: &str| match &options.run {
        Some(run) => format!("{run}.{what}"),
        None => what.to_owned(),
    };
    let share = define_share(module, &name("share"))?;
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 5];
    signature.returns = vec![AbiParam::new(types::I32)];
    let (id, _) = define_with(module, &name("fork"), Linkage::Local, signature, false, |module, b, params| {
        let &[pool, kernel, n, most, table] = params else { unreachable!("five parameters") };
        let (serial, asked, parallel) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().brif(pool, asked, &[], serial, &[]);
        b.switch_to_block(asked);
        let n_threads = b.ins().load(types::I32, MemFlagsData::trusted(), pool, offset_of!(Pool, n_threads) as i32);
        let n_threads = b.ins().uextend(types::I64, n_threads);
        let shares = b.ins().umin(n_threads, most);
        let several = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, shares, 1);
        b.ins().brif(several, parallel, &[], serial, &[]);
        b.switch_to_block(parallel);
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, JOB_BYTES, 3));
        let job = b.ins().stack_addr(types::I64, slot, 0);
        let status = b.ins().iconst(types::I64, OK);
        for (offset, value) in [(TABLE, table), (KERNEL, kernel), (N, n), (SHARES, shares), (STATUS, status)] {
            b.ins().store(MemFlagsData::trusted(), value, job, offset);
        }
        let context = b.ins().load(types::I64, MemFlagsData::trusted(), pool, offset_of!(Pool, context) as i32);
        let parallel_for = b.ins().load(types::I64, MemFlagsData::trusted(), pool, offset_of!(Pool, parallel_for) as i32);
        let share = module.declare_func_in_func(share, b.func);
        let share = b.ins().func_addr(types::I64, share);
        let shares = b.ins().ireduce(types::I32, shares);
        let mut signature = module.make_signature();
        signature.params = [types::I64, types::I32, types::I64, types::I64].map(AbiParam::new).to_vec();
        let signature = b.import_signature(signature);
        b.ins().call_indirect(signature, parallel_for, &[context, shares, share, job]);
        let status = b.ins().load(types::I32, MemFlagsData::trusted(), job, STATUS);
        b.ins().return_(&[status]);
        b.switch_to_block(serial);
        let zero = b.ins().iconst(types::I64, 0);
        let status = call_kernel(module, b, kernel, [table, zero, n, zero]);
        b.ins().return_(&[status]);
    })?;
    Ok(id)
}

/// `share(job, i)`: the iterations from `i * n / shares` to `(i + 1) * n / shares`.
fn define_share<M: Module>(module: &mut M, name: &str) -> Result<FuncId, CodegenError> {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64), AbiParam::new(types::I32)];
    let (id, _) = define_with(module, name, Linkage::Local, signature, false, |module, b, params| {
        let (job, i) = (params[0], b.ins().uextend(types::I64, params[1]));
        let [table, kernel, n, shares] = [TABLE, KERNEL, N, SHARES].map(|at| b.ins().load(types::I64, MemFlagsData::trusted(), job, at));
        let next = b.ins().iadd_imm_s(i, 1);
        let [begin, end] = [i, next].map(|i| {
            let scaled = b.ins().imul(i, n);
            b.ins().udiv(scaled, shares)
        });
        let status = call_kernel(module, b, kernel, [table, begin, end, i]);
        let (failed, done) = (b.create_block(), b.create_block());
        b.ins().brif(status, failed, &[], done, &[]);
        b.switch_to_block(failed);
        b.set_cold_block(failed);
        // Shares that fail do so for one reason, and the pool's end orders this before the read.
        let at = b.ins().iadd_imm_s(job, i64::from(STATUS));
        b.ins().atomic_store(MemFlagsData::trusted(), status, at);
        b.ins().jump(done, &[]);
        b.switch_to_block(done);
        b.ins().return_(&[]);
    })?;
    Ok(id)
}

fn call_kernel<M: Module>(module: &mut M, b: &mut FunctionBuilder<'_>, kernel: ir::Value, args: [ir::Value; N_PARAMS]) -> ir::Value {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); N_PARAMS];
    signature.returns = vec![AbiParam::new(types::I32)];
    let signature = b.import_signature(signature);
    let call = b.ins().call_indirect(signature, kernel, &args);
    b.inst_results(call)[0]
}

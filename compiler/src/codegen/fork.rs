//! The hand-off of a parallel piece to the threads of a pool, in Cranelift's form.
//!
//! `fork(pool, kernel, n, most, units, table)` runs the iterations `0..n` of a kernel: here where there is no pool, else cut into
//! `units` of neighbours, in as many shares as the pool has threads, at most `most`, each on a thread of the pool's choice. A
//! share has equally many units of its own, one after the other, and when those are gone takes units that other shares have not
//! begun: a thread that the system holds up keeps nobody waiting for more than a unit. Little work is one unit for each share, which
//! the pool hands out. A share's number says which copy of private buffers is its own, whatever it runs. All it needs is on the stack.

use std::mem::offset_of;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, AtomicRmwOp, FuncRef, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, types};
use cranelift_frontend::FunctionBuilder;
use cranelift_module::{FuncId, Linkage, Module};
use tinsmith_targets::abi::Pool;

use super::CodegenError;
use super::clif::{N_PARAMS, OK};
use super::entry::{EntryOptions, define_with};
use crate::nest::pieces::Spread;

/// Work, as nests count it, that is worth a thread of its own: a microsecond, more than a hand-off takes.
pub const WORK_OF_A_THREAD: u64 = 6_000;
/// Work that is worth taking from a share that is late.
const WORK_OF_A_UNIT: u64 = 12_000;

/// The most units for each share.
const UNITS_OF_A_SHARE: u64 = 8;
/// The most shares, as many as the threads of a pool at most.
const MAX_SHARES: usize = 1024;

// What a share is told, by offset.
const TABLE: i32 = 0;
const KERNEL: i32 = 8;
const N: i32 = 16;
const SHARES: i32 = 24;
const UNITS: i32 = 32;
const STATUS: i32 = 40;
/// The next unit of each share.
const NEXT: i64 = 64;

/// The most threads that a piece gains from, where so much work is worth one.
pub fn most_workers(spread: &Spread, workers: usize, thread_work: u64) -> usize {
    workers.min(MAX_SHARES).min(worth(spread.work, thread_work)).min(usize::try_from(spread.n).unwrap_or(1)).max(1)
}

/// How many threads some work is worth.
pub(super) fn worth(work: u64, thread_work: u64) -> usize {
    usize::try_from(work / thread_work.max(1)).unwrap_or(usize::MAX).max(1)
}

/// How many units `n` iterations with so much work make, for so many shares at most: equally many for each, and no more than iterations.
pub(super) fn n_units(work: u64, n: i64, most: i64) -> i64 {
    let of_a_share = (work / WORK_OF_A_UNIT / most.max(1) as u64).clamp(1, UNITS_OF_A_SHARE);
    (most * of_a_share as i64).min(n.max(1))
}

/// The same in the entry, where only a run knows `n` and the `work` of so many iterations.
pub(super) fn emit_n_units(b: &mut FunctionBuilder<'_>, [n, work, most]: [ir::Value; 3]) -> ir::Value {
    let worth = b.ins().udiv_imm_u(work, WORK_OF_A_UNIT as i64);
    let of_a_share = b.ins().udiv(worth, most);
    let limits = [1, UNITS_OF_A_SHARE].map(|x| b.ins().iconst(types::I64, x as i64));
    let of_a_share = b.ins().umax(of_a_share, limits[0]);
    let of_a_share = b.ins().umin(of_a_share, limits[1]);
    let units = b.ins().imul(most, of_a_share);
    b.ins().umin(units, n)
}

/// Bytes from the counter of one share to the next: a cache line each while there are few.
fn counter_bytes(workers: usize) -> i64 {
    if workers <= 64 { 64 } else { 8 }
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

    /// Runs `n` iterations of a piece by at most so many shares, in so many units; the status.
    pub(super) fn call(
        &self,
        b: &mut FunctionBuilder<'_>,
        kernel: FuncRef,
        [n, most, units]: [ir::Value; 3],
        table: ir::Value,
    ) -> ir::Value {
        let address = b.ins().func_addr(types::I64, kernel);
        let call = b.ins().call(self.function, &[self.pool, address, n, most, units, table]);
        b.inst_results(call)[0]
    }
}

/// Defines the hand-off, for shares of which each has a copy of private buffers among `workers`.
pub(super) fn define<M: Module>(module: &mut M, options: &EntryOptions, workers: usize) -> Result<FuncId, CodegenError> {
    let name = |what: &str| match &options.run {
        Some(run) => format!("{run}.{what}"),
        None => what.to_owned(),
    };
    let workers = workers.clamp(1, MAX_SHARES);
    let apart = counter_bytes(workers);
    let share = define_share(module, &name("share"), apart)?;
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); 6];
    signature.returns = vec![AbiParam::new(types::I32)];
    let (id, _) = define_with(module, &name("fork"), Linkage::Local, signature, false, |module, b, params| {
        let &[pool, kernel, n, most, units, table] = params else { unreachable!("six parameters") };
        let (serial, asked, parallel) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().brif(pool, asked, &[], serial, &[]);
        b.switch_to_block(asked);
        let n_threads = b.ins().load(types::I32, MemFlagsData::trusted(), pool, offset_of!(Pool, n_threads) as i32);
        let n_threads = b.ins().uextend(types::I64, n_threads);
        let shares = b.ins().umin(n_threads, most);
        let several = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, shares, 1);
        b.ins().brif(several, parallel, &[], serial, &[]);
        b.switch_to_block(parallel);
        let size = NEXT + apart * workers as i64;
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, size as u32, 3));
        let job = b.ins().stack_addr(types::I64, slot, 0);
        let status = b.ins().iconst(types::I64, OK);
        for (offset, value) in [(TABLE, table), (KERNEL, kernel), (N, n), (SHARES, shares), (UNITS, units), (STATUS, status)] {
            b.ins().store(MemFlagsData::trusted(), value, job, offset);
        }
        let zero = b.ins().iconst(types::I64, 0);
        let (each, ready) = (b.create_block(), b.create_block());
        let i = b.append_block_param(each, types::I64);
        b.ins().jump(each, &[zero.into()]);
        b.switch_to_block(each);
        let first = part(b, i, units, shares);
        let at = counter(b, job, i, apart);
        b.ins().store(MemFlagsData::trusted(), first, at, 0);
        let next = b.ins().iadd_imm_s(i, 1);
        let more = b.ins().icmp(IntCC::UnsignedLessThan, next, shares);
        b.ins().brif(more, each, &[next.into()], ready, &[]);
        b.switch_to_block(ready);
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

/// Where part `i` of `total` begins, cut into `parts`.
fn part(b: &mut FunctionBuilder<'_>, i: ir::Value, total: ir::Value, parts: ir::Value) -> ir::Value {
    let scaled = b.ins().imul(i, total);
    b.ins().udiv(scaled, parts)
}

/// Where a share's next unit is kept.
fn counter(b: &mut FunctionBuilder<'_>, job: ir::Value, share: ir::Value, apart: i64) -> ir::Value {
    let offset = b.ins().imul_imm_s(share, apart);
    let at = b.ins().iadd(job, offset);
    b.ins().iadd_imm_s(at, NEXT)
}

/// `share(job, i)`: units of share `i`, then of `i + 1` and so on round to `i - 1`, as long as there are any.
fn define_share<M: Module>(module: &mut M, name: &str, apart: i64) -> Result<FuncId, CodegenError> {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64), AbiParam::new(types::I32)];
    let (id, _) = define_with(module, name, Linkage::Local, signature, false, |module, b, params| {
        let (job, i) = (params[0], b.ins().uextend(types::I64, params[1]));
        let [table, kernel, n, shares, units] =
            [TABLE, KERNEL, N, SHARES, UNITS].map(|at| b.ins().load(types::I64, MemFlagsData::trusted(), job, at));
        let [whole, owner, take, run, next, failed, done] = [(); 7].map(|()| b.create_block());
        let passed = b.append_block_param(owner, types::I64);
        let zero = b.ins().iconst(types::I64, 0);
        let one_each = b.ins().icmp(IntCC::Equal, units, shares);
        b.ins().brif(one_each, whole, &[], owner, &[zero.into()]);

        b.switch_to_block(whole);
        let status = call_unit(module, b, kernel, [table, i], (i, n, units));
        b.ins().brif(status, failed, &[status.into()], done, &[]);

        b.switch_to_block(owner);
        let of = b.ins().iadd(i, passed);
        let round = b.ins().isub(of, shares);
        let inside = b.ins().icmp(IntCC::UnsignedLessThan, of, shares);
        let of = b.ins().select(inside, of, round);
        let following = b.ins().iadd_imm_s(of, 1);
        let end = part(b, following, units, shares);
        let at = counter(b, job, of, apart);
        b.ins().jump(take, &[]);

        b.switch_to_block(take);
        let one = b.ins().iconst(types::I64, 1);
        let unit = b.ins().atomic_rmw(types::I64, MemFlagsData::trusted(), AtomicRmwOp::Add, at, one);
        let mine = b.ins().icmp(IntCC::UnsignedLessThan, unit, end);
        b.ins().brif(mine, run, &[], next, &[]);

        b.switch_to_block(run);
        let status = call_unit(module, b, kernel, [table, i], (unit, n, units));
        b.ins().brif(status, failed, &[status.into()], take, &[]);

        b.switch_to_block(next);
        let passed = b.ins().iadd_imm_s(passed, 1);
        let more = b.ins().icmp(IntCC::UnsignedLessThan, passed, shares);
        b.ins().brif(more, owner, &[passed.into()], done, &[]);

        b.switch_to_block(failed);
        b.set_cold_block(failed);
        let status = b.append_block_param(failed, types::I32);
        // Shares that fail do so for one reason, and the pool's end orders this before the read.
        let at = b.ins().iadd_imm_s(job, i64::from(STATUS));
        b.ins().atomic_store(MemFlagsData::trusted(), status, at);
        b.ins().jump(done, &[]);
        b.switch_to_block(done);
        b.ins().return_(&[]);
    })?;
    Ok(id)
}

/// Runs one of the `units` of `n` iterations, for share `i`; the status.
fn call_unit<M: Module>(
    module: &mut M,
    b: &mut FunctionBuilder<'_>,
    kernel: ir::Value,
    [table, i]: [ir::Value; 2],
    (unit, n, units): (ir::Value, ir::Value, ir::Value),
) -> ir::Value {
    let begin = part(b, unit, n, units);
    let following = b.ins().iadd_imm_s(unit, 1);
    let end = part(b, following, n, units);
    call_kernel(module, b, kernel, [table, begin, end, i])
}

fn call_kernel<M: Module>(module: &mut M, b: &mut FunctionBuilder<'_>, kernel: ir::Value, args: [ir::Value; N_PARAMS]) -> ir::Value {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); N_PARAMS];
    signature.returns = vec![AbiParam::new(types::I32)];
    let signature = b.import_signature(signature);
    let call = b.ins().call_indirect(signature, kernel, &args);
    b.inst_results(call)[0]
}

#[cfg(test)]
mod tests {
    use super::{UNITS_OF_A_SHARE, most_workers, n_units};
    use crate::nest::pieces::Spread;

    #[test]
    fn every_share_has_a_unit_and_none_is_empty_or_not_worth_it() {
        for (n, work) in [(2, 100_000), (7, 1 << 40), (224, 1_000_000), (3, 60_000), (1000, 1000), (1 << 40, u64::MAX)] {
            let spread = Spread { n, work, live: None, inner: vec![], fixed: 0 };
            for workers in [1, 2, 3, 64, 5000] {
                let most = most_workers(&spread, workers, 25_000) as i64;
                let units = n_units(work, n, most);
                assert!(most >= 1 && most <= workers as i64 && (most..=n).contains(&units), "{n} {work} {workers}: {most} {units}");
                assert!(units as u64 <= UNITS_OF_A_SHARE * most as u64);
                assert!(units == most || work / units as u64 >= 12_000, "{n} {work} {workers}: {units}");
            }
        }
        let one = |n: i64, most: i64| n_units(100_000 * n as u64, n, most);
        assert_eq!([one(100, 2), one(1, 1), one(5, 4), one(12, 2)], [16, 1, 5, 12]);
    }
}

//! The inside of a program's entry: calls of kernels, each with a table of its buffers, in branches and loops.
//!
//! All that changes from one iteration to the next is in registers or on the stack: pointers, and the number of the iteration.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, Block, BlockArg, FuncRef, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, types};
use cranelift_frontend::{FunctionBuilder, Variable};
use cranelift_module::{DataId, Module};

use super::entry::Call;
use super::flow::{Flow, If, Loop, Trips};
use super::fork::{self, Fork};
use super::program::{Place, Program, Step};
use crate::nest::Affine;
use crate::nest::pieces::{MOST_WORK, Spread, Turn};
use crate::tensor::Size;

/// What an entry of the table holds.
#[derive(Clone, Copy, PartialEq)]
enum Slot<'a> {
    Place(Place),
    Size(&'a Size),
}

/// Calls by the loop that calls them in turn.
pub(super) fn turns(calls: &[Call]) -> impl Iterator<Item = &[Call]> {
    calls.chunk_by(|a, b| a.turn == b.turn)
}

/// What calls are made of.
pub(super) struct Calls<'a, M: Module> {
    module: &'a mut M,
    program: &'a Program,
    kernels: &'a [Vec<Call>],
    constants: &'a [DataId],
    fork: Option<Fork>,
    /// The inputs, then the outputs.
    args: ir::Value,
    workspace: ir::Value,
    table: ir::Value,
    /// What each slot of the table holds now. Kernels only read their table, so that what one step left in it serves the next.
    current: Vec<Option<Slot<'a>>>,
    /// The values of the sizes of all steps.
    sizes: HashMap<&'a Size, ir::Value>,
    pointers: Vec<Variable>,
    /// Takes a status.
    exit: Block,
}

impl<'a, M: Module> Calls<'a, M> {
    pub(super) fn new(
        module: &'a mut M,
        b: &mut FunctionBuilder<'_>,
        program: &'a Program,
        (kernels, constants): (&'a [Vec<Call>], &'a [DataId]),
        fork: Option<Fork>,
        (args, workspace): (ir::Value, ir::Value),
        sizes: HashMap<&'a Size, ir::Value>,
    ) -> Self {
        let n_slots = program.steps.iter().map(|s| s.args.len() + s.sizes.len() + 1).max().unwrap_or(0).max(1);
        let table = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, n_slots as u32 * 8, 3));
        let table = b.ins().stack_addr(types::I64, table, 0);
        let exit = b.create_block();
        b.append_block_param(exit, types::I32);
        let pointers = (0..program.n_pointers).map(|_| b.declare_var(types::I64)).collect();
        Calls { module, program, kernels, constants, fork, args, workspace, table, current: vec![None; n_slots], sizes, pointers, exit }
    }

    /// The block that takes the status of the first call that fails.
    pub(super) fn exit(&self) -> Block {
        self.exit
    }

    pub(super) fn emit(&mut self, b: &mut FunctionBuilder<'_>, flow: &[Flow]) {
        for part in flow {
            match part {
                Flow::Steps(range) => range.clone().for_each(|step| self.call(b, step)),
                Flow::If(branch) => self.branch(b, branch),
                Flow::Loop(l) => self.repeat(b, l),
            }
        }
    }

    fn call(&mut self, b: &mut FunctionBuilder<'_>, step: usize) {
        let program = self.program;
        let step = &program.steps[step];
        for (i, size) in step.sizes.iter().enumerate() {
            let slot = step.args.len() + i;
            if self.current[slot] != Some(Slot::Size(size)) {
                self.current[slot] = Some(Slot::Size(size));
                b.ins().store(MemFlagsData::trusted(), self.sizes[size], self.table, slot as i32 * 8);
            }
        }
        for (i, &place) in step.args.iter().enumerate() {
            if self.current[i] == Some(Slot::Place(place)) {
                continue;
            }
            self.current[i] = Some(Slot::Place(place));
            let address = self.address(b, place);
            b.ins().store(MemFlagsData::trusted(), address, self.table, i as i32 * 8);
        }
        let kernels = self.kernels;
        for calls in turns(&kernels[step.kernel]) {
            match calls[0].turn {
                None => calls.iter().for_each(|call| self.call_one(b, step, call)),
                Some(turn) => self.call_in_turn(b, step, turn, calls),
            }
        }
    }

    fn call_one(&mut self, b: &mut FunctionBuilder<'_>, step: &Step, call: &Call) {
        let program = self.program;
        let function: FuncRef = self.module.declare_func_in_func(call.function, b.func);
        let skip = b.create_block();
        let result = match (&self.fork, &call.spread) {
            (Some(fork), Some(spread)) => {
                let most = fork::most_workers(spread, program.workers, program.thread_work) as i64;
                let range = if spread.live.is_none() && spread.inner.is_empty() {
                    [spread.n, most, fork::n_units(spread.work, spread.n, most)].map(|x| b.ins().iconst(types::I64, x))
                } else {
                    self.live_range(b, step, spread, most, skip)
                };
                fork.call(b, function, range, self.table)
            }
            _ => {
                let nothing = b.ins().iconst(types::I64, 0);
                let call = b.ins().call(function, &[self.table, nothing, nothing, nothing]);
                b.inst_results(call)[0]
            }
        };
        b.ins().brif(result, self.exit, &[BlockArg::from(result)], skip, &[]);
        b.switch_to_block(skip);
    }

    /// All calls once for each number of the turn, which is in the table behind the sizes.
    fn call_in_turn(&mut self, b: &mut FunctionBuilder<'_>, step: &Step, turn: Turn, calls: &[Call]) {
        let slot = step.args.len() + step.sizes.len();
        self.current[slot] = None;
        let (start, end, by) = turn.numbers;
        let (body, done) = (b.create_block(), b.create_block());
        let number = b.append_block_param(body, types::I64);
        let first = b.ins().iconst(types::I64, start);
        b.ins().jump(body, &[BlockArg::from(first)]);
        b.switch_to_block(body);
        b.ins().store(MemFlagsData::trusted(), number, self.table, slot as i32 * 8);
        calls.iter().for_each(|call| self.call_one(b, step, call));
        let next = b.ins().iadd_imm_s(number, by);
        let more = b.ins().icmp_imm_s(IntCC::SignedLessThan, next, end);
        b.ins().brif(more, body, &[BlockArg::from(next)], done, &[]);
        b.switch_to_block(done);
    }

    /// The number of iterations of a loop whose work depends on sizes, of the threads that they are worth, and of units; goes to `skip`
    /// where there are none.
    fn live_range(&self, b: &mut FunctionBuilder<'_>, step: &Step, spread: &Spread, most: i64, skip: Block) -> [ir::Value; 3] {
        let value = |b: &mut FunctionBuilder<'_>, a: &Affine| {
            a.terms.iter().fold(b.ins().iconst(types::I64, a.constant), |sum, &(var, c)| {
                let at = self.program.kernels[step.kernel].sizes.iter().position(|s| s.var == var);
                let term = b.ins().imul_imm_s(self.sizes[&step.sizes[at.expect("a verified size")]], c);
                b.ins().iadd(sum, term)
            })
        };
        let n = match &spread.live {
            None => b.ins().iconst(types::I64, spread.n),
            Some((live, step_by)) => {
                let (from, to) = (value(b, &live.from), value(b, &live.to));
                let length = b.ins().isub(to, from);
                let run = b.create_block();
                let any = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, length, 0);
                b.ins().brif(any, run, &[], skip, &[]);
                b.switch_to_block(run);
                if *step_by == 1 { length } else { b.ins().udiv_imm_u(length, *step_by) }
            }
        };
        // As many as what runs is worth.
        let work = b.ins().imul_imm_s(n, spread.of_each(spread.work.saturating_sub(spread.fixed)) as i64);
        let limit = b.ins().iconst(types::I64, MOST_WORK as i64);
        let work = spread.shares().fold(b.ins().umin(work, limit), |work, (part, most)| {
            let [least, most] = [1, *most].map(|x| b.ins().iconst(types::I64, x));
            let part = value(b, part);
            let part = b.ins().smax(part, least);
            let part = b.ins().smin(part, most);
            let product = b.ins().imul(work, part);
            b.ins().udiv(product, most)
        });
        let fixed = b.ins().imul_imm_s(n, spread.of_each(spread.fixed) as i64);
        let work = b.ins().iadd(work, fixed);
        let worth = b.ins().udiv_imm_u(work, self.program.thread_work.clamp(1, 1 << 31) as i64);
        let one = b.ins().iconst(types::I64, 1);
        let worth = b.ins().umax(worth, one);
        let most = b.ins().iconst(types::I64, most);
        let most = b.ins().umin(worth, most);
        let most = b.ins().umin(most, n);
        [n, most, fork::emit_n_units(b, [n, work, most])]
    }

    fn address(&mut self, b: &mut FunctionBuilder<'_>, place: Place) -> ir::Value {
        let argument = |b: &mut FunctionBuilder<'_>, n: usize| b.ins().load(types::I64, MemFlagsData::trusted(), self.args, n as i32 * 8);
        let (base, offset) = match place {
            Place::Arena(offset) => (self.workspace, offset),
            Place::Input(n, offset) => (argument(b, n), offset),
            Place::Output(n, offset) => (argument(b, self.program.inputs.len() + n), offset),
            Place::Constant(n, offset) => {
                let data = self.module.declare_data_in_func(self.constants[n], b.func);
                (b.ins().symbol_value(types::I64, data), offset)
            }
            Place::Pointer(n, offset) => (b.use_var(self.pointers[n]), offset),
        };
        if offset == 0 { base } else { b.ins().iadd_imm_s(base, offset as i64) }
    }

    /// What is in the table is not known where several ways meet.
    fn forget(&mut self) {
        self.current.fill(None);
    }

    /// Whether a byte is not 0; numbers of callers need not be aligned.
    fn flag(&mut self, b: &mut FunctionBuilder<'_>, place: Place) -> ir::Value {
        let address = self.address(b, place);
        let byte = b.ins().load(types::I8, MemFlagsData::new().with_notrap(), address, 0);
        b.ins().icmp_imm_s(IntCC::NotEqual, byte, 0)
    }

    fn branch(&mut self, b: &mut FunctionBuilder<'_>, branch: &If) {
        let [yes, no, end] = [(); 3].map(|()| b.create_block());
        let condition = self.flag(b, branch.condition);
        b.ins().brif(condition, yes, &[], no, &[]);
        let before = self.current.clone();
        for (block, body) in [yes, no].into_iter().zip(&branch.branches) {
            b.switch_to_block(block);
            self.current.clone_from(&before);
            self.emit(b, body);
            b.ins().jump(end, &[]);
        }
        b.switch_to_block(end);
        self.forget();
    }

    fn repeat(&mut self, b: &mut FunctionBuilder<'_>, l: &Loop) {
        let i = b.declare_var(types::I64);
        let zero = b.ins().iconst(types::I64, 0);
        b.def_var(i, zero);
        for state in &l.states {
            for (pointer, place) in [(state.current, state.initial), (state.next, state.places[0])] {
                let address = self.address(b, place);
                b.def_var(self.pointers[pointer], address);
            }
        }
        for slice in &l.slices {
            let address = self.address(b, slice.first);
            b.def_var(self.pointers[slice.pointer], address);
        }
        let trips = match &l.trips {
            Trips::Fixed(n) => Some(b.ins().iconst(types::I64, i64::try_from(*n).unwrap_or(i64::MAX))),
            Trips::Sized(size, _) => Some(self.sizes[size]),
            Trips::At(place) => {
                let address = self.address(b, *place);
                Some(b.ins().load(types::I64, MemFlagsData::new().with_notrap(), address, 0))
            }
            Trips::Unbounded => None,
        };
        let [head, body, end] = [(); 3].map(|()| b.create_block());
        b.ins().jump(head, &[]);
        b.switch_to_block(head);
        for again in [trips.map(Ok), l.condition.map(Err)].into_iter().flatten() {
            let holds = match again {
                Ok(trips) => {
                    let number = b.use_var(i);
                    b.ins().icmp(IntCC::SignedLessThan, number, trips)
                }
                Err(place) => self.flag(b, place),
            };
            let next = b.create_block();
            b.ins().brif(holds, next, &[], end, &[]);
            b.switch_to_block(next);
        }
        b.ins().jump(body, &[]);
        b.switch_to_block(body);
        self.forget();
        if let Some(place) = l.counter {
            let address = self.address(b, place);
            let number = b.use_var(i);
            b.ins().store(MemFlagsData::new().with_notrap(), number, address, 0);
        }
        self.emit(b, &l.body);
        let number = b.use_var(i);
        for state in &l.states {
            let (current, next) = (self.pointers[state.current], self.pointers[state.next]);
            let (read, written) = (b.use_var(current), b.use_var(next));
            let second = self.address(b, state.places[1]);
            let first = b.ins().icmp_imm_s(IntCC::Equal, number, 0);
            let other = b.ins().select(first, second, read);
            b.def_var(current, written);
            b.def_var(next, other);
        }
        for slice in &l.slices {
            let pointer = b.use_var(self.pointers[slice.pointer]);
            let pointer = b.ins().iadd_imm_s(pointer, slice.stride_bytes);
            b.def_var(self.pointers[slice.pointer], pointer);
        }
        let number = b.ins().iadd_imm_s(number, 1);
        b.def_var(i, number);
        b.ins().jump(head, &[]);
        b.switch_to_block(end);
        self.forget();
        self.emit(b, &l.exit);
    }
}

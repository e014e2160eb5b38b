//! Execution inside this process: what `run`, `bench`, `verify` and the tests use instead of a linker.
//!
//! The code and constants are those that a library would hold. Steps can be run one by one, with the workspace readable in
//! between. The only module of the compiler with `unsafe`.
#![expect(unsafe_code, reason = "calls compiled code")]

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use tinsmith_targets::abi::{Pool, StatusCode};

use super::CodegenError;
use super::calls::turns;
use super::clif::Listing;
use super::entry::{Call, EntryOptions, Symbols, define_program};
use super::flow::{Flow, Loop, Trips};
use super::fork::{most_workers, n_units, worth};
use super::program::{ALIGN_BYTES, Bytes, Place, Program, Step};
use super::target::{Machine, Usage};
use crate::nest::{Affine, SizeVar};
use crate::tensor::Parameter;

/// What a kernel or a program returned other than 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub i32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StatusCode::from_code(self.0) {
            Some(code) => f.write_str(code.text()),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl std::error::Error for Status {}

/// Bytes aligned to [`ALIGN_BYTES`].
#[derive(Clone)]
pub struct AlignedBytes {
    chunks: Vec<Chunk>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk([u8; ALIGN_BYTES]);

impl AlignedBytes {
    /// Zeros.
    pub fn zeroed(len: usize) -> Self {
        AlignedBytes { chunks: vec![Chunk([0; ALIGN_BYTES]); len.div_ceil(ALIGN_BYTES).max(1)], len }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the chunks are contiguous plain bytes, and `len` is at most their size.
        unsafe { std::slice::from_raw_parts(self.chunks.as_ptr().cast(), self.len) }
    }

    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.chunks.as_mut_ptr().cast(), self.len) }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({})", self.len)
    }
}

/// Every buffer that one execution of a program uses.
#[derive(Clone, Debug)]
pub struct Memory {
    /// By index in [`Program::inputs`]; a run replaces those that are states by their next values.
    pub inputs: Vec<AlignedBytes>,
    /// By index in [`Program::outputs`].
    pub outputs: Vec<AlignedBytes>,
    /// The parameters of the run, by index in [`Program::parameters`].
    pub sizes: Vec<i64>,
    /// The arena.
    pub workspace: AlignedBytes,
}

type Kernel = extern "C" fn(*const *mut u8, i64, i64, i64) -> i32;
type Fork = extern "C" fn(*const Pool, Kernel, i64, i64, i64, *const *mut u8) -> i32;
type Entry = extern "C" fn(*const *mut u8, *mut u8, *const Pool) -> i32;

/// A program as machine code in this process.
pub struct Executable {
    // `None` only while it is dropped. Cranelift's module may move between threads but not be shared.
    module: Mutex<Option<JITModule>>,
    symbols: Symbols,
    /// By index of the kernel: what is called, as in [`Symbols::calls`].
    kernels: Vec<Vec<Kernel>>,
    fork: Option<Fork>,
    entry: Entry,
    // Addresses of the constants.
    constants: Vec<usize>,
    steps: Vec<Step>,
    flow: Vec<Flow>,
    n_pointers: usize,
    // Inputs that begin with a value.
    initial: Vec<(usize, Bytes)>,
    input_bytes: Vec<usize>,
    output_bytes: Vec<usize>,
    workspace_bytes: usize,
    workers: usize,
    parameters: Vec<Parameter>,
    /// By index of the kernel: its sizes.
    size_vars: Vec<Vec<SizeVar>>,
    thread_work: u64,
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executable({} kernels, {} steps)", self.kernels.len(), self.steps.len())
    }
}

impl Executable {
    /// Compiles a program for this process.
    ///
    /// # Errors
    /// Also if this CPU lacks what `machine` allows the code to use.
    pub fn new(program: &Program, machine: &Machine) -> Result<Self, CodegenError> {
        Self::with_listings(program, machine, false)
    }

    /// Like [`Self::new`], keeping the text of every function if asked to.
    pub fn with_listings(program: &Program, machine: &Machine, listings: bool) -> Result<Self, CodegenError> {
        machine.check_host()?;
        let error = |message: String| CodegenError::Backend { name: "the program".to_owned(), message };
        let isa = machine.isa(Usage::InProcess)?;
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        // One reservation, so that code reaches constants with 32-bit displacements.
        let constants: usize = program.constants.iter().map(|c| c.bytes.as_slice().len() + 2 * ALIGN_BYTES).sum();
        let reserved = 2 * constants + program.kernels.len() * (256 << 10) + (program.steps.len() << 12) + (16 << 20);
        let memory = ArenaMemoryProvider::new_with_size(reserved).map_err(|e| error(e.to_string()))?;
        builder.memory_provider(Box::new(memory));
        let mut module = JITModule::new(builder);
        let options = EntryOptions { listings, ..EntryOptions::default() };
        let symbols = define_program(&mut module, machine, program, &options)?;
        debug_assert!(module.declarations().get_functions().all(|(_, f)| f.linkage == Linkage::Local));
        module.finalize_definitions().map_err(|e| error(e.to_string()))?;
        let kernels = symbols
            .calls
            .iter()
            .map(|calls| {
                calls
                    .iter()
                    // SAFETY: `define_program` gave the function this signature, and the module keeps it alive as long as `self`.
                    .map(|c| unsafe { std::mem::transmute::<*const u8, Kernel>(module.get_finalized_function(c.function)) })
                    .collect()
            })
            .collect();
        let fork = symbols
            .fork
            // SAFETY: as above, with the signature that `fork::define` gave it.
            .map(|id| unsafe { std::mem::transmute::<*const u8, Fork>(module.get_finalized_function(id)) });
        // SAFETY: as above, with the signature that `define_program` gave it.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(module.get_finalized_function(symbols.entry)) };
        let constants = symbols.constants.iter().map(|&id| module.get_finalized_data(id).0.addr()).collect();
        Ok(Executable {
            module: Mutex::new(Some(module)),
            symbols,
            kernels,
            fork,
            entry,
            constants,
            workers: program.workers,
            parameters: program.parameters.clone(),
            size_vars: program.kernels.iter().map(|k| k.sizes.clone()).collect(),
            thread_work: program.thread_work,
            steps: program.steps.clone(),
            flow: program.whole_flow(),
            n_pointers: program.n_pointers,
            initial: program.states.iter().filter_map(|s| Some((s.input, s.initial.clone()?))).collect(),
            input_bytes: program.inputs.iter().map(|b| b.bytes).collect(),
            output_bytes: program.outputs.iter().map(|b| b.bytes).collect(),
            workspace_bytes: program.workspace_bytes,
        })
    }

    /// Texts of all functions, if they were asked for.
    pub fn listings(&self) -> &[Listing] {
        &self.symbols.listings
    }

    /// Sizes and identities of what was compiled.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Buffers for an execution: zeros, but for the states that begin with other values; parameters at their greatest.
    pub fn memory(&self) -> Memory {
        let all = |sizes: &[usize]| sizes.iter().map(|&n| AlignedBytes::zeroed(n)).collect();
        let (mut inputs, outputs): (Vec<AlignedBytes>, _) = (all(&self.input_bytes), all(&self.output_bytes));
        for (i, value) in &self.initial {
            inputs[*i].as_mut_slice().copy_from_slice(value.as_slice());
        }
        let sizes = self.parameters.iter().map(|p| p.high).collect();
        Memory { inputs, outputs, sizes, workspace: AlignedBytes::zeroed(self.workspace_bytes) }
    }

    /// Runs the whole program on this thread.
    ///
    /// # Panics
    /// If `memory` does not have the sizes of [`Self::memory`].
    pub fn run(&self, memory: &mut Memory) -> Result<(), Status> {
        self.run_with(memory, None)
    }

    /// Runs the whole program on the threads of a pool.
    ///
    /// # Panics
    /// If `memory` does not have the sizes of [`Self::memory`].
    pub fn run_with(&self, memory: &mut Memory, pool: Option<&Pool>) -> Result<(), Status> {
        self.check_sizes(memory);
        let inputs = memory.inputs.iter_mut().map(|b| b.as_mut_slice().as_mut_ptr());
        let outputs = memory.outputs.iter_mut().map(|b| b.as_mut_slice().as_mut_ptr());
        let args: Vec<*mut u8> = inputs.chain(outputs).chain([memory.sizes.as_mut_ptr().cast()]).collect();
        let pool = pool.map_or(std::ptr::null(), std::ptr::from_ref);
        status((self.entry)(args.as_ptr(), memory.workspace.as_mut_slice().as_mut_ptr(), pool))
    }

    /// Runs one step, for finding the first that goes wrong; it must be no step of a loop.
    ///
    /// # Panics
    /// If there is no such step, or `memory` does not have the sizes of [`Self::memory`].
    pub fn run_step(&self, step: usize, memory: &mut Memory) -> Result<(), Status> {
        self.run_part(&Flow::Steps(step..step + 1), memory)
    }

    /// Runs a part of the program, one of [`Program::units`].
    ///
    /// # Panics
    /// If it is no part of this program, or `memory` does not have the sizes of [`Self::memory`].
    pub fn run_part(&self, part: &Flow, memory: &mut Memory) -> Result<(), Status> {
        self.check_sizes(memory);
        let mut walk = Walk::new(self, memory, None);
        walk.run(std::slice::from_ref(part), &mut |_, _| {})
    }

    /// Runs the whole program, and takes the time of each step: in all iterations of the loops around it together, none where its branch is
    /// not taken.
    ///
    /// # Panics
    /// If `memory` does not have the sizes of [`Self::memory`].
    pub fn step_times(&self, memory: &mut Memory, pool: Option<&Pool>) -> Result<Vec<Duration>, Status> {
        self.check_sizes(memory);
        let mut times = vec![Duration::ZERO; self.steps.len()];
        let mut walk = Walk::new(self, memory, pool);
        walk.run(&self.flow, &mut |step, time| times[step] += time)?;
        Ok(times)
    }

    /// Runs the pieces of a step's kernel.
    fn call(&self, step: &Step, table: &mut Vec<*mut u8>, pool: Option<&Pool>) -> Result<(), Status> {
        let slot = table.len();
        table.push(std::ptr::null_mut());
        let mut kernels = &self.kernels[step.kernel][..];
        for calls in turns(&self.symbols.calls[step.kernel]) {
            let (now, later) = kernels.split_at(calls.len());
            kernels = later;
            let (start, end, by) = calls[0].turn.map_or((0, 1, 1), |t| t.numbers);
            for number in (start..end).step_by(by.max(1) as usize) {
                table[slot] = std::ptr::without_provenance_mut(number as usize);
                for (call, &kernel) in calls.iter().zip(now) {
                    self.call_one(step, (call, kernel), table, pool)?;
                }
            }
        }
        Ok(())
    }

    fn call_one(&self, step: &Step, (call, kernel): (&Call, Kernel), table: &[*mut u8], pool: Option<&Pool>) -> Result<(), Status> {
        let pool = pool.map_or(std::ptr::null(), std::ptr::from_ref);
        let size_of =
            |var| self.size_vars[step.kernel].iter().position(|s| s.var == var).map_or(0, |i| table[step.args.len() + i].addr() as i64);
        status(match (self.fork, &call.spread) {
            (Some(fork), Some(spread)) => {
                let n = spread.live.as_ref().map_or(spread.n, |(live, step)| {
                    let value = |a: &Affine| a.value(size_of);
                    (value(&live.to) - value(&live.from)) / step
                });
                if n < 1 {
                    return Ok(());
                }
                let work = spread.work_of(n.unsigned_abs(), size_of);
                let most = most_workers(spread, self.workers, self.thread_work).min(worth(work, self.thread_work)) as i64;
                let most = most.min(n);
                fork(pool, kernel, n, most, n_units(work, n, most), table.as_ptr())
            }
            _ => kernel(table.as_ptr(), 0, 0, 0),
        })
    }

    fn check_sizes(&self, memory: &Memory) {
        let sizes = |buffers: &[AlignedBytes]| buffers.iter().map(|b| b.len).collect::<Vec<_>>();
        assert_eq!(sizes(&memory.inputs), self.input_bytes, "sizes of the inputs");
        assert_eq!(sizes(&memory.outputs), self.output_bytes, "sizes of the outputs");
        assert_eq!(memory.workspace.len, self.workspace_bytes, "size of the workspace");
        assert_eq!(memory.sizes.len(), self.parameters.len(), "number of parameters");
    }
}

/// The steps of a program, called one by one from here: what the entry does in machine code.
struct Walk<'a> {
    exe: &'a Executable,
    inputs: Vec<*mut u8>,
    outputs: Vec<*mut u8>,
    workspace: *mut u8,
    sizes: &'a [i64],
    pool: Option<&'a Pool>,
    pointers: Vec<*mut u8>,
    table: Vec<*mut u8>,
}

impl<'a> Walk<'a> {
    fn new(exe: &'a Executable, memory: &'a mut Memory, pool: Option<&'a Pool>) -> Self {
        Walk {
            exe,
            inputs: memory.inputs.iter_mut().map(|b| b.as_mut_slice().as_mut_ptr()).collect(),
            outputs: memory.outputs.iter_mut().map(|b| b.as_mut_slice().as_mut_ptr()).collect(),
            workspace: memory.workspace.as_mut_slice().as_mut_ptr(),
            sizes: &memory.sizes,
            pool,
            pointers: vec![std::ptr::null_mut(); exe.n_pointers],
            table: vec![],
        }
    }

    fn address(&self, place: Place) -> *mut u8 {
        match place {
            Place::Arena(offset) => self.workspace.wrapping_add(offset),
            Place::Input(i, offset) => self.inputs[i].wrapping_add(offset),
            Place::Output(i, offset) => self.outputs[i].wrapping_add(offset),
            Place::Constant(i, offset) => std::ptr::with_exposed_provenance_mut(self.exe.constants[i] + offset),
            Place::Pointer(i, offset) => self.pointers[i].wrapping_add(offset),
        }
    }

    fn read<const N: usize>(&self, place: Place) -> [u8; N] {
        // SAFETY: `Program::verify` has checked that so many bytes are at the place, and nothing writes to them now.
        unsafe { self.address(place).cast::<[u8; N]>().read_unaligned() }
    }

    fn flag(&self, place: Place) -> bool {
        self.read::<1>(place) != [0]
    }

    /// Runs parts of the flow; `see` gets the time that each call of a step took.
    fn run(&mut self, flow: &[Flow], see: &mut dyn FnMut(usize, Duration)) -> Result<(), Status> {
        for part in flow {
            match part {
                Flow::Steps(range) => {
                    for step in range.clone() {
                        self.table.clear();
                        for &place in &self.exe.steps[step].args {
                            let address = self.address(place);
                            self.table.push(address);
                        }
                        let sizes = self.exe.steps[step].sizes.iter().map(|s| s.value(self.sizes));
                        self.table.extend(sizes.map(|n| std::ptr::without_provenance_mut(n as usize)));
                        let start = Instant::now();
                        self.exe.call(&self.exe.steps[step], &mut self.table, self.pool)?;
                        see(step, start.elapsed());
                    }
                }
                Flow::If(branch) => {
                    let taken = usize::from(!self.flag(branch.condition));
                    self.run(&branch.branches[taken], see)?;
                }
                Flow::Loop(l) => self.repeat(l, see)?,
            }
        }
        Ok(())
    }

    fn repeat(&mut self, l: &Loop, see: &mut dyn FnMut(usize, Duration)) -> Result<(), Status> {
        for state in &l.states {
            (self.pointers[state.current], self.pointers[state.next]) = (self.address(state.initial), self.address(state.places[0]));
        }
        for slice in &l.slices {
            self.pointers[slice.pointer] = self.address(slice.first);
        }
        let trips = match &l.trips {
            Trips::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Trips::Sized(size, _) => size.value(self.sizes),
            Trips::At(place) => i64::from_le_bytes(self.read(*place)),
            Trips::Unbounded => i64::MAX,
        };
        let mut i = 0;
        while i < trips && l.condition.is_none_or(|place| self.flag(place)) {
            if let Some(place) = l.counter {
                // SAFETY: as in `read`; nothing else reads or writes these bytes now.
                unsafe { self.address(place).cast::<[u8; 8]>().write_unaligned(i.to_le_bytes()) };
            }
            self.run(&l.body, see)?;
            for state in &l.states {
                let other = if i == 0 { self.address(state.places[1]) } else { self.pointers[state.current] };
                self.pointers[state.current] = std::mem::replace(&mut self.pointers[state.next], other);
            }
            for slice in &l.slices {
                self.pointers[slice.pointer] = self.pointers[slice.pointer].wrapping_offset(slice.stride_bytes as isize);
            }
            i += 1;
        }
        self.run(&l.exit, see)
    }
}

fn status(code: i32) -> Result<(), Status> {
    if code == 0 { Ok(()) } else { Err(Status(code)) }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(module) = module {
            // SAFETY: the function pointers into this memory are private to `self`, which is gone, and nothing is running,
            // since running borrows `self`.
            unsafe { module.free_memory() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::entry::{BAD_ARGUMENT, CPU_LACKS_FEATURE};
    use crate::codegen::program::IoBuffer;
    use crate::nest::{Access, Affine, BinaryOp, Builder, Index, Op, VecType};
    use crate::tensor::{DType, Tensor};

    /// `y[i] = table[x[i]] * 2` in two steps: a checked gather into the arena, then a doubling.
    fn program() -> Program {
        let ty = VecType { dtype: DType::F32, lanes: 4 };
        let mut p = Program { workspace_bytes: 128, ..Program::default() };
        let table = p.constant("table", Tensor::from_slice(&[4], &[0.5f32, 1.5, 2.5, 3.5]));
        assert_eq!(p.constant("again", Tensor::from_slice(&[4], &[0.5f32, 1.5, 2.5, 3.5])), table);
        p.inputs.push(IoBuffer { name: "x".into(), bytes: 32, dims: vec![] });
        p.outputs.push(IoBuffer { name: "y".into(), bytes: 16, dims: vec![] });

        let mut b = Builder::new("gather", "");
        let (x, t) = (b.buffer("x", DType::I64, 4, Access::Read), b.buffer("table", DType::F32, 4, Access::Read));
        let y = b.buffer("y", DType::F32, 4, Access::Write);
        b.for_loop("i", 0..4, 1, |b, i| {
            let at = b.load(x, Affine::var(i), 1);
            let at = b.op(VecType::scalar(DType::I64), Op::Check(at, 4));
            let found = b.load(t, Index { affine: Affine::default(), dynamic: vec![(at, 1)] }, 1);
            b.store(y, Affine::var(i), found);
        });
        let gather = p.kernel(b.finish());
        p.steps.push(Step {
            label: "gather".into(),
            kernel: gather,
            args: vec![Place::Input(0, 0), Place::Constant(table, 0), Place::Arena(64)],
            sizes: vec![],
        });

        let double = |name: &str| {
            let mut b = Builder::new(name, "");
            let (x, y) = (b.buffer("x", DType::F32, 4, Access::Read), b.buffer("y", DType::F32, 4, Access::Write));
            let v = b.load(x, Affine::default(), ty.lanes);
            let v = b.binary(BinaryOp::Add, v, v);
            b.store(y, Affine::default(), v);
            b.finish()
        };
        let kernel = p.kernel(double("double"));
        assert_eq!(p.kernel(double("double_too")), kernel);
        p.steps.push(Step { label: "double".into(), kernel, args: vec![Place::Arena(64), Place::Output(0, 0)], sizes: vec![] });
        p
    }

    fn indices(memory: &mut Memory, x: [i64; 4]) {
        memory.inputs[0].as_mut_slice().copy_from_slice(Tensor::from_slice(&[4], &x).bytes());
    }

    fn results(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }

    #[test]
    fn a_program_runs_whole_and_in_steps() {
        let exe = Executable::new(&program(), &Machine::native()).unwrap();
        let mut memory = exe.memory();
        indices(&mut memory, [3, 0, 1, 2]);
        exe.run(&mut memory).unwrap();
        assert_eq!(results(memory.outputs[0].as_slice()), [7.0, 1.0, 3.0, 5.0]);
        indices(&mut memory, [1, 1, 1, 1]);
        exe.run_step(0, &mut memory).unwrap();
        assert_eq!(results(&memory.workspace.as_slice()[64..80]), [1.5; 4]);
        assert_eq!(results(memory.outputs[0].as_slice()), [7.0, 1.0, 3.0, 5.0]);
        exe.run_step(1, &mut memory).unwrap();
        assert_eq!(results(memory.outputs[0].as_slice()), [3.0; 4]);
        indices(&mut memory, [0, 0, 0, 0]);
        assert_eq!(exe.step_times(&mut memory, None).unwrap().len(), 2);
        assert_eq!(results(memory.outputs[0].as_slice()), [1.0; 4]);
    }

    #[test]
    fn a_failed_check_stops_the_program() {
        let exe = Executable::new(&program(), &Machine::native()).unwrap();
        for bad in [4, -1, i64::MIN, i64::MAX] {
            let mut memory = exe.memory();
            indices(&mut memory, [0, 1, bad, 2]);
            assert_eq!(exe.run(&mut memory), Err(Status(3)));
            assert_eq!(results(memory.outputs[0].as_slice()), [0.0; 4]);
        }
    }

    #[test]
    fn places_outside_their_memory_are_refused() {
        for place in [Place::Arena(116), Place::Arena(usize::MAX), Place::Input(1, 0), Place::Output(0, 1), Place::Constant(0, 4)] {
            let mut p = program();
            p.steps[1].args[0] = place;
            assert!(matches!(Executable::new(&p, &Machine::native()), Err(CodegenError::Program { .. })), "{place:?}");
        }
    }

    type Run = extern "C" fn(*const u8, *mut u8, *mut u8, *mut u8) -> i32;

    #[test]
    fn the_exported_function_checks_its_arguments_and_the_cpu() {
        let machine = Machine::native();
        for (cpu_status, expected) in [(0, 0), (1, CPU_LACKS_FEATURE as i32)] {
            let mut module = JITModule::new(JITBuilder::with_isa(machine.isa(Usage::InProcess).unwrap(), default_libcall_names()));
            let check = crate::codegen::entry::tests::define_constant_function(&mut module, "check", cpu_status);
            let options = EntryOptions { run: Some("model_run".into()), cpu_check: Some(check), listings: true, ..EntryOptions::default() };
            let symbols = define_program(&mut module, &machine, &program(), &options).unwrap();
            module.finalize_definitions().unwrap();
            assert!(symbols.listings.iter().any(|l| l.name == "model_run" && l.clif.contains("function") && !l.asm.is_empty()));
            // SAFETY: the program has one input and one output, after which come the workspace and the pool.
            let run = unsafe { std::mem::transmute::<*const u8, Run>(module.get_finalized_function(symbols.run.unwrap())) };
            let (x, mut y, mut workspace) = ([1i64; 4], [0f32; 4], AlignedBytes::zeroed(128));
            let (x, y, w) = (x.as_ptr().cast(), y.as_mut_ptr(), workspace.as_mut_slice().as_mut_ptr());
            let null = std::ptr::null_mut();
            assert_eq!(run(x, y.cast(), w, null), expected);
            assert_eq!(run(null, y.cast(), w, null), BAD_ARGUMENT as i32);
            assert_eq!(run(x, null, w, null), BAD_ARGUMENT as i32);
            assert_eq!(run(x, y.cast(), null, null), BAD_ARGUMENT as i32);
            assert_eq!(run(x, y.cast(), w.wrapping_add(32), null), BAD_ARGUMENT as i32);
            // SAFETY: nothing of the module runs any more.
            unsafe { module.free_memory() };
        }
    }
}

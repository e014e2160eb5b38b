//! Execution inside this process: what `run`, `bench`, `verify` and the tests use instead of a linker.
//!
//! The code and constants are those that a library would hold. Steps can be run one by one, with the workspace readable in
//! between. The only module of the compiler with `unsafe`.
#![expect(unsafe_code, reason = "calls compiled code")]

use std::fmt;
use std::sync::Mutex;

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};

use super::CodegenError;
use super::clif::Listing;
use super::entry::{EntryOptions, Symbols, define_program};
use super::program::{ALIGN_BYTES, Place, Program, Step};
use super::target::{Machine, Usage};

/// What a kernel or a program returned other than 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub i32);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("bad argument"),
            2 => f.write_str("the CPU lacks a feature"),
            3 => f.write_str("index out of range"),
            other => write!(f, "status {other}"),
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
    /// By index in [`Program::inputs`].
    pub inputs: Vec<AlignedBytes>,
    /// By index in [`Program::outputs`].
    pub outputs: Vec<AlignedBytes>,
    /// The arena.
    pub workspace: AlignedBytes,
}

type Kernel = extern "C" fn(*const *mut u8) -> i32;
type Entry = extern "C" fn(*const *mut u8, *mut u8) -> i32;

/// A program as machine code in this process.
pub struct Executable {
    // `None` only while it is dropped. Cranelift's module may move between threads but not be shared.
    module: Mutex<Option<JITModule>>,
    symbols: Symbols,
    kernels: Vec<Kernel>,
    entry: Entry,
    // Addresses of the constants.
    constants: Vec<usize>,
    steps: Vec<Step>,
    input_bytes: Vec<usize>,
    output_bytes: Vec<usize>,
    workspace_bytes: usize,
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
            .kernels
            .iter()
            // SAFETY: `define_kernel` gave the function this signature, and the module keeps it alive as long as `self`.
            .map(|k| unsafe { std::mem::transmute::<*const u8, Kernel>(module.get_finalized_function(k.id)) })
            .collect();
        // SAFETY: as above, with the signature that `define_program` gave it.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(module.get_finalized_function(symbols.entry)) };
        let constants = symbols.constants.iter().map(|&id| module.get_finalized_data(id).0.addr()).collect();
        Ok(Executable {
            module: Mutex::new(Some(module)),
            symbols,
            kernels,
            entry,
            constants,
            steps: program.steps.clone(),
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

    /// Zeroed buffers for an execution.
    pub fn memory(&self) -> Memory {
        let all = |sizes: &[usize]| sizes.iter().map(|&n| AlignedBytes::zeroed(n)).collect();
        Memory { inputs: all(&self.input_bytes), outputs: all(&self.output_bytes), workspace: AlignedBytes::zeroed(self.workspace_bytes) }
    }

    /// Runs the whole program.
    ///
    /// # Panics
    /// If `memory` does not have the sizes of [`Self::memory`].
    pub fn run(&self, memory: &mut Memory) -> Result<(), Status> {
        self.check_sizes(memory);
        let inputs = memory.inputs.iter_mut().map(|b| b.as_mut_slice().as_mut_ptr());
        let outputs = memory.outputs.iter_mut().map(|b| b.as_mut_slice().as_mut_ptr());
        let args: Vec<*mut u8> = inputs.chain(outputs).collect();
        status((self.entry)(args.as_ptr(), memory.workspace.as_mut_slice().as_mut_ptr()))
    }

    /// Runs one step, for profiles and for finding the first that goes wrong.
    ///
    /// # Panics
    /// If there is no such step, or `memory` does not have the sizes of [`Self::memory`].
    pub fn run_step(&self, step: usize, memory: &mut Memory) -> Result<(), Status> {
        self.check_sizes(memory);
        let step = &self.steps[step];
        let table: Vec<*mut u8> = step
            .args
            .iter()
            .map(|&place| match place {
                Place::Arena(offset) => memory.workspace.as_mut_slice().as_mut_ptr().wrapping_add(offset),
                Place::Input(i, offset) => memory.inputs[i].as_mut_slice().as_mut_ptr().wrapping_add(offset),
                Place::Output(i, offset) => memory.outputs[i].as_mut_slice().as_mut_ptr().wrapping_add(offset),
                Place::Constant(i, offset) => std::ptr::with_exposed_provenance_mut(self.constants[i] + offset),
            })
            .collect();
        status((self.kernels[step.kernel])(table.as_ptr()))
    }

    fn check_sizes(&self, memory: &Memory) {
        let sizes = |buffers: &[AlignedBytes]| buffers.iter().map(|b| b.len).collect::<Vec<_>>();
        assert_eq!(sizes(&memory.inputs), self.input_bytes, "sizes of the inputs");
        assert_eq!(sizes(&memory.outputs), self.output_bytes, "sizes of the outputs");
        assert_eq!(memory.workspace.len, self.workspace_bytes, "size of the workspace");
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

//! What codegen compiles: kernels, the order in which they run, and where their buffers are.

use std::borrow::Cow;
use std::sync::Arc;

use super::flow::Flow;
use super::fork::WORK_OF_A_THREAD;
use crate::nest::Kernel;
use crate::tensor::{Parameter, Size, Tensor};

/// A whole model after scheduling and memory planning.
#[derive(Clone, Debug)]
pub struct Program {
    /// Distinct kernels; names are unique.
    pub kernels: Vec<Kernel>,
    /// The calls, in order; those of bodies where their branch or loop stands.
    pub steps: Vec<Step>,
    /// Which steps run when; empty where they run once each, one after the other.
    pub flow: Vec<Flow>,
    /// Number of pointers that loops move.
    pub n_pointers: usize,
    /// Read-only data.
    pub constants: Vec<Constant>,
    /// The caller's read-only buffers, in the order of the C function's parameters.
    pub inputs: Vec<IoBuffer>,
    /// The caller's result buffers, in the order of the C function's parameters.
    pub outputs: Vec<IoBuffer>,
    /// The numbers that a caller chooses for every run; sizes are functions of these.
    pub parameters: Vec<Parameter>,
    /// Size of the arena.
    pub workspace_bytes: usize,
    /// What turns kernels into machine code.
    pub emitter: Emitter,
    /// The inputs that the caller's state block holds, in the order of their offsets.
    pub states: Vec<StateBuffer>,
    /// The most threads that run a kernel at once, as many as private buffers have copies: at least one.
    pub workers: usize,
    /// The work, as nests count it, that is worth a thread.
    pub thread_work: u64,
}

impl Default for Program {
    fn default() -> Self {
        Program {
            kernels: vec![],
            steps: vec![],
            flow: vec![],
            n_pointers: 0,
            constants: vec![],
            inputs: vec![],
            outputs: vec![],
            parameters: vec![],
            workspace_bytes: 0,
            emitter: Emitter::default(),
            states: vec![],
            workers: 1,
            thread_work: WORK_OF_A_THREAD,
        }
    }
}

/// What turns kernels into machine code.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Emitter {
    /// [`super::clif`] only.
    #[default]
    Clif,
    /// [`super::linear`] where it takes a kernel, else [`super::clif`].
    Auto,
    /// [`super::linear`] only; what it refuses is an error.
    Wide,
}

/// One call of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The nodes it computes, for profiles and diagnostics.
    pub label: String,
    /// Index into [`Program::kernels`].
    pub kernel: usize,
    /// Where each of the kernel's buffers is.
    pub args: Vec<Place>,
    /// What each of the kernel's sizes is.
    pub sizes: Vec<Size>,
}

/// Where a buffer begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Place {
    /// Byte offset in the workspace.
    Arena(usize),
    /// A caller's input, from a byte offset.
    Input(usize, usize),
    /// A caller's output, from a byte offset.
    Output(usize, usize),
    /// A constant, from a byte offset.
    Constant(usize, usize),
    /// Where a pointer of a loop points, from a byte offset.
    Pointer(usize, usize),
}

impl Place {
    /// So many bytes further on.
    pub fn plus(self, bytes: usize) -> Place {
        match self {
            Place::Arena(at) => Place::Arena(at + bytes),
            Place::Input(i, at) => Place::Input(i, at + bytes),
            Place::Output(i, at) => Place::Output(i, at + bytes),
            Place::Constant(i, at) => Place::Constant(i, at + bytes),
            Place::Pointer(i, at) => Place::Pointer(i, at + bytes),
        }
    }

    /// So many bytes before, where the buffer has begun there.
    pub(super) fn minus(self, bytes: usize) -> Option<Place> {
        Some(match self {
            Place::Arena(at) => Place::Arena(at.checked_sub(bytes)?),
            Place::Input(i, at) => Place::Input(i, at.checked_sub(bytes)?),
            Place::Output(i, at) => Place::Output(i, at.checked_sub(bytes)?),
            Place::Constant(i, at) => Place::Constant(i, at.checked_sub(bytes)?),
            Place::Pointer(i, at) => Place::Pointer(i, at.checked_sub(bytes)?),
        })
    }
}

/// Read-only bytes that many owners may share.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// The bytes of a tensor.
    Tensor(Tensor),
    /// Bytes of their own.
    Owned(Arc<[u8]>),
}

impl Bytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Tensor(t) => t.bytes(),
            Bytes::Owned(b) => b,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::Owned(bytes.into())
    }
}

impl From<Tensor> for Bytes {
    fn from(tensor: Tensor) -> Self {
        Bytes::Tensor(tensor)
    }
}

/// A constant of the library: local, read-only, aligned to [`ALIGN_BYTES`].
#[derive(Clone, Debug)]
pub struct Constant {
    /// A symbol-safe name, unique in the program.
    pub name: String,
    /// The contents.
    pub bytes: Bytes,
}

/// A buffer that the caller passes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IoBuffer {
    /// The model's name for it.
    pub name: String,
    /// Its size; the greatest, where the extents vary.
    pub bytes: usize,
    /// Its extents, where some vary; else nothing.
    pub dims: Vec<Size>,
}

/// A part of the caller's state block: an input that a run replaces by its next value.
#[derive(Clone, Debug)]
pub struct StateBuffer {
    /// Index into [`Program::inputs`]; steps read the old value and write the new one there.
    pub input: usize,
    /// Index into [`Program::outputs`] of the new value, which is a buffer of no bytes.
    pub output: usize,
    /// Its place in the block, a multiple of [`ALIGN_BYTES`].
    pub offset: usize,
    /// What it holds at first; zeros where there is nothing.
    pub initial: Option<Bytes>,
}

/// Alignment of the workspace, of a state block and its parts, and of every constant.
pub const ALIGN_BYTES: usize = 64;

impl Program {
    /// The index of a constant with these contents, added under `name` if there is none.
    pub fn constant(&mut self, name: &str, bytes: impl Into<Bytes>) -> usize {
        let bytes = bytes.into();
        if let Some(i) = self.constants.iter().position(|c| c.bytes.as_slice() == bytes.as_slice()) {
            return i;
        }
        let name = self.free_name(name, |p, n| p.constants.iter().any(|c| c.name == n));
        self.constants.push(Constant { name, bytes });
        self.constants.len() - 1
    }

    /// Makes an input a part of the state block, behind those that are there.
    pub fn add_state(&mut self, input: usize, output: usize, initial: Option<Bytes>) {
        let offset = self.state_bytes();
        self.states.push(StateBuffer { input, output, offset, initial });
    }

    /// Size of the state block, a multiple of [`ALIGN_BYTES`].
    pub fn state_bytes(&self) -> usize {
        self.states.last().map_or(0, |s| s.offset + self.inputs[s.input].bytes.next_multiple_of(ALIGN_BYTES))
    }

    /// The state that an input is.
    pub fn state_of_input(&self, input: usize) -> Option<&StateBuffer> {
        self.states.iter().find(|s| s.input == input)
    }

    /// The state whose next value an output is.
    pub fn state_of_output(&self, output: usize) -> Option<&StateBuffer> {
        self.states.iter().find(|s| s.output == output)
    }

    /// The index of a kernel that differs from `kernel` at most in its name, added if there is none.
    pub fn kernel(&mut self, mut kernel: Kernel) -> usize {
        let same = |k: &Kernel| {
            k.body == kernel.body
                && k.sizes == kernel.sizes
                && k.regs == kernel.regs
                && k.buffers.len() == kernel.buffers.len()
                && k.buffers
                    .iter()
                    .zip(&kernel.buffers)
                    .all(|(a, b)| (a.dtype, a.len, a.access, a.private) == (b.dtype, b.len, b.access, b.private))
        };
        if let Some(i) = self.kernels.iter().position(same) {
            return i;
        }
        kernel.name = self.free_name(&kernel.name, |p, n| p.kernels.iter().any(|k| k.name == n));
        self.kernels.push(kernel);
        self.kernels.len() - 1
    }

    fn free_name(&self, name: &str, taken: impl Fn(&Self, &str) -> bool) -> String {
        let mut free = Cow::Borrowed(name);
        let mut n = 1;
        while taken(self, &free) {
            free = format!("{name}.{n}").into();
            n += 1;
        }
        free.into_owned()
    }
}

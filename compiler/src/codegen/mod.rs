//! Nests to machine code: [`clif`] compiles any nest on any target, [`wide`] and [`neon`] most on theirs, faster; [`entry`] strings the kernels of a program together,
//! [`jit`] runs the result inside this process.
//!
//! In: [`Program`] (kernels, the steps that call them, constants, the arena's size). Out: definitions in any
//! [`cranelift_module::Module`], so that object files and in-process execution share every line.

mod address;
pub mod caches;
mod calls;
pub mod clif;
pub mod entry;
pub mod flow;
pub mod fork;
pub mod jit;
pub mod linear;
mod need;
mod neon;
pub mod program;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
mod verify;
mod verify_sizes;
pub mod wide;

use std::fmt;

use thiserror::Error;

use crate::nest::Kernel;
use crate::tensor::DType;

pub use entry::{EntryOptions, Symbols, define_program};
pub use jit::{AlignedBytes, Executable, Memory, Status};
pub use program::{Constant, Emitter, IoBuffer, Place, Program, Step};
pub use target::{Level, Machine};

/// Why a program could not be compiled or executed.
#[derive(Debug, Error)]
pub enum CodegenError {
    /// The emitter lacks an operation for a type; the schedule must not produce it.
    #[error("kernel `{kernel}`: {what} has no machine code on {target}")]
    Unsupported {
        /// The kernel's name.
        kernel: String,
        /// Operation and type.
        what: String,
        /// Architecture and level.
        target: String,
    },
    /// The nest breaks one of its own rules, which `nest::verify` would have reported.
    #[error("kernel `{kernel}` is malformed: {what}")]
    Malformed {
        /// The kernel's name.
        kernel: String,
        /// The broken rule.
        what: String,
    },
    /// The code would call a function outside the library.
    #[error("kernel `{kernel}`: the code generator wanted to call `{callee}`")]
    LibraryCall {
        /// The kernel's name.
        kernel: String,
        /// What it wanted.
        callee: String,
    },
    /// Cranelift rejected a function.
    #[error("function `{name}`: {message}")]
    Backend {
        /// The function.
        name: String,
        /// Cranelift's own words.
        message: String,
    },
    /// The target is unknown or its settings do not fit it.
    #[error("target `{target}`: {message}")]
    Target {
        /// The triple and level.
        target: String,
        /// What is wrong.
        message: String,
    },
    /// Code for this target cannot run on this machine.
    #[error("this machine cannot execute code for {target}: it lacks {missing}")]
    Host {
        /// The triple and level.
        target: String,
        /// The first missing feature.
        missing: String,
    },
    /// A step or a place names something that the program does not have, or is out of its bounds.
    #[error("program: {what}")]
    Program {
        /// What is wrong.
        what: String,
    },
}

/// What makes the code of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EmittedBy {
    /// Whether it is the emitter of instructions, [`wide`] or [`neon`]; else it is [`clif`].
    pub wide: bool,
    /// Bits of the widest vector that the kernel uses; 0 where it uses none.
    pub vector_bits: u32,
    /// Why it is not, where that was tried.
    pub refused: Option<String>,
}

impl EmittedBy {
    /// The emitter's name.
    pub fn name(&self) -> &'static str {
        if self.wide { "wide" } else { "clif" }
    }
}

impl fmt::Display for EmittedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vector_bits {
            0 => write!(f, "{} scalar", self.name()),
            bits => write!(f, "{} {bits}", self.name()),
        }
    }
}

/// What makes the code of each kernel of a program.
pub fn emitted_by(program: &Program, machine: &Machine) -> Vec<EmittedBy> {
    let one = |kernel: &Kernel| {
        let refused = match program.emitter {
            Emitter::Clif => None,
            Emitter::Auto | Emitter::Wide => linear::check(machine, kernel).err().map(|r| r.0),
        };
        let wide = program.emitter != Emitter::Clif && refused.is_none();
        let vectors = kernel.regs.iter().filter(|ty| ty.lanes > 1 && ty.dtype != DType::Bool);
        let bits = vectors.map(|ty| 8 * ty.lanes * ty.dtype.size_bytes() as u32).max().unwrap_or(0);
        EmittedBy { wide, vector_bits: if wide { bits } else { bits.min(128) }, refused }
    };
    program.kernels.iter().map(one).collect()
}

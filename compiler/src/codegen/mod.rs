//! Nests to machine code: [`clif`] compiles any nest on any target, [`entry`] strings the kernels of a program together,
//! [`jit`] runs the result inside this process.
//!
//! In: [`Program`] (kernels, the steps that call them, constants, the arena's size). Out: definitions in any
//! [`cranelift_module::Module`], so that object files and in-process execution share every line.

mod address;
pub mod clif;
pub mod entry;
pub mod jit;
pub mod program;
pub mod target;
pub mod wide;

use thiserror::Error;

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

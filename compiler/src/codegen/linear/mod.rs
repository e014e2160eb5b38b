//! What the emitters that make instructions themselves share: [`super::wide`] and [`super::neon`].
//!
//! A kernel becomes one linear list of instructions over virtual registers ([`list`]), whose registers are found by a linear scan
//! ([`registers`]). Loops, branches and addresses are the same on every machine ([`flow`]), as are vectors that are split
//! ([`legalize`]), shuffles and gathers that it has no instruction of ([`shuffles`], [`gathers`]), and what is known of a nest's registers ([`survey`]). The instructions are each
//! emitter's own.

pub(in crate::codegen) mod flow;
pub(in crate::codegen) mod gathers;
pub(in crate::codegen) mod legalize;
pub(in crate::codegen) mod list;
pub(in crate::codegen) mod registers;
pub(in crate::codegen) mod shuffles;
mod spelled;
pub(in crate::codegen) mod survey;

use cranelift_codegen::ir::{AbiParam, types};
use cranelift_module::{Linkage, Module};
use tinsmith_targets::Arch;

use super::clif::{Compiled, Listing, N_PARAMS};
use super::target::Machine;
use super::{CodegenError, neon, wide};
use crate::nest::{self, Kernel};

/// Alignment of functions, and so the most that a constant behind them may ask for.
const ALIGN_BYTES: usize = 64;

/// A function's machine code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::codegen) struct Encoded {
    /// Instructions, then constants.
    pub(in crate::codegen) bytes: Vec<u8>,
    /// Bytes of the stack.
    pub(in crate::codegen) stack_bytes: usize,
    /// The instructions as text, with their addresses, where that is asked for.
    pub(in crate::codegen) text: Option<String>,
}

/// Why a kernel is left to another emitter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Whether innermost loops may move registers in and out of the stack all the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spilling {
    /// They may.
    Allowed,
    /// A kernel that would is refused, since another schedule serves it better.
    Refused,
}

/// A refusal.
pub(in crate::codegen) fn refuse<T>(what: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(what.into()))
}

/// Lanes of 32 bits in the widest vector that a machine's emitter of instructions uses, where there is one for it.
pub fn lanes(machine: &Machine) -> Option<u32> {
    match machine.target.arch {
        Arch::X86_64 => wide::Isa::of(machine).map(wide::Isa::lanes),
        Arch::Aarch64 => Some(neon::LANES),
    }
}

/// Whether the machine's emitter compiles a kernel well.
///
/// # Errors
/// Why it does not.
pub fn check(machine: &Machine, kernel: &Kernel) -> Result<(), Refused> {
    compile(machine, kernel, Spilling::Refused, false).map(|_| ())
}

fn compile(machine: &Machine, kernel: &Kernel, spilling: Spilling, text: bool) -> Result<Encoded, Refused> {
    match machine.target.arch {
        Arch::X86_64 => wide::compile(machine, kernel, spilling, text),
        Arch::Aarch64 => neon::compile(kernel, spilling, text),
    }
}

/// Compiles a kernel and defines it in the module as a local function named `kernel.` and its name.
///
/// # Errors
/// `Ok(Err(_))` where the kernel is refused; an error where it does not verify or the module does not take it.
pub fn define_kernel(
    module: &mut dyn Module,
    machine: &Machine,
    kernel: &Kernel,
    spilling: Spilling,
    listing: bool,
) -> Result<Result<Compiled, Refused>, CodegenError> {
    if let Some(error) = nest::verify(kernel).into_iter().next() {
        return Err(CodegenError::Malformed { kernel: kernel.name.clone(), what: error.to_string() });
    }
    let code = match compile(machine, kernel, spilling, listing) {
        Ok(code) => code,
        Err(refused) => return Ok(Err(refused)),
    };
    let backend = |e: cranelift_module::ModuleError| CodegenError::Backend { name: kernel.name.clone(), message: e.to_string() };
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); N_PARAMS];
    signature.returns.push(AbiParam::new(types::I32));
    let id = module.declare_function(&format!("kernel.{}", kernel.name), Linkage::Local, &signature).map_err(backend)?;
    module.define_function_bytes(id, ALIGN_BYTES as u64, &code.bytes, &[]).map_err(backend)?;
    let listing = code.text.map(|asm| Listing {
        name: kernel.name.clone(),
        clif: format!("; kernel {} {}: straight to instructions\n", kernel.name, kernel.schedule),
        asm,
    });
    Ok(Ok(Compiled { id, code_bytes: code.bytes.len(), stack_bytes: code.stack_bytes, listing }))
}

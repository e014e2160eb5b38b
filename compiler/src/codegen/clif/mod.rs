//! Nests through Cranelift: any kernel, any target, with 128-bit vectors.
//!
//! Every piece of a kernel becomes `extern "C" fn(buffers: *const *mut u8, begin: i64, end: i64, worker: i64) -> i32`: one
//! pointer for each of its buffers; where it is one parallel loop, the iterations to run (at least one; else ignored), and
//! which copy of private buffers to use. It returns 0, or 3 when a checked index is out of range. Kernels arrive scheduled, so the instruction order is theirs: the
//! optimizer is off, and address arithmetic is moved out of the loops ([`super::address`]).

mod arithmetic;
mod convert;
mod function;
mod liveness;
mod op;
mod spills;
#[cfg(test)]
mod tests;
mod value;

use cranelift_codegen::Context;
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::{AbiParam, ExternalName, types};
use cranelift_codegen::{FinalizedRelocTarget, ir};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};
use tinsmith_targets::{Arch, Feature};

use super::CodegenError;
use super::target::Machine;
use crate::nest::{self, Kernel};
use function::Lower;
use value::Caps;

pub use function::{INDEX_OUT_OF_RANGE, OK};
pub use spills::Probe;

/// Parameters of a kernel's function.
pub const N_PARAMS: usize = 4;

/// The text of a compiled function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    /// The function's name.
    pub name: String,
    /// Cranelift's intermediate form, before register allocation.
    pub clif: String,
    /// Instructions with their registers.
    pub asm: String,
}

/// A kernel in a module.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The function.
    pub id: FuncId,
    /// Bytes of code and of the constants behind it.
    pub code_bytes: usize,
    /// Bytes of stack.
    pub stack_bytes: usize,
    /// Its text, if asked for.
    pub listing: Option<Listing>,
}

/// Compiles a kernel and defines it in the module as a local function named `kernel.` and its name.
///
/// # Errors
/// Also if the kernel does not verify: whatever is compiled stays inside its buffers.
pub fn define_kernel(module: &mut dyn Module, machine: &Machine, kernel: &Kernel, listing: bool) -> Result<Compiled, CodegenError> {
    if let Some(error) = nest::verify(kernel).into_iter().next() {
        return Err(CodegenError::Malformed { kernel: kernel.name.clone(), what: error.to_string() });
    }
    let backend = |message: String| CodegenError::Backend { name: kernel.name.clone(), message };
    let mut ctx = module.make_context();
    ctx.set_disasm(listing);
    ctx.func.signature.params = vec![AbiParam::new(types::I64); N_PARAMS];
    ctx.func.signature.returns.push(AbiParam::new(types::I32));
    let id = module
        .declare_function(&format!("kernel.{}", kernel.name), Linkage::Local, &ctx.func.signature)
        .map_err(|e| backend(e.to_string()))?;
    ctx.func.name = ir::UserFuncName::user(0, id.as_u32());

    let target = machine.to_string();
    let mut builders = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut ctx.func, &mut builders);
    let builder = Lower::run(kernel, builder, caps(machine), &target)?;
    builder.finalize(module.target_config());

    let clif = if listing { clif_text(kernel, &ctx) } else { String::new() };
    module.define_function(id, &mut ctx).map_err(|e| backend(format!("{e:?}")))?;
    let code = ctx.compiled_code().ok_or_else(|| backend("was not compiled".to_owned()))?;
    for reloc in code.buffer.relocs() {
        if let FinalizedRelocTarget::ExternalName(ExternalName::LibCall(callee)) = &reloc.target {
            return Err(CodegenError::LibraryCall { kernel: kernel.name.clone(), callee: callee.to_string() });
        }
        debug_assert_ne!(reloc.kind, Reloc::ElfX86_64TlsGd, "kernels have no state");
    }
    let listing = listing.then(|| Listing { name: kernel.name.clone(), clif, asm: code.vcode.clone().unwrap_or_default() });
    Ok(Compiled {
        id,
        code_bytes: code.code_buffer().len(),
        stack_bytes: code.buffer.frame_layout().map_or(0, |f| f.frame_to_fp_offset as usize),
        listing,
    })
}

fn caps(machine: &Machine) -> Caps {
    let x86 = machine.target.arch == Arch::X86_64;
    Caps {
        x86,
        fma: machine.target.has_fma(),
        sse42: !x86 || machine.target.has(Feature::Sse42),
        avx: !x86 || machine.target.has(Feature::Avx),
    }
}

fn clif_text(kernel: &Kernel, ctx: &Context) -> String {
    let mut text = format!("; kernel {} {}\n", kernel.name, kernel.schedule);
    for (i, b) in kernel.buffers.iter().enumerate() {
        text += &format!(";   buffer {i}: {} {}[{}] {:?}\n", b.name, b.dtype, b.len, b.access);
    }
    text + &ctx.func.display().to_string()
}

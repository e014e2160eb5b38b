//! The object file: a program's functions and constants, the CPU check, and the model's description.
//!
//! Two symbols are global, `NAME_run` and `NAME_model`, and `NAME_state_init` where there is state. Every function and constant has a section of its own, so that a linker
//! can drop what nobody uses. The contents of constants are not copied before the file is put together.

use cranelift_codegen::ir::{AbiParam, Type, UserFuncName};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module, ModuleError, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::{EmitError, Interface, cpu_check, model};
use crate::codegen::clif::Listing;
use crate::codegen::program::ALIGN_BYTES;
use crate::codegen::target::Usage;
use crate::codegen::{EntryOptions, Machine, Program, define_program};

/// An object file and what is in it.
#[derive(Clone, Debug)]
pub struct ObjectFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Bytes of code of each kernel, by index in [`Program::kernels`].
    pub kernel_bytes: Vec<usize>,
    /// The largest stack frame of a kernel.
    pub kernel_stack_bytes: usize,
    /// Texts of all functions, if they were asked for.
    pub listings: Vec<Listing>,
}

/// Compiles a program to an object file for the interface's machine.
pub fn object_file(program: &Program, interface: &Interface, listings: bool) -> Result<ObjectFile, EmitError> {
    let machine: &Machine = &interface.machine;
    let isa = machine.isa(Usage::Object)?;
    let mut builder = ObjectBuilder::new(isa, interface.name.as_str(), default_libcall_names()).map_err(module_error)?;
    builder.per_function_section(true).per_data_object_section(true);
    let mut module = ObjectModule::new(builder);

    let cpu_check = cpu_check::define_cpu_check(&mut module, machine)?;
    model::define_model(&mut module, interface)?;
    let options = EntryOptions {
        run: Some(format!("{}_run", interface.name)),
        state_init: Some(format!("{}_state_init", interface.name)),
        cpu_check,
        listings,
        reserve_constants: true,
    };
    let symbols = define_program(&mut module, machine, program, &options)?;

    let product = module.finish();
    let ids: Vec<_> = symbols.constants.iter().map(|&id| product.data_symbol(id)).collect();
    let mut file: ::object::write::Object<'_> = product.object;
    for (id, constant) in ids.into_iter().zip(&program.constants) {
        let bytes = constant.bytes.as_slice();
        let symbol = file.symbol_mut(id);
        symbol.size = bytes.len() as u64;
        let section = symbol.section.id().ok_or_else(|| EmitError::Object(format!("constant `{}` has no section", constant.name)))?;
        file.set_section_data(section, bytes, ALIGN_BYTES as u64);
    }
    let bytes = file.write().map_err(|e| EmitError::Object(e.to_string()))?;
    Ok(ObjectFile {
        bytes,
        kernel_bytes: symbols.kernels.iter().map(|k| k.iter().map(|p| p.code_bytes).sum()).collect(),
        kernel_stack_bytes: symbols.kernels.iter().flatten().map(|p| p.stack_bytes).max().unwrap_or(0),
        listings: symbols.listings,
    })
}

/// Defines a function without parameters.
pub(super) fn define<M: Module>(
    module: &mut M,
    name: &str,
    linkage: Linkage,
    returns: &[Type],
    fill: impl FnOnce(&mut M, &mut FunctionBuilder<'_>),
) -> Result<FuncId, EmitError> {
    let mut ctx = module.make_context();
    ctx.func.signature.returns = returns.iter().map(|&ty| AbiParam::new(ty)).collect();
    let id = module.declare_function(name, linkage, &ctx.func.signature).map_err(module_error)?;
    ctx.func.name = UserFuncName::user(0, id.as_u32());
    let mut builders = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut ctx.func, &mut builders);
    let block = b.create_block();
    b.switch_to_block(block);
    fill(module, &mut b);
    b.seal_all_blocks();
    b.finalize(module.target_config());
    module.define_function(id, &mut ctx).map_err(module_error)?;
    Ok(id)
}

pub(super) fn module_error(error: ModuleError) -> EmitError {
    EmitError::Object(error.to_string())
}

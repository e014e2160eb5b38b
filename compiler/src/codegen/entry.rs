//! A program's entry, which calls the kernels ([`super::calls`]), and the function that is exported.
//!
//! `entry(args: *const *mut u8, workspace: *mut u8, pool) -> i32` is local; `args` holds the inputs, then the outputs, then the
//! parameters, if there are any. What may run on several threads goes through [`super::fork`]. The exported C function
//! `NAME_run([sizes], inputs.., outputs.., workspace, pool) -> i32` checks what it is given and calls it. With state it is
//! `NAME_run(inputs.., outputs.., state, workspace, pool)`, and the inputs and outputs that are parts of the state block are no parameters.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, BlockArg, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use tinsmith_targets::abi::StatusCode;

use super::CodegenError;
use super::calls::Calls;
use super::clif::{self, Compiled, Listing, N_PARAMS, OK};
use super::fork::{self, Fork};
use super::linear::{self, Spilling};
use super::program::{ALIGN_BYTES, Bytes, Emitter, Program, StateBuffer};
use super::target::Machine;
use crate::nest::Kernel;
use crate::nest::pieces::{Piece as Part, Spread, Turn, pieces};
use crate::tensor::Size;

/// What the exported function returns when a pointer is null or misaligned.
pub const BAD_ARGUMENT: i64 = StatusCode::BadArgument as i64;
/// What a run returns when a parameter is outside its range.
pub const SIZE_OUT_OF_RANGE: i64 = StatusCode::SizeOutOfRange as i64;
/// What the exported function returns when the CPU check fails.
pub const CPU_LACKS_FEATURE: i64 = StatusCode::CpuLacksFeature as i64;

/// How a program is defined.
#[derive(Clone, Debug, Default)]
pub struct EntryOptions {
    /// Name of the exported C function; without one only the local entry exists.
    pub run: Option<String>,
    /// Name of the exported C function that initializes a state block.
    pub state_init: Option<String>,
    /// A function `extern "C" fn() -> i32` of the same module that returns 0 on a CPU that can execute the code.
    pub cpu_check: Option<FuncId>,
    /// Whether to keep the text of every function.
    pub listings: bool,
    /// Define the constants without contents, which [`Symbols::constants`] are given later.
    pub reserve_constants: bool,
}

/// A call of a piece of a kernel, or of several that are joined.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function.
    pub function: FuncId,
    /// Its iterations, if they may run on several threads.
    pub spread: Option<Spread>,
    /// The loop that calls it in turn with its neighbours.
    pub turn: Option<Turn>,
}

/// What a program became in a module.
#[derive(Clone, Debug)]
pub struct Symbols {
    /// By index in [`Program::kernels`]: the pieces, in order.
    pub kernels: Vec<Vec<Compiled>>,
    /// By index in [`Program::kernels`]: the calls, in order.
    pub calls: Vec<Vec<Call>>,
    /// By index in [`Program::constants`].
    pub constants: Vec<DataId>,
    /// What runs pieces on several threads, if there are any to run so.
    pub fork: Option<FuncId>,
    /// The local entry.
    pub entry: FuncId,
    /// The exported function.
    pub run: Option<FuncId>,
    /// Texts of the kernels, the entry and the exported function.
    pub listings: Vec<Listing>,
}

/// Defines a program's constants, kernels and entry in a module.
pub fn define_program<M: Module>(
    module: &mut M,
    machine: &Machine,
    program: &Program,
    options: &EntryOptions,
) -> Result<Symbols, CodegenError> {
    program.verify()?;
    let mut constants = vec![];
    for constant in &program.constants {
        let error = |e: cranelift_module::ModuleError| CodegenError::Backend { name: constant.name.clone(), message: e.to_string() };
        let id = module.declare_data(&format!("constant.{}", constant.name), Linkage::Local, false, false).map_err(error)?;
        let mut data = DataDescription::new();
        data.define(if options.reserve_constants { Box::default() } else { constant.bytes.as_slice().into() });
        data.set_align(ALIGN_BYTES as u64);
        module.define_data(id, &data).map_err(error)?;
        constants.push(id);
    }
    let (mut kernels, mut calls) = (vec![], vec![]);
    for kernel in &program.kernels {
        let (mut made, mut called) = (vec![], vec![]);
        for joined in pieces(kernel).chunk_by(|_, next| next.joined) {
            let first = made.len();
            for piece in joined {
                made.push(define_kernel(module, machine, &piece.kernel, program.emitter, options.listings)?);
            }
            called.push(define_call(module, joined, &made[first..])?);
        }
        kernels.push(made);
        calls.push(called);
    }
    let mut listings: Vec<Listing> = kernels.iter().flatten().filter_map(|k| k.listing.clone()).collect();
    let forks = calls.iter().flatten().any(|c| c.spread.is_some());
    let fork = if forks { Some(fork::define(module, options, program.workers)?) } else { None };
    let entry_name = match &options.run {
        Some(name) => format!("{name}.steps"),
        None => "steps".to_owned(),
    };
    let (entry, text) = define_entry(module, program, &calls, &constants, fork, &entry_name, options.listings)?;
    listings.extend(text);
    let mut run = None;
    if let Some(name) = &options.run {
        let (id, text) = define_run(module, program, entry, options.cpu_check, name, options.listings)?;
        run = Some(id);
        listings.extend(text);
    }
    if let Some(name) = options.state_init.as_ref().filter(|_| !program.states.is_empty()) {
        listings.extend(define_state_init(module, program, name, options.listings)?.1);
    }
    Ok(Symbols { kernels, calls, constants, fork, entry, run, listings })
}

/// What is called for pieces that are joined: a function of all their iterations, one piece's after the other's, where they are several.
/// Each is in the numbers as often as it weighs.
fn define_call<M: Module>(module: &mut M, joined: &[Part], code: &[Compiled]) -> Result<Call, CodegenError> {
    let turn = joined[0].turn;
    let spreads: Vec<&Spread> = joined.iter().filter_map(|p| p.spread.as_ref()).collect();
    if joined.len() < 2 || spreads.len() < joined.len() {
        return Ok(Call { function: code[0].id, spread: joined[0].spread.clone(), turn });
    }
    let (spread, weights) = Spread::joined(&spreads);
    let name = format!("{}.joined", joined[0].kernel.name);
    let (function, _) = define_function(module, &name, Linkage::Local, N_PARAMS, false, |module, b, params| {
        let &[table, begin, end, worker] = params else { unreachable!("a kernel's parameters") };
        let mut first = 0;
        for ((code, spread), weight) in code.iter().zip(&spreads).zip(&weights) {
            // Those that begin in this part of the whole.
            let [from, to] = [begin, end].map(|at| {
                let [zero, n] = [0, spread.n].map(|x| b.ins().iconst(types::I64, x));
                let at = b.ins().iadd_imm_s(at, weight - 1 - first);
                let at = b.ins().smax(at, zero);
                let at = if *weight == 1 { at } else { b.ins().udiv_imm_u(at, *weight) };
                b.ins().umin(at, n)
            });
            let [run, failed, next] = [(); 3].map(|()| b.create_block());
            let any = b.ins().icmp(IntCC::SignedLessThan, from, to);
            b.ins().brif(any, run, &[], next, &[]);
            b.switch_to_block(run);
            let kernel = module.declare_func_in_func(code.id, b.func);
            let call = b.ins().call(kernel, &[table, from, to, worker]);
            let status = b.inst_results(call)[0];
            b.ins().brif(status, failed, &[], next, &[]);
            b.switch_to_block(failed);
            b.set_cold_block(failed);
            b.ins().return_(&[status]);
            b.switch_to_block(next);
            first += spread.n * weight;
        }
        let ok = b.ins().iconst(types::I32, OK);
        b.ins().return_(&[ok]);
    })?;
    Ok(Call { function, spread: Some(spread), turn })
}

/// Compiles a kernel by the emitter that is asked for.
fn define_kernel(
    module: &mut dyn Module,
    machine: &Machine,
    kernel: &Kernel,
    emitter: Emitter,
    listing: bool,
) -> Result<Compiled, CodegenError> {
    if emitter != Emitter::Clif {
        let spilling = if emitter == Emitter::Wide { Spilling::Allowed } else { Spilling::Refused };
        match linear::define_kernel(module, machine, kernel, spilling, listing)? {
            Ok(compiled) => return Ok(compiled),
            Err(refused) if emitter == Emitter::Wide => {
                return Err(CodegenError::Unsupported { kernel: kernel.name.clone(), what: refused.0, target: machine.to_string() });
            }
            Err(_) => {}
        }
    }
    clif::define_kernel(module, machine, kernel, listing)
}

type Defined = (FuncId, Option<Listing>);

/// A function of so many pointers or numbers that returns a status.
fn define_function<M: Module>(
    module: &mut M,
    name: &str,
    linkage: Linkage,
    n_params: usize,
    listing: bool,
    fill: impl FnOnce(&mut M, &mut FunctionBuilder<'_>, &[ir::Value]),
) -> Result<Defined, CodegenError> {
    let mut signature: Signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); n_params];
    signature.returns = vec![AbiParam::new(types::I32)];
    define_with(module, name, linkage, signature, listing, fill)
}

/// A function of a signature.
pub(super) fn define_with<M: Module>(
    module: &mut M,
    name: &str,
    linkage: Linkage,
    signature: Signature,
    listing: bool,
    fill: impl FnOnce(&mut M, &mut FunctionBuilder<'_>, &[ir::Value]),
) -> Result<Defined, CodegenError> {
    let error = |message: String| CodegenError::Backend { name: name.to_owned(), message };
    let mut ctx = module.make_context();
    ctx.set_disasm(listing);
    let id = module.declare_function(name, linkage, &signature).map_err(|e| error(e.to_string()))?;
    ctx.func.signature = signature;
    ctx.func.name = ir::UserFuncName::user(0, id.as_u32());
    let mut builders = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut ctx.func, &mut builders);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let params = b.block_params(block).to_vec();
    fill(module, &mut b, &params);
    b.seal_all_blocks();
    b.finalize(module.target_config());
    let clif = if listing { format!("; {name}\n{}", ctx.func.display()) } else { String::new() };
    module.define_function(id, &mut ctx).map_err(|e| error(format!("{e:?}")))?;
    let asm = ctx.compiled_code().and_then(|c| c.vcode.clone()).unwrap_or_default();
    Ok((id, listing.then(|| Listing { name: name.to_owned(), clif, asm })))
}

fn define_entry<M: Module>(
    module: &mut M,
    program: &Program,
    kernels: &[Vec<Call>],
    constants: &[DataId],
    fork: Option<FuncId>,
    name: &str,
    listing: bool,
) -> Result<Defined, CodegenError> {
    define_function(module, name, Linkage::Local, 3, listing, |module, b, params| {
        let (args, workspace, pool) = (params[0], params[1], params[2]);
        let fork = fork.map(|id| Fork::new(module, b, id, pool));
        let sizes = define_sizes(b, program, args);
        let mut calls = Calls::new(module, b, program, (kernels, constants), fork, (args, workspace), sizes);
        let exit = calls.exit();
        calls.emit(b, &program.whole_flow());
        let ok = b.ins().iconst(types::I32, OK);
        b.ins().jump(exit, &[BlockArg::from(ok)]);
        b.switch_to_block(exit);
        let status = b.block_params(exit)[0];
        b.ins().return_(&[status]);
    })
}

/// The value of every size, after the parameters were found in range.
fn define_sizes<'p>(b: &mut FunctionBuilder<'_>, program: &'p Program, args: ir::Value) -> HashMap<&'p Size, ir::Value> {
    let mut known = HashMap::new();
    if program.parameters.is_empty() {
        return known;
    }
    let list = load_argument(b, args, program.inputs.len() + program.outputs.len());
    let mut parameters = vec![];
    let mut bad = b.ins().iconst(types::I8, 0);
    for (i, p) in program.parameters.iter().enumerate() {
        let value = b.ins().load(types::I64, MemFlagsData::trusted(), list, i as i32 * 8);
        let above = b.ins().iadd_imm_s(value, -p.low);
        let outside = b.ins().icmp_imm_s(IntCC::UnsignedGreaterThan, above, p.high - p.low);
        bad = b.ins().bor(bad, outside);
        if p.step > 1 {
            let past = b.ins().urem_imm_u(above, p.step);
            let between = b.ins().icmp_imm_s(IntCC::NotEqual, past, 0);
            bad = b.ins().bor(bad, between);
        }
        parameters.push(value);
    }
    let ok = return_if(b, bad, SIZE_OUT_OF_RANGE);
    b.switch_to_block(ok);
    let mut trips = vec![];
    program.flow.iter().for_each(|f| f.trips(&mut trips));
    for size in program.steps.iter().flat_map(|s| &s.sizes).chain(trips) {
        define_size(b, size, &parameters, &mut known);
    }
    known
}

fn define_size<'p>(
    b: &mut FunctionBuilder<'_>,
    size: &'p Size,
    parameters: &[ir::Value],
    known: &mut HashMap<&'p Size, ir::Value>,
) -> ir::Value {
    if let Some(&value) = known.get(size) {
        return value;
    }
    let mut of = |b: &mut FunctionBuilder<'_>, s: &'p Size| define_size(b, s, parameters, known);
    let value = match size {
        Size::Constant(c) => b.ins().iconst(types::I64, *c),
        Size::Parameter(p) => parameters[*p as usize],
        Size::Sum(x, y) => {
            let (x, y) = (of(b, x), of(b, y));
            b.ins().iadd(x, y)
        }
        Size::Product(x, y) => {
            let (x, y) = (of(b, x), of(b, y));
            b.ins().imul(x, y)
        }
        Size::Times(x, c) => {
            let x = of(b, x);
            b.ins().imul_imm_s(x, *c)
        }
        Size::Floor(x, d) => {
            // Rounded toward zero, and one less where that is above the quotient.
            let x = of(b, x);
            let quotient = b.ins().sdiv_imm_s(x, *d);
            let back = b.ins().imul_imm_s(quotient, *d);
            let above = b.ins().icmp(IntCC::SignedGreaterThan, back, x);
            let above = b.ins().uextend(types::I64, above);
            b.ins().isub(quotient, above)
        }
        Size::AtLeast(x, c) => {
            let (x, c) = (of(b, x), b.ins().iconst(types::I64, *c));
            b.ins().smax(x, c)
        }
        Size::AtMost(x, c) => {
            let (x, c) = (of(b, x), b.ins().iconst(types::I64, *c));
            b.ins().smin(x, c)
        }
    };
    known.insert(size, value);
    value
}

fn load_argument(b: &mut FunctionBuilder<'_>, args: ir::Value, n: usize) -> ir::Value {
    b.ins().load(types::I64, MemFlagsData::trusted(), args, n as i32 * 8)
}

fn define_run<M: Module>(
    module: &mut M,
    program: &Program,
    entry: FuncId,
    cpu_check: Option<FuncId>,
    name: &str,
    listing: bool,
) -> Result<Defined, CodegenError> {
    let arguments = arguments(program);
    let sizes: Vec<usize> = arguments.iter().filter_map(|a| if let Argument::Parameter(bytes) = a { Some(*bytes) } else { None }).collect();
    let has_state = !program.states.is_empty();
    let is_sized = !program.parameters.is_empty();
    let n_params = sizes.len() + usize::from(has_state) + 2;
    define_function(module, name, Linkage::Export, n_params + usize::from(is_sized), listing, |module, b, params| {
        let (list, params) = if is_sized { (Some(params[0]), &params[1..]) } else { (None, params) };
        let (workspace, pool) = (params[n_params - 2], params[n_params - 1]);
        let mut bad = b.ins().iconst(types::I8, 0);
        if let Some(list) = list {
            bad = b.ins().icmp_imm_s(IntCC::Equal, list, 0);
        }
        let state_bytes = if has_state { program.state_bytes() } else { 0 };
        let needed = sizes.iter().copied().chain(has_state.then_some(state_bytes)).chain([program.workspace_bytes]);
        for (&pointer, _) in params.iter().zip(needed).filter(|&(_, bytes)| bytes > 0) {
            let null = b.ins().icmp_imm_s(IntCC::Equal, pointer, 0);
            bad = b.ins().bor(bad, null);
        }
        let state = params[sizes.len()];
        if has_state {
            let misaligned = misaligned(b, state);
            bad = b.ins().bor(bad, misaligned);
        }
        let misaligned = misaligned(b, workspace);
        bad = b.ins().bor(bad, misaligned);
        let ok = return_if(b, bad, BAD_ARGUMENT);
        b.switch_to_block(ok);
        if let Some(check) = cpu_check {
            let check = module.declare_func_in_func(check, b.func);
            let call = b.ins().call(check, &[]);
            let lacks = b.inst_results(call)[0];
            let ok = return_if(b, lacks, CPU_LACKS_FEATURE);
            b.switch_to_block(ok);
        }
        let n_slots = arguments.len() as u32 + 1;
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, n_slots * 8, 3));
        let args = b.ins().stack_addr(types::I64, slot, 0);
        if let Some(list) = list {
            b.ins().store(MemFlagsData::trusted(), list, args, arguments.len() as i32 * 8);
        }
        let mut parameters = params.iter();
        for (i, argument) in arguments.iter().enumerate() {
            let pointer = match *argument {
                Argument::Parameter(_) => *parameters.next().expect("a parameter for every such argument"),
                Argument::State(offset) => b.ins().iadd_imm_s(state, offset as i64),
            };
            b.ins().store(MemFlagsData::trusted(), pointer, args, i as i32 * 8);
        }
        let entry = module.declare_func_in_func(entry, b.func);
        let call = b.ins().call(entry, &[args, workspace, pool]);
        let status = b.inst_results(call)[0];
        b.ins().return_(&[status]);
    })
}

/// Where an input or output of the entry comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Argument {
    /// The next parameter, of so many bytes.
    Parameter(usize),
    /// This place of the state block.
    State(usize),
}

/// Of the inputs, then of the outputs.
fn arguments(program: &Program) -> Vec<Argument> {
    let state = |s: &StateBuffer| Argument::State(s.offset);
    let inputs = program.inputs.iter().enumerate().map(|(i, b)| program.state_of_input(i).map_or(Argument::Parameter(b.bytes), state));
    let outputs = program.outputs.iter().enumerate().map(|(j, b)| program.state_of_output(j).map_or(Argument::Parameter(b.bytes), state));
    inputs.chain(outputs).collect()
}

/// Whether a pointer is not a multiple of [`ALIGN_BYTES`].
fn misaligned(b: &mut FunctionBuilder<'_>, pointer: ir::Value) -> ir::Value {
    let low_bits = b.ins().band_imm_s(pointer, ALIGN_BYTES as i64 - 1);
    b.ins().icmp_imm_s(IntCC::NotEqual, low_bits, 0)
}

/// `NAME_state_init(state) -> i32`: writes the initial values into a state block.
fn define_state_init<M: Module>(module: &mut M, program: &Program, name: &str, listing: bool) -> Result<Defined, CodegenError> {
    let error = |e: cranelift_module::ModuleError| CodegenError::Backend { name: name.to_owned(), message: e.to_string() };
    let bytes = program.state_bytes();
    let mut initial = None;
    if program.states.iter().any(|s| s.initial.is_some()) {
        let mut contents = vec![0; bytes];
        for s in &program.states {
            let value = s.initial.as_ref().map_or(&[][..], Bytes::as_slice);
            contents[s.offset..][..value.len()].copy_from_slice(value);
        }
        let id = module.declare_data("state.initial", Linkage::Local, false, false).map_err(error)?;
        let mut data = DataDescription::new();
        data.define(contents.into());
        data.set_align(ALIGN_BYTES as u64);
        module.define_data(id, &data).map_err(error)?;
        initial = Some(id);
    }
    define_function(module, name, Linkage::Export, 1, listing, |module, b, params| {
        let state = params[0];
        let null = if bytes > 0 { b.ins().icmp_imm_s(IntCC::Equal, state, 0) } else { b.ins().iconst(types::I8, 0) };
        let misaligned = misaligned(b, state);
        let bad = b.ins().bor(null, misaligned);
        let ok = return_if(b, bad, BAD_ARGUMENT);
        b.switch_to_block(ok);
        let from = initial.map(|id| {
            let data = module.declare_data_in_func(id, b.func);
            b.ins().symbol_value(types::I64, data)
        });
        let (head, body, done) = (b.create_block(), b.create_block(), b.create_block());
        let at = b.append_block_param(head, types::I64);
        let zero = b.ins().iconst(types::I64, 0);
        b.ins().jump(head, &[BlockArg::from(zero)]);
        b.switch_to_block(head);
        let more = b.ins().icmp_imm_s(IntCC::UnsignedLessThan, at, bytes as i64);
        b.ins().brif(more, body, &[], done, &[]);
        b.switch_to_block(body);
        let word = match from {
            Some(from) => {
                let address = b.ins().iadd(from, at);
                b.ins().load(types::I64, MemFlagsData::trusted(), address, 0)
            }
            None => b.ins().iconst(types::I64, 0),
        };
        let address = b.ins().iadd(state, at);
        b.ins().store(MemFlagsData::trusted(), word, address, 0);
        let next = b.ins().iadd_imm_s(at, 8);
        b.ins().jump(head, &[BlockArg::from(next)]);
        b.switch_to_block(done);
        let status = b.ins().iconst(types::I32, OK);
        b.ins().return_(&[status]);
    })
}

/// Returns `status` where `cond` is not 0; the block returned is where it is.
fn return_if(b: &mut FunctionBuilder<'_>, cond: ir::Value, status: i64) -> ir::Block {
    let (fail, next) = (b.create_block(), b.create_block());
    b.ins().brif(cond, fail, &[], next, &[]);
    b.switch_to_block(fail);
    b.set_cold_block(fail);
    let status = b.ins().iconst(types::I32, status);
    b.ins().return_(&[status]);
    next
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `extern "C" fn() -> i32` that returns a constant.
    pub(in crate::codegen) fn define_constant_function<M: Module>(module: &mut M, name: &str, value: i64) -> FuncId {
        let define = |_: &mut M, b: &mut FunctionBuilder<'_>, _: &[ir::Value]| {
            let value = b.ins().iconst(types::I32, value);
            b.ins().return_(&[value]);
        };
        define_function(module, name, Linkage::Local, 0, false, define).unwrap().0
    }
}

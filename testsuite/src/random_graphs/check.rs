//! A graph compiled in every way that this machine can execute, compared with the interpreter of graphs; kernels compared with
//! the interpreter of nests.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tinsmith::codegen::program::{Place, Program};
use tinsmith::codegen::{Emitter, Executable, Machine, Memory, wide};
use tinsmith::config::{Config, WeightFormat};
use tinsmith::graph::{self, Graph};
use tinsmith::nest::{self, Access, Kernel};
use tinsmith::pipeline::{Compiled, Options, lower_and_schedule, run_passes};
use tinsmith::tensor::{DType, Tensor};

use super::Random;
use crate::pools;

/// How a graph that compiles as it should came out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Found {
    /// Right.
    Same {
        /// Workspace.
        workspace_bytes: usize,
        /// Its lower bound.
        lower_bound_bytes: usize,
        /// Loops that run on several threads.
        n_loops: usize,
    },
    /// The compiler said that it cannot compile it.
    Refused,
}

/// The interpreter's outputs for a graph's text.
pub fn values_of(text: &str, seed: u64) -> Result<Vec<Tensor>, String> {
    let graph = read(text)?;
    graph::eval(&graph, &inputs_of(&graph, seed)).map_err(|e| e.to_string())
}

pub(super) fn read(text: &str) -> Result<Graph, String> {
    let graph = graph::parse(text).map_err(|e| e.to_string())?;
    graph::verify(&graph).map_err(|problems| problems[0].to_string())?;
    Ok(graph)
}

/// Inputs: floats around 0, other numbers from -4 to 3, so that they can be indices of four.
pub(super) fn inputs_of(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let input = |(i, &v): (usize, &graph::Value)| {
        let ty = graph.ty(v);
        let dims = ty.dims().expect("extents are fixed");
        let seed = seed.wrapping_add(77 * i as u64 + 1);
        if ty.dtype.is_float() { graph::rand(ty.dtype, &dims, seed) } else { small_ints(ty.dtype, &dims, seed) }
    };
    graph.inputs().iter().enumerate().map(input).collect()
}

fn small_ints(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let (low, high) = if dtype == DType::Bool { (0, 1) } else { (-4, 3) };
    let values: Vec<i128> = (0..dims.iter().product()).map(|_| random.within(low, high).into()).collect();
    Tensor::from_ints(dtype, dims, &values)
}

/// `t` with floats moved by about a millionth.
pub(super) fn moved(t: &Tensor) -> Tensor {
    if !t.dtype().is_float() {
        return t.clone();
    }
    let values: Vec<f64> = t.to_f64s().iter().enumerate().map(|(i, v)| v * (1.0 + 1e-6 * ((i * 7 % 5) as f64 - 2.0))).collect();
    Tensor::from_f64s(t.dtype(), t.dims(), &values)
}

/// Compares the graph compiled with the interpreter.
///
/// # Errors
/// What differs, also a panic.
pub fn check(text: &str, seed: u64) -> Result<Found, String> {
    caught(|| check_or_panic(text, seed))
}

/// A panic as an error.
pub(super) fn caught(check: impl FnOnce() -> Result<Found, String>) -> Result<Found, String> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|cause| {
        let message = cause.downcast_ref::<String>().cloned().or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("panic: {}", message.unwrap_or_default()))
    })
}

/// What happens to a graph before it is compiled.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    AsWritten,
    Rewritten,
    Quantized,
}

fn check_or_panic(text: &str, seed: u64) -> Result<Found, String> {
    let graph = read(text)?;
    let inputs = inputs_of(&graph, seed);
    let moved_inputs: Vec<Tensor> = inputs.iter().map(moved).collect();
    let mut want = graph::eval(&graph, &inputs).map_err(|e| e.to_string())?;
    let mut near = graph::eval(&graph, &moved_inputs).map_err(|e| e.to_string())?;
    let mut found = Found::Refused;
    // Half of all graphs run on several threads wherever they can.
    let everywhere = Options { threads: 7, thread_work: 0, ..Options::default() };
    let threads = if Random::new(!seed).one_in(2) { everywhere } else { Options::default() };
    for mode in [Mode::AsWritten, Mode::Rewritten, Mode::Quantized] {
        let config = Config { quantize_weights: (mode == Mode::Quantized).then_some(WeightFormat::Int8), ..Config::default() };
        let mut rewritten = graph.clone();
        if mode != Mode::AsWritten {
            (rewritten, _) = run_passes(rewritten, &config, &mut |_, _| {});
            graph::verify(&rewritten).map_err(|p| format!("after passes: {}", p[0]))?;
        }
        if mode == Mode::Quantized {
            // Other weights, so other values: those of the rewritten graph are right.
            want = graph::eval(&rewritten, &inputs).map_err(|e| e.to_string())?;
            near = graph::eval(&rewritten, &moved_inputs).map_err(|e| e.to_string())?;
        }
        for (i, (machine, emitter)) in ways().into_iter().enumerate() {
            let label = format!("{machine} by {emitter:?}, {mode:?}");
            let options = Options { emitter, ..threads };
            let compiled = match lower_and_schedule(rewritten.clone(), &machine, options) {
                Ok(c) => c,
                Err(refused) => {
                    if std::env::var_os("TINSMITH_FUZZ_REFUSED").is_some() {
                        eprintln!("refused: {}", refused[0]);
                    }
                    return Ok(Found::Refused);
                }
            };
            for kernel in &compiled.program.kernels {
                if let Some(e) = nest::verify(kernel).first() {
                    return Err(format!("{label}: {e}\n{kernel}"));
                }
            }
            let with_nests = Random::new(seed).one_in(4) && i == 2;
            let n_loops = run(&compiled, &machine, &inputs, &want, &near, with_nests).map_err(|e| format!("{label}: {e}"))?;
            let workspace_bytes = compiled.program.workspace_bytes;
            found = Found::Same { workspace_bytes, lower_bound_bytes: compiled.lower_bound_bytes, n_loops };
        }
    }
    Ok(found)
}

/// The ways to machine code: each level by itself, and those with wide vectors through Cranelift too.
pub fn ways() -> Vec<(Machine, Emitter)> {
    let mut list: Vec<(Machine, Emitter)> = machines().into_iter().map(|m| (m, Emitter::Auto)).collect();
    let also: Vec<Machine> = list.iter().map(|w| w.0.clone()).filter(|m| wide::Isa::of(m) == Some(wide::Isa::V3)).collect();
    list.extend(also.into_iter().map(|m| (m, Emitter::Clif)));
    list
}

/// The levels that this machine executes.
fn machines() -> Vec<Machine> {
    let levels = ["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"];
    let mut list: Vec<Machine> = levels.iter().filter_map(|l| Machine::parse(None, Some(l)).ok()).collect();
    list.retain(|m| m.check_host().is_ok());
    if list.is_empty() { vec![Machine::native()] } else { list }
}

fn run(compiled: &Compiled, machine: &Machine, inputs: &[Tensor], want: &[Tensor], near: &[Tensor], nests: bool) -> Result<usize, String> {
    let exe = Executable::new(&compiled.program, machine).map_err(|e| e.to_string())?;
    let mut memory = exe.memory();
    for (to, from) in memory.inputs.iter_mut().zip(inputs) {
        to.as_mut_slice().copy_from_slice(from.bytes());
    }
    // What memory holds before must not matter: first bits of NaN, then what the first run left.
    memory.workspace.as_mut_slice().fill(0xFF);
    for output in &mut memory.outputs {
        output.as_mut_slice().fill(0xFF);
    }
    // Steps of bodies do not run one by one.
    if nests && compiled.program.flow.is_empty() {
        run_beside_interpreter(compiled, &exe, &mut memory)?;
    } else {
        exe.run(&mut memory).map_err(|s| s.to_string())?;
    }
    compare(&memory, want, near)?;
    let first: Vec<Vec<u8>> = memory.outputs.iter().map(|o| o.as_slice().to_vec()).collect();
    for output in &mut memory.outputs {
        output.as_mut_slice().fill(0x55);
    }
    exe.run(&mut memory).map_err(|s| s.to_string())?;
    if memory.outputs.iter().zip(&first).any(|(a, b)| a.as_slice() != b.as_slice()) {
        return Err("a second run gives other bits".to_owned());
    }
    if memory.inputs.iter().zip(inputs).any(|(m, t)| m.as_slice() != t.bytes()) {
        return Err("an input was changed".to_owned());
    }
    pools::same_bits(&exe, &mut memory, &[3])
}

/// Whether the first bytes of the outputs are what is wanted; `near` is what is wanted of inputs that are a little off.
pub(super) fn compare(memory: &Memory, want: &[Tensor], near: &[Tensor]) -> Result<(), String> {
    for (j, (want, near)) in want.iter().zip(near).enumerate() {
        let got = Tensor::from_bytes(want.dtype(), want.dims(), &memory.outputs[j].as_slice()[..want.bytes().len()]);
        let exact = !want.dtype().is_float();
        let (got, want, near) = (got.to_f64s(), want.to_f64s(), near.to_f64s());
        let greatest = |values: &mut dyn Iterator<Item = f64>| values.filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        let largest = greatest(&mut want.iter().copied());
        // Ill-conditioned values move much when the inputs move little.
        let shift = greatest(&mut want.iter().zip(&near).map(|(a, b)| a - b));
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let allowed = if exact { 0.0 } else { 2e-5 * (0.1 + largest) + 20.0 * shift };
            // The mean or the greatest of nothing is not finite, nor is what comes of it: whether it is a number depends on the order of sums.
            let close = if w.is_finite() { (g - w).abs() <= allowed } else { !g.is_finite() };
            if !close {
                return Err(format!("output {j}, element {i}: {g} where {w} is right"));
            }
        }
    }
    Ok(())
}

/// Runs step by step, each kernel also in the interpreter of nests, which must give the same bits.
fn run_beside_interpreter(compiled: &Compiled, exe: &Executable, memory: &mut Memory) -> Result<(), String> {
    for (s, step) in compiled.program.steps.iter().enumerate() {
        let kernel = &compiled.program.kernels[step.kernel];
        let mut buffers = buffers_of(&compiled.program, kernel, &step.args, memory);
        exe.run_step(s, memory).map_err(|s| s.to_string())?;
        nest::eval(kernel, &mut buffers).map_err(|e| format!("{}: {e}", kernel.name))?;
        let after = buffers_of(&compiled.program, kernel, &step.args, memory);
        for (b, buffer) in kernel.buffers.iter().enumerate() {
            if matches!(buffer.access, Access::Read) || buffer.name.contains("scratch") {
                continue;
            }
            if !same(buffer.dtype, &buffers[b], &after[b]) {
                return Err(format!("buffer `{}` differs between interpreter and machine code\n{kernel}", buffer.name));
            }
        }
    }
    Ok(())
}

fn buffers_of(program: &Program, kernel: &Kernel, args: &[Place], memory: &Memory) -> Vec<Vec<u8>> {
    let bytes = |(place, buffer): (&Place, &nest::Buffer)| {
        let n = buffer.len * buffer.dtype.size_bytes();
        let (from, offset) = match *place {
            Place::Arena(offset) => (memory.workspace.as_slice(), offset),
            Place::Input(i, offset) => (memory.inputs[i].as_slice(), offset),
            Place::Output(i, offset) => (memory.outputs[i].as_slice(), offset),
            Place::Constant(i, offset) => (program.constants[i].bytes.as_slice(), offset),
            Place::Pointer(..) => unreachable!("a step of a loop"),
        };
        from[offset..offset + n].to_vec()
    };
    args.iter().zip(&kernel.buffers).map(bytes).collect()
}

/// Whether bytes are the same, up to rounding where machine code multiplies and adds in one.
fn same(dtype: DType, a: &[u8], b: &[u8]) -> bool {
    let n = a.len() / dtype.size_bytes();
    let (a, b) = (Tensor::from_bytes(dtype, &[n], a), Tensor::from_bytes(dtype, &[n], b));
    if !dtype.is_float() {
        return a.bytes() == b.bytes();
    }
    a.to_f64s().iter().zip(b.to_f64s()).all(|(&a, b)| a == b || (a.is_nan() && b.is_nan()))
}

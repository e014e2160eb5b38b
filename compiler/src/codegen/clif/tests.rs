//! Kernels through Cranelift against the loop interpreter, at every level of this machine.

use crate::codegen::testing::{
    LANES, check_emulated, check_on, contraction, n_random, op_kernel, op_kernels, program, random_kernels, runnable,
};
use crate::codegen::{Emitter, Executable, Level, Machine, Memory, Status};
use crate::nest::{Access, Affine, Builder, Kernel, Op, parse};
use crate::tensor::{DType, Tensor};

/// The levels that this machine can execute.
fn machines() -> Vec<Machine> {
    runnable(Level::X86_64.map(Machine::x86_64).into_iter().chain([Machine::aarch64()]))
}

fn run_on(machine: &Machine, kernel: &Kernel, inputs: &[Tensor]) -> (Result<(), Status>, Memory) {
    let exe = Executable::new(&program(kernel), machine).unwrap_or_else(|e| panic!("{machine}: {e}"));
    let mut memory = exe.memory();
    for (to, from) in memory.inputs.iter_mut().zip(inputs) {
        to.as_mut_slice().copy_from_slice(from.bytes());
    }
    (exe.run(&mut memory), memory)
}

const F: DType = DType::F32;

fn f32s(x: &[f32]) -> Tensor {
    Tensor::from_slice(&[x.len()], x)
}

fn as_f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn a_register_tile_multiplies_matrices() {
    let (mr, nv, k) = (5, 2, 16);
    let n = nv * 4;
    let a: Vec<f32> = (0..mr * k).map(|i| (i % 7) as f32 - 3.0).collect();
    let w: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32 - 2.0).collect();
    let expected: Vec<f32> = (0..mr * n).map(|i| (0..k).map(|p| a[i / n * k + p] * w[p * n + i % n]).sum()).collect();
    for machine in machines() {
        let (status, memory) = run_on(&machine, &contraction(4, mr, nv, 4, k), &[f32s(&a), f32s(&w)]);
        assert_eq!(status, Ok(()));
        assert_eq!(as_f32s(memory.outputs[0].as_slice()), expected, "{machine}");
    }
}

/// Runs every kernel on this machine at every level, and compares with the interpreter.
fn check_all(kernels: &[Kernel], seed: u64) {
    check_on(&machines(), Emitter::Clif, kernels, seed);
}

#[test]
fn every_operation_agrees_with_the_interpreter() {
    check_all(&op_kernels(&LANES), 1);
}

#[test]
fn random_kernels_agree_with_the_interpreter() {
    let kernels = random_kernels(1..n_random(120));
    for k in &kernels {
        let errors = crate::nest::verify(k);
        assert!(errors.is_empty(), "{}: {errors:?}", k.name);
    }
    check_all(&kernels, 2);
}

/// Rows of five elements: whatever reads them must take any address.
#[test]
fn comparisons_read_unaligned_vectors() {
    let compares = ["lt %1, %2", "lt %2, %1", "le %1, %2", "eq %1, %2", "ne %2, %1"];
    let kernel = |(i, compare): (usize, &&str), f: &str, lanes: u32| {
        let v = format!("{f}x{lanes}");
        let text = format!(
            "kernel @{f}_{i} (x: {f}[40] read, y: {f}[40] write) {{
              for i in 0..7 {{
                %0: {f} = const 0.25 %1: {v} = splat %0 %2: {v} = load x[5*i] %3: boolx{lanes} = {compare}
                %4: {f} = const 1.0 %5: {v} = splat %4 %6: {v} = select %3, %5, %1 store y[5*i], %6
              }}
            }}"
        );
        parse(&text).unwrap()
    };
    let kernels: Vec<Kernel> = compares.iter().enumerate().flat_map(|c| [kernel(c, "f32", 4), kernel(c, "f64", 2)]).collect();
    check_all(&kernels, 5);
}

#[test]
fn every_operation_agrees_with_the_interpreter_on_aarch64() {
    let mut kernels = op_kernels(&LANES);
    kernels.extend(random_kernels(200..260));
    check_emulated(Emitter::Clif, &kernels, 3);
}

fn refusal(kernel: &Kernel) -> String {
    Executable::new(&program(kernel), &Machine::native()).unwrap_err().to_string()
}

#[test]
fn a_kernel_that_could_leave_its_buffers_is_refused() {
    let mut b = Builder::new("beyond", "");
    let (x, y) = (b.buffer("x", F, 6, Access::Read), b.buffer("y", F, 8, Access::Write));
    b.for_loop("i", 0..8, 4, |b, i| {
        let v = b.load(x, Affine::var(i), 4);
        b.store(y, Affine::var(i), v);
    });
    let message = refusal(&b.finish());
    assert!(message.starts_with("kernel `beyond` is malformed: "), "{message}");
}

#[test]
fn an_operation_without_code_is_named() {
    let kernel = op_kernel(&LANES, "narrow", &[DType::F64], DType::F16, false, |_, _, r| Op::Convert(r[0]));
    let message = refusal(&kernel);
    assert!(message.starts_with("kernel `narrow`: conversion of f64 to f16 has no machine code on "), "{message}");
}

//! What tests of machine code share: kernels through emitters against the loop interpreter, here and under an emulator.
//!
//! [`eval`], [`eval_with`] and [`eval_sized`] stand for the interpreter's functions of these names, and compare what machine code does
//! with it: by Cranelift at every level of this machine, and by the wide emitter at every level that it serves.

mod kernels;
mod random;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::sync::Mutex;

use cranelift_object::{ObjectBuilder, ObjectModule};
use tinsmith_runtime::Pool;
use tinsmith_targets::Feature;

use super::target::Usage;
use super::{
    CodegenError, Emitter, EntryOptions, Executable, IoBuffer, Level, Machine, Memory, Place, Program, Status, Step, define_program,
};
use crate::nest::{self, Access, EvalError, Kernel};
use crate::tensor::{DType, Parameter, Size};

pub(in crate::codegen) use kernels::{LANES, contraction, gather, op_kernel, op_kernels, tail};
pub(in crate::codegen) use random::{random_kernels, random_kernels_of_words};

/// Whether this machine can execute code for another; else that one is named, once for all tests.
pub(crate) fn can_run(machine: &Machine) -> bool {
    static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Err(e) = machine.check_host() else { return true };
    if NAMED.lock().unwrap().insert(machine.to_string()) {
        // Not by `eprintln!`, which shows nothing of tests that pass.
        writeln!(std::io::stderr(), "skipped: {e}").unwrap();
    }
    false
}

/// Those that this machine can execute; the others are named.
pub(in crate::codegen) fn runnable(machines: impl IntoIterator<Item = Machine>) -> Vec<Machine> {
    machines.into_iter().filter(can_run).collect()
}

/// The levels of the wide emitter, and the last with dot products of bytes.
pub(crate) fn wide_levels() -> [Machine; 4] {
    let v4 = Machine::x86_64(Level::V4);
    let dots = Machine { target: v4.target.with(Feature::Avx512vnni), ..v4.clone() };
    [Machine::x86_64(Level::V2), Machine::x86_64(Level::V3), v4, dots]
}

/// How many random kernels a test takes: `TINSMITH_RANDOM_NESTS` where it is set.
pub(in crate::codegen) fn n_random(default: u64) -> u64 {
    std::env::var("TINSMITH_RANDOM_NESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// A program of one step: read buffers are inputs, the others outputs.
pub(in crate::codegen) fn program(kernel: &Kernel) -> Program {
    let mut p = Program { kernels: vec![kernel.clone()], ..Program::default() };
    let mut args = vec![];
    for b in &kernel.buffers {
        let io = IoBuffer { name: b.name.clone(), bytes: b.len * b.dtype.size_bytes(), dims: vec![] };
        if b.access == Access::Read {
            args.push(Place::Input(p.inputs.len(), 0));
            p.inputs.push(io);
        } else {
            args.push(Place::Output(p.outputs.len(), 0));
            p.outputs.push(io);
        }
    }
    p.steps.push(Step { label: kernel.name.clone(), kernel: 0, args, sizes: vec![] });
    p
}

/// Numbers that are often special, and random bits.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let x = self.0 ^ (self.0 >> 33);
        x.wrapping_mul(0xff51afd7ed558ccd) ^ (x >> 29)
    }

    fn element(&mut self, dtype: DType) -> u64 {
        const FLOATS: [f64; 26] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            -0.75,
            127.6,
            -128.7,
            255.5,
            65519.0,
            65520.0,
            32768.5,
            8388607.5,
            2147483648.0,
            -2147483648.0,
            4294967295.0,
            9.3e18,
            -9.3e18,
            1.9e19,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        const INTS: [i64; 14] = [0, 1, -1, 2, -2, 3, 7, 127, 128, 255, 256, 32767, i64::MIN, i64::MAX];
        let (pick, x) = (self.next(), self.next());
        let float = match pick % 4 {
            0 | 1 => FLOATS[x as usize % FLOATS.len()],
            2 => (x % 60000) as f64 / 97.0 - 300.0,
            _ => f64::from_bits(0x3c00_0000_0000_0000 + x % 0x0700_0000_0000_0000) * if pick % 8 == 3 { -1.0 } else { 1.0 },
        };
        match dtype {
            DType::Bool => x & 1,
            DType::F16 if pick % 4 == 3 => x & 0xffff,
            DType::F16 => crate::tensor::round_f16(float).to_bits().into(),
            DType::BF16 => crate::tensor::round_bf16(float).to_bits().into(),
            DType::F32 => (float as f32).to_bits().into(),
            DType::F64 => float.to_bits(),
            _ if pick % 2 == 0 => INTS[x as usize % INTS.len()] as u64,
            _ => x >> ((pick >> 32) % 60),
        }
    }

    fn bytes(&mut self, dtype: DType, n: usize) -> Vec<u8> {
        (0..n).flat_map(|_| self.element(dtype).to_le_bytes()[..dtype.size_bytes()].to_vec()).collect()
    }
}

fn is_nan(dtype: DType, bytes: &[u8]) -> bool {
    let bits = bytes.iter().rev().fold(0u64, |x, &b| x << 8 | u64::from(b));
    match dtype {
        DType::F16 => half::f16::from_bits(bits as u16).is_nan(),
        DType::BF16 => half::bf16::from_bits(bits as u16).is_nan(),
        DType::F32 => f32::from_bits(bits as u32).is_nan(),
        DType::F64 => f64::from_bits(bits).is_nan(),
        _ => false,
    }
}

/// Kernels with their buffers, as one program that has them all in the workspace.
struct Cases<'a> {
    kernels: &'a [Kernel],
    buffers: Vec<Vec<Vec<u8>>>,
    program: Program,
}

impl<'a> Cases<'a> {
    fn new(kernels: &'a [Kernel], buffers: Vec<Vec<Vec<u8>>>) -> Self {
        let mut program = Program { workers: N_THREADS, thread_work: 1, ..Program::default() };
        for k in kernels {
            let mut args = vec![];
            for b in &k.buffers {
                args.push(Place::Arena(program.workspace_bytes));
                program.workspace_bytes += b.total_bytes(N_THREADS).expect("a size").next_multiple_of(64);
            }
            program.kernels.push(k.clone());
            program.steps.push(Step { label: k.name.clone(), kernel: program.kernels.len() - 1, args, sizes: vec![] });
        }
        Cases { kernels, buffers, program }
    }

    /// With random numbers in what they read.
    fn random(kernels: &'a [Kernel], seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let mut of = |b: &nest::Buffer| match b.access {
            Access::Read => numbers.bytes(b.dtype, b.len),
            _ => vec![0; b.len * b.dtype.size_bytes()],
        };
        let buffers = kernels.iter().map(|k| k.buffers.iter().map(&mut of).collect()).collect();
        Cases::new(kernels, buffers)
    }

    fn offsets(&self, step: usize) -> impl Iterator<Item = usize> {
        self.program.steps[step].args.iter().map(|a| if let Place::Arena(o) = a { *o } else { unreachable!("all are in the arena") })
    }

    fn workspace(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.program.workspace_bytes];
        for (step, case) in self.buffers.iter().enumerate() {
            for (offset, buffer) in self.offsets(step).zip(case) {
                bytes[offset..offset + buffer.len()].copy_from_slice(buffer);
            }
        }
        bytes
    }

    /// What each step's buffers should be, or `None` where its check fails.
    fn expected(&self, fused: bool) -> Vec<Option<Vec<Vec<u8>>>> {
        let one = |(kernel, buffers): (&Kernel, &Vec<Vec<u8>>)| {
            let mut buffers = buffers.clone();
            nest::eval_with(kernel, &mut buffers, fused).ok().map(|()| buffers)
        };
        self.kernels.iter().zip(&self.buffers).map(one).collect()
    }

    /// The first wrong element of each of a step's buffers; all bits count, except those of NaNs.
    fn differences(&self, step: usize, expected: &[Vec<u8>], workspace: &[u8], wrong: &mut Vec<String>) {
        let kernel = &self.kernels[step];
        let shared = kernel.buffers.iter().zip(self.offsets(step)).zip(expected).filter(|((b, _), _)| !b.private);
        for ((buffer, offset), expected) in shared {
            let size = buffer.dtype.size_bytes();
            let element = |bytes: &[u8], i: usize| bytes[i * size..][..size].to_vec();
            let differs = |&i: &usize| {
                let (f, e) = (element(&workspace[offset..], i), element(expected, i));
                f != e && !(is_nan(buffer.dtype, &f) && is_nan(buffer.dtype, &e))
            };
            if let Some(i) = (0..buffer.len).find(differs) {
                let (f, e) = (element(&workspace[offset..], i), element(expected, i));
                wrong.push(format!("{} `{}` [{i}]: {f:02x?}, expected {e:02x?}", kernel.name, buffer.name));
            }
        }
    }

    /// Runs every step on a machine, those with parallel loops by several threads as well, and compares.
    fn check(&self, machine: &Machine, expected: &[Option<Vec<Vec<u8>>>]) {
        let by = format!("{machine} by {:?}", self.program.emitter);
        let exe = Executable::new(&self.program, machine).unwrap_or_else(|e| panic!("{by}: {e}"));
        let mut memory = exe.memory();
        memory.workspace.as_mut_slice().copy_from_slice(&self.workspace());
        let mut wrong = vec![];
        let mut compare = |step: usize, status: Result<(), Status>, memory: &Memory| match (status, &expected[step]) {
            (Ok(()), Some(expected)) => self.differences(step, expected, memory.workspace.as_slice(), &mut wrong),
            (Err(Status(3)), None) => {}
            (status, expected) => {
                let right = if expected.is_some() { "ok" } else { "a failed check" };
                wrong.push(format!("{}: {status:?}, expected {right}", self.kernels[step].name));
            }
        };
        for step in 0..self.kernels.len() {
            let status = exe.run_step(step, &mut memory);
            compare(step, status, &memory);
        }
        if let [kernel] = self.kernels
            && nest::pieces::pieces(kernel).iter().any(|p| p.spread.is_some())
        {
            let pool = Pool::new(N_THREADS as u32).expect("a pool");
            memory.workspace.as_mut_slice().copy_from_slice(&self.workspace());
            let status = exe.run_with(&mut memory, Some(pool.hook()));
            compare(0, status, &memory);
        }
        report(&by, &wrong);
    }
}

/// As many copies of private buffers there are.
const N_THREADS: usize = 3;

fn report(by: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{by}: {} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

/// Runs every kernel on some machines through an emitter, and compares with the interpreter.
pub(in crate::codegen) fn check_on(machines: &[Machine], emitter: Emitter, kernels: &[Kernel], seed: u64) {
    let mut cases = Cases::random(kernels, seed);
    cases.program.emitter = emitter;
    let expected = [false, true].map(|fused| cases.expected(fused));
    for machine in machines {
        cases.check(machine, &expected[usize::from(machine.target.has_fma())]);
    }
}

/// [`nest::eval`], which machine code must agree with.
pub(crate) fn eval(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), EvalError> {
    let twice = eval_with(kernel, &mut buffers.to_vec(), false);
    let once = eval_with(kernel, buffers, true);
    assert_eq!(twice, once);
    once
}

/// [`nest::eval_with`], which machine code must agree with where multiply-adds round so.
pub(crate) fn eval_with(kernel: &Kernel, buffers: &mut [Vec<u8>], fused: bool) -> Result<(), EvalError> {
    let sizes: Vec<i64> = kernel.sizes.iter().map(|s| s.high).collect();
    eval_sized(kernel, buffers, &sizes, fused)
}

/// [`nest::eval_sized`], which machine code must agree with where multiply-adds round so.
pub(crate) fn eval_sized(kernel: &Kernel, buffers: &mut [Vec<u8>], sizes: &[i64], fused: bool) -> Result<(), EvalError> {
    let before = buffers.to_vec();
    let result = nest::eval_sized(kernel, buffers, sizes, fused);
    if matches!(result, Err(EvalError::Buffer { .. } | EvalError::Size { .. })) {
        return result;
    }
    let clif = Level::X86_64.map(Machine::x86_64).into_iter().chain([Machine::aarch64()]).map(|m| (m, Emitter::Clif));
    let wide = wide_levels().map(|m| (m, Emitter::Wide));
    for (machine, emitter) in clif.chain(wide).filter(|(m, _)| m.target.has_fma() == fused && can_run(m)) {
        let mut cases = Cases::new(std::slice::from_ref(kernel), vec![before.clone()]);
        cases.program.emitter = emitter;
        cases.program.parameters = sizes.iter().map(|&n| Parameter::new("n", n, n, 1)).collect();
        cases.program.steps[0].sizes = (0..sizes.len()).map(|i| Size::Parameter(i as u32)).collect();
        match &result {
            Ok(()) => cases.check(&machine, &[Some(buffers.to_vec())]),
            Err(EvalError::IndexOutOfRange { .. }) => cases.check(&machine, &[None]),
            Err(e) => {
                let refused = Executable::new(&cases.program, &machine);
                assert!(matches!(refused, Err(CodegenError::Malformed { .. })), "{machine} by {emitter:?}: {refused:?}, not {e}");
            }
        }
    }
    result
}

mod gathers {
    use super::{DType, EvalError, eval, gather, nest};

    fn run(places: DType, lanes: u32, end: i64, at: &[i64; 64]) -> Result<Vec<f32>, EvalError> {
        let kernel = gather(DType::F32, places, lanes, end);
        assert_eq!(nest::verify(&kernel), []);
        assert_eq!(nest::parse(&kernel.to_string()), Ok(kernel.clone()));
        let size = places.size_bytes();
        let x = (0..3 * end + 5).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let mut buffers = [x, at.iter().flat_map(|i| i.to_le_bytes()[..size].to_vec()).collect(), vec![0; 3 * 64 * 4]];
        eval(&kernel, &mut buffers)?;
        Ok(buffers[2].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    #[test]
    fn machine_code_reads_where_each_lane_says() {
        // Elements that are near, and far.
        for end in [20, 20_000] {
            let at: [i64; 64] = std::array::from_fn(|i| (i as i64 * 6029) % (2 * end) - end);
            let expected: Vec<f32> = (0..3 * 64).map(|i| (i as i64 / 64 * end + 5 + at[i % 64].rem_euclid(end)) as f32).collect();
            for places in [DType::I32, DType::I64] {
                for lanes in [2, 4, 8, 16, 32] {
                    assert_eq!(run(places, lanes, end, &at).as_ref(), Ok(&expected), "{places}x{lanes} of {end}");
                }
            }
        }
    }

    #[test]
    fn an_index_out_of_range_in_any_lane_stops_the_kernel() {
        for places in [DType::I32, DType::I64] {
            for lane in 0..16 {
                let beyond = if places == DType::I64 { [20, -21, 1 << 32] } else { [20, -21, i64::from(i32::MIN)] };
                let mut at = [19; 64];
                at[32 + lane] = beyond[lane % 3];
                let lanes = if lane % 2 == 0 { 16 } else { 4 };
                assert!(matches!(run(places, lanes, 20, &at), Err(EvalError::IndexOutOfRange { .. })), "{places}x{lanes} {lane}");
            }
        }
    }
}

/// Compiles kernels for 64-bit Arm; links them into one program and runs it where a cross compiler and an emulator are installed, and
/// compares with the interpreter.
pub(in crate::codegen) fn check_emulated(emitter: Emitter, kernels: &[Kernel], seed: u64) {
    let machine = Machine::aarch64();
    let mut cases = Cases::random(kernels, seed);
    cases.program.emitter = emitter;
    let expected = cases.expected(true);
    // A failed check ends the program.
    let kept: Vec<usize> = (0..kernels.len()).filter(|&i| expected[i].is_some()).collect();
    let all_steps = cases.program.steps.clone();
    cases.program.steps = kept.iter().map(|&i| all_steps[i].clone()).collect();
    let isa = machine.isa(Usage::Object).unwrap();
    let mut module = ObjectModule::new(ObjectBuilder::new(isa, "test", cranelift_module::default_libcall_names()).unwrap());
    let options = EntryOptions { run: Some("all_run".into()), ..EntryOptions::default() };
    define_program(&mut module, &machine, &cases.program, &options).unwrap();
    cases.program.steps = all_steps;
    let object = module.finish().emit().unwrap();

    let installed = |tool: &str| Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    let (gcc, qemu) = ("aarch64-linux-gnu-gcc", "qemu-aarch64");
    if !installed(gcc) || !installed(qemu) {
        eprintln!("skipped: execution on aarch64 needs {gcc} and {qemu}");
        return;
    }
    let dir = std::env::temp_dir().join(format!("tinsmith-aarch64-{}-{emitter:?}-{seed}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("all.o"), object).unwrap();
    std::fs::write(dir.join("memory"), cases.workspace()).unwrap();
    let driver = "#include <stdio.h>\n#include <stdlib.h>\nint all_run(void *workspace, void *pool);\nint main(void) { \
        char *w = aligned_alloc(64, BYTES); FILE *f = fopen(\"memory\", \"r+b\"); \
        if (fread(w, 1, BYTES, f) != BYTES) return 10; int status = all_run(w, 0); rewind(f); \
        if (fwrite(w, 1, BYTES, f) != BYTES || fclose(f)) return 11; return status; }";
    std::fs::write(dir.join("main.c"), driver).unwrap();
    let bytes = format!("-DBYTES={}", cases.program.workspace_bytes);
    let linked = Command::new(gcc).args(["-static", &bytes, "main.c", "all.o", "-o", "all"]).current_dir(&dir).output().unwrap();
    assert!(linked.status.success(), "{}", String::from_utf8_lossy(&linked.stderr));
    let run = Command::new(qemu).arg("./all").current_dir(&dir).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let workspace = std::fs::read(dir.join("memory")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let mut wrong = vec![];
    for i in kept {
        cases.differences(i, expected[i].as_ref().expect("kept"), &workspace, &mut wrong);
    }
    report(&machine.to_string(), &wrong);
}

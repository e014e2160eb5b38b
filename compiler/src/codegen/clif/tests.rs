//! Kernels through Cranelift against the loop interpreter, at every level of this machine.

use crate::codegen::{Emitter, Executable, IoBuffer, Level, Machine, Memory, Place, Program, Status, Step};
use crate::nest::{Access, Affine, BinaryOp, Builder, CompareOp, Cond, Index, Kernel, Op, Reg, Scalar, Shuffle, UnaryOp, VecType, parse};
use crate::tensor::{DType, Tensor};

/// The levels that this machine can execute.
fn machines() -> Vec<Machine> {
    runnable(Level::X86_64.map(Machine::x86_64).into_iter().chain([Machine::aarch64()]))
}

/// Those that this machine can execute; the others are named.
pub(in crate::codegen) fn runnable(machines: impl IntoIterator<Item = Machine>) -> Vec<Machine> {
    let (run, skipped): (Vec<Machine>, Vec<Machine>) = machines.into_iter().partition(|m| m.check_host().is_ok());
    for machine in skipped {
        eprintln!("skipped: this machine cannot execute code for {machine}");
    }
    run
}

/// How many random kernels a test takes: `TINSMITH_RANDOM_NESTS` where it is set.
pub(in crate::codegen) fn n_random(default: u64) -> u64 {
    std::env::var("TINSMITH_RANDOM_NESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// A program of one step: read buffers are inputs, the others outputs.
fn program(kernel: &Kernel) -> Program {
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

pub(in crate::codegen) fn contraction(lanes: u32, mr: usize, nv: usize, unroll: usize, k: usize) -> Kernel {
    let l = lanes as usize;
    let n = nv * l;
    let mut b = Builder::new("contract", format!("contract(mr={mr} nr={n})"));
    let (a, w, c) =
        (b.buffer("a", F, mr * k, Access::Read), b.buffer("b", F, k * n, Access::Read), b.buffer("c", F, mr * n, Access::Write));
    let ty = VecType { dtype: F, lanes };
    let acc: Vec<Reg> = (0..mr * nv).map(|_| b.float(ty, 0.0)).collect();
    b.for_loop("k", 0..k as i64, unroll as i64, |b, kv| {
        for u in 0..unroll {
            let ws: Vec<Reg> = (0..nv).map(|v| b.load(w, Affine::var(kv).times(n as i64).offset((u * n + v * l) as i64), lanes)).collect();
            for r in 0..mr {
                let x = b.load(a, Affine::var(kv).offset((r * k + u) as i64), 1);
                let x = b.splat(x, lanes);
                for v in 0..nv {
                    b.set(acc[r * nv + v], Op::Fma(x, ws[v], acc[r * nv + v]));
                }
            }
        }
    });
    for r in 0..mr {
        for v in 0..nv {
            b.store(c, Affine::constant((r * n + v * l) as i64), acc[r * nv + v]);
        }
    }
    b.finish()
}

/// Loads and stores of the first lanes only, as schedules write them.
pub(in crate::codegen) fn tail(lanes: u32, valid: u32) -> Kernel {
    let mut b = Builder::new(format!("tail_{lanes}_{valid}"), "");
    let (x, y) = (b.buffer("x", F, valid as usize, Access::Read), b.buffer("y", F, valid as usize, Access::Write));
    let zero = b.float(VecType::scalar(F), 0.0);
    let mut regs: Vec<Reg> = (0..valid).map(|i| b.load(x, Affine::constant(i.into()), 1)).collect();
    regs.resize(lanes as usize, zero);
    let v = b.op(VecType { dtype: F, lanes }, Op::Pack(regs));
    let v = b.binary(BinaryOp::Add, v, v);
    for i in 0..valid {
        let lane = b.op(VecType::scalar(F), Op::Lane(v, i));
        b.store(y, Affine::constant(i.into()), lane);
    }
    b.finish()
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

pub(in crate::codegen) const LANES: [u32; 5] = [1, 2, 4, 8, 16];
const N: usize = 64;

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

/// One operation at every number of lanes: `out[case * N + i] = op(inputs[..][i])`.
fn op_kernel(
    lanes: &[u32],
    name: &str,
    inputs: &[DType],
    result: DType,
    scalar_result: bool,
    make: impl Fn(&mut Builder, VecType, &[Reg]) -> Op,
) -> Kernel {
    let mut b = Builder::new(name, "");
    let buffers: Vec<_> = inputs.iter().enumerate().map(|(i, &d)| b.buffer(format!("in{i}"), d, N, Access::Read)).collect();
    let out = b.buffer("out", result, N * lanes.len(), Access::Write);
    for (case, &lanes) in lanes.iter().enumerate() {
        let ty = VecType { dtype: result, lanes: if scalar_result { 1 } else { lanes } };
        b.for_loop("i", 0..N as i64, i64::from(lanes), |b, i| {
            let operands: Vec<Reg> = buffers.iter().map(|&x| b.load(x, Affine::var(i), lanes)).collect();
            let op = make(b, ty, &operands);
            let r = b.op(ty, op);
            b.store(out, Affine::var(i).offset((case * N) as i64), r);
        });
    }
    b.finish()
}

/// Dot products of bytes: of vectors, and of four bytes with each four of a vector.
fn dot_kernel(lanes: u32) -> Kernel {
    let mut b = Builder::new(format!("dot_{lanes}"), "");
    let bytes = 4 * N + 64;
    let x = b.buffer("x", DType::U8, bytes, Access::Read);
    let w = b.buffer("w", DType::I8, bytes, Access::Read);
    let y = b.buffer("y", DType::I32, 2 * N, Access::ReadWrite);
    b.for_loop("i", 0..N as i64, i64::from(lanes), |b, i| {
        let (u, s) = (b.load(x, Affine::var(i).times(4), 4 * lanes), b.load(w, Affine::var(i).times(4).offset(3), 4 * lanes));
        let acc = b.load(y, Affine::var(i), lanes);
        let acc = b.dot(acc, u, s);
        b.store(y, Affine::var(i), acc);
        let four = b.load(x, Affine::var(i).offset(1), 4);
        let word = b.op(VecType::scalar(DType::I32), Op::Bitcast(four));
        let words = if lanes == 1 { word } else { b.splat(word, lanes) };
        let u = b.op(VecType { dtype: DType::U8, lanes: 4 * lanes }, Op::Bitcast(words));
        let acc = b.dot(acc, u, s);
        b.store(y, Affine::var(i).offset(N as i64), acc);
    });
    b.finish()
}

/// Dot products of pairs of `i16`: of vectors, and of two with each two of a vector.
fn pairs_kernel(lanes: u32) -> Kernel {
    let mut b = Builder::new(format!("pairs_{lanes}"), "");
    let n = 2 * N + 64;
    let x = b.buffer("x", DType::I16, n, Access::Read);
    let w = b.buffer("w", DType::I16, n, Access::Read);
    let y = b.buffer("y", DType::I32, 2 * N, Access::ReadWrite);
    b.for_loop("i", 0..N as i64, i64::from(lanes), |b, i| {
        let (p, q) = (b.load(x, Affine::var(i).times(2), 2 * lanes), b.load(w, Affine::var(i).times(2).offset(1), 2 * lanes));
        let acc = b.load(y, Affine::var(i), lanes);
        let acc = b.dot(acc, p, q);
        b.store(y, Affine::var(i), acc);
        let two = b.load(x, Affine::var(i).offset(1), 2);
        let word = b.op(VecType::scalar(DType::I32), Op::Bitcast(two));
        let words = if lanes == 1 { word } else { b.splat(word, lanes) };
        let p = b.op(VecType { dtype: DType::I16, lanes: 2 * lanes }, Op::Bitcast(words));
        let acc = b.dot(acc, p, q);
        b.store(y, Affine::var(i).offset(N as i64), acc);
    });
    b.finish()
}

/// Every operation on every type, each at these numbers of lanes.
pub(in crate::codegen) fn op_kernels(lanes: &[u32]) -> Vec<Kernel> {
    use BinaryOp as B;
    use UnaryOp as U;
    let mut all: Vec<Kernel> = lanes.iter().flat_map(|&n| [dot_kernel(n), pairs_kernel(n)]).collect();
    for d in DType::ALL {
        let mut add = |name: String, inputs: &[DType], result: DType, scalar: bool, make: &dyn Fn(&mut Builder, VecType, &[Reg]) -> Op| {
            all.push(op_kernel(lanes, &format!("{name}_{d}"), inputs, result, scalar, make));
        };
        for op in [U::Neg, U::Abs, U::Sqrt, U::Floor, U::Ceil, U::Trunc, U::Round, U::Not] {
            let applies = match op {
                U::Not => !d.is_float(),
                U::Neg | U::Abs => d != DType::Bool,
                _ => d.is_float(),
            };
            if applies {
                add(format!("{op:?}"), &[d], d, false, &|_, _, r| Op::Unary(op, r[0]));
            }
        }
        for op in [B::Add, B::Sub, B::Mul, B::Div, B::Rem, B::Min, B::Max, B::And, B::Or, B::Xor] {
            let applies = match op {
                B::And | B::Or | B::Xor => !d.is_float(),
                B::Rem => d.is_int(),
                _ => d != DType::Bool,
            };
            if applies {
                add(format!("{op:?}"), &[d, d], d, false, &|_, _, r| Op::Binary(op, r[0], r[1]));
                let by = if d == DType::U8 { 3 } else { -3 };
                if d.is_int() && d.is_signed() {
                    add(format!("{op:?}_by_constant"), &[d], d, false, &|b, ty, r| Op::Binary(op, r[0], b.int(ty, by)));
                }
                if matches!(op, B::Add | B::Mul | B::Min | B::Max) {
                    add(format!("all_{op:?}"), &[d], d, true, &|_, _, r| Op::Horizontal(op, r[0]));
                }
            }
        }
        if d.is_int() {
            for op in [B::Shl, B::Shr] {
                for by in [0, 1, 3, i64::from(d.bits()) - 1] {
                    add(format!("{op:?}_{by}"), &[d], d, false, &|b, ty, r| Op::Binary(op, r[0], b.int(ty, by)));
                }
            }
        }
        use CompareOp as C;
        for op in [C::Eq, C::Ne, C::Lt, C::Le, C::Gt, C::Ge] {
            if d != DType::Bool || matches!(op, C::Eq | C::Ne) {
                add(format!("{op:?}"), &[d, d], DType::Bool, false, &|_, _, r| Op::Compare(op, r[0], r[1]));
                add(format!("{op:?}_select"), &[d, d], d, false, &|b, _, r| {
                    let c = b.compare(op, r[0], r[1]);
                    Op::Select(c, r[1], r[0])
                });
            }
        }
        add("select".into(), &[DType::Bool, d, d], d, false, &|_, _, r| Op::Select(r[0], r[1], r[2]));
        if d != DType::Bool {
            for order in Shuffle::ALL {
                add(order.name().into(), &[d, d], d, false, &|_, ty, r| match ty.lanes {
                    1 => Op::Copy(r[0]),
                    _ => Op::Shuffle(order, r[0], r[1]),
                });
            }
        }
        add("copy".into(), &[d], d, false, &|_, _, r| Op::Copy(r[0]));
        add("last_lane".into(), &[d], d, true, &|b, _, r| Op::Lane(r[0], b.ty(r[0]).lanes - 1));
        add("splat_lane".into(), &[d], d, false, &|b, ty, r| {
            let lane = b.op(VecType::scalar(d), Op::Lane(r[0], ty.lanes / 2));
            if ty.lanes == 1 { Op::Copy(lane) } else { Op::Splat(lane) }
        });
        add("reverse".into(), &[d], d, false, &|b, ty, r| {
            Op::Pack((0..ty.lanes).rev().map(|i| b.op(VecType::scalar(d), Op::Lane(r[0], i))).collect())
        });
        add("constant".into(), &[d], d, false, &|_, _, _| Op::Const(if d.is_float() { Scalar::Float(1.5) } else { Scalar::Int(1) }));
        if !matches!(d, DType::Bool | DType::F16 | DType::BF16) {
            add("fma".into(), &[d, d, d], d, false, &|_, _, r| Op::Fma(r[0], r[1], r[2]));
        }
        for to in DType::ALL {
            let twice_rounded =
                matches!((d, to), (DType::F64, DType::F16 | DType::BF16)) || (to == DType::BF16 && d.is_int() && d.size_bytes() >= 4);
            if !twice_rounded {
                add(format!("to_{to}_from"), &[d], to, false, &|_, _, r| Op::Convert(r[0]));
            }
            if d != DType::Bool && to != DType::Bool && to.bits() == d.bits() {
                add(format!("as_{to}"), &[d], to, false, &|_, _, r| Op::Bitcast(r[0]));
            }
        }
    }
    all
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

/// Kernels with random inputs, as one program whose buffers are all in the workspace.
struct Cases<'a> {
    kernels: &'a [Kernel],
    buffers: Vec<Vec<Vec<u8>>>,
    program: Program,
}

impl<'a> Cases<'a> {
    fn new(kernels: &'a [Kernel], seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let mut program = Program::default();
        let mut buffers = vec![];
        for k in kernels {
            let mut case = vec![];
            let mut args = vec![];
            for b in &k.buffers {
                let bytes = b.len * b.dtype.size_bytes();
                case.push(if b.access == Access::Read { numbers.bytes(b.dtype, b.len) } else { vec![0; bytes] });
                args.push(Place::Arena(program.workspace_bytes));
                program.workspace_bytes += bytes.next_multiple_of(64);
            }
            program.kernels.push(k.clone());
            program.steps.push(Step { label: k.name.clone(), kernel: program.kernels.len() - 1, args, sizes: vec![] });
            buffers.push(case);
        }
        Cases { kernels, buffers, program }
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

    /// What a step's buffers should be, or `None` where its check fails.
    fn expected(&self, step: usize, fused: bool) -> Option<Vec<Vec<u8>>> {
        let mut buffers = self.buffers[step].clone();
        crate::nest::eval_with(&self.kernels[step], &mut buffers, fused).ok().map(|()| buffers)
    }

    /// The first wrong element of each of a step's buffers; all bits count, except those of NaNs.
    fn differences(&self, step: usize, expected: &[Vec<u8>], workspace: &[u8], wrong: &mut Vec<String>) {
        let kernel = &self.kernels[step];
        for ((buffer, offset), expected) in kernel.buffers.iter().zip(self.offsets(step)).zip(expected) {
            let size = buffer.dtype.size_bytes();
            let element = |bytes: &[u8], i: usize| bytes[i * size..][..size].to_vec();
            let differs = |&i: &usize| {
                let (f, e) = (element(&workspace[offset..], i), element(expected, i));
                f != e && !(is_nan(buffer.dtype, &f) && is_nan(buffer.dtype, &e))
            };
            if let Some(i) = (0..buffer.len).find(differs) {
                let (f, e) = (element(&workspace[offset..], i), element(expected, i));
                let lanes = LANES.get(i / N).unwrap_or(&0);
                wrong.push(format!("{} `{}` lanes {lanes} [{i}]: {f:02x?}, expected {e:02x?}", kernel.name, buffer.name));
            }
        }
    }
}

fn report(machine: &Machine, wrong: &[String]) {
    assert!(wrong.is_empty(), "{machine}: {} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

/// Runs every kernel on this machine at every level, and compares with the interpreter.
fn check_all(kernels: &[Kernel], seed: u64) {
    check_on(&machines(), Emitter::Clif, kernels, seed);
}

/// [`check_all`] on some machines, through an emitter.
pub(in crate::codegen) fn check_on(machines: &[Machine], emitter: Emitter, kernels: &[Kernel], seed: u64) {
    let mut cases = Cases::new(kernels, seed);
    cases.program.emitter = emitter;
    let expected = [false, true].map(|fused| (0..kernels.len()).map(|i| cases.expected(i, fused)).collect::<Vec<_>>());
    for machine in machines {
        let exe = Executable::new(&cases.program, machine).unwrap_or_else(|e| panic!("{machine}: {e}"));
        let mut memory = exe.memory();
        memory.workspace.as_mut_slice().copy_from_slice(&cases.workspace());
        let mut wrong = vec![];
        for (step, expected) in expected[usize::from(machine.target.has_fma())].iter().enumerate() {
            match (exe.run_step(step, &mut memory), expected) {
                (Ok(()), Some(expected)) => cases.differences(step, expected, memory.workspace.as_slice(), &mut wrong),
                (Err(Status(3)), None) => {}
                (status, expected) => {
                    wrong.push(format!(
                        "{}: {status:?}, expected {}",
                        kernels[step].name,
                        if expected.is_some() { "ok" } else { "a failed check" }
                    ));
                }
            }
        }
        report(machine, &wrong);
    }
}

#[test]
fn every_operation_agrees_with_the_interpreter() {
    check_all(&op_kernels(&LANES), 1);
}

/// Random kernels of loops, branches, accumulators and checked indices, all in bounds.
struct Maker {
    numbers: Numbers,
    b: Builder,
    // Registers that are set here, with the loop variables in scope.
    regs: Vec<Reg>,
    vars: Vec<(crate::nest::Var, i64)>,
    buffers: Vec<crate::nest::BufferId>,
    budget: usize,
    /// Whether values have 32 bits only, beside scalars of `i64`, and neither divisions of integers nor conditions in memory.
    words: bool,
}

const TYPES: [DType; 13] = DType::ALL;
const LANES_OF_RANDOM: [u32; 7] = [1, 1, 2, 4, 4, 8, 16];
const LEN: usize = 512;

const WORDS: [DType; 4] = [DType::F32, DType::F32, DType::I32, DType::U32];

impl Maker {
    fn kernel(seed: u64, words: bool) -> Kernel {
        let mut b = Builder::new(format!("random_{seed}"), "");
        let mut buffers = vec![];
        for d in TYPES {
            buffers.push(b.buffer(format!("read_{d}"), d, LEN, Access::Read));
            buffers.push(b.buffer(format!("write_{d}"), d, LEN, Access::ReadWrite));
        }
        let mut m = Maker { numbers: Numbers(seed), b, regs: vec![], vars: vec![], buffers, budget: 40, words };
        for _ in 0..6 {
            m.set();
        }
        m.block(0);
        m.b.finish()
    }

    fn pick(&mut self, n: usize) -> usize {
        (self.numbers.next() >> 20) as usize % n
    }

    fn reg(&mut self, ty: VecType) -> Reg {
        let found: Vec<Reg> = self.regs.iter().copied().filter(|&r| self.b.ty(r) == ty).collect();
        if !found.is_empty() && self.pick(4) > 0 {
            let at = self.pick(found.len());
            return found[at];
        }
        let op = self.leaf(ty);
        let r = self.b.op(ty, op);
        self.regs.push(r);
        r
    }

    fn index(&mut self, lanes: u32) -> Index {
        let mut affine = Affine::default();
        let mut room = LEN as i64 - i64::from(lanes) - 80;
        for (var, last) in self.vars.clone() {
            let stride = self.pick(9) as i64;
            if stride > 0 && stride * last <= room {
                room -= stride * last;
                affine = affine.plus(&Affine::var(var).times(stride));
            }
        }
        affine.constant += self.pick(room as usize + 1) as i64;
        let mut dynamic = vec![];
        if self.pick(4) == 0 {
            let x = self.reg(VecType::scalar(DType::I64));
            let (low, high) = (self.b.int(VecType::scalar(DType::I64), 0), self.b.int(VecType::scalar(DType::I64), 20));
            let x = self.b.binary(BinaryOp::Max, x, low);
            let x = self.b.binary(BinaryOp::Min, x, high);
            let x = if self.pick(2) == 0 { self.b.op(VecType::scalar(DType::I64), Op::Check(x, 21)) } else { x };
            dynamic.push((x, 1 + self.pick(4) as i64));
        }
        Index { affine, dynamic }
    }

    fn buffer(&mut self, dtype: DType, writable: bool) -> crate::nest::BufferId {
        let at = 2 * TYPES.iter().position(|&d| d == dtype).unwrap();
        let kind = if writable { 1 } else { self.pick(2) };
        self.buffers[at + kind]
    }

    fn leaf(&mut self, ty: VecType) -> Op {
        let in_memory = !(self.words && ty.dtype == DType::Bool);
        match if in_memory { self.pick(4) } else { 0 } {
            0 => Op::Const(if ty.dtype.is_float() { Scalar::Float(self.pick(9) as f64 - 4.0) } else { Scalar::Int(self.pick(2) as i64) }),
            1 if ty == VecType::scalar(DType::I64) => {
                let mut affine = Affine::constant(self.pick(5) as i64 - 2);
                for (var, _) in self.vars.clone() {
                    affine.add_term(var, self.pick(5) as i64 - 2);
                }
                Op::Index(affine)
            }
            _ => Op::Load { buffer: self.buffer(ty.dtype, false), index: self.index(ty.lanes) },
        }
    }

    fn dtype(&mut self) -> DType {
        if self.words { WORDS[self.pick(WORDS.len())] } else { TYPES[self.pick(TYPES.len())] }
    }

    fn ty(&mut self) -> VecType {
        if self.words && self.pick(6) == 0 {
            return VecType::scalar(DType::I64);
        }
        if self.words {
            return VecType { dtype: self.dtype(), lanes: LANES_OF_RANDOM[self.pick(LANES_OF_RANDOM.len())] };
        }
        VecType { dtype: TYPES[self.pick(TYPES.len())], lanes: LANES_OF_RANDOM[self.pick(LANES_OF_RANDOM.len())] }
    }

    /// An operation of arithmetic; products of halves and multiply-adds of them have no code.
    fn number(&mut self, ty: VecType) -> Op {
        use BinaryOp as B;
        let int = ty.dtype.is_int();
        match self.pick(12) {
            0..5 => {
                let op = [B::Add, B::Sub, B::Mul, B::Min, B::Max][self.pick(5)];
                Op::Binary(op, self.reg(ty), self.reg(ty))
            }
            5 | 6 if self.words && ty.dtype == DType::I64 => self.leaf(ty),
            5 if int && self.words => Op::Binary([B::And, B::Or, B::Xor][self.pick(3)], self.reg(ty), self.reg(ty)),
            7 if self.words && ty.dtype == DType::I64 => self.leaf(ty),
            5 if int => Op::Binary([B::Div, B::Rem, B::And, B::Or, B::Xor][self.pick(5)], self.reg(ty), self.reg(ty)),
            6 if int => {
                let by = self.pick(ty.dtype.bits() as usize) as i64;
                let by = if ty.dtype == DType::I8 { by & 7 } else { by };
                let amount = self.b.int(ty, by);
                Op::Binary([B::Shl, B::Shr][self.pick(2)], self.reg(ty), amount)
            }
            5 => Op::Binary(B::Div, self.reg(ty), self.reg(ty)),
            6 => {
                let op = [UnaryOp::Sqrt, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Trunc, UnaryOp::Round][self.pick(5)];
                Op::Unary(op, self.reg(ty))
            }
            7 => Op::Unary([UnaryOp::Neg, UnaryOp::Abs][self.pick(2)], self.reg(ty)),
            8 | 9 if !matches!(ty.dtype, DType::F16 | DType::BF16) => Op::Fma(self.reg(ty), self.reg(ty), self.reg(ty)),
            10 if ty.dtype == DType::I32 && ty.lanes <= 4 && !self.words => {
                let bytes = |dtype| VecType { dtype, lanes: 4 * ty.lanes };
                let mut load = |dtype| {
                    let op = Op::Load { buffer: self.buffer(dtype, false), index: self.index(4 * ty.lanes) };
                    self.b.op(bytes(dtype), op)
                };
                let (a, b) = (load(DType::U8), load(DType::I8));
                Op::Dot(self.reg(ty), a, b)
            }
            _ => self.leaf(ty),
        }
    }

    fn op(&mut self, ty: VecType) -> Op {
        let number = ty.dtype != DType::Bool;
        match self.pick(10) {
            0..3 if number => self.number(ty),
            0 => Op::Binary([BinaryOp::And, BinaryOp::Or, BinaryOp::Xor][self.pick(3)], self.reg(ty), self.reg(ty)),
            1 | 2 => {
                use CompareOp as C;
                let long = self.words && ty.lanes == 1 && self.pick(3) == 0;
                let from = if long { VecType::scalar(DType::I64) } else { ty.with_dtype(self.dtype()) };
                let ops: &[C] = if from.dtype == DType::Bool { &[C::Eq, C::Ne] } else { &[C::Eq, C::Ne, C::Lt, C::Le, C::Gt, C::Ge] };
                Op::Compare(ops[self.pick(ops.len())], self.reg(from), self.reg(from))
            }
            3 => Op::Select(self.reg(ty.with_dtype(DType::Bool)), self.reg(ty), self.reg(ty)),
            4 | 5 => {
                let from = self.dtype();
                let half = matches!(ty.dtype, DType::F16 | DType::BF16);
                let rounds_twice = half && (from == DType::F64 || ty.dtype == DType::BF16 && from.is_int() && from.size_bytes() >= 4);
                if rounds_twice { self.leaf(ty) } else { Op::Convert(self.reg(ty.with_dtype(from))) }
            }
            6 if self.words && ty.dtype == DType::I64 => self.leaf(ty),
            6 if ty.lanes > 1 => match self.pick(3) {
                2 if number => Op::Shuffle(Shuffle::ALL[self.pick(Shuffle::ALL.len())], self.reg(ty), self.reg(ty)),
                0 => Op::Splat(self.reg(VecType::scalar(ty.dtype))),
                _ => Op::Pack((0..ty.lanes).map(|_| self.reg(VecType::scalar(ty.dtype))).collect()),
            },
            6 => {
                let from = VecType { lanes: [2, 4, 8][self.pick(3)], ..ty };
                match self.pick(2) {
                    0 if number => {
                        let op = [BinaryOp::Add, BinaryOp::Mul, BinaryOp::Min, BinaryOp::Max][self.pick(4)];
                        Op::Horizontal(op, self.reg(from))
                    }
                    _ => Op::Lane(self.reg(from), self.pick(from.lanes as usize) as u32),
                }
            }
            7 if !number => Op::Unary(UnaryOp::Not, self.reg(ty)),
            _ => self.leaf(ty),
        }
    }

    fn set(&mut self) {
        let at = self.pick(2 * self.regs.len() + 1);
        let old = self.regs.get(at).copied();
        let ty = match old {
            Some(r) => self.b.ty(r),
            None => self.ty(),
        };
        let op = self.op(ty);
        match old {
            Some(r) => self.b.set(r, op),
            None => {
                let r = self.b.op(ty, op);
                self.regs.push(r);
            }
        }
    }

    fn store(&mut self) {
        let ty = self.ty();
        let (buffer, index, value) = (self.buffer(ty.dtype, true), self.index(ty.lanes), self.reg(ty));
        self.b.store(buffer, index, value);
    }

    // The builder takes closures, so that `self` lends its builder while one is open.
    fn nested(&mut self, depth: usize, add: impl FnOnce(&mut Builder, &mut dyn FnMut(&mut Builder, Option<(crate::nest::Var, i64)>))) {
        let mut b = std::mem::replace(&mut self.b, Builder::new("", ""));
        let known = self.regs.len();
        add(&mut b, &mut |b, var| {
            std::mem::swap(b, &mut self.b);
            let n_vars = self.vars.len();
            self.vars.extend(var);
            self.block(depth + 1);
            self.vars.truncate(n_vars);
            if var.is_none() {
                self.regs.truncate(known);
            }
            std::mem::swap(b, &mut self.b);
        });
        self.b = b;
    }

    fn block(&mut self, depth: usize) {
        for _ in 0..3 + self.pick(4) {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            match self.pick(if depth < 3 { 8 } else { 5 }) {
                0..3 => self.set(),
                3 | 4 => self.store(),
                5 | 6 => {
                    let (start, step, trips) = (self.pick(3) as i64, 1 + self.pick(3) as i64, [1, 2, 3, 5][self.pick(4)]);
                    let end = start + step * trips;
                    self.nested(depth, |b, body| b.for_loop("i", start..end, step, |b, var| body(b, Some((var, end - step)))));
                }
                _ => {
                    let cond = if self.vars.is_empty() || self.pick(2) == 0 {
                        Cond::Reg(self.reg(VecType::scalar(DType::Bool)))
                    } else {
                        let at = self.pick(self.vars.len());
                        let var = self.vars[at].0;
                        Cond::Within(vec![(Affine::var(var).times(2).offset(-3), self.pick(4) as i64 - 2, self.pick(9) as i64)])
                    };
                    self.nested(depth, |b, body| {
                        let body = std::cell::RefCell::new(body);
                        b.branch(cond, |b| (body.borrow_mut())(b, None), |b| (body.borrow_mut())(b, None));
                    });
                }
            }
        }
    }
}

/// Random kernels of loops, branches, accumulators and checked indices.
pub(in crate::codegen) fn random_kernels(seeds: std::ops::Range<u64>) -> Vec<Kernel> {
    seeds.map(|i| Maker::kernel(i * 7919, false)).collect()
}

/// The same of values of 32 bits and scalars of `i64`.
pub(in crate::codegen) fn random_kernels_of_words(seeds: std::ops::Range<u64>) -> Vec<Kernel> {
    seeds.map(|i| Maker::kernel(i * 7919, true)).collect()
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

/// Compiles kernels for 64-bit Arm; links them into one program and runs it where a cross compiler and an emulator are installed, and
/// compares with the interpreter.
pub(in crate::codegen) fn check_emulated(emitter: Emitter, kernels: &[Kernel], seed: u64) {
    use crate::codegen::{EntryOptions, define_program, target::Usage};
    use cranelift_object::{ObjectBuilder, ObjectModule};
    use std::process::Command;

    let machine = Machine::aarch64();
    let mut cases = Cases::new(kernels, seed);
    cases.program.emitter = emitter;
    let expected: Vec<_> = (0..kernels.len()).map(|i| cases.expected(i, true)).collect();
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
    report(&machine, &wrong);
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

use crate::codegen::{Executable, IoBuffer, Level, Machine, Memory, Place, Program, Status, Step};
use crate::nest::{Access, Affine, BinaryOp, Builder, CompareOp, Cond, Index, Kernel, Op, Reg, Scalar, UnaryOp, VecType};
use crate::tensor::{DType, Tensor};

/// The levels that this machine can execute.
fn machines() -> Vec<Machine> {
    Level::X86_64.map(Machine::x86_64).into_iter().chain([Machine::aarch64()]).filter(|m| m.check_host().is_ok()).collect()
}

/// A program of one step: read buffers are inputs, the others outputs.
fn program(kernel: &Kernel) -> Program {
    let mut p = Program { kernels: vec![kernel.clone()], ..Program::default() };
    let mut args = vec![];
    for b in &kernel.buffers {
        let io = IoBuffer { name: b.name.clone(), bytes: b.len * b.dtype.size_bytes() };
        if b.access == Access::Read {
            args.push(Place::Input(p.inputs.len(), 0));
            p.inputs.push(io);
        } else {
            args.push(Place::Output(p.outputs.len(), 0));
            p.outputs.push(io);
        }
    }
    p.steps.push(Step { label: kernel.name.clone(), kernel: 0, args });
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

fn contraction(mr: usize, nv: usize, unroll: usize, k: usize) -> Kernel {
    let n = nv * 4;
    let mut b = Builder::new("contract", format!("contract(mr={mr} nr={n})"));
    let (a, w, c) =
        (b.buffer("a", F, mr * k, Access::Read), b.buffer("b", F, k * n, Access::Read), b.buffer("c", F, mr * n, Access::Write));
    let ty = VecType { dtype: F, lanes: 4 };
    let acc: Vec<Reg> = (0..mr * nv).map(|_| b.float(ty, 0.0)).collect();
    b.for_loop("k", 0..k as i64, unroll as i64, |b, kv| {
        for u in 0..unroll {
            let ws: Vec<Reg> = (0..nv).map(|v| b.load(w, Affine::var(kv).times(n as i64).offset((u * n + v * 4) as i64), 4)).collect();
            for r in 0..mr {
                let x = b.load(a, Affine::var(kv).offset((r * k + u) as i64), 1);
                let x = b.splat(x, 4);
                for v in 0..nv {
                    b.set(acc[r * nv + v], Op::Fma(x, ws[v], acc[r * nv + v]));
                }
            }
        }
    });
    for r in 0..mr {
        for v in 0..nv {
            b.store(c, Affine::constant((r * n + v * 4) as i64), acc[r * nv + v]);
        }
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
        let (status, memory) = run_on(&machine, &contraction(mr, nv, 4, k), &[f32s(&a), f32s(&w)]);
        assert_eq!(status, Ok(()));
        assert_eq!(as_f32s(memory.outputs[0].as_slice()), expected, "{machine}");
    }
}

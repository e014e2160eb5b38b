//! The last oracle of operator tests: the lowered program scheduled, verified, interpreted as a nest and run as machine code.

use tinsmith_targets::Feature;

use crate::codegen::jit::Executable;
use crate::codegen::program::{Emitter, IoBuffer, Place, Program, Step};
use crate::codegen::target::{Level, Machine};
use crate::codegen::wide;
use crate::expr;
use crate::lower::combine;
use crate::nest;
use crate::schedule::{self, Arg, Dot, Memory, Source, Storage, schedule};
use crate::tensor::{DType, Tensor, dense_strides, n_elements};

/// The ways to machine code that this machine can execute: Cranelift, and the wide emitter at each of its levels.
pub(crate) fn targets() -> Vec<(Machine, Emitter, schedule::Machine)> {
    let mut all = vec![(Machine::native(), Emitter::Clif, schedule::Machine::vector128(16, true))];
    let level = Machine::x86_64;
    let with_dots = |m: Machine| Machine { target: m.target.with(Feature::Avx512vnni), ..m };
    for (machine, n_registers, dot) in [
        (level(Level::V2), 16, Dot::Pairs),
        (level(Level::V3), 16, Dot::Pairs),
        (level(Level::V4), 32, Dot::Pairs),
        (with_dots(level(Level::V4)), 32, Dot::Quads),
    ] {
        if let (Some(isa), Ok(())) = (wide::Isa::of(&machine), machine.check_host()) {
            all.push((machine, Emitter::Auto, schedule::Machine { dot, ..schedule::Machine::wide(isa.lanes(), n_registers) }));
        }
    }
    all
}

/// Runs a program as machine code. `Ok(None)` where half floats round elsewhere than in the interpreter.
pub(crate) fn run(
    program: &expr::Program,
    operands: &[Tensor],
    constant: bool,
    machine: &Machine,
    emitter: Emitter,
    schedule_for: &schedule::Machine,
) -> Result<Option<Vec<Tensor>>, String> {
    if program.tensors.iter().any(|t| matches!(t.dtype, DType::F16 | DType::BF16)) {
        return Ok(None);
    }
    let mut program = program.clone();
    combine(&mut program, &|_| constant);
    expr::simplify(&mut program);
    let memory = |id: usize, name: &str, dtype: DType, dims: &[usize]| Memory {
        storage: Storage { id, name: name.to_owned(), dtype, len: n_elements(dims) },
        offset: 0,
        strides: dense_strides(dims, &(0..dims.len()).collect::<Vec<_>>()),
    };
    let sources = operands
        .iter()
        .enumerate()
        .map(|(i, t)| if constant { Source::Constant(t.clone()) } else { Source::Memory(memory(i, &format!("x{i}"), t.dtype(), t.dims())) })
        .collect();
    let decls: Vec<_> = program.results.iter().map(|t| program.tensors[t.0 as usize].clone()).collect();
    let n = operands.len();
    let results = decls.iter().enumerate().map(|(j, d)| memory(n + j, &format!("y{j}"), d.dtype, &d.dims)).collect();
    let scheduled = match schedule("op", &program, sources, results, schedule_for) {
        Ok(s) => s,
        Err(e) => return Err(format!("schedule: {e}")),
    };
    let errors = nest::verify(&scheduled.kernel);
    if !errors.is_empty() {
        return Err(format!("verify: {errors:?}\n{}", scheduled.kernel));
    }
    let inputs = operands.iter().map(|t| IoBuffer { name: "x".to_owned(), bytes: t.bytes().len(), dims: vec![] }).collect();
    let outputs =
        decls.iter().map(|d| IoBuffer { name: d.name.clone(), bytes: n_elements(&d.dims) * d.dtype.size_bytes(), dims: vec![] }).collect();
    let mut target = Program { inputs, outputs, emitter, ..Program::default() };
    let mut args = vec![];
    for arg in &scheduled.args {
        args.push(match arg {
            Arg::Storage(i) if *i < n => Place::Input(*i, 0),
            Arg::Storage(i) => Place::Output(i - n, 0),
            Arg::Scratch(bytes) => {
                let at = target.workspace_bytes;
                target.workspace_bytes += bytes.next_multiple_of(64);
                Place::Arena(at)
            }
            Arg::Input(_) | Arg::Output(_) => return Err("a port in a kernel of one operator".to_owned()),
            Arg::Constant(t) => Place::Constant(target.constant("c", t.clone()), 0),
        });
    }
    let kernel = target.kernel(scheduled.kernel.clone());
    target.steps.push(Step { label: "op".to_owned(), kernel, args, sizes: vec![] });
    let exe = Executable::new(&target, machine).map_err(|e| format!("codegen: {e}\n{}", scheduled.kernel))?;
    let mut memory = exe.memory();
    memory.workspace.as_mut_slice().fill(0xFF);
    for (to, from) in memory.inputs.iter_mut().zip(operands) {
        to.as_mut_slice().copy_from_slice(from.bytes());
    }
    exe.run(&mut memory).map_err(|s| format!("status {s:?}"))?;
    Ok(Some(decls.iter().zip(&memory.outputs).map(|(d, bytes)| Tensor::from_bytes(d.dtype, &d.dims, bytes.as_slice())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_chains_that_use_each_value_twice_compile() {
        let mut b = expr::Builder::new();
        let mut x = b.operand("x", DType::F32, &[8]);
        for _ in 0..60 {
            x = b.map(&[x], |v| &v[0] - &(&(&v[0] * &v[0]) * 0.25));
        }
        let program = b.finish(&[x]);
        let values: Vec<f32> = (0..8).map(|i| i as f32 / 8.0).collect();
        let operands = [Tensor::from_slice(&[8], &values)];
        let expected = expr::eval(&program, &operands).unwrap();
        for (machine, emitter, schedule_for) in targets() {
            let got = run(&program, &operands, false, &machine, emitter, &schedule_for).unwrap().unwrap();
            crate::ops::check::assert_close(&got[0], &expected[0]);
        }
    }
}

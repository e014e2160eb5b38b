//! The last oracle of operator tests: the lowered program scheduled, verified, interpreted as a nest and run as machine code, for every
//! level of this machine.

use tinsmith_targets::Feature;

use crate::codegen::jit::Executable;
use crate::codegen::program::{Emitter, IoBuffer, Place, Program, Step};
use crate::codegen::target::{Level, Machine};
use crate::codegen::testing::{can_run, wide_levels};
use crate::codegen::wide;
use crate::expr::{self, TensorDecl};
use crate::lower::combine;
use crate::nest::{self, Buffer};
use crate::ops::check::difference;
use crate::schedule::{self, Arg, Dot, Memory, Scheduled, Source, Storage, schedule};
use crate::tensor::{DType, Tensor, dense_strides, n_elements};

/// A way to machine code, and the schedule for it.
pub(crate) struct Target {
    pub(crate) machine: Machine,
    pub(crate) emitter: Emitter,
    schedule: schedule::Machine,
}

/// The ways that this machine can execute, Cranelift at the least level and at its own, and the wide emitter at each of its levels; the
/// others are named.
pub(crate) fn targets() -> Vec<Target> {
    let clif =
        |machine: Machine| Target { schedule: schedule::Machine::vector128(16, machine.target.has_fma()), machine, emitter: Emitter::Clif };
    let wide = |machine: Machine| {
        let isa = wide::Isa::of(&machine)?;
        let (n_registers, quads) = (if isa == wide::Isa::V4 { 32 } else { 16 }, machine.target.has(Feature::Avx512vnni));
        let dot = if quads { Dot::Quads } else { Dot::Pairs };
        let schedule = schedule::Machine { dot, ..schedule::Machine::wide(isa.lanes(), n_registers) };
        Some(Target { machine, emitter: Emitter::Auto, schedule })
    };
    let all = [Machine::x86_64(Level::Base), Machine::native()].into_iter().map(clif).chain(wide_levels().into_iter().filter_map(wide));
    all.filter(|t| can_run(&t.machine)).collect()
}

/// Schedules a program, interprets the nest, and runs it as machine code, which must give the same.
pub(crate) fn run(program: &expr::Program, operands: &[Tensor], constant: bool, on: &Target) -> Result<Vec<Tensor>, String> {
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
    let scheduled = match schedule("op", &program, sources, results, &on.schedule) {
        Ok(s) => s,
        Err(e) => return Err(format!("schedule: {e}")),
    };
    let errors = nest::verify(&scheduled.kernel);
    if !errors.is_empty() {
        return Err(format!("verify: {errors:?}\n{}", scheduled.kernel));
    }
    let results = interpret(&scheduled, operands, &decls, on.machine.target.has_fma())?;
    let inputs = operands.iter().map(|t| IoBuffer { name: "x".to_owned(), bytes: t.bytes().len(), dims: vec![] }).collect();
    let outputs =
        decls.iter().map(|d| IoBuffer { name: d.name.clone(), bytes: n_elements(&d.dims) * d.dtype.size_bytes(), dims: vec![] }).collect();
    let mut target = Program { inputs, outputs, emitter: on.emitter, ..Program::default() };
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
    let exe = Executable::new(&target, &on.machine).map_err(|e| format!("codegen: {e}\n{}", scheduled.kernel))?;
    let mut memory = exe.memory();
    memory.workspace.as_mut_slice().fill(0xFF);
    for (to, from) in memory.inputs.iter_mut().zip(operands) {
        to.as_mut_slice().copy_from_slice(from.bytes());
    }
    exe.run(&mut memory).map_err(|s| format!("status {s:?}"))?;
    for (d, (bytes, interpreted)) in decls.iter().zip(memory.outputs.iter().zip(&results)) {
        let compiled = Tensor::from_bytes(d.dtype, &d.dims, bytes.as_slice());
        if let Some(difference) = difference(&compiled, interpreted, Some((0.0, 0.0))) {
            return Err(format!("compiled, not as interpreted: {difference}\n{}", scheduled.kernel));
        }
    }
    Ok(results)
}

/// What the interpreter of nests makes of the operands.
fn interpret(scheduled: &Scheduled, operands: &[Tensor], decls: &[TensorDecl], fused: bool) -> Result<Vec<Tensor>, String> {
    let contents = |(arg, buffer): (&Arg, &Buffer)| match arg {
        Arg::Storage(i) if *i < operands.len() => operands[*i].bytes().to_vec(),
        Arg::Constant(t) => t.bytes().to_vec(),
        _ => vec![0xFF; buffer.len * buffer.dtype.size_bytes()],
    };
    let mut buffers: Vec<Vec<u8>> = scheduled.args.iter().zip(&scheduled.kernel.buffers).map(contents).collect();
    nest::eval_with(&scheduled.kernel, &mut buffers, fused).map_err(|e| format!("interpreted: {e}\n{}", scheduled.kernel))?;
    let result = |(j, d): (usize, &TensorDecl)| {
        let at = scheduled.args.iter().position(|a| matches!(a, Arg::Storage(i) if *i == operands.len() + j)).expect("a result");
        Tensor::from_bytes(d.dtype, &d.dims, &buffers[at])
    };
    Ok(decls.iter().enumerate().map(result).collect())
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
        for target in targets() {
            let got = run(&program, &operands, false, &target).unwrap();
            crate::ops::check::assert_close(&got[0], &expected[0]);
        }
    }
}

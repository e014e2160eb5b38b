//! One program for a range of sizes: at every size it does what the operators' own definitions say, whatever lay in its memory before.

use std::collections::BTreeSet;

use super::{Net, WAYS, can_run, random};
use crate::codegen::jit::Executable;
use crate::codegen::target::{Level, Machine};
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Severity};
use crate::graph::{Graph, Value, eval};
use crate::ops::Attribute;
use crate::pipeline::{Compiled, Emitter, Options, Probes, Tuned, compile_range, lower_and_schedule_for, run_passes};
use crate::schedule::Convolution;
use crate::tensor::{DType, Parameter, Tensor};

pub(super) type Build<'a> = &'a dyn Fn(&[i64]) -> Graph;

pub(super) fn parameters(ranges: &[(&str, i64, i64)]) -> Vec<Parameter> {
    ranges.iter().map(|&(name, low, high)| Parameter::new(name, low, high, 1)).collect()
}

/// The program for a range, in all ways.
pub(super) fn compile(parameters: &[Parameter], build: Build<'_>) -> Result<Vec<Compiled>, Vec<Diagnostic>> {
    compile_as(parameters, Convolution::Fastest, build)
}

/// The same with convolutions in one way.
fn compile_as(parameters: &[Parameter], convolution: Convolution, build: Build<'_>) -> Result<Vec<Compiled>, Vec<Diagnostic>> {
    let config = Config::default();
    let mut read = |at: &[i64], _: &BTreeSet<String>| Ok((build(at), ()));
    let mut all = |graph: Graph, (): (), probes: &Probes| {
        let (graph, _) = run_passes(graph, &config, &mut |_, _| {});
        let one = |&(level, emitter): &(Level, Emitter)| {
            let options = Options { emitter, convolution, ..Options::default() };
            lower_and_schedule_for(graph.clone(), Some(probes), &Machine::x86_64(level), options, &Tuned::default(), &[])
        };
        WAYS.iter().map(one).collect()
    };
    compile_range(parameters, &config, &mut read, &mut all, Vec::as_slice)
}

pub(super) fn check(ranges: &[(&str, i64, i64)], at: &[&[i64]], build: Build<'_>) {
    check_as(&parameters(ranges), Convolution::Fastest, at, build);
}

/// Compares the program for a range with the interpreter, in all ways and at many sizes.
pub(super) fn check_for(parameters: &[Parameter], at: &[&[i64]], build: Build<'_>) {
    check_as(parameters, Convolution::Fastest, at, build);
}

/// The same with convolutions in one way.
pub(super) fn check_as(parameters: &[Parameter], convolution: Convolution, at: &[&[i64]], build: Build<'_>) {
    let all = compile_as(parameters, convolution, build).unwrap_or_else(|problems| panic!("{problems:?}"));
    if let Convolution::Winograd(..) = convolution {
        for (way, compiled) in WAYS.iter().zip(&all) {
            assert!(compiled.program.kernels.iter().any(|k| k.schedule.contains("winograd(")), "{way:?}");
        }
    }
    for ((level, emitter), compiled) in WAYS.into_iter().zip(all) {
        let machine = Machine::x86_64(level);
        if !can_run(&machine) {
            continue;
        }
        let exe = Executable::new(&compiled.program, &machine).unwrap_or_else(|e| panic!("{e}"));
        for &sizes in at {
            let graph = build(sizes);
            let inputs = inputs_of(&graph);
            let expected = eval(&graph, &inputs).unwrap_or_else(|e| panic!("{e}"));
            let mut memory = exe.memory();
            memory.sizes = sizes.to_vec();
            memory.workspace.as_mut_slice().fill(0xff);
            for (buffer, tensor) in memory.inputs.iter_mut().zip(&inputs) {
                buffer.as_mut_slice().fill(0xff);
                buffer.as_mut_slice()[..tensor.bytes().len()].copy_from_slice(tensor.bytes());
            }
            memory.outputs.iter_mut().for_each(|b| b.as_mut_slice().fill(0xaa));
            exe.run(&mut memory).unwrap_or_else(|e| panic!("{sizes:?}: {e}"));
            for (j, want) in expected.iter().enumerate() {
                let (found, rest) = memory.outputs[j].as_slice().split_at(want.bytes().len());
                let found = Tensor::from_bytes(want.dtype(), want.dims(), found);
                for (i, (a, b)) in found.to_f64s().iter().zip(want.to_f64s()).enumerate() {
                    let same = *a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-4 * (1.0 + b.abs());
                    assert!(same, "{sizes:?} {level:?} {emitter:?}: element {i} is {a}, not {b}");
                }
                assert!(rest.iter().all(|&b| b == 0xaa), "{sizes:?} {level:?} {emitter:?}: written past the end");
            }
        }
        for (i, p) in parameters.iter().enumerate() {
            for outside in [p.low - 1, p.high + 1, -1, i64::MAX] {
                let mut memory = exe.memory();
                memory.sizes[i] = outside;
                assert_eq!(exe.run(&mut memory).map_err(|s| s.0), Err(4), "{outside}");
            }
        }
    }
}

impl Net {
    pub(super) fn with_outputs(mut self, outputs: &[Value]) -> Graph {
        self.set_outputs(outputs);
        self.graph
    }
}

/// Random floats; flags and numbers of iterations follow from the number of the input.
fn inputs_of(graph: &Graph) -> Vec<Tensor> {
    let value = |(i, &v): (usize, &Value)| {
        let ty = graph.ty(v);
        let dims = ty.dims().unwrap();
        match ty.dtype {
            DType::F32 => random(100 + i as u64, &dims),
            dtype => {
                Tensor::from_f64s(dtype, &dims, &vec![(i % 2) as f64 + f64::from(u8::from(dtype == DType::I64)); dims.iter().product()])
            }
        }
    };
    graph.inputs().iter().enumerate().map(value).collect()
}

pub(super) fn n(x: i64) -> usize {
    usize::try_from(x).expect("an extent")
}

#[test]
fn batches_of_a_perceptron() {
    check(&[("batch", 1, 40)], &[&[1], &[2], &[7], &[13], &[31], &[40]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 37]);
        let w = net.weight(&[37, 53]);
        let y = net.op("MatMul", &[x, w], &[]);
        let y = net.op("Relu", &[y], &[]);
        let w = net.weight(&[53, 10]);
        let y = net.op("MatMul", &[y, w], &[]);
        let y = net.op("Softmax", &[y], &[("axis", Attribute::Int(-1))]);
        net.with_outputs(&[y])
    });
}

#[test]
fn what_is_other_at_the_least_sizes_is_refused_by_name() {
    // A sum that broadcasts where one of two sizes is 1, but not where they are equal.
    let problems = compile(&parameters(&[("n", 1, 20)]), &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 8]);
        let (starts, ends) = (net.ints(&[0]), net.ints(&[2]));
        let y = net.op("Slice", &[x, starts, ends], &[]);
        let y = net.op("Relu", &[y], &[]);
        net.with_outputs(&[y])
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("with n=1 its result has extents [1, 8], not [2, 8]"), "{}", problems[0]);
    // The shape of an input is a constant at every size, but not the same.
    let problems = compile(&parameters(&[("n", 1, 20)]), &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 8]);
        let y = net.op("Shape", &[x], &[]);
        net.with_outputs(&[y])
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("depend on the sizes alone"), "{}", problems[0]);
}

#[test]
fn what_is_small_enough_to_be_computed_at_some_sizes_is_the_same_program() {
    // As a reader folds it: a filled tensor that is a constant while it is small.
    check(&[("b", 1, 3), ("s", 1, 40)], &[&[1, 1], &[2, 7], &[3, 40]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), n(at[1]), 4]);
        let shape = net.ints(&[at[0], 1, 4]);
        let filled = match at[0] {
            0..4 => net.graph.add_constant("filled", Tensor::from_f64s(DType::F32, &[n(at[0]), 1, 4], &vec![1.5; n(at[0]) * 4])),
            _ => {
                let v = net.graph.add_constant("value", Tensor::from_f64s(DType::F32, &[1], &[1.5]));
                net.op("Expand", &[v, shape], &[])
            }
        };
        let y = net.op("Add", &[x, filled], &[]);
        net.with_outputs(&[y])
    });
}

#[test]
fn constants_that_the_reader_made_one_while_they_were_small_are_one() {
    let parameters = parameters(&[("b", 1, 3), ("s", 1, 40)]);
    let build = |at: &[i64]| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), n(at[1]), 4]);
        let zeros = || Tensor::from_f64s(DType::F32, &[n(at[0]), 1, 4], &vec![0.5; n(at[0]) * 4]);
        let a = net.graph.add_constant("a", zeros());
        let b = if at[0] < 4 { a } else { net.graph.add_constant("b", zeros()) };
        let y = net.op("Add", &[x, a], &[]);
        let y = net.op("Mul", &[y, b], &[]);
        net.with_outputs(&[y])
    };
    check_for(&parameters, &[&[1, 1], &[2, 7], &[3, 40]], &build);
}

/// A table of places, say, ends where the range does: nothing is read for more, and 16 is a power of two.
#[test]
fn a_model_that_cannot_be_read_beyond_its_range_is_stored_for_the_greatest_size() {
    let build = |at: &[i64]| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 6]);
        let (table, from, to) = (net.weight(&[16, 6]), net.ints(&[0]), net.ints(at));
        let places = net.op("Slice", &[table, from, to], &[]);
        let y = net.op("Add", &[x, places], &[]);
        let mean = net.op("ReduceMean", &[y], &[("keepdims", Attribute::Int(0))]);
        net.with_outputs(&[y, mean])
    };
    let config = Config::default();
    let beyond = || vec![Diagnostic::new("invalid-model", Severity::Unsupported, "", "no such place")];
    let mut read = |at: &[i64], _: &BTreeSet<String>| if at[0] > 16 { Err(beyond()) } else { Ok((build(at), ())) };
    let mut sizes = vec![];
    let mut compile = |_: Graph, (): (), probes: &Probes| {
        sizes.push(probes.sizes[0].clone());
        Ok::<_, Vec<Diagnostic>>(())
    };
    compile_range(&parameters(&[("n", 1, 16)]), &config, &mut read, &mut compile, Vec::as_slice).unwrap();
    assert_eq!(sizes.last(), Some(&vec![16]));
}

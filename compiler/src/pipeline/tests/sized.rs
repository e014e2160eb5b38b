//! One program for a range of sizes: at every size it does what the operators' own definitions say, whatever lay in its memory before.

use super::{Net, ints};
use crate::codegen::jit::Executable;
use crate::codegen::target::{Level, Machine};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, Value};
use crate::ops::Attribute;
use crate::pipeline::{Compiled, Emitter, Options, Probes, Tuned, compile_range, lower_and_schedule_for, run_passes};
use crate::tensor::{Parameter, Tensor};

type Build<'a> = &'a dyn Fn(&[i64]) -> (Net, Vec<Value>);

fn parameters(ranges: &[(&str, i64, i64)]) -> Vec<Parameter> {
    ranges.iter().map(|&(name, low, high)| Parameter::new(name, low, high, 1)).collect()
}

const WAYS: [(Level, Emitter); 3] = [(Level::V3, Emitter::Auto), (Level::V4, Emitter::Auto), (Level::V3, Emitter::Clif)];

/// The program for a range, in all ways.
fn compile(parameters: &[Parameter], build: Build<'_>) -> Result<Vec<Compiled>, Vec<Diagnostic>> {
    let config = Config::default();
    let mut read = |at: &[i64]| {
        let (mut net, outputs) = build(at);
        net.set_outputs(&outputs);
        Ok((net.graph, ()))
    };
    let mut all = |graph: Graph, (): (), probes: &Probes| {
        let (graph, _) = run_passes(graph, &config, &mut |_, _| {});
        let one = |&(level, emitter): &(Level, Emitter)| {
            let options = Options { emitter, ..Options::default() };
            lower_and_schedule_for(graph.clone(), Some(probes), &Machine::x86_64(level), options, &Tuned::default(), &[])
        };
        WAYS.iter().map(one).collect()
    };
    compile_range(parameters, &config, &mut read, &mut all, Vec::as_slice)
}

fn check(ranges: &[(&str, i64, i64)], at: &[&[i64]], build: Build<'_>) {
    let parameters = parameters(ranges);
    let all = compile(&parameters, build).unwrap_or_else(|problems| panic!("{problems:?}"));
    for ((level, emitter), compiled) in WAYS.into_iter().zip(all) {
        let machine = Machine::x86_64(level);
        if machine.check_host().is_err() {
            eprintln!("skipped: this CPU is not {level:?}");
            continue;
        }
        let exe = Executable::new(&compiled.program, &machine).unwrap_or_else(|e| panic!("{e}"));
        for &sizes in at {
            let (mut net, outputs) = build(sizes);
            net.set_outputs(&outputs);
            let inputs = net.inputs();
            let expected = net.evaluate(&inputs);
            let mut memory = exe.memory();
            memory.sizes = sizes.to_vec();
            memory.workspace.as_mut_slice().fill(0xff);
            for (buffer, tensor) in memory.inputs.iter_mut().zip(&inputs) {
                buffer.as_mut_slice().fill(0xff);
                buffer.as_mut_slice()[..tensor.bytes().len()].copy_from_slice(tensor.bytes());
            }
            memory.outputs.iter_mut().for_each(|b| b.as_mut_slice().fill(0xaa));
            exe.run(&mut memory).unwrap_or_else(|e| panic!("{sizes:?}: {e}"));
            for (j, &v) in outputs.iter().enumerate() {
                let want = &expected[&v];
                let (found, rest) = memory.outputs[j].as_slice().split_at(want.bytes().len());
                let found = Tensor::from_bytes(want.dtype(), want.dims(), found);
                for (i, (a, b)) in found.to_f64s().iter().zip(want.to_f64s()).enumerate() {
                    assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{sizes:?} {level:?} {emitter:?}: element {i} is {a}, not {b}");
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

fn n(x: i64) -> usize {
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
        (net, vec![y])
    });
}

#[test]
fn batches_of_images() {
    check(&[("batch", 1, 6)], &[&[1], &[3], &[5], &[6]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 3, 14, 14]);
        let w = net.weight(&[16, 3, 3, 3]);
        let y = net.op("Conv", &[x, w], &[("pads", ints(&[1, 1, 1, 1]))]);
        let y = net.op("Relu", &[y], &[]);
        let w = net.weight(&[16, 1, 3, 3]);
        let y = net.op("Conv", &[y, w], &[("pads", ints(&[1, 1, 1, 1])), ("group", Attribute::Int(16)), ("strides", ints(&[2, 2]))]);
        let z = net.op("MaxPool", &[y], &[("kernel_shape", ints(&[3, 3])), ("pads", ints(&[1, 1, 1, 1]))]);
        let y = net.op("Add", &[y, z], &[]);
        let y = net.op("GlobalAveragePool", &[y], &[]);
        let y = net.op("Flatten", &[y], &[]);
        (net, vec![z, y])
    });
}

#[test]
fn widths_of_an_image_with_padding() {
    check(&[("batch", 1, 3), ("width", 5, 61)], &[&[1, 5], &[2, 17], &[3, 38], &[1, 61]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 4, 6, n(at[1])]);
        let w = net.weight(&[8, 4, 3, 3]);
        let y = net.op("Conv", &[x, w], &[("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))]);
        let y = net.op("Relu", &[y], &[]);
        let w = net.weight(&[12, 8, 3, 3]);
        let y = net.op("Conv", &[y, w], &[("pads", ints(&[1, 1, 1, 1]))]);
        let z = net.op("GlobalAveragePool", &[y], &[]);
        (net, vec![y, z])
    });
}

#[test]
fn lengths_of_attention() {
    check(&[("batch", 1, 3), ("seq", 1, 70)], &[&[1, 1], &[2, 7], &[1, 16], &[3, 31], &[2, 64], &[3, 70]], &|at| {
        let (b, s) = (n(at[0]), n(at[1]));
        let mut net = Net::new();
        let x = net.input(&[b, s, 32]);
        let heads = |net: &mut Net| {
            let w = net.weight(&[32, 32]);
            let y = net.op("MatMul", &[x, w], &[]);
            let shape = net.ints(&[b as i64, s as i64, 4, 8]);
            let y = net.op("Reshape", &[y, shape], &[]);
            net.op("Transpose", &[y], &[("perm", ints(&[0, 2, 1, 3]))])
        };
        let (q, k, v) = (heads(&mut net), heads(&mut net), heads(&mut net));
        let k = net.op("Transpose", &[k], &[("perm", ints(&[0, 1, 3, 2]))]);
        let scores = net.op("MatMul", &[q, k], &[]);
        let scores = net.op("Softmax", &[scores], &[("axis", Attribute::Int(-1))]);
        let y = net.op("MatMul", &[scores, v], &[]);
        let y = net.op("Transpose", &[y], &[("perm", ints(&[0, 2, 1, 3]))]);
        let shape = net.ints(&[b as i64, s as i64, 32]);
        let y = net.op("Reshape", &[y, shape], &[]);
        let y = net.op("Add", &[y, x], &[]);
        let axes = net.ints(&[1]);
        let mean = net.op("ReduceMean", &[y, axes], &[]);
        let place = net.op("ArgMax", &[y], &[("axis", Attribute::Int(1))]);
        (net, vec![y, mean, place, scores])
    });
}

#[test]
fn what_mixes_sizes_is_refused_by_name() {
    let problems = compile(&parameters(&[("batch", 1, 3), ("seq", 1, 20)]), &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), n(at[1]), 8]);
        let shape = net.ints(&[at[0] * at[1], 8]);
        let y = net.op("Reshape", &[x, shape], &[]);
        let y = net.op("Relu", &[y], &[]);
        (net, vec![y])
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("joins or cuts an axis"), "{}", problems[0]);
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
        (net, vec![y])
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("with n=1 its result has extents [1, 8], not [2, 8]"), "{}", problems[0]);
    // The shape of an input is a constant at every size, but not the same.
    let problems = compile(&parameters(&[("n", 1, 20)]), &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 8]);
        let y = net.op("Shape", &[x], &[]);
        (net, vec![y])
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("depend on the sizes alone"), "{}", problems[0]);
}

#[test]
fn means_over_two_lengths() {
    check(&[("height", 1, 9), ("width", 1, 21)], &[&[1, 1], &[1, 2], &[2, 1], &[3, 17], &[9, 21], &[8, 16]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[2, 5, n(at[0]), n(at[1])]);
        let z = net.op("GlobalAveragePool", &[x], &[]);
        let y = net.op("Mul", &[x, z], &[]);
        (net, vec![y, z])
    });
}

#[test]
fn recurrences_in_both_directions() {
    check(&[("batch", 1, 3), ("time", 1, 23)], &[&[1, 1], &[3, 2], &[2, 7], &[3, 16], &[1, 23]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[1]), n(at[0]), 12]);
        let (w, r) = (net.weight(&[2, 32, 12]), net.weight(&[2, 32, 8]));
        let y = net.op("LSTM", &[x, w, r], &[("direction", Attribute::String("bidirectional".into())), ("hidden_size", Attribute::Int(8))]);
        (net, vec![y])
    });
}

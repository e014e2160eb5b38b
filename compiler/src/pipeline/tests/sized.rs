//! One program for a range of sizes: at every size it does what the operators' own definitions say, whatever lay in its memory before.

use std::collections::BTreeSet;

use super::{Net, ints, random};
use crate::codegen::jit::Executable;
use crate::codegen::target::{Level, Machine};
use crate::config::Config;
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, Value, eval, parse};
use crate::ops::Attribute;
use crate::pipeline::{Compiled, Emitter, Options, Probes, Tuned, compile_range, lower_and_schedule_for, run_passes};
use crate::schedule::Convolution;
use crate::tensor::{DType, Parameter, Tensor};

pub(super) type Build<'a> = &'a dyn Fn(&[i64]) -> Graph;

pub(super) fn parameters(ranges: &[(&str, i64, i64)]) -> Vec<Parameter> {
    ranges.iter().map(|&(name, low, high)| Parameter::new(name, low, high, 1)).collect()
}

const WAYS: [(Level, Emitter); 3] = [(Level::V3, Emitter::Auto), (Level::V4, Emitter::Auto), (Level::V3, Emitter::Clif)];

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

fn check(ranges: &[(&str, i64, i64)], at: &[&[i64]], build: Build<'_>) {
    check_as(&parameters(ranges), Convolution::Fastest, at, build);
}

/// Compares the program for a range with the interpreter, in all ways and at many sizes.
pub(super) fn check_for(parameters: &[Parameter], at: &[&[i64]], build: Build<'_>) {
    check_as(parameters, Convolution::Fastest, at, build);
}

/// The same with convolutions in one way.
fn check_as(parameters: &[Parameter], convolution: Convolution, at: &[&[i64]], build: Build<'_>) {
    let all = compile_as(parameters, convolution, build).unwrap_or_else(|problems| panic!("{problems:?}"));
    if let Convolution::Winograd(..) = convolution {
        for (way, compiled) in WAYS.iter().zip(&all) {
            assert!(compiled.program.kernels.iter().any(|k| k.schedule.contains("winograd(")), "{way:?}");
        }
    }
    for ((level, emitter), compiled) in WAYS.into_iter().zip(all) {
        let machine = Machine::x86_64(level);
        if machine.check_host().is_err() {
            eprintln!("skipped: this CPU is not {level:?}");
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

impl Net {
    fn with_outputs(mut self, outputs: &[Value]) -> Graph {
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
        net.with_outputs(&[y])
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
        net.with_outputs(&[z, y])
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
        net.with_outputs(&[y, z])
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
        net.with_outputs(&[y, mean, place, scores])
    });
}

#[test]
fn updates_and_running_sums_over_lengths() {
    check(&[("rows", 1, 70)], &[&[1], &[7], &[64], &[70]], &|at| {
        let mut net = Net::new();
        let (x, updates) = (net.input(&[n(at[0]), 24]), net.input(&[n(at[0]), 40]));
        let places = net.op("ArgMax", &[x], &[("axis", Attribute::Int(1))]);
        let table = net.weight(&[24, 40]);
        let y = net.op("ScatterND", &[table, places, updates], &[("reduction", Attribute::String("add".to_owned()))]);
        let axis = net.ints(&[1]);
        let sums = net.op("CumSum", &[x, axis], &[]);
        let down = net.ints(&[0]);
        let along = net.op("CumSum", &[x, down], &[]);
        net.with_outputs(&[y, sums, along])
    });
}

#[test]
fn what_a_mask_chooses_over_lengths() {
    // Places along the first axis are a table that is that of the second at some of the sizes.
    check(&[("rows", 1, 9), ("more", 1, 12)], &[&[1, 1], &[3, 5], &[5, 5], &[7, 12], &[9, 2]], &|at| {
        let mut net = Net::new();
        let (x, values) = (net.input(&[n(at[0]), 5]), net.input(&[n(at[1])]));
        let x = net.op("Relu", &[x], &[]);
        let of = net.results("ai.tinsmith.PaddedNonZero", &[x], &[], 2);
        let (places, count) = (of[0], of[1]);
        let places = net.op("Transpose", &[places], &[("perm", ints(&[1, 0]))]);
        let two = net.ints(&[2]);
        let extents = net.op("Concat", &[count, two], &[("axis", Attribute::Int(0))]);
        let few = net.op("ai.tinsmith.PaddedScatterND", &[x, places, values, extents], &[]);
        let chosen = net.op("GatherND", &[x, places], &[]);
        let y = net.op("ai.tinsmith.PaddedScatterND", &[x, places, chosen, extents], &[("reduction", Attribute::String("add".to_owned()))]);
        net.with_outputs(&[few, y])
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
fn means_over_two_lengths() {
    check(&[("height", 1, 9), ("width", 1, 21)], &[&[1, 1], &[1, 2], &[2, 1], &[3, 17], &[9, 21], &[8, 16]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[2, 5, n(at[0]), n(at[1])]);
        let z = net.op("GlobalAveragePool", &[x], &[]);
        let y = net.op("Mul", &[x, z], &[]);
        net.with_outputs(&[y, z])
    });
}

#[test]
fn recurrences_in_both_directions() {
    check(&[("batch", 1, 3), ("time", 1, 23)], &[&[1, 1], &[3, 2], &[2, 7], &[3, 16], &[1, 23]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[1]), n(at[0]), 12]);
        let (w, r) = (net.weight(&[2, 32, 12]), net.weight(&[2, 32, 8]));
        let y = net.op("LSTM", &[x, w, r], &[("direction", Attribute::String("bidirectional".into())), ("hidden_size", Attribute::Int(8))]);
        net.with_outputs(&[y])
    });
}

#[test]
fn recurrences_over_a_quotient() {
    check(&[("width", 3, 67)], &[&[3], &[4], &[8], &[33], &[64], &[67]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[1, 3, 4, n(at[0])]);
        let w = net.weight(&[5, 3, 4, 3]);
        let y = net.op("Conv", &[x, w], &[("pads", ints(&[0, 1, 0, 1])), ("strides", ints(&[4, 4]))]);
        let y = net.op("Transpose", &[y], &[("perm", ints(&[3, 0, 1, 2]))]);
        let shape = net.ints(&[0, 1, 5]);
        let y = net.op("Reshape", &[y, shape], &[]);
        let (w, r) = (net.weight(&[2, 32, 5]), net.weight(&[2, 32, 8]));
        let y = net.op("LSTM", &[y, w, r], &[("direction", Attribute::String("bidirectional".into())), ("hidden_size", Attribute::Int(8))]);
        net.with_outputs(&[y])
    });
}

#[test]
fn pools_that_some_sizes_pad() {
    for (high, fused) in [(30, false), (30, true), (41, false), (41, true)] {
        check(&[("height", 1, high), ("width", 1, 21)], &[&[1, 1], &[2, 1], &[4, 4], &[5, 6], &[29, 21], &[high, 20]], &|at| {
            let mut net = Net::new();
            let x = net.input(&[1, 5, n(at[0]), n(at[1])]);
            let y = if fused { net.op("Relu", &[x], &[]) } else { x };
            let same = ("auto_pad", Attribute::String("SAME_UPPER".into()));
            let y = net.op("MaxPool", &[y], &[("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2])), same]);
            let y = net.op("Relu", &[y], &[]);
            net.with_outputs(&[y])
        });
    }
}

#[test]
fn padding_around_nothing() {
    check(&[("s", 1, 29)], &[&[1], &[2], &[3], &[16], &[29]], &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 3]);
        let (from, to, pads) = (net.ints(&[1]), net.ints(&[i64::MAX]), net.ints(&[0, 0, 2, 0]));
        let y = net.op("Slice", &[x, from, to], &[]);
        let y = net.op("Pad", &[y, pads], &[]);
        net.with_outputs(&[y])
    });
}

#[test]
fn branches_over_lengths() {
    for flag in [0, 1] {
        let first = ["%f: bool[], %g: bool[]", "%g: bool[], %f: bool[]"][flag];
        check(&[("b", 1, 3), ("s", 1, 21)], &[&[1, 1], &[2, 1], &[3, 2], &[2, 16], &[1, 20], &[3, 21]], &|at| {
            let (b, s) = (at[0], at[1]);
            let text = format!(
                "graph @g({first}, %x: f32[{b},{s},8]) -> (%z) {{
                  %u = Relu(%x)
                  %y = if(%f, %u) then graph @yes(%u: f32[{b},{s},8]) -> (%y) {{
                    @k = const rand(3) : f32[8,8]
                    %m = MatMul(%u, @k)
                    %y = Softmax(%m) axis=1
                  }} else graph @no(%u: f32[{b},{s},8]) -> (%y) {{
                    %t = Transpose(%u) perm=[0,2,1]
                    %q = MatMul(%u, %t)
                    %y = MatMul(%q, %u)
                  }}
                  %z = Add(%y, %x)
                }}"
            );
            parse(&text).unwrap()
        });
    }
}

#[test]
fn loops_over_lengths() {
    // Over slices, a number of times that an input says, and as often as an axis is long.
    check(&[("b", 1, 3), ("s", 1, 19)], &[&[1, 1], &[2, 1], &[1, 2], &[3, 3], &[2, 16], &[3, 19]], &|at| {
        let (b, s) = (at[0], at[1]);
        let text = format!(
            "graph @g(%n: i64[], %x: f32[{s},{b},8], %h: f32[{b},8]) -> (%last, %all, %z, %p) {{
              @k = const [{s}] : i64[1]
              %last, %all = loop(_, %h, %x) states=1 scanned=1 : f32[{b},8], f32[{s},{b},8] do graph @step(%i: i64[], %h: f32[{b},8], %e: f32[{b},8]) -> (%t, %u) {{
                @w = const rand(5) : f32[8,8]
                %m = MatMul(%h, @w)
                %a = Add(%m, %e)
                %t = Tanh(%a)
                %u = Mul(%t, %e)
              }}
              %z = loop(%n, %all) states=1 do graph @power(%i: i64[], %r: f32[{s},{b},8]) -> (%t) {{
                @half = const [0.5] : f32[1]
                %q = Mul(%r, @half)
                %t = Relu(%q)
              }}
              %p = loop(@k, %h) states=1 do graph @count(%i: i64[], %r: f32[{b},8]) -> (%t) {{
                @one = const [1] : f32[1]
                %t = Add(%r, @one)
              }}
            }}"
        );
        parse(&text).unwrap()
    });
    let problems = compile(&parameters(&[("s", 1, 19)]), &|at| {
        let s = at[0];
        let text = format!(
            "graph @g(%x: f32[{s},8], %h: f32[8]) -> (%last) {{
              %last = loop(_, %h, %x) states=1 scanned=1 backward=[1] : f32[8] do graph @step(%i: i64[], %h: f32[8], %e: f32[8]) -> (%t) {{
                %t = Add(%h, %e)
              }}
            }}"
        );
        parse(&text).unwrap()
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("goes backward over an axis"), "{}", problems[0]);
}

#[test]
fn what_differs_inside_a_branch_is_refused_by_name() {
    let problems = compile(&parameters(&[("n", 1, 20)]), &|at| {
        let s = at[0];
        let least = s.min(2);
        let text = format!(
            "graph @g(%f: bool[], %x: f32[{s},8]) -> (%y) {{
              %y = if(%f, %x) then graph @yes(%x: f32[{s},8]) -> (%y) {{
                @from = const [0] : i64[1]
                @to = const [{least}] : i64[1]
                %c = Slice(%x, @from, @to)
                %m = ReduceMax(%c) keepdims=1
                %y = Add(%x, %m)
              }} else graph @no(%x: f32[{s},8]) -> (%y) {{
                %y = Relu(%x)
              }}
            }}"
        );
        parse(&text).unwrap()
    })
    .unwrap_err();
    assert!(problems[0].to_string().contains("with n=1"), "{}", problems[0]);
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

/// Windows over an axis that varies: short ones, down to images that are all border.
#[test]
fn windows_of_an_image_of_any_width() {
    let widths: Vec<Vec<i64>> = (1..=19).chain([26, 39, 47]).map(|w| vec![1 + w % 2, w]).collect();
    let at: Vec<&[i64]> = widths.iter().map(Vec::as_slice).collect();
    check(&[("batch", 1, 2), ("width", 1, 47)], &at, &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), 24, 7, n(at[1])]);
        let depthwise = |net: &mut Net, x: Value, taps: i64, pads: [i64; 4], strides: [i64; 2]| {
            let w = net.weight(&[24, 1, n(taps), n(taps)]);
            let y = net.op("Conv", &[x, w], &[("pads", ints(&pads)), ("group", Attribute::Int(24)), ("strides", ints(&strides))]);
            net.op("Relu", &[y], &[])
        };
        let a = depthwise(&mut net, x, 3, [1, 1, 1, 1], [1, 1]);
        let b = depthwise(&mut net, a, 5, [2, 2, 2, 2], [2, 1]);
        let c = depthwise(&mut net, a, 3, [1, 1, 1, 1], [1, 2]);
        let d = depthwise(&mut net, a, 5, [2, 2, 2, 2], [1, 2]);
        let e = net.op("MaxPool", &[a], &[("kernel_shape", ints(&[3, 3])), ("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 1]))]);
        let w = net.weight(&[20, 24, 1, 3]);
        let f = net.op("Conv", &[b, w], &[("pads", ints(&[0, 1, 0, 1]))]);
        net.with_outputs(&[b, c, d, e, f])
    });
}

/// Quotients by more than there are sizes side by side.
#[test]
fn windows_far_apart_of_a_signal_of_any_length() {
    let lengths: Vec<Vec<i64>> = [210, 211, 259, 260, 261, 339, 340, 341, 499, 500, 659, 660, 899, 900].map(|n| vec![n]).to_vec();
    let at: Vec<&[i64]> = lengths.iter().map(Vec::as_slice).collect();
    check(&[("length", 210, 900)], &at, &|at| {
        let mut net = Net::new();
        let x = net.input(&[1, 1, n(at[0])]);
        let w = net.weight(&[3, 1, 100]);
        let a = net.op("Conv", &[x, w], &[("strides", ints(&[80]))]);
        let b = net.op("Conv", &[x, w], &[("strides", ints(&[90])), ("pads", ints(&[50, 50]))]);
        let c = net.op("Relu", &[a], &[]);
        net.with_outputs(&[b, c])
    });
}

/// Means over an axis whose extent is a quotient, and a power of two for some of the lengths that a model is read for.
#[test]
fn means_over_windows_of_a_signal_of_any_length() {
    let lengths: Vec<Vec<i64>> = [40, 41, 84, 85, 94, 95, 174, 175, 184, 334, 335, 344, 345, 399, 400].map(|n| vec![n]).to_vec();
    let at: Vec<&[i64]> = lengths.iter().map(Vec::as_slice).collect();
    check(&[("length", 40, 400)], &at, &|at| {
        let mut net = Net::new();
        let x = net.input(&[1, 2, n(at[0])]);
        let mut windows = |x, taps, stride| {
            let w = net.weight(&[2, 2, taps]);
            net.op("Conv", &[x, w], &[("strides", ints(&[stride]))])
        };
        let a = windows(x, 10, 5);
        let b = windows(a, 3, 2);
        let axis = net.ints(&[2]);
        let means = [a, b].map(|v| net.op("ReduceMean", &[v, axis], &[]));
        net.with_outputs(&means)
    });
}

/// A product whose weights are far: panels are outermost, or only while there are few rows.
#[test]
fn rows_of_products_with_many_columns() {
    let sizes = [[1, 1], [1, 13], [1, 14], [1, 15], [1, 29], [2, 31], [3, 64], [4, 97], [4, 200]];
    let at: Vec<&[i64]> = sizes.iter().map(<[i64; 2]>::as_slice).collect();
    check(&[("batch", 1, 4), ("rows", 1, 200)], &at, &|at| {
        let mut net = Net::new();
        let x = net.input(&[n(at[0]), n(at[1]), 200]);
        let w = net.weight(&[200, 300]);
        let y = net.op("MatMul", &[x, w], &[]);
        let w = net.weight(&[200, 1000]);
        let z = net.op("MatMul", &[x, w], &[]);
        net.with_outputs(&[y, z])
    });
}

/// Few rows: tiles of fewer rows than the others are wider, and begin where panels do.
#[test]
fn few_rows_of_products_with_panels_of_any_width() {
    for columns in [24, 100, 258, 330] {
        check(&[("rows", 1, 9)], &[&[1], &[2], &[3], &[5], &[7], &[9]], &|at| {
            let mut net = Net::new();
            let x = net.input(&[n(at[0]), 40]);
            let w = net.weight(&[40, columns]);
            let y = net.op("MatMul", &[x, w], &[]);
            net.with_outputs(&[y])
        });
    }
}

/// Blocks of rows that attention is computed in, with what is left over.
#[test]
fn lengths_of_attention_in_blocks() {
    let sizes = [[1, 1], [2, 15], [1, 16], [1, 17], [2, 33], [1, 47], [2, 64]];
    let at: Vec<&[i64]> = sizes.iter().map(<[i64; 2]>::as_slice).collect();
    check(&[("batch", 1, 2), ("length", 1, 64)], &at, &|at| {
        let mut net = Net::new();
        let [q, k, v] = [(); 3].map(|()| net.input(&[n(at[0]), 3, n(at[1]), 20]));
        let k = net.op("Transpose", &[k], &[("perm", ints(&[0, 1, 3, 2]))]);
        let s = net.op("MatMul", &[q, k], &[]);
        let s = net.op("Softmax", &[s], &[("axis", Attribute::Int(-1))]);
        let y = net.op("MatMul", &[s, v], &[]);
        net.with_outputs(&[y])
    });
}

/// A convolution between others, so that its channels are innermost.
fn convolution_of(image: [usize; 3], taps: [usize; 2], pads: [i64; 4]) -> Graph {
    let mut net = Net::new();
    let [batch, height, width] = image;
    let x = net.input(&[batch, 12, height, width]);
    let w = net.weight(&[20, 12, 1, 1]);
    let y = net.op("Conv", &[x, w], &[]);
    let w = net.weight(&[36, 20, taps[0], taps[1]]);
    let y = net.op("Conv", &[y, w], &[("pads", ints(&pads))]);
    let y = net.op("Relu", &[y], &[]);
    let w = net.weight(&[8, 36, 1, 1]);
    let y = net.op("Conv", &[y, w], &[]);
    net.with_outputs(&[y])
}

/// Convolutions by fewer products, of as many images as a run has.
#[test]
fn batches_of_images_by_fewer_products() {
    check_as(&parameters(&[("batch", 1, 5)]), Convolution::Winograd(4, 4), &[&[1], &[2], &[5]], &|at| {
        convolution_of([n(at[0]), 9, 14], [3, 3], [1; 4])
    });
}

/// The same of images of any width: tiles of which only a part is there, windows that begin and end outside.
#[test]
fn widths_of_images_by_fewer_products() {
    let widths: Vec<[i64; 1]> = (1..=14).chain([21, 31, 38]).map(|w| [w]).collect();
    let at: Vec<&[i64]> = widths.iter().map(<[i64; 1]>::as_slice).collect();
    for m in [2, 4] {
        check_as(&parameters(&[("width", 1, 38)]), Convolution::Winograd(m, m), &at, &|at| {
            convolution_of([2, 7, n(at[0])], [3, 3], [1; 4])
        });
    }
    check_as(&parameters(&[("width", 3, 38)]), Convolution::Winograd(4, 4), &at[2..], &|at| {
        convolution_of([1, 6, n(at[0])], [3, 3], [0, 0, 2, 0])
    });
    check_as(&parameters(&[("width", 1, 38)]), Convolution::Winograd(2, 2), &at, &|at| {
        convolution_of([1, 5, n(at[0])], [1, 3], [0, 1, 0, 1])
    });
    check_as(&parameters(&[("width", 1, 38)]), Convolution::Winograd(2, 2), &at, &|at| {
        convolution_of([1, 5, n(at[0])], [3, 1], [1, 0, 1, 0])
    });
}

/// The same where both sides and the number of images vary.
#[test]
fn sides_of_images_by_fewer_products() {
    let at: [&[i64]; 7] = [&[1, 1, 1], &[2, 2, 5], &[1, 6, 3], &[2, 7, 9], &[1, 12, 4], &[1, 5, 13], &[2, 13, 17]];
    for m in [2, 4] {
        check_as(&parameters(&[("batch", 1, 2), ("height", 1, 13), ("width", 1, 17)]), Convolution::Winograd(m, m), &at, &|at| {
            convolution_of([n(at[0]), n(at[1]), n(at[2])], [3, 3], [1; 4])
        });
    }
}

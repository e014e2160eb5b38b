//! Forms of kernels that measuring may choose: what is offered, that the text of a file reads back, and that results stay the same.

use std::collections::BTreeSet;

use super::sliding::Case;
use super::{Compiled, Emitter, Level, Machine, Net, Options, Value, can_run, ints};
use crate::ops::Attribute;
use crate::pipeline::tune::Tunable;
use crate::pipeline::tuner::Tuner;
use crate::pipeline::{Tuned, lower_and_schedule_as, schedule_with};
use crate::schedule::{Choice, Convolution};

/// The kernels of a network that have other forms.
fn tunable(net: &Net, machine: &Machine, options: Options) -> Vec<Tunable> {
    let none = Tuned::default();
    let mut tuner = Tuner::new(&net.graph, machine, options, &none).unwrap();
    tuner.tunable = Some(vec![]);
    schedule_with(net.graph.clone(), None, &mut tuner, 1, &[], &|_| {}).unwrap();
    tuner.tunable.unwrap()
}

/// A convolution between two activations, with so many taps down and across.
fn convolution([from, to]: [usize; 2], taps: [usize; 2], stride: i64) -> (Net, Value) {
    let mut net = Net::new();
    let x = net.input(&[1, from, 18, 17]);
    let x = net.op("Relu", &[x], &[]);
    let w = net.weight(&[to, from, taps[0], taps[1]]);
    let pads = [taps[0] / 2, taps[1] / 2, taps[0] / 2, taps[1] / 2].map(|n| n as i64);
    let attributes = [("pads", ints(&pads)), ("strides", ints(&[stride, stride]))];
    let y = net.op("Conv", &[x, w], &attributes);
    let y = net.op("Relu", &[y], &[]);
    net.set_outputs(&[y]);
    (net, y)
}

/// A window over an image whose channels are innermost, as products before and after it make them.
fn window(channels: usize, of: impl Fn(&mut Net, Value) -> Value) -> (Net, Value) {
    let mut net = Net::new();
    let x = net.input(&[1, 8, 18, 17]);
    let w = net.weight(&[channels, 8, 1, 1]);
    let x = net.op("Conv", &[x, w], &[]);
    let x = of(&mut net, x);
    let w = net.weight(&[8, channels, 1, 1]);
    let y = net.op("Conv", &[x, w], &[]);
    net.set_outputs(&[y]);
    (net, y)
}

fn depthwise(channels: usize) -> (Net, Value) {
    window(channels, |net, x| {
        let w = net.weight(&[channels, 1, 3, 3]);
        net.op("Conv", &[x, w], &[("pads", ints(&[1, 1, 1, 1])), ("group", Attribute::Int(channels as i64))])
    })
}

fn pooled(channels: usize) -> (Net, Value) {
    window(channels, |net, x| net.op("AveragePool", &[x], &[("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2]))]))
}

/// The choices of one kind that are offered at `x86-64-v4`, as the file has them, without order and steps.
fn offered(net: &Net, options: Options, kind: &str) -> String {
    let tasks = tunable(net, &Machine::x86_64(Level::V4), options);
    let all = tasks.iter().flat_map(Tunable::other_choices).map(|c| c.to_string());
    all.filter_map(|text| text.split_once(kind).map(|t| t.1.to_owned())).collect::<Vec<_>>().join(" ")
}

#[test]
fn forms_are_those_that_there_are() {
    let of = |taps, stride| offered(&convolution([32, 48], taps, stride).0, Emitter::Auto.into(), "convolution=");
    insta::assert_snapshot!(of([3, 3], 1), @"direct winograd4 winograd3 winograd2 winograd1x4 winograd4x1 winograd1x3 winograd3x1 winograd1x2 winograd2x1");
    insta::assert_snapshot!(of([1, 3], 1), @"direct winograd1x4 winograd1x3 winograd1x2");
    insta::assert_snapshot!(of([3, 1], 1), @"direct winograd4x1 winograd3x1 winograd2x1");
    assert_eq!(of([1, 1], 1), "");
    let exact = Options { convolution: Convolution::Direct, ..Emitter::Auto.into() };
    assert_eq!(offered(&convolution([32, 48], [3, 3], 1).0, exact, "convolution="), "");
    for (net, _) in [depthwise(32), pooled(32)] {
        assert_eq!(offered(&net, Emitter::Auto.into(), "convolution="), "");
        assert!(offered(&net, Emitter::Auto.into(), "window=").contains("8x1"));
    }
    assert_eq!(offered(&convolution([32, 48], [3, 3], 1).0, Emitter::Auto.into(), "window="), "");
}

/// Every form that is offered of one kind, from the text of a file to the bits of a run.
fn check(net: &Net, y: Value, level: Level, kind: impl Fn(&Choice) -> bool) -> Vec<String> {
    let machine = Machine::x86_64(level);
    let tasks = tunable(net, &machine, Emitter::Auto.into());
    let inputs = net.inputs();
    let want = net.evaluate(&inputs)[&y].to_f64s();
    let mut schedules = vec![];
    for task in &tasks {
        for choice in task.other_choices().into_iter().filter(&kind) {
            let text = format!("{} {choice} # a note\n", task.key);
            let tuned = Tuned::parse(&text).unwrap();
            assert!(tuned.print().ends_with(&text));
            let compiled = lower_and_schedule_as(net.graph.clone(), &machine, Emitter::Auto, &tuned, &[]).unwrap();
            schedules.push(compiled.program.kernels.iter().map(|k| k.schedule.clone()).collect::<Vec<_>>().join("; "));
            compiled.program.kernels.iter().for_each(|k| assert_eq!(crate::nest::verify(k), []));
            if !can_run(&machine) {
                continue;
            }
            let got = net.run(&compiled, &machine, &[y], &inputs)[0].to_f64s();
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                assert!((g - w).abs() <= 1e-4 * (1.0 + w.abs()), "{choice}, element {i}: {g} where {w} is right");
            }
        }
    }
    schedules
}

/// Every form that is offered of some kinds, from the text of a file to a run, whose bits are those of the model's form.
fn check_bits(net: &Net, y: Value, machine: &Machine, kinds: &[&str]) -> Vec<String> {
    let compile = |tuned: &Tuned| lower_and_schedule_as(net.graph.clone(), machine, Emitter::Auto, tuned, &[]).unwrap();
    let inputs = net.inputs();
    let run = |form: &Compiled| can_run(machine).then(|| net.run(form, machine, &[y], &inputs)[0].bytes().to_vec());
    let model = compile(&Tuned::default());
    let want = run(&model);
    let mut texts = vec![];
    for task in tunable(net, machine, Emitter::Auto.into()) {
        let all = task.other_choices().into_iter().map(|c| c.to_string());
        for text in all.filter(|c| kinds.iter().any(|kind| c.contains(&format!(" {kind}=")))) {
            let form = compile(&Tuned::parse(&format!("{} {text}\n", task.key)).unwrap());
            if form.program.kernels == model.program.kernels {
                // The emitter refuses it.
                continue;
            }
            form.program.kernels.iter().for_each(|k| assert_eq!(crate::nest::verify(k), []));
            assert!(run(&form) == want, "{text} at {machine}");
            texts.push(text);
        }
    }
    texts
}

#[test]
fn every_form_of_a_map_gives_the_same_bits() {
    for level in [Level::V2, Level::V3, Level::V4] {
        let mut net = Net::new();
        let x = net.input(&[7, 3, 203]);
        let x = net.op("Relu", &[x], &[]);
        let y = net.op("Tanh", &[x], &[]);
        let z = net.op("Transpose", &[y], &[("perm", ints(&[2, 0, 1]))]);
        let y = net.op("Add", &[z, z], &[]);
        let y = net.op("Softmax", &[y], &[]);
        net.set_outputs(&[y]);
        let texts = check_bits(&net, y, &Machine::x86_64(level), &["unroll", "lanes"]);
        assert!(texts.len() >= 3, "{level:?}: {texts:?}");
    }
}

#[test]
fn every_block_of_rows_gives_the_same_bits() {
    let mut net = Net::new();
    let x = net.input(&[96, 301]);
    let y = net.op("Softmax", &[x], &[]);
    net.set_outputs(&[y]);
    for level in [Level::V2, Level::V3, Level::V4] {
        let texts = check_bits(&net, y, &Machine::x86_64(level), &["rows"]);
        assert!(texts.len() >= 2, "{level:?}: {texts:?}");
    }
    // Every thread has a block, and no block is so large that threads could not have their own.
    let rows = |threads: usize, dims: &[usize]| {
        let mut net = Net::new();
        let x = net.input(dims);
        let y = net.op("Softmax", &[x], &[]);
        net.set_outputs(&[y]);
        offered(&net, Options { threads, ..Options::default() }, "rows=")
    };
    let (alone, shared) = (rows(1, &[32, 300]), rows(8, &[32, 300]));
    assert!(alone.starts_with(&shared) && !shared.is_empty() && alone != shared, "{alone}, and of eight threads {shared}");
    assert_eq!(rows(1, &[32, 300_000]), "");
}

#[test]
fn every_turn_and_block_of_channels_of_a_sliding_window_gives_the_same_bits() {
    let (mut net, y) = Case::depthwise().net();
    net.set_outputs(&[y]);
    for level in [Level::V2, Level::V3, Level::V4] {
        let mut machine = Machine::x86_64(level);
        machine.target.l2_bytes = 2 << 20;
        let texts = check_bits(&net, y, &machine, &["turn", "channels"]);
        assert!(texts.len() >= 4, "{level:?}: {texts:?}");
    }
}

/// Other numbers of sums at once add in another order.
#[test]
fn every_number_of_sums_at_once_gives_the_results() {
    let mut net = Net::new();
    let x = net.input(&[9, 1008]);
    let w = net.weight(&[1008, 2]);
    let y = net.op("MatMul", &[x, w], &[]);
    net.set_outputs(&[y]);
    let mut sum = Net::new();
    let x = sum.input(&[6, 1003]);
    let axes = sum.ints(&[1]);
    let total = sum.op("ReduceMean", &[x, axes], &[]);
    sum.set_outputs(&[total]);
    for level in [Level::V2, Level::V3, Level::V4] {
        for (net, y) in [(&net, y), (&sum, total)] {
            let schedules = check(net, y, level, |c| c.sums.is_some());
            let different: BTreeSet<&String> = schedules.iter().collect();
            assert!(different.len() >= 2, "{level:?}: {schedules:?}");
        }
    }
}

#[test]
fn every_form_of_a_convolution_gives_its_results() {
    for (taps, stride) in [([3, 3], 1), ([3, 3], 2), ([1, 3], 1), ([3, 1], 1)] {
        let (net, y) = convolution([16, 24], taps, stride);
        let schedules = check(&net, y, Level::V3, |c| c.convolution.is_some());
        let m = |m: &str| schedules.iter().any(|s| s.contains(&format!("winograd(m={m} ")));
        assert!(schedules[0].contains("contract(") && m("3") && m("4"), "{taps:?} {stride}: {schedules:?}");
        assert!(taps != [3, 3] || m("1x4") && m("3x1"), "{stride}: {schedules:?}");
    }
}

#[test]
fn every_tile_of_a_window_gives_its_results() {
    for (net, y) in [depthwise(40), pooled(40)] {
        for level in [Level::V3, Level::V4] {
            let schedules = check(&net, y, level, |c| c.window.is_some());
            let different: BTreeSet<&String> = schedules.iter().collect();
            assert!(different.len() >= 4, "{schedules:?}");
        }
    }
}

//! Elements from where data says, in lanes.

use super::{DType, Emitter, Level, Machine, Net, Options, Type, Value, random};
use crate::ops::Attribute;
use crate::tensor::Tensor;

/// The text of the kernels for a machine, by the emitter of instructions.
fn kernels(net: &mut Net, y: Value, machine: &Machine) -> String {
    net.set_outputs(&[y]);
    let compiled = net.compile(machine, Options { emitter: Emitter::Wide, ..Options::default() });
    compiled.program.kernels.iter().map(ToString::to_string).collect()
}

fn sampled(mode: &str) -> (Net, Value) {
    let mut net = Net::new();
    let (x, grid) = (net.input(&[1, 3, 5, 7]), net.input(&[1, 4, 32, 2]));
    let text = |text: &str| Attribute::String(text.to_owned());
    let y = net.op("GridSample", &[x, grid], &[("mode", text(mode)), ("padding_mode", text("border"))]);
    (net, y)
}

#[test]
fn places_that_follow_from_floats_are_computed_in_lanes() {
    for machine in [Level::V2, Level::V3, Level::V4].map(Machine::x86_64).into_iter().chain([Machine::aarch64()]) {
        let (mut net, y) = sampled("linear");
        let text = kernels(&mut net, y, &machine);
        assert!(text.contains(" = gather ") && !text.contains("i64 = convert"), "{machine}\n{text}");
    }
    let (mut net, y) = sampled("nearest");
    insta::assert_snapshot!(kernels(&mut net, y, &Machine::x86_64(Level::V4)));
    let (net, y) = sampled("linear");
    net.check(&[y]);
}

#[test]
fn indices_of_64_bits_are_checked_before_they_are_narrowed() {
    for axis in [0, 1] {
        let mut net = Net::new();
        let x = net.input(&[40, 40]);
        let at = net.graph.add_input("at", Type::fixed(DType::I64, &[40, 40]));
        let y = net.op("GatherElements", &[x, at], &[("axis", Attribute::Int(axis))]);
        for (level, gathers) in [(Level::V2, false), (Level::V3, true), (Level::V4, true)] {
            let text = kernels(&mut net, y, &Machine::x86_64(level));
            assert_eq!(text.contains(" = gather "), gathers, "{level:?}\n{text}");
        }
        let indices: Vec<i64> = (0..1600).map(|i| (i * 29 + 3) % 80 - 40).collect();
        net.check_with(&[y], &[random(1, &[40, 40]), Tensor::from_slice(&[40, 40], &indices)]);
    }
}

/// The schedules of kernels at `x86-64-v4`; what they compute is right at every level.
fn checked(mut net: Net, y: Value, inputs: &[Tensor]) -> String {
    let graph = net.graph.clone();
    let text = kernels(&mut net, y, &Machine::x86_64(Level::V4));
    Net { graph, n: 0 }.check_with(&[y], inputs);
    text.lines().filter(|l| l.starts_with("kernel")).map(|l| l.split_once(" (").map_or(l, |l| l.0)).collect::<Vec<_>>().join("\n")
}

#[test]
fn channels_that_share_places_are_lanes() {
    let text = |text: &str| Attribute::String(text.to_owned());
    for (mode, padding) in [("linear", "zeros"), ("nearest", "border"), ("cubic", "reflection")] {
        let mut net = Net::new();
        let (x, grid) = (net.input(&[2, 20, 5, 6]), net.input(&[2, 7, 9, 2]));
        let y = net.op("GridSample", &[x, grid], &[("mode", text(mode)), ("padding_mode", text(padding))]);
        let inputs = net.inputs();
        let schedules = checked(net, y, &inputs);
        // One read of each element is too few for the copies.
        assert_eq!(schedules.contains("move(lanes=16) map(lanes=16)"), mode != "nearest", "{mode}: {schedules}");
    }
    // What a convolution writes has its channels innermost.
    for (mode, is_made) in [("avg", false), ("max", false), ("avg", true)] {
        let mut net = Net::new();
        let (mut x, rois) = (net.input(&[2, 20, 9, 10]), net.input(&[6, 4]));
        if is_made {
            let w = net.weight(&[20, 20, 3, 3]);
            x = net.op("Conv", &[x, w], &[("pads", Attribute::Ints(vec![1; 4]))]);
        }
        let images = net.graph.add_input("images", Type::fixed(DType::I64, &[6]));
        let attributes = [("output_height", Attribute::Int(3)), ("output_width", Attribute::Int(2)), ("sampling_ratio", Attribute::Int(2))];
        let y = net.op("RoiAlign", &[x, rois, images], &[&attributes[..], &[("mode", text(mode))]].concat());
        let corners: Vec<f32> = random(3, &[6, 4]).to_f64s().iter().map(|v| 4.0 + 6.0 * *v as f32).collect();
        let inputs = [random(1, &[2, 20, 9, 10]), Tensor::from_slice(&[6, 4], &corners), Tensor::from_slice(&[6], &[0i64, 1, 1, 0, 1, 0])];
        let schedules = checked(net, y, &inputs);
        let schedules = schedules.lines().last().unwrap();
        assert!(schedules.contains("move(lanes=16)") != is_made && !schedules.contains("scalar"), "{mode}: {schedules}");
    }
}

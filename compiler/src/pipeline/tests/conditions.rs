//! Conditions in lanes, from and to memory, against the operators' own values.

use super::{DType, Emitter, Level, Machine, Net, Options, Type, Value, ints, random};
use crate::ops::Attribute;
use crate::tensor::Tensor;

#[test]
fn conditions_are_read_and_written_in_lanes() {
    for dims in [&[37][..], &[5, 16], &[3, 70]] {
        let mut net = Net::new();
        let (x, z) = (net.input(dims), net.input(dims));
        let more = net.op("Greater", &[x, z], &[]);
        let none = net.op("Not", &[more], &[]);
        let least = net.op("Abs", &[x], &[]);
        let other = net.op("Less", &[least, z], &[]);
        let either = net.op("Or", &[none, other], &[]);
        let same = net.op("Equal", &[more, other], &[]);
        let chosen = net.op("Where", &[either, same, none], &[]);
        let number = net.op("Where", &[chosen, x, z], &[]);
        net.check(&[more, either, chosen, number]);
    }
}

#[test]
fn their_lanes_are_those_of_words() {
    for (level, lanes) in [(Level::V2, 4), (Level::V3, 8), (Level::V4, 16)] {
        let mut net = Net::new();
        let (x, z) = (net.input(&[40]), net.input(&[40]));
        let y = net.op("LessOrEqual", &[x, z], &[]);
        let y = net.op("Not", &[y], &[]);
        let text = text_at(&mut net, y, level);
        assert!(text.contains(&format!("boolx{lanes} = not")), "{text}");
    }
}

/// The text of the kernels at a level.
fn text_at(net: &mut Net, y: Value, level: Level) -> String {
    net.set_outputs(&[y]);
    let compiled = net.compile(&Machine::x86_64(level), Options::from(Emitter::Wide));
    compiled.program.kernels.iter().map(ToString::to_string).collect()
}

#[test]
fn positions_are_compared_in_lanes() {
    for (k, upper) in [(0, 1), (1, 0), (-3, 1), (7, 0), (100, 1), (i64::MAX, 0), (i64::MIN, 1)] {
        for turned in [false, true] {
            let mut net = Net::new();
            let (x, by) = (net.input(&[3, 37, 40]), net.graph.add_constant("k", Tensor::from_slice(&[], &[k])));
            let mut y = net.op("Trilu", &[x, by], &[("upper", Attribute::Int(upper))]);
            if turned {
                y = net.op("Transpose", &[y], &[("perm", ints(&[0, 2, 1]))]);
            }
            let text = text_at(&mut net, y, Level::V4);
            assert!(text.contains("boolx16") || !text.contains("bool"), "{k} {upper}\n{text}");
            net.check(&[y]);
        }
    }
}

#[test]
fn positions_are_compared_with_what_lanes_share() {
    let mut net = Net::new();
    let places = net.graph.add_input("places", Type::fixed(DType::I64, &[9]));
    let depth = net.graph.add_constant("depth", Tensor::from_slice(&[], &[40i64]));
    let values = net.graph.add_constant("values", Tensor::from_slice(&[2], &[-1.0f32, 2.0]));
    let y = net.op("OneHot", &[places, depth, values], &[]);
    let text = text_at(&mut net, y, Level::V3);
    assert!(text.contains("boolx8 = eq") && !text.contains("i64x"), "{text}");
    let far = [0, 39, -1, -40, 40, -41, 1 << 32, i64::MAX, i64::MIN];
    net.check_with(&[y], &[Tensor::from_slice(&[9], &far)]);
}

#[test]
fn positions_are_words_that_become_floats() {
    let mut net = Net::new();
    let (x, rois) = (net.input(&[1, 3, 9, 10]), net.input(&[2, 4]));
    let images = net.graph.add_constant("images", Tensor::from_slice(&[2], &[0i32, 0]));
    let size = net.graph.add_constant("size", Tensor::from_slice(&[2], &[4i32, 40]));
    let y = net.op("com.microsoft.CropAndResize", &[x, rois, images, size], &[]);
    let text = text_at(&mut net, y, Level::V3);
    assert!(text.contains("f32x8 = convert"), "{text}");
    net.check_with(&[y], &[random(1, &[1, 3, 9, 10]), random(2, &[2, 4])]);
}

#[test]
fn a_mask_of_positions_is_part_of_the_product_that_adds_it() {
    let mut net = Net::new();
    let (x, w) = (net.input(&[4, 30, 16]), net.input(&[4, 16, 40]));
    let scores = net.op("MatMul", &[x, w], &[]);
    let dims = net.ints(&[4, 30, 40]);
    let low = net.op("ConstantOfShape", &[dims], &[("value", Attribute::Tensor(Tensor::from_slice(&[1], &[-1e9f32])))]);
    let by = net.graph.add_constant("k", Tensor::from_slice(&[], &[1i64]));
    let mask = net.op("Trilu", &[low, by], &[("upper", Attribute::Int(1))]);
    let y = net.op("Add", &[scores, mask], &[]);
    let text = text_at(&mut net, y, Level::V4);
    assert_eq!(text.matches("kernel @").count(), 1, "{text}");
    assert!(!text.contains("mr=1 ") && text.contains("boolx16"), "{text}");
    net.check(&[y]);
}

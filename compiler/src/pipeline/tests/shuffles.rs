//! Lanes that are shuffled in registers: transposed tiles, elements that go to memory in turn.

use super::{Emitter, Level, Machine, Net, Options, Value, ints};

/// The text of the kernels at `x86-64-v2`, `v3`, `v4` and for Arm, whose vectors can be shuffled, with their lanes, after a check of the results everywhere.
pub(super) fn kernels(net: Net, y: Value) -> Vec<(i64, String)> {
    let graph = net.graph.clone();
    net.check(&[y]);
    let mut net = Net { graph, n: 0 };
    net.set_outputs(&[y]);
    let inputs = net.inputs();
    let values = net.evaluate(&inputs);
    let options = Options { emitter: Emitter::Wide, ..Options::default() };
    net.check_at(Level::V2, options, &[y], &inputs, &values);
    let machines = [Level::V2, Level::V3, Level::V4].map(Machine::x86_64).into_iter().chain([Machine::aarch64()]);
    let text = |machine: &Machine| net.compile(machine, options).program.kernels.iter().map(ToString::to_string).collect();
    machines.zip([4, 8, 16, 4]).map(|(machine, lanes)| (lanes, text(&machine))).collect()
}

fn n_shuffles(text: &str) -> usize {
    text.matches("zip_low").count() + text.matches("zip_high").count()
}

#[test]
fn transposes_are_tiles_in_registers() {
    for (dims, order, tiles) in [
        (&[1, 20, 5, 8][..], &[0, 2, 3, 1][..], true),
        (&[37, 53], &[1, 0], true),
        (&[300, 16], &[1, 0], true),
        (&[2, 33, 3, 18], &[0, 2, 3, 1], true),
        (&[2, 17, 4, 16], &[0, 2, 3, 1], true),
        (&[16, 24], &[1, 0], true),
        (&[9, 13], &[1, 0], true),
        (&[5, 6], &[1, 0], true),
        (&[2, 9, 7, 16], &[0, 2, 1, 3], false),
        (&[40, 3], &[1, 0], false),
    ] {
        let mut net = Net::new();
        let x = net.input(dims);
        let y = net.op("Transpose", &[x], &[("perm", ints(order))]);
        for (lanes, text) in kernels(net, y) {
            assert_eq!(n_shuffles(&text) > 0, tiles, "{dims:?} {order:?} at {lanes} lanes\n{text}");
        }
    }
}

#[test]
fn what_is_computed_of_a_transposed_operand_is_too() {
    let mut net = Net::new();
    let (x, z) = (net.input(&[2, 35, 19]), net.input(&[2, 19, 35]));
    let t = net.op("Transpose", &[x], &[("perm", ints(&[0, 2, 1]))]);
    let y = net.op("Add", &[t, z], &[]);
    let y = net.op("Sigmoid", &[y], &[]);
    for (_, text) in kernels(net, y) {
        assert!(n_shuffles(&text) > 0, "{text}");
    }
}

/// Rows of several operands are too many for registers, beside a polynomial.
#[test]
fn many_transposed_operands_are_computed_of() {
    let mut net = Net::new();
    let operands = [(); 3].map(|()| net.input(&[40, 35]));
    let [x, y, z] = operands.map(|x| net.op("Transpose", &[x], &[]));
    let x = net.op("Erf", &[x], &[]);
    let y = net.op("Tanh", &[y], &[]);
    let x = net.op("Mul", &[x, y], &[]);
    let y = net.op("Add", &[x, z], &[]);
    kernels(net, y);
}

#[test]
fn short_axes_go_to_memory_in_turn() {
    for (dims, sizes) in [([1, 5, 6, 21], [2, 2]), ([2, 3, 4, 16], [1, 4]), ([1, 3, 7, 5], [2, 2]), ([1, 2, 3, 9], [3, 3])] {
        let mut net = Net::new();
        let x = net.input(&dims);
        let scaled: Vec<i64> = dims.iter().zip([1, 1, sizes[0], sizes[1]]).map(|(d, s)| *d as i64 * s).collect();
        let empty = net.ints(&[]);
        let scaled = net.ints(&scaled);
        let text = |mode: &str| crate::ops::Attribute::String(mode.to_owned());
        let attributes = [("nearest_mode", text("floor")), ("coordinate_transformation_mode", text("asymmetric"))];
        let y = net.op("Resize", &[x, empty, empty, scaled], &attributes);
        for (_, text) in kernels(net, y) {
            assert_eq!(n_shuffles(&text) > 0, sizes[1] != 3, "{dims:?} {sizes:?}\n{text}");
        }
    }
    let mut net = Net::new();
    let x = net.input(&[1, 16, 5, 18]);
    let y = net.op("DepthToSpace", &[x], &[("blocksize", crate::ops::Attribute::Int(4))]);
    for (_, text) in kernels(net, y) {
        assert!(n_shuffles(&text) > 0, "{text}");
    }
}

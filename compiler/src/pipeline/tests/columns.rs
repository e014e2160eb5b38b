//! Products of any number of columns: vectors of which the last is loaded and stored in part, against the operators' own values.

use super::{Compiled, Net};
use crate::codegen::target::{Level, Machine};
use crate::graph::Value;
use crate::ops::Attribute;
use crate::pipeline::{Emitter, Options, lower_and_schedule};

/// A product of `n` columns with a residual, and its gate `x * sigmoid(x)`.
fn product(rows: usize, depth: usize, n: usize) -> (Net, Vec<Value>) {
    let mut net = Net::new();
    let (x, residual) = (net.input(&[rows, depth]), net.input(&[rows, n]));
    let (w, b) = (net.weight(&[depth, n]), net.weight(&[n]));
    let y = net.op("MatMul", &[x, w], &[]);
    let y = net.op("Add", &[y, b], &[]);
    let y = net.op("Add", &[y, residual], &[]);
    let w = net.weight(&[n, n]);
    let z = net.op("MatMul", &[y, w], &[]);
    let s = net.op("Sigmoid", &[z], &[]);
    let gated = net.op("Mul", &[z, s], &[]);
    (net, vec![y, gated])
}

fn text(compiled: &Compiled) -> String {
    compiled.program.kernels.iter().map(|k| k.to_string()).collect()
}

#[test]
fn any_number_of_columns_is_computed_in_whole_vectors() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for n in [5, 9, 12, 17, 20, 24, 33, 40, 72] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (rows, depth) = (1 + (state >> 33) as usize % 40, 1 + (state >> 50) as usize % 40);
        eprintln!("{rows} rows of {n} columns, depth {depth}");
        let (net, outputs) = product(rows, depth, n);
        net.check(&outputs);
    }
}

#[test]
fn columns_take_the_widest_vectors_and_the_last_no_wider_than_it_needs() {
    let cases = [(Level::V4, 24, [16, 8]), (Level::V4, 20, [16, 4]), (Level::V4, 12, [16, 16]), (Level::V4, 8, [8, 8])];
    for (level, n, used) in cases.into_iter().chain([(Level::V3, 12, [8, 4]), (Level::V3, 4, [4, 4])]) {
        let (mut net, outputs) = product(28, 16, n);
        net.set_outputs(&outputs);
        let compiled =
            lower_and_schedule(net.graph, &Machine::x86_64(level), Options::from(Emitter::Auto)).unwrap_or_else(|e| panic!("{e:?}"));
        let text = text(&compiled);
        for lanes in [2, 4, 8, 16] {
            assert_eq!(text.contains(&format!("f32x{lanes} ")), used.contains(&lanes), "{lanes} lanes for {n} columns\n{text}");
        }
    }
}

/// Columns of several matrices lie apart: each is summed over its length, as many vectors side by side as there are registers for.
#[test]
fn columns_of_several_matrices() {
    for (dims, axis) in [(&[5, 20, 70][..], 1), (&[4, 9, 128], 1), (&[2, 3, 8, 35], 2)] {
        let mut net = Net::new();
        let (x, axes) = (net.input(dims), net.ints(&[axis]));
        let keep = [("keepdims", Attribute::Int(0))];
        let outputs = ["ReduceSum", "ReduceMax", "ReduceMean"].map(|kind| net.op(kind, &[x, axes], &keep));
        let compiled = net.check(&outputs);
        assert!(compiled.program.kernels.iter().all(|k| k.schedule.starts_with("contract(mr=1 ")), "{dims:?}");
    }
}

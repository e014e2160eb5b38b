//! Programs for a range of lengths: products, attention, sums and recurrences along an axis that varies.

use super::sized::{check, n};
use super::{Net, ints};
use crate::ops::Attribute;

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

//! Programs for a range of sizes with updates of a part of a value: where constants say which, and where data does.

use super::Net;
use super::joined;
use super::sized::{check, n, parameters};
use crate::graph::Value;
use crate::ops::Attribute;

/// Indices of the elements from `first` on of extents `counts`, row-major.
fn places(first: &[i64], counts: &[i64]) -> Vec<i64> {
    let total: i64 = counts.iter().product();
    let at = |i: i64, k: usize| first[k] + i / counts[k + 1..].iter().product::<i64>() % counts[k];
    (0..total).flat_map(|i| (0..counts.len()).map(move |k| (i, k))).map(|(i, k)| at(i, k)).collect()
}

#[test]
fn parts_that_constants_say() {
    check(&[("b", 1, 4), ("s", 1, 21)], &[&[1, 1], &[1, 2], &[4, 1], &[2, 3], &[3, 16], &[4, 21]], &|at| {
        let (b, s) = (at[0], at[1]);
        let mut net = Net::new();
        let (x, updates) = (net.input(&[n(b), n(s) + 2, 3]), net.input(&[n(b), n(s), 3]));
        let fixed = |net: &mut Net, values: &[i64], shape: &[i64]| {
            let (values, shape) = (net.ints(values), net.ints(shape));
            net.op("Reshape", &[values, shape], &[])
        };
        let indices = fixed(&mut net, &places(&[0, 1], &[b, s]), &[b, s, 2]);
        let with = |net: &mut Net, op: &str, of: &[Value], reduction: &str, axis: Option<i64>| {
            let mut attributes = vec![("reduction", Attribute::String(reduction.to_owned()))];
            attributes.extend(axis.map(|axis| ("axis", Attribute::Int(axis))));
            net.op(op, of, &attributes)
        };
        let mut outputs: Vec<Value> =
            ["none", "add", "max"].iter().map(|r| with(&mut net, "ScatterND", &[x, indices, updates], r, None)).collect();
        // The last of a row, counted from its end, and all of its first.
        let last = fixed(&mut net, &vec![-1; n(3 * b)], &[b, 1, 3]);
        let (from, to, axis) = (net.ints(&[0]), net.ints(&[1]), net.ints(&[1]));
        let one = net.op("Slice", &[updates, from, to, axis], &[]);
        outputs.push(with(&mut net, "ScatterElements", &[x, last, one], "none", Some(1)));
        outputs.push(with(&mut net, "ScatterElements", &[x, last, one], "mul", Some(1)));
        net.with_outputs(&outputs)
    });
}

#[test]
fn rows_that_data_says() {
    let text = "graph @g(%x: f32[<b>,<s>]) => (%marked, %order, %sum) {
        @zeros = const splat(0) : i64[<b>,<s>]
        @ones = const splat(1) : i64[<b>]
        @column = const [<b>, 1] : i64[2]
        @whole = const [<b>, <s>] : i64[2]
        @from = const [0] : i64[]
        @to = const [<b>] : i64[]
        @step = const [1] : i64[]
        @axes = const [1] : i64[1]
        @k = const [<b>] : i64[1]
        %rows = Range(@from, @to, @step)
        %r = Reshape(%rows, @column)
        %most = ArgMax(%x) axis=1 keepdims=1
        %places = Concat(%r, %most) axis=1
        %marked = ScatterND(@zeros, %places, @ones)
        %first = ReduceMax(%x, @axes) keepdims=0
        %v, %i = TopK(%first, @k)
        %order = ScatterElements(%rows, %i, %rows)
        %e = Unsqueeze(%i, @axes)
        %all = Expand(%e, @whole)
        %sum = ScatterElements(%x, %all, %x) axis=0 reduction=\"add\"
    }";
    let parameters = parameters(&[("b", 1, 5), ("s", 1, 21)]);
    joined::check(&parameters, &[&[1, 1], &[2, 1], &[1, 7], &[3, 8], &[4, 16], &[5, 21]], text);
}

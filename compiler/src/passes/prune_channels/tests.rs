//! Which channels leave, and that the results stay.

use super::*;
use crate::passes::testing::{close, exact};

const ROUNDING: f64 = 4e-6;

/// A constant `[filters, ..]` of random weights, in which the filters (or channels) listed are zero.
fn run_with_zeros(tolerance: f64, text: &str, zeros: &[(&str, usize, &[usize])]) -> (String, Report) {
    let zeros: Vec<(String, usize, Vec<usize>)> = zeros.iter().map(|(n, a, z)| ((*n).to_owned(), *a, z.to_vec())).collect();
    let mut graph = crate::graph::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for (name, axis, which) in &zeros {
        let v = graph.find(name).expect("a constant of this name");
        let t = graph.constant(v).expect("a constant").clone();
        let zeroed = t.gather(t.dims(), |at| {
            let strides = row_major_strides(t.dims());
            (!which.contains(&at[*axis])).then(|| at.iter().zip(strides).map(|(&i, s)| i * s).sum())
        });
        let new = graph.add_constant(name, zeroed);
        graph.replace_uses(v, new);
        graph.remove(v.node);
        graph.rename(new, name);
    }
    let text = crate::graph::print(&graph);
    let blobs = crate::graph::blobs(&graph);
    let before = crate::graph::parse_with(&text, &blobs).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut after = before.clone();
    let mut report = Report::default();
    prune_channels(&mut after, &mut report);
    crate::passes::eliminate::dead_code(&mut after, &mut Report::default());
    crate::graph::verify(&after).unwrap_or_else(|e| panic!("{e:?}\n{}", crate::graph::print(&after)));
    for seed in [1, 2] {
        let (a, b) = crate::passes::testing::evaluate(&before, &after, seed);
        assert_eq!(a.len(), b.len());
        let scale = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= tolerance * scale, "{a} became {b}\n{}", crate::graph::print(&after));
        }
    }
    (crate::graph::print(&after), report)
}

/// `value before>after constant/unread`, for all entries.
fn summary(report: &Report) -> Vec<String> {
    report.pruned.iter().map(|p| format!("{} {}>{} {}/{}", p.value, p.before, p.after, p.n_constant, p.n_unread)).collect()
}

#[test]
fn zero_filters_go_and_their_bias_moves_on() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y) {
        @w = const rand(1) : f32[8,3,3,3]
        @b = const rand(2) : f32[8]
        @v = const rand(3) : f32[5,8,3,3]
        %c = Conv(%x, @w, @b)
        %r = Sigmoid(%c)
        %y = Conv(%r, @v)
    }";
    let (after, report) = run_with_zeros(ROUNDING, text, &[("w", 0, &[1, 4, 5])]);
    assert_eq!(summary(&report), ["c 8>5 3/0"], "{after}");
    assert!(after.contains(": f32[5,3,3,3]") && after.contains(": f32[5,5,3,3]") && after.contains("@y.bias"), "{after}");
}

#[test]
fn constants_stay_where_the_reader_pads() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y) {
        @w = const rand(1) : f32[4,3,3,3]
        @b = const [1,0,-1,2] : f32[4]
        @v = const rand(3) : f32[5,4,3,3]
        %c = Conv(%x, @w, @b)
        %r = Relu(%c)
        %y = Conv(%r, @v) pads=[1,1,1,1]
    }";
    // 0: a positive constant stays; 1 and 2: zero after `Relu`.
    let (after, report) = run_with_zeros(0.0, text, &[("w", 0, &[0, 1, 2])]);
    assert_eq!(summary(&report), ["c 4>2 2/0"], "{after}");
    assert_eq!(report.reasons(PASS), ["it is constant, but the convolution that reads it pads with zeros"]);
}

#[test]
fn unread_channels_go_through_residuals_and_back() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y) {
        @u = const rand(1) : f32[6,3,1,1]
        @w = const rand(2) : f32[6,6,3,3]
        @s = const rand(3) : f32[6,1,1]
        @v = const rand(4) : f32[2,6,1,1]
        %a = Conv(%x, @u)
        %b = Conv(%a, @w) pads=[1,1,1,1]
        %c = Mul(%b, @s)
        %d = Add(%a, %c)
        %y = Conv(%d, @v)
    }";
    let zeros: &[(&str, usize, &[usize])] = &[("v", 1, &[0, 5]), ("w", 1, &[0, 5])];
    let (after, report) = run_with_zeros(0.0, text, zeros);
    assert_eq!(summary(&report), ["a 6>4 0/2", "b 6>4 0/2"], "{after}");
    // Channel 5 of the sum is unread, but the second convolution reads it from the first.
    let (_, report) = run_with_zeros(0.0, text, &[("v", 1, &[0, 5]), ("w", 1, &[0])]);
    assert_eq!(summary(&report), ["a 6>5 0/1", "b 6>5 0/1"]);
}

#[test]
fn depthwise_and_concatenation_are_followed() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y) {
        @u = const rand(1) : f32[4,3,1,1]
        @d = const rand(2) : f32[4,1,3,3]
        @e = const rand(3) : f32[4]
        @v = const rand(4) : f32[2,7,1,1]
        %a = Conv(%x, @u)
        %b = Conv(%a, @d, @e) group=4 pads=[1,1,1,1]
        %r = Relu(%b)
        %p = MaxPool(%x) kernel_shape=[1,1]
        %c = Concat(%p, %r) axis=1
        %y = Conv(%c, @v)
    }";
    // Channel 2 is zero, so its depthwise filter gives its bias; channel 5 = 3 + 2 of the concatenation takes it.
    let (after, report) = run_with_zeros(ROUNDING, text, &[("u", 0, &[2]), ("v", 1, &[0, 4])]);
    assert_eq!(summary(&report), ["a 4>2 1/1", "b 4>2 1/1"], "{after}");
    assert!(after.contains("group=2") && after.contains(": f32[2,5,1,1]"), "{after}");
}

#[test]
fn a_grouped_convolution_loses_whole_groups() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y) {
        @u = const rand(1) : f32[6,3,1,1]
        @d = const rand(2) : f32[9,2,3,3]
        @v = const rand(4) : f32[2,9,1,1]
        %a = Conv(%x, @u)
        %b = Conv(%a, @d) group=3
        %y = Conv(%b, @v)
    }";
    let (after, report) = run_with_zeros(0.0, text, &[("v", 1, &[0, 3, 4, 5])]);
    assert_eq!(summary(&report), ["a 6>4 0/2", "b 9>6 0/3"], "{after}");
}

#[test]
fn flattened_channels_are_blocks() {
    let text = "graph @g(%x: f32[1,3,4,4]) -> (%y) {
        @u = const rand(1) : f32[4,3,3,3]
        @b = const rand(2) : f32[4]
        @v = const rand(4) : f32[16,5]
        @c = const rand(5) : f32[5]
        %a = Conv(%x, @u, @b)
        %r = Tanh(%a)
        %f = Flatten(%r)
        %y = Gemm(%f, @v, @c)
    }";
    let (after, report) = run_with_zeros(ROUNDING, text, &[("u", 0, &[1]), ("v", 0, &[0, 1, 2, 3])]);
    assert_eq!(summary(&report), ["a 4>2 1/1"], "{after}");
    assert!(after.contains(": f32[8,5]"), "{after}");
}

#[test]
fn reshapes_and_pools_on_the_way_are_restated() {
    let text = "graph @g(%x: f32[2,3,4,4]) -> (%y) {
        @u = const rand(1) : f32[4,3,3,3]
        @b = const rand(2) : f32[4]
        @s = const [2,4,1,1] : i64[4]
        @v = const rand(4) : f32[5,4,1,1]
        %a = Conv(%x, @u, @b)
        %p = GlobalAveragePool(%a)
        %q = Squeeze(%p)
        %r = Reshape(%q, @s)
        %y = Conv(%r, @v)
    }";
    let (after, report) = run_with_zeros(ROUNDING, text, &[("u", 0, &[1]), ("v", 1, &[3])]);
    assert_eq!(summary(&report), ["a 4>2 1/1"], "{after}");
}

#[test]
fn hidden_units_of_products_go() {
    let text = "graph @g(%x: f32[2,7,8]) -> (%y) {
        @u = const rand(1) : f32[8,12]
        @b = const rand(2) : f32[12]
        @v = const rand(4) : f32[12,8]
        %a = MatMul(%x, @u)
        %c = Add(%a, @b)
        %r = Relu(%c)
        %y = MatMul(%r, @v)
    }";
    let (after, report) = run_with_zeros(0.0, text, &[("v", 0, &[3, 11])]);
    assert_eq!(summary(&report), ["a 12>10 0/2"], "{after}");
}

#[test]
fn something_is_left_of_every_value() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y) {
        @w = const splat(0) : f32[4,3,3,3]
        @v = const rand(3) : f32[5,4,1,1]
        %c = Conv(%x, @w)
        %y = Conv(%c, @v)
    }";
    let (after, report) = run_with_zeros(0.0, text, &[]);
    assert_eq!(summary(&report), ["c 4>1 3/0"], "{after}");
}

#[test]
fn outputs_and_mixed_channels_stay() {
    let text = "graph @g(%x: f32[1,3,6,6]) -> (%y, %z) {
        @w = const splat(0) : f32[4,3,3,3]
        %y = Conv(%x, @w)
        %c = Conv(%x, @w)
        %z = Softmax(%c) axis=1
    }";
    let (_, report) = exact(prune_channels, text);
    assert!(report.pruned.is_empty());
}

#[test]
fn chains_unravel_from_the_end() {
    let text = "graph @g(%x: f32[1,3]) -> (%y) {
        @a = const rand(1) : f32[3,2]
        @b = const [1,2,0,0] : f32[2,2]
        @c = const [1,1,0,1] : f32[2,2]
        @d = const rand(4) : f32[2,2]
        %p = MatMul(%x, @a)
        %q = MatMul(%p, @c)
        %r = MatMul(%q, @b)
        %y = MatMul(%r, @d)
    }";
    let (_, report) = close(0.0, prune_channels, text);
    assert_eq!(summary(&report), ["q 2>1 0/1", "p 2>1 0/1"]);
}

//! Sums along adjacent elements: axes that are one in memory, and what fills no vector.

use super::Net;
use super::shuffles::kernels;

/// The kernel of a reduction at `x86-64-v4`, after a check of the results everywhere.
fn kernel(dims: &[usize], op: &str, axes: &[i64]) -> String {
    let mut net = Net::new();
    let x = net.input(dims);
    let axes = net.ints(axes);
    let y = net.op(op, &[x, axes], &[]);
    kernels(net, y).swap_remove(2).1
}

#[test]
fn adjacent_axes_are_one_loop_and_narrower_vectors_take_the_rest() {
    let text = kernel(&[1, 20, 14, 14], "ReduceMean", &[2, 3]);
    assert!(text.contains("reduce(lanes=16 accumulators=4)"), "{text}");
    assert!(text.contains("in 0..192 step 64") && text.contains("f32x4 = load"), "{text}");
    assert!(!text.contains("for r"), "{text}");
    // 31 is 16, 8, 4 and three.
    let text = kernel(&[3, 95], "ReduceMax", &[1]);
    assert!(["f32x16 = load", "f32x8 = load", "f32x4 = load", "f32 = load"].iter().all(|load| text.contains(load)), "{text}");
}

#[test]
fn axes_that_are_apart_stay_loops() {
    // Rows of a part of the image: columns lie between.
    let mut net = Net::new();
    let x = net.input(&[2, 9, 20, 24]);
    let [starts, ends, columns, axes] = [&[3][..], &[19], &[3], &[2, 3]].map(|values| net.ints(values));
    let part = net.op("Slice", &[x, starts, ends, columns], &[]);
    let y = net.op("ReduceSum", &[part, axes], &[]);
    net.check(&[y]);
    assert!(kernel(&[4, 16, 3, 32], "ReduceSum", &[1, 3]).contains("for r"));
}

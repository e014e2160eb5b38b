//! Programs for a range of sides of images and lengths of signals: windows, their padding, and convolutions by fewer products.

use super::joined;
use super::sized::{check, check_as, n, parameters};
use super::{Net, ints};
use crate::graph::{Graph, Value};
use crate::ops::Attribute;
use crate::schedule::Convolution;

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

/// A convolution between others, so that its channels are innermost.
fn convolution_of(image: [usize; 3], taps: [usize; 2], pads: [i64; 4]) -> Graph {
    strided_convolution_of(image, taps, pads, [1, 1])
}

fn strided_convolution_of(image: [usize; 3], taps: [usize; 2], pads: [i64; 4], strides: [i64; 2]) -> Graph {
    let mut net = Net::new();
    let [batch, height, width] = image;
    let x = net.input(&[batch, 12, height, width]);
    let w = net.weight(&[20, 12, 1, 1]);
    let y = net.op("Conv", &[x, w], &[]);
    let w = net.weight(&[36, 20, taps[0], taps[1]]);
    let y = net.op("Conv", &[y, w], &[("pads", ints(&pads)), ("strides", ints(&strides))]);
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

/// The same at stride 2 along the sides that vary, along others, and along both.
#[test]
fn strided_images_by_fewer_products() {
    let widths: Vec<[i64; 1]> = (1..=14).chain([21, 31, 38]).map(|w| [w]).collect();
    let at: Vec<&[i64]> = widths.iter().map(<[i64; 1]>::as_slice).collect();
    for (m, strides) in [(2, [2, 2]), (4, [1, 2]), (3, [2, 1])] {
        check_as(&parameters(&[("width", 1, 38)]), Convolution::Winograd(m, m), &at, &|at| {
            strided_convolution_of([2, 9, n(at[0])], [3, 3], [1; 4], strides)
        });
    }
    check_as(&parameters(&[("width", 3, 38)]), Convolution::Winograd(2, 2), &at[2..], &|at| {
        strided_convolution_of([1, 6, n(at[0])], [3, 3], [0, 0, 2, 0], [2, 2])
    });
    let at: [&[i64]; 7] = [&[1, 1, 1], &[2, 2, 5], &[1, 6, 3], &[2, 7, 9], &[1, 12, 4], &[1, 5, 13], &[2, 13, 17]];
    check_as(&parameters(&[("batch", 1, 2), ("height", 1, 13), ("width", 1, 17)]), Convolution::Winograd(2, 2), &at, &|at| {
        strided_convolution_of([n(at[0]), n(at[1]), n(at[2])], [3, 3], [1; 4], [2, 2])
    });
}

/// Extents that are the same at every size, of images that are not; one size has them already.
#[test]
fn images_of_any_size_at_one_size() {
    let parameters = parameters(&[("h", 3, 22), ("w", 5, 17)]);
    for mode in ["nearest", "linear", "cubic"] {
        for how in ["half_pixel", "align_corners", "asymmetric"] {
            let text = format!(
                "graph @g(%x: f32[1,2,<h>,<w>], %z: f32[1,2,<w>,11]) => (%y, %v) {{
                    @sizes = const [1, 2, 16, 17] : i64[4]
                    @like = const [1, 2, <h>, 11] : i64[4]
                    %a = Relu(%x)
                    %y = Resize(%a, _, _, @sizes) mode=\"{mode}\" coordinate_transformation_mode=\"{how}\"
                    %v = Resize(%z, _, _, @like) mode=\"{mode}\" coordinate_transformation_mode=\"{how}\"
                }}"
            );
            joined::check(&parameters, &[&[3, 5], &[4, 17], &[16, 16], &[17, 8], &[22, 17]], &text);
        }
    }
}

/// Places between -1 and 1, which follow from the sides of an image: parts of numbers that are one less than a size.
#[test]
fn places_that_follow_from_the_sides_of_an_image() {
    let parameters = parameters(&[("h", 3, 22), ("w", 5, 41)]);
    let text = "graph @g(%x: f32[1,2,<h>,<w>], %d: f32[1,<h>,<w>,2]) => (%y) {
        @zero = const [0] : i64[]
        @one = const [1] : i64[]
        @two = const [2.0] : f32[]
        @h = const [<h>] : i64[]
        @w = const [<w>] : i64[]
        @less = const [<w-1>] : f32[]
        @lower = const [<h-1>] : f32[]
        @row = const [1, 1, <w>, 1] : i64[4]
        @column = const [1, <h>, 1, 1] : i64[4]
        @all = const [1, <h>, <w>, 1] : i64[4]
        %i = Range(@zero, @w, @one)
        %j = Range(@zero, @h, @one)
        %fi = Cast(%i) to=1
        %fj = Cast(%j) to=1
        %si = Div(@two, @less)
        %sj = Div(@two, @lower)
        %pi = Mul(%fi, %si)
        %pj = Mul(%fj, %sj)
        %ri = Reshape(%pi, @row)
        %rj = Reshape(%pj, @column)
        %ei = Expand(%ri, @all)
        %ej = Expand(%rj, @all)
        %grid = Concat(%ei, %ej) axis=3
        %moved = Add(%grid, %d)
        @mid = const [1.0] : f32[]
        %at = Sub(%moved, @mid)
        %y = GridSample(%x, %at) align_corners=1
    }";
    joined::check(&parameters, &[&[3, 5], &[4, 33], &[5, 9], &[17, 8], &[22, 41]], text);
}

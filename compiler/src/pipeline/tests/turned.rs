//! Convolutions whose results are in the order of the file, columns apart and rows adjacent: their lanes are channels where images do not
//! fill vectors, and tiles are transposed on their way to memory. Against the operators' own values.

use super::shuffles::kernels;
use super::windows::picks;
use super::{Net, Value, ints};
use crate::ops::Attribute;

/// A convolution of an image as files have it.
fn convolution(net: &mut Net, image: &[usize], filters: usize, kernel: &[usize], (stride, group): (i64, usize)) -> Value {
    let (x, w, b) = (net.input(image), net.weight(&[&[filters, image[1] / group], kernel].concat()), net.weight(&[filters]));
    let pads: Vec<i64> = [kernel, kernel].concat().iter().map(|k| *k as i64 / 2).collect();
    let strides = ints(&vec![stride; kernel.len()]);
    net.op("Conv", &[x, w, b], &[("pads", ints(&pads)), ("strides", strides), ("group", Attribute::Int(group as i64))])
}

#[test]
fn tiles_are_transposed_where_images_do_not_fill_vectors() {
    let of = |width: usize| {
        let mut net = Net::new();
        let y = convolution(&mut net, &[1, 12, width, width], 32, &[1, 7], (1, 1));
        let text = |(lanes, text): (i64, String)| {
            let n = |what: &str| text.lines().filter(|l| l.contains(what)).count();
            format!("{lanes} lanes: {} zips, {} single; ", n("= zip"), n("= lane"))
        };
        kernels(net, y).into_iter().map(text).collect::<String>()
    };
    insta::assert_snapshot!(of(17), @"4 lanes: 32 zips, 24 single; 8 lanes: 32 zips, 176 single; 16 lanes: 128 zips, 544 single; 4 lanes: 64 zips, 40 single;");
    insta::assert_snapshot!(of(32), @"4 lanes: 0 zips, 0 single; 8 lanes: 0 zips, 0 single; 16 lanes: 0 zips, 0 single; 4 lanes: 0 zips, 0 single;");
}

#[test]
fn epilogues_of_transposed_tiles() {
    for seed in 0..16u64 {
        let mut pick = picks(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (group, filters) = ([1, 2][pick(2)], [8, 20, 32, 34, 50][pick(5)]);
        let (channels, sizes) = ([2, 8, 18][pick(3)], [5 + pick(30), 3 + pick(8)]);
        let (kernel, stride) = ([1 + pick(3), 1 + 2 * pick(3)], 1 + pick(2) as i64);
        let rank = 1 + pick(2);
        let image = [&[1 + pick(2), channels], &sizes[..rank]].concat();
        eprintln!("seed {seed}: {image:?} to {filters}, kernel {:?}, stride {stride}, {group} groups", &kernel[..rank]);
        let mut net = Net::new();
        let sum = convolution(&mut net, &image, filters, &kernel[..rank], (stride, group));
        let rest = convolution(&mut net, &image, filters, &kernel[..rank], (stride, group));
        let bounded = net.op("Relu", &[sum], &[]);
        let heavy = net.op("Tanh", &[rest], &[]);
        let both = net.op("Add", &[bounded, heavy], &[]);
        net.check(&[bounded, both]);
    }
}

#[test]
fn windows_over_channels_whose_results_are_apart() {
    for (width, channels) in [(37, 40), (20, 18), (9, 16)] {
        let mut net = Net::new();
        let x = net.input(&[1, channels, width, width]);
        let w = net.weight(&[channels, channels, 1, 1]);
        let x = net.op("Conv", &[x, w], &[]);
        let x = net.op("Relu", &[x], &[]);
        let size = [("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2]))];
        let outputs = ["MaxPool", "AveragePool"].map(|kind| net.op(kind, &[x], &size));
        net.check(&outputs);
    }
    let mut net = Net::new();
    let (x, w) = (net.input(&[70, 45]), net.input(&[37, 70]));
    let transposed = |net: &mut Net, x| net.op("Transpose", &[x], &[("perm", ints(&[1, 0]))]);
    let (x, w) = (transposed(&mut net, x), transposed(&mut net, w));
    let y = net.op("MatMul", &[x, w], &[]);
    net.check(&[y]);
}

//! Windows over padded images: kernels, strides, dilations and paddings by chance, against the operators' own values.

use super::shuffles::kernels;
use super::{Emitter, Level, Machine, Net, Options, ints};
use crate::nest::Access;
use crate::ops::Attribute;

/// Numbers below others, by chance; the state is not 0.
pub(super) fn picks(mut state: u64) -> impl FnMut(usize) -> usize {
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % n
    }
}

#[test]
fn windows_at_every_border() {
    for seed in 0..10u64 {
        let mut pick = picks(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let channels = [3, 8, 20, 24][pick(4)];
        let (height, width) = (5 + pick(12), 7 + pick(20));
        let mut net = Net::new();
        let x = net.input(&[1, channels, height, width]);
        let w = net.weight(&[channels, channels, 1, 1]);
        let x = net.op("Conv", &[x, w], &[]);
        let kernel = [1 + pick(5), 1 + pick(5)];
        let pads: Vec<i64> = (0..4).map(|i| pick(kernel[i % 2]) as i64).collect();
        let strides = ints(&[1 + pick(2) as i64, 1 + pick(3) as i64]);
        eprintln!("seed {seed}: {channels} channels of {height} by {width}, kernel {kernel:?}, pads {pads:?}");
        let size = ints(&kernel.map(|k| k as i64));
        let w = net.weight(&[channels, 1, kernel[0], kernel[1]]);
        let depthwise =
            net.op("Conv", &[x, w], &[("pads", ints(&pads)), ("strides", strides.clone()), ("group", Attribute::Int(channels as i64))]);
        let pool = net.op("MaxPool", &[x], &[("kernel_shape", size.clone()), ("pads", ints(&pads)), ("strides", strides.clone())]);
        let mean = net.op("AveragePool", &[x], &[("kernel_shape", size), ("pads", ints(&pads)), ("strides", strides.clone())]);
        let first = net.input(&[1, 2, height, width]);
        let w = net.weight(&[12, 2, kernel[0], kernel[1]]);
        let first = net.op("Conv", &[first, w], &[("pads", ints(&pads)), ("strides", strides)]);
        let first = net.op("Relu", &[first], &[]);
        net.check(&[depthwise, pool, mean, first]);
    }
}

#[test]
fn windows_over_images_as_they_come() {
    for (kernel, stride, pads) in [([3, 3], 2, [1, 1, 1, 1]), ([2, 4], 3, [0; 4]), ([5, 2], 2, [2, 1, 0, 0]), ([1, 3], 2, [0; 4])] {
        let mut net = Net::new();
        let x = net.input(&[2, 3, 19, 37]);
        let attributes = |kind: &str| {
            let mut list = vec![("kernel_shape", ints(&kernel)), ("pads", ints(&pads)), ("strides", ints(&[2, stride]))];
            if kind == "AveragePool" {
                list.push(("count_include_pad", Attribute::Int(stride % 2)));
            }
            list
        };
        let outputs = ["MaxPool", "AveragePool", "LpPool"].map(|kind| net.op(kind, &[x], &attributes(kind)));
        net.check(&outputs);
    }
}

/// Windows that stride far along a row, of many channels that are not innermost: in lanes of channels between copies.
#[test]
fn windows_over_many_channels_as_they_come() {
    let channels = 37;
    for (kernel, stride, pads, relaid) in
        [([3, 3], 3, [1, 1, 1, 1], true), ([5, 6], 1, [2, 3, 2, 2], false), ([3, 3], 1, [1, 1, 1, 1], false), ([2, 2], 2, [0; 4], false)]
    {
        let mut net = Net::new();
        let x = net.input(&[2, channels, 11, 19]);
        let attributes = [("kernel_shape", ints(&kernel)), ("pads", ints(&pads)), ("strides", ints(&[stride, stride]))];
        let mut outputs = ["MaxPool", "AveragePool"].map(|kind| net.op(kind, &[x], &attributes)).to_vec();
        let (w, b) = (net.weight(&[channels, 1, kernel[0] as usize, kernel[1] as usize]), net.weight(&[channels]));
        let group = ("group", Attribute::Int(channels as i64));
        let y = net.op("Conv", &[x, w, b], &[attributes.to_vec(), vec![group]].concat());
        outputs.push(net.op("Sigmoid", &[y], &[]));
        net.set_outputs(&outputs);
        let options = Options { emitter: Emitter::Wide, ..Options::default() };
        let kernels = net.compile(&Machine::x86_64(Level::V4), options).program.kernels;
        for kernel in kernels {
            assert_eq!(kernel.to_string().contains("zip_low"), relaid, "{kernel}");
        }
        net.check(&outputs);
    }
}

/// Lanes along the rows that windows slide over: padding in place, every second element from shuffles, rows that share what they read.
#[test]
fn windows_in_lanes_of_columns() {
    for seed in 0..12u64 {
        let mut pick = picks(seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1);
        let channels = 1 + pick(4);
        let step = 1 + pick(2);
        let (height, width) = (5 + pick(12), 18 * step + pick(30));
        let kernel = [1 + pick(5), 2 + pick(4)];
        let pads: Vec<i64> = (0..4).map(|i| pick(kernel[i % 2]) as i64).collect();
        let strides = ints(&[1 + pick(2) as i64, step as i64]);
        let dilations = ints(&[1 + pick(2) as i64, 1]);
        eprintln!("seed {seed}: {channels} channels of {height} by {width}, kernel {kernel:?}, strides {strides:?}, pads {pads:?}");
        let mut net = Net::new();
        let x = net.input(&[2, channels, height.max(2 * kernel[0]), width]);
        let (size, pads) = (("kernel_shape", ints(&kernel.map(|k| k as i64))), ("pads", ints(&pads)));
        let (w, b) = (net.weight(&[channels, 1, kernel[0], kernel[1]]), net.weight(&[channels]));
        let group = ("group", Attribute::Int(channels as i64));
        let of = |more: &[(&'static str, Attribute)]| [&[pads.clone(), ("strides", strides.clone())], more].concat();
        let y = net.op("Conv", &[x, w, b], &of(&[group, ("dilations", dilations.clone())]));
        let gate = net.op("Sigmoid", &[y], &[]);
        let silu = net.op("Mul", &[y, gate], &[]);
        let pool = net.op("MaxPool", &[x], &of(&[size.clone(), ("dilations", dilations)]));
        let mean = net.op("AveragePool", &[x], &of(&[size.clone(), ("count_include_pad", Attribute::Int(seed as i64 % 2))]));
        let of_mean = net.op("Add", &[mean, mean], &[]);
        net.check(&[silu, pool, of_mean]);
    }
}

#[test]
fn padding_of_windows_in_lanes_is_not_written_out() {
    let mut net = Net::new();
    let x = net.input(&[1, 3, 20, 40]);
    let w = net.weight(&[3, 1, 3, 3]);
    let around = ("pads", ints(&[1, 1, 1, 1]));
    let y = net.op("Conv", &[x, w], &[("group", Attribute::Int(3)), around.clone()]);
    let z = net.op("MaxPool", &[x], &[("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2])), around]);
    net.set_outputs(&[y, z]);
    for (level, lanes) in [(Level::V4, 16), (Level::V3, 8), (Level::V2, 4)] {
        let options = Options { emitter: Emitter::Wide, ..Options::default() };
        let kernels = net.compile(&Machine::x86_64(level), options).program.kernels;
        for (kernel, text) in kernels.iter().map(|k| (k, k.to_string())) {
            assert!(kernel.buffers.iter().all(|b| b.access != Access::ReadWrite), "{text}");
            assert!(text.contains(&format!("f32x{lanes} = load")), "{text}");
        }
        assert!(kernels[1].to_string().contains(&format!("f32x{lanes} = odd")), "{}", kernels[1]);
    }
}

/// Steps of two along a row: the vectors of a window's other taps are those of its middle, moved by a lane, where a lane is less than a vector.
#[test]
fn every_second_column_is_beside_others() {
    for (width, pads, moved) in [(3, 1, "previous"), (3, 0, "next"), (5, 2, "previous"), (2, 0, "")] {
        let mut net = Net::new();
        let x = net.input(&[1, 3, 24, 101]);
        let attributes = [("kernel_shape", ints(&[3, width])), ("pads", ints(&[1, pads, 1, pads])), ("strides", ints(&[2, 2]))];
        let y = net.op("MaxPool", &[x], &attributes);
        for (lanes, text) in kernels(net, y) {
            for name in ["previous", "next"] {
                let wanted = lanes > 4 && (name == moved || width == 5);
                assert_eq!(text.contains(&format!(" = {name} ")), wanted, "{name} of {width}, {pads}, at {lanes} lanes\n{text}");
            }
        }
    }
}

/// Where registers hold few rows of a large window, each has two sums.
#[test]
fn few_rows_of_windows_do_not_wait_for_each_other() {
    let mut net = Net::new();
    let (x, w) = (net.input(&[1, 3, 24, 101]), net.weight(&[3, 1, 5, 5]));
    let attributes = [("group", Attribute::Int(3)), ("pads", ints(&[2; 4])), ("strides", ints(&[2, 2]))];
    let y = net.op("Conv", &[x, w], &attributes);
    for (lanes, text) in kernels(net, y).into_iter().filter(|k| k.0 > 4) {
        assert_eq!(text.contains(" = add "), lanes == 16, "{lanes} lanes\n{text}");
    }
}

#[test]
fn phases_of_a_transposed_convolution_share_its_padding() {
    let transposed = |pads: [i64; 4], strides: [i64; 2]| {
        let mut net = Net::new();
        let (x, w) = (net.input(&[1, 10, 9, 33]), net.weight(&[10, 3, 4, 4]));
        let y = net.op("ConvTranspose", &[x, w], &[("pads", ints(&pads)), ("strides", ints(&strides))]);
        let text = kernels(net, y).into_iter().find(|k| k.0 == 8).expect("a level with vectors of eight lanes").1;
        let [kernel] = &text.split("kernel @").skip(1).collect::<Vec<_>>()[..] else { panic!("one kernel\n{text}") };
        let head = kernel.lines().next().unwrap_or_default();
        let padded = head.split(", ").filter(|b| b.contains("_padded"));
        padded.filter_map(|b| b.split(['[', ']']).nth(1)?.parse::<usize>().ok()).collect::<Vec<_>>()
    };
    // Each phase reads one row and one column outside, on sides of its own.
    assert_eq!(transposed([1, 1, 1, 1], [2, 2]), [10 * 11 * 35]);
    assert_eq!(transposed([0, 1, 2, 0], [3, 2]).len(), 1);
}

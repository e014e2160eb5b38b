//! Windows that slide over the rows of a product: blocks of both.

use super::{Emitter, Level, Machine, Net, can_run, ints};
use crate::ops::Attribute;
use crate::pipeline::{Compiled, Options, lower_and_schedule};
use crate::tensor::Tensor;

/// A product of an image's channels, and a window over every channel of it.
pub(super) struct Case {
    image: [usize; 3],
    /// Taps, stride and padding on all sides, where the product is a convolution of the input itself.
    taps: Option<[i64; 3]>,
    channels: usize,
    window: [i64; 2],
    strides: [i64; 2],
    pads: [i64; 4],
    pool: bool,
    activation: &'static str,
}

impl Case {
    /// A product that a depthwise convolution follows.
    pub(super) fn depthwise() -> Self {
        Case {
            image: [8, 80, 60],
            taps: None,
            channels: 64,
            window: [3, 3],
            strides: [1, 1],
            pads: [1; 4],
            pool: false,
            activation: "Relu",
        }
    }

    pub(super) fn net(&self) -> (Net, super::Value) {
        let mut net = Net::new();
        let [c, h, w] = self.image;
        let input = net.input(&[1, c, h, w]);
        // Channels innermost, as inside a network.
        let (weights, bias) = (net.weight(&[c, c, 1, 1]), net.weight(&[c]));
        let x = net.op("Conv", &[input, weights, bias], &[]);
        let other = net.op("MaxPool", &[x], &[("kernel_shape", ints(&[2, 2]))]);
        let other = net.op("GlobalAveragePool", &[other], &[]);
        let bias = net.weight(&[self.channels]);
        let t = match self.taps {
            None => {
                let weights = net.weight(&[self.channels, c, 1, 1]);
                net.op("Conv", &[x, weights, bias], &[])
            }
            Some([taps, stride, pad]) => {
                let weights = net.weight(&[self.channels, c, taps as usize, taps as usize]);
                net.op("Conv", &[input, weights, bias], &[("pads", ints(&[pad; 4])), ("strides", ints(&[stride; 2]))])
            }
        };
        let t = net.op(self.activation, &[t], &[]);
        let (pads, strides) = (("pads", ints(&self.pads)), ("strides", ints(&self.strides)));
        let y = if self.pool {
            net.op("MaxPool", &[t], &[("kernel_shape", ints(&self.window)), pads, strides])
        } else {
            let weights = net.weight(&[self.channels, 1, self.window[0] as usize, self.window[1] as usize]);
            let bias = net.weight(&[self.channels]);
            net.op("Conv", &[t, weights, bias], &[pads, strides, ("group", Attribute::Int(self.channels as i64))])
        };
        let y = net.op(self.activation, &[y], &[]);
        let y = net.op("GlobalAveragePool", &[y], &[]);
        let weights = net.weight(&[c, self.channels, 1, 1]);
        let y = net.op("Conv", &[y, weights], &[]);
        let y = net.op("Mul", &[y, other], &[]);
        (net, y)
    }
}

fn blocks(compiled: &Compiled) -> Vec<String> {
    compiled.program.kernels.iter().map(|k| k.schedule.clone()).filter(|s| s.contains("blocks(rows")).collect()
}

/// All levels and caches give the values of the operators; with some cache there are blocks, and the bits are those of one thread.
fn check(case: &Case, wanted: bool) {
    let (mut net, y) = case.net();
    net.set_outputs(&[y]);
    let inputs: Vec<Tensor> = net.inputs();
    let values = net.evaluate(&inputs);
    for (level, emitter) in [(Level::V2, Emitter::Clif), (Level::V2, Emitter::Auto), (Level::V3, Emitter::Auto), (Level::V4, Emitter::Auto)]
    {
        net.check_at(level, emitter, &[y], &inputs, &values);
        let mut machine = Machine::x86_64(level);
        machine.target.l2_bytes = 2 << 20;
        for threads in [1, 2] {
            let options = Options { emitter, threads, ..Options::default() };
            let compiled = lower_and_schedule(net.graph.clone(), &machine, options).unwrap();
            for kernel in &compiled.program.kernels {
                let errors = crate::nest::verify(kernel);
                assert!(errors.is_empty(), "{errors:?}\n{kernel}");
            }
            let found = blocks(&compiled);
            assert_eq!(found.len(), usize::from(wanted), "{level:?}, {threads} threads, {:?} by {:?}: {found:?}", case.image, case.taps);
            if !can_run(&machine) {
                continue;
            }
            for (got, want) in net.run(&compiled, &machine, &[y], &inputs)[0].to_f64s().iter().zip(values[&y].to_f64s()) {
                assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{got} where {want} is right ({level:?}, {threads})");
            }
        }
    }
}

#[test]
fn blocks_of_a_product_and_a_window_are_one_step() {
    let depthwise = Case::depthwise();
    check(&depthwise, true);
    check(
        &Case {
            image: [5, 96, 61],
            channels: 50,
            window: [5, 3],
            strides: [2, 2],
            pads: [1, 0, 2, 1],
            activation: "HardSwish",
            ..depthwise
        },
        true,
    );
    let case = Case {
        image: [7, 90, 44],
        taps: None,
        channels: 72,
        window: [3, 2],
        strides: [2, 1],
        pads: [0, 1, 1, 0],
        pool: true,
        activation: "LeakyRelu",
    };
    check(&case, true);
    // Rows that are kept are more than a block goes on by; and rows between windows that none reads.
    let wide = Case { image: [8, 96, 61], channels: 48, window: [5, 3], strides: [2, 2], pads: [2, 1, 2, 1], ..depthwise };
    check(&wide, true);
    check(&Case { window: [2, 2], strides: [3, 1], pads: [0, 0, 1, 1], pool: true, ..wide }, true);
    // Less than the second-level cache holds, and rows too short for tiles.
    check(&Case { image: [8, 20, 60], ..case }, false);
}

#[test]
fn large_windows_leave_registers_for_their_sums() {
    let case = Case { image: [8, 80, 60], channels: 64, window: [5, 5], pads: [2; 4], ..Case::depthwise() };
    let (mut net, y) = case.net();
    net.set_outputs(&[y]);
    for (level, lanes) in [(Level::V4, "map(lanes=16)"), (Level::V3, "map(lanes=8)")] {
        let mut machine = Machine::x86_64(level);
        machine.target.l2_bytes = 2 << 20;
        let options = Options { emitter: Emitter::Auto, threads: 2, ..Options::default() };
        let compiled = lower_and_schedule(net.graph.clone(), &machine, options).unwrap();
        let found = blocks(&compiled);
        assert!(matches!(&found[..], [one] if one.contains(lanes)), "{level:?}: {found:?}");
        net.check_at(level, Emitter::Auto, &[y], &net.inputs(), &net.evaluate(&net.inputs()));
    }
}

#[test]
fn the_product_may_be_the_first_layer() {
    let case = Case { image: [3, 200, 200], taps: Some([3, 2, 1]), channels: 32, ..Case::depthwise() };
    check(&case, true);
    // Both ends of the image are padding, for the window too; a copy with its padding; none.
    check(&Case { image: [2, 100, 90], taps: Some([5, 1, 2]), window: [5, 3], pads: [2, 1, 2, 1], strides: [2, 1], ..case }, true);
    check(&Case { taps: Some([7, 2, 3]), window: [3, 3], strides: [2, 2], pool: true, ..case }, true);
    check(&Case { image: [1, 105, 81], taps: Some([3, 1, 0]), channels: 40, strides: [2, 2], pool: true, ..case }, true);
    // Functions that take long hide what memory takes, and many channels have faster forms.
    check(&Case { activation: "Sigmoid", ..case }, false);
    check(&Case { image: [8, 160, 160], channels: 64, ..case }, false);
}

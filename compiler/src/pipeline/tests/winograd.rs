//! Convolutions by fewer products: right for all shapes, and about as exact as direct sums.

use super::{Compiled, Emitter, Level, Machine, Net, Options, Value, WAYS, can_run, ints, lower_and_schedule, random};
use crate::codegen::jit::Executable;
use crate::schedule::Convolution;
use crate::tensor::Tensor;

/// A convolution that reads and is read by others, so that its channels are innermost.
#[derive(Debug)]
struct Case {
    image: Vec<usize>,
    channels: [usize; 2],
    taps: Vec<usize>,
    pads: Vec<i64>,
    /// Of each side; 1 where empty.
    strides: Vec<i64>,
    /// Of each side; 1 where empty.
    dilations: Vec<i64>,
    /// What follows it.
    activation: &'static str,
    /// Whether its input is added.
    residual: bool,
}

impl Case {
    fn net(&self) -> (Net, Value) {
        let mut net = Net::new();
        let [from, to] = self.channels;
        let ones = vec![1; self.taps.len()];
        let with = |channels: [usize; 2], taps: &[usize]| [&channels, taps].concat();
        let dims = [&self.image[..1], &[5], &self.image[1..]].concat();
        let x = net.input(&dims);
        let w = net.weight(&with([from, 5], &ones));
        let a = net.op("Conv", &[x, w], &[]);
        let (w, b) = (net.weight(&with([to, from], &self.taps)), net.weight(&[to]));
        let mut attributes = vec![("pads", ints(&self.pads))];
        if !self.strides.is_empty() {
            attributes.push(("strides", ints(&self.strides)));
        }
        if !self.dilations.is_empty() {
            attributes.push(("dilations", ints(&self.dilations)));
        }
        let mut y = net.op("Conv", &[a, w, b], &attributes);
        if self.residual {
            let subsampled = if self.strides.is_empty() {
                a
            } else {
                let w = net.weight(&with([to, from], &ones));
                net.op("Conv", &[a, w], &[("strides", ints(&self.strides))])
            };
            y = net.op("Add", &[y, subsampled], &[]);
        }
        if !self.activation.is_empty() {
            y = net.op(self.activation, &[y], &[]);
        }
        let w = net.weight(&with([3, to], &ones));
        let y = net.op("Conv", &[y, w], &[]);
        (net, y)
    }

    fn check(&self) {
        self.check_with(&[(2, 2), (3, 3), (4, 4), (1, 2), (1, 4), (2, 4)]);
    }

    fn check_with(&self, forms: &[(usize, usize)]) {
        eprintln!("{self:?}");
        let (mut net, y) = self.net();
        net.set_outputs(&[y]);
        let inputs = net.inputs();
        let values = net.evaluate(&inputs);
        for &(down, across) in forms {
            let convolution = Convolution::Winograd(down, across);
            for (level, emitter) in WAYS {
                let compiled = net.check_at(level, Options { emitter, convolution, ..Options::default() }, &[y], &inputs, &values);
                assert_eq!(n_winograd(&compiled), 1, "{:?} {:?}", self.image, self.channels);
            }
        }
    }
}

/// Three taps a side under padding of 1, at a stride.
fn square(image: [usize; 3], channels: [usize; 2], stride: i64) -> Case {
    let (image, taps, pads, strides) = (image.to_vec(), vec![3, 3], vec![1; 4], vec![stride; 2]);
    Case { image, channels, taps, pads, strides, dilations: vec![], activation: "Relu", residual: false }
}

fn n_winograd(compiled: &Compiled) -> usize {
    compiled.program.kernels.iter().filter(|k| k.schedule.contains("winograd(")).count()
}

#[test]
fn images_of_any_size_under_any_padding() {
    let case = |image: [usize; 3], channels: [usize; 2], pads: [i64; 4], activation: &'static str, residual: bool| Case {
        image: image.to_vec(),
        channels,
        taps: vec![3, 3],
        pads: pads.to_vec(),
        strides: vec![],
        dilations: vec![],
        activation,
        residual,
    };
    case([1, 11, 9], [8, 20], [1, 1, 1, 1], "Relu", false).check();
    case([2, 6, 13], [13, 13], [1, 1, 1, 1], "Sigmoid", true).check();
    case([1, 7, 7], [37, 16], [0, 0, 0, 0], "", false).check();
    case([1, 5, 8], [16, 35], [2, 0, 1, 2], "Relu", false).check();
    case([1, 8, 30], [4, 50], [0, 2, 2, 1], "", false).check();
}

/// Phases of a dilated convolution are plain ones, of equal size or not, under any padding that is a multiple of the dilation.
#[test]
fn dilated_images_of_any_size() {
    let forms = [(2, 2), (3, 3), (4, 4)];
    let case = |image: [usize; 3], channels: [usize; 2], dilations: [i64; 2], pads: [i64; 4], residual: bool| {
        let (pads, dilations) = (pads.to_vec(), dilations.to_vec());
        let activation = if residual { "Sigmoid" } else { "Relu" };
        Case { pads, strides: vec![], dilations, activation, residual, ..square(image, channels, 1) }.check_with(&forms);
    };
    case([1, 12, 16], [8, 20], [2, 2], [2; 4], false);
    case([2, 13, 11], [13, 13], [3, 2], [3, 2, 3, 2], true);
    case([1, 14, 10], [6, 17], [1, 4], [1, 4, 1, 4], false);
    case([1, 12, 17], [16, 6], [4, 3], [0, 0, 0, 0], false);
    case([1, 10, 12], [5, 33], [2, 5], [0, 5, 4, 10], false);
    case([1, 5, 7], [8, 8], [6, 5], [6, 5, 6, 5], true);
}

/// Images whose channels are not innermost, as inputs and outputs of the model are.
#[test]
fn images_as_they_come() {
    for (image, [from, to], dilations, residual) in
        [([1, 13, 18], [16, 24], [1, 1], false), ([2, 9, 17], [13, 13], [1, 1], true), ([1, 12, 15], [20, 20], [2, 3], true)]
    {
        let mut net = Net::new();
        let x = net.input(&[image[0], from, image[1], image[2]]);
        let (w, b) = (net.weight(&[to, from, 3, 3]), net.weight(&[to]));
        let pads = ints(&[dilations[0], dilations[1], dilations[0], dilations[1]]);
        let mut y = net.op("Conv", &[x, w, b], &[("pads", pads), ("dilations", ints(&dilations))]);
        if residual {
            y = net.op("Add", &[y, x], &[]);
        }
        let y = net.op("Relu", &[y], &[]);
        net.set_outputs(&[y]);
        let inputs = net.inputs();
        let values = net.evaluate(&inputs);
        for (level, emitter) in WAYS {
            let options = Options { emitter, convolution: Convolution::Winograd(4, 4), ..Options::default() };
            let compiled = net.check_at(level, options, &[y], &inputs, &values);
            assert_eq!(n_winograd(&compiled), 1, "{image:?}");
        }
    }
}

/// Random numbers below what is asked for.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |n| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    }
}

/// A convolution of an image of `least ..` so many more a side.
fn random_case(below: &mut impl FnMut(usize) -> usize, (least, more): (usize, usize)) -> Case {
    let channels = [4 + below(30), 2 + below(40)];
    let pads = (0..4).map(|_| below(3) as i64).collect();
    let image = [1 + below(2), least + below(more), least + below(more)];
    let activation = ["", "Relu", "Sigmoid", "HardSwish"][below(4)];
    Case { pads, activation, ..square(image, channels, 1) }
}

#[test]
fn random_images() {
    let mut below = numbers(77);
    for _ in 0..6 {
        random_case(&mut below, (5, 9)).check();
    }
}

#[test]
fn filters_along_one_axis() {
    let case = |image: &[usize], taps: &[usize], pads: &[i64], residual: bool| {
        let (image, taps, pads) = (image.to_vec(), taps.to_vec(), pads.to_vec());
        Case { image, channels: [12, 12], taps, pads, strides: vec![], dilations: vec![], activation: "Relu", residual }.check();
    };
    case(&[1, 9, 10], &[1, 3], &[0, 1, 0, 1], true);
    case(&[1, 9, 10], &[3, 1], &[1, 0, 1, 0], true);
    case(&[2, 21], &[3], &[1, 1], true);
    case(&[1, 30], &[3], &[0, 2], false);
}

/// Forms at stride 2 of two to four outputs, and of one.
const STRIDED: [(usize, usize); 5] = [(2, 2), (3, 3), (4, 4), (1, 2), (4, 3)];

#[test]
fn strided_images_of_any_size_under_any_padding() {
    let case = |image: [usize; 3], channels: [usize; 2], pads: [i64; 4], activation: &'static str, residual: bool| {
        Case { pads: pads.to_vec(), activation, residual, ..square(image, channels, 2) }.check_with(&STRIDED);
    };
    case([1, 21, 18], [8, 20], [1, 1, 1, 1], "Relu", false);
    case([2, 12, 25], [13, 13], [1, 1, 1, 1], "Sigmoid", true);
    case([1, 13, 14], [37, 16], [0, 0, 0, 0], "", false);
    case([1, 9, 16], [16, 35], [2, 0, 1, 2], "Relu", false);
    case([1, 16, 59], [4, 50], [0, 2, 2, 1], "", false);
    case([1, 9, 10], [6, 7], [2, 1, 2, 2], "", false);
}

#[test]
fn random_strided_images() {
    let mut below = numbers(78);
    for _ in 0..6 {
        let case = random_case(&mut below, (8, 20));
        let strides = [[2, 2], [1, 2], [2, 1]][below(3)].to_vec();
        Case { strides, ..case }.check_with(&STRIDED);
    }
}

#[test]
fn strided_filters_along_one_axis_and_of_five_taps() {
    let case = |image: &[usize], taps: &[usize], pads: &[i64], strides: &[i64], forms: &[(usize, usize)]| {
        let (image, taps, pads, strides) = (image.to_vec(), taps.to_vec(), pads.to_vec(), strides.to_vec());
        let residual = pads.iter().sum::<i64>() > 0;
        Case { image, channels: [12, 12], taps, pads, strides, dilations: vec![], activation: "Relu", residual }.check_with(forms);
    };
    case(&[1, 9, 23], &[1, 3], &[0, 1, 0, 1], &[1, 2], &STRIDED);
    case(&[1, 20, 9], &[3, 1], &[1, 0, 1, 0], &[2, 1], &STRIDED);
    case(&[1, 22, 19], &[3, 1], &[1, 0, 1, 0], &[2, 2], &STRIDED);
    case(&[2, 41], &[3], &[1, 1], &[2], &STRIDED);
    case(&[1, 60], &[3], &[0, 0], &[2], &STRIDED);
    case(&[1, 21, 24], &[5, 5], &[2, 2, 2, 2], &[2, 2], &[(2, 2), (3, 3), (2, 3)]);
    case(&[1, 21, 24], &[5, 3], &[2, 1, 2, 1], &[2, 2], &[(2, 4), (3, 2)]);
}

/// What no form is for stays a direct sum, as all do where they are asked for.
#[test]
fn other_strides_and_dilations_are_direct_sums() {
    let forced = Options { convolution: Convolution::Winograd(2, 2), ..Options::default() };
    for (strides, taps, convolution) in [(2, 3, Convolution::Direct), (3, 3, forced.convolution), (2, 2, forced.convolution)] {
        let case = Case { taps: vec![taps; 2], strides: vec![strides; 2], ..square([1, 20, 20], [16, 16], 2) };
        let (mut net, y) = case.net();
        net.set_outputs(&[y]);
        let inputs = net.inputs();
        let values = net.evaluate(&inputs);
        let compiled = net.check_at(Level::V3, Options { convolution, ..forced }, &[y], &inputs, &values);
        assert_eq!(n_winograd(&compiled), 0, "{strides} {taps}");
    }
}

/// The form and its stride are in the schedule's name; where it is faster, it needs no asking.
#[test]
fn schedules_name_the_stride() {
    let schedule = |strides: [i64; 2], options: Options| {
        let case = Case { strides: strides.to_vec(), ..square([1, 56, 56], [128, 128], 2) };
        let (mut net, y) = case.net();
        net.set_outputs(&[y]);
        let compiled = lower_and_schedule(net.graph.clone(), &Machine::x86_64(Level::V4), options).unwrap();
        let found =
            compiled.program.kernels.iter().find_map(|k| k.schedule.lines().find_map(|l| l.find("winograd(").map(|at| l[at..].to_owned())));
        found.map(|text| text.split(" tiles=").next().unwrap().to_owned())
    };
    let forced = |m, n| Options { convolution: Convolution::Winograd(m, n), ..Options::default() };
    assert_eq!(schedule([2, 2], forced(2, 2)).as_deref(), Some("winograd(m=2 stride=2"));
    assert_eq!(schedule([1, 2], forced(4, 3)).as_deref(), Some("winograd(m=4x3 stride=1x2"));
    assert_eq!(schedule([1, 1], forced(4, 4)).as_deref(), Some("winograd(m=4"));
    assert!(schedule([2, 2], Options::default()).is_some_and(|text| text.ends_with("stride=2")));
    assert_eq!(schedule([2, 2], Options { convolution: Convolution::Direct, ..Options::default() }), None);
}

#[test]
fn blocks_that_end_beyond_the_image() {
    let case = square([1, 23, 70], [48, 33], 1);
    let (mut net, y) = case.net();
    net.set_outputs(&[y]);
    let inputs = net.inputs();
    let values = net.evaluate(&inputs);
    let convolution = Convolution::Winograd(4, 4);
    net.check_at(Level::V4, Options { emitter: Emitter::Auto, convolution, ..Options::default() }, &[y], &inputs, &values);
}

/// Products go panel by panel or point by point, in blocks or at once, as caches and threads ask for: all to the same bits.
#[test]
fn orders_and_blocks_give_the_same_bits() {
    let cases = [
        ([1, 20, 26], [64, 52], (4, 4), 1),
        ([2, 21, 40], [24, 37], (4, 4), 1),
        ([1, 20, 26], [64, 52], (1, 2), 1),
        ([1, 41, 52], [64, 52], (2, 2), 2),
    ];
    for (image, channels, m, stride) in cases {
        let case = square(image, channels, stride);
        let (mut net, y) = case.net();
        net.set_outputs(&[y]);
        let inputs = net.inputs();
        for (level, emitter) in
            [(Level::Base, Emitter::Clif), (Level::V2, Emitter::Auto), (Level::V3, Emitter::Auto), (Level::V4, Emitter::Auto)]
        {
            let mut machine = Machine::x86_64(level);
            if !can_run(&machine) {
                continue;
            }
            let mut outputs = vec![];
            let mut schedules = std::collections::BTreeSet::new();
            for (l2_bytes, threads) in [(64 << 10, 1), (256 << 10, 1), (256 << 10, 5), (2 << 20, 1), (2 << 20, 2)] {
                machine.target.l2_bytes = l2_bytes;
                let options = Options { emitter, convolution: Convolution::Winograd(m.0, m.1), threads, ..Options::default() };
                let compiled = lower_and_schedule(net.graph.clone(), &machine, options).unwrap();
                assert_eq!(n_winograd(&compiled), 1);
                schedules.extend(compiled.program.kernels.iter().map(|k| k.schedule.clone()).filter(|s| s.contains("winograd(")));
                let exe = Executable::new(&compiled.program, &machine).unwrap();
                let mut memory = exe.memory();
                for (to, from) in memory.inputs.iter_mut().zip(&inputs) {
                    to.as_mut_slice().copy_from_slice(from.bytes());
                }
                exe.run(&mut memory).unwrap();
                outputs.push(memory.outputs[0].as_slice().to_vec());
            }
            assert!(outputs.iter().all(|o| *o == outputs[0]), "{level:?} {image:?}: {schedules:?}");
            assert!(schedules.len() > 1, "{level:?}: only {schedules:?}");
            assert!(image[0] > 1 || m.0 == 1 || schedules.iter().any(|s| s.contains("by=points")), "{level:?}: {schedules:?}");
        }
    }
}

/// A tile asks for the lines of a later one where the second-level cache does not keep the output: four by four, each a vector.
#[test]
fn lines_of_far_outputs_are_asked_for() {
    let case = square([1, 16, 64], [16, 32], 1);
    let (mut net, y) = case.net();
    net.set_outputs(&[y]);
    let mut machine = Machine::x86_64(Level::V4);
    let asked = [64 << 10, 2 << 20].map(|l2_bytes| {
        machine.target.l2_bytes = l2_bytes;
        let options = Options { convolution: Convolution::Winograd(4, 4), ..Options::default() };
        let compiled = lower_and_schedule(net.graph.clone(), &machine, options).unwrap();
        let kernel = compiled.program.kernels.iter().find(|k| k.schedule.contains("winograd(")).unwrap();
        kernel.to_string().lines().filter(|l| l.trim_start().starts_with("prefetch ")).count()
    });
    assert!(asked[0] >= 16 && asked[0] % 16 == 0 && asked[1] == 0, "{asked:?}");
}

/// The largest error of a convolution relative to the root mean square of its outputs.
fn error(channels: usize, stride: usize, level: Level, options: Options) -> f64 {
    /// Outputs a side.
    const SIDE: usize = 8;
    const COLUMNS: usize = 16;
    let mut net = Net::new();
    let dim = SIDE * stride;
    let x = net.input(&[1, dim, dim, channels]);
    let x = net.op("Transpose", &[x], &[("perm", ints(&[0, 3, 1, 2]))]);
    let w = net.weight(&[COLUMNS, channels, 3, 3]);
    let y = net.op("Conv", &[x, w], &[("pads", ints(&[1; 4])), ("strides", ints(&[stride as i64; 2]))]);
    let y = net.op("Transpose", &[y], &[("perm", ints(&[0, 2, 3, 1]))]);
    net.set_outputs(&[y]);
    let machine = Machine::x86_64(level);
    let compiled = lower_and_schedule(net.graph.clone(), &machine, options).unwrap();
    let wanted = usize::from(options.convolution != Convolution::Direct);
    assert_eq!(n_winograd(&compiled), wanted, "{:?}", compiled.program.kernels.iter().map(|k| &k.schedule).collect::<Vec<_>>());
    let exe = Executable::new(&compiled.program, &machine).unwrap();
    let mut memory = exe.memory();
    let input = random(5, &[1, dim, dim, channels]);
    memory.inputs[0].as_mut_slice().copy_from_slice(input.bytes());
    exe.run(&mut memory).unwrap();
    let got = Tensor::from_bytes(crate::tensor::DType::F32, &[SIDE, SIDE, COLUMNS], memory.outputs[0].as_slice());

    let (data, weights) = (input.as_slice::<f32>(), random(2, &[COLUMNS, channels, 3, 3]));
    let weights = weights.as_slice::<f32>();
    let (mut largest, mut squares) = (0f64, 0f64);
    for (i, got) in got.as_slice::<f32>().iter().enumerate() {
        let (row, column, to) = (i / COLUMNS / SIDE, i / COLUMNS % SIDE, i % COLUMNS);
        let mut sum = 0f64;
        for tap in 0..9 {
            let (r, c) = (row * stride + tap / 3, column * stride + tap % 3);
            if (1..=dim).contains(&r) && (1..=dim).contains(&c) {
                for from in 0..channels {
                    let x = data[((r - 1) * dim + c - 1) * channels + from];
                    sum += f64::from(x) * f64::from(weights[(to * channels + from) * 9 + tap]);
                }
            }
        }
        largest = largest.max((f64::from(*got) - sum).abs());
        squares += sum * sum;
    }
    largest / (squares / (SIDE * SIDE * COLUMNS) as f64).sqrt()
}

#[test]
fn errors_stay_near_those_of_direct_sums() {
    let ways = [(Level::Base, Emitter::Clif), (Level::V2, Emitter::Auto), (Level::V3, Emitter::Auto), (Level::V4, Emitter::Auto)];
    for (level, emitter) in ways {
        if !can_run(&Machine::x86_64(level)) {
            continue;
        }
        for channels in [32, 512] {
            let of = |stride, convolution| error(channels, stride, level, Options { emitter, convolution, ..Options::default() });
            let direct = of(1, Convolution::Direct);
            let forms = [(1, 2), (1, 3), (1, 4), (2, 2), (3, 3), (4, 4)];
            let [others @ .., four] = forms.map(|(m, n)| of(1, Convolution::Winograd(m, n)));
            eprintln!("{level:?} {channels}: direct {direct:.1e}, smaller tiles {others:?}, F(4x4) {four:.1e}");
            // Few channels give direct sums of so few terms that rounding in the transforms shows.
            let allowed = 2.0 * direct.max(2e-6);
            assert!(others.iter().all(|&e| e <= allowed) && four <= 1.5 * allowed, "direct {direct:.1e}, {others:?}, F(4x4) {four:.1e}");
            let direct = of(2, Convolution::Direct);
            let strided = [(1, 2), (2, 2), (3, 3), (4, 4)].map(|(m, n)| of(2, Convolution::Winograd(m, n)));
            eprintln!("{level:?} {channels}: direct {direct:.1e}, at stride 2 {strided:?}");
            assert!(strided.iter().all(|&error| error <= 2.0 * direct.max(2e-6)), "direct {direct:.1e}, {strided:?}");
        }
    }
}

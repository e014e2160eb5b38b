//! `f16` and `bf16`: computed in lanes of `f32`, by the templates of `f32`.

use super::{Emitter, Level, Machine, Net, Options, ints, random};
use crate::config::Goal;
use crate::graph::Value;
use crate::ops::Attribute;
use crate::pipeline::Compiled;
use crate::tensor::{DType, Tensor};

/// Integers so small that sums of their products are exact in any order, and halves.
fn integers(seed: u64, dtype: DType, dims: &[usize]) -> Tensor {
    let values: Vec<f64> = random(seed, dims).to_f64s().iter().map(|x| (2.0 * x).round()).collect();
    Tensor::from_f64s(dtype, dims, &values)
}

impl Net {
    fn halves(&mut self, x: Value, dtype: DType) -> Value {
        self.op("Cast", &[x], &[("to", Attribute::Int(if dtype == DType::F16 { 10 } else { 16 }))])
    }

    fn half_weight(&mut self, dtype: DType, dims: &[usize]) -> Value {
        self.n += 1;
        self.graph.add_constant(&format!("w{}", self.n), integers(self.n as u64, dtype, dims))
    }

    /// Checks `f` of inputs that are halves, its result read as `f32`.
    fn check_halves(mut self, dtype: DType, dims: &[&[usize]], f: impl Fn(&mut Net, &[Value]) -> Value) -> Compiled {
        let inputs: Vec<Value> = dims.iter().map(|d| self.input(d)).collect();
        let given: Vec<Tensor> = dims.iter().enumerate().map(|(i, d)| integers(100 + i as u64, DType::F32, d)).collect();
        let halves: Vec<Value> = inputs.iter().map(|&x| self.halves(x, dtype)).collect();
        let y = f(&mut self, &halves);
        let y = self.op("Cast", &[y], &[("to", Attribute::Int(1))]);
        self.check_with(&[y], &given)
    }
}

fn schedules(compiled: &Compiled) -> String {
    compiled.program.kernels.iter().map(|k| k.schedule.clone()).collect::<Vec<_>>().join("; ")
}

fn convolution(net: &mut Net, x: Value, weights: [usize; 4], dtype: DType, group: i64, stride: i64) -> Value {
    let w = net.half_weight(dtype, &weights);
    let pad = weights[2] as i64 / 2;
    let attributes = [("pads", ints(&[pad; 4])), ("strides", ints(&[stride; 2])), ("group", Attribute::Int(group))];
    net.op("Conv", &[x, w], &attributes)
}

#[test]
fn convolutions_and_pooling_of_halves_have_the_templates_of_f32() {
    let mut all = vec![];
    for dtype in [DType::F16, DType::BF16] {
        let compiled = Net::new().check_halves(dtype, &[&[1, 3, 56, 56]], |net, x| {
            let y = convolution(net, x[0], [16, 3, 3, 3], dtype, 1, 2);
            let y = net.op("Clip", &[y], &[]);
            let y = convolution(net, y, [16, 1, 3, 3], dtype, 16, 1);
            let y = net.op("Sign", &[y], &[]);
            let y = convolution(net, y, [32, 16, 1, 1], dtype, 1, 1);
            let y = net.op("Sign", &[y], &[]);
            let y = net.op("MaxPool", &[y], &[("kernel_shape", ints(&[2, 2])), ("strides", ints(&[2, 2]))]);
            convolution(net, y, [32, 32, 3, 3], dtype, 1, 1)
        });
        all.push(schedules(&compiled));
    }
    assert_eq!(all[0], all[1]);
    insta::assert_snapshot!(all[0], @"map(lanes=8); map(lanes=8) contract(mr=6 nr=16 ku=4); map(lanes=8) contract(mr=5 nr=8 ku=4); map(lanes=8) contract(mr=5 nr=16 ku=4); map(lanes=8) contract(mr=4 nr=16 ku=4); map(lanes=8) winograd(m=4 tiles=16 mr=6 nr=16 by=points)");
}

#[test]
fn products_and_element_wise_stages_of_halves_are_in_lanes() {
    for dtype in [DType::F16, DType::BF16] {
        let by_weights = Net::new().check_halves(dtype, &[&[37, 24]], |net, x| {
            let w = net.half_weight(dtype, &[24, 40]);
            let y = net.op("MatMul", &[x[0], w], &[]);
            net.op("Relu", &[y], &[])
        });
        let of_variables = Net::new().check_halves(dtype, &[&[3, 30, 16], &[3, 16, 33]], |net, x| net.op("MatMul", x, &[]));
        let one_row = Net::new().check_halves(dtype, &[&[1, 64]], |net, x| {
            let w = net.half_weight(dtype, &[64, 40]);
            net.op("MatMul", &[x[0], w], &[])
        });
        let element_wise = Net::new().check_halves(dtype, &[&[7, 53], &[1, 53]], |net, x| {
            let y = net.op("Add", x, &[]);
            let y = net.op("Max", &[y, x[1]], &[]);
            net.op("Neg", &[y], &[])
        });
        for compiled in [by_weights, of_variables, one_row, element_wise] {
            let text = schedules(&compiled);
            assert!(!text.contains("scalar") && !text.contains("map()"), "{text}");
        }
    }
}

#[test]
fn weights_stay_halves_where_size_matters_or_rows_are_few() {
    let bytes = |rows: usize, goal: Goal| {
        let mut net = Net::new();
        let x = net.input(&[rows, 64]);
        let x = net.halves(x, DType::F16);
        let w = net.half_weight(DType::F16, &[64, 48]);
        let y = net.op("MatMul", &[x, w], &[]);
        net.set_outputs(&[y]);
        let options = Options { goal, emitter: Emitter::Wide, ..Options::default() };
        let compiled = net.compile(&Machine::x86_64(Level::V3), options);
        compiled.program.constants.iter().map(|c| c.bytes.as_slice().len()).max()
    };
    let n = 64 * 48;
    assert_eq!([bytes(32, Goal::Latency), bytes(1, Goal::Latency), bytes(32, Goal::Size)], [Some(4 * n), Some(2 * n), Some(2 * n)]);
}

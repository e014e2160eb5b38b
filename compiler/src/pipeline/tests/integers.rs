//! Products of quantized values through the whole way, against the operators' own values to the last bit.

use super::{Net, can_run, ints};
use crate::codegen::target::Machine;
use crate::graph::Value;
use crate::ops::Attribute;
use crate::pipeline::{Compiled, Emitter, Options};
use crate::tensor::{DType, Tensor, Type};

/// The ways to machine code: every level, with and without instructions for dot products of bytes.
fn machines() -> Vec<(Machine, Emitter)> {
    let machine = |cpu| Machine::parse(Some("x86_64-unknown-linux-gnu"), Some(cpu)).unwrap();
    let wide = ["v2", "v3", "v4", "v4+avx512vnni"].map(|cpu| (machine(cpu), Emitter::Auto));
    [&wide[..], &[(machine("v1"), Emitter::Clif), (machine("v3"), Emitter::Clif)]].concat()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// Bytes of either sign, whose greatest and least are frequent.
    fn bytes(&mut self, dtype: DType, dims: &[usize]) -> Tensor {
        let (low, high) = dtype.int_range();
        let one = |r: &mut Self| match r.below(8) {
            0 => low,
            1 => high,
            _ => low + r.below(256) as i128,
        };
        let values: Vec<i128> = (0..dims.iter().product()).map(|_| one(self)).collect();
        Tensor::from_ints(dtype, dims, &values)
    }

    fn dtype(&mut self) -> DType {
        [DType::U8, DType::I8][self.below(2)]
    }
}

impl Net {
    fn constant(&mut self, t: Tensor) -> Value {
        self.n += 1;
        self.graph.add_constant(&format!("k{}", self.n), t)
    }

    fn bytes(&mut self, t: &Tensor) -> Value {
        let name = format!("x{}", self.graph.inputs().len());
        self.graph.add_input(&name, Type::fixed(t.dtype(), t.dims()))
    }

    /// A value that is an input, then among `inputs`, or a constant.
    fn input_or_constant(&mut self, r: &mut Random, t: Tensor, inputs: &mut Vec<Tensor>) -> Value {
        if r.below(2) != 0 {
            return self.constant(t);
        }
        let value = self.bytes(&t);
        inputs.push(t);
        value
    }

    /// Compiles and runs for a machine; the results must be the values. Without them where this machine cannot run it.
    fn check_exactly(&self, machine: &Machine, emitter: Emitter, outputs: &[Value], inputs: &[Tensor]) -> Compiled {
        let compiled = self.compile(machine, Options::from(emitter));
        if !can_run(machine) {
            return compiled;
        }
        let values = self.evaluate(inputs);
        for (j, (got, v)) in self.run(&compiled, machine, outputs, inputs).into_iter().zip(outputs).enumerate() {
            assert_eq!(got, values[v], "output {j} at {machine} by {emitter:?}\n{}", schedules(&compiled));
        }
        compiled
    }
}

fn schedules(compiled: &Compiled) -> String {
    compiled.program.kernels.iter().map(|k| format!("{}\n", k.schedule)).collect()
}

/// A network with its outputs and inputs.
type Case = (Net, Vec<Value>, Vec<Tensor>);

fn matmul(r: &mut Random) -> Case {
    let (m, k, n) = (1 + r.below(33), 1 + r.below(70), 1 + r.below(50));
    let (a, b) = (r.dtype(), r.dtype());
    let x = if r.below(3) == 0 { r.bytes(a, &[2, m, k]) } else { r.bytes(a, &[m, k]) };
    let w = r.bytes(b, &[k, n]);
    let zero = if r.below(2) == 0 { r.bytes(a, &[]) } else { Tensor::from_ints(a, &[], &[0]) };
    let columns = match r.below(3) {
        0 => r.bytes(b, &[n]),
        1 => r.bytes(b, &[]),
        _ => Tensor::from_ints(b, &[], &[0]),
    };
    eprintln!("{} * {} less {zero:?}, {}", x.ty(), w.ty(), columns.ty());
    let mut net = Net::new();
    let (xv, wv) = (net.bytes(&x), net.constant(w));
    let mut inputs = vec![x];
    let zv = net.input_or_constant(r, zero, &mut inputs);
    let cv = net.constant(columns);
    let y = net.op("MatMulInteger", &[xv, wv, zv, cv], &[]);
    (net, vec![y], inputs)
}

fn conv(r: &mut Random) -> Case {
    let group = [1, 1, 1, 2, 5][r.below(5)];
    let (c, o) = ((1 + r.below(9)) * group, (1 + r.below(20)) * group);
    let (kh, kw) = ([1, 3, 2][r.below(3)], [1, 3, 5][r.below(3)]);
    let (a, b) = (r.dtype(), r.dtype());
    let image = [1 + r.below(2), c, kh + r.below(9), kw + r.below(9)];
    let x = r.bytes(a, &image);
    let w = r.bytes(b, &[o, c / group, kh, kw]);
    let pads: Vec<i64> = (0..4).map(|i| r.below([kh, kw][i % 2]) as i64).collect();
    let strides = [1 + r.below(2) as i64, 1 + r.below(2) as i64];
    let zero = r.bytes(a, &[]);
    let filters = if r.below(2) == 0 { r.bytes(b, &[o]) } else { Tensor::from_ints(b, &[], &[[0, 100][r.below(2)]]) };
    eprintln!("{} * {} in {group} groups, pads {pads:?} strides {strides:?} less {zero:?}, {}", x.ty(), w.ty(), filters.ty());
    let mut net = Net::new();
    let (xv, wv) = (net.bytes(&x), net.constant(w));
    let mut inputs = vec![x];
    let zv = net.input_or_constant(r, zero, &mut inputs);
    let fv = net.constant(filters);
    let attributes = [("pads", ints(&pads)), ("strides", ints(&strides)), ("group", Attribute::Int(group as i64))];
    let y = net.op("ConvInteger", &[xv, wv, zv, fv], &attributes);
    (net, vec![y], inputs)
}

fn search(seeds: std::ops::Range<u64>, case: fn(&mut Random) -> Case) {
    for seed in seeds {
        eprint!("seed {seed}: ");
        let (mut net, outputs, inputs) = case(&mut Random(seed * 7919 + 1));
        net.set_outputs(&outputs);
        for (machine, emitter) in machines() {
            net.check_exactly(&machine, emitter, &outputs, &inputs);
        }
    }
}

#[test]
fn matrix_products_are_exact() {
    search(0..16, matmul);
}

#[test]
fn convolutions_are_exact() {
    search(100..116, conv);
}

#[test]
fn schedules_say_how_bytes_are_summed() {
    let mut r = Random(5);
    let (x, w) = (r.bytes(DType::U8, &[30, 66]), r.bytes(DType::I8, &[66, 40]));
    let mut net = Net::new();
    let (xv, wv) = (net.bytes(&x), net.constant(w));
    let y = net.op("MatMulInteger", &[xv, wv], &[]);
    net.set_outputs(&[y]);
    let all: Vec<String> = machines()
        .iter()
        .map(|(m, emitter)| format!("{m} {emitter:?}: {}", schedules(&net.check_exactly(m, *emitter, &[y], std::slice::from_ref(&x)))))
        .collect();
    insta::assert_snapshot!(all.concat());
}

//! Small networks through the whole way, against the operators' own values.

use std::collections::HashMap;

use super::{Compiled, Emitter, Options, lower_and_schedule};
use crate::codegen::jit::Executable;
use crate::codegen::target::{Level, Machine};
use crate::codegen::testing::can_run;
use crate::config::Goal;
use crate::graph::{Graph, Value};
use crate::nest;
use crate::ops::{self, Attribute, Attributes, Operands};
use crate::tensor::{DType, Tensor, Type};

/// Deterministic values in -1..1.
fn random(seed: u64, dims: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_slice(dims, &values)
}

/// How networks are compiled: by the wide emitter at each of its levels, and by Cranelift.
const WAYS: [(Level, Emitter); 4] =
    [(Level::V2, Emitter::Auto), (Level::V3, Emitter::Auto), (Level::V4, Emitter::Auto), (Level::V3, Emitter::Clif)];

struct Net {
    graph: Graph,
    n: usize,
}

impl Net {
    fn new() -> Self {
        Net { graph: Graph::new("net"), n: 0 }
    }

    fn input(&mut self, dims: &[usize]) -> Value {
        let name = format!("x{}", self.graph.inputs().len());
        self.graph.add_input(&name, Type::fixed(DType::F32, dims))
    }

    fn weight(&mut self, dims: &[usize]) -> Value {
        self.n += 1;
        self.graph.add_constant(&format!("w{}", self.n), random(self.n as u64, dims))
    }

    fn ints(&mut self, values: &[i64]) -> Value {
        self.n += 1;
        self.graph.add_constant(&format!("c{}", self.n), Tensor::from_slice(&[values.len()], values))
    }

    fn op(&mut self, name: &str, operands: &[Value], attributes: &[(&str, Attribute)]) -> Value {
        self.results(name, operands, attributes, 1)[0]
    }

    /// The first `n` results of an operator.
    fn results(&mut self, name: &str, operands: &[Value], attributes: &[(&str, Attribute)], n: u32) -> Vec<Value> {
        self.n += 1;
        let mut attributes = Attributes(attributes.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect());
        let op = (ops::find(name).expect(name).build)(&mut attributes).expect(name);
        let operands: Vec<Option<Value>> = operands.iter().map(|&v| Some(v)).collect();
        let names: Vec<String> = (0..n).map(|i| format!("v{}{}", self.n, if i == 0 { String::new() } else { format!(".{i}") })).collect();
        let node = self.graph.add_node(op, &operands, &names, "").expect(name);
        (0..n).map(|result| Value { node, result }).collect()
    }

    fn check(self, outputs: &[Value]) -> Compiled {
        let inputs = self.inputs();
        self.check_with(outputs, &inputs)
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.graph.inputs().iter().enumerate().map(|(i, &v)| random(100 + i as u64, &self.graph.ty(v).dims().unwrap())).collect()
    }

    fn check_with(mut self, outputs: &[Value], inputs: &[Tensor]) -> Compiled {
        self.set_outputs(outputs);
        let values = self.evaluate(inputs);
        for (level, emitter) in WAYS.into_iter().chain([(Level::V4, Emitter::Clif)]) {
            self.check_at(level, emitter, outputs, inputs, &values);
        }
        self.check_at(Level::V3, Emitter::Auto, outputs, inputs, &values)
    }

    fn set_outputs(&mut self, outputs: &[Value]) {
        self.graph.set_outputs(outputs.iter().enumerate().map(|(i, &v)| (format!("y{i}"), v)).collect());
    }

    /// The value of everything by the operators' own definition.
    fn evaluate(&self, inputs: &[Tensor]) -> HashMap<Value, Tensor> {
        let mut values: HashMap<Value, Tensor> = self.graph.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
        for node in self.graph.order() {
            let n = self.graph.node(node);
            if let Some(t) = n.constant() {
                values.insert(Value { node, result: 0 }, t.clone());
            } else if let Some(op) = n.operator() {
                let operands = self.graph.operands(node).into_iter().map(|v| v.map(|v| values[&v].clone()));
                let results = op.eval(&Operands::of_values(operands, n.results.len())).unwrap();
                for (i, r) in results.into_iter().enumerate() {
                    values.insert(Value { node, result: i as u32 }, r);
                }
            }
        }
        values
    }

    /// Compiles; the kernels are sound.
    fn compile(&self, machine: &Machine, options: Options) -> Compiled {
        let compiled = lower_and_schedule(self.graph.clone(), machine, options).unwrap_or_else(|e| panic!("{e:?}"));
        for kernel in &compiled.program.kernels {
            let errors = nest::verify(kernel);
            assert!(errors.is_empty(), "{errors:?}\n{kernel}");
        }
        compiled
    }

    /// What the machine code makes of the inputs.
    fn run(&self, compiled: &Compiled, machine: &Machine, outputs: &[Value], inputs: &[Tensor]) -> Vec<Tensor> {
        let exe = Executable::new(&compiled.program, machine).unwrap();
        let mut memory = exe.memory();
        for (to, from) in memory.inputs.iter_mut().zip(inputs) {
            to.as_mut_slice().copy_from_slice(from.bytes());
        }
        // What the arena holds before must not matter.
        memory.workspace.as_mut_slice().fill(0xFF);
        exe.run(&mut memory).unwrap();
        let made = outputs.iter().map(|v| self.graph.ty(*v)).zip(&memory.outputs);
        made.map(|(ty, bytes)| Tensor::from_bytes(ty.dtype, &ty.dims().unwrap(), bytes.as_slice())).collect()
    }

    fn check_at(
        &self,
        level: Level,
        options: impl Into<Options>,
        outputs: &[Value],
        inputs: &[Tensor],
        values: &HashMap<Value, Tensor>,
    ) -> Compiled {
        let options = options.into();
        let emitter = options.emitter;
        let compiled = self.compile(&Machine::x86_64(level), options);
        // Kernels of 128-bit vectors run everywhere.
        let levels = if emitter == Emitter::Clif { Level::X86_64.to_vec() } else { vec![level] };
        for level in levels {
            let machine = Machine::x86_64(level);
            if !can_run(&machine) {
                continue;
            }
            self.check_on(&machine, &compiled, outputs, inputs, values);
        }
        compiled
    }

    /// What the machine code makes of the inputs is what it should be.
    fn check_on(&self, machine: &Machine, compiled: &Compiled, outputs: &[Value], inputs: &[Tensor], values: &HashMap<Value, Tensor>) {
        for (j, (got, v)) in self.run(compiled, machine, outputs, inputs).into_iter().zip(outputs).enumerate() {
            let (got, want) = (got.to_f64s(), values[v].to_f64s());
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                assert!(
                    g.is_nan() && w.is_nan() || (g - w).abs() <= 1e-4 * (1.0 + w.abs()),
                    "output {j} element {i}: {g} where {w} is right ({:?})\n{:?}",
                    machine.target.level,
                    compiled.program.kernels.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("\n")
                );
            }
        }
    }
}

fn ints(v: &[i64]) -> Attribute {
    Attribute::Ints(v.to_vec())
}

#[test]
fn a_convolution_with_its_activation_is_one_step() {
    let mut net = Net::new();
    let x = net.input(&[1, 3, 17, 19]);
    let (w, b) = (net.weight(&[20, 3, 3, 3]), net.weight(&[20]));
    let y = net.op("Conv", &[x, w, b], &[("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))]);
    let y = net.op("Relu", &[y], &[]);
    let (w, b) = (net.weight(&[13, 20, 3, 3]), net.weight(&[13]));
    let z = net.op("Conv", &[y, w, b], &[("pads", ints(&[1, 1, 1, 1]))]);
    let z = net.op("Relu", &[z], &[]);
    let w = net.weight(&[20, 13, 1, 1]);
    let r = net.op("Conv", &[z, w], &[]);
    let r = net.op("Add", &[r, y], &[]);
    let compiled = net.check(&[r]);
    assert_eq!(compiled.program.steps.len(), 3);
}

#[test]
fn depthwise_pools_and_concatenation() {
    let mut net = Net::new();
    let x = net.input(&[1, 8, 9, 10]);
    let w = net.weight(&[16, 8, 1, 1]);
    let x = net.op("Conv", &[x, w], &[]);
    let w = net.weight(&[16, 1, 3, 3]);
    let d = net.op("Conv", &[x, w], &[("pads", ints(&[1, 1, 1, 1])), ("group", Attribute::Int(16))]);
    let d = net.op("Relu", &[d], &[]);
    let m = net.op("MaxPool", &[x], &[("kernel_shape", ints(&[3, 3])), ("pads", ints(&[1, 1, 1, 1]))]);
    let c = net.op("Concat", &[d, m], &[("axis", Attribute::Int(1))]);
    let w = net.weight(&[4, 8, 3, 3]);
    let g = net.op("Conv", &[c, w], &[("group", Attribute::Int(4))]);
    let p = net.op("GlobalAveragePool", &[g], &[]);
    net.check(&[p, g]);
}

/// A product of `n_rows` rows with a table, transposed, that data indexes too: the sizes of its large constants.
fn copies_of_a_table(n_rows: usize, goal: Goal) -> Vec<usize> {
    let mut net = Net::new();
    let x = net.input(&[n_rows, 520]);
    let table = net.weight(&[523, 520]);
    let keep = ("keepdims", Attribute::Int(0));
    let rows = net.op("ArgMax", &[x], &[("axis", Attribute::Int(1)), keep]);
    let embedding = net.op("Gather", &[table, rows], &[]);
    let h = net.op("Add", &[embedding, x], &[]);
    let back = net.op("Transpose", &[table], &[]);
    let y = net.op("MatMul", &[h, back], &[]);
    let inputs = net.inputs();
    net.set_outputs(&[y]);
    let values = net.evaluate(&inputs);
    let compiled = net.check_at(Level::V4, Options { goal, ..Options::default() }, &[y], &inputs, &values);
    assert!(compiled.program.workspace_bytes < 1 << 20);
    compiled.program.constants.iter().map(|c| c.bytes.as_slice().len()).filter(|&n| n > 1 << 17).collect()
}

#[test]
fn a_large_table_that_data_indexes_has_no_second_copy() {
    assert_eq!(copies_of_a_table(5, Goal::Latency), [523 * 520 * 4]);
    assert_eq!(copies_of_a_table(16, Goal::Size), [523 * 520 * 4]);
}

#[test]
fn a_product_of_many_rows_has_its_own_copy_of_a_table() {
    let sizes = copies_of_a_table(16, Goal::Latency);
    assert_eq!(sizes.len(), 2, "{sizes:?}");
}

#[test]
fn attention_reads_its_heads_in_place() {
    let mut net = Net::new();
    let x = net.input(&[1, 10, 32]);
    let head = |net: &mut Net| {
        let w = net.weight(&[32, 32]);
        let y = net.op("MatMul", &[x, w], &[]);
        let shape = net.ints(&[1, 10, 4, 8]);
        let y = net.op("Reshape", &[y, shape], &[]);
        net.op("Transpose", &[y], &[("perm", ints(&[0, 2, 1, 3]))])
    };
    let (q, k, v) = (head(&mut net), head(&mut net), head(&mut net));
    let k = net.op("Transpose", &[k], &[("perm", ints(&[0, 1, 3, 2]))]);
    let s = net.op("MatMul", &[q, k], &[]);
    let s = net.op("Softmax", &[s], &[]);
    let o = net.op("MatMul", &[s, v], &[]);
    let o = net.op("Transpose", &[o], &[("perm", ints(&[0, 2, 1, 3]))]);
    let shape = net.ints(&[1, 10, 32]);
    let o = net.op("Reshape", &[o, shape], &[]);
    let w = net.weight(&[32, 7]);
    let y = net.op("MatMul", &[o, w], &[]);
    let compiled = net.check(&[y]);
    // Three projections, attention, the last product.
    assert_eq!(compiled.program.steps.len(), 5);
}

mod bodies;
mod columns;
mod conditions;
mod counted;
mod extents;
mod forms;
mod gathers;
mod halves;
mod images;
mod integers;
mod joined;
mod lengths;
mod orders;
mod panels;
mod recurrences;
mod rows;
mod scatters;
mod shuffles;
mod sized;
mod sliding;
mod states;
mod sums;
mod taps;
mod targets;
mod turned;
mod updates;
mod windows;
mod winograd;
mod zero;

//! States: several runs in a row are what the operators give when the outputs are fed back by hand, in place where that is safe.

use tinsmith_runtime::Pool;

use super::{Attribute, Compiled, Executable, Level, Machine, Net, Options, Tensor, Value, can_run, ints, random};
use crate::codegen::program::{Emitter, Place};
use crate::pipeline::{Tuned, lower_and_schedule_as};
use crate::state::State;
use crate::tensor::{DType, Type};

impl Net {
    /// The graph as a recurrent one: each state is an input and its next value.
    fn check_states(mut self, outputs: &[Value], states: &[(Value, Value)]) -> Compiled {
        let all: Vec<Value> = outputs.iter().copied().chain(states.iter().map(|s| s.1)).collect();
        self.set_outputs(&all);
        let index = |v: Value| self.graph.inputs().iter().position(|&i| i == v).expect("an input");
        let pairs: Vec<State> = states
            .iter()
            .enumerate()
            .map(|(k, s)| State { input: index(s.0), output: outputs.len() + k, initial: (k % 2 == 1).then(|| self.any(s.0, 77)) })
            .collect();
        let mut compiled = None;
        for (emitter, threads, level) in
            [(Emitter::Clif, 1, Level::Base), (Emitter::Auto, 4, Level::V2), (Emitter::Auto, 4, Level::V4), (Emitter::Auto, 4, Level::V3)]
        {
            compiled = Some(self.check_states_with(outputs, &pairs, emitter, threads, level));
        }
        compiled.expect("several ways")
    }

    fn any(&self, v: Value, seed: u64) -> Tensor {
        let (dims, dtype) = (self.graph.ty(v).dims().unwrap(), self.graph.ty(v).dtype);
        let values = random(seed, &dims);
        if dtype.is_float() {
            values
        } else {
            Tensor::from_f64s(dtype, &dims, &values.to_f64s().iter().map(|x| (2.0 * x).abs().floor()).collect::<Vec<_>>())
        }
    }

    fn check_states_with(&self, outputs: &[Value], states: &[State], emitter: Emitter, threads: usize, level: Level) -> Compiled {
        let options = Options { emitter, threads, ..Options::default() };
        let machine = Machine::x86_64(level);
        let compiled = lower_and_schedule_as(self.graph.clone(), &machine, options, &Tuned::default(), states).unwrap();
        if !can_run(&machine) {
            return compiled;
        }
        let exe = Executable::new(&compiled.program, &machine).unwrap();
        let pool = Pool::new(threads as u32).expect("a pool");
        let mut memory = exe.memory();
        let mut fed: Vec<Tensor> =
            self.graph.inputs().iter().map(|&v| Tensor::zeros(self.graph.ty(v).dtype, &self.graph.ty(v).dims().unwrap())).collect();
        for s in states {
            fed[s.input] = s.initial.clone().unwrap_or_else(|| fed[s.input].clone());
        }
        for run in 0..4u64 {
            for (i, &v) in self.graph.inputs().iter().enumerate() {
                if states.iter().all(|s| s.input != i) {
                    fed[i] = self.any(v, 10 * run + i as u64);
                    memory.inputs[i].as_mut_slice().copy_from_slice(fed[i].bytes());
                }
            }
            memory.workspace.as_mut_slice().fill(0xFF);
            let values = self.evaluate(&fed);
            exe.run_with(&mut memory, Some(pool.hook())).unwrap();
            let same = |bytes: &[u8], want: &Tensor, what: &str| {
                let got = Tensor::from_bytes(want.dtype(), want.dims(), bytes).to_f64s();
                for (i, (g, w)) in got.iter().zip(&want.to_f64s()).enumerate() {
                    assert!((g - w).abs() <= 1e-5 * (1.0 + w.abs()), "run {run}, {what} element {i}: {g} where {w} is right, {emitter:?}");
                }
            };
            for (j, v) in outputs.iter().enumerate() {
                same(memory.outputs[j].as_slice(), &values[v], &format!("output {j}"));
            }
            for s in states {
                let next = &values[&self.graph.outputs()[s.output]];
                same(memory.inputs[s.input].as_slice(), next, &format!("state {}", s.input));
                fed[s.input] = next.clone();
            }
        }
        compiled
    }
}

/// Steps that only copy: the labels of their kernels end so.
fn copies(compiled: &Compiled) -> Vec<&str> {
    let names = compiled.program.steps.iter().map(|s| compiled.program.kernels[s.kernel].name.as_str());
    names.filter(|n| n.ends_with("_copy")).collect()
}

#[test]
fn a_recurrence_is_updated_in_place_where_old_elements_are_read_where_new_ones_are_written() {
    let mut net = Net::new();
    let (x, h) = (net.input(&[2, 40]), net.input(&[2, 40]));
    let w = net.weight(&[40, 40]);
    let u = net.op("MatMul", &[x, w], &[]);
    let u = net.op("Add", &[u, h], &[]);
    let next = net.op("Tanh", &[u], &[]);
    let compiled = net.check_states(&[], &[(h, next)]);
    assert_eq!(copies(&compiled), [""; 0]);
    assert_eq!((compiled.program.steps.len(), compiled.program.state_bytes()), (1, 320));
    assert!(compiled.program.steps[0].args.iter().filter(|a| **a == Place::Input(1, 0)).count() >= 1);
}

#[test]
fn a_product_of_the_old_value_goes_by_a_copy_and_layers_of_one_tensor_are_kept_apart() {
    let mut net = Net::new();
    let (x, h) = (net.input(&[1, 24]), net.input(&[2, 1, 24]));
    let mut y = x;
    let mut nexts = vec![];
    for layer in 0..2 {
        let (from, to) = (net.ints(&[layer]), net.ints(&[layer + 1]));
        let old = net.op("Slice", &[h, from, to], &[]);
        let axes = net.ints(&[0]);
        let old = net.op("Squeeze", &[old, axes], &[]);
        let (w, v) = (net.weight(&[24, 24]), net.weight(&[24, 24]));
        let (a, b) = (net.op("MatMul", &[y, w], &[]), net.op("MatMul", &[old, v], &[]));
        let sum = net.op("Add", &[a, b], &[]);
        y = net.op("Tanh", &[sum], &[]);
        nexts.push(net.op("Unsqueeze", &[y, axes], &[]));
    }
    let next = net.op("Concat", &nexts, &[("axis", Attribute::Int(0))]);
    net.check_states(&[y], &[(h, next)]);
}

#[test]
fn a_cache_moves_and_grows() {
    let mut net = Net::new();
    let (x, old) = (net.input(&[3, 1, 8]), net.input(&[3, 9, 8]));
    let (from, to, axes) = (net.ints(&[1]), net.ints(&[9]), net.ints(&[1]));
    let kept = net.op("Slice", &[old, from, to, axes], &[]);
    let next = net.op("Concat", &[kept, x], &[("axis", Attribute::Int(1))]);
    let axes = net.ints(&[1]);
    let y = net.op("ReduceSum", &[next, axes], &[]);
    net.check_states(&[y], &[(old, next)]);
}

#[test]
fn a_scatter_into_a_cache_is_in_place() {
    let mut net = Net::new();
    let (x, old) = (net.input(&[1, 16]), net.input(&[32, 16]));
    let at = net.graph.add_input("at", Type::fixed(DType::I64, &[1, 1]));
    let next = net.op("ScatterND", &[old, at, x], &[]);
    let axes = net.ints(&[0]);
    let y = net.op("ReduceMax", &[next, axes], &[]);
    let compiled = net.check_states(&[y], &[(old, next)]);
    assert_eq!(copies(&compiled), [""; 0]);
}

#[test]
fn states_that_exchange_their_values_do_not_lose_them() {
    let mut net = Net::new();
    let (a, b, c) = (net.input(&[4, 6]), net.input(&[4, 6]), net.input(&[6, 6]));
    let turned = net.op("Transpose", &[c], &[("perm", ints(&[1, 0]))]);
    let y = net.op("Add", &[a, b], &[]);
    // b begins with a value of its own, and c keeps turning.
    net.check_states(&[y], &[(a, b), (b, a), (c, turned)]);
}

#[test]
fn what_reads_the_old_value_later_keeps_it() {
    let mut net = Net::new();
    let (x, h) = (net.input(&[3, 5]), net.input(&[3, 5]));
    let next = net.op("Mul", &[x, h], &[]);
    let more = net.op("Exp", &[next], &[]);
    let w = net.weight(&[5, 5]);
    let more = net.op("MatMul", &[more, w], &[]);
    let late = net.op("Add", &[more, h], &[]);
    // The old value and the new one are outputs too, and nothing changes one state.
    let same = net.input(&[7]);
    net.check_states(&[late, h, next], &[(h, next), (same, same)]);
}

#[test]
fn one_value_may_be_the_next_of_two_states_and_a_constant_that_of_one() {
    let mut net = Net::new();
    let (x, a, b, c) = (net.input(&[2, 8]), net.input(&[2, 8]), net.input(&[2, 8]), net.input(&[2, 8]));
    let sum = net.op("Add", &[a, b], &[]);
    let sum = net.op("Add", &[sum, c], &[]);
    let next = net.op("Sub", &[x, sum], &[]);
    let w = net.weight(&[2, 8]);
    net.check_states(&[sum], &[(a, next), (b, next), (c, w)]);
}

#[test]
fn random_recurrences_agree() {
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut below = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) % n
    };
    for case in 0..24 {
        let mut net = Net::new();
        let mut pool: Vec<Value> = (0..4).map(|_| net.input(&[6, 6])).collect();
        for _ in 0..3 + below(6) {
            let (a, b) = (pool[below(pool.len() as u64) as usize], pool[below(pool.len() as u64) as usize]);
            let v = match below(6) {
                0 => net.op("Add", &[a, b], &[]),
                1 => net.op("Tanh", &[a], &[]),
                2 => net.op("Transpose", &[a], &[("perm", ints(&[1, 0]))]),
                3 => net.op("Softmax", &[a], &[]),
                4 => {
                    let v = net.op("MatMul", &[a, b], &[]);
                    net.op("Tanh", &[v], &[])
                }
                _ => {
                    let (from, middle, to, axes) = (net.ints(&[0]), net.ints(&[3]), net.ints(&[6]), net.ints(&[0]));
                    let v = [net.op("Slice", &[a, middle, to, axes], &[]), net.op("Slice", &[b, from, middle, axes], &[])];
                    net.op("Concat", &v, &[("axis", Attribute::Int(0))])
                }
            };
            pool.push(v);
        }
        let mut any = || pool[below(pool.len() as u64) as usize];
        let (y, states) = (any(), [(pool[1], any()), (pool[2], any()), (pool[3], any())]);
        // The text of a failure begins with the number of the case.
        eprintln!("case {case}");
        net.check_states(&[y], &states);
    }
}

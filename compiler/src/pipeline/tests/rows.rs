//! Softmax, normalizations, attention and activations: what becomes one step, and that it is right.

use super::{Net, ints, random};
use crate::graph::Value;
use crate::nest::{Access, Kernel, Op, Stmt, for_each_set};
use crate::ops::Attribute;
use crate::tensor::Tensor;

impl Net {
    fn scalar(&mut self, x: f32) -> Value {
        self.n += 1;
        self.graph.add_constant(&format!("c{}", self.n), Tensor::from_slice(&[], &[x]))
    }

    fn unary(&mut self, name: &str, x: Value) -> Value {
        self.op(name, &[x], &[])
    }

    fn binary(&mut self, name: &str, x: Value, y: Value) -> Value {
        self.op(name, &[x, y], &[])
    }

    fn with(&mut self, name: &str, x: Value, y: f32) -> Value {
        let y = self.scalar(y);
        self.binary(name, x, y)
    }

    fn mean(&mut self, x: Value) -> Value {
        let axes = self.ints(&[-1]);
        self.op("ReduceMean", &[x, axes], &[])
    }

    /// `x * 0.5 * (1 + erf(x / sqrt 2))`, in the order of the usual exporters.
    fn gelu(&mut self, x: Value) -> Value {
        let e = self.with("Div", x, std::f32::consts::SQRT_2);
        let e = self.unary("Erf", e);
        let e = self.with("Add", e, 1.0);
        let y = self.binary("Mul", x, e);
        self.with("Mul", y, 0.5)
    }

    fn gelu_tanh(&mut self, x: Value) -> Value {
        let half = self.with("Mul", x, 0.5);
        let cube = self.with("Pow", x, 3.0);
        let cube = self.with("Mul", cube, 0.044_715);
        let sum = self.binary("Add", x, cube);
        let t = self.with("Mul", sum, 0.797_884_6);
        let t = self.unary("Tanh", t);
        let t = self.with("Add", t, 1.0);
        self.binary("Mul", half, t)
    }

    fn layer_norm(&mut self, x: Value, n: usize) -> Value {
        let mean = self.mean(x);
        let d = self.binary("Sub", x, mean);
        let square = self.with("Pow", d, 2.0);
        let var = self.mean(square);
        let var = self.with("Add", var, 1e-5);
        let dev = self.unary("Sqrt", var);
        let y = self.binary("Div", d, dev);
        let (w, b) = (self.weight(&[n]), self.weight(&[n]));
        let y = self.binary("Mul", y, w);
        self.binary("Add", y, b)
    }

    fn rms_norm(&mut self, x: Value, n: usize) -> Value {
        let square = self.binary("Mul", x, x);
        let mean = self.mean(square);
        let mean = self.with("Add", mean, 1e-6);
        let dev = self.unary("Sqrt", mean);
        let inverse = self.unary("Reciprocal", dev);
        let y = self.binary("Mul", x, inverse);
        let w = self.weight(&[n]);
        self.binary("Mul", y, w)
    }

    fn softmax(&mut self, x: Value) -> Value {
        let axes = self.ints(&[-1]);
        let max = self.op("ReduceMax", &[x, axes], &[]);
        let d = self.binary("Sub", x, max);
        let e = self.unary("Exp", d);
        let axes = self.ints(&[-1]);
        let sum = self.op("ReduceSum", &[e, axes], &[]);
        self.binary("Div", e, sum)
    }
}

fn n_steps(dims: &[usize], f: impl FnOnce(&mut Net, Value) -> Value) -> usize {
    let mut net = Net::new();
    let x = net.input(dims);
    let y = f(&mut net, x);
    net.check(&[y]).program.steps.len()
}

#[test]
fn decomposed_forms_are_one_step_each() {
    for dims in [[2, 37, 96], [1, 5, 7], [1, 1, 300], [3, 130, 33]] {
        let n = dims[2];
        assert_eq!(n_steps(&dims, |net, x| net.layer_norm(x, n)), 1, "layer norm of {dims:?}");
        assert_eq!(n_steps(&dims, |net, x| net.rms_norm(x, n)), 1, "rms norm of {dims:?}");
        assert_eq!(n_steps(&dims, |net, x| net.softmax(x)), 1, "softmax of {dims:?}");
        assert_eq!(n_steps(&dims, |net, x| net.gelu(x)), 1, "gelu of {dims:?}");
        assert_eq!(n_steps(&dims, |net, x| net.gelu_tanh(x)), 1, "tanh gelu of {dims:?}");
    }
}

#[test]
fn activations_join_the_product_before_them() {
    type Make = fn(&mut Net, Value) -> Value;
    let silu: Make = |net, x| {
        let s = net.unary("Sigmoid", x);
        net.binary("Mul", x, s)
    };
    for (name, f) in [("gelu", Net::gelu as Make), ("tanh gelu", Net::gelu_tanh), ("silu", silu), ("relu", |net, x| net.unary("Relu", x))] {
        let n = n_steps(&[1, 37, 40], |net, x| {
            let w = net.weight(&[40, 70]);
            let y = net.binary("MatMul", x, w);
            let b = net.weight(&[70]);
            let y = net.binary("Add", y, b);
            f(net, y)
        });
        assert_eq!(n, 1, "{name}");
    }
}

#[test]
fn softmax_along_any_axis_keeps_large_values_finite() {
    for (dims, axis) in [([3, 20, 50], 0), ([3, 20, 50], 1), ([2, 9, 1000], 2), ([64, 3, 48], 1), ([1, 1, 4096], 2)] {
        let mut net = Net::new();
        let x = net.input(&dims);
        let big = net.with("Mul", x, 300.0);
        let y = net.op("Softmax", &[big], &[("axis", Attribute::Int(axis))]);
        net.check(&[y]);
    }
}

/// How often loops of a kernel go over the elements of its result again, and the elements of its longest scratch.
fn passes_and_scratch(kernel: &Kernel) -> (usize, usize) {
    fn walk(body: &[Stmt], kernel: &Kernel, n: &mut usize) {
        let result = kernel.buffers.iter().position(|b| b.access != Access::Read).expect("a result");
        let again = |s: &Stmt| matches!(s, Stmt::Set { op: Op::Load { buffer, .. }, .. } if buffer.0 as usize == result);
        for stmt in body {
            let Stmt::Loop(l) = stmt else { continue };
            *n += usize::from(l.body.iter().any(again));
            walk(&l.body, kernel, n);
        }
    }
    let mut n = 0;
    walk(&kernel.body, kernel, &mut n);
    (n, kernel.buffers.iter().filter(|b| b.private).map(|b| b.len).max().unwrap_or(0))
}

#[test]
fn exponentials_of_softmax_wait_in_its_result() {
    // Summed as they are computed where a row does not stay in the first-level cache.
    for (columns, n) in [(1024, 2), (20_480, 1), (9216, 1)] {
        let mut net = Net::new();
        let x = net.input(&[5, columns]);
        let y = net.op("Softmax", &[x], &[]);
        let compiled = net.check(&[y]);
        let (passes, scratch) = passes_and_scratch(&compiled.program.kernels[0]);
        assert!(passes == n && scratch < columns, "{passes} passes over {columns}, scratch of {scratch}");
    }
}

#[test]
fn exponentials_do_not_wait_where_an_operand_may_be() {
    type Make = fn(&mut Net, Value, Value) -> Value;
    let forms: [(Make, bool); 4] = [
        (|net, p, x| net.binary("Mul", p, x), false),
        (|net, p, _| net.unary("Relu", p), true),
        (|net, p, _| net.with("Add", p, 2.0), true),
        // Lanes along the rows.
        (|net, _, x| net.op("Softmax", &[x], &[("axis", Attribute::Int(0))]), false),
    ];
    for (f, waits) in forms {
        let mut net = Net::new();
        let x = net.input(&[40, 130]);
        let p = net.op("Softmax", &[x], &[]);
        let y = f(&mut net, p, x);
        let y = net.unary("Abs", y);
        let compiled = net.check(&[y]);
        assert_eq!(passes_and_scratch(&compiled.program.kernels[0]).0 > 0, waits, "{}", compiled.program.kernels[0]);
    }
}

/// Scaled dot-product attention over heads `[batch, heads, rows, columns]`, masked by addition.
fn attention(net: &mut Net, (q, k, v): (Value, Value, Value), mask: Option<Value>, scale: f32) -> Value {
    let k = net.op("Transpose", &[k], &[("perm", ints(&[0, 1, 3, 2]))]);
    let s = net.binary("MatMul", q, k);
    let s = net.with("Mul", s, scale);
    let s = mask.map_or(s, |m| net.binary("Add", s, m));
    let p = net.op("Softmax", &[s], &[]);
    net.binary("MatMul", p, v)
}

#[test]
fn attention_is_one_step_for_all_sizes() {
    let mut state = 7u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n as usize
    };
    for case in 0..10 {
        let (heads, rows, columns, width) = (1 + below(4), 2 + below(90), 2 + below(130), 1 + below(40));
        let mut net = Net::new();
        let q = net.input(&[1, heads, rows, width]);
        let k = net.input(&[1, heads, columns, width]);
        let v = net.input(&[1, heads, columns, width]);
        let mask = (case % 2 == 0).then(|| net.input(&[1, 1, rows, columns]));
        let y = attention(&mut net, (q, k, v), mask, 0.3);
        let compiled = net.check(&[y]);
        assert_eq!(compiled.program.steps.len(), 1, "case {case}: {heads} heads, {rows} by {columns}, width {width}");
    }
}

#[test]
fn sums_of_attention_are_stored_in_whole_vectors() {
    let mut net = Net::new();
    let [q, k, v] = [56, 64, 64].map(|n| net.input(&[1, 2, n, 32]));
    let y = attention(&mut net, (q, k, v), None, 0.3);
    let compiled = net.check(&[y]);
    let kernel = &compiled.program.kernels[0];
    let mut single = 0;
    for_each_set(&kernel.body, &mut |_, op| single += usize::from(matches!(op, Op::Lane(..))));
    assert_eq!(single, 0, "{kernel}");
}

#[test]
fn masks_may_hide_everything() {
    let dims = [1, 2, 40, 24];
    let mut net = Net::new();
    let (q, k, v) = (net.input(&dims), net.input(&dims), net.input(&dims));
    let mask = net.input(&[40, 40]);
    let y = attention(&mut net, (q, k, v), Some(mask), 10.0);
    // Causal, and nothing at all left in the last row: NaN, as in the definition.
    let hidden: Vec<f32> = (0..1600).map(|i| if i % 40 > i / 40 || i / 40 == 39 { f32::NEG_INFINITY } else { 0.0 }).collect();
    let inputs = [random(1, &dims), random(2, &dims), random(3, &dims), Tensor::from_slice(&[40, 40], &hidden)];
    let compiled = net.check_with(&[y], &inputs);
    assert_eq!(compiled.program.steps.len(), 1);
}

#[test]
fn a_scaled_operand_of_attention_leaves_the_sums() {
    let dims = [1, 3, 50, 16];
    let mut net = Net::new();
    let (q, k, v) = (net.input(&dims), net.input(&dims), net.input(&dims));
    let q = net.with("Mul", q, 0.5);
    let y = attention(&mut net, (q, k, v), None, 1.0);
    assert_eq!(net.check(&[y]).program.steps.len(), 1);
}

/// Steps of a map of an image, followed by a convolution of its channels with a window of `k`.
fn steps_of_mapped_products([channels, h, w]: [usize; 3], columns: usize, k: usize, scaled: bool) -> usize {
    let mut net = Net::new();
    let x = net.input(&[1, channels, h, w]);
    let x = net.op("Relu", &[x], &[]);
    // Another reader, so that the map has nothing before it to join.
    let other = net.op("MaxPool", &[x], &[("kernel_shape", ints(&[2, 2]))]);
    let s = if scaled { net.input(&[1, channels, 1, 1]) } else { net.weight(&[1, channels, 1, 1]) };
    let y = net.binary("Mul", x, s);
    let t = net.weight(&[channels, 1, 1]);
    let y = net.binary("Add", y, t);
    let y = net.unary("Relu", y);
    let weights = net.weight(&[columns, channels, k, k]);
    let y = net.op("Conv", &[y, weights], &[("pads", ints(&[k as i64 / 2; 4]))]);
    let y = net.unary("Relu", y);
    net.check(&[y, other]).program.steps.len() - 2
}

#[test]
fn a_map_that_only_a_product_reads_is_made_a_block_of_rows_at_a_time() {
    for scaled in [false, true] {
        assert_eq!(steps_of_mapped_products([24, 5, 14], 40, 1, scaled), 1);
        assert_eq!(steps_of_mapped_products([72, 3, 37], 24, 1, scaled), 1);
        assert_eq!(steps_of_mapped_products([7, 2, 29], 5, 1, scaled), 1);
        assert_eq!(steps_of_mapped_products([24, 5, 14], 40, 3, scaled), 2, "a window reads rows of others");
        assert_eq!(steps_of_mapped_products([24, 7, 7], 40, 1, scaled), 2, "few rows");
    }
    assert_eq!(steps_of_mapped_products([520, 2, 14], 520, 1, true), 2, "weights that come from far");
}

#[test]
fn numbers_rounded_to_eight_bits_again_and_again_are_searched_once_each() {
    let mut n = Net::new();
    let mut x = n.input(&[4, 24]);
    for _ in 0..5 {
        let small = n.op("Cast", &[x], &[("to", Attribute::Int(17))]);
        let wide = n.op("Cast", &[small], &[("to", Attribute::Int(1))]);
        x = n.with("Mul", wide, 1.25);
    }
    n.check(&[x]);
}

//! Random networks go through all passes and keep their values.

use std::fmt::Write;

use super::testing::evaluate;
use super::{PASSES, PassConfig, Report};
use crate::graph::{Graph, blobs, parse, parse_with, print, verify};
use crate::tensor::row_major_strides;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// An image network: convolutions of all kinds, arithmetic by constants, normalizations, branches that meet again.
fn network(random: &mut Random) -> String {
    let mut body = String::new();
    // Values of one spatial size: (name, channels).
    let mut values = vec![("x".to_owned(), 4usize)];
    let mut size = 6;
    let n = 4 + random.below(10);
    for i in 0..n {
        let (x, c) = values[values.len() - 1 - random.below(values.len().min(3))].clone();
        let y = format!("v{i}");
        let mut channels = c;
        let seed = random.below(1000);
        let _ = match random.below(14) {
            0..=3 => {
                channels = random.one_of(&[2, 4, 6]);
                let kernel = random.one_of(&[1, 3]);
                let pad = kernel / 2;
                let bias = if random.below(2) == 0 { format!(", @b{i}") } else { String::new() };
                let _ = writeln!(body, "@w{i} = const rand({seed}) : f32[{channels},{c},{kernel},{kernel}]");
                let _ = writeln!(body, "@b{i} = const rand({}) : f32[{channels}]", seed + 1);
                writeln!(body, "%{y} = Conv(%{x}, @w{i}{bias}) pads=[{pad},{pad},{pad},{pad}]")
            }
            4 => {
                let group = if c % 2 == 0 { random.one_of(&[2, c]) } else { c };
                let _ = writeln!(body, "@w{i} = const rand({seed}) : f32[{c},{},3,3]", c / group);
                writeln!(body, "%{y} = Conv(%{x}, @w{i}) group={group} pads=[1,1,1,1]")
            }
            5 => {
                let op = random.one_of(&["Add", "Mul", "Sub"]);
                let dims =
                    random.one_of(&["CHAN,1,1", "1", "1,CHAN,1,1", "6"]).replace('6', &size.to_string()).replace("CHAN", &c.to_string());
                let _ = writeln!(body, "@c{i} = const rand({seed}) : f32[{dims}]");
                if random.below(2) == 0 { writeln!(body, "%{y} = {op}(%{x}, @c{i})") } else { writeln!(body, "%{y} = {op}(@c{i}, %{x})") }
            }
            6 => {
                for (k, name) in ["s", "t", "m"].iter().enumerate() {
                    let _ = writeln!(body, "@{name}{i} = const rand({}) : f32[{c}]", seed + k);
                }
                let _ = writeln!(body, "@z{i} = const splat(0.75) : f32[{c}]");
                writeln!(body, "%{y} = BatchNormalization(%{x}, @s{i}, @t{i}, @m{i}, @z{i})")
            }
            7 | 8 => writeln!(body, "%{y} = {}(%{x})", random.one_of(&["Relu", "Sigmoid", "Tanh", "Neg", "Abs", "HardSwish"])),
            9 => {
                let (z, d) = values[random.below(values.len())].clone();
                if d == c {
                    writeln!(body, "%{y} = {}(%{x}, %{z})", random.one_of(&["Add", "Mul", "Max"]))
                } else {
                    channels = c + d;
                    writeln!(body, "%{y} = Concat(%{x}, %{z}) axis=1")
                }
            }
            10 => writeln!(body, "%{y} = MaxPool(%{x}) kernel_shape=[3,3] pads=[1,1,1,1]"),
            11 => {
                let count = random.below(2);
                writeln!(body, "%{y} = AveragePool(%{x}) kernel_shape=[3,3] pads=[1,1,1,1] count_include_pad={count}")
            }
            12 => {
                let _ = writeln!(body, "%p{i} = Transpose(%{x}) perm=[0,2,3,1]");
                let _ = writeln!(body, "%q{i} = Relu(%p{i})");
                writeln!(body, "%{y} = Transpose(%q{i}) perm=[0,3,1,2]")
            }
            _ if size > 3 => {
                let _ = writeln!(body, "@w{i} = const rand({seed}) : f32[4,{c},3,3]");
                let _ = writeln!(body, "%{y} = Conv(%{x}, @w{i})");
                values.clear();
                (channels, size) = (4, size - 2);
                Ok(())
            }
            _ => writeln!(body, "%{y} = Neg(%{x})"),
        };
        values.push((y, channels));
    }
    let (x, c) = values[values.len() - 1].clone();
    let _ = match random.below(3) {
        0 => writeln!(body, "%y = Neg(%{x})"),
        1 => {
            let _ = writeln!(body, "%g = GlobalAveragePool(%{x})\n%f = Flatten(%g)");
            writeln!(body, "@h = const rand(77) : f32[{c},3]\n%y = Gemm(%f, @h)")
        }
        _ => {
            let k = c * size * size;
            writeln!(body, "%f = Flatten(%{x})\n@h = const rand(77) : f32[{k},3]\n%y = MatMul(%f, @h)")
        }
    };
    format!("graph @g(%x: f32[1,4,6,6]) -> (%y) {{\n{body}}}")
}

/// Makes some filters, some channels and some biases of weights zero.
fn with_zeros(graph: &mut Graph, random: &mut Random) {
    for node in graph.operator_nodes() {
        for (i, v) in graph.operands(node).into_iter().enumerate() {
            let Some((v, t)) = v.and_then(|v| Some((v, graph.constant(v)?.clone()))) else { continue };
            let weights = graph.node(node).operator().is_some_and(|op| ["Conv", "Gemm", "MatMul"].contains(&op.schema().name));
            if !weights || t.dims().is_empty() || random.below(3) == 0 {
                continue;
            }
            let axis = random.below(t.dims().len().min(2));
            let which: Vec<bool> = (0..t.dims()[axis]).map(|_| random.below(3) == 0).collect();
            let strides = row_major_strides(t.dims());
            let zeroed = t.gather(t.dims(), |at| (!which[at[axis]]).then(|| at.iter().zip(&strides).map(|(&i, s)| i * s).sum()));
            let name = graph.name_of(v).to_owned();
            let new = graph.add_constant(&format!("{name}.z"), zeroed);
            graph.set_operand(node, i, Some(new));
        }
    }
}

#[test]
fn random_networks_keep_their_values() {
    let (mut applied, mut pruned) = (0, 0);
    for seed in 0..150 {
        let mut random = Random(seed);
        let text = network(&mut random);
        let mut graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        with_zeros(&mut graph, &mut random);
        let text = print(&graph);
        let before = parse_with(&text, &blobs(&graph)).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let mut report = Report::default();
        let mut after = before.clone();
        for pass in PASSES {
            pass.apply(&mut after, &PassConfig::default(), &mut report);
            let dump = || format!("seed {seed}, after {}\n{}\n{text}\n{}", pass.name, report.trace(), print(&after));
            verify(&after).unwrap_or_else(|e| panic!("{e:?} {}", dump()));
            let (a, b) = evaluate(&before, &after, seed);
            assert_eq!(a.len(), b.len());
            // Values pass through many layers here, and constants of any size meet: the bound is on the largest.
            let scale = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= 1e-4 * scale, "{a} became {b}, {}", dump());
            }
        }
        applied += report.applied.len();
        pruned += report.pruned.len();
    }
    assert!(applied > 500 && pruned > 50, "{applied} {pruned}");
}

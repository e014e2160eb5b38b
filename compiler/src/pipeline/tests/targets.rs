//! What schedules follow from each number of a target.

use tinsmith_targets::Target;

use super::{Emitter, Level, Machine, Net, Options, Value, ints};
use crate::nest::{Kernel, Stmt};

/// The kernels at `x86-64-v4` with something else of it.
fn kernels(net: &mut Net, y: Value, change: impl Fn(&mut Target)) -> Vec<Kernel> {
    let mut machine = Machine::x86_64(Level::V4);
    change(&mut machine.target);
    net.set_outputs(&[y]);
    net.compile(&machine, Options { emitter: Emitter::Wide, ..Options::default() }).program.kernels
}

/// The schedules of a product of so many rows, steps and columns.
fn product([rows, depth, columns]: [usize; 3], change: impl Fn(&mut Target)) -> String {
    let mut net = Net::new();
    let x = net.input(&[rows, depth]);
    let w = net.weight(&[depth, columns]);
    let y = net.op("MatMul", &[x, w], &[]);
    kernels(&mut net, y, change).iter().map(|k| k.schedule.clone()).collect::<Vec<_>>().join(" ")
}

/// The schedules of a convolution of a square image, three taps a side.
fn convolution([side, from, to]: [usize; 3], change: impl Fn(&mut Target)) -> String {
    let mut net = Net::new();
    let x = net.input(&[1, from, side, side]);
    let w = net.weight(&[to, from, 3, 3]);
    let y = net.op("Relu", &[x], &[]);
    let y = net.op("Conv", &[y, w], &[("pads", ints(&[1, 1, 1, 1]))]);
    let y = net.op("Relu", &[y], &[]);
    kernels(&mut net, y, change).iter().map(|k| k.schedule.clone()).collect::<Vec<_>>().join("; ")
}

#[test]
fn tiles_follow_registers_and_ports() {
    let of = |change: &dyn Fn(&mut Target)| product([56, 100, 128], change);
    insta::assert_snapshot!(of(&|_| ()), @"contract(mr=14 nr=32 ku=4)");
    insta::assert_snapshot!(of(&|t| t.n_vector_registers = 16), @"contract(mr=6 nr=32 ku=4)");
    insta::assert_snapshot!(of(&|t| t.port_bits = 512), @"contract(mr=6 nr=64 ku=4)");
    insta::assert_snapshot!(of(&|t| (t.n_fma_ports, t.n_load_ports) = (4, 1)), @"contract(mr=6 nr=64 ku=4)");
}

#[test]
fn rows_that_share_a_set_are_as_many_as_its_ways() {
    let of = |change: &dyn Fn(&mut Target)| product([56, 1024, 64], change);
    insta::assert_snapshot!(of(&|_| ()), @"contract(mr=6 nr=64 ku=4)");
    insta::assert_snapshot!(of(&|t| (t.l1d_ways, t.l1d_bytes) = (4, 16 << 10)), @"contract(mr=4 nr=64 ku=4)");
    insta::assert_snapshot!(of(&|t| (t.l1d_ways, t.l1d_bytes) = (16, 64 << 10)), @"contract(mr=14 nr=32 ku=4)");
    // Rows are half a way apart.
    insta::assert_snapshot!(of(&|t| t.l1d_bytes = 64 << 10), @"contract(mr=14 nr=32 ku=4)");
}

#[test]
fn blocks_follow_the_second_level_cache() {
    let of = |change: &dyn Fn(&mut Target)| product([64, 3072, 768], change);
    insta::assert_snapshot!(of(&|_| ()), @"contract(mr=8 nr=48 ku=4 blocks=6)");
    insta::assert_snapshot!(of(&|t| t.l2_bytes = 512 << 10), @"contract(mr=8 nr=48 ku=4)");
    let tiles = |change: &dyn Fn(&mut Target)| convolution([56, 64, 64], change);
    assert_ne!(tiles(&|_| ()), tiles(&|t| t.l2_bytes = 256 << 10));
}

#[test]
fn convolutions_follow_ports_and_the_last_level_cache() {
    let of = |change: &dyn Fn(&mut Target)| convolution([14, 256, 256], change);
    insta::assert_snapshot!(of(&|_| ()), @"map(lanes=16); move(lanes=16) winograd(m=4 tiles=16 mr=8 nr=48 by=points) map(lanes=16)");
    insta::assert_snapshot!(of(&|t| t.n_fma_ports = 20), @"map(lanes=16); move(lanes=16) winograd(m=2 tiles=49 mr=6 nr=64 by=points) map(lanes=16)");
    // Weights that the last-level cache keeps may be more.
    let of = |change: &dyn Fn(&mut Target)| convolution([8, 64, 64], change);
    assert_ne!(of(&|_| ()), of(&|t| t.l3_bytes = 64 << 10));
}

/// The steps of the loops of a kernel, the innermost of each nest only.
fn innermost_steps(kernel: &Kernel) -> Vec<i64> {
    fn walk(body: &[Stmt], steps: &mut Vec<i64>) {
        for stmt in body {
            let Stmt::Loop(l) = stmt else { continue };
            let is_loop = |s: &Stmt| matches!(s, Stmt::Loop(_));
            if l.body.iter().any(is_loop) { walk(&l.body, steps) } else { steps.push(l.step) }
        }
    }
    let mut steps = vec![];
    walk(&kernel.body, &mut steps);
    steps
}

#[test]
fn vectors_of_a_map_follow_latency_and_stores() {
    let of = |change: &dyn Fn(&mut Target)| {
        let mut net = Net::new();
        let x = net.input(&[3, 1000]);
        let y = net.op("Relu", &[x], &[]);
        innermost_steps(&kernels(&mut net, y, change)[0])[0]
    };
    // Vectors of 16.
    assert_eq!(of(&|_| ()), 64);
    assert_eq!(of(&|t| t.n_store_ports = 2), 128);
    assert_eq!(of(&|t| t.fma_latency_cycles = 2), 32);
}

/// What a transposition reads along goes inside as far as the second-level cache keeps the lines that are written.
#[test]
fn the_loop_inside_the_lanes_follows_the_second_level_cache() {
    let of = |change: &dyn Fn(&mut Target)| {
        let mut net = Net::new();
        let x = net.input(&[64, 300]);
        let y = net.op("Transpose", &[x], &[("perm", ints(&[1, 0]))]);
        net.set_outputs(&[y]);
        let mut machine = Machine::x86_64(Level::V4);
        change(&mut machine.target);
        // No shuffles: rows are gathered.
        let options = Options { emitter: Emitter::Clif, ..Options::default() };
        net.compile(&machine, options).program.kernels[0].to_string()
    };
    assert_ne!(of(&|_| ()), of(&|t| t.l2_bytes = 256 << 10));
    assert_ne!(of(&|_| ()), of(&|t| t.line_bytes = 256));
    assert_eq!(of(&|_| ()), of(&|t| t.l2_bytes = 2 << 20));
}

/// As many lines are asked for ahead as make up the panel that follows.
#[test]
fn lines_that_are_asked_for_are_those_of_the_target() {
    let asked = |line_bytes: usize| {
        let mut net = Net::new();
        let x = net.input(&[64, 1024]);
        let w = net.weight(&[1024, 1024]);
        let y = net.op("MatMul", &[x, w], &[]);
        let text: String = kernels(&mut net, y, |t| t.line_bytes = line_bytes).iter().map(ToString::to_string).collect();
        text.matches("prefetch").count()
    };
    assert!(asked(64) > asked(128), "{} {}", asked(64), asked(128));
    assert!(asked(128) > 0);
}

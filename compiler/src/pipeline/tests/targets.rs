//! What schedules follow from each number of a target.

use tinsmith_targets::Target;

use super::sliding::Case;
use super::{Emitter, Level, Machine, Net, Options, Value, ints};
use crate::nest::{Kernel, Op, Stmt};

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
fn as_many_functions_go_forward_together_as_registers_hold_their_values() {
    // The loads with which the loop begins.
    let together = |name: &str, n_registers: u32| {
        let mut net = Net::new();
        let x = net.input(&[4096]);
        let y = net.op(name, &[x], &[]);
        let kernels = kernels(&mut net, y, |t| t.n_vector_registers = n_registers);
        let Some(Stmt::Loop(l)) = kernels[0].body.iter().find(|s| matches!(s, Stmt::Loop(_))) else { panic!("a loop") };
        l.body.iter().take_while(|s| matches!(s, Stmt::Set { op: Op::Load { .. }, .. })).count()
    };
    assert_eq!(["Exp", "Erf"].map(|name| [32, 16, 8].map(|n| together(name, n))), [[4, 4, 2], [4, 2, 1]]);
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

#[test]
fn sums_at_once_follow_latency_ports_and_registers() {
    let of = |dims: [usize; 2], op: &dyn Fn(&mut Net, Value) -> Value, change: &dyn Fn(&mut Target)| {
        let mut net = Net::new();
        let x = net.input(&dims);
        let y = op(&mut net, x);
        kernels(&mut net, y, change).iter().map(|k| k.schedule.clone()).collect::<Vec<_>>().join("; ")
    };
    let total = |change: &dyn Fn(&mut Target)| {
        let sum = |net: &mut Net, x: Value| {
            let axes = net.ints(&[1]);
            net.op("ReduceSum", &[x, axes], &[])
        };
        of([5, 1000], &sum, change)
    };
    insta::assert_snapshot!(total(&|_| ()), @"reduce(lanes=16 accumulators=4)");
    insta::assert_snapshot!(total(&|t| t.n_load_ports = 4), @"reduce(lanes=16 accumulators=8)");
    insta::assert_snapshot!(total(&|t| t.fma_latency_cycles = 2), @"reduce(lanes=16 accumulators=2)");
    let product = |columns: usize, change: &dyn Fn(&mut Target)| {
        let product = |net: &mut Net, x: Value| {
            let w = net.weight(&[3008, columns]);
            net.op("MatMul", &[x, w], &[])
        };
        of([9, 3008], &product, change)
    };
    insta::assert_snapshot!(product(2, &|_| ()), @"reduce(lanes=16 accumulators=1 mr=2 nr=4)");
    insta::assert_snapshot!(product(2, &|t| t.n_fma_ports = 1), @"reduce(lanes=16 accumulators=1 mr=2 nr=2)");
    insta::assert_snapshot!(product(1, &|_| ()), @"reduce(lanes=16 accumulators=1 mr=1 nr=8)");
    insta::assert_snapshot!(product(1, &|t| t.n_vector_registers = 16), @"reduce(lanes=16 accumulators=1 mr=1 nr=4)");
}

/// How often the outermost loop of a kernel runs, of blocks of the rows of a softmax.
#[test]
fn rows_of_a_block_follow_the_first_level_cache() {
    let of = |change: &dyn Fn(&mut Target)| {
        let mut net = Net::new();
        let x = net.input(&[64, 300]);
        let y = net.op("Softmax", &[x], &[]);
        let found = kernels(&mut net, y, change);
        let Some(Stmt::Loop(l)) = found[0].body.iter().find(|s| matches!(s, Stmt::Loop(_))) else { panic!("no loop") };
        (l.end - l.start) / l.step
    };
    let [n, half, twice] = [32 << 10, 64 << 10, 16 << 10].map(|bytes| of(&|t| t.l1d_bytes = bytes));
    assert!(n > 1 && half == n / 2 && twice == 2 * n, "{n} {half} {twice}");
}

#[test]
fn turns_and_channels_of_a_sliding_window_follow_caches_and_lines() {
    let of = |change: &dyn Fn(&mut Target)| {
        let (mut net, y) = Case::depthwise().net();
        let all = kernels(&mut net, y, change).into_iter().map(|k| k.schedule);
        all.filter_map(|s| s.starts_with("blocks").then(|| s.split_once(')').map(|t| t.0.to_owned() + ")"))?).collect::<String>()
    };
    insta::assert_snapshot!(of(&|_| ()), @"blocks(rows=20 in_turn=4 channels=16)");
    insta::assert_snapshot!(of(&|t| t.l1d_bytes = 64 << 10), @"blocks(rows=20 in_turn=10 channels=16)");
    insta::assert_snapshot!(of(&|t| t.l2_bytes = 256 << 10), @"blocks(rows=5 in_turn=1 channels=16)");
    insta::assert_snapshot!(of(&|t| t.line_bytes = 128), @"blocks(rows=10 in_turn=1 channels=32)");
}

#[test]
fn convolutions_follow_what_caches_and_memory_give() {
    let of = |dims: [usize; 3], change: &dyn Fn(&mut Target)| convolution(dims, change);
    // Weights that stay come from the second-level cache; of many tiles, sums go to the last-level cache and back; other weights come from memory.
    assert_ne!(of([8, 64, 64], &|_| ()), of([8, 64, 64], &|t| t.l2_bytes_in_10_cycles = 10));
    assert_ne!(of([56, 64, 64], &|_| ()), of([56, 64, 64], &|t| t.l3_bytes_in_10_cycles = 10));
    assert_ne!(of([14, 256, 256], &|_| ()), of([14, 256, 256], &|t| t.memory_bytes_in_10_cycles = 10));
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

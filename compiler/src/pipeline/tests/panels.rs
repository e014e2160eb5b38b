//! Products whose columns' operand is no constant: panels of it are copied, one, a group or all, where tiles of rows are many; and
//! products whose rows' operand is one: it is packed in the order of the tiles. Against the operators' own values.

use super::{Emitter, Level, Machine, Net, Options, Value, can_run};
use crate::ops::Attribute;

/// The kernels' text at a level whose second-level cache holds so much, after a check of the results on it and everywhere.
fn checked(net: Net, y: Value, (level, l2_bytes): (Level, usize)) -> String {
    let graph = net.graph.clone();
    net.check(&[y]);
    let mut net = Net { graph, n: 0 };
    net.set_outputs(&[y]);
    let mut machine = Machine::x86_64(level);
    machine.target.l2_bytes = l2_bytes;
    let compiled = net.compile(&machine, Options::from(Emitter::Wide));
    if can_run(&machine) {
        let inputs = net.inputs();
        net.check_on(&machine, &compiled, &[y], &inputs, &net.evaluate(&inputs));
    }
    compiled.program.kernels.iter().map(ToString::to_string).collect()
}

/// The same of the product of two inputs.
fn product(rows: &[usize], columns: &[usize], on: (Level, usize)) -> String {
    let mut net = Net::new();
    let (x, w) = (net.input(rows), net.input(columns));
    let y = net.op("MatMul", &[x, w], &[]);
    let y = net.op("Relu", &[y], &[]);
    checked(net, y, on)
}

/// How the loops of a kernel follow each other, by what they are over.
fn loops(text: &str) -> String {
    let of = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("par ").or(line.strip_prefix("for "))?;
        Some(line.split(" step").next()?.trim_end_matches(" {").to_owned())
    };
    text.lines().filter_map(of).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_panel_is_copied_before_its_rows() {
    // The last panels are of 14 and of 6 columns.
    let text = product(&[70, 270], &[270, 78], (Level::V4, 1 << 20));
    insta::assert_snapshot!(loops(&text), @"i1 in 0..64; r2 in 0..268; r2.1 in 268..270; i0 in 0..70; r2.2 in 0..268; r2.3 in 268..270; r2.4 in 0..268; r2.5 in 268..270; i0.1 in 0..70; r2.6 in 0..268; r2.7 in 268..270");
    let text = product(&[3, 64, 270], &[3, 270, 38], (Level::V3, 256 << 10));
    insta::assert_snapshot!(loops(&text), @"i0 in 0..3; i2 in 0..32; r3 in 0..268; r3.1 in 268..270; i1 in 0..60; r3.2 in 0..268; r3.3 in 268..270; r3.4 in 0..268; r3.5 in 268..270; r3.6 in 0..268; r3.7 in 268..270; i1.1 in 0..60; r3.8 in 0..268; r3.9 in 268..270; r3.10 in 0..268; r3.11 in 268..270");
}

#[test]
fn all_panels_are_copied_first_where_rows_are_more_than_stay_near() {
    let text = product(&[400, 140], &[140, 50], (Level::V4, 256 << 10));
    insta::assert_snapshot!(loops(&text), @"r2 in 0..140; r2.1 in 0..140; i0 in 0..392; r2.2 in 0..140; r2.3 in 0..140; r2.4 in 0..140; r2.5 in 0..140");
}

#[test]
fn tiles_of_rows_from_afar_go_over_a_group_of_panels() {
    let text = product(&[330, 140], &[140, 534], (Level::V3, 256 << 10));
    insta::assert_snapshot!(loops(&text), @"i1 in 0..512; panel in 0..4; r2 in 0..140; i0 in 0..330; panel.1 in 0..4; r2.1 in 0..140; r2.2 in 0..140; i0.1 in 0..330; r2.3 in 0..140; r2.4 in 0..140; i0.2 in 0..330; r2.5 in 0..140");
    assert!(text.contains("prefetch"), "{text}");
    // Weights are packed, and nothing is copied.
    let mut net = Net::new();
    let x = net.input(&[330, 140]);
    let w = net.weight(&[140, 534]);
    let y = net.op("MatMul", &[x, w], &[]);
    insta::assert_snapshot!(loops(&checked(net, y, (Level::V3, 100 << 10))), @"i1 in 0..512; i0 in 0..330; panel in 0..4; r2 in 0..140; i0.1 in 0..330; r2.1 in 0..140; i0.2 in 0..330; r2.2 in 0..140");
}

#[test]
fn long_sums_in_blocks_copy_a_part_of_a_panel_each() {
    let text = product(&[64, 1024], &[1024, 264], (Level::V4, 340 << 10));
    insta::assert_snapshot!(loops(&text), @"i1 in 0..240; r2 in 0..1024; i0 in 0..64; r2.1 in 0..1024; r2.2 in 0..1024; i0.1 in 0..64; r2.3 in 0..1024");
}

#[test]
fn few_rows_and_panels_that_lie_together_are_read_in_place() {
    let copies = |rows: &[usize], columns: &[usize]| product(rows, columns, (Level::V4, 1 << 20)).contains("_panels");
    assert_eq!([copies(&[63, 270], &[270, 78]), copies(&[64, 270], &[270, 78])], [false, true]);
    // Rows a page apart displace each other.
    assert_eq!([copies(&[23, 128], &[128, 1024]), copies(&[24, 128], &[128, 1024])], [false, true]);
    // Rows begin with lines of the cache, in few pages.
    assert!(!copies(&[64, 256], &[256, 80]));
    // A panel of more than a thread's own scratch.
    let long = product(&[24, 8200], &[8200, 48], (Level::V4, 1 << 20));
    assert!(!long.contains("_panels"), "{long}");
    // All fits into the first-level cache.
    assert!(!copies(&[64, 40], &[40, 78]));
}

#[test]
fn images_as_files_have_them_are_rows_of_places() {
    let of = |groups: usize, channels: usize, to: usize, side: usize| {
        let mut net = Net::new();
        let x = net.input(&[2, channels, side, side]);
        let (w, b) = (net.weight(&[to, channels / groups, 1, 1]), net.weight(&[to]));
        let y = net.op("Conv", &[x, w, b], &[("group", Attribute::Int(groups as i64))]);
        let y = net.op("Relu", &[y], &[]);
        let text = checked(net, y, (Level::V4, 1 << 20));
        assert!(text.contains("_packed"), "{text}");
        loops(&text)
    };
    insta::assert_snapshot!(of(1, 24, 45, 14), @"i0 in 0..2; i1 in 0..36; i3 in 0..192; r4 in 0..24; r4.1 in 0..24; i3.1 in 0..192; r4.2 in 0..24; r4.3 in 0..24");
    insta::assert_snapshot!(of(2, 24, 46, 7), @"i0 in 0..2; i1 in 0..2");
    insta::assert_snapshot!(of(1, 130, 70, 9), @"i0 in 0..2; i3 in 0..64; r4 in 0..128; r4.1 in 128..130; i1 in 0..70; r4.2 in 0..128; r4.3 in 128..130; r4.4 in 0..128; r4.5 in 128..130; i1.1 in 0..70; r4.6 in 0..128; r4.7 in 128..130");
}

#[test]
fn rows_that_are_constants_are_packed_by_tiles() {
    let mut net = Net::new();
    let w = net.weight(&[33, 40]);
    let x = net.input(&[40, 20]);
    let y = net.op("MatMul", &[w, x], &[]);
    let text = checked(net, y, (Level::V4, 1 << 20));
    insta::assert_snapshot!(loops(&text), @"i0 in 0..24; r2 in 0..40; r2.1 in 0..40");
    assert!(text.contains("w1_packed"), "{text}");
}

//! Conditions in lanes, from and to memory, against the operators' own values.

use super::{Emitter, Level, Machine, Net, Options};

#[test]
fn conditions_are_read_and_written_in_lanes() {
    for dims in [&[37][..], &[5, 16], &[3, 70]] {
        let mut net = Net::new();
        let (x, z) = (net.input(dims), net.input(dims));
        let more = net.op("Greater", &[x, z], &[]);
        let none = net.op("Not", &[more], &[]);
        let least = net.op("Abs", &[x], &[]);
        let other = net.op("Less", &[least, z], &[]);
        let either = net.op("Or", &[none, other], &[]);
        let same = net.op("Equal", &[more, other], &[]);
        let chosen = net.op("Where", &[either, same, none], &[]);
        let number = net.op("Where", &[chosen, x, z], &[]);
        net.check(&[more, either, chosen, number]);
    }
}

#[test]
fn their_lanes_are_those_of_words() {
    for (level, lanes) in [(Level::V2, 4), (Level::V3, 8), (Level::V4, 16)] {
        let mut net = Net::new();
        let (x, z) = (net.input(&[40]), net.input(&[40]));
        let y = net.op("LessOrEqual", &[x, z], &[]);
        let y = net.op("Not", &[y], &[]);
        net.set_outputs(&[y]);
        let compiled = net.compile(&Machine::x86_64(level), Options::from(Emitter::Wide));
        let text: String = compiled.program.kernels.iter().map(ToString::to_string).collect();
        assert!(text.contains(&format!("boolx{lanes} = not")), "{text}");
    }
}

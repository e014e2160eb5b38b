//! Recurrences: right at every level, and no step reads more weights than it must.

use super::{Attribute, Emitter, Net, WAYS, random};
use crate::nest::{BufferId, Kernel, Loop, Op, Stmt};

const STEPS: usize = 6;
const INPUTS: usize = 40;
const HIDDEN: usize = 32;

/// Elements that a block loads of buffers whose name begins so, in all iterations; of branches the way that loads more.
fn loaded(kernel: &Kernel, block: &[Stmt], name: &str) -> usize {
    let of = |b: &BufferId| kernel.buffers[b.0 as usize].name.starts_with(name);
    let one = |s: &Stmt| match s {
        Stmt::Loop(l) => usize::try_from((l.end - l.start + l.step - 1) / l.step).unwrap() * loaded(kernel, &l.body, name),
        Stmt::If { then, otherwise, .. } => loaded(kernel, then, name).max(loaded(kernel, otherwise, name)),
        Stmt::Set { reg, op: Op::Load { buffer, .. } } if of(buffer) => kernel.regs[reg.0 as usize].lanes as usize,
        _ => 0,
    };
    block.iter().map(one).sum()
}

/// The product with the input is one for all steps, before the loop over them; each step loads the recurrent weights once.
fn check(operator: &str, n_gates: usize, batch: usize) {
    let mut net = Net::new();
    let x = net.input(&[STEPS, batch, INPUTS]);
    let mut weight = |name: &str, seed, dims: &[usize]| net.graph.add_constant(name, random(seed, dims));
    let rows = n_gates * HIDDEN;
    let w = weight("input_weights", 1, &[1, rows, INPUTS]);
    let r = weight("recurrent_weights", 2, &[1, rows, HIDDEN]);
    let b = weight("bias", 3, &[1, 2 * rows]);
    let y = net.op(operator, &[x, w, r, b], &[("hidden_size", Attribute::Int(HIDDEN as i64))]);
    net.set_outputs(&[y]);
    let inputs = net.inputs();
    let values = net.evaluate(&inputs);
    for (level, emitter) in WAYS {
        let compiled = net.check_at(level, emitter, &[y], &inputs, &values);
        let [kernel] = &compiled.program.kernels[..] else { panic!("{operator} at {level:?}: {} kernels", compiled.program.kernels.len()) };
        let over_time = |s: &&Stmt| matches!(s, Stmt::Loop(l) if loaded(kernel, &l.body, "recurrent_weights") > 0);
        let steps: Vec<&Stmt> = kernel.body.iter().filter(over_time).collect();
        let [Stmt::Loop(Loop { start: 0, end, step: 1, body, .. })] = steps[..] else {
            panic!("{operator} at {level:?}: {} loops with recurrent weights\n{kernel}", steps.len())
        };
        assert_eq!(*end, STEPS as i64, "{operator} at {level:?}\n{kernel}");
        assert_eq!(loaded(kernel, body, "input_weights"), 0, "{operator} at {level:?}\n{kernel}");
        // Cranelift, with vectors of 128 bits, takes a row at a time.
        let (of_step, of_all) = if emitter == Emitter::Auto { (1, batch) } else { (batch, STEPS * batch) };
        assert_eq!(loaded(kernel, body, "recurrent_weights"), of_step * rows * HIDDEN, "{operator} at {level:?}\n{kernel}");
        let all = loaded(kernel, &kernel.body, "input_weights");
        assert!(all <= of_all * rows * INPUTS, "{operator} at {level:?}: {all}\n{kernel}");
    }
}

#[test]
fn steps_of_an_lstm_read_their_weights_once() {
    check("LSTM", 4, 1);
    check("LSTM", 4, 3);
}

#[test]
fn steps_of_a_gru_read_their_weights_once() {
    check("GRU", 3, 1);
    check("GRU", 3, 3);
}

//! What each step of a compiled model computes, touches and merely moves, and what makes its code.

use std::collections::HashMap;

use crate::codegen::{EmittedBy, Place, emitted_by};
use crate::compile::Artifact;
use crate::nest::traffic::Move;
use crate::nest::{Access, BufferId, Kernel, Traffic};
use crate::pipeline::StepInfo;

/// Facts of one step, from its loops; amounts are those of a whole run, in all iterations of the loops around it as far as their number is
/// known ([`Program::step_runs`](crate::codegen::Program::step_runs)).
#[derive(Clone, PartialEq, Debug)]
pub struct StepFacts {
    /// The node that gives its result.
    pub label: String,
    /// All the nodes that it computes.
    pub nodes: Vec<String>,
    /// Name of its kernel.
    pub kernel: String,
    /// How often it runs in a run.
    pub runs: u64,
    /// Schedule of its kernel.
    pub schedule: String,
    /// What makes the kernel's code.
    pub emitter: EmittedBy,
    /// Multiply-adds of its contractions as the model states them.
    pub multiply_adds: u64,
    /// Floating-point operations: two for each multiply-add of a contraction; of a step without one, those that the kernel executes.
    pub flops: f64,
    /// Elements that the units for multiplication, or those for sums if they have more to do, must take; lanes that only fill tiles
    /// do not count.
    pub operations: f64,
    /// Bytes of constants that it must read.
    pub constant_bytes: usize,
    /// Bytes of operands that it must read and of results that it must write; scratch does not count.
    pub value_bytes: usize,
    /// What the kernel moves from one buffer to another unchanged.
    pub moves: Vec<MoveFacts>,
    /// Whether the kernel computes nothing.
    pub only_moves: bool,
}

/// Elements that go from one buffer to another unchanged, or that are set to constants.
#[derive(Clone, PartialEq, Debug)]
pub struct MoveFacts {
    /// The value that they come from, or the kernel's name for the buffer; none where they are constants.
    pub from: Option<String>,
    /// Where they go.
    pub to: String,
    /// Whether that lives for this step only.
    pub into_scratch: bool,
    /// Bytes that are written.
    pub bytes: usize,
}

impl Artifact {
    /// Facts of every step, in order.
    pub fn steps(&self) -> Vec<StepFacts> {
        let program = &self.compiled.program;
        let emitters = emitted_by(program, &self.interface.machine);
        let mut traffic: HashMap<usize, Traffic> = HashMap::new();
        let mut names: HashMap<Place, String> = HashMap::new();
        names.extend(program.inputs.iter().enumerate().map(|(i, input)| (Place::Input(i, 0), input.name.clone())));
        let (runs, multiply_adds) = (program.step_runs(), self.compiled.step_multiply_adds());
        let mut facts = vec![];
        for (i, step) in program.steps.iter().enumerate() {
            let kernel = &program.kernels[step.kernel];
            let (times, multiply_adds) = (usize::try_from(runs[i]).unwrap_or(usize::MAX), multiply_adds[i]);
            let runs = times as f64;
            let traffic = traffic.entry(step.kernel).or_insert_with(|| Traffic::of(kernel));
            let info = self.compiled.steps.get(i);
            let scratch: Vec<bool> =
                (0..kernel.buffers.len()).map(|b| is_scratch(step.args[b], traffic.buffers[b].written, info)).collect();
            let before = names.clone();
            names.extend(info.into_iter().flat_map(StepInfo::placed).map(|v| (v.base, v.name.clone())));
            let name = |b: BufferId, names: &HashMap<Place, String>| {
                let b = b.0 as usize;
                names.get(&step.args[b]).filter(|_| !scratch[b]).unwrap_or(&kernel.buffers[b].name).clone()
            };
            let one = |m: &Move| MoveFacts {
                from: m.from.map(|b| name(b, if traffic.buffers[b.0 as usize].written > 0 { &names } else { &before })),
                to: name(m.to, &names),
                into_scratch: scratch[m.to.0 as usize],
                bytes: (runs * m.bytes).round() as usize,
            };
            let moves = traffic.moves.iter().map(one).filter(|m| m.bytes > 0).collect();
            let (constant_bytes, value_bytes) = bytes(kernel, &step.args, traffic, &scratch);
            facts.push(StepFacts {
                label: step.label.clone(),
                nodes: info.map(|s| s.nodes.clone()).unwrap_or_default(),
                kernel: kernel.name.clone(),
                schedule: kernel.schedule.clone(),
                emitter: emitters[step.kernel].clone(),
                runs: times as u64,
                multiply_adds,
                flops: if multiply_adds > 0 { 2.0 * multiply_adds as f64 } else { runs * traffic.flops() },
                operations: operations(multiply_adds as f64, runs, traffic),
                constant_bytes: constant_bytes.saturating_mul(times),
                value_bytes: value_bytes.saturating_mul(times),
                moves,
                only_moves: traffic.only_moves(),
            });
        }
        facts
    }
}

/// Whether a buffer is written and holds no value of the model afterwards.
fn is_scratch(place: Place, written: usize, info: Option<&StepInfo>) -> bool {
    matches!(place, Place::Arena(_)) && written > 0 && info.is_some_and(|info| !info.placed().any(|v| v.base == place))
}

fn bytes(kernel: &Kernel, args: &[Place], traffic: &Traffic, scratch: &[bool]) -> (usize, usize) {
    let (mut constants, mut values) = (0, 0);
    for (i, buffer) in kernel.buffers.iter().enumerate() {
        let touched = traffic.buffers[i];
        let size = buffer.dtype.size_bytes();
        match args[i] {
            Place::Constant(..) => constants += touched.read * size,
            _ if scratch[i] => {}
            // What is read back from a result was just written; an operand that the result overwrites is read whole.
            _ if touched.written > 0 && buffer.access == Access::Write => values += touched.written * size,
            _ => values += (touched.read + touched.written) * size,
        }
    }
    (constants, values)
}

/// A contraction that multiplies more often than the model asks for fills tiles with lanes that nobody needs; one that multiplies less
/// often has a better way.
fn operations(multiply_adds: f64, runs: f64, traffic: &Traffic) -> f64 {
    let surplus = runs * traffic.multiply_adds - multiply_adds;
    let is_contraction = multiply_adds > 0.0 && surplus > 0.0 && surplus <= multiply_adds;
    let multiplications = runs * traffic.multiplications - if is_contraction { surplus } else { 0.0 };
    multiplications.max(runs * traffic.others)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn told(graph: &str) -> String {
        let name = format!("tinsmith-steps-{}-{:?}.graph", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, graph).expect("written");
        let config = Config { target: Some("x86_64-unknown-linux-gnu".into()), cpu: Some("v4".into()), ..Config::default() };
        let artifact = crate::compile(&path, &config);
        let _ = std::fs::remove_file(&path);
        let one = |s: super::StepFacts| {
            let moves: Vec<String> = s
                .moves
                .iter()
                .map(|m| format!("{} of {:?} to {}", m.bytes, m.from, if m.into_scratch { "scratch" } else { &m.to }))
                .collect();
            format!(
                "{}{} by {}: {} multiply-adds, {} flops, {} operations, {} + {} bytes, moves [{}]{}\n",
                if s.runs == 1 { String::new() } else { format!("{} times ", s.runs) },
                s.label,
                s.emitter,
                s.multiply_adds,
                s.flops,
                s.operations,
                s.constant_bytes,
                s.value_bytes,
                moves.join(", "),
                if s.only_moves { " only" } else { "" }
            )
        };
        artifact.expect("compiles").steps().into_iter().map(one).collect()
    }

    #[test]
    fn steps_have_their_bytes_and_operations() {
        insta::assert_snapshot!(told("graph @g(%x: f32[4,48]) -> (%y) {
  %w = const rand(1) : f32[48,32]
  %m = MatMul(%x, %w)
  %t = Transpose(%m) perm=[1,0]
  %y = Concat(%t, %t) axis=0
}"), @r#"
        m by wide 512: 6144 multiply-adds, 12288 flops, 6144 operations, 6144 + 1280 bytes, moves []
        y by wide 512: 0 multiply-adds, 0 flops, 0 operations, 0 + 1536 bytes, moves [1024 of Some("m") to y] only
        "#);
    }

    #[test]
    fn steps_of_a_loop_count_in_every_iteration() {
        insta::assert_snapshot!(told("graph @g(%x: f32[4,48]) -> (%y) {
  %w = const rand(1) : f32[48,48]
  @five = const [5] : i64[]
  %y = loop(@five, %x, %w) states=1 do graph @b(%i: i64[], %s: f32[4,48], %w: f32[48,48]) -> (%t) {
    %t = MatMul(%s, %w)
  }
}"), @"5 times t by wide 512: 46080 multiply-adds, 92160 flops, 46080 operations, 46080 + 7680 bytes, moves []");
    }
}

//! Measuring the forms of kernels on this machine, and the file that keeps the winners.
//!
//! ```text
//! # Tinsmith: forms of kernels
//! 0f3c6a5be7a1c2d4 order=at-use steps=4 tile=8x3 # x86-64-v4, 0.231 ms, was 0.254 ms
//! ```
//!
//! A key stands for a kernel as it would be without tuning, with its target: where either changes, the line no longer counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::schedule_with;
use super::tuner::Tuner;
use crate::codegen::program::{Emitter, Place, Program, Step};
use crate::codegen::{Executable, Machine, linear};
use crate::config::Config;
use crate::emit::files;
use crate::error::Error;
use crate::expr;
use crate::graph::Graph;
use crate::nest::Kernel;
use crate::schedule::{self, Arg, Choice, Memory, Scheduled, Source, schedule};

const HEADER: &str = "# Tinsmith: forms of kernels\n";
/// Runs of a form: at least so many, and more until they took [`LEAST_TIME`].
const RUNS: usize = 3;
const LEAST_TIME: Duration = Duration::from_micros(500);
/// A form must be this much faster to replace the model's: less is noise.
const LEAST_GAIN: f64 = 0.02;

/// The best known form of kernels, by key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tuned {
    lines: BTreeMap<String, (Choice, String)>,
}

impl Tuned {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The best form of the kernel with this key.
    pub(super) fn choice(&self, key: &str) -> Option<Choice> {
        self.lines.get(key).map(|line| line.0)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tuned = Tuned::default();
        for (i, line) in text.lines().enumerate() {
            let (entry, note) = line.split_once('#').unwrap_or((line, ""));
            let Some((key, choice)) = entry.trim().split_once(' ') else {
                if entry.trim().is_empty() {
                    continue;
                }
                return Err(format!("line {}: expected a key and a choice", i + 1));
            };
            let choice = choice.parse().map_err(|e| format!("line {}: {e}", i + 1))?;
            tuned.lines.insert(key.to_owned(), (choice, note.trim().to_owned()));
        }
        Ok(tuned)
    }

    /// The text of a file.
    pub fn print(&self) -> String {
        let lines = self.lines.iter().map(|(key, (choice, note))| format!("{key} {choice} # {note}\n"));
        HEADER.to_owned() + &lines.collect::<String>()
    }
}

/// A kernel that has other forms.
#[derive(Clone, Debug)]
pub(super) struct Tunable {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) program: expr::Program,
    pub(super) operands: Vec<Source>,
    pub(super) results: Vec<Memory>,
    pub(super) machine: schedule::Machine,
    /// The model's form.
    pub(super) scheduled: Scheduled,
}

impl Tunable {
    /// The kernel in this form, if its emitter takes it.
    pub(super) fn form(&self, choice: Choice, target: &Machine) -> Option<Scheduled> {
        let machine = schedule::Machine { choice, ..self.machine };
        let form = schedule(&self.name, &self.program, self.operands.clone(), self.results.clone(), &machine).ok()?;
        (!self.machine.exact || linear::check(target, &form.kernel).is_ok()).then_some(form)
    }

    /// What may be better than the model's choice, the most promising first.
    pub(super) fn other_choices(&self) -> Vec<Choice> {
        self.machine.other_choices(&self.scheduled.forms)
    }

    fn emitter(&self) -> Emitter {
        if self.machine.exact { Emitter::Wide } else { Emitter::Clif }
    }
}

/// The text of a kernel without what the model calls it and its buffers.
pub(super) fn nameless(kernel: &Kernel) -> String {
    let mut kernel = Kernel { name: String::new(), ..kernel.clone() };
    for (i, buffer) in kernel.buffers.iter_mut().enumerate() {
        buffer.name = format!("b{i}");
    }
    kernel.to_string()
}

/// What stands for a kernel in a file.
pub(super) fn key(target: &Machine, kernel: &Kernel) -> String {
    let digest = Sha256::digest(format!("{target}\n{}", nameless(kernel)));
    digest[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// What is known of the kernels of a graph: from the file that the configuration names, and from measuring where it says so.
///
/// # Errors
/// If the file cannot be read or written, if this machine is not the target, and as
/// [`lower_and_schedule`](super::lower_and_schedule).
pub fn tuned(graph: &Graph, machine: &Machine, config: &Config) -> Result<Tuned, Error> {
    let mut tuned = Tuned::default();
    if let Some(path) = config.tune_file.as_ref().filter(|path| config.tune.is_zero() || path.exists()) {
        let text = fs::read_to_string(path).map_err(|e| Error::Usage(format!("`{}`: {e}", path.display())))?;
        tuned = Tuned::parse(&text).map_err(|e| Error::Usage(format!("`{}`: {e}", path.display())))?;
    }
    if config.tune.is_zero() {
        return Ok(tuned);
    }
    machine.check_host()?;
    let start = Instant::now();
    let mut tuner = Tuner::new(graph, machine, config.into(), &tuned).map_err(Error::Model)?;
    tuner.tunable = Some(vec![]);
    schedule_with(graph.clone(), None, &mut tuner, 1, &[], &|_| {}).map_err(Error::Model)?;
    let mut seen = BTreeSet::new();
    let mut tasks = tuner.tunable.take().unwrap_or_default();
    tasks.retain(|t| seen.insert(t.key.clone()));
    tuned.lines.extend(measure_all(&tasks, machine, start + config.tune));
    if let Some(path) = &config.tune_file {
        files::write(path, tuned.print().as_bytes())?;
    }
    Ok(tuned)
}

/// The forms that beat the model's, each measured beside it; the next form of every kernel before the one after it of any.
fn measure_all(tasks: &[Tunable], target: &Machine, deadline: Instant) -> BTreeMap<String, (Choice, String)> {
    let mut best: Vec<(Choice, f64)> = vec![];
    let mut first: Vec<f64> = vec![];
    for task in tasks {
        let ms = measure(task, &task.scheduled, target).unwrap_or(f64::INFINITY);
        best.push((task.machine.choice, ms));
        first.push(ms);
        if Instant::now() > deadline {
            break;
        }
    }
    let choices: Vec<Vec<Choice>> = tasks.iter().map(Tunable::other_choices).collect();
    let n_choices = choices.iter().map(Vec::len).max().unwrap_or(0);
    'rounds: for round in 0..n_choices {
        for (i, task) in tasks.iter().enumerate().take(best.len()) {
            let Some(&choice) = choices[i].get(round) else { continue };
            if Instant::now() > deadline {
                break 'rounds;
            }
            let Some(form) = task.form(choice, target).filter(|f| f.kernel.body != task.scheduled.kernel.body) else { continue };
            if let Some(ms) = measure(task, &form, target).filter(|&ms| ms < best[i].1) {
                best[i] = (choice, ms);
            }
        }
    }
    let mut lines = BTreeMap::new();
    for ((task, (choice, ms)), before) in tasks.iter().zip(best).zip(first) {
        if choice != task.machine.choice && ms < before * (1.0 - LEAST_GAIN) {
            lines.insert(task.key.clone(), (choice, format!("{target}, {ms:.4} ms, was {before:.4} ms")));
        }
    }
    lines
}

/// Milliseconds of the fastest run of a kernel, alone and with its operands as near as they get.
fn measure(task: &Tunable, scheduled: &Scheduled, target: &Machine) -> Option<f64> {
    if !scheduled.sizes.is_empty() {
        return None;
    }
    let mut program = Program { emitter: task.emitter(), ..Program::default() };
    let mut places: BTreeMap<usize, Place> = BTreeMap::new();
    let mut args = vec![];
    for (arg, buffer) in scheduled.args.iter().zip(&scheduled.kernel.buffers) {
        let mut arena = |bytes: usize| {
            let at = program.workspace_bytes;
            program.workspace_bytes += bytes.next_multiple_of(64);
            Place::Arena(at)
        };
        args.push(match arg {
            Arg::Storage(id) => *places.entry(*id).or_insert_with(|| arena(buffer.len * buffer.dtype.size_bytes())),
            Arg::Scratch(bytes) => arena(*bytes),
            Arg::Input(_) | Arg::Output(_) => return None,
            Arg::Constant(value) => Place::Constant(program.constant(&buffer.name, value.clone()), 0),
        });
    }
    let kernel = program.kernel(Kernel { name: "tuned".to_owned(), ..scheduled.kernel.clone() });
    program.steps.push(Step { label: String::new(), kernel, args, sizes: vec![] });
    let executable = Executable::new(&program, target).ok()?;
    let mut memory = executable.memory();
    executable.run(&mut memory).ok()?;
    let (mut best, start) = (f64::INFINITY, Instant::now());
    let mut runs = 0;
    while runs < RUNS || start.elapsed() < LEAST_TIME {
        let at = Instant::now();
        executable.run(&mut memory).ok()?;
        best = best.min(at.elapsed().as_secs_f64() * 1e3);
        runs += 1;
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::target::Level;
    use crate::codegen::testing::can_run;
    use crate::graph;
    use crate::pipeline::Options;
    use crate::pipeline::lower_and_schedule_as;
    use crate::schedule::Tile;
    use crate::tensor::Tensor;

    fn product() -> Graph {
        graph::parse("graph @g(%x: f32[48,40]) -> (%y) {\n  @w = const rand(1) : f32[40,96]\n  %y = MatMul(%x, @w)\n}\n").unwrap()
    }

    #[test]
    fn a_file_reads_back() {
        let text = format!("{HEADER}00ff order=at-use steps=8 tile=6x4 # here\n11ee order=ahead steps=3 # there\n");
        assert_eq!(Tuned::parse(&text).unwrap().print(), text);
        assert_eq!(Tuned::parse("\n  # nothing\n"), Ok(Tuned::default()));
        assert_eq!(Tuned::parse("00ff").unwrap_err(), "line 1: expected a key and a choice");
        assert_eq!(Tuned::parse("\n00ff tile=big").unwrap_err(), "line 2: `tile=big` is not a part of a choice");
    }

    #[test]
    fn the_form_of_a_file_is_taken_and_another_machines_is_not() {
        let machine = Machine::x86_64(Level::V3);
        let none = Tuned::default();
        let task = tasks(&product(), &machine).remove(0);
        let text = format!("{} order=at-use steps=2 tile=3x3\n", task.key);
        let schedule_of = |tuned: &Tuned, machine: &Machine| {
            let compiled = lower_and_schedule_as(product(), machine, Emitter::Auto, tuned, &[]).unwrap();
            compiled.program.kernels[0].schedule.clone()
        };
        let tuned = Tuned::parse(&text).unwrap();
        assert_eq!(schedule_of(&tuned, &machine), "contract(mr=3 nr=24 ku=2)");
        let other = Machine::x86_64(Level::V4);
        assert_eq!(schedule_of(&tuned, &other), schedule_of(&none, &other));
    }

    #[test]
    fn a_file_says_how_convolutions_are_computed_but_where_direct_sums_are_asked_for() {
        let text = "graph @g(%x: f32[1,32,28,28]) -> (%d) {
  @w = const rand(1) : f32[32,32,3,3]
  %a = Conv(%x, @w) pads=[1,1,1,1]
  %b = Conv(%a, @w) pads=[1,1,1,1]
  %c = Conv(%b, @w) pads=[1,1,1,1]
  %d = Conv(%c, @w) pads=[1,1,1,1]
}
";
        let machine = Machine::x86_64(Level::V4);
        let schedule_of = |options: Options, tuned: &Tuned| {
            let mut tuner = Tuner::new(&graph::parse(text).unwrap(), &machine, options, tuned).unwrap();
            tuner.tunable = Some(vec![]);
            let compiled = schedule_with(graph::parse(text).unwrap(), None, &mut tuner, 1, &[], &|_| {}).unwrap();
            let keys: Vec<String> = tuner.tunable.unwrap().into_iter().map(|t| t.key).collect();
            (compiled.program.kernels.iter().map(|k| k.schedule.clone()).collect::<Vec<_>>().join(" "), keys)
        };
        let file = |keys: &[String], choice: &str| {
            let lines: String = keys.iter().map(|key| format!("{key} order=at-use steps=4 {choice}\n")).collect();
            Tuned::parse(&lines).unwrap()
        };
        let (plain, keys) = schedule_of(Options::default(), &Tuned::default());
        assert!(plain.contains("winograd("), "{plain}");
        let (direct, _) = schedule_of(Options::default(), &file(&keys, "convolution=direct"));
        assert!(direct.contains("contract(") && !direct.contains("winograd("), "{direct}");
        let (winograd, _) = schedule_of(Options::default(), &file(&keys, "convolution=winograd2"));
        assert!(winograd.contains("winograd(m=2") && !winograd.contains("winograd(m=4"), "{winograd}");
        let exact = Options { convolution: schedule::Convolution::Direct, ..Options::default() };
        let (sums, keys) = schedule_of(exact, &Tuned::default());
        assert_eq!(schedule_of(exact, &file(&keys, "convolution=winograd4")).0, sums);
    }

    #[test]
    fn measuring_keeps_to_its_time_and_to_what_its_file_says() {
        let file = std::env::temp_dir().join(format!("tinsmith-tune-{}.txt", std::process::id()));
        let known = format!("{HEADER}00ff order=at-use steps=8 tile=6x4 # of another kernel\n");
        fs::write(&file, &known).unwrap();
        let config = Config { tune: Duration::from_millis(50), tune_file: Some(file.clone()), ..Config::default() };
        let start = Instant::now();
        let found = tuned(&product(), &Machine::native(), &config).unwrap();
        assert!(start.elapsed() < Duration::from_secs(20));
        let read = tuned(&product(), &Machine::native(), &Config { tune: Duration::ZERO, ..config }).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(read, found);
        assert_eq!(read.lines["00ff"], Tuned::parse(&known).unwrap().lines["00ff"]);
    }

    /// The kernels of a graph that have other forms.
    fn tasks(graph: &Graph, machine: &Machine) -> Vec<Tunable> {
        let none = Tuned::default();
        let mut tuner = Tuner::new(graph, machine, Emitter::Auto.into(), &none).unwrap();
        tuner.tunable = Some(vec![]);
        schedule_with(graph.clone(), None, &mut tuner, 1, &[], &|_| {}).unwrap();
        tuner.tunable.unwrap()
    }

    /// Builds with these forms and runs the build, which must give the graph's own values; the schedules of its kernels.
    fn build(graph: &Graph, machine: &Machine, tuned: &Tuned) -> String {
        let compiled = lower_and_schedule_as(graph.clone(), machine, Emitter::Auto, tuned, &[]).unwrap();
        let schedules = compiled.program.kernels.iter().map(|k| k.schedule.clone() + "\n").collect();
        let dims = graph.ty(graph.inputs()[0]).dims().unwrap();
        let values: Vec<f32> = (0..dims.iter().product()).map(|i: usize| ((i * 7919) % 1013) as f32 / 506.5 - 1.0).collect();
        let input = Tensor::from_slice(&dims, &values);
        let executable = Executable::new(&compiled.program, machine).unwrap();
        let mut memory = executable.memory();
        memory.inputs[0].as_mut_slice().copy_from_slice(input.bytes());
        memory.workspace.as_mut_slice().fill(0xff);
        executable.run(&mut memory).unwrap();
        let expected = &graph::eval(graph, &[input]).unwrap()[0];
        let found = Tensor::from_bytes(expected.dtype(), expected.dims(), memory.outputs[0].as_slice());
        let (found, expected) = (found.to_f64s(), expected.to_f64s());
        let bound = 3e-5 * (expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64).sqrt();
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= bound, "{machine}: element {i} is {a}, not {b}, by\n{schedules}");
        }
        schedules
    }

    #[test]
    fn a_faster_form_is_found_and_kept_and_a_build_with_it_is_right() {
        let (graph, machine) = (product(), Machine::native());
        let mut task = tasks(&graph, &machine).remove(0);
        // As if the model took a tile that waits for every sum.
        let poor = Choice { tile: Some(Tile { mr: 1, nv: 1 }), ..task.machine.choice };
        task.scheduled = task.form(poor, &machine).unwrap();
        task.machine.choice = poor;
        let lines = measure_all(std::slice::from_ref(&task), &machine, Instant::now() + Duration::from_secs(5));
        let choice = lines[&task.key].0;
        assert_ne!(choice, poor);
        let schedule = task.form(choice, &machine).unwrap().kernel.schedule;
        assert_ne!(schedule, task.scheduled.kernel.schedule);

        let file = std::env::temp_dir().join(format!("tinsmith-tuned-{}.txt", std::process::id()));
        fs::write(&file, Tuned { lines }.print()).unwrap();
        let config = Config { tune_file: Some(file.clone()), ..Config::default() };
        let read = tuned(&graph, &machine, &config).unwrap();
        // What is known is not measured again.
        let again = tuned(&graph, &machine, &Config { tune: Duration::from_millis(50), ..config }).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(again, read);
        assert_eq!(build(&graph, &machine, &read), schedule + "\n");
    }

    #[test]
    fn every_form_is_right() {
        let text = "graph @g(%x: f32[1,20,13,11]) -> (%y) {
  @v = const rand(1) : f32[24,20,3,3]
  @w = const rand(2) : f32[20,24,3,3]
  @m = const rand(3) : f32[11,45]
  %a = Conv(%x, @v) pads=[1,1,1,1]
  %b = Conv(%a, @w) pads=[1,1,1,1]
  %y = MatMul(%b, @m)
}
";
        let graph = graph::parse(text).unwrap();
        for machine in [Level::V2, Level::V3, Level::V4].map(Machine::x86_64).into_iter().filter(can_run) {
            let tasks = tasks(&graph, &machine);
            assert_eq!(tasks.len(), 3);
            let choices = tasks.iter().map(|t| t.other_choices()).max_by_key(Vec::len).unwrap();
            // Those that are not about tiles, and some that are.
            let mut schedules = BTreeSet::new();
            for choice in choices.iter().take(8).chain(choices.iter().skip(8).step_by(9)) {
                let lines = tasks.iter().map(|t| (t.key.clone(), (*choice, String::new()))).collect();
                schedules.insert(build(&graph, &machine, &Tuned { lines }));
            }
            assert!(schedules.len() > 4, "{machine}: {schedules:?}");
        }
    }
}

//! The stages after import, in order: passes, lower, schedule, memory plan, the program for code generation.

mod assemble;
mod bent;
mod composed;
mod control;
mod dynamic;
mod fit;
mod homes;
mod in_place;
mod ports;
mod quotient;
mod ranged;
mod threads;
mod tune;
mod tuner;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::codegen::fork::WORK_OF_A_THREAD;
use crate::codegen::program::{Emitter, Place, Program};
use crate::codegen::{Machine, linear};
use crate::config::{self, Config, Goal};
use crate::diagnostic::{Diagnostic, Severity};
use crate::expr;
use crate::graph::{Graph, NodeId, Value};
use crate::lower::{Lowered, lower_group};
use crate::passes;
use crate::passes::assign_layouts::{Placement, Placements, assign_layouts, root_dtype, root_len};
use crate::passes::fuse::{fuse, groups};
use crate::schedule::{Arg, Convolution, Memory, Scheduled, Source, Storage};
use crate::state::State;
use crate::tensor::{Tensor, Type, for_each_index};
use assemble::assemble;
use control::Control;
pub use dynamic::Probes;
use dynamic::Sizer;
use homes::{Copied, Extra, Home};
use ports::{Direction, mover};
pub use ranged::{CompileFor, ReadAt, compile_range};
pub use tune::{Tuned, tuned};
use tuner::Tuner;

/// Constants of this size have one layout, even where two kernels would like different ones.
const SHARED_CONSTANT_BYTES: usize = 1 << 20;
/// Products that use every element of a constant so often are bound by arithmetic, which wants it in their order.
const USES_WORTH_A_COPY: u64 = 8;

/// A model ready for code generation, with what it was made of.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph after all passes, groups and places assigned.
    pub graph: Graph,
    /// Kernels, constants and steps.
    pub program: Program,
    /// What each of `program.steps` computes.
    pub steps: Vec<StepInfo>,
    /// The expressions of each step, for `--emit expr`.
    pub expressions: Vec<(String, expr::Program)>,
    /// No plan needs fewer bytes than this.
    pub lower_bound_bytes: usize,
}

impl Compiled {
    /// Multiply-adds of each step in a run, in all iterations of the loops around it as far as their number is known.
    pub fn step_multiply_adds(&self) -> Vec<u64> {
        let one = |(i, runs): (usize, u64)| self.expressions.get(i).map_or(0, |(_, e)| e.n_multiply_adds().saturating_mul(runs));
        self.program.step_runs().into_iter().enumerate().map(one).collect()
    }
}

/// What one step computes.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// The operators of its group: the model's names, or the names of their results.
    pub nodes: Vec<String>,
    /// The values of the graph that memory holds after it; those of a branch or loop after its last step.
    pub values: Vec<PlacedValue>,
    /// The values of bodies that memory holds after it.
    pub inner: Vec<PlacedValue>,
}

impl StepInfo {
    /// All values that memory holds after it.
    pub fn placed(&self) -> impl Iterator<Item = &PlacedValue> {
        self.values.iter().chain(&self.inner)
    }
}

/// A value in memory.
#[derive(Clone, Debug)]
pub struct PlacedValue {
    /// Its name in the graph.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Start of the memory it lies in.
    pub base: Place,
    /// First element.
    pub offset: i64,
    /// Strides in elements.
    pub strides: Vec<i64>,
}

/// A kernel, a branch or a loop while it is prepared.
struct Task {
    /// What it computes; of a branch or loop only operands and results.
    lowered: Lowered,
    nodes: Vec<NodeId>,
    work: Option<Work>,
    /// What it copies, if that is all it does.
    copied: Option<Copied>,
}

/// What runs.
enum Work {
    Kernel(Box<Scheduled>),
    Control(Box<Control>),
}

impl Work {
    fn args(&self) -> &[Arg] {
        match self {
            Work::Kernel(s) => &s.args,
            Work::Control(c) => &c.args,
        }
    }

    /// What argument number `i` is, for messages.
    fn name(&self, i: usize) -> String {
        match self {
            Work::Kernel(s) => format!("{}/{}", s.kernel.name, s.kernel.buffers[i].name),
            Work::Control(c) => format!("{}/{i}", c.name),
        }
    }
}

/// Runs the passes that rewrite the graph; `see` gets it after each.
pub fn run_passes(graph: Graph, config: &Config, see: &mut dyn FnMut(&str, &Graph)) -> (Graph, passes::Report) {
    run_passes_as(graph, config, None, see)
}

/// As [`run_passes`], where names are given folding constants to these values only.
fn run_passes_as(
    mut graph: Graph,
    config: &Config,
    folded: Option<BTreeSet<String>>,
    see: &mut dyn FnMut(&str, &Graph),
) -> (Graph, passes::Report) {
    let choices = passes::PassConfig { quantize_weights: config.quantize_weights.is_some(), prune_channels: config.prune, folded };
    let mut report = passes::Report::default();
    for pass in passes::PASSES {
        pass.apply(&mut graph, &choices, &mut report);
        see(pass.name, &graph);
    }
    (graph, report)
}

/// How kernels are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// What turns them into machine code.
    pub emitter: Emitter,
    /// How convolutions are computed.
    pub convolution: Convolution,
    /// What matters more, speed or size.
    pub goal: Goal,
    /// The most threads that they run on.
    pub threads: usize,
    /// The work, as nests count it, that is worth a thread.
    pub thread_work: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            emitter: Emitter::default(),
            convolution: Convolution::default(),
            goal: Goal::default(),
            threads: config::DEFAULT_THREADS,
            thread_work: WORK_OF_A_THREAD,
        }
    }
}

impl From<Emitter> for Options {
    fn from(emitter: Emitter) -> Self {
        Options { emitter, ..Options::default() }
    }
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        let direct = config.exact_conv || config.goal == Goal::Size;
        Options {
            emitter: match config.emitter {
                config::Emitter::Auto => Emitter::Auto,
                config::Emitter::Clif => Emitter::Clif,
                config::Emitter::Wide => Emitter::Wide,
            },
            convolution: if direct { Convolution::Direct } else { Convolution::Fastest },
            goal: config.goal,
            threads: config.threads,
            ..Options::default()
        }
    }
}

/// Compiles a graph whose extents are all fixed; the passes that change the graph have run.
///
/// # Errors
/// Every node that cannot be compiled.
pub fn lower_and_schedule(graph: Graph, machine: &Machine, options: impl Into<Options>) -> Result<Compiled, Vec<Diagnostic>> {
    lower_and_schedule_as(graph, machine, options, &Tuned::default(), &[])
}

/// As [`lower_and_schedule`], with the forms of kernels that were measured to be best, and the pairs of an input and an output that are
/// one tensor between runs.
///
/// # Errors
/// Every node that cannot be compiled.
pub fn lower_and_schedule_as(
    graph: Graph,
    machine: &Machine,
    options: impl Into<Options>,
    tuned: &Tuned,
    states: &[State],
) -> Result<Compiled, Vec<Diagnostic>> {
    lower_and_schedule_for(graph, None, machine, options, tuned, states)
}

/// As [`lower_and_schedule_as`], for all sizes of a range where there are probes; the graph is the first of these.
///
/// # Errors
/// Every node that cannot be compiled, or not for a range.
pub fn lower_and_schedule_for(
    graph: Graph,
    probes: Option<&Probes>,
    machine: &Machine,
    options: impl Into<Options>,
    tuned: &Tuned,
    states: &[State],
) -> Result<Compiled, Vec<Diagnostic>> {
    let options = options.into();
    let is_wide = options.emitter != Emitter::Clif && linear::lanes(machine).is_some();
    let parameters = probes.map_or(&[][..], |p| &p.parameters);
    let finish = |scheduled: &mut Scheduled| threads::spread(scheduled, parameters, options, machine, is_wide);
    let mut tuner = Tuner::new(&graph, machine, options, tuned)?;
    let mut compiled = schedule_with(graph, probes, &mut tuner, options.threads, states, &finish)?;
    compiled.program.emitter = options.emitter;
    compiled.program.thread_work = threads::worth_of_a_thread(&compiled.program, options.thread_work);
    Ok(compiled)
}

/// `finish` gets every kernel that was scheduled.
fn schedule_with(
    mut graph: Graph,
    probes: Option<&Probes>,
    tuner: &mut Tuner<'_>,
    workers: usize,
    states: &[State],
    finish: &dyn Fn(&mut Scheduled),
) -> Result<Compiled, Vec<Diagnostic>> {
    check_fixed(&graph)?;
    (graph.any_padding, graph.any_size) = (probes.is_some_and(|p| p.any_padding), probes.is_some());
    let sizer = probes.map(|p| Sizer::new(&graph, p)).transpose()?;
    let joined = sizer.as_ref().and_then(|s| s.join_rows(&mut graph));
    let sizer = match &joined {
        Some(probes) => Some(Sizer::new(&graph, probes)?),
        None => sizer,
    };
    fuse(&mut graph, probes.is_none())
        .map_err(|errors| errors.iter().map(|(node, e)| refuse(&graph, &[*node], &e.to_string())).collect::<Vec<_>>())?;
    let members = groups(&graph);
    let mut lowered = vec![];
    let mut problems = vec![];
    for nodes in &members {
        match lower_group(&graph, nodes) {
            Ok(mut l) => {
                if let Some(Err(problem)) = sizer.as_ref().map(|s| s.annotate(&graph, nodes, &mut l)) {
                    problems.push(problem);
                }
                lowered.push(l);
            }
            Err((node, e)) => problems.push(refuse(&graph, &[node], &e.to_string())),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Views that are others at other sizes.
    let mut copies = HashSet::new();
    if let Some(sizer) = &sizer {
        for n in graph.operator_nodes().into_iter().filter(|&n| graph.node(n).group.is_none()) {
            match sizer.is_view(&graph, n) {
                Ok(true) => {}
                Ok(false) => {
                    copies.insert(n);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
    }
    let placements = assign_layouts(&mut graph, &mut lowered, &copies);
    let mut tasks = order_tasks(&graph, &placements, members, lowered, sizer.as_ref())?;
    let homes = homes::settle(&graph, &placements, &mut tasks, states, sizer.as_ref());
    let row_major = shared_constants(&graph, &placements, &tasks);
    let mut roots: Vec<Value> = homes.of.keys().copied().collect();
    roots.sort_unstable();
    let storage_id: HashMap<Value, usize> = roots.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let n_roots = roots.len();
    let extra = |e: usize| {
        let Extra { value, name, .. } = &homes.extras[e];
        let dims = graph.ty(*value).dims().unwrap_or_default();
        let dtype = graph.ty(*value).dtype.storage();
        let storage = Storage { id: n_roots + e, name: name.clone(), dtype, len: dims.iter().product() };
        Memory { storage, offset: 0, strides: crate::tensor::row_major_strides(&dims).into_iter().map(|s| s as i64).collect() }
    };
    for task in &mut tasks {
        if let [node] = task.nodes[..]
            && graph.node(node).control().is_some()
        {
            let layout = control::Layout { placements: &placements, storage_id: &storage_id };
            match Control::prepare(&graph, node, &layout, tuner, workers, finish, sizer.as_ref()) {
                Ok(control) => task.work = Some(Work::Control(Box::new(control))),
                Err(found) => problems.extend(found),
            }
            continue;
        }
        if task.lowered.program.items.is_empty() && task.copied.is_none() {
            continue;
        }
        let memory = |v: Value| {
            let p = &placements.of[&v];
            let storage = Storage {
                id: storage_id[&p.root],
                name: graph.name_of(p.root).to_owned(),
                dtype: root_dtype(&graph, p.root),
                len: root_len(&graph, p.root),
            };
            Memory { storage, offset: p.offset, strides: p.strides.clone() }
        };
        let operands = task
            .lowered
            .operands
            .iter()
            .map(|&v| {
                if let Some(Copied { from: Some(e), .. }) = task.copied {
                    return Source::Memory(extra(e));
                }
                let p = &placements.of[&v];
                match graph.constant(p.root) {
                    Some(constant) if row_major.contains(&p.root) && !has_own_copy(&task.lowered.program, constant, tuner.goal) => {
                        Source::RowMajor { value: constant.stored(), offset: p.offset, strides: p.strides.clone() }
                    }
                    Some(constant) => Source::Constant(view_of_constant(&constant.stored(), &graph, v, p)),
                    None => Source::Memory(memory(v)),
                }
            })
            .collect();
        let results = match task.copied {
            None => task.lowered.results.iter().map(|&v| memory(v)).collect(),
            Some(copied) => match (&sizer, homes.extras[copied.to].home) {
                (Some(sizer), Home::Output(j)) if !sizer.is_prefix(&graph, graph.outputs()[j]) => {
                    let v = graph.outputs()[j];
                    let p = &placements.of[&v];
                    let stored = (storage_id[&p.root], root_len(&graph, p.root), p.offset, &p.strides[..]);
                    let mut moved = mover(&graph, sizer, v, stored, Direction::Out(j), tuner.lanes());
                    moved.kernel.name = kernel_name(&graph, task, &homes.extras);
                    task.work = Some(Work::Kernel(Box::new(moved)));
                    continue;
                }
                _ => vec![extra(copied.to)],
            },
        };
        let name = kernel_name(&graph, task, &homes.extras);
        match tuner.schedule(&name, &task.lowered.program, operands, results) {
            Ok(mut s) => {
                finish(&mut s);
                task.work = Some(Work::Kernel(Box::new(s)));
            }
            Err(e) => problems.push(refuse(&graph, &task.nodes, &e.0)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let moved_in = |(i, &v): (usize, &Value)| {
        let sizer = sizer.as_ref().filter(|_| homes.of.get(&v) != Some(&Home::Input(i)))?;
        let stored = (*storage_id.get(&v)?, root_len(&graph, v), 0, &placements.of[&v].strides[..]);
        let mut moved = mover(&graph, sizer, v, stored, Direction::In(i), tuner.lanes());
        moved.kernel.name = format!("input_{i}");
        let lowered = Lowered { program: expr::Program::default(), operands: vec![], results: vec![v] };
        Some(Task { lowered, nodes: vec![], work: Some(Work::Kernel(Box::new(moved))), copied: None })
    };
    let mut tasks: Vec<Task> = graph.inputs().iter().enumerate().filter_map(moved_in).chain(tasks).collect();
    for task in &mut tasks {
        if let Some(Work::Kernel(s)) = task.work.as_mut()
            && s.kernel.schedule == "move()"
        {
            finish(s);
        }
    }
    assemble(graph, &placements, &homes, tasks, &storage_id, states, workers, sizer.as_ref())
}

fn check_fixed(graph: &Graph) -> Result<(), Vec<Diagnostic>> {
    let open: Vec<Diagnostic> = graph
        .inputs()
        .iter()
        .filter(|&&v| graph.ty(v).dims().is_none())
        .map(|&v| {
            Diagnostic::new(
                "unbound-dimension",
                Severity::Unsupported,
                format!("input \"{}\"", graph.name_of(v)),
                format!("`{}` has an unbound dimension", graph.ty(v)),
            )
            .with_help("give it a value: `--bind NAME=N`, or `--input-shape INPUT=N,N,...`")
        })
        .collect();
    if open.is_empty() { Ok(()) } else { Err(open) }
}

fn refuse(graph: &Graph, nodes: &[NodeId], reason: &str) -> Diagnostic {
    let Some(&node) = nodes.last() else {
        return Diagnostic::new("unsupported-operator", Severity::Unsupported, "an output", reason);
    };
    let info = graph.node(node);
    let name = info.operator().map_or("Constant".into(), |op| op.schema().full_name());
    let place = if info.label.is_empty() { format!("node of \"{}\"", info.results[0].name) } else { format!("node \"{}\"", info.label) };
    refuse_place(&place, &name, reason)
}

fn refuse_place(place: &str, name: &str, reason: &str) -> Diagnostic {
    Diagnostic::new("unsupported-operator", Severity::Unsupported, place, format!("`{name}` cannot be compiled: {reason}"))
}

/// Groups, and the views that need a copy, in execution order.
fn order_tasks(
    graph: &Graph,
    placements: &Placements,
    members: Vec<Vec<NodeId>>,
    lowered: Vec<Lowered>,
    sizer: Option<&Sizer<'_>>,
) -> Result<Vec<Task>, Vec<Diagnostic>> {
    let position: HashMap<NodeId, usize> = graph.order().into_iter().enumerate().map(|(i, n)| (n, i)).collect();
    let mut tasks: Vec<Task> =
        members.into_iter().zip(lowered).map(|(nodes, lowered)| Task { lowered, nodes, work: None, copied: None }).collect();
    for &node in &placements.copies {
        let mut lowered = lower_group(graph, &[node]).map_err(|(node, e)| vec![refuse(graph, &[node], &e.to_string())])?;
        sizer.map(|s| s.annotate(graph, &[node], &mut lowered)).transpose().map_err(|e| vec![e])?;
        tasks.push(Task { lowered, nodes: vec![node], work: None, copied: None });
    }
    for node in graph.control_nodes() {
        let operands = graph.operands(node).into_iter().flatten().collect();
        let lowered = Lowered { program: expr::Builder::new().finish(&[]), operands, results: graph.results(node) };
        tasks.push(Task { lowered, nodes: vec![node], work: None, copied: None });
    }
    tasks.sort_by_key(|t| t.nodes.last().map(|n| position[n]));
    Ok(tasks)
}

/// Whether a product reads a large constant in its own order, though others read it as it is.
fn has_own_copy(program: &expr::Program, constant: &Tensor, goal: Goal) -> bool {
    goal == Goal::Latency && program.n_multiply_adds() >= USES_WORTH_A_COPY * constant.len() as u64
}

/// Large constants that more than one task reads, one of them not in a product: a packed copy beside the plain one would double them.
fn shared_constants(graph: &Graph, placements: &Placements, tasks: &[Task]) -> HashSet<Value> {
    let mut readers: HashMap<Value, Vec<bool>> = HashMap::new();
    for task in tasks {
        for &v in &task.lowered.operands {
            let root = placements.of[&v].root;
            if graph.constant(root).is_some_and(|c| c.bytes().len() >= SHARED_CONSTANT_BYTES) {
                readers.entry(root).or_default().push(task.lowered.program.n_multiply_adds() > 0);
            }
        }
    }
    readers.into_iter().filter(|(_, products)| products.contains(&true) && products.contains(&false)).map(|(v, _)| v).collect()
}

/// The elements of a value that is a view of a constant.
fn view_of_constant(constant: &Tensor, graph: &Graph, v: Value, p: &Placement) -> Tensor {
    if v == p.root {
        return constant.clone();
    }
    let dims = graph.ty(v).dims().unwrap_or_default();
    let at = |index: &[usize]| (p.offset + index.iter().zip(&p.strides).map(|(&i, s)| i as i64 * s).sum::<i64>()) as usize;
    constant.gather(&dims, |index| Some(at(index)))
}

fn kernel_name(graph: &Graph, task: &Task, extras: &[Extra]) -> String {
    let name = match (task.nodes.last(), task.copied) {
        (Some(&n), _) => graph.node(n).results[0].name.clone(),
        (None, Some(copied)) => format!("{}_copy", extras[copied.to].name),
        (None, None) => "kernel".to_owned(),
    };
    symbol(&name)
}

/// A name as a part of a symbol.
fn symbol(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let clean = clean.trim_matches('_').to_owned();
    if clean.starts_with(|c: char| c.is_ascii_alphabetic()) { clean } else { format!("k_{clean}") }
}

/// Reads a placed value out of memory, row-major.
pub fn read_placed(value: &PlacedValue, memory: &[u8]) -> Tensor {
    let dims = value.ty.dims().unwrap_or_default();
    let size = value.ty.dtype.size_bytes();
    let mut bytes = Vec::with_capacity(dims.iter().product::<usize>() * size);
    for_each_index(&dims, |_, index| {
        let at = (value.offset + index.iter().zip(&value.strides).map(|(&i, s)| i as i64 * s).sum::<i64>()) as usize * size;
        bytes.extend_from_slice(&memory[at..at + size]);
    });
    Tensor::from_bytes(value.ty.dtype, &dims, &bytes)
}

#[cfg(test)]
mod tests;

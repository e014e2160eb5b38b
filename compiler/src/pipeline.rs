//! The stages after import, in order: passes, lower, schedule, memory plan, the program for code generation.

use std::collections::{HashMap, HashSet};

use tinsmith_targets::Arch;

use crate::codegen::Machine;
use crate::codegen::clif::Probe;
use crate::codegen::program::{Emitter, IoBuffer, Place, Program, Step};
use crate::codegen::wide;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Severity};
use crate::expr;
use crate::graph::{self, Graph, NodeId, Value};
use crate::lower::{Lowered, lower_group};
use crate::nest::Kernel;
use crate::passes;
use crate::passes::assign_layouts::{Placement, Placements, assign_layouts, is_row_major, root_dtype, root_len};
use crate::passes::fuse::{fuse, groups};
use crate::passes::plan_memory::{Request, plan_memory};
use crate::schedule::{self, Arg, Choice, Memory, ScheduleError, Scheduled, Source, Storage, schedule};
use crate::tensor::{Tensor, Type, for_each_index};

/// Alignment of everything in the arena.
const ALIGN_BYTES: usize = 64;
/// Constants of this size have one layout, even where two kernels would like different ones.
const SHARED_CONSTANT_BYTES: usize = 1 << 20;
/// Kernels of more stages take their first form: the others would cost more to make than they gain.
const MAX_TUNED_STAGES: usize = 16;
/// What [`Probe::spills`] gives for one stack access in a deepest loop.
const DEEPEST_SPILL: u64 = 64;

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

/// What one step computes.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// The operators of its group: the model's names, or the names of their results.
    pub nodes: Vec<String>,
    /// The values that memory holds after it.
    pub values: Vec<PlacedValue>,
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

/// One step while it is prepared.
struct Task {
    lowered: Lowered,
    nodes: Vec<NodeId>,
    scheduled: Option<Scheduled>,
}

/// Where a root lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Home {
    Input(usize),
    Output(usize),
    Constant,
    Arena(usize),
}

/// Runs the passes that rewrite the graph; `see` gets it after each.
pub fn run_passes(mut graph: Graph, config: &Config, see: &mut dyn FnMut(&str, &Graph)) -> (Graph, passes::Report) {
    let choices = passes::PassConfig { quantize_weights: config.quantize_weights.is_some(), prune_channels: config.prune };
    let mut report = passes::Report::default();
    for pass in passes::PASSES {
        (pass.run)(&mut graph, &choices, &mut report);
        see(pass.name, &graph);
    }
    (graph, report)
}

/// What schedules for Cranelift need to know of a machine: 128-bit vectors are the widest that it has.
pub fn schedule_machine(machine: &Machine) -> schedule::Machine {
    let target = &machine.target;
    // Without AVX-512 and on the 128-bit emitter, sixteen registers can be named on x86-64.
    let n_registers = if target.arch == Arch::Aarch64 { 32 } else { 16 };
    schedule::Machine {
        l1_bytes: target.l1d_bytes,
        l2_bytes: target.l2_bytes,
        ..schedule::Machine::vector128(n_registers, target.has_fma())
    }
}

/// What schedules for the wide emitter are made for, the best first: a schedule that needs too many registers is followed by
/// one that counts on fewer.
fn wide_machines(machine: &Machine) -> Vec<schedule::Machine> {
    let Some(isa) = wide::Isa::of(machine) else { return vec![] };
    let make = |n_registers: usize| schedule::Machine {
        l1_bytes: machine.target.l1d_bytes,
        l2_bytes: machine.target.l2_bytes,
        ..schedule::Machine::wide(isa.lanes(), n_registers)
    };
    match isa {
        wide::Isa::V4 => vec![make(32), make(24), make(16), make(5)],
        wide::Isa::V3 => vec![make(16), make(12), make(5)],
    }
}

/// Compiles a graph whose extents are all fixed; the passes that change the graph have run.
///
/// # Errors
/// Every node that cannot be compiled.
pub fn lower_and_schedule(mut graph: Graph, machine: &Machine, emitter: Emitter) -> Result<Compiled, Vec<Diagnostic>> {
    check_fixed(&graph)?;
    let mut tuner = Tuner::new(machine, emitter)?;
    fuse(&mut graph).map_err(|errors| errors.iter().map(|(node, e)| refuse(&graph, &[*node], &e.to_string())).collect::<Vec<_>>())?;
    let members = groups(&graph);
    let mut lowered = vec![];
    let mut problems = vec![];
    for nodes in &members {
        match lower_group(&graph, nodes) {
            Ok(l) => lowered.push(l),
            Err((node, e)) => problems.push(refuse(&graph, &[node], &e.to_string())),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let placements = assign_layouts(&mut graph, &mut lowered);
    let mut tasks = order_tasks(&graph, &placements, members, lowered)?;
    let homes = choose_homes(&graph, &placements);
    let outputs_done: Vec<bool> = (0..graph.outputs().len()).map(|j| homes.values().any(|&h| h == Home::Output(j))).collect();
    let n_tasks = tasks.len();
    for (j, done) in outputs_done.iter().enumerate() {
        if !done {
            tasks.push(Task { lowered: copy_program(&graph, graph.outputs()[j]), nodes: vec![], scheduled: None });
        }
    }
    let mut undone = (0..outputs_done.len()).filter(|&j| !outputs_done[j]);
    let output_of: Vec<Option<usize>> = (0..tasks.len()).map(|t| if t < n_tasks { None } else { undone.next() }).collect();

    let row_major = shared_constants(&graph, &placements, &tasks);
    let mut roots: Vec<Value> = homes.keys().copied().collect();
    roots.sort_unstable();
    let storage_id: HashMap<Value, usize> = roots.iter().enumerate().map(|(i, &v)| (v, i)).collect();
    let n_roots = roots.len();
    for (t, task) in tasks.iter_mut().enumerate() {
        if task.lowered.program.items.is_empty() && output_of[t].is_none() {
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
                let p = &placements.of[&v];
                match graph.constant(p.root) {
                    Some(constant) if row_major.contains(&p.root) => {
                        Source::RowMajor { value: constant.clone(), offset: p.offset, strides: p.strides.clone() }
                    }
                    Some(constant) => Source::Constant(view_of_constant(constant, &graph, v, p)),
                    None => Source::Memory(memory(v)),
                }
            })
            .collect();
        let results = match output_of[t] {
            None => task.lowered.results.iter().map(|&v| memory(v)).collect(),
            Some(j) => {
                let v = graph.outputs()[j];
                let dims = graph.ty(v).dims().unwrap_or_default();
                let order: Vec<usize> = (0..dims.len()).collect();
                let storage = Storage {
                    id: n_roots + j,
                    name: graph.output_names()[j].clone(),
                    dtype: graph.ty(v).dtype,
                    len: dims.iter().product(),
                };
                vec![Memory { storage, offset: 0, strides: crate::tensor::dense_strides(&dims, &order) }]
            }
        };
        let name = kernel_name(&graph, task, output_of[t]);
        match tuner.schedule(&name, &task.lowered.program, operands, results) {
            Ok(s) => task.scheduled = Some(s),
            Err(e) => problems.push(refuse(&graph, &task.nodes, &e.0)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut compiled = assemble(graph, &placements, &homes, tasks, &storage_id, n_roots)?;
    compiled.program.emitter = emitter;
    Ok(compiled)
}

/// Schedules kernels: for wide vectors where the wide emitter takes them, else choosing among the forms of a contraction by
/// how its registers come out.
struct Tuner {
    probe: Probe,
    target: Machine,
    /// What the wide emitter is offered, the first that it takes.
    wide: Vec<schedule::Machine>,
    /// Whether it must take everything.
    only_wide: bool,
    machine: schedule::Machine,
    /// The choice made for each kernel, by its first form.
    known: HashMap<String, Choice>,
}

impl Tuner {
    fn new(machine: &Machine, emitter: Emitter) -> Result<Self, Vec<Diagnostic>> {
        let unsupported = |message: String| vec![Diagnostic::new("unsupported-target", Severity::Unsupported, "", message)];
        let probe = Probe::new(machine).map_err(|e| unsupported(e.to_string()))?;
        let wide = if emitter == Emitter::Clif { vec![] } else { wide_machines(machine) };
        if emitter == Emitter::Wide && wide.is_empty() {
            return Err(unsupported(format!("{machine} lacks the 256-bit vectors that the wide emitter needs")));
        }
        Ok(Tuner {
            probe,
            target: machine.clone(),
            wide,
            only_wide: emitter == Emitter::Wide,
            machine: schedule_machine(machine),
            known: HashMap::new(),
        })
    }

    fn schedule(
        &mut self,
        name: &str,
        program: &expr::Program,
        operands: Vec<Source>,
        results: Vec<Memory>,
    ) -> Result<Scheduled, ScheduleError> {
        let mut refused = None;
        for machine in &self.wide {
            let scheduled = schedule(name, program, operands.clone(), results.clone(), machine)?;
            match wide::check(&self.target, &scheduled.kernel) {
                Ok(()) => return Ok(scheduled),
                Err(reason) => refused = Some(reason),
            }
        }
        if let (Some(reason), true) = (refused, self.only_wide) {
            return Err(ScheduleError(format!("the wide emitter refuses its kernel: {reason}")));
        }
        self.schedule_clif(name, program, operands, results)
    }

    fn schedule_clif(
        &mut self,
        name: &str,
        program: &expr::Program,
        operands: Vec<Source>,
        results: Vec<Memory>,
    ) -> Result<Scheduled, ScheduleError> {
        let first = schedule(name, program, operands.clone(), results.clone(), &self.machine)?;
        if !first.kernel.schedule.contains("contract(") || program.items.len() > MAX_TUNED_STAGES {
            return Ok(first);
        }
        let key = Kernel { name: String::new(), ..first.kernel.clone() }.to_string();
        let form =
            |choice: Choice| schedule(name, program, operands.clone(), results.clone(), &schedule::Machine { choice, ..self.machine });
        if let Some(&choice) = self.known.get(&key) {
            return if choice == self.machine.choice { Ok(first) } else { form(choice) };
        }
        let spills = |s: &Scheduled| self.probe.spills(&s.kernel).unwrap_or(u64::MAX);
        let (mut best, mut best_spills, mut chosen) = (first.clone(), spills(&first), self.machine.choice);
        for choice in Choice::ALL {
            if best_spills < DEEPEST_SPILL {
                break;
            }
            if choice == self.machine.choice {
                continue;
            }
            let other = form(choice)?;
            let n = spills(&other);
            if n < best_spills {
                (best, best_spills, chosen) = (other, n, choice);
            }
        }
        self.known.insert(key, chosen);
        Ok(best)
    }
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
    let name = info.operator().map_or("Constant", |op| op.schema().name);
    let place = if info.label.is_empty() { format!("node of \"{}\"", info.results[0].name) } else { format!("node \"{}\"", info.label) };
    Diagnostic::new("unsupported-operator", Severity::Unsupported, place, format!("`{name}` cannot be compiled: {reason}"))
}

/// Groups, and the views that need a copy, in execution order.
fn order_tasks(
    graph: &Graph,
    placements: &Placements,
    members: Vec<Vec<NodeId>>,
    lowered: Vec<Lowered>,
) -> Result<Vec<Task>, Vec<Diagnostic>> {
    let position: HashMap<NodeId, usize> = graph.order().into_iter().enumerate().map(|(i, n)| (n, i)).collect();
    let mut tasks: Vec<Task> = members.into_iter().zip(lowered).map(|(nodes, lowered)| Task { lowered, nodes, scheduled: None }).collect();
    for &node in &placements.copies {
        let lowered = lower_group(graph, &[node]).map_err(|(node, e)| vec![refuse(graph, &[node], &e.to_string())])?;
        tasks.push(Task { lowered, nodes: vec![node], scheduled: None });
    }
    tasks.sort_by_key(|t| t.nodes.last().map(|n| position[n]));
    Ok(tasks)
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

/// A program that copies one value.
fn copy_program(graph: &Graph, v: Value) -> Lowered {
    let mut b = expr::Builder::new();
    let ty = graph.ty(v);
    let dims = ty.dims().unwrap_or_default();
    let from = b.operand(graph.name_of(v), ty.dtype, &dims);
    b.set_name(&format!("{}.out", graph.name_of(v)));
    let out = b.compute(&dims, |b, at| b.load(from, at.iter()));
    Lowered { program: b.finish(&[out]), operands: vec![v], results: vec![] }
}

/// Gives every root its home: inputs and constants where they are, results of kernels in an output where they are one, else in the arena.
fn choose_homes(graph: &Graph, placements: &Placements) -> HashMap<Value, Home> {
    let mut homes = HashMap::new();
    for (i, &v) in graph.inputs().iter().enumerate() {
        homes.insert(v, Home::Input(i));
    }
    for node in graph.order() {
        for v in graph.results(node) {
            if graph.node(node).constant().is_some() {
                homes.insert(v, Home::Constant);
            }
        }
    }
    for (j, v) in graph.outputs().iter().enumerate() {
        let Some(p) = placements.of.get(v) else { continue };
        let whole = p.offset == 0
            && is_row_major(&graph.ty(*v).dims().unwrap_or_default(), &p.strides)
            && graph.ty(*v).size_bytes() == graph.ty(p.root).size_bytes();
        if whole && !homes.contains_key(&p.root) {
            homes.insert(p.root, Home::Output(j));
        }
    }
    let mut roots: Vec<Value> = placements.of.values().map(|p| p.root).collect();
    roots.sort_unstable();
    roots.dedup();
    for (i, v) in roots.into_iter().enumerate() {
        homes.entry(v).or_insert(Home::Arena(i));
    }
    homes
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

fn kernel_name(graph: &Graph, task: &Task, output: Option<usize>) -> String {
    let name = match (task.nodes.last(), output) {
        (Some(&n), _) => graph.node(n).results[0].name.clone(),
        (None, Some(j)) => format!("{}_copy", graph.output_names()[j]),
        (None, None) => "kernel".to_owned(),
    };
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let clean = clean.trim_matches('_').to_owned();
    if clean.starts_with(|c: char| c.is_ascii_alphabetic()) { clean } else { format!("k_{clean}") }
}

/// Plans the arena and builds the program.
fn assemble(
    mut graph: Graph,
    placements: &Placements,
    homes: &HashMap<Value, Home>,
    tasks: Vec<Task>,
    storage_id: &HashMap<Value, usize>,
    n_roots: usize,
) -> Result<Compiled, Vec<Diagnostic>> {
    let root_of: HashMap<usize, Value> = storage_id.iter().map(|(&v, &id)| (id, v)).collect();
    let mut requests: Vec<Request> = vec![];
    let mut request_of: HashMap<Value, usize> = HashMap::new();
    let mut scratch_of: HashMap<(usize, usize), usize> = HashMap::new();
    let mut step = 0;
    for (t, task) in tasks.iter().enumerate() {
        let Some(scheduled) = &task.scheduled else { continue };
        for (a, arg) in scheduled.args.iter().enumerate() {
            match arg {
                Arg::Scratch(bytes) => {
                    scratch_of.insert((t, a), requests.len());
                    let name = format!("{}/{}", scheduled.kernel.name, scheduled.kernel.buffers[a].name);
                    requests.push(Request {
                        name,
                        size_bytes: *bytes,
                        first_step: step,
                        last_step: step,
                        align_bytes: ALIGN_BYTES,
                        in_place_of: None,
                    });
                }
                Arg::Storage(id) if *id < n_roots => {
                    let root = root_of[id];
                    if !matches!(homes[&root], Home::Arena(_)) {
                        continue;
                    }
                    if let Some(&r) = request_of.get(&root) {
                        requests[r].last_step = step;
                    } else {
                        request_of.insert(root, requests.len());
                        let size_bytes = graph.ty(root).size_bytes().unwrap_or(0);
                        let in_place_of = in_place_source(&graph, placements, task, root).and_then(|v| request_of.get(&v).copied());
                        requests.push(Request {
                            name: graph.name_of(root).to_owned(),
                            size_bytes,
                            first_step: step,
                            last_step: step,
                            align_bytes: ALIGN_BYTES,
                            in_place_of,
                        });
                    }
                }
                Arg::Storage(_) | Arg::Constant(_) => {}
            }
        }
        step += 1;
    }
    let plan = plan_memory(&requests);
    let mut program = Program { workspace_bytes: plan.arena_bytes, ..Program::default() };
    for (i, &v) in graph.inputs().iter().enumerate() {
        debug_assert_eq!(homes[&v], Home::Input(i));
        program.inputs.push(IoBuffer { name: graph.name_of(v).to_owned(), bytes: graph.ty(v).size_bytes().unwrap_or(0) });
    }
    for (j, &v) in graph.outputs().iter().enumerate() {
        program.outputs.push(IoBuffer { name: graph.output_names()[j].clone(), bytes: graph.ty(v).size_bytes().unwrap_or(0) });
    }
    let base_of = |root: Value| match homes[&root] {
        Home::Input(i) => Some(Place::Input(i, 0)),
        Home::Output(j) => Some(Place::Output(j, 0)),
        Home::Arena(_) => request_of.get(&root).map(|&r| Place::Arena(plan.offsets[r])),
        Home::Constant => None,
    };
    let mut steps = vec![];
    let mut expressions = vec![];
    for (t, task) in tasks.into_iter().enumerate() {
        let Some(scheduled) = task.scheduled else { continue };
        let mut args = vec![];
        for (a, arg) in scheduled.args.iter().enumerate() {
            args.push(match arg {
                Arg::Scratch(_) => Place::Arena(plan.offsets[scratch_of[&(t, a)]]),
                Arg::Storage(id) if *id < n_roots => base_of(root_of[id]).unwrap_or(Place::Arena(0)),
                Arg::Storage(id) => Place::Output(id - n_roots, 0),
                Arg::Constant(value) => {
                    Place::Constant(program.constant(&scheduled.kernel.buffers[a].name.replace('.', "_"), value.clone()), 0)
                }
            });
        }
        let nodes: Vec<String> = task
            .nodes
            .iter()
            .map(|&n| {
                let node = graph.node(n);
                if node.label.is_empty() { node.results[0].name.clone() } else { node.label.clone() }
            })
            .collect();
        let values = task
            .lowered
            .results
            .iter()
            .filter_map(|&v| {
                let p = &placements.of[&v];
                Some(PlacedValue {
                    name: graph.name_of(v).to_owned(),
                    ty: graph.ty(v).clone(),
                    base: base_of(p.root)?,
                    offset: p.offset,
                    strides: p.strides.clone(),
                })
            })
            .collect();
        let label = nodes.last().cloned().unwrap_or_else(|| scheduled.kernel.name.clone());
        expressions.push((label.clone(), task.lowered.program));
        let kernel = program.kernel(scheduled.kernel);
        program.steps.push(Step { label, kernel, args });
        steps.push(StepInfo { nodes, values });
    }
    write_places(&mut graph, placements, homes, &request_of, &plan.offsets);
    graph.arena_bytes = Some(plan.arena_bytes);
    Ok(Compiled { graph, program, steps, expressions, lower_bound_bytes: plan.lower_bound_bytes })
}

/// The root that a one-stage task's result may overwrite: an operand that each point reads just where it writes.
fn in_place_source(graph: &Graph, placements: &Placements, task: &Task, root: Value) -> Option<Value> {
    let [result] = task.lowered.results[..] else { return None };
    let [expr::Item::Stage(stage)] = &task.lowered.program.items[..] else { return None };
    let place = &placements.of[&result];
    if place.root != root || result != root {
        return None;
    }
    let late = match &stage.body {
        expr::Body::Map(e) => e,
        expr::Body::Reduce { finish, .. } => finish,
        expr::Body::Arg { .. } => return None,
    };
    task.lowered.operands.iter().zip(&task.lowered.program.operands).find_map(|(&v, &tensor)| {
        let p = &placements.of[&v];
        let shared = task.lowered.operands.iter().filter(|o| placements.of[o].root == p.root).count() > 1;
        if shared
            || p.offset != 0
            || p.strides != place.strides
            || graph.ty(v).size_bytes() != graph.ty(root).size_bytes()
            || graph.ty(p.root).size_bytes() != graph.ty(root).size_bytes()
            || graph.ty(v).dims()? != stage.axes
        {
            return None;
        }
        let identity = |index: &[expr::Ix]| index.iter().zip(&stage.write).all(|(ix, w)| matches!(ix, expr::Ix::Affine(a) if a == w));
        let (mut reads, mut in_place) = (0, true);
        late.visit(&mut |e| {
            if let expr::Node::Load { tensor: t, index, pad } = e.node()
                && *t == tensor
            {
                reads += 1;
                in_place &= pad.is_none() && identity(index);
            }
        });
        if let expr::Body::Reduce { value, .. } = &stage.body {
            value.visit(&mut |e| in_place &= !matches!(e.node(), expr::Node::Load { tensor: t, .. } if *t == tensor));
        }
        (reads > 0 && in_place).then_some(p.root)
    })
}

fn write_places(
    graph: &mut Graph,
    placements: &Placements,
    homes: &HashMap<Value, Home>,
    request_of: &HashMap<Value, usize>,
    offsets: &[usize],
) {
    let mut placed: Vec<(Value, graph::Place)> = vec![];
    for (&v, p) in placements.of.iter().collect::<std::collections::BTreeMap<_, _>>() {
        let place = if v != p.root {
            graph::Place::Within(p.root)
        } else {
            match homes[&v] {
                Home::Input(i) => graph::Place::Input(i),
                Home::Output(j) => graph::Place::Output(j),
                Home::Constant => graph::Place::Constant,
                Home::Arena(_) => match request_of.get(&v) {
                    Some(&r) => graph::Place::Arena(offsets[r]..offsets[r] + graph.ty(v).size_bytes().unwrap_or(0)),
                    None => continue,
                },
            }
        };
        placed.push((v, place));
    }
    for (v, place) in placed {
        graph.info_mut(v).place = Some(place);
    }
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
mod tests {
    use std::collections::HashMap;

    use super::{Compiled, Emitter, lower_and_schedule};
    use crate::codegen::jit::Executable;
    use crate::codegen::target::{Level, Machine};
    use crate::graph::{Graph, Value};
    use crate::nest;
    use crate::ops::{self, Attribute, Attributes, Operands};
    use crate::tensor::{DType, Tensor, Type};

    /// Deterministic values in -1..1.
    fn random(seed: u64, dims: &[usize]) -> Tensor {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect();
        Tensor::from_slice(dims, &values)
    }

    struct Net {
        graph: Graph,
        n: usize,
    }

    impl Net {
        fn new() -> Self {
            Net { graph: Graph::new("net"), n: 0 }
        }

        fn input(&mut self, dims: &[usize]) -> Value {
            let name = format!("x{}", self.graph.inputs().len());
            self.graph.add_input(&name, Type::fixed(DType::F32, dims))
        }

        fn weight(&mut self, dims: &[usize]) -> Value {
            self.n += 1;
            self.graph.add_constant(&format!("w{}", self.n), random(self.n as u64, dims))
        }

        fn ints(&mut self, values: &[i64]) -> Value {
            self.n += 1;
            self.graph.add_constant(&format!("c{}", self.n), Tensor::from_slice(&[values.len()], values))
        }

        fn op(&mut self, name: &str, operands: &[Value], attributes: &[(&str, Attribute)]) -> Value {
            self.n += 1;
            let mut attributes = Attributes(attributes.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect());
            let op = (ops::find(name).expect(name).build)(&mut attributes).expect(name);
            let operands: Vec<Option<Value>> = operands.iter().map(|&v| Some(v)).collect();
            let node = self.graph.add_node(op, &operands, &[format!("v{}", self.n)], "").expect(name);
            Value { node, result: 0 }
        }

        fn check(mut self, outputs: &[Value]) -> Compiled {
            let named = outputs.iter().enumerate().map(|(i, &v)| (format!("y{i}"), v)).collect();
            self.graph.set_outputs(named);
            let inputs: Vec<Tensor> =
                self.graph.inputs().iter().enumerate().map(|(i, &v)| random(100 + i as u64, &self.graph.ty(v).dims().unwrap())).collect();
            let mut values: HashMap<Value, Tensor> = self.graph.inputs().iter().copied().zip(inputs.iter().cloned()).collect();
            for node in self.graph.order() {
                let n = self.graph.node(node);
                if let Some(t) = n.constant() {
                    values.insert(Value { node, result: 0 }, t.clone());
                } else if let Some(op) = n.operator() {
                    let operands = self.graph.operands(node).into_iter().map(|v| v.map(|v| values[&v].clone()));
                    let results = op.eval(&Operands::of_values(operands, n.results.len())).unwrap();
                    for (i, r) in results.into_iter().enumerate() {
                        values.insert(Value { node, result: i as u32 }, r);
                    }
                }
            }
            for level in [Level::V3, Level::V4] {
                for emitter in [Emitter::Auto, Emitter::Clif] {
                    self.check_at(level, emitter, outputs, &inputs, &values);
                }
            }
            self.check_at(Level::V3, Emitter::Auto, outputs, &inputs, &values)
        }

        fn check_at(
            &self,
            level: Level,
            emitter: Emitter,
            outputs: &[Value],
            inputs: &[Tensor],
            values: &HashMap<Value, Tensor>,
        ) -> Compiled {
            let compiled = lower_and_schedule(self.graph.clone(), &Machine::x86_64(level), emitter).unwrap_or_else(|e| panic!("{e:?}"));
            for kernel in &compiled.program.kernels {
                let errors = nest::verify(kernel);
                assert!(errors.is_empty(), "{errors:?}\n{kernel}");
            }
            // Kernels of 128-bit vectors run everywhere.
            let levels = if emitter == Emitter::Clif { Level::X86_64.to_vec() } else { vec![level] };
            for level in levels {
                let machine = Machine::x86_64(level);
                if machine.check_host().is_err() {
                    continue;
                }
                let exe = Executable::new(&compiled.program, &machine).unwrap();
                let mut memory = exe.memory();
                for (to, from) in memory.inputs.iter_mut().zip(inputs) {
                    to.as_mut_slice().copy_from_slice(from.bytes());
                }
                // What the arena holds before must not matter.
                memory.workspace.as_mut_slice().fill(0xFF);
                exe.run(&mut memory).unwrap();
                for (j, v) in outputs.iter().enumerate() {
                    let got = Tensor::from_bytes(self.graph.ty(*v).dtype, &self.graph.ty(*v).dims().unwrap(), memory.outputs[j].as_slice());
                    let (got, want) = (got.to_f64s(), values[v].to_f64s());
                    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                        assert!(
                            (g - w).abs() <= 1e-4 * (1.0 + w.abs()),
                            "output {j} element {i}: {g} where {w} is right ({level:?})\n{:?}",
                            compiled.program.kernels.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("\n")
                        );
                    }
                }
            }
            compiled
        }
    }

    fn ints(v: &[i64]) -> Attribute {
        Attribute::Ints(v.to_vec())
    }

    #[test]
    fn a_convolution_with_its_activation_is_one_step() {
        let mut net = Net::new();
        let x = net.input(&[1, 3, 17, 19]);
        let (w, b) = (net.weight(&[20, 3, 3, 3]), net.weight(&[20]));
        let y = net.op("Conv", &[x, w, b], &[("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))]);
        let y = net.op("Relu", &[y], &[]);
        let (w, b) = (net.weight(&[13, 20, 3, 3]), net.weight(&[13]));
        let z = net.op("Conv", &[y, w, b], &[("pads", ints(&[1, 1, 1, 1]))]);
        let z = net.op("Relu", &[z], &[]);
        let w = net.weight(&[20, 13, 1, 1]);
        let r = net.op("Conv", &[z, w], &[]);
        let r = net.op("Add", &[r, y], &[]);
        let compiled = net.check(&[r]);
        assert_eq!(compiled.program.steps.len(), 3);
    }

    #[test]
    fn depthwise_pools_and_concatenation() {
        let mut net = Net::new();
        let x = net.input(&[1, 8, 9, 10]);
        let w = net.weight(&[16, 8, 1, 1]);
        let x = net.op("Conv", &[x, w], &[]);
        let w = net.weight(&[16, 1, 3, 3]);
        let d = net.op("Conv", &[x, w], &[("pads", ints(&[1, 1, 1, 1])), ("group", Attribute::Int(16))]);
        let d = net.op("Relu", &[d], &[]);
        let m = net.op("MaxPool", &[x], &[("kernel_shape", ints(&[3, 3])), ("pads", ints(&[1, 1, 1, 1]))]);
        let c = net.op("Concat", &[d, m], &[("axis", Attribute::Int(1))]);
        let w = net.weight(&[4, 8, 3, 3]);
        let g = net.op("Conv", &[c, w], &[("group", Attribute::Int(4))]);
        let p = net.op("GlobalAveragePool", &[g], &[]);
        net.check(&[p, g]);
    }

    #[test]
    fn a_large_table_that_data_indexes_has_no_second_copy() {
        let mut net = Net::new();
        let x = net.input(&[5, 520]);
        let table = net.weight(&[523, 520]);
        let keep = ("keepdims", Attribute::Int(0));
        let rows = net.op("ArgMax", &[x], &[("axis", Attribute::Int(1)), keep]);
        let embedding = net.op("Gather", &[table, rows], &[]);
        let h = net.op("Add", &[embedding, x], &[]);
        let back = net.op("Transpose", &[table], &[]);
        let y = net.op("MatMul", &[h, back], &[]);
        let compiled = net.check(&[y]);
        let large: Vec<usize> = compiled.program.constants.iter().map(|c| c.bytes.as_slice().len()).filter(|&n| n > 4096).collect();
        assert_eq!(large, [523 * 520 * 4]);
        assert!(compiled.program.workspace_bytes < 1 << 20);
    }

    #[test]
    fn attention_reads_its_heads_in_place() {
        let mut net = Net::new();
        let x = net.input(&[1, 10, 32]);
        let head = |net: &mut Net| {
            let w = net.weight(&[32, 32]);
            let y = net.op("MatMul", &[x, w], &[]);
            let shape = net.ints(&[1, 10, 4, 8]);
            let y = net.op("Reshape", &[y, shape], &[]);
            net.op("Transpose", &[y], &[("perm", ints(&[0, 2, 1, 3]))])
        };
        let (q, k, v) = (head(&mut net), head(&mut net), head(&mut net));
        let k = net.op("Transpose", &[k], &[("perm", ints(&[0, 1, 3, 2]))]);
        let s = net.op("MatMul", &[q, k], &[]);
        let s = net.op("Softmax", &[s], &[]);
        let o = net.op("MatMul", &[s, v], &[]);
        let o = net.op("Transpose", &[o], &[("perm", ints(&[0, 2, 1, 3]))]);
        let shape = net.ints(&[1, 10, 32]);
        let o = net.op("Reshape", &[o, shape], &[]);
        let w = net.weight(&[32, 7]);
        let y = net.op("MatMul", &[o, w], &[]);
        let compiled = net.check(&[y]);
        assert_eq!(compiled.program.steps.len(), 7);
    }
}

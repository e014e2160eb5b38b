//! Scheduled kernels to a program: what lives where, and the memory plan.

use std::collections::HashMap;

use super::control::Parts;
use super::dynamic::Sizer;
use super::homes::{Home, Homes};
use super::{Compiled, PlacedValue, StepInfo, Task, Work, in_place, threads};
use crate::codegen::flow::Flow;
use crate::codegen::program::{IoBuffer, Place, Program, Step};
use crate::diagnostic::Diagnostic;
use crate::graph::{self, Graph, Value};
use crate::passes::assign_layouts::Placements;
use crate::passes::plan_memory::{Request, plan_memory};
use crate::schedule::Arg;
use crate::state::State;

/// Alignment of everything in the arena.
const ALIGN_BYTES: usize = 64;

/// Plans the arena and builds the program.
#[expect(clippy::too_many_arguments, reason = "what all stages before it found")]
pub(super) fn assemble(
    mut graph: Graph,
    placements: &Placements,
    homes: &Homes,
    tasks: Vec<Task>,
    storage_id: &HashMap<Value, usize>,
    states: &[State],
    workers: usize,
    sizer: Option<&Sizer<'_>>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let root_of: HashMap<usize, Value> = storage_id.iter().map(|(&v, &id)| (id, v)).collect();
    let n_roots = root_of.len();
    let home_of = |id: usize| if id < n_roots { homes.of[&root_of[&id]] } else { homes.extras[id - n_roots].home };
    let mut requests: Vec<Request> = vec![];
    // By storage.
    let mut request_of: HashMap<usize, usize> = HashMap::new();
    let mut scratch_of: HashMap<(usize, usize), usize> = HashMap::new();
    let mut step = 0;
    for (t, task) in tasks.iter().enumerate() {
        let Some(work) = &task.work else { continue };
        for (a, arg) in work.args().iter().enumerate() {
            match arg {
                Arg::Scratch(bytes) => {
                    scratch_of.insert((t, a), requests.len());
                    let name = work.name(a);
                    requests.push(Request {
                        name,
                        size_bytes: *bytes,
                        first_step: step,
                        last_step: step,
                        align_bytes: ALIGN_BYTES,
                        in_place_of: None,
                    });
                }
                Arg::Storage(id) if home_of(*id) == Home::Arena => {
                    if let Some(&r) = request_of.get(id) {
                        requests[r].last_step = step;
                        continue;
                    }
                    let value = root_of.get(id).copied();
                    let held = value.unwrap_or_else(|| homes.extras[id - n_roots].value);
                    let in_place_of = value
                        .and_then(|root| in_place::source(&graph, placements, &task.lowered, root))
                        .and_then(|v| request_of.get(&storage_id[&v]).copied());
                    request_of.insert(*id, requests.len());
                    requests.push(Request {
                        name: graph.name_of(held).to_owned(),
                        size_bytes: graph.ty(held).size_bytes().unwrap_or(0),
                        first_step: step,
                        last_step: step,
                        align_bytes: ALIGN_BYTES,
                        in_place_of,
                    });
                }
                Arg::Storage(_) | Arg::Constant(_) | Arg::Input(_) | Arg::Output(_) => {}
            }
        }
        step += 1;
    }
    let plan = plan_memory(&requests);
    let parameters = sizer.map_or_else(Vec::new, Sizer::parameters);
    let extents =
        |graph: &Graph, v: Value| sizer.filter(|s| s.bounds(v).iter().any(Option::is_some)).map_or_else(Vec::new, |s| s.extents(graph, v));
    let mut program = Program { workspace_bytes: plan.arena_bytes, workers, parameters, ..Program::default() };
    for (i, &v) in graph.inputs().iter().enumerate() {
        debug_assert!(homes.of[&v] == Home::Input(i) || sizer.is_some());
        program.inputs.push(IoBuffer {
            name: graph.name_of(v).to_owned(),
            bytes: graph.ty(v).size_bytes().unwrap_or(0),
            dims: extents(&graph, v),
        });
    }
    for (j, &v) in graph.outputs().iter().enumerate() {
        // The next value of a state is in the memory of the state.
        let is_state = states.iter().any(|s| s.output == j);
        let bytes = if is_state { 0 } else { graph.ty(v).size_bytes().unwrap_or(0) };
        program.outputs.push(IoBuffer { name: graph.output_names()[j].clone(), bytes, dims: extents(&graph, v) });
    }
    for s in states {
        program.add_state(s.input, s.output, s.initial.clone().map(|t| t.stored().into()));
    }
    let base_of = |id: usize| match home_of(id) {
        Home::Input(i) => Some(Place::Input(i, 0)),
        Home::Output(j) => Some(Place::Output(j, 0)),
        Home::Arena => request_of.get(&id).map(|&r| Place::Arena(plan.offsets[r])),
        Home::Constant => None,
    };
    let mut steps = vec![];
    let mut expressions = vec![];
    // The branches and loops with what is between them, up to step `done`.
    let mut flow: Vec<Flow> = vec![];
    let mut done = 0;
    for (t, task) in tasks.into_iter().enumerate() {
        let Some(work) = task.work else { continue };
        let mut args = vec![];
        for (a, arg) in work.args().iter().enumerate() {
            args.push(match arg {
                Arg::Scratch(_) => Place::Arena(plan.offsets[scratch_of[&(t, a)]]),
                Arg::Input(i) => Place::Input(*i, 0),
                Arg::Output(j) => Place::Output(*j, 0),
                Arg::Storage(id) => base_of(*id).unwrap_or(Place::Arena(0)),
                Arg::Constant(value) => {
                    let name = match &work {
                        Work::Kernel(s) => s.kernel.buffers[a].name.replace('.', "_"),
                        Work::Control(_) => "operand".to_owned(),
                    };
                    Place::Constant(program.constant(&name, value.clone()), 0)
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
        let values: Vec<PlacedValue> = task
            .lowered
            .results
            .iter()
            .filter_map(|&v| {
                let p = &placements.of[&v];
                Some(PlacedValue {
                    name: graph.name_of(v).to_owned(),
                    ty: graph.ty(v).clone(),
                    base: base_of(storage_id[&p.root])?,
                    offset: p.offset,
                    strides: p.strides.clone(),
                })
            })
            .collect();
        match work {
            Work::Kernel(scheduled) => {
                let label = nodes.last().cloned().unwrap_or_else(|| scheduled.kernel.name.clone());
                expressions.push((label.clone(), task.lowered.program));
                let kernel = threads::placed(&program, scheduled.kernel, &args);
                let kernel = program.kernel(kernel);
                program.steps.push(Step { label, kernel, args, sizes: scheduled.sizes });
                steps.push(StepInfo { nodes, values, inner: vec![] });
            }
            Work::Control(control) => {
                flow.extend(sequence(done..program.steps.len()));
                let mut parts = Parts { program: &mut program, steps: &mut steps, expressions: &mut expressions };
                let (part, bodies) = control.build(&args, &nodes, &mut parts);
                flow.push(part);
                done = program.steps.len();
                if let Some(last) = steps.last_mut() {
                    last.values.extend(values);
                }
                let node = task.nodes[0];
                let places = graph.node_mut(node).control_mut().into_iter().flat_map(|c| c.bodies_mut());
                places.zip(bodies).for_each(|(old, body)| *old = body);
            }
        }
    }
    if !flow.is_empty() {
        flow.extend(sequence(done..program.steps.len()));
    }
    program.flow = flow;
    let offset_of = |v: Value| Some(plan.offsets[*request_of.get(storage_id.get(&v)?)?]);
    write_places(&mut graph, placements, homes, &offset_of);
    graph.arena_bytes = Some(plan.arena_bytes);
    Ok(Compiled { graph, program, steps, expressions, lower_bound_bytes: plan.lower_bound_bytes })
}

/// Steps one after the other, if there are any.
fn sequence(steps: std::ops::Range<usize>) -> Option<Flow> {
    (!steps.is_empty()).then_some(Flow::Steps(steps))
}

fn write_places(graph: &mut Graph, placements: &Placements, homes: &Homes, offset_of: &dyn Fn(Value) -> Option<usize>) {
    let mut placed: Vec<(Value, graph::Place)> = vec![];
    for (&v, p) in placements.of.iter().collect::<std::collections::BTreeMap<_, _>>() {
        let place = if v != p.root {
            graph::Place::Within(p.root)
        } else {
            match homes.of[&v] {
                Home::Input(i) => graph::Place::Input(i),
                Home::Output(j) => graph::Place::Output(j),
                Home::Constant => graph::Place::Constant,
                Home::Arena => match offset_of(v) {
                    Some(at) => graph::Place::Arena(at..at + graph.ty(v).size_bytes().unwrap_or(0)),
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

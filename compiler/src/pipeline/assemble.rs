//! Scheduled kernels to a program: what lives where, and the memory plan.

use std::collections::HashMap;

use super::control::Parts;
use super::{Compiled, Home, PlacedValue, StepInfo, Task, Work, threads};
use crate::codegen::flow::Flow;
use crate::codegen::program::{IoBuffer, Place, Program, Step};
use crate::diagnostic::Diagnostic;
use crate::expr;
use crate::graph::{self, Graph, Value};
use crate::passes::assign_layouts::Placements;
use crate::passes::plan_memory::{Request, plan_memory};
use crate::schedule::Arg;

/// Alignment of everything in the arena.
const ALIGN_BYTES: usize = 64;

/// Plans the arena and builds the program.
pub(super) fn assemble(
    mut graph: Graph,
    placements: &Placements,
    homes: &HashMap<Value, Home>,
    tasks: Vec<Task>,
    storage_id: &HashMap<Value, usize>,
    n_roots: usize,
    workers: usize,
) -> Result<Compiled, Vec<Diagnostic>> {
    let root_of: HashMap<usize, Value> = storage_id.iter().map(|(&v, &id)| (id, v)).collect();
    let mut requests: Vec<Request> = vec![];
    let mut request_of: HashMap<Value, usize> = HashMap::new();
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
    let mut program = Program { workspace_bytes: plan.arena_bytes, workers, ..Program::default() };
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
    // The branches and loops with what is between them, up to step `done`.
    let mut flow: Vec<Flow> = vec![];
    let mut done = 0;
    for (t, task) in tasks.into_iter().enumerate() {
        let Some(work) = task.work else { continue };
        let mut args = vec![];
        for (a, arg) in work.args().iter().enumerate() {
            args.push(match arg {
                Arg::Scratch(_) => Place::Arena(plan.offsets[scratch_of[&(t, a)]]),
                Arg::Storage(id) if *id < n_roots => base_of(root_of[id]).unwrap_or(Place::Arena(0)),
                Arg::Storage(id) => Place::Output(id - n_roots, 0),
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
                    base: base_of(p.root)?,
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
                program.steps.push(Step { label, kernel, args });
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
    write_places(&mut graph, placements, homes, &request_of, &plan.offsets);
    graph.arena_bytes = Some(plan.arena_bytes);
    Ok(Compiled { graph, program, steps, expressions, lower_bound_bytes: plan.lower_bound_bytes })
}

/// Steps one after the other, if there are any.
fn sequence(steps: std::ops::Range<usize>) -> Option<Flow> {
    (!steps.is_empty()).then_some(Flow::Steps(steps))
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

//! Branches and loops: their bodies are compiled as programs of their own, and become parts of the program around them. A body's arena is
//! scratch of the branch or loop, its inputs and outputs are where operands and results are.

use std::collections::HashMap;

use super::dynamic::{Sizer, bound_copy};
use super::homes::copy_program;
use super::tuner::Tuner;
use super::{Compiled, PlacedValue, StepInfo, schedule_with, symbol, view_of_constant};
use crate::codegen::flow::{self, Flow, Trips};
use crate::codegen::program::{Place, Program, Step};
use crate::diagnostic::Diagnostic;
use crate::expr;
use crate::graph::{self, Graph, NodeId, Value};
use crate::passes::assign_layouts::Placements;
use crate::schedule::{Arg, Memory, Scheduled, Source, Storage};
use crate::tensor::{Size, Type, dense_strides};

/// Where values of the graph around lie.
pub(super) struct Layout<'a> {
    pub(super) placements: &'a Placements,
    pub(super) storage_id: &'a HashMap<Value, usize>,
}

/// What a program consists of while it is put together.
pub(super) struct Parts<'a> {
    pub(super) program: &'a mut Program,
    pub(super) steps: &'a mut Vec<StepInfo>,
    pub(super) expressions: &'a mut Vec<(String, expr::Program)>,
}

/// A branch or a loop while it is prepared.
pub(super) struct Control {
    /// Its first result.
    pub(super) name: String,
    /// What it needs in memory.
    pub(super) args: Vec<Arg>,
    kind: Kind,
    bodies: Vec<Compiled>,
    /// By operand: the argument and the bytes before it.
    operands: Vec<Option<(usize, usize)>>,
    /// By result: the argument.
    results: Vec<usize>,
    /// The argument that bodies have as their arena.
    arena: usize,
}

enum Kind {
    If,
    Loop(Repeat),
}

/// What a loop needs beside its body.
struct Repeat {
    n_states: usize,
    n_scanned: usize,
    conditional: bool,
    trips: Option<usize>,
    /// The number of iterations of one run, where the sizes decide it.
    sized: Option<Size>,
    /// Whether each scanned operand, then each scanned result goes backward.
    backward: Vec<bool>,
    /// Of the inputs and outputs of the body.
    input_bytes: Vec<usize>,
    output_bytes: Vec<usize>,
    /// The argument that holds the number of the iteration.
    counter: Option<usize>,
    /// The arguments that each state is in, in turn.
    places: Vec<[usize; 2]>,
    /// Copies of final states to where results are, with the arguments of their scratch.
    copies: Vec<Option<FinalCopy>>,
}

/// A kernel that copies a state; where the loop ends is not known before.
struct FinalCopy {
    scheduled: Scheduled,
    program: expr::Program,
}

impl Control {
    /// Compiles the bodies.
    pub(super) fn prepare(
        graph: &Graph,
        node: NodeId,
        layout: &Layout<'_>,
        tuner: &mut Tuner<'_>,
        workers: usize,
        finish: &dyn Fn(&mut Scheduled),
        sizer: Option<&Sizer<'_>>,
    ) -> Result<Control, Vec<Diagnostic>> {
        let info = graph.node(node);
        let control = info.control().expect("a branch or loop");
        let name = info.results.iter().find(|r| !r.name.is_empty()).map_or(control.name(), |r| &r.name).to_owned();
        let mut bodies = vec![];
        for (k, body) in control.bodies().into_iter().enumerate() {
            let probes = sizer.map(|s| s.body(node, k));
            bodies.push(schedule_with(body.clone(), probes.as_ref(), tuner, workers, &[], finish)?);
        }
        let mut args = vec![];
        let mut arg = |a: Arg| {
            args.push(a);
            args.len() - 1
        };
        let operands = graph.operands(node).into_iter().map(|v| {
            let v = v?;
            let p = &layout.placements.of[&v];
            Some(match graph.constant(p.root) {
                Some(constant) => (arg(Arg::Constant(view_of_constant(&constant.stored(), graph, v, p))), 0),
                None => {
                    let offset = p.offset as usize * graph.ty(v).dtype.size_bytes();
                    (arg(Arg::Storage(layout.storage_id[&p.root])), offset)
                }
            })
        });
        let operands: Vec<_> = operands.collect();
        let results: Vec<usize> = (0..info.results.len())
            .map(|i| match info.results[i].name.is_empty() {
                true => arg(Arg::Scratch(info.results[i].ty.size_bytes().unwrap_or(0))),
                false => arg(Arg::Storage(layout.storage_id[&Value { node, result: i as u32 }])),
            })
            .collect();
        let arena = arg(Arg::Scratch(bodies.iter().map(|b| b.program.workspace_bytes).max().unwrap_or(0)));
        let kind = match control {
            graph::Control::If(_) => Kind::If,
            graph::Control::Loop(l) => {
                let body = &l.body;
                let facts: Vec<_> = graph.operands(node).into_iter().map(|v| v.map(|v| graph.fact(v))).collect();
                let trips = l.trips(&facts).ok().flatten();
                let sized = sizer.map(|s| s.trips(graph, node)).transpose().map_err(|m| vec![m.diagnostic(graph, &[node], "")])?.flatten();
                let counter = (body.n_uses(body.inputs()[0]) > 0).then(|| arg(Arg::Scratch(8)));
                let (mut places, mut copies) = (vec![], vec![]);
                for (i, &result) in results[..l.n_states].iter().enumerate() {
                    let ty = &info.results[i].ty;
                    let other = arg(Arg::Scratch(ty.size_bytes().unwrap_or(0)));
                    // The place of the last iteration is that of the result, where the last iteration is known.
                    let (pair, copied) = match trips.filter(|&n| n > 0 && !l.conditional && sized.is_none()) {
                        Some(n) if n % 2 == 1 => ([result, other], false),
                        Some(_) => ([other, result], false),
                        None => ([result, other], !info.results[i].name.is_empty()),
                    };
                    places.push(pair);
                    let bounds = sizer.map_or(&[][..], |s| s.bounds(Value { node, result: i as u32 }));
                    copies.push(if copied { Some(FinalCopy::new(&info.results[i].name, ty, bounds, tuner, finish)?) } else { None });
                }
                let bytes = |list: &[Value]| list.iter().map(|&v| body.ty(v).size_bytes().unwrap_or(0)).collect();
                Kind::Loop(Repeat {
                    n_states: l.n_states,
                    n_scanned: l.n_scanned,
                    conditional: l.conditional,
                    trips,
                    sized,
                    backward: (0..l.n_scanned + l.n_scanned_results()).map(|i| l.is_backward(i)).collect(),
                    input_bytes: bytes(body.inputs()),
                    output_bytes: bytes(body.outputs()),
                    counter,
                    places,
                    copies,
                })
            }
        };
        Ok(Control { name, args, kind, bodies, operands, results, arena })
    }

    /// Adds the bodies to a program, in which the arguments are at these places: the part of its flow, and the graphs of the bodies.
    pub(super) fn build(self, args: &[Place], nodes: &[String], parts: &mut Parts<'_>) -> (Flow, Vec<Graph>) {
        let operands: Vec<Option<Place>> = self.operands.iter().map(|o| o.map(|(arg, offset)| args[arg].plus(offset))).collect();
        let results: Vec<Place> = self.results.iter().map(|&arg| args[arg]).collect();
        let arena = args[self.arena];
        let mut graphs = vec![];
        match self.kind {
            Kind::If => {
                let mut branches = self.bodies.into_iter().map(|body| {
                    graphs.push(body.graph.clone());
                    parts.add(body, &self.name, arena, &operands[1..], &results)
                });
                let branches = [branches.next().unwrap_or_default(), branches.next().unwrap_or_default()];
                let condition = operands[0].expect("a condition");
                (Flow::If(Box::new(flow::If { condition, branches })), graphs)
            }
            Kind::Loop(l) => {
                let mut pointer = || {
                    parts.program.n_pointers += 1;
                    parts.program.n_pointers - 1
                };
                let states: Vec<flow::State> = (0..l.n_states)
                    .map(|i| flow::State {
                        current: pointer(),
                        next: pointer(),
                        initial: operands[1 + i].expect("a state"),
                        places: l.places[i].map(|arg| args[arg]),
                        bytes: l.output_bytes[i],
                    })
                    .collect();
                let trips = l.trips.unwrap_or(0);
                let mut slice = |i: usize, base: Place, bytes: usize| flow::Slice {
                    pointer: pointer(),
                    first: if l.backward[i] { base.plus(trips.saturating_sub(1).saturating_mul(bytes)) } else { base },
                    stride_bytes: if l.backward[i] { -(bytes as i64) } else { bytes as i64 },
                    bytes,
                };
                let read = (0..l.n_scanned).map(|i| {
                    let at = 1 + l.n_states + i;
                    slice(i, operands[at].expect("a scanned operand"), l.input_bytes[at])
                });
                let mut slices: Vec<flow::Slice> = read.collect();
                for (i, &place) in results[l.n_states..].iter().enumerate() {
                    slices.push(slice(l.n_scanned + i, place, l.output_bytes[l.n_states + i]));
                }
                let counter = l.counter.map(|arg| args[arg]);
                let to_pointer = |n: usize| Some(Place::Pointer(n, 0));
                let mut inputs = vec![counter];
                inputs.extend(states.iter().map(|s| to_pointer(s.current)));
                inputs.extend(slices[..l.n_scanned].iter().map(|s| to_pointer(s.pointer)));
                inputs.extend(&operands[1 + l.n_states + l.n_scanned..]);
                let next = states.iter().map(|s| s.next).chain(slices[l.n_scanned..].iter().map(|s| s.pointer));
                let outputs: Vec<Place> = next.map(|n| Place::Pointer(n, 0)).collect();
                let mut body = vec![];
                for compiled in self.bodies {
                    graphs.push(compiled.graph.clone());
                    body = parts.add(compiled, &self.name, arena, &inputs, &outputs);
                }
                let first = parts.program.steps.len();
                for (i, copy) in l.copies.into_iter().enumerate() {
                    let Some(copy) = copy else { continue };
                    let place = |arg: &Arg| if *arg == Arg::Storage(0) { Place::Pointer(states[i].current, 0) } else { results[i] };
                    let places = copy.scheduled.args.iter().map(place).collect();
                    let kernel = parts.program.kernel(copy.scheduled.kernel);
                    let label = nodes.last().cloned().unwrap_or_default();
                    parts.program.steps.push(Step { label: label.clone(), kernel, args: places, sizes: copy.scheduled.sizes });
                    parts.steps.push(StepInfo { nodes: nodes.to_vec(), values: vec![], inner: vec![] });
                    parts.expressions.push((label, copy.program));
                }
                let exit = if first < parts.program.steps.len() { vec![Flow::Steps(first..parts.program.steps.len())] } else { vec![] };
                let trips = match (l.trips, l.sized, operands[0]) {
                    (Some(n), Some(size), _) => Trips::Sized(size, n as u64),
                    (Some(n), None, _) => Trips::Fixed(n as u64),
                    (None, _, Some(place)) => Trips::At(place),
                    (None, _, None) => Trips::Unbounded,
                };
                let condition = if l.conditional { to_pointer(states[0].current) } else { None };
                (Flow::Loop(Box::new(flow::Loop { trips, condition, counter, states, slices, body, exit })), graphs)
            }
        }
    }
}

impl FinalCopy {
    fn new(
        name: &str,
        ty: &Type,
        bounds: &[Option<Size>],
        tuner: &mut Tuner<'_>,
        finish: &dyn Fn(&mut Scheduled),
    ) -> Result<FinalCopy, Vec<Diagnostic>> {
        let dims = ty.dims().unwrap_or_default();
        let order: Vec<usize> = (0..dims.len()).collect();
        let memory = |id: usize, name: &str| Memory {
            storage: Storage { id, name: name.to_owned(), dtype: ty.dtype.storage(), len: dims.iter().product() },
            offset: 0,
            strides: dense_strides(&dims, &order),
        };
        let mut program = copy_program(name, ty);
        bound_copy(&mut program, bounds);
        let operands = vec![Source::Memory(memory(0, "state"))];
        let mut scheduled = tuner
            .schedule(&symbol(&format!("{name}_final")), &program, operands, vec![memory(1, "result")])
            .map_err(|e| vec![super::refuse_place(&format!("value \"{name}\""), "loop", &e.0)])?;
        finish(&mut scheduled);
        debug_assert!(scheduled.args.iter().all(|a| matches!(a, Arg::Storage(0 | 1))), "a copy needs no scratch");
        Ok(FinalCopy { scheduled, program })
    }
}

impl Parts<'_> {
    /// Adds a body whose arena, inputs and outputs are at these places.
    fn add(&mut self, body: Compiled, name: &str, arena: Place, inputs: &[Option<Place>], outputs: &[Place]) -> Vec<Flow> {
        let from = &body.program;
        let kernels: Vec<usize> = from.kernels.iter().map(|k| self.program.kernel(k.clone())).collect();
        let constants: Vec<usize> = from.constants.iter().map(|c| self.program.constant(&c.name, c.bytes.clone())).collect();
        let (n_pointers, n_steps) = (self.program.n_pointers, self.program.steps.len());
        self.program.n_pointers += from.n_pointers;
        let place = |p: Place| match p {
            Place::Arena(at) => arena.plus(at),
            Place::Input(i, at) => inputs[i].expect("an input that is read").plus(at),
            Place::Output(i, at) => outputs[i].plus(at),
            Place::Constant(i, at) => Place::Constant(constants[i], at),
            Place::Pointer(i, at) => Place::Pointer(n_pointers + i, at),
        };
        for step in &from.steps {
            let args = step.args.iter().copied().map(place).collect();
            self.program.steps.push(Step { label: step.label.clone(), kernel: kernels[step.kernel], args, sizes: step.sizes.clone() });
        }
        self.expressions.extend(body.expressions);
        for info in body.steps {
            let values = info.values.into_iter().chain(info.inner);
            let inner = values.map(|v| PlacedValue { base: place(v.base), name: format!("{name}/{}", v.name), ..v }).collect();
            self.steps.push(StepInfo { nodes: info.nodes, values: vec![], inner });
        }
        from.whole_flow().iter().map(|f| f.moved(&place, n_pointers, n_steps)).collect()
    }
}

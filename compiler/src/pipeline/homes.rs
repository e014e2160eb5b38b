//! Which memory each root lives in: the caller's inputs, outputs and state, constants, the arena; and the copies that outputs and states
//! need which cannot be computed where they are wanted.

use std::collections::{HashMap, HashSet};

use super::dynamic::Sizer;
use super::{Task, in_place};
use crate::expr::{self, Item, Ix, Node, Stage, TensorId};
use crate::graph::{Graph, Value};
use crate::lower::Lowered;
use crate::passes::assign_layouts::{Placements, is_row_major};
use crate::state::State;
use crate::tensor::{Size, Type};

/// Where a root lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    /// A caller's input; the next value of a state lives in the memory of the input too.
    Input(usize),
    /// A caller's output.
    Output(usize),
    /// Read-only data.
    Constant,
    /// The arena.
    Arena,
}

/// Memory that is no root's: a task copies a value into it.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    /// What it holds.
    pub(super) value: Value,
    /// For kernels and messages.
    pub(super) name: String,
    /// Where it is.
    pub(super) home: Home,
}

/// The copy that a task makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Copied {
    /// The extra that it reads; without one it reads the value's own memory.
    pub(super) from: Option<usize>,
    /// The extra that it writes.
    pub(super) to: usize,
}

/// Homes of all roots, and the memory beside them.
#[derive(Debug, Default)]
pub(super) struct Homes {
    /// By root.
    pub(super) of: HashMap<Value, Home>,
    /// What copies write.
    pub(super) extras: Vec<Extra>,
}

/// Decides homes, and adds the copies behind the tasks.
pub(super) fn settle(graph: &Graph, placements: &Placements, tasks: &mut Vec<Task>, states: &[State], sizer: Option<&Sizer<'_>>) -> Homes {
    let mut homes = Homes::default();
    let read = sizer.map_or_else(HashSet::new, |s| read_where_nothing_may_be(graph, placements, tasks, s));
    let as_stored = |v: Value| sizer.is_none_or(|s| s.is_prefix(graph, v) && (s.is_body() || !read.contains(&placements.of[&v].root)));
    for (i, &v) in graph.inputs().iter().enumerate().filter(|(_, v)| as_stored(**v)) {
        homes.of.insert(v, Home::Input(i));
    }
    for node in graph.order() {
        for v in graph.results(node) {
            if graph.node(node).constant().is_some() {
                homes.of.insert(v, Home::Constant);
            }
        }
    }
    for (j, &v) in graph.outputs().iter().enumerate().filter(|(j, _)| states.iter().all(|s| s.output != *j)) {
        match whole_root(graph, placements, v).filter(|_| as_stored(v)) {
            Some(root) if !homes.of.contains_key(&root) => {
                homes.of.insert(root, Home::Output(j));
            }
            _ => homes.copy(graph, tasks, v, &graph.output_names()[j], None, Home::Output(j)),
        }
    }
    homes.states(graph, placements, tasks, states);
    if let Some(sizer) = sizer {
        tasks.iter_mut().filter(|t| t.copied.is_some()).for_each(|t| sizer.annotate_copy(&mut t.lowered));
    }
    let mut roots: Vec<Value> = placements.of.values().map(|p| p.root).collect();
    roots.sort_unstable();
    for root in roots {
        homes.of.entry(root).or_insert(Home::Arena);
    }
    homes
}

impl Homes {
    /// Homes of the next values of states, and the copies of those that cannot be computed in place.
    fn states(&mut self, graph: &Graph, placements: &Placements, tasks: &mut Vec<Task>, states: &[State]) {
        let is_state = |v: Value| states.iter().any(|s| graph.inputs()[s.input] == v);
        let name = |s: &State| graph.output_names()[s.output].clone();
        // What is made of old values is saved before any new one is written.
        let mut saved: Vec<(&State, Option<usize>)> = vec![];
        for state in states {
            let v = graph.outputs()[state.output];
            let unchanged = whole_root(graph, placements, v) == Some(graph.inputs()[state.input]);
            if is_state(placements.of[&v].root) && !unchanged {
                self.copy(graph, tasks, v, &format!("{}.saved", name(state)), None, Home::Arena);
                saved.push((state, Some(self.extras.len() - 1)));
            } else if !unchanged {
                saved.push((state, None));
            }
        }
        // Every read of an old value is among the tasks now.
        let mut left = vec![];
        for (state, from) in saved {
            let (v, old) = (graph.outputs()[state.output], graph.inputs()[state.input]);
            match whole_root(graph, placements, v) {
                Some(root)
                    if from.is_none() && !self.of.contains_key(&root) && in_place::supersedes(graph, placements, tasks, old, root) =>
                {
                    self.of.insert(root, Home::Input(state.input));
                }
                _ => left.push((state, v, from)),
            }
        }
        for (state, v, from) in left {
            self.copy(graph, tasks, v, &name(state), from, Home::Input(state.input));
        }
    }

    /// Adds a task that copies a value.
    fn copy(&mut self, graph: &Graph, tasks: &mut Vec<Task>, value: Value, name: &str, from: Option<usize>, home: Home) {
        let copied = Copied { from, to: self.extras.len() };
        self.extras.push(Extra { value, name: name.to_owned(), home });
        let lowered = Lowered { program: copy_program(graph.name_of(value), graph.ty(value)), operands: vec![value], results: vec![] };
        tasks.push(Task { lowered, nodes: vec![], work: None, copied: Some(copied) });
    }
}

/// Roots of which a task may read an element though a run has none: what is computed by the sizes, or pads, reads a place and drops what
/// it finds there, which only storage has. What branches and loops read is not looked at.
fn read_where_nothing_may_be(graph: &Graph, placements: &Placements, tasks: &[Task], sizer: &Sizer<'_>) -> HashSet<Value> {
    let parameters = sizer.parameters();
    let may_be_nothing = |n: Option<&Size>| n.is_some_and(|n| n.range(&parameters).0 <= 0);
    let mut found = HashSet::new();
    for task in tasks {
        let Lowered { program, operands, .. } = &task.lowered;
        let roots = operands.iter().map(|v| placements.of[v].root);
        if matches!(task.nodes[..], [node] if graph.node(node).control().is_some()) {
            found.extend(roots.filter(|&root| sizer.bounds(root).iter().any(|n| may_be_nothing(n.as_ref()))));
            continue;
        }
        let mut read = HashSet::new();
        visit_loads(&program.items, &mut |stage, tensor, index, pad| {
            let dropped = |(k, ix): (usize, &Ix)| {
                let n = program.tensor(tensor).bound(k);
                may_be_nothing(n)
                    && match ix {
                        Ix::Affine(a) => pad && !n.is_some_and(|n| a.is_axis_of(&stage.bounds, n)),
                        Ix::Checked(_) => pad,
                        Ix::Clamped(_) => true,
                    }
            };
            if index.iter().enumerate().any(dropped) {
                read.insert(tensor);
            }
        });
        reshaped(&program.items, &mut read);
        found.extend(program.operands.iter().zip(roots).filter(|(t, _)| read.contains(t)).map(|(_, root)| root));
    }
    found.retain(|&root| sizer.bounds(root).iter().any(Option::is_some));
    found
}

fn visit_loads(items: &[Item], f: &mut impl FnMut(&Stage, TensorId, &[Ix], bool)) {
    for item in items {
        match item {
            Item::Stage(stage) => stage.expressions().into_iter().for_each(|e| {
                e.visit(&mut |e| {
                    if let Node::Load { tensor, index, pad } = e.node() {
                        f(stage, *tensor, index, pad.is_some());
                    }
                });
            }),
            Item::Repeat { items, .. } => visit_loads(items, f),
            Item::Reshape { .. } => {}
        }
    }
}

/// Adds what is in the memory of these tensors before it is taken for other shapes.
fn reshaped(items: &[Item], read: &mut HashSet<TensorId>) {
    for item in items.iter().rev() {
        match item {
            Item::Reshape { out, input } if read.contains(out) => {
                read.insert(*input);
            }
            Item::Repeat { items, .. } => reshaped(items, read),
            Item::Reshape { .. } | Item::Stage(_) => {}
        }
    }
}

/// The root of a value that is all of it, row-major.
fn whole_root(graph: &Graph, placements: &Placements, v: Value) -> Option<Value> {
    let p = placements.of.get(&v)?;
    let whole = p.offset == 0
        && is_row_major(&graph.ty(v).dims().unwrap_or_default(), &p.strides)
        && graph.ty(v).size_bytes() == graph.ty(p.root).size_bytes();
    whole.then_some(p.root)
}

/// A program that copies one value.
pub(super) fn copy_program(name: &str, ty: &Type) -> expr::Program {
    let mut b = expr::Builder::new();
    let dims = ty.dims().unwrap_or_default();
    let from = b.operand(name, ty.dtype, &dims);
    b.set_name(&format!("{name}.out"));
    let out = b.copy(from);
    b.finish(&[out])
}

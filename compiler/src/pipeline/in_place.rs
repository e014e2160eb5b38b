//! Which results may be written over which operands: those that each point reads just where it writes, and states of which no element
//! is read after its next value is written.

use std::ops::Range;

use super::Task;
use crate::expr::{Body, Expr, Item, Ix, Node, Stage, TensorId};
use crate::graph::{Graph, Value};
use crate::lower::{Lowered, visit_reads};
use crate::passes::assign_layouts::{Placement, Placements};

/// The root that a task's only result may overwrite: an operand that each point reads just where it writes.
pub(super) fn source(graph: &Graph, placements: &Placements, lowered: &Lowered, root: Value) -> Option<Value> {
    let [result] = lowered.results[..] else { return None };
    if placements.of[&result].root != root || result != root {
        return None;
    }
    (0..lowered.operands.len()).find_map(|i| {
        let v = lowered.operands[i];
        let p = &placements.of[&v];
        let shared = lowered.operands.iter().filter(|o| placements.of[o].root == p.root).count() > 1;
        let whole = graph.ty(p.root).size_bytes() == graph.ty(root).size_bytes();
        (!shared && whole && reads_where_it_writes(graph, placements, lowered, i, 0)).then_some(p.root)
    })
}

/// Whether the value `new` of a root may be written where that of the root `old` is: every element of `old` is read before, or just where,
/// its successor is written. The tasks are all that run, in order.
pub(super) fn supersedes(graph: &Graph, placements: &Placements, tasks: &[Task], old: Value, new: Value) -> bool {
    let mut written: Vec<Range<i64>> = vec![];
    for task in tasks {
        let lowered = &task.lowered;
        let within = |&(_, v): &(usize, Value), root: Value| placements.of[&v].root == root;
        let results: Vec<(usize, Value)> = lowered.results.iter().copied().enumerate().filter(|r| within(r, new)).collect();
        for (i, v) in lowered.operands.iter().copied().enumerate().filter(|o| within(o, old)) {
            let read = extent(graph, v, &placements.of[&v]);
            let lost = written.iter().any(|w| overlap(w, &read));
            let crossed = |&(r, result): &(usize, Value)| {
                let write = extent(graph, result, &placements.of[&result]);
                overlap(&write, &read) && !reads_where_it_writes(graph, placements, lowered, i, r)
            };
            if lost || results.iter().any(crossed) {
                return false;
            }
        }
        written.extend(results.iter().map(|(_, result)| extent(graph, *result, &placements.of[result])));
    }
    true
}

/// The elements of its root from a value's first to its last.
fn extent(graph: &Graph, v: Value, p: &Placement) -> Range<i64> {
    let dims = graph.ty(v).dims().unwrap_or_default();
    if dims.contains(&0) {
        return 0..0;
    }
    let reach = |sign: i64| dims.iter().zip(&p.strides).map(|(&d, &s)| (d as i64 - 1) * s).filter(|x| x * sign > 0).sum::<i64>();
    p.offset + reach(-1)..p.offset + reach(1) + 1
}

fn overlap(a: &Range<i64>, b: &Range<i64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

/// Whether a task loads its operand only to compute the element of the result that has the same place in memory, if both have one root.
fn reads_where_it_writes(graph: &Graph, placements: &Placements, lowered: &Lowered, operand: usize, result: usize) -> bool {
    let (v, r) = (lowered.operands[operand], lowered.results[result]);
    let (from, to) = (&placements.of[&v], &placements.of[&r]);
    let (dims, result_dims) = (graph.ty(v).dims(), graph.ty(r).dims());
    let Some(dims) = dims.filter(|d| Some(d) == result_dims.as_ref()) else { return false };
    let same_strides = dims.iter().zip(from.strides.iter().zip(&to.strides)).all(|(&d, (a, b))| d == 1 || a == b);
    if from.offset != to.offset || !same_strides || graph.ty(v).dtype.storage() != graph.ty(r).dtype.storage() {
        return false;
    }
    // A branch or loop has no program.
    let (Some(&tensor), Some(&out)) = (lowered.program.operands.get(operand), lowered.program.results.get(result)) else { return false };
    let mut reads = false;
    let ok = lowered.program.items.iter().all(|item| match item {
        Item::Stage(stage) => stage_reads_where_it_writes(stage, tensor, out, &mut reads),
        other => {
            let mut found = false;
            visit_reads(std::slice::from_ref(other), &mut |t| found |= t == tensor);
            !found
        }
    });
    ok && reads
}

fn stage_reads_where_it_writes(stage: &Stage, tensor: TensorId, out: TensorId, reads: &mut bool) -> bool {
    let (early, late) = match &stage.body {
        Body::Map(e) => (vec![], Some(e)),
        Body::Reduce { value, finish, .. } => (vec![value], Some(finish)),
        Body::Arg { .. } | Body::Scatter { .. } => (stage.expressions(), None),
    };
    let loads = |e: &Expr, see: &mut dyn FnMut(bool)| {
        e.visit(&mut |e| {
            if let Node::Load { tensor: t, index, pad } = e.node()
                && *t == tensor
            {
                see(pad.is_none() && index.iter().zip(&stage.write).all(|(ix, w)| matches!(ix, Ix::Affine(a) if a == w)));
            }
        });
    };
    let mut ok = true;
    for e in early {
        loads(e, &mut |_| ok = false);
    }
    if let Some(e) = late {
        loads(e, &mut |in_place| {
            *reads = true;
            ok &= in_place && stage.out == out;
        });
    }
    ok
}

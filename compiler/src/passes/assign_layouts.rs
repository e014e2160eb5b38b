//! Decides where values lie inside memory: the physical order of the axes of every value that a kernel gives, and which values
//! are views of others.
//!
//! Requires: groups, lowered. Ensures: every value that memory holds has a placement (root, offset, strides); placements of
//! one root have its element type. Keeps: types; the arena is planned later.
//!
//! Orders follow the expressions: a contraction with constant weights puts the axis that comes from the weights innermost
//! (images become channels-last), everything else follows what it reads. Operands of a concatenation are written into it.

use std::collections::{HashMap, HashSet};

use crate::expr::{Affine, Body, Expr, Item, Ix, Node, Program, Stage, TensorId, Var};
use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::lower::Lowered;
use crate::ops::View;
use crate::tensor::{DType, dense_strides, n_elements, reshape_strides};

/// Where a value lies: the element at `i` is the root's at `offset + sum(i * strides)`.
#[derive(Clone, PartialEq, Debug)]
pub struct Placement {
    /// The value that owns the memory.
    pub root: Value,
    /// First element.
    pub offset: i64,
    /// Strides in elements.
    pub strides: Vec<i64>,
}

/// The placements of a graph.
#[derive(Clone, Debug, Default)]
pub struct Placements {
    /// Of every value outside kernels.
    pub of: HashMap<Value, Placement>,
    /// Views that only a copy can give: each is a kernel of its own.
    pub copies: Vec<NodeId>,
    /// Values written into another one (operands of concatenations), with the group stage that is not needed then.
    pub within: HashMap<Value, Value>,
}

impl Placements {
    /// Whether a value's elements are dense and row-major from the start of its root.
    pub fn is_row_major(&self, graph: &Graph, v: Value) -> bool {
        let p = &self.of[&v];
        p.offset == 0 && is_row_major(&graph.ty(v).dims().unwrap_or_default(), &p.strides)
    }
}

/// Whether strides are those of a dense row-major value; strides of unit axes do not matter.
pub fn is_row_major(dims: &[usize], strides: &[i64]) -> bool {
    let mut expected = 1;
    for (&d, &s) in dims.iter().zip(strides).rev() {
        if d != 1 && s != expected {
            return false;
        }
        expected *= d as i64;
    }
    true
}

/// Assigns orders and placements; `groups` are the lowered groups in execution order. Stages that only copy an operand into
/// its place in a concatenation are removed from the programs.
///
/// Views in `copied` are no views of memory.
pub fn assign_layouts(graph: &mut Graph, groups: &mut [Lowered], copied: &HashSet<NodeId>) -> Placements {
    let mut made_by: HashMap<Value, usize> = HashMap::new();
    for (g, lowered) in groups.iter().enumerate() {
        for &v in &lowered.results {
            made_by.insert(v, g);
        }
    }
    let mut p = Placements::default();
    let mut nested: HashMap<Value, (Value, Vec<i64>)> = HashMap::new();
    choose_parents(graph, groups, &made_by, &mut nested);
    let order = graph.order();
    // Orders, in execution order; strides of what comes first guide what follows.
    for &node in &order {
        for v in graph.results(node) {
            if let Some(&g) = made_by.get(&v) {
                let axes = choose_order(graph, &groups[g], v, &p);
                place_root(graph, &mut p, v, &axes);
                graph.info_mut(v).layout = (axes != (0..axes.len()).collect::<Vec<_>>()).then_some(axes);
            } else if !matches!(graph.node(node).kind, NodeKind::Operator(_)) {
                let rank = graph.ty(v).rank();
                place_root(graph, &mut p, v, &(0..rank).collect::<Vec<_>>());
            }
        }
        place_views(graph, &mut p, node, copied);
    }
    // A second walk, now that the orders of concatenations are known: their operands take their strides.
    if !nested.is_empty() {
        let chosen = std::mem::take(&mut p.of);
        p.copies.clear();
        for &node in order.iter().rev() {
            for v in graph.results(node) {
                if made_by.contains_key(&v) {
                    let placement = match nested.get(&v) {
                        Some((parent, at)) => {
                            let parent = p.of[parent].clone();
                            let at = at.iter().zip(&parent.strides).map(|(i, s)| i * s).sum::<i64>();
                            let offset = if is_empty(graph, v) { parent.offset } else { parent.offset + at };
                            Placement { root: parent.root, offset, strides: parent.strides }
                        }
                        None => chosen[&v].clone(),
                    };
                    p.of.insert(v, placement);
                } else if !matches!(graph.node(node).kind, NodeKind::Operator(_)) {
                    p.of.insert(v, chosen[&v].clone());
                }
            }
        }
        for &node in &order {
            place_views(graph, &mut p, node, copied);
        }
    }
    p.within = nested.into_iter().map(|(v, (parent, _))| (v, parent)).collect();
    for lowered in groups.iter_mut() {
        let operands: HashMap<_, _> = lowered.program.operands.iter().copied().zip(lowered.operands.iter().copied()).collect();
        let results = lowered.results.clone();
        let mut items = std::mem::take(&mut lowered.program.items);
        items.retain(|item| {
            let Item::Stage(stage) = item else { return true };
            copied_operand(&lowered.program, stage)
                .and_then(|t| operands.get(&t))
                .is_none_or(|v| p.within.get(v).is_none_or(|parent| !results.contains(parent)))
        });
        lowered.program.items = items;
    }
    p
}

/// Whether a value has no elements: it is wherever it is said to be, if only inside of its root.
fn is_empty(graph: &Graph, v: Value) -> bool {
    graph.ty(v).dims().unwrap_or_default().contains(&0)
}

fn place_root(graph: &Graph, p: &mut Placements, v: Value, order: &[usize]) {
    let dims = graph.ty(v).dims().unwrap_or_default();
    p.of.insert(v, Placement { root: v, offset: 0, strides: dense_strides(&dims, order) });
}

/// Placements of the results of a view; where strides cannot express it, the node becomes a copy.
fn place_views(graph: &Graph, p: &mut Placements, node: NodeId, copied: &HashSet<NodeId>) {
    let Some(op) = graph.node(node).operator() else { return };
    if graph.node(node).group.is_some() {
        return;
    }
    let Some(views) = op.view(&graph.facts(node)) else { return };
    let Some(Some(source)) = graph.operands(node).first().copied() else { return };
    let Some(from) = p.of.get(&source).cloned() else { return };
    let source_dims = graph.ty(source).dims().unwrap_or_default();
    let to_body = graph.results(node).iter().any(|&v| read_by_body(graph, v)) && graph.constant(from.root).is_none();
    for v in graph.results(node) {
        let dims = graph.ty(v).dims().unwrap_or_default();
        let placement = match &views[v.result as usize] {
            View::Affine(index) => {
                let at = index.iter().zip(&from.strides).map(|(a, s)| a.constant * s).sum::<i64>();
                let offset = if is_empty(graph, v) { from.offset } else { from.offset + at };
                let strides =
                    (0..dims.len()).map(|axis| index.iter().zip(&from.strides).map(|(a, s)| a.coefficient(axis) * s).sum()).collect();
                Some(Placement { root: from.root, offset, strides })
            }
            View::Reshape => reshape_strides(&source_dims, &from.strides, &dims).map(|strides| Placement {
                root: from.root,
                offset: from.offset,
                strides,
            }),
        };
        // A view with zero extent, or one that reads a constant, is as good as any; bodies read dense values.
        match placement {
            Some(placement) if !copied.contains(&node) && (!to_body || is_row_major(&dims, &placement.strides)) => {
                p.of.insert(v, placement);
            }
            _ => {
                place_root(graph, p, v, &(0..dims.len()).collect::<Vec<_>>());
                if !p.copies.contains(&node) {
                    p.copies.push(node);
                }
            }
        }
    }
}

/// Whether a branch or loop reads a value.
fn read_by_body(graph: &Graph, v: Value) -> bool {
    graph.users(v).iter().any(|u| graph.node(u.0).control().is_some())
}

/// The physical order for a value that a group gives.
fn choose_order(graph: &Graph, lowered: &Lowered, v: Value, p: &Placements) -> Vec<usize> {
    let dims = graph.ty(v).dims().unwrap_or_default();
    let row_major: Vec<usize> = (0..dims.len()).collect();
    if graph.is_output(v) || read_by_body(graph, v) {
        return row_major;
    }
    let Some(position) = lowered.results.iter().position(|&r| r == v) else { return row_major };
    let out = lowered.program.results[position];
    let mut strides: HashMap<TensorId, Vec<i64>> = HashMap::new();
    for (tensor, &operand) in lowered.program.operands.iter().zip(&lowered.operands) {
        if graph.constant(operand).is_none()
            && let Some(placement) = p.of.get(&operand)
        {
            strides.insert(*tensor, placement.strides.clone());
        }
    }
    let Some(order) = order_of(&lowered.program.items, out, &dims, &mut strides) else { return row_major };
    wanted_by_view(graph, v).filter(|wanted| wanted.last() == order.last()).unwrap_or(order)
}

/// The physical order for `out`: that in which its stage reads, where axes that come only from constants do not move and are innermost.
/// Tensors on the way there get strides in the same way.
fn order_of(items: &[Item], out: TensorId, dims: &[usize], strides: &mut HashMap<TensorId, Vec<i64>>) -> Option<Vec<usize>> {
    for item in items {
        let stage = match item {
            Item::Stage(stage) => stage,
            Item::Repeat { items, .. } => {
                if let Some(order) = order_of(items, out, dims, strides) {
                    return Some(order);
                }
                continue;
            }
            Item::Reshape { .. } => continue,
        };
        let reach = reach(stage, strides);
        let order = (reach.iter().any(|&r| r > 0)).then(|| sorted(stage, &reach));
        if stage.out == out {
            return order.filter(|o| o.len() == dims.len());
        }
        let own = stage.write.len() == stage.axes.len();
        if let (true, Some(order)) = (own, order) {
            strides.insert(stage.out, dense_strides(&stage.axes, &order));
        }
    }
    None
}

/// How far each axis of a stage moves in what it reads.
fn reach(stage: &Stage, strides: &HashMap<TensorId, Vec<i64>>) -> Vec<i64> {
    let mut reach = vec![0i64; stage.axes.len()];
    let mut see = |x: &Expr| {
        if let Node::Load { tensor, index, .. } = x.node()
            && let Some(strides) = strides.get(tensor)
        {
            for (ix, stride) in index.iter().zip(strides) {
                if let Ix::Affine(a) = ix {
                    for (axis, r) in reach.iter_mut().enumerate() {
                        *r = (*r).max((a.coefficient(Var::Axis(axis as u32)) * stride).abs());
                    }
                }
            }
        }
    };
    match &stage.body {
        Body::Map(e) | Body::Arg { value: e, .. } | Body::Scatter { value: e, .. } => e.visit(&mut see),
        Body::Reduce { value, .. } => value.visit(&mut see),
    }
    reach
}

/// The axes of what a stage writes, by falling reach; those of extent 1 first. Axes that move in nothing are innermost in a
/// reduction, whose weights they come from; an element-wise stage leaves them in their places.
fn sorted(stage: &Stage, reach: &[i64]) -> Vec<usize> {
    let moves = |a: &Affine| a.terms.iter().filter_map(|t| if let Var::Axis(i) = t.0 { Some(reach[i as usize]) } else { None }).max();
    let unit = |a: &Affine| a.terms.iter().all(|t| matches!(t.0, Var::Axis(i) if stage.axes[i as usize] == 1));
    let stays = |axis: usize| matches!(stage.body, Body::Map(_)) && moves(&stage.write[axis]) == Some(0) && !unit(&stage.write[axis]);
    let mut order: Vec<usize> = (0..stage.write.len()).filter(|&axis| !stays(axis)).collect();
    order.sort_by_key(|&axis| match unit(&stage.write[axis]) {
        true => i64::MIN,
        false => moves(&stage.write[axis]).unwrap_or(i64::MAX).saturating_neg(),
    });
    for axis in (0..stage.write.len()).filter(|&axis| stays(axis)) {
        order.insert(axis, axis);
    }
    order
}

/// The order in which the only user, a transposing view, is row-major.
fn wanted_by_view(graph: &Graph, v: Value) -> Option<Vec<usize>> {
    let users = graph.users(v);
    let [(user, 0)] = users[..] else { return None };
    let node = graph.node(user);
    if node.group.is_some() {
        return None;
    }
    match &node.operator()?.view(&graph.facts(user))?[..] {
        [View::Affine(index)] => {
            // Axis `i` of `v` is the view's axis `to[i]`.
            let to: Vec<usize> = index
                .iter()
                .map(|a| if a.constant == 0 && a.terms.len() == 1 && a.terms[0].1 == 1 { Some(a.terms[0].0) } else { None })
                .collect::<Option<_>>()?;
            let mut order: Vec<usize> = (0..to.len()).collect();
            order.sort_by_key(|&i| to[i]);
            Some(order)
        }
        _ => None,
    }
}

/// The tensor that a stage merely copies, whole and place for place up to an offset.
fn copied_operand(program: &Program, stage: &Stage) -> Option<TensorId> {
    let Body::Map(value) = &stage.body else { return None };
    let Node::Load { tensor, index, pad: None } = value.node() else { return None };
    let identity = |a: &Affine, i: usize| a.terms == [(Var::Axis(i as u32), 1)] || (stage.axes[i] == 1 && a.terms.is_empty());
    let plain = index.len() == stage.axes.len()
        && index.iter().enumerate().all(|(i, ix)| matches!(ix, Ix::Affine(a) if a.constant == 0 && identity(a, i)));
    let offset = stage.write.len() == stage.axes.len() && stage.write.iter().enumerate().all(|(i, a)| identity(a, i));
    let whole = program.tensors[tensor.0 as usize].dims == stage.axes;
    (plain && offset && whole).then_some(*tensor)
}

/// Finds values that can be written straight into a concatenation: for each the concatenation and the place inside it.
fn choose_parents(graph: &Graph, groups: &[Lowered], made_by: &HashMap<Value, usize>, nested: &mut HashMap<Value, (Value, Vec<i64>)>) {
    for lowered in groups {
        let [result] = lowered.results[..] else { continue };
        let stages: Vec<&Stage> = lowered
            .program
            .items
            .iter()
            .filter_map(|item| match item {
                Item::Stage(s) => Some(s),
                _ => None,
            })
            .collect();
        if stages.len() != lowered.program.items.len()
            || stages.len() < 2
            || !stages.iter().all(|s| copied_operand(&lowered.program, s).is_some())
        {
            continue;
        }
        for stage in stages {
            let tensor = copied_operand(&lowered.program, stage).expect("checked above");
            let Some(position) = lowered.program.operands.iter().position(|&t| t == tensor) else { continue };
            let v = lowered.operands[position];
            let once = lowered.operands.iter().filter(|&&o| o == v).count() == 1
                && graph.users(v).iter().filter(|(user, _)| *user == result.node).count() == 1;
            let sole = made_by.get(&v).is_some_and(|&g| groups[g].results.len() == 1);
            if !once
                || !sole
                || graph.is_output(v)
                || read_by_body(graph, v)
                || nested.contains_key(&v)
                || graph.ty(v).dtype != graph.ty(result).dtype
            {
                continue;
            }
            nested.insert(v, (result, stage.write.iter().map(|a| a.constant).collect()));
        }
    }
}

/// Number of elements that a root's memory holds.
pub fn root_len(graph: &Graph, root: Value) -> usize {
    n_elements(&graph.ty(root).dims().unwrap_or_default())
}

/// Element type of a root.
pub fn root_dtype(graph: &Graph, root: Value) -> DType {
    graph.ty(root).dtype.storage()
}

//! Groups nodes so that intermediate values stay in registers.
//!
//! Requires: types with fixed extents. Ensures: every operator that is not a mere view has a group; a group's inner values are
//! used by one node, inside it; groups are numbered in execution order. Keeps: layouts unassigned.
//!
//! What may join is read off each operator's tensor expression, never off its name: an element-wise operator joins the
//! contraction, reduction or map that gives one of its operands place for place, and maps join the reductions that read them once.

use std::collections::HashMap;

use crate::expr::{BinaryOp, Body, Expr, Item, Ix, Node, Program, UnaryOp, Var};
use crate::graph::{Graph, NodeId, Value};
use crate::lower::lower_group;
use crate::ops::LowerError;
use crate::tensor::n_elements;

/// Operands that one group may have.
const MAX_OPERANDS: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// One element-wise stage.
    Map,
    /// Only reductions.
    Reduce,
    /// Reductions and maps.
    Stages,
    /// Anything else; nothing joins it.
    Other,
}

/// What one operator computes.
struct Shape {
    kind: Kind,
    contraction: bool,
    heavy: bool,
    program: Program,
    operands: Vec<Value>,
}

/// Assigns [`crate::graph::Node::group`].
///
/// # Errors
/// Every node that cannot be lowered, with the reason.
pub fn fuse(graph: &mut Graph) -> Result<(), Vec<(NodeId, LowerError)>> {
    let mut errors = vec![];
    let mut shapes: HashMap<NodeId, Shape> = HashMap::new();
    let order = graph.operator_nodes();
    for &node in &order {
        let op = graph.node(node).operator().expect("an operator node");
        if op.view(&graph.facts(node)).is_some() {
            continue;
        }
        match shape_of(graph, node) {
            Ok(shape) => {
                shapes.insert(node, shape);
            }
            Err(e) => errors.push(e),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut groups: Vec<Vec<NodeId>> = vec![];
    let mut kinds: Vec<(Kind, bool)> = vec![];
    let mut group_of: HashMap<NodeId, usize> = HashMap::new();
    for &node in &order {
        let Some(shape) = shapes.get(&node) else { continue };
        let mut joined: Option<usize> = None;
        if shape.kind == Kind::Map {
            let candidates =
                shape.operands.iter().filter(|&&v| reads_in_place(graph, shape, v)).filter_map(|&v| tail_group(graph, &group_of, v));
            joined = candidates
                .filter(|&g| kinds[g].0 != Kind::Other && n_operands(graph, &groups[g]) < MAX_OPERANDS)
                .max_by_key(|&g| (kinds[g].0 != Kind::Map, g));
        }
        let mut members = vec![];
        let mut kind = (shape.kind, shape.heavy);
        if let Some(g) = joined {
            members.append(&mut groups[g]);
            kind = (kinds[g].0, kinds[g].1 || shape.heavy);
        }
        for &v in &shape.operands {
            let Some(g) = tail_group(graph, &group_of, v) else { continue };
            if groups[g].is_empty() || kinds[g].0 != Kind::Map || n_operands(graph, &groups[g]) + members.len() > MAX_OPERANDS {
                continue;
            }
            let same_extents = graph.ty(v).shape == graph.ty(Value { node, result: 0 }).shape;
            let reads_once = match shape.kind {
                Kind::Map => same_extents && reads_in_place(graph, shape, v),
                Kind::Reduce if shape.contraction => groups[g].iter().all(|&m| {
                    graph.operands(m).into_iter().flatten().all(|o| graph.constant(o).is_some() || group_of.get(&o.node) == Some(&g))
                }),
                Kind::Reduce => points(&shape.program) <= 2 * n_elements(&graph.ty(v).dims().unwrap_or_default()),
                Kind::Stages => !kinds[g].1 && groups[g].len() <= 3,
                Kind::Other => false,
            };
            if reads_once {
                members.append(&mut groups[g]);
                kind.1 |= kinds[g].1;
            }
        }
        members.push(node);
        let g = groups.len();
        for &m in &members {
            group_of.insert(m, g);
        }
        groups.push(members);
        kinds.push(kind);
    }
    let position: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    groups.retain(|g| !g.is_empty());
    for g in &mut groups {
        g.sort_by_key(|n| position[n]);
    }
    groups.sort_by_key(|g| position[g.last().expect("groups are not empty")]);
    for (i, g) in groups.iter().enumerate() {
        for &n in g {
            graph.node_mut(n).group = Some(i as u32);
        }
    }
    Ok(())
}

/// The members of each group, in execution order.
pub fn groups(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut groups: Vec<Vec<NodeId>> = vec![];
    for node in graph.operator_nodes() {
        if let Some(g) = graph.node(node).group {
            let g = g as usize;
            if groups.len() <= g {
                groups.resize(g + 1, vec![]);
            }
            groups[g].push(node);
        }
    }
    groups
}

fn n_operands(graph: &Graph, members: &[NodeId]) -> usize {
    members.iter().map(|&m| graph.operands(m).len()).sum()
}

/// The group whose only outside value is `v`, if just one node uses `v`.
fn tail_group(graph: &Graph, group_of: &HashMap<NodeId, usize>, v: Value) -> Option<usize> {
    let g = *group_of.get(&v.node)?;
    let users = graph.users(v);
    let one_user = users.first().is_some_and(|first| users.iter().all(|u| u.0 == first.0));
    (one_user && !graph.is_output(v) && graph.results(v.node).len() == 1).then_some(g)
}

fn shape_of(graph: &Graph, node: NodeId) -> Result<Shape, (NodeId, LowerError)> {
    let lowered = lower_group(graph, &[node])?;
    let stages: Vec<_> = lowered
        .program
        .items
        .iter()
        .map(|item| match item {
            Item::Stage(s) => Some(s),
            _ => None,
        })
        .collect();
    let single = graph.results(node).len() == 1;
    let kind = match &stages[..] {
        _ if !single || stages.iter().any(Option::is_none) => Kind::Other,
        [Some(s)]
            if matches!(s.body, Body::Map(_))
                && s.write.iter().enumerate().all(|(i, a)| *a == crate::expr::Affine::var(Var::Axis(i as u32))) =>
        {
            Kind::Map
        }
        all if all.iter().flatten().all(|s| matches!(s.body, Body::Reduce { .. })) && !all.is_empty() => Kind::Reduce,
        all if all.iter().flatten().any(|s| matches!(s.body, Body::Reduce { .. }))
            && matches!(all.last(), Some(Some(s)) if matches!(s.body, Body::Map(_)) && s.out == lowered.program.results[0]) =>
        {
            Kind::Stages
        }
        _ => Kind::Other,
    };
    let contraction = stages.iter().flatten().any(|s| matches!(&s.body, Body::Reduce { value, .. } if matches!(value.node(), Node::Binary(BinaryOp::Mul, a, b) if is_load(a) && is_load(b))));
    let mut heavy = false;
    for s in stages.iter().flatten() {
        let mut see = |e: &Expr| {
            heavy |= matches!(e.node(), Node::Unary(op, _) if !matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round))
                || matches!(e.node(), Node::Binary(BinaryOp::Pow | BinaryOp::Div, ..));
        };
        match &s.body {
            Body::Map(e) | Body::Arg { value: e, .. } => e.visit(&mut see),
            Body::Reduce { value, .. } => value.visit(&mut see),
        }
    }
    Ok(Shape { kind, contraction, heavy, program: lowered.program, operands: lowered.operands })
}

fn is_load(e: &Expr) -> bool {
    matches!(e.node(), Node::Load { .. })
}

fn points(program: &Program) -> usize {
    program
        .items
        .iter()
        .map(|item| match item {
            Item::Stage(s) => n_elements(&s.axes) * n_elements(&s.reduce),
            _ => usize::MAX / 2,
        })
        .max()
        .unwrap_or(0)
}

/// Whether a map reads operand `v` only at the place it writes, and `v` has the result's extents.
fn reads_in_place(graph: &Graph, shape: &Shape, v: Value) -> bool {
    let [Item::Stage(stage)] = &shape.program.items[..] else { return false };
    let Body::Map(value) = &stage.body else { return false };
    let Some(position) = shape.operands.iter().position(|&o| o == v) else { return false };
    let tensor = shape.program.operands[position];
    if graph.ty(v).dims().as_ref() != Some(&stage.axes) {
        return false;
    }
    let mut in_place = true;
    value.visit(&mut |e| {
        if let Node::Load { tensor: t, index, pad } = e.node()
            && *t == tensor
        {
            in_place &= pad.is_none()
                && index.iter().enumerate().all(|(i, ix)| match ix {
                    Ix::Affine(a) => {
                        *a == crate::expr::Affine::var(Var::Axis(i as u32)) || (stage.axes[i] == 1 && *a == crate::expr::Affine::default())
                    }
                    _ => false,
                });
        }
    });
    in_place
}

//! Groups nodes so that intermediate values stay in registers.
//!
//! Requires: types with fixed extents. Ensures: every operator that is not a mere view has a group; a group's inner values are
//! used by one node, inside it; groups are numbered in execution order. Keeps: layouts unassigned.
//!
//! What may join is read off each operator's tensor expression, never off its name: an element-wise operator joins the
//! contraction, reduction or map that gives one of its operands place for place, and maps join the reductions that read them once.

use std::collections::HashMap;

use crate::expr::{
    BinaryOp, Body, Expr, Item, Ix, Node, Program, Stage, UnaryOp, Var, factors, is_contraction, nesting, plain_stages, sliding,
};
use crate::graph::{Graph, NodeId, Value};
use crate::lower::{Lowered, lower_group};
use crate::ops::LowerError;
use crate::tensor::{DType, n_elements};

/// Operands that one group may have.
const MAX_OPERANDS: usize = 24;
/// Elements that stay in the first-level cache between two stages, whatever their loops.
const SMALL: usize = 4096;
/// Weights that every block of rows may read again: those of more bytes would come from further than the second-level cache.
const WEIGHTS_AGAIN_BYTES: usize = 1 << 20;
/// What is between a product and a window that slides over it is not worth blocks where it has fewer bytes: it stays in the
/// second-level cache.
const LEAST_SLID_BYTES: usize = 1 << 20;
/// Channels of an image, about.
const FEW_CHANNELS: usize = 4;
/// Rows of a product that are worth a block of their own.
const LEAST_ROWS: usize = 14;

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

/// Assigns [`crate::graph::Node::group`]. Where some extents are `fixed` only for the largest sizes, windows do not join products.
///
/// # Errors
/// Every node that cannot be lowered, with the reason.
pub fn fuse(graph: &mut Graph, fixed: bool) -> Result<(), Vec<(NodeId, LowerError)>> {
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
    merge(graph, fixed, &mut groups, &position);
    groups.sort_by_key(|g| position[g.last().expect("groups are not empty")]);
    for (i, g) in groups.iter().enumerate() {
        for &n in g {
            graph.node_mut(n).group = Some(i as u32);
        }
    }
    Ok(())
}

/// Merges groups whose only reader is another group, where together they take fewer stages or share their loops.
fn merge(graph: &Graph, fixed: bool, groups: &mut Vec<Vec<NodeId>>, position: &HashMap<NodeId, usize>) {
    groups.sort_by_key(|g| position[g.last().expect("groups are not empty")]);
    let mut group_of: HashMap<NodeId, usize> = groups.iter().enumerate().flat_map(|(i, g)| g.iter().map(move |&n| (n, i))).collect();
    let mut shapes: HashMap<usize, Option<Shape>> = HashMap::new();
    for c in 0..groups.len() {
        while let Some((p, members)) = mergeable(graph, fixed, groups, &group_of, &mut shapes, position, c) {
            groups[p].clear();
            members.iter().for_each(|&n| {
                group_of.insert(n, c);
            });
            groups[c] = members;
            shapes.remove(&c);
        }
    }
    groups.retain(|g| !g.is_empty());
}

/// A group that may join group `c`, and the members of both.
fn mergeable(
    graph: &Graph,
    fixed: bool,
    groups: &[Vec<NodeId>],
    group_of: &HashMap<NodeId, usize>,
    shapes: &mut HashMap<usize, Option<Shape>>,
    position: &HashMap<NodeId, usize>,
    c: usize,
) -> Option<(usize, Vec<NodeId>)> {
    let inside = |n: NodeId, g: usize| group_of.get(&n) == Some(&g);
    let mut operands: Vec<Value> = groups[c].iter().flat_map(|&m| graph.operands(m)).flatten().filter(|v| !inside(v.node, c)).collect();
    operands.dedup();
    for v in operands {
        let Some(&p) = group_of.get(&v.node) else { continue };
        let leaves = |r: &Value| graph.is_output(*r) || graph.users(*r).iter().any(|u| !inside(u.0, p));
        let left: Vec<Value> = groups[p].iter().flat_map(|&m| graph.results(m)).filter(leaves).collect();
        if left != [v] || graph.is_output(v) || graph.users(v).iter().any(|u| !inside(u.0, c)) {
            continue;
        }
        if n_operands(graph, &groups[p]) + n_operands(graph, &groups[c]) > MAX_OPERANDS {
            continue;
        }
        for g in [p, c] {
            shapes.entry(g).or_insert_with(|| lower_group(graph, &groups[g]).ok().map(|l| shape_of_program(l, true)));
        }
        let (Some(Some(first)), Some(Some(second))) = (shapes.get(&p), shapes.get(&c)) else { continue };
        let joins = second.kind == Kind::Map && first.kind != Kind::Other && reads_in_place(graph, second, v);
        let scales = second.contraction && is_scaled_read(graph, first);
        let rows = |s: &Shape| matches!(s.kind, Kind::Map | Kind::Reduce | Kind::Stages);
        let reduces = |s: &Shape| matches!(s.kind, Kind::Reduce | Kind::Stages);
        let nests = rows(first) && rows(second) && (reduces(first) || reduces(second)) && (first.kind != Kind::Map || !second.contraction);
        let leads = first.kind == Kind::Map && second.kind == Kind::Reduce && second.contraction;
        let slid = fixed && first.contraction && first.kind == Kind::Reduce && second.kind == Kind::Reduce;
        if !joins && !scales && !nests && !leads && !slid {
            continue;
        }
        let mut members = [&groups[p][..], &groups[c][..]].concat();
        members.sort_by_key(|n| position[n]);
        let Ok(both) = lower_group(graph, &members) else { continue };
        let fewer = both.program.items.len() < first.program.items.len() + second.program.items.len();
        if (joins || scales) && fewer
            || nests && shares_loops(graph, &both)
            || leads && feeds_rows(graph, &both)
            || slid && slides(graph, &both)
        {
            return Some((p, members));
        }
    }
    None
}

/// Whether all stages run in the same loops, or what is between them is small; and no product in them has weights, which each block of
/// rows would read again.
fn shares_loops(graph: &Graph, lowered: &Lowered) -> bool {
    let program = &lowered.program;
    let Some(stages) = plain_stages(program) else { return false };
    let weights: Vec<_> = program.operands.iter().zip(&lowered.operands).filter(|o| views_constant(graph, *o.1)).map(|o| *o.0).collect();
    let constant = |e: &Expr| e.loaded().is_some_and(|t| weights.contains(&t));
    let products = stages.iter().all(|s| factors(s).is_none_or(|(x, y)| !constant(x) && !constant(y)));
    let small = || stages.iter().all(|s| program.results.contains(&s.out) || n_elements(&s.axes) <= SMALL);
    products && (nesting(program).is_some_and(|n| n.n_innermost() == stages.len()) || small())
}

/// Whether a map gives each row of a product with weights what only that row reads, so that a block of rows of the map stays in the
/// first-level cache until its products are done.
fn feeds_rows(graph: &Graph, lowered: &Lowered) -> bool {
    let program = &lowered.program;
    let Some([map, product]) = plain_stages(program).and_then(|s| <[&Stage; 2]>::try_from(s).ok()) else { return false };
    let (Body::Map(_), Some((x, y))) = (&map.body, factors(product)) else { return false };
    let is_weights = |e: &Expr| {
        let operand = program.operands.iter().position(|&t| e.loaded() == Some(t)).map(|i| lowered.operands[i]);
        operand.is_some_and(|v| {
            let ty = graph.ty(v);
            views_constant(graph, v) && n_elements(&ty.dims().unwrap_or_default()) * ty.dtype.size_bytes() <= WEIGHTS_AGAIN_BYTES
        })
    };
    let by_weights = |of: &Expr, weights: &Expr| of.loaded() == Some(map.out) && is_weights(weights);
    let Some(nesting) = nesting(program).filter(|n| n.n_innermost() == 2) else { return false };
    let of_row: usize = (0..map.axes.len()).filter(|a| !nesting.stages[0].axes.contains(a)).map(|a| map.axes[a]).product();
    (by_weights(x, y) || by_weights(y, x)) && of_row <= SMALL && nesting.loops.last().is_some_and(|&rows| rows >= LEAST_ROWS)
}

/// Whether a window slides over the rows of a product with weights, which would not stay in the second-level cache as a whole. Where that
/// product reads a window itself, functions of the results that take long hide what memory takes.
fn slides(graph: &Graph, lowered: &Lowered) -> bool {
    let program = &lowered.program;
    let Some(s) = sliding(program) else { return false };
    let is_weights = |e: &Expr| {
        let operand = program.operands.iter().position(|&t| e.loaded() == Some(t)).map(|i| lowered.operands[i]);
        operand.is_some_and(|v| views_constant(graph, v))
    };
    let between = program.tensor(s.first.out);
    let mut heavy = false;
    for e in [s.first, s.second].into_iter().flat_map(Stage::expressions) {
        e.visit(&mut |e| heavy |= matches!(e.node(), Node::Unary(op, _) if op.is_polynomial()));
    }
    factors(s.first).is_some_and(|(x, y)| is_weights(x) && is_narrow(s.first, y, heavy) || is_weights(y) && is_narrow(s.first, x, heavy))
        && between.dtype == DType::F32
        && n_elements(&between.dims) * between.dtype.size_bytes() >= LEAST_SLID_BYTES
}

/// Whether a product reads one place of each channel, or but a few channels: what has no faster form for all rows together.
fn is_narrow(product: &Stage, read: &Expr, heavy: bool) -> bool {
    let Node::Load { index, .. } = read.node() else { return false };
    let n = product.axes.len();
    let moves = |ix: &Ix, axis: usize| matches!(ix, Ix::Affine(a) if a.coefficient(Var::Axis(axis as u32)) != 0);
    let is_tap = |r: usize| index.iter().any(|ix| moves(ix, n + r) && (0..n).any(|a| product.axes[a] > 1 && moves(ix, a)));
    let (taps, channels): (Vec<usize>, Vec<usize>) = (0..product.reduce.len()).partition(|&r| is_tap(r));
    let extent = |axes: &[usize]| axes.iter().map(|&r| product.reduce[r]).product::<usize>();
    extent(&taps) == 1 || !heavy && extent(&channels) <= FEW_CHANNELS
}

/// Whether a value is a constant or a view of one.
fn views_constant(graph: &Graph, mut v: Value) -> bool {
    loop {
        if graph.constant(v).is_some() {
            return true;
        }
        let Some(op) = graph.node(v.node).operator() else { return false };
        match (op.view(&graph.facts(v.node)), graph.operands(v.node).first()) {
            (Some(_), Some(Some(source))) => v = *source,
            _ => return false,
        }
    }
}

/// Whether a group only multiplies its operand by a scalar constant, which can leave the sums that read it.
fn is_scaled_read(graph: &Graph, shape: &Shape) -> bool {
    let [Item::Stage(Stage { body: Body::Map(value), .. })] = &shape.program.items[..] else { return false };
    let Node::Binary(BinaryOp::Mul, a, b) = value.node() else { return false };
    let scalar = |e: &Expr| match e.node() {
        Node::Const(_) => true,
        Node::Load { tensor, .. } => {
            let operand = shape.program.operands.iter().position(|t| t == tensor).map(|i| shape.operands[i]);
            operand.is_some_and(|v| graph.constant(v).is_some_and(|c| c.len() == 1))
        }
        _ => false,
    };
    a.loaded().is_some() && scalar(b) || b.loaded().is_some() && scalar(a)
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
    let single = graph.results(node).len() == 1;
    Ok(shape_of_program(lower_group(graph, &[node])?, single))
}

fn shape_of_program(lowered: Lowered, single: bool) -> Shape {
    let stages: Vec<_> = lowered
        .program
        .items
        .iter()
        .map(|item| match item {
            Item::Stage(s) => Some(s),
            _ => None,
        })
        .collect();
    let kind = match &stages[..] {
        _ if !single || stages.iter().any(Option::is_none) => Kind::Other,
        [Some(s)] if matches!(s.body, Body::Map(_)) && s.writes_in_place() => Kind::Map,
        all if all.iter().flatten().all(|s| matches!(s.body, Body::Reduce { .. })) && !all.is_empty() => Kind::Reduce,
        all if all.iter().flatten().any(|s| matches!(s.body, Body::Reduce { .. }))
            && matches!(all.last(), Some(Some(s)) if matches!(s.body, Body::Map(_)) && s.out == lowered.program.results[0]) =>
        {
            Kind::Stages
        }
        _ => Kind::Other,
    };
    let contraction = stages.iter().flatten().any(|s| is_contraction(s));
    let mut heavy = false;
    for s in stages.iter().flatten() {
        let mut see = |e: &Expr| {
            heavy |= matches!(e.node(), Node::Unary(op, _) if !matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round))
                || matches!(e.node(), Node::Binary(BinaryOp::Pow | BinaryOp::Div, ..));
        };
        match &s.body {
            Body::Map(e) | Body::Arg { value: e, .. } | Body::Scatter { value: e, .. } => e.visit(&mut see),
            Body::Reduce { value, .. } => value.visit(&mut see),
        }
    }
    Shape { kind, contraction, heavy, program: lowered.program, operands: lowered.operands }
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

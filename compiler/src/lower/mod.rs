//! Groups of nodes to tensor expressions: each member's `lower`, then the stages of the group combined into as few as possible.

mod combine;
mod divide;
mod exponentials;

pub use combine::combine;
pub(crate) use combine::{sums_of_nothing, visit_reads, visit_writes};

use std::collections::HashMap;

use crate::expr::{self, Expr, Node, Program, TensorId};
use crate::graph::{Graph, NodeId, Value};
use crate::ops::{Args, LowerError};
use crate::tensor::Type;

/// A group's program and what its tensors are in the graph.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The program, combined and simplified.
    pub program: Program,
    /// The graph value of each of `program.operands`.
    pub operands: Vec<Value>,
    /// The graph value of each of `program.results`.
    pub results: Vec<Value>,
}

/// Lowers the nodes of one group, given in topological order.
///
/// # Errors
/// The node that cannot be lowered, and why.
pub fn lower_group(graph: &Graph, members: &[NodeId]) -> Result<Lowered, (NodeId, LowerError)> {
    let Lowered { mut program, mut operands, results } = lower_plainly(graph, members)?;
    combine(&mut program, &|t| {
        let at = program_operand(&operands, t);
        at.is_some_and(|v| graph.constant(v).is_some())
    });
    expr::simplify(&mut program);
    divide::divide_once(&mut program);
    exponentials::flush_exponentials(&mut program);
    prune_operands(&mut program, &mut operands);
    Ok(Lowered { program, operands, results })
}

/// As [`lower_group`], with the stages as the operators give them: not combined, and nothing chosen by how large they are.
///
/// # Errors
/// The node that cannot be lowered, and why.
pub(crate) fn lower_plainly(graph: &Graph, members: &[NodeId]) -> Result<Lowered, (NodeId, LowerError)> {
    let mut b = expr::Builder::new();
    (b.any_padding, b.any_size) = (graph.any_padding, graph.any_size);
    let mut tensors: HashMap<Value, TensorId> = HashMap::new();
    let mut operands = vec![];
    for &node in members {
        let info = graph.node(node);
        let facts = graph.facts(node);
        let results: Vec<Type> = info.results.iter().map(|r| r.ty.clone()).collect();
        let args: Vec<Option<TensorId>> = graph
            .operands(node)
            .into_iter()
            .map(|v| {
                v.map(|v| {
                    *tensors.entry(v).or_insert_with(|| {
                        operands.push(v);
                        let ty = graph.ty(v);
                        let t = b.operand(graph.name_of(v), ty.dtype, &ty.dims().unwrap_or_default());
                        graph.spread(v).into_iter().for_each(|s| b.note_spread(t, s));
                        t
                    })
                })
            })
            .collect();
        if let Some(open) = results.iter().find(|t| t.dims().is_none()) {
            return Err((node, LowerError::Unsupported(format!("the result type `{open}` has an unbound dimension"))));
        }
        b.set_name(&info.results.first().map_or_else(String::new, |r| r.name.clone()));
        b.note_results(graph.results(node).into_iter().map(|v| graph.spread(v).cloned()).collect());
        let op = info.operator().expect("groups hold operators");
        let out = op.lower(&mut b, &Args { facts: &facts, tensors: args, results: &results }).map_err(|e| (node, e))?;
        for v in graph.results(node) {
            graph.spread(v).into_iter().for_each(|s| b.note_spread(out[v.result as usize], s));
            tensors.insert(v, out[v.result as usize]);
        }
    }
    let outside = |v: Value| graph.is_output(v) || graph.users(v).iter().any(|(user, _)| !members.contains(user));
    let results: Vec<Value> = members.iter().flat_map(|&n| graph.results(n)).filter(|&v| outside(v)).collect();
    // A result is written, also where it is what was read: a view that keeps extents, of what does not lie densely.
    let is_operand = |t: TensorId| operands.iter().any(|o| tensors[o] == t);
    let ids: Vec<TensorId> = results.iter().map(|v| if is_operand(tensors[v]) { b.copy(tensors[v]) } else { tensors[v] }).collect();
    let mut program = b.finish(&ids);
    inline_scalars(graph, &mut program, &operands);
    Ok(Lowered { program, operands, results })
}

/// Makes literals of constants with one element.
fn inline_scalars(graph: &Graph, program: &mut Program, operands: &[Value]) {
    let mut literals: Vec<Option<Expr>> = vec![None; program.tensors.len()];
    for (t, &v) in program.operands.iter().zip(operands) {
        let value = graph.constant(v).filter(|c| c.len() == 1);
        literals[t.0 as usize] = value.and_then(|c| match c.dtype().is_float() {
            true => Some(Expr::constant(c.dtype(), c.to_f64s()[0])),
            false => i64::try_from(c.to_ints()[0]).ok().map(|x| Expr::int(c.dtype(), x)),
        });
    }
    if literals.iter().any(Option::is_some) {
        combine::rewrite_items(&mut program.items, &mut |e| match e.node() {
            Node::Load { tensor, pad: None, .. } => literals[tensor.0 as usize].clone().unwrap_or(e),
            _ => e,
        });
    }
}

fn program_operand(operands: &[Value], position: usize) -> Option<Value> {
    operands.get(position).copied()
}

/// Drops operands that nothing loads any more (those that were read when lowering).
pub(crate) fn prune_operands(program: &mut Program, operands: &mut Vec<Value>) {
    let mut used = vec![false; program.tensors.len()];
    combine::visit_reads(&program.items, &mut |t| used[t.0 as usize] = true);
    for r in &program.results {
        used[r.0 as usize] = true;
    }
    let keep: Vec<bool> = program.operands.iter().map(|t| used[t.0 as usize]).collect();
    let mut it = keep.iter();
    operands.retain(|_| *it.next().expect("one flag for each operand"));
    let mut it = keep.iter();
    program.operands.retain(|_| *it.next().expect("one flag for each operand"));
}

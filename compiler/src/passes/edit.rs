//! Small edits that rules are made of.

use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::ops::{self, Attribute, Attributes, Operator};
use crate::tensor::{Tensor, broadcast_offset, for_each_index};

/// What a rule did.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It does not match.
    No,
    /// It matches, but must not be applied.
    Declined(String),
    /// It was applied.
    Done,
}

/// Declines with a reason.
pub(super) fn declined(why: impl Into<String>) -> Outcome {
    Outcome::Declined(why.into())
}

/// The name of a node's operator, empty for inputs, constants and operators of other domains.
pub(super) fn kind(g: &Graph, node: NodeId) -> &'static str {
    g.node(node).operator().map(|op| op.schema()).filter(|s| s.domain.is_empty()).map_or("", |s| s.name)
}

/// The operator of this name in the default domain with these attributes.
///
/// # Panics
/// If there is none: rules name operators that exist, with attributes that they have.
pub(super) fn make(name: &str, attributes: &[(&str, Attribute)]) -> Box<dyn Operator> {
    let mut attributes = Attributes(attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect());
    let schema = ops::find(name).unwrap_or_else(|| panic!("a rule names the operator `{name}`"));
    (schema.build)(&mut attributes).unwrap_or_else(|e| panic!("a rule builds `{name}`: {e}"))
}

/// An attribute that differs from its default.
fn attribute(op: &dyn Operator, name: &str) -> Option<Attribute> {
    op.attributes().into_iter().find(|a| a.0 == name).map(|a| a.1)
}

/// An integer attribute, or its default.
pub(super) fn int(op: &dyn Operator, name: &str, default: i64) -> i64 {
    match attribute(op, name) {
        Some(Attribute::Int(v)) => v,
        _ => default,
    }
}

/// A list of integers, empty by default.
pub(super) fn ints(op: &dyn Operator, name: &str) -> Vec<i64> {
    match attribute(op, name) {
        Some(Attribute::Ints(v)) => v,
        _ => vec![],
    }
}

/// A floating-point attribute, or its default.
pub(super) fn float(op: &dyn Operator, name: &str, default: f32) -> f32 {
    match attribute(op, name) {
        Some(Attribute::Float(v)) => v,
        _ => default,
    }
}

/// A string attribute, empty where it is the default.
pub(super) fn text(op: &dyn Operator, name: &str) -> String {
    match attribute(op, name) {
        Some(Attribute::String(v)) => v,
        _ => String::new(),
    }
}

/// Whether a constant is another at other sizes.
pub(super) fn varies(g: &Graph, v: Value) -> bool {
    g.varied.contains(g.name_of(v))
}

/// Operand `i`, if present.
pub(super) fn operand(g: &Graph, node: NodeId, i: usize) -> Option<Value> {
    g.operands(node).get(i).copied().flatten()
}

/// The only result of a node; `None` if further ones are used.
pub(super) fn only_result(g: &Graph, node: NodeId) -> Option<Value> {
    let first = Value { node, result: 0 };
    g.results(node).iter().all(|&v| v == first || g.n_uses(v) == 0).then_some(first)
}

/// Whether the node is of this kind, and the value it gives is used once.
pub(super) fn is_sole(g: &Graph, v: Value, kinds: &[&str]) -> bool {
    kinds.contains(&kind(g, v.node)) && g.n_uses(v) == 1
}

/// The value of a constant whose elements are all the same; `None` if empty.
pub(super) fn splat(t: &Tensor) -> Option<f64> {
    let size = t.dtype().size_bytes();
    let (first, rest) = t.bytes().split_at_checked(size)?;
    rest.chunks(size).all(|c| c == first).then(|| t.reshape(&[t.len()]).gather(&[1], |_| Some(0)).to_f64s()[0])
}

/// The value of the constant operand `i` if its elements are all the same.
pub(super) fn splat_operand(g: &Graph, node: NodeId, i: usize) -> Option<f64> {
    let v = operand(g, node, i)?;
    splat(g.constant(v).filter(|_| !varies(g, v))?)
}

/// Elements of a constant, broadcast to `dims`.
pub(super) fn broadcast(t: &Tensor, dims: &[usize]) -> Vec<f64> {
    let values = t.to_f64s();
    let mut out = Vec::new();
    for_each_index(dims, |_, at| out.push(values[broadcast_offset(t.dims(), at)]));
    out
}

/// Removes a node that nothing uses, and then what only it used. Inputs stay.
pub(super) fn remove_dead(g: &mut Graph, node: NodeId) {
    let mut stack = vec![node];
    while let Some(node) = stack.pop() {
        if !g.contains(node) || matches!(g.node(node).kind, NodeKind::Input) {
            continue;
        }
        if g.results(node).iter().any(|&v| g.n_uses(v) > 0) {
            continue;
        }
        let operands = g.operands(node);
        g.remove(node);
        stack.extend(operands.into_iter().flatten().map(|v| v.node));
    }
}

/// Why `old` cannot be replaced by `new`, a value that existed before: an output must not become an input, a constant or another output.
pub(super) fn cannot_alias(g: &Graph, old: Value, new: Value) -> Option<String> {
    if !g.is_output(old) {
        return None;
    }
    match &g.node(new.node).kind {
        NodeKind::Input => Some("an output would be an input".to_owned()),
        NodeKind::Constant(_) => Some("an output would be a constant".to_owned()),
        NodeKind::Operator(_) | NodeKind::Control(_) if g.is_output(new) => Some("an output would be another output".to_owned()),
        NodeKind::Operator(_) | NodeKind::Control(_) => None,
    }
}

/// Makes all users of `old` use `new`, of the same type, and removes what is dead then.
pub(super) fn alias(g: &mut Graph, old: Value, new: Value) -> Outcome {
    if g.ty(old) != g.ty(new) {
        return declined(format!("the type would change from {} to {}", g.ty(old), g.ty(new)));
    }
    if let Some(why) = cannot_alias(g, old, new) {
        return declined(why);
    }
    g.replace_uses(old, new);
    remove_dead(g, old.node);
    Outcome::Done
}

/// Replaces the node that gives `old`, its only used result, by an operator; the result keeps name and type.
pub(super) fn replace(g: &mut Graph, old: Value, op: Box<dyn Operator>, operands: &[Option<Value>]) -> Outcome {
    let (name, label) = (g.name_of(old).to_owned(), g.node(old.node).label.clone());
    let node = match g.add_node(op, operands, std::slice::from_ref(&name), &label) {
        Ok(node) => node,
        Err(e) => return declined(e.to_string()),
    };
    let new = Value { node, result: 0 };
    if g.ty(old) != g.ty(new) {
        let why = format!("the type would change from {} to {}", g.ty(old), g.ty(new));
        g.remove(node);
        return declined(why);
    }
    g.replace_uses(old, new);
    remove_dead(g, old.node);
    if !g.contains(old.node) {
        g.rename(new, &name);
    }
    Outcome::Done
}

/// Adds an operator in front of others, its result named after `base`.
pub(super) fn insert(g: &mut Graph, op: Box<dyn Operator>, operands: &[Option<Value>], name: &str, label: &str) -> Option<Value> {
    let node = g.add_node(op, operands, &[name.to_owned()], label).ok()?;
    Some(Value { node, result: 0 })
}

/// Gives operand `i` of `node` another constant, named after the one it was; an unshared old one is removed and leaves its name.
pub(super) fn set_constant(g: &mut Graph, node: NodeId, i: usize, name: &str, tensor: Tensor) {
    let old = operand(g, node, i);
    let new = g.add_constant(name, tensor);
    g.set_operand(node, i, Some(new));
    if let Some(old) = old {
        remove_dead(g, old.node);
        if !g.contains(old.node) {
            g.rename(new, name);
        }
    }
}

/// The name of operand `i`, or one derived from the result's where it is absent.
pub(super) fn operand_name(g: &Graph, node: NodeId, i: usize, suffix: &str) -> String {
    match operand(g, node, i) {
        Some(v) => g.name_of(v).to_owned(),
        None => format!("{}.{suffix}", g.name_of(Value { node, result: 0 })),
    }
}

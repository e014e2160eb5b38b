//! Removes nodes that nothing uses, and merges nodes and constants that are equal.
//!
//! Requires: types. Ensures: every node leads to an output; no two nodes have the same operator, attributes and operands, and no two
//! constants the same contents, unless outputs need both. Keeps: values, bit for bit.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Report;
use super::edit::{cannot_alias, remove_dead};
use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::tensor::Tensor;

const PASS: &str = "eliminate";

/// Removes what is dead and merges what is equal.
pub fn eliminate(g: &mut Graph, report: &mut Report) {
    dead_code(g, report);
    let mut seen: HashMap<u64, Vec<NodeId>> = HashMap::new();
    // In topological order, operands are merged before their users are compared.
    for node in g.order() {
        let key = match &g.node(node).kind {
            NodeKind::Input | NodeKind::Control(_) => continue,
            NodeKind::Constant(t) => constant_key(t),
            NodeKind::Operator(op) => hash(&(op.schema().domain, op.schema().name, format!("{:?}", op.attributes()), g.operands(node))),
        };
        let name = g.node(node).results.first().map_or("", |r| &r.name);
        let may_merge = g.merged.as_ref().is_none_or(|names| names.contains(name));
        let equals = seen.entry(key).or_default();
        match equals.iter().find(|&&other| may_merge && equal(g, node, other)) {
            Some(&other) => merge(g, node, other, report),
            None => equals.push(node),
        }
    }
}

/// Removes every node that leads to no output.
pub fn dead_code(g: &mut Graph, report: &mut Report) {
    for node in g.order().into_iter().rev() {
        if !matches!(g.node(node).kind, NodeKind::Input) && g.results(node).iter().all(|&v| g.n_uses(v) == 0) {
            if g.node(node).operator().is_some() {
                let name = g.node(node).results.iter().find(|r| !r.name.is_empty()).map_or(String::new(), |r| r.name.clone());
                report.applied(PASS, "dead-code", &name);
            }
            g.remove(node);
        }
    }
}

fn equal(g: &Graph, a: NodeId, b: NodeId) -> bool {
    match (&g.node(a).kind, &g.node(b).kind) {
        (NodeKind::Constant(a), NodeKind::Constant(b)) => a == b,
        (NodeKind::Operator(p), NodeKind::Operator(q)) => {
            std::ptr::eq(p.schema(), q.schema())
                && p.attributes() == q.attributes()
                && g.operands(a) == g.operands(b)
                && g.node(a).results.len() == g.node(b).results.len()
                // A result that one of them does not name cannot be handed on.
                && g.node(a).results.iter().zip(&g.node(b).results).all(|(x, y)| x.ty == y.ty && x.name.is_empty() == y.name.is_empty())
        }
        _ => false,
    }
}

fn merge(g: &mut Graph, node: NodeId, into: NodeId, report: &mut Report) {
    let values = g.results(node);
    let rule = if g.node(node).operator().is_some() { "equal-nodes" } else { "equal-constants" };
    let name = values.first().map_or(String::new(), |&v| g.name_of(v).to_owned());
    if let Some(why) = values.iter().find_map(|&v| cannot_alias(g, v, Value { node: into, result: v.result })) {
        report.declined(rule, &name, why);
        return;
    }
    for v in values {
        g.replace_uses(v, Value { node: into, result: v.result });
    }
    remove_dead(g, node);
    report.applied(PASS, rule, &name);
}

fn hash(x: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    x.hash(&mut hasher);
    hasher.finish()
}

/// Of type and a sample of the bytes: equal keys are compared in full.
fn constant_key(t: &Tensor) -> u64 {
    let bytes = t.bytes();
    let step = (bytes.len() / 1024).max(1);
    let sample: Vec<u8> = bytes.iter().step_by(step).copied().collect();
    hash(&(t.dtype(), t.dims(), sample))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::exact;

    #[test]
    fn only_what_may_is_merged() {
        let text = "graph @g(%x: f32[2]) -> (%y) {
            %a = Relu(%x)
            %b = Relu(%x)
            %c = Relu(%x)
            %s = Add(%a, %b)
            %y = Add(%s, %c)
        }";
        let mut g = crate::graph::parse(text).unwrap();
        g.merged = Some(std::sync::Arc::new(["c".to_owned()].into()));
        eliminate(&mut g, &mut Report::default());
        let text = g.to_string();
        assert!(text.contains("Add(%a, %b)") && text.contains("Add(%s, %a)"), "{text}");
    }

    #[test]
    fn what_leads_nowhere_goes_and_equal_nodes_are_one() {
        let text = "graph @g(%x: f32[2,3], %unused: f32[4]) -> (%y) {
            @a = const rand(1) : f32[2,3]
            @b = const rand(1) : f32[2,3]
            @c = const rand(2) : f32[2,3]
            %dead = Add(%x, @c)
            %deader = Add(%dead, @c)
            %p = Add(%x, @a)
            %q = Add(%x, @b)
            %y = Add(%p, %q)
        }";
        let (after, report) = exact(eliminate, text);
        assert!(
            after.contains("%y = Add(%p, %p)") && !after.contains("dead") && !after.contains("@c") && after.contains("%unused"),
            "{after}"
        );
        assert_eq!(
            report.trace(),
            "eliminate: dead-code %deader\neliminate: dead-code %dead\neliminate: equal-constants %b\neliminate: equal-nodes %q\n"
        );
    }

    #[test]
    fn attributes_and_types_make_a_difference() {
        let text = "graph @g(%x: f32[3,3]) -> (%y) {
            @a = const splat(0) : f32[3,3]
            @b = const splat(0) : f32[1,3]
            %p = Transpose(%x) perm=[0,1]
            %q = Transpose(%x) perm=[1,0]
            %r = Add(%p, @a)
            %s = Add(%q, @b)
            %y = Add(%r, %s)
        }";
        let (after, report) = exact(eliminate, text);
        assert!(report.applied.is_empty(), "{after}");
    }

    #[test]
    fn two_outputs_stay_two_values() {
        let text = "graph @g(%x: f32[3]) -> (%y, %z) {
            %y = Add(%x, %x)
            %z = Add(%x, %x)
        }";
        let (_, report) = exact(eliminate, text);
        assert_eq!(report.reasons("equal-nodes"), ["an output would be another output"]);
    }
}

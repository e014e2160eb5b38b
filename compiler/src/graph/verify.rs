//! Checks a graph: its structure, and that inference over it gives the types it has. Finds every problem, not just the first.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::{Graph, NodeId, NodeKind, Place, ResultInfo, print};
use crate::tensor::Type;

/// A broken rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    /// Where, if it is one node's.
    pub node: Option<NodeId>,
    /// Its line of text.
    pub line: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.line.is_empty() { Ok(()) } else { write!(f, ": {}", self.line) }
    }
}

/// Checks the graph.
///
/// # Errors
/// Every broken rule, in execution order.
pub fn verify(graph: &Graph) -> Result<(), Vec<Problem>> {
    let mut problems = vec![];
    let order = graph.order();
    if order.len() != graph.n_nodes() {
        problems.push(Problem { node: None, line: String::new(), message: "the graph has a cycle".to_owned() });
    }
    let mut names = HashMap::new();
    for &node in &order {
        let mut report = |message: String| problems.push(Problem { node: Some(node), line: print::line(graph, node), message });
        for v in graph.results(node) {
            let name = graph.name_of(v);
            if let Some(other) = names.insert(name.to_owned(), v) {
                report(format!("`{name}` is also a result of `{}`", print::line(graph, other.node)));
            } else if graph.find(name) != Some(v) {
                report(format!("`{name}` is not found by its name"));
            }
        }
        check_node(graph, node, &mut report);
    }
    check_interface(graph, &order, &mut problems);
    check_groups(graph, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn check_node(graph: &Graph, node: NodeId, report: &mut dyn FnMut(String)) {
    let n = graph.node(node);
    let operands = graph.operands(node);
    for v in operands.iter().flatten() {
        match graph.node(v.node).results.get(v.result as usize) {
            None => return report(format!("operand {} of `{}` does not exist", v.result, graph.node(v.node).label)),
            Some(info) if info.name.is_empty() => report("an unused result is used".to_owned()),
            Some(_) => {}
        }
    }
    for info in &n.results {
        if let Some(layout) = &info.layout
            && ((0..info.ty.rank()).any(|axis| !layout.contains(&axis)) || layout.len() != info.ty.rank())
        {
            report(format!("layout {layout:?} is no order of the axes of `{}`", info.ty));
        }
        if let Some(Place::Within(v)) = &info.place
            && !(graph.contains(v.node) && graph.node(v.node).results.len() > v.result as usize)
        {
            report("its place is within a value that does not exist".to_owned());
        }
    }
    let op = match &n.kind {
        NodeKind::Operator(op) => op,
        NodeKind::Input | NodeKind::Constant(_) => {
            if !operands.is_empty() || n.results.len() != 1 {
                report("an input or constant has no operands and one result".to_owned());
            } else if let Some(t) = n.constant()
                && t.ty() != n.results[0].ty
            {
                report(format!("the constant is of type `{}`", t.ty()));
            }
            return;
        }
        NodeKind::Control(control) => {
            for body in control.bodies() {
                for problem in verify(body).err().unwrap_or_default() {
                    report(format!("in body `{}`: {problem}", body.name));
                }
            }
            let facts: Vec<_> = operands.iter().map(|v| v.map(|v| graph.fact(v))).collect();
            match control.infer(&facts) {
                Err(e) => report(format!("it has no type: {e}")),
                Ok(types) => check_types(&n.results, &types, report),
            }
            return;
        }
    };
    let schema = op.schema();
    let (least, greatest) = schema.arity();
    if !(least..=greatest).contains(&operands.len()) || operands.iter().enumerate().any(|(i, v)| v.is_none() && schema.is_required(i)) {
        return report(format!("`{}` wants {least} operands at least", schema.name));
    }
    if n.results.len() > schema.max_results() {
        return report(format!("`{}` has {} results at most", schema.name, schema.max_results()));
    }
    match op.infer(&graph.facts(node)) {
        Err(e) => report(format!("it has no type: {e}")),
        Ok(types) => check_types(&n.results, &types, report),
    }
}

/// Results must be of the types that were inferred.
fn check_types(results: &[ResultInfo], types: &[Type], report: &mut dyn FnMut(String)) {
    if types.len() < results.len() {
        return report(format!("it gives {} results", types.len()));
    }
    for (info, ty) in results.iter().zip(types).filter(|(info, ty)| info.ty != **ty && !info.name.is_empty()) {
        report(format!("`{}` is of type `{ty}`, not `{}`", info.name, info.ty));
    }
}

fn check_interface(graph: &Graph, order: &[NodeId], problems: &mut Vec<Problem>) {
    let mut report = |message: String| problems.push(Problem { node: None, line: String::new(), message });
    for &node in order {
        let listed = graph.inputs().iter().filter(|v| v.node == node).count();
        let is_input = matches!(graph.node(node).kind, NodeKind::Input);
        if listed != usize::from(is_input) {
            report(format!("`{}` is listed {listed} times among the inputs", print::line(graph, node)));
        }
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (&v, name) in graph.outputs().iter().zip(graph.output_names()) {
        if !graph.contains(v.node) || graph.node(v.node).results.get(v.result as usize).is_none_or(|r| r.name.is_empty()) {
            report(format!("output `{name}` does not exist"));
        }
        *names.entry(name).or_default() += 1;
    }
    for (name, _) in names.into_iter().filter(|(_, n)| *n > 1) {
        report(format!("two outputs are named `{name}`"));
    }
}

/// Members of a group must be able to run together.
fn check_groups(graph: &Graph, problems: &mut Vec<Problem>) {
    let mut closed = vec![];
    let mut current = None;
    for node in graph.grouped_order() {
        let group = graph.node(node).group;
        if group != current {
            closed.extend(current);
            current = group;
            if group.is_some_and(|g| closed.contains(&g)) {
                let message = format!("group {} waits for itself", group.unwrap_or_default());
                problems.push(Problem { node: Some(node), line: print::line(graph, node), message });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    fn problems(text: &str) -> String {
        let graph = parse(text).unwrap();
        verify(&graph).err().unwrap_or_default().iter().map(|p| format!("{}\n", p.message)).collect()
    }

    #[test]
    fn types_must_be_the_inferred_ones() {
        let text = "graph @g(%x: f32[2,3]) -> (%y, %z) {
          %y = Softmax(%x) : f32[2,4]
          %z = Softmax(%x) axis=7 : f32[2,3]
        }";
        assert_eq!(problems(text), "`y` is of type `f32[2,3]`, not `f32[2,4]`\nit has no type: axis 7 of a value of rank 2\n");
    }

    #[test]
    fn a_sound_graph_has_no_problems() {
        assert_eq!(problems("graph @g(%x: f32[N,3]) -> (%y) {\n  %y = Softmax(%x)\n}"), "");
    }

    #[test]
    fn output_names_are_unique() {
        assert_eq!(problems("graph @g(%x: f32[1]) -> (%x, %x) {}"), "two outputs are named `x`\n");
    }

    #[test]
    fn groups_run_at_once() {
        let text = "graph @g(%x: f32[2]) -> (%c) {
          fuse { %a = Softmax(%x) }
          %b = Softmax(%a)
          fuse { %c = Add(%a, %b) }
        }";
        let mut graph = parse(text).unwrap();
        assert_eq!(verify(&graph), Ok(()));
        let c = graph.find("c").unwrap().node;
        graph.node_mut(c).group = Some(0);
        assert_eq!(verify(&graph).unwrap_err()[0].message, "group 0 waits for itself");
    }
}

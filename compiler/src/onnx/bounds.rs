//! Between which numbers the elements of values are: of constants, of small element types, as the user says of inputs, and of what operators
//! make of these.

use super::model::Importer;
use super::scope::Known;
use crate::graph::{Control, Graph, NodeKind, Value};
use crate::ops::Interval;

/// So many operators one behind the other are looked through, and so many in all of an operand.
const MAX_DEPTH: usize = 24;
const MAX_NODES: usize = 256;
/// As many of what an input of a branch is.
const MAX_OUTER: usize = 32;
/// Elements of the constants that are looked at.
const MAX_ELEMENTS: usize = 4096;

impl Importer<'_> {
    /// Of each operand; absent ones have any.
    pub(super) fn intervals(&self, operands: &[Option<Known>]) -> Vec<Interval> {
        let of = |known: &Option<Known>| match known {
            Some(Known::Value(v)) => {
                let all = self.interval(*v, MAX_DEPTH, &mut { MAX_NODES });
                let each = self.each_element(known).and_then(|each| each.into_iter().map(|e| e.within).reduce(Interval::join));
                each.map_or(all, |each| all.both(each))
            }
            Some(Known::Constant(c)) if c.tensor.len() <= MAX_ELEMENTS => Interval::of_tensor(&c.tensor),
            _ => Interval::ALL,
        };
        operands.iter().map(of).collect()
    }

    /// Of all elements of a value.
    pub(super) fn interval_of(&self, v: Value) -> Interval {
        self.interval(v, MAX_DEPTH, &mut { MAX_NODES })
    }

    fn interval(&self, v: Value, depth: usize, left: &mut usize) -> Interval {
        let input = |v: Value| {
            let greatest = if self.regions.is_empty() { self.options.at_most.get(self.graph.name_of(v)) } else { None };
            greatest.map_or(Interval::ALL, |&n| Interval::new(f64::NEG_INFINITY, n as f64))
        };
        interval(&self.graph, &input, v, depth, left)
    }
}

/// Between which numbers a value of a graph is, where `input` says so of the graph's inputs.
fn interval(graph: &Graph, input: &dyn Fn(Value) -> Interval, v: Value, depth: usize, left: &mut usize) -> Interval {
    let ty = graph.ty(v);
    *left = left.saturating_sub(1);
    let found = match &graph.node(v.node).kind {
        _ if depth == 0 || *left == 0 => Interval::ALL,
        NodeKind::Constant(t) if t.len() <= MAX_ELEMENTS => Interval::of_tensor(t),
        // What the user says of an input holds besides what its type says.
        NodeKind::Input => return Interval::of_dtype(ty.dtype).both(input(v)),
        NodeKind::Operator(op) => {
            let x = graph.facts(v.node);
            match op.sizes(&x).iter().find(|s| s.count == v.result as usize) {
                Some(s) => {
                    let counted = Value { node: v.node, result: s.result as u32 };
                    let extent = graph.ty(counted).shape.0[s.axis].fixed();
                    extent.map_or(Interval::ALL, |n| Interval::new(0.0, n as f64))
                }
                None if v.result == 0 => {
                    let operands = graph.operands(v.node);
                    // Positions are where they can be, whatever is there.
                    let any = op.interval(&x, &vec![Interval::ALL; operands.len()]);
                    if any.low.is_finite() && any.high.is_finite() && !op.axes(&x).elementwise {
                        return any.within(ty.dtype);
                    }
                    let of: Vec<Interval> =
                        operands.iter().map(|o| o.map_or(Interval::ALL, |o| interval(graph, input, o, depth - 1, left))).collect();
                    op.interval(&x, &of)
                }
                None => op.interval_of_further(&x, v.result as usize),
            }
        }
        NodeKind::Control(Control::If(branches)) => {
            let operands = graph.operands(v.node);
            let mut of = |body: &Graph| {
                let Some(&output) = body.outputs().get(v.result as usize) else { return Interval::ALL };
                // Inputs of a body are the operands behind the condition.
                let inner = |v: Value| {
                    let at = body.inputs().iter().position(|&i| i == v);
                    let operand = at.and_then(|at| operands.get(at + 1).copied().flatten());
                    operand.map_or(Interval::ALL, |o| interval(graph, input, o, depth - 1, &mut { MAX_OUTER }))
                };
                interval(body, &inner, output, depth - 1, left)
            };
            of(&branches.then_branch).join(of(&branches.else_branch))
        }
        _ => Interval::ALL,
    };
    found.within(ty.dtype)
}

//! Between which numbers the elements of values are: of constants, of small element types, as the user says of inputs, and of what operators
//! make of these.

use super::model::Importer;
use super::scope::Known;
use crate::graph::{NodeKind, Value};
use crate::ops::Interval;

/// So many operators one behind the other are looked through, and so many in all of an operand.
const MAX_DEPTH: usize = 24;
const MAX_NODES: usize = 256;
/// Elements of the constants that are looked at.
const MAX_ELEMENTS: usize = 4096;

impl Importer<'_> {
    /// Of each operand; absent ones have any.
    pub(super) fn intervals(&self, operands: &[Option<Known>]) -> Vec<Interval> {
        let of = |known: &Option<Known>| match known {
            Some(Known::Value(v)) => self.interval(*v, MAX_DEPTH, &mut { MAX_NODES }),
            Some(Known::Constant(c)) if c.tensor.len() <= MAX_ELEMENTS => Interval::of_tensor(&c.tensor),
            _ => Interval::ALL,
        };
        operands.iter().map(of).collect()
    }

    fn interval(&self, v: Value, depth: usize, left: &mut usize) -> Interval {
        let ty = self.graph.ty(v);
        *left = left.saturating_sub(1);
        let found = match &self.graph.node(v.node).kind {
            _ if depth == 0 || *left == 0 => Interval::ALL,
            NodeKind::Constant(t) if t.len() <= MAX_ELEMENTS => Interval::of_tensor(t),
            NodeKind::Input if self.regions.is_empty() => {
                let greatest = self.options.at_most.get(self.graph.name_of(v));
                greatest.map_or(Interval::ALL, |&n| Interval::new(f64::NEG_INFINITY, n as f64))
            }
            NodeKind::Operator(op) => {
                let x = self.graph.facts(v.node);
                match op.sizes(&x).iter().find(|s| s.count == v.result as usize) {
                    Some(s) => {
                        let counted = Value { node: v.node, result: s.result as u32 };
                        let extent = self.graph.ty(counted).shape.0[s.axis].fixed();
                        extent.map_or(Interval::ALL, |n| Interval::new(0.0, n as f64))
                    }
                    None if v.result == 0 => {
                        let operands = self.graph.operands(v.node);
                        let of: Vec<Interval> =
                            operands.iter().map(|o| o.map_or(Interval::ALL, |o| self.interval(o, depth - 1, left))).collect();
                        op.interval(&x, &of)
                    }
                    None => op.interval_of_further(&x, v.result as usize),
                }
            }
            _ => Interval::ALL,
        };
        if matches!(self.graph.node(v.node).kind, NodeKind::Input) {
            // What the user says of an input holds besides what its type says.
            let all = Interval::of_dtype(ty.dtype);
            return Interval::new(all.low.max(found.low), all.high.min(found.high));
        }
        found.within(ty.dtype)
    }
}

//! Extents that are equal are one value: what says how much is meant is the same wherever the same decides it.

use std::collections::HashMap;

use super::elements::Part;
use super::model::Importer;
use super::opset::Draft;
use super::scope::Known;
use crate::graph::{NodeKind, Value};
use crate::ops::elementwise::Mul;
use crate::ops::padded::Count;
use crate::ops::{Operands, Operator};
use crate::tensor::Tensor;

/// What there is already in one graph.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// What says how much is meant, by operator and what decides it.
    found: HashMap<(&'static str, Vec<i64>, Vec<Part>), Value>,
    /// Results of operators that are not in the file, by operator and operands.
    nodes: HashMap<(String, Vec<Option<Value>>), Vec<Known>>,
}

impl Importer<'_> {
    /// How much of a result is meant: `own`, a result of this operator, or another value that is always equal.
    pub(super) fn count_of(&mut self, op: &dyn Operator, draft: &Draft, x: &Operands, result: usize, own: Value) -> Value {
        let Some(deciding) = op.decides(x, result) else { return own };
        let part = |&(operand, place): &(usize, usize)| self.part(draft.inputs.get(operand)?, place);
        let Some(parts) = deciding.elements.iter().map(part).collect::<Option<Vec<Part>>>() else { return own };
        // One element alone is how much is meant.
        if let ([], &[Part::At(v, place)]) = (&deciding.numbers[..], &parts[..]) {
            let own = if self.is_count(v) { v } else { own };
            return *self.counts.found.entry((Count::SCHEMA.name, vec![], vec![Part::At(v, place)])).or_insert(own);
        }
        *self.counts.found.entry((op.schema().name, deciding.numbers, parts)).or_insert(own)
    }

    /// An element of a value, of at most `most`, as what says how much is meant.
    pub(super) fn count_at(&mut self, at: (Value, usize), most: i64) -> Value {
        let key = (Count::SCHEMA.name, vec![], vec![Part::At(at.0, at.1)]);
        if let Some(&count) = self.counts.found.get(&key) {
            return count;
        }
        let name = format!("{}.count{}", self.graph.name_of(at.0), at.1);
        let count = if self.is_count(at.0) { at.0 } else { self.made(&Count { at: at.1 as i64, most }, &[at.0], &name) };
        self.counts.found.insert(key, count);
        count
    }

    /// Whether a value is what says how much of another is meant.
    fn is_count(&self, v: Value) -> bool {
        match &self.graph.node(v.node).kind {
            NodeKind::Operator(op) => op.sizes(&self.graph.facts(v.node)).iter().any(|s| s.count == v.result as usize),
            _ => false,
        }
    }

    /// So many times as much.
    pub(super) fn count_times(&mut self, count: Value, times: usize) -> Value {
        if times == 1 {
            return count;
        }
        let key = (Mul::SCHEMA.name, vec![times as i64], vec![Part::At(count, 0)]);
        if let Some(&found) = self.counts.found.get(&key) {
            return found;
        }
        let name = format!("{}.times{times}", self.graph.name_of(count));
        let Known::Constant(factor) = Known::constant(&format!("{name}.factor"), Tensor::from_slice(&[1], &[times as i64])) else {
            return count;
        };
        let factor = self.pool.place(&mut self.graph, &factor);
        let product = self.made(&Mul {}, &[count, factor], &name);
        self.counts.found.insert(key, product);
        product
    }

    /// The results of the same operator with the same operands, if there are any, or what `make` gives.
    pub(super) fn made_once(
        &mut self,
        op: &dyn Operator,
        inputs: &[Option<Known>],
        make: impl FnOnce(&mut Self) -> Vec<Known>,
    ) -> Vec<Known> {
        let operands = inputs.iter().map(|k| k.as_ref().and_then(|k| self.value(k))).collect();
        let key = (format!("{op:?}"), operands);
        if let Some(found) = self.counts.nodes.get(&key) {
            return found.clone();
        }
        let results = make(self);
        self.counts.nodes.insert(key, results.clone());
        results
    }
}

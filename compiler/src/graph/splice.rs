//! Nodes of one graph copied into another.

use std::collections::HashMap;

use super::{Graph, NodeKind, Value};
use crate::tensor::Type;

impl Graph {
    /// Copies the nodes of a body, whose inputs are these values (those that are read must be there); where each of its values went.
    pub fn splice(&mut self, body: &Graph, inputs: &[Option<Value>]) -> HashMap<Value, Value> {
        let mut to: HashMap<Value, Value> = body.inputs().iter().zip(inputs).filter_map(|(&input, v)| Some((input, (*v)?))).collect();
        for id in body.order() {
            let node = body.node(id);
            let operands: Vec<Option<Value>> = body.operands(id).into_iter().map(|v| v.map(|v| to[&v])).collect();
            let results: Vec<(String, Type)> = node.results.iter().map(|r| (r.name.clone(), r.ty.clone())).collect();
            let new = match &node.kind {
                NodeKind::Input => continue,
                NodeKind::Constant(t) => self.add_constant(&results[0].0, t.clone()).node,
                NodeKind::Operator(op) => self.add_typed_node(op.clone(), &operands, results, &node.label),
                NodeKind::Control(c) => self.add_typed_control(c.clone(), &operands, results, &node.label),
            };
            for result in 0..node.results.len() as u32 {
                to.insert(Value { node: id, result }, Value { node: new, result });
            }
        }
        to
    }

    /// The graph with only these of its inputs, which all that is read is among, and these outputs, in this order.
    pub fn select(&self, inputs: &[usize], outputs: &[usize]) -> Graph {
        let mut out = Graph::new(self.name.clone());
        let mut given: Vec<Option<Value>> = vec![None; self.inputs().len()];
        for &i in inputs {
            let v = self.inputs()[i];
            given[i] = Some(out.add_input(self.name_of(v), self.ty(v).clone()));
        }
        let to = out.splice(self, &given);
        out.set_outputs(outputs.iter().map(|&i| (self.output_names()[i].clone(), to[&self.outputs()[i]])).collect());
        out
    }
}

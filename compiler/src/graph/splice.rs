//! Nodes of one graph copied into another.

use std::collections::{HashMap, HashSet};

use super::{Graph, NodeId, NodeKind, Value};
use crate::tensor::Type;

impl Graph {
    /// Copies the nodes of a body, whose inputs are these values (those that are read must be there); where each of its values went.
    pub fn splice(&mut self, body: &Graph, inputs: &[Option<Value>]) -> HashMap<Value, Value> {
        self.splice_nodes(body, inputs, body.order())
    }

    /// Copies these nodes of a body, in topological order.
    fn splice_nodes(&mut self, body: &Graph, inputs: &[Option<Value>], nodes: Vec<NodeId>) -> HashMap<Value, Value> {
        let mut to: HashMap<Value, Value> = body.inputs().iter().zip(inputs).filter_map(|(&input, v)| Some((input, (*v)?))).collect();
        for id in nodes {
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
        self.part(inputs, outputs, self.order())
    }

    /// What these outputs depend on, in this order, and the positions of the inputs among it: they are the inputs of the new graph.
    pub fn cone(&self, outputs: &[usize]) -> (Graph, Vec<usize>) {
        let mut open: Vec<NodeId> = outputs.iter().map(|&i| self.outputs()[i].node).collect();
        let mut needed = HashSet::new();
        while let Some(node) = open.pop() {
            if needed.insert(node) {
                open.extend(self.operands(node).into_iter().flatten().map(|v| v.node));
            }
        }
        let inputs: Vec<usize> = (0..self.inputs().len()).filter(|&i| needed.contains(&self.inputs()[i].node)).collect();
        let nodes = self.order().into_iter().filter(|n| needed.contains(n)).collect();
        (self.part(&inputs, outputs, nodes), inputs)
    }

    /// A graph of these inputs, outputs and nodes.
    fn part(&self, inputs: &[usize], outputs: &[usize], nodes: Vec<NodeId>) -> Graph {
        let mut out = Graph::new(self.name.clone());
        let mut given: Vec<Option<Value>> = vec![None; self.inputs().len()];
        for &i in inputs {
            let v = self.inputs()[i];
            given[i] = Some(out.add_input(self.name_of(v), self.ty(v).clone()));
        }
        let to = out.splice_nodes(self, &given, nodes);
        out.set_outputs(outputs.iter().map(|&i| (self.output_names()[i].clone(), to[&self.outputs()[i]])).collect());
        out
    }
}

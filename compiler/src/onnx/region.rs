//! Bodies of branches and loops while they are read: graphs of their own, whose inputs are made as they read what is around them.

use std::collections::HashMap;
use std::rc::Rc;

use onnx_protobuf::GraphProto;

use super::counts::Counts;
use super::initializer;
use super::model::{self, Frame, Importer};
use super::problems::Problem;
use super::scope::{Known, Pool};
use super::sizes::Varying;
use crate::graph::{Control, Graph, NodeId, Value};
use crate::ops::{Attributes, InferError, find};
use crate::tensor::{Tensor, Type};

/// The graph around a body, and what the body has of it.
pub(super) struct Region {
    graph: Graph,
    pool: Pool,
    /// Values around the body that it reads, with its inputs.
    captures: Vec<(Value, Value)>,
    /// Values around the body that its other inputs come from.
    begins: Vec<(Value, Value)>,
    /// Its values with extents that data decides.
    pub(super) varying: HashMap<Value, Varying>,
    /// What says how much of them is meant.
    counts: Counts,
}

impl Region {
    /// The nodes around the body that some of its inputs come from.
    pub(super) fn sources(&self, inputs: &[Value]) -> Vec<NodeId> {
        self.captures.iter().chain(&self.begins).filter(|(_, input)| inputs.contains(input)).map(|(v, _)| v.node).collect()
    }
}

/// A body that was read.
pub(super) struct Body {
    pub(super) graph: Graph,
    /// The values around it that its last inputs are.
    pub(super) captured: Vec<Value>,
}

impl Body {
    /// Makes the inputs for captured values the same as those of another body, which captured all that this one did, and more.
    pub(super) fn capture_as(&mut self, other: &Body) {
        for (i, v) in other.captured.iter().enumerate().skip(self.captured.len()) {
            let input = other.graph.inputs()[other.graph.inputs().len() - other.captured.len() + i];
            self.graph.add_input(other.graph.name_of(input), other.graph.ty(input).clone());
            self.captured.push(*v);
        }
    }
}

impl Importer<'_> {
    /// The graph that so many bodies are around.
    pub(super) fn graph_at(&self, depth: usize) -> &Graph {
        self.regions.get(depth).map_or(&self.graph, |r| &r.graph)
    }

    /// A value of the graph at some depth in the innermost body.
    pub(super) fn capture(&mut self, depth: usize, v: Value) -> Value {
        (depth..self.regions.len()).fold(v, |v, depth| self.capture_once(depth, v))
    }

    /// A value of the graph at some depth in the body that is just inside.
    fn capture_once(&mut self, depth: usize, v: Value) -> Value {
        if let Some(known) = self.regions[depth].captures.iter().find(|c| c.0 == v) {
            return known.1;
        }
        let outer = &self.regions[depth].graph;
        let (name, ty) = (outer.name_of(v).to_owned(), outer.ty(v).clone());
        let inner = match self.regions.get_mut(depth + 1) {
            Some(region) => &mut region.graph,
            None => &mut self.graph,
        };
        let input = inner.add_input(&name, ty);
        self.regions[depth].captures.push((v, input));
        if let Some(varying) = self.regions[depth].varying.get(&v).cloned() {
            let varying = varying.moved(input, |count| self.capture_once(depth, count));
            let inner = match self.regions.get_mut(depth + 1) {
                Some(region) => &mut region.varying,
                None => &mut self.varying,
            };
            inner.insert(input, varying);
        }
        input
    }

    /// What is known at some depth, in the innermost body.
    pub(super) fn captured(&mut self, depth: usize, known: Known) -> Known {
        match known {
            Known::Value(v) => Known::Value(self.capture(depth, v)),
            Known::Sequence(elements) if depth < self.regions.len() => {
                Known::Sequence(Rc::new(elements.iter().map(|k| self.captured(depth, k.clone())).collect()))
            }
            known => known,
        }
    }

    /// Opens a body whose first inputs are of these names and types, and come from these values.
    pub(super) fn open(&mut self, name: &str, inputs: &[(String, Type, Option<Value>)]) -> Vec<Value> {
        let pool = std::mem::replace(&mut self.pool, Pool::new(self.n_pools));
        self.n_pools += 1;
        let graph = std::mem::replace(&mut self.graph, Graph::new(name));
        let values: Vec<Value> = inputs.iter().map(|(name, ty, _)| self.graph.add_input(name, ty.clone())).collect();
        let begins = inputs.iter().zip(&values).filter_map(|((_, _, from), &input)| Some(((*from)?, input))).collect();
        let varying = std::mem::take(&mut self.varying);
        let counts = std::mem::take(&mut self.counts);
        self.regions.push(Region { graph, pool, captures: vec![], begins, varying, counts });
        values
    }

    /// Closes the innermost body; these are its outputs, by name.
    pub(super) fn close(&mut self, outputs: Vec<(String, Value)>) -> Body {
        self.graph.set_outputs(unique(outputs));
        let region = self.regions.pop().expect("an open body");
        self.pool = region.pool;
        self.varying = region.varying;
        self.counts = region.counts;
        let graph = std::mem::replace(&mut self.graph, region.graph);
        Body { graph, captured: region.captures.into_iter().map(|c| c.0).collect() }
    }

    /// Reads the nodes of the innermost body, whose inputs stand for these: its outputs.
    ///
    /// # Errors
    /// What is wrong with it as a whole; nodes with problems give outputs that failed.
    pub(super) fn read_body(&mut self, g: &GraphProto, inputs: Vec<Known>, frame: &Frame) -> Result<Vec<Known>, Problem> {
        if inputs.len() != g.input.len() {
            return Err(Problem::invalid(format!("the body has {} inputs, and gets {}", g.input.len(), inputs.len())));
        }
        self.scopes.push(false, self.regions.len());
        for (input, known) in g.input.iter().zip(inputs) {
            self.scopes.define(&input.name, known);
        }
        let outputs = model::output_names(g);
        let decode = |t| initializer::decode(t, self.options.folder.as_deref());
        let values: Vec<_> = g.initializer.iter().map(|t| (t.name.as_str(), decode(t))).collect();
        self.initializers(values, frame);
        self.sparse_initializers(g);
        self.nodes(&g.node, &outputs, frame);
        let mut results = vec![];
        for name in outputs {
            results.push(match self.operand(name) {
                Ok(known) => known.unwrap_or(Known::Absent),
                Err(_) => {
                    self.scopes.pop();
                    return Err(Problem::invalid(format!("nothing gives output `{name}` of the body")));
                }
            });
        }
        self.scopes.pop();
        Ok(results)
    }

    /// What is known as a value of the innermost graph; `None` if it is no tensor, or failed.
    pub(super) fn value(&mut self, known: &Known) -> Option<Value> {
        match known {
            Known::Value(v) => Some(*v),
            Known::Constant(c) => Some(self.pool.place(&mut self.graph, c)),
            Known::Sequence(_) | Known::Absent | Known::Failed => None,
        }
    }

    /// A branch or loop of the graph, and its results; these are problems of the node's operands or bodies if it has no type.
    pub(super) fn add_control(
        &mut self,
        control: Control,
        operands: &[Option<Value>],
        names: &[String],
        label: &str,
    ) -> Result<Vec<Known>, InferError> {
        let node = self.graph.add_control(control, operands, names, label)?;
        Ok((0..names.len() as u32).map(|result| Known::Value(Value { node, result })).collect())
    }

    /// Why a branch or loop has no type. Nothing is said where an extent is not known yet, which is a problem of its own.
    pub(super) fn no_control(&mut self, name: &str, operands: &[Option<Value>], e: InferError) -> Result<(), Problem> {
        if operands.iter().flatten().any(|&v| self.depends_on_unbound(&Known::Value(v))) {
            return Ok(());
        }
        Err(match e {
            InferError::Invalid(_) | InferError::MissingOperand { .. } => Problem::invalid(format!("`{name}`: {e}")),
            e => Problem::unsupported("unsupported-form", format!("`{name}` cannot be compiled: {e}")),
        })
    }

    /// A view of a value by an operator that only needs attributes.
    pub(super) fn view(&mut self, op: &str, v: Value, attributes: Attributes) -> Result<Value, Problem> {
        let mut attributes = attributes;
        let schema = find(op).ok_or_else(|| Problem::invalid(format!("there is no `{op}`")))?;
        let op = (schema.build)(&mut attributes).map_err(|e| Problem::invalid(e.to_string()))?;
        let name = format!("{}.view", self.graph.name_of(v));
        let node = self.graph.add_node(op, &[Some(v)], &[name], "").map_err(|e| Problem::invalid(e.to_string()))?;
        Ok(Value { node, result: 0 })
    }

    /// The one element of a value, as a scalar.
    pub(super) fn scalar(&mut self, known: Known) -> Result<Known, Problem> {
        match known {
            Known::Value(v) if self.graph.ty(v).rank() > 0 => Ok(Known::Value(self.view("Squeeze", v, Attributes::default())?)),
            Known::Constant(c) if c.tensor.len() == 1 && !c.tensor.dims().is_empty() => {
                let scalar = Tensor::from_bytes(c.tensor.dtype(), &[], c.tensor.bytes());
                Ok(Known::constant(&c.name, scalar))
            }
            known => Ok(known),
        }
    }
}

/// The outputs with names that differ.
fn unique(outputs: Vec<(String, Value)>) -> Vec<(String, Value)> {
    let mut seen = std::collections::HashSet::new();
    let one = |(name, v): (String, Value)| {
        let free = std::iter::once(name.clone()).chain((1..).map(|i| format!("{name}.{i}"))).find(|n| !seen.contains(n));
        let free = free.expect("an unbounded range");
        seen.insert(free.clone());
        (free, v)
    };
    outputs.into_iter().map(one).collect()
}

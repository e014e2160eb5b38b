//! The graph: operators on a petgraph `StableDiGraph`, edges carrying (result, operand).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, IntoEdgeReferences};

use super::{Control, Evaluated};
use crate::ops::{Fact, InferError, Operands, Operator};
use crate::tensor::{Spread, Tensor, Type};

/// A node of the graph; stable while other nodes come and go.
pub type NodeId = NodeIndex<u32>;

/// An SSA value: one result of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Value {
    /// The node that gives it.
    pub node: NodeId,
    /// Which of its results.
    pub result: u32,
}

/// An edge: `result` of the source is `operand` of the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge {
    result: u32,
    operand: u32,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A graph input.
    Input,
    /// A constant.
    Constant(Tensor),
    /// An operator applied to operands.
    Operator(Box<dyn Operator>),
    /// A branch or a loop.
    Control(Control),
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its results; an unused optional one has an empty name.
    pub results: Vec<ResultInfo>,
    /// The model's name for it, for diagnostics; may be empty.
    pub label: String,
    /// The fusion group it belongs to; groups are numbered from 0 in execution order.
    pub group: Option<u32>,
    n_operands: u32,
    serial: u64,
}

impl Node {
    /// The operator, if it is one.
    pub fn operator(&self) -> Option<&dyn Operator> {
        match &self.kind {
            NodeKind::Operator(op) => Some(op.as_ref()),
            _ => None,
        }
    }

    /// The operator, if it is one of this kind.
    pub fn op<T: Operator>(&self) -> Option<&T> {
        self.operator()?.downcast()
    }

    /// The branch or loop, if it is one.
    pub fn control(&self) -> Option<&Control> {
        match &self.kind {
            NodeKind::Control(c) => Some(c),
            _ => None,
        }
    }

    /// The branch or loop, if it is one, to change its bodies.
    pub fn control_mut(&mut self) -> Option<&mut Control> {
        match &mut self.kind {
            NodeKind::Control(c) => Some(c),
            _ => None,
        }
    }

    /// The constant, if it is one.
    pub fn constant(&self) -> Option<&Tensor> {
        match &self.kind {
            NodeKind::Constant(t) => Some(t),
            _ => None,
        }
    }
}

/// One result of a node.
#[derive(Clone, PartialEq, Debug)]
pub struct ResultInfo {
    /// The value's name, unique in the graph, without sigil.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Physical order of its axes, outermost first, once layouts are assigned; `None` is row-major.
    pub layout: Option<Vec<usize>>,
    /// Where it lives, once memory is planned.
    pub place: Option<Place>,
}

/// Where a value lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the arena, at these bytes.
    Arena(std::ops::Range<usize>),
    /// In the caller's buffer of this input.
    Input(usize),
    /// In the caller's buffer of this output.
    Output(usize),
    /// In read-only data.
    Constant,
    /// Inside another value (a view of it, or a part of what it is concatenated to).
    Within(Value),
}

/// What stands together in `grouped_order`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Unit {
    Node(NodeId),
    Group(u32),
}

/// A graph of operators with named, typed values.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Bytes of the arena, once memory is planned.
    pub arena_bytes: Option<usize>,
    /// Whether windows and borders are lowered as they are at any size of their operand, not only at that of the graph: with padding that
    /// they need at some, and places that follow from extents.
    pub any_padding: bool,
    /// Whether it is read for one of several sizes, and lowered as for any of them.
    pub any_size: bool,
    /// Names of values that are computed by the program though they depend on constants alone: they are others at other sizes.
    pub computed: Arc<BTreeSet<String>>,
    /// Names of constants that are others at other sizes, which become no parts of others.
    pub varied: Arc<BTreeSet<String>>,
    /// What was computed when it was read for other sizes.
    pub evaluated: Option<Arc<Evaluated>>,
    /// Names of values that may become others which are equal; any where it is `None`. At one of several sizes more may be equal.
    pub merged: Option<Arc<BTreeSet<String>>>,
    /// Extents at all sizes by the names of values, where these are known.
    pub(super) spreads: Arc<HashMap<String, Spread>>,
    graph: StableDiGraph<Node, Edge, u32>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    output_names: Vec<String>,
    names: HashMap<String, Value>,
    next_serial: u64,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), ..Graph::default() }
    }

    fn add(&mut self, kind: NodeKind, results: Vec<(String, Type)>, label: String, operands: &[Option<Value>]) -> NodeId {
        let results = results
            .into_iter()
            .map(|(name, ty)| {
                let name = if name.is_empty() { name } else { self.unique_name(&name) };
                ResultInfo { name, ty, layout: None, place: None }
            })
            .collect();
        let node = Node { kind, results, label, group: None, n_operands: operands.len() as u32, serial: self.next_serial };
        self.next_serial += 1;
        let id = self.graph.add_node(node);
        for (i, info) in self.graph[id].results.iter().enumerate() {
            if !info.name.is_empty() {
                self.names.insert(info.name.clone(), Value { node: id, result: i as u32 });
            }
        }
        for (operand, value) in operands.iter().enumerate() {
            if let Some(value) = value {
                self.graph.add_edge(value.node, id, Edge { result: value.result, operand: operand as u32 });
            }
        }
        id
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: &str, ty: Type) -> Value {
        let node = self.add(NodeKind::Input, vec![(name.to_owned(), ty)], String::new(), &[]);
        let value = Value { node, result: 0 };
        self.inputs.push(value);
        value
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> Value {
        let ty = tensor.ty();
        let node = self.add(NodeKind::Constant(tensor), vec![(name.to_owned(), ty)], String::new(), &[]);
        Value { node, result: 0 }
    }

    /// Adds an operator and infers its types. An empty result name marks an unused optional result.
    ///
    /// # Errors
    /// What `infer` says; the graph is unchanged then.
    pub fn add_node(
        &mut self,
        op: Box<dyn Operator>,
        operands: &[Option<Value>],
        results: &[String],
        label: &str,
    ) -> Result<NodeId, InferError> {
        let facts = Operands { facts: operands.iter().map(|v| v.map(|v| self.fact(v))).collect(), n_results: results.len() };
        let types = op.infer(&facts)?;
        if types.len() < results.len() {
            return Err(InferError::Invalid(format!("{} results where the operator gives {}", results.len(), types.len())));
        }
        let results = results.iter().cloned().zip(types).collect();
        Ok(self.add(NodeKind::Operator(op), results, label.to_owned(), operands))
    }

    /// Adds an operator whose result types are known already.
    pub fn add_typed_node(
        &mut self,
        op: Box<dyn Operator>,
        operands: &[Option<Value>],
        results: Vec<(String, Type)>,
        label: &str,
    ) -> NodeId {
        self.add(NodeKind::Operator(op), results, label.to_owned(), operands)
    }

    /// Adds a branch or a loop, and infers its types. An empty result name marks an unused result.
    ///
    /// # Errors
    /// What [`Control::infer`] says; the graph is unchanged then.
    pub fn add_control(
        &mut self,
        control: Control,
        operands: &[Option<Value>],
        results: &[String],
        label: &str,
    ) -> Result<NodeId, InferError> {
        let facts: Vec<Option<Fact>> = operands.iter().map(|v| v.map(|v| self.fact(v))).collect();
        let types = control.infer(&facts)?;
        if types.len() != results.len() {
            return Err(InferError::Invalid(format!("{} results where there are {}", results.len(), types.len())));
        }
        let results = results.iter().cloned().zip(types).collect();
        Ok(self.add(NodeKind::Control(control), results, label.to_owned(), operands))
    }

    /// Adds a branch or a loop whose result types are known already.
    pub fn add_typed_control(&mut self, control: Control, operands: &[Option<Value>], results: Vec<(String, Type)>, label: &str) -> NodeId {
        self.add(NodeKind::Control(control), results, label.to_owned(), operands)
    }

    /// What is known of a value: its type, and its value if it is a constant.
    pub fn fact(&self, v: Value) -> Fact {
        Fact { ty: self.ty(v).clone(), value: self.constant(v).cloned() }
    }

    /// What is known of a node's operands.
    pub fn facts(&self, node: NodeId) -> Operands {
        let facts = self.operands(node).into_iter().map(|v| v.map(|v| self.fact(v))).collect();
        Operands { facts, n_results: self.graph[node].results.len() }
    }

    /// A node.
    pub fn node(&self, node: NodeId) -> &Node {
        &self.graph[node]
    }

    /// A node, to change its operator, label or group.
    pub fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.graph[node]
    }

    /// Whether the node (still) exists.
    pub fn contains(&self, node: NodeId) -> bool {
        self.graph.contains_node(node)
    }

    /// What is known of a value.
    pub fn info(&self, v: Value) -> &ResultInfo {
        &self.graph[v.node].results[v.result as usize]
    }

    /// What is known of a value, to set its type, layout or place.
    pub fn info_mut(&mut self, v: Value) -> &mut ResultInfo {
        &mut self.graph[v.node].results[v.result as usize]
    }

    /// Type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.info(v).ty
    }

    /// Name of a value, without sigil.
    pub fn name_of(&self, v: Value) -> &str {
        &self.info(v).name
    }

    /// The constant that a value is, if it is one.
    pub fn constant(&self, v: Value) -> Option<&Tensor> {
        self.graph[v.node].constant()
    }

    /// The value of this name.
    pub fn find(&self, name: &str) -> Option<Value> {
        self.names.get(name).copied()
    }

    /// `name`, or `name.1`, `name.2`, ... if it is taken.
    pub fn unique_name(&self, name: &str) -> String {
        if !self.names.contains_key(name) {
            return name.to_owned();
        }
        (1..).map(|i| format!("{name}.{i}")).find(|n| !self.names.contains_key(n)).expect("an unbounded range")
    }

    /// The results of a node that have names.
    pub fn results(&self, node: NodeId) -> Vec<Value> {
        let results = &self.graph[node].results;
        (0..results.len()).filter(|&i| !results[i].name.is_empty()).map(|i| Value { node, result: i as u32 }).collect()
    }

    /// Operands of a node, by position; absent optional ones are `None`.
    pub fn operands(&self, node: NodeId) -> Vec<Option<Value>> {
        let mut operands = vec![None; self.graph[node].n_operands as usize];
        for e in self.graph.edges_directed(node, Direction::Incoming) {
            operands[e.weight().operand as usize] = Some(Value { node: e.source(), result: e.weight().result });
        }
        operands
    }

    /// Makes `value` operand `operand` of `node`.
    pub fn set_operand(&mut self, node: NodeId, operand: usize, value: Option<Value>) {
        let old = self.graph.edges_directed(node, Direction::Incoming).find(|e| e.weight().operand as usize == operand).map(|e| e.id());
        if let Some(old) = old {
            self.graph.remove_edge(old);
        }
        let n = &mut self.graph[node].n_operands;
        *n = (*n).max(operand as u32 + 1);
        if let Some(value) = value {
            self.graph.add_edge(value.node, node, Edge { result: value.result, operand: operand as u32 });
        }
    }

    /// Where a value is used: (node, operand), in a stable order. Graph outputs are not listed.
    pub fn users(&self, v: Value) -> Vec<(NodeId, usize)> {
        let mut users: Vec<(u64, NodeId, usize)> = self
            .graph
            .edges_directed(v.node, Direction::Outgoing)
            .filter(|e| e.weight().result == v.result)
            .map(|e| (self.graph[e.target()].serial, e.target(), e.weight().operand as usize))
            .collect();
        users.sort_unstable();
        users.into_iter().map(|(_, node, operand)| (node, operand)).collect()
    }

    /// Whether a value is a graph output.
    pub fn is_output(&self, v: Value) -> bool {
        self.outputs.contains(&v)
    }

    /// Number of uses, graph outputs included.
    pub fn n_uses(&self, v: Value) -> usize {
        self.users(v).len() + self.outputs.iter().filter(|&&o| o == v).count()
    }

    /// Makes every user of `old`, graph outputs included, use `new`.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        for (node, operand) in self.users(old) {
            if node != new.node {
                self.set_operand(node, operand, Some(new));
            }
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Removes a node that nothing uses. Inputs stay in the signature and cannot be removed.
    pub fn remove(&mut self, node: NodeId) {
        debug_assert!(!self.inputs.iter().any(|v| v.node == node), "an input cannot be removed");
        if let Some(node) = self.graph.remove_node(node) {
            for info in node.results {
                self.names.remove(&info.name);
            }
        }
    }

    /// Gives a value another name (made unique).
    pub fn rename(&mut self, v: Value, name: &str) {
        let old = self.info(v).name.clone();
        self.names.remove(&old);
        let name = self.unique_name(name);
        self.names.insert(name.clone(), v);
        self.info_mut(v).name = name;
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// The outputs; a value may be several.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The names of the outputs in the interface, which stay when passes replace the values.
    pub fn output_names(&self) -> &[String] {
        &self.output_names
    }

    /// Sets the outputs and their names in the interface.
    pub fn set_outputs(&mut self, outputs: Vec<(String, Value)>) {
        (self.output_names, self.outputs) = outputs.into_iter().unzip();
    }

    /// Replaces output number `i` by another value, keeping its name.
    pub fn set_output(&mut self, i: usize, value: Value) {
        self.outputs[i] = value;
    }

    /// All nodes in topological order, ties in order of insertion: inputs and constants come where they are first needed or were inserted.
    pub fn order(&self) -> Vec<NodeId> {
        let mut missing: HashMap<NodeId, usize> =
            self.graph.node_indices().map(|n| (n, self.graph.edges_directed(n, Direction::Incoming).count())).collect();
        let mut ready: BTreeSet<(u64, NodeId)> =
            self.graph.node_indices().filter(|n| missing[n] == 0).map(|n| (self.graph[n].serial, n)).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some((_, node)) = ready.pop_first() {
            order.push(node);
            for e in self.graph.edges_directed(node, Direction::Outgoing) {
                let m = missing.get_mut(&e.target()).expect("every node is listed");
                *m -= 1;
                if *m == 0 {
                    ready.insert((self.graph[e.target()].serial, e.target()));
                }
            }
        }
        order
    }

    /// All nodes in a topological order in which the members of each fusion group stand together, each group where its last operand is ready.
    /// Groups that wait for each other (which the verifier reports) are torn apart.
    pub fn grouped_order(&self) -> Vec<NodeId> {
        let order = self.order();
        let unit = |n: NodeId| self.graph[n].group.map_or(Unit::Node(n), Unit::Group);
        let mut members: HashMap<Unit, Vec<NodeId>> = HashMap::new();
        for &n in &order {
            members.entry(unit(n)).or_default().push(n);
        }
        let mut missing: HashMap<Unit, usize> = members.keys().map(|&u| (u, 0)).collect();
        for e in self.graph.edge_references() {
            if unit(e.source()) != unit(e.target()) {
                *missing.get_mut(&unit(e.target())).expect("every node has a unit") += 1;
            }
        }
        // A group is as old as its first member.
        let key = |u: Unit| (members[&u].iter().map(|&n| self.graph[n].serial).min(), u);
        let mut ready: BTreeSet<(Option<u64>, Unit)> = order.iter().map(|&n| unit(n)).filter(|u| missing[u] == 0).map(key).collect();
        let mut grouped = Vec::with_capacity(order.len());
        while let Some((_, u)) = ready.pop_first() {
            for &n in &members[&u] {
                grouped.push(n);
                for e in self.graph.edges_directed(n, Direction::Outgoing).filter(|e| unit(e.target()) != u) {
                    let m = missing.get_mut(&unit(e.target())).expect("every node has a unit");
                    *m -= 1;
                    if *m == 0 {
                        ready.insert(key(unit(e.target())));
                    }
                }
            }
        }
        if grouped.len() == order.len() { grouped } else { order }
    }

    /// Number of nodes of every kind.
    pub fn n_nodes(&self) -> usize {
        self.graph.node_count()
    }

    /// Number of edges.
    pub fn n_edges(&self) -> usize {
        self.graph.edge_references().count()
    }

    /// Branches and loops in topological order.
    pub fn control_nodes(&self) -> Vec<NodeId> {
        self.order().into_iter().filter(|&n| self.graph[n].control().is_some()).collect()
    }

    /// Operators, those in bodies included.
    pub fn operators(&self) -> Vec<&dyn Operator> {
        let mut list = vec![];
        for n in self.order() {
            match &self.graph[n].kind {
                NodeKind::Operator(op) => list.push(op.as_ref()),
                NodeKind::Control(c) => list.extend(c.bodies().into_iter().flat_map(Graph::operators)),
                NodeKind::Input | NodeKind::Constant(_) => {}
            }
        }
        list
    }

    /// Operator nodes in topological order.
    pub fn operator_nodes(&self) -> Vec<NodeId> {
        self.order().into_iter().filter(|&n| self.graph[n].operator().is_some()).collect()
    }
}

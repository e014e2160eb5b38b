//! The order in which the nodes of a graph can be read, and which of them matter.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use onnx_protobuf::{GraphProto, NodeProto};

use super::attribute::Arguments;
use super::subgraph;

/// Indices of nodes.
pub(super) struct Order {
    /// The nodes that outputs need, every one after those it needs itself; else as in the file.
    pub(super) live: Vec<usize>,
    /// Nodes that wait for themselves, or for such nodes.
    pub(super) cyclic: Vec<usize>,
}

/// Orders the nodes of a graph or function.
pub(super) fn order<'a>(nodes: &[NodeProto], outputs: impl Iterator<Item = &'a str>, arguments: &Arguments) -> Order {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, n) in nodes.iter().enumerate() {
        for name in n.output.iter().filter(|o| !o.is_empty()) {
            producer.entry(name).or_insert(i);
        }
    }
    let needs: Vec<Vec<usize>> = nodes
        .iter()
        .map(|n| {
            let mut needs: Vec<usize> = names(n, arguments).into_iter().filter_map(|name| producer.get(name).copied()).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect();
    let mut users = vec![vec![]; nodes.len()];
    let mut missing = vec![0usize; nodes.len()];
    for (i, needs) in needs.iter().enumerate() {
        missing[i] = needs.len();
        needs.iter().for_each(|&j| users[j].push(i));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..nodes.len()).filter(|&i| missing[i] == 0).map(Reverse).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        sorted.push(i);
        for &user in &users[i] {
            missing[user] -= 1;
            if missing[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    let mut live = vec![false; nodes.len()];
    let mut open: Vec<usize> = outputs.filter_map(|o| producer.get(o).copied()).collect();
    while let Some(i) = open.pop() {
        if !std::mem::replace(&mut live[i], true) {
            open.extend(&needs[i]);
        }
    }
    Order {
        cyclic: (0..nodes.len()).filter(|&i| missing[i] > 0).collect(),
        live: sorted.into_iter().filter(|&i| live[i] || nodes[i].output.iter().all(String::is_empty)).collect(),
    }
}

/// The names that a node reads, those of its subgraphs included.
fn names<'a>(n: &'a NodeProto, arguments: &'a Arguments) -> Vec<&'a str> {
    let mut names: Vec<&str> = n.input.iter().map(String::as_str).filter(|i| !i.is_empty()).collect();
    for g in subgraph::graphs(n, arguments) {
        names.extend(free_names(g, arguments));
    }
    names
}

/// The names that a subgraph takes from around it.
fn free_names<'a>(g: &'a GraphProto, arguments: &'a Arguments) -> Vec<&'a str> {
    let mut own: HashSet<&str> = g.input.iter().map(|i| i.name.as_str()).collect();
    own.extend(g.initializer.iter().map(|t| t.name.as_str()));
    own.extend(g.node.iter().flat_map(|n| n.output.iter().map(String::as_str)));
    let read = g.node.iter().flat_map(|n| names(n, arguments)).chain(g.output.iter().map(|o| o.name.as_str()));
    read.filter(|name| !own.contains(name)).collect()
}

//! The graph of operators: structure, text form, verifier, interpreter. The only room that names petgraph; imports `tensor` and `ops`.

#[expect(clippy::module_inception, reason = "the graph itself, beside its text form and interpreter")]
mod graph;

pub use graph::{Graph, Node, NodeId, NodeKind, Place, ResultInfo, Value};

//! The graph of operators: structure, text form, verifier, interpreter. The only room that names petgraph; imports `tensor` and `ops`.

mod eval;
#[expect(clippy::module_inception, reason = "the graph itself, beside its text form and interpreter")]
mod graph;
mod parse;
mod print;
mod verify;

pub use eval::{EvalError, eval, eval_with};
pub use graph::{Graph, Node, NodeId, NodeKind, Place, ResultInfo, Value};
pub use parse::{ParseError, parse, parse_with, rand, read_blobs};
pub use print::{Blobs, attribute, blob_hash, blobs, line, name, print, sigil, write_blobs};
pub use verify::{Problem, verify};

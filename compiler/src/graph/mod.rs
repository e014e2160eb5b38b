//! The graph of operators: structure, text form, verifier, interpreter. The only room that names petgraph; imports `tensor` and `ops`.

mod blob;
mod control;
mod eval;
mod evaluated;
#[expect(clippy::module_inception, reason = "the graph itself, beside its text form and interpreter")]
mod graph;
mod parse;
mod print;
mod retype;
mod splice;
mod spread;
mod verify;

pub use blob::{Blobs, blob_hash, blobs, rand, read_blobs, write_blobs};
pub use control::{Branches, Control, Loop};
pub use eval::{EvalError, eval, eval_with};
pub use evaluated::Evaluated;
pub use graph::{Graph, Node, NodeId, NodeKind, Place, ResultInfo, Value};
pub use parse::{ParseError, parse, parse_with};
pub use print::{attribute, line, name, print, sigil};
pub use retype::retype;
pub use spread::Spreads;
pub use verify::{Problem, verify};

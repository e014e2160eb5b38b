//! ONNX files to graphs: protobuf messages, opsets, functions, subgraphs, initializers, dimensions. The only room that names `onnx_protobuf`;
//! imports `tensor`, `ops` and `graph`. Nothing of ONNX but names is left in the result, and opset numbers end here.
//!
//! Files are hostile until checked. Every problem is found, not just the first.

mod attribute;
mod binding;
mod bounds;
mod counts;
mod elements;
#[cfg(test)]
mod extent_tests;
mod external_data;
mod flex_attention;
mod function;
#[cfg(test)]
mod hostile_tests;
mod initializer;
mod iterations;
mod loops;
mod model;
mod node;
mod opset;
mod order;
mod ports;
mod problems;
mod refused;
mod region;
mod scope;
#[cfg(test)]
mod sequence_tests;
mod sequences;
#[cfg(test)]
mod shape_tests;
mod signature;
mod sizes;
mod subgraph;
mod tensor_file;
#[cfg(test)]
mod tests;
mod unequal;
mod unroll;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

use crate::graph::Graph;
use crate::tensor::Tensor;

pub use binding::{element_name, unbound_dimensions, unbound_symbols};
pub use external_data::import_file;
pub use model::{deciding_inputs, import};
pub use refused::REFUSED;
pub use signature::{Form, Signature, ValueSignature, signature};
pub use tensor_file::read_value_file;

/// Oldest opset of the default domain that is understood.
pub const MIN_OPSET: i64 = 1;
/// Newest opset of the default domain that is understood.
pub const MAX_OPSET: i64 = 28;

/// What a user may say about a file.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The file's name, for diagnostics.
    pub file: String,
    /// The folder that external data is in; `None` refuses external data.
    pub folder: Option<PathBuf>,
    /// Extents of symbolic dimensions. An unnamed dimension is `INPUT.AXIS`.
    pub bindings: BTreeMap<String, usize>,
    /// Symbolic dimensions that others give: expressions of those.
    pub relations: BTreeMap<String, String>,
    /// Extents of inputs.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Extents of the tensors of inputs that are sequences; none for an optional input that has no value.
    pub sequences: BTreeMap<String, Vec<Vec<usize>>>,
    /// Inputs that are constants instead: their values, of the declared types.
    pub constants: BTreeMap<String, Tensor>,
    /// The greatest value of inputs, where it decides extents.
    pub at_most: BTreeMap<String, i64>,
    /// Inputs that stay inputs though the file gives them values.
    pub variables: BTreeSet<String>,
    /// Values that stay computed though they depend on constants alone.
    pub computed: BTreeSet<String>,
    /// Whether the file is read for one size of several.
    pub any_size: bool,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph.
    pub graph: Graph,
    /// Values of inputs.
    pub defaults: Defaults,
    /// Outputs of which data decides how much is meant, each with the output that is its shape: by index.
    pub shapes: Vec<(usize, usize)>,
    /// Outputs that are the elements of one output of the model, a sequence: by index, in order.
    pub sequences: Vec<Range<usize>>,
}

/// Values that a file gives inputs among [`ImportOptions::variables`].
pub type Defaults = BTreeMap<String, Tensor>;

//! What can be said of a model without compiling it.

use std::collections::BTreeMap;
use std::fmt;

use onnx_protobuf::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::binding;
use super::model;
use super::problems::Problem;
use crate::diagnostic::Diagnostic;
use crate::tensor::{DType, Shape};

/// A model from outside.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The graph's name.
    pub name: String,
    /// The program that wrote the file, with its version.
    pub producer: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Version of the default operator set.
    pub opset: i64,
    /// Other operator sets with their versions.
    pub domains: BTreeMap<String, i64>,
    /// The inputs that a caller gives; initializers are not among them.
    pub inputs: Vec<ValueSignature>,
    /// The outputs.
    pub outputs: Vec<ValueSignature>,
    /// How often each operator (or function) occurs, those in subgraphs and functions included.
    pub operators: BTreeMap<String, usize>,
    /// Elements of all initializers and constants.
    pub n_parameters: u64,
    /// Bytes of all initializers and constants of known element types.
    pub parameter_bytes: u64,
}

/// What an input or output is made of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Form {
    /// A tensor.
    #[default]
    Tensor,
    /// A tensor, or nothing.
    Optional,
    /// Tensors of one element type.
    Sequence,
    /// A sequence, or nothing.
    OptionalSequence,
}

impl Form {
    /// Whether it is a sequence, if it is anything.
    pub fn is_sequence(self) -> bool {
        matches!(self, Form::Sequence | Form::OptionalSequence)
    }

    /// Whether it may be nothing.
    pub fn is_optional(self) -> bool {
        matches!(self, Form::Optional | Form::OptionalSequence)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Tensor => "a tensor",
            Form::Optional => "an optional tensor",
            Form::Sequence => "a sequence",
            Form::OptionalSequence => "an optional sequence",
        })
    }
}

/// An input or output with its declared type.
#[derive(Clone, PartialEq, Debug)]
pub struct ValueSignature {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions; `None` where not even the rank is declared.
    pub shape: Option<Shape>,
    /// Whether it is a tensor, or has such.
    pub form: Form,
}

impl ValueSignature {
    /// The type of its tensors, as text.
    pub fn tensor(&self) -> String {
        match &self.shape {
            Some(shape) => format!("{}{shape}", self.dtype),
            None => format!("{} of any rank", self.dtype),
        }
    }
}

/// What can be said of the model in these bytes; `file` is for diagnostics.
///
/// # Errors
/// If it is no model, or inputs or outputs are not tensors of known types, or optional values and sequences of such.
pub fn signature(bytes: &[u8], file: &str) -> Result<Signature, Vec<Diagnostic>> {
    let model = model::parse(bytes, file)?;
    let graph = model.graph.get_or_default();
    let mut problems = vec![];
    let mut known = |declared: Result<ValueSignature, Problem>| declared.map_err(|p| problems.push(p.at(file))).ok();
    let inputs = model::true_inputs(graph).into_iter().filter_map(|v| known(binding::declared(v))).collect();
    // Some writers leave out the types of outputs, which follow from the graph.
    let outputs = graph.output.iter().filter(|o| o.type_.value.is_some());
    let outputs = outputs.filter_map(|o| known(binding::declared_output(o))).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut s = Signature {
        name: graph.name.clone(),
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        ir_version: model.ir_version,
        opset: model::opset(&model.opset_import).unwrap_or(0),
        domains: model.opset_import.iter().filter(|o| !model::is_default(&o.domain)).map(|o| (o.domain.clone(), o.version)).collect(),
        inputs,
        outputs,
        operators: BTreeMap::new(),
        n_parameters: 0,
        parameter_bytes: 0,
    };
    count_graph(graph, &mut s);
    model.functions.iter().for_each(|f| count_nodes(&f.node, &mut s));
    Ok(s)
}

fn count_graph(g: &GraphProto, s: &mut Signature) {
    g.initializer.iter().for_each(|t| count_tensor(t, s));
    count_nodes(&g.node, s);
}

fn count_tensor(t: &TensorProto, s: &mut Signature) {
    if let Ok((_, n)) = super::initializer::extents(&t.dims) {
        s.n_parameters = s.n_parameters.saturating_add(n as u64);
        let bytes = super::initializer::dtype(t.data_type).map_or(0, |d| d.size_bytes() as u64);
        s.parameter_bytes = s.parameter_bytes.saturating_add(n as u64 * bytes);
    }
}

fn count_nodes(nodes: &[NodeProto], s: &mut Signature) {
    for n in nodes {
        let name = model::operator_name(n);
        *s.operators.entry(name).or_default() += 1;
        for a in &n.attribute {
            let AttributeProto { g, graphs, t, .. } = a;
            // Some writers keep all weights in nodes.
            t.iter().filter(|_| n.op_type == "Constant").for_each(|t| count_tensor(t, s));
            g.iter().chain(graphs).for_each(|g| count_graph(g, s));
        }
    }
}

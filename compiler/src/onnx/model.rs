//! A model: its message, its operator sets, its graph's inputs, initializers and outputs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use onnx_protobuf::{FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};

use super::attribute::Arguments;
use super::counts::Counts;
use super::problems::{Problem, Problems};
use super::region::Region;
use super::scope::{Known, Pool, Scopes};
use super::sizes::Varying;
use super::{Defaults, ImportOptions, Imported, MAX_OPSET, MIN_OPSET, binding, function, initializer, order};
use crate::diagnostic::{Diagnostic, Severity};
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// The graph of the model in these bytes.
///
/// Symbolic dimensions that nothing needs to know stay in its types.
///
/// # Errors
/// All problems of the model.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Graph, Vec<Diagnostic>> {
    Ok(import_model(parse(bytes, &options.file)?, options)?.graph)
}

/// The graph of a model, and the values of inputs that it gives.
pub(super) fn import_model(mut model: ModelProto, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let weights = take_weights(&mut model, options);
    let importer = read(&model, weights, options);
    if !importer.problems.is_empty() {
        return Err(importer.problems.into_list());
    }
    let Importer { graph, defaults, shapes, sequences, .. } = importer;
    Ok(Imported { graph, defaults, shapes, sequences })
}

/// The small inputs whose values decide a shape or a branch, so that the model can be imported once they are among
/// [`ImportOptions::constants`]. There may be more behind them.
///
/// # Errors
/// If the bytes are no model.
pub fn deciding_inputs(bytes: &[u8], options: &ImportOptions) -> Result<BTreeSet<String>, Vec<Diagnostic>> {
    let mut model = parse(bytes, &options.file)?;
    let weights = take_weights(&mut model, options);
    Ok(read(&model, weights, options).deciding)
}

/// The initializers of the graph, each of which leaves the message as it becomes a tensor.
fn take_weights(model: &mut ModelProto, options: &ImportOptions) -> Vec<Result<Tensor, Problem>> {
    let Some(graph) = model.graph.as_mut() else { return vec![] };
    let take = |t: &mut TensorProto| {
        let tensor = initializer::decode(t, options.folder.as_deref());
        *t = TensorProto { name: std::mem::take(&mut t.name), ..TensorProto::default() };
        tensor
    };
    graph.initializer.iter_mut().map(take).collect()
}

fn read<'m>(model: &'m ModelProto, weights: Vec<Result<Tensor, Problem>>, options: &'m ImportOptions) -> Importer<'m> {
    let mut importer = Importer {
        options,
        graph: Graph::new(match model.graph.name.as_str() {
            "" => "model",
            name => name,
        }),
        scopes: Scopes::default(),
        problems: Problems::default(),
        pool: Pool::default(),
        regions: vec![],
        n_pools: 1,
        functions: HashMap::new(),
        calls: vec![],
        unbound: false,
        deciding: BTreeSet::new(),
        size: 0,
        fold_budget: super::node::FOLD_BUDGET,
        defaults: Defaults::new(),
        varying: HashMap::new(),
        counts: Counts::default(),
        shapes: vec![],
        sequences: vec![],
        n_unrolled: 0,
    };
    importer.model(model, weights);
    if importer.unbound {
        for d in binding::unbound_dimensions(&importer.graph, &options.file) {
            importer.problems.push(d);
        }
    }
    importer
}

/// The message in these bytes, with a graph.
pub(super) fn parse(bytes: &[u8], file: &str) -> Result<ModelProto, Vec<Diagnostic>> {
    let invalid = |why: String| vec![Diagnostic::new("invalid-model", Severity::Input, file, why)];
    let model = ModelProto::parse_from_bytes(bytes).map_err(|e| invalid(format!("this is not a whole ONNX file: {e}")))?;
    if model.graph.is_none() {
        return Err(invalid("this is not an ONNX model: it has no graph".to_owned()));
    }
    Ok(model)
}

/// The operator that a node names: with its domain, unless that is the default one.
pub(super) fn operator_name(n: &NodeProto) -> String {
    if is_default(&n.domain) { n.op_type.clone() } else { format!("{}.{}", n.domain, n.op_type) }
}

/// Whether a domain is the default one.
pub(super) fn is_default(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// The version of the default operator set.
pub(super) fn opset(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().filter(|o| is_default(&o.domain)).map(|o| o.version).max()
}

/// The inputs that are not initializers.
pub(super) fn true_inputs(g: &GraphProto) -> Vec<&ValueInfoProto> {
    let initializers: HashSet<&str> = g.initializer.iter().map(|t| t.name.as_str()).collect();
    g.input.iter().filter(|i| !initializers.contains(i.name.as_str())).collect()
}

/// What is the same for all nodes of a graph or function.
pub(super) struct Frame {
    /// Version of the default operator set.
    pub(super) opset: i64,
    /// Attributes that the function was called with.
    pub(super) arguments: Arguments,
    /// What names of values begin with in the result.
    pub(super) prefix: String,
}

/// The state of an import.
pub(super) struct Importer<'m> {
    pub(super) options: &'m ImportOptions,
    pub(super) graph: Graph,
    pub(super) scopes: Scopes,
    pub(super) problems: Problems,
    pub(super) pool: Pool,
    /// The graphs around the body that is being read, outermost first.
    pub(super) regions: Vec<Region>,
    /// Graphs so far.
    pub(super) n_pools: u32,
    pub(super) functions: HashMap<function::Key, &'m FunctionProto>,
    /// The functions that are being inlined.
    pub(super) calls: Vec<function::Key>,
    /// Whether an unbound dimension stopped something.
    pub(super) unbound: bool,
    /// Inputs whose values must be known.
    pub(super) deciding: BTreeSet<String>,
    /// Bytes of names of the inlined nodes so far, and a constant for each.
    pub(super) size: usize,
    /// Elements that constant folding may still compute.
    pub(super) fold_budget: usize,
    /// Values of inputs that stay inputs.
    defaults: Defaults,
    /// Values with extents that data decides.
    pub(super) varying: HashMap<Value, Varying>,
    /// What says how much of them is meant, once.
    pub(super) counts: Counts,
    /// Outputs with such extents, and the outputs that are their shapes.
    pub(super) shapes: Vec<(usize, usize)>,
    /// Outputs that are elements of one.
    pub(super) sequences: Vec<Range<usize>>,
    /// Iterations that are being written out.
    pub(super) n_unrolled: usize,
}

impl<'m> Importer<'m> {
    fn model(&mut self, model: &'m ModelProto, weights: Vec<Result<Tensor, Problem>>) {
        let version = opset(&model.opset_import);
        let needs_version = model.graph.node.iter().any(|n| is_default(&n.domain));
        let opset = if version.is_some() || needs_version { self.opset(version, "the model") } else { MAX_OPSET };
        for f in &model.functions {
            self.functions.insert(function::Key::of(&f.domain, &f.name, &f.overload), f);
        }
        let frame = Frame { opset, arguments: Arguments::new(), prefix: String::new() };
        let g = &*model.graph;
        self.scopes.push(false, 0);
        self.inputs(g);
        let weights = self.take_defaults(g, weights);
        self.initializers(weights, &frame);
        self.sparse_initializers(g);
        self.nodes(&g.node, &output_names(g), &frame);
        self.outputs(g);
    }

    /// A problem of the model as a whole.
    pub(super) fn problem(&mut self, p: Problem) {
        self.problems.push(p.at(&self.options.file));
    }

    /// A version of the default operator set, checked.
    pub(super) fn opset(&mut self, version: Option<i64>, what: &str) -> i64 {
        let Some(version) = version else {
            self.problem(Problem::invalid(format!("{what} does not say its operator set")));
            return MAX_OPSET;
        };
        if !(MIN_OPSET..=MAX_OPSET).contains(&version) {
            let message = format!("opset {version} of {what} is not between {MIN_OPSET} and {MAX_OPSET}");
            self.problem(Problem::unsupported("unsupported-opset", message).with_help("export the model for another operator set"));
        }
        version
    }

    /// Keeps the initializers that are values of inputs which stay inputs, and gives the others with their names.
    fn take_defaults<'g>(&mut self, g: &'g GraphProto, weights: Vec<Result<Tensor, Problem>>) -> Vec<(&'g str, Result<Tensor, Problem>)> {
        let declared: HashSet<&str> = g.input.iter().map(|v| v.name.as_str()).collect();
        let mut rest = vec![];
        for (t, weight) in g.initializer.iter().zip(weights) {
            match weight {
                Ok(value) if self.options.variables.contains(&t.name) && declared.contains(t.name.as_str()) => {
                    let fits = matches!(self.scopes.find(&t.name), Some((_, Known::Value(v))) if *self.graph.ty(*v) == value.ty());
                    if !fits {
                        self.problem(Problem::invalid(format!("initializer `{}` is `{}`, unlike the input", t.name, value.ty())));
                    }
                    self.defaults.insert(t.name.clone(), value);
                }
                weight => rest.push((t.name.as_str(), weight)),
            }
        }
        rest
    }

    /// Defines the initializers of a graph.
    pub(super) fn initializers<'g>(&mut self, values: impl IntoIterator<Item = (&'g str, Result<Tensor, Problem>)>, frame: &Frame) {
        for (name, value) in values {
            let known = match value {
                Ok(tensor) => Known::constant(&format!("{}{name}", frame.prefix), tensor),
                Err(p) => {
                    self.problem(Problem { message: format!("initializer `{name}`: {}", p.message), ..p });
                    Known::Failed
                }
            };
            if !self.scopes.define(name, known) {
                self.problem(Problem::invalid(format!("two initializers are named `{name}`")));
            }
        }
    }

    /// Refuses sparse initializers.
    pub(super) fn sparse_initializers(&mut self, g: &GraphProto) {
        for t in &g.sparse_initializer {
            let name = &t.values.name;
            let message = format!("initializer `{name}` is sparse");
            self.problem(Problem::unsupported("unsupported-initializer", message).with_help("store it as a dense tensor"));
            self.scopes.define(name, Known::Failed);
        }
    }

    /// Reads the nodes of a graph or function.
    pub(super) fn nodes(&mut self, nodes: &[NodeProto], outputs: &[&str], frame: &Frame) {
        let mut names = HashSet::new();
        for name in nodes.iter().flat_map(|n| &n.output).filter(|name| !name.is_empty()) {
            if !names.insert(name.as_str()) || self.scopes.is_local(name) {
                self.problem(Problem::invalid(format!("`{name}` is defined twice")));
            }
        }
        let order = order::order(nodes, outputs.iter().copied(), &frame.arguments);
        if let Some(&first) = order.cyclic.first() {
            let names: Vec<&str> = order.cyclic.iter().take(4).filter_map(|&i| nodes[i].output.first()).map(String::as_str).collect();
            let more = if order.cyclic.len() > 4 { ", ..." } else { "" };
            let message = format!("the graph has a cycle: `{}`{more} wait for each other", names.join("`, `"));
            self.problems.push(Problem::invalid(message).at(self.place(&nodes[first], frame)));
            for name in order.cyclic.iter().flat_map(|&i| &nodes[i].output) {
                self.scopes.define(name, Known::Failed);
            }
        }
        for i in order.live {
            self.node(&nodes[i], frame);
        }
    }
}

/// The names of a graph's outputs.
pub(super) fn output_names(g: &GraphProto) -> Vec<&str> {
    g.output.iter().map(|o| o.name.as_str()).collect()
}

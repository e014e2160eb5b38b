//! Model files to graphs: `.onnx`, and `.graph` text with its `.blobs` beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Severity};
use crate::error::Error;
use crate::graph::{self, Graph, Value};
use crate::onnx;
pub use crate::onnx::{Form, element_name};
use crate::tensor::{DType, Dim, Shape, Tensor, Type, complete, relations};

/// A model as it was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file, for diagnostics.
    pub file: String,
    /// The name that everything generated derives from.
    pub title: String,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: String,
    /// The graph, dimensions bound.
    pub graph: Graph,
    /// Values that the file gives inputs of [`Config::states`].
    pub defaults: BTreeMap<String, Tensor>,
    /// Outputs of which data decides how much is meant, each with the output that is its shape: by index.
    pub shapes: Vec<(usize, usize)>,
    /// Outputs that are the elements of one output of the model, a sequence: by index, in order.
    pub sequences: Vec<Range<usize>>,
}

/// The inputs and outputs of a model file, before dimensions are bound.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    /// The inputs, in order.
    pub inputs: Vec<Declared>,
    /// The outputs that have types, in order.
    pub outputs: Vec<Declared>,
    /// How often each operator occurs in the file.
    pub operators: BTreeMap<String, usize>,
    /// Elements of all constants of the file.
    pub n_parameters: u64,
    /// Bytes of all constants of the file.
    pub parameter_bytes: u64,
}

/// An input or output as a model file declares it.
#[derive(Clone, PartialEq, Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions; `None` where not even the rank is declared.
    pub shape: Option<Shape>,
    /// Whether it is a tensor, or has such: then type and shape are theirs.
    pub form: Form,
}

impl Declared {
    /// Whether a value of these extents may be what is declared.
    pub fn fits(&self, dims: &[usize]) -> bool {
        let Some(shape) = &self.shape else { return true };
        shape.rank() == dims.len() && shape.0.iter().zip(dims).all(|(d, &n)| d.fixed().is_none_or(|m| m == n))
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Tensor => {}
            form => write!(f, "{form} of ")?,
        }
        match &self.shape {
            Some(shape) => write!(f, "{}{shape}", self.dtype),
            None => write!(f, "{} of any rank", self.dtype),
        }
    }
}

/// Reads a model and binds its dimensions.
///
/// # Errors
/// Every problem that reading finds.
pub fn read(path: &Path, config: &Config) -> Result<Source, Error> {
    let title = match &config.name {
        Some(name) => name.clone(),
        None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let hash = hash(path)?;
    let onnx::Imported { graph, defaults, shapes, sequences } = if is_text(path) {
        onnx::Imported { graph: bind(&read_text(path)?, config, path)?, defaults: BTreeMap::new(), shapes: vec![], sequences: vec![] }
    } else {
        onnx::import_file(path, &import_options(config)).map_err(Error::Model)?
    };
    Ok(Source { file: path.display().to_string(), title, hash, graph, defaults, shapes, sequences })
}

/// The small inputs of a model whose values decide shapes: it may compile once they are among [`Config::constants`].
///
/// # Errors
/// If the file cannot be read.
pub fn deciding_inputs(path: &Path, config: &Config) -> Result<BTreeSet<String>, Error> {
    if is_text(path) {
        return Ok(BTreeSet::new());
    }
    let bytes = fs::read(path).map_err(|e| Error::read(path, e))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let options = onnx::ImportOptions { folder: Some(folder.to_owned()), ..import_options(config) };
    onnx::deciding_inputs(&bytes, &options).map_err(Error::Model)
}

fn import_options(config: &Config) -> onnx::ImportOptions {
    let (bindings, input_shapes, sequences) = (config.bindings.clone(), config.input_shapes.clone(), config.sequences.clone());
    let variables = config.states.iter().map(|(input, _)| input.clone()).collect();
    onnx::ImportOptions {
        bindings,
        relations: config.relations.clone(),
        input_shapes,
        sequences,
        constants: config.constants.clone(),
        at_most: config.at_most.clone(),
        variables,
        computed: config.computed.clone(),
        any_size: !config.dynamic.is_empty(),
        ..onnx::ImportOptions::default()
    }
}

/// Reads only what a model's callers see.
///
/// # Errors
/// Every problem that reading finds.
pub fn signature(path: &Path) -> Result<Signature, Error> {
    if is_text(path) {
        let graph = read_text(path)?;
        let declared = |name: &str, v: Value| Declared {
            name: name.to_owned(),
            dtype: graph.ty(v).dtype,
            shape: Some(graph.ty(v).shape.clone()),
            form: Form::Tensor,
        };
        let inputs = graph.inputs().iter().map(|&v| declared(graph.name_of(v), v)).collect();
        let outputs = graph.output_names().iter().zip(graph.outputs()).map(|(name, &v)| declared(name, v)).collect();
        let mut operators = BTreeMap::new();
        for op in graph.operators() {
            *operators.entry(op.schema().full_name().into_owned()).or_default() += 1;
        }
        let constants =
            graph.order().into_iter().filter_map(|n| graph.node(n).constant().map(|t| (t.len() as u64, t.bytes().len() as u64)));
        let (n_parameters, parameter_bytes) = constants.fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
        return Ok(Signature { inputs, outputs, operators, n_parameters, parameter_bytes });
    }
    let bytes = fs::read(path).map_err(|e| Error::read(path, e))?;
    let signature = onnx::signature(&bytes, &path.display().to_string()).map_err(Error::Model)?;
    let declared = |v: onnx::ValueSignature| Declared { name: v.name, dtype: v.dtype, shape: v.shape, form: v.form };
    Ok(Signature {
        inputs: signature.inputs.into_iter().map(declared).collect(),
        outputs: signature.outputs.into_iter().map(declared).collect(),
        operators: signature.operators,
        n_parameters: signature.n_parameters,
        parameter_bytes: signature.parameter_bytes,
    })
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "graph")
}

fn read_text(path: &Path) -> Result<Graph, Error> {
    let text = fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    let blobs_path = path.with_extension("blobs");
    let blobs = match fs::read(&blobs_path) {
        Ok(bytes) => graph::read_blobs(&bytes).map_err(|e| Error::read(&blobs_path, e))?,
        Err(_) => graph::Blobs::new(),
    };
    let place = path.display().to_string();
    let graph = graph::parse_with(&text, &blobs)
        .map_err(|e| Error::Model(vec![Diagnostic::new("bad-text", Severity::Input, &place, e.to_string())]))?;
    graph::verify(&graph).map_err(|problems| {
        Error::Model(problems.iter().map(|p| Diagnostic::new("bad-graph", Severity::Input, &place, p.to_string())).collect())
    })?;
    Ok(graph)
}

fn hash(path: &Path) -> Result<String, Error> {
    let mut file = fs::File::open(path).map_err(|e| Error::read(path, e))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(|e| Error::read(path, e))?;
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// The graph with the inputs' shapes of the configuration, types inferred again.
fn bind(old: &Graph, config: &Config, path: &Path) -> Result<Graph, Error> {
    if config.bindings.is_empty() && config.input_shapes.is_empty() {
        return Ok(old.clone());
    }
    let place = path.display().to_string();
    let refuse = |message: String| Error::Model(vec![Diagnostic::new("bad-binding", Severity::Input, &place, message)]);
    for name in config.input_shapes.keys().chain(config.sequences.keys()) {
        if !old.inputs().iter().any(|&v| old.name_of(v) == name) {
            return Err(refuse(format!("`--input-shape {name}=...`: the model has no input `{name}`")));
        }
    }
    let known: BTreeSet<String> = onnx::unbound_symbols(old).into_iter().collect();
    if let Some(name) = config.bindings.keys().chain(config.relations.keys()).find(|name| !known.contains(*name)) {
        let list: Vec<String> = known.iter().map(|s| format!("`{s}`")).collect();
        let has =
            if list.is_empty() { "no symbolic dimensions".to_owned() } else { format!("the symbolic dimensions {}", list.join(", ")) };
        return Err(refuse(format!("there is no dimension `{name}`; the model has {has}")));
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let mut config = config.clone();
    complete(&mut config.bindings, &relations(&names, &config.relations));
    let mut types = vec![];
    for &input in old.inputs() {
        types.push(input_type(old.name_of(input), old.ty(input), &config).map_err(refuse)?);
    }
    graph::retype(old, &types)
        .map_err(|(line, e)| Error::Model(vec![Diagnostic::new("bad-shape", Severity::Input, &place, e.to_string()).with_line(line)]))
}

fn input_type(name: &str, ty: &Type, config: &Config) -> Result<Type, String> {
    let Some(shape) = config.input_shapes.get(name) else {
        let dims: Vec<Dim> = ty.shape.0.iter().map(|d| bound(d, config)).collect();
        return Ok(ty.with_dims(dims));
    };
    let fits = shape.len() == ty.rank()
        && ty.shape.0.iter().zip(shape).all(|(d, &n)| match bound(d, config) {
            Dim::Fixed(m) => m == n,
            _ => true,
        });
    if !fits {
        return Err(format!("input `{name}` is `{ty}`, which {shape:?} does not fit"));
    }
    Ok(ty.with_dims(shape.iter().copied()))
}

fn bound(dim: &Dim, config: &Config) -> Dim {
    match dim {
        Dim::Symbol(s) => config.bindings.get(&**s).map_or_else(|| dim.clone(), |&n| Dim::Fixed(n)),
        _ => dim.clone(),
    }
}

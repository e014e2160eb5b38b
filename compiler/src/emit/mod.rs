//! Programs to files: object, static library, C header, Rust module, and what build systems read.
//!
//! In: a [`Program`] and the [`Interface`] that callers see. Out: texts and bytes; [`files`] is the only part that writes.

pub mod archive;
pub mod bindings;
pub mod build_files;
mod cpu_check;
pub mod files;
pub mod header;
mod model;
pub mod names;
pub mod object;
pub mod pool;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use thiserror::Error;

use crate::codegen::program::{ALIGN_BYTES, IoBuffer};
use crate::codegen::{CodegenError, Machine, Program};
use crate::tensor::{DType, Parameter, Size, n_elements};

/// Why files could not be made.
#[derive(Debug, Error)]
pub enum EmitError {
    /// Machine code could not be made.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// The object file could not be put together.
    #[error("the object file cannot be written: {0}")]
    Object(String),
    /// A file could not be written.
    #[error("`{path}` cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// What callers of a compiled model see.
#[derive(Clone, Debug)]
pub struct Interface {
    /// A C identifier; files, functions and macros derive from it.
    pub name: String,
    /// The model's own name.
    pub title: String,
    /// Inputs, in the order of the parameters; those that are states are no parameters.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of the parameters; the next values of states are no parameters.
    pub outputs: Vec<Port>,
    /// The parts of the state block.
    pub states: Vec<StatePort>,
    /// Size of the state block; zero where there is no state.
    pub state_bytes: usize,
    /// Size of the workspace, at least one alignment unit, so that it can be an array.
    pub workspace_bytes: usize,
    /// Where sizes vary: bytes of it that a run touches, the greatest of these.
    pub workspace_needs: Vec<Size>,
    /// Size of the weights.
    pub constant_bytes: usize,
    /// What a caller chooses for every run, and the names of the fields that hold it.
    pub varying: Vec<(Parameter, String)>,
    /// The most threads that a run uses.
    pub max_threads: usize,
    /// SHA-256 of the source file, in hexadecimal.
    pub source_hash: String,
    /// Version of the compiler.
    pub version: String,
    /// What it is compiled for.
    pub machine: Machine,
}

/// An input or an output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// The model's name for it.
    pub name: String,
    /// The parameter's name.
    pub ident: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; the greatest, where they vary.
    pub dims: Vec<usize>,
    /// The extents of one run where some vary, else nothing.
    pub sizes: Vec<Size>,
    /// Where the extents are the greatest ones: the index into [`Interface::outputs`] of the actual ones.
    pub shape_in: Option<usize>,
}

/// A part of the state block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatePort {
    /// Index into [`Interface::inputs`].
    pub input: usize,
    /// Index into [`Interface::outputs`] of its next value.
    pub output: usize,
    /// Its place in the block.
    pub offset: usize,
    /// Whether it begins with other values than zeros.
    pub has_initial: bool,
}

impl Port {
    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        n_elements(&self.dims)
    }

    /// Size of the buffer.
    pub fn bytes(&self) -> usize {
        self.n_elements() * self.dtype.size_bytes()
    }

    /// Its type as in our text forms: `f32[1,10]`.
    pub fn ty(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(usize::to_string).collect();
        format!("{}[{}]", self.dtype, dims.join(","))
    }

    /// The extents of a run with these values of the parameters.
    pub fn dims_of_run(&self, parameters: &[i64]) -> Vec<usize> {
        if self.sizes.is_empty() {
            return self.dims.clone();
        }
        self.sizes.iter().map(|s| usize::try_from(s.value(parameters)).unwrap_or(0)).collect()
    }

    /// The number of elements of one run.
    pub fn n_elements_of_run(&self) -> Size {
        match self.sizes[..] {
            [] => Size::Constant(self.n_elements() as i64),
            _ => self.sizes.iter().fold(Size::Constant(1), |n, s| n.product(s)),
        }
    }

    /// Its type with the names of the sizes: `f32[batch,10]`.
    pub fn sized_ty(&self, parameters: &[Parameter]) -> String {
        if self.sizes.is_empty() {
            return self.ty();
        }
        let dims: Vec<String> = self.sizes.iter().map(|s| s.text(parameters)).collect();
        format!("{}[{}]", self.dtype, dims.join(","))
    }
}

/// How a language writes what the parts of a size are.
pub(crate) struct Language<'a> {
    /// A parameter.
    pub(crate) parameter: &'a dyn Fn(u32) -> String,
    /// A quotient, rounded toward minus infinity.
    pub(crate) floor: &'a dyn Fn(&str, i64) -> String,
    /// The greater (or else lesser) of an expression and a number.
    pub(crate) extremum: &'a dyn Fn(&str, bool, i64) -> String,
}

/// A size as an expression of C or of Rust.
pub(crate) fn size_code(size: &Size, language: &Language<'_>) -> String {
    let of = |s: &Size| size_code(s, language);
    match size {
        Size::Constant(c) => c.to_string(),
        Size::Parameter(p) => (language.parameter)(*p),
        Size::Sum(a, b) => format!("({} + {})", of(a), of(b)),
        Size::Product(a, b) => format!("({} * {})", of(a), of(b)),
        Size::Times(a, c) => format!("({c} * {})", of(a)),
        Size::Floor(a, d) => (language.floor)(&of(a), *d),
        Size::AtLeast(a, c) => (language.extremum)(&of(a), true, *c),
        Size::AtMost(a, c) => (language.extremum)(&of(a), false, *c),
    }
}

/// Names, types and extents of inputs or outputs, before they have parameters' names.
pub type Signature = Vec<(String, DType, Vec<usize>)>;

impl Interface {
    /// The interface of a program; `title` is the model's name, from which all others derive.
    pub fn new(
        title: &str,
        inputs: Signature,
        outputs: Signature,
        program: &Program,
        source_hash: String,
        version: &str,
        machine: &Machine,
    ) -> Self {
        let wanted: Vec<&str> = inputs.iter().chain(&outputs).map(|p| p.0.as_str()).collect();
        let name = names::model(title);
        let mut idents = names::parameters(&name, &wanted).into_iter();
        let greatest: Vec<i64> = program.parameters.iter().map(|p| p.high).collect();
        let mut ports = |ports: Signature, buffers: &[IoBuffer], is_parameter: &dyn Fn(usize) -> bool| -> Vec<Port> {
            let port = |(i, (name, dtype, dims)): (usize, (String, DType, Vec<usize>))| {
                let ident = match idents.next().unwrap_or_default() {
                    // With state the functions have a parameter of this name.
                    state if state == "state" && is_parameter(i) && !program.states.is_empty() => "state_".to_owned(),
                    ident => ident,
                };
                let sizes = buffers.get(i).map_or_else(Vec::new, |b| b.dims.clone());
                let dims = if sizes.is_empty() { dims } else { sizes.iter().map(|s| s.value(&greatest) as usize).collect() };
                Port { name, ident, dtype, dims, sizes, shape_in: None }
            };
            ports.into_iter().enumerate().map(port).collect()
        };
        let fields: Vec<&str> = program.parameters.iter().map(|p| p.name.as_str()).collect();
        let varying = program.parameters.iter().cloned().zip(names::parameters(&name, &fields)).collect();
        Interface {
            name,
            title: title.to_owned(),
            inputs: ports(inputs, &program.inputs, &|i| program.state_of_input(i).is_none()),
            outputs: ports(outputs, &program.outputs, &|j| program.state_of_output(j).is_none()),
            states: program
                .states
                .iter()
                .map(|s| StatePort { input: s.input, output: s.output, offset: s.offset, has_initial: s.initial.is_some() })
                .collect(),
            state_bytes: program.state_bytes(),
            varying,
            workspace_bytes: program.workspace_bytes.max(ALIGN_BYTES),
            workspace_needs: program.workspace_needs(),
            max_threads: program.workers.max(1),
            constant_bytes: program.constants.iter().map(|c| c.bytes.as_slice().len()).sum(),
            source_hash,
            version: version.to_owned(),
            machine: machine.clone(),
        }
    }

    /// Where a port's extents are the greatest ones, a sentence about the actual ones.
    pub(crate) fn actual_shape(&self, port: &Port) -> Option<String> {
        let shape = &self.outputs[port.shape_in?].ident;
        Some(format!("at most; {shape} says its shape, and its elements are dense and row-major in that"))
    }

    /// The inputs that are parameters.
    pub fn input_parameters(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().enumerate().filter(|(i, _)| self.states.iter().all(|s| s.input != *i)).map(|(_, p)| p)
    }

    /// The outputs that are parameters.
    pub fn output_parameters(&self) -> impl Iterator<Item = &Port> {
        self.outputs.iter().enumerate().filter(|(j, _)| self.states.iter().all(|s| s.output != *j)).map(|(_, p)| p)
    }

    /// Inputs, then outputs, that are parameters, each with whether it is an output.
    pub fn parameters(&self) -> impl Iterator<Item = (&Port, bool)> {
        self.input_parameters().map(|p| (p, false)).chain(self.output_parameters().map(|p| (p, true)))
    }

    /// The inputs that are parts of the state block, with the name of the next value and the part.
    pub fn state_ports(&self) -> impl Iterator<Item = (&Port, &str, &StatePort)> {
        self.states.iter().map(|s| (&self.inputs[s.input], self.outputs[s.output].name.as_str(), s))
    }

    /// What a caller chooses for every run.
    pub(crate) fn sizes(&self) -> Vec<Parameter> {
        self.varying.iter().map(|p| p.0.clone()).collect()
    }

    /// What every generated file says about its origin.
    pub(crate) fn origin(&self) -> String {
        format!("{}: compiled by Tinsmith {} for {}", names::in_comment(&self.title), self.version, self.machine)
    }
}

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

use crate::codegen::program::ALIGN_BYTES;
use crate::codegen::{CodegenError, Machine, Program};
use crate::tensor::{DType, n_elements};

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
    /// Inputs, in the order of the parameters.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of the parameters.
    pub outputs: Vec<Port>,
    /// Size of the workspace, at least one alignment unit, so that it can be an array.
    pub workspace_bytes: usize,
    /// Size of the weights.
    pub constant_bytes: usize,
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
    /// Extents, outermost first.
    pub dims: Vec<usize>,
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
        let mut ports = |ports: Signature| -> Vec<Port> {
            let port = |(name, dtype, dims)| Port { name, ident: idents.next().unwrap_or_default(), dtype, dims };
            ports.into_iter().map(port).collect()
        };
        Interface {
            name,
            title: title.to_owned(),
            inputs: ports(inputs),
            outputs: ports(outputs),
            workspace_bytes: program.workspace_bytes.max(ALIGN_BYTES),
            max_threads: program.workers.max(1),
            constant_bytes: program.constants.iter().map(|c| c.bytes.as_slice().len()).sum(),
            source_hash,
            version: version.to_owned(),
            machine: machine.clone(),
        }
    }

    /// Inputs, then outputs.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().chain(&self.outputs)
    }

    /// What every generated file says about its origin.
    pub(crate) fn origin(&self) -> String {
        format!("{}: compiled by Tinsmith {} for {}", names::in_comment(&self.title), self.version, self.machine)
    }
}

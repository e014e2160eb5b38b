//! What can go wrong for a user, and the exit status that says so.

use std::path::PathBuf;

use thiserror::Error;

use crate::codegen::{CodegenError, Status};
use crate::diagnostic::{Diagnostic, Severity};
use crate::emit::EmitError;

/// Why a model was not compiled or run.
#[derive(Debug, Error)]
pub enum Error {
    /// Problems of the model, all that one stage found.
    #[error("{}", .0.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n"))]
    Model(Vec<Diagnostic>),
    /// A file could not be read.
    #[error("`{path}` cannot be read: {message}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The arguments or arrays do not fit each other or the model.
    #[error("{0}")]
    Usage(String),
    /// Machine code could not be made.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// Files could not be made.
    #[error(transparent)]
    Emit(EmitError),
    /// The compiled model returned a status.
    #[error("the model returned status {code}: {status}", code = .0.0, status = .0)]
    Run(#[from] Status),
    /// A broken invariant of the compiler.
    #[error("this is a bug in Tinsmith: {0}")]
    Bug(String),
}

impl From<EmitError> for Error {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Codegen(e) => Error::Codegen(e),
            other => Error::Emit(other),
        }
    }
}

impl From<Vec<Diagnostic>> for Error {
    fn from(problems: Vec<Diagnostic>) -> Self {
        Error::Model(problems)
    }
}

impl Error {
    /// A file that cannot be read, and why.
    pub fn read(path: impl Into<PathBuf>, why: impl ToString) -> Self {
        Error::Read { path: path.into(), message: why.to_string() }
    }

    /// The process's exit status: 1 for a wrong result, 2 for a model that cannot be compiled, 3 for bad usage or input, 4
    /// for a bug.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Model(problems) if problems.iter().any(|d| d.severity == Severity::Input) => 3,
            Error::Model(_) | Error::Codegen(CodegenError::Unsupported { .. }) => 2,
            Error::Run(_) => 1,
            Error::Read { .. } | Error::Usage(_) | Error::Emit(EmitError::Write { .. }) => 3,
            Error::Codegen(CodegenError::Target { .. } | CodegenError::Host { .. }) => 3,
            Error::Codegen(_) | Error::Emit(_) | Error::Bug(_) => 4,
        }
    }

    /// The diagnostics, where the error has them.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Error::Model(problems) => problems,
            _ => &[],
        }
    }
}

//! Tinsmith: ONNX models to native static libraries, ahead of time.
//!
//! [`build`] is for build scripts; [`compile`](compile()) gives an [`Artifact`], which can be written or run in this process.
//!
//! ```no_run
//! let config = tinsmith::Config { cpu: Some("x86-64-v3".to_owned()), ..tinsmith::Config::default() };
//! let artifact = tinsmith::compile("models/detector.onnx".as_ref(), &config)?;
//! artifact.write("out".as_ref(), &[tinsmith::Output::Library])?;
//! # Ok::<(), tinsmith::Error>(())
//! ```

mod build_script;
pub mod codegen;
mod compile;
pub mod config;
pub mod diagnostic;
pub mod emit;
mod error;
pub mod expr;
pub mod graph;
mod lexer;
pub mod lower;
pub mod nest;
pub mod onnx;
pub mod ops;
pub mod passes;
pub mod pipeline;
pub mod report;
pub mod schedule;
pub mod source;
pub mod state;
pub mod steps;
pub mod tensor;

pub use build_script::{build, build_with};
pub use compile::{Artifact, Output, VERSION, Written, compile, compile_source, compile_to};
pub use config::Config;
pub use error::Error;
pub use tinsmith_runtime::Pool;
pub use tinsmith_runtime::abi::Pool as Hook;

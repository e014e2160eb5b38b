//! The C types of a compiled model, for Rust code that calls one without its generated module.

pub use tinsmith_targets::abi::{ABI_VERSION, DTypeCode, Model, Pool, StatusCode, Tensor};

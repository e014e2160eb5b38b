//! What is linked into the product, or used beside it from Rust: status codes, descriptions of models, the CPU check, and
//! the shape of a thread pool.
//!
//! No dependencies but the data of `tinsmith-targets`, no `std`, no allocation, no state.
#![no_std]

pub mod abi;
pub mod cpu;
mod status;

pub use status::Status;

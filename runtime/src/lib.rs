//! What is linked into the product, or used beside it from Rust: status codes, descriptions of models, the CPU check, and
//! a thread pool.
//!
//! No dependencies but the data of `tinsmith-targets` and the C library, no `std`, no state.
#![no_std]
#![cfg_attr(test, allow(clippy::duplicate_mod, reason = "the model checker has a copy of the pool of its own"))]

pub mod abi;
pub mod cpu;
#[cfg(target_os = "linux")]
mod pool;
mod status;

#[cfg(target_os = "linux")]
pub use pool::Pool;
pub use status::Status;

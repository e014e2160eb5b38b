//! The C types of a compiled model, for Rust code that calls one without its generated module.

use core::ffi::c_void;

pub use tinsmith_targets::abi::{ABI_VERSION, DTypeCode, Model, StatusCode, Tensor};

/// Runs the iterations of a loop on several threads: `tinsmith_pool` in C.
///
/// A model that is given none runs on the caller's thread only.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pool {
    /// The pool's own data, passed to `parallel_for`.
    pub context: *mut c_void,
    /// Number of threads that `parallel_for` uses, the caller's included.
    pub n_threads: u32,
    /// Calls `body(data, i)` once for every `i` in `0..n`, from any threads, and returns when all calls have.
    pub parallel_for: extern "C" fn(context: *mut c_void, n: u32, body: extern "C" fn(data: *mut c_void, i: u32), data: *mut c_void),
}

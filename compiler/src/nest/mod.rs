//! Nests: the loop form of kernels, its text, verifier and interpreter. Imports only `tensor`.

pub mod builder;
pub mod ir;

pub use builder::Builder;
pub use ir::*;

//! Tensor expressions: *what* a group of operators computes, without loops, lanes or memory. Imports only `tensor`.

pub mod builder;
pub mod ir;

pub use builder::Builder;
pub use ir::*;

//! Nests: the loop form of kernels, its text, verifier and interpreter. Imports only `tensor`.

mod bounds;
pub mod builder;
pub mod coverage;
mod eval;
mod footprint;
pub mod interchange;
pub mod ir;
pub mod math;
pub mod moves;
pub mod parallel;
mod parse;
pub mod pieces;
mod print;
#[cfg(test)]
mod random_tests;
mod reach;
mod scalar;
pub mod traffic;
mod verify;
pub mod work;

pub use bounds::spreads;
pub use builder::Builder;
pub use eval::{EvalError, eval, eval_sized, eval_with};
pub use ir::*;
pub use math::Function;
pub use parse::{ParseError, parse};
pub use reach::reach;
pub use traffic::Traffic;
pub use verify::{Problem, VerifyError, verify};

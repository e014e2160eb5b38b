//! Tensor expressions: *what* a group of operators computes, without loops, lanes or memory. Imports only `tensor`.

pub mod builder;
mod eval;
mod expression;
mod nesting;
mod parse;
mod print;
mod program;
mod scalar;
mod simplify;
mod sliding;
mod verify;

pub use builder::{Builder, Meant, Place};
pub use eval::{EvalError, eval};
pub use expression::*;
pub use nesting::{Nested, Nesting, factors, is_contraction, nesting, plain_stages};
pub use parse::{ParseError, parse};
pub use program::*;
pub use simplify::{simplified, simplify};
pub use sliding::{Sliding, sliding};
pub use verify::{VerifyError, verify};

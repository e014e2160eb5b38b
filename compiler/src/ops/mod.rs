//! The operators: one file each (or one file for a close family), listed here. Imports `tensor` and `expr`.

mod attribute;
mod axes;
#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod check_compiled;
pub mod elementwise;
mod expansion;
mod macros;
pub mod movement;
pub mod neural;
mod operator;
pub mod quantization;

pub use attribute::{Attribute, AttributeError, AttributeValue, Attributes, dtype_of_onnx, onnx_of_dtype};
pub use axes::{Axes, View};
pub use expansion::{Expansion, ExpansionNode, Source, Step, Steps};
pub use operator::{Args, Described, EvalError, Fact, InferError, LowerError, Operands, Operator, Schema, normalize_axis};

/// Every operator, sorted by name.
pub fn schemas() -> Vec<&'static Schema> {
    let mut all: Vec<&Schema> = [elementwise::SCHEMAS, movement::SCHEMAS, neural::SCHEMAS, quantization::SCHEMAS].concat();
    all.sort_by_key(|s| (s.domain, s.name));
    all
}

/// The operator of this name in the default domain.
pub fn find(name: &str) -> Option<&'static Schema> {
    [elementwise::SCHEMAS, movement::SCHEMAS, neural::SCHEMAS, quantization::SCHEMAS].concat().into_iter().find(|s| s.name == name)
}

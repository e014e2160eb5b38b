//! The operators: one file each (or one file for a close family), listed here. Imports `tensor` and `expr`.

mod attribute;
mod axes;
#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod check_compiled;
pub mod composite;
pub mod contrib;
pub mod elementwise;
mod expansion;
mod interval;
mod macros;
pub mod ml;
pub mod movement;
pub mod neural;
mod operator;
pub mod padded;
pub mod quantization;
mod radix;
mod small_types;
mod sorting;
mod tournament;
pub mod training;

pub use attribute::{Attribute, AttributeError, AttributeValue, Attributes, dtype_of_onnx, onnx_of_dtype};
pub use axes::{Axes, View};
pub use expansion::{Expansion, ExpansionNode, Source, Step, Steps};
pub use interval::Interval;
pub use operator::{
    Args, Counted, Deciding, Described, EvalError, Extent, Fact, Fill, InferError, LowerError, Operands, Operator, Schema, normalize_axis,
};

/// The families of operators.
const FAMILIES: [&[&Schema]; 9] = [
    composite::SCHEMAS,
    contrib::SCHEMAS,
    elementwise::SCHEMAS,
    ml::SCHEMAS,
    movement::SCHEMAS,
    neural::SCHEMAS,
    padded::SCHEMAS,
    quantization::SCHEMAS,
    training::SCHEMAS,
];

/// Every operator, sorted by domain and name.
pub fn schemas() -> Vec<&'static Schema> {
    let mut all: Vec<&Schema> = FAMILIES.concat();
    all.sort_by_key(|s| (s.domain, s.name));
    all
}

/// The operator of this name: `Gemm` in the default domain, `com.microsoft.Attention` in another.
pub fn find(name: &str) -> Option<&'static Schema> {
    let (domain, name) = name.rsplit_once('.').unwrap_or(("", name));
    FAMILIES.iter().copied().flatten().copied().find(|s| s.name == name && s.domain == domain)
}

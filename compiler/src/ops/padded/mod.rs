//! Operators whose results have extents that data decides: each gives a result of the greatest extents, and beside it how much of every
//! such axis is meant, as `i64[1]`. What is behind that is padding: some value of the element type, always the same for the same operands.
//!
//! Files hold the ONNX operators, which want constants here; the reader takes these where there are none.

mod compact;
mod compress;
mod concat;
mod count;
mod extents;
mod mask;
mod non_max_suppression;
mod non_zero;
mod range;
mod scatter_elements;
mod scatter_nd;
mod selection;
mod slice;
mod top_k;
mod unique;

use super::Schema;

pub use compact::Compact;
pub use compress::{Compress, PaddedCompress};
pub use concat::PaddedConcat;
pub use count::Count;
pub use mask::Mask;
pub use non_max_suppression::{NonMaxSuppression, PaddedNonMaxSuppression};
pub use non_zero::{NonZero, PaddedNonZero};
pub use range::PaddedRange;
pub use scatter_elements::PaddedScatterElements;
pub use scatter_nd::PaddedScatterND;
pub use slice::PaddedSlice;
pub use top_k::PaddedTopK;
pub use unique::{PaddedUnique, Unique};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &Compact::SCHEMA,
    &Compress::SCHEMA,
    &Count::SCHEMA,
    &Mask::SCHEMA,
    &NonMaxSuppression::SCHEMA,
    &NonZero::SCHEMA,
    &PaddedCompress::SCHEMA,
    &PaddedConcat::SCHEMA,
    &PaddedNonMaxSuppression::SCHEMA,
    &PaddedNonZero::SCHEMA,
    &PaddedRange::SCHEMA,
    &PaddedScatterElements::SCHEMA,
    &PaddedScatterND::SCHEMA,
    &PaddedSlice::SCHEMA,
    &PaddedTopK::SCHEMA,
    &PaddedUnique::SCHEMA,
    &Unique::SCHEMA,
];

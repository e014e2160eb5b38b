//! Contractions, convolutions, pooling, normalizations, reductions, recurrent operators.

use super::Schema;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[];

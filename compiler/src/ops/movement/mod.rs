//! Operators that move elements: shapes, indices, copies.

use super::Schema;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[];

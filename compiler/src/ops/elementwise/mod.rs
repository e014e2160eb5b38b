//! Operators that compute each element from the elements at its place.

mod add;

use super::Schema;

pub use add::Add;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[&Add::SCHEMA];

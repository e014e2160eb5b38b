//! One dimension of a shape: a number, a named unknown, or an unknown.

use std::fmt;
use std::sync::Arc;

/// A dimension.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Dim {
    /// A known extent.
    Fixed(usize),
    /// A named extent that `--bind` gives a value; equal names are equal extents.
    Symbol(Arc<str>),
    /// An extent that is not known and has no name, printed `?`.
    Unknown,
}

impl Dim {
    /// The extent, where it is known.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Dim::Fixed(n) => Some(*n),
            _ => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(s) if s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && s.starts_with(|c: char| !c.is_ascii_digit()) => {
                f.write_str(s)
            }
            Dim::Symbol(s) => write!(f, "{s:?}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

//! The type of a tensor value.

use std::fmt;

use super::{DType, Dim, Shape};

/// Element type and shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
}

impl Type {
    /// A type of any shape.
    pub fn new(dtype: DType, shape: Shape) -> Self {
        Type { dtype, shape }
    }

    /// A type whose extents are all known.
    pub fn fixed(dtype: DType, dims: &[usize]) -> Self {
        Type { dtype, shape: Shape::fixed(dims) }
    }

    /// The same element type with other dimensions.
    pub fn with_dims<D: Into<Dim>>(&self, dims: impl IntoIterator<Item = D>) -> Self {
        Type { dtype: self.dtype, shape: dims.into_iter().map(Into::into).collect() }
    }

    /// The same shape with another element type.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Type { dtype, shape: self.shape.clone() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// All extents, where all are known.
    pub fn dims(&self) -> Option<Vec<usize>> {
        self.shape.to_fixed()
    }

    /// Bytes of a dense value of this type, where its extents are known and the product does not overflow.
    pub fn size_bytes(&self) -> Option<usize> {
        self.dims()?.into_iter().try_fold(self.dtype.size_bytes(), usize::checked_mul)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

//! Shapes and broadcasting.

use std::fmt;

use super::Dim;

/// Dimensions, outermost first.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// A shape of known extents.
    pub fn fixed(dims: &[usize]) -> Self {
        Shape(dims.iter().map(|&d| Dim::Fixed(d)).collect())
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// All extents, where all are known.
    pub fn to_fixed(&self) -> Option<Vec<usize>> {
        self.0.iter().map(Dim::fixed).collect()
    }

    /// ONNX multidirectional broadcasting of two shapes; `None` where they do not broadcast.
    ///
    /// A symbol against a number above one gives the number: a program that binds the symbol to anything else is refused when it is bound.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let one = Dim::Fixed(1);
        (0..rank)
            .map(|i| {
                let a = (i + self.rank()).checked_sub(rank).map_or(&one, |j| &self.0[j]);
                let b = (i + other.rank()).checked_sub(rank).map_or(&one, |j| &other.0[j]);
                match (a, b) {
                    _ if a == b => Some(a.clone()),
                    (Dim::Fixed(1), x) | (x, Dim::Fixed(1)) => Some(x.clone()),
                    (Dim::Fixed(_), Dim::Fixed(_)) => None,
                    (n @ Dim::Fixed(_), _) | (_, n @ Dim::Fixed(_)) => Some(n.clone()),
                    _ => Some(Dim::Unknown),
                }
            })
            .collect::<Option<Vec<Dim>>>()
            .map(Shape)
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape::fixed(&dims)
    }
}

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        Shape(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

/// ONNX multidirectional broadcasting of known extents; `None` where they do not broadcast.
pub fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    Shape::fixed(a).broadcast(&Shape::fixed(b))?.to_fixed()
}

/// Product of the extents (1 for a scalar).
pub fn n_elements(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// Row-major strides, in elements.
pub fn row_major_strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

/// Row-major offset of the element of a value of extents `dims` that broadcasting puts at `at`.
pub fn broadcast_offset(dims: &[usize], at: &[usize]) -> usize {
    let skip = at.len() - dims.len();
    dims.iter().zip(&at[skip..]).fold(0, |offset, (&d, &i)| offset * d + if d == 1 { 0 } else { i })
}

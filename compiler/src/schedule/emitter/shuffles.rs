//! What shuffles bring together: tiles that are transposed in registers, vectors whose elements go to memory in turn.

use super::values::{coefficient, stride_along};
use super::{Emitter, Key, Point};
use crate::expr::{Expr, Ix, Node};
use crate::nest::{Affine, Index, Op, Reg, Shuffle};

impl Emitter {
    /// Whether [`Emitter::transpose`] knows a read: affine, and adjacent along one axis only, while lanes stride along another.
    pub(in crate::schedule) fn is_transposed(&self, load: &Expr, lanes_axis: usize, adjacent: usize) -> bool {
        let Node::Load { tensor, index, pad: None } = load.node() else { return false };
        let strides = self.strides_of(*tensor);
        index.iter().all(|ix| matches!(ix, Ix::Affine(_)))
            && stride_along(index, &strides, adjacent) == 1
            && stride_along(index, &strides, lanes_axis).abs() > 1
    }

    /// Loads what a read needs for as many places along `adjacent` as the point has lanes, each vector along `adjacent`, and transposes it:
    /// the read finds its lanes at any of these places.
    pub(in crate::schedule) fn transpose(&mut self, load: &Expr, at: &Point) {
        let (Node::Load { tensor, index, .. }, Some(v)) = (load.node(), at.vector) else { return };
        let (buffer, offset, strides) = self.memory_of(*tensor);
        let mut flat = Affine::constant(offset);
        for (ix, stride) in index.iter().zip(&strides) {
            let Ix::Affine(a) = ix else { return };
            flat = flat.plus(&self.affine(a, at).times(*stride));
        }
        let spread: i64 = index.iter().zip(&strides).map(|(ix, s)| coefficient(ix, v.axis) * s).sum();
        let rows: Vec<Reg> =
            (0..i64::from(v.lanes)).map(|lane| self.b.load(buffer, Index::from(flat.offset(lane * spread)), v.lanes)).collect();
        for (place, row) in (0..).zip(self.interleave(&rows)) {
            let key = Key::Lanes(buffer, Index::from(flat.offset(place)), spread, v.lanes);
            self.scopes.last_mut().expect("the kernel's own scope").insert(key, row);
        }
    }

    fn zip(&mut self, a: Reg, b: Reg) -> [Reg; 2] {
        let ty = self.b.ty(a);
        [Shuffle::ZipLow, Shuffle::ZipHigh].map(|order| self.b.op(ty, Op::Shuffle(order, a, b)))
    }

    /// Vectors of the elements of others, in turn; their number is a power of two.
    pub(in crate::schedule) fn interleave(&mut self, vectors: &[Reg]) -> Vec<Reg> {
        let mut all = vectors.to_vec();
        // Every round brings an element next to the one half of the vectors below it.
        for _ in 0..vectors.len().ilog2() {
            let (upper, lower) = all.split_at(all.len() / 2);
            all = upper.iter().zip(lower).flat_map(|(&a, &b)| self.zip(a, b)).collect();
        }
        all
    }
}

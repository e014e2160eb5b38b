//! What is known of single elements of small integer values, such as shapes that a model computes: their numbers, or which element of
//! another value they are, and between which numbers they are.

use super::model::Importer;
use super::scope::Known;
use crate::graph::{NodeKind, Value};
use crate::ops::Interval;
use crate::tensor::Tensor;

/// Elements of a value that are looked at.
const MAX_ELEMENTS: usize = 16;
/// Elements of the constants that one is taken of.
const MAX_CONSTANT: usize = 4096;
/// So many operators are looked through for all elements of a value.
const MAX_NODES: usize = 512;
/// And so many one behind the other.
const MAX_DEPTH: usize = 64;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    /// The element that it is: of this value, at this place, row-major.
    pub(super) at: (Value, usize),
    /// Between which numbers it is.
    pub(super) within: Interval,
}

/// An element as something that can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Part {
    Number(i64),
    At(Value, usize),
}

impl Element {
    /// The number that it is, if only one can be.
    pub(super) fn number(&self) -> Option<i64> {
        self.within.number().map(|n| n as i64)
    }

    /// What equal elements have in common.
    pub(super) fn part(&self) -> Part {
        self.number().map_or(Part::At(self.at.0, self.at.1), Part::Number)
    }
}

impl Importer<'_> {
    /// The elements of a small integer value of the graph; `None` of any other.
    pub(super) fn each_element(&self, known: &Option<Known>) -> Option<Vec<Element>> {
        let Some(Known::Value(v)) = known else { return None };
        let ty = self.graph.ty(*v);
        let n: usize = ty.dims()?.iter().product();
        if !ty.dtype.is_int() || n > MAX_ELEMENTS {
            return None;
        }
        let mut left = MAX_NODES;
        Some((0..n).map(|place| self.element(*v, place, MAX_DEPTH, &mut left)).collect())
    }

    /// A small integer value as a constant, where extents that data decides leave only one number for each element.
    pub(super) fn numbers(&self, known: &Option<Known>) -> Option<Known> {
        let Some(Known::Value(v)) = known else { return None };
        if self.varying.is_empty() || self.varying.contains_key(v) || self.graph.constant(*v).is_some() {
            return None;
        }
        let numbers: Option<Vec<i128>> = self.each_element(known)?.iter().map(|e| e.number().map(i128::from)).collect();
        let ty = self.graph.ty(*v);
        let tensor = Tensor::from_ints(ty.dtype, &ty.dims()?, &numbers.filter(|numbers| !numbers.is_empty())?);
        Some(Known::constant(&format!("{}.known", self.graph.name_of(*v)), tensor))
    }

    /// An element of an operand as a part of what decides something.
    pub(super) fn part(&self, known: &Option<Known>, place: usize) -> Option<Part> {
        match known {
            Some(Known::Constant(c)) => c.tensor.to_ints().get(place).map(|&n| Part::Number(n as i64)),
            Some(Known::Value(v)) => Some(self.element(*v, place, MAX_DEPTH, &mut { MAX_NODES }).part()),
            _ => None,
        }
    }

    fn element(&self, v: Value, place: usize, depth: usize, left: &mut usize) -> Element {
        let ty = self.graph.ty(v);
        *left = left.saturating_sub(1);
        let here = |within: Interval| Element { at: (v, place), within: within.within(ty.dtype) };
        let op = match &self.graph.node(v.node).kind {
            NodeKind::Constant(t) if ty.dtype.is_int() && t.len() <= MAX_CONSTANT => {
                let number = t.to_ints()[place] as f64;
                return here(Interval::new(number, number));
            }
            NodeKind::Operator(op) if v.result == 0 && depth > 0 && *left > 0 => op,
            _ => return here(self.interval_of(v)),
        };
        let x = self.graph.facts(v.node);
        let operands = self.graph.operands(v.node);
        if let Some((i, from)) = op.source(&x, place)
            && let Some(Some(operand)) = operands.get(i)
        {
            return self.element(*operand, from, depth - 1, left);
        }
        let Some(dims) = ty.dims() else { return here(Interval::ALL) };
        if op.axes(&x).elementwise {
            let mut each = vec![];
            for operand in operands.iter().flatten() {
                let Some(of) = self.graph.ty(*operand).dims() else { return here(Interval::ALL) };
                each.push(self.element(*operand, broadcast_place(&of, &dims, place), depth - 1, left));
            }
            if each.len() == operands.len() {
                let of: Vec<Interval> = each.iter().map(|e| e.within).collect();
                return op.same_as(&x, &of).map_or_else(|| here(op.interval(&x, &of)), |i| each[i]);
            }
        }
        let all = x.dims(0).map_or(usize::MAX, |of| of.iter().product());
        if dims.iter().product::<usize>() == 1
            && (1..=MAX_ELEMENTS).contains(&all)
            && let Some(Some(operand)) = operands.first()
        {
            let each: Vec<Interval> = (0..all).map(|i| self.element(*operand, i, depth - 1, left).within).collect();
            if let Some(reduced) = op.reduced(&x, &each) {
                return here(reduced.both(self.interval_of(v)));
            }
        }
        here(self.interval_of(v))
    }
}

/// The place in extents `of`, broadcast to `dims`, of the element at `place` of these.
fn broadcast_place(of: &[usize], dims: &[usize], place: usize) -> usize {
    let (mut place, mut stride, mut found) = (place, 1, 0);
    for axis in (0..dims.len()).rev() {
        let at = place % dims[axis].max(1);
        place /= dims[axis].max(1);
        if let Some(&n) = (axis + of.len()).checked_sub(dims.len()).and_then(|i| of.get(i)) {
            found += if n == 1 { 0 } else { at * stride };
            stride *= n;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::broadcast_place;

    #[test]
    fn places_broadcast() {
        assert_eq!(broadcast_place(&[3], &[2, 3], 4), 1);
        assert_eq!(broadcast_place(&[2, 1], &[2, 3], 4), 1);
        assert_eq!(broadcast_place(&[2, 3], &[2, 3], 5), 5);
        assert_eq!(broadcast_place(&[], &[2, 3], 5), 0);
    }
}

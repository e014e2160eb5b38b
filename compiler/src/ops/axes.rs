//! How axes of operands and results correspond, and results that only re-index an operand.

use super::operator::Operands;
use crate::tensor::Affine;

/// For each axis of each operand and result a label: equal labels are the same axis, point for point; `None` is linked to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Axes {
    /// Labels of each operand's axes.
    pub operands: Vec<Vec<Option<u32>>>,
    /// Labels of each result's axes; further results are unlinked.
    pub results: Vec<Vec<Option<u32>>>,
    /// Whether each element of the results depends on just the elements at the same place of the operands (broadcast or not).
    pub elementwise: bool,
}

impl Axes {
    /// Nothing corresponds.
    pub fn unlinked(x: &Operands) -> Self {
        let operands = x.facts.iter().map(|f| vec![None; f.as_ref().map_or(0, |f| f.ty.rank())]).collect();
        Axes { operands, results: vec![], elementwise: false }
    }

    /// An element-wise operator with ONNX broadcasting and one result. Broadcast axes of extent 1 are unlinked.
    pub fn elementwise(x: &Operands) -> Self {
        let rank = x.facts.iter().flatten().map(|f| f.ty.rank()).max().unwrap_or(0);
        let result: Vec<Option<u32>> = (0..rank as u32).map(Some).collect();
        let one = crate::tensor::Dim::Fixed(1);
        let wide =
            |axis: usize| x.facts.iter().flatten().any(|f| f.ty.rank() + axis >= rank && f.ty.shape.0[f.ty.rank() + axis - rank] != one);
        let operands = x
            .facts
            .iter()
            .map(|f| {
                let dims = f.as_ref().map_or(&[][..], |f| &f.ty.shape.0);
                (0..dims.len())
                    .map(|i| {
                        let axis = i + rank - dims.len();
                        (dims[i] != one || !wide(axis)).then_some(axis as u32)
                    })
                    .collect()
            })
            .collect();
        Axes { operands, results: vec![result], elementwise: true }
    }

    /// From text as in `mk,kn->mn`; `.` is an unlinked axis. Spaces are ignored.
    ///
    /// # Panics
    /// If there is no `->`.
    pub fn parse(text: &str) -> Self {
        let side = |s: &str| s.split(',').map(|t| t.trim().chars().map(|c| (c != '.').then_some(c as u32)).collect()).collect();
        let (operands, results) = text.split_once("->").expect("an arrow in axes");
        Axes { operands: side(operands), results: side(results), elementwise: false }
    }

    /// The axis of result `result` that corresponds to `axis` of operand `operand`.
    pub fn to_result(&self, operand: usize, axis: usize, result: usize) -> Option<usize> {
        let label = (*self.operands.get(operand)?.get(axis)?)?;
        self.results.get(result)?.iter().position(|&l| l == Some(label))
    }

    /// The axis of operand `operand` that corresponds to `axis` of result `result`.
    pub fn to_operand(&self, result: usize, axis: usize, operand: usize) -> Option<usize> {
        let label = (*self.results.get(result)?.get(axis)?)?;
        self.operands.get(operand)?.iter().position(|&l| l == Some(label))
    }
}

/// A result that holds elements of the first operand, re-indexed.
#[derive(Clone, PartialEq, Debug)]
pub enum View {
    /// The element at `i` is the operand's at these forms of `i` (variables are result axes), all in range.
    Affine(Vec<Affine<usize>>),
    /// The same elements in row-major order under other extents.
    Reshape,
}

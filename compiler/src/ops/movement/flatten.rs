//! `Flatten`: a matrix of all elements.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Flatten.html>

use super::view::{outermost, reshaped_axes};
use crate::operator;
use crate::ops::{Axes, InferError, Interval, Operands, Operator, View};
use crate::tensor::{Dim, Type};

operator! {
    /// A matrix: the axes before `axis` are its rows, the others its columns.
    Flatten(input) -> (output) since [1, 9, 11, 13, 21, 23, 24, 25];
    /// Where it is cut; may be the rank.
    axis: i64 = 1,
}

impl Operator for Flatten {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let rank = ty.rank() as i64;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        if !(0..=rank).contains(&axis) {
            return Err(InferError::Invalid(format!("axis {} of `{ty}`", self.axis)));
        }
        let (rows, columns) = ty.shape.0.split_at(axis as usize);
        let merged = |dims: &[Dim]| {
            let mut rest = dims.iter().filter(|d| **d != Dim::Fixed(1));
            match (rest.next(), rest.next()) {
                (None, _) => Ok(Dim::Fixed(1)),
                (Some(only), None) => Ok(only.clone()),
                _ => match dims.iter().map(Dim::fixed).collect::<Option<Vec<usize>>>() {
                    Some(dims) => dims
                        .into_iter()
                        .try_fold(1usize, usize::checked_mul)
                        .map(Dim::Fixed)
                        .ok_or_else(|| InferError::Invalid(format!("`{ty}` has too many elements"))),
                    None => Err(x.dims(0).err().unwrap_or(InferError::MissingOperand { operand: 0 })),
                },
            }
        };
        Ok(vec![ty.with_dims([merged(rows)?, merged(columns)?])])
    }

    fn axes(&self, x: &Operands) -> Axes {
        match (x.ty(0), self.infer(x)) {
            (Ok(from), Ok(to)) => reshaped_axes(&from.shape.0, &to[0].shape.0),
            _ => Axes::unlinked(x),
        }
    }

    fn view(&self, _: &Operands) -> Option<Vec<View>> {
        Some(vec![View::Reshape])
    }

    fn carries(&self, x: &Operands, operand: usize, axis: usize, _: &[Interval]) -> Option<(usize, usize)> {
        let to = self.infer(x).ok()?[0].dims()?;
        if operand == 0 { outermost(&x.dims(0).ok()?, &to, axis) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random};

    #[test]
    fn axes_merge_on_both_sides() {
        let shape = |op: &str, ty: &str| check_op(op, [random(ty, 1)])[0].dims().to_vec();
        assert_eq!(shape("Flatten", "f32[2,3,4]"), [2, 12]);
        assert_eq!(shape("Flatten axis=0", "f32[2,3,4]"), [1, 24]);
        assert_eq!(shape("Flatten axis=-1", "f32[2,3,4]"), [6, 4]);
        assert_eq!(shape("Flatten axis=3", "i8[2,3,4]"), [24, 1]);
        assert_eq!(shape("Flatten axis=0", "f32[]"), [1, 1]);
        assert_eq!(shape("Flatten", "f32[2,0,3]"), [2, 0]);
        assert_eq!(check_error("Flatten axis=4", [random("f32[2,3,4]", 1)]), "axis 4 of `f32[2,3,4]`");
    }
}

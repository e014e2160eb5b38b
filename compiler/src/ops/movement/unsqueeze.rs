//! `Unsqueeze`: new axes of extent 1.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Unsqueeze.html>

use crate::operator;
use crate::ops::normalize_axis;
use crate::ops::{Axes, InferError, Operands, Operator, View};
use crate::tensor::{Dim, Type};

operator! {
    /// `data` with new axes of extent 1 at the places `axes` of the result.
    Unsqueeze(data, axes) -> (expanded) since [1, 11, 13, 21, 23, 24, 25];
}

impl Unsqueeze {
    /// For each axis of the result whether it is new.
    fn new_axes(&self, x: &Operands) -> Result<Vec<bool>, InferError> {
        let axes = x.ints(1)?;
        let mut new = vec![false; x.rank(0)? + axes.len()];
        for axis in axes {
            let axis = normalize_axis(axis, new.len())?;
            if std::mem::replace(&mut new[axis], true) {
                return Err(InferError::Invalid(format!("axis {axis} is given twice")));
            }
        }
        Ok(new)
    }
}

impl Operator for Unsqueeze {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let mut old = ty.shape.0.iter();
        let dims = self.new_axes(x)?.into_iter().map(|new| if new { None } else { old.next() }.cloned().unwrap_or(Dim::Fixed(1)));
        Ok(vec![ty.with_dims(dims)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(new) = self.new_axes(x) {
            axes.operands[0] = (0..axes.operands[0].len() as u32).map(Some).collect();
            let mut old = 0..;
            axes.results = vec![new.into_iter().map(|new| if new { None } else { old.next() }).collect()];
        }
        axes
    }

    fn view(&self, _: &Operands) -> Option<Vec<View>> {
        Some(vec![View::Reshape])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn places_are_those_of_the_result() {
        assert_eq!(check_op("Unsqueeze", [random("f32[3,2]", 1), t("i64[2] 0 -1")])[0].dims(), [1, 3, 2, 1]);
        assert_eq!(check_op("Unsqueeze", [random("i64[]", 1), t("i64[1] 0")])[0].dims(), [1]);
        assert_eq!(check_op("Unsqueeze", [random("f32[3,2]", 1), t("i64[2] 3 1")])[0].dims(), [3, 1, 2, 1]);
        assert_eq!(check_error("Unsqueeze", [random("f32[3]", 1), t("i64[2] 1 -2")]), "axis 1 is given twice");
        assert_eq!(check_error("Unsqueeze", [random("f32[3]", 1), t("i64[1] 2")]), "axis 2 of a value of rank 2");
    }
}

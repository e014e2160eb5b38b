//! `Squeeze`: axes of extent 1 go.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Squeeze.html>

use crate::operator;
use crate::ops::normalize_axis;
use crate::ops::{Axes, InferError, Operands, Operator, View};
use crate::tensor::{Dim, Type};

operator! {
    /// `data` without some of its axes of extent 1.
    Squeeze(data, "axes?") -> (squeezed) since [1, 11, 13, 21, 23, 24, 25];
}

impl Squeeze {
    /// For each axis of the operand whether it stays.
    fn stays(&self, x: &Operands) -> Result<Vec<bool>, InferError> {
        let ty = x.ty(0)?;
        if !x.has(1) {
            return Ok(x.dims(0)?.into_iter().map(|d| d != 1).collect());
        }
        let mut stays = vec![true; ty.rank()];
        for axis in x.ints(1)? {
            let axis = normalize_axis(axis, ty.rank())?;
            if ty.shape.0[axis].fixed().is_some_and(|d| d != 1) {
                return Err(InferError::Invalid(format!("axis {axis} of `{ty}` cannot be squeezed")));
            }
            stays[axis] = false;
        }
        Ok(stays)
    }
}

impl Operator for Squeeze {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let stays = self.stays(x)?;
        Ok(vec![ty.with_dims(ty.shape.0.iter().zip(stays).filter(|(_, s)| *s).map(|(d, _)| Dim::clone(d)))])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(stays) = self.stays(x) {
            axes.operands[0] = stays.iter().enumerate().map(|(i, &s)| s.then_some(i as u32)).collect();
            axes.results = vec![axes.operands[0].iter().copied().filter(Option::is_some).collect()];
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
    fn only_extents_of_one_go() {
        assert_eq!(check_op("Squeeze", [random("f32[1,3,1,2]", 1)])[0].dims(), [3, 2]);
        assert_eq!(check_op("Squeeze", [random("f32[1,3,1,2]", 1), t("i64[1] -2")])[0].dims(), [1, 3, 2]);
        assert_eq!(check_op("Squeeze", [random("bool[1]", 1), t("i64[1] 0")])[0].dims(), [0usize; 0]);
        assert_eq!(check_error("Squeeze", [random("f32[1,3]", 1), t("i64[1] 1")]), "axis 1 of `f32[1,3]` cannot be squeezed");
    }
}

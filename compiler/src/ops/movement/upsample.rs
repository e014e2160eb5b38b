//! `Upsample`: the forerunner of `Resize`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Upsample.html>

use super::Resize;
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// `x` with each extent multiplied by its number in `scales`.
    Upsample(x, scales) -> (y) since [7, 9, 10];
    /// `nearest` or `linear`.
    mode: String = "nearest",
}

impl Upsample {
    /// The same as a `Resize`, and its operands.
    fn resize(&self, x: &Operands) -> (Resize, Operands) {
        let resize = Resize {
            coordinate_transformation_mode: "asymmetric".to_owned(),
            mode: self.mode.clone(),
            nearest_mode: "floor".to_owned(),
            ..Resize::default()
        };
        let fact = |i: usize| x.get(i).cloned();
        (resize, Operands { facts: vec![fact(0), None, fact(1)], n_results: x.n_results })
    }
}

impl Operator for Upsample {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (resize, operands) = self.resize(x);
        x.ty(1)?;
        resize.infer(&operands).map_err(|e| match e {
            InferError::NotConstant { operand: 2 } => InferError::NotConstant { operand: 1 },
            e => e,
        })
    }

    fn axes(&self, x: &Operands) -> Axes {
        let (resize, operands) = self.resize(x);
        let mut axes = resize.axes(&operands);
        axes.operands.remove(1);
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (resize, operands) = self.resize(x);
        resize.eval(&operands)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (resize, operands) = self.resize(x.facts);
        resize.lower(b, &Args { facts: &operands, tensors: vec![x.get(0), None, x.get(1)], results: x.results })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn extents_multiply() {
        assert_eq!(check_op("Upsample", [t("f32[1,2] 1 2"), t("f32[2] 2 2")]), [t("f32[2,4] 1 1 2 2 1 1 2 2")]);
        assert_eq!(check_op("Upsample mode=\"linear\"", [t("f32[2] 1 3"), t("f32[1] 2")]), [t("f32[4] 1 2 3 3")]);
        check_op("Upsample", [random("f32[1,2,3,3]", 1), t("f32[4] 1 1 1.5 3")]);
    }
}

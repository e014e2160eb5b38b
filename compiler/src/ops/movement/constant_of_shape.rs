//! `ConstantOfShape`: one value everywhere.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html>

use super::copy::Canvas;
use super::literal;
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// A value of the extents in `input`, all elements `value`.
    ConstantOfShape(input) -> (output) since [9, 20, 21, 23, 24, 25];
    /// One element; 0 as `f32` where it is absent.
    value: Option<Tensor>,
}

impl ConstantOfShape {
    fn element(&self) -> Tensor {
        self.value.clone().unwrap_or_else(|| Tensor::scalar(0f32))
    }
}

impl Operator for ConstantOfShape {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dims = x.ints(0)?.into_iter().map(super::extent).collect::<Result<Vec<usize>, _>>()?;
        let element = self.element();
        if element.len() != 1 {
            return Err(InferError::Invalid(format!("`value` must have one element, not {}", element.len())));
        }
        Ok(vec![super::sized(element.dtype(), &dims)?])
    }

    fn shape_operand(&self) -> Option<usize> {
        Some(0)
    }

    fn repeats(&self, _: &Operands, _: usize) -> bool {
        true
    }

    fn interval(&self, _: &Operands, _: &[Interval]) -> Interval {
        Interval::of_tensor(&self.element())
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let dims: Vec<usize> = x.tensor(0).to_ints().into_iter().map(|d| d as usize).collect();
        Ok(vec![Canvas::filled(&self.element(), &dims).finish()])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![b.compute(&x.result_dims(0), |_, _| literal(&self.element()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn one_value_everywhere() {
        assert_eq!(check_op("ConstantOfShape", [t("i64[2] 1 2")]), [t("f32[1,2] 0 0")]);
        assert_eq!(check_op("ConstantOfShape", [t("i64[0]")]), [t("f32[] 0")]);
        let five = ConstantOfShape { value: Some(t("i32[1] 5")) };
        let x = Operands::of_values([Some(t("i64[1] 3"))], 1);
        assert_eq!(five.eval(&x).unwrap(), [t("i32[3] 5 5 5")]);
        assert_eq!(check_error("ConstantOfShape", [t("i64[1] -1")]), "-1 as an extent");
        let error = check_error("ConstantOfShape", [t("i64[3] 1000000 1000000 1000000")]);
        assert_eq!(error, "the result `f32[1000000,1000000,1000000]` is too large");
    }
}

//! `Add`: the sum, with broadcasting.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Add.html>

use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// `c = a + b`, element by element with broadcasting.
    Add(a, b) -> (c) since [1, 6, 7, 13, 14];
}

impl Operator for Add {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_same_dtype(1, 0)?;
        let (a, b) = (x.ty(0)?, x.ty(1)?);
        let shape = a.shape.broadcast(&b.shape).ok_or_else(|| InferError::Invalid(format!("{a} and {b} do not broadcast")))?;
        Ok(vec![Type::new(a.dtype, shape)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (x.tensor(0), x.tensor(1));
        let dims = crate::tensor::broadcast_dims(a.dims(), b.dims()).expect("shapes that infer accepted");
        let (av, bv) = (a.to_f64s(), b.to_f64s());
        let mut sum = Vec::new();
        crate::tensor::for_each_index(&dims, |_, at| {
            sum.push(av[crate::tensor::broadcast_offset(a.dims(), at)] + bv[crate::tensor::broadcast_offset(b.dims(), at)])
        });
        Ok(vec![Tensor::from_f64s(a.dtype(), &dims, &sum)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![b.map(&[x.tensor(0), x.tensor(1)], |v| &v[0] + &v[1])])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn broadcasts() {
        assert_eq!(check_op("Add", [t("f32[2,1] 1 2"), t("f32[3] 10 20 30")]), [t("f32[2,3] 11 21 31 12 22 32")]);
        check_op("Add", [random("f32[4,1,3]", 1), random("f32[2,3]", 2)]);
        check_op("Add", [random("f32[0,3]", 1), random("f32[]", 2)]);
        assert_eq!(check_error("Add", [t("f32[2]"), t("f32[3]")]), "f32[2] and f32[3] do not broadcast");
    }
}

//! `ByteMatMul` and `ByteConv`: sums of products of `u8` and `i8`, the form that processors have instructions for. Quantized products
//! become these ([`super::products`]): zero points and other signs are corrections of the sums.

use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::neural::{Conv, MatMul, convolution};
use crate::ops::{Args, Axes, EvalError, Fact, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements};

operator! {
    /// The matrix product of `u8` and `i8`, in `i32`.
    ByteMatMul(a, b) -> (y) since [1] in "ai.tinsmith";
}

convolution! {
    @attributes
    /// The convolution of `u8` with `i8`, in `i32`; what is outside of `x` is `padding`, or 0.
    ByteConv(x, w, "padding?") -> (y) since [1] in "ai.tinsmith";
}

/// The operands 0 and 1 as `i32`; fails where they are not bytes.
fn widened(x: &Operands) -> Result<Operands, InferError> {
    x.require_dtype(0, &[DType::U8])?;
    x.require_dtype(1, &[DType::I8])?;
    let wide = |fact: &Fact| Fact {
        ty: fact.ty.clone().with_dtype(DType::I32),
        value: fact.value.as_ref().map(|t| Tensor::from_ints(DType::I32, t.dims(), &t.to_ints())),
    };
    Ok(Operands { facts: x.facts.iter().take(2).map(|f| f.as_ref().map(wide)).collect(), n_results: x.n_results })
}

fn invalid(e: InferError) -> EvalError {
    EvalError::Invalid(e.to_string())
}

impl Operator for ByteMatMul {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        MatMul {}.infer(&widened(x)?)
    }

    fn axes(&self, x: &Operands) -> Axes {
        widened(x).map_or_else(|_| Axes::unlinked(x), |x| MatMul {}.axes(&x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        MatMul {}.eval(&widened(x).map_err(invalid)?)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        MatMul {}.lower(b, x)
    }
}

impl ByteConv {
    fn conv(&self) -> Conv {
        let ByteConv { auto_pad, dilations, group, kernel_shape, pads, strides } = self.clone();
        Conv { auto_pad, dilations, group, kernel_shape, pads, strides }
    }
}

impl Operator for ByteConv {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        if x.has(2) {
            x.require_dtype(2, &[DType::U8])?;
            if x.ty(2)?.dims().is_none_or(|d| n_elements(&d) != 1) {
                return Err(InferError::Invalid(format!("a padding of type {}", x.ty(2)?)));
            }
        }
        self.conv().infer(&widened(x)?)
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(wide) = widened(x) else { return Axes::unlinked(x) };
        let mut axes = self.conv().axes(&wide);
        axes.operands.truncate(2);
        axes.operands.extend(x.facts.iter().skip(2).map(|f| f.as_ref().map_or(vec![], |f| vec![None; f.ty.rank()])));
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let mut wide = widened(x).map_err(invalid)?;
        let padding = x.tensor_opt(2).map_or(0, |t| t.to_ints()[0]);
        // What is outside is zero for the others less the padding, which the sums of the weights bring back.
        let image = x.tensor(0);
        let less: Vec<i128> = image.to_ints().into_iter().map(|v| v - padding).collect();
        wide.facts[0] = Some(Tensor::from_ints(DType::I32, image.dims(), &less).into());
        let y = self.conv().eval(&wide)?.remove(0);
        let w = x.tensor(1);
        let each = n_elements(&w.dims()[1..]);
        let sums: Vec<i128> = (0..w.dims()[0]).map(|o| w.to_ints()[o * each..][..each].iter().sum()).collect();
        let plane = n_elements(&y.dims()[2..]).max(1);
        let filled = y.to_ints().into_iter().enumerate().map(|(i, v)| v + padding * sums[i / plane % sums.len()]);
        Ok(vec![Tensor::from_ints(DType::I32, y.dims(), &filled.collect::<Vec<_>>())])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        self.conv().lower_padded(b, x, None, x.get(2))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn bytes_multiply() {
        assert_eq!(check_op("ai.tinsmith.ByteMatMul", [t("u8[1,2] 255 3"), t("i8[2,1] -128 2")])[0], t("i32[1,1] -32634"));
        check_op("ai.tinsmith.ByteMatMul", [random("u8[2,3,4]", 1), random("i8[4,5]", 2)]);
        let x = [t("u8[1,1,2] 1 2"), t("i8[1,1,3] 1 2 -3"), t("u8[] 10")];
        assert_eq!(check_op("ai.tinsmith.ByteConv pads=[1,1]", x)[0], t("i32[1,1,2] 6 -25"));
        check_op("ai.tinsmith.ByteConv group=2 pads=[1,0,1,2] strides=[2,1]", [random("u8[2,4,5,6]", 1), random("i8[6,2,3,3]", 2)]);
    }

    #[test]
    fn other_types_are_errors() {
        let error = |a, b| check_error("ai.tinsmith.ByteMatMul", [t(a), t(b)]);
        assert_eq!(error("i8[1,1]", "i8[1,1]"), "operand 0 has element type `i8`, which is not supported here");
        assert_eq!(error("u8[1,1]", "u8[1,1]"), "operand 1 has element type `u8`, which is not supported here");
        assert_eq!(check_error("ai.tinsmith.ByteConv", [t("u8[1,1,1]"), t("i8[1,1,1]"), t("u8[2] 1 2")]), "a padding of type u8[2]");
    }
}

//! `BiasSoftmax`, `BiasDropout` and `GemmFastGelu`: what follows a sum with a bias, or a product.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasSoftmax>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BiasDropout>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GemmFastGelu>

use super::steps::{add_optional, wide_operand, wide_optional};
use crate::ops::elementwise::Gelu;
use crate::ops::neural::Softmax;
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::tensor::Tensor;
use crate::{composite, operator};

operator! {
    /// `output = softmax(data + bias)` over all axes from `axis` on.
    BiasSoftmax(data, bias) -> (output) since [1] in "com.microsoft";
    /// The first axis of a row.
    axis: i64 = 1,
    /// Whether the axes of `data` that `bias` lacks come right before `axis`, instead of first.
    is_inner_broadcast: bool,
}

operator! {
    /// `output = data + bias + residual`, `mask` all ones: what is left of dropout outside training.
    BiasDropout(data, bias, "residual?", "ratio?", "training_mode?") -> (output, "mask?") since [1] in "com.microsoft";
    /// Of random numbers; not used.
    seed: Option<i64>,
}

operator! {
    /// `y = gelu(x * w + bias)`, by the hyperbolic tangent.
    GemmFastGelu(x, w, "bias?") -> (y) since [1] in "com.microsoft";
}

composite!(BiasSoftmax);
composite!(BiasDropout);
composite!(GemmFastGelu);

impl BiasSoftmax {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (data, mut bias) = (wide_operand(s, 0)?, wide_operand(s, 1)?);
        let (dims, addend) = (s.dims(data)?, s.dims(bias)?);
        let axis = normalize_axis(self.axis, dims.len())?;
        if self.is_inner_broadcast && addend.len() < dims.len() {
            // Axes of extent 1 before those of a row.
            let front = addend.len().saturating_sub(dims.len() - axis);
            let wide = [&addend[..front], &vec![1; dims.len() - addend.len()], &addend[front..]].concat();
            bias = s.reshape(bias, &wide)?;
        }
        let sum = s.add(data, bias)?;
        if s.dims(sum)? != dims {
            return Err(InferError::Invalid(format!("`{}` does not broadcast to `{}`", s.operands().ty(1)?, s.operands().ty(0)?)));
        }
        let rows = s.reshape(sum, &[dims[..axis].iter().product(), dims[axis..].iter().product()])?;
        let y = s.apply(Softmax { axis: 1 }, &[rows])?;
        let y = s.reshape(y, &dims)?;
        Ok(vec![s.cast(y, s.operands().dtype(0)?)?])
    }
}

impl BiasDropout {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if s.operands().has(4) && s.operands().value(4)?.to_ints() != [0] {
            return Err(InferError::Unsupported("dropout in training mode".to_owned()));
        }
        let (data, bias, residual) = (wide_operand(s, 0)?, wide_operand(s, 1)?, wide_optional(s, 2)?);
        let sum = s.add(data, bias)?;
        let sum = add_optional(s, sum, residual)?;
        let mut results = vec![s.cast(sum, s.operands().dtype(0)?)?];
        if s.operands().n_results > 1 {
            let dims = s.dims(sum)?;
            let one = s.constant(Tensor::from_bools(&[], [true]));
            results.push(s.expand(one, &dims)?);
        }
        Ok(results)
    }
}

impl GemmFastGelu {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, w, bias) = (wide_operand(s, 0)?, wide_operand(s, 1)?, wide_optional(s, 2)?);
        let y = s.matmul(x, w)?;
        let y = add_optional(s, y, bias)?;
        let y = s.apply(Gelu { approximate: "tanh".to_owned() }, &[y])?;
        Ok(vec![s.cast(y, s.operands().dtype(0)?)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_op, random, t};

    #[test]
    fn sums_first() {
        let x = [t("f32[2,1,2] 0 0 1 1"), t("f32[1,2] 0 -1000")];
        assert_eq!(check_op("com.microsoft.BiasSoftmax axis=2 is_inner_broadcast=0", x.clone()), [t("f32[2,1,2] 1 0 1 0")]);
        let inner = [t("f32[2,2,2] 0 0 0 0 0 0 0 0"), t("f32[2,2] 0 -1000 -1000 0")];
        let y = check_op("com.microsoft.BiasSoftmax axis=2 is_inner_broadcast=1", inner.clone());
        assert_eq!(y, [t("f32[2,2,2] 1 0 1 0 0 1 0 1")]);
        let y = check_op("com.microsoft.BiasSoftmax axis=2 is_inner_broadcast=0", inner);
        assert_eq!(y, [t("f32[2,2,2] 1 0 0 1 1 0 0 1")]);
        check_op("com.microsoft.BiasSoftmax axis=1 is_inner_broadcast=0", [random("f16[2,3,4]", 1), random("f16[1,3,4]", 2)]);
        let y = Check::new("com.microsoft.BiasDropout").results(2).run([t("f32[1,2] 1 2"), t("f32[2] 3 4"), t("f32[1,2] 5 5")]);
        assert_eq!(y, [t("f32[1,2] 9 11"), t("bool[1,2] 1 1")]);
        let y = check_op("com.microsoft.GemmFastGelu", [t("f32[1,1] 2"), t("f32[1,1] 0.5"), t("f32[1] 0")]);
        assert_close(&y[0], &t("f32[1,1] 0.841192"));
    }
}

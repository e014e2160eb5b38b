//! `SVMRegressor`: a sum of kernels at support vectors.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_SVMRegressor.html>

use super::transform::{rows, table};
use crate::ops::elementwise::{Exp, Greater, Pow, Tanh};
use crate::ops::neural::ReduceSumSquare;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `y[b] = sum over support vectors of coefficients[s] * kernel(x[b], s) + rho`; without support vectors, the product with the coefficients.
    SVMRegressor(x) -> (y) since [1] in "ai.onnx.ml";
    /// Weights of the support vectors.
    coefficients: Vec<f32> = Vec::<f32>::new(),
    /// Gamma, constant and degree of the kernel.
    kernel_params: Vec<f32> = Vec::<f32>::new(),
    /// `LINEAR`, `POLY`, `RBF` or `SIGMOID`.
    kernel_type: String = "LINEAR",
    /// Number of support vectors.
    n_supports: i64 = 0,
    /// Whether the result is 1 above 0 and -1 elsewhere.
    one_class: bool = false,
    /// Only `NONE`.
    post_transform: String = "NONE",
    /// The addend.
    rho: Vec<f32> = Vec::<f32>::new(),
    /// The support vectors.
    support_vectors: Vec<f32> = Vec::<f32>::new(),
}

composite!(SVMRegressor);

/// A kernel.
pub(super) struct Kernel<'a> {
    /// `LINEAR`, `POLY`, `RBF` or `SIGMOID`.
    pub(super) name: &'a str,
    /// Gamma, constant and degree.
    pub(super) parameters: &'a [f32],
}

impl Kernel<'_> {
    /// The kernel of each row and each support vector, `[rows,vectors]`.
    pub(super) fn of(&self, s: &mut Steps<'_>, x: Step, vectors: Step) -> Result<Step, InferError> {
        let parameter = |i: usize| self.parameters.get(i).map_or(0.0, |&p| f64::from(p));
        if self.name == "RBF" {
            let (x, vectors) = (s.unsqueeze(x, 1)?, s.unsqueeze(vectors, 0)?);
            let (difference, axes) = (s.sub(x, vectors)?, s.ints(&[2]));
            let squared = s.apply(ReduceSumSquare { keepdims: false, noop_with_empty_axes: false }, &[difference, axes])?;
            let gamma = s.number(DType::F32, -parameter(0));
            let power = s.mul(squared, gamma)?;
            return s.apply(Exp {}, &[power]);
        }
        let vectors = s.transpose(vectors, &[1, 0])?;
        let product = s.matmul(x, vectors)?;
        if self.name == "LINEAR" {
            return Ok(product);
        }
        let [gamma, constant, degree] = [0, 1, 2].map(|i| s.number(DType::F32, parameter(i)));
        let scaled = s.mul(product, gamma)?;
        let shifted = s.add(scaled, constant)?;
        match self.name {
            "POLY" => s.apply(Pow {}, &[shifted, degree]),
            "SIGMOID" => s.apply(Tanh {}, &[shifted]),
            other => Err(InferError::Invalid(format!("`kernel_type` \"{other}\""))),
        }
    }
}

impl SVMRegressor {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if self.post_transform != "NONE" {
            return Err(InferError::Unsupported(format!("`post_transform` \"{}\" is not supported", self.post_transform)));
        }
        let n = usize::try_from(self.n_supports).map_err(|_| InferError::Invalid(format!("`n_supports` {}", self.n_supports)))?;
        let x = rows(s)?;
        let width = s.dims(x)?[1];
        let (features, n) = match n {
            0 if self.kernel_type == "LINEAR" => (x, width),
            0 => return Err(InferError::Unsupported("a kernel without support vectors is not supported".to_owned())),
            n => {
                let vectors = table(s, &self.support_vectors, &[n, width], "support_vectors")?;
                (Kernel { name: &self.kernel_type, parameters: &self.kernel_params }.of(s, x, vectors)?, n)
            }
        };
        let weights = table(s, &self.coefficients, &[n, 1], "coefficients")?;
        let y = s.matmul(features, weights)?;
        let rho = table(s, &self.rho, &[1], "rho")?;
        let y = s.add(y, rho)?;
        if !self.one_class {
            return Ok(vec![y]);
        }
        let [zero, one, less] = [0.0, 1.0, -1.0].map(|x| s.number(DType::F32, x));
        let above = s.apply(Greater {}, &[y, zero])?;
        Ok(vec![s.choose(above, one, less)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_error, check_op, random, t};

    #[test]
    fn kernels_are_summed() {
        let op = "ai.onnx.ml.SVMRegressor coefficients=[1.0,-2.0] n_supports=2 support_vectors=[0.0,1.0,1.0,0.0] rho=[0.5]";
        let x = || [t("f32[2,2] 0 1 2 2")];
        assert_eq!(check_op(op, x())[0], t("f32[2,1] 1.5 -1.5"));
        let y = check_op(&format!("{op} kernel_type=\"POLY\" kernel_params=[1.0,1.0,2.0]"), x());
        assert_eq!(y[0], t("f32[2,1] 2.5 -8.5"));
        let y = check_op(&format!("{op} kernel_type=\"RBF\" kernel_params=[0.5,0.0,0.0]"), x());
        assert_close(&y[0], &t("f32[2,1] 0.7642411 0.41791500"));
        Check::new(&format!("{op} kernel_type=\"SIGMOID\" kernel_params=[0.3,0.1,0.0] one_class=1")).run([random("f32[4,2]", 1)]);
        let error = check_error(&format!("{op} post_transform=\"LOGISTIC\""), x());
        assert_eq!(error, "`post_transform` \"LOGISTIC\" is not supported");
    }
}

//! `LinearRegressor` and `LinearClassifier`.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html>, <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html>

use super::transform::{best_label, binary, integer_labels, post_transform, rows, table};
use crate::ops::elementwise::{Neg, Sigmoid};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `y[b,t] = sum over features of x[b,f] * coefficients[t,f] + intercepts[t]`.
    LinearRegressor(x) -> (y) since [1] in "ai.onnx.ml";
    /// Weights, targets first.
    coefficients: Vec<f32> = Vec::<f32>::new(),
    /// Addends, one for each target; none by default.
    intercepts: Vec<f32> = Vec::<f32>::new(),
    /// `NONE`, `SOFTMAX`, `LOGISTIC` or `SOFTMAX_ZERO`.
    post_transform: String = "NONE",
    /// Number of targets.
    targets: i64 = 1,
}

operator! {
    /// `z[b,c] = sum over features of x[b,f] * coefficients[c,f] + intercepts[c]`; `y[b]` is the label of the greatest.
    LinearClassifier(x) -> (y, z) since [1] in "ai.onnx.ml";
    /// Labels.
    classlabels_ints: Vec<i64> = Vec::<i64>::new(),
    /// Labels; not supported.
    classlabels_strings: Vec<String> = Vec::<String>::new(),
    /// Weights, classes first.
    coefficients: Vec<f32>,
    /// Addends, one for each class.
    intercepts: Vec<f32> = Vec::<f32>::new(),
    /// Not used.
    multi_class: i64 = 0,
    /// `NONE`, `SOFTMAX`, `LOGISTIC` or `SOFTMAX_ZERO`.
    post_transform: String = "NONE",
}

composite!(LinearRegressor);
composite!(LinearClassifier);

/// `x * coefficients^T + intercepts` for `n` targets.
fn scores(s: &mut Steps<'_>, coefficients: &[f32], intercepts: &[f32], n: usize) -> Result<Step, InferError> {
    let x = rows(s)?;
    let width = s.dims(x)?[1];
    let weights = table(s, coefficients, &[n, width], "coefficients")?;
    let weights = s.transpose(weights, &[1, 0])?;
    let y = s.matmul(x, weights)?;
    if intercepts.is_empty() {
        return Ok(y);
    }
    let intercepts = table(s, intercepts, &[n], "intercepts")?;
    s.add(y, intercepts)
}

impl LinearRegressor {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let n = usize::try_from(self.targets).map_err(|_| InferError::Invalid(format!("`targets` {}", self.targets)))?;
        let y = scores(s, &self.coefficients, &self.intercepts, n)?;
        Ok(vec![post_transform(s, y, &self.post_transform)?])
    }
}

impl LinearClassifier {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let labels = integer_labels(&self.classlabels_ints, &self.classlabels_strings)?;
        let x = rows(s)?;
        let width = s.dims(x)?[1];
        let n = self.coefficients.len().checked_div(width).unwrap_or(0);
        let y = scores(s, &self.coefficients, &self.intercepts, n)?;
        if n == labels.len() && n > 1 {
            return Ok(vec![best_label(s, y, labels)?, post_transform(s, y, &self.post_transform)?]);
        }
        if n != 1 || labels.len() != 2 {
            return Err(InferError::Unsupported(format!("scores of {n} classes for {} labels are not supported", labels.len())));
        }
        let both = match self.post_transform.as_str() {
            "NONE" => {
                let one = s.number(DType::F32, 1.0);
                [s.sub(one, y)?, y]
            }
            "LOGISTIC" => {
                let negative = s.apply(Neg {}, &[y])?;
                [s.apply(Sigmoid {}, &[negative])?, s.apply(Sigmoid {}, &[y])?]
            }
            other => return Err(InferError::Unsupported(format!("`post_transform` \"{other}\" of one score is not supported"))),
        };
        binary(s, y, 0.0, labels, both)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn products_and_labels() {
        let y = check_op("ai.onnx.ml.LinearRegressor coefficients=[1.0,2.0,3.0,4.0] targets=2 intercepts=[0.0,10.0]", [t("f32[1,2] 1 1")]);
        assert_eq!(y[0], t("f32[1,2] 3 17"));
        let op = "ai.onnx.ml.LinearClassifier classlabels_ints=[7,9,4] coefficients=[1.0,0.0,0.0,1.0,-1.0,-1.0]";
        let y = crate::ops::check::Check::new(op).results(2).run([t("f32[3,2] 1 0 0 1 -1 -1")]);
        assert_eq!(y[0], t("i64[3] 7 9 4"));
        let op = "ai.onnx.ml.LinearClassifier classlabels_ints=[7,9] coefficients=[1.0,1.0] post_transform=\"LOGISTIC\"";
        let y = crate::ops::check::Check::new(op).results(2).run([random("f32[5,2]", 1)]);
        assert_eq!(y[1].dims(), [5, 2]);
        let error = check_error("ai.onnx.ml.LinearClassifier classlabels_strings=[\"a\"] coefficients=[1.0]", [t("f32[1,1]")]);
        assert_eq!(error, "labels that are strings are not supported: let the classifier learn from integers");
    }
}

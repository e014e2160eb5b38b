//! `Scaler`, `Normalizer`, `Binarizer`, `Imputer`, `FeatureVectorizer` and `ArrayFeatureExtractor`: features on their way to a model.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html>, <https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html>,
//! <https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html>, <https://onnx.ai/onnx/operators/onnx_aionnxml_Imputer.html>,
//! <https://onnx.ai/onnx/operators/onnx_aionnxml_FeatureVectorizer.html>,
//! <https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html>

use super::transform::FEATURES;
use crate::ops::elementwise::{Equal, Greater, IsNaN};
use crate::ops::movement::Gather;
use crate::ops::neural::{ReduceL1, ReduceL2, ReduceMax};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `y = (x - offset) * scale`, with one of each for all features or for each.
    Scaler(x) -> (y) since [1] in "ai.onnx.ml";
    /// What is taken away.
    offset: Vec<f32> = Vec::<f32>::new(),
    /// Factor of the difference.
    scale: Vec<f32> = Vec::<f32>::new(),
}

operator! {
    /// Each row divided by its norm; rows of norm 0 stay.
    Normalizer(x) -> (y) since [1] in "ai.onnx.ml";
    /// `MAX`, `L1` or `L2`.
    norm: String = "MAX",
}

operator! {
    /// 1 where `x > threshold`, else 0.
    Binarizer(x) -> (y) since [1] in "ai.onnx.ml";
    /// The bound.
    threshold: f32 = 0.0,
}

operator! {
    /// `x` with one value replaced, by the same everywhere or by one for each feature.
    Imputer(x) -> (y) since [1] in "ai.onnx.ml";
    /// What replaces it, for real features.
    imputed_value_floats: Vec<f32> = Vec::<f32>::new(),
    /// What replaces it, for integer features.
    imputed_value_int64s: Vec<i64> = Vec::<i64>::new(),
    /// The value that is replaced, of real features; may be NaN.
    replaced_value_float: f32 = 0.0,
    /// The value that is replaced, of integer features.
    replaced_value_int64: i64 = 0,
}

operator! {
    /// The features of all operands side by side, as `f32`.
    FeatureVectorizer("x*") -> (y) since [1] in "ai.onnx.ml";
    /// Number of features of each operand.
    inputdimensions: Vec<i64> = Vec::<i64>::new(),
}

operator! {
    /// The features of `x`, its last axis, that `y` numbers.
    ArrayFeatureExtractor(x, y) -> (z) since [1] in "ai.onnx.ml";
}

composite!(Scaler);
composite!(Normalizer);
composite!(Binarizer);
composite!(Imputer);
composite!(FeatureVectorizer);
composite!(ArrayFeatureExtractor);

/// A list with one element for all features or one for each.
fn for_features(s: &mut Steps<'_>, x: Step, list: Tensor, what: &str) -> Result<Step, InferError> {
    let n = s.dims(x)?.last().copied().unwrap_or(1);
    if list.len() != 1 && list.len() != n {
        return Err(InferError::Invalid(format!("`{what}` has {} elements for {n} features", list.len())));
    }
    Ok(s.constant(list))
}

fn list<T: crate::tensor::Element>(x: &[T]) -> Tensor {
    Tensor::from_slice(&[x.len()], x)
}

impl Scaler {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, FEATURES)?;
        let x = s.operand(0)?;
        let x = s.cast(x, DType::F32)?;
        let offset = for_features(s, x, list(&self.offset), "offset")?;
        let scale = for_features(s, x, list(&self.scale), "scale")?;
        let centered = s.sub(x, offset)?;
        Ok(vec![s.mul(centered, scale)?])
    }
}

impl Normalizer {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, FEATURES)?;
        let x = s.operand(0)?;
        let x = s.cast(x, DType::F32)?;
        if !matches!(s.dims(x)?.len(), 1 | 2) {
            return Err(InferError::Unsupported(format!("features of type `{}` are not rows", s.fact(x).ty)));
        }
        let axes = s.ints(&[-1]);
        let (keepdims, noop_with_empty_axes) = (true, false);
        let norm = match self.norm.as_str() {
            "MAX" => s.apply(ReduceMax { keepdims, noop_with_empty_axes }, &[x, axes])?,
            "L1" => s.apply(ReduceL1 { keepdims, noop_with_empty_axes }, &[x, axes])?,
            "L2" => s.apply(ReduceL2 { keepdims, noop_with_empty_axes }, &[x, axes])?,
            other => return Err(InferError::Invalid(format!("`norm` \"{other}\""))),
        };
        let (zero, one) = (s.number(DType::F32, 0.0), s.number(DType::F32, 1.0));
        let none = s.apply(Equal {}, &[norm, zero])?;
        let norm = s.choose(none, one, norm)?;
        Ok(vec![s.div(x, norm)?])
    }
}

impl Binarizer {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, FEATURES)?;
        let x = s.operand(0)?;
        // Integers compare with a real bound.
        let wide = if dtype == DType::F32 { x } else { s.cast(x, DType::F64)? };
        let bound = s.number(s.dtype(wide), self.threshold.into());
        let above = s.apply(Greater {}, &[wide, bound])?;
        Ok(vec![s.cast(above, dtype)?])
    }
}

impl Imputer {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::I64])?;
        let x = s.operand(0)?;
        if dtype == DType::I64 {
            let values = for_features(s, x, list(&self.imputed_value_int64s), "imputed_value_int64s")?;
            let old = s.constant(Tensor::scalar(self.replaced_value_int64));
            let found = s.apply(Equal {}, &[x, old])?;
            return Ok(vec![s.choose(found, values, x)?]);
        }
        let values = for_features(s, x, list(&self.imputed_value_floats), "imputed_value_floats")?;
        let found = if self.replaced_value_float.is_nan() {
            s.apply(IsNaN {}, &[x])?
        } else {
            let old = s.number(DType::F32, self.replaced_value_float.into());
            s.apply(Equal {}, &[x, old])?
        };
        Ok(vec![s.choose(found, values, x)?])
    }
}

impl FeatureVectorizer {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let mut parts = vec![];
        for i in 0..s.operands().len() {
            s.operands().require_dtype(i, FEATURES)?;
            let x = s.operand(i)?;
            let x = s.cast(x, DType::F32)?;
            let dims = s.dims(x)?;
            let rows = if dims.len() < 2 { 1 } else { dims[0] };
            let n = dims.iter().product::<usize>().checked_div(rows).unwrap_or(0);
            if self.inputdimensions.get(i).is_some_and(|&d| d != n as i64) {
                return Err(InferError::Unsupported(format!("operand {i} has {n} features, not {}", self.inputdimensions[i])));
            }
            parts.push(s.reshape(x, &[rows, n])?);
        }
        if parts.is_empty() {
            return Err(InferError::Invalid("there are no features".to_owned()));
        }
        Ok(vec![s.concat(&parts, 1)?])
    }
}

impl ArrayFeatureExtractor {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, FEATURES)?;
        s.operands().require_dtype(1, &[DType::I64])?;
        let (x, y) = (s.operand(0)?, s.operand(1)?);
        let n = s.dims(y)?.iter().product();
        let y = s.reshape(y, &[n])?;
        let dims = s.dims(x)?;
        let x = if dims.len() == 1 { s.reshape(x, &[1, dims[0]])? } else { x };
        Ok(vec![s.apply(Gather { axis: -1 }, &[x, y])?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn features_change_one_by_one() {
        let y = check_op("ai.onnx.ml.Scaler offset=[1.0,2.0] scale=[0.5]", [t("i64[2,2] 1 2 3 6")]);
        assert_eq!(y[0], t("f32[2,2] 0 0 1 2"));
        assert_eq!(check_op("ai.onnx.ml.Binarizer threshold=1.0", [t("f32[3] 1 2 nan")])[0], t("f32[3] 0 1 0"));
        assert_eq!(
            check_op("ai.onnx.ml.Imputer imputed_value_floats=[7.0,8.0] replaced_value_float=NaN", [t("f32[2,2] nan 1 0 nan")])[0],
            t("f32[2,2] 7 1 0 8")
        );
        assert_eq!(
            check_op("ai.onnx.ml.Imputer imputed_value_int64s=[7] replaced_value_int64=1", [t("i64[3] 0 1 2")])[0],
            t("i64[3] 0 7 2")
        );
        let error = check_error("ai.onnx.ml.Scaler offset=[1.0,2.0] scale=[0.5]", [t("f32[2,3]")]);
        assert_eq!(error, "`offset` has 2 elements for 3 features");
    }

    #[test]
    fn rows_are_divided_by_their_norm() {
        let x = || [t("f32[2,2] 3 -4 0 0")];
        assert_eq!(check_op("ai.onnx.ml.Normalizer norm=\"L2\"", x())[0], t("f32[2,2] 0.6 -0.8 0 0"));
        assert_eq!(check_op("ai.onnx.ml.Normalizer norm=\"L1\"", [t("f32[1,2] 1 -3")])[0], t("f32[1,2] 0.25 -0.75"));
        assert_eq!(check_op("ai.onnx.ml.Normalizer", [t("f32[1,2] 2 -3")])[0], t("f32[1,2] 1 -1.5"));
    }

    #[test]
    fn features_side_by_side_and_chosen() {
        let y = check_op("ai.onnx.ml.FeatureVectorizer inputdimensions=[1,2]", [t("i64[2,1] 1 2"), t("f32[2,2] 3 4 5 6")]);
        assert_eq!(y[0], t("f32[2,3] 1 3 4 2 5 6"));
        let y = check_op("ai.onnx.ml.ArrayFeatureExtractor", [t("f32[2,3] 1 2 3 4 5 6"), t("i64[1,2] 2 0")]);
        assert_eq!(y[0], t("f32[2,2] 3 1 6 4"));
        assert_eq!(check_op("ai.onnx.ml.ArrayFeatureExtractor", [t("i64[3] 1 2 3"), t("i64[1] 1")])[0], t("i64[1,1] 2"));
    }
}

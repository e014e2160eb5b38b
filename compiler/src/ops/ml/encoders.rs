//! `OneHotEncoder` and `LabelEncoder`: numbers in place of numbers; strings have no tensors here.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html>, <https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html>

use super::transform::FEATURES;
use crate::ops::elementwise::{Equal, IsNaN, Or};
use crate::ops::movement::Gather;
use crate::ops::neural::{ArgMax, ReduceMax};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// A new last axis with 1 at the place of the element's category, and 0 elsewhere.
    OneHotEncoder(x) -> (y) since [1] in "ai.onnx.ml";
    /// The categories.
    cats_int64s: Vec<i64> = Vec::<i64>::new(),
    /// The categories; not supported.
    cats_strings: Vec<String> = Vec::<String>::new(),
    /// Whether an element of no category gives zeros; otherwise the run ends with a status.
    zeros: bool = true,
}

operator! {
    /// The value whose key is the element, or a default.
    LabelEncoder(x) -> (y) since [1, 2, 4] in "ai.onnx.ml";
    /// Strings and their positions; not supported.
    classes_strings: Vec<String> = Vec::<String>::new(),
    /// The default.
    default_float: f32 = -0.0f32,
    /// The default.
    default_int64: i64 = -1,
    /// The default; not supported.
    default_string: String = "_Unused",
    /// The default.
    default_tensor: Option<Tensor>,
    /// The keys.
    keys_floats: Vec<f32> = Vec::<f32>::new(),
    /// The keys.
    keys_int64s: Vec<i64> = Vec::<i64>::new(),
    /// The keys; not supported.
    keys_strings: Vec<String> = Vec::<String>::new(),
    /// The keys.
    keys_tensor: Option<Tensor>,
    /// The values.
    values_floats: Vec<f32> = Vec::<f32>::new(),
    /// The values.
    values_int64s: Vec<i64> = Vec::<i64>::new(),
    /// The values; not supported.
    values_strings: Vec<String> = Vec::<String>::new(),
    /// The values.
    values_tensor: Option<Tensor>,
}

composite!(OneHotEncoder);
composite!(LabelEncoder);

impl OneHotEncoder {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, FEATURES)?;
        if !self.cats_strings.is_empty() || self.cats_int64s.is_empty() {
            return Err(InferError::Unsupported("categories that are not integers are not supported".to_owned()));
        }
        let x = s.operand(0)?;
        let x = s.cast(x, DType::I64)?;
        let x = s.unsqueeze(x, -1)?;
        let categories = s.ints(&self.cats_int64s);
        let same = s.apply(Equal {}, &[x, categories])?;
        if self.zeros {
            return Ok(vec![s.cast(same, DType::F32)?]);
        }
        // A row of the identity; there is none for an element of no category.
        let n = self.cats_int64s.len();
        let mut rows = vec![0.0f32; n * n];
        rows.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
        let (rows, none) = (s.constant(Tensor::from_slice(&[n, n], &rows)), s.number(DType::I64, n as f64));
        let (place, found) = first_of(s, same)?;
        let place = s.choose(found, place, none)?;
        Ok(vec![s.apply(Gather { axis: 0 }, &[rows, place])?])
    }
}

/// Where the first `true` of the last axis is, and whether there is one.
fn first_of(s: &mut Steps<'_>, found: Step) -> Result<(Step, Step), InferError> {
    let (found, axes) = (s.cast(found, DType::I32)?, s.ints(&[-1]));
    let place = s.apply(ArgMax { axis: -1, keepdims: false, select_last_index: false }, &[found])?;
    let any = s.apply(ReduceMax { keepdims: false, noop_with_empty_axes: false }, &[found, axes])?;
    Ok((place, s.cast(any, DType::Bool)?))
}

/// One of the forms that a list is given in.
fn given(tensor: Option<&Tensor>, ints: &[i64], floats: &[f32], what: &str) -> Result<Tensor, InferError> {
    match (tensor, ints, floats) {
        (Some(t), [], []) => Ok(t.reshape(&[t.len()])),
        (None, [_, ..], []) => Ok(Tensor::from_slice(&[ints.len()], ints)),
        (None, [], [_, ..]) => Ok(Tensor::from_slice(&[floats.len()], floats)),
        _ => Err(InferError::Invalid(format!("{what} must be given in one form"))),
    }
}

impl LabelEncoder {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if [&self.classes_strings, &self.keys_strings, &self.values_strings].iter().any(|l| !l.is_empty()) {
            return Err(InferError::Unsupported("strings are not supported".to_owned()));
        }
        let keys = given(self.keys_tensor.as_ref(), &self.keys_int64s, &self.keys_floats, "keys")?;
        let values = given(self.values_tensor.as_ref(), &self.values_int64s, &self.values_floats, "values")?;
        if keys.len() != values.len() || keys.is_empty() {
            return Err(InferError::Invalid(format!("{} keys and {} values", keys.len(), values.len())));
        }
        s.operands().require_dtype(0, &[keys.dtype()])?;
        let default = match &self.default_tensor {
            Some(t) if t.len() == 1 && t.dtype() == values.dtype() => t.reshape(&[]),
            Some(t) => return Err(InferError::Invalid(format!("the default is `{}`", t.ty()))),
            None if values.dtype().is_float() => Tensor::from_f64s(values.dtype(), &[], &[self.default_float.into()]),
            None => Tensor::from_ints(values.dtype(), &[], &[self.default_int64.into()]),
        };
        let x = s.operand(0)?;
        let x = s.unsqueeze(x, -1)?;
        let nan = keys.dtype().is_float().then(|| keys.to_f64s().iter().map(|k| k.is_nan()).collect::<Vec<_>>());
        let n = keys.len();
        let (keys, values, default) = (s.constant(keys), s.constant(values), s.constant(default));
        let mut same = s.apply(Equal {}, &[x, keys])?;
        if let Some(nan) = nan.filter(|n| n.contains(&true)) {
            let nan = s.constant(Tensor::from_bools(&[n], nan));
            let unordered = s.apply(IsNaN {}, &[x])?;
            let both = s.apply(crate::ops::elementwise::And {}, &[unordered, nan])?;
            same = s.apply(Or {}, &[same, both])?;
        }
        let (place, found) = first_of(s, same)?;
        let value = s.apply(Gather { axis: 0 }, &[values, place])?;
        Ok(vec![s.choose(found, value, default)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn categories_are_places() {
        let y = check_op("ai.onnx.ml.OneHotEncoder cats_int64s=[3,5]", [t("f32[2,1] 5 4")]);
        assert_eq!(y[0], t("f32[2,1,2] 0 1 0 0"));
        let y = check_op("ai.onnx.ml.OneHotEncoder cats_int64s=[3,5] zeros=0", [t("i64[3] 5 3 5")]);
        assert_eq!(y[0], t("f32[3,2] 0 1 1 0 0 1"));
        let error = check_error("ai.onnx.ml.OneHotEncoder cats_strings=[\"a\"]", [t("i64[1]")]);
        assert_eq!(error, "categories that are not integers are not supported");
    }

    #[test]
    fn keys_have_values() {
        let y =
            check_op("ai.onnx.ml.LabelEncoder keys_int64s=[1,2,1] values_floats=[0.5,1.5,9.0] default_float=7.0", [t("i64[2,2] 1 2 3 1")]);
        assert_eq!(y[0], t("f32[2,2] 0.5 1.5 7 0.5"));
        let y = check_op("ai.onnx.ml.LabelEncoder keys_floats=[1.5,NaN] values_int64s=[4,5]", [t("f32[3] nan 1.5 1")]);
        assert_eq!(y[0], t("i64[3] 5 4 -1"));
        assert_eq!(
            check_error("ai.onnx.ml.LabelEncoder keys_strings=[\"a\"] values_int64s=[1]", [t("i64[1]")]),
            "strings are not supported"
        );
    }
}

//! `ZipMap`: what classifiers end with, a map from class to probability for each row.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html>
//!
//! A library knows tensors only: the maps are the rows of the operand, and keys stand for columns, in their order.

use crate::ops::elementwise::Identity;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// The values of the maps, with a column for each key: `y = x`.
    ZipMap(x) -> (y) since [1] in "ai.onnx.ml";
    /// The keys.
    classlabels_int64s: Vec<i64> = Vec::<i64>::new(),
    /// The keys.
    classlabels_strings: Vec<String> = Vec::<String>::new(),
}

composite!(ZipMap);

impl ZipMap {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, &[DType::F32])?;
        let n = match (self.classlabels_int64s.len(), self.classlabels_strings.len()) {
            (n, 0) | (0, n) => n,
            _ => return Err(InferError::Invalid("keys must be given in one form".to_owned())),
        };
        if s.operands().dims(0)?.last() != Some(&n) {
            return Err(InferError::Invalid(format!("{n} keys for values `{}`", s.operands().ty(0)?)));
        }
        let x = s.operand(0)?;
        Ok(vec![s.apply(Identity {}, &[x])?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn maps_are_rows() {
        for keys in ["classlabels_int64s=[5,7]", "classlabels_strings=[\"a\",\"b\"]"] {
            assert_eq!(check_op(&format!("ai.onnx.ml.ZipMap {keys}"), [random("f32[3,2]", 1)])[0], random("f32[3,2]", 1));
        }
        assert_eq!(check_error("ai.onnx.ml.ZipMap classlabels_int64s=[1]", [t("f32[3,2]")]), "1 keys for values `f32[3,2]`");
    }
}

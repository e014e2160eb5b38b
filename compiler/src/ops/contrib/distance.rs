//! `CDist`: the distance of each row of one matrix from each row of another.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.CDist>

use crate::ops::elementwise::Sqrt;
use crate::ops::neural::ReduceSumSquare;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `c[m,n]` is the distance of row `m` of `a` from row `n` of `b`, squared or not.
    CDist(a, b) -> (c) since [1] in "com.microsoft";
    /// `sqeuclidean` or `euclidean`.
    metric: String = "sqeuclidean",
}

composite!(CDist);

impl CDist {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (a, b) = (s.operand(0)?, s.operand(1)?);
        if s.operands().rank(0)? != 2 || s.operands().rank(1)? != 2 {
            return Err(InferError::Invalid("the operands must be matrices".to_owned()));
        }
        let (a, b) = (s.unsqueeze(a, 1)?, s.unsqueeze(b, 0)?);
        let (difference, axes) = (s.sub(a, b)?, s.ints(&[2]));
        let squared = s.apply(ReduceSumSquare { keepdims: false, noop_with_empty_axes: false }, &[difference, axes])?;
        match self.metric.as_str() {
            "sqeuclidean" => Ok(vec![squared]),
            "euclidean" => Ok(vec![s.apply(Sqrt {}, &[squared])?]),
            other => Err(InferError::Unsupported(format!("`metric` \"{other}\" is not supported"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn squared_and_not() {
        let (a, b) = (|| t("f32[2,2] 0 0 3 4"), || t("f32[3,2] 0 0 3 4 0 4"));
        assert_eq!(check_op("com.microsoft.CDist", [a(), b()])[0], t("f32[2,3] 0 25 16 25 0 9"));
        assert_eq!(check_op("com.microsoft.CDist metric=\"euclidean\"", [a(), b()])[0], t("f32[2,3] 0 5 4 5 0 3"));
        assert_eq!(check_error("com.microsoft.CDist metric=\"cosine\"", [a(), b()]), "`metric` \"cosine\" is not supported");
    }
}

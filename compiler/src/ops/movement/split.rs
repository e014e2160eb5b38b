//! `Split`: consecutive parts along an axis.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Split.html>

use super::view::{identity_view, kept_axes};
use crate::operator;
use crate::ops::{Axes, InferError, Operands, Operator, View};
use crate::tensor::{Dim, Type};

operator! {
    /// Consecutive parts of `input` along one axis, of the extents in `split`, or else of equal extents.
    Split(input, "split?") -> ("outputs*") since [1, 2, 11, 13, 18];
    /// The axis.
    axis: i64 = 0,
    /// Number of equal parts (the last may be smaller) where there is no `split`; the number of results where it is absent.
    num_outputs: Option<i64>,
}

impl Split {
    fn parts(&self, x: &Operands) -> Result<Vec<usize>, InferError> {
        let axis = x.axis(0, self.axis)?;
        let extent = x.ty(0)?.shape.0[axis].fixed();
        let invalid = |why: String| {
            InferError::Invalid(format!("axis {axis} of `{}` {why}", x.facts[0].as_ref().map_or(String::new(), |f| f.ty.to_string())))
        };
        let parts = if x.has(1) {
            let parts = x.ints(1)?.into_iter().map(super::extent).collect::<Result<Vec<usize>, _>>()?;
            let sum = parts.iter().try_fold(0usize, |s, &p| s.checked_add(p));
            if extent.is_some_and(|d| sum != Some(d)) {
                return Err(invalid(format!("does not split into {parts:?}")));
            }
            parts
        } else {
            let n = self.num_outputs.map_or(Ok(x.n_results), super::extent)?;
            let extent = extent.ok_or_else(|| x.dims(0).err().unwrap_or(InferError::MissingOperand { operand: 0 }))?;
            // Refused before the list of parts is made, which a hostile number would make long.
            let size = extent.checked_div(n).map(|_| extent.div_ceil(n));
            let Some(last) =
                size.and_then(|s| s.checked_mul(n - 1)).and_then(|before| extent.checked_sub(before)).filter(|_| n == x.n_results)
            else {
                return Err(invalid(format!("does not split into {n} parts for {} results", x.n_results)));
            };
            let mut parts = vec![size.unwrap_or(0); n];
            parts[n - 1] = last;
            parts
        };
        if parts.len() != x.n_results {
            return Err(invalid(format!("splits into {} parts, but there are {} results", parts.len(), x.n_results)));
        }
        Ok(parts)
    }
}

impl Operator for Split {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (ty, axis) = (x.ty(0)?, x.axis(0, self.axis)?);
        let part = |p: usize| ty.with_dims(ty.shape.0.iter().enumerate().map(|(i, d)| if i == axis { Dim::Fixed(p) } else { d.clone() }));
        Ok(self.parts(x)?.into_iter().map(part).collect())
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let (Ok(rank), Ok(split)) = (x.rank(0), x.axis(0, self.axis)) {
            let kept = kept_axes(rank, x.n_results, |axis| axis != split);
            axes.operands[0].clone_from(&kept.operands[0]);
            axes.results = kept.results;
        }
        axes
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let axis = x.axis(0, self.axis).ok()?;
        let mut start = 0;
        let view = |part: usize| {
            let mut forms = identity_view(x.rank(0).unwrap_or(0));
            forms[axis].constant = start;
            start += part as i64;
            View::Affine(forms)
        };
        Some(self.parts(x).ok()?.into_iter().map(view).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};
    use crate::tensor::Tensor;

    #[test]
    fn parts_follow_one_another() {
        let split = |op: &str, n: usize, operands: Vec<Tensor>| Check::new(op).results(n).run(operands);
        assert_eq!(split("Split", 2, vec![t("f32[4] 1 2 3 4")]), [t("f32[2] 1 2"), t("f32[2] 3 4")]);
        assert_eq!(split("Split num_outputs=2 axis=-1", 2, vec![t("f32[1,3] 1 2 3")]), [t("f32[1,2] 1 2"), t("f32[1,1] 3")]);
        assert_eq!(split("Split axis=1", 3, vec![random("f32[2,5,3]", 1), t("i64[3] 1 0 4")])[2].dims(), [2, 4, 3]);
    }

    #[test]
    fn parts_cover_the_axis() {
        assert_eq!(check_error("Split", [random("f32[4]", 1), t("i64[1] 3")]), "axis 0 of `f32[4]` does not split into [3]");
        assert_eq!(
            check_error("Split", [random("f32[4]", 1), t("i64[2] 2 2")]),
            "axis 0 of `f32[4]` splits into 2 parts, but there are 1 results"
        );
        assert_eq!(
            check_error("Split num_outputs=9223372036854775807", [random("f32[4]", 1)]),
            "axis 0 of `f32[4]` does not split into 9223372036854775807 parts for 1 results"
        );
    }
}

//! `Expand`: broadcasting to a given shape.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Expand.html>

use crate::operator;
use crate::ops::{Axes, InferError, Operands, Operator, View};
use crate::tensor::{Affine, Dim, Shape, Type};

operator! {
    /// `input` broadcast together with `shape`.
    Expand(input, shape) -> (output) since [8, 13];
}

impl Operator for Expand {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let shape = x.ints(1)?.into_iter().map(super::extent).collect::<Result<Vec<usize>, _>>()?;
        let broadcast = ty.shape.broadcast(&Shape::fixed(&shape));
        let result = Type::new(ty.dtype, broadcast.ok_or_else(|| InferError::Invalid(format!("`{ty}` does not broadcast to {shape:?}")))?);
        result.dims().map_or(Ok(result.clone()), |dims| super::sized(ty.dtype, &dims)).map(|ty| vec![ty])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let (Ok(from), Ok(to)) = (x.ty(0), self.infer(x)) {
            let skip = to[0].rank() - from.rank();
            axes.results = vec![vec![None; to[0].rank()]];
            for (i, dim) in from.shape.0.iter().enumerate() {
                if *dim == to[0].shape.0[i + skip] && *dim != Dim::Unknown {
                    axes.operands[0][i] = Some(i as u32);
                    axes.results[0][i + skip] = Some(i as u32);
                }
            }
        }
        axes
    }

    fn shape_operand(&self) -> Option<usize> {
        Some(1)
    }

    fn repeats(&self, x: &Operands, axis: usize) -> bool {
        let (Ok(from), Ok(to)) = (x.dims(0), self.infer(x)) else { return false };
        (axis + from.len()).checked_sub(to[0].rank()).is_none_or(|i| from[i] == 1)
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let from = x.dims(0).ok()?;
        let skip = self.infer(x).ok()?[0].rank() - from.len();
        let forms = from.iter().enumerate().map(|(i, &d)| if d == 1 { Affine::default() } else { Affine::var(i + skip) });
        Some(vec![View::Affine(forms.collect())])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn both_shapes_broadcast() {
        assert_eq!(check_op("Expand", [t("f32[2,1] 1 2"), t("i64[2] 2 3")]), [t("f32[2,3] 1 1 1 2 2 2")]);
        assert_eq!(check_op("Expand", [t("i64[3] 1 2 3"), t("i64[2] 2 1")]), [t("i64[2,3] 1 2 3 1 2 3")]);
        assert_eq!(check_op("Expand", [random("f32[2,1,3]", 1), t("i64[1] 1")])[0].dims(), [2, 1, 3]);
        check_op("Expand", [random("bool[]", 1), t("i64[2] 2 0")]);
        assert_eq!(check_error("Expand", [random("f32[2]", 1), t("i64[1] 3")]), "`f32[2]` does not broadcast to [3]");
        let error = check_error("Expand", [random("f32[1]", 1), t("i64[2] 4294967296 4294967296")]);
        assert_eq!(error, "the result `f32[4294967296,4294967296]` is too large");
    }
}

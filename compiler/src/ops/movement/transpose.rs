//! `Transpose`: axes in another order.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Transpose.html>

use crate::operator;
use crate::ops::{Axes, InferError, Operands, Operator, View};
use crate::tensor::{Affine, Type};

operator! {
    /// Axis `i` of the result is axis `perm[i]` of `data`.
    Transpose(data) -> (transposed) since [1, 13, 21, 23, 24, 25];
    /// The order; reversed where it is absent.
    perm: Option<Vec<i64>>,
}

impl Transpose {
    fn order(&self, rank: usize) -> Result<Vec<usize>, InferError> {
        let Some(perm) = &self.perm else { return Ok((0..rank).rev().collect()) };
        let order: Vec<usize> = perm.iter().map(|&p| usize::try_from(p).unwrap_or(usize::MAX)).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted.into_iter().eq(0..rank) {
            Ok(order)
        } else {
            Err(InferError::Invalid(format!("perm {perm:?} is not an order of {rank} axes")))
        }
    }
}

impl Operator for Transpose {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        Ok(vec![ty.with_dims(self.order(ty.rank())?.into_iter().map(|axis| ty.shape.0[axis].clone()))])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(order) = x.rank(0).and_then(|rank| self.order(rank)) {
            axes.operands[0] = (0..order.len() as u32).map(Some).collect();
            axes.results = vec![order.into_iter().map(|axis| Some(axis as u32)).collect()];
        }
        axes
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let order = self.order(x.rank(0).ok()?).ok()?;
        let mut forms = vec![Affine::default(); order.len()];
        for (i, axis) in order.into_iter().enumerate() {
            forms[axis] = Affine::var(i);
        }
        Some(vec![View::Affine(forms)])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn axes_come_in_the_given_order() {
        assert_eq!(check_op("Transpose", [t("f32[2,3] 1 2 3 4 5 6")]), [t("f32[3,2] 1 4 2 5 3 6")]);
        assert_eq!(check_op("Transpose perm=[1,0,2]", [t("i64[2,1,2] 1 2 3 4")]), [t("i64[1,2,2] 1 2 3 4")]);
        check_op("Transpose perm=[0,2,3,1]", [random("f32[2,3,4,5]", 1)]);
        check_op("Transpose", [random("bool[3,0,2]", 1)]);
        check_op("Transpose", [random("f16[]", 1)]);
    }

    #[test]
    fn an_order_names_each_axis_once() {
        assert_eq!(check_error("Transpose perm=[0,0]", [random("f32[2,2]", 1)]), "perm [0, 0] is not an order of 2 axes");
        assert_eq!(check_error("Transpose perm=[-1,0]", [random("f32[2,2]", 1)]), "perm [-1, 0] is not an order of 2 axes");
    }
}

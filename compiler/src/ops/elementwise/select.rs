//! `Where`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Where.html>

use super::broadcast::{self, zip};
use crate::expr::{Builder, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements};

operator! {
    /// `output = condition ? x : y`, element by element with broadcasting of all three.
    Where(condition, x, y) -> (output) since [9, 16];
}

impl Operator for Where {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &[DType::Bool])?;
        x.require_same_dtype(2, 1)?;
        Ok(vec![Type::new(x.dtype(1)?, broadcast::shape(x)?)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn interval(&self, x: &Operands, of: &[Interval]) -> Interval {
        self.same_as(x, of).map_or(of[1].join(of[2]), |i| of[i])
    }

    fn same_as(&self, _: &Operands, of: &[Interval]) -> Option<usize> {
        of[0].number().map(|chosen| if chosen == 0.0 { 2 } else { 1 })
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (condition, a, b) = (x.tensor(0), x.tensor(1), x.tensor(2));
        let dims = broadcast::dims([condition, a, b]);
        // Offsets are broadcast instead of elements, so that one way serves all types.
        let numbered = |t: &Tensor| (0..t.len()).collect::<Vec<usize>>();
        let chosen: Vec<usize> = condition.as_slice::<u8>().iter().map(|&c| usize::from(c)).collect();
        let (of_a, of_b) = (numbered(a), numbered(b));
        let places = zip(&dims, [(condition.dims(), &chosen), (a.dims(), &of_a), (b.dims(), &of_b)], |[c, i, j]| (c != 0, i, j));
        let size = a.dtype().size_bytes();
        let mut bytes = Vec::with_capacity(n_elements(&dims) * size);
        for (chosen, i, j) in places {
            let (from, at) = if chosen { (a, i) } else { (b, j) };
            bytes.extend_from_slice(&from.bytes()[at * size..][..size]);
        }
        Ok(vec![Tensor::from_bytes(a.dtype(), &dims, &bytes)])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![b.map(&[x.tensor(0), x.tensor(1), x.tensor(2)], |v| v[0].select(&v[1], &v[2]))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn broadcasts() {
        let y = check_op("Where", [t("bool[2,1] 1 0"), t("f32[3] 1 nan 3"), t("f32[] 9")]);
        assert_eq!(y, [t("f32[2,3] 1 nan 3 9 9 9")]);
        for dtype in ["bool", "i8", "u16", "i32", "i64", "f16", "bf16", "f32", "f64"] {
            check_op("Where", [random("bool[2,1,4]", 1), random(&format!("{dtype}[3,1]"), 2), random(&format!("{dtype}[2,3,4]"), 3)]);
            check_op("Where", [random("bool[4]", 1), random(&format!("{dtype}[0,4]"), 2), random(&format!("{dtype}[4]"), 3)]);
        }
    }

    #[test]
    fn errors() {
        assert_eq!(
            check_error("Where", [t("i32[1]"), t("f32[1]"), t("f32[1]")]),
            "operand 0 has element type `i32`, which is not supported here"
        );
        assert_eq!(check_error("Where", [t("bool[1]"), t("f32[1]"), t("i32[1]")]), "operands 1 and 2 differ in element type: f32 and i32");
        assert_eq!(check_error("Where", [t("bool[2]"), t("f32[3]"), t("f32[1]")]), "shapes [2] and [3] do not broadcast");
    }
}

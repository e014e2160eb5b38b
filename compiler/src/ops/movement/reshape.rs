//! `Reshape`: the same elements under other extents.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Reshape.html>

use super::view::{outermost, reshaped_axes};
use crate::operator;
use crate::ops::{Axes, InferError, Interval, Operands, Operator, View};
use crate::tensor::{Dim, Type};

operator! {
    /// The elements of `data`, row-major, under the extents in `shape`: 0 copies the extent of `data`, -1 is what is left.
    Reshape(data, shape) -> (reshaped) since [1, 5, 13, 14, 19, 21, 23, 24, 25];
    /// Whether 0 in `shape` is an extent of 0.
    allowzero: bool = false,
}

impl Operator for Reshape {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let shape = x.ints(1)?;
        let invalid = |why: &str| InferError::Invalid(format!("`{ty}` cannot have the shape {shape:?}: {why}"));
        let mut open = None;
        let mut dims = vec![];
        for (i, &want) in shape.iter().enumerate() {
            dims.push(match want {
                0 if !self.allowzero => ty.shape.0.get(i).cloned().ok_or_else(|| invalid("it has no such axis to copy"))?,
                -1 if open.is_some() => return Err(invalid("two extents are -1")),
                -1 => {
                    open = Some(i);
                    Dim::Unknown
                }
                want => Dim::Fixed(super::extent(want)?),
            });
        }
        if self.allowzero && open.is_some() && shape.contains(&0) {
            return Err(invalid("0 and -1 together"));
        }
        // What is the same on both sides says nothing about the rest.
        let mut left = ty.shape.0.clone();
        let mut right: Vec<Dim> = (0..dims.len()).filter(|&i| open != Some(i)).map(|i| dims[i].clone()).collect();
        right.retain(|dim| match left.iter().position(|l| l == dim && *l != Dim::Unknown) {
            Some(i) => {
                left.remove(i);
                false
            }
            None => true,
        });
        let product = |dims: &[Dim]| dims.iter().map(Dim::fixed).try_fold(1usize, |p, d| p.checked_mul(d?));
        let empty = |dims: &[Dim]| dims.contains(&Dim::Fixed(0));
        let unknown = || x.dims(0).err().unwrap_or_else(|| invalid("too many elements"));
        match (open, product(&left), product(&right)) {
            (None, Some(l), Some(r)) if l != r && !(empty(&ty.shape.0) && empty(&dims)) => {
                return Err(invalid("the number of elements differs"));
            }
            (None, _, _) => {}
            (Some(i), Some(l), Some(r)) => {
                if r == 0 || l % r != 0 {
                    return Err(invalid("the number of elements does not divide"));
                }
                dims[i] = Dim::Fixed(l / r);
            }
            (Some(i), None, Some(1)) => {
                let mut rest = left.into_iter().filter(|d| *d != Dim::Fixed(1));
                match (rest.next(), rest.next()) {
                    (Some(only), None) => dims[i] = only,
                    _ => return Err(unknown()),
                }
            }
            _ => return Err(unknown()),
        }
        Ok(vec![ty.with_dims(dims)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        match (x.ty(0), self.infer(x)) {
            (Ok(from), Ok(to)) => {
                let mut axes = reshaped_axes(&from.shape.0, &to[0].shape.0);
                axes.operands.push(vec![None; x.rank(1).unwrap_or(1)]);
                axes
            }
            _ => Axes::unlinked(x),
        }
    }

    fn view(&self, _: &Operands) -> Option<Vec<View>> {
        Some(vec![View::Reshape])
    }

    fn carries(&self, x: &Operands, operand: usize, axis: usize, _: &[Interval]) -> Option<(usize, usize)> {
        let to = self.infer(x).ok()?[0].dims()?;
        if operand == 0 { outermost(&x.dims(0).ok()?, &to, axis) } else { None }
    }

    fn shape_operand(&self) -> Option<usize> {
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn extents_are_copied_and_completed() {
        let shape = |op: &str, ty: &str, shape: &str| check_op(op, [random(ty, 1), t(shape)])[0].dims().to_vec();
        assert_eq!(shape("Reshape", "f32[2,3,4]", "i64[2] 6 4"), [6, 4]);
        assert_eq!(shape("Reshape", "f32[2,3,4]", "i64[3] 0 -1 2"), [2, 6, 2]);
        assert_eq!(shape("Reshape", "u8[2,3,4]", "i64[1] -1"), [24]);
        assert_eq!(shape("Reshape", "i64[1]", "i64[0]"), [0usize; 0]);
        assert_eq!(shape("Reshape", "f32[0,3]", "i64[2] 0 -1"), [0, 3]);
        assert_eq!(shape("Reshape allowzero=1", "f32[0,3]", "i64[2] 3 0"), [3, 0]);
        assert_eq!(shape("Reshape", "f32[0,4,3]", "i64[2] 0 3"), [0, 3]);
        assert_eq!(check_op("Reshape", [t("f32[2,2] 1 2 3 4"), t("i64[1] 4")]), [t("f32[4] 1 2 3 4")]);
    }

    #[test]
    fn unnamed_extents_follow_symbols() {
        let operand = |dims: Vec<Dim>| Some(crate::ops::Fact::of(Type::new(crate::tensor::DType::F32, dims.into_iter().collect())));
        let symbol = |s: &str| Dim::Symbol(s.into());
        let reshaped = |dims: Vec<Dim>, shape: &str| {
            let x = Operands { facts: vec![operand(dims), Some(t(shape).into())], n_results: 1 };
            Reshape { allowzero: false }.infer(&x).map(|t| t[0].to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(reshaped(vec![symbol("n"), 4.into(), 6.into()], "i64[2] 0 -1"), Ok("f32[n,24]".to_owned()));
        assert_eq!(reshaped(vec![symbol("n"), symbol("s"), 6.into()], "i64[4] 0 0 2 3"), Ok("f32[n,s,2,3]".to_owned()));
        assert_eq!(reshaped(vec![symbol("n"), 6.into()], "i64[2] -1 6"), Ok("f32[n,6]".to_owned()));
        assert_eq!(reshaped(vec![symbol("n"), symbol("s")], "i64[1] -1"), Err("operand 0 has an unbound dimension: `f32[n,s]`".to_owned()));
    }

    #[test]
    fn elements_neither_appear_nor_vanish() {
        let error = |op: &str, shape: &str| check_error(op, [random("f32[2,3]", 1), t(shape)]);
        assert_eq!(error("Reshape", "i64[2] 2 2"), "`f32[2,3]` cannot have the shape [2, 2]: the number of elements differs");
        assert_eq!(error("Reshape", "i64[2] -1 4"), "`f32[2,3]` cannot have the shape [-1, 4]: the number of elements does not divide");
        assert_eq!(error("Reshape", "i64[2] -1 -1"), "`f32[2,3]` cannot have the shape [-1, -1]: two extents are -1");
        assert_eq!(error("Reshape", "i64[3] 2 3 0"), "`f32[2,3]` cannot have the shape [2, 3, 0]: it has no such axis to copy");
        assert_eq!(error("Reshape allowzero=1", "i64[2] 0 -1"), "`f32[2,3]` cannot have the shape [0, -1]: 0 and -1 together");
        assert_eq!(error("Reshape", "i64[1] -2"), "-2 as an extent");
    }
}

//! `Tile`: a value several times along its axes.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Tile.html>

use super::pieces::{eval_tables, lower_tables};
use super::view::{identity_view, kept_axes};
use crate::expr::{self, BinaryOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, View};
use crate::tensor::{Affine, Dim, Tensor, Type};

operator! {
    /// `input` repeated `repeats[i]` times along axis `i`.
    Tile(input, repeats) -> (output) since [1, 6, 13];
}

impl Tile {
    fn repeats(&self, x: &Operands) -> Result<Vec<usize>, InferError> {
        let repeats = x.ints(1)?.into_iter().map(super::extent).collect::<Result<Vec<usize>, _>>()?;
        if repeats.len() == x.rank(0)? {
            Ok(repeats)
        } else {
            Err(InferError::Invalid(format!("{} repeats for `{}`", repeats.len(), x.ty(0)?)))
        }
    }

    fn tables(&self, x: &Operands) -> Result<Vec<Option<Vec<i64>>>, InferError> {
        let table = |(n, d): (usize, usize)| (n != 1).then(|| (0..n * d).map(|i| (i % d) as i64).collect());
        Ok(self.repeats(x)?.into_iter().zip(x.dims(0)?).map(table).collect())
    }
}

impl Operator for Tile {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let mut dims = vec![];
        for (dim, n) in ty.shape.0.iter().zip(self.repeats(x)?) {
            dims.push(match dim.fixed() {
                _ if n == 1 => dim.clone(),
                Some(d) => Dim::Fixed(d.checked_mul(n).ok_or_else(|| InferError::Invalid("the result is too large".to_owned()))?),
                None => return Err(InferError::UnboundDimension { operand: 0, ty: ty.clone() }),
            });
        }
        let result = ty.with_dims(dims);
        result.dims().map_or(Ok(result.clone()), |dims| super::sized(ty.dtype, &dims)).map(|ty| vec![ty])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(repeats) = self.repeats(x) {
            let kept = kept_axes(repeats.len(), 1, |axis| repeats[axis] == 1);
            axes.operands[0].clone_from(&kept.operands[0]);
            axes.results = kept.results;
        }
        axes
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let (dims, repeats) = (x.dims(0).ok()?, self.repeats(x).ok()?);
        let mut forms = identity_view(dims.len());
        for (axis, form) in forms.iter_mut().enumerate() {
            match (dims[axis], repeats[axis]) {
                (_, 1) => {}
                (1, _) => *form = Affine::default(),
                _ => return None,
            }
        }
        Some(vec![View::Affine(forms)])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let tables = self.tables(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        Ok(vec![eval_tables(x.tensor(0), &tables)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, repeats) = (x.tensor(0), self.repeats(x.facts)?);
        let extents = b.dims(input).to_vec();
        let varies = |axis: usize| repeats[axis] != 1 && b.spread(input, axis).1;
        if !(0..extents.len()).any(varies) {
            return Ok(vec![lower_tables(b, input, &self.tables(x.facts)?)]);
        }
        let place = |at: &expr::Affine, axis: usize| match repeats[axis] {
            1 => Ix::Affine(at.clone()),
            _ => Ix::Clamped(Expr::index(at).binary(BinaryOp::Rem, &Expr::extent(extents[axis] as i64))),
        };
        let dims = x.result_dims(0);
        Ok(vec![b.compute(&dims, |b, at| b.load(input, at.iter().enumerate().map(|(axis, at)| place(at, axis))))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn each_axis_repeats() {
        assert_eq!(check_op("Tile", [t("f32[1,2] 1 2"), t("i64[2] 2 2")]), [t("f32[2,4] 1 2 1 2 1 2 1 2")]);
        check_op("Tile", [random("i32[2,3,4]", 1), t("i64[3] 1 3 2")]);
        check_op("Tile", [random("f32[2,1]", 1), t("i64[2] 1 5")]);
        assert_eq!(check_op("Tile", [random("f32[2,3]", 1), t("i64[2] 2 0")])[0].dims(), [4, 0]);
        assert_eq!(check_error("Tile", [random("f32[2]", 1), t("i64[2] 1 1")]), "2 repeats for `f32[2]`");
    }
}

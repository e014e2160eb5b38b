//! Padding moved behind the elements that are meant.

use super::extents::is_below;
use crate::expr::{self, Affine, BinaryOp, Builder, Expr, Place, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements, row_major_strides};

operator! {
    /// The elements of `x` at places below `shape`, dense and row-major as a value of that shape is; zeros behind. No extent of `shape` counts for
    /// more than that of `x`.
    Compact(x, shape) -> (y) since [1] in "ai.tinsmith";
}

impl Operator for Compact {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(1, &[DType::I64])?;
        match x.dims(1)?[..] {
            [rank] if rank == x.rank(0)? => Ok(vec![x.ty(0)?.clone()]),
            _ => Err(InferError::Invalid(format!("`{}` as the shape of `{}`", x.ty(1)?, x.ty(0)?))),
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let input = x.tensor(0);
        let dims = input.dims();
        let shape: Vec<i128> = x.tensor(1).to_ints().into_iter().zip(dims).map(|(s, &d)| s.clamp(0, d as i128)).collect();
        let strides = row_major_strides(dims);
        Ok(vec![input.gather(dims, |at| {
            let mut flat = at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>() as i128;
            let mut from = 0;
            for axis in (0..dims.len()).rev() {
                let (n, i) = (shape[axis], flat.checked_rem(shape[axis])?);
                flat /= n;
                from += i as usize * strides[axis];
            }
            (flat == 0).then_some(from)
        })])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, shape, dims) = (x.tensor(0), x.tensor(1), x.dims(0));
        let dtype = b.dtype(input);
        if dims.contains(&0) {
            return Ok(vec![b.compute(&dims, |_, _| Expr::int(dtype, 0))]);
        }
        let dense = b.compute(&[n_elements(&dims)], |_, _| Expr::int(dtype, 0));
        let known = x.facts.ints(1).ok();
        let extent = |b: &Builder, axis: usize| {
            let extent = known.as_ref().map_or_else(|| b.load(shape, [axis as i64]), |s| Expr::int(DType::I64, s[axis]));
            extent.binary(BinaryOp::Min, &Expr::extent(dims[axis] as i64))
        };
        let is_meant = |b: &Builder, at: &[Affine]| is_below(at, |axis| extent(b, axis));
        b.scatter(dense, &dims, Some(&is_meant), |b, at, _| {
            let flat = (1..dims.len()).fold(Expr::index(&at[0]), |flat, axis| &(&flat * &extent(b, axis)) + &Expr::index(&at[axis]));
            (vec![Place::Data(flat)], b.load(input, at))
        });
        Ok(vec![b.reshape(dense, &dims)])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn rows_close_up() {
        let x = || t("i64[2,3] 1 2 3 4 5 6");
        let y = check_op("ai.tinsmith.Compact", [x(), t("i64[2] 2 2")]);
        assert_eq!(y[0].to_ints()[..4], [1, 2, 4, 5]);
        let y = check_op("ai.tinsmith.Compact", [random("f32[3,4,5]", 1), t("i64[3] 3 2 3")]);
        assert_eq!(y[0].dims(), [3, 4, 5]);
        check_op("ai.tinsmith.Compact", [x(), t("i64[2] 2 0")]);
        check_op("ai.tinsmith.Compact", [x(), t("i64[2] 4 2")]);
        check_op("ai.tinsmith.Compact", [x(), t("i64[2] 1 9")]);
        check_op("ai.tinsmith.Compact", [x(), t("i64[2] -1 3")]);
    }
}

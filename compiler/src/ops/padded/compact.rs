//! Padding moved behind the elements that are meant.

use crate::expr::{self, BinaryOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, row_major_strides};

operator! {
    /// The elements of `x` at places below `shape`, dense and row-major as a value of that shape is; padding behind.
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
        let (input, shape) = (x.tensor(0), x.tensor(1).to_ints());
        let dims = input.dims();
        let strides = row_major_strides(dims);
        Ok(vec![input.gather(dims, |at| {
            let mut flat = at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>() as i128;
            let mut from = 0;
            for axis in (0..dims.len()).rev() {
                let place = if axis == 0 { flat } else { flat.checked_rem(shape[axis]).unwrap_or(0) };
                flat = flat.checked_div(shape[axis]).unwrap_or(0);
                from += place.clamp(0, dims[axis] as i128 - 1) as usize * strides[axis];
            }
            Some(from)
        })])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, shape, dims) = (x.tensor(0), x.tensor(1), x.dims(0));
        let dtype = b.dtype(input);
        if dims.contains(&0) {
            return Ok(vec![b.compute(&dims, |_, _| Expr::int(dtype, 0))]);
        }
        let strides = row_major_strides(&dims);
        let known = x.facts.ints(1).ok();
        Ok(vec![b.compute(&dims, |b, at| {
            let flat = at.iter().zip(&strides).fold(crate::expr::Affine::default(), |sum, (a, &s)| sum.plus(&a.times(s as i64)));
            let mut flat = Expr::index(&flat);
            let mut from = vec![Ix::from(0); dims.len()];
            for axis in (0..dims.len()).rev() {
                let extent = known.as_ref().map_or_else(|| b.load(shape, [axis as i64]), |s| Expr::int(DType::I64, s[axis]));
                let place = if axis == 0 { flat.clone() } else { flat.binary(BinaryOp::Rem, &extent) };
                from[axis] = Ix::Clamped(place);
                flat = flat.binary(BinaryOp::Div, &extent);
            }
            b.load(input, from)
        })])
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
    }
}

//! `GatherND`: slices at index tuples.
//! Spec: <https://onnx.ai/onnx/operators/onnx__GatherND.html>

use super::{wrap_index, wrap_index_expr};
use crate::expr::{self, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Affine, Tensor, Type, row_major_strides};

operator! {
    /// For each tuple along the last axis of `indices` the slice of `data` at that place; the first `batch_dims` axes of both go along.
    GatherND(data, indices) -> (output) since [11, 12, 13];
    /// Number of leading axes that both have.
    batch_dims: i64 = 0,
}

impl GatherND {
    /// Number of batch axes and of axes that a tuple indexes.
    fn split(&self, x: &Operands) -> Result<(usize, usize), InferError> {
        let (data, indices) = (x.ty(0)?, x.ty(1)?);
        let batch = super::extent(self.batch_dims)?;
        let invalid = || InferError::Invalid(format!("indices `{indices}` into `{data}` with {batch} batch axes"));
        let last = indices.shape.0.last().ok_or_else(invalid)?;
        let tuple = last.fixed().ok_or_else(|| InferError::UnboundDimension { operand: 1, ty: indices.clone() })?;
        let batches_differ =
            || (0..batch).any(|i| matches!((data.shape.0[i].fixed(), indices.shape.0[i].fixed()), (Some(a), Some(b)) if a != b));
        if tuple == 0 || batch >= indices.rank() || batch + tuple > data.rank() || batches_differ() {
            return Err(invalid());
        }
        Ok((batch, tuple))
    }
}

impl Operator for GatherND {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (data, indices) = (x.ty(0)?, x.ty(1)?);
        if !indices.dtype.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: indices.dtype });
        }
        let (batch, tuple) = self.split(x)?;
        let outer = &indices.shape.0[..indices.rank() - 1];
        let ty = data.with_dims(outer.iter().chain(&data.shape.0[batch + tuple..]).cloned().collect::<Vec<_>>());
        ty.dims().map_or(Ok(ty.clone()), |dims| super::sized(ty.dtype, &dims)).map(|ty| vec![ty])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let (Ok((batch, tuple)), Ok(rank), Ok(n)) = (self.split(x), x.rank(0), x.rank(1)) {
            // Axes of the tuples come first in the result, then those of the slices.
            let (outer, inner) = (n - 1, rank - batch - tuple);
            let label = |i: usize| Some(i as u32);
            axes.operands[0] = (0..rank)
                .map(|i| match i {
                    _ if i < batch => label(i),
                    _ if i >= batch + tuple => label(outer + i - batch - tuple),
                    _ => None,
                })
                .collect();
            axes.operands[1] = (0..n).map(|i| label(i).filter(|_| i < outer)).collect();
            axes.results = vec![(0..outer + inner).map(label).collect()];
        }
        axes
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0]
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (data, indices) = (x.tensor(0), x.tensor(1));
        let (batch, tuple) = self.split(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let strides = row_major_strides(data.dims());
        let n_batches: usize = data.dims()[..batch].iter().product();
        let block: usize = data.dims()[batch..].iter().product();
        let inner: usize = data.dims()[batch + tuple..].iter().product();
        let values = indices.to_ints();
        let n_tuples = values.len() / tuple;
        let mut starts = Vec::with_capacity(n_tuples);
        for (i, at) in values.chunks(tuple).enumerate() {
            let mut start = (i / (n_tuples / n_batches.max(1)).max(1)) * block;
            for (j, &index) in at.iter().enumerate() {
                let (index, extent) = (index as i64, data.dims()[batch + j]);
                start += wrap_index(index, extent).ok_or(EvalError::IndexOutOfRange { index, extent })? * strides[batch + j];
            }
            starts.push(start);
        }
        let slices = data.gather(&[n_tuples, inner], |at| Some(starts[at[0]] + at[1]));
        let dims = [&indices.dims()[..indices.dims().len() - 1], &data.dims()[batch + tuple..]].concat();
        Ok(vec![slices.reshape(&dims)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (batch, tuple) = self.split(x.facts)?;
        let (data, indices, dims) = (x.tensor(0), x.tensor(1), x.dims(0));
        let outer = x.dims(1).len() - 1;
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let mut from: Vec<Ix> = at[..batch].iter().map(Ix::from).collect();
            for j in 0..tuple {
                let place = at[..outer].iter().cloned().chain([Affine::constant(j as i64)]);
                from.push(Ix::Checked(wrap_index_expr(&b.load(indices, place), dims[batch + j])));
            }
            from.extend(at[outer..].iter().map(Ix::from));
            b.load(data, from)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn slices_at_tuples() {
        let x = || t("f32[2,2,2] 0 1 2 3 4 5 6 7");
        assert_eq!(check_op("GatherND", [x(), t("i64[2,3] 0 0 1 1 -1 0")]), [t("f32[2] 1 6")]);
        assert_eq!(check_op("GatherND", [x(), t("i64[1,1] 1")]), [t("f32[1,2,2] 4 5 6 7")]);
        assert_eq!(check_op("GatherND batch_dims=1", [x(), t("i64[2,1] 1 0")]), [t("f32[2,2] 2 3 4 5")]);
        assert_eq!(check_op("GatherND batch_dims=1", [x(), t("i64[2,3,1] 1 0 1 0 1 0")])[0].dims(), [2, 3, 2]);
        assert_eq!(check_error("GatherND", [x(), t("i64[1,1] 2")]), "index 2 is out of range for extent 2");
        assert_eq!(
            check_error("GatherND batch_dims=1", [x(), t("i64[3,1] 0 0 0")]),
            "indices `i64[3,1]` into `f32[2,2,2]` with 1 batch axes"
        );
    }
}

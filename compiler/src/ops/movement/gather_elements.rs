//! `GatherElements`: one element of an axis for each index.
//! Spec: <https://onnx.ai/onnx/operators/onnx__GatherElements.html>

use super::{wrap_index, wrap_index_expr};
use crate::expr::{self, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type, for_each_index, row_major_strides};

operator! {
    /// The element of `data` at the place of each index, with the position along `axis` replaced by the index.
    GatherElements(data, indices) -> (output) since [11, 13];
    /// The axis.
    axis: i64 = 0,
}

impl Operator for GatherElements {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (data, indices) = (x.ty(0)?, x.ty(1)?);
        let axis = x.axis(0, self.axis)?;
        if !indices.dtype.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: indices.dtype });
        }
        let fits = |i: usize| match (indices.shape.0[i].fixed(), data.shape.0[i].fixed()) {
            (Some(n), Some(d)) => i == axis || n <= d,
            _ => true,
        };
        if indices.rank() != data.rank() || !(0..data.rank()).all(fits) {
            return Err(InferError::Invalid(format!("indices `{indices}` into `{data}`")));
        }
        Ok(vec![indices.with_dtype(data.dtype)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let (Ok(axis), Ok(data), Ok(indices)) = (x.axis(0, self.axis), x.ty(0), x.ty(1)) {
            // Along other axes an index stands at the place of its element, unless it has fewer places.
            let label = |i: usize| (i == axis || data.shape.0.get(i) == Some(&indices.shape.0[i])).then_some(i as u32);
            axes.operands[1] = (0..indices.rank()).map(label).collect();
            axes.operands[0] = axes.operands[1].iter().enumerate().map(|(i, l)| l.filter(|_| i != axis)).collect();
            axes.results = vec![axes.operands[1].clone()];
        }
        axes
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0]
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (data, indices) = (x.tensor(0), x.tensor(1));
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let extent = data.dims()[axis];
        let mut chosen = vec![];
        for index in indices.to_ints() {
            let index = index as i64;
            chosen.push(wrap_index(index, extent).ok_or(EvalError::IndexOutOfRange { index, extent })?);
        }
        let strides = row_major_strides(data.dims());
        let mut sources = Vec::with_capacity(chosen.len());
        for_each_index(indices.dims(), |flat, at| {
            let here: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
            sources.push(here - at[axis] * strides[axis] + chosen[flat] * strides[axis]);
        });
        let picked = data.gather(&[sources.len()], |at| Some(sources[at[0]]));
        Ok(vec![picked.reshape(indices.dims())])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let axis = x.facts.axis(0, self.axis)?;
        let (data, indices, extent) = (x.tensor(0), x.tensor(1), x.dims(0)[axis]);
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            from[axis] = Ix::Checked(wrap_index_expr(&b.load(indices, at), extent));
            b.load(data, from)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};
    use crate::tensor::Tensor;

    #[test]
    fn one_element_for_each_index() {
        let x = || t("f32[2,3] 1 2 3 4 5 6");
        assert_eq!(check_op("GatherElements axis=1", [x(), t("i64[2,2] 2 0 -1 1")]), [t("f32[2,2] 3 1 6 5")]);
        assert_eq!(check_op("GatherElements", [x(), t("i32[1,2] 1 0")]), [t("f32[1,2] 4 2")]);
        check_op("GatherElements axis=1", [random("u8[3,1,4]", 1), t("i64[2,2,2] 0 0 0 -1 -1 0 0 0")]);
    }

    /// Indices from either end along rows that are longer than vectors.
    fn rows(extent: i64, n: usize) -> Vec<i64> {
        (0..n as i64).map(|i| (i * 29 + 3) % (2 * extent) - extent).collect()
    }

    #[test]
    fn long_rows_of_indices() {
        for axis in 0..3 {
            let dims = [3, 5, 37];
            let indices = rows(dims[axis] as i64, 3 * 5 * 37);
            let narrow: Vec<i32> = indices.iter().map(|&i| i as i32).collect();
            for x in [random("f32[3,5,37]", 1), random("i32[3,5,37]", 2), random("u8[3,5,37]", 3), random("f64[3,5,37]", 4)] {
                let op = format!("GatherElements axis={axis}");
                check_op(&op, [x.clone(), Tensor::from_slice(&dims, &indices)]);
                check_op(&op, [x, Tensor::from_slice(&dims, &narrow)]);
            }
        }
    }

    #[test]
    fn an_index_out_of_range_stops_it_in_any_place() {
        for place in [0, 15, 16, 36] {
            for index in [37, -38, 1 << 32] {
                let mut indices = vec![0i64; 37];
                indices[place] = index;
                let error = check_error("GatherElements axis=1", [random("f32[1,37]", 1), Tensor::from_slice(&[1, 37], &indices)]);
                assert_eq!(error, format!("index {index} is out of range for extent 37"));
            }
        }
    }

    #[test]
    fn indices_fit() {
        assert_eq!(check_error("GatherElements", [random("f32[2]", 1), t("i64[1] 2")]), "index 2 is out of range for extent 2");
        assert_eq!(check_error("GatherElements", [random("f32[2,2]", 1), t("i64[1] 0")]), "indices `i64[1]` into `f32[2,2]`");
    }
}

//! `Gather`: slices of an axis, chosen by indices.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Gather.html>

use std::cmp::Ordering;

use super::copy::{Canvas, Place};
use super::pieces::{lower_tables, pieces};
use super::{wrap_index, wrap_index_expr};
use crate::expr::{self, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator, View};
use crate::tensor::{Affine, Tensor, Type, for_each_index, row_major_strides};

operator! {
    /// `data` with axis `axis` replaced by the axes of `indices`; negative indices count from the back.
    Gather(data, indices) -> (output) since [1, 11, 13];
    /// The axis.
    axis: i64 = 0,
}

impl Gather {
    /// The indices, counted from the front, where they are constant and the extent of the axis is known.
    fn constant_indices(&self, x: &Operands) -> Option<Result<Vec<i64>, (i64, usize)>> {
        let extent = x.ty(0).ok()?.shape.0[x.axis(0, self.axis).ok()?].fixed()?;
        let indices = x.ints(1).ok()?;
        Some(indices.into_iter().map(|i| wrap_index(i, extent).map(|i| i as i64).ok_or((i, extent))).collect())
    }
}

/// The indices as a form over the axes of `dims`, if they are one.
fn affine_form(indices: &[i64], dims: &[usize]) -> Option<Affine<usize>> {
    let mut form = Affine::constant(*indices.first()?);
    if indices.iter().any(|&i| i > 1 << 40) {
        return None;
    }
    for (axis, (stride, &extent)) in row_major_strides(dims).into_iter().zip(dims).enumerate() {
        if extent > 1 {
            form.add_term(axis, indices[stride] - indices[0]);
        }
    }
    let mut fits = true;
    for_each_index(dims, |flat, at| fits &= form.value(|axis| at[axis] as i64) == indices[flat]);
    fits.then_some(form)
}

impl Operator for Gather {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (data, indices) = (x.ty(0)?, x.ty(1)?);
        let axis = x.axis(0, self.axis)?;
        if !indices.dtype.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: indices.dtype });
        }
        if let Some(Err((index, extent))) = self.constant_indices(x) {
            return Err(InferError::Invalid(format!("index {index} is out of range for extent {extent}")));
        }
        let dims = &data.shape.0;
        let dims: Vec<_> = dims[..axis].iter().chain(&indices.shape.0).chain(&dims[axis + 1..]).cloned().collect();
        let ty = data.with_dims(dims);
        ty.dims().map_or(Ok(ty.clone()), |dims| super::sized(ty.dtype, &dims)).map(|ty| vec![ty])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let (Ok(axis), Ok(rank), Ok(n_indices)) = (x.axis(0, self.axis), x.rank(0), x.rank(1)) {
            let label = |i: usize| Some(i as u32);
            axes.operands[0] = (0..rank).map(|i| label(i).filter(|_| i != axis)).collect();
            axes.operands[1] = (rank..rank + n_indices).map(label).collect();
            axes.results = vec![(0..axis).chain(rank..rank + n_indices).chain(axis + 1..rank).map(label).collect()];
        }
        axes
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let indices = self.constant_indices(x)?.ok()?;
        let (axis, dims) = (x.axis(0, self.axis).ok()?, x.dims(1).ok()?);
        let form = affine_form(&indices, &dims)?;
        let forms = (0..x.rank(0).ok()?).map(|i| match i.cmp(&axis) {
            Ordering::Less => Affine::var(i),
            Ordering::Equal => form.substitute(|i| Affine::var(i + axis)),
            Ordering::Greater => Affine::var(i + dims.len() - 1),
        });
        Some(vec![View::Affine(forms.collect())])
    }

    fn heeds(&self, x: &Operands, operand: usize, axis: usize, of: &[Interval]) -> bool {
        // Positions from the back depend on where the end is.
        operand == 0 && x.axis(0, self.axis).is_ok_and(|a| a == axis) && of.get(1).is_some_and(|of| of.low >= 0.0)
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0]
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let data = x.tensor(0);
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (outer, inner) = (data.dims()[..axis].iter().product::<usize>(), data.dims()[axis + 1..].iter().product::<usize>());
        let extent = data.dims()[axis];
        let mut table = vec![];
        for index in x.tensor(1).to_ints() {
            let index = index as i64;
            table.push(wrap_index(index, extent).ok_or(EvalError::IndexOutOfRange { index, extent })? as isize);
        }
        let mut canvas = Canvas::new(data.dtype(), &[outer, table.len(), inner]);
        let (to, from) = (canvas.place(), Place::dense(&[outer, extent, inner]));
        for (i, index) in table.into_iter().enumerate() {
            let to = to.clone().from(&[0, i, 0]);
            canvas.copy(&[outer, 1, inner], &to, data, &Place { at: index * from.strides[1], strides: from.strides.clone() });
        }
        let dims = [&data.dims()[..axis], x.tensor(1).dims(), &data.dims()[axis + 1..]].concat();
        Ok(vec![canvas.finish().reshape(&dims)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let axis = x.facts.axis(0, self.axis)?;
        let (data, indices) = (x.tensor(0), x.tensor(1));
        let (extent, rank) = (x.dims(0)[axis], x.dims(0).len());
        if let Some(views) = self.view(x.facts) {
            return Ok(vec![super::view::lower_view(b, data, &views[0], &x.result_dims(0))]);
        }
        let known = match self.constant_indices(x.facts) {
            Some(Ok(table)) if pieces(&table).len() <= 8 => {
                let mut tables = vec![None; rank];
                tables[axis] = Some(table);
                let picked = lower_tables(b, data, &tables);
                return Ok(vec![b.reshape(picked, &x.result_dims(0))]);
            }
            known => known.is_some(),
        };
        let n_indices = x.dims(1).len();
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let index = b.load(indices, &at[axis..axis + n_indices]);
            let index = wrap_index_expr(&index, extent);
            let mut from: Vec<Ix> = at[..axis].iter().map(Ix::from).collect();
            from.push(if known { Ix::Clamped(index) } else { Ix::Checked(index) });
            from.extend(at[axis + n_indices..].iter().map(Ix::from));
            b.load(data, from)
        })])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn slices_are_chosen() {
        let x = || t("f32[3,2] 1 2 3 4 5 6");
        assert_eq!(check_op("Gather", [x(), t("i64[2] 2 -3")]), [t("f32[2,2] 5 6 1 2")]);
        assert_eq!(check_op("Gather axis=1", [x(), t("i32[] -1")]), [t("f32[3] 2 4 6")]);
        assert_eq!(check_op("Gather axis=1", [x(), t("i64[1,3] 1 0 1")]), [t("f32[3,1,3] 2 1 2 4 3 4 6 5 6")]);
        check_op("Gather axis=1", [random("i8[2,20,3]", 1), t("i64[12] 3 1 4 1 5 9 2 6 5 3 5 8")]);
        check_op("Gather", [random("f32[4,3]", 1), t("i64[0]")]);
    }

    #[test]
    fn the_innermost_axis_is_chosen_from() {
        let indices: Vec<i64> = (0..41).map(|i| (i * 29 + 3) % 46 - 23).collect();
        let narrow: Vec<i32> = indices.iter().map(|&i| i as i32).collect();
        for x in [random("f32[3,23]", 1), random("i32[3,23]", 2), random("i8[3,23]", 3)] {
            check_op("Gather axis=1", [x.clone(), Tensor::from_slice(&[41], &indices)]);
            check_op("Gather axis=1", [x, Tensor::from_slice(&[41], &narrow)]);
        }
    }

    #[test]
    fn regular_indices_are_a_view() {
        let view = |axis: i64, indices: &str| {
            let x = Operands { facts: vec![Some(random("f32[6,6]", 1).into()), Some(t(indices).into())], n_results: 1 };
            Gather { axis }.view(&x).is_some()
        };
        assert!(view(0, "i64[] 3"));
        assert!(view(1, "i64[2,2] 0 1 2 3"));
        assert!(view(0, "i64[3] -1 3 1"));
        assert!(!view(0, "i64[3] 0 1 3"));
    }

    #[test]
    fn indices_are_in_range() {
        assert_eq!(check_error("Gather", [random("f32[3]", 1), t("i64[1] 3")]), "index 3 is out of range for extent 3");
        assert_eq!(check_error("Gather", [random("f32[3]", 1), t("i64[1] -4")]), "index -4 is out of range for extent 3");
        assert_eq!(
            check_error("Gather", [random("f32[3]", 1), t("f32[1] 1")]),
            "operand 1 has element type `f32`, which is not supported here"
        );
    }
}

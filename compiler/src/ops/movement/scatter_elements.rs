//! `ScatterElements`: elements replaced at given positions of an axis.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ScatterElements.html>

use super::scatter::{Block, Reduction, constant_indices, varies_for};
use super::{wrap_index, wrap_index_expr};
use crate::expr::{self, Meant, Place, TensorId};
use crate::operator;
use crate::ops::padded::PaddedScatterElements;
use crate::ops::{Args, Counted, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type, for_each_index, row_major_strides};

operator! {
    /// `data`, where each update is combined with the element at its place, with the position along `axis` replaced by the index.
    ScatterElements(data, indices, updates) -> (output) since [11, 13, 16, 18];
    /// The axis.
    axis: i64 = 0,
    /// How: `none` replaces (the last update wins), `add`, `mul`, `max`, `min`.
    reduction: String = "none",
}

impl ScatterElements {
    /// The result as an expression, of the updates that `when` says are meant.
    pub(in crate::ops) fn lower_where(
        &self,
        b: &mut expr::Builder,
        x: &Args<'_>,
        when: Option<&Meant<'_>>,
    ) -> Result<TensorId, LowerError> {
        let axis = x.facts.axis(0, self.axis)?;
        let (data, extent, indices) = (x.tensor(0), x.dims(0)[axis], x.tensor(1));
        let reduction = Reduction::parse(&self.reduction, b.dtype(data))?;
        Ok(reduction.lower_updates(b, [data, x.tensor(2)], when, |b, at| {
            let mut to: Vec<Place> = at.iter().cloned().map(Place::Known).collect();
            to[axis] = Place::Data(wrap_index_expr(&b.load(indices, at), extent));
            to
        }))
    }

    /// The flat place in `data` of each update.
    fn targets(&self, x: &Operands, indices: &[i64]) -> Result<Vec<usize>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (dims, axis) = (x.dims(0).map_err(invalid)?, x.axis(0, self.axis).map_err(invalid)?);
        let strides = row_major_strides(&dims);
        let mut targets = Vec::with_capacity(indices.len());
        let mut error = None;
        for_each_index(&x.dims(1).map_err(invalid)?, |flat, at| match wrap_index(indices[flat], dims[axis]) {
            Some(index) => {
                let here: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
                targets.push(here - at[axis] * strides[axis] + index * strides[axis]);
            }
            None => error = Some(EvalError::IndexOutOfRange { index: indices[flat], extent: dims[axis] }),
        });
        error.map_or(Ok(targets), Err)
    }
}

impl Operator for ScatterElements {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (data, indices, updates) = (x.ty(0)?, x.ty(1)?, x.ty(2)?);
        x.require_same_dtype(2, 0)?;
        if !indices.dtype.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: indices.dtype });
        }
        let axis = x.axis(0, self.axis)?;
        Reduction::parse(&self.reduction, data.dtype)?;
        let (i, u) = (indices.dims(), updates.dims());
        let fits = |(axis_idx, n): (usize, &usize)| axis_idx == axis || data.shape.0[axis_idx].fixed().is_none_or(|d| *n <= d);
        if indices.rank() != data.rank()
            || updates.rank() != data.rank()
            || (i.is_some() && u.is_some() && i != u)
            || !i.is_none_or(|i| i.iter().enumerate().all(fits))
        {
            return Err(InferError::Invalid(format!("indices `{indices}` and updates `{updates}` into `{data}`")));
        }
        Ok(vec![data.clone()])
    }

    fn carries(&self, x: &Operands, operand: usize, axis: usize, of: &[Interval]) -> Option<(usize, usize)> {
        // Positions from the back depend on where the end is.
        let along = x.axis(0, self.axis).is_ok_and(|a| a == axis);
        (operand == 0 && (!along || of.get(1).is_some_and(|of| of.low >= 0.0))).then_some((axis, 1))
    }

    fn counted(&self, _: &Operands) -> Option<Counted> {
        let op = PaddedScatterElements { axis: self.axis, reduction: self.reduction.clone() };
        Some(Counted { op: Box::new(op), of: vec![1], at: 3 })
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let data = x.tensor(0);
        let reduction = Reduction::parse(&self.reduction, data.dtype()).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let indices: Vec<i64> = x.tensor(1).to_ints().into_iter().map(|i| i as i64).collect();
        Ok(vec![reduction.eval(data, x.tensor(2), self.targets(x, &indices)?.into_iter())])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (data, updates) = (x.tensor(0), x.tensor(2));
        let (dims, index_dims) = (x.dims(0), x.dims(1));
        let reduction = Reduction::parse(&self.reduction, b.dtype(data))?;
        let n_updates = index_dims.iter().product::<usize>();
        if n_updates == 0 {
            return Ok(vec![b.compute(&dims, |b, at| b.load(data, at))]);
        }
        if let Some(values) = constant_indices(x.facts) {
            let targets = self.targets(x.facts, &values).map_err(|e| LowerError::Unsupported(e.to_string()))?;
            let n = dims.iter().product::<usize>();
            // A table of places is another at other sizes.
            if varies_for(b, &[(data, dims.len()), (x.tensor(1), dims.len())]) {
                let strides = row_major_strides(&index_dims);
                let axis = x.facts.axis(0, self.axis).map_err(|e| LowerError::Unsupported(e.to_string()))?;
                let place = |i: usize, j: usize| match j == axis {
                    true => wrap_index(values[i], dims[axis]).map_or(-1, |p| p as i64),
                    false => (i / strides[j] % index_dims[j]) as i64,
                };
                if let Some(block) = Block::of(&index_dims, dims.len(), &place) {
                    return Ok(vec![reduction.lower_block(b, [data, updates], &block)]);
                }
            } else if let Some(inverse) = reduction.inverse(n, targets.into_iter()) {
                return Ok(vec![reduction.combined(b, [data, updates], |b, data, updates| {
                    let (flat, rows) = (b.reshape(data, &[n]), b.reshape(updates, &[n_updates]));
                    let out = reduction.lower_inverse(b, flat, rows, &inverse);
                    b.reshape(out, &dims)
                })]);
            }
        }
        Ok(vec![self.lower_where(b, x, None)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn updates_land_at_their_index() {
        let x = || t("f32[2,3] 1 2 3 4 5 6");
        let updates = || t("f32[2,2] 10 20 30 40");
        assert_eq!(check_op("ScatterElements axis=1", [x(), t("i64[2,2] 2 0 -1 1"), updates()]), [t("f32[2,3] 20 2 10 4 40 30")]);
        for reduction in ["add", "mul", "max", "min"] {
            let op = format!("ScatterElements axis=1 reduction=\"{reduction}\"");
            check_op(&op, [x(), t("i64[2,2] 2 2 1 0"), updates()]);
            check_op(&op, [x(), t("i64[2,2] 2 1 1 0"), updates()]);
        }
        assert_eq!(
            check_op("ScatterElements axis=1 reduction=\"add\"", [x(), t("i64[2,2] 2 2 1 0"), updates()]),
            [t("f32[2,3] 1 2 33 44 35 6")]
        );
        check_op("ScatterElements", [random("u8[3,4]", 1), t("i32[2,1] 2 0"), random("u8[2,1]", 2)]);
        check_op("ScatterElements", [random("f32[3,4]", 1), t("i64[0,1]"), t("f32[0,1]")]);
    }

    #[test]
    fn truth_values_are_joined() {
        for (reduction, y) in [("add", "1 1 0 1"), ("max", "1 1 0 1"), ("mul", "1 0 0 0"), ("min", "1 0 0 0")] {
            let op = |name: &str| format!("{name} reduction=\"{reduction}\"");
            let x = || t("bool[4] 1 0 0 1");
            let y = [t(&format!("bool[4] {y}"))];
            assert_eq!(check_op(&op("ScatterElements"), [x(), t("i64[4] 1 1 3 3"), t("bool[4] 1 0 0 1")]), y);
            assert_eq!(check_op(&op("ScatterND"), [x(), t("i64[4,1] 1 1 3 3"), t("bool[4] 1 0 0 1")]), y);
        }
    }

    #[test]
    fn many_updates_are_sorted() {
        let places = |dims: [usize; 2], extent: usize| {
            let text: Vec<String> = (0..dims[0] * dims[1]).map(|i| ((i * i * 5 + i / 3) % extent).to_string()).collect();
            t(&format!("i64[{},{}] {}", dims[0], dims[1], text.join(" ")))
        };
        for reduction in ["none", "add", "mul", "max", "min"] {
            let op = format!("ScatterElements reduction=\"{reduction}\"");
            for dtype in if reduction == "add" { &["f32", "i32"][..] } else { &["f32"] } {
                check_op(&op, [random(&format!("{dtype}[40,24]"), 1), places([35, 24], 40), random(&format!("{dtype}[35,24]"), 2)]);
                check_op(&op, [random(&format!("{dtype}[40,24]"), 1), places([35, 17], 40), random(&format!("{dtype}[35,17]"), 2)]);
                check_op(&op, [random(&format!("{dtype}[40,24]"), 1), places([35, 1], 40), random(&format!("{dtype}[35,1]"), 2)]);
                let across = format!("{op} axis=1");
                check_op(&across, [random(&format!("{dtype}[19,60]"), 1), places([18, 33], 60), random(&format!("{dtype}[18,33]"), 2)]);
            }
        }
    }

    #[test]
    fn indices_fit() {
        let x = || random("f32[2]", 1);
        assert_eq!(check_error("ScatterElements", [x(), t("i64[1] 2"), x()]), "indices `i64[1]` and updates `f32[2]` into `f32[2]`");
        assert_eq!(check_error("ScatterElements", [x(), t("i64[1] 2"), t("f32[1] 0")]), "index 2 is out of range for extent 2");
        assert_eq!(check_error("ScatterElements reduction=\"or\"", [x(), t("i64[1] 0"), t("f32[1] 0")]), "reduction `or`");
    }
}

//! `ScatterND`: slices replaced at index tuples.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ScatterND.html>

use super::scatter::{Block, Reduction, constant_indices, varies_for};
use super::{wrap_index, wrap_index_expr};
use crate::expr::{self, Affine, Meant, Place, TensorId};
use crate::operator;
use crate::ops::padded::PaddedScatterND;
use crate::ops::{Args, Counted, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// `data`, where each slice of `updates` is combined with the slice at the tuple along the last axis of `indices`.
    ScatterND(data, indices, updates) -> (output) since [11, 13, 16, 18];
    /// How: `none` replaces (the last update wins), `add`, `mul`, `max`, `min`.
    reduction: String = "none",
}

impl ScatterND {
    /// For each tuple of `n` indices the number of the slice of `data` that it means.
    fn targets(&self, dims: &[usize], n: usize, indices: &[i64]) -> Result<Vec<usize>, EvalError> {
        let target = |tuple: &[i64]| {
            tuple.iter().zip(dims).try_fold(0, |flat, (&index, &extent)| {
                Ok(flat * extent + wrap_index(index, extent).ok_or(EvalError::IndexOutOfRange { index, extent })?)
            })
        };
        indices.chunks(n.max(1)).map(target).collect()
    }
}

impl Operator for ScatterND {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (data, indices, updates) = (x.ty(0)?, x.ty(1)?, x.ty(2)?);
        x.require_same_dtype(2, 0)?;
        if !indices.dtype.is_int() {
            return Err(InferError::ElementType { operand: 1, dtype: indices.dtype });
        }
        Reduction::parse(&self.reduction, data.dtype)?;
        let invalid = || InferError::Invalid(format!("indices `{indices}` and updates `{updates}` into `{data}`"));
        let last = indices.shape.0.last().ok_or_else(invalid)?;
        let n = last.fixed().ok_or_else(|| InferError::UnboundDimension { operand: 1, ty: indices.clone() })?;
        if n == 0 || n > data.rank() {
            return Err(invalid());
        }
        let outer = &indices.shape.0[..indices.rank() - 1];
        let wanted: Vec<_> = outer.iter().chain(&data.shape.0[n..]).collect();
        let differ = |(a, b): (&&crate::tensor::Dim, &crate::tensor::Dim)| matches!((a.fixed(), b.fixed()), (Some(a), Some(b)) if a != b);
        if wanted.len() != updates.rank() || wanted.iter().zip(&updates.shape.0).any(differ) {
            return Err(invalid());
        }
        Ok(vec![data.clone()])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (data, indices) = (x.tensor(0), x.tensor(1));
        let reduction = Reduction::parse(&self.reduction, data.dtype()).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let n = indices.dims().last().copied().unwrap_or(1);
        let values: Vec<i64> = indices.to_ints().into_iter().map(|i| i as i64).collect();
        let inner: usize = data.dims()[n..].iter().product();
        let slices = self.targets(data.dims(), n, &values)?;
        Ok(vec![reduction.eval(data, x.tensor(2), slices.into_iter().flat_map(|s| (0..inner).map(move |i| s * inner + i)))])
    }

    fn carries(&self, x: &Operands, operand: usize, axis: usize, of: &[Interval]) -> Option<(usize, usize)> {
        // Positions from the back depend on where the end is.
        let chosen = x.dims(1).is_ok_and(|d| d.last().is_some_and(|&n| axis < n));
        (operand == 0 && chosen && of.get(1).is_some_and(|of| of.low >= 0.0)).then_some((axis, 1))
    }

    fn counted(&self, _: &Operands) -> Option<Counted> {
        Some(Counted { op: Box::new(PaddedScatterND { reduction: self.reduction.clone() }), of: vec![1], at: 3 })
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (dims, index_dims) = (x.dims(0), x.dims(1));
        if let (Some(values), Some((&n, outer))) = (constant_indices(x.facts), index_dims.split_last())
            && !index_dims.contains(&0)
            && !dims.contains(&0)
        {
            let of = [x.tensor(0), x.tensor(2)];
            let reduction = Reduction::parse(&self.reduction, b.dtype(of[0]))?;
            let targets = self.targets(&dims, n, &values).map_err(|e| LowerError::Unsupported(e.to_string()))?;
            // A table of places is another at other sizes.
            if varies_for(b, &[(x.tensor(0), n), (x.tensor(1), outer.len())]) {
                let place = |i: usize, j: usize| wrap_index(values[i * n + j], dims[j]).map_or(-1, |p| p as i64);
                if let Some(block) = Block::of(outer, n, &place) {
                    return Ok(vec![reduction.lower_block(b, of, &block)]);
                }
            } else if let Some(inverse) = reduction.inverse(dims[..n].iter().product(), targets.into_iter()) {
                return Ok(vec![reduction.combined(b, of, |b, data, updates| {
                    let rows = b.reshape(updates, &[&[outer.iter().product()], &dims[n..]].concat());
                    reduction.lower_inverse(b, data, rows, &inverse)
                })]);
            }
        }
        Ok(vec![self.lower_where(b, x, None)?])
    }
}

impl ScatterND {
    /// The result as an expression, of the updates that `when` says are meant.
    pub(in crate::ops) fn lower_where(
        &self,
        b: &mut expr::Builder,
        x: &Args<'_>,
        when: Option<&Meant<'_>>,
    ) -> Result<TensorId, LowerError> {
        let (data, indices, updates) = (x.tensor(0), x.tensor(1), x.tensor(2));
        let (dims, index_dims) = (b.dims(data).to_vec(), b.dims(indices).to_vec());
        let (&n, outer) = index_dims.split_last().ok_or_else(|| LowerError::Unsupported("indices without axes".to_owned()))?;
        if outer.contains(&0) || dims.contains(&0) {
            return Ok(b.compute(&dims, |b, at| b.load(data, at)));
        }
        let reduction = Reduction::parse(&self.reduction, b.dtype(data))?;
        Ok(reduction.lower_updates(b, [data, updates], when, |b, at| {
            let (update, inside) = at.split_at(outer.len());
            let index = |j: usize| b.load(indices, update.iter().cloned().chain([Affine::constant(j as i64)]));
            let along = |j: usize| Place::Data(wrap_index_expr(&index(j), dims[j]));
            (0..n).map(along).chain(inside.iter().cloned().map(Place::Known)).collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn slices_land_at_their_tuple() {
        let x = || t("f32[2,2] 1 2 3 4");
        assert_eq!(check_op("ScatterND", [x(), t("i64[1,1] -1"), t("f32[1,2] 8 9")]), [t("f32[2,2] 1 2 8 9")]);
        assert_eq!(check_op("ScatterND", [x(), t("i64[2,2] 0 1 1 0"), t("f32[2] 8 9")]), [t("f32[2,2] 1 8 9 4")]);
        assert_eq!(check_op("ScatterND", [x(), t("i64[2,1] 0 0"), t("f32[2,2] 5 6 7 8")]), [t("f32[2,2] 7 8 3 4")]);
        assert_eq!(check_op("ScatterND reduction=\"add\"", [x(), t("i64[2,1] 0 0"), t("f32[2,2] 5 6 7 8")]), [t("f32[2,2] 13 16 3 4")]);
        for reduction in ["mul", "max", "min"] {
            let op = format!("ScatterND reduction=\"{reduction}\"");
            check_op(&op, [x(), t("i64[2,1] 0 0"), t("f32[2,2] 5 6 -7 8")]);
            check_op(&op, [x(), t("i64[1,1] 1"), t("f32[1,2] 3.5 -4")]);
        }
        check_op("ScatterND", [random("i64[3,2,2]", 1), t("i64[2,1,2] 0 1 2 0"), random("i64[2,1,2]", 2)]);
    }

    #[test]
    fn later_updates_win() {
        let places = |n: usize, extent: usize| {
            let text: Vec<String> =
                (0..n).map(|i| (((i * i * 7 + 3 * i) % extent) as i64 - if i % 5 == 0 { extent as i64 } else { 0 }).to_string()).collect();
            t(&format!("i64[{n},1] {}", text.join(" ")))
        };
        for reduction in ["none", "add", "mul", "max", "min"] {
            let op = format!("ScatterND reduction=\"{reduction}\"");
            for dtype in if reduction == "add" { &["f32", "i64"][..] } else { &["f32"] } {
                check_op(&op, [random(&format!("{dtype}[37,24]"), 1), places(41, 37), random(&format!("{dtype}[41,24]"), 2)]);
            }
            check_op(&op, [random("f32[900]", 3), places(64, 50), random("f32[64]", 4)]);
        }
        let pairs = t(&format!("i64[65,2] {}", (0..65).map(|i| format!("{} {} ", i % 7, (i * i) % 9)).collect::<String>()));
        check_op("ScatterND reduction=\"add\"", [random("f32[7,9,11]", 5), pairs.clone(), random("f32[65,11]", 6)]);
        check_op("ScatterND", [random("u8[7,9,11]", 5), pairs, random("u8[65,11]", 6)]);
        assert_eq!(
            check_error("ScatterND", [random("f32[900]", 3), t(&format!("i64[64,1] {}", "900 ".repeat(64))), random("f32[64]", 4)]),
            "index 900 is out of range for extent 900"
        );
    }

    #[test]
    fn indices_fit() {
        let x = || random("f32[2,2]", 1);
        assert_eq!(check_error("ScatterND", [x(), t("i64[1,1] 2"), t("f32[1,2] 0 0")]), "index 2 is out of range for extent 2");
        assert_eq!(
            check_error("ScatterND", [x(), t("i64[1,3] 0 0 0"), t("f32[1] 0")]),
            "indices `i64[1,3]` and updates `f32[1]` into `f32[2,2]`"
        );
    }
}

//! `Concat`: operands behind one another along an axis.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Concat.html>

use super::copy::{Canvas, Place};
use crate::expr::{self, Expr, TensorId};
use crate::operator;
use crate::ops::padded::PaddedConcat;
use crate::ops::{Args, Axes, Counted, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type};

operator! {
    /// The operands, which agree in all other extents, behind one another along `axis`.
    Concat("inputs*") -> (concat_result) since [1, 4, 11, 13];
    /// The axis.
    axis: i64,
}

impl Operator for Concat {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let first = x.ty(0)?;
        let axis = x.axis(0, self.axis)?;
        let mut dims = first.shape.0.clone();
        let mut sum = 0usize;
        for i in 0..x.len() {
            let ty = x.ty(i)?;
            x.require_same_dtype(i, 0)?;
            if ty.rank() != first.rank() {
                return Err(InferError::Invalid(format!("`{first}` and `{ty}` differ in rank")));
            }
            let Some(extent) = ty.shape.0[axis].fixed() else {
                if x.len() == 1 {
                    return Ok(vec![ty.clone()]);
                }
                return Err(InferError::UnboundDimension { operand: i, ty: ty.clone() });
            };
            sum = sum.checked_add(extent).ok_or_else(|| InferError::Invalid("the result is too large".to_owned()))?;
            for (j, (dim, other)) in dims.iter_mut().zip(&ty.shape.0).enumerate().filter(|(j, _)| *j != axis) {
                match (dim.fixed(), other.fixed()) {
                    (Some(a), Some(b)) if a != b => {
                        return Err(InferError::Invalid(format!("`{first}` and `{ty}` differ in axis {j}")));
                    }
                    (None, Some(_)) => *dim = other.clone(),
                    _ => {}
                }
            }
        }
        dims[axis] = Dim::Fixed(sum);
        Ok(vec![first.with_dims(dims)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(axis) = x.axis(0, self.axis) else { return Axes::unlinked(x) };
        let labels: Vec<Option<u32>> = (0..x.rank(0).unwrap_or(0)).map(|i| (i != axis || x.len() == 1).then_some(i as u32)).collect();
        Axes { operands: vec![labels.clone(); x.len()], results: vec![labels], elementwise: false }
    }

    fn source(&self, x: &Operands, place: usize) -> Option<(usize, usize)> {
        let axis = x.axis(0, self.axis).ok()?;
        let (dims, all) = (x.dims(0).ok()?, self.infer(x).ok()?[0].dims()?);
        let inner: usize = dims[axis + 1..].iter().product();
        let (outer, mut at) = (place / (inner * all[axis]).max(1), place % (inner * all[axis]).max(1));
        for i in 0..x.len() {
            let part = inner * x.dims(i).ok()?[axis];
            if at < part {
                return Some((i, outer * part + at));
            }
            at -= part;
        }
        None
    }

    fn counted(&self, x: &Operands) -> Option<Counted> {
        let op = PaddedConcat { axis: self.axis, n: x.len() as i64 };
        Some(Counted { op: Box::new(op), of: (0..x.len()).collect(), at: x.len() })
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of.iter().copied().reduce(Interval::join).unwrap_or(Interval::ALL)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let mut dims = x.tensor(0).dims().to_vec();
        dims[axis] = (0..x.len()).map(|i| x.tensor(i).dims()[axis]).sum();
        let mut canvas = Canvas::new(x.tensor(0).dtype(), &dims);
        let mut at = canvas.place();
        for i in 0..x.len() {
            let part = x.tensor(i);
            canvas.copy(part.dims(), &at, part, &Place::dense(part.dims()));
            at.at += at.strides[axis] * part.dims()[axis] as isize;
        }
        Ok(vec![canvas.finish()])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let axis = x.facts.axis(0, self.axis)?;
        let (dtype, dims) = (b.dtype(x.tensor(0)), x.result_dims(0));
        if dims.contains(&0) {
            return Ok(vec![b.compute(&dims, |_, _| Expr::int(dtype, 0))]);
        }
        let out = b.declare(dtype, &dims);
        let mut start = 0;
        for i in 0..x.facts.len() {
            let (part, dims) = (x.tensor(i), x.dims(i));
            if dims.contains(&0) {
                continue;
            }
            b.write(out, &dims, |b, at| {
                let mut to = at.to_vec();
                to[axis] = to[axis].offset(start);
                (to, b.load(part, at))
            });
            start += dims[axis] as i64;
        }
        Ok(vec![out])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn operands_follow_one_another() {
        assert_eq!(check_op("Concat axis=0", [t("f32[2] 1 2"), t("f32[1] 3")]), [t("f32[3] 1 2 3")]);
        assert_eq!(check_op("Concat axis=-1", [t("i64[2,1] 1 2"), t("i64[2,2] 3 4 5 6")]), [t("i64[2,3] 1 3 4 2 5 6")]);
        check_op("Concat axis=1", [random("f32[2,3,4]", 1), random("f32[2,0,4]", 2), random("f32[2,1,4]", 3)]);
        check_op("Concat axis=0", [random("bool[3]", 1)]);
        check_op("Concat axis=1", [random("f32[2,0]", 1), random("f32[2,0]", 2)]);
        assert_eq!(
            check_error("Concat axis=0", [random("f32[2,3]", 1), random("f32[2,4]", 1)]),
            "`f32[2,3]` and `f32[2,4]` differ in axis 1"
        );
        assert_eq!(check_error("Concat axis=0", [random("f32[2,3]", 1), random("f32[2]", 1)]), "`f32[2,3]` and `f32[2]` differ in rank");
    }
}

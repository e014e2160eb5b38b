//! `DepthToSpace`: channels become places, and back (`SpaceToDepth`).
//! Spec: <https://onnx.ai/onnx/operators/onnx__DepthToSpace.html>

use super::copy::{Canvas, Place};
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type};

operator! {
    /// `[n, c * s * s, h, w]` to `[n, c, h * s, w * s]` for `s` the `blocksize`.
    DepthToSpace(input) -> (output) since [1, 11, 13];
    /// Extent of the square that a place becomes.
    blocksize: i64,
    /// Which axis of the depth is outermost: the square's (`DCR`) or the channels (`CRD`).
    mode: String = "DCR",
}

operator! {
    /// `[n, c, h * s, w * s]` to `[n, s * s * c, h, w]` for `s` the `blocksize`.
    SpaceToDepth(input) -> (output) since [1, 13, 28];
    /// Extent of the square that becomes one place.
    blocksize: i64,
    /// Which axis of the depth is outermost: the square's (`DCR`) or the channels (`CRD`).
    mode: String = "DCR",
}

/// Strides in the deep form of channel, row in the square and column in the square, for `c` channels.
fn deep_steps(s: i64, c: i64, channels_outermost: bool) -> [i64; 3] {
    if channels_outermost { [s * s, s, 1] } else { [1, s * c, c] }
}

fn images(x: &Operands, blocksize: i64, mode: &str) -> Result<([Dim; 4], usize), InferError> {
    if !["DCR", "CRD"].contains(&mode) {
        return Err(InferError::Invalid(format!("mode `{mode}`")));
    }
    let ty = x.ty(0)?;
    let [n, c, h, w] = &ty.shape.0[..] else { return Err(InferError::Invalid(format!("`{ty}` is not of rank 4"))) };
    match usize::try_from(blocksize) {
        Ok(s) if (1..1 << 20).contains(&s) => Ok(([n.clone(), c.clone(), h.clone(), w.clone()], s)),
        _ => Err(InferError::Invalid(format!("blocksize {blocksize}"))),
    }
}

/// What `eval` and `lower` share: extents of the six axes `n c h row w column`, and where they are in the wide and in the deep form.
fn six(wide: &[usize], s: usize) -> ([usize; 6], i64) {
    ([wide[0], wide[1], wide[2] / s, s, wide[3] / s, s], s as i64)
}

impl Operator for DepthToSpace {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ([n, ..], s) = images(x, self.blocksize, &self.mode)?;
        let ty = x.ty(0)?;
        let fixed = |i: usize| ty.shape.0[i].fixed().ok_or_else(|| InferError::UnboundDimension { operand: 0, ty: ty.clone() });
        let (c, h, w) = (fixed(1)?, fixed(2)?, fixed(3)?);
        match (c % (s * s), h.checked_mul(s), w.checked_mul(s)) {
            (0, Some(h), Some(w)) => Ok(vec![ty.with_dims([n, Dim::Fixed(c / (s * s)), Dim::Fixed(h), Dim::Fixed(w)])]),
            _ => Err(InferError::Invalid(format!("blocksize {s} for `{ty}`"))),
        }
    }

    fn axes(&self, _: &Operands) -> Axes {
        Axes::parse("n...->n...")
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (input, s) = (x.tensor(0), self.blocksize as usize);
        let d = input.dims();
        let wide = [d[0], d[1] / (s * s), d[2] * s, d[3] * s];
        Ok(vec![move_squares(input, &wide, &wide, s, self.mode == "CRD")])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, wide) = (x.tensor(0), x.result_dims(0));
        let (region, s) = six(&wide, self.blocksize as usize);
        let steps = deep_steps(s, wide[1] as i64, self.mode == "CRD");
        let out = b.declare(b.dtype(input), &wide);
        b.write(out, &region, |b, at| {
            let [n, c, h, row, w, column] = at else { unreachable!("six axes") };
            let depth = c.times(steps[0]).plus(&row.times(steps[1])).plus(&column.times(steps[2]));
            let to = vec![n.clone(), c.clone(), h.times(s).plus(row), w.times(s).plus(column)];
            (to, b.load(input, [n.clone(), depth, h.clone(), w.clone()]))
        });
        Ok(vec![out])
    }
}

impl Operator for SpaceToDepth {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ([n, ..], s) = images(x, self.blocksize, &self.mode)?;
        let ty = x.ty(0)?;
        let fixed = |i: usize| ty.shape.0[i].fixed().ok_or_else(|| InferError::UnboundDimension { operand: 0, ty: ty.clone() });
        let (c, h, w) = (fixed(1)?, fixed(2)?, fixed(3)?);
        match c.checked_mul(s * s) {
            Some(c) if h % s == 0 && w % s == 0 => Ok(vec![ty.with_dims([n, Dim::Fixed(c), Dim::Fixed(h / s), Dim::Fixed(w / s)])]),
            _ => Err(InferError::Invalid(format!("blocksize {s} for `{ty}`"))),
        }
    }

    fn axes(&self, _: &Operands) -> Axes {
        Axes::parse("n...->n...")
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (input, s) = (x.tensor(0), self.blocksize as usize);
        let d = input.dims();
        Ok(vec![move_squares(input, d, &[d[0], d[1] * s * s, d[2] / s, d[3] / s], s, self.mode == "CRD")])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (input, wide) = (x.tensor(0), x.dims(0));
        let (region, s) = six(&wide, self.blocksize as usize);
        let steps = deep_steps(s, wide[1] as i64, self.mode == "CRD");
        let out = b.declare(b.dtype(input), &x.result_dims(0));
        b.write(out, &region, |b, at| {
            let [n, c, h, row, w, column] = at else { unreachable!("six axes") };
            let depth = c.times(steps[0]).plus(&row.times(steps[1])).plus(&column.times(steps[2]));
            let from = [n.clone(), c.clone(), h.times(s).plus(row), w.times(s).plus(column)];
            (vec![n.clone(), depth, h.clone(), w.clone()], b.load(input, from))
        });
        Ok(vec![out])
    }
}

/// Copies between the wide form, of extents `wide`, and the deep one; the result is whichever has extents `dims`.
fn move_squares(input: &Tensor, wide: &[usize], dims: &[usize], s: usize, channels_outermost: bool) -> Tensor {
    let (region, step) = six(wide, s);
    let w = Place::dense(wide).strides;
    let d = Place::dense(&[wide[0], wide[1] * s * s, wide[2] / s, wide[3] / s]).strides;
    let steps = deep_steps(step, wide[1] as i64, channels_outermost);
    let wide_place = Place { at: 0, strides: vec![w[0], w[1], w[2] * step as isize, w[2], w[3] * step as isize, w[3]] };
    let along = |i: usize| d[1] * steps[i] as isize;
    let deep_place = Place { at: 0, strides: vec![d[0], along(0), d[2], along(1), d[3], along(2)] };
    let mut canvas = Canvas::new(input.dtype(), dims);
    if dims == wide {
        canvas.copy(&region, &wide_place, input, &deep_place);
    } else {
        canvas.copy(&region, &deep_place, input, &wide_place);
    }
    canvas.finish()
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn channels_become_places_and_back() {
        let x = || t("f32[1,8,1,1] 0 1 2 3 4 5 6 7");
        assert_eq!(check_op("DepthToSpace blocksize=2", [x()]), [t("f32[1,2,2,2] 0 2 4 6 1 3 5 7")]);
        assert_eq!(check_op("DepthToSpace blocksize=2 mode=\"CRD\"", [x()]), [t("f32[1,2,2,2] 0 1 2 3 4 5 6 7")]);
        for mode in ["DCR", "CRD"] {
            let x = random("f32[2,18,2,3]", 1);
            let wide = check_op(&format!("DepthToSpace blocksize=3 mode=\"{mode}\""), [x.clone()]).remove(0);
            assert_eq!(check_op(&format!("SpaceToDepth blocksize=3 mode=\"{mode}\""), [wide]), [x]);
        }
        assert_eq!(check_error("DepthToSpace blocksize=2", [random("f32[1,3,1,1]", 1)]), "blocksize 2 for `f32[1,3,1,1]`");
        assert_eq!(check_error("SpaceToDepth blocksize=0", [random("f32[1,3,1,1]", 1)]), "blocksize 0");
    }
}

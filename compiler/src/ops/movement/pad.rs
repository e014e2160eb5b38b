//! `Pad`: borders around a value.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Pad.html>

use super::copy::{Canvas, Place};
use super::pieces::{eval_tables, lower_tables};
use super::view::{eval_view, identity_view, kept_axes, lower_view};
use super::{extent, scalar_of};
use crate::expr::{self, BinaryOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator, View, normalize_axis};
use crate::tensor::{DType, Dim, Tensor, Type};

operator! {
    /// `data` with borders of the extents in `pads` (all begins, then all ends) along `axes`; negative ones cut off.
    Pad(data, pads, "constant_value?", "axes?") -> (output) since [1, 2, 11, 13, 18, 19, 21, 23, 24, 25];
    /// What a border holds: `constant` (`constant_value` or 0), `reflect`, `edge` or `wrap`.
    mode: String = "constant",
}

impl Pad {
    /// Border before and behind each axis.
    fn borders(&self, x: &Operands) -> Result<Vec<(i64, i64)>, InferError> {
        let rank = x.rank(0)?;
        let pads = x.ints(1)?;
        let axes = if x.has(3) { x.ints(3)? } else { (0..rank as i64).collect() };
        if pads.len() != 2 * axes.len() {
            return Err(InferError::Invalid(format!("{} pads for {} axes", pads.len(), axes.len())));
        }
        if let Some(pad) = pads.iter().find(|p| p.unsigned_abs() > 1 << 40) {
            return Err(InferError::Invalid(format!("a border of {pad}")));
        }
        let mut borders = vec![(0, 0); rank];
        for (i, &axis) in axes.iter().enumerate() {
            borders[normalize_axis(axis, rank)?] = (pads[i], pads[i + axes.len()]);
        }
        Ok(borders)
    }

    /// For each axis with borders what negative borders leave, which positive ones repeat: its first position, its extent, and the positive
    /// borders; not for constant borders.
    fn repeated(&self, x: &Operands) -> Result<Vec<Option<[i64; 4]>>, InferError> {
        let mut axes = vec![];
        for ((before, behind), d) in self.borders(x)?.into_iter().zip(x.dims(0)?) {
            let (first, n) = ((-before).max(0), d as i64 - (-before).max(0) - (-behind).max(0));
            let has_borders = (before, behind) != (0, 0);
            let (before, behind) = (before.max(0), behind.max(0));
            if n <= 0 && before + behind > 0 {
                return Err(InferError::Invalid(format!("a border of mode `{}` around nothing", self.mode)));
            }
            axes.push(has_borders.then_some([first, n, before, behind]));
        }
        Ok(axes)
    }

    /// For each axis with borders the operand's position for each result position; not for constant borders.
    fn tables(&self, x: &Operands) -> Result<Vec<Option<Vec<i64>>>, InferError> {
        let table = |[first, n, before, behind]: [i64; 4]| {
            let position = |i: i64| match self.mode.as_str() {
                "edge" => i.clamp(0, n - 1),
                "wrap" => i.rem_euclid(n),
                _ if n == 1 => 0,
                _ => {
                    let at = i.rem_euclid(2 * (n - 1));
                    at.min(2 * (n - 1) - at)
                }
            };
            (-before..n.max(0) + behind).map(|i| first + position(i)).collect()
        };
        Ok(self.repeated(x)?.into_iter().map(|axis| axis.map(table)).collect())
    }
}

impl Pad {
    /// Where borders repeat what is inside: places as functions of the extents, instead of tables of one extent.
    fn lower_at_any_extent(&self, b: &mut expr::Builder, data: TensorId, axes: &[Option<[i64; 4]>], dims: &[usize]) -> TensorId {
        let place = |at: &expr::Affine, &[first, n, before, _]: &[i64; 4]| {
            let at = Expr::index(&at.offset(-before));
            let (n, zero) = (Expr::extent(n), Expr::int(DType::I64, 0));
            let last = &n - &Expr::int(DType::I64, 1);
            // By nothing, what is left is nothing.
            let within = |period: &Expr| (at.binary(BinaryOp::Rem, period) + period.clone()).binary(BinaryOp::Rem, period);
            let inside = match self.mode.as_str() {
                "edge" => at.binary(BinaryOp::Max, &zero).binary(BinaryOp::Min, &last),
                "wrap" => within(&n),
                _ => {
                    let period = &last + &last;
                    let at = within(&period);
                    at.binary(BinaryOp::Min, &(&period - &at))
                }
            };
            Ix::Clamped(inside + Expr::extent(first))
        };
        b.compute(dims, |b, at| {
            let index = at.iter().zip(axes).map(|(a, axis)| axis.as_ref().map_or_else(|| Ix::from(a), |axis| place(a, axis)));
            b.load(data, index.collect::<Vec<_>>())
        })
    }
}

impl Operator for Pad {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        if !["constant", "reflect", "edge", "wrap"].contains(&self.mode.as_str()) {
            return Err(InferError::Invalid(format!("mode `{}`", self.mode)));
        }
        if x.has(2) {
            x.require_same_dtype(2, 0)?;
        }
        let mut dims = vec![];
        for (dim, (before, behind)) in ty.shape.0.iter().zip(self.borders(x)?) {
            dims.push(match dim.fixed() {
                _ if (before, behind) == (0, 0) => dim.clone(),
                Some(d) => {
                    let sum = (d as i64).checked_add(before).and_then(|s| s.checked_add(behind));
                    let least = (d as i64).checked_add(before.min(0)).and_then(|s| s.checked_add(behind.min(0)));
                    match sum {
                        Some(sum) if least.is_some_and(|l| l >= 0) || (self.mode == "constant" && sum >= 0) => Dim::Fixed(extent(sum)?),
                        _ => return Err(InferError::Invalid(format!("borders {before} and {behind} of extent {d}"))),
                    }
                }
                None => return Err(InferError::UnboundDimension { operand: 0, ty: ty.clone() }),
            });
        }
        let result = ty.with_dims(dims);
        if let Some(dims) = result.dims() {
            super::sized(ty.dtype, &dims)?;
            if self.mode != "constant" {
                self.repeated(x)?;
            }
        }
        Ok(vec![result])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(borders) = self.borders(x) {
            let kept = kept_axes(borders.len(), 1, |axis| borders[axis] == (0, 0));
            axes.operands[0].clone_from(&kept.operands[0]);
            axes.results = kept.results;
        }
        axes
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let borders = self.borders(x).ok()?;
        if borders.iter().any(|b| b.0 > 0 || b.1 > 0) {
            return None;
        }
        let forms = identity_view(borders.len());
        Some(vec![View::Affine(forms.iter().zip(borders).map(|(f, (before, _))| f.offset(-before)).collect())])
    }

    fn interval(&self, x: &Operands, of: &[Interval]) -> Interval {
        match &self.mode[..] {
            "constant" => of[0].join(if x.has(2) { of[2] } else { Interval::new(0.0, 0.0) }),
            _ => of[0],
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let data = x.tensor(0);
        if self.mode != "constant" {
            return Ok(vec![eval_tables(data, &self.tables(x).map_err(invalid)?)]);
        }
        let dims = self.infer(x).map_err(invalid)?[0].dims().unwrap_or_default();
        if let Some(views) = self.view(x) {
            return Ok(vec![eval_view(data, &views[0], &dims)]);
        }
        let zero = Tensor::zeros(data.dtype(), &[]);
        let mut canvas = Canvas::filled(x.tensor_opt(2).filter(|t| !t.is_empty()).unwrap_or(&zero), &dims);
        let (mut region, mut to, mut from) = (vec![], vec![], vec![]);
        for ((before, _), (&d, &n)) in self.borders(x).map_err(invalid)?.into_iter().zip(data.dims().iter().zip(&dims)) {
            let (first, end) = (before.clamp(0, n as i64), (before + d as i64).clamp(0, n as i64));
            region.push((end - first).max(0) as usize);
            to.push(first as usize);
            from.push((first - before).max(0) as usize);
        }
        let (to, from) = (canvas.place().from(&to), Place::dense(data.dims()).from(&from));
        canvas.copy(&region, &to, data, &from);
        Ok(vec![canvas.finish()])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let data = x.tensor(0);
        if let Some(views) = self.view(x.facts) {
            return Ok(vec![lower_view(b, data, &views[0], &x.result_dims(0))]);
        }
        if self.mode != "constant" && b.any_padding {
            return Ok(vec![self.lower_at_any_extent(b, data, &self.repeated(x.facts)?, &x.result_dims(0))]);
        }
        if self.mode != "constant" {
            return Ok(vec![lower_tables(b, data, &self.tables(x.facts)?)]);
        }
        let pad = match x.get(2).filter(|_| !x.dims(2).contains(&0)) {
            Some(value) => scalar_of(b, value, x.facts.get(2).and_then(|f| f.value.as_ref())),
            None => Expr::int(b.dtype(data), 0),
        };
        let borders = self.borders(x.facts)?;
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            b.load_padded(data, at.iter().zip(&borders).map(|(a, (before, _))| a.offset(-before)), pad)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn borders_hold_what_the_mode_says() {
        let x = || t("f32[1,3] 1 2 3");
        let pads = || t("i64[4] 0 2 0 2");
        assert_eq!(check_op("Pad", [x(), pads()]), [t("f32[1,7] 0 0 1 2 3 0 0")]);
        assert_eq!(check_op("Pad", [x(), pads(), t("f32[] 9")]), [t("f32[1,7] 9 9 1 2 3 9 9")]);
        assert_eq!(check_op("Pad mode=\"reflect\"", [x(), pads()]), [t("f32[1,7] 3 2 1 2 3 2 1")]);
        assert_eq!(check_op("Pad mode=\"edge\"", [x(), pads()]), [t("f32[1,7] 1 1 1 2 3 3 3")]);
        assert_eq!(check_op("Pad mode=\"wrap\"", [x(), pads()]), [t("f32[1,7] 2 3 1 2 3 1 2")]);
        check_op("Pad", [Some(random("i64[2,3,2]", 1)), Some(t("i64[2] 1 2")), None, Some(t("i64[1] -2"))]);
        check_op("Pad mode=\"reflect\"", [random("f32[2,3,4,5]", 1), t("i64[8] 0 0 1 2 0 0 3 4")]);
        for dtype in ["f8e4m3fn", "f4e2m1", "u4", "i2"] {
            check_op("Pad", [t(&format!("{dtype}[2] 1 0")), t("i64[2] 1 2"), t(&format!("{dtype}[] 1"))]);
        }
        check_op("Pad mode=\"edge\"", [random("u8[2,3,4]", 1), t("i64[6] 1 1 1 2 2 2")]);
    }

    #[test]
    fn negative_borders_cut_off() {
        assert_eq!(check_op("Pad", [t("f32[4] 1 2 3 4"), t("i64[2] -1 2")]), [t("f32[5] 2 3 4 0 0")]);
        assert_eq!(check_op("Pad", [t("f32[4] 1 2 3 4"), t("i64[2] -1 -2")]), [t("f32[1] 2")]);
        assert_eq!(check_op("Pad", [t("f32[2] 1 2"), t("i64[2] -3 3")]), [t("f32[2] 0 0")]);
        assert_eq!(check_op("Pad mode=\"edge\"", [t("f32[4] 1 2 3 4"), t("i64[2] -1 2")]), [t("f32[5] 2 3 4 4 4")]);
        assert_eq!(check_error("Pad", [t("f32[2] 1 2"), t("i64[2] -3 0")]), "borders -3 and 0 of extent 2");
    }

    #[test]
    fn borders_need_something_to_repeat() {
        assert_eq!(check_error("Pad mode=\"wrap\"", [random("f32[0]", 1), t("i64[2] 1 0")]), "a border of mode `wrap` around nothing");
        assert_eq!(check_error("Pad", [random("f32[2]", 1), t("i64[3] 1 0 0")]), "3 pads for 1 axes");
        assert_eq!(check_error("Pad mode=\"mirror\"", [random("f32[2]", 1), t("i64[2] 1 0")]), "mode `mirror`");
    }
}

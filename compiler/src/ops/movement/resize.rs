//! `Resize`: axes stretched or shrunk by interpolation.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Resize.html>

use super::pieces::{eval_tables, lower_tables};
use super::sampled::lower_sampled;
use super::taps::{AxisResize, Kind, Taps, as_table, eval_taps, is_identity, lower_taps};
use super::view::kept_axes;
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, normalize_axis};
use crate::tensor::{DType, Dim, Tensor, Type};

operator! {
    /// `x` with the extents of `axes` multiplied by `scales`, or of the extents `sizes`.
    Resize(x, "roi?", "scales?", "sizes?") -> (y) since [10, 11, 13, 18, 19];
    /// Whether shrinking widens the interpolation filter.
    antialias: bool = false,
    /// The axes that `roi`, `scales` and `sizes` speak of; all where it is absent.
    axes: Option<Vec<i64>>,
    /// Which place of the operand a place of the result is.
    coordinate_transformation_mode: String = "half_pixel",
    /// The cubic filter's coefficient.
    cubic_coeff_a: f32 = -0.75,
    /// Whether places outside the operand have no weight, instead of its border's values.
    exclude_outside: bool = false,
    /// The value outside the region of interest, with `tf_crop_and_resize`.
    extrapolation_value: f32 = 0.0,
    /// Whether `sizes` are exact (`stretch`), or limits of one common scale (`not_larger`, `not_smaller`).
    keep_aspect_ratio_policy: String = "stretch",
    /// `nearest`, `linear` or `cubic`.
    mode: String = "nearest",
    /// How `nearest` rounds.
    nearest_mode: String = "round_prefer_floor",
}

impl Default for Resize {
    fn default() -> Self {
        Resize {
            antialias: false,
            axes: None,
            coordinate_transformation_mode: "half_pixel".to_owned(),
            cubic_coeff_a: -0.75,
            exclude_outside: false,
            extrapolation_value: 0.0,
            keep_aspect_ratio_policy: "stretch".to_owned(),
            mode: "nearest".to_owned(),
            nearest_mode: "round_prefer_floor".to_owned(),
        }
    }
}

const COORDINATES: [&str; 7] = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
];

/// What happens to one axis: its new extent and its scale.
#[derive(Clone, Debug)]
struct Target {
    dim: Dim,
    scale: f64,
}

impl Resize {
    fn check_attributes(&self) -> Result<(), InferError> {
        for (name, value, allowed) in [
            ("mode", &self.mode, &["nearest", "linear", "cubic"][..]),
            ("nearest_mode", &self.nearest_mode, &["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
            ("keep_aspect_ratio_policy", &self.keep_aspect_ratio_policy, &["stretch", "not_larger", "not_smaller"]),
            ("coordinate_transformation_mode", &self.coordinate_transformation_mode, &COORDINATES),
        ] {
            if !allowed.contains(&value.as_str()) {
                return Err(InferError::Invalid(format!("{name} `{value}`")));
            }
        }
        Ok(())
    }

    fn chosen_axes(&self, rank: usize) -> Result<Vec<usize>, InferError> {
        match &self.axes {
            Some(axes) => axes.iter().map(|&axis| normalize_axis(axis, rank)).collect(),
            None => Ok((0..rank).collect()),
        }
    }

    /// An operand of numbers that is there and not empty.
    fn numbers(x: &Operands, i: usize, per_axis: usize, n_axes: usize) -> Result<Option<Vec<f64>>, InferError> {
        if !x.has(i) || x.ty(i)?.dims().is_some_and(|d| d == [0]) {
            return Ok(None);
        }
        let numbers = x.value(i)?.to_f64s();
        if numbers.len() != per_axis * n_axes || numbers.iter().any(|n| !n.is_finite()) {
            return Err(InferError::Invalid(format!("operand {i} is {numbers:?} for {n_axes} axes")));
        }
        Ok(Some(numbers))
    }

    fn targets(&self, x: &Operands) -> Result<Vec<Target>, InferError> {
        let ty = x.ty(0)?;
        let axes = self.chosen_axes(ty.rank())?;
        let mut targets: Vec<Target> = ty.shape.0.iter().map(|d| Target { dim: d.clone(), scale: 1.0 }).collect();
        let fixed = |axis: usize| ty.shape.0[axis].fixed().ok_or_else(|| InferError::UnboundDimension { operand: 0, ty: ty.clone() });
        let too_large = || InferError::Invalid("the result is too large".to_owned());
        let scales = Self::numbers(x, 2, 1, axes.len())?;
        let sizes = Self::numbers(x, 3, 1, axes.len())?;
        match (scales, sizes) {
            (Some(scales), None) => {
                for (&axis, scale) in axes.iter().zip(scales) {
                    if scale <= 0.0 {
                        return Err(InferError::Invalid(format!("a scale of {scale}")));
                    }
                    if scale != 1.0 {
                        let resized = (fixed(axis)? as f32 * scale as f32).floor();
                        if resized > 1e12 {
                            return Err(too_large());
                        }
                        targets[axis] = Target { dim: Dim::Fixed(resized as usize), scale };
                    }
                }
            }
            (None, Some(sizes)) => {
                if sizes.iter().any(|s| !(0.0..1e12).contains(s)) {
                    return Err(InferError::Invalid(format!("sizes {sizes:?}")));
                }
                let stretch = self.keep_aspect_ratio_policy == "stretch";
                let mut common: Option<f64> = None;
                for (&axis, &size) in axes.iter().zip(&sizes) {
                    let scale = match ty.shape.0[axis].fixed() {
                        Some(0) if size > 0.0 => return Err(InferError::Invalid(format!("axis {axis} of `{ty}` is empty"))),
                        Some(0) => 1.0,
                        Some(d) => size / d as f64,
                        None if stretch => 1.0,
                        None => return Err(InferError::UnboundDimension { operand: 0, ty: ty.clone() }),
                    };
                    let less = self.keep_aspect_ratio_policy == "not_larger";
                    common = Some(common.map_or(scale, |c| if less { c.min(scale) } else { c.max(scale) }));
                    targets[axis] = Target { dim: Dim::Fixed(size as usize), scale };
                }
                if let Some(scale) = common.filter(|_| !stretch) {
                    for &axis in &axes {
                        let resized = (scale * fixed(axis)? as f64 + 0.5).floor();
                        if resized > 1e12 {
                            return Err(too_large());
                        }
                        targets[axis] = Target { dim: Dim::Fixed(resized as usize), scale };
                    }
                }
            }
            _ => return Err(InferError::Invalid("exactly one of `scales` and `sizes` must be given".to_owned())),
        }
        Ok(targets)
    }

    /// The taps of each axis that changes; extents are known.
    fn taps(&self, x: &Operands) -> Result<Vec<Option<Taps>>, InferError> {
        let extents = x.dims(0)?;
        let taps = |axis: Option<AxisResize<'_>>, &extent: &usize| axis.map(|a| a.taps()).filter(|t| !is_identity(t, extent));
        Ok(self.resized(x, &|_| false)?.into_iter().zip(&extents).map(|(axis, extent)| taps(axis, extent)).collect())
    }

    /// What happens to each axis that changes; extents are known. One that is `any` may be the same at this size only.
    fn resized(&self, x: &Operands, any: &dyn Fn(usize) -> bool) -> Result<Vec<Option<AxisResize<'_>>>, InferError> {
        let extents = x.dims(0)?;
        let chosen = self.chosen_axes(extents.len())?;
        let crop = self.coordinate_transformation_mode == "tf_crop_and_resize";
        let roi = if crop { Self::numbers(x, 1, 2, chosen.len())? } else { None };
        let mut changes = vec![];
        for (axis, (target, &extent)) in self.targets(x)?.into_iter().zip(&extents).enumerate() {
            let resized = target.dim.fixed().unwrap_or(extent);
            let place = chosen.iter().position(|&c| c == axis);
            let roi = match (&roi, place) {
                (Some(roi), Some(i)) => (roi[i], roi[i + chosen.len()]),
                _ => (0.0, 1.0),
            };
            let kind = match self.mode.as_str() {
                "linear" => Kind::Linear,
                "cubic" => Kind::Cubic(self.cubic_coeff_a.into()),
                _ => Kind::Nearest(&self.nearest_mode),
            };
            let change = AxisResize {
                extent,
                resized,
                scale: target.scale,
                by_extents: x.has(3) && self.keep_aspect_ratio_policy == "stretch",
                roi,
                coordinates: &self.coordinate_transformation_mode,
                kind,
                antialias: self.antialias,
                exclude_outside: self.exclude_outside,
                exact: x.dtype(0)? == DType::F64,
            };
            let same = extent == resized && target.scale == 1.0 && !crop && !(any(axis) && change.by_extents);
            let same = place.is_none() || same;
            changes.push(Some(change).filter(|_| !same && extent > 0));
        }
        Ok(changes)
    }

    /// The axes that change, those that shrink most first.
    fn order(taps: &[Option<Taps>], extents: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..taps.len()).filter(|&axis| taps[axis].is_some()).rev().collect();
        let growth = |axis: usize| taps[axis].as_ref().map_or(1.0, |t| t.len() as f64 / extents[axis] as f64);
        order.sort_by(|&a, &b| growth(a).total_cmp(&growth(b)));
        order
    }
}

/// Whether a position of the axis is extrapolated.
fn has_outside(taps: &Taps) -> bool {
    taps.iter().any(|t| t[0].0 < 0)
}

impl Operator for Resize {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.check_attributes()?;
        let ty = x.ty(0)?;
        if ty.dtype == DType::Bool && self.mode != "nearest" {
            return Err(InferError::ElementType { operand: 0, dtype: ty.dtype });
        }
        let crop = self.coordinate_transformation_mode == "tf_crop_and_resize";
        let n_axes = self.chosen_axes(ty.rank())?.len();
        if crop && Self::numbers(x, 1, 2, n_axes)?.is_none() {
            return Err(InferError::Invalid("`tf_crop_and_resize` needs a region of interest".to_owned()));
        }
        let result = ty.with_dims(self.targets(x)?.into_iter().map(|t| t.dim));
        result.dims().map_or(Ok(result.clone()), |dims| super::sized(ty.dtype, &dims)).map(|ty| vec![ty])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        let crop = self.coordinate_transformation_mode == "tf_crop_and_resize";
        if let (Ok(ty), Ok(targets)) = (x.ty(0), self.targets(x)) {
            let chosen = self.chosen_axes(ty.rank()).unwrap_or_default();
            let same =
                |axis: usize| targets[axis].scale == 1.0 && targets[axis].dim == ty.shape.0[axis] && targets[axis].dim != Dim::Unknown;
            let kept = kept_axes(targets.len(), 1, |axis| same(axis) && !(crop && chosen.contains(&axis)));
            axes.operands[0].clone_from(&kept.operands[0]);
            axes.results = kept.results;
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let input = x.tensor(0);
        let taps = self.taps(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let tables: Option<Vec<Option<Vec<i64>>>> =
            taps.iter().map(|t| t.as_ref().map_or(Some(None), |t| as_table(t).filter(|_| !has_outside(t)).map(Some))).collect();
        if let Some(tables) = tables {
            return Ok(vec![eval_tables(input, &tables)]);
        }
        let (mut values, mut dims) = (input.to_f64s(), input.dims().to_vec());
        for axis in Self::order(&taps, input.dims()) {
            let Some(taps) = &taps[axis] else { continue };
            values = eval_taps(&values, &dims, axis, taps, self.extrapolation_value.into());
            dims[axis] = taps.len();
        }
        Ok(vec![Tensor::from_f64s(input.dtype(), &dims, &values)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let mut value = x.tensor(0);
        let dtype = b.dtype(value);
        let varies = |b: &expr::Builder, axis: usize| (b.spread(value, axis).1, b.result_spread(0, axis, 0).1);
        let rank = x.dims(0).len();
        // Of an axis with one extent at all sizes and one of its result only, the taps are others at every size; so they are where corners
        // are aligned.
        let aligned = self.coordinate_transformation_mode == "align_corners";
        let of_any_extent = (0..rank).any(|axis| {
            let (from, to) = varies(b, axis);
            from != to || from && aligned
        });
        let any = |axis: usize| varies(b, axis) != (false, false);
        if (b.any_padding || of_any_extent)
            && let changes = self.resized(x.facts, &any)?
            && changes.iter().flatten().all(AxisResize::at_any_extent)
        {
            let wide = match (self.mode.as_str(), dtype) {
                ("nearest", _) | (_, DType::F64) => dtype,
                _ => DType::F32,
            };
            let last = changes.iter().rposition(Option::is_some);
            for (axis, change) in changes.iter().enumerate() {
                let result = if Some(axis) == last { dtype } else { wide };
                value = change.as_ref().map_or(value, |change| lower_sampled(b, value, axis, change, wide, result));
            }
            let extents = x.dims(0);
            return Ok(vec![if last.is_some() { value } else { b.compute(&extents, |b, at| b.load(value, at)) }]);
        }
        let taps = self.taps(x.facts)?;
        let extents = x.dims(0);
        let order = Self::order(&taps, &extents);
        if order.is_empty() {
            return Ok(vec![b.compute(&extents, |b, at| b.load(value, at))]);
        }
        let whole = |axis: usize| taps[axis].as_ref().filter(|t| !has_outside(t)).and_then(as_table);
        if order.iter().all(|&axis| whole(axis).is_some()) {
            let tables: Vec<Option<Vec<i64>>> = (0..taps.len()).map(whole).collect();
            return Ok(vec![lower_tables(b, value, &tables)]);
        }
        let sums = |taps: &Taps| as_table(taps).is_none();
        let wide = if !taps.iter().flatten().any(sums) {
            dtype
        } else if dtype == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        for (i, &axis) in order.iter().enumerate() {
            let Some(taps) = &taps[axis] else { continue };
            let outside = has_outside(taps).then_some(self.extrapolation_value);
            let result = if i + 1 == order.len() { dtype } else { wide };
            value = lower_taps(b, value, axis, taps, outside, wide, result);
        }
        Ok(vec![value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, check_error, check_op, random, t};

    /// Resizes the last axis by `scales`.
    fn scaled(attributes: &str, x: &str, scale: &str) -> Vec<f64> {
        let mut y = check_op(&format!("Resize {attributes}"), [Some(t(x)), None, Some(t(&format!("f32[1] {scale}")))]);
        y.remove(0).to_f64s()
    }

    #[test]
    fn nearest_rounds_as_it_is_told() {
        let x = "f32[4] 1 2 3 4";
        assert_eq!(scaled("", x, "2"), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
        assert_eq!(scaled("", x, "0.5"), [1.0, 3.0]);
        assert_eq!(scaled("nearest_mode=\"round_prefer_ceil\"", x, "0.5"), [2.0, 4.0]);
        assert_eq!(scaled("nearest_mode=\"ceil\" coordinate_transformation_mode=\"asymmetric\"", x, "1.5"), [1.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
        assert_eq!(
            scaled("nearest_mode=\"floor\" coordinate_transformation_mode=\"asymmetric\"", x, "1.5"),
            [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]
        );
        assert_eq!(scaled("coordinate_transformation_mode=\"align_corners\"", x, "2"), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
        check_op("Resize", [Some(random("i64[1,2,3,5]", 1)), None, None, Some(t("i64[4] 1 2 6 7"))]);
    }

    #[test]
    fn ratios_that_are_no_integers_have_tables() {
        let x = || Some(random("f32[2,3,25,25]", 1));
        for mode in ["nearest", "linear", "cubic"] {
            for coordinates in ["half_pixel", "align_corners"] {
                let op = format!("Resize mode=\"{mode}\" coordinate_transformation_mode=\"{coordinates}\"");
                Check::new(&op).bound(1e-4, 1e-4).run([x(), None, None, Some(t("i64[4] 2 3 25 39"))]);
                Check::new(&op).bound(1e-4, 1e-4).run([x(), None, None, Some(t("i64[4] 2 3 39 41"))]);
            }
        }
        let crop = "Resize mode=\"linear\" coordinate_transformation_mode=\"tf_crop_and_resize\" extrapolation_value=7.0";
        let roi = Some(t("f32[8] 0 0 0 -0.2 1 1 1 1.3"));
        Check::new(crop).bound(1e-4, 1e-4).run([x(), roi, None, Some(t("i64[4] 2 3 25 39"))]);
    }

    #[test]
    fn linear_weighs_two_neighbours() {
        let x = "f32[2] 1 3";
        assert_eq!(scaled("mode=\"linear\"", x, "2"), [1.0, 1.5, 2.5, 3.0]);
        assert_eq!(scaled("mode=\"linear\" coordinate_transformation_mode=\"asymmetric\"", x, "2"), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(scaled("mode=\"linear\" coordinate_transformation_mode=\"align_corners\"", x, "2.5"), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(scaled("mode=\"linear\" coordinate_transformation_mode=\"pytorch_half_pixel\"", x, "0.5"), [1.0]);
        assert_eq!(scaled("mode=\"linear\" antialias=1", "f32[4] 1 2 3 4", "0.5"), [1.625, 3.375]);
    }

    #[test]
    fn every_form_lowers_to_its_value() {
        let x = || Some(random("f32[1,2,5,7]", 1));
        check_op("Resize mode=\"cubic\"", [Some(random("f64[5,7]", 1)), None, None, Some(t("i64[2] 7 3"))]);
        for mode in ["linear", "cubic"] {
            for coordinates in COORDINATES.iter().filter(|c| !c.starts_with("tf_")) {
                for (extra, sizes) in [("", "10 14"), ("exclude_outside=1", "3 11"), ("antialias=1", "2 3")] {
                    let op = format!("Resize mode=\"{mode}\" coordinate_transformation_mode=\"{coordinates}\" {extra}");
                    let sizes = t(&format!("i64[4] 1 2 {sizes}"));
                    Check::new(&op).bound(1e-5, 1e-5).run([x(), None, None, Some(sizes)]);
                }
            }
        }
    }

    #[test]
    fn regions_of_interest_are_cut_out() {
        let op = "Resize mode=\"linear\" coordinate_transformation_mode=\"tf_crop_and_resize\" extrapolation_value=9.0";
        let x = || Some(t("f32[1,5] 1 2 3 4 5"));
        let roi = |roi: &str| Some(t(&format!("f32[4] {roi}")));
        let sizes = || Some(t("i64[2] 1 3"));
        assert_eq!(check_op(op, [x(), roi("0 0.25 1 0.75"), None, sizes()]), [t("f32[1,3] 2 3 4")]);
        assert_eq!(check_op(op, [x(), roi("0 0.5 1 1.5"), None, sizes()]), [t("f32[1,3] 3 5 9")]);
        check_op(&op.replace("linear", "nearest"), [x(), roi("0 0.5 1 1.5"), None, sizes()]);
    }

    #[test]
    fn limits_keep_the_aspect_ratio() {
        let shape = |policy: &str| {
            let op = format!("Resize axes=[2,3] keep_aspect_ratio_policy=\"{policy}\"");
            check_op(&op, [Some(random("f32[1,1,4,2]", 1)), None, None, Some(t("i64[2] 8 6"))])[0].dims().to_vec()
        };
        assert_eq!(shape("stretch"), [1, 1, 8, 6]);
        assert_eq!(shape("not_larger"), [1, 1, 8, 4]);
        assert_eq!(shape("not_smaller"), [1, 1, 12, 6]);
    }

    #[test]
    fn malformed_operands_are_refused() {
        let x = || Some(random("f32[2,2]", 1));
        assert_eq!(check_error("Resize", [x()]), "exactly one of `scales` and `sizes` must be given");
        assert_eq!(check_error("Resize", [x(), None, Some(t("f32[2] 1 -1"))]), "a scale of -1");
        assert_eq!(check_error("Resize", [x(), None, Some(t("f32[1] 1"))]), "operand 2 is [1.0] for 2 axes");
        assert_eq!(check_error("Resize mode=\"area\"", [x(), None, Some(t("f32[2] 1 1"))]), "mode `area`");
        assert_eq!(
            check_error("Resize coordinate_transformation_mode=\"tf_crop_and_resize\"", [x(), None, Some(t("f32[2] 1 1"))]),
            "`tf_crop_and_resize` needs a region of interest"
        );
    }
}

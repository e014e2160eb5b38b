//! `GridSample`: values at given places between the elements.
//! Spec: <https://onnx.ai/onnx/operators/onnx__GridSample.html>

use crate::expr::{self, BinaryOp, CompareOp, Expr, Ix, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, for_each_index, row_major_strides};

operator! {
    /// `y[n,c,..]` is `x[n,c]` at the place `grid[n,..]`, whose coordinates run from -1 to 1, the last axis first.
    GridSample(x, grid) -> (y) since [16, 20, 22];
    /// Whether -1 and 1 are the middles of the outermost elements instead of their outer sides.
    align_corners: bool = false,
    /// `linear`, `nearest` or `cubic`.
    mode: String = "linear",
    /// What is outside: `zeros`, `border` (the nearest element) or `reflection`.
    padding_mode: String = "zeros",
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Linear,
    Nearest,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// The coefficient of cubic convolution.
const CUBIC: f64 = -0.75;

impl GridSample {
    fn modes(&self) -> Result<(Mode, Padding), InferError> {
        let mode = match &self.mode[..] {
            "linear" => Mode::Linear,
            "nearest" => Mode::Nearest,
            "cubic" => Mode::Cubic,
            other => return Err(InferError::Invalid(format!("`mode` is `{other}`"))),
        };
        let padding = match &self.padding_mode[..] {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => return Err(InferError::Invalid(format!("`padding_mode` is `{other}`"))),
        };
        Ok((mode, padding))
    }

    /// The ends that reflect along an axis.
    fn ends(&self, extent: usize) -> (f64, f64) {
        if self.align_corners { (0.0, extent as f64 - 1.0) } else { (-0.5, extent as f64 - 0.5) }
    }

    /// Taps of an axis for `eval`: positions (if inside) and weights.
    fn taps(&self, at: f64, extent: usize, mode: Mode, padding: Padding) -> Vec<(Option<usize>, f64)> {
        let (low, high) = self.ends(extent);
        let n = extent as f64;
        let reflect = |v: f64| {
            if low >= high {
                return low.max(0.0);
            }
            let (span, beyond) = (high - low, if v < low { low - v } else { v - high });
            if beyond <= 0.0 {
                return v;
            }
            let turns = (beyond / span).trunc();
            let rest = beyond - turns * span;
            let from_near = (turns % 2.0 == 0.0) == (v < low);
            if from_near { low + rest } else { high - rest }
        };
        let place = if self.align_corners { (at + 1.0) / 2.0 * (n - 1.0) } else { ((at + 1.0) * n - 1.0) / 2.0 };
        let mut place = f64::from(place as f32);
        if mode == Mode::Nearest {
            place = place.round_ties_even();
        }
        match padding {
            // Cubic weights are those of the place outside, as PyTorch and onnxruntime have it.
            Padding::Border if mode != Mode::Cubic && !(low..=high).contains(&place) => place = place.clamp(0.0, n - 1.0),
            Padding::Reflection => place = reflect(place),
            _ => {}
        }
        let element = |i: f64| match padding {
            Padding::Zeros => (0.0..n).contains(&i).then_some(i as usize),
            Padding::Border => Some(i.clamp(0.0, n - 1.0) as usize),
            Padding::Reflection => Some(reflect(i).clamp(0.0, n - 1.0) as usize),
        };
        let first = place.floor();
        let f = place - first;
        match mode {
            Mode::Nearest => vec![(element(place), 1.0)],
            Mode::Linear => vec![(element(first), 1.0 - f), (element(first + 1.0), f)],
            Mode::Cubic => {
                let far = |x: f64| ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC;
                let near = |x: f64| ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0;
                let weights = [far(f + 1.0), near(f), near(1.0 - f), far(2.0 - f)];
                (0..4).map(|i| (element(first + i as f64 - 1.0), weights[i])).collect()
            }
        }
    }

    /// The same as expressions: an index (with whether it is inside, for zeros) and a weight.
    fn tap_exprs(&self, at: &Expr, extent: usize, mode: Mode, padding: Padding) -> Vec<(Expr, Option<Expr>, Option<Expr>)> {
        let (low, high) = self.ends(extent);
        let n = extent as f64;
        let limit = |v: &Expr| v.binary(BinaryOp::Max, &v.like(0.0)).binary(BinaryOp::Min, &v.like(n - 1.0));
        let reflect = |v: &Expr| {
            if low >= high {
                return v.like(low.max(0.0));
            }
            let below = v.compare(CompareOp::Lt, &v.like(low));
            let beyond = below.select(&(v.like(low) - v.clone()), &(v.clone() - high));
            let beyond = beyond.binary(BinaryOp::Max, &v.like(0.0));
            let turns = (beyond.clone() / (high - low)).unary(UnaryOp::Floor);
            let rest = beyond.clone() - turns.clone() * (high - low);
            let odd = turns.clone() - (turns * 0.5).unary(UnaryOp::Floor) * 2.0;
            let even = odd.compare(CompareOp::Lt, &v.like(0.5));
            let (front, back) = (rest.clone() + low, v.like(high) - rest);
            let from_low = even.select(&front, &back);
            let from_high = even.select(&back, &front);
            let reflected = below.select(&from_low, &from_high);
            beyond.compare(CompareOp::Gt, &v.like(0.0)).select(&reflected, v)
        };
        let mut place = if self.align_corners { (at + 1.0) * 0.5 * (n - 1.0) } else { ((at + 1.0) * n - 1.0) * 0.5 };
        if mode == Mode::Nearest {
            place = place.unary(UnaryOp::Round);
        }
        match padding {
            Padding::Border if mode != Mode::Cubic => {
                let inside =
                    place.compare(CompareOp::Ge, &place.like(low)).binary(BinaryOp::And, &place.compare(CompareOp::Le, &place.like(high)));
                place = inside.select(&place, &limit(&place));
            }
            Padding::Reflection => place = reflect(&place),
            Padding::Border | Padding::Zeros => {}
        }
        let element = |i: &Expr| match padding {
            Padding::Zeros => {
                let inside = i.compare(CompareOp::Ge, &i.like(0.0)).binary(BinaryOp::And, &i.compare(CompareOp::Lt, &i.like(n)));
                (limit(i).cast(DType::I64), Some(inside))
            }
            Padding::Border => (limit(i).cast(DType::I64), None),
            Padding::Reflection => (limit(&reflect(i)).cast(DType::I64), None),
        };
        let tap = |i: &Expr, weight: Option<Expr>| {
            let (index, inside) = element(i);
            (index, inside, weight)
        };
        let first = place.unary(UnaryOp::Floor);
        let f = place.clone() - first.clone();
        match mode {
            Mode::Nearest => vec![tap(&place, None)],
            Mode::Linear => vec![tap(&first, Some(f.like(1.0) - f.clone())), tap(&(first.clone() + 1.0), Some(f))],
            Mode::Cubic => {
                let far = |x: &Expr| ((x * CUBIC - 5.0 * CUBIC) * x.clone() + 8.0 * CUBIC) * x.clone() - 4.0 * CUBIC;
                let near = |x: &Expr| (x * (CUBIC + 2.0) - (CUBIC + 3.0)) * x.clone() * x.clone() + 1.0;
                let weights = [far(&(&f + 1.0)), near(&f), near(&(f.like(1.0) - f.clone())), far(&(f.like(2.0) - f.clone()))];
                weights.into_iter().enumerate().map(|(i, w)| tap(&(&first + (i as f64 - 1.0)), Some(w))).collect()
            }
        }
    }
}

impl Operator for GridSample {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (mode, _) = self.modes()?;
        if mode == Mode::Nearest && x.dtype(0)? != DType::Bool {
            x.require_dtype(0, &DType::NUMBERS)?;
        } else {
            x.require_dtype(0, &DType::FLOATS)?;
        }
        x.require_dtype(1, &DType::FLOATS)?;
        let (image, grid) = (x.dims(0)?, x.dims(1)?);
        let space = image.len().saturating_sub(2);
        if space == 0 || grid.len() != space + 2 || grid[0] != image[0] || grid[space + 1] != space {
            return Err(InferError::Invalid(format!("a grid {} for {}", x.ty(1)?, x.ty(0)?)));
        }
        if space > 3 || image[2..].iter().any(|&d| d == 0 || d > 1 << 24) {
            return Err(InferError::Unsupported(format!("sampling of {}", x.ty(0)?)));
        }
        let dims = [&image[..2], &grid[1..=space]].concat();
        Ok(vec![Type::fixed(x.dtype(0)?, &dims)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let (Ok(rank), Ok(grid)) = (x.rank(0), x.rank(1))
            && rank == grid
        {
            let space = (2..rank as u32).map(Some);
            axes.operands[0] = (0..rank as u32).map(|i| (i < 2).then_some(i)).collect();
            axes.operands[1] = [Some(0)].into_iter().chain(space.clone()).chain([None]).collect();
            axes.results = vec![[Some(0), Some(1)].into_iter().chain(space).collect()];
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (ty, (mode, padding)) = (self.infer(x).map_err(invalid)?.remove(0), self.modes().map_err(invalid)?);
        let dims = ty.dims().expect("fixed extents");
        let (image, places) = (x.tensor(0).to_f64s(), x.tensor(1).to_f64s());
        let extents = x.tensor(0).dims();
        let (space, strides, grid_strides) = (extents.len() - 2, row_major_strides(extents), row_major_strides(x.tensor(1).dims()));
        let mut out = vec![0.0; dims.iter().product()];
        for_each_index(&dims, |flat, at| {
            let point = at[0] * grid_strides[0] + (0..space).map(|i| at[2 + i] * grid_strides[1 + i]).sum::<usize>();
            let mut sums = vec![(at[0] * strides[0] + at[1] * strides[1], 1.0)];
            for i in 0..space {
                let taps = self.taps(places[point + space - 1 - i], extents[2 + i], mode, padding);
                sums = sums
                    .iter()
                    .flat_map(|&(from, w)| taps.iter().filter_map(move |&(tap, v)| Some((from, tap?, w * v))))
                    .map(|(from, tap, w)| (from + tap * strides[2 + i], w))
                    .collect();
            }
            out[flat] = sums.iter().fold(0.0, |sum, &(from, w)| sum + w * image[from]);
        });
        Ok(vec![Tensor::from_f64s(ty.dtype, &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (mode, padding) = self.modes()?;
        let (image, grid, extents) = (x.tensor(0), x.tensor(1), x.dims(0));
        let (space, dtype) = (extents.len() - 2, b.dtype(image));
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let taps: Vec<Vec<_>> = (0..space)
                .map(|i| {
                    let mut point = vec![at[0].clone()];
                    point.extend_from_slice(&at[2..]);
                    point.push(expr::Affine::constant((space - 1 - i) as i64));
                    self.tap_exprs(&b.load(grid, point).cast(wide), extents[2 + i], mode, padding)
                })
                .collect();
            let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
            let mut sum: Option<Expr> = None;
            for_each_index(&counts, |_, pick| {
                let mut index: Vec<Ix> = at[..2].iter().map(Ix::from).collect();
                let (mut weight, mut inside): (Option<Expr>, Option<Expr>) = (None, None);
                for (i, &p) in pick.iter().enumerate() {
                    let (place, here, w) = &taps[i][p];
                    index.push(Ix::Clamped(place.clone()));
                    let both = |a: &Option<Expr>, b: &Option<Expr>, op| match (a, b) {
                        (Some(a), Some(b)) => Some(a.binary(op, b)),
                        (a, b) => a.clone().or_else(|| b.clone()),
                    };
                    weight = both(&weight, w, BinaryOp::Mul);
                    inside = both(&inside, here, BinaryOp::And);
                }
                let mut value = b.load(image, index).cast(wide);
                value = inside.map_or(value.clone(), |inside| inside.select(&value, &value.like(0.0)));
                value = weight.map_or(value.clone(), |w| value * w);
                sum = Some(sum.take().map_or(value.clone(), |s| s + value));
            });
            sum.expect("a tap").cast(dtype)
        })])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn places_between_elements() {
        let x = |grid: &str| [t("f32[1,1,1,3] 1 2 4"), t(grid)];
        assert_eq!(check_op("GridSample align_corners=1", x("f32[1,1,1,2] 0.5 0"))[0], t("f32[1,1,1,1] 3"));
        assert_eq!(check_op("GridSample mode=\"nearest\"", x("f32[1,1,1,2] -5 0"))[0], t("f32[1,1,1,1] 0"));
        assert_eq!(check_op("GridSample padding_mode=\"border\"", x("f32[1,1,1,2] -5 0"))[0], t("f32[1,1,1,1] 1"));
        assert_eq!(check_error("GridSample", x("f32[1,1,1,3]")), "a grid f32[1,1,1,3] for f32[1,1,1,3]");
    }

    #[test]
    fn all_modes_agree() {
        for mode in ["linear", "nearest", "cubic"] {
            for padding in ["zeros", "border", "reflection"] {
                for align in 0..2 {
                    let op = format!("GridSample mode=\"{mode}\" padding_mode=\"{padding}\" align_corners={align}");
                    Check::new(&op).bound(1e-3, 1e-3).run([random("f32[2,3,4,5]", 1), random("f32[2,3,2,2]", 2)]);
                    Check::new(&op).bound(1e-3, 1e-3).run([random("f32[1,2,4,5]", 3), random("f32[1,2,21,2]", 4)]);
                }
            }
        }
        Check::new("GridSample").bound(1e-3, 1e-3).run([random("f32[1,2,3,4,5]", 1), random("f32[1,2,3,2,3]", 2)]);
    }
}

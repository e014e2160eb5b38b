//! Where each position of a resized axis takes its value from: a few positions of the operand, with weights.
//!
//! Follows the reference implementation in the ONNX specification. Positions of mode `nearest` are computed in `f32`, as
//! runtimes do: the scale itself is an `f32`, and only its rounding makes whole positions whole.

use super::index_table;
use crate::expr::{Affine, Builder, Expr, Ix, ReduceOp, TensorId};
use crate::tensor::{DType, Tensor};

/// How one axis is resized.
#[derive(Clone, Debug)]
pub(super) struct AxisResize<'a> {
    /// Extent of the operand.
    pub(super) extent: usize,
    /// Extent of the result.
    pub(super) resized: usize,
    /// Result over operand; need not be the ratio of the extents.
    pub(super) scale: f64,
    /// Whether the scale follows from the extents.
    pub(super) by_extents: bool,
    /// Start and end of the region of interest.
    pub(super) roi: (f64, f64),
    /// `coordinate_transformation_mode`.
    pub(super) coordinates: &'a str,
    /// `mode`, and the rounding of `nearest`.
    pub(super) kind: Kind<'a>,
    pub(super) antialias: bool,
    pub(super) exclude_outside: bool,
    /// Whether weights are exact, not rounded to `f32`.
    pub(super) exact: bool,
}

/// Interpolation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Nearest(&'a str),
    Linear,
    /// With the coefficient `a`.
    Cubic(f64),
}

/// For each result position the operand's positions and their weights; a position of -1 is the extrapolation value.
pub(super) type Taps = Vec<Vec<(i64, f64)>>;

impl AxisResize<'_> {
    /// The place in the operand of result position `x`; `None` where it is extrapolated.
    fn source(&self, x: usize) -> Option<f64> {
        let (x, n, scale) = (x as f64, self.extent as f64, self.rounded(self.scale));
        // The extent before it was rounded to a whole number.
        let wide = if (self.scale * n - self.resized as f64).abs() < 1e-6 { self.resized as f64 } else { self.scale * n };
        Some(match self.coordinates {
            "align_corners" => {
                if wide == 1.0 || self.resized == 1 {
                    0.0
                } else {
                    x * (n - 1.0) / (wide - 1.0)
                }
            }
            "asymmetric" => self.rounded(x / scale),
            "tf_crop_and_resize" => {
                let (start, end) = self.roi;
                let at = if self.resized == 1 {
                    0.5 * (start + end) * (n - 1.0)
                } else {
                    start * (n - 1.0) + x * (end - start) * (n - 1.0) / (wide - 1.0)
                };
                // Ends of the region that are on the border do not miss it by a rounding error.
                if at < -1e-6 * n || at > n - 1.0 + 1e-6 * n {
                    return None;
                }
                at.clamp(0.0, n - 1.0)
            }
            "tf_half_pixel_for_nn" => self.rounded((x + 0.5) / scale),
            "pytorch_half_pixel" if self.resized == 1 => 0.0,
            "half_pixel_symmetric" => {
                let center = n / 2.0;
                center * (1.0 - self.resized as f64 / wide) + self.rounded((x + 0.5) / scale) - 0.5
            }
            _ => self.rounded((x + 0.5) / scale) - 0.5,
        })
    }

    fn rounded(&self, at: f64) -> f64 {
        if matches!(self.kind, Kind::Nearest(_)) { f64::from(at as f32) } else { at }
    }

    fn nearest(&self, at: f64, rounding: &str) -> i64 {
        let at = f64::from(at as f32);
        (match rounding {
            "floor" => at.floor(),
            "ceil" => at.ceil(),
            "round_prefer_ceil" => (at + 0.5).floor(),
            _ => (at - 0.5).ceil(),
        }) as i64
    }

    /// First position and weights around `at`.
    fn weights(&self, at: f64) -> (i64, Vec<f64>) {
        let floor = at.floor();
        let ratio = at - floor;
        let scale = if self.antialias { self.scale.min(1.0) } else { 1.0 };
        let radius = if matches!(self.kind, Kind::Linear) { 1.0 } else { 2.0 };
        let start = (-radius / scale).floor() as i64 + 1;
        let end = 2 - start;
        let weight = |i: i64| {
            let x = ((i as f64 - ratio) * scale).abs();
            match self.kind {
                Kind::Cubic(a) if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
                Kind::Cubic(a) if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
                Kind::Cubic(_) => 0.0,
                _ => (1.0 - x).clamp(0.0, 1.0),
            }
        };
        let weights: Vec<f64> = (start..end).map(weight).collect();
        let sum: f64 = if self.antialias { weights.iter().sum() } else { 1.0 };
        (floor as i64 + start, weights.into_iter().map(|w| w / sum).collect())
    }

    /// The taps of every result position.
    pub(super) fn taps(&self) -> Taps {
        let last = self.extent as i64 - 1;
        let taps_of = |x: usize| {
            let Some(at) = self.source(x) else { return vec![(-1, 1.0)] };
            if let Kind::Nearest(rounding) = self.kind {
                return vec![(self.nearest(at, rounding).clamp(0, last), 1.0)];
            }
            let (first, mut weights) = self.weights(at);
            if self.exclude_outside {
                for (i, w) in weights.iter_mut().enumerate() {
                    if !(0..=last).contains(&(first + i as i64)) {
                        *w = 0.0;
                    }
                }
                let sum: f64 = weights.iter().sum();
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            // Positions outside are those of the border, whose weights add up.
            let mut merged: Vec<(i64, f64)> = vec![];
            for (i, w) in weights.into_iter().enumerate() {
                let at = (first + i as i64).clamp(0, last);
                match merged.last_mut() {
                    Some(tap) if tap.0 == at => tap.1 += w,
                    _ => merged.push((at, w)),
                }
            }
            let weight = |w: f64| if self.exact { w } else { f64::from(w as f32) };
            let taps: Vec<(i64, f64)> = merged.into_iter().map(|(at, w)| (at, weight(w))).filter(|t| t.1 != 0.0).collect();
            if taps.is_empty() { vec![(0, 0.0)] } else { taps }
        };
        (0..self.resized).map(taps_of).collect()
    }
}

/// The positions, where every result position is one operand position with weight 1.
pub(super) fn as_table(taps: &Taps) -> Option<Vec<i64>> {
    taps.iter().map(|t| if let [(at, 1.0)] = t[..] { Some(at) } else { None }).collect()
}

/// Whether nothing changes.
pub(super) fn is_identity(taps: &Taps, extent: usize) -> bool {
    taps.len() == extent && as_table(taps).is_some_and(|t| t.into_iter().eq(0..extent as i64))
}

/// Result positions `to + i * to_step` take `from[j] + i * from_step` with weight `weights[j]`, for `i` below `extent`.
struct Phase {
    to: i64,
    to_step: i64,
    extent: usize,
    from: Vec<i64>,
    from_step: i64,
    weights: Vec<f64>,
}

/// Regular phases that cover the axis: what integer scales have between the borders.
fn phases(taps: &Taps, period: usize) -> Vec<Phase> {
    let mut all: Vec<Phase> = vec![];
    for residue in 0..period.min(taps.len()) {
        let mut first = true;
        for (to, t) in taps.iter().enumerate().skip(residue).step_by(period) {
            let weights: Vec<f64> = t.iter().map(|t| t.1).collect();
            if let Some(phase) = all.last_mut().filter(|p| !first && p.weights == weights) {
                let step = t[0].0 - phase.from[0] - phase.from_step * (phase.extent as i64 - 1);
                let fits = |step: i64| t.iter().zip(&phase.from).all(|(t, f)| t.0 - f == step * phase.extent as i64);
                if phase.extent == 1 && fits(step) || phase.extent > 1 && step == phase.from_step && fits(step) {
                    phase.from_step = step;
                    phase.extent += 1;
                    continue;
                }
            }
            first = false;
            let from = t.iter().map(|t| t.0).collect();
            all.push(Phase { to: to as i64, to_step: period as i64, extent: 1, from, from_step: 0, weights });
        }
    }
    all
}

/// A tap's part of a sum of type `sum_type`.
fn weighted(load: Expr, weight: f64, sum_type: DType) -> Expr {
    let value = load.cast(sum_type);
    if weight == 1.0 { value } else { &value * weight }
}

/// `input` with `axis` resized by `taps`, as a tensor of type `result`; sums are of type `sum_type`.
pub(super) fn lower_taps(
    b: &mut Builder,
    input: TensorId,
    axis: usize,
    taps: &Taps,
    outside: Option<f32>,
    sum_type: DType,
    result: DType,
) -> TensorId {
    let mut dims = b.dims(input).to_vec();
    dims[axis] = taps.len();
    let dtype = b.dtype(input);
    let replace = |at: &[Affine], place: Ix| -> Vec<Ix> {
        let mut index: Vec<Ix> = at.iter().map(Ix::from).collect();
        index[axis] = place;
        index
    };
    if outside.is_none() {
        let best = (1..=8).map(|period| phases(taps, period)).min_by_key(Vec::len).unwrap_or_default();
        if best.len() <= 12 {
            let out = b.declare(result, &dims);
            for phase in best {
                let mut region = dims.clone();
                region[axis] = phase.extent;
                b.write(out, &region, |b, at| {
                    let tap = |j: usize| {
                        let from = at[axis].times(phase.from_step).offset(phase.from[j]);
                        weighted(b.load(input, replace(at, from.into())), phase.weights[j], sum_type)
                    };
                    let sum = (1..phase.from.len()).fold(tap(0), |sum, j| sum + tap(j));
                    let mut to = at.to_vec();
                    to[axis] = at[axis].times(phase.to_step).offset(phase.to);
                    (to, sum.cast(result))
                });
            }
            return out;
        }
    }

    // Absent taps have weight 0 and read where the first one reads. Those of one number are adjacent, as are results.
    let n_taps = taps.iter().map(Vec::len).max().unwrap_or(1);
    let filled = |f: fn((i64, f64)) -> f64| -> Vec<f64> {
        (0..n_taps).flat_map(|j| taps.iter().map(move |t| f(t.get(j).copied().unwrap_or((t[0].0, 0.0))))).collect()
    };
    let places: Vec<i64> = filled(|t| t.0 as f64).into_iter().map(|p| p as i64).collect();
    let places = index_table(b, "tap", &[n_taps, taps.len()], &places);
    let weights = b.constant("weight", Tensor::from_f64s(sum_type, &[n_taps, taps.len()], &filled(|t| t.1)));
    let tap = |b: &Builder, at: &[Affine], j: &Affine| {
        let place = b.load(places, [j, &at[axis]]).cast(DType::I64);
        let value = match outside {
            Some(value) => b.load_padded(input, replace(at, Ix::Checked(place)), Expr::constant(dtype, f64::from(value))),
            None => b.load(input, replace(at, Ix::Clamped(place))),
        };
        (value.cast(sum_type), b.load(weights, [j, &at[axis]]))
    };
    if n_taps <= 4 {
        return b.compute(&dims, |b, at| {
            let term = |j: usize| {
                let (value, weight) = tap(b, at, &Affine::constant(j as i64));
                if n_taps == 1 { value } else { value * weight }
            };
            (1..n_taps).fold(term(0), |sum, j| sum + term(j)).cast(result)
        });
    }
    b.reduce(
        ReduceOp::Sum,
        &dims,
        &[n_taps],
        |b, at, over| {
            let (value, weight) = tap(b, at, &over[0]);
            value * weight
        },
        |_, _, sum| sum.cast(result),
    )
}

/// `values`, of extents `dims`, with `axis` resized by `taps`.
pub(super) fn eval_taps(values: &[f64], dims: &[usize], axis: usize, taps: &Taps, outside: f64) -> Vec<f64> {
    let (outer, n, inner) = (dims[..axis].iter().product::<usize>(), dims[axis], dims[axis + 1..].iter().product::<usize>());
    let mut out = vec![0.0; outer * taps.len() * inner];
    for o in 0..outer {
        for (x, around) in taps.iter().enumerate() {
            let row = &mut out[(o * taps.len() + x) * inner..][..inner];
            for &(at, w) in around {
                if at < 0 {
                    row.fill(outside);
                    continue;
                }
                let from = &values[(o * n + at as usize) * inner..][..inner];
                row.iter_mut().zip(from).for_each(|(r, f)| *r += w * f);
            }
        }
    }
    out
}

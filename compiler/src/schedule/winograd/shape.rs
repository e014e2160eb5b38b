//! Which stages are convolutions for this template: found by the shape of their expression.

use crate::expr::{Affine, BinaryOp, Body, Const, Expr, Ix, Node, ReduceOp, Stage, TensorId, Var};
use crate::schedule::emitter::{Emitter, Slot, index_depends, is_float_lane, vector_ok};
use crate::tensor::{DType, Size};

/// Taps of a side and their stride.
const FILTERS: [(usize, i64); 3] = [(3, 1), (3, 2), (5, 2)];

/// One of the two dimensions of tiles.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Side {
    /// The output axis; none where the output has only one such axis.
    pub(super) axis: Option<usize>,
    /// Outputs.
    pub(super) extent: usize,
    /// The reduction axis of its taps, if it has taps.
    pub(super) tap: Option<usize>,
    /// Taps, at least one.
    pub(super) taps: usize,
    /// Between what the first taps of two outputs read.
    pub(super) stride: usize,
    /// Between what two taps read.
    pub(super) dilation: usize,
    /// What the first output's first tap reads.
    pub(super) first: i64,
    /// How much there is to read.
    pub(super) dim: usize,
    /// Where only a run knows how much there is of either.
    pub(super) live: Option<Live>,
}

/// The outputs and what there is to read along a side, in one run.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Live {
    pub(super) outputs: Size,
    pub(super) dim: Size,
    /// The least and the most outputs.
    pub(super) span: (i64, i64),
}

impl Live {
    fn new(e: &Emitter, outputs: &Size, dim: &Size) -> Option<Self> {
        Some(Live { outputs: outputs.clone(), dim: dim.clone(), span: e.span(outputs)? })
    }
}

impl Side {
    pub(super) fn plain(axis: Option<usize>, extent: usize, live: Option<Live>) -> Self {
        Side { axis, extent, tap: None, taps: 1, stride: 1, dilation: 1, first: 0, dim: extent, live }
    }
}

/// A convolution.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shape {
    /// The input and how it is indexed.
    pub(super) input: (TensorId, Vec<Affine>),
    /// The weights and how they are indexed.
    pub(super) weights: (TensorId, Vec<Affine>),
    /// What becomes of the sums.
    pub(super) finish: Expr,
    /// The reduction axis of input channels, and their number.
    pub(super) channels: (usize, usize),
    /// The output axis of output channels, and their number.
    pub(super) columns: (usize, usize),
    /// Rows and columns of the image.
    pub(super) sides: [Side; 2],
    /// All other output axes, outermost first.
    pub(super) batch: Vec<usize>,
    /// How many images those are.
    pub(super) n_images: usize,
}

/// The affine forms of a load that only depend on axes of the stage.
fn plain_index(index: &[Ix]) -> Option<Vec<Affine>> {
    index
        .iter()
        .map(|ix| match ix {
            Ix::Affine(a) if a.terms.iter().all(|t| matches!(t.0, Var::Axis(_))) => Some(a.clone()),
            _ => None,
        })
        .collect()
}

fn is_zero(pad: &Expr) -> bool {
    matches!(pad.node(), Node::Const(Const::Float(x)) if *x == 0.0)
}

impl Shape {
    /// The convolution that a stage is.
    pub(super) fn of(e: &Emitter, stage: &Stage) -> Option<Self> {
        let Body::Reduce { op: ReduceOp::Sum, value, finish } = &stage.body else { return None };
        let Node::Binary(BinaryOp::Mul, x, y) = value.node() else { return None };
        if value.dtype() != DType::F32 || !is_float_lane(finish.dtype()) {
            return None;
        }
        let constant = |l: &Expr| matches!(l.node(), Node::Load { tensor, pad: None, .. } if e.packable_constant(*tensor).is_some());
        let (input, weights) = match (constant(x), constant(y)) {
            (false, true) => (x, y),
            (true, false) => (y, x),
            _ => return None,
        };
        let (Node::Load { tensor: input_id, index: input_index, pad }, Node::Load { tensor: weights_id, index: weights_index, .. }) =
            (input.node(), weights.node())
        else {
            return None;
        };
        if pad.as_ref().is_some_and(|p| !is_zero(p)) || !matches!(e.slots[input_id.0 as usize], Some(Slot::Memory { .. })) {
            return None;
        }
        let (index, weight_index) = (plain_index(input_index)?, plain_index(weights_index)?);

        let n = stage.axes.len();
        let extent = |a: usize| if a < n { stage.axes[a] } else { stage.reduce[a - n] };
        let all = n + stage.reduce.len();
        let in_input = |a: usize| index_depends(input_index, a);
        let in_weights = |a: usize| index_depends(weights_index, a);
        let places = |a: usize| (0..index.len()).filter(|&d| index[d].coefficient(Var::Axis(a as u32)) != 0).collect::<Vec<_>>();
        let live = |range: std::ops::Range<usize>| range.filter(|&a| extent(a) > 1).collect::<Vec<usize>>();

        let columns: Vec<usize> = live(0..n).into_iter().filter(|&a| in_weights(a)).collect();
        let [columns] = columns[..] else { return None };
        if in_input(columns) || !vector_ok(finish, columns) {
            return None;
        }
        let (mut taps, mut channels) = (vec![], vec![]);
        for a in live(n..all) {
            let [place] = places(a)[..] else { return None };
            if !in_weights(a) {
                return None;
            }
            let by = &index[place];
            let output = by.terms.iter().find_map(|t| match t.0 {
                Var::Axis(o) if (o as usize) < n => Some(o as usize),
                _ => None,
            });
            match output {
                Some(o) if extent(o) > 1 => {
                    let n_terms = by.terms.iter().filter(|t| !matches!(t.0, Var::Axis(i) if extent(i as usize) == 1)).count();
                    let [stride, between] = [o, a].map(|axis| by.coefficient(Var::Axis(axis as u32)));
                    let dilated = between > 1 && stride == 1 && by.constant % between == 0 && stage.bound(o).is_none();
                    if between != 1 && !dilated || n_terms != 2 || !FILTERS.contains(&(extent(a), stride)) || places(o).len() != 1 {
                        return None;
                    }
                    taps.push((o, a, place));
                }
                _ => channels.push(a),
            }
        }
        let [channels] = channels[..] else { return None };
        if !matches!(taps.len(), 1 | 2) {
            return None;
        }
        // Only what taps read may lie outside.
        let range = |a: &Affine| {
            a.range(|v| match v {
                Var::Axis(i) => (0, extent(i as usize) as i64 - 1),
                Var::Loop(_) => (0, 0),
            })
        };
        let dims = e.dims(*input_id);
        let inside = |d: usize| {
            let (lo, hi) = range(&index[d]);
            lo >= 0 && hi < dims[d] as i64
        };
        if !(0..dims.len()).all(|d| taps.iter().any(|t| t.2 == d) || inside(d)) {
            return None;
        }

        let out_strides = e.strides_of(stage.out);
        let out_stride = |a: usize| stage.stride_along(&out_strides, a);
        let mut others: Vec<usize> = live(0..n).into_iter().filter(|&a| a != columns && taps.iter().all(|t| t.0 != a)).collect();
        let decl = e.program().tensor(*input_id);
        let image = |d: usize, n: &Size| {
            index[d].constant == 0 && matches!(index[d].terms[..], [(Var::Axis(a), 1)] if stage.bound(a as usize) == Some(n))
        };
        if (0..dims.len()).any(|d| decl.bound(d).is_some_and(|n| taps.iter().all(|t| t.2 != d) && !image(d, n))) {
            return None;
        }
        let mut sides = vec![];
        for &(o, a, place) in &taps {
            let live = match (stage.bound(o), decl.bound(place)) {
                (None, None) => None,
                (Some(outputs), Some(dim)) => Some(Live::new(e, outputs, dim)?),
                _ => return None,
            };
            let stride = index[place].coefficient(Var::Axis(o as u32)).unsigned_abs() as usize;
            let dilation = index[place].coefficient(Var::Axis(a as u32)).unsigned_abs() as usize;
            let (extent, taps, first) = (extent(o), extent(a), index[place].constant);
            sides.push(Side { axis: Some(o), extent, tap: Some(a), taps, stride, dilation, first, dim: dims[place], live });
        }
        if sides.len() == 1 {
            let largest = others.iter().copied().max_by_key(|&a| extent(a));
            others.retain(|&a| Some(a) != largest);
            let live = match largest.and_then(|a| stage.bound(a)) {
                Some(n) => Some(Live::new(e, n, n)?),
                None => None,
            };
            sides.push(Side::plain(largest, largest.map_or(1, extent), live));
        }
        sides.sort_by_key(|s| std::cmp::Reverse(s.axis.map_or(i64::MAX, out_stride)));
        let [y, x] = <[Side; 2]>::try_from(sides).ok()?;
        others.sort_by_key(|&a| std::cmp::Reverse(out_stride(a)));
        // Channels and taps are not for a run to say.
        if (0..all).any(|a| stage.bound(a).is_some() && !others.contains(&a) && y.axis != Some(a) && x.axis != Some(a)) {
            return None;
        }
        Some(Shape {
            input: (*input_id, index),
            weights: (*weights_id, weight_index),
            finish: finish.clone(),
            channels: (channels, extent(channels)),
            columns: (columns, extent(columns)),
            sides: [y, x],
            n_images: others.iter().map(|&a| extent(a)).product(),
            batch: others,
        })
    }

    /// Whether some stride is not 1.
    pub(super) fn is_strided(&self) -> bool {
        self.sides.iter().any(|side| side.stride > 1)
    }

    /// Bytes of the output.
    pub(super) fn output_bytes(&self) -> usize {
        self.n_images * self.sides[0].extent * self.sides[1].extent * self.columns.1 * DType::F32.size_bytes()
    }

    /// Whether channels are adjacent in the input, and in the output, as they are where that has no place yet.
    pub(super) fn lanes_are_adjacent(&self, e: &Emitter, stage: &Stage) -> [bool; 2] {
        let strides = e.strides_of(self.input.0);
        let read: i64 = self.input.1.iter().zip(strides).map(|(a, s)| a.coefficient(Var::Axis(self.channels.0 as u32)) * s).sum();
        let unset = e.slots[stage.out.0 as usize].is_none();
        let written = stage.stride_along(&e.strides_of(stage.out), self.columns.0);
        [read == 1, unset || written == 1]
    }

    /// Whether the epilogue takes many registers.
    pub(super) fn finish_is_long(&self) -> bool {
        let mut long = false;
        self.finish.visit(&mut |x| {
            long |= match x.node() {
                Node::Unary(op, _) => {
                    use crate::expr::UnaryOp as U;
                    !matches!(op, U::Neg | U::Abs | U::Sqrt | U::Floor | U::Ceil | U::Round | U::Not)
                }
                Node::Binary(op, ..) => *op == BinaryOp::Pow,
                _ => false,
            };
        });
        long
    }
}

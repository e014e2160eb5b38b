//! Padding without a copy: a reduction of few steps reads its operand where it is. Loops over outputs are split where a step
//! of the reduction enters or leaves the padding, so that each step is known to read an element or to add nothing.

use super::emitter::{Emitter, Point, coefficient, expr_depends, index_depends, stride_along};
use super::reduce::loads;
use crate::expr::{Affine, BinaryOp, Const, Expr, Ix, Node, ReduceOp, Stage, TensorId, Var};

/// Multiply-adds of one tile that may be written out, about.
const MAX_WRITTEN_OUT: usize = 800;
/// Elements of an axis on each side that may touch padding.
const MAX_BORDER: i64 = 8;
/// Parts that an axis may be split into.
const MAX_PARTS: usize = 8;

/// Whether a padded read is left in place, for the loops to be split around its padding.
pub(super) fn in_place(e: &Emitter, stage: &Stage, op: ReduceOp, value: &Expr, load: &Expr) -> bool {
    let Node::Load { tensor, index, pad: Some(pad) } = load.node() else { return false };
    let n = stage.axes.len();
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    let axes_only = |ix: &Ix| matches!(ix, Ix::Affine(a) if a.terms.iter().all(|t| matches!(t.0, Var::Axis(_))));
    if !index.iter().all(axes_only) || !adds_nothing(op, value, load, pad) {
        return false;
    }
    if !bounds_hold(e, stage, *tensor, index) {
        return false;
    }
    let mut split = vec![false; n];
    for (ix, &dim) in index.iter().zip(e.dims(*tensor)) {
        let Ix::Affine(a) = ix else { return false };
        let (lo, hi) = a.range(|v| match v {
            Var::Axis(i) => (0, extents[i as usize] as i64 - 1),
            Var::Loop(_) => (0, 0),
        });
        if lo >= 0 && hi < dim as i64 {
            continue;
        }
        let moving: Vec<usize> = (0..n).filter(|&i| extents[i] > 1 && coefficient(ix, i) != 0).collect();
        let [axis] = moving[..] else { return false };
        if split[axis] || coefficient(ix, axis) < 0 {
            return false;
        }
        split[axis] = true;
    }
    let fits = |axis: usize| {
        let (lo, hi) = interior(e, stage, &[load], axis);
        lo <= MAX_BORDER && stage.axes[axis] as i64 - hi <= MAX_BORDER && cuts(e, stage, &[load], axis).len() <= MAX_PARTS + 1
    };
    if !(0..n).filter(|&a| split[a]).all(fits) {
        return false;
    }
    // Lanes lie along an axis that the padding does not know: adjacent elements, or columns of the other factor.
    let strides = e.strides_of(*tensor);
    let stride = |axis: usize| -> i64 { stride_along(index, &strides, axis) };
    let adjacent = (0..n).any(|a| extents[a] >= 4 && !split[a] && stride(a) == 1);
    let columns = (0..n).any(|a| {
        extents[a] >= 4 && !index_depends(index, a) && loads(value).iter().any(|l| expr_depends(l, a)) && {
            let strides = e.strides_of(stage.out);
            let unset = e.slots[stage.out.0 as usize].is_none();
            unset || stage.write.iter().zip(strides).map(|(w, s)| w.coefficient(Var::Axis(a as u32)) * s).sum::<i64>() == 1
        }
    });
    let steps: usize = stage.reduce.iter().product();
    match (adjacent, columns) {
        (true, _) => steps * 8 <= MAX_WRITTEN_OUT,
        (false, true) => steps * 28 <= MAX_WRITTEN_OUT,
        (false, false) => false,
    }
}

/// Whether an index along each axis that only a run knows is inside whenever the stage's own axis is.
pub(super) fn bounds_hold(e: &Emitter, stage: &Stage, tensor: TensorId, index: &[Ix]) -> bool {
    let decl = e.program().tensor(tensor);
    let axis_alone = |ix: &Ix| if let Ix::Affine(a) = ix { single_axis(a) } else { None };
    index.iter().enumerate().all(|(k, ix)| {
        decl.bound(k).is_none_or(|n| axis_alone(ix).is_some_and(|a| stage.bound(a) == Some(n)))
            && (decl.bound(k).is_some() || (0..stage.axes.len()).all(|a| stage.bound(a).is_none() || coefficient(ix, a) == 0))
    })
}

/// The axis that an index is.
pub(super) fn single_axis(index: &Affine) -> Option<usize> {
    match index.terms[..] {
        [(Var::Axis(axis), 1)] if index.constant == 0 => Some(axis as usize),
        _ => None,
    }
}

/// Whether a step that reads padding leaves the accumulator as it is.
fn adds_nothing(op: ReduceOp, value: &Expr, load: &Expr, pad: &Expr) -> bool {
    let Node::Const(Const::Float(pad)) = pad.node() else { return false };
    match op {
        ReduceOp::Max => value == load && *pad == f64::NEG_INFINITY,
        ReduceOp::Min => value == load && *pad == f64::INFINITY,
        ReduceOp::Sum if *pad == 0.0 => {
            let factor = |x: &Expr, other: &Expr| x == load && matches!(other.node(), Node::Load { pad: None, .. });
            value == load || matches!(value.node(), Node::Binary(BinaryOp::Mul, x, y) if factor(x, y) || factor(y, x))
        }
        _ => false,
    }
}

/// Whether a step at this point reads padding, for a read that is left in place.
pub(super) fn outside(e: &Emitter, load: &Expr, at: &Point) -> bool {
    let Node::Load { tensor, index, .. } = load.node() else { return false };
    index.iter().zip(e.dims(*tensor)).any(|(ix, &dim)| {
        let Ix::Affine(a) = ix else { return false };
        let (lo, hi) = e.range(&e.affine(a, at));
        let lanes = at.vector.map_or(0, |v| i64::from(v.valid - 1) * coefficient(ix, v.axis));
        hi + lanes.max(0) < 0 || lo + lanes.min(0) >= dim as i64
    })
}

/// The index of a load that moves along an output axis and may leave the operand: its coefficient, with the least and the greatest
/// offset that the reduction adds, all offsets, and the operand's extent.
fn steps(e: &Emitter, stage: &Stage, load: &Expr, axis: usize) -> Option<(i64, Vec<i64>, i64)> {
    let Node::Load { tensor, index, .. } = load.node() else { return None };
    let n = stage.axes.len();
    let (ix, &dim) = index.iter().zip(e.dims(*tensor)).find(|(ix, _)| coefficient(ix, axis) != 0)?;
    let Ix::Affine(a) = ix else { return None };
    let mut offsets = vec![a.constant];
    for (i, &extent) in stage.reduce.iter().enumerate() {
        let c = coefficient(ix, n + i);
        if c != 0 {
            offsets = offsets.iter().flat_map(|o| (0..extent as i64).map(move |k| o + c * k)).collect();
        }
    }
    offsets.sort_unstable();
    offsets.dedup();
    Some((coefficient(ix, axis), offsets, dim as i64))
}

/// The outputs along an axis whose every step is inside.
pub(super) fn interior(e: &Emitter, stage: &Stage, padded: &[&Expr], axis: usize) -> (i64, i64) {
    let extent = stage.axes[axis] as i64;
    let (mut lo, mut hi) = (0, extent);
    for (c, offsets, dim) in padded.iter().filter_map(|l| steps(e, stage, l, axis)) {
        lo = lo.max(ceil_div(-offsets[0], c));
        hi = hi.min(ceil_div(dim - offsets[offsets.len() - 1], c));
    }
    (lo.clamp(0, extent), hi.clamp(lo.clamp(0, extent), extent))
}

/// Where along an axis the steps that are inside change: its start, these places, its end.
pub(super) fn cuts(e: &Emitter, stage: &Stage, padded: &[&Expr], axis: usize) -> Vec<i64> {
    let extent = stage.axes[axis] as i64;
    let mut cuts = vec![0, extent];
    for (c, offsets, dim) in padded.iter().filter_map(|l| steps(e, stage, l, axis)) {
        for o in offsets {
            cuts.push(ceil_div(-o, c).clamp(0, extent));
            cuts.push(ceil_div(dim - o, c).clamp(0, extent));
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// `a / b` rounded up, `b` above zero.
fn ceil_div(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}

#[cfg(test)]
mod tests {
    use super::{cuts, in_place, interior};
    use crate::expr::{Body, Builder, Expr, Item, ReduceOp};
    use crate::schedule::cost::Machine;
    use crate::schedule::emitter::Emitter;
    use crate::tensor::DType;

    #[test]
    fn axes_are_cut_where_steps_leave_the_operand() {
        let mut b = Builder::new();
        let x = b.operand("x", DType::F32, &[20, 8]);
        let y = b.reduce(
            ReduceOp::Max,
            &[10, 8],
            &[5],
            |b, at, k| {
                let place = at[0].times(2).plus(&k[0]).offset(-2);
                b.load_padded(x, [place, at[1].clone()], Expr::constant(DType::F32, f64::NEG_INFINITY))
            },
            |_, _, acc| acc,
        );
        let program = b.finish(&[y]);
        let Item::Stage(stage) = &program.items[0] else { panic!("one stage") };
        let Body::Reduce { op, value, .. } = &stage.body else { panic!("a reduction") };
        let e = Emitter::new("k", &program, &Machine::wide(16, 32));
        assert!(in_place(&e, stage, *op, value, value));
        assert!(!in_place(&e, stage, ReduceOp::Sum, value, value));
        assert_eq!((interior(&e, stage, &[value], 0), interior(&e, stage, &[value], 1)), ((1, 9), (0, 8)));
        assert_eq!(cuts(&e, stage, &[value], 0), [0, 1, 9, 10]);
    }
}

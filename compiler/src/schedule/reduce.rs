//! Reductions: which axis goes into lanes, and by which template.

use super::ScheduleError;
use super::across::is_across;
use super::contract;
use super::dot;
use super::emitter::{Emitter, Point, coefficient, expr_depends, fits_lanes, index_depends, stride_along, vector_ok};
use super::inner_product;
use super::map;
use super::pack::over_axes_only;
use super::prepare::transposed_copy;
use super::window;
use crate::expr::{BinaryOp, Body, Const, Expr, Ix, Node, ReduceOp, Stage};
use crate::nest;
use crate::tensor::{DType, n_elements};

/// How often each element must be read for a transposing copy to pay.
const TRANSPOSE_REUSE: usize = 4;
/// The shortest sum whose results may lie apart along the lanes: they are transposed in registers, or stored one lane at a time.
const SCATTER_DEPTH: usize = 8;

/// How many times as full vectors along an axis must be that is not adjacent in the results.
const FILLED_MORE: f64 = 1.1;

/// The value of an empty reduction.
pub(super) fn identity(op: ReduceOp, dtype: DType) -> Const {
    let float = dtype.is_float();
    match op {
        ReduceOp::Sum if float => Const::Float(0.0),
        ReduceOp::Prod if float => Const::Float(1.0),
        ReduceOp::Max if float => Const::Float(f64::NEG_INFINITY),
        ReduceOp::Min if float => Const::Float(f64::INFINITY),
        ReduceOp::Sum => Const::Int(0),
        ReduceOp::Prod => Const::Int(1),
        ReduceOp::Max if dtype.is_signed() => Const::Int(i64::MIN >> (64 - dtype.bits())),
        ReduceOp::Max => Const::Int(0),
        ReduceOp::Min if dtype == DType::Bool => Const::Int(1),
        ReduceOp::Min if dtype.is_signed() => Const::Int(i64::MAX >> (64 - dtype.bits())),
        ReduceOp::Min => Const::Int((u64::MAX >> (64 - dtype.bits())) as i64),
    }
}

/// The nest's operator that combines two values.
pub(super) fn combine(op: ReduceOp, dtype: DType) -> nest::BinaryOp {
    match op {
        ReduceOp::Sum if dtype == DType::Bool => nest::BinaryOp::Or,
        ReduceOp::Prod if dtype == DType::Bool => nest::BinaryOp::And,
        ReduceOp::Sum => nest::BinaryOp::Add,
        ReduceOp::Prod => nest::BinaryOp::Mul,
        ReduceOp::Max if dtype == DType::Bool => nest::BinaryOp::Or,
        ReduceOp::Min if dtype == DType::Bool => nest::BinaryOp::And,
        ReduceOp::Max => nest::BinaryOp::Max,
        ReduceOp::Min => nest::BinaryOp::Min,
    }
}

pub(super) fn emit(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr) -> Result<(), ScheduleError> {
    if n_elements(&stage.reduce) == 0 {
        let empty = Expr::new(Node::Const(identity(op, value.dtype())), value.dtype());
        let result = finish.with_acc(&empty);
        let stage = Stage { reduce: vec![], body: Body::Map(result.clone()), ..stage.clone() };
        return map::emit(e, &stage, &result);
    }
    let best = outputs_in_lanes(e, stage, value, finish);
    let (mut stage, mut value) = (stage.clone(), value.clone());
    let inner = inner_product::axis(e, &stage, &value);
    let dot = dot::Product::of(e, &stage, op, &value, finish);
    if let Some((product, _)) = &dot
        && let Some(wide) = product.widened(e, &value)?
    {
        value = wide;
        e.forget();
    }
    let chosen = match best {
        // Few columns over a long adjacent reduction: lanes along the reduction waste nothing.
        _ if dot.is_some() => dot.map(|d| d.1),
        Some((3 | 5, a)) if stage.axes[a] < 3 && inner.is_some() => None,
        Some((_, a)) if inner.is_some_and(|i| inner_product::is_shorter(e, &stage, i, a)) => None,
        Some((_, a)) => Some(a),
        None => None,
    };
    if let Some(axis) = chosen {
        for load in loads(&value) {
            if matches!(along_lanes(e, &stage, &value, &load, axis), Along::Strided)
                && let Some(copy) = transposed_copy(e, &stage, &load, axis)?
            {
                value = value.rewrite(&mut |x| if x == load { copy.clone() } else { x });
                e.forget();
            }
        }
        stage.body = Body::Reduce { op, value: value.clone(), finish: finish.clone() };
        return contract::emit(e, &stage, op, &value, finish, Some(axis));
    }
    if let Some(axis) = inner {
        return inner_product::emit(e, &stage, op, &value, finish, axis, None);
    }
    if window::emit(e, &stage, op, &value, finish)? {
        return Ok(());
    }
    contract::emit(e, &stage, op, &value, finish, None)
}

/// The axis of the results that lanes are best along, if they can be along one, and how good it is, least first.
pub(super) fn outputs_in_lanes(e: &mut Emitter, stage: &Stage, value: &Expr, finish: &Expr) -> Option<(usize, usize)> {
    if !matches!(value.dtype(), DType::F32 | DType::I32) || !fits_lanes(finish.dtype()) {
        return None;
    }
    let (_, _, strides) = e.memory_of(stage.out);
    let depth = n_elements(&stage.reduce);
    let candidates = (0..stage.axes.len()).filter(|&a| stage.axes[a] > 1 && vector_ok(value, a) && vector_ok(finish, a));
    // With the elements that must be copied for it.
    let rank = |axis: usize| -> Option<(usize, usize)> {
        let (mut plain, mut packed, mut strided) = (true, false, 0);
        for load in loads(value) {
            match along_lanes(e, stage, value, &load, axis) {
                Along::Constant => packed = true,
                Along::Unit | Along::Independent => {}
                Along::Strided => {
                    plain = false;
                    strided += 1;
                }
            }
        }
        let adjacent = stage.stride_along(&strides, axis) == 1;
        let short = stage.axes[axis] < 4;
        match (plain, packed, adjacent) {
            (true, true, true) => Some((if short { 3 } else { 0 }, 0)),
            (true, false, true) if !short => Some((1, 0)),
            (true, true, false) if depth >= SCATTER_DEPTH => Some((if short { 5 } else { 2 }, 0)),
            (true, false, false) if depth >= SCATTER_DEPTH && !short => Some((2, 1)),
            (false, _, _) if strided == 1 && !short && product(value) && (adjacent || depth >= SCATTER_DEPTH) => {
                let (reads, copied) = reuse(stage, value, axis);
                (reads >= TRANSPOSE_REUSE).then_some((4, 2 * copied + usize::from(!adjacent)))
            }
            _ => None,
        }
    };
    let ranked: Vec<_> = candidates.filter_map(|a| rank(a).map(|r| (r, std::cmp::Reverse(stage.axes[a]), a))).collect();
    let best = ranked.iter().min()?;
    let fills = |axis: usize| filled(e, stage, value, finish, axis);
    // Tiles are transposed on their way to memory, which takes less than to leave lanes empty in every step.
    let turned = ranked.iter().filter(|r| r.0 == (2, 0) && best.0.0 < 2 && e.machine.exact).min();
    let best = turned.filter(|r| fills(r.2) > FILLED_MORE * fills(best.2)).unwrap_or(best);
    Some((best.0.0, best.2))
}

/// How much of their vectors lanes along an axis fill, with the axes outside it that go on where it ends.
fn filled(e: &Emitter, stage: &Stage, value: &Expr, finish: &Expr, axis: usize) -> f64 {
    let written = e.strides_of(stage.out);
    let goes_on = |o: usize, extent: i64| {
        let along = |a: usize| stage.stride_along(&written, a);
        let reads = loads(value).into_iter().chain(loads(finish)).all(|l| {
            let Node::Load { tensor, index, pad } = l.node() else { return true };
            let strides = e.strides_of(*tensor);
            let [outer, inner] = [o, axis].map(|a| stride_along(index, &strides, a));
            let is_plain = pad.is_none() && over_axes_only(index);
            outer == inner * extent && (outer == 0 && inner == 0 || is_plain)
        });
        along(o) == along(axis) * extent && reads
    };
    let (mut extent, mut others) =
        (stage.axes[axis], (0..stage.axes.len()).filter(|&o| o != axis && stage.axes[o] > 1).collect::<Vec<_>>());
    while let Some(i) = others.iter().position(|&o| goes_on(o, extent as i64)) {
        extent *= stage.axes[others.swap_remove(i)];
    }
    let lanes = e.machine.lanes as usize;
    extent as f64 / extent.next_multiple_of(lanes) as f64
}

/// How a load moves along an axis.
pub(super) enum Along {
    /// It does not.
    Independent,
    /// To the next element.
    Unit,
    /// It reads a constant that can be packed.
    Constant,
    /// Otherwise.
    Strided,
}

pub(super) fn along(e: &Emitter, load: &Expr, axis: usize) -> Along {
    let Node::Load { tensor, index, pad } = load.node() else { return Along::Independent };
    if !index_depends(index, axis) {
        return Along::Independent;
    }
    if e.bound(axis).is_none() && super::pack::over_axes_only(index) && pad.is_none() && e.packable_constant(*tensor).is_some() {
        return Along::Constant;
    }
    let stride: i64 = stride_along(index, &e.strides_of(*tensor), axis);
    let dynamic = index.iter().any(|ix| matches!(ix, Ix::Checked(i) | Ix::Clamped(i) if expr_depends(i, axis)));
    // Padding elsewhere does not break lanes.
    let whole = |ix: &Ix| coefficient(ix, axis) == 0 || matches!(ix, Ix::Affine(a) if a.constant == 0 && a.terms.len() == 1);
    if stride == 1 && (pad.is_none() || index.iter().all(whole)) && !dynamic { Along::Unit } else { Along::Strided }
}

/// [`along`] the lanes of a reduction: shuffles and masks bring what windows read there.
fn along_lanes(e: &Emitter, stage: &Stage, value: &Expr, load: &Expr, axis: usize) -> Along {
    match along(e, load, axis) {
        Along::Strided if is_across(e, stage, value, load, axis) => Along::Unit,
        other => other,
    }
}

/// The distinct loads of an expression.
pub(super) fn loads(value: &Expr) -> Vec<Expr> {
    let mut list: Vec<Expr> = vec![];
    value.visit(&mut |x| {
        if matches!(x.node(), Node::Load { .. }) && !list.contains(x) {
            list.push(x.clone());
        }
    });
    list
}

fn product(value: &Expr) -> bool {
    matches!(value.node(), Node::Binary(BinaryOp::Mul, ..))
}

/// How often each element of the operand that is strided along `axis` is read, and how many elements it has.
fn reuse(stage: &Stage, value: &Expr, axis: usize) -> (usize, usize) {
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    loads(value)
        .iter()
        .filter(|l| expr_depends(l, axis))
        .map(|l| {
            let (copied, read): (Vec<usize>, Vec<usize>) = (0..extents.len()).partition(|&a| expr_depends(l, a));
            let points = |axes: Vec<usize>| axes.into_iter().map(|a| extents[a]).product::<usize>();
            (points(read), points(copied))
        })
        .min()
        .unwrap_or((0, 0))
}

/// Scalar loops over some axes.
pub(super) fn loop_over(
    e: &mut Emitter,
    stage: &Stage,
    axes: &[usize],
    point: Point,
    f: &mut dyn FnMut(&mut Emitter, Point) -> Result<(), ScheduleError>,
) -> Result<(), ScheduleError> {
    let Some((&axis, rest)) = axes.split_first() else { return f(e, point) };
    e.run_loop(&format!("i{axis}"), &Emitter::whole(stage, axis).take(1), |e, v| loop_over(e, stage, rest, point.moved(axis, v), f))
}

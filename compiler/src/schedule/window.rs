//! Windows that stride along adjacent elements: first over everything but that axis, in lanes, then along it.

use super::ScheduleError;
use super::emitter::{Emitter, coefficient, expr_depends, fits_lanes, vector_ok};
use super::reduce::loads;
use crate::expr::{Affine, Body, Expr, Ix, Node, ReduceOp, Stage, Var};
use crate::tensor::DType;

/// A read of a window, and the axes that share a unit stride in it.
struct Window {
    load: Expr,
    /// The axis of the operand that has adjacent elements.
    dim: usize,
    /// The output axis that moves along it, by more than one element.
    column: usize,
    /// The reduction axis that moves along it.
    tap: usize,
    /// The least and the greatest place that is read there.
    reach: (i64, i64),
}

impl Window {
    fn of(e: &Emitter, stage: &Stage, value: &Expr) -> Option<Self> {
        let n = stage.axes.len();
        let all = loads(value);
        let [load] = &all[..] else { return None };
        let Node::Load { tensor, index, pad: None } = load.node() else { return None };
        let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
        let moving = |ix: &Ix| -> Vec<usize> { (0..extents.len()).filter(|&a| extents[a] > 1 && coefficient(ix, a) != 0).collect() };
        if stage.is_live() || !index.iter().all(|ix| matches!(ix, Ix::Affine(_))) {
            return None;
        }
        let dim = e.strides_of(*tensor).iter().zip(index).position(|(&s, ix)| s == 1 && moving(ix).len() == 2)?;
        let (column, tap) = match moving(&index[dim])[..] {
            [column, tap] if column < n && tap >= n => (column, tap),
            _ => return None,
        };
        let alone = |axis: usize| index.iter().enumerate().all(|(k, ix)| k == dim || coefficient(ix, axis) == 0);
        let others: usize = (n..extents.len()).filter(|&a| a != tap).map(|a| extents[a]).product();
        let Ix::Affine(a) = &index[dim] else { return None };
        let only_axes = a.terms.iter().all(|t| matches!(t.0, Var::Axis(_)));
        let reach = a.range(|v| match v {
            Var::Axis(i) => (0, extents[i as usize] as i64 - 1),
            Var::Loop(_) => (0, 0),
        });
        let written = stage.write.iter().filter(|w| w.coefficient(Var::Axis(column as u32)) != 0).count() == 1;
        (others > 1 && only_axes && alone(column) && alone(tap) && written && reach.1 - reach.0 >= 7).then(|| Window {
            load: load.clone(),
            dim,
            column,
            tap,
            reach,
        })
    }
}

/// Emits a reduction over such a window in two; false where it is none.
pub(super) fn emit(e: &mut Emitter, stage: &Stage, op: ReduceOp, value: &Expr, finish: &Expr) -> Result<bool, ScheduleError> {
    let Some(w) = Window::of(e, stage, value) else { return Ok(false) };
    let (n, axis) = (stage.axes.len(), |a: usize| Affine::var(Var::Axis(a as u32)));
    if !matches!(value.dtype(), DType::F32 | DType::I32) || !fits_lanes(finish.dtype()) || !vector_ok(value, w.tap) {
        return Ok(false);
    }
    if (0..n + stage.reduce.len()).any(|a| expr_depends(value, a) && !expr_depends(&w.load, a)) {
        return Ok(false);
    }
    let Node::Load { tensor, index, .. } = w.load.node() else { return Ok(false) };
    let mut axes = stage.axes.clone();
    axes[w.column] = (w.reach.1 - w.reach.0 + 1) as usize;
    let mut order: Vec<usize> = (0..n).filter(|&a| a != w.column).collect();
    order.push(w.column);
    let name = format!("{}_columns", e.program().tensors[tensor.0 as usize].name);
    let columns = e.scratch(&name, value.dtype(), &axes, &order);
    let mut moved = index.clone();
    moved[w.dim] = Ix::Affine(axis(w.column).offset(w.reach.0));
    let moved = Expr::new(Node::Load { tensor: *tensor, index: moved, pad: None }, w.load.dtype());
    let mut reduce = stage.reduce.clone();
    reduce[w.tap - n] = 1;
    let over = Body::Reduce {
        op,
        value: value.rewrite(&mut |x| if x == w.load { moved.clone() } else { x }),
        finish: Expr::new(Node::Acc, value.dtype()),
    };
    let first = Stage { out: columns, write: (0..n).map(axis).collect(), axes, reduce, bounds: vec![], body: over };
    super::schedule_stage(e, &first)?;
    let Ix::Affine(place) = &index[w.dim] else { return Ok(false) };
    let at = (0..n).map(|a| Ix::Affine(if a == w.column { place.offset(-w.reach.0) } else { axis(a) })).collect();
    let mut reduce = vec![1; stage.reduce.len()];
    reduce[w.tap - n] = stage.reduce[w.tap - n];
    let value = Expr::new(Node::Load { tensor: columns, index: at, pad: None }, value.dtype());
    let along = Stage { reduce, body: Body::Reduce { op, value, finish: finish.clone() }, ..stage.clone() };
    super::schedule_stage(e, &along)?;
    Ok(true)
}

//! Reductions of `f16` and `bf16` as those of `f32`: what is read often, or slid over, is read from copies in `f32`, constants are converted when
//! compiled, and extremes, which no rounding can change, are found in `f32`.

use super::ScheduleError;
use super::emitter::Emitter;
use super::prepare::{converted_copy, reading};
use super::reduce::loads;
use crate::expr::{Body, Expr, Ix, Node, ReduceOp, Stage, Var};
use crate::tensor::{DType, Tensor, n_elements};

/// How often each element must be read for a copy to pay.
const REUSE: usize = 4;

/// The stage without halves in its reduction; `None` where it has none, or nothing is gained.
pub(super) fn widened(e: &mut Emitter, stage: &Stage) -> Result<Option<Stage>, ScheduleError> {
    let Body::Reduce { op, value, finish } = &stage.body else { return Ok(None) };
    let (mut wide, mut finish) = (value.clone(), finish.clone());
    if value.dtype().is_half() && matches!(op, ReduceOp::Max | ReduceOp::Min) {
        finish = finish.with_acc(&Expr::acc(DType::F32).cast(value.dtype()));
        wide = value.cast(DType::F32);
    }
    let points = n_elements(&stage.axes) * n_elements(&stage.reduce);
    for load in loads(value).into_iter().filter(|l| l.dtype().is_half()) {
        let Node::Load { tensor, index, .. } = load.node() else { continue };
        let is_often_read = points >= REUSE * n_elements(e.dims(*tensor)) || index.iter().any(is_window);
        let cast = load.cast(DType::F32);
        // A loop around reads another part of it each time.
        if !is_often_read || index.iter().any(moves_with_loop) || !wide.contains(&cast) {
            continue;
        }
        let copy = match e.packable_constant(*tensor).cloned() {
            Some(_) if e.machine.halves_stay => continue,
            Some(value) => {
                let name = format!("{}_f32", e.program().tensor(*tensor).name);
                let constant = e.constant_tensor(&name, Tensor::from_f64s(DType::F32, value.dims(), &value.to_f64s()));
                reading(&load, constant, DType::F32)
            }
            None if e.is_constant(*tensor) => continue,
            None => converted_copy(e, &load, DType::F32)?,
        };
        wide = wide.rewrite(&mut |x| if x == cast { copy.clone() } else { x });
    }
    let body = Body::Reduce { op: *op, value: wide.clone(), finish };
    Ok((wide != *value).then(|| Stage { body, ..stage.clone() }))
}

/// Whether an index slides over its tensor.
fn is_window(ix: &Ix) -> bool {
    matches!(ix, Ix::Affine(a) if a.terms.iter().filter(|t| matches!(t.0, Var::Axis(_))).count() > 1)
}

fn moves_with_loop(ix: &Ix) -> bool {
    matches!(ix, Ix::Affine(a) if a.terms.iter().any(|t| matches!(t.0, Var::Loop(_))))
}

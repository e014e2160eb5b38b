//! Convolutions with three taps, stride 1 or 2, by fewer products (after Winograd, and Lavin and Gray).
//!
//! The outputs are cut into tiles of `m` by `m`. A block of tiles at a time: [`transform`]s of the input go to scratch, one
//! plane for each of `(m + 2)^2` products, or `(2 m + 1)^2` at stride 2 (see [`form`]); every plane is multiplied by its
//! transformed weights in the register tiles of [`super::contract`]; and what comes out is transformed into outputs, with the
//! stage's `finish` on them in registers. Weights are transformed when compiled. Blocks are small enough for the
//! second-level cache, and a panel of output channels goes all the way before the next; or, where weights are too many to
//! come once for every block, the image is one block, and one plane goes after the other.
//!
//! Dilated convolutions, and those of images whose channels are not innermost, are [`relaid`] between copies.
//!
//! Filters with taps along one axis only take the same way with the identity along the other axis. Each side has a stride of
//! its own. At stride 2, five taps are as good as three.

mod cost;
mod emit;
mod form;
mod plan;
mod relaid;
mod shape;
mod transform;

use super::ScheduleError;
use super::emitter::Emitter;
use super::prepare::preferred_order;
use crate::expr::Stage;

/// Emits the stage, if it is such a convolution and this way is the fastest; else does nothing.
pub(super) fn emit(e: &mut Emitter, stage: &Stage) -> Result<bool, ScheduleError> {
    let Some(shape) = shape::Shape::of(e, stage) else { return Ok(false) };
    if shape.copies(e, stage) != [false; 2] && !shape.may_be_relaid(e, stage) {
        return Ok(false);
    }
    for way in plan::ways(&e.machine, &shape) {
        if !e.forms.convolutions.contains(&way) {
            e.forms.convolutions.push(way);
        }
    }
    let Some(plan) = plan::Plan::choose(&e.machine, &shape, shape.copying(e, stage)) else { return Ok(false) };
    e.ensure_memory(stage.out, preferred_order(e, stage));
    if shape.copies(e, stage) == [false; 2] {
        emit::emit(e, stage, &shape, &plan)?;
        return Ok(true);
    }
    if !shape.may_be_relaid(e, stage) {
        return Ok(false);
    }
    let plain = shape.relaid(e, stage)?;
    let stacked = shape::Shape::of(e, &plain).expect("a plain convolution");
    emit::emit(e, &plain, &stacked, &plan)?;
    shape.deliver(e, stage, &plain)?;
    Ok(true)
}

//! Reads at places that data decides, the same for many channels: lanes are channels, of a copy in which those are innermost. What is computed of
//! the places is computed once for all of them.

use super::ScheduleError;
use super::emitter::{Emitter, expr_depends, fits_lanes, place_alone, vector_ok};
use super::prepare::{copied, preferred_order, reading};
use super::reduce::loads;
use crate::expr::{Body, Expr, Ix, Node, Program, Stage, TensorId};
use crate::tensor::{DType, n_elements};

/// The fewest channels that are worth two copies.
const MIN_CHANNELS: usize = 8;

/// What is read, and which axis the channels are: of the stage, and of what is read.
struct Channels {
    tensor: TensorId,
    axis: usize,
    part: usize,
}

/// Whether a read is at a place that data decides.
fn is_at_data(load: &Expr) -> bool {
    let Node::Load { index, .. } = load.node() else { return false };
    index.iter().any(|ix| matches!(ix, Ix::Checked(i) | Ix::Clamped(i) if !loads(i).is_empty()))
}

/// The channels of a read, where it is at a place that data decides, and the same for all of them.
fn channels_of(program: &Program, load: &Expr, axis: usize) -> Option<Channels> {
    let Node::Load { tensor, index, pad } = load.node() else { return None };
    let part = place_alone(index, axis)?;
    let is_fixed = program.tensor(*tensor).bounds.iter().all(Option::is_none);
    let fits = is_at_data(load) && is_fixed && pad.as_ref().is_none_or(|p| !expr_depends(p, axis));
    fits.then_some(Channels { tensor: *tensor, axis, part })
}

/// The values of a stage in its loops, and of what it does with a result of a reduction.
fn values(stage: &Stage) -> Option<(&Expr, Option<&Expr>)> {
    match &stage.body {
        Body::Map(value) => Some((value, None)),
        Body::Reduce { value, finish, .. } => Some((value, Some(finish))),
        Body::Arg { .. } | Body::Scatter { .. } => None,
    }
}

impl Channels {
    /// The channels of a stage, where it reads more than copies of what it reads and of what it writes would.
    fn of(program: &Program, stage: &Stage) -> Option<Self> {
        let (value, finish) = values(stage)?;
        let is_whole = stage.writes_in_place() && program.tensor(stage.out).dims == stage.axes;
        let is_fixed = stage.bounds.iter().all(Option::is_none);
        if !is_whole || !is_fixed || value.dtype() != DType::F32 || !finish.is_none_or(|f| fits_lanes(f.dtype())) {
            return None;
        }
        (0..stage.axes.len()).filter(|&a| stage.axes[a] >= MIN_CHANNELS).find_map(|axis| {
            let read: Vec<Expr> = loads(value).into_iter().filter(|l| expr_depends(l, axis)).collect();
            let found = channels_of(program, read.first()?, axis)?;
            let is_same = |l: &Expr| channels_of(program, l, axis).is_some_and(|c| (c.tensor, c.part) == (found.tensor, found.part));
            let in_lanes = vector_ok(value, axis) && finish.is_none_or(|f| vector_ok(f, axis));
            let n_results = n_elements(&stage.axes);
            let n_reads = n_results * n_elements(&stage.reduce) * read.len();
            let pays = n_reads >= n_results + n_elements(&program.tensor(found.tensor).dims);
            (read.iter().all(is_same) && in_lanes && pays).then_some(found)
        })
    }

    /// The reads moved to another tensor.
    fn moved(&self, value: &Expr, to: TensorId) -> Expr {
        value.rewrite(&mut |x| match x.node() {
            Node::Load { tensor, .. } if *tensor == self.tensor && is_at_data(&x) => reading(&x, to, x.dtype()),
            _ => x,
        })
    }
}

/// Axes of a value with one of them innermost.
fn with_innermost(rank: usize, axis: usize) -> Vec<usize> {
    (0..rank).filter(|&k| k != axis).chain([axis]).collect()
}

/// Whether a stage may be one for this: its copies are made once, outside of loops that it would share.
pub(super) fn is_for(program: &Program, stage: &Stage) -> bool {
    Channels::of(program, stage).is_some()
}

/// Emits the stage with channels as lanes; whether it was one for this.
pub(super) fn emit(e: &mut Emitter, stage: &Stage) -> Result<bool, ScheduleError> {
    let Some(channels) = Channels::of(e.program(), stage).filter(|_| e.is_outermost()) else { return Ok(false) };
    e.ensure_memory(stage.out, preferred_order(e, stage));
    let is_read_adjacent = e.strides_of(channels.tensor)[channels.part] == 1;
    let is_written_adjacent = stage.stride_along(&e.strides_of(stage.out), channels.axis) == 1;
    if e.is_constant(channels.tensor) || is_read_adjacent && is_written_adjacent {
        return Ok(false);
    }
    let mut body = stage.body.clone();
    if !is_read_adjacent {
        let order = with_innermost(e.dims(channels.tensor).len(), channels.part);
        let copy = copied(e, channels.tensor, DType::F32, &order)?;
        e.forget();
        body = body.map(|x| channels.moved(x, copy));
    }
    if is_written_adjacent {
        super::schedule_stage(e, &Stage { body, ..stage.clone() })?;
        return Ok(true);
    }
    let (name, dtype) = (format!("{}_channels", e.program().tensor(stage.out).name), e.program().tensor(stage.out).dtype);
    let inside = e.scratch(&name, dtype, &stage.axes, &with_innermost(stage.axes.len(), channels.axis));
    super::schedule_stage(e, &Stage { out: inside, body, ..stage.clone() })?;
    e.forget();
    let from = Expr::new(Node::Load { tensor: inside, index: stage.write.iter().map(Ix::from).collect(), pad: None }, dtype);
    super::schedule_stage(e, &Stage { reduce: vec![], bounds: vec![None; stage.axes.len()], body: Body::Map(from), ..stage.clone() })?;
    Ok(true)
}

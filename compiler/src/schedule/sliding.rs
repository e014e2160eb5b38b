//! A window that slides over rows of a product: blocks of its results, each made just after the rows that it needs, so that what is
//! between the stages stays in the second-level cache and with the thread that made it. Blocks that follow each other are a part of the
//! image: the rows where they meet are kept from one to the next. Those where parts meet are computed twice.

use std::ops::Range;

use super::channels::{Channels, Constants};
use super::emitter::{Emitter, Point, Slot, index_depends};
use super::machine::Machine;
use super::{MAX_PRIVATE_BYTES, ScheduleError, borders, prepare, schedule_stage};
use crate::expr::{Affine, Body, Expr, Ix, Node, Sliding, Stage, TensorId, Var};
use crate::nest;
use crate::tensor::n_elements;

/// The fewest rows of a product that are worth tiles of their own.
const LEAST_ROWS: usize = 14;
/// What a row that is copied takes of the time of one that is computed.
const COPIED_ROW: f64 = 1.0 / 12.0;
/// So much of the time may be taken that rows would take which are computed once and shared evenly: with all channels at once, and in blocks
/// of channels.
const MOST_TIME: f64 = 1.25;
const MOST_IN_CHANNELS: f64 = 1.14;

/// What one row takes, in bytes.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    /// A row between the stages.
    row: usize,
    /// What of memory is read for it.
    read: usize,
    /// A row of the result.
    written: usize,
}

/// How the results are divided: equal parts, which are independent, of equal blocks, which follow each other.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Plan {
    parts: usize,
    /// Blocks of a part.
    blocks: usize,
    /// Rows of the result in a block.
    rows: usize,
    /// Rows of the result that are made in turn with what they need.
    in_turn: usize,
}

/// Loops: over parts, over blocks of channels in one, over blocks of rows, over those made in turn, over the rows between the stages.
const PART: u32 = 0;
const CHANNELS: u32 = 1;
const BLOCK: u32 = 2;
const TURN: u32 = 3;
const ROW: u32 = 4;

/// Emits both stages in loops over parts and their blocks; false where that is not worth it.
pub(super) fn emit(e: &mut Emitter, s: &Sliding<'_>) -> Result<bool, ScheduleError> {
    let Some((plan, channels)) = plan(e, s) else { return Ok(false) };
    e.forms.offer_turns(plan.in_turn, plan.rows);
    if let Some(c) = &channels {
        e.forms.offer_channels(c.block, c.n);
    }
    let whole = prepare::prepare(e, s.first)?;
    let s = &Sliding { first: &whole, ..s.clone() };
    let mut constants = Constants::default();
    let mut first = s.first.clone();
    first.axes[s.rows] = 1;
    let mut dims = s.first.axes.clone();
    dims[s.rows] = s.span(plan.rows);
    if let Some(c) = &channels {
        (first.axes[c.first], dims[c.first]) = (c.block, c.block);
        first.body = first.body.map(|x| {
            let x = substituted(x, c.first, &c.place(c.first, Var::Loop(CHANNELS)));
            constants.in_blocks(e, &x, c, (c.first, Var::Loop(CHANNELS)))
        });
    }
    let order = prepare::preferred_order(e, s.first).unwrap_or_else(|| (0..dims.len()).collect());
    let decl = e.program().tensor(s.first.out).clone();
    let rows = e.scratch(&format!("{}_rows", decl.name), decl.dtype, &dims, &order);
    let of_channels = channels.as_ref().map_or(String::new(), |c| format!(" channels={}", c.block));
    let in_turn = if plan.in_turn < plan.rows { format!(" in_turn={}", plan.in_turn) } else { String::new() };
    e.note(format!("blocks(rows={}{in_turn}{of_channels})", plan.rows));
    let mut second = of_block(s, rows, plan, channels.as_ref());
    if let Some(c) = &channels {
        second.body = second.body.map(|x| constants.in_blocks(e, x, c, (c.second, Var::Loop(CHANNELS))));
    }
    let turns = plan.rows / plan.in_turn;
    // Rows that what follows reads as well.
    let kept = if plan.blocks * turns > 1 { s.reach.saturating_sub(s.step) } else { 0 };
    let again = (kept > 0 && plan.blocks > 1).then(|| last_rows(s, rows, &dims, kept, s.step * plan.rows));
    e.repeat(PART, plan.parts, None, |e| {
        e.repeat(CHANNELS, channels.as_ref().map_or(1, |c| c.n), None, |e| {
            e.repeat(BLOCK, 1, None, |e| e.repeat(TURN, 1, None, |e| emit_rows(e, s, &first, plan, rows, 0..kept)))?;
            e.repeat(BLOCK, plan.blocks, None, |e| {
                e.repeat(TURN, turns, None, |e| {
                    emit_rows(e, s, &first, plan, rows, kept..s.span(plan.in_turn))?;
                    schedule_stage(e, &second)
                })?;
                again.as_ref().map_or(Ok(()), |again| schedule_stage(e, again))
            })
        })
    })?;
    Ok(true)
}

/// The first stage, which is of one row, for some of the rows of a block.
fn emit_rows(
    e: &mut Emitter,
    s: &Sliding<'_>,
    first: &Stage,
    plan: Plan,
    rows: TensorId,
    range: Range<usize>,
) -> Result<(), ScheduleError> {
    let extent = s.first.axes[s.rows] as i64;
    // A row of the tensor, and where it is among those of the block.
    let place = Affine::var(Var::Loop(ROW)).plus(&turn(s.step, plan)).offset(range.start as i64);
    let row = first_result(plan).times(s.step as i64).plus(&place).offset(s.start);
    let write = (0..first.axes.len()).map(|k| if k == s.rows { place.clone() } else { Affine::axis(k) }).collect();
    let one = Stage { out: rows, write, body: first.body.map(|x| substituted(x, s.rows, &row)), ..first.clone() };
    let Node::Load { pad, .. } = s.read.node() else { unreachable!("a read") };
    let blank = Expr::new(Node::Const(pad_of(pad.as_ref())), e.program().tensor(s.first.out).dtype);
    let outside = Stage { reduce: vec![], body: Body::Map(blank), ..one.clone() };
    let (low, high) = (s.start, s.start + s.span(s.second.axes[s.axis]) as i64);
    let padded = padded_reads(s.first);
    let cuts = borders::cuts(e, s.first, &padded.iter().collect::<Vec<_>>(), s.rows);
    e.repeat(ROW, range.len(), None, |e| {
        if low >= 0 && high <= extent && cuts.len() == 2 {
            return schedule_stage(e, &one);
        }
        let at: nest::Affine = e.affine(&row, &Point { axes: vec![], vector: None });
        emit_in_parts(e, &at, &cuts, &one, &outside)
    })
}

/// A stage for one row, which is at `at`, in a branch for each part of the rows in which the same steps of the reduction read elements;
/// another one for rows outside of all parts.
fn emit_in_parts(e: &mut Emitter, at: &nest::Affine, cuts: &[i64], one: &Stage, outside: &Stage) -> Result<(), ScheduleError> {
    let [low, high, ..] = cuts[..] else { return schedule_stage(e, outside) };
    e.branch((at.clone(), low, high), |e| schedule_stage(e, one), |e| emit_in_parts(e, at, &cuts[1..], one, outside))
}

/// The reads of a stage's reduction that have padding.
fn padded_reads(stage: &Stage) -> Vec<Expr> {
    let Body::Reduce { value, .. } = &stage.body else { return vec![] };
    prepare::padded_reads(value)
}

/// The first row of the result in a block.
fn first_result(plan: Plan) -> Affine {
    let part = Affine::var(Var::Loop(PART)).times((plan.blocks * plan.rows) as i64);
    part.plus(&Affine::var(Var::Loop(BLOCK)).times(plan.rows as i64))
}

/// How far a turn is behind the first of its block, in rows of which each result takes so many.
fn turn(step: usize, plan: Plan) -> Affine {
    Affine::var(Var::Loop(TURN)).times((step * plan.in_turn) as i64)
}

/// A copy of the last rows of a block, which follow so many, to where the next block has them.
fn last_rows(s: &Sliding<'_>, rows: TensorId, dims: &[usize], kept: usize, from: usize) -> Stage {
    let at: Vec<Affine> = (0..dims.len()).map(Affine::axis).collect();
    let index = at.iter().enumerate().map(|(k, a)| Ix::Affine(if k == s.rows { a.offset(from as i64) } else { a.clone() })).collect();
    let value = Expr::new(Node::Load { tensor: rows, index, pad: None }, s.read.dtype());
    let mut axes = dims.to_vec();
    axes[s.rows] = kept;
    Stage { out: rows, write: at, axes, reduce: vec![], bounds: vec![], body: Body::Map(value) }
}

fn pad_of(pad: Option<&Expr>) -> crate::expr::Const {
    match pad.map(Expr::node) {
        Some(Node::Const(c)) => *c,
        _ => crate::expr::Const::Float(0.0),
    }
}

/// An expression with another form for an axis.
fn substituted(x: &Expr, axis: usize, by: &Affine) -> Expr {
    let axis = Var::Axis(axis as u32);
    x.map_affine(&mut |a| a.substitute(|v| if v == axis { by.clone() } else { Affine::var(v) }))
}

/// The second stage for one turn.
fn of_block(s: &Sliding<'_>, rows: TensorId, plan: Plan, channels: Option<&Channels>) -> Stage {
    let moved = Affine::axis(s.axis).plus(&first_result(plan)).plus(&turn(1, plan));
    let channel = channels.map(|c| c.place(c.second, Var::Loop(CHANNELS)));
    let place = |a: &Affine| {
        a.substitute(|v| match (v, channels, &channel) {
            (Var::Axis(i), ..) if i as usize == s.axis => moved.clone(),
            (Var::Axis(i), Some(c), Some(channel)) if i as usize == c.second => channel.clone(),
            _ => Affine::var(v),
        })
    };
    let at = |e: &Expr| {
        e.map_affine(&mut |a| place(a)).rewrite(&mut |x| match (x.node(), s.read.node()) {
            (Node::Load { tensor, pad, .. }, Node::Load { index, .. }) if *tensor == s.first.out => {
                let mut index = index.clone();
                if let Ix::Affine(a) = &index[s.rows] {
                    index[s.rows] = Ix::Affine(a.plus(&turn(s.step, plan)).offset(-s.start));
                }
                Expr::new(Node::Load { tensor: rows, index, pad: pad.clone() }, x.dtype())
            }
            _ => x,
        })
    };
    let mut axes = s.second.axes.clone();
    axes[s.axis] = plan.in_turn;
    if let Some(c) = channels {
        axes[c.second] = c.block;
    }
    Stage { write: s.second.write.iter().map(place).collect(), axes, body: s.second.body.map(at), ..s.second.clone() }
}

/// How the results are divided, and the channels if blocks are of some of them.
fn plan(e: &Emitter, s: &Sliding<'_>) -> Option<(Plan, Option<Channels>)> {
    let extent = s.first.axes[s.rows];
    let size = e.program().tensor(s.first.out).dtype.size_bytes();
    let (mut read, mut in_rows) = (0, false);
    let mut seen = vec![];
    for x in s.first.expressions() {
        x.visit(&mut |x| {
            let Node::Load { tensor, index, .. } = x.node() else { return };
            let moving = |axis: usize| axis != s.rows && s.first.axes[axis] >= LEAST_ROWS && index_depends(index, axis);
            if matches!(e.slots[tensor.0 as usize], Some(Slot::Memory { .. })) && !seen.contains(tensor) {
                seen.push(*tensor);
                in_rows |= (0..s.first.axes.len()).any(moving);
                read += n_elements(e.dims(*tensor)) * e.program().tensor(*tensor).dtype.size_bytes();
            }
        });
    }
    if !in_rows {
        return None;
    }
    let results = s.second.axes[s.axis];
    let bytes =
        Bytes { row: n_elements(&s.first.axes) / extent * size, read: read / extent, written: n_elements(&s.second.axes) / results * size };
    let divide = |channels: Option<&Channels>| divided(&e.machine, s, extent, results, bytes, channels.map_or(1, |c| c.n));
    let adjacent = |c: &Channels| s.second.stride_along(&e.strides_of(s.second.out), c.second) == 1;
    let channels = Channels::of(e, s).filter(adjacent);
    if let Some(plan) = channels.as_ref().and_then(|c| divide(Some(c))) {
        return Some((plan, channels));
    }
    divide(None).map(|plan| (plan, None))
}

/// Parts that take the least time on one thread, two, and so on, and the largest blocks that stay in the second-level cache. With so many
/// blocks of channels, rows are made in turns that stay in the first-level cache, and what a part reads again for each of them stays in the
/// second-level cache; threads share them if there is but one part. Without, the second-level cache holds rows of all channels, what they
/// are made of, and the results.
fn divided(machine: &Machine, s: &Sliding<'_>, extent: usize, results: usize, bytes: Bytes, n_channels: usize) -> Option<Plan> {
    let row = bytes.row / n_channels;
    let turn_fits = |rows: usize| n_channels == 1 || s.span(rows) * row <= machine.l1_bytes / 5 * 4;
    let block_fits = |rows: usize| {
        let span = s.span(rows);
        if n_channels > 1 {
            return span * row <= machine.l2_bytes / 8;
        }
        span * row <= MAX_PRIVATE_BYTES && span * (row + bytes.read) + rows * bytes.written <= machine.l2_bytes / 4 * 3
    };
    let part_fits = |rows: usize| n_channels == 1 || s.span(rows) * bytes.read <= machine.l2_bytes / 4 * 3;
    let divides = |n: usize, by: usize| n.is_multiple_of(by);
    let largest = |of: usize, fits: &dyn Fn(usize) -> bool| (1..=of).rev().find(|&rows| divides(of, rows) && fits(rows));
    let threads: Vec<usize> = std::iter::successors(Some(1), |t| Some(2 * t)).take_while(|&t| t <= machine.threads.max(1)).collect();
    // One after the other, on each number of threads, with the copies of rows that are kept.
    let time = |plan: &Plan| -> f64 {
        let (shares, rows) = match plan.parts {
            1 => (n_channels, extent),
            parts => (parts, n_channels * s.span(results / parts)),
        };
        let copied = if plan.blocks > 1 { plan.parts * plan.blocks * s.reach.saturating_sub(s.step) } else { 0 };
        let in_turn: usize = threads.iter().map(|&t| shares.div_ceil(t) * rows).sum();
        in_turn as f64 * (1.0 + COPIED_ROW * copied as f64 / extent as f64)
    };
    let least: f64 = threads.iter().map(|&t| (extent * n_channels) as f64 / t as f64).sum();
    let most = if n_channels > 1 { MOST_IN_CHANNELS } else { MOST_TIME };
    (1..=results)
        .filter(|&parts| divides(results, parts) && part_fits(results / parts))
        .filter_map(|parts| {
            let rows = largest(results / parts, &block_fits)?;
            let asked = machine.choice.turn.filter(|&n| divides(rows, n));
            Some(Plan { parts, blocks: results / parts / rows, rows, in_turn: asked.or_else(|| largest(rows, &turn_fits))? })
        })
        .filter(|plan| plan.rows < results || plan.in_turn < plan.rows)
        .filter(|plan| time(plan) <= least * most)
        .min_by(|a, b| time(a).total_cmp(&time(b)))
}

#[cfg(test)]
mod tests {
    use crate::expr::{parse, sliding};
    use crate::nest::Stmt;
    use crate::schedule::{Machine, Memory, Source, Storage, schedule};
    use crate::tensor::{DType, Tensor, dense_strides, n_elements};

    /// What a program over an image of so many rows and columns, and channels, becomes on so many threads with such a second-level cache: its
    /// last outermost loop, and the schedule up to the tiles.
    fn blocks_of([h, w]: [usize; 2], second: &str, out: [usize; 2], l2_bytes: usize, (threads, channels): (usize, usize)) -> String {
        let text = format!(
            "program(%x: f32[{h},{w},8], %w: f32[8,{channels}], %d: f32[3,3,{channels}]) -> (%y) {{
  %t[i0,i1,i2] = reduce sum over r0 in 0..8: %x[i0,i1,r0] * %w[r0,i2] -> max(acc, 0) : f32[{h},{w},{channels}]
  %y[i0,i1,i2] = reduce sum over r0 in 0..3, r1 in 0..3: {second} * %d[r0,r1,i2] : f32[{},{},{channels}]
}}",
            out[0], out[1]
        );
        let program = parse(&text).unwrap_or_else(|e| panic!("{e}"));
        assert!(sliding(&program).is_some());
        let memory = |id: usize, dims: &[usize]| Memory {
            storage: Storage { id, name: format!("s{id}"), dtype: DType::F32, len: n_elements(dims) },
            offset: 0,
            strides: dense_strides(dims, &(0..dims.len()).collect::<Vec<_>>()),
        };
        let constant = |dims: &[usize]| Source::Constant(Tensor::from_slice(dims, &vec![0.5f32; n_elements(dims)]));
        let operands = vec![Source::Memory(memory(0, &[h, w, 8])), constant(&[8, channels]), constant(&[3, 3, channels])];
        let machine = Machine { l2_bytes, threads, ..Machine::wide(16, 32) };
        let mut scheduled = schedule("k", &program, operands, vec![memory(1, &[out[0], out[1], channels])], &machine).expect("a kernel");
        assert_eq!(crate::nest::verify(&scheduled.kernel), []);
        let serial = scheduled.kernel.clone();
        crate::nest::parallel::mark(&mut scheduled.kernel, 1, |_, b| b.access == crate::nest::Access::ReadWrite);
        assert_eq!(crate::nest::verify(&scheduled.kernel), []);
        assert!(threads == 1 || scheduled.kernel != serial, "parts are independent");
        if threads > 1 && serial.schedule.starts_with("blocks") {
            assert_eq!(crate::nest::pieces::pieces(&scheduled.kernel).len(), 1, "{}", scheduled.kernel);
        }
        let mut loops = scheduled.kernel.body.iter().filter_map(|s| if let Stmt::Loop(l) = s { Some(l) } else { None });
        let last = loops.next_back().expect("a loop");
        let schedule = serial.schedule.split(" contract").next().unwrap_or_default();
        format!("{}{}: {schedule}", if last.parallel { "par " } else { "" }, (last.end - last.start) / last.step)
    }

    #[test]
    fn blocks_stay_in_the_cache_and_divide_among_threads() {
        let padded = "(%t[i0+r0-1,i1+r1-1,i2] else 0)";
        let of = |l2: usize, threads: usize, channels: usize| blocks_of([48, 40], padded, [48, 40], l2 << 10, (threads, channels));
        let channels = "par 2: blocks(rows=16 in_turn=8 channels=16)";
        assert_eq!([of(512, 1, 32), of(512, 2, 32)], [channels; 2]);
        assert_eq!(of(512, 4, 32), "par 4: blocks(rows=12)", "two blocks of channels are few for four threads");
        assert!(!of(8, 1, 32).contains("blocks"), "what each block of channels reads again would come from further");
        // Channels that are no whole blocks.
        assert_eq!(of(512, 1, 24), "2: blocks(rows=24)");
        assert_eq!(of(200, 1, 24), "3: blocks(rows=16)");
        assert_eq!(of(512, 2, 24), "par 2: blocks(rows=24)");
        assert_eq!(of(512, 4, 24), "par 4: blocks(rows=12)");
        assert!(!of(16, 1, 24).contains("blocks"), "too many rows would be computed twice");
        let strided = "%t[2*i0+r0,2*i1+r1,i2]";
        assert_eq!(blocks_of([49, 41], strided, [24, 20], 512 << 10, (1, 32)), "par 2: blocks(rows=8 in_turn=4 channels=16)");
        assert!(!blocks_of([49, 9], strided, [24, 4], 512 << 10, (1, 32)).contains("blocks"), "few rows to a product");
    }
}

//! Element-wise stages and copies: loops in the physical order of the result, adjacent axes merged, the innermost in lanes,
//! and padded reads split into regions where they are wholly inside or wholly outside.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, Rest, expr_depends, fits_lanes, is_heavy, is_word, long_ok, stride_along, vector_ok};
use super::machine::Machine;
use super::reduce::loads;
use crate::expr::{Expr, Ix, Node, Stage, Var};
use crate::nest::Affine;
use crate::tensor::{DType, Size};

/// Operands that rows share for several rows to be written out together.
const MIN_SHARED: usize = 2;
/// Regions that padding may split a stage into.
const MAX_REGIONS: usize = 81;

/// One loop: an axis with a range, into which outer axes were merged.
#[derive(Clone, Debug)]
struct AxisLoop {
    axis: usize,
    extent: i64,
    /// Starts of its regions, and the end.
    cuts: Vec<i64>,
    /// The extent in one run, where only that knows it.
    bound: Option<Size>,
}

/// How a stage is written out.
struct Plan {
    /// In the physical order of the result, outermost first, but for the loop that goes inside the one in lanes.
    loops: Vec<AxisLoop>,
    /// What is in vectors, if anything is.
    vectors: Option<Vectors>,
    /// The loop around that one, if some of its iterations are written out in it, which share what they read.
    rows: Option<Rows>,
}

/// Iterations of a loop that are written out inside the next one.
#[derive(Clone, Copy)]
struct Rows {
    axis: usize,
    n: i64,
}

pub(super) fn emit(e: &mut Emitter, stage: &Stage, value: &Expr) -> Result<(), ScheduleError> {
    let Plan { loops, vectors, rows } = plan(e, stage, value);
    let template = if is_computed(value) { "map" } else { "move" };
    e.note(vectors.map_or_else(|| format!("{template}()"), |v| format!("{template}(lanes={}{})", v.lanes, v.asked(&e.machine))));
    if let Some(v) = vectors {
        e.forms.offer_vectors(v.unroll as usize, v.lanes);
    }
    let point = Point { axes: vec![Affine::default(); stage.axes.len()], vector: None };
    nest_loops(e, stage, value, &loops, &[point], (vectors, rows))
}

fn plan(e: &mut Emitter, stage: &Stage, value: &Expr) -> Plan {
    let (_, _, strides) = e.memory_of(stage.out);
    let out_stride = |axis: usize| stage.stride_along(&strides, axis);
    let mut axes: Vec<usize> = (0..stage.axes.len()).filter(|&a| stage.axes[a] > 1).collect();
    axes.sort_by_key(|&a| -out_stride(a));
    let mut loops: Vec<AxisLoop> = axes
        .iter()
        .map(|&axis| AxisLoop {
            axis,
            extent: stage.axes[axis] as i64,
            cuts: cuts(e, stage, value, axis),
            bound: stage.bound(axis).cloned(),
        })
        .collect();
    if loops.iter().map(|l| l.cuts.len() - 1).product::<usize>() > MAX_REGIONS {
        for l in &mut loops {
            l.cuts = vec![0, l.extent];
        }
    }
    merge(e, stage, value, &mut loops, &out_stride);
    let in_turn = in_turn(e, value, &loops, &out_stride);
    let along = loops.len().checked_sub(if in_turn { 2 } else { 1 }).map(|i| &loops[i]);
    let most = e.machine.choice.lanes.map_or(e.machine.lanes, |n| n.min(e.machine.lanes));
    let lanes = lanes_for(most, along.map_or(0, |l| l.extent));
    let vector = along.map(|l| l.axis).filter(|&axis| {
        if in_turn {
            return true;
        }
        let extent = loops[loops.len() - 1].extent;
        let adjacent = out_stride(axis) == 1 || reads_adjacent(e, value, axis);
        // The emitter for Arm moves conditions one by one.
        let condition = value.dtype() == DType::Bool && !e.machine.by_element;
        let fits = (fits_lanes(value.dtype()) || condition) && vector_ok(value, axis);
        // Machines of short vectors gain nothing where they hold half as many.
        let long = e.machine.lanes > 4 && value.dtype() == DType::I64 && is_computed(value) && long_ok(value, axis);
        let long = long && out_stride(axis) == 1 && reads_whole(e, value, axis);
        extent >= i64::from(lanes) && adjacent && (fits || long)
    });
    let transposes = vector.filter(|_| !in_turn).and_then(|axis| adjacent_loop(e, value, &loops, axis));
    // Tiles beside each other fill a line of the cache. On Arm, displacements do not reach rows and columns of as many.
    let fills_lines = e.machine.transposes() && !e.machine.by_element && is_word(value.dtype()) && !is_heavy(value);
    let unroll = e.machine.choice.unroll.unwrap_or(match transposes {
        Some(_) if fills_lines => (e.machine.line_bytes / 4 / lanes as usize).max(1),
        None if !in_turn => e.machine.vectors_at_once(),
        _ => 1,
    });
    if let Some(adjacent) = transposes {
        let adjacent = loops.remove(adjacent);
        loops.push(adjacent);
    }
    let inner = (transposes.is_some() || in_turn).then(|| loops[loops.len() - 1].axis);
    let (transposed, in_turn) = (inner.filter(|_| !in_turn), inner.filter(|_| in_turn));
    let mut vectors = vector.map(|axis| Vectors { axis, lanes, unroll: unroll as i64, transposed, in_turn });
    let rows = vectors.as_ref().filter(|v| v.transposed.or(v.in_turn).is_none()).and_then(|v| rows_at_once(value, &loops, *v));
    if let (Some(v), Some(rows)) = (&mut vectors, rows) {
        v.unroll = (v.unroll / rows.n).max(1);
    }
    Plan { loops, vectors, rows }
}

/// As many rows as vectors are written out, instead of those vectors: where several operands are the same for all rows, loads of them would
/// take longer than the stores.
fn rows_at_once(value: &Expr, loops: &[AxisLoop], v: Vectors) -> Option<Rows> {
    let [.., outer, inner] = loops else { return None };
    let n_shared = loads(value).iter().filter(|l| expr_depends(l, inner.axis) && !expr_depends(l, outer.axis)).count();
    let fixed = [outer, inner].iter().all(|l| l.bound.is_none() && l.cuts.len() == 2);
    let n = v.unroll.min(outer.extent);
    (fixed && inner.axis == v.axis && n_shared >= MIN_SHARED && n > 1 && !is_heavy(value)).then_some(Rows { axis: outer.axis, n })
}

/// The loops whose results are vectors.
#[derive(Clone, Copy)]
struct Vectors {
    /// The axis in lanes.
    axis: usize,
    /// The most lanes.
    lanes: u32,
    /// Vectors in one iteration of its loop.
    unroll: i64,
    /// The axis inside along which reads are adjacent.
    transposed: Option<usize>,
    /// The axis inside whose elements are adjacent in the result, fewer than lanes: vectors of all its places go to memory in turn.
    in_turn: Option<usize>,
}

impl Vectors {
    /// What of it was asked for, as text.
    fn asked(&self, machine: &Machine) -> String {
        machine.choice.unroll.map_or(String::new(), |_| format!(" unroll={}", self.unroll))
    }
}

/// Whether the innermost axis of the result is short, and elements along the next one are in its turns: both together are adjacent.
fn in_turn(e: &Emitter, value: &Expr, loops: &[AxisLoop], out_stride: &impl Fn(usize) -> i64) -> bool {
    let [.., outer, inner] = loops else { return false };
    e.machine.shuffles()
        && matches!(inner.extent, 2 | 4)
        && [outer, inner].iter().all(|l| l.bound.is_none() && l.cuts.len() == 2)
        && (out_stride(inner.axis), out_stride(outer.axis)) == (1, inner.extent)
        && outer.extent >= 4
        && is_word(value.dtype())
        && vector_ok(value, outer.axis)
        && reads_whole(e, value, outer.axis)
}

/// Whether more is done than moved.
fn is_computed(value: &Expr) -> bool {
    !matches!(value.node(), Node::Load { .. })
}

/// The loop along which a read is adjacent that strides along the axis in lanes: it goes inside, so that the lines that one vector is
/// gathered from serve the next ones. Where tiles are transposed in registers, which read whole lines, it may be long.
fn adjacent_loop(e: &Emitter, value: &Expr, loops: &[AxisLoop], lanes_axis: usize) -> Option<usize> {
    let mut found = None;
    value.visit(&mut |x| {
        let Node::Load { tensor, index, pad: None } = x.node() else { return };
        let strides = e.strides_of(*tensor);
        let stride = |axis: usize| -> i64 { stride_along(index, &strides, axis) };
        if stride(lanes_axis).abs() > 1 {
            let tiled = |l: &AxisLoop| e.machine.transposes() && is_word(x.dtype()) && l.extent >= i64::from(e.machine.lanes);
            let fits = |l: &AxisLoop| l.axis != lanes_axis && stride(l.axis) == 1 && (l.extent <= short_loop(&e.machine) || tiled(l));
            found = found.or(loops.iter().position(fits));
        }
    });
    found
}

/// The longest loop that goes inside the one in lanes: the lines that its places are written to stay in the second-level cache, of which
/// they take little, since places that are powers of two apart share sets.
fn short_loop(machine: &Machine) -> i64 {
    (machine.l2_bytes / 16 / machine.line_bytes.max(1)) as i64
}

/// The most lanes that so many elements fill, at least four.
fn lanes_for(most: u32, extent: i64) -> u32 {
    let mut lanes = most;
    while lanes > 4 && i64::from(lanes) > extent {
        lanes /= 2;
    }
    lanes
}

/// Whether some read has unit stride along the axis, so that lanes pay although the result is written in single elements.
fn reads_adjacent(e: &Emitter, value: &Expr, axis: usize) -> bool {
    let mut adjacent = false;
    value.visit(&mut |x| {
        if let Node::Load { tensor, index, .. } = x.node() {
            let s: i64 = stride_along(index, &e.strides_of(*tensor), axis);
            adjacent |= s == 1;
        }
    });
    adjacent && is_computed(value)
}

/// Whether every read that moves along the axis is of adjacent elements.
fn reads_whole(e: &Emitter, value: &Expr, axis: usize) -> bool {
    let mut whole = true;
    value.visit(&mut |x| {
        if let Node::Load { tensor, index, .. } = x.node() {
            whole &= matches!(stride_along(index, &e.strides_of(*tensor), axis), 0 | 1);
        }
    });
    whole
}

/// Where padded reads along an axis go from outside to inside and back.
fn cuts(e: &Emitter, stage: &Stage, value: &Expr, axis: usize) -> Vec<i64> {
    let extent = stage.axes[axis] as i64;
    let mut cuts = vec![0, extent];
    if stage.bound(axis).is_some() {
        return cuts;
    }
    value.visit(&mut |x| {
        let Node::Load { tensor, index, pad: Some(_) } = x.node() else { return };
        for (ix, &dim) in index.iter().zip(e.dims(*tensor)) {
            let Ix::Affine(a) = ix else { continue };
            let [(Var::Axis(i), c)] = a.terms[..] else { continue };
            if i as usize != axis {
                continue;
            }
            // Inside where 0 <= c * i + constant < dim.
            let (lo, hi) = (-a.constant, dim as i64 - 1 - a.constant);
            let (first, last) = if c > 0 {
                (lo.div_euclid(c) + i64::from(lo.rem_euclid(c) != 0), hi.div_euclid(c))
            } else {
                let c = -c;
                ((-hi).div_euclid(c) + i64::from((-hi).rem_euclid(c) != 0), (-lo).div_euclid(c))
            };
            cuts.push(first.clamp(0, extent));
            cuts.push((last + 1).clamp(0, extent));
        }
    });
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// Merges a loop into the one outside it where every address strides through both as through one.
fn merge(e: &Emitter, stage: &Stage, value: &Expr, loops: &mut Vec<AxisLoop>, out_stride: &impl Fn(usize) -> i64) {
    let mut accesses: Vec<Vec<i64>> = vec![(0..stage.axes.len()).map(out_stride).collect()];
    let mut pinned = vec![false; stage.axes.len()];
    value.visit(&mut |x| match x.node() {
        Node::Load { tensor, index, pad } => {
            let strides = e.strides_of(*tensor);
            accesses.push((0..stage.axes.len()).map(|axis| stride_along(index, &strides, axis)).collect());
            // Whether a padded read is inside is decided index by index, so the range of each axis must stay its own.
            if pad.is_some() {
                (0..stage.axes.len()).filter(|&a| super::emitter::index_depends(index, a)).for_each(|a| pinned[a] = true);
            }
            for ix in index {
                if let Ix::Checked(i) | Ix::Clamped(i) = ix {
                    (0..stage.axes.len()).filter(|&a| super::emitter::expr_depends(i, a)).for_each(|a| pinned[a] = true);
                }
            }
        }
        Node::Index(a) => a.terms.iter().for_each(|t| {
            if let Var::Axis(i) = t.0 {
                pinned[i as usize] = true;
            }
        }),
        _ => {}
    });
    let mut i = loops.len();
    while i >= 2 {
        i -= 1;
        let (outer, inner) = (&loops[i - 1], &loops[i]);
        let joined = !pinned[outer.axis]
            && !pinned[inner.axis]
            && outer.cuts.len() == 2
            && inner.cuts.len() == 2
            && inner.bound.is_none()
            && accesses.iter().all(|s| s[outer.axis] == s[inner.axis] * inner.extent);
        if joined {
            let extent = outer.extent * inner.extent;
            let bound = outer.bound.as_ref().map(|n| n.times(inner.extent));
            loops[i] = AxisLoop { axis: inner.axis, extent, cuts: vec![0, extent], bound };
            loops.remove(i - 1);
        }
    }
}

fn nest_loops(
    e: &mut Emitter,
    stage: &Stage,
    value: &Expr,
    loops: &[AxisLoop],
    points: &[Point],
    (vectors, rows): (Option<Vectors>, Option<Rows>),
) -> Result<(), ScheduleError> {
    let Some((l, within)) = loops.split_first() else {
        let element = |e: &mut Emitter, at: &Point| {
            let reg = e.value(value, at, None)?;
            e.store(stage, at, reg);
            Ok(())
        };
        return if is_heavy(value) { e.side_by_side(points, element) } else { points.iter().try_for_each(|at| element(e, at)) };
    };
    let inside = vectors.filter(|_| points[0].vector.is_some());
    if inside.is_some_and(|v| v.in_turn == Some(l.axis)) {
        return points.iter().try_for_each(|at| store_in_turn(e, stage, value, l, at));
    }
    let inner: Vec<usize> = loops.iter().map(|l| l.axis).collect();
    let name = format!("i{}", l.axis);
    for cut in l.cuts.windows(2) {
        let mut rest = match &l.bound {
            Some(n) => Rest::new(l.extent, Some(n)),
            None => Rest::of(cut[0]..cut[1]),
        };
        if inside.is_some_and(|v| v.transposed == Some(l.axis)) {
            transposed_loop(e, stage, value, (l.axis, &name, &mut rest), points)?;
            continue;
        }
        if let Some(rows) = rows.filter(|rows| rows.axis == l.axis) {
            for step in [rows.n, 1] {
                e.run_loop(&name, &rest.take(step), |e, v| {
                    let moved = points.iter().flat_map(|point| (0..step).map(|u| point.moved(l.axis, v.offset(u))));
                    nest_loops(e, stage, value, within, &moved.collect::<Vec<_>>(), (vectors, None))
                })?;
            }
            continue;
        }
        let here = vectors.filter(|v| v.axis == l.axis);
        let mut lanes = here.map_or(0, |v| 2 * i64::from(lanes_for(v.lanes, cut[1] - cut[0])));
        while let Some(Vectors { unroll, .. }) = here.filter(|_| lanes > 4) {
            lanes /= 2;
            let vector = Some(Lanes { axis: l.axis, lanes: lanes as u32, valid: lanes as u32 });
            let rows: Vec<Point> = points.iter().map(|point| Point { vector, ..point.clone() }).collect();
            if rest.most() >= lanes {
                rows.iter().try_for_each(|at| e.hoist(value, at, &inner))?;
            }
            let mut steps = vec![lanes * unroll, lanes];
            steps.dedup();
            for step in steps {
                e.run_loop(&name, &rest.take(step), |e, v| {
                    let moved = rows.iter().flat_map(|at| (0..step / lanes).map(|u| at.moved(l.axis, v.offset(u * lanes))));
                    nest_loops(e, stage, value, within, &moved.collect::<Vec<_>>(), (vectors, None))
                })?;
            }
        }
        e.run_loop(&name, &rest.take(1), |e, v| {
            let moved: Vec<Point> = points.iter().map(|point| point.moved(l.axis, v.clone())).collect();
            nest_loops(e, stage, value, within, &moved, (vectors.filter(|_| here.is_none()), rows))
        })?;
    }
    Ok(())
}

/// The loop along which reads are adjacent that stride along the lanes: tiles, a line of the cache where several points fill one, and
/// vectors of single places.
fn transposed_loop(
    e: &mut Emitter,
    stage: &Stage,
    value: &Expr,
    (axis, name, rest): (usize, &str, &mut Rest),
    points: &[Point],
) -> Result<(), ScheduleError> {
    let lanes = i64::from(points[0].vector.expect("a vector").lanes);
    let mut steps = if e.machine.transposes() { vec![lanes * points.len() as i64, lanes] } else { vec![] };
    steps.dedup();
    for step in steps {
        e.run_loop(name, &rest.take(step), |e, place| {
            let mut tiles = points.iter().flat_map(|point| (0..step / lanes).map(move |i| (point, i * lanes)));
            // What each place has of its own, such as a bias, is read again for every tile: registers are for the tile.
            tiles.try_for_each(|(point, i)| e.forgetting(|e| transposed_tile(e, stage, value, (axis, place.offset(i)), point)))
        })?;
    }
    e.run_loop(name, &rest.take(1), |e, place| {
        let points: Vec<Point> = points.iter().map(|point| point.moved(axis, place.clone())).collect();
        nest_loops(e, stage, value, &[], &points, (None, None))
    })
}

/// As many places from one along an axis as there are lanes, reads that stride along the lanes transposed for all.
fn transposed_tile(
    e: &mut Emitter,
    stage: &Stage,
    value: &Expr,
    (axis, place): (usize, Affine),
    point: &Point,
) -> Result<(), ScheduleError> {
    let lanes = point.vector.expect("a vector");
    let at = |offset: u32| point.moved(axis, place.offset(offset.into()));
    let mut loads = vec![];
    value.visit(&mut |x| {
        if is_word(x.dtype()) && e.is_transposed(x, lanes.axis, axis) {
            loads.push(x.clone());
        }
    });
    for load in loads {
        e.transpose(&load, &at(0));
    }
    let points: Vec<Point> = (0..lanes.lanes).map(at).collect();
    nest_loops(e, stage, value, &[], &points, (None, None))
}

/// The vectors of all places along the innermost axis, which go to memory in turn.
fn store_in_turn(e: &mut Emitter, stage: &Stage, value: &Expr, inner: &AxisLoop, point: &Point) -> Result<(), ScheduleError> {
    let lanes = point.vector.expect("a vector").lanes;
    let mut vectors = vec![];
    let mut at = point.clone();
    for place in 0..inner.extent {
        at.axes[inner.axis] = Affine::constant(place);
        let reg = e.value(value, &at, None)?;
        vectors.push(e.splat(reg, lanes));
    }
    at.axes[inner.axis] = Affine::constant(0);
    let (buffer, first) = e.place_of(stage, &at);
    for (i, vector) in (0..).zip(e.interleave(&vectors)) {
        e.b.store(buffer, first.offset(i * i64::from(lanes)), vector);
    }
    Ok(())
}

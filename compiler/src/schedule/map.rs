//! Element-wise stages and copies: loops in the physical order of the result, adjacent axes merged, the innermost in lanes,
//! and padded reads split into regions where they are wholly inside or wholly outside.

use super::ScheduleError;
use super::emitter::{Emitter, Lanes, Point, Rest, fits_lanes, is_heavy, long_ok, stride_along, vector_ok};
use crate::expr::{Expr, Ix, Node, Stage, Var};
use crate::nest::Affine;
use crate::tensor::{DType, Size};

/// Vectors in one iteration of the innermost loop.
const UNROLL: i64 = 4;
/// The longest loop that goes inside the one in lanes: what is written stays in the second-level cache.
const SHORT_LOOP: i64 = 256;
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

pub(super) fn emit(e: &mut Emitter, stage: &Stage, value: &Expr) -> Result<(), ScheduleError> {
    let (_, _, strides) = e.memory_of(stage.out);
    let out_stride =
        |axis: usize| -> i64 { stage.write.iter().zip(&strides).map(|(a, s)| a.coefficient(Var::Axis(axis as u32)) * s).sum() };
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
    let innermost = loops.last().map(|l| l.axis);
    let lanes = lanes_for(e, loops.last().map_or(0, |l| l.extent));
    let vector = innermost.filter(|&axis| {
        let extent = loops[loops.len() - 1].extent;
        let adjacent = out_stride(axis) == 1 || reads_adjacent(e, value, axis);
        let fits = fits_lanes(value.dtype()) && vector_ok(value, axis);
        // Machines of short vectors gain nothing where they hold half as many.
        let long = e.machine.lanes > 4 && value.dtype() == DType::I64 && is_computed(value) && long_ok(value, axis);
        let long = long && out_stride(axis) == 1 && reads_whole(e, value, axis);
        extent >= i64::from(lanes) && adjacent && (fits || long)
    });
    let transposes = vector.and_then(|axis| adjacent_loop(e, value, &loops, axis));
    let unroll = if transposes.is_some() { 1 } else { UNROLL };
    if let Some(adjacent) = transposes {
        let adjacent = loops.remove(adjacent);
        loops.push(adjacent);
    }
    let template = if is_computed(value) { "map" } else { "move" };
    e.note(if vector.is_some() { format!("{template}(lanes={lanes})") } else { format!("{template}()") });
    let point = Point { axes: vec![Affine::default(); stage.axes.len()], vector: None };
    nest_loops(e, stage, value, &loops, &[point], vector.map(|axis| (axis, unroll)))
}

/// Whether more is done than moved.
fn is_computed(value: &Expr) -> bool {
    !matches!(value.node(), Node::Load { .. })
}

/// The short loop along which a read is adjacent that strides along the axis in lanes: it goes inside, so that the lines that
/// one vector is gathered from serve the next ones.
fn adjacent_loop(e: &Emitter, value: &Expr, loops: &[AxisLoop], lanes_axis: usize) -> Option<usize> {
    let mut found = None;
    value.visit(&mut |x| {
        let Node::Load { tensor, index, pad: None } = x.node() else { return };
        let strides = e.strides_of(*tensor);
        let stride = |axis: usize| -> i64 { stride_along(index, &strides, axis) };
        if stride(lanes_axis).abs() > 1 {
            found = found.or(loops.iter().position(|l| l.axis != lanes_axis && stride(l.axis) == 1 && l.extent <= SHORT_LOOP));
        }
    });
    found
}

/// The most lanes that so many elements fill, at least four.
fn lanes_for(e: &Emitter, extent: i64) -> u32 {
    let mut lanes = e.machine.lanes;
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
    vector: Option<(usize, i64)>,
) -> Result<(), ScheduleError> {
    let Some((l, within)) = loops.split_first() else {
        let element = |e: &mut Emitter, at: &Point| {
            let reg = e.value(value, at, None)?;
            e.store(stage, at, reg);
            Ok(())
        };
        return if is_heavy(value) { e.side_by_side(points, element) } else { points.iter().try_for_each(|at| element(e, at)) };
    };
    let [point] = points else { unreachable!("only the axis in lanes makes several points, and it is one axis") };
    let inner: Vec<usize> = loops.iter().map(|l| l.axis).collect();
    let name = format!("i{}", l.axis);
    for cut in l.cuts.windows(2) {
        let mut rest = match &l.bound {
            Some(n) => Rest::new(l.extent, Some(n)),
            None => Rest::of(cut[0]..cut[1]),
        };
        let unroll = vector.filter(|v| v.0 == l.axis).map(|v| v.1);
        let mut lanes = 2 * i64::from(lanes_for(e, cut[1] - cut[0]));
        while let Some(unroll) = unroll.filter(|_| lanes > 4) {
            lanes /= 2;
            let at = Point { vector: Some(Lanes { axis: l.axis, lanes: lanes as u32, valid: lanes as u32 }), ..point.clone() };
            if rest.most() >= lanes {
                e.hoist(value, &at, &inner)?;
            }
            let mut steps = vec![lanes * unroll, lanes];
            steps.dedup();
            for step in steps {
                e.run_loop(&name, &rest.take(step), |e, v| {
                    let moved = (0..step / lanes).map(|u| {
                        let mut at = at.clone();
                        at.axes[l.axis] = v.offset(u * lanes);
                        at
                    });
                    nest_loops(e, stage, value, within, &moved.collect::<Vec<_>>(), None)
                })?;
            }
        }
        e.run_loop(&name, &rest.take(1), |e, v| {
            let mut at = point.clone();
            at.axes[l.axis] = v;
            nest_loops(e, stage, value, within, &[at], vector.filter(|_| unroll.is_none()))
        })?;
    }
    Ok(())
}

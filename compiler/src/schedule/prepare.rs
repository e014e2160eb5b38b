//! Copies that make a stage's reads plain: padding written out, and operands transposed so that lanes are adjacent.

use super::emitter::{Emitter, Slot, coefficient};
use super::pack::{offsets, packable};
use super::reduce::loads;
use super::{ScheduleError, borders};
use crate::expr::{Affine, Body, Expr, Item, Ix, Node, Stage, TensorId, Var, simplified};
use crate::tensor::{DType, Size, Tensor};

/// The stage with the padded reads of its reduction replaced by plain reads of a padded copy, but for those that loops are split around.
pub(super) fn prepare(e: &mut Emitter, stage: &Stage) -> Result<Stage, ScheduleError> {
    e.forget();
    let mut replaced = vec![];
    for load in copied_reads(e, stage) {
        if let Some(plain) = padded_copy(e, stage, &load)? {
            replaced.push((load, plain));
        }
    }
    if replaced.is_empty() {
        return Ok(stage.clone());
    }
    e.forget();
    let swap = |x: &Expr| x.rewrite(&mut |x| replaced.iter().find(|(from, _)| *from == x).map_or(x, |(_, to)| to.clone()));
    let body = match &stage.body {
        Body::Reduce { op, value, finish } => Body::Reduce { op: *op, value: swap(value), finish: finish.clone() },
        Body::Arg { op, value, last } => Body::Arg { op: *op, value: swap(value), last: *last },
        Body::Map(_) | Body::Scatter { .. } => unreachable!("returned above"),
    };
    Ok(Stage { body, ..stage.clone() })
}

/// Whether an expression is a constant, or one place of memory.
fn is_one_value(e: &Expr) -> bool {
    match e.node() {
        Node::Const(_) => true,
        Node::Load { index, pad: None, .. } => index.iter().all(|ix| matches!(ix, Ix::Affine(a) if a.terms.is_empty())),
        _ => false,
    }
}

/// A copy with its padding of a tensor that the kernel only reads, for several stages.
pub(super) struct SharedCopy {
    tensor: TensorId,
    pad: Expr,
    reach: Vec<(i64, i64)>,
    copy: TensorId,
}

/// A padded read at places that axes decide: where it goes along each axis of the tensor, and whether it is all inside in every run.
struct PaddedRead<'l> {
    tensor: TensorId,
    pad: &'l Expr,
    index: Vec<&'l Affine>,
    reach: Vec<(i64, i64)>,
    inside: Vec<bool>,
}

impl<'l> PaddedRead<'l> {
    fn of(e: &Emitter, stage: &Stage, load: &'l Expr) -> Option<Self> {
        let Node::Load { tensor, index, pad: Some(pad) } = load.node() else { return None };
        let affine = |ix: &'l Ix| match ix {
            Ix::Affine(a) if a.terms.iter().all(|t| matches!(t.0, Var::Axis(_))) => Some(a),
            _ => None,
        };
        let index: Vec<&Affine> = index.iter().map(affine).collect::<Option<_>>()?;
        if !is_one_value(pad) {
            return None;
        }
        let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
        let (mut reach, mut inside) = (vec![], vec![]);
        for (k, (a, &d)) in index.iter().zip(e.dims(*tensor)).enumerate() {
            let (lo, hi) = a.range(|v| match v {
                Var::Axis(i) => (0, extents[i as usize] as i64 - 1),
                Var::Loop(_) => unreachable!("only axes, checked above"),
            });
            let held = e.program().tensor(*tensor).bound(k).is_none_or(|n| a.is_axis_of(&stage.bounds, n));
            inside.push(lo >= 0 && hi < d as i64 && held);
            reach.push(if inside[k] { (0, d as i64 - 1) } else { (lo, hi) });
        }
        Some(PaddedRead { tensor: *tensor, pad, index, reach, inside })
    }

    fn is_inside(&self) -> bool {
        self.inside.iter().all(|&x| x)
    }

    /// Whether what follows may read the copy too: what is read and what is around it stays, is of one size, and is copied in every run.
    fn is_shared(&self, e: &Emitter, stage: &Stage) -> bool {
        let is_operand = |t: &TensorId| e.program().operands.contains(t);
        let of_operand = |l: &Expr| matches!(l.node(), Node::Load { tensor, .. } if is_operand(tensor));
        let is_fixed = |bounds: &[Option<Size>]| bounds.iter().all(Option::is_none);
        is_operand(&self.tensor)
            && loads(self.pad).iter().all(of_operand)
            && is_fixed(&e.program().tensor(self.tensor).bounds)
            && is_fixed(&stage.bounds)
            && e.is_outermost()
    }

    /// The same elements of a copy that begins at these places.
    fn plain(&self, tensor: TensorId, reach: &[(i64, i64)], dtype: DType) -> Expr {
        let index = self.index.iter().zip(reach).map(|(a, r)| Ix::Affine(a.offset(-r.0))).collect();
        Expr::new(Node::Load { tensor, index, pad: None }, dtype)
    }

    /// Where this and all other stages read that would copy the same, if one copy is no larger than theirs together.
    fn reach_of_all(&self, e: &Emitter) -> Vec<(i64, i64)> {
        let size = |reach: &[(i64, i64)]| reach.iter().map(|(lo, hi)| (hi - lo + 1) as usize).product::<usize>();
        let (mut all, mut apart) = (self.reach.clone(), 0);
        for item in &e.program().items {
            let Item::Stage(stage) = item else { continue };
            if stage.bounds.iter().any(Option::is_some) {
                continue;
            }
            for load in copied_reads(e, stage) {
                let Some(other) = PaddedRead::of(e, stage, &load).filter(|other| !other.is_inside()) else { continue };
                if other.tensor == self.tensor && other.pad == self.pad {
                    all.iter_mut().zip(&other.reach).for_each(|(a, r)| *a = (a.0.min(r.0), a.1.max(r.1)));
                    apart += size(&other.reach);
                }
            }
        }
        if size(&all) <= apart { all } else { self.reach.clone() }
    }
}

/// The padded reads of a stage's reduction but for those that loops are split around.
fn copied_reads(e: &Emitter, stage: &Stage) -> Vec<Expr> {
    match &stage.body {
        Body::Map(_) | Body::Scatter { .. } => vec![],
        Body::Reduce { op, value, .. } => padded_reads(value).into_iter().filter(|l| !borders::in_place(e, stage, *op, value, l)).collect(),
        Body::Arg { value, .. } => padded_reads(value),
    }
}

/// The reads with padding in a value, each once.
pub(super) fn padded_reads(value: &Expr) -> Vec<Expr> {
    loads(value).into_iter().filter(|l| matches!(l.node(), Node::Load { pad: Some(_), .. })).collect()
}

/// A plain read of a padded copy that stands for a padded read; `None` where the read is left as it is.
fn padded_copy(e: &mut Emitter, stage: &Stage, load: &Expr) -> Result<Option<Expr>, ScheduleError> {
    let Some(read) = PaddedRead::of(e, stage, load) else { return Ok(None) };
    let tensor = read.tensor;
    if read.is_inside() {
        return Ok(Some(read.plain(tensor, &read.reach, load.dtype())));
    }
    let dims = e.dims(tensor).to_vec();
    let is_shared = read.is_shared(e, stage);
    let reach = if is_shared { read.reach_of_all(e) } else { read.reach.clone() };
    if is_shared && let Some(made) = e.padded.iter().find(|c| c.tensor == tensor && c.pad == *read.pad && c.reach == reach) {
        return Ok(Some(read.plain(made.copy, &reach, load.dtype())));
    }
    let padded_dims: Vec<usize> = reach.iter().map(|(lo, hi)| (hi - lo + 1) as usize).collect();
    let name = format!("{}_padded", e.program().tensors[tensor.0 as usize].name);
    let order = physical_order(&e.strides_of(tensor), &dims);
    let copy = e.scratch(&name, load.dtype(), &padded_dims, &order);
    let at: Vec<Affine> = (0..dims.len()).map(|i| Affine::var(Var::Axis(i as u32))).collect();
    let from = at.iter().zip(&reach).map(|(a, r)| Ix::Affine(a.offset(r.0))).collect();
    let value = Expr::new(Node::Load { tensor, index: from, pad: Some(read.pad.clone()) }, load.dtype());
    let bounds: Vec<Option<Size>> = (0..dims.len())
        .map(|k| match e.program().tensor(tensor).bound(k) {
            Some(n) if read.inside[k] => Some(n.clone()),
            _ => read_bound(stage, read.index[k], reach[k].0, padded_dims[k]),
        })
        .collect();
    super::schedule_stage(e, &Stage { out: copy, write: at, axes: padded_dims, reduce: vec![], bounds, body: Body::Map(value) })?;
    if is_shared {
        e.padded.push(SharedCopy { tensor, pad: read.pad.clone(), reach: reach.clone(), copy });
    }
    Ok(Some(read.plain(copy, &reach, load.dtype())))
}

/// How far a padded copy from `first` on goes along an axis in one run: as far as the stage reads there; `extent` at most.
fn read_bound(stage: &Stage, index: &Affine, first: i64, extent: usize) -> Option<Size> {
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    let of = |v: Var| if let Var::Axis(i) = v { i as usize } else { usize::MAX };
    if index.terms.iter().all(|t| stage.bound(of(t.0)).is_none()) {
        return None;
    }
    let last = index.terms.iter().filter(|t| t.1 > 0).fold(Size::Constant(index.constant), |sum, &(v, c)| {
        let n = stage.bound(of(v)).cloned().unwrap_or(Size::Constant(extents[of(v)] as i64));
        sum.plus(&n.plus(&Size::Constant(-1)).times(c))
    });
    Some(last.plus(&Size::Constant(1 - first)).at_most(extent as i64).at_least(0))
}

/// A read of a copy of the whole tensor in another element type, in the same physical order, that stands for a read.
pub(super) fn converted_copy(e: &mut Emitter, load: &Expr, dtype: DType) -> Result<Expr, ScheduleError> {
    let Node::Load { tensor, .. } = load.node() else { return Err(ScheduleError("a copy of what is no read".to_owned())) };
    let order = physical_order(&e.strides_of(*tensor), e.dims(*tensor));
    let copy = copied(e, *tensor, dtype, &order)?;
    Ok(reading(load, copy, dtype))
}

/// A copy of the whole tensor in this element type, in this physical order.
pub(super) fn copied(e: &mut Emitter, tensor: TensorId, dtype: DType, order: &[usize]) -> Result<TensorId, ScheduleError> {
    let decl = e.program().tensor(tensor).clone();
    let dims = decl.dims;
    let copy = e.scratch(&format!("{}_{dtype}", decl.name), dtype, &dims, order);
    let write: Vec<Affine> = (0..dims.len()).map(|i| Affine::var(Var::Axis(i as u32))).collect();
    let from = Expr::new(Node::Load { tensor, index: write.iter().map(Ix::from).collect(), pad: None }, decl.dtype);
    let bounds: Vec<Option<Size>> = (0..dims.len()).map(|k| e.program().tensor(tensor).bound(k).cloned()).collect();
    e.bound_tensor(copy, bounds.clone());
    super::schedule_stage(e, &Stage { out: copy, write, axes: dims, reduce: vec![], bounds, body: Body::Map(from.cast(dtype)) })?;
    Ok(copy)
}

/// A read of another tensor, of this type, at the same place; of its padding the value in it.
pub(super) fn reading(load: &Expr, tensor: TensorId, dtype: DType) -> Expr {
    let Node::Load { index, pad, .. } = load.node() else { unreachable!("a read") };
    let pad = pad.as_ref().map(|p| simplified(&p.cast(dtype)));
    Expr::new(Node::Load { tensor, index: index.clone(), pad }, dtype)
}

/// A plain read of a copy in which `inner` is the innermost axis, standing for a read that strides along `inner`.
pub(super) fn transposed_copy(e: &mut Emitter, stage: &Stage, load: &Expr, inner: usize) -> Result<Option<Expr>, ScheduleError> {
    let Node::Load { tensor, index, pad: None } = load.node() else { return Ok(None) };
    if index.iter().any(|ix| !matches!(ix, Ix::Affine(_))) {
        return Ok(None);
    }
    let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
    let mut axes: Vec<usize> =
        (0..extents.len()).filter(|&a| a != inner && extents[a] > 1 && super::emitter::index_depends(index, a)).collect();
    axes.push(inner);
    let dims: Vec<usize> = axes.iter().map(|&a| extents[a]).collect();
    let name = format!("{}_transposed", e.program().tensors[tensor.0 as usize].name);
    let copy = e.scratch(&name, load.dtype(), &dims, &(0..dims.len()).collect::<Vec<_>>());
    let renumbered = load.map_affine(&mut |a| {
        a.substitute(|v| match v {
            Var::Axis(i) => axes.iter().position(|&x| x == i as usize).map_or_else(Affine::default, |p| Affine::var(Var::Axis(p as u32))),
            Var::Loop(_) => Affine::var(v),
        })
    });
    let write = (0..dims.len()).map(|i| Affine::var(Var::Axis(i as u32))).collect();
    let bounds = axes.iter().map(|&a| stage.bound(a).cloned()).collect();
    super::schedule_stage(e, &Stage { out: copy, write, axes: dims, reduce: vec![], bounds, body: Body::Map(renumbered) })?;
    let index = axes.iter().map(|&a| Ix::Affine(Affine::var(Var::Axis(a as u32)))).collect();
    Ok(Some(Expr::new(Node::Load { tensor: copy, index, pad: None }, load.dtype())))
}

/// A plain read of a constant in which what `axis` moves along is innermost, standing for a read of the constant as it is; `None` where
/// it is no such constant, or the axis moves along several of its axes, or by more than one element.
pub(super) fn transposed_constant(e: &mut Emitter, load: &Expr, axis: usize) -> Option<Expr> {
    let inner = transposable(e, load, axis)?;
    let Node::Load { tensor, index, .. } = load.node() else { return None };
    let value = e.packable_constant(*tensor)?.clone();
    let (dims, strides) = (e.dims(*tensor).to_vec(), e.strides_of(*tensor));
    let mut order: Vec<usize> = (0..dims.len()).filter(|&k| k != inner).collect();
    order.push(inner);
    let (size, bytes) = (value.dtype().size_bytes(), value.bytes());
    let along: Vec<(usize, usize)> = order.iter().map(|&k| (k, dims[k])).collect();
    let offsets = offsets(&along, &|k| strides[k]);
    let moved: Vec<u8> = offsets.iter().flat_map(|&o| &bytes[o as usize * size..][..size]).copied().collect();
    let moved = Tensor::from_bytes(value.dtype(), &along.iter().map(|a| a.1).collect::<Vec<_>>(), &moved);
    let name = format!("{}_transposed", e.program().tensors[tensor.0 as usize].name);
    let index = order.iter().map(|&k| index[k].clone()).collect();
    Some(Expr::new(Node::Load { tensor: e.constant_tensor(&name, moved), index, pad: None }, load.dtype()))
}

/// The axis of a constant that a stage's axis moves along, if [`transposed_constant`] takes it.
pub(super) fn transposable(e: &Emitter, load: &Expr, axis: usize) -> Option<usize> {
    let Node::Load { tensor, index, pad: None } = load.node() else { return None };
    if !packable(e, load, axis) {
        return None;
    }
    let moving: Vec<usize> = (0..index.len()).filter(|&k| coefficient(&index[k], axis) != 0 && e.dims(*tensor)[k] > 1).collect();
    match moving[..] {
        [k] if coefficient(&index[k], axis) == 1 => Some(k),
        _ => None,
    }
}

/// Axes by falling stride; unit axes first.
pub(super) fn physical_order(strides: &[i64], dims: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.sort_by_key(|&i| if dims[i] == 1 { i64::MIN } else { -strides[i] });
    order
}

/// Scratch for a copy of a tensor, of such extents, in its physical order but for one axis, which is innermost.
pub(super) fn scratch_of_copy(e: &mut Emitter, tensor: TensorId, dims: &[usize], inner: usize) -> TensorId {
    let mut order = physical_order(&e.strides_of(tensor), e.dims(tensor));
    order.retain(|&k| k != inner);
    order.push(inner);
    let decl = e.program().tensor(tensor);
    let (name, dtype) = (format!("{}_relaid", decl.name), decl.dtype);
    e.scratch(&name, dtype, dims, &order)
}

/// Scratch for sums of a stage, of such extents, in the order of its result but for one axis, which is innermost.
pub(super) fn scratch_of_results(e: &mut Emitter, stage: &Stage, axes: &[usize], inner: usize, what: &str) -> TensorId {
    let strides = e.strides_of(stage.out);
    let mut order: Vec<usize> = (0..axes.len()).filter(|&a| a != inner).collect();
    order.sort_by_key(|&a| std::cmp::Reverse(stage.stride_along(&strides, a)));
    order.push(inner);
    let name = format!("{}_{what}", e.program().tensor(stage.out).name);
    e.scratch(&name, DType::F32, axes, &order)
}

/// The physical order for a tensor of scratch that `stage` writes: that of what it reads, with axes that come only from
/// constants innermost.
pub(super) fn preferred_order(e: &Emitter, stage: &Stage) -> Option<Vec<usize>> {
    let dims = e.dims(stage.out);
    if stage.write.len() != stage.axes.len()
        || stage.write.iter().enumerate().any(|(i, a)| a.coefficient(Var::Axis(i as u32)) == 0 || a.terms.len() != 1)
    {
        return None;
    }
    let mut reach = vec![0i64; dims.len()];
    let mut see = |x: &Expr| {
        if let Node::Load { tensor, index, .. } = x.node()
            && matches!(e.slots[tensor.0 as usize], Some(Slot::Memory { .. }))
        {
            for (ix, stride) in index.iter().zip(e.strides_of(*tensor)) {
                for (axis, r) in reach.iter_mut().enumerate() {
                    *r = (*r).max(super::emitter::coefficient(ix, axis) * stride);
                }
            }
        }
    };
    match &stage.body {
        Body::Map(v) | Body::Arg { value: v, .. } | Body::Scatter { value: v, .. } => v.visit(&mut see),
        Body::Reduce { value, .. } => value.visit(&mut see),
    }
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.sort_by_key(|&i| if dims[i] == 1 { i64::MIN } else { -reach[i] });
    Some(order)
}

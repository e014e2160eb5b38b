//! What `ScatterElements` and `ScatterND` share: how updates combine, and both ways of turning a scatter into reads.
//!
//! A stage writes each element once, at a place known when compiled. So an element asks which updates reach it: by a
//! table made when compiling where the indices are constant, by a reduction over all updates that could where those are few, else
//! in the updates sorted by where they go.

use super::{index_table, wrap_index_expr};
use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::ops::sorting::{self, Most};
use crate::ops::{InferError, LowerError, Operands};
use crate::tensor::{DType, Tensor, row_major_strides};

/// More comparisons than this are refused when indices are not constant.
const MAX_STEPS: usize = 1 << 32;

/// More comparisons than this take longer than sorting the updates.
const MAX_SEARCH: usize = 1 << 15;

fn converted(b: &mut Builder, x: TensorId, dtype: DType) -> TensorId {
    let dims = b.dims(x).to_vec();
    b.compute(&dims, |b, at| b.load(x, at).cast(dtype))
}

/// Updates that go to places along one axis of what they change.
pub(super) struct Updates {
    /// The places, checked: `i64`, with the extents of the values, or 1 where all elements share them.
    pub(super) places: TensorId,
    /// The values; extents as those of `data`, or less, but for `axis`.
    pub(super) values: TensorId,
    /// The axis.
    pub(super) axis: usize,
}

/// Places that fill a box of what updates change: along each of its axes the first place, and how many there are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Block(Vec<(i64, usize)>);

impl Block {
    /// The box of updates of these extents, if `place` has for each update, counted in row-major order, and each axis of what is changed a
    /// place along it that is the same for all, or goes up by one along an axis of the updates; the axes in order, each once.
    pub(super) fn of(extents: &[usize], n_axes: usize, place: &dyn Fn(usize, usize) -> i64) -> Option<Block> {
        let strides = row_major_strides(extents);
        let mut next = 0;
        let mut block = vec![];
        for j in 0..n_axes {
            let first = place(0, j);
            let along = (next..extents.len()).find(|&k| extents[k] > 1 && place(strides[k], j) != first);
            let at = |i: usize| along.map_or(0, |k| (i / strides[k] % extents[k]) as i64);
            if !(0..extents.iter().product()).all(|i| place(i, j) == first + at(i)) {
                return None;
            }
            if let Some(k) = along {
                if extents[next..k].iter().any(|&n| n > 1) {
                    return None;
                }
                next = k + 1;
            }
            block.push((first, along.map_or(1, |k| extents[k])));
        }
        extents[next..].iter().all(|&n| n == 1).then_some(Block(block))
    }
}

/// How an update combines with what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    pub(super) fn parse(name: &str, dtype: DType) -> Result<Self, InferError> {
        match name {
            "none" => Ok(Reduction::None),
            // Of truth values the sum is whether any is true, and the product whether all are.
            "add" if dtype == DType::Bool => Ok(Reduction::Max),
            "mul" if dtype == DType::Bool => Ok(Reduction::Min),
            "add" => Ok(Reduction::Add),
            "mul" => Ok(Reduction::Mul),
            "max" => Ok(Reduction::Max),
            "min" => Ok(Reduction::Min),
            _ => Err(InferError::Invalid(format!("reduction `{name}`"))),
        }
    }

    fn float(self, a: f64, b: f64) -> f64 {
        match self {
            Reduction::None => b,
            Reduction::Add => a + b,
            Reduction::Mul => a * b,
            Reduction::Max if a.is_nan() || b.is_nan() => f64::NAN,
            Reduction::Min if a.is_nan() || b.is_nan() => f64::NAN,
            Reduction::Max => a.max(b),
            Reduction::Min => a.min(b),
        }
    }

    fn int(self, a: i128, b: i128) -> i128 {
        match self {
            Reduction::None => b,
            Reduction::Add => a + b,
            // Only the low 64 bits matter, and they do not depend on the bits above.
            Reduction::Mul => i128::from(a as i64).wrapping_mul(i128::from(b as i64)),
            Reduction::Max => a.max(b),
            Reduction::Min => a.min(b),
        }
    }

    fn expr(self, a: &Expr, b: &Expr) -> Expr {
        match self {
            Reduction::None => b.clone(),
            Reduction::Add => a + b,
            Reduction::Mul => a * b,
            Reduction::Max => a.max_nan(b),
            Reduction::Min => a.min_nan(b),
        }
    }

    /// A tensor as what updates combine in: truth values as bytes.
    pub(super) fn numbers(self, b: &mut Builder, x: TensorId) -> TensorId {
        if self == Reduction::None || b.dtype(x) != DType::Bool { x } else { converted(b, x, DType::U8) }
    }

    /// What [`Self::numbers`] gave, combined, as the elements that they were.
    pub(super) fn elements(b: &mut Builder, x: TensorId, dtype: DType) -> TensorId {
        if b.dtype(x) == dtype { x } else { converted(b, x, dtype) }
    }

    /// `data` with update `i` combined into element `targets[i]`, in order; both flat.
    pub(super) fn eval(self, data: &Tensor, updates: &Tensor, targets: impl Iterator<Item = usize>) -> Tensor {
        let (dtype, dims) = (data.dtype(), data.dims());
        if self == Reduction::None {
            let mut sources: Vec<Option<usize>> = vec![None; data.len()];
            for (i, target) in targets.enumerate() {
                sources[target] = Some(i);
            }
            let size = dtype.size_bytes();
            let mut bytes = data.bytes().to_vec();
            for (target, source) in sources.into_iter().enumerate().filter_map(|(t, s)| Some((t, s?))) {
                bytes[target * size..][..size].copy_from_slice(&updates.bytes()[source * size..][..size]);
            }
            Tensor::from_bytes(dtype, dims, &bytes)
        } else if dtype.is_float() {
            let (mut values, updates) = (data.to_f64s(), updates.to_f64s());
            for (i, target) in targets.enumerate() {
                values[target] = self.float(values[target], updates[i]);
            }
            Tensor::from_f64s(dtype, dims, &values)
        } else {
            let (mut values, updates) = (data.to_ints(), updates.to_ints());
            for (i, target) in targets.enumerate() {
                values[target] = self.int(values[target], updates[i]);
            }
            Tensor::from_ints(dtype, dims, &values)
        }
    }

    /// For each of `n` places the update that `targets` brings there, or -1; `None` if several must be combined.
    pub(super) fn inverse(self, n: usize, targets: impl Iterator<Item = usize>) -> Option<Vec<i64>> {
        let mut inverse = vec![-1; n];
        for (i, target) in targets.enumerate() {
            let before = std::mem::replace(&mut inverse[target], i as i64);
            if before >= 0 && self != Reduction::None {
                return None;
            }
        }
        Some(inverse)
    }

    /// `data`, of which the first axes (those of `table`) say which row of `updates` is combined with their rows.
    ///
    /// `updates` has one axis in place of those of the table.
    pub(super) fn lower_inverse(self, b: &mut Builder, data: TensorId, updates: TensorId, inverse: &[i64]) -> TensorId {
        let dims = b.dims(data).to_vec();
        let outer = dims.len() + 1 - b.dims(updates).len();
        let table = index_table(b, "source", &dims[..outer], inverse);
        b.compute(&dims, |b, at| {
            let source = b.load(table, &at[..outer]).cast(DType::I64);
            let row = [Ix::Clamped(source.clone())].into_iter().chain(at[outer..].iter().map(Ix::from));
            let (old, update) = (b.load(data, at), b.load(updates, row));
            source.compare(CompareOp::Ge, &Expr::int(DType::I64, 0)).select(&self.expr(&old, &update), &old)
        })
    }

    /// `data`, of which a block is combined with `updates`: as many elements as the block and the axes behind it have.
    pub(super) fn lower_block(self, b: &mut Builder, data: TensorId, updates: TensorId, Block(block): &Block) -> TensorId {
        let dims = b.dims(data).to_vec();
        let extents: Vec<usize> = block.iter().map(|a| a.1).chain(dims[block.len()..].iter().copied()).collect();
        let updates = b.reshape(updates, &extents);
        let dtype = b.dtype(data);
        b.compute(&dims, |b, at| {
            let int = |n: i64| Expr::int(DType::I64, n);
            let inside = block.iter().zip(at).map(|(&(first, n), a)| {
                let (a, end) = (Expr::index(a), first + n as i64);
                a.compare(CompareOp::Ge, &int(first)).binary(BinaryOp::And, &a.compare(CompareOp::Lt, &int(end)))
            });
            let from = at.iter().enumerate().map(|(k, a)| Ix::from(block.get(k).map_or_else(|| a.clone(), |b| a.offset(-b.0))));
            let (old, update) = (b.load(data, at), b.load_padded(updates, from, Expr::int(dtype, 0)));
            let inside = inside.reduce(|all, one| all.binary(BinaryOp::And, &one));
            inside.map_or_else(|| self.expr(&old, &update), |inside| inside.select(&self.expr(&old, &update), &old))
        })
    }

    /// `data` combined with the updates that `hit` says reach an element, among `steps` many for each.
    ///
    /// `hit` and `update` get the builder, the element and the number of the update.
    pub(super) fn lower_search(
        self,
        b: &mut Builder,
        data: TensorId,
        steps: usize,
        hit: impl Fn(&Builder, &[Affine], &Affine) -> Expr,
        update: impl Fn(&Builder, &[Affine], Ix) -> Expr,
    ) -> Result<TensorId, LowerError> {
        let dims = b.dims(data).to_vec();
        if dims.iter().product::<usize>().checked_mul(steps).is_none_or(|n| n > MAX_STEPS) {
            return Err(LowerError::Unsupported(format!(
                "{steps} updates whose indices are not constant, into a value of extents {dims:?}"
            )));
        }
        let op = match self {
            Reduction::None => {
                let none = Expr::int(DType::I64, -1);
                let last = b.reduce(
                    ReduceOp::Max,
                    &dims,
                    &[steps],
                    |b, at, over| hit(b, at, &over[0]).select(&Expr::index(&over[0]), &none),
                    |_, _, last| last,
                );
                return Ok(b.compute(&dims, |b, at| {
                    let last = b.load(last, at);
                    let new = update(b, at, Ix::Clamped(last.clone()));
                    last.compare(CompareOp::Ge, &Expr::int(DType::I64, 0)).select(&new, &b.load(data, at))
                }));
            }
            Reduction::Add => ReduceOp::Sum,
            Reduction::Mul => ReduceOp::Prod,
            Reduction::Max => ReduceOp::Max,
            Reduction::Min => ReduceOp::Min,
        };
        let dtype = b.dtype(data);
        let value = |b: &Builder, at: &[_], over: &[_]| {
            let neutral = match self {
                Reduction::Add => Expr::int(dtype, 0),
                Reduction::Mul => Expr::int(dtype, 1),
                _ => b.load(data, at),
            };
            hit(b, at, &over[0]).select(&update(b, at, Ix::from(&over[0])), &neutral)
        };
        Ok(b.reduce(op, &dims, &[steps], value, |b, at, all| self.expr(&b.load(data, at), &all)))
    }

    /// Whether updates are found sooner when they are sorted: `steps` for each of `n` elements. At all sizes at once there is no such
    /// choice.
    pub(super) fn sorts(b: &Builder, n: usize, steps: usize) -> bool {
        !b.any_size && n.saturating_mul(steps) > MAX_SEARCH && steps > 1
    }

    /// `data` combined with updates that are sorted by place, those of one place in their order: of each place the last one is what
    /// all of them make, from the first on.
    pub(super) fn lower_sorted(self, b: &mut Builder, data: TensorId, updates: &Updates) -> TensorId {
        let Updates { places, values, axis } = *updates;
        let (dims, shared, of) = (b.dims(data).to_vec(), b.dims(places).to_vec(), b.dims(values).to_vec());
        let m = shared[axis];
        let bits = Expr::int(DType::I64, i64::from(m.next_power_of_two().ilog2()));
        // Where the places of an element are, but for `axis`.
        let row = |at: &[Affine]| -> Vec<Affine> {
            let apart = |k: usize| k == axis || shared[k] != 1 || of[k] == 1;
            (0..at.len()).map(|k| if apart(k) { at[k].clone() } else { Affine::default() }).collect()
        };
        let along = |at: &[Affine], k: Ix| -> Vec<Ix> {
            let mut index: Vec<Ix> = at.iter().map(Ix::from).collect();
            index[axis] = k;
            index
        };
        let keys =
            b.compute(&shared, |b, at| b.load(places, at).binary(BinaryOp::Shl, &bits).binary(BinaryOp::Or, &Expr::index(&at[axis])));
        let sorted = sorting::least(b, &[keys], axis, m, Most { n: m, k: m })[0];
        let place_of = |b: &Builder, at: &[Affine], k: Ix| b.load(sorted, along(&row(at), k)).binary(BinaryOp::Shr, &bits);
        let update_of = |b: &Builder, at: &[Affine], k: Ix| {
            let source =
                b.load(sorted, along(&row(at), k)).binary(BinaryOp::And, &Expr::int(DType::I64, (m.next_power_of_two() - 1) as i64));
            b.load(values, along(at, Ix::Clamped(source)))
        };
        let made = (self != Reduction::None).then(|| self.lower_running(b, data, axis, &of, &place_of, &update_of));
        let mut counted = shared.clone();
        counted[axis] = dims[axis];
        let next =
            |place: &Affine| Expr::index(&place.offset(1)).binary(BinaryOp::Shl, &bits).binary(BinaryOp::Sub, &Expr::int(DType::I64, 1));
        let upto = sorting::count_up_to(b, sorted, axis, &counted, |at| at.to_vec(), |at| next(&at[axis]));
        // Elements that no update can reach, beside the extents of the updates.
        let within = (0..dims.len()).all(|k| k == axis || of[k] == dims[k]);
        let none = Expr::int(DType::I64, 0);
        b.compute(&dims, |b, at| {
            let upto = if within { b.load(upto, row(at)) } else { b.load_padded(upto, row(at), none.clone()) };
            let last = upto.binary(BinaryOp::Sub, &Expr::int(DType::I64, 1));
            let read = |t: TensorId, index: Vec<Ix>| match within {
                true => b.load(t, index),
                false => b.load_padded(t, index, Expr::int(b.dtype(t), 0)),
            };
            let key = read(sorted, along(&row(at), Ix::Clamped(last.clone())));
            let here = key.binary(BinaryOp::Shr, &bits).compare(CompareOp::Eq, &Expr::index(&at[axis]));
            let new = match made {
                Some(made) => read(made, along(at, Ix::Clamped(last.clone()))),
                None => {
                    let source = key.binary(BinaryOp::And, &Expr::int(DType::I64, (m.next_power_of_two() - 1) as i64));
                    read(values, along(at, Ix::Clamped(source)))
                }
            };
            let reached = upto.compare(CompareOp::Gt, &none).binary(BinaryOp::And, &here);
            reached.select(&new, &b.load(data, at))
        })
    }

    /// What the updates of each place make of its element up to each of them, sorted; extents are those of the updates.
    fn lower_running(
        self,
        b: &mut Builder,
        data: TensorId,
        axis: usize,
        dims: &[usize],
        place_of: &dyn Fn(&Builder, &[Affine], Ix) -> Expr,
        update_of: &dyn Fn(&Builder, &[Affine], Ix) -> Expr,
    ) -> TensorId {
        let made = b.declare(b.dtype(data), dims);
        let mut region = dims.to_vec();
        region[axis] = 1;
        let first = |b: &Builder, at: &[Affine], k: &Affine| {
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            from[axis] = Ix::Clamped(place_of(b, at, Ix::from(k)));
            b.load(data, from)
        };
        b.write(made, &region, |b, at| {
            let k = Affine::default();
            let value = self.expr(&first(b, at, &k), &update_of(b, at, Ix::from(&k)));
            (at.to_vec(), value)
        });
        if dims[axis] > 1 {
            b.repeat(dims[axis] - 1, |b, step| {
                b.write(made, &region, |b, at| {
                    let (before, here) = (step.clone(), step.offset(1));
                    let mut at_before = at.to_vec();
                    at_before[axis] = before.clone();
                    let same = place_of(b, at, Ix::from(&before)).compare(CompareOp::Eq, &place_of(b, at, Ix::from(&here)));
                    let old = same.select(&b.load(made, &at_before), &first(b, at, &here));
                    let mut to = at.to_vec();
                    to[axis] = here.clone();
                    (to, self.expr(&old, &update_of(b, at, Ix::from(&here))))
                });
            });
        }
        made
    }
}

/// `indices`, whose last axis (of `extents.len()`, or none for one extent) are places along axes of these extents, counted
/// from the front as `i64`; a program that finds one out of range stops.
pub(super) fn checked_indices(b: &mut Builder, indices: TensorId, extents: &[usize], tuples: bool) -> TensorId {
    let dims = b.dims(indices).to_vec();
    let tables: Vec<TensorId> = extents.iter().map(|&n| index_table(b, "place", &[n], &(0..n as i64).collect::<Vec<_>>())).collect();
    let out = b.declare(DType::I64, &dims);
    let region = if tuples { &dims[..dims.len() - 1] } else { &dims[..] };
    for (j, (&table, &extent)) in tables.iter().zip(extents).enumerate() {
        b.write(out, region, |b, at| {
            let mut place = at.to_vec();
            if tuples {
                place.push(Affine::constant(j as i64));
            }
            let index = wrap_index_expr(&b.load(indices, &place), extent);
            let value = b.load(table, [Ix::Checked(index)]).cast(DType::I64);
            (place, value)
        });
    }
    out
}

/// Whether one of the first axes, so many, of these tensors has another extent at other sizes.
pub(super) fn varies_for(b: &Builder, of: &[(TensorId, usize)]) -> bool {
    of.iter().any(|&(t, n)| (0..n).any(|axis| b.spread(t, axis).1))
}

/// The constant indices of operand 1.
pub(super) fn constant_indices(x: &Operands) -> Option<Vec<i64>> {
    x.ints(1).ok()
}

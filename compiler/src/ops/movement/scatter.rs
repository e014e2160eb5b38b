//! What `ScatterElements` and `ScatterND` share: how updates combine, and both ways to compute a scatter.
//!
//! By a table made when compiling where the indices are constant, which element by element asks for its update; else updates are written one
//! after the other.

use super::index_table;
use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, Meant, Place, TensorId};
use crate::ops::{InferError, Operands};
use crate::tensor::{DType, Tensor, row_major_strides};

fn converted(b: &mut Builder, x: TensorId, dtype: DType) -> TensorId {
    let dims = b.dims(x).to_vec();
    b.compute(&dims, |b, at| b.load(x, at).cast(dtype))
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

    /// What `f` makes of `data` and `updates`, both as what updates combine in: truth values are bytes there, if they are not replaced.
    pub(super) fn combined(
        self,
        b: &mut Builder,
        [data, updates]: [TensorId; 2],
        f: impl FnOnce(&mut Builder, TensorId, TensorId) -> TensorId,
    ) -> TensorId {
        let dtype = b.dtype(data);
        if self == Reduction::None || dtype != DType::Bool {
            return f(b, data, updates);
        }
        let [data, updates] = [data, updates].map(|x| converted(b, x, DType::U8));
        let out = f(b, data, updates);
        converted(b, out, dtype)
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
    pub(super) fn lower_block(self, b: &mut Builder, of: [TensorId; 2], block: &Block) -> TensorId {
        self.combined(b, of, |b, data, updates| self.in_block(b, data, updates, block))
    }

    fn in_block(self, b: &mut Builder, data: TensorId, updates: TensorId, Block(block): &Block) -> TensorId {
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

    /// `data` combined with the updates that `when` says are meant, in row-major order: `place` gives for each where in `data` it goes.
    pub(super) fn lower_updates(
        self,
        b: &mut Builder,
        of: [TensorId; 2],
        when: Option<&Meant<'_>>,
        place: impl FnOnce(&Builder, &[Affine]) -> Vec<Place>,
    ) -> TensorId {
        self.combined(b, of, |b, data, updates| {
            let (out, dims) = (b.copy(data), b.dims(updates).to_vec());
            b.scatter(out, &dims, when, |b, at, old| (place(b, at), self.expr(&old, &b.load(updates, at))));
            out
        })
    }
}

/// Whether one of the first axes, so many, of these tensors has another extent at other sizes.
pub(super) fn varies_for(b: &Builder, of: &[(TensorId, usize)]) -> bool {
    of.iter().any(|&(t, n)| (0..n).any(|axis| b.spread(t, axis).1))
}

/// The constant indices of operand 1.
pub(super) fn constant_indices(x: &Operands) -> Option<Vec<i64>> {
    x.ints(1).ok()
}

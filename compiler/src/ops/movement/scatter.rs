//! What `ScatterElements` and `ScatterND` share: how updates combine, and both ways of turning a scatter into reads.
//!
//! A stage writes each element once, at a place known when compiled. So an element asks which updates reach it: by a
//! table made when compiling where the indices are constant, or by a reduction over all updates that could.

use super::{index_table, wrap_index_expr};
use crate::expr::{Affine, Builder, CompareOp, Expr, Ix, ReduceOp, TensorId};
use crate::ops::{InferError, LowerError, Operands};
use crate::tensor::{DType, Tensor};

/// More comparisons than this are refused when indices are not constant.
const MAX_STEPS: usize = 1 << 32;

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
            _ if dtype == DType::Bool => Err(InferError::ElementType { operand: 0, dtype }),
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

/// The constant indices of operand 1.
pub(super) fn constant_indices(x: &Operands) -> Option<Vec<i64>> {
    x.ints(1).ok()
}

//! What the caller has is dense in the sizes of one run, what is stored is dense in the largest: kernels that move values between.

use super::dynamic::Sizer;
use crate::graph::{Graph, Value};
use crate::nest::{Access, Affine, BinaryOp, Builder, Index, Live, Op, Reg, Var, VecType};
use crate::schedule::{Arg, Forms, Scheduled};
use crate::tensor::{DType, Size};

/// Which way a value goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the caller's input of this number.
    In(usize),
    /// To the caller's output of this number.
    Out(usize),
}

/// A kernel that moves a value between the caller's memory and its storage, which has these strides, so many lanes of 32 bits at once.
pub(super) fn mover(
    graph: &Graph,
    sizer: &Sizer<'_>,
    v: Value,
    stored: (usize, usize, i64, &[i64]),
    direction: Direction,
    lanes: i64,
) -> Scheduled {
    let (storage, storage_len, offset, strides) = stored;
    let dims = graph.ty(v).dims().unwrap_or_default();
    let dtype = graph.ty(v).dtype.storage();
    let extents = sizer.extents(graph, v);
    let mut b = Builder::new("port", "move()");
    let len: usize = dims.iter().product();
    let (outside, stored) = match direction {
        Direction::In(_) => (b.buffer("caller", dtype, len, Access::Read), b.buffer("stored", dtype, storage_len, Access::Write)),
        Direction::Out(_) => (b.buffer("caller", dtype, len, Access::Write), b.buffer("stored", dtype, storage_len, Access::Read)),
    };
    let mut sizes: Vec<(Size, Var)> = vec![];
    let mut size = |b: &mut Builder, s: &Size, high: i64| -> Affine {
        match (s.constant(), sizes.iter().find(|x| x.0 == *s)) {
            (Some(c), _) => Affine::constant(c),
            (None, Some(known)) => Affine::var(known.1),
            (None, None) => {
                let var = b.size("n", high);
                sizes.push((s.clone(), var));
                Affine::var(var)
            }
        }
    };
    // Strides of the caller's memory.
    let mut dense = vec![Size::Constant(1); dims.len()];
    for k in (1..dims.len()).rev() {
        dense[k - 1] = dense[k].product(&extents[k]);
    }
    let full = crate::tensor::row_major_strides(&dims);
    let loops: Vec<(Affine, Affine)> =
        (0..dims.len()).map(|k| (size(&mut b, &extents[k], dims[k] as i64), size(&mut b, &dense[k], full[k] as i64))).collect();
    let last = dims.len().checked_sub(1);
    let most = last.map_or(1, |k| dims[k] as i64);
    let lanes =
        if dtype.size_bytes() == 4 && last.is_some_and(|k| strides[k] == 1) { if most >= 4 * lanes { lanes } else { 4 } } else { 1 };
    let parts = last.map(|k| {
        let whole = extents[k].floor(lanes).times(lanes);
        (size(&mut b, &whole, dims[k] as i64 / lanes * lanes), whole)
    });
    let walk = Walk { dims: &dims, loops: &loops, strides, last, lanes, vectors: parts.map(|p| p.0), outside, stored, direction };
    walk.axis(&mut b, 0, Affine::constant(offset), None);
    let args = match direction {
        Direction::In(i) => vec![Arg::Input(i), Arg::Storage(storage)],
        Direction::Out(j) => vec![Arg::Output(j), Arg::Storage(storage)],
    };
    Scheduled { kernel: b.finish(), args, sizes: sizes.into_iter().map(|s| s.0).collect(), forms: Forms::default() }
}

struct Walk<'a> {
    dims: &'a [usize],
    /// Extent and stride of the caller's axes.
    loops: &'a [(Affine, Affine)],
    strides: &'a [i64],
    last: Option<usize>,
    lanes: i64,
    vectors: Option<Affine>,
    outside: crate::nest::BufferId,
    stored: crate::nest::BufferId,
    direction: Direction,
}

impl Walk<'_> {
    fn axis(&self, b: &mut Builder, k: usize, at: Affine, row: Option<Reg>) {
        let scalar = VecType::scalar(DType::I64);
        if Some(k) == self.last {
            let end = self.dims[k] as i64;
            let vectors = self.vectors.clone().unwrap_or_default();
            let parts = [(Affine::constant(0), vectors.clone(), self.lanes), (vectors, self.loops[k].0.clone(), 1)];
            for (from, to, step) in parts {
                if step == 1 && self.lanes == 1 && from == Affine::constant(0) {
                    continue;
                }
                let from = if self.lanes == 1 { Affine::constant(0) } else { from };
                self.any_loop(b, k, from, to, step, end, |b, v| {
                    let near = Index { affine: Affine::var(v), dynamic: row.map(|r| (r, 1)).into_iter().collect() };
                    self.element(b, near, at.plus(&Affine::var(v).times(self.strides[k])), step as u32);
                });
            }
            return;
        }
        if k == self.dims.len() {
            return self.element(b, Index::default(), at, 1);
        }
        self.any_loop(b, k, Affine::constant(0), self.loops[k].0.clone(), 1, self.dims[k] as i64, |b, v| {
            let (i, stride) = (b.index(Affine::var(v)), b.index(self.loops[k].1.clone()));
            let mut here = b.op(scalar, Op::Binary(BinaryOp::Mul, i, stride));
            if let Some(row) = row {
                here = b.op(scalar, Op::Binary(BinaryOp::Add, row, here));
            }
            self.axis(b, k + 1, at.plus(&Affine::var(v).times(self.strides[k])), Some(here));
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a loop")]
    fn any_loop(&self, b: &mut Builder, k: usize, from: Affine, to: Affine, step: i64, end: i64, f: impl FnOnce(&mut Builder, Var)) {
        let name = format!("i{k}");
        if from.is_constant() && to.is_constant() {
            b.for_loop(&name, from.constant..to.constant, step, f);
        } else {
            let start = if from.is_constant() { from.constant } else { 0 };
            b.live_loop(&name, start..end, step, Live { from, to }, f);
        }
    }

    fn element(&self, b: &mut Builder, near: Index, at: Affine, lanes: u32) {
        if matches!(self.direction, Direction::In(_)) {
            let x = b.load(self.outside, near, lanes);
            b.store(self.stored, at, x);
        } else {
            let x = b.load(self.stored, at, lanes);
            b.store(self.outside, near, x);
        }
    }
}

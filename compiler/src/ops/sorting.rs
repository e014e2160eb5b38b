//! Sorting networks over integer keys: the least of many in order, without branches on data.
//!
//! Batcher's bitonic merge (1968) in the form whose comparisons all go the same way: of two sorted runs, the pairwise least of one and
//! of the other reversed are the least of both, and half cleaners put them in order. Runs hold as many elements as are wanted, so that
//! runs which are merged lose what cannot be among the least.

use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, TensorId};
use crate::tensor::{DType, Tensor};

/// The `k` least of `keys`, `i64` and below [`i64::MAX`], along `axis`, in ascending order: the extents of `keys` with `k` along it.
pub(super) fn least(b: &mut Builder, keys: TensorId, axis: usize, k: usize) -> TensorId {
    let dims = b.dims(keys).to_vec();
    let n = dims[axis];
    let run = if 4 * k > n { n.next_power_of_two() } else { k.next_power_of_two() };
    // Runs lie beside each other: `[.., run, runs, ..]`.
    let shape = |runs: usize| {
        let mut shape = dims.clone();
        shape[axis] = run;
        shape.insert(axis + 1, runs);
        shape
    };
    let mut runs = n.div_ceil(run);
    let mut sorted = b.compute(&shape(runs), |b, at| {
        let mut from = at.to_vec();
        let column = from.remove(axis + 1);
        from[axis] = from[axis].times(runs as i64).plus(&column);
        b.load_padded(keys, from, Expr::int(DType::I64, i64::MAX))
    });
    exchange(b, sorted, axis, &sorting_masks(run));
    while runs > 1 {
        let half = runs.div_ceil(2);
        let merged = b.compute(&shape(half), |b, at| {
            let mut other = at.to_vec();
            other[axis] = at[axis].times(-1).offset(run as i64 - 1);
            other[axis + 1] = at[axis + 1].offset(half as i64);
            b.load(sorted, at).binary(BinaryOp::Min, &b.load_padded(sorted, other, Expr::int(DType::I64, i64::MAX)))
        });
        exchange(b, merged, axis, &halves(run / 2).collect::<Vec<_>>());
        (sorted, runs) = (merged, half);
    }
    let mut wanted = dims;
    wanted[axis] = k;
    b.compute(&wanted, |b, at| {
        let mut from = at.to_vec();
        from.insert(axis + 1, Affine::default());
        b.load(sorted, from)
    })
}

/// How many of the elements along `axis` of `ascending` are at most what `limit` says, for each place of `dims`; `row` gives where in
/// `ascending`, but for `axis`, a place has its elements. By halving: below the first element that is more are all others.
pub(super) fn count_up_to(
    b: &mut Builder,
    ascending: TensorId,
    axis: usize,
    dims: &[usize],
    row: impl Fn(&[Affine]) -> Vec<Affine>,
    limit: impl Fn(&[Affine]) -> Expr,
) -> TensorId {
    let n = b.dims(ascending)[axis];
    let halves: Vec<i64> = (0..n.ilog2() + 1).rev().map(|bit| 1 << bit).collect();
    let n_halves = halves.len();
    let halves = b.constant("halves", Tensor::from_slice(&[n_halves], &halves));
    let count = b.compute(dims, |_, _| Expr::int(DType::I64, 0));
    b.repeat(n_halves, |b, i| {
        b.write(count, dims, |b, at| {
            let count = b.load(count, at);
            let next = &count + &b.load(halves, [i.clone()]);
            let last = next.binary(BinaryOp::Sub, &Expr::int(DType::I64, 1));
            let inside = next.compare(CompareOp::Le, &Expr::int(DType::I64, n as i64));
            let mut place: Vec<Ix> = row(at).iter().map(Ix::from).collect();
            place[axis] = Ix::Clamped(last);
            let fewer = b.load(ascending, place).compare(CompareOp::Le, &limit(at));
            (at.to_vec(), inside.binary(BinaryOp::And, &fewer).select(&next, &count))
        });
    });
    count
}

/// What the place of an element and that of its partner differ in, step by step: of a network that sorts so many, a power of two.
fn sorting_masks(n: usize) -> Vec<usize> {
    let blocks = std::iter::successors(Some(2), |size| Some(size * 2)).take_while(|&size| size <= n);
    blocks.flat_map(|size| std::iter::once(size - 1).chain(halves(size / 4))).collect()
}

fn halves(first: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(first), |h| Some(h / 2)).take_while(|&h| h > 0)
}

/// Elements along `axis` and their partners change places where they are not in order, step by step.
fn exchange(b: &mut Builder, t: TensorId, axis: usize, masks: &[usize]) {
    if masks.is_empty() {
        return;
    }
    let dims = b.dims(t).to_vec();
    let other = b.declare(b.dtype(t), &dims);
    // Steps go to and fro between two tensors; a last one that nobody needs compares each element with itself.
    let masks: Vec<i64> = masks.iter().map(|&m| m as i64).chain((!masks.len().is_multiple_of(2)).then_some(0)).collect();
    let tops: Vec<i64> = masks.iter().map(|&m| if m == 0 { 0 } else { 1 << m.ilog2() }).collect();
    let n = masks.len();
    let masks = b.constant("masks", Tensor::from_slice(&[n], &masks));
    let tops = b.constant("tops", Tensor::from_slice(&[n], &tops));
    b.repeat(n / 2, |b, step| {
        for (i, (from, to)) in [(t, other), (other, t)].into_iter().enumerate() {
            let step = step.times(2).offset(i as i64);
            b.write(to, &dims, |b, at| {
                let place = Expr::index(&at[axis]);
                let mut partner: Vec<Ix> = at.iter().map(Ix::from).collect();
                partner[axis] = Ix::Clamped(place.binary(BinaryOp::Xor, &b.load(masks, [step.clone()])));
                let is_lower = place.binary(BinaryOp::And, &b.load(tops, [step.clone()])).compare(CompareOp::Eq, &Expr::int(DType::I64, 0));
                let (own, partner) = (b.load(from, at), b.load(from, partner));
                (at.to_vec(), is_lower.select(&own.binary(BinaryOp::Min, &partner), &own.binary(BinaryOp::Max, &partner)))
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{halves, sorting_masks};

    #[test]
    fn networks_sort_every_order() {
        // The zero-one principle: a network that sorts all sequences of zeros and ones sorts everything.
        for n in [1, 2, 4, 8, 16] {
            let masks = sorting_masks(n);
            for bits in 0..1u32 << n {
                let sorted = masks.iter().fold(bits, |bits, mask| {
                    (0..n).filter(|i| i & (1 << mask.ilog2()) == 0).fold(bits, |bits, i| {
                        let (low, high) = (bits >> i & 1, bits >> (i ^ mask) & 1);
                        if low > high { bits ^ (1 << i) ^ (1 << (i ^ mask)) } else { bits }
                    })
                });
                let ones = bits.count_ones();
                assert_eq!(sorted, ((1u32 << ones) - 1) << (n as u32 - ones), "{bits:b} of {n}");
            }
        }
        assert_eq!(sorting_masks(8), [1, 3, 1, 7, 2, 1]);
        assert_eq!(halves(4).collect::<Vec<_>>(), [4, 2, 1]);
    }
}

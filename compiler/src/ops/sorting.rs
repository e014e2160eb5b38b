//! Orders of elements, and sorting networks over integer keys: the least of many in order, without branches on data.
//!
//! Batcher's bitonic merge (1968) in the form whose comparisons all go the same way: of two sorted runs, the pairwise least of one and
//! of the other reversed are the least of both, and half cleaners put them in order. Runs hold as many elements as are wanted, so that
//! runs which are merged lose what cannot be among the least.

use super::radix;
use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, TensorId};
use crate::tensor::{DType, Tensor};

/// Places that a key of an order of 32 bits and a place has room for.
const MAX_PACKED: usize = u32::MAX as usize;

/// A number of the order of the element's value, `i64`; equal elements have one, and NaN has the greatest. Those of types of at most 32 bits
/// are numbers of 32 bits, signed.
pub(super) fn order_of(x: &Expr) -> Expr {
    match x.dtype() {
        DType::F64 => order_of_bits(x, DType::I64, i64::MAX),
        DType::U64 => x.cast(DType::I64).binary(BinaryOp::Xor, &Expr::int(DType::I64, i64::MIN)),
        DType::I64 => x.clone(),
        _ => narrow_order_of(x).cast(DType::I64),
    }
}

/// The same of an element of at most 32 bits, `i32`: of floats, neither the least nor the greatest number.
pub(super) fn narrow_order_of(x: &Expr) -> Expr {
    match x.dtype() {
        dtype if dtype.is_float() => order_of_bits(&x.cast(DType::F32), DType::I32, i32::MAX.into()),
        DType::U32 => x.cast(DType::I64).binary(BinaryOp::Sub, &Expr::int(DType::I64, 1 << 31)).cast(DType::I32),
        _ => x.cast(DType::I32),
    }
}

fn order_of_bits(x: &Expr, int: DType, most: i64) -> Expr {
    let zero = x.like(0.0);
    let bits = x.compare(CompareOp::Eq, &zero).select(&zero, x).bits(int);
    let below = bits.compare(CompareOp::Lt, &Expr::int(int, 0));
    let order = below.select(&bits.binary(BinaryOp::Xor, &Expr::int(int, most)), &bits);
    x.compare(CompareOp::Ne, x).select(&Expr::int(int, most - 1), &order)
}

/// The order from the greatest to the least, of an order.
pub(super) fn descending(order: &Expr) -> Expr {
    order.binary(BinaryOp::Xor, &Expr::int(order.dtype(), -1))
}

/// An order of 32 bits and a place as one key.
pub(super) fn packed(order: &Expr, place: &Expr) -> Expr {
    order.binary(BinaryOp::Shl, &Expr::int(DType::I64, 32)).binary(BinaryOp::Or, place)
}

/// The place in a packed key.
pub(super) fn place_of(key: &Expr) -> Expr {
    key.binary(BinaryOp::And, &Expr::int(DType::I64, i64::from(u32::MAX)))
}

/// How many elements there are, and how many are wanted, at the greatest sizes: what a network is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Elements.
    pub(super) n: usize,
    /// Those that are wanted.
    pub(super) k: usize,
}

impl Most {
    /// Elements of a run, a power of two.
    fn run(self) -> usize {
        if 4 * self.k > self.n { self.n.next_power_of_two() } else { self.k.next_power_of_two() }
    }
}

/// Steps of the network for each element, at most.
pub(super) fn n_steps(most: Most) -> usize {
    let bits = most.run().ilog2() as usize;
    bits * (bits + 3) / 2 + 1
}

/// The `k` first places along `axis` in ascending order of `orders`, tensors of `i64` of which the first that differ decide, and then the
/// places; with the orders there. `narrow` says that there is one, of 32 bits.
pub(super) fn first_places(
    b: &mut Builder,
    orders: &[TensorId],
    narrow: bool,
    axis: usize,
    k: usize,
    most: Most,
) -> (Vec<TensorId>, TensorId) {
    let dims = b.dims(orders[0]).to_vec();
    let is_one = narrow && orders.len() == 1 && most.n <= MAX_PACKED;
    let bits = if narrow { 32 } else { 64 };
    // Tenths of a nanosecond for each element, measured on a server of Intel; words of one key are exchanged in lanes.
    let network = n_steps(most) * if is_one { 14 } else { 68 };
    if orders.len() * radix::cost(bits, most.n) < network {
        let sorted = radix::ascending(b, orders, bits, axis);
        let mut wanted = dims;
        wanted[axis] = k;
        let places = b.compute(&wanted, |b, at| b.load(sorted, at));
        return (orders.iter().map(|&order| at_places(b, order, axis, places)).collect(), places);
    }
    if is_one {
        let keys = b.compute(&dims, |b, at| packed(&b.load(orders[0], at), &Expr::index(&at[axis])));
        let least = least(b, &[keys], axis, k, most)[0];
        let order = b.map(&[least], |key| key[0].binary(BinaryOp::Shr, &Expr::int(DType::I64, 32)));
        return (vec![order], b.map(&[least], |key| place_of(&key[0])));
    }
    let places = b.compute(&dims, |_, at| Expr::index(&at[axis]));
    let mut least = least(b, &[orders, &[places]].concat(), axis, k, most);
    let places = least.pop().expect("as many as keys");
    (least, places)
}

/// The elements at these places along an axis, `i64` and in range.
pub(super) fn at_places(b: &mut Builder, x: TensorId, axis: usize, places: TensorId) -> TensorId {
    let dims = b.dims(places).to_vec();
    b.compute(&dims, |b, at| {
        let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
        from[axis] = Ix::Clamped(b.load(places, at));
        b.load(x, from)
    })
}

/// Rows one after the other: `f` gets the index of each, which begins with `at`.
pub(super) fn each_row(b: &mut Builder, rows: &[usize], at: &[Affine], f: &dyn Fn(&mut Builder, &[Affine])) {
    match rows {
        [] => f(b, at),
        [n, rest @ ..] => b.repeat(*n, |b, r| each_row(b, rest, &[at, &[r]].concat(), f)),
    }
}

/// Whether `a` is less than `b`, by the first that differs.
fn less(a: &[Expr], b: &[Expr]) -> Expr {
    let mut pairs = a.iter().zip(b).rev();
    let (last_a, last_b) = pairs.next().expect("a key");
    pairs.fold(last_a.compare(CompareOp::Lt, last_b), |rest, (a, b)| {
        let equal = a.compare(CompareOp::Eq, b).binary(BinaryOp::And, &rest);
        a.compare(CompareOp::Lt, b).binary(BinaryOp::Or, &equal)
    })
}

/// The `k` least along `axis`, in ascending order, by the first of `keys` that differ: the extents of the keys with `k` along it. Keys are
/// `i64`, and not all of one [`i64::MAX`]. The network is that of `most`, so the same at all sizes.
pub(super) fn least(b: &mut Builder, keys: &[TensorId], axis: usize, k: usize, most: Most) -> Vec<TensorId> {
    let dims = b.dims(keys[0]).to_vec();
    let (n, run) = (most.n, most.run());
    // Runs lie beside each other: `[.., run, runs, ..]`.
    let shape = |runs: usize| {
        let mut shape = dims.clone();
        shape[axis] = run;
        shape.insert(axis + 1, runs);
        shape
    };
    let none = Expr::int(DType::I64, i64::MAX);
    let mut runs = n.div_ceil(run);
    let run_of = |b: &mut Builder, key: TensorId| {
        b.compute(&shape(runs), |b, at| {
            let mut from = at.to_vec();
            let column = from.remove(axis + 1);
            from[axis] = from[axis].times(runs as i64).plus(&column);
            b.load_padded(key, from, none.clone())
        })
    };
    let mut sorted: Vec<TensorId> = keys.iter().map(|&key| run_of(b, key)).collect();
    exchange(b, &sorted, axis, &sorting_masks(run));
    while runs > 1 {
        let half = runs.div_ceil(2);
        let merge = |b: &mut Builder, j: usize| {
            b.compute(&shape(half), |b, at| {
                let mut other = at.to_vec();
                other[axis] = at[axis].times(-1).offset(run as i64 - 1);
                other[axis + 1] = at[axis + 1].offset(half as i64);
                let own = |j: usize| b.load(sorted[j], at);
                let there = |j: usize| b.load_padded(sorted[j], other.clone(), none.clone());
                if sorted.len() == 1 {
                    return own(0).binary(BinaryOp::Min, &there(0));
                }
                let all = |f: &dyn Fn(usize) -> Expr| (0..sorted.len()).map(f).collect::<Vec<_>>();
                less(&all(&own), &all(&there)).select(&own(j), &there(j))
            })
        };
        let merged: Vec<TensorId> = (0..sorted.len()).map(|j| merge(b, j)).collect();
        exchange(b, &merged, axis, &halves(run / 2).collect::<Vec<_>>());
        (sorted, runs) = (merged, half);
    }
    let mut wanted = dims.clone();
    wanted[axis] = k;
    let first = |b: &mut Builder, t: TensorId| {
        b.compute(&wanted, |b, at| {
            let mut from = at.to_vec();
            from.insert(axis + 1, Affine::default());
            b.load(t, from)
        })
    };
    sorted.into_iter().map(|t| first(b, t)).collect()
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
fn exchange(b: &mut Builder, keys: &[TensorId], axis: usize, masks: &[usize]) {
    if masks.is_empty() {
        return;
    }
    let dims = b.dims(keys[0]).to_vec();
    let others: Vec<TensorId> = keys.iter().map(|&t| b.declare(b.dtype(t), &dims)).collect();
    // Steps go to and fro between two tensors; a last one that nobody needs compares each element with itself.
    let masks: Vec<i64> = masks.iter().map(|&m| m as i64).chain((!masks.len().is_multiple_of(2)).then_some(0)).collect();
    let tops: Vec<i64> = masks.iter().map(|&m| if m == 0 { 0 } else { 1 << m.ilog2() }).collect();
    let n = masks.len();
    let masks = b.constant("masks", Tensor::from_slice(&[n], &masks));
    let tops = b.constant("tops", Tensor::from_slice(&[n], &tops));
    b.repeat(n / 2, |b, step| {
        for (i, (from, to)) in [(keys, &others[..]), (&others[..], keys)].into_iter().enumerate() {
            let step = step.times(2).offset(i as i64);
            for j in 0..keys.len() {
                b.write(to[j], &dims, |b, at| {
                    let place = Expr::index(&at[axis]);
                    let mut there: Vec<Ix> = at.iter().map(Ix::from).collect();
                    there[axis] = Ix::Clamped(place.binary(BinaryOp::Xor, &b.load(masks, [step.clone()])));
                    let is_lower =
                        place.binary(BinaryOp::And, &b.load(tops, [step.clone()])).compare(CompareOp::Eq, &Expr::int(DType::I64, 0));
                    let own: Vec<Expr> = from.iter().map(|&t| b.load(t, at)).collect();
                    let partner: Vec<Expr> = from.iter().map(|&t| b.load(t, there.clone())).collect();
                    let value = match (&own[..], &partner[..]) {
                        ([own], [partner]) => is_lower.select(&own.binary(BinaryOp::Min, partner), &own.binary(BinaryOp::Max, partner)),
                        _ => {
                            let changes = is_lower.binary(BinaryOp::Xor, &less(&own, &partner));
                            changes.select(&partner[j], &own[j])
                        }
                    };
                    (at.to_vec(), value)
                });
            }
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

//! The first few of many in order, one after the other.
//!
//! Where they are not many, each is looked for among all that come after the one before it. Else it is a tournament: every block of elements
//! has a best one, the best of these is taken, and only its block looks for its next. Either way is passes in lanes of 32 bits, which write
//! none of the elements.

use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, Place, ReduceOp, TensorId};
use crate::ops::radix;
use crate::ops::sorting::{self, Most};
use crate::tensor::{DType, Tensor};

/// Elements of a block are some whole vectors.
const UNIT: usize = 64;

/// So many elements of all rows are not near the processor, and rows of so many fill it: each is looked through by itself.
const FAR: usize = 1 << 18;
const LONG: usize = 1 << 12;

/// How the first are found.
enum Way {
    /// All elements are looked at for each that is wanted, rows that lie side by side together.
    SideBySide,
    /// The rows, each by itself, in blocks of so many elements.
    Blocks(usize),
}

/// Elements of a block where `k` of `n` are wanted; all `n` where blocks would be too few. The best of a block costs about as much as 60
/// elements at first, and an element that is taken a quarter of a step for each one of its block and two for each block.
fn block(n: usize, k: usize) -> usize {
    let size = ((8 * n + 240 * n / k) as f64).sqrt() as usize;
    let size = size.next_multiple_of(UNIT);
    if 2 * size > n { n } else { size }
}

/// The way that costs least; `None` is to sort all. Costs are of elements that are looked at in lanes, of about an eighth of a nanosecond;
/// rows that do not lie along them are copied.
fn way(n: usize, inner: usize, k: usize) -> Option<Way> {
    let size = block(n, k);
    let blocks = Some(Way::Blocks(size));
    let digits = radix::cost(32, n) * n / 10 * 8;
    if inner < 4 {
        return blocks.filter(|_| 8 * n + k * (80 + 17 * size / 10) < digits);
    }
    let sorted = digits.min(2 * n * sorting::n_steps(Most { n, k }));
    let ways = [(n * k, Some(Way::SideBySide)), (8 * n + 290 * k, blocks), (sorted, None)];
    ways.into_iter().min_by_key(|w| w.0).and_then(|w| w.1)
}

/// The `k` first places along `axis`, of at least one element, of an `i32` that `order` says of each, greatest first and of equal ones the
/// first: `i64`. No order is the least or greatest number. `None` where it is faster to sort them; up to `inner` rows lie side by side.
pub(super) fn first_places(
    b: &mut Builder,
    dims: &[usize],
    axis: usize,
    inner: usize,
    k: usize,
    order: impl Fn(&Builder, &[Affine]) -> Expr,
) -> Option<TensorId> {
    let (n, last) = (dims[axis], dims.len() - 1);
    let size = match way(n, inner, k)? {
        Way::Blocks(size) => size,
        Way::SideBySide => {
            let orders = b.compute(dims, order);
            return Some(of_all(b, orders, axis, k));
        }
    };
    let mut of_rows = dims.to_vec();
    of_rows.remove(axis);
    of_rows.push(n);
    let (rows, n_rows) = (&of_rows[..last], of_rows[..last].iter().product::<usize>());
    let order = |b: &Builder, at: &[Affine]| order(b, &moved(at, last, axis));
    let places = if size == n {
        let orders = b.compute(&of_rows, order);
        of_all(b, orders, last, k)
    } else if !b.any_size && n_rows > 1 && n >= LONG && n_rows * n >= FAR {
        let places = b.declare(DType::I64, &[rows, &[k]].concat());
        sorting::each_row(b, rows, &[], &|b, row| {
            let of_row = of_blocks(b, &[n], k, size, |b, at| order(b, &[row, at].concat()));
            b.write(places, &[k], |b, at| ([row, at].concat(), b.load(of_row, at)));
        });
        places
    } else {
        of_blocks(b, &of_rows, k, size, order)
    };
    let mut wanted = dims.to_vec();
    wanted[axis] = k;
    Some(if axis == last { places } else { b.compute(&wanted, |b, at| b.load(places, moved(at, axis, last))) })
}

/// An index whose part `from` is part `to` instead.
fn moved(at: &[Affine], from: usize, to: usize) -> Vec<Affine> {
    let mut at = at.to_vec();
    let part = at.remove(from);
    at.insert(to, part);
    at
}

fn least() -> Expr {
    Expr::int(DType::I32, i32::MIN.into())
}

/// The numbers from 0, `i32`: places in lanes.
fn numbers(b: &mut Builder, n: usize) -> TensorId {
    let numbers: Vec<i32> = (0..n as i32).collect();
    b.constant("numbers", Tensor::from_slice(&[n], &numbers))
}

/// The order of an element that comes after one of the order `best` at `head`, else the least.
fn later(order: &Expr, place: &Expr, best: &Expr, head: &Expr) -> Expr {
    let equal = order.compare(CompareOp::Eq, best).binary(BinaryOp::And, &place.compare(CompareOp::Gt, head));
    order.compare(CompareOp::Lt, best).binary(BinaryOp::Or, &equal).select(order, &least())
}

/// All elements are looked at for each that is taken.
fn of_all(b: &mut Builder, orders: TensorId, axis: usize, k: usize) -> TensorId {
    let dims = b.dims(orders).to_vec();
    let mut rows = dims.clone();
    rows.remove(axis);
    let numbers = numbers(b, dims[axis]);
    let with = |at: &[Affine], place: Ix| {
        let mut at: Vec<Ix> = at.iter().map(Ix::from).collect();
        at.insert(axis, place);
        at
    };
    let best = b.compute(&rows, |_, _| Expr::int(DType::I32, i32::MAX.into()));
    let head = b.compute(&rows, |_, _| Expr::int(DType::I32, -1));
    let along_axis = |n: usize| {
        let mut dims = dims.clone();
        dims[axis] = n;
        dims
    };
    let (places, one) = (b.declare(DType::I64, &along_axis(k)), along_axis(1));
    b.repeat(k, |b, r| {
        let next = b.arg(ReduceOp::Max, false, &rows, dims[axis], |b, at, over| {
            let order = b.load(orders, with(at, Ix::from(over)));
            later(&order, &b.load(numbers, [over]), &b.load(best, at), &b.load(head, at))
        });
        b.write(best, &rows, |b, at| (at.to_vec(), b.load(orders, with(at, Ix::Clamped(b.load(next, at))))));
        b.write(head, &rows, |b, at| (at.to_vec(), b.load(next, at).cast(DType::I32)));
        b.write(places, &one, |b, at| {
            let (mut row, mut place) = (at.to_vec(), at.to_vec());
            row.remove(axis);
            place[axis] = at[axis].plus(&r);
            (place, b.load(next, row))
        });
    });
    places
}

/// A tournament of blocks of `size` elements along the last axis.
fn of_blocks(b: &mut Builder, dims: &[usize], k: usize, size: usize, order: impl Fn(&Builder, &[Affine]) -> Expr) -> TensorId {
    let (&n, rows) = dims.split_last().expect("the axis of the elements");
    let n_blocks = n.div_ceil(size);
    let with = |last: &[usize]| [rows, last].concat();
    let orders = b.declare(DType::I32, &with(&[n_blocks * size]));
    b.write(orders, dims, |b, at| (at.to_vec(), order(b, at)));
    let rest = n_blocks * size - n;
    if rest > 0 {
        b.write(orders, &with(&[rest]), |_, at| {
            let mut place = at.to_vec();
            place[rows.len()] = at[rows.len()].offset(n as i64);
            (place, least())
        });
    }
    let orders = b.reshape(orders, &with(&[n_blocks, size]));
    let numbers = numbers(b, size);
    let at_places = |at: &[Affine], places: &[&Expr]| -> Vec<Ix> {
        at.iter().map(Ix::from).chain(places.iter().map(|&e| Ix::Clamped(e.cast(DType::I64)))).collect()
    };

    // The best that is left of each block, and where in the block it is.
    let first = b.arg(ReduceOp::Max, false, &with(&[n_blocks]), size, |b, at, over| b.load(orders, at.iter().chain([over])));
    let heads = b.map(&[first], |place| place[0].cast(DType::I32));
    let bests = b.compute(&with(&[n_blocks]), |b, at| b.load(orders, at_places(at, &[&b.load(heads, at)])));
    let places = b.declare(DType::I64, &with(&[k]));
    let take = |b: &mut Builder, r: &Affine| {
        let block = b.arg(ReduceOp::Max, false, rows, n_blocks, |b, at, over| b.load(bests, at.iter().chain([over])));
        let head = b.compute(rows, |b, at| b.load(heads, at_places(at, &[&b.load(block, at)])));
        b.write(places, &with(&[1]), |b, at| {
            let (row, mut place) = (&at[..rows.len()], at.to_vec());
            place[rows.len()] = at[rows.len()].plus(r);
            let start = b.load(block, row).binary(BinaryOp::Mul, &Expr::int(DType::I64, size as i64));
            (place, start + b.load(head, row).cast(DType::I64))
        });
        (block, head)
    };
    if k > 1 {
        b.repeat(k - 1, |b, r| {
            let (block, head) = take(b, &r);
            let best = b.compute(rows, |b, at| b.load(bests, at_places(at, &[&b.load(block, at)])));
            let next = b.arg(ReduceOp::Max, false, rows, size, |b, at, over| {
                let mut place = at_places(at, &[&b.load(block, at)]);
                place.push(Ix::from(over));
                later(&b.load(orders, place), &b.load(numbers, [over]), &b.load(best, at), &b.load(head, at))
            });
            let next_best = b.compute(rows, |b, at| {
                let next = b.load(next, at);
                let order = b.load(orders, at_places(at, &[&b.load(block, at), &next]));
                later(&order, &next.cast(DType::I32), &b.load(best, at), &b.load(head, at))
            });
            for (of, new) in [(heads, next), (bests, next_best)] {
                b.scatter(of, rows, None, |b, row, _| {
                    let place = Place::Data(b.load(block, row));
                    (row.iter().cloned().map(Place::Known).chain([place]).collect(), b.load(new, row).cast(DType::I32))
                });
            }
        });
    }
    take(b, &Affine::constant(k as i64 - 1));
    places
}

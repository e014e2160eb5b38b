//! Sorting by digits, the last one first: whatever the elements, each digit is one count of its values and one move of every place.

use super::sorting::each_row;
use crate::expr::{Affine, BinaryOp, Builder, Expr, Ix, Place, TensorId};
use crate::tensor::DType;

/// Bits of a digit.
const DIGIT: i64 = 8;
/// Values of one.
const VALUES: usize = 1 << DIGIT;

fn int(n: i64) -> Expr {
    Expr::int(DType::I64, n)
}

/// The lowest bits, so many of them.
fn mask(bits: i64) -> Expr {
    int((u64::MAX >> (64 - bits)) as i64)
}

/// What an element of a row of `n` takes, in tenths of a nanosecond.
pub(super) fn cost(bits: usize, n: usize) -> usize {
    bits / 32 * (160 + 6000 / n.max(1))
}

/// The places along `axis` in ascending order of `orders`, tensors of `i64` of which the first that differ decide, and then the places; `bits`
/// says that they are numbers of so many bits, signed: 32 or 64.
pub(super) fn ascending(b: &mut Builder, orders: &[TensorId], bits: usize, axis: usize) -> TensorId {
    let bits = bits as i64;
    let dims = b.dims(orders[0]).to_vec();
    let (n, mut rows) = (dims[axis], dims.clone());
    rows.remove(axis);
    let places = b.declare(DType::I64, &dims);
    each_row(b, &rows, &[], &|b, row| {
        let inside = |at: &[Affine]| {
            let mut all = row.to_vec();
            all.insert(axis, at[0].clone());
            all
        };
        let of_row = Row::new(b, n);
        for &order in orders.iter().rev() {
            // Digits of unsigned numbers: the sign is turned.
            let top = int(1 << (bits - 1));
            let left = b.compute(&[n], |b, at| b.load(order, inside(at)).binary(BinaryOp::Xor, &top).binary(BinaryOp::And, &mask(bits)));
            of_row.sort(b, left, bits);
        }
        b.write(places, &[n], |b, at| (inside(at), b.load(of_row.places, at)));
    });
    places
}

/// What sorts one row.
struct Row {
    n: usize,
    /// Places of elements, in the order so far.
    places: TensorId,
    /// They in the next order.
    moved: TensorId,
    /// Where the next element of each value of a digit goes, which begins as the number of elements of lesser values.
    starts: TensorId,
}

impl Row {
    fn new(b: &mut Builder, n: usize) -> Row {
        let places = b.compute(&[n], |_, at| Expr::index(&at[0]));
        Row { n, places, moved: b.declare(DType::I64, &[n]), starts: b.declare(DType::I64, &[VALUES + 1]) }
    }

    /// In ascending order of `left`, numbers of so many bits, of which it takes two digits at a time.
    fn sort(&self, b: &mut Builder, left: TensorId, bits: i64) {
        b.repeat((bits / DIGIT / 2) as usize, |b, _| {
            self.by_digit(b, left, 0, [self.places, self.moved]);
            self.by_digit(b, left, DIGIT, [self.moved, self.places]);
            let rest = |left: Expr| left.binary(BinaryOp::Shr, &int(2 * DIGIT)).binary(BinaryOp::And, &mask(64 - 2 * DIGIT));
            b.write(left, &[self.n], |b, at| (at.to_vec(), rest(b.load(left, at))));
        });
    }

    fn by_digit(&self, b: &mut Builder, left: TensorId, shift: i64, [from, to]: [TensorId; 2]) {
        let starts = self.starts;
        let digit = |left: Expr| left.binary(BinaryOp::Shr, &int(shift)).binary(BinaryOp::And, &mask(DIGIT));
        b.write(starts, &[VALUES + 1], |_, at| (at.to_vec(), int(0)));
        b.scatter(starts, &[self.n], None, |b, at, n| (vec![Place::Data(&digit(b.load(left, at)) + &int(1))], &n + &int(1)));
        b.repeat(VALUES, |b, value| {
            b.write(starts, &[1], |b, at| {
                let here = value.plus(&at[0]);
                let next = here.offset(1);
                (vec![next.clone()], &b.load(starts, [here]) + &b.load(starts, [next]))
            });
        });
        b.repeat(self.n, |b, i| {
            let source = |b: &Builder| b.load(from, [i.clone()]);
            let value = |b: &Builder| digit(b.load(left, [Ix::Clamped(source(b))]));
            b.scatter(to, &[], None, |b, _, _| (vec![Place::Data(b.load(starts, [Ix::Clamped(value(b))]))], source(b)));
            b.scatter(starts, &[], None, |b, _, start| (vec![Place::Data(value(b))], &start + &int(1)));
        });
    }
}

//! Gauss-Jordan elimination with the greatest pivots: determinants and inverses of many small matrices.

use crate::expr::{Affine, BinaryOp, Builder, CompareOp, Expr, Ix, ReduceOp, TensorId, UnaryOp};
use crate::tensor::DType;

/// The inverse of a row-major matrix of `n` rows; infinite or no numbers where there is none.
pub(crate) fn inverse(a: &[f64], n: usize) -> Vec<f64> {
    let wide = 2 * n;
    let unit = |i: usize| f64::from(u8::from(i % wide - n == i / wide));
    let mut m: Vec<f64> = (0..n * wide).map(|i| if i % wide < n { a[i / wide * n + i % wide] } else { unit(i) }).collect();
    for c in 0..n {
        let mut pivot = c;
        for i in c + 1..n {
            if m[i * wide + c].abs() > m[pivot * wide + c].abs() {
                pivot = i;
            }
        }
        (0..wide).filter(|_| pivot != c).for_each(|j| m.swap(pivot * wide + j, c * wide + j));
        let by = m[c * wide + c];
        (0..wide).for_each(|j| m[c * wide + j] /= by);
        for i in (0..n).filter(|&i| i != c) {
            let factor = m[i * wide + c];
            (0..wide).for_each(|j| m[i * wide + j] -= factor * m[c * wide + j]);
        }
    }
    m.chunks(wide).flat_map(|row| &row[n..]).copied().collect()
}

/// As expressions: of `matrices[count,n,n]` the determinants, `[count]`, and the inverses, `[count,n,n]`, where they are asked for.
pub(crate) fn lower(b: &mut Builder, matrices: TensorId, inverses: bool) -> (TensorId, Option<TensorId>) {
    let dtype = b.dtype(matrices);
    let dims = b.dims(matrices).to_vec();
    let (count, n) = (dims[0], dims[1]);
    let (zero, one) = (Expr::constant(dtype, 0.0), Expr::constant(dtype, 1.0));
    let determinant = b.compute(&[count], |_, _| one.clone());
    let wide = if inverses { 2 * n } else { n };
    let all = [count, n, wide];
    let m = b.compute(&all, |b, at| {
        let unit = Expr::index(&at[2]).compare(CompareOp::Eq, &Expr::index(&at[1].offset(n as i64))).select(&one, &zero);
        let inside = Expr::index(&at[2]).compare(CompareOp::Lt, &Expr::int(DType::I64, n as i64));
        if inverses { inside.select(&b.load_padded(matrices, at, zero.clone()), &unit) } else { b.load(matrices, at) }
    });
    let next = b.declare(dtype, &all);
    b.repeat(n, |b, c| {
        let size = |b: &Builder, at: &[Affine], row: &Affine| {
            let size = b.load(m, [&at[0], row, &c]).unary(UnaryOp::Abs);
            Expr::index(row).compare(CompareOp::Ge, &Expr::index(&c)).select(&size, &Expr::constant(dtype, -1.0))
        };
        let pivot = b.arg(ReduceOp::Max, false, &[count], n, |b, at, row| size(b, at, row));
        let by = b.compute(&[count], |b, at| b.load(m, [Ix::from(&at[0]), Ix::Clamped(b.load(pivot, at)), Ix::from(&c)]));
        b.write(determinant, &[count], |b, at| {
            let stays = b.load(pivot, at).compare(CompareOp::Eq, &Expr::index(&c));
            let by = b.load(by, at);
            (at.to_vec(), b.load(determinant, at) * stays.select(&by, &by.unary(UnaryOp::Neg)))
        });
        let row = b.compute(&[count, wide], |b, at| {
            let by = b.load(by, [&at[0]]);
            // The determinant is 0 from here on, whatever the rows are.
            let by = if inverses { by } else { by.compare(CompareOp::Eq, &zero).select(&one, &by) };
            b.load(m, [Ix::from(&at[0]), Ix::Clamped(b.load(pivot, [&at[0]])), Ix::from(&at[1])]) / by
        });
        b.write(next, &all, |b, at| {
            // The pivot's row and this one have changed places.
            let place = Expr::index(&at[1]);
            let is_pivot = place.compare(CompareOp::Eq, &b.load(pivot, [&at[0]]));
            let from = is_pivot.select(&Expr::index(&c), &place);
            let own = |column: &Affine| b.load(m, [Ix::from(&at[0]), Ix::Clamped(from.clone()), Ix::from(column)]);
            let scaled = b.load(row, [&at[0], &at[2]]);
            let rest = own(&at[2]).binary(BinaryOp::Sub, &(own(&c) * scaled.clone()));
            (at.to_vec(), place.compare(CompareOp::Eq, &Expr::index(&c)).select(&scaled, &rest))
        });
        b.write(m, &all, |b, at| (at.to_vec(), b.load(next, at)));
    });
    let inverse = inverses.then(|| b.compute(&[count, n, n], |b, at| b.load(m, [at[0].clone(), at[1].clone(), at[2].offset(n as i64)])));
    (determinant, inverse)
}

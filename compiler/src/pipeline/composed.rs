//! Sizes that are made of other sizes which a model has: products of extents that it joins, sums of those that it puts one behind another,
//! and multiples and parts of these.

use super::fit::gcd;
use crate::tensor::Size;

/// More sizes than these are not combined.
const MAX_KNOWN: usize = 24;

/// So many values belong to one function, unless there are no others.
const FEWEST: usize = 10;

/// Sizes with their values at the probes.
#[derive(Clone, Default, Debug)]
pub(super) struct Known(Vec<(Size, Vec<i64>)>);

impl Known {
    /// One more, unless one is a multiple of it already.
    pub(super) fn add(&mut self, size: &Size, values: Vec<i64>) {
        let multiple = |(_, known): &(Size, Vec<i64>)| values.iter().zip(known).all(|(v, k)| v * known[0] == k * values[0]);
        if self.0.len() < MAX_KNOWN && values.iter().any(|v| *v != values[0]) && !self.0.iter().any(multiple) {
            self.0.push((size.clone(), values));
        }
    }

    /// All of them.
    pub(super) fn sizes(&self) -> Vec<Size> {
        self.0.iter().map(|k| k.0.clone()).collect()
    }

    /// The size that has these values, or `all` of its values: first a multiple or a part of a product or a sum, then one of these and a
    /// constant, then a sum of multiples of two.
    pub(super) fn composed(&self, values: &[i64], all: bool) -> Option<Size> {
        // Few values are those of many functions.
        if values.len() < FEWEST && !all {
            return None;
        }
        let list = &self.0;
        let n = list.len();
        let pairs: Vec<Vec<usize>> = (0..n).flat_map(|i| (i..n).map(move |j| vec![i, j])).collect();
        let triples: Vec<Vec<usize>> = (0..n).flat_map(|i| (i..n).flat_map(move |j| (j..n).map(move |k| vec![i, j, k]))).collect();
        let singles: Vec<Vec<usize>> = (0..n).map(|i| vec![i]).collect();
        for exact in [true, false] {
            for members in singles.iter().chain(&pairs).chain(&triples) {
                for product in [true, false] {
                    let of = |p: usize| {
                        let each = members.iter().map(|&i| list[i].1[p]);
                        if product { each.product::<i64>() } else { each.sum() }
                    };
                    let combined: Vec<i64> = (0..values.len()).map(of).collect();
                    let Some((times, plus, over)) = affine(&combined, values) else { continue };
                    if exact && plus != 0 {
                        continue;
                    }
                    let join = |a: Size, b: &Size| if product { a.product(b) } else { a.plus(b) };
                    let whole = members[1..].iter().fold(list[members[0]].0.clone(), |all, &i| join(all, &list[i].0));
                    return Some(whole.times(times).plus(&Size::Constant(plus)).floor(over));
                }
            }
        }
        self.combination(values)
    }

    /// `p * a + q * b + r` of two sizes: remainders are such.
    fn combination(&self, values: &[i64]) -> Option<Size> {
        let list = &self.0;
        let pairs = (0..list.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        pairs.into_iter().find_map(|(i, j)| {
            let (a, b) = (&list[i].1, &list[j].1);
            let apart = |x: &[i64], k: usize| i128::from(x[k]) - i128::from(x[0]);
            let det = |k: usize, l: usize| apart(a, k) * apart(b, l) - apart(a, l) * apart(b, k);
            let (k, l) = (1..values.len()).flat_map(|k| (1..k).map(move |l| (k, l))).find(|&(k, l)| det(k, l) != 0)?;
            let times = |x: &[i64], y: &[i64]| {
                let n = apart(x, k) * apart(y, l) - apart(x, l) * apart(y, k);
                (n % det(k, l) == 0).then(|| i64::try_from(n / det(k, l)).ok()).flatten()
            };
            let (p, q) = (times(values, b)?, times(a, values)?);
            let r = values[0].checked_sub(p.checked_mul(a[0])?)?.checked_sub(q.checked_mul(b[0])?)?;
            let holds = a
                .iter()
                .zip(b)
                .zip(values)
                .all(|((a, b), v)| i128::from(p) * i128::from(*a) + i128::from(q) * i128::from(*b) + i128::from(r) == i128::from(*v));
            holds.then(|| list[i].0.times(p).plus(&list[j].0.times(q)).plus(&Size::Constant(r)))
        })
    }
}

/// `(times, plus, over)` with `value = (times * x + plus) / over`, without remainders, at all points.
fn affine(x: &[i64], values: &[i64]) -> Option<(i64, i64, i64)> {
    let i = (0..x.len()).find(|&i| x[i] != x[0])?;
    let (dv, dx) = (values[i] - values[0], x[i] - x[0]);
    let unit = gcd(dv, dx).abs() * dx.signum();
    if unit == 0 || dv == 0 {
        return None;
    }
    let (times, over) = (dv / unit, dx / unit);
    let holds = x.iter().zip(values).all(|(at, v)| (v - values[0]) * over == (at - x[0]) * times);
    holds.then(|| (times, values[0] * over - times * x[0], over))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_sums_of_known_sizes_are_found() {
        let probes: Vec<[i64; 3]> = vec![
            [7, 45, 50],
            [5, 45, 50],
            [6, 45, 50],
            [7, 44, 50],
            [7, 43, 50],
            [7, 45, 49],
            [7, 45, 48],
            [5, 43, 49],
            [6, 44, 47],
            [3, 20, 21],
        ];
        let mut known = Known::default();
        let rows = |n: i64| (n + 1) / 2;
        let sizes = [
            Size::Parameter(0),
            Size::Parameter(1).plus(&Size::Constant(1)).floor(2),
            Size::Parameter(2).plus(&Size::Constant(1)).floor(2),
        ];
        for size in &sizes {
            known.add(size, probes.iter().map(|p| size.value(p)).collect());
        }
        let found = |f: &dyn Fn(&[i64; 3]) -> i64| known.composed(&probes.iter().map(f).collect::<Vec<_>>(), false);
        let functions: [fn(&[i64; 3]) -> i64; 6] = [
            |p| 5 * p[0] - 3 * ((p[2] + 1) / 2) + 9,
            |p| p[0] * ((p[1] + 1) / 2) * ((p[2] + 1) / 2),
            |p| 1 + ((p[1] + 1) / 2) * ((p[2] + 1) / 2),
            |p| 3 * p[0] * ((p[1] + 1) / 2),
            |p| (p[1] + 1) / 2 + (p[2] + 1) / 2,
            |p| 4 * ((p[1] + 1) / 2) * ((p[2] + 1) / 2) + 2,
        ];
        for f in functions {
            let size = found(&f).unwrap();
            assert!((1..9).all(|b| (1..30).all(|h| (1..30).all(|w| size.value(&[b, h, w]) == f(&[b, h, w])))), "{size}");
        }
        assert_eq!(found(&|p| p[0] * p[1] + rows(p[2]) * p[0] * p[0]), None);
        assert_eq!(found(&|p| p[1].max(p[2])), None);
    }
}

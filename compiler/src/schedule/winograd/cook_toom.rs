//! The matrices of F(m, r), which gives `m` outputs of `r` taps from `m + r - 1` products, and weights under them.
//!
//! After Cook and Toom, transposed as by Winograd: `y = A ((G g) * (B d))`. The points decide the rounding: 0, ±3/4, ±3/2 and
//! infinity keep F(4, 3) near the error of the direct sum, where the usual 0, ±1, ±2 lose a digit. All constants but those of
//! `G`, which only touches weights, are exact in `f32`, and every row of `B` has a leading 1.

/// Most products of one dimension.
const MAX_PRODUCTS: usize = 8;

/// The matrices of one dimension, by rows.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct CookToom {
    /// Outputs.
    pub(super) m: usize,
    /// Taps.
    pub(super) r: usize,
    /// `m` rows that make outputs of products.
    pub(super) output: Vec<Vec<f64>>,
    /// A row for each product: what it takes of the input.
    pub(super) input: Vec<Vec<f64>>,
    /// A row for each product: what it takes of the taps.
    pub(super) taps: Vec<Vec<f64>>,
}

impl CookToom {
    /// F(m, r), if there are good points for it. F(1, r) is the direct sum.
    pub(super) fn new(m: usize, r: usize) -> Option<Self> {
        if m == 1 {
            let identity: Vec<Vec<f64>> = (0..r).map(|i| (0..r).map(|j| f64::from(u8::from(i == j))).collect()).collect();
            return Some(CookToom { m, r, output: vec![vec![1.0; r]], input: identity.clone(), taps: identity });
        }
        let points: &[f64] = match (m + r).checked_sub(1)? {
            4 => &[0.0, 1.0, -1.0],
            6 => &[0.0, 0.75, -0.75, 1.5, -1.5],
            _ => return None,
        };
        let n = points.len() + 1;
        let power = |x: f64, e: usize| x.powi(i32::try_from(e).unwrap_or(i32::MAX));
        let last = |i: usize, of: usize| if i + 1 == of { 1.0 } else { 0.0 };
        let output = (0..m).map(|i| points.iter().map(|&p| power(p, i)).chain([last(i, m)]).collect()).collect();
        let others = |j: usize| points.iter().enumerate().filter(move |&(l, _)| l != j).map(|(_, &p)| p);
        let input = (0..n).map(|j| with_roots(others(j), n)).collect();
        let taps = (0..n)
            .map(|j| match points.get(j) {
                Some(&p) => {
                    let scale: f64 = others(j).map(|q| p - q).product();
                    (0..r).map(|k| power(p, k) / scale).collect()
                }
                None => (0..r).map(|k| last(k, r)).collect(),
            })
            .collect();
        Some(CookToom { m, r, output, input, taps })
    }

    /// Products.
    pub(super) fn n(&self) -> usize {
        self.input.len()
    }

    /// Whether product `j` and the next belong to points of opposite signs.
    pub(super) fn is_pair(&self, j: usize) -> bool {
        self.m > 1 && j % 2 == 1 && j + 2 < self.n()
    }
}

/// The coefficients of the polynomial with these roots and leading 1, as `n` numbers.
fn with_roots(roots: impl Iterator<Item = f64>, n: usize) -> Vec<f64> {
    let mut c = vec![0.0; n];
    c[0] = 1.0;
    for root in roots {
        for k in (0..n).rev() {
            let shifted = if k > 0 { c[k - 1] } else { 0.0 };
            c[k] = shifted - root * c[k];
        }
    }
    c
}

/// Where the weights of a convolution are: strides in elements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Weights<'w> {
    /// The elements.
    pub(super) values: &'w [f32],
    /// The first, of channel 0 and column 0.
    pub(super) base: i64,
    /// Between columns.
    pub(super) column: i64,
    /// Between channels.
    pub(super) channel: i64,
    /// Between taps of each dimension.
    pub(super) taps: [i64; 2],
}

impl Weights<'_> {
    /// The weights of some columns under both transforms, `[product][channel][column]`; computed in `f64` and rounded once.
    /// Columns past `n_columns` are zero, up to `width`.
    pub(super) fn transformed(
        &self,
        (y, x): (&CookToom, &CookToom),
        channels: usize,
        columns: std::ops::Range<usize>,
        width: usize,
    ) -> Vec<f32> {
        let plane = channels * width;
        let mut out = vec![0f32; y.n() * x.n() * plane];
        for channel in 0..channels {
            for (at, column) in columns.clone().enumerate() {
                let base = self.base + channel as i64 * self.channel + column as i64 * self.column;
                // Taps of `x` under its transform, for each tap of `y`.
                let mut rows = [[0f64; MAX_PRODUCTS]; MAX_PRODUCTS];
                for (i, row) in rows.iter_mut().enumerate().take(y.r) {
                    let mut taps = [0f64; MAX_PRODUCTS];
                    for (k, tap) in taps.iter_mut().enumerate().take(x.r) {
                        *tap = f64::from(self.values[(base + i as i64 * self.taps[0] + k as i64 * self.taps[1]) as usize]);
                    }
                    for (to, of) in row.iter_mut().zip(&x.taps) {
                        *to = of.iter().zip(&taps).map(|(a, b)| a * b).sum();
                    }
                }
                let mut to = channel * width + at;
                for of in &y.taps {
                    for l in 0..x.n() {
                        let sum: f64 = of.iter().zip(&rows).map(|(a, row)| a * row[l]).sum();
                        out[to] = sum as f32;
                        to += plane;
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rows: &[Vec<f64>], v: &[f64]) -> Vec<f64> {
        rows.iter().map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
    }

    #[test]
    fn the_matrices_filter() {
        for (m, r) in [(2, 3), (4, 3), (1, 1), (1, 3), (3, 2), (2, 5)] {
            let f = CookToom::new(m, r).unwrap();
            let data: Vec<f64> = (0..m + r - 1).map(|i| (i * i % 7) as f64 - 2.5).collect();
            let taps: Vec<f64> = (0..r).map(|i| 1.25 - i as f64 * 0.5).collect();
            let products: Vec<f64> = times(&f.input, &data).iter().zip(times(&f.taps, &taps)).map(|(a, b)| a * b).collect();
            for (i, y) in times(&f.output, &products).into_iter().enumerate() {
                let want: f64 = (0..r).map(|k| data[i + k] * taps[k]).sum();
                assert!((y - want).abs() < 1e-12, "F({m}, {r})");
            }
        }
        assert_eq!(CookToom::new(3, 3), None);
    }

    #[test]
    fn constants_of_data_are_exact_and_pairs_mirror() {
        for m in [2, 4] {
            let f = CookToom::new(m, 3).unwrap();
            assert!(f.input.iter().chain(&f.output).flatten().all(|&c| f64::from(c as f32) == c));
            for j in (0..f.n()).filter(|&j| f.is_pair(j)) {
                for (k, (a, b)) in f.input[j].iter().zip(&f.input[j + 1]).enumerate() {
                    assert_eq!(*a, if k % 2 == 0 { *b } else { -*b });
                }
            }
        }
    }

    #[test]
    fn weights_are_transformed_once_in_each_dimension() {
        let values: Vec<f32> = (0..2 * 3 * 9).map(|i| (i % 11) as f32 - 4.0).collect();
        let w = Weights { values: &values, base: 0, column: 9, channel: 18, taps: [3, 1] };
        let (y, x) = (CookToom::new(4, 3).unwrap(), CookToom::new(2, 3).unwrap());
        let out = w.transformed((&y, &x), 3, 1..2, 4);
        for (p, q, channel) in [(0, 0, 0), (5, 3, 2), (2, 1, 1)] {
            let mut want = 0.0;
            for i in 0..3 {
                for k in 0..3 {
                    want += y.taps[p][i] * x.taps[q][k] * f64::from(values[9 + 18 * channel + 3 * i + k]);
                }
            }
            let at = ((p * 4 + q) * 3 + channel) * 4;
            assert!((f64::from(out[at]) - want).abs() < 1e-6);
            assert_eq!(out[at + 1..at + 4], [0.0; 3]);
        }
    }
}

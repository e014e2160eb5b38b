//! The bilinear forms of one side of a tile: `m` outputs of `r` taps by fewer products, and weights under them.
//!
//! `y = A ((G g) * (B d))`. At stride 1 this is F(m, r) after Cook and Toom, transposed as by Winograd. The points decide the
//! rounding: 0, ±3/4, ±3/2 and infinity keep F(4, 3) near the error of the direct sum, where the usual 0, ±1, ±2 lose a digit;
//! ±1/2, ±5/4 and infinity keep F(4, 2) below it. Taps that lie a stride apart only meet samples that do: a larger stride is one
//! such form for each phase of the samples, and outputs are sums of what they give. All constants but those of `G`, which only
//! touches weights, are exact in `f32`, and every row of `B` has a leading 1.

/// Most products of one side.
const MAX_PRODUCTS: usize = 12;

/// The form of one side, its matrices by rows. It reads as many samples of the input as it has products.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Form {
    /// Outputs.
    pub(super) m: usize,
    /// Taps.
    pub(super) r: usize,
    /// Samples between the first taps of two outputs.
    pub(super) stride: usize,
    /// `m` rows that make outputs of products.
    pub(super) output: Vec<Vec<f64>>,
    /// A row for each product: what it takes of the input.
    pub(super) input: Vec<Vec<f64>>,
    /// A row for each product: what it takes of the taps.
    pub(super) taps: Vec<Vec<f64>>,
    /// Whether each product and the next belong to points of opposite signs.
    pairs: Vec<bool>,
}

/// The points of so many products but infinity, those of opposite signs next to each other.
fn points(n: usize) -> Option<&'static [f64]> {
    match n {
        3 => Some(&[0.0, 1.0]),
        4 => Some(&[0.0, 1.0, -1.0]),
        5 => Some(&[0.5, -0.5, 1.25, -1.25]),
        6 => Some(&[0.0, 0.75, -0.75, 1.5, -1.5]),
        _ => None,
    }
}

fn identity(n: usize) -> Vec<Vec<f64>> {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

impl Form {
    /// The form of so many outputs and taps at a stride, if there are good points for it. One output is the direct sum.
    pub(super) fn new(m: usize, r: usize, stride: usize) -> Option<Self> {
        let form = match (m, stride) {
            (1, _) => {
                let [input, taps] = [identity(r), identity(r)];
                Form { m, r, stride, output: vec![vec![1.0; r]], input, taps, pairs: vec![false; r] }
            }
            (_, 1) => Self::cook_toom(m, r)?,
            _ => Self::by_phases(m, r, stride)?,
        };
        (form.n() <= MAX_PRODUCTS).then_some(form)
    }

    /// F(m, r).
    fn cook_toom(m: usize, r: usize) -> Option<Self> {
        if r == 1 {
            let (pairs, taps) = (vec![false; m], vec![vec![1.0]; m]);
            return Some(Form { m, r, stride: 1, output: identity(m), input: identity(m), taps, pairs });
        }
        let points = points((m + r).checked_sub(1)?)?;
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
        let pairs = (0..n).map(|j| matches!(points.get(j..j + 2), Some([a, b]) if *a > 0.0 && *a == -b)).collect();
        Some(Form { m, r, stride: 1, output, input, taps, pairs })
    }

    /// The sum of a form of stride 1 for each phase: taps `p`, `p + stride`, ... read samples `p`, `p + stride`, ...
    fn by_phases(m: usize, r: usize, stride: usize) -> Option<Self> {
        let n = stride * (m - 1) + r;
        let spread = |row: &[f64], phase: usize, len: usize| {
            let mut out = vec![0.0; len];
            row.iter().enumerate().for_each(|(k, &c)| out[phase + k * stride] = c);
            out
        };
        let mut form = Form { m, r, stride, output: vec![vec![]; m], input: vec![], taps: vec![], pairs: vec![] };
        for phase in 0..stride {
            let part = Self::cook_toom(m, r.checked_sub(phase)?.div_ceil(stride))?;
            form.input.extend(part.input.iter().map(|row| spread(row, phase, n)));
            form.taps.extend(part.taps.iter().map(|row| spread(row, phase, r)));
            form.output.iter_mut().zip(part.output).for_each(|(row, more)| row.extend(more));
            form.pairs.extend(part.pairs);
        }
        Some(form)
    }

    /// Products, which are as many as the samples that a tile reads.
    pub(super) fn n(&self) -> usize {
        self.input.len()
    }

    /// Samples between the first ones of two tiles.
    pub(super) fn step(&self) -> usize {
        self.m * self.stride
    }

    /// Samples that so many adjacent tiles read.
    pub(super) fn window(&self, tiles: usize) -> usize {
        self.step() * (tiles - 1) + self.n()
    }

    /// Whether product `j` and the next belong to points of opposite signs.
    pub(super) fn is_pair(&self, j: usize) -> bool {
        self.pairs[j]
    }

    /// Additions of the transform of a window of the input.
    pub(super) fn n_input_adds(&self) -> usize {
        let terms = |row: &[f64], with: &[f64], sign: f64| row.iter().zip(with).filter(|(a, b)| **a != 0.0 && **a == sign * **b).count();
        let of = |j: usize| match j.checked_sub(1) {
            Some(before) if self.is_pair(before) => 0,
            _ if self.is_pair(j) => [1.0, -1.0].map(|sign| terms(&self.input[j], &self.input[j + 1], sign)).iter().sum(),
            _ => terms(&self.input[j], &self.input[j], 1.0) - 1,
        };
        (0..self.n()).map(of).sum()
    }

    /// Additions of the transform of products into outputs.
    pub(super) fn n_output_adds(&self) -> usize {
        let second = |j: usize| j > 0 && self.is_pair(j - 1);
        let terms = |row: &[f64]| (0..self.n()).filter(|&j| row[j] != 0.0 && !second(j)).count();
        2 * self.pairs.iter().filter(|p| **p).count() + self.output.iter().map(|row| terms(row) - 1).sum::<usize>()
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
    pub(super) fn transformed(&self, (y, x): (&Form, &Form), channels: usize, columns: std::ops::Range<usize>, width: usize) -> Vec<f32> {
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
        let forms = [(2, 3, 1), (3, 3, 1), (4, 3, 1), (1, 1, 1), (1, 3, 1), (3, 2, 1), (2, 5, 1), (4, 1, 1)];
        let strided = [(1, 3, 2), (2, 3, 2), (3, 3, 2), (4, 3, 2), (2, 5, 2), (3, 5, 2), (2, 7, 2), (2, 2, 2), (2, 4, 3)];
        for (m, r, stride) in forms.into_iter().chain(strided) {
            let f = Form::new(m, r, stride).unwrap();
            assert_eq!((f.n(), f.step()), (stride * (m - 1) + r, stride * m));
            let data: Vec<f64> = (0..f.n()).map(|i| (i * i % 7) as f64 - 2.5).collect();
            let taps: Vec<f64> = (0..r).map(|i| 1.25 - i as f64 * 0.5).collect();
            let products: Vec<f64> = times(&f.input, &data).iter().zip(times(&f.taps, &taps)).map(|(a, b)| a * b).collect();
            for (i, y) in times(&f.output, &products).into_iter().enumerate() {
                let want: f64 = (0..r).map(|k| data[stride * i + k] * taps[k]).sum();
                assert!((y - want).abs() < 1e-12, "F({m}, {r}) at stride {stride}");
            }
        }
        assert_eq!(Form::new(5, 3, 1), None);
        assert_eq!(Form::new(2, 1, 2), None);
    }

    #[test]
    fn constants_of_data_are_exact_and_pairs_mirror() {
        let mut pairs = vec![];
        for (m, stride) in [(2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 2)] {
            let f = Form::new(m, 3, stride).unwrap();
            assert!(f.input.iter().chain(&f.output).flatten().all(|&c| f64::from(c as f32) == c));
            for j in (0..f.n()).filter(|&j| f.is_pair(j)) {
                for (i, row) in f.output.iter().enumerate() {
                    assert_eq!(row[j], if i % 2 == 0 { row[j + 1] } else { -row[j + 1] });
                }
                for (a, b) in f.input[j].iter().zip(&f.input[j + 1]) {
                    assert_eq!(a.abs(), b.abs());
                }
            }
            pairs.push((0..f.n()).filter(|&j| f.is_pair(j)).collect::<Vec<_>>());
        }
        assert_eq!(pairs, [&[1][..], &[0, 2], &[1, 3], &[], &[1], &[0, 2]]);
    }

    #[test]
    fn additions_are_counted() {
        let adds = |m, stride| Form::new(m, 3, stride).map(|f| (f.n_input_adds(), f.n_output_adds())).unwrap();
        assert_eq!([(1, 1), (2, 1), (4, 1)].map(|(m, s)| adds(m, s)), [(0, 2), (4, 4), (12, 10)]);
        assert_eq!([(1, 2), (2, 2), (3, 2), (4, 2)].map(|(m, s)| adds(m, s)), [(0, 2), (2, 4), (4, 7), (10, 13)]);
    }

    #[test]
    fn weights_are_transformed_once_in_each_dimension() {
        let values: Vec<f32> = (0..2 * 3 * 9).map(|i| (i % 11) as f32 - 4.0).collect();
        let w = Weights { values: &values, base: 0, column: 9, channel: 18, taps: [3, 1] };
        let (y, x) = (Form::new(4, 3, 1).unwrap(), Form::new(2, 3, 1).unwrap());
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

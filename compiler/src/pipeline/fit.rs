//! Functions of a run's parameters from values at some of them: what is a number at every probe becomes a [`Size`].

use crate::tensor::Size;

/// The largest divisor that is looked for.
const MAX_DIVISOR: i64 = 64;

/// Where the values were taken: the first probe is the one that others are compared with.
#[derive(Clone, Debug)]
pub(super) struct Fitter {
    /// The parameters of each probe.
    pub(super) probes: Vec<Vec<i64>>,
}

impl Fitter {
    /// `None` for a number; the function of the parameters that has these values; an error where no function is found.
    pub(super) fn fit(&self, values: &[i64]) -> Result<Option<Size>, String> {
        let (&base, at) = (&values[0], &self.probes[0]);
        if values.iter().all(|v| *v == base) {
            return Ok(None);
        }
        let n = at.len();
        // Probes that differ from the first in one parameter only.
        let along = |p: usize| (0..values.len()).filter(move |&i| (0..n).all(|q| q == p || self.probes[i][q] == at[q]));
        let mut slopes = vec![0; n];
        let mut moving = vec![];
        for (p, slope) in slopes.iter_mut().enumerate() {
            let points: Vec<(i64, i64)> = along(p).map(|i| (self.probes[i][p], values[i])).collect();
            if points.iter().any(|x| x.1 != base) {
                moving.push(p);
                let other = points.iter().find(|x| x.0 != at[p]).copied().unwrap_or((at[p] - 1, base));
                *slope = (base - other.1) / (at[p] - other.0);
            }
        }
        let linear = slopes.iter().enumerate().fold(Size::Constant(0), |sum, (p, &c)| sum.plus(&Size::Parameter(p as u32).times(c)));
        let linear = linear.plus(&Size::Constant(base - linear.value(at)));
        if self.holds(&linear, values) {
            return Ok(Some(linear));
        }
        if let [p] = moving[..] {
            let common = values.iter().fold(0, |g, &v| gcd(g, v.abs())).max(1);
            let points: Vec<(i64, i64)> = self.probes.iter().zip(values).map(|(at, &v)| (at[p], v / common)).collect();
            if let Some(size) = quotient(p as u32, &points).map(|s| s.times(common)).filter(|s| self.holds(s, values)) {
                return Ok(Some(size));
            }
        }
        let told: Vec<String> = self.probes.iter().zip(values).take(4).map(|(at, v)| format!("{v} for {at:?}")).collect();
        Err(format!("{}: not a sum of multiples, nor a quotient, of the sizes", told.join(", ")))
    }

    fn holds(&self, size: &Size, values: &[i64]) -> bool {
        self.probes.iter().zip(values).all(|(at, &v)| size.value(at) == v)
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `(a * p + b) / d` through all points; every remainder must be among them, so that there is no other.
fn quotient(p: u32, points: &[(i64, i64)]) -> Option<Size> {
    let (first, last) = (points.iter().min()?, points.iter().max()?);
    for d in 2..=MAX_DIVISOR {
        let mut seen: Vec<i64> = points.iter().map(|x| x.0.rem_euclid(d)).collect();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() < d as usize {
            continue;
        }
        let slope = d * (last.1 - first.1) / (last.0 - first.0).max(1);
        for a in (slope - 1).max(1)..=slope + 1 {
            // d * v <= a * x + b < d * (v + 1)
            let low = points.iter().map(|&(x, v)| d * v - a * x).max()?;
            let high = points.iter().map(|&(x, v)| d * (v + 1) - 1 - a * x).min()?;
            if low <= high {
                return Some(Size::Parameter(p).times(a).plus(&Size::Constant(low)).floor(d));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitter() -> Fitter {
        let mut probes: Vec<Vec<i64>> = (0..9).map(|i| vec![7, 101 - i]).collect();
        probes.extend([vec![7, 20], vec![6, 101], vec![2, 101], vec![3, 50]]);
        Fitter { probes }
    }

    #[test]
    fn sums_and_quotients_are_found_and_products_refused() {
        let fitter = fitter();
        let fit = |f: &dyn Fn(i64, i64) -> i64| fitter.fit(&fitter.probes.iter().map(|p| f(p[0], p[1])).collect::<Vec<_>>());
        assert_eq!(fit(&|_, _| 5), Ok(None));
        let text = |s: Result<Option<Size>, String>| s.unwrap().unwrap().to_string();
        assert_eq!(text(fit(&|_, s| 2 * s + 1)), "(2 * p1 + 1)");
        assert_eq!(text(fit(&|b, s| 3 * b + s - 2)), "((3 * p0 + p1) + -2)");
        let halved = fit(&|_, s| (s + 3) / 4).unwrap().unwrap();
        assert!((1..200).all(|s| halved.value(&[1, s]) == (s + 3) / 4), "{halved}");
        let rows = fit(&|_, s| 6 * ((s + 1) / 2)).unwrap().unwrap();
        assert!((1..200).all(|s| rows.value(&[1, s]) == 6 * ((s + 1) / 2)), "{rows}");
        assert!(fit(&|b, s| b * s).is_err());
    }
}

//! Rounded quotients of a size, `unit * floor((a * x + b) / d)`, from their values at some points: all that agree with the points are
//! held against each other, and where they differ is what to ask next.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::fit::gcd;

/// The largest divisor of a size itself.
const MAX_DIVISOR: i64 = 1 << 12;
/// The largest divisor of a multiple of a size.
const MAX_DIVISOR_OF_MULTIPLE: i64 = 64;
/// So many functions are held against each other at once.
const MAX_COMPARED: usize = 96;
/// At so many points at first.
const SAMPLED: i64 = 512;
/// The most points that are asked for at once.
const ASKED: usize = 3;

/// `unit * floor((times * x + plus) / over)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quotient {
    /// The factor of the rounded quotient.
    pub(super) unit: i64,
    /// The factor of `x`.
    pub(super) times: i64,
    /// What is added to that.
    pub(super) plus: i64,
    /// What it is divided by, at least 1.
    pub(super) over: i64,
}

impl Quotient {
    /// The value at `x`.
    pub(super) fn value(&self, x: i64) -> i64 {
        (self.times * x + self.plus).div_euclid(self.over) * self.unit
    }
}

/// What is known of a function that may be a quotient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Search {
    /// No quotient has these values.
    Nothing,
    /// All quotients with these values are this one, for every `x`.
    Found(Quotient),
    /// The first of several with these values: no usable point would tell.
    Likely(Quotient),
    /// Values at these points would tell.
    Open(Vec<i64>),
}

/// Finds the quotient that has these values `(x, value)`, of all `x` of a range; only `usable` points can be asked for.
///
/// One is found where every remainder is among the points between the least and the greatest value and no other divisor has the same values;
/// or, where every one is among all points or no other has the same values, where both sides of two steps of it were seen. With every
/// remainder among all points, but another divisor that no usable point tells apart, it is likely.
pub(super) fn search(points: &[(i64, i64)], range: RangeInclusive<i64>, usable: &dyn Fn(i64) -> bool) -> Search {
    let Candidates { some: candidates, too_many, of_size } = candidates(points);
    let seen: BTreeSet<i64> = points.iter().map(|p| p.0).collect();
    // Points of the least or the greatest value may be behind an end of the function.
    let values = || points.iter().map(|p| p.1);
    let (least, most) = (values().min(), values().max());
    let between: BTreeSet<i64> = points.iter().filter(|p| ![least, most].contains(&Some(p.1))).map(|p| p.0).collect();
    let whole = |seen: &BTreeSet<i64>| {
        let is_whole = |q: &&Quotient| seen.iter().map(|x| x.rem_euclid(q.over)).collect::<BTreeSet<i64>>().len() as i64 == q.over;
        candidates.iter().filter(is_whole).min_by_key(|q| (q.over, -q.unit.abs())).copied()
    };
    // Where one differs from what else has the values, of those that divide the size itself.
    let rivals = |found: Quotient| telling(&[&[found], &of_size[..]].concat(), &range, points, usable);
    if let Some(found) = whole(&between) {
        return match rivals(found) {
            None => Search::Found(found),
            Some(asked) if asked.is_empty() => Search::Nothing,
            Some(asked) => Search::Open(asked),
        };
    }
    let first = match (whole(&seen), candidates.first()) {
        (Some(whole), _) => match rivals(whole) {
            None => whole,
            Some(asked) if asked.is_empty() => return Search::Likely(whole),
            Some(asked) => return Search::Open(asked),
        },
        (None, None) => return Search::Nothing,
        (None, Some(&first)) => match telling(&candidates, &range, points, usable) {
            Some(asked) if !asked.is_empty() => return Search::Open(asked),
            None if !too_many => first,
            // They differ, where nothing can be asked.
            _ => return Search::Nothing,
        },
    };
    let steps: Vec<i64> = (range.start() + 1..=*range.end())
        .filter(|&x| first.value(x) != first.value(x - 1) && [x - 1, x].iter().all(|&x| usable(x) || seen.contains(&x)))
        .collect();
    let is_seen = |x: &i64| seen.contains(x) && seen.contains(&(x - 1));
    if steps.iter().filter(|x| is_seen(x)).count() >= steps.len().min(2) {
        return Search::Found(first);
    }
    let ends = steps.first().into_iter().chain(steps.last());
    Search::Open(ends.flat_map(|&x| [x - 1, x]).filter(|x| !seen.contains(x)).collect())
}

/// Quotients that have some values, for each divisor those with the least, a middle and the greatest `plus`.
#[derive(Default)]
struct Candidates {
    some: Vec<Quotient>,
    /// Whether there are more.
    too_many: bool,
    /// All that divide the size itself.
    of_size: Vec<Quotient>,
}

fn candidates(points: &[(i64, i64)]) -> Candidates {
    let (Some(&first), Some(&last)) = (points.iter().min(), points.iter().max()) else { return Candidates::default() };
    let common = points.iter().fold(0, |g, p| gcd(g, p.1.abs()));
    let (dx, rises) = (last.0 - first.0, last.1 - first.1);
    if common == 0 || rises == 0 {
        return Candidates::default();
    }
    let mut found: BTreeMap<(i64, i64), Vec<Quotient>> = BTreeMap::new();
    let mut of_unit = |unit: i64| {
        let dv = rises / unit;
        let mut add = |times: i64, over: i64| {
            // over * v <= times * x + plus < over * (v + 1)
            let low = points.iter().map(|&(x, v)| over * (v / unit) - times * x).max().unwrap_or(0);
            let high = points.iter().map(|&(x, v)| over * (v / unit + 1) - 1 - times * x).min().unwrap_or(0);
            let quotient = |plus: i64| Quotient { unit, times, plus, over };
            if low <= high {
                let mut list: Vec<Quotient> = [low, (low + high).div_euclid(2), high].map(quotient).to_vec();
                list.dedup();
                found.insert((-unit.abs(), over * MAX_DIVISOR + times), list);
            }
        };
        let most = if dv > 1 { (dx - 1) / (dv - 1) } else { MAX_DIVISOR };
        ((dx + 1) / (dv + 1)..=most.min(MAX_DIVISOR)).filter(|&over| over > 1).for_each(|over| add(1, over));
        for over in 2..=MAX_DIVISOR_OF_MULTIPLE {
            let slope = over * dv / dx.max(1);
            ((slope - 1).max(2)..=slope + 1).filter(|&times| gcd(times, over) == 1).for_each(|times| add(times, over));
        }
    };
    let divisors = (1..).take_while(|d| d * d <= common).filter(|d| common % d == 0).flat_map(|d| [d, common / d]);
    divisors.collect::<BTreeSet<i64>>().into_iter().for_each(|unit| of_unit(unit * rises.signum()));
    let n = found.len();
    let every = (3 * n).div_ceil(MAX_COMPARED).max(1);
    let of_size = found.values().flatten().filter(|q| q.times == 1).copied().collect();
    Candidates { some: found.into_values().step_by(every).flatten().collect(), too_many: every > 1, of_size }
}

/// Usable points at which functions differ, the most telling first; `None` if they are the same at all points of the range.
fn telling(functions: &[Quotient], range: &RangeInclusive<i64>, points: &[(i64, i64)], usable: &dyn Fn(i64) -> bool) -> Option<Vec<i64>> {
    let every = ((range.end() - range.start()) / SAMPLED).max(1);
    let differ = |x: &i64| functions.iter().any(|f| f.value(*x) != functions[0].value(*x));
    let sampled = |every: i64| range.clone().step_by(every as usize).filter(differ).collect::<Vec<i64>>();
    let mut at = sampled(every);
    let can_ask = |x: &i64| usable(*x) && points.iter().all(|p| p.0 != *x);
    if every > 1 && !at.iter().any(can_ask) {
        at = sampled(1);
    }
    if at.is_empty() {
        return None;
    }
    let mut classes: Vec<Vec<i64>> = vec![vec![]; functions.len()];
    let mut asked: Vec<i64> = vec![];
    let mut largest = functions.len();
    while asked.len() < ASKED {
        let left = |x: i64| {
            let mut n: BTreeMap<(&[i64], i64), usize> = BTreeMap::new();
            functions.iter().zip(&classes).for_each(|(f, class)| *n.entry((class, f.value(x))).or_default() += 1);
            n.into_values().max().unwrap_or(0)
        };
        let Some((n, x)) = at.iter().copied().filter(can_ask).map(|x| (left(x), x)).min() else { break };
        if n >= largest {
            break;
        }
        largest = n;
        functions.iter().zip(&mut classes).for_each(|(f, class)| class.push(f.value(x)));
        asked.push(x);
    }
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (fn(i64) -> i64, RangeInclusive<i64>);

    /// Asks for values of a function until it is found; with the number of points that it took.
    fn asked(f: &dyn Fn(i64) -> i64, range: RangeInclusive<i64>) -> (Option<Quotient>, usize) {
        let (low, high) = (*range.start(), *range.end());
        let mut xs = BTreeSet::from([high, high - 1, high - 2, (low + high) / 2, (3 * low + high) / 4]);
        loop {
            let points: Vec<(i64, i64)> = xs.iter().map(|&x| (x, f(x))).collect();
            match search(&points, range.clone(), &|x| x >= (3 * low + high) / 4 && x >= 3 && x & (x - 1) != 0) {
                Search::Nothing => return (None, xs.len()),
                Search::Found(q) | Search::Likely(q) => return (Some(q), xs.len()),
                Search::Open(more) => {
                    assert!(!more.is_empty() && more.iter().all(|x| !xs.contains(x) && range.contains(x)), "{more:?}");
                    xs.extend(more);
                }
            }
        }
    }

    #[test]
    fn quotients_are_found_with_few_points() {
        let known: [Case; 9] = [
            (|x| (x + 80) / 160, 1600..=16000),
            (|x| (x - 400) / 160 + 1, 1600..=16000),
            (|x| 3 * (x / 512), 1000..=9000),
            (|x| 100 - 5 * ((x + 3) / 8), 1..=160),
            (|x| (11 * x + 15) / 16, 100..=16000),
            (|x| (x + 7) / 8, 32..=640),
            (|x| 480 * ((x + 15) / 16), 32..=640),
            (|x| x / 2000, 1600..=16000),
            (|x| (x + 1) / 2, 3..=20),
        ];
        for (f, range) in known {
            let (found, n) = asked(&f, range.clone());
            let found = found.unwrap_or_else(|| panic!("{range:?}"));
            assert!(range.clone().all(|x| found.value(x) == f(x)), "{found:?} for {range:?}");
            assert!(n <= 30, "{n} points for {range:?}");
        }
    }

    #[test]
    fn what_is_no_quotient_is_not_taken_for_one() {
        let unknown: [Case; 5] = [
            (|x| x.min(30), 1..=101),
            (|x| x / 160 + x / 100, 1600..=16000),
            (|x| x * x / 50, 20..=400),
            (|x| x / 7 * 2 + x / 3, 20..=400),
            (|x| x / 10 + i64::from(x > 200), 20..=400),
        ];
        for (f, range) in unknown {
            if let (Some(found), _) = asked(&f, range.clone()) {
                assert!(range.clone().all(|x| found.value(x) == f(x)), "{found:?} for {range:?}");
            }
        }
    }

    #[test]
    fn all_remainders_of_one_divisor_do_not_exclude_another() {
        // A ninth, of which 7, 8 and 16 would tell that it is no eighth.
        let f = |x: i64| (x + 11) / 9;
        let known = |x: &i64| ![7, 8, 16].contains(x);
        let points: Vec<(i64, i64)> = (6..=29).filter(known).map(|x| (x, f(x))).collect();
        assert!(points.iter().all(|&(x, v)| v == (x + 7) / 8));
        assert_eq!(search(&points, 1..=29, &|x| known(&x) && x > 5), Search::Nothing);
        let Search::Open(asked) = search(&points, 1..=29, &|x| x > 5) else { panic!("a question") };
        assert!(!asked.is_empty() && asked.iter().all(|x| !known(x)), "{asked:?}");
    }

    #[test]
    fn remainders_behind_an_end_tell_nothing() {
        // A slice from 3 to 25 in steps of 3.
        let f = |x: i64| ((x.min(25) - 3).max(0) + 2) / 3;
        let points: Vec<(i64, i64)> = [29, 28, 27, 15, 9, 6].map(|x| (x, f(x))).to_vec();
        assert!(!matches!(search(&points, 1..=29, &|x| x > 2), Search::Found(_)));
    }
}

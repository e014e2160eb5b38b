//! Lines that end at a least or a greatest number, `min(max(slope * x + plus, least), most)`, from their values at some points.

use std::ops::RangeInclusive;

/// A line and its ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// What one step adds.
    pub(super) slope: i64,
    /// The value of the line at 0.
    pub(super) plus: i64,
    /// No value is less.
    pub(super) least: Option<i64>,
    /// No value is greater.
    pub(super) most: Option<i64>,
}

impl Line {
    fn at(&self, x: i64) -> i64 {
        self.slope * x + self.plus
    }

    fn value(&self, x: i64) -> i64 {
        let value = self.least.map_or(self.at(x), |least| self.at(x).max(least));
        self.most.map_or(value, |most| value.min(most))
    }
}

/// What is known of a function that may be such a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Bent {
    /// No such line has these values.
    Nothing,
    /// This one, which was seen on both sides of its bends.
    Found(Line),
    /// Values at these points would tell.
    Open(Vec<i64>),
}

/// Finds the line that has these values `(x, value)`, of all `x` of a range; only `usable` points can be asked for.
///
/// One is found where two of its points are seen, points of every end that it has as near to the bends as points are usable, and those
/// where the range begins.
pub(super) fn bent(points: &[(i64, i64)], range: RangeInclusive<i64>, usable: &dyn Fn(i64) -> bool) -> Bent {
    let mut sorted = points.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let (Some(&first), Some(&last)) = (sorted.first(), sorted.last()) else { return Bent::Nothing };
    let rises = (last.1 - first.1).signum();
    if rises == 0 || sorted.windows(2).any(|w| w[0].0 == w[1].0 || (w[1].1 - w[0].1).signum() == -rises) {
        return Bent::Nothing;
    }
    let before = sorted.iter().take_while(|p| p.1 == first.1).count();
    let behind = sorted.iter().rev().take_while(|p| p.1 == last.1).count();
    // A single point at an end is one of the line, if it can be.
    let (mut before, mut behind) = (if before > 1 { before } else { 0 }, if behind > 1 { behind } else { 0 });
    let seen = |x: i64| sorted.iter().any(|p| p.0 == x);
    let slope_of = |list: &[(i64, i64)]| -> Option<i64> {
        let [a, .., b] = list else { return None };
        let slope = (b.1 - a.1) / (b.0 - a.0);
        (slope != 0 && list.iter().all(|p| p.1 - a.1 == slope * (p.0 - a.0))).then_some(slope)
    };
    let inside = |before: usize, behind: usize| sorted.get(before..sorted.len() - behind).unwrap_or_default();
    let ways = [(before, behind), (before.max(1), behind), (before, behind.max(1)), (before.max(1), behind.max(1))];
    let Some((slope, way)) = ways.into_iter().find_map(|w| Some((slope_of(inside(w.0, w.1))?, w))) else {
        // The line may be between the ends, where too little is seen of it.
        let Some(&(before, behind)) = ways.iter().filter(|_| before + behind > 0).find(|w| inside(w.0, w.1).len() < 2) else {
            return Bent::Nothing;
        };
        let (low, high) = (sorted[before.max(1) - 1].0, sorted[sorted.len() - behind.max(1)].0);
        let middle = (low + high) / 2;
        let near = (0..high - low).map(|k| middle + if k % 2 == 0 { k / 2 } else { -(k + 1) / 2 });
        let more: Vec<i64> = near.filter(|&x| low < x && x < high && usable(x) && !seen(x)).take(2).collect();
        return if more.is_empty() { Bent::Nothing } else { Bent::Open(more) };
    };
    (before, behind) = way;
    let inside = inside(before, behind);
    let (a, b) = (&inside[0], &inside[inside.len() - 1]);
    let (start, end) = ((before > 0).then_some(first.1), (behind > 0).then_some(last.1));
    let (least, most) = if slope > 0 { (start, end) } else { (end, start) };
    let line = Line { slope, plus: a.1 - slope * a.0, least, most };
    if (least, most) == (None, None) || sorted.iter().any(|p| line.value(p.0) != p.1) {
        return Bent::Nothing;
    }
    // The points beside a bend, on either side of it, from the first to the last of those that are seen.
    let on_line = |x: i64| line.value(x) == line.at(x);
    let beside = |from: i64, bend: i64, to: i64| -> Vec<i64> {
        let left = (from..bend).rev().find(|&x| seen(x) || usable(x));
        let right = (bend..=to).find(|&x| seen(x) || usable(x));
        left.into_iter().chain(right).filter(|&x| !seen(x)).collect()
    };
    // Where the range begins there may be another end.
    let mut more: Vec<i64> = range.filter(|&x| usable(x)).take(2).filter(|&x| !seen(x)).collect();
    if before > 0 {
        let (from, to) = (sorted[before - 1].0, a.0);
        let bend = (from + 1..=to).find(|&x| on_line(x)).unwrap_or(to);
        more.extend(beside(from, bend, to));
    }
    if behind > 0 {
        let (from, to) = (b.0, sorted[sorted.len() - behind].0);
        let bend = (from..to).rev().find(|&x| on_line(x)).map_or(to, |x| x + 1);
        more.extend(beside(from, bend, to));
    }
    more.sort_unstable();
    more.dedup();
    if more.is_empty() { Bent::Found(line) } else { Bent::Open(more) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for values of a function until it is known what it is.
    fn asked(f: &dyn Fn(i64) -> i64, high: i64) -> Option<Line> {
        let usable = |x: i64| x >= 3 && x <= high && x & (x - 1) != 0;
        let mut xs = vec![high, high - 1, high - 2, high / 2 + 1, high / 4 + 1];
        loop {
            let points: Vec<(i64, i64)> = xs.iter().map(|&x| (x, f(x))).collect();
            match bent(&points, 1..=high, &usable) {
                Bent::Nothing => return None,
                Bent::Found(line) => return Some(line),
                Bent::Open(more) => {
                    assert!(!more.is_empty() && more.iter().all(|x| !xs.contains(x) && usable(*x)), "{more:?} beside {xs:?}");
                    xs.extend(more);
                }
            }
        }
    }

    #[test]
    fn lines_with_ends_are_found() {
        let known: [fn(i64) -> i64; 9] = [
            |x| (x - 5).clamp(0, 79),
            |x| x.min(30),
            |x| (2 * x).min(101),
            |x| (x - 70).max(0),
            |x| (x - 10).clamp(0, 40),
            |x| 6 * x.min(57) - 5,
            |x| (90 - x).max(7),
            |x| (3 * x - 100).max(5),
            |x| (200 - 3 * x).clamp(10, 90),
        ];
        for (i, f) in known.into_iter().enumerate() {
            let line = asked(&f, 101).unwrap_or_else(|| panic!("{i}"));
            assert!((1..=101).all(|x| line.value(x) == f(x)), "{i}: {line:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_not_taken_for_one() {
        let unknown: [fn(i64) -> i64; 4] = [|x| x * x, |x| if x < 40 { x } else { 60 }, |x| x / 3, |x| (x - 50).abs()];
        for (i, f) in unknown.into_iter().enumerate() {
            if let Some(line) = asked(&f, 101) {
                assert!((1..=101).all(|x| line.value(x) == f(x)), "{i}: {line:?}");
            }
        }
    }
}

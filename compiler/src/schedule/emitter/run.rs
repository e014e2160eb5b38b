//! An axis run through in parts: blocks of so many steps, then what is left in smaller ones. Extents that are known when the kernel
//! runs make loops that are live.

use std::ops::Range;

use crate::tensor::Size;

/// A loop over one part.
#[derive(Clone, Debug)]
pub(in crate::schedule) struct Run {
    /// First value, and one past the last.
    pub(in crate::schedule) range: Range<i64>,
    /// Increment.
    pub(in crate::schedule) step: i64,
    /// What of it runs, where that is known only then.
    pub(in crate::schedule) live: Option<(Size, Size)>,
}

impl Run {
    /// Whether there is no iteration in any run.
    pub(in crate::schedule) fn is_never(&self) -> bool {
        self.range.end - self.range.start < self.step
    }
}

/// What is left of an axis.
#[derive(Clone, Debug)]
pub(in crate::schedule) struct Rest {
    from: i64,
    end: i64,
    live: Option<(Size, Size)>,
}

impl Rest {
    /// All of an axis; `bound` is its extent in one run.
    pub(in crate::schedule) fn new(extent: i64, bound: Option<&Size>) -> Self {
        Rest { from: 0, end: extent, live: bound.map(|n| (Size::Constant(0), n.clone())) }
    }

    /// A part of an axis whose extent is fixed.
    pub(in crate::schedule) fn of(range: Range<i64>) -> Self {
        Rest { from: range.start, end: range.end, live: None }
    }

    /// A part of an axis of which `from..to` runs, `from` at most `to`; `range` holds it for all sizes, and begins there if `from` is a
    /// number.
    pub(in crate::schedule) fn live(range: Range<i64>, from: Size, to: Size) -> Self {
        Rest { from: range.start, end: range.end, live: Some((from, to)) }
    }

    /// All but the first elements.
    pub(in crate::schedule) fn after(mut self, n: i64) -> Self {
        self.from += n;
        if let Some((from, to)) = &mut self.live {
            *from = from.plus(&Size::Constant(n));
            *to = to.at_least(self.from);
        }
        self
    }

    /// Whether its length is known when the kernel runs only.
    pub(in crate::schedule) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The most elements that are left.
    pub(in crate::schedule) fn most(&self) -> i64 {
        self.end - self.from
    }

    /// As many steps of this length as there are.
    pub(in crate::schedule) fn take(&mut self, step: i64) -> Run {
        match &mut self.live {
            None => {
                let range = self.from..self.from + (self.end - self.from) / step * step;
                self.from = range.end;
                Run { range, step, live: None }
            }
            Some((from, to)) => {
                let end = if step == 1 { to.clone() } else { from.plus(&to.minus(from).floor(step).times(step)) };
                let run = Run { range: self.from..self.end, step, live: Some((from.clone(), end.clone())) };
                if !run.is_never() {
                    *from = end;
                }
                run
            }
        }
    }
}

impl Rest {
    /// As many steps of this length as there are, but one less where what would be left after them is little: [`Rest::at_once`] makes
    /// two even ones of it.
    pub(in crate::schedule) fn take_evenly(&mut self, step: i64) -> Run {
        let Some((from, to)) = &self.live else { return self.take(step) };
        let all = to.minus(from);
        let n = all.floor(step);
        let left = all.minus(&n.times(step));
        let little = left.at_most(1).minus(&at_least(&left, little(step)));
        let kept =
            Rest { from: self.from, end: self.end, live: Some((from.clone(), to.minus(&little.product(&n.at_most(1)).times(step)))) };
        let (to, run) = (to.clone(), { kept }.take(step));
        if let (false, Some((_, end))) = (run.is_never(), &run.live) {
            self.live = Some((end.clone(), to));
        }
        run
    }

    /// What is left, fewer than `n` elements or few more, as runs of blocks of each length that there may be: one block, or two whose
    /// lengths are even.
    pub(in crate::schedule) fn at_once(mut self, n: i64) -> Vec<Run> {
        let most = self.most().max(1);
        let Some((from, to)) = &self.live else { return vec![self.take(most)] };
        let left = to.minus(from);
        let of_two = two_blocks(n);
        // Blocks of `k` where `m` elements are left, one of `k` and one of more or of less among them.
        let blocks = |k: i64, m: i64| just(&left, m).times(if m == 2 * k { 2 } else { 1 });
        let run = |k: i64| {
            let pairs = [2 * k - 1, 2 * k, 2 * k + 1].into_iter().filter(|m| of_two.contains(m) && *m <= most);
            let alone = Some(k).filter(|&k| k < n);
            let blocks_of = alone.into_iter().chain(pairs.clone()).fold(Size::Constant(0), |all, m| all.plus(&blocks(k, m)));
            let after = if pairs.clone().any(|m| m == 2 * k + 1) { blocks(k, 2 * k + 1).times(k + 1) } else { Size::Constant(0) };
            let from = from.plus(&after);
            let end = from.plus(&blocks_of.times(k));
            Run { range: self.from..self.end, step: k, live: Some((from, end)) }
        };
        (1..=n).rev().filter(|&k| k < n || of_two.contains(&(2 * k))).map(run).filter(|r| !r.is_never()).collect()
    }

    /// As [`Rest::at_once`], the two blocks by themselves, with which of them it is.
    pub(in crate::schedule) fn one_or_two(mut self, n: i64) -> Vec<(Run, Option<usize>)> {
        let most = self.most().max(1);
        let Some((from, to)) = &self.live else { return vec![(self.take(most), None)] };
        let left = to.minus(from);
        let count = |list: &mut dyn Iterator<Item = i64>| list.fold(Size::Constant(0), |all, m| all.plus(&just(&left, m)));
        let run = |step: i64, from: Size, blocks: Size| {
            let end = from.plus(&blocks.times(step));
            Run { range: self.from..self.end, step, live: Some((from, end)) }
        };
        let pairs = || two_blocks(n).filter(|&m| m <= most);
        let mut runs = vec![];
        for k in (1..=n).rev() {
            let first = || pairs().filter(move |m| m - m / 2 == k);
            if first().next().is_some() {
                runs.push((run(k, from.clone(), count(&mut first())), Some(0)));
            }
            let second = || pairs().filter(move |m| m / 2 == k);
            if second().next().is_some() {
                let after = second().fold(from.clone(), |at, m| at.plus(&just(&left, m).times(m - k)));
                runs.push((run(k, after, count(&mut second())), Some(1)));
            }
            if k < n {
                runs.push((run(k, from.clone(), just(&left, k)), None));
            }
        }
        runs.retain(|r| !r.0.is_never());
        runs
    }
}

/// What blocks of `n` leave over that is two blocks.
fn two_blocks(n: i64) -> Range<i64> {
    n + 1..n + little(n)
}

/// 1 where a size is this, else 0.
fn just(size: &Size, n: i64) -> Size {
    at_least(size, n).minus(&at_least(size, n + 1))
}

/// From so many elements on, what blocks of `n` leave over is a block of its own, not one with the last of them: it has about enough
/// sums to hide the latency of a multiply-add.
fn little(n: i64) -> i64 {
    (n + 3) / 4
}

/// 1 where a size is at least so large, else 0.
fn at_least(size: &Size, least: i64) -> Size {
    size.plus(&Size::Constant(1 - least)).at_least(0).at_most(1)
}

/// Block lengths for what a length leaves over: its halves down to one.
pub(in crate::schedule) fn halves(step: i64) -> impl Iterator<Item = i64> {
    std::iter::successors(Some(step), |&s| (s > 1).then_some(s / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks that runs consist of.
    fn blocks_of(runs: &[Run], n: i64) -> Vec<(i64, i64)> {
        let live = |run: &Run| run.live.as_ref().map(|(a, b)| (a.value(&[n]), b.value(&[n]))).unwrap();
        let blocks = |run: &Run| {
            let (from, to) = live(run);
            assert!(run.range.start <= from && from <= to && to <= run.range.end, "{from}..{to} of {run:?} for {n}");
            assert_eq!((to - from) % run.step, 0, "{run:?} for {n}");
            (from..to).step_by(run.step as usize).map(|at| (at, at + run.step)).collect::<Vec<_>>()
        };
        let mut all: Vec<(i64, i64)> = runs.iter().flat_map(blocks).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn blocks_of_a_run_cover_it_once_and_evenly() {
        let (most, step) = (60, 14);
        let rows = Size::Parameter(0);
        for n in 0..=most {
            let mut rest = Rest::new(most, Some(&rows));
            let mut runs = vec![rest.take_evenly(step)];
            let apart: Vec<Run> = rest.clone().one_or_two(step).into_iter().map(|r| r.0).collect();
            runs.extend(rest.at_once(step));
            assert_eq!(blocks_of(&apart, n), blocks_of(&runs[1..], n));
            let blocks = blocks_of(&runs, n);
            let ends: Vec<i64> = blocks.iter().flat_map(|b| [b.0, b.1]).collect();
            assert!(ends.first().copied().unwrap_or(0) == 0 && ends.last().copied().unwrap_or(0) == n, "{blocks:?} for {n}");
            assert!(
                ends.iter().skip(1).take(ends.len().saturating_sub(2)).collect::<Vec<_>>().chunks(2).all(|c| c[0] == c[1]),
                "{blocks:?} for {n}"
            );
            assert!(n < step || blocks.iter().all(|b| b.1 - b.0 >= step / 4), "{blocks:?} for {n}");
            assert!(blocks.len() as i64 <= (n + step - 1) / step);
        }
    }
}

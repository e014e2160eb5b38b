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
                let end = from.plus(&to.minus(from).floor(step).times(step));
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
    /// What is left, fewer than `n` elements, as runs of one iteration, one for each number that it may be.
    pub(in crate::schedule) fn at_once(mut self, n: i64) -> Vec<Run> {
        let most = self.most().max(1);
        let Some((from, to)) = &self.live else { return vec![self.take(most)] };
        let left = to.minus(from);
        let at_least = |k: i64| left.plus(&Size::Constant(1 - k)).at_least(0).at_most(1);
        let run = |k: i64| {
            let end = from.plus(&at_least(k).minus(&at_least(k + 1)).times(k));
            Run { range: self.from..self.end, step: k, live: Some((from.clone(), end)) }
        };
        (1..n).rev().map(run).filter(|r| !r.is_never()).collect()
    }
}

/// Block lengths for what a length leaves over: its halves down to one.
pub(in crate::schedule) fn halves(step: i64) -> impl Iterator<Item = i64> {
    std::iter::successors(Some(step), |&s| (s > 1).then_some(s / 2))
}

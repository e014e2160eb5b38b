//! Functions of a run's parameters from values at some of them: what is a number at every probe becomes a [`Size`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::bent::{Bent, bent};
use super::composed::Known;
use super::quotient::{Quotient, Search, search};
use super::refuse;
use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId};
use crate::tensor::{Parameter, Size};

/// The code of problems that more probes may solve.
const UNFITTED: &str = "unfitted-size";
/// The code of problems that may come of padding that some sizes have.
const STRUCTURE: &str = "varying-structure";

/// Why numbers at several sizes are no function of the sizes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Misfit {
    /// No function was found for these probes; with more of them there may be one.
    Unfitted(String),
    /// What is computed is no function of the sizes, at least where windows have padding at some of them only.
    Structure,
    /// What cannot be a function, whatever the probes.
    Varies(String),
}

impl Misfit {
    /// What cannot vary.
    pub(super) fn varies(what: &str) -> Self {
        Misfit::Varies(what.to_owned())
    }

    /// For the user; `of` is what the numbers are.
    pub(super) fn diagnostic(&self, graph: &Graph, nodes: &[NodeId], of: &str) -> Diagnostic {
        match self {
            Misfit::Structure => {
                let what = "what it computes depends on the sizes; `--dynamic` cannot vary it";
                Diagnostic { code: STRUCTURE, ..refuse(graph, nodes, what) }
            }
            Misfit::Varies(what) => refuse(graph, nodes, &format!("{of}{what}; `--dynamic` cannot vary it")),
            Misfit::Unfitted(what) => {
                let of = if of.is_empty() { "a number in what it computes is " } else { of };
                let d = refuse(graph, nodes, &format!("{of}{what}"));
                let help =
                    "where the model works in steps, such as windows of 160 samples, give them to the range: `--dynamic DIM=LOW..HIGH:160`";
                Diagnostic { code: UNFITTED, ..d }.with_help(help)
            }
        }
    }
}

/// Whether more probes may solve one of these problems.
pub(super) fn wants_more_probes(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|p| p.code == UNFITTED)
}

/// Sizes at which values would tell functions apart; nothing is asked where it is closed.
#[derive(Clone, Default, Debug)]
pub(super) struct Wanted {
    sizes: Arc<Mutex<BTreeSet<Vec<i64>>>>,
    /// Whether no more sizes are read.
    pub(super) closed: bool,
    /// Whether what is likely is taken, since no denser probes follow.
    pub(super) last: bool,
}

impl Wanted {
    /// Where nothing was asked yet.
    pub(super) fn new(closed: bool, last: bool) -> Self {
        Wanted { closed, last, ..Wanted::default() }
    }

    fn ask(&self, at: Vec<i64>) {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
    }

    /// What was asked for until now.
    pub(super) fn take(&self) -> BTreeSet<Vec<i64>> {
        std::mem::take(&mut self.sizes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether a model is read for this value of a parameter: a power of two would let divisions become products, below 3 axes may vanish.
pub(super) fn is_usable(n: i64) -> bool {
    n >= 3 && n & (n - 1) != 0
}

/// Where the values were taken: the first probe is the one that others are compared with.
#[derive(Clone, Debug)]
pub(super) struct Fitter {
    /// The ranges of the parameters.
    pub(super) parameters: Vec<Parameter>,
    /// The parameters of each probe.
    pub(super) probes: Vec<Vec<i64>>,
    /// Sizes that others may be made of.
    pub(super) known: Known,
    /// Probes that would help.
    pub(super) wanted: Wanted,
}

impl Fitter {
    /// `None` for a number; the function of the parameters that has these values; an error where no function is found.
    pub(super) fn fit(&self, values: &[i64]) -> Result<Option<Size>, Misfit> {
        let (&base, at) = (&values[0], &self.probes[0]);
        if values.iter().all(|v| *v == base) {
            return Ok(None);
        }
        let n = at.len();
        let moved: Vec<Vec<usize>> = self.probes.iter().map(|probe| (0..n).filter(|&q| probe[q] != at[q]).collect()).collect();
        let steps = |i: usize, p: usize| self.counted(p).value(&self.probes[i]);
        let mut slopes = vec![0; n];
        let mut moving = vec![];
        for (p, slope) in slopes.iter_mut().enumerate() {
            let along: Vec<usize> = (0..values.len()).filter(|&i| moved[i] == [p]).collect();
            if let Some(&i) = along.iter().find(|&&i| values[i] != base) {
                moving.push(p);
                *slope = (base - values[i]) / (steps(0, p) - steps(i, p));
            }
        }
        let linear = slopes.iter().enumerate().fold(Size::Constant(0), |sum, (p, &c)| sum.plus(&self.times(p, c)));
        let linear = linear.plus(&Size::Constant(base - linear.value(at)));
        if self.holds(&linear, values) {
            return Ok(Some(linear));
        }
        let told = || {
            let told: Vec<String> = self.probes.iter().zip(values).take(4).map(|(at, v)| format!("{v} for {at:?}")).collect();
            Misfit::Unfitted(format!(
                "{}: not a sum of multiples, nor a quotient, nor a product, of the sizes, or of other extents",
                told.join(", ")
            ))
        };
        let mut likely = None;
        if let [p] = moving[..] {
            let counted = self.counted(p);
            let Parameter { low, high, step, .. } = self.parameters[p];
            let points: Vec<(i64, i64)> = values.iter().enumerate().map(|(i, &v)| (steps(i, p), v)).collect();
            let (least, most) = (self.counted_value(p, low), points.iter().map(|x| x.0).fold(self.counted_value(p, high), i64::max));
            let of_step = |x: i64| if step == 1 { x } else { low + x * step };
            // What is a quarter of the greatest size and less may have extents so small that its graph is another.
            let usable = |x: i64| x >= (3 * least + most) / 4 && is_usable(of_step(x));
            let ask = |more: Vec<i64>| {
                for x in more {
                    let mut at = self.probes[0].clone();
                    at[p] = of_step(x);
                    self.wanted.ask(at);
                }
                told()
            };
            let of = |q: Quotient| counted.times(q.times).plus(&Size::Constant(q.plus)).floor(q.over).times(q.unit);
            match search(&points, least..=most, &usable) {
                Search::Found(q) => {
                    let size = of(q);
                    if self.holds(&size, values) {
                        return Ok(Some(size));
                    }
                }
                Search::Open(more) if !self.wanted.closed => return Err(ask(more)),
                Search::Likely(q) => likely = Some(of(q)),
                Search::Open(_) | Search::Nothing => {}
            }
            match bent(&points, least..=most, &|x| is_usable(of_step(x))) {
                Bent::Found(b) => {
                    let line = counted.times(b.slope).plus(&Size::Constant(b.plus));
                    let line = b.least.map_or(line.clone(), |c| line.at_least(c));
                    let size = b.most.map_or(line.clone(), |c| line.at_most(c));
                    if self.holds(&size, values) {
                        return Ok(Some(size));
                    }
                }
                Bent::Open(more) if !self.wanted.closed => return Err(ask(more)),
                Bent::Open(_) | Bent::Nothing => {}
            }
        }
        if let [p, q] = moving[..]
            && let Some(i) = moved.iter().position(|m| *m == [p, q])
        {
            // What is left of a product is one, too.
            let rest = values[i] - linear.value(&self.probes[i]);
            let (dp, dq) = (steps(i, p) - steps(0, p), steps(i, q) - steps(0, q));
            let from_base = |p: usize| self.counted(p).plus(&Size::Constant(-steps(0, p)));
            let size = linear.plus(&from_base(p).product(&from_base(q)).times(rest / (dp * dq)));
            if self.holds(&size, values) {
                return Ok(Some(size));
            }
        }
        let composed = self.known.composed(values, self.is_complete());
        if let Some(size) = composed.into_iter().chain(likely.filter(|_| self.wanted.last)).find(|s| self.holds(s, values)) {
            return Ok(Some(size));
        }
        Err(told())
    }

    /// As `fit`, of an extent, which is not less than nothing. The first value is that at the greatest sizes, which memory is for.
    pub(super) fn fit_extent(&self, values: &[i64]) -> Result<Option<Size>, Misfit> {
        let size = self.fit(values)?;
        match size.as_ref().and_then(|n| n.span(&self.parameters)) {
            Some((_, most)) if most > values[0] => {
                Err(Misfit::Varies(format!("an extent is up to {most} at smaller sizes and {} at the greatest", values[0])))
            }
            _ => Ok(size.map(|n| if self.reach(&n).0 < 0 { n.at_least(0) } else { n })),
        }
    }

    /// Whether every value of the parameters is a probe.
    fn is_complete(&self) -> bool {
        let all = |p: usize| {
            let Parameter { low, high, step, .. } = self.parameters[p];
            (low..=high).step_by(usize::try_from(step).unwrap_or(1)).all(|n| self.probes.iter().any(|at| at[p] == n))
        };
        self.parameters.len() == 1 && self.parameters[0].high - self.parameters[0].low < 64 && all(0)
    }

    /// Lets sizes be made of this one.
    pub(super) fn learn(&mut self, size: &Size) {
        let values = self.probes.iter().map(|at| size.value(at)).collect();
        self.known.add(size, values);
    }

    /// The least and the greatest value of a size, at the ends and in the middle of the ranges.
    pub(super) fn reach(&self, size: &Size) -> (i64, i64) {
        let mut at: Vec<Vec<i64>> = vec![self.probes[0].clone()];
        for p in size.parameters() {
            let Parameter { low, high, .. } = self.parameters[p as usize];
            let with = |at: &Vec<i64>, n: i64| at.iter().enumerate().map(|(q, &m)| if q == p as usize { n } else { m }).collect();
            at = at.iter().flat_map(|at| [low, (low + high) / 2, high].map(|n| with(at, n))).collect();
        }
        let values = at.iter().chain(&self.probes).map(|at| size.value(at));
        values.fold((i64::MAX, i64::MIN), |(least, most), v| (least.min(v), most.max(v)))
    }

    /// A parameter, or its steps, counted from its least value.
    fn counted(&self, p: usize) -> Size {
        let (x, Parameter { low, step, .. }) = (Size::Parameter(p as u32), &self.parameters[p]);
        if *step == 1 { x } else { x.plus(&Size::Constant(-low)).floor(*step) }
    }

    fn counted_value(&self, p: usize, n: i64) -> i64 {
        let Parameter { low, step, .. } = self.parameters[p];
        if step == 1 { n } else { (n - low).div_euclid(step) }
    }

    /// A multiple of a parameter's steps, but for a constant.
    fn times(&self, p: usize, slope: i64) -> Size {
        let step = self.parameters[p].step;
        if slope % step == 0 { Size::Parameter(p as u32).times(slope / step) } else { self.counted(p).times(slope) }
    }

    fn holds(&self, size: &Size, values: &[i64]) -> bool {
        self.probes.iter().zip(values).all(|(at, &v)| size.value(at) == v)
    }
}

pub(super) fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A problem that more probes may solve.
pub(super) fn of_size(problem: Diagnostic) -> Diagnostic {
    Diagnostic { code: UNFITTED, ..problem }
}

/// A problem that may come of padding that some sizes have.
pub(super) fn of_structure(problem: Diagnostic) -> Diagnostic {
    Diagnostic { code: STRUCTURE, ..problem }
}

/// Whether padding at all sizes may solve these problems.
pub(super) fn wants_any_padding(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|p| p.code == STRUCTURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitter() -> Fitter {
        let mut probes: Vec<Vec<i64>> = (0..9).map(|i| vec![7, 101 - i]).collect();
        probes.extend([vec![7, 20], vec![6, 101], vec![2, 101], vec![3, 50], vec![6, 99]]);
        Fitter {
            parameters: vec![Parameter::new("b", 1, 7, 1), Parameter::new("s", 1, 101, 1)],
            probes,
            known: Known::default(),
            wanted: Wanted::default(),
        }
    }

    fn fit(fitter: &Fitter, f: &dyn Fn(i64, i64) -> i64) -> Result<Option<Size>, Misfit> {
        fitter.fit(&fitter.probes.iter().map(|p| f(p[0], p[1])).collect::<Vec<_>>())
    }

    #[test]
    fn sums_quotients_and_products_are_found_and_others_refused() {
        let fitter = fitter();
        let fit = |f: &dyn Fn(i64, i64) -> i64| fit(&fitter, f);
        assert_eq!(fit(&|_, _| 5), Ok(None));
        let text = |s: Result<Option<Size>, Misfit>| s.unwrap().unwrap().to_string();
        assert_eq!(text(fit(&|_, s| 2 * s + 1)), "(2 * p1 + 1)");
        assert_eq!(text(fit(&|b, s| 3 * b + s - 2)), "((3 * p0 + p1) + -2)");
        let known: [fn(i64, i64) -> i64; 6] = [
            |_, s| (s + 3) / 4,
            |_, s| 6 * ((s + 1) / 2),
            |_, s| 26 - 2 * ((s + 3) / 4),
            |b, s| b * s,
            |b, s| (b - 2) * (s + 5) + 3 * b,
            |b, s| 4 * b * s - s,
        ];
        for f in known {
            let size = fit(&f).unwrap().unwrap();
            assert!((1..8).all(|b| (1..200).all(|s| size.value(&[b, s]) == f(b, s))), "{size}");
        }
        let unknown: [fn(i64, i64) -> i64; 3] = [|b, s| b * b + s, |_, s| s.min(30), |b, s| b * b * s];
        for f in unknown {
            assert!(matches!(fit(&f), Err(Misfit::Unfitted(_))));
        }
    }

    #[test]
    fn ranges_with_steps_are_counted_in_them() {
        let values: Vec<i64> = vec![640, 608, 576, 96, 352];
        let fitter = Fitter {
            parameters: vec![Parameter::new("h", 96, 640, 32)],
            probes: values.iter().map(|&h| vec![h]).collect(),
            known: Known::default(),
            wanted: Wanted::default(),
        };
        let known: [fn(i64) -> i64; 5] = [|h| h / 4, |h| h / 32, |h| 2 * h + 1, |h| (h - 8) / 16, |h| (h + 63) / 64];
        for f in known {
            let values: Vec<i64> = fitter.probes.iter().map(|p| f(p[0])).collect();
            let size = fitter.fit(&values).unwrap().unwrap();
            assert!((3..=20).all(|k| size.value(&[32 * k]) == f(32 * k)), "{size}");
        }
    }
}

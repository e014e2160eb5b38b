//! Sizes that are known when a program runs: integer functions of its parameters, such as a batch or the length of a text.

use std::fmt;
use std::sync::Arc;

/// A number that a caller chooses for every run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Parameter {
    /// The dimension's name.
    pub name: String,
    /// The least value.
    pub low: i64,
    /// The greatest value.
    pub high: i64,
    /// From one value to the next, at least 1.
    pub step: i64,
}

impl Parameter {
    /// A parameter with every `step`-th value from `low` on; `high` is lowered to the last of them.
    pub fn new(name: impl Into<String>, low: i64, high: i64, step: i64) -> Self {
        Parameter { name: name.into(), low, high: low + (high - low).div_euclid(step) * step, step }
    }

    /// Parameters with their values in words: `batch=1, seq=7`.
    pub fn told(parameters: &[Parameter], at: &[i64]) -> String {
        let each: Vec<String> = parameters.iter().zip(at).map(|(p, n)| format!("{}={n}", p.name)).collect();
        each.join(", ")
    }

    /// Its values in words: `from 32 to 640 in steps of 32`.
    pub fn range_text(&self) -> String {
        match self.step {
            1 => format!("from {} to {}", self.low, self.high),
            step => format!("from {} to {} in steps of {step}", self.low, self.high),
        }
    }
}

/// What the extents of a value are at several sizes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spread {
    /// Those that it is stored for, the greatest.
    pub dims: Vec<usize>,
    /// Whether they are others at other sizes.
    pub varies: Vec<bool>,
}

/// A function of parameters; indices are those of a program's list of parameters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Size {
    /// A number.
    Constant(i64),
    /// A parameter.
    Parameter(u32),
    /// The sum of two.
    Sum(Arc<Size>, Arc<Size>),
    /// The product of two.
    Product(Arc<Size>, Arc<Size>),
    /// A multiple.
    Times(Arc<Size>, i64),
    /// A quotient, rounded toward minus infinity; the divisor is at least one.
    Floor(Arc<Size>, i64),
    /// The greater of a size and a number.
    AtLeast(Arc<Size>, i64),
    /// The lesser of a size and a number.
    AtMost(Arc<Size>, i64),
}

/// More combinations of parameters than these are not tried.
const MAX_TRIED: i64 = 1 << 20;

impl Size {
    /// `self + other`.
    pub fn plus(&self, other: &Size) -> Size {
        match (self, other) {
            (Size::Constant(a), Size::Constant(b)) => Size::Constant(a + b),
            (Size::Constant(0), x) | (x, Size::Constant(0)) => x.clone(),
            _ => Size::Sum(Arc::new(self.clone()), Arc::new(other.clone())),
        }
    }

    /// `self * factor`.
    pub fn times(&self, factor: i64) -> Size {
        match (self, factor) {
            (Size::Constant(a), _) => Size::Constant(a * factor),
            (_, 0) => Size::Constant(0),
            (_, 1) => self.clone(),
            (Size::Times(a, b), _) => Size::Times(a.clone(), b * factor),
            _ => Size::Times(Arc::new(self.clone()), factor),
        }
    }

    /// `self * other`.
    pub fn product(&self, other: &Size) -> Size {
        match (self, other) {
            (Size::Constant(c), x) | (x, Size::Constant(c)) => x.times(*c),
            _ => Size::Product(Arc::new(self.clone()), Arc::new(other.clone())),
        }
    }

    /// `self / divisor`, rounded toward minus infinity.
    pub fn floor(&self, divisor: i64) -> Size {
        match (self, divisor) {
            (Size::Constant(a), _) => Size::Constant(a.div_euclid(divisor)),
            (_, 1) => self.clone(),
            _ => Size::Floor(Arc::new(self.clone()), divisor),
        }
    }

    /// `self - other`.
    pub fn minus(&self, other: &Size) -> Size {
        self.plus(&other.times(-1))
    }

    /// `max(self, least)`.
    pub fn at_least(&self, least: i64) -> Size {
        match self {
            Size::Constant(a) => Size::Constant((*a).max(least)),
            _ => Size::AtLeast(Arc::new(self.clone()), least),
        }
    }

    /// `min(self, most)`.
    pub fn at_most(&self, most: i64) -> Size {
        match self {
            Size::Constant(a) => Size::Constant((*a).min(most)),
            _ => Size::AtMost(Arc::new(self.clone()), most),
        }
    }

    /// `min(self, other)`.
    pub fn lesser(&self, other: &Size) -> Size {
        match other {
            Size::Constant(most) => self.at_most(*most),
            _ => self.minus(&self.minus(other).at_least(0)),
        }
    }

    /// The least and the greatest value for any of the parameters; `None` where these are not known, or too many to try.
    pub fn span(&self, parameters: &[Parameter]) -> Option<(i64, i64)> {
        if let Size::Constant(c) = self {
            return Some((*c, *c));
        }
        let of = self.parameters();
        if of.iter().any(|&p| p as usize >= parameters.len()) {
            return None;
        }
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for_all_sizes(parameters, &of, &mut |at| {
            let value = self.value(at);
            (least, most) = (least.min(value), most.max(value));
            true
        })?;
        Some((least, most))
    }

    /// Whether it is a number.
    pub fn constant(&self) -> Option<i64> {
        if let Size::Constant(c) = self { Some(*c) } else { None }
    }

    /// The value for these parameters.
    pub fn value(&self, parameters: &[i64]) -> i64 {
        match self {
            Size::Constant(c) => *c,
            Size::Parameter(p) => parameters[*p as usize],
            Size::Sum(a, b) => a.value(parameters) + b.value(parameters),
            Size::Product(a, b) => a.value(parameters) * b.value(parameters),
            Size::Times(a, c) => a.value(parameters) * c,
            Size::Floor(a, d) => a.value(parameters).div_euclid(*d),
            Size::AtLeast(a, c) => a.value(parameters).max(*c),
            Size::AtMost(a, c) => a.value(parameters).min(*c),
        }
    }

    /// Numbers that its values lie between for any of these parameters, by interval arithmetic; [`Size::span`] tries them all.
    pub fn range(&self, parameters: &[Parameter]) -> (i64, i64) {
        let between = |a: &Size, f: &dyn Fn(i64) -> i64| {
            let (low, high) = a.range(parameters);
            (f(low).min(f(high)), f(low).max(f(high)))
        };
        match self {
            Size::Constant(c) => (*c, *c),
            Size::Parameter(p) => (parameters[*p as usize].low, parameters[*p as usize].high),
            Size::Sum(a, b) => {
                let (a, b) = (a.range(parameters), b.range(parameters));
                (a.0 + b.0, a.1 + b.1)
            }
            Size::Product(a, b) => {
                let (a, b) = (a.range(parameters), b.range(parameters));
                let ends = [a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1];
                (ends.into_iter().min().unwrap_or(0), ends.into_iter().max().unwrap_or(0))
            }
            Size::Times(a, c) => between(a, &|x| x * c),
            Size::Floor(a, d) => between(a, &|x| x.div_euclid(*d)),
            Size::AtLeast(a, c) => between(a, &|x| x.max(*c)),
            Size::AtMost(a, c) => between(a, &|x| x.min(*c)),
        }
    }

    /// The parameters that it depends on, sorted.
    pub fn parameters(&self) -> Vec<u32> {
        fn walk(s: &Size, found: &mut Vec<u32>) {
            match s {
                Size::Constant(_) => {}
                Size::Parameter(p) => found.push(*p),
                Size::Sum(a, b) | Size::Product(a, b) => {
                    walk(a, found);
                    walk(b, found);
                }
                Size::Times(a, _) | Size::Floor(a, _) | Size::AtLeast(a, _) | Size::AtMost(a, _) => walk(a, found),
            }
        }
        let mut found = vec![];
        walk(self, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// As text, with the names of the parameters.
    pub fn text(&self, parameters: &[Parameter]) -> String {
        match self {
            Size::Constant(c) => c.to_string(),
            Size::Parameter(p) => parameters.get(*p as usize).map_or_else(|| format!("p{p}"), |p| p.name.clone()),
            Size::Sum(a, b) => format!("({} + {})", a.text(parameters), b.text(parameters)),
            Size::Product(a, b) => format!("{} * {}", a.text(parameters), b.text(parameters)),
            Size::Times(a, c) => format!("{c} * {}", a.text(parameters)),
            Size::Floor(a, d) => format!("{} / {d}", a.text(parameters)),
            Size::AtLeast(a, c) => format!("max({}, {c})", a.text(parameters)),
            Size::AtMost(a, c) => format!("min({}, {c})", a.text(parameters)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&[]))
    }
}

/// Calls `f` with every combination of the parameters that `of` names, the others at their greatest value, until it answers false;
/// whether it never did. `None` if there are too many.
pub fn for_all_sizes(parameters: &[Parameter], of: &[u32], f: &mut impl FnMut(&[i64]) -> bool) -> Option<bool> {
    let n_values = |p: &Parameter| (p.high - p.low) / p.step + 1;
    let n = of.iter().try_fold(1i64, |n, &p| n.checked_mul(n_values(&parameters[p as usize])))?;
    if n > MAX_TRIED {
        return None;
    }
    let mut at: Vec<i64> = parameters.iter().map(|p| p.high).collect();
    of.iter().for_each(|&p| at[p as usize] = parameters[p as usize].low);
    loop {
        if !f(&at) {
            return Some(false);
        }
        let Some(&next) = of.iter().find(|&&p| at[p as usize] < parameters[p as usize].high) else { return Some(true) };
        at[next as usize] += parameters[next as usize].step;
        for &p in of.iter().take_while(|&&p| p != next) {
            at[p as usize] = parameters[p as usize].low;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_values_and_texts() {
        let parameters = [Parameter::new("batch", 1, 3, 1), Parameter::new("seq", 2, 5, 1)];
        let blocks = Size::Parameter(1).plus(&Size::Constant(3)).floor(4).times(4);
        assert_eq!((blocks.value(&[1, 2]), blocks.value(&[1, 5])), (4, 8));
        assert_eq!(blocks.text(&parameters), "4 * (seq + 3) / 4");
        assert_eq!(Size::Parameter(0).minus(&Size::Parameter(1)).at_least(0).value(&[3, 5]), 0);
        assert_eq!(Size::Parameter(0).plus(&Size::Parameter(1)).parameters(), [0, 1]);
        let mixed = Size::Parameter(0).product(&blocks.times(-2)).plus(&Size::Parameter(1).at_most(3));
        assert_eq!((mixed.range(&parameters), blocks.at_least(6).range(&parameters)), ((-46, -5), (6, 8)));
        assert_eq!([[1, 4], [3, 2]].map(|at| Size::Parameter(0).lesser(&Size::Parameter(1)).value(&at)), [1, 2]);
        assert_eq!(Size::Parameter(1).minus(&Size::Parameter(0)).span(&parameters), Some((-1, 4)));
        assert_eq!((blocks.span(&parameters), Size::Parameter(2).span(&parameters)), (Some((4, 8)), None));
        let mut seen = vec![];
        assert_eq!(for_all_sizes(&parameters, &[0, 1], &mut |at| (seen.push(at.to_vec()), true).1), Some(true));
        assert_eq!((seen.len(), &seen[0][..], &seen[11][..]), (12, &[1, 2][..], &[3, 5][..]));
        let width = [Parameter::new("width", 5, 15, 4)];
        let mut seen = vec![];
        assert_eq!(for_all_sizes(&width, &[0], &mut |at| (seen.push(at[0]), true).1), Some(true));
        assert_eq!((&seen[..], &width[0].range_text()[..]), (&[5, 9, 13][..], "from 5 to 13 in steps of 4"));
    }
}

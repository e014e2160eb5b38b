//! Between which numbers the elements of a value are, as far as operators can tell before a run.
//!
//! An interval says how large a result may become, and so how much memory it gets; whoever relies on one checks it at run time too.

use crate::tensor::{DType, Tensor};

/// From `low` to `high`, both included; infinite where nothing is known.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// No element is less.
    pub low: f64,
    /// No element is greater.
    pub high: f64,
}

/// Beyond this, numbers are as good as infinite.
const FAR: f64 = (1u64 << 52) as f64;

impl Interval {
    /// Nothing is known.
    pub const ALL: Interval = Interval { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// Between these two.
    pub fn new(low: f64, high: f64) -> Self {
        Interval { low: if low >= -FAR { low } else { f64::NEG_INFINITY }, high: if high <= FAR { high } else { f64::INFINITY } }
    }

    /// What an element type can hold.
    pub fn of_dtype(dtype: DType) -> Self {
        if !dtype.is_int() {
            return if dtype == DType::Bool { Interval::new(0.0, 1.0) } else { Interval::ALL };
        }
        let (low, high) = dtype.int_range();
        Interval::new(low as f64, high as f64)
    }

    /// The elements of a tensor.
    pub fn of_tensor(t: &Tensor) -> Self {
        let values = t.to_f64s();
        if values.is_empty() || values.iter().any(|v| v.is_nan()) {
            return Interval::of_dtype(t.dtype());
        }
        Interval::new(values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The only number in it.
    pub fn number(self) -> Option<f64> {
        (self.low == self.high && self.low.is_finite()).then_some(self.low)
    }

    /// Whether `a < b` for all pairs of an element of each, or for none: 1 or 0, or either.
    pub fn less(self, other: Interval) -> Interval {
        let always = self.high < other.low;
        let never = self.low >= other.high;
        Interval { low: f64::from(u8::from(always)), high: f64::from(u8::from(!never)) }
    }

    /// As [`Interval::less`], whether they are equal.
    pub fn equals(self, other: Interval) -> Interval {
        let always = self.number().is_some() && self.number() == other.number();
        let never = self.high < other.low || other.high < self.low;
        Interval { low: f64::from(u8::from(always)), high: f64::from(u8::from(!never)) }
    }

    /// What is in either.
    pub fn join(self, other: Interval) -> Interval {
        Interval::new(self.low.min(other.low), self.high.max(other.high))
    }

    /// What is in both.
    pub fn both(self, other: Interval) -> Interval {
        Interval::new(self.low.max(other.low), self.high.min(other.high))
    }

    /// The lesser of an element of each.
    pub fn least(self, other: Interval) -> Interval {
        Interval::new(self.low.min(other.low), self.high.min(other.high))
    }

    /// The greater of an element of each.
    pub fn greatest(self, other: Interval) -> Interval {
        Interval::new(self.low.max(other.low), self.high.max(other.high))
    }

    /// Products of an element of each.
    pub fn times(self, other: Interval) -> Interval {
        self.corners(other, |a, b| if a == 0.0 || b == 0.0 { 0.0 } else { a * b })
    }

    /// Quotients of an element of each; nothing is known of quotients by what may be zero.
    pub fn over(self, other: Interval) -> Interval {
        if other.low <= 0.0 && other.high >= 0.0 { Interval::ALL } else { self.corners(other, |a, b| a / b) }
    }

    fn corners(self, other: Interval, f: impl Fn(f64, f64) -> f64) -> Interval {
        let all = [f(self.low, other.low), f(self.low, other.high), f(self.high, other.low), f(self.high, other.high)];
        if all.iter().any(|v| v.is_nan()) {
            return Interval::ALL;
        }
        Interval::new(all.into_iter().fold(f64::INFINITY, f64::min), all.into_iter().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The same as elements of this type, where what does not fit wraps or saturates, and fractions go.
    pub fn within(self, dtype: DType) -> Interval {
        let all = Interval::of_dtype(dtype);
        if dtype.is_float() {
            return self;
        }
        let whole = Interval::new(self.low.floor(), self.high.ceil());
        if whole.low >= all.low && whole.high <= all.high { whole } else { all }
    }
}

/// Of one that is 0, 1 or either, what the opposite is.
impl std::ops::Not for Interval {
    type Output = Interval;

    fn not(self) -> Interval {
        Interval { low: 1.0 - self.high, high: 1.0 - self.low }
    }
}

impl std::ops::Add for Interval {
    type Output = Interval;

    fn add(self, other: Interval) -> Interval {
        Interval::new(self.low + other.low, self.high + other.high)
    }
}

impl std::ops::Sub for Interval {
    type Output = Interval;

    fn sub(self, other: Interval) -> Interval {
        Interval::new(self.low - other.high, self.high - other.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_holds_all_results() {
        let (a, b) = (Interval::new(-2.0, 3.0), Interval::new(4.0, 5.0));
        assert_eq!(a + b, Interval::new(2.0, 8.0));
        assert_eq!(a - b, Interval::new(-7.0, -1.0));
        assert_eq!(a.times(b), Interval::new(-10.0, 15.0));
        assert_eq!(a.over(b), Interval::new(-0.5, 0.75));
        assert_eq!(b.over(a), Interval::ALL);
        assert_eq!(Interval::ALL.times(Interval::new(0.0, 1.0)), Interval::ALL);
        assert_eq!(a.least(b), Interval::new(-2.0, 3.0));
        assert_eq!(a.greatest(Interval::ALL), Interval::new(-2.0, f64::INFINITY));
        assert_eq!(Interval::ALL - Interval::ALL, Interval::ALL);
        assert_eq!(a.both(b), Interval::new(4.0, 3.0));
    }

    #[test]
    fn relations_hold_for_all_elements_or_none() {
        let (a, b, three) = (Interval::new(-2.0, 3.0), Interval::new(4.0, 5.0), Interval::new(3.0, 3.0));
        let either = Interval::new(0.0, 1.0);
        assert_eq!([a.less(b).number(), b.less(a).number(), a.less(three).number()], [Some(1.0), Some(0.0), None]);
        assert_eq!(three.less(a).number(), Some(0.0));
        assert_eq!([a.equals(b).number(), three.equals(three).number(), a.equals(a).number()], [Some(0.0), Some(1.0), None]);
        assert_eq!([!a.less(b), !either], [Interval::new(0.0, 0.0), either]);
    }

    #[test]
    fn types_bound_their_elements() {
        assert_eq!(Interval::of_dtype(DType::U8), Interval::new(0.0, 255.0));
        assert_eq!(Interval::of_dtype(DType::I64), Interval::ALL);
        assert_eq!(Interval::new(-1.0, 3.0).within(DType::U8), Interval::new(0.0, 255.0));
        assert_eq!(Interval::new(0.5, 3.5).within(DType::I32), Interval::new(0.0, 4.0));
        assert_eq!(Interval::of_tensor(&Tensor::from_slice(&[3], &[4i64, -1, 2])), Interval::new(-1.0, 4.0));
    }
}

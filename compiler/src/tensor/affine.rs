//! Affine integer forms over any kind of variable: the addresses of tensor expressions and nests.

/// `constant + sum(coefficient * variable)`; terms sorted by variable, no zero coefficient.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Affine<V> {
    /// The constant part.
    pub constant: i64,
    /// Variable and coefficient.
    pub terms: Vec<(V, i64)>,
}

impl<V> Default for Affine<V> {
    fn default() -> Self {
        Affine { constant: 0, terms: vec![] }
    }
}

impl<V: Copy + Ord> Affine<V> {
    /// A constant.
    pub fn constant(c: i64) -> Self {
        Affine { constant: c, terms: vec![] }
    }

    /// One variable.
    pub fn var(v: V) -> Self {
        Affine { constant: 0, terms: vec![(v, 1)] }
    }

    /// `self + other`.
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.constant += other.constant;
        for &(v, c) in &other.terms {
            sum.add_term(v, c);
        }
        sum
    }

    /// `self * factor`.
    pub fn times(&self, factor: i64) -> Self {
        if factor == 0 {
            return Affine::default();
        }
        Affine { constant: self.constant * factor, terms: self.terms.iter().map(|&(v, c)| (v, c * factor)).collect() }
    }

    /// `self + c`.
    pub fn offset(&self, c: i64) -> Self {
        Affine { constant: self.constant + c, terms: self.terms.clone() }
    }

    /// The coefficient of `v`.
    pub fn coefficient(&self, v: V) -> i64 {
        self.terms.iter().find(|t| t.0 == v).map_or(0, |t| t.1)
    }

    /// Adds `c * v` in place.
    pub fn add_term(&mut self, v: V, c: i64) {
        match self.terms.binary_search_by_key(&v, |t| t.0) {
            Ok(i) => {
                self.terms[i].1 += c;
                if self.terms[i].1 == 0 {
                    self.terms.remove(i);
                }
            }
            Err(i) if c != 0 => self.terms.insert(i, (v, c)),
            Err(_) => {}
        }
    }

    /// Whether there are no variables.
    pub fn is_constant(&self) -> bool {
        self.terms.is_empty()
    }

    /// The form with every variable replaced.
    pub fn substitute<W: Copy + Ord>(&self, mut f: impl FnMut(V) -> Affine<W>) -> Affine<W> {
        self.terms.iter().fold(Affine::constant(self.constant), |sum, &(v, c)| sum.plus(&f(v).times(c)))
    }

    /// The value under an assignment of the variables.
    pub fn value(&self, mut f: impl FnMut(V) -> i64) -> i64 {
        self.terms.iter().fold(self.constant, |sum, &(v, c)| sum + c * f(v))
    }

    /// Least and greatest value where each variable lies in the inclusive range `f` gives.
    pub fn range(&self, mut f: impl FnMut(V) -> (i64, i64)) -> (i64, i64) {
        self.terms.iter().fold((self.constant, self.constant), |(lo, hi), &(v, c)| {
            let (a, b) = f(v);
            if c >= 0 { (lo + c * a, hi + c * b) } else { (lo + c * b, hi + c * a) }
        })
    }
}

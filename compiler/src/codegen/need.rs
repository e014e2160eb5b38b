//! What a run of given sizes needs of the workspace: how far its kernels reach into it.

use super::program::{Place, Program, Step};
use crate::nest::{Affine, Kernel, reach};
use crate::tensor::{Parameter, Size};

/// `constant + sum(coefficient * size)`, in bytes; the sizes are no constants and differ from each other.
#[derive(Clone, PartialEq, Debug)]
struct Linear {
    constant: i64,
    terms: Vec<(Size, i64)>,
}

impl Program {
    /// Functions of the parameters, in bytes: a run touches nothing of the workspace behind the greatest of them.
    pub fn workspace_needs(&self) -> Vec<Size> {
        let whole = Linear { constant: self.workspace_bytes as i64, terms: vec![] };
        // What a loop's pointers reach depends on the iteration.
        if self.parameters.is_empty() || !self.flow.is_empty() {
            return vec![whole.size()];
        }
        let reaches: Vec<_> = self.kernels.iter().map(reach).collect();
        let mut needs = vec![Linear { constant: 0, terms: vec![] }];
        for step in &self.steps {
            let kernel = &self.kernels[step.kernel];
            for (b, &place) in step.args.iter().enumerate() {
                let Place::Arena(offset) = place else { continue };
                needs.extend(self.needs(kernel, b, step, offset, &reaches[step.kernel][b]));
            }
        }
        least(needs, &self.parameters).iter().map(Linear::size).collect()
    }

    /// Of one buffer from this offset on.
    fn needs(&self, kernel: &Kernel, b: usize, step: &Step, offset: usize, reach: &[Affine]) -> Vec<Linear> {
        let buffer = &kernel.buffers[b];
        let bytes = buffer.dtype.size_bytes();
        if buffer.private {
            let copies = buffer.total_bytes(self.workers).map_or(self.workspace_bytes, |n| offset + n);
            return vec![Linear { constant: copies as i64, terms: vec![] }];
        }
        let one = |form: &Affine| {
            let mut sum = Linear { constant: offset as i64 + form.constant * bytes as i64, terms: vec![] };
            for &(var, c) in &form.terms {
                let i = kernel.sizes.iter().position(|s| s.var == var).expect("what is no loop's variable is a size");
                sum.add(&step.sizes[i], c * bytes as i64);
            }
            sum
        };
        reach.iter().map(one).collect()
    }
}

impl Linear {
    fn add(&mut self, size: &Size, factor: i64) {
        match size {
            Size::Constant(c) => self.constant += c * factor,
            Size::Sum(a, b) => {
                self.add(a, factor);
                self.add(b, factor);
            }
            Size::Times(a, c) => self.add(a, c * factor),
            other => match self.terms.iter_mut().find(|t| t.0 == *other) {
                Some(t) => t.1 += factor,
                None => self.terms.push((other.clone(), factor)),
            },
        }
        self.terms.retain(|t| t.1 != 0);
        self.terms.sort();
    }

    fn size(&self) -> Size {
        self.terms.iter().fold(Size::Constant(self.constant), |sum, (size, c)| sum.plus(&size.times(*c)))
    }

    /// The greatest value of `self - other`, or more.
    fn most_above(&self, other: &Linear, parameters: &[Parameter]) -> i64 {
        let mut difference = self.clone();
        difference.constant -= other.constant;
        other.terms.iter().for_each(|(size, c)| difference.add(size, -c));
        difference.terms.iter().fold(difference.constant, |sum, (size, c)| {
            let (low, high) = size.range(parameters);
            sum + if *c < 0 { low * c } else { high * c }
        })
    }
}

/// Without those that another one is never below.
fn least(mut all: Vec<Linear>, parameters: &[Parameter]) -> Vec<Linear> {
    all.sort_by(|a, b| (&a.terms, b.constant).cmp(&(&b.terms, a.constant)));
    all.dedup_by(|a, b| a.terms == b.terms);
    let mut kept: Vec<Linear> = vec![];
    for one in all {
        if kept.iter().any(|k| one.most_above(k, parameters) <= 0) {
            continue;
        }
        kept.retain(|k| k.most_above(&one, parameters) > 0);
        kept.push(one);
    }
    kept
}

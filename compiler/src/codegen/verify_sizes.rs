//! Checks what steps pass to their kernels as sizes, for every value of the parameters.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::CodegenError;
use super::program::{Program, Step};
use crate::nest::{Affine, Kernel, Var, live_loops};
use crate::tensor::{Parameter, Size, for_all_sizes};

/// A sum of multiples of sizes and a number.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Sum<S> {
    terms: Vec<(S, i64)>,
    constant: i64,
}

/// What has to hold of sizes, or of their places in a list; many kernels ask for the same.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Fact<S> {
    /// The size is from 0 to so much.
    Within(S, i64),
    /// The first is never more than the second.
    AtMost(S, S),
    /// What runs of a loop is nothing, or a whole number of steps inside its range.
    Runs { from: Sum<S>, to: Sum<S>, range: (i64, i64), step: i64 },
}

impl<S> Fact<S> {
    fn map<T>(&self, f: &mut impl FnMut(&S) -> T) -> Fact<T> {
        let sum =
            |s: &Sum<S>, f: &mut dyn FnMut(&S) -> T| Sum { terms: s.terms.iter().map(|(x, c)| (f(x), *c)).collect(), constant: s.constant };
        match self {
            Fact::Within(size, high) => Fact::Within(f(size), *high),
            Fact::AtMost(size, most) => Fact::AtMost(f(size), f(most)),
            Fact::Runs { from, to, range, step } => Fact::Runs { from: sum(from, f), to: sum(to, f), range: *range, step: *step },
        }
    }
}

impl Fact<Size> {
    fn parameters(&self) -> Vec<u32> {
        let mut of = vec![];
        self.map(&mut |size| of.extend(size.parameters()));
        of.sort_unstable();
        of.dedup();
        of
    }

    /// What is wrong where it does not hold; `name` is that of the variable.
    fn told(&self, name: &str, parameters: &[Parameter]) -> String {
        match self {
            Fact::Within(size, high) => format!("`{}` may leave 0..={high}", size.text(parameters)),
            Fact::AtMost(size, _) => format!("`{}` may be more than what bounds it", size.text(parameters)),
            Fact::Runs { .. } => format!("loop `{name}` may leave its range"),
        }
    }
}

impl Fact<usize> {
    fn holds(&self, values: &[i64]) -> bool {
        let sum = |s: &Sum<usize>| s.terms.iter().fold(s.constant, |sum, &(i, c)| sum + c * values[i]);
        match self {
            Fact::Within(size, high) => (0..=*high).contains(&values[*size]),
            Fact::AtMost(size, most) => values[*size] <= values[*most],
            Fact::Runs { from, to, range, step } => {
                let (from, to) = (sum(from), sum(to));
                to == from || from >= range.0 && from < to && to <= range.1 && (to - from) % step == 0
            }
        }
    }
}

/// A fact, with the step that asks for it first and the variable of the size or the loop.
struct Asked<'p> {
    fact: Fact<Size>,
    step: &'p Step,
    var: Var,
}

impl Program {
    /// Checks that kernels' sizes are in range, and that what their live loops run is a whole number of steps inside their ranges.
    pub(super) fn verify_sizes(&self) -> Result<(), CodegenError> {
        let mut seen = HashSet::new();
        let mut by_parameters: BTreeMap<Vec<u32>, Vec<Asked<'_>>> = BTreeMap::new();
        for step in &self.steps {
            for (fact, var) in self.facts(step, &self.kernels[step.kernel])? {
                if seen.insert(fact.clone()) {
                    by_parameters.entry(fact.parameters()).or_default().push(Asked { fact, step, var });
                }
            }
        }
        for (of, asked) in by_parameters {
            let mut places: HashMap<Size, usize> = HashMap::new();
            let mut place = |size: &Size| {
                let next = places.len();
                *places.entry(size.clone()).or_insert(next)
            };
            let placed: Vec<Fact<usize>> = asked.iter().map(|a| a.fact.map(&mut place)).collect();
            let mut values = vec![0; places.len()];
            let mut wrong = 0;
            let held = for_all_sizes(&self.parameters, &of, &mut |at| {
                places.iter().for_each(|(size, &i)| values[i] = size.value(at));
                let first = placed.iter().position(|fact| !fact.holds(&values));
                wrong = first.unwrap_or(wrong);
                first.is_none()
            });
            if held != Some(true) {
                let Asked { fact, step, var } = &asked[wrong];
                let what = fact.told(&self.kernels[step.kernel].vars[var.0 as usize], &self.parameters);
                return Err(CodegenError::Program { what: format!("step `{}`: {what}", step.label) });
            }
        }
        Ok(())
    }

    /// What a step's sizes have to be, with the size's or the loop's variable.
    fn facts(&self, step: &Step, kernel: &Kernel) -> Result<Vec<(Fact<Size>, Var)>, CodegenError> {
        let fail = |what: String| Err(CodegenError::Program { what: format!("step `{}`: {what}", step.label) });
        if step.sizes.len() != kernel.sizes.len() {
            return fail(format!("passes {} of {} sizes", step.sizes.len(), kernel.sizes.len()));
        }
        let size_of = |var: Var| kernel.sizes.iter().position(|s| s.var == var).map(|i| &step.sizes[i]);
        let mut facts = vec![];
        for (size, var) in step.sizes.iter().zip(&kernel.sizes) {
            if size.parameters().iter().any(|&p| p as usize >= self.parameters.len()) {
                return fail(format!("`{size}` is of no parameter"));
            }
            if let Some(most) = var.most.and_then(size_of) {
                facts.push((Fact::AtMost(size.clone(), most.clone()), var.var));
            }
            facts.push((Fact::Within(size.clone(), var.high), var.var));
        }
        let sum = |form: &Affine| {
            let terms = form.terms.iter().map(|&(var, c)| Some((size_of(var)?.clone(), c))).collect::<Option<_>>()?;
            Some(Sum { terms, constant: form.constant })
        };
        for (l, live) in live_loops(&kernel.body) {
            let (Some(from), Some(to)) = (sum(&live.from), sum(&live.to)) else {
                return fail("a loop runs to something that is no size".to_owned());
            };
            facts.push((Fact::Runs { from, to, range: (l.start, l.end), step: l.step }, l.var));
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use crate::codegen::program::{Program, Step};
    use crate::nest::parse;
    use crate::tensor::{Parameter, Size};

    #[test]
    fn sizes_that_are_wrong_at_one_value_are_found() {
        let text = "kernel @k (x: f32[16] write) sizes n <= 9, m <= min(9, n) {
            %0: f32 = const 1.0
            if 1 <= m < 9 { for i in 0..m of 0..8 step 2 { store x[i], %0 } }
        }";
        let wrong = |n: Size, m: Size| {
            let step = Step { label: "s".into(), kernel: 0, args: vec![], sizes: vec![n, m] };
            let parameters = vec![Parameter::new("p", 1, 8, 1)];
            let program = Program { parameters, kernels: vec![parse(text).unwrap()], steps: vec![step], ..Program::default() };
            program.verify_sizes().err().map(|e| e.to_string())
        };
        let p = || Size::Parameter(0);
        let pairs = p().floor(2).times(2);
        assert_eq!(wrong(p(), pairs.clone()), None);
        let cases = [
            (p().plus(&Size::Constant(2)), pairs.clone(), "`(p + 2)` may leave 0..=9"),
            (p().minus(&Size::Constant(1)), pairs, "`2 * p / 2` may be more than what bounds it"),
            (p(), p(), "loop `i` may leave its range"),
            (Size::Parameter(1), p(), "`p1` is of no parameter"),
        ];
        for (n, m, what) in cases {
            let found = wrong(n, m);
            assert!(found.as_ref().is_some_and(|e| e.ends_with(&format!("step `s`: {what}"))), "{found:?}");
        }
    }
}

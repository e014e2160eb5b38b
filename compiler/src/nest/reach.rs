//! How far a kernel reaches into its buffers, as a function of its sizes.

use std::collections::BTreeMap;

use super::ir::{Affine, Index, Kernel, Loop, Op, Stmt, Var};

/// For every buffer affine forms of the kernel's sizes, in elements: the greatest of them is at least one past the last element that is
/// touched. None where nothing is.
pub fn reach(kernel: &Kernel) -> Vec<Vec<Affine>> {
    let mut found = vec![vec![]; kernel.buffers.len()];
    walk(kernel, &kernel.body, &mut BTreeMap::new(), &mut found);
    found
}

/// First and last value of open loops.
type Open = BTreeMap<Var, (Affine, Affine)>;

fn ends(l: &Loop) -> (Affine, Affine) {
    match &l.live {
        Some(live) => (live.from.clone(), live.to.offset(-l.step)),
        None => (Affine::constant(l.start), Affine::constant(l.end - l.step)),
    }
}

fn walk(kernel: &Kernel, block: &[Stmt], open: &mut Open, found: &mut [Vec<Affine>]) {
    for stmt in block {
        let (buffer, index, reg) = match stmt {
            Stmt::Loop(l) => {
                open.insert(l.var, ends(l));
                walk(kernel, &l.body, open, found);
                open.remove(&l.var);
                continue;
            }
            Stmt::If { then, otherwise, .. } => {
                walk(kernel, then, open, found);
                walk(kernel, otherwise, open, found);
                continue;
            }
            Stmt::Set { reg, op: Op::Load { buffer, index } | Op::Gather { buffer, index } } => (buffer, index, reg),
            Stmt::Store { buffer, index, value } => (buffer, index, value),
            Stmt::Set { .. } | Stmt::Prefetch { .. } => continue,
        };
        let lanes = i64::from(kernel.regs[reg.0 as usize].lanes);
        let len = kernel.buffers[buffer.0 as usize].len as i64;
        let form = last(index, open).map_or(Affine::constant(len), |a| a.offset(lanes));
        let forms = &mut found[buffer.0 as usize];
        match forms.iter_mut().find(|f| f.terms == form.terms) {
            Some(f) => f.constant = f.constant.max(form.constant),
            None => forms.push(form),
        }
    }
}

/// The greatest value of an index; none where registers decide it.
fn last(index: &Index, open: &Open) -> Option<Affine> {
    if !index.dynamic.is_empty() {
        return None;
    }
    let start = Affine::constant(index.affine.constant);
    Some(index.affine.terms.iter().fold(start, |sum, &(var, c)| match open.get(&var) {
        Some((first, last)) => sum.plus(&if c < 0 { first } else { last }.times(c)),
        None => sum.plus(&Affine::var(var).times(c)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nest::parse;

    #[test]
    fn what_is_touched_follows_the_sizes() {
        let text = "kernel @k (x: f32[100] read, y: f32[100] write, z: f32[7] write) sizes n <= 10 {
  if 1 <= n < 11 {
    for i in 0..n of 0..10 {
      for j in 0..8 step 4 {
        %0:f32x4 = load x[10*i + j]
        store y[-4*i + j + 90], %0
      }
    }
  }
}
";
        let kernel = parse(text).unwrap();
        let n = kernel.sizes[0].var;
        let forms = reach(&kernel);
        let at = |forms: &[Affine], value: i64| {
            forms.iter().map(|a| a.constant + a.terms.iter().map(|&(v, c)| if v == n { c * value } else { 0 }).sum::<i64>()).max()
        };
        assert_eq!((at(&forms[0], 10), at(&forms[0], 3)), (Some(98), Some(28)));
        assert_eq!((at(&forms[1], 10), at(&forms[1], 3), at(&forms[2], 3)), (Some(98), Some(98), None));
    }
}

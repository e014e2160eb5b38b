//! Which loops the stages of a program can share: the axes along which a row of the result needs one row of everything before it.
//!
//! Softmax of `[head, row, column]` computes each row from that row alone, so its stages can run inside one loop over heads and rows,
//! and so can the products before and after it.

use super::{Affine, Body, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorId, Var};
use crate::tensor::{DType, n_elements};

/// Loops around the stages of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nesting {
    /// Extents, outermost first.
    pub loops: Vec<usize>,
    /// One for each stage.
    pub stages: Vec<Nested>,
}

/// The loops around one stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nested {
    /// The stage's axis that each loop runs over; a stage inside `n` loops has `n` of them.
    pub axes: Vec<usize>,
    /// Whether its tensor is a result of the program or read past the loops, so that it is kept whole.
    pub whole: bool,
}

impl Nesting {
    /// Number of stages inside all loops.
    pub fn n_innermost(&self) -> usize {
        self.stages.iter().filter(|s| s.axes.len() == self.loops.len()).count()
    }
}

/// The stages of a program that has nothing else.
pub fn plain_stages(program: &Program) -> Option<Vec<&Stage>> {
    program.items.iter().map(|item| if let Item::Stage(s) = item { Some(s) } else { None }).collect()
}

/// Whether a stage sums products of two reads.
pub fn is_contraction(stage: &Stage) -> bool {
    factors(stage).is_some()
}

/// The two reads whose products a stage sums; bytes and halves may be widened first.
pub fn factors(stage: &Stage) -> Option<(&Expr, &Expr)> {
    let Body::Reduce { op: ReduceOp::Sum, value, .. } = &stage.body else { return None };
    let Node::Binary(super::BinaryOp::Mul, x, y) = value.node() else { return None };
    let read = |e| -> &Expr {
        match Expr::node(e) {
            Node::Cast(a) if matches!(a.dtype(), DType::I8 | DType::U8) && e.dtype() == DType::I32 => a,
            Node::Cast(a) if a.dtype().is_half() && e.dtype() == DType::F32 => a,
            _ => e,
        }
    };
    let (x, y) = (read(x), read(y));
    (x != y && x.loaded().is_some() && y.loaded().is_some()).then_some((x, y))
}

/// The loops that the stages of a program can share, if there are at least two stages and one loop around the last two.
///
/// The innermost is the one that re-reads the most of what does not depend on it.
pub fn nesting(program: &Program) -> Option<Nesting> {
    let stages = plain_stages(program)?;
    let (&last, earlier) = stages.split_last()?;
    if earlier.is_empty() || !program.results.contains(&last.out) {
        return None;
    }
    for s in &stages {
        let writers = stages.iter().filter(|o| o.out == s.out).count();
        if writers != 1 || program.operands.contains(&s.out) || program.constants.iter().any(|c| c.0 == s.out) {
            return None;
        }
    }
    let mut labels: Vec<Vec<Option<usize>>> = vec![vec![]; stages.len()];
    let n = stages.len() - 1;
    labels[n] = last.axes.iter().enumerate().map(|(i, &e)| (e > 1).then_some(i)).collect();
    for i in (0..n).rev() {
        labels[i] = labels_of(program, &stages, &labels, i);
    }
    let count = |label: usize| labels.iter().filter(|l| l.contains(&Some(label))).count();
    let mut order: Vec<usize> = (0..last.axes.len()).filter(|&l| last.axes[l] > 1 && count(l) > 1).collect();
    order.sort_by_key(|&l| (std::cmp::Reverse(count(l)), reread(program, &stages, &labels, l), l));
    // A stage that lacks a loop is outside of it and of all inside it; a loop around one stage only is its own affair.
    let depth = |i: usize, order: &[usize]| order.iter().take_while(|l| labels[i].contains(&Some(**l))).count();
    while !order.is_empty() && (0..stages.len()).filter(|&i| depth(i, &order) == order.len()).count() < 2 {
        order.pop();
    }
    if order.is_empty() {
        return None;
    }
    // What a stage keeps of a row must be what its readers see of it: readers outside a loop need the whole.
    let depths: Vec<usize> = (0..stages.len()).map(|i| depth(i, &order)).collect();
    for (i, s) in stages.iter().enumerate() {
        for (j, reader) in stages.iter().enumerate() {
            if j != i && reads(reader, s.out) && (j < i || depths[j] < depths[i]) {
                return None;
            }
        }
    }
    let nested = |i: usize| {
        let axes = order[..depths[i]].iter().map(|l| labels[i].iter().position(|x| *x == Some(*l)).expect("the label is there")).collect();
        Nested { axes, whole: program.results.contains(&stages[i].out) }
    };
    Some(Nesting { loops: order.iter().map(|&l| last.axes[l]).collect(), stages: (0..stages.len()).map(nested).collect() })
}

fn reads(stage: &Stage, t: TensorId) -> bool {
    stage.expressions().into_iter().any(|e| e.reads(t))
}

/// For each axis of a stage the loop that it follows: every reader sees just the reader's own row along it.
fn labels_of(program: &Program, stages: &[&Stage], labels: &[Vec<Option<usize>>], i: usize) -> Vec<Option<usize>> {
    let stage = stages[i];
    let dims = &program.tensor(stage.out).dims;
    let n = stage.axes.len();
    if !stage.writes_in_place() || stage.axes != *dims {
        return vec![None; n];
    }
    let mut found: Option<Vec<Option<usize>>> = None;
    for (reader, known) in stages.iter().zip(labels).skip(i + 1) {
        for e in reader.expressions() {
            e.visit(&mut |e| {
                let Node::Load { tensor, index, pad } = e.node() else { return };
                if *tensor != stage.out {
                    return;
                }
                let seen: Vec<Option<usize>> = index
                    .iter()
                    .enumerate()
                    .map(|(k, ix)| {
                        let Ix::Affine(a) = ix else { return None };
                        let [(Var::Axis(axis), 1)] = a.terms[..] else { return None };
                        let axis = axis as usize;
                        (pad.is_none() && a.constant == 0 && axis < reader.axes.len() && reader.axes[axis] == dims[k])
                            .then(|| known.get(axis).copied().flatten())
                            .flatten()
                    })
                    .collect();
                found = Some(match found.take() {
                    None => seen,
                    Some(before) => before.iter().zip(&seen).map(|(a, b)| if a == b { *a } else { None }).collect(),
                });
            });
        }
    }
    let mut found = found.unwrap_or_else(|| vec![None; n]);
    for k in 0..n {
        if found[k].is_some() && found[..k].contains(&found[k]) {
            found[k] = None;
        }
    }
    found
}

/// How many elements of operands every iteration of a loop reads again.
fn reread(program: &Program, stages: &[&Stage], labels: &[Vec<Option<usize>>], label: usize) -> usize {
    let mut total = 0;
    for (stage, labels) in stages.iter().zip(labels) {
        let Some(axis) = labels.iter().position(|l| *l == Some(label)) else { continue };
        let extents: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
        for e in stage.expressions() {
            e.visit(&mut |e| {
                let Node::Load { tensor, index, .. } = e.node() else { return };
                if !program.operands.contains(tensor) {
                    return;
                }
                let touched: Vec<usize> = (0..extents.len()).filter(|&a| depends(index, a)).collect();
                if !touched.contains(&axis) {
                    // Along other loops it is read a row at a time.
                    let apart = |a: &usize| labels.get(*a).is_some_and(|l| l.is_some());
                    total += n_elements(&touched.into_iter().filter(|a| !apart(a)).map(|a| extents[a]).collect::<Vec<_>>());
                }
            });
        }
    }
    total
}

/// Whether an index depends on an axis.
fn depends(index: &[Ix], axis: usize) -> bool {
    let uses = |a: &Affine| a.coefficient(Var::Axis(axis as u32)) != 0;
    index.iter().any(|ix| match ix {
        Ix::Affine(a) => uses(a),
        Ix::Checked(e) | Ix::Clamped(e) => {
            let mut found = false;
            e.visit(&mut |e| {
                found |= match e.node() {
                    Node::Index(a) => uses(a),
                    Node::Load { index, .. } => index.iter().any(|ix| matches!(ix, Ix::Affine(a) if uses(a))),
                    _ => false,
                }
            });
            found
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Nesting, nesting};
    use crate::expr::parse;

    fn of(text: &str) -> Option<Nesting> {
        nesting(&parse(text).unwrap_or_else(|e| panic!("{e}")))
    }

    #[test]
    fn rows_of_a_softmax_share_a_loop() {
        let n = of("program(%x: f32[3,5,7]) -> (%y) {
  %m[i0,i1,i2] = reduce max over r0 in 0..7: %x[i0,i1,r0] : f32[3,5,1]
  %e[i0,i1,i2] = exp(%x[i0,i1,i2] - %m[i0,i1,0]) : f32[3,5,7]
  %z[i0,i1,i2] = reduce sum over r0 in 0..7: %e[i0,i1,r0] -> 1 / acc : f32[3,5,1]
  %y[i0,i1,i2] = %e[i0,i1,i2] * %z[i0,i1,0] : f32[3,5,7]
}")
        .expect("shared loops");
        assert_eq!(n.loops, [3, 5]);
        assert!(n.stages.iter().all(|s| s.axes == [0, 1]));
    }

    #[test]
    fn rows_are_innermost_where_heads_have_their_own_operands() {
        let n = of("program(%q: f32[6,4,8], %k: f32[4,9,8], %v: f32[4,9,8]) -> (%y) {
  %s[i0,i1,i2] = reduce sum over r0 in 0..8: %q[i0,i1,r0] * %k[i1,i2,r0] : f32[6,4,9]
  %y[i0,i1,i2] = reduce sum over r0 in 0..9: %s[i0,i1,r0] * %v[i1,r0,i2] : f32[6,4,8]
}")
        .expect("shared loops");
        assert_eq!((n.loops, n.stages[0].axes.clone()), (vec![4, 6], vec![1, 0]));
    }

    #[test]
    fn a_sum_over_everything_shares_nothing() {
        let n = of("program(%x: f32[5,7]) -> (%y) {
  %z[] = reduce sum over r0 in 0..5, r1 in 0..7: %x[r0,r1] : f32[]
  %y[i0,i1] = %x[i0,i1] * %z[] : f32[5,7]
}");
        assert_eq!(n, None);
    }
}

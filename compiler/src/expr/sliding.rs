//! Two stages of which the second slides a window over the rows that the first computes: a convolution of every channel by itself after
//! a product, say.

use super::nesting::{factors, plain_stages};
use super::{Affine, Expr, Ix, Node, Program, Stage, Var};

/// How the window moves.
#[derive(Clone, Debug)]
pub struct Sliding<'p> {
    /// The stage that computes the rows: a product.
    pub first: &'p Stage,
    /// The stage that reads them.
    pub second: &'p Stage,
    /// The read.
    pub read: &'p Expr,
    /// The axis of the first stage and of its tensor that the rows lie along.
    pub rows: usize,
    /// The axis of the second stage that moves the window.
    pub axis: usize,
    /// Rows from one window to the next.
    pub step: usize,
    /// The first row of the first window; negative where that is padding.
    pub start: i64,
    /// Rows that a window spans.
    pub reach: usize,
}

impl Sliding<'_> {
    /// Number of rows that `n` windows in a row span.
    pub fn span(&self, n: usize) -> usize {
        self.step * (n - 1) + self.reach
    }
}

/// The two stages of a program, if the second slides a window over the rows of the first, which nothing else reads, and needs each
/// element for few results only: all its axes move the read.
pub fn sliding(program: &Program) -> Option<Sliding<'_>> {
    let [first, second] = plain_stages(program)?[..] else { return None };
    let n_axes = first.axes.len();
    if !first.writes_in_place()
        || first.axes != program.tensor(first.out).dims
        || program.results != [second.out]
        || second.out == first.out
    {
        return None;
    }
    let live = |s: &Stage| s.bounds.iter().any(Option::is_some);
    // Halves are read from copies of the whole image.
    let halves = |(x, y): (&Expr, &Expr)| [x, y].iter().any(|e| e.dtype().is_half());
    if live(first) || live(second) || factors(first).is_none_or(halves) {
        return None;
    }
    if second.reduce.is_empty() || !first.expressions().into_iter().all(|e| reads_plainly(e, first)) {
        return None;
    }
    let (value, finish) = match second.expressions()[..] {
        [value, finish] => (value, finish),
        _ => return None,
    };
    let mut reads = vec![];
    collect(value, first, &mut reads);
    let [read] = reads[..] else { return None };
    let mut others = vec![];
    collect(finish, first, &mut others);
    let Node::Load { index, pad, .. } = read.node() else { return None };
    if !others.is_empty() || pad.as_ref().is_some_and(|p| !matches!(p.node(), Node::Const(_))) {
        return None;
    }
    let index: Vec<&Affine> = index.iter().map(|ix| if let Ix::Affine(a) = ix { Some(a) } else { None }).collect::<Option<_>>()?;
    let coefficient = |k: usize, axis: usize| index[k].coefficient(Var::Axis(axis as u32));
    let n = second.axes.len();
    let moves = |axis: usize| second.axes[axis] == 1 || (0..n_axes).any(|k| coefficient(k, axis) != 0);
    if !(0..n).all(moves) {
        return None;
    }
    (0..n_axes).find_map(|k| {
        let along: Vec<usize> = (0..n).filter(|&a| second.axes[a] > 1 && coefficient(k, a) != 0).collect();
        let [axis] = along[..] else { return None };
        let taps = || (0..second.reduce.len()).map(|r| (second.reduce[r] as i64 - 1, coefficient(k, n + r)));
        let alone = (0..n_axes).all(|other| other == k || coefficient(other, axis) == 0);
        let step = coefficient(k, axis);
        if !alone || step <= 0 || taps().any(|t| t.1 < 0 || t.0 < 0) || index[k].terms.iter().any(|t| matches!(t.0, Var::Loop(_))) {
            return None;
        }
        let reach = 1 + taps().map(|t| t.0 * t.1).sum::<i64>();
        (reach > 1 && first.axes[k] > 1).then(|| Sliding {
            first,
            second,
            read,
            rows: k,
            axis,
            step: step as usize,
            start: index[k].constant,
            reach: reach as usize,
        })
    })
}

/// Whether every read is at a place known when compiled, without padding or with one value of it, and none is of what the stage writes.
fn reads_plainly(e: &Expr, stage: &Stage) -> bool {
    let mut plainly = true;
    e.visit(&mut |e| {
        if let Node::Load { tensor, index, pad } = e.node() {
            let one_pad = pad.as_ref().is_none_or(|p| matches!(p.node(), Node::Const(_)));
            plainly &= *tensor != stage.out && one_pad && index.iter().all(|ix| matches!(ix, Ix::Affine(_)));
        }
    });
    plainly
}

/// The different reads of what a stage writes.
fn collect<'e>(e: &'e Expr, of: &Stage, found: &mut Vec<&'e Expr>) {
    if e.loaded() == Some(of.out) && !found.contains(&e) {
        found.push(e);
    }
    e.children().into_iter().for_each(|c| collect(c, of, found));
}

#[cfg(test)]
mod tests {
    use super::sliding;
    use crate::expr::parse;

    /// Rows, axis, step, start and reach.
    fn of(second: &str) -> Option<(usize, usize, usize, i64, usize)> {
        let text = format!(
            "program(%x: f32[4,9,7], %w: f32[4,6], %d: f32[6,3,3]) -> (%y) {{
  %t[i0,i1,i2] = reduce sum over r0 in 0..4: %x[r0,i1,i2] * %w[r0,i0] -> max(acc, 0) : f32[6,9,7]
  {second}
}}"
        );
        let program = parse(&text).unwrap_or_else(|e| panic!("{e}"));
        sliding(&program).map(|s| (s.rows, s.axis, s.step, s.start, s.reach))
    }

    #[test]
    fn windows_slide_over_rows() {
        let window = "%y[i0,i1,i2] = reduce sum over r0 in 0..3, r1 in 0..3: (%t[i0,i1+r0-1,i2+r1-1] else 0) * %d[i0,r0,r1] : f32[6,9,7]";
        assert_eq!(of(window), Some((1, 1, 1, -1, 3)));
        let strided = "%y[i0,i1,i2] = reduce max over r0 in 0..3, r1 in 0..2: %t[i0,2*i1+2*r0,i2+r1] : f32[6,3,6]";
        assert_eq!(of(strided), Some((1, 1, 2, 0, 5)));
    }

    #[test]
    fn other_reads_do_not() {
        let mixed = "%y[i0,i1,i2] = reduce sum over r0 in 0..6, r1 in 0..3: %t[r0,i1+r1,i2] * %d[r0,r1,0] : f32[5,7,7]";
        assert_eq!(of(mixed), None, "every filter reads all");
        let rows = "%y[i0,i1,i2] = reduce sum over r0 in 0..6: %t[r0,i1,i2] : f32[1,9,7]";
        assert_eq!(of(rows), None, "no window");
        let twice = "%y[i0,i1,i2] = reduce sum over r0 in 0..3: %t[i0,i1+r0,i2] * %t[i0,i1,i2] : f32[6,7,7]";
        assert_eq!(of(twice), None, "two reads");
    }
}

//! Exponentials of differences from a maximum, as softmax has them, where only sums and products see them: what is nothing beside the
//! maximum's own, which is 1, need not be told from zero, and costs a second power of two.
//!
//! Ensures: the same results but for `f32` terms below 2^-126 (`f64`: 2^-1022), which may be zero.

use super::combine::{n_writes, reads};
use crate::expr::{Affine, BinaryOp, Body, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorId, UnaryOp, Var};

/// Rewrites the exponentials of a program.
pub(super) fn flush_exponentials(program: &mut Program) {
    for i in 0..program.items.len() {
        let Item::Stage(stage) = &program.items[i] else { continue };
        let body = stage.body.map(|e| {
            e.rewrite(&mut |e| match e.node() {
                Node::Unary(UnaryOp::Exp, x) if is_flushable(program, stage, x) => x.unary(UnaryOp::ExpFtz),
                _ => e,
            })
        });
        if let Item::Stage(stage) = &mut program.items[i] {
            stage.body = body;
        }
    }
}

/// Whether `e^x`, part of the stage, may be zero where it is tiny: it is a term of sums that have the maximum's own, or factor of what nobody
/// divides by or takes the logarithm of.
fn is_flushable(program: &Program, stage: &Stage, x: &Expr) -> bool {
    let Node::Binary(BinaryOp::Sub, a, max) = x.node() else { return false };
    let Some(along) = axis_of_maximum(program, stage, a, max) else { return false };
    let exp = x.unary(UnaryOp::Exp);
    match &stage.body {
        Body::Map(e) => {
            let ones = is_itself(e, &exp).then_some((stage, along));
            let alone = !program.results.contains(&stage.out) && n_writes(&program.items, stage.out) == 1;
            alone && stage.writes_in_place() && is_smooth(e, &exp) && readers_are_smooth(program, stage.out, ones)
        }
        Body::Reduce { op: ReduceOp::Sum, value, finish } => {
            let has_one = along >= stage.axes.len() && is_itself(value, &exp);
            has_one || sum_is_smooth(program, stage.out, (value, &exp), finish)
        }
        _ => false,
    }
}

/// The axis of the stage along which `max` is the greatest value of `a`.
fn axis_of_maximum(program: &Program, stage: &Stage, a: &Expr, max: &Expr) -> Option<usize> {
    let Node::Load { tensor, index, pad: None } = max.node() else { return None };
    let source = only_writer(program, *tensor)?;
    let Body::Reduce { op: ReduceOp::Max, value, finish } = &source.body else { return None };
    let place: Option<Vec<&Affine>> = index.iter().map(|ix| if let Ix::Affine(a) = ix { Some(a) } else { None }).collect();
    let (place, n) = (place?, source.axes.len());
    if !source.writes_in_place() || source.reduce.len() != 1 || !matches!(finish.node(), Node::Acc) {
        return None;
    }
    (0..stage.axes.len() + stage.reduce.len()).find(|&along| {
        let same_extent = stage.extent(along) == source.reduce[0] && stage.bound(along) == source.bound(n);
        let at = |v: Var| match v {
            Var::Axis(i) if (i as usize) < n => place[i as usize].clone(),
            Var::Axis(_) => Affine::axis(along),
            Var::Loop(_) => Affine::var(v),
        };
        same_extent && value.map_affine(&mut |f| f.substitute(at)) == *a
    })
}

/// The stage that alone writes the tensor, whole, outside of loops.
fn only_writer(program: &Program, t: TensorId) -> Option<&Stage> {
    let writer = program.items.iter().find_map(|item| match item {
        Item::Stage(s) if s.out == t => Some(s),
        _ => None,
    });
    writer.filter(|s| s.axes == program.tensor(t).dims && n_writes(&program.items, t) == 1)
}

/// Whether all that is made of a tensor is smooth in it, but what is made of sums of `ones` over all of the axis, which has a 1.
fn readers_are_smooth(program: &Program, t: TensorId, ones: Option<(&Stage, usize)>) -> bool {
    let smooth = |item: &Item| {
        let Item::Stage(reader) = item else { return false };
        let mut loads = vec![];
        reader.expressions().into_iter().for_each(|e| {
            e.visit(&mut |e| {
                if e.loaded() == Some(t) {
                    loads.push(e.clone());
                }
            });
        });
        loads.iter().all(|load| match &reader.body {
            Body::Map(e) => is_smooth(e, load) && readers_are_smooth(program, reader.out, None),
            Body::Reduce { op: ReduceOp::Sum, value, finish } => {
                let has_one = ones.is_some_and(|(stage, along)| is_itself(value, load) && sums_all(reader, load, stage, along));
                has_one || is_smooth(finish, load) && sum_is_smooth(program, reader.out, (value, load), finish)
            }
            _ => false,
        })
    };
    program.items.iter().filter(|item| reads(item, t)).all(smooth)
}

/// Whether all that is made of a sum is smooth in a part of its value.
fn sum_is_smooth(program: &Program, out: TensorId, (value, part): (&Expr, &Expr), finish: &Expr) -> bool {
    is_smooth(value, part) && is_smooth(finish, &Expr::acc(value.dtype())) && readers_are_smooth(program, out, None)
}

/// Whether a reader's sum is over all of an axis of the stage.
fn sums_all(reader: &Stage, load: &Expr, stage: &Stage, along: usize) -> bool {
    let Node::Load { index, .. } = load.node() else { return false };
    (reader.axes.len()..reader.axes.len() + reader.reduce.len()).any(|r| {
        let same_extent = reader.extent(r) == stage.extent(along) && reader.bound(r) == stage.bound(along);
        index[along] == Ix::Affine(Affine::axis(r)) && same_extent
    })
}

/// Whether the expression is the part, in whatever floating-point type.
fn is_itself(e: &Expr, part: &Expr) -> bool {
    e == part || matches!(e.node(), Node::Cast(a) if e.dtype().is_float() && is_itself(a, part))
}

/// Whether `part` is in the expression only as a term, or a factor of one.
fn is_smooth(e: &Expr, part: &Expr) -> bool {
    if e == part || !e.contains(part) {
        return true;
    }
    match e.node() {
        Node::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, a, b) => is_smooth(a, part) && is_smooth(b, part),
        Node::Binary(BinaryOp::Div, a, b) => is_smooth(a, part) && !b.contains(part),
        Node::Select(c, a, b) => !c.contains(part) && is_smooth(a, part) && is_smooth(b, part),
        Node::Cast(a) => a.dtype().is_float() && e.dtype().is_float() && is_smooth(a, part),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::flush_exponentials;
    use crate::expr::parse;

    fn flushed(text: &str) -> String {
        let mut program = parse(text).unwrap_or_else(|e| panic!("{e}"));
        flush_exponentials(&mut program);
        program.to_string()
    }

    fn stays(text: &str) {
        assert_eq!(flushed(text).trim(), text.trim());
    }

    const MAXIMUM: &str = "%m[i0,i1] = reduce max over r0 in 0..9: %x[i0,r0] : f32[3,1]";

    #[test]
    fn softmax_sees_only_sums_and_products() {
        let text = flushed(&format!(
            "program(%x: f32[3,9]) -> (%y) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) : f32[3,9]
  %z[i0,i1] = reduce sum over r0 in 0..9: %e[i0,r0] -> 1 / acc : f32[3,1]
  %y[i0,i1] = %e[i0,i1] * %z[i0,0] : f32[3,9]
}}"
        ));
        assert!(text.contains("expftz(%x[i0,i1] - %m[i0,0])"), "{text}");
    }

    #[test]
    fn the_logarithm_of_a_whole_sum_is_of_1_at_least() {
        let text = flushed(&format!(
            "program(%x: f32[3,9]) -> (%z) {{
  {MAXIMUM}
  %z[i0,i1] = reduce sum over r0 in 0..9: exp(%x[i0,r0] - %m[i0,0]) -> log(acc) : f32[3,1]
}}"
        ));
        assert!(text.contains("expftz"), "{text}");
    }

    #[test]
    fn products_with_values_end_smoothly() {
        let text = flushed(&format!(
            "program(%x: f32[3,9], %v: f32[9,5]) -> (%y) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) : f32[3,9]
  %z[i0,i1] = reduce sum over r0 in 0..9: %e[i0,r0] -> 1 / acc : f32[3,1]
  %y[i0,i1] = reduce sum over r0 in 0..9: %e[i0,r0] * %v[r0,i1] -> acc * %z[i0,0] : f32[3,5]
}}"
        ));
        assert!(text.contains("expftz"), "{text}");
    }

    #[test]
    fn sums_that_a_mask_may_take_the_maximum_from_stay() {
        // Of the masked terms all may be tiny, and divided by their sum none is.
        stays(&format!(
            "program(%x: f32[3,9], %w: f32[3,9]) -> (%y) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) * %w[i0,i1] : f32[3,9]
  %z[i0,i1] = reduce sum over r0 in 0..9: %e[i0,r0] -> 1 / acc : f32[3,1]
  %y[i0,i1] = %e[i0,i1] * %z[i0,0] : f32[3,9]
}}"
        ));
        stays(&format!(
            "program(%x: f32[3,9], %w: f32[3,9]) -> (%y) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) : f32[3,9]
  %p[i0,i1] = %e[i0,i1] * %w[i0,i1] : f32[3,9]
  %z[i0,i1] = reduce sum over r0 in 0..9: %p[i0,r0] : f32[3,1]
  %y[i0,i1] = %p[i0,i1] / %z[i0,0] : f32[3,9]
}}"
        ));
        stays(&format!(
            "program(%x: f32[3,9], %w: f32[3,9]) -> (%y) {{
  {MAXIMUM}
  %y[i0,i1] = reduce sum over r0 in 0..9: exp(%x[i0,r0] - %m[i0,0]) * %w[i0,r0] -> log(acc) : f32[3,1]
}}"
        ));
    }

    #[test]
    fn what_is_seen_otherwise_stays() {
        // A result, a logarithm of one, a part of the sum, another row's maximum, a maximum of something else, and of fewer.
        stays(&format!(
            "program(%x: f32[3,9]) -> (%e) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) : f32[3,9]
}}"
        ));
        stays(&format!(
            "program(%x: f32[3,9]) -> (%y) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) : f32[3,9]
  %y[i0,i1] = log(%e[i0,i1]) : f32[3,9]
}}"
        ));
        stays(&format!(
            "program(%x: f32[3,9]) -> (%y) {{
  {MAXIMUM}
  %e[i0,i1] = exp(%x[i0,i1] - %m[i0,0]) : f32[3,9]
  %y[i0,i1] = reduce sum over r0 in 0..4: %e[i0,r0] -> log(acc) : f32[3,1]
}}"
        ));
        for (maximum, a) in [
            (MAXIMUM, "%x[i0,r0] - %m[0,0]"),
            (MAXIMUM, "%x[i0,r0] * 2 - %m[i0,0]"),
            ("%m[i0,i1] = reduce max over r0 in 0..8: %x[i0,r0] : f32[3,1]", "%x[i0,r0] - %m[i0,0]"),
            ("%m[i0,i1] = reduce min over r0 in 0..9: %x[i0,r0] : f32[3,1]", "%x[i0,r0] - %m[i0,0]"),
            ("%m[i0,i1] = reduce max over r0 in 0..9: %x[i0,r0] -> acc * 0.5 : f32[3,1]", "%x[i0,r0] - %m[i0,0]"),
        ] {
            stays(&format!(
                "program(%x: f32[3,9]) -> (%y) {{
  {maximum}
  %y[i0,i1] = reduce sum over r0 in 0..9: exp({a}) : f32[3,1]
}}"
            ));
        }
    }
}

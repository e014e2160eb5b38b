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

/// Whether `e^x`, part of the stage, may be zero where it is tiny.
fn is_flushable(program: &Program, stage: &Stage, x: &Expr) -> bool {
    let Node::Binary(BinaryOp::Sub, a, max) = x.node() else { return false };
    let Some(along) = axis_of_maximum(program, stage, a, max) else { return false };
    let exp = x.unary(UnaryOp::Exp);
    match &stage.body {
        Body::Map(e) => is_smooth(e, &exp) && stage.writes_in_place() && readers_are_smooth(program, stage, along),
        // The sum has the maximum's own term.
        Body::Reduce { op: ReduceOp::Sum, value, .. } => along >= stage.axes.len() && is_smooth(value, &exp),
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

/// Whether whoever reads the result of the stage multiplies and adds it only, or sums it over all of `along`, which has a 1.
fn readers_are_smooth(program: &Program, stage: &Stage, along: usize) -> bool {
    let t = stage.out;
    let smooth = |item: &Item| {
        let Item::Stage(reader) = item else { return false };
        let (Body::Map(e) | Body::Reduce { op: ReduceOp::Sum, value: e, .. }) = &reader.body else { return false };
        let mut loads = vec![];
        reader.expressions().into_iter().for_each(|e| {
            e.visit(&mut |e| {
                if e.loaded() == Some(t) {
                    loads.push(e.clone());
                }
            });
        });
        loads.iter().all(|load| {
            let Node::Load { index, .. } = load.node() else { return false };
            let whole = (reader.axes.len()..reader.axes.len() + reader.reduce.len()).any(|r| {
                index[along] == Ix::Affine(Affine::axis(r))
                    && reader.extent(r) == stage.extent(along)
                    && reader.bound(r) == stage.bound(along)
            });
            is_smooth(e, load) && (whole || matches!(reader.body, Body::Map(_)))
        })
    };
    !program.results.contains(&t) && n_writes(&program.items, t) == 1 && program.items.iter().filter(|item| reads(item, t)).all(smooth)
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

//! Divisions that many elements share become one division and products: by what a row was summed to, and by constants inside functions.
//!
//! Ensures: the same results up to one rounding, of values that go on smoothly: a quotient that is rounded to integers or compared stays.

use super::combine::{reads, rewrite_items};
use crate::expr::{BinaryOp, Body, Expr, Item, Node, Program, TensorId};
use crate::tensor::n_elements;

/// How many elements must share a divisor.
const SHARED: usize = 4;

/// Rewrites the divisions of a program.
pub(super) fn divide_once(program: &mut Program) {
    let mut items = std::mem::take(&mut program.items);
    within_functions(&mut items);
    let candidates: Vec<(TensorId, usize)> = items
        .iter()
        .filter_map(|item| match item {
            Item::Stage(s) if matches!(s.body, Body::Reduce { .. }) && s.expressions()[1].dtype().is_float() => {
                Some((s.out, n_elements(&s.axes)))
            }
            _ => None,
        })
        .collect();
    for (t, n) in candidates {
        let shares = |item: &Item| !reads(item, t) || matches!(item, Item::Stage(s) if n_elements(&s.axes) >= SHARED * n);
        let writers = items.iter().filter(|i| matches!(i, Item::Stage(s) if s.out == t)).count();
        if program.results.contains(&t) || writers != 1 || !items.iter().all(shares) {
            continue;
        }
        if let Some(changed) = by_reciprocal(&items, t) {
            items = changed;
        }
    }
    program.items = items;
}

/// [`within_function`] everywhere.
fn within_functions(items: &mut [Item]) {
    for item in items {
        match item {
            Item::Stage(s) => s.body = s.body.map(|e| e.rewrite(&mut |e| within_function(&e, n_elements(&s.reduce)).unwrap_or(e))),
            Item::Repeat { items, .. } => within_functions(items),
            Item::Reshape { .. } => {}
        }
    }
}

/// `f(x / c)` as `f(x * (1 / c))`, but for a mean of `n`: of nothing, where a run has that, it is no number, and a sum times a factor zero.
fn within_function(e: &Expr, n: usize) -> Option<Expr> {
    let Node::Unary(op, a) = e.node() else { return None };
    let Node::Binary(BinaryOp::Div, x, c) = a.node() else { return None };
    let Node::Const(crate::expr::Const::Float(c)) = c.node() else { return None };
    let inverse = 1.0 / c;
    let is_mean = matches!(x.node(), Node::Acc) && *c == n as f64;
    (op.is_polynomial() && !is_mean && inverse.is_finite() && inverse.abs() > 1e-30).then(|| (x * inverse).unary(*op))
}

/// The items with `t` holding reciprocals, if it is only divided by.
fn by_reciprocal(items: &[Item], t: TensorId) -> Option<Vec<Item>> {
    let mut items = items.to_vec();
    // Reads that become factors are told from others by a tensor that does not exist.
    let marker = TensorId(u32::MAX);
    let mut n = 0;
    rewrite_items(&mut items, &mut |e| match e.node() {
        Node::Binary(BinaryOp::Div, x, y) => match y.node() {
            Node::Load { tensor, index, pad: None } if *tensor == t => {
                n += 1;
                x * &Expr::new(Node::Load { tensor: marker, index: index.clone(), pad: None }, y.dtype())
            }
            _ => e,
        },
        _ => e,
    });
    if n == 0 || items.iter().any(|i| reads(i, t)) {
        return None;
    }
    rewrite_items(&mut items, &mut |e| match e.node() {
        Node::Load { tensor, index, pad } if *tensor == marker => {
            Expr::new(Node::Load { tensor: t, index: index.clone(), pad: pad.clone() }, e.dtype())
        }
        _ => e,
    });
    for item in &mut items {
        if let Item::Stage(s) = item
            && s.out == t
            && let Body::Reduce { finish, .. } = &mut s.body
        {
            *finish = finish.like(1.0) / finish.clone();
        }
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::divide_once;
    use crate::expr::parse;

    fn divided(text: &str) -> String {
        let mut program = parse(text).unwrap_or_else(|e| panic!("{e}"));
        divide_once(&mut program);
        program.to_string()
    }

    #[test]
    fn a_row_divides_once() {
        let text = divided(
            "program(%x: f32[3,9]) -> (%y) {
  %z[i0] = reduce sum over r0 in 0..9: %x[i0,r0] : f32[3]
  %y[i0,i1] = %x[i0,i1] / %z[i0] : f32[3,9]
}",
        );
        assert!(text.contains("-> 1 / acc") && text.contains("%x[i0,i1] * %z[i0]"), "{text}");
    }

    #[test]
    fn other_uses_keep_the_division() {
        let text = "program(%x: f32[3,9]) -> (%y) {
  %z[i0] = reduce sum over r0 in 0..9: %x[i0,r0] : f32[3]
  %y[i0,i1] = %x[i0,i1] / %z[i0] + %z[i0] : f32[3,9]
}
";
        assert_eq!(divided(text), text);
    }

    #[test]
    fn only_inside_functions_a_constant_divides_by_its_reciprocal() {
        let text = divided(
            "program(%x: f32[9]) -> (%y) {
  %y[i0] = floor(%x[i0] / 3) + exp(%x[i0] / 5) : f32[9]
}",
        );
        assert!(text.contains("floor(%x[i0] / 3)") && text.contains("exp(%x[i0] * 0.2"), "{text}");
    }

    #[test]
    fn a_mean_inside_a_function_is_a_quotient() {
        let text = "program(%x: f32[9]) -> (%y) {
  %y[i0] = reduce sum over r0 in 0..9: %x[r0] -> exp(acc / 9) : f32[1]
}
";
        assert_eq!(divided(text), text);
        assert!(divided(&text.replace("acc / 9", "acc / 5")).contains("acc * 0.2"));
        assert!(divided(&text.replace("acc / 9", "(acc + 1) / 9")).contains("(acc + 1) * 0.1"));
    }
}

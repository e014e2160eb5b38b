//! Rules about element-wise arithmetic.

use crate::graph::{Graph, NodeId, Value};
use crate::passes::edit::{
    Outcome, alias, broadcast, declined, is_sole, kind, make, operand, operand_name, remove_dead, replace, splat, splat_operand, varies,
};
use crate::tensor::{Tensor, broadcast_dims, is_power_of_two};

fn result(node: NodeId) -> Value {
    Value { node, result: 0 }
}

/// The operand of a two-operand node that is no constant, and the other, whose elements are all `x`; (value, its position, x).
fn with_splat(g: &Graph, node: NodeId) -> Option<(Value, usize, f64)> {
    let (a, b) = (operand(g, node, 0)?, operand(g, node, 1)?);
    match (g.constant(a), g.constant(b)) {
        (None, Some(c)) if !varies(g, b) => Some((a, 0, splat(c)?)),
        (Some(c), None) if !varies(g, a) => Some((b, 1, splat(c)?)),
        _ => None,
    }
}

/// `x + 0`, `x - 0`. For floats only the zero that keeps the sign of zeros, `x + (-0.0)` and `x - 0.0`, or any after a sum of products,
/// which begins with `0.0` and so can be `-0.0` only where it underflows.
pub(super) fn add_zero(g: &mut Graph, node: NodeId) -> Outcome {
    let Some((x, at, zero)) = with_splat(g, node) else { return Outcome::No };
    let sub = kind(g, node) == "Sub";
    if zero != 0.0 || (sub && at == 1) {
        return Outcome::No;
    }
    let sum = matches!(kind(g, x.node), "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
    if g.ty(x).dtype.is_float() && zero.is_sign_negative() == sub && !sum {
        return declined("it would change the sign of zeros");
    }
    alias(g, result(node), x)
}

/// `x * 1`, `x / 1`, `x` to the power 1.
pub(super) fn mul_one(g: &mut Graph, node: NodeId) -> Outcome {
    match with_splat(g, node) {
        Some((x, at, 1.0)) if at == 0 || kind(g, node) == "Mul" => alias(g, result(node), x),
        _ => Outcome::No,
    }
}

/// `x / 2^n` is `x * 2^-n`, exactly.
pub(super) fn div_power_of_two(g: &mut Graph, node: NodeId) -> Outcome {
    let (Some(x), Some(divisor)) = (operand(g, node, 0), operand(g, node, 1)) else { return Outcome::No };
    let Some(c) = g.constant(divisor).filter(|c| c.dtype().is_float() && !c.is_empty()) else { return Outcome::No };
    if g.constant(x).is_some() || varies(g, divisor) {
        return Outcome::No;
    }
    let values = c.to_f64s();
    // Reciprocals of very large powers are subnormal, and may be flushed.
    if !values.iter().all(|&v| is_power_of_two(v) && v.abs() >= 2f64.powi(-13) && v.abs() <= 2f64.powi(13)) {
        return declined("the divisor is no moderate power of two");
    }
    let inverse = Tensor::from_f64s(c.dtype(), c.dims(), &values.iter().map(|v| 1.0 / v).collect::<Vec<_>>());
    let name = format!("{}.inverse", g.name_of(divisor));
    let inverse = g.add_constant(&name, inverse);
    let outcome = replace(g, result(node), make("Mul", &[]), &[Some(x), Some(inverse)]);
    remove_dead(g, inverse.node);
    outcome
}

fn power(g: &Graph, node: NodeId, exponent: f64) -> Option<Value> {
    let x = operand(g, node, 0)?;
    (splat_operand(g, node, 1) == Some(exponent) && g.constant(x).is_none() && g.ty(x) == g.ty(result(node))).then_some(x)
}

/// `x` to the power 2 is `x * x`.
pub(super) fn pow_two(g: &mut Graph, node: NodeId) -> Outcome {
    match power(g, node, 2.0) {
        Some(x) => replace(g, result(node), make("Mul", &[]), &[Some(x), Some(x)]),
        None => Outcome::No,
    }
}

/// `x` to the power 1/2 is the square root.
pub(super) fn pow_half(g: &mut Graph, node: NodeId) -> Outcome {
    match power(g, node, 0.5) {
        Some(x) if g.ty(x).dtype.is_float() => replace(g, result(node), make("Sqrt", &[]), &[Some(x)]),
        _ => Outcome::No,
    }
}

/// `-(-x)`, `!(!x)`.
pub(super) fn double_negation(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(once) = operand(g, node, 0).filter(|v| kind(g, v.node) == kind(g, node)) else { return Outcome::No };
    match operand(g, once.node, 0) {
        Some(x) => alias(g, result(node), x),
        None => Outcome::No,
    }
}

/// A function that changes nothing the second time.
pub(super) fn idempotent(g: &mut Graph, node: NodeId) -> Outcome {
    match operand(g, node, 0) {
        Some(once) if kind(g, once.node) == kind(g, node) => alias(g, result(node), once),
        _ => Outcome::No,
    }
}

/// The bounds of a `Clip` or `Relu`, where they are constant and in order.
fn bounds(g: &Graph, node: NodeId) -> Option<(f64, f64)> {
    let bound = |i: usize, default: f64| match operand(g, node, i) {
        Some(_) => splat_operand(g, node, i),
        None => Some(default),
    };
    match kind(g, node) {
        "Relu" => Some((0.0, f64::INFINITY)),
        "Clip" => {
            let (low, high) = (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?);
            (low <= high).then_some((low, high))
        }
        _ => None,
    }
}

/// A clamp of a clamp is one.
pub(super) fn merge_clips(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(inner) = operand(g, node, 0) else { return Outcome::No };
    let (Some((low, high)), Some((a, b))) = (bounds(g, node), bounds(g, inner.node)) else { return Outcome::No };
    let dtype = g.ty(inner).dtype;
    if !dtype.is_float() {
        return declined("it clamps integers");
    }
    let (a, b) = (a.clamp(low, high), b.clamp(low, high));
    if Some((a, b)) == bounds(g, inner.node) {
        return alias(g, result(node), inner);
    }
    let Some(x) = operand(g, inner.node, 0) else { return Outcome::No };
    if (a, b) == (0.0, f64::INFINITY) {
        return replace(g, result(node), make("Relu", &[]), &[Some(x)]);
    }
    let name = g.name_of(result(node)).to_owned();
    let constant = |g: &mut Graph, suffix: &str, v: f64| {
        v.is_finite().then(|| g.add_constant(&format!("{name}.{suffix}"), Tensor::from_f64s(dtype, &[], &[v])))
    };
    let operands = [Some(x), constant(g, "min", a), constant(g, "max", b)];
    let n = operands.iter().rposition(Option::is_some).map_or(1, |i| i + 1);
    let outcome = replace(g, result(node), make("Clip", &[]), &operands[..n]);
    for v in operands[1..].iter().flatten() {
        remove_dead(g, v.node);
    }
    outcome
}

/// A choice that is the same everywhere.
pub(super) fn where_constant(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(condition) = splat_operand(g, node, 0) else { return Outcome::No };
    let Some(chosen) = operand(g, node, if condition == 0.0 { 2 } else { 1 }) else { return Outcome::No };
    alias(g, result(node), chosen)
}

/// Constants that meet in `(x + a) + b`, `(x - a) + b`, `(x * a) * b`, `(x / a) / b` and their mixtures become one.
pub(super) fn merge_constants(g: &mut Graph, node: NodeId) -> Outcome {
    let Some((outer, inner, b)) = constant_side(g, node) else { return Outcome::No };
    let product = matches!(kind(g, node), "Mul" | "Div");
    if !is_sole(g, inner, if product { &["Mul", "Div"] } else { &["Add", "Sub"] }) || !g.ty(inner).dtype.is_float() {
        return Outcome::No;
    }
    let Some((first, x, a)) = constant_side(g, inner.node) else { return Outcome::No };
    let Some(dims) = broadcast_dims(a.dims(), b.dims()) else { return Outcome::No };
    if dims.iter().product::<usize>() > a.len().max(b.len()) {
        return declined("the merged constant would be larger than both");
    }
    let (av, bv) = (broadcast(&a, &dims), broadcast(&b, &dims));
    // `(x + big) - big` rounds, and `(x * big) / big` saturates: constants of such sizes mean something.
    let tame = |v: &f64| if product { *v != 0.0 && v.abs() < 1e12 && v.abs() > 1e-12 } else { v.abs() < 1e4 };
    if !av.iter().chain(&bv).all(tame) {
        return declined("the constants are too large or too small");
    }
    let merged: Vec<f64> = av
        .iter()
        .zip(&bv)
        .map(|(&a, &b)| match product {
            true => (if first { a } else { 1.0 / a }) * (if outer { b } else { 1.0 / b }),
            false => (if first { a } else { -a }) + (if outer { b } else { -b }),
        })
        .collect();
    let name = operand_name(g, node, 1, "constant");
    let merged = g.add_constant(&name, Tensor::from_f64s(b.dtype(), &dims, &merged));
    let outcome = replace(g, result(node), make(if product { "Mul" } else { "Add" }, &[]), &[Some(x), Some(merged)]);
    remove_dead(g, merged.node);
    outcome
}

/// Of a node `x op constant` (or `constant op x` where that is the same): whether the constant is added or multiplied, `x`, and the constant.
fn constant_side(g: &Graph, node: NodeId) -> Option<(bool, Value, Tensor)> {
    let (a, b) = (operand(g, node, 0)?, operand(g, node, 1)?);
    let direct = matches!(kind(g, node), "Add" | "Mul");
    match (g.constant(a), g.constant(b)) {
        (None, Some(c)) if !varies(g, b) => Some((direct, a, c.clone())),
        (Some(c), None) if direct && !varies(g, a) => Some((true, b, c.clone())),
        _ => None,
    }
}

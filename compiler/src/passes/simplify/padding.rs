//! Rules that move explicit padding into the windows that read it.

use crate::graph::{Graph, NodeId, Value};
use crate::ops::Attribute;
use crate::passes::edit::{Outcome, declined, int, ints, kind, make, operand, replace, splat_operand, text};

/// What a `Pad` with constant amounts does.
struct Padding {
    input: Value,
    /// In front of each axis.
    begin: Vec<i64>,
    /// Behind each axis.
    end: Vec<i64>,
    /// The value, where the mode is `constant`.
    value: Option<f64>,
}

fn padding(g: &Graph, node: NodeId) -> Option<Padding> {
    if kind(g, node) != "Pad" {
        return None;
    }
    let op = g.node(node).operator()?;
    let facts = g.facts(node);
    let rank = facts.rank(0).ok()?;
    let amounts = facts.ints(1).ok()?;
    let axes: Vec<usize> = match facts.has(3) {
        true => facts.ints(3).ok()?.into_iter().map(|a| crate::ops::normalize_axis(a, rank).ok()).collect::<Option<_>>()?,
        false => (0..rank).collect(),
    };
    if amounts.len() != 2 * axes.len() {
        return None;
    }
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        (begin[axis], end[axis]) = (amounts[i], amounts[axes.len() + i]);
    }
    let value = if !matches!(text(op, "mode").as_str(), "" | "constant") {
        None
    } else if facts.has(2) {
        Some(splat_operand(g, node, 2)?)
    } else {
        Some(0.0)
    };
    Some(Padding { input: operand(g, node, 0)?, begin, end, value })
}

/// The padding of the window's operand, if the window can take it over: (it, the window's own pads with it added).
fn absorbed(g: &Graph, node: NodeId) -> Result<Option<(Padding, Vec<i64>)>, String> {
    let Some(p) = operand(g, node, 0).and_then(|v| padding(g, v.node)) else { return Ok(None) };
    let Some(op) = g.node(node).operator() else { return Ok(None) };
    let auto_pad = text(op, "auto_pad");
    if !matches!(auto_pad.as_str(), "" | "NOTSET" | "VALID") {
        return Err("the window pads automatically".to_owned());
    }
    let rank = p.begin.len();
    if rank < 3 || p.begin[..2].iter().chain(&p.end[..2]).any(|&n| n != 0) {
        return Err("channels or batches are padded".to_owned());
    }
    if p.begin.iter().chain(&p.end).any(|&n| n < 0) {
        return Err("the padding crops".to_owned());
    }
    if int(op, "ceil_mode", 0) != 0 {
        return Err("the window rounds its extents up".to_owned());
    }
    let mut pads: Vec<i64> = p.begin[2..].iter().chain(&p.end[2..]).copied().collect();
    if auto_pad != "VALID" {
        for (pad, own) in pads.iter_mut().zip(ints(op, "pads")) {
            *pad += own;
        }
    }
    Ok(Some((p, pads)))
}

fn absorb(g: &mut Graph, node: NodeId, input: Value, pads: Vec<i64>, more: &[(&str, Attribute)]) -> Outcome {
    let Some(op) = g.node(node).operator() else { return Outcome::No };
    let mut attributes: Vec<(&str, Attribute)> = op
        .attributes()
        .into_iter()
        .filter(|(name, _)| !matches!(*name, "pads" | "auto_pad") && more.iter().all(|m| m.0 != *name))
        .collect();
    attributes.push(("pads", Attribute::Ints(pads)));
    attributes.extend_from_slice(more);
    let op = make(&op.schema().full_name(), &attributes);
    let mut operands = g.operands(node);
    operands[0] = Some(input);
    replace(g, Value { node, result: 0 }, op, &operands)
}

/// Zeros around the operand of a convolution.
pub(super) fn pad_conv(g: &mut Graph, node: NodeId) -> Outcome {
    match absorbed(g, node) {
        Err(why) => declined(why),
        Ok(None) => Outcome::No,
        Ok(Some((p, _))) if p.value != Some(0.0) => declined("the padding is not zero"),
        Ok(Some((p, pads))) => absorb(g, node, p.input, pads, &[]),
    }
}

/// Minus infinity around the operand of a maximum, or zeros around values that are not negative.
pub(super) fn pad_max_pool(g: &mut Graph, node: NodeId) -> Outcome {
    let (p, pads) = match absorbed(g, node) {
        Err(why) => return declined(why),
        Ok(None) => return Outcome::No,
        Ok(Some(found)) => found,
    };
    if g.results(node).len() != 1 {
        return declined("its indices are used");
    }
    let zeros = p.value == Some(0.0) && is_not_negative(g, p.input);
    if p.value != Some(f64::NEG_INFINITY) && !zeros {
        return declined("the padding may win");
    }
    if zeros {
        // A window of nothing but padding would be zero before and minus infinity after.
        let Some(op) = g.node(node).operator() else { return Outcome::No };
        let (kernel, dilations) = (ints(op, "kernel_shape"), ints(op, "dilations"));
        let rank = kernel.len();
        if !dilations.iter().all(|&d| d == 1) || (0..rank).any(|i| pads[i] >= kernel[i] || pads[rank + i] >= kernel[i]) {
            return declined("a window may see only padding");
        }
    }
    absorb(g, node, p.input, pads, &[])
}

/// Zeros around the operand of a mean that counts its own padding too.
pub(super) fn pad_average_pool(g: &mut Graph, node: NodeId) -> Outcome {
    let (p, pads) = match absorbed(g, node) {
        Err(why) => return declined(why),
        Ok(None) => return Outcome::No,
        Ok(Some(found)) => found,
    };
    if p.value != Some(0.0) {
        return declined("the padding is not zero");
    }
    let Some(op) = g.node(node).operator() else { return Outcome::No };
    if int(op, "count_include_pad", 0) == 0 && ints(op, "pads").iter().any(|&n| n != 0) {
        return declined("the window does not count its own padding");
    }
    absorb(g, node, p.input, pads, &[("count_include_pad", Attribute::Int(1))])
}

/// Whether no element can be negative: NaN counts as it would win any maximum anyway.
fn is_not_negative(g: &Graph, v: Value) -> bool {
    match kind(g, v.node) {
        "Relu" | "Sigmoid" | "HardSigmoid" | "Abs" | "Exp" | "Softmax" => true,
        "Clip" => splat_operand(g, v.node, 1).is_some_and(|low| low >= 0.0),
        "MaxPool" => operand(g, v.node, 0).is_some_and(|x| is_not_negative(g, x)),
        _ => false,
    }
}

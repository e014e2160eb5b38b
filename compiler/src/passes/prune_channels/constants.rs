//! Which channels have one value everywhere, whatever the inputs (finite ones).

use std::collections::BTreeMap;

use super::slots::{Owner, Slots, concat_axis, merged_axis, owner};
use crate::graph::{Graph, NodeId, Value};
use crate::ops::{Axes, Operands};
use crate::passes::contraction::Contraction;
use crate::passes::edit::{broadcast, kind, operand, splat};
use crate::tensor::{DType, Tensor};

/// The value of each slot that has one.
pub(super) fn constants(g: &Graph, slots: &Slots, contractions: &BTreeMap<NodeId, Contraction>) -> Vec<Option<f64>> {
    let mut constants = vec![None; slots.len()];
    for node in g.operator_nodes() {
        for i in 0..g.operands(node).len() {
            let owner = Owner::Use(node, i);
            if let (Some(t), Some(tensor)) = (slots.find(owner), operand(g, node, i).and_then(|v| g.constant(v))) {
                constants[t.base..t.base + t.n].copy_from_slice(&uniform(tensor, t.axis));
            }
        }
        for v in g.results(node) {
            let Some(t) = slots.find(Owner::Value(v)) else { continue };
            let values = match contractions.get(&node).filter(|c| c.axis == t.axis) {
                Some(c) => filters(g, slots, node, c, &constants),
                None => others(g, slots, node, v, t.axis, &constants),
            };
            if let Some(values) = values.filter(|values| values.len() == t.n) {
                constants[t.base..t.base + t.n].copy_from_slice(&values);
            }
        }
    }
    constants
}

/// For each element of an axis, the value that all elements there share.
fn uniform(t: &Tensor, axis: usize) -> Vec<Option<f64>> {
    let (n, inner) = (t.dims()[axis], t.dims()[axis + 1..].iter().product::<usize>().max(1));
    let mut found: Vec<Option<f64>> = vec![None; n];
    let mut differs = vec![false; n];
    for (flat, v) in t.to_f64s().into_iter().enumerate() {
        let c = flat / inner % n;
        match found[c] {
            None => found[c] = Some(v),
            Some(first) => differs[c] |= first != v,
        }
    }
    found.into_iter().zip(differs).map(|(v, differs)| v.filter(|v| !differs && v.is_finite())).collect()
}

/// Filters that read only constants, with weights other than zero.
fn filters(g: &Graph, slots: &Slots, node: NodeId, c: &Contraction, constants: &[Option<f64>]) -> Option<Vec<Option<f64>>> {
    let input = operand(g, node, 0).and_then(|v| slots.find(Owner::Value(v))).filter(|t| t.axis == c.input_axis);
    let border = kind(g, node) == "ConvTranspose" || (kind(g, node) == "Conv" && super::pads(g, node));
    let mut sums = vec![Some(0.0f64); c.n_filters];
    c.for_each_taps(|filter, channel, taps| {
        if taps.iter().all(|&w| w == 0.0) {
            return;
        }
        sums[filter] = match input.and_then(|t| constants[t.base + channel]) {
            Some(0.0) => sums[filter],
            Some(k) if !border => sums[filter].map(|s| s + k * taps.iter().map(|&w| f64::from(w)).sum::<f64>()),
            _ => None,
        };
    });
    let bias = match operand(g, node, 2) {
        None => vec![0.0; c.n_filters],
        Some(b) => {
            let b = g.constant(b)?;
            if b.len() != 1 && (b.len() != c.n_filters || b.dims().last() != Some(&c.n_filters)) {
                return None;
            }
            broadcast(&b.reshape(&[b.len()]), &[c.n_filters])
        }
    };
    let rounded = |x: f64| Some(f64::from(x as f32)).filter(|x| x.is_finite());
    Some(sums.into_iter().zip(bias).map(|(s, b)| s.and_then(|s| rounded(s * c.alpha + b * c.beta))).collect())
}

/// What other operators make of constant channels.
fn others(g: &Graph, slots: &Slots, node: NodeId, result: Value, axis: usize, constants: &[Option<f64>]) -> Option<Vec<Option<f64>>> {
    let of = |i: usize| owner(g, node, i).and_then(|o| slots.find(o));
    if concat_axis(g, node) == Some(axis) {
        let parts: Option<Vec<_>> = (0..g.operands(node).len()).map(of).collect();
        return Some(parts?.into_iter().flat_map(|t| constants[t.base..t.base + t.n].iter().copied()).collect());
    }
    let facts = g.facts(node);
    let op = g.node(node).operator()?;
    let axes = op.axes(&facts);
    let label = (*axes.results.get(result.result as usize)?.get(axis)?).filter(|_| result.result == 0);
    let Some(label) = label else {
        let (from, to, inner) = merged_axis(g, node)?;
        let t = of(0).filter(|t| t.axis == from && to == axis)?;
        return Some(constants[t.base..t.base + t.n].iter().flat_map(|&k| std::iter::repeat_n(k, inner)).collect());
    };
    if axes.elementwise && facts.facts.iter().flatten().all(|f| f.ty.dtype != DType::Bool) {
        let n = g.ty(result).shape.0.get(axis)?.fixed()?;
        return Some((0..n).map(|c| element(g, slots, node, &axes, label, c, constants)).collect());
    }
    let t = of(0).filter(|t| axes.operands.first().and_then(|l| l.get(t.axis)) == Some(&Some(label)))?;
    let same = op.view(&facts).is_some() || matches!(kind(g, node), "MaxPool" | "GlobalMaxPool" | "GlobalAveragePool");
    // Zero padding and weights of a mean keep zeros what they are.
    let zero = same || matches!(kind(g, node), "AveragePool" | "ReduceMean" | "ReduceSum");
    Some(constants[t.base..t.base + t.n].iter().map(|&k| k.filter(|&k| same || (zero && k == 0.0))).collect())
}

/// Channel `c` of an element-wise operator's result, by its own `eval` on single elements.
fn element(g: &Graph, slots: &Slots, node: NodeId, axes: &Axes, label: u32, c: usize, constants: &[Option<f64>]) -> Option<f64> {
    let op = g.node(node).operator()?;
    let mut facts = vec![];
    for (i, v) in g.operands(node).into_iter().enumerate() {
        let Some(v) = v else {
            facts.push(None);
            continue;
        };
        let linked = axes.operands.get(i).and_then(|l| l.iter().position(|&l| l == Some(label)));
        let value = match linked {
            Some(axis) => {
                let t = slots.find(owner(g, node, i)?).filter(|t| t.axis == axis)?;
                constants[t.base + c]?
            }
            None => splat(g.constant(v)?)?,
        };
        let ty = g.ty(v);
        facts.push(Some(Tensor::from_f64s(ty.dtype, &vec![1; ty.rank()], &[value])));
    }
    let values = op.eval(&Operands::of_values(facts, 1)).ok()?;
    values[0].to_f64s().first().copied().filter(|v| v.is_finite())
}

//! Removes channels that cannot matter: those whose value is a constant that their readers can take into a bias, and those that nobody reads.
//!
//! Requires: types, all extents known; normalizations folded where they can be. Ensures: every removed channel leaves all constants on its
//! way, from the filters that made it to the weights that read it. Keeps: types of inputs and outputs; values for finite inputs, up to the
//! rounding of biases that take constants. Interior values have fewer channels under the same names; the report says which.
//!
//! How: [`slots`] finds which channels of which values must go together, [`constants`] which have a constant value. A set of channels goes
//! if each contraction that reads one either has only zero weights for it or can fold its constant into a bias, and nothing else reads it.
//! With padding a constant other than zero cannot be folded: the border sees zeros. Grouped convolutions lose whole groups.

mod constants;
mod slots;

use std::collections::BTreeMap;

use super::Report;
use super::contraction::{Contraction, new_bias, pads, set_weights};
use super::edit::{kind, make, operand, operand_name, set_constant};
use super::report::Pruned;
use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::ops::Attribute;
use crate::tensor::{Dim, Tensor, row_major_strides};
use slots::{Owner, Slots};

const PASS: &str = "prune-channels";
/// Removing filters can leave what they read unread.
const MAX_ROUNDS: usize = 16;

/// Removes what can go.
pub fn prune_channels(g: &mut Graph, report: &mut Report) {
    let mut before: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..MAX_ROUNDS {
        match round(g, report) {
            Ok(None) => break,
            Ok(Some((pruned, entries))) => {
                *g = pruned;
                for mut entry in entries {
                    // Rounds add up: one entry for each value.
                    entry.before = *before.entry(entry.value.clone()).or_insert(entry.before);
                    if let Some(old) = report.pruned.iter_mut().find(|p| p.value == entry.value) {
                        (old.after, old.n_constant, old.n_unread) =
                            (entry.after, old.n_constant + entry.n_constant, old.n_unread + entry.n_unread);
                    } else {
                        report.applied(PASS, PASS, &entry.value);
                        report.pruned.push(entry);
                    }
                }
            }
            Err(why) => {
                report.declined(PASS, "", why);
                break;
            }
        }
    }
}

/// The contractions whose weights may be cut.
fn contractions(g: &Graph) -> BTreeMap<NodeId, Contraction> {
    let cuttable = |node: NodeId| {
        let c = Contraction::of(g, node)?;
        let fits = c.n_filters.is_multiple_of(c.groups()) && c.n_channels.is_multiple_of(c.groups());
        (fits && c.weights.dtype() == crate::tensor::DType::F32).then_some((node, c))
    };
    g.operator_nodes().into_iter().filter_map(cuttable).collect()
}

/// What keeps a channel that a contraction reads with weights that are not all zero.
fn cannot_fold(g: &Graph, node: NodeId, constant: Option<f64>) -> Option<&'static str> {
    match constant {
        None => Some("it is read"),
        Some(0.0) => None,
        Some(_) if kind(g, node) == "MatMul" => Some("it is constant, but the product that reads it has no bias"),
        Some(_) if kind(g, node) == "ConvTranspose" => Some("it is constant, but the transposed convolution that reads it has a border"),
        Some(_) if kind(g, node) == "Conv" && pads(g, node) => Some("it is constant, but the convolution that reads it pads with zeros"),
        Some(_) if operand(g, node, 2).is_some_and(|b| g.constant(b).is_none()) => Some("it is constant, but the reader's bias is not"),
        Some(_) => None,
    }
}

/// A graph without what can go, and what went; `None` if nothing can.
fn round(g: &Graph, report: &mut Report) -> Result<Option<(Graph, Vec<Pruned>)>, String> {
    let contractions = contractions(g);
    if contractions.is_empty() {
        return Ok(None);
    }
    let mut slots = Slots::of(g, &contractions);
    let constants = constants::constants(g, &slots, &contractions);

    // Whether each class stays, by its first slot.
    let mut stays: Vec<bool> = (0..slots.len()).map(|s| slots.is_pinned(s)).collect();
    let mut reasons: BTreeMap<usize, &'static str> = BTreeMap::new();
    for (&node, c) in &contractions {
        let Some(input) = operand(g, node, 0).and_then(|v| slots.find(Owner::Value(v))) else { continue };
        if input.axis != c.input_axis || c.groups() > 1 {
            continue;
        }
        let mut read = vec![false; c.n_channels];
        c.for_each_taps(|_, channel, taps| read[channel] |= taps.iter().any(|&w| w != 0.0));
        for channel in (0..c.n_channels).filter(|&i| read[i]) {
            let slot = input.base + channel;
            if let Some(why) = cannot_fold(g, node, constants[slot]) {
                let root = slots.root(slot);
                if constants[slot].is_some() && !stays[root] {
                    reasons.insert(root, why);
                }
                stays[root] = true;
            }
        }
    }
    // Something must be left of every value.
    let list = slots.list().to_vec();
    loop {
        let emptied = list.iter().find(|(_, t)| t.n > 0 && (0..t.n).all(|i| !stays[slots.root(t.base + i)]));
        match emptied {
            Some((_, t)) => {
                let root = slots.root(t.base);
                stays[root] = true;
            }
            None => break,
        }
    }
    let mut keep: BTreeMap<Owner, Vec<usize>> = BTreeMap::new();
    for (owner, t) in &list {
        let kept: Vec<usize> = (0..t.n).filter(|&i| stays[slots.root(t.base + i)]).collect();
        if kept.len() < t.n {
            keep.insert(*owner, kept);
        }
    }
    let mut entries = vec![];
    for &node in contractions.keys() {
        let value = Value { node, result: 0 };
        let Some(t) = slots.find(Owner::Value(value)) else { continue };
        if let Some(why) = (0..t.n).find_map(|i| reasons.get(&slots.root(t.base + i))) {
            report.declined(PASS, g.name_of(value), (*why).to_owned());
        }
        let Some(kept) = keep.get(&Owner::Value(value)) else { continue };
        let n_constant = (0..t.n).filter(|i| kept.binary_search(i).is_err() && constants[t.base + i].is_some()).count();
        entries.push(Pruned {
            value: g.name_of(value).to_owned(),
            before: t.n,
            after: kept.len(),
            n_constant,
            n_unread: t.n - kept.len() - n_constant,
        });
    }
    if keep.is_empty() {
        return Ok(None);
    }
    let pruned = apply(g, &slots, &keep, &contractions, &constants)?;
    Ok(Some((pruned, entries)))
}

/// The graph with only what is kept of each value.
fn apply(
    g: &Graph,
    slots: &Slots,
    keep: &BTreeMap<Owner, Vec<usize>>,
    contractions: &BTreeMap<NodeId, Contraction>,
    constants: &[Option<f64>],
) -> Result<Graph, String> {
    let mut out = g.clone();
    for node in g.operator_nodes() {
        let operands = g.operands(node);
        for (i, v) in operands.iter().enumerate() {
            let owner = Owner::Use(node, i);
            if let (Some(v), Some(kept), Some(t)) = (v, keep.get(&owner), slots.find(owner))
                && let Some(tensor) = g.constant(*v)
            {
                let name = g.name_of(*v).to_owned();
                set_constant(&mut out, node, i, &name, select(tensor, t.axis, kept));
            }
        }
        if let Some(c) = contractions.get(&node) {
            cut(g, &mut out, node, c, slots, keep, constants)?;
        }
        let mut resized = false;
        for v in g.results(node) {
            if let (Some(kept), Some(t)) = (keep.get(&Owner::Value(v)), slots.find(Owner::Value(v))) {
                out.info_mut(v).ty.shape.0[t.axis] = Dim::Fixed(kept.len());
                resized = true;
            }
        }
        if resized {
            restate_shape(&mut out, node);
        }
        let op = out.node(node).operator().ok_or("a node without operator")?;
        let types = op.infer(&out.facts(node)).map_err(|e| e.to_string())?;
        for v in out.results(node) {
            let inferred = &types[v.result as usize];
            if inferred != out.ty(v) {
                return Err(format!("`{}` would be {inferred} where {} is due", out.name_of(v), out.ty(v)));
            }
        }
    }
    Ok(out)
}

/// Cuts weights and bias, and takes the removed channels' constants into the bias.
fn cut(
    g: &Graph,
    out: &mut Graph,
    node: NodeId,
    c: &Contraction,
    slots: &Slots,
    keep: &BTreeMap<Owner, Vec<usize>>,
    constants: &[Option<f64>],
) -> Result<(), String> {
    let filters = slots
        .find(Owner::Value(Value { node, result: 0 }))
        .filter(|t| t.axis == c.axis)
        .and_then(|_| keep.get(&Owner::Value(Value { node, result: 0 })));
    let input = operand(g, node, 0).map(Owner::Value);
    let tracked = input.and_then(|o| slots.find(o)).filter(|t| t.axis == c.input_axis);
    let channels = tracked.and_then(|_| keep.get(&input?));
    if filters.is_none() && channels.is_none() {
        return Ok(());
    }
    // Constants of the channels that go, where their readers stay.
    let mut bias = None;
    if let (Some(kept), Some(t), 1) = (channels, tracked, c.groups()) {
        let value: Vec<f64> =
            (0..c.n_channels).map(|i| if kept.binary_search(&i).is_ok() { 0.0 } else { constants[t.base + i].unwrap_or(0.0) }).collect();
        if value.iter().any(|&v| v != 0.0) {
            let sums: Vec<f64> = c.sums(&value).into_iter().map(|s| s * c.alpha).collect();
            bias = new_bias(g, node, c, &vec![1.0; c.n_filters], &sums)?;
        }
    }
    let old_bias = operand(g, node, 2).and_then(|b| g.constant(b)).cloned();
    if let (Some(kept), None, Some(b)) = (filters, &bias, &old_bias)
        && b.len() > 1
    {
        let name = operand_name(g, node, 2, "bias");
        if b.dims().last() == Some(&c.n_filters) {
            set_constant(out, node, 2, &name, select(b, b.dims().len() - 1, kept));
        }
    }
    let (filter_axis, channel_axis) = match c.layout {
        super::contraction::Layout::FilterFirst { .. } => (0, 1),
        super::contraction::Layout::ChannelFirst { .. } => (1, 0),
    };
    let mut weights = c.weights.clone();
    if c.groups() == 1 {
        if let Some(kept) = filters {
            weights = select(&weights, filter_axis, kept);
        }
        if let Some(kept) = channels {
            weights = select(&weights, channel_axis, kept);
        }
    } else {
        // Whole groups go: the outer axis of the weights holds the groups one after the other.
        let outer = if filter_axis == 0 { filters } else { channels };
        let kept = outer.ok_or("a group was cut on one side only")?;
        let per_group = weights.dims()[0] / c.groups();
        weights = select(&weights, 0, kept);
        let groups = (kept.len() / per_group) as i64;
        let op = g.node(node).operator().ok_or("a node without operator")?;
        let mut attributes: Vec<_> = op.attributes().into_iter().filter(|a| a.0 != "group").collect();
        attributes.push(("group", Attribute::Int(groups)));
        out.node_mut(node).kind = NodeKind::Operator(make(&op.schema().full_name(), &attributes));
    }
    let bias = bias.map(|b| match filters {
        Some(kept) if b.len() > 1 || c.n_filters == 1 => select(&b, b.dims().len() - 1, kept),
        _ => b,
    });
    set_weights(out, node, Some(weights), bias, g.name_of(Value { node, result: 0 }));
    Ok(())
}

/// The elements of an axis that are kept.
fn select(t: &Tensor, axis: usize, kept: &[usize]) -> Tensor {
    let strides = row_major_strides(t.dims());
    let mut dims = t.dims().to_vec();
    dims[axis] = kept.len();
    t.gather(&dims, |at| Some(at.iter().enumerate().map(|(i, &x)| strides[i] * if i == axis { kept[x] } else { x }).sum()))
}

/// A constant operand that states the result's extents states the new ones.
fn restate_shape(g: &mut Graph, node: NodeId) {
    let at = match kind(g, node) {
        "Reshape" | "Expand" => 1,
        "Resize" => 3,
        _ => return,
    };
    let Some(dims) = g.ty(Value { node, result: 0 }).dims() else { return };
    let fits = operand(g, node, at).and_then(|v| g.constant(v)).is_some_and(|t| kind(g, node) != "Resize" || t.len() == dims.len());
    if fits {
        let name = operand_name(g, node, at, "shape");
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        set_constant(g, node, at, &name, Tensor::from_slice(&[shape.len()], &shape));
    }
}

#[cfg(test)]
mod tests;

//! Channels of values, and which of them must go together.
//!
//! A *slot* is one channel of one value (or of one use of a constant). Operators tie slots: an element-wise operator ties channel `c` of its
//! operands to channel `c` of its result, a concatenation ties them with an offset, a grouped convolution ties all channels of a group. A
//! *class* is what is tied together. It is *pinned* where something needs all channels: inputs, outputs, and operators that mix channels in
//! a way that only [`crate::ops::Axes`] could tell apart.

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::ops::{Axes, View, normalize_axis};
use crate::passes::contraction::Contraction;
use crate::passes::edit::{int, kind, operand};

/// Who has channels: a value, or one use of a constant (so that users of one constant do not tie each other).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Owner {
    Value(Value),
    Use(NodeId, usize),
}

/// The channels of one owner: slots `base..base + n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    pub(super) axis: usize,
    pub(super) base: usize,
    pub(super) n: usize,
}

/// All slots.
pub(super) struct Slots {
    owners: BTreeMap<Owner, usize>,
    list: Vec<(Owner, Tracked)>,
    parent: Vec<usize>,
    pinned: Vec<bool>,
    changed: bool,
}

/// One end of an operator.
#[derive(Clone, Copy)]
enum End {
    Operand(usize),
    Result(usize),
}

const MAX_SWEEPS: usize = 100;

impl Slots {
    /// The slots that the filters of contractions begin.
    pub(super) fn of(g: &Graph, contractions: &BTreeMap<NodeId, Contraction>) -> Self {
        let mut slots = Slots { owners: BTreeMap::new(), list: vec![], parent: vec![], pinned: vec![], changed: true };
        let nodes: Vec<(NodeId, Axes)> = g
            .operator_nodes()
            .into_iter()
            .map(|n| (n, g.node(n).operator().map_or_else(|| Axes::unlinked(&g.facts(n)), |op| op.axes(&g.facts(n)))))
            .collect();
        let mut sweeps = 0;
        while slots.changed {
            slots.changed = false;
            sweeps += 1;
            for (node, axes) in &nodes {
                slots.visit(g, *node, axes, contractions.get(node));
            }
            if sweeps == MAX_SWEEPS {
                slots.pinned.fill(true);
                break;
            }
        }
        slots
    }

    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// All owners with their channels, in the order they were found.
    pub(super) fn list(&self) -> &[(Owner, Tracked)] {
        &self.list
    }

    pub(super) fn find(&self, owner: Owner) -> Option<Tracked> {
        self.owners.get(&owner).map(|&i| self.list[i].1)
    }

    /// The first slot of a slot's class.
    pub(super) fn root(&mut self, slot: usize) -> usize {
        let mut root = slot;
        while self.parent[root] != root {
            root = self.parent[root];
        }
        let mut at = slot;
        while self.parent[at] != root {
            at = std::mem::replace(&mut self.parent[at], root);
        }
        root
    }

    /// Whether the slot's class must stay.
    pub(super) fn is_pinned(&mut self, slot: usize) -> bool {
        let root = self.root(slot);
        self.pinned[root]
    }

    fn pin(&mut self, t: Tracked) {
        for slot in t.base..t.base + t.n {
            let root = self.root(slot);
            self.changed |= !self.pinned[root];
            self.pinned[root] = true;
        }
    }

    fn tie(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (first, second) = (a.min(b), a.max(b));
            self.parent[second] = first;
            self.pinned[first] |= self.pinned[second];
            self.changed = true;
        }
    }

    /// Ties channel by channel; owners of different extents stay as they are.
    fn tie_all(&mut self, a: Tracked, b: Tracked) {
        if a.n == b.n {
            for i in 0..a.n {
                self.tie(a.base + i, b.base + i);
            }
        } else {
            self.pin(a);
            self.pin(b);
        }
    }

    /// The owner's slots along `axis`. An owner that has them along another axis is pinned, and has none here.
    fn track(&mut self, g: &Graph, owner: Owner, axis: usize) -> Option<Tracked> {
        if let Some(t) = self.find(owner) {
            if t.axis == axis {
                return Some(t);
            }
            self.pin(t);
            return None;
        }
        let value = match owner {
            Owner::Value(v) => Some(v),
            Owner::Use(node, i) => operand(g, node, i),
        }?;
        let n = g.ty(value).shape.0.get(axis)?.fixed()?;
        let t = Tracked { axis, base: self.parent.len(), n };
        self.parent.extend(t.base..t.base + n);
        self.pinned.extend(std::iter::repeat_n(false, n));
        self.owners.insert(owner, self.list.len());
        self.list.push((owner, t));
        self.changed = true;
        // What comes from outside, or goes to the body of a branch or loop, keeps its extents.
        let is_fixed = matches!(g.node(value.node).kind, NodeKind::Input | NodeKind::Control(_))
            || g.users(value).iter().any(|u| g.node(u.0).control().is_some());
        if is_fixed || (g.is_output(value) && matches!(owner, Owner::Value(_))) {
            self.pin(t);
        }
        Some(t)
    }

    fn visit(&mut self, g: &Graph, node: NodeId, axes: &Axes, contraction: Option<&Contraction>) {
        if let Some(c) = contraction {
            self.visit_contraction(g, node, c);
        }
        for i in 0..g.operands(node).len() {
            let Some(t) = owner(g, node, i).and_then(|o| self.find(o)) else { continue };
            if contraction.is_none_or(|c| i != 0 || t.axis != c.input_axis) {
                self.spread(g, node, axes, End::Operand(i), t, contraction.is_some());
            }
        }
        for v in g.results(node) {
            let Some(t) = self.find(Owner::Value(v)) else { continue };
            if contraction.is_none_or(|c| t.axis != c.axis) {
                self.spread(g, node, axes, End::Result(v.result as usize), t, contraction.is_some());
            }
        }
    }

    fn visit_contraction(&mut self, g: &Graph, node: NodeId, c: &Contraction) {
        let Some(filters) = self.track(g, Owner::Value(Value { node, result: 0 }), c.axis) else { return };
        let shared = operand(g, node, 1).is_some_and(|w| g.n_uses(w) > 1);
        let bias = operand(g, node, 2).is_none_or(|b| g.constant(b).is_some());
        if shared || !bias {
            self.pin(filters);
            if let Some(t) = operand(g, node, 0).and_then(|v| self.find(Owner::Value(v))) {
                self.pin(t);
            }
        }
        let groups = c.groups();
        if groups == 1 {
            return;
        }
        let Some(channels) = operand(g, node, 0).and_then(|v| self.track(g, Owner::Value(v), c.input_axis)) else {
            self.pin(filters);
            return;
        };
        let (fs, cs) = (c.n_filters / groups, c.n_channels / groups);
        for group in 0..groups {
            let first = channels.base + group * cs;
            for i in 0..cs {
                self.tie(first, first + i);
            }
            for i in 0..fs {
                self.tie(first, filters.base + group * fs + i);
            }
        }
    }

    /// Follows the channels of one end of an operator to its other ends.
    fn spread(&mut self, g: &Graph, node: NodeId, axes: &Axes, end: End, t: Tracked, contraction: bool) {
        let done = match concat_axis(g, node) {
            Some(axis) if axis == t.axis => self.spread_concat(g, node, axis),
            _ => self.spread_label(g, node, axes, end, t, contraction).is_some() || self.spread_reshape(g, node, end, t).is_some(),
        };
        if !done {
            self.pin(t);
        }
    }

    fn spread_concat(&mut self, g: &Graph, node: NodeId, axis: usize) -> bool {
        let Some(result) = self.track(g, Owner::Value(Value { node, result: 0 }), axis) else { return false };
        let mut offset = result.base;
        let mut all = true;
        for i in 0..g.operands(node).len() {
            let Some(owner) = owner(g, node, i) else { continue };
            let Some(part) = self.track(g, owner, axis) else {
                all = false;
                break;
            };
            if offset + part.n > result.base + result.n {
                all = false;
                break;
            }
            for c in 0..part.n {
                self.tie(part.base + c, offset + c);
            }
            offset += part.n;
        }
        if !all {
            self.pin(result);
        }
        all
    }

    /// By the operator's own word; `None` where the axis is not linked.
    fn spread_label(&mut self, g: &Graph, node: NodeId, axes: &Axes, end: End, t: Tracked, contraction: bool) -> Option<()> {
        let labels = match end {
            End::Operand(i) => axes.operands.get(i)?,
            End::Result(i) => axes.results.get(i)?,
        };
        let label = (*labels.get(t.axis)?)?;
        let has = |labels: &[Option<u32>]| labels.iter().filter(|&&l| l == Some(label)).count();
        // The axis must reach every result, and come from some operand.
        let results = g.results(node);
        if results.iter().any(|v| axes.results.get(v.result as usize).is_none_or(|l| has(l) != 1)) {
            return None;
        }
        let ends: Vec<usize> = (0..axes.operands.len()).filter(|&i| has(&axes.operands[i]) > 0 && operand(g, node, i).is_some()).collect();
        if ends.is_empty() || ends.iter().any(|&i| has(&axes.operands[i]) > 1 || (contraction && i > 0)) {
            return None;
        }
        let owners = ends
            .iter()
            .filter_map(|&i| Some((owner(g, node, i)?, &axes.operands[i])))
            .chain(results.iter().map(|&v| (Owner::Value(v), &axes.results[v.result as usize])));
        for (owner, labels) in owners {
            let axis = labels.iter().position(|&l| l == Some(label))?;
            let other = self.track(g, owner, axis)?;
            self.tie_all(t, other);
        }
        Some(())
    }

    /// Through a reshape that merges the channels with the axes behind them: each becomes a block.
    fn spread_reshape(&mut self, g: &Graph, node: NodeId, end: End, t: Tracked) -> Option<()> {
        let (axis, result_axis, inner) = merged_axis(g, node)?;
        let here = match end {
            End::Operand(_) => axis,
            End::Result(_) => result_axis,
        };
        if t.axis != here {
            return None;
        }
        let from = self.track(g, owner(g, node, 0)?, axis)?;
        let to = self.track(g, Owner::Value(Value { node, result: 0 }), result_axis)?;
        for c in 0..from.n {
            for i in 0..inner {
                self.tie(from.base + c, to.base + c * inner + i);
            }
        }
        Some(())
    }
}

/// Who has the channels of an operand.
pub(super) fn owner(g: &Graph, node: NodeId, i: usize) -> Option<Owner> {
    let v = operand(g, node, i)?;
    Some(if g.constant(v).is_some() { Owner::Use(node, i) } else { Owner::Value(v) })
}

/// The axis of a concatenation.
pub(super) fn concat_axis(g: &Graph, node: NodeId) -> Option<usize> {
    if kind(g, node) != "Concat" {
        return None;
    }
    let rank = g.ty(Value { node, result: 0 }).rank();
    normalize_axis(int(g.node(node).operator()?, "axis", 0), rank).ok()
}

/// Of a reshape that merges an axis with all that follow until the extents agree again: the axis, the result's, and how many elements of the
/// result's axis one of the axis becomes. The first axis above 1 that changes is meant.
pub(super) fn merged_axis(g: &Graph, node: NodeId) -> Option<(usize, usize, usize)> {
    let op = g.node(node).operator()?;
    if op.view(&g.facts(node))?.first()? != &View::Reshape {
        return None;
    }
    let (from, to) = (g.ty(operand(g, node, 0)?).dims()?, g.ty(Value { node, result: 0 }).dims()?);
    if from.contains(&0) {
        return None;
    }
    let outer = |dims: &[usize], axis: usize| dims[..axis].iter().product::<usize>();
    for axis in (0..from.len()).filter(|&a| from[a] > 1) {
        for result_axis in 0..to.len() {
            let fits =
                outer(&from, axis) == outer(&to, result_axis) && to[result_axis] > from[axis] && to[result_axis].is_multiple_of(from[axis]);
            if !fits {
                continue;
            }
            let inner = to[result_axis] / from[axis];
            // The axes behind must be merged whole.
            let mut product = 1;
            let whole = from[axis + 1..].iter().any(|&d| {
                product *= d;
                product == inner
            });
            if whole {
                return Some((axis, result_axis, inner));
            }
        }
    }
    None
}

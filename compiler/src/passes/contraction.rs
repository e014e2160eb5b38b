//! Operators that multiply one operand by constant weights, seen in one way: filters, channels and taps.

use super::edit::{broadcast, float, int, ints, kind, make, operand, operand_name, set_constant, text};
use crate::graph::{Graph, NodeId, Value};
use crate::tensor::{Tensor, n_elements};

/// An operator that multiplies its first operand by constant weights.
#[derive(Clone, Debug)]
pub(super) struct Contraction {
    pub(super) weights: Tensor,
    /// The axis of its result that the filters make, and how many they are.
    pub(super) axis: usize,
    pub(super) n_filters: usize,
    /// The axis of its first operand that it sums over, and its extent.
    pub(super) input_axis: usize,
    pub(super) n_channels: usize,
    /// Elements of the weights in one (filter, channel).
    pub(super) taps: usize,
    pub(super) layout: Layout,
    /// What the products are multiplied by, and the bias.
    pub(super) alpha: f64,
    pub(super) beta: f64,
}

/// How the weights are ordered; in groups where there are several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// `[filter, channel in the group, taps]`.
    FilterFirst { groups: usize },
    /// `[channel, filter in the group, taps]`.
    ChannelFirst { groups: usize },
}

impl Contraction {
    pub(super) fn of(g: &Graph, node: NodeId) -> Option<Self> {
        let op = g.node(node).operator()?;
        let name = kind(g, node);
        if !["Conv", "ConvTranspose", "Gemm", "MatMul"].contains(&name) || !g.ty(Value { node, result: 0 }).dtype.is_float() {
            return None;
        }
        let weights = g.constant(operand(g, node, 1)?)?.clone();
        let rank = g.ty(operand(g, node, 0)?).rank();
        let dims = weights.dims().to_vec();
        if weights.is_empty() {
            return None;
        }
        let groups = int(op, "group", 1).max(1) as usize;
        let of = |weights, axis, n_filters, input_axis, n_channels, layout| {
            let (alpha, beta) = (f64::from(float(op, "alpha", 1.0)), f64::from(float(op, "beta", 1.0)));
            let taps = match name {
                "Conv" | "ConvTranspose" => n_elements(&dims[2..]),
                _ => 1,
            };
            Some(Contraction { weights, axis, n_filters, input_axis, n_channels, taps, layout, alpha, beta })
        };
        match name {
            "Conv" => of(weights, 1, dims[0], 1, dims[1] * groups, Layout::FilterFirst { groups }),
            "ConvTranspose" => of(weights, 1, dims[1] * groups, 1, dims[0], Layout::ChannelFirst { groups }),
            "Gemm" => {
                let input_axis = usize::from(int(op, "transA", 0) == 0);
                match int(op, "transB", 0) {
                    0 => of(weights, 1, dims[1], input_axis, dims[0], Layout::ChannelFirst { groups: 1 }),
                    _ => of(weights, 1, dims[0], input_axis, dims[1], Layout::FilterFirst { groups: 1 }),
                }
            }
            _ if dims.len() == 2 && rank >= 2 => of(weights, rank - 1, dims[1], rank - 1, dims[0], Layout::ChannelFirst { groups: 1 }),
            _ => None,
        }
    }

    /// Filter and channel of a weight.
    pub(super) fn place(&self, flat: usize) -> (usize, usize) {
        let flat = flat / self.taps;
        match self.layout {
            Layout::FilterFirst { groups } => {
                let per_group = self.n_channels / groups;
                let filter = flat / per_group;
                (filter, filter / (self.n_filters / groups) * per_group + flat % per_group)
            }
            Layout::ChannelFirst { groups } => {
                let per_group = self.n_filters / groups;
                let channel = flat / per_group;
                (channel / (self.n_channels / groups) * per_group + flat % per_group, channel)
            }
        }
    }

    /// The weights, each multiplied by `factor(filter, channel)`; `None` if one is not finite then.
    pub(super) fn scaled(&self, factor: impl Fn(usize, usize) -> f64) -> Option<Tensor> {
        let values: Vec<f64> = self
            .weights
            .to_f64s()
            .into_iter()
            .enumerate()
            .map(|(flat, w)| {
                let (filter, channel) = self.place(flat);
                w * factor(filter, channel)
            })
            .collect();
        rounded(&self.weights, self.weights.dims(), &values)
    }

    /// For each filter the sum over channels and taps of weight times `value(channel)`.
    pub(super) fn sums(&self, value: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_filters];
        for (flat, w) in self.weights.to_f64s().into_iter().enumerate() {
            let (filter, channel) = self.place(flat);
            sums[filter] += w * value[channel];
        }
        sums
    }
}

impl Contraction {
    /// Groups of filters that see their own channels only.
    pub(super) fn groups(&self) -> usize {
        match self.layout {
            Layout::FilterFirst { groups } | Layout::ChannelFirst { groups } => groups,
        }
    }

    /// Calls `f(filter, channel, taps)` for all weights in their order.
    pub(super) fn for_each_taps(&self, mut f: impl FnMut(usize, usize, &[f32])) {
        let weights = self.weights.as_slice::<f32>();
        let (outer, inner, base) = match self.layout {
            Layout::FilterFirst { groups } => (self.n_filters, self.n_channels / groups, self.n_filters / groups),
            Layout::ChannelFirst { groups } => (self.n_channels, self.n_filters / groups, self.n_channels / groups),
        };
        let filter_first = matches!(self.layout, Layout::FilterFirst { .. });
        let mut rest = weights.chunks_exact(self.taps);
        for i in 0..outer {
            let first = i / base * inner;
            for j in first..first + inner {
                let Some(taps) = rest.next() else { return };
                if filter_first { f(i, j, taps) } else { f(j, i, taps) }
            }
        }
    }
}

/// A tensor of the element type of `like`; `None` if it has an element that is not finite.
pub(super) fn rounded(like: &Tensor, dims: &[usize], values: &[f64]) -> Option<Tensor> {
    let t = Tensor::from_f64s(like.dtype(), dims, values);
    t.to_f64s().iter().all(|v| v.is_finite()).then_some(t)
}

/// Whether a convolution may read outside its operand.
pub(super) fn pads(g: &Graph, node: NodeId) -> bool {
    g.node(node)
        .operator()
        .is_none_or(|op| ints(op, "pads").iter().any(|&n| n != 0) || !matches!(text(op, "auto_pad").as_str(), "" | "NOTSET" | "VALID"))
}

/// The bias of a contraction after `bias * scale + shift` for each filter; it is constant or absent, and has a place in the operator.
pub(super) fn new_bias(g: &Graph, node: NodeId, c: &Contraction, scale: &[f64], shift: &[f64]) -> Result<Option<Tensor>, String> {
    let Some(old) = operand(g, node, 2) else {
        if shift.iter().all(|&t| t == 0.0) {
            return Ok(None);
        }
        return rounded(&c.weights, &[c.n_filters], shift).ok_or_else(|| "a bias would overflow".to_owned()).map(Some);
    };
    let old = g.constant(old).ok_or("the bias is not constant")?;
    let vector = old.len() == 1 || (old.len() == c.n_filters && old.dims().last() == Some(&c.n_filters));
    let dims = if vector { vec![c.n_filters] } else { vec![*old.dims().first().unwrap_or(&1), c.n_filters] };
    let old_dims: Vec<usize> =
        if old.dims().len() > dims.len() { old.dims()[old.dims().len() - dims.len()..].to_vec() } else { old.dims().to_vec() };
    let values: Vec<f64> = broadcast(&old.reshape(&old_dims), &dims)
        .into_iter()
        .enumerate()
        .map(|(i, b)| c.beta * b * scale[i % c.n_filters] + shift[i % c.n_filters])
        .collect();
    rounded(&c.weights, &dims, &values).ok_or_else(|| "a bias would overflow".to_owned()).map(Some)
}

/// Gives the contraction other weights and another bias, which is named after `base` if there was none.
pub(super) fn set_weights(g: &mut Graph, node: NodeId, weights: Option<Tensor>, bias: Option<Tensor>, base: &str) {
    if let Some(weights) = weights {
        let name = operand_name(g, node, 1, "weights");
        set_constant(g, node, 1, &name, weights);
    }
    if let Some(bias) = bias {
        let name = operand(g, node, 2).map_or_else(|| format!("{base}.bias"), |v| g.name_of(v).to_owned());
        set_constant(g, node, 2, &name, bias);
        if let Some(op) = g.node(node).operator()
            && float(op, "beta", 1.0) != 1.0
        {
            let attributes: Vec<_> = op.attributes().into_iter().filter(|a| a.0 != "beta").collect();
            g.node_mut(node).kind = crate::graph::NodeKind::Operator(make(&op.schema().full_name(), &attributes));
        }
    }
}

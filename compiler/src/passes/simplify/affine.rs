//! Rules that fold scales and shifts by constants into the weights next to them.
//!
//! New weights and biases are computed in `f64` and rounded once, so a result changes by a few roundings: relative to the greatest summand
//! of an output element, by at most `(k + 4) * 2^-24` in `f32` where the original has the bound `k * 2^-24`, `k` being the number of summands.

use crate::graph::{Graph, NodeId, Value};
use crate::passes::edit::{
    Outcome, alias, broadcast, declined, float, insert, int, ints, is_sole, kind, make, only_result, operand, operand_name, remove_dead,
    replace, set_constant, text,
};
use crate::tensor::{Tensor, n_elements};

/// Weights of more elements are not copied for one of several users.
const MAX_COPIED_ELEMENTS: usize = 4096;

/// A constant factor or summand, broadcast as ONNX does.
struct Coefficient {
    dims: Vec<usize>,
    values: Vec<f64>,
}

impl Coefficient {
    fn scalar(x: f64) -> Self {
        Coefficient { dims: vec![], values: vec![x] }
    }

    fn is(&self, x: f64) -> bool {
        self.values.iter().all(|&v| v == x)
    }

    /// One value for each of the `n` elements of axis `axis` of a value of this rank; `None` if it varies along others.
    fn along(&self, rank: usize, axis: usize, n: usize) -> Option<Vec<f64>> {
        if self.values.len() == 1 {
            return Some(vec![self.values[0]; n]);
        }
        let skip = rank.checked_sub(self.dims.len())?;
        let fits = self.values.len() == n && self.dims.iter().enumerate().all(|(i, &d)| d == if i + skip == axis { n } else { 1 });
        fits.then(|| self.values.clone())
    }
}

/// `x * scale + shift`.
struct Affine {
    x: Value,
    scale: Coefficient,
    shift: Coefficient,
}

/// What a node does, if it scales and shifts by constants.
fn affine_of(g: &Graph, node: NodeId) -> Option<Affine> {
    let (first, one, zero) = (operand(g, node, 0)?, || Coefficient::scalar(1.0), || Coefficient::scalar(0.0));
    if !g.ty(first).dtype.is_float() {
        return None;
    }
    if kind(g, node) == "Neg" {
        return Some(Affine { x: first, scale: Coefficient::scalar(-1.0), shift: zero() });
    }
    if kind(g, node) == "BatchNormalization" {
        let (scale, shift) = batch_norm_coefficients(g, node)?;
        return Some(Affine { x: first, scale, shift });
    }
    let second = operand(g, node, 1)?;
    let (x, c, at) = match (g.constant(first), g.constant(second)) {
        (None, Some(c)) => (first, c, 1),
        (Some(c), None) => (second, c, 0),
        _ => return None,
    };
    let c = |f: fn(f64) -> f64| Coefficient { dims: c.dims().to_vec(), values: c.to_f64s().into_iter().map(f).collect() };
    let (scale, shift) = match (kind(g, node), at) {
        ("Add", _) => (one(), c(|v| v)),
        ("Sub", 1) => (one(), c(|v| -v)),
        ("Sub", _) => (Coefficient::scalar(-1.0), c(|v| v)),
        ("Mul", _) => (c(|v| v), zero()),
        ("Div", 1) => (c(|v| 1.0 / v), zero()),
        _ => return None,
    };
    Some(Affine { x, scale, shift })
}

fn batch_norm_coefficients(g: &Graph, node: NodeId) -> Option<(Coefficient, Coefficient)> {
    let op = g.node(node).operator()?;
    let rank = g.ty(operand(g, node, 0)?).rank();
    if int(op, "training_mode", 0) != 0 || rank < 2 {
        return None;
    }
    only_result(g, node)?;
    let epsilon = f64::from(float(op, "epsilon", 1e-5));
    let [scale, bias, mean, var] = [1, 2, 3, 4].map(|i| operand(g, node, i).and_then(|v| g.constant(v)).map(Tensor::to_f64s));
    let (scale, bias, mean, var) = (scale?, bias?, mean?, var?);
    let n = scale.len();
    if [&bias, &mean, &var].iter().any(|v| v.len() != n) {
        return None;
    }
    let factor: Vec<f64> = (0..n).map(|c| scale[c] / (var[c] + epsilon).sqrt()).collect();
    let shift = (0..n).map(|c| bias[c] - mean[c] * factor[c]).collect();
    let dims: Vec<usize> = std::iter::once(n).chain(std::iter::repeat_n(1, rank - 2)).collect();
    Some((Coefficient { dims: dims.clone(), values: factor }, Coefficient { dims, values: shift }))
}

/// An operator that multiplies its first operand by constant weights.
struct Contraction {
    weights: Tensor,
    /// The axis of its result that the filters make, and how many they are.
    axis: usize,
    n_filters: usize,
    /// The axis of its first operand that it sums over, and its extent.
    input_axis: usize,
    n_channels: usize,
    /// Elements of the weights in one (filter, channel).
    taps: usize,
    layout: Layout,
    /// What the products are multiplied by, and the bias.
    alpha: f64,
    beta: f64,
}

/// How the weights are ordered; in groups where there are several.
#[derive(Clone, Copy)]
enum Layout {
    /// `[filter, channel in the group, taps]`.
    FilterFirst { groups: usize },
    /// `[channel, filter in the group, taps]`.
    ChannelFirst { groups: usize },
}

impl Contraction {
    fn of(g: &Graph, node: NodeId) -> Option<Self> {
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
    fn place(&self, flat: usize) -> (usize, usize) {
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
    fn scaled(&self, factor: impl Fn(usize, usize) -> f64) -> Option<Tensor> {
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
    fn sums(&self, value: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.n_filters];
        for (flat, w) in self.weights.to_f64s().into_iter().enumerate() {
            let (filter, channel) = self.place(flat);
            sums[filter] += w * value[channel];
        }
        sums
    }
}

/// A tensor of the element type of `like`; `None` if it has an element that is not finite.
fn rounded(like: &Tensor, dims: &[usize], values: &[f64]) -> Option<Tensor> {
    let t = Tensor::from_f64s(like.dtype(), dims, values);
    t.to_f64s().iter().all(|v| v.is_finite()).then_some(t)
}

/// The bias of a contraction after `bias * scale + shift` for each filter; it is constant or absent, and has a place in the operator.
fn new_bias(g: &Graph, node: NodeId, c: &Contraction, scale: &[f64], shift: &[f64]) -> Result<Option<Tensor>, String> {
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

/// Gives the contraction other weights and another bias.
fn set_weights(g: &mut Graph, node: NodeId, weights: Option<Tensor>, bias: Option<Tensor>) {
    if let Some(weights) = weights {
        let name = operand_name(g, node, 1, "weights");
        set_constant(g, node, 1, &name, weights);
    }
    if let Some(bias) = bias {
        let name = operand_name(g, node, 2, "bias");
        set_constant(g, node, 2, &name, bias);
        if let Some(op) = g.node(node).operator()
            && float(op, "beta", 1.0) != 1.0
        {
            let attributes: Vec<_> = op.attributes().into_iter().filter(|a| a.0 != "beta").collect();
            g.node_mut(node).kind = crate::graph::NodeKind::Operator(make(op.schema().name, &attributes));
        }
    }
}

fn weights_are_shared(g: &Graph, node: NodeId, c: &Contraction) -> bool {
    operand(g, node, 1).is_some_and(|w| g.n_uses(w) > 1) && c.weights.len() > MAX_COPIED_ELEMENTS
}

/// `BatchNormalization` of a convolution or matrix product goes into its weights.
pub(super) fn batch_norm(g: &mut Graph, node: NodeId) -> Outcome {
    affine_after(g, node)
}

/// A scale and shift for each filter of a convolution or matrix product goes into its weights and bias.
pub(super) fn affine_after(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(Affine { x, scale, shift }) = affine_of(g, node) else { return Outcome::No };
    // `MatMul` has no bias: it is the `Add` behind it.
    let addend = (is_sole(g, x, &["Add"])).then(|| affine_of(g, x.node)).flatten().filter(|a| is_sole(g, a.x, &["MatMul"]));
    let product = addend.as_ref().map_or(x, |a| a.x);
    let Some(c) = Contraction::of(g, product.node) else { return Outcome::No };
    let result = Value { node, result: 0 };
    if product.result != 0 || g.n_uses(product) != 1 {
        return declined("the product has other users");
    }
    if g.ty(result) != g.ty(product) {
        return declined("it broadcasts the product");
    }
    let rank = g.ty(product).rank();
    let (Some(s), Some(t)) = (scale.along(rank, c.axis, c.n_filters), shift.along(rank, c.axis, c.n_filters)) else {
        return declined("the constant varies inside a channel");
    };
    let matmul = kind(g, product.node) == "MatMul";
    if matmul && scale.is(1.0) {
        return Outcome::No;
    }
    let weights = if scale.is(1.0) { None } else { Some(c.scaled(|filter, _| s[filter])) };
    if weights.as_ref().is_some_and(Option::is_none) {
        return declined("a weight would overflow");
    }
    if weights.is_some() && weights_are_shared(g, product.node, &c) {
        return declined("the weights have other users");
    }
    if matmul {
        let inner = match &addend {
            Some(a) => match a.shift.along(rank, c.axis, c.n_filters) {
                Some(inner) => inner,
                None => return declined("the addend varies inside a channel"),
            },
            None => vec![0.0; c.n_filters],
        };
        let total: Vec<f64> = (0..c.n_filters).map(|i| inner[i] * s[i] + t[i]).collect();
        let Some(total) = rounded(&c.weights, &[c.n_filters], &total) else { return declined("the addend would overflow") };
        set_weights(g, product.node, weights.flatten(), None);
        let name = g.name_of(result).to_owned();
        if total.to_f64s().iter().all(|&v| v == 0.0) {
            return finish(g, result, product, &name);
        }
        let total = g.add_constant(&format!("{name}.bias"), total);
        let outcome = replace(g, result, make("Add", &[]), &[Some(product), Some(total)]);
        remove_dead(g, total.node);
        // The scaled product is another value than the model's: it must not have its name.
        g.rename(product, &format!("{name}.product"));
        return outcome;
    }
    let bias = match new_bias(g, product.node, &c, &s, &t) {
        Ok(bias) => bias,
        Err(why) => return declined(why),
    };
    set_weights(g, product.node, weights.flatten(), bias);
    let name = g.name_of(result).to_owned();
    finish(g, result, product, &name)
}

/// The product is the result now, and has its name.
fn finish(g: &mut Graph, result: Value, product: Value, name: &str) -> Outcome {
    let outcome = alias(g, result, product);
    if matches!(outcome, Outcome::Done) {
        g.rename(product, name);
    }
    outcome
}

/// A scale and shift for each input channel goes into the weights (and, where no padding is added after it, the shift into the bias).
pub(super) fn affine_before(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(scaled) = operand(g, node, 0) else { return Outcome::No };
    let Some(Affine { x, scale, shift }) = affine_of(g, scaled.node) else { return Outcome::No };
    let Some(c) = Contraction::of(g, node) else { return Outcome::No };
    if g.n_uses(scaled) != 1 {
        return declined("the scaled value has other users");
    }
    if g.ty(scaled) != g.ty(x) {
        return declined("the scale broadcasts its operand");
    }
    let rank = g.ty(x).rank();
    let (Some(s), Some(t)) = (scale.along(rank, c.input_axis, c.n_channels), shift.along(rank, c.input_axis, c.n_channels)) else {
        return declined("the constant varies inside a channel");
    };
    let shifts = !shift.is(0.0);
    if shifts && kind(g, node) == "MatMul" {
        return declined("a matrix product has no bias to take the shift");
    }
    if shifts && kind(g, node) == "Conv" && pads(g, node) {
        return declined("the convolution pads: its border sees zeros instead of the shift");
    }
    if weights_are_shared(g, node, &c) {
        return declined("the weights have other users");
    }
    let Some(weights) = c.scaled(|_, channel| s[channel]) else { return declined("a weight would overflow") };
    let bias = if shifts {
        let sums: Vec<f64> = c.sums(&t).into_iter().map(|v| v * c.alpha).collect();
        match new_bias(g, node, &c, &vec![1.0; c.n_filters], &sums) {
            Ok(bias) => bias,
            Err(why) => return declined(why),
        }
    } else {
        None
    };
    set_weights(g, node, (!scale.is(1.0)).then_some(weights), bias);
    g.set_operand(node, 0, Some(x));
    remove_dead(g, scaled.node);
    Outcome::Done
}

/// Whether a convolution may read outside its operand.
fn pads(g: &Graph, node: NodeId) -> bool {
    g.node(node)
        .operator()
        .is_none_or(|op| ints(op, "pads").iter().any(|&n| n != 0) || !matches!(text(op, "auto_pad").as_str(), "" | "NOTSET" | "VALID"))
}

/// A `BatchNormalization` with constant statistics that no weights can take is a product and a sum.
pub(super) fn lone_batch_norm(g: &mut Graph, node: NodeId) -> Outcome {
    let Some(Affine { x, scale, shift }) = affine_of(g, node) else { return Outcome::No };
    let result = Value { node, result: 0 };
    let (name, label, dtype) = (g.name_of(result).to_owned(), g.node(node).label.clone(), g.ty(x).dtype);
    let constant = |c: &Coefficient| Tensor::from_f64s(dtype, &c.dims, &c.values);
    let (scale, shift) = (constant(&scale), constant(&shift));
    if scale.to_f64s().iter().chain(&shift.to_f64s()).any(|v| !v.is_finite()) {
        return declined("a factor would overflow");
    }
    let scale = g.add_constant(&format!("{name}.scale"), scale);
    let Some(product) = insert(g, make("Mul", &[]), &[Some(x), Some(scale)], &format!("{name}.scaled"), &label) else {
        remove_dead(g, scale.node);
        return declined("the statistics do not broadcast");
    };
    let shift = g.add_constant(&format!("{name}.shift"), shift);
    let outcome = replace(g, result, make("Add", &[]), &[Some(product), Some(shift)]);
    remove_dead(g, shift.node);
    remove_dead(g, product.node);
    outcome
}

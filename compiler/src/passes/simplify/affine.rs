//! Rules that fold scales and shifts by constants into the weights next to them.
//!
//! New weights and biases are computed in `f64` and rounded once, so a result changes by a few roundings: relative to the greatest summand
//! of an output element, by at most `(k + 4) * 2^-24` in `f32` where the original has the bound `k * 2^-24`, `k` being the number of summands.

use crate::graph::{Graph, NodeId, Value};
use crate::passes::contraction::{Contraction, new_bias, pads, rounded, set_weights};
use crate::passes::edit::{
    Outcome, alias, declined, float, insert, int, is_sole, kind, make, only_result, operand, remove_dead, replace, varies,
};
use crate::tensor::{DType, Tensor};

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
        (None, Some(c)) if !varies(g, second) => (first, c, 1),
        (Some(c), None) if !varies(g, first) => (second, c, 0),
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
        let name = g.name_of(result).to_owned();
        set_weights(g, product.node, weights.flatten(), None, &name);
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
    let name = g.name_of(result).to_owned();
    set_weights(g, product.node, weights.flatten(), bias, &name);
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
    let name = g.name_of(Value { node, result: 0 }).to_owned();
    set_weights(g, node, (!scale.is(1.0)).then_some(weights), bias, &name);
    g.set_operand(node, 0, Some(x));
    remove_dead(g, scaled.node);
    Outcome::Done
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

/// A scale of what a product reads, behind views or not, scales the product instead: `(a * s) b = (a b) * s`.
///
/// Only where both operands vary; [`affine_before`] puts it into weights.
pub(super) fn scale_after_product(g: &mut Graph, node: NodeId) -> Outcome {
    let product = Value { node, result: 0 };
    let (Some(a), Some(b)) = (operand(g, node, 0), operand(g, node, 1)) else { return Outcome::No };
    if g.constant(a).is_some() || g.constant(b).is_some() || g.is_output(product) || g.ty(product).dtype != DType::F32 {
        return Outcome::No;
    }
    for (i, mut v) in [a, b].into_iter().enumerate() {
        let (mut user, mut at) = (node, i);
        while g.n_uses(v) == 1 && g.results(v.node).len() == 1 {
            let Some(op) = g.node(v.node).operator() else { break };
            if let Some(affine) = affine_of(g, v.node)
                && affine.shift.is(0.0)
                && affine.scale.values.len() == 1
                && g.ty(affine.x) == g.ty(v)
                && g.constant(affine.x).is_none()
            {
                let scale = affine.scale.values[0];
                let name = g.name_of(product).to_owned();
                let c = g.add_constant(&format!("{name}.scale"), Tensor::from_slice(&[], &[scale as f32]));
                let scaled = match g.add_node(make("Mul", &[]), &[Some(product), Some(c)], &[format!("{name}.scaled")], "") {
                    Ok(scaled) => Value { node: scaled, result: 0 },
                    Err(e) => return declined(e.to_string()),
                };
                g.replace_uses(product, scaled);
                g.set_operand(user, at, Some(affine.x));
                remove_dead(g, v.node);
                return Outcome::Done;
            }
            let Some(next) = op.view(&g.facts(v.node)).and(operand(g, v.node, 0)) else { break };
            (user, at, v) = (v.node, 0, next);
        }
    }
    Outcome::No
}

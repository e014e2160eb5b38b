//! Keeps the weights of contractions and recurrent cells as `i8` with one scale for each output channel.
//!
//! Requires: constants folded; no pass behind it folds constants. Ensures: every such constant of at least [`MIN_ELEMENTS`] that nothing
//! else reads is `DequantizeLinear(@w.q, @w.scale)`, symmetric (no zero point), rounded to nearest even. Keeps: types and the names of values;
//! weights change by at most half a scale, which is 1/254 of the greatest weight of the channel. The report says by how much.

use std::collections::BTreeMap;

use super::Report;
use super::edit::{int, kind, make};
use super::report::Quantized;
use crate::graph::{Graph, NodeId, Value};
use crate::ops::Attribute;
use crate::tensor::{DType, Tensor, n_elements};

const PASS: &str = "quantize-weights";

/// Smaller constants stay: their scales would weigh too much.
pub const MIN_ELEMENTS: usize = 1024;

/// Replaces weights by `DequantizeLinear` nodes.
pub fn quantize_weights(g: &mut Graph, report: &mut Report) {
    // In the order of first use; with each constant, the axis its users want.
    let mut found: BTreeMap<usize, (Value, usize)> = BTreeMap::new();
    for (at, node) in g.operator_nodes().into_iter().enumerate() {
        for (i, operand) in g.operands(node).into_iter().enumerate() {
            let Some(weights) = operand else { continue };
            let Some(t) = g.constant(weights).filter(|t| t.len() >= MIN_ELEMENTS && t.dtype() == DType::F32) else { continue };
            if let Some(axis) = channel_axis(g, node, i, t.dims().len())
                && !found.values().any(|f| f.0 == weights)
            {
                found.insert(at * 16 + i, (weights, axis));
            }
        }
    }
    for (weights, axis) in found.into_values() {
        let Some(t) = g.constant(weights).cloned() else { continue };
        let name = g.name_of(weights).to_owned();
        let other = g.users(weights).into_iter().find(|&(user, i)| channel_axis(g, user, i, t.dims().len()) != Some(axis));
        if let Some((user, _)) = other {
            report.declined(PASS, &name, format!("`{}` reads it in another way", kind(g, user)));
            continue;
        }
        if g.is_output(weights) {
            report.declined(PASS, &name, "it is an output".to_owned());
            continue;
        }
        match quantize(&t, axis) {
            Some(quantized) => replace(g, weights, axis, quantized, report),
            None => report.declined(PASS, &name, "a weight is not finite".to_owned()),
        }
    }
}

/// The axis of operand `i` along which scales may differ, if the operand holds weights: that of the output channels.
fn channel_axis(g: &Graph, node: NodeId, i: usize, rank: usize) -> Option<usize> {
    let op = g.node(node).operator()?;
    match (kind(g, node), i) {
        ("Conv", 1) => Some(0),
        ("ConvTranspose", 1) => Some(1),
        ("Gemm", 1) => Some(usize::from(int(op, "transB", 0) == 0)),
        ("Gemm", 0) => Some(usize::from(int(op, "transA", 0) != 0)),
        ("MatMul", 1) if rank >= 2 => Some(rank - 1),
        ("MatMul", 0) if rank >= 2 => Some(rank - 2),
        // [directions, gates, channels].
        ("LSTM" | "GRU" | "RNN", 1 | 2) => Some(1),
        _ => None,
    }
}

struct Parts {
    weights: Tensor,
    scales: Tensor,
    snr_db: f64,
    max_abs_error: f64,
}

/// Symmetric, with a scale for each element of `axis`; `None` if a weight is not finite.
fn quantize(t: &Tensor, axis: usize) -> Option<Parts> {
    let values = t.as_slice::<f32>();
    let (n, inner) = (t.dims()[axis], n_elements(&t.dims()[axis + 1..]));
    let mut greatest = vec![0f32; n];
    for (block, row) in values.chunks_exact(inner.max(1)).enumerate() {
        let max = &mut greatest[block % n];
        for &v in row {
            if !v.is_finite() {
                return None;
            }
            *max = max.max(v.abs());
        }
    }
    let scales: Vec<f32> = greatest.iter().map(|&m| if m / 127.0 > 0.0 { m / 127.0 } else { 1.0 }).collect();
    let mut quantized = Vec::with_capacity(values.len());
    let (mut signal, mut noise, mut max_abs_error) = (0.0f64, 0.0f64, 0.0f64);
    for (block, row) in values.chunks_exact(inner.max(1)).enumerate() {
        let scale = scales[block % n];
        for &v in row {
            let q = (v / scale).round_ties_even().clamp(-127.0, 127.0);
            let error = f64::from(v - q * scale);
            signal += f64::from(v) * f64::from(v);
            noise += error * error;
            max_abs_error = max_abs_error.max(error.abs());
            quantized.push(q as i8);
        }
    }
    Some(Parts {
        weights: Tensor::from_slice(t.dims(), &quantized),
        scales: Tensor::from_slice(&[n], &scales),
        snr_db: if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() },
        max_abs_error,
    })
}

fn replace(g: &mut Graph, old: Value, axis: usize, parts: Parts, report: &mut Report) {
    let name = g.name_of(old).to_owned();
    let before = g.constant(old).map_or(0, |t| t.bytes().len());
    let user = g.users(old).first().map_or(String::new(), |&(node, _)| g.name_of(Value { node, result: 0 }).to_owned());
    let entry = Quantized {
        weights: name.clone(),
        user,
        n_elements: parts.weights.len(),
        before_bytes: before,
        after_bytes: parts.weights.bytes().len() + parts.scales.bytes().len(),
        snr_db: parts.snr_db,
        max_abs_error: parts.max_abs_error,
    };
    let ty = g.ty(old).clone();
    let weights = g.add_constant(&format!("{name}.q"), parts.weights);
    let scales = g.add_constant(&format!("{name}.scale"), parts.scales);
    let attributes: &[_] = &[("axis", Attribute::Int(axis as i64))];
    let node = g.add_typed_node(make("DequantizeLinear", attributes), &[Some(weights), Some(scales)], vec![(name.clone(), ty)], "");
    let new = Value { node, result: 0 };
    g.replace_uses(old, new);
    g.remove(old.node);
    g.rename(new, &name);
    report.applied(PASS, PASS, &name);
    report.quantized.push(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{evaluate, run};

    #[test]
    fn weights_become_bytes_with_a_scale_for_each_filter() {
        let text = "
            graph @g(%x: f32[1,8,5,5]) -> (%y) {
              @w = const rand(1) : f32[16,8,3,3]
              @b = const rand(2) : f32[16]
              %y = Conv(%x, @w, @b) pads=[1,1,1,1]
            }";
        let (before, after, report) = run(quantize_weights, text);
        assert_eq!(after.operator_nodes().len(), 2);
        let entry = &report.quantized[0];
        assert_eq!((entry.weights.as_str(), entry.user.as_str(), entry.before_bytes, entry.after_bytes), ("w", "y", 4608, 1152 + 64));
        assert!(entry.snr_db > 40.0 && entry.max_abs_error < 0.02, "{entry:?}");
        let (a, b) = evaluate(&before, &after, 7);
        let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // 72 products with an error of at most half a scale, random signs.
        assert!(worst > 0.0 && worst < 0.2, "{worst}");
    }

    #[test]
    fn each_product_scales_its_own_output_axis() {
        let text = "
            graph @g(%x: f32[4,32]) -> (%y) {
              @a = const rand(1) : f32[32,40]
              @b = const rand(2) : f32[64,40]
              @c = const rand(3) : f32[64,24]
              %u = MatMul(%x, @a)
              %v = Gemm(%u, @b) transB=1
              %y = Gemm(%v, @c)
            }";
        let (_, after, report) = run(quantize_weights, text);
        let axes: Vec<String> = after
            .operator_nodes()
            .into_iter()
            .filter(|&n| kind(&after, n) == "DequantizeLinear")
            .map(|n| format!("{} {}", after.name_of(Value { node: n, result: 0 }), after.ty(after.operands(n)[1].unwrap())))
            .collect();
        assert_eq!(axes, ["a f32[40]", "b f32[64]", "c f32[24]"]);
        assert_eq!(report.quantized.len(), 3);
    }

    #[test]
    fn a_table_that_is_also_gathered_stays() {
        let text = "
            graph @g(%x: f32[2,64], %i: i64[3]) -> (%y, %z) {
              @w = const rand(1) : f32[64,64]
              %y = MatMul(%x, @w)
              %z = Gather(@w, %i)
            }";
        let (_, _, report) = run(quantize_weights, text);
        assert!(report.quantized.is_empty());
        assert_eq!(report.reasons(PASS), ["`Gather` reads it in another way"]);
    }
}

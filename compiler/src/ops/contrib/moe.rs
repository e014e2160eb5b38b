//! `MoE` and `QMoE`: each row goes through the few of many small networks that a router picks for it.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MoE>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QMoE>

use super::matmul_nbits::unpacked;
use super::steps::wide_operand;
use super::steps::wide_optional;
use crate::ops::elementwise::{Clip, Gelu, Relu, Swish};
use crate::ops::movement::{Gather, GatherElements, OneHot, TopK};
use crate::ops::neural::{ReduceSum, Softmax};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `y[t] = sum over the k experts e of the greatest router_probs[t] of weight[t,e] * fc2[e](activation(fc1[e](x[t])))`.
    MoE(input, router_probs, fc1_experts_weights, "fc1_experts_bias?", fc2_experts_weights, "fc2_experts_bias?", "fc3_experts_weights?", "fc3_experts_bias?")
        -> (output) since [1] in "com.microsoft";
    /// Factor inside the gate's sigmoid.
    activation_alpha: f32 = 1.0f32,
    /// Addend of what is gated.
    activation_beta: f32 = 0.0f32,
    /// `relu`, `gelu`, `silu`, `swiglu` or `identity`.
    activation_type: String = "relu",
    /// Experts for each row.
    k: i64 = 1,
    /// Whether the weights of the chosen experts add up to 1.
    normalize_routing_weights: bool = false,
    /// Where gate and value of `swiglu` are in one: 0 apart, 1 in turn, 2 one behind the other.
    swiglu_fusion: i64 = 0,
    /// Bound of gate and value; none by default.
    swiglu_limit: Option<f32>,
    /// Whether routing is that of SparseMixer; not supported.
    use_sparse_mixer: bool = false,
}

operator! {
    /// `MoE` with weights of few bits, scaled for each output or in blocks along the inputs.
    QMoE(input, router_probs, fc1_experts_weights, "fc1_scales?", "fc1_experts_bias?", fc2_experts_weights, "fc2_scales?", "fc2_experts_bias?",
        "fc3_experts_weights?", "fc3_scales?", "fc3_experts_bias?", "fc1_zero_points?", "fc2_zero_points?", "fc3_zero_points?", "router_weights?")
        -> (output) since [1] in "com.microsoft";
    /// How roughly a kernel may compute; not used.
    accuracy_level: i64 = 0,
    /// Factor inside the gate's sigmoid.
    activation_alpha: f32 = 1.0f32,
    /// Addend of what is gated.
    activation_beta: f32 = 0.0f32,
    /// `relu`, `gelu`, `silu`, `swiglu` or `identity`.
    activation_type: String = "relu",
    /// Weights that share a scale; those of an output by default.
    block_size: i64 = 0,
    /// Bits of a weight: 2, 4 or 8.
    expert_weight_bits: i64 = 4,
    /// Experts for each row.
    k: i64 = 1,
    /// Whether the weights of the chosen experts add up to 1.
    normalize_routing_weights: bool = false,
    /// Kind of weights; only `int`.
    quant_type: String = "int",
    /// Where gate and value of `swiglu` are in one: 0 apart, 1 in turn, 2 one behind the other.
    swiglu_fusion: i64 = 0,
    /// Bound of gate and value; none by default.
    swiglu_limit: Option<f32>,
    /// Whether routing is that of SparseMixer; not supported.
    use_sparse_mixer: bool = false,
    /// Whether weights are in the order of some kernel; only 0 and the default.
    weights_prepacked: i64 = -1,
}

composite!(MoE);
composite!(QMoE);

/// Weights `[experts,out,in]` and bias `[experts,out]` of one layer of all experts.
#[derive(Clone, Copy)]
struct Layer {
    weights: Step,
    bias: Option<Step>,
}

/// What the two operators share.
struct Experts<'a> {
    moe: &'a MoE,
    first: Layer,
    second: Layer,
    third: Option<Layer>,
}

impl Layer {
    /// The layer of these experts `[rows,k]` for `x[rows,k,in]`: `[rows,k,out]`.
    fn of_chosen(self, s: &mut Steps<'_>, x: Step, experts: Step) -> Result<Step, InferError> {
        let dims = s.dims(x)?;
        let weights = s.apply(Gather { axis: 0 }, &[self.weights, experts])?;
        let column = s.unsqueeze(x, 3)?;
        let y = s.matmul(weights, column)?;
        let n_out = s.dims(y)?[2];
        let y = s.reshape(y, &[dims[0], dims[1], n_out])?;
        match self.bias {
            Some(bias) => {
                let bias = s.apply(Gather { axis: 0 }, &[bias, experts])?;
                s.add(y, bias)
            }
            None => Ok(y),
        }
    }

    /// The layer of all experts for `x[experts or 1,rows,in]`: `[experts,rows,out]`.
    fn of_all(self, s: &mut Steps<'_>, x: Step) -> Result<Step, InferError> {
        let weights = s.transpose(self.weights, &[0, 2, 1])?;
        let y = s.matmul(x, weights)?;
        match self.bias {
            Some(bias) => {
                let bias = s.unsqueeze(bias, 1)?;
                s.add(y, bias)
            }
            None => Ok(y),
        }
    }
}

impl Experts<'_> {
    /// The activation of the first layer's results, with those of the third where there is one.
    fn activated(&self, s: &mut Steps<'_>, h: Step, up: Option<Step>) -> Result<Step, InferError> {
        let op = self.moe;
        let gated = |s: &mut Steps<'_>, y: Step| up.map_or(Ok(y), |up| s.mul(y, up));
        match &op.activation_type[..] {
            "identity" => gated(s, h),
            "relu" => {
                let y = s.apply(Relu {}, &[h])?;
                gated(s, y)
            }
            "gelu" => {
                let y = s.apply(Gelu { approximate: "tanh".to_owned() }, &[h])?;
                gated(s, y)
            }
            "silu" => {
                let y = s.apply(Swish { alpha: 1.0 }, &[h])?;
                gated(s, y)
            }
            "swiglu" => {
                let mut dims = s.dims(h)?;
                let wide = dims.pop().unwrap_or(0);
                let (mut gate, mut up) = match (op.swiglu_fusion, up) {
                    (0, Some(up)) => (h, up),
                    (1 | 2, None) if wide % 2 == 0 => {
                        let (pair, axis) = if op.swiglu_fusion == 1 { ([wide / 2, 2], 1) } else { ([2, wide / 2], 0) };
                        let pairs = s.reshape(h, &[&dims[..], &pair].concat())?;
                        let (axis, half) = (dims.len() + axis, [&dims[..], &[wide / 2]].concat());
                        let (a, b) = (s.slice(pairs, axis as i64, 0, 1)?, s.slice(pairs, axis as i64, 1, 2)?);
                        (s.reshape(a, &half)?, s.reshape(b, &half)?)
                    }
                    _ => {
                        return Err(InferError::Unsupported(format!(
                            "`swiglu_fusion` {} of {wide} elements is not supported",
                            op.swiglu_fusion
                        )));
                    }
                };
                if let Some(limit) = op.swiglu_limit.filter(|l| l.is_finite()) {
                    let (least, most) = (s.number(s.dtype(h), -f64::from(limit)), s.number(s.dtype(h), limit.into()));
                    gate = s.apply_all(Box::new(Clip {}), &[Some(gate), None, Some(most)], 1)?[0];
                    up = s.apply(Clip {}, &[up, least, most])?;
                }
                let gate = s.apply(Swish { alpha: op.activation_alpha }, &[gate])?;
                if op.activation_beta != 0.0 {
                    let beta = s.number(s.dtype(h), op.activation_beta.into());
                    up = s.add(up, beta)?;
                }
                s.mul(gate, up)
            }
            other => Err(InferError::Unsupported(format!("activation `{other}` is not supported"))),
        }
    }

    fn steps(&self, s: &mut Steps<'_>, router_weights: Option<Step>) -> Result<Vec<Step>, InferError> {
        let op = self.moe;
        if op.use_sparse_mixer {
            return Err(InferError::Unsupported("the routing of SparseMixer is not supported".to_owned()));
        }
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        let (x, router) = (wide_operand(s, 0)?, wide_operand(s, 1)?);
        let (dims, routed) = (s.dims(x)?, s.dims(router)?);
        let (Some(&size), &[rows, n_experts]) = (dims.last(), &routed[..]) else {
            return Err(InferError::Invalid(format!("rows of type `{}`, probabilities of type `{}`", s.fact(x).ty, s.fact(router).ty)));
        };
        let k = usize::try_from(op.k).ok().filter(|k| (1..=n_experts).contains(k));
        let k = k.ok_or_else(|| InferError::Invalid(format!("{} of {n_experts} experts", op.k)))?;
        let x = s.reshape(x, &[rows, size])?;
        let count = s.ints(&[k as i64]);
        let top = s.apply_all(Box::new(TopK { axis: 1, largest: true, sorted: true }), &[Some(router), Some(count)], 2)?;
        let experts = top[1];
        let chosen = match router_weights {
            Some(weights) => {
                let chosen = s.apply(GatherElements { axis: 1 }, &[weights, experts])?;
                if op.normalize_routing_weights {
                    let axes = s.ints(&[1]);
                    let sum = s.apply(ReduceSum { keepdims: true, noop_with_empty_axes: false }, &[chosen, axes])?;
                    s.div(chosen, sum)?
                } else {
                    chosen
                }
            }
            None if op.normalize_routing_weights => s.apply(Softmax { axis: 1 }, &[top[0]])?,
            None => {
                let all = s.apply(Softmax { axis: 1 }, &[router])?;
                s.apply(GatherElements { axis: 1 }, &[all, experts])?
            }
        };
        let y = if rows * k <= n_experts {
            // The weights of the chosen ones only.
            let wide = s.reshape(x, &[rows, 1, size])?;
            let wide = s.expand(wide, &[rows, k, size])?;
            let h = self.first.of_chosen(s, wide, experts)?;
            let up = self.third.map(|l| l.of_chosen(s, wide, experts)).transpose()?;
            let h = self.activated(s, h, up)?;
            let y = self.second.of_chosen(s, h, experts)?;
            let chosen = s.unsqueeze(chosen, 2)?;
            let (y, axes) = (s.mul(y, chosen)?, s.ints(&[1]));
            s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[y, axes])?
        } else {
            // All experts; those that are not chosen have no weight.
            let wide = s.reshape(x, &[1, rows, size])?;
            let h = self.first.of_all(s, wide)?;
            let up = self.third.map(|l| l.of_all(s, wide)).transpose()?;
            let h = self.activated(s, h, up)?;
            let y = self.second.of_all(s, h)?;
            let depth = s.number(DType::I64, n_experts as f64);
            let values = s.constant(crate::tensor::Tensor::from_slice(&[2], &[0.0f32, 1.0]));
            let hot = s.apply(OneHot { axis: -1 }, &[experts, depth, values])?;
            let chosen = s.unsqueeze(chosen, 2)?;
            let (spread, axes) = (s.mul(hot, chosen)?, s.ints(&[1]));
            let weights = s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[spread, axes])?;
            let weights = s.transpose(weights, &[1, 0])?;
            let weights = s.unsqueeze(weights, 2)?;
            let (y, axes) = (s.mul(y, weights)?, s.ints(&[0]));
            s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[y, axes])?
        };
        let y = s.reshape(y, &dims)?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

impl MoE {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let layer = |s: &mut Steps<'_>, i: usize| -> Result<Layer, InferError> {
            Ok(Layer { weights: wide_operand(s, i)?, bias: wide_optional(s, i + 1)? })
        };
        let third = if s.optional(6).is_some() { Some(layer(s, 6)?) } else { None };
        Experts { moe: self, first: layer(s, 2)?, second: layer(s, 4)?, third }.steps(s, None)
    }
}

impl QMoE {
    /// The layer of weights, scales and bias in operands `i` and the next two, and zero points.
    fn layer(&self, s: &mut Steps<'_>, i: usize, zero_points: usize) -> Result<Layer, InferError> {
        let bits = self.expert_weight_bits as usize;
        s.operands().require_dtype(i, &[DType::U8])?;
        let packed = s.operand(i)?;
        let weights = unpacked(s, packed, bits)?;
        let weights = s.cast(weights, DType::F32)?;
        let dims = s.dims(weights)?;
        let [experts, rows, size] = dims[..] else {
            return Err(InferError::Invalid(format!("weights of type `{}`", s.operands().ty(i)?)));
        };
        let scales = wide_operand(s, i + 1)?;
        let blocks = s.dims(scales)?.get(2).copied().unwrap_or(1);
        if blocks == 0 || size % blocks != 0 {
            return Err(InferError::Invalid(format!("{blocks} scales for {size} weights")));
        }
        let zeros = match s.optional(zero_points) {
            Some(zeros) => {
                s.operands().require_dtype(zero_points, &[DType::U8])?;
                let zeros = unpacked(s, zeros, bits)?;
                let blocked = s.dims(zeros)?.len() == 3;
                let zeros = s.slice(zeros, if blocked { 2 } else { 1 }, 0, if blocked { blocks } else { rows })?;
                let zeros = s.cast(zeros, DType::F32)?;
                s.reshape(zeros, &[experts, rows, blocks, 1])?
            }
            None => s.number(DType::F32, f64::from(1u32 << (bits - 1))),
        };
        let scales = s.reshape(scales, &[experts, rows, blocks, 1])?;
        let weights = s.reshape(weights, &[experts, rows, blocks, size / blocks])?;
        let centered = s.sub(weights, zeros)?;
        let scaled = s.mul(centered, scales)?;
        Ok(Layer { weights: s.reshape(scaled, &dims)?, bias: wide_optional(s, i + 2)? })
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if self.quant_type != "int" || ![2, 4, 8].contains(&self.expert_weight_bits) || self.weights_prepacked == 1 {
            return Err(InferError::Unsupported(format!(
                "weights of kind `{}`, {} bits (prepacked: {}) are not supported",
                self.quant_type, self.expert_weight_bits, self.weights_prepacked
            )));
        }
        let moe = MoE {
            activation_alpha: self.activation_alpha,
            activation_beta: self.activation_beta,
            activation_type: self.activation_type.clone(),
            k: self.k,
            normalize_routing_weights: self.normalize_routing_weights,
            swiglu_fusion: self.swiglu_fusion,
            swiglu_limit: self.swiglu_limit,
            use_sparse_mixer: self.use_sparse_mixer,
        };
        let third = if s.optional(8).is_some() { Some(self.layer(s, 8, 13)?) } else { None };
        let router = wide_optional(s, 14)?;
        Experts { moe: &moe, first: self.layer(s, 2, 11)?, second: self.layer(s, 5, 12)?, third }.steps(s, router)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn rows_go_where_the_router_sends_them() {
        // Two experts of one element: twice and ten times.
        let weights = || [t("f32[2,1,1] 2 10"), t("f32[2,1] 0 0"), t("f32[2,1,1] 1 1")];
        let moe = |x: &str, router: &str, op: &str| {
            check_op(&format!("com.microsoft.MoE normalize_routing_weights=1 {op}"), [&[t(x), t(router)][..], &weights()].concat())
        };
        assert_eq!(moe("f32[1,1] 3", "f32[1,2] 1 0", "k=1"), [t("f32[1,1] 6")]);
        assert_eq!(moe("f32[3,1] 3 3 -3", "f32[3,2] 1 0 0 1 0 1", "k=1"), [t("f32[3,1] 6 30 0")]);
        assert_eq!(moe("f32[1,1,1] 1", "f32[1,2] 0 0", "k=2 activation_type=\"identity\""), [t("f32[1,1,1] 6")]);
        let error = check_error("com.microsoft.MoE k=3", [&[t("f32[1,1] 1"), t("f32[1,2]")][..], &weights()].concat());
        assert_eq!(error, "3 of 2 experts");
    }

    #[test]
    fn all_forms_agree() {
        for (rows, fusion, wide) in [(1, 1, 8), (5, 2, 8), (5, 0, 4)] {
            let op =
                format!("com.microsoft.MoE k=2 activation_type=\"swiglu\" swiglu_fusion={fusion} swiglu_limit=1.0 activation_beta=1.0");
            let f = |dims: String, seed| Some(random(&format!("f32{dims}"), seed));
            let mut x =
                vec![f(format!("[{rows},6]"), 1), f(format!("[{rows},4]"), 2), f(format!("[4,{wide},6]"), 3), f(format!("[4,{wide}]"), 4)];
            x.extend([f("[4,6,4]".to_owned(), 5), None, (fusion == 0).then(|| random("f32[4,4,6]", 6))]);
            check_op(&op, x);
        }
        for (rows, bits) in [(1, 4), (3, 8)] {
            let q = |last: usize, rows: usize, seed| Some(random(&format!("u8[3,{rows},{}]", last * bits / 8), seed));
            let f = |dims: &str, seed| Some(random(&format!("f32{dims}"), seed));
            let op = format!("com.microsoft.QMoE k=1 activation_type=\"silu\" expert_weight_bits={bits}");
            let (x, router) = (f(&format!("[{rows},8]"), 1), f(&format!("[{rows},3]"), 2));
            check_op(&op, [x, router, q(8, 4, 3), f("[3,4,2]", 4), f("[3,4]", 5), q(4, 8, 6), f("[3,8]", 7)]);
        }
    }
}

//! Families of transformers and their like: heads, positions, caches, states that go on.

use tinsmith::tensor::DType;

use super::Variable;
use super::operators::{Draft, Made, Make, is_float};

pub(super) const HEADS: &[(&str, Make)] = &[
    ("cache", cache),
    ("causal_conv", causal_conv),
    ("embedding", embedding),
    ("flexible", flexible),
    ("gated", gated),
    ("grouped_heads", grouped_heads),
    ("heads", heads),
    ("linear_attention", linear_attention),
    ("positions", positions),
    ("skip", skip),
];

/// `[batch,length,width]` that is not too large.
fn sequence(x: &Variable) -> Option<(usize, usize, usize)> {
    let &[n, length, width] = &x.dims[..] else { return None };
    (x.dtype == DType::F32 && x.n_elements() > 0 && x.n_elements() <= 1500).then_some((n, length, width))
}

/// A written cache of keys or values.
fn cache(d: &mut Draft<'_>, x: &Variable) -> Made {
    let &[n, .., length, _] = &x.dims[..] else { return None };
    if x.dims.len() < 3 || length == 0 || !x.exact || x.dtype == DType::Bool {
        return None;
    }
    let mut dims = x.dims.clone();
    let axis = dims.len() - 2;
    dims[axis] = 1 + d.random.below(length);
    let free = (length - dims[axis]) as i64;
    let (mode, last) = d.random.one_of(&[("linear", free), ("circular", length as i64 - 1)]);
    let starts: Vec<i64> = (0..n).map(|_| d.random.within(0, last)).collect();
    let starts = d.ints("starts", &starts);
    let update = d.constant("update", "rand(11)".to_owned(), x.dtype, &dims);
    Some((format!("TensorScatter({}, {update}, {starts}) axis=-2 mode=\"{mode}\"", x.name), true))
}

fn causal_conv(d: &mut Draft<'_>, x: &Variable) -> Made {
    let (n, c, _) = sequence(x)?;
    let k = 1 + d.random.below(4);
    let w = d.operand("w", &[c, 1, k]);
    let b = d.operand("b", &[c]);
    let past = d.operand("past", &[n, c, k - 1]);
    d.n_results = 2;
    let activation = d.random.one_of(&["none", "silu"]);
    Some((format!("CausalConvWithState({}, {w}, {b}, {past}) activation=\"{activation}\"", x.name), false))
}

fn embedding(d: &mut Draft<'_>, x: &Variable) -> Made {
    let &[n, length] = &x.dims[..] else { return None };
    if n * length == 0 || n * length > 200 {
        return None;
    }
    let width = 8;
    let ids: Vec<i64> = (0..n * length).map(|_| d.random.within(0, 10)).collect();
    let ids = d.constant("ids", format!("[{}]", super::operators::list(&ids)), DType::I32, &[n, length]);
    let (words, places) = (d.operand("words", &[11, width]), d.operand("places", &[length, width]));
    let (gamma, beta) = (d.operand("gamma", &[width]), d.operand("beta", &[width]));
    let operands = format!("{ids}, _, {words}, {places}, _, {gamma}, {beta}");
    Some((format!("com.microsoft.EmbedLayerNormalization({operands}) epsilon=0.1"), false))
}

/// The two products of `FlexAttention`.
fn flexible(d: &mut Draft<'_>, x: &Variable) -> Made {
    let &[n, heads, _, size] = &x.dims[..] else { return None };
    if x.dtype != DType::F32 || x.n_elements() == 0 || x.n_elements() > 1500 {
        return None;
    }
    let shared = if heads % 2 == 0 && d.random.one_in(2) { heads / 2 } else { heads };
    let (op, dims) = if d.random.one_in(2) { ("FlexScores", [n, shared, 5, size]) } else { ("FlexValues", [n, shared, size, 3]) };
    let other = d.operand("other", &dims);
    Some((format!("ai.tinsmith.{op}({}, {other})", x.name), false))
}

/// Products of a value and a function of another.
fn gated(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dtype != DType::F32 {
        return None;
    }
    let n = *x.dims.last()?;
    match d.random.below(3) {
        0 => {
            let b = d.operand("b", &x.dims);
            Some((format!("SwiGLU({}, {b})", x.name), false))
        }
        1 if n % 2 == 0 && n > 0 && x.dims.len() == 3 => {
            let b = d.operand("b", &[n]);
            Some((format!("com.microsoft.BiasSplitGelu({}, {b})", x.name), false))
        }
        _ if x.dims.len() == 3 => {
            let (b, skip) = (d.operand("b", &[n]), d.operand("skip", &x.dims));
            Some((format!("com.microsoft.BiasAdd({}, {b}, {skip})", x.name), false))
        }
        _ => None,
    }
}

fn grouped_heads(d: &mut Draft<'_>, x: &Variable) -> Made {
    let (n, length, width) = sequence(x)?;
    if width % 8 != 0 {
        return None;
    }
    let (heads, kv, size) = (4, 2, width / 4);
    let past = d.random.below(5);
    let (k, v) = (d.operand("k", &[n, length, kv * size]), d.operand("v", &[n, length, kv * size]));
    let (pk, pv) = (d.operand("pk", &[n, kv, past, size]), d.operand("pv", &[n, kv, past, size]));
    let total = past + length;
    let lengths = d.constant("lengths", format!("splat({})", total - 1), DType::I32, &[n]);
    let total = d.constant("total", format!("[{total}]"), DType::I32, &[]);
    d.n_results = 3;
    let text = format!(
        "com.microsoft.GroupQueryAttention({}, {k}, {v}, {pk}, {pv}, {lengths}, {total}) num_heads={heads} kv_num_heads={kv}",
        x.name
    );
    Some((text, false))
}

fn heads(d: &mut Draft<'_>, x: &Variable) -> Made {
    let (n, _, width) = sequence(x)?;
    let heads = d.random.one_of(&[1, 2, 4]);
    if width % heads != 0 {
        return None;
    }
    if d.random.one_in(3) {
        let (w, b) = (d.operand("w", &[width, 3 * width]), d.operand("bias", &[3 * width]));
        return Some((
            format!("com.microsoft.Attention({}, {w}, {b}) num_heads={heads} unidirectional={}", x.name, d.random.below(2)),
            false,
        ));
    }
    let length = 1 + d.random.below(9);
    let (k, v) = (d.operand("k", &[n, length, width]), d.operand("v", &[n, length, width]));
    let bias = if d.random.one_in(2) { format!(", {}", d.operand("bias", &[3 * width])) } else { String::new() };
    Some((format!("com.microsoft.MultiHeadAttention({}, {k}, {v}{bias}) num_heads={heads}", x.name), false))
}

fn linear_attention(d: &mut Draft<'_>, x: &Variable) -> Made {
    let (n, length, width) = sequence(x)?;
    let heads = d.random.one_of(&[1, 2]);
    if width % heads != 0 {
        return None;
    }
    let (k, v) = (d.operand("k", &[n, length, width]), d.operand("v", &[n, length, heads * 3]));
    d.n_results = 2;
    let text = format!("LinearAttention({}, {k}, {v}) q_num_heads={heads} kv_num_heads={heads} update_rule=\"linear\" scale=0.125", x.name);
    Some((text, false))
}

fn positions(d: &mut Draft<'_>, x: &Variable) -> Made {
    let &[n, _, length, size] = &x.dims[..] else { return None };
    if x.dtype != DType::F32 || size % 2 != 0 || x.n_elements() == 0 {
        return None;
    }
    let interleaved = d.random.below(2);
    if d.random.one_in(2) {
        let [cos, sin] = ["cos", "sin"].map(|w| d.operand(w, &[n, length, size / 2]));
        return Some((format!("RotaryEmbedding({}, {cos}, {sin}) interleaved={interleaved}", x.name), false));
    }
    let [cos, sin] = ["cos", "sin"].map(|w| d.operand(w, &[length + 3, size / 2]));
    let start = d.random.within(0, 3);
    let start = d.ints("start", &[start]);
    Some((format!("com.microsoft.RotaryEmbedding({}, {start}, {cos}, {sin}) interleaved={interleaved}", x.name), false))
}

fn skip(d: &mut Draft<'_>, x: &Variable) -> Made {
    let (_, _, width) = sequence(x)?;
    if width < 4 {
        return None;
    }
    let gamma = d.operand("gamma", &[width]);
    if d.random.one_in(3) {
        return Some((format!("SimplifiedLayerNormalization({}, {gamma}) axis=-1 epsilon=0.1", x.name), false));
    }
    let skip = d.operand("skip", &x.dims);
    Some((format!("com.microsoft.SkipSimplifiedLayerNormalization({}, {skip}, {gamma}) epsilon=0.1", x.name), false))
}

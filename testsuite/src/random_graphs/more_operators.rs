//! More families: operators that are rarer in networks, in the forms that matter.

use tinsmith::tensor::DType;

use super::Variable;
use super::operators::{Draft, Made, Make, images, is_float, list, place};
use super::scatters::scatter_elements;
use super::{Line, Random};

pub(super) const MORE_OPERATORS: &[(&str, Make)] = &[
    ("activation", activation),
    ("attention", attention),
    ("bits", bits),
    ("cast_small", cast_small),
    ("contrib", contrib),
    ("deform_conv", deform_conv),
    ("determinant", determinant),
    ("double", double),
    ("double", double),
    ("fourier", fourier),
    ("gather_nd", gather_nd),
    ("halves", halves),
    ("hardmax", hardmax),
    ("integers", integers),
    ("integers", integers),
    ("local", local),
    ("quantize", quantize),
    ("regions", regions),
    ("remainder", remainder),
    ("reverse", reverse),
    ("rms", rms),
    ("roots", roots),
    ("sample", sample),
    ("scatter_elements", scatter_elements),
    ("statistics", statistics),
    ("top", top),
];

/// `%name = text`, a line in front of the operator's own.
pub(super) fn line(d: &mut Draft<'_>, what: &str, text: String, dtype: DType, dims: &[usize]) -> String {
    let name = format!("%{what}{}", d.tag);
    d.before.push(Line { results: vec![Variable { name: name.clone(), dtype, dims: dims.to_vec(), exact: false }], text });
    name
}

pub(super) fn one_dimension(random: &mut Random, x: &Variable) -> Option<usize> {
    if x.dims.is_empty() { None } else { Some(random.below(x.dims.len())) }
}

fn activation(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) {
        return None;
    }
    let ops = [
        "Atan",
        "Asinh",
        "Sinh",
        "Cosh",
        "Celu alpha=0.7",
        "Swish",
        "Swish alpha=0.5",
        "ThresholdedRelu alpha=0.3",
        "Shrink lambd=0.3 bias=0.1",
        "HardSigmoid alpha=0.3 beta=0.4",
        "IsNaN",
        "IsInf",
    ];
    let op = d.random.one_of(&ops);
    // What jumps needs exact operands.
    if !x.exact && (op.starts_with("Thresh") || op.starts_with("Shrink")) {
        return None;
    }
    let (name, attributes) = op.split_once(' ').unwrap_or((op, ""));
    Some((format!("{name}({}) {attributes}", x.name), name.starts_with("Is")))
}

fn attention(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 4 || x.n_elements() > 2000 {
        return None;
    }
    let (heads, width, n) = (x.dims[1], x.dims[3], 1 + d.random.below(9));
    let kv_heads = if heads % 2 == 0 && d.random.one_in(2) { heads / 2 } else { heads };
    let k = d.operand("k", &[x.dims[0], kv_heads, n, width]);
    let v_width = 1 + d.random.below(7);
    let v = d.operand("v", &[x.dims[0], kv_heads, n, v_width]);
    let causal = d.random.below(2);
    let cap = if d.random.one_in(3) { " softcap=2.0" } else { "" };
    Some((format!("Attention({}, {k}, {v}) is_causal={causal}{cap}", x.name), false))
}

fn bits(d: &mut Draft<'_>, x: &Variable) -> Made {
    let (other, back) = match x.dtype {
        DType::F32 => (6, 1),
        DType::I32 => (d.random.one_of(&[1, 12]), 6),
        DType::I64 => (d.random.one_of(&[11, 13]), 7),
        _ => return None,
    };
    let dtype =
        [(1, DType::F32), (6, DType::I32), (11, DType::F64), (12, DType::U32), (13, DType::U64)].into_iter().find(|c| c.0 == other)?.1;
    let there = line(d, "bits", format!("BitCast({}) to={other}", x.name), dtype, &x.dims);
    Some((format!("BitCast({there}) to={back}"), true))
}

/// By way of a type of fewer bits, and back.
fn cast_small(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !x.exact || x.dtype == DType::Bool {
        return None;
    }
    let (code, dtype) = d.random.one_of(&[
        (2, DType::U8),
        (3, DType::I8),
        (4, DType::U16),
        (5, DType::I16),
        (10, DType::F16),
        (16, DType::BF16),
        (17, DType::F8E4M3FN),
        (19, DType::F8E5M2),
        (22, DType::I4),
    ]);
    let back = if x.dtype == DType::F32 { 1 } else { d.random.one_of(&[1, 7]) };
    let there = line(d, "small", format!("Cast({}) to={code}", x.name), dtype, &x.dims);
    Some((format!("Cast({there}) to={back}"), true))
}

/// What no order of operations can round otherwise, computed in halves.
fn halves(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !x.exact || x.dtype != DType::F32 || x.dims.contains(&0) {
        return None;
    }
    let (code, dtype) = d.random.one_of(&[(10, DType::F16), (16, DType::BF16)]);
    let half = line(d, "half", format!("Cast({}) to={code}", x.name), dtype, &x.dims);
    let (text, dims) = match (d.random.below(6), &x.dims[..]) {
        (0, _) => (format!("Abs({half})"), x.dims.clone()),
        (1, _) => (format!("Add({half}, {half})"), x.dims.clone()),
        (2, _) => (format!("Mul({half}, {half})"), x.dims.clone()),
        (3, _) => (format!("ReduceMax({half})"), vec![1; x.dims.len()]),
        (4, &[n, c, height, width]) if height > 1 && width > 1 => {
            (format!("MaxPool({half}) kernel_shape=[2, 2]"), vec![n, c, height - 1, width - 1])
        }
        _ => (format!("Relu({half})"), x.dims.clone()),
    };
    let made = line(d, "made", text, dtype, &dims);
    Some((format!("Cast({made}) to=1"), true))
}

fn contrib(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() < 2 {
        return None;
    }
    let n = *x.dims.last()?;
    let k = 1 + d.random.below(12);
    let text = match d.random.below(6) {
        0 => format!("com.microsoft.BiasGelu({}, {})", x.name, d.operand("b", &[n])),
        1 => format!("com.microsoft.FastGelu({})", x.name),
        2 => format!("com.microsoft.QuickGelu({}) alpha=0.7", x.name),
        3 => format!("com.microsoft.FusedMatMul({}, {}) transB=1 alpha=0.5", x.name, d.operand("w", &[k, n])),
        4 if x.dims.len() == 2 => {
            format!("com.microsoft.FusedGemm({}, {}) activation=\"Relu\"", x.name, d.operand("w", &[n, k]))
        }
        5 if x.dims.len() == 3 && n > 3 => {
            let (skip, gamma) = (d.operand("skip", &x.dims), d.operand("gamma", &[n]));
            format!("com.microsoft.SkipLayerNormalization({}, {skip}, {gamma}) epsilon=0.1", x.name)
        }
        _ => return None,
    };
    Some((text, false))
}

fn deform_conv(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 4 || x.n_elements() > 1500 || x.dims[2..].iter().any(|&e| e < 2) {
        return None;
    }
    let [n, c, height, width] = x.dims[..] else { return None };
    let (kh, kw) = (1 + d.random.below(2), 1 + d.random.below(2));
    let m = 1 + d.random.below(5);
    let w = d.operand("w", &[m, c, kh, kw]);
    // Offsets that are not near whole numbers, where roundings would show as jumps of the derivative only.
    let offset = d.operand("offset", &[n, 2 * kh * kw, height - kh + 1, width - kw + 1]);
    Some((format!("DeformConv({}, {w}, {offset})", x.name), false))
}

fn determinant(d: &mut Draft<'_>, x: &Variable) -> Made {
    let rank = x.dims.len();
    if !is_float(x) || rank < 2 || x.dims[rank - 2] != x.dims[rank - 1] || x.dims[rank - 1] > 3 {
        return None;
    }
    let _ = d;
    Some((format!("Det({})", x.name), false))
}

/// Functions in `f64`; the result stays so, or comes back.
fn double(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !matches!(x.dtype, DType::F32 | DType::F64 | DType::I64) {
        return None;
    }
    let wide = if x.dtype == DType::F64 { x.name.clone() } else { line(d, "wide", format!("Cast({}) to=11", x.name), DType::F64, &x.dims) };
    let ops = ["Exp", "Sigmoid", "Tanh", "Erf", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh", "Softplus", "Neg", "Gelu", "Mish"];
    let op = d.random.one_of(&ops);
    // Far from zero a sine turns the last digits of sums into its first.
    if matches!(op, "Sin" | "Cos") && !x.exact {
        return None;
    }
    let y = format!("{op}({wide})");
    if d.random.one_in(3) {
        return Some((y, false));
    }
    let y = line(d, "value", y, DType::F64, &x.dims);
    Some((format!("Cast({y}) to=1"), false))
}

fn fourier(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() < 2 || !matches!(x.dims.last(), Some(1 | 2)) || x.dims.contains(&0) {
        return None;
    }
    let axis = d.random.below(x.dims.len() - 1);
    let a = d.constant("axis", format!("[{axis}]"), DType::I64, &[]);
    Some((format!("DFT({}, _, {a}) inverse={}", x.name, d.random.below(2)), false))
}

fn gather_nd(d: &mut Draft<'_>, x: &Variable) -> Made {
    let rank = x.dims.len();
    if rank == 0 || x.dims.contains(&0) {
        return None;
    }
    let depth = 1 + d.random.below(rank);
    let n = 1 + d.random.below(4);
    let indices: Vec<i64> = (0..n * depth).map(|i| d.random.within(-(x.dims[i % depth] as i64), x.dims[i % depth] as i64 - 1)).collect();
    let i = d.constant("i", format!("[{}]", list(&indices)), DType::I64, &[n, depth]);
    Some((format!("GatherND({}, {i})", x.name), true))
}

fn hardmax(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || !x.exact {
        return None;
    }
    let axis = d.axis(x)?;
    Some((format!("Hardmax({}) axis={axis}", x.name), true))
}

fn integers(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !matches!(x.dtype, DType::I64 | DType::I32) {
        return None;
    }
    let y = d.broadcastable("n", x)?;
    let text = match d.random.below(6) {
        0 => format!("{}({}, {y})", d.random.one_of(&["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), x.name),
        1 => format!("BitwiseNot({})", x.name),
        2 => format!("Mod({}, {y}) fmod={}", x.name, d.random.below(2)),
        3 => {
            let by = d.random.one_of(&[1, 2, 3, 7, -3]);
            let c = d.constant("by", format!("splat({by})"), x.dtype, &[]);
            format!("{}({}, {c})", d.random.one_of(&["Div", "Mod"]), x.name)
        }
        4 => {
            let axis = d.axis(x)?;
            let a = d.constant("axis", format!("[{axis}]"), DType::I64, &[]);
            format!("CumProd({}, {a})", x.name)
        }
        _ => format!("{}({}, {y})", d.random.one_of(&["Add", "Mul", "Sub", "Min", "Max"]), x.name),
    };
    Some((text, true))
}

/// Over neighbours: sums of powers, patches.
fn local(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) {
        return None;
    }
    match d.random.below(3) {
        0 => Some((format!("LRN({}) size={} alpha=0.1", x.name, d.random.one_of(&[1, 2, 3, 5])), false)),
        1 => {
            let kernel = vec![1 + d.random.below(2) as i64; x.dims.len() - 2];
            Some((format!("LpPool({}) kernel_shape=[{}] p={}", x.name, list(&kernel), 1 + d.random.below(3)), false))
        }
        _ => Some((format!("GlobalLpPool({}) p=2", x.name), false)),
    }
}

/// To integers and back; rounding jumps, so operands are exact.
fn quantize(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || !x.exact {
        return None;
    }
    // A scale whose halves no random number meets.
    let scale = d.constant("scale", "[0.0371]".to_owned(), DType::F32, &[]);
    let (dtype, zero) = d.random.one_of(&[(DType::U8, 128), (DType::I8, -3)]);
    let zero = d.constant("zero", format!("[{zero}]"), dtype, &[]);
    let q = line(d, "q", format!("QuantizeLinear({}, {scale}, {zero})", x.name), dtype, &x.dims);
    Some((format!("DequantizeLinear({q}, {scale}, {zero})"), true))
}

fn regions(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 4 || x.n_elements() > 2000 || x.dims.contains(&0) {
        return None;
    }
    let rois = d.constant("rois", "[0.3,0.7,4.1,3.2,-1.3,0.1,2.6,9.3]".to_owned(), DType::F32, &[2, 4]);
    let images = d.constant("images", format!("[0,{}]", x.dims[0] - 1), DType::I64, &[2]);
    if d.random.one_in(3) {
        let rois = d.constant("places", "[0.0,0.0,0.0,2.0,3.0]".to_owned(), DType::F32, &[1, 5]);
        return Some((format!("MaxRoiPool({}, {rois}) pooled_shape=[2,2] spatial_scale=0.75", x.name), false));
    }
    let mode = d.random.one_of(&["avg", "max"]);
    let size = 1 + d.random.below(3);
    let text = format!("RoiAlign({}, {rois}, {images}) mode=\"{mode}\" sampling_ratio=2 output_height={size} output_width=2", x.name);
    Some((text, false))
}

fn remainder(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || !x.exact {
        return None;
    }
    let y = d.constant("y", "rand(7)".to_owned(), x.dtype, &x.dims);
    Some((format!("Mod({}, {y}) fmod={}", x.name, d.random.below(2)), true))
}

fn reverse(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() < 2 || x.dims.contains(&0) {
        return None;
    }
    let lengths: Vec<i64> = (0..x.dims[1]).map(|_| d.random.within(1, x.dims[0] as i64)).collect();
    let n = d.ints("lengths", &lengths);
    Some((format!("ReverseSequence({}, {n}) time_axis=0 batch_axis=1", x.name), true))
}

fn rms(d: &mut Draft<'_>, x: &Variable) -> Made {
    let n = *x.dims.last()?;
    if x.dtype != DType::F32 || n < 4 {
        return None;
    }
    let scale = d.operand("s", &[n]);
    Some((format!("RMSNormalization({}, {scale}) axis=-1 epsilon=0.1", x.name), false))
}

/// `|x| + 0.5`.
pub(super) fn positive(d: &mut Draft<'_>, x: &Variable) -> String {
    let a = line(d, "abs", format!("Abs({})", x.name), DType::F32, &x.dims);
    let half = d.constant("half", "[0.5]".to_owned(), DType::F32, &[1]);
    line(d, "positive", format!("Add({a}, {half})"), DType::F32, &x.dims)
}

/// Functions of positive numbers.
fn roots(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 {
        return None;
    }
    let a = positive(d, x);
    let power = d.constant("power", "[0.7]".to_owned(), DType::F32, &[1]);
    let text = match d.random.below(4) {
        0 => format!("Pow({a}, {power})"),
        n => format!("{}({a})", ["Sqrt", "Log", "Reciprocal"][n - 1]),
    };
    Some((text, false))
}

fn sample(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 4 || x.n_elements() > 2000 || x.dims.contains(&0) {
        return None;
    }
    let (h, w) = (1 + d.random.below(4), 1 + d.random.below(4));
    let grid = d.operand("grid", &[x.dims[0], h, w, 2]);
    let padding = d.random.one_of(&["zeros", "border", "reflection"]);
    let mode = d.random.one_of(&["linear", "cubic"]);
    Some((format!("GridSample({}, {grid}) mode=\"{mode}\" padding_mode=\"{padding}\" align_corners={}", x.name, d.random.below(2)), false))
}

fn statistics(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() < 2 || x.dims.contains(&0) {
        return None;
    }
    match d.random.below(3) {
        0 if x.dims[0] * x.dims[2..].iter().product::<usize>() > 3 => {
            let c = x.dims[1];
            let [s, b] = ["s", "b"].map(|w| d.operand(w, &[c]));
            let (m, v) = (d.weights("m", &[c]), d.constant("v", "splat(0.75)".to_owned(), DType::F32, &[c]));
            Some((format!("BatchNormalization({}, {s}, {b}, {m}, {v}) training_mode=1 epsilon=0.1", x.name), false))
        }
        1 => {
            let axis = d.axis(x)?;
            (x.dims[place(x, axis)] > 1).then(|| (format!("LpNormalization({}) axis={axis} p=1", x.name), false))
        }
        _ => {
            let op = d.random.one_of(&["ReduceL2", "ReduceProd", "ReduceLogSumExp"]);
            let axes = d.ints("axes", &[-1]);
            Some((format!("{op}({}, {axes})", x.name), false))
        }
    }
}

fn top(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !x.exact || x.dtype == DType::Bool {
        return None;
    }
    let axis = d.axis(x)?;
    let n = x.dims[place(x, axis)];
    let k = d.random.within(1, 4).min(n as i64);
    let k = d.ints("k", &[k]);
    d.n_results = 2;
    Some((format!("TopK({}, {k}) axis={axis} largest={}", x.name, d.random.below(2)), true))
}

//! Families of quantized operators: a value is rounded to eight bits, the operator works on those, and its result comes back as floats.

use tinsmith::tensor::DType;

use super::Variable;
use super::more_operators::line;
use super::operators::{Draft, Made, Make, images, list};

pub(super) const QUANTIZED: &[(&str, Make)] = &[
    ("byte_activation", byte_activation),
    ("byte_binary", byte_binary),
    ("byte_concat", byte_concat),
    ("byte_conv", byte_conv),
    ("byte_gemm", byte_gemm),
    ("byte_matmul", byte_matmul),
    ("byte_pool", byte_pool),
    ("byte_select", byte_select),
    ("dynamic", dynamic),
    ("few_bits", few_bits),
    ("integer_conv", integer_conv),
    ("integer_matmul", integer_matmul),
    ("integer_to_float", integer_to_float),
    ("quantized_attention", quantized_attention),
    ("quantized_recurrent", quantized_recurrent),
];

/// A value in eight bits, with the names of its scale and zero point.
struct Bytes {
    name: String,
    scale: String,
    zero: String,
    dtype: DType,
}

impl Bytes {
    /// As operators take it: value, scale, zero point.
    fn operands(&self) -> String {
        format!("{}, {}, {}", self.name, self.scale, self.zero)
    }
}

/// Values of about -4 to 4, rounded; halves of the scale are met by no random number.
fn bytes(d: &mut Draft<'_>, what: &str, x: &Variable) -> Option<Bytes> {
    if x.dtype != DType::F32 || !x.exact {
        return None;
    }
    let (dtype, zero) = d.random.one_of(&[(DType::U8, 128), (DType::U8, 117), (DType::I8, -3), (DType::I8, 0)]);
    let (scale, zero) = parameters(d, what, dtype, "0.0371", zero);
    let name = line(d, what, format!("QuantizeLinear({}, {scale}, {zero})", x.name), dtype, &x.dims);
    Some(Bytes { name, scale, zero, dtype })
}

/// Names of a scale and a zero point.
fn parameters(d: &mut Draft<'_>, what: &str, dtype: DType, scale: &str, zero: i64) -> (String, String) {
    let scale = d.constant(&format!("{what}.scale"), format!("[{scale}]"), DType::F32, &[]);
    (scale, d.constant(&format!("{what}.zero"), format!("[{zero}]"), dtype, &[]))
}

/// Scale and zero point of a result, as operators take them: its type is that of `x`.
fn result(d: &mut Draft<'_>, x: &Bytes, scale: &str) -> String {
    let zero = if x.dtype == DType::U8 { 121 } else { 5 };
    let (scale, zero) = parameters(d, "y", x.dtype, scale, zero);
    format!("{scale}, {zero}")
}

/// A constant of the type of `like`.
fn other(d: &mut Draft<'_>, like: &Bytes, dims: &[usize]) -> Bytes {
    let seed = d.random.below(1000);
    let name = d.constant("b8", format!("rand({seed})"), like.dtype, dims);
    let (scale, zero) = parameters(d, "b8", like.dtype, "0.0437", 4);
    Bytes { name, scale, zero, dtype: like.dtype }
}

/// Weights with one scale.
fn scaled_weights(d: &mut Draft<'_>, dims: &[usize]) -> Bytes {
    let (name, zero, dtype) = weights(d, dims);
    Bytes { name, scale: d.constant("w.scale", "[0.0133]".to_owned(), DType::F32, &[]), zero, dtype }
}

/// Weights in eight bits.
fn weights(d: &mut Draft<'_>, dims: &[usize]) -> (String, String, DType) {
    let dtype = d.random.one_of(&[DType::U8, DType::I8, DType::I8]);
    let seed = d.random.below(1000);
    let w = d.constant("w", format!("rand({seed})"), dtype, dims);
    let zero = d.random.one_of(&[0, 0, 3]);
    (w, d.constant("w.zero", format!("[{zero}]"), dtype, &[]), dtype)
}

/// Back to floats.
fn floats(d: &mut Draft<'_>, text: String, x: &Bytes, scale_and_zero: &str) -> Made {
    let y = line(d, "y8", text, x.dtype, &[]);
    Some((format!("DequantizeLinear({y}, {scale_and_zero})"), true))
}

/// Sums of products in 32 bits, made small.
fn scaled(d: &mut Draft<'_>, text: String) -> Made {
    let sums = line(d, "sums", text, DType::I32, &[]);
    let wide = line(d, "wide", format!("Cast({sums}) to=1"), DType::F32, &[]);
    let small = d.constant("small", "[0.001]".to_owned(), DType::F32, &[]);
    Some((format!("Mul({wide}, {small})"), true))
}

fn byte_activation(d: &mut Draft<'_>, x: &Variable) -> Made {
    let b = bytes(d, "x8", x)?;
    let y = result(d, &b, "0.0312");
    let operands = format!("{}, {y}", b.operands());
    let text = match d.random.below(4) {
        0 => format!("com.microsoft.QLinearLeakyRelu({operands}) alpha=0.13"),
        1 => format!("com.microsoft.QLinearSigmoid({operands})"),
        2 if !x.dims.is_empty() => format!("com.microsoft.QLinearSoftmax({operands}) axis=-1 opset=13"),
        _ if !x.dims.is_empty() => format!("com.microsoft.QLinearReduceMean({operands}) axes=[-1] keepdims={}", d.random.below(2)),
        _ => return None,
    };
    floats(d, text, &b, &y)
}

fn byte_binary(d: &mut Draft<'_>, x: &Variable) -> Made {
    let a = bytes(d, "a8", x)?;
    let skip = d.random.below(x.dims.len() + 1);
    let b = other(d, &a, &x.dims[skip..]);
    let y = result(d, &a, "0.0713");
    let op = d.random.one_of(&["QLinearAdd", "QLinearMul"]);
    let text = format!("com.microsoft.{op}({}, {}, {y})", a.operands(), b.operands());
    floats(d, text, &a, &y)
}

fn byte_concat(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let a = bytes(d, "a8", x)?;
    let b = other(d, &a, &x.dims);
    let y = result(d, &a, "0.0713");
    let text = format!("com.microsoft.QLinearConcat({y}, {}, {}) axis={axis}", a.operands(), b.operands());
    floats(d, text, &a, &y)
}

/// A kernel and its padding for an image.
fn window(d: &mut Draft<'_>, x: &Variable, per_group: usize, m: usize) -> (Vec<usize>, String) {
    let kernel: Vec<usize> = x.dims[2..].iter().map(|_| d.random.one_of(&[1, 2, 3])).collect();
    let pads: Vec<i64> = (0..2 * kernel.len()).map(|i| d.random.within(0, kernel[i % kernel.len()] as i64 / 2)).collect();
    let strides: Vec<i64> = kernel.iter().map(|_| d.random.within(1, 2)).collect();
    let dims = [vec![m, per_group], kernel].concat();
    (dims, format!(" pads=[{}] strides=[{}]", list(&pads), list(&strides)))
}

/// Outputs, and groups, of a convolution of so many channels.
fn channels(d: &mut Draft<'_>, c: usize) -> (usize, usize) {
    let group = if d.random.one_in(3) { c.max(1) } else { 1 };
    (group * (1 + d.random.below(if group == 1 { 36 } else { 2 })), group)
}

fn byte_conv(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) {
        return None;
    }
    let b = bytes(d, "x8", x)?;
    let (m, group) = channels(d, x.dims[1]);
    let (dims, text) = window(d, x, x.dims[1] / group, m);
    let (w, w_zero, _) = weights(d, &dims);
    let w_scale = if d.random.one_in(2) {
        d.constant("w.scale", "[0.0133]".to_owned(), DType::F32, &[])
    } else {
        d.constant("w.scale", "splat(0.0219)".to_owned(), DType::F32, &[m])
    };
    let y = result(d, &b, "0.0713");
    let bias = if d.random.one_in(2) { format!(", {}", d.constant("bias", "rand(5)".to_owned(), DType::I32, &[m])) } else { String::new() };
    let text = format!("QLinearConv({}, {w}, {w_scale}, {w_zero}, {y}{bias}){text} group={group}", b.operands());
    floats(d, text, &b, &y)
}

fn integer_conv(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) {
        return None;
    }
    let b = bytes(d, "x8", x)?;
    let (m, group) = channels(d, x.dims[1]);
    let (dims, text) = window(d, x, x.dims[1] / group, m);
    let (w, w_zero, w_dtype) = weights(d, &dims);
    if group == 1 && b.dtype == DType::U8 && w_dtype == DType::I8 && d.random.one_in(2) {
        return scaled(d, format!("ai.tinsmith.ByteConv({}, {w}, {}){text}", b.name, b.zero));
    }
    scaled(d, format!("ConvInteger({}, {w}, {}, {w_zero}){text} group={group}", b.name, b.zero))
}

fn columns(d: &mut Draft<'_>) -> usize {
    if d.random.one_in(4) { 17 + d.random.below(40) } else { 1 + d.random.below(12) }
}

fn byte_gemm(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() != 2 {
        return None;
    }
    let a = bytes(d, "a8", x)?;
    let (n, k) = (columns(d), x.dims[1]);
    let w = scaled_weights(d, &[n, k]);
    let c = d.constant("c", "rand(9)".to_owned(), DType::I32, &[n]);
    let y = result(d, &a, "0.0713");
    let text = format!("com.microsoft.QGemm({}, {}, {c}, {y}) transB=1 alpha=1.0", a.operands(), w.operands());
    floats(d, text, &a, &y)
}

fn byte_matmul(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() < 2 {
        return None;
    }
    let a = bytes(d, "a8", x)?;
    let (k, n) = (*x.dims.last()?, columns(d));
    let w = scaled_weights(d, &[k, n]);
    let y = result(d, &a, "0.0713");
    let text = format!("QLinearMatMul({}, {}, {y})", a.operands(), w.operands());
    floats(d, text, &a, &y)
}

fn integer_matmul(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() < 2 {
        return None;
    }
    let a = bytes(d, "a8", x)?;
    let (k, n) = (*x.dims.last()?, columns(d));
    let (w, w_zero, w_dtype) = weights(d, &[k, n]);
    if a.dtype == DType::U8 && w_dtype == DType::I8 && d.random.one_in(3) {
        return scaled(d, format!("ai.tinsmith.ByteMatMul({}, {w})", a.name));
    }
    let zeros = d.random.one_of(&[format!(", {}", a.zero), format!(", {}, {w_zero}", a.zero), String::new()]);
    scaled(d, format!("MatMulInteger({}, {w}{zeros})", a.name))
}

fn integer_to_float(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() < 2 {
        return None;
    }
    let a = bytes(d, "a8", x)?;
    let (k, n) = (*x.dims.last()?, columns(d));
    let (w, w_zero, _) = weights(d, &[k, n]);
    let w_scale = d.constant("w.scale", "splat(0.0133)".to_owned(), DType::F32, &[n]);
    let bias = d.weights("bias", &[n]);
    let text = format!("com.microsoft.MatMulIntegerToFloat({}, {w}, {}, {w_scale}, {}, {w_zero}, {bias})", a.name, a.scale, a.zero);
    Some((text, false))
}

fn byte_pool(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) || x.dims.contains(&0) {
        return None;
    }
    let b = bytes(d, "x8", x)?;
    let y = result(d, &b, "0.0312");
    let operands = format!("{}, {y}", b.operands());
    let text = if d.random.one_in(2) {
        format!("com.microsoft.QLinearGlobalAveragePool({operands})")
    } else {
        let kernel = vec![d.random.within(1, 3); x.dims.len() - 2];
        format!("com.microsoft.QLinearAveragePool({operands}) kernel_shape=[{}] count_include_pad=0", list(&kernel))
    };
    floats(d, text, &b, &y)
}

fn byte_select(d: &mut Draft<'_>, x: &Variable) -> Made {
    let c = d.like(|v| v.dtype == DType::Bool && v.dims == x.dims)?;
    let a = bytes(d, "a8", x)?;
    let b = other(d, &a, &x.dims);
    let y = result(d, &a, "0.0713");
    let text = format!("com.microsoft.QLinearWhere({}, {}, {}, {y})", c.name, a.operands(), b.operands());
    floats(d, text, &a, &y)
}

/// With scales that the values decide.
fn dynamic(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || !x.exact || x.n_elements() == 0 {
        return None;
    }
    if x.dims.len() >= 2 && d.random.one_in(2) {
        let (k, n) = (*x.dims.last()?, columns(d));
        let w = scaled_weights(d, &[k, n]);
        return Some((format!("com.microsoft.DynamicQuantizeMatMul({}, {})", x.name, w.operands()), false));
    }
    d.n_results = 3;
    Some((format!("DynamicQuantizeLinear({})", x.name), true))
}

/// Sums of a state are rounded before it is rounded to bytes, and so it may be the next byte: with small weights that is little.
fn quantized_recurrent(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || !x.exact || x.dims.len() != 3 || x.dims[0] > 6 || x.n_elements() == 0 {
        return None;
    }
    let (h, [batch, from]) = (columns(d), [x.dims[1], x.dims[2]]);
    let (direction, n) = d.random.one_of(&[("forward", 1), ("reverse", 1), ("bidirectional", 2)]);
    let dtype = d.random.one_of(&[DType::U8, DType::I8]);
    let of_all = if d.random.one_in(2) { vec![n] } else { vec![n, 4 * h] };
    let weights = |d: &mut Draft<'_>, what: &str, from: usize, scale: &str| {
        let seed = d.random.below(1000);
        let zero = d.random.one_of(&[0, 3, 120]);
        let scale = d.constant(&format!("{what}.scale"), format!("splat({scale})"), DType::F32, &of_all);
        let zero = d.constant(&format!("{what}.zero"), format!("splat({zero})"), dtype, &of_all);
        (d.constant(what, format!("rand({seed})"), dtype, &[n, from, 4 * h]), format!("{scale}, {zero}"))
    };
    let (w, w_zero) = weights(d, "w", from, "0.0033");
    let (r, r_zero) = weights(d, "r", h, if x.dims[0] == 1 { "0.0071" } else { "0.00002" });
    let bias = if d.random.one_in(2) { d.weights("b", &[n, 8 * h]) } else { "_".to_owned() };
    let [first_h, first_c] = ["h", "c"].map(|what| if d.random.one_in(2) { d.weights(what, &[n, batch, h]) } else { "_".to_owned() });
    let text = format!("com.microsoft.DynamicQuantizeLSTM({}, {w}, {r}, {bias}, _, {first_h}, {first_c}, _, {w_zero}, {r_zero})", x.name);
    Some((format!("{text} direction=\"{direction}\" hidden_size={h}"), false))
}

/// Weights of 4 or 8 bits with a scale for each block.
fn few_bits(d: &mut Draft<'_>, x: &Variable) -> Made {
    let k = *x.dims.last()?;
    if x.dtype != DType::F32 || k == 0 {
        return None;
    }
    let (n, block, bits) = (columns(d), 16, d.random.one_of(&[4, 8]));
    let blocks = k.div_ceil(block);
    let b = d.constant("b", "rand(17)".to_owned(), DType::U8, &[n, blocks, block * bits / 8]);
    let scales = d.constant("scales", "splat(0.0171)".to_owned(), DType::F32, &[n * blocks]);
    let text = format!("com.microsoft.MatMulNBits({}, {b}, {scales}) K={k} N={n} bits={bits} block_size={block}", x.name);
    Some((text, false))
}

fn quantized_attention(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() != 3 || x.n_elements() > 1500 || x.dims.contains(&0) {
        return None;
    }
    let a = bytes(d, "a8", x)?;
    let (h, heads) = (x.dims[2], 2);
    let w = d.constant("w", "rand(31)".to_owned(), DType::I8, &[h, 3 * 8]);
    let bias = d.weights("bias", &[24]);
    let scale = d.constant("w.scale", "[0.0133]".to_owned(), DType::F32, &[]);
    let zero = d.constant("w.zero", "[0]".to_owned(), DType::I8, &[]);
    let text = format!(
        "com.microsoft.QAttention({}, {w}, {bias}, {}, {scale}, _, {}, {zero}) num_heads={heads} unidirectional={}",
        a.name,
        a.scale,
        a.zero,
        d.random.below(2)
    );
    Some((text, false))
}

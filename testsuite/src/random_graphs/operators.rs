//! What can be drawn: for each family of operators a function that makes its line from a value.

use tinsmith::tensor::DType;

use super::scatters::scatter;
use super::{Line, Random, Variable};

/// An operator while it is drawn.
pub(super) struct Draft<'a> {
    pub random: &'a mut Random,
    /// Values so far.
    pub pool: &'a [Variable],
    /// Makes names unique.
    pub tag: String,
    /// Constants that it needs.
    pub before: Vec<Line>,
    /// Inputs that it needs.
    pub inputs: Vec<Variable>,
    /// Number of results.
    pub n_results: usize,
    /// Of the elements of inputs.
    pub seed: u64,
}

/// The line's right side, and whether equal operands always give equal bits.
pub(super) type Made = Option<(String, bool)>;

/// Families, by name.
pub(super) type Make = fn(&mut Draft<'_>, &Variable) -> Made;

pub(super) const OPERATORS: &[(&str, Make)] = &[
    ("unary", unary),
    ("unary", unary),
    ("binary", binary),
    ("binary", binary),
    ("binary", binary),
    ("variadic", variadic),
    ("compare", compare),
    ("logic", logic),
    ("select", select),
    ("cast", cast),
    ("clip", clip),
    ("conv", conv),
    ("conv", conv),
    ("conv", conv),
    ("conv", conv),
    ("conv_transpose", conv_transpose),
    ("pool", pool),
    ("pool", pool),
    ("global_pool", global_pool),
    ("normalization", normalization),
    ("gemm", gemm),
    ("matmul", matmul),
    ("matmul", matmul),
    ("matmul", matmul),
    ("einsum", einsum),
    ("softmax", softmax),
    ("reduce", reduce),
    ("reduce", reduce),
    ("arg", arg),
    ("transpose", transpose),
    ("transpose", transpose),
    ("reshape", reshape),
    ("reshape", reshape),
    ("squeeze", squeeze),
    ("unsqueeze", unsqueeze),
    ("flatten", flatten),
    ("expand", expand),
    ("tile", tile),
    ("slice", slice),
    ("slice", slice),
    ("split", split),
    ("split", split),
    ("concat", concat),
    ("concat", concat),
    ("concat", concat),
    ("concat", concat),
    ("pad", pad),
    ("resize", resize),
    ("gather", gather),
    ("gather_elements", gather_elements),
    ("depth", depth),
    ("trilu", trilu),
    ("cumsum", cumsum),
    ("recurrent", recurrent),
    ("one_hot", one_hot),
    ("identity", identity),
    ("scatter", scatter),
];

impl Draft<'_> {
    pub(super) fn constant(&mut self, what: &str, text: String, dtype: DType, dims: &[usize]) -> String {
        let v = Variable { name: format!("@{what}{}", self.tag), dtype, dims: dims.to_vec(), exact: true };
        let name = v.name.clone();
        let text = format!("const {text} : {}", v.ty());
        self.before.push(Line { results: vec![v], text });
        name
    }

    /// An input of these extents, of indices along an axis of four or more.
    pub(super) fn indices(&mut self, dims: &[usize]) -> Variable {
        let v = Variable { name: format!("%i{}", self.tag), dtype: DType::I64, dims: dims.to_vec(), exact: true };
        self.inputs.push(v.clone());
        v
    }

    pub(super) fn ints(&mut self, what: &str, values: &[i64]) -> String {
        self.constant(what, format!("[{}]", list(values)), DType::I64, &[values.len()])
    }

    pub(super) fn weights(&mut self, what: &str, dims: &[usize]) -> String {
        let seed = self.random.below(1000);
        self.constant(what, format!("rand({seed})"), DType::F32, dims)
    }

    /// Weights that are constant, or now and then an input.
    pub(super) fn operand(&mut self, what: &str, dims: &[usize]) -> String {
        if self.random.one_in(6) {
            let v = Variable { name: format!("%{what}{}", self.tag), dtype: DType::F32, dims: dims.to_vec(), exact: true };
            self.inputs.push(v.clone());
            v.name
        } else {
            self.weights(what, dims)
        }
    }

    pub(super) fn like(&mut self, wanted: impl Fn(&Variable) -> bool) -> Option<Variable> {
        let fits: Vec<&Variable> = self.pool.iter().filter(|v| wanted(v)).collect();
        if fits.is_empty() { None } else { Some(fits[self.random.below(fits.len())].clone()) }
    }

    /// A value of the same element type that broadcasts with `x`: an old one, or a constant.
    pub(super) fn broadcastable(&mut self, what: &str, x: &Variable) -> Option<String> {
        let n = x.n_elements();
        let other = self.like(|v| v.dtype == x.dtype && broadcasts(&v.dims, &x.dims) && v.n_elements().max(n) < 5000);
        match other {
            Some(v) if !self.random.one_in(3) => Some(v.name),
            _ => {
                let skip = self.random.below(x.dims.len() + 1);
                let dims: Vec<usize> = x.dims[skip..].iter().map(|&d| if self.random.one_in(3) { 1 } else { d }).collect();
                let seed = self.random.below(1000);
                let data = if self.random.one_in(6) { "splat(1)".to_owned() } else { format!("rand({seed})") };
                Some(self.constant(what, data, x.dtype, &dims))
            }
        }
    }

    pub(super) fn axis(&mut self, x: &Variable) -> Option<i64> {
        let rank = x.dims.len() as i64;
        if rank == 0 { None } else { Some(self.random.within(-rank, rank - 1)) }
    }
}

fn broadcasts(a: &[usize], b: &[usize]) -> bool {
    a.iter().rev().zip(b.iter().rev()).all(|(&a, &b)| a == b || a == 1 || b == 1)
}

pub(super) fn list(values: &[i64]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn is_float(x: &Variable) -> bool {
    matches!(x.dtype, DType::F32 | DType::F64)
}

pub(super) fn place(x: &Variable, axis: i64) -> usize {
    (if axis < 0 { axis + x.dims.len() as i64 } else { axis }) as usize
}

fn unary(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype == DType::Bool {
        return Some((format!("Not({})", x.name), true));
    }
    if !is_float(x) {
        return Some((format!("{}({})", d.random.one_of(&["Neg", "Abs", "Sign"]), x.name), true));
    }
    if d.random.one_in(4) {
        return Some((format!("{}({})", d.random.one_of(&["Neg", "Abs", "Relu"]), x.name), true));
    }
    if x.exact && d.random.one_in(4) {
        return Some((format!("{}({})", d.random.one_of(&["Floor", "Ceil", "Round", "Sign"]), x.name), true));
    }
    let plain = ["Sigmoid", "Tanh", "Exp", "HardSwish", "Erf", "Softplus", "HardSigmoid", "Mish", "Selu", "Sin", "Cos", "Softsign"];
    let text = match d.random.below(8) {
        0 => format!("LeakyRelu({}) alpha=0.1", x.name),
        1 => format!("Elu({}) alpha=1.5", x.name),
        2 => format!("Gelu({}) approximate=\"{}\"", x.name, d.random.one_of(&["none", "tanh"])),
        3 => {
            let slope = if x.dims.len() > 1 { vec![x.dims[1]] } else { vec![] };
            let dims: Vec<usize> = slope.into_iter().chain(std::iter::repeat_n(1, x.dims.len().saturating_sub(2))).collect();
            let s = d.operand("slope", &dims);
            format!("PRelu({}, {s})", x.name)
        }
        _ => {
            let op = d.random.one_of(&plain);
            // Far from zero a sine turns the last digits of sums into its first.
            if matches!(op, "Sin" | "Cos") && !x.exact {
                return None;
            }
            format!("{op}({})", x.name)
        }
    };
    Some((text, false))
}

fn binary(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype == DType::Bool {
        return None;
    }
    let y = if d.random.one_in(12) { x.name.clone() } else { d.broadcastable("c", x)? };
    let (a, b) = if d.random.one_in(2) { (x.name.clone(), y) } else { (y, x.name.clone()) };
    if is_float(x) && d.random.one_in(8) {
        let dims: Vec<usize> = x.dims.clone();
        let c = d.constant("div", "splat(3)".to_owned(), DType::F32, &dims);
        return Some((format!("Div({}, {c})", x.name), false));
    }
    if is_float(x) && d.random.one_in(12) {
        let c = d.constant("two", "[2]".to_owned(), DType::F32, &[1]);
        return Some((format!("Pow({}, {c})", x.name), false));
    }
    let op = d.random.one_of(&["Add", "Add", "Mul", "Sub", "Min", "Max"]);
    Some((format!("{op}({a}, {b})"), !is_float(x) || op == "Min" || op == "Max"))
}

fn variadic(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) {
        return None;
    }
    let mut names = vec![x.name.clone()];
    for i in 0..d.random.below(3) {
        names.push(d.broadcastable(&format!("c{i}_"), x)?);
    }
    Some((format!("{}({})", d.random.one_of(&["Sum", "Mean", "Min", "Max"]), names.join(", ")), false))
}

fn compare(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype == DType::Bool || !x.exact {
        return None;
    }
    let y = d.broadcastable("c", x)?;
    if d.pool.iter().any(|v| v.name == y && !v.exact) {
        return None;
    }
    Some((format!("{}({}, {y})", d.random.one_of(&["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]), x.name), true))
}

fn logic(d: &mut Draft<'_>, _: &Variable) -> Made {
    let x = d.like(|v| v.dtype == DType::Bool)?;
    let y = d.broadcastable("c", &x)?;
    Some((format!("{}({}, {y})", d.random.one_of(&["And", "Or", "Xor"]), x.name), true))
}

fn select(d: &mut Draft<'_>, x: &Variable) -> Made {
    let c = d.like(|v| v.dtype == DType::Bool && broadcasts(&v.dims, &x.dims))?;
    let y = d.broadcastable("c", x)?;
    Some((format!("Where({}, {}, {y})", c.name, x.name), true))
}

/// Codes of element types are those of ONNX.
fn cast(d: &mut Draft<'_>, x: &Variable) -> Made {
    let to = match x.dtype {
        DType::F32 | DType::F64 if !x.exact => return None,
        DType::F32 => d.random.one_of(&[7, 6, 9]),
        _ => d.random.one_of(&[1, 1, 1, 7, 6, 9]),
    };
    Some((format!("Cast({}) to={to}", x.name), true))
}

fn clip(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) {
        return None;
    }
    let low = d.constant("low", "[-0.5]".to_owned(), DType::F32, &[]);
    let high = d.constant("high", "[1.25]".to_owned(), DType::F32, &[]);
    let bounds = match d.random.below(3) {
        0 => low.to_string(),
        1 => format!("_, {high}"),
        _ => format!("{low}, {high}"),
    };
    Some((format!("Clip({}, {bounds})", x.name), true))
}

/// Attributes of a window over `spatial` extents, and its kernel.
fn window(d: &mut Draft<'_>, spatial: &[usize], with_kernel_attribute: bool) -> (String, Vec<usize>) {
    let n = spatial.len();
    let kernel: Vec<i64> = (0..n).map(|_| d.random.one_of(&[1, 1, 2, 3, 3, 3, 5])).collect();
    let kernel: Vec<i64> = if d.random.one_in(2) { vec![kernel[0]; n] } else { kernel };
    let mut text = String::new();
    if with_kernel_attribute {
        text += &format!(" kernel_shape=[{}]", list(&kernel));
    }
    match d.random.below(5) {
        0 => text += &format!(" auto_pad=\"{}\"", d.random.one_of(&["SAME_UPPER", "SAME_LOWER", "VALID"])),
        1 => {}
        2 => {
            let pads: Vec<i64> = (0..2 * n).map(|i| d.random.within(0, (kernel[i % n] - 1).min(2))).collect();
            text += &format!(" pads=[{}]", list(&pads));
        }
        _ => {
            let pads: Vec<i64> = (0..2 * n).map(|i| kernel[i % n] / 2).collect();
            text += &format!(" pads=[{}]", list(&pads));
        }
    }
    if d.random.one_in(2) {
        let strides: Vec<i64> = (0..n).map(|_| d.random.within(1, 3)).collect();
        text += &format!(" strides=[{}]", list(&strides));
    }
    if d.random.one_in(4) {
        let dilations: Vec<i64> = (0..n).map(|_| d.random.within(1, 2)).collect();
        text += &format!(" dilations=[{}]", list(&dilations));
    }
    (text, kernel.iter().map(|&k| k as usize).collect())
}

fn divisor(random: &mut Random, n: usize) -> usize {
    let all: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
    if all.is_empty() { 1 } else { random.one_of(&all) }
}

pub(super) fn images(x: &Variable) -> bool {
    is_float(x) && (3..=5).contains(&x.dims.len())
}

fn conv(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) {
        return None;
    }
    let c = x.dims[1];
    let (text, kernel) = window(d, &x.dims[2..], false);
    let group = if d.random.one_in(3) {
        c.max(1)
    } else if d.random.one_in(3) {
        divisor(d.random, c)
    } else {
        1
    };
    let m = group * if d.random.one_in(5) { 17 + d.random.below(20) } else { 1 + d.random.below(6) };
    let m = if m > 80 { group } else { m };
    let mut dims = vec![m, c / group];
    dims.extend(&kernel);
    let w = d.operand("w", &dims);
    let bias = if d.random.one_in(2) { format!(", {}", d.operand("b", &[m])) } else { String::new() };
    let group = if group == 1 { String::new() } else { format!(" group={group}") };
    Some((format!("Conv({}, {w}{bias}){text}{group}", x.name), false))
}

fn conv_transpose(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) {
        return None;
    }
    let c = x.dims[1];
    let (text, kernel) = window(d, &x.dims[2..], false);
    let group = if d.random.one_in(2) { divisor(d.random, c) } else { 1 };
    let per = 1 + d.random.below(5);
    let mut dims = vec![c, per];
    dims.extend(&kernel);
    let w = d.operand("w", &dims);
    let bias = if d.random.one_in(2) { format!(", {}", d.operand("b", &[per * group])) } else { String::new() };
    let output_padding = if text.contains("strides") && d.random.one_in(3) {
        format!(" output_padding=[{}]", list(&vec![1; kernel.len()]))
    } else {
        String::new()
    };
    Some((format!("ConvTranspose({}, {w}{bias}){text} group={group}{output_padding}", x.name), false))
}

fn pool(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !images(x) {
        return None;
    }
    let (mut text, _) = window(d, &x.dims[2..], true);
    if d.random.one_in(3) {
        text += " ceil_mode=1";
    }
    let max = d.random.one_in(2);
    if !max && d.random.one_in(2) {
        text += " count_include_pad=1";
    }
    Some((format!("{}({}){text}", if max { "MaxPool" } else { "AveragePool" }, x.name), max))
}

fn global_pool(d: &mut Draft<'_>, x: &Variable) -> Made {
    images(x).then(|| (format!("{}({})", d.random.one_of(&["GlobalAveragePool", "GlobalMaxPool"]), x.name), false))
}

fn normalization(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dims.len() < 2 {
        return None;
    }
    let c = x.dims[1];
    let (s, b) = (d.operand("s", &[c]), d.operand("b", &[c]));
    match d.random.below(4) {
        0 => {
            let (m, v) = (d.weights("m", &[c]), d.constant("v", "splat(0.75)".to_owned(), DType::F32, &[c]));
            Some((format!("BatchNormalization({}, {s}, {b}, {m}, {v})", x.name), false))
        }
        1 if x.dims.len() > 2 && x.dims[2..].iter().product::<usize>() > 3 => {
            Some((format!("InstanceNormalization({}, {s}, {b}) epsilon=0.1", x.name), false))
        }
        2 => {
            let axis = d.axis(x)?;
            if x.dims[place(x, axis)..].iter().product::<usize>() < 4 {
                return None;
            }
            let dims = &x.dims[place(x, axis)..];
            let (s, b) = (d.operand("ls", dims), d.operand("lb", dims));
            Some((format!("LayerNormalization({}, {s}, {b}) axis={axis} epsilon=0.1", x.name), false))
        }
        _ => {
            let groups = divisor(d.random, c);
            Some((format!("GroupNormalization({}, {s}, {b}) num_groups={groups} epsilon=0.1", x.name), false))
        }
    }
}

fn columns(d: &mut Draft<'_>) -> usize {
    match d.random.below(6) {
        0 => 1,
        1 => 16 + d.random.below(40),
        _ => 1 + d.random.below(12),
    }
}

fn gemm(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dims.len() != 2 {
        return None;
    }
    let (trans_a, trans_b) = (d.random.one_in(3), d.random.one_in(2));
    let (m, k) = if trans_a { (x.dims[1], x.dims[0]) } else { (x.dims[0], x.dims[1]) };
    let n = columns(d);
    let b = d.operand("w", &if trans_b { [n, k] } else { [k, n] });
    let mut text = format!("Gemm({}, {b}", x.name);
    if d.random.one_in(2) {
        let shapes = [vec![n], vec![1], vec![m, 1], vec![m, n], vec![]];
        let dims = d.random.one_of(&shapes);
        text += &format!(", {}", d.operand("c", &dims));
    }
    text += ")";
    if trans_a {
        text += " transA=1";
    }
    if trans_b {
        text += " transB=1";
    }
    if d.random.one_in(3) {
        text += " alpha=0.5 beta=2";
    }
    Some((text, false))
}

fn matmul(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dims.is_empty() {
        return None;
    }
    let k = *x.dims.last()?;
    let wanted =
        |v: &Variable| is_float(v) && v.dims.len() >= 2 && v.dims[v.dims.len() - 2] == k && v.n_elements() < 3000 && x.n_elements() < 3000;
    if let Some(y) = d.like(wanted)
        && d.random.one_in(2)
    {
        return Some((format!("MatMul({}, {})", x.name, y.name), false));
    }
    let n = columns(d);
    let dims = match d.random.below(8) {
        0 => vec![k],
        1 if x.dims.len() > 2 => {
            let mut dims: Vec<usize> = x.dims[..x.dims.len() - 2].iter().map(|&e| if d.random.one_in(3) { 1 } else { e }).collect();
            dims.extend([k, n]);
            dims
        }
        2 => vec![2, k, n],
        _ => vec![k, n],
    };
    let w = d.operand("w", &dims);
    let is_long = x.dims.len() >= 2 && x.dims[x.dims.len() - 2] > 90;
    if d.random.one_in(if is_long { 2 } else { 5 }) && x.dims.len() >= 2 {
        let m = if is_long { 64 + d.random.below(30) } else { 1 + d.random.below(8) };
        let w = d.operand("l", &[m, x.dims[x.dims.len() - 2]]);
        return Some((format!("MatMul({w}, {})", x.name), false));
    }
    Some((format!("MatMul({}, {w})", x.name), false))
}

fn einsum(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dims.len() != 3 {
        return None;
    }
    let [a, b, c] = x.dims[..] else { return None };
    let n = 1 + d.random.below(6);
    let (equation, dims) = match d.random.below(4) {
        0 => ("abc,acd->abd", vec![a, c, n]),
        1 => ("abc,dc->adb", vec![n, c]),
        2 => ("abc,abd->acd", vec![a, b, n]),
        _ => ("abc,b->ca", vec![b]),
    };
    let w = d.operand("w", &dims);
    Some((format!("Einsum({}, {w}) equation=\"{equation}\"", x.name), false))
}

fn softmax(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) {
        return None;
    }
    let axis = d.axis(x)?;
    Some((format!("{}({}) axis={axis}", d.random.one_of(&["Softmax", "LogSoftmax"]), x.name), false))
}

fn reduce(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype == DType::Bool {
        return None;
    }
    let ops = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1", "ReduceLogSumExp"];
    let op = if is_float(x) { d.random.one_of(&ops) } else { d.random.one_of(&["ReduceSum", "ReduceMax", "ReduceMin"]) };
    let mut axes: Vec<i64> = (0..x.dims.len() as i64).filter(|_| d.random.one_in(2)).collect();
    if d.random.one_in(3) {
        axes = axes.iter().map(|a| a - x.dims.len() as i64).collect();
    }
    let keep = d.random.below(2);
    if axes.is_empty() {
        return Some((format!("{op}({}) keepdims={keep}", x.name), !is_float(x)));
    }
    let axes = d.ints("axes", &axes);
    Some((format!("{op}({}, {axes}) keepdims={keep}", x.name), !is_float(x) || op == "ReduceMax" || op == "ReduceMin"))
}

fn arg(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !x.exact || x.dtype == DType::Bool {
        return None;
    }
    let axis = d.axis(x)?;
    let (keep, last) = (d.random.below(2), d.random.below(2));
    let op = d.random.one_of(&["ArgMax", "ArgMin"]);
    Some((format!("{op}({}) axis={axis} keepdims={keep} select_last_index={last}", x.name), true))
}

fn transpose(d: &mut Draft<'_>, x: &Variable) -> Made {
    let mut perm: Vec<i64> = (0..x.dims.len() as i64).collect();
    for i in (1..perm.len()).rev() {
        perm.swap(i, d.random.below(i + 1));
    }
    if x.dims.len() == 4 && d.random.one_in(2) {
        perm = d.random.one_of(&[vec![0, 2, 3, 1], vec![0, 3, 1, 2], vec![0, 2, 1, 3]]);
    }
    Some((format!("Transpose({}) perm=[{}]", x.name, list(&perm)), true))
}

fn reshape(d: &mut Draft<'_>, x: &Variable) -> Made {
    let mut dims: Vec<i64> = vec![];
    let n = x.n_elements();
    match d.random.below(4) {
        // Merges two neighbours, or splits an axis.
        0 if x.dims.len() > 1 => {
            dims = x.dims.iter().map(|&e| e as i64).collect();
            let i = d.random.below(dims.len() - 1);
            dims[i] *= dims.remove(i + 1);
        }
        1 if !x.dims.is_empty() => {
            dims = x.dims.iter().map(|&e| e as i64).collect();
            let i = d.random.below(dims.len());
            let part = divisor(d.random, x.dims[i]) as i64;
            dims[i] /= part;
            dims.insert(i + d.random.below(2), part);
        }
        _ => {
            let mut rest = n;
            for _ in 0..d.random.below(4) {
                let part = divisor(d.random, rest);
                dims.push(part as i64);
                rest /= part.max(1);
            }
            dims.push(rest as i64);
        }
    }
    if n > 0 && !dims.is_empty() && d.random.one_in(4) {
        let i = d.random.below(dims.len());
        dims[i] = -1;
    }
    let shape = d.ints("shape", &dims);
    Some((format!("Reshape({}, {shape})", x.name), true))
}

fn squeeze(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axes: Vec<i64> = (0..x.dims.len()).filter(|&i| x.dims[i] == 1 && !d.random.one_in(3)).map(|i| i as i64).collect();
    if axes.is_empty() {
        return None;
    }
    let axes = d.ints("axes", &axes);
    Some((format!("Squeeze({}, {axes})", x.name), true))
}

fn unsqueeze(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() > 4 {
        return None;
    }
    let axis = d.random.within(0, x.dims.len() as i64);
    let axes = d.ints("axes", &[axis]);
    Some((format!("Unsqueeze({}, {axes})", x.name), true))
}

fn flatten(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.random.within(0, x.dims.len() as i64);
    Some((format!("Flatten({}) axis={axis}", x.name), true))
}

fn expand(d: &mut Draft<'_>, x: &Variable) -> Made {
    let mut dims: Vec<i64> = x.dims.iter().map(|&e| if e == 1 { d.random.within(1, 5) } else { e as i64 }).collect();
    if d.random.one_in(2) && dims.len() < 5 {
        dims.insert(0, d.random.within(1, 4));
    }
    let shape = d.ints("shape", &dims);
    Some((format!("Expand({}, {shape})", x.name), true))
}

fn tile(d: &mut Draft<'_>, x: &Variable) -> Made {
    let repeats: Vec<i64> = x.dims.iter().map(|_| d.random.within(1, 3)).collect();
    if x.dims.is_empty() {
        return None;
    }
    let repeats = d.ints("repeats", &repeats);
    Some((format!("Tile({}, {repeats})", x.name), true))
}

fn slice(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let n = x.dims[place(x, axis)] as i64;
    let step = d.random.one_of(&[1, 1, 1, 1, 2, 3, -1, -2]);
    let (start, end) = if step > 0 {
        let start = d.random.within(0, (n - 1).max(0));
        (start, if d.random.one_in(20) { start } else { d.random.within(start + 1, n + 1) })
    } else {
        (n - 1, if d.random.one_in(2) { -n - 1 } else { 0 })
    };
    let (s, e, a, t) = (d.ints("start", &[start]), d.ints("end", &[end]), d.ints("axis", &[axis]), d.ints("step", &[step]));
    Some((format!("Slice({}, {s}, {e}, {a}, {t})", x.name), true))
}

fn split(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let n = x.dims[place(x, axis)] as i64;
    if n < 2 {
        return None;
    }
    if n >= 3 && d.random.one_in(2) {
        let a = d.random.within(1, n - 2);
        let b = d.random.within(1, n - a - 1);
        let parts = d.ints("parts", &[a, b, n - a - b]);
        d.n_results = 3;
        return Some((format!("Split({}, {parts}) axis={axis}", x.name), true));
    }
    let a = d.random.within(0, n);
    let parts = d.ints("parts", &[a, n - a]);
    d.n_results = 2;
    Some((format!("Split({}, {parts}) axis={axis}", x.name), true))
}

fn concat(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let at = place(x, axis);
    let mut names = vec![x.name.clone()];
    for i in 0..1 + d.random.below(3) {
        let fits = |v: &Variable| {
            v.dtype == x.dtype && v.dims.len() == x.dims.len() && (0..v.dims.len()).all(|k| k == at || v.dims[k] == x.dims[k])
        };
        match d.like(fits) {
            Some(v) if !d.random.one_in(8) => names.push(v.name),
            _ => {
                let mut dims = x.dims.clone();
                dims[at] = 1 + d.random.below(3);
                let seed = d.random.below(1000);
                names.push(d.constant(&format!("c{i}_"), format!("rand({seed})"), x.dtype, &dims));
            }
        }
    }
    if d.random.one_in(2) {
        names.reverse();
    }
    Some((format!("Concat({}) axis={axis}", names.join(", ")), true))
}

fn pad(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype == DType::Bool || x.dims.is_empty() {
        return None;
    }
    let mode = d.random.one_of(&["constant", "constant", "reflect", "edge", "wrap"]);
    let pads: Vec<i64> = (0..2 * x.dims.len()).map(|_| d.random.one_of(&[0, 0, 0, 1, 2, -1])).collect();
    let pads = d.ints("pads", &pads);
    let value = if mode == "constant" && is_float(x) && d.random.one_in(2) {
        format!(", {}", d.constant("fill", "[1.5]".to_owned(), DType::F32, &[]))
    } else {
        String::new()
    };
    Some((format!("Pad({}, {pads}{value}) mode=\"{mode}\"", x.name), true))
}

fn resize(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || !(3..=4).contains(&x.dims.len()) {
        return None;
    }
    let sizes: Vec<i64> =
        x.dims.iter().enumerate().map(|(i, &e)| if i < 2 { e as i64 } else { d.random.within(1, 2 * e as i64 + 1) }).collect();
    let sizes = d.ints("sizes", &sizes);
    let mode = d.random.one_of(&["nearest", "nearest", "linear", "linear", "cubic"]);
    let how = d.random.one_of(&["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]);
    let nearest = if mode == "nearest" { " nearest_mode=\"floor\"" } else { "" };
    Some((
        format!("Resize({}, _, _, {sizes}) mode=\"{mode}\" coordinate_transformation_mode=\"{how}\"{nearest}", x.name),
        mode == "nearest",
    ))
}

fn gather(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let n = x.dims[place(x, axis)] as i64;
    if n == 0 {
        return None;
    }
    if n >= 4
        && let Some(v) = d.like(|v| v.dtype == DType::I64 && v.n_elements() < 50 && v.dims.len() < 3)
    {
        return Some((format!("Gather({}, {}) axis={axis}", x.name, v.name), true));
    }
    let indices: Vec<i64> = (0..1 + d.random.below(5)).map(|_| d.random.within(-n, n - 1)).collect();
    if d.random.one_in(3) {
        let i = d.constant("i", format!("[{}]", indices[0]), DType::I64, &[]);
        return Some((format!("Gather({}, {i}) axis={axis}", x.name), true));
    }
    let i = d.ints("i", &indices);
    Some((format!("Gather({}, {i}) axis={axis}", x.name), true))
}

fn gather_elements(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let at = place(x, axis);
    if x.dims[at] < 4 {
        return None;
    }
    let dims: Vec<usize> = x.dims.iter().map(|&e| if e > 1 && d.random.one_in(3) { e - 1 } else { e }).collect();
    let v = d.indices(&dims);
    Some((format!("GatherElements({}, {}) axis={axis}", x.name, v.name), true))
}

fn depth(d: &mut Draft<'_>, x: &Variable) -> Made {
    if d.random.one_in(2) {
        return Some((format!("DepthToSpace({}) blocksize=2 mode=\"{}\"", x.name, d.random.one_of(&["DCR", "CRD"])), true));
    }
    Some((format!("SpaceToDepth({}) blocksize=2", x.name), true))
}

fn trilu(d: &mut Draft<'_>, x: &Variable) -> Made {
    let diagonal = d.random.within(-2, 2);
    let k = d.constant("k", format!("[{diagonal}]"), DType::I64, &[]);
    Some((format!("Trilu({}, {k}) upper={}", x.name, d.random.below(2)), true))
}

fn cumsum(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let a = d.constant("axis", format!("[{axis}]"), DType::I64, &[]);
    let (exclusive, reverse) = (d.random.below(2), d.random.below(2));
    Some((format!("CumSum({}, {a}) exclusive={exclusive} reverse={reverse}", x.name), !is_float(x)))
}

fn recurrent(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dims.len() != 3 || x.dims[0] > 8 {
        return None;
    }
    let h = 1 + d.random.below(9);
    let (direction, n) = d.random.one_of(&[("forward", 1), ("reverse", 1), ("bidirectional", 2)]);
    let (op, gates) = d.random.one_of(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
    let w = d.operand("w", &[n, gates * h, x.dims[2]]);
    let r = d.operand("r", &[n, gates * h, h]);
    let bias = if d.random.one_in(2) { format!(", {}", d.operand("b", &[n, 2 * gates * h])) } else { String::new() };
    let more = if op == "GRU" && d.random.one_in(2) { " linear_before_reset=1" } else { "" };
    Some((format!("{op}({}, {w}, {r}{bias}) direction=\"{direction}\" hidden_size={h}{more}", x.name), false))
}

fn one_hot(d: &mut Draft<'_>, _: &Variable) -> Made {
    let x = d.like(|v| v.dtype == DType::I64 && v.n_elements() < 200 && v.dims.len() < 4)?;
    let depth = d.constant("depth", "[4]".to_owned(), DType::I64, &[]);
    let values = d.constant("values", "[-1,2]".to_owned(), DType::F32, &[2]);
    Some((format!("OneHot({}, {depth}, {values})", x.name), true))
}

fn identity(_: &mut Draft<'_>, x: &Variable) -> Made {
    Some((format!("Identity({})", x.name), true))
}

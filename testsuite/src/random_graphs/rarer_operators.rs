//! Families of what networks rarely have: shapes as values, selections with a count, losses, windows of signals.

use tinsmith::tensor::DType;

use super::Variable;
use super::more_operators::{line, positive};
use super::operators::{Draft, Made, Make, images, is_float, list};

pub(super) const RARER_OPERATORS: &[(&str, Make)] = &[
    ("centered", centered),
    ("distances", distances),
    ("fused_conv", fused_conv),
    ("generated", generated),
    ("grid", grid),
    ("inverse_functions", inverse_functions),
    ("like", like),
    ("loss", loss),
    ("ngrams", ngrams),
    ("patches", patches),
    ("selection", selection),
    ("selection", selection),
    ("shape", shape),
    ("shift", shift),
    ("spectrum", spectrum),
    ("standardized", standardized),
    ("unpool", unpool),
    ("upsample", upsample),
];

/// How many of the first elements a count says there are is not in a graph's results; those behind are defined too.
fn selection(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !x.exact || x.dims.is_empty() || x.n_elements() > 300 {
        return None;
    }
    let rank = x.dims.len();
    let text = match d.random.below(11) {
        0 => {
            d.n_results = 2;
            format!("ai.tinsmith.PaddedNonZero({})", x.name)
        }
        6 => {
            let axis = d.random.below(rank);
            let n = d.random.within(0, x.dims[axis] as i64);
            let n = d
                .like(|v| v.dtype == DType::I64 && v.dims.is_empty())
                .map_or_else(|| d.constant("n", format!("[{n}]"), DType::I64, &[]), |v| v.name);
            let fill = d.random.one_of(&["zero", "one", "lowest", "greatest"]);
            format!("ai.tinsmith.Mask({}, {n}) axis={axis} fill=\"{fill}\"", x.name)
        }
        8 => {
            let (from, step) = (d.random.within(-3, 3), d.random.one_of(&[1, 2, -1]));
            let limit = d
                .like(|v| v.dtype == DType::I64 && v.dims.iter().all(|&n| n == 1))
                .map_or_else(|| d.ints("limit", &[from + step * 2]), |v| v.name);
            let (start, delta) = (d.ints("from", &[from]), d.ints("step", &[step]));
            d.n_results = 2;
            format!("ai.tinsmith.PaddedRange({start}, {limit}, {delta}) extent=9")
        }
        9 => {
            let axis = d.random.below(rank);
            let extents = |d: &mut Draft<'_>, name: &str| {
                let extents: Vec<i64> = x.dims.iter().map(|&n| d.random.within(0, n as i64)).collect();
                d.ints(name, &extents)
            };
            let (a, b) = (extents(d, "first"), extents(d, "second"));
            d.n_results = 2;
            format!("ai.tinsmith.PaddedConcat({0}, {0}, {a}, {b}) axis={axis} n=2", x.name)
        }
        10 if x.dtype == DType::I64 && !x.dims.contains(&0) => {
            let (low, high) = (d.constant("low", "[0]".to_owned(), DType::I64, &[]), d.constant("high", "[6]".to_owned(), DType::I64, &[]));
            let within = line(d, "within", format!("Clip({}, {low}, {high})", x.name), DType::I64, &x.dims);
            format!("ai.tinsmith.Count({within}) at={} most=6", d.random.below(x.n_elements()))
        }
        7 => {
            let shape: Vec<i64> = x.dims.iter().map(|&n| d.random.within(0, n as i64)).collect();
            let shape = d.ints("shape", &shape);
            format!("ai.tinsmith.Compact({}, {shape})", x.name)
        }
        1 => {
            let axis = d.random.below(rank);
            let n = x.dims[axis];
            let c = d.like(|v| v.dtype == DType::Bool && v.dims == [n]).map(|v| v.name).or_else(|| {
                let some: Vec<&str> = (0..n).map(|_| d.random.one_of(&["true", "false"])).collect();
                Some(d.constant("condition", format!("[{}]", some.join(",")), DType::Bool, &[n]))
            })?;
            d.n_results = 2;
            format!("ai.tinsmith.PaddedCompress({}, {c}) axis={axis}", x.name)
        }
        2 if x.dtype != DType::Bool => {
            d.n_results = 5;
            format!("ai.tinsmith.PaddedUnique({}) sorted=1", x.name)
        }
        3 if x.dtype != DType::Bool => {
            let axis = d.random.below(rank);
            let k = d.like(|v| v.dtype == DType::I64 && v.dims == [1]).map(|v| v.name).unwrap_or_else(|| d.ints("k", &[2]));
            d.n_results = 3;
            format!("ai.tinsmith.PaddedTopK({}, {k}) axis={axis}", x.name)
        }
        4 if x.dtype == DType::F32 => {
            let (boxes, n) = (4 + d.random.below(8), x.dims.iter().product::<usize>());
            if n == 0 {
                return None;
            }
            let shape = d.constant("shape", "[1,1,-1]".to_owned(), DType::I64, &[3]);
            let scores = line(d, "scores", format!("Reshape({}, {shape})", x.name), DType::F32, &[1, 1, n]);
            let corners = d.constant("boxes", "rand(13)".to_owned(), DType::F32, &[1, n, 4]);
            let most = d.ints("most", &[boxes as i64]);
            let overlap = d.constant("overlap", "[0.4]".to_owned(), DType::F32, &[1]);
            let least = d.constant("least", "[-0.3]".to_owned(), DType::F32, &[1]);
            d.n_results = 2;
            format!("ai.tinsmith.PaddedNonMaxSuppression({corners}, {scores}, {most}, {overlap}, {least}) center_point_box=1")
        }
        _ => {
            let axis = d.random.below(rank);
            let (from, to) = (d.random.within(0, 2), d.random.within(1, x.dims[axis] as i64 + 1));
            let start = d.like(|v| v.dtype == DType::I64 && v.dims == [1]).map(|v| v.name).unwrap_or_else(|| d.ints("from", &[from]));
            let (end, axes) = (d.ints("to", &[to]), d.ints("axes", &[axis as i64]));
            d.n_results = 2;
            let most = if d.random.below(2) == 0 { format!(" most=[{to}]") } else { String::new() };
            format!("ai.tinsmith.PaddedSlice({}, {start}, {end}, {axes}){most}", x.name)
        }
    };
    Some((text, true))
}

fn centered(d: &mut Draft<'_>, x: &Variable) -> Made {
    let axis = d.axis(x)?;
    let n = d.random.within(1, 12);
    let n = d.ints("n", &[n]);
    Some((format!("CenterCropPad({}, {n}) axes=[{axis}]", x.name), true))
}

fn distances(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 2 || x.dims.contains(&0) {
        return None;
    }
    let n = 1 + d.random.below(9);
    let b = d.operand("b", &[n, x.dims[1]]);
    Some((format!("com.microsoft.CDist({}, {b}) metric=\"sqeuclidean\"", x.name), false))
}

fn fused_conv(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || !images(x) || x.dims.len() != 4 {
        return None;
    }
    let m = 1 + d.random.below(20);
    let (w, b) = (d.operand("w", &[m, x.dims[1], 3, 3]), d.operand("b", &[m]));
    let activation = d.random.one_of(&["Relu", "Tanh", "Sigmoid"]);
    Some((format!("com.microsoft.FusedConv({}, {w}, {b}) pads=[1,1,1,1] activation=\"{activation}\"", x.name), false))
}

/// Of constants and shapes only.
fn generated(d: &mut Draft<'_>, x: &Variable) -> Made {
    let n = 1 + d.random.below(12);
    let size = d.constant("size", format!("[{n}]"), DType::I64, &[]);
    let text = match d.random.below(6) {
        0 => format!("HannWindow({size})"),
        1 => format!("HammingWindow({size}) periodic=0"),
        2 => format!("BlackmanWindow({size})"),
        3 => {
            let [low, high, step] =
                [("low", "[1]"), ("high", "[20]"), ("step", "[3]")].map(|(w, v)| d.constant(w, v.to_owned(), DType::I64, &[]));
            format!("Range({low}, {high}, {step})")
        }
        4 => {
            let bins = d.constant("bins", "[4]".to_owned(), DType::I64, &[]);
            let length = d.constant("length", "[16]".to_owned(), DType::I64, &[]);
            let rate = d.constant("rate", "[8192]".to_owned(), DType::I64, &[]);
            let [low, high] = [("low", "[0.0]"), ("high", "[4096.0]")].map(|(w, v)| d.constant(w, v.to_owned(), DType::F32, &[]));
            format!("MelWeightMatrix({bins}, {length}, {rate}, {low}, {high})")
        }
        _ => {
            let s = d.ints("dims", &[3, 2]);
            format!("ConstantOfShape({s}) value=f32[1]{{0.75}}")
        }
    };
    let y = line(d, "made", text, DType::F32, &[]);
    if x.dtype != DType::F32 {
        return None;
    }
    Some((format!("Cast({y}) to=1"), true))
}

fn grid(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 3 || x.dims[1..] != [2, 3] {
        let theta = d.operand("theta", &[2, 2, 3]);
        let size = d.ints("size", &[2, 1, 3, 4]);
        return Some((format!("AffineGrid({theta}, {size}) align_corners={}", d.random.below(2)), false));
    }
    let size = d.ints("size", &[x.dims[0] as i64, 1, 3, 4]);
    Some((format!("AffineGrid({}, {size})", x.name), false))
}

/// Of numbers in their domains.
fn inverse_functions(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 {
        return None;
    }
    let s = line(d, "small", format!("Tanh({})", x.name), DType::F32, &x.dims);
    let c = d.constant("scale", "[0.9]".to_owned(), DType::F32, &[1]);
    let s = line(d, "smaller", format!("Mul({s}, {c})"), DType::F32, &x.dims);
    let op = d.random.one_of(&["Acos", "Asin", "Atanh", "Tan", "Acosh"]);
    if op != "Acosh" {
        return Some((format!("{op}({s})"), false));
    }
    let two = d.constant("two", "[2.5]".to_owned(), DType::F32, &[1]);
    let s = line(d, "greater", format!("Add({s}, {two})"), DType::F32, &x.dims);
    Some((format!("Acosh({s})"), false))
}

fn like(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dims.len() == 2 && d.random.one_in(2) {
        return Some((format!("EyeLike({}) k={} dtype=1", x.name, d.random.within(-1, 2)), true));
    }
    let y = d.like(|v| v.exact)?;
    if x.exact && !d.random.one_in(3) {
        return Some((format!("CastLike({}, {})", x.name, y.name), true));
    }
    Some((format!("Dropout({})", x.name), true))
}

fn loss(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() < 2 || x.dims.contains(&0) {
        return None;
    }
    let dims = [&x.dims[..1], &x.dims[2..]].concat();
    let n: usize = dims.iter().product();
    if n > 200 {
        return None;
    }
    let labels: Vec<i64> = (0..n).map(|_| d.random.within(0, x.dims[1] as i64 - 1)).collect();
    let labels = d.constant("labels", format!("[{}]", list(&labels)), DType::I64, &dims);
    let reduction = d.random.one_of(&["none", "mean", "sum"]);
    let op = d.random.one_of(&["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"]);
    Some((format!("{op}({}, {labels}) reduction=\"{reduction}\"", x.name), false))
}

fn ngrams(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !matches!(x.dtype, DType::I64 | DType::I32) || !(1..=2).contains(&x.dims.len()) || x.n_elements() == 0 {
        return None;
    }
    let mode = d.random.one_of(&["TF", "IDF", "TFIDF"]);
    let text = format!(
        "TfIdfVectorizer({}) min_gram_length=1 max_gram_length=2 max_skip_count={} mode=\"{mode}\" ngram_counts=[0,4] ngram_indexes=[0,1,2,3,4,5] \
         pool_int64s=[-2,0,1,3,0,1,2,2] weights=[0.5,1.0,1.5,2.0,2.5,3.0]",
        x.name,
        d.random.below(3)
    );
    Some((text, true))
}

fn patches(d: &mut Draft<'_>, x: &Variable) -> Made {
    let &[_, c, l] = &x.dims[..] else { return None };
    if x.dtype != DType::F32 || c % 2 != 0 || c == 0 || l == 0 {
        return None;
    }
    // Blocks of 2 by 1 over an image of `l + 1` rows.
    let image = d.ints("image", &[l as i64 + 1, 1]);
    let block = d.ints("block", &[2, 1]);
    Some((format!("Col2Im({}, {image}, {block})", x.name), false))
}

fn shape(d: &mut Draft<'_>, x: &Variable) -> Made {
    let text = if d.random.one_in(2) { format!("Shape({})", x.name) } else { format!("Size({})", x.name) };
    Some((text, true))
}

fn shift(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !x.exact || !matches!(x.dtype, DType::I64 | DType::I32) {
        return None;
    }
    let (code, dtype) = d.random.one_of(&[(2, DType::U8), (4, DType::U16), (12, DType::U32), (13, DType::U64)]);
    let y = line(d, "unsigned", format!("Cast({}) to={code}", x.name), dtype, &x.dims);
    let places = d.random.below(5);
    let by = d.constant("by", format!("[{places}]"), dtype, &[1]);
    let direction = d.random.one_of(&["LEFT", "RIGHT"]);
    let y = line(d, "shifted", format!("BitShift({y}, {by}) direction=\"{direction}\""), dtype, &x.dims);
    let mask = d.constant("mask", "[127]".to_owned(), dtype, &[1]);
    let y = line(d, "masked", format!("BitwiseAnd({y}, {mask})"), dtype, &x.dims);
    Some((format!("Cast({y}) to=7"), true))
}

fn spectrum(d: &mut Draft<'_>, x: &Variable) -> Made {
    let n: usize = x.dims.iter().product();
    if x.dtype != DType::F32 || !(12..=400).contains(&n) {
        return None;
    }
    let shape = d.constant("shape", "[1,-1,1]".to_owned(), DType::I64, &[3]);
    let signal = line(d, "signal", format!("Reshape({}, {shape})", x.name), DType::F32, &[1, n, 1]);
    let step = 2 + d.random.below(4);
    let step = d.constant("step", format!("[{step}]"), DType::I64, &[]);
    let window = d.weights("window", &[8]);
    let length = d.constant("length", "[8]".to_owned(), DType::I64, &[]);
    Some((format!("STFT({signal}, {step}, {window}, {length}) onesided={}", d.random.below(2)), false))
}

fn standardized(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() < 2 || x.dims.contains(&0) {
        return None;
    }
    if d.random.one_in(2) {
        let a = positive(d, x);
        let axes = d.ints("axes", &[-1]);
        return Some((format!("ReduceLogSum({a}, {axes}) keepdims={}", d.random.below(2)), false));
    }
    if x.n_elements() <= 8 {
        return None;
    }
    // Where all elements are nearly the same the variance is, and the error of its root large.
    let longest = (0..x.dims.len()).max_by_key(|&i| x.dims[i])?;
    let dims: Vec<usize> = x.dims.iter().enumerate().map(|(i, &d)| if i == longest { d } else { 1 }).collect();
    let spread = d.weights("spread", &dims);
    let apart = line(d, "apart", format!("Add({}, {spread})", x.name), DType::F32, &x.dims);
    let axes: Vec<i64> = (0..x.dims.len() as i64).collect();
    Some((format!("MeanVarianceNormalization({apart}) axes=[{}]", list(&axes)), false))
}

fn unpool(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 4 || x.dims[2..].iter().any(|&e| e < 2) || x.n_elements() == 0 || !x.exact {
        return None;
    }
    let small = [x.dims[0], x.dims[1], x.dims[2] / 2, x.dims[3] / 2];
    let places: Vec<i64> = (0..small.iter().product::<usize>() as i64).map(|i| 4 * i + i % 3).collect();
    let values = d.constant("values", "rand(21)".to_owned(), DType::F32, &small);
    if places.len() > 400 {
        return None;
    }
    let places = d.constant("places", format!("[{}]", list(&places)), DType::I64, &small);
    Some((format!("MaxUnpool({values}, {places}) kernel_shape=[2,2] strides=[2,2]"), true))
}

fn upsample(d: &mut Draft<'_>, x: &Variable) -> Made {
    if !is_float(x) || x.dims.len() != 4 || x.n_elements() > 800 || x.dims.contains(&0) {
        return None;
    }
    let scales = d.constant("scales", "[1,1,2,3]".to_owned(), DType::F32, &[4]);
    let mode = d.random.one_of(&["nearest", "linear"]);
    Some((format!("Upsample({}, {scales}) mode=\"{mode}\"", x.name), false))
}

//! Old forms of operators to the newest ones: attributes that became inputs, defaults and meanings that changed. One line for each.

use super::model::Importer;
use super::node::At;
use super::problems::Problem;
use super::scope::Known;
use crate::ops::{Attribute, Attributes, normalize_axis, onnx_of_dtype};
use crate::tensor::{DType, Dim, Tensor};

/// An operator on its way to the newest form.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) op: String,
    pub(super) inputs: Vec<Option<Known>>,
    pub(super) attributes: Attributes,
    /// Names in the graph; empty ones are unused.
    pub(super) outputs: Vec<String>,
}

/// What a rule did: changed the draft, or gave the results itself.
type Modernized = Result<Option<Vec<Known>>, Problem>;

/// A change of an operator: what must be done to nodes of opsets below `below`.
struct Rule {
    op: &'static str,
    below: i64,
    apply: fn(&mut Importer<'_>, At<'_>, &mut Draft) -> Modernized,
}

macro_rules! rules {
    ($( $op:literal < $below:expr => $apply:expr; )*) => { &[ $( Rule { op: $op, below: $below, apply: $apply } ),* ] };
}

/// Every version.
const ANY: i64 = i64::MAX;

const RULES: &[Rule] = rules! {
    "Add" < 7 => aligned;
    "And" < 7 => aligned;
    "BatchNormalization" < 7 => |_, _, d| only(d, "is_test", 0, 1);
    "BatchNormalization" < 9 => apart;
    "BatchNormalization" < 14 => |_, _, d| { d.outputs.truncate(1); Ok(None) };
    "Cast" < 6 => |_, _, d| {
        let named = match d.attributes.0.get("to") {
            Some(Attribute::String(name)) => old_dtype(name),
            _ => None,
        };
        let dtype = named.ok_or_else(|| Problem::invalid("attribute `to` of `Cast` is no element type"))?;
        d.attributes.0.insert("to".to_owned(), Attribute::Int(onnx_of_dtype(dtype)));
        Ok(None)
    };
    "Clip" < 11 => |i, _, d| { scalar(i, d, "min", 1); scalar(i, d, "max", 2); Ok(None) };
    "Concat" < 4 => |_, _, d| { d.attributes.0.entry("axis".to_owned()).or_insert(Attribute::Int(1)); Ok(None) };
    "DFT" < 20 => |_, _, d| { let axis = int(d, "axis", 1)?; put(d, 2, Tensor::scalar(axis), "axis"); Ok(None) };
    "Div" < 7 => aligned;
    "Dropout" < 7 => |_, _, d| only(d, "is_test", 0, 1);
    "Equal" < 7 => aligned;
    "GRU" < 7 => |_, _, d| { d.attributes.0.remove("output_sequence"); Ok(None) };
    "Gemm" < 7 => |_, _, d| { d.attributes.0.remove("broadcast"); Ok(None) };
    "Greater" < 7 => aligned;
    "GroupNormalization" < 21 => group_normalization;
    "GlobalLpPool" < 2 => |_, _, d| whole(d, "p");
    "GridSample" < ANY => |_, _, d| {
        if let Some(Attribute::String(mode)) = d.attributes.0.get_mut("mode") {
            *mode = mode.trim_start_matches("bi").to_owned();
        }
        Ok(None)
    };
    "Hardmax" < 13 => flattened;
    "LSTM" < 7 => |_, _, d| { d.attributes.0.remove("output_sequence"); Ok(None) };
    "LogSoftmax" < 13 => flattened;
    "LpPool" < 2 => |_, _, d| whole(d, "p");
    "Less" < 7 => aligned;
    "Mul" < 7 => aligned;
    "Or" < 7 => aligned;
    "PRelu" < 7 => |i, at, d| {
        let [Some(x), Some(slope)] = [0, 1].map(|n| d.inputs.get(n).cloned().flatten().and_then(|k| k.fact(&i.graph))) else { return Ok(None) };
        if slope.ty.rank() == 1 && slope.ty.shape.0[0] != Dim::Fixed(1) {
            widen(i, at, d, 1, x.ty.rank().saturating_sub(2))?;
        }
        Ok(None)
    };
    "Pad" < 2 => |_, _, d| {
        if let Some(pads) = d.attributes.0.remove("paddings") {
            d.attributes.0.insert("pads".to_owned(), pads);
        }
        Ok(None)
    };
    "Pad" < 11 => |i, _, d| { list(d, "pads", 1)?; scalar(i, d, "value", 2); Ok(None) };
    "Pow" < 7 => aligned;
    "RNN" < 7 => |_, _, d| { d.attributes.0.remove("output_sequence"); Ok(None) };
    "ReduceL1" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceL2" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceLogSum" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceLogSumExp" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceMax" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceMean" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceMin" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceProd" < 18 => |_, _, d| list(d, "axes", 1);
    "ReduceSum" < 13 => |_, _, d| list(d, "axes", 1);
    "ReduceSumSquare" < 18 => |_, _, d| list(d, "axes", 1);
    "Reshape" < 5 => |_, _, d| list(d, "shape", 1);
    "Resize" < 11 => |_, _, d| {
        d.inputs.insert(1.min(d.inputs.len()), None);
        default(d, "coordinate_transformation_mode", "asymmetric");
        default(d, "nearest_mode", "floor");
        Ok(None)
    };
    "Resize" < ANY => |i, _, d| { absent_if_empty(i, d, 1); absent_if_empty(i, d, 2); absent_if_empty(i, d, 3); Ok(None) };
    "RoiAlign" < 16 => |_, _, d| { default(d, "coordinate_transformation_mode", "output_half_pixel"); Ok(None) };
    "Selu" < 6 => |_, _, d| {
        for (name, value) in [("alpha", 1.6732), ("gamma", 1.0507)] {
            d.attributes.0.entry(name.to_owned()).or_insert(Attribute::Float(value));
        }
        Ok(None)
    };
    "Slice" < 10 => |_, _, d| { list(d, "starts", 1)?; list(d, "ends", 2)?; list(d, "axes", 3) };
    "Softmax" < 13 => flattened;
    "Split" < 13 => |_, _, d| list(d, "split", 1);
    "Squeeze" < 13 => |_, _, d| list(d, "axes", 1);
    "Sub" < 7 => aligned;
    "Tile" < 6 => tiled;
    "TopK" < 10 => |_, _, d| { let k = int(d, "k", 1)?; put(d, 1, Tensor::from_slice(&[1], &[k]), "k"); Ok(None) };
    "Unsqueeze" < 13 => |_, _, d| list(d, "axes", 1);
    "Upsample" < 7 => |_, _, d| {
        let scale = |d: &mut Draft, name| match d.attributes.0.remove(name) {
            Some(Attribute::Float(scale)) => Ok(scale),
            _ => Err(Problem::invalid(format!("attribute `{name}` of `Upsample` is missing"))),
        };
        let scales = vec![1.0, 1.0, scale(d, "height_scale")?, scale(d, "width_scale")?];
        d.attributes.0.insert("scales".to_owned(), Attribute::Floats(scales));
        Ok(None)
    };
    "Upsample" < 9 => |_, _, d| {
        match d.attributes.0.remove("scales") {
            Some(Attribute::Floats(scales)) => put(d, 1, Tensor::from_slice(&[scales.len()], &scales), "scales"),
            _ => return Err(Problem::invalid("attribute `scales` is missing")),
        }
        Ok(None)
    };
    "Xor" < 7 => aligned;
};

/// The name that an operator has had since it was renamed, or moved to another domain, without changes.
pub(super) fn newest_name(op: &str) -> &str {
    match op {
        "Scatter" => "ScatterElements",
        "com.microsoft.DequantizeLinear" => "DequantizeLinear",
        "com.microsoft.GatherND" => "GatherND",
        "com.microsoft.Gelu" => "Gelu",
        "com.microsoft.GridSample" => "GridSample",
        "com.microsoft.LayerNormalization" => "LayerNormalization",
        "com.microsoft.Pad" => "Pad",
        "com.microsoft.QuantizeLinear" => "QuantizeLinear",
        "com.microsoft.Range" => "Range",
        "com.microsoft.SimplifiedLayerNormalization" => "SimplifiedLayerNormalization",
        "com.microsoft.SampleOp" => "Identity",
        "com.microsoft.TransposeMatMul" => "com.microsoft.FusedMatMul",
        "com.microsoft.Trilu" => "Trilu",
        op => op,
    }
}

/// Brings a node to its newest form, or gives its results where that is several nodes.
pub(super) fn modernize(importer: &mut Importer<'_>, at: At<'_>, draft: &mut Draft) -> Modernized {
    let op = draft.op.clone();
    if at.frame.opset < 6 {
        // Which operands may be overwritten, an old hint.
        draft.attributes.0.remove("consumed_inputs");
    }
    for rule in RULES.iter().filter(|r| r.op == op && at.frame.opset < r.below) {
        if let Some(results) = (rule.apply)(importer, at, draft)? {
            return Ok(Some(results));
        }
    }
    Ok(None)
}

/// The element type of this name in `onnx.TensorProto.DataType`.
fn old_dtype(name: &str) -> Option<DType> {
    Some(match name.to_ascii_uppercase().as_str() {
        "FLOAT" => DType::F32,
        "DOUBLE" => DType::F64,
        "FLOAT16" => DType::F16,
        "BOOL" => DType::Bool,
        "INT8" => DType::I8,
        "INT16" => DType::I16,
        "INT32" => DType::I32,
        "INT64" => DType::I64,
        "UINT8" => DType::U8,
        "UINT16" => DType::U16,
        "UINT32" => DType::U32,
        "UINT64" => DType::U64,
        _ => return None,
    })
}

/// Makes a constant operand `at`.
fn put(d: &mut Draft, at: usize, t: Tensor, what: &str) {
    let base = d.outputs.iter().find(|o| !o.is_empty()).map_or("", String::as_str);
    let known = Known::constant(&format!("{base}.{what}"), t);
    d.inputs.resize(d.inputs.len().max(at + 1), None);
    d.inputs[at] = Some(known);
}

/// A list of integers becomes operand `at`.
fn list(d: &mut Draft, name: &str, at: usize) -> Modernized {
    match d.attributes.0.remove(name) {
        None => Ok(None),
        Some(Attribute::Ints(v)) => {
            put(d, at, Tensor::from_slice(&[v.len()], &v), name);
            Ok(None)
        }
        Some(_) => Err(Problem::invalid(format!("attribute `{name}` is not a list of integers"))),
    }
}

/// A number becomes operand `at`, of the element type of the first operand.
fn scalar(importer: &Importer<'_>, d: &mut Draft, name: &str, at: usize) {
    if let Some(&Attribute::Float(x)) = d.attributes.0.get(name) {
        d.attributes.0.remove(name);
        let fact = d.inputs.first().and_then(Option::as_ref).and_then(|k| k.fact(&importer.graph));
        put(d, at, Tensor::from_f64s(fact.map_or(DType::F32, |f| f.ty.dtype), &[], &[x.into()]), name);
    }
}

/// Takes an integer attribute.
fn int(d: &mut Draft, name: &str, default: i64) -> Result<i64, Problem> {
    d.attributes.take(name, Some(default)).map_err(|e| Problem::invalid(e.to_string()))
}

/// An attribute that went away with only one meaning left.
fn only(d: &mut Draft, name: &str, default: i64, value: i64) -> Modernized {
    match int(d, name, default)? {
        found if found == value => Ok(None),
        found => Err(Problem::unsupported("unsupported-attribute", format!("attribute `{name}={found}` of `{}` is not supported", d.op))),
    }
}

/// A number that is an integer since; `LpPool` and `GlobalLpPool` had others too.
fn whole(d: &mut Draft, name: &str) -> Modernized {
    match d.attributes.0.get(name) {
        Some(&Attribute::Float(p)) if p.fract() == 0.0 && (1.0..1e6).contains(&p) => {
            d.attributes.0.insert(name.to_owned(), Attribute::Int(p as i64));
            Ok(None)
        }
        Some(Attribute::Float(p)) => {
            Err(Problem::unsupported("unsupported-attribute", format!("attribute `{name}={p}` of `{}` is not supported", d.op)))
        }
        _ => Ok(None),
    }
}

/// A default that changed.
fn default(d: &mut Draft, name: &str, value: &str) {
    d.attributes.0.entry(name.to_owned()).or_insert_with(|| Attribute::String(value.to_owned()));
}

/// An operand that old files give as an empty tensor.
fn absent_if_empty(importer: &Importer<'_>, d: &mut Draft, at: usize) {
    if let Some(slot) = d.inputs.get_mut(at)
        && slot.as_ref().and_then(|k| k.fact(&importer.graph)).is_some_and(|f| f.ty.dims().is_some_and(|dims| dims.contains(&0)))
    {
        *slot = None;
    }
}

impl Importer<'_> {
    /// One more operator with one result, named after the draft's.
    fn step(&mut self, at: At<'_>, op: &str, inputs: Vec<Known>, attributes: &[(&str, Attribute)], name: &str) -> Result<Known, Problem> {
        let attributes = Attributes(attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect());
        let inputs = inputs.into_iter().map(Some).collect();
        let results = self.apply(at, Draft { op: op.to_owned(), inputs, attributes, outputs: vec![name.to_owned()] })?;
        Ok(results.into_iter().next().unwrap_or(Known::Failed))
    }
}

/// Extents for `Reshape`.
fn target(name: &str, extents: &[i64]) -> Known {
    Known::constant(&format!("{name}.shape"), Tensor::from_slice(&[extents.len()], extents))
}

/// Softmax and its like used to work on a matrix: all axes from `axis` on were one.
fn flattened(importer: &mut Importer<'_>, at: At<'_>, d: &mut Draft) -> Modernized {
    let axis = int(d, "axis", 1)?;
    let [Some(x)] = &d.inputs[..] else { return Ok(None) };
    let x = x.clone();
    let Some(fact) = x.fact(&importer.graph) else { return Ok(None) };
    let dims = &fact.ty.shape.0;
    let rank = dims.len();
    let axis = if axis == rank as i64 { rank } else { normalize_axis(axis, rank).map_err(|e| Problem::invalid(e.to_string()))? };
    // The axis that all elements from `axis` on lie along, if it is one.
    let wide: Vec<usize> = (axis..rank).filter(|&i| dims[i] != Dim::Fixed(1)).collect();
    let empty = dims.contains(&Dim::Fixed(0));
    if rank > axis && (wide.len() <= 1 || empty) {
        let along = wide.first().map_or(axis, |&i| i);
        d.attributes.0.insert("axis".to_owned(), Attribute::Int(along as i64));
        return Ok(None);
    }
    let tail: Option<Vec<i64>> = dims[axis..].iter().map(|d| d.fixed().and_then(|d| i64::try_from(d).ok())).collect();
    let Some(tail) = tail else {
        return match importer.depends_on_unbound(&x) {
            true => Ok(Some(vec![])),
            false => Err(Problem::unsupported("dynamic-shape", format!("`{}` over axes of unknown extents: `{}`", d.op, fact.ty))),
        };
    };
    let name = d.outputs.first().cloned().unwrap_or_default();
    // Zeros keep the extents of the axes in front.
    let front = vec![0i64; axis];
    let product = tail.iter().try_fold(1i64, |n, &d| n.checked_mul(d)).ok_or_else(|| Problem::invalid("the operand is too large"))?;
    let (flat, back) = (target(&format!("{name}.flat"), &[&front[..], &[product]].concat()), target(&name, &[front, tail].concat()));
    let flat = importer.step(at, "Reshape", vec![x, flat], &[], &format!("{name}.flat"))?;
    let op = d.op.clone();
    let y = importer.step(at, &op, vec![flat], &[("axis", Attribute::Int(-1))], &format!("{name}.rows"))?;
    Ok(Some(vec![importer.step(at, "Reshape", vec![y, back], &[], &name)?]))
}

/// Scale and bias used to be given for each group, and are now given for each channel.
fn group_normalization(importer: &mut Importer<'_>, at: At<'_>, d: &mut Draft) -> Modernized {
    let groups = match d.attributes.0.get("num_groups") {
        Some(&Attribute::Int(groups)) if groups > 0 => groups,
        _ => return Err(Problem::invalid("attribute `num_groups` is missing")),
    };
    let Some(x) = d.inputs.first().and_then(Option::as_ref).and_then(|k| k.fact(&importer.graph)) else { return Ok(None) };
    let Some(channels) = x.ty.shape.0.get(1).and_then(Dim::fixed).and_then(|c| i64::try_from(c).ok()) else { return Ok(None) };
    let name = d.outputs.first().cloned().unwrap_or_default();
    for (i, what) in [(1, "scale"), (2, "bias")] {
        let Some(value) = d.inputs.get(i).cloned().flatten() else { continue };
        let name = format!("{name}.{what}");
        let column = target(&format!("{name}.column"), &[groups, 1]);
        let column = importer.step(at, "Reshape", vec![value, column], &[], &format!("{name}.column"))?;
        let wide = target(&format!("{name}.wide"), &[groups, channels / groups]);
        let wide = importer.step(at, "Expand", vec![column, wide], &[], &format!("{name}.wide"))?;
        d.inputs[i] = Some(importer.step(at, "Reshape", vec![wide, target(&name, &[channels])], &[], &name)?);
    }
    Ok(None)
}

/// `BatchNormalization` that is not spatial has statistics for each place of a sample, not for each channel.
fn apart(importer: &mut Importer<'_>, at: At<'_>, d: &mut Draft) -> Modernized {
    let spatial = int(d, "spatial", 1)?;
    let Some(x) = d.inputs.first().cloned().flatten() else { return Ok(None) };
    let Some(rank) = x.fact(&importer.graph).map(|f| f.ty.rank()) else { return Ok(None) };
    if spatial != 0 || rank <= 2 {
        return Ok(None);
    }
    let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|i| d.inputs.get(i).cloned().flatten());
    let (Some(scale), Some(bias), Some(mean), Some(variance)) = (scale, bias, mean, variance) else { return Ok(None) };
    let epsilon: f32 = d.attributes.take("epsilon", Some(1e-5)).map_err(|e| Problem::invalid(e.to_string()))?;
    let name = d.outputs.first().cloned().unwrap_or_default();
    let dtype = x.fact(&importer.graph).map_or(DType::F32, |f| f.ty.dtype);
    let epsilon = Known::constant(&format!("{name}.epsilon"), Tensor::from_f64s(dtype, &[], &[epsilon.into()]));
    let mut step = |op: &str, inputs: Vec<Known>, what: &str| importer.step(at, op, inputs, &[], &format!("{name}{what}"));
    let centered = step("Sub", vec![x, mean], ".centered")?;
    let variance = step("Add", vec![variance, epsilon], ".variance")?;
    let deviation = step("Sqrt", vec![variance], ".deviation")?;
    let factor = step("Div", vec![scale, deviation], ".factor")?;
    let scaled = step("Mul", vec![centered, factor], ".scaled")?;
    Ok(Some(vec![step("Add", vec![scaled, bias], "")?]))
}

/// `Tile` used to repeat one axis, a constant operand as the number of times.
fn tiled(importer: &mut Importer<'_>, at: At<'_>, d: &mut Draft) -> Modernized {
    let fact = |i: usize| d.inputs.get(i).cloned().flatten().and_then(|k| k.fact(&importer.graph));
    let (Some(x), Some(tiles), Some(axis)) = (fact(0), fact(1), fact(2)) else { return Ok(None) };
    let number = |f: crate::ops::Fact, what: &str| match f.value.map(|t| t.to_f64s()).as_deref() {
        Some(&[n]) => Ok(n as i64),
        _ => Err(Problem::unsupported("dynamic-shape", format!("`Tile` of opset {} whose {what} is no constant", at.frame.opset))),
    };
    let (tiles, axis) = (number(tiles, "number of tiles")?, number(axis, "axis")?);
    let axis = normalize_axis(axis, x.ty.rank()).map_err(|e| Problem::invalid(e.to_string()))?;
    let repeats: Vec<i64> = (0..x.ty.rank()).map(|a| if a == axis { tiles } else { 1 }).collect();
    d.inputs.truncate(1);
    put(d, 1, Tensor::from_slice(&[repeats.len()], &repeats), "repeats");
    Ok(None)
}

/// Operand `at` gets so many more axes of extent 1 at its end.
fn widen(importer: &mut Importer<'_>, at: At<'_>, d: &mut Draft, operand: usize, count: usize) -> Result<(), Problem> {
    let Some(value) = d.inputs.get(operand).cloned().flatten() else { return Ok(()) };
    let Some(rank) = value.fact(&importer.graph).map(|f| f.ty.rank()).filter(|_| count > 0) else { return Ok(()) };
    let name = format!("{}.operand", d.outputs.first().map_or("", String::as_str));
    let axes: Vec<i64> = (rank..rank + count).map(|axis| axis as i64).collect();
    let axes = Known::constant(&format!("{name}.axes"), Tensor::from_slice(&[count], &axes));
    d.inputs[operand] = Some(importer.step(at, "Unsqueeze", vec![value, axes], &[], &name)?);
    Ok(())
}

/// The second operand used to lie along the first one's axes from `axis` on.
fn aligned(importer: &mut Importer<'_>, at: At<'_>, d: &mut Draft) -> Modernized {
    d.attributes.0.remove("broadcast");
    let ranks = [0, 1].map(|i| d.inputs.get(i).cloned().flatten().and_then(|k| k.fact(&importer.graph)).map(|f| f.ty.rank()));
    let axis: Option<i64> = d.attributes.take("axis", None).map_err(|e| Problem::invalid(e.to_string()))?;
    if let ([Some(a), Some(b)], Some(axis)) = (ranks, axis) {
        let axis = normalize_axis(axis, a.max(1)).map_err(|e| Problem::invalid(e.to_string()))?;
        widen(importer, at, d, 1, a.saturating_sub(axis + b))?;
    }
    Ok(None)
}

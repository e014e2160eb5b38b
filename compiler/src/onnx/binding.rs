//! Dimensions of inputs: as declared, as the user binds them, and those that stay open.

use std::collections::BTreeMap;

use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{ValueInfoProto, type_proto};

use super::initializer;
use super::problems::Problem;
use super::{ImportOptions, ValueSignature};
use crate::diagnostic::{Diagnostic, Severity};
use crate::graph::{Graph, name};
use crate::tensor::{Dim, Shape, Tensor, Type};

/// The declared type of an input or output; dimensions without name get `NAME.AXIS`.
pub(super) fn declared(v: &ValueInfoProto) -> Result<ValueSignature, Problem> {
    let place = |p: Problem| Problem { message: format!("`{}`: {}", v.name, p.message), ..p };
    let tensor = match v.type_.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(t)) => t,
        None => return Err(Problem::invalid(format!("`{}` has no type", v.name))),
        Some(other) => {
            let kind = match other {
                type_proto::Value::SequenceType(_) => "a sequence",
                type_proto::Value::MapType(_) => "a map",
                type_proto::Value::OptionalType(_) => "an optional value",
                _ => "a sparse tensor",
            };
            return Err(Problem::unsupported("unsupported-type", format!("`{}` is {kind}; only tensors are supported", v.name)));
        }
    };
    let dtype = initializer::dtype(tensor.elem_type).map_err(place)?;
    let shape = tensor.shape.as_ref().map(|shape| {
        let dim = |(axis, d): (usize, &onnx_protobuf::tensor_shape_proto::Dimension)| match &d.value {
            Some(dimension::Value::DimValue(n)) if *n >= 0 => Dim::Fixed(usize::try_from(*n).unwrap_or(usize::MAX)),
            // Some writers name every open dimension `?`, which says nothing of equality.
            Some(dimension::Value::DimParam(s)) if !["", "?", "*", "-1", "None"].contains(&s.as_str()) => Dim::Symbol(s.as_str().into()),
            _ => Dim::Symbol(format!("{}.{axis}", v.name).into()),
        };
        shape.dim.iter().enumerate().map(dim).collect::<Shape>()
    });
    Ok(ValueSignature { name: v.name.clone(), dtype, shape })
}

/// The types of the inputs under what the user says of them; an input without rank has none. Problems are those of the user's words.
pub(super) fn bind(inputs: &[ValueSignature], options: &ImportOptions) -> (Vec<Option<Type>>, Vec<Problem>) {
    let mut problems = vec![];
    let mut wrong = |message: String, help: String| {
        problems.push(Problem { code: "invalid-binding", severity: Severity::Input, message, help: Some(help) });
    };
    let mut symbols: BTreeMap<String, usize> = options.bindings.clone();
    let names = || inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join("`, `");
    for (name, dims) in &options.input_shapes {
        let Some(input) = inputs.iter().find(|i| i.name == *name) else {
            wrong(format!("there is no input `{name}`"), format!("the inputs are `{}`", names()));
            continue;
        };
        let Some(shape) = &input.shape else { continue };
        let help = || format!("it is declared as `{}`", Type::new(input.dtype, shape.clone()));
        if shape.rank() != dims.len() {
            wrong(format!("input `{name}` has {} dimensions, not {}", shape.rank(), dims.len()), help());
            continue;
        }
        for (axis, (d, &extent)) in shape.0.iter().zip(dims).enumerate() {
            match d {
                Dim::Symbol(s) => {
                    let bound = *symbols.entry(s.to_string()).or_insert(extent);
                    if bound != extent {
                        wrong(format!("dimension `{s}` is {bound}, and {extent} in the shape of input `{name}`"), help());
                    }
                }
                Dim::Fixed(n) if *n != extent => wrong(format!("axis {axis} of input `{name}` is {n}, not {extent}"), help()),
                _ => {}
            }
        }
    }
    let known: Vec<&str> = inputs.iter().flat_map(|i| i.shape.iter().flat_map(|s| &s.0)).filter_map(symbol).collect();
    for name in options.bindings.keys().filter(|name| !known.contains(&name.as_str())) {
        let help = match &known[..] {
            [] => "the model has no symbolic dimensions".to_owned(),
            known => format!("the symbolic dimensions are `{}`", unique(known).join("`, `")),
        };
        wrong(format!("there is no dimension `{name}`"), help);
    }
    let types = inputs.iter().map(|input| {
        let shape = match &input.shape {
            Some(shape) => shape.0.iter().map(|d| symbol(d).and_then(|s| symbols.get(s)).map_or(d.clone(), |&n| Dim::Fixed(n))).collect(),
            None => Shape::fixed(options.input_shapes.get(&input.name)?),
        };
        Some(Type::new(input.dtype, shape))
    });
    (types.collect(), problems)
}

/// Whether a value is of an input's declared type.
pub(super) fn fits(input: &ValueSignature, t: &Tensor) -> bool {
    let dims =
        |shape: &Shape| shape.rank() == t.dims().len() && shape.0.iter().zip(t.dims()).all(|(d, &n)| d.fixed().is_none_or(|d| d == n));
    t.dtype() == input.dtype && input.shape.as_ref().is_none_or(dims)
}

fn symbol(d: &Dim) -> Option<&str> {
    match d {
        Dim::Symbol(s) => Some(s),
        _ => None,
    }
}

fn unique<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names
}

/// The symbolic dimensions of a graph's inputs, sorted.
pub fn unbound_symbols(graph: &Graph) -> Vec<String> {
    let dims: Vec<&Dim> = graph.inputs().iter().flat_map(|&v| &graph.ty(v).shape.0).collect();
    unique(&dims.iter().filter_map(|d| symbol(d)).collect::<Vec<_>>()).into_iter().map(str::to_owned).collect()
}

/// A problem for each symbolic dimension of a graph's inputs, with the flags that bind it.
pub fn unbound_dimensions(graph: &Graph, file: &str) -> Vec<Diagnostic> {
    let problem = |s: String| {
        let inputs: Vec<_> = graph.inputs().iter().filter(|&&v| graph.ty(v).shape.0.iter().any(|d| symbol(d) == Some(&s))).collect();
        let shapes = inputs.iter().map(|&&v| {
            let dims = graph.ty(v).shape.0.iter().map(|d| d.fixed().map_or("N".to_owned(), |n| n.to_string()));
            format!("--input-shape {}={}", graph.name_of(v), dims.collect::<Vec<_>>().join(","))
        });
        let bind = if s.contains(char::is_whitespace) { format!("--bind '{s}=N'") } else { format!("--bind {s}=N") };
        let flags: Vec<String> = [bind].into_iter().chain(shapes.take(1)).collect();
        let line = inputs.first().map(|&&v| format!("%{}: {}", name(graph.name_of(v)), graph.ty(v)));
        let place = inputs.first().map_or(file.to_owned(), |&&v| format!("{file}: input {:?}", graph.name_of(v)));
        let d = Diagnostic::new("unbound-dimension", Severity::Unsupported, place, format!("dimension `{s}` has no extent"));
        Diagnostic { line, ..d }.with_help(format!("give it one: {}", flags.join(", or ")))
    };
    unbound_symbols(graph).into_iter().map(problem).collect()
}

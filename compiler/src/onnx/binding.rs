//! Dimensions of inputs: as declared, as the user binds them, and those that stay open.

use std::collections::{BTreeMap, BTreeSet};

use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{TypeProto, ValueInfoProto, type_proto};

use super::initializer;
use super::problems::Problem;
use super::{Form, ImportOptions, ValueSignature};
use crate::diagnostic::{Diagnostic, Severity};
use crate::graph::{Graph, name};
use crate::tensor::{Dim, Relation, Shape, Tensor, Type, complete, relations};

/// The declared type of an input or output; dimensions without name get `NAME.AXIS`. Of sequences and optional values, element type and
/// shape are those of the tensors inside.
pub(super) fn declared(v: &ValueInfoProto) -> Result<ValueSignature, Problem> {
    let place = |p: Problem| Problem { message: format!("`{}`: {}", v.name, p.message), ..p };
    let mut form = Form::Tensor;
    let mut ty = v.type_.as_ref();
    let tensor = loop {
        let inner = match ty.and_then(|t| t.value.as_ref()) {
            Some(type_proto::Value::TensorType(t)) => break t,
            Some(type_proto::Value::OptionalType(inner)) if form == Form::Tensor => {
                form = Form::Optional;
                &inner.elem_type
            }
            Some(type_proto::Value::SequenceType(inner)) if matches!(form, Form::Tensor | Form::Optional) => {
                form = if form == Form::Tensor { Form::Sequence } else { Form::OptionalSequence };
                &inner.elem_type
            }
            None => return Err(Problem::invalid(format!("`{}` has no type", v.name))),
            Some(other) => {
                let kind = match other {
                    type_proto::Value::SequenceType(_) => "a sequence of sequences",
                    type_proto::Value::MapType(_) => "a map",
                    type_proto::Value::OptionalType(_) => "a sequence of optional values",
                    _ => "a sparse tensor",
                };
                return Err(Problem::unsupported("unsupported-type", format!("`{}` is {kind}; only tensors are supported", v.name)));
            }
        };
        ty = inner.as_ref();
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
    Ok(ValueSignature { name: v.name.clone(), dtype, shape, form })
}

/// As [`declared`], of an output; a sequence of maps, with which classifiers end, is the tensor of their values, with a column for each key.
pub(super) fn declared_output(v: &ValueInfoProto) -> Result<ValueSignature, Problem> {
    let inner = |t: &TypeProto| match &t.value {
        Some(type_proto::Value::SequenceType(s)) => s.elem_type.as_ref().cloned(),
        Some(type_proto::Value::MapType(m)) => m.value_type.as_ref().cloned(),
        _ => None,
    };
    let map = v.type_.as_ref().and_then(inner).filter(|t| matches!(t.value, Some(type_proto::Value::MapType(_))));
    match map.as_ref().and_then(inner).and_then(|t| t.value) {
        Some(type_proto::Value::TensorType(t)) => {
            Ok(ValueSignature { name: v.name.clone(), dtype: initializer::dtype(t.elem_type)?, shape: None, form: Form::Tensor })
        }
        _ => declared(v),
    }
}

/// The tensors that an input stands for which is a sequence or an optional value: as the user says; `None` if there is no value.
///
/// # Errors
/// If the user says nothing, or what cannot be.
pub(super) fn elements(input: &ValueSignature, options: &ImportOptions) -> Result<Option<Vec<ValueSignature>>, Problem> {
    let one = || options.input_shapes.get(&input.name).map(|dims| vec![dims.clone()]);
    let name = &input.name;
    let Some(shapes) = options.sequences.get(name).cloned().or_else(one) else {
        let (what, help) = match input.form {
            Form::Optional => ("nothing says whether it has a value", format!("--input-shape {name}=N,N,... or --input-shape {name}=none")),
            _ => ("nothing says how long it is", format!("--input-shape '{name}=N,N,...;N,N,...' or --input-shape {name}=none")),
        };
        let message = format!("input `{name}` is {}, and {what}", input.form);
        return Err(Problem::unsupported("unbound-dimension", message).with_help(format!("say it: {help}")));
    };
    let wrong = |message: String| {
        let help = format!("its tensors are declared as `{}`", input.tensor());
        Err(Problem { code: "invalid-binding", severity: Severity::Input, message, help: Some(help) })
    };
    if input.form != Form::Sequence && shapes.is_empty() {
        return Ok(None);
    }
    if input.form == Form::Optional && shapes.len() > 1 {
        return wrong(format!("input `{name}` is one optional tensor, not {}", shapes.len()));
    }
    let mut tensors = vec![];
    for (i, dims) in shapes.iter().enumerate() {
        let fits = |s: &Shape| s.rank() == dims.len() && s.0.iter().zip(dims).all(|(d, &n)| d.fixed().is_none_or(|d| d == n));
        if !input.shape.as_ref().is_none_or(fits) {
            return wrong(format!("a tensor {dims:?} of input `{name}` is not of its type"));
        }
        let name = if input.form == Form::Optional { name.clone() } else { element_name(name, i) };
        tensors.push(ValueSignature { name, dtype: input.dtype, shape: Some(Shape::fixed(dims)), form: Form::Tensor });
    }
    Ok(Some(tensors))
}

/// The name of an element of a sequence among inputs or outputs.
pub fn element_name(sequence: &str, i: usize) -> String {
    format!("{sequence}_{i}")
}

/// The types of the inputs under what the user says of them; an input without rank has none. Shapes of `collections`, the inputs that are
/// sequences, are in `inputs` already. Problems are those of the user's words.
pub(super) fn bind(
    inputs: &[ValueSignature],
    collections: &BTreeSet<String>,
    options: &ImportOptions,
) -> (Vec<Option<Type>>, Vec<Problem>) {
    let mut problems = vec![];
    let mut wrong = |message: String, help: String| {
        problems.push(Problem { code: "invalid-binding", severity: Severity::Input, message, help: Some(help) });
    };
    let mut symbols: BTreeMap<String, usize> = options.bindings.clone();
    let names = || inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join("`, `");
    for (name, dims) in &options.input_shapes {
        if collections.contains(name) {
            continue;
        }
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
    for (name, text) in &options.relations {
        let relation = Relation::parse(text);
        let help = || format!("the symbolic dimensions are `{}`", unique(&known).join("`, `"));
        match &relation {
            _ if !known.contains(&name.as_str()) => wrong(format!("there is no dimension `{name}`"), help()),
            None => wrong(format!("dimension `{name}` is `{text}`, which is no expression of dimensions"), help()),
            Some(r) => r.names().into_iter().filter(|n| n == name || !known.contains(n)).for_each(|n| {
                wrong(format!("dimension `{name}` is `{text}`, where `{n}` is no other dimension"), help());
            }),
        }
    }
    let relations = relations(&known, &options.relations);
    complete(&mut symbols, &relations);
    for (name, relation) in relations.iter().filter(|(name, _)| options.relations.contains_key(*name)) {
        if let (Some(&n), Some(m)) = (symbols.get(name), relation.extent(&symbols))
            && n != m
        {
            wrong(format!("dimension `{name}` is {n}, and `{}` is {m}", options.relations[name]), "leave one of them out".to_owned());
        }
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

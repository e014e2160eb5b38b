//! Attributes of the file to attributes of operators.

use std::collections::BTreeMap;
use std::path::Path;

use onnx_protobuf::AttributeProto;
use onnx_protobuf::attribute_proto::AttributeType;

use super::initializer;
use super::problems::Problem;
use crate::ops::Attribute;

/// Attributes that a function was called with, by name.
pub(super) type Arguments = BTreeMap<String, AttributeProto>;

/// What an attribute stands for: itself, or the argument of the function that it refers to; `None` where that was not given.
pub(super) fn resolve<'a>(a: &'a AttributeProto, arguments: &'a Arguments) -> Option<&'a AttributeProto> {
    if a.ref_attr_name.is_empty() { Some(a) } else { arguments.get(&a.ref_attr_name) }
}

/// The value of a resolved attribute.
pub(super) fn read(name: &str, a: &AttributeProto, folder: Option<&Path>) -> Result<Attribute, Problem> {
    let unsupported = |what: &str| Err(Problem::unsupported("unsupported-attribute", format!("attribute `{name}` is {what}")));
    match kind(a) {
        Some(AttributeType::FLOAT) => Ok(Attribute::Float(a.f)),
        Some(AttributeType::INT) => Ok(Attribute::Int(a.i)),
        Some(AttributeType::STRING) => text(name, &a.s).map(Attribute::String),
        Some(AttributeType::TENSOR) => match a.t.as_ref() {
            Some(t) => initializer::decode(t, folder)
                .map(Attribute::Tensor)
                .map_err(|p| Problem { message: format!("attribute `{name}`: {}", p.message), ..p }),
            None => Err(Problem::invalid(format!("attribute `{name}` has no value"))),
        },
        Some(AttributeType::FLOATS) => Ok(Attribute::Floats(a.floats.clone())),
        Some(AttributeType::INTS) => Ok(Attribute::Ints(a.ints.clone())),
        Some(AttributeType::STRINGS) => a.strings.iter().map(|s| text(name, s)).collect::<Result<_, _>>().map(Attribute::Strings),
        Some(AttributeType::GRAPH | AttributeType::GRAPHS) => unsupported("a graph"),
        Some(AttributeType::SPARSE_TENSOR | AttributeType::SPARSE_TENSORS) => unsupported("a sparse tensor"),
        Some(AttributeType::TENSORS) => unsupported("a list of tensors"),
        Some(AttributeType::TYPE_PROTO | AttributeType::TYPE_PROTOS) => unsupported("a type"),
        Some(AttributeType::UNDEFINED) | None => Err(Problem::invalid(format!("attribute `{name}` has no type"))),
    }
}

/// The type of an attribute; old files leave it out, so that the filled field decides.
pub(super) fn kind(a: &AttributeProto) -> Option<AttributeType> {
    match a.type_.enum_value() {
        Ok(AttributeType::UNDEFINED) => Some(match () {
            () if a.t.is_some() => AttributeType::TENSOR,
            () if a.g.is_some() => AttributeType::GRAPH,
            () if !a.ints.is_empty() => AttributeType::INTS,
            () if !a.floats.is_empty() => AttributeType::FLOATS,
            () if !a.strings.is_empty() => AttributeType::STRINGS,
            () if !a.s.is_empty() => AttributeType::STRING,
            () if a.f != 0.0 => AttributeType::FLOAT,
            () if a.i != 0 => AttributeType::INT,
            () => return None,
        }),
        Ok(kind) => Some(kind),
        Err(_) => None,
    }
}

fn text(name: &str, bytes: &[u8]) -> Result<String, Problem> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Problem::invalid(format!("attribute `{name}` is not UTF-8")))
}

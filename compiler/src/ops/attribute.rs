//! Attribute values and how operator structs read and write them.

use std::collections::BTreeMap;

use crate::tensor::{DType, Tensor};

/// The value of an attribute.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "the names are ONNX's attribute types")]
pub enum Attribute {
    Int(i64),
    Float(f32),
    String(String),
    Tensor(Tensor),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
}

impl Attribute {
    fn is_empty_list(&self) -> bool {
        match self {
            Attribute::Ints(x) => x.is_empty(),
            Attribute::Floats(x) => x.is_empty(),
            Attribute::Strings(x) => x.is_empty(),
            _ => false,
        }
    }
}

/// Attributes on their way into an operator: each is taken once, and what is left over is an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(pub BTreeMap<String, Attribute>);

/// Why attributes do not fit an operator.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum AttributeError {
    /// A required attribute is absent.
    #[error("attribute `{0}` is missing")]
    Missing(String),
    /// The value has another type, or is none of those allowed.
    #[error("attribute `{0}` has the wrong type: {1}")]
    Type(String, String),
    /// The operator has no such attribute.
    #[error("attribute `{0}` is unknown")]
    Unknown(String),
}

impl Attributes {
    /// Takes an attribute, or its default where it is absent.
    pub fn take<T: AttributeValue>(&mut self, name: &str, default: Option<T>) -> Result<T, AttributeError> {
        match self.0.remove(name) {
            Some(value) => T::read(&value).ok_or_else(|| AttributeError::Type(name.to_owned(), format!("{value:?}"))),
            None => default.or_else(T::absent).ok_or_else(|| AttributeError::Missing(name.to_owned())),
        }
    }

    /// Fails if attributes are left.
    pub fn finish(&self) -> Result<(), AttributeError> {
        self.0.keys().next().map_or(Ok(()), |name| Err(AttributeError::Unknown(name.clone())))
    }
}

/// A Rust type that an attribute can have.
pub trait AttributeValue: Sized + PartialEq {
    /// Reads the value; `None` if it has another type.
    fn read(value: &Attribute) -> Option<Self>;
    /// Writes the value; `None` if it is absent.
    fn write(&self) -> Option<Attribute>;
    /// The value of an absent attribute without default.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! values {
    ($($t:ty = $v:ident),*) => { $(
        impl AttributeValue for $t {
            fn read(value: &Attribute) -> Option<Self> {
                match value { Attribute::$v(x) => Some(x.clone()), _ => None }
            }
            fn write(&self) -> Option<Attribute> { Some(Attribute::$v(self.clone())) }
        }
    )* };
}
values!(i64 = Int, f32 = Float, String = String, Tensor = Tensor);

// An empty list has no element type in text, and exporters write any.
macro_rules! lists {
    ($($t:ty = $v:ident),*) => { $(
        impl AttributeValue for Vec<$t> {
            fn read(value: &Attribute) -> Option<Self> {
                match value {
                    Attribute::$v(x) => Some(x.clone()),
                    other => other.is_empty_list().then(Vec::new),
                }
            }

            fn write(&self) -> Option<Attribute> {
                Some(Attribute::$v(self.clone()))
            }
        }
    )* };
}
lists!(i64 = Ints, f32 = Floats, String = Strings);

impl AttributeValue for bool {
    fn read(value: &Attribute) -> Option<Self> {
        match value {
            Attribute::Int(x) => Some(*x != 0),
            _ => None,
        }
    }

    fn write(&self) -> Option<Attribute> {
        Some(Attribute::Int(i64::from(*self)))
    }
}

impl AttributeValue for DType {
    /// From the number in `onnx.TensorProto.DataType`.
    fn read(value: &Attribute) -> Option<Self> {
        match value {
            Attribute::Int(x) => dtype_of_onnx(*x),
            _ => None,
        }
    }

    fn write(&self) -> Option<Attribute> {
        Some(Attribute::Int(onnx_of_dtype(*self)))
    }
}

impl<T: AttributeValue> AttributeValue for Option<T> {
    fn read(value: &Attribute) -> Option<Self> {
        T::read(value).map(Some)
    }

    fn write(&self) -> Option<Attribute> {
        self.as_ref().and_then(T::write)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

const ONNX_DTYPES: [(DType, i64); 23] = [
    (DType::F32, 1),
    (DType::U8, 2),
    (DType::I8, 3),
    (DType::U16, 4),
    (DType::I16, 5),
    (DType::I32, 6),
    (DType::I64, 7),
    (DType::Bool, 9),
    (DType::F16, 10),
    (DType::F64, 11),
    (DType::U32, 12),
    (DType::U64, 13),
    (DType::BF16, 16),
    (DType::F8E4M3FN, 17),
    (DType::F8E4M3FNUZ, 18),
    (DType::F8E5M2, 19),
    (DType::F8E5M2FNUZ, 20),
    (DType::U4, 21),
    (DType::I4, 22),
    (DType::F4E2M1, 23),
    (DType::F8E8M0, 24),
    (DType::U2, 25),
    (DType::I2, 26),
];

/// The element type with this number in `onnx.TensorProto.DataType`.
pub fn dtype_of_onnx(number: i64) -> Option<DType> {
    ONNX_DTYPES.iter().find(|d| d.1 == number).map(|d| d.0)
}

/// The number in `onnx.TensorProto.DataType` of an element type.
pub fn onnx_of_dtype(dtype: DType) -> i64 {
    ONNX_DTYPES.iter().find(|d| d.0 == dtype).expect("every type is listed").1
}

//! Tensors of the file: every way of storing their elements.

use std::path::Path;

use onnx_protobuf::TensorProto;
use onnx_protobuf::tensor_proto::DataLocation;

use super::external_data;
use super::problems::Problem;
use crate::ops::dtype_of_onnx;
use crate::tensor::{DType, Tensor};

/// Elements of the largest value that is not refused.
pub(super) const MAX_ELEMENTS: usize = 1 << 40;

/// Names of the element types of the format, by number.
const DTYPE_NAMES: [&str; 27] = [
    "undefined",
    "float",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "double",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
];

/// What is said of strings.
pub(super) fn strings() -> Problem {
    Problem::unsupported("unsupported-dtype", "element type `string` is not supported")
        .with_help("put numbers in their place: a classifier is exported without strings when it learns from integers as labels")
}

/// The element type of this number.
pub(super) fn dtype(number: i32) -> Result<DType, Problem> {
    dtype_of_onnx(number.into()).ok_or_else(|| match usize::try_from(number).ok().and_then(|n| DTYPE_NAMES.get(n)) {
        Some(&"undefined") => Problem::invalid("an element type is missing"),
        Some(&"string") => strings(),
        Some(name) => Problem::unsupported("unsupported-dtype", format!("element type `{name}` is not supported")),
        None => Problem::unsupported("unsupported-dtype", format!("element type number {number} is not known")),
    })
}

/// The extents, and their product.
pub(super) fn extents(dims: &[i64]) -> Result<(Vec<usize>, usize), Problem> {
    let extents: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let extents = extents.ok_or_else(|| Problem::invalid(format!("the dimensions {dims:?} are negative")))?;
    // Zeros do not excuse the rest: the product of any part must not overflow either.
    let product = extents.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).filter(|&n| n <= MAX_ELEMENTS);
    let product = product.ok_or_else(|| Problem::invalid(format!("the dimensions {dims:?} are too large")))?;
    Ok((extents.clone(), if extents.contains(&0) { 0 } else { product }))
}

/// The tensor of a message.
pub(super) fn decode(t: &TensorProto, folder: Option<&Path>) -> Result<Tensor, Problem> {
    let dtype = dtype(t.data_type)?;
    let (dims, count) = extents(&t.dims)?;
    if t.segment.is_some() {
        return Err(Problem::unsupported("unsupported-initializer", "tensors in segments are not supported"));
    }
    // Cannot overflow: at most 2^40 elements.
    let packed = dtype.packed_bits() as usize;
    let size = (count * packed).div_ceil(8);
    if t.data_location.enum_value() == Ok(DataLocation::EXTERNAL) {
        let mut bytes = external_data::read(&t.external_data, size, folder)?;
        if packed < 8 {
            return Ok(unpacked(dtype, &dims, &bytes));
        }
        return Ok(Tensor::from_bytes(dtype, &dims, canonical(dtype, &mut bytes)));
    }
    if !t.raw_data.is_empty() {
        if t.raw_data.len() != size {
            return Err(Problem::invalid(format!("{} bytes of raw data where `{dtype}{dims:?}` has {size}", t.raw_data.len())));
        }
        return Ok(match dtype {
            DType::Bool => Tensor::from_bytes(dtype, &dims, canonical(dtype, &mut t.raw_data.clone())),
            _ if packed < 8 => unpacked(dtype, &dims, &t.raw_data),
            _ => Tensor::from_bytes(dtype, &dims, &t.raw_data),
        });
    }
    let (given, field) = match dtype {
        DType::F32 => (t.float_data.len(), "float_data"),
        DType::F64 => (t.double_data.len(), "double_data"),
        DType::I64 => (t.int64_data.len(), "int64_data"),
        DType::U32 | DType::U64 => (t.uint64_data.len(), "uint64_data"),
        _ => (t.int32_data.len(), "int32_data"),
    };
    if packed < 8 && given == size {
        let bytes: Vec<u8> = t.int32_data.iter().map(|&x| x as u8).collect();
        return Ok(unpacked(dtype, &dims, &bytes));
    }
    if given != count || packed < 8 {
        return Err(Problem::invalid(format!("{given} elements in {field} where `{dtype}{dims:?}` has {count}")));
    }
    let small = |bits: usize| -> Vec<u8> { t.int32_data.iter().flat_map(|x| x.to_le_bytes()[..bits / 8].to_vec()).collect() };
    let bytes: Vec<u8> = match dtype {
        DType::F32 => bytemuck::cast_slice(&t.float_data).to_vec(),
        DType::F64 => bytemuck::cast_slice(&t.double_data).to_vec(),
        DType::I64 => bytemuck::cast_slice(&t.int64_data).to_vec(),
        DType::U64 => bytemuck::cast_slice(&t.uint64_data).to_vec(),
        DType::U32 => t.uint64_data.iter().flat_map(|&x| (x as u32).to_le_bytes()).collect(),
        DType::Bool => t.int32_data.iter().map(|&x| u8::from(x != 0)).collect(),
        dtype => small(dtype.size_bytes() * 8),
    };
    Ok(Tensor::from_bytes(dtype, &dims, &bytes))
}

/// A tensor of elements of which several share a byte, the first in its lowest bits.
fn unpacked(dtype: DType, dims: &[usize], bytes: &[u8]) -> Tensor {
    let bits = dtype.packed_bits() as usize;
    let per_byte = 8 / bits;
    let code = |i: usize| bytes[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1);
    let n = dims.iter().product();
    // The sign of a small integer fills its byte.
    let spare = 8 - bits;
    let wide = |code: u8| if dtype.is_signed() { ((code << spare) as i8 >> spare) as u8 } else { code };
    Tensor::from_bytes(dtype, dims, &(0..n).map(|i| wide(code(i))).collect::<Vec<_>>())
}

/// The bytes with every `true` as 1.
fn canonical(dtype: DType, bytes: &mut [u8]) -> &[u8] {
    if dtype == DType::Bool {
        bytes.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    bytes
}

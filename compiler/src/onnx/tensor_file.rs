//! Tensors in files of their own, as in ONNX's `test_data_set_*` folders; also sequences and optional values of such.

use std::fs;
use std::path::Path;

use onnx_protobuf::TensorProto;
use protobuf::{CodedInputStream, Message};

use super::{Form, initializer};
use crate::diagnostic::{Diagnostic, Severity};
use crate::tensor::Tensor;

/// Fields of `SequenceProto` and `OptionalProto`: <https://github.com/onnx/onnx/blob/main/onnx/onnx-data.proto>.
const SEQUENCE_TENSORS: u32 = 3;
const OPTIONAL_TENSOR: u32 = 3;
const OPTIONAL_SEQUENCE: u32 = 5;

/// The tensors in a file that holds a value of this form: one, those of a sequence, or none.
///
/// # Errors
/// If the file cannot be read, or holds no such value of a known type.
pub fn read_value_file(path: &Path, form: Form) -> Result<Vec<Tensor>, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let bytes = fs::read(path).map_err(|e| vec![Diagnostic::new("unreadable-file", Severity::Input, &file, e.to_string())])?;
    let bad = |e: protobuf::Error| vec![Diagnostic::new("bad-file", Severity::Input, &file, format!("not {form}: {e}"))];
    let messages = match form {
        Form::Tensor => vec![bytes],
        Form::Sequence => fields(&bytes, SEQUENCE_TENSORS).map_err(bad)?,
        Form::Optional => fields(&bytes, OPTIONAL_TENSOR).map_err(bad)?,
        Form::OptionalSequence => {
            let sequences = fields(&bytes, OPTIONAL_SEQUENCE).map_err(bad)?;
            sequences.last().map_or(Ok(vec![]), |s| fields(s, SEQUENCE_TENSORS)).map_err(bad)?
        }
    };
    let decode = |message: &Vec<u8>| {
        let tensor = TensorProto::parse_from_bytes(message).map_err(bad)?;
        initializer::decode(&tensor, None).map_err(|problem| vec![problem.at(&file)])
    };
    messages.iter().map(decode).collect()
}

/// What a message holds under this number.
fn fields(message: &[u8], number: u32) -> Result<Vec<Vec<u8>>, protobuf::Error> {
    let mut input = CodedInputStream::from_bytes(message);
    let mut found = vec![];
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        // A tag is the number and, in three bits, how the field is written: 2 is by its length.
        if tag >> 3 == number && tag & 7 == 2 {
            found.push(input.read_bytes()?);
        } else {
            protobuf::rt::skip_field_for_tag(tag, &mut input)?;
        }
    }
    Ok(found)
}

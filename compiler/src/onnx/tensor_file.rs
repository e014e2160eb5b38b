//! Tensors in files of their own, as in ONNX's `test_data_set_*` folders.

use std::fs;
use std::path::Path;

use onnx_protobuf::TensorProto;
use protobuf::Message;

use super::initializer;
use crate::diagnostic::{Diagnostic, Severity};
use crate::tensor::Tensor;

/// The tensor in a file.
///
/// # Errors
/// If the file cannot be read, or holds no tensor of a known type.
pub fn read_tensor_file(path: &Path) -> Result<Tensor, Vec<Diagnostic>> {
    let file = path.display().to_string();
    let bytes = fs::read(path).map_err(|e| vec![Diagnostic::new("unreadable-file", Severity::Input, &file, e.to_string())])?;
    let tensor = TensorProto::parse_from_bytes(&bytes)
        .map_err(|e| vec![Diagnostic::new("bad-file", Severity::Input, &file, format!("not a tensor: {e}"))])?;
    initializer::decode(&tensor, None).map_err(|problem| vec![problem.at(&file)])
}

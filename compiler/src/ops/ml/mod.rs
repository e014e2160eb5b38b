//! Operators of the domain `ai.onnx.ml` that make numeric tensors: trees, linear models, support vectors, encoders of numbers.
//! Spec: <https://onnx.ai/onnx/operators/#ai-onnx-ml>

use super::Schema;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[];

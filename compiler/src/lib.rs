//! Tinsmith: ONNX models to native static libraries, ahead of time.

pub mod codegen;
pub mod nest;
pub mod tensor;

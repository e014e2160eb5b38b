//! Tinsmith: ONNX models to native static libraries, ahead of time.

pub mod expr;
pub mod nest;
pub mod tensor;

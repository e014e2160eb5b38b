//! Tinsmith: ONNX models to native static libraries, ahead of time.

pub mod codegen;
pub mod config;
pub mod diagnostic;
pub mod emit;
pub mod expr;
pub mod graph;
pub mod lower;
pub mod nest;
pub mod pipeline;
pub mod schedule;
pub mod onnx;
pub mod ops;
pub mod passes;
pub mod tensor;

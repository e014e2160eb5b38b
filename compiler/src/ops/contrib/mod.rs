//! Operators of the domain `com.microsoft`, as onnxruntime's exporters, optimizers and quantizers leave them in files. Each is others in order.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>

mod bias;
mod distance;
mod embed_layer_norm;
mod fused_conv;
mod fused_gemm;
mod fused_matmul;
mod skip_layer_norm;
mod steps;

use super::Schema;

pub use bias::{BiasAdd, BiasGelu, BiasSplitGelu, FastGelu, QuickGelu};
pub use distance::CDist;
pub use embed_layer_norm::EmbedLayerNormalization;
pub use fused_conv::FusedConv;
pub use fused_gemm::FusedGemm;
pub use fused_matmul::FusedMatMul;
pub use skip_layer_norm::{SimplifiedLayerNormalization, SkipLayerNormalization, SkipSimplifiedLayerNormalization};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &BiasAdd::SCHEMA,
    &BiasGelu::SCHEMA,
    &BiasSplitGelu::SCHEMA,
    &CDist::SCHEMA,
    &EmbedLayerNormalization::SCHEMA,
    &FastGelu::SCHEMA,
    &FusedConv::SCHEMA,
    &FusedGemm::SCHEMA,
    &FusedMatMul::SCHEMA,
    &QuickGelu::SCHEMA,
    &SimplifiedLayerNormalization::SCHEMA,
    &SkipLayerNormalization::SCHEMA,
    &SkipSimplifiedLayerNormalization::SCHEMA,
];

//! Operators of the domain `com.microsoft`, as onnxruntime's exporters, optimizers and quantizers leave them in files. Each is others in order.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>

mod attention;
mod bias;
mod distance;
mod dynamic_quantize_lstm;
mod embed_layer_norm;
mod fused_conv;
mod fused_gemm;
mod fused_matmul;
mod group_query_attention;
mod heads;
mod integer_matmul;
mod matmul_nbits;
mod multi_head_attention;
mod q_attention;
mod qlinear_binary;
mod qlinear_concat;
mod qlinear_pool;
mod qlinear_unary;
mod quantized;
mod skip_layer_norm;
mod steps;

use super::Schema;

pub use attention::Attention;
pub use bias::{BiasAdd, BiasGelu, BiasSplitGelu, FastGelu, QuickGelu};
pub use distance::CDist;
pub use dynamic_quantize_lstm::DynamicQuantizeLSTM;
pub use embed_layer_norm::EmbedLayerNormalization;
pub use fused_conv::FusedConv;
pub use fused_gemm::FusedGemm;
pub use fused_matmul::FusedMatMul;
pub use group_query_attention::{GroupQueryAttention, RotaryEmbedding};
pub use integer_matmul::{DynamicQuantizeMatMul, MatMulIntegerToFloat, QGemm};
pub use matmul_nbits::MatMulNBits;
pub use multi_head_attention::MultiHeadAttention;
pub use q_attention::QAttention;
pub use qlinear_binary::{QLinearAdd, QLinearMul, QLinearWhere};
pub use qlinear_concat::QLinearConcat;
pub use qlinear_pool::{QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean};
pub use qlinear_unary::{QLinearLeakyRelu, QLinearSigmoid, QLinearSoftmax};
pub use skip_layer_norm::{SimplifiedLayerNormalization, SkipLayerNormalization, SkipSimplifiedLayerNormalization};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &Attention::SCHEMA,
    &BiasAdd::SCHEMA,
    &BiasGelu::SCHEMA,
    &BiasSplitGelu::SCHEMA,
    &CDist::SCHEMA,
    &DynamicQuantizeLSTM::SCHEMA,
    &DynamicQuantizeMatMul::SCHEMA,
    &EmbedLayerNormalization::SCHEMA,
    &FastGelu::SCHEMA,
    &FusedConv::SCHEMA,
    &FusedGemm::SCHEMA,
    &FusedMatMul::SCHEMA,
    &GroupQueryAttention::SCHEMA,
    &MatMulIntegerToFloat::SCHEMA,
    &MatMulNBits::SCHEMA,
    &MultiHeadAttention::SCHEMA,
    &QAttention::SCHEMA,
    &QGemm::SCHEMA,
    &QLinearAdd::SCHEMA,
    &QLinearAveragePool::SCHEMA,
    &QLinearConcat::SCHEMA,
    &QLinearGlobalAveragePool::SCHEMA,
    &QLinearLeakyRelu::SCHEMA,
    &QLinearMul::SCHEMA,
    &QLinearReduceMean::SCHEMA,
    &QLinearSigmoid::SCHEMA,
    &QLinearSoftmax::SCHEMA,
    &QLinearWhere::SCHEMA,
    &QuickGelu::SCHEMA,
    &RotaryEmbedding::SCHEMA,
    &SimplifiedLayerNormalization::SCHEMA,
    &SkipLayerNormalization::SCHEMA,
    &SkipSimplifiedLayerNormalization::SCHEMA,
];

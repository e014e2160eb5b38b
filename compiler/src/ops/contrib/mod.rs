//! Operators of the domain `com.microsoft`, as onnxruntime's exporters, optimizers and quantizers leave them in files. Each is others in order.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>

mod attention;
mod bias;
mod bias_softmax;
mod conv_transpose_pads;
mod crop_and_resize;
mod decoder_attention;
mod distance;
mod dynamic_quantize_lstm;
mod embed_layer_norm;
mod fused_conv;
mod fused_gemm;
mod fused_matmul;
mod gated;
mod gather_block_quantized;
mod group_norm;
mod group_query_attention;
mod heads;
mod integer_matmul;
mod integers;
mod inverse;
mod matmul_bnb4;
mod matmul_nbits;
mod moe;
mod multi_head_attention;
mod nhwc;
mod q_attention;
mod q_embed_layer_norm;
mod qlinear_binary;
mod qlinear_concat;
mod qlinear_pool;
mod qlinear_unary;
mod quantized;
mod shapes;
mod skip_layer_norm;
mod steps;

use super::Schema;

pub use attention::Attention;
pub use bias::{BiasAdd, BiasGelu, BiasSplitGelu, FastGelu, QuickGelu};
pub use bias_softmax::{BiasDropout, BiasSoftmax, GemmFastGelu};
pub use conv_transpose_pads::ConvTransposeWithDynamicPads;
pub use crop_and_resize::CropAndResize;
pub use decoder_attention::DecoderMaskedMultiHeadAttention;
pub use distance::CDist;
pub use dynamic_quantize_lstm::DynamicQuantizeLSTM;
pub use embed_layer_norm::EmbedLayerNormalization;
pub use fused_conv::FusedConv;
pub use fused_gemm::FusedGemm;
pub use fused_matmul::FusedMatMul;
pub use gated::{GatedRelativePositionBias, ScaledSiLU, SwiGLU};
pub use gather_block_quantized::GatherBlockQuantized;
pub use group_norm::{GroupNorm, SkipGroupNorm};
pub use group_query_attention::{GroupQueryAttention, RotaryEmbedding};
pub use integer_matmul::{DynamicQuantizeMatMul, MatMulIntegerToFloat, QGemm};
pub use integers::{MatMulInteger16, MulInteger, ReduceSumInteger};
pub use inverse::Inverse;
pub use matmul_bnb4::MatMulBnb4;
pub use matmul_nbits::MatMulNBits;
pub use moe::{MoE, QMoE};
pub use multi_head_attention::MultiHeadAttention;
pub use nhwc::{NhwcConv, NhwcFusedConv, NhwcMaxPool, QLinearConv};
pub use q_attention::QAttention;
pub use q_embed_layer_norm::QEmbedLayerNormalization;
pub use qlinear_binary::{QLinearAdd, QLinearMul, QLinearWhere};
pub use qlinear_concat::QLinearConcat;
pub use qlinear_pool::{QLinearAveragePool, QLinearGlobalAveragePool, QLinearReduceMean};
pub use qlinear_unary::{QLinearLeakyRelu, QLinearSigmoid, QLinearSoftmax};
pub use shapes::{ExpandDims, TorchEmbedding, UnfoldTensor};
pub use skip_layer_norm::{SimplifiedLayerNormalization, SkipLayerNormalization, SkipSimplifiedLayerNormalization};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &Attention::SCHEMA,
    &BiasAdd::SCHEMA,
    &BiasDropout::SCHEMA,
    &BiasGelu::SCHEMA,
    &BiasSoftmax::SCHEMA,
    &BiasSplitGelu::SCHEMA,
    &CDist::SCHEMA,
    &ConvTransposeWithDynamicPads::SCHEMA,
    &CropAndResize::SCHEMA,
    &DecoderMaskedMultiHeadAttention::SCHEMA,
    &DynamicQuantizeLSTM::SCHEMA,
    &DynamicQuantizeMatMul::SCHEMA,
    &EmbedLayerNormalization::SCHEMA,
    &ExpandDims::SCHEMA,
    &FastGelu::SCHEMA,
    &FusedConv::SCHEMA,
    &FusedGemm::SCHEMA,
    &FusedMatMul::SCHEMA,
    &GatedRelativePositionBias::SCHEMA,
    &GatherBlockQuantized::SCHEMA,
    &GemmFastGelu::SCHEMA,
    &GroupNorm::SCHEMA,
    &GroupQueryAttention::SCHEMA,
    &Inverse::SCHEMA,
    &MatMulBnb4::SCHEMA,
    &MatMulInteger16::SCHEMA,
    &MatMulIntegerToFloat::SCHEMA,
    &MatMulNBits::SCHEMA,
    &MoE::SCHEMA,
    &MulInteger::SCHEMA,
    &MultiHeadAttention::SCHEMA,
    &NhwcConv::SCHEMA,
    &NhwcFusedConv::SCHEMA,
    &NhwcMaxPool::SCHEMA,
    &QAttention::SCHEMA,
    &QEmbedLayerNormalization::SCHEMA,
    &QGemm::SCHEMA,
    &QLinearAdd::SCHEMA,
    &QLinearAveragePool::SCHEMA,
    &QLinearConcat::SCHEMA,
    &QLinearConv::SCHEMA,
    &QLinearGlobalAveragePool::SCHEMA,
    &QLinearLeakyRelu::SCHEMA,
    &QLinearMul::SCHEMA,
    &QLinearReduceMean::SCHEMA,
    &QLinearSigmoid::SCHEMA,
    &QLinearSoftmax::SCHEMA,
    &QLinearWhere::SCHEMA,
    &QMoE::SCHEMA,
    &QuickGelu::SCHEMA,
    &ReduceSumInteger::SCHEMA,
    &RotaryEmbedding::SCHEMA,
    &ScaledSiLU::SCHEMA,
    &SimplifiedLayerNormalization::SCHEMA,
    &SkipGroupNorm::SCHEMA,
    &SkipLayerNormalization::SCHEMA,
    &SkipSimplifiedLayerNormalization::SCHEMA,
    &SwiGLU::SCHEMA,
    &TorchEmbedding::SCHEMA,
    &UnfoldTensor::SCHEMA,
];

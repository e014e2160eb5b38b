//! Contractions, convolutions, pooling, normalizations, reductions, recurrent operators.

mod arg;
mod average_pool;
mod batch_norm;
mod byte_lstm;
mod conv;
mod conv_transpose;
mod deform_conv;
mod det;
mod einsum;
pub(crate) mod elimination;
mod gemm;
mod global_pool;
mod group_norm;
mod gru;
mod layer_norm;
mod lp_norm;
mod lstm;
mod matmul;
mod max_pool;
mod max_roi_pool;
mod recurrent;
mod reduce;
mod rnn;
mod roi_align;
mod softmax;
mod tf_idf;
mod widen;
mod window;

use super::Schema;

pub use arg::{ArgMax, ArgMin};
pub use average_pool::{AveragePool, LpPool};
pub use batch_norm::BatchNormalization;
pub use byte_lstm::ByteLSTM;
pub use conv::Conv;
pub(crate) use conv::convolution;
pub use conv_transpose::ConvTranspose;
pub use deform_conv::DeformConv;
pub use det::Det;
pub use einsum::Einsum;
pub use gemm::Gemm;
pub use global_pool::{GlobalAveragePool, GlobalLpPool, GlobalMaxPool};
pub use group_norm::{GroupNormalization, InstanceNormalization};
pub use gru::GRU;
pub use layer_norm::{LayerNormalization, RMSNormalization};
pub use lp_norm::{LRN, LpNormalization, MeanVarianceNormalization};
pub use lstm::LSTM;
pub use matmul::MatMul;
pub use max_pool::MaxPool;
pub use max_roi_pool::MaxRoiPool;
pub use reduce::{
    ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceMax, ReduceMean, ReduceMin, ReduceProd, ReduceSum, ReduceSumSquare,
};
pub use rnn::RNN;
pub use roi_align::RoiAlign;
pub use softmax::{Hardmax, LogSoftmax, Softmax};
pub use tf_idf::TfIdfVectorizer;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &ArgMax::SCHEMA,
    &ArgMin::SCHEMA,
    &AveragePool::SCHEMA,
    &BatchNormalization::SCHEMA,
    &ByteLSTM::SCHEMA,
    &Conv::SCHEMA,
    &ConvTranspose::SCHEMA,
    &DeformConv::SCHEMA,
    &Det::SCHEMA,
    &Einsum::SCHEMA,
    &GRU::SCHEMA,
    &Gemm::SCHEMA,
    &GlobalAveragePool::SCHEMA,
    &GlobalLpPool::SCHEMA,
    &GlobalMaxPool::SCHEMA,
    &GroupNormalization::SCHEMA,
    &Hardmax::SCHEMA,
    &InstanceNormalization::SCHEMA,
    &LRN::SCHEMA,
    &LSTM::SCHEMA,
    &LayerNormalization::SCHEMA,
    &LogSoftmax::SCHEMA,
    &LpNormalization::SCHEMA,
    &LpPool::SCHEMA,
    &MatMul::SCHEMA,
    &MaxPool::SCHEMA,
    &MaxRoiPool::SCHEMA,
    &MeanVarianceNormalization::SCHEMA,
    &RMSNormalization::SCHEMA,
    &RNN::SCHEMA,
    &ReduceL1::SCHEMA,
    &ReduceL2::SCHEMA,
    &ReduceLogSum::SCHEMA,
    &ReduceLogSumExp::SCHEMA,
    &ReduceMax::SCHEMA,
    &ReduceMean::SCHEMA,
    &ReduceMin::SCHEMA,
    &ReduceProd::SCHEMA,
    &ReduceSum::SCHEMA,
    &ReduceSumSquare::SCHEMA,
    &RoiAlign::SCHEMA,
    &Softmax::SCHEMA,
    &TfIdfVectorizer::SCHEMA,
];

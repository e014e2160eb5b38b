//! Operators that are made of others: each says its steps, and files are read as if they held those.

mod affine_grid;
mod attention;
mod causal_conv;
mod center_crop_pad;
mod cross_entropy;
mod dft;
mod dynamic_quantize;
mod flex_attention;
mod linear_attention;
mod max_unpool;
mod mel_weight_matrix;
mod rotary_embedding;
mod swiglu;
mod windows;

use super::Schema;

pub use affine_grid::AffineGrid;
pub use attention::Attention;
pub use causal_conv::CausalConvWithState;
pub use center_crop_pad::CenterCropPad;
pub use cross_entropy::{NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss};
pub use dft::{DFT, STFT};
pub use dynamic_quantize::DynamicQuantizeLinear;
pub use flex_attention::{FlexScores, FlexValues};
pub use linear_attention::LinearAttention;
pub use max_unpool::MaxUnpool;
pub use mel_weight_matrix::MelWeightMatrix;
pub use rotary_embedding::RotaryEmbedding;
pub use swiglu::SwiGLU;
pub use windows::{BlackmanWindow, HammingWindow, HannWindow};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &AffineGrid::SCHEMA,
    &Attention::SCHEMA,
    &BlackmanWindow::SCHEMA,
    &CausalConvWithState::SCHEMA,
    &CenterCropPad::SCHEMA,
    &DFT::SCHEMA,
    &DynamicQuantizeLinear::SCHEMA,
    &FlexScores::SCHEMA,
    &FlexValues::SCHEMA,
    &HammingWindow::SCHEMA,
    &HannWindow::SCHEMA,
    &LinearAttention::SCHEMA,
    &MaxUnpool::SCHEMA,
    &MelWeightMatrix::SCHEMA,
    &NegativeLogLikelihoodLoss::SCHEMA,
    &RotaryEmbedding::SCHEMA,
    &STFT::SCHEMA,
    &SoftmaxCrossEntropyLoss::SCHEMA,
    &SwiGLU::SCHEMA,
];

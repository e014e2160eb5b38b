//! Operators of the domain `ai.onnx.ml` that make numeric tensors: trees, linear models, support vectors, encoders of numbers.
//! Spec: <https://onnx.ai/onnx/operators/#ai-onnx-ml>

mod encoders;
mod features;
mod linear;
mod pairwise_coupling;
mod svm;
mod svm_classifier;
mod transform;
mod tree_ensemble;
mod tree_leaves;
mod tree_models;
mod zip_map;

use super::Schema;

pub use encoders::{LabelEncoder, OneHotEncoder};
pub use features::{ArrayFeatureExtractor, Binarizer, FeatureVectorizer, Imputer, Normalizer, Scaler};
pub use linear::{LinearClassifier, LinearRegressor};
pub use pairwise_coupling::PairwiseCoupling;
pub use svm::SVMRegressor;
pub use svm_classifier::SVMClassifier;
pub use tree_ensemble::TreeEnsemble;
pub use tree_leaves::TreeLeaves;
pub use tree_models::{TreeEnsembleClassifier, TreeEnsembleRegressor};
pub use zip_map::ZipMap;

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &ArrayFeatureExtractor::SCHEMA,
    &Binarizer::SCHEMA,
    &FeatureVectorizer::SCHEMA,
    &Imputer::SCHEMA,
    &LabelEncoder::SCHEMA,
    &LinearClassifier::SCHEMA,
    &LinearRegressor::SCHEMA,
    &Normalizer::SCHEMA,
    &OneHotEncoder::SCHEMA,
    &PairwiseCoupling::SCHEMA,
    &SVMClassifier::SCHEMA,
    &SVMRegressor::SCHEMA,
    &Scaler::SCHEMA,
    &TreeEnsemble::SCHEMA,
    &TreeEnsembleClassifier::SCHEMA,
    &TreeEnsembleRegressor::SCHEMA,
    &TreeLeaves::SCHEMA,
    &ZipMap::SCHEMA,
];

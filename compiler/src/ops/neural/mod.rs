//! Contractions, convolutions, pooling, normalizations, reductions, recurrent operators.

mod average_pool;
mod conv;
mod gemm;
mod matmul;
mod max_pool;
mod reduce;
mod softmax;
mod widen;
mod window;

use super::Schema;

pub use average_pool::{AveragePool, LpPool};
pub use conv::Conv;
pub use gemm::Gemm;
pub use matmul::MatMul;
pub use max_pool::MaxPool;
pub use reduce::{
    ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp, ReduceMax, ReduceMean, ReduceMin, ReduceProd, ReduceSum, ReduceSumSquare,
};
pub use softmax::{Hardmax, LogSoftmax, Softmax};

/// The operators of this family.
pub const SCHEMAS: &[&Schema] = &[
    &AveragePool::SCHEMA,
    &Conv::SCHEMA,
    &Gemm::SCHEMA,
    &Hardmax::SCHEMA,
    &LogSoftmax::SCHEMA,
    &LpPool::SCHEMA,
    &MatMul::SCHEMA,
    &MaxPool::SCHEMA,
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
    &Softmax::SCHEMA,
];

//! Values and their types: element types, dimensions, shapes, tensors. Imports nothing of the compiler.

mod affine;
mod data;
mod dim;
mod dtype;
mod functions;
mod relation;
mod shape;
mod size;
mod small;
mod strides;
mod ty;

pub use affine::Affine;
pub use data::{Element, Tensor, for_each_index};
pub use dim::Dim;
pub use dtype::DType;
pub use functions::{erf, is_power_of_two, round_bf16, round_f16, softplus};
pub use relation::{Relation, complete, relations};
pub use shape::{Shape, broadcast_dims, broadcast_offset, n_elements, row_major_strides};
pub use size::{Parameter, Size, Spread, for_all_sizes};
pub use small::SmallFloat;
pub use strides::{dense_strides, reshape_strides};
pub use ty::Type;

//! Graph to graph: constants, algebra, quantization, pruning, fusion groups, layouts, the memory plan. Imports `tensor`, `ops`, `graph`,
//! `expr` and `targets`.

pub mod assign_layouts;
pub mod fuse;
pub mod plan_memory;

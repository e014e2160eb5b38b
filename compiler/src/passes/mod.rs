//! Graph to graph: constants, algebra, quantization, pruning, fusion groups, layouts, the memory plan. Imports `tensor`, `ops`, `graph`,
//! `expr` and `targets`.

pub mod plan_memory;

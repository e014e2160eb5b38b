//! Graph to graph: constants, algebra, quantization, pruning, fusion groups, layouts, the memory plan. Imports `tensor`, `ops`, `graph`,
//! `expr` and `targets`.

pub mod assign_layouts;
mod contraction;
pub mod control_flow;
mod edit;
pub mod eliminate;
pub mod fold_constants;
pub mod fuse;
pub mod join_rows;
pub mod plan_memory;
pub mod prune_channels;
pub mod quantize_weights;
pub mod report;
pub mod simplify;

pub use report::{PassConfig, Report};

use crate::graph::Graph;

/// A pass that rewrites the graph, at its place in the list.
#[derive(Debug)]
pub struct PassInfo {
    /// The name that `--emit-after` takes.
    pub name: &'static str,
    /// Why it stands where it stands.
    pub position: &'static str,
    /// The pass, on one graph.
    pub run: fn(&mut Graph, &PassConfig, &mut Report),
}

impl PassInfo {
    /// Runs the pass on a graph, then on the bodies of its branches and loops.
    pub fn apply(&self, g: &mut Graph, config: &PassConfig, report: &mut Report) {
        (self.run)(g, config, report);
        for node in g.control_nodes() {
            for body in g.node_mut(node).control_mut().into_iter().flat_map(|c| c.bodies_mut()) {
                self.apply(body, config, report);
            }
        }
    }
}

/// The rewriting passes in order; grouping, layouts and memory come after them.
pub const PASSES: &[PassInfo] = &[
    PassInfo {
        name: "fold-constants",
        position: "first: shapes become numbers, which every later pass asks for",
        run: |g, config, r| fold_constants::fold_constants_of(g, config.folded.as_ref(), r),
    },
    PassInfo {
        name: "control-flow",
        position: "after folding, which finds constants that bodies capture; before what looks at the weights that they become",
        run: |g, config, r| control_flow::control_flow_of(g, config.folded.as_ref(), r),
    },
    PassInfo {
        name: "eliminate",
        position: "before rules that need a value to have one user: copies and dead users go",
        run: |g, _, r| eliminate::eliminate(g, r),
    },
    PassInfo {
        name: "simplify",
        position: "after shapes are known; before weights are looked at, which normalizations change",
        run: |g, _, r| simplify::simplify(g, r),
    },
    PassInfo {
        name: "prune-channels",
        position: "after normalizations are in the weights, which can make filters zero; before weights are quantized or packed",
        run: |g, config, r| {
            if config.prune_channels {
                prune_channels::prune_channels(g, r);
                eliminate::eliminate(g, r);
            }
        },
    },
    PassInfo {
        name: "quantize-weights",
        position: "last: folding would undo it, and every pass before it changes weights in full precision",
        run: |g, config, r| {
            if config.quantize_weights {
                quantize_weights::quantize_weights(g, r);
            }
        },
    },
];

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testing;

//! Values that constants decide: whether they are computed when a model is read, or later, depends on how large they are, and so on the
//! sizes that it is read for.

use std::collections::{BTreeSet, HashSet};

use super::super::composed::Known;
use super::super::fit::{Fitter, Misfit, Wanted};
use super::kind;
use super::places::{MAX_ELEMENTS, table};
use super::shapes::is_part;
use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::passes::Report;
use crate::passes::fold_constants::fold_constants_of;
use crate::tensor::{Parameter, Tensor};

/// Names of constants which are neither parts of one table at all sizes nor so small that their elements may be functions of the sizes:
/// what is computed from them must be computed in a run.
pub(in crate::pipeline) fn varying_constants(graph: &Graph, others: &[Graph]) -> BTreeSet<String> {
    constants_of(graph, others, |whole, twins| !is_small(whole, twins) && !are_parts(twins, whole))
}

/// Names of small constants of which some element is no function of the sizes, such as a sine; `sizes` are those of all graphs.
pub(in crate::pipeline) fn small_varying_constants(
    graph: &Graph,
    others: &[Graph],
    parameters: &[Parameter],
    sizes: Vec<Vec<i64>>,
) -> BTreeSet<String> {
    let fitter = Fitter { parameters: parameters.to_vec(), probes: sizes, known: Known::default(), wanted: Wanted::new(true, true) };
    constants_of(graph, others, |whole, twins| {
        let known = twins.len() == others.len() && is_small(whole, twins) && !are_parts(twins, whole);
        known && matches!(table(&fitter, whole, twins), Err(Misfit::Varies(_)))
    })
}

fn is_small(whole: &Tensor, twins: &[&Tensor]) -> bool {
    whole.len() <= MAX_ELEMENTS && twins.iter().all(|t| t.dims() == whole.dims())
}

/// Names of constants that are others at other sizes.
pub(in crate::pipeline) fn varied_constants(graph: &Graph, others: &[Graph]) -> BTreeSet<String> {
    constants_of(graph, others, |whole, twins| !are_parts(twins, whole))
}

/// Names of constants for which something holds with what they are in the other graphs.
fn constants_of(graph: &Graph, others: &[Graph], holds: impl Fn(&Tensor, &[&Tensor]) -> bool) -> BTreeSet<String> {
    let name = |n: NodeId| &graph.node(n).results[0].name;
    let found = |n: &NodeId| {
        let NodeKind::Constant(whole) = &graph.node(*n).kind else { return false };
        let twins: Vec<&Tensor> = others.iter().filter_map(|g| g.find(name(*n)).and_then(|v| g.constant(v))).collect();
        holds(whole, &twins)
    };
    graph.order().into_iter().filter(found).map(|n| name(n).clone()).collect()
}

fn are_parts(twins: &[&Tensor], whole: &Tensor) -> bool {
    twins.iter().all(|part| is_part(part, whole))
}

/// Whether a value depends on constants alone.
pub(super) fn is_of_constants(graph: &Graph, v: Value) -> bool {
    cone(graph, v).is_some()
}

/// The nodes that a value depends on, with its own, if no input is among them.
fn cone(graph: &Graph, v: Value) -> Option<HashSet<NodeId>> {
    let (mut left, mut seen) = (vec![v.node], HashSet::new());
    while let Some(n) = left.pop() {
        if matches!(graph.node(n).kind, NodeKind::Input) {
            return None;
        }
        if seen.insert(n) {
            left.extend(graph.operands(n).into_iter().flatten().map(|v| v.node));
        }
    }
    Some(seen)
}

/// Computes what constants decide in `graph` and what is a constant in `like`, the same model at other sizes.
pub(in crate::pipeline) fn fold_alike(graph: &mut Graph, like: &Graph) {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut left: Vec<(Value, Value)> = graph.outputs().iter().copied().zip(like.outputs().iter().copied()).collect();
    while let Some((a, b)) = left.pop() {
        if graph.constant(a).is_some() || !seen.insert(a.node) {
            continue;
        }
        if like.constant(b).is_some() {
            let folded = cone(graph, a).into_iter().flatten();
            names.extend(folded.flat_map(|n| graph.node(n).results.iter().map(|r| r.name.clone())));
        } else if kind(graph, a.node) == kind(like, b.node) {
            let operands = graph.operands(a.node).into_iter().zip(like.operands(b.node));
            left.extend(operands.filter_map(|(x, y)| x.zip(y)));
        }
    }
    if !names.is_empty() {
        fold_constants_of(graph, Some(&names), &mut Report::default());
    }
}

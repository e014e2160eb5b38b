//! Computes nodes whose results are known now: all operands constant, or the result decided by types alone.
//!
//! Requires: types. Ensures: no node is left that could be computed now, except those whose result is much larger than their operands
//! (a filled or repeated tensor is smaller as code), views of large constants that others read too, and those that fail. Keeps: values, bit for bit.

use std::collections::BTreeSet;

use super::Report;
use super::edit::remove_dead;
use crate::graph::{Graph, NodeId};
use crate::ops::Operands;
use crate::tensor::Tensor;

const PASS: &str = "fold-constants";

/// Constants from this size on are not copied for a view.
const LARGE_BYTES: usize = 1 << 20;
/// Results up to this size are always folded.
const SMALL_BYTES: usize = 64 << 10;
/// Larger ones are folded up to this multiple of their operands' size.
const MAX_GROWTH: usize = 4;

/// Replaces nodes by their values.
pub fn fold_constants(g: &mut Graph, report: &mut Report) {
    fold_constants_of(g, None, report);
}

/// As [`fold_constants`], where names are given of the values of these names alone, however large.
pub fn fold_constants_of(g: &mut Graph, only: Option<&BTreeSet<String>>, report: &mut Report) {
    for node in g.operator_nodes() {
        if !g.contains(node) {
            continue;
        }
        let facts = g.facts(node);
        let name = g.node(node).results.iter().find(|r| !r.name.is_empty()).map_or(String::new(), |r| r.name.clone());
        if only.is_some_and(|only| !only.contains(&name)) || g.node(node).results.iter().any(|r| g.computed.contains(&r.name)) {
            continue;
        }
        match values(g, node, &facts, only.is_some()) {
            Ok(Some(values)) => {
                replace(g, node, values);
                report.applied(PASS, PASS, &name);
            }
            Ok(None) => {}
            Err(why) => report.declined(PASS, &name, why),
        }
    }
}

/// The values of a node's results, if they are known and not too large, or of `any_size`.
fn values(g: &Graph, node: NodeId, facts: &Operands, any_size: bool) -> Result<Option<Vec<Tensor>>, String> {
    let Some(op) = g.node(node).operator() else { return Ok(None) };
    if !any_size
        && let Some(Some(shared)) = g.operands(node).first()
        && op.view(facts).is_some()
        && g.constant(*shared).is_some_and(|c| c.bytes().len() >= LARGE_BYTES)
        && g.users(*shared).iter().any(|u| u.0 != node)
    {
        return Err("a view of a large constant that others read needs no copy of it".to_owned());
    }
    let values = match op.value_from_types(facts) {
        Some(values) => values,
        None if facts.facts.iter().flatten().all(|f| f.value.is_some()) => {
            let operand_bytes: usize = facts.facts.iter().flatten().filter_map(|f| f.value.as_ref()).map(|t| t.bytes().len()).sum();
            let limit = SMALL_BYTES.max(operand_bytes.saturating_mul(MAX_GROWTH));
            let result_bytes = g.node(node).results.iter().try_fold(0usize, |sum, r| sum.checked_add(r.ty.size_bytes()?));
            match result_bytes {
                Some(bytes) if any_size || bytes <= limit => match &g.evaluated {
                    Some(evaluated) => evaluated.eval(op, facts),
                    None => op.eval(facts),
                }
                .map_err(|e| e.to_string())?,
                Some(bytes) => return Err(format!("{bytes} bytes out of {operand_bytes} are left to code")),
                None => return Ok(None),
            }
        }
        None => return Ok(None),
    };
    let results = &g.node(node).results;
    if values.len() < results.len() {
        return Err(format!("{} values for {} results", values.len(), results.len()));
    }
    for (value, result) in values.iter().zip(results).filter(|(_, r)| !r.name.is_empty()) {
        // Extents that were not known may be known now; known ones cannot differ.
        let fits = value.dtype() == result.ty.dtype
            && value.dims().len() == result.ty.rank()
            && value.dims().iter().zip(&result.ty.shape.0).all(|(&n, d)| d.fixed().is_none_or(|d| d == n));
        if !fits {
            return Err(format!("the value is {}, the type {}", value.ty(), result.ty));
        }
    }
    Ok(Some(values))
}

fn replace(g: &mut Graph, node: NodeId, values: Vec<Tensor>) {
    let results = g.results(node);
    let folded: Vec<_> = results
        .iter()
        .map(|&v| {
            let name = g.name_of(v).to_owned();
            let new = g.add_constant(&name, values[v.result as usize].clone());
            g.replace_uses(v, new);
            (new, name)
        })
        .collect();
    remove_dead(g, node);
    for (new, name) in folded {
        if g.n_uses(new) == 0 { g.remove(new.node) } else { g.rename(new, &name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::exact;

    #[test]
    fn shapes_become_numbers() {
        let text = "graph @g(%x: f32[2,3,4]) -> (%y) {
            @i = const [0] : i64[1]
            @m = const [-1] : i64[1]
            %s = Shape(%x)
            %n = Gather(%s, @i)
            %t = Concat(%n, @m) axis=0
            %y = Transpose(%x)
        }";
        let (after, report) = exact(fold_constants, text);
        assert_eq!(report.applied.iter().map(|a| a.value.as_str()).collect::<Vec<_>>(), ["s", "n", "t"], "{after}");
        assert_eq!(after.matches("const").count(), 0, "{after}");
    }

    #[test]
    fn folded_values_keep_their_names_and_readers() {
        let text = "graph @g(%x: f32[3]) -> (%y) {
            @a = const [1,2,3] : f32[3]
            @b = const [10,20,30] : f32[3]
            %c = Add(@a, @b)
            %y = Add(%x, %c)
        }";
        let (after, _) = exact(fold_constants, text);
        assert!(after.contains("@c = const [11,22,33]") && after.contains("%y = Add(%x, @c)"), "{after}");
    }

    #[test]
    fn an_operand_may_matter_by_its_type_alone() {
        let text = "graph @g(%x: f32[3], %y: f32[]) -> (%z) {
            @n = const [3] : i64[]
            %c = CastLike(@n, %y)
            %z = Add(%x, %c)
        }";
        let (after, _) = exact(fold_constants, text);
        assert!(after.contains("@c = const [3]") && after.contains("%z = Add(%x, @c)"), "{after}");
    }

    #[test]
    fn what_grows_too_much_stays_code() {
        let text = "graph @g(%x: f32[100,400]) -> (%y) {
            @n = const [100,400] : i64[2]
            %c = ConstantOfShape(@n)
            %y = Add(%x, %c)
        }";
        let (after, report) = exact(fold_constants, text);
        assert!(after.contains("ConstantOfShape"), "{after}");
        assert_eq!(report.reasons(PASS), ["160000 bytes out of 16 are left to code"]);
    }
}

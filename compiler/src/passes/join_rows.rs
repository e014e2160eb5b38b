//! Rows of a product that lie along several axes become one axis, where a run chooses how far these reach.
//!
//! What is stored for the largest sizes has gaps where an inner axis is shorter, so that texts of a batch are products of their own, each
//! with tiles that are not full. Joined, rows are dense. What is computed row by row around such products is joined with them; copies
//! stand where rows come in or go out, and only where they are cheap beside the products.
//!
//! Requires: types. Ensures: every value keeps its elements in row-major order. Keeps: values bit for bit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::edit::make;
use crate::graph::{Graph, NodeId, Value};
use crate::ops::{Axes, Fact, Operands};
use crate::tensor::{Tensor, Type, n_elements};

/// Multiply-adds that are worth the copy of an element.
const WORTH_A_COPY: usize = 256;
/// A product has at least so many weights for every element of its result.
const WEIGHTS_OF_A_PRODUCT: usize = 8;

/// Whether an axis of a value varies.
pub type Varies<'a> = dyn Fn(Value, usize) -> bool + 'a;

/// Nodes that compute row by row, over the same rows.
#[derive(Clone, Debug)]
pub struct Rows {
    nodes: BTreeMap<NodeId, Member>,
    /// How many axes, the outermost, rows lie along.
    lead: usize,
}

/// A node that computes each row of its results from just that row of some operands, and from what has none.
#[derive(Clone, Debug)]
struct Member {
    /// The operands that have rows.
    operands: Vec<usize>,
    /// How many constant weights it multiplies each row by; 0 if it is no product.
    weights: usize,
}

/// All rows that are worth being joined.
pub fn find(g: &Graph, varies: &Varies<'_>) -> Vec<Rows> {
    let mut taken: BTreeSet<NodeId> = BTreeSet::new();
    let mut found = vec![];
    for seed in g.operator_nodes() {
        let lead = g.ty(Value { node: seed, result: 0 }).rank().saturating_sub(1);
        if taken.contains(&seed) || !has_gaps(g, seed, lead, varies) {
            continue;
        }
        let Some(product) = Member::of(g, seed, lead, varies).filter(|m| m.weights > 0) else { continue };
        let mut rows = Rows { nodes: BTreeMap::new(), lead };
        rows.grow(g, (seed, product), &taken, varies);
        rows.trim(g);
        taken.extend(rows.nodes.keys());
        if rows.are_worth_it(g) {
            found.push(rows);
        }
    }
    found
}

impl Rows {
    /// The rows in another graph, where `map` says which node stands for which.
    pub fn in_other(&self, map: &HashMap<NodeId, NodeId>) -> Option<Rows> {
        let nodes = self.nodes.iter().map(|(n, member)| Some((*map.get(n)?, member.clone()))).collect::<Option<_>>()?;
        Some(Rows { nodes, lead: self.lead })
    }

    fn grow(&mut self, g: &Graph, seed: (NodeId, Member), taken: &BTreeSet<NodeId>, varies: &Varies<'_>) {
        let mut left = vec![seed];
        while let Some((node, member)) = left.pop() {
            if taken.contains(&node) || self.nodes.contains_key(&node) {
                continue;
            }
            let operands = g.operands(node);
            let sources = member.operands.iter().filter_map(|&i| operands[i]).map(|v| (v.node, None));
            let users = g.results(node).into_iter().flat_map(|v| g.users(v)).map(|(user, i)| (user, Some(i)));
            for (near, operand) in sources.chain(users) {
                let member = Member::of(g, near, self.lead, varies);
                left.extend(member.filter(|m| operand.is_none_or(|i| m.operands.contains(&i))).map(|m| (near, m)));
            }
            self.nodes.insert(node, member);
        }
    }

    /// Leaves out what is no product and makes more rows come in or go out than if it were outside.
    fn trim(&mut self, g: &Graph) {
        loop {
            let before = self.nodes.len();
            for (node, member) in self.nodes.clone() {
                if member.weights > 0 {
                    continue;
                }
                let touched: BTreeSet<Value> = g.operands(node).into_iter().flatten().chain(g.results(node)).collect();
                let crossing = |rows: &Rows| -> usize { touched.iter().map(|&v| rows.crossing(g, v)).sum() };
                let inside = crossing(self);
                self.nodes.remove(&node);
                if crossing(self) >= inside {
                    self.nodes.insert(node, member);
                }
            }
            if self.nodes.len() == before {
                return;
            }
        }
    }

    /// Elements in a row of a value that is copied because it comes in or goes out.
    fn crossing(&self, g: &Graph, v: Value) -> usize {
        let users = g.users(v);
        let crosses = match self.nodes.contains_key(&v.node) {
            true => g.is_output(v) || users.iter().any(|u| !self.nodes.contains_key(&u.0)),
            false => users.iter().any(|(user, i)| self.nodes.get(user).is_some_and(|m| m.operands.contains(i))),
        };
        if crosses { row_len(g, v, self.lead) } else { 0 }
    }

    fn are_worth_it(&self, g: &Graph) -> bool {
        let touched = self.nodes.keys().flat_map(|&n| g.operands(n).into_iter().flatten().chain(g.results(n)));
        let copied: usize = touched.collect::<BTreeSet<Value>>().into_iter().map(|v| self.crossing(g, v)).sum();
        let products: usize = self.nodes.values().map(|m| m.weights).sum();
        products >= WORTH_A_COPY * copied
    }

    /// Joins the rows. A graph that stands for another at other sizes is changed in the same way.
    ///
    /// # Panics
    /// If they are not those of the graph.
    pub fn join(&self, g: &mut Graph) {
        let order: Vec<NodeId> = g.order().into_iter().filter(|n| self.nodes.contains_key(n)).collect();
        let mut outside: HashMap<Value, Value> = HashMap::new();
        for &node in &order {
            for &i in &self.nodes[&node].operands {
                let v = g.operands(node)[i].expect("an operand with rows");
                if !self.nodes.contains_key(&v.node) {
                    let ty = joined(g.ty(v), self.lead).expect("extents");
                    let dims = ty.dims().expect("extents");
                    let other = *outside.entry(v).or_insert_with(|| reshape(g, v, &dims, "rows"));
                    g.set_operand(node, i, Some(other));
                }
            }
        }
        for &node in &order {
            for v in g.results(node) {
                let (ty, dims) = (joined(g.ty(v), self.lead).expect("extents"), g.ty(v).dims().expect("extents"));
                g.info_mut(v).ty = ty;
                if g.is_output(v) || g.users(v).iter().any(|u| !self.nodes.contains_key(&u.0)) {
                    let inside: Vec<(NodeId, usize)> = g.users(v).into_iter().filter(|u| self.nodes.contains_key(&u.0)).collect();
                    let apart = reshape(g, v, &dims, "apart");
                    g.replace_uses(v, apart);
                    inside.into_iter().for_each(|(user, i)| g.set_operand(user, i, Some(v)));
                }
            }
        }
    }
}

/// The elements of a value in row-major order under other extents.
fn reshape(g: &mut Graph, v: Value, dims: &[usize], suffix: &str) -> Value {
    let name = format!("{}.{suffix}", g.name_of(v));
    let list: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    let shape = g.add_constant(&format!("{name}.shape"), Tensor::from_slice(&[list.len()], &list));
    let node = g.add_node(make("Reshape", &[]), &[Some(v), Some(shape)], &[name], "").expect("as many elements");
    Value { node, result: 0 }
}

/// The type of a value whose rows are one axis, the last of those that they lay along.
fn joined(ty: &Type, lead: usize) -> Option<Type> {
    let dims = ty.dims()?;
    let (rows, inner) = dims.split_at_checked(lead)?;
    let ones = std::iter::repeat_n(1, lead.checked_sub(1)?);
    let dims: Vec<usize> = ones.chain([n_elements(rows)]).chain(inner.iter().copied()).collect();
    Some(Type::fixed(ty.dtype, &dims))
}

fn row_len(g: &Graph, v: Value, lead: usize) -> usize {
    g.ty(v).dims().and_then(|d| d.get(lead..).map(n_elements)).unwrap_or(0)
}

/// Whether rows of a node's result are stored with gaps.
fn has_gaps(g: &Graph, node: NodeId, lead: usize, varies: &Varies<'_>) -> bool {
    let v = Value { node, result: 0 };
    let dims = g.ty(v).dims().unwrap_or_default();
    (1..lead).any(|k| varies(v, k) && dims[..k].iter().any(|&d| d != 1))
}

/// The operands of a node that have rows, if it computes each row of its results from just that row of them, and from what has none.
fn row_operands(g: &Graph, node: NodeId, lead: usize, varies: &Varies<'_>) -> Option<Vec<usize>> {
    let op = g.node(node).operator()?;
    let facts = g.facts(node);
    let Axes { operands, results, .. } = op.axes(&facts);
    let first = *g.results(node).first()?;
    let labels: Vec<u32> = results.get(first.result as usize)?.get(..lead)?.iter().copied().collect::<Option<_>>()?;
    let extents = g.ty(first).dims()?.get(..lead)?.to_vec();
    let has_rows = |v: Value, of: &[Option<u32>]| {
        let once = |l: &u32| of.iter().filter(|x| **x == Some(*l)).count() == 1;
        let same = |(l, x): (&u32, &Option<u32>)| *x == Some(*l);
        let dims = g.ty(v).dims().unwrap_or_default();
        of.len() >= lead && labels.iter().zip(of).all(same) && labels.iter().all(once) && dims.get(..lead) == Some(&extents[..])
    };
    if lead == 0 || !g.results(node).into_iter().all(|v| results.get(v.result as usize).is_some_and(|of| has_rows(v, of))) {
        return None;
    }
    let mut rows = vec![];
    for (i, v) in g.operands(node).into_iter().enumerate() {
        let Some(v) = v else { continue };
        let of = operands.get(i).map_or(&[][..], |of| of);
        if of.iter().flatten().any(|l| labels.contains(l)) {
            if g.constant(v).is_some() || !has_rows(v, of) {
                return None;
            }
            rows.push(i);
        } else if (0..g.ty(v).rank()).any(|k| varies(v, k)) {
            return None;
        }
    }
    let again = |(i, fact): (usize, Option<Fact>)| match fact {
        Some(fact) if rows.contains(&i) => Some(Some(Fact { ty: joined(&fact.ty, lead)?, value: None })),
        other => Some(other),
    };
    let n_results = facts.n_results;
    let types = op.infer(&Operands { facts: facts.facts.into_iter().enumerate().map(again).collect::<Option<_>>()?, n_results }).ok()?;
    let same = |v: Value| types.get(v.result as usize) == joined(g.ty(v), lead).as_ref();
    (!rows.is_empty() && g.results(node).into_iter().all(same)).then_some(rows)
}

impl Member {
    fn of(g: &Graph, node: NodeId, lead: usize, varies: &Varies<'_>) -> Option<Member> {
        let operands = row_operands(g, node, lead, varies)?;
        let all = g.operands(node);
        let has_depth = operands.iter().filter_map(|&i| all[i]).any(|v| g.ty(v).rank() > lead);
        let most = all.into_iter().flatten().filter_map(|v| g.constant(v)).map(Tensor::len).max().unwrap_or(0);
        let is_product = has_depth && most >= WEIGHTS_OF_A_PRODUCT * row_len(g, Value { node, result: 0 }, lead).max(1);
        Some(Member { operands, weights: if is_product { most } else { 0 } })
    }
}

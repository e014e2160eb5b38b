//! Libraries for a range of sizes: the extents of a program become functions of parameters that a caller chooses for every run.
//!
//! The model is read for several sizes; what differs between those that were lowered, number by number, is fitted ([`super::fit`]).
//! Everything is stored as it is at the largest sizes, so that strides are constants; loops run as far as one run needs.
//! What strides cannot say for all sizes is copied: places are computed from the sizes of a run ([`places`], [`joined`], [`pieces`]).
//! Models whose structure or large tables change with the sizes are refused by name.

mod annotate;
mod bodies;
mod constants;
mod edges;
mod joined;
mod pieces;
mod places;
mod rows;
mod shapes;

use std::collections::{HashMap, HashSet};

use super::composed::Known;
use super::fit::{Fitter, Misfit, Wanted, is_usable, of_structure};
use super::refuse;
use crate::diagnostic::Diagnostic;
use crate::expr::{Item, Program};
use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::lower::{Lowered, lower_group, prune_operands, sums_of_nothing, visit_reads};
use crate::ops::{LowerError, View};
use crate::tensor::{Parameter, Size, Tensor, Type};
use annotate::annotate_program;
use constants::is_of_constants;
pub(super) use constants::{fold_alike, small_varying_constants, varied_constants, varying_constants};
pub(super) use edges::{check_edge, sizes_near};
use places::{table, with_values};
use shapes::{is_part, reshape_holds};

/// A model at several sizes, passes run on each.
#[derive(Clone, Debug)]
pub struct Probes {
    /// What a caller chooses.
    pub parameters: Vec<Parameter>,
    /// The sizes of each; the first are those that everything is stored for.
    pub sizes: Vec<Vec<i64>>,
    /// The graphs, without the first.
    pub graphs: Vec<Graph>,
    /// Whether inputs and outputs are stored as everything is, not dense in the sizes of a run: those of bodies.
    pub as_stored: bool,
    /// Whether windows have the padding that any size needs: [`Graph::any_padding`].
    pub any_padding: bool,
    /// Sizes around a body, which its own may be made of.
    pub known: Vec<Size>,
    /// Sizes that would help to find functions.
    pub(super) wanted: Wanted,
}

impl Probes {
    fn without_graphs(&self) -> Probes {
        let Probes { parameters, sizes, graphs: _, as_stored, any_padding, known, wanted } = self;
        let (parameters, sizes, known, wanted) = (parameters.clone(), sizes.clone(), known.clone(), wanted.clone());
        Probes { parameters, sizes, graphs: vec![], as_stored: *as_stored, any_padding: *any_padding, known, wanted }
    }
}

/// Other sizes to read a model for, where its parameters have these ranges, `dense` of them side by side; the first are those that it
/// is stored for. None is a power of two, which would let divisions become products, nor below 3, where axes may vanish; but where a model
/// cannot be read `beyond` its ranges, the first are the greatest sizes themselves.
pub(super) fn probe_sizes(parameters: &[Parameter], dense: i64, beyond: bool) -> Vec<Vec<i64>> {
    let usable = is_usable;
    // The first usable value from `n` on; negative steps go down.
    let next = |p: &Parameter, n: i64, step: i64| {
        let n = p.low + (n - p.low).div_euclid(p.step) * p.step;
        (0..).map(|k| n + k * step).find(|&n| usable(n) || n < 3 && step < 0).expect("an unbounded range")
    };
    let base: Vec<i64> = parameters.iter().map(|p| if beyond || p.high < 3 { next(p, p.high, p.step) } else { p.high }).collect();
    let mut list = vec![base.clone()];
    let mut near: Vec<Vec<i64>> = vec![];
    for (i, p) in parameters.iter().enumerate() {
        let below = (1..=dense).map(|k| base[i] - k * p.step);
        let far = [next(p, (p.low + base[i]) / 2, p.step), next(p, (3 * p.low + base[i]) / 4, p.step)];
        let mut values: Vec<i64> = below.chain(far).filter(|&n| p.low <= n && n < base[i] && usable(n)).collect();
        values.dedup();
        // Ranges too short for two probes get some above.
        let above = (1..).map(|k| base[i] + k * p.step).filter(|&n| usable(n));
        values.extend(above.take(2usize.saturating_sub(values.len())));
        for &n in &values {
            let mut at = base.clone();
            at[i] = n;
            if !list.contains(&at) {
                list.push(at);
            }
        }
        near.push(values);
    }
    // What depends on two parameters: one probe finds a product of them, the other proves it.
    for i in 0..parameters.len() {
        for j in i + 1..parameters.len() {
            for (a, b) in [(0, 1), (1, near[j].len() - 1)] {
                let mut at = base.clone();
                (at[i], at[j]) = (near[i][a], near[j][b]);
                if !list.contains(&at) {
                    list.push(at);
                }
            }
        }
    }
    list
}

/// Sizes that are not probed, to be looked at one by one: the least of each parameter, where axes vanish or broadcast, the one after
/// it, all of these together, and the greatest.
pub(super) fn edge_sizes(parameters: &[Parameter], probed: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let value = |p: &Parameter, k: i64| (p.low + k * p.step).min(p.high);
    let mut list: Vec<Vec<i64>> = vec![];
    for k in [0, 1] {
        for i in 0..parameters.len() {
            let mut at = probed[0].clone();
            at[i] = value(&parameters[i], k);
            list.push(at);
        }
        list.push(parameters.iter().map(|p| value(p, k)).collect());
    }
    list.push(parameters.iter().map(|p| p.high).collect());
    let mut unique: Vec<Vec<i64>> = vec![];
    for at in list {
        if !unique.contains(&at) && !probed.contains(&at) {
            unique.push(at);
        }
    }
    unique
}

/// Annotates what is lowered of the first graph with what differs in the others.
pub(super) struct Sizer<'p> {
    probes: &'p Probes,
    fitter: Fitter,
    /// By probe: the node that stands for one of the first graph.
    nodes: Vec<HashMap<NodeId, NodeId>>,
    values: Extents,
}

/// A way to lower nodes.
type Lower = fn(&Graph, &[NodeId]) -> Result<Lowered, (NodeId, LowerError)>;

/// Values of which no function of the sizes was found, with why.
type Misfits = Vec<(Value, Misfit)>;

/// Extents of every value.
type Extents = HashMap<Value, Vec<Option<Size>>>;

impl<'p> Sizer<'p> {
    /// Finds the nodes of the other graphs that stand for those of `graph`.
    pub(super) fn new(graph: &Graph, probes: &'p Probes) -> Result<Self, Vec<Diagnostic>> {
        let (sizer, misfits) = Self::partial(graph, probes)?;
        let problem = |(v, misfit): &(Value, Misfit)| misfit.diagnostic(graph, &[v.node], "an extent of its result is ");
        if misfits.is_empty() { Ok(sizer) } else { Err(misfits.iter().map(problem).collect()) }
    }

    /// As `new`, with the values whose extents have no function.
    pub(super) fn partial(graph: &Graph, probes: &'p Probes) -> Result<(Self, Misfits), Vec<Diagnostic>> {
        let mut nodes = vec![];
        for (other, at) in probes.graphs.iter().zip(&probes.sizes[1..]) {
            let sizes = Parameter::told(&probes.parameters, at);
            let found = correspondence(graph, other, false).map_err(|(n, what)| {
                let what = format!("its graph has another structure with {sizes}: {what}; `--dynamic` cannot give it one library");
                vec![of_structure(refuse(graph, &[n], &what))]
            });
            nodes.push(found?);
        }
        let (parameters, sizes, wanted) = (probes.parameters.clone(), probes.sizes.clone(), probes.wanted.clone());
        let mut fitter = Fitter { parameters, probes: sizes, known: Known::default(), wanted };
        probes.known.iter().for_each(|size| fitter.learn(size));
        let mut sizer = Sizer { probes, fitter, nodes, values: HashMap::new() };
        let (values, misfits) = sizer.extents_of_values(graph);
        sizer.values = values;
        sizer.check_outputs(graph)?;
        for node in graph.control_nodes() {
            sizer.check_control(graph, node).map_err(|misfit| vec![misfit.diagnostic(graph, &[node], "")])?;
        }
        Ok((sizer, misfits))
    }

    fn extents_of_values(&mut self, graph: &Graph) -> (Extents, Misfits) {
        let (mut values, mut misfits) = (HashMap::new(), vec![]);
        let probes = self.probes;
        let mut fit = |s: &mut Self, v: Value, others: Vec<&Type>| match s.bounds_of(graph.ty(v), &others) {
            Ok(bounds) => {
                bounds.iter().flatten().for_each(|size| s.fitter.learn(size));
                values.insert(v, bounds);
            }
            Err(misfit) => misfits.push((v, misfit)),
        };
        for n in graph.order() {
            let everywhere = self.nodes.iter().all(|map| map.contains_key(&n));
            for v in graph.results(n).into_iter().filter(|_| everywhere) {
                let others = probes.graphs.iter().zip(&self.nodes).map(|(g, map)| g.ty(there(map, v))).collect();
                fit(self, v, others);
            }
        }
        // Constants have none of their own, but where they are outputs.
        for (j, &v) in graph.outputs().iter().enumerate().filter(|(_, v)| graph.constant(**v).is_some()) {
            fit(self, v, probes.graphs.iter().map(|g| g.ty(g.outputs()[j])).collect());
        }
        (values, misfits)
    }

    fn bounds_of(&self, ty: &Type, others: &[&Type]) -> Result<Vec<Option<Size>>, Misfit> {
        let all: Vec<Vec<usize>> = [ty].iter().chain(others).map(|t| t.dims().unwrap_or_default()).collect();
        if all.iter().any(|dims| dims.len() != all[0].len()) {
            return Err(Misfit::varies("of another rank for other sizes"));
        }
        (0..all[0].len()).map(|k| self.fitter.fit_extent(&all.iter().map(|dims| dims[k] as i64).collect::<Vec<_>>())).collect()
    }

    /// Outputs that are constants must be parts of what is stored.
    fn check_outputs(&self, graph: &Graph) -> Result<(), Vec<Diagnostic>> {
        for (j, &v) in graph.outputs().iter().enumerate() {
            let Some(whole) = graph.constant(v) else { continue };
            let part = |g: &Graph| g.constant(g.outputs()[j]).is_some_and(|t| is_part(t, whole));
            if !self.probes.graphs.iter().all(part) {
                let what =
                    format!("the values of output `{}` depend on the sizes alone; `--dynamic` cannot vary it", graph.output_names()[j]);
                return Err(vec![refuse(graph, &[v.node], &what)]);
            }
        }
        Ok(())
    }

    /// Sizes that cannot be probed and at which an extent takes another course: what was found between those beside them may be another
    /// function there. What does so near them too, such as a half, was seen to.
    pub(super) fn bends(&self) -> Vec<Vec<i64>> {
        let extents: Vec<&Size> = self.values.values().flatten().flatten().collect();
        let mut list = vec![];
        for (i, p) in self.probes.parameters.iter().enumerate() {
            let with = |n: i64| {
                let mut at = self.probes.sizes[0].clone();
                at[i] = n;
                at
            };
            let bends_at = |s: &Size, n: i64| {
                let [before, here, after] = [n - p.step, n, n + p.step].map(|n| s.value(&with(n)));
                after - here != here - before
            };
            let near = |s: &Size, n: i64| (2..=8).any(|k| bends_at(s, n - k * p.step) || bends_at(s, n + k * p.step));
            let bends = |n: i64| extents.iter().any(|s| bends_at(s, n) && !near(s, n));
            let inside = (p.low + p.step..p.high).step_by(usize::try_from(p.step).unwrap_or(1));
            list.extend(inside.filter(|&n| !is_usable(n) && bends(n)).map(with).filter(|at| !self.probes.sizes.contains(at)));
        }
        list
    }

    /// What a caller chooses.
    pub(super) fn parameters(&self) -> Vec<Parameter> {
        self.probes.parameters.clone()
    }

    /// Whether these are sizes of the body of a branch or loop, whose inputs and outputs are stored as all else.
    pub(super) fn is_body(&self) -> bool {
        self.probes.as_stored
    }

    /// The extents of a value that only a run knows.
    pub(super) fn bounds(&self, v: Value) -> &[Option<Size>] {
        self.values.get(&v).map_or(&[], |b| b)
    }

    /// The extents of a value in one run.
    pub(super) fn extents(&self, graph: &Graph, v: Value) -> Vec<Size> {
        let dims = graph.ty(v).dims().unwrap_or_default();
        let bounds = self.bounds(v);
        dims.iter().enumerate().map(|(k, &d)| bounds.get(k).cloned().flatten().unwrap_or(Size::Constant(d as i64))).collect()
    }

    /// Whether what the caller has of a value, dense, is at the same places as what is stored: only the outermost axis varies.
    pub(super) fn is_prefix(&self, graph: &Graph, v: Value) -> bool {
        if self.probes.as_stored {
            return true;
        }
        let dims = graph.ty(v).dims().unwrap_or_default();
        let first = dims.iter().position(|&d| d != 1).unwrap_or(0);
        self.bounds(v).iter().enumerate().all(|(k, b)| b.is_none() || k <= first)
    }

    /// Gives a lowered group its sizes.
    pub(super) fn annotate(&self, graph: &Graph, members: &[NodeId], lowered: &mut Lowered) -> Result<(), Diagnostic> {
        self.annotate_as(lower_group, graph, members, lowered).map_err(|misfit| misfit.diagnostic(graph, members, ""))?;
        sums_of_nothing(&self.probes.parameters, &mut lowered.program.items);
        Ok(())
    }

    /// As `annotate`, of what was lowered in this way.
    fn annotate_as(&self, lower: Lower, graph: &Graph, members: &[NodeId], lowered: &mut Lowered) -> Result<(), Misfit> {
        let mut others = vec![];
        for (other, map) in self.probes.graphs.iter().zip(&self.nodes) {
            let theirs: Option<Vec<NodeId>> = members.iter().map(|n| map.get(n).copied()).collect();
            let theirs = theirs.ok_or_else(|| Misfit::varies("it is not there for other sizes"))?;
            others.push(lower(other, &theirs).map_err(|(_, e)| Misfit::Varies(e.to_string()))?);
        }
        if others.iter().any(|o| o.operands.len() != lowered.operands.len()) {
            return Err(Misfit::varies("what it reads depends on the sizes"));
        }
        let mut tables = HashMap::new();
        let mut read = HashSet::new();
        visit_reads(&lowered.program.items, &mut |t| {
            read.insert(t);
        });
        for (k, (&t, &v)) in lowered.program.operands.iter().zip(&lowered.operands).enumerate() {
            let name = &lowered.program.tensor(t).name;
            let constants: Option<Vec<&Tensor>> = others.iter().zip(&self.probes.graphs).map(|(o, g)| g.constant(o.operands[k])).collect();
            // Shapes and the like were read when it was lowered.
            if constants.is_some() && graph.constant(v).is_some() && !read.contains(&t) {
                continue;
            }
            if let (Some(mine), Some(theirs)) = (graph.constant(v), constants)
                && !theirs.iter().all(|part| is_part(part, mine))
                && let Ok(elements) = table(&self.fitter, mine, &theirs)
            {
                tables.insert(t, elements);
                continue;
            }
            for ((o, g), map) in others.iter().zip(&self.probes.graphs).zip(&self.nodes) {
                let matches = match (graph.constant(v), g.constant(o.operands[k])) {
                    (Some(whole), Some(part)) if !is_part(part, whole) => {
                        return Err(Misfit::Varies(format!("the values of constant `{name}` depend on the sizes")));
                    }
                    (Some(_), Some(_)) => true,
                    (None, None) => map.contains_key(&v.node) && there(map, v) == o.operands[k],
                    _ => false,
                };
                if !matches {
                    return Err(Misfit::Varies(format!("whether it reads `{name}` depends on the sizes")));
                }
            }
        }
        let programs: Vec<&Program> = others.iter().map(|o| &o.program).collect();
        annotate_program(&self.fitter, &mut lowered.program, &programs)?;
        with_values(&mut lowered.program, &tables);
        prune_operands(&mut lowered.program, &mut lowered.operands);
        Ok(())
    }

    /// Gives the copy of a value its sizes.
    pub(super) fn annotate_copy(&self, lowered: &mut Lowered) {
        bound_copy(&mut lowered.program, self.bounds(lowered.operands[0]));
    }

    /// Whether a view that no kernel computes is the same at all sizes, so that it is one of what is stored; else it needs a copy.
    ///
    /// # Errors
    /// Why it cannot be copied either.
    pub(super) fn is_view(&self, graph: &Graph, node: NodeId) -> Result<bool, Diagnostic> {
        let Some(op) = graph.node(node).operator() else { return Ok(true) };
        let Some(views) = op.view(&graph.facts(node)) else { return Ok(true) };
        let Some(Some(source)) = graph.operands(node).first().copied() else { return Ok(true) };
        let mut same = true;
        for (other, map) in self.probes.graphs.iter().zip(&self.nodes) {
            let what = "it is not there for other sizes";
            let twin = *map.get(&node).ok_or_else(|| Misfit::varies(what).diagnostic(graph, &[node], ""))?;
            let theirs = other.node(twin).operator().and_then(|op| op.view(&other.facts(twin)));
            same &= theirs.is_some_and(|t| same_views(&t, &views));
            if let Some(whole) = graph.constant(source) {
                same &= other.operands(twin)[0].and_then(|v| other.constant(v)).is_some_and(|part| is_part(part, whole));
            }
        }
        for v in graph.results(node) {
            if matches!(views[v.result as usize], View::Reshape) {
                let dims = |v: Value| (graph.ty(v).dims().unwrap_or_default(), self.bounds(v));
                let (from, to) = (dims(source), dims(v));
                same &= reshape_holds((&from.0, from.1), (&to.0, to.1));
            }
        }
        if !same {
            let mut copy = lower_group(graph, &[node]).map_err(|(n, e)| refuse(graph, &[n], &e.to_string()))?;
            self.annotate(graph, &[node], &mut copy)?;
        }
        Ok(same)
    }
}

/// Gives a program that copies one value these extents.
pub(super) fn bound_copy(program: &mut Program, bounds: &[Option<Size>]) {
    program.tensors.iter_mut().for_each(|t| t.bounds = bounds.to_vec());
    for item in &mut program.items {
        if let Item::Stage(stage) = item {
            stage.bounds = bounds.to_vec();
        }
    }
}

/// The value that stands for `v`.
fn there(map: &HashMap<NodeId, NodeId>, v: Value) -> Value {
    Value { node: map[&v.node], result: v.result }
}

fn same_views(a: &[View], b: &[View]) -> bool {
    let same = |(a, b): (&View, &View)| match (a, b) {
        (View::Affine(a), View::Affine(b)) => a == b,
        (View::Reshape, View::Reshape) => true,
        _ => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// The nodes of another graph that stand for those of the first: inputs, and what outputs depend on, but no constants. An error names
/// a node that none stands for, and says why. Where results are small enough to be folded in the other graph only, there is no node: `any_folding`
/// allows that.
fn correspondence(graph: &Graph, other: &Graph, any_folding: bool) -> Result<HashMap<NodeId, NodeId>, (NodeId, String)> {
    let mut map: HashMap<NodeId, NodeId> = HashMap::new();
    let ports = |g: &Graph| g.inputs().iter().chain(g.outputs()).copied().collect::<Vec<_>>();
    let (mine, theirs) = (ports(graph), ports(other));
    let mut left: Vec<(Value, Value)> = mine.iter().copied().zip(theirs.iter().copied()).collect();
    if mine.len() != theirs.len() || graph.inputs().len() != other.inputs().len() {
        let last = mine.last().map_or_else(|| graph.order()[0], |v| v.node);
        return Err((last, "it has other inputs or outputs".to_owned()));
    }
    while let Some((a, b)) = left.pop() {
        if any_folding && other.constant(b).is_some() && is_of_constants(graph, a) {
            continue;
        }
        let (mine, theirs) = (kind(graph, a.node), kind(other, b.node));
        if a.result != b.result || mine != theirs {
            return Err((a.node, format!("`{theirs}` is there instead")));
        }
        if graph.constant(a).is_some() {
            continue;
        }
        match map.insert(a.node, b.node) {
            Some(known) if known == b.node => continue,
            Some(_) => return Err((a.node, "what is one value here is two there".to_owned())),
            None => {}
        }
        let (x, y) = (graph.operands(a.node), other.operands(b.node));
        if x.len() != y.len() || x.iter().zip(&y).any(|(x, y)| x.is_some() != y.is_some()) {
            let number = |list: &[Option<Value>]| list.iter().flatten().count();
            return Err((a.node, format!("it has {} operands there, not {}, as where a sequence is longer", number(&y), number(&x))));
        }
        left.extend(x.into_iter().flatten().zip(y.into_iter().flatten()));
    }
    Ok(map)
}

fn kind(graph: &Graph, n: NodeId) -> String {
    match &graph.node(n).kind {
        NodeKind::Input => "input".to_owned(),
        NodeKind::Constant(_) => "constant".to_owned(),
        NodeKind::Operator(op) => op.schema().full_name().into_owned(),
        NodeKind::Control(control) => control.name().to_owned(),
    }
}

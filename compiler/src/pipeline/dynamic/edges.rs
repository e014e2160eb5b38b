//! Sizes that no probe has, because graphs take other forms there: at extent 1 axes vanish, broadcast and merge. There the model is
//! read once more, and what it means is compared with what was found for all sizes, operator by operator, before any pass that could
//! have changed either: the same operators, extents, attributes and constants, and the same expressions, or where these are written in
//! other ways the same values for arbitrary operands.

use std::collections::{HashMap, HashSet};

use super::super::fit::{Misfit, is_usable, of_size};
use super::annotate::map_affine_forms;
use super::bodies::{same_form, trips_of};
use super::constants::is_of_constants;
use super::shapes::is_part;
use super::{Sizer, correspondence};
use crate::diagnostic::Diagnostic;
use crate::expr::{Affine, BinaryOp, Body, Const, Expr, Item, Ix, LiveRows, Node, Program, Stage, TensorId, Var, eval, simplify};
use crate::graph::{Graph, NodeId, Value};
use crate::lower::{Lowered, lower_plainly, prune_operands, visit_writes};
use crate::ops::{EvalError, Operands, View};
use crate::tensor::{DType, Parameter, Size, Tensor};

/// Compares `graph` as it was read for the sizes `at` with what `sizer` found for all sizes of `all`; both before all passes but the
/// folding of constants.
pub(in crate::pipeline) fn check_edge(all: &Graph, sizer: &Sizer<'_>, graph: &Graph, at: &[i64]) -> Vec<Diagnostic> {
    let sizes = Parameter::told(&sizer.probes.parameters, at);
    let problem = |n: NodeId, what: &str| Misfit::Varies(format!("with {sizes} {what}")).diagnostic(all, &[n], "");
    let map = match correspondence(all, graph, true) {
        Ok(map) => map,
        Err((n, what)) => return vec![problem(n, &format!("its graph has another structure: {what}"))],
    };
    let edge = Edge { all, sizer, graph, at, map };
    // An extent that is another here is another function than what was found.
    let compared = |n: NodeId| match edge.compare(n) {
        Ok(()) => None,
        Err(what) if edge.has_extents(n) => Some(problem(n, &what)),
        Err(what) => Some(of_size(problem(n, &what))),
    };
    let inner = |n: NodeId| edge.bodies(n).unwrap_or_else(|what| vec![problem(n, &what)]);
    let outputs = all.outputs().iter().zip(graph.outputs()).filter_map(|(&v, &w)| match (all.constant(v), graph.constant(w)) {
        (Some(whole), Some(part)) if is_part(part, whole) && edge.extents(v).is_some_and(|e| e == part.dims()) => None,
        (None, None) => None,
        _ => Some(problem(v.node, "an output has other values")),
    });
    let there = |n: &NodeId| edge.map.contains_key(n);
    let inside = all.control_nodes().into_iter().filter(there).flat_map(inner);
    all.order().into_iter().filter(there).filter_map(compared).chain(inside).chain(outputs).collect()
}

/// Sizes to read a model for where an extent is another function near the least sizes than far from them.
pub(in crate::pipeline) fn sizes_near(parameters: &[Parameter], base: &[i64]) -> Vec<Vec<i64>> {
    let mut list = vec![];
    for (i, p) in parameters.iter().enumerate() {
        let values = |from: i64| (from..=p.high).step_by(usize::try_from(p.step).unwrap_or(1)).filter(|&n| is_usable(n));
        let parts = [0, 64, 32, 16, 8].map(|part| if part == 0 { p.low } else { p.low + (p.high - p.low) / part / p.step * p.step });
        for n in parts.into_iter().flat_map(|from| values(from).take(2)) {
            let mut at = base.to_vec();
            at[i] = n;
            list.push(at);
        }
    }
    list
}

struct Edge<'a> {
    all: &'a Graph,
    sizer: &'a Sizer<'a>,
    graph: &'a Graph,
    at: &'a [i64],
    map: HashMap<NodeId, NodeId>,
}

impl Edge<'_> {
    /// The extents that were found for a value; `None` where they have no function, and no value of the compiled program has them.
    fn extents(&self, v: Value) -> Option<Vec<usize>> {
        self.sizer.values.get(&v)?;
        Some(self.sizer.extents(self.all, v).iter().map(|s| usize::try_from(s.value(self.at)).unwrap_or(usize::MAX)).collect())
    }

    /// Whether the results of a node have the extents that were found for them.
    fn has_extents(&self, n: NodeId) -> bool {
        let twin = self.map[&n];
        let dims = |v: Value| self.graph.ty(Value { node: twin, result: v.result }).dims().unwrap_or_default();
        self.all.results(n).into_iter().all(|v| self.extents(v).is_none_or(|found| found == dims(v)))
    }

    /// What differs at a node.
    fn compare(&self, n: NodeId) -> Result<(), String> {
        let twin = self.map[&n];
        for v in self.all.results(n) {
            let dims = self.graph.ty(Value { node: twin, result: v.result }).dims().unwrap_or_default();
            if let Some(found) = self.extents(v)
                && found != dims
            {
                return Err(format!("its result has extents {dims:?}, not {found:?}"));
            }
        }
        let (Some(op), Some(other)) = (self.all.node(n).operator(), self.graph.node(twin).operator()) else { return Ok(()) };
        let mut alike = op.attributes() == other.attributes();
        for (v, w) in self.all.operands(n).into_iter().zip(self.graph.operands(twin)) {
            let (Some(v), Some(w)) = (v, w) else { continue };
            match (self.all.constant(v), self.graph.constant(w)) {
                (Some(whole), Some(part)) => alike &= is_part(part, whole),
                (None, None) => {}
                (None, Some(_)) if is_of_constants(self.all, v) => {}
                _ => return Err("it reads a constant, or none".to_owned()),
            }
        }
        if let Some(views) = op.view(&self.all.facts(n)) {
            let theirs = other.view(&self.graph.facts(twin)).unwrap_or_default();
            let extents = |v: Value| self.graph.ty(Value { node: twin, result: v.result }).dims().unwrap_or_default();
            let same = self.all.results(n).iter().all(|&v| match (&views[v.result as usize], theirs.get(v.result as usize)) {
                // Extents alone decide it.
                (View::Reshape, Some(View::Reshape)) => true,
                (View::Affine(a), Some(View::Affine(b))) => {
                    let dims = extents(v);
                    let still = |a: &crate::tensor::Affine<usize>| {
                        a.substitute(|x| match dims[x] {
                            1 => crate::tensor::Affine::default(),
                            _ => crate::tensor::Affine::var(x),
                        })
                    };
                    a.iter().map(still).eq(b.iter().map(still))
                }
                _ => false,
            });
            if same || alike {
                return Ok(());
            }
        }
        // What reads nothing must be known to do so: attributes do not say whether a place of an empty axis is read.
        let empty = self.is_empty(twin);
        let alike = alike && !empty;
        let mut mine = match lower_plainly(self.all, &[n]) {
            Ok(mine) => mine,
            Err(_) if empty => return Err("it may compute something else".to_owned()),
            Err(_) => return Ok(()),
        };
        let theirs = lower_plainly(self.graph, &[twin]).map_err(|(_, e)| e.to_string())?;
        match self.sizer.annotate_as(lower_plainly, self.all, &[n], &mut mine) {
            Ok(()) => match self.same(twin, &mine, &theirs) {
                Some(true) => Ok(()),
                Some(false) if empty => Err("an axis that it may read has no elements".to_owned()),
                Some(false) => Err("it computes something else".to_owned()),
                None if alike => Ok(()),
                None => Err("it may compute something else".to_owned()),
            },
            // Not by itself, but in its group: its attributes and operands say that it is the same.
            Err(_) if alike => Ok(()),
            Err(_) => Err("its attributes or constants are others".to_owned()),
        }
    }

    /// Whether an operand has no elements at this size.
    fn is_empty(&self, twin: NodeId) -> bool {
        let empty = |v: Value| self.graph.ty(v).dims().is_some_and(|dims| dims.contains(&0));
        self.graph.operands(twin).into_iter().flatten().any(empty)
    }

    /// What differs at a branch or loop and inside.
    fn bodies(&self, n: NodeId) -> Result<Vec<Diagnostic>, String> {
        let twin = self.map[&n];
        same_form((self.all, n), (self.graph, twin))?;
        let trips = self.sizer.trips(self.all, n).map_err(|_| "its number of iterations is no function of the sizes")?;
        let trips = trips.map(|s| s.value(self.at)).or_else(|| trips_of(self.all, n).map(|n| n as i64));
        if trips != trips_of(self.graph, twin).map(|n| n as i64) {
            return Err("it runs more or less often".to_owned());
        }
        let (Some(mine), Some(theirs)) = (self.all.node(n).control(), self.graph.node(twin).control()) else { return Ok(vec![]) };
        let mut found = vec![];
        for (k, (body, other)) in mine.bodies().into_iter().zip(theirs.bodies()).enumerate() {
            let probes = self.sizer.body(n, k);
            match Sizer::partial(body, &probes) {
                Ok((sizer, _)) => found.extend(check_edge(body, &sizer, other, self.at)),
                Err(problems) => found.extend(problems),
            }
        }
        Ok(found)
    }

    /// Whether two programs compute the same; `None` if that is not known.
    fn same(&self, twin: NodeId, mine: &Lowered, theirs: &Lowered) -> Option<bool> {
        let (mut a, mut b) = (at_sizes(&mine.program, self.at), theirs.program.clone());
        [&mut a, &mut b].into_iter().for_each(normalize);
        // Either may have operands that it does not read: what padding is where there is none, constants of one element.
        let read = |program: &Program, lowered: &Lowered| {
            let mut read = program.clone();
            prune_operands(&mut read, &mut lowered.operands.clone());
            read
        };
        let (x, y) = (read(&a, mine), read(&b, theirs));
        let Some(places) = self.operands_of(mine, theirs, &y) else { return Some(false) };
        let dims = |p: &Program| p.tensors.iter().map(|t| (t.dtype, t.dims.clone())).collect::<Vec<_>>();
        let alike =
            dims(&x) == dims(&y) && (&x.operands, &x.results, &x.constants, &x.items) == (&y.operands, &y.results, &y.constants, &y.items);
        if alike { Some(true) } else { self.same_values(twin, &a, &b, &theirs.operands, &places) }
    }

    /// For each operand of the first the one of the other, whose program reads only some of its own, that stands for it. Those that it does
    /// not read, and small constants that differ, are none of the first.
    fn operands_of(&self, mine: &Lowered, theirs: &Lowered, read: &Program) -> Option<Vec<usize>> {
        let same = |v: Value, w: Value| match (self.all.constant(v), self.graph.constant(w)) {
            (Some(whole), Some(part)) => is_part(part, whole),
            (None, Some(_)) => is_of_constants(self.all, v),
            (None, None) => self.map.get(&v.node) == Some(&w.node) && v.result == w.result,
            _ => false,
        };
        let fits = |i: usize, j: usize| same(mine.operands[i], theirs.operands[j]);
        let spare = |j: usize| self.graph.constant(theirs.operands[j]).is_some() || !read.operands.contains(&theirs.program.operands[j]);
        let mut places = vec![];
        in_order(mine.operands.len(), theirs.operands.len(), &fits, &spare, &mut places).then_some(places)
    }

    /// Whether two programs give the same values for arbitrary operands; constants have their own values. The operands of the first are
    /// those of the second at `places`. `None` if that would take long.
    fn same_values(&self, twin: NodeId, a: &Program, b: &Program, operands: &[Value], places: &[usize]) -> Option<bool> {
        if work(&a.items).max(work(&b.items)) > MAX_WORK {
            return None;
        }
        let values = operands;
        let with = |integers: Integers| {
            let operand = |(i, &v): (usize, &Value)| match self.graph.constant(v) {
                Some(tensor) => tensor.clone(),
                None => {
                    let dims = self.graph.ty(v).dims().unwrap_or_default();
                    let dtype = self.graph.ty(v).dtype;
                    let values = (0..dims.iter().product()).map(|k| ((k * 7919 + i * 31) % 101) as f64);
                    let values: Vec<f64> = values.map(|x| if dtype.is_float() { x / 50.0 - 1.0 } else { integers.of(x, dtype) }).collect();
                    Tensor::from_f64s(dtype, &dims, &values)
                }
            };
            operands.iter().enumerate().map(operand).collect::<Vec<Tensor>>()
        };
        let mut known = None;
        for integers in [Integers::Few, Integers::None, Integers::Many] {
            let operands = with(integers);
            let chosen: Vec<Tensor> = places.iter().map(|&j| operands[j].clone()).collect();
            match (eval(a, &chosen), eval(b, &operands)) {
                (Ok(x), Ok(y)) if x.iter().zip(&y).all(|(x, y)| same_elements(x, y)) => known = Some(true),
                // What stops one, such as an index that is out of range, stops the other.
                (Err(_), Err(_)) => {}
                // One element needs no index, and is found by a wrong one.
                (Err(_), Ok(_)) if self.is_out_of_range(twin, values, &operands) => {}
                _ => return Some(false),
            }
        }
        known
    }

    /// Whether an operator has no result because these operands hold an index that is out of range.
    fn is_out_of_range(&self, twin: NodeId, values: &[Value], operands: &[Tensor]) -> bool {
        let tensor = |v: Value| {
            let at = values.iter().position(|w| *w == v);
            at.map(|at| operands[at].clone()).or_else(|| self.graph.constant(v).cloned())
        };
        let all = self.graph.operands(twin).into_iter().map(|v| v.map(|v| tensor(v).ok_or(())).transpose());
        let (Ok(all), Some(op)) = (all.collect::<Result<Vec<_>, ()>>(), self.graph.node(twin).operator()) else { return false };
        matches!(op.eval(&Operands::of_values(all, self.graph.results(twin).len())), Err(EvalError::IndexOutOfRange { .. }))
    }
}

/// Which integers operands hold: often they are places or extents, of which some stop a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Integers {
    /// Zero and one.
    Few,
    /// Zero.
    None,
    /// Some of either sign, where their type has them.
    Many,
}

impl Integers {
    /// One, of a number from 0 to 100.
    fn of(self, x: f64, dtype: DType) -> f64 {
        match self {
            Integers::Few => x.rem_euclid(2.0),
            Integers::None => 0.0,
            Integers::Many if dtype == DType::Bool => 1.0 - x.rem_euclid(2.0),
            Integers::Many if matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64) => x - 50.0,
            Integers::Many => x,
        }
    }
}

/// Whether two tensors hold the same, but for roundings.
fn same_elements(x: &Tensor, y: &Tensor) -> bool {
    let (x, y) = (x.to_f64s(), y.to_f64s());
    let most = y.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    x.iter().zip(&y).all(|(x, y)| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-5 * most)
}

/// Finds a place among `m` for each of `n` in the same order, each where it fits, so that all others are spare; `places` has the first.
fn in_order(n: usize, m: usize, fits: &dyn Fn(usize, usize) -> bool, spare: &dyn Fn(usize) -> bool, places: &mut Vec<usize>) -> bool {
    let (i, from) = (places.len(), places.last().map_or(0, |p| p + 1));
    if i == n {
        return (from..m).all(spare);
    }
    for j in from..m {
        if fits(i, j) {
            places.push(j);
            if in_order(n, m, fits, spare, places) {
                return true;
            }
            places.truncate(i);
        }
        if !spare(j) {
            return false;
        }
    }
    false
}

/// Programs with more work are not evaluated.
const MAX_WORK: usize = 1 << 22;

/// Elements that are computed and summed.
fn work(items: &[Item]) -> usize {
    let of = |item: &Item| match item {
        Item::Stage(s) => s.axes.iter().chain(&s.reduce).product(),
        Item::Repeat { extent, items, .. } => extent * work(items),
        Item::Reshape { .. } => 0,
    };
    items.iter().map(of).sum()
}

/// A program as it is for these values of the parameters.
fn at_sizes(program: &Program, at: &[i64]) -> Program {
    let mut p = program.clone();
    let extent = |size: &Option<Size>, all: usize| size.as_ref().map_or(all, |s| usize::try_from(s.value(at)).unwrap_or(0));
    for t in &mut p.tensors {
        t.dims = t.dims.iter().enumerate().map(|(k, &d)| extent(&t.bounds.get(k).cloned().flatten(), d)).collect();
        t.bounds.clear();
    }
    for (t, value) in &mut p.constants {
        *value = value.first(&p.tensors[t.0 as usize].dims);
    }
    fn items(list: &mut [Item], at: &[i64], extent: &dyn Fn(&Option<Size>, usize) -> usize) {
        for item in list {
            match item {
                Item::Stage(Stage { axes, reduce, bounds, body, .. }) => {
                    axes.iter_mut().chain(reduce).enumerate().for_each(|(k, n)| *n = extent(&bounds.get(k).cloned().flatten(), *n));
                    bounds.clear();
                    *body = body.map(|e| {
                        e.rewrite(&mut |e| match e.node() {
                            Node::Size(s) => Expr::int(DType::I64, s.value(at)),
                            _ => e,
                        })
                    });
                }
                Item::Repeat { var, extent: n, live, items: inner } => {
                    if let Some(LiveRows { from, to, .. }) = live.take() {
                        let (from, to) = (from.value(at), to.value(at));
                        let var = Var::Loop(*var);
                        map_affine_forms(inner, &|a| a.offset(from * a.coefficient(var)));
                        *n = usize::try_from(to - from).unwrap_or(0);
                    }
                    items(inner, at, extent);
                }
                Item::Reshape { .. } => {}
            }
        }
    }
    items(&mut p.items, at, &extent);
    drop_loops_without_iterations(&mut p.items);
    write_what_is_empty(&mut p);
    p
}

/// What has no elements may have been written by loops without iterations.
fn write_what_is_empty(p: &mut Program) {
    let mut written: HashSet<TensorId> = p.operands.iter().copied().chain(p.constants.iter().map(|c| c.0)).collect();
    visit_writes(&p.items, &mut |t| {
        written.insert(t);
    });
    let empty = (0..p.tensors.len() as u32).map(TensorId).filter(|&t| p.tensor(t).dims.contains(&0) && !written.contains(&t));
    let stage = |t: TensorId| {
        let decl = p.tensor(t);
        let write = (0..decl.dims.len()).map(|k| Affine::var(Var::Axis(k as u32))).collect();
        let body = Body::Map(Expr::int(decl.dtype, 0));
        Item::Stage(Stage { out: t, write, axes: decl.dims.clone(), reduce: vec![], bounds: vec![], body })
    };
    let stages: Vec<Item> = empty.map(stage).collect();
    p.items.splice(..0, stages);
}

/// What they would write may have no place.
fn drop_loops_without_iterations(items: &mut Vec<Item>) {
    items.retain_mut(|item| match item {
        Item::Repeat { extent, items, .. } => {
            drop_loops_without_iterations(items);
            *extent > 0
        }
        _ => true,
    });
}

/// The affine form that an index is.
fn form(e: &Expr) -> Option<Affine> {
    match e.node() {
        Node::Index(a) => Some(a.clone()),
        Node::Const(Const::Int(c)) => Some(Affine::constant(*c)),
        Node::Binary(BinaryOp::Add, a, b) => Some(form(a)?.plus(&form(b)?)),
        Node::Binary(BinaryOp::Sub, a, b) => Some(form(a)?.plus(&form(b)?.times(-1))),
        Node::Binary(BinaryOp::Mul, a, b) => {
            let (a, b) = (form(a)?, form(b)?);
            if b.is_constant() { Some(a.times(b.constant)) } else { a.is_constant().then(|| b.times(a.constant)) }
        }
        _ => None,
    }
}

/// Sets variables with one value to it, takes padding from loads that are inside, and simplifies.
fn normalize(p: &mut Program) {
    fn items(list: &mut [Item], loops: &mut Vec<(u32, usize)>, dims: &[Vec<usize>]) {
        for item in list {
            match item {
                Item::Stage(stage) => {
                    let axes: Vec<usize> = stage.axes.iter().chain(&stage.reduce).copied().collect();
                    let extent = |v: Var| match v {
                        Var::Axis(x) => axes.get(x as usize).copied(),
                        Var::Loop(l) => loops.iter().find(|x| x.0 == l).map(|x| x.1),
                    };
                    let still = |a: &Affine| a.substitute(|v| if extent(v) == Some(1) { Affine::default() } else { Affine::var(v) });
                    let inside = |(ix, &n): (&Ix, &usize)| match ix {
                        Ix::Affine(a) => {
                            let (low, high) = a.range(|v| (0, extent(v).map_or(i64::from(u32::MAX), |n| n as i64 - 1)));
                            low >= 0 && high < n as i64
                        }
                        _ => false,
                    };
                    let known = |e: Expr| match e.node() {
                        Node::Size(s) => s.constant().map_or_else(|| e.clone(), |c| Expr::int(DType::I64, c)),
                        _ => e,
                    };
                    let linear = |e: Expr| match e.node() {
                        Node::Load { tensor, index, pad } => {
                            let place = |ix: &Ix| match ix {
                                Ix::Checked(e) | Ix::Clamped(e) => form(e).map_or_else(|| ix.clone(), Ix::Affine),
                                Ix::Affine(_) => ix.clone(),
                            };
                            let known: Vec<Ix> = index.iter().map(place).collect();
                            // A known place that is clamped must be inside.
                            let kept = pad.is_some()
                                || known.iter().zip(index).zip(&dims[tensor.0 as usize]).all(|((a, b), &n)| a == b || inside((a, &n)));
                            let index = if kept { known } else { index.clone() };
                            Expr::new(Node::Load { tensor: *tensor, index, pad: pad.clone() }, e.dtype())
                        }
                        _ => e,
                    };
                    let plain = |e: Expr| match e.node() {
                        Node::Load { tensor, index, pad: Some(_) } if index.iter().zip(&dims[tensor.0 as usize]).all(inside) => {
                            Expr::new(Node::Load { tensor: *tensor, index: index.clone(), pad: None }, e.dtype())
                        }
                        _ => e,
                    };
                    stage.write = stage.write.iter().map(still).collect();
                    stage.body = stage.body.map(|e| {
                        e.rewrite(&mut |e| known(e)).rewrite(&mut |e| linear(e)).map_affine(&mut |a| still(a)).rewrite(&mut |e| plain(e))
                    });
                }
                Item::Repeat { var, extent, items: inner, .. } => {
                    loops.push((*var, *extent));
                    items(inner, loops, dims);
                    loops.pop();
                }
                Item::Reshape { .. } => {}
            }
        }
    }
    let dims: Vec<Vec<usize>> = p.tensors.iter().map(|t| t.dims.clone()).collect();
    items(&mut p.items, &mut vec![], &dims);
    simplify(p);
}

#[cfg(test)]
mod tests {
    #[test]
    fn operands_are_found_among_others() {
        let found = |n, m, fits: &[(usize, usize)], spare: &[usize]| {
            let mut places = vec![];
            super::in_order(n, m, &|i, j| fits.contains(&(i, j)), &|j| spare.contains(&j), &mut places).then_some(places)
        };
        assert_eq!(found(1, 2, &[(0, 0), (0, 1)], &[0]), Some(vec![1]));
        assert_eq!(found(2, 3, &[(0, 0), (0, 1), (1, 1), (1, 2)], &[0, 2]), Some(vec![0, 1]));
        assert_eq!(found(1, 2, &[(0, 0), (0, 1)], &[]), None);
        assert_eq!(found(0, 1, &[], &[0]), Some(vec![]));
    }
}

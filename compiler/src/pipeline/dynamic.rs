//! Libraries for a range of sizes: the extents of a program become functions of parameters that a caller chooses for every run.
//!
//! The model is read for several sizes; what differs between those that were lowered, number by number, is fitted ([`super::fit`]).
//! Everything is stored as it is at the largest sizes, so that strides are constants; loops run as far as one run needs.
//! Models whose structure, tables or views change with the sizes are refused by name.

use std::collections::HashMap;

use super::fit::Fitter;
use super::refuse;
use crate::diagnostic::Diagnostic;
use crate::expr::{Const, Expr, Item, Ix, LiveRows, Node, Program};
use crate::graph::{Graph, NodeId, NodeKind, Value};
use crate::lower::{Lowered, lower_group};
use crate::ops::View;
use crate::tensor::{DType, Parameter, Size, Tensor};

/// A model at several sizes, passes run on each.
#[derive(Clone, Debug)]
pub struct Probes {
    /// What a caller chooses.
    pub parameters: Vec<Parameter>,
    /// The sizes of each; the first are those that everything is stored for.
    pub sizes: Vec<Vec<i64>>,
    /// The graphs, without the first.
    pub graphs: Vec<Graph>,
}

/// Other sizes to read a model for, where its parameters have these ranges, `dense` of them side by side; the first are those that it
/// is stored for.
pub fn probe_sizes(parameters: &[Parameter], dense: i64) -> Vec<Vec<i64>> {
    // A power of two would let divisions become products.
    let stored = |p: &Parameter| (p.high.max(3)..).find(|n| n & (n - 1) != 0).expect("an unbounded range");
    let base: Vec<i64> = parameters.iter().map(stored).collect();
    let odd = |n: i64| if n & (n - 1) == 0 { n + 1 } else { n };
    let mut list = vec![base.clone()];
    for (i, p) in parameters.iter().enumerate() {
        let low = odd(p.low.max(3));
        let near = (1..=dense).map(|k| base[i] - k);
        let far = [odd((p.low + base[i]) / 2), odd((3 * p.low + base[i]) / 4)];
        for n in near.chain(far).map(|n| n.max(low)).filter(|n| n & (n - 1) != 0) {
            let mut at = base.clone();
            at[i] = n;
            if n < base[i] && !list.contains(&at) {
                list.push(at);
            }
        }
        // Ranges too short for two probes get some above.
        for n in (base[i] + 1..).filter(|n| n & (n - 1) != 0).take(2) {
            let mut at = base.clone();
            at[i] = n;
            if list.iter().filter(|x| x[i] != base[i]).count() < 3 {
                list.push(at);
            }
        }
    }
    if parameters.len() > 1 {
        let joint: Vec<i64> = base.iter().map(|&n| odd(n - 2).max(3)).collect();
        if !list.contains(&joint) {
            list.push(joint);
        }
    }
    list
}

/// Annotates what is lowered of the first graph with what differs in the others.
pub(super) struct Sizer<'p> {
    probes: &'p Probes,
    fitter: Fitter,
    /// By probe: the node that stands for one of the first graph.
    nodes: Vec<HashMap<NodeId, NodeId>>,
    values: HashMap<Value, Vec<Option<Size>>>,
}

impl<'p> Sizer<'p> {
    /// Finds the nodes of the other graphs that stand for those of `graph`.
    pub(super) fn new(graph: &Graph, probes: &'p Probes) -> Result<Self, Vec<Diagnostic>> {
        if let Some(&n) = graph.control_nodes().first() {
            return Err(vec![refuse(graph, &[n], "branches and loops do not go with `--dynamic` yet")]);
        }
        let order = graph.order();
        let mut nodes = vec![];
        for other in &probes.graphs {
            let theirs = other.order();
            let map: HashMap<NodeId, NodeId> = order.iter().copied().zip(theirs.iter().copied()).collect();
            let mut wrong = (theirs.len() != order.len()).then_some(order.last().copied()).flatten();
            for &n in &order {
                let Some(&m) = map.get(&n) else { break };
                let moved = |v: Option<Value>| v.map(|v| map.get(&v.node).map(|&node| Value { node, result: v.result }));
                let alike = kind(graph, n) == kind(other, m)
                    && graph.operands(n).len() == other.operands(m).len()
                    && graph.operands(n).into_iter().zip(other.operands(m)).all(|(a, b)| moved(a) == b.map(Some));
                if !alike {
                    wrong = Some(n);
                    break;
                }
            }
            if let Some(n) = wrong {
                let what = "its graph has another structure for other sizes; `--dynamic` cannot give it one library";
                return Err(vec![refuse(graph, &[n], what)]);
            }
            nodes.push(map);
        }
        let mut sizer = Sizer { probes, fitter: Fitter { probes: probes.sizes.clone() }, nodes, values: HashMap::new() };
        let mut problems = vec![];
        for &n in &order {
            for v in graph.results(n) {
                match sizer.value_bounds(graph, v) {
                    Ok(bounds) => {
                        sizer.values.insert(v, bounds);
                    }
                    // Of constants only what is read must be known.
                    Err(_) if matches!(graph.node(n).kind, NodeKind::Constant(_)) => {}
                    Err(what) => problems.push(refuse(graph, &[n], &format!("an extent of its result is {what}"))),
                }
            }
        }
        if problems.is_empty() { Ok(sizer) } else { Err(problems) }
    }

    fn value_bounds(&self, graph: &Graph, v: Value) -> Result<Vec<Option<Size>>, String> {
        let dims = graph.ty(v).dims().unwrap_or_default();
        let others: Vec<Vec<usize>> =
            (0..self.nodes.len()).map(|i| self.probes.graphs[i].ty(self.there(i, v)).dims().unwrap_or_default()).collect();
        if others.iter().any(|o| o.len() != dims.len()) {
            return Err("of another rank for other sizes".to_owned());
        }
        (0..dims.len())
            .map(|k| self.fitter.fit(&[dims[k]].into_iter().chain(others.iter().map(|o| o[k])).map(|n| n as i64).collect::<Vec<_>>()))
            .collect()
    }

    /// What a caller chooses.
    pub(super) fn parameters(&self) -> Vec<Parameter> {
        self.probes.parameters.clone()
    }

    /// The value of another graph that stands for `v`.
    fn there(&self, probe: usize, v: Value) -> Value {
        Value { node: self.nodes[probe][&v.node], result: v.result }
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
        let dims = graph.ty(v).dims().unwrap_or_default();
        let first = dims.iter().position(|&d| d != 1).unwrap_or(0);
        self.bounds(v).iter().enumerate().all(|(k, b)| b.is_none() || k <= first)
    }

    /// Gives a lowered group its sizes.
    pub(super) fn annotate(&self, graph: &Graph, members: &[NodeId], lowered: &mut Lowered) -> Result<(), Diagnostic> {
        let error = |what: String| refuse(graph, members, &format!("{what}; `--dynamic` cannot vary it"));
        let mut others = vec![];
        for (i, other) in self.probes.graphs.iter().enumerate() {
            let theirs: Vec<NodeId> = members.iter().map(|n| self.nodes[i][n]).collect();
            others.push(lower_group(other, &theirs).map_err(|(_, e)| error(e.to_string()))?);
        }
        let programs: Vec<&Program> = others.iter().map(|o| &o.program).collect();
        for (&t, &v) in lowered.program.operands.iter().zip(&lowered.operands) {
            if let Some(tensor) = graph.constant(v) {
                let all: Option<Vec<&Tensor>> = (0..programs.len()).map(|i| self.probes.graphs[i].constant(self.there(i, v))).collect();
                if !all.is_some_and(|all| all.iter().all(|o| is_part(o, tensor))) {
                    let name = &lowered.program.tensor(t).name;
                    return Err(error(format!("the values of constant `{name}` depend on the sizes")));
                }
            }
        }
        annotate_program(&self.fitter, &mut lowered.program, &programs).map_err(error)
    }

    /// Gives the copy of a value its sizes.
    pub(super) fn annotate_copy(&self, lowered: &mut Lowered) {
        let bounds = self.bounds(lowered.operands[0]).to_vec();
        lowered.program.tensors.iter_mut().for_each(|t| t.bounds.clone_from(&bounds));
        for item in &mut lowered.program.items {
            if let Item::Stage(stage) = item {
                stage.bounds.clone_from(&bounds);
            }
        }
    }

    /// Whether a view that no kernel computes is the same at all sizes.
    pub(super) fn check_view(&self, graph: &Graph, node: NodeId) -> Result<(), Diagnostic> {
        let error = |what: &str| Err(refuse(graph, &[node], &format!("{what}; `--dynamic` cannot vary it")));
        let Some(op) = graph.node(node).operator() else { return Ok(()) };
        let Some(views) = op.view(&graph.facts(node)) else { return Ok(()) };
        for i in 0..self.nodes.len() {
            let (other, there) = (&self.probes.graphs[i], self.nodes[i][&node]);
            let theirs = other.node(there).operator().and_then(|op| op.view(&other.facts(there)));
            let same = |a: &View, b: &View| match (a, b) {
                (View::Affine(a), View::Affine(b)) => a == b,
                (View::Reshape, View::Reshape) => true,
                _ => false,
            };
            if !theirs.is_some_and(|t| t.len() == views.len() && t.iter().zip(&views).all(|(a, b)| same(a, b))) {
                return error("what it selects depends on the sizes");
            }
        }
        let Some(Some(source)) = graph.operands(node).first().copied() else { return Ok(()) };
        for v in graph.results(node) {
            if matches!(views[v.result as usize], View::Reshape) {
                let dims = |v: Value| (graph.ty(v).dims().unwrap_or_default(), self.bounds(v));
                let (from, to) = (dims(source), dims(v));
                if !reshape_holds((&from.0, from.1), (&to.0, to.1)) {
                    return error("it joins or cuts an axis whose extent varies");
                }
            }
        }
        Ok(())
    }
}

fn kind(graph: &Graph, n: NodeId) -> Option<String> {
    match &graph.node(n).kind {
        NodeKind::Input => Some("input".to_owned()),
        NodeKind::Constant(_) => Some("constant".to_owned()),
        NodeKind::Operator(op) => Some(op.schema().full_name().into_owned()),
        NodeKind::Control(control) => Some(control.name().to_owned()),
    }
}

/// Whether a tensor is the first elements along every axis of another.
fn is_part(part: &Tensor, whole: &Tensor) -> bool {
    if part.dims() == whole.dims() {
        return part.bytes() == whole.bytes();
    }
    if part.dims().len() != whole.dims().len() {
        return false;
    }
    // Probes may be above what is stored.
    let common: Vec<usize> = part.dims().iter().zip(whole.dims()).map(|(a, b)| *a.min(b)).collect();
    let cut = |t: &Tensor| {
        let strides = crate::tensor::row_major_strides(t.dims());
        t.gather(&common, |at| Some(at.iter().zip(&strides).map(|(i, s)| i * s).sum()))
    };
    cut(part).bytes() == cut(whole).bytes()
}

/// Whether row-major order relates the axes of two shapes in the same way at all sizes: of the axes that become others, only the
/// outermost varies.
fn reshape_holds(from: (&[usize], &[Option<Size>]), to: (&[usize], &[Option<Size>])) -> bool {
    let axes = |(dims, bounds): (&[usize], &'_ [Option<Size>])| -> Vec<(usize, Option<Size>)> {
        let all = dims.iter().enumerate().map(|(k, &d)| (d, bounds.get(k).cloned().flatten()));
        all.filter(|a| a.0 != 1 || a.1.is_some()).collect()
    };
    let (a, b) = (axes(from), axes(to));
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (i0, j0) = (i, j);
        let (mut x, mut y) = (a[i].0, b[j].0);
        while x != y {
            if x < y && i + 1 < a.len() {
                i += 1;
                x *= a[i].0;
            } else if y < x && j + 1 < b.len() {
                j += 1;
                y *= b[j].0;
            } else {
                return false;
            }
        }
        let fixed_inside = |list: &[(usize, Option<Size>)]| list[1..].iter().all(|x| x.1.is_none());
        let whole = |list: &[(usize, Option<Size>)]| -> Option<Size> {
            let inner: usize = list[1..].iter().map(|x| x.0).product();
            list[0].1.as_ref().map(|n| n.times(inner as i64))
        };
        let (left, right) = (&a[i0..=i], &b[j0..=j]);
        if left != right && !(fixed_inside(left) && fixed_inside(right) && same_size(whole(left), whole(right))) {
            return false;
        }
        (i, j) = (i + 1, j + 1);
    }
    a[i..].iter().chain(&b[j..]).all(|x| x.0 == 1 && x.1.is_none())
}

/// Whether two sizes are equal, as far as some values tell.
fn same_size(a: Option<Size>, b: Option<Size>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.parameters() == b.parameters()
                && (1..200).all(|n| {
                    let at = [n, 3 * n + 1, 5 * n + 2, 7 * n + 3, 11 * n + 4, n + 9, n + 17, 2 * n];
                    a.parameters().last().is_none_or(|&p| (p as usize) < at.len()) && a.value(&at) == b.value(&at)
                })
        }
        _ => false,
    }
}

type Answer<T> = Result<T, String>;

fn annotate_program(fitter: &Fitter, program: &mut Program, others: &[&Program]) -> Answer<()> {
    let structure = || "what it computes depends on the sizes".to_owned();
    if others.iter().any(|o| o.tensors.len() != program.tensors.len() || o.operands != program.operands || o.results != program.results) {
        return Err(structure());
    }
    for t in 0..program.tensors.len() {
        let bounds: Vec<Option<Size>> = (0..program.tensors[t].dims.len())
            .map(|k| {
                let values: Option<Vec<i64>> =
                    [&*program].into_iter().chain(others.iter().copied()).map(|p| p.tensors[t].dims.get(k).map(|&d| d as i64)).collect();
                fitter.fit(&values.ok_or_else(structure)?)
            })
            .collect::<Answer<_>>()?;
        program.tensors[t].bounds = bounds;
    }
    for (i, (t, value)) in program.constants.iter().enumerate() {
        if !others.iter().all(|o| o.constants.get(i).is_some_and(|(u, v)| t == u && is_part(v, value))) {
            return Err(format!("table `{}` depends on the sizes", program.tensor(*t).name));
        }
    }
    let lists: Vec<&[Item]> = others.iter().map(|o| &o.items[..]).collect();
    let tensors = program.tensors.clone();
    annotate_items(fitter, &tensors, &mut program.items, &lists)
}

fn annotate_items(fitter: &Fitter, tensors: &[crate::expr::TensorDecl], items: &mut [Item], others: &[&[Item]]) -> Answer<()> {
    let structure = || "what it computes depends on the sizes".to_owned();
    if others.iter().any(|o| o.len() != items.len()) {
        return Err(structure());
    }
    for (i, item) in items.iter_mut().enumerate() {
        match item {
            Item::Stage(stage) => {
                let theirs: Vec<&crate::expr::Stage> =
                    others.iter().map(|o| if let Item::Stage(s) = &o[i] { Ok(s) } else { Err(structure()) }).collect::<Answer<_>>()?;
                let alike = |s: &crate::expr::Stage| {
                    s.out == stage.out
                        && s.write == stage.write
                        && s.axes.len() == stage.axes.len()
                        && s.reduce.len() == stage.reduce.len()
                        && s.expressions().len() == stage.expressions().len()
                };
                if !theirs.iter().all(|s| alike(s)) {
                    return Err(structure());
                }
                let n = stage.axes.len();
                let extent = |s: &crate::expr::Stage, a: usize| if a < n { s.axes[a] as i64 } else { s.reduce[a - n] as i64 };
                stage.bounds = (0..n + stage.reduce.len())
                    .map(|a| fitter.fit(&[extent(stage, a)].into_iter().chain(theirs.iter().map(|s| extent(s, a))).collect::<Vec<_>>()))
                    .collect::<Answer<_>>()?;
                let mut new = vec![];
                for (k, e) in stage.expressions().into_iter().enumerate() {
                    let all: Vec<Expr> = theirs.iter().map(|s| s.expressions()[k].clone()).collect();
                    new.push(annotate_expr(fitter, e, &all, &mut HashMap::new())?);
                }
                match &mut stage.body {
                    crate::expr::Body::Map(e) | crate::expr::Body::Arg { value: e, .. } => *e = new.swap_remove(0),
                    crate::expr::Body::Reduce { value, finish, .. } => {
                        *finish = new.pop().expect("a value and an end");
                        *value = new.pop().expect("a value and an end");
                    }
                }
            }
            Item::Reshape { out, input } => {
                if !others.iter().all(|o| matches!(&o[i], Item::Reshape { out: a, input: b } if a == out && b == input)) {
                    return Err(structure());
                }
                let (from, to) = (&tensors[input.0 as usize], &tensors[out.0 as usize]);
                if !reshape_holds((&from.dims, &from.bounds), (&to.dims, &to.bounds)) {
                    return Err("it joins or cuts an axis whose extent varies".to_owned());
                }
            }
            Item::Repeat { var, extent, live, items } => {
                let theirs: Vec<(usize, &[Item])> = others
                    .iter()
                    .map(|o| match &o[i] {
                        Item::Repeat { var: v, extent, items, .. } if v == var => Ok((*extent, &items[..])),
                        _ => Err(structure()),
                    })
                    .collect::<Answer<_>>()?;
                let values: Vec<i64> = [*extent].into_iter().chain(theirs.iter().map(|t| t.0)).map(|n| n as i64).collect();
                *live = fitter.fit(&values)?.map(|to| LiveRows { from: Size::Constant(0), to, step: 1 });
                annotate_items(fitter, tensors, items, &theirs.iter().map(|t| t.1).collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
}

/// The expression with what differs in the others as functions of the sizes.
fn annotate_expr(fitter: &Fitter, e: &Expr, others: &[Expr], known: &mut HashMap<*const Node, Expr>) -> Answer<Expr> {
    let key = std::ptr::from_ref(e.node());
    if let Some(done) = known.get(&key) {
        return Ok(done.clone());
    }
    let structure = || "what it computes depends on the sizes".to_owned();
    if others.iter().any(|o| o.dtype() != e.dtype()) {
        return Err(structure());
    }
    let mut child = |x: &Expr, pick: &dyn Fn(&Node) -> Option<Expr>| -> Answer<Expr> {
        let theirs: Vec<Expr> = others.iter().map(|o| pick(o.node()).ok_or_else(structure)).collect::<Answer<_>>()?;
        annotate_expr(fitter, x, &theirs, known)
    };
    let node = match e.node() {
        Node::Const(c) => {
            let all: Vec<Const> =
                others.iter().map(|o| if let Node::Const(c) = o.node() { Ok(*c) } else { Err(structure()) }).collect::<Answer<_>>()?;
            if all.iter().all(|o| o == c) { Node::Const(*c) } else { return constant(fitter, e.dtype(), *c, &all) }
        }
        Node::Index(a) => {
            if !others.iter().all(|o| matches!(o.node(), Node::Index(b) if a == b)) {
                return Err("an index depends on the sizes".to_owned());
            }
            Node::Index(a.clone())
        }
        Node::Size(_) => return Err(structure()),
        Node::Acc => match others.iter().all(|o| matches!(o.node(), Node::Acc)) {
            true => Node::Acc,
            false => return Err(structure()),
        },
        Node::Load { tensor, index, pad } => {
            for o in others {
                let Node::Load { tensor: t, index: theirs, pad: p } = o.node() else { return Err(structure()) };
                if t != tensor || theirs.len() != index.len() || p.is_some() != pad.is_some() {
                    return Err(structure());
                }
                for (a, b) in index.iter().zip(theirs) {
                    match (a, b) {
                        (Ix::Affine(a), Ix::Affine(b)) if a == b => {}
                        (Ix::Affine(_), Ix::Affine(_)) => return Err("where it reads depends on the sizes".to_owned()),
                        (Ix::Checked(_), Ix::Checked(_)) | (Ix::Clamped(_), Ix::Clamped(_)) => {}
                        _ => return Err(structure()),
                    }
                }
            }
            let mut new = vec![];
            for (k, ix) in index.iter().enumerate() {
                let pick = |n: &Node| match n {
                    Node::Load { index, .. } => match &index[k] {
                        Ix::Checked(e) | Ix::Clamped(e) => Some(e.clone()),
                        Ix::Affine(_) => None,
                    },
                    _ => None,
                };
                new.push(match ix {
                    Ix::Affine(a) => Ix::Affine(a.clone()),
                    Ix::Checked(e) => Ix::Checked(child(e, &pick)?),
                    Ix::Clamped(e) => Ix::Clamped(child(e, &pick)?),
                });
            }
            let pad = match pad {
                Some(p) => Some(child(p, &|n| if let Node::Load { pad, .. } = n { pad.clone() } else { None })?),
                None => None,
            };
            Node::Load { tensor: *tensor, index: new, pad }
        }
        Node::Unary(op, a) => Node::Unary(*op, child(a, &|n| matches!(n, Node::Unary(o, _) if o == op).then(|| nth(n, 0)).flatten())?),
        Node::Cast(a) => Node::Cast(child(a, &|n| matches!(n, Node::Cast(_)).then(|| nth(n, 0)).flatten())?),
        Node::Bits(a) => Node::Bits(child(a, &|n| matches!(n, Node::Bits(_)).then(|| nth(n, 0)).flatten())?),
        Node::Binary(op, a, b) => {
            let same = |n: &Node| matches!(n, Node::Binary(o, ..) if o == op);
            let (a, b) = (child(a, &|n| same(n).then(|| nth(n, 0)).flatten())?, child(b, &|n| same(n).then(|| nth(n, 1)).flatten())?);
            Node::Binary(*op, a, b)
        }
        Node::Compare(op, a, b) => {
            let same = |n: &Node| matches!(n, Node::Compare(o, ..) if o == op);
            let (a, b) = (child(a, &|n| same(n).then(|| nth(n, 0)).flatten())?, child(b, &|n| same(n).then(|| nth(n, 1)).flatten())?);
            Node::Compare(*op, a, b)
        }
        Node::Select(c, a, b) => {
            let part = |n: &Node, k: usize| matches!(n, Node::Select(..)).then(|| nth(n, k)).flatten();
            Node::Select(child(c, &|n| part(n, 0))?, child(a, &|n| part(n, 1))?, child(b, &|n| part(n, 2))?)
        }
    };
    let done = if node == *e.node() { e.clone() } else { Expr::new(node, e.dtype()) };
    known.insert(key, done.clone());
    Ok(done)
}

/// An operand of a head.
fn nth(n: &Node, k: usize) -> Option<Expr> {
    let operands: Vec<&Expr> = match n {
        Node::Unary(_, a) | Node::Cast(a) | Node::Bits(a) => vec![a],
        Node::Binary(_, a, b) | Node::Compare(_, a, b) => vec![a, b],
        Node::Select(c, a, b) => vec![c, a, b],
        _ => vec![],
    };
    operands.get(k).map(|e| (*e).clone())
}

/// A constant that differs: a whole number, or one over a whole number, that is a function of the sizes.
fn constant(fitter: &Fitter, dtype: DType, mine: Const, others: &[Const]) -> Answer<Expr> {
    let refused = || "a constant in what it computes depends on the sizes".to_owned();
    let all: Vec<Const> = [mine].into_iter().chain(others.iter().copied()).collect();
    let whole = |x: f64| (x.fract() == 0.0 && x.abs() < 2f64.powi(24)).then_some(x as i64);
    let ints: Option<Vec<i64>> = all.iter().map(|c| if let Const::Int(x) = c { Some(*x) } else { None }).collect();
    let floats: Option<Vec<f64>> = all.iter().map(|c| if let Const::Float(x) = c { Some(*x) } else { None }).collect();
    let number = |values: &[i64]| -> Answer<Expr> {
        let size = fitter.fit(values).map_err(|e| format!("a constant in what it computes is {e}"))?.ok_or_else(refused)?;
        Ok(Expr::new(Node::Size(size), DType::I64).cast(dtype))
    };
    match (ints, floats) {
        (Some(values), _) if dtype != DType::Bool => number(&values),
        (_, Some(values)) => {
            if let Some(values) = values.iter().map(|&x| whole(x)).collect::<Option<Vec<_>>>() {
                return number(&values);
            }
            let inverse: Option<Vec<i64>> = values.iter().map(|&x| whole((1.0 / x).round())).collect();
            let inverse = inverse.ok_or_else(refused)?;
            let exact = inverse.iter().zip(&values).all(|(&n, &x)| Expr::constant(dtype, 1.0 / n as f64) == Expr::constant(dtype, x));
            if !exact {
                return Err(refused());
            }
            let n = number(&inverse)?;
            Ok(n.like(1.0) / n)
        }
        _ => Err(refused()),
    }
}

//! Extents that data decides: which values have them, and what may be done with such values.
//!
//! A value of this kind is in the graph with its greatest extents; behind what is meant is padding. An operator may be applied where slicing
//! the axis commutes with it, which its axes say; then its results vary along theirs. Everything else is refused.

use std::ops::Range;

use crate::graph::Value;
use crate::ops::movement::Concat;
use crate::ops::padded::{Compact, Mask};
use crate::ops::{Fill, InferError, Operands, Operator};
use crate::tensor::{Tensor, Type};

use super::model::Importer;
use super::node::At;
use super::opset::Draft;
use super::problems::Problem;
use super::scope::Known;

/// No extent that data decides is greater.
const MAX_COUNT: f64 = (1 << 24) as f64;

/// What is decided at run time about a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Varying {
    /// Axes, and the `i64[1]` value that says how much of each is meant.
    axes: Vec<(usize, Value)>,
    /// The operator that began it.
    cause: String,
    /// What it reads.
    deciding: Vec<Known>,
}

/// A result, an axis of it whose extent data decides, and what began that.
pub(super) type Place = (usize, usize, String);

impl Varying {
    /// The same of a value of another graph, where `count` gives what says how much.
    pub(super) fn moved(self, v: Value, mut count: impl FnMut(Value) -> Value) -> Varying {
        let axes = self.axes.into_iter().map(|(axis, c)| (axis, count(c))).collect();
        Varying { axes, cause: self.cause, deciding: vec![Known::Value(v)] }
    }

    /// Whether the same is decided of both.
    fn agrees(&self, other: &Varying) -> bool {
        self.axes.len() == other.axes.len() && self.axes.iter().all(|a| other.axes.contains(a))
    }
}

impl Importer<'_> {
    /// How the results of an operator vary with its operands; integers that are no mere element-wise operands get zeros for padding, so
    /// that it is harmless as an index.
    pub(super) fn follow(
        &mut self,
        op: &dyn Operator,
        inputs: &mut [Option<Known>],
        x: &Operands,
        n_results: usize,
    ) -> Result<Vec<Varying>, Problem> {
        let of =
            |k: &Option<Known>| if let Some(Known::Value(v)) = k { self.varying.get(v).map(|varying| (*v, varying.clone())) } else { None };
        let varying: Vec<Option<(Value, Varying)>> = inputs.iter().map(of).collect();
        let Some((_, first)) = varying.iter().flatten().next() else { return Ok(vec![]) };
        let (axes, intervals) = (op.axes(x), self.intervals(inputs));
        let mut results = vec![Varying { axes: vec![], ..first.clone() }; n_results];
        let mut filled = vec![false; inputs.len()];
        for (i, (v, of)) in varying.iter().enumerate().filter_map(|(i, o)| Some((i, o.as_ref()?))) {
            for &(axis, count) in &of.axes {
                if let Some((to, times)) = op.carries(x, i, axis, &intervals)
                    && axes.operands.get(i).and_then(|labels| labels.get(axis).copied().flatten()).is_none()
                {
                    let place = (to, self.count_times(count, times));
                    if !results[0].axes.contains(&place) {
                        results[0].axes.push(place);
                    }
                    continue;
                }
                if op.heeds(x, i, axis, &intervals) {
                    continue;
                }
                let label = axes.operands.get(i).and_then(|labels| labels.get(axis).copied().flatten());
                // Whatever else runs along the axis must end where this does.
                let agrees = |j: usize| {
                    let at = axes.operands[j].iter().position(|l| *l == label);
                    at.is_none_or(|at| varying.get(j).is_some_and(|o| o.as_ref().is_some_and(|(_, o)| o.axes.contains(&(at, count)))))
                };
                let places: Option<Vec<usize>> = (0..n_results).map(|r| axes.results.get(r)?.iter().position(|l| *l == label)).collect();
                match places {
                    Some(places) if label.is_some() && (0..axes.operands.len()).all(agrees) => {
                        for (result, place) in results.iter_mut().zip(places) {
                            if !result.axes.contains(&(place, count)) {
                                result.axes.push((place, count));
                            }
                        }
                    }
                    _ if let Some(fill) = op.fill(x, i, axis) => {
                        let input = if let Some(Known::Value(input)) = inputs[i] { input } else { *v };
                        filled[i] = true;
                        inputs[i] = Some(Known::Value(self.masked(input, &Varying { axes: vec![(axis, count)], ..of.clone() }, fill)));
                    }
                    _ => {
                        for known in of.deciding.clone() {
                            self.depends_on_values(&known);
                        }
                        let (name, value) = (op.schema().full_name(), self.graph.name_of(*v));
                        let message = format!(
                            "a shape depends on the values of inputs: `{name}` needs all of axis {axis} of `{value}`, whose extent `{}` decides at run time",
                            of.cause
                        );
                        return Err(Problem::unsupported("dynamic-shape", message)
                            .with_help("end the model at that value, or make what decides the extent a constant"));
                    }
                }
            }
        }
        if !axes.elementwise && op.view(x).is_none() {
            for ((input, of), _) in inputs.iter_mut().zip(varying).zip(filled).filter(|(_, filled)| !filled) {
                if let Some((v, of)) = of.filter(|(v, _)| self.graph.ty(*v).dtype.is_int()) {
                    *input = Some(Known::Value(self.masked(v, &of, Fill::Zero)));
                }
            }
        }
        Ok(results)
    }

    /// Remembers how results vary.
    pub(super) fn varies(&mut self, results: &[Known], varying: Vec<Varying>) {
        for (known, varying) in results.iter().zip(varying) {
            if let (Known::Value(v), false) = (known, varying.axes.is_empty()) {
                self.varying.insert(*v, varying);
            }
        }
    }

    /// The extents of a body's outputs that data decides: the output and the axis of each, what began it, and more outputs that say how much.
    pub(super) fn extents(&self, outputs: &[(String, Value)]) -> (Vec<Place>, Vec<(String, Value)>) {
        let (mut places, mut counts) = (vec![], vec![]);
        for (i, (name, v)) in outputs.iter().enumerate() {
            let Some(varying) = self.varying.get(v) else { continue };
            let mut axes = varying.axes.clone();
            axes.sort_by_key(|a| a.0);
            for (axis, count) in axes {
                places.push((i, axis, varying.cause.clone()));
                counts.push((format!("{name}.extent{axis}"), count));
            }
        }
        (places, counts)
    }

    /// Remembers extents of a node's results which others of its results say, in the order of [`Self::extents`].
    pub(super) fn extents_are(&mut self, results: &[Known], places: Vec<Place>, counts: &[Known]) {
        for ((i, axis, cause), count) in places.into_iter().zip(counts) {
            if let (Some(&Known::Value(v)), &Known::Value(count)) = (results.get(i), count) {
                let varying = self.varying.entry(v).or_insert_with(|| Varying { axes: vec![], cause, deciding: vec![Known::Value(v)] });
                varying.axes.push((axis, count));
            }
        }
    }

    /// The states of a loop vary in its body, which was just opened, as what they begin with does: `inputs` as `begins`.
    pub(super) fn states_vary(&mut self, begins: &[Value], inputs: &[Value]) {
        let outer = self.regions.len() - 1;
        for (v, &input) in begins.iter().zip(inputs) {
            if let Some(varying) = self.regions[outer].varying.get(v).cloned() {
                let varying = varying.moved(input, |count| self.capture(outer, count));
                self.varying.insert(input, varying);
            }
        }
    }

    /// A result varies as another value does.
    pub(super) fn varies_as(&mut self, result: &Known, v: Value) {
        if let (&Known::Value(result), Some(varying)) = (result, self.varying.get(&v).cloned()) {
            self.varying.insert(result, varying);
        }
    }

    /// Fails unless each value of a body varies as its input in `like` does; what has none does not vary.
    pub(super) fn vary_alike(&mut self, values: &[(String, Value)], like: &[Value]) -> Result<(), Problem> {
        for (i, (name, v)) in values.iter().enumerate() {
            let [now, wanted] = [Some(v), like.get(i)].map(|v| v.and_then(|v| self.varying.get(v)).cloned().unwrap_or_default());
            if !now.agrees(&wanted) {
                for known in now.deciding.iter().chain(&wanted.deciding) {
                    self.depends_on_values(known);
                }
                let cause = if now.axes.is_empty() { wanted.cause } else { now.cause };
                let message = format!(
                    "a shape depends on the values of inputs: `{cause}` decides an extent of `{name}`, which a loop reads or gives"
                );
                return Err(Problem::unsupported("dynamic-shape", message).with_help("make what decides the extent a constant"));
            }
        }
        Ok(())
    }

    /// The value with this for padding.
    fn masked(&mut self, v: Value, varying: &Varying, fill: Fill) -> Value {
        let mut masked = v;
        for &(axis, count) in &varying.axes {
            let name = format!("{}.masked", self.graph.name_of(v));
            masked = self.made(&Mask { axis: axis as i64, fill: fill.name().to_owned() }, &[masked, count], &name);
        }
        if let Some(varying) = self.varying.get(&v).cloned() {
            self.varying.insert(masked, varying);
        }
        masked
    }

    /// The result of an operator that is not in the file.
    pub(super) fn made(&mut self, op: &dyn Operator, operands: &[Value], name: &str) -> Value {
        let operands: Vec<Option<Value>> = operands.iter().copied().map(Some).collect();
        let node = self.graph.add_node(dyn_clone::clone_box(op), &operands, &[name.to_owned()], "").expect("operands that fit");
        Value { node, result: 0 }
    }

    /// Whether an operator needs to know how much of operands is meant.
    pub(super) fn must_count(&self, op: &dyn Operator, inputs: &[Option<Known>], x: &Operands) -> bool {
        let varies = |known: &Option<Known>| matches!(known, Some(Known::Value(v)) if self.varying.contains_key(v));
        if !inputs.iter().any(varies) {
            return false;
        }
        let (axes, intervals) = (op.axes(x), self.intervals(inputs));
        inputs.iter().enumerate().any(|(i, known)| {
            let varying = if let Some(Known::Value(v)) = known { self.varying.get(v) } else { None };
            let label = |axis: usize| axes.operands.get(i).and_then(|labels| labels.get(axis).copied().flatten());
            varying.is_some_and(|v| {
                v.axes.iter().any(|a| {
                    let carried = op.carries(x, i, a.0, &intervals).is_some();
                    label(a.0).is_none() && op.fill(x, i, a.0).is_none() && !op.heeds(x, i, a.0, &intervals) && !carried
                })
            })
        })
    }

    /// The operator with the actual extents of its operands, where it needs them.
    fn counted(&mut self, op: Box<dyn Operator>, mut draft: Draft, mut x: Operands) -> (Box<dyn Operator>, Draft, Operands) {
        if !self.must_count(op.as_ref(), &draft.inputs, &x) {
            return (op, draft, x);
        }
        let Some(counted) = op.counted(&x) else { return (op, draft, x) };
        let base = draft.outputs.iter().find(|o| !o.is_empty()).cloned().unwrap_or_default();
        draft.inputs.resize(counted.at, None);
        for i in counted.of {
            let name = format!("{base}.extents{i}");
            let dims = x.ty(i).ok().and_then(Type::dims).unwrap_or_default();
            let varying = match draft.inputs[i] {
                Some(Known::Value(v)) => self.extents_of(v, 0..dims.len(), &name).map(Known::Value),
                _ => None,
            };
            let fixed = || Known::constant(&name, Tensor::from_slice(&[dims.len()], &dims.iter().map(|&d| d as i64).collect::<Vec<_>>()));
            draft.inputs.push(Some(varying.unwrap_or_else(fixed)));
        }
        x.facts = draft.inputs.iter().map(|k| k.as_ref().and_then(|k| k.fact(&self.graph))).collect();
        (counted.op, draft, x)
    }

    /// The results of the operator that stands in for one whose shapes would need `draft`'s operands to be constant; `None` where that does
    /// not take them either.
    pub(super) fn padded(&mut self, at: At<'_>, op: Box<dyn Operator>, draft: Draft, x: Operands) -> Result<Option<Vec<Known>>, Problem> {
        let n_results = draft.outputs.len();
        let (op, mut draft, mut x) = self.counted(op, draft, x);
        let op = op.at_any_size().filter(|_| self.options.any_size).unwrap_or(op);
        let base = draft.outputs.iter().find(|o| !o.is_empty()).cloned().unwrap_or_default();
        let sizes = op.sizes(&x);
        for s in &sizes {
            if draft.outputs.len() <= s.count {
                draft.outputs.resize(s.count + 1, String::new());
            }
            draft.outputs[s.count] = format!("{base}.extent{}", s.count);
        }
        x.n_results = draft.outputs.len();
        let types = match op.infer(&x) {
            Ok(types) => types,
            Err(e @ InferError::Unbounded { .. }) => return self.no_type(&draft, e).map(|()| Some(vec![])),
            Err(_) => return Ok(None),
        };
        let followed = self.follow(op.as_ref(), &mut draft.inputs, &x, n_results)?;
        let cause = self.cause(at, &draft.op);
        let deciding = draft.inputs.iter().flatten().filter(|k| matches!(k, Known::Value(_))).cloned().collect::<Vec<_>>();
        let typed: Vec<(String, Type)> = draft.outputs.iter().cloned().zip(types).collect();
        let results = self.made_once(op.as_ref(), &draft.inputs, |i| i.add_node(at, op.clone(), &draft.inputs, typed));
        let axes = |r: usize| followed.get(r).map_or(vec![], |v: &Varying| v.axes.clone());
        let mut varying: Vec<Varying> =
            (0..n_results).map(|r| Varying { axes: axes(r), cause: cause.clone(), deciding: deciding.clone() }).collect();
        for s in sizes {
            if let (Some(varying), &Known::Value(own)) = (varying.get_mut(s.result), &results[s.count]) {
                varying.axes.push((s.axis, self.count_of(op.as_ref(), &draft, &x, s.count, own)));
            }
        }
        self.varies(&results, varying);
        Ok(Some(results.into_iter().take(n_results).collect()))
    }

    /// The results of an operator whose shape is computed, where its elements have bounds: those of the greatest shape. `None` if that
    /// is not what such a shape means here.
    pub(super) fn extended(
        &mut self,
        at: At<'_>,
        op: &dyn Operator,
        mut draft: Draft,
        operand: usize,
    ) -> Result<Option<Vec<Known>>, Problem> {
        let known = draft.inputs[operand].clone();
        let Some(elements) = self.each_element(&known) else { return Ok(None) };
        let data = draft.inputs.first().and_then(|k| if let (Some(Known::Value(v)), true) = (k, operand > 0) { Some(*v) } else { None });
        let (mut greatest, mut counts) = (vec![], vec![]);
        for (i, element) in elements.iter().enumerate() {
            if let Some(n) = element.number() {
                greatest.push(n);
                continue;
            }
            if element.within.high > MAX_COUNT {
                return if data.is_some() {
                    Ok(None)
                } else {
                    self.no_type(&draft, InferError::Unbounded { operand }).map(|()| Some(vec![]))
                };
            }
            let most = element.within.high as i64;
            let count = self.count_at(element.at, most);
            let dims = data.and_then(|v| self.graph.ty(v).dims());
            let along = data.and_then(|v| self.varying.get(&v)).and_then(|v| v.axes.iter().find(|a| a.1 == count));
            greatest.push(dims.zip(along).map_or(most, |(dims, a)| dims[a.0] as i64));
            counts.push((i, count));
        }
        let base = draft.outputs[0].clone();
        let rank = greatest.len();
        draft.inputs[operand] = Some(Known::constant(&format!("{base}.greatest"), Tensor::from_slice(&[rank], &greatest)));
        let facts = draft.inputs.iter().map(|k| k.as_ref().and_then(|k| k.fact(&self.graph))).collect();
        let x = Operands { facts, n_results: draft.outputs.len() };
        let Ok(types) = op.infer(&x) else { return Ok(None) };
        let skip = types[0].rank() - rank;
        let mut varying = self.follow(op, &mut draft.inputs, &x, draft.outputs.len())?;
        if varying.is_empty() {
            let varies = Varying { axes: vec![], cause: self.cause(at, &draft.op), deciding: known.into_iter().collect() };
            varying = vec![varies; draft.outputs.len()];
        }
        for (i, count) in counts {
            match varying[0].axes.iter().find(|a| a.0 == i + skip) {
                Some(along) if along.1 == count => {}
                None if op.repeats(&x, i + skip) => varying[0].axes.push((i + skip, count)),
                _ => return Ok(None),
            }
        }
        let results = self.add_node(at, dyn_clone::clone_box(op), &draft.inputs, draft.outputs.into_iter().zip(types).collect());
        self.varies(&results, varying);
        Ok(Some(results))
    }

    /// An output whose extents data decides: its elements dense, and its shape as a value; `None` for any other.
    pub(super) fn actual(&mut self, name: &str, v: Value) -> Option<(Value, Value)> {
        let dims = self.graph.ty(v).dims()?;
        let shape = self.extents_of(v, 0..dims.len(), &format!("{name}.shape"))?;
        let leading = self.varying[&v].axes.iter().all(|&(axis, _)| dims[..axis].iter().product::<usize>() == 1);
        let dense = if leading { v } else { self.made(&Compact {}, &[v, shape], &format!("{name}.dense")) };
        Some((dense, shape))
    }

    /// The extents of these axes of a value, as a value; `None` if data decides none of them.
    pub(super) fn extents_of(&mut self, v: Value, axes: Range<usize>, name: &str) -> Option<Value> {
        let varying = self.varying.get(&v)?.clone();
        if !varying.axes.iter().any(|a| axes.contains(&a.0)) {
            return None;
        }
        let dims = self.graph.ty(v).dims()?;
        let mut parts = vec![];
        for axis in axes {
            let part = match varying.axes.iter().find(|a| a.0 == axis) {
                Some(&(_, count)) => count,
                None => match Known::constant(&format!("{name}.{axis}"), Tensor::from_slice(&[1], &[dims[axis] as i64])) {
                    Known::Constant(c) => self.pool.place(&mut self.graph, &c),
                    _ => return None,
                },
            };
            parts.push(part);
        }
        Some(if parts.len() == 1 { parts[0] } else { self.made(&Concat { axis: 0 }, &parts, name) })
    }
}

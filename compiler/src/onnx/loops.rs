//! `Loop` and `Scan`, both of which become loops of the graph: over slices along axis 0 in either direction, other axes by transposes outside.

use onnx_protobuf::GraphProto;

use super::attribute;
use super::model::Importer;
use super::node::At;
use super::problems::Problem;
use super::scope::Known;
use super::unroll::Start;
use crate::graph::{self, Control, Value};
use crate::ops::{Attribute, Attributes};
use crate::tensor::{DType, Shape, Tensor, Type};

/// First opset whose `Scan` has no batch axis.
const SCAN_WITHOUT_BATCH: i64 = 9;

/// Axes and directions of what a `Scan` reads and gives, by position.
struct Slices {
    input_axes: Vec<i64>,
    output_axes: Vec<i64>,
    backward: Vec<bool>,
}

impl Importer<'_> {
    /// The results of a `Loop`.
    pub(super) fn repeat(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        let n = at.node;
        let failed = || Ok(vec![Known::Failed; n.output.len()]);
        let body = self.graph_of(at, "body")?;
        let mut inputs = n.input.iter().map(|name| self.operand(name)).collect::<Result<Vec<_>, _>>()?;
        for (known, _) in inputs.iter_mut().zip(&n.input).skip(2).filter(|(_, name)| !name.is_empty()) {
            // A state may be an optional value that there is not.
            known.get_or_insert(Known::Absent);
        }
        inputs.resize(inputs.len().max(2), None);
        let n_states = inputs.len() - 2;
        if body.input.len() != n_states + 2 || body.output.len() < n_states + 1 {
            let (i, o) = (body.input.len(), body.output.len());
            return Err(Problem::invalid(format!("the body of a loop with {n_states} states has {i} inputs and {o} outputs")));
        }
        if inputs.iter().flatten().any(|k| matches!(k, Known::Failed)) {
            self.survey_graphs(n, at.frame);
            return failed();
        }
        let Some(states) = inputs.split_off(2).into_iter().collect() else {
            return Err(Problem::invalid("a state of the loop is missing"));
        };
        let start = Start { condition: inputs[1].take(), trip: inputs[0].take(), states };
        if Self::must_unroll(&start, body) {
            return self.unrolled(at, body, start);
        }
        let before = self.problems.clone();
        let rolled = self.rolled(at, body, start.clone());
        if (rolled.is_ok() && self.problems.len() == before.len()) || !self.may_unroll(&start) {
            return rolled;
        }
        let rolled_problems = std::mem::replace(&mut self.problems, before);
        let n_problems = self.problems.len();
        match self.unrolled(at, body, start) {
            Ok(results) if self.problems.len() == n_problems => Ok(results),
            _ => {
                self.problems = rolled_problems;
                rolled
            }
        }
    }

    /// The results of a `Loop` that becomes one of the graph.
    fn rolled(&mut self, at: At<'_>, body: &GraphProto, start: Start) -> Result<Vec<Known>, Problem> {
        let n = at.node;
        let failed = || Ok(vec![Known::Failed; n.output.len()]);
        let Start { mut trip, condition, states: given } = start;
        let n_states = given.len();
        // Without a condition to begin with, what the body says of it does not count.
        let ignored = condition.is_none();
        let condition = match condition {
            Some(known) => self.scalar(known)?,
            None => Known::constant("true", Tensor::from_bools(&[], [true])),
        };
        if condition.tensor(&self.graph).is_some_and(|t| t.len() == 1 && t.to_ints()[0] == 0) {
            trip = Some(Known::constant("zero", Tensor::scalar(0i64)));
        }
        let mut states = vec![];
        for known in given {
            let Some(v) = self.value(&known) else { return Err(Problem::invalid("a state of the loop is missing")) };
            states.push(v);
        }
        let mut types = vec![
            (body.input[0].name.clone(), Type::fixed(DType::I64, &[]), None),
            (body.input[1].name.clone(), Type::fixed(DType::Bool, &[]), None),
        ];
        types.extend(states.iter().zip(&body.input[2..]).map(|(&v, i)| (i.name.clone(), self.graph.ty(v).clone(), Some(v))));
        let values = self.open(&body_name(body), &types);
        self.states_vary(&states, &values[2..]);
        let mut known: Vec<Known> = values.iter().map(|&v| Known::Value(v)).collect();
        // An iteration runs only where the condition holds.
        known[1] = Known::constant("true", Tensor::from_bools(&[], [true]));
        let outputs = self.read_body(body, known, at.frame);
        let again = match &outputs {
            Ok(outputs) => self.scalar(outputs[0].clone()),
            Err(_) => Ok(Known::Failed),
        };
        let holds = |k: &Known, g: &graph::Graph| k.tensor(g).is_some_and(|t| t.len() == 1 && t.to_ints()[0] != 0);
        let forever = again.as_ref().is_ok_and(|k| holds(k, &self.graph)) || ignored;
        let named = match (&outputs, &again) {
            (Ok(outputs), Ok(again)) => {
                let again = if forever { Known::constant("true", Tensor::from_bools(&[], [true])) } else { again.clone() };
                let outputs: Vec<Known> = [again].into_iter().chain(outputs[1..].iter().cloned()).collect();
                self.named_outputs(body, &outputs)
            }
            _ => None,
        };
        let alike = self.vary_alike(named.as_deref().and_then(|n| n.get(1..)).unwrap_or_default(), &values[2..]);
        let mut read = self.close(named.clone().unwrap_or_default());
        let outputs = outputs?;
        again?;
        alike?;
        if named.is_none() {
            tensors_only(&outputs)?;
            for known in trip.iter().chain([&condition]) {
                self.depends_on_values(known);
            }
            return failed();
        }
        let mut conditional = !(forever && condition.tensor(&self.graph).is_some());
        if conditional && let Some(n) = self.iterations(&read, trip.as_ref(), &condition, &states) {
            trip = Some(Known::constant("iterations", Tensor::scalar(n)));
            conditional = false;
        }
        let mut operands = vec![trip.as_ref().and_then(|k| self.value(k))];
        if conditional {
            operands.push(self.value(&condition));
        } else {
            let inputs: Vec<usize> = (0..read.graph.inputs().len()).filter(|&i| i != 1).collect();
            let outputs: Vec<usize> = (1..read.graph.outputs().len()).collect();
            read.graph = read.graph.select(&inputs, &outputs);
        }
        operands.extend(states.iter().map(|&v| Some(v)));
        operands.extend(read.captured.iter().map(|&v| Some(v)));
        let (names, label) = self.names(at, body.output.len() - 1);
        let names = if conditional { [vec![String::new()], names].concat() } else { names };
        let n_states = n_states + usize::from(conditional);
        let l = graph::Loop { body: read.graph, n_states, n_scanned: 0, conditional, backward: vec![] };
        match self.add_control(Control::Loop(Box::new(l)), &operands, &names, &label) {
            Ok(results) => {
                let results: Vec<Known> = results[usize::from(conditional)..].iter().take(n.output.len()).cloned().collect();
                for (known, v) in results.iter().zip(&states) {
                    self.varies_as(known, *v);
                }
                Ok(results)
            }
            Err(e) => {
                for known in trip.iter().chain([&condition]) {
                    self.depends_on_values(known);
                }
                self.no_control("Loop", &operands, e)?;
                failed()
            }
        }
    }

    /// The results of a `Scan`.
    pub(super) fn scan(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        let n = at.node;
        let failed = || Ok(vec![Known::Failed; n.output.len()]);
        let body = self.graph_of(at, "body")?;
        let mut inputs = n.input.iter().map(|name| self.operand(name)).collect::<Result<Vec<_>, _>>()?;
        let has_batch = at.frame.opset < SCAN_WITHOUT_BATCH;
        if has_batch {
            if inputs.first().is_some_and(Option::is_some) {
                return Err(Problem::unsupported("unsupported-form", "`Scan` with lengths of sequences cannot be compiled"));
            }
            inputs = inputs.split_off(1.min(inputs.len()));
        }
        if inputs.iter().flatten().any(|k| matches!(k, Known::Failed)) {
            self.survey_graphs(n, at.frame);
            return failed();
        }
        let mut values = vec![];
        for known in &inputs {
            let v = known.as_ref().and_then(|k| self.value(k));
            values.push(v.ok_or_else(|| Problem::invalid("an operand of the scan is missing"))?);
        }
        let n_scanned = self.ints_of(at, "num_scan_inputs")?.and_then(|list| usize::try_from(*list.first()?).ok());
        let n_scanned = n_scanned.ok_or_else(|| Problem::invalid("`Scan` has no `num_scan_inputs`"))?;
        let fits =
            n_scanned > 0 && n_scanned <= values.len() && body.input.len() == values.len() && body.output.len() + n_scanned >= values.len();
        if !fits {
            let (i, o, all) = (body.input.len(), body.output.len(), values.len());
            let message = format!("the body of a scan over {n_scanned} of {all} operands has {i} inputs and {o} outputs");
            return Err(Problem::invalid(message));
        }
        let all: Vec<(String, Value)> = values.iter().map(|&v| (self.graph.name_of(v).to_owned(), v)).collect();
        self.vary_alike(&all, &[])?;
        let scanned = values.split_off(values.len() - n_scanned);
        let n_outputs = body.output.len() - values.len();
        let list = |this: &Self, name: &str, n: usize| -> Result<Vec<i64>, Problem> {
            let list = this.ints_of(at, name)?.unwrap_or_default();
            match list.len() {
                0 => Ok(vec![0; n]),
                m if m == n => Ok(list),
                m => Err(Problem::invalid(format!("`{name}` has {m} elements, not {n}"))),
            }
        };
        let [inward, outward] = if has_batch { ["directions", ""] } else { ["scan_input_directions", "scan_output_directions"] };
        let mut backward = list(self, inward, n_scanned)?;
        backward.extend(list(self, outward, n_outputs)?);
        let slices = Slices {
            input_axes: list(self, "scan_input_axes", n_scanned)?,
            output_axes: list(self, "scan_output_axes", n_outputs)?,
            backward: backward.into_iter().map(|b| b != 0).collect(),
        };
        let (names, label) = self.names(at, body.output.len());
        if !has_batch {
            let results = self.scan_values(at, body, (&values, &scanned), &slices, (&names, &label))?;
            return Ok(results.map_or(vec![Known::Failed; n.output.len()], |r| r.into_iter().take(n.output.len()).collect()));
        }
        // A loop over the batch around the scan, whose states and slices are slices of the operands.
        let all: Vec<Value> = values.iter().chain(&scanned).copied().collect();
        let mut types = vec![("batch".to_owned(), Type::fixed(DType::I64, &[]), None)];
        for &v in &all {
            let ty = self.graph.ty(v);
            let Some(inner) = ty.shape.0.get(1..) else { return Err(Problem::invalid("an operand of the scan has no batch axis")) };
            types.push((self.graph.name_of(v).to_owned(), ty.with_dims(inner.iter().cloned()), Some(v)));
        }
        let inner = self.open("batch", &types);
        let (states, scanned) = inner[1..].split_at(values.len());
        let inner_names: Vec<String> = body.output.iter().map(|o| o.name.clone()).collect();
        let results = self.scan_values(at, body, (states, scanned), &slices, (&inner_names, ""));
        let outputs: Option<Vec<(String, Value)>> = match &results {
            Ok(Some(results)) => inner_names.iter().cloned().zip(results).map(|(name, k)| Some((name, self.value(k)?))).collect(),
            _ => None,
        };
        let read = self.close(outputs.unwrap_or_default());
        if results?.is_none() {
            return failed();
        }
        let mut operands: Vec<Option<Value>> = vec![None];
        operands.extend(all.iter().chain(&read.captured).map(|&v| Some(v)));
        let l = graph::Loop { body: read.graph, n_states: 0, n_scanned: all.len(), conditional: false, backward: vec![] };
        match self.add_control(Control::Loop(Box::new(l)), &operands, &names, &label) {
            Ok(results) => Ok(results.into_iter().take(n.output.len()).collect()),
            Err(e) => {
                self.no_control("Scan", &operands, e)?;
                failed()
            }
        }
    }

    /// The results of a scan without batch over values of the innermost graph; `None` if its body failed.
    fn scan_values(
        &mut self,
        at: At<'_>,
        body: &GraphProto,
        (states, scanned): (&[Value], &[Value]),
        slices: &Slices,
        (names, label): (&[String], &str),
    ) -> Result<Option<Vec<Known>>, Problem> {
        let mut fronts = vec![];
        for (&v, &axis) in scanned.iter().zip(&slices.input_axes) {
            fronts.push(self.lead_with(v, axis)?);
        }
        let mut types = vec![("iteration".to_owned(), Type::fixed(DType::I64, &[]), None)];
        types.extend(states.iter().zip(&body.input).map(|(&v, i)| (i.name.clone(), self.graph.ty(v).clone(), Some(v))));
        for (&v, i) in fronts.iter().zip(&body.input[states.len()..]) {
            let ty = self.graph.ty(v);
            types.push((i.name.clone(), Type::new(ty.dtype, Shape(ty.shape.0[1..].to_vec())), Some(v)));
        }
        let values = self.open(&body_name(body), &types);
        let outputs = self.read_body(body, values[1..].iter().map(|&v| Known::Value(v)).collect(), at.frame);
        let named = outputs.as_ref().ok().and_then(|outputs| self.named_outputs(body, outputs));
        let alike = self.vary_alike(named.as_deref().unwrap_or_default(), &[]);
        let read = self.close(named.clone().unwrap_or_default());
        let outputs = outputs?;
        alike?;
        if named.is_none() {
            tensors_only(&outputs)?;
            return Ok(None);
        }
        let mut operands = vec![None];
        operands.extend(states.iter().chain(&fronts).chain(&read.captured).map(|&v| Some(v)));
        let l = graph::Loop {
            body: read.graph,
            n_states: states.len(),
            n_scanned: scanned.len(),
            conditional: false,
            backward: slices.backward.clone(),
        };
        let mut results = match self.add_control(Control::Loop(Box::new(l)), &operands, names, label) {
            Ok(results) => results,
            Err(e) => {
                self.no_control("Scan", &operands, e)?;
                return Ok(None);
            }
        };
        for (known, &axis) in results[states.len()..].iter_mut().zip(&slices.output_axes) {
            let Known::Value(v) = *known else { continue };
            if axis != 0 && !self.graph.name_of(v).is_empty() {
                *known = Known::Value(self.put_back(v, axis)?);
            }
        }
        Ok(Some(results))
    }

    /// A value with one axis in front of the others.
    fn lead_with(&mut self, v: Value, axis: i64) -> Result<Value, Problem> {
        let rank = self.graph.ty(v).rank();
        let axis = normal(axis, rank)?;
        if axis == 0 {
            return Ok(v);
        }
        let perm = [axis].into_iter().chain((0..rank).filter(|&a| a != axis)).map(|a| a as i64).collect();
        self.transposed(v, perm)
    }

    /// A value whose first axis becomes another one.
    fn put_back(&mut self, v: Value, axis: i64) -> Result<Value, Problem> {
        let rank = self.graph.ty(v).rank();
        let axis = normal(axis, rank)?;
        let mut perm: Vec<i64> = (1..rank as i64).collect();
        perm.insert(axis, 0);
        self.transposed(v, perm)
    }

    fn transposed(&mut self, v: Value, perm: Vec<i64>) -> Result<Value, Problem> {
        self.view("Transpose", v, Attributes([("perm".to_owned(), Attribute::Ints(perm))].into()))
    }

    /// The integers of an attribute, if there is one.
    pub(super) fn ints_of(&self, at: At<'_>, name: &str) -> Result<Option<Vec<i64>>, Problem> {
        let found = at.node.attribute.iter().find(|a| a.name == name).and_then(|a| attribute::resolve(a, &at.frame.arguments));
        let Some(a) = found else { return Ok(None) };
        match attribute::read(name, a, None)? {
            Attribute::Int(x) => Ok(Some(vec![x])),
            Attribute::Ints(list) => Ok(Some(list)),
            _ => Err(Problem::invalid(format!("attribute `{name}` does not hold integers"))),
        }
    }
}

fn tensors_only(outputs: &[Known]) -> Result<(), Problem> {
    if outputs.iter().any(|k| matches!(k, Known::Sequence(_) | Known::Absent)) {
        return Err(Problem::unsupported("unsupported-form", "the body of the loop gives a sequence or an optional value"));
    }
    Ok(())
}

fn body_name(g: &GraphProto) -> String {
    if g.name.is_empty() { "body".to_owned() } else { g.name.clone() }
}

fn normal(axis: i64, rank: usize) -> Result<usize, Problem> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front).ok().filter(|&a| a < rank).ok_or_else(|| Problem::invalid(format!("axis {axis} of a value of rank {rank}")))
}

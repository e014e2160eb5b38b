//! Nodes: their operators, operands and types; what is known already is computed on the way, so that shapes are constants.

use std::collections::HashSet;

use onnx_protobuf::NodeProto;

use super::attribute;
use super::initializer::{self, MAX_ELEMENTS};
use super::model::{self, Frame, Importer};
use super::opset::{self, Draft};
use super::problems::Problem;
use super::refused;
use super::scope::Known;
use super::subgraph::CONTROL_FLOW;
use crate::graph::{self, NodeKind};
use crate::ops::{self, Attribute, AttributeError, Attributes, Expansion, InferError, Operands, Operator, Schema, Source};
use crate::tensor::{Dim, Tensor, Type};

/// Elements that all folding of large integer tensors may compute.
pub(super) const FOLD_BUDGET: usize = 1 << 23;
/// Results and operands of at most these sizes are always folded: shapes, and arithmetic on them.
const SMALL_RESULT: usize = 4096;
const SMALL_OPERAND: usize = 65_536;
/// Elements of an input whose values may be fixed because they decide a shape.
const SMALL_INPUT: usize = 1024;
/// Bytes of names of all inlined and repeated nodes, with `NODE_BYTES` for each node.
const MAX_SIZE: usize = 1 << 28;
pub(super) const NODE_BYTES: usize = 1 << 12;
/// Characters of a line in a diagnostic.
const MAX_LINE: usize = 300;

/// Attributes that say nothing about inference in its operator.
const IGNORED: &[(&str, &str)] = &[
    ("BatchNormalization", "momentum"),
    ("BatchNormalization", "consumed_inputs"),
    ("Dropout", "ratio"),
    ("Dropout", "seed"),
    ("Cast", "saturate"),
    ("InstanceNormalization", "consumed_inputs"),
];

/// A node while it is read: for its place and its line.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) node: &'a NodeProto,
    pub(super) frame: &'a Frame,
}

impl Importer<'_> {
    /// Reads a node and defines its results.
    pub(super) fn node(&mut self, n: &NodeProto, frame: &Frame) {
        let at = At { node: n, frame };
        let names: usize = n.output.iter().map(String::len).sum();
        if !self.calls.is_empty() || self.n_unrolled > 0 {
            self.size = self.size.saturating_add(NODE_BYTES + n.name.len() + names + frame.prefix.len() * (1 + n.output.len()));
        }
        let results = self.spend(0).and_then(|()| self.results(at));
        let results = results.unwrap_or_else(|p| {
            let place = if p.code == "too-large" { self.options.file.clone() } else { self.place(n, frame) };
            let d = p.at(place);
            self.problems.push(if d.code == "too-large" { d } else { d.with_line(self.line(at)) });
            vec![]
        });
        for (i, name) in n.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            self.scopes.define(name, results.get(i).cloned().unwrap_or(Known::Failed));
        }
    }

    /// Counts something towards the greatest size of a model.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Problem> {
        self.size = self.size.saturating_add(bytes);
        if self.size > MAX_SIZE {
            return Err(Problem::unsupported("too-large", "the model has too many nodes once functions are inlined and loops written out"));
        }
        Ok(())
    }

    fn results(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        let n = at.node;
        if let Some((key, f)) = self.function(n) {
            return self.call(key, f, n, at.frame);
        }
        let name = model::operator_name(n);
        if name == "Constant" {
            return Ok(vec![self.constant(at)?]);
        }
        if CONTROL_FLOW.contains(&name.as_str()) {
            return self.control_flow(at);
        }
        if let Some(results) = self.collection(at, &name)? {
            return Ok(results);
        }
        if ops::find(opset::newest_name(&name)).is_none() {
            self.unknown_operator(n, at.frame);
            return Ok(vec![]);
        }
        let mut inputs = n.input.iter().map(|name| self.operand(name)).collect::<Result<Vec<_>, _>>()?;
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        let mut outputs = n.output.clone();
        while outputs.last().is_some_and(String::is_empty) {
            outputs.pop();
        }
        let outputs = outputs.into_iter().map(|o| if o.is_empty() { o } else { format!("{}{o}", at.frame.prefix) }).collect();
        let mut attributes = Attributes::default();
        for a in &n.attribute {
            let Some(value) = attribute::resolve(a, &at.frame.arguments) else { continue };
            match attribute::read(&a.name, value, self.options.folder.as_deref()) {
                Ok(value) => drop(attributes.0.insert(a.name.clone(), value)),
                Err(p) => self.problem_at(at, p),
            }
        }
        let mut draft = Draft { op: opset::newest_name(&name).to_owned(), inputs, attributes, outputs };
        match opset::modernize(self, at, &mut draft)? {
            Some(results) => Ok(results),
            None => self.apply(at, draft),
        }
    }

    /// What an operand's name stands for; `None` if it is absent.
    pub(super) fn operand(&mut self, name: &str) -> Result<Option<Known>, Problem> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.scopes.find(name).map(|(depth, known)| (depth, known.clone())) {
            Some((_, Known::Absent)) => Ok(None),
            Some((depth, known)) => Ok(Some(self.captured(depth, known))),
            None => Err(Problem::invalid(format!("nothing gives operand `{name}`"))),
        }
    }

    fn constant(&mut self, at: At<'_>) -> Result<Known, Problem> {
        let name = at.node.output.first().map_or("", String::as_str);
        let mut values = at.node.attribute.iter().filter(|a| a.name.starts_with("value") || a.name == "sparse_value");
        let a = values.next().ok_or_else(|| Problem::invalid("`Constant` has no value"))?;
        let a = attribute::resolve(a, &at.frame.arguments).ok_or_else(|| Problem::invalid("`Constant` has no value"))?;
        if values.next().is_some() {
            return Err(Problem::invalid("`Constant` has several values"));
        }
        let tensor = match attribute::read(&a.name, a, self.options.folder.as_deref())? {
            Attribute::Tensor(t) => t,
            Attribute::Float(x) => Tensor::scalar(x),
            Attribute::Int(x) => Tensor::scalar(x),
            Attribute::Floats(x) => Tensor::from_slice(&[x.len()], &x),
            Attribute::Ints(x) => Tensor::from_slice(&[x.len()], &x),
            Attribute::String(_) | Attribute::Strings(_) => {
                return Err(initializer::strings());
            }
        };
        Ok(Known::constant(&format!("{}{name}", at.frame.prefix), tensor))
    }

    /// The results of an operator as of the newest opset. `draft.outputs` are names in the graph; empty ones are unused.
    pub(super) fn apply(&mut self, at: At<'_>, mut draft: Draft) -> Result<Vec<Known>, Problem> {
        let Some(schema) = ops::find(&draft.op) else {
            self.unknown_operator(at.node, at.frame);
            return Ok(vec![]);
        };
        let op = self.build(at, schema, &mut draft.attributes)?;
        let (least, greatest) = schema.arity();
        let count = draft.inputs.len();
        if count < least || count > greatest || draft.inputs.iter().enumerate().any(|(i, k)| k.is_none() && schema.is_required(i)) {
            let wanted =
                if count > greatest { format!("{greatest} operands at most") } else { format!("operands {}", schema.operands.join(", ")) };
            return Err(Problem::invalid(format!("`{}` wants {wanted}", schema.name)));
        }
        if draft.outputs.len() > schema.max_results() {
            return Err(Problem::invalid(format!("`{}` has {} results at most", schema.name, schema.max_results())));
        }
        let Some(op) = op else { return Ok(vec![]) };
        if draft.inputs.iter().flatten().any(|k| matches!(k, Known::Failed)) || draft.outputs.is_empty() {
            return Ok(vec![]);
        }
        for known in &mut draft.inputs {
            if let Some(number) = self.numbers(known) {
                *known = Some(number);
            }
        }
        let facts = draft.inputs.iter().map(|k| k.as_ref().and_then(|k| k.fact(&self.graph))).collect();
        let x = Operands { facts, n_results: draft.outputs.len() };
        let inferred = op.infer(&x);
        if let Err(InferError::NotConstant { operand }) = inferred
            && op.shape_operand() == Some(operand)
            && let Some(results) = self.extended(at, op.as_ref(), draft.clone(), operand)?
        {
            return Ok(results);
        }
        let types = match inferred {
            Err(InferError::NotConstant { operand }) if let Some(padded) = op.padded(&x, &self.intervals(&draft.inputs)) => {
                match self.padded(at, padded, draft.clone(), x)? {
                    Some(results) => return Ok(results),
                    None => return self.no_type(&draft, InferError::NotConstant { operand }).map(|()| vec![]),
                }
            }
            // Greatest extents need not fit where the actual ones do.
            Err(InferError::Invalid(_))
                if self.must_count(op.as_ref(), &draft.inputs, &x)
                    && op.counted(&x).is_some()
                    && let Some(results) = self.padded(at, op.clone(), draft.clone(), x.clone())? =>
            {
                return Ok(results);
            }
            types => types.or_else(|e| self.no_type(&draft, e).map(|()| vec![]))?,
        };
        if types.is_empty() {
            return Ok(vec![]);
        }
        if types.len() < draft.outputs.len() {
            return Err(Problem::invalid(format!("`{}` gives {} results here", schema.name, types.len())));
        }
        if let Some(ty) = types.iter().find(|ty| is_too_large(ty)) {
            return Err(Problem::invalid(format!("the result is too large: `{ty}`")));
        }
        if let (Some(axes), Some(Some(Known::Value(v)))) = (op.extents(&x), draft.inputs.first())
            && let Some(shape) = self.extents_of(*v, axes, &draft.outputs[0])
        {
            return Ok(vec![Known::Value(shape)]);
        }
        if self.must_count(op.as_ref(), &draft.inputs, &x)
            && op.counted(&x).is_some()
            && let Some(results) = self.padded(at, op.clone(), draft.clone(), x.clone())?
        {
            return Ok(results);
        }
        let varying = self.follow(op.as_ref(), &mut draft.inputs, &x, draft.outputs.len())?;
        if let Some(values) = self.fold(op.as_ref(), &x, &types, &draft.outputs) {
            return Ok(values.into_iter().zip(&draft.outputs).map(|(t, name)| Known::constant(name, t)).collect());
        }
        let results = match op.expand(&x) {
            Some(expansion) => self.inline(at, &expansion, &draft.inputs, &draft.outputs),
            None => self.add_node(at, op, &draft.inputs, draft.outputs.into_iter().zip(types).collect()),
        };
        self.varies(&results, varying);
        Ok(results)
    }

    /// A node of the file in a few words.
    pub(super) fn cause(&self, at: At<'_>, op: &str) -> String {
        let name = [&at.node.name].into_iter().chain(&at.node.output).find(|n| !n.is_empty());
        name.map_or(op.to_owned(), |name| format!("{op} {}", clip(name)))
    }

    /// A node of the graph, and its results.
    pub(super) fn add_node(
        &mut self,
        at: At<'_>,
        op: Box<dyn Operator>,
        inputs: &[Option<Known>],
        results: Vec<(String, Type)>,
    ) -> Vec<Known> {
        let mut operands = vec![];
        for k in inputs {
            operands.push(match k {
                Some(Known::Value(v)) => Some(*v),
                Some(Known::Constant(c)) => Some(self.pool.place(&mut self.graph, c)),
                _ => None,
            });
        }
        let label = if at.node.name.is_empty() { String::new() } else { format!("{}{}", at.frame.prefix, at.node.name) };
        let count = results.len();
        let node = self.graph.add_typed_node(op, &operands, results, &label);
        (0..count as u32).map(|result| Known::Value(graph::Value { node, result })).collect()
    }

    /// The results of an operator that is defined by others.
    fn inline(&mut self, at: At<'_>, expansion: &Expansion, inputs: &[Option<Known>], outputs: &[String]) -> Vec<Known> {
        let base = outputs.iter().find(|o| !o.is_empty()).cloned().unwrap_or_default();
        let mut done: Vec<Vec<Known>> = vec![];
        let source = |done: &[Vec<Known>], s: &Source, name: &str| match s {
            Source::Operand(i) => inputs[*i].clone().unwrap_or(Known::Absent),
            Source::Constant(t) => Known::constant(name, t.clone()),
            Source::Result(node, k) => done[*node][*k].clone(),
        };
        for (i, node) in expansion.nodes.iter().enumerate() {
            let operand = |(k, s): (usize, &Option<Source>)| s.as_ref().map(|s| source(&done, s, &format!("{base}.step{i}.operand{k}")));
            let operands: Vec<Option<Known>> = node.operands.iter().enumerate().map(operand).collect();
            let name = |k: usize| {
                let at = expansion.results.iter().position(|r| *r == Source::Result(i, k));
                let name = at.and_then(|at| outputs.get(at)).filter(|name| !name.is_empty()).cloned();
                let suffix = if k == 0 { String::new() } else { format!(".{k}") };
                name.unwrap_or_else(|| format!("{base}.step{i}{suffix}"))
            };
            let names: Vec<String> = (0..node.results.len()).map(name).collect();
            let facts = operands.iter().map(|k| k.as_ref().and_then(|k| k.fact(&self.graph))).collect();
            let inner = node.op.expand(&Operands { facts, n_results: names.len() });
            done.push(match inner {
                Some(inner) => self.inline(at, &inner, &operands, &names),
                None => self.add_node(at, node.op.clone(), &operands, names.into_iter().zip(node.results.iter().cloned()).collect()),
            });
        }
        expansion.results.iter().zip(outputs).map(|(s, name)| source(&done, s, name)).collect()
    }

    /// The operator with these attributes; `None` once its problems are reported.
    fn build(&mut self, at: At<'_>, schema: &'static Schema, attributes: &mut Attributes) -> Result<Option<Box<dyn Operator>>, Problem> {
        for (op, name) in IGNORED {
            if *op == schema.name && !schema.attributes.contains(name) {
                attributes.0.remove(*name);
            }
        }
        let mut sound = true;
        loop {
            match (schema.build)(&mut attributes.clone()) {
                Ok(op) => return Ok(sound.then_some(op)),
                Err(AttributeError::Unknown(name)) => {
                    sound = false;
                    attributes.0.remove(&name);
                    let message = format!("attribute `{name}` of `{}` is not supported", schema.name);
                    self.problem_at(at, Problem::unsupported("unsupported-attribute", message));
                }
                Err(AttributeError::Type(name, _)) if let Some(p) = unsupported_dtype(&name, attributes) => return Err(p),
                Err(e @ (AttributeError::Missing(_) | AttributeError::Type(..))) => return Err(Problem::invalid(e.to_string())),
            }
        }
    }

    /// The values of results that are known, if it is right to compute them now.
    fn fold(&mut self, op: &dyn Operator, x: &Operands, types: &[Type], names: &[String]) -> Option<Vec<Tensor>> {
        if let Some(values) = op.value_from_types(x) {
            return Some(values);
        }
        if names.iter().any(|name| self.options.computed.contains(name)) {
            return None;
        }
        let results: usize = types.iter().map(|ty| ty.dims().map(|d| d.iter().product::<usize>())).sum::<Option<usize>>()?;
        let mut operands = 0;
        for fact in x.facts.iter().flatten() {
            operands += fact.value.as_ref()?.len();
        }
        if results > SMALL_RESULT || operands > SMALL_OPERAND {
            let integers = types.iter().all(|ty| !ty.dtype.is_float());
            self.fold_budget = self.fold_budget.checked_sub(results.saturating_add(operands)).filter(|_| integers)?;
        }
        let values = op.eval(x).ok()?;
        let typed = values.len() >= types.len().min(x.n_results) && values.iter().zip(types).all(|(t, ty)| t.ty() == *ty);
        typed.then_some(values)
    }

    /// Why an operator has no type. An unbound dimension is reported once for all operators.
    pub(super) fn no_type(&mut self, draft: &Draft, e: InferError) -> Result<(), Problem> {
        let operand = |i: usize| draft.inputs.get(i).and_then(Option::as_ref);
        let name = &draft.op;
        match e {
            InferError::UnboundDimension { operand: i, .. }
            | InferError::NotConstant { operand: i }
            | InferError::Unbounded { operand: i }
                if operand(i).is_some_and(|k| self.depends_on_unbound(k)) =>
            {
                Ok(())
            }
            InferError::UnboundDimension { .. } | InferError::NotConstant { .. } => {
                if let InferError::NotConstant { operand: i } = e
                    && let Some(k) = operand(i)
                {
                    self.depends_on_values(k);
                }
                let message = format!("a shape depends on the values of inputs, in `{name}`: {e}");
                Err(Problem::unsupported("dynamic-shape", message)
                    .with_help("export the model with fixed shapes, or make that input a constant"))
            }
            InferError::Unbounded { operand: i } => {
                if let Some(k) = operand(i) {
                    self.depends_on_values(k);
                }
                let message = format!("a shape depends on the values of inputs, in `{name}`: {e}");
                Err(Problem::unsupported("dynamic-shape", message)
                    .with_help("say the greatest value of the input that decides it, --at-most INPUT=N, or make that input a constant"))
            }
            InferError::MissingOperand { .. } | InferError::Invalid(_) => Err(Problem::invalid(format!("`{name}`: {e}"))),
            InferError::ElementType { .. } => Err(Problem::unsupported("unsupported-dtype", format!("`{name}`: {e}"))),
            InferError::Unsupported(_) => Err(Problem::unsupported("unsupported-form", format!("`{name}`: {e}"))),
        }
    }

    /// Whether a value is computed from an input with an unbound dimension; if so, that is remembered as a problem.
    pub(super) fn depends_on_unbound(&mut self, known: &Known) -> bool {
        let symbolic = |ty: &Type| ty.shape.0.iter().any(|d| matches!(d, Dim::Symbol(_)));
        let found = self.inputs_of(known).into_iter().any(|v| symbolic(self.graph_at(0).ty(v)));
        self.unbound |= found;
        found
    }

    /// Remembers the inputs that a value is computed from, if they are small.
    pub(super) fn depends_on_values(&mut self, known: &Known) {
        let inputs = self.inputs_of(known);
        let small = |ty: &Type| ty.dims().is_some_and(|d| d.iter().product::<usize>() <= SMALL_INPUT);
        if inputs.iter().all(|&v| small(self.graph_at(0).ty(v))) {
            let names: Vec<String> = inputs.into_iter().map(|v| self.graph_at(0).name_of(v).to_owned()).collect();
            self.deciding.extend(names);
        }
    }

    /// The inputs that a value is computed from.
    fn inputs_of(&self, known: &Known) -> Vec<graph::Value> {
        let Known::Value(v) = known else { return vec![] };
        let mut nodes = vec![v.node];
        let mut depth = self.regions.len();
        loop {
            let graph = self.graph_at(depth);
            let mut seen: HashSet<graph::NodeId> = nodes.iter().copied().collect();
            let (mut open, mut inputs) = (nodes, vec![]);
            while let Some(node) = open.pop() {
                if matches!(graph.node(node).kind, NodeKind::Input) {
                    inputs.push(graph::Value { node, result: 0 });
                }
                open.extend(graph.operands(node).into_iter().flatten().map(|v| v.node).filter(|&n| seen.insert(n)));
            }
            let Some(outer) = depth.checked_sub(1) else { return inputs };
            // What a body reads of the values around it, and what its loop begins with.
            nodes = self.regions[outer].sources(&inputs);
            depth = outer;
        }
    }

    /// Reports an operator that is not known.
    pub(super) fn unknown_operator(&mut self, n: &NodeProto, frame: &Frame) {
        let name = model::operator_name(n);
        let line = self.line(At { node: n, frame });
        let place = self.place(n, frame);
        self.problems.unsupported_operator(&name, || {
            let why = refused::reason(&name).map_or(String::new(), |why| format!(": {why}"));
            Problem::unsupported("unsupported-operator", format!("`{name}` cannot be compiled{why}")).at(place).with_line(line)
        });
    }

    pub(super) fn problem_at(&mut self, at: At<'_>, p: Problem) {
        let d = p.at(self.place(at.node, at.frame)).with_line(self.line(at));
        self.problems.push(d);
    }

    /// Where a node is, for diagnostics.
    pub(super) fn place(&self, n: &NodeProto, frame: &Frame) -> String {
        let node = match (n.name.as_str(), n.output.iter().find(|o| !o.is_empty())) {
            ("", Some(output)) => format!("{} giving {:?}", n.op_type, clip(output)),
            ("", None) => n.op_type.clone(),
            (name, _) => format!("node {:?}", clip(name)),
        };
        let function = self.calls.last().map_or(String::new(), |_| format!(" in {:?}", clip(frame.prefix.trim_end_matches('/'))));
        format!("{}: {node}{function}, opset {}", self.options.file, frame.opset)
    }

    /// The line of a node that is not in the graph.
    fn line(&self, at: At<'_>) -> String {
        let n = at.node;
        let results: Vec<String> =
            n.output.iter().map(|o| if o.is_empty() { "_".to_owned() } else { format!("%{}", graph::name(o)) }).collect();
        let operands = n.input.iter().map(|i| match (i.as_str(), self.scopes.find(i)) {
            ("", _) | (_, Some((_, Known::Absent))) => "_".to_owned(),
            (name, Some((_, Known::Constant(_)))) => format!("@{}", graph::name(name)),
            (name, _) => format!("%{}", graph::name(name)),
        });
        let mut line = format!("{} = {}({})", results.join(", "), model::operator_name(n), operands.collect::<Vec<_>>().join(", "));
        for a in &n.attribute {
            let value =
                attribute::resolve(a, &at.frame.arguments).filter(|a| a.t.is_none()).and_then(|v| attribute::read(&a.name, v, None).ok());
            if let Some(value) = value
                && line.len() < MAX_LINE
            {
                line += &format!(" {}={}", a.name, graph::attribute(&value));
            }
        }
        clip(&line)
    }
}

/// Why an attribute that names an element type does not.
fn unsupported_dtype(name: &str, attributes: &Attributes) -> Option<Problem> {
    match attributes.0.get(name) {
        Some(&Attribute::Int(number)) if ["to", "dtype", "output_dtype"].contains(&name) => {
            i32::try_from(number).ok().and_then(|number| initializer::dtype(number).err())
        }
        _ => None,
    }
}

/// At most so much of a text that a terminal line can take it.
fn clip(s: &str) -> String {
    match s.char_indices().nth(MAX_LINE) {
        Some((at, _)) => format!("{}...", &s[..at]),
        None => s.to_owned(),
    }
}

/// Whether the extents that are known exceed what any program could hold.
fn is_too_large(ty: &Type) -> bool {
    let fixed: Vec<i64> = ty.shape.0.iter().filter_map(Dim::fixed).map(|d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
    initializer::extents(&fixed).map_or(true, |(_, n)| n > MAX_ELEMENTS)
}

//! Operators with graphs inside. `If` with a constant condition becomes one of its branches, else a branch of the graph; loops are in
//! [`super::loops`]; others are looked through for what they need.

use std::fmt;

use onnx_protobuf::{GraphProto, NodeProto};

use super::attribute::{self, Arguments};
use super::binding::element_name;
use super::flex_attention;
use super::initializer;
use super::model::{self, Frame, Importer};
use super::node::At;
use super::opset;
use super::problems::Problem;
use super::region::Body;
use super::scope::Known;
use super::sequences;
use super::unequal::alike;
use crate::graph::{Branches, Control, Value};
use crate::ops;
use crate::tensor::DType;

/// Operators that have graphs inside.
pub(super) const CONTROL_FLOW: [&str; 5] = ["If", "Loop", "Scan", "SequenceMap", flex_attention::NAME];

/// The graphs inside a node.
pub(super) fn graphs<'a>(n: &'a NodeProto, arguments: &'a Arguments) -> impl Iterator<Item = &'a GraphProto> {
    n.attribute.iter().filter_map(|a| attribute::resolve(a, arguments)).flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// What a result of a branch consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Tensor,
    Nothing,
    Sequence(usize),
}

impl Form {
    fn of(known: &Known) -> Form {
        match known {
            Known::Sequence(elements) => Form::Sequence(elements.len()),
            Known::Absent => Form::Nothing,
            _ => Form::Tensor,
        }
    }

    /// Names of its values.
    fn names(self, name: &str) -> Vec<String> {
        match self {
            Form::Tensor => vec![name.to_owned()],
            Form::Nothing => vec![],
            Form::Sequence(n) => (0..n).map(|i| element_name(name, i)).collect(),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Tensor => f.write_str("a tensor"),
            Form::Nothing => f.write_str("an optional without a value"),
            Form::Sequence(n) => write!(f, "a sequence of {n}"),
        }
    }
}

/// Values as what they are parts of.
fn gathered(forms: &[Form], values: Vec<Known>) -> Vec<Known> {
    let mut values = values.into_iter();
    let mut one = || values.next().unwrap_or(Known::Failed);
    let gather = |form: &Form| match *form {
        Form::Tensor => one(),
        Form::Nothing => Known::Absent,
        Form::Sequence(n) => sequences::sequence((0..n).map(|_| one()).collect()),
    };
    forms.iter().map(gather).collect()
}

impl<'m> Importer<'m> {
    /// The results of an operator with graphs inside.
    pub(super) fn control_flow(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        match at.node.op_type.as_str() {
            "If" => self.branch(at),
            "Loop" => self.repeat(at),
            "Scan" => self.scan(at),
            "SequenceMap" => self.sequence_map(at),
            _ => self.flex_attention(at),
        }
    }

    /// The graph that an attribute of a node holds.
    pub(super) fn graph_of<'a>(&self, at: At<'a>, name: &str) -> Result<&'a GraphProto, Problem> {
        let found = at.node.attribute.iter().find(|a| a.name == name);
        let graph = found.and_then(|a| attribute::resolve(a, &at.frame.arguments)).and_then(|a| a.g.as_ref());
        graph.ok_or_else(|| Problem::invalid(format!("`{}` has no `{name}`", at.node.op_type)))
    }

    fn branch(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        let n = at.node;
        let condition = self.operand(n.input.first().map_or("", String::as_str))?;
        let condition = condition.ok_or_else(|| Problem::invalid("`If` has no condition"))?;
        let taken = match condition.tensor(&self.graph) {
            Some(t) if t.dtype() == DType::Bool && t.len() == 1 => t.to_ints()[0] != 0,
            Some(t) => return Err(Problem::invalid(format!("the condition is `{}`, not one `bool`", t.ty()))),
            None => return self.both_branches(at, &condition),
        };
        let name = if taken { "then_branch" } else { "else_branch" };
        let branch = self.graph_of(at, name)?;
        let outputs = model::output_names(branch);
        if outputs.len() != n.output.len() {
            return Err(Problem::invalid(format!("`{name}` has {} outputs, and the node {}", outputs.len(), n.output.len())));
        }
        self.scopes.push(false, self.regions.len());
        let decode = |t| initializer::decode(t, self.options.folder.as_deref());
        let values: Vec<_> = branch.initializer.iter().map(|t| (t.name.as_str(), decode(t))).collect();
        self.initializers(values, at.frame);
        self.sparse_initializers(branch);
        self.nodes(&branch.node, &outputs, at.frame);
        let mut results = vec![];
        for output in outputs {
            results.push(match self.operand(output) {
                Ok(known) => Ok(known.unwrap_or(Known::Absent)),
                Err(_) => Err(Problem::invalid(format!("nothing gives output `{output}` of `{name}`"))),
            });
        }
        self.scopes.pop();
        results.into_iter().collect()
    }

    /// A branch that is chosen at run time.
    fn both_branches(&mut self, at: At<'_>, condition: &Known) -> Result<Vec<Known>, Problem> {
        let n = at.node;
        let Known::Value(chosen) = *condition else {
            self.survey_graphs(n, at.frame);
            return Ok(vec![Known::Failed; n.output.len()]);
        };
        let mut bodies: Vec<Option<(Body, Vec<Form>)>> = vec![];
        let mut extents = vec![];
        for name in ["then_branch", "else_branch"] {
            let branch = self.graph_of(at, name)?;
            if branch.output.len() != n.output.len() {
                return Err(Problem::invalid(format!("`{name}` has {} outputs, and the node {}", branch.output.len(), n.output.len())));
            }
            self.open(name, &[]);
            // The second branch has the inputs of the first.
            let depth = self.regions.len() - 1;
            for v in bodies.first().and_then(Option::as_ref).map_or(vec![], |b| b.0.captured.clone()) {
                self.capture(depth, v);
            }
            let outputs = self.read_body(branch, vec![], at.frame);
            let outputs = outputs.unwrap_or_default();
            let forms: Vec<Form> = outputs.iter().map(Form::of).collect();
            let names: Vec<String> = branch.output.iter().map(|o| o.name.clone()).collect();
            let mut values = if outputs.len() == names.len() { self.spread(&names, &outputs) } else { None };
            if let Some(values) = &mut values {
                let (places, counts) = self.extents(values);
                values.extend(counts);
                extents.push(places);
            }
            let body = self.close(values.clone().unwrap_or_default());
            bodies.push(values.map(|_| (body, forms)));
        }
        let (Some(Some((mut else_branch, forms))), Some(Some((mut then_branch, others)))) = (bodies.pop(), bodies.pop()) else {
            // One of them may make sense for other values only.
            self.depends_on_values(condition);
            return Ok(vec![Known::Failed; n.output.len()]);
        };
        if let Some(i) = (0..forms.len()).find(|&i| forms[i] != others[i]) {
            self.depends_on_values(condition);
            let message = format!("the branches of `If` give `{}` as {} and as {}", n.output[i], others[i], forms[i]);
            return Err(Problem::unsupported("unsupported-form", message).with_help("make the condition a constant"));
        }
        let n_values = forms.iter().map(|form| form.names("").len()).sum();
        let Some(places) = alike([&mut then_branch, &mut else_branch], &extents, n_values, &self.cause(at, "If")) else {
            self.depends_on_values(condition);
            let (i, axis, cause) = extents.concat().swap_remove(0);
            let message = format!("`{cause}` decides an extent of `If` in one branch, axis {axis} of result {i}, and not in the other");
            return Err(Problem::unsupported("dynamic-shape", message).with_help("make the condition a constant"));
        };
        then_branch.capture_as(&else_branch);
        let mut operands: Vec<Option<Value>> = vec![Some(chosen)];
        operands.extend(then_branch.captured.iter().map(|&v| Some(v)));
        let control = Control::If(Box::new(Branches { then_branch: then_branch.graph, else_branch: else_branch.graph }));
        let (names, label) = self.names(at, n.output.len());
        let mut names: Vec<String> = forms.iter().zip(&names).flat_map(|(form, name)| form.names(name)).collect();
        let counts: Vec<String> = places.iter().map(|(i, axis, _)| format!("{}.extent{axis}", names[*i])).collect();
        names.extend(counts);
        match self.add_control(control, &operands, &names, &label) {
            Ok(mut results) => {
                let counts = results.split_off(n_values);
                self.extents_are(&results, places, &counts);
                Ok(gathered(&forms, results))
            }
            Err(e) => {
                self.depends_on_values(condition);
                self.no_control("If", &operands, e)?;
                Ok(vec![Known::Failed; n.output.len()])
            }
        }
    }

    /// The outputs of a body by name; `None` if one failed, or is no tensor.
    pub(super) fn named_outputs(&mut self, g: &GraphProto, outputs: &[Known]) -> Option<Vec<(String, Value)>> {
        if outputs.len() != g.output.len() {
            return None;
        }
        g.output.iter().zip(outputs).map(|(o, known)| Some((o.name.clone(), self.value(known)?))).collect()
    }

    /// The values of what these names stand for; `None` if something failed.
    fn spread(&mut self, names: &[String], all: &[Known]) -> Option<Vec<(String, Value)>> {
        let mut values = vec![];
        for (name, known) in names.iter().zip(all) {
            let parts = match known {
                Known::Sequence(elements) => elements.to_vec(),
                Known::Absent => vec![],
                known => vec![known.clone()],
            };
            for (name, known) in Form::of(known).names(name).into_iter().zip(parts) {
                values.push((name, self.value(&known)?));
            }
        }
        Some(values)
    }

    /// Names of a node's results in the graph, made up to so many, and its own.
    pub(super) fn names(&self, at: At<'_>, count: usize) -> (Vec<String>, String) {
        let prefixed = |s: &str| if s.is_empty() { String::new() } else { format!("{}{s}", at.frame.prefix) };
        let mut names: Vec<String> = at.node.output.iter().map(|o| prefixed(o)).collect();
        names.resize(count, String::new());
        (names, prefixed(&at.node.name))
    }

    /// Reports the operators that are not known in the graphs of a node that cannot be compiled.
    pub(super) fn survey_graphs(&mut self, n: &NodeProto, frame: &Frame) {
        for n in graphs(n, &frame.arguments).flat_map(|g| &g.node) {
            let name = model::operator_name(n);
            let known =
                name == "Constant" || sequences::OPERATORS.contains(&name.as_str()) || ops::find(opset::newest_name(&name)).is_some();
            if CONTROL_FLOW.contains(&name.as_str()) {
                self.survey_graphs(n, frame);
            } else if !known && self.function(n).is_none() {
                self.unknown_operator(n, frame);
            }
        }
    }
}

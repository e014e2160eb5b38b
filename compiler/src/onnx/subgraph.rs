//! Operators with graphs inside: `If` with a constant condition becomes one of its branches; the rest is looked through for what it needs.

use onnx_protobuf::{AttributeProto, GraphProto, NodeProto};

use super::attribute::{self, Arguments};
use super::initializer;
use super::model::{self, Frame, Importer};
use super::opset;
use super::problems::Problem;
use super::scope::Known;
use crate::ops;
use crate::tensor::DType;

/// Operators that have graphs inside.
pub(super) const CONTROL_FLOW: [&str; 4] = ["If", "Loop", "Scan", "SequenceMap"];

/// The graphs inside a node.
pub(super) fn graphs<'a>(n: &'a NodeProto, arguments: &'a Arguments) -> impl Iterator<Item = &'a GraphProto> {
    n.attribute.iter().filter_map(|a| attribute::resolve(a, arguments)).flat_map(|a| a.g.iter().chain(&a.graphs))
}

impl Importer<'_> {
    /// The results of an operator with graphs inside.
    pub(super) fn control_flow(&mut self, n: &NodeProto, frame: &Frame) -> Result<Vec<Known>, Problem> {
        if n.op_type != "If" {
            self.survey_graphs(n, frame);
            let help = "export the model without it, for instance unrolled or for a fixed length";
            return Err(Problem::unsupported("unsupported-operator", format!("`{}` cannot be compiled", n.op_type)).with_help(help));
        }
        let condition = self.operand(n.input.first().map_or("", String::as_str))?;
        let condition = condition.ok_or_else(|| Problem::invalid("`If` has no condition"))?;
        let taken = match condition.tensor(&self.graph) {
            Some(t) if t.dtype() == DType::Bool && t.len() == 1 => t.to_ints()[0] != 0,
            Some(t) => return Err(Problem::invalid(format!("the condition is `{}`, not one `bool`", t.ty()))),
            None => {
                self.survey_graphs(n, frame);
                if matches!(condition, Known::Failed) || self.depends_on_unbound(&condition) {
                    return Ok(vec![Known::Failed; n.output.len()]);
                }
                self.depends_on_values(&condition);
                let message = "`If` whose condition is not constant cannot be compiled".to_owned();
                let help = "export the model with the condition fixed";
                return Err(Problem::unsupported("unsupported-operator", message).with_help(help));
            }
        };
        let name = if taken { "then_branch" } else { "else_branch" };
        let find = |a: &&AttributeProto| a.name == name;
        let branch = n.attribute.iter().find(find).and_then(|a| attribute::resolve(a, &frame.arguments)).and_then(|a| a.g.as_ref());
        let branch = branch.ok_or_else(|| Problem::invalid(format!("`If` has no `{name}`")))?;
        let outputs = model::output_names(branch);
        if outputs.len() != n.output.len() {
            return Err(Problem::invalid(format!("`{name}` has {} outputs, and the node {}", outputs.len(), n.output.len())));
        }
        self.scopes.push(false);
        let decode = |t| initializer::decode(t, self.options.folder.as_deref());
        let values: Vec<_> = branch.initializer.iter().map(|t| (t.name.as_str(), decode(t))).collect();
        self.initializers(values, frame);
        self.sparse_initializers(branch);
        self.nodes(&branch.node, &outputs, frame);
        let results: Vec<Option<Known>> = outputs.iter().map(|name| self.scopes.find(name).cloned()).collect();
        self.scopes.pop();
        let missing = |output: &str| Problem::invalid(format!("nothing gives output `{output}` of `{name}`"));
        results.into_iter().zip(outputs).map(|(known, output)| known.ok_or_else(|| missing(output))).collect()
    }

    /// Reports the operators that are not known in the graphs of a node that cannot be compiled.
    fn survey_graphs(&mut self, n: &NodeProto, frame: &Frame) {
        for n in graphs(n, &frame.arguments).flat_map(|g| &g.node) {
            let name = model::operator_name(n);
            let known = name == "Constant" || ops::find(opset::newest_name(&name)).is_some();
            if CONTROL_FLOW.contains(&name.as_str()) {
                self.survey_graphs(n, frame);
            } else if !known && self.function(n).is_none() {
                self.unknown_operator(n, frame);
            }
        }
    }
}

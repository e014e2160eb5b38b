//! `FlexAttention`: two products and a softmax, with the graphs that change scores and probabilities read between them.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html>, version 1 of `ai.onnx.preview`.

use super::attribute;
use super::model::Importer;
use super::node::At;
use super::opset::Draft;
use super::problems::Problem;
use super::scope::Known;
use crate::ops::{Attribute, Attributes};

/// The operator with its domain.
pub(super) const NAME: &str = "ai.onnx.preview.FlexAttention";

impl Importer<'_> {
    /// The result of a `FlexAttention`.
    pub(super) fn flex_attention(&mut self, at: At<'_>) -> Result<Vec<Known>, Problem> {
        let mut operands = at.node.input.iter().map(|name| self.operand(name)).collect::<Result<Vec<_>, _>>()?.into_iter();
        let (Some(q), Some(k), Some(v), None) = (operands.next(), operands.next(), operands.next(), operands.next()) else {
            return Err(Problem::invalid("`FlexAttention` wants operands q, k, v"));
        };
        let mut attributes = Attributes::default();
        for a in at.node.attribute.iter().filter(|a| !["score_mod", "prob_mod"].contains(&a.name.as_str())) {
            let Some(value) = attribute::resolve(a, &at.frame.arguments) else { continue };
            attributes.0.insert(a.name.clone(), attribute::read(&a.name, value, None)?);
        }
        let name = self.names(at, 1).0.swap_remove(0);
        let apply = |this: &mut Self, op: &str, inputs: Vec<Option<Known>>, attributes: Attributes, output: String| {
            let results = this.apply(at, Draft { op: op.to_owned(), inputs, attributes, outputs: vec![output] })?;
            Ok::<Known, Problem>(results.into_iter().next().unwrap_or(Known::Failed))
        };
        let scores = apply(self, "ai.tinsmith.FlexScores", vec![q, k], attributes, format!("{name}.scores"))?;
        let scores = self.modified(at, "score_mod", scores)?;
        let axis = Attributes([("axis".to_owned(), Attribute::Int(-1))].into());
        let probs = apply(self, "Softmax", vec![Some(scores)], axis, format!("{name}.probs"))?;
        let probs = self.modified(at, "prob_mod", probs)?;
        let y = apply(self, "ai.tinsmith.FlexValues", vec![Some(probs), v], Attributes::default(), name)?;
        Ok(vec![y])
    }

    /// A value as a graph of the node changes it, where there is one; its type stays.
    fn modified(&mut self, at: At<'_>, name: &str, known: Known) -> Result<Known, Problem> {
        if !at.node.attribute.iter().any(|a| a.name == name) {
            return Ok(known);
        }
        let body = self.graph_of(at, name)?;
        if matches!(known, Known::Failed) {
            self.survey_graphs(at.node, at.frame);
            return Ok(known);
        }
        let ty = |this: &Self, known: &Known| known.fact(&this.graph).map(|f| f.ty);
        let before = ty(self, &known);
        let outputs = self.once(at, body, vec![known], name)?;
        let [after] = &outputs[..] else {
            return Err(Problem::invalid(format!("`{name}` has {} outputs, not one", outputs.len())));
        };
        if !matches!(after, Known::Failed) && ty(self, after) != before {
            let text = |ty: Option<crate::tensor::Type>| ty.map_or("no tensor".to_owned(), |ty| format!("`{ty}`"));
            return Err(Problem::invalid(format!("`{name}` makes {} of {}", text(ty(self, after)), text(before))));
        }
        Ok(after.clone())
    }
}

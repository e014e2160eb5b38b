//! What goes into and out of the graph of a model: tensors, of sequences one for each element.

use std::collections::{BTreeSet, HashSet};

use onnx_protobuf::GraphProto;

use super::model::{Importer, output_names, true_inputs};
use super::problems::Problem;
use super::scope::Known;
use super::{Form, ValueSignature, binding, initializer, sequences};
use crate::diagnostic::Severity;
use crate::graph::Value;
use crate::tensor::Type;

impl Importer<'_> {
    /// Makes the graph's inputs: tensors, and the elements of sequences.
    pub(super) fn inputs(&mut self, g: &GraphProto) {
        let mut inputs = vec![];
        let (mut collections, mut sequences) = (BTreeSet::new(), vec![]);
        let given: HashSet<&str> = true_inputs(g).into_iter().map(|v| v.name.as_str()).collect();
        for v in g.input.iter().filter(|v| given.contains(v.name.as_str()) || self.options.variables.contains(&v.name)) {
            if v.name.is_empty() || self.scopes.is_local(&v.name) {
                self.problem(Problem::invalid(format!("two inputs are named `{}`, or an input has no name", v.name)));
                continue;
            }
            self.scopes.define(&v.name, Known::Failed);
            match binding::declared(v) {
                Ok(s) if s.form == Form::Tensor => inputs.push(s),
                Ok(s) => {
                    collections.insert(s.name.clone());
                    match binding::elements(&s, self.options) {
                        Ok(Some(tensors)) => {
                            if let Some(t) = tensors.iter().find(|t| s.form.is_sequence() && g.input.iter().any(|v| v.name == t.name)) {
                                let message = format!("an element of `{}` would be named `{}`, as another input is", s.name, t.name);
                                self.problem(Problem::unsupported("unsupported-form", message));
                            } else {
                                if s.form.is_sequence() {
                                    sequences.push((s.name.clone(), inputs.len()..inputs.len() + tensors.len()));
                                }
                                inputs.extend(tensors);
                            }
                        }
                        Ok(None) => drop(self.scopes.define(&s.name, Known::Absent)),
                        Err(p) => self.problem(p),
                    }
                }
                Err(p) => self.problem(p),
            }
        }
        let (types, problems) = binding::bind(&inputs, &collections, self.options);
        problems.into_iter().for_each(|p| self.problem(p));
        for name in self.options.constants.keys().chain(self.options.at_most.keys()).filter(|name| !inputs.iter().any(|i| i.name == **name))
        {
            let message = format!("there is no input `{name}`");
            self.problem(Problem { code: "invalid-binding", severity: Severity::Input, message, help: None });
        }
        let known: Vec<Known> = inputs.iter().zip(types).map(|(input, ty)| self.input(input, ty)).collect();
        let mut known = known.into_iter();
        let mut at = 0;
        for (name, range) in sequences {
            self.define_inputs(&inputs[at..range.start], &mut known);
            at = range.end;
            let elements = known.by_ref().take(range.len()).collect();
            self.scopes.define(&name, sequences::sequence(elements));
        }
        self.define_inputs(&inputs[at..], &mut known);
    }

    /// An input of the graph, or the constant that it is.
    fn input(&mut self, input: &ValueSignature, ty: Option<Type>) -> Known {
        if let Some(t) = self.options.constants.get(&input.name) {
            if !binding::fits(input, t) {
                let message = format!("the value of input `{}` is `{}`, which it cannot be", input.name, t.ty());
                self.problem(Problem { code: "invalid-binding", severity: Severity::Input, message, help: None });
            }
            return Known::constant(&input.name, t.clone());
        }
        let Some(ty) = ty else {
            let message = format!("the rank of input `{}` is not declared", input.name);
            let help = format!("give its shape: --input-shape {}=N,N,...", input.name);
            self.problem(Problem::unsupported("unbound-dimension", message).with_help(help));
            return Known::Failed;
        };
        let fixed: Vec<i64> = ty.shape.0.iter().filter_map(|d| d.fixed()).map(|d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
        match initializer::extents(&fixed) {
            Ok(_) => Known::Value(self.graph.add_input(&input.name, ty)),
            Err(p) => {
                self.problem(Problem { message: format!("input `{}`: {}", input.name, p.message), ..p });
                Known::Failed
            }
        }
    }

    fn define_inputs(&mut self, inputs: &[ValueSignature], known: &mut impl Iterator<Item = Known>) {
        for (input, known) in inputs.iter().zip(known) {
            self.scopes.define(&input.name, known);
        }
    }

    /// Makes the graph's outputs: tensors, elements of sequences, then shapes that data decides.
    pub(super) fn outputs(&mut self, g: &GraphProto) {
        let mut parts: Vec<(String, Known)> = vec![];
        let mut names: HashSet<String> = output_names(g).into_iter().map(str::to_owned).collect();
        let mut seen = HashSet::new();
        let mut free = |wanted: String| {
            let name = (0..).map(|i| if i == 0 { wanted.clone() } else { format!("{wanted}.{i}") }).find(|n| names.insert(n.clone()));
            name.unwrap_or(wanted)
        };
        for o in &g.output {
            let name = o.name.as_str();
            if !seen.insert(name) {
                self.problem(Problem::invalid(format!("two outputs are named `{name}`")));
                continue;
            }
            match self.scopes.find(name).map(|found| found.1.clone()) {
                Some(Known::Sequence(elements)) => {
                    self.sequences.push(parts.len()..parts.len() + elements.len());
                    parts.extend(elements.iter().enumerate().map(|(i, k)| (free(binding::element_name(name, i)), k.clone())));
                }
                Some(Known::Absent) if binding::declared(o).is_ok_and(|s| s.form.is_optional()) => {}
                Some(Known::Absent) => self.problem(Problem::invalid(format!("output `{name}` has no value"))),
                Some(known) => parts.push((name.to_owned(), known)),
                None => self.problem(Problem::invalid(format!("nothing gives output `{name}`"))),
            }
        }
        if g.output.is_empty() {
            self.problem(Problem::invalid("the graph has no outputs"));
        } else if parts.is_empty() && self.problems.is_empty() {
            self.problem(Problem::unsupported("unsupported-form", "every output is an empty sequence or an optional without a value"));
        }
        let mut outputs: Vec<(String, Value)> = vec![];
        let mut shapes: Vec<(usize, Value)> = vec![];
        for (name, known) in parts {
            match known {
                Known::Value(v) => match self.actual(&name, v) {
                    Some((v, shape)) => {
                        shapes.push((outputs.len(), shape));
                        outputs.push((name, v));
                    }
                    None => outputs.push((name, v)),
                },
                Known::Constant(c) => outputs.push((name, self.pool.place(&mut self.graph, &c))),
                Known::Sequence(_) | Known::Failed | Known::Absent => {}
            }
        }
        for (output, shape) in shapes {
            let name = free(format!("{}.shape", outputs[output].0));
            self.shapes.push((output, outputs.len()));
            outputs.push((name, shape));
        }
        self.graph.set_outputs(outputs);
    }
}

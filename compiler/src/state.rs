//! Pairs of an input and an output that are one tensor between runs: `--state INPUT=OUTPUT`, for recurrent networks and caches.
//!
//! The graph stays a function of all its inputs; which of them the caller's state block holds is a matter of the interface and of the
//! memory plan.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::diagnostic::{Diagnostic, Severity};
use crate::graph::Graph;
use crate::source::Source;
use crate::tensor::Tensor;

/// One pair.
#[derive(Clone, Debug)]
pub struct State {
    /// Index into [`Graph::inputs`]: the value that the last run left.
    pub input: usize,
    /// Index into [`Graph::outputs`]: the value that the next run finds.
    pub output: usize,
    /// The value at the beginning of a stream; zeros where there is none.
    pub initial: Option<Tensor>,
}

/// The pairs that a configuration names, in the order of the inputs.
///
/// # Errors
/// Every pair that is none: names that the model does not have or that are used twice, types that differ.
pub fn resolve(source: &Source, config: &Config) -> Result<Vec<State>, Vec<Diagnostic>> {
    let graph = &source.graph;
    let mut problems = vec![];
    let mut states: Vec<State> = vec![];
    for (input, output) in &config.states {
        let place = format!("{}: state `{input}={output}`", source.file);
        let mut wrong = |message: String, help: Option<String>| {
            let problem = Diagnostic::new("bad-state", Severity::Input, &place, message);
            problems.push(match help {
                Some(help) => problem.with_help(help),
                None => problem,
            });
        };
        let inputs: Vec<&str> = graph.inputs().iter().map(|&v| graph.name_of(v)).collect();
        let i = inputs.iter().position(|name| name == input);
        let j = graph.output_names().iter().position(|name| name == output);
        if i.is_none() {
            wrong(format!("the model has no input `{input}`"), Some(format!("its inputs are {}", listed(&inputs))));
        }
        if j.is_none() {
            let outputs: Vec<&str> = graph.output_names().iter().map(String::as_str).collect();
            wrong(format!("the model has no output `{output}`"), Some(format!("its outputs are {}", listed(&outputs))));
        }
        let (Some(i), Some(j)) = (i, j) else { continue };
        if states.iter().any(|s| s.input == i) {
            wrong(format!("input `{input}` is another state too"), None);
        } else if states.iter().any(|s| s.output == j) {
            wrong(format!("output `{output}` is another state's next value too"), None);
        } else if source.shapes.iter().any(|&(output, shape)| output == j || shape == j) {
            wrong(format!("the shape of output `{output}` depends on data"), None);
        } else {
            let (before, after) = (graph.ty(graph.inputs()[i]), graph.ty(graph.outputs()[j]));
            if before == after {
                states.push(State { input: i, output: j, initial: source.defaults.get(input).cloned() });
            } else {
                wrong(format!("input `{input}` is `{before}`, and output `{output}` is `{after}`; they must have one type"), None);
            }
        }
    }
    states.sort_by_key(|s| s.input);
    if problems.is_empty() { Ok(states) } else { Err(problems) }
}

/// The values that the states of a graph begin with, by the inputs' names.
pub fn initial(graph: &Graph, states: &[State]) -> BTreeMap<String, Tensor> {
    let one = |s: &State| {
        let v = graph.inputs()[s.input];
        let zeros = || Tensor::zeros(graph.ty(v).dtype, &graph.ty(v).dims().unwrap_or_default());
        (graph.name_of(v).to_owned(), s.initial.clone().unwrap_or_else(zeros))
    };
    states.iter().map(one).collect()
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

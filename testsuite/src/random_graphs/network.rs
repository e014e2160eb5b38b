//! A graph as lines of text that can be taken apart.

use std::collections::HashSet;
use std::fmt::Write;

use tinsmith::tensor::DType;

/// A value of the graph.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    /// With its sigil.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<usize>,
    /// Whether its elements are the same however sums are ordered.
    pub exact: bool,
}

impl Variable {
    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// As in text: `f32[2,3]`.
    pub fn ty(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        format!("{}[{}]", self.dtype, dims.join(","))
    }
}

/// One operator or constant.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it gives.
    pub results: Vec<Variable>,
    /// Right of the equals sign; also the type, of a constant.
    pub text: String,
}

/// A graph.
#[derive(Clone, Default, Debug)]
pub struct Network {
    /// Inputs.
    pub inputs: Vec<Variable>,
    /// Constants and operators in order.
    pub lines: Vec<Line>,
    /// Names of outputs, with sigils; may repeat.
    pub outputs: Vec<String>,
}

impl Network {
    /// The graph's text.
    pub fn text(&self) -> String {
        let inputs: Vec<String> = self.inputs.iter().map(|v| format!("{}: {}", v.name, v.ty())).collect();
        let outputs: Vec<String> = self.outputs.iter().enumerate().map(|(i, name)| format!("{name} as out{i}")).collect();
        self.written("random", &inputs, &outputs) + "\n"
    }

    /// The text of a branch or of the body of a loop, which owns it.
    pub(super) fn body(&self, name: &str) -> String {
        let inputs: Vec<String> = self.inputs.iter().map(|v| format!("{}: {}", v.name, v.ty())).collect();
        self.written(name, &inputs, &self.outputs.iter().enumerate().map(|(i, o)| format!("{o} as {name}{i}")).collect::<Vec<_>>())
    }

    fn written(&self, name: &str, inputs: &[String], outputs: &[String]) -> String {
        let mut text = format!("graph @{name}({}) -> ({}) {{\n", inputs.join(", "), outputs.join(", "));
        for line in &self.lines {
            let names: Vec<&str> = line.results.iter().map(|v| v.name.as_str()).collect();
            let _ = writeln!(text, "  {} = {}", names.join(", "), line.text);
        }
        text + "}"
    }

    /// What [`super::shrink`] makes smaller.
    pub(super) fn weight(&self) -> (usize, usize, usize) {
        let operators = self.lines.iter().filter(|l| !l.text.starts_with("const")).count();
        (operators + self.outputs.len(), self.lines.len(), self.inputs.len())
    }

    /// Whether a line or an output reads a value.
    fn is_read(&self, name: &str) -> bool {
        self.outputs.iter().any(|o| o == name) || self.lines.iter().any(|l| reads(&l.text, name))
    }

    /// Removes lines and inputs that nothing reads.
    fn without_dead(mut self) -> Self {
        while let Some(i) = self.lines.iter().rposition(|l| !l.results.iter().any(|v| self.is_read(&v.name))) {
            self.lines.remove(i);
        }
        let read: HashSet<String> = self.inputs.iter().filter(|v| self.is_read(&v.name)).map(|v| v.name.clone()).collect();
        self.inputs.retain(|v| read.contains(&v.name));
        self
    }

    /// Networks like this one with something taken away.
    pub(super) fn reductions(&self, _seed: u64) -> Vec<Network> {
        let mut list = vec![self.clone().without_dead()];
        for i in 0..self.outputs.len() {
            if self.outputs.len() > 1 {
                let mut n = self.clone();
                n.outputs.remove(i);
                list.push(n.without_dead());
            }
        }
        // The output moves to what its operator reads.
        for (i, output) in self.outputs.iter().enumerate() {
            let Some(line) = self.lines.iter().find(|l| l.results.iter().any(|v| v.name == *output)) else { continue };
            for v in self.lines.iter().flat_map(|l| &l.results).filter(|v| v.name.starts_with('%') && reads(&line.text, &v.name)) {
                let mut n = self.clone();
                n.outputs[i] = v.name.clone();
                list.push(n.without_dead());
            }
        }
        for (i, line) in self.lines.iter().enumerate() {
            if line.text.starts_with("const") {
                continue;
            }
            let mut n = self.clone();
            n.lines.remove(i);
            let wanted: Vec<Variable> = line.results.iter().filter(|v| n.is_read(&v.name)).cloned().collect();
            n.inputs.extend(wanted);
            list.push(n.without_dead());
            // An operator whose result is like one of its operands is left out.
            for from in self.inputs.iter().chain(self.lines.iter().flat_map(|l| &l.results)) {
                if let [to] = &line.results[..]
                    && reads(&line.text, &from.name)
                    && from.dims == to.dims
                    && from.dtype == to.dtype
                {
                    let mut n = self.clone();
                    n.lines.remove(i);
                    for l in &mut n.lines {
                        l.text = renamed(&l.text, &to.name, &from.name);
                    }
                    for o in &mut n.outputs {
                        *o = renamed(o, &to.name, &from.name);
                    }
                    list.push(n.without_dead());
                }
            }
        }
        list
    }
}

/// The pieces of a line between characters that names do not have, with those characters.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive([' ', ',', '(', ')', '='])
}

fn bare(token: &str) -> &str {
    token.trim_end_matches([' ', ',', '(', ')', '='])
}

/// Whether a line's right side names a value.
pub(super) fn reads(text: &str, name: &str) -> bool {
    tokens(text).any(|t| bare(t) == name)
}

/// The right side of a line with another name for a value.
pub(super) fn renamed(text: &str, from: &str, to: &str) -> String {
    tokens(text).map(|t| if bare(t) == from { format!("{to}{}", &t[from.len()..]) } else { t.to_owned() }).collect()
}

//! Functions of the model, inlined where they are called.

use onnx_protobuf::{FunctionProto, NodeProto};

use super::attribute::{self, Arguments};
use super::model::{self, Frame, Importer};
use super::problems::Problem;
use super::scope::Known;

/// Functions within functions.
const MAX_DEPTH: usize = 32;
/// Bytes that the names of one function's values, or one iteration's, get in front.
pub(super) const MAX_PREFIX_BYTES: usize = 256;

/// What a function is called by: domain, name, overload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key(String, String, String);

impl Key {
    pub(super) fn of(domain: &str, name: &str, overload: &str) -> Key {
        let domain = if model::is_default(domain) { "" } else { domain };
        Key(domain.to_owned(), name.to_owned(), overload.to_owned())
    }
}

impl<'m> Importer<'m> {
    /// The function that a node calls.
    pub(super) fn function(&self, n: &NodeProto) -> Option<(Key, &'m FunctionProto)> {
        if self.functions.is_empty() {
            return None;
        }
        let key = Key::of(&n.domain, &n.op_type, &n.overload);
        self.functions.get(&key).map(|&f| (key, f))
    }

    /// The results of a call.
    pub(super) fn call(&mut self, key: Key, f: &'m FunctionProto, n: &NodeProto, frame: &Frame) -> Result<Vec<Known>, Problem> {
        if self.calls.contains(&key) {
            return Err(Problem::invalid(format!("function `{}` calls itself", f.name)));
        }
        if self.calls.len() >= MAX_DEPTH {
            return Err(Problem::unsupported("too-large", format!("functions are nested more than {MAX_DEPTH} deep")));
        }
        if n.input.len() > f.input.len() || n.output.len() > f.output.len() {
            let message = format!("function `{}` has {} inputs and {} outputs", f.name, f.input.len(), f.output.len());
            return Err(Problem::invalid(message));
        }
        let mut arguments = Arguments::new();
        for a in &n.attribute {
            if let Some(value) = attribute::resolve(a, &frame.arguments) {
                arguments.insert(a.name.clone(), value.clone());
            }
        }
        for a in &f.attribute_proto {
            arguments.entry(a.name.clone()).or_insert_with(|| a.clone());
        }
        let mut inputs = vec![];
        for (i, name) in f.input.iter().enumerate() {
            inputs.push((name, self.operand(n.input.get(i).map_or("", String::as_str))?.unwrap_or(Known::Absent)));
        }
        let version = model::opset(&f.opset_import);
        let opset = if version.is_some() { self.opset(version, &format!("function `{}`", f.name)) } else { frame.opset };
        let name = [&n.name].into_iter().chain(&n.output).find(|name| !name.is_empty()).unwrap_or(&f.name);
        let mut prefix = format!("{}{name}/", frame.prefix);
        if prefix.len() > MAX_PREFIX_BYTES {
            prefix.clone_from(&frame.prefix);
        }
        let inner = Frame { opset, arguments, prefix };
        let outputs: Vec<&str> = f.output.iter().map(String::as_str).collect();
        self.calls.push(key);
        self.scopes.push(true, self.regions.len());
        for (name, known) in inputs {
            self.scopes.define(name, known);
        }
        self.nodes(&f.node, &outputs, &inner);
        let results: Vec<Option<Known>> =
            outputs.iter().take(n.output.len()).map(|name| self.scopes.find(name).map(|found| found.1.clone())).collect();
        self.scopes.pop();
        self.calls.pop();
        let missing = |name: &str| Problem::invalid(format!("nothing gives output `{name}` of function `{}`", f.name));
        results.into_iter().zip(outputs).map(|(known, name)| known.ok_or_else(|| missing(name))).collect()
    }
}

//! What names stand for: values of the graph, constants that nothing needed yet, and values that could not be made.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::graph::{Graph, Value};
use crate::ops::Fact;
use crate::tensor::{DType, Tensor};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// A value of the graph.
    Value(Value),
    /// A constant, which enters the graph when something uses it.
    Constant(Rc<Constant>),
    /// So many values: a sequence.
    Sequence(Rc<Vec<Known>>),
    /// An optional value that there is not, as an input of a function that the call leaves out.
    Absent,
    /// The result of a node with a problem: users of it are not looked at further.
    Failed,
}

/// A constant that is perhaps in the graph.
#[derive(Debug)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) tensor: Tensor,
    // Where it is in the graph of a pool.
    value: Cell<Option<(u32, Value)>>,
}

impl Known {
    pub(super) fn constant(name: &str, tensor: Tensor) -> Known {
        Known::Constant(Rc::new(Constant { name: name.to_owned(), tensor, value: Cell::new(None) }))
    }

    /// What is known of it; `None` if it is no tensor, or failed.
    pub(super) fn fact(&self, graph: &Graph) -> Option<Fact> {
        match self {
            Known::Value(v) => Some(graph.fact(*v)),
            Known::Constant(c) => Some(c.tensor.clone().into()),
            Known::Sequence(_) | Known::Absent | Known::Failed => None,
        }
    }

    /// Its value, if it is a constant.
    pub(super) fn tensor<'a>(&'a self, graph: &'a Graph) -> Option<&'a Tensor> {
        match self {
            Known::Value(v) => graph.constant(*v),
            Known::Constant(c) => Some(&c.tensor),
            Known::Sequence(_) | Known::Absent | Known::Failed => None,
        }
    }
}

/// The names of one graph.
#[derive(Debug, Default)]
pub(super) struct Scope {
    names: HashMap<String, Known>,
    // Whether outer names are hidden, as they are in functions.
    isolated: bool,
    // How many bodies of branches and loops it is in.
    depth: usize,
}

/// The names of the graphs around a node, outermost first.
#[derive(Debug, Default)]
pub(super) struct Scopes(Vec<Scope>);

impl Scopes {
    pub(super) fn push(&mut self, isolated: bool, depth: usize) {
        self.0.push(Scope { isolated, depth, ..Scope::default() });
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// What a name stands for, and in how many bodies that is a value.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &Known)> {
        for scope in self.0.iter().rev() {
            if let Some(known) = scope.names.get(name) {
                return Some((scope.depth, known));
            }
            if scope.isolated {
                break;
            }
        }
        None
    }

    /// Defines a name in the innermost graph; whether it was new there.
    pub(super) fn define(&mut self, name: &str, known: Known) -> bool {
        let scope = self.0.last_mut().expect("an open scope");
        scope.names.insert(name.to_owned(), known).is_none()
    }

    /// Whether the innermost graph defines the name.
    pub(super) fn is_local(&self, name: &str) -> bool {
        self.0.last().is_some_and(|s| s.names.contains_key(name))
    }
}

/// Constants of the graph by content, so that equal ones are one.
#[derive(Debug, Default)]
pub(super) struct Pool {
    number: u32,
    found: HashMap<Key, Vec<Value>>,
}

type Key = (DType, Vec<usize>, Vec<u8>);

/// Bytes at both ends and in the middle that find equal constants before all bytes are compared.
const SAMPLE_BYTES: usize = 32;

impl Pool {
    /// The constants of another graph; no two graphs of an import have the same number.
    pub(super) fn new(number: u32) -> Self {
        Pool { number, ..Pool::default() }
    }

    /// The constant as a value of the graph.
    pub(super) fn place(&mut self, graph: &mut Graph, c: &Constant) -> Value {
        if let Some((number, v)) = c.value.get()
            && number == self.number
        {
            return v;
        }
        let bytes = c.tensor.bytes();
        let sample =
            [0, bytes.len() / 2, bytes.len().saturating_sub(SAMPLE_BYTES)].map(|at| &bytes[at..bytes.len().min(at + SAMPLE_BYTES)]);
        let same = self.found.entry((c.tensor.dtype(), c.tensor.dims().to_vec(), sample.concat())).or_default();
        let found = same.iter().copied().find(|&v| graph.constant(v) == Some(&c.tensor));
        let v = found.unwrap_or_else(|| {
            let v = graph.add_constant(&c.name, c.tensor.clone());
            same.push(v);
            v
        });
        c.value.set(Some((self.number, v)));
        v
    }
}

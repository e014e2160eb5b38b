//! Interprets a graph with each operator's `eval`: the oracle that compiled code is compared with.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use super::{Graph, NodeKind, Value, print};
use crate::ops::{self, Operands};
use crate::tensor::{Dim, Tensor, Type};

/// Why a graph has no values.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum EvalError {
    /// Another number of inputs than the graph has.
    #[error("{found} inputs where the graph has {expected}")]
    Count {
        /// Inputs of the graph.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// An input of another type.
    #[error("input `{name}` is `{expected}`, not `{found}`")]
    Input {
        /// Its name.
        name: String,
        /// Its type in the graph.
        expected: Type,
        /// Type of the tensor given.
        found: Type,
    },
    /// An operator failed.
    #[error("{error}: {line}")]
    Node {
        /// Its line of text.
        line: String,
        /// Its error.
        error: ops::EvalError,
    },
    /// An operator gave what it did not infer: a bug.
    #[error("`{name}` came out as `{found}`: {line}")]
    Result {
        /// The result.
        name: String,
        /// Type of its value.
        found: Type,
        /// The operator's line of text.
        line: String,
    },
}

/// The outputs for these inputs, in order.
///
/// # Errors
/// If an input does not fit, or an operator fails.
pub fn eval(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    eval_with(graph, inputs, &mut |_, _| {})
}

/// The outputs for these inputs; `see` gets every value that an operator computes, as it is computed.
///
/// # Errors
/// If an input does not fit, or an operator fails.
pub fn eval_with(graph: &Graph, inputs: &[Tensor], see: &mut dyn FnMut(Value, &Tensor)) -> Result<Vec<Tensor>, EvalError> {
    if inputs.len() != graph.inputs().len() {
        return Err(EvalError::Count { expected: graph.inputs().len(), found: inputs.len() });
    }
    let mut symbols = BTreeMap::new();
    let mut values: HashMap<Value, Tensor> = HashMap::new();
    let mut uses: HashMap<Value, usize> = HashMap::new();
    for &v in graph.outputs() {
        *uses.entry(v).or_default() += 1;
    }
    let order = graph.order();
    for &node in &order {
        for v in graph.operands(node).into_iter().flatten() {
            *uses.entry(v).or_default() += 1;
        }
    }
    for (&v, t) in graph.inputs().iter().zip(inputs) {
        if !fits(graph.ty(v), t, &mut symbols) {
            return Err(EvalError::Input { name: graph.name_of(v).to_owned(), expected: graph.ty(v).clone(), found: t.ty() });
        }
        values.insert(v, t.clone());
    }
    for node in order {
        let n = graph.node(node);
        let operands = graph.operands(node);
        let known = operands.iter().map(|v| v.map(|v| values[&v].clone()));
        let results = match &n.kind {
            NodeKind::Input => continue,
            NodeKind::Constant(t) => {
                values.insert(Value { node, result: 0 }, t.clone());
                continue;
            }
            NodeKind::Operator(op) => {
                let x = Operands::of_values(known, n.results.len());
                op.eval(&x).map_err(|error| EvalError::Node { line: print::line(graph, node), error })?
            }
            NodeKind::Control(c) => c.eval(&known.collect::<Vec<_>>())?,
        };
        for v in graph.results(node) {
            let t = results.get(v.result as usize).ok_or_else(|| EvalError::Result {
                name: graph.name_of(v).to_owned(),
                found: graph.ty(v).clone(),
                line: print::line(graph, node),
            })?;
            if !fits(graph.ty(v), t, &mut symbols) {
                let line = print::line(graph, node);
                return Err(EvalError::Result { name: graph.name_of(v).to_owned(), found: t.ty(), line });
            }
            see(v, t);
            if uses.contains_key(&v) {
                values.insert(v, t.clone());
            }
        }
        for v in operands.into_iter().flatten() {
            if let Some(n) = uses.get_mut(&v) {
                *n -= 1;
                if *n == 0 {
                    values.remove(&v);
                }
            }
        }
    }
    Ok(graph.outputs().iter().map(|v| values[v].clone()).collect())
}

/// Whether a tensor is of a type; a symbol has the extent it had first.
fn fits(ty: &Type, t: &Tensor, symbols: &mut BTreeMap<String, usize>) -> bool {
    let dim = |(d, &extent): (&Dim, &usize)| match d {
        Dim::Fixed(n) => *n == extent,
        Dim::Symbol(s) => *symbols.entry(s.to_string()).or_insert(extent) == extent,
        Dim::Unknown => true,
    };
    ty.dtype == t.dtype() && ty.rank() == t.dims().len() && ty.shape.0.iter().zip(t.dims()).map(dim).fold(true, |a, b| a & b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    const TEXT: &str = "graph @g(%x: f32[N,2]) -> (%y, %x as again) {
      @w = const [1,-2] : f32[2]
      %s = Add(%x, @w)
      %y = Add(%s, %s)
    }";

    #[test]
    fn values_follow_the_operators() {
        let graph = parse(TEXT).unwrap();
        let x = Tensor::from_slice(&[2, 2], &[0f32, 1.0, 2.0, 3.0]);
        let mut seen = vec![];
        let y = eval_with(&graph, std::slice::from_ref(&x), &mut |v, _| seen.push(graph.name_of(v).to_owned())).unwrap();
        assert_eq!(y, [Tensor::from_slice(&[2, 2], &[2f32, -2.0, 6.0, 2.0]), x]);
        assert_eq!(seen, ["s", "y"]);
    }

    #[test]
    fn inputs_must_fit() {
        let graph = parse(TEXT).unwrap();
        assert_eq!(eval(&graph, &[]).unwrap_err().to_string(), "0 inputs where the graph has 1");
        let x = Tensor::from_slice(&[1, 3], &[0f32, 1.0, 2.0]);
        assert_eq!(eval(&graph, &[x]).unwrap_err().to_string(), "input `x` is `f32[N,2]`, not `f32[1,3]`");
    }
}

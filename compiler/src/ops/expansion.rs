//! Operators that are defined by others: their steps, typed as they are written, for importing, evaluating and lowering alike.

use super::elementwise::{Add, Cast, Div, Mul, Sub, Where};
use super::movement::{Concat, Expand, Reshape, Slice, Transpose, Unsqueeze};
use super::neural::MatMul;
use super::operator::{Args, EvalError, Fact, InferError, LowerError, Operands, Operator};
use crate::expr::{self, TensorId};
use crate::tensor::{DType, Tensor, Type};

/// Values that steps of only known operands may compute at once, in elements.
const MAX_FOLDED: usize = 4096;

/// A value of an expansion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step(usize);

/// Where a value comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// An operand of the operator.
    Operand(usize),
    /// A constant.
    Constant(Tensor),
    /// A result of an earlier node: its position, and which result.
    Result(usize, usize),
}

/// One operator of an expansion.
#[derive(Clone, Debug)]
pub struct ExpansionNode {
    /// The operator.
    pub op: Box<dyn Operator>,
    /// Its operands.
    pub operands: Vec<Option<Source>>,
    /// The types of its results.
    pub results: Vec<Type>,
}

/// An operator as others, in order.
#[derive(Clone, Debug, Default)]
pub struct Expansion {
    /// The operators.
    pub nodes: Vec<ExpansionNode>,
    /// What the results are.
    pub results: Vec<Source>,
    /// The types of the results.
    pub types: Vec<Type>,
}

/// An expansion under construction.
#[derive(Debug)]
pub struct Steps<'a> {
    x: &'a Operands,
    nodes: Vec<ExpansionNode>,
    values: Vec<(Source, Fact)>,
}

impl<'a> Steps<'a> {
    /// No steps yet.
    pub fn new(x: &'a Operands) -> Self {
        Steps { x, nodes: vec![], values: vec![] }
    }

    /// Operand `i`.
    pub fn operand(&mut self, i: usize) -> Result<Step, InferError> {
        self.optional(i).ok_or(InferError::MissingOperand { operand: i })
    }

    /// Operand `i`, if it is present.
    pub fn optional(&mut self, i: usize) -> Option<Step> {
        let fact = self.x.get(i)?.clone();
        Some(self.value(Source::Operand(i), fact))
    }

    /// The operands.
    pub fn operands(&self) -> &'a Operands {
        self.x
    }

    /// A constant.
    pub fn constant(&mut self, t: Tensor) -> Step {
        self.value(Source::Constant(t.clone()), t.into())
    }

    /// A number of this type, of rank 0.
    pub fn number(&mut self, dtype: DType, x: f64) -> Step {
        self.constant(Tensor::from_f64s(dtype, &[], &[x]))
    }

    /// A list of integers.
    pub fn ints(&mut self, list: &[i64]) -> Step {
        self.constant(Tensor::from_slice(&[list.len()], list))
    }

    fn value(&mut self, source: Source, fact: Fact) -> Step {
        self.values.push((source, fact));
        Step(self.values.len() - 1)
    }

    /// What is known of a value.
    pub fn fact(&self, v: Step) -> &Fact {
        &self.values[v.0].1
    }

    /// Element type of a value.
    pub fn dtype(&self, v: Step) -> DType {
        self.fact(v).ty.dtype
    }

    /// Extents of a value, all of which must be known.
    pub fn dims(&self, v: Step) -> Result<Vec<usize>, InferError> {
        let ty = &self.fact(v).ty;
        ty.dims().ok_or_else(|| InferError::UnboundDimension { operand: self.position(v).unwrap_or(0), ty: ty.clone() })
    }

    fn position(&self, v: Step) -> Option<usize> {
        if let Source::Operand(i) = self.values[v.0].0 { Some(i) } else { None }
    }

    /// The only result of an operator.
    pub fn apply(&mut self, op: impl Operator, operands: &[Step]) -> Result<Step, InferError> {
        let operands: Vec<Option<Step>> = operands.iter().copied().map(Some).collect();
        Ok(self.apply_all(Box::new(op), &operands, 1)?[0])
    }

    /// The results of an operator, absent operands included.
    pub fn apply_all(&mut self, op: Box<dyn Operator>, operands: &[Option<Step>], n_results: usize) -> Result<Vec<Step>, InferError> {
        let facts = operands.iter().map(|v| v.map(|v| self.fact(v).clone())).collect();
        let x = Operands { facts, n_results };
        let types = op.infer(&x).map_err(|e| self.outer_error(&*op, operands, e))?;
        let known = x.facts.iter().flatten().all(|f| f.value.as_ref().is_some_and(|t| t.len() <= MAX_FOLDED));
        let small = types.iter().all(|t| t.dims().is_some_and(|d| d.iter().product::<usize>() <= MAX_FOLDED));
        let values = if known && small { op.eval(&x).ok() } else { op.value_from_types(&x) };
        if let Some(values) = values.filter(|v| v.len() >= n_results) {
            return Ok(values.into_iter().map(|t| self.constant(t)).collect());
        }
        Ok(self.node(op, operands, types))
    }

    /// The only result of an operator that is a step even where all of its operands are known, since it is another at other extents.
    pub fn unfolded(&mut self, op: impl Operator, operands: &[Step]) -> Result<Step, InferError> {
        let x = Operands { facts: operands.iter().map(|&v| Some(self.fact(v).clone())).collect(), n_results: 1 };
        let operands: Vec<Option<Step>> = operands.iter().copied().map(Some).collect();
        let types = op.infer(&x).map_err(|e| self.outer_error(&op, &operands, e))?;
        Ok(self.node(Box::new(op), &operands, types)[0])
    }

    fn node(&mut self, op: Box<dyn Operator>, operands: &[Option<Step>], types: Vec<Type>) -> Vec<Step> {
        let node = self.nodes.len();
        let operands = operands.iter().map(|v| v.map(|v| self.values[v.0].0.clone())).collect();
        self.nodes.push(ExpansionNode { op, operands, results: types.clone() });
        types.into_iter().enumerate().map(|(k, ty)| self.value(Source::Result(node, k), Fact::of(ty))).collect()
    }

    /// An error of a step as one of the whole operator.
    fn outer_error(&self, op: &dyn Operator, operands: &[Option<Step>], e: InferError) -> InferError {
        let outer = |i: usize| operands.get(i).copied().flatten().and_then(|v| self.position(v));
        let name = op.schema().name;
        match e {
            InferError::NotConstant { operand } => match outer(operand) {
                Some(operand) => InferError::NotConstant { operand },
                None => InferError::Unsupported(format!("operand {operand} of its step `{name}` must be constant")),
            },
            InferError::Unbounded { operand } => InferError::Unbounded { operand: outer(operand).unwrap_or(0) },
            InferError::UnboundDimension { operand, ty } => InferError::UnboundDimension { operand: outer(operand).unwrap_or(0), ty },
            InferError::ElementType { operand, dtype } => match outer(operand) {
                Some(operand) => InferError::ElementType { operand, dtype },
                None => InferError::Unsupported(format!("its step `{name}` does not take `{dtype}`")),
            },
            InferError::MissingOperand { operand } => InferError::Invalid(format!("operand {operand} of its step `{name}` is missing")),
            InferError::Invalid(e) => InferError::Invalid(format!("its step `{name}`: {e}")),
            InferError::Unsupported(e) => InferError::Unsupported(format!("its step `{name}`: {e}")),
        }
    }

    /// The expansion with these results.
    pub fn finish(self, results: &[Step]) -> Expansion {
        let types = results.iter().map(|v| self.values[v.0].1.ty.clone()).collect();
        Expansion { nodes: self.nodes, results: results.iter().map(|v| self.values[v.0].0.clone()).collect(), types }
    }

    /// `a + b`.
    pub fn add(&mut self, a: Step, b: Step) -> Result<Step, InferError> {
        self.apply(Add {}, &[a, b])
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Step, b: Step) -> Result<Step, InferError> {
        self.apply(Sub {}, &[a, b])
    }

    /// `a * b`.
    pub fn mul(&mut self, a: Step, b: Step) -> Result<Step, InferError> {
        self.apply(Mul {}, &[a, b])
    }

    /// `a / b`.
    pub fn div(&mut self, a: Step, b: Step) -> Result<Step, InferError> {
        self.apply(Div {}, &[a, b])
    }

    /// `c ? a : b`, element by element.
    pub fn choose(&mut self, c: Step, a: Step, b: Step) -> Result<Step, InferError> {
        self.apply(Where {}, &[c, a, b])
    }

    /// The matrix product.
    pub fn matmul(&mut self, a: Step, b: Step) -> Result<Step, InferError> {
        self.apply(MatMul {}, &[a, b])
    }

    /// The value in another element type.
    pub fn cast(&mut self, v: Step, to: DType) -> Result<Step, InferError> {
        if self.dtype(v) == to {
            return Ok(v);
        }
        self.apply(Cast { to, saturate: true, round_mode: "up".to_owned() }, &[v])
    }

    /// The elements under other extents.
    pub fn reshape(&mut self, v: Step, dims: &[usize]) -> Result<Step, InferError> {
        if self.fact(v).ty.dims().as_deref() == Some(dims) {
            return Ok(v);
        }
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let shape = self.ints(&shape);
        self.apply(Reshape { allowzero: true }, &[v, shape])
    }

    /// The axes in another order.
    pub fn transpose(&mut self, v: Step, perm: &[i64]) -> Result<Step, InferError> {
        self.apply(Transpose { perm: Some(perm.to_vec()) }, &[v])
    }

    /// An axis of extent 1 at this place.
    pub fn unsqueeze(&mut self, v: Step, axis: i64) -> Result<Step, InferError> {
        let axes = self.ints(&[axis]);
        self.apply(Unsqueeze {}, &[v, axes])
    }

    /// The positions from `from` to before `to` of one axis.
    pub fn slice(&mut self, v: Step, axis: i64, from: usize, to: usize) -> Result<Step, InferError> {
        let [from, to, axis] = [from as i64, to as i64, axis].map(|n| self.ints(&[n]));
        self.apply(Slice {}, &[v, from, to, axis])
    }

    /// The values side by side.
    pub fn concat(&mut self, values: &[Step], axis: i64) -> Result<Step, InferError> {
        self.apply(Concat { axis }, values)
    }

    /// The value repeated to these extents.
    pub fn expand(&mut self, v: Step, dims: &[usize]) -> Result<Step, InferError> {
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        let shape = self.ints(&shape);
        self.apply(Expand {}, &[v, shape])
    }
}

impl Expansion {
    /// The results, step by step.
    pub fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let mut done: Vec<Vec<Tensor>> = vec![];
        let get = |done: &[Vec<Tensor>], s: &Source| match s {
            Source::Operand(i) => x.tensor(*i).clone(),
            Source::Constant(t) => t.clone(),
            Source::Result(node, k) => done[*node][*k].clone(),
        };
        for node in &self.nodes {
            let values = node.operands.iter().map(|s| s.as_ref().map(|s| get(&done, s)));
            let results = node.op.eval(&Operands::of_values(values, node.results.len()))?;
            done.push(results);
        }
        Ok(self.results.iter().map(|s| get(&done, s)).collect())
    }

    /// The results as tensor expressions, step by step.
    pub fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let mut done: Vec<Vec<TensorId>> = vec![];
        for node in &self.nodes {
            let (mut facts, mut tensors) = (vec![], vec![]);
            for source in &node.operands {
                let Some(source) = source else {
                    facts.push(None);
                    tensors.push(None);
                    continue;
                };
                let (fact, tensor) = match source {
                    Source::Operand(i) => (x.facts.get(*i).cloned(), Some(x.tensor(*i))),
                    Source::Constant(t) => (Some(t.clone().into()), Some(b.constant("constant", t.clone()))),
                    Source::Result(n, k) => (Some(Fact::of(self.nodes[*n].results[*k].clone())), Some(done[*n][*k])),
                };
                facts.push(fact);
                tensors.push(tensor);
            }
            let facts = Operands { facts, n_results: node.results.len() };
            b.note_results(vec![]);
            done.push(node.op.lower(b, &Args { facts: &facts, tensors, results: &node.results })?);
        }
        let results = self.results.iter().zip(&self.types).map(|(s, ty)| {
            let dims = ty.dims().ok_or_else(|| LowerError::Unsupported(format!("the result type `{ty}` has an unbound dimension")))?;
            Ok(match s {
                // A result is a tensor of its own.
                Source::Operand(i) => b.compute(&dims, |b, at| b.load(x.tensor(*i), at)),
                Source::Constant(t) => {
                    let t = b.constant("constant", t.clone());
                    b.compute(&dims, |b, at| b.load(t, at))
                }
                Source::Result(n, k) => done[*n][*k],
            })
        });
        results.collect()
    }
}

/// Implements [`Operator`](super::Operator) for an operator whose method `steps` says what it is made of.
#[macro_export]
macro_rules! composite {
    ($name:ident) => {
        impl $crate::ops::Operator for $name {
            fn infer(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Type>, $crate::ops::InferError> {
                Ok(self.expansion(x)?.types)
            }

            fn eval(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Tensor>, $crate::ops::EvalError> {
                self.expansion(x).map_err(|e| $crate::ops::EvalError::Invalid(e.to_string()))?.eval(x)
            }

            fn lower(
                &self,
                b: &mut $crate::expr::Builder,
                x: &$crate::ops::Args<'_>,
            ) -> Result<Vec<$crate::expr::TensorId>, $crate::ops::LowerError> {
                self.expansion(x.facts)?.lower(b, x)
            }

            fn expand(&self, x: &$crate::ops::Operands) -> Option<$crate::ops::Expansion> {
                self.expansion(x).ok()
            }
        }

        impl $name {
            /// The operators it is made of.
            fn expansion(&self, x: &$crate::ops::Operands) -> Result<$crate::ops::Expansion, $crate::ops::InferError> {
                let mut s = $crate::ops::Steps::new(x);
                let results = self.steps(&mut s)?;
                Ok(s.finish(&results))
            }
        }
    };
}

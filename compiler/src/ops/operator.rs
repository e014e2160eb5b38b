//! What an operator is: its schema, its attributes and four questions (types, values, axes, computation).

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use dyn_clone::DynClone;

use super::attribute::{Attribute, AttributeError, Attributes};
use super::axes::{Axes, View};
use super::expansion::Expansion;
use super::interval::Interval;
use super::movement::{eval_view, lower_view, source_of};
use crate::expr::{self, TensorId};
use crate::tensor::{DType, Tensor, Type};

/// One kind of ONNX operator with its attributes, as of the newest opset.
pub trait Operator: Described + Any + fmt::Debug + DynClone + Send + Sync {
    /// Types of the results.
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError>;

    /// How axes of operands and results correspond; unlinked axes are always safe.
    fn axes(&self, x: &Operands) -> Axes {
        Axes::unlinked(x)
    }

    /// Each result as a re-indexing of the first operand, where that is all the operator does.
    fn view(&self, _: &Operands) -> Option<Vec<View>> {
        None
    }

    /// The results where the operands' types alone decide them, as for a shape.
    fn value_from_types(&self, _: &Operands) -> Option<Vec<Tensor>> {
        None
    }

    /// The operator as others, where that is how it is defined: files are read as if they held those.
    fn expand(&self, _: &Operands) -> Option<Expansion> {
        None
    }

    /// The operator that stands in where operands which decide extents are not constant: its results have the greatest extents.
    /// `of` says between which numbers the elements of the operands are.
    fn padded(&self, _: &Operands, _of: &[Interval]) -> Option<Box<dyn Operator>> {
        None
    }

    /// The operator of the same values whose greatest extents do not follow those of its operands where these are least; by default itself.
    fn at_any_size(&self) -> Option<Box<dyn Operator>> {
        None
    }

    /// Between which numbers the elements of the first result are, where those of the operands are `of`. By default those of views only.
    fn interval(&self, x: &Operands, of: &[Interval]) -> Interval {
        match (self.view(x), of.first()) {
            (Some(_), Some(first)) => *first,
            _ => Interval::ALL,
        }
    }

    /// The element of an operand that an element of the first result is, whatever the operands hold: the operand, and the place in it;
    /// places are row-major. By default those of views.
    fn source(&self, x: &Operands, place: usize) -> Option<(usize, usize)> {
        let dims = self.infer(x).ok()?.first()?.dims()?;
        Some((0, source_of(self.view(x)?.first()?, &x.dims(0).ok()?, &dims, place)))
    }

    /// The operand whose element an element of the result of an element-wise operator is, where those of the operands are between `of`.
    fn same_as(&self, _: &Operands, _of: &[Interval]) -> Option<usize> {
        None
    }

    /// Between which numbers the only element of the result is, where `all` elements of the first operand are reduced to it.
    fn reduced(&self, _: &Operands, _all: &[Interval]) -> Option<Interval> {
        None
    }

    /// The operand that lists the extents of the first result.
    fn shape_operand(&self) -> Option<usize> {
        None
    }

    /// Whether an axis of the result repeats what the operands hold, so that it may be as long as anything says.
    fn repeats(&self, _: &Operands, _axis: usize) -> bool {
        false
    }

    /// The axis of the first result of which so much is meant as of this axis of an operand, times a number; it follows. `of` is as for
    /// [`Operator::interval`].
    fn carries(&self, _: &Operands, _operand: usize, _axis: usize, _of: &[Interval]) -> Option<(usize, usize)> {
        None
    }

    /// What alone decides a result of [`Operator::sizes`] that says how much is meant; by default all operands do.
    fn decides(&self, _: &Operands, _count: usize) -> Option<Deciding> {
        None
    }

    /// What must stand behind the elements of an axis of an operand that are meant, so that the results are as if nothing did.
    fn fill(&self, _: &Operands, _operand: usize, _axis: usize) -> Option<Fill> {
        None
    }

    /// The operator that takes the actual extents of operands as further ones, where how much of them is meant matters.
    fn counted(&self, _: &Operands) -> Option<Counted> {
        None
    }

    /// Whether what is behind the elements of an axis of an operand that are meant does not matter, as extents are operands, or as
    /// positions are never there. `of` is as for [`Operator::interval`].
    fn heeds(&self, _: &Operands, _operand: usize, _axis: usize, _of: &[Interval]) -> bool {
        false
    }

    /// As [`Operator::interval`], of further results.
    fn interval_of_further(&self, _: &Operands, _result: usize) -> Interval {
        Interval::ALL
    }

    /// The axes of the first operand, where the only result lists their extents.
    fn extents(&self, _: &Operands) -> Option<Range<usize>> {
        None
    }

    /// The axes of results of which data decides how much is meant.
    fn sizes(&self, _: &Operands) -> Vec<Extent> {
        vec![]
    }

    /// The results, slowly and obviously; every operand has a value. Types were inferred before. By default, the views.
    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let types = self.infer(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let views = self.view(x).ok_or_else(|| EvalError::Invalid("operands that do not fit".to_owned()))?;
        Ok(views.iter().zip(types).map(|(v, ty)| eval_view(x.tensor(0), v, &ty.dims().expect("values have fixed extents"))).collect())
    }

    /// The results as tensor expressions. All types are fixed; `x.value` has what is constant. By default, the views.
    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let views = self.view(x.facts).ok_or_else(|| LowerError::Unsupported("extents and indices must be known".to_owned()))?;
        Ok(views.iter().enumerate().map(|(i, view)| lower_view(b, x.tensor(0), view, &x.result_dims(i))).collect())
    }
}

/// An axis of a result of which data decides how much is meant; the rest is padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The result.
    pub result: usize,
    /// The axis.
    pub axis: usize,
    /// The result, `i64[1]`, that says how much of the axis is meant.
    pub count: usize,
}

/// What alone decides how much of a result is meant: of two operators of one name, what is equal in all of this gives equal extents. One
/// element without numbers is how much is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deciding {
    /// Numbers.
    pub numbers: Vec<i64>,
    /// Elements of operands: the operand, and the place.
    pub elements: Vec<(usize, usize)>,
}

/// What stands behind the elements that are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// 0.
    Zero,
    /// 1.
    One,
    /// The least value of the type, infinite for floats.
    Lowest,
    /// The greatest value of the type, infinite for floats.
    Greatest,
}

impl Fill {
    /// As an attribute says it.
    pub fn name(self) -> &'static str {
        match self {
            Fill::Zero => "zero",
            Fill::One => "one",
            Fill::Lowest => "lowest",
            Fill::Greatest => "greatest",
        }
    }
}

/// An operator that takes the actual extents of operands.
#[derive(Debug)]
pub struct Counted {
    /// The operator.
    pub op: Box<dyn Operator>,
    /// The operands whose extents it takes, `i64[rank]` each.
    pub of: Vec<usize>,
    /// The position of the first of these.
    pub at: usize,
}

dyn_clone::clone_trait_object!(Operator);

impl dyn Operator {
    /// The operator as a struct of this kind, if it is one: for the named rules of passes.
    pub fn downcast<T: Operator>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// The part of an operator that `operator!` writes.
pub trait Described {
    /// Name, operands, attributes, documentation.
    fn schema(&self) -> &'static Schema;
    /// Attributes that differ from their default, in schema order.
    fn attributes(&self) -> Vec<(&'static str, Attribute)>;
}

/// What is known of an operator without attributes.
#[derive(Debug)]
pub struct Schema {
    /// ONNX name.
    pub name: &'static str,
    /// ONNX domain: empty for the default one.
    pub domain: &'static str,
    /// Opset versions that changed it.
    pub since: &'static [u32],
    /// Operand names; `?` marks an optional one, `*` a variadic one (the last).
    pub operands: &'static [&'static str],
    /// Result names, marked in the same way.
    pub results: &'static [&'static str],
    /// Attribute names.
    pub attributes: &'static [&'static str],
    /// First paragraph of the documentation.
    pub doc: &'static str,
    /// Reads the attributes.
    pub build: fn(&mut Attributes) -> Result<Box<dyn Operator>, AttributeError>,
}

impl Schema {
    /// The name with its domain: `Gemm`, `com.microsoft.Attention`.
    pub fn full_name(&self) -> Cow<'static, str> {
        if self.domain.is_empty() { self.name.into() } else { format!("{}.{}", self.domain, self.name).into() }
    }

    /// Whether operand `i` must be there.
    pub fn is_required(&self, i: usize) -> bool {
        self.operands.get(i).is_some_and(|o| !o.ends_with(['?', '*']))
    }

    /// Least and greatest number of operands.
    pub fn arity(&self) -> (usize, usize) {
        let required = (0..self.operands.len()).rev().find(|&i| self.is_required(i)).map_or(0, |i| i + 1);
        let variadic = self.operands.last().is_some_and(|o| o.ends_with('*'));
        (required, if variadic { usize::MAX } else { self.operands.len() })
    }

    /// Greatest number of results.
    pub fn max_results(&self) -> usize {
        if self.results.last().is_some_and(|o| o.ends_with('*')) { usize::MAX } else { self.results.len() }
    }
}

/// What is known of one operand: its type, and its value where it is constant.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Its type.
    pub ty: Type,
    /// Its value, where it is known.
    pub value: Option<Tensor>,
}

impl Fact {
    /// A fact without a value.
    pub fn of(ty: Type) -> Self {
        Fact { ty, value: None }
    }
}

impl From<Tensor> for Fact {
    fn from(t: Tensor) -> Self {
        Fact { ty: t.ty(), value: Some(t) }
    }
}

/// The operands of a node; absent optional ones are `None` (or left off at the end).
#[derive(Clone, Debug, Default)]
pub struct Operands {
    /// By position.
    pub facts: Vec<Option<Fact>>,
    /// How many results the node has.
    pub n_results: usize,
}

impl Operands {
    /// Operands with values, for a node of `n_results` results.
    pub fn of_values(values: impl IntoIterator<Item = Option<Tensor>>, n_results: usize) -> Self {
        Operands { facts: values.into_iter().map(|v| v.map(Fact::from)).collect(), n_results }
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there are no operands.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// Whether operand `i` is present.
    pub fn has(&self, i: usize) -> bool {
        self.get(i).is_some()
    }

    /// Operand `i`, if present.
    pub fn get(&self, i: usize) -> Option<&Fact> {
        self.facts.get(i)?.as_ref()
    }

    /// Type of operand `i`.
    pub fn ty(&self, i: usize) -> Result<&Type, InferError> {
        self.get(i).map(|f| &f.ty).ok_or(InferError::MissingOperand { operand: i })
    }

    /// Element type of operand `i`.
    pub fn dtype(&self, i: usize) -> Result<DType, InferError> {
        Ok(self.ty(i)?.dtype)
    }

    /// Rank of operand `i`.
    pub fn rank(&self, i: usize) -> Result<usize, InferError> {
        Ok(self.ty(i)?.rank())
    }

    /// Extents of operand `i`, all of which must be known.
    pub fn dims(&self, i: usize) -> Result<Vec<usize>, InferError> {
        let ty = self.ty(i)?;
        ty.dims().ok_or_else(|| InferError::UnboundDimension { operand: i, ty: ty.clone() })
    }

    /// The constant value of operand `i`.
    pub fn value(&self, i: usize) -> Result<&Tensor, InferError> {
        self.ty(i)?;
        self.get(i).and_then(|f| f.value.as_ref()).ok_or(InferError::NotConstant { operand: i })
    }

    /// The constant value of operand `i` as integers.
    pub fn ints(&self, i: usize) -> Result<Vec<i64>, InferError> {
        let t = self.value(i)?;
        if t.dtype().is_float() {
            return Err(InferError::Invalid(format!("operand {i} must hold integers, not {}", t.dtype())));
        }
        Ok(t.to_ints().into_iter().map(|x| x as i64).collect())
    }

    /// The value of operand `i` in `eval`.
    ///
    /// # Panics
    /// If it is absent or has none: callers of `eval` give all values.
    pub fn tensor(&self, i: usize) -> &Tensor {
        self.get(i).and_then(|f| f.value.as_ref()).expect("an operand with a value")
    }

    /// The value of optional operand `i` in `eval`.
    pub fn tensor_opt(&self, i: usize) -> Option<&Tensor> {
        self.get(i).and_then(|f| f.value.as_ref())
    }

    /// Fails unless operand `i` has one of these element types.
    pub fn require_dtype(&self, i: usize, allowed: &[DType]) -> Result<DType, InferError> {
        let dtype = self.dtype(i)?;
        if allowed.contains(&dtype) { Ok(dtype) } else { Err(InferError::ElementType { operand: i, dtype }) }
    }

    /// Fails unless operand `i` is of the element type of operand `j`.
    pub fn require_same_dtype(&self, i: usize, j: usize) -> Result<(), InferError> {
        let (a, b) = (self.dtype(i)?, self.dtype(j)?);
        if a == b { Ok(()) } else { Err(InferError::Invalid(format!("operands {j} and {i} differ in element type: {b} and {a}"))) }
    }

    /// `axis` of operand `i` counted from the front; negative ones count from the back.
    pub fn axis(&self, i: usize, axis: i64) -> Result<usize, InferError> {
        normalize_axis(axis, self.rank(i)?)
    }
}

/// `axis` counted from the front, of `rank` axes.
pub fn normalize_axis(axis: i64, rank: usize) -> Result<usize, InferError> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&from_front) {
        Ok(from_front as usize)
    } else {
        Err(InferError::Invalid(format!("axis {axis} of a value of rank {rank}")))
    }
}

/// The operands of `lower`: what is known of them, and their tensors in the program.
#[derive(Debug)]
pub struct Args<'a> {
    /// Types and constant values.
    pub facts: &'a Operands,
    /// The tensors; `None` for absent operands.
    pub tensors: Vec<Option<TensorId>>,
    /// The result types that `infer` gave, all extents known.
    pub results: &'a [Type],
}

impl Args<'_> {
    /// Tensor of operand `i`.
    ///
    /// # Panics
    /// If it is absent; `infer` has checked the required ones.
    pub fn tensor(&self, i: usize) -> TensorId {
        self.get(i).expect("a required operand")
    }

    /// Tensor of optional operand `i`.
    pub fn get(&self, i: usize) -> Option<TensorId> {
        self.tensors.get(i).copied().flatten()
    }

    /// Extents of operand `i`.
    pub fn dims(&self, i: usize) -> Vec<usize> {
        self.facts.dims(i).expect("fixed extents when lowering")
    }

    /// Extents of result `i`.
    pub fn result_dims(&self, i: usize) -> Vec<usize> {
        self.results[i].dims().expect("fixed extents when lowering")
    }
}

/// Why a node has no type.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum InferError {
    /// A required operand is absent: the model is malformed.
    #[error("operand {operand} is missing")]
    MissingOperand {
        /// Position.
        operand: usize,
    },
    /// The operator is not defined (or not implemented) for this element type.
    #[error("operand {operand} has element type `{dtype}`, which is not supported here")]
    ElementType {
        /// Position.
        operand: usize,
        /// Its element type.
        dtype: DType,
    },
    /// An extent must be known: bind it.
    #[error("operand {operand} has an unbound dimension: `{ty}`")]
    UnboundDimension {
        /// Position.
        operand: usize,
        /// Its type.
        ty: Type,
    },
    /// A value decides a shape and must be constant.
    #[error("operand {operand} decides a shape and must be constant")]
    NotConstant {
        /// Position.
        operand: usize,
    },
    /// A value decides an extent, and nothing says how large it gets.
    #[error("operand {operand} decides an extent, and nothing says how large it gets")]
    Unbounded {
        /// Position.
        operand: usize,
    },
    /// The model is malformed; says what is expected and found.
    #[error("{0}")]
    Invalid(String),
    /// The model is well-formed, but this form is not implemented; says what is missing.
    #[error("{0}")]
    Unsupported(String),
}

/// Why a value cannot be computed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum EvalError {
    /// An index that data gave is out of range.
    #[error("index {index} is out of range for extent {extent}")]
    IndexOutOfRange {
        /// The index.
        index: i64,
        /// The extent.
        extent: usize,
    },
    /// Another reason.
    #[error("{0}")]
    Invalid(String),
}

/// Why a node cannot be compiled.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum LowerError {
    /// What is missing.
    #[error("{0}")]
    Unsupported(String),
}

impl From<InferError> for LowerError {
    fn from(e: InferError) -> Self {
        LowerError::Unsupported(e.to_string())
    }
}

//! Scalar expressions: what a stage computes at one point of its axes.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::program::{Affine, TensorId};
use crate::tensor::{DType, Size};

/// A scalar expression with its type; cloning shares it.
#[derive(Clone, Debug)]
pub struct Expr {
    node: Arc<Hashed>,
    dtype: DType,
}

/// A head with its hash, so that hashing an expression does not walk it.
#[derive(Debug)]
struct Hashed {
    node: Node,
    hash: u64,
}

/// A constant.
#[derive(Clone, Copy, Debug)]
pub enum Const {
    /// Of a floating-point type, already rounded to it.
    Float(f64),
    /// Of an integer type or `bool`.
    Int(i64),
}

/// The head of an expression.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Node {
    /// A constant.
    Const(Const),
    /// The value of an affine form, `i64`.
    Index(Affine),
    /// A number that is known when the program runs, `i64`.
    Size(Size),
    /// An element of a tensor.
    Load {
        /// The tensor.
        tensor: TensorId,
        /// One index for each axis.
        index: Vec<Ix>,
        /// The value where an index is outside the tensor; without it every affine index must be inside.
        pad: Option<Expr>,
    },
    /// One operand.
    Unary(UnaryOp, Expr),
    /// Two operands of the result's type.
    Binary(BinaryOp, Expr, Expr),
    /// Two operands of one type; the result is `bool`. False if unordered, except `Ne`.
    Compare(CompareOp, Expr, Expr),
    /// `cond ? a : b`.
    Select(Expr, Expr, Expr),
    /// Conversion to the expression's type: floats round to nearest even, float to integer truncates and saturates (NaN
    /// is 0), integers wrap or extend, to `bool` is "not zero".
    Cast(Expr),
    /// The bits as those of the expression's type, of the same size; neither is `bool`.
    Bits(Expr),
    /// The combined value in [`Body::Reduce`]'s `finish`, or what an element was in [`Body::Scatter`]'s value.
    Acc,
}

/// One index of a load.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ix {
    /// Known when compiled.
    Affine(Affine),
    /// An `i64` expression; without padding, a value outside the axis stops the program with status "index out of range".
    Checked(Expr),
    /// An `i64` expression, clamped to the axis. In one without elements it finds anything, which nothing may be made of.
    Clamped(Expr),
}

impl From<Affine> for Ix {
    fn from(a: Affine) -> Self {
        Ix::Affine(a)
    }
}

impl From<&Affine> for Ix {
    fn from(a: &Affine) -> Self {
        Ix::Affine(a.clone())
    }
}

impl From<i64> for Ix {
    fn from(c: i64) -> Self {
        Ix::Affine(Affine::constant(c))
    }
}

/// Functions of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are the functions")]
pub enum UnaryOp {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    /// To nearest, ties to even.
    Round,
    /// Logical for `bool`, bitwise for integers.
    Not,
    Exp,
    /// `exp(x)` of `x <= 88`; results below the normal numbers of `f64`, or of `f32` for the other types, may be zero.
    ExpFtz,
    /// `exp(x) - 1`, exact near 0.
    Expm1,
    Log,
    /// `log(1 + x)`, exact near 0.
    Log1p,
    /// `log(1 + exp(x))`, without overflow.
    Softplus,
    Tanh,
    Sigmoid,
    Erf,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
}

impl UnaryOp {
    /// Whether it takes many instructions.
    pub fn is_polynomial(self) -> bool {
        use UnaryOp::{Abs, Ceil, Floor, Neg, Not, Round, Sqrt};
        !matches!(self, Neg | Abs | Not | Floor | Ceil | Round | Sqrt)
    }

    /// Every function.
    pub const ALL: [UnaryOp; 27] = [
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Sqrt,
        UnaryOp::Floor,
        UnaryOp::Ceil,
        UnaryOp::Round,
        UnaryOp::Not,
        UnaryOp::Exp,
        UnaryOp::ExpFtz,
        UnaryOp::Expm1,
        UnaryOp::Log,
        UnaryOp::Log1p,
        UnaryOp::Softplus,
        UnaryOp::Tanh,
        UnaryOp::Sigmoid,
        UnaryOp::Erf,
        UnaryOp::Sin,
        UnaryOp::Cos,
        UnaryOp::Tan,
        UnaryOp::Asin,
        UnaryOp::Acos,
        UnaryOp::Atan,
        UnaryOp::Sinh,
        UnaryOp::Cosh,
        UnaryOp::Asinh,
        UnaryOp::Acosh,
        UnaryOp::Atanh,
    ];
}

/// Functions of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum BinaryOp {
    /// Wraps for integers.
    Add,
    /// Wraps for integers.
    Sub,
    /// Wraps for integers.
    Mul,
    /// Truncates for integers; by zero gives 0.
    Div,
    /// Integers only: remainder with the sign of the dividend; by zero gives 0.
    Rem,
    /// `a < b ? a : b`: the second operand where either is NaN.
    Min,
    /// `a > b ? a : b`: the second operand where either is NaN.
    Max,
    /// `a` to the power `b`; floating-point only.
    Pow,
    /// Bitwise; logical for `bool`.
    And,
    /// Bitwise; logical for `bool`.
    Or,
    /// Bitwise; logical for `bool`.
    Xor,
    /// Integers: shift left.
    Shl,
    /// Integers: shift right, arithmetic if signed.
    Shr,
}

/// Relations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are the relations")]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl PartialEq for Const {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Const::Float(a), Const::Float(b)) => a.to_bits() == b.to_bits(),
            (Const::Int(a), Const::Int(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Const {}

impl Hash for Const {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Const::Float(a) => a.to_bits().hash(state),
            Const::Int(a) => a.hash(state),
        }
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        same(self, other, &mut HashSet::new())
    }
}

/// Equality; pairs in `seen` are equal, or their difference is found elsewhere.
fn same(a: &Expr, b: &Expr, seen: &mut HashSet<(*const Node, *const Node)>) -> bool {
    if a.dtype != b.dtype || a.node.hash != b.node.hash {
        return false;
    }
    if Arc::ptr_eq(&a.node, &b.node) || !seen.insert((a.node(), b.node())) {
        return true;
    }
    let heads = match (a.node(), b.node()) {
        (Node::Const(x), Node::Const(y)) => x == y,
        (Node::Index(x), Node::Index(y)) => x == y,
        (Node::Size(x), Node::Size(y)) => x == y,
        (Node::Load { tensor: t, index: x, pad: p }, Node::Load { tensor: u, index: y, pad: q }) => {
            let same_kind = |(x, y): (&Ix, &Ix)| match (x, y) {
                (Ix::Affine(x), Ix::Affine(y)) => x == y,
                (Ix::Checked(_), Ix::Checked(_)) | (Ix::Clamped(_), Ix::Clamped(_)) => true,
                _ => false,
            };
            t == u && p.is_some() == q.is_some() && x.len() == y.len() && x.iter().zip(y).all(same_kind)
        }
        (Node::Unary(x, _), Node::Unary(y, _)) => x == y,
        (Node::Binary(x, ..), Node::Binary(y, ..)) => x == y,
        (Node::Compare(x, ..), Node::Compare(y, ..)) => x == y,
        (Node::Select(..), Node::Select(..)) | (Node::Cast(_), Node::Cast(_)) | (Node::Bits(_), Node::Bits(_)) | (Node::Acc, Node::Acc) => {
            true
        }
        _ => false,
    };
    heads && a.children().into_iter().zip(b.children()).all(|(x, y)| same(x, y, seen))
}

impl Eq for Expr {}

impl Hash for Expr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dtype.hash(state);
        self.node.hash.hash(state);
    }
}

impl Expr {
    /// An expression of the given head and type.
    pub fn new(node: Node, dtype: DType) -> Self {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        Expr { node: Arc::new(Hashed { node, hash: hasher.finish() }), dtype }
    }

    /// A constant, rounded to the type.
    pub fn constant(dtype: DType, x: f64) -> Self {
        let value = match dtype {
            DType::F32 => Const::Float(x as f32 as f64),
            DType::F64 => Const::Float(x),
            DType::F16 => Const::Float(crate::tensor::round_f16(x).to_f64()),
            DType::BF16 => Const::Float(crate::tensor::round_bf16(x).to_f64()),
            _ => Const::Int(x as i64),
        };
        Expr::new(Node::Const(value), dtype)
    }

    /// An integer or `bool` constant.
    pub fn int(dtype: DType, x: i64) -> Self {
        if dtype.is_float() { Self::constant(dtype, x as f64) } else { Expr::new(Node::Const(Const::Int(x)), dtype) }
    }

    /// An extent, or a number that follows from extents, as an `i64` value: one that may be another at other sizes, so that nothing is
    /// computed from it before these are known.
    pub fn extent(n: i64) -> Self {
        Expr::new(Node::Size(Size::Constant(n)), DType::I64)
    }

    /// The `i64` value of an affine form.
    pub fn index(a: &Affine) -> Self {
        if a.is_constant() { Self::int(DType::I64, a.constant) } else { Expr::new(Node::Index(a.clone()), DType::I64) }
    }

    /// The accumulator of a reduction.
    pub fn acc(dtype: DType) -> Self {
        Expr::new(Node::Acc, dtype)
    }

    /// The expression of another value in place of the accumulator.
    pub fn with_acc(&self, value: &Expr) -> Self {
        self.rewrite(&mut |x| if matches!(x.node(), Node::Acc) { value.clone() } else { x })
    }

    /// The head.
    pub fn node(&self) -> &Node {
        &self.node.node
    }

    /// The type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// A constant of this expression's type.
    pub fn like(&self, x: f64) -> Expr {
        Expr::constant(self.dtype, x)
    }

    /// A function of this.
    pub fn unary(&self, op: UnaryOp) -> Expr {
        Expr::new(Node::Unary(op, self.clone()), self.dtype)
    }

    /// A function of this and another of the same type.
    pub fn binary(&self, op: BinaryOp, other: &Expr) -> Expr {
        debug_assert_eq!(self.dtype, other.dtype, "operands of {op:?}");
        Expr::new(Node::Binary(op, self.clone(), other.clone()), self.dtype)
    }

    /// A relation.
    pub fn compare(&self, op: CompareOp, other: &Expr) -> Expr {
        debug_assert_eq!(self.dtype, other.dtype, "operands of {op:?}");
        Expr::new(Node::Compare(op, self.clone(), other.clone()), DType::Bool)
    }

    /// `self ? a : b`.
    pub fn select(&self, a: &Expr, b: &Expr) -> Expr {
        debug_assert_eq!(a.dtype, b.dtype, "branches of a select");
        Expr::new(Node::Select(self.clone(), a.clone(), b.clone()), a.dtype)
    }

    /// The value in another type (itself if it has that type).
    pub fn cast(&self, dtype: DType) -> Expr {
        if dtype == self.dtype { self.clone() } else { Expr::new(Node::Cast(self.clone()), dtype) }
    }

    /// The bits as those of another type of the same size.
    pub fn bits(&self, dtype: DType) -> Expr {
        debug_assert_eq!(self.dtype.size_bytes(), dtype.size_bytes(), "bits of {} as {dtype}", self.dtype);
        if dtype == self.dtype { self.clone() } else { Expr::new(Node::Bits(self.clone()), dtype) }
    }

    /// The greater of the two; NaN where either is.
    pub fn max_nan(&self, other: &Expr) -> Expr {
        // `Max` gives its second operand where either is NaN.
        let max = other.binary(BinaryOp::Max, self);
        if self.dtype.is_float() && !matches!(other.node(), Node::Const(_)) {
            other.compare(CompareOp::Ne, other).select(other, &max)
        } else {
            max
        }
    }

    /// The lesser of the two; NaN where either is.
    pub fn min_nan(&self, other: &Expr) -> Expr {
        let min = other.binary(BinaryOp::Min, self);
        if self.dtype.is_float() && !matches!(other.node(), Node::Const(_)) {
            other.compare(CompareOp::Ne, other).select(other, &min)
        } else {
            min
        }
    }

    /// The direct sub-expressions, those inside indices and padding included.
    pub fn children(&self) -> Vec<&Expr> {
        match self.node() {
            Node::Const(_) | Node::Index(_) | Node::Size(_) | Node::Acc => vec![],
            Node::Load { index, pad, .. } => index
                .iter()
                .filter_map(|ix| match ix {
                    Ix::Affine(_) => None,
                    Ix::Checked(e) | Ix::Clamped(e) => Some(e),
                })
                .chain(pad)
                .collect(),
            Node::Unary(_, a) | Node::Cast(a) | Node::Bits(a) => vec![a],
            Node::Binary(_, a, b) | Node::Compare(_, a, b) => vec![a, b],
            Node::Select(c, a, b) => vec![c, a, b],
        }
    }

    /// Calls `f` on this and everything below it, outermost first; what is used in several places is seen once.
    pub fn visit(&self, f: &mut impl FnMut(&Expr)) {
        fn walk(e: &Expr, seen: &mut HashSet<*const Node>, f: &mut impl FnMut(&Expr)) {
            if seen.insert(e.node()) {
                f(e);
                for child in e.children() {
                    walk(child, seen, f);
                }
            }
        }
        walk(self, &mut HashSet::new(), f);
    }

    /// Whether a part of it is this expression.
    pub fn contains(&self, part: &Expr) -> bool {
        let mut found = false;
        self.visit(&mut |e| found |= e == part);
        found
    }

    /// Whether it holds [`Node::Acc`].
    pub fn has_acc(&self) -> bool {
        let mut found = false;
        self.visit(&mut |e| found |= matches!(e.node(), Node::Acc));
        found
    }

    /// Whether it reads the tensor.
    pub fn reads(&self, t: TensorId) -> bool {
        let mut found = false;
        self.visit(&mut |e| found |= e.loaded() == Some(t));
        found
    }

    /// The tensor that is read, if this is a load.
    pub fn loaded(&self) -> Option<TensorId> {
        if let Node::Load { tensor, .. } = self.node() { Some(*tensor) } else { None }
    }

    /// Rebuilds the expression bottom-up: `f` sees each expression with its children already rebuilt, and what is used in
    /// several places once.
    pub fn rewrite(&self, f: &mut impl FnMut(Expr) -> Expr) -> Expr {
        self.rewrite_with(&mut HashMap::new(), f)
    }

    fn rewrite_with(&self, known: &mut HashMap<*const Node, Expr>, f: &mut impl FnMut(Expr) -> Expr) -> Expr {
        if let Some(e) = known.get(&std::ptr::from_ref(self.node())) {
            return e.clone();
        }
        let node = match self.node() {
            Node::Const(_) | Node::Index(_) | Node::Size(_) | Node::Acc => self.node().clone(),
            Node::Load { tensor, index, pad } => {
                let index = index
                    .iter()
                    .map(|ix| match ix {
                        Ix::Affine(a) => Ix::Affine(a.clone()),
                        Ix::Checked(e) => Ix::Checked(e.rewrite_with(known, f)),
                        Ix::Clamped(e) => Ix::Clamped(e.rewrite_with(known, f)),
                    })
                    .collect();
                Node::Load { tensor: *tensor, index, pad: pad.as_ref().map(|p| p.rewrite_with(known, f)) }
            }
            Node::Unary(op, a) => Node::Unary(*op, a.rewrite_with(known, f)),
            Node::Cast(a) => Node::Cast(a.rewrite_with(known, f)),
            Node::Bits(a) => Node::Bits(a.rewrite_with(known, f)),
            Node::Binary(op, a, b) => Node::Binary(*op, a.rewrite_with(known, f), b.rewrite_with(known, f)),
            Node::Compare(op, a, b) => Node::Compare(*op, a.rewrite_with(known, f), b.rewrite_with(known, f)),
            Node::Select(c, a, b) => Node::Select(c.rewrite_with(known, f), a.rewrite_with(known, f), b.rewrite_with(known, f)),
        };
        // Unchanged expressions stay shared.
        let rebuilt = if node == *self.node() { self.clone() } else { Expr::new(node, self.dtype) };
        let e = f(rebuilt);
        known.insert(self.node(), e.clone());
        e
    }

    /// The expression with every affine form (indices and index values) replaced.
    pub fn map_affine(&self, g: &mut impl FnMut(&Affine) -> Affine) -> Expr {
        self.rewrite(&mut |e| match e.node() {
            Node::Index(a) => Expr::index(&g(a)),
            Node::Load { tensor, index, pad } => {
                let index = index
                    .iter()
                    .map(|ix| match ix {
                        Ix::Affine(a) => Ix::Affine(g(a)),
                        other => other.clone(),
                    })
                    .collect();
                Expr::new(Node::Load { tensor: *tensor, index, pad: pad.clone() }, e.dtype())
            }
            _ => e,
        })
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl std::ops::$trait for Expr {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr { self.binary(BinaryOp::$op, &other) }
        }
        impl std::ops::$trait<&Expr> for &Expr {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr { self.binary(BinaryOp::$op, other) }
        }
        impl std::ops::$trait<f64> for Expr {
            type Output = Expr;
            fn $method(self, other: f64) -> Expr { let c = self.like(other); self.binary(BinaryOp::$op, &c) }
        }
        impl std::ops::$trait<f64> for &Expr {
            type Output = Expr;
            fn $method(self, other: f64) -> Expr { self.binary(BinaryOp::$op, &self.like(other)) }
        }
    )* };
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div);

#[cfg(test)]
mod tests {
    use super::*;

    /// `e = e * e`, so often that walking every path would not end.
    fn deep(last: f64) -> Expr {
        (0..100).fold(Expr::acc(DType::F32), |e, _| &e * &e) + last
    }

    #[test]
    fn shared_parts_are_walked_once() {
        assert_eq!(deep(1.0), deep(1.0));
        assert_ne!(deep(1.0), deep(2.0));
        let mut n = 0;
        deep(1.0).visit(&mut |_| n += 1);
        assert_eq!(n, 103);
        assert_eq!(deep(1.0).rewrite(&mut |e| e), deep(1.0));
    }

    #[test]
    fn equality_sees_every_part() {
        let load = |i: i64, pad: Option<f64>| {
            let pad = pad.map(|p| Expr::constant(DType::F32, p));
            Expr::new(Node::Load { tensor: TensorId(0), index: vec![Ix::from(i)], pad }, DType::F32)
        };
        assert_eq!(load(1, None), load(1, None));
        assert_ne!(load(1, None), load(2, None));
        assert_ne!(load(1, None), load(1, Some(0.0)));
        assert_ne!(load(1, Some(0.0)), load(1, Some(-0.0)));
        assert_ne!(load(1, None).unary(UnaryOp::Exp), load(1, None).unary(UnaryOp::Log));
    }
}

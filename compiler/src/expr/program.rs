//! The form: a program of stages, each computing one tensor from others by a scalar expression over axes.
//!
//! Sources: the compute definitions of Halide and TVM; differences: reads carry their padding, writes may be affine,
//! and a sequential loop (recurrent networks) is an item beside the stages.

use super::expression::{BinaryOp, Expr, Node};
use crate::tensor::{Affine as AffineOver, DType, Parameter, Size, Tensor};

/// A group's computation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// Every tensor of the program, by [`TensorId`].
    pub tensors: Vec<TensorDecl>,
    /// The tensors it reads from outside, in operand order.
    pub operands: Vec<TensorId>,
    /// The tensors it gives, in result order.
    pub results: Vec<TensorId>,
    /// The tensors whose value is part of the program: tables of indices and weights.
    pub constants: Vec<(TensorId, Tensor)>,
    /// What is computed, in order.
    pub items: Vec<Item>,
    /// The parameters of its sizes, where they are known.
    pub parameters: Vec<Parameter>,
}

impl Program {
    /// A tensor's declaration.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn tensor(&self, t: TensorId) -> &TensorDecl {
        &self.tensors[t.0 as usize]
    }

    /// Number of products that are summed.
    pub fn n_multiply_adds(&self) -> u64 {
        self.items.iter().map(Item::n_multiply_adds).sum()
    }
}

impl Item {
    fn n_multiply_adds(&self) -> u64 {
        match self {
            Item::Stage(Stage { axes, reduce, body: Body::Reduce { op: ReduceOp::Sum, value, .. }, .. })
                if matches!(value.node(), Node::Binary(BinaryOp::Mul, ..)) =>
            {
                axes.iter().chain(reduce).map(|&n| n as u64).product()
            }
            Item::Stage(_) | Item::Reshape { .. } => 0,
            Item::Repeat { extent, items, .. } => *extent as u64 * items.iter().map(Item::n_multiply_adds).sum::<u64>(),
        }
    }
}

/// A tensor of a program.
#[derive(Clone, PartialEq, Debug)]
pub struct TensorDecl {
    /// Name in text; derived from the graph value.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub dims: Vec<usize>,
    /// The extents of one run where they are known then, as [`Stage::bounds`] has them.
    pub bounds: Vec<Option<Size>>,
}

impl TensorDecl {
    /// The extent along an axis in one run, where it is less than all of it in some.
    pub fn bound(&self, axis: usize) -> Option<&Size> {
        self.bounds.get(axis).and_then(Option::as_ref)
    }
}

/// Index into [`Program::tensors`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TensorId(pub u32);

/// One step of a program.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// A tensor, or a region of one, computed element by element.
    Stage(Stage),
    /// `out` is `input` under other extents, row-major in both.
    Reshape {
        /// The new tensor.
        out: TensorId,
        /// The tensor it is made of.
        input: TensorId,
    },
    /// The items, once for each value of the loop variable in order; later iterations read what earlier ones wrote.
    Repeat {
        /// The variable, [`Var::Loop`] with this number.
        var: u32,
        /// Number of iterations.
        extent: usize,
        /// The values that the variable has, where they are known at run time: all of `0..extent` at most.
        live: Option<LiveRows>,
        /// The body.
        items: Vec<Item>,
    },
}

/// The values of a loop that is live: `from`, `from + step`, and so on below `to`.
#[derive(Clone, PartialEq, Debug)]
pub struct LiveRows {
    /// The first.
    pub from: Size,
    /// One past the last step, a whole number of steps from the first.
    pub to: Size,
    /// The increment.
    pub step: i64,
}

/// `out[write(axes)] = body(axes)` for all values of the axes; of a [`Body::Scatter`] the body says where too.
#[derive(Clone, PartialEq, Debug)]
pub struct Stage {
    /// The tensor that is written.
    pub out: TensorId,
    /// Where an element goes, one form for each axis of `out`; in range, and injective over the output axes but for scatters.
    pub write: Vec<Affine>,
    /// Extents of the output axes, [`Var::Axis`] `0..axes.len()`.
    pub axes: Vec<usize>,
    /// Extents of the reduction axes, [`Var::Axis`] from `axes.len()` on.
    pub reduce: Vec<usize>,
    /// By axis, those of the reduction behind the others: the extent of one run where that is known then, at most the one above. Axes
    /// past the end of the list have the extents above.
    pub bounds: Vec<Option<Size>>,
    /// The value.
    pub body: Body,
}

impl Stage {
    /// The extent of an axis in one run, where it is less than all of it in some.
    pub fn bound(&self, axis: usize) -> Option<&Size> {
        self.bounds.get(axis).and_then(Option::as_ref)
    }

    /// Whether only a run knows some extent.
    pub fn is_live(&self) -> bool {
        self.bounds.iter().any(Option::is_some)
    }

    /// The extent of an axis, those of the reduction last: the most, where only a run knows it.
    pub fn extent(&self, axis: usize) -> usize {
        let n = self.axes.len();
        if axis < n { self.axes[axis] } else { self.reduce[axis - n] }
    }

    /// Whether each point of the axes writes the element of that place.
    pub fn writes_in_place(&self) -> bool {
        self.write.len() == self.axes.len() && self.write.iter().enumerate().all(|(i, a)| *a == Affine::axis(i))
    }

    /// Elements from one result to the next along an axis, where what is written has these strides.
    pub fn stride_along(&self, strides: &[i64], axis: usize) -> i64 {
        self.write.iter().zip(strides).map(|(a, s)| a.coefficient(Var::Axis(axis as u32)) * s).sum()
    }

    /// The expressions of the body: the value, then what a reduction ends with; of a scatter when and where, then the value.
    pub fn expressions(&self) -> Vec<&Expr> {
        match &self.body {
            Body::Map(e) | Body::Arg { value: e, .. } => vec![e],
            Body::Reduce { value, finish, .. } => vec![value, finish],
            Body::Scatter { when, places, value } => when.iter().chain(places.iter().map(|p| &p.1)).chain([value]).collect(),
        }
    }
}

/// A variable of an index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Var {
    /// An enclosing [`Item::Repeat`].
    Loop(u32),
    /// An axis of the stage.
    Axis(u32),
}

/// An affine form over axes and loops.
pub type Affine = AffineOver<Var>;

impl Affine {
    /// The place along an axis of the stage.
    pub fn axis(axis: usize) -> Self {
        Affine::var(Var::Axis(axis as u32))
    }

    /// Whether it is an axis whose extent is `n`, of those that have these bounds.
    pub fn is_axis_of(&self, bounds: &[Option<Size>], n: &Size) -> bool {
        matches!(self.terms[..], [(Var::Axis(axis), 1)] if self.constant == 0 && bounds.get(axis as usize).and_then(Option::as_ref) == Some(n))
    }
}

/// What a stage computes.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// The expression itself; no reduction axes.
    Map(Expr),
    /// The expression combined over the reduction axes, then `finish`, in which [`Node::Acc`] is the combined value.
    Reduce {
        /// How two values combine.
        op: ReduceOp,
        /// The value at one point of the reduction, of the accumulator's type.
        value: Expr,
        /// The result from the accumulator (and from loads that use output axes only).
        finish: Expr,
    },
    /// The `i64` position, along the only reduction axis, of the greatest (or least) value.
    Arg {
        /// `Max` or `Min`.
        op: ReduceOp,
        /// The value compared.
        value: Expr,
        /// Whether the last of equal values wins instead of the first.
        last: bool,
    },
    /// Elements that were written before become others, one point of the axes after the other in row-major order. Several may be of one
    /// element. No expression reads the tensor.
    Scatter {
        /// Which points are not left out, `bool`; all if there is none.
        when: Option<Expr>,
        /// By axis of the tensor, along which `write` is 0, the place there, `i64`. One outside of the axis, of a point that is not left out,
        /// stops the program with status "index out of range".
        places: Vec<(usize, Expr)>,
        /// The element from what it was, [`Node::Acc`].
        value: Expr,
    },
}

impl Body {
    /// The body with other expressions, in the order of [`Stage::expressions`].
    pub fn map(&self, mut f: impl FnMut(&Expr) -> Expr) -> Body {
        match self {
            Body::Map(e) => Body::Map(f(e)),
            Body::Reduce { op, value, finish } => Body::Reduce { op: *op, value: f(value), finish: f(finish) },
            Body::Arg { op, value, last } => Body::Arg { op: *op, value: f(value), last: *last },
            Body::Scatter { when, places, value } => {
                let when = when.as_ref().map(&mut f);
                let places = places.iter().map(|(axis, e)| (*axis, f(e))).collect();
                Body::Scatter { when, places, value: f(value) }
            }
        }
    }
}

/// How a reduction combines. Empty reductions give the identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceOp {
    /// Sum, from 0.
    Sum,
    /// Product, from 1.
    Prod,
    /// Greatest, from minus infinity (or the least integer).
    Max,
    /// Least, from infinity (or the greatest integer).
    Min,
}

//! Builds a [`Program`]: what the operators' `lower` speaks.

use super::{Affine, Body, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorDecl, TensorId, Var};
use std::collections::HashMap;

use crate::tensor::{DType, Spread, Tensor, broadcast_dims};

/// A program under construction.
#[derive(Debug)]
pub struct Builder {
    program: Program,
    open: Vec<Vec<Item>>,
    n_loops: u32,
    name: String,
    /// Whether windows and borders are what they are at any size of their operand, not only at this one.
    pub any_padding: bool,
    /// Whether the same is lowered at other sizes too: nothing is chosen by how large operands are.
    pub any_size: bool,
    /// What is known of the extents of tensors at all sizes.
    spreads: HashMap<TensorId, Spread>,
    /// The same of the results of the node that is lowered.
    result_spreads: Vec<Option<Spread>>,
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            program: Program::default(),
            open: vec![vec![]],
            n_loops: 0,
            name: "t".to_owned(),
            any_padding: false,
            any_size: false,
            spreads: HashMap::new(),
            result_spreads: vec![],
        }
    }
}

impl Builder {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the tensors that are declared from here on: `name`, `name.1`, ...
    pub fn set_name(&mut self, name: &str) {
        self.name = name.to_owned();
    }

    /// Takes note of the extents of a tensor at all sizes.
    pub fn note_spread(&mut self, t: TensorId, spread: &Spread) {
        self.spreads.insert(t, spread.clone());
    }

    /// Takes note of the extents at all sizes of the results of the node whose operator is lowered next.
    pub fn note_results(&mut self, spreads: Vec<Option<Spread>>) {
        self.result_spreads = spreads;
    }

    /// The greatest extent of a tensor along an axis at all sizes, and whether others are different.
    pub fn spread(&self, t: TensorId, axis: usize) -> (usize, bool) {
        self.spreads.get(&t).map_or((self.dims(t)[axis], false), |s| (s.dims[axis], s.varies[axis]))
    }

    /// The same of a result of the node that is lowered, whose extent here is `n`.
    pub fn result_spread(&self, result: usize, axis: usize, n: usize) -> (usize, bool) {
        let spread = self.result_spreads.get(result).and_then(Option::as_ref);
        spread.map_or((n, false), |s| (s.dims[axis], s.varies[axis]))
    }

    /// A tensor that is read from outside. Programs know the types that memory holds: see [`DType::storage`].
    pub fn operand(&mut self, name: &str, dtype: DType, dims: &[usize]) -> TensorId {
        let name = self.unique(name);
        self.program.tensors.push(TensorDecl { name, dtype: dtype.storage(), dims: dims.to_vec(), bounds: vec![] });
        let id = TensorId(self.program.tensors.len() as u32 - 1);
        self.program.operands.push(id);
        id
    }

    /// A tensor whose value is part of the program; equal values are one tensor, unless they may be others at other sizes.
    pub fn constant(&mut self, name: &str, value: Tensor) -> TensorId {
        let value = value.stored();
        if let Some((id, _)) = self.program.constants.iter().find(|(_, v)| !self.any_size && *v == value) {
            return *id;
        }
        let name = self.unique(name);
        self.program.tensors.push(TensorDecl { name, dtype: value.dtype(), dims: value.dims().to_vec(), bounds: vec![] });
        let id = TensorId(self.program.tensors.len() as u32 - 1);
        self.program.constants.push((id, value));
        id
    }

    /// A tensor to be written by [`Builder::write`] and [`Builder::write_reduce`], in regions.
    pub fn declare(&mut self, dtype: DType, dims: &[usize]) -> TensorId {
        let dtype = dtype.storage();
        let name = self.unique(&self.name.clone());
        self.program.tensors.push(TensorDecl { name, dtype, dims: dims.to_vec(), bounds: vec![] });
        TensorId(self.program.tensors.len() as u32 - 1)
    }

    fn unique(&self, name: &str) -> String {
        let taken = |n: &str| self.program.tensors.iter().any(|t| t.name == n);
        if !taken(name) {
            return name.to_owned();
        }
        (1..).map(|i| format!("{name}.{i}")).find(|n| !taken(n)).expect("an unbounded range")
    }

    /// Extents of a tensor.
    pub fn dims(&self, t: TensorId) -> &[usize] {
        &self.program.tensors[t.0 as usize].dims
    }

    /// Element type of a tensor.
    pub fn dtype(&self, t: TensorId) -> DType {
        self.program.tensors[t.0 as usize].dtype
    }

    /// An element of a tensor; every affine index must be inside the tensor for all values of the axes.
    pub fn load<I: Into<Ix>>(&self, t: TensorId, index: impl IntoIterator<Item = I>) -> Expr {
        self.any_load(t, index, None)
    }

    /// An element of a tensor, or `pad` where an index is outside.
    pub fn load_padded<I: Into<Ix>>(&self, t: TensorId, index: impl IntoIterator<Item = I>, pad: Expr) -> Expr {
        self.any_load(t, index, Some(pad))
    }

    fn any_load<I: Into<Ix>>(&self, t: TensorId, index: impl IntoIterator<Item = I>, pad: Option<Expr>) -> Expr {
        let index: Vec<Ix> = index.into_iter().map(Into::into).collect();
        assert_eq!(index.len(), self.dims(t).len(), "indices of a load");
        Expr::new(Node::Load { tensor: t, index, pad }, self.dtype(t))
    }

    /// The element of `t` that ONNX broadcasting puts at `at`, an index of any rank not below `t`'s.
    pub fn load_broadcast(&self, t: TensorId, at: &[Affine]) -> Expr {
        let dims = self.dims(t);
        let skip = at.len() - dims.len();
        self.load(t, dims.iter().zip(&at[skip..]).map(|(&d, a)| if d == 1 { Affine::default() } else { a.clone() }))
    }

    /// Element by element over ONNX broadcasting of the operands, which must broadcast.
    pub fn map(&mut self, operands: &[TensorId], f: impl FnOnce(&[Expr]) -> Expr) -> TensorId {
        let dims = operands.iter().fold(vec![], |d, &t| broadcast_dims(&d, self.dims(t)).expect("operands that broadcast"));
        self.compute(&dims, |b, at| {
            let loads: Vec<Expr> = operands.iter().map(|&t| b.load_broadcast(t, at)).collect();
            f(&loads)
        })
    }

    /// A new tensor of the given extents, from its index.
    pub fn compute(&mut self, dims: &[usize], f: impl FnOnce(&Self, &[Affine]) -> Expr) -> TensorId {
        let at = axes(0, dims.len());
        let value = f(self, &at);
        let out = self.declare(value.dtype(), dims);
        self.stage(Stage { out, write: at, axes: dims.to_vec(), reduce: vec![], bounds: vec![], body: Body::Map(value) });
        out
    }

    /// A new tensor whose elements are `finish(op over the reduction axes of value(index, reduction index))`.
    pub fn reduce(
        &mut self,
        op: ReduceOp,
        dims: &[usize],
        reduce: &[usize],
        value: impl FnOnce(&Self, &[Affine], &[Affine]) -> Expr,
        finish: impl FnOnce(&Self, &[Affine], Expr) -> Expr,
    ) -> TensorId {
        let (at, over) = (axes(0, dims.len()), axes(dims.len(), reduce.len()));
        let value = value(self, &at, &over);
        let finish = finish(self, &at, Expr::acc(value.dtype()));
        let out = self.declare(finish.dtype(), dims);
        self.stage(Stage {
            out,
            write: at,
            axes: dims.to_vec(),
            reduce: reduce.to_vec(),
            bounds: vec![],
            body: Body::Reduce { op, value, finish },
        });
        out
    }

    /// The position of the greatest or least value along one axis of extent `reduce`.
    pub fn arg(
        &mut self,
        op: ReduceOp,
        last: bool,
        dims: &[usize],
        reduce: usize,
        value: impl FnOnce(&Self, &[Affine], &Affine) -> Expr,
    ) -> TensorId {
        let at = axes(0, dims.len());
        let value = value(self, &at, &axes(dims.len(), 1)[0]);
        let out = self.declare(DType::I64, dims);
        self.stage(Stage {
            out,
            write: at,
            axes: dims.to_vec(),
            reduce: vec![reduce],
            bounds: vec![],
            body: Body::Arg { op, value, last },
        });
        out
    }

    /// Writes a region of `out`: over axes of extents `dims`, `f` gives where an element goes and its value.
    pub fn write(&mut self, out: TensorId, dims: &[usize], f: impl FnOnce(&Self, &[Affine]) -> (Vec<Affine>, Expr)) {
        let (write, value) = f(self, &axes(0, dims.len()));
        self.stage(Stage { out, write, axes: dims.to_vec(), reduce: vec![], bounds: vec![], body: Body::Map(value) });
    }

    /// Changes elements of `out` that were written before, as [`Body::Scatter`] says: over axes of extents `dims`, `f` gives the place along each
    /// axis of `out`, and the element from what it was, where `when` says so.
    pub fn scatter(
        &mut self,
        out: TensorId,
        dims: &[usize],
        when: Option<&Meant<'_>>,
        f: impl FnOnce(&Self, &[Affine], Expr) -> (Vec<Place>, Expr),
    ) {
        let at = axes(0, dims.len());
        let (to, value) = f(self, &at, Expr::acc(self.dtype(out)));
        let (mut write, mut places) = (vec![], vec![]);
        for (axis, place) in to.into_iter().enumerate() {
            match place {
                Place::Known(a) => write.push(a),
                Place::Data(e) => {
                    write.push(Affine::default());
                    places.push((axis, e));
                }
            }
        }
        let body = Body::Scatter { when: when.map(|f| f(self, &at)), places, value };
        self.stage(Stage { out, write, axes: dims.to_vec(), reduce: vec![], bounds: vec![], body });
    }

    /// Writes a region of `out` with a reduction; `at` gives where an element goes.
    #[expect(clippy::too_many_arguments, reason = "`reduce` and where it goes")]
    pub fn write_reduce(
        &mut self,
        out: TensorId,
        op: ReduceOp,
        dims: &[usize],
        reduce: &[usize],
        at: impl FnOnce(&[Affine]) -> Vec<Affine>,
        value: impl FnOnce(&Self, &[Affine], &[Affine]) -> Expr,
        finish: impl FnOnce(&Self, &[Affine], Expr) -> Expr,
    ) {
        let (here, over) = (axes(0, dims.len()), axes(dims.len(), reduce.len()));
        let value = value(self, &here, &over);
        let finish = finish(self, &here, Expr::acc(value.dtype()));
        self.stage(Stage {
            out,
            write: at(&here),
            axes: dims.to_vec(),
            reduce: reduce.to_vec(),
            bounds: vec![],
            body: Body::Reduce { op, value, finish },
        });
    }

    /// The same elements in memory of their own.
    pub fn copy(&mut self, input: TensorId) -> TensorId {
        let dims = self.dims(input).to_vec();
        self.compute(&dims, |b, at| b.load(input, at.iter()))
    }

    /// The same elements, row-major, under other extents.
    pub fn reshape(&mut self, input: TensorId, dims: &[usize]) -> TensorId {
        if self.dims(input) == dims {
            return input;
        }
        let out = self.declare(self.dtype(input), dims);
        self.item(Item::Reshape { out, input });
        out
    }

    /// Repeats what `f` builds, in order, `extent` times; `f` gets the loop variable.
    pub fn repeat(&mut self, extent: usize, f: impl FnOnce(&mut Self, Affine)) {
        let var = self.n_loops;
        self.n_loops += 1;
        self.open.push(vec![]);
        f(self, Affine::var(Var::Loop(var)));
        let items = self.open.pop().expect("the list opened above");
        self.item(Item::Repeat { var, extent, live: None, items });
    }

    /// Adds a stage.
    pub fn stage(&mut self, stage: Stage) {
        self.item(Item::Stage(stage));
    }

    fn item(&mut self, item: Item) {
        self.open.last_mut().expect("the program's own list").push(item);
    }

    /// The program with the given results.
    pub fn finish(mut self, results: &[TensorId]) -> Program {
        self.program.items = self.open.pop().expect("the program's own list");
        self.program.results = results.to_vec();
        self.program
    }
}

/// Whether what a scatter has at this point of its axes is meant, `bool`.
pub type Meant<'a> = dyn Fn(&Builder, &[Affine]) -> Expr + 'a;

/// Where a scatter writes along one axis.
#[derive(Clone, Debug)]
pub enum Place {
    /// Known when compiled.
    Known(Affine),
    /// An `i64` expression.
    Data(Expr),
}

fn axes(from: usize, n: usize) -> Vec<Affine> {
    (from..from + n).map(|i| Affine::var(Var::Axis(i as u32))).collect()
}

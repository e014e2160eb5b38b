//! What the recurrent operators share: shapes, directions, activations, the loop over time.

use super::widen::{FLOATS, require_equal, wide};
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands};
use crate::tensor::{DType, Dim, Shape, Tensor, Type};

/// Positions of operands in all recurrent operators.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const LENGTHS: usize = 4;
const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;
pub(super) const PEEPHOLES: usize = 7;

/// An activation function with its parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Activation {
    kind: Kind,
    alpha: f64,
    beta: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Relu,
    Tanh,
    Sigmoid,
    Affine,
    LeakyRelu,
    ThresholdedRelu,
    ScaledTanh,
    HardSigmoid,
    Elu,
    Softsign,
    Softplus,
}

/// Name, kind, default of `alpha` and `beta` (`None` if the function has no such parameter, NaN if it must be given).
const ACTIVATIONS: [(&str, Kind, Option<f64>, Option<f64>); 11] = [
    ("Relu", Kind::Relu, None, None),
    ("Tanh", Kind::Tanh, None, None),
    ("Sigmoid", Kind::Sigmoid, None, None),
    ("Affine", Kind::Affine, Some(f64::NAN), Some(f64::NAN)),
    ("LeakyRelu", Kind::LeakyRelu, Some(0.01), None),
    ("ThresholdedRelu", Kind::ThresholdedRelu, Some(1.0), None),
    ("ScaledTanh", Kind::ScaledTanh, Some(f64::NAN), Some(f64::NAN)),
    ("HardSigmoid", Kind::HardSigmoid, Some(0.2), Some(0.5)),
    ("Elu", Kind::Elu, Some(1.0), None),
    ("Softsign", Kind::Softsign, None, None),
    ("Softplus", Kind::Softplus, None, None),
];

impl Activation {
    fn list(names: &[&str], alphas: &[f32], betas: &[f32]) -> Result<Vec<Activation>, InferError> {
        let (mut alphas, mut betas) = (alphas.iter(), betas.iter());
        // Each function that has a parameter takes the next one.
        let mut list = vec![];
        for name in names {
            let &(known, kind, alpha, beta) = ACTIVATIONS
                .iter()
                .find(|a| a.0.eq_ignore_ascii_case(name))
                .ok_or_else(|| InferError::Unsupported(format!("activation `{name}` is not supported")))?;
            let parameter = |default: Option<f64>, given: &mut std::slice::Iter<f32>| match default {
                None => Ok(0.0),
                Some(default) => match given.next() {
                    Some(&x) => Ok(f64::from(x)),
                    None if default.is_nan() => Err(InferError::Invalid(format!("activation `{known}` lacks a parameter"))),
                    None => Ok(default),
                },
            };
            list.push(Activation { kind, alpha: parameter(alpha, &mut alphas)?, beta: parameter(beta, &mut betas)? });
        }
        Ok(list)
    }

    /// The value at `x`.
    pub(super) fn value(&self, x: f64) -> f64 {
        let (alpha, beta) = (self.alpha, self.beta);
        match self.kind {
            Kind::Relu => x.max(0.0),
            Kind::Tanh => x.tanh(),
            Kind::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Kind::Affine => alpha * x + beta,
            Kind::LeakyRelu => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Kind::ThresholdedRelu => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            Kind::ScaledTanh => alpha * (beta * x).tanh(),
            Kind::HardSigmoid => (alpha * x + beta).clamp(0.0, 1.0),
            Kind::Elu => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
            Kind::Softsign => x / (1.0 + x.abs()),
            Kind::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }

    /// The function of an expression.
    pub(super) fn of(&self, x: &Expr) -> Expr {
        let (alpha, beta) = (self.alpha, self.beta);
        let zero = x.like(0.0);
        let relu = || x.binary(BinaryOp::Max, &zero);
        match self.kind {
            Kind::Relu => relu(),
            Kind::Tanh => x.unary(UnaryOp::Tanh),
            Kind::Sigmoid => x.unary(UnaryOp::Sigmoid),
            Kind::Affine => x * alpha + beta,
            Kind::LeakyRelu => x.compare(CompareOp::Lt, &zero).select(&(x * alpha), x),
            Kind::ThresholdedRelu => x.compare(CompareOp::Gt, &x.like(alpha)).select(x, &zero),
            Kind::ScaledTanh => (x * beta).unary(UnaryOp::Tanh) * alpha,
            Kind::HardSigmoid => {
                let line = x * alpha + beta;
                line.binary(BinaryOp::Max, &zero).binary(BinaryOp::Min, &x.like(1.0))
            }
            Kind::Elu => x.compare(CompareOp::Lt, &zero).select(&(x.unary(UnaryOp::Expm1) * alpha), x),
            Kind::Softsign => x / &(x.unary(UnaryOp::Abs) + 1.0),
            Kind::Softplus => relu() + x.unary(UnaryOp::Abs).unary(UnaryOp::Neg).unary(UnaryOp::Exp).unary(UnaryOp::Log1p),
        }
    }
}

/// The attributes that recurrent operators share.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    pub(super) gates: usize,
    pub(super) defaults: &'a [&'a str],
    pub(super) activations: &'a [String],
    pub(super) alpha: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) clip: Option<f32>,
    pub(super) direction: &'a str,
    pub(super) hidden_size: Option<i64>,
    pub(super) layout: i64,
    /// Whether there is a cell state beside the hidden one.
    pub(super) has_cell: bool,
}

/// The recurrence of an operator, whose attributes mostly have the same names.
macro_rules! recurrence {
    ($op:expr, $x:expr, gates: $gates:expr, defaults: $defaults:expr, activations: $activations:expr, has_cell: $has_cell:expr) => {{
        let attributes = $crate::ops::neural::recurrent::Attributes {
            gates: $gates,
            defaults: $defaults,
            activations: $activations,
            alpha: &$op.activation_alpha,
            beta: &$op.activation_beta,
            clip: $op.clip,
            direction: &$op.direction,
            hidden_size: $op.hidden_size,
            layout: $op.layout,
            has_cell: $has_cell,
        };
        $crate::ops::neural::recurrent::Recurrence::new(&attributes, $x)
    }};
}
pub(super) use recurrence;

/// A recurrent node with its attributes resolved.
#[derive(Debug)]
pub(super) struct Recurrence {
    gates: usize,
    hidden: usize,
    /// By direction: whether time runs backwards.
    reverse: Vec<bool>,
    /// Functions of each direction in turn.
    activations: Vec<Activation>,
    clip: Option<f64>,
    batch_first: bool,
    has_cell: bool,
}

/// One direction in one step of the loop: the gates' inputs and where the state is.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// Activation functions.
    pub(super) activations: &'a [Activation],
    /// Number of the direction.
    pub(super) direction: usize,
    /// Products of the inputs with the weights and the biases, `[time, batch, n]`.
    pub(super) inputs: TensorId,
    /// Where those of the direction begin along the last axis, `gates * hidden`.
    first: usize,
    /// The time.
    pub(super) time: Affine,
    /// The hidden state, `[batch, hidden]`.
    pub(super) h: TensorId,
    /// The cell state, `[batch, hidden]`.
    pub(super) c: Option<TensorId>,
    /// Recurrent weights, `[direction, gates * hidden, hidden]`.
    pub(super) weights: TensorId,
    /// The biases, `[direction, 2 * gates * hidden]`.
    pub(super) bias: Option<TensorId>,
    lengths: Option<TensorId>,
}

fn require_rank(x: &Operands, i: usize, rank: usize) -> Result<(), InferError> {
    match x.rank(i)? {
        r if r == rank => Ok(()),
        _ => Err(InferError::Invalid(format!("operand {i} must have {rank} axes, found {}", x.ty(i)?))),
    }
}

/// Fails unless operand `i` has these extents.
pub(super) fn require(x: &Operands, i: usize, dims: &[Dim]) -> Result<(), InferError> {
    require_rank(x, i, dims.len())?;
    x.ty(i)?.shape.0.iter().zip(dims).try_for_each(|(found, d)| require_equal(d, found, &format!("extents of operand {i} must be")))
}

impl Recurrence {
    /// Resolves the attributes and checks the operands.
    pub(super) fn new(a: &Attributes, x: &Operands) -> Result<Self, InferError> {
        x.require_dtype(X, FLOATS)?;
        for i in [W, R] {
            x.require_same_dtype(i, X)?;
        }
        for i in [X, W, R] {
            require_rank(x, i, 3)?;
        }
        let r = Self::of_states(a, x, x.dims(R)?[2])?;
        let fixed = Dim::Fixed;
        let (n, rows) = (r.reverse.len(), r.gates * r.hidden);
        require(x, W, &[fixed(n), fixed(rows), x.ty(X)?.shape.0[2].clone()])?;
        require(x, R, &[fixed(n), fixed(rows), fixed(r.hidden)])?;
        if x.has(B) {
            x.require_same_dtype(B, X)?;
            require(x, B, &[fixed(n), fixed(2 * rows)])?;
        }
        Ok(r)
    }

    /// Resolves the attributes and checks the operands but for weights and biases, where the hidden state has this extent.
    pub(super) fn of_states(a: &Attributes, x: &Operands, hidden: usize) -> Result<Self, InferError> {
        let reverse = match a.direction {
            "forward" => vec![false],
            "reverse" => vec![true],
            "bidirectional" => vec![false, true],
            other => return Err(InferError::Invalid(format!("`direction` is `{other}`"))),
        };
        if !matches!(a.layout, 0 | 1) {
            return Err(InferError::Invalid(format!("`layout` is {}", a.layout)));
        }
        if a.clip.is_some_and(|c| c.is_nan() || c < 0.0) {
            return Err(InferError::Invalid(format!("`clip` is {}", a.clip.unwrap_or_default())));
        }
        x.require_dtype(X, FLOATS)?;
        let states = || [INITIAL_H].into_iter().chain(a.has_cell.then_some(INITIAL_C)).filter(|&i| x.has(i));
        for i in states().chain(Some(PEEPHOLES).filter(|&i| a.has_cell && x.has(i))) {
            x.require_same_dtype(i, X)?;
        }
        require_rank(x, X, 3)?;
        let n = reverse.len();
        if a.hidden_size.is_some_and(|h| h != hidden as i64) {
            return Err(InferError::Invalid(format!("`hidden_size` is {:?}, but the weights are {}", a.hidden_size, x.ty(R)?)));
        }
        let fixed = Dim::Fixed;
        let (_, batch) = Self::time_and_batch(x, a.layout == 1)?;
        if x.has(LENGTHS) {
            x.require_dtype(LENGTHS, &[DType::I32, DType::I64])?;
            require(x, LENGTHS, std::slice::from_ref(&batch))?;
        }
        let state = if a.layout == 1 { [batch, fixed(n), fixed(hidden)] } else { [fixed(n), batch, fixed(hidden)] };
        for i in states() {
            require(x, i, &state)?;
        }
        if a.has_cell && x.has(PEEPHOLES) {
            require(x, PEEPHOLES, &[fixed(n), fixed(3 * hidden)])?;
        }
        let per_direction = a.defaults.len();
        let names: Vec<&str> = match a.activations.len() {
            0 => a.defaults.repeat(n),
            given if given == n * per_direction => a.activations.iter().map(String::as_str).collect(),
            // Some exporters give the functions of one direction for both.
            given if given == per_direction => a.activations.iter().map(String::as_str).collect::<Vec<_>>().repeat(n),
            given => return Err(InferError::Invalid(format!("{given} activations for {n} directions"))),
        };
        let activations = Activation::list(&names, a.alpha, a.beta)?;
        let clip = a.clip.filter(|&c| c > 0.0).map(f64::from);
        Ok(Recurrence { gates: a.gates, hidden, reverse, activations, clip, batch_first: a.layout == 1, has_cell: a.has_cell })
    }

    fn time_and_batch(x: &Operands, batch_first: bool) -> Result<(Dim, Dim), InferError> {
        let dims = &x.ty(X)?.shape.0;
        Ok(if batch_first { (dims[1].clone(), dims[0].clone()) } else { (dims[0].clone(), dims[1].clone()) })
    }

    /// Types of as many results as the node has.
    pub(super) fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let (time, batch) = Self::time_and_batch(x, self.batch_first)?;
        let (n, hidden) = (Dim::Fixed(self.reverse.len()), Dim::Fixed(self.hidden));
        let (y, state) = match self.batch_first {
            true => (vec![batch.clone(), time, n.clone(), hidden.clone()], vec![batch, n, hidden]),
            false => (vec![time, n.clone(), batch.clone(), hidden.clone()], vec![n, batch, hidden]),
        };
        let dtype = x.dtype(X)?;
        let mut types = vec![Type::new(dtype, Shape(y)), Type::new(dtype, Shape(state.clone()))];
        if self.has_cell {
            types.push(Type::new(dtype, Shape(state)));
        }
        types.truncate(x.n_results.max(1));
        Ok(types)
    }

    /// The batch is linked in operands and results.
    pub(super) fn axes(&self, x: &Operands) -> Axes {
        let batch = Some(0);
        let state = if self.batch_first { vec![batch, None, None] } else { vec![None, batch, None] };
        let mut axes = Axes::unlinked(x);
        for (i, labels) in axes.operands.iter_mut().enumerate().filter(|(_, l)| !l.is_empty()) {
            match i {
                X | INITIAL_H | INITIAL_C => labels.clone_from(&state),
                LENGTHS => *labels = vec![batch],
                _ => {}
            }
        }
        let y = if self.batch_first { vec![batch, None, None, None] } else { vec![None, None, batch, None] };
        axes.results = [y, state.clone(), state].into_iter().take(x.n_results.max(1)).collect();
        axes
    }

    fn n_functions(&self) -> usize {
        self.activations.len() / self.reverse.len()
    }

    fn functions(&self, direction: usize) -> &[Activation] {
        &self.activations[direction * self.n_functions()..][..self.n_functions()]
    }

    /// Number of directions.
    pub(super) fn n_directions(&self) -> usize {
        self.reverse.len()
    }

    /// Extent of the hidden state.
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// The input of an activation, clipped.
    pub(super) fn clip(&self, x: Expr) -> Expr {
        match self.clip {
            Some(c) => x.binary(BinaryOp::Max, &x.like(-c)).binary(BinaryOp::Min, &x.like(c)),
            None => x,
        }
    }

    /// The input of an activation, clipped.
    pub(super) fn clip_value(&self, x: f64) -> f64 {
        self.clip.map_or(x, |c| x.clamp(-c, c))
    }

    /// The loop over time of every direction; `step` computes the next state. With `all_biases` the recurrent biases are
    /// added to the inputs' products.
    pub(super) fn lower(
        &self,
        b: &mut expr::Builder,
        x: &Args<'_>,
        all_biases: bool,
        step: impl Fn(&mut expr::Builder, &Step),
    ) -> Result<Vec<TensorId>, LowerError> {
        let (input, w, bias) = (x.tensor(X), x.tensor(W), x.get(B));
        let (dims, compute) = (x.dims(X), wide(b.dtype(input)));
        let (time, batch) = if self.batch_first { (dims[1], dims[0]) } else { (dims[0], dims[1]) };
        let rows = self.gates * self.hidden;
        let inputs = |b: &mut expr::Builder, d: usize| {
            let direction = Affine::constant(d as i64);
            let products = b.reduce(
                ReduceOp::Sum,
                &[time, batch, rows],
                &[dims[2]],
                |b, at, over| {
                    let (i, j) = if self.batch_first { (1, 0) } else { (0, 1) };
                    let element = b.load(input, [at[i].clone(), at[j].clone(), over[0].clone()]).cast(compute);
                    element * b.load(w, [direction.clone(), at[2].clone(), over[0].clone()]).cast(compute)
                },
                |b, at, sum| {
                    let Some(bias) = bias else { return sum };
                    let part = |offset: usize| b.load(bias, [direction.clone(), at[2].offset(offset as i64)]).cast(compute);
                    if all_biases { sum + part(0) + part(rows) } else { sum + part(0) }
                },
            );
            (products, 0)
        };
        self.over_time(b, x, inputs, step)
    }

    /// The loop over time of every direction, whose gates' inputs are `inputs`: `[time, batch, n]`, and where they begin along the last axis.
    pub(super) fn over_time(
        &self,
        b: &mut expr::Builder,
        x: &Args<'_>,
        inputs: impl Fn(&mut expr::Builder, usize) -> (TensorId, usize),
        step: impl Fn(&mut expr::Builder, &Step),
    ) -> Result<Vec<TensorId>, LowerError> {
        let (dtype, dims) = (b.dtype(x.tensor(X)), x.dims(X));
        let (weights, bias, compute, hidden) = (x.tensor(R), x.get(B), wide(dtype), self.hidden);
        let (time, batch) = if self.batch_first { (dims[1], dims[0]) } else { (dims[0], dims[1]) };
        let full = |t: &Tensor| t.to_ints().iter().all(|&n| n == time as i128);
        let lengths = x.get(LENGTHS).filter(|_| !x.facts.tensor_opt(LENGTHS).is_some_and(full));
        let out: Vec<TensorId> = x.results.iter().map(|ty| b.declare(dtype, &ty.dims().expect("fixed extents when lowering"))).collect();
        let state_at = |d: &Affine, at: &[Affine]| match self.batch_first {
            true => vec![at[0].clone(), d.clone(), at[1].clone()],
            false => vec![d.clone(), at[0].clone(), at[1].clone()],
        };
        for (d, &reverse) in self.reverse.iter().enumerate() {
            let direction = Affine::constant(d as i64);
            let (inputs, first) = inputs(b, d);
            let state = |b: &mut expr::Builder, initial: Option<TensorId>| {
                let state = b.declare(compute, &[batch, hidden]);
                b.write(state, &[batch, hidden], |b, at| {
                    let value = match initial {
                        Some(i) => b.load(i, state_at(&direction, at)).cast(compute),
                        None => Expr::constant(compute, 0.0),
                    };
                    (at.to_vec(), value)
                });
                state
            };
            let h = state(b, x.get(INITIAL_H));
            let c = self.has_cell.then(|| state(b, x.get(INITIAL_C)));
            b.repeat(time, |b, t| {
                let time = if reverse { t.times(-1).offset(time as i64 - 1) } else { t };
                let activations = self.functions(d);
                let s = Step { activations, direction: d, inputs, first, time, h, c, weights, bias, lengths };
                step(b, &s);
                b.write(out[0], &[batch, hidden], |b, at| {
                    let value = b.load(h, at.to_vec());
                    let value = s.mask(b, &at[0]).map_or(value.clone(), |m| m.select(&value, &value.like(0.0)));
                    let index = match self.batch_first {
                        true => vec![at[0].clone(), s.time.clone(), direction.clone(), at[1].clone()],
                        false => vec![s.time.clone(), direction.clone(), at[0].clone(), at[1].clone()],
                    };
                    (index, value.cast(dtype))
                });
            });
            for (&last, state) in out[1..].iter().zip([Some(h), c].into_iter().flatten()) {
                b.write(last, &[batch, hidden], |b, at| (state_at(&direction, at), b.load(state, at.to_vec()).cast(dtype)));
            }
        }
        Ok(out)
    }

    /// As `lower`, with values: `step` gets the gates' inputs `x * W + Wb`, the recurrent products and the state.
    pub(super) fn eval(&self, x: &Operands, step: impl Fn(&EvalStep, &mut [f64], &mut [f64])) -> Result<Vec<Tensor>, EvalError> {
        let (xv, w, r) = (x.tensor(X).to_f64s(), x.tensor(W).to_f64s(), x.tensor(R).to_f64s());
        let (width, rows) = (x.tensor(X).dims()[2], self.gates * self.hidden);
        let bias = x.tensor_opt(B).map_or_else(|| vec![0.0; self.reverse.len() * 2 * rows], Tensor::to_f64s);
        let inputs = |d: usize, element: usize| {
            let row = &xv[element * width..][..width];
            (0..rows).map(|j| dot(row, &w[(d * rows + j) * width..][..width]) + bias[d * 2 * rows + j]).collect()
        };
        self.eval_over_time(x, inputs, (&r, &bias), step)
    }

    /// As `over_time`, with values: `inputs` are those of an element of a direction, of time and batch as they are in memory; then recurrent
    /// weights `[direction, gates * hidden, hidden]` and biases `[direction, 2 * gates * hidden]`.
    pub(super) fn eval_over_time(
        &self,
        x: &Operands,
        inputs: impl Fn(usize, usize) -> Vec<f64>,
        (r, bias): (&[f64], &[f64]),
        step: impl Fn(&EvalStep, &mut [f64], &mut [f64]),
    ) -> Result<Vec<Tensor>, EvalError> {
        let dims = x.tensor(X).dims();
        let (time, batch) = if self.batch_first { (dims[1], dims[0]) } else { (dims[0], dims[1]) };
        let (hidden, n) = (self.hidden, self.reverse.len());
        let rows = self.gates * hidden;
        let or_zeros = |i: usize, len: usize| x.tensor_opt(i).map_or_else(|| vec![0.0; len], Tensor::to_f64s);
        let (mut h, mut c) = (or_zeros(INITIAL_H, n * batch * hidden), vec![0.0; n * batch * hidden]);
        if self.has_cell {
            c = or_zeros(INITIAL_C, n * batch * hidden);
        }
        let lengths = x.tensor_opt(LENGTHS).map(Tensor::to_ints);
        let mut y = vec![0.0; time * n * batch * hidden];
        for d in 0..n {
            for s in 0..batch {
                let state = if self.batch_first { s * n + d } else { d * batch + s } * hidden;
                for i in 0..time {
                    let t = if self.reverse[d] { time - 1 - i } else { i };
                    if lengths.as_ref().is_some_and(|l| t as i128 >= l[s]) {
                        continue;
                    }
                    let call = EvalStep {
                        activations: self.functions(d),
                        direction: d,
                        inputs: inputs(d, if self.batch_first { s * time + t } else { t * batch + s }),
                        bias: &bias[d * 2 * rows + rows..][..rows],
                        weights: &r[d * rows * hidden..][..rows * hidden],
                    };
                    step(&call, &mut h[state..][..hidden], &mut c[state..][..hidden]);
                    let at = if self.batch_first { (s * time + t) * n + d } else { (t * n + d) * batch + s } * hidden;
                    y[at..][..hidden].copy_from_slice(&h[state..][..hidden]);
                }
            }
        }
        let types = self.infer(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let values = [y, h, c];
        Ok(types.iter().zip(values).map(|(t, v)| Tensor::from_f64s(t.dtype, &t.dims().expect("extents of values"), &v)).collect())
    }
}

impl Step<'_> {
    /// Whether this time is inside the sequence of batch element `batch`; `None` if it always is.
    pub(super) fn mask(&self, b: &expr::Builder, batch: &Affine) -> Option<Expr> {
        let lengths = self.lengths?;
        Some(Expr::index(&self.time).compare(CompareOp::Lt, &b.load(lengths, [batch.clone()]).cast(DType::I64)))
    }

    /// `[batch, n]`: the product of `state` with rows `first..first + n` of the recurrent weights, then `finish` of index and sum.
    pub(super) fn product(
        &self,
        b: &mut expr::Builder,
        state: TensorId,
        first: usize,
        n: usize,
        finish: impl FnOnce(&expr::Builder, &[Affine], Expr) -> Expr,
    ) -> TensorId {
        let [batch, hidden] = [0, 1].map(|i| b.dims(state)[i]);
        let compute = b.dtype(state);
        let direction = Affine::constant(self.direction as i64);
        b.reduce(
            ReduceOp::Sum,
            &[batch, n],
            &[hidden],
            |b, at, over| {
                let weight = b.load(self.weights, [direction, at[1].offset(first as i64), over[0].clone()]).cast(compute);
                b.load(state, [at[0].clone(), over[0].clone()]) * weight
            },
            finish,
        )
    }

    /// The gates' inputs at row `row`.
    pub(super) fn input(&self, b: &expr::Builder, batch: &Affine, row: &Affine) -> Expr {
        b.load(self.inputs, [self.time.clone(), batch.clone(), row.offset(self.first as i64)])
    }

    /// Writes the next value of a state, unless the sequence has ended.
    pub(super) fn update(&self, b: &mut expr::Builder, state: TensorId, next: impl FnOnce(&expr::Builder, &[Affine], Expr) -> Expr) {
        let dims = b.dims(state).to_vec();
        b.write(state, &dims, |b, at| {
            let old = b.load(state, at.to_vec());
            let new = next(b, at, old.clone());
            (at.to_vec(), self.mask(b, &at[0]).map_or(new.clone(), |m| m.select(&new, &old)))
        });
    }
}

/// One step of `eval` for one element of the batch.
#[derive(Debug)]
pub(super) struct EvalStep<'a> {
    /// Activation functions.
    pub(super) activations: &'a [Activation],
    /// Number of the direction.
    pub(super) direction: usize,
    /// `x * W + Wb`, all gates.
    pub(super) inputs: Vec<f64>,
    /// The recurrent biases, all gates.
    pub(super) bias: &'a [f64],
    weights: &'a [f64],
}

impl EvalStep<'_> {
    /// `state * R + Rb` for row `row` of the gates.
    pub(super) fn recur(&self, state: &[f64], row: usize) -> f64 {
        dot(state, &self.weights[row * state.len()..][..state.len()]) + self.bias[row]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_take_parameters_in_turn() {
        let list = Activation::list(&["Tanh", "LeakyRelu", "hardsigmoid", "Elu"], &[0.5, 0.25], &[0.75]).unwrap();
        assert_eq!(list[1].value(-2.0), -1.0);
        assert_eq!(list[2].value(0.5), 0.875);
        assert_eq!(list[3].alpha, 1.0);
        assert!(Activation::list(&["Affine"], &[], &[]).is_err());
        assert!(Activation::list(&["Gelu"], &[], &[]).is_err());
    }
}

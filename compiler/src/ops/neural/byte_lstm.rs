//! `ByteLSTM`: an LSTM whose recurrent products are of bytes. `DynamicQuantizeLSTM` becomes this.

use super::lstm::{Cell, DEFAULTS};
use super::recurrent::{Attributes, PEEPHOLES, Recurrence, Step, require};
use crate::expr::{self, Affine, BinaryOp, CompareOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type};

operator! {
    /// `LSTM` of gates' inputs `x * W + Wb + Rb`, `[time,batch,direction*4*hidden]`. For its product with `r[direction,hidden,4*hidden]` less
    /// the zero points, each row of the state is rounded as by `DynamicQuantizeLinear`. `r_sums` are the sums of `r` less the zero points along
    /// `hidden`; they, scales and zero points are `[direction,4*hidden]`.
    ByteLSTM(inputs, r_scale, r, r_sums, "sequence_lens?", "initial_h?", "initial_c?", "p?", "r_zero_point?")
        -> ("y?", "y_h?", "y_c?") since [1] in "ai.tinsmith";
    /// Parameters of the activation functions, in order.
    activation_alpha: Vec<f32> = Vec::<f32>::new(),
    /// Further parameters of the activation functions, in order.
    activation_beta: Vec<f32> = Vec::<f32>::new(),
    /// Functions `f`, `g`, `h` of each direction; `Sigmoid`, `Tanh`, `Tanh` by default.
    activations: Vec<String> = Vec::<String>::new(),
    /// Bound of the inputs of `f` and `g`.
    clip: Option<f32>,
    /// `forward`, `reverse` or `bidirectional`.
    direction: String = "forward",
    /// Whether the forget gate is one minus the input gate.
    input_forget: bool = false,
}

const INPUTS: usize = 0;
const R_SCALE: usize = 1;
const R: usize = 2;
const R_SUMS: usize = 3;
const R_ZERO_POINT: usize = 8;

/// A state as `u8`: `[batch, hidden]`, with the scale and the zero point of each row.
struct Rounded {
    bytes: TensorId,
    scale: TensorId,
    zero: TensorId,
}

impl Rounded {
    fn of(b: &mut expr::Builder, state: TensorId) -> Self {
        let [batch, hidden] = [0, 1].map(|i| b.dims(state)[i]);
        let row = |b: &expr::Builder, at: &[Affine], over: &[Affine]| b.load(state, [at[0].clone(), over[0].clone()]);
        let below = |b: &expr::Builder, batch: &Affine, least: TensorId| b.load(least, [batch.clone()]);
        let to_zero = |op: BinaryOp, x: &Expr| x.binary(op, &x.like(0.0));
        let least = b.reduce(ReduceOp::Min, &[batch], &[hidden], row, |_, _, least| to_zero(BinaryOp::Min, &least));
        let scale = b.reduce(ReduceOp::Max, &[batch], &[hidden], row, |b, at, greatest| {
            let range = to_zero(BinaryOp::Max, &greatest) - below(b, &at[0], least);
            range.compare(CompareOp::Eq, &range.like(0.0)).select(&range.like(1.0), &(&range / &range.like(255.0)))
        });
        let zero = b.compute(&[batch], |b, at| {
            let place = below(b, &at[0], least).unary(UnaryOp::Neg) / b.load(scale, at.to_vec());
            place.binary(BinaryOp::Min, &place.like(255.0)).unary(UnaryOp::Round)
        });
        let bytes = b.compute(&[batch, hidden], |b, at| {
            let [scale, zero] = [scale, zero].map(|of| b.load(of, [at[0].clone()]));
            let place = (b.load(state, at.to_vec()) / scale).unary(UnaryOp::Round) + zero;
            to_zero(BinaryOp::Max, &place).binary(BinaryOp::Min, &place.like(255.0)).cast(DType::U8)
        });
        Rounded { bytes, scale, zero }
    }

    /// As `of`, with values of one row: the bytes less their zero point, and their scale.
    fn eval(state: &[f64]) -> (Vec<f64>, f64) {
        let state: Vec<f32> = state.iter().map(|&h| h as f32).collect();
        let (least, greatest) = state.iter().fold((0f32, 0f32), |(l, g), &h| (l.min(h), g.max(h)));
        let scale = if greatest == least { 1.0 } else { (greatest - least) / 255.0 };
        let zero = (-least / scale).min(255.0).round_ties_even();
        let byte = |h: f32| f64::from(((h / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero);
        (state.into_iter().map(byte).collect(), f64::from(scale))
    }
}

impl ByteLSTM {
    fn recurrence(&self, x: &Operands) -> Result<Recurrence, InferError> {
        let r = x.ty(R)?;
        x.require_dtype(INPUTS, &[DType::F32])?;
        x.require_dtype(R, &[DType::I8])?;
        x.require_dtype(R_SCALE, &[DType::F32])?;
        let [n, hidden, _] = x.dims(R)?[..] else {
            return Err(InferError::Invalid(format!("weights of type `{r}`")));
        };
        let attributes = Attributes {
            gates: 4,
            defaults: DEFAULTS,
            activations: &self.activations,
            alpha: &self.activation_alpha,
            beta: &self.activation_beta,
            clip: self.clip,
            direction: &self.direction,
            hidden_size: None,
            layout: 0,
            has_cell: true,
        };
        let fixed = Dim::Fixed;
        let of_gates = [fixed(n), fixed(4 * hidden)];
        require(x, R, &[fixed(n), fixed(hidden), fixed(4 * hidden)])?;
        require(x, R_SCALE, &of_gates)?;
        for i in [R_SUMS].into_iter().chain(x.has(R_ZERO_POINT).then_some(R_ZERO_POINT)) {
            x.require_dtype(i, &[DType::I32])?;
            require(x, i, &of_gates)?;
        }
        let recurrence = Recurrence::of_states(&attributes, x, hidden)?;
        let dims = &x.ty(INPUTS)?.shape.0;
        require(x, INPUTS, &[dims[0].clone(), dims[1].clone(), fixed(recurrence.n_directions() * 4 * hidden)])?;
        require(x, R, &[fixed(recurrence.n_directions()), fixed(hidden), fixed(4 * hidden)])?;
        Ok(recurrence)
    }
}

impl Operator for ByteLSTM {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.recurrence(x)?.infer(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        self.recurrence(x).map_or_else(|_| Axes::unlinked(x), |r| r.axes(x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let recurrence = self.recurrence(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (hidden, rows) = (recurrence.hidden(), 4 * recurrence.hidden());
        let n = recurrence.n_directions();
        let (inputs, scale, r) = (x.tensor(INPUTS).to_f64s(), x.tensor(R_SCALE).to_f64s(), x.tensor(R).to_f64s());
        let zeros = x.tensor_opt(R_ZERO_POINT).map_or_else(|| vec![0.0; n * rows], Tensor::to_f64s);
        let mut weights = vec![0.0; r.len()];
        for (i, value) in r.into_iter().enumerate() {
            let (d, k, row) = (i / rows / hidden, i / rows % hidden, i % rows);
            weights[(d * rows + row) * hidden + k] = value - zeros[d * rows + row];
        }
        let cell =
            Cell { recurrence: &recurrence, peepholes: x.tensor_opt(PEEPHOLES).map(Tensor::to_f64s), input_forget: self.input_forget };
        let inputs = |d: usize, element: usize| inputs[(element * n + d) * rows..][..rows].to_vec();
        recurrence.eval_over_time(x, inputs, (&weights, &vec![0.0; n * 2 * rows]), |s, h, c| {
            let (bytes, by) = Rounded::eval(h);
            let sum = |row: usize| s.inputs[row] + s.recur(&bytes, row) * by * scale[s.direction * rows + row];
            cell.eval(s, &(0..rows).map(sum).collect::<Vec<_>>(), h, c);
        })
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let recurrence = self.recurrence(x.facts)?;
        let (hidden, rows) = (recurrence.hidden(), 4 * recurrence.hidden());
        let (inputs, r_scale, r, r_sums, r_zeros) =
            (x.tensor(INPUTS), x.tensor(R_SCALE), x.tensor(R), x.tensor(R_SUMS), x.get(R_ZERO_POINT));
        let cell = Cell { recurrence: &recurrence, peepholes: x.get(PEEPHOLES), input_forget: self.input_forget };
        recurrence.over_time(
            b,
            x,
            |_, d| (inputs, d * rows),
            |b, s: &Step| {
                let batch = b.dims(s.h)[0];
                let state = Rounded::of(b, s.h);
                let direction = Affine::constant(s.direction as i64);
                let byte = |b: &expr::Builder, batch: &Affine, k: &Affine| b.load(state.bytes, [batch.clone(), k.clone()]).cast(DType::I32);
                let total =
                    r_zeros.map(|_| b.reduce(ReduceOp::Sum, &[batch], &[hidden], |b, at, over| byte(b, &at[0], &over[0]), |_, _, sum| sum));
                // The sum of (h - h0) * (r - r0) is that of h * r less h0 times the sum of (r - r0) and r0 times the sum of h.
                let sums = b.reduce(
                    ReduceOp::Sum,
                    &[batch, rows],
                    &[hidden],
                    |b, at, over| {
                        let weight = b.load(r, [direction.clone(), over[0].clone(), at[1].clone()]).cast(DType::I32);
                        byte(b, &at[0], &over[0]) * weight
                    },
                    |b, at, sum| {
                        let of_gate = |t: TensorId| b.load(t, [direction.clone(), at[1].clone()]);
                        let of_row = |t: TensorId| b.load(t, [at[0].clone()]);
                        let mut sum = sum - of_row(state.zero).cast(DType::I32) * of_gate(r_sums);
                        if let (Some(zeros), Some(total)) = (r_zeros, total) {
                            sum = sum - of_gate(zeros) * of_row(total);
                        }
                        sum.cast(DType::F32) * (of_row(state.scale) * of_gate(r_scale)) + s.input(b, &at[0], &at[1])
                    },
                );
                cell.step(b, s, sums);
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};
    use crate::tensor::{DType, Tensor};

    /// Weights with the sums and the zero points that belong to them.
    fn operands(d: usize, zero: bool, states: bool) -> Vec<Option<Tensor>> {
        let r = random(&format!("i8[{d},3,12]"), 3);
        let zeros = if zero { random(&format!("i8[{d},12]"), 4) } else { t(&format!("i8[{d},12]")) };
        let (values, zeros) = (r.to_ints(), zeros.to_ints());
        let sum = |i: usize| (0..3).map(|k| values[(i / 12 * 3 + k) * 12 + i % 12] - zeros[i]).sum::<i128>();
        let of_gates = |values: Vec<i128>| Tensor::from_ints(DType::I32, &[d, 12], &values);
        let sums = of_gates((0..d * 12).map(sum).collect());
        let scale = t(&format!("f32[{d},12] 0.01"));
        let mut x = vec![Some(random(&format!("f32[4,2,{}]", d * 12), 1)), Some(scale), Some(r), Some(sums)];
        let state = |seed| states.then(|| random(&format!("f32[{d},2,3]"), seed));
        x.extend([states.then(|| t("i32[2] 4 2")), state(5), state(6), states.then(|| random(&format!("f32[{d},9]"), 7))]);
        x.extend(zero.then(|| Some(of_gates(zeros.clone()))));
        x
    }

    #[test]
    fn all_forms_agree() {
        for (op, d) in [("", 1), ("direction=\"reverse\" clip=0.5", 1), ("direction=\"bidirectional\" input_forget=1", 2)] {
            for (zero, states) in [(false, false), (false, true), (true, false), (true, true)] {
                Check::new(&format!("ai.tinsmith.ByteLSTM {op}")).results(3).run(operands(d, zero, states));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let error = |inputs: &str, r: &str| {
            let x = [t(inputs), t("f32[1,12]"), t(r), t("i32[1,12]")];
            check_error("ai.tinsmith.ByteLSTM", x)
        };
        assert_eq!(error("f32[4,2,24]", "i8[1,3,12]"), "extents of operand 0 must be: 12 and 24");
        assert_eq!(error("f32[4,2,12]", "i8[1,3,8]"), "extents of operand 2 must be: 12 and 8");
        assert_eq!(error("f32[4,2,12]", "u8[1,3,12]"), "operand 2 has element type `u8`, which is not supported here");
    }
}

//! `LSTM`: long short-term memory.
//! Spec: <https://onnx.ai/onnx/operators/onnx__LSTM.html>

use super::recurrent::{EvalStep, PEEPHOLES, Recurrence, Step, recurrence};
use crate::expr::{self, Affine, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// For each time `t` and gate `i`, `o`, `f`, `c`: `g = x[t] * W + h * R + biases (+ P * c)`;
    /// `c = f(f) * c + f(i) * g(c)`, `y[t] = h = f(o) * h(c)`.
    LSTM(x, w, r, "b?", "sequence_lens?", "initial_h?", "initial_c?", "p?") -> ("y?", "y_h?", "y_c?") since [1, 7, 14, 22];
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
    /// Extent of the hidden state.
    hidden_size: Option<i64>,
    /// Whether the forget gate is one minus the input gate.
    input_forget: bool = false,
    /// Whether the batch is the first axis (1) instead of time (0).
    layout: i64 = 0,
}

/// Functions of a direction where none are given.
pub(super) const DEFAULTS: &[&str] = &["Sigmoid", "Tanh", "Tanh"];

/// What an LSTM has beside its products.
pub(super) struct Cell<'a, T> {
    pub(super) recurrence: &'a Recurrence,
    pub(super) peepholes: Option<T>,
    pub(super) input_forget: bool,
}

impl Cell<'_, TensorId> {
    /// The next state of sums `[batch, 4 * hidden]`, those of the gates `i`, `o`, `f`, `c`.
    pub(super) fn step(&self, b: &mut expr::Builder, s: &Step, sums: TensorId) {
        let (r, n) = (self.recurrence, self.recurrence.hidden());
        let cell = s.c.expect("a cell state");
        // Input of the activation of a gate (0 input, 1 output, 2 forget, 3 cell) with what it sees of the cell state.
        let gate = |b: &expr::Builder, at: &[Affine], gate: usize, c: Option<&expr::Expr>| {
            let sum = b.load(sums, [at[0].clone(), at[1].offset((gate * n) as i64)]);
            let sum = match (self.peepholes, c) {
                (Some(p), Some(c)) => {
                    let index = [Affine::constant(s.direction as i64), at[1].offset((gate * n) as i64)];
                    sum + b.load(p, index).cast(c.dtype()) * c.clone()
                }
                _ => sum,
            };
            s.activations[usize::from(gate == 3)].of(&r.clip(sum))
        };
        s.update(b, cell, |b, at, c| {
            let input = gate(b, at, 0, Some(&c));
            let forget = if self.input_forget { input.like(1.0) - input.clone() } else { gate(b, at, 2, Some(&c)) };
            forget * c + input * gate(b, at, 3, None)
        });
        s.update(b, s.h, |b, at, _| {
            let c = b.load(cell, at.to_vec());
            gate(b, at, 1, Some(&c)) * s.activations[2].of(&c)
        });
    }
}

impl Cell<'_, Vec<f64>> {
    /// As `step`, with values of one element of the batch.
    pub(super) fn eval(&self, s: &EvalStep, sums: &[f64], h: &mut [f64], c: &mut [f64]) {
        let (r, n) = (self.recurrence, self.recurrence.hidden());
        let peep = |gate: usize, j: usize, c: f64| self.peepholes.as_ref().map_or(0.0, |p| p[(s.direction * 3 + gate) * n + j] * c);
        let act = |f: usize, v: f64| s.activations[f].value(r.clip_value(v));
        for j in 0..n {
            let input = act(0, sums[j] + peep(0, j, c[j]));
            let forget = if self.input_forget { 1.0 - input } else { act(0, sums[2 * n + j] + peep(2, j, c[j])) };
            c[j] = forget * c[j] + input * act(1, sums[3 * n + j]);
            h[j] = act(0, sums[n + j] + peep(1, j, c[j])) * s.activations[2].value(c[j]);
        }
    }
}

impl LSTM {
    fn recurrence(&self, x: &Operands) -> Result<Recurrence, InferError> {
        recurrence!(self, x, gates: 4, defaults: DEFAULTS, activations: &self.activations, has_cell: true)
    }
}

impl Operator for LSTM {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.recurrence(x)?.infer(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        self.recurrence(x).map_or_else(|_| Axes::unlinked(x), |r| r.axes(x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let r = self.recurrence(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let cell = Cell { recurrence: &r, peepholes: x.tensor_opt(PEEPHOLES).map(Tensor::to_f64s), input_forget: self.input_forget };
        r.eval(x, |s, h, c| {
            let sums: Vec<f64> = (0..4 * r.hidden()).map(|row| s.inputs[row] + s.recur(h, row)).collect();
            cell.eval(s, &sums, h, c);
        })
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let r = self.recurrence(x.facts)?;
        let cell = Cell { recurrence: &r, peepholes: x.get(PEEPHOLES), input_forget: self.input_forget };
        r.lower(b, x, true, |b, s| {
            let sums = s.product(b, s.h, 0, 4 * r.hidden(), |b, at, sum| sum + s.input(b, &at[0], &at[1]));
            cell.step(b, s, sums);
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};
    use crate::tensor::Tensor;

    fn operands(d: usize, batch_first: bool, n: usize) -> Vec<Option<Tensor>> {
        let x = if batch_first { "f32[2,4,3]" } else { "f32[4,2,3]" };
        let state = if batch_first { format!("f32[2,{d},2]") } else { format!("f32[{d},2,2]") };
        let all = [
            x.to_owned(),
            format!("f32[{d},8,3]"),
            format!("f32[{d},8,2]"),
            format!("f32[{d},16]"),
            String::new(),
            state.clone(),
            state,
            format!("f32[{d},6]"),
        ];
        (0..n).map(|i| if i == 4 { Some(t("i32[2] 4 2")) } else { Some(random(&all[i], i as u64)) }).collect()
    }

    #[test]
    fn all_forms_agree() {
        for (op, d, n) in [
            ("LSTM hidden_size=2", 1, 3),
            ("LSTM clip=0.5 input_forget=1", 1, 8),
            ("LSTM direction=\"reverse\"", 1, 5),
            ("LSTM direction=\"bidirectional\"", 2, 8),
            ("LSTM activations=[\"HardSigmoid\",\"Softsign\",\"Elu\"] activation_alpha=[0.3,0.5] activation_beta=[0.4]", 1, 4),
            ("LSTM activations=[\"Affine\",\"ScaledTanh\",\"Softplus\"] activation_alpha=[0.3,0.5] activation_beta=[0.4,0.7]", 1, 4),
            ("LSTM activations=[\"Relu\",\"LeakyRelu\",\"ThresholdedRelu\"]", 1, 4),
        ] {
            Check::new(op).results(3).run(operands(d, false, n));
            Check::new(&format!("{op} layout=1")).results(3).run(operands(d, true, n));
            Check::new(op).run(operands(d, false, n));
        }
    }

    #[test]
    fn a_gate_that_is_shut_keeps_the_state() {
        // Input gate at -inf, forget gate at infinity: the cell state stays, the output gate is open.
        let bias = t("f32[1,8] -inf inf inf 0 0 0 0 0");
        let x =
            [Some(t("f32[2,1,1] 1 2")), Some(t("f32[1,4,1]")), Some(t("f32[1,4,1]")), Some(bias), None, None, Some(t("f32[1,1,1] 0.5"))];
        let y = Check::new("LSTM activations=[\"Sigmoid\",\"Tanh\",\"Relu\"]").results(3).run(x);
        assert_eq!(y, [t("f32[2,1,1,1] 0.5"), t("f32[1,1,1] 0.5"), t("f32[1,1,1] 0.5")]);
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        let error = |op: &str, r: &str| check_error(op, [t("f32[4,2,3]"), t("f32[1,8,3]"), t(r)]);
        assert_eq!(error("LSTM", "f32[1,8,3]"), "extents of operand 1 must be: 12 and 8");
        assert_eq!(error("LSTM hidden_size=3", "f32[1,8,2]"), "`hidden_size` is Some(3), but the weights are f32[1,8,2]");
        assert_eq!(error("LSTM direction=\"up\"", "f32[1,8,2]"), "`direction` is `up`");
        assert_eq!(error("LSTM activations=[\"Gelu\",\"Tanh\",\"Tanh\"]", "f32[1,8,2]"), "activation `Gelu` is not supported");
    }
}

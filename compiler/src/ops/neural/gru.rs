//! `GRU`: gated recurrent units.
//! Spec: <https://onnx.ai/onnx/operators/onnx__GRU.html>

use super::recurrent::{Recurrence, recurrence};
use crate::expr::{self, Affine, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// For each time `t`: `z, r = f(x[t] * W + h * R + biases)`, `n = g(x[t] * Wn + Wbn + (r . h) * Rn + Rbn)`
    /// (or `r . (h * Rn + Rbn)`), `y[t] = h = (1 - z) . n + z . h`.
    GRU(x, w, r, "b?", "sequence_lens?", "initial_h?") -> ("y?", "y_h?") since [1, 3, 7, 14, 22];
    /// Parameters of the activation functions, in order.
    activation_alpha: Vec<f32> = Vec::<f32>::new(),
    /// Further parameters of the activation functions, in order.
    activation_beta: Vec<f32> = Vec::<f32>::new(),
    /// Functions `f`, `g` of each direction; `Sigmoid`, `Tanh` by default.
    activations: Vec<String> = Vec::<String>::new(),
    /// Bound of the inputs of activations.
    clip: Option<f32>,
    /// `forward`, `reverse` or `bidirectional`.
    direction: String = "forward",
    /// Extent of the hidden state.
    hidden_size: Option<i64>,
    /// Whether the batch is the first axis (1) instead of time (0).
    layout: i64 = 0,
    /// Whether the reset gate scales the product instead of the state.
    linear_before_reset: bool = false,
}

impl GRU {
    fn recurrence(&self, x: &Operands) -> Result<Recurrence, InferError> {
        recurrence!(self, x, gates: 3, defaults: &["Sigmoid", "Tanh"], activations: &self.activations, has_cell: false)
    }
}

impl Operator for GRU {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.recurrence(x)?.infer(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        self.recurrence(x).map_or_else(|_| Axes::unlinked(x), |r| r.axes(x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let r = self.recurrence(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let n = r.hidden();
        r.eval(x, |s, h, _| {
            let act = |f: usize, v: f64| s.activations[f].value(r.clip_value(v));
            let gate = |row: usize| act(0, s.inputs[row] + s.recur(h, row));
            let update: Vec<f64> = (0..n).map(gate).collect();
            let reset: Vec<f64> = (n..2 * n).map(gate).collect();
            let kept: Vec<f64> = reset.iter().zip(&*h).map(|(r, h)| r * h).collect();
            let product = |j: usize| if self.linear_before_reset { reset[j] * s.recur(h, 2 * n + j) } else { s.recur(&kept, 2 * n + j) };
            let new: Vec<f64> = (0..n).map(|j| act(1, s.inputs[2 * n + j] + product(j))).collect();
            for j in 0..n {
                h[j] = (1.0 - update[j]) * new[j] + update[j] * h[j];
            }
        })
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let r = self.recurrence(x.facts)?;
        let n = r.hidden();
        let part = |at: &[Affine], gate: usize| at[1].offset((gate * n) as i64);
        r.lower(b, x, !self.linear_before_reset, |b, s| {
            let blend = |z: expr::Expr, new: expr::Expr, h: expr::Expr| (z.like(1.0) - z.clone()) * new + z * h;
            if self.linear_before_reset {
                let products = s.product(b, s.h, 0, 3 * n, |b, at, sum| {
                    let index = |row: Affine| [Affine::constant(s.direction as i64), row];
                    s.bias.map_or(sum.clone(), |bias| sum.clone() + b.load(bias, index(part(at, 3))).cast(sum.dtype()))
                });
                s.update(b, s.h, |b, at, h| {
                    let product = |gate| b.load(products, [at[0].clone(), part(at, gate)]);
                    let input = |gate| s.input(b, &at[0], &part(at, gate));
                    let gate = |gate| s.activations[0].of(&r.clip(input(gate) + product(gate)));
                    let new = s.activations[1].of(&r.clip(input(2) + gate(1) * product(2)));
                    blend(gate(0), new, h)
                });
            } else {
                let gates = s.product(b, s.h, 0, 2 * n, |b, at, sum| sum + s.input(b, &at[0], &at[1]));
                let gate = |b: &expr::Builder, at: &[Affine], gate: usize| {
                    s.activations[0].of(&r.clip(b.load(gates, [at[0].clone(), part(at, gate)])))
                };
                let dims = b.dims(s.h).to_vec();
                let kept = b.compute(&dims, |b, at| gate(b, at, 1) * b.load(s.h, at.to_vec()));
                let product = s.product(b, kept, 2 * n, n, |b, at, sum| sum + s.input(b, &at[0], &part(at, 2)));
                s.update(b, s.h, |b, at, h| blend(gate(b, at, 0), s.activations[1].of(&r.clip(b.load(product, at.to_vec()))), h));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};
    use crate::tensor::Tensor;

    fn operands(d: usize, batch_first: bool, n: usize) -> Vec<Option<Tensor>> {
        let x = if batch_first { "f32[2,4,3]" } else { "f32[4,2,3]" };
        let state = if batch_first { format!("f32[2,{d},2]") } else { format!("f32[{d},2,2]") };
        let all = [x.to_owned(), format!("f32[{d},6,3]"), format!("f32[{d},6,2]"), format!("f32[{d},12]"), String::new(), state];
        (0..n).map(|i| if i == 4 { Some(t("i32[2] 1 4")) } else { Some(random(&all[i], i as u64)) }).collect()
    }

    #[test]
    fn all_forms_agree() {
        for (op, d, n) in [
            ("GRU", 1, 3),
            ("GRU linear_before_reset=1", 1, 6),
            ("GRU linear_before_reset=1 direction=\"bidirectional\"", 2, 3),
            ("GRU clip=0.25 direction=\"reverse\"", 1, 5),
            ("GRU direction=\"bidirectional\"", 2, 6),
        ] {
            Check::new(op).results(2).run(operands(d, false, n));
            Check::new(&format!("{op} layout=1")).results(2).run(operands(d, true, n));
        }
    }

    #[test]
    fn an_update_gate_of_one_keeps_the_state() {
        let x = [
            Some(t("f32[2,1,1] 1 2")),
            Some(t("f32[1,3,1]")),
            Some(t("f32[1,3,1]")),
            Some(t("f32[1,6] inf 0 3 0 0 0")),
            None,
            Some(t("f32[1,1,1] 0.25")),
        ];
        assert_eq!(Check::new("GRU").run(x)[0], t("f32[2,1,1,1] 0.25"));
    }
}

//! `RNN`: the plain recurrent layer.
//! Spec: <https://onnx.ai/onnx/operators/onnx__RNN.html>

use super::recurrent::{Recurrence, recurrence};
use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Tensor, Type};

operator! {
    /// For each time `t`: `y[t] = h = f(x[t] * W + h * R + biases)`.
    RNN(x, w, r, "b?", "sequence_lens?", "initial_h?") -> ("y?", "y_h?") since [1, 7, 14, 22];
    /// Parameters of the activation functions, in order.
    activation_alpha: Vec<f32> = Vec::<f32>::new(),
    /// Further parameters of the activation functions, in order.
    activation_beta: Vec<f32> = Vec::<f32>::new(),
    /// The function of each direction; `Tanh` by default.
    activations: Vec<String> = vec!["Tanh".to_owned(), "Tanh".to_owned()],
    /// Bound of the inputs of activations.
    clip: Option<f32>,
    /// `forward`, `reverse` or `bidirectional`.
    direction: String = "forward",
    /// Extent of the hidden state.
    hidden_size: Option<i64>,
    /// Whether the batch is the first axis (1) instead of time (0).
    layout: i64 = 0,
}

impl RNN {
    fn recurrence(&self, x: &Operands) -> Result<Recurrence, InferError> {
        let default = self.activations == ["Tanh", "Tanh"];
        recurrence!(self, x, gates: 1, defaults: &["Tanh"], activations: if default { &[] } else { &self.activations }, has_cell: false)
    }
}

impl Operator for RNN {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.recurrence(x)?.infer(x)
    }

    fn axes(&self, x: &Operands) -> Axes {
        self.recurrence(x).map_or_else(|_| Axes::unlinked(x), |r| r.axes(x))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let r = self.recurrence(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        r.eval(x, |s, h, _| {
            let next: Vec<f64> = (0..h.len()).map(|j| s.activations[0].value(r.clip_value(s.inputs[j] + s.recur(h, j)))).collect();
            h.copy_from_slice(&next);
        })
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let r = self.recurrence(x.facts)?;
        r.lower(b, x, true, |b, s| {
            let sums = s.product(b, s.h, 0, r.hidden(), |b, at, sum| sum + s.input(b, &at[0], &at[1]));
            s.update(b, s.h, |b, at, _| s.activations[0].of(&r.clip(b.load(sums, at.to_vec()))));
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, lowered, random, t};

    #[test]
    fn the_state_runs_through_time() {
        let op = "RNN activations=[\"Affine\"] activation_alpha=[1.0] activation_beta=[0.5]";
        let x = || vec![Some(t("f32[3,1,1] 1 2 3")), Some(t("f32[1,1,1] 1")), Some(t("f32[1,1,1] 10"))];
        let y = Check::new(op).results(2).run(x());
        assert_eq!(y, [t("f32[3,1,1,1] 1.5 17.5 178.5"), t("f32[1,1,1] 178.5")]);
        let short = [x(), vec![None, Some(t("i32[1] 2"))]].concat();
        let y = Check::new(&format!("{op} direction=\"reverse\"")).results(2).run(short);
        assert_eq!(y, [t("f32[3,1,1,1] 26.5 2.5 0"), t("f32[1,1,1] 26.5")]);
        let both = [random("f16[3,2,4]", 1), random("f16[2,2,4]", 2), random("f16[2,2,2]", 3), random("f16[2,4]", 4)];
        Check::new("RNN direction=\"bidirectional\"").results(2).run(both);
    }

    #[test]
    fn inputs_are_one_product_before_the_loop() {
        insta::assert_snapshot!(lowered("RNN", &["f32[5,1,3]", "f32[1,2,3]", "f32[1,2,2]"]), @r"
        program(%x0: f32[5,1,3], %x1: f32[1,2,3], %x2: f32[1,2,2]) -> (%y) {
          %y.1[i0,i1,i2] = reduce sum over r0 in 0..3: %x0[i0,i1,r0] * %x1[0,i2,r0] : f32[5,1,2]
          %y.2[i0,i1] = 0 : f32[1,2]
          repeat l0 in 0..5 {
            %y.3[i0,i1] = reduce sum over r0 in 0..2: %y.2[i0,r0] * %x2[0,i1,r0] -> acc + %y.1[l0,i0,i1] : f32[1,2]
            %y.2[i0,i1] = tanh(%y.3[i0,i1]) : f32[1,2]
            %y[l0,0,i0,i1] for i0 in 0..1, i1 in 0..2 = %y.2[i0,i1] : f32[5,1,1,2]
          }
        }
        ");
    }
}

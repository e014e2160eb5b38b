//! `Identity` and `Dropout`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Identity.html>, <https://onnx.ai/onnx/operators/onnx__Dropout.html>

use crate::expr::{Builder, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, View};
use crate::tensor::{Affine, DType, Tensor, Type};

operator! {
    /// `output = input`.
    Identity(input) -> (output) since [1, 13, 14, 16, 19, 21, 23, 24, 25];
}

operator! {
    /// `output = data`, and a mask that is true everywhere: as in inference, or in training with a ratio of 0.
    Dropout(data, "ratio?", "training_mode?") -> (output, "mask?") since [1, 6, 7, 10, 12, 13, 22];
    /// Has no effect.
    seed: Option<i64>,
}

fn same(x: &Operands) -> Option<Vec<View>> {
    let rank = x.rank(0).ok()?;
    Some(vec![View::Affine((0..rank).map(Affine::var).collect())])
}

impl Operator for Identity {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        Ok(vec![x.ty(0)?.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        Axes::elementwise(x)
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        same(x)
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![x.tensor(0).clone()])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        Ok(vec![b.map(&[x.tensor(0)], |v| v[0].clone())])
    }
}

impl Operator for Dropout {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let data = x.ty(0)?;
        if x.has(2) {
            x.require_dtype(2, &[DType::Bool])?;
            let drops = !x.has(1) || x.value(1)?.to_f64s().iter().any(|&ratio| ratio != 0.0);
            if drops && x.value(2)?.to_ints().iter().any(|&b| b != 0) {
                return Err(InferError::Unsupported("dropout in training mode".to_owned()));
            }
        }
        let mut types = vec![data.clone(), data.with_dtype(DType::Bool)];
        types.truncate(x.n_results.max(1));
        Ok(types)
    }

    fn axes(&self, x: &Operands) -> Axes {
        let labels: Vec<Option<u32>> = (0..x.rank(0).unwrap_or(0) as u32).map(Some).collect();
        let mut axes = Axes::unlinked(x);
        axes.operands[0].clone_from(&labels);
        Axes { results: vec![labels; x.n_results.clamp(1, 2)], elementwise: true, ..axes }
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        if x.n_results > 1 { None } else { same(x) }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let data = x.tensor(0);
        let mut results = vec![data.clone()];
        if x.n_results > 1 {
            results.push(Tensor::from_bools(data.dims(), std::iter::repeat_n(true, data.len())));
        }
        Ok(results)
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let mut results = vec![b.map(&[x.tensor(0)], |v| v[0].clone())];
        if x.results.len() > 1 {
            results.push(b.compute(&x.result_dims(1), |_, _| Expr::int(DType::Bool, 1)));
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn everything_passes() {
        for ty in ["f32[2,3]", "i64[]", "bool[0,2]"] {
            let x = random(ty, 1);
            assert_eq!(check_op("Identity", [x.clone()]), vec![x.clone()]);
            assert_eq!(check_op("Dropout", [x.clone()]), [x]);
        }
    }

    #[test]
    fn the_mask_is_true() {
        let x = t("f32[2] 1 2");
        let y = Check::new("Dropout seed=3").results(2).run([x.clone(), t("f32[] 0.5"), t("bool[] 0")]);
        assert_eq!(y, [x, t("bool[2] 1 1")]);
    }

    #[test]
    fn training_is_refused() {
        let error = check_error("Dropout", [t("f32[2]"), t("f32[] 0.5"), t("bool[] 1")]);
        assert_eq!(error, "dropout in training mode");
        let nothing_drops = [t("f32[2] 1 2"), t("f32[] 0"), t("bool[] 1")];
        assert_eq!(check_op("Dropout", nothing_drops), [t("f32[2] 1 2")]);
    }
}

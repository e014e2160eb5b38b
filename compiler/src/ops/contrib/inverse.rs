//! `Inverse`: inverses of square matrices.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.Inverse>

use crate::expr::{self, TensorId};
use crate::operator;
use crate::ops::neural::elimination;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements};

operator! {
    /// `y[..]` is the inverse of `x[..,m,m]`; infinite or no numbers where there is none.
    Inverse(x) -> (y) since [1] in "com.microsoft";
}

impl Operator for Inverse {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, &DType::FLOATS)?;
        match &x.dims(0)?[..] {
            [.., a, b] if a == b => Ok(vec![x.ty(0)?.clone()]),
            _ => Err(InferError::Invalid(format!("`{}` is not of square matrices", x.ty(0)?))),
        }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let n = *t.dims().last().expect("two axes");
        let y: Vec<f64> = t.to_f64s().chunks((n * n).max(1)).flat_map(|m| elimination::inverse(m, n)).collect();
        Ok(vec![Tensor::from_f64s(t.dtype(), t.dims(), &y)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (t, dims) = (x.tensor(0), x.dims(0));
        let (dtype, n) = (b.dtype(t), dims[dims.len() - 1]);
        if n_elements(&dims) == 0 {
            return Ok(vec![b.compute(&dims, |_, _| expr::Expr::int(dtype, 0))]);
        }
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let matrices = b.map(&[t], |v| v[0].cast(wide));
        let matrices = b.reshape(matrices, &[n_elements(&dims[..dims.len() - 2]), n, n]);
        let (_, inverses) = elimination::lower(b, matrices, true);
        let rounded = b.map(&[inverses.expect("asked for")], |v| v[0].cast(dtype));
        Ok(vec![b.reshape(rounded, &dims)])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};
    use crate::tensor::Tensor;

    #[test]
    fn inverses() {
        assert_eq!(check_op("com.microsoft.Inverse", [t("f32[2,2] 0 2 4 0")]), [t("f32[2,2] 0 0.25 0.5 0")]);
        assert_eq!(check_op("com.microsoft.Inverse", [t("f64[2,1,1] 4 0.5")]), [t("f64[2,1,1] 0.25 2")]);
        for n in [3, 7] {
            let x = random(&format!("f32[2,{n},{n}]"), n);
            // Far from singular.
            let y: Vec<f64> = x
                .to_f64s()
                .iter()
                .enumerate()
                .map(|(i, v)| v + if i / n as usize % n as usize == i % n as usize { 9.0 } else { 0.0 })
                .collect();
            Check::new("com.microsoft.Inverse").bound(1e-4, 1e-4).run([Tensor::from_f64s(x.dtype(), x.dims(), &y)]);
        }
        assert_eq!(check_error("com.microsoft.Inverse", [t("f32[1,2]")]), "`f32[1,2]` is not of square matrices");
    }
}

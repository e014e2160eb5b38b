//! `Det`: determinants of square matrices.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Det.html>

use super::elimination;
use super::widen::{FLOATS, wide};
use crate::expr::{self, Affine, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type, n_elements};

operator! {
    /// `y[..]` is the determinant of `x[..,m,m]`.
    Det(x) -> (y) since [11, 22];
}

/// Larger matrices are eliminated: their sums of products would be too many.
const MAX_EXTENT: usize = 4;

impl Operator for Det {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, FLOATS)?;
        let ty = x.ty(0)?;
        let rank = ty.rank();
        if rank < 2 {
            return Err(InferError::Invalid(format!("`{ty}` holds no matrices")));
        }
        let [a, b] = [&ty.shape.0[rank - 2], &ty.shape.0[rank - 1]].map(Dim::fixed);
        if let (Some(a), Some(b)) = (a, b)
            && a != b
        {
            return Err(InferError::Invalid(format!("the matrices of `{ty}` are not square")));
        }
        Ok(vec![ty.with_dims(ty.shape.0[..rank - 2].iter().cloned())])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let t = x.tensor(0);
        let rank = t.dims().len();
        let n = t.dims()[rank - 1];
        let values = t.to_f64s();
        let dims = &t.dims()[..rank - 2];
        let count = dims.iter().product();
        let y: Vec<f64> = (0..count).map(|i| determinant(values[i * n * n..][..n * n].to_vec(), n)).collect();
        Ok(vec![Tensor::from_f64s(t.dtype(), dims, &y)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let t = x.tensor(0);
        let n = *x.dims(0).last().expect("two axes");
        let dtype = b.dtype(t);
        if n > MAX_EXTENT {
            let dims = x.result_dims(0);
            let matrices = b.map(&[t], |v| v[0].cast(wide(dtype)));
            let matrices = b.reshape(matrices, &[n_elements(&dims), n, n]);
            let (determinants, _) = elimination::lower(b, matrices, false);
            let rounded = b.map(&[determinants], |v| v[0].cast(dtype));
            return Ok(vec![b.reshape(rounded, &dims)]);
        }
        Ok(vec![b.compute(&x.result_dims(0), |b, at| {
            let element = |i: usize, j: usize| {
                let place = [i, j].map(|k| Affine::constant(k as i64));
                b.load(t, at.iter().cloned().chain(place)).cast(wide(dtype))
            };
            let one = Expr::constant(wide(dtype), 1.0);
            minors(&element, 0, &(0..n).collect::<Vec<_>>()).unwrap_or(one).cast(dtype)
        })])
    }
}

/// By elimination, with the greatest pivots.
fn determinant(mut a: Vec<f64>, n: usize) -> f64 {
    let mut product = 1.0;
    for c in 0..n {
        let pivot = (c..n).max_by(|&i, &j| a[i * n + c].abs().total_cmp(&a[j * n + c].abs())).expect("a row");
        if a[pivot * n + c] == 0.0 {
            return 0.0;
        }
        if pivot != c {
            (0..n).for_each(|j| a.swap(pivot * n + j, c * n + j));
            product = -product;
        }
        product *= a[c * n + c];
        for i in c + 1..n {
            let factor = a[i * n + c] / a[c * n + c];
            (c..n).for_each(|j| a[i * n + j] -= factor * a[c * n + j]);
        }
    }
    product
}

/// The determinant of the rows from `row` on and these columns, along its first row; `None` of nothing.
fn minors(element: &impl Fn(usize, usize) -> Expr, row: usize, columns: &[usize]) -> Option<Expr> {
    let mut sum: Option<Expr> = None;
    for (k, &column) in columns.iter().enumerate() {
        let rest: Vec<usize> = columns.iter().copied().filter(|&c| c != column).collect();
        let value = element(row, column);
        let term = minors(element, row + 1, &rest).map_or(value.clone(), |minor| value * minor);
        sum = Some(match sum {
            None => term,
            Some(sum) if k % 2 == 1 => sum - term,
            Some(sum) => sum + term,
        });
    }
    sum
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, check_op, random, t};

    #[test]
    fn determinants() {
        assert_eq!(check_op("Det", [t("f32[2,2] 1 2 3 4")])[0], t("f32[] -2"));
        assert_eq!(check_op("Det", [t("f32[1,1,1] 7")])[0], t("f32[1] 7"));
        for n in 2..=9 {
            Check::new("Det").bound(1e-3, 1e-3).run([random(&format!("f32[3,{n},{n}]"), n)]);
        }
        let singular = "f32[5,5] 1 2 3 4 5 2 4 6 8 10 0 0 0 0 0 1 0 1 0 1 5 4 3 2 1";
        assert_eq!(check_op("Det", [t(singular)])[0], t("f32[] 0"));
        check_op("Det", [random("f16[5,5]", 1)]);
        assert_eq!(check_error("Det", [t("f32[2,3]")]), "the matrices of `f32[2,3]` are not square");
    }
}

//! `MatMul`: the matrix product, with broadcast batches.
//! Spec: <https://onnx.ai/onnx/operators/onnx__MatMul.html>

use super::widen::{Number, PRODUCTS, load_summed, matrix_product, require_equal};
use crate::expr::{self, Affine, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Shape, Tensor, Type, broadcast_dims, broadcast_offset, for_each_index, n_elements};

operator! {
    /// `y[..,m,n] = sum over k of a[..,m,k] * b[..,k,n]`; an operand of rank 1 is a row (left) or a column (right) that the result lacks.
    MatMul(a, b) -> (y) since [1, 9, 13];
}

/// How the axes of a product split: those in front of the matrix, and whether the operand has the row (or column) axis.
fn batch<T>(dims: &[T]) -> &[T] {
    &dims[..dims.len().saturating_sub(2)]
}

impl Operator for MatMul {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, PRODUCTS)?;
        x.require_same_dtype(1, 0)?;
        let (a, b) = (x.ty(0)?, x.ty(1)?);
        let (ad, bd) = (&a.shape.0, &b.shape.0);
        if ad.is_empty() || bd.is_empty() {
            return Err(InferError::Invalid(format!("no matrix product of {a} and {b}")));
        }
        require_equal(&ad[ad.len() - 1], &bd[bd.len().saturating_sub(2)], "contracted extents differ")?;
        let mut dims = Shape(batch(ad).to_vec())
            .broadcast(&Shape(batch(bd).to_vec()))
            .ok_or_else(|| InferError::Invalid(format!("batches of {a} and {b} do not broadcast")))?
            .0;
        if ad.len() > 1 {
            dims.push(ad[ad.len() - 2].clone());
        }
        if bd.len() > 1 {
            dims.push(bd[bd.len() - 1].clone());
        }
        Ok(vec![Type::new(dtype, Shape(dims))])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(result) = self.infer(x) else { return Axes::unlinked(x) };
        let dims = &result[0].shape.0;
        let (ad, bd) = (&x.facts[0].as_ref().expect("inferred").ty.shape.0, &x.facts[1].as_ref().expect("inferred").ty.shape.0);
        let n_batch = batch(ad).len().max(batch(bd).len());
        let label = |operand: &[Dim]| -> Vec<Option<u32>> {
            let skip = n_batch - batch(operand).len();
            batch(operand).iter().enumerate().map(|(i, d)| (*d == dims[skip + i]).then_some((skip + i) as u32)).collect()
        };
        let (mut a, mut b, mut y) = (label(ad), label(bd), (0..n_batch as u32).map(Some).collect::<Vec<_>>());
        if ad.len() > 1 {
            a.push(Some(100));
            y.push(Some(100));
        }
        a.push(None);
        b.push(None);
        if bd.len() > 1 {
            b.push(Some(101));
            y.push(Some(101));
        }
        Axes { operands: vec![a, b], results: vec![y], elementwise: false }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let (a, b) = (x.tensor(0), x.tensor(1));
        Ok(vec![if a.dtype().is_float() { product::<f64>(a, b) } else { product::<i64>(a, b) }])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (left, right) = (x.tensor(0), x.tensor(1));
        let (ad, bd, dims) = (x.dims(0), x.dims(1), x.result_dims(0));
        let n_batch = batch(&ad).len().max(batch(&bd).len());
        let dtype = x.results[0].dtype;
        let at_batch = |d: &[usize], at: &[Affine]| -> Vec<Affine> {
            let d = batch(d);
            d.iter().zip(&at[n_batch - d.len()..n_batch]).map(|(&n, i)| if n == 1 { Affine::default() } else { i.clone() }).collect()
        };
        let k = ad[ad.len() - 1];
        let out = b.reduce(
            ReduceOp::Sum,
            &dims,
            &[k],
            |b, at, over| {
                let (mut i, mut j) = (at_batch(&ad, at), at_batch(&bd, at));
                if ad.len() > 1 {
                    i.push(at[n_batch].clone());
                }
                i.push(over[0].clone());
                j.push(over[0].clone());
                if bd.len() > 1 {
                    j.push(at[at.len() - 1].clone());
                }
                load_summed(b, left, &i) * load_summed(b, right, &j)
            },
            |_, _, sum| sum.cast(dtype),
        );
        Ok(vec![out])
    }
}

fn product<T: Number>(a: &Tensor, b: &Tensor) -> Tensor {
    let (ad, bd) = (a.dims(), b.dims());
    let (m, k) = (if ad.len() > 1 { ad[ad.len() - 2] } else { 1 }, ad[ad.len() - 1]);
    let n = if bd.len() > 1 { bd[bd.len() - 1] } else { 1 };
    let batches = broadcast_dims(batch(ad), batch(bd)).expect("batches that infer accepted");
    let (av, bv) = (T::read(a), T::read(b));
    let mut out = vec![T::default(); n_elements(&batches) * m * n];
    for_each_index(&batches, |flat, at| {
        let (i, j) = (broadcast_offset(batch(ad), at), broadcast_offset(batch(bd), at));
        matrix_product(&mut out[flat * m * n..][..m * n], &av[i * m * k..][..m * k], &bv[j * k * n..][..k * n], k, n);
    });
    let mut dims = batches;
    if ad.len() > 1 {
        dims.push(m);
    }
    if bd.len() > 1 {
        dims.push(n);
    }
    T::tensor(a.dtype(), &dims, &out)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn rows_meet_columns() {
        assert_eq!(check_op("MatMul", [t("f32[2,2] 1 2 3 4"), t("f32[2,2] 1 10 100 1000")])[0], t("f32[2,2] 201 2010 403 4030"));
        assert_eq!(check_op("MatMul", [t("i32[2] 1 2"), t("i32[2] 3 4")])[0], t("i32[] 11"));
        assert_eq!(check_op("MatMul", [t("u64[1] 18446744073709551615"), t("u64[1] 2")])[0], t("u64[] 18446744073709551614"));
    }

    #[test]
    fn all_ranks_and_types_agree() {
        for (a, b) in [
            ("[2,3]", "[3]"),
            ("[3]", "[3,4]"),
            ("[2,2,3]", "[3]"),
            ("[3]", "[5,3,4]"),
            ("[2,1,3,4]", "[5,4,2]"),
            ("[4,3]", "[2,3,5]"),
            ("[2,0]", "[0,3]"),
            ("[0,3]", "[3,2]"),
        ] {
            for dtype in ["f16", "bf16", "f32", "f64", "i32", "i64", "u32"] {
                check_op("MatMul", [random(&format!("{dtype}{a}"), 1), random(&format!("{dtype}{b}"), 2)]);
            }
        }
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        assert_eq!(check_error("MatMul", [t("f32[2,3]"), t("f32[2,3]")]), "contracted extents differ: 3 and 2");
        assert_eq!(check_error("MatMul", [t("f32[2,2,3]"), t("f32[3,3,2]")]), "batches of f32[2,2,3] and f32[3,3,2] do not broadcast");
        assert_eq!(check_error("MatMul", [t("f32[]"), t("f32[2]")]), "no matrix product of f32[] and f32[2]");
    }
}

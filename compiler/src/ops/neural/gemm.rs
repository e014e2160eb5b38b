//! `Gemm`: a matrix product with scales and an addend.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Gemm.html>

use super::widen::{Number, PRODUCTS, load_wide, load_wide_broadcast, matrix_product, require_equal, transposed};
use crate::expr::{self, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Shape, Tensor, Type, broadcast_offset, for_each_index};

operator! {
    /// `y[m,n] = alpha * (sum over k of a[m,k] * b[k,n]) + beta * c`, `c` broadcast to `[m,n]`.
    Gemm(a, b, "c?") -> (y) since [1, 6, 7, 9, 11, 13];
    /// Scale of the product.
    alpha: f32 = 1.0f32,
    /// Scale of `c`.
    beta: f32 = 1.0f32,
    /// Whether `a` is `[k,m]`.
    trans_a as "transA": bool = false,
    /// Whether `b` is `[n,k]`.
    trans_b as "transB": bool = false,
}

impl Operator for Gemm {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, PRODUCTS)?;
        x.require_same_dtype(1, 0)?;
        let (a, b) = (x.ty(0)?, x.ty(1)?);
        if a.rank() != 2 || b.rank() != 2 {
            return Err(InferError::Invalid(format!("expected matrices, found {a} and {b}")));
        }
        if !dtype.is_float() && (self.alpha.fract() != 0.0 || self.beta.fract() != 0.0) {
            return Err(InferError::Unsupported(format!("`alpha` {} and `beta` {} with elements of type {dtype}", self.alpha, self.beta)));
        }
        let side = |d: &[Dim], swap: bool| if swap { (d[1].clone(), d[0].clone()) } else { (d[0].clone(), d[1].clone()) };
        let ((m, ka), (kb, n)) = (side(&a.shape.0, self.trans_a), side(&b.shape.0, self.trans_b));
        require_equal(&ka, &kb, "contracted extents differ")?;
        let shape = Shape(vec![m, n]);
        if x.has(2) {
            x.require_same_dtype(2, 0)?;
            let c = x.ty(2)?;
            let fits = c.rank() <= 2
                && c.shape.0.iter().rev().zip(shape.0.iter().rev()).all(|(c, y)| match (c.fixed(), y.fixed()) {
                    (Some(c), Some(y)) => c == 1 || c == y,
                    _ => true,
                });
            if !fits {
                return Err(InferError::Invalid(format!("{c} does not broadcast to {shape}")));
            }
        }
        Ok(vec![Type::new(dtype, shape)])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(result) = self.infer(x) else { return Axes::unlinked(x) };
        let (m, n) = (Some(0), Some(1));
        let mut operands =
            vec![if self.trans_a { vec![None, m] } else { vec![m, None] }, if self.trans_b { vec![n, None] } else { vec![None, n] }];
        if x.len() > 2 {
            let d = x.get(2).map_or(&[][..], |c| &c.ty.shape.0);
            operands.push(
                (0..d.len()).map(|i| i + 2 - d.len()).zip(d).map(|(i, c)| (*c == result[0].shape.0[i]).then_some(i as u32)).collect(),
            );
        }
        Axes { operands, results: vec![vec![m, n]], elementwise: false }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        Ok(vec![if x.tensor(0).dtype().is_float() { self.product::<f64>(x) } else { self.product::<i64>(x) }])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (left, right, addend) = (x.tensor(0), x.tensor(1), x.get(2).filter(|_| self.beta != 0.0));
        let (dims, k) = (x.result_dims(0), x.dims(0)[usize::from(!self.trans_a)]);
        let dtype = b.dtype(left);
        let pair = |swap: bool, i: &expr::Affine, j: &expr::Affine| if swap { [j.clone(), i.clone()] } else { [i.clone(), j.clone()] };
        let scaled = |e: expr::Expr, scale: f32| if scale == 1.0 { e } else { e * f64::from(scale) };
        let out = b.reduce(
            ReduceOp::Sum,
            &dims,
            &[k],
            |b, at, over| {
                load_wide(b, left, &pair(self.trans_a, &at[0], &over[0])) * load_wide(b, right, &pair(self.trans_b, &over[0], &at[1]))
            },
            |b, at, sum| {
                let y = scaled(sum, self.alpha);
                addend.map_or(y.clone(), |c| y + scaled(load_wide_broadcast(b, c, at), self.beta)).cast(dtype)
            },
        );
        Ok(vec![out])
    }
}

impl Gemm {
    fn product<T: Number>(&self, x: &Operands) -> Tensor {
        let (a, b) = (x.tensor(0), x.tensor(1));
        let (mut av, mut bv) = (T::read(a), T::read(b));
        let (mut ad, mut bd) = (a.dims().to_vec(), b.dims().to_vec());
        if self.trans_a {
            av = transposed(&av, ad[0], ad[1]);
            ad.swap(0, 1);
        }
        if self.trans_b {
            bv = transposed(&bv, bd[0], bd[1]);
            bd.swap(0, 1);
        }
        let dims = [ad[0], bd[1]];
        let mut out = vec![T::default(); dims[0] * dims[1]];
        matrix_product(&mut out, &av, &bv, ad[1], bd[1]);
        let addend = x.tensor_opt(2).map(|c| (c.dims().to_vec(), T::read(c)));
        for_each_index(&dims, |flat, at| {
            let y = out[flat].times(T::of(self.alpha));
            out[flat] = match &addend {
                Some((d, c)) if self.beta != 0.0 => y.mul_add(c[broadcast_offset(d, at)], T::of(self.beta)),
                _ => y,
            };
        });
        T::tensor(a.dtype(), &dims, &out)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn scales_and_transposes() {
        let y = check_op("Gemm transB=1 alpha=0.5 beta=2.0", [t("f32[1,2] 2 4"), t("f32[2,2] 1 2 3 4"), t("f32[2] 1 -1")]);
        assert_eq!(y[0], t("f32[1,2] 7 9"));
        for (op, a, b) in [
            ("Gemm", "[2,3]", "[3,4]"),
            ("Gemm transA=1", "[3,2]", "[3,4]"),
            ("Gemm transB=1 alpha=2.0", "[2,3]", "[4,3]"),
            ("Gemm transA=1 transB=1 beta=0.0", "[3,2]", "[4,3]"),
        ] {
            for c in ["[2,4]", "[4]", "[2,1]", "[1,4]", "[1]", "[]"] {
                for dtype in ["f32", "f16", "i32"] {
                    check_op(op, [a, b, c].map(|d| random(&format!("{dtype}{d}"), d.len() as u64)));
                }
            }
            check_op(op, [a, b].map(|d| random(&format!("f64{d}"), 1)));
        }
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        assert_eq!(check_error("Gemm", [t("f32[2,3]"), t("f32[4,3]")]), "contracted extents differ: 3 and 4");
        assert_eq!(check_error("Gemm", [t("f32[2,3]"), t("f32[3,2]"), t("f32[3]")]), "f32[3] does not broadcast to [2,2]");
        assert_eq!(check_error("Gemm", [t("f32[2]"), t("f32[3,2]")]), "expected matrices, found f32[2] and f32[3,2]");
    }
}

//! `CumSum`: running sums along an axis.
//! Spec: <https://onnx.ai/onnx/operators/onnx__CumSum.html>

use crate::expr::{self, Affine, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator, normalize_axis};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// Each element of `y` is the sum of the elements of `x` up to its place along `axis`.
    CumSum(x, axis) -> (y) since [11, 14];
    /// Whether the element at the place itself is left out.
    exclusive: bool = false,
    /// Whether the sums run from the back.
    reverse: bool = false,
}

impl CumSum {
    fn along(&self, x: &Operands) -> Result<usize, InferError> {
        match x.ints(1)?[..] {
            [axis] => normalize_axis(axis, x.rank(0)?),
            _ => Err(InferError::Invalid("`axis` must be one number".to_owned())),
        }
    }
}

impl Operator for CumSum {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        if ty.dtype == DType::Bool {
            return Err(InferError::ElementType { operand: 0, dtype: ty.dtype });
        }
        self.along(x)?;
        Ok(vec![ty.clone()])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(along) = self.along(x) {
            axes.operands[0] = (0..axes.operands[0].len()).map(|i| (i != along).then_some(i as u32)).collect();
            axes.results = vec![axes.operands[0].clone()];
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let along = self.along(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let input = x.tensor(0);
        let (n, inner) = (input.dims()[along], input.dims()[along + 1..].iter().product::<usize>());
        // Where the sum at each place comes from: the place before it, unless it is the first.
        let order = |len: usize| (0..len / (n * inner).max(1)).flat_map(move |o| (0..inner).map(move |i| o * n * inner + i));
        let place = |start: usize, k: usize| start + inner * if self.reverse { n - 1 - k } else { k };
        macro_rules! sums {
            ($values:expr, $zero:expr) => {{
                let values = $values;
                let mut sums = vec![$zero; values.len()];
                for start in order(values.len()) {
                    let mut sum = $zero;
                    for k in 0..n {
                        let at = place(start, k);
                        if self.exclusive {
                            sums[at] = sum;
                        }
                        sum += values[at];
                        if !self.exclusive {
                            sums[at] = sum;
                        }
                    }
                }
                sums
            }};
        }
        Ok(vec![if input.dtype().is_float() {
            Tensor::from_f64s(input.dtype(), input.dims(), &sums!(input.to_f64s(), 0f64))
        } else {
            Tensor::from_ints(input.dtype(), input.dims(), &sums!(input.to_ints(), 0i128))
        }])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let along = self.along(x.facts)?;
        let (input, dims) = (x.tensor(0), x.dims(0));
        let dtype = b.dtype(input);
        if dims.contains(&0) {
            return Ok(vec![b.compute(&dims, |_, _| Expr::int(dtype, 0))]);
        }
        let n = dims[along] as i64;
        let place = |k: &Affine| if self.reverse { k.times(-1).offset(n - 1) } else { k.clone() };
        let mut region = dims.clone();
        region[along] = 1;
        let sums = b.declare(dtype, &dims);
        let at_step = |at: &[Affine], k: &Affine| {
            let mut at = at.to_vec();
            at[along] = place(k);
            at
        };
        let first = Affine::default();
        b.write(sums, &region, |b, at| {
            let at = at_step(at, &first);
            let value = if self.exclusive { Expr::int(dtype, 0) } else { b.load(input, &at) };
            (at, value)
        });
        if n > 1 {
            b.repeat(n as usize - 1, |b, step| {
                b.write(sums, &region, |b, at| {
                    let (before, here) = (at_step(at, &step), at_step(at, &step.offset(1)));
                    let added = b.load(input, if self.exclusive { &before } else { &here });
                    let value = b.load(sums, &before) + added;
                    (here, value)
                });
            });
        }
        Ok(vec![sums])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn sums_run_along_the_axis() {
        let x = || t("f32[3] 1 2 3");
        let axis = || t("i64[] 0");
        assert_eq!(check_op("CumSum", [x(), axis()]), [t("f32[3] 1 3 6")]);
        assert_eq!(check_op("CumSum exclusive=1", [x(), axis()]), [t("f32[3] 0 1 3")]);
        assert_eq!(check_op("CumSum reverse=1", [x(), axis()]), [t("f32[3] 6 5 3")]);
        assert_eq!(check_op("CumSum exclusive=1 reverse=1", [x(), axis()]), [t("f32[3] 5 3 0")]);
        check_op("CumSum", [random("i64[2,3,4]", 1), t("i32[1] -2")]);
        check_op("CumSum", [random("f32[2,0]", 1), t("i64[] 1")]);
        assert_eq!(check_error("CumSum", [x(), t("i64[2] 0 0")]), "`axis` must be one number");
    }
}

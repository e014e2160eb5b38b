//! `CumSum` and `CumProd`: running sums and products along an axis.
//! Spec: <https://onnx.ai/onnx/operators/onnx__CumSum.html>, <https://onnx.ai/onnx/operators/onnx__CumProd.html>

use crate::expr::{self, Affine, BinaryOp, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator, normalize_axis};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// Each element of `y` is the sum of the elements of `x` up to its place along `axis`.
    CumSum(x, axis) -> (y) since [11, 14];
    /// Whether the element at the place itself is left out.
    exclusive: bool = false,
    /// Whether the sums run from the back.
    reverse: bool = false,
}

operator! {
    /// Each element of `y` is the product of the elements of `x` up to its place along `axis`.
    CumProd(x, axis) -> (y) since [26];
    /// Whether the element at the place itself is left out.
    exclusive: bool = false,
    /// Whether the products run from the back.
    reverse: bool = false,
}

macro_rules! running {
    ($name:ident, $neutral:literal, $float:expr, $int:expr, $op:ident, $interval:expr) => {
        impl $name {
            fn along(&self, x: &Operands) -> Result<usize, InferError> {
                match x.ints(1)?[..] {
                    [axis] => normalize_axis(axis, x.rank(0)?),
                    _ => Err(InferError::Invalid("`axis` must be one number".to_owned())),
                }
            }
        }

        impl Operator for $name {
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

            fn interval(&self, x: &Operands, of: &[Interval]) -> Interval {
                let n = self.along(x).ok().and_then(|along| Some(x.dims(0).ok()?[along]));
                n.map_or(Interval::ALL, |n| $interval(of[0], n as f64))
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let along = self.along(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
                let input = x.tensor(0);
                let (n, inner) = (input.dims()[along], input.dims()[along + 1..].iter().product::<usize>());
                let form = Running { n, inner, exclusive: self.exclusive, reverse: self.reverse };
                Ok(vec![if input.dtype().is_float() {
                    Tensor::from_f64s(input.dtype(), input.dims(), &form.eval(&input.to_f64s(), f64::from($neutral), $float))
                } else {
                    Tensor::from_ints(input.dtype(), input.dims(), &form.eval(&input.to_ints(), i128::from($neutral), $int))
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
                // Where the axis is another at other sizes, sums that run from its end are those of the axis from its end.
                let turned = self.reverse && b.spread(input, along).1;
                let turn = |b: &mut expr::Builder, t: TensorId| {
                    b.compute(&dims, |b, at| {
                        let mut from = at.to_vec();
                        from[along] = at[along].times(-1).offset(n - 1);
                        b.load(t, from)
                    })
                };
                let input = if turned { turn(b, input) } else { input };
                let place = |k: &Affine| if self.reverse && !turned { k.times(-1).offset(n - 1) } else { k.clone() };
                let sums = b.declare(dtype, &dims);
                let mut region = dims.clone();
                region[along] = 1;
                let steps = |b: &mut expr::Builder, region: &[usize], moved: &dyn Fn(&[Affine]) -> Vec<Affine>| {
                    let at_step = |at: &[Affine], k: &Affine| {
                        let mut at = moved(at);
                        at[along] = place(k);
                        at
                    };
                    let begin = |b: &mut expr::Builder, first: &Affine| {
                        b.write(sums, region, |b, at| {
                            let at = at_step(at, first);
                            let value = if self.exclusive { Expr::int(dtype, $neutral) } else { b.load(input, &at) };
                            (at, value)
                        });
                    };
                    // At other sizes there may be no first element.
                    if b.any_size {
                        b.repeat(1, |b, first| begin(b, &first));
                    } else {
                        begin(b, &Affine::default());
                    }
                    if n > 1 {
                        b.repeat(n as usize - 1, |b, step| {
                            b.write(sums, region, |b, at| {
                                let (before, here) = (at_step(at, &step), at_step(at, &step.offset(1)));
                                let added = b.load(input, if self.exclusive { &before } else { &here });
                                let value = b.load(sums, &before).binary(BinaryOp::$op, &added);
                                (here, value)
                            });
                        });
                    }
                };
                match rows_at_once(&dims, along).filter(|_| !b.any_size) {
                    Some((axis, rows)) => {
                        region[axis] = rows;
                        b.repeat(dims[axis] / rows, |b, block| {
                            steps(b, &region, &|at| {
                                let mut at = at.to_vec();
                                at[axis] = block.times(rows as i64).plus(&at[axis]);
                                at
                            });
                        });
                    }
                    None => steps(b, &region, &|at| at.to_vec()),
                }
                Ok(vec![if turned { turn(b, sums) } else { sums }])
            }
        }
    };
}

running!(CumSum, 0, |a: f64, b: f64| a + b, i128::wrapping_add, Add, |of: Interval, n| of.times(Interval::new(0.0, n)));
running!(CumProd, 1, |a: f64, b: f64| a * b, i128::wrapping_mul, Mul, |_, _| Interval::ALL);

/// Rows that wait for each other's additions, few enough to stay in the first-level cache.
const ROWS: usize = 8;

/// Where what is combined is adjacent, the axis before it, and how many of its rows go forward side by side.
fn rows_at_once(dims: &[usize], along: usize) -> Option<(usize, usize)> {
    let axis = (0..along).rev().find(|&a| dims[a] > 1)?;
    let adjacent = dims[along + 1..].iter().all(|&d| d == 1);
    let rows = (1..=ROWS).rev().find(|&r| dims[axis].is_multiple_of(r))?;
    (adjacent && rows < dims[axis]).then_some((axis, rows))
}

/// Running combinations of rows of `n` elements that are `inner` apart.
struct Running {
    n: usize,
    inner: usize,
    exclusive: bool,
    reverse: bool,
}

impl Running {
    fn eval<T: Copy>(&self, values: &[T], neutral: T, combine: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = vec![neutral; values.len()];
        for outer in 0..values.len() / (self.n * self.inner).max(1) {
            for i in 0..self.inner {
                let mut sum = neutral;
                for k in 0..self.n {
                    let k = if self.reverse { self.n - 1 - k } else { k };
                    let at = (outer * self.n + k) * self.inner + i;
                    let next = combine(sum, values[at]);
                    out[at] = if self.exclusive { sum } else { next };
                    sum = next;
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Fact;
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn products_run_along_the_axis() {
        let x = || [t("f32[4] 1 2 3 4"), t("i64[] 0")];
        assert_eq!(check_op("CumProd", x()), [t("f32[4] 1 2 6 24")]);
        assert_eq!(check_op("CumProd exclusive=1 reverse=1", x()), [t("f32[4] 24 12 4 1")]);
        check_op("CumProd", [random("i32[2,12,4]", 1), t("i32[1] 1")]);
    }

    #[test]
    fn sums_of_bounded_numbers_are_bounded() {
        let x = Operands { facts: vec![Some(Fact::of(Type::fixed(DType::I64, &[2, 5]))), Some(t("i64[] 1").into())], n_results: 1 };
        let sums = |low: f64, high: f64| CumSum { exclusive: false, reverse: false }.interval(&x, &[Interval::new(low, high)]);
        assert_eq!(
            (sums(0.0, 4.0), sums(-2.0, 3.0), sums(2.0, 3.0)),
            (Interval::new(0.0, 20.0), Interval::new(-10.0, 15.0), Interval::new(0.0, 15.0))
        );
    }

    #[test]
    fn sums_run_along_the_axis() {
        let x = || t("f32[3] 1 2 3");
        let axis = || t("i64[] 0");
        assert_eq!(check_op("CumSum", [x(), axis()]), [t("f32[3] 1 3 6")]);
        assert_eq!(check_op("CumSum exclusive=1", [x(), axis()]), [t("f32[3] 0 1 3")]);
        assert_eq!(check_op("CumSum reverse=1", [x(), axis()]), [t("f32[3] 6 5 3")]);
        assert_eq!(check_op("CumSum exclusive=1 reverse=1", [x(), axis()]), [t("f32[3] 5 3 0")]);
        check_op("CumSum", [random("i64[2,3,4]", 1), t("i32[1] -2")]);
        for rows in [3, 11, 16, 24] {
            for op in ["CumSum", "CumSum exclusive=1 reverse=1"] {
                check_op(op, [random(&format!("f32[{rows},7]"), 1), t("i64[] 1")]);
                check_op(op, [random(&format!("i32[2,{rows},5,1]"), 1), t("i64[] 2")]);
            }
        }
        check_op("CumSum", [random("f32[2,0]", 1), t("i64[] 1")]);
        assert_eq!(check_error("CumSum", [x(), t("i64[2] 0 0")]), "`axis` must be one number");
    }
}

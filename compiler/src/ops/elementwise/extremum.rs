//! `Min`, `Max`, `Sum`, `Mean` of any number of operands, and `Clip`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Min.html>, <https://onnx.ai/onnx/operators/onnx__Max.html>,
//! <https://onnx.ai/onnx/operators/onnx__Sum.html>, <https://onnx.ai/onnx/operators/onnx__Mean.html>,
//! <https://onnx.ai/onnx/operators/onnx__Clip.html>

use super::broadcast::{self, FLOATS, NUMBERS, zip};
use crate::expr::{Affine, Builder, Expr, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, broadcast_dims, n_elements};

operator! {
    /// The least operand at each place, with broadcasting; NaN where any is.
    Min("data_0*") -> (min) since [1, 6, 8, 12, 13];
}

operator! {
    /// The greatest operand at each place, with broadcasting; NaN where any is.
    Max("data_0*") -> (max) since [1, 6, 8, 12, 13];
}

operator! {
    /// The sum of all operands, with broadcasting.
    Sum("data_0*") -> (sum) since [1, 6, 8, 13];
}

operator! {
    /// The arithmetic mean of all operands, with broadcasting.
    Mean("data_0*") -> (mean) since [1, 6, 8, 13];
}

operator! {
    /// `output = min(max(input, min), max)`, where bounds are given; NaN of NaN. `min` and `max` have one element.
    Clip(input, "min?", "max?") -> (output) since [1, 6, 11, 12, 13];
}

macro_rules! variadic {
    ($name:ident, $allowed:expr, $float:expr, $int:expr, $lower:expr, $finish:expr, $finish_lower:expr, $interval:expr) => {
        impl Operator for $name {
            fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
                broadcast::same_type(x, $allowed)
            }

            fn axes(&self, x: &Operands) -> Axes {
                Axes::elementwise(x)
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let values: Vec<&Tensor> = (0..x.len()).map(|i| x.tensor(i)).collect();
                let dtype = values[0].dtype();
                Ok(vec![if dtype.is_float() {
                    let (dims, all) = fold(&values, Tensor::to_f64s, $float);
                    let finish: fn(f64, f64) -> f64 = $finish;
                    Tensor::from_f64s(dtype, &dims, &all.into_iter().map(|y| finish(y, x.len() as f64)).collect::<Vec<_>>())
                } else {
                    let (dims, all) = fold(&values, Tensor::to_ints, $int);
                    Tensor::from_ints(dtype, &dims, &all)
                }])
            }

            fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
                let f: fn(Interval, Interval) -> Interval = $interval;
                of.iter().copied().reduce(f).unwrap_or(Interval::ALL)
            }

            fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
                let operands: Vec<TensorId> = (0..x.facts.len()).map(|i| x.tensor(i)).collect();
                let dtype = b.dtype(operands[0]);
                let (f, finish): (fn(&Expr, &Expr) -> Expr, fn(Expr, f64) -> Expr) = ($lower, $finish_lower);
                Ok(vec![broadcast::lower(b, &operands, dtype, |v| {
                    finish(v[1..].iter().fold(v[0].clone(), |y, x| f(&y, x)), v.len() as f64)
                })])
            }
        }
    };
}
variadic!(Min, NUMBERS, least, i128::min, |a, b| a.min_nan(b), |y, _| y, |y, _| y, Interval::least);
variadic!(Max, NUMBERS, greatest, i128::max, |a, b| a.max_nan(b), |y, _| y, |y, _| y, Interval::greatest);
variadic!(Sum, FLOATS, |a, b| a + b, |a, _| a, |a, b| a + b, |y, _| y, |y, _| y, |a, b| a + b);
variadic!(Mean, FLOATS, |a, b| a + b, |a, _| a, |a, b| a + b, |y, n| y / n, |y, n| y / n, Interval::join);

/// The combination of all values, in order, and its extents.
fn fold<T: Copy>(values: &[&Tensor], read: impl Fn(&Tensor) -> Vec<T>, f: impl Fn(T, T) -> T) -> (Vec<usize>, Vec<T>) {
    let (mut dims, mut all) = (values[0].dims().to_vec(), read(values[0]));
    for x in &values[1..] {
        let wider = broadcast_dims(&dims, x.dims()).expect("shapes that infer accepted");
        all = zip(&wider, [(&dims, &all), (x.dims(), &read(x))], |[a, b]| f(a, b));
        dims = wider;
    }
    (dims, all)
}

fn least(a: f64, b: f64) -> f64 {
    if b < a || b.is_nan() { b } else { a }
}

fn greatest(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

impl Operator for Clip {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        x.require_dtype(0, NUMBERS)?;
        for i in 1..3 {
            let Some(bound) = x.get(i) else { continue };
            x.require_same_dtype(i, 0)?;
            if bound.ty.shape.0.iter().any(|d| d.fixed().is_some_and(|n| n != 1)) {
                return Err(InferError::Invalid(format!("a bound of shape {} must have one element", bound.ty.shape)));
            }
        }
        Ok(vec![x.ty(0)?.clone()])
    }

    fn interval(&self, x: &Operands, of: &[Interval]) -> Interval {
        let above = if x.has(1) { of[0].greatest(of[1]) } else { of[0] };
        if x.has(2) { above.least(of[2]) } else { above }
    }

    fn axes(&self, x: &Operands) -> Axes {
        let labels: Vec<Option<u32>> = (0..x.rank(0).unwrap_or(0) as u32).map(Some).collect();
        let mut axes = Axes::unlinked(x);
        axes.operands[0].clone_from(&labels);
        Axes { results: vec![labels], elementwise: true, ..axes }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let input = x.tensor(0);
        Ok(vec![if input.dtype().is_float() {
            let bound = |i: usize| x.tensor_opt(i).map(|t| t.to_f64s()[0]);
            let (low, high) = (bound(1), bound(2));
            broadcast::floats([input], input.dtype(), |[y]| {
                let y = low.map_or(y, |low| greatest(y, low));
                high.map_or(y, |high| least(y, high))
            })
        } else {
            let bound = |i: usize| x.tensor_opt(i).map(|t| t.to_ints()[0]);
            let (low, high) = (bound(1), bound(2));
            broadcast::ints([input], input.dtype(), |[y]| {
                let y = low.map_or(y, |low| y.max(low));
                high.map_or(y, |high| y.min(high))
            })
        }])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let input = x.tensor(0);
        let (dims, dtype) = (b.dims(input).to_vec(), b.dtype(input));
        let wide = broadcast::wide(dtype);
        let y = b.compute(&dims, |b, at| {
            let bound = |i: usize| match x.facts.get(i).and_then(|f| f.value.as_ref()).and_then(|v| constant(v, wide)) {
                Some(known) => Some(known),
                None => x.get(i).map(|t| b.load(t, vec![Affine::default(); b.dims(t).len()]).cast(wide)),
            };
            let y = b.load(input, at).cast(wide);
            let y = bound(1).map_or(y.clone(), |low| y.max_nan(&low));
            let y = bound(2).map_or(y.clone(), |high| y.min_nan(&high));
            y.cast(dtype)
        });
        Ok(vec![y])
    }
}

/// The only element as an expression, unless it is NaN.
fn constant(value: &Tensor, wide: DType) -> Option<Expr> {
    if n_elements(value.dims()) != 1 {
        return None;
    }
    if wide.is_float() {
        let x = value.to_f64s()[0];
        (!x.is_nan()).then(|| Expr::constant(wide, x))
    } else {
        Some(Expr::int(wide, value.to_ints()[0] as i64))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, lowered, random, t};

    #[test]
    fn every_type() {
        for dtype in ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "bf16", "f32", "f64"] {
            let x = |dims: &str, seed| random(&format!("{dtype}[{dims}]"), seed);
            for op in ["Min", "Max"] {
                check_op(op, [x("2,5", 1), x("5", 2), x("1,1", 3)]);
                check_op(op, [x("2,5", 1)]);
            }
            check_op("Clip", [x("2,5", 1), t(&format!("{dtype}[] 1")), t(&format!("{dtype}[1] 4"))]);
        }
        for dtype in ["f16", "bf16", "f32", "f64"] {
            let x = |dims: &str, seed| random(&format!("{dtype}[{dims}]"), seed);
            for op in ["Sum", "Mean"] {
                check_op(op, [x("2,1", 1), x("5", 2), x("1,1", 3)]);
                check_op(op, [x("2,5", 1)]);
                check_op(op, [x("0,5", 1), x("5", 2)]);
            }
        }
    }

    #[test]
    fn nan_wins() {
        let x = || [t("f32[4] nan 1 nan 2"), t("f32[4] 1 nan nan 3")];
        assert_eq!(check_op("Max", x()), [t("f32[4] nan nan nan 3")]);
        assert_eq!(check_op("Min", x()), [t("f32[4] nan nan nan 2")]);
        assert_eq!(check_op("Clip", [t("f32[3] nan -inf 9"), t("f32[] 0"), t("f32[] 6")]), [t("f32[3] nan 0 6")]);
        assert_eq!(check_op("Clip", [t("f32[1] 1"), t("f32[] nan"), t("f32[] 6")]), [t("f32[1] nan")]);
    }

    #[test]
    fn bounds() {
        let x = || t("f32[4] -9 1 3 9");
        assert_eq!(check_op("Clip", [Some(x()), None, Some(t("f32[] 2"))]), [t("f32[4] -9 1 2 2")]);
        assert_eq!(check_op("Clip", [Some(x()), Some(t("f32[] 2")), None]), [t("f32[4] 2 2 3 9")]);
        assert_eq!(check_op("Clip", [x()]), [x()]);
        assert_eq!(check_op("Clip", [x(), t("f32[] 5"), t("f32[] 2")]), [t("f32[4] 2 2 2 2")]);
        let big = || t("u64[2] 18446744073709551615 1");
        assert_eq!(check_op("Clip", [big(), t("u64[] 2"), t("u64[] 18446744073709551614")]), [t("u64[2] 18446744073709551614 2")]);
        assert_eq!(check_error("Clip", [x(), t("f32[2]")]), "a bound of shape [2] must have one element");
    }

    #[test]
    fn sums() {
        assert_eq!(check_op("Sum", [t("f32[2] 1 2"), t("f32[1] 10"), t("f32[] 100")]), [t("f32[2] 111 112")]);
        assert_eq!(check_op("Mean", [t("f32[2] 1 2"), t("f32[2] 3 5")]), [t("f32[2] 2 3.5")]);
        assert_eq!(check_error("Sum", [t("i32[1]")]), "operand 0 has element type `i32`, which is not supported here");
        assert_eq!(check_error("Max", [] as [crate::tensor::Tensor; 0]), "operand 0 is missing");
    }

    #[test]
    fn two_operands() {
        insta::assert_snapshot!(lowered("Min", &["i32[2]", "i32[2]"]), @r"
        program(%x0: i32[2], %x1: i32[2]) -> (%y) {
          %y[i0] = min(%x1[i0], %x0[i0]) : i32[2]
        }
        ");
    }
}

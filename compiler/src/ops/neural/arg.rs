//! `ArgMax` and `ArgMin`.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ArgMax.html>, <https://onnx.ai/onnx/operators/onnx__ArgMin.html>

use super::softmax::with;
use super::widen::{NUMBERS, load_wide};
use crate::expr::{self, Affine, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type, n_elements};

macro_rules! arguments {
    ($( $(#[doc = $doc:literal])+ $name:ident, $op:ident; )*) => { $(
        operator! {
            $(#[doc = $doc])+
            $name(data) -> (reduced) since [1, 11, 12, 13];
            /// The axis.
            axis: i64 = 0,
            /// Whether the axis stays, with extent 1.
            keepdims: bool = true,
            /// Whether the last of equal values wins instead of the first.
            select_last_index: bool = false,
        }

        impl Operator for $name {
            fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
                infer(x, self.axis, self.keepdims)
            }

            fn interval(&self, x: &Operands, _: &[Interval]) -> Interval {
                let extent = x.axis(0, self.axis).ok().and_then(|axis| x.ty(0).ok()?.shape.0[axis].fixed());
                extent.map_or(Interval::ALL, |n| Interval::new(0.0, n.saturating_sub(1) as f64))
            }

            fn axes(&self, x: &Operands) -> Axes {
                axes(x, self.axis, self.keepdims)
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let axis = x.axis(0, self.axis).map_err(|e| EvalError::Invalid(e.to_string()))?;
                Ok(vec![eval(x.tensor(0), axis, self.keepdims, ReduceOp::$op, self.select_last_index)])
            }

            fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
                let axis = x.facts.axis(0, self.axis)?;
                let (t, dims) = (x.tensor(0), x.dims(0));
                let source = |at: &[Affine], over: &Affine| match self.keepdims {
                    true => with(at, axis, over.clone()),
                    false => [&at[..axis], std::slice::from_ref(over), &at[axis..]].concat(),
                };
                let value = |b: &expr::Builder, at: &[Affine], over: &Affine| load_wide(b, t, &source(at, over));
                Ok(vec![b.arg(ReduceOp::$op, self.select_last_index, &x.result_dims(0), dims[axis], value)])
            }
        }
    )* };
}

arguments! {
    /// The position of the greatest element along one axis.
    ArgMax, Max;
    /// The position of the least element along one axis.
    ArgMin, Min;
}

fn infer(x: &Operands, axis: i64, keepdims: bool) -> Result<Vec<Type>, InferError> {
    x.require_dtype(0, NUMBERS)?;
    let (ty, axis) = (x.ty(0)?, x.axis(0, axis)?);
    if ty.shape.0[axis] == Dim::Fixed(0) {
        return Err(InferError::Invalid(format!("axis {axis} of {ty} is empty")));
    }
    let mut dims = ty.shape.0.clone();
    if keepdims {
        dims[axis] = Dim::Fixed(1);
    } else {
        dims.remove(axis);
    }
    Ok(vec![Type::new(DType::I64, dims.into_iter().collect())])
}

fn axes(x: &Operands, axis: i64, keepdims: bool) -> Axes {
    let (Ok(axis), Ok(rank)) = (x.axis(0, axis), x.rank(0)) else { return Axes::unlinked(x) };
    let labels: Vec<Option<u32>> = (0..rank).map(|i| (i != axis).then_some(i as u32)).collect();
    let mut result = labels.clone();
    if !keepdims {
        result.remove(axis);
    }
    Axes { operands: vec![labels], results: vec![result], elementwise: false }
}

fn eval(x: &Tensor, axis: usize, keepdims: bool, op: ReduceOp, last: bool) -> Tensor {
    let dims = x.dims();
    let (n, inner) = (dims[axis], n_elements(&dims[axis + 1..]));
    // 64-bit integers do not fit `f64`.
    let exact = (!x.dtype().is_float()).then(|| x.to_ints());
    let values = x.to_f64s();
    let beats = |a: usize, b: usize| {
        let order = match &exact {
            Some(v) => v[a].partial_cmp(&v[b]),
            None => values[a].partial_cmp(&values[b]),
        };
        let better = if op == ReduceOp::Max { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less };
        order == Some(better) || (last && order == Some(std::cmp::Ordering::Equal))
    };
    let mut out = vec![];
    for start in (0..n_elements(&dims[..axis])).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
        let best = (0..n).reduce(|best, k| if beats(start + k * inner, start + best * inner) { k } else { best });
        out.push(best.unwrap_or(0) as i64);
    }
    let mut result = with(dims, axis, 1);
    if !keepdims {
        result.remove(axis);
    }
    Tensor::from_slice(&result, &out)
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn ties_go_to_the_first_or_last() {
        let x = || [t("f32[2,3] 1 3 3 2 0 2")];
        assert_eq!(check_op("ArgMax axis=1", x())[0], t("i64[2,1] 1 0"));
        assert_eq!(check_op("ArgMax axis=-1 select_last_index=1 keepdims=0", x())[0], t("i64[2] 2 2"));
        assert_eq!(check_op("ArgMin", x())[0], t("i64[1,3] 0 1 1"));
        assert_eq!(check_op("ArgMax", [t("i64[2] 9007199254740993 9007199254740992")])[0], t("i64[1] 0"));
        for op in ["ArgMax", "ArgMin axis=1 keepdims=0", "ArgMin axis=2 select_last_index=1"] {
            for dtype in ["f32", "f16", "u8", "i64"] {
                check_op(op, [random(&format!("{dtype}[3,4,2]"), 1)]);
            }
        }
        assert_eq!(check_error("ArgMax", [t("f32[0,2]")]), "axis 0 of f32[0,2] is empty");
    }
    #[test]
    fn long_rows_and_many_columns() {
        for dtype in ["f32", "i32"] {
            // Few values, so that many are equal.
            let x = |n: usize, m: usize| {
                let text: Vec<String> = (0..n * m).map(|i| ((i * i * 7 + i / 5) % 11).to_string()).collect();
                t(&format!("{dtype}[{n},{m}] {}", text.join(" ")))
            };
            for op in ["ArgMax", "ArgMin"] {
                for last in [0, 1] {
                    for axis in [0, 1] {
                        for (n, m) in [(3, 150), (70, 5), (33, 67)] {
                            check_op(&format!("{op} axis={axis} select_last_index={last}"), [x(n, m)]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_never_wins_and_is_not_beaten() {
        let row = |first: &str| t(&format!("f32[1,41] {first} 1 -inf 7 nan 3 -0 0 nan {}", "2 nan 7 6 ".repeat(8)));
        let (x, y) = (row("nan"), row("5"));
        assert_eq!(check_op("ArgMax axis=1", [x.clone()])[0], t("i64[1,1] 0"));
        assert_eq!(check_op("ArgMin axis=1 select_last_index=1", [x.clone()])[0], t("i64[1,1] 0"));
        assert_eq!(check_op("ArgMax axis=1", [y.clone()])[0], t("i64[1,1] 3"));
        assert_eq!(check_op("ArgMax axis=1 select_last_index=1", [y.clone()])[0], t("i64[1,1] 39"));
        assert_eq!(check_op("ArgMin axis=1", [y.clone()])[0], t("i64[1,1] 2"));
        for v in [x, y] {
            let columns = t(&format!("f32[41,5] {}", v.to_f64s().iter().map(|x| format!("{x} ").repeat(5)).collect::<String>()));
            check_op("ArgMax axis=0", [columns.clone()]);
            check_op("ArgMin axis=0 select_last_index=1", [columns]);
        }
    }
}

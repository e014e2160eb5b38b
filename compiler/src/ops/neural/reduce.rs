//! The reductions: `ReduceSum`, `ReduceMean` and the others, over any axes.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ReduceSum.html> and its neighbours.

use super::widen::{NUMBERS, PRODUCTS, load_wide, wide};
use crate::expr::{self, Affine, CompareOp, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, Fill, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type, for_each_index, n_elements, row_major_strides};

/// What is reduced, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Sum,
    Mean,
    Prod,
    Max,
    Min,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

macro_rules! reductions {
    ($( $(#[doc = $doc:literal])+ $name:ident, $kind:ident, [$($since:literal),*]; )*) => { $(
        operator! {
            $(#[doc = $doc])+
            $name(data, "axes?") -> (reduced) since [$($since),*];
            /// Whether reduced axes stay, with extent 1.
            keepdims: bool = true,
            /// Whether absent or empty `axes` mean none instead of all.
            noop_with_empty_axes: bool = false,
        }

        impl Operator for $name {
            fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
                Plan::new(Kind::$kind, self.keepdims, self.noop_with_empty_axes, x)?.infer(x)
            }

            fn axes(&self, x: &Operands) -> Axes {
                Plan::new(Kind::$kind, self.keepdims, self.noop_with_empty_axes, x).map_or_else(|_| Axes::unlinked(x), |p| p.axes(x))
            }

            fn fill(&self, x: &Operands, operand: usize, _: usize) -> Option<Fill> {
                match Kind::$kind {
                    _ if operand > 0 => None,
                    Kind::Sum | Kind::L1 | Kind::L2 | Kind::SumSquare | Kind::LogSum => Some(Fill::Zero),
                    Kind::Prod => Some(Fill::One),
                    Kind::Max => Some(Fill::Lowest),
                    Kind::Min => Some(Fill::Greatest),
                    Kind::LogSumExp => x.dtype(0).ok().filter(|d| d.is_float()).map(|_| Fill::Lowest),
                    Kind::Mean => None,
                }
            }

            fn interval(&self, x: &Operands, of: &[Interval]) -> Interval {
                let plan = Plan::new(Kind::$kind, self.keepdims, self.noop_with_empty_axes, x);
                plan.map_or(Interval::ALL, |p| p.interval(x, of[0]))
            }

            fn reduced(&self, x: &Operands, all: &[Interval]) -> Option<Interval> {
                let int = x.dtype(0).is_ok_and(|d| d.is_int());
                let fold = match Kind::$kind {
                    Kind::Max => Interval::greatest,
                    Kind::Min => Interval::least,
                    Kind::Sum => |a, b| a + b,
                    Kind::Prod => Interval::times,
                    _ => return None,
                };
                if int { all.iter().copied().reduce(fold) } else { None }
            }

            fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
                let plan = Plan::new(Kind::$kind, self.keepdims, self.noop_with_empty_axes, x);
                Ok(vec![plan.map_err(|e| EvalError::Invalid(e.to_string()))?.eval(x.tensor(0))])
            }

            fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
                let plan = Plan::new(Kind::$kind, self.keepdims, self.noop_with_empty_axes, x.facts)?;
                Ok(vec![plan.lower(b, x.tensor(0), &x.result_dims(0))])
            }
        }
    )* };
}

reductions! {
    /// The sum.
    ReduceSum, Sum, [1, 11, 13];
    /// The mean; of integers, truncated.
    ReduceMean, Mean, [1, 11, 13, 18];
    /// The product.
    ReduceProd, Prod, [1, 11, 13, 18];
    /// The greatest value.
    ReduceMax, Max, [1, 11, 12, 13, 18, 20];
    /// The least value.
    ReduceMin, Min, [1, 11, 12, 13, 18, 20];
    /// The sum of absolute values.
    ReduceL1, L1, [1, 11, 13, 18];
    /// The square root of the sum of squares.
    ReduceL2, L2, [1, 11, 13, 18];
    /// The sum of squares.
    ReduceSumSquare, SumSquare, [1, 11, 13, 18];
    /// The logarithm of the sum.
    ReduceLogSum, LogSum, [1, 11, 13, 18];
    /// The logarithm of the sum of exponentials.
    ReduceLogSumExp, LogSumExp, [1, 11, 13, 18];
}

/// One reduction with its axes.
#[derive(Debug)]
struct Plan {
    kind: Kind,
    keepdims: bool,
    /// By axis: whether it is reduced.
    reduced: Vec<bool>,
}

impl Plan {
    fn new(kind: Kind, keepdims: bool, noop: bool, x: &Operands) -> Result<Self, InferError> {
        let rank = x.rank(0)?;
        let axes = if x.has(1) { x.ints(1)? } else { vec![] };
        let mut reduced = vec![axes.is_empty() && !noop; rank];
        for axis in axes {
            reduced[x.axis(0, axis)?] = true;
        }
        Ok(Plan { kind, keepdims, reduced })
    }

    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        match self.kind {
            Kind::Max | Kind::Min if x.dtype(0)? == DType::Bool => {}
            Kind::Max | Kind::Min => x.require_dtype(0, NUMBERS).map(drop)?,
            _ => x.require_dtype(0, PRODUCTS).map(drop)?,
        }
        let ty = x.ty(0)?;
        let dims = ty.shape.0.iter().zip(&self.reduced).filter_map(|(d, &r)| match (r, self.keepdims) {
            (false, _) => Some(d.clone()),
            (true, true) => Some(Dim::Fixed(1)),
            (true, false) => None,
        });
        Ok(vec![Type::new(ty.dtype, dims.collect())])
    }

    fn interval(&self, x: &Operands, of: Interval) -> Interval {
        match (self.kind, x.dims(0)) {
            (Kind::Max | Kind::Min | Kind::Mean, _) => of,
            (Kind::Sum, Ok(dims)) => {
                let count: usize = dims.iter().zip(&self.reduced).filter_map(|(&d, &r)| r.then_some(d)).product();
                of.times(Interval::new(count as f64, count as f64))
            }
            _ => Interval::ALL,
        }
    }

    fn axes(&self, x: &Operands) -> Axes {
        let labels: Vec<Option<u32>> = self.reduced.iter().enumerate().map(|(i, &r)| (!r).then_some(i as u32)).collect();
        let result = if self.keepdims { labels.clone() } else { labels.iter().copied().filter(Option::is_some).collect() };
        let mut axes = Axes::unlinked(x);
        axes.operands[0] = labels;
        axes.results = vec![result];
        axes
    }

    fn eval(&self, x: &Tensor) -> Tensor {
        let dtype = x.dtype();
        let dims: Vec<usize> = x.dims().iter().zip(&self.reduced).map(|(&d, &r)| if r { 1 } else { d }).collect();
        let strides: Vec<usize> = row_major_strides(&dims).into_iter().zip(&self.reduced).map(|(s, &r)| if r { 0 } else { s }).collect();
        let place = |at: &[usize]| at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>();
        let result: Vec<usize> = dims.iter().zip(&self.reduced).filter(|(_, r)| self.keepdims || !**r).map(|(&d, _)| d).collect();
        let n: usize = x.dims().iter().zip(&self.reduced).filter(|(_, r)| **r).map(|(&d, _)| d).product();

        if !dtype.is_float() && !matches!(self.kind, Kind::L2 | Kind::LogSum | Kind::LogSumExp) {
            let (start, f): (i128, fn(i128, i128) -> i128) = match self.kind {
                Kind::Prod => (1, |a, v| i128::from((a as i64).wrapping_mul(v as i64))),
                Kind::Max => (dtype.int_range().0, i128::max),
                Kind::Min => (dtype.int_range().1, i128::min),
                Kind::L1 => (0, |a, v| a + v.abs()),
                Kind::SumSquare => (0, |a, v| i128::from((a as i64).wrapping_add((v as i64).wrapping_mul(v as i64)))),
                _ => (0, |a, v| a + v),
            };
            let values = x.to_ints();
            let mut out = vec![start; n_elements(&dims)];
            for_each_index(x.dims(), |flat, at| out[place(at)] = f(out[place(at)], values[flat]));
            if self.kind == Kind::Mean {
                out.iter_mut().for_each(|v| *v = v.checked_div(n as i128).unwrap_or(0));
            }
            return Tensor::from_ints(dtype, &result, &out);
        }

        let values = x.to_f64s();
        let fold = |start: f64, f: &dyn Fn(usize, f64, f64) -> f64| {
            let mut out = vec![start; n_elements(&dims)];
            for_each_index(x.dims(), |flat, at| out[place(at)] = f(place(at), out[place(at)], values[flat]));
            out
        };
        let max = |a: f64, v: f64| if v > a || v.is_nan() { v } else { a };
        let mut out = match self.kind {
            Kind::Sum | Kind::Mean | Kind::LogSum => fold(0.0, &|_, a, v| a + v),
            Kind::Prod => fold(1.0, &|_, a, v| a * v),
            Kind::Max => fold(f64::NEG_INFINITY, &|_, a, v| max(a, v)),
            Kind::Min => fold(f64::INFINITY, &|_, a, v| if v < a || v.is_nan() { v } else { a }),
            Kind::L1 => fold(0.0, &|_, a, v| a + v.abs()),
            Kind::L2 | Kind::SumSquare => fold(0.0, &|_, a, v| a + v * v),
            Kind::LogSumExp => {
                let top = fold(f64::NEG_INFINITY, &|_, a, v| max(a, v));
                let top: Vec<f64> = top.into_iter().map(|t| if t.is_finite() { t } else { 0.0 }).collect();
                let sums = fold(0.0, &|i, a, v| a + (v - top[i]).exp());
                sums.iter().zip(&top).map(|(s, t)| s.ln() + t).collect()
            }
        };
        for v in &mut out {
            match self.kind {
                Kind::Mean => *v /= n as f64,
                Kind::L2 => *v = v.sqrt(),
                Kind::LogSum => *v = v.ln(),
                _ => {}
            }
        }
        Tensor::from_f64s(dtype, &result, &out)
    }

    fn lower(&self, b: &mut expr::Builder, x: TensorId, dims: &[usize]) -> TensorId {
        let (dtype, from) = (b.dtype(x), b.dims(x).to_vec());
        let extents: Vec<usize> = from.iter().zip(&self.reduced).filter(|(_, r)| **r).map(|(&d, _)| d).collect();
        let n = n_elements(&extents);
        let compute = match self.kind {
            Kind::L2 | Kind::LogSum | Kind::LogSumExp if !dtype.is_float() => DType::F64,
            _ if dtype == DType::Bool => DType::U8,
            _ => wide(dtype),
        };
        // The index of the operand from those of the result and of the reduction.
        let source = |at: &[Affine], over: &[Affine]| -> Vec<Affine> {
            let mut kept = at.iter().enumerate().filter(|(i, _)| !self.keepdims || !self.reduced[*i]).map(|(_, a)| a);
            let mut over = over.iter();
            self.reduced.iter().map(|&r| if r { over.next() } else { kept.next() }.expect("an index for each axis").clone()).collect()
        };
        let load = |b: &expr::Builder, at: &[Affine], over: &[Affine]| load_wide(b, x, &source(at, over)).cast(compute);
        let (op, value): (ReduceOp, fn(Expr) -> Expr) = match self.kind {
            Kind::Sum | Kind::Mean | Kind::LogSum => (ReduceOp::Sum, |e| e),
            Kind::Prod => (ReduceOp::Prod, |e| e),
            Kind::Max => (ReduceOp::Max, |e| e),
            Kind::Min => (ReduceOp::Min, |e| e),
            Kind::L1 => (ReduceOp::Sum, |e| if e.dtype().is_signed() { e.unary(UnaryOp::Abs) } else { e }),
            Kind::L2 | Kind::SumSquare => (ReduceOp::Sum, |e| &e * &e),
            Kind::LogSumExp => (ReduceOp::Sum, |e| e.unary(UnaryOp::Exp)),
        };
        let finish = |e: Expr| match self.kind {
            Kind::Mean => &e / &e.like(n as f64),
            Kind::L2 => e.unary(UnaryOp::Sqrt),
            Kind::LogSum => e.unary(UnaryOp::Log),
            _ => e,
        };
        if extents.is_empty() {
            return b.compute(dims, |b, at| {
                let e = load(b, at, &[]);
                let y = if self.kind == Kind::LogSumExp { e } else { finish(value(e)) };
                y.cast(dtype)
            });
        }
        if self.kind != Kind::LogSumExp {
            return b.reduce(op, dims, &extents, |b, at, over| value(load(b, at, over)), |_, _, e| finish(e).cast(dtype));
        }
        let top = b.reduce(ReduceOp::Max, dims, &extents, load, |_, _, e| {
            let finite = e.unary(UnaryOp::Abs).compare(CompareOp::Lt, &e.like(f64::INFINITY));
            finite.select(&e, &e.like(0.0))
        });
        let shifted = |b: &expr::Builder, at: &[Affine], over: &[Affine]| value(load(b, at, over) - b.load(top, at.to_vec()));
        b.reduce(op, dims, &extents, shifted, |b, at, e| (e.unary(UnaryOp::Log) + b.load(top, at.to_vec())).cast(dtype))
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    const ALL: [&str; 10] = [
        "ReduceSum",
        "ReduceMean",
        "ReduceProd",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSum",
        "ReduceLogSumExp",
    ];

    #[test]
    fn values_are_those_of_the_formula() {
        let y = |op: &str| check_op(&format!("{op} keepdims=0"), [t("f32[2,2] 1 2 -3 4"), t("i64[1] 0")]).remove(0);
        assert_eq!(y("ReduceSum"), t("f32[2] -2 6"));
        assert_eq!(y("ReduceMean"), t("f32[2] -1 3"));
        assert_eq!(y("ReduceProd"), t("f32[2] -3 8"));
        assert_eq!(y("ReduceMax"), t("f32[2] 1 4"));
        assert_eq!(y("ReduceMin"), t("f32[2] -3 2"));
        assert_eq!(y("ReduceL1"), t("f32[2] 4 6"));
        assert_eq!(y("ReduceSumSquare"), t("f32[2] 10 20"));
        assert_eq!(check_op("ReduceL2", [t("f32[2] 3 4")])[0], t("f32[1] 5"));
        assert_eq!(check_op("ReduceLogSum", [t("f32[2] 0.25 0.75")])[0], t("f32[1] 0"));
        assert_eq!(check_op("ReduceLogSumExp", [t("f32[2] 1000 -1000")])[0], t("f32[1] 1000"));
        assert_eq!(check_op("ReduceLogSumExp", [t("f32[2] -inf")])[0], t("f32[1] -inf"));
        assert_eq!(check_op("ReduceMean", [t("i32[2] -3 -4")])[0], t("i32[1] -3"));
        assert_eq!(check_op("ReduceMax", [t("bool[2] false true")])[0], t("bool[1] true"));
        assert_eq!(check_op("ReduceMin", [t("u8[3] 200 100 255")])[0], t("u8[1] 100"));
    }

    #[test]
    fn nothing_reduces_to_the_identity() {
        let y = |op: &str| check_op(op, [t("f32[2,0]"), t("i64[1] 1")]).remove(0);
        assert_eq!(y("ReduceSum"), t("f32[2,1] 0"));
        assert_eq!(y("ReduceProd"), t("f32[2,1] 1"));
        assert_eq!(y("ReduceMax"), t("f32[2,1] -inf"));
        assert_eq!(y("ReduceLogSumExp"), t("f32[2,1] -inf"));
        assert_eq!(check_op("ReduceMin", [t("i32[0]")])[0], t("i32[1] 2147483647"));
    }

    #[test]
    fn empty_axes_mean_all_or_none() {
        let x = || t("f32[2] 1 2");
        assert_eq!(check_op("ReduceSumSquare", [x(), t("i64[0]")])[0], t("f32[1] 5"));
        assert_eq!(check_op("ReduceSumSquare noop_with_empty_axes=1", [x()])[0], t("f32[2] 1 4"));
        assert_eq!(check_op("ReduceSum noop_with_empty_axes=1", [Some(x()), None])[0], x());
    }

    #[test]
    fn all_forms_agree() {
        for op in ALL {
            for axes in ["i64[1] -1", "i64[2] 0 2", "i64[3] 0 1 2", "i64[1] 1"] {
                for keepdims in [0, 1] {
                    for dtype in ["f32", "f16", "f64", "i32"] {
                        // Logarithms of integers truncate: they need exact sums to agree.
                        if dtype != "i32" || !op.starts_with("ReduceLog") {
                            check_op(&format!("{op} keepdims={keepdims}"), [random(&format!("{dtype}[2,3,4]"), 3), t(axes)]);
                        }
                    }
                }
            }
        }
        assert_eq!(check_error("ReduceSum", [t("f32[2]"), t("i64[1] 1")]), "axis 1 of a value of rank 1");
        assert_eq!(check_error("ReduceSum", [t("bool[2]")]), "operand 0 has element type `bool`, which is not supported here");
    }
}

//! What element-wise operators share: sets of element types, broadcasting of types and values, computing in a wide type.

use crate::expr::{Builder, Expr, TensorId};
use crate::ops::{InferError, Operands};
use crate::tensor::{DType, Shape, Tensor, Type, broadcast_dims, n_elements, row_major_strides};

/// The floating-point types.
pub(super) const FLOATS: &[DType] = &DType::FLOATS;
/// The integer types.
pub(super) const INTS: &[DType] = &[DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];
/// Numbers with a sign.
pub(super) const SIGNED: &[DType] = &[DType::I8, DType::I16, DType::I32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64];
/// All but `bool`.
pub(super) const NUMBERS: &[DType] = &DType::NUMBERS;

/// The shape of all operands broadcast together.
pub(super) fn shape(x: &Operands) -> Result<Shape, InferError> {
    let mut shape = x.ty(0)?.shape.clone();
    for fact in x.facts[1..].iter().flatten() {
        shape = shape
            .broadcast(&fact.ty.shape)
            .ok_or_else(|| InferError::Invalid(format!("shapes {shape} and {} do not broadcast", fact.ty.shape)))?;
    }
    Ok(shape)
}

/// The type of a result of the operands' element type, which must be one of these and the same for all.
pub(super) fn same_type(x: &Operands, allowed: &[DType]) -> Result<Vec<Type>, InferError> {
    let dtype = x.require_dtype(0, allowed)?;
    for i in 1..x.len() {
        x.require_same_dtype(i, 0)?;
    }
    Ok(vec![Type::new(dtype, shape(x)?)])
}

/// Extents of values broadcast together.
pub(super) fn dims<const N: usize>(values: [&Tensor; N]) -> Vec<usize> {
    values.iter().fold(vec![], |d, t| broadcast_dims(&d, t.dims()).expect("shapes that infer accepted"))
}

/// `f` of the elements at each place, in row-major order of `dims`.
pub(super) fn zip<T: Copy, U, const N: usize>(dims: &[usize], operands: [(&[usize], &[T]); N], mut f: impl FnMut([T; N]) -> U) -> Vec<U> {
    let n = n_elements(dims);
    let mut out = Vec::with_capacity(n);
    if n == 0 {
        return out;
    }
    if operands.iter().all(|o| o.1.len() == n) {
        out.extend((0..n).map(|i| f(operands.map(|o| o.1[i]))));
        return out;
    }
    let outer = &dims[..dims.len() - 1];
    let inner = dims[dims.len() - 1];
    let strides = operands.map(|o| broadcast_strides(o.0, dims));
    let mut at = vec![0usize; outer.len()];
    loop {
        let mut starts = [0; N];
        for (start, s) in starts.iter_mut().zip(&strides) {
            *start = at.iter().zip(s).map(|(i, s)| i * s).sum();
        }
        let steps: [usize; N] = std::array::from_fn(|k| strides[k][outer.len()]);
        out.extend((0..inner).map(|i| f(std::array::from_fn(|k| operands[k].1[starts[k] + i * steps[k]]))));
        let Some(axis) = (0..outer.len()).rev().find(|&a| at[a] + 1 < outer[a]) else { return out };
        at[axis] += 1;
        at[axis + 1..].fill(0);
    }
}

/// Strides by which a value of extents `from` is read for each axis of `to`: 0 where it repeats.
fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let skip = to.len() - from.len();
    let strides = row_major_strides(from);
    (0..to.len()).map(|i| if i < skip || from[i - skip] == 1 { 0 } else { strides[i - skip] }).collect()
}

/// Element by element in `f64`, or exactly in integers (wrapped to the type), by the type of the first operand.
pub(super) fn numbers<const N: usize>(values: [&Tensor; N], f: impl Fn([f64; N]) -> f64, g: impl Fn([i128; N]) -> i128) -> Tensor {
    let dtype = values[0].dtype();
    if dtype.is_float() { floats(values, dtype, f) } else { ints(values, dtype, g) }
}

/// Element by element in `f64`, rounded to `to`.
pub(super) fn floats<const N: usize>(values: [&Tensor; N], to: DType, f: impl Fn([f64; N]) -> f64) -> Tensor {
    let dims = dims(values);
    let wide = values.map(Tensor::to_f64s);
    let out = zip(&dims, std::array::from_fn(|k| (values[k].dims(), &wide[k][..])), f);
    Tensor::from_f64s(to, &dims, &out)
}

/// Element by element in integers, wrapped to `to`.
pub(super) fn ints<const N: usize>(values: [&Tensor; N], to: DType, f: impl Fn([i128; N]) -> i128) -> Tensor {
    let dims = dims(values);
    let wide = values.map(Tensor::to_ints);
    let out = zip(&dims, std::array::from_fn(|k| (values[k].dims(), &wide[k][..])), f);
    Tensor::from_ints(to, &dims, &out)
}

/// A `bool` for each element, from `f64` or from integers.
pub(super) fn tests<const N: usize>(values: [&Tensor; N], f: impl Fn([f64; N]) -> bool, g: impl Fn([i128; N]) -> bool) -> Tensor {
    let dims = dims(values);
    if values[0].dtype().is_float() {
        let wide = values.map(Tensor::to_f64s);
        Tensor::from_bools(&dims, zip(&dims, std::array::from_fn(|k| (values[k].dims(), &wide[k][..])), f))
    } else {
        let wide = values.map(Tensor::to_ints);
        Tensor::from_bools(&dims, zip(&dims, std::array::from_fn(|k| (values[k].dims(), &wide[k][..])), g))
    }
}

/// The type that values of this type are computed in: half precision in `f32`.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype.is_half() { DType::F32 } else { dtype }
}

/// Element by element with broadcasting, computed in the wide type, converted to `to`.
pub(super) fn lower(b: &mut Builder, operands: &[TensorId], to: DType, f: impl FnOnce(&[Expr]) -> Expr) -> TensorId {
    b.map(operands, |v| {
        let wide: Vec<Expr> = v.iter().map(|e| e.cast(wide(e.dtype()))).collect();
        f(&wide).cast(to)
    })
}

/// The value, if it is known and the same everywhere.
pub(super) fn uniform(x: &Operands, i: usize) -> Option<f64> {
    let value = x.get(i)?.value.as_ref()?;
    let values = value.to_f64s();
    let first = *values.first()?;
    values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

/// Implements [`Operator`](crate::ops::Operator) for a function of one operand that keeps its type.
///
/// With the attributes as first argument, in order: the function of an `f64`; for integers; as an expression.
macro_rules! unary {
    ($name:ident, $eval:expr, $lower:expr) => {
        $crate::ops::elementwise::broadcast::unary!($name, $crate::ops::elementwise::broadcast::FLOATS, $eval, |_, x| x, $lower);
    };
    ($name:ident, $allowed:expr, $float:expr, $int:expr, $lower:expr) => {
        impl $crate::ops::Operator for $name {
            fn infer(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Type>, $crate::ops::InferError> {
                $crate::ops::elementwise::broadcast::same_type(x, $allowed)
            }

            fn axes(&self, x: &$crate::ops::Operands) -> $crate::ops::Axes {
                $crate::ops::Axes::elementwise(x)
            }

            fn eval(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Tensor>, $crate::ops::EvalError> {
                let (f, g): (fn(&$name, f64) -> f64, fn(&$name, i128) -> i128) = ($float, $int);
                Ok(vec![$crate::ops::elementwise::broadcast::numbers([x.tensor(0)], |[x]| f(self, x), |[x]| g(self, x))])
            }

            fn lower(
                &self,
                b: &mut $crate::expr::Builder,
                x: &$crate::ops::Args<'_>,
            ) -> Result<Vec<$crate::expr::TensorId>, $crate::ops::LowerError> {
                let f: fn(&$name, &$crate::expr::Expr) -> $crate::expr::Expr = $lower;
                let dtype = b.dtype(x.tensor(0));
                Ok(vec![$crate::ops::elementwise::broadcast::lower(b, &[x.tensor(0)], dtype, |v| f(self, &v[0]))])
            }
        }
    };
}
pub(super) use unary;

/// As [`unary!`], for two operands of one type, broadcast. The functions have no attributes. The last, if any, says between which
/// numbers the results are, and which number on the left and right leaves the other operand as it is.
macro_rules! binary {
    ($name:ident, $allowed:expr, $float:expr, $int:expr, $lower:expr) => {
        $crate::ops::elementwise::broadcast::binary!($name, $allowed, $float, $int, $lower, |_, _| $crate::ops::Interval::ALL);
    };
    ($name:ident, $allowed:expr, $float:expr, $int:expr, $lower:expr, $interval:expr) => {
        $crate::ops::elementwise::broadcast::binary!($name, $allowed, $float, $int, $lower, $interval, [None, None]);
    };
    ($name:ident, $allowed:expr, $float:expr, $int:expr, $lower:expr, $interval:expr, $neutral:expr) => {
        impl $crate::ops::Operator for $name {
            fn infer(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Type>, $crate::ops::InferError> {
                x.ty(1)?;
                $crate::ops::elementwise::broadcast::same_type(x, $allowed)
            }

            fn axes(&self, x: &$crate::ops::Operands) -> $crate::ops::Axes {
                $crate::ops::Axes::elementwise(x)
            }

            fn eval(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Tensor>, $crate::ops::EvalError> {
                let (f, g): (fn(f64, f64) -> f64, fn(i128, i128) -> i128) = ($float, $int);
                let operands = [x.tensor(0), x.tensor(1)];
                Ok(vec![$crate::ops::elementwise::broadcast::numbers(operands, |[a, b]| f(a, b), |[a, b]| g(a, b))])
            }

            fn interval(&self, _: &$crate::ops::Operands, of: &[$crate::ops::Interval]) -> $crate::ops::Interval {
                let f: fn($crate::ops::Interval, $crate::ops::Interval) -> $crate::ops::Interval = $interval;
                f(of[0], of[1])
            }

            fn same_as(&self, x: &$crate::ops::Operands, of: &[$crate::ops::Interval]) -> Option<usize> {
                let neutral: [Option<f64>; 2] = $neutral;
                let is = |i: usize| neutral[i].is_some() && of[i].number() == neutral[i];
                let int = x.dtype(0).is_ok_and(|d| d.is_int());
                if int && is(1) { Some(0) } else { (int && is(0)).then_some(1) }
            }

            fn lower(
                &self,
                b: &mut $crate::expr::Builder,
                x: &$crate::ops::Args<'_>,
            ) -> Result<Vec<$crate::expr::TensorId>, $crate::ops::LowerError> {
                let f: fn(&$crate::expr::Expr, &$crate::expr::Expr) -> $crate::expr::Expr = $lower;
                let dtype = b.dtype(x.tensor(0));
                let operands = [x.tensor(0), x.tensor(1)];
                Ok(vec![$crate::ops::elementwise::broadcast::lower(b, &operands, dtype, |v| f(&v[0], &v[1]))])
            }
        }
    };
}
pub(super) use binary;

/// As [`binary!`], for relations: the result is `bool`.
macro_rules! relation {
    ($name:ident, $allowed:expr, $float:expr, $int:expr, $op:ident, $interval:expr) => {
        impl $crate::ops::Operator for $name {
            fn infer(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Type>, $crate::ops::InferError> {
                x.ty(1)?;
                let same = $crate::ops::elementwise::broadcast::same_type(x, $allowed)?;
                Ok(vec![same[0].with_dtype($crate::tensor::DType::Bool)])
            }

            fn axes(&self, x: &$crate::ops::Operands) -> $crate::ops::Axes {
                $crate::ops::Axes::elementwise(x)
            }

            fn eval(&self, x: &$crate::ops::Operands) -> Result<Vec<$crate::tensor::Tensor>, $crate::ops::EvalError> {
                let (f, g): (fn(&f64, &f64) -> bool, fn(&i128, &i128) -> bool) = ($float, $int);
                let operands = [x.tensor(0), x.tensor(1)];
                Ok(vec![$crate::ops::elementwise::broadcast::tests(operands, |[a, b]| f(&a, &b), |[a, b]| g(&a, &b))])
            }

            fn interval(&self, x: &$crate::ops::Operands, of: &[$crate::ops::Interval]) -> $crate::ops::Interval {
                // Nothing relates to NaN.
                let f: fn($crate::ops::Interval, $crate::ops::Interval) -> $crate::ops::Interval = $interval;
                let known = x.dtype(0).is_ok_and(|d| d.is_int());
                if known { f(of[0], of[1]) } else { $crate::ops::Interval::new(0.0, 1.0) }
            }

            fn lower(
                &self,
                b: &mut $crate::expr::Builder,
                x: &$crate::ops::Args<'_>,
            ) -> Result<Vec<$crate::expr::TensorId>, $crate::ops::LowerError> {
                let op = $crate::expr::CompareOp::$op;
                let operands = [x.tensor(0), x.tensor(1)];
                let bool = $crate::tensor::DType::Bool;
                Ok(vec![$crate::ops::elementwise::broadcast::lower(b, &operands, bool, |v| v[0].compare(op, &v[1]))])
            }
        }
    };
}
pub(super) use relation;

//! Half-precision operands are computed in `f32`; naive products for `eval`.

use crate::expr::{Affine, Builder, Expr, TensorId};
use crate::ops::InferError;
use crate::tensor::{DType, Dim, Tensor};

/// The floating-point types.
pub(super) const FLOATS: &[DType] = &DType::FLOATS;
/// The element types of matrix products.
pub(super) const PRODUCTS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::I32, DType::I64, DType::U32, DType::U64];
/// Every numeric type.
pub(super) const NUMBERS: &[DType] = &DType::NUMBERS;

/// The type in which values of this type are computed.
pub(super) fn wide(dtype: DType) -> DType {
    if dtype.is_half() { DType::F32 } else { dtype }
}

/// The type in which products of values of this type are summed: as [`wide`], and `i32` for bytes.
pub(super) fn summed(dtype: DType) -> DType {
    if matches!(dtype, DType::I8 | DType::U8) { DType::I32 } else { wide(dtype) }
}

/// An element in the type in which products of it are summed.
pub(super) fn load_summed(b: &Builder, t: TensorId, at: &[Affine]) -> Expr {
    b.load(t, at.to_vec()).cast(summed(b.dtype(t)))
}

/// An element in the type it is computed in.
pub(super) fn load_wide(b: &Builder, t: TensorId, at: &[Affine]) -> Expr {
    b.load(t, at.to_vec()).cast(wide(b.dtype(t)))
}

/// As [`load_wide`], with ONNX broadcasting.
pub(super) fn load_wide_broadcast(b: &Builder, t: TensorId, at: &[Affine]) -> Expr {
    b.load_broadcast(t, at).cast(wide(b.dtype(t)))
}

/// Fails where both extents are known and differ.
pub(super) fn require_equal(a: &Dim, b: &Dim, what: &str) -> Result<(), InferError> {
    match (a.fixed(), b.fixed()) {
        (Some(x), Some(y)) if x != y => Err(InferError::Invalid(format!("{what}: {x} and {y}"))),
        _ => Ok(()),
    }
}

/// Fails unless operand extents are a vector of `n` elements (where known).
pub(super) fn require_vector(dims: &[Dim], n: &Dim, what: &str) -> Result<(), InferError> {
    if dims.len() != 1 {
        return Err(InferError::Invalid(format!("{what} must have one axis, not {}", dims.len())));
    }
    require_equal(&dims[0], n, &format!("extent of {what}"))
}

/// Extents with those of 1 left out where `keep` does not ask for them; indices of what remains expand to full ones.
#[derive(Debug)]
pub(super) struct Squeezed {
    /// The extents that remain.
    pub(super) dims: Vec<usize>,
    kept: Vec<bool>,
}

impl Squeezed {
    /// Leaves out axes of extent 1, except where `keep`.
    pub(super) fn new(full: &[usize], keep: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<bool> = full.iter().enumerate().map(|(i, &d)| d != 1 || keep(i)).collect();
        let dims = full.iter().zip(&kept).filter(|(_, k)| **k).map(|(&d, _)| d).collect();
        Squeezed { dims, kept }
    }

    /// The index with 0 on the axes that were left out.
    pub(super) fn expand(&self, at: &[Affine]) -> Vec<Affine> {
        let mut rest = at.iter();
        self.kept.iter().map(|&k| if k { rest.next().expect("an index for each kept axis").clone() } else { Affine::default() }).collect()
    }
}

/// Elements as numbers that products are summed in: `f64`, or integers modulo 2^64.
pub(super) trait Number: Copy + Default + Send + Sync {
    /// Elements of a tensor.
    fn read(t: &Tensor) -> Vec<Self>;
    /// A tensor of such elements.
    fn tensor(dtype: DType, dims: &[usize], v: &[Self]) -> Tensor;
    /// `self + a * b`.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// From an attribute.
    fn of(x: f32) -> Self;
    /// `self * a`.
    fn times(self, a: Self) -> Self {
        Self::default().mul_add(self, a)
    }
}

impl Number for f64 {
    fn read(t: &Tensor) -> Vec<f64> {
        t.to_f64s()
    }

    fn tensor(dtype: DType, dims: &[usize], v: &[f64]) -> Tensor {
        Tensor::from_f64s(dtype, dims, v)
    }

    fn mul_add(self, a: f64, b: f64) -> f64 {
        self + a * b
    }

    fn of(x: f32) -> f64 {
        x.into()
    }
}

impl Number for i64 {
    fn read(t: &Tensor) -> Vec<i64> {
        t.to_ints().into_iter().map(|x| x as i64).collect()
    }

    fn tensor(dtype: DType, dims: &[usize], v: &[i64]) -> Tensor {
        Tensor::from_ints(dtype, dims, &v.iter().map(|&x| x.into()).collect::<Vec<_>>())
    }

    fn mul_add(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }

    fn of(x: f32) -> i64 {
        x as i64
    }
}

/// `out[m,n] += a[m,k] * b[k,n]`, all row-major.
pub(super) fn matrix_product<T: Number>(out: &mut [T], a: &[T], b: &[T], k: usize, n: usize) {
    if n == 0 || k == 0 {
        return;
    }
    for (row, a) in out.chunks_exact_mut(n).zip(a.chunks_exact(k)) {
        for (&x, b) in a.iter().zip(b.chunks_exact(n)) {
            scaled_add(row, x, b);
        }
    }
}

/// `out += x * b`.
pub(super) fn scaled_add<T: Number>(out: &mut [T], x: T, b: &[T]) {
    for (o, &y) in out.iter_mut().zip(b) {
        *o = o.mul_add(x, y);
    }
}

/// The transpose of row-major `a[rows,columns]`.
pub(super) fn transposed<T: Number>(a: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| a[i * columns + j])).collect()
}

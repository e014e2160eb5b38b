//! Products of integers of eight bits less their zero points, as products of `u8` and `i8` and corrections: exact in `i32`.
//!
//! `sum of (a - a0) * (b - b0)` is `sum of a * b - a0 * sum of (b - b0) - b0 * sum of a`. Signs are zero points too: `a` as `i8` is `a + 128`
//! as `u8`, less a zero point that is greater by 128. What concerns constant weights is computed when compiling.

use super::byte_products::{ByteConv, ByteMatMul};
use crate::ops::neural::{Conv, ReduceSum};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};

/// Bytes and what each stands for less: a zero point in `i32`, `None` where it is 0.
#[derive(Clone, Copy)]
struct Bytes {
    value: Step,
    zero: Option<Step>,
}

/// Whether a value is known to be zeros.
fn is_zero(s: &Steps<'_>, v: Step) -> bool {
    s.fact(v).value.as_ref().is_some_and(|z| z.to_ints().iter().all(|&z| z == 0))
}

/// A zero point in `i32`, unless it is 0.
fn zero_point(s: &mut Steps<'_>, zero: Option<Step>) -> Result<Option<Step>, InferError> {
    let Some(zero) = zero else { return Ok(None) };
    if is_zero(s, zero) { Ok(None) } else { s.cast(zero, DType::I32).map(Some) }
}

/// Bytes of this type: others are moved by 128, and their zero points with them.
fn bytes_of(s: &mut Steps<'_>, dtype: DType, value: Step, zero: Option<Step>) -> Result<Bytes, InferError> {
    let zero = zero_point(s, zero)?;
    if s.dtype(value) == dtype {
        return Ok(Bytes { value, zero });
    }
    let by = s.number(DType::I32, if dtype == DType::U8 { 128.0 } else { -128.0 });
    let wide = s.cast(value, DType::I32)?;
    let moved = s.add(wide, by)?;
    let value = s.cast(moved, dtype)?;
    let zero = match zero {
        Some(zero) => s.add(zero, by)?,
        None => by,
    };
    Ok(Bytes { value, zero: Some(zero).filter(|&z| !is_zero(s, z)) })
}

/// Weights as `i8` and their zero points in `i32`, or one for all, or none.
pub(in crate::ops) fn signed_weights(
    s: &mut Steps<'_>,
    value: Step,
    zero: Step,
    each: impl Fn(usize) -> usize,
) -> Result<(Step, Option<Step>), InferError> {
    weights(s, value, Some(zero), each).map(|w| (w.value, w.zero))
}

/// Weights as `i8`: without a zero point where all weights less theirs are known and fit, `each` saying which zero point is an element's.
fn weights(s: &mut Steps<'_>, value: Step, zero: Option<Step>, each: impl Fn(usize) -> usize) -> Result<Bytes, InferError> {
    let (Some(v), Some(z)) = (s.fact(value).value.clone(), zero.and_then(|z| s.fact(z).value.clone())) else {
        return bytes_of(s, DType::I8, value, zero);
    };
    let z = z.to_ints();
    let less: Vec<i128> = v.to_ints().into_iter().enumerate().map(|(i, v)| v - z[if z.len() == 1 { 0 } else { each(i) }]).collect();
    if less.iter().all(|v| (-128..128).contains(v)) {
        let value = s.constant(Tensor::from_ints(DType::I8, v.dims(), &less));
        return Ok(Bytes { value, zero: None });
    }
    bytes_of(s, DType::I8, value, zero)
}

/// The sum of a value in `i32` along these axes.
fn sum(s: &mut Steps<'_>, v: Step, axes: &[i64], keepdims: bool) -> Result<Step, InferError> {
    let (v, axes) = (s.cast(v, DType::I32)?, s.ints(axes));
    s.apply(ReduceSum { keepdims, noop_with_empty_axes: true }, &[v, axes])
}

/// `y - zero * sums`.
fn corrected(s: &mut Steps<'_>, y: Step, zero: Step, sums: Step) -> Result<Step, InferError> {
    let part = s.mul(zero, sums)?;
    s.sub(y, part)
}

/// `v - zero` in `i32`.
fn centered(s: &mut Steps<'_>, v: Step, zero: Option<Step>) -> Result<Step, InferError> {
    let v = s.cast(v, DType::I32)?;
    match zero {
        Some(zero) => s.sub(v, zero),
        None => Ok(v),
    }
}

/// Extents of the product of a vector and a matrix, either way round, or of two vectors.
fn product_dims(a: &[usize], b: &[usize]) -> Result<Vec<usize>, InferError> {
    match (a, b) {
        ([], _) | (_, []) => Err(InferError::Invalid("no matrix product of a value of rank 0".to_owned())),
        ([rows @ .., _], [_]) => Ok(rows.to_vec()),
        ([_], [batch @ .., _, n]) => Ok([batch, &[*n]].concat()),
        _ => unreachable!("one of them is a vector"),
    }
}

/// The matrix product of values of eight bits less their zero points, in `i32`. Zero points of `a` are one for all or one for each row,
/// as a column; those of `b` one for all or one for each column.
pub(in crate::ops) fn integer_matmul(
    s: &mut Steps<'_>,
    (a, a_zero): (Step, Option<Step>),
    (b, b_zero): (Step, Option<Step>),
) -> Result<Step, InferError> {
    let (ad, bd) = (s.dims(a)?, s.dims(b)?);
    if ad.len() < 2 || bd.len() < 2 {
        // A vector is a matrix of one row, or of one column.
        let dims = product_dims(&ad, &bd)?;
        let a = if ad.len() == 1 { s.reshape(a, &[1, ad[0]])? } else { a };
        let b = if bd.len() == 1 { s.reshape(b, &[bd[0], 1])? } else { b };
        let y = integer_matmul(s, (a, a_zero), (b, b_zero))?;
        return s.reshape(y, &dims);
    }
    let a = bytes_of(s, DType::U8, a, a_zero)?;
    let n = bd[bd.len() - 1];
    let b = weights(s, b, b_zero, |i| i % n)?;
    let mut y = s.apply(ByteMatMul {}, &[a.value, b.value])?;
    if let Some(zero) = a.zero {
        let b = centered(s, b.value, b.zero)?;
        let sums = sum(s, b, &[-2], true)?;
        y = corrected(s, y, zero, sums)?;
    }
    if let Some(zero) = b.zero {
        let sums = sum(s, a.value, &[-1], true)?;
        y = corrected(s, y, zero, sums)?;
    }
    Ok(y)
}

/// The convolution of values of eight bits less their zero points, plus an integer bias, in `i32`. The zero point of `x` is one; those of `w`
/// are one for all or one for each filter, in the first axis.
pub(in crate::ops) fn integer_conv(
    s: &mut Steps<'_>,
    conv: &Conv,
    (x, x_zero): (Step, Option<Step>),
    (w, w_zero): (Step, Option<Step>),
    bias: Option<Step>,
) -> Result<Step, InferError> {
    let dims = s.dims(w)?;
    let (rank, filters) = (dims.len(), dims[0]);
    let (raw, each) = (w, dims[1..].iter().product::<usize>().max(1));
    let w = weights(s, w, w_zero, |i| i / each)?;
    if w.zero.is_some() && conv.group != 1 {
        let (x_zero, mut w_zero) = (zero_point(s, x_zero)?, zero_point(s, w_zero)?);
        if let Some(zero) = &mut w_zero
            && s.dims(*zero)? == [filters]
        {
            *zero = s.reshape(*zero, &[&[filters][..], &vec![1; rank - 1]].concat())?;
        }
        let operands = [Some(centered(s, x, x_zero)?), Some(centered(s, raw, w_zero)?), bias];
        return Ok(s.apply_all(Box::new(conv.clone()), &operands, 1)?[0]);
    }
    let x = bytes_of(s, DType::U8, x, x_zero)?;
    let padding = match x.zero {
        Some(zero) => Some(s.cast(zero, DType::U8)?),
        None => None,
    };
    let Conv { auto_pad, dilations, group, kernel_shape, pads, strides } = conv.clone();
    let product = ByteConv { auto_pad, dilations, group, kernel_shape, pads, strides };
    let mut y = s.apply_all(Box::new(product), &[Some(x.value), Some(w.value), padding], 1)?[0];
    let of_filters = [&[filters][..], &vec![1; rank - 2]].concat();
    // What is added to each channel is one vector.
    let mut added = bias;
    if let Some(zero) = x.zero {
        let sums = sum(s, w.value, &(1..rank as i64).collect::<Vec<_>>(), false)?;
        let none = s.number(DType::I32, 0.0);
        added = Some(corrected(s, bias.unwrap_or(none), zero, sums)?);
    }
    if let Some(added) = added {
        let added = s.reshape(added, &of_filters)?;
        y = s.add(y, added)?;
    }
    if let Some(zero) = w.zero {
        let x = centered(s, x.value, x.zero)?;
        let pixels = sum(s, x, &[1], true)?;
        let ones = [&[1, 1], &dims[2..]].concat();
        let ones = s.constant(Tensor::from_ints(DType::I32, &ones, &vec![1; ones.iter().product()]));
        let sums = s.apply(conv.clone(), &[pixels, ones])?;
        let zero = if s.dims(zero)?.is_empty() { zero } else { s.reshape(zero, &of_filters)? };
        y = corrected(s, y, zero, sums)?;
    }
    Ok(y)
}

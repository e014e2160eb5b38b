//! What the attention operators of this domain share: heads, masks, caches, and the products between them.

use crate::ops::elementwise::{Add, Greater, Less};
use crate::ops::neural::Softmax;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};

/// `[batch,length,heads*size]` as `[batch,heads,length,size]`.
pub(super) fn split_heads(s: &mut Steps<'_>, x: Step, heads: usize) -> Result<Step, InferError> {
    let dims = s.dims(x)?;
    let [batch, length, wide] = dims[..] else {
        return Err(InferError::Invalid(format!("`{}` is not [batch, length, heads * size]", s.fact(x).ty)));
    };
    if heads == 0 || wide % heads != 0 {
        return Err(InferError::Invalid(format!("{wide} elements are not {heads} heads")));
    }
    let x = s.reshape(x, &[batch, length, heads, wide / heads])?;
    s.transpose(x, &[0, 2, 1, 3])
}

/// `[batch,heads,length,size]` as `[batch,length,heads*size]`.
pub(super) fn join_heads(s: &mut Steps<'_>, x: Step) -> Result<Step, InferError> {
    let x = s.transpose(x, &[0, 2, 1, 3])?;
    let dims = s.dims(x)?;
    s.reshape(x, &[dims[0], dims[1], dims[2] * dims[3]])
}

/// A number of heads from an attribute.
pub(super) fn heads_of(number: i64, name: &str) -> Result<usize, InferError> {
    usize::try_from(number).ok().filter(|&n| n > 0).ok_or_else(|| InferError::Invalid(format!("`{name}` is {number}")))
}

/// What queries, keys and masks agree on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) batch: usize,
    /// Length of the queries.
    pub(super) queries: usize,
    /// Length of the keys, past ones included.
    pub(super) keys: usize,
}

/// The rule of a mask: what hidden places get, and whether a query sees only keys up to its own place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masking {
    pub(super) filter: f32,
    pub(super) causal: bool,
}

/// The mask (integers, 0 for hidden, or end positions) as an addend of the products, `[batch,1,queries or 1,keys]`.
pub(super) fn mask_bias(s: &mut Steps<'_>, mask: Option<Step>, n: Lengths, rule: Masking) -> Result<Option<Step>, InferError> {
    let hidden = s.number(DType::F32, rule.filter.into());
    let zero = s.number(DType::F32, 0.0);
    let bias = match mask {
        Some(mask) => {
            let dims = s.dims(mask)?;
            let positive = |s: &mut Steps<'_>, shape: &[usize]| {
                let mask = s.reshape(mask, shape)?;
                let none = s.constant(Tensor::from_ints(s.dtype(mask), &[], &[0]));
                let seen = s.apply(Greater {}, &[mask, none])?;
                s.choose(seen, zero, hidden)
            };
            if dims == [n.batch, n.keys] {
                Some(positive(s, &[n.batch, 1, 1, n.keys])?)
            } else if dims == [n.batch, n.queries, n.keys] {
                Some(positive(s, &[n.batch, 1, n.queries, n.keys])?)
            } else if dims == [n.batch, 1] || dims == [1, 1] {
                // Files have such a mask where there is nothing to hide.
                None
            } else if dims == [n.batch] || dims == [2 * n.batch] {
                let dtype = s.dtype(mask);
                let places = Tensor::from_ints(dtype, &[1, 1, 1, n.keys], &(0..n.keys as i128).collect::<Vec<_>>());
                let places = s.constant(places);
                let end = s.slice(mask, 0, 0, n.batch)?;
                let end = s.reshape(end, &[n.batch, 1, 1, 1])?;
                let inside = s.apply(Less {}, &[places, end])?;
                let mut bias = s.choose(inside, zero, hidden)?;
                if dims == [2 * n.batch] {
                    let start = s.slice(mask, 0, n.batch, 2 * n.batch)?;
                    let start = s.reshape(start, &[n.batch, 1, 1, 1])?;
                    let before = s.apply(Less {}, &[places, start])?;
                    bias = s.choose(before, hidden, bias)?;
                }
                Some(bias)
            } else {
                return Err(InferError::Unsupported(format!("a mask of type `{}` is not supported", s.fact(mask).ty)));
            }
        }
        None => None,
    };
    if !rule.causal {
        return Ok(bias);
    }
    // Steps, since what they give is another at other lengths.
    let places = |n: usize| (0..n as i128).collect::<Vec<_>>();
    let keys = s.constant(Tensor::from_ints(DType::I32, &[1, 1, 1, n.keys], &places(n.keys)));
    let queries = s.constant(Tensor::from_ints(DType::I32, &[1, 1, n.queries, 1], &places(n.queries)));
    let past = s.constant(Tensor::from_ints(DType::I32, &[1], &[n.keys.saturating_sub(n.queries) as i128]));
    let own = s.unfolded(Add {}, &[queries, past])?;
    let behind = s.unfolded(Greater {}, &[keys, own])?;
    let least = s.number(DType::F32, f32::MIN.into());
    Ok(Some(s.choose(behind, least, bias.unwrap_or(zero))?))
}

/// The scaled products of queries and keys, `[batch,heads,queries,keys]`.
pub(super) fn products(s: &mut Steps<'_>, q: Step, k: Step, scale: f64) -> Result<Step, InferError> {
    let k = s.transpose(k, &[0, 1, 3, 2])?;
    let product = s.matmul(q, k)?;
    let scale = s.number(s.dtype(product), scale);
    s.mul(product, scale)
}

/// Values weighted by the softmax of the products, `[batch,heads,queries,size]`.
pub(super) fn weighted(s: &mut Steps<'_>, products: Step, v: Step) -> Result<Step, InferError> {
    let weights = s.apply(Softmax { axis: -1 }, &[products])?;
    s.matmul(weights, v)
}

/// A scale, or the inverse root of the head's size where it is 0 or absent.
pub(super) fn scale_of(scale: Option<f32>, size: usize) -> f64 {
    scale.filter(|&x| x != 0.0).map_or_else(|| 1.0 / f64::from((size as f32).sqrt()), f64::from)
}

//! What a re-indexing operator does, in `eval` and in `lower`, from its [`View`].

use super::copy::{Canvas, Place};
use crate::expr::{Builder, TensorId};
use crate::ops::{Axes, View};
use crate::tensor::{Affine, Dim, Tensor, row_major_strides};

/// The value of extents `dims` that `view` of `tensor` is.
pub(in crate::ops) fn eval_view(tensor: &Tensor, view: &View, dims: &[usize]) -> Tensor {
    let View::Affine(forms) = view else { return tensor.reshape(dims) };
    let mut source = Place { at: 0, strides: vec![0; dims.len()] };
    for (form, stride) in forms.iter().zip(row_major_strides(tensor.dims())) {
        source.at += form.constant as isize * stride as isize;
        for &(axis, c) in &form.terms {
            source.strides[axis] += c as isize * stride as isize;
        }
    }
    let mut canvas = Canvas::new(tensor.dtype(), dims);
    canvas.copy(dims, &canvas.place(), tensor, &source);
    canvas.finish()
}

/// The tensor of extents `dims` that `view` of `input` is.
pub(in crate::ops) fn lower_view(b: &mut Builder, input: TensorId, view: &View, dims: &[usize]) -> TensorId {
    match view {
        View::Reshape => b.reshape(input, dims),
        View::Affine(forms) => b.compute(dims, |b, at| b.load(input, forms.iter().map(|f| f.substitute(|axis| at[axis].clone())))),
    }
}

/// The place, row-major in extents `from`, of the element at `place` of the extents `dims` that `view` has.
pub(in crate::ops) fn source_of(view: &View, from: &[usize], dims: &[usize], place: usize) -> usize {
    let View::Affine(forms) = view else { return place };
    let at = |axis: usize| {
        let stride: usize = dims[axis + 1..].iter().product();
        (place / stride.max(1) % dims[axis].max(1)) as i64
    };
    forms.iter().zip(row_major_strides(from)).map(|(form, stride)| form.value(at).max(0) as usize * stride).sum()
}

/// Of two shapes that hold the same elements in row-major order: the axis of `to` that an axis of `from` is the outermost part of, and how
/// many elements of that axis it takes for each of its own.
pub(super) fn outermost(from: &[usize], to: &[usize], axis: usize) -> Option<(usize, usize)> {
    let outer: usize = from[..axis].iter().product();
    let mut inner = 1;
    for next in axis..from.len() {
        inner *= if next == axis { 1 } else { from[next] };
        let wanted = from[axis].checked_mul(inner)?;
        let found = (0..to.len()).find(|&j| to[j] == wanted && to[..j].iter().product::<usize>() == outer);
        if let Some(j) = found {
            return Some((j, inner));
        }
    }
    None
}

/// The view that leaves everything where it is.
pub(super) fn identity_view(rank: usize) -> Vec<Affine<usize>> {
    (0..rank).map(Affine::var).collect()
}

/// Axes of one operand and `n_results` results of its rank: those that `kept` says are linked.
pub(super) fn kept_axes(rank: usize, n_results: usize, kept: impl Fn(usize) -> bool) -> Axes {
    let labels: Vec<Option<u32>> = (0..rank).map(|axis| kept(axis).then_some(axis as u32)).collect();
    Axes { operands: vec![labels.clone()], results: vec![labels; n_results], elementwise: false }
}

/// Axes of two shapes that hold the same elements in row-major order.
pub(super) fn reshaped_axes(from: &[Dim], to: &[Dim]) -> Axes {
    let outer = |dims: &[Dim], axis: usize| {
        let fixed: usize = dims[..axis].iter().filter_map(Dim::fixed).fold(1, usize::saturating_mul);
        let mut symbols: Vec<String> = dims[..axis].iter().filter(|d| d.fixed().is_none()).map(Dim::to_string).collect();
        symbols.sort();
        (fixed, symbols)
    };
    let mut axes = Axes { operands: vec![vec![None; from.len()]], results: vec![vec![None; to.len()]], elementwise: false };
    let mut next = 0;
    for (i, dim) in from.iter().enumerate() {
        // Nothing tells two unknown extents, or axes inside an empty value, apart.
        if dim == &Dim::Unknown || dim == &Dim::Fixed(0) {
            break;
        }
        let place = outer(from, i);
        if let Some(j) = (next..to.len()).find(|&j| &to[j] == dim && outer(to, j) == place) {
            axes.operands[0][i] = Some(i as u32);
            axes.results[0][j] = Some(i as u32);
            next = j + 1;
        }
    }
    axes
}

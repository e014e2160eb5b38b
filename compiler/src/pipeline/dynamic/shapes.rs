//! What tensors and shapes at several sizes have in common: parts of one another, row-major order that relates the same axes.

use crate::tensor::{Size, Tensor};

/// Whether a tensor is the first elements along every axis of another.
pub(super) fn is_part(part: &Tensor, whole: &Tensor) -> bool {
    if part.dims() == whole.dims() {
        return part.bytes() == whole.bytes();
    }
    if part.dims().len() != whole.dims().len() {
        return false;
    }
    // Probes may be above what is stored.
    let common: Vec<usize> = part.dims().iter().zip(whole.dims()).map(|(a, b)| *a.min(b)).collect();
    part.first(&common).bytes() == whole.first(&common).bytes()
}

/// Whether row-major order relates the axes of two shapes in the same way at all sizes: of the axes that become others, only the
/// outermost varies.
pub(super) fn reshape_holds(from: (&[usize], &[Option<Size>]), to: (&[usize], &[Option<Size>])) -> bool {
    let axes = |(dims, bounds): (&[usize], &'_ [Option<Size>])| -> Vec<(usize, Option<Size>)> {
        let all = dims.iter().enumerate().map(|(k, &d)| (d, bounds.get(k).cloned().flatten()));
        all.filter(|a| a.0 != 1 || a.1.is_some()).collect()
    };
    let (a, b) = (axes(from), axes(to));
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (i0, j0) = (i, j);
        let (mut x, mut y) = (a[i].0, b[j].0);
        while x != y {
            if x < y && i + 1 < a.len() {
                i += 1;
                x *= a[i].0;
            } else if y < x && j + 1 < b.len() {
                j += 1;
                y *= b[j].0;
            } else {
                return false;
            }
        }
        let fixed_inside = |list: &[(usize, Option<Size>)]| list[1..].iter().all(|x| x.1.is_none());
        let whole = |list: &[(usize, Option<Size>)]| -> Option<Size> {
            let inner: usize = list[1..].iter().map(|x| x.0).product();
            list[0].1.as_ref().map(|n| n.times(inner as i64))
        };
        let (left, right) = (&a[i0..=i], &b[j0..=j]);
        if left != right && !(fixed_inside(left) && fixed_inside(right) && same_size(whole(left), whole(right))) {
            return false;
        }
        (i, j) = (i + 1, j + 1);
    }
    a[i..].iter().chain(&b[j..]).all(|x| x.0 == 1 && x.1.is_none())
}

/// Whether two sizes are equal, as far as some values tell.
fn same_size(a: Option<Size>, b: Option<Size>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.parameters() == b.parameters()
                && (1..200).all(|n| {
                    let at = [n, 3 * n + 1, 5 * n + 2, 7 * n + 3, 11 * n + 4, n + 9, n + 17, 2 * n];
                    a.parameters().last().is_none_or(|&p| (p as usize) < at.len()) && a.value(&at) == b.value(&at)
                })
        }
        _ => false,
    }
}

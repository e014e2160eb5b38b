//! Row-major order under other extents, where axes that vary are joined or cut: what is stored is as large as the largest sizes need, so
//! the places of elements in a run are found by its own extents.

use super::super::fit::{Fitter, Misfit};
use super::annotate::Answer;
use super::places::{number, sum};
use crate::expr::{Affine, Body, Expr, Ix, Node, Stage, TensorDecl, TensorId, Var};
use crate::tensor::{DType, Size};

/// A stage that makes `out` of the elements of `input` in row-major order.
pub(super) fn rows_again(fitter: &Fitter, out: (TensorId, &TensorDecl), input: (TensorId, &TensorDecl)) -> Answer<Stage> {
    let sizes = |d: &TensorDecl| -> Vec<Size> {
        d.dims.iter().enumerate().map(|(k, &n)| d.bound(k).cloned().unwrap_or(Size::Constant(n as i64))).collect()
    };
    let (from, to) = (sizes(input.1), sizes(out.1));
    let index = places(fitter, &from, &to)
        .ok_or_else(|| Misfit::varies("it joins or cuts an axis whose extent varies in a way that is not known"))?;
    let value = Expr::new(Node::Load { tensor: input.0, index, pad: None }, out.1.dtype);
    let axes = out.1.dims.clone();
    let write = (0..axes.len()).map(|k| Affine::var(Var::Axis(k as u32))).collect();
    Ok(Stage { out: out.0, write, axes, reduce: vec![], bounds: out.1.bounds.clone(), body: Body::Map(value) })
}

/// Where the element at the axes of a stage of extents `to` is in a tensor of extents `from`.
fn places(fitter: &Fitter, from: &[Size], to: &[Size]) -> Option<Vec<Ix>> {
    // Axes on both sides, up to which the numbers of elements agree, have to do with each other only.
    let products = |list: &[Size]| -> Vec<Vec<i64>> {
        let mut product = vec![1i64; fitter.probes.len()];
        let mut all = vec![product.clone()];
        for size in list {
            product.iter_mut().zip(&fitter.probes).for_each(|(p, at)| *p *= size.value(at));
            all.push(product.clone());
        }
        all
    };
    let (left, right) = (products(from), products(to));
    let mut index = vec![];
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let next = |i: usize, j: usize| {
            let ends = (i + 1..=from.len()).flat_map(|a| (j + 1..=to.len()).map(move |b| (a, b)));
            ends.filter(|&(a, b)| left[a] == right[b]).min_by_key(|&(a, b)| a + b)
        };
        let (a, b) = match next(i, j) {
            Some(ends) => ends,
            // Extents of 1 at the end of one side.
            None if left[i] == left[from.len()] && right[j] == right[to.len()] => (from.len(), to.len()),
            None => return None,
        };
        group(fitter, &from[i..a], &to[j..b], j, &mut index);
        (i, j) = (a, b);
    }
    Some(index)
}

/// The places along the axes `from`, whose elements are those of the axes `to` of the stage, the first of which is number `first`.
fn group(fitter: &Fitter, from: &[Size], to: &[Size], first: usize, index: &mut Vec<Ix>) {
    let axis = |k: usize| Affine::var(Var::Axis((first + k) as u32));
    if from.len() == 1 && to.len() == 1 {
        return index.push(axis(0).into());
    }
    let inner = |list: &[Size], k: usize| list[k + 1..].iter().fold(Size::Constant(1), |p, s| p.product(s));
    let is_one = |s: &Size| s.constant() == Some(1);
    let scaled = |e: Expr, by: &Size| if is_one(by) { e } else { e * number(fitter, by) };
    let position = (0..to.len()).filter(|&k| !is_one(&to[k])).fold(Expr::int(DType::I64, 0), |p, k| {
        let by = inner(to, k);
        match by.constant() {
            Some(c) => sum(p, &Expr::index(&axis(k).times(c))),
            None => sum(p, &scaled(Expr::index(&axis(k)), &by)),
        }
    });
    // From the outermost on: what is left of the position is below the number of elements of the axes inside.
    let mut rest = position;
    for k in 0..from.len() {
        let by = inner(from, k);
        if is_one(&from[k]) {
            index.push(Ix::from(0));
        } else if is_one(&by) {
            index.push(Ix::Clamped(rest.clone()));
        } else {
            let at = &rest / &number(fitter, &by);
            rest = &rest - &(&at * &number(fitter, &by));
            index.push(Ix::Clamped(at));
        }
    }
}

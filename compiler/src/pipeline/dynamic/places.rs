//! Places and values that sizes decide: affine forms and small tables that differ between the probes become expressions of sizes.

use std::collections::{BTreeSet, HashMap};

use super::super::fit::{Fitter, Misfit};
use super::annotate::{Answer, constant, map_items};
use crate::expr::{Affine, CompareOp, Const, Expr, Ix, Node, Program, TensorId, Var};
use crate::tensor::{DType, Size, Tensor, row_major_strides};

/// A size as an `i64` value; what a program is given is never negative.
pub(super) fn number(fitter: &Fitter, size: &Size) -> Expr {
    if let Some(c) = size.constant() {
        return Expr::int(DType::I64, c);
    }
    let given = |size: Size| Expr::new(Node::Size(size), DType::I64);
    let negative = size.times(-1);
    match fitter.reach(size) {
        (0.., _) => given(size.clone()),
        (_, ..=0) => Expr::int(DType::I64, 0) - given(negative),
        _ => given(size.at_least(0)) - given(negative.at_least(0)),
    }
}

/// The sum of `a` and `b`, where nothing is added to nothing.
pub(super) fn sum(a: Expr, b: &Expr) -> Expr {
    let nothing = |e: &Expr| matches!(e.node(), Node::Const(Const::Int(0)));
    match (nothing(&a), nothing(b)) {
        (true, _) => b.clone(),
        (_, true) => a,
        _ => &a + b,
    }
}

/// The `i64` value of an affine form that is another at other sizes; `all` has it for each probe.
pub(super) fn place(fitter: &Fitter, all: &[&Affine]) -> Answer<Expr> {
    let variables: BTreeSet<Var> = all.iter().flat_map(|a| a.terms.iter().map(|t| t.0)).collect();
    let mut fixed = Affine::default();
    let mut varying = vec![];
    for v in variables {
        let factors: Vec<i64> = all.iter().map(|a| a.coefficient(v)).collect();
        match fitter.fit(&factors)? {
            None => fixed.add_term(v, factors[0]),
            Some(size) => varying.push(Expr::index(&Affine::var(v)) * number(fitter, &size)),
        }
    }
    let starts: Vec<i64> = all.iter().map(|a| a.constant).collect();
    match fitter.fit(&starts)? {
        None => fixed.constant = starts[0],
        Some(size) => varying.push(number(fitter, &size)),
    }
    Ok(varying.iter().fold(Expr::index(&fixed), sum))
}

/// The largest table whose elements are looked at one by one.
pub(super) const MAX_ELEMENTS: usize = 16;

/// The elements of a small table whose values are others at other sizes.
pub(super) fn table(fitter: &Fitter, mine: &Tensor, others: &[&Tensor]) -> Answer<Vec<Expr>> {
    if mine.len() > MAX_ELEMENTS || others.iter().any(|o| o.dims() != mine.dims() || o.dtype() != mine.dtype()) {
        return Err(Misfit::varies("a table depends on the sizes"));
    }
    let dtype = mine.dtype();
    let elements = |t: &Tensor| -> Vec<Const> {
        match dtype.is_float() {
            true => t.to_f64s().into_iter().map(Const::Float).collect(),
            false => t.to_ints().into_iter().map(|x| Const::Int(i64::try_from(x).unwrap_or(i64::MAX))).collect(),
        }
    };
    let (mine, others) = (elements(mine), others.iter().map(|o| elements(o)).collect::<Vec<_>>());
    let element = |(i, &c): (usize, &Const)| {
        let theirs: Vec<Const> = others.iter().map(|o| o[i]).collect();
        if theirs.iter().all(|o| *o == c) { Ok(Expr::new(Node::Const(c), dtype)) } else { constant(fitter, dtype, c, &theirs) }
    };
    mine.iter().enumerate().map(element).collect()
}

/// Replaces what is loaded of tensors by their elements.
pub(super) fn with_values(program: &mut Program, elements: &HashMap<TensorId, Vec<Expr>>) {
    if elements.is_empty() {
        return;
    }
    let strides: HashMap<TensorId, Vec<usize>> = elements.keys().map(|&t| (t, row_major_strides(&program.tensor(t).dims))).collect();
    map_items(&mut program.items, &|e| {
        e.rewrite(&mut |e| match e.node() {
            Node::Load { tensor, index, .. } if elements.contains_key(tensor) => chosen(&elements[tensor], index, &strides[tensor]),
            _ => e,
        })
    });
}

/// The element at an index.
fn chosen(elements: &[Expr], index: &[Ix], strides: &[usize]) -> Expr {
    let mut fixed = Affine::default();
    let mut rest = Expr::int(DType::I64, 0);
    for (ix, &stride) in index.iter().zip(strides) {
        match ix {
            Ix::Affine(a) => fixed = fixed.plus(&a.times(stride as i64)),
            Ix::Checked(e) | Ix::Clamped(e) => rest = sum(rest, &(e.cast(DType::I64) * Expr::int(DType::I64, stride as i64))),
        }
    }
    let at = sum(Expr::index(&fixed), &rest);
    if let Node::Const(Const::Int(i)) = at.node()
        && let Some(e) = usize::try_from(*i).ok().and_then(|i| elements.get(i))
    {
        return e.clone();
    }
    let (last, before) = elements.split_last().expect("a table is not empty");
    before.iter().enumerate().rev().fold(last.clone(), |rest, (i, e)| {
        if *e == rest { rest } else { at.compare(CompareOp::Eq, &Expr::int(DType::I64, i as i64)).select(e, &rest) }
    })
}

//! Stages that write one tensor piece by piece, where a piece begins at a place that the sizes decide: they become one stage, which asks
//! for every place along the axis which piece it is in.

use super::super::fit::{Fitter, Misfit};
use super::annotate::{Answer, Written};
use super::places::{number, sum};
use crate::expr::{Affine, Body, CompareOp, Expr, Item, Ix, Node, Stage, TensorDecl, Var};
use crate::tensor::Size;

/// Makes one stage of the stages that write each tensor, where some of `written` write it.
pub(super) fn one_of_pieces(fitter: &Fitter, tensors: &[TensorDecl], items: &mut Vec<Item>, written: &Written) -> Answer<()> {
    let refused = || Misfit::Structure;
    let stage = |i: usize, items: &[Item]| if let Item::Stage(s) = &items[i] { Some(s.clone()) } else { None };
    let mut left: Vec<usize> = written.keys().copied().collect();
    left.sort_unstable();
    let mut gone = vec![];
    while let Some(&first) = left.first() {
        let out = stage(first, items).ok_or_else(refused)?.out;
        let members: Vec<usize> = (0..items.len()).filter(|&i| stage(i, items).is_some_and(|s| s.out == out)).collect();
        left.retain(|i| !members.contains(i));
        let decl = &tensors[out.0 as usize];
        let mut pieces: Vec<(Stage, Vec<Size>)> = vec![];
        for &i in &members {
            let s = stage(i, items).ok_or_else(refused)?;
            let starts = written.get(&i).cloned();
            let starts = starts.unwrap_or_else(|| s.write.iter().map(|a| Size::Constant(a.constant)).collect());
            pieces.push((s, starts));
        }
        let whole = joined(fitter, decl, pieces).ok_or_else(refused)?;
        // What the pieces read is there before the last of them.
        let last = *members.last().ok_or_else(refused)?;
        items[last] = Item::Stage(whole);
        gone.extend(members.iter().copied().filter(|&i| i != last));
    }
    let mut i = 0;
    items.retain(|_| (!gone.contains(&i), i += 1).0);
    Ok(())
}

/// One stage over all of a tensor, of pieces that follow one another along one axis and are whole along the others.
fn joined(fitter: &Fitter, decl: &TensorDecl, mut pieces: Vec<(Stage, Vec<Size>)>) -> Option<Stage> {
    let rank = decl.dims.len();
    let place = |s: &Stage, k: usize| s.write[k].constant;
    let axis = (0..rank).find(|&k| pieces.iter().any(|(s, _)| place(s, k) != 0))?;
    pieces.sort_by_key(|(s, _)| place(s, axis));
    let extent = |s: &Stage, k: usize| s.bound(k).cloned().unwrap_or(Size::Constant(s.axes[k] as i64));
    let all = |k: usize| decl.bound(k).cloned().unwrap_or(Size::Constant(decl.dims[k] as i64));
    let mut end = 0;
    for (s, _) in &pieces {
        let own = |k: usize| s.write[k].terms == [(Var::Axis(k as u32), 1)] || s.write[k].terms.is_empty() && s.axes[k] == 1;
        let across = (0..rank).all(|k| k == axis || place(s, k) == 0 && extent(s, k) == all(k));
        if s.axes.len() != rank || !(0..rank).all(own) || !across || place(s, axis) != end || !matches!(s.body, Body::Map(_)) {
            return None;
        }
        end += s.axes[axis] as i64;
    }
    if end != decl.dims[axis] as i64 {
        return None;
    }
    let at = Expr::index(&Affine::var(Var::Axis(axis as u32)));
    let mut value: Option<Expr> = None;
    for (s, starts) in pieces.iter().rev() {
        let Body::Map(e) = &s.body else { return None };
        let here = shifted(fitter, e, axis, &starts[axis]);
        let past = starts[axis].plus(&extent(s, axis));
        value = Some(value.map_or_else(|| here.clone(), |rest| at.compare(CompareOp::Lt, &number(fitter, &past)).select(&here, &rest)));
    }
    let write = (0..rank).map(|k| Affine::var(Var::Axis(k as u32))).collect();
    let first = &pieces[0].0;
    Some(Stage { out: first.out, write, axes: decl.dims.clone(), reduce: vec![], bounds: decl.bounds.clone(), body: Body::Map(value?) })
}

/// The expression where what was `start` along an axis is 0.
fn shifted(fitter: &Fitter, e: &Expr, axis: usize, start: &Size) -> Expr {
    let var = Var::Axis(axis as u32);
    let moved = |a: &Affine| match start.constant() {
        Some(c) => Expr::index(&a.offset(-c * a.coefficient(var))),
        None if a.coefficient(var) == 0 => Expr::index(a),
        None => sum(Expr::index(a), &number(fitter, &start.times(-a.coefficient(var)))),
    };
    e.rewrite(&mut |e| match e.node() {
        Node::Index(a) => moved(a),
        Node::Load { tensor, index, pad } => {
            // Outside of its piece it reads anything.
            let place = |ix: &Ix| match ix {
                Ix::Affine(a) if a.coefficient(var) == 0 => ix.clone(),
                Ix::Affine(a) if pad.is_some() => Ix::Checked(moved(a)),
                Ix::Affine(a) => Ix::Clamped(moved(a)),
                Ix::Checked(i) if pad.is_none() => Ix::Clamped(i.clone()),
                Ix::Checked(_) | Ix::Clamped(_) => ix.clone(),
            };
            Expr::new(Node::Load { tensor: *tensor, index: index.iter().map(place).collect(), pad: pad.clone() }, e.dtype())
        }
        _ => e,
    })
}

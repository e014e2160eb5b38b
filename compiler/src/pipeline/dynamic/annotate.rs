//! One program for several sizes: the numbers in which the programs lowered for each differ become sizes.

use std::collections::HashMap;

use super::super::fit::{Fitter, Misfit};
use super::joined::rows_again;
use super::pieces::one_of_pieces;
use super::places::{number as number_of, place, table, with_values};
use super::shapes::{is_part, reshape_holds};
use crate::expr::{Affine, BinaryOp, Const, Expr, Item, Ix, LiveRows, Node, Program, TensorDecl, TensorId, Var};
use crate::tensor::{DType, Size, Tensor, is_power_of_two};

pub(super) type Answer<T> = Result<T, Misfit>;

pub(super) fn annotate_program(fitter: &Fitter, program: &mut Program, others: &[&Program]) -> Answer<()> {
    let structure = || Misfit::Structure;
    if others.iter().any(|o| o.tensors.len() != program.tensors.len() || o.operands != program.operands || o.results != program.results) {
        return Err(structure());
    }
    for t in 0..program.tensors.len() {
        let bounds: Vec<Option<Size>> = (0..program.tensors[t].dims.len())
            .map(|k| {
                let values: Option<Vec<i64>> =
                    [&*program].into_iter().chain(others.iter().copied()).map(|p| p.tensors[t].dims.get(k).map(|&d| d as i64)).collect();
                fitter.fit_extent(&values.ok_or_else(structure)?)
            })
            .collect::<Answer<_>>()?;
        program.tensors[t].bounds = bounds;
    }
    let mut tables: HashMap<TensorId, Vec<Expr>> = HashMap::new();
    for (i, (t, value)) in program.constants.iter().enumerate() {
        let theirs: Option<Vec<&Tensor>> = others.iter().map(|o| o.constants.get(i).filter(|c| c.0 == *t).map(|c| &c.1)).collect();
        let theirs = theirs.ok_or_else(structure)?;
        if !theirs.iter().all(|v| is_part(v, value)) {
            let refused = |_| Misfit::Varies(format!("table `{}` depends on the sizes", program.tensor(*t).name));
            tables.insert(*t, table(fitter, value, &theirs).map_err(refused)?);
        }
    }
    program.parameters.clone_from(&fitter.parameters);
    let lists: Vec<&[Item]> = others.iter().map(|o| &o.items[..]).collect();
    let tensors = program.tensors.clone();
    annotate_items(fitter, &tensors, &mut program.items, &lists)?;
    program.constants.retain(|c| !tables.contains_key(&c.0));
    with_values(program, &tables);
    Ok(())
}

fn annotate_items(fitter: &Fitter, tensors: &[TensorDecl], items: &mut Vec<Item>, others: &[&[Item]]) -> Answer<()> {
    let structure = || Misfit::Structure;
    if others.iter().any(|o| o.len() != items.len()) {
        return Err(structure());
    }
    let written = annotate_each(fitter, tensors, items, others)?;
    one_of_pieces(fitter, tensors, items, &written)
}

/// Where the stages write, along every axis, those that write elsewhere at other sizes.
pub(super) type Written = HashMap<usize, Vec<Size>>;

fn annotate_each(fitter: &Fitter, tensors: &[TensorDecl], items: &mut [Item], others: &[&[Item]]) -> Answer<Written> {
    let structure = || Misfit::Structure;
    let mut written = Written::new();
    for (i, item) in items.iter_mut().enumerate() {
        match item {
            Item::Stage(stage) => {
                let theirs: Vec<&crate::expr::Stage> =
                    others.iter().map(|o| if let Item::Stage(s) = &o[i] { Ok(s) } else { Err(structure()) }).collect::<Answer<_>>()?;
                let alike = |s: &crate::expr::Stage| {
                    s.out == stage.out
                        && s.write.len() == stage.write.len()
                        && s.write.iter().zip(&stage.write).all(|(a, b)| a.terms == b.terms)
                        && s.axes.len() == stage.axes.len()
                        && s.reduce.len() == stage.reduce.len()
                        && s.expressions().len() == stage.expressions().len()
                };
                if !theirs.iter().all(|s| alike(s)) {
                    return Err(structure());
                }
                if theirs.iter().any(|s| s.write != stage.write) {
                    let starts = |k: usize| {
                        let all: Vec<i64> = [&*stage].into_iter().chain(theirs.iter().copied()).map(|s| s.write[k].constant).collect();
                        Ok(fitter.fit(&all)?.unwrap_or(Size::Constant(all[0])))
                    };
                    written.insert(i, (0..stage.write.len()).map(starts).collect::<Answer<_>>()?);
                }
                let n = stage.axes.len();
                stage.bounds = (0..n + stage.reduce.len())
                    .map(|a| {
                        let all = [&*stage].into_iter().chain(theirs.iter().copied());
                        fitter.fit_extent(&all.map(|s| s.extent(a) as i64).collect::<Vec<_>>())
                    })
                    .collect::<Answer<_>>()?;
                let mut new = vec![];
                for (k, e) in stage.expressions().into_iter().enumerate() {
                    let all: Vec<Expr> = theirs.iter().map(|s| s.expressions()[k].clone()).collect();
                    new.push(annotate_expr(fitter, e, &all, &mut HashMap::new())?);
                }
                let mut new = new.into_iter();
                stage.body = stage.body.map(|_| new.next().expect("as many as before"));
            }
            Item::Reshape { out, input } => {
                if !others.iter().all(|o| matches!(&o[i], Item::Reshape { out: a, input: b } if a == out && b == input)) {
                    return Err(structure());
                }
                let (from, to) = (&tensors[input.0 as usize], &tensors[out.0 as usize]);
                if !reshape_holds((&from.dims, &from.bounds), (&to.dims, &to.bounds)) {
                    *item = Item::Stage(rows_again(fitter, (*out, to), (*input, from))?);
                }
            }
            Item::Repeat { var, extent, live, items } => {
                let mut theirs: Vec<(usize, Vec<Item>)> = others
                    .iter()
                    .map(|o| match &o[i] {
                        Item::Repeat { var: v, extent, items, .. } if v == var => Ok((*extent, items.clone())),
                        _ => Err(structure()),
                    })
                    .collect::<Answer<_>>()?;
                // A loop that runs backwards ends, not begins, at a place that is the same for all sizes.
                let shifts: Vec<i64> = theirs.iter_mut().map(|t| align(*var, items, &mut t.1)).collect();
                let from: Vec<i64> = [0].into_iter().chain(shifts.iter().copied()).collect();
                let to: Vec<i64> = [*extent as i64].into_iter().chain(theirs.iter().zip(&shifts).map(|(t, s)| t.0 as i64 + s)).collect();
                let ends = (fitter.fit(&from)?, fitter.fit(&to)?);
                let (from, to) = (ends.0.clone().unwrap_or(Size::Constant(0)), ends.1.clone().unwrap_or(Size::Constant(*extent as i64)));
                let inside = inside(fitter, tensors, *var, items, to.clone());
                if ends != (None, None) || inside != to {
                    let n = inside.minus(&from);
                    let to = if fitter.reach(&n).0 < 0 { from.plus(&n.at_least(0)) } else { inside };
                    *live = Some(LiveRows { from, to, step: 1 });
                }
                annotate_items(fitter, tensors, items, &theirs.iter().map(|t| &t.1[..]).collect::<Vec<_>>())?;
            }
        }
    }
    Ok(written)
}

/// The end of a loop, no later than what its stages write is there: an axis may be shorter in a run than the first elements of a recurrence.
fn inside(fitter: &Fitter, tensors: &[TensorDecl], var: u32, items: &[Item], end: Size) -> Size {
    items.iter().fold(end, |end, item| match item {
        Item::Stage(stage) => stage.write.iter().enumerate().fold(end, |end, (k, place)| {
            let n = tensors[stage.out.0 as usize].bound(k).filter(|_| place.terms == [(Var::Loop(var), 1)]);
            let last = n.map(|n| n.plus(&Size::Constant(-place.constant)));
            match last.filter(|last| fitter.reach(&last.minus(&end)).0 < 0) {
                Some(last) => end.constant().map_or_else(|| end.lesser(&last), |c| last.at_most(c)),
                None => end,
            }
        }),
        Item::Repeat { items, .. } => inside(fitter, tensors, var, items, end),
        Item::Reshape { .. } => end,
    })
}

/// Moves the loop of `theirs` so that indices along it are those of `mine` where they only differ by a constant; by how much.
fn align(var: u32, mine: &[Item], theirs: &mut [Item]) -> i64 {
    let along = |items: &[Item]| {
        let mut list = vec![];
        affine_forms(items, &mut |a| {
            if a.coefficient(Var::Loop(var)) != 0 {
                list.push(a.clone());
            }
        });
        list
    };
    let shift = along(mine).iter().zip(&along(theirs)).find_map(|(a, b)| {
        let (c, apart) = (a.coefficient(Var::Loop(var)), b.constant - a.constant);
        (a.terms == b.terms && apart != 0 && apart % c == 0).then_some(apart / c)
    });
    let Some(shift) = shift else { return 0 };
    map_affine_forms(theirs, &|a| a.offset(-shift * a.coefficient(Var::Loop(var))));
    shift
}

/// Calls `f` on every affine form of the items.
fn affine_forms(items: &[Item], f: &mut impl FnMut(&Affine)) {
    for item in items {
        match item {
            Item::Stage(stage) => {
                stage.write.iter().for_each(&mut *f);
                for e in stage.expressions() {
                    e.visit(&mut |e| match e.node() {
                        Node::Index(a) => f(a),
                        Node::Load { index, .. } => index.iter().for_each(|ix| {
                            if let Ix::Affine(a) = ix {
                                f(a);
                            }
                        }),
                        _ => {}
                    });
                }
            }
            Item::Repeat { items, .. } => affine_forms(items, f),
            Item::Reshape { .. } => {}
        }
    }
}

/// Replaces every affine form of the items.
pub(super) fn map_affine_forms(items: &mut [Item], f: &dyn Fn(&Affine) -> Affine) {
    for item in items {
        match item {
            Item::Stage(stage) => {
                stage.write = stage.write.iter().map(f).collect();
                stage.body = stage.body.map(|e| e.map_affine(&mut |a| f(a)));
            }
            Item::Repeat { items, .. } => map_affine_forms(items, f),
            Item::Reshape { .. } => {}
        }
    }
}

/// Replaces the expressions of all stages.
pub(super) fn map_items(items: &mut [Item], f: &dyn Fn(&Expr) -> Expr) {
    for item in items {
        match item {
            Item::Stage(stage) => stage.body = stage.body.map(f),
            Item::Repeat { items, .. } => map_items(items, f),
            Item::Reshape { .. } => {}
        }
    }
}

/// The expression with what differs in the others as functions of the sizes.
fn annotate_expr(fitter: &Fitter, e: &Expr, others: &[Expr], known: &mut HashMap<*const Node, Expr>) -> Answer<Expr> {
    let key = std::ptr::from_ref(e.node());
    if let Some(done) = known.get(&key) {
        return Ok(done.clone());
    }
    let structure = || Misfit::Structure;
    if others.iter().any(|o| o.dtype() != e.dtype()) {
        return Err(structure());
    }
    let mut child = |x: &Expr, pick: &dyn Fn(&Node) -> Option<Expr>| -> Answer<Expr> {
        let theirs: Vec<Expr> = others.iter().map(|o| pick(o.node()).ok_or_else(structure)).collect::<Answer<_>>()?;
        annotate_expr(fitter, x, &theirs, known)
    };
    let node = match e.node() {
        Node::Const(c) => {
            let all: Vec<Const> =
                others.iter().map(|o| if let Node::Const(c) = o.node() { Ok(*c) } else { Err(structure()) }).collect::<Answer<_>>()?;
            if all.iter().all(|o| o == c) { Node::Const(*c) } else { return constant(fitter, e.dtype(), *c, &all) }
        }
        Node::Index(a) => {
            let mut all = vec![a];
            for o in others {
                let Node::Index(b) = o.node() else { return Err(structure()) };
                all.push(b);
            }
            return place(fitter, &all);
        }
        Node::Size(mine) => {
            let number = |n: &Node| if let Node::Size(s) = n { s.constant() } else { None };
            let all: Option<Vec<i64>> = [mine.constant()].into_iter().chain(others.iter().map(|o| number(o.node()))).collect();
            let all = all.ok_or_else(structure)?;
            return Ok(fitter.fit(&all)?.map_or_else(|| e.clone(), |size| number_of(fitter, &size)));
        }
        Node::Acc => match others.iter().all(|o| matches!(o.node(), Node::Acc)) {
            true => Node::Acc,
            false => return Err(structure()),
        },
        Node::Load { tensor, index, pad } => {
            let mut pads = vec![pad.clone()];
            for o in others {
                let Node::Load { tensor: t, index: theirs, pad: p } = o.node() else { return Err(structure()) };
                if t != tensor || theirs.len() != index.len() {
                    return Err(structure());
                }
                pads.push(p.clone());
                for (a, b) in index.iter().zip(theirs) {
                    match (a, b) {
                        (Ix::Affine(_), Ix::Affine(_)) | (Ix::Checked(_), Ix::Checked(_)) | (Ix::Clamped(_), Ix::Clamped(_)) => {}
                        _ => return Err(structure()),
                    }
                }
            }
            let mut new = vec![];
            for (k, ix) in index.iter().enumerate() {
                let pick = |n: &Node| match n {
                    Node::Load { index, .. } => match &index[k] {
                        Ix::Checked(e) | Ix::Clamped(e) => Some(e.clone()),
                        Ix::Affine(_) => None,
                    },
                    _ => None,
                };
                let form = |o: &Expr| match o.node() {
                    Node::Load { index, .. } => match &index[k] {
                        Ix::Affine(a) => Some(a.clone()),
                        Ix::Checked(_) | Ix::Clamped(_) => None,
                    },
                    _ => None,
                };
                new.push(match ix {
                    Ix::Affine(a) => {
                        let theirs: Vec<Affine> = others.iter().map(|o| form(o).ok_or_else(structure)).collect::<Answer<_>>()?;
                        if theirs.iter().all(|b| a == b) {
                            Ix::Affine(a.clone())
                        } else {
                            let at = place(fitter, &[a].into_iter().chain(&theirs).collect::<Vec<_>>())?;
                            if pads.iter().any(Option::is_some) { Ix::Checked(at) } else { Ix::Clamped(at) }
                        }
                    }
                    Ix::Checked(e) => Ix::Checked(child(e, &pick)?),
                    Ix::Clamped(e) => Ix::Clamped(child(e, &pick)?),
                });
            }
            let pad = match (pad, pads.iter().flatten().next()) {
                (Some(p), _) if pads.iter().all(Option::is_some) => {
                    Some(child(p, &|n| if let Node::Load { pad, .. } = n { pad.clone() } else { None })?)
                }
                // Without padding every index is inside, and padding changes nothing.
                (_, Some(some)) if pads.iter().flatten().all(|p| p == some) && index.iter().all(|ix| matches!(ix, Ix::Affine(_))) => {
                    Some(some.clone())
                }
                (_, Some(_)) => return Err(structure()),
                (_, None) => None,
            };
            Node::Load { tensor: *tensor, index: new, pad }
        }
        Node::Unary(op, a) => Node::Unary(*op, child(a, &|n| matches!(n, Node::Unary(o, _) if o == op).then(|| nth(n, 0)).flatten())?),
        Node::Cast(a) => Node::Cast(child(a, &|n| matches!(n, Node::Cast(_)).then(|| nth(n, 0)).flatten())?),
        Node::Bits(a) => Node::Bits(child(a, &|n| matches!(n, Node::Bits(_)).then(|| nth(n, 0)).flatten())?),
        Node::Binary(BinaryOp::Div | BinaryOp::Mul, ..) if let Some((a, theirs, by)) = quotients(e, others) => {
            let by = constant(fitter, e.dtype(), by[0], &by[1..])?;
            Node::Binary(BinaryOp::Div, annotate_expr(fitter, &a, &theirs, known)?, by)
        }
        Node::Binary(op, a, b) => {
            let same = |n: &Node| matches!(n, Node::Binary(o, ..) if o == op);
            let (a, b) = (child(a, &|n| same(n).then(|| nth(n, 0)).flatten())?, child(b, &|n| same(n).then(|| nth(n, 1)).flatten())?);
            Node::Binary(*op, a, b)
        }
        Node::Compare(op, a, b) => {
            let same = |n: &Node| matches!(n, Node::Compare(o, ..) if o == op);
            let (a, b) = (child(a, &|n| same(n).then(|| nth(n, 0)).flatten())?, child(b, &|n| same(n).then(|| nth(n, 1)).flatten())?);
            Node::Compare(*op, a, b)
        }
        Node::Select(c, a, b) => {
            let part = |n: &Node, k: usize| matches!(n, Node::Select(..)).then(|| nth(n, k)).flatten();
            Node::Select(child(c, &|n| part(n, 0))?, child(a, &|n| part(n, 1))?, child(b, &|n| part(n, 2))?)
        }
    };
    let done = if node == *e.node() { e.clone() } else { Expr::new(node, e.dtype()) };
    known.insert(key, done.clone());
    Ok(done)
}

/// Quotients by constants of which some, not all, are written as products, as those by powers of two are: the first dividend, the others,
/// and all divisors.
fn quotients(e: &Expr, others: &[Expr]) -> Option<(Expr, Vec<Expr>, Vec<Const>)> {
    let is_quotient = |e: &Expr| matches!(e.node(), Node::Binary(BinaryOp::Div, ..));
    let n = [e].into_iter().chain(others).filter(|e| is_quotient(e)).count();
    if !e.dtype().is_float() || n == 0 || n > others.len() {
        return None;
    }
    let parts = |e: &Expr| match e.node() {
        Node::Binary(BinaryOp::Div, a, by) => match by.node() {
            Node::Const(by) => Some((a.clone(), *by)),
            _ => None,
        },
        Node::Binary(BinaryOp::Mul, a, by) => match by.node() {
            Node::Const(Const::Float(by)) if is_power_of_two(*by) && (1.0 / by).is_normal() => Some((a.clone(), Const::Float(1.0 / by))),
            _ => None,
        },
        _ => None,
    };
    let (dividends, divisors): (Vec<Expr>, Vec<Const>) =
        [e].into_iter().chain(others).map(parts).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let (first, rest) = dividends.split_first()?;
    Some((first.clone(), rest.to_vec(), divisors))
}

/// An operand of a head.
fn nth(n: &Node, k: usize) -> Option<Expr> {
    let operands: Vec<&Expr> = match n {
        Node::Unary(_, a) | Node::Cast(a) | Node::Bits(a) => vec![a],
        Node::Binary(_, a, b) | Node::Compare(_, a, b) => vec![a, b],
        Node::Select(c, a, b) => vec![c, a, b],
        _ => vec![],
    };
    operands.get(k).map(|e| (*e).clone())
}

/// The largest number that a constant may be a part of, or have as its divisor.
const MAX_PART: i64 = 64;

/// A constant that differs: a whole number that is a function of the sizes, a part of one, or a small number over one.
pub(super) fn constant(fitter: &Fitter, dtype: DType, mine: Const, others: &[Const]) -> Answer<Expr> {
    let refused = || Misfit::varies("a constant in what it computes depends on the sizes");
    let all: Vec<Const> = [mine].into_iter().chain(others.iter().copied()).collect();
    let whole = |x: f64| (x.fract() == 0.0 && x.abs() < 2f64.powi(24)).then_some(x as i64);
    let ints: Option<Vec<i64>> = all.iter().map(|c| if let Const::Int(x) = c { Some(*x) } else { None }).collect();
    let floats: Option<Vec<f64>> = all.iter().map(|c| if let Const::Float(x) = c { Some(*x) } else { None }).collect();
    let number = |values: &[i64]| -> Answer<Expr> {
        let size = fitter.fit(values)?.ok_or_else(refused)?;
        Ok(number_of(fitter, &size).cast(dtype))
    };
    match (ints, floats) {
        (Some(values), _) if dtype != DType::Bool => number(&values),
        (_, Some(values)) => {
            if let Some(values) = values.iter().map(|&x| whole(x)).collect::<Option<Vec<_>>>() {
                return number(&values);
            }
            let is = |x: f64, of: f64| Expr::constant(dtype, of) == Expr::constant(dtype, x);
            for c in (1..=MAX_PART).map(|c| c as f64) {
                let over: Option<Vec<i64>> = values.iter().map(|&x| whole((c / x).round()).filter(|&n| is(x, c / n as f64))).collect();
                if let Some(over) = over {
                    let n = number(&over)?;
                    return Ok(n.like(c) / n);
                }
                let part: Option<Vec<i64>> = values.iter().map(|&x| whole((c * x).round()).filter(|&n| is(x, n as f64 / c))).collect();
                if let Some(part) = part {
                    return Ok(number(&part)? / c);
                }
            }
            Err(refused())
        }
        _ => Err(refused()),
    }
}

//! The transforms of data in registers: each pair of points shares its even and its odd part.

use super::form::Form;
use crate::expr::Const;
use crate::nest::{self, Reg};
use crate::schedule::emitter::Emitter;
use crate::tensor::DType;

/// The sum of multiples; `None` stands for zero.
fn sum(e: &mut Emitter, terms: &[(f64, Option<Reg>)]) -> Option<Reg> {
    let mut terms: Vec<(f64, Reg)> = terms.iter().filter(|t| t.0 != 0.0).filter_map(|t| t.1.map(|r| (t.0, r))).collect();
    if terms.is_empty() {
        return None;
    }
    let first = terms.iter().position(|t| t.0 == 1.0).unwrap_or(0);
    let (c, reg) = terms.remove(first);
    let mut total = if c == 1.0 { reg } else { times(e, c, reg) };
    for (c, reg) in terms {
        total = plus(e, total, c, reg);
    }
    Some(total)
}

fn factor(e: &mut Emitter, c: f64, like: Reg) -> Reg {
    let lanes = e.b.ty(like).lanes;
    e.constant(DType::F32, Const::Float(c), lanes)
}

fn times(e: &mut Emitter, c: f64, reg: Reg) -> Reg {
    let c = factor(e, c, reg);
    e.b.binary(nest::BinaryOp::Mul, reg, c)
}

/// `total + c * reg`.
fn plus(e: &mut Emitter, total: Reg, c: f64, reg: Reg) -> Reg {
    if c == 1.0 {
        e.b.binary(nest::BinaryOp::Add, total, reg)
    } else if c == -1.0 {
        e.b.binary(nest::BinaryOp::Sub, total, reg)
    } else {
        let c = factor(e, c, reg);
        e.b.fma(reg, c, total)
    }
}

/// What the products take of a window of the input; `None` stands for zero.
pub(super) fn input(e: &mut Emitter, f: &Form, data: &[Option<Reg>]) -> Vec<Option<Reg>> {
    let mut out = vec![];
    let mut j = 0;
    while j < f.n() {
        if !f.is_pair(j) {
            let terms: Vec<(f64, Option<Reg>)> = f.input[j].iter().copied().zip(data.iter().copied()).collect();
            out.push(sum(e, &terms));
            j += 1;
            continue;
        }
        let (mut same, mut opposite, mut lead) = (vec![], vec![], 1.0);
        for ((&c, &mirrored), &d) in f.input[j].iter().zip(&f.input[j + 1]).zip(data) {
            if c == mirrored {
                same.push((c, d));
            } else {
                opposite.push((c, d));
                lead = c;
            }
        }
        opposite.iter_mut().for_each(|t| t.0 /= lead);
        let (same, opposite) = (sum(e, &same), sum(e, &opposite));
        for sign in [1.0, -1.0] {
            out.push(sum(e, &[(1.0, same), (sign * lead, opposite)]));
        }
        j += 2;
    }
    out
}

/// The first outputs of products, as many as asked for.
pub(super) fn output(e: &mut Emitter, f: &Form, products: &[Reg], n: usize) -> Vec<Reg> {
    // Products of a pair only meet as their sum and their difference.
    let mut parts: Vec<(usize, Reg, Reg)> = vec![];
    let mut j = 0;
    while j < f.n() {
        let at = products[j];
        if f.is_pair(j) {
            let next = products[j + 1];
            let plus = e.b.binary(nest::BinaryOp::Add, at, next);
            let minus = if n > 1 { e.b.binary(nest::BinaryOp::Sub, at, next) } else { plus };
            parts.push((j, plus, minus));
            j += 2;
        } else {
            parts.push((j, at, at));
            j += 1;
        }
    }
    (0..n)
        .map(|i| {
            let terms: Vec<(f64, Option<Reg>)> =
                parts.iter().map(|&(j, even, odd)| (f.output[i][j], Some(if i % 2 == 0 { even } else { odd }))).collect();
            sum(e, &terms).expect("every output is made of some product")
        })
        .collect()
}

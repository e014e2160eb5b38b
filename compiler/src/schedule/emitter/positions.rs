//! Positions along the axis of the lanes, as words of 32 bits.

use std::collections::HashMap;

use super::values::expr_depends;
use super::{Emitter, Key, Lanes, Point};
use crate::expr::{Affine, BinaryOp, Const, Expr, Node, Var};
use crate::nest::{self, Op, Reg, VecType};
use crate::schedule::ScheduleError;
use crate::tensor::DType;

/// Differences that are further than this count as this, so that they are words.
const FAR: i64 = 1 << 30;

/// The most that a position goes from one lane to the next.
const MAX_SPREAD: u64 = 1 << 20;

/// Whether a comparison is of positions, with each other or with what all lanes along the axis share.
pub(in crate::schedule) fn compares_positions(x: &Expr, y: &Expr, axis: usize) -> bool {
    let fits = |e: &Expr| match e.node() {
        Node::Index(a) => a.coefficient(Var::Axis(axis as u32)).unsigned_abs() <= MAX_SPREAD,
        _ => !expr_depends(e, axis),
    };
    x.dtype() == DType::I64 && fits(x) && fits(y)
}

/// How far it is from one lane to the next.
fn spread(a: &Affine, v: Lanes) -> i64 {
    a.coefficient(Var::Axis(v.axis as u32))
}

impl Emitter {
    /// Steps from the first lane to each, `spread` apart.
    pub(super) fn steps(&mut self, spread: i64, lanes: u32) -> Reg {
        let steps: Vec<Reg> = (0..i64::from(lanes)).map(|i| self.constant(DType::I32, Const::Int(i * spread), 1)).collect();
        self.numbered(Key::Steps(spread, lanes), |b| b.op(VecType { dtype: DType::I32, lanes }, Op::Pack(steps)))
    }

    /// A position that differs from lane to lane, as words; `None` where it may not be one.
    pub(super) fn position(&mut self, a: &Affine, at: &Point) -> Option<Reg> {
        let v = at.vector?;
        let first = self.affine(a, at);
        let (low, high) = self.range(&first);
        let reach = spread(a, v).saturating_mul(i64::from(v.lanes));
        let is_word = low.saturating_add(reach.min(0)) > -FAR && high.saturating_add(reach.max(0)) < FAR;
        is_word.then(|| {
            let first = self.numbered(Key::Index(first.clone()), |b| b.index(first));
            self.stepped(first, spread(a, v), v)
        })
    }

    /// Words from that of the first lane.
    fn stepped(&mut self, first: Reg, spread: i64, v: Lanes) -> Reg {
        let word = self.numbered(Key::Cast(first, DType::I32), |b| b.convert(first, DType::I32));
        let (words, steps) = (self.splat(word, v.lanes), self.steps(spread, v.lanes));
        self.numbered(Key::Binary(BinaryOp::Add, words, steps), |b| b.binary(nest::BinaryOp::Add, words, steps))
    }

    /// What has the sign of `x - y`; `None` where they are not positions of which one differs from lane to lane.
    pub(super) fn positions_apart(
        &mut self,
        (x, y): (&Expr, &Expr),
        at: &Point,
        known: &mut HashMap<*const Node, Reg>,
    ) -> Result<Option<Reg>, ScheduleError> {
        let differs = |v: &Lanes| compares_positions(x, y, v.axis) && (expr_depends(x, v.axis) || expr_depends(y, v.axis));
        let Some(v) = at.vector.filter(differs) else { return Ok(None) };
        let (first, spread) = match (x.node(), y.node()) {
            (Node::Index(a), Node::Index(b)) => {
                let apart = self.affine(a, at).plus(&self.affine(b, at).times(-1));
                let (low, high) = self.range(&apart);
                let first = self.numbered(Key::Index(apart.clone()), |b| b.index(apart));
                let spread = spread(a, v) - spread(b, v);
                if -FAR < low && high < FAR {
                    (first, spread)
                } else {
                    let [low, high] = [-FAR, FAR].map(|x| self.constant(DType::I64, Const::Int(x), 1));
                    (self.between(first, low, high)?, spread)
                }
            }
            (Node::Index(a), _) => (self.apart(a, (y, false), at, known)?, spread(a, v)),
            (_, Node::Index(b)) => (self.apart(b, (x, true), at, known)?, -spread(b, v)),
            _ => unreachable!("one of them is a position"),
        };
        Ok(Some(if spread == 0 { first } else { self.stepped(first, spread, v) }))
    }

    /// The position of the first lane less what all share, or that less the position; what is far from it counts as nearer.
    fn apart(
        &mut self,
        a: &Affine,
        (shared, turned): (&Expr, bool),
        at: &Point,
        known: &mut HashMap<*const Node, Reg>,
    ) -> Result<Reg, ScheduleError> {
        let first = self.affine(a, at);
        let [low, first, high] = [-FAR, 0, FAR].map(|by| first.offset(by)).map(|a| self.numbered(Key::Index(a.clone()), |b| b.index(a)));
        let shared = self.value_once(shared, at, None, known)?;
        let shared = self.between(shared, low, high)?;
        if turned { self.binary(BinaryOp::Sub, shared, first) } else { self.binary(BinaryOp::Sub, first, shared) }
    }

    fn between(&mut self, x: Reg, low: Reg, high: Reg) -> Result<Reg, ScheduleError> {
        let raised = self.binary(BinaryOp::Max, x, low)?;
        self.binary(BinaryOp::Min, raised, high)
    }
}

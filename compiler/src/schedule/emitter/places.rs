//! Data-dependent indices in lanes: places of 32 bits, checked or clamped as vectors, from which elements are gathered.
//!
//! An index is of 64 bits. Where its value can be computed in 32 without another result, it is; else it is checked in lanes of 64 bits and
//! narrowed after that.

use std::collections::HashMap;

use super::values::{expr_depends, long_ok, stride_along, vector_ok};
use super::{Emitter, Key, Point};
use crate::expr::{BinaryOp, CompareOp, Const, Expr, Ix, Node, TensorId};
use crate::nest::{BufferId, Index, Op, Reg};
use crate::schedule::ScheduleError;
use crate::tensor::DType;

/// How an index becomes places of 32 bits.
#[derive(Clone, Debug)]
enum Places {
    /// The value of this expression of `i32`, where it is in range; else that is out of range too.
    Words(Expr),
    /// Lanes of 64 bits, narrowed when they are known to be in range.
    Long,
}

/// The least and greatest value of an integer.
type Span = (i64, i64);

const I32: Span = (i32::MIN as i64, i32::MAX as i64);

/// Indices whose places are known, with those themselves, so that no other has their address.
#[derive(Default, Debug)]
pub(super) struct KnownPlaces(HashMap<(*const Node, usize), (Expr, Option<Places>)>);

/// The index of an element where it is decided by data.
fn of_data(ix: &Ix) -> Option<&Expr> {
    match ix {
        Ix::Affine(_) => None,
        Ix::Checked(e) | Ix::Clamped(e) => Some(e),
    }
}

impl Emitter {
    fn places(&mut self, index: &Expr, axis: usize) -> Option<Places> {
        let key = (std::ptr::from_ref(index.node()), axis);
        if let Some((_, known)) = self.known_places.0.get(&key) {
            return known.clone();
        }
        let loaded = if self.machine.gathers() { narrowed(index, &[]) } else { None };
        let words = loaded.map(|(e, _)| e).or_else(|| match index.node() {
            // What does not fit saturates, and is out of range either way.
            Node::Cast(a) if index.dtype() == DType::I64 && a.dtype() == DType::F32 => Some(a.cast(DType::I32)),
            _ => None,
        });
        let found = match words.filter(|e| vector_ok(e, axis)) {
            Some(e) => Some(Places::Words(e)),
            // Machines of short vectors gain nothing where they hold half as many.
            None => (self.machine.lanes > 4 && index.dtype() == DType::I64 && long_ok(index, axis)).then_some(Places::Long),
        };
        self.known_places.0.insert(key, (index.clone(), found.clone()));
        found
    }

    /// Whether the lanes of a load, of which data decides where they are, can be gathered.
    pub(super) fn gathers(&mut self, e: &Expr, tensor: TensorId, index: &[Ix], at: &Point) -> bool {
        let Some(v) = at.vector else { return false };
        let decl = self.program().tensor(tensor).clone();
        let strides = self.strides_of(tensor);
        let mut farthest = stride_along(index, &strides, v.axis).saturating_abs().saturating_mul(v.lanes.into());
        for (k, ix) in index.iter().enumerate() {
            let Some(i) = of_data(ix).filter(|i| expr_depends(i, v.axis)) else { continue };
            if decl.bound(k).is_some() || self.places(i, v.axis).is_none() {
                return false;
            }
            farthest = farthest.saturating_add(strides[k].saturating_abs().saturating_mul(decl.dims[k] as i64));
        }
        matches!(e.dtype(), DType::F32 | DType::I32) && v.valid == v.lanes && v.lanes >= 4 && farthest <= I32.1
    }

    /// The place along an axis of `end` elements that an index says in each lane, in range. Whether it was outside before is added to a
    /// list, else the kernel stops where `checked` says so.
    pub(super) fn lane_places(
        &mut self,
        index: &Expr,
        end: i64,
        checked: bool,
        at: &Point,
        known: &mut HashMap<*const Node, Reg>,
        outside: Option<&mut Vec<Reg>>,
    ) -> Result<Reg, ScheduleError> {
        let v = at.vector.expect("a vector point");
        let reg = match self.places(index, v.axis).expect("asked before") {
            Places::Words(words) => self.value_once(&words, at, None, known)?,
            Places::Long => self.value_once(index, at, None, known)?,
        };
        let reg = self.splat(reg, v.lanes);
        let place = match outside {
            Some(outside) if checked => self.checked(reg, end, None, outside),
            None if checked => {
                let ty = self.b.ty(reg);
                self.numbered(Key::Check(reg, end), |b| b.op(ty, Op::Check(reg, end)))
            }
            _ => self.clamp(reg, end, None),
        };
        Ok(self.numbered(Key::Cast(place, DType::I32), |b| b.convert(place, DType::I32)))
    }

    /// Elements at `index` and at places, in several axes with their strides, beyond it; `spread` is how far a lane is from the one before.
    pub(super) fn gather(
        &mut self,
        buffer: BufferId,
        index: Index,
        places: &[(Reg, i64)],
        spread: i64,
        lanes: u32,
    ) -> Result<Reg, ScheduleError> {
        let mut sum: Option<Reg> = None;
        for &(place, stride) in places {
            let moved = match stride {
                1 => place,
                stride => {
                    let stride = self.constant(DType::I32, Const::Int(stride), lanes);
                    self.binary(BinaryOp::Mul, place, stride)?
                }
            };
            sum = Some(match sum {
                Some(sum) => self.binary(BinaryOp::Add, sum, moved)?,
                None => moved,
            });
        }
        let mut sum = sum.expect("places of data");
        if spread != 0 {
            let steps = self.steps(spread, lanes);
            sum = self.binary(BinaryOp::Add, sum, steps)?;
        }
        let key = Key::Gather(buffer, index.clone(), sum);
        Ok(self.numbered(key, |b| b.gather(buffer, index, sum)))
    }
}

/// An expression of `i32` with the value of `e`, an integer, and the values that it may have; what is known of parts of it goes before.
fn narrowed(e: &Expr, known: &[(*const Node, Span)]) -> Option<(Expr, Span)> {
    let (made, span) = match e.node() {
        Node::Const(Const::Int(x)) => (Expr::int(DType::I32, *x), (*x, *x)),
        Node::Cast(a) => match a.dtype() {
            DType::I32 => (a.clone(), I32),
            DType::I16 => (a.cast(DType::I32), (-(1 << 15), (1 << 15) - 1)),
            DType::I8 => (a.cast(DType::I32), (-128, 127)),
            DType::U8 => (a.cast(DType::I32), (0, 255)),
            _ => return None,
        },
        Node::Binary(op, a, b) => {
            let ((x, s), (y, t)) = (narrowed(a, known)?, narrowed(b, known)?);
            let span = match op {
                BinaryOp::Add => (s.0 + t.0, s.1 + t.1),
                BinaryOp::Sub => (s.0 - t.1, s.1 - t.0),
                BinaryOp::Min => (s.0.min(t.0), s.1.min(t.1)),
                BinaryOp::Max => (s.0.max(t.0), s.1.max(t.1)),
                _ => return None,
            };
            (x.binary(*op, &y), span)
        }
        Node::Select(c, a, b) => {
            let Node::Compare(op, x, y) = c.node() else { return None };
            let (cond, then, otherwise) = if x.dtype() == DType::I64 {
                let (left, right) = (narrowed(x, known)?.0, narrowed(y, known)?.0);
                let (mut then, mut otherwise) = (known.to_vec(), known.to_vec());
                if let (CompareOp::Lt, Node::Const(Const::Int(limit))) = (op, y.node()) {
                    then.push((std::ptr::from_ref(x.node()), (I32.0, limit - 1)));
                    otherwise.push((std::ptr::from_ref(x.node()), (*limit, I32.1)));
                }
                (left.compare(*op, &right), then, otherwise)
            } else {
                (c.clone(), known.to_vec(), known.to_vec())
            };
            let ((a, s), (b, t)) = (narrowed(a, &then)?, narrowed(b, &otherwise)?);
            (cond.select(&a, &b), (s.0.min(t.0), s.1.max(t.1)))
        }
        _ => return None,
    };
    let span = known.iter().filter(|k| k.0 == std::ptr::from_ref(e.node())).fold(span, |s, (_, t)| (s.0.max(t.0), s.1.min(t.1)));
    (I32.0 <= span.0 && span.1 <= I32.1).then_some((made, span))
}

//! Scalar expressions to nest registers: addressing, broadcasting, value numbering, padding, checked indices.

use std::collections::{HashMap, HashSet};

use super::positions::compares_positions;
use super::shuffles::Seconds;
use super::{Emitter, Inside, Key, Lanes, Point};
use crate::expr::Affine as StageAffine;
use crate::expr::{BinaryOp, CompareOp, Const, Expr, Ix, Node, Stage, TensorId, UnaryOp, Var};
use crate::nest::{self, Affine, BufferId, Index, Op, Reg, VecType, math};
use crate::schedule::ScheduleError;
use crate::tensor::{DType, Size};

impl Emitter {
    /// Forgets all numbered values of the innermost scope: memory may have changed.
    pub(in crate::schedule) fn forget(&mut self) {
        for scope in &mut self.scopes {
            scope.clear();
        }
    }

    /// A stage's affine form at a point.
    pub(in crate::schedule) fn affine(&self, a: &StageAffine, at: &Point) -> Affine {
        a.substitute(|v| match v {
            Var::Axis(i) => at.axes[i as usize].clone(),
            Var::Loop(l) => self.loops[&l].clone(),
        })
    }

    /// Least and greatest value of an affine form.
    pub(in crate::schedule) fn range(&self, a: &Affine) -> (i64, i64) {
        let plain = |a: &Affine| a.range(|v| self.ranges[&v]);
        self.facts.iter().fold(plain(a), |(low, high), (known, least, most)| {
            let Some(&(v, c)) = known.terms.first() else { return (low, high) };
            let times = a.terms.iter().find(|t| t.0 == v).map_or(0, |t| t.1 / c);
            let rest = plain(&a.plus(&known.times(-times)));
            let of = |known: i64| times * known;
            (low.max(rest.0 + of(*least).min(of(*most))), high.min(rest.1 + of(*least).max(of(*most))))
        })
    }

    /// Least and greatest value of an index of a stage whose axes have these extents, those of the reduction last.
    pub(in crate::schedule) fn reach(&self, a: &StageAffine, extents: &[usize]) -> (i64, i64) {
        let is_loop = |v: Var| matches!(v, Var::Loop(_));
        let terms = |loops: bool| a.terms.iter().copied().filter(move |t| is_loop(t.0) == loops).collect();
        let axes = StageAffine { terms: terms(false), ..a.clone() };
        let (low, high) = axes.range(|v| match v {
            Var::Axis(i) => (0, extents[i as usize] as i64 - 1),
            Var::Loop(_) => (0, 0),
        });
        let loops = StageAffine { constant: 0, terms: terms(true) };
        let (least, most) = self.range(&self.affine(&loops, &Point { axes: vec![], vector: None }));
        (low + least, high + most)
    }

    pub(super) fn find(&self, key: &Key) -> Option<Reg> {
        self.scopes.iter().rev().find_map(|s| s.get(key)).copied()
    }

    pub(super) fn numbered(&mut self, key: Key, make: impl FnOnce(&mut nest::Builder) -> Reg) -> Reg {
        if let Some(reg) = self.find(&key) {
            return reg;
        }
        let reg = make(&mut self.b);
        self.scopes.last_mut().expect("the kernel's own scope").insert(key, reg);
        reg
    }

    /// A constant in `lanes` lanes.
    pub(in crate::schedule) fn constant(&mut self, dtype: DType, value: Const, lanes: u32) -> Reg {
        let ty = VecType { dtype, lanes };
        match value {
            Const::Float(x) => self.numbered(Key::Const(dtype, lanes, x.to_bits()), |b| b.float(ty, x)),
            Const::Int(x) => self.numbered(Key::Const(dtype, lanes, x as u64), |b| b.int(ty, x)),
        }
    }

    pub(super) fn zero(&mut self, dtype: DType, lanes: u32) -> Reg {
        self.constant(dtype, if dtype.is_float() { Const::Float(0.0) } else { Const::Int(0) }, lanes)
    }

    /// A register in `lanes` lanes.
    pub(in crate::schedule) fn splat(&mut self, reg: Reg, lanes: u32) -> Reg {
        if self.b.ty(reg).lanes == lanes { reg } else { self.numbered(Key::Splat(reg, lanes), |b| b.splat(reg, lanes)) }
    }

    /// As many elements as a lane of 32 bits has, as such a lane.
    pub(in crate::schedule) fn word_of(&mut self, parts: Reg) -> Reg {
        self.numbered(Key::Bits(parts, DType::I32), |b| b.op(VecType::scalar(DType::I32), Op::Bitcast(parts)))
    }

    /// A word in every one of `lanes` lanes, as shorter elements.
    pub(in crate::schedule) fn words_as(&mut self, word: Reg, dtype: DType, lanes: u32) -> Reg {
        let words = self.splat(word, lanes);
        let ty = VecType { dtype, lanes: lanes * 4 / dtype.size_bytes() as u32 };
        self.numbered(Key::Bits(words, dtype), |b| b.op(ty, Op::Bitcast(words)))
    }

    fn level(&mut self, a: Reg, b: Reg) -> (Reg, Reg, u32) {
        let lanes = self.b.ty(a).lanes.max(self.b.ty(b).lanes);
        (self.splat(a, lanes), self.splat(b, lanes), lanes)
    }

    /// The value of an expression at a point: a vector where it depends on the vector axis, else a scalar.
    /// `acc` is the value of [`Node::Acc`].
    pub(in crate::schedule) fn value(&mut self, e: &Expr, at: &Point, acc: Option<Reg>) -> Result<Reg, ScheduleError> {
        self.value_once(e, at, acc, &mut HashMap::new())
    }

    /// As [`Emitter::value`]; what is used in several places is computed once.
    pub(super) fn value_once(
        &mut self,
        e: &Expr,
        at: &Point,
        acc: Option<Reg>,
        known: &mut HashMap<*const Node, Reg>,
    ) -> Result<Reg, ScheduleError> {
        let key = std::ptr::from_ref(e.node());
        if let Some(&reg) = known.get(&key) {
            return Ok(reg);
        }
        let reg = match e.node() {
            Node::Const(c) => self.constant(e.dtype(), *c, 1),
            Node::Acc => acc.ok_or_else(|| ScheduleError("an accumulator outside `finish`".to_owned()))?,
            Node::Index(a) => {
                if at.vector.is_some_and(|v| a.coefficient(Var::Axis(v.axis as u32)) != 0) {
                    return self.by_lane(e, at, None);
                }
                let a = self.affine(a, at);
                self.numbered(Key::Index(a.clone()), |b| b.index(a))
            }
            Node::Size(size) => {
                let a = self.size(size, i64::from(u32::MAX));
                self.numbered(Key::Index(a.clone()), |b| b.index(a))
            }
            Node::Load { tensor, index, pad } => self.load(e, *tensor, index, pad.as_ref(), at, known)?,
            Node::Unary(op, a) => {
                let a = self.value_once(a, at, acc, known)?;
                self.unary(*op, a)?
            }
            Node::Binary(op, x, y) => {
                let x = self.value_once(x, at, acc, known)?;
                let y = match y.node() {
                    // Amounts are constants in the nest, which a splat is not.
                    Node::Const(by) if matches!(op, BinaryOp::Shl | BinaryOp::Shr) => self.constant(y.dtype(), *by, self.b.ty(x).lanes),
                    _ => self.value_once(y, at, acc, known)?,
                };
                let (x, y, _) = self.level(x, y);
                self.binary(*op, x, y)?
            }
            Node::Compare(op, x, y) => {
                let (x, y) = match self.positions_apart((x, y), at, known)? {
                    Some(apart) => (apart, self.zero(self.b.ty(apart).dtype, 1)),
                    None => (self.value_once(x, at, acc, known)?, self.value_once(y, at, acc, known)?),
                };
                let (x, y, _) = self.level(x, y);
                let relation = match op {
                    CompareOp::Eq => nest::CompareOp::Eq,
                    CompareOp::Ne => nest::CompareOp::Ne,
                    CompareOp::Lt => nest::CompareOp::Lt,
                    CompareOp::Le => nest::CompareOp::Le,
                    CompareOp::Gt => nest::CompareOp::Gt,
                    CompareOp::Ge => nest::CompareOp::Ge,
                };
                self.numbered(Key::Compare(*op, x, y), |b| b.compare(relation, x, y))
            }
            Node::Select(c, x, y) => {
                let (c, x, y) =
                    (self.value_once(c, at, acc, known)?, self.value_once(x, at, acc, known)?, self.value_once(y, at, acc, known)?);
                let (x, y, lanes) = self.level(x, y);
                let lanes = lanes.max(self.b.ty(c).lanes);
                let (c, x, y) = (self.splat(c, lanes), self.splat(x, lanes), self.splat(y, lanes));
                self.numbered(Key::Select(c, x, y), |b| b.select(c, x, y))
            }
            Node::Cast(a) => {
                let a = match (a.node(), at.vector) {
                    (Node::Index(place), Some(v)) if is_position(e) && expr_depends(a, v.axis) => match self.position(place, at) {
                        Some(words) => words,
                        None => return self.by_lane(e, at, None),
                    },
                    _ => self.value_once(a, at, acc, known)?,
                };
                let to = e.dtype();
                self.numbered(Key::Cast(a, to), |b| math::convert(b, a, to))
            }
            Node::Bits(a) => {
                let a = self.value_once(a, at, acc, known)?;
                let to = e.dtype();
                self.numbered(Key::Bits(a, to), |b| b.bitcast(a, to))
            }
        };
        known.insert(key, reg);
        Ok(reg)
    }

    fn unary(&mut self, op: UnaryOp, a: Reg) -> Result<Reg, ScheduleError> {
        if let Some(reg) = self.find(&Key::Unary(op, a)) {
            return Ok(reg);
        }
        let b = &mut self.b;
        let simple = match op {
            UnaryOp::Neg => Some(nest::UnaryOp::Neg),
            UnaryOp::Abs => Some(nest::UnaryOp::Abs),
            UnaryOp::Sqrt => Some(nest::UnaryOp::Sqrt),
            UnaryOp::Floor => Some(nest::UnaryOp::Floor),
            UnaryOp::Ceil => Some(nest::UnaryOp::Ceil),
            UnaryOp::Round => Some(nest::UnaryOp::Round),
            UnaryOp::Not => Some(nest::UnaryOp::Not),
            _ => None,
        };
        let reg = if let Some(op) = simple {
            b.unary(op, a)
        } else {
            match op {
                UnaryOp::Exp => math::exp(b, a)?,
                UnaryOp::ExpFtz => math::exp_ftz(b, a)?,
                UnaryOp::Expm1 => math::expm1(b, a)?,
                UnaryOp::Log => math::log(b, a)?,
                UnaryOp::Log1p => math::log1p(b, a)?,
                UnaryOp::Tanh => math::tanh(b, a)?,
                UnaryOp::Sigmoid => math::sigmoid(b, a)?,
                UnaryOp::Erf => math::erf(b, a)?,
                UnaryOp::Sin => math::sin(b, a)?,
                UnaryOp::Cos => math::cos(b, a)?,
                UnaryOp::Softplus => math::softplus(b, a)?,
                UnaryOp::Tan => math::tan(b, a)?,
                UnaryOp::Asin => math::asin(b, a)?,
                UnaryOp::Acos => math::acos(b, a)?,
                UnaryOp::Atan => math::atan(b, a)?,
                UnaryOp::Sinh => math::sinh(b, a)?,
                UnaryOp::Cosh => math::cosh(b, a)?,
                UnaryOp::Asinh => math::asinh(b, a)?,
                UnaryOp::Acosh => math::acosh(b, a)?,
                UnaryOp::Atanh => math::atanh(b, a)?,
                _ => unreachable!("the simple ones are above"),
            }
        };
        self.scopes.last_mut().expect("the kernel's own scope").insert(Key::Unary(op, a), reg);
        Ok(reg)
    }

    pub(super) fn binary(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Result<Reg, ScheduleError> {
        let key = Key::Binary(op, x, y);
        if let Some(reg) = self.find(&key) {
            return Ok(reg);
        }
        let reg = if op == BinaryOp::Pow { math::pow(&mut self.b, x, y)? } else { self.b.binary(nest_binary(op), x, y) };
        self.scopes.last_mut().expect("the kernel's own scope").insert(key, reg);
        Ok(reg)
    }

    /// A vector made of the scalar values of its lanes.
    fn by_lane(&mut self, e: &Expr, at: &Point, acc: Option<Reg>) -> Result<Reg, ScheduleError> {
        let v = at.vector.expect("a vector point");
        if acc.is_some() {
            return Err(ScheduleError("an accumulator taken apart into lanes".to_owned()));
        }
        let mut lanes = vec![];
        for lane in 0..v.valid {
            lanes.push(self.value(e, &at.lane(lane), None)?);
        }
        if v.valid < v.lanes {
            let zero = self.zero(e.dtype(), 1);
            lanes.resize(v.lanes as usize, zero);
        }
        Ok(self.b.op(VecType { dtype: e.dtype(), lanes: v.lanes }, Op::Pack(lanes)))
    }

    /// An element of a tensor. What its places and its padding share with the rest of the expression is in `known`.
    fn load(
        &mut self,
        e: &Expr,
        tensor: TensorId,
        index: &[Ix],
        pad: Option<&Expr>,
        at: &Point,
        known: &mut HashMap<*const Node, Reg>,
    ) -> Result<Reg, ScheduleError> {
        if let Some(packed) = self.packed.get(e).cloned()
            && let Some(v) = at.vector
        {
            let lanes = if v.axis == packed.axis { v.lanes * packed.group as u32 } else { 1 };
            return Ok(self.elements_at(packed.buffer, packed.place(at).into(), lanes));
        }
        let varies = at.vector.is_some_and(|v| index_depends(index, v.axis));
        let by_data = |ix: &Ix| at.vector.is_some_and(|v| matches!(ix, Ix::Checked(i) | Ix::Clamped(i) if expr_depends(i, v.axis)));
        let gathers = index.iter().any(by_data);
        if gathers && !self.gathers(e, tensor, index, at) {
            return self.by_lane(e, at, None);
        }
        let mut places: Vec<(Reg, i64)> = vec![];
        let dims = self.dims(tensor).to_vec();
        let (buffer, offset, strides) = self.memory_of(tensor);
        let mut flat = Affine::constant(offset);
        let mut dynamic: Vec<(Reg, i64)> = vec![];
        let mut outside: Vec<Reg> = vec![];
        let mut cut = None;
        // Where the first lane is along the axes that lanes move.
        let mut along = 0;
        for (k, ((ix, &stride), &dim)) in index.iter().zip(&strides).zip(&dims).enumerate() {
            let end = dim as i64;
            let bound = self.program().tensor(tensor).bound(k).cloned();
            match ix {
                Ix::Affine(a) => {
                    let past = bound.as_ref().is_some_and(|n| !a.is_axis_of(&self.bounds, n));
                    let a = self.affine(a, at);
                    along += if at.vector.is_some_and(|v| coefficient(ix, v.axis) != 0) { a.constant } else { 0 };
                    let reach = at.vector.map_or(0, |v| i64::from(v.valid - 1) * coefficient(ix, v.axis));
                    let (lo, hi) = self.range(&a);
                    let (lo, hi) = (lo.min(lo + reach), hi.max(hi + reach));
                    if let Some(pad) = pad {
                        if hi < 0 || lo >= end || end == 0 {
                            return self.value_once(pad, at, None, known);
                        }
                        if lo < 0 || hi >= end || past {
                            let spread = at.vector.map_or(0, |v| coefficient(ix, v.axis));
                            if a.terms.is_empty() && spread > 0 && spread * stride == spread && !past {
                                cut = Some((a.constant, end, spread));
                                flat = flat.plus(&a.times(stride));
                                continue;
                            }
                            if varies {
                                return self.by_lane(e, at, None);
                            }
                            let reg = self.numbered(Key::Index(a.clone()), |b| b.index(a));
                            dynamic.push((self.checked(reg, end, bound.as_ref(), &mut outside), stride));
                            continue;
                        }
                    }
                    flat = flat.plus(&a.times(stride));
                }
                Ix::Checked(i) | Ix::Clamped(i) if by_data(ix) => {
                    let checked = matches!(ix, Ix::Checked(_));
                    let place = self.lane_places(i, end, checked, at, known, pad.map(|_| &mut outside))?;
                    places.push((place, stride));
                }
                Ix::Checked(i) | Ix::Clamped(i) => {
                    let reg = self.value_once(i, at, None, known)?;
                    let reg = if self.b.ty(reg).dtype == DType::I64 {
                        reg
                    } else {
                        self.numbered(Key::Cast(reg, DType::I64), |b| b.convert(reg, DType::I64))
                    };
                    if matches!(ix, Ix::Checked(_)) && pad.is_none() {
                        dynamic.push((self.inside_or_stop(reg, end, bound.as_ref()), stride));
                    } else {
                        let is_checked = matches!(ix, Ix::Checked(_));
                        if is_checked && varies && !gathers {
                            return self.by_lane(e, at, None);
                        }
                        let place = if is_checked {
                            self.checked(reg, end, bound.as_ref(), &mut outside)
                        } else {
                            self.clamp(reg, end, bound.as_ref())
                        };
                        dynamic.push((place, stride));
                    }
                }
            }
        }
        let spread = at.vector.map_or(0, |v| stride_along(index, &strides, v.axis));
        if let (Some((place, end, apart)), Some(v), Some(pad)) = (cut, at.vector, pad) {
            let is_alone = dynamic.is_empty() && outside.is_empty() && spread == apart;
            let Node::Const(fill) = pad.node() else { return self.by_lane(e, at, None) };
            if !is_alone || !self.is_partly(buffer, v, spread) {
                return self.by_lane(e, at, None);
            }
            let pad = self.constant(e.dtype(), *fill, 1);
            return Ok(self.partly(buffer, &flat, v, Inside { place, end, spread, pad }));
        }
        let index = Index { affine: flat, dynamic };
        let loaded = match at.vector {
            Some(v) if gathers => self.gather(buffer, index, &places, spread, v.lanes)?,
            Some(v) if varies && spread == 1 && v.valid == v.lanes => self.elements_at(buffer, index, v.lanes),
            Some(v) if varies && spread != 0 => match self.find(&Key::Lanes(buffer, index.clone(), spread, v.valid)) {
                Some(reg) => reg,
                None if spread == 2 && self.takes_every_second(buffer, &index, v.lanes) => {
                    self.every_second(&Seconds { buffer, index, is_odd: along.rem_euclid(2) == 1, v })
                }
                None => self.lanes_of(buffer, index, spread, v),
            },
            _ => self.elements_at(buffer, index, 1),
        };
        if outside.is_empty() {
            return Ok(loaded);
        }
        let any = outside[1..].iter().fold(outside[0], |x, &y| {
            let (x, y, _) = self.level(x, y);
            self.numbered(Key::Binary(BinaryOp::Or, x, y), |b| b.binary(nest::BinaryOp::Or, x, y))
        });
        let pad = self.value_once(pad.expect("only padded loads go outside"), at, None, known)?;
        let (x, y, lanes) = self.level(pad, loaded);
        let any = self.splat(any, lanes);
        Ok(self.numbered(Key::Select(any, x, y), |b| b.select(any, x, y)))
    }

    /// So many adjacent elements.
    pub(super) fn elements_at(&mut self, buffer: BufferId, index: Index, lanes: u32) -> Reg {
        self.numbered(Key::Load(buffer, index.clone(), lanes), |b| b.load(buffer, index, lanes))
    }

    /// Elements of memory as the first lanes of a vector, `spread` apart; the other lanes are zero.
    pub(super) fn lanes_of(&mut self, buffer: BufferId, index: Index, spread: i64, v: Lanes) -> Reg {
        let dtype = self.b.buffer_dtype(buffer);
        let key = Key::Lanes(buffer, index.clone(), spread, v.valid);
        if let Some(reg) = self.find(&key) {
            return reg;
        }
        let mut lanes = vec![];
        for lane in 0..i64::from(v.valid) {
            let mut index = index.clone();
            index.affine.constant += lane * spread;
            // Adjacent lanes become one load, which shares none of them with others.
            lanes.push(match spread {
                1 => self.b.load(buffer, index, 1),
                _ => self.elements_at(buffer, index, 1),
            });
        }
        if v.valid < v.lanes {
            let zero = self.zero(dtype, 1);
            lanes.resize(v.lanes as usize, zero);
        }
        self.numbered(key, |b| b.op(VecType { dtype, lanes: v.lanes }, Op::Pack(lanes)))
    }

    /// `reg` moved into `0..end`, or into `0..bound` in a run that has less; in one that has nothing, to 0.
    pub(super) fn clamp(&mut self, reg: Reg, end: i64, bound: Option<&Size>) -> Reg {
        let lesser = bound.map_or(reg, |n| self.below(reg, end, n));
        self.numbered(Key::Clamp(lesser, end), |b| {
            let ty = b.ty(lesser);
            let (zero, last) = (b.int(ty, 0), b.int(ty, (end - 1).max(0)));
            let low = b.binary(nest::BinaryOp::Max, lesser, zero);
            b.binary(nest::BinaryOp::Min, low, last)
        })
    }

    /// The lesser of `reg` and the last place of an axis that has `n` of at most `end` in a run.
    fn below(&mut self, reg: Reg, end: i64, n: &Size) -> Reg {
        let last = self.size(n, end).offset(-1);
        let last = self.numbered(Key::Index(last.clone()), |b| b.index(last));
        self.numbered(Key::Binary(BinaryOp::Min, reg, last), |b| b.binary(nest::BinaryOp::Min, reg, last))
    }

    /// `reg` as [`Self::clamp`] moves it; whether it is outside is added to the list. An axis may have nothing in a run.
    pub(super) fn checked(&mut self, reg: Reg, end: i64, bound: Option<&Size>, outside: &mut Vec<Reg>) -> Reg {
        let clamped = self.clamp(reg, end, bound);
        for other in [Some(clamped), bound.map(|n| self.below(reg, end, n))].into_iter().flatten() {
            outside.push(self.numbered(Key::Compare(CompareOp::Ne, reg, other), |b| b.compare(nest::CompareOp::Ne, reg, other)));
        }
        clamped
    }

    /// A place along an axis of a tensor: where it is outside, the kernel stops.
    pub(in crate::schedule) fn place_along(&mut self, t: TensorId, axis: usize, place: Reg) -> Reg {
        let decl = self.program().tensor(t);
        let (end, bound) = (decl.dims[axis] as i64, decl.bound(axis).cloned());
        self.inside_or_stop(place, end, bound.as_ref())
    }

    /// `reg`, which is in `0..end`, or in `0..bound` in a run that has less: elsewhere the kernel stops.
    fn inside_or_stop(&mut self, reg: Reg, end: i64, bound: Option<&Size>) -> Reg {
        let ty = VecType::scalar(DType::I64);
        let checked = self.numbered(Key::Check(reg, end), |b| b.op(ty, Op::Check(reg, end)));
        if let Some(n) = bound {
            // As much below the end of the longest axis as it is below the end of this run's.
            let unused = self.size(&n.times(-1).plus(&Size::Constant(end)), end);
            let unused = self.numbered(Key::Index(unused.clone()), |b| b.index(unused));
            let shifted = self.numbered(Key::Binary(BinaryOp::Add, checked, unused), |b| b.binary(nest::BinaryOp::Add, checked, unused));
            self.numbered(Key::Check(shifted, end), |b| b.op(ty, Op::Check(shifted, end)));
        }
        checked
    }

    /// Emits in the current scope what `e` computes without the axes in `inner`, so that loops over them find it done.
    pub(in crate::schedule) fn hoist(&mut self, e: &Expr, at: &Point, inner: &[usize]) -> Result<(), ScheduleError> {
        self.hoist_once(e, at, (inner, e.dtype() == DType::I64), &mut HashSet::new())
    }

    fn hoist_once(
        &mut self,
        e: &Expr,
        at: &Point,
        (inner, long): (&[usize], bool),
        seen: &mut HashSet<*const Node>,
    ) -> Result<(), ScheduleError> {
        if !seen.insert(e.node()) {
            return Ok(());
        }
        if matches!(e.node(), Node::Const(_) | Node::Acc) || e.has_acc() || inner.iter().any(|&a| expr_depends(e, a)) {
            for child in e.children() {
                self.hoist_once(child, at, (inner, long), seen)?;
            }
            return Ok(());
        }
        if matches!(e.node(), Node::Index(_)) || matches!(e.node(), Node::Load { pad: Some(_), .. }) {
            return Ok(());
        }
        let mut scalar = at.clone();
        scalar.vector = None;
        let reg = self.value(e, &scalar, None)?;
        // Places stay scalars.
        if let Some(v) = at.vector.filter(|_| long || self.b.ty(reg).dtype != DType::I64) {
            self.splat(reg, v.lanes);
        }
        Ok(())
    }

    /// Where a stage stores its result of a point: the first of its lanes.
    pub(in crate::schedule) fn place_of(&mut self, stage: &Stage, at: &Point) -> (BufferId, Affine) {
        let (buffer, offset, strides) = self.memory_of(stage.out);
        let places = stage.write.iter().zip(&strides);
        (buffer, places.fold(Affine::constant(offset), |flat, (a, &stride)| flat.plus(&self.affine(a, at).times(stride))))
    }

    /// Stores a register at the stage's write address; of a vector only the lanes that exist.
    pub(in crate::schedule) fn store(&mut self, stage: &Stage, at: &Point, value: Reg) {
        let (buffer, flat) = self.place_of(stage, at);
        let (.., strides) = self.memory_of(stage.out);
        match at.vector {
            Some(v) => {
                let spread = stage.stride_along(&strides, v.axis);
                let value = self.splat(value, v.lanes);
                if spread == 1 && v.valid == v.lanes {
                    self.b.store(buffer, flat, value);
                } else {
                    let ty = VecType::scalar(self.b.ty(value).dtype);
                    for lane in 0..v.valid {
                        let scalar = self.b.op(ty, Op::Lane(value, lane));
                        self.b.store(buffer, flat.offset(i64::from(lane) * spread), scalar);
                    }
                }
            }
            None => self.b.store(buffer, flat, value),
        }
    }
}

/// The coefficient of a stage axis in an affine index.
pub(in crate::schedule) fn coefficient(ix: &Ix, axis: usize) -> i64 {
    match ix {
        Ix::Affine(a) => a.coefficient(Var::Axis(axis as u32)),
        _ => 0,
    }
}

/// Elements from one step along an axis to the next, of a read whose tensor has these strides.
pub(in crate::schedule) fn stride_along(index: &[Ix], strides: &[i64], axis: usize) -> i64 {
    index.iter().zip(strides).map(|(ix, s)| coefficient(ix, axis) * s).sum()
}

/// Whether an index depends on a stage axis.
pub(in crate::schedule) fn index_depends(index: &[Ix], axis: usize) -> bool {
    index.iter().any(|ix| match ix {
        Ix::Affine(a) => a.coefficient(Var::Axis(axis as u32)) != 0,
        Ix::Checked(e) | Ix::Clamped(e) => expr_depends(e, axis),
    })
}

/// Which part of an index an axis is, as it stands; `None` where it moves another part, or several.
pub(in crate::schedule) fn place_alone(index: &[Ix], axis: usize) -> Option<usize> {
    let mut moved = (0..index.len()).filter(|&k| index_depends(&index[k..=k], axis));
    let (k, None) = (moved.next()?, moved.next()) else { return None };
    (index[k] == Ix::Affine(StageAffine::axis(axis))).then_some(k)
}

/// Whether an expression depends on a stage axis.
pub(in crate::schedule) fn expr_depends(e: &Expr, axis: usize) -> bool {
    let uses = |a: &StageAffine| a.coefficient(Var::Axis(axis as u32)) != 0;
    let mut depends = false;
    e.visit(&mut |e| {
        depends |= match e.node() {
            Node::Index(a) => uses(a),
            Node::Load { index, .. } => index.iter().any(|ix| matches!(ix, Ix::Affine(a) if uses(a))),
            _ => false,
        }
    });
    depends
}

/// Whether an expression needs registers that the accumulators of a tile leave no room for, and is too long for the processor to
/// look past.
pub(in crate::schedule) fn is_heavy(e: &Expr) -> bool {
    let mut heavy = false;
    e.visit(&mut |e| {
        heavy |= matches!(e.node(), Node::Unary(op, _) if op.is_polynomial()) || matches!(e.node(), Node::Binary(BinaryOp::Pow, ..));
    });
    heavy
}

/// The nest's operator.
pub(in crate::schedule) fn nest_binary(op: BinaryOp) -> nest::BinaryOp {
    match op {
        BinaryOp::Add => nest::BinaryOp::Add,
        BinaryOp::Sub => nest::BinaryOp::Sub,
        BinaryOp::Mul => nest::BinaryOp::Mul,
        BinaryOp::Div => nest::BinaryOp::Div,
        BinaryOp::Rem => nest::BinaryOp::Rem,
        BinaryOp::Min => nest::BinaryOp::Min,
        BinaryOp::Max => nest::BinaryOp::Max,
        BinaryOp::And => nest::BinaryOp::And,
        BinaryOp::Or => nest::BinaryOp::Or,
        BinaryOp::Xor => nest::BinaryOp::Xor,
        BinaryOp::Shl => nest::BinaryOp::Shl,
        BinaryOp::Shr => nest::BinaryOp::Shr,
        BinaryOp::Pow => unreachable!("powers are polynomials"),
    }
}

/// Element types whose values lanes hold, of 32 bits each: others are computed one by one.
pub(in crate::schedule) fn fits_lanes(dtype: DType) -> bool {
    is_float_lane(dtype) || matches!(dtype, DType::I32 | DType::I16 | DType::I8 | DType::U8)
}

/// Floating-point types whose values lanes hold.
pub(in crate::schedule) fn is_float_lane(dtype: DType) -> bool {
    dtype == DType::F32 || dtype.is_half()
}

/// Elements that fill a lane of 32 bits.
pub(in crate::schedule) fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32)
}

/// Whether an expression can be computed in lanes along an axis: everything that depends on the axis is `f32`, half of one, or
/// `i32`, the bits of one as the other, a condition on these or on positions, or bytes on the way from or to memory.
pub(in crate::schedule) fn vector_ok(e: &Expr, axis: usize) -> bool {
    let fits = |e: &Expr| match e.node() {
        Node::Load { .. } | Node::Select(..) => fits_lanes(e.dtype()) || e.dtype() == DType::Bool,
        Node::Cast(a) => fits_lanes(e.dtype()) && (fits_lanes(a.dtype()) || a.dtype() == DType::Bool) || is_position(e),
        Node::Compare(_, a, b) => fits_lanes(a.dtype()) || compares_positions(a, b, axis),
        Node::Bits(a) => is_word(e.dtype()) && is_word(a.dtype()),
        Node::Index(_) => false,
        Node::Const(_) | Node::Size(_) | Node::Acc => true,
        Node::Unary(..) | Node::Binary(..) => match e.dtype() {
            DType::Bool => true,
            dtype if is_float_lane(dtype) => true,
            DType::I32 => !matches!(e.node(), Node::Binary(BinaryOp::Div | BinaryOp::Rem | BinaryOp::Pow, ..)),
            _ => false,
        },
    };
    let is_whole = |e: &Expr| match e.node() {
        Node::Compare(_, a, b) => compares_positions(a, b, axis),
        _ => is_position(e),
    };
    all_fit(e, axis, (&fits, &is_whole), &mut HashMap::new())
}

/// Whether an expression is a position as a word.
fn is_position(e: &Expr) -> bool {
    matches!(e.node(), Node::Cast(a) if is_word(e.dtype()) && matches!(a.node(), Node::Index(_)))
}

/// Whether an expression can be computed in lanes of 64 bits along an axis: everything that depends on the axis is `i64`, or a condition
/// on that, and no more than bits, sums and comparisons.
pub(in crate::schedule) fn long_ok(e: &Expr, axis: usize) -> bool {
    let fits = |e: &Expr| match e.node() {
        Node::Load { index, pad: None, .. } => {
            e.dtype() == DType::I64 && index.iter().all(|ix| matches!(ix, Ix::Affine(_)) || !index_depends(std::slice::from_ref(ix), axis))
        }
        Node::Binary(op, ..) => {
            use BinaryOp::{Add, And, Max, Min, Or, Sub, Xor};
            e.dtype() == DType::I64 && matches!(op, Add | Sub | Min | Max | And | Or | Xor)
        }
        Node::Select(..) => e.dtype() == DType::I64,
        Node::Compare(_, a, _) => a.dtype() == DType::I64,
        _ => false,
    };
    all_fit(e, axis, (&fits, &|_| false), &mut HashMap::new())
}

type Asked<'a> = &'a dyn Fn(&Expr) -> bool;

/// Whether every part of an expression that depends on an axis fits; what a load's place is made of is not a part of it, nor what the second
/// function takes as a whole. Parts that are shared are looked at once.
fn all_fit(e: &Expr, axis: usize, (fits, is_whole): (Asked<'_>, Asked<'_>), known: &mut HashMap<*const Node, bool>) -> bool {
    let key = std::ptr::from_ref(e.node());
    if let Some(&ok) = known.get(&key) {
        return ok;
    }
    let parts = || if matches!(e.node(), Node::Load { .. }) || is_whole(e) { vec![] } else { e.children() };
    let ok = !expr_depends(e, axis) || fits(e) && parts().into_iter().all(|c| all_fit(c, axis, (fits, is_whole), known));
    known.insert(key, ok);
    ok
}

//! What shuffles bring together: tiles that are transposed in registers, vectors whose elements go to memory in turn.

use super::values::{coefficient, is_word, stride_along};
use super::{Emitter, Inside, Key, Lanes, Point};
use crate::expr::{Expr, Ix, Node};
use crate::nest::{Affine, BufferId, Index, Op, Reg, Shuffle, VecType};
use crate::schedule::Shuffles;

/// Every second element of a buffer, as lanes, from a place on.
#[derive(Clone)]
pub(super) struct Seconds {
    pub(super) buffer: BufferId,
    /// The first of them.
    pub(super) index: Index,
    /// Whether that is one of odd number in its row.
    pub(super) is_odd: bool,
    pub(super) v: Lanes,
}

impl Seconds {
    fn key(&self) -> Key {
        Key::Lanes(self.buffer, self.index.clone(), 2, self.v.valid)
    }

    /// Those from so many elements further on, an even number.
    fn moved(&self, by: i64) -> Self {
        Seconds { index: Index::from(self.index.affine.offset(by)), ..self.clone() }
    }
}

impl Emitter {
    /// Whether [`Emitter::transpose`] knows a read: affine, and adjacent along one axis only, while lanes stride along another.
    pub(in crate::schedule) fn is_transposed(&self, load: &Expr, lanes_axis: usize, adjacent: usize) -> bool {
        let Node::Load { tensor, index, pad: None } = load.node() else { return false };
        let strides = self.strides_of(*tensor);
        index.iter().all(|ix| matches!(ix, Ix::Affine(_)))
            && stride_along(index, &strides, adjacent) == 1
            && stride_along(index, &strides, lanes_axis).abs() > 1
    }

    /// Loads what a read needs for as many places along `adjacent` as the point has lanes, each vector along `adjacent`, and transposes it:
    /// the read finds its lanes at any of these places.
    pub(in crate::schedule) fn transpose(&mut self, load: &Expr, at: &Point) {
        let (Node::Load { tensor, index, .. }, Some(v)) = (load.node(), at.vector) else { return };
        let (buffer, offset, strides) = self.memory_of(*tensor);
        let mut flat = Affine::constant(offset);
        for (ix, stride) in index.iter().zip(&strides) {
            let Ix::Affine(a) = ix else { return };
            flat = flat.plus(&self.affine(a, at).times(*stride));
        }
        let spread: i64 = index.iter().zip(&strides).map(|(ix, s)| coefficient(ix, v.axis) * s).sum();
        let load = |e: &mut Self, lane: u32| e.b.load(buffer, Index::from(flat.offset(i64::from(lane) * spread)), v.lanes);
        let columns = if self.in_fours(v.lanes) {
            // What is loaded for one half only is loaded by half.
            let halves = [Shuffle::LowHalves, Shuffle::HighHalves].map(|half| {
                let rows: Vec<Reg> = (0..4)
                    .map(|lane| {
                        let rows = [lane, lane + 4].map(|lane| load(self, lane));
                        self.shuffle(half, rows)
                    })
                    .collect();
                self.zipped(&rows, [Shuffle::ZipLow4, Shuffle::ZipHigh4])
            });
            halves.concat()
        } else {
            let rows: Vec<Reg> = (0..v.lanes).map(|lane| load(self, lane)).collect();
            self.zipped(&rows, [Shuffle::ZipLow, Shuffle::ZipHigh])
        };
        for (place, row) in (0..).zip(columns) {
            let key = Key::Lanes(buffer, Index::from(flat.offset(place)), spread, v.lanes);
            self.scopes.last_mut().expect("the kernel's own scope").insert(key, row);
        }
    }

    /// Whether [`Emitter::every_second`] knows elements of a buffer: in lanes that shuffles take, their places affine.
    pub(super) fn takes_every_second(&self, buffer: BufferId, index: &Index, lanes: u32) -> bool {
        self.machine.shuffles() && is_word(self.b.buffer_dtype(buffer)) && index.dynamic.is_empty() && lanes >= 4
    }

    /// Every second element: of vectors that are at hand, beside elements that are, or taken from two vectors that are loaded.
    pub(super) fn every_second(&mut self, at: &Seconds) -> Reg {
        let loaded = |e: &mut Self, index: Index, valid: u32| {
            let whole = valid == at.v.lanes;
            Some(if whole { e.elements_at(at.buffer, index, valid) } else { e.lanes_of(at.buffer, index, 1, Lanes { valid, ..at.v }) })
        };
        let reg = self.second_at_hand(at).or_else(|| self.beside(at)).or_else(|| self.second_of(at, &loaded));
        let reg = reg.expect("loads are always there");
        self.numbered(at.key(), |_| reg)
    }

    /// The two vectors that every second element is taken from, how many lanes of them exist, and whether it is those of odd number: with the
    /// elements behind them or, where the first is of odd number, those before, so that elements beside each other share their vectors. No
    /// more is read than there is.
    fn pair(&self, at: &Seconds) -> (bool, [(Index, u32); 2]) {
        let (lanes, valid) = (i64::from(at.v.lanes), i64::from(at.v.valid));
        let (low, high) = self.range(&at.index.affine);
        let (fits_before, fits_behind) = (low >= 1, high + 2 * valid <= self.b.buffer_len(at.buffer) as i64);
        let odd = fits_before && (at.is_odd || !fits_behind);
        let first = at.index.affine.offset(-i64::from(odd));
        let needed = 2 * valid - i64::from(!odd && !fits_behind);
        let part = |from: i64| (Index::from(first.offset(from)), (needed - from).clamp(0, lanes) as u32);
        (odd, [part(0), part(lanes)])
    }

    /// Every second element of the two vectors that `part` gives, by where they are and how many of their lanes exist.
    fn second_of(&mut self, at: &Seconds, part: &dyn Fn(&mut Self, Index, u32) -> Option<Reg>) -> Option<Reg> {
        let (odd, vectors) = self.pair(at);
        let mut part = |(index, valid): (Index, u32)| match valid {
            0 => Some(self.zero(self.b.buffer_dtype(at.buffer), at.v.lanes)),
            _ => part(self, index, valid),
        };
        let [a, b] = vectors;
        let vectors = [part(a)?, part(b)?];
        Some(self.every_other(odd, vectors))
    }

    /// Every second element, if it is there, or what it is taken from.
    fn second_at_hand(&mut self, at: &Seconds) -> Option<Reg> {
        if let Some(reg) = self.find(&at.key()) {
            return Some(reg);
        }
        let found = |e: &mut Self, index: Index, valid: u32| {
            let whole = valid == at.v.lanes;
            e.find(&if whole { Key::Load(at.buffer, index, valid) } else { Key::Lanes(at.buffer, index, 1, valid) })
        };
        let reg = self.second_of(at, &found)?;
        Some(self.numbered(at.key(), |_| reg))
    }

    /// Every second element, where those from the next one of them on are at hand, or those from the one before: all but one are the same.
    fn beside(&mut self, at: &Seconds) -> Option<Reg> {
        if !self.moves_lanes(at.v.lanes) {
            return None;
        }
        if let Some(behind) = self.second_at_hand(&at.moved(2)) {
            let first = self.elements_at(at.buffer, at.index.clone(), 1);
            return Some(self.behind(first, behind));
        }
        let before = (at.v.valid == at.v.lanes).then(|| self.second_at_hand(&at.moved(-2))).flatten()?;
        let last = self.elements_at(at.buffer, at.moved(2 * i64::from(at.v.lanes) - 2).index, 1);
        let last = self.splat(last, at.v.lanes);
        Some(self.shuffle(Shuffle::Next, [before, last]))
    }

    /// A lane, and behind it all lanes of a vector but the last.
    fn behind(&mut self, first: Reg, vector: Reg) -> Reg {
        let first = self.splat(first, self.b.ty(vector).lanes);
        self.shuffle(Shuffle::Previous, [first, vector])
    }

    /// Whether a lane that is loaded beside others that are moved takes less than loads of two vectors: of four lanes it does not.
    fn moves_lanes(&self, lanes: u32) -> bool {
        self.machine.shuffles() && lanes >= 8
    }

    /// Whether [`Emitter::partly`] knows elements of a buffer.
    pub(super) fn is_partly(&self, buffer: BufferId, v: Lanes, spread: i64) -> bool {
        is_word(self.b.buffer_dtype(buffer)) && v.lanes >= 4 && (spread == 1 || spread == 2 && self.machine.shuffles())
    }

    /// Elements of a row at fixed places, of which some are padding: adjacent lanes are one load.
    pub(super) fn partly(&mut self, buffer: BufferId, first: &Affine, v: Lanes, at: Inside) -> Reg {
        let key = Key::Partly(buffer, first.clone(), v, at);
        if let Some(reg) = self.find(&key) {
            return reg;
        }
        let last = at.place + (i64::from(v.valid) - 1) * at.spread;
        if at.spread == 2 && (-2..0).contains(&at.place) && last + 2 < at.end && self.moves_lanes(v.lanes) {
            // Only the first lane is padding.
            let second = Seconds { buffer, index: Index::from(first.offset(2)), is_odd: at.place.rem_euclid(2) == 1, v };
            if let Some(behind) = self.second_at_hand(&second) {
                let reg = self.behind(at.pad, behind);
                return self.numbered(key, |_| reg);
            }
        }
        let mut part = |from: i64| {
            let inside = |i: i64| (0..at.end.min(last + 1)).contains(&(at.place + i));
            let places: Vec<i64> = (from..from + i64::from(v.lanes)).collect();
            let element = |i: i64| Index::from(first.offset(i));
            if places.iter().all(|&i| inside(i)) {
                return self.elements_at(buffer, element(from), v.lanes);
            }
            let lanes = places.into_iter().map(|i| if inside(i) { self.b.load(buffer, element(i), 1) } else { at.pad }).collect();
            self.b.op(VecType { dtype: self.b.buffer_dtype(buffer), lanes: v.lanes }, Op::Pack(lanes))
        };
        let reg = if at.spread == 1 {
            part(0)
        } else {
            let odd = at.place.rem_euclid(2);
            let vectors = [part(-odd), part(i64::from(v.lanes) - odd)];
            self.every_other(odd == 1, vectors)
        };
        self.numbered(key, |_| reg)
    }

    /// Whether zips of so many lanes are made of those of every four, in two halves.
    fn in_fours(&self, lanes: u32) -> bool {
        self.machine.shuffles == Shuffles::Fours && lanes == 8
    }

    /// The lanes of odd or of even number of two vectors.
    fn every_other(&mut self, odd: bool, vectors: [Reg; 2]) -> Reg {
        self.shuffle(if odd { Shuffle::Odd } else { Shuffle::Even }, vectors)
    }

    fn shuffle(&mut self, order: Shuffle, [a, b]: [Reg; 2]) -> Reg {
        let ty = self.b.ty(a);
        self.b.op(ty, Op::Shuffle(order, a, b))
    }

    /// Rounds of zips by which every lane of a vector comes next to that of the one before; their number is a power of two.
    fn zipped(&mut self, vectors: &[Reg], orders: [Shuffle; 2]) -> Vec<Reg> {
        let mut all = vectors.to_vec();
        // Every round brings an element next to the one half of the vectors below it.
        for _ in 0..vectors.len().ilog2() {
            let (upper, lower) = all.split_at(all.len() / 2);
            all = upper.iter().zip(lower).flat_map(|(&a, &b)| orders.map(|order| self.shuffle(order, [a, b]))).collect();
        }
        all
    }

    /// How many vectors of so many lanes [`Emitter::turned`] takes.
    pub(in crate::schedule) fn n_turned(&self, lanes: u32) -> usize {
        if self.in_fours(lanes) { 4 } else { lanes as usize }
    }

    /// The first elements of so many vectors, the second, and so on: each in the first lanes of a vector.
    pub(in crate::schedule) fn turned(&mut self, vectors: &[Reg]) -> Vec<Reg> {
        if !self.in_fours(self.b.ty(vectors[0]).lanes) {
            return self.interleave(vectors);
        }
        let lower = self.zipped(vectors, [Shuffle::ZipLow4, Shuffle::ZipHigh4]);
        let upper: Vec<Reg> = lower.iter().map(|&v| self.shuffle(Shuffle::HighHalves, [v, v])).collect();
        [lower, upper].concat()
    }

    /// Vectors of the elements of others in turn; their number is a power of two, no more than they have lanes.
    pub(in crate::schedule) fn interleave(&mut self, vectors: &[Reg]) -> Vec<Reg> {
        if !self.in_fours(self.b.ty(vectors[0]).lanes) {
            return self.zipped(vectors, [Shuffle::ZipLow, Shuffle::ZipHigh]);
        }
        let fours = self.zipped(vectors, [Shuffle::ZipLow4, Shuffle::ZipHigh4]);
        let mut all = vec![];
        for half in [Shuffle::LowHalves, Shuffle::HighHalves] {
            all.extend(fours.chunks_exact(2).map(|pair| self.shuffle(half, [pair[0], pair[1]])).collect::<Vec<_>>());
        }
        all
    }
}

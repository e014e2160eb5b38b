//! What a kernel touches, computes and merely moves, counted from its loops: the facts behind a roofline.
//!
//! Bounds of loops are constants, so the counts are exact, but for conditions on several variables (each taken as independent of the
//! others) and for reads whose place the data decides (each taken as another element, up to all of the buffer).

use super::ir::{Affine, BinaryOp, BufferId, Cond, Index, Kernel, Loop, Op, Reg, Stmt, UnaryOp, Var, for_each_set};

/// Counts of one call of a kernel.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Traffic {
    /// By buffer.
    pub buffers: Vec<Touched>,
    /// Floating-point multiplications of elements: multiply-adds and products; divisions and roots count as several.
    pub multiplications: f64,
    /// Those of them that are multiply-adds.
    pub multiply_adds: f64,
    /// Other floating-point operations on elements: sums, comparisons, choices, conversions.
    pub others: f64,
    /// Stores of values that come from memory or constants unchanged.
    pub moves: Vec<Move>,
    /// Bytes stored altogether.
    pub stored_bytes: f64,
}

/// What a kernel touches of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    /// Distinct elements that are read.
    pub read: usize,
    /// Distinct elements that are written.
    pub written: usize,
}

/// Elements that go from one buffer to another unchanged.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    /// Where they come from; none where they are constants.
    pub from: Option<BufferId>,
    /// Where they go.
    pub to: BufferId,
    /// How many bytes are stored.
    pub bytes: f64,
}

impl Traffic {
    /// Counts a kernel.
    pub fn of(kernel: &Kernel) -> Self {
        let mut counter = Counter {
            kernel,
            sources: sources(kernel),
            read: kernel.buffers.iter().map(|b| Marks::new(b.len)).collect(),
            written: kernel.buffers.iter().map(|b| Marks::new(b.len)).collect(),
            loops: vec![None; kernel.vars.len()],
            times: 1.0,
            traffic: Traffic::default(),
        };
        counter.block(&kernel.body);
        let marks = counter.read.iter().zip(&counter.written);
        let buffers = marks.map(|(read, written)| Touched { read: read.count(), written: written.count() }).collect();
        Traffic { buffers, ..counter.traffic }
    }

    /// Floating-point operations, a multiply-add counting as two.
    pub fn flops(&self) -> f64 {
        self.multiplications + self.multiply_adds + self.others
    }

    /// Bytes stored that were only moved.
    pub fn moved_bytes(&self) -> f64 {
        self.moves.iter().map(|m| m.bytes).sum()
    }

    /// Whether the kernel computes nothing.
    pub fn only_moves(&self) -> bool {
        self.stored_bytes > 0.0 && self.moved_bytes() >= self.stored_bytes
    }
}

/// Where the value of a register comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    /// Not set, or constants.
    Constant,
    /// Loaded from a buffer, perhaps with constants in some lanes.
    Memory(BufferId),
    /// The result of arithmetic.
    Computed,
}

impl Origin {
    fn join(self, other: Origin) -> Origin {
        match (self, other) {
            (Origin::Constant, o) | (o, Origin::Constant) => o,
            (Origin::Memory(a), Origin::Memory(_)) => Origin::Memory(a),
            _ => Origin::Computed,
        }
    }
}

/// The origin of every register, over all places that set it.
fn sources(kernel: &Kernel) -> Vec<Origin> {
    let mut origins = vec![Origin::Constant; kernel.regs.len()];
    loop {
        let before = origins.clone();
        for_each_set(&kernel.body, &mut |reg, op| {
            let origin = origin_of(op, &origins);
            let slot = &mut origins[reg.0 as usize];
            *slot = slot.join(origin);
        });
        if before == origins {
            return origins;
        }
    }
}

fn origin_of(op: &Op, origins: &[Origin]) -> Origin {
    let of = |r: &Reg| origins[r.0 as usize];
    match op {
        Op::Const(_) => Origin::Constant,
        Op::Load { buffer, .. } | Op::Gather { buffer, .. } => Origin::Memory(*buffer),
        Op::Copy(a) | Op::Splat(a) | Op::Lane(a, _) | Op::Bitcast(a) => of(a),
        Op::Pack(parts) => parts.iter().map(of).fold(Origin::Constant, Origin::join),
        Op::Select(_, a, b) | Op::Shuffle(_, a, b) => of(a).join(of(b)),
        _ => Origin::Computed,
    }
}

/// A set of elements, one bit each.
struct Marks {
    bits: Vec<u64>,
    len: usize,
}

impl Marks {
    fn new(len: usize) -> Self {
        Marks { bits: vec![0; len.div_ceil(64)], len }
    }

    fn set(&mut self, start: i64, n: i64) {
        let end = start.saturating_add(n).clamp(0, self.len as i64) as usize;
        let start = start.clamp(0, self.len as i64) as usize;
        if start >= end {
            return;
        }
        let (first, last) = (start / 64, (end - 1) / 64);
        let (head, tail) = (u64::MAX << (start % 64), u64::MAX >> (63 - (end - 1) % 64));
        if first == last {
            self.bits[first] |= head & tail;
            return;
        }
        self.bits[first] |= head;
        self.bits[first + 1..last].fill(u64::MAX);
        self.bits[last] |= tail;
    }

    fn count(&self) -> usize {
        self.bits.iter().map(|w| w.count_ones() as usize).sum()
    }
}

/// Runs of elements marked one by one, for one access; beyond, the whole span counts.
const MAX_RUNS: i64 = 1 << 17;
/// Assignments of variables that are tried to find how often a condition holds.
const MAX_TRIES: i64 = 1 << 14;

struct Counter<'a> {
    kernel: &'a Kernel,
    sources: Vec<Origin>,
    read: Vec<Marks>,
    written: Vec<Marks>,
    /// The open loops' first value, step and number of iterations.
    loops: Vec<Option<(i64, i64, i64)>>,
    /// How often the current statement runs.
    times: f64,
    traffic: Traffic,
}

impl Counter<'_> {
    fn block(&mut self, block: &[Stmt]) {
        for stmt in block {
            match stmt {
                Stmt::Loop(l) => self.looped(l),
                Stmt::Set { reg, op } => self.set(*reg, op),
                Stmt::Store { buffer, index, value } => self.store(*buffer, index, *value),
                Stmt::Prefetch { .. } => {}
                Stmt::If { cond, then, otherwise } => {
                    let (times, share) = (self.times, self.share(cond));
                    self.times = times * share;
                    self.block(then);
                    self.times = times * (1.0 - share);
                    self.block(otherwise);
                    self.times = times;
                }
            }
        }
    }

    fn looped(&mut self, l: &Loop) {
        let (times, trips) = (self.times, ((l.end - l.start) / l.step.max(1)).max(1));
        self.loops[l.var.0 as usize] = Some((l.start, l.step, trips));
        self.times *= trips as f64;
        self.block(&l.body);
        self.times = times;
        self.loops[l.var.0 as usize] = None;
    }

    fn set(&mut self, reg: Reg, op: &Op) {
        let ty = self.kernel.regs[reg.0 as usize];
        let n = self.times * f64::from(ty.lanes);
        if let Op::Load { buffer, index } | Op::Gather { buffer, index } = op {
            self.touch(*buffer, index, i64::from(ty.lanes), false);
        }
        let operand_is_float = |r: &Reg| self.kernel.regs[r.0 as usize].dtype.is_float();
        match op {
            Op::Fma(..) if ty.dtype.is_float() => {
                self.traffic.multiplications += n;
                self.traffic.multiply_adds += n;
            }
            Op::Binary(BinaryOp::Mul, ..) if ty.dtype.is_float() => self.traffic.multiplications += n,
            // A divider gives a vector in about as many cycles as eight multiplications take, on all CPUs of these levels.
            Op::Binary(BinaryOp::Div, ..) | Op::Unary(UnaryOp::Sqrt, _) if ty.dtype.is_float() => self.traffic.multiplications += 8.0 * n,
            Op::Binary(..) | Op::Unary(..) | Op::Select(..) | Op::Convert(_) if ty.dtype.is_float() => self.traffic.others += n,
            Op::Compare(_, a, _) if operand_is_float(a) => self.traffic.others += n,
            Op::Horizontal(_, a) if ty.dtype.is_float() => {
                self.traffic.others += self.times * f64::from(self.kernel.regs[a.0 as usize].lanes);
            }
            _ => {}
        }
    }

    fn store(&mut self, buffer: BufferId, index: &Index, value: Reg) {
        let lanes = self.kernel.regs[value.0 as usize].lanes;
        self.touch(buffer, index, i64::from(lanes), true);
        let bytes = self.times * f64::from(lanes) * self.kernel.buffers[buffer.0 as usize].dtype.size_bytes() as f64;
        self.traffic.stored_bytes += bytes;
        let from = match self.sources[value.0 as usize] {
            Origin::Computed => return,
            Origin::Constant => None,
            Origin::Memory(from) => Some(from),
        };
        match self.traffic.moves.iter_mut().find(|m| (m.from, m.to) == (from, buffer)) {
            Some(m) => m.bytes += bytes,
            None => self.traffic.moves.push(Move { from, to: buffer, bytes }),
        }
    }

    /// Marks the elements that an access reaches over the open loops.
    fn touch(&mut self, buffer: BufferId, index: &Index, lanes: i64, store: bool) {
        let marks = if store { &mut self.written } else { &mut self.read };
        let marks = &mut marks[buffer.0 as usize];
        if !index.dynamic.is_empty() {
            let n = (self.times * lanes as f64).ceil().min(marks.len as f64);
            marks.set(0, n as i64);
            return;
        }
        let mut start = index.affine.constant;
        let mut strides = vec![];
        for &(var, coefficient) in &index.affine.terms {
            let Some((first, step, trips)) = self.loops[var.0 as usize] else { continue };
            let stride = coefficient * step;
            start += coefficient * first + if stride < 0 { stride * (trips - 1) } else { 0 };
            if trips > 1 && stride != 0 {
                strides.push((stride.abs(), trips));
            }
        }
        strides.sort_unstable();
        let mut run = lanes;
        let mut gaps = vec![];
        for (stride, trips) in strides {
            if gaps.is_empty() && stride <= run {
                run += stride * (trips - 1);
            } else {
                gaps.push((stride, trips));
            }
        }
        // The outermost loops are made whole where there are too many runs to mark.
        while gaps.iter().map(|g| g.1).product::<i64>() > MAX_RUNS {
            let (stride, trips) = gaps.remove(0);
            run += stride * (trips - 1);
        }
        mark(marks, start, run, &gaps);
    }

    /// The share of cases in which a condition holds.
    fn share(&self, cond: &Cond) -> f64 {
        match cond {
            Cond::Reg(_) => 1.0,
            Cond::Within(parts) => parts.iter().map(|(affine, low, high)| self.share_within(affine, *low, *high)).product(),
        }
    }

    fn share_within(&self, affine: &Affine, low: i64, high: i64) -> f64 {
        let vars: Vec<(Var, (i64, i64, i64))> =
            affine.terms.iter().filter_map(|&(v, _)| self.loops[v.0 as usize].map(|l| (v, l))).collect();
        let cases = vars.iter().fold(1i64, |n, (_, l)| n.saturating_mul(l.2.max(1)));
        if cases > MAX_TRIES {
            return 1.0;
        }
        let holds = |mut case: i64| {
            let value = affine.value(|v| {
                let Some((_, (first, step, trips))) = vars.iter().find(|x| x.0 == v) else { return 0 };
                let i = case % trips;
                case /= trips;
                first + step * i
            });
            (low..high).contains(&value)
        };
        (0..cases).filter(|&case| holds(case)).count() as f64 / cases as f64
    }
}

fn mark(marks: &mut Marks, start: i64, run: i64, gaps: &[(i64, i64)]) {
    match gaps.split_last() {
        None => marks.set(start, run),
        Some((&(stride, trips), rest)) => (0..trips).for_each(|i| mark(marks, start + i * stride, run, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nest::parse;

    fn told(text: &str) -> String {
        let kernel = parse(text).expect("a kernel");
        let t = Traffic::of(&kernel);
        let buffers: Vec<String> =
            kernel.buffers.iter().zip(&t.buffers).map(|(b, t)| format!("{} {}+{}", b.name, t.read, t.written)).collect();
        let name = |b: BufferId| kernel.buffers[b.0 as usize].name.as_str();
        let moves: Vec<String> =
            t.moves.iter().map(|m| format!("{} -> {} {}", m.from.map_or("constant", name), name(m.to), m.bytes)).collect();
        format!(
            "{}; {} multiplications, {} multiply-adds, {} others; moves [{}] of {}",
            buffers.join(", "),
            t.multiplications,
            t.multiply_adds,
            t.others,
            moves.join(", "),
            t.stored_bytes
        )
    }

    #[test]
    fn contractions_touch_each_element_once() {
        let text = "kernel @k (x: f32[64] read, w: f32[80] read, y: f32[200] write) {
            for i in 0..4 {
              for j in 0..16 step 8 {
                %0: f32x8 = const 0.0
                for k in 0..5 {
                  %1: f32 = load x[8*i + k]
                  %2: f32x8 = splat %1
                  %3: f32x8 = load w[16*k + j]
                  %0: f32x8 = fma %2, %3, %0
                }
                store y[32*i + j], %0
              }
            }
        }";
        insta::assert_snapshot!(told(text), @"x 20+0, w 80+0, y 0+64; 320 multiplications, 320 multiply-adds, 0 others; moves [] of 256");
    }

    #[test]
    fn copies_are_moves_and_conditions_have_shares() {
        let text = "kernel @k (x: f32[16] read, y: f32[32] write) {
            for i in 0..8 {
              for j in 0..4 {
                %0: f32 = const 0.0
                if 2 <= i < 6 {
                  %0: f32 = load x[4*i + j - 8]
                }
                store y[4*i + j], %0
              }
            }
        }";
        insta::assert_snapshot!(told(text), @"x 16+0, y 0+32; 0 multiplications, 0 multiply-adds, 0 others; moves [x -> y 128] of 128");
        let text = "kernel @k (x: f32[4] read, y: f32[8] write) {
            for i in 0..4 {
              %0: f32 = load x[i]
              store y[2*i], %0
              %1: f32 = add %0, %0
              store y[2*i + 1], %1
            }
        }";
        insta::assert_snapshot!(told(text), @"x 4+0, y 0+8; 0 multiplications, 0 multiply-adds, 4 others; moves [x -> y 16] of 32");
    }

    #[test]
    fn reads_that_the_data_decides_count_one_by_one() {
        let text = "kernel @k (at: i64[3] read, x: f32[1000] read, y: f32[12] write) {
            for i in 0..3 {
              %0: i64 = load at[i]
              %1: i64 = check %0, 250
              %2: f32x4 = load x[4*%1]
              store y[4*i], %2
            }
        }";
        insta::assert_snapshot!(told(text), @"at 3+0, x 12+0, y 0+12; 0 multiplications, 0 multiply-adds, 0 others; moves [x -> y 48] of 48");
    }

    #[test]
    fn marks_are_counted_across_words() {
        let mut marks = Marks::new(200);
        marks.set(-5, 10);
        marks.set(60, 10);
        marks.set(63, 130);
        marks.set(190, 100);
        assert_eq!(marks.count(), 5 + 140);
    }
}

//! The loop form: structured loops over typed scalars, vectors and accumulators, with flat affine addressing.
//!
//! A [`Kernel`] is what the emitters compile and the interpreter runs. All loop bounds are constants, every address is
//! a flat element index that is affine in the loop variables plus optional checked or clamped registers, so that
//! [`super::verify`] can prove each access inside its buffer by interval arithmetic.
//! Registers are mutable: a register set before a loop and set again in its body is an accumulator.

use std::fmt;

use crate::tensor::DType;

/// One compiled function: buffers in, buffers out.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Kernel {
    /// Unique in its program; a symbol-safe name.
    pub name: String,
    /// The schedule as printed in the header: `contract(mr=5 nr=8)`.
    pub schedule: String,
    /// The buffers it may touch, in the order of its argument table.
    pub buffers: Vec<Buffer>,
    /// Names of loop variables and sizes, indexed by [`Var`].
    pub vars: Vec<String>,
    /// Numbers that a caller passes behind the buffers.
    pub sizes: Vec<SizeVar>,
    /// Register types, indexed by [`Reg`].
    pub regs: Vec<VecType>,
    /// The statements.
    pub body: Vec<Stmt>,
}

/// A contiguous piece of memory, addressed by element. Distinct buffers of a kernel never overlap, unless `alias` says so.
#[derive(Clone, PartialEq, Debug)]
pub struct Buffer {
    /// Name in text; unique in the kernel.
    pub name: String,
    /// Element type in memory (`bool` is one byte, 0 or 1).
    pub dtype: DType,
    /// Number of elements that may be touched: `0..len`.
    pub len: usize,
    /// What the kernel does with it.
    pub access: Access,
    /// Scratch of which every thread has a copy; each iteration of a parallel loop writes before it reads.
    pub private: bool,
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Only loads.
    Read,
    /// Stores (and loads of what it stored).
    Write,
    /// Loads and stores.
    ReadWrite,
}

/// A number that is known when the kernel runs, the same throughout it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeVar {
    /// Its name and identity.
    pub var: Var,
    /// The greatest value; the least is 0.
    pub high: i64,
    /// A size that it is never more than, if that is known.
    pub most: Option<Var>,
}

/// Index into [`Kernel::buffers`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BufferId(pub u32);

/// A loop variable; index into [`Kernel::vars`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Var(pub u32);

/// A register; index into [`Kernel::regs`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reg(pub u32);

/// Type of a register: `lanes` elements of one type; one lane is a scalar.
///
/// A `bool` register is a condition: 0 or 1 as a scalar, a lane mask (all bits of the compared lane's width) as a vector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VecType {
    /// Element type.
    pub dtype: DType,
    /// Number of lanes: 1, or a power of two.
    pub lanes: u32,
}

impl VecType {
    /// One lane.
    pub fn scalar(dtype: DType) -> Self {
        VecType { dtype, lanes: 1 }
    }

    /// The same lanes of another element type.
    pub fn with_dtype(self, dtype: DType) -> Self {
        VecType { dtype, lanes: self.lanes }
    }
}

impl fmt::Display for VecType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes == 1 { write!(f, "{}", self.dtype) } else { write!(f, "{}x{}", self.dtype, self.lanes) }
    }
}

/// `constant + sum(coefficient * variable)` over loop variables.
pub type Affine = crate::tensor::Affine<Var>;

/// A flat element index: an affine part plus registers (`i64` scalars) with strides. That of an [`Op::Gather`] has a register of as many
/// `i32` as the result has lanes behind them, with stride 1.
///
/// Only the affine part and what interval arithmetic knows of the registers ([`Op::Check`], [`BinaryOp::Min`] and
/// [`BinaryOp::Max`] with constants, [`Op::Index`]) count as proof that it is in range.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Index {
    /// The affine part.
    pub affine: Affine,
    /// Register and stride in elements.
    pub dynamic: Vec<(Reg, i64)>,
}

impl Index {
    /// Of an [`Op::Gather`]: the register that says where each lane is, and what is the same for all.
    pub fn spread(&self) -> Option<(Reg, Index)> {
        let (&(places, _), rest) = self.dynamic.split_last()?;
        Some((places, Index { affine: self.affine.clone(), dynamic: rest.to_vec() }))
    }
}

impl From<Affine> for Index {
    fn from(affine: Affine) -> Self {
        Index { affine, dynamic: vec![] }
    }
}

/// A statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// A counted loop.
    Loop(Loop),
    /// `reg = op`.
    Set {
        /// The register.
        reg: Reg,
        /// What it becomes.
        op: Op,
    },
    /// Stores all lanes of `value` to consecutive elements from `index`.
    Store {
        /// Destination.
        buffer: BufferId,
        /// First element.
        index: Index,
        /// A register of the buffer's element type.
        value: Reg,
    },
    /// Asks for the cache line of an element, for later: no access, without effect on results, and it may lie outside the buffer.
    Prefetch {
        /// What will be read.
        buffer: BufferId,
        /// The element.
        index: Affine,
    },
    /// A branch.
    If {
        /// The condition.
        cond: Cond,
        /// Statements where it holds.
        then: Vec<Stmt>,
        /// Statements where it does not.
        otherwise: Vec<Stmt>,
    },
}

/// `for var in start..end step step`; runs `(end - start) / step` times, which is whole and at least one.
///
/// Where it is [`Live`], it runs from and to numbers that are known when the kernel runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Loop {
    /// The variable; each belongs to one loop.
    pub var: Var,
    /// First value.
    pub start: i64,
    /// One past the last value.
    pub end: i64,
    /// Increment, at least one.
    pub step: i64,
    /// The part of `start..end` that runs.
    pub live: Option<Live>,
    /// Whether iterations are independent and may run on different threads.
    pub parallel: bool,
    /// The body.
    pub body: Vec<Stmt>,
}

/// The part of a loop that runs: `from..to`, `from` at most `to`, inside the loop's range and a whole number of steps. It may be empty,
/// so that such a loop stands alone in a branch where it is not, [`Loop::guard`], unless its iterations are handed out one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Live {
    /// First value, of sizes.
    pub from: Affine,
    /// One past the last value, of sizes.
    pub to: Affine,
}

impl Loop {
    /// The condition under which a live loop has iterations.
    pub fn guard(&self) -> Option<Cond> {
        let live = self.live.as_ref()?;
        Some(Cond::Within(vec![(live.to.plus(&live.from.times(-1)), 1, self.end - self.start + 1)]))
    }

    /// The values that the variable may have, where its first one is not known: all between.
    pub(super) fn spans(&self) -> (i64, i64, i64) {
        match &self.live {
            Some(live) if !live.from.is_constant() => (self.start, 1, self.end - self.step - self.start + 1),
            Some(live) => (live.from.constant, self.step, (self.end - live.from.constant) / self.step.max(1)),
            None => (self.start, self.step, (self.end - self.start) / self.step.max(1)),
        }
    }
}

/// The live loop that a statement guards.
pub fn guarded(stmt: &Stmt) -> Option<&Loop> {
    let Stmt::If { cond, then, otherwise } = stmt else { return None };
    match &then[..] {
        [Stmt::Loop(l)] if otherwise.is_empty() && l.guard().as_ref() == Some(cond) => Some(l),
        _ => None,
    }
}

/// A condition.
#[derive(Clone, PartialEq, Debug)]
pub enum Cond {
    /// All of `low <= affine < high`.
    Within(Vec<(Affine, i64, i64)>),
    /// A scalar `bool` register.
    Reg(Reg),
}

/// A constant of a register's element type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar {
    /// For floating-point types; exactly representable in them.
    Float(f64),
    /// For integers and `bool`.
    Int(i64),
}

/// What a register can be set to. Operands have the result's type unless said otherwise.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// The constant in every lane.
    Const(Scalar),
    /// An affine value, as an `i64` scalar.
    Index(Affine),
    /// Consecutive elements from `index`, as many as the result has lanes; the result has the buffer's element type.
    Load {
        /// Source.
        buffer: BufferId,
        /// First element.
        index: Index,
    },
    /// Single elements, as many as the result has lanes, which has the buffer's element type of 32 bits.
    Gather {
        /// Source.
        buffer: BufferId,
        /// Their places.
        index: Index,
    },
    /// A copy.
    Copy(Reg),
    /// A scalar in every lane.
    Splat(Reg),
    /// One lane of a vector, as a scalar.
    Lane(Reg, u32),
    /// Scalars as the lanes of a vector.
    Pack(Vec<Reg>),
    /// One operand.
    Unary(UnaryOp, Reg),
    /// Two operands. Shifts take the amount as a constant register.
    Binary(BinaryOp, Reg, Reg),
    /// `a * b + c`, rounded once where the target has fused multiply-add, twice elsewhere.
    Fma(Reg, Reg, Reg),
    /// A comparison of two registers of one type, giving `bool` with as many lanes. False if unordered, except `Ne`.
    Compare(CompareOp, Reg, Reg),
    /// `cond ? a : b`, lane by lane; `cond` is `bool` with as many lanes.
    Select(Reg, Reg, Reg),
    /// The value in another element type, lanes unchanged: floats round to nearest even, float to integer truncates and
    /// saturates (NaN is 0), integers wrap or extend by the source's sign, to `bool` is "not zero", from `bool` is 0 or 1.
    Convert(Reg),
    /// The bits in another element type of the same size; or four bytes or two `i16` as the lane of a 32-bit integer, and back, the
    /// first being the lowest.
    Bitcast(Reg),
    /// `c + sum(a * b)` over what each lane of `i32` has of the others: four bytes, `u8` and `i8`, or two `i16`; wraps.
    Dot(Reg, Reg, Reg),
    /// Lanes of two operands, as many as one has.
    Shuffle(Shuffle, Reg, Reg),
    /// All lanes combined, as a scalar: `Add`, `Mul`, `Min` or `Max`; lane `i` with lane `i + n/2`, until one is left.
    Horizontal(BinaryOp, Reg),
    /// An `i64` scalar, or every lane of `i32` or `i64`, that is proved to be in `0..end`: outside it the kernel stops with status "index
    /// out of range".
    Check(Reg, i64),
}

/// Operators of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnaryOp {
    /// `-a`.
    Neg,
    /// `|a|`.
    Abs,
    /// Square root, correctly rounded.
    Sqrt,
    /// Round toward minus infinity.
    Floor,
    /// Round toward plus infinity.
    Ceil,
    /// Round toward zero.
    Trunc,
    /// Round to nearest, ties to even.
    Round,
    /// Bitwise complement; of `bool`, logical.
    Not,
}

/// Operators of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BinaryOp {
    /// `a + b`; integers wrap.
    Add,
    /// `a - b`; integers wrap.
    Sub,
    /// `a * b`; integers wrap.
    Mul,
    /// `a / b`; integers truncate, and division by zero gives 0 (minimum / -1 wraps).
    Div,
    /// Integer remainder with the sign of `a`; by zero gives 0.
    Rem,
    /// `a < b ? a : b`: the second operand where either is NaN.
    Min,
    /// `a > b ? a : b`: the second operand where either is NaN.
    Max,
    /// Bitwise and; of `bool`, logical.
    And,
    /// Bitwise or; of `bool`, logical.
    Or,
    /// Bitwise exclusive or; of `bool`, logical.
    Xor,
    /// Shift left.
    Shl,
    /// Shift right: arithmetic for signed types, logical for unsigned.
    Shr,
}

/// Which lanes of two operands, those of the second behind those of the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shuffle {
    /// Those of the lower halves, in turn.
    ZipLow,
    /// Those of the upper halves, in turn.
    ZipHigh,
    /// Those of even number.
    Even,
    /// Those of odd number.
    Odd,
    /// Of every four, the lower two in turn.
    ZipLow4,
    /// Of every four, the upper two in turn.
    ZipHigh4,
    /// The lower halves, one behind the other.
    LowHalves,
    /// The upper halves, one behind the other.
    HighHalves,
    /// All of the first but its first, and the first of the second.
    Next,
    /// The last of the first, and all of the second but its last.
    Previous,
}

impl Shuffle {
    /// All of them.
    pub const ALL: [Shuffle; 10] = [
        Shuffle::ZipLow,
        Shuffle::ZipHigh,
        Shuffle::Even,
        Shuffle::Odd,
        Shuffle::ZipLow4,
        Shuffle::ZipHigh4,
        Shuffle::LowHalves,
        Shuffle::HighHalves,
        Shuffle::Next,
        Shuffle::Previous,
    ];

    /// Its name in text.
    pub fn name(self) -> &'static str {
        match self {
            Shuffle::ZipLow => "zip_low",
            Shuffle::ZipHigh => "zip_high",
            Shuffle::Even => "even",
            Shuffle::Odd => "odd",
            Shuffle::ZipLow4 => "zip_low4",
            Shuffle::ZipHigh4 => "zip_high4",
            Shuffle::LowHalves => "low_halves",
            Shuffle::HighHalves => "high_halves",
            Shuffle::Next => "next",
            Shuffle::Previous => "previous",
        }
    }

    /// Where lane `i` comes from, of operands of `n` lanes each.
    pub fn source(self, i: u32, n: u32) -> u32 {
        let four = n.min(4);
        match self {
            Shuffle::ZipLow => i / 2 + i % 2 * n,
            Shuffle::ZipHigh => n / 2 + i / 2 + i % 2 * n,
            Shuffle::Even => 2 * i,
            Shuffle::Odd => 2 * i + 1,
            Shuffle::ZipLow4 => i / four * four + i % four / 2 + i % 2 * n,
            Shuffle::ZipHigh4 => i / four * four + four / 2 + i % four / 2 + i % 2 * n,
            Shuffle::LowHalves => i % (n / 2) + i / (n / 2) * n,
            Shuffle::HighHalves => n / 2 + i % (n / 2) + i / (n / 2) * n,
            Shuffle::Next => i + 1,
            Shuffle::Previous => n - 1 + i,
        }
    }
}

/// Comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names are the relations")]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// The loops of the statements, in the order of the text.
pub fn loops(body: &[Stmt]) -> Vec<&Loop> {
    fn walk<'k>(body: &'k [Stmt], found: &mut Vec<&'k Loop>) {
        for stmt in body {
            match stmt {
                Stmt::Loop(l) => {
                    found.push(l);
                    walk(&l.body, found);
                }
                Stmt::If { then, otherwise, .. } => {
                    walk(then, found);
                    walk(otherwise, found);
                }
                Stmt::Set { .. } | Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
            }
        }
    }
    let mut found = vec![];
    walk(body, &mut found);
    found
}

/// The live ones among them.
pub fn live_loops(body: &[Stmt]) -> Vec<(&Loop, &Live)> {
    loops(body).into_iter().filter_map(|l| Some((l, l.live.as_ref()?))).collect()
}

/// Calls `f` with every operation of the statements and the register that it sets, in the order of the text.
pub fn for_each_set(body: &[Stmt], f: &mut impl FnMut(Reg, &Op)) {
    for stmt in body {
        match stmt {
            Stmt::Loop(l) => for_each_set(&l.body, f),
            Stmt::If { then, otherwise, .. } => {
                for_each_set(then, f);
                for_each_set(otherwise, f);
            }
            Stmt::Set { reg, op } => f(*reg, op),
            Stmt::Store { .. } | Stmt::Prefetch { .. } => {}
        }
    }
}

/// Calls `f` with the buffer and the index of every load and store, and whether it stores, in the order of the text.
pub fn for_each_access(body: &[Stmt], f: &mut impl FnMut(BufferId, &Index, bool)) {
    for stmt in body {
        match stmt {
            Stmt::Loop(l) => for_each_access(&l.body, f),
            Stmt::If { then, otherwise, .. } => {
                for_each_access(then, f);
                for_each_access(otherwise, f);
            }
            Stmt::Set { op: Op::Load { buffer, index } | Op::Gather { buffer, index }, .. } => f(*buffer, index, false),
            Stmt::Store { buffer, index, .. } => f(*buffer, index, true),
            Stmt::Set { .. } | Stmt::Prefetch { .. } => {}
        }
    }
}

/// Calls `f` with every register that `op` reads.
pub fn for_each_operand(op: &Op, mut f: impl FnMut(Reg)) {
    match op {
        Op::Const(_) | Op::Index(_) => {}
        Op::Load { index, .. } | Op::Gather { index, .. } => index.dynamic.iter().for_each(|d| f(d.0)),
        Op::Copy(a)
        | Op::Splat(a)
        | Op::Lane(a, _)
        | Op::Unary(_, a)
        | Op::Convert(a)
        | Op::Bitcast(a)
        | Op::Horizontal(_, a)
        | Op::Check(a, _) => f(*a),
        Op::Pack(regs) => regs.iter().copied().for_each(f),
        Op::Binary(_, a, b) | Op::Compare(_, a, b) | Op::Shuffle(_, a, b) => [*a, *b].into_iter().for_each(f),
        Op::Fma(a, b, c) | Op::Select(a, b, c) | Op::Dot(a, b, c) => [*a, *b, *c].into_iter().for_each(f),
    }
}

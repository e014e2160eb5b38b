//! The interpreter of kernels: what compiled code must do, slowly.
//!
//! A kernel is first turned into steps whose operations are plain functions on bits. Registers are lanes of 64 bits,
//! elements zero-extended; a `bool` lane is 0 or 1. `f16` and `bf16` compute in `f32` and round after each operation.
//! [`Op::Horizontal`] combines lane `i` with lane `i + n/2` until one is left.

use thiserror::Error;

use super::ir::{Affine, BinaryOp, Cond, Index, Kernel, Op, Reg, Scalar, Stmt};
use super::scalar::{self, Binary, Unary};
use super::verify::{VerifyError, verify_structure};
use crate::tensor::DType;

/// Why a kernel stopped.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum EvalError {
    /// The kernel does not verify; this is its first problem.
    #[error("not a valid kernel: {0}")]
    Invalid(VerifyError),
    /// The buffers are not those of the kernel.
    #[error("buffer {buffer} of kernel {kernel} takes {expected} bytes, got {found:?}")]
    Buffer {
        /// Name of the kernel.
        kernel: String,
        /// Position of the buffer.
        buffer: usize,
        /// Bytes that the kernel's header asks for; 0 for a buffer it does not have.
        expected: usize,
        /// Bytes given, if any.
        found: Option<usize>,
    },
    /// A size is more than the one that bounds it.
    #[error("size `{size}` is {value}, and at most {most} is said of it")]
    Size {
        /// Its name.
        size: String,
        /// Its value.
        value: i64,
        /// The value of the other.
        most: i64,
    },
    /// An access outside a buffer: [`super::verify`] would have refused the kernel.
    #[error("access of {lanes} elements at {index} of buffer `{buffer}`, which has {len}")]
    OutOfBounds {
        /// Name of the buffer.
        buffer: String,
        /// First element.
        index: i64,
        /// Number of elements.
        lanes: usize,
        /// Elements of the buffer.
        len: usize,
    },
    /// An [`Op::Check`] failed: compiled code returns status "index out of range".
    #[error("index {index} is out of range 0..{end}")]
    IndexOutOfRange {
        /// The value.
        index: i64,
        /// One past the last allowed value.
        end: i64,
    },
}

/// Runs the kernel on the raw little-endian bytes of its buffers, with fused multiply-adds.
pub fn eval(kernel: &Kernel, buffers: &mut [Vec<u8>]) -> Result<(), EvalError> {
    eval_with(kernel, buffers, true)
}

/// [`eval`], where `fused` says whether [`Op::Fma`] rounds once or twice. Sizes have their greatest values.
pub fn eval_with(kernel: &Kernel, buffers: &mut [Vec<u8>], fused: bool) -> Result<(), EvalError> {
    let sizes: Vec<i64> = kernel.sizes.iter().map(|s| s.high).collect();
    eval_sized(kernel, buffers, &sizes, fused)
}

/// [`eval_with`], for the sizes of one run.
pub fn eval_sized(kernel: &Kernel, buffers: &mut [Vec<u8>], sizes: &[i64], fused: bool) -> Result<(), EvalError> {
    if let Some(error) = verify_structure(kernel).into_iter().next() {
        return Err(EvalError::Invalid(error));
    }
    for i in 0..kernel.buffers.len().max(buffers.len()) {
        let expected = kernel.buffers.get(i).and_then(|b| b.len.checked_mul(b.dtype.size_bytes()));
        let found = buffers.get(i).map(|b| b.len());
        if expected.is_none() || expected != found {
            return Err(EvalError::Buffer { kernel: kernel.name.clone(), buffer: i, expected: expected.unwrap_or(0), found });
        }
    }
    let mut places = vec![];
    let mut n_lanes = 0;
    for ty in &kernel.regs {
        places.push(n_lanes);
        n_lanes += ty.lanes as usize;
    }
    let compiler = Compiler { kernel, places, fused };
    let steps = compiler.block(&kernel.body);
    let mut vars = vec![0; kernel.vars.len()];
    kernel.sizes.iter().zip(sizes).for_each(|(s, &value)| vars[s.var.0 as usize] = value);
    for s in &kernel.sizes {
        let at = |v: super::ir::Var| vars[v.0 as usize];
        if let Some(most) = s.most.map(at).filter(|&most| at(s.var) > most) {
            return Err(EvalError::Size { size: kernel.vars[s.var.0 as usize].clone(), value: at(s.var), most });
        }
    }
    Machine { kernel, lanes: vec![0; n_lanes], vars, buffers }.run(&steps)
}

/// A register: its first lane in [`Machine::lanes`].
type Place = usize;

/// [`Index`] with registers as places.
struct Address {
    affine: Affine,
    dynamic: Vec<(Place, i64)>,
}

enum Step {
    Loop {
        var: usize,
        from: Affine,
        to: Affine,
        step: i64,
        body: Vec<Step>,
    },
    If {
        cond: Test,
        then: Vec<Step>,
        otherwise: Vec<Step>,
    },
    Fill {
        to: Place,
        n: usize,
        bits: u64,
    },
    Index {
        to: Place,
        affine: Affine,
    },
    Load {
        to: Place,
        n: usize,
        buffer: usize,
        at: Address,
        size: usize,
        is_bool: bool,
    },
    Gather {
        to: Place,
        n: usize,
        buffer: usize,
        at: Address,
        places: Place,
    },
    Store {
        from: Place,
        n: usize,
        buffer: usize,
        at: Address,
        size: usize,
    },
    Copy {
        to: Place,
        n: usize,
        from: Place,
    },
    Splat {
        to: Place,
        n: usize,
        from: Place,
    },
    Pack {
        to: Place,
        from: Vec<Place>,
    },
    Shuffle {
        to: Place,
        from: Vec<Place>,
    },
    Unary {
        to: Place,
        n: usize,
        a: Place,
        f: Unary,
    },
    Binary {
        to: Place,
        n: usize,
        a: Place,
        b: Place,
        f: Binary,
    },
    Fma {
        to: Place,
        n: usize,
        a: Place,
        b: Place,
        c: Place,
        f: scalar::Ternary,
    },
    /// `each` lanes of the factors in one of the sums.
    Dot {
        to: Place,
        n: usize,
        each: usize,
        c: Place,
        a: Place,
        b: Place,
    },
    Join {
        to: Place,
        n: usize,
        each: usize,
        from: Place,
    },
    Part {
        to: Place,
        n: usize,
        each: usize,
        from: Place,
    },
    Select {
        to: Place,
        n: usize,
        cond: Place,
        a: Place,
        b: Place,
    },
    Horizontal {
        to: Place,
        n: usize,
        a: Place,
        f: Binary,
    },
    Check {
        to: Place,
        n: usize,
        a: Place,
        is_narrow: bool,
        end: i64,
    },
}

enum Test {
    Within(Vec<(Affine, i64, i64)>),
    Reg(Place),
}

struct Compiler<'a> {
    kernel: &'a Kernel,
    places: Vec<Place>,
    fused: bool,
}

impl Compiler<'_> {
    fn at(&self, r: Reg) -> Place {
        self.places[r.0 as usize]
    }

    fn dtype(&self, r: Reg) -> DType {
        self.kernel.regs[r.0 as usize].dtype
    }

    fn n(&self, r: Reg) -> usize {
        self.kernel.regs[r.0 as usize].lanes as usize
    }

    fn address(&self, index: &Index) -> Address {
        Address { affine: index.affine.clone(), dynamic: index.dynamic.iter().map(|&(r, k)| (self.at(r), k)).collect() }
    }

    fn block(&self, body: &[Stmt]) -> Vec<Step> {
        body.iter().filter_map(|s| self.step(s)).collect()
    }

    fn step(&self, s: &Stmt) -> Option<Step> {
        Some(match s {
            Stmt::Prefetch { .. } => return None,
            Stmt::Loop(l) => {
                let (from, to) = match &l.live {
                    Some(live) => (live.from.clone(), live.to.clone()),
                    None => (Affine::constant(l.start), Affine::constant(l.end)),
                };
                Step::Loop { var: l.var.0 as usize, from, to, step: l.step, body: self.block(&l.body) }
            }
            Stmt::If { cond, then, otherwise } => {
                let cond = match cond {
                    Cond::Within(ranges) => Test::Within(ranges.clone()),
                    Cond::Reg(r) => Test::Reg(self.at(*r)),
                };
                Step::If { cond, then: self.block(then), otherwise: self.block(otherwise) }
            }
            Stmt::Store { buffer, index, value } => Step::Store {
                from: self.at(*value),
                n: self.n(*value),
                buffer: buffer.0 as usize,
                at: self.address(index),
                size: self.dtype(*value).size_bytes(),
            },
            Stmt::Set { reg, op } => self.set(*reg, op),
        })
    }

    fn set(&self, reg: Reg, op: &Op) -> Step {
        let (to, n, dtype) = (self.at(reg), self.n(reg), self.dtype(reg));
        match op {
            Op::Const(Scalar::Float(x)) => Step::Fill { to, n, bits: scalar::from_f64(*x, dtype) },
            Op::Const(Scalar::Int(x)) => Step::Fill { to, n, bits: scalar::from_int((*x).into(), dtype) },
            Op::Index(a) => Step::Index { to, affine: a.clone() },
            Op::Load { buffer, index } => Step::Load {
                to,
                n,
                buffer: buffer.0 as usize,
                at: self.address(index),
                size: dtype.size_bytes(),
                is_bool: dtype == DType::Bool,
            },
            Op::Gather { buffer, index } => {
                let (places, rest) = index.spread().expect("the verifier has seen the places");
                Step::Gather { to, n, buffer: buffer.0 as usize, at: self.address(&rest), places: self.at(places) }
            }
            Op::Copy(a) => Step::Copy { to, n, from: self.at(*a) },
            Op::Splat(a) => Step::Splat { to, n, from: self.at(*a) },
            Op::Lane(a, lane) => Step::Copy { to, n, from: self.at(*a) + *lane as usize },
            Op::Pack(regs) => Step::Pack { to, from: regs.iter().map(|&r| self.at(r)).collect() },
            Op::Unary(op, a) => Step::Unary { to, n, a: self.at(*a), f: scalar::unary(*op, dtype) },
            Op::Binary(op, a, b) => Step::Binary { to, n, a: self.at(*a), b: self.at(*b), f: scalar::binary(*op, dtype) },
            Op::Fma(a, b, c) => {
                Step::Fma { to, n, a: self.at(*a), b: self.at(*b), c: self.at(*c), f: scalar::multiply_add(dtype, self.fused) }
            }
            Op::Compare(op, a, b) => Step::Binary { to, n, a: self.at(*a), b: self.at(*b), f: scalar::compare(*op, self.dtype(*a)) },
            Op::Select(c, a, b) => Step::Select { to, n, cond: self.at(*c), a: self.at(*a), b: self.at(*b) },
            Op::Convert(a) => Step::Unary { to, n, a: self.at(*a), f: scalar::convert(self.dtype(*a), dtype) },
            Op::Bitcast(a) if self.n(*a) > n => Step::Join { to, n, each: self.n(*a) / n, from: self.at(*a) },
            Op::Bitcast(a) if self.n(*a) < n => Step::Part { to, n, each: n / self.n(*a), from: self.at(*a) },
            Op::Bitcast(a) => Step::Copy { to, n, from: self.at(*a) },
            Op::Dot(c, a, b) => Step::Dot { to, n, each: self.n(*a) / n, c: self.at(*c), a: self.at(*a), b: self.at(*b) },
            Op::Shuffle(order, a, b) => {
                let lane = |i: usize| match order.source(i as u32, n as u32) as usize {
                    i if i < n => self.at(*a) + i,
                    i => self.at(*b) + i - n,
                };
                Step::Shuffle { to, from: (0..n).map(lane).collect() }
            }
            Op::Horizontal(op, a) => Step::Horizontal { to, n: self.n(*a), a: self.at(*a), f: scalar::binary(known(*op), dtype) },
            Op::Check(a, end) => Step::Check { to, n, a: self.at(*a), is_narrow: dtype == DType::I32, end: *end },
        }
    }
}

/// Only these four combine lanes; the verifier has refused the others.
fn known(op: BinaryOp) -> BinaryOp {
    debug_assert!(matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Min | BinaryOp::Max));
    op
}

struct Machine<'a> {
    kernel: &'a Kernel,
    lanes: Vec<u64>,
    vars: Vec<i64>,
    buffers: &'a mut [Vec<u8>],
}

impl Machine<'_> {
    fn affine(&self, a: &Affine) -> i64 {
        a.terms.iter().fold(a.constant, |sum, &(v, c)| sum.wrapping_add(c.wrapping_mul(self.vars[v.0 as usize])))
    }

    /// The bytes of `n` elements from the address.
    fn range(&self, buffer: usize, at: &Address, n: usize, size: usize) -> Result<std::ops::Range<usize>, EvalError> {
        let affine = self.affine(&at.affine);
        let index = at.dynamic.iter().fold(affine, |sum, &(r, k)| sum.wrapping_add(k.wrapping_mul(self.lanes[r] as i64)));
        let b = &self.kernel.buffers[buffer];
        match usize::try_from(index) {
            Ok(first) if first.checked_add(n).is_some_and(|end| end <= b.len) => Ok(first * size..(first + n) * size),
            _ => Err(EvalError::OutOfBounds { buffer: b.name.clone(), index, lanes: n, len: b.len }),
        }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), EvalError> {
        for s in steps {
            self.step(s)?;
        }
        Ok(())
    }

    fn step(&mut self, s: &Step) -> Result<(), EvalError> {
        match s {
            Step::Loop { var, from, to, step, body } => {
                let (mut i, end) = (self.affine(from), self.affine(to));
                while i < end {
                    self.vars[*var] = i;
                    self.run(body)?;
                    i = i.saturating_add(*step);
                }
            }
            Step::If { cond, then, otherwise } => {
                let holds = match cond {
                    Test::Within(ranges) => ranges.iter().all(|(a, low, high)| (*low..*high).contains(&self.affine(a))),
                    Test::Reg(r) => self.lanes[*r] != 0,
                };
                self.run(if holds { then } else { otherwise })?;
            }
            Step::Fill { to, n, bits } => self.lanes[*to..to + n].fill(*bits),
            Step::Index { to, affine } => self.lanes[*to] = self.affine(affine) as u64,
            Step::Load { to, n, buffer, at, size, is_bool } => {
                let range = self.range(*buffer, at, *n, *size)?;
                let bytes = &self.buffers[*buffer][range];
                let lanes = &mut self.lanes[*to..to + n];
                match size {
                    1 if *is_bool => lanes.iter_mut().zip(bytes).for_each(|(l, &b)| *l = (b != 0).into()),
                    1 => lanes.iter_mut().zip(bytes).for_each(|(l, &b)| *l = b.into()),
                    2 => lanes.iter_mut().zip(bytes.as_chunks().0).for_each(|(l, &b)| *l = u16::from_le_bytes(b).into()),
                    4 => lanes.iter_mut().zip(bytes.as_chunks().0).for_each(|(l, &b)| *l = u32::from_le_bytes(b).into()),
                    _ => lanes.iter_mut().zip(bytes.as_chunks().0).for_each(|(l, &b)| *l = u64::from_le_bytes(b)),
                }
            }
            Step::Gather { to, n, buffer, at, places } => {
                let first = self.affine(&at.affine);
                for lane in 0..*n {
                    let place = i64::from(self.lanes[places + lane] as i32);
                    let affine = Affine::constant(first.wrapping_add(place));
                    let range = self.range(*buffer, &Address { affine, dynamic: at.dynamic.clone() }, 1, 4)?;
                    let bytes = self.buffers[*buffer][range].try_into().expect("four bytes");
                    self.lanes[to + lane] = u32::from_le_bytes(bytes).into();
                }
            }
            Step::Store { from, n, buffer, at, size } => {
                let range = self.range(*buffer, at, *n, *size)?;
                let bytes = &mut self.buffers[*buffer][range];
                for (bytes, lane) in bytes.chunks_exact_mut(*size).zip(&self.lanes[*from..from + n]) {
                    bytes.copy_from_slice(&lane.to_le_bytes()[..*size]);
                }
            }
            Step::Copy { to, n, from } => self.lanes.copy_within(*from..from + n, *to),
            Step::Splat { to, n, from } => {
                let bits = self.lanes[*from];
                self.lanes[*to..to + n].fill(bits);
            }
            Step::Pack { to, from } => {
                for (i, r) in from.iter().enumerate() {
                    self.lanes[to + i] = self.lanes[*r];
                }
            }
            Step::Shuffle { to, from } => {
                let lanes: Vec<u64> = from.iter().map(|&lane| self.lanes[lane]).collect();
                self.lanes[*to..to + lanes.len()].copy_from_slice(&lanes);
            }
            Step::Unary { to, n, a, f } => (0..*n).for_each(|i| self.lanes[to + i] = f(self.lanes[a + i])),
            Step::Binary { to, n, a, b, f } => (0..*n).for_each(|i| self.lanes[to + i] = f(self.lanes[a + i], self.lanes[b + i])),
            Step::Fma { to, n, a, b, c, f } => {
                (0..*n).for_each(|i| self.lanes[to + i] = f(self.lanes[a + i], self.lanes[b + i], self.lanes[c + i]));
            }
            Step::Dot { to, n, each, c, a, b } => {
                for i in 0..*n {
                    let lanes = |x: usize| self.lanes[x + each * i..x + each * (i + 1)].iter();
                    let product = |(&a, &b): (&u64, &u64)| match each {
                        2 => i32::from(a as i16) * i32::from(b as i16),
                        _ => i32::from(a as u8) * i32::from(b as i8),
                    };
                    let sum = lanes(*a).zip(lanes(*b)).map(product).fold(self.lanes[c + i] as i32, i32::wrapping_add);
                    self.lanes[to + i] = u64::from(sum as u32);
                }
            }
            Step::Join { to, n, each, from } => {
                for i in 0..*n {
                    let parts = self.lanes[from + each * i..][..*each].iter().rev();
                    self.lanes[to + i] = parts.fold(0, |word, part| word << (32 / each) | part);
                }
            }
            Step::Part { to, n, each, from } => {
                let bits = 32 / each;
                (0..*n).for_each(|i| self.lanes[to + i] = self.lanes[from + i / each] >> (bits * (i % each)) & ((1 << bits) - 1));
            }
            Step::Select { to, n, cond, a, b } => {
                (0..*n).for_each(|i| self.lanes[to + i] = self.lanes[if self.lanes[cond + i] != 0 { a + i } else { b + i }]);
            }
            Step::Horizontal { to, n, a, f } => {
                let mut lanes = self.lanes[*a..a + n].to_vec();
                while lanes.len() > 1 {
                    let upper = lanes.split_off(lanes.len() / 2);
                    lanes.iter_mut().zip(upper).for_each(|(l, u)| *l = f(*l, u));
                }
                self.lanes[*to] = lanes[0];
            }
            Step::Check { to, n, a, is_narrow, end } => {
                for &lane in &self.lanes[*a..a + n] {
                    let index = if *is_narrow { i64::from(lane as i32) } else { lane as i64 };
                    if !(0..*end).contains(&index) {
                        return Err(EvalError::IndexOutOfRange { index, end: *end });
                    }
                }
                self.lanes.copy_within(*a..a + n, *to);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::{Pod, cast_slice, pod_read_unaligned};

    use super::super::parse;
    use super::EvalError;
    use crate::codegen::testing::{eval, eval_sized, eval_with};

    fn bytes<T: Pod>(x: &[T]) -> Vec<u8> {
        cast_slice(x).to_vec()
    }

    /// What `op`, on registers `%0`, `%1` and `%2` loaded from `x`, stores.
    fn run<A: Pod, B: Pod>(from: &str, to: &str, op: &str, x: [&[A]; 3]) -> Vec<B> {
        let n = x[0].len();
        let (size, mut text) =
            (size_of::<B>(), format!("kernel @t (a: {from}[{n}] read, b: {from}[{n}] read, c: {from}[{n}] read, y: {to}[{n}] write) {{\n"));
        text += &format!("for i in 0..{n} {{ %0: {from} = load a[i] %1: {from} = load b[i] %2: {from} = load c[i]\n");
        text += &format!("%3: {to} = {op}\n store y[i], %3 }} }}");
        let mut buffers = vec![bytes(x[0]), bytes(x[1]), bytes(x[2]), vec![0; n * size]];
        let kernel = parse(&text).unwrap();
        assert_eq!(super::super::verify(&kernel), []);
        eval(&kernel, &mut buffers).unwrap();
        buffers[3].chunks_exact(size).map(pod_read_unaligned).collect()
    }

    fn run2<A: Pod, B: Pod>(from: &str, to: &str, op: &str, a: &[A], b: &[A]) -> Vec<B> {
        run(from, to, op, [a, b, a])
    }

    fn run1<A: Pod, B: Pod>(from: &str, to: &str, op: &str, a: &[A]) -> Vec<B> {
        run(from, to, op, [a, a, a])
    }

    const NAN: f32 = f32::NAN;

    #[test]
    fn min_and_max_give_the_second_where_either_is_nan() {
        let (a, b) = ([NAN, 1.0, NAN, 0.0, -0.0, 2.0], [1.0, NAN, NAN, -0.0, 0.0, 3.0]);
        let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(run2("f32", "f32", "min %0, %1", &a, &b)), bits(vec![1.0, NAN, NAN, -0.0, 0.0, 2.0]));
        assert_eq!(bits(run2("f32", "f32", "max %0, %1", &a, &b)), bits(vec![1.0, NAN, NAN, -0.0, 0.0, 3.0]));
    }

    #[test]
    fn comparisons_with_nan_are_false_except_ne() {
        let (a, b) = ([NAN, 1.0, 1.0], [1.0, NAN, 1.0]);
        for (op, expected) in
            [("eq", [0, 0, 1]), ("ne", [1, 1, 0]), ("lt", [0, 0, 0]), ("le", [0, 0, 1]), ("gt", [0, 0, 0]), ("ge", [0, 0, 1])]
        {
            assert_eq!(run2::<f32, u8>("f32", "bool", &format!("{op} %0, %1"), &a, &b), expected, "{op}");
        }
    }

    #[test]
    fn float_to_integer_truncates_and_saturates() {
        let x = [NAN, f32::INFINITY, f32::NEG_INFINITY, -1.9, 1.9, 300.0, -129.0, 3e9];
        assert_eq!(run1::<_, i8>("f32", "i8", "convert %0", &x), [0, 127, -128, -1, 1, 127, -128, 127]);
        assert_eq!(run1::<_, u8>("f32", "u8", "convert %0", &x), [0, 255, 0, 0, 1, 255, 0, 255]);
        assert_eq!(run1::<_, i32>("f32", "i32", "convert %0", &x), [0, i32::MAX, i32::MIN, -1, 1, 300, -129, i32::MAX]);
        assert_eq!(run1::<_, u32>("f32", "u32", "convert %0", &x), [0, u32::MAX, 0, 0, 1, 300, 0, 3_000_000_000]);
        assert_eq!(run1::<_, i64>("f32", "i64", "convert %0", &x), [0, i64::MAX, i64::MIN, -1, 1, 300, -129, 3_000_000_000]);
        assert_eq!(run1::<_, u8>("f32", "bool", "convert %0", &[NAN, 0.0, -0.0, 0.1]), [1, 0, 0, 1]);
    }

    #[test]
    fn integers_convert_by_wrapping_extending_and_rounding() {
        assert_eq!(run1::<i64, i32>("i64", "i32", "convert %0", &[1 << 32 | 5, -1]), [5, -1]);
        assert_eq!(run1::<i8, u32>("i8", "u32", "convert %0", &[-1]), [u32::MAX]);
        assert_eq!(run1::<u8, i64>("u8", "i64", "convert %0", &[255]), [255]);
        assert_eq!(run1::<u64, f32>("u64", "f32", "convert %0", &[u64::MAX]), [18446744073709551616.0]);
        // A tie that rounding to f64 first would lose.
        assert_eq!(run1::<i64, f32>("i64", "f32", "convert %0", &[(1 << 60) + (1 << 36) + 1]), [((1i64 << 60) + (1 << 37)) as f32]);
        assert_eq!(run1::<u8, f32>("bool", "f32", "convert %0", &[0, 1]), [0.0, 1.0]);
        assert_eq!(run1::<i64, u8>("i64", "bool", "convert %0", &[1 << 40, 0]), [1, 0]);
        assert_eq!(run1::<f32, u32>("f32", "u32", "bitcast %0", &[-0.0, 1.0]), [0x8000_0000, 0x3f80_0000]);
    }

    #[test]
    fn integer_division_never_traps() {
        let (a, b) = ([7, -7, 7, 5, i32::MIN], [2, 2, -2, 0, -1]);
        assert_eq!(run2::<_, i32>("i32", "i32", "div %0, %1", &a, &b), [3, -3, -3, 0, i32::MIN]);
        assert_eq!(run2::<_, i32>("i32", "i32", "rem %0, %1", &a, &b), [1, -1, 1, 0, 0]);
        assert_eq!(run2::<_, f32>("f32", "f32", "div %0, %1", &[1.0f32, -1.0], &[0.0, 0.0]), [f32::INFINITY, f32::NEG_INFINITY]);
        assert_eq!(run2::<_, i32>("i32", "i32", "add %0, %1", &[i32::MAX], &[1]), [i32::MIN]);
        assert_eq!(run2::<_, u8>("u8", "u8", "mul %0, %1", &[20u8], &[13]), [4]);
        assert_eq!(run1::<_, i8>("i8", "i8", "abs %0", &[i8::MIN, -3]), [i8::MIN, 3]);
    }

    #[test]
    fn dot_products_are_of_unsigned_and_signed_bytes() {
        let text = "kernel @t (x: u8[8] read, w: i8[8] read, y: i32[3] readwrite) {
            %0: u8x8 = load x[0]
            %1: i8x8 = load w[0]
            %2: i32x2 = load y[0]
            %2: i32x2 = dot %2, %0, %1
            store y[0], %2
            %3: u8x4 = load x[4]
            %4: i32 = bitcast %3
            store y[2], %4
        }";
        let kernel = parse(text).unwrap();
        assert_eq!(crate::nest::verify(&kernel), []);
        assert_eq!(parse(&kernel.to_string()).unwrap(), kernel);
        let mut buffers =
            vec![bytes(&[255u8, 255, 255, 255, 1, 2, 3, 4]), bytes(&[-128i8, -128, 127, 1, 1, -1, 2, 0]), bytes(&[10i32, 20, 0])];
        eval(&kernel, &mut buffers).unwrap();
        assert_eq!(cast_slice::<u8, i32>(&buffers[2]), [10 - 128 * 255, 25, 0x0403_0201]);
    }

    #[test]
    fn rounding_ties_to_even() {
        let x = [0.5f32, 1.5, 2.5, -0.5, -1.5, 1e10];
        assert_eq!(run1::<_, f32>("f32", "f32", "round %0", &x), [0.0, 2.0, 2.0, -0.0, -2.0, 1e10]);
        assert_eq!(run1::<_, f32>("f32", "f32", "floor %0", &x), [0.0, 1.0, 2.0, -1.0, -2.0, 1e10]);
        assert_eq!(run1::<_, f32>("f32", "f32", "ceil %0", &x), [1.0, 2.0, 3.0, -0.0, -1.0, 1e10]);
        assert_eq!(run1::<_, f32>("f32", "f32", "trunc %0", &x), [0.0, 1.0, 2.0, 0.0, -1.0, 1e10]);
    }

    #[test]
    fn fma_rounds_once_or_twice() {
        let kernel = parse(
            "kernel @t (x: f32[1] read, y: f32[1] write) {
               %0: f32 = load x[0]
               %1: f32 = const -1.0
               %2: f32 = fma %0, %0, %1
               store y[0], %2
             }",
        )
        .unwrap();
        let x = 1.0f32 + f32::EPSILON;
        for (fused, expected) in [(true, x.mul_add(x, -1.0)), (false, x * x - 1.0)] {
            let mut buffers = [bytes(&[x]), vec![0; 4]];
            eval_with(&kernel, &mut buffers, fused).unwrap();
            assert_eq!(buffers[1], bytes(&[expected]));
        }
    }

    #[test]
    fn lanes_move_and_combine() {
        let kernel = parse(
            "kernel @t (x: i32[4] read, y: i32[16] write) {
               %0: i32x4 = load x[0]
               %1: i32 = horizontal add %0
               %2: i32 = horizontal mul %0
               %3: i32 = horizontal min %0
               %4: i32 = horizontal max %0
               %5: i32x4 = pack %1, %2, %3, %4
               store y[0], %5
               %6: i32 = lane %0, 2
               %7: i32x4 = splat %6
               store y[4], %7
               %8: boolx4 = lt %0, %7
               %9: i32x4 = select %8, %0, %7
               store y[8], %9
               %10: boolx4 = not %8
               %11: i32x4 = convert %10
               store y[12], %11
             }",
        )
        .unwrap();
        let mut buffers = [bytes(&[1, -5, 7, 9]), vec![0; 64]];
        eval(&kernel, &mut buffers).unwrap();
        let y: Vec<i32> = buffers[1].chunks_exact(4).map(pod_read_unaligned).collect();
        assert_eq!(y, [12, -315, -5, 9, 7, 7, 7, 7, 1, -5, 7, 7, 0, 0, 1, 1]);
    }

    #[test]
    fn accumulators_branches_and_dynamic_addresses() {
        let kernel = parse(
            "kernel @t (x: f32[6] read, at: i64[2] read, y: f32[2] write) {
               for i in 0..2 {
                 %0: f32 = const 0.0
                 for j in 0..3 {
                   if 1 <= 2*i + j < 4 {
                     %1: i64 = load at[i]
                     %2: i64 = check %1, 4
                     %3: f32 = load x[j + %2]
                     %0: f32 = add %0, %3
                   } else {
                     %0: f32 = neg %0
                   }
                 }
                 store y[i], %0
               }
             }",
        )
        .unwrap();
        let mut buffers = [bytes(&[1f32, 2.0, 4.0, 8.0, 16.0, 32.0]), bytes(&[1i64, 3]), vec![0; 8]];
        eval(&kernel, &mut buffers).unwrap();
        assert_eq!(buffers[2], bytes(&[12f32, -24.0]));
        buffers[1] = bytes(&[0i64, -1]);
        assert_eq!(eval(&kernel, &mut buffers), Err(EvalError::IndexOutOfRange { index: -1, end: 4 }));
    }

    #[test]
    fn gathers_read_where_each_lane_says() {
        let text = "kernel @t (x: f32[12] read, at: i64[4] read, y: f32[8] write) {
            for i in 0..2 {
              %0: i64x4 = load at[0]
              %1: i64x4 = check %0, 5
              %2: i32x4 = convert %1
              %3: i64 = index i
              %4: f32x4 = gather x[4*i + 3*%3 + %2]
              store y[4*i], %4
            }
        }";
        let kernel = parse(text).unwrap();
        assert_eq!(crate::nest::verify(&kernel), []);
        assert_eq!(parse(&kernel.to_string()).unwrap(), kernel);
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let run = |at: [i64; 4]| {
            let mut buffers = vec![bytes(&x), bytes(&at), vec![0; 32]];
            eval(&kernel, &mut buffers).map(|()| buffers.remove(2))
        };
        assert_eq!(run([4, 0, 1, 0]), Ok(bytes(&[4f32, 0.0, 1.0, 0.0, 11.0, 7.0, 8.0, 7.0])));
        for lane in 0..4 {
            for index in [5, -1, i64::MIN, 1 << 32] {
                let mut at = [0; 4];
                at[lane] = index;
                assert_eq!(run(at), Err(EvalError::IndexOutOfRange { index, end: 5 }));
            }
        }
    }

    #[test]
    fn a_size_is_no_more_than_the_one_that_bounds_it() {
        let kernel = parse("kernel @t (x: u8[1] write) sizes n <= 9, m <= min(8, n) { %0: u8 = const 1 store x[0], %0 }").unwrap();
        let run = |sizes| eval_sized(&kernel, &mut [vec![0]], sizes, true);
        assert_eq!(run(&[4, 4]), Ok(()));
        assert_eq!(run(&[3, 4]), Err(EvalError::Size { size: "m".to_owned(), value: 4, most: 3 }));
    }

    #[test]
    fn what_verification_would_refuse_is_an_error() {
        let kernel = parse("kernel @t (y: i32[4] write) { for i in 0..4 { %0: i32x4 = const 1 store y[i], %0 } }").unwrap();
        let out = EvalError::OutOfBounds { buffer: "y".into(), index: 1, lanes: 4, len: 4 };
        assert_eq!(eval(&kernel, &mut [vec![0; 16]]), Err(out));
        let message = "buffer 0 of kernel t takes 16 bytes, got Some(15)";
        assert_eq!(eval(&kernel, &mut [vec![0; 15]]).unwrap_err().to_string(), message);
        assert!(matches!(eval(&kernel, &mut []), Err(EvalError::Buffer { found: None, .. })));
        assert!(matches!(eval(&kernel, &mut [vec![0; 16], vec![]]), Err(EvalError::Buffer { buffer: 1, .. })));
        let kernel = parse("kernel @t () { %0: f32 = const 1.0 %1: f32 = not %0 }").unwrap();
        assert_eq!(
            eval(&kernel, &mut []).unwrap_err().to_string(),
            "not a valid kernel: `not` does not apply to f32, in `%1: f32 = not %0`"
        );
    }
}

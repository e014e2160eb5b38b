//! The interpreter of [`Program`]s: the oracle of what `lower` says, beside the operators' own `eval`.
//!
//! Every operation rounds to its type; functions are those of `f64`, rounded. Sums and products over reduction axes are
//! kept in `f64` and rounded once at the end, so they are closer to the exact value than compiled code is. Integers wrap.
//! Both branches of a select, and padding, are computed: a checked index that is out of range stops the program even if
//! its value would not have been chosen. A clamped one of an axis without elements finds nothing, which only stops the program
//! if what it computes is made of it.

use std::collections::HashMap;

use super::scalar::{self, Word};
use super::verify::{VerifyError, verify};
use super::{Affine, BinaryOp, Body, CompareOp, Const, Expr, Item, Ix, Node, Program, ReduceOp, Stage, TensorId, UnaryOp, Var};
use crate::tensor::{DType, Tensor, n_elements, row_major_strides};

/// Why a program has no value.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum EvalError {
    /// The program breaks a rule; the first one.
    #[error(transparent)]
    Malformed(#[from] VerifyError),
    /// The operands are not those that the program declares.
    #[error("{0}")]
    Operands(String),
    /// Some extent or number is known only when the program runs.
    #[error("`%{0}` has an extent or a value that only a run knows")]
    Sized(String),
    /// An index that data gave is outside of its axis.
    #[error("index {index} of `%{tensor}` is out of range for extent {extent} of axis {axis}")]
    IndexOutOfRange {
        /// Name of the tensor.
        tensor: String,
        /// The axis.
        axis: usize,
        /// The index.
        index: i64,
        /// The extent.
        extent: usize,
    },
    /// An element is read, or part of a result, that nothing wrote.
    #[error("element {offset} of `%{tensor}` has no value")]
    Unwritten {
        /// Name of the tensor.
        tensor: String,
        /// Row-major position.
        offset: usize,
    },
}

/// The results of a program.
pub fn eval(program: &Program, operands: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    if let Some(error) = verify(program).into_iter().next() {
        return Err(error.into());
    }
    if operands.len() != program.operands.len() {
        return Err(EvalError::Operands(format!("{} operands instead of {}", operands.len(), program.operands.len())));
    }
    if let Some(t) = sized(&program.items) {
        return Err(EvalError::Sized(program.tensor(t).name.clone()));
    }
    let mut m = Machine { program, buffers: program.tensors.iter().map(|_| Buffer::default()).collect(), loops: HashMap::new() };
    for (&t, value) in program.operands.iter().zip(operands) {
        let decl = program.tensor(t);
        if (decl.dtype, &decl.dims[..]) != (value.dtype(), value.dims()) {
            let message = format!("`%{}` is declared {}{:?}, its value is {}", decl.name, decl.dtype, decl.dims, value.ty());
            return Err(EvalError::Operands(message));
        }
        m.buffers[t.0 as usize] = Buffer::of(value);
    }
    for (t, value) in &program.constants {
        m.buffers[t.0 as usize] = Buffer::of(value);
    }
    m.items(&program.items)?;
    program.results.iter().map(|&t| m.tensor(t)).collect()
}

/// A tensor that a stage computes over something that only a run knows.
fn sized(items: &[Item]) -> Option<TensorId> {
    items.iter().find_map(|item| match item {
        Item::Stage(s) => {
            let mut found = s.bounds.iter().any(Option::is_some);
            s.expressions()
                .into_iter()
                .for_each(|e| e.visit(&mut |e| found |= matches!(e.node(), Node::Size(s) if s.constant().is_none())));
            found.then_some(s.out)
        }
        Item::Reshape { .. } => None,
        Item::Repeat { items, .. } => sized(items),
    })
}

/// Values of a tensor; `written` is empty where all are.
#[derive(Clone, Default)]
struct Buffer {
    words: Vec<Word>,
    written: Vec<bool>,
}

impl Buffer {
    fn of(t: &Tensor) -> Self {
        let words = match t.dtype() {
            d if d.is_float() => t.to_f64s().into_iter().map(f64::to_bits).collect(),
            _ => t.to_ints().into_iter().map(|x| x as u64).collect(),
        };
        Buffer { words, written: vec![] }
    }
}

struct Machine<'a> {
    program: &'a Program,
    buffers: Vec<Buffer>,
    loops: HashMap<u32, i64>,
}

/// `base + sum(stride * axis)`, loops already added.
#[derive(Clone, Debug)]
struct Form {
    base: i64,
    strides: Vec<(usize, i64)>,
}

impl Form {
    fn at(&self, axes: &[i64]) -> i64 {
        self.strides.iter().fold(self.base, |sum, &(axis, stride)| sum + stride * axes[axis])
    }
}

/// An index of a load whose place depends on data, or that may be outside.
#[derive(Debug)]
enum Place {
    Affine(Form),
    Checked(usize),
    Clamped(usize),
}

/// One operation; its result has the number of its position, and operands are numbers of earlier ones.
#[derive(Debug)]
enum Step {
    Const(Word),
    Index(Form),
    Load(TensorId, Form),
    Find { tensor: TensorId, places: Vec<Place>, pad: Option<usize> },
    Unary(UnaryOp, usize),
    Binary(BinaryOp, usize, usize),
    Compare(CompareOp, DType, usize, usize),
    Select(usize, usize, usize),
    Cast(DType, usize),
    Bits(DType, usize),
    Acc,
}

/// An expression in order of computation.
#[derive(Default)]
struct Tape {
    steps: Vec<(Step, DType)>,
    values: Vec<Word>,
    known: HashMap<*const Node, usize>,
}

impl Tape {
    /// What the last step is made of, for the values that were computed, of those that found nothing: steps, tensors and axes.
    fn made_of(&self, nothing: &[(usize, TensorId, usize)]) -> Option<(TensorId, usize)> {
        let first = nothing.first()?.0;
        let mut found = vec![None; self.steps.len()];
        for i in first..self.steps.len() {
            let of = |&j: &usize| found[j];
            found[i] = match &self.steps[i].0 {
                _ if let Some(&(_, tensor, axis)) = nothing.iter().find(|n| n.0 == i) => Some((tensor, axis)),
                Step::Const(_) | Step::Index(_) | Step::Load(..) | Step::Acc => None,
                Step::Find { places, pad, .. } => {
                    let data = |p: &Place| if let Place::Checked(e) | Place::Clamped(e) = p { Some(*e) } else { None };
                    places.iter().filter_map(data).chain(*pad).find_map(|j| of(&j))
                }
                Step::Unary(_, a) | Step::Cast(_, a) | Step::Bits(_, a) => of(a),
                Step::Binary(_, a, b) | Step::Compare(.., a, b) => of(a).or(of(b)),
                Step::Select(c, a, b) => of(c).or(of(if self.values[*c] != 0 { a } else { b })),
            };
        }
        found.last().copied().flatten()
    }
}

impl Machine<'_> {
    fn items(&mut self, items: &[Item]) -> Result<(), EvalError> {
        for item in items {
            match item {
                Item::Stage(stage) => self.stage(stage)?,
                Item::Reshape { out, input } => self.buffers[out.0 as usize] = self.buffers[input.0 as usize].clone(),
                Item::Repeat { var, extent, items, .. } => {
                    for i in 0..*extent {
                        self.loops.insert(*var, i as i64);
                        self.items(items)?;
                    }
                    self.loops.remove(var);
                }
            }
        }
        Ok(())
    }

    fn tensor(&self, t: TensorId) -> Result<Tensor, EvalError> {
        let (decl, buffer) = (self.program.tensor(t), &self.buffers[t.0 as usize]);
        let n = n_elements(&decl.dims);
        let unwritten = if buffer.words.len() == n { buffer.written.iter().position(|w| !w) } else { Some(0) };
        if let Some(offset) = unwritten {
            return Err(EvalError::Unwritten { tensor: decl.name.clone(), offset });
        }
        Ok(if decl.dtype.is_float() {
            Tensor::from_f64s(decl.dtype, &decl.dims, &buffer.words.iter().map(|&w| f64::from_bits(w)).collect::<Vec<_>>())
        } else {
            let wide = |w: Word| if decl.dtype == DType::U64 { i128::from(w) } else { i128::from(w as i64) };
            Tensor::from_ints(decl.dtype, &decl.dims, &buffer.words.iter().map(|&w| wide(w)).collect::<Vec<_>>())
        })
    }

    fn form(&self, a: &Affine) -> Form {
        let mut form = Form { base: a.constant, strides: vec![] };
        for &(v, c) in &a.terms {
            match v {
                Var::Loop(l) => form.base += c * self.loops[&l],
                Var::Axis(i) => form.strides.push((i as usize, c)),
            }
        }
        form
    }

    fn flat(&self, t: TensorId, index: impl Iterator<Item = Affine>) -> Form {
        let strides = row_major_strides(&self.program.tensor(t).dims);
        self.form(&index.zip(strides).fold(Affine::default(), |sum, (a, s)| sum.plus(&a.times(s as i64))))
    }

    fn compile(&self, e: &Expr, tape: &mut Tape) -> usize {
        let key: *const Node = e.node();
        if let Some(&known) = tape.known.get(&key) {
            return known;
        }
        let step = match e.node() {
            Node::Const(Const::Float(x)) => Step::Const(x.to_bits()),
            Node::Const(Const::Int(x)) => Step::Const(scalar::int(e.dtype(), *x)),
            Node::Index(a) => Step::Index(self.form(a)),
            Node::Size(s) => Step::Const(scalar::int(DType::I64, s.constant().expect("others are refused before"))),
            Node::Acc => Step::Acc,
            Node::Load { tensor, index, pad } => {
                if pad.is_none() && index.iter().all(|ix| matches!(ix, Ix::Affine(_))) {
                    let affine = index.iter().filter_map(|ix| if let Ix::Affine(a) = ix { Some(a.clone()) } else { None });
                    Step::Load(*tensor, self.flat(*tensor, affine))
                } else {
                    let mut places = vec![];
                    for ix in index {
                        places.push(match ix {
                            Ix::Affine(a) => Place::Affine(self.form(a)),
                            Ix::Checked(e) => Place::Checked(self.compile(e, tape)),
                            Ix::Clamped(e) => Place::Clamped(self.compile(e, tape)),
                        });
                    }
                    let pad = pad.as_ref().map(|p| self.compile(p, tape));
                    Step::Find { tensor: *tensor, places, pad }
                }
            }
            Node::Unary(op, a) => Step::Unary(*op, self.compile(a, tape)),
            Node::Binary(op, a, b) => Step::Binary(*op, self.compile(a, tape), self.compile(b, tape)),
            Node::Compare(op, a, b) => Step::Compare(*op, a.dtype(), self.compile(a, tape), self.compile(b, tape)),
            Node::Select(c, a, b) => Step::Select(self.compile(c, tape), self.compile(a, tape), self.compile(b, tape)),
            Node::Cast(a) => Step::Cast(a.dtype(), self.compile(a, tape)),
            Node::Bits(a) => Step::Bits(a.dtype(), self.compile(a, tape)),
        };
        tape.steps.push((step, e.dtype()));
        tape.values.push(0);
        tape.known.insert(key, tape.steps.len() - 1);
        tape.steps.len() - 1
    }

    fn tape(&self, e: &Expr) -> Tape {
        let mut tape = Tape::default();
        self.compile(e, &mut tape);
        tape
    }

    /// The value of the last step.
    fn run(&self, tape: &mut Tape, axes: &[i64], acc: Word) -> Result<Word, EvalError> {
        let mut nothing = vec![];
        for i in 0..tape.steps.len() {
            let (step, dtype) = &tape.steps[i];
            let v = &tape.values;
            tape.values[i] = match step {
                Step::Const(w) => *w,
                Step::Index(form) => form.at(axes) as u64,
                Step::Load(t, form) => self.read(*t, form.at(axes) as usize)?,
                Step::Find { tensor, places, pad } => match self.without_elements(*tensor, places, pad.is_some()) {
                    Some(axis) => {
                        nothing.push((i, *tensor, axis));
                        0
                    }
                    None => self.find(*tensor, places, pad.map(|p| v[p]), v, axes)?,
                },
                Step::Unary(op, a) => scalar::unary(*op, *dtype, v[*a]),
                Step::Binary(op, a, b) => scalar::binary(*op, *dtype, v[*a], v[*b]),
                Step::Compare(op, of, a, b) => scalar::compare(*op, *of, v[*a], v[*b]).into(),
                Step::Select(c, a, b) => v[if v[*c] != 0 { *a } else { *b }],
                Step::Cast(from, a) => scalar::cast(*from, *dtype, v[*a]),
                Step::Bits(from, a) => scalar::bits(*from, *dtype, v[*a]),
                Step::Acc => acc,
            };
        }
        if let Some((tensor, axis)) = tape.made_of(&nothing) {
            return Err(EvalError::IndexOutOfRange { tensor: self.program.tensor(tensor).name.clone(), axis, index: 0, extent: 0 });
        }
        Ok(tape.values.last().copied().unwrap_or(0))
    }

    /// The axis without elements along which a place is clamped; a checked place may stop the program first.
    fn without_elements(&self, t: TensorId, places: &[Place], padded: bool) -> Option<usize> {
        let axis = places.iter().zip(&self.program.tensor(t).dims).position(|(p, &n)| n == 0 && matches!(p, Place::Clamped(_)))?;
        (padded || !places.iter().any(|p| matches!(p, Place::Checked(_)))).then_some(axis)
    }

    fn read(&self, t: TensorId, offset: usize) -> Result<Word, EvalError> {
        let buffer = &self.buffers[t.0 as usize];
        match buffer.words.get(offset) {
            Some(&w) if buffer.written.get(offset).copied().unwrap_or(true) => Ok(w),
            _ => Err(EvalError::Unwritten { tensor: self.program.tensor(t).name.clone(), offset }),
        }
    }

    fn find(&self, t: TensorId, places: &[Place], pad: Option<Word>, v: &[Word], axes: &[i64]) -> Result<Word, EvalError> {
        let decl = self.program.tensor(t);
        let mut offset = 0;
        for (axis, (place, &extent)) in places.iter().zip(&decl.dims).enumerate() {
            let index = match place {
                Place::Affine(form) => form.at(axes),
                Place::Checked(e) => v[*e] as i64,
                Place::Clamped(e) => (v[*e] as i64).clamp(0, (extent as i64 - 1).max(0)),
            };
            if index < 0 || index >= extent as i64 {
                return pad.ok_or_else(|| EvalError::IndexOutOfRange { tensor: decl.name.clone(), axis, index, extent });
            }
            offset = offset * extent + index as usize;
        }
        self.read(t, offset)
    }

    fn scatter(&mut self, stage: &Stage, when: Option<&Expr>, places: &[(usize, Expr)], value: &Expr) -> Result<(), EvalError> {
        let decl = self.program.tensor(stage.out);
        let (strides, write) = (row_major_strides(&decl.dims), self.flat(stage.out, stage.write.iter().cloned()));
        let mut when = when.map(|e| self.tape(e));
        let mut tapes: Vec<(usize, Tape)> = places.iter().map(|(axis, e)| (*axis, self.tape(e))).collect();
        let mut value = self.tape(value);
        let reads = value.steps.iter().any(|s| matches!(s.0, Step::Acc));
        let mut axes = vec![0; stage.axes.len()];
        for _ in 0..n_elements(&stage.axes) {
            let left_out = when.as_mut().map(|tape| self.run(tape, &axes, 0)).transpose()? == Some(0);
            if !left_out {
                let mut offset = write.at(&axes) as usize;
                for (axis, tape) in &mut tapes {
                    let (axis, index, extent) = (*axis, self.run(tape, &axes, 0)? as i64, decl.dims[*axis]);
                    if index < 0 || index >= extent as i64 {
                        return Err(EvalError::IndexOutOfRange { tensor: decl.name.clone(), axis, index, extent });
                    }
                    offset += index as usize * strides[axis];
                }
                let old = if reads { self.read(stage.out, offset)? } else { 0 };
                let new = self.run(&mut value, &axes, old)?;
                let buffer = &mut self.buffers[stage.out.0 as usize];
                buffer.words[offset] = new;
                if let Some(written) = buffer.written.get_mut(offset) {
                    *written = true;
                }
            }
            advance(&mut axes, &stage.axes);
        }
        Ok(())
    }

    fn stage(&mut self, stage: &Stage) -> Result<(), EvalError> {
        let n = n_elements(&self.program.tensor(stage.out).dims);
        let buffer = &mut self.buffers[stage.out.0 as usize];
        if buffer.words.len() != n {
            *buffer = Buffer { words: vec![0; n], written: vec![false; n] };
        }
        if let Body::Scatter { when, places, value } = &stage.body {
            return self.scatter(stage, when.as_ref(), places, value);
        }
        let write = self.flat(stage.out, stage.write.iter().cloned());
        let mut tapes: Vec<Tape> = stage.expressions().into_iter().map(|e| self.tape(e)).collect();
        let dtype = stage.expressions()[0].dtype();
        let (outer, inner) = (stage.axes.len(), n_elements(&stage.reduce));
        let extents = [&stage.axes[..], &stage.reduce].concat();
        let mut axes = vec![0; extents.len()];
        let mut out = Vec::new();
        for _ in 0..n_elements(&stage.axes) {
            let value = match &stage.body {
                Body::Map(_) => self.run(&mut tapes[0], &axes, 0)?,
                Body::Reduce { op, .. } => {
                    let mut acc = Accumulator::new(*op, dtype);
                    for _ in 0..inner {
                        let x = self.run(&mut tapes[0], &axes, 0)?;
                        acc.add(x);
                        advance(&mut axes[outer..], &extents[outer..]);
                    }
                    let acc = acc.finish();
                    self.run(&mut tapes[1], &axes, acc)?
                }
                Body::Arg { op, last, .. } => {
                    let mut best = (0, 0);
                    for i in 0..inner {
                        let x = self.run(&mut tapes[0], &axes, 0)?;
                        let better = if *op == ReduceOp::Max { CompareOp::Gt } else { CompareOp::Lt };
                        if i == 0 || scalar::compare(better, dtype, x, best.1) || *last && scalar::compare(CompareOp::Eq, dtype, x, best.1)
                        {
                            best = (i as u64, x);
                        }
                        advance(&mut axes[outer..], &extents[outer..]);
                    }
                    best.0
                }
                Body::Scatter { .. } => unreachable!("returned above"),
            };
            out.push((write.at(&axes) as usize, value));
            advance(&mut axes[..outer], &extents[..outer]);
        }
        let buffer = &mut self.buffers[stage.out.0 as usize];
        for (offset, value) in out {
            buffer.words[offset] = value;
            if let Some(written) = buffer.written.get_mut(offset) {
                *written = true;
            }
        }
        Ok(())
    }
}

/// The next index, row-major; the first one after the last.
fn advance(index: &mut [i64], extents: &[usize]) {
    for axis in (0..index.len()).rev() {
        index[axis] += 1;
        if index[axis] < extents[axis] as i64 {
            return;
        }
        index[axis] = 0;
    }
}

/// A reduction on its way: sums and products of floats in `f64`.
struct Accumulator {
    op: BinaryOp,
    dtype: DType,
    wide: DType,
    value: Word,
}

impl Accumulator {
    fn new(op: ReduceOp, dtype: DType) -> Self {
        let wide = if dtype.is_float() { DType::F64 } else { dtype };
        let least = if dtype.is_signed() { i64::MIN >> (64 - dtype.bits()) } else { 0 };
        let greatest = scalar::int(dtype, if dtype.is_signed() { i64::MAX >> (64 - dtype.bits()) } else { -1 });
        let float = dtype.is_float();
        let (op, value) = match op {
            ReduceOp::Sum => (BinaryOp::Add, 0),
            ReduceOp::Prod => (BinaryOp::Mul, if float { 1f64.to_bits() } else { 1 }),
            ReduceOp::Max => (BinaryOp::Max, if float { f64::NEG_INFINITY.to_bits() } else { least as u64 }),
            ReduceOp::Min => (BinaryOp::Min, if float { f64::INFINITY.to_bits() } else { greatest }),
        };
        Accumulator { op, dtype, wide, value }
    }

    fn add(&mut self, x: Word) {
        self.value = scalar::binary(self.op, self.wide, self.value, x);
    }

    fn finish(self) -> Word {
        if self.dtype.is_float() { scalar::float(self.dtype, f64::from_bits(self.value)) } else { self.value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Builder;

    fn floats(dims: &[usize], x: &[f32]) -> Tensor {
        Tensor::from_slice(dims, x)
    }

    #[test]
    fn what_an_axis_without_elements_gives_may_be_dropped() {
        let value = |dropped: bool| {
            let mut b = Builder::new();
            let (x, y) = (b.operand("x", DType::F32, &[0]), b.operand("y", DType::F32, &[2]));
            let z = b.compute(&[2], |b, at| {
                let nothing = b.load(x, [Ix::Clamped(Expr::index(&at[0]))]) + 1.0;
                let is_first = Expr::index(&at[0]).compare(CompareOp::Lt, &Expr::int(DType::I64, if dropped { 0 } else { 1 }));
                is_first.select(&nothing, &b.load(y, at))
            });
            eval(&b.finish(&[z]), &[floats(&[0], &[]), floats(&[2], &[3.0, 4.0])])
        };
        assert_eq!(value(true).unwrap(), [floats(&[2], &[3.0, 4.0])]);
        assert!(matches!(value(false), Err(EvalError::IndexOutOfRange { extent: 0, .. })));
    }

    #[test]
    fn a_product_with_an_epilogue() {
        let mut b = Builder::new();
        let (x, w) = (b.operand("a", DType::F32, &[2, 3]), b.operand("b", DType::F32, &[3, 2]));
        b.set_name("y");
        let y = b.reduce(
            ReduceOp::Sum,
            &[2, 2],
            &[3],
            |b, at, over| b.load(x, [&at[0], &over[0]]) * b.load(w, [&over[0], &at[1]]),
            |_, _, acc| acc.max_nan(&acc.like(0.0)),
        );
        let program = b.finish(&[y]);
        insta::assert_snapshot!(program, @r"
        program(%a: f32[2,3], %b: f32[3,2]) -> (%y) {
          %y[i0,i1] = reduce sum over r0 in 0..3: %a[i0,r0] * %b[r0,i1] -> max(0, acc) : f32[2,2]
        }
        ");
        let y = eval(&program, &[floats(&[2, 3], &[1., 2., 3., -4., -5., -6.]), floats(&[3, 2], &[1., 2., 3., 4., 5., 6.])]).unwrap();
        assert_eq!(y, [floats(&[2, 2], &[22., 28., 0., 0.])]);
    }

    #[test]
    fn padding_and_indices_from_data() {
        let mut b = Builder::new();
        let (x, i) = (b.operand("x", DType::F32, &[3]), b.operand("i", DType::I64, &[3]));
        let y = b.compute(&[5], |b, at| b.load_padded(x, [at[0].offset(-1)], Expr::constant(DType::F32, 9.0)));
        let z = b.compute(&[3], |b, at| b.load(x, [Ix::Clamped(b.load(i, at))]));
        let w = b.compute(&[3], |b, at| b.load(x, [Ix::Checked(b.load(i, at))]));
        let program = b.finish(&[y, z, w]);
        insta::assert_snapshot!(program, @r"
        program(%x: f32[3], %i: i64[3]) -> (%t, %t.1, %t.2) {
          %t[i0] = %x[i0-1] else 9 : f32[5]
          %t.1[i0] = %x[clamp(%i[i0])] : f32[3]
          %t.2[i0] = %x[check(%i[i0])] : f32[3]
        }
        ");
        let x = floats(&[3], &[1., 2., 3.]);
        let results = eval(&program, &[x.clone(), Tensor::from_slice(&[3], &[2i64, 0, 1])]).unwrap();
        assert_eq!(results, [floats(&[5], &[9., 1., 2., 3., 9.]), floats(&[3], &[3., 1., 2.]), floats(&[3], &[3., 1., 2.])]);
        let error = eval(&program, &[x, Tensor::from_slice(&[3], &[2i64, -1, 1])]).unwrap_err();
        assert_eq!(error.to_string(), "index -1 of `%x` is out of range for extent 3 of axis 0");
    }

    #[test]
    fn a_loop_reads_what_it_wrote() {
        let mut b = Builder::new();
        let x = b.operand("x", DType::I32, &[4, 2]);
        let sum = b.declare(DType::I32, &[5, 2]);
        b.write(sum, &[2], |_, at| (vec![Affine::default(), at[0].clone()], Expr::int(DType::I32, 0)));
        b.repeat(4, |b, t| {
            b.write(sum, &[2], |b, at| (vec![t.offset(1), at[0].clone()], b.load(sum, [&t, &at[0]]) + b.load(x, [&t, &at[0]])));
        });
        let last = b.compute(&[2], |b, at| b.load(sum, [Affine::constant(4), at[0].clone()]));
        let program = b.finish(&[last]);
        insta::assert_snapshot!(program, @r"
        program(%x: i32[4,2]) -> (%t.1) {
          %t[0,i0] for i0 in 0..2 = 0i32 : i32[5,2]
          repeat l0 in 0..4 {
            %t[l0+1,i0] for i0 in 0..2 = %t[l0,i0] + %x[l0,i0] : i32[5,2]
          }
          %t.1[i0] = %t[4,i0] : i32[2]
        }
        ");
        let x = Tensor::from_slice(&[4, 2], &[1, 2, 3, 4, 5, 6, 7, i32::MAX]);
        assert_eq!(eval(&program, &[x]).unwrap(), [Tensor::from_slice(&[2], &[16, 12i32.wrapping_add(i32::MAX)])]);
    }

    #[test]
    fn positions_and_shared_parts() {
        let mut b = Builder::new();
        let x = b.operand("x", DType::F32, &[1, 4]);
        let first = b.arg(ReduceOp::Max, false, &[1], 4, |b, at, r| b.load(x, [&at[0], r]));
        let last = b.arg(ReduceOp::Max, true, &[1], 4, |b, at, r| b.load(x, [&at[0], r]));
        let y = b.compute(&[1, 4], |b, at| {
            let e = b.load(x, at) + 1.0;
            e.compare(CompareOp::Lt, &e.like(3.0)).select(&(&e * &e), &e.unary(UnaryOp::Neg))
        });
        let program = b.finish(&[first, last, y]);
        insta::assert_snapshot!(program, @r"
        program(%x: f32[1,4]) -> (%t, %t.1, %t.2) {
          %t[i0] = arg first max over r0 in 0..4: %x[i0,r0] : i64[1]
          %t.1[i0] = arg last max over r0 in 0..4: %x[i0,r0] : i64[1]
          %t.2[i0,i1] = select(t0 < 3, t0 * t0, -t0) where t0 = %x[i0,i1] + 1 : f32[1,4]
        }
        ");
        let y = eval(&program, &[floats(&[1, 4], &[1., 2., 0., 2.])]).unwrap();
        assert_eq!(y, [Tensor::from_slice(&[1], &[1i64]), Tensor::from_slice(&[1], &[3i64]), floats(&[1, 4], &[4., -3., 1., -3.])]);
    }

    #[test]
    fn parts_that_nothing_wrote_are_found() {
        let mut b = Builder::new();
        let y = b.declare(DType::F32, &[3]);
        b.write(y, &[2], |_, at| (vec![at[0].clone()], Expr::constant(DType::F32, 1.0)));
        assert_eq!(eval(&b.finish(&[y]), &[]).unwrap_err().to_string(), "element 2 of `%t` has no value");
    }

    #[test]
    fn extremes_of_nothing() {
        for (dtype, max, min) in [(DType::I8, i128::from(i8::MIN), i128::from(i8::MAX)), (DType::U64, 0, u64::MAX.into())] {
            let mut b = Builder::new();
            let x = b.operand("x", dtype, &[0]);
            let results =
                [ReduceOp::Max, ReduceOp::Min].map(|op| b.reduce(op, &[], &[0], |b, _, r| b.load(x, r.to_vec()), |_, _, acc| acc));
            let values = eval(&b.finish(&results), &[Tensor::zeros(dtype, &[0])]).unwrap();
            assert_eq!(values, [max, min].map(|x| Tensor::from_ints(dtype, &[], &[x])));
        }
    }
}

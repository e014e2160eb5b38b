//! How operators are tested: one call runs everything an operator says of itself and compares it.
//!
//! [`check_op`] takes an operator as text and the operands' values, and returns the results for the test to judge. On the
//! way it checks that
//! - the inferred types are those of the values; with extents replaced by symbols too, where that is possible;
//! - the lowered program verifies, is what its text says, and its value is `eval`'s: with all operands known and with as few as possible known;
//! - linked axes commute with slicing, views give the same elements, values from types are the values.

use crate::expr::{self, Builder, Program};
use crate::ops::{Args, Attribute, Attributes, Axes, Fact, InferError, Operands, Operator, View, find, onnx_of_dtype};
use crate::tensor::{DType, Dim, Tensor, Type, for_each_index, n_elements, row_major_strides};

/// Runs an operator, `"Gemm transB=1 alpha=0.5"`, and returns its results. Panics where what it says does not agree.
pub(crate) fn check_op<T: Into<Option<Tensor>>>(op: &str, operands: impl IntoIterator<Item = T>) -> Vec<Tensor> {
    Check::new(op).run(operands)
}

/// The message of the error of building, typing or evaluating; where only evaluation fails, the lowered program must too.
pub(crate) fn check_error<T: Into<Option<Tensor>>>(op: &str, operands: impl IntoIterator<Item = T>) -> String {
    let check = Check::new(op);
    let op = match check.build() {
        Ok(op) => op,
        Err(e) => return e,
    };
    let x = Operands::of_values(operands.into_iter().map(Into::into), check.n_results(&*op));
    let types = match op.infer(&x) {
        Ok(types) => types,
        Err(e) => return e.to_string(),
    };
    let Err(error) = op.eval(&x) else { panic!("`{}` has a value", check.text) };
    if let Ok(program) = lower(&*op, &x, &types) {
        expr::eval(&program, &values(&x).iter().map(Tensor::stored).collect::<Vec<_>>())
            .expect_err("eval fails, so the lowered program must");
    }
    error.to_string()
}

/// The lowered program as text, all operands unknown.
pub(crate) fn lowered(op: &str, operands: &[&str]) -> String {
    let check = Check::new(op);
    let op = check.build().unwrap();
    let facts = operands.iter().map(|t| if *t == "_" { None } else { Some(Fact::of(ty(t))) }).collect();
    let x = Operands { facts, n_results: check.n_results(&*op) };
    let types = op.infer(&x).unwrap();
    lower(&*op, &x, &types).unwrap().to_string()
}

/// A check with other than the usual bounds or number of results.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    text: String,
    bound: Option<(f64, f64)>,
    results: Option<usize>,
}

impl Check {
    /// Name and attributes, as in text: ints, floats (with a point), `"strings"`, `[lists]`, names of element types.
    pub(crate) fn new(op: &str) -> Self {
        Check { text: op.to_owned(), bound: None, results: None }
    }

    /// Greatest relative and absolute difference between `eval` and the lowered program.
    pub(crate) fn bound(mut self, relative: f64, absolute: f64) -> Self {
        self.bound = Some((relative, absolute));
        self
    }

    /// Number of results; otherwise the required ones.
    pub(crate) fn results(mut self, n: usize) -> Self {
        self.results = Some(n);
        self
    }

    fn build(&self) -> Result<Box<dyn Operator>, String> {
        let mut words = self.text.split_whitespace();
        let name = words.next().expect("an operator's name");
        let schema = find(name).unwrap_or_else(|| panic!("no operator `{name}`"));
        let mut attributes = Attributes::default();
        for word in words {
            let (key, value) = word.split_once('=').expect("attributes as key=value");
            attributes.0.insert(key.to_owned(), attribute(value));
        }
        (schema.build)(&mut attributes).map_err(|e| e.to_string())
    }

    fn n_results(&self, op: &dyn Operator) -> usize {
        self.results.unwrap_or_else(|| op.schema().results.iter().filter(|r| !r.ends_with(['?', '*'])).count().max(1))
    }

    /// The results.
    pub(crate) fn run<T: Into<Option<Tensor>>>(&self, operands: impl IntoIterator<Item = T>) -> Vec<Tensor> {
        let op = &*self.build().unwrap_or_else(|e| panic!("{}: {e}", self.text));
        let x = Operands::of_values(operands.into_iter().map(Into::into), self.n_results(op));
        let types = op.infer(&x).unwrap_or_else(|e| panic!("{}: infer: {e}", self.text));
        let results = op.eval(&x).unwrap_or_else(|e| panic!("{}: eval: {e}", self.text));
        assert_eq!(types, results.iter().map(Tensor::ty).collect::<Vec<_>>(), "{}: inferred types and those of the values", self.text);
        let operands = values(&x);
        self.compare_lowered(op, &x, &types, &operands, &results, "all operands known");
        let few = self.few_known(op, &x);
        let types = op.infer(&few).unwrap_or_else(|e| panic!("{}: infer with few operands known: {e}", self.text));
        assert!(types.iter().zip(&results).all(|(t, r)| fits(t, r)) && types.len() == results.len(), "{}: {types:?}", self.text);
        if types.iter().all(|t| t.dims().is_some()) {
            self.compare_lowered(op, &few, &types, &operands, &results, "few operands known");
        }
        self.symbols(op, &few, &results);
        self.slices(op, &x, &results);
        for (view, result) in op.view(&x).into_iter().flatten().zip(&results) {
            assert_eq!(viewed(x.tensor(0), &view, result.dims()), *result, "{}: the view", self.text);
        }
        if let Some(values) = op.value_from_types(&x) {
            assert_eq!(values, results, "{}: the value from types", self.text);
        }
        results
    }

    fn compare_lowered(&self, op: &dyn Operator, x: &Operands, types: &[Type], operands: &[Tensor], results: &[Tensor], what: &str) {
        let program = match lower(op, x, types) {
            Ok(program) => program,
            Err(e) if what.starts_with("few") && e.contains("must be constant") => return,
            Err(e) => panic!("{}: lower, {what}: {e}", self.text),
        };
        let text = program.to_string();
        if !text.contains("= const ...") {
            let read = expr::parse(&text).unwrap_or_else(|e| panic!("{}, {what}: {e}\n{text}", self.text));
            assert_eq!(read.to_string(), text, "{}, {what}", self.text);
        }
        let stored: Vec<Tensor> = operands.iter().map(Tensor::stored).collect();
        let operands = &stored[..];
        let got = expr::eval(&program, operands).unwrap_or_else(|e| panic!("{}, {what}: {e}\n{program}", self.text));
        assert_eq!(got.len(), results.len(), "{}: number of lowered results", self.text);
        for (got, expected) in got.iter().zip(results) {
            if let Some(difference) = difference(got, expected, self.bound) {
                panic!("{}, {what}: lowered: {difference}\n{program}", self.text);
            }
        }
        for target in super::check_compiled::targets() {
            let by = format!("{} by {:?}", target.machine, target.emitter);
            let compiled = super::check_compiled::run(&program, operands, what.starts_with("all"), &target);
            let compiled = compiled.unwrap_or_else(|e| panic!("{}, {what}, {by}: {e}\n{program}", self.text));
            for (got, expected) in compiled.into_iter().zip(results) {
                let bound = self.bound.map_or((2e-6, 2e-6), |b| (b.0.max(2e-6), b.1.max(2e-6)));
                let bound = if matches!(got.dtype(), DType::F32 | DType::F64) { Some(bound) } else { self.bound };
                if let Some(difference) = difference(&got, expected, bound) {
                    panic!("{}, {what}: compiled for {by}: {difference}\n{program}", self.text);
                }
            }
        }
    }

    /// The operands with values only where inference needs them.
    fn few_known(&self, op: &dyn Operator, x: &Operands) -> Operands {
        let mut few = x.clone();
        few.facts.iter_mut().flatten().for_each(|f| f.value = None);
        while let Err(InferError::NotConstant { operand }) = op.infer(&few) {
            assert!(few.facts[operand].as_ref().unwrap().value.is_none(), "{}: operand {operand} is known", self.text);
            few.facts[operand] = x.facts[operand].clone();
        }
        few
    }

    fn symbols(&self, op: &dyn Operator, few: &Operands, results: &[Tensor]) {
        let mut symbolic = few.clone();
        for fact in symbolic.facts.iter_mut().flatten().filter(|f| f.value.is_none()) {
            for d in &mut fact.ty.shape.0 {
                if let Dim::Fixed(n) = d
                    && *n > 1
                {
                    *d = Dim::Symbol(format!("n{n}").into());
                }
            }
        }
        match op.infer(&symbolic) {
            Ok(types) => {
                assert!(types.iter().zip(results).all(|(t, r)| fits(t, r)), "{}: types with symbols: {types:?}", self.text);
            }
            Err(InferError::Invalid(e)) => panic!("{}: infer with symbols: {e}", self.text),
            Err(_) => {}
        }
    }

    fn slices(&self, op: &dyn Operator, x: &Operands, results: &[Tensor]) {
        let axes = op.axes(x);
        assert!(axes.operands.len() >= x.facts.len() || axes.operands.iter().all(Vec::is_empty), "{}: {axes:?}", self.text);
        for (i, fact) in x.facts.iter().enumerate() {
            let rank = fact.as_ref().map_or(0, |f| f.ty.rank());
            assert_eq!(axes.operands.get(i).map_or(rank, Vec::len), rank, "{}: labels of operand {i}", self.text);
        }
        for (labels, r) in axes.results.iter().zip(results) {
            assert_eq!(labels.len(), r.dims().len(), "{}: labels of a result", self.text);
        }
        let mut labels: Vec<u32> = axes.results.iter().flatten().chain(axes.operands.iter().flatten()).flatten().copied().collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            self.slice(op, x, results, &axes, label);
        }
    }

    /// One slice along the axes with this label, of the second half.
    fn slice(&self, op: &dyn Operator, x: &Operands, results: &[Tensor], axes: &Axes, label: u32) {
        let place = |labels: Option<&Vec<Option<u32>>>| labels.and_then(|l| l.iter().position(|&a| a == Some(label)));
        let extents: Vec<usize> = x
            .facts
            .iter()
            .enumerate()
            .filter_map(|(i, f)| Some(f.as_ref()?.value.as_ref()?.dims()[place(axes.operands.get(i))?]))
            .chain(results.iter().enumerate().filter_map(|(i, r)| Some(r.dims()[place(axes.results.get(i))?])))
            .collect();
        let Some(&extent) = extents.first() else { return };
        assert!(extents.iter().all(|&e| e == extent), "{}: linked axes differ in extent: {extents:?}", self.text);
        let from = extent / 2;
        let cut = |t: &Tensor, axis: usize| {
            let mut dims = t.dims().to_vec();
            dims[axis] = extent - from;
            let strides = row_major_strides(t.dims());
            t.gather(&dims, |at| Some(at.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>() + from * strides[axis]))
        };
        let values = x.facts.iter().enumerate().map(|(i, f)| {
            let value = f.as_ref()?.value.as_ref()?;
            Some(place(axes.operands.get(i)).map_or(value.clone(), |axis| cut(value, axis)))
        });
        let sliced = Operands::of_values(values, x.n_results);
        let expected: Vec<Option<Tensor>> =
            results.iter().enumerate().map(|(i, r)| place(axes.results.get(i)).map(|axis| cut(r, axis))).collect();
        // A shape that values decide does not follow the slice; a reduction over the label changes all.
        let Ok(types) = op.infer(&sliced) else { return };
        if types.iter().zip(&expected).any(|(t, e)| e.as_ref().is_none_or(|e| e.ty() != *t)) {
            return;
        }
        let got = op.eval(&sliced).unwrap_or_else(|e| panic!("{}: eval of a slice: {e}", self.text));
        for (got, expected) in got.iter().zip(expected.iter().flatten()) {
            if let Some(d) = difference(got, expected, self.bound) {
                panic!("{}: slicing the axes labelled {label} of {axes:?}: {d}", self.text);
            }
        }
    }
}

fn attribute(text: &str) -> Attribute {
    if let Some(s) = text.strip_prefix('"') {
        return Attribute::String(s.trim_end_matches('"').to_owned());
    }
    if let Some(list) = text.strip_prefix('[') {
        let items: Vec<&str> = list.trim_end_matches(']').split(',').filter(|s| !s.is_empty()).collect();
        return match items.iter().map(|s| s.parse()).collect::<Result<Vec<i64>, _>>() {
            Ok(ints) => Attribute::Ints(ints),
            Err(_) if items[0].starts_with('"') => Attribute::Strings(items.into_iter().map(|s| s.trim_matches('"').to_owned()).collect()),
            Err(_) => Attribute::Floats(items.into_iter().map(|s| s.parse().unwrap()).collect()),
        };
    }
    if let Ok(dtype) = text.parse::<DType>() {
        return Attribute::Int(onnx_of_dtype(dtype));
    }
    text.parse().map(Attribute::Int).unwrap_or_else(|_| Attribute::Float(text.parse().unwrap_or_else(|_| panic!("attribute `{text}`"))))
}

/// A type from text: `f32[2,3]`.
pub(crate) fn ty(text: &str) -> Type {
    let (dtype, dims) = text.split_once('[').expect("a type as dtype[dims]");
    let dims: Vec<usize> =
        dims.trim_end_matches(']').split(',').map(str::trim).filter(|d| !d.is_empty()).map(|d| d.parse().expect("an extent")).collect();
    Type::fixed(dtype.parse().expect("an element type"), &dims)
}

/// A tensor from text: `f32[2,2] 1 2 nan -inf`; one value fills it, none is zeros.
pub(crate) fn t(text: &str) -> Tensor {
    let (head, elements) = text.split_once(']').expect("a type as dtype[dims]");
    let ty = ty(head);
    let (dims, n) = (ty.dims().unwrap(), n_elements(&ty.dims().unwrap()));
    let words: Vec<&str> = elements.split_whitespace().collect();
    let words = match words[..] {
        [] => vec!["0"; n],
        [one] => vec![one; n],
        _ => words,
    };
    assert_eq!(words.len(), n, "elements of `{text}`");
    if ty.dtype.is_float() {
        let values: Vec<f64> = words.iter().map(|w| w.parse().expect("a number")).collect();
        Tensor::from_f64s(ty.dtype, &dims, &values)
    } else {
        let int = |w: &&str| match *w {
            "true" => 1,
            "false" => 0,
            w => w.parse().expect("an integer"),
        };
        Tensor::from_ints(ty.dtype, &dims, &words.iter().map(int).collect::<Vec<i128>>())
    }
}

/// A tensor of pseudo-random elements, the same for the same type and seed: floats in -2..2, integers in -8..8 (or 0..16).
pub(crate) fn random(text: &str, seed: u64) -> Tensor {
    let ty = ty(text);
    let dims = ty.dims().unwrap();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let n = n_elements(&dims);
    if ty.dtype.is_float() {
        let values: Vec<f64> = (0..n).map(|_| (next() >> 40) as f64 / (1u64 << 22) as f64 - 2.0).collect();
        Tensor::from_f64s(ty.dtype, &dims, &values)
    } else {
        let (low, range) = match ty.dtype {
            DType::Bool => (0, 2),
            d if d.is_signed() => (-8, 16),
            _ => (0, 16),
        };
        let values: Vec<i128> = (0..n).map(|_| i128::from(next() % range) + low).collect();
        Tensor::from_ints(ty.dtype, &dims, &values)
    }
}

/// Panics unless types are equal and values close: usual bounds of the element type, integers exact.
pub(crate) fn assert_close(got: &Tensor, expected: &Tensor) {
    if let Some(d) = difference(got, expected, None) {
        panic!("{d}");
    }
}

/// What differs, if anything does.
pub(super) fn difference(got: &Tensor, expected: &Tensor, bound: Option<(f64, f64)>) -> Option<String> {
    // Programs know small types as the codes that they are stored as.
    let (got, expected) = (&got.stored(), &expected.stored());
    if got.ty() != expected.ty() {
        return Some(format!("{} instead of {}", got.ty(), expected.ty()));
    }
    if !got.dtype().is_float() {
        let (a, b) = (got.to_ints(), expected.to_ints());
        let i = (0..a.len()).find(|&i| a[i] != b[i])?;
        return Some(format!("element {i} is {} instead of {}", a[i], b[i]));
    }
    let (relative, absolute) = bound.unwrap_or(match got.dtype() {
        DType::F64 => (1e-12, 1e-13),
        DType::F16 => (2e-3, 1e-3),
        DType::BF16 => (1.6e-2, 8e-3),
        _ => (1e-5, 1e-6),
    });
    let (a, b) = (got.to_f64s(), expected.to_f64s());
    let close = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= absolute + relative * b.abs();
    // An infinite bound accepts anything, so infinities must be equal.
    let same = |a: f64, b: f64| if a.is_infinite() || b.is_infinite() { a == b } else { close(a, b) };
    let i = (0..a.len()).find(|&i| !same(a[i], b[i]))?;
    Some(format!("element {i} is {} instead of {}", a[i], b[i]))
}

/// Whether a value can be of the type, where `n7` stands for 7 and an unknown for anything.
fn fits(ty: &Type, value: &Tensor) -> bool {
    ty.dtype == value.dtype()
        && ty.rank() == value.dims().len()
        && ty.shape.0.iter().zip(value.dims()).all(|(d, &n)| match d {
            Dim::Fixed(d) => *d == n,
            Dim::Symbol(s) => s.strip_prefix('n').is_none_or(|s| s.parse() == Ok(n)),
            Dim::Unknown => true,
        })
}

fn lower(op: &dyn Operator, x: &Operands, types: &[Type]) -> Result<Program, String> {
    let mut b = Builder::new();
    let tensors = x
        .facts
        .iter()
        .enumerate()
        .map(|(i, f)| f.as_ref().map(|f| b.operand(&format!("x{i}"), f.ty.dtype, &f.ty.dims().expect("fixed extents"))))
        .collect();
    b.set_name("y");
    let results = op.lower(&mut b, &Args { facts: x, tensors, results: types }).map_err(|e| e.to_string())?;
    Ok(b.finish(&results))
}

fn values(x: &Operands) -> Vec<Tensor> {
    x.facts.iter().flatten().filter_map(|f| f.value.clone()).collect()
}

fn viewed(x: &Tensor, view: &View, dims: &[usize]) -> Tensor {
    match view {
        View::Reshape => x.reshape(dims),
        View::Affine(index) => {
            let strides = row_major_strides(x.dims());
            for_each_index(dims, |_, at| {
                for (a, &d) in index.iter().zip(x.dims()) {
                    assert!((0..d as i64).contains(&a.value(|v| at[v] as i64)), "a view reads outside: {view:?}");
                }
            });
            x.gather(dims, |at| Some(index.iter().zip(&strides).map(|(a, s)| a.value(|v| at[v] as i64) as usize * s).sum()))
        }
    }
}

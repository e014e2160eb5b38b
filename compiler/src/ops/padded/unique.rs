//! `Unique`: the different elements of a tensor, or slices of an axis, and where they are.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Unique.html>

use std::cmp::Ordering;

use super::selection::Ranks;
use crate::expr::{self, Affine, BinaryOp, Builder, CompareOp, Expr, Ix, Place, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::sorting::{self, Most};
use crate::ops::{Args, EvalError, Extent, InferError, Interval, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, n_elements, row_major_strides};

operator! {
    /// The different elements of `x`, or slices along `axis`, in order; where each is first in `x`, where each of `x` is in `y`, and how often
    /// each occurs. NaN is the greatest, and like itself.
    Unique(x) -> (y, "indices?", "inverse_indices?", "counts?") since [11, 28];
    /// The axis; none: the elements.
    axis: Option<i64>,
    /// Whether `y` is in ascending order, by the first element that differs; else in the order of `x`.
    sorted: bool = true,
}

operator! {
    /// `Unique` of what is not constant: as many as there could be, of which the first `count` are meant. Padding of `y` is its first.
    PaddedUnique(x) -> (y, indices, inverse_indices, counts, count) since [1] in "ai.tinsmith";
    /// The axis; none: the elements.
    axis: Option<i64>,
    /// Whether `y` is in ascending order, by the first element that differs; else in the order of `x`.
    sorted: bool = true,
}

/// More comparisons than this are refused.
const MAX_STEPS: usize = 1 << 36;

/// Slices of at most so many elements are sorted, longer ones compared two by two.
const MAX_SORTED: usize = 6;

/// The operand as slices of an axis.
struct Plan {
    /// Extents, flat without an axis.
    dims: Vec<usize>,
    axis: usize,
    /// Extents but the axis'.
    others: Vec<usize>,
}

impl Plan {
    fn new(axis: Option<i64>, x: &Operands) -> Result<Plan, InferError> {
        let allowed: Vec<DType> = DType::NUMBERS.into_iter().chain([DType::Bool]).collect();
        x.require_dtype(0, &allowed)?;
        let dims = x.dims(0)?;
        let (dims, axis) = match axis {
            Some(axis) => (dims, x.axis(0, axis)?),
            None => (vec![n_elements(&dims)], 0),
        };
        let others: Vec<usize> = dims.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &d)| d).collect();
        if n_elements(&others) == 0 {
            return Err(InferError::Unsupported(format!("slices without elements, of `{}`", x.ty(0)?)));
        }
        Ok(Plan { dims, axis, others })
    }

    /// Number of slices.
    fn n(&self) -> usize {
        self.dims[self.axis]
    }

    /// Elements of a slice.
    fn m(&self) -> usize {
        n_elements(&self.others)
    }

    /// Extents with another number of slices.
    fn with(&self, n: usize) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims[self.axis] = n;
        dims
    }

    /// Where element `j` of a slice is.
    fn place(&self, slice: &Affine, j: &Expr) -> Vec<Ix> {
        let strides = row_major_strides(&self.others);
        let mut others = self.others.iter().zip(strides).map(|(&d, stride)| {
            let int = |n: usize| Expr::int(DType::I64, n as i64);
            Ix::Clamped(j.binary(BinaryOp::Div, &int(stride)).binary(BinaryOp::Rem, &int(d)))
        });
        (0..self.dims.len()).map(|a| if a == self.axis { Ix::from(slice) } else { others.next().expect("an axis more") }).collect()
    }
}

/// What the slices are.
struct Found {
    /// Where each is first.
    indices: Vec<i64>,
    inverse: Vec<i64>,
    counts: Vec<i64>,
}

/// Compares numbers, of which NaN is the greatest.
fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn find(plan: &Plan, sorted: bool, x: &Tensor) -> Found {
    let (n, m) = (plan.n(), plan.m());
    let strides = row_major_strides(&plan.dims);
    let at = |i: usize, j: usize| {
        let mut rest = j;
        let mut flat = i * strides[plan.axis];
        for a in (0..plan.dims.len()).rev().filter(|&a| a != plan.axis) {
            flat += rest % plan.dims[a] * strides[a];
            rest /= plan.dims[a];
        }
        flat
    };
    let (floats, ints) = if x.dtype().is_float() { (x.to_f64s(), vec![]) } else { (vec![], x.to_ints()) };
    let order = |a: usize, b: usize| {
        let one = |j: usize| {
            let (a, b) = (at(a, j), at(b, j));
            if ints.is_empty() { compare(floats[a], floats[b]) } else { ints[a].cmp(&ints[b]) }
        };
        (0..m).map(one).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut indices: Vec<usize> = vec![];
    for i in 0..n {
        if !indices.iter().any(|&k| order(k, i).is_eq()) {
            indices.push(i);
        }
    }
    if sorted {
        indices.sort_by(|&a, &b| order(a, b));
    }
    let place = |i: usize| indices.iter().position(|&k| order(k, i).is_eq()).expect("one is like it") as i64;
    let inverse: Vec<i64> = (0..n).map(place).collect();
    let counts = (0..indices.len()).map(|p| inverse.iter().filter(|&&q| q == p as i64).count() as i64).collect();
    Found { indices: indices.into_iter().map(|i| i as i64).collect(), inverse, counts }
}

/// The slices at these places.
fn take(plan: &Plan, x: &Tensor, places: &[i64]) -> Tensor {
    let strides = row_major_strides(&plan.dims);
    x.reshape(&plan.dims).gather(&plan.with(places.len()), |at| {
        let place = |a: usize| if a == plan.axis { places[at[a]] as usize } else { at[a] };
        Some((0..plan.dims.len()).map(|a| place(a) * strides[a]).sum())
    })
}

fn vector(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}

impl Operator for Unique {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let plan = Plan::new(self.axis, x)?;
        let found = find(&plan, self.sorted, x.value(0)?);
        let list = |n: usize| Type::fixed(DType::I64, &[n]);
        let n = found.indices.len();
        let mut types = vec![Type::fixed(x.dtype(0)?, &plan.with(n)), list(n), list(plan.n()), list(n)];
        types.truncate(x.n_results.max(1));
        Ok(types)
    }

    fn padded(&self, _: &Operands, _: &[Interval]) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedUnique { axis: self.axis, sorted: self.sorted }))
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let plan = Plan::new(self.axis, x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let found = find(&plan, self.sorted, x.tensor(0));
        let y = take(&plan, x.tensor(0), &found.indices);
        let mut results = vec![y, vector(&found.indices), vector(&found.inverse), vector(&found.counts)];
        results.truncate(x.n_results.max(1));
        Ok(results)
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        x.facts.value(0)?;
        let values = self.eval(x.facts).map_err(|e| LowerError::Unsupported(e.to_string()))?;
        let table = |b: &mut Builder, value: Tensor| {
            let dims = value.dims().to_vec();
            let table = b.constant("unique", value.stored());
            b.compute(&dims, |b, at| b.load(table, at))
        };
        Ok(values.into_iter().map(|value| table(b, value)).collect())
    }
}

impl Operator for PaddedUnique {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let plan = Plan::new(self.axis, x)?;
        let list = |n: usize| Type::fixed(DType::I64, &[n]);
        let n = plan.n();
        Ok(vec![Type::fixed(x.dtype(0)?, &plan.dims), list(n), list(n), list(n), list(1)])
    }

    fn sizes(&self, x: &Operands) -> Vec<Extent> {
        let Ok(plan) = Plan::new(self.axis, x) else { return vec![] };
        [(0, plan.axis), (1, 0), (3, 0)].map(|(result, axis)| Extent { result, axis, count: 4 }).to_vec()
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let plan = Plan::new(self.axis, x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let mut found = find(&plan, self.sorted, x.tensor(0));
        let count = found.indices.len() as i64;
        // Behind the last: the place 0, which occurs no times there.
        found.indices.resize(plan.n(), 0);
        found.counts.resize(plan.n(), 0);
        let y = take(&plan, x.tensor(0), &found.indices);
        Ok(vec![y, vector(&found.indices), vector(&found.inverse), vector(&found.counts), vector(&[count])])
    }

    fn lower(&self, b: &mut Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let plan = Plan::new(self.axis, x.facts)?;
        let (n, m) = (plan.n(), plan.m());
        let int = |n: usize| Expr::int(DType::I64, n as i64);
        let dtype = b.dtype(x.tensor(0));
        if n == 0 {
            let y = b.compute(&plan.dims, |_, _| Expr::int(dtype, 0));
            let lists: Vec<TensorId> = [0, 0, 0, 1].iter().map(|&n| b.compute(&[n], |_, _| int(0))).collect();
            return Ok([vec![y], lists].concat());
        }
        let lists =
            if m <= MAX_SORTED { by_order(b, &plan, self.sorted, x.tensor(0)) } else { by_pairs(b, &plan, self.sorted, x.tensor(0))? };
        let input = b.reshape(x.tensor(0), &plan.dims);
        let y = b.compute(&plan.dims, |b, at| {
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            from[plan.axis] = Ix::Clamped(b.load(lists.indices, [&at[plan.axis]]));
            b.load(input, from)
        });
        Ok(vec![y, lists.indices, lists.inverse, lists.counts, lists.count])
    }
}

/// The results that are lists.
struct Lists {
    indices: TensorId,
    inverse: TensorId,
    counts: TensorId,
    count: TensorId,
}

/// The slices in order, where those that are alike are neighbours; in the order of the operand, they come by their first.
fn by_order(b: &mut Builder, plan: &Plan, sorted: bool, x: TensorId) -> Lists {
    let (n, m) = (plan.n(), plan.m());
    let int = |n: usize| Expr::int(DType::I64, n as i64);
    let (zero, one) = (int(0), int(1));
    let greatest = |axes: std::ops::Range<usize>| axes.map(|a| b.spread(x, a).0).product();
    let most = if plan.dims.len() == 1 { greatest(0..b.dims(x).len()) } else { greatest(plan.axis..plan.axis + 1) };
    let most = Most { n: most, k: most };
    let list = [n];
    let narrow = b.dtype(x).bits() <= 32;
    let input = b.reshape(x, &plan.dims);
    let strides = row_major_strides(&plan.others);
    let order_of = |b: &mut Builder, j: usize| {
        b.compute(&list, |b, at| {
            let mut others = plan.others.iter().zip(&strides).map(|(&d, &stride)| Ix::from((j / stride % d) as i64));
            let place: Vec<Ix> = (0..plan.dims.len())
                .map(|a| if a == plan.axis { Ix::from(&at[0]) } else { others.next().expect("an axis more") })
                .collect();
            sorting::order_of(&b.load(input, place))
        })
    };
    let orders: Vec<TensorId> = (0..m).map(|j| order_of(b, j)).collect();
    let (orders, places) = sorting::first_places(b, &orders, narrow, 0, n, most);

    // Where others begin, and the number of each among the different ones.
    let begins = b.compute(&list, |b, at| {
        let differs =
            orders.iter().map(|&t| b.load(t, [&at[0]]).compare(CompareOp::Ne, &b.load_padded(t, [at[0].offset(-1)], zero.clone())));
        let is_first = Expr::index(&at[0]).compare(CompareOp::Eq, &zero);
        differs.fold(is_first, |any, d| any.binary(BinaryOp::Or, &d)).select(&one, &zero)
    });
    let different = Ranks::of(b, begins);
    let (starts, count) = (different.positions(b), different.count);
    let is_meant = |b: &Builder, at: &Affine| Expr::index(at).compare(CompareOp::Lt, &b.load(count, [0i64]));
    let firsts = b.compute(&list, |b, at| {
        let place = b.load(places, [Ix::Clamped(b.load(starts, at))]);
        is_meant(b, &at[0]).select(&place, &zero)
    });
    let counts = b.compute(&list, |b, at| {
        let next = b.load_padded(starts, [at[0].offset(1)], int(n));
        let end = is_meant(b, &at[0].offset(1)).select(&next, &int(n));
        is_meant(b, &at[0]).select(&end.binary(BinaryOp::Sub, &b.load(starts, at)), &zero)
    });
    // Back to the order of the operand.
    let ranks = b.compute(&list, |b, at| (&b.load(different.before, at) + &b.load(begins, at)).binary(BinaryOp::Sub, &one));
    let inverse = b.compute(&list, |_, _| zero.clone());
    b.scatter(inverse, &list, None, |b, at, _| (vec![Place::Data(b.load(places, at))], b.load(ranks, at)));
    if sorted {
        return Lists { indices: firsts, inverse, counts, count };
    }
    let first = b.compute(&list, |b, at| b.load(firsts, [Ix::Clamped(b.load(inverse, at))]));
    let is_first = b.compute(&list, |b, at| b.load(first, at).compare(CompareOp::Eq, &Expr::index(&at[0])).select(&one, &zero));
    let different = Ranks::of(b, is_first);
    let (indices, count) = (different.positions(b), different.count);
    let counts = b.compute(&list, |b, at| {
        let rank = b.load(inverse, [Ix::Clamped(b.load(indices, at))]);
        let many = b.load(counts, [Ix::Clamped(rank)]);
        Expr::index(&at[0]).compare(CompareOp::Lt, &b.load(count, [0i64])).select(&many, &zero)
    });
    let inverse = b.compute(&list, |b, at| b.load(different.before, [Ix::Clamped(b.load(first, at))]));
    Lists { indices, inverse, counts, count }
}

/// By comparing every two slices.
fn by_pairs(b: &mut Builder, plan: &Plan, sorted: bool, x: TensorId) -> Result<Lists, LowerError> {
    let (n, m) = (plan.n(), plan.m());
    if n.checked_mul(n).and_then(|nn| nn.checked_mul(m)).is_none_or(|steps| steps > MAX_STEPS) {
        return Err(LowerError::Unsupported(format!("{n} slices of {m} elements")));
    }
    let int = |n: usize| Expr::int(DType::I64, n as i64);
    let (zero, one) = (int(0), int(1));
    let rows = Rows::new(b, plan, x);
    let list = [n];

    // The first that is like each, and which are such.
    let first = b.reduce(
        ReduceOp::Min,
        &list,
        &[n],
        |b, at, over| rows.alike(b, &over[0], &at[0]).select(&Expr::index(&over[0]), &int(n)),
        |_, _, first| first,
    );
    let is_first = b.compute(&list, |b, at| b.load(first, at).compare(CompareOp::Eq, &Expr::index(&at[0])).select(&one, &zero));
    // How many different ones come before each.
    let before = b.reduce(
        ReduceOp::Sum,
        &list,
        &[n],
        |b, at, over| {
            let earlier = match sorted {
                true => rows.less(b, &over[0], &at[0]),
                false => Expr::index(&over[0]).compare(CompareOp::Lt, &Expr::index(&at[0])),
            };
            earlier.select(&b.load(is_first, over), &zero)
        },
        |_, _, sum| sum,
    );
    let inverse = b.compute(&list, |b, at| b.load(before, [Ix::Clamped(b.load(first, at))]));
    let is_here = |b: &Builder, at: &[Affine], over: &[Affine]| b.load(inverse, over).compare(CompareOp::Eq, &Expr::index(&at[0]));
    let found = b.reduce(
        ReduceOp::Min,
        &list,
        &[n],
        |b, at, over| is_here(b, at, over).select(&Expr::index(&over[0]), &int(n)),
        |_, _, place| place,
    );
    let indices = b.compute(&list, |b, at| {
        let place = b.load(found, at);
        place.compare(CompareOp::Lt, &int(n)).select(&place, &zero)
    });
    let counts = b.reduce(ReduceOp::Sum, &list, &[n], |b, at, over| is_here(b, at, over).select(&one, &zero), |_, _, sum| sum);
    let count = b.reduce(ReduceOp::Sum, &[1], &[n], |b, _, over| b.load(is_first, over), |_, _, sum| sum);
    Ok(Lists { indices, inverse, counts, count })
}

/// Comparisons of slices.
struct Rows<'a> {
    plan: &'a Plan,
    input: TensorId,
    /// For each two, the first element that differs, or their number.
    differs: TensorId,
}

impl<'a> Rows<'a> {
    fn new(b: &mut Builder, plan: &'a Plan, x: TensorId) -> Self {
        let input = b.reshape(x, &plan.dims);
        let (n, m) = (plan.n(), plan.m());
        let element = |b: &Builder, slice: &Affine, j: &Expr| b.load(input, plan.place(slice, j));
        let differs = b.reduce(
            ReduceOp::Min,
            &[n, n],
            &[m],
            |b, at, over| {
                let (here, there) = (element(b, &at[0], &Expr::index(&over[0])), element(b, &at[1], &Expr::index(&over[0])));
                same(&here, &there).select(&Expr::int(DType::I64, m as i64), &Expr::index(&over[0]))
            },
            |_, _, first| first,
        );
        Rows { plan, input, differs }
    }

    fn element(&self, b: &Builder, slice: &Affine, j: &Expr) -> Expr {
        b.load(self.input, self.plan.place(slice, j))
    }

    /// Whether slices are alike.
    fn alike(&self, b: &Builder, i: &Affine, k: &Affine) -> Expr {
        b.load(self.differs, [i, k]).compare(CompareOp::Eq, &Expr::int(DType::I64, self.plan.m() as i64))
    }

    /// Whether one slice comes before another.
    fn less(&self, b: &Builder, i: &Affine, k: &Affine) -> Expr {
        let j = b.load(self.differs, [i, k]);
        // Slices that are alike have no element that differs, and the one that is looked at is equal.
        less(&self.element(b, i, &j), &self.element(b, k, &j))
    }
}

fn nan(x: &Expr) -> Expr {
    x.compare(CompareOp::Ne, x)
}

fn same(a: &Expr, b: &Expr) -> Expr {
    let equal = a.compare(CompareOp::Eq, b);
    if a.dtype().is_float() { equal.binary(BinaryOp::Or, &nan(a).binary(BinaryOp::And, &nan(b))) } else { equal }
}

fn less(a: &Expr, b: &Expr) -> Expr {
    if a.dtype() == DType::Bool {
        return b.binary(BinaryOp::And, &a.unary(UnaryOp::Not));
    }
    let strictly = a.compare(CompareOp::Lt, b);
    if a.dtype().is_float() {
        strictly.binary(BinaryOp::Or, &nan(b).binary(BinaryOp::And, &nan(a).unary(expr::UnaryOp::Not)))
    } else {
        strictly
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    fn unique(text: &str) -> Check {
        Check::new(&format!("Unique {text}")).results(4)
    }

    fn padded(text: &str) -> Check {
        Check::new(&format!("ai.tinsmith.PaddedUnique {text}")).results(5)
    }

    #[test]
    fn elements() {
        let x = || t("f32[6] 2 1 1 3 4 3");
        assert_eq!(unique("").run([x()]), [t("f32[4] 1 2 3 4"), t("i64[4] 1 0 3 4"), t("i64[6] 1 0 0 2 3 2"), t("i64[4] 2 1 2 1")]);
        assert_eq!(unique("sorted=0").run([x()]), [t("f32[4] 2 1 3 4"), t("i64[4] 0 1 3 4"), t("i64[6] 0 1 1 2 3 2"), t("i64[4] 1 2 2 1")]);
        let y = [t("f32[6] 2 1 3 4 2 2"), t("i64[6] 0 1 3 4 0 0"), t("i64[6] 0 1 1 2 3 2"), t("i64[6] 1 2 2 1 0 0"), t("i64[1] 4")];
        assert_eq!(padded("sorted=0").run([x()]), y);
        let y = padded("").run([t("f32[2,3] nan -0 0 nan 7 -inf")]);
        assert_eq!((&y[1], &y[4]), (&t("i64[6] 5 1 4 0 0 0"), &t("i64[1] 4")));
    }

    #[test]
    fn slices() {
        let x = || t("f32[3,3] 1 0 0 1 0 0 0 3 4");
        assert_eq!(unique("axis=0").run([x()]), [t("f32[2,3] 0 3 4 1 0 0"), t("i64[2] 2 0"), t("i64[3] 1 1 0"), t("i64[2] 1 2")]);
        assert_eq!(padded("axis=0").run([x()])[4], t("i64[1] 2"));
        let x = || t("f32[2,4,2] 1 1 0 1 2 1 0 1 1 1 0 1 2 1 0 1");
        let y = [t("f32[2,3,2] 0 1 1 1 2 1 0 1 1 1 2 1"), t("i64[3] 1 0 2"), t("i64[4] 1 0 2 0"), t("i64[3] 2 1 1")];
        assert_eq!(unique("axis=1").run([x()]), y);
        assert_eq!(padded("axis=-2").run([x()])[1], t("i64[4] 1 0 2 0"));
    }

    #[test]
    fn all_types_and_extents() {
        for (seed, ty) in
            ["bool[9]", "i8[2,20]", "u8[3,1,5]", "i64[12]", "f16[17]", "bf16[9]", "f64[8]", "i32[0]", "f32[]", "u64[1]"].iter().enumerate()
        {
            padded("").run([random(ty, seed as u64)]);
            padded("sorted=0").run([random(ty, seed as u64)]);
        }
        for (seed, ty) in ["bool[3,9,1]", "i8[2,20,2]", "f32[5,2]", "i32[2,0]", "i8[3,9,3]", "f64[2,7,4]", "u64[3,12]"].iter().enumerate() {
            padded("axis=1").run([random(ty, seed as u64)]);
            padded("axis=1 sorted=0").run([random(ty, seed as u64)]);
        }
        assert_eq!(check_error("Unique axis=1", [t("f32[0,2]")]), "slices without elements, of `f32[0,2]`");
        assert_eq!(check_error("Unique axis=2", [t("f32[1,2] 1 2")]), "axis 2 of a value of rank 2");
    }
}

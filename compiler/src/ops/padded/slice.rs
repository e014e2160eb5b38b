//! `Slice` from and to places that data decides.

use super::extents::check_extents;
use crate::expr::{self, BinaryOp, CompareOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::movement::slice_of;
use crate::ops::{Args, Axes, Counted, Deciding, EvalError, Extent, InferError, Interval, LowerError, Operands, Operator, normalize_axis};
use crate::tensor::{DType, Tensor, Type, row_major_strides};

operator! {
    /// `Slice` where `starts`, `ends` or the extents of `data` are not constant: of each axis in `axes`, `counts` says how many elements
    /// are meant. `extents` says how much of `data` is meant.
    PaddedSlice(data, starts, ends, "axes?", "steps?", "extents?") -> (output, "counts*") since [1] in "ai.tinsmith";
    /// Of each cut, no more elements than this are meant, whatever the extents are; nothing where none is said.
    most: Vec<i64> = Vec::<i64>::new(),
}

/// How many elements a cut along an axis of any extent may have at most, by the ends that are constant.
fn most(start: Option<i64>, end: Option<i64>, step: i64) -> i64 {
    let between = |a: i64, b: i64| b.saturating_sub(a).max(0);
    let length = if step > 0 {
        match (start, end) {
            (Some(s), Some(e)) if (s < 0) == (e < 0) => between(s, e),
            (Some(s), Some(e)) if s < 0 => s.saturating_neg().min(e),
            (Some(s), None) if s < 0 => s.saturating_neg(),
            (None, Some(e)) if e >= 0 => e,
            _ => i64::MAX,
        }
    } else {
        // The greatest numbers are ends that are open.
        let end = end.filter(|&e| e < i64::from(i32::MAX));
        match (start, end) {
            // A start before the first element is that.
            (Some(s), Some(e)) if s < 0 && e < 0 => between(e, s).max(1),
            (Some(s), Some(e)) if s >= 0 && e >= 0 => between(e, s),
            (Some(s), _) if s >= 0 => s.saturating_add(1),
            (_, Some(e)) if e < 0 => between(e, -1),
            _ => i64::MAX,
        }
    };
    (length as u64).div_ceil(step.unsigned_abs().max(1)) as i64
}

impl PaddedSlice {
    /// What stands in for a `Slice` of these operands.
    pub(in crate::ops) fn of(x: &Operands) -> Self {
        let constant = |i: usize| x.ints(i).ok().filter(|_| x.has(i));
        let (starts, ends, steps) = (constant(1), constant(2), constant(4));
        let n = [&starts, &ends].into_iter().flatten().map(Vec::len).next().unwrap_or(0);
        let at = |v: &Option<Vec<i64>>, i: usize| v.as_ref().and_then(|v| v.get(i).copied());
        let each = |i: usize| most(at(&starts, i), at(&ends, i), at(&steps, i).unwrap_or(1));
        let most: Vec<i64> = (0..n).map(each).collect();
        Self { most: if most.iter().all(|&m| m == i64::MAX) { vec![] } else { most } }
    }

    /// Axis, extent and step of each cut.
    fn cuts(x: &Operands) -> Result<Vec<(usize, usize, i64)>, InferError> {
        let dims = x.dims(0)?;
        let [n] = x.dims(1)?[..] else { return Err(InferError::Invalid(format!("`{}` starts", x.ty(1)?))) };
        let axes = if x.has(3) { x.ints(3)? } else { (0..n as i64).collect() };
        let steps = if x.has(4) { x.ints(4)? } else { vec![1; n] };
        if steps.len() != n || axes.len() != n || x.dims(2)? != [n] || !x.dtype(1)?.is_int() || !x.dtype(2)?.is_int() {
            return Err(InferError::Invalid(format!(
                "`{}` starts, `{}` ends, {} axes, {} steps",
                x.ty(1)?,
                x.ty(2)?,
                axes.len(),
                steps.len()
            )));
        }
        if x.has(5) {
            check_extents(x, 5, 0)?;
        }
        let mut cuts = vec![];
        for (&axis, &step) in axes.iter().zip(&steps) {
            let axis = normalize_axis(axis, dims.len())?;
            if step == 0 || cuts.iter().any(|c: &(usize, usize, i64)| c.0 == axis) {
                return Err(InferError::Invalid(format!("a step of {step} along axis {axis}, or two along it")));
            }
            // Longer steps take the first element only, like this one.
            let longest = dims[axis].max(1) as i64;
            cuts.push((axis, dims[axis], step.clamp(-longest, longest)));
        }
        Ok(cuts)
    }

    fn out_dims(&self, x: &Operands) -> Result<Vec<usize>, InferError> {
        let mut dims = x.dims(0)?;
        for (i, (axis, extent, step)) in Self::cuts(x)?.into_iter().enumerate() {
            let most = self.most.get(i).map_or(usize::MAX, |&most| most.max(0) as usize);
            dims[axis] = extent.div_ceil(step.unsigned_abs() as usize).min(most);
        }
        Ok(dims)
    }
}

impl Operator for PaddedSlice {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let mut types = vec![Type::fixed(x.dtype(0)?, &self.out_dims(x)?)];
        types.extend(Self::cuts(x)?.iter().map(|_| Type::fixed(DType::I64, &[1])));
        Ok(types)
    }

    fn counted(&self, x: &Operands) -> Option<Counted> {
        (!x.has(5)).then(|| Counted { op: Box::new(self.clone()), of: vec![0], at: 5 })
    }

    fn heeds(&self, x: &Operands, operand: usize, axis: usize, _: &[Interval]) -> bool {
        x.has(5) && operand == 0 && Self::cuts(x).is_ok_and(|cuts| cuts.iter().any(|c| c.0 == axis))
    }

    fn sizes(&self, x: &Operands) -> Vec<Extent> {
        let cuts = Self::cuts(x).unwrap_or_default();
        cuts.iter().enumerate().map(|(i, c)| Extent { result: 0, axis: c.0, count: 1 + i }).collect()
    }

    fn decides(&self, x: &Operands, count: usize) -> Option<Deciding> {
        let i = count.checked_sub(1)?;
        let (axis, extent, step) = *Self::cuts(x).ok()?.get(i)?;
        let elements = [(1, i), (2, i)].into_iter().chain(x.has(5).then_some((5, axis))).collect();
        Some(Deciding { numbers: vec![extent as i64, step], elements })
    }

    fn interval(&self, _: &Operands, of: &[Interval]) -> Interval {
        of[0]
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(cuts) = Self::cuts(x) {
            let labels = |i: usize| cuts.iter().all(|c| c.0 != i).then_some(i as u32);
            axes.operands[0] = (0..axes.operands[0].len()).map(labels).collect();
            axes.results = vec![axes.operands[0].clone()];
        }
        axes
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (cuts, out) = (Self::cuts(x).map_err(invalid)?, self.out_dims(x).map_err(invalid)?);
        let (starts, ends) = (x.tensor(1).to_ints(), x.tensor(2).to_ints());
        let mut from: Vec<(i64, i64)> = vec![(0, 1); out.len()];
        let mut results = vec![];
        for (i, &(axis, extent, step)) in cuts.iter().enumerate() {
            let extent = x.tensor_opt(5).map_or(extent, |t| (t.to_ints()[axis].max(0) as usize).min(extent));
            let (start, count) = slice_of(starts[i] as i64, ends[i] as i64, step, extent);
            from[axis] = (start, step);
            results.push(Tensor::from_slice(&[1], &[count as i64]));
        }
        let dims = x.tensor(0).dims();
        let strides = row_major_strides(dims);
        let output = x.tensor(0).gather(&out, |at| {
            let place = |a: usize| (from[a].0 + from[a].1 * at[a] as i64).clamp(0, dims[a] as i64 - 1) as usize;
            Some((0..dims.len()).map(|a| place(a) * strides[a]).sum())
        });
        results.insert(0, output);
        Ok(results)
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (cuts, out) = (Self::cuts(x.facts)?, x.result_dims(0));
        let int = |n: i64| Expr::int(DType::I64, n);
        let mut starts = vec![];
        let mut results = vec![];
        for (i, &(axis, extent, step)) in cuts.iter().enumerate() {
            let given = |b: &expr::Builder, operand: usize| b.load(x.tensor(operand), [i as i64]).cast(DType::I64);
            let clamped = |at: &Expr, low: i64, high: &Expr, n: &Expr| {
                let from_front = at.compare(CompareOp::Lt, &int(0)).select(&at.binary(BinaryOp::Add, n), at);
                from_front.binary(BinaryOp::Max, &int(low)).binary(BinaryOp::Min, high)
            };
            let low = if step > 0 { 0 } else { -1 };
            // How much of the axis there is, and the place that is clamped to.
            let all = |b: &expr::Builder| {
                let n = x.get(5).map_or_else(|| Expr::extent(extent as i64), |t| b.load(t, [axis as i64]));
                let high = if step > 0 { n.clone() } else { n.binary(BinaryOp::Sub, &int(1)) };
                (n, high)
            };
            let start = b.compute(&[1], |b, _| {
                let (n, high) = all(b);
                clamped(&given(b, 1), 0, &high.binary(BinaryOp::Max, &int(0)), &n)
            });
            results.push(b.compute(&[1], |b, _| {
                let end = given(b, 2);
                let (n, high) = all(b);
                let mut to = clamped(&end, low, &high.binary(BinaryOp::Max, &int(low)), &n);
                if step < 0 {
                    // The greatest number is the last element in the direction of the step.
                    for open in [i64::from(i32::MAX), i64::MAX] {
                        to = end.compare(CompareOp::Eq, &int(open)).select(&int(low), &to);
                    }
                }
                let from = b.load(start, [0i64]);
                let (a, z) = if step > 0 { (&to, &from) } else { (&from, &to) };
                let distance = a.binary(BinaryOp::Sub, z).binary(BinaryOp::Max, &int(0));
                let count = distance.binary(BinaryOp::Add, &int(step.abs() - 1)).binary(BinaryOp::Div, &int(step.abs()));
                if extent == 0 { int(0) } else { n.compare(CompareOp::Gt, &int(0)).select(&count, &int(0)) }
            }));
            starts.push((axis, start, step));
        }
        let data = x.tensor(0);
        let dtype = b.dtype(data);
        let output = b.compute(&out, |b, at| {
            if out.contains(&0) {
                return Expr::int(dtype, 0);
            }
            let mut from: Vec<Ix> = at.iter().map(Ix::from).collect();
            for &(axis, start, step) in &starts {
                from[axis] = Ix::Clamped(b.load(start, [0i64]).binary(BinaryOp::Add, &Expr::index(&at[axis].times(step))));
            }
            b.load(data, from)
        });
        results.insert(0, output);
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};

    fn run(x: &str, starts: &str, ends: &str, axes: &str, steps: &str) -> Vec<crate::tensor::Tensor> {
        let n = axes.split_whitespace().count() - 1;
        Check::new("ai.tinsmith.PaddedSlice").results(1 + n).run([random(x, 1), t(starts), t(ends), t(axes), t(steps)])
    }

    #[test]
    fn constant_ends_say_how_many_there_are_at_most() {
        for step in [1, 2, -1, -3] {
            for start in [-5, -2, -1, 0, 1, 4, 9] {
                for end in [i64::MIN, -7, -2, -1, 0, 1, 4, 9, i64::MAX] {
                    let count = |extent: usize| crate::ops::movement::slice_of(start, end, step, extent).1 as i64;
                    let greatest = (0..16).map(count).max().unwrap();
                    for (s, e) in [(Some(start), Some(end)), (None, Some(end)), (Some(start), None)] {
                        assert!(greatest <= super::most(s, e, step), "{s:?} {e:?} by {step}: {greatest}");
                    }
                    if (step, start) == (1, 0) && (0..16).contains(&end) {
                        assert_eq!(greatest, super::most(Some(start), Some(end), step));
                    }
                }
            }
        }
        let operands = [random("f32[2,5]", 1), t("i64[1] 0"), t("i64[1] 3"), t("i64[1] 1"), t("i64[1] 1"), t("i64[2] 2 2")];
        let results = Check::new("ai.tinsmith.PaddedSlice most=[3]").results(2).run(operands);
        assert_eq!((results[0].dims(), results[1].to_ints()[0]), (&[2, 3][..], 2));
    }

    #[test]
    fn counts_are_those_of_the_slice() {
        let counts = |starts: &str, ends: &str, step: i64| {
            let at = |v: &str| format!("i64[1] {v}");
            let results = run("f32[5]", &at(starts), &at(ends), "i64[1] 0", &format!("i64[1] {step}"));
            results[1].to_ints()[0]
        };
        assert_eq!(counts("1", "3", 1), 2);
        assert_eq!(counts("-2", "9223372036854775807", 1), 2);
        assert_eq!(counts("-100", "100", 2), 3);
        assert_eq!(counts("-1", "-9223372036854775808", -1), 5);
        assert_eq!(counts("2", "9223372036854775807", -1), 3);
        assert_eq!(counts("3", "3", 1), 0);
        assert_eq!(counts("4", "0", -3), 2);
        assert_eq!(counts("0", "5", 9), 1);
        for (start, end, step, wanted) in [("0", "4", "1", 3), ("-2", "9", "1", 2), ("9", "-9", "-1", 3), ("1", "2", "1", 1)] {
            let operands = [random("f32[2,5]", 1), t(&format!("i64[1] {start}")), t(&format!("i64[1] {end}")), t("i64[1] 1")];
            let [data, start, end, axis] = operands;
            let results = Check::new("ai.tinsmith.PaddedSlice").results(2).run([
                data,
                start,
                end,
                axis,
                t(&format!("i64[1] {step}")),
                t("i64[2] 2 3"),
            ]);
            assert_eq!(results[1].to_ints()[0], wanted);
        }
        run("u8[3,6,2]", "i32[2] 1 -1", "i32[2] 3 0", "i64[2] 0 1", "i64[2] 1 -2");
        run("f32[0,2]", "i64[1] 0", "i64[1] 3", "i64[1] 0", "i64[1] 1");
    }
}

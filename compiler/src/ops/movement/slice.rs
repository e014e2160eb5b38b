//! `Slice`: a regular part of each axis.
//! Spec: <https://onnx.ai/onnx/operators/onnx__Slice.html>

use super::view::{identity_view, kept_axes};
use crate::operator;
use crate::ops::normalize_axis;
use crate::ops::padded::PaddedSlice;
use crate::ops::{Axes, Counted, InferError, Interval, Operands, Operator, View};
use crate::tensor::{Dim, Type};

operator! {
    /// Every `steps[i]`-th element from `starts[i]` up to, without, `ends[i]` along axis `axes[i]`; negative steps go backwards.
    ///
    /// Negative positions count from the back; positions outside are clamped. The greatest `i32` or `i64` as an end is the
    /// last element in the direction of the step, as ONNX Runtime has it.
    Slice(data, starts, ends, "axes?", "steps?") -> (output) since [1, 10, 11, 13];
}

/// The first position of a slice of an axis, and how many it has.
pub(in crate::ops) fn slice_of(start: i64, end: i64, step: i64, extent: usize) -> (i64, usize) {
    let c = cut(start, end, step, extent);
    (c.start, c.extent)
}

/// Along one axis.
#[derive(Clone, Copy, Debug)]
struct Cut {
    start: i64,
    step: i64,
    extent: usize,
}

impl Slice {
    /// The cut of each axis; `None` where all of it is taken.
    fn cuts(&self, x: &Operands) -> Result<Vec<Option<Cut>>, InferError> {
        let ty = x.ty(0)?;
        let (starts, ends) = (x.ints(1)?, x.ints(2)?);
        let axes = if x.has(3) { x.ints(3)? } else { (0..starts.len() as i64).collect() };
        let steps = if x.has(4) { x.ints(4)? } else { vec![1; starts.len()] };
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(InferError::Invalid(format!(
                "{} starts, {} ends, {} axes, {} steps",
                starts.len(),
                ends.len(),
                axes.len(),
                steps.len()
            )));
        }
        let mut cuts = vec![None; ty.rank()];
        for i in 0..starts.len() {
            let axis = normalize_axis(axes[i], ty.rank())?;
            let (start, end, step) = (starts[i], ends[i], steps[i]);
            if step == 0 {
                return Err(InferError::Invalid("a step of 0".to_owned()));
            }
            let all = start == 0 && step == 1 && end >= i64::from(i32::MAX);
            cuts[axis] = match ty.shape.0[axis].fixed() {
                Some(extent) => Some(cut(start, end, step, extent)).filter(|c| c.step != 1 || c.extent != extent),
                None if all => None,
                None => return Err(x.dims(0).err().unwrap_or(InferError::MissingOperand { operand: 0 })),
            };
        }
        Ok(cuts)
    }
}

fn cut(start: i64, end: i64, step: i64, extent: usize) -> Cut {
    let n = extent as i64;
    let from_front = |at: i64| if at < 0 { at.saturating_add(n) } else { at };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let start = from_front(start).clamp(if step > 0 { 0 } else { 0.min(high) }, high.max(0));
    let open = end == i64::from(i32::MAX) || end == i64::MAX;
    let end = if open && step < 0 { low } else { from_front(end).clamp(low, high.max(low)) };
    let distance = if step > 0 { end - start } else { start - end };
    let extent = if n == 0 || distance <= 0 { 0 } else { (distance as u64).div_ceil(step.unsigned_abs()) as usize };
    // A single element has no step, and so the position of the last one always fits.
    Cut { start, step: if extent > 1 { step } else { 1 }, extent }
}

impl Operator for Slice {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let ty = x.ty(0)?;
        let cuts = self.cuts(x)?;
        Ok(vec![ty.with_dims(ty.shape.0.iter().zip(cuts).map(|(d, c)| c.map_or(d.clone(), |c| Dim::Fixed(c.extent))))])
    }

    fn counted(&self, x: &Operands) -> Option<Counted> {
        Some(Counted { op: Box::new(PaddedSlice::of(x)), of: vec![0], at: 5 })
    }

    fn padded(&self, x: &Operands, _: &[Interval]) -> Option<Box<dyn Operator>> {
        Some(Box::new(PaddedSlice::of(x)))
    }

    fn axes(&self, x: &Operands) -> Axes {
        let mut axes = Axes::unlinked(x);
        if let Ok(cuts) = self.cuts(x) {
            let kept = kept_axes(cuts.len(), 1, |axis| cuts[axis].is_none());
            axes.operands[0].clone_from(&kept.operands[0]);
            axes.results = kept.results;
        }
        axes
    }

    fn view(&self, x: &Operands) -> Option<Vec<View>> {
        let mut forms = identity_view(x.rank(0).ok()?);
        for (form, cut) in forms.iter_mut().zip(self.cuts(x).ok()?) {
            if let Some(cut) = cut {
                *form = form.times(cut.step).offset(cut.start);
            }
        }
        Some(vec![View::Affine(forms)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check_error, check_op, random, t};

    /// The positions of a slice of an axis of `n`. Unlike Python's, a backward slice from before the front begins with position 0.
    fn taken(n: usize, start: i64, end: i64, step: i64) -> Vec<i64> {
        let c = cut(start, end, step, n);
        (0..c.extent as i64).map(|i| c.start + c.step * i).collect()
    }

    #[test]
    fn positions_are_clamped_as_the_specification_says() {
        assert_eq!(taken(5, 1, 3, 1), [1, 2]);
        assert_eq!(taken(5, -2, i64::MAX, 1), [3, 4]);
        assert_eq!(taken(5, -100, 100, 2), [0, 2, 4]);
        assert_eq!(taken(5, -1, i64::MIN, -1), [4, 3, 2, 1, 0]);
        assert_eq!(taken(5, 100, 0, -2), [4, 2]);
        assert_eq!(taken(5, 2, i64::MAX, -1), [2, 1, 0]);
        assert_eq!(taken(5, 2, 100, -1), Vec::<i64>::new());
        assert_eq!(taken(5, 3, -6, -1), [3, 2, 1, 0]);
        assert_eq!(taken(5, -100, -100, -1), [0]);
        assert_eq!(taken(5, i64::MIN, i64::MIN, -1), [0]);
        assert_eq!(taken(5, 0, i64::MIN, -1), [0]);
        assert_eq!(taken(5, 3, 1, 1), Vec::<i64>::new());
        assert_eq!(taken(5, 2, 3, i64::MAX), [2]);
        assert_eq!(taken(5, 4, i64::MIN, i64::MIN), [4]);
        assert_eq!(taken(0, 0, 10, 1), Vec::<i64>::new());
        assert_eq!(taken(0, -1, -10, -1), Vec::<i64>::new());
    }

    #[test]
    fn parts_of_axes() {
        let x = || t("f32[2,4] 1 2 3 4 5 6 7 8");
        assert_eq!(check_op("Slice", [x(), t("i64[2] 1 0"), t("i64[2] 2 3"), t("i64[2] 0 1"), t("i64[2] 1 2")]), [t("f32[1,2] 5 7")]);
        assert_eq!(check_op("Slice", [x(), t("i64[2] 0 1"), t("i64[2] -1 1000")]), [t("f32[1,3] 2 3 4")]);
        assert_eq!(
            check_op("Slice", [x(), t("i64[1] -1"), t("i64[1] -9223372036854775808"), t("i64[1] -1"), t("i64[1] -1")]),
            [t("f32[2,4] 4 3 2 1 8 7 6 5")]
        );
        check_op("Slice", [random("u8[3,5,4]", 1), t("i32[1] 4"), t("i32[1] 0"), t("i32[1] 1"), t("i32[1] -2")]);
        assert_eq!(check_op("Slice", [x(), t("i64[1] 3"), t("i64[1] 1"), t("i64[1] 1")])[0].dims(), [2, 0]);
    }

    #[test]
    fn bounds_fit_each_other() {
        assert_eq!(check_error("Slice", [random("f32[3]", 1), t("i64[1] 0"), t("i64[2] 1 1")]), "1 starts, 2 ends, 1 axes, 1 steps");
        assert_eq!(check_error("Slice", [random("f32[3]", 1), t("i64[1] 0"), t("i64[1] 1"), t("i64[1] 0"), t("i64[1] 0")]), "a step of 0");
    }
}

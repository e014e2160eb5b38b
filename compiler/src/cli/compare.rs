//! Whether two tensors are equal within `atol + rtol * |expected|`, as numpy and ONNX's own runner compare.

use tinsmith::tensor::Tensor;

/// How far elements may differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    /// Relative to the expected value.
    pub(crate) rtol: f64,
    /// Added to it.
    pub(crate) atol: f64,
}

/// How two tensors differ.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Difference {
    /// In words.
    pub(crate) what: String,
    /// The greatest difference of two elements.
    pub(crate) max_abs: f64,
}

/// The greatest difference of two elements, or how the tensors differ beyond the tolerance.
pub(crate) fn compare(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Result<f64, Difference> {
    if found.dims() != expected.dims() || found.dtype() != expected.dtype() {
        return Err(Difference { what: format!("expected {}, found {}", expected.ty(), found.ty()), max_abs: f64::INFINITY });
    }
    let (mut worst, mut n_wrong, mut first) = (0f64, 0usize, None);
    let mut see = |i: usize, difference: f64, wrong: bool, told: &dyn Fn() -> String| {
        worst = worst.max(difference);
        if wrong {
            n_wrong += 1;
            first.get_or_insert_with(|| (i, told()));
        }
    };
    if found.dtype().is_float() {
        for (i, (a, b)) in found.to_f64s().into_iter().zip(expected.to_f64s()).enumerate() {
            let same = a == b || (a.is_nan() && b.is_nan());
            let difference = if same { 0.0 } else { (a - b).abs() };
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            // An infinite bound must not let everything through.
            let within = difference.is_finite() && difference <= tolerance.atol + tolerance.rtol * b.abs();
            let wrong = !(same || within);
            see(i, difference, wrong, &|| format!("expected {b}, found {a}"));
        }
    } else {
        for (i, (a, b)) in found.to_ints().into_iter().zip(expected.to_ints()).enumerate() {
            let difference = (a - b).abs() as f64;
            see(i, difference, difference > tolerance.atol + tolerance.rtol * b.abs() as f64, &|| format!("expected {b}, found {a}"));
        }
    }
    match first {
        None => Ok(worst),
        Some((i, told)) => {
            let at = index(found.dims(), i);
            let what = format!("{n_wrong} of {} elements differ, by up to {worst:.3e}; the first at {at:?}: {told}", found.len());
            Err(Difference { what, max_abs: worst })
        }
    }
}

fn index(dims: &[usize], mut flat: usize) -> Vec<usize> {
    let mut at: Vec<usize> = dims
        .iter()
        .rev()
        .map(|&n| {
            let i = flat % n;
            flat /= n;
            i
        })
        .collect();
    at.reverse();
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-6 };

    fn floats(x: &[f32]) -> Tensor {
        Tensor::from_slice(&[1, x.len()], x)
    }

    #[test]
    fn equal_within_the_tolerance() {
        let of = |a: &[f32], b: &[f32]| compare(&floats(a), &floats(b), TIGHT);
        assert_eq!(of(&[1.0, f32::NAN, f32::INFINITY], &[1.0, f32::NAN, f32::INFINITY]), Ok(0.0));
        assert!(of(&[1.0005], &[1.0]).is_ok());
        assert_eq!(
            of(&[1.0, 2.0, 5.0], &[1.0, 2.5, 4.0]).unwrap_err().what,
            "2 of 3 elements differ, by up to 1.000e0; the first at [0, 1]: expected 2.5, found 2"
        );
    }

    #[test]
    fn nothing_passes_for_infinity_or_nan() {
        for (a, b) in [(1.0, f32::INFINITY), (f32::NAN, 1.0), (1.0, f32::NAN), (f32::NEG_INFINITY, f32::INFINITY)] {
            assert!(compare(&floats(&[a]), &floats(&[b]), TIGHT).is_err(), "{a} {b}");
        }
    }

    #[test]
    fn types_and_shapes_count() {
        let ints = Tensor::from_slice(&[1, 1], &[1i64]);
        assert_eq!(compare(&ints, &floats(&[1.0]), TIGHT).unwrap_err().what, "expected f32[1,1], found i64[1,1]");
        assert!(compare(&ints, &Tensor::from_slice(&[1, 1], &[2i64]), TIGHT).is_err());
    }
}

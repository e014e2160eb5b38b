//! `HannWindow`, `HammingWindow` and `BlackmanWindow`: sums of cosines.
//! Spec: <https://onnx.ai/onnx/operators/onnx__HannWindow.html>, <https://onnx.ai/onnx/operators/onnx__HammingWindow.html>,
//! <https://onnx.ai/onnx/operators/onnx__BlackmanWindow.html>

use std::f64::consts::TAU;

use crate::ops::{InferError, Step, Steps, dtype_of_onnx};
use crate::tensor::Tensor;
use crate::{composite, operator};

macro_rules! windows {
    ($( $(#[doc = $doc:literal])+ $name:ident, [$($weight:expr),*]; )*) => { $(
        operator! {
            $(#[doc = $doc])+
            $name(size) -> (output) since [17];
            /// Element type, as ONNX numbers it.
            output_datatype: i64 = 1,
            /// Whether the period is `size`; otherwise `size - 1`, so that the ends are equal.
            periodic: bool = true,
        }

        composite!($name);

        impl $name {
            fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
                Ok(vec![window(s, self.output_datatype, self.periodic, &[$($weight),*])?])
            }
        }
    )* };
}

windows! {
    /// `sin^2(pi n / period)`.
    HannWindow, [0.5, -0.5];
    /// `25/46 - 21/46 cos(2 pi n / period)`.
    HammingWindow, [25.0 / 46.0, -21.0 / 46.0];
    /// `0.42 - 0.5 cos(2 pi n / period) + 0.08 cos(4 pi n / period)`.
    BlackmanWindow, [0.42, -0.5, 0.08];
}

/// The largest window that is not refused.
const MAX_SIZE: i64 = 1 << 28;

/// `sum over i of weights[i] * cos(2 pi n i / period)`.
fn window(s: &mut Steps<'_>, dtype: i64, periodic: bool, weights: &[f64]) -> Result<Step, InferError> {
    let dtype = dtype_of_onnx(dtype).ok_or_else(|| InferError::Unsupported(format!("`output_datatype` {dtype} is not supported")))?;
    let size = match s.operands().ints(0)?[..] {
        [size @ 0..=MAX_SIZE] => size,
        ref other => return Err(InferError::Invalid(format!("a window of size {other:?}"))),
    };
    let period = if periodic { size } else { size - 1 };
    // A single element is the middle.
    let angle = |n: i64| if period > 0 { TAU * n as f64 / period as f64 } else { TAU / 2.0 };
    let value = |n: i64| weights.iter().enumerate().map(|(i, w)| w * (angle(n) * i as f64).cos()).sum();
    let values: Vec<f64> = (0..size).map(value).collect();
    Ok(s.constant(Tensor::from_f64s(dtype, &[size as usize], &values)))
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn windows() {
        let close = |op: &str, expected: &str| crate::ops::check::assert_close(&check_op(op, [t("i64[] 4")])[0], &t(expected));
        close("HannWindow", "f32[4] 0 0.5 1 0.5");
        close("HannWindow periodic=0 output_datatype=11", "f64[4] 0 0.75 0.75 0");
        close("HammingWindow", "f32[4] 0.08695652 0.5434783 1 0.5434783");
        close("BlackmanWindow", "f32[4] 0 0.34 1 0.34");
        assert_eq!(check_error("HannWindow", [t("i64[] -1")]), "a window of size [-1]");
    }
}

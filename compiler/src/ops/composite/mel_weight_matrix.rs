//! `MelWeightMatrix`: triangles that gather the bins of a spectrum on the mel scale.
//! Spec: <https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html>

use crate::ops::{InferError, Step, Steps, dtype_of_onnx};
use crate::tensor::Tensor;
use crate::{composite, operator};

operator! {
    /// `[dft_length / 2 + 1, num_mel_bins]`, from constants.
    MelWeightMatrix(num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz) -> (output) since [17];
    /// Element type, as ONNX numbers it.
    output_datatype: i64 = 1,
}

composite!(MelWeightMatrix);

/// The largest extent that is not refused.
const MAX_EXTENT: i64 = 1 << 20;

impl MelWeightMatrix {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = s.operands();
        let n = self.output_datatype;
        let dtype = dtype_of_onnx(n).ok_or_else(|| InferError::Unsupported(format!("`output_datatype` {n} is not supported")))?;
        let number = |i: usize| {
            let value = x.value(i)?.to_f64s();
            value.first().copied().ok_or_else(|| InferError::Invalid(format!("operand {i} is empty")))
        };
        let (mels, length, rate, low, high) = (number(0)?, number(1)?, number(2)?, number(3)?, number(4)?);
        let (mels, length) = (mels as i64, length as i64);
        let sizes = 0..=MAX_EXTENT;
        if !sizes.contains(&mels) || !sizes.contains(&length) || rate < 1.0 || low <= -700.0 || high < low {
            return Err(InferError::Invalid(format!("{mels} bands of {low} to {high} Hz from {length} samples at {rate} Hz")));
        }
        let (rows, columns) = ((length / 2 + 1) as usize, mels as usize);
        let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
        let step = (mel(high) - mel(low)) / (mels + 2) as f64;
        let bin = |i: usize| {
            let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * std::f64::consts::LN_10).exp_m1();
            ((length + 1) as f64 * hertz / rate).floor() as i64
        };
        let mut values = vec![
            0.0;
            rows.checked_mul(columns)
                .filter(|&n| n <= 1 << 28)
                .ok_or_else(|| { InferError::Invalid(format!("{rows} by {columns} weights")) })?
        ];
        let mut set = |row: i64, column: usize, value: f64| {
            let row = usize::try_from(row).ok().filter(|&r| r < rows);
            let row = row.ok_or_else(|| InferError::Invalid(format!("the upper edge {high} Hz is above half of {rate} Hz")))?;
            values[row * columns + column] = value;
            Ok(())
        };
        for i in 0..columns {
            let (left, center, right) = (bin(i), bin(i + 1), bin(i + 2));
            if center == left {
                set(center, i, 1.0)?;
            }
            for j in left..center + 1 {
                if center > left {
                    set(j, i, (j - left) as f64 / (center - left) as f64)?;
                }
            }
            for j in center..right {
                set(j, i, (right - j) as f64 / (right - center) as f64)?;
            }
        }
        Ok(vec![s.constant(Tensor::from_f64s(dtype, &[rows, columns], &values))])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    #[test]
    fn triangles() {
        let x = |high: &str| [t("i64[] 2"), t("i64[] 8"), t("i64[] 8000"), t("f32[] 0"), t(high)];
        assert_eq!(check_op("MelWeightMatrix", x("f32[] 4000"))[0], t("f32[5,2] 1 0 0 1 0 0 0 0 0 0"));
        let error = check_error("MelWeightMatrix", x("f32[] 40000"));
        assert_eq!(error, "the upper edge 40000 Hz is above half of 8000 Hz");
    }
}

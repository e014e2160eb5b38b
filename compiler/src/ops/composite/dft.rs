//! `DFT` and `STFT`: Fourier transforms as products with matrices of sines and cosines.
//! Spec: <https://onnx.ai/onnx/operators/onnx__DFT.html>, <https://onnx.ai/onnx/operators/onnx__STFT.html>

use std::f64::consts::TAU;

use crate::ops::movement::{Gather, Pad};
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// The discrete Fourier transform along an axis of real (`[..,1]`) or complex (`[..,2]`) values.
    DFT(input, "dft_length?", "axis?") -> (output) since [17, 20];
    /// Whether to go back; then divided by the length.
    inverse: bool = false,
    /// Whether only the first half of the frequencies is given (or, going back, is there).
    onesided: bool = false,
}

operator! {
    /// The Fourier transforms of frames of a signal `[batch,length,1 or 2]`, `frame_step` apart and times `window`.
    STFT(signal, frame_step, "window?", "frame_length?") -> (output) since [17];
    /// Whether only the first half of the frequencies is given.
    onesided: bool = true,
}

composite!(DFT);
composite!(STFT);

/// Larger matrices are refused: another algorithm is needed there.
const MAX_ELEMENTS: usize = 1 << 24;

/// How a transform reads and writes.
#[derive(Clone, Copy)]
struct Transform {
    length: usize,
    complex: bool,
    inverse: bool,
    onesided: bool,
}

impl Transform {
    /// Extents along the axis: of what is read, and of the result.
    fn extents(self) -> (usize, usize) {
        let half = self.length / 2 + 1;
        match (self.onesided, self.inverse) {
            (false, _) => (self.length, self.length),
            (true, false) => (self.length, half),
            (true, true) => (half, self.length),
        }
    }

    /// Parts of the result.
    fn parts(self) -> usize {
        if self.onesided && self.inverse { 1 } else { 2 }
    }

    /// Rows: real parts read, then imaginary ones; columns: the parts of each place of the result.
    fn matrix(self, dtype: DType) -> Result<Tensor, InferError> {
        let ((read, written), n) = (self.extents(), self.length);
        let (rows, columns) = (read * if self.complex { 2 } else { 1 }, written * self.parts());
        if rows.checked_mul(columns).is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(InferError::Unsupported(format!("a Fourier transform of length {n} is not supported")));
        }
        let mut values = vec![0.0; rows * columns];
        for j in 0..read {
            for k in 0..written {
                // Multiples of the whole circle cancel exactly.
                let angle = TAU * ((j * k) % n) as f64 / n as f64;
                let (sin, cos) = angle.sin_cos();
                let sin = if self.inverse { sin } else { -sin };
                // The other half of a spectrum mirrors the first.
                let mirrored = self.onesided && self.inverse && j != 0 && 2 * j != n;
                let scale = if self.inverse { 1.0 / n as f64 } else { 1.0 } * if mirrored { 2.0 } else { 1.0 };
                let mut set = |row: usize, part: usize, v: f64| values[row * columns + k * self.parts() + part] = v * scale;
                set(j, 0, cos);
                if self.parts() == 2 {
                    set(j, 1, sin);
                }
                if self.complex {
                    set(read + j, 0, -sin);
                    if self.parts() == 2 {
                        set(read + j, 1, cos);
                    }
                }
            }
        }
        Ok(Tensor::from_f64s(dtype, &[rows, columns], &values))
    }

    /// Transforms `axis` of `x`, whose last axis holds the parts.
    fn apply(self, s: &mut Steps<'_>, x: Step, axis: usize) -> Result<Step, InferError> {
        let (dims, dtype) = (s.dims(x)?, s.dtype(x));
        let rank = dims.len();
        let (read, written) = self.extents();
        // Cut or filled up with zeros to what is read.
        let mut x = if dims[axis] > read { s.slice(x, axis as i64, 0, read)? } else { x };
        if dims[axis] < read {
            let mut pads = vec![0; 2 * rank];
            pads[rank + axis] = (read - dims[axis]) as i64;
            let pads = s.ints(&pads);
            x = s.apply(Pad { mode: "constant".to_owned() }, &[x, pads])?;
        }
        // The parts in front of the axis, both last: one row for each transform.
        let others: Vec<usize> = (0..rank - 1).filter(|&i| i != axis).collect();
        let order: Vec<i64> = others.iter().copied().chain([rank - 1, axis]).map(|i| i as i64).collect();
        let front: Vec<usize> = others.iter().map(|&i| dims[i]).collect();
        let rows = s.transpose(x, &order)?;
        let rows = s.reshape(rows, &[&front[..], &[read * dims[rank - 1]]].concat())?;
        let half = dtype.is_half();
        let rows = if half { s.cast(rows, DType::F32)? } else { rows };
        let matrix = s.constant(self.matrix(s.dtype(rows))?);
        let y = s.matmul(rows, matrix)?;
        let y = s.cast(y, dtype)?;
        let y = s.reshape(y, &[&front[..], &[written, self.parts()]].concat())?;
        // Back in its place.
        let mut back: Vec<i64> = (0..rank as i64 - 2).collect();
        back.insert(axis, rank as i64 - 2);
        back.push(rank as i64 - 1);
        s.transpose(y, &back)
    }
}

/// A positive number that an operand holds.
fn length(s: &Steps<'_>, i: usize, what: &str) -> Result<usize, InferError> {
    match s.operands().ints(i)?[..] {
        [n] if (1..1 << 31).contains(&n) => Ok(n as usize),
        ref other => Err(InferError::Invalid(format!("{what} {other:?}"))),
    }
}

/// Whether the last axis says complex values.
fn is_complex(dims: &[usize]) -> Result<bool, InferError> {
    match dims.last() {
        Some(1) => Ok(false),
        Some(2) => Ok(true),
        _ => Err(InferError::Invalid(format!("the last axis of {dims:?} is neither 1 (real) nor 2 (complex)"))),
    }
}

impl DFT {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, &DType::FLOATS)?;
        let x = s.operand(0)?;
        let dims = s.dims(x)?;
        let complex = is_complex(&dims)?;
        let axis = match s.operands().has(2) {
            true => *s.operands().ints(2)?.first().ok_or_else(|| InferError::Invalid("an empty axis".to_owned()))?,
            false => -2,
        };
        let axis = normalize_axis(axis, dims.len())?;
        if axis + 1 == dims.len() {
            return Err(InferError::Invalid("the axis of the parts cannot be transformed".to_owned()));
        }
        let given = match (self.inverse && self.onesided, s.operands().has(1)) {
            (_, true) => length(s, 1, "a length of")?,
            (true, false) => 2 * dims[axis].saturating_sub(1),
            (false, false) => dims[axis],
        };
        if given == 0 || self.onesided && !self.inverse && complex {
            return Err(InferError::Invalid(format!("a transform of length {given}, one-sided of {dims:?}")));
        }
        let transform = Transform { length: given, complex, inverse: self.inverse, onesided: self.onesided };
        Ok(vec![transform.apply(s, x, axis)?])
    }
}

impl STFT {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        s.operands().require_dtype(0, &DType::FLOATS)?;
        let signal = s.operand(0)?;
        let mut dims = s.dims(signal)?;
        let signal = if dims.len() == 2 {
            dims.push(1);
            s.reshape(signal, &dims)?
        } else {
            signal
        };
        let complex = is_complex(&dims)?;
        let window = s.optional(2);
        let frame = match (s.operands().has(3), window) {
            (true, _) => length(s, 3, "a frame length of")?,
            (false, Some(window)) => s.dims(window)?.first().copied().unwrap_or(0),
            (false, None) => return Err(InferError::Invalid("neither a window nor a frame length".to_owned())),
        };
        let step = length(s, 1, "a frame step of")?;
        if dims.len() != 3 || frame == 0 || frame > dims[1] || self.onesided && complex {
            return Err(InferError::Invalid(format!("frames of {frame} of a signal {dims:?}")));
        }
        let frames = (dims[1] - frame) / step + 1;
        if frames.checked_mul(frame).is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(InferError::Unsupported(format!("{frames} frames of {frame}")));
        }
        let places: Vec<i64> = (0..frames).flat_map(|f| (0..frame).map(move |i| (f * step + i) as i64)).collect();
        let places = s.constant(Tensor::from_slice(&[frames, frame], &places));
        let mut x = s.apply(Gather { axis: 1 }, &[signal, places])?;
        if let Some(window) = window {
            let window = s.reshape(window, &[frame, 1])?;
            x = s.mul(x, window)?;
        }
        let transform = Transform { length: frame, complex, inverse: false, onesided: self.onesided };
        Ok(vec![transform.apply(s, x, 2)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_error, check_op, random, t};

    #[test]
    fn waves() {
        let y = check_op("DFT", [t("f32[1,4,1] 1 2 3 4")]);
        assert_close(&y[0], &t("f32[1,4,2] 10 0 -2 2 -2 0 -2 -2"));
        let y = check_op("DFT onesided=1", [t("f32[1,4,1] 1 2 3 4")]);
        assert_close(&y[0], &t("f32[1,3,2] 10 0 -2 2 -2 0"));
        let y = check_op("DFT onesided=1 inverse=1", [t("f32[1,3,2] 10 0 -2 2 -2 0")]);
        assert_close(&y[0], &t("f32[1,4,1] 1 2 3 4"));
    }

    #[test]
    fn all_forms_agree() {
        let check = |op: &str| Check::new(op).bound(1e-4, 1e-4);
        let x = |x: &str, n: &str, axis: &str| [random(x, 1), t(n), t(axis)];
        check("DFT").run(x("f32[2,5,3,2]", "i64[] 5", "i64[] 1"));
        check("DFT inverse=1").run(x("f32[2,5,3,2]", "i64[] 7", "i64[] -3"));
        check("DFT onesided=1").run(x("f64[2,5,3,1]", "i64[] 4", "i64[] 0"));
        check("STFT").run([Some(random("f32[2,10,1]", 1)), Some(t("i64[] 3")), Some(random("f32[4]", 2))]);
        let frames = [Some(random("f32[1,9,2]", 1)), Some(t("i64[] 2")), None, Some(t("i64[] 5"))];
        check("STFT onesided=0").run(frames);
        let error = "the last axis of [2, 3] is neither 1 (real) nor 2 (complex)";
        assert_eq!(check_error("DFT", [t("f32[2,3]")]), error);
    }
}

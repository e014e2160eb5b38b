//! Sliding windows of convolutions and pools: kernel, strides, dilations, padding, and the output extents they give.

use crate::expr::Affine;
use crate::ops::{InferError, Operands};
use crate::tensor::Dim;

/// A window over the spatial axes, all attributes resolved. All lists have one entry for each spatial axis.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Window {
    /// Input extents.
    pub(super) input: Vec<usize>,
    /// Extents of the window, in taps.
    pub(super) kernel: Vec<usize>,
    /// Distance of neighbouring windows.
    pub(super) strides: Vec<usize>,
    /// Distance of neighbouring taps.
    pub(super) dilations: Vec<usize>,
    /// Padding in front.
    pub(super) begin: Vec<usize>,
    /// Padding behind, as asked for; windows of `ceil_mode` may reach further.
    pub(super) end: Vec<usize>,
    /// Output extents.
    pub(super) output: Vec<usize>,
    /// Whether the attributes give padding at other input extents.
    may_pad: bool,
}

/// The attributes that describe a window, as ONNX has them; empty lists mean the default.
#[derive(Debug)]
pub(super) struct WindowAttributes<'a> {
    pub(super) strides: &'a [i64],
    pub(super) dilations: &'a [i64],
    pub(super) pads: &'a [i64],
    pub(super) auto_pad: &'a str,
    pub(super) ceil_mode: bool,
}

/// The window of a pooling operator, whose attributes all have the same names.
macro_rules! pooling_window {
    ($op:expr, $x:expr) => {{
        let attributes = $crate::ops::neural::window::WindowAttributes {
            strides: &$op.strides,
            dilations: &$op.dilations,
            pads: &$op.pads,
            auto_pad: &$op.auto_pad,
            ceil_mode: $op.ceil_mode,
        };
        $crate::ops::neural::window::Window::new(
            &$crate::ops::neural::window::spatial($x)?,
            &$crate::ops::neural::max_pool::extents(&$op.kernel_shape)?,
            &attributes,
        )
    }};
}
pub(super) use pooling_window;

/// `list` as extents not below `least`, or `default` for all axes where it is empty.
pub(super) fn list(values: &[i64], rank: usize, default: usize, least: i64, name: &str) -> Result<Vec<usize>, InferError> {
    if values.is_empty() {
        return Ok(vec![default; rank]);
    }
    if values.len() != rank {
        return Err(InferError::Invalid(format!("`{name}` has {} values for {rank} spatial axes", values.len())));
    }
    match values.iter().find(|&&v| v < least || v > i64::from(i32::MAX)) {
        Some(v) => Err(InferError::Invalid(format!("`{name}` has the value {v}"))),
        None => Ok(values.iter().map(|&v| v as usize).collect()),
    }
}

/// Extents of the taps of a window, first to last.
pub(super) fn reach(kernel: usize, dilation: usize) -> usize {
    (kernel - 1) * dilation + 1
}

/// Splits a total padding; the odd element goes behind for `SAME_UPPER`, in front otherwise.
pub(super) fn split_padding(total: usize, upper: bool) -> (usize, usize) {
    if upper { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) }
}

impl Window {
    /// Resolves the attributes.
    pub(super) fn new(input: &[usize], kernel: &[usize], a: &WindowAttributes) -> Result<Self, InferError> {
        let rank = input.len();
        if kernel.len() != rank {
            return Err(InferError::Invalid(format!("a window of {} axes over {rank} spatial axes", kernel.len())));
        }
        if kernel.iter().chain(input).any(|&k| k > i32::MAX as usize) || kernel.contains(&0) {
            return Err(InferError::Invalid(format!("a window of extents {kernel:?}")));
        }
        let strides = list(a.strides, rank, 1, 1, "strides")?;
        let dilations = list(a.dilations, rank, 1, 1, "dilations")?;
        let pads = if matches!(a.auto_pad, "NOTSET" | "") { list(a.pads, 2 * rank, 0, 0, "pads")? } else { vec![0; 2 * rank] };
        let (mut begin, mut end) = (pads[..rank].to_vec(), pads[rank..].to_vec());
        let may_pad = pads.iter().any(|&p| p > 0) || a.auto_pad.starts_with("SAME") || a.ceil_mode;
        let mut output = vec![];
        for i in 0..rank {
            let taps = reach(kernel[i], dilations[i]);
            match a.auto_pad {
                "NOTSET" | "" | "VALID" => {
                    let room = (input[i] + begin[i] + end[i]).checked_sub(taps).ok_or_else(|| {
                        InferError::Invalid(format!("a window of {taps} elements over {} padded ones", input[i] + begin[i] + end[i]))
                    })?;
                    let mut n = room / strides[i] + 1;
                    if a.ceil_mode && a.auto_pad != "VALID" {
                        n = room.div_ceil(strides[i]) + 1;
                        // The last window starts inside the input or the padding in front.
                        n -= usize::from((n - 1) * strides[i] >= input[i] + begin[i]);
                    }
                    output.push(n);
                }
                "SAME_UPPER" | "SAME_LOWER" => {
                    let n = input[i].div_ceil(strides[i]);
                    let total = (n.saturating_sub(1) * strides[i] + taps).saturating_sub(input[i]);
                    (begin[i], end[i]) = split_padding(total, a.auto_pad == "SAME_UPPER");
                    output.push(n);
                }
                other => return Err(InferError::Invalid(format!("`auto_pad` is `{other}`"))),
            }
        }
        Ok(Window { input: input.to_vec(), kernel: kernel.to_vec(), strides, dilations, begin, end, output, may_pad })
    }

    /// Number of spatial axes.
    pub(super) fn rank(&self) -> usize {
        self.input.len()
    }

    /// Whether no tap of axis `i` is outside the input.
    pub(super) fn inside(&self, i: usize) -> bool {
        self.begin[i] == 0
            && (self.output[i] == 0 || (self.output[i] - 1) * self.strides[i] + reach(self.kernel[i], self.dilations[i]) <= self.input[i])
    }

    /// Whether a tap may be outside the input, at this extent or, if asked for, at any.
    pub(super) fn is_padded(&self, any_extent: bool) -> bool {
        any_extent && self.may_pad || (0..self.rank()).any(|i| !self.inside(i))
    }

    /// Whether axis `i` maps each element to itself.
    pub(super) fn is_pointwise(&self, i: usize) -> bool {
        self.kernel[i] == 1 && self.strides[i] == 1 && self.begin[i] == 0 && self.end[i] == 0
    }

    /// Input position of tap `over` of the window at `at`.
    pub(super) fn taps(&self, at: &[Affine], over: &[Affine]) -> Vec<Affine> {
        (0..self.rank())
            .map(|i| at[i].times(self.strides[i] as i64).plus(&over[i].times(self.dilations[i] as i64)).offset(-(self.begin[i] as i64)))
            .collect()
    }

    /// Input position of a tap, if it is inside.
    pub(super) fn tap(&self, i: usize, at: usize, over: usize) -> Option<usize> {
        (at * self.strides[i] + over * self.dilations[i]).checked_sub(self.begin[i]).filter(|&p| p < self.input[i])
    }

    /// The windows of axis `i` whose tap `over` is inside: first, one behind the last.
    pub(super) fn windows_with(&self, i: usize, over: usize) -> (usize, usize) {
        let shift = over * self.dilations[i];
        let first = self.begin[i].saturating_sub(shift).div_ceil(self.strides[i]);
        let behind = (self.input[i] + self.begin[i]).saturating_sub(shift).div_ceil(self.strides[i]);
        let behind = behind.min(self.output[i]);
        (first.min(behind), behind)
    }
}

/// Spatial extents (axes from 2 on) of operand 0, which must be known.
pub(super) fn spatial(x: &Operands) -> Result<Vec<usize>, InferError> {
    let ty = x.ty(0)?;
    if ty.rank() < 3 {
        return Err(InferError::Invalid(format!("expected batch, channels and spatial axes, found {ty}")));
    }
    ty.shape.0[2..].iter().map(Dim::fixed).collect::<Option<_>>().ok_or_else(|| InferError::UnboundDimension { operand: 0, ty: ty.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(input: usize, kernel: usize, a: WindowAttributes) -> (usize, usize, usize) {
        let w = Window::new(&[input], &[kernel], &a).unwrap();
        (w.output[0], w.begin[0], w.end[0])
    }

    #[test]
    fn windows_are_counted() {
        let a = WindowAttributes { strides: &[2], dilations: &[], pads: &[1, 1], auto_pad: "NOTSET", ceil_mode: false };
        assert_eq!(output(8, 3, a), (4, 1, 1));
        let a = WindowAttributes { strides: &[2], dilations: &[], pads: &[], auto_pad: "NOTSET", ceil_mode: true };
        assert_eq!(output(4, 3, a), (2, 0, 0));
        let a = WindowAttributes { strides: &[3], dilations: &[], pads: &[1, 1], auto_pad: "NOTSET", ceil_mode: true };
        assert_eq!(output(2, 1, a), (1, 1, 1), "the last window must start inside");
        let a = WindowAttributes { strides: &[2], dilations: &[], pads: &[], auto_pad: "SAME_UPPER", ceil_mode: false };
        assert_eq!(output(8, 3, a), (4, 0, 1));
        let a = WindowAttributes { strides: &[2], dilations: &[2], pads: &[], auto_pad: "SAME_LOWER", ceil_mode: false };
        assert_eq!(output(7, 2, a), (4, 1, 1));
    }

    #[test]
    fn bad_windows_are_errors() {
        let a = |strides| WindowAttributes { strides, dilations: &[], pads: &[], auto_pad: "NOTSET", ceil_mode: false };
        assert!(Window::new(&[2], &[3], &a(&[])).is_err());
        assert!(Window::new(&[4], &[3], &a(&[0])).is_err());
        assert!(Window::new(&[4], &[0], &a(&[])).is_err());
        assert!(Window::new(&[4, 4], &[3], &a(&[])).is_err());
    }

    #[test]
    fn windows_with_a_tap_inside() {
        let a = WindowAttributes { strides: &[2], dilations: &[], pads: &[1, 1], auto_pad: "NOTSET", ceil_mode: false };
        let w = Window::new(&[8], &[3], &a).unwrap();
        for over in 0..3 {
            let (first, behind) = w.windows_with(0, over);
            for at in 0..w.output[0] {
                assert_eq!((first..behind).contains(&at), w.tap(0, at, over).is_some());
            }
        }
    }
}

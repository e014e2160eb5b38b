//! Copies between strided places of two buffers: what evaluation of the moving operators is made of.

use crate::tensor::{DType, Tensor, n_elements, row_major_strides};

/// A place in a buffer: the offset of the first element and the step along each axis, in elements.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Offset of the element at index 0.
    pub(super) at: isize,
    /// Step along each axis.
    pub(super) strides: Vec<isize>,
}

impl Place {
    /// All of a dense tensor.
    pub(super) fn dense(dims: &[usize]) -> Self {
        Place { at: 0, strides: row_major_strides(dims).into_iter().map(|s| s as isize).collect() }
    }

    /// The same steps from `offsets` on.
    pub(super) fn from(mut self, offsets: &[usize]) -> Self {
        self.at += self.strides.iter().zip(offsets).map(|(s, &o)| s * o as isize).sum::<isize>();
        self
    }
}

/// A tensor that is written region by region.
pub(super) struct Canvas {
    dtype: DType,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Canvas {
    /// All zero.
    pub(super) fn new(dtype: DType, dims: &[usize]) -> Self {
        Canvas { dtype, dims: dims.to_vec(), bytes: vec![0; n_elements(dims) * dtype.size_bytes()] }
    }

    /// Every element the first one of `value`.
    pub(super) fn filled(value: &Tensor, dims: &[usize]) -> Self {
        let bytes = value.bytes()[..value.dtype().size_bytes()].repeat(n_elements(dims));
        Canvas { dtype: value.dtype(), dims: dims.to_vec(), bytes }
    }

    /// Where its elements are.
    pub(super) fn place(&self) -> Place {
        Place::dense(&self.dims)
    }

    /// Copies a region of extents `dims` from `source` of `tensor` to `to`.
    pub(super) fn copy(&mut self, dims: &[usize], to: &Place, tensor: &Tensor, source: &Place) {
        let (bytes, from) = (&mut self.bytes, tensor.bytes());
        match self.dtype.size_bytes() {
            1 => copy_elements::<1>(dims, bytes, to, from, source),
            2 => copy_elements::<2>(dims, bytes, to, from, source),
            4 => copy_elements::<4>(dims, bytes, to, from, source),
            _ => copy_elements::<8>(dims, bytes, to, from, source),
        }
    }

    /// The tensor.
    pub(super) fn finish(self) -> Tensor {
        Tensor::from_bytes(self.dtype, &self.dims, &self.bytes)
    }
}

fn copy_elements<const N: usize>(dims: &[usize], to: &mut [u8], to_place: &Place, from: &[u8], from_place: &Place) {
    if dims.contains(&0) {
        return;
    }
    // Axes that continue each other on both sides are one; (extent, step of `to`, step of `from`).
    let mut axes: Vec<(usize, isize, isize)> = vec![];
    for (axis, &extent) in dims.iter().enumerate().filter(|(_, d)| **d > 1) {
        let (t, f) = (to_place.strides[axis], from_place.strides[axis]);
        match axes.last_mut() {
            Some(last) if last.1 == t * extent as isize && last.2 == f * extent as isize => *last = (last.0 * extent, t, f),
            _ => axes.push((extent, t, f)),
        }
    }
    let (run, t_step, f_step) = axes.pop().unwrap_or((1, 1, 1));
    let mut index = vec![0usize; axes.len()];
    let (mut t, mut f) = (to_place.at, from_place.at);
    loop {
        if t_step == 1 && f_step == 1 {
            to[t as usize * N..][..run * N].copy_from_slice(&from[f as usize * N..][..run * N]);
        } else {
            for i in 0..run as isize {
                to[(t + i * t_step) as usize * N..][..N].copy_from_slice(&from[(f + i * f_step) as usize * N..][..N]);
            }
        }
        let mut axis = axes.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let (extent, ts, fs) = axes[axis];
            index[axis] += 1;
            (t, f) = (t + ts, f + fs);
            if index[axis] < extent {
                break;
            }
            index[axis] = 0;
            (t, f) = (t - ts * extent as isize, f - fs * extent as isize);
        }
    }
}

//! `ConvTranspose`: the transpose of a convolution, without inserted zeros: a stage for each run of phases of the strides.
//! Spec: <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>

use super::widen::{FLOATS, Squeezed, load_wide, require_equal, require_vector, wide};
use super::window::{list, reach, spatial, split_padding};
use crate::expr::{self, Affine, Expr, ReduceOp, TensorId};
use crate::operator;
use crate::ops::{Args, Axes, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{Dim, Tensor, Type, for_each_index, n_elements};

operator! {
    /// `y[n,o,p] = b[o] + sum of x[n,i,q] * w[i,o,k]` over all `q` and `k` with `p = q * stride + k * dilation - pad`, in `group` groups.
    ConvTranspose(x, w, "b?") -> (y) since [1, 11, 22];
    /// `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
    auto_pad: String = "NOTSET",
    /// Distance of neighbouring taps; 1 by default.
    dilations: Vec<i64> = Vec::<i64>::new(),
    /// Number of groups of channels.
    group: i64 = 1,
    /// Extents of the window; those of `w` by default.
    kernel_shape: Vec<i64> = Vec::<i64>::new(),
    /// Added to the output extents; 0 by default.
    output_padding: Vec<i64> = Vec::<i64>::new(),
    /// The spatial output extents; they decide the padding.
    output_shape: Vec<i64> = Vec::<i64>::new(),
    /// What the output lacks, all in front, then all behind; 0 by default.
    pads: Vec<i64> = Vec::<i64>::new(),
    /// Distance of outputs of neighbouring inputs; 1 by default.
    strides: Vec<i64> = Vec::<i64>::new(),
}

/// The attributes resolved; one entry for each spatial axis.
#[derive(Debug)]
struct Spread {
    input: Vec<usize>,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    begin: Vec<usize>,
    output: Vec<usize>,
}

/// The taps of one phase along one axis: output `stride * q + phase` reads input `q + shift - step * j` through tap `first + every * j`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Phase {
    /// Position of its first output.
    at: usize,
    /// How many phases it stands for: the next begins one output and one tap later.
    extent: usize,
    outputs: usize,
    taps: usize,
    first: usize,
    every: usize,
    shift: i64,
    step: i64,
}

impl ConvTranspose {
    fn spread(&self, x: &Operands) -> Result<Spread, InferError> {
        let (w, input) = (x.dims(1)?, spatial(x)?);
        let rank = input.len();
        if w.len() != rank + 2 {
            return Err(InferError::Invalid(format!("input {} and weights {} differ in rank", x.ty(0)?, x.ty(1)?)));
        }
        let kernel = w[2..].to_vec();
        if !self.kernel_shape.is_empty() && !self.kernel_shape.iter().copied().eq(kernel.iter().map(|&k| k as i64)) {
            return Err(InferError::Invalid(format!("`kernel_shape` is {:?}, but the weights are {}", self.kernel_shape, x.ty(1)?)));
        }
        if kernel.iter().chain(&input).any(|&k| k > i32::MAX as usize) || kernel.contains(&0) {
            return Err(InferError::Invalid(format!("a window of extents {kernel:?}")));
        }
        let mut strides = list(&self.strides, rank, 1, 1, "strides")?;
        let dilations = list(&self.dilations, rank, 1, 1, "dilations")?;
        let extra = list(&self.output_padding, rank, 0, 0, "output_padding")?;
        // Some exporters give batch and channels too.
        let shape = if self.output_shape.len() == rank + 2 { &self.output_shape[2..] } else { &self.output_shape[..] };
        let shape = if shape.is_empty() { None } else { Some(list(shape, rank, 0, 0, "output_shape")?) };
        let pads = if matches!(&*self.auto_pad, "NOTSET" | "") { list(&self.pads, 2 * rank, 0, 0, "pads")? } else { vec![0; 2 * rank] };
        let (mut begin, mut output) = (vec![], vec![]);
        for i in 0..rank {
            let full = input[i].saturating_sub(1) * strides[i] + extra[i] + reach(kernel[i], dilations[i]);
            let upper = self.auto_pad == "SAME_UPPER";
            match (&*self.auto_pad, &shape) {
                ("NOTSET" | "" | "VALID" | "SAME_UPPER" | "SAME_LOWER", Some(shape)) => {
                    begin.push(split_padding(full.saturating_sub(shape[i]), upper).0);
                    output.push(shape[i]);
                }
                ("SAME_UPPER" | "SAME_LOWER", None) => {
                    let total = full.saturating_sub(input[i] * strides[i]);
                    begin.push(split_padding(total, upper).0);
                    output.push(full - total);
                }
                ("NOTSET" | "" | "VALID", None) => {
                    begin.push(pads[i]);
                    let lost = pads[i] + pads[rank + i];
                    output.push(full.checked_sub(lost).ok_or_else(|| InferError::Invalid(format!("padding {lost} of {full} elements")))?);
                }
                (other, _) => return Err(InferError::Invalid(format!("`auto_pad` is `{other}`"))),
            }
        }
        for i in 0..rank {
            if input[i] == 1 && dilations[i] == 1 {
                // One element meets no other: as from elements further apart than what a window reaches, each output has its own tap.
                strides[i] = strides[i].max(kernel[i].max(begin[i] + output[i]));
            }
        }
        Ok(Spread { input, kernel, strides, dilations, begin, output })
    }
}

impl Spread {
    fn rank(&self) -> usize {
        self.input.len()
    }

    /// The phases of axis `i`: neighbours that differ only in the tap that they begin with are one.
    fn phases(&self, i: usize) -> Vec<Phase> {
        let mut phases: Vec<Phase> = vec![];
        for at in 0..self.strides[i].min(self.output[i]) {
            let phase = self.phase(i, at);
            match phases.last_mut() {
                Some(run) if phase == (Phase { at, first: run.first + run.extent, extent: 1, ..*run }) => run.extent += 1,
                _ => phases.push(phase),
            }
        }
        phases
    }

    fn phase(&self, i: usize, phase: usize) -> Phase {
        let (s, d) = (self.strides[i], self.dilations[i]);
        let reads: Vec<usize> =
            (0..self.kernel[i]).filter(|k| (phase + self.begin[i]) as i64 % s as i64 == (k * d) as i64 % s as i64).collect();
        if reads.is_empty() {
            let outputs = self.output[i].saturating_sub(phase).div_ceil(s);
            return Phase { at: phase, extent: 1, outputs, taps: 0, first: phase, every: 1, shift: 0, step: 0 };
        }
        let every = reads.get(1).map_or(1, |second| second - reads[0]);
        let first = reads[0];
        Phase {
            at: phase,
            extent: 1,
            outputs: self.output[i].saturating_sub(phase).div_ceil(s),
            taps: reads.len(),
            first,
            every,
            shift: ((phase + self.begin[i]) as i64 - (first * d) as i64).div_euclid(s as i64),
            step: (every * d / s) as i64,
        }
    }

    /// Adds `x * w` to `y`, axis by axis from `axis` on.
    fn add(&self, axis: usize, y: &mut [f64], x: &[f64], w: &[f64]) {
        if axis == self.rank() {
            y[0] += x[0] * w[0];
            return;
        }
        if y.is_empty() || x.is_empty() {
            return;
        }
        let (ys, xs, ws) = (y.len() / self.output[axis], x.len() / self.input[axis], w.len() / self.kernel[axis]);
        for (k, w) in w.chunks_exact(ws).enumerate() {
            for (q, x) in x.chunks_exact(xs).enumerate() {
                let p = (q * self.strides[axis] + k * self.dilations[axis]).checked_sub(self.begin[axis]);
                if let Some(p) = p.filter(|&p| p < self.output[axis]) {
                    self.add(axis + 1, &mut y[p * ys..][..ys], x, w);
                }
            }
        }
    }
}

impl Operator for ConvTranspose {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, FLOATS)?;
        x.require_same_dtype(1, 0)?;
        let spread = self.spread(x)?;
        let (image, w) = (x.ty(0)?, x.dims(1)?);
        if self.group < 1 || !w[0].is_multiple_of(self.group as usize) {
            return Err(InferError::Invalid(format!("{} channels in {} groups", w[0], self.group)));
        }
        require_equal(&image.shape.0[1], &Dim::Fixed(w[0]), "channels of the input and of the weights differ")?;
        let filters = w[1].checked_mul(self.group as usize).ok_or_else(|| InferError::Invalid(format!("`group` is {}", self.group)))?;
        if x.has(2) {
            x.require_same_dtype(2, 0)?;
            require_vector(&x.ty(2)?.shape.0, &Dim::Fixed(filters), "the bias")?;
        }
        let dims = [image.shape.0[0].clone(), filters.into()].into_iter().chain(spread.output.iter().map(|&d| d.into()));
        Ok(vec![Type::new(dtype, dims.collect())])
    }

    fn axes(&self, x: &Operands) -> Axes {
        let Ok(rank) = x.rank(0) else { return Axes::unlinked(x) };
        let filter = (self.group == 1).then_some(1);
        let rest = vec![None; rank.saturating_sub(2)];
        let operands = vec![
            [&[Some(0), None], &rest[..]].concat(),
            [&[None, filter], &rest[..]].concat(),
            if x.has(2) { vec![filter] } else { vec![] },
        ];
        Axes { operands, results: vec![[&[Some(0), filter], &rest[..]].concat()], elementwise: false }
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let spread = self.spread(x).map_err(|e| EvalError::Invalid(e.to_string()))?;
        let (image, w) = (x.tensor(0), x.tensor(1));
        let (n, channels, groups) = (image.dims()[0], image.dims()[1], self.group as usize);
        let (per_group, group_filters) = (channels / groups, w.dims()[1]);
        let filters = groups * group_filters;
        let (xv, wv) = (image.to_f64s(), w.to_f64s());
        let bias = x.tensor_opt(2).map(Tensor::to_f64s);
        let (plane_in, plane_out, taps) = (n_elements(&spread.input), n_elements(&spread.output), n_elements(&spread.kernel));
        let mut out = vec![0.0; n * filters * plane_out];
        for b in 0..n {
            for o in 0..filters {
                let y = &mut out[(b * filters + o) * plane_out..][..plane_out];
                y.fill(bias.as_ref().map_or(0.0, |v| v[o]));
                for i in o / group_filters * per_group..(o / group_filters + 1) * per_group {
                    let w = &wv[(i * group_filters + o % group_filters) * taps..][..taps];
                    spread.add(0, y, &xv[(b * channels + i) * plane_in..][..plane_in], w);
                }
            }
        }
        let dims = [&[n, filters], &spread.output[..]].concat();
        Ok(vec![Tensor::from_f64s(image.dtype(), &dims, &out)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let spread = self.spread(x.facts)?;
        let (image, w, bias) = (x.tensor(0), x.tensor(1), x.get(2));
        let (dims, w_dims, groups) = (x.result_dims(0), x.dims(1), self.group as usize);
        let (per_group, group_filters) = (w_dims[0] / groups, w_dims[1]);
        let dtype = b.dtype(image);
        let out = b.declare(dtype, &dims);
        let rank = spread.rank();
        let by_axis: Vec<Vec<Phase>> = (0..rank).map(|i| spread.phases(i)).collect();
        let mut combinations: Vec<Vec<Phase>> = vec![];
        let n_phases: Vec<usize> = by_axis.iter().map(Vec::len).collect();
        for_each_index(&n_phases, |_, at| combinations.push(at.iter().zip(&by_axis).map(|(&p, phases)| phases[p]).collect()));
        for parts in combinations {
            let outputs: Vec<usize> = parts.iter().map(|p| p.outputs).collect();
            if outputs.contains(&0) {
                continue;
            }
            let extents: Vec<usize> = parts.iter().map(|p| p.extent).collect();
            // Batch, group, filter, then where in the output, then the phase.
            let axes = Squeezed::new(&[&[dims[0], groups, group_filters], &outputs[..], &extents[..]].concat(), |i| match i {
                1 => false,
                2 => groups == 1,
                _ => i < 3 + rank,
            });
            let taps: Vec<usize> = parts.iter().map(|p| p.taps).collect();
            let over = Squeezed::new(&[&[per_group], &taps[..]].concat(), |_| false);
            let filter = |at: &[Affine]| at[1].times(group_filters as i64).plus(&at[2]);
            let place = |at: &[Affine]| {
                let at = axes.expand(at);
                let pixel = parts
                    .iter()
                    .enumerate()
                    .map(|(i, p)| at[3 + i].times(spread.strides[i] as i64).plus(&at[3 + rank + i]).offset(p.at as i64));
                [at[0].clone(), filter(&at)].into_iter().chain(pixel).collect::<Vec<_>>()
            };
            let finish = |b: &expr::Builder, at: &[Affine], sum: Expr| {
                bias.map_or(sum.clone(), |bias| sum + load_wide(b, bias, &[filter(&axes.expand(at))])).cast(dtype)
            };
            let product = |b: &expr::Builder, at: &[Affine], k: &[Affine]| {
                let (at, k) = (axes.expand(at), over.expand(k));
                let channel = at[1].times(per_group as i64).plus(&k[0]);
                let (mut from, mut tap) = (vec![at[0].clone(), channel.clone()], vec![channel, at[2].clone()]);
                for (i, p) in parts.iter().enumerate() {
                    from.push(at[3 + i].plus(&k[1 + i].times(-p.step)).offset(p.shift));
                    tap.push(k[1 + i].times(p.every as i64).plus(&at[3 + rank + i]).offset(p.first as i64));
                }
                let padded = parts.iter().enumerate().any(|(i, p)| {
                    let (first, last) = (p.shift - p.step * (p.taps as i64 - 1), p.outputs as i64 - 1 + p.shift);
                    first < 0 || last >= spread.input[i] as i64
                });
                let pixel = if padded { b.load_padded(image, from, Expr::constant(dtype, 0.0)) } else { b.load(image, from) };
                pixel.cast(wide(dtype)) * load_wide(b, w, &tap)
            };
            if taps.contains(&0) || per_group == 0 {
                b.write(out, &axes.dims, |b, at| (place(at), finish(b, at, Expr::constant(wide(dtype), 0.0))));
            } else if over.dims.is_empty() {
                b.write(out, &axes.dims, |b, at| (place(at), finish(b, at, product(b, at, &[]))));
            } else {
                b.write_reduce(out, ReduceOp::Sum, &axes.dims, &over.dims, place, product, finish);
            }
        }
        Ok(vec![out])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn inputs_spread_over_their_windows() {
        let y = check_op("ConvTranspose strides=[2]", [t("f32[1,1,3] 1 2 3"), t("f32[1,1,3] 1 10 100")]);
        assert_eq!(y[0], t("f32[1,1,7] 1 10 102 20 203 30 300"));
    }

    #[test]
    fn all_forms_agree() {
        for (op, x, w) in [
            ("ConvTranspose", "f32[2,3,4,3]", "f32[3,4,3,2]"),
            ("ConvTranspose strides=[2,3] pads=[1,0,0,1]", "f32[1,2,4,3]", "f32[2,3,3,2]"),
            ("ConvTranspose strides=[3,3]", "f32[1,2,2,2]", "f32[2,2,2,1]"),
            ("ConvTranspose strides=[2,2] dilations=[2,1] output_padding=[1,0]", "f32[1,2,3,3]", "f32[2,1,2,3]"),
            ("ConvTranspose strides=[3] dilations=[2]", "f32[1,2,4]", "f32[2,2,4]"),
            ("ConvTranspose group=2 strides=[2]", "f32[1,4,4]", "f32[4,3,3]"),
            ("ConvTranspose group=2 strides=[2]", "f32[1,2,4]", "f32[2,1,3]"),
            ("ConvTranspose strides=[2] output_shape=[8]", "f32[1,2,4]", "f32[2,1,3]"),
            ("ConvTranspose strides=[2] auto_pad=\"SAME_UPPER\"", "f16[1,2,4]", "f16[2,1,3]"),
            ("ConvTranspose strides=[1] auto_pad=\"SAME_LOWER\"", "f64[1,2,4]", "f64[2,1,4]"),
        ] {
            check_op(op, [random(x, 1), random(w, 2)]);
        }
        // Many phases are few stages.
        check_op("ConvTranspose strides=[32,32] pads=[7,0,0,3]", [random("f32[1,2,2,3]", 1), random("f32[2,3,64,40]", 2)]);
        check_op("ConvTranspose strides=[100] output_padding=[3]", [random("f32[1,2,3]", 1), random("f32[2,3,31]", 2)]);
        check_op("ConvTranspose strides=[3]", [random("f32[1,2,3]", 1), random("f32[2,3,2]", 2), random("f32[3]", 3)]);
        // One element a side.
        check_op("ConvTranspose", [random("f32[2,3,1,1]", 1), random("f32[3,4,5,2]", 2), random("f32[4]", 3)]);
        check_op("ConvTranspose strides=[2,1] pads=[1,2,0,1] output_padding=[1,0]", [random("f32[1,3,1,2]", 1), random("f32[3,2,4,5]", 2)]);
        check_op(
            "ConvTranspose output_padding=[0,1] strides=[1,2] dilations=[1,2]",
            [random("f32[1,3,1,1]", 1), random("f32[3,2,3,3]", 2)],
        );
    }

    #[test]
    fn errors_say_what_does_not_fit() {
        let error = |op: &str, x: &str, w: &str| check_error(op, [t(x), t(w)]);
        assert_eq!(error("ConvTranspose", "f32[1,3,4]", "f32[2,2,3]"), "channels of the input and of the weights differ: 3 and 2");
        assert_eq!(error("ConvTranspose pads=[4,4]", "f32[1,3,2]", "f32[3,2,3]"), "padding 8 of 4 elements");
        assert_eq!(error("ConvTranspose group=2", "f32[1,3,2]", "f32[3,2,3]"), "3 channels in 2 groups");
    }
}

//! `MatMulNBits`: a product with weights of few bits, scaled in blocks.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits>

use super::steps::{add_optional, wide_operand, wide_optional};
use crate::ops::elementwise::{BitShift, BitwiseAnd};
use crate::ops::movement::Gather;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `y = a * w^T + bias`, where `w[n,k] = (b[n,k] - zero_points[n,k / block_size]) * scales[n,k / block_size]`.
    MatMulNBits(a, b, scales, "zero_points?", "g_idx?", "bias?") -> (y) since [1] in "com.microsoft";
    /// Columns of `w`.
    k as "K": i64,
    /// Rows of `w`.
    n as "N": i64,
    /// How roughly a kernel may compute; not used.
    accuracy_level: i64 = 0,
    /// Bits of a weight: 2, 4 or 8.
    bits: i64 = 4,
    /// Weights that share a scale.
    block_size: i64,
    /// Whether weights are in the order of some kernel; not supported.
    weight_prepacked: i64 = 0,
}

composite!(MatMulNBits);

/// The integers of `bits` bits in the bytes of the last axis, lowest first.
pub(super) fn unpacked(s: &mut Steps<'_>, bytes: Step, bits: usize) -> Result<Step, InferError> {
    if bits == 8 {
        return Ok(bytes);
    }
    let mut dims = s.dims(bytes)?;
    let mask = s.constant(Tensor::from_ints(DType::U8, &[], &[(1 << bits) - 1]));
    let mut parts = vec![];
    for shift in (0..8).step_by(bits) {
        let by = s.constant(Tensor::from_ints(DType::U8, &[], &[shift]));
        let moved = if shift == 0 { bytes } else { s.apply(BitShift { direction: "RIGHT".to_owned() }, &[bytes, by])? };
        let part = s.apply(BitwiseAnd {}, &[moved, mask])?;
        parts.push(s.unsqueeze(part, dims.len() as i64)?);
    }
    let together = s.concat(&parts, dims.len() as i64)?;
    if let Some(last) = dims.last_mut() {
        *last *= 8 / bits;
    }
    s.reshape(together, &dims)
}

impl MatMulNBits {
    /// The weights, `[N,K]`.
    fn weights(&self, s: &mut Steps<'_>) -> Result<Step, InferError> {
        let size = |x: i64, what: &str| {
            usize::try_from(x).ok().filter(|&x| x > 0 && x < 1 << 31).ok_or_else(|| InferError::Invalid(format!("`{what}` is {x}")))
        };
        let (k, n, block) = (size(self.k, "K")?, size(self.n, "N")?, size(self.block_size, "block_size")?);
        if ![2, 4, 8].contains(&self.bits) || self.weight_prepacked != 0 {
            return Err(InferError::Unsupported(format!(
                "weights of {} bits (prepacked: {}) are not supported",
                self.bits, self.weight_prepacked
            )));
        }
        let (bits, blocks) = (self.bits as usize, k.div_ceil(block));
        s.operands().require_dtype(1, &[DType::U8])?;
        let packed = s.operand(1)?;
        let packed = s.reshape(packed, &[n, blocks * (block * bits).div_ceil(8)])?;
        let weights = unpacked(s, packed, bits)?;
        let weights = s.cast(weights, DType::F32)?;
        let zeros = match s.optional(3) {
            Some(zeros) if s.dtype(zeros) == DType::U8 => {
                let zeros = s.reshape(zeros, &[n, (blocks * bits).div_ceil(8)])?;
                let zeros = unpacked(s, zeros, bits)?;
                let zeros = s.slice(zeros, 1, 0, blocks)?;
                Some(s.cast(zeros, DType::F32)?)
            }
            _ => wide_optional(s, 3)?,
        };
        let zeros = zeros.unwrap_or_else(|| s.number(DType::F32, f64::from(1u32 << (bits - 1))));
        let scales = wide_operand(s, 2)?;
        let scales = s.reshape(scales, &[n, blocks])?;
        let zeros = if s.dims(zeros)?.is_empty() { zeros } else { s.reshape(zeros, &[n, blocks])? };
        if let Some(groups) = s.optional(4) {
            // Columns name their block.
            let weights = s.slice(weights, 1, 0, k)?;
            let scales = s.apply(Gather { axis: 1 }, &[scales, groups])?;
            let zeros = if s.dims(zeros)?.is_empty() { zeros } else { s.apply(Gather { axis: 1 }, &[zeros, groups])? };
            let centered = s.sub(weights, zeros)?;
            return s.mul(centered, scales);
        }
        let weights = s.reshape(weights, &[n, blocks, block])?;
        let scales = s.unsqueeze(scales, 2)?;
        let zeros = if s.dims(zeros)?.is_empty() { zeros } else { s.unsqueeze(zeros, 2)? };
        let centered = s.sub(weights, zeros)?;
        let weights = s.mul(centered, scales)?;
        let weights = s.reshape(weights, &[n, blocks * block])?;
        if blocks * block == k { Ok(weights) } else { s.slice(weights, 1, 0, k) }
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        let weights = self.weights(s)?;
        let weights = s.transpose(weights, &[1, 0])?;
        let a = wide_operand(s, 0)?;
        let y = s.matmul(a, weights)?;
        let bias = wide_optional(s, 5)?;
        let y = add_optional(s, y, bias)?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn weights_are_unpacked_low_bits_first() {
        let op = "com.microsoft.MatMulNBits K=4 N=1 block_size=4 bits=4";
        let x = |a: &str| [t(a), t("u8[1,1,2] 33 67"), t("f32[1] 0.5")];
        // Weights 1, 2, 3, 4 minus 8, halved.
        assert_eq!(check_op(op, x("f32[4,4] 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"))[0], t("f32[4,1] -3.5 -3 -2.5 -2"));
        let error = check_error("com.microsoft.MatMulNBits K=4 N=1 block_size=4 bits=3", x("f32[1,4]"));
        assert_eq!(error, "weights of 3 bits (prepacked: 0) are not supported");
    }

    #[test]
    fn all_forms_agree() {
        let b = |bits: usize| random(&format!("u8[3,2,{}]", 2 * bits), 2);
        for (bits, zero) in [(2, "u8[3,1]"), (4, "u8[3,1]"), (8, "u8[3,2]"), (4, "f32[3,2]")] {
            let op = format!("com.microsoft.MatMulNBits K=24 N=3 block_size=16 bits={bits}");
            let x = [Some(random("f32[2,24]", 1)), Some(b(bits)), Some(random("f32[3,2]", 3)), Some(random(zero, 4))];
            check_op(&op, x.clone());
            let groups: Vec<i64> = (0..24).map(|k| k % 2).collect();
            let groups =
                crate::tensor::Tensor::from_ints(crate::tensor::DType::I32, &[24], &groups.iter().map(|&g| g.into()).collect::<Vec<_>>());
            check_op(&op, [&x[..], &[Some(groups), Some(random("f32[3]", 5))]].concat());
        }
    }
}

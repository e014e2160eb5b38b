//! `MatMulBnb4`: a product with weights that are 4 bits of a table of 16 numbers each, scaled in blocks.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulBnb4>

use super::matmul_nbits::unpacked;
use super::steps::wide_operand;
use crate::ops::movement::Gather;
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `y = a * w^T`, where `w[n,k]` is the number of the code in `b` times the scale of its block, blocks running over all of `w`.
    MatMulBnb4(a, b, absmax) -> (y) since [1] in "com.microsoft";
    /// Columns of `w`.
    k as "K": i64,
    /// Rows of `w`.
    n as "N": i64,
    /// Weights that share a scale.
    block_size: i64,
    /// Which numbers: 0 for floating-point ones, 1 for quantiles of the normal distribution.
    quant_type: i64,
    /// Whether this is training; not used.
    training_mode: i64 = 0,
    /// Whether `w` is transposed; else `y = a * w`.
    trans_b as "transB": bool = true,
}

composite!(MatMulBnb4);

/// The numbers of 4 bits with a sign, two bits of exponent and one of mantissa, of at most 1.
const FLOATS: [f32; 16] = {
    let half = [0.0, 0.0625 / 12.0, 8.0 / 12.0, 1.0, 4.0 / 12.0, 6.0 / 12.0, 2.0 / 12.0, 3.0 / 12.0];
    let mut all = [0.0; 16];
    let mut i = 0;
    while i < 8 {
        all[i] = half[i];
        all[8 + i] = -half[i];
        i += 1;
    }
    all
};

/// Quantiles of the normal distribution, of at most 1 (Dettmers et al., QLoRA, 2023).
const NORMAL: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

impl MatMulBnb4 {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let size = |x: i64, what: &str| {
            usize::try_from(x).ok().filter(|&x| x > 0 && x < 1 << 31).ok_or_else(|| InferError::Invalid(format!("`{what}` is {x}")))
        };
        let (k, n, block) = (size(self.k, "K")?, size(self.n, "N")?, size(self.block_size, "block_size")?);
        let numbers = match self.quant_type {
            0 => FLOATS,
            1 => NORMAL,
            other => return Err(InferError::Invalid(format!("`quant_type` is {other}"))),
        };
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F16, DType::BF16])?;
        s.operands().require_dtype(1, &[DType::U8])?;
        let (count, packed) = (n * k, s.operand(1)?);
        let packed = s.reshape(packed, &[count.div_ceil(2)])?;
        // The first of two codes is in the upper half.
        let codes = unpacked(s, packed, 4)?;
        let pairs = s.reshape(codes, &[count.div_ceil(2), 2])?;
        let (low, high) = (s.slice(pairs, 1, 0, 1)?, s.slice(pairs, 1, 1, 2)?);
        let codes = s.concat(&[high, low], 1)?;
        let codes = s.reshape(codes, &[count.div_ceil(2) * 2])?;
        let codes = s.slice(codes, 0, 0, count)?;
        let codes = s.cast(codes, DType::I32)?;
        let table = s.constant(Tensor::from_slice(&[16], &numbers));
        let weights = s.apply(Gather { axis: 0 }, &[table, codes])?;
        let blocks = count.div_ceil(block);
        let scales = wide_operand(s, 2)?;
        let scales = s.reshape(scales, &[blocks, 1])?;
        let scales = s.expand(scales, &[blocks, block])?;
        let scales = s.reshape(scales, &[blocks * block])?;
        let scales = s.slice(scales, 0, 0, count)?;
        let weights = s.mul(weights, scales)?;
        let mut weights = s.reshape(weights, &[n, k])?;
        if self.trans_b {
            weights = s.transpose(weights, &[1, 0])?;
        }
        let a = wide_operand(s, 0)?;
        let y = s.matmul(a, weights)?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn codes_are_numbers_of_a_table() {
        let op = "com.microsoft.MatMulBnb4 K=2 N=2 block_size=2";
        // Codes 15, 7, 0 and 15.
        let x = [t("f32[2,2] 1 0 0 1"), t("u8[2] 247 15"), t("f32[2] 2 3")];
        assert_eq!(check_op(&format!("{op} quant_type=1"), x), [t("f32[2,2] 2 -3 0 3")]);
        let x = [t("f32[1,2] 1 1"), t("u8[2] 62 176"), t("f32[2] 1 1")];
        assert_eq!(check_op(&format!("{op} quant_type=0 transB=0"), x), [t("f32[1,2] 0 -0.16666667")]);
        check_op(
            "com.microsoft.MatMulBnb4 K=5 N=3 block_size=4 quant_type=1",
            [random("f16[2,5]", 1), random("u8[8]", 2), random("f16[4]", 3)],
        );
    }
}

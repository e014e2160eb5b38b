//! `GatherBlockQuantized`: rows of a table of few bits, scaled in blocks.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GatherBlockQuantized>

use super::matmul_nbits::unpacked;
use crate::ops::elementwise::{Less, Or};
use crate::ops::movement::Gather;
use crate::ops::{InferError, Step, Steps, normalize_axis};
use crate::tensor::DType;
use crate::{composite, operator};

operator! {
    /// `Gather` of `(data - zero_points) * scales`, one scale for each block of `quantize_axis`; zeros where an index is out of range.
    GatherBlockQuantized(data, indices, scales, "zero_points?") -> (output) since [1] in "com.microsoft";
    /// Bits of an element where `data` is bytes: 2, 4 or 8.
    bits: i64 = 4,
    /// Elements that share a scale.
    block_size: i64 = 128,
    /// The axis that is gathered from.
    gather_axis: i64 = 0,
    /// The axis of blocks.
    quantize_axis: i64 = 1,
}

composite!(GatherBlockQuantized);

impl GatherBlockQuantized {
    /// Integers as numbers, unpacked where several share a byte.
    fn numbers(&self, s: &mut Steps<'_>, v: Step) -> Result<Step, InferError> {
        let v = if s.dtype(v) == DType::U8 { unpacked(s, v, self.bits as usize)? } else { v };
        s.cast(v, DType::F32)
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, &[DType::U8, DType::U4, DType::I4])?;
        let result = s.operands().require_dtype(2, &[DType::F32, DType::F16, DType::BF16])?;
        if dtype == DType::U8 && ![2, 4, 8].contains(&self.bits) {
            return Err(InferError::Unsupported(format!("elements of {} bits are not supported", self.bits)));
        }
        let (data, indices, scales) = (s.operand(0)?, s.operand(1)?, s.operand(2)?);
        let rank = s.fact(data).ty.rank();
        let (gather, blocked) = (normalize_axis(self.gather_axis, rank)?, normalize_axis(self.quantize_axis, rank)?);
        if gather == blocked {
            return Err(InferError::Unsupported("elements that are gathered along the axis of their blocks are not supported".to_owned()));
        }
        let block = usize::try_from(self.block_size).ok().filter(|&b| b > 0);
        let block = block.ok_or_else(|| InferError::Invalid(format!("`block_size` is {}", self.block_size)))?;
        // Indices out of range are those of the first row, whose values are left out.
        let extent = s.dims(data)?[gather] as i64;
        let wide = s.cast(indices, DType::I64)?;
        let (least, end, zero) = (s.number(DType::I64, -extent as f64), s.number(DType::I64, extent as f64), s.number(DType::I64, 0.0));
        let below = s.apply(Less {}, &[wide, least])?;
        let inside = s.apply(Less {}, &[wide, end])?;
        let above = s.apply(crate::ops::elementwise::Not {}, &[inside])?;
        let outside = s.apply(Or {}, &[below, above])?;
        let indices = s.choose(outside, zero, wide)?;
        let n_indices = s.fact(indices).ty.rank();

        let rows = |s: &mut Steps<'_>, v: Step| s.apply(Gather { axis: gather as i64 }, &[v, indices]);
        let values = rows(s, data)?;
        let values = self.numbers(s, values)?;
        let dims = s.dims(values)?;
        let axis = if blocked > gather { blocked + n_indices - 1 } else { blocked };
        let scales = rows(s, scales)?;
        let scales = s.cast(scales, DType::F32)?;
        let blocks = s.dims(scales)?[axis];
        if blocks != dims[axis].div_ceil(block) {
            return Err(InferError::Invalid(format!("{blocks} scales for {} elements in blocks of {block}", dims[axis])));
        }
        // Each block's number for each of its elements.
        let spread = |s: &mut Steps<'_>, v: Step| {
            let mut wide = s.dims(v)?;
            let v = s.unsqueeze(v, axis as i64 + 1)?;
            wide.insert(axis + 1, block);
            let v = s.expand(v, &wide)?;
            let n = wide.remove(axis + 1);
            wide[axis] *= n;
            let v = s.reshape(v, &wide)?;
            if wide[axis] == dims[axis] { Ok(v) } else { s.slice(v, axis as i64, 0, dims[axis]) }
        };
        let zeros = match s.optional(3) {
            Some(zeros) => {
                let zeros = rows(s, zeros)?;
                let zeros = self.numbers(s, zeros)?;
                let zeros = if s.dims(zeros)?[axis] == blocks { zeros } else { s.slice(zeros, axis as i64, 0, blocks)? };
                Some(spread(s, zeros)?)
            }
            None if dtype == DType::U8 => Some(s.number(DType::F32, f64::from(1u32 << (self.bits - 1)))),
            None => None,
        };
        let centered = zeros.map_or(Ok(values), |zeros| s.sub(values, zeros))?;
        let scales = spread(s, scales)?;
        let scaled = s.mul(centered, scales)?;
        // The indices' axes are in place of the gathered one.
        let mut shape = vec![1; dims.len()];
        let places = s.dims(outside)?;
        shape[gather..gather + n_indices].copy_from_slice(&places);
        let outside = s.reshape(outside, &shape)?;
        let none = s.number(DType::F32, 0.0);
        let y = s.choose(outside, none, scaled)?;
        Ok(vec![s.cast(y, result)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn rows_are_scaled_in_blocks() {
        let op = "com.microsoft.GatherBlockQuantized block_size=2";
        let x = |data: &str| [t(data), t("i64[2] 1 -2"), t("f32[2,2] 1 2 3 4")];
        assert_eq!(check_op(op, x("i4[2,3] 1 2 3 4 5 -6")), [t("f32[2,3] 12 15 -24 1 2 6")]);
        let y = check_op(
            &format!("{op} bits=8"),
            [t("u8[2,4] 128 129 130 131 0 0 0 0"), t("i32[3] 0 7 -3"), t("f32[2,2] 1 2 3 4"), t("u8[2,2] 127 129 0 0")],
        );
        assert_eq!(y, [t("f32[3,4] 1 2 2 4 0 0 0 0 0 0 0 0")]);
        check_op("com.microsoft.GatherBlockQuantized block_size=16", [random("u8[5,16]", 1), t("i64[2,1] 4 0"), random("f16[5,2]", 2)]);
    }
}

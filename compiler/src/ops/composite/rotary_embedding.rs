//! `RotaryEmbedding`: pairs of elements turned by angles that grow with the position.
//! Spec: <https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html>

use crate::ops::movement::Gather;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `(a, b)` becomes `(a cos - b sin, a sin + b cos)` for the pairs of each head; `x` is `[batch,heads,length,size]` or `[batch,length,heads*size]`.
    RotaryEmbedding(x, cos_cache, sin_cache, "position_ids?") -> (y) since [23];
    /// Whether the elements of a pair are neighbours; otherwise they are half the turned elements apart.
    interleaved: bool = false,
    /// Number of heads, for operands of rank 3.
    num_heads: i64 = 0,
    /// Elements of a head that are turned; all where it is 0.
    rotary_embedding_dim: i64 = 0,
}

composite!(RotaryEmbedding);

impl RotaryEmbedding {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, mut cos, mut sin) = (s.operand(0)?, s.operand(1)?, s.operand(2)?);
        let dims = s.dims(x)?;
        let (batch, length, heads, size) = match dims[..] {
            [batch, heads, length, size] => (batch, length, heads, size),
            [batch, length, wide] => {
                let heads = usize::try_from(self.num_heads)
                    .ok()
                    .filter(|&h| h > 0 && wide.is_multiple_of(h))
                    .ok_or_else(|| InferError::Invalid(format!("`num_heads` {} of {wide} elements", self.num_heads)))?;
                (batch, length, heads, wide / heads)
            }
            _ => return Err(InferError::Invalid(format!("an operand of rank {}", dims.len()))),
        };
        let turned = match self.rotary_embedding_dim {
            0 => size,
            n => usize::try_from(n)
                .ok()
                .filter(|n| *n <= size)
                .ok_or_else(|| InferError::Invalid(format!("`rotary_embedding_dim` {n} of {size} elements")))?,
        };
        if turned % 2 != 0 {
            return Err(InferError::Invalid(format!("{turned} elements are not pairs")));
        }
        let half = turned / 2;
        if let Some(positions) = s.optional(3) {
            cos = s.apply(Gather { axis: 0 }, &[cos, positions])?;
            sin = s.apply(Gather { axis: 0 }, &[sin, positions])?;
        }
        // The operand keeps the order of its axes; angles get an axis of heads where the operand has it.
        let by_head = dims.len() == 4;
        let full = if by_head { vec![batch, heads, length] } else { vec![batch, length, heads] };
        let angle_dims = if by_head { [batch, 1, length, half] } else { [batch, length, 1, half] };
        let (cos, sin) = (s.reshape(cos, &angle_dims)?, s.reshape(sin, &angle_dims)?);
        let with = |last: &[usize]| [&full[..], last].concat();
        let x = s.reshape(x, &with(&[size]))?;
        let rotated = if turned < size { s.slice(x, 3, 0, turned)? } else { x };
        let (a, b) = if self.interleaved {
            let pairs = s.reshape(rotated, &with(&[half, 2]))?;
            let (a, b) = (s.slice(pairs, 4, 0, 1)?, s.slice(pairs, 4, 1, 2)?);
            (s.reshape(a, &with(&[half]))?, s.reshape(b, &with(&[half]))?)
        } else {
            (s.slice(rotated, 3, 0, half)?, s.slice(rotated, 3, half, turned)?)
        };
        let (ac, bs, asin, bc) = (s.mul(cos, a)?, s.mul(sin, b)?, s.mul(sin, a)?, s.mul(cos, b)?);
        let (real, imaginary) = (s.sub(ac, bs)?, s.add(asin, bc)?);
        let mut y = if self.interleaved {
            let (real, imaginary) = (s.unsqueeze(real, 4)?, s.unsqueeze(imaginary, 4)?);
            let pairs = s.concat(&[real, imaginary], 4)?;
            s.reshape(pairs, &with(&[turned]))?
        } else {
            s.concat(&[real, imaginary], 3)?
        };
        if turned < size {
            let rest = s.slice(x, 3, turned, size)?;
            y = s.concat(&[y, rest], 3)?;
        }
        Ok(vec![s.reshape(y, &dims)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn pairs_turn() {
        let turn = |op: &str| check_op(op, [t("f32[1,1,1,4] 1 2 3 4"), t("f32[1,1,2] 0 1"), t("f32[1,1,2] 1 0")]);
        assert_eq!(turn("RotaryEmbedding")[0], t("f32[1,1,1,4] -3 2 1 4"));
        assert_eq!(turn("RotaryEmbedding interleaved=1")[0], t("f32[1,1,1,4] -2 1 3 4"));
    }

    #[test]
    fn all_forms_agree() {
        for op in ["RotaryEmbedding rotary_embedding_dim=4", "RotaryEmbedding interleaved=1 rotary_embedding_dim=4"] {
            let caches = [random("f32[50,2]", 2), random("f32[50,2]", 3), t("i64[2,3] 1 2 3 7 8 49")];
            check_op(op, [&[random("f32[2,4,3,8]", 1)][..], &caches].concat());
            check_op(&format!("{op} num_heads=4"), [&[random("f32[2,3,32]", 1)][..], &caches].concat());
            check_op(op, [random("f32[2,4,3,8]", 1), random("f32[2,3,2]", 2), random("f32[2,3,2]", 3)]);
        }
        assert_eq!(check_error("RotaryEmbedding", [t("f32[1,2,4]"), t("f32[1,2,2]"), t("f32[1,2,2]")]), "`num_heads` 0 of 4 elements");
    }
}

//! `GatedRelativePositionBias`, `ScaledSiLU` and `SwiGLU`: values scaled by sigmoids.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GatedRelativePositionBias>

use super::heads::{heads_of, split_heads};
use super::steps::{wide_operand, wide_optional};
use crate::ops::elementwise::{Clip, Sigmoid, Swish};
use crate::ops::neural::ReduceSum;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `output = (u * (r * eco_a - 1) + 2) * rel_pos`, where `u` and `r` are sigmoids of sums of the halves of a linear layer of each head of
    /// `query_layer + query_bias`.
    GatedRelativePositionBias(query_layer, query_bias, rel_pos, weight, bias, eco_a, "token_offset?") -> (output) since [1] in "com.microsoft";
    /// Number of heads.
    num_heads: i64,
}

operator! {
    /// `z * sigmoid(z)` of `z = scale * x`, `alpha` where there is no scale.
    ScaledSiLU(x, "scale?") -> (y) since [1] in "com.microsoft";
    /// The scale, where the operand is absent.
    alpha: f32 = 1.0f32,
}

operator! {
    /// `g * sigmoid(activation_alpha * g) * (u + activation_beta)`, of gates and values within the limit.
    SwiGLU(gate, up) -> (output) since [1] in "com.microsoft";
    /// Factor inside the sigmoid.
    activation_alpha: f32 = 1.0f32,
    /// Addend of what is gated.
    activation_beta: f32 = 0.0f32,
    /// Greatest gate and magnitude of a value; none where it is not above 0.
    limit: f32 = 0.0f32,
    /// Whether the gated value is rounded before the last product; only half precision differs.
    round_activation: bool = false,
}

composite!(GatedRelativePositionBias);
composite!(ScaledSiLU);
composite!(SwiGLU);

impl GatedRelativePositionBias {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        if s.operands().has(6) {
            return Err(InferError::Unsupported("tokens without padding are not supported".to_owned()));
        }
        let heads = heads_of(self.num_heads, "num_heads")?;
        let (query, bias, positions) = (wide_operand(s, 0)?, wide_operand(s, 1)?, wide_operand(s, 2)?);
        let (weight, addend, eco) = (wide_operand(s, 3)?, wide_operand(s, 4)?, wide_operand(s, 5)?);
        let query = s.add(query, bias)?;
        let query = split_heads(s, query, heads)?;
        let linear = s.matmul(query, weight)?;
        let linear = s.add(linear, addend)?;
        let mut dims = s.dims(linear)?;
        let wide = dims.pop().unwrap_or(0);
        if wide % 2 != 0 {
            return Err(InferError::Invalid(format!("an axis of extent {wide} has no halves")));
        }
        let halves = s.reshape(linear, &[&dims[..], &[2, wide / 2]].concat())?;
        let axes = s.ints(&[-1]);
        let sums = s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[halves, axes])?;
        let gates = s.apply(Sigmoid {}, &[sums])?;
        let (u, r) = (s.slice(gates, 3, 0, 1)?, s.slice(gates, 3, 1, 2)?);
        let (one, two) = (s.number(s.dtype(gates), 1.0), s.number(s.dtype(gates), 2.0));
        let inside = s.mul(r, eco)?;
        let inside = s.sub(inside, one)?;
        let gate = s.mul(u, inside)?;
        let gate = s.add(gate, two)?;
        let y = s.mul(gate, positions)?;
        Ok(vec![s.cast(y, s.operands().dtype(0)?)?])
    }
}

impl ScaledSiLU {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, scale) = (wide_operand(s, 0)?, wide_optional(s, 1)?);
        let scale = match scale {
            Some(scale) => s.reshape(scale, &[])?,
            None => s.number(s.dtype(x), self.alpha.into()),
        };
        let (x, scale) = (x, s.cast(scale, s.dtype(x))?);
        let z = s.mul(x, scale)?;
        let y = s.apply(Swish { alpha: 1.0 }, &[z])?;
        Ok(vec![s.cast(y, s.operands().dtype(0)?)?])
    }
}

impl SwiGLU {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (dtype, mut gate, mut up) = (s.operands().dtype(0)?, wide_operand(s, 0)?, wide_operand(s, 1)?);
        if self.limit > 0.0 {
            let (least, most) = (s.number(s.dtype(gate), -f64::from(self.limit)), s.number(s.dtype(gate), self.limit.into()));
            gate = s.apply_all(Box::new(Clip {}), &[Some(gate), None, Some(most)], 1)?[0];
            up = s.apply(Clip {}, &[up, least, most])?;
        }
        let mut gate = s.apply(Swish { alpha: self.activation_alpha }, &[gate])?;
        if self.round_activation {
            let rounded = s.cast(gate, dtype)?;
            gate = s.cast(rounded, s.dtype(up))?;
        }
        if self.activation_beta != 0.0 {
            let beta = s.number(s.dtype(up), self.activation_beta.into());
            up = s.add(up, beta)?;
        }
        let y = s.mul(gate, up)?;
        Ok(vec![s.cast(y, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{assert_close, check_error, check_op, random, t};

    #[test]
    fn gates() {
        let f = |dims: &str, seed| random(&format!("f32{dims}"), seed);
        let x = [f("[2,3,8]", 1), f("[8]", 2), f("[1,2,3,3]", 3), f("[4,6]", 4), f("[6]", 5), f("[1,2,1,1]", 6)];
        assert_eq!(check_op("com.microsoft.GatedRelativePositionBias num_heads=2", x)[0].dims(), [2, 2, 3, 3]);
        // Gates of a half each.
        let zero =
            [t("f32[1,1,2] 1 2"), t("f32[2] -1 -2"), t("f32[1,1,1,1] 8"), t("f32[2,2] 1 1 1 1"), t("f32[2] 0 0"), t("f32[1,1,1,1] 1")];
        assert_eq!(check_op("com.microsoft.GatedRelativePositionBias num_heads=1", zero), [t("f32[1,1,1,1] 14")]);
        assert_close(&check_op("com.microsoft.ScaledSiLU alpha=2.0", [t("f32[2] 0 0.5")])[0], &t("f32[2] 0 0.73105858"));
        check_op("com.microsoft.ScaledSiLU", [random("f16[4]", 1), t("f32[1] 0.5")]);
        assert_eq!(
            check_op("com.microsoft.SwiGLU limit=1.0 activation_beta=1.0", [t("f32[2] 0 -100"), t("f32[2] 5 -9")]),
            [t("f32[2] 0 -0")]
        );
        check_op("com.microsoft.SwiGLU round_activation=1", [random("f16[4]", 1), random("f16[4]", 2)]);
        assert_eq!(check_error("com.microsoft.SwiGLU", [t("f32[2]")]), "operand 1 is missing");
    }
}

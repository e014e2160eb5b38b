//! `GroupNorm` and `SkipGroupNorm`: group normalization of images whose channels are mostly the last axis, with an activation.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupNorm>,
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SkipGroupNorm>

use super::steps::{add_optional, channels_second, wide_operand, wide_optional};
use crate::ops::elementwise::Swish;
use crate::ops::neural::GroupNormalization;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `y = activation(gamma[c] * (x - mean) / sqrt(variance + epsilon) + beta[c])`, over each group of channels.
    GroupNorm(x, gamma, beta) -> (y) since [1] in "com.microsoft";
    /// 0 for none, 1 for `x * sigmoid(x)`.
    activation: i64,
    /// Whether channels are the last axis instead of the second.
    channels_last: bool = true,
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
    /// Number of groups; divides the channels.
    groups: i64,
}

operator! {
    /// `GroupNorm` of `s = x + skip + bias`; `skip` may be one for each channel of each sample.
    SkipGroupNorm(x, gamma, beta, skip, "bias?") -> (y, "s?") since [1] in "com.microsoft";
    /// 0 for none, 1 for `x * sigmoid(x)`.
    activation: i64,
    /// Whether channels are the last axis instead of the second.
    channels_last: bool = true,
    /// Added to the variance.
    epsilon: f32 = 1e-5f32,
    /// Number of groups; divides the channels.
    groups: i64,
}

composite!(GroupNorm);
composite!(SkipGroupNorm);

impl GroupNorm {
    /// Of a value, with scale and bias in operands 1 and 2.
    fn of(&self, s: &mut Steps<'_>, x: Step) -> Result<Step, InferError> {
        let (gamma, beta) = (wide_operand(s, 1)?, wide_operand(s, 2)?);
        let norm = GroupNormalization { epsilon: self.epsilon, num_groups: self.groups, stash_type: 1 };
        let y = channels_second(s, x, self.channels_last, |s, x| s.apply(norm, &[x, gamma, beta]))?;
        let y = match self.activation {
            0 => y,
            1 => s.apply(Swish { alpha: 1.0 }, &[y])?,
            other => return Err(InferError::Invalid(format!("`activation` is {other}"))),
        };
        s.cast(y, s.operands().dtype(0)?)
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let x = wide_operand(s, 0)?;
        Ok(vec![self.of(s, x)?])
    }
}

impl SkipGroupNorm {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let (x, mut skip, bias) = (wide_operand(s, 0)?, wide_operand(s, 3)?, wide_optional(s, 4)?);
        let dims = s.dims(x)?;
        let channels = if self.channels_last { dims.len() - 1 } else { 1 };
        let per_channel: Vec<usize> = (0..dims.len()).map(|a| if a == 0 || a == channels { dims[a] } else { 1 }).collect();
        if s.dims(skip)? == [dims[0], dims[channels]] {
            skip = s.reshape(skip, &per_channel)?;
        }
        let bias = match bias {
            Some(bias) => Some(s.reshape(bias, &[&[1][..], &per_channel[1..]].concat())?),
            None => None,
        };
        let sum = s.add(x, skip)?;
        let sum = add_optional(s, sum, bias)?;
        let norm = GroupNorm { activation: self.activation, channels_last: self.channels_last, epsilon: self.epsilon, groups: self.groups };
        let mut results = vec![norm.of(s, sum)?];
        if s.operands().n_results > 1 {
            results.push(s.cast(sum, s.operands().dtype(0)?)?);
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, assert_close, check_op, random, t};

    #[test]
    fn groups_of_the_last_axis() {
        let x = || [random("f32[2,3,3,4]", 1), random("f32[4]", 2), random("f32[4]", 3)];
        let y = check_op("com.microsoft.GroupNorm groups=2 activation=1", x());
        let [image, gamma, beta] = x();
        let skip = [image, gamma, beta, t("f32[2,4] 0 0 0 0 0 0 0 0"), t("f32[4] 0 0 0 0")];
        let z = Check::new("com.microsoft.SkipGroupNorm groups=2 activation=1").results(2).run(skip);
        assert_close(&y[0], &z[0]);
        assert_eq!(z[1], x()[0]);
        check_op(
            "com.microsoft.GroupNorm groups=2 activation=0 channels_last=0",
            [random("f16[2,4,3]", 1), random("f32[4]", 2), random("f32[4]", 3)],
        );
        let y =
            check_op("com.microsoft.GroupNorm groups=1 activation=0 epsilon=0.0", [t("f32[1,1,2] 1 3"), t("f32[2] 1 2"), t("f32[2] 0 5")]);
        assert_eq!(y, [t("f32[1,1,2] -1 7")]);
    }
}

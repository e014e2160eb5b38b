//! `QEmbedLayerNormalization`: `EmbedLayerNormalization` with tables of 8 bits.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.QEmbedLayerNormalization>

use super::embed_layer_norm::EmbedLayerNormalization;
use super::quantized::dequantize_by;
use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `layernorm_out = layer norm of (word[ids] + position[0..] + segment[s]) * gamma + beta`, of quantized tables, one scale each;
    /// `mask_index_out` counts the ones in each row of the mask.
    QEmbedLayerNormalization(input_ids, "segment_ids?", word_embedding_quant, position_embedding_quant, "segment_embedding?", gamma_quant, beta_quant,
        "mask?", word_embedding_scale, position_embedding_scale, "segment_embedding_scale?", gamma_scale, beta_scale, word_embedding_zero_point,
        position_embedding_zero_point, "segment_embedding_zero_point?", gamma_zero_point, beta_zero_point)
        -> (layernorm_out, mask_index_out) since [1] in "com.microsoft";
    /// Added to the variance.
    epsilon: f32 = 1e-12f32,
}

composite!(QEmbedLayerNormalization);

/// Tables, and how far behind them are their scales and zero points.
const TABLES: [usize; 5] = [2, 3, 4, 5, 6];
const SCALES: [usize; 5] = [8, 9, 10, 11, 12];
const ZEROS: [usize; 5] = [13, 14, 15, 16, 17];

impl QEmbedLayerNormalization {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let mut operands: Vec<Option<Step>> = (0..8).map(|i| s.optional(i)).collect();
        for ((table, scale), zero) in TABLES.into_iter().zip(SCALES).zip(ZEROS) {
            if let Some(value) = operands[table] {
                let (scale, zero) = (s.operand(scale)?, s.optional(zero));
                operands[table] = Some(dequantize_by(s, value, scale, zero)?);
            }
        }
        let n = s.operands().n_results.clamp(1, 2);
        s.apply_all(Box::new(EmbedLayerNormalization { epsilon: self.epsilon, mask_index_type: None }), &operands, n)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, random, t};

    #[test]
    fn tables_of_bytes() {
        let table = |n: usize, seed| Some(random(&format!("u8[{n},4]"), seed));
        let row = |seed| Some(random("u8[4]", seed));
        let (scale, zero) = (|| Some(t("f32[] 0.1")), || Some(t("u8[] 7")));
        let mut x =
            vec![Some(t("i32[2,3] 0 4 1 2 2 3")), Some(t("i32[2,3] 0 1 1 0 0 0")), table(5, 1), table(3, 2), table(2, 3), row(4), row(5)];
        x.push(Some(t("i32[2,3] 1 1 0 1 0 0")));
        x.extend((0..5).map(|_| scale()));
        x.extend((0..5).map(|_| zero()));
        let y = Check::new("com.microsoft.QEmbedLayerNormalization epsilon=1e-3").results(2).run(x);
        assert_eq!(y[1], t("i32[2] 2 1"));
    }
}

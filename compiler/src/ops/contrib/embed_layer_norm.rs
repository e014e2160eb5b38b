//! `EmbedLayerNormalization`: the sum of word, position and segment embeddings, normalized.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.EmbedLayerNormalization>

use super::steps::{wide, wide_operand};
use crate::ops::elementwise::Equal;
use crate::ops::movement::Gather;
use crate::ops::neural::{LayerNormalization, ReduceSum};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `output = layer norm of (word[ids] + position[p] + segment[s]) * gamma + beta`; `mask_index` counts the ones in each row of the mask.
    EmbedLayerNormalization(input_ids, "segment_ids?", word_embedding, position_embedding, "segment_embedding?", gamma, beta, "mask?", "position_ids?")
        -> (output, "mask_index?", "embedding_sum?") since [1] in "com.microsoft";
    /// Added to the variance.
    epsilon: f32 = 1e-12f32,
    /// Form of `mask_index`: 0 for none, 1 for the number of ones.
    mask_index_type: Option<i64>,
}

composite!(EmbedLayerNormalization);

const IDS: usize = 0;
const SEGMENT_IDS: usize = 1;
const WORD: usize = 2;
const POSITION: usize = 3;
const SEGMENT: usize = 4;
const GAMMA: usize = 5;
const BETA: usize = 6;
const MASK: usize = 7;
const POSITION_IDS: usize = 8;

/// Rows of the table in operand `table`.
fn rows(s: &mut Steps<'_>, table: usize, ids: Step) -> Result<Step, InferError> {
    let table = s.operand(table)?;
    let rows = s.apply(Gather { axis: 0 }, &[table, ids])?;
    wide(s, rows)
}

impl EmbedLayerNormalization {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().dtype(WORD)?;
        let dims = s.operands().dims(IDS)?;
        let [batch, length] = dims[..] else {
            return Err(InferError::Invalid(format!("the ids are `{}`, not a matrix", s.operands().ty(IDS)?)));
        };
        let ids = s.operand(IDS)?;
        let words = rows(s, WORD, ids)?;
        let positions = match s.optional(POSITION_IDS) {
            Some(ids) => rows(s, POSITION, ids)?,
            None => {
                if s.operands().dims(POSITION)?.first().is_none_or(|&n| n < length) {
                    return Err(InferError::Invalid(format!("there are fewer than {length} position embeddings")));
                }
                let table = s.operand(POSITION)?;
                let rows = s.slice(table, 0, 0, length)?;
                wide(s, rows)?
            }
        };
        let mut sum = s.add(words, positions)?;
        match (s.optional(SEGMENT_IDS), s.optional(SEGMENT)) {
            (Some(ids), Some(_)) => {
                let segments = rows(s, SEGMENT, ids)?;
                sum = s.add(sum, segments)?;
            }
            (None, None) => {}
            _ => return Err(InferError::Invalid("segments need ids and embeddings".to_owned())),
        }
        let operands = [sum, wide_operand(s, GAMMA)?, wide_operand(s, BETA)?];
        let y = s.apply(LayerNormalization { axis: -1, epsilon: self.epsilon, stash_type: 1 }, &operands)?;
        let mut results = vec![s.cast(y, dtype)?];
        if s.operands().n_results > 1 {
            results.push(match s.optional(MASK) {
                Some(mask) => {
                    let one = s.constant(Tensor::from_ints(s.dtype(mask), &[], &[1]));
                    let ones = s.apply(Equal {}, &[mask, one])?;
                    let (ones, axes) = (s.cast(ones, DType::I32)?, s.ints(&[1]));
                    s.apply(ReduceSum { keepdims: false, noop_with_empty_axes: false }, &[ones, axes])?
                }
                None => s.constant(Tensor::from_ints(DType::I32, &[batch], &vec![0; batch])),
            });
        }
        if s.operands().n_results > 2 {
            results.push(s.cast(sum, dtype)?);
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{Check, check_error, random, t};

    #[test]
    fn embeddings_are_summed_and_normalized() {
        let table = |n: usize, seed| Some(random(&format!("f32[{n},4]"), seed));
        let (gamma, beta) = (Some(random("f32[4]", 7)), Some(random("f32[4]", 8)));
        let ids = || Some(t("i32[2,3] 0 4 1 2 2 3"));
        let op = Check::new("com.microsoft.EmbedLayerNormalization epsilon=1e-3").results(3);
        let mask = Some(t("i32[2,3] 1 1 0 1 0 0"));
        let x = [ids(), Some(t("i32[2,3] 0 1 1 0 0 0")), table(5, 1), table(6, 2), table(2, 3), gamma.clone(), beta.clone(), mask];
        assert_eq!(op.run(x)[1], t("i32[2] 2 1"));
        let x = [ids(), None, table(5, 1), table(6, 2), None, gamma.clone(), beta.clone(), None, Some(t("i32[1,3] 5 0 1"))];
        assert_eq!(op.run(x)[1], t("i32[2] 0 0"));
        let x = [ids(), None, table(5, 1), table(2, 2), None, gamma, beta];
        assert_eq!(check_error("com.microsoft.EmbedLayerNormalization", x), "there are fewer than 3 position embeddings");
    }
}

//! `FusedMatMul` (and `TransposeMatMul`, its first name): the matrix product of transposed operands, scaled.
//! Spec: <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.FusedMatMul>

use crate::ops::{InferError, Step, Steps};
use crate::{composite, operator};

operator! {
    /// `y = alpha * a * b`, each operand transposed before as asked for.
    FusedMatMul(a, b) -> (y) since [1] in "com.microsoft";
    /// Scale of the product.
    alpha: f32 = 1.0,
    /// Whether the last two axes of `a` change places.
    trans_a as "transA": bool = false,
    /// Whether the last two axes of `b` change places.
    trans_b as "transB": bool = false,
    /// Whether the first axis of `a` moves behind its batch axes, before that.
    trans_batch_a as "transBatchA": bool = false,
    /// Whether the first axis of `b` moves behind its batch axes, before that.
    trans_batch_b as "transBatchB": bool = false,
}

composite!(FusedMatMul);

/// An operand, transposed as asked for; vectors stay as they are.
fn side(s: &mut Steps<'_>, i: usize, transposed: bool, batch: bool) -> Result<Step, InferError> {
    let v = s.operand(i)?;
    let rank = s.operands().rank(i)?;
    let mut order: Vec<i64> = (0..rank as i64).collect();
    if rank > 2 && batch {
        order[..rank - 1].rotate_left(1);
    }
    if rank > 1 && transposed {
        order.swap(rank - 2, rank - 1);
    }
    if order.is_sorted() { Ok(v) } else { s.transpose(v, &order) }
}

impl FusedMatMul {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let a = side(s, 0, self.trans_a, self.trans_batch_a)?;
        let b = side(s, 1, self.trans_b, self.trans_batch_b)?;
        let product = s.matmul(a, b)?;
        if self.alpha == 1.0 {
            return Ok(vec![product]);
        }
        let alpha = s.number(s.dtype(product), self.alpha.into());
        Ok(vec![s.mul(product, alpha)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_op, random, t};

    #[test]
    fn operands_are_transposed_and_the_product_scaled() {
        let y = check_op("com.microsoft.FusedMatMul transA=1 alpha=2.0", [t("f32[2,1] 1 2"), t("f32[2,2] 1 2 3 4")]);
        assert_eq!(y[0], t("f32[1,2] 14 20"));
        check_op("com.microsoft.FusedMatMul transB=1", [random("f64[2,3,4]", 1), random("f64[2,5,4]", 2)]);
        let (a, b) = (random("f32[3,2,4]", 1), random("f32[2,4,5]", 2));
        assert_eq!(check_op("com.microsoft.FusedMatMul transBatchA=1", [a, b])[0].dims(), [2, 3, 5]);
        check_op("com.microsoft.FusedMatMul transA=1", [random("f32[4]", 1), random("f32[4,2]", 2)]);
    }
}

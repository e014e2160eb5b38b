//! `TensorScatter`: rows written into a cache, at a place of its own for each batch.
//! Spec: <https://onnx.ai/onnx/operators/onnx__TensorScatter.html>

use crate::expr::{self, CompareOp, Expr, Place, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type, row_major_strides};

operator! {
    /// `past_cache` with `update` from position `write_indices[batch]` of `axis` on; 0 by default.
    TensorScatter(past_cache, update, "write_indices?") -> (present_cache) since [24];
    /// The axis.
    axis: i64 = -2,
    /// `linear`, or `circular`, which goes on at the front.
    mode: String = "linear",
}

impl TensorScatter {
    fn is_circular(&self) -> Result<bool, InferError> {
        match &self.mode[..] {
            "linear" => Ok(false),
            "circular" => Ok(true),
            other => Err(InferError::Invalid(format!("`mode` is `{other}`"))),
        }
    }
}

impl Operator for TensorScatter {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        self.is_circular()?;
        x.require_same_dtype(1, 0)?;
        let (cache, update, axis) = (x.dims(0)?, x.dims(1)?, x.axis(0, self.axis)?);
        let fits = |(i, (u, c)): (usize, (&usize, &usize))| if i == axis { u <= c } else { u == c };
        if axis == 0 || update.len() != cache.len() || !update.iter().zip(&cache).enumerate().all(fits) {
            return Err(InferError::Invalid(format!("an update of {} for a cache of {} along axis {axis}", x.ty(1)?, x.ty(0)?)));
        }
        if x.has(2) {
            x.require_dtype(2, &[DType::I32, DType::I64])?;
            if x.dims(2)? != [cache[0]] {
                return Err(InferError::Invalid(format!("positions {} for {} batches", x.ty(2)?, cache[0])));
            }
        }
        Ok(vec![x.ty(0)?.clone()])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (axis, circular) = (x.axis(0, self.axis).map_err(invalid)?, self.is_circular().map_err(invalid)?);
        let (cache, update) = (x.tensor(0), x.tensor(1));
        let starts = x.tensor_opt(2).map_or_else(|| vec![0; cache.dims()[0]], Tensor::to_ints);
        let (n, len) = (cache.dims()[axis], update.dims()[axis]);
        if let Some(&index) = starts.iter().find(|&&s| s < 0 || s > n as i128 || !circular && s + len as i128 > n as i128) {
            return Err(EvalError::IndexOutOfRange { index: index as i64, extent: n });
        }
        // Both in one row of bytes, so that one gather picks from either.
        let both = Tensor::from_bytes(cache.dtype(), &[cache.len() + update.len()], &[cache.bytes(), update.bytes()].concat());
        let (cs, us) = (row_major_strides(cache.dims()), row_major_strides(update.dims()));
        Ok(vec![both.gather(cache.dims(), |at| {
            let start = starts[at[0]] as usize;
            let ahead = if at[axis] >= start { at[axis] - start } else { at[axis] + n - start };
            let inside = ahead < len && (circular || at[axis] >= start);
            let flat = |s: &[usize]| at.iter().zip(s).map(|(i, s)| i * s).sum::<usize>();
            Some(if inside { cache.len() + flat(&us) - at[axis] * us[axis] + ahead * us[axis] } else { flat(&cs) })
        })])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (axis, circular) = (x.facts.axis(0, self.axis)?, self.is_circular()?);
        let (cache, update, starts) = (x.tensor(0), x.tensor(1), x.get(2));
        let (n, len) = (x.dims(0)[axis], x.dims(1)[axis]);
        let int = |v: usize| Expr::int(DType::I64, v as i64);
        if n == 0 || len == 0 {
            return Ok(vec![b.compute(&x.result_dims(0), |b, at| b.load(cache, at))]);
        }
        let out = b.copy(cache);
        b.scatter(out, &x.dims(1), None, |b, at, _| {
            let start = starts.map_or_else(|| int(0), |s| b.load(s, [at[0].clone()]).cast(DType::I64));
            let mut place = &start + &Expr::index(&at[axis]);
            if circular {
                let around = place.compare(CompareOp::Ge, &int(n)).select(&(&place - &int(n)), &place);
                // No start is beyond the end.
                place = start.compare(CompareOp::Le, &int(n)).select(&around, &int(n));
            }
            let mut to: Vec<Place> = at.iter().cloned().map(Place::Known).collect();
            to[axis] = Place::Data(place);
            (to, b.load(update, at))
        });
        Ok(vec![out])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn updates_land_in_the_cache() {
        let x = |at: &str| [t("f32[1,4,1] 1 2 3 4"), t("f32[1,2,1] 8 9"), t(at)];
        assert_eq!(check_op("TensorScatter", x("i64[1] 1"))[0], t("f32[1,4,1] 1 8 9 4"));
        assert_eq!(check_op("TensorScatter mode=\"circular\"", x("i64[1] 3"))[0], t("f32[1,4,1] 9 2 3 8"));
        assert_eq!(check_error("TensorScatter", x("i64[1] 3")), "index 3 is out of range for extent 4");
        check_op("TensorScatter axis=1", [random("f32[2,5,3,2]", 1), random("f32[2,2,3,2]", 2), t("i32[2] 3 0")]);
        check_op("TensorScatter", [random("i8[2,3,5,2]", 1), random("i8[2,3,5,2]", 2)]);
    }
}

//! `LinearAttention`: a state of key-value products, decayed, corrected and read at each place.
//! Spec: <https://onnx.ai/onnx/operators/onnx__LinearAttention.html>

use crate::expr::{self, Affine, Expr, ReduceOp, TensorId, UnaryOp};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Tensor, Type};

operator! {
    /// `state = exp(decay) * state + key^T * value`, `output = scale * query * state`, place by place; all `[batch,length,heads*size]`.
    LinearAttention(query, key, value, "past_state?", "decay?", "beta?") -> (output, present_state) since [27];
    /// Places that an implementation may take at once; does not change the result.
    chunk_size: i64 = 64,
    /// Number of heads of keys and values.
    kv_num_heads: i64,
    /// Number of heads of queries.
    q_num_heads: i64,
    /// Factor of the output; the inverse root of the key's size where it is 0.
    scale: f32 = 0.0,
    /// `linear`, `gated`, `delta` or `gated_delta`.
    update_rule: String = "gated_delta",
}

/// All extents.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    length: usize,
    heads: usize,
    kv_heads: usize,
    key: usize,
    value: usize,
    /// Decays of each head.
    decays: usize,
    /// Heads that have a beta of their own.
    betas: usize,
}

impl LinearAttention {
    fn rule(&self) -> Result<(bool, bool), InferError> {
        match &self.update_rule[..] {
            "linear" => Ok((false, false)),
            "gated" => Ok((true, false)),
            "delta" => Ok((false, true)),
            "gated_delta" => Ok((true, true)),
            other => Err(InferError::Invalid(format!("`update_rule` is `{other}`"))),
        }
    }

    fn sizes(&self, x: &Operands) -> Result<Sizes, InferError> {
        let (gated, delta) = self.rule()?;
        for (i, wanted, name) in [(4, gated, "decay"), (5, delta, "beta")] {
            if x.has(i) != wanted {
                return Err(InferError::Invalid(format!(
                    "rule `{}` {} `{name}`",
                    self.update_rule,
                    if wanted { "needs" } else { "has no" }
                )));
            }
        }
        let (q, k, v) = (x.dims(0)?, x.dims(1)?, x.dims(2)?);
        let unfit = || InferError::Invalid(format!("queries {q:?}, keys {k:?} and values {v:?} do not fit the heads"));
        let (heads, kv_heads) = (usize::try_from(self.q_num_heads), usize::try_from(self.kv_num_heads));
        let (Ok(heads @ 1..), Ok(kv_heads @ 1..)) = (heads, kv_heads) else { return Err(unfit()) };
        let ([batch, length, wq], [kb, kl, wk], [vb, vl, wv]) = (&q[..], &k[..], &v[..]) else { return Err(unfit()) };
        let key = wq / heads;
        if heads % kv_heads != 0 || (kb, kl) != (batch, length) || (vb, vl) != (batch, length) {
            return Err(unfit());
        }
        if key * heads != *wq || key * kv_heads != *wk || wv % kv_heads != 0 || key == 0 {
            return Err(unfit());
        }
        let mut sizes = Sizes { batch: *batch, length: *length, heads, kv_heads, key, value: wv / kv_heads, decays: 1, betas: 1 };
        if gated {
            let d = x.dims(4)?;
            sizes.decays = match d[..] {
                [b, l, w] if (b, l) == (sizes.batch, sizes.length) && w == kv_heads => 1,
                [b, l, w] if (b, l) == (sizes.batch, sizes.length) && w == kv_heads * key => key,
                _ => return Err(InferError::Invalid(format!("a decay of extents {d:?}"))),
            };
        }
        if delta {
            let d = x.dims(5)?;
            sizes.betas = match d[..] {
                [b, l, w] if (b, l) == (sizes.batch, sizes.length) && (w == kv_heads || w == 1) => w,
                _ => return Err(InferError::Invalid(format!("a beta of extents {d:?}"))),
            };
        }
        let state = [sizes.batch, kv_heads, key, sizes.value];
        if x.has(3) && x.dims(3)? != state {
            return Err(InferError::Invalid(format!("a past state of extents {:?} instead of {state:?}", x.dims(3)?)));
        }
        Ok(sizes)
    }

    fn factor(&self, s: &Sizes) -> f64 {
        if self.scale == 0.0 { 1.0 / (s.key as f64).sqrt() } else { self.scale.into() }
    }
}

impl Operator for LinearAttention {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(0, &[DType::F16, DType::BF16, DType::F32])?;
        x.require_same_dtype(1, 0)?;
        x.require_same_dtype(2, 0)?;
        for i in (3..6).filter(|&i| x.has(i)) {
            x.require_dtype(i, &[DType::F16, DType::BF16, DType::F32])?;
        }
        let s = self.sizes(x)?;
        let state = if x.has(3) { x.dtype(3)? } else { dtype };
        let output = Type::fixed(dtype, &[s.batch, s.length, s.heads * s.value]);
        Ok(vec![output, Type::fixed(state, &[s.batch, s.kv_heads, s.key, s.value])])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let invalid = |e: InferError| EvalError::Invalid(e.to_string());
        let (s, types, (gated, delta)) = (self.sizes(x).map_err(invalid)?, self.infer(x).map_err(invalid)?, self.rule().map_err(invalid)?);
        let [q, k, v] = [0, 1, 2].map(|i| x.tensor(i).to_f64s());
        let [past, decay, beta] = [3, 4, 5].map(|i| x.tensor_opt(i).map(Tensor::to_f64s));
        let mut state = past.unwrap_or_else(|| vec![0.0; s.batch * s.kv_heads * s.key * s.value]);
        let mut output = vec![0.0; s.batch * s.length * s.heads * s.value];
        for b in 0..s.batch {
            for h in 0..s.kv_heads {
                let state = &mut state[(b * s.kv_heads + h) * s.key * s.value..][..s.key * s.value];
                for t in 0..s.length {
                    let row = b * s.length + t;
                    if let Some(decay) = decay.as_ref().filter(|_| gated) {
                        for (i, cell) in state.iter_mut().enumerate() {
                            let of_key = if s.decays == 1 { 0 } else { i / s.value };
                            *cell *= decay[(row * s.kv_heads + h) * s.decays + of_key].exp();
                        }
                    }
                    let key = &k[(row * s.kv_heads + h) * s.key..][..s.key];
                    let mut value = v[(row * s.kv_heads + h) * s.value..][..s.value].to_vec();
                    if let Some(beta) = beta.as_ref().filter(|_| delta) {
                        let beta = beta[row * s.betas + if s.betas == 1 { 0 } else { h }];
                        for (m, v) in value.iter_mut().enumerate() {
                            let known: f64 = key.iter().enumerate().map(|(d, k)| k * state[d * s.value + m]).sum();
                            *v = beta * (*v - known);
                        }
                    }
                    for (d, k) in key.iter().enumerate() {
                        for (m, v) in value.iter().enumerate() {
                            state[d * s.value + m] += k * v;
                        }
                    }
                    let group = s.heads / s.kv_heads;
                    for qh in h * group..(h + 1) * group {
                        let query = &q[(row * s.heads + qh) * s.key..][..s.key];
                        for m in 0..s.value {
                            let read: f64 = query.iter().enumerate().map(|(d, q)| q * state[d * s.value + m]).sum();
                            output[(row * s.heads + qh) * s.value + m] = self.factor(&s) * read;
                        }
                    }
                }
            }
        }
        let dims: Vec<Vec<usize>> = types.iter().map(|ty| ty.dims().expect("fixed extents")).collect();
        Ok(vec![Tensor::from_f64s(types[0].dtype, &dims[0], &output), Tensor::from_f64s(types[1].dtype, &dims[1], &state)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let (s, (gated, delta)) = (self.sizes(x.facts)?, self.rule()?);
        let dtype = x.results[0].dtype;
        let split = |b: &mut expr::Builder, i: usize, heads: usize, size: usize| b.reshape(x.tensor(i), &[s.batch, s.length, heads, size]);
        let (q, k, v) = (split(b, 0, s.heads, s.key), split(b, 1, s.kv_heads, s.key), split(b, 2, s.kv_heads, s.value));
        let decay = gated.then(|| split(b, 4, s.kv_heads, s.decays));
        let beta = delta.then(|| x.tensor(5));
        let state_dims = [s.batch, s.kv_heads, s.key, s.value];
        let output = b.declare(dtype, &[s.batch, s.length, s.heads, s.value]);
        if s.batch * s.length * s.value == 0 {
            return Err(LowerError::Unsupported("operands without elements".to_owned()));
        }
        // Two states take turns: one place reads the one and writes the other.
        let state = b.declare(DType::F32, &state_dims);
        b.write(state, &state_dims, |b, at| {
            let value = x.get(3).map_or(Expr::constant(DType::F32, 0.0), |p| b.load(p, at).cast(DType::F32));
            (at.to_vec(), value)
        });
        let group = (s.heads / s.kv_heads) as i64;
        let wide = |b: &expr::Builder, t: TensorId, at: [Affine; 4]| b.load(t, at).cast(DType::F32);
        b.repeat(s.length, |b, t| {
            let decayed = |b: &expr::Builder, at: &[Affine]| {
                let old = b.load(state, at);
                match decay {
                    Some(decay) => {
                        let of_key = if s.decays == 1 { Affine::default() } else { at[2].clone() };
                        let g = wide(b, decay, [at[0].clone(), t.clone(), at[1].clone(), of_key]);
                        old * g.unary(UnaryOp::Exp)
                    }
                    None => old,
                }
            };
            let value_of = |b: &expr::Builder, at: &[Affine], m: &Affine| wide(b, v, [at[0].clone(), t.clone(), at[1].clone(), m.clone()]);
            let faded = b.compute(&state_dims, decayed);
            let written = beta.map(|beta| {
                let of_key = |b: &expr::Builder, at: &[Affine], over: &[Affine]| {
                    let k = wide(b, k, [at[0].clone(), t.clone(), at[1].clone(), over[0].clone()]);
                    k * b.load(faded, [at[0].clone(), at[1].clone(), over[0].clone(), at[2].clone()])
                };
                b.reduce(ReduceOp::Sum, &[s.batch, s.kv_heads, s.value], &[s.key], of_key, |b, at, known| {
                    let head = if s.betas == 1 { Affine::default() } else { at[1].clone() };
                    let beta = b.load(beta, [at[0].clone(), t.clone(), head]).cast(DType::F32);
                    beta * (value_of(b, at, &at[2]) - known)
                })
            });
            b.write(state, &state_dims, |b, at| {
                let k = wide(b, k, [at[0].clone(), t.clone(), at[1].clone(), at[2].clone()]);
                let v = written.map_or_else(|| value_of(b, at, &at[3]), |w| b.load(w, [at[0].clone(), at[1].clone(), at[3].clone()]));
                (at.to_vec(), b.load(faded, at) + k * v)
            });
            // Axes: batch, head of keys, head of queries in its group, value.
            b.write_reduce(
                output,
                ReduceOp::Sum,
                &[s.batch, s.kv_heads, group as usize, s.value],
                &[s.key],
                |at| vec![at[0].clone(), t.clone(), at[1].times(group).plus(&at[2]), at[3].clone()],
                |b, at, over| {
                    let head = at[1].times(group).plus(&at[2]);
                    let q = wide(b, q, [at[0].clone(), t.clone(), head, over[0].clone()]);
                    q * b.load(state, [at[0].clone(), at[1].clone(), over[0].clone(), at[3].clone()])
                },
                |_, _, sum| (sum * self.factor(&s)).cast(dtype),
            );
        });
        let present = x.results[1].dtype;
        let output = b.reshape(output, &x.result_dims(0));
        let state = b.compute(&state_dims, |b, at| b.load(state, at).cast(present));
        Ok(vec![output, state])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};

    #[test]
    fn states_add_up() {
        let op = "LinearAttention q_num_heads=1 kv_num_heads=1 update_rule=\"linear\" scale=1.0";
        let x = [t("f32[1,2,1] 1 1"), t("f32[1,2,1] 1 2"), t("f32[1,2,1] 3 4")];
        assert_eq!(check_op(op, x), [t("f32[1,2,1] 3 11"), t("f32[1,1,1,1] 11")]);
    }

    #[test]
    fn all_rules_agree() {
        let x = || [random("f32[2,5,12]", 1), random("f32[2,5,6]", 2), random("f32[2,5,8]", 3)].map(Some);
        let past = || Some(random("f32[2,2,3,4]", 4));
        for (rule, decay, beta) in [
            ("linear", None, None),
            ("gated", Some("f32[2,5,2]"), None),
            ("delta", None, Some("f32[2,5,1]")),
            ("gated_delta", Some("f32[2,5,6]"), Some("f32[2,5,2]")),
        ] {
            let op = format!("LinearAttention q_num_heads=4 kv_num_heads=2 update_rule=\"{rule}\"");
            let extra = [decay.map(|d| random(d, 5)), beta.map(|d| random(d, 6))];
            let bound = |o: &str| crate::ops::check::Check::new(o).bound(1e-3, 1e-3);
            bound(&op).run([&x()[..], &[past()], &extra].concat());
            let op = format!("LinearAttention q_num_heads=4 kv_num_heads=2 update_rule=\"{rule}\" scale=0.5");
            bound(&op).run([&x()[..], &[None], &extra].concat());
        }
    }

    #[test]
    fn operands_fit_the_rule() {
        let x = [t("f32[1,2,1]"), t("f32[1,2,1]"), t("f32[1,2,1]")];
        assert_eq!(check_error("LinearAttention q_num_heads=1 kv_num_heads=1", x), "rule `gated_delta` needs `decay`");
    }
}

//! `TreeLeaves`, in the domain `tinsmith`: the leaf that each row reaches in each tree. Not of ONNX: the tree operators are made of it.

use crate::expr::{self, Affine, CompareOp, Expr, Ix, TensorId};
use crate::operator;
use crate::ops::{Args, EvalError, InferError, LowerError, Operands, Operator};
use crate::tensor::{DType, Dim, Tensor, Type};

operator! {
    /// `leaves[b,t]` is the leaf that row `b` of `x` reaches from node `roots[t]`: from node `i` it goes to `trues[i]` if
    /// `x[b,features[i]]` compares to `splits[i]` as `modes[i]` says, else to `falses[i]`; `-1 - l` is leaf `l`. Modes are those of
    /// `TreeEnsemble`: 0 `<=`, 1 `<`, 2 `>=`, 3 `>`, 4 `==`, 5 `!=`. NaN compares where `missing` says so. All but `x` must be constant.
    TreeLeaves(x, roots, features, splits, modes, trues, falses, missing) -> (leaves) since [1] in "tinsmith";
}

const X: usize = 0;
const ROOTS: usize = 1;
const FEATURES: usize = 2;
const SPLITS: usize = 3;
const MODES: usize = 4;
const TRUES: usize = 5;
const FALSES: usize = 6;
const MISSING: usize = 7;

/// Comparisons by mode.
const COMPARISONS: [CompareOp; 6] = [CompareOp::Le, CompareOp::Lt, CompareOp::Ge, CompareOp::Gt, CompareOp::Eq, CompareOp::Ne];
/// Nodes on the way to a leaf, at most: each is a step of the program.
const MAX_DEPTH: usize = 256;

/// Greatest number of nodes on the way from a root to a leaf; fails where nodes do not make trees.
fn depth(x: &Operands) -> Result<usize, InferError> {
    let invalid = |what: String| Err(InferError::Invalid(what));
    let (roots, trues, falses) = (x.ints(ROOTS)?, x.ints(TRUES)?, x.ints(FALSES)?);
    let n = trues.len();
    let width = x.ty(X)?.shape.0.get(1).and_then(Dim::fixed);
    for i in [FEATURES, SPLITS, MODES, FALSES, MISSING] {
        if x.value(i)?.len() != n {
            return invalid(format!("{} entries for {n} nodes in operand {i}", x.value(i)?.len()));
        }
    }
    if let Some(f) = x.ints(FEATURES)?.into_iter().find(|&f| f < 0 || width.is_some_and(|w| f >= w as i64)) {
        return invalid(format!("feature {f} of rows `{}`", x.ty(X)?));
    }
    if let Some(m) = x.ints(MODES)?.into_iter().find(|&m| !(0..6).contains(&m)) {
        return invalid(format!("mode {m} of a node"));
    }
    if let Some(r) = roots.iter().chain(&trues).chain(&falses).find(|&&r| r >= n as i64) {
        return invalid(format!("node {r} of {n}"));
    }
    // Level by level: a node met again at a later level may be shared, but not for more levels than there are nodes.
    let (mut level, mut depth) = (roots, 0);
    let mut last_seen = vec![usize::MAX; n];
    loop {
        level.retain(|&i| i >= 0);
        if level.is_empty() {
            return Ok(depth);
        }
        depth += 1;
        if depth > n || depth > MAX_DEPTH {
            return if depth > n {
                invalid("the nodes go in circles".to_owned())
            } else {
                Err(InferError::Unsupported(format!("trees of more than {MAX_DEPTH} levels are not supported")))
            };
        }
        let mut next = vec![];
        for i in level {
            let i = i as usize;
            if last_seen[i] != depth {
                last_seen[i] = depth;
                next.extend([trues[i], falses[i]]);
            }
        }
        level = next;
    }
}

impl Operator for TreeLeaves {
    fn infer(&self, x: &Operands) -> Result<Vec<Type>, InferError> {
        let dtype = x.require_dtype(X, &[DType::F32, DType::F64])?;
        x.require_dtype(SPLITS, &[dtype])?;
        x.require_dtype(MISSING, &[DType::Bool])?;
        for i in [ROOTS, FEATURES, MODES, TRUES, FALSES] {
            x.require_dtype(i, &[DType::I32])?;
        }
        let rows = x.ty(X)?;
        if rows.rank() != 2 || x.rank(ROOTS)? != 1 {
            return Err(InferError::Invalid(format!("`{rows}` is not rows of features")));
        }
        depth(x)?;
        Ok(vec![Type::new(DType::I64, crate::tensor::Shape(vec![rows.shape.0[0].clone(), x.ty(ROOTS)?.shape.0[0].clone()]))])
    }

    fn eval(&self, x: &Operands) -> Result<Vec<Tensor>, EvalError> {
        let list = |i: usize| x.tensor(i).to_ints();
        let (roots, features, modes, trues, falses, missing) =
            (list(ROOTS), list(FEATURES), list(MODES), list(TRUES), list(FALSES), list(MISSING));
        let (values, splits, width) = (x.tensor(X).to_f64s(), x.tensor(SPLITS).to_f64s(), x.tensor(X).dims()[1]);
        let mut leaves = vec![];
        for row in 0..x.tensor(X).dims()[0] {
            for &root in &roots {
                let mut at = root;
                while at >= 0 {
                    let i = at as usize;
                    let (v, split) = (values[row * width + features[i] as usize], splits[i]);
                    let holds = match modes[i] {
                        0 => v <= split,
                        1 => v < split,
                        2 => v >= split,
                        3 => v > split,
                        4 => v == split,
                        _ => v != split,
                    };
                    at = if holds || v.is_nan() && missing[i] != 0 { trues[i] } else { falses[i] };
                }
                leaves.push((-1 - at) as i64);
            }
        }
        Ok(vec![Tensor::from_slice(&[x.tensor(X).dims()[0], roots.len()], &leaves)])
    }

    fn lower(&self, b: &mut expr::Builder, x: &Args<'_>) -> Result<Vec<TensorId>, LowerError> {
        let levels = depth(x.facts)?;
        let modes = x.facts.ints(MODES)?;
        let mut used: Vec<i64> = modes.clone();
        used.sort_unstable();
        used.dedup();
        let missing = x.facts.value(MISSING)?.to_ints().into_iter().any(|m| m != 0);
        let dims = x.result_dims(0);
        let state = b.declare(DType::I32, &dims);
        b.write(state, &dims, |b, at| (at.to_vec(), b.load(x.tensor(ROOTS), [at[1].clone()])));
        b.repeat(levels, |b, _| {
            b.write(state, &dims, |b, at| {
                let here = b.load(state, at.to_vec());
                let entry = |i: usize| b.load(x.tensor(i), [Ix::Clamped(here.cast(DType::I64))]);
                let value = b.load(x.tensor(X), [Ix::Affine(at[0].clone()), Ix::Clamped(entry(FEATURES).cast(DType::I64))]);
                let split = entry(SPLITS);
                let mut holds = Expr::int(DType::Bool, 0);
                for (k, &mode) in used.iter().enumerate() {
                    let compared = value.compare(COMPARISONS[mode as usize], &split);
                    let of_mode = entry(MODES).compare(CompareOp::Eq, &Expr::int(DType::I32, mode));
                    holds = if k == 0 { compared } else { of_mode.select(&compared, &holds) };
                }
                if missing {
                    let unordered = value.compare(CompareOp::Ne, &value);
                    holds = unordered.select(&entry(MISSING).binary(expr::BinaryOp::Or, &holds), &holds);
                }
                let next = holds.select(&entry(TRUES), &entry(FALSES));
                (at.to_vec(), here.compare(CompareOp::Lt, &Expr::int(DType::I32, 0)).select(&here, &next))
            });
        });
        let leaf = |b: &expr::Builder, at: &[Affine]| Expr::int(DType::I64, -1) - b.load(state, at.to_vec()).cast(DType::I64);
        Ok(vec![b.compute(&dims, leaf)])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, random, t};
    use crate::tensor::Tensor;

    fn forest(modes: &str, missing: &str) -> Vec<Tensor> {
        // Node 0: x0 ? node 1 : leaf 0; node 1: x1 ? leaf 1 : leaf 2; node 2: x1 ? leaf 3 : node 1.
        ["i32[2] 0 2", "i32[3] 0 1 1", "f32[3] 0.5 0.5 1", modes, "i32[3] 1 -2 -4", "i32[3] -1 -3 1", missing].map(t).to_vec()
    }

    #[test]
    fn rows_reach_their_leaves() {
        let x = || vec![t("f32[3,2] 0 0 1 1 nan 7")];
        let leaves = check_op("tinsmith.TreeLeaves", [x(), forest("i32[3] 0 0 0", "bool[3] 0 0 0")].concat());
        assert_eq!(leaves, [t("i64[3,2] 1 3 0 3 0 2")]);
        let leaves = check_op("tinsmith.TreeLeaves", [x(), forest("i32[3] 3 1 2", "bool[3] 1 0 0")].concat());
        assert_eq!(leaves, [t("i64[3,2] 0 1 2 3 2 3")]);
        for modes in ["i32[3] 4 4 5", "i32[3] 2 2 2"] {
            check_op("tinsmith.TreeLeaves", [vec![random("f32[9,2]", 1)], forest(modes, "bool[3] 0 1 0")].concat());
        }
    }

    #[test]
    fn what_is_no_forest_is_refused() {
        let broken = |i: usize, text: &str| {
            let mut x = [vec![t("f32[1,2]")], forest("i32[3] 0 0 0", "bool[3] 0 0 0")].concat();
            x[i] = t(text);
            check_error("tinsmith.TreeLeaves", x)
        };
        assert_eq!(broken(2, "i32[3] 0 1 2"), "feature 2 of rows `f32[1,2]`");
        assert_eq!(broken(5, "i32[3] 1 0 1"), "the nodes go in circles");
        assert_eq!(broken(1, "i32[2] 0 3"), "node 3 of 3");
        assert_eq!(broken(4, "i32[3] 0 6 0"), "mode 6 of a node");
    }
}

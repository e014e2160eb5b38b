//! `TreeEnsemble`: the sum (or mean, least, greatest) of what trees give.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html>

use super::transform::post_transform;
use super::tree_leaves::TreeLeaves;
use crate::ops::elementwise::Equal;
use crate::ops::movement::Gather;
use crate::ops::neural::{ReduceMax, ReduceMean, ReduceMin, ReduceSum};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `y[b,target]` combines the weights of the leaves of that target which row `b` of `x` reaches, one in each tree.
    TreeEnsemble(x) -> (y) since [5] in "ai.onnx.ml";
    /// How weights combine: 0 mean, 1 sum, 2 least, 3 greatest.
    aggregate_function: i64 = 1,
    /// Target of each leaf.
    leaf_targetids: Vec<i64>,
    /// Weight of each leaf.
    leaf_weights: Tensor,
    /// Members of the sets that nodes of mode 6 ask for, in order; NaN ends a set.
    membership_values: Option<Tensor>,
    /// Number of targets.
    n_targets: Option<i64>,
    /// Whether the way on is a leaf where the node's question has the answer no.
    nodes_falseleafs: Vec<i64>,
    /// Node or leaf there.
    nodes_falsenodeids: Vec<i64>,
    /// Feature that a node asks for.
    nodes_featureids: Vec<i64>,
    /// Not used.
    nodes_hitrates: Option<Tensor>,
    /// Whether the answer for NaN is yes; no by default.
    nodes_missing_value_tracks_true: Vec<i64> = Vec::<i64>::new(),
    /// The question: 0 `<=`, 1 `<`, 2 `>=`, 3 `>`, 4 `==`, 5 `!=`, 6 member of a set.
    nodes_modes: Tensor,
    /// What features are compared with.
    nodes_splits: Tensor,
    /// Whether the way on is a leaf where the answer is yes.
    nodes_trueleafs: Vec<i64>,
    /// Node or leaf there.
    nodes_truenodeids: Vec<i64>,
    /// What becomes of the results: 0 nothing, 1 softmax, 2 logistic, 3 softmax of what is not 0, 4 probit.
    post_transform: i64 = 0,
    /// First node of each tree.
    tree_roots: Vec<i64>,
}

composite!(TreeEnsemble);

/// Elements of a table of weights.
const MAX_WEIGHTS: usize = 1 << 26;

/// Trees as tables, with `-1 - l` for leaf `l`.
#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    pub(super) roots: Vec<i64>,
    pub(super) features: Vec<i64>,
    pub(super) splits: Vec<f64>,
    pub(super) modes: Vec<i64>,
    pub(super) trues: Vec<i64>,
    pub(super) falses: Vec<i64>,
    pub(super) missing: Vec<bool>,
    /// (leaf, target, weight).
    pub(super) weights: Vec<(usize, usize, f64)>,
    pub(super) n_leaves: usize,
}

/// How weights combine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aggregate {
    Mean,
    Sum,
    Min,
    Max,
}

impl Forest {
    /// The combined weights, `[rows,targets]`, of the element type of `x`.
    pub(super) fn scores(&self, s: &mut Steps<'_>, x: Step, n_targets: usize, aggregate: Aggregate) -> Result<Step, InferError> {
        let dtype = s.dtype(x);
        let ints = |list: &[i64]| Tensor::from_ints(DType::I32, &[list.len()], &list.iter().map(|&i| i.into()).collect::<Vec<_>>());
        let lists = [&self.roots, &self.features, &self.modes, &self.trues, &self.falses];
        if lists.iter().any(|l| l.iter().any(|&i| i32::try_from(i).is_err())) {
            return Err(InferError::Invalid("a number of a node is out of range".to_owned()));
        }
        let [roots, features, modes, trues, falses] = lists.map(|l| s.constant(ints(l)));
        let splits = s.constant(Tensor::from_f64s(dtype, &[self.splits.len()], &self.splits));
        let missing = s.constant(Tensor::from_bools(&[self.missing.len()], self.missing.clone()));
        let leaves = s.apply(TreeLeaves {}, &[x, roots, features, splits, modes, trues, falses, missing])?;
        let size = self.n_leaves.checked_mul(n_targets).filter(|&n| n <= MAX_WEIGHTS && self.n_leaves > 0 && n_targets > 0);
        let Some(size) = size else {
            return Err(InferError::Unsupported(format!(
                "{} leaves with weights for {n_targets} targets are not supported",
                self.n_leaves
            )));
        };
        let absent = match aggregate {
            Aggregate::Mean | Aggregate::Sum => 0.0,
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
        };
        let mut table = vec![absent; size];
        for &(leaf, target, weight) in &self.weights {
            if leaf >= self.n_leaves || target >= n_targets {
                return Err(InferError::Invalid(format!("leaf {leaf} has a weight for target {target} of {n_targets}")));
            }
            let entry = &mut table[leaf * n_targets + target];
            *entry = if *entry == absent { weight } else { *entry + weight };
        }
        let table = s.constant(Tensor::from_f64s(dtype, &[self.n_leaves, n_targets], &table));
        let found = s.apply(Gather { axis: 0 }, &[table, leaves])?;
        let axes = s.ints(&[1]);
        let (keepdims, noop_with_empty_axes) = (false, false);
        let combined = match aggregate {
            Aggregate::Mean => return s.apply(ReduceMean { keepdims, noop_with_empty_axes }, &[found, axes]),
            Aggregate::Sum => return s.apply(ReduceSum { keepdims, noop_with_empty_axes }, &[found, axes]),
            Aggregate::Min => s.apply(ReduceMin { keepdims, noop_with_empty_axes }, &[found, axes])?,
            Aggregate::Max => s.apply(ReduceMax { keepdims, noop_with_empty_axes }, &[found, axes])?,
        };
        let (none, zero) = (s.number(dtype, absent), s.number(dtype, 0.0));
        let nothing = s.apply(Equal {}, &[combined, none])?;
        s.choose(nothing, zero, combined)
    }
}

impl TreeEnsemble {
    fn forest(&self) -> Result<Forest, InferError> {
        let invalid = |what: &str| InferError::Invalid(what.to_owned());
        let n = self.nodes_featureids.len();
        let (modes, splits, weights) = (self.nodes_modes.to_ints(), self.nodes_splits.to_f64s(), self.leaf_weights.to_f64s());
        let lists = [&self.nodes_trueleafs, &self.nodes_truenodeids, &self.nodes_falseleafs, &self.nodes_falsenodeids];
        let missing = &self.nodes_missing_value_tracks_true;
        if lists.iter().any(|l| l.len() != n) || modes.len() != n || splits.len() != n || !(missing.is_empty() || missing.len() == n) {
            return Err(invalid("lists of nodes differ in length"));
        }
        if weights.len() != self.leaf_targetids.len() {
            return Err(invalid("lists of leaves differ in length"));
        }
        let way = |leaf: i64, id: i64| if id < 0 { Err(invalid("a node is negative")) } else { Ok(if leaf != 0 { -1 - id } else { id }) };
        let mut f = Forest { roots: self.tree_roots.clone(), n_leaves: weights.len(), ..Forest::default() };
        for i in 0..n {
            f.features.push(self.nodes_featureids[i]);
            f.splits.push(splits[i]);
            f.modes.push(modes[i] as i64);
            f.trues.push(way(self.nodes_trueleafs[i], self.nodes_truenodeids[i])?);
            f.falses.push(way(self.nodes_falseleafs[i], self.nodes_falsenodeids[i])?);
            f.missing.push(missing.get(i).is_some_and(|&m| m != 0));
        }
        if let Some(leaf) = f.trues.iter().chain(&f.falses).map(|w| -1 - w).find(|&l| l >= weights.len() as i64) {
            return Err(InferError::Invalid(format!("leaf {leaf} of {}", weights.len())));
        }
        for (leaf, (&target, &weight)) in self.leaf_targetids.iter().zip(&weights).enumerate() {
            f.weights.push((leaf, usize::try_from(target).map_err(|_| invalid("a target is negative"))?, weight));
        }
        self.members(&mut f)?;
        Ok(f)
    }

    /// A question for a set becomes one for each member, where no leads to the next.
    fn members(&self, f: &mut Forest) -> Result<(), InferError> {
        let values = self.membership_values.as_ref().map(Tensor::to_f64s).unwrap_or_default();
        let mut sets = values.split(|v| v.is_nan());
        for i in 0..f.modes.len() {
            if f.modes[i] != 6 {
                continue;
            }
            let set = sets.next().filter(|s| !s.is_empty()).ok_or_else(|| InferError::Invalid("a node asks for no set".to_owned()))?;
            let (yes, no) = (f.trues[i], f.falses[i]);
            let mut at = i;
            for (k, &member) in set.iter().enumerate() {
                f.modes[at] = 4;
                f.splits[at] = member;
                if k + 1 == set.len() {
                    f.falses[at] = no;
                    break;
                }
                f.falses[at] = f.modes.len() as i64;
                at = f.modes.len();
                f.features.push(f.features[i]);
                f.splits.push(0.0);
                f.modes.push(4);
                f.trues.push(yes);
                f.falses.push(no);
                f.missing.push(f.missing[i]);
            }
        }
        Ok(())
    }

    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let dtype = s.operands().require_dtype(0, &[DType::F32, DType::F64])?;
        let x = s.operand(0)?;
        let aggregate = match self.aggregate_function {
            0 => Aggregate::Mean,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => return Err(InferError::Invalid(format!("`aggregate_function` {other}"))),
        };
        let n_targets = match self.n_targets {
            Some(n) => usize::try_from(n).map_err(|_| InferError::Invalid(format!("`n_targets` {n}")))?,
            None => self.leaf_targetids.iter().max().map_or(0, |&t| usize::try_from(t).map_or(0, |t| t + 1)),
        };
        let y = self.forest()?.scores(s, x, n_targets, aggregate)?;
        let name = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"].get(usize::try_from(self.post_transform).unwrap_or(9));
        if dtype != DType::F32 && self.post_transform == 3 {
            return Err(InferError::Unsupported("`post_transform` 3 of f64 is not supported".to_owned()));
        }
        let name = name.ok_or_else(|| InferError::Invalid(format!("`post_transform` {}", self.post_transform)))?;
        Ok(vec![post_transform(s, y, name)?])
    }
}

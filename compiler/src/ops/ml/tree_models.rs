//! `TreeEnsembleRegressor` and `TreeEnsembleClassifier`: trees whose nodes are numbered within each tree.
//! Spec: <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html>,
//! <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html>

use std::collections::{BTreeSet, HashMap, HashSet};

use super::transform::{FEATURES, best_label, binary, integer_labels, post_transform};
use super::tree_ensemble::{Aggregate, Forest};
use crate::ops::elementwise::{Neg, Sigmoid};
use crate::ops::{InferError, Step, Steps};
use crate::tensor::{DType, Tensor};
use crate::{composite, operator};

operator! {
    /// `y[b,target]` combines the weights of the leaves that row `b` of `x` reaches, one in each tree, and the base value.
    TreeEnsembleRegressor(x) -> (y) since [1, 3, 5] in "ai.onnx.ml";
    /// `SUM`, `AVERAGE`, `MIN` or `MAX`.
    aggregate_function: String = "SUM",
    /// What is added for each target.
    base_values: Vec<f32> = Vec::<f32>::new(),
    /// What is added for each target.
    base_values_as_tensor: Option<Tensor>,
    /// Number of targets.
    n_targets: i64 = 1,
    /// The next node where the answer is no.
    nodes_falsenodeids: Vec<i64>,
    /// Feature that a node asks for.
    nodes_featureids: Vec<i64>,
    /// Not used.
    nodes_hitrates: Vec<f32> = Vec::<f32>::new(),
    /// Not used.
    nodes_hitrates_as_tensor: Option<Tensor>,
    /// Whether the answer for NaN is yes.
    nodes_missing_value_tracks_true: Vec<i64> = Vec::<i64>::new(),
    /// `BRANCH_LEQ`, `BRANCH_LT`, `BRANCH_GTE`, `BRANCH_GT`, `BRANCH_EQ`, `BRANCH_NEQ` or `LEAF`.
    nodes_modes: Vec<String>,
    /// Number of a node in its tree.
    nodes_nodeids: Vec<i64>,
    /// Tree of a node.
    nodes_treeids: Vec<i64>,
    /// The next node where the answer is yes.
    nodes_truenodeids: Vec<i64>,
    /// What features are compared with.
    nodes_values: Vec<f32> = Vec::<f32>::new(),
    /// What features are compared with.
    nodes_values_as_tensor: Option<Tensor>,
    /// `NONE`, `SOFTMAX`, `LOGISTIC`, `SOFTMAX_ZERO` or `PROBIT`.
    post_transform: String = "NONE",
    /// Target of each weight.
    target_ids: Vec<i64>,
    /// Leaf of each weight.
    target_nodeids: Vec<i64>,
    /// Tree of each weight.
    target_treeids: Vec<i64>,
    /// The weights.
    target_weights: Vec<f32> = Vec::<f32>::new(),
    /// The weights.
    target_weights_as_tensor: Option<Tensor>,
}

operator! {
    /// `z[b,class]` sums the weights of the leaves that row `b` of `x` reaches, one in each tree; `y[b]` is the label of the greatest.
    TreeEnsembleClassifier(x) -> (y, z) since [1, 3, 5] in "ai.onnx.ml";
    /// What is added for each class.
    base_values: Vec<f32> = Vec::<f32>::new(),
    /// What is added for each class.
    base_values_as_tensor: Option<Tensor>,
    /// Class of each weight.
    class_ids: Vec<i64>,
    /// Leaf of each weight.
    class_nodeids: Vec<i64>,
    /// Tree of each weight.
    class_treeids: Vec<i64>,
    /// The weights.
    class_weights: Vec<f32> = Vec::<f32>::new(),
    /// The weights.
    class_weights_as_tensor: Option<Tensor>,
    /// Labels of the classes.
    classlabels_int64s: Vec<i64> = Vec::<i64>::new(),
    /// Labels of the classes; not supported.
    classlabels_strings: Vec<String> = Vec::<String>::new(),
    /// The next node where the answer is no.
    nodes_falsenodeids: Vec<i64>,
    /// Feature that a node asks for.
    nodes_featureids: Vec<i64>,
    /// Not used.
    nodes_hitrates: Vec<f32> = Vec::<f32>::new(),
    /// Not used.
    nodes_hitrates_as_tensor: Option<Tensor>,
    /// Whether the answer for NaN is yes.
    nodes_missing_value_tracks_true: Vec<i64> = Vec::<i64>::new(),
    /// `BRANCH_LEQ`, `BRANCH_LT`, `BRANCH_GTE`, `BRANCH_GT`, `BRANCH_EQ`, `BRANCH_NEQ` or `LEAF`.
    nodes_modes: Vec<String>,
    /// Number of a node in its tree.
    nodes_nodeids: Vec<i64>,
    /// Tree of a node.
    nodes_treeids: Vec<i64>,
    /// The next node where the answer is yes.
    nodes_truenodeids: Vec<i64>,
    /// What features are compared with.
    nodes_values: Vec<f32> = Vec::<f32>::new(),
    /// What features are compared with.
    nodes_values_as_tensor: Option<Tensor>,
    /// `NONE`, `SOFTMAX`, `LOGISTIC`, `SOFTMAX_ZERO` or `PROBIT`.
    post_transform: String = "NONE",
}

composite!(TreeEnsembleRegressor);
composite!(TreeEnsembleClassifier);

/// Nodes as attributes name them.
struct Nodes<'a> {
    trees: &'a [i64],
    ids: &'a [i64],
    features: &'a [i64],
    modes: &'a [String],
    values: Vec<f64>,
    trues: &'a [i64],
    falses: &'a [i64],
    missing: &'a [i64],
}

/// Weights as attributes name them.
struct Weights<'a> {
    trees: &'a [i64],
    nodes: &'a [i64],
    targets: &'a [i64],
    values: Vec<f64>,
}

/// A list that is given in one of two forms.
fn either(list: &[f32], tensor: Option<&Tensor>) -> Vec<f64> {
    tensor.map_or_else(|| list.iter().map(|&x| x.into()).collect(), Tensor::to_f64s)
}

/// Nodes and weights as tables; the weights of one leaf stay one entry for each target.
fn forest(n: &Nodes<'_>, w: &Weights<'_>) -> Result<Forest, InferError> {
    let invalid = |what: String| InferError::Invalid(what);
    let count = n.ids.len();
    let lengths = [n.trees.len(), n.features.len(), n.modes.len(), n.values.len(), n.trues.len(), n.falses.len()];
    if lengths.iter().any(|&l| l != count) || !(n.missing.is_empty() || n.missing.len() == count) {
        return Err(invalid("lists of nodes differ in length".to_owned()));
    }
    if w.trees.len() != w.values.len() || w.nodes.len() != w.values.len() || w.targets.len() != w.values.len() {
        return Err(invalid("lists of weights differ in length".to_owned()));
    }
    let (mut branches, mut leaves) = (HashMap::new(), HashMap::new());
    for i in 0..count {
        let key = (n.trees[i], n.ids[i]);
        let number = if n.modes[i] == "LEAF" { -1 - leaves.len() as i64 } else { branches.len() as i64 };
        let known = if n.modes[i] == "LEAF" { leaves.insert(key, number) } else { branches.insert(key, number) };
        if known.is_some() {
            return Err(invalid(format!("node {} of tree {} is there twice", key.1, key.0)));
        }
    }
    let find = |tree: i64, node: i64| {
        let found = branches.get(&(tree, node)).or_else(|| leaves.get(&(tree, node)));
        found.copied().ok_or_else(|| InferError::Invalid(format!("tree {tree} has no node {node}")))
    };
    let mut f = Forest { n_leaves: leaves.len(), ..Forest::default() };
    let mut children = HashSet::new();
    for i in (0..count).filter(|&i| n.modes[i] != "LEAF") {
        const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
        let mode = MODES.iter().position(|m| *m == n.modes[i]);
        f.modes.push(mode.ok_or_else(|| InferError::Unsupported(format!("nodes of mode `{}` are not supported", n.modes[i])))? as i64);
        f.features.push(n.features[i]);
        f.splits.push(n.values[i]);
        f.trues.push(find(n.trees[i], n.trues[i])?);
        f.falses.push(find(n.trees[i], n.falses[i])?);
        f.missing.push(n.missing.get(i).is_some_and(|&m| m != 0));
        children.extend([(n.trees[i], n.trues[i]), (n.trees[i], n.falses[i])]);
    }
    let mut rooted = HashSet::new();
    for i in 0..count {
        if !children.contains(&(n.trees[i], n.ids[i])) {
            if !rooted.insert(n.trees[i]) {
                return Err(invalid(format!("tree {} has two roots", n.trees[i])));
            }
            f.roots.push(find(n.trees[i], n.ids[i])?);
        }
    }
    if n.trees.iter().any(|t| !rooted.contains(t)) {
        return Err(invalid("a tree has no root".to_owned()));
    }
    for i in 0..w.values.len() {
        let leaf = leaves.get(&(w.trees[i], w.nodes[i])).map(|l| (-1 - l) as usize);
        let leaf =
            leaf.ok_or_else(|| InferError::Unsupported(format!("a weight of node {} of tree {}, no leaf", w.nodes[i], w.trees[i])))?;
        let target = usize::try_from(w.targets[i]).map_err(|_| invalid(format!("target {}", w.targets[i])))?;
        f.weights.push((leaf, target, w.values[i]));
    }
    Ok(f)
}

/// The rows in the type that nodes compare in: `f64` for itself, `f32` for all others.
fn features(s: &mut Steps<'_>) -> Result<Step, InferError> {
    let dtype = s.operands().require_dtype(0, FEATURES)?;
    let x = s.operand(0)?;
    s.cast(x, if dtype == DType::F64 { DType::F64 } else { DType::F32 })
}

/// Scores plus base values, one for each target.
fn based(s: &mut Steps<'_>, scores: Step, base: &[f64], n: usize) -> Result<Step, InferError> {
    if base.is_empty() {
        return Ok(scores);
    }
    if base.len() != n {
        return Err(InferError::Unsupported(format!("{} base values for {n} targets are not supported", base.len())));
    }
    let base = s.constant(Tensor::from_f64s(s.dtype(scores), &[n], base));
    s.add(scores, base)
}

impl TreeEnsembleRegressor {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let n = usize::try_from(self.n_targets).map_err(|_| InferError::Invalid(format!("`n_targets` {}", self.n_targets)))?;
        if n == 1 && self.post_transform != "NONE" {
            return Err(InferError::Unsupported(format!("`post_transform` \"{}\" of one target is not supported", self.post_transform)));
        }
        let aggregate = match self.aggregate_function.as_str() {
            "AVERAGE" => Aggregate::Mean,
            "SUM" => Aggregate::Sum,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => return Err(InferError::Invalid(format!("`aggregate_function` \"{other}\""))),
        };
        let nodes = Nodes {
            trees: &self.nodes_treeids,
            ids: &self.nodes_nodeids,
            features: &self.nodes_featureids,
            modes: &self.nodes_modes,
            values: either(&self.nodes_values, self.nodes_values_as_tensor.as_ref()),
            trues: &self.nodes_truenodeids,
            falses: &self.nodes_falsenodeids,
            missing: &self.nodes_missing_value_tracks_true,
        };
        let weights = Weights {
            trees: &self.target_treeids,
            nodes: &self.target_nodeids,
            targets: &self.target_ids,
            values: either(&self.target_weights, self.target_weights_as_tensor.as_ref()),
        };
        let x = features(s)?;
        let scores = forest(&nodes, &weights)?.scores(s, x, n, aggregate)?;
        let scores = based(s, scores, &either(&self.base_values, self.base_values_as_tensor.as_ref()), n)?;
        let scores = s.cast(scores, DType::F32)?;
        Ok(vec![post_transform(s, scores, &self.post_transform)?])
    }
}

impl TreeEnsembleClassifier {
    fn steps(&self, s: &mut Steps<'_>) -> Result<Vec<Step>, InferError> {
        let labels = integer_labels(&self.classlabels_int64s, &self.classlabels_strings)?;
        let nodes = Nodes {
            trees: &self.nodes_treeids,
            ids: &self.nodes_nodeids,
            features: &self.nodes_featureids,
            modes: &self.nodes_modes,
            values: either(&self.nodes_values, self.nodes_values_as_tensor.as_ref()),
            trues: &self.nodes_truenodeids,
            falses: &self.nodes_falsenodeids,
            missing: &self.nodes_missing_value_tracks_true,
        };
        let weights = Weights {
            trees: &self.class_treeids,
            nodes: &self.class_nodeids,
            targets: &self.class_ids,
            values: either(&self.class_weights, self.class_weights_as_tensor.as_ref()),
        };
        let base = either(&self.base_values, self.base_values_as_tensor.as_ref());
        let f = forest(&nodes, &weights)?;
        let classes: BTreeSet<usize> = f.weights.iter().map(|w| w.1).collect();
        let x = features(s)?;
        // A class without a weight in any leaf has the score 0, which is the greatest only where all are.
        let positive = f.weights.iter().all(|w| w.2 >= 0.0);
        if labels.len() > 2 && (classes.len() == labels.len() || positive) {
            let scores = f.scores(s, x, labels.len(), Aggregate::Sum)?;
            let scores = based(s, scores, &base, labels.len())?;
            let label = best_label(s, scores, labels)?;
            let scores = s.cast(scores, DType::F32)?;
            return Ok(vec![label, post_transform(s, scores, &self.post_transform)?]);
        }
        // Where the only class is the second one, implementations differ in what the first one's score is.
        if labels.len() != 2 || !classes.iter().eq(&[0]) || base.len() > 1 {
            let message =
                format!("weights for {classes:?} of {} classes, with {} base values, are not supported", labels.len(), base.len());
            return Err(InferError::Unsupported(message));
        }
        // One score decides between two labels.
        let score = f.scores(s, x, 1, Aggregate::Sum)?;
        let score = based(s, score, &base, 1)?;
        let score = s.cast(score, DType::F32)?;
        let (threshold, scores) = match (positive, self.post_transform.as_str()) {
            (true, "NONE") => {
                let one = s.number(DType::F32, 1.0);
                (0.5, [s.sub(one, score)?, score])
            }
            (false, "NONE") => (0.0, [s.apply(Neg {}, &[score])?, score]),
            (false, "LOGISTIC") => {
                let negative = s.apply(Neg {}, &[score])?;
                (0.0, [s.apply(Sigmoid {}, &[negative])?, s.apply(Sigmoid {}, &[score])?])
            }
            (_, other) => return Err(InferError::Unsupported(format!("`post_transform` \"{other}\" of one score is not supported"))),
        };
        binary(s, score, threshold, labels, scores)
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check_error, check_op, t};

    /// One tree of three leaves, whose weights are for these classes.
    fn classifier(classes: &str, weights: &str) -> String {
        format!(
            "ai.onnx.ml.TreeEnsembleClassifier nodes_treeids=[0,0,0,0,0] nodes_nodeids=[0,1,2,3,4] nodes_featureids=[0,0,0,0,0] \
             nodes_modes=[\"BRANCH_LEQ\",\"LEAF\",\"BRANCH_LEQ\",\"LEAF\",\"LEAF\"] nodes_values=[1.0,0.0,2.0,0.0,0.0] \
             nodes_truenodeids=[1,0,3,0,0] nodes_falsenodeids=[2,0,4,0,0] class_treeids=[0,0,0] class_nodeids=[1,3,4] \
             class_ids=[{classes}] class_weights=[{weights}] classlabels_int64s=[10,11,12,13]"
        )
    }

    #[test]
    fn classes_without_weights_have_the_score_0() {
        let y = check_op(&classifier("3,1,3", "0.5,0.25,1.0"), [t("f32[3,1] 0 2 3")]);
        assert_eq!(y, [t("i64[3] 13 11 13"), t("f32[3,4] 0 0 0 0.5 0 0.25 0 0 0 0 0 1")]);
        // Here 0 would be greater than the score of a class that has weights.
        let error = check_error(&classifier("3,1,3", "0.5,-0.25,1.0"), [t("f32[3,1]")]);
        assert_eq!(error, "weights for {1, 3} of 4 classes, with 0 base values, are not supported");
    }
}

//! Families of `ai.onnx.ml`, whose models are attributes, and of training steps.

use tinsmith::tensor::DType;

use super::more_operators::line;
use super::operators::{Draft, Made, Make, list};
use super::{Random, Variable};

pub(super) const LEARNED: &[(&str, Make)] = &[
    ("features", features),
    ("labels", labels),
    ("linear", linear),
    ("support_vectors", support_vectors),
    ("training", training),
    ("trees", trees),
];

fn floats(random: &mut Random, n: usize) -> String {
    (0..n).map(|_| format!("{:.3}", random.within(-1500, 1500) as f64 / 1000.0)).collect::<Vec<_>>().join(",")
}

fn transform(d: &mut Draft<'_>) -> &'static str {
    d.random.one_of(&["NONE", "LOGISTIC", "SOFTMAX"])
}

fn features(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 2 || x.dims.contains(&0) || !x.exact {
        return None;
    }
    let n = x.dims[1];
    let text = match d.random.below(7) {
        0 => format!("ai.onnx.ml.Scaler({}) offset=[{}] scale=[{}]", x.name, floats(d.random, n), floats(d.random, n)),
        1 => format!("ai.onnx.ml.Normalizer({}) norm=\"{}\"", x.name, d.random.one_of(&["MAX", "L1", "L2"])),
        2 => format!("ai.onnx.ml.Binarizer({}) threshold=0.25", x.name),
        3 => format!("ai.onnx.ml.Imputer({}) imputed_value_floats=[{}] replaced_value_float=0.5", x.name, floats(d.random, n)),
        4 => {
            let i = d.random.below(n);
            let i = d.ints("i", &[i as i64]);
            format!("ai.onnx.ml.ArrayFeatureExtractor({}, {i})", x.name)
        }
        5 => {
            let keys: Vec<String> = (0..n).map(|i| (3 * i).to_string()).collect();
            format!("ai.onnx.ml.ZipMap({}) classlabels_int64s=[{}]", x.name, keys.join(","))
        }
        _ => format!("ai.onnx.ml.FeatureVectorizer({}, {}) inputdimensions=[{n},{n}]", x.name, x.name),
    };
    Some((text, true))
}

fn labels(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::I64 || x.n_elements() > 500 {
        return None;
    }
    Some(if d.random.one_in(2) {
        (
            format!(
                "ai.onnx.ml.LabelEncoder({}) keys_int64s=[-3,-1,0,1,2,5] values_floats=[0.5,1.5,2.5,3.5,4.5,5.5] default_float=-1.25",
                x.name
            ),
            true,
        )
    } else {
        (format!("ai.onnx.ml.OneHotEncoder({}) cats_int64s=[-2,-1,0,1,4] zeros=1", x.name), true)
    })
}

fn linear(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 2 || x.dims.contains(&0) {
        return None;
    }
    let (n, m) = (x.dims[1], 2 + d.random.below(4));
    let (weights, biases, transform) = (floats(d.random, n * m), floats(d.random, m), transform(d));
    if d.random.one_in(2) {
        let text = format!(
            "ai.onnx.ml.LinearRegressor({}) coefficients=[{weights}] intercepts=[{biases}] targets={m} post_transform=\"{transform}\"",
            x.name
        );
        return Some((text, false));
    }
    let classes: Vec<i64> = (0..m as i64).map(|c| 3 * c - 1).collect();
    d.n_results = 2;
    let text = format!(
        "ai.onnx.ml.LinearClassifier({}) classlabels_ints=[{}] coefficients=[{weights}] intercepts=[{biases}] post_transform=\"{transform}\"",
        x.name,
        list(&classes)
    );
    Some((text, false))
}

fn support_vectors(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 2 || x.dims.contains(&0) {
        return None;
    }
    let (n, supports) = (x.dims[1], 3 + d.random.below(4));
    let kernel = d.random.one_of(&["LINEAR", "POLY", "RBF"]);
    let vectors = floats(d.random, n * supports);
    if d.random.one_in(2) {
        let text = format!(
            "ai.onnx.ml.SVMRegressor({}) kernel_type=\"{kernel}\" kernel_params=[0.2,0.5,2.0] support_vectors=[{vectors}] coefficients=[{}] rho=[0.3] n_supports={supports}",
            x.name,
            floats(d.random, supports),
        );
        return Some((text, false));
    }
    let probabilities = d.random.one_of(&["", " prob_a=[-1.3] prob_b=[0.2]"]);
    let text = format!(
        "ai.onnx.ml.SVMClassifier({}) kernel_type=\"{kernel}\" kernel_params=[0.2,0.5,2.0] support_vectors=[{vectors}] coefficients=[{}] rho=[0.3] classlabels_ints=[2,5] vectors_per_class=[1,{}]{probabilities}",
        x.name,
        floats(d.random, supports),
        supports - 1
    );
    d.n_results = 2;
    Some((text, false))
}

/// One step of an optimizer: rate and number of steps are inputs of the operator.
fn training(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 {
        return None;
    }
    let rate = d.constant("rate", "[0.05]".to_owned(), DType::F32, &[]);
    let steps = d.random.below(4);
    let count = d.constant("count", format!("[{steps}]"), DType::I64, &[]);
    let (g, v) = (d.operand("g", &x.dims), d.operand("v", &x.dims));
    let text = match d.random.below(3) {
        0 => {
            let h = line(d, "h", format!("Abs({v})"), DType::F32, &x.dims);
            d.n_results = 2;
            format!("ai.onnx.preview.training.Adagrad({rate}, {count}, {}, {g}, {h}) epsilon=0.1 norm_coefficient=0.01", x.name)
        }
        1 => {
            let h = line(d, "h", format!("Abs({v})"), DType::F32, &x.dims);
            d.n_results = 3;
            format!("ai.onnx.preview.training.Adam({rate}, {count}, {}, {g}, {v}, {h}) alpha=0.9 beta=0.95 epsilon=0.1", x.name)
        }
        _ => {
            d.n_results = 2;
            let mode = d.random.one_of(&["standard", "nesterov"]);
            let operator = "ai.onnx.preview.training.Momentum";
            format!("{operator}({rate}, {count}, {}, {g}, {v}) alpha=0.9 beta=1.0 norm_coefficient=0.01 mode=\"{mode}\"", x.name)
        }
    };
    Some((text, false))
}

/// Two trees: a node with two leaves, and a node whose second branch has a node more. Comparisons jump, so operands are exact.
fn trees(d: &mut Draft<'_>, x: &Variable) -> Made {
    if x.dtype != DType::F32 || x.dims.len() != 2 || x.dims.contains(&0) || !x.exact {
        return None;
    }
    let f: Vec<String> = (0..3).map(|_| d.random.below(x.dims[1]).to_string()).collect();
    let (splits, weights) = (floats(d.random, 3), floats(d.random, 5));
    if d.random.one_in(3) {
        let text = format!(
            "ai.onnx.ml.TreeEnsemble({}) n_targets=2 aggregate_function={} tree_roots=[0,1] nodes_featureids=[{}] nodes_splits=f32[3]{{{splits}}} \
             nodes_modes=u8[3]{{0,1,3}} nodes_truenodeids=[0,2,3] nodes_trueleafs=[1,0,1] nodes_falsenodeids=[1,2,4] nodes_falseleafs=[1,1,1] \
             leaf_targetids=[0,1,1,0,1] leaf_weights=f32[5]{{{weights}}}",
            x.name,
            d.random.below(4),
            f.join(",")
        );
        return Some((text, false));
    }
    // Of each node: tree, number, feature, threshold, mode, what follows.
    let nodes = format!(
        "nodes_treeids=[0,0,0,1,1,1,1,1] nodes_nodeids=[0,1,2,0,1,2,3,4] nodes_featureids=[{},0,0,{},0,{},0,0] nodes_values=[{},0.0,0.0,{},0.0,{},0.0,0.0] \
         nodes_modes=[\"{}\",\"LEAF\",\"LEAF\",\"BRANCH_LT\",\"LEAF\",\"BRANCH_GTE\",\"LEAF\",\"LEAF\"] \
         nodes_truenodeids=[1,0,0,1,0,3,0,0] nodes_falsenodeids=[2,0,0,2,0,4,0,0]",
        f[0],
        f[1],
        f[2],
        splits.split(',').next().unwrap_or("0.1"),
        splits.split(',').nth(1).unwrap_or("0.2"),
        splits.split(',').nth(2).unwrap_or("0.3"),
        d.random.one_of(&["BRANCH_LEQ", "BRANCH_GT"]),
    );
    if d.random.one_in(2) {
        let text = format!(
            "ai.onnx.ml.TreeEnsembleRegressor({}) n_targets=2 {nodes} target_treeids=[0,0,1,1,1] target_nodeids=[1,2,1,3,4] target_ids=[0,1,1,0,1] \
             target_weights=[{weights}] aggregate_function=\"{}\"",
            x.name,
            d.random.one_of(&["SUM", "AVERAGE", "MIN", "MAX"])
        );
        return Some((text, false));
    }
    d.n_results = 2;
    let text = format!(
        "ai.onnx.ml.TreeEnsembleClassifier({}) classlabels_int64s=[7,-2,4] {nodes} class_treeids=[0,0,1,1,1] class_nodeids=[1,2,1,3,4] class_ids=[0,1,2,0,1] \
         class_weights=[{weights}] post_transform=\"{}\"",
        x.name,
        transform(d)
    );
    Some((text, false))
}

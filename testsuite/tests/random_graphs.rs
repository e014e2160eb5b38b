//! Graphs, compiled, give what the interpreter gives: those of `fixtures/compiled`, and random ones. A few seconds here; `TINSMITH_FUZZ_SECONDS=N` searches for longer,
//! `TINSMITH_FUZZ_SEED=N` starts elsewhere. A failure prints its seed and a small graph that can become a fixture.

use std::fs;

use tinsmith::ops;
use tinsmith_testsuite::fixture;
use tinsmith_testsuite::random_graphs::{AT_LEAST, Found, Search, check, generate, not_drawn, search};

#[test]
fn compiled_fixtures_compute_what_they_mean() {
    let mut files: Vec<_> = fs::read_dir(fixture("compiled")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let found = check(&fs::read_to_string(&file).unwrap(), 1);
        assert!(matches!(found, Ok(Found::Same { .. })), "{}: {found:?}", file.display());
    }
}

/// Operators that random graphs do not have, and why.
const NOT_DRAWN: &[(&str, &str)] = &[
    ("Compress", "is read as `PaddedCompress`"),
    ("NonMaxSuppression", "is read as `PaddedNonMaxSuppression`"),
    ("NonZero", "is read as `PaddedNonZero`"),
    ("Unique", "is read as `PaddedUnique`"),
    ("ai.tinsmith.ByteLSTM", "`com.microsoft.DynamicQuantizeLSTM` is made of it"),
    ("tinsmith.PairwiseCoupling", "`SVMClassifier` is made of it"),
    ("tinsmith.TreeLeaves", "`TreeEnsemble` is made of it"),
];

/// Operators of `com.microsoft` that no family makes yet: they are definitions in other operators, which are drawn, and their own forms are in
/// `contrib_cases.py`.
const DEFINED_BY_OTHERS: &[&str] = &[
    "com.microsoft.BiasDropout",
    "com.microsoft.BiasSoftmax",
    "com.microsoft.ConvTransposeWithDynamicPads",
    "com.microsoft.CropAndResize",
    "com.microsoft.DecoderMaskedMultiHeadAttention",
    "com.microsoft.ExpandDims",
    "com.microsoft.GatedRelativePositionBias",
    "com.microsoft.GatherBlockQuantized",
    "com.microsoft.GemmFastGelu",
    "com.microsoft.GroupNorm",
    "com.microsoft.Inverse",
    "com.microsoft.MatMulBnb4",
    "com.microsoft.MatMulInteger16",
    "com.microsoft.MoE",
    "com.microsoft.MulInteger",
    "com.microsoft.NhwcConv",
    "com.microsoft.NhwcFusedConv",
    "com.microsoft.NhwcMaxPool",
    "com.microsoft.QEmbedLayerNormalization",
    "com.microsoft.QLinearConv",
    "com.microsoft.QMoE",
    "com.microsoft.ReduceSumInteger",
    "com.microsoft.ScaledSiLU",
    "com.microsoft.SkipGroupNorm",
    "com.microsoft.SwiGLU",
    "com.microsoft.TorchEmbedding",
    "com.microsoft.UnfoldTensor",
];

#[test]
fn every_operator_is_drawn() {
    let names = ops::schemas().into_iter().map(|s| s.full_name().into_owned());
    let missing = not_drawn(names.filter(|n| !NOT_DRAWN.iter().any(|e| e.0 == n) && !DEFINED_BY_OTHERS.contains(&n.as_str())).collect());
    assert!(missing.is_empty(), "random graphs lack {missing:?}");
}

#[test]
fn random_graphs_compile_to_what_they_mean() {
    let (mut spread, mut worst) = (0, 0.0f64);
    let see = |found| {
        if let Found::Same { workspace_bytes, lower_bound_bytes, n_loops } = found {
            spread += u64::from(n_loops > 0);
            worst = worst.max(workspace_bytes as f64 / lower_bound_bytes.max(1024) as f64);
        }
    };
    let Search { n, refused, failures } = search(|seed| (generate(seed), ()), |text, (), seed| check(text, seed), see);
    eprintln!("{n} graphs, {refused} refused, {spread} on several threads, workspace at most {worst:.2} of the bound");
    assert!(failures.is_empty(), "{} of {n} graphs are wrong\n{}", failures.len(), failures[0]);
    assert!(refused * 4 <= n, "{refused} of {n} graphs cannot be compiled");
    assert!(spread > 0 || n < AT_LEAST, "none of {n} graphs has loops for several threads");
}

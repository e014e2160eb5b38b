//! What pass tests share: a graph from text, verified and evaluated before and after a pass.

use crate::graph::{Graph, eval, parse, print, rand, verify};
use crate::passes::Report;
use crate::tensor::{DType, Tensor};

/// Runs a pass on a graph in text form; both graphs verify, and have the same interface. Gives the graphs before and after.
pub(crate) fn run(pass: impl FnOnce(&mut Graph, &mut Report), text: &str) -> (Graph, Graph, Report) {
    let before = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&before).unwrap_or_else(|e| panic!("before: {e:#?}"));
    let mut after = before.clone();
    let mut report = Report::default();
    pass(&mut after, &mut report);
    verify(&after).unwrap_or_else(|e| panic!("after: {e:#?}\n{}", print(&after)));
    let interface = |g: &Graph| {
        let types = |values: &[crate::graph::Value]| values.iter().map(|&v| g.ty(v).clone()).collect::<Vec<_>>();
        (types(g.inputs()), types(g.outputs()), g.output_names().to_vec())
    };
    assert_eq!(interface(&before), interface(&after), "the interface\n{}", print(&after));
    (before, after, report)
}

/// All elements of all outputs of both graphs, on the same random inputs.
pub(crate) fn evaluate(before: &Graph, after: &Graph, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let (a, b) = outputs(before, after, seed);
    let flat = |t: Vec<Tensor>| t.iter().flat_map(Tensor::to_f64s).collect();
    (flat(a), flat(b))
}

fn outputs(before: &Graph, after: &Graph, seed: u64) -> (Vec<Tensor>, Vec<Tensor>) {
    let inputs: Vec<Tensor> = before
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            let ty = before.ty(v);
            let dims = ty.dims().expect("inputs of known extents");
            match ty.dtype {
                // Random integers are indices where they are anything: small and not negative.
                DType::I64 | DType::I32 => {
                    let n = dims.iter().product::<usize>();
                    Tensor::from_ints(ty.dtype, &dims, &(0..n).map(|k| (k as i128 + i128::from(seed)) % 3).collect::<Vec<_>>())
                }
                dtype => rand(dtype, &dims, seed + i as u64),
            }
        })
        .collect();
    let values = |g: &Graph| eval(g, &inputs).unwrap_or_else(|e| panic!("{e}\n{}", print(g)));
    (values(before), values(after))
}

/// Runs a pass that keeps every bit; gives the text afterwards.
pub(crate) fn exact(pass: impl FnOnce(&mut Graph, &mut Report), text: &str) -> (String, Report) {
    let (before, after, report) = run(pass, text);
    for seed in [1, 2] {
        let (a, b) = outputs(&before, &after, seed);
        assert_eq!(a, b, "values\n{}", print(&after));
    }
    (print(&after), report)
}

/// Runs a pass that keeps values up to `tolerance`, relative to the greatest; gives the text afterwards.
pub(crate) fn close(tolerance: f64, pass: impl FnOnce(&mut Graph, &mut Report), text: &str) -> (String, Report) {
    let (before, after, report) = run(pass, text);
    for seed in [1, 2] {
        let (a, b) = evaluate(&before, &after, seed);
        let scale = a.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= tolerance * scale, "{a} became {b}\n{}", print(&after));
        }
    }
    (print(&after), report)
}

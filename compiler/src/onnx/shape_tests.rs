//! Shapes that models compute of extents which data decides.

use onnx_protobuf::{NodeProto, TensorProto};

use super::extent_tests::{body, evaluated};
use super::tests::{D, floats, graph, int, ints, model, node, options, problems_with, value};
use crate::tensor::Tensor;

/// The rows `v: f32[n,4]` of `x: f32[3,4]` where `c: f32[3]` is not zero, and then these nodes.
fn of_rows(nodes: Vec<NodeProto>, c: &[f32; 3]) -> Vec<Tensor> {
    let rows = vec![
        node("NonZero", &["c"], &["at"], vec![]),
        node("Squeeze", &["at", "zero"], &["i"], vec![]),
        node("Gather", &["x", "i"], &["v"], vec![]),
        node("Shape", &["v"], &["shape"], vec![]),
        node("Gather", &["shape", "first"], &["n"], vec![]),
        node("Unsqueeze", &["n", "zero"], &["n1"], vec![]),
    ];
    let mut g = graph(vec![value("x", 1, &[D::N(3), D::N(4)]), value("c", 1, &[D::N(3)])], vec![], [rows, nodes].concat(), &["y"]);
    let scalar = |name: &str, v: i64| TensorProto { dims: vec![], ..ints(name, &[v]) };
    g.initializer = vec![
        scalar("first", 0),
        scalar("second", 1),
        ints("zero", &[0]),
        ints("one", &[1]),
        ints("two", &[2]),
        ints("four", &[4]),
        ints("rest", &[-1]),
        ints("pair", &[2, 2]),
        floats("half", &[1, 1], &[0.5]),
    ];
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    evaluated(model(17, g), &[Tensor::from_slice(&[3, 4], &x), Tensor::from_slice(&[3], c)])
}

/// The elements that are meant, and the shape.
fn meant(y: &[Tensor]) -> (Vec<f64>, Vec<i128>) {
    let shape = y[1].to_ints();
    (y[0].to_f64s()[..shape.iter().product::<i128>() as usize].to_vec(), shape)
}

#[test]
fn shapes_are_computed_of_extents() {
    let ends = [1.0, 0.0, 1.0];
    let all = vec![0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0];
    let cut = vec![node("Concat", &["n1", "pair"], &["s"], vec![int("axis", 0)]), node("Reshape", &["v", "s"], &["y"], vec![])];
    assert_eq!(meant(&of_rows(cut, &ends)), (all.clone(), vec![2, 2, 2]));
    let rest = vec![node("Concat", &["n1", "rest"], &["s"], vec![int("axis", 0)]), node("Reshape", &["v", "s"], &["y"], vec![])];
    assert_eq!(meant(&of_rows(rest, &ends)), (all.clone(), vec![2, 4]));
    // The outermost part of an axis.
    let flat = vec![node("Reshape", &["v", "rest"], &["y"], vec![])];
    assert_eq!(meant(&of_rows(flat, &ends)), (all.clone(), vec![8]));
    let filled = vec![node("ConstantOfShape", &["shape"], &["o"], vec![]), node("Add", &["o", "v"], &["y"], vec![])];
    assert_eq!(meant(&of_rows(filled.clone(), &ends)), (all.clone(), vec![2, 4]));
    assert_eq!(meant(&of_rows(filled, &[0.0; 3])), (vec![], vec![0, 4]));
    // The other elements of a shape are constants.
    let columns = vec![
        node("Gather", &["shape", "second"], &["m"], vec![]),
        node("Range", &["first", "m", "second"], &["r"], vec![]),
        node("Cast", &["r"], &["rf"], vec![int("to", 1)]),
        node("Add", &["v", "rf"], &["y"], vec![]),
    ];
    assert_eq!(meant(&of_rows(columns, &ends)), (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0], vec![2, 4]));
    // What exporters write of `expand`: no extent is -1.
    let expanded = vec![
        node("ConstantOfShape", &["two"], &["z"], vec![]),
        node("Cast", &["z"], &["zi"], vec![int("to", 7)]),
        node("Add", &["zi", "one"], &["ones"], vec![]),
        node("Sub", &["zi", "ones"], &["minus"], vec![]),
        node("Equal", &["shape", "minus"], &["is"], vec![]),
        node("Where", &["is", "ones", "shape"], &["s"], vec![]),
        node("Expand", &["half", "s"], &["h"], vec![]),
        node("Add", &["h", "v"], &["y"], vec![]),
    ];
    assert_eq!(meant(&of_rows(expanded, &ends)), (all.iter().map(|v| v + 0.5).collect(), vec![2, 4]));
    // As many as there are, but two at most.
    let best = vec![
        node("Concat", &["two", "n1"], &["both"], vec![int("axis", 0)]),
        node("ReduceMin", &["both"], &["k"], vec![int("keepdims", 0)]),
        node("Reshape", &["k", "one"], &["k1"], vec![]),
        node("TopK", &["v", "k1"], &["y", "at2"], vec![int("axis", 0)]),
    ];
    let y = of_rows(best, &[1.0; 3]);
    assert_eq!((y[0].dims(), meant(&y).1), (&[2, 4][..], vec![2, 4]));
    let updates = vec![
        node("ConstantOfShape", &["shape"], &["o"], vec![]),
        node("Sub", &["n1", "one"], &["last"], vec![]),
        node("Unsqueeze", &["last", "one"], &["row"], vec![]),
        node("Concat", &["one", "four"], &["s"], vec![int("axis", 0)]),
        node("Expand", &["row", "s"], &["rows"], vec![]),
        node("Slice", &["v", "zero", "one"], &["update"], vec![]),
        node("ScatterElements", &["o", "rows", "update"], &["y"], vec![]),
    ];
    let problems = std::panic::catch_unwind(|| of_rows(updates, &ends));
    assert!(problems.is_err(), "positions from the back are others where more is there than is meant");
}

#[test]
fn equal_extents_are_one() {
    let ends = [1.0, 0.0, 1.0];
    let doubled = |v: &[f64]| v.iter().map(|v| 2.0 * v).collect::<Vec<f64>>();
    let all = [0.0, 1.0, 2.0, 3.0, 8.0, 9.0, 10.0, 11.0];
    // The same places twice, and joined twice.
    let again = vec![
        node("NonZero", &["c"], &["at2"], vec![]),
        node("Squeeze", &["at2", "zero"], &["i2"], vec![]),
        node("Gather", &["x", "i2"], &["w"], vec![]),
        node("Concat", &["v", "w"], &["vw"], vec![int("axis", 0)]),
        node("Concat", &["w", "v"], &["wv"], vec![int("axis", 0)]),
        node("Add", &["vw", "wv"], &["y"], vec![]),
    ];
    assert_eq!(meant(&of_rows(again, &ends)), (doubled(&[all, all].concat()), vec![4, 4]));
    let sliced = vec![
        node("Add", &["zero", "n1"], &["end"], vec![]),
        node("Slice", &["v", "zero", "n1"], &["a"], vec![]),
        node("Slice", &["v", "zero", "end"], &["b"], vec![]),
        node("Concat", &["a"], &["a1"], vec![int("axis", 0)]),
        node("Add", &["a1", "b"], &["y"], vec![]),
    ];
    assert_eq!(meant(&of_rows(sliced, &ends)), (doubled(&all), vec![2, 4]));
}

#[test]
fn branches_may_differ_in_extents() {
    let nodes = || {
        vec![
            node("ReduceProd", &["shape"], &["size"], vec![int("keepdims", 0)]),
            node("Equal", &["size", "first"], &["empty"], vec![]),
            node(
                "If",
                &["empty"],
                &["y"],
                vec![
                    body("then_branch", vec![], vec![node("Identity", &["half"], &["a"], vec![])], &["a"]),
                    body("else_branch", vec![], vec![node("Slice", &["v", "zero", "two", "one"], &["b"], vec![])], &["b"]),
                ],
            ),
        ]
    };
    assert_eq!(meant(&of_rows(nodes(), &[0.0, 1.0, 1.0])), (vec![4.0, 5.0, 8.0, 9.0], vec![2, 2]));
    assert_eq!(meant(&of_rows(nodes(), &[0.0; 3])), (vec![0.5], vec![1, 1]));
}

#[test]
fn updates_that_data_counts_are_scattered() {
    let scatter = vec![
        node("Unsqueeze", &["i", "one"], &["i1"], vec![]),
        node("Concat", &["n1", "four"], &["s"], vec![int("axis", 0)]),
        node("Expand", &["i1", "s"], &["rows"], vec![]),
        node("Sub", &["x", "x"], &["o"], vec![]),
        node("ScatterElements", &["o", "rows", "v"], &["y"], vec![]),
    ];
    let y = of_rows(scatter, &[0.0, 1.0, 0.0]);
    assert_eq!(y[0].to_f64s(), [0.0, 0.0, 0.0, 0.0, 4.0, 5.0, 6.0, 7.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn shapes_without_a_bound_are_refused() {
    let nodes = vec![node("ConstantOfShape", &["n"], &["y"], vec![])];
    let m = model(17, graph(vec![value("n", 7, &[D::N(1)])], vec![], nodes, &["y"]));
    assert!(problems_with(&m, &options()).contains("nothing says how large it gets"));
    let stated = super::ImportOptions { at_most: [("n".to_owned(), 5)].into(), ..options() };
    let imported = super::model::import_model(m, &stated).unwrap();
    let y = |n: i64| crate::graph::eval(&imported.graph, &[Tensor::from_slice(&[1], &[n])]);
    assert_eq!((y(3).unwrap()[0].dims(), y(3).unwrap()[1].to_ints()), (&[5][..], vec![3]));
    assert!(y(6).is_err() && y(-1).is_err());
}

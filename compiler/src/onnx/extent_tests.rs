//! Extents that data decides, in models made of messages.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::ImportOptions;
use super::tests::{D, attribute, floats, graph, int, int_list, ints, model, node, options, problems_with, value};
use crate::tensor::Tensor;

#[test]
fn extents_that_data_decides_come_with_their_counts() {
    let nodes = vec![
        node("NonZero", &["x"], &["i"], vec![]),
        node("Transpose", &["i"], &["t"], vec![int_list("perm", &[1, 0])]),
        node("GatherND", &["x", "t"], &["y"], vec![]),
    ];
    let read = |nodes: Vec<NodeProto>, outputs: &[&str]| {
        super::model::import_model(model(17, graph(vec![value("x", 1, &[D::N(2), D::N(3)])], vec![], nodes, outputs)), &options())
    };
    let imported = read(nodes.clone(), &["y", "i", "t"]).unwrap();
    assert_eq!(imported.graph.output_names(), ["y", "i", "t", "y.shape", "i.shape", "t.shape"]);
    assert_eq!(imported.shapes, [(0, 3), (1, 4), (2, 5)]);
    let x = crate::tensor::Tensor::from_slice(&[2, 3], &[0f32, 4.0, 0.0, 5.0, 0.0, 6.0]);
    let outputs = crate::graph::eval(&imported.graph, &[x]).unwrap();
    assert_eq!(outputs[0].to_f64s()[..3], [4.0, 5.0, 6.0]);
    // Dense: rows of three, not of the six that could be.
    assert_eq!(outputs[1].to_ints()[..6], [0, 1, 1, 1, 0, 2]);
    assert_eq!(outputs[2].to_ints()[..6], [0, 1, 1, 0, 1, 2]);
    let shapes: Vec<Vec<i128>> = outputs[3..].iter().map(crate::tensor::Tensor::to_ints).collect();
    assert_eq!(shapes, [vec![3], vec![2, 3], vec![3, 2]]);
    for (op, inputs) in [("CumSum", vec!["i", "one"]), ("Softmax", vec!["y"]), ("Add", vec!["y", "six"])] {
        let mut nodes = nodes.clone();
        nodes.push(node(op, &inputs, &["z"], vec![]));
        let mut g = graph(vec![value("x", 1, &[D::N(2), D::N(3)])], vec![], nodes, &["z"]);
        g.initializer = vec![ints("one", &[1]), floats("six", &[6], &[0.0; 6])];
        let problems = problems_with(&model(17, g), &options());
        let wanted = format!("`{op}` needs all of axis ");
        assert!(problems.contains(&wanted) && problems.contains("whose extent `NonZero i` decides at run time"), "{problems}");
    }
}

pub(super) fn evaluated(m: ModelProto, inputs: &[Tensor]) -> Vec<Tensor> {
    evaluated_with(m, &options(), inputs)
}

fn evaluated_with(m: ModelProto, options: &ImportOptions, inputs: &[Tensor]) -> Vec<Tensor> {
    let imported = super::model::import_model(m, options).unwrap_or_else(|d| panic!("{d:#?}"));
    crate::graph::eval(&imported.graph, inputs).unwrap()
}

/// A body with these outputs, which reads what is around it.
pub(super) fn body(name: &str, inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> AttributeProto {
    attribute(name, AttributeType::GRAPH, |a| a.g = Some(graph(inputs, vec![], nodes, outputs)).into())
}

#[test]
fn branches_give_extents_that_data_decides() {
    let x = || vec![value("x", 1, &[D::N(2), D::N(4)]), value("c", 9, &[])];
    let nonzero = || node("NonZero", &["x"], &["n"], vec![]);
    let run = |nodes: Vec<NodeProto>, c: bool| {
        let data = Tensor::from_slice(&[2, 4], &[1f32, 0., 2., 0., 0., 3., 0., 0.]);
        evaluated(model(17, graph(x(), vec![], nodes, &["y"])), &[data, Tensor::from_bools(&[], [c])])
    };
    // What is captured varies inside, and what a branch gives outside.
    let captured = vec![
        nonzero(),
        node(
            "If",
            &["c"],
            &["y"],
            vec![
                body("then_branch", vec![], vec![node("Neg", &["n"], &["a"], vec![])], &["a"]),
                body("else_branch", vec![], vec![node("Add", &["n", "n"], &["b"], vec![])], &["b"]),
            ],
        ),
    ];
    let y = run(captured.clone(), true);
    assert_eq!((y[1].to_ints(), y[0].to_ints()[..6].to_vec()), (vec![2, 3], vec![0, 0, -1, 0, -2, -1]));
    assert_eq!(run(captured, false)[0].to_ints()[..6], [0, 0, 2, 0, 4, 2]);
    let inside = vec![node(
        "If",
        &["c"],
        &["y"],
        vec![
            body("then_branch", vec![], vec![node("NonZero", &["x"], &["a"], vec![])], &["a"]),
            body("else_branch", vec![], vec![node("Cos", &["x"], &["cos"], vec![]), node("NonZero", &["cos"], &["b"], vec![])], &["b"]),
        ],
    )];
    assert_eq!(run(inside.clone(), true)[1].to_ints(), [2, 3]);
    assert_eq!(run(inside, false)[1].to_ints(), [2, 8]);
    // Only one branch knows how much of its result is meant.
    let one = vec![node(
        "If",
        &["c"],
        &["y"],
        vec![
            body("then_branch", vec![], vec![node("NonZero", &["x"], &["a"], vec![])], &["a"]),
            body("else_branch", vec![], vec![node("Cast", &["z"], &["b"], vec![int("to", 7)])], &["b"]),
        ],
    )];
    let mut g = graph(x(), vec![], one, &["y"]);
    g.input.push(value("z", 1, &[D::N(2), D::N(8)]));
    for (c, extent) in [(true, 3), (false, 8)] {
        let data = Tensor::from_slice(&[2, 4], &[1f32, 0., 2., 0., 0., 3., 0., 0.]);
        let z = Tensor::from_slice(&[2, 8], &[4f32; 16]);
        let y = evaluated(model(17, g.clone()), &[data, Tensor::from_bools(&[], [c]), z]);
        assert_eq!(y[1].to_ints(), [2, extent]);
    }
    // The whole of what varies is not there inside either.
    let sum = |op: &str, y: &str| vec![node(op, &["n"], &[y], vec![int("keepdims", 0)])];
    let whole = vec![
        nonzero(),
        node(
            "If",
            &["c"],
            &["y"],
            vec![body("then_branch", vec![], sum("ReduceMean", "a"), &["a"]), body("else_branch", vec![], sum("ReduceMax", "b"), &["b"])],
        ),
    ];
    let problems = problems_with(&model(17, graph(x(), vec![], whole, &["y"])), &options());
    assert!(problems.contains("`ReduceMean` needs all of axis 1 of `n`, whose extent `NonZero n` decides at run time"), "{problems}");
}

#[test]
fn the_first_of_many_positions_may_be_none_at_all() {
    const N: usize = 5000;
    let nodes = vec![
        node("NonZero", &["x"], &["n"], vec![]),
        node("Squeeze", &["n"], &["i"], vec![]),
        node("Gather", &["x", "i"], &["v"], vec![]),
        node(
            "If",
            &["c"],
            &["j"],
            vec![
                body("then_branch", vec![], vec![node("Identity", &["none"], &["a"], vec![])], &["a"]),
                body(
                    "else_branch",
                    vec![],
                    vec![
                        node("Greater", &["v", "two"], &["g"], vec![]),
                        node("NonZero", &["g"], &["m"], vec![]),
                        node("Squeeze", &["m"], &["b"], vec![]),
                    ],
                    &["b"],
                ),
            ],
        ),
        node("Slice", &["j", "zero", "three"], &["few"], vec![]),
        node("Gather", &["v", "few"], &["y"], vec![]),
    ];
    let mut g = graph(vec![value("x", 1, &[D::N(N as i64)]), value("c", 9, &[])], vec![], nodes, &["y"]);
    g.initializer = vec![ints("none", &[]), ints("zero", &[0]), ints("three", &[3]), floats("two", &[], &[2.0])];
    let x: Vec<f32> = (0..N).map(|i| (i % 5) as f32).collect();
    for (c, wanted) in [(false, vec![3.0, 4.0, 3.0]), (true, vec![])] {
        let y = evaluated(model(17, g.clone()), &[Tensor::from_slice(&[N], &x), Tensor::from_bools(&[], [c])]);
        // Not as many as there are positions.
        assert_eq!((y[0].dims(), y[1].to_ints()), (&[3][..], vec![wanted.len() as i128]));
        assert_eq!(y[0].to_f64s()[..wanted.len()], wanted);
    }
}

#[test]
fn what_a_mask_chooses_is_replaced() {
    let nodes = |n_rows: &str, update: Vec<NodeProto>| {
        let mut nodes = vec![
            node("Greater", &["x", "zero"], &["g"], vec![]),
            node("NonZero", &["g"], &["n"], vec![]),
            node("Transpose", &["n"], &["t"], vec![int_list("perm", &[1, 0])]),
        ];
        nodes.extend(update);
        nodes.push(node("ScatterND", &["x", "t", n_rows], &["y"], vec![]));
        nodes
    };
    let run = |nodes: Vec<NodeProto>, extra: Vec<ValueInfoProto>, more: &[Tensor]| {
        let mut g = graph([vec![value("x", 1, &[D::N(2), D::N(3)])], extra].concat(), vec![], nodes, &["y"]);
        g.initializer = vec![floats("zero", &[], &[0.0]), ints("first", &[0]), ints("one", &[1])];
        let x = Tensor::from_slice(&[2, 3], &[-1f32, 4.0, -2.0, 5.0, -3.0, 6.0]);
        evaluated(model(17, g), &[&[x], more].concat())[0].to_f64s()
    };
    // x[x > 0] = -x[x > 0]
    let negated = vec![node("GatherND", &["x", "t"], &["v"], vec![]), node("Neg", &["v"], &["w"], vec![])];
    assert_eq!(run(nodes("w", negated), vec![], &[]), [-1.0, -4.0, -2.0, -5.0, -3.0, -6.0]);
    // The first elements of another value, which may have fewer or more than `x`.
    for n in [4, 9] {
        let taken = vec![
            node("Shape", &["t"], &["s"], vec![]),
            node("Slice", &["s", "first", "one"], &["count"], vec![]),
            node("Slice", &["z", "first", "count"], &["w"], vec![]),
        ];
        let z: Vec<f32> = (0..n).map(|i| 10.0 + i as f32).collect();
        let y = run(nodes("w", taken), vec![value("z", 1, &[D::N(n)])], &[Tensor::from_slice(&[n as usize], &z)]);
        assert_eq!(y, [-1.0, 10.0, -2.0, 11.0, -3.0, 12.0]);
    }
}

#[test]
fn positions_are_known_whatever_is_there() {
    // As many ways lead from the positions to the input as no search takes.
    let sums = (0..12).map(|i| {
        let from = if i == 0 { "x".to_owned() } else { format!("s{}", i - 1) };
        node("Add", &[&from, &from], &[&format!("s{i}")], vec![])
    });
    let mut nodes: Vec<NodeProto> = sums.collect();
    nodes.extend([
        node("NonZero", &["s11"], &["n"], vec![]),
        node("Squeeze", &["n"], &["i"], vec![]),
        node("Gather", &["x", "i"], &["v"], vec![]),
        node("Mul", &["i", "zero"], &["j"], vec![]),
        node("Gather", &["v", "j"], &["y"], vec![]),
    ]);
    let mut g = graph(vec![value("x", 1, &[D::N(4)])], vec![], nodes, &["y"]);
    g.initializer = vec![ints("zero", &[0])];
    let y = evaluated(model(17, g), &[Tensor::from_slice(&[4], &[0f32, 7.0, 0.0, 5.0])]);
    assert_eq!((y[0].to_f64s()[..2].to_vec(), y[1].to_ints()), (vec![7.0, 7.0], vec![2]));
}

#[test]
fn loops_keep_extents_that_data_decides() {
    let inputs = || vec![value("i", 7, &[]), value("on", 9, &[])];
    let x = || Tensor::from_slice(&[2, 4], &[1f32, 0., 2., 0., 0., 3., 0., 0.]);
    let state = value("s", 7, &[D::N(-1), D::N(-1)]);
    let nodes = |inner: Vec<NodeProto>, trip: &str| {
        let body = body("body", [inputs(), vec![state.clone()]].concat(), inner, &["again", "t"]);
        vec![node("NonZero", &["x"], &["n"], vec![]), node("Loop", &[trip, "", "n"], &["y"], vec![body])]
    };
    let again = || node("Identity", &["on"], &["again"], vec![]);
    let whole = |nodes: Vec<NodeProto>| {
        let mut g = graph(vec![value("x", 1, &[D::N(2), D::N(4)]), value("m", 7, &[])], vec![], nodes, &["y"]);
        g.initializer = vec![ints("two", &[2])];
        model(17, g)
    };
    let y = evaluated(whole(nodes(vec![again(), node("Add", &["s", "i"], &["t"], vec![])], "two")), &[x(), Tensor::scalar(0i64)]);
    assert_eq!((y[1].to_ints(), y[0].to_ints()[..6].to_vec()), (vec![2, 3], vec![1, 1, 2, 1, 3, 2]));
    // A body that makes another extent of it is no body of a loop.
    let fresh = vec![again(), node("Cos", &["x"], &["cos"], vec![]), node("NonZero", &["cos"], &["t"], vec![])];
    let problems = problems_with(&whole(nodes(fresh, "m")), &options());
    assert!(problems.contains("`NonZero t` decides an extent of `t`, which a loop reads or gives"), "{problems}");
    // Nor do slices of what varies exist.
    let scanned = body("body", inputs(), vec![again(), node("NonZero", &["x"], &["t"], vec![])], &["again", "t"]);
    let problems = problems_with(&whole(vec![node("Loop", &["m", ""], &["y"], vec![scanned])]), &options());
    assert!(problems.contains("`NonZero t` decides an extent of `t`, which a loop reads or gives"), "{problems}");
    let step = vec![node("Add", &["s", "e"], &["t"], vec![])];
    let scan = body("body", vec![value("s", 7, &[D::N(2)]), value("e", 7, &[D::N(2)])], step, &["t"]);
    let nodes = vec![
        node("NonZero", &["x"], &["n"], vec![]),
        node("Transpose", &["n"], &["rows"], vec![int_list("perm", &[1, 0])]),
        node("Scan", &["s0", "rows"], &["y"], vec![scan, int("num_scan_inputs", 1)]),
    ];
    let mut g = graph(vec![value("x", 1, &[D::N(2), D::N(4)])], vec![], nodes, &["y"]);
    g.initializer = vec![ints("s0", &[0, 0])];
    let problems = problems_with(&model(17, g), &options());
    assert!(problems.contains("`NonZero n` decides an extent of `rows`, which a loop reads or gives"), "{problems}");
}

#[test]
fn some_operators_take_the_whole_of_an_axis_that_data_decides() {
    let x = || Tensor::from_slice(&[6], &[-1f32, 0., -2., 0., -3., 0.]);
    let run = |nodes: Vec<NodeProto>| {
        let places = vec![
            node("NonZero", &["x"], &["n"], vec![]),
            node("Squeeze", &["n"], &["i"], vec![]),
            node("Gather", &["x", "i"], &["v"], vec![]),
        ];
        let mut g = graph(vec![value("x", 1, &[D::N(6)])], vec![], [places, nodes].concat(), &["y"]);
        let scalar = |name: &str, v: f32| TensorProto { dims: vec![], ..floats(name, &[1], &[v]) };
        g.initializer = vec![ints("one", &[1]), ints("two", &[2]), ints("zero", &[0]), ints("end", &[-1]), scalar("least", -2.5)];
        evaluated(model(17, g), &[x()])
    };
    let reduced = |op: &str| run(vec![node(op, &["v"], &["y"], vec![int("keepdims", 0)])])[0].to_f64s()[0];
    assert_eq!([reduced("ReduceMax"), reduced("ReduceMin"), reduced("ReduceSum"), reduced("ReduceProd")], [-1.0, -3.0, -6.0, -6.0]);
    let meant = |y: &[Tensor]| y[0].to_f64s()[..y[1].to_ints()[0] as usize].to_vec();
    assert_eq!(meant(&run(vec![node("Slice", &["v", "one", "two"], &["y"], vec![])])), [-2.0]);
    assert_eq!(meant(&run(vec![node("Slice", &["v", "end", "zero", "zero", "end"], &["y"], vec![])])), [-3.0, -2.0]);
    assert_eq!(meant(&run(vec![node("Slice", &["v", "zero", "end"], &["y"], vec![])])), [-1.0, -2.0]);
    assert_eq!(meant(&run(vec![node("Concat", &["v", "v"], &["y"], vec![int("axis", 0)])])), [-1.0, -2.0, -3.0, -1.0, -2.0, -3.0]);
    assert_eq!(meant(&run(vec![node("Concat", &["v", "x"], &["y"], vec![int("axis", 0)])])).len(), 9);
    let best = vec![
        node("Shape", &["v"], &["count"], vec![]),
        node("Min", &["count", "two"], &["k"], vec![]),
        node("TopK", &["v", "k"], &["y", "at"], vec![]),
    ];
    assert_eq!(meant(&run(best)), [-1.0, -2.0]);
    assert_eq!(meant(&run(vec![node("TopK", &["v", "two"], &["y", "at"], vec![])])), [-1.0, -2.0]);
    let again = vec![
        node("Greater", &["v", "least"], &["good"], vec![]),
        node("NonZero", &["good"], &["at"], vec![]),
        node("Squeeze", &["at"], &["j"], vec![]),
        node("Gather", &["v", "j"], &["y"], vec![]),
    ];
    assert_eq!(meant(&run(again)), [-1.0, -2.0]);
    // Positions from the back are others where more is there than is meant.
    let mut m = model(17, graph(vec![value("x", 1, &[D::N(6)]), value("j", 7, &[D::N(1)])], vec![], vec![], &["y"]));
    m.graph.as_mut().unwrap().node =
        vec![node("NonZero", &["x"], &["n"], vec![]), node("Squeeze", &["n"], &["i"], vec![]), node("Gather", &["i", "j"], &["y"], vec![])];
    assert!(problems_with(&m, &options()).contains("`Gather` needs all of axis 0 of `i`"));
}

#[test]
fn ranges_that_data_decides_have_a_bound() {
    let of = |nodes: Vec<NodeProto>, inputs: Vec<ValueInfoProto>, constants: Vec<TensorProto>| {
        model(17, graph(inputs, constants, nodes, &["y"]))
    };
    let range = |start: &str, limit: &str| node("Range", &[start, limit, "one"], &["y"], vec![]);
    let scalar = |name: &str, v: i64| TensorProto { dims: vec![], ..ints(name, &[v]) };
    let one = || scalar("one", 1);
    // A small element type.
    let cast = node("Cast", &["n"], &["limit"], vec![int("to", 7)]);
    let m = of(vec![cast, range("one", "limit")], vec![value("n", 2, &[])], vec![one()]);
    let y = evaluated(m, &[Tensor::from_slice(&[], &[4u8])]);
    assert_eq!((y[0].dims().to_vec(), y[0].to_ints()[..3].to_vec(), y[1].to_ints()), (vec![254], vec![1, 2, 3], vec![3]));
    // A minimum of a constant, arithmetic on it, and the greatest of several.
    let nodes = vec![
        node("Min", &["n", "six"], &["few"], vec![]),
        node("ReduceMax", &["few"], &["greatest"], vec![int("keepdims", 0)]),
        node("Add", &["greatest", "one"], &["limit"], vec![]),
        range("one", "limit"),
    ];
    let m = of(nodes, vec![value("n", 7, &[D::N(3)])], vec![one(), scalar("six", 6)]);
    let y = evaluated(m, &[Tensor::from_slice(&[3], &[2i64, 9, 3])]);
    assert_eq!((y[0].to_ints(), y[1].to_ints()), (vec![1, 2, 3, 4, 5, 6], vec![6]));
    // How many elements are not zero.
    let nodes = vec![
        node("NonZero", &["x"], &["places"], vec![]),
        node("Shape", &["places"], &["shape"], vec![]),
        node("Gather", &["shape", "one"], &["limit"], vec![]),
        range("zero", "limit"),
    ];
    let m = of(nodes, vec![value("x", 1, &[D::N(5)])], vec![one(), scalar("zero", 0)]);
    let y = evaluated(m, &[Tensor::from_slice(&[5], &[1f32, 0., 2., 0., 3.])]);
    assert_eq!((y[0].to_ints(), y[1].to_ints()), (vec![0, 1, 2, 3, 4], vec![3]));
    // Nothing bounds it, but the user may.
    let m = of(vec![range("one", "n")], vec![value("n", 7, &[])], vec![one()]);
    let problems = problems_with(&m, &options());
    assert!(problems.contains("operand 1 decides an extent, and nothing says how large it gets"), "{problems}");
    assert!(problems.contains("--at-most INPUT=N"), "{problems}");
    let stated = ImportOptions { at_most: [("n".to_owned(), 5)].into(), ..options() };
    let y = evaluated_with(m.clone(), &stated, &[Tensor::scalar(3i64)]);
    assert_eq!((y[0].to_ints(), y[1].to_ints()), (vec![1, 2, 3, 4], vec![2]));
    let unknown = ImportOptions { at_most: [("k".to_owned(), 5)].into(), ..options() };
    assert!(problems_with(&m, &unknown).contains("there is no input `k`"));
}

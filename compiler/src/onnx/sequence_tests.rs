//! Sequences, optional values and written-out loops in models made of messages.

use onnx_protobuf::{Message, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto};

use super::ImportOptions;
use super::tests::{
    D, floats, graph, int, int_list, ints, model, node, options, problems, problems_with, read, subgraph, text, text_with, value,
};
use crate::graph::eval;
use crate::tensor::Tensor;

/// A value that is a sequence of `f32[N,2]`.
fn list(name: &str) -> ValueInfoProto {
    let inner = value(name, 1, &[D::S("N"), D::N(2)]);
    let sequence = type_proto::Sequence { elem_type: inner.type_.clone(), ..type_proto::Sequence::default() };
    ValueInfoProto {
        type_: Some(TypeProto { value: Some(type_proto::Value::SequenceType(sequence)), ..TypeProto::default() }).into(),
        ..inner
    }
}

/// An optional `f32[2]`, or an optional sequence.
fn maybe(inner: ValueInfoProto) -> ValueInfoProto {
    let optional = type_proto::Optional { elem_type: inner.type_.clone(), ..type_proto::Optional::default() };
    ValueInfoProto {
        type_: Some(TypeProto { value: Some(type_proto::Value::OptionalType(optional)), ..TypeProto::default() }).into(),
        ..inner
    }
}

fn with(name: &str, shapes: &[&[usize]]) -> ImportOptions {
    let shapes = shapes.iter().map(|s| s.to_vec()).collect();
    ImportOptions { sequences: [(name.to_owned(), shapes)].into(), ..options() }
}

fn one(dims: &[usize], first: f32) -> Tensor {
    Tensor::from_slice(dims, &(0..dims.iter().product()).map(|i| first + i as f32).collect::<Vec<f32>>())
}

#[test]
fn a_sequence_is_so_many_values() {
    let nodes = vec![
        node("SequenceConstruct", &["x", "x"], &["s"], vec![]),
        node("SequenceInsert", &["s", "n", "at"], &["t"], vec![]),
        node("Neg", &["x"], &["n"], vec![]),
        node("SequenceErase", &["t"], &["u"], vec![]),
        node("SequenceLength", &["t"], &["length"], vec![]),
        node("SequenceAt", &["u", "last"], &["y"], vec![]),
        node("ConcatFromSequence", &["u"], &["z"], vec![int("axis", 0)]),
        node("ConcatFromSequence", &["u"], &["stack"], vec![int("axis", -1), int("new_axis", 1)]),
    ];
    let weights = vec![ints("at", &[-1]), ints("last", &[-1])];
    let g = graph(vec![value("x", 1, &[D::N(2)])], weights, nodes, &["length", "y", "z", "stack", "u"]);
    let g = read(&model(17, g), &options()).unwrap();
    assert_eq!(g.output_names(), ["length", "y", "z", "stack", "u_0", "u_1"]);
    let y = eval(&g, &[one(&[2], 1.0)]).unwrap();
    assert_eq!((y[0].to_ints(), y[1].to_f64s()), (vec![3], vec![-1.0, -2.0]));
    assert_eq!((y[2].to_f64s(), y[3].to_f64s()), (vec![1.0, 2.0, -1.0, -2.0], vec![1.0, -1.0, 2.0, -2.0]));
    assert_eq!((y[4].to_f64s(), y[5].to_f64s()), (vec![1.0, 2.0], vec![-1.0, -2.0]));
}

#[test]
fn tensors_are_split_into_sequences() {
    let parts = |inputs: &[&str], attributes| {
        let nodes = vec![node("SplitToSequence", inputs, &["s"], attributes), node("Identity", &["s"], &["y"], vec![])];
        let mut three = ints("three", &[3]);
        three.dims.clear();
        let g = graph(vec![value("x", 1, &[D::N(5), D::N(1)])], vec![three, ints("all", &[4, 0, 1])], nodes, &["y"]);
        let y = eval(&read(&model(17, g), &options()).unwrap(), &[one(&[5, 1], 0.0)]).unwrap();
        y.iter().map(|t| (t.dims().to_vec(), t.to_f64s())).collect::<Vec<_>>()
    };
    assert_eq!(parts(&["x", "three"], vec![]), [(vec![3, 1], vec![0.0, 1.0, 2.0]), (vec![2, 1], vec![3.0, 4.0])]);
    // `keepdims` is of no meaning beside lengths.
    let lengths = parts(&["x", "all"], vec![int("keepdims", 0)]);
    assert_eq!(lengths, [(vec![4, 1], vec![0.0, 1.0, 2.0, 3.0]), (vec![0, 1], vec![]), (vec![1, 1], vec![4.0])]);
    assert_eq!(parts(&["x"], vec![int("axis", -1), int("keepdims", 0)]), [(vec![5], vec![0.0, 1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(parts(&["x"], vec![])[4], (vec![1, 1], vec![4.0]));
}

#[test]
fn inputs_that_are_sequences_have_the_shapes_that_the_user_says() {
    let body = graph(vec![value("a", 1, &[]), value("b", 1, &[])], vec![], vec![node("Add", &["a", "b"], &["c"], vec![])], &["c"]);
    let nodes = vec![node("SequenceMap", &["s", "x"], &["y"], vec![subgraph("body", body)])];
    let m = model(17, graph(vec![list("s"), value("x", 1, &[D::N(2)])], vec![], nodes, &["y"]));
    insta::assert_snapshot!(text_with(&m, &with("s", &[&[1, 2], &[3, 2]])), @r#"
        graph @g(%s_0: f32[1,2], %s_1: f32[3,2], %x: f32[2]) -> (%"y.0/c" as y_0, %"y.1/c" as y_1) {
          %"y.0/c" = Add(%s_0, %x)                                    : f32[1,2]
          %"y.1/c" = Add(%s_1, %x)                                    : f32[3,2]
        }
        "#);
    assert!(problems(&m).contains("input `s` is a sequence, and nothing says how long it is"), "{}", problems(&m));
    let problems = problems_with(&m, &with("s", &[&[1, 2], &[3, 4]]));
    assert!(problems.contains("a tensor [3, 4] of input `s` is not of its type"), "{problems}");
    let problems = problems_with(&m, &with("s", &[]));
    assert!(problems.contains("every output is an empty sequence"), "{problems}");
}

#[test]
fn optional_values_are_there_or_not() {
    let branch = |node: NodeProto| graph(vec![], vec![], vec![node], &["out"]);
    let some = branch(node("OptionalGetElement", &["x"], &["out"], vec![]));
    let none = branch(node("Neg", &["k"], &["out"], vec![]));
    let nodes = vec![
        node("OptionalHasElement", &["x"], &["has"], vec![]),
        node("If", &["has"], &["y"], vec![subgraph("then_branch", some), subgraph("else_branch", none)]),
        node("Optional", &["y"], &["z"], vec![]),
    ];
    let m = model(18, graph(vec![maybe(value("x", 1, &[D::N(1)]))], vec![floats("k", &[1], &[5.0])], nodes, &["has", "z"]));
    let there = read(&m, &with("x", &[&[1]])).unwrap();
    assert_eq!(eval(&there, &[one(&[1], 2.0)]).unwrap().iter().map(Tensor::to_f64s).collect::<Vec<_>>(), [[1.0], [2.0]]);
    let missing = read(&m, &with("x", &[])).unwrap();
    assert_eq!(eval(&missing, &[]).unwrap().iter().map(Tensor::to_f64s).collect::<Vec<_>>(), [[0.0], [-5.0]]);
    assert!(problems(&m).contains("input `x` is an optional tensor, and nothing says whether it has a value"), "{}", problems(&m));
    let s = super::signature(&m.write_to_bytes().unwrap(), "m.onnx").unwrap();
    assert_eq!(s.inputs[0].form, super::Form::Optional);
    let m = model(18, graph(vec![maybe(list("x"))], vec![], vec![node("OptionalGetElement", &["x"], &["y"], vec![])], &["y"]));
    assert_eq!(read(&m, &with("x", &[&[1, 2]])).unwrap().output_names(), ["y_0"]);
    let problems = problems_with(&m, &with("x", &[]));
    assert!(problems.contains("`OptionalGetElement` of an optional without a value"), "{problems}");
}

#[test]
fn branches_that_data_chooses_give_sequences_of_one_length() {
    let branch = |operands: &[&str]| graph(vec![], vec![], vec![node("SequenceConstruct", operands, &["out"], vec![])], &["out"]);
    let import = |other: &[&str]| {
        let branches = vec![subgraph("then_branch", branch(&["x", "z"])), subgraph("else_branch", branch(other))];
        let nodes = vec![node("Neg", &["x"], &["z"], vec![]), node("If", &["c"], &["y"], branches)];
        model(17, graph(vec![value("c", 9, &[]), value("x", 1, &[D::N(1)])], vec![], nodes, &["y"]))
    };
    let g = read(&import(&["z", "x"]), &options()).unwrap();
    for (c, expected) in [(true, [[3.0], [-3.0]]), (false, [[-3.0], [3.0]])] {
        let y = eval(&g, &[Tensor::from_bools(&[], [c]), one(&[1], 3.0)]).unwrap();
        assert_eq!(y.iter().map(Tensor::to_f64s).collect::<Vec<_>>(), expected);
    }
    let problems = problems(&import(&["x"]));
    assert!(problems.contains("the branches of `If` give `y` as a sequence of 2 and as a sequence of 1"), "{problems}");
}

/// A loop of so many iterations whose body appends to its state and gives the iteration.
fn appending(trip: i64, op: &str) -> onnx_protobuf::ModelProto {
    let nodes = vec![
        node(op, &["s", "x"], &["t"], if op == "Concat" { vec![int("axis", 0)] } else { vec![] }),
        node("Identity", &["c"], &["d"], vec![]),
        node("Cast", &["i"], &["row"], vec![int("to", 1)]),
    ];
    let is_list = op == "SequenceInsert";
    let s = if is_list { list("s") } else { value("s", 1, &[]) };
    let body = graph(vec![value("i", 7, &[]), value("c", 9, &[]), s], vec![], nodes, &["d", "t", "row"]);
    let begin = if is_list { node("SequenceEmpty", &[], &["b"], vec![]) } else { node("Identity", &["x"], &["b"], vec![]) };
    let nodes = vec![begin, node("Loop", &["trip", "", "b"], &["y", "rows"], vec![subgraph("body", body)])];
    let mut trips = ints("trip", &[trip]);
    trips.dims.clear();
    model(17, graph(vec![value("x", 1, &[D::N(1)])], vec![trips], nodes, &["y", "rows"]))
}

#[test]
fn loops_over_sequences_and_growing_states_are_written_out() {
    let g = read(&appending(3, "SequenceInsert"), &options()).unwrap();
    assert_eq!(g.output_names(), ["y_0", "y_1", "y_2", "rows"]);
    assert_eq!(eval(&g, &[one(&[1], 2.0)]).unwrap()[3].to_f64s(), [0.0, 1.0, 2.0]);
    insta::assert_snapshot!(text(&appending(2, "Concat")), @r#"
        graph @g(%x: f32[1]) -> (%"y.1/t" as y, @rows) {
          %b = Identity(%x)                                           : f32[1]
          @trip = const [2]                                           : i64[]
          %"y.0/t" = Concat(%b, %x) axis=0                            : f32[2]
          %"y.1/t" = Concat(%"y.0/t", %x) axis=0                      : f32[3]
          @rows = const [0,1]                                         : f32[2]
        }
        "#);
    // A loop of the graph stays one.
    assert!(text(&appending(3, "Add")).contains("loop("));
}

#[test]
fn what_is_no_constant_is_refused_with_its_node() {
    let at = |position: &str, values: Vec<ValueInfoProto>| {
        let nodes = vec![node("SequenceConstruct", &["x", "x"], &["s"], vec![]), node("SequenceAt", &["s", position], &["y"], vec![])];
        let inputs = [vec![value("x", 1, &[D::N(2)])], values].concat();
        model(17, graph(inputs, vec![ints("two", &[2])], nodes, &["y"]))
    };
    insta::assert_snapshot!(problems(&at("p", vec![value("p", 7, &[])])), @r#"
        error[dynamic-shape]: the position of `SequenceAt` depends on the values of inputs
          --> m.onnx: SequenceAt giving "y", opset 17
           |  %y = SequenceAt(%s, %p)
           = help: make that input a constant
        "#);
    assert_eq!(
        super::deciding_inputs(&at("p", vec![value("p", 7, &[])]).write_to_bytes().unwrap(), &options()).unwrap(),
        ["p".to_owned()].into()
    );
    assert!(problems(&at("two", vec![])).contains("position 2 of `SequenceAt` in a sequence of 2"));
    let nodes = vec![node("SequenceConstruct", &["x"], &["s"], vec![]), node("Relu", &["s"], &["y"], vec![])];
    let problems = problems(&model(17, graph(vec![value("x", 1, &[D::N(2)])], vec![], nodes, &["y"])));
    assert!(problems.contains("operand `s` of `Relu` is a sequence"), "{problems}");
}

#[test]
fn loops_that_never_end_are_refused_quickly() {
    let problems = problems(&appending(i64::MAX, "SequenceInsert"));
    assert!(problems.contains("too many nodes once functions are inlined and loops written out"), "{problems}");
}

#[test]
fn maps_that_a_classifier_ends_with_are_columns() {
    let maps = |name: &str| {
        let map = type_proto::Map { key_type: 7, value_type: value(name, 1, &[]).type_, ..type_proto::Map::default() };
        let map = TypeProto { value: Some(type_proto::Value::MapType(map)), ..TypeProto::default() };
        let sequence = type_proto::Sequence { elem_type: Some(map).into(), ..type_proto::Sequence::default() };
        let ty = TypeProto { value: Some(type_proto::Value::SequenceType(sequence)), ..TypeProto::default() };
        ValueInfoProto { type_: Some(ty).into(), ..value(name, 1, &[]) }
    };
    let zip =
        NodeProto { domain: "ai.onnx.ml".to_owned(), ..node("ZipMap", &["x"], &["y"], vec![int_list("classlabels_int64s", &[4, 9])]) };
    let mut g = graph(vec![value("x", 1, &[D::N(3), D::N(2)])], vec![], vec![zip], &[]);
    g.output = vec![maps("y")];
    let domain = OperatorSetIdProto { domain: "ai.onnx.ml".to_owned(), version: 1, ..OperatorSetIdProto::default() };
    let mut m = model(17, g);
    m.opset_import.push(domain);
    assert_eq!(eval(&read(&m, &options()).unwrap(), &[one(&[3, 2], 0.0)]).unwrap(), [one(&[3, 2], 0.0)]);
    let s = super::signature(&m.write_to_bytes().unwrap(), "m.onnx").unwrap();
    assert_eq!((s.outputs[0].form, s.outputs[0].tensor()), (super::Form::Tensor, "f32 of any rank".to_owned()));
    let g = graph(vec![maps("x")], vec![], vec![node("Identity", &["x"], &["y"], vec![])], &["y"]);
    assert!(problems(&model(17, g)).contains("`x` is a map; only tensors are supported"));
}

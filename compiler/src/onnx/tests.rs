//! Models made of messages, sound and hostile.

use std::time::Instant;

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

use super::{ImportOptions, Imported, MAX_OPSET, deciding_inputs, import, signature};
use crate::graph::{self, Graph};
use crate::tensor::Tensor;

/// A dimension: a number, or a name; `-1` and the empty name are open.
pub(super) enum D {
    N(i64),
    S(&'static str),
}

pub(super) fn value(name: &str, elem_type: i32, dims: &[D]) -> ValueInfoProto {
    let dim = |d: &D| Dimension {
        value: match d {
            D::N(-1) => None,
            D::N(n) => Some(dimension::Value::DimValue(*n)),
            D::S(s) => Some(dimension::Value::DimParam((*s).to_owned())),
        },
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let tensor = type_proto::Tensor { elem_type, shape: Some(shape).into(), ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

pub(super) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto { name: name.to_owned(), data_type: 1, dims: dims.to_vec(), float_data: data.to_vec(), ..TensorProto::default() }
}

pub(super) fn ints(name: &str, data: &[i64]) -> TensorProto {
    let dims = vec![data.len() as i64];
    TensorProto { name: name.to_owned(), data_type: 7, dims, int64_data: data.to_vec(), ..TensorProto::default() }
}

pub(super) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    NodeProto { op_type: op.to_owned(), input: names(inputs), output: names(outputs), attribute: attributes, ..NodeProto::default() }
}

pub(super) fn attribute(name: &str, kind: AttributeType, fill: impl FnOnce(&mut AttributeProto)) -> AttributeProto {
    let mut a = AttributeProto { name: name.to_owned(), type_: kind.into(), ..AttributeProto::default() };
    fill(&mut a);
    a
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    attribute(name, AttributeType::INT, |a| a.i = i)
}

pub(super) fn int_list(name: &str, ints: &[i64]) -> AttributeProto {
    attribute(name, AttributeType::INTS, |a| a.ints = ints.to_vec())
}

pub(super) fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    attribute(name, AttributeType::TENSOR, |a| a.t = Some(t).into())
}

pub(super) fn subgraph(name: &str, g: GraphProto) -> AttributeProto {
    attribute(name, AttributeType::GRAPH, |a| a.g = Some(g).into())
}

pub(super) fn graph(inputs: Vec<ValueInfoProto>, initializer: Vec<TensorProto>, node: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    let output = outputs.iter().map(|o| ValueInfoProto { name: (*o).to_owned(), ..ValueInfoProto::default() }).collect();
    GraphProto { name: "g".to_owned(), input: inputs, initializer, node, output, ..GraphProto::default() }
}

pub(super) fn model(opset: i64, g: GraphProto) -> ModelProto {
    let opset = OperatorSetIdProto { version: opset, ..OperatorSetIdProto::default() };
    ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(g).into(), ..ModelProto::default() }
}

pub(super) fn options() -> ImportOptions {
    ImportOptions { file: "m.onnx".to_owned(), ..ImportOptions::default() }
}

pub(super) fn read(m: &ModelProto, options: &ImportOptions) -> Result<Graph, Vec<crate::diagnostic::Diagnostic>> {
    import(&m.write_to_bytes().unwrap(), options)
}

/// The text of an imported model, which verifies and reads back.
pub(super) fn text_with(m: &ModelProto, options: &ImportOptions) -> String {
    let g = match read(m, options) {
        Ok(g) => g,
        Err(problems) => panic!("{}", problems.iter().map(|d| format!("{d}\n")).collect::<String>()),
    };
    graph::verify(&g).unwrap();
    let text = graph::print(&g);
    assert_eq!(graph::print(&graph::parse_with(&text, &graph::blobs(&g)).unwrap()), text);
    text
}

pub(super) fn text(m: &ModelProto) -> String {
    text_with(m, &options())
}

/// The problems of a model, found quickly.
pub(super) fn problems_with(m: &ModelProto, options: &ImportOptions) -> String {
    let bytes = m.write_to_bytes().unwrap();
    let start = Instant::now();
    let problems = import(&bytes, options).expect_err("a model with problems");
    assert!(start.elapsed().as_secs_f64() < 1.0, "took {:?}", start.elapsed());
    problems.iter().map(|d| format!("{d}\n")).collect()
}

pub(super) fn problems(m: &ModelProto) -> String {
    problems_with(m, &options())
}

pub(super) fn x() -> Vec<ValueInfoProto> {
    vec![value("x", 1, &[D::N(2), D::N(3), D::N(4)])]
}

#[test]
fn shapes_are_computed() {
    let g = graph(
        x(),
        vec![ints("zero", &[0]), ints("rest", &[-1])],
        vec![
            node("Shape", &["x"], &["s"], vec![]),
            node("Gather", &["s", "zero"], &["n"], vec![]),
            node("Concat", &["n", "rest"], &["target"], vec![int("axis", 0)]),
            node("Reshape", &["x", "target"], &["y"], vec![]),
        ],
        &["y"],
    );
    insta::assert_snapshot!(text(&model(17, g)), @r#"
        graph @g(%x: f32[2,3,4]) -> (%y) {
          @target = const [2,-1]                                      : i64[2]
          %y = Reshape(%x, @target)                                   : f32[2,12]
        }
        "#);
}

#[test]
fn nodes_may_stand_in_any_order_and_dead_ones_are_left_out() {
    let nodes =
        vec![node("Softmax", &["a"], &["y"], vec![]), node("Unheard", &["x"], &["dead"], vec![]), node("Add", &["x", "x"], &["a"], vec![])];
    insta::assert_snapshot!(text(&model(17, graph(x(), vec![], nodes, &["y", "x"]))), @r#"
        graph @g(%x: f32[2,3,4]) -> (%y, %x) {
          %a = Add(%x, %x)                                            : f32[2,3,4]
          %y = Softmax(%a)                                            : f32[2,3,4]
        }
        "#);
}

#[test]
fn old_forms_become_the_newest() {
    let g = graph(
        x(),
        vec![],
        vec![
            node("Squeeze", &["u"], &["q"], vec![int_list("axes", &[0])]),
            node("Unsqueeze", &["x"], &["u"], vec![int_list("axes", &[0])]),
            node("Slice", &["q"], &["l"], vec![int_list("starts", &[0, 1]), int_list("ends", &[1, 3]), int_list("axes", &[0, 1])]),
            node("ReduceSum", &["l"], &["r"], vec![int_list("axes", &[1]), int("keepdims", 0)]),
            node("Softmax", &["q"], &["m"], vec![]),
            node("Split", &["m"], &["p", "w"], vec![int("axis", 2), int_list("split", &[1, 3])]),
        ],
        &["r", "p", "w"],
    );
    insta::assert_snapshot!(text(&model(9, g)), @r#"
        graph @g(%x: f32[2,3,4]) -> (%r, %p, %w) {
          @u.axes = const [0]                                         : i64[1]
          %u = Unsqueeze(%x, @u.axes)                                 : f32[1,2,3,4]
          %q = Squeeze(%u, @u.axes)                                   : f32[2,3,4]
          @l.starts = const [0,1]                                     : i64[2]
          @l.ends = const [1,3]                                       : i64[2]
          %l = Slice(%q, @l.starts, @l.ends, @l.starts)               : f32[1,2,4]
          @r.axes = const [1]                                         : i64[1]
          %r = ReduceSum(%l, @r.axes) keepdims=0                      : f32[1,4]
          @m.flat.shape = const [0,12]                                : i64[2]
          %m.flat = Reshape(%q, @m.flat.shape)                        : f32[2,12]
          %m.rows = Softmax(%m.flat)                                  : f32[2,12]
          @m.shape = const [0,3,4]                                    : i64[3]
          %m = Reshape(%m.rows, @m.shape)                             : f32[2,3,4]
          %p, %w = Split(%m, @l.ends) axis=2                          : f32[2,3,1], f32[2,3,3]
        }
        "#);
}

#[test]
fn softmax_of_the_last_axis_stays_one_operator() {
    let g = graph(x(), vec![], vec![node("Softmax", &["x"], &["y"], vec![int("axis", 2)])], &["y"]);
    assert!(text(&model(11, g)).contains("  %y = Softmax(%x) "));
}

#[test]
fn every_storage_of_elements_is_read() {
    let typed = |data_type, fill: &dyn Fn(&mut TensorProto)| {
        let mut t = TensorProto { name: format!("t{data_type}"), data_type, dims: vec![2], ..TensorProto::default() };
        fill(&mut t);
        t
    };
    let small = |t: &mut TensorProto| t.int32_data = vec![1, 0x3c00];
    let list = vec![
        floats("f", &[2], &[1.0, -2.5]),
        typed(2, &|t| t.int32_data = vec![1, 255]),
        typed(3, &|t| t.int32_data = vec![1, -128]),
        typed(4, &|t| t.int32_data = vec![1, 65535]),
        typed(5, &|t| t.int32_data = vec![1, -2]),
        typed(6, &|t| t.int32_data = vec![1, i32::MIN]),
        typed(7, &|t| t.int64_data = vec![1, i64::MIN]),
        typed(9, &|t| t.int32_data = vec![1, 0]),
        typed(10, &small),
        typed(11, &|t| t.double_data = vec![0.5, 1e300]),
        typed(12, &|t| t.uint64_data = vec![1, 4294967295]),
        typed(13, &|t| t.uint64_data = vec![1, u64::MAX]),
        typed(16, &|t| t.int32_data = vec![0x3f80, 0xbf80]),
        TensorProto { name: "raw".to_owned(), ..typed(5, &|t| t.raw_data = vec![1, 0, 255, 255]) },
        TensorProto { name: "raw_bool".to_owned(), ..typed(9, &|t| t.raw_data = vec![7, 0]) },
    ];
    let names: Vec<String> = list.iter().map(|t| t.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    insta::assert_snapshot!(text(&model(17, graph(vec![], list.clone(), vec![], &names))), @r#"
        graph @g() -> (@f, @t2, @t3, @t4, @t5, @t6, @t7, @t9, @t10, @t11, @t12, @t13, @t16, @raw, @t9 as raw_bool) {
          @f = const [1,-2.5]                                         : f32[2]
          @t2 = const [1,255]                                         : u8[2]
          @t3 = const [1,-128]                                        : i8[2]
          @t4 = const [1,65535]                                       : u16[2]
          @t5 = const [1,-2]                                          : i16[2]
          @t6 = const [1,-2147483648]                                 : i32[2]
          @t7 = const [1,-9223372036854775808]                        : i64[2]
          @t9 = const [true,false]                                    : bool[2]
          @t10 = const [5.9604645e-8,1]                               : f16[2]
          @t11 = const [0.5,1e300]                                    : f64[2]
          @t12 = const [1,4294967295]                                 : u32[2]
          @t13 = const [1,18446744073709551615]                       : u64[2]
          @t16 = const [1,-1]                                         : bf16[2]
          @raw = const [1,-1]                                         : i16[2]
        }
        "#);
}

#[test]
fn constants_have_many_forms_and_equal_ones_are_shared() {
    let g = graph(
        vec![value("x", 1, &[D::N(2)]), value("w", 1, &[D::N(2)])],
        vec![floats("w", &[2], &[1.0, 2.0])],
        vec![
            node("Constant", &[], &["c0"], vec![tensor("value", floats("", &[2], &[1.0, 2.0]))]),
            node("Constant", &[], &["c1"], vec![attribute("value_floats", AttributeType::FLOATS, |a| a.floats = vec![1.0, 2.0])]),
            node("Constant", &[], &["c2"], vec![attribute("value_float", AttributeType::FLOAT, |a| a.f = 0.5)]),
            node("Constant", &[], &["i0"], vec![int("value_int", 7)]),
            node("Constant", &[], &["i1"], vec![int_list("value_ints", &[7, 8])]),
            node("Add", &["x", "w"], &["a"], vec![]),
            node("Add", &["a", "c0"], &["b"], vec![]),
            node("Add", &["b", "c1"], &["c"], vec![]),
            node("Add", &["c", "c2"], &["d"], vec![]),
        ],
        &["d", "i0", "i1"],
    );
    insta::assert_snapshot!(text(&model(17, g)), @r#"
        graph @g(%x: f32[2]) -> (%d, @i0, @i1) {
          @w = const [1,2]                                            : f32[2]
          %a = Add(%x, @w)                                            : f32[2]
          %b = Add(%a, @w)                                            : f32[2]
          %c = Add(%b, @w)                                            : f32[2]
          @c2 = const [0.5]                                           : f32[]
          %d = Add(%c, @c2)                                           : f32[2]
          @i0 = const [7]                                             : i64[]
          @i1 = const [7,8]                                           : i64[2]
        }
        "#);
}

#[test]
fn a_condition_that_is_known_chooses_a_branch() {
    let branch = |op: &str| {
        // `t` is shadowed, `x` is taken from outside.
        let nodes = vec![node(op, &["x", "x"], &["t"], vec![]), node("Add", &["t", "k"], &["out"], vec![])];
        graph(vec![], vec![floats("k", &[], &[1.0])], nodes, &["out"])
    };
    let g = graph(
        x(),
        vec![ints("three", &[3])],
        vec![
            node("Shape", &["x"], &["s"], vec![]),
            node("Size", &["s"], &["rank"], vec![]),
            node("Equal", &["rank", "three"], &["is"], vec![]),
            node("Add", &["x", "x"], &["t"], vec![]),
            node("If", &["is"], &["y"], vec![subgraph("then_branch", branch("Add")), subgraph("else_branch", branch("Unheard"))]),
            node("Add", &["y", "t"], &["z"], vec![]),
        ],
        &["z"],
    );
    insta::assert_snapshot!(text(&model(17, g)), @r#"
        graph @g(%x: f32[2,3,4]) -> (%z) {
          %t = Add(%x, %x)                                            : f32[2,3,4]
          %t.1 = Add(%x, %x)                                          : f32[2,3,4]
          @k = const [1]                                              : f32[]
          %out = Add(%t.1, @k)                                        : f32[2,3,4]
          %z = Add(%out, %t)                                          : f32[2,3,4]
        }
        "#);
}

#[test]
fn a_condition_that_data_decides_keeps_both_branches() {
    let branch = |op: &str| graph(vec![], vec![], vec![node(op, &["x"], &["out"], vec![])], &["out"]);
    let import = |otherwise: GraphProto| {
        let mut inputs = x();
        inputs.push(value("c", 9, &[]));
        let branches = vec![subgraph("then_branch", branch("Neg")), subgraph("else_branch", otherwise)];
        let nodes = vec![node("If", &["c"], &["y"], branches)];
        model(17, graph(inputs, vec![], nodes, &["y"]))
    };
    let text = text(&import(branch("Softmax")));
    assert!(text.contains("%y = if(%c, %x)") && text.contains("%out = Neg(%x)") && text.contains("%out = Softmax(%x)"), "{text}");
    let d = problems(&import(branch("Shape")));
    assert!(d.contains("`If` cannot be compiled: output 0 is `f32[2,3,4]` in one branch and `i64[3]` in the other"), "{d}");
}

#[test]
fn control_flow_that_depends_on_data_is_looked_through() {
    let branch = |op: &str| graph(vec![], vec![], vec![node(op, &["x"], &["out"], vec![])], &["out"]);
    let mut inputs = x();
    inputs.push(value("c", 9, &[]));
    let branches = vec![subgraph("then_branch", branch("Unheard")), subgraph("else_branch", branch("Softmax"))];
    let nodes = vec![node("If", &["c"], &["y"], branches), node("Softmax", &["y"], &["z"], vec![])];
    insta::assert_snapshot!(problems(&model(17, graph(inputs, vec![], nodes, &["z"]))), @r#"
        error[unsupported-operator]: `Unheard` cannot be compiled
          --> m.onnx: Unheard giving "out", opset 17
           |  %out = Unheard(%x)
        "#);
}

fn function(name: &str, node: Vec<NodeProto>) -> FunctionProto {
    let opset = OperatorSetIdProto { version: 11, ..OperatorSetIdProto::default() };
    FunctionProto {
        domain: "f".to_owned(),
        name: name.to_owned(),
        input: vec!["a".to_owned(), "b".to_owned()],
        output: vec!["r".to_owned()],
        attribute: vec!["axis".to_owned()],
        node,
        opset_import: vec![opset],
        ..FunctionProto::default()
    }
}

fn call(name: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto { domain: "f".to_owned(), name: format!("call_{}", outputs[0]), ..node(name, inputs, outputs, attributes) }
}

fn reference(name: &str, to: &str) -> AttributeProto {
    AttributeProto { ref_attr_name: to.to_owned(), ..int(name, 0) }
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let inner = function("inner", vec![node("Softmax", &["a"], &["r"], vec![reference("axis", "axis")])]);
    let outer =
        function("outer", vec![call("inner", &["a"], &["t"], vec![reference("axis", "axis")]), node("Add", &["t", "b"], &["r"], vec![])]);
    let nodes = vec![call("outer", &["x", "x"], &["y"], vec![int("axis", 2)]), call("inner", &["y"], &["z"], vec![int("axis", -1)])];
    let m = ModelProto { functions: vec![inner, outer], ..model(17, graph(x(), vec![], nodes, &["z"])) };
    insta::assert_snapshot!(text(&m), @r#"
        graph @g(%x: f32[2,3,4]) -> (%"call_z/r" as z) {
          %"call_y/call_t/r" = Softmax(%x) axis=2                     : f32[2,3,4]
          %"call_y/r" = Add(%"call_y/call_t/r", %x)                   : f32[2,3,4]
          %"call_z/r" = Softmax(%"call_y/r") axis=2                   : f32[2,3,4]
        }
        "#);
}

#[test]
fn functions_that_never_end_are_refused() {
    let mut functions = vec![function("loop", vec![call("loop", &["a"], &["r"], vec![])])];
    for i in 0..20 {
        let name = format!("f{}", i + 1);
        let calls = vec![call(&name, &["a"], &["t"], vec![]), call(&name, &["t"], &["r"], vec![])];
        functions.push(function(&format!("f{i}"), calls));
    }
    functions.push(function("f20", vec![node("Softmax", &["a"], &["r"], vec![])]));
    let nodes = vec![call("loop", &["x"], &["y"], vec![]), call("f0", &["x"], &["z"], vec![])];
    let m = ModelProto { functions, ..model(17, graph(x(), vec![], nodes, &["y", "z"])) };
    let bytes = m.write_to_bytes().unwrap();
    let problems = import(&bytes, &options()).unwrap_err();
    let messages: Vec<&str> = problems.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(messages, ["function `loop` calls itself", "the model has too many nodes once functions are inlined and loops written out"]);
}

#[test]
fn dimensions_are_what_others_give() {
    let row = |name: &str, dim| value(name, 1, &[D::S(dim)]);
    let inputs = vec![row("past", "past"), row("new", "seq"), row("mask", "past + seq"), row("bias", "total")];
    let nodes =
        vec![node("Concat", &["past", "new"], &["all"], vec![int("axis", 0)]), node("Sum", &["all", "mask", "bias"], &["y"], vec![])];
    let m = model(17, graph(inputs, vec![], nodes, &["y"]));
    let say = |bindings: &[(&str, usize)], relations: &[(&str, &str)]| ImportOptions {
        bindings: bindings.iter().map(|&(k, v)| (k.to_owned(), v)).collect(),
        relations: relations.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        ..options()
    };
    insta::assert_snapshot!([
        text_with(&m, &say(&[("past", 6), ("seq", 2)], &[("total", "past+seq")])),
        problems_with(&m, &say(&[("past", 6), ("seq", 2), ("total", 9)], &[("total", "past+seq")])),
        problems_with(&m, &say(&[("past", 6), ("seq", 2)], &[("total", "past+next"), ("other", "1")])),
    ].join("\n"), @r#"
        graph @g(%past: f32[6], %new: f32[2], %mask: f32[8], %bias: f32[8]) -> (%y) {
          %all = Concat(%past, %new) axis=0                           : f32[8]
          %y = Sum(%all, %mask, %bias)                                : f32[8]
        }

        error[invalid-binding]: dimension `total` is 9, and `past+seq` is 8
          --> m.onnx
           = help: leave one of them out
        error[invalid-model]: `Sum`: shapes [8] and [9] do not broadcast
          --> m.onnx: Sum giving "y", opset 17
           |  %y = Sum(%all, %mask, %bias)

        error[invalid-binding]: there is no dimension `other`
          --> m.onnx
           = help: the symbolic dimensions are `past`, `past + seq`, `seq`, `total`
        error[invalid-binding]: dimension `total` is `past+next`, where `next` is no other dimension
          --> m.onnx
           = help: the symbolic dimensions are `past`, `past + seq`, `seq`, `total`
        "#);
}

#[test]
fn dimensions_are_bound() {
    let inputs = vec![value("x", 1, &[D::S("batch"), D::N(-1), D::N(4)]), value("y", 1, &[D::S("batch"), D::N(1), D::N(4)])];
    let g = graph(inputs, vec![], vec![node("Add", &["x", "y"], &["z"], vec![])], &["z"]);
    let m = model(17, g);
    let bind = |bindings: &[(&str, usize)], shapes: &[(&str, &[usize])]| ImportOptions {
        bindings: bindings.iter().map(|&(k, v)| (k.to_owned(), v)).collect(),
        input_shapes: shapes.iter().map(|&(k, v)| (k.to_owned(), v.to_vec())).collect(),
        ..options()
    };
    insta::assert_snapshot!([
        text(&m),
        text_with(&m, &bind(&[("batch", 2), ("x.1", 5)], &[])),
        text_with(&m, &bind(&[], &[("x", &[3, 1, 4])])),
        problems_with(&m, &bind(&[("batch", 2), ("seq", 5)], &[("z", &[1])])),
        problems_with(&m, &bind(&[("batch", 2)], &[("x", &[3, 1, 5]), ("y", &[1])])),
    ].join("\n"), @r#"
        graph @g(%x: f32[batch,"x.1",4], %y: f32[batch,1,4]) -> (%z) {
          %z = Add(%x, %y)                                            : f32[batch,"x.1",4]
        }

        graph @g(%x: f32[2,5,4], %y: f32[2,1,4]) -> (%z) {
          %z = Add(%x, %y)                                            : f32[2,5,4]
        }

        graph @g(%x: f32[3,1,4], %y: f32[3,1,4]) -> (%z) {
          %z = Add(%x, %y)                                            : f32[3,1,4]
        }

        error[invalid-binding]: there is no input `z`
          --> m.onnx
           = help: the inputs are `x`, `y`
        error[invalid-binding]: there is no dimension `seq`
          --> m.onnx
           = help: the symbolic dimensions are `batch`, `x.1`

        error[invalid-binding]: dimension `batch` is 2, and 3 in the shape of input `x`
          --> m.onnx
           = help: it is declared as `f32[batch,"x.1",4]`
        error[invalid-binding]: axis 2 of input `x` is 4, not 5
          --> m.onnx
           = help: it is declared as `f32[batch,"x.1",4]`
        error[invalid-binding]: input `y` has 3 dimensions, not 1
          --> m.onnx
           = help: it is declared as `f32[batch,1,4]`
        "#);
}

#[test]
fn an_input_with_a_value_stays_an_input_where_it_is_to_be_one() {
    let inputs = vec![value("x", 1, &[D::N(2)]), value("h", 1, &[D::N(2)])];
    let weights = vec![floats("h", &[2], &[1.0, 2.0])];
    let m = model(17, graph(inputs, weights, vec![node("Add", &["x", "h"], &["y"], vec![])], &["y"]));
    let names = |g: &Graph| g.inputs().iter().map(|&v| g.name_of(v).to_owned()).collect::<Vec<_>>();
    let Imported { graph: g, defaults, .. } = super::model::import_model(m.clone(), &options()).unwrap();
    assert_eq!((names(&g), defaults.len()), (vec!["x".to_owned()], 0));
    let kept = ImportOptions { variables: ["h".to_owned()].into(), ..options() };
    let Imported { graph: g, defaults, .. } = super::model::import_model(m, &kept).unwrap();
    assert_eq!(names(&g), ["x", "h"]);
    assert_eq!(defaults["h"].to_f64s(), [1.0, 2.0]);
    let unlike = graph(
        vec![value("x", 1, &[D::N(2)]), value("h", 1, &[D::N(2)])],
        vec![floats("h", &[1], &[1.0])],
        vec![node("Add", &["x", "h"], &["y"], vec![])],
        &["y"],
    );
    assert!(problems_with(&model(17, unlike), &kept).contains("initializer `h` is `f32[1]`, unlike the input"));
}

#[test]
fn a_signature_needs_no_binding() {
    let inputs = vec![value("x", 1, &[D::S("N"), D::N(-1)]), value("w", 1, &[D::N(2)])];
    let nodes = vec![node("Unheard", &["x", "w"], &["y"], vec![]), node("Add", &["y", "w"], &["z"], vec![])];
    let mut g = graph(inputs, vec![floats("w", &[2], &[1.0, 2.0])], nodes, &["z"]);
    g.output = vec![value("z", 1, &[D::S("N"), D::S("M")])];
    let s = signature(&model(12, g).write_to_bytes().unwrap(), "m.onnx").unwrap();
    insta::assert_snapshot!(format!("{s:#?}"), @r#"
        Signature {
            name: "g",
            producer: "",
            ir_version: 8,
            opset: 12,
            domains: {},
            inputs: [
                ValueSignature {
                    name: "x",
                    dtype: F32,
                    shape: Some(
                        Shape(
                            [
                                Symbol(
                                    "N",
                                ),
                                Symbol(
                                    "x.1",
                                ),
                            ],
                        ),
                    ),
                    form: Tensor,
                },
            ],
            outputs: [
                ValueSignature {
                    name: "z",
                    dtype: F32,
                    shape: Some(
                        Shape(
                            [
                                Symbol(
                                    "N",
                                ),
                                Symbol(
                                    "M",
                                ),
                            ],
                        ),
                    ),
                    form: Tensor,
                },
            ],
            operators: {
                "Add": 1,
                "Unheard": 1,
            },
            n_parameters: 2,
            parameter_bytes: 8,
        }
        "#);
}

#[test]
fn operator_sets_outside_the_range_are_refused() {
    for opset in [-1, 0, MAX_OPSET + 1] {
        let g = graph(x(), vec![], vec![node("Add", &["x", "x"], &["y"], vec![])], &["y"]);
        let problems = read(&model(opset, g), &options()).unwrap_err();
        assert_eq!((problems.len(), problems[0].code), (1, "unsupported-opset"));
    }
}

#[test]
fn an_input_can_be_a_constant() {
    let inputs = vec![value("x", 1, &[D::N(2), D::N(3)]), value("shape", 7, &[D::N(1)])];
    let m = model(17, graph(inputs, vec![], vec![node("Reshape", &["x", "shape"], &["y"], vec![])], &["y"]));
    assert!(problems(&m).starts_with("error[dynamic-shape]"));
    let deciding = deciding_inputs(&m.write_to_bytes().unwrap(), &options()).unwrap();
    assert_eq!(deciding.into_iter().collect::<Vec<_>>(), ["shape"]);
    let constants = |t: Tensor| ImportOptions { constants: [("shape".to_owned(), t)].into(), ..options() };
    assert!(text_with(&m, &constants(Tensor::from_slice(&[1], &[6i64]))).contains("%y = Reshape(%x, @shape)"));
    assert!(problems_with(&m, &constants(Tensor::from_slice(&[2], &[6i64, 1]))).starts_with("error[invalid-binding]"));
}

//! Models with problems, and hostile ones: found quickly, all of them, without large allocations.

use std::time::Instant;

use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{GraphProto, Message, NodeProto, StringStringEntryProto, TensorProto};

use super::tests::*;
use super::{ImportOptions, import, import_file, signature};
use crate::diagnostic::Severity;
use crate::tensor::Tensor;

#[test]
fn an_unbound_dimension_is_one_problem() {
    let inputs = vec![value("x", 1, &[D::S("N"), D::S("M"), D::N(4)])];
    let nodes = vec![
        node("Shape", &["x"], &["s"], vec![]),
        node("Reshape", &["x", "s"], &["y"], vec![]),
        node("Reshape", &["y", "s"], &["z"], vec![]),
        node("Unheard", &["z"], &["w"], vec![]),
    ];
    insta::assert_snapshot!(problems(&model(17, graph(inputs, vec![], nodes, &["w"]))), @r#"
        error[unsupported-operator]: `Unheard` cannot be compiled
          --> m.onnx: Unheard giving "w", opset 17
           |  %w = Unheard(%z)
        error[unbound-dimension]: dimension `M` has no extent
          --> m.onnx: input "x"
           |  %x: f32[N,M,4]
           = help: give it one: --bind M=N, or --input-shape x=N,N,4
        error[unbound-dimension]: dimension `N` has no extent
          --> m.onnx: input "x"
           |  %x: f32[N,M,4]
           = help: give it one: --bind N=N, or --input-shape x=N,N,4
        "#);
}

#[test]
fn all_problems_are_found() {
    let mut inputs = x();
    inputs.push(value("text", 8, &[D::N(1)]));
    let nodes = vec![
        NodeProto { name: "/a/first".to_owned(), ..node("Unheard", &["x"], &["a"], vec![]) },
        node("Unheard", &["a"], &["b"], vec![]),
        node("Softmax", &["b"], &["c"], vec![int("colour", 3), int("size", 4)]),
        node("Add", &["x"], &["d"], vec![]),
        node("Add", &["x", "nowhere"], &["e"], vec![]),
        node("Softmax", &["x"], &["f"], vec![int("axis", 9)]),
        NodeProto { domain: "com.microsoft".to_owned(), ..node("Fused", &["x"], &["h"], vec![]) },
        node("Reshape", &["x", "text"], &["i"], vec![]),
    ];
    insta::assert_snapshot!(problems(&model(17, graph(inputs, vec![], nodes, &["c", "d", "e", "f", "h", "i", "nothing", "c"]))), @r#"
        error[unsupported-dtype]: `text`: element type `string` is not supported
          --> m.onnx
           = help: put numbers in their place: a classifier is exported without strings when it learns from integers as labels
        error[unsupported-operator]: `Unheard` cannot be compiled (2 nodes)
          --> m.onnx: node "/a/first", opset 17
           |  %a = Unheard(%x)
        error[unsupported-attribute]: attribute `colour` of `Softmax` is not supported
          --> m.onnx: Softmax giving "c", opset 17
           |  %c = Softmax(%b) colour=3 size=4
        error[unsupported-attribute]: attribute `size` of `Softmax` is not supported
          --> m.onnx: Softmax giving "c", opset 17
           |  %c = Softmax(%b) colour=3 size=4
        error[invalid-model]: `Add` wants operands a, b
          --> m.onnx: Add giving "d", opset 17
           |  %d = Add(%x)
        error[invalid-model]: nothing gives operand `nowhere`
          --> m.onnx: Add giving "e", opset 17
           |  %e = Add(%x, %nowhere)
        error[invalid-model]: `Softmax`: axis 9 of a value of rank 3
          --> m.onnx: Softmax giving "f", opset 17
           |  %f = Softmax(%x) axis=9
        error[unsupported-operator]: `com.microsoft.Fused` cannot be compiled
          --> m.onnx: Fused giving "h", opset 17
           |  %h = com.microsoft.Fused(%x)
        error[invalid-model]: nothing gives output `nothing`
          --> m.onnx
        error[invalid-model]: two outputs are named `c`
          --> m.onnx
        "#);
}

#[test]
fn hostile_structure_is_refused() {
    let relu = |i: &[&str], o: &[&str]| node("Add", i, o, vec![]);
    let cycle = graph(x(), vec![], vec![relu(&["x", "b"], &["a"]), relu(&["a", "x"], &["b"])], &["b"]);
    let twice = graph(x(), vec![], vec![relu(&["x", "x"], &["y"]), relu(&["x", "x"], &["y"])], &["y"]);
    let rank = graph(x(), vec![floats("w", &[4, 3, 3, 3], &[0.0; 108])], vec![node("Conv", &["x", "w"], &["y"], vec![])], &["y"]);
    let results = graph(x(), vec![], vec![node("Add", &["x", "x"], &["y", "z"], vec![])], &["y", "z"]);
    let empty = graph(x(), vec![], vec![], &[]);
    let huge = graph(vec![value("x", 1, &[D::N(i64::MAX), D::N(2)])], vec![], vec![], &["x"]);
    let big = graph(
        vec![value("x", 1, &[D::N(1 << 39), D::N(1)]), value("y", 1, &[D::N(1 << 30)])],
        vec![],
        vec![relu(&["x", "y"], &["z"])],
        &["z"],
    );
    insta::assert_snapshot!([cycle, twice, rank, results, empty, huge, big].map(|g| problems(&model(17, g))).join("\n"), @r#"
        error[invalid-model]: the graph has a cycle: `a`, `b` wait for each other
          --> m.onnx: Add giving "a", opset 17

        error[invalid-model]: `y` is defined twice
          --> m.onnx

        error[invalid-model]: `Conv`: input f32[2,3,4] and weights f32[4,3,3,3] differ in rank
          --> m.onnx: Conv giving "y", opset 17
           |  %y = Conv(%x, @w)

        error[invalid-model]: `Add` has 1 results at most
          --> m.onnx: Add giving "y", opset 17
           |  %y, %z = Add(%x, %x)

        error[invalid-model]: the graph has no outputs
          --> m.onnx

        error[invalid-model]: input `x`: the dimensions [9223372036854775807, 2] are too large
          --> m.onnx

        error[invalid-model]: the result is too large: `f32[549755813888,1073741824]`
          --> m.onnx: Add giving "z", opset 17
           |  %z = Add(%x, %y)
        "#);
}

#[test]
fn hostile_tensors_are_refused() {
    let tensor = |dims: &[i64], fill: &dyn Fn(&mut TensorProto)| {
        let mut t = TensorProto { name: "w".to_owned(), data_type: 1, dims: dims.to_vec(), ..TensorProto::default() };
        fill(&mut t);
        problems(&model(17, graph(vec![], vec![t], vec![], &["w"])))
    };
    insta::assert_snapshot!([
        tensor(&[1 << 40, 1 << 40], &|_| {}),
        tensor(&[1 << 33], &|_| {}),
        tensor(&[0, i64::MAX, i64::MAX], &|_| {}),
        tensor(&[-1], &|_| {}),
        tensor(&[2], &|t| t.float_data = vec![1.0]),
        tensor(&[2], &|t| t.raw_data = vec![0; 9]),
        tensor(&[2], &|t| t.data_type = 14),
        tensor(&[2], &|t| t.data_type = 99),
        tensor(&[2], &|t| t.data_type = 0),
    ].concat(), @r#"
        error[invalid-model]: initializer `w`: the dimensions [1099511627776, 1099511627776] are too large
          --> m.onnx
        error[invalid-model]: initializer `w`: 0 elements in float_data where `f32[8589934592]` has 8589934592
          --> m.onnx
        error[invalid-model]: initializer `w`: the dimensions [0, 9223372036854775807, 9223372036854775807] are too large
          --> m.onnx
        error[invalid-model]: initializer `w`: the dimensions [-1] are negative
          --> m.onnx
        error[invalid-model]: initializer `w`: 1 elements in float_data where `f32[2]` has 2
          --> m.onnx
        error[invalid-model]: initializer `w`: 9 bytes of raw data where `f32[2]` has 8
          --> m.onnx
        error[unsupported-dtype]: initializer `w`: element type `complex64` is not supported
          --> m.onnx
        error[unsupported-dtype]: initializer `w`: element type number 99 is not known
          --> m.onnx
        error[invalid-model]: initializer `w`: an element type is missing
          --> m.onnx
        "#);
}

#[test]
fn folding_allocates_little() {
    let fill = tensor("value", ints("", &[1]));
    let g = graph(
        vec![],
        vec![ints("n", &[1 << 20, 1 << 6])],
        vec![
            node("ConstantOfShape", &["n"], &["a"], vec![fill]),
            node("Add", &["a", "a"], &["b"], vec![]),
            node("Add", &["b", "a"], &["c"], vec![]),
        ],
        &["c"],
    );
    let start = Instant::now();
    let text = text(&model(17, g));
    assert!(start.elapsed().as_secs_f64() < 1.0);
    assert!(text.contains("%a = ConstantOfShape(@n)"), "{text}");
}

#[test]
fn graphs_within_graphs_end_somewhere() {
    let mut g = graph(vec![], vec![], vec![node("Softmax", &["x"], &["y"], vec![])], &["y"]);
    for _ in 0..100 {
        let inner = node("If", &["c"], &["y"], vec![subgraph("then_branch", g.clone()), subgraph("else_branch", GraphProto::new())]);
        g = graph(vec![], vec![], vec![inner], &["y"]);
    }
    g.input = x();
    g.input.push(value("c", 9, &[]));
    let d = &read(&model(17, g), &options()).unwrap_err()[0];
    assert!(d.message.starts_with("this is not a whole ONNX file"), "{d}");
}

#[test]
fn no_part_of_a_file_makes_it_panic() {
    let g = graph(
        x(),
        vec![floats("w", &[3], &[1.0, 2.0, 3.0]), ints("s", &[2, 12])],
        vec![node("Softmax", &["x"], &["a"], vec![int("axis", 1)]), node("Reshape", &["a", "s"], &["y"], vec![])],
        &["y", "w"],
    );
    let bytes = model(11, g).write_to_bytes().unwrap();
    for end in 0..bytes.len() {
        let _ = import(&bytes[..end], &options());
        let _ = signature(&bytes[..end], "m.onnx");
    }
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let _ = import(&changed, &options());
        }
    }
    for junk in [&b""[..], b"\x00", b"hello world, this is text", &[0xff; 64]] {
        assert_eq!(import(junk, &options()).unwrap_err()[0].severity, Severity::Input);
    }
}

#[test]
fn external_data_stays_in_the_folder() {
    let root = std::env::temp_dir().join(format!("tinsmith-external-{}", std::process::id()));
    let folder = root.join("model");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(folder.join("data/w.bin"), &bytes).unwrap();
    std::fs::write(root.join("secret.bin"), &bytes).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("secret.bin"), folder.join("link.bin")).unwrap();
    let with = |entries: &[(&str, &str)]| {
        let entry = |&(k, v): &(&str, &str)| StringStringEntryProto { key: k.to_owned(), value: v.to_owned(), ..Default::default() };
        let t = TensorProto {
            name: "w".to_owned(),
            data_type: 1,
            dims: vec![2],
            data_location: DataLocation::EXTERNAL.into(),
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        };
        model(17, graph(vec![], vec![t], vec![], &["w"]))
    };
    let m = with(&[("location", "data/w.bin"), ("offset", "8"), ("length", "8")]);
    let path = folder.join("m.onnx");
    std::fs::write(&path, m.write_to_bytes().unwrap()).unwrap();
    let g = import_file(&path, &ImportOptions::default()).unwrap().graph;
    assert_eq!(g.constant(g.outputs()[0]), Some(&Tensor::from_slice(&[2], &[3f32, 4.0])));

    let options = ImportOptions { folder: Some(folder.clone()), ..options() };
    let absolute = folder.join("data/w.bin").display().to_string();
    for (entries, why) in [
        (vec![("location", "../secret.bin")], "is outside the model's folder"),
        (vec![("location", "data/../../secret.bin")], "is outside the model's folder"),
        (vec![("location", absolute.as_str())], "is outside the model's folder"),
        (vec![("location", "link.bin")], "is outside the model's folder"),
        (vec![("location", "data")], "is not a file"),
        (vec![("location", "none.bin")], "cannot be read"),
        (vec![("location", "data/w.bin"), ("offset", "12")], "ends before byte 12 + 8"),
        (vec![("location", "data/w.bin"), ("offset", "18446744073709551615")], "ends before byte"),
        (vec![("location", "data/w.bin"), ("offset", "-8")], "has offset `-8`"),
        (vec![("location", "data/w.bin"), ("length", "4")], "has 4 bytes where the type has 8"),
        (vec![], "has no location"),
    ] {
        let text = problems_with(&with(&entries), &options);
        assert!(text.contains(why) || (cfg!(not(unix)) && text.contains("cannot be read")), "{entries:?}: {text}");
    }
    let refused = problems(&with(&[("location", "data/w.bin")]));
    assert!(refused.contains("the model's folder is not known"), "{refused}");
    std::fs::remove_dir_all(root).unwrap();
}

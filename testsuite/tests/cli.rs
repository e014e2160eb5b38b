//! The command line: exit statuses, files, JSON, and that nothing but results goes to standard output.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tinsmith::tensor::{DType, Tensor};
use tinsmith_testsuite::{fixture, scratch, tool};

fn path(name: &str) -> String {
    fixture(&format!("graphs/{name}.graph")).display().to_string()
}

/// Exit status and standard error; standard output must be empty unless the status is 0.
fn fails(arguments: &[&str]) -> (i32, String) {
    let (status, stdout, stderr) = tool::cli(arguments);
    assert!(status == 0 || stdout.is_empty(), "{arguments:?} printed {stdout}");
    (status, stderr)
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let (status, stdout, stderr) = tool::cli(arguments);
    let value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{stdout}{stderr}"));
    (status, value)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn compile_writes_a_library_with_what_belongs_to_it() {
    let folder = scratch("cli-compile");
    let (status, stdout, stderr) = tool::cli(&["compile", &path("two_layers"), "-o", &folder.display().to_string()]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout.contains("libtwo_layers.a") && stdout.contains("workspace"), "{stdout}");
    assert_eq!(names(&folder), ["libtwo_layers.a", "two_layers-config.cmake", "two_layers.h", "two_layers.pc", "two_layers.rs"]);
}

#[test]
fn emit_names_the_stages() {
    let folder = scratch("cli-emit");
    let out = folder.display().to_string();
    let stages = "graph,expr,nest,clif,asm,obj,report";
    let (status, _, stderr) =
        tool::cli(&["compile", &path("two_layers"), "-o", &out, "--name", "net", "--emit", stages, "--emit-after", "simplify"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let expected =
        ["net.asm", "net.blobs", "net.clif", "net.expr", "net.graph", "net.nest", "net.o", "net.report.json", "net.simplify.graph"];
    assert_eq!(names(&folder), expected);
    let report: Value = serde_json::from_slice(&fs::read(folder.join("net.report.json")).expect("the report")).expect("JSON");
    assert_eq!(report["name"], "net");
    assert!(report["workspace_bytes"].as_u64() >= report["workspace_lower_bound_bytes"].as_u64());
}

/// The nests and the instructions of a graph for a target.
fn dumps(graph: &str, name: &str, target: [&str; 2]) -> [String; 2] {
    let folder = scratch(&format!("cli-dumps-{name}-{}", target[1]));
    let out = folder.display().to_string();
    let (status, _, stderr) = tool::cli(&["compile", graph, "-o", &out, "--name", "net", "--emit", "nest,asm", target[0], target[1]]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    ["net.nest", "net.asm"].map(|file| fs::read_to_string(folder.join(file)).expect("a dump"))
}

#[test]
fn dumps_say_which_emitter_made_a_kernel_and_hold_its_instructions() {
    for (level, register, other) in [("v2", "%xmm", "%ymm"), ("v3", "%ymm", "%zmm"), ("v4", "%zmm", "fmla")] {
        let [nest, asm] = dumps(&path("two_layers"), "product", ["--cpu", level]);
        assert!(nest.starts_with("// by the wide emitter\nkernel @"), "{level}: {nest}");
        let multiply = |l: &&str| if level == "v2" { l.contains("mulps ") } else { l.contains("vfmadd231ps ") };
        let lines: Vec<&str> = asm.lines().filter(multiply).collect();
        assert!(lines.iter().any(|l| l.contains(register)) && !asm.contains(other), "{level}: {asm}");
    }
    let [nest, asm] = dumps(&path("two_layers"), "product", ["--cpu", "v1"]);
    assert!(nest.starts_with("// not by the wide emitter: x86_64-unknown-linux-gnu at x86-64-v1 is below x86-64-v2\nkernel @"), "{nest}");
    assert!(asm.contains("mulps") && !asm.contains("vmulps"), "{asm}");
    let [nest, asm] = dumps(&path("two_layers"), "product", ["--target", "aarch64-unknown-linux-gnu"]);
    assert!(nest.starts_with("// by the wide emitter\nkernel @") && asm.contains("fmla v"), "{nest}{asm}");
    // Doubles are not among what the emitter for aarch64 knows.
    let file = scratch("cli-dumps").join("doubles.graph");
    let text = "graph @doubles(%x: f64[4,40]) -> (%y) {\n  @w = const rand(1) : f64[40,8]\n  %y = MatMul(%x, @w)\n}\n";
    fs::write(&file, text).expect("written");
    let [nest, asm] = dumps(&file.display().to_string(), "doubles", ["--target", "aarch64-unknown-linux-gnu"]);
    assert!(nest.starts_with("// not by the wide emitter: it holds f64") && asm.contains("fmadd d"), "{nest}{asm}");
    let [nest, asm] = dumps(&file.display().to_string(), "doubles", ["--cpu", "v3"]);
    assert!(nest.starts_with("// by the wide emitter\nkernel @") && asm.contains("vfmadd231pd"), "{nest}{asm}");
}

#[test]
fn an_unbound_dimension_is_named_with_its_flag() {
    let folder = scratch("cli-bind");
    let out = folder.display().to_string();
    let (status, stderr) = fails(&["compile", &path("symbolic"), "-o", &out]);
    assert_eq!(status, 2);
    assert!(stderr.contains("error[unbound-dimension]") && stderr.contains("--bind batch=N"), "{stderr}");
    assert!(names(&folder).is_empty());
    for bound in [["--bind", "batch=3"], ["--input-shape", "x=3,8"]] {
        let (status, facts) = json(&["compile", &path("symbolic"), "-o", &out, "--json", bound[0], bound[1]]);
        assert_eq!((status, &facts["outputs"][0]["shape"]), (0, &serde_json::json!([3, 4])));
    }
    assert_eq!(fails(&["compile", &path("symbolic"), "-o", &out, "--input-shape", "x=3,9"]).0, 3);
    assert_eq!(fails(&["compile", &path("symbolic"), "-o", &out, "--input-shape", "z=3"]).0, 3);
}

#[test]
fn bad_usage_and_bad_input_end_with_3() {
    let folder = scratch("cli-bad");
    let out = folder.display().to_string();
    for arguments in [
        &["compile"][..],
        &["make", "x.onnx"],
        &["compile", "there-is-no-such-file.onnx", "-o", &out],
        &["compile", "there-is-no-such-file.graph", "-o", &out],
        &["compile", &path("two_layers"), "-o", &out, "--cpu", "v9"],
        &["compile", &path("two_layers"), "-o", &out, "--target", "riscv64gc-unknown-linux-gnu"],
        &["compile", &path("two_layers"), "-o", &out, "--emit", "poetry"],
        &["compile", &path("two_layers"), "-o", &out, "--emit-after", "poetry"],
        &["compile", &path("two_layers"), "-o", &out, "--bind", "batch"],
        &["run", &path("two_layers")],
        &["run", &path("two_layers"), "there-is-no-such-file.npz"],
        &["verify", &path("two_layers"), &out],
        &["bench", &path("two_layers"), "--seconds", "-1"],
    ] {
        let (status, stderr) = fails(arguments);
        assert!(status == 3 && !stderr.is_empty(), "{arguments:?}: {status}\n{stderr}");
    }
    for (name, bytes) in
        [("empty.onnx", &b""[..]), ("noise.onnx", &[0xff; 100]), ("bad.graph", b"graph @g(%x: f32[1]) -> (%y) {\n  %y = Nothing(%x)\n}")]
    {
        let file = folder.join(name);
        fs::write(&file, bytes).expect("written");
        let (status, stderr) = fails(&["inspect", &file.display().to_string()]);
        assert!(status == 3 && stderr.starts_with("error["), "{name}: {status}\n{stderr}");
    }
}

#[test]
fn a_library_cannot_be_written_where_a_file_is() {
    let folder = scratch("cli-unwritable");
    let file = folder.join("file");
    fs::write(&file, "x").expect("written");
    let (status, stderr) = fails(&["compile", &path("two_layers"), "-o", &file.display().to_string()]);
    assert!(status == 3 && stderr.contains("cannot be written"), "{stderr}");
}

#[test]
fn run_writes_outputs_by_name_or_in_order() {
    let folder = scratch("cli-run");
    let file = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("input_0.npy"), npy(&[2, 8], &[0.5; 16])).expect("written");
    let (status, _, stderr) = tool::cli(&["run", &path("symbolic"), &file("input_0.npy"), "-o", &file("out.npz")]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let (status, _, stderr) = tool::cli(&["run", &path("symbolic"), "--inputs", &file(""), "--outputs", &file("by_order")]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let output = fs::read(folder.join("by_order/output_0.npy")).expect("the output");
    assert!(output.starts_with(b"\x93NUMPY") && output.len() == 128 + 2 * 4 * 4, "{}", output.len());
    let (status, facts) = json(&["run", &path("symbolic"), &file("input_0.npy"), "--json"]);
    assert_eq!((status, &facts["outputs"][0]["shape"]), (0, &serde_json::json!([2, 4])));
}

#[test]
fn verify_tells_right_from_wrong() {
    let folder = scratch("cli-verify");
    let graph = tinsmith::source::read(&fixture("graphs/two_layers.graph"), &tinsmith::Config::default()).expect("it reads").graph;
    let input = tinsmith_testsuite::random(DType::F32, &[3, 40], 5);
    let outputs = tinsmith::graph::eval(&graph, std::slice::from_ref(&input)).expect("it evaluates");
    for (set, wrong) in [("test_data_set_0", false), ("test_data_set_1", true)] {
        let set = folder.join(set);
        fs::create_dir(&set).expect("a folder");
        fs::write(set.join("input_0.pb"), tensor_proto(&input, 0.0)).expect("written");
        for (i, output) in outputs.iter().enumerate() {
            fs::write(set.join(format!("output_{i}.pb")), tensor_proto(output, if wrong { 0.01 } else { 0.0 })).expect("written");
        }
    }
    let set = |n: u32| folder.join(format!("test_data_set_{n}")).display().to_string();
    let (status, stdout, stderr) = tool::cli(&["verify", &path("two_layers"), &set(0)]);
    assert_eq!((status, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains("1 of 1 cases agree"), "{stdout}");
    let (status, facts) = json(&["verify", &path("two_layers"), &folder.display().to_string(), "--json"]);
    assert_eq!(status, 1);
    assert_eq!((&facts["cases"][0]["passed"], &facts["cases"][1]["passed"]), (&true.into(), &false.into()));
    // The outputs were made wrong, not the code.
    assert_eq!(facts["cases"][1]["first_difference"], Value::Null);
    let (status, _, _) = tool::cli(&["verify", &path("two_layers"), &set(1), "--atol", "0.02"]);
    assert_eq!(status, 0);
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let folder = scratch("cli-misfit");
    for (dims, n) in [(&[2, 9][..], 18), (&[8], 8)] {
        let file = folder.join("x.npy");
        fs::write(&file, npy(dims, &vec![0.0; n])).expect("written");
        let (status, stderr) = fails(&["run", &path("symbolic"), &file.display().to_string()]);
        assert!(status == 3 && stderr.contains("input `x` is f32[batch,8]"), "{status} {stderr}");
    }
}

#[test]
fn bench_gives_the_promised_facts() {
    let (status, facts) = json(&["bench", &path("two_layers"), "--seconds", "0.01", "--threads", "1", "--json"]);
    assert_eq!(status, 0);
    for key in ["median_ms", "p90_ms", "p99_ms", "min_ms", "max_ms", "steps_ms", "floor_ms"] {
        assert!(facts[key].as_f64().is_some_and(|ms| ms > 0.0), "{key}: {facts}");
    }
    assert!(facts["peaks"]["gflops"].as_f64().is_some_and(|g| g > 0.0), "{facts}");
    let levels = facts["peaks"]["levels"].as_array().expect("levels");
    assert_eq!(levels.iter().map(|l| l["name"].as_str().unwrap_or("")).collect::<Vec<_>>(), ["L1", "L2", "L3", "memory"]);
    assert!(levels.iter().all(|l| l["gbytes_per_s"].as_f64().is_some_and(|g| g > 0.0)), "{facts}");
    for key in ["share", "gflops", "gflops_share", "gbytes_per_s", "bound_share", "compute_share", "memory_share"] {
        assert!(facts["nodes"][0][key].is_number(), "{key}: {facts}");
    }
    for key in ["bound", "memory_level", "emitter", "schedule", "kernel"] {
        assert!(facts["nodes"][0][key].is_string(), "{key}: {facts}");
    }
    assert!(facts["runs"].as_u64() >= Some(5) && facts["cpu"].is_string(), "{facts}");
    assert!(facts["nodes"].as_array().is_some_and(|n| !n.is_empty() && n[0]["median_ms"].is_number()), "{facts}");
}

#[test]
fn bench_draws_a_roofline() {
    let folder = scratch("cli-roofline");
    let file = folder.join("r.svg");
    let (status, _, stderr) = tool::cli(&["bench", &path("two_layers"), "--seconds", "0.01", "--roofline", &file.display().to_string()]);
    assert_eq!(status, 0, "{stderr}");
    let picture = fs::read_to_string(file).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.contains("<circle") && picture.contains("memory"), "{picture}");
    let (status, stderr) = fails(&["bench", &path("two_layers"), "--roofline", "r.png"]);
    assert!(status == 3 && stderr.contains("expected a file named .svg"), "{status} {stderr}");
}

#[test]
fn inspect_says_what_a_model_is() {
    let (status, stdout, _) = tool::cli(&["inspect", &path("two_layers")]);
    assert_eq!(status, 0);
    insta::assert_snapshot!(stdout.lines().skip(1).take(8).collect::<Vec<_>>().join("\n"), @r"
    inputs
      x: f32[3,40]
    outputs
      y: f32[3,5]
      s: f32[3,5]
    operators: Add 1, MatMul 2, Softmax 1
    parameters: 1518 (6072 B)
    multiply-adds: 4455
    ");
    assert!(stdout.contains("memory: workspace ") && stdout.contains("compiles for "), "{stdout}");
    let (status, facts) = json(&["inspect", &path("two_layers"), "--json"]);
    assert_eq!((status, &facts["operators"]["MatMul"], &facts["parameters"]), (0, &2.into(), &1518.into()));
}

#[test]
fn errors_are_json_too() {
    let (status, facts) = json(&["inspect", &path("symbolic"), "--json"]);
    assert_eq!((status, &facts["status"]), (2, &2.into()));
    assert_eq!(facts["diagnostics"][0]["code"], "unbound-dimension");
}

/// An `.npy` file of `f32`.
fn npy(dims: &[usize], elements: &[f32]) -> Vec<u8> {
    let dims: String = dims.iter().map(|n| format!("{n},")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
    header.push_str(&" ".repeat(64 - (header.len() + 11) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(elements.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// A file of an ONNX `TensorProto` with the tensor's elements, all greater by `more`.
fn tensor_proto(tensor: &Tensor, more: f32) -> Vec<u8> {
    let mut bytes = vec![];
    for &n in tensor.dims() {
        bytes.extend([0x08, n as u8]);
    }
    bytes.extend([0x10, 1, 0x4a]);
    let length = tensor.bytes().len();
    bytes.extend([0x80 | (length & 0x7f) as u8, (length >> 7) as u8]);
    bytes.extend(tensor.as_slice::<f32>().iter().flat_map(|x| (x + more).to_le_bytes()));
    bytes
}

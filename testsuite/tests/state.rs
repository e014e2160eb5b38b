//! Libraries with state, as their users have them: every stream has a block of its own, and several runs are what the interpreter gives
//! when outputs are fed back.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use tinsmith::codegen::Machine;
use tinsmith::tensor::{DType, Tensor};
use tinsmith::{Artifact, Config, Output, compile_source, graph, source};
use tinsmith_testsuite::{fixture, has_aarch64, is_x86_64_linux, random, scratch, skip, tool};

const STEPS: usize = 5;
const STREAMS: usize = 2;

fn config(target: &str, cpu: &str) -> Config {
    let states = [("h", "next"), ("cache", "rows")].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
    Config { target: Some(format!("{target}-unknown-linux-gnu")), cpu: Some(cpu.to_owned()), states, ..Config::default() }
}

/// The fixture as a library whose `h` begins with a value of its own.
fn compile(folder: &Path, config: &Config) -> (Artifact, Tensor) {
    let machine = Machine::parse(config.target.as_deref(), config.cpu.as_deref()).expect("a target");
    let mut source = source::read(&fixture("graphs/streaming.graph"), config).expect("it is read");
    let first = random(DType::F32, &[1, 64], 99);
    source.defaults.insert("h".to_owned(), first.clone());
    let artifact = compile_source(source, config, &machine).unwrap_or_else(|e| panic!("{e}"));
    artifact.write(folder, &[Output::Library]).expect("it is written");
    (artifact, first)
}

/// For each stream and step: x, y, and the state `h` after it.
fn expected(artifact: &Artifact, first: &Tensor) -> Vec<Vec<[Tensor; 3]>> {
    let stream = |s: usize| {
        let (mut h, mut cache) = (first.clone(), Tensor::zeros(DType::F32, &[1, 16, 64]));
        let mut steps = vec![];
        for step in 0..STEPS {
            let x = random(DType::F32, &[1, 64], (100 * s + step) as u64);
            let [y, next, rows]: [Tensor; 3] =
                graph::eval(&artifact.source.graph, &[x.clone(), h, cache]).expect("it runs").try_into().expect("three outputs");
            steps.push([x, y, next.clone()]);
            (h, cache) = (next, rows);
        }
        steps
    };
    (0..STREAMS).map(stream).collect()
}

fn program(artifact: &Artifact, first: &Tensor, pool: bool) -> String {
    let mut text = String::from("#include <math.h>\n#include <string.h>\n#include \"streaming.h\"\n");
    let all = expected(artifact, first);
    for (k, name) in ["x", "y", "h"].into_iter().enumerate() {
        let values = all.iter().flatten().flat_map(|step| step[k].to_f64s()).map(|v| format!("{v:?}f")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "static const float all_{name}[{STREAMS}][{STEPS}][64] = {{{values}}};");
    }
    let values = first.to_f64s().iter().map(|v| format!("{v:?}f")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "static const float first[64] = {{{values}}};");
    text += r#"
static unsigned char workspace_memory[STREAMING_WORKSPACE_BYTES + 64], state_memory[STREAMS][STREAMING_STATE_BYTES + 64];
static float y[STREAMING_Y_ELEMENTS];
static int near(const float *a, const float *b) {
    int i;
    for (i = 0; i < 64; i++)
        if (!(fabsf(a[i] - b[i]) <= 1e-5f)) return 0;
    return 1;
}
static void *aligned(unsigned char *memory) { return memory + (64 - (size_t)memory % 64) % 64; }
int main(void) {
    void *workspace = aligned(workspace_memory);
    int step, stream;
    const tinsmith_model *m = streaming_model();
    if (m->n_inputs != 1 || m->n_outputs != 1 || m->n_states != 2 || m->state_bytes != STREAMING_STATE_BYTES) return 1;
    if (strcmp(m->states[0].name, "h") || strcmp(m->states[1].name, "cache") || m->states[1].bytes != 4096) return 2;
    if (STREAMING_STATE_ALIGN != 64 || STREAMING_STATE_H_OFFSET != 0 || STREAMING_STATE_CACHE_OFFSET != 256) return 3;
    if (STREAMING_H_ELEMENTS != 64 || STREAMING_CACHE_ELEMENTS != 1024) return 4;
    if (streaming_state_init(NULL) != TINSMITH_BAD_ARGUMENT) return 5;
    if (streaming_state_init((char *)aligned(state_memory[0]) + 4) != TINSMITH_BAD_ARGUMENT) return 6;
    if (streaming_run(all_x[0][0], y, NULL, workspace, NULL) != TINSMITH_BAD_ARGUMENT) return 7;
    if (streaming_run(all_x[0][0], y, (char *)aligned(state_memory[0]) + 8, workspace, NULL) != TINSMITH_BAD_ARGUMENT) return 8;
    memset(state_memory, 0xff, sizeof state_memory);
    for (stream = 0; stream < STREAMS; stream++)
        if (streaming_state_init(aligned(state_memory[stream])) != TINSMITH_OK) return 9;
    for (step = 0; step < STEPS; step++)
        for (stream = 0; stream < STREAMS; stream++) {
            unsigned char *state = aligned(state_memory[stream]);
            const float *h = (const float *)(const void *)(state + STREAMING_STATE_H_OFFSET);
            if (!near(h, step ? all_h[stream][step - 1] : first)) return 10;
            memset(workspace, 0xff, STREAMING_WORKSPACE_BYTES);
            if (streaming_run(all_x[stream][step], y, state, workspace, POOL) != TINSMITH_OK) return 11;
            if (!near(y, all_y[stream][step])) return 12;
            if (!near(h, all_h[stream][step])) return 13;
        }
    return 0;
}
"#;
    let pool = if pool { "tinsmith_pool_create(3)" } else { "NULL" };
    text.replace("[STREAMS]", &format!("[{STREAMS}]"))
        .replace("< STREAMS", &format!("< {STREAMS}"))
        .replace("STEPS;", &format!("{STEPS};"))
        .replace("POOL)", &format!("{pool})"))
}

fn link(cc: &str, folder: &Path, program: &str) -> std::path::PathBuf {
    let (main, out) = (folder.join("main.c"), folder.join("program"));
    std::fs::write(&main, program).expect("written");
    let mut command = Command::new(cc);
    command.args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wno-missing-braces", "-Werror", "-Wshadow", "-I"]).arg(folder).arg(&main);
    tool::succeed(command.arg(folder.join("libstreaming.a")).args(["-lm", "-o"]).arg(&out));
    out
}

#[test]
fn streams_keep_their_states_apart() {
    if !is_x86_64_linux("streams_keep_their_states_apart") {
        return;
    }
    for (cpu, pool) in [("v1", false), ("v3", true)] {
        if Machine::parse(Some("x86_64-unknown-linux-gnu"), Some(cpu)).expect("a level").check_host().is_err() {
            skip("streams_keep_their_states_apart", &format!("this machine lacks {cpu}"));
            continue;
        }
        let folder = scratch(&format!("state-{cpu}"));
        let (artifact, first) = compile(&folder, &config("x86_64", cpu));
        tool::succeed(&mut Command::new(link("cc", &folder, &program(&artifact, &first, pool))));
        let symbols = tool::succeed(Command::new("nm").args(["-g", "--defined-only"]).arg(folder.join("libstreaming.a")));
        let own: Vec<&str> = symbols.split_whitespace().filter(|w| w.starts_with("streaming_")).collect();
        assert_eq!(own, ["streaming_model", "streaming_run", "streaming_state_init"]);
    }
}

#[test]
fn streams_run_on_aarch64() {
    let folder = scratch("state-aarch64");
    let (artifact, first) = compile(&folder, &config("aarch64", "armv8-a"));
    if !has_aarch64("streams_run_on_aarch64") {
        return;
    }
    let program = link("aarch64-linux-gnu-gcc", &folder, &program(&artifact, &first, false));
    tool::succeed(Command::new("qemu-aarch64").args(["-L", "/usr/aarch64-linux-gnu"]).arg(program));
}

#[test]
fn the_rust_module_has_a_state() {
    if !is_x86_64_linux("the_rust_module_has_a_state") {
        return;
    }
    let folder = scratch("state-rust");
    let (artifact, first) = compile(&folder, &config("x86_64", "v1"));
    let all = expected(&artifact, &first);
    let array = |t: &Tensor| format!("{:?}", t.to_f64s().iter().map(|&x| x as f32).collect::<Vec<_>>());
    let [x0, y0, _] = &all[0][0];
    let [x1, y1, h1] = &all[0][1];
    let main = format!(
        r#"
        mod streaming {{ include!("streaming.rs"); }}
        fn near(a: &[f32; 64], b: [f32; 64]) -> bool {{ a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() <= 1e-5) }}
        fn main() {{
            let (mut workspace, mut state) = (streaming::Workspace::boxed(), streaming::State::boxed());
            let mut y = [0f32; 64];
            assert!(near(state.h(), {first}) && state.cache().iter().all(|&x| x == 0.0));
            streaming::run(&{x0}, &mut y, &mut state, &mut workspace).unwrap();
            assert!(near(&y, {y0}));
            let mut copy = state.clone();
            streaming::run(&{x1}, &mut y, &mut state, &mut workspace).unwrap();
            assert!(near(&y, {y1}) && near(state.h(), {h1}));
            let pool = streaming::Pool::new(2).unwrap();
            streaming::run_with(&{x1}, &mut y, &mut copy, &mut workspace, &pool).unwrap();
            assert!(near(&y, {y1}) && copy.cache()[..] == state.cache()[..]);
            copy.h_mut()[0] = 3.0;
            assert_eq!(copy.h()[0], 3.0);
            copy.reset();
            assert!(near(copy.h(), {first}) && streaming::State::new().cache()[0] == 0.0);
            assert_eq!(streaming::STATE_BYTES, 256 + 4096);
        }}
        "#,
        first = array(&first),
        x0 = array(x0),
        y0 = array(y0),
        x1 = array(x1),
        y1 = array(y1),
        h1 = array(h1),
    );
    std::fs::write(folder.join("main.rs"), main).expect("written");
    for edition in ["2018", "2024"] {
        let out = folder.join(format!("program-{edition}"));
        let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
        command.args(["--edition", edition, "-Dwarnings"]).arg("-L").arg(&folder).arg("-lstatic=streaming");
        tool::succeed(command.arg(folder.join("main.rs")).arg("-o").arg(&out));
        tool::succeed(&mut Command::new(out));
    }
}

#[test]
fn pairs_that_are_none_are_all_named() {
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let states = vec![pair("z", "rows"), pair("h", "next"), pair("cache", "q"), pair("h", "rows"), pair("x", "next")];
    let config = Config { states, ..Config::default() };
    let error = tinsmith::compile(&fixture("graphs/streaming.graph"), &config).expect_err("they are no pairs");
    assert_eq!(error.exit_status(), 3);
    let messages: Vec<&str> = error.diagnostics().iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the model has no input `z`",
            "the model has no output `q`",
            "input `h` is another state too",
            "output `next` is another state's next value too",
        ]
    );
    let config = Config { states: vec![pair("h", "rows")], ..Config::default() };
    let error = tinsmith::compile(&fixture("graphs/streaming.graph"), &config).expect_err("types differ");
    assert_eq!(error.diagnostics()[0].message, "input `h` is `f32[1,64]`, and output `rows` is `f32[1,16,64]`; they must have one type");
}

#[test]
fn the_command_carries_states_from_case_to_case() {
    let folder = scratch("state-cli");
    let cases = folder.join("cases");
    std::fs::create_dir_all(&cases).expect("a folder");
    let model = fixture("graphs/streaming.graph").display().to_string();
    let graph = graph::parse(&std::fs::read_to_string(&model).expect("the fixture")).expect("it parses");
    let (mut h, mut cache) = (Tensor::zeros(DType::F32, &[1, 64]), Tensor::zeros(DType::F32, &[1, 16, 64]));
    let mut pairs = vec![];
    let path = |p: std::path::PathBuf| p.display().to_string();
    for step in 0..3u64 {
        let x = random(DType::F32, &[1, 64], step);
        let outputs = graph::eval(&graph, &[x.clone(), h, cache]).expect("it runs");
        let (input, reference) = (cases.join(format!("{step}.npz")), folder.join(format!("ref{step}.npz")));
        write_npz(&input, &[("x", &x)].into());
        write_npz(&reference, &[("y", &outputs[0]), ("next", &outputs[1])].into());
        pairs.extend([path(input), path(reference)]);
        (h, cache) = (outputs[1].clone(), outputs[2].clone());
    }
    let states = ["--state", "h=next", "--state", "cache=rows"];
    let arguments: Vec<&str> = ["verify", &model].into_iter().chain(pairs.iter().map(String::as_str)).chain(states).collect();
    let (status, stdout, stderr) = tool::cli(&arguments);
    assert_eq!(status, 0, "{stdout}{stderr}");
    assert!(stdout.contains("3 of 3 cases agree"), "{stdout}");
    let (status, ..) = tool::cli(&["verify", &model, &pairs[2], &pairs[3], states[0], states[1], states[2], states[3]]);
    assert_eq!(status, 1, "the second case alone begins with zeros");
    let (out, cases) = (path(folder.join("out")), path(cases));
    let (status, stdout, stderr) = tool::cli(&["run", &model, &cases, "-o", &out, states[0], states[1], states[2], states[3]]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.contains("2: y: f32[1,64]"), "{stdout}");
    assert_eq!(std::fs::read_dir(folder.join("out")).expect("it was written").count(), 3);
    let (status, stdout, _) = tool::cli(&["inspect", &model, "--json", states[0], states[1], states[2], states[3]]);
    assert_eq!(status, 0);
    let facts: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((facts["state_bytes"].as_u64(), facts["states"][1]["offset"].as_u64()), (Some(4352), Some(256)));
}

/// An archive of arrays of `f32`, stored.
fn write_npz(path: &Path, arrays: &BTreeMap<&str, &Tensor>) {
    let mut zip = vec![];
    let mut directory = vec![];
    for (name, tensor) in arrays {
        let dims: String = tensor.dims().iter().map(|n| format!("{n},")).collect();
        let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
        header.push_str(&" ".repeat((64 - (header.len() + 11) % 64) % 64));
        header.push('\n');
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((header.len() as u16).to_le_bytes());
        npy.extend(header.bytes());
        npy.extend(tensor.bytes());
        let file = format!("{name}.npy");
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(&npy).to_le_bytes());
        common.extend((npy.len() as u32).to_le_bytes());
        common.extend((npy.len() as u32).to_le_bytes());
        common.extend((file.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let at = zip.len() as u32;
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(file.bytes());
        zip.extend(npy);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(file.bytes());
    }
    let (at, size, n) = (zip.len() as u32, directory.len() as u32, arrays.len() as u16);
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend(n.to_le_bytes());
    zip.extend(n.to_le_bytes());
    zip.extend(size.to_le_bytes());
    zip.extend(at.to_le_bytes());
    zip.extend([0, 0]);
    std::fs::write(path, zip).expect("written");
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 });
    !bytes.iter().fold(!0, step)
}

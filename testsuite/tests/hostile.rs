//! Files and arrays that are not what they claim: each ends in a message and exit status 2 or 3, quickly.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tinsmith::{Config, Error};
use tinsmith_testsuite::{fixture, root, scratch, tool};

/// What a refusal may take, in a program that was not optimized, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

fn digits() -> PathBuf {
    root().join("examples/digits/digits.onnx")
}

/// Runs a command that must be refused, and gives what it said.
fn refused(arguments: &[&str]) -> String {
    let start = Instant::now();
    let (status, stdout, stderr) = tool::cli(arguments);
    assert!(status == 2 || status == 3, "{arguments:?}: status {status}\n{stdout}{stderr}");
    assert!(stderr.starts_with("error") && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    assert!(start.elapsed() < LIMIT, "{arguments:?} took {:?}", start.elapsed());
    stderr
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n.max(1)
    }
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = scratch("hostile-files");
    let out = folder.join("out").display().to_string();
    let model = fs::read(digits()).expect("the model");
    let mut random = Random(7);
    let noise: Vec<u8> = (0..5000).map(|_| random.below(256) as u8).collect();
    let text = "this is no model\n".repeat(300);
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("empty.onnx".into(), vec![]),
        ("noise.onnx".into(), noise.clone()),
        ("text.onnx".into(), text.clone().into_bytes()),
        ("text.graph".into(), text.into_bytes()),
        ("noise.graph".into(), noise.clone()),
        ("model.graph".into(), model.clone()),
        ("noise.txt".into(), noise),
        ("array.onnx".into(), npy(&[2, 8], &[0.0; 16])),
        ("deep.onnx".into(), deep(50_000)),
        ("parentheses.graph".into(), format!("graph @g(%x: f32[1]) -> (%y) {{\n  %y = Relu({}%x\n}}", "(".repeat(100_000)).into_bytes()),
    ];
    files.extend((0..12).map(|i| (format!("cut_{i}.onnx"), model[..model.len() * i / 12 + 3 * i].to_vec())));
    for (name, bytes) in files {
        let path = folder.join(&name);
        fs::write(&path, bytes).expect("written");
        let path = path.display().to_string();
        refused(&["inspect", &path]);
        refused(&["compile", &path, "-o", &out]);
    }
    refused(&["compile", &folder.display().to_string(), "-o", &out]);
    assert!(!Path::new(&out).exists(), "nothing is written for what is refused");
}

/// A protobuf of nested messages: a graph in an attribute of a node of a graph, and so on.
fn deep(depth: usize) -> Vec<u8> {
    let mut bytes = vec![];
    for field in [7u8, 1, 5, 6].iter().cycle().take(depth) {
        let mut outer = vec![field << 3 | 2];
        let mut n = bytes.len();
        while n >= 0x80 {
            outer.push(n as u8 | 0x80);
            n >>= 7;
        }
        outer.push(n as u8);
        // Past a few levels the contents no longer matter, only how deep they are.
        bytes.truncate(100_000);
        outer.extend_from_slice(&bytes);
        bytes = outer;
        if bytes.len() > 60_000 {
            break;
        }
    }
    bytes
}

#[test]
fn arrays_that_do_not_fit_are_refused_with_names() {
    let folder = scratch("hostile-arrays");
    let file = |name: &str| folder.join(name).display().to_string();
    let symbolic = fixture("graphs/symbolic.graph").display().to_string();
    let put = |name: &str, entries: &[(&str, Vec<u8>)]| {
        fs::write(folder.join(name), zip(entries)).expect("written");
        file(name)
    };
    let good = || npy(&[3, 8], &[0.5; 24]);
    let cut = good()[..150].to_vec();
    let integers = [npy_header("<i4", "3,8"), vec![0; 96]].concat();
    let huge = [npy_header("<f4", "9999999999999,99999999"), vec![0; 96]].concat();
    for (name, bytes, said) in [
        ("rank", npy(&[24], &[0.5; 24]), "input `x` is f32[batch,8]"),
        ("shape", npy(&[3, 9], &[0.5; 27]), "input `x` is f32[batch,8]"),
        ("zero", npy(&[0, 8], &[]), ""),
        ("cut", cut, "cannot be read"),
        ("huge", huge, "cannot be read"),
        ("empty", vec![], "cannot be read"),
        ("dtype", integers, "which an array i32"),
    ] {
        let path = put(&format!("{name}.npz"), &[("x.npy", bytes)]);
        if name == "zero" {
            // No rows are an array like any other.
            let (status, _, stderr) = tool::cli(&["run", &symbolic, &path]);
            assert!(matches!(status, 0 | 2 | 3), "{stderr}");
            continue;
        }
        let stderr = refused(&["run", &symbolic, &path]);
        assert!(stderr.contains(said), "{name}: {stderr}");
    }
    let other = put("other.npz", &[("z.npy", good())]);
    assert!(refused(&["run", &symbolic, &other]).contains("`x`: f32[batch,8]"));
    let more = put("more.npz", &[("x.npy", good()), ("z.npy", good())]);
    assert!(refused(&["run", &symbolic, &more]).contains("no input `z`; its inputs are x"));
    let none = put("none.npz", &[]);
    assert!(refused(&["run", &symbolic, &none]).contains("`x`"));
    fs::write(folder.join("no_zip.npz"), b"PK\x03\x04 and no more").expect("written");
    refused(&["run", &symbolic, &file("no_zip.npz")]);
    refused(&["run", &symbolic, &symbolic]);
    refused(&["verify", &symbolic, &put("x.npz", &[("x.npy", good())]), &other]);
    refused(&["bench", &symbolic, &other]);
}

#[test]
fn bindings_that_do_not_fit_are_refused_with_names() {
    let folder = scratch("hostile-bindings");
    let out = folder.join("out").display().to_string();
    let symbolic = fixture("graphs/symbolic.graph").display().to_string();
    for (arguments, said) in [
        (&["--bind", "seq=3"][..], "`seq`"),
        (&["--bind", "batch=3", "--bind", "seq=4"], "`seq`"),
        (&["--bind", "batch=-1"], "batch=-1"),
        (&["--bind", "batch=99999999999999999999"], "batch="),
        (&["--bind", "batch=4611686018427387904"], ""),
        (&["--bind", "batch=2", "--input-shape", "x=3,8"], ""),
        (&["--input-shape", "x=3"], "x"),
        (&["--input-shape", "x=3,8,1"], "x"),
        (&["--input-shape", "x="], "`x`"),
        (&["--input-shape", "x"], "x"),
        (&["--cpu", "x86-64-v3+teapot", "--bind", "batch=1"], "teapot"),
        (&["--target", "aarch64-unknown-linux-gnu", "--cpu", "x86-64-v3", "--bind", "batch=1"], ""),
        (&[], "--bind batch=N"),
    ] {
        let stderr = refused(&[&["compile", &symbolic, "-o", &out], arguments].concat());
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    assert!(!Path::new(&out).exists());
}

/// Bytes of a model that say something: those outside the elements of its large tensors.
fn telling(model: &[u8]) -> Vec<usize> {
    let mut spans = vec![];
    elements(model, 0, 0, &mut spans);
    (0..model.len()).filter(|i| !spans.iter().any(|s: &std::ops::Range<usize>| s.contains(i))).collect()
}

/// Finds `raw_data` of initializers: field 7 of a model, 5 of its graph, 9 of that.
fn elements(message: &[u8], base: usize, level: usize, spans: &mut Vec<std::ops::Range<usize>>) {
    let mut at = 0;
    let varint = |at: &mut usize| {
        let (mut n, mut shift) = (0usize, 0);
        while let Some(&byte) = message.get(*at) {
            *at += 1;
            n |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift > 56 {
                break;
            }
        }
        n
    };
    while at < message.len() {
        let key = varint(&mut at);
        match key & 7 {
            0 => drop(varint(&mut at)),
            1 => at += 8,
            2 => {
                let length = varint(&mut at);
                let end = (at + length).min(message.len());
                if key >> 3 == [7, 5, 9][level] {
                    if level == 2 && length > 64 {
                        spans.push(base + at..base + end);
                    } else if level < 2 {
                        elements(&message[at..end], base + at, level + 1, spans);
                    }
                }
                at = end;
            }
            _ => at += 4,
        }
    }
}

/// Changes bytes of a model in one of several ways.
fn damage(model: &[u8], telling: &[usize], random: &mut Random) -> Vec<u8> {
    let mut bytes = model.to_vec();
    for _ in 0..=random.below(3) {
        let at = telling[random.below(telling.len())].min(bytes.len().saturating_sub(1));
        match random.below(8) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.below(4)],
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.below(256) as u8),
            4 => {
                let end = (at + random.below(40)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            5 => bytes[at] = bytes[at].wrapping_add(1),
            _ => bytes[at] ^= 1 << random.below(8),
        }
    }
    bytes
}

/// Damaged models are compiled or refused. `TINSMITH_FUZZ_SECONDS` and `TINSMITH_FUZZ_SEED` make it longer and other; what fails
/// stays in the folder of the test.
#[test]
fn damaged_models_never_end_in_a_panic() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    let folder = scratch("hostile-damage");
    let models: Vec<(Vec<u8>, Vec<usize>)> = std::env::var("TINSMITH_FUZZ_MODELS")
        .map_or_else(|_| vec![digits()], |list| list.split(',').map(PathBuf::from).collect())
        .into_iter()
        .map(|path| fs::read(path).expect("the model"))
        .map(|model| (telling(&model), model))
        .map(|(telling, model)| (model, telling))
        .collect();
    let mut random = Random(number("TINSMITH_FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let end = Instant::now() + Duration::from_secs(number("TINSMITH_FUZZ_SECONDS", 4));
    let (mut n, mut n_refused, mut slowest) = (0, 0, Duration::ZERO);
    while Instant::now() < end {
        let (model, telling) = &models[random.below(models.len())];
        let bytes = damage(model, telling, &mut random);
        let path = folder.join("damaged.onnx");
        fs::write(&path, &bytes).expect("written");
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| tinsmith::compile(&path, &Config::default()).map(drop)));
        let took = start.elapsed();
        let keep = |why: &str| {
            let kept = folder.join(format!("failed_{n}.onnx"));
            fs::write(&kept, &bytes).expect("written");
            panic!("{why}: {}", kept.display());
        };
        match result {
            Err(_) => keep("a panic"),
            Ok(Err(Error::Bug(text))) => keep(&text),
            Ok(Err(error)) if error.exit_status() > 3 => keep(&error.to_string()),
            Ok(Err(_)) => n_refused += 1,
            Ok(Ok(())) => {}
        }
        if took > LIMIT {
            keep(&format!("it took {took:?}"));
        }
        slowest = slowest.max(took);
        n += 1;
    }
    eprintln!("{n} damaged models, {n_refused} refused, the slowest took {slowest:?}");
    assert!(n_refused > 0 && n_refused < n, "{n_refused} of {n} were refused");
}

/// An `.npy` file of `f32`.
fn npy(dims: &[usize], elements: &[f32]) -> Vec<u8> {
    let dims: String = dims.iter().map(|n| format!("{n},")).collect();
    let mut bytes = npy_header("<f4", &dims);
    bytes.extend(elements.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

fn npy_header(descr: &str, dims: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    header.push_str(&" ".repeat(117 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes
}

/// A zip file with stored members.
fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = vec![];
    let mut directory: Vec<u8> = vec![];
    for (name, contents) in entries {
        let offset = bytes.len() as u32;
        let mut common: Vec<u8> = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(contents).to_le_bytes());
        common.extend((contents.len() as u32).to_le_bytes());
        common.extend((contents.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.bytes());
        bytes.extend(contents);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let start = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
}

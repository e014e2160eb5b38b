//! Rules of the repository that a compiler does not check: what each room may import, where dependencies and `unsafe` may be named,
//! and that every file says what it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tinsmith_testsuite::root;

/// What each room of the compiler may import from the others. Files that are not listed, at the top, may import everything.
const IMPORTS: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("diagnostic", &[]),
    ("config", &["tensor"]),
    ("expr", &["tensor"]),
    ("ops", &["tensor", "expr"]),
    ("graph", &["tensor", "ops"]),
    ("onnx", &["tensor", "ops", "graph", "diagnostic"]),
    ("passes", &["tensor", "ops", "graph", "expr", "lower"]),
    ("lower", &["tensor", "ops", "graph", "expr"]),
    ("nest", &["tensor"]),
    ("schedule", &["tensor", "expr", "nest"]),
    ("codegen", &["tensor", "nest"]),
    ("emit", &["tensor", "nest", "codegen"]),
];

/// The only rooms that may name a dependency.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("petgraph", &["graph"]),
    ("onnx_protobuf", &["onnx"]),
    ("protobuf", &["onnx"]),
    ("cranelift_codegen", &["codegen", "emit"]),
    ("cranelift_frontend", &["codegen", "emit"]),
    ("cranelift_module", &["codegen", "emit"]),
    ("cranelift_jit", &["codegen"]),
    ("cranelift_native", &["codegen"]),
    ("cranelift_object", &["emit"]),
    ("target_lexicon", &["codegen", "emit"]),
    ("object", &["emit"]),
    ("ar_archive_writer", &["emit"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("npyz", &["cli"]),
];

/// Files of the compiler that may hold `unsafe` code: execution in this process, and the text of generated modules.
const UNSAFE: &[&str] = &["codegen/jit.rs", "emit/bindings.rs"];

/// Lines past which a file surely has two subjects.
const MAX_LINES: usize = 1000;

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).map(|d| d.filter_map(Result::ok).map(|e| e.path()).collect()).unwrap_or_default();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// Files of the compiler, by their path in `compiler/src`, without their tests and comments.
fn compiler() -> BTreeMap<String, String> {
    let source = root().join("compiler/src");
    let mut files = BTreeMap::new();
    for path in rust_files(&source) {
        let name = path.strip_prefix(&source).expect("inside").display().to_string();
        if name.ends_with("tests.rs") || name.ends_with("testing.rs") || name.contains("check_compiled") || name == "ops/check.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        files.insert(name, lines.join("\n"));
    }
    files
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// The words that follow each occurrence of `prefix`, which begins a word itself.
fn words_after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.match_indices(prefix)
        .filter(|&(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            let rest = &text[at + prefix.len()..];
            &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
        })
        .collect()
}

fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn rooms_import_only_what_is_below_them() {
    let mut problems = vec![];
    for (file, text) in compiler() {
        let Some((_, allowed)) = IMPORTS.iter().find(|(r, _)| *r == room(&file)) else { continue };
        for word in words_after(&text, "crate::") {
            let is_room = IMPORTS.iter().any(|(r, _)| *r == word) || ["pipeline", "compile", "source", "report", "error"].contains(&word);
            if is_room && word != room(&file) && !allowed.contains(&word) {
                problems.push(format!("compiler/src/{file}: `{}` may not import `{word}`", room(&file)));
            }
        }
    }
    problems.dedup();
    none(problems);
}

#[test]
fn every_dependency_has_its_rooms() {
    let mut problems = vec![];
    for (file, text) in compiler() {
        for (dependency, rooms) in DEPENDENCIES {
            let named = text.lines().any(|l| {
                let l = l.trim_start().trim_start_matches("pub ").trim_start_matches("use ").trim_start_matches("::");
                l.starts_with(&format!("{dependency}::")) && !l.contains("crate::")
            });
            if named && !rooms.contains(&room(&file)) && !(*dependency == "object" && text.contains("use super::object")) {
                problems.push(format!("compiler/src/{file} names `{dependency}`, which belongs to {}", rooms.join(", ")));
            }
        }
    }
    none(problems);
}

#[test]
fn the_compiler_is_safe() {
    let mut problems = vec![];
    for (file, text) in compiler() {
        let unsafe_code = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| text.contains(w));
        if unsafe_code && !UNSAFE.contains(&file.as_str()) {
            problems.push(format!("compiler/src/{file} holds `unsafe` code"));
        }
    }
    none(problems);
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    let mut problems = vec![];
    for folder in ["compiler/src", "compiler/benches", "runtime", "targets", "testsuite"] {
        for path in rust_files(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("readable");
            let name = path.strip_prefix(root()).expect("inside").display().to_string();
            if !text.starts_with("//!") {
                problems.push(format!("{name} does not begin with `//!`"));
            }
            let n = text.lines().count();
            if n > MAX_LINES {
                problems.push(format!("{name} has {n} lines"));
            }
        }
    }
    none(problems);
}

#[test]
fn nothing_is_left_to_do() {
    let mut problems = vec![];
    for (file, text) in compiler() {
        for word in ["todo!(", "unimplemented!(", "dbg!("] {
            if text.contains(word) {
                problems.push(format!("compiler/src/{file} holds `{word}`"));
            }
        }
    }
    none(problems);
}

#[test]
fn what_is_compiled_depends_on_no_variable_of_the_environment() {
    // A build script is told by variables what it builds.
    let found = compiler().into_iter().filter(|(file, text)| text.contains("env::var") && file != "build_script.rs");
    none(found.map(|(file, _)| format!("compiler/src/{file} reads a variable of the environment")).collect());
}

#[test]
fn files_that_documents_name_exist() {
    let mut problems = vec![];
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_default();
        if text.is_empty() {
            problems.push(format!("there is no {document}"));
        }
        for path in text.split('`').skip(1).step_by(2) {
            let is_path =
                ["compiler/", "runtime/", "targets/", "testsuite/", "examples/", "docs/", "bench/"].iter().any(|p| path.starts_with(p));
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c));
            if is_path && plain && !root().join(path).exists() {
                problems.push(format!("{document} names `{path}`, which does not exist"));
            }
        }
    }
    none(problems);
}

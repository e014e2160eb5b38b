//! What is in a library, and what it does not do: looked at from outside, with a linker's and a system's eyes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tinsmith::Config;
use tinsmith_testsuite::c_program::{Checks, Model, link, source};
use tinsmith_testsuite::{fixture, is_x86_64_linux, root, scratch, skip, tool};

const FIXTURES: [&str; 3] = ["graphs/two_layers.graph", "graphs/convolution.graph", "graphs/lookup.graph"];
const X86_64: &str = "x86_64-unknown-linux-gnu";
const TARGETS: [(&str, &str); 5] =
    [(X86_64, "v1"), (X86_64, "v2"), (X86_64, "v3"), (X86_64, "v4"), ("aarch64-unknown-linux-gnu", "armv8-a")];

fn digits() -> PathBuf {
    root().join("examples/digits/digits.onnx")
}

/// Compiles by the command line, and gives the library.
fn library(model: &Path, folder: &Path, target: &str, cpu: &str) -> PathBuf {
    let (model, out) = (model.display().to_string(), folder.display().to_string());
    let (status, _, stderr) = tool::cli(&["compile", &model, "-o", &out, "--target", target, "--cpu", cpu]);
    assert_eq!((status, stderr.as_str()), (0, ""), "{target} {cpu}");
    let name = Path::new(&model).file_stem().expect("a name").to_string_lossy().into_owned();
    folder.join(format!("lib{name}.a"))
}

#[test]
fn a_model_offers_two_symbols_and_wants_none() {
    if !tool::exists("nm") {
        return skip("a_model_offers_two_symbols_and_wants_none", "there is no nm");
    }
    for (target, cpu) in TARGETS {
        let folder = scratch(&format!("symbols-{cpu}"));
        let mut libraries = vec![("digits", library(&digits(), &folder, target, cpu))];
        libraries.extend(
            ["two_layers", "convolution", "lookup"].map(|n| (n, library(&fixture(&format!("graphs/{n}.graph")), &folder, target, cpu))),
        );
        for (name, library) in libraries {
            let text = tool::succeed(Command::new("nm").arg("-g").arg(&library));
            let symbols = |member: &str| -> Vec<String> {
                let lines = text.lines().skip_while(|line| *line != format!("{member}:")).skip(1).take_while(|line| !line.is_empty());
                lines.map(|line| line.split_whitespace().rev().take(2).collect::<Vec<_>>().join(" ")).collect()
            };
            assert_eq!(symbols(&format!("{name}.o")), [format!("{name}_model T"), format!("{name}_run T")], "{target} {cpu}: {text}");
            // Beside the model is the pool, which a program gets only if it asks for one.
            let members: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(':')).collect();
            assert_eq!(members, [format!("{name}.o").as_str(), "tinsmith_pool.o"], "{text}");
            let offered: Vec<String> = symbols("tinsmith_pool.o").into_iter().filter(|s| !s.ends_with(" U")).collect();
            assert_eq!(offered, ["tinsmith_pool_create W", "tinsmith_pool_destroy W"], "{text}");
        }
    }
}

#[test]
fn sections_are_read_only_separate_and_state_that_the_stack_holds_no_code() {
    if !tool::exists("readelf") {
        return skip("sections_are_read_only_separate_and_state_that_the_stack_holds_no_code", "there is no readelf");
    }
    for (target, cpu) in TARGETS {
        let library = library(&digits(), &scratch(&format!("sections-{cpu}")), target, cpu);
        let text = tool::succeed(Command::new("readelf").args(["-SW"]).arg(&library));
        let sections: Vec<(&str, &str)> = text.lines().filter_map(section).collect();
        let named = |start: &str| sections.iter().filter(|(name, _)| name.starts_with(start)).count();
        assert!(named(".text.") > 4 && named(".rodata.") > 4, "{text}");
        // One for each member: the model, and the pool.
        assert_eq!(named(".note.GNU-stack"), 2, "{text}");
        for (name, flags) in &sections {
            let writable = name.starts_with(".data.rel.ro") || name.starts_with(".bss.");
            assert!(writable || !flags.contains('W'), "{target} {cpu}: {name} {flags}\n{text}");
            assert!(
                !(flags.contains('W') && flags.contains('X')) && (*name != ".note.GNU-stack" || !flags.contains('X')),
                "{name} {flags}"
            );
        }
    }
}

/// Name and flags of a row of `readelf -SW`.
fn section(line: &str) -> Option<(&str, &str)> {
    let words: Vec<&str> = line.split_once(']')?.1.split_whitespace().collect();
    // name type address offset size entry-size [flags] link info align
    let name = words.first().filter(|name| name.starts_with('.'))?;
    Some((name, if words.len() == 10 { words[6] } else { "" }))
}

#[test]
fn every_way_to_link_gives_a_program_that_runs() {
    let test = "every_way_to_link_gives_a_program_that_runs";
    if !is_x86_64_linux(test) {
        return;
    }
    let folder = scratch("ways-to-link");
    let config = Config { target: Some(X86_64.to_owned()), cpu: Some("v2".to_owned()), ..Config::default() };
    let models: Vec<Model> = FIXTURES.iter().map(|f| Model::compile(&fixture(f), &folder, &config)).collect();
    let models: Vec<&Model> = models.iter().collect();
    let main = folder.join("main.c");
    fs::write(&main, source(&models, Checks::default())).expect("written");
    for (i, flags) in [
        &["-static"][..],
        &["-static-pie", "-fPIE"],
        &["-pie", "-fPIE"],
        &["-no-pie", "-fno-pie"],
        &["-pie", "-fPIE", "-Wl,--gc-sections", "-Wl,-z,now", "-Wl,-z,relro"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.join(format!("program-{i}"));
        let mut command = Command::new("cc");
        command.args(["-std=c99", "-O1", "-Wl,-z,text", "-Wl,--fatal-warnings"]).args(flags).arg("-I").arg(&folder).arg(&main);
        tool::succeed(command.args(models.iter().map(|m| m.archive(&folder))).args(["-lm", "-o"]).arg(&out));
        assert_eq!(tool::succeed(&mut Command::new(out)), "", "{flags:?}");
    }
}

#[test]
fn a_run_makes_no_system_call() {
    if !is_x86_64_linux("a_run_makes_no_system_call") {
        return;
    }
    let folder = scratch("system-calls");
    let config = Config { target: Some(X86_64.to_owned()), cpu: Some("v2".to_owned()), ..Config::default() };
    let models: Vec<Model> = FIXTURES.iter().map(|f| Model::compile(&fixture(f), &folder, &config)).collect();
    let models: Vec<&Model> = models.iter().collect();
    // In strict mode the system ends a process at any call but `read`, `write` and the end of its thread, and with the three
    // standard files closed nothing can be written either.
    let program = source(&models, Checks::default())
        .replace(
            "#include <math.h>\n",
            "#define _GNU_SOURCE\n#include <math.h>\n#include <sys/prctl.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n",
        )
        .replace(
            "int wrong = 0, i;",
            "int wrong = 0, i;\n    const int strict = prctl(PR_SET_SECCOMP, 1) == 0;\n    const char said = strict ? 'y' : 'n';\n    if (write(1, &said, 1) != 1) return 9;",
        )
        .replace("    return wrong;\n", "    syscall(SYS_exit, wrong);\n    return wrong;\n");
    let printed = tool::succeed(&mut Command::new(link("cc", &folder, &models, &program)));
    if printed == "n" {
        return skip("a_run_makes_no_system_call", "this system has no strict mode");
    }
    assert_eq!(printed, "y", "a run prints nothing");
}

#[test]
fn two_processes_in_two_folders_write_the_same_bytes() {
    for (i, (target, cpu)) in TARGETS.into_iter().enumerate() {
        let files = |run: usize| {
            let folder = scratch(&format!("same-bytes-{i}-{run}"));
            let here = folder.join("models");
            fs::create_dir(&here).expect("a folder");
            fs::copy(digits(), here.join("digits.onnx")).expect("the model");
            // One by its absolute path, one by a relative path from elsewhere.
            let mut command = Command::new(tool::tinsmith());
            match run {
                0 => command.current_dir("/").arg("compile").arg(here.join("digits.onnx")).arg("-o").arg(folder.join("out")),
                _ => command.current_dir(&here).args(["compile", "digits.onnx", "-o", "../out"]),
            };
            tool::succeed(command.args(["--target", target, "--cpu", cpu, "--emit", "lib,obj,report,nest,expr,graph"]));
            let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder.join("out"))
                .expect("the folder")
                .map(|e| e.expect("an entry"))
                .map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).expect("the file")))
                .collect();
            files.sort();
            files
        };
        let (first, second) = (files(0), files(1));
        assert!(first.iter().any(|(name, _)| name == "libdigits.a"));
        for ((name, a), (other, b)) in first.iter().zip(&second) {
            assert!(name == other && a == b, "{name} at {target} {cpu}");
        }
        assert_eq!(first.len(), second.len());
    }
}

#[test]
fn libraries_stay_small() {
    for (model, target, cpu) in TARGETS.iter().map(|(target, cpu)| (digits(), target, cpu)) {
        let folder = scratch(&format!("small-{cpu}"));
        let library = library(&model, &folder, target, cpu);
        let (status, stdout, _) = tool::cli(&["inspect", &model.display().to_string(), "--json", "--target", target, "--cpu", cpu]);
        assert_eq!(status, 0);
        let facts: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
        let number = |key: &str| facts[key].as_u64().unwrap_or_else(|| panic!("{key} is missing"));
        let beyond = fs::metadata(&library).expect("the library").len() - number("parameter_bytes").min(number("constant_bytes"));
        // The promise: 64 KiB and 1.5 KiB a node.
        assert!(beyond <= 65_536 + 1_536 * number("n_nodes"), "{target} {cpu}: {beyond} bytes");
        assert!(number("workspace_bytes") * 100 <= number("workspace_lower_bound_bytes").max(64) * 115, "{facts}");
    }
}

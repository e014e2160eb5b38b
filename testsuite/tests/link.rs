//! Compiled libraries as their users have them: linked by a C compiler or `rustc`, and run.

use std::path::Path;
use std::process::Command;

use tinsmith::{Config, Output};
use tinsmith_testsuite::c_program::{Checks, Model, link, source};
use tinsmith_testsuite::{fixture, has_aarch64, is_x86_64_linux, scratch, skip, tool, x86_64_levels};

const FIXTURES: [&str; 3] = ["graphs/two_layers.graph", "graphs/convolution.graph", "graphs/lookup.graph"];
const CONTROL_FLOW: [&str; 4] =
    ["compiled/branches.graph", "compiled/counted_loops.graph", "compiled/while_loops.graph", "compiled/scans.graph"];

fn config(target: &str, cpu: &str) -> Config {
    Config { target: Some(target.to_owned()), cpu: Some(cpu.to_owned()), ..Config::default() }
}

const X86_64: &str = "x86_64-unknown-linux-gnu";
const AARCH64: &str = "aarch64-unknown-linux-gnu";

fn compile_all(folder: &Path, config: &Config) -> Vec<Model> {
    FIXTURES.iter().chain(&CONTROL_FLOW).map(|f| Model::compile(&fixture(f), folder, config)).collect()
}

#[test]
fn models_of_every_level_link_into_one_program_and_run() {
    for level in x86_64_levels("models_of_every_level_link_into_one_program_and_run") {
        let folder = scratch(&format!("levels-{level}"));
        let models = compile_all(&folder, &config(X86_64, level));
        let models: Vec<&Model> = models.iter().collect();
        let program = link("cc", &folder, &models, &source(&models, Checks::default()));
        tool::succeed(&mut Command::new(program));
    }
}

#[test]
fn models_for_aarch64_link_and_run() {
    let test = "models_for_aarch64_link_and_run";
    let folder = scratch("aarch64");
    let models = compile_all(&folder, &config(AARCH64, "armv8-a"));
    if !has_aarch64(test) {
        return;
    }
    let models: Vec<&Model> = models.iter().collect();
    let program = link("aarch64-linux-gnu-gcc", &folder, &models, &source(&models, Checks::default()));
    tool::succeed(Command::new("qemu-aarch64").args(["-L", "/usr/aarch64-linux-gnu"]).arg(program));
}

#[test]
fn a_run_never_touches_the_heap() {
    if !is_x86_64_linux("a_run_never_touches_the_heap") {
        return;
    }
    let folder = scratch("heap");
    let models = compile_all(&folder, &config(X86_64, "v1"));
    let models: Vec<&Model> = models.iter().collect();
    let program = link("cc", &folder, &models, &source(&models, Checks { no_heap: true }));
    tool::succeed(&mut Command::new(program));
}

#[test]
fn a_processor_without_the_features_gets_a_status() {
    let test = "a_processor_without_the_features_gets_a_status";
    if !is_x86_64_linux(test) {
        return;
    }
    if !tool::exists("qemu-x86_64") {
        return skip(test, "there is no qemu-x86_64");
    }
    for (level, cpu, status) in [
        ("v1", "qemu64", 0),
        ("v2", "core2duo", 12),
        ("v2", "Nehalem", 0),
        ("v3", "Nehalem", 12),
        ("v3", "Haswell", 0),
        ("v4", "Haswell", 12),
    ] {
        let folder = scratch(&format!("features-{level}-{cpu}"));
        let model = Model::compile(&fixture(FIXTURES[0]), &folder, &config(X86_64, level));
        let program = link("cc", &folder, &[&model], &source(&[&model], Checks::default()));
        let output = tool::run(Command::new("qemu-x86_64").args(["-cpu", cpu]).arg(program));
        assert_eq!(output.status.code(), Some(status), "{level} on {cpu}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_bad_argument_gets_a_status() {
    if !is_x86_64_linux("a_bad_argument_gets_a_status") {
        return;
    }
    let folder = scratch("arguments");
    let model = Model::compile(&fixture("graphs/lookup.graph"), &folder, &config(X86_64, "v1"));
    let program = r#"
        #include <stddef.h>
        #include "lookup.h"
        static unsigned char memory[LOOKUP_WORKSPACE_BYTES + LOOKUP_WORKSPACE_ALIGN];
        int main(void) {
            int64_t good[4] = {0, 6, -7, -1}, above[4] = {0, 7, 0, 0}, below[4] = {0, 0, 0, -8};
            float y[24];
            void *workspace = memory + (64 - (size_t)memory % 64) % 64;
            if (lookup_run(good, y, workspace, NULL) != TINSMITH_OK) return 1;
            if (lookup_run(NULL, y, workspace, NULL) != TINSMITH_BAD_ARGUMENT) return 2;
            if (lookup_run(good, NULL, workspace, NULL) != TINSMITH_BAD_ARGUMENT) return 3;
            if (lookup_run(good, y, (char *)workspace + 4, NULL) != TINSMITH_BAD_ARGUMENT) return 4;
            if (lookup_run(above, y, workspace, NULL) != TINSMITH_INDEX_OUT_OF_RANGE) return 5;
            if (lookup_run(below, y, workspace, NULL) != TINSMITH_INDEX_OUT_OF_RANGE) return 6;
            return 0;
        }
    "#;
    tool::succeed(&mut Command::new(link("cc", &folder, &[&model], program)));
}

#[test]
fn a_library_describes_itself() {
    if !is_x86_64_linux("a_library_describes_itself") {
        return;
    }
    let folder = scratch("description");
    let model = Model::compile(&fixture("graphs/convolution.graph"), &folder, &config(X86_64, "v2"));
    let program = r#"
        #include <stdio.h>
        #include "convolution.h"
        static void show(const tinsmith_tensor *t) {
            uint32_t i;
            printf("%s: %u [", t->name, (unsigned)t->dtype);
            for (i = 0; i < t->rank; i++) printf("%s%lu", i ? "," : "", (unsigned long)t->dims[i]);
            printf("] %lu bytes\n", (unsigned long)t->bytes);
        }
        int main(void) {
            const tinsmith_model *m = convolution_model();
            printf("%s abi %u, %u in, %u out, workspace %d, align %u, hash %c%c.., target %s\n", m->name, (unsigned)m->abi, (unsigned)m->n_inputs,
                (unsigned)m->n_outputs, m->workspace_bytes == CONVOLUTION_WORKSPACE_BYTES, (unsigned)m->workspace_align, m->source_hash[0],
                m->source_hash[1], m->target);
            show(m->inputs);
            show(m->outputs);
            return m->version[0] == 0 || m->constant_bytes == 0;
        }
    "#;
    let text = tool::succeed(&mut Command::new(link("cc", &folder, &[&model], program)));
    let hash = &model.artifact.interface.source_hash[..2];
    assert_eq!(
        text,
        format!(
            "convolution abi 2, 1 in, 1 out, workspace 1, align 64, hash {hash}.., target x86_64-unknown-linux-gnu at x86-64-v2\n\
             /image:0: 12 [1,3,19,17] 3876 bytes\n\
             float: 12 [1,10,5,4] 800 bytes\n"
        )
    );
}

#[test]
fn headers_are_c_and_cpp_without_warnings() {
    let folder = scratch("headers");
    compile_all(&folder, &config(X86_64, "v1"));
    let include: String = FIXTURES
        .iter()
        .chain(&CONTROL_FLOW)
        .map(|f| format!("#include \"{}.h\"\n", Path::new(f).file_stem().expect("a name").display()))
        .collect();
    for name in ["all.c", "all.cpp"] {
        std::fs::write(folder.join(name), format!("{include}{include}int main(void) {{ return 0; }}\n")).expect("written");
    }
    let check = |compiler: &str, standard: &str, file: &str| {
        if !tool::exists(compiler) {
            return skip("headers_are_c_and_cpp_without_warnings", &format!("there is no {compiler}"));
        }
        let flags = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-Wconversion", "-Wshadow"];
        tool::succeed(Command::new(compiler).arg(format!("-std={standard}")).args(flags).arg(folder.join(file)));
    };
    for standard in ["c99", "c11", "gnu17"] {
        check("cc", standard, "all.c");
    }
    for standard in ["c++11", "c++17"] {
        check("g++", standard, "all.cpp");
    }
}

#[test]
fn a_shared_library_needs_no_text_relocations_and_no_executable_stack() {
    for (target, cc) in [(X86_64, "cc"), (AARCH64, "aarch64-linux-gnu-gcc")] {
        let test = format!("a shared library for {target}");
        if cc == "cc" && !is_x86_64_linux(&test) {
            continue;
        }
        if !tool::exists(cc) {
            skip(&test, &format!("there is no {cc}"));
            continue;
        }
        let folder = scratch(&format!("shared-{target}"));
        let models = compile_all(&folder, &Config { target: Some(target.to_owned()), ..Config::default() });
        let shared = folder.join("libmodels.so");
        let mut command = Command::new(cc);
        command.args(["-shared", "-nostdlib", "-Wl,-z,text", "-Wl,-z,defs", "-Wl,--fatal-warnings", "-Wl,--whole-archive"]);
        command.args(models.iter().map(|m| m.archive(&folder))).args(["-Wl,--no-whole-archive", "-lc"]).arg("-o").arg(&shared);
        tool::succeed(&mut command);
        if !tool::exists("readelf") {
            skip(&test, "there is no readelf");
            continue;
        }
        let text = tool::succeed(Command::new("readelf").args(["-lWd"]).arg(&shared));
        assert!(text.lines().any(|l| l.contains("GNU_STACK") && l.contains("RW ")), "{text}");
        assert!(!text.contains("TEXTREL"), "{text}");
    }
}

#[test]
fn an_unused_model_is_dropped_by_the_linker() {
    if !is_x86_64_linux("an_unused_model_is_dropped_by_the_linker") {
        return;
    }
    let folder = scratch("unused");
    let model = Model::compile(&fixture(FIXTURES[0]), &folder, &config(X86_64, "v1"));
    let program = "#include \"two_layers.h\"\nint main(void) { return two_layers_model() == NULL; }\n";
    std::fs::write(folder.join("main.c"), program).expect("written");
    let out = folder.join("program");
    let mut command = Command::new("cc");
    command.args(["-Wl,--gc-sections", "-I"]).arg(&folder).arg(folder.join("main.c")).arg(model.archive(&folder)).arg("-o").arg(&out);
    tool::succeed(&mut command);
    let symbols = tool::succeed(Command::new("nm").arg(&out));
    assert!(symbols.contains("two_layers_model") && !symbols.contains("kernel."), "{symbols}");
}

#[test]
fn the_rust_module_runs_in_every_edition_since_2018() {
    if !is_x86_64_linux("the_rust_module_runs_in_every_edition_since_2018") {
        return;
    }
    let folder = scratch("rust");
    let config = config(X86_64, "v1");
    let model = Model::compile(&fixture("graphs/lookup.graph"), &folder, &config);
    Model::compile(&fixture("graphs/convolution.graph"), &folder, &config);
    let main = r#"
        mod lookup { include!("lookup.rs"); }
        #[allow(dead_code)]
        mod convolution { include!("convolution.rs"); }
        fn main() {
            let mut workspace = lookup::Workspace::boxed();
            let mut y = [0f32; 24];
            lookup::run(&[0, 1, 2, 6], &mut y, &mut workspace).unwrap();
            assert!(y.iter().any(|&x| x != 0.0));
            assert_eq!(lookup::run(&[0, 1, 2, 7], &mut y, &mut workspace), Err(lookup::Status::IndexOutOfRange));
            let mut small = lookup::Workspace::new();
            assert_eq!(lookup::run(&[0, 0, 0, 0], &mut y, &mut small), Ok(()));
            let pool = lookup::Pool::new(2).unwrap();
            let alone = y;
            assert_eq!(lookup::run_with(&[0, 0, 0, 0], &mut y, &mut small, &pool), Ok(()));
            assert_eq!(lookup::run(&[0, 0, 0, 0], &mut y, &mut small), Ok(()));
            assert_eq!(alone, y);
            assert_eq!(lookup::SOURCE_HASH.len(), 64);
            assert_eq!(lookup::Status::IndexOutOfRange.to_string(), "an index that the inputs decide is outside its tensor");
        }
    "#;
    std::fs::write(folder.join("main.rs"), main).expect("written");
    for edition in ["2018", "2021", "2024"] {
        let out = folder.join(format!("program-{edition}"));
        let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
        command.args(["--edition", edition, "-Dwarnings"]).arg("-L").arg(&folder).args(["-lstatic=lookup", "-lstatic=convolution"]);
        tool::succeed(command.arg(folder.join("main.rs")).arg("-o").arg(&out));
        tool::succeed(&mut Command::new(out));
    }
    drop(model);
}

#[test]
fn build_systems_find_the_library() {
    if !is_x86_64_linux("build_systems_find_the_library") {
        return;
    }
    let folder = scratch("build-systems");
    let model = Model::compile(&fixture(FIXTURES[0]), &folder, &config(X86_64, "v1"));
    let main = folder.join("main.c");
    std::fs::write(&main, source(&[&model], Checks::default())).expect("written");
    if tool::exists("pkg-config") {
        let flags = tool::succeed(Command::new("pkg-config").env("PKG_CONFIG_PATH", &folder).args(["--cflags", "--libs", "two_layers"]));
        let out = folder.join("by-pkg-config");
        tool::succeed(Command::new("cc").arg(&main).args(flags.split_whitespace()).args(["-lm", "-o"]).arg(&out));
        tool::succeed(&mut Command::new(out));
    } else {
        skip("the library by pkg-config", "there is no pkg-config");
    }
    if tool::exists("cmake") {
        let project = "cmake_minimum_required(VERSION 3.16)\nproject(t C)\nfind_package(two_layers CONFIG REQUIRED)\n\
                       add_executable(t main.c)\ntarget_link_libraries(t PRIVATE two_layers::two_layers m)\n";
        std::fs::write(folder.join("CMakeLists.txt"), project).expect("written");
        let build = folder.join("cmake");
        tool::succeed(
            Command::new("cmake").arg("-S").arg(&folder).arg("-B").arg(&build).arg(format!("-DCMAKE_PREFIX_PATH={}", folder.display())),
        );
        tool::succeed(Command::new("cmake").arg("--build").arg(&build));
        tool::succeed(&mut Command::new(build.join("t")));
    } else {
        skip("the library by CMake", "there is no cmake");
    }
}

#[test]
fn the_same_model_gives_the_same_library() {
    let bytes = |folder: &str| {
        let folder = scratch(folder);
        let artifact = tinsmith::compile(&fixture(FIXTURES[1]), &config(AARCH64, "armv8-a")).expect("it compiles");
        let written = artifact.write(&folder, &[Output::Library, Output::Report]).expect("it is written");
        written.files.iter().map(|f| std::fs::read(f).expect("the file")).collect::<Vec<_>>()
    };
    assert_eq!(bytes("same-1"), bytes("same-2"));
}

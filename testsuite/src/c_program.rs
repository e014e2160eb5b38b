//! C programs that call compiled models and compare what they give with the graph interpreter's outputs.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tinsmith::emit::Port;
use tinsmith::tensor::{DType, Tensor};
use tinsmith::{Artifact, Config, Output, graph};

use crate::tool;

/// A compiled model with inputs and what the interpreter gives for them.
#[derive(Clone, Debug)]
pub struct Model {
    /// What was compiled.
    pub artifact: Artifact,
    /// Arrays for its inputs.
    pub inputs: Vec<Tensor>,
    /// The interpreter's outputs.
    pub expected: Vec<Tensor>,
}

impl Model {
    /// Compiles a fixture into a folder.
    ///
    /// # Panics
    /// If it cannot be compiled or interpreted.
    pub fn compile(fixture: &Path, folder: &Path, config: &Config) -> Self {
        let artifact = tinsmith::compile(fixture, config).unwrap_or_else(|e| panic!("{}: {e}", fixture.display()));
        artifact.write(folder, &[Output::Library]).expect("the library is written");
        let inputs: Vec<Tensor> =
            artifact.interface.inputs.iter().enumerate().map(|(i, p)| crate::random(p.dtype, &p.dims, 1 + i as u64)).collect();
        let expected = graph::eval(&artifact.source.graph, &inputs).expect("the interpreter takes it");
        Model { artifact, inputs, expected }
    }

    /// Its static library.
    pub fn archive(&self, folder: &Path) -> PathBuf {
        folder.join(format!("lib{}.a", self.artifact.interface.name))
    }
}

/// What the program does beside running the models.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Checks {
    /// Any use of the heap during a run ends the program.
    pub no_heap: bool,
}

/// A program that runs every model twice and exits with 0 if all outputs are as expected, with 1 where one is not, and with 10
/// and the status where a run returns one.
pub fn source(models: &[&Model], checks: Checks) -> String {
    let mut text = String::from("#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
    for model in models {
        let _ = writeln!(text, "#include \"{}.h\"", model.artifact.interface.name);
    }
    if checks.no_heap {
        text += HEAP;
    } else {
        text += "static int running;\n";
    }
    text += COMPARE;
    for model in models {
        let interface = &model.artifact.interface;
        for (prefix, ports, tensors) in [("in", &interface.inputs, &model.inputs), ("want", &interface.outputs, &model.expected)] {
            for (i, (port, tensor)) in ports.iter().zip(tensors).enumerate() {
                let values: Vec<String> = literals(tensor);
                let _ = writeln!(
                    text,
                    "static const {} {}_{prefix}{i}[{}] = {{{}}};",
                    c_type(port.dtype),
                    interface.name,
                    values.len().max(1),
                    values.join(", ")
                );
            }
        }
        for (i, port) in interface.outputs.iter().enumerate() {
            let _ = writeln!(text, "static {} {}_out{i}[{}];", c_type(port.dtype), interface.name, port.n_elements().max(1));
        }
        let upper = interface.name.to_ascii_uppercase();
        let _ = writeln!(text, "static unsigned char {}_memory[{upper}_WORKSPACE_BYTES + {upper}_WORKSPACE_ALIGN];", interface.name);
    }
    text += "int main(void) {\n    int wrong = 0, i;\n    void *workspace;\n    tinsmith_status status;\n";
    for model in models {
        text += &calls(model);
    }
    text + "    (void)i;\n    return wrong;\n}\n"
}

fn calls(model: &Model) -> String {
    let interface = &model.artifact.interface;
    let name = &interface.name;
    let inputs = (0..interface.inputs.len()).map(|i| format!("{name}_in{i}"));
    let outputs = (0..interface.outputs.len()).map(|i| format!("{name}_out{i}"));
    let arguments: Vec<String> = inputs.chain(outputs).collect();
    let mut text = format!(
        "    workspace = {name}_memory + (64 - (size_t){name}_memory % 64) % 64;\n\
         \x20   for (i = 0; i < 2; i++) {{\n\
         \x20       memset(workspace, 0xff, {}_WORKSPACE_BYTES);\n\
         \x20       running = 1;\n\
         \x20       status = {name}_run({}, workspace, NULL);\n\
         \x20       running = 0;\n\
         \x20       if (status != TINSMITH_OK) {{\n\
         \x20           fprintf(stderr, \"{name}: %s\\n\", tinsmith_status_text(status));\n\
         \x20           return 10 + (int)status;\n\
         \x20       }}\n",
        name.to_ascii_uppercase(),
        arguments.join(", "),
    );
    for (i, port) in interface.outputs.iter().enumerate() {
        let n = port.n_elements();
        let _ = writeln!(text, "        wrong |= differs(\"{name} {i}\", {n}, {name}_out{i}, {name}_want{i}, {});", kind(port));
    }
    text + "    }\n"
}

/// 1 for `float`, 2 for `double`, otherwise 0: compared bit by bit, with the size in the hundreds.
fn kind(port: &Port) -> usize {
    match port.dtype {
        DType::F32 => 1,
        DType::F64 => 2,
        other => 100 * other.size_bytes(),
    }
}

const HEAP: &str = "
static int running;
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void __libc_free(void *);
static void heap(void) { if (running) abort(); }
void *malloc(size_t n) { heap(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { heap(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { heap(); return __libc_realloc(p, n); }
void free(void *p) { heap(); __libc_free(p); }
";

const COMPARE: &str = "
static int differs(const char *what, size_t n, const void *found, const void *expected, int kind) {
    size_t i;
    if (kind >= 100) {
        if (memcmp(found, expected, n * (size_t)(kind / 100)) == 0) return 0;
        fprintf(stderr, \"%s differs\\n\", what);
        return 1;
    }
    for (i = 0; i < n; i++) {
        double a = kind == 1 ? (double)((const float *)found)[i] : ((const double *)found)[i];
        double b = kind == 1 ? (double)((const float *)expected)[i] : ((const double *)expected)[i];
        if (!(fabs(a - b) <= 1e-5 + 1e-4 * fabs(b))) {
            fprintf(stderr, \"%s[%lu]: expected %g, found %g\\n\", what, (unsigned long)i, b, a);
            return 1;
        }
    }
    return 0;
}
";

fn literals(tensor: &Tensor) -> Vec<String> {
    let dtype = tensor.dtype();
    if dtype.is_float() {
        return tensor.to_f64s().iter().map(|x| format!("{x:?}{}", if dtype == DType::F32 { "f" } else { "" })).collect();
    }
    tensor.to_ints().iter().map(i128::to_string).collect()
}

fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool | DType::U8 => "uint8_t",
        DType::I8 => "int8_t",
        DType::I16 => "int16_t",
        DType::I32 => "int32_t",
        DType::I64 => "int64_t",
        DType::U16 | DType::F16 | DType::BF16 => "uint16_t",
        DType::U32 => "uint32_t",
        DType::U64 => "uint64_t",
        DType::F32 => "float",
        DType::F64 => "double",
        small => c_type(small.storage()),
    }
}

/// Compiles a program against libraries in a folder, with warnings as errors; `cc` is a compiler, and flags if need be.
///
/// # Panics
/// With what the C compiler said, if it does not take it.
pub fn link(cc: &str, folder: &Path, models: &[&Model], program: &str) -> PathBuf {
    let (main, out) = (folder.join("main.c"), folder.join("program"));
    std::fs::write(&main, program).expect("the program is written");
    let mut words = cc.split_whitespace();
    let mut command = Command::new(words.next().expect("a compiler"));
    command.args(words).args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1"]).arg("-I").arg(folder).arg(&main);
    command.args(models.iter().map(|m| m.archive(folder))).args(["-lm", "-o"]).arg(&out);
    tool::succeed(&mut command);
    out
}

//! The C header: C99 and C++, without warnings. What all models share is behind a guard of its own, so that the headers of
//! several models can be included together.

use std::fmt::Write;

use tinsmith_targets::abi::{ABI_VERSION, DTypeCode, StatusCode};

use super::names::in_comment;
use super::{Interface, Language, Port, size_code};
use crate::codegen::program::ALIGN_BYTES;
use crate::tensor::DType;

/// The text of `NAME.h`.
pub fn header(interface: &Interface) -> String {
    let name = &interface.name;
    let upper = name.to_ascii_uppercase();
    let mut parameters: Vec<String> = vec![];
    if !interface.varying.is_empty() {
        parameters.push(format!("const {name}_sizes *sizes"));
    }
    for (port, is_output) in interface.parameters() {
        let constant = if is_output { "" } else { "const " };
        let told = if port.ident == port.name { String::new() } else { format!(" \"{}\"", in_comment(&port.name)) };
        let actual = interface.actual_shape(port).map_or(String::new(), |s| format!(" {s}"));
        let shape = if port.sizes.is_empty() { dims(port) } else { port.sized_ty(&interface.sizes()) };
        parameters.push(format!("{constant}{} *{} /* {}{told}{actual} */", c_type(port.dtype), port.ident, in_comment(&shape)));
    }
    let has_state = !interface.states.is_empty();
    if has_state {
        parameters.push(format!("void *state /* {upper}_STATE_BYTES, aligned */"));
    }
    parameters.push(format!("void *workspace /* {upper}_WORKSPACE_BYTES, aligned */"));
    parameters.push("tinsmith_pool *pool /* NULL: this thread only */".to_owned());
    let indent = format!(",\n{}", " ".repeat("tinsmith_status _run(".len() + name.len()));
    let mut sizes = String::new();
    for port in interface.parameters().map(|(p, _)| p).chain(interface.state_ports().map(|s| s.0)) {
        let _ = writeln!(sizes, "#define {upper}_{}_ELEMENTS {}u", port.ident.to_ascii_uppercase(), port.n_elements());
    }
    let most = if interface.varying.is_empty() { "" } else { ", at the greatest sizes" };
    let struct_of_sizes = sizes_struct(interface);
    format!(
        r#"/* {origin}. Generated; do not edit. */
#ifndef TINSMITH_MODEL_{upper}_H
#define TINSMITH_MODEL_{upper}_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{shared}
/* The memory that a run works in. It holds nothing between runs; runs at the same time need one each. */
#define {upper}_WORKSPACE_BYTES {workspace}u
#define {upper}_WORKSPACE_ALIGN {ALIGN_BYTES}u
/* The most threads of a pool that a run uses. */
#define {upper}_MAX_THREADS {threads}u

{struct_of_sizes}/* Number of elements of every {elements_of}{most}. */
{sizes}{states}
/* Computes the outputs from the inputs{computes}. Inputs, outputs{and_state} and workspace must not overlap.
   Tensors are row-major{halves}. */
tinsmith_status {name}_run({parameters});

/* What this library is: names, types, shapes, sizes, version. */
const tinsmith_model *{name}_model(void);

#ifdef __cplusplus
}}
#endif

#endif
"#,
        origin = interface.origin(),
        shared = shared(),
        workspace = interface.workspace_bytes,
        threads = interface.max_threads,
        parameters = parameters.join(&indent),
        states = states(interface),
        computes =
            if has_state { " and the state, and updates the state. Never allocates" } else { ". Never allocates, and keeps no state" },
        and_state = if has_state { ", state" } else { "" },
        elements_of = if has_state { "input, output and state" } else { "input and output" },
        halves = if interface.inputs.iter().chain(&interface.outputs).any(|p| p.dtype.is_half()) {
            "; 16-bit floats are their bits"
        } else {
            ""
        },
    )
}

/// Sizes, places and the initialization of the state block.
fn states(interface: &Interface) -> String {
    if interface.states.is_empty() {
        return String::new();
    }
    let (name, upper) = (&interface.name, interface.name.to_ascii_uppercase());
    let mut places = String::new();
    for (port, next, state) in interface.state_ports() {
        let begins = if state.has_initial { "as the model says" } else { "with zeros" };
        let (was, next, ty) = (in_comment(&port.name), in_comment(next), port.ty());
        let ident = port.ident.to_ascii_uppercase();
        let _ = writeln!(
            places,
            "#define {upper}_STATE_{ident}_OFFSET {}u /* {ty} \"{was}\", next \"{next}\"; begins {begins} */",
            state.offset
        );
    }
    format!(
        r#"
/* What a stream keeps from one run to the next: one block for each, in memory of the caller. A run that returns {bad} or
   {lacks} leaves it as it was; after any other failure it must be initialized again. */
#define {upper}_STATE_BYTES {bytes}u
#define {upper}_STATE_ALIGN {ALIGN_BYTES}u
/* Where the block holds each state, row-major, between runs: it may be read and written there. */
{places}
/* Makes a block the beginning of a stream. */
tinsmith_status {name}_state_init(void *state);
"#,
        bad = StatusCode::BadArgument.c_name(),
        lacks = StatusCode::CpuLacksFeature.c_name(),
        bytes = interface.state_bytes.max(ALIGN_BYTES),
    )
}

/// The struct of what a caller chooses for every run, and the elements and workspace that a run needs.
fn sizes_struct(interface: &Interface) -> String {
    let name = &interface.name;
    if interface.varying.is_empty() {
        return String::new();
    }
    let mut text = String::from("/* What every run chooses; outside of these ranges it returns TINSMITH_SIZE_OUT_OF_RANGE. */\n");
    let _ = writeln!(text, "typedef struct {name}_sizes {{");
    for (p, field) in &interface.varying {
        let _ = writeln!(text, "    uint64_t {field}; /* {}, {} */", in_comment(&p.name), p.range_text());
    }
    let _ = writeln!(text, "}} {name}_sizes;\n");
    let parameter = |p: u32| format!("(int64_t)sizes->{}", interface.varying[p as usize].1);
    let floor = |x: &str, d: i64| format!("(({x} - ({x} % {d} + {d}) % {d}) / {d})");
    let extremum = |x: &str, greater: bool, c: i64| format!("({x} {} {c} ? {x} : {c})", if greater { '>' } else { '<' });
    let c = Language { parameter: &parameter, floor: &floor, extremum: &extremum };
    let _ = writeln!(text, "/* Number of elements of an input or output in one run. */");
    for port in interface.parameters().map(|p| p.0).filter(|p| !p.sizes.is_empty()) {
        let n = size_code(&port.n_elements_of_run(), &c);
        let _ = writeln!(
            text,
            "static inline uint64_t {name}_{}_elements(const {name}_sizes *sizes) {{\n    return (uint64_t)({n});\n}}",
            port.ident
        );
    }
    text += &workspace_function(interface, &c);
    text
}

/// The function of what a run needs of the workspace.
fn workspace_function(interface: &Interface, c: &Language<'_>) -> String {
    let (name, upper) = (&interface.name, interface.name.to_ascii_uppercase());
    let mut text = format!(
        "/* Bytes of workspace that a run of these sizes needs: it touches nothing behind them. */\n\
         static inline uint64_t {name}_workspace_bytes(const {name}_sizes *sizes) {{\n    int64_t most = {ALIGN_BYTES}, need;\n    (void)sizes;\n"
    );
    for need in &interface.workspace_needs {
        let _ = writeln!(text, "    need = {};\n    if (need > most) most = need;", size_code(need, c));
    }
    let _ = writeln!(text, "    return most < (int64_t){upper}_WORKSPACE_BYTES ? (uint64_t)most : {upper}_WORKSPACE_BYTES;\n}}\n");
    text
}

/// Types and functions that are the same for every model.
fn shared() -> String {
    let mut statuses = vec![];
    let mut cases = String::new();
    for status in StatusCode::ALL {
        statuses.push(format!("    /* {} */\n    {} = {}", capitalized(status.text()), status.c_name(), status.code()));
        let _ = writeln!(cases, "    case {}: return \"{}\";", status.c_name(), status.text());
    }
    let dtypes: Vec<String> =
        DTypeCode::ALL.iter().map(|(code, name)| format!("    TINSMITH_{} = {}", name.to_ascii_uppercase(), *code as u32)).collect();
    format!(
        r#"#ifndef TINSMITH_ABI_VERSION
#define TINSMITH_ABI_VERSION {ABI_VERSION}

/* What a run returns. */
typedef enum tinsmith_status {{
{statuses}
}} tinsmith_status;

/* Element types. F16 and BF16 travel as their bits in uint16_t, BOOL as 0 or 1 in uint8_t. */
typedef enum tinsmith_dtype {{
{dtypes}
}} tinsmith_dtype;

/* Threads to run on: tinsmith_pool_create makes one, or the application fills in its own. */
typedef struct tinsmith_pool {{
    void *context; /* for parallel_for */
    uint32_t n_threads; /* the caller's included */
    /* Calls body(data, i) once for every i below n, on any threads, and returns when all calls have. */
    void (*parallel_for)(void *context, uint32_t n, void (*body)(void *data, uint32_t i), void *data);
}} tinsmith_pool;

/* A pool of so many threads, the caller's included; for 0, of as many as there are processors. NULL where the system gives no threads.
   Several threads may use a pool at the same time: whoever finds it busy works alone. */
tinsmith_pool *tinsmith_pool_create(uint32_t n_threads);
/* Joins the threads. The pool must not be in use; NULL is fine. */
void tinsmith_pool_destroy(tinsmith_pool *pool);

/* An input or an output. */
typedef struct tinsmith_tensor {{
    const char *name;
    const uint64_t *dims; /* outermost first */
    uint32_t rank;
    uint32_t dtype; /* a tinsmith_dtype */
    uint64_t bytes;
}} tinsmith_tensor;

/* What a library says about itself. */
typedef struct tinsmith_model {{
    uint32_t abi; /* TINSMITH_ABI_VERSION of the compiler */
    uint32_t n_inputs;
    uint32_t n_outputs;
    uint32_t workspace_align;
    uint64_t workspace_bytes;
    uint64_t constant_bytes; /* size of the weights */
    const char *name;
    const char *version; /* of the compiler */
    const char *source_hash; /* SHA-256 of the model's file */
    const char *target;
    const tinsmith_tensor *inputs; /* in the order of the parameters */
    const tinsmith_tensor *outputs;
    uint64_t state_bytes; /* size of a state block; 0 where the model has none */
    uint64_t n_states;
    const tinsmith_tensor *states; /* in the order of their places in the block, each at a multiple of 64 bytes */
}} tinsmith_model;

/* A status in words. */
static inline const char *tinsmith_status_text(tinsmith_status status) {{
    switch (status) {{
{cases}    }}
    return "unknown status";
}}

#elif TINSMITH_ABI_VERSION != {ABI_VERSION}
#error "headers of models from different versions of Tinsmith"
#endif
"#,
        statuses = statuses.join(",\n"),
        dtypes = dtypes.join(",\n"),
    )
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

/// The shape, and the element type where C's does not say it.
fn dims(port: &Port) -> String {
    let ty = port.ty();
    match port.dtype {
        DType::Bool | DType::F16 | DType::BF16 => ty,
        small if small.is_small() => ty,
        _ => ty[port.dtype.name().len()..].to_owned(),
    }
}

fn capitalized(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_ascii_uppercase())
}

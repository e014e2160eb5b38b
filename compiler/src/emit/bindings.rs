//! The Rust module: a safe, typed `run` over the library, for `include!` in a module of any edition since 2018. It needs nothing but
//! `core`, and `alloc` for [`Workspace::boxed`](self).

use std::fmt::Write;

use tinsmith_targets::abi::StatusCode;

use super::names::in_comment;
use super::{Interface, Language, Port, size_code};
use crate::codegen::program::ALIGN_BYTES;
use crate::tensor::DType;

/// The text of `NAME.rs`.
pub fn bindings(interface: &Interface) -> String {
    let name = &interface.name;
    let ports: Vec<(&Port, bool)> = interface.parameters().collect();
    let (mut c_parameters, mut parameters, mut names) = (String::new(), String::new(), String::new());
    let (mut arguments, mut docs) = (String::new(), String::new());
    let (mut checks, mut sizes) = (String::new(), String::new());
    let field = |p: u32| format!("(sizes.{} as i64)", interface.varying[p as usize].1);
    let rust = Language {
        parameter: &field,
        floor: &|x: &str, d: i64| format!("({x}).div_euclid({d})"),
        extremum: &|x: &str, greater: bool, c: i64| format!("({x}).{}({c})", if greater { "max" } else { "min" }),
    };
    if !interface.varying.is_empty() {
        sizes += "/// What every run chooses.\n#[repr(C)]\n#[derive(Clone, Copy, PartialEq, Eq, Debug)]\npub struct Sizes {\n";
        for (p, field) in &interface.varying {
            let name = in_comment(&p.name).replace('`', "'");
            let _ = writeln!(sizes, "    /// `{name}`, {}.\n    pub {field}: u64,", p.range_text());
            let between = if p.step > 1 { format!(" || (sizes.{field} - {}) % {} != 0", p.low, p.step) } else { String::new() };
            let _ = writeln!(
                checks,
                "    if !({}..={}).contains(&sizes.{field}){between} {{\n        return Err(Status::SizeOutOfRange);\n    }}",
                p.low, p.high
            );
        }
        sizes += "}\n\n";
        c_parameters += "sizes: *const Sizes, ";
        parameters += "sizes: &Sizes, ";
        names += "sizes, ";
        arguments += "sizes, ";
    }
    for (port, is_output) in ports {
        let (ident, ty, n) = (&port.ident, rust_type(port.dtype), port.n_elements());
        let (pointer, reference, cast) = if is_output { ("*mut", "&mut ", "as_mut_ptr") } else { ("*const", "&", "as_ptr") };
        let direction = if is_output { "Output" } else { "Input" };
        let _ = write!(c_parameters, "{ident}: {pointer} {ty}, ");
        if port.sizes.is_empty() {
            let _ = write!(parameters, "{ident}: {reference}[{ty}; {n}], ");
        } else {
            let _ = write!(parameters, "{ident}: {reference}[{ty}], ");
            let n = size_code(&port.n_elements_of_run(), &rust);
            let _ = writeln!(checks, "    if {ident}.len() as i64 != {n} {{\n        return Err(Status::BadArgument);\n    }}");
        }
        let _ = write!(names, "{ident}, ");
        let _ = write!(arguments, "{ident}.{cast}(), ");
        let actual = interface.actual_shape(port).map_or(String::new(), |s| format!(" {s}"));
        let was = in_comment(&port.name).replace('`', "'");
        let ty = in_comment(&port.sized_ty(&interface.sizes()));
        let _ = writeln!(docs, "/// - `{ident}`: {} `{was}`, `{ty}`{actual}", direction.to_lowercase());
    }
    if !interface.states.is_empty() {
        c_parameters += "state: *mut ::core::ffi::c_void, ";
        parameters += "state: &mut State, ";
        names += "state, ";
        arguments += "state as *mut State as *mut ::core::ffi::c_void, ";
        docs += "/// - `state`: what the stream keeps from one run to the next\n";
    }
    let (mut variants, mut from, mut text) = (String::new(), String::new(), String::new());
    for status in StatusCode::ALL.into_iter().filter(|&s| s != StatusCode::Ok) {
        let _ = writeln!(variants, "    /// {}.\n    {status:?},", status.text());
        let _ = writeln!(from, "        {} => Err(Status::{status:?}),", status.code());
        let _ = writeln!(text, "            Status::{status:?} => f.write_str({:?}),", status.text());
    }
    format!(
        r#"// {origin}. Generated; do not edit.

/// Size of [`Workspace`].
pub const WORKSPACE_BYTES: usize = {workspace};
/// Version of the compiler.
#[allow(dead_code)]
pub const VERSION: &str = {version:?};
/// SHA-256 of the model's file.
#[allow(dead_code)]
pub const SOURCE_HASH: &str = {hash:?};

/// The memory that a run works in. It holds nothing between runs.
#[repr(C, align({ALIGN_BYTES}))]
pub struct Workspace([u8; WORKSPACE_BYTES]);

impl Workspace {{
    /// A workspace where it is written: in a `static`, or on a stack that is large enough.
    #[allow(dead_code, clippy::large_stack_arrays, clippy::new_without_default)]
    pub const fn new() -> Self {{
        Workspace([0; WORKSPACE_BYTES])
    }}

    /// A workspace on the heap.
    #[allow(dead_code)]
    pub fn boxed() -> allocator::boxed::Box<Self> {{
        let layout = ::core::alloc::Layout::new::<Self>();
        // SAFETY: the layout is that of `Self`, whose size is not zero and of which every byte may be zero.
        unsafe {{
            let memory = allocator::alloc::alloc_zeroed(layout);
            if memory.is_null() {{
                allocator::alloc::handle_alloc_error(layout)
            }}
            allocator::boxed::Box::from_raw(memory as *mut Self)
        }}
    }}
}}

mod allocator {{
    extern crate alloc as crate_alloc;
    pub use self::crate_alloc::{{alloc, boxed}};
}}

{sizes}/// Why a run did not compute its outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code)]
pub enum Status {{
{variants}    /// A code that this module does not know.
    Unknown(i32),
}}

impl ::core::fmt::Display for Status {{
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{
        match self {{
{text}            Status::Unknown(code) => write!(f, "status {{}}", code),
        }}
    }}
}}

impl ::core::error::Error for Status {{}}

/// Threads to run on.
#[derive(Debug)]
pub struct Pool(::core::ptr::NonNull<::core::ffi::c_void>);

// SAFETY: several threads may use a pool at the same time.
unsafe impl Send for Pool {{}}
// SAFETY: as above.
unsafe impl Sync for Pool {{}}

impl Pool {{
    /// A pool of so many threads, the caller's included; for 0, of as many as there are processors. `None` where the system gives no
    /// threads.
    #[allow(dead_code)]
    pub fn new(n_threads: u32) -> ::core::option::Option<Pool> {{
        // SAFETY: any number is allowed.
        ::core::ptr::NonNull::new(unsafe {{ tinsmith_pool_create(n_threads) }}).map(Pool)
    }}
}}

impl Drop for Pool {{
    fn drop(&mut self) {{
        // SAFETY: the pool came from `tinsmith_pool_create`, and nobody else has it.
        unsafe {{ tinsmith_pool_destroy(self.0.as_ptr()) }}
    }}
}}

unsafe extern "C" {{
    fn tinsmith_pool_create(n_threads: u32) -> *mut ::core::ffi::c_void;
    fn tinsmith_pool_destroy(pool: *mut ::core::ffi::c_void);
    fn {name}_run({c_parameters}workspace: *mut ::core::ffi::c_void, pool: *mut ::core::ffi::c_void) -> i32;
{state_init}}}
{state}
/// Runs the model on this thread:
///
{docs}///
/// # Errors
/// The library's status, if it is not 0.
#[allow(dead_code, non_snake_case, clippy::too_many_arguments)]
pub fn run({parameters}workspace: &mut Workspace) -> ::core::result::Result<(), Status> {{
    run_on({names}workspace, ::core::ptr::null_mut())
}}

/// As [`run`], on the threads of a pool; the results are the same to the last bit.
///
/// # Errors
/// As [`run`].
#[allow(dead_code, non_snake_case, clippy::too_many_arguments)]
pub fn run_with({parameters}workspace: &mut Workspace, pool: &Pool) -> ::core::result::Result<(), Status> {{
    run_on({names}workspace, pool.0.as_ptr())
}}

#[allow(non_snake_case, clippy::too_many_arguments)]
fn run_on({parameters}workspace: &mut Workspace, pool: *mut ::core::ffi::c_void) -> ::core::result::Result<(), Status> {{
{checks}    let workspace = workspace as *mut Workspace as *mut ::core::ffi::c_void;
    // SAFETY: the arrays have the sizes that the library was compiled for, and the references keep them apart.
    let code = unsafe {{ {name}_run({arguments}workspace, pool) }};
    match code {{
        0 => Ok(()),
{from}        code => Err(Status::Unknown(code)),
    }}
}}
"#,
        state_init = if interface.states.is_empty() {
            String::new()
        } else {
            format!("    fn {name}_state_init(state: *mut ::core::ffi::c_void) -> i32;\n")
        },
        state = state(interface),
        origin = interface.origin(),
        workspace = interface.workspace_bytes,
        version = interface.version,
        hash = interface.source_hash,
    )
}

/// The type of the state block, with access to its parts.
fn state(interface: &Interface) -> String {
    if interface.states.is_empty() {
        return String::new();
    }
    let name = &interface.name;
    let mut parts = String::new();
    for (port, next, state) in interface.state_ports() {
        let ident = match port.ident.as_str() {
            own @ ("new" | "boxed" | "reset") => format!("{own}_"),
            other => other.to_owned(),
        };
        let plain = |name: &str| in_comment(name).replace('`', "'");
        let (was, next, of) = (plain(&port.name), plain(next), port.ty());
        let (ty, n, offset) = (rust_type(port.dtype), port.n_elements(), state.offset);
        let _ = write!(
            parts,
            r#"
    /// `{was}`, of which a run makes `{next}`: `{of}`.
    #[allow(dead_code, non_snake_case)]
    pub fn {ident}(&self) -> &[{ty}; {n}] {{
        // SAFETY: the block has such an array at this place, aligned, and every run leaves values of the type there.
        unsafe {{ &*(self as *const Self as *const u8).add({offset}).cast() }}
    }}

    /// The same, to be changed.
    #[allow(dead_code, non_snake_case)]
    pub fn {ident}_mut(&mut self) -> &mut [{ty}; {n}] {{
        // SAFETY: as above, and borrowed exclusively.
        unsafe {{ &mut *(self as *mut Self as *mut u8).add({offset}).cast() }}
    }}
"#
        );
    }
    format!(
        r#"
/// Size of [`State`].
pub const STATE_BYTES: usize = {bytes};

/// What a stream keeps from one run to the next. After a run that failed in its middle, as with an index out of range, it must be
/// [reset](State::reset).
#[repr(C, align({ALIGN_BYTES}))]
#[derive(Clone)]
pub struct State([u8; STATE_BYTES]);

impl State {{
    /// The beginning of a stream, where it is written: on a stack that is large enough.
    #[allow(dead_code, clippy::large_stack_arrays, clippy::new_without_default)]
    pub fn new() -> Self {{
        let mut state = State([0; STATE_BYTES]);
        state.reset();
        state
    }}

    /// The beginning of a stream, on the heap.
    #[allow(dead_code)]
    pub fn boxed() -> allocator::boxed::Box<Self> {{
        let layout = ::core::alloc::Layout::new::<Self>();
        // SAFETY: the layout is that of `Self`, whose size is not zero and of which every byte may be zero.
        let mut state = unsafe {{
            let memory = allocator::alloc::alloc_zeroed(layout);
            if memory.is_null() {{
                allocator::alloc::handle_alloc_error(layout)
            }}
            allocator::boxed::Box::from_raw(memory as *mut Self)
        }};
        state.reset();
        state
    }}

    /// Goes back to the beginning of a stream.
    #[allow(dead_code)]
    pub fn reset(&mut self) {{
        // SAFETY: the block has the size and alignment that the library wants, so that the status is always that of success.
        unsafe {{ {name}_state_init(self as *mut State as *mut ::core::ffi::c_void) }};
    }}
{parts}}}
"#,
        bytes = interface.state_bytes.max(ALIGN_BYTES),
    )
}

fn rust_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 | DType::BF16 => "u16",
        other => other.storage().name(),
    }
}

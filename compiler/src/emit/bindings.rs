//! The Rust module: a safe, typed `run` over the library, for `include!` in a module of any edition since 2018. It needs nothing but
//! `core`, and `alloc` for [`Workspace::boxed`](self).

use std::fmt::Write;

use tinsmith_targets::abi::StatusCode;

use super::names::in_comment;
use super::{Interface, Port};
use crate::codegen::program::ALIGN_BYTES;
use crate::tensor::DType;

/// The text of `NAME.rs`.
pub fn bindings(interface: &Interface) -> String {
    let name = &interface.name;
    let ports: Vec<(&Port, bool)> =
        interface.inputs.iter().map(|p| (p, false)).chain(interface.outputs.iter().map(|p| (p, true))).collect();
    let (mut c_parameters, mut parameters, mut names) = (String::new(), String::new(), String::new());
    let (mut arguments, mut docs) = (String::new(), String::new());
    for (port, is_output) in ports {
        let (ident, ty, n) = (&port.ident, rust_type(port.dtype), port.n_elements());
        let (pointer, reference, cast) = if is_output { ("*mut", "&mut ", "as_mut_ptr") } else { ("*const", "&", "as_ptr") };
        let direction = if is_output { "Output" } else { "Input" };
        let _ = write!(c_parameters, "{ident}: {pointer} {ty}, ");
        let _ = write!(parameters, "{ident}: {reference}[{ty}; {n}], ");
        let _ = write!(names, "{ident}, ");
        let _ = write!(arguments, "{ident}.{cast}(), ");
        let _ =
            writeln!(docs, "/// - `{ident}`: {} `{}`, `{}`", direction.to_lowercase(), in_comment(&port.name).replace('`', "'"), port.ty());
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

/// Why a run did not compute its outputs.
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
}}

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
    let workspace = workspace as *mut Workspace as *mut ::core::ffi::c_void;
    // SAFETY: the arrays have the sizes that the library was compiled for, and the references keep them apart.
    let code = unsafe {{ {name}_run({arguments}workspace, pool) }};
    match code {{
        0 => Ok(()),
{from}        code => Err(Status::Unknown(code)),
    }}
}}
"#,
        origin = interface.origin(),
        workspace = interface.workspace_bytes,
        version = interface.version,
        hash = interface.source_hash,
    )
}

fn rust_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 | DType::BF16 => "u16",
        other => other.storage().name(),
    }
}

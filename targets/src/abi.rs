//! What a compiled library and its callers agree on: status codes, and the structs that describe a model.
//!
//! The C header, the Rust module and the runtime all take it from here. Every target has 64-bit pointers and little-endian
//! numbers, so that these layouts are theirs too.

use core::ffi::{c_char, c_void};

/// What `NAME_run` returns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum StatusCode {
    /// The outputs are written.
    Ok = 0,
    /// A pointer is null, or the workspace is not aligned. Nothing was written.
    BadArgument = 1,
    /// The CPU or the system lacks a feature that the library was compiled for. Nothing was written.
    CpuLacksFeature = 2,
    /// An index that the inputs decide is outside its tensor. The outputs are not meaningful.
    IndexOutOfRange = 3,
    /// A size is outside the range that the library was compiled for. Nothing was written.
    SizeOutOfRange = 4,
}

impl StatusCode {
    /// Every code, in order.
    pub const ALL: [StatusCode; 5] =
        [StatusCode::Ok, StatusCode::BadArgument, StatusCode::CpuLacksFeature, StatusCode::IndexOutOfRange, StatusCode::SizeOutOfRange];

    /// Its number.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The code of this number.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.code() == code)
    }

    /// The name in C.
    pub fn c_name(self) -> &'static str {
        match self {
            StatusCode::Ok => "TINSMITH_OK",
            StatusCode::BadArgument => "TINSMITH_BAD_ARGUMENT",
            StatusCode::CpuLacksFeature => "TINSMITH_CPU_LACKS_FEATURE",
            StatusCode::IndexOutOfRange => "TINSMITH_INDEX_OUT_OF_RANGE",
            StatusCode::SizeOutOfRange => "TINSMITH_SIZE_OUT_OF_RANGE",
        }
    }

    /// What it means, in a few words.
    pub fn text(self) -> &'static str {
        match self {
            StatusCode::Ok => "ok",
            StatusCode::BadArgument => "a pointer is null, or the workspace is not aligned",
            StatusCode::CpuLacksFeature => "the CPU or the system lacks a feature that the library was compiled for",
            StatusCode::IndexOutOfRange => "an index that the inputs decide is outside its tensor",
            StatusCode::SizeOutOfRange => "a size is outside the range that the library was compiled for",
        }
    }
}

/// Element types as a model describes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are Rust's own")]
pub enum DTypeCode {
    Bool = 1,
    I8 = 2,
    I16 = 3,
    I32 = 4,
    I64 = 5,
    U8 = 6,
    U16 = 7,
    U32 = 8,
    U64 = 9,
    F16 = 10,
    BF16 = 11,
    F32 = 12,
    F64 = 13,
}

impl DTypeCode {
    /// Every element type with its name in Rust, in the order of the numbers.
    pub const ALL: [(DTypeCode, &'static str); 13] = [
        (DTypeCode::Bool, "bool"),
        (DTypeCode::I8, "i8"),
        (DTypeCode::I16, "i16"),
        (DTypeCode::I32, "i32"),
        (DTypeCode::I64, "i64"),
        (DTypeCode::U8, "u8"),
        (DTypeCode::U16, "u16"),
        (DTypeCode::U32, "u32"),
        (DTypeCode::U64, "u64"),
        (DTypeCode::F16, "f16"),
        (DTypeCode::BF16, "bf16"),
        (DTypeCode::F32, "f32"),
        (DTypeCode::F64, "f64"),
    ];

    /// The element type of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|x| x.1 == name).map(|x| x.0)
    }
}

/// Version of these layouts; the first field of [`Model`].
pub const ABI_VERSION: u32 = 2;

/// One input or output: `tinsmith_tensor` in C.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Tensor {
    /// The model's name for it, UTF-8, ending in NUL.
    pub name: *const c_char,
    /// Extents, outermost first.
    pub dims: *const u64,
    /// Number of extents.
    pub rank: u32,
    /// A [`DTypeCode`].
    pub dtype: u32,
    /// Size of the whole buffer.
    pub bytes: u64,
}

/// What a library says about itself: `tinsmith_model` in C.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Model {
    /// [`ABI_VERSION`] of the compiler.
    pub abi: u32,
    /// Number of inputs.
    pub n_inputs: u32,
    /// Number of outputs.
    pub n_outputs: u32,
    /// Alignment of the workspace.
    pub workspace_align: u32,
    /// Size of the workspace.
    pub workspace_bytes: u64,
    /// Size of the weights.
    pub constant_bytes: u64,
    /// The model's name, UTF-8, ending in NUL.
    pub name: *const c_char,
    /// Version of the compiler.
    pub version: *const c_char,
    /// SHA-256 of the source file, in hexadecimal.
    pub source_hash: *const c_char,
    /// What it was compiled for: triple and CPU.
    pub target: *const c_char,
    /// The inputs, in the order of the parameters.
    pub inputs: *const Tensor,
    /// The outputs, in the order of the parameters.
    pub outputs: *const Tensor,
    /// Size of a state block; zero where the model has none.
    pub state_bytes: u64,
    /// Number of states.
    pub n_states: u64,
    /// The states, in the order of their places in the block, each at a multiple of 64 bytes.
    pub states: *const Tensor,
}

/// Runs the iterations of a loop on several threads: `tinsmith_pool` in C.
///
/// A model that is given none runs on the caller's thread only.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pool {
    /// The pool's own data, passed to `parallel_for`.
    pub context: *mut c_void,
    /// Number of threads that `parallel_for` uses, the caller's included.
    pub n_threads: u32,
    /// Calls `body(data, i)` once for every `i` in `0..n`, from any threads, and returns when all calls have.
    pub parallel_for: extern "C" fn(context: *mut c_void, n: u32, body: extern "C" fn(data: *mut c_void, i: u32), data: *mut c_void),
}

const _: () =
    assert!(size_of::<Tensor>() == 32 && size_of::<Model>() == 104 && size_of::<Pool>() == 24, "layouts are those of 64-bit targets");

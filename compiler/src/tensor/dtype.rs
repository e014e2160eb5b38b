//! Element types, named as Rust names them.

use std::fmt;
use std::str::FromStr;

/// Type of one tensor element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are Rust's own")]
pub enum DType {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    BF16,
    F32,
    F64,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F4E2M1,
    U4,
    I4,
    U2,
    I2,
}

impl DType {
    /// Every element type that kernels compute with, in declaration order.
    pub const ALL: [DType; 13] = [
        DType::Bool,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// Types of fewer than sixteen bits that only travel and convert; in memory each element has a byte.
    pub const SMALL: [DType; 10] = [
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
        DType::U4,
        DType::I4,
        DType::U2,
        DType::I2,
    ];

    /// The floating-point types.
    pub const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

    /// Every element type but `bool`.
    pub const NUMBERS: [DType; 12] = [
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    /// Bytes of one element in memory.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::Bool | DType::I8 | DType::U8 => 1,
            small if small.is_small() => 1,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 2,
            DType::I32 | DType::U32 | DType::F32 => 4,
            _ => 8,
        }
    }

    /// Whether the type is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Whether the type is a floating-point type of 16 bits, which is computed with as `f32`.
    pub fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// Whether the type is an integer type; `bool` is not.
    pub fn is_int(self) -> bool {
        !self.is_float() && self != DType::Bool && !self.is_small()
    }

    /// Whether the type has negative values.
    pub fn is_signed(self) -> bool {
        self.is_float() || matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::I4 | DType::I2)
    }

    /// Least and greatest value of an integer type or `bool`.
    pub fn int_range(self) -> (i128, i128) {
        match self {
            DType::Bool => (0, 1),
            DType::U4 => (0, 15),
            DType::I4 => (-8, 7),
            DType::U2 => (0, 3),
            DType::I2 => (-2, 1),
            d if d.is_signed() => (-(1 << (d.bits() - 1)), (1 << (d.bits() - 1)) - 1),
            d => (0, (1 << d.bits()) - 1),
        }
    }

    /// Whether the type only travels and converts.
    pub fn is_small(self) -> bool {
        DType::SMALL.contains(&self)
    }

    /// Bits of one element in files, where several share a byte.
    pub fn packed_bits(self) -> u32 {
        match self {
            DType::F4E2M1 | DType::U4 | DType::I4 => 4,
            DType::U2 | DType::I2 => 2,
            other => other.bits(),
        }
    }

    /// The type that holds elements in memory: codes of small types are bytes, small integers as wide ones.
    pub fn storage(self) -> DType {
        match self {
            DType::I4 | DType::I2 => DType::I8,
            small if small.is_small() => DType::U8,
            other => other,
        }
    }

    /// Bits of one element.
    pub fn bits(self) -> u32 {
        8 * self.size_bytes() as u32
    }

    /// The name in text forms: `f32`, `i64`, `bool`.
    pub fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F4E2M1 => "f4e2m1",
            DType::U4 => "u4",
            DType::I4 => "i4",
            DType::U2 => "u2",
            DType::I2 => "i2",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        DType::ALL.into_iter().chain(DType::SMALL).find(|d| d.name() == s).ok_or_else(|| format!("`{s}` is not an element type"))
    }
}

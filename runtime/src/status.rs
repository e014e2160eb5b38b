//! What a compiled model returns, as a Rust error.

use core::fmt;

use tinsmith_targets::abi::StatusCode;

/// Why a model did not compute its outputs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// A pointer is null, or the workspace is not aligned. Nothing was written.
    BadArgument,
    /// The CPU or the system lacks a feature that the library was compiled for. Nothing was written.
    CpuLacksFeature,
    /// An index that the inputs decide is outside its tensor. The outputs are not meaningful.
    IndexOutOfRange,
    /// A size is outside the range that the library was compiled for. Nothing was written.
    SizeOutOfRange,
    /// A code that this version does not know.
    Unknown(i32),
}

impl Status {
    /// The result that a returned code stands for.
    pub fn check(code: i32) -> Result<(), Status> {
        match StatusCode::from_code(code) {
            Some(StatusCode::Ok) => Ok(()),
            Some(StatusCode::BadArgument) => Err(Status::BadArgument),
            Some(StatusCode::CpuLacksFeature) => Err(Status::CpuLacksFeature),
            Some(StatusCode::IndexOutOfRange) => Err(Status::IndexOutOfRange),
            Some(StatusCode::SizeOutOfRange) => Err(Status::SizeOutOfRange),
            None => Err(Status::Unknown(code)),
        }
    }

    /// The code that a model returns for it.
    pub fn code(self) -> i32 {
        match self {
            Status::BadArgument => StatusCode::BadArgument.code(),
            Status::CpuLacksFeature => StatusCode::CpuLacksFeature.code(),
            Status::IndexOutOfRange => StatusCode::IndexOutOfRange.code(),
            Status::SizeOutOfRange => StatusCode::SizeOutOfRange.code(),
            Status::Unknown(code) => code,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StatusCode::from_code(self.code()) {
            Some(code) => f.write_str(code.text()),
            None => write!(f, "status {}", self.code()),
        }
    }
}

impl core::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        assert_eq!(Status::check(0), Ok(()));
        for code in 1..6 {
            assert_eq!(Status::check(code).map_err(Status::code), Err(code));
        }
    }
}

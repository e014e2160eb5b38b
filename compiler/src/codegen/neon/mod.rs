//! Nests to A64: 64-bit Arm, with multiply-adds by element.
//!
//! In: the kernels that [`super::clif`] takes. Out: the same functions, as bytes that need no relocation, since constants lie behind
//! the code. What is not known here is refused, so that a caller can turn to [`super::clif`].
//!
//! What this adds to Cranelift's instructions is `fmla vd.4s, vn.4s, vm.s[lane]`: [`elements`] finds loads of neighbouring scalars
//! that are broadcast into multiply-adds, so that one load brings four. Values are `f32`, `i32`, `u32` and conditions, in lanes of
//! 32 bits, and scalars of `i64`. [`select`] turns statements into instructions, [`super::linear`] finds registers, [`encode`] makes
//! bytes of what [`code`] and [`word`] know.

mod arithmetic;
mod code;
mod convert;
mod elements;
mod encode;
mod inst;
mod lanes;
mod memory;
mod select;
#[cfg(test)]
mod tests;
mod word;

use super::linear::{Encoded, Refused, Spilling, gathers, legalize, registers, shuffles};
use crate::nest::Kernel;
use crate::tensor::DType;
use inst::Registers;

/// Lanes of 32 bits in a vector.
pub(in crate::codegen) const LANES: u32 = 4;

/// The code of a kernel.
pub(in crate::codegen) fn compile(kernel: &Kernel, spilling: Spilling, text: bool) -> Result<Encoded, Refused> {
    let kernel = shuffles::spell_out(kernel, &|ty| matches!(ty.dtype, DType::F32 | DType::I32 | DType::U32));
    let kernel = legalize::legalize(&kernel, LANES);
    let kernel = gathers::spell_out(&kernel, &|_| false);
    let mut body = select::select(&kernel)?;
    let allocation = registers::allocate(&mut body, &Registers)?;
    if spilling == Spilling::Refused {
        registers::check_innermost(&body)?;
    }
    encode::encode(&body, &allocation, text)
}

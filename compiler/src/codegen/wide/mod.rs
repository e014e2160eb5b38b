//! Nests through iced-x86: x86-64 with vectors of 128 (`x86-64-v2`), 256 (`x86-64-v3`) and 512 bits (`x86-64-v4`).
//!
//! In: the kernels that [`super::clif`] takes. Out: the same functions, as bytes that need no relocation, since constants lie
//! behind the code. What is not known here is refused before anything is defined, so that a caller can turn to
//! [`super::clif`].
//!
//! [`legalize`] splits vectors that are longer than the machine's; [`select`] turns operations into instructions over virtual
//! registers, loads folded into their users; [`constants`] keeps constants in registers where some are left; [`super::linear`] finds
//! registers; [`encode`] makes bytes.

mod arithmetic;
mod constants;
mod convert;
mod division;
mod encode;
mod forms;
mod gather;
mod half;
mod inst;
mod integers;
mod lanes;
mod masks;
mod memory;
mod operands;
mod permute;
mod registers;
mod select;
#[cfg(test)]
mod tests;

use tinsmith_targets::{Arch, Feature};

use super::linear::{Encoded, Refused, Spilling, gathers, legalize, registers as allocation, shuffles};
use super::target::Machine;
use crate::nest::Kernel;

/// What the code may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isa {
    /// SSE4.2: sixteen registers of 128 bits, and instructions that overwrite an operand.
    V2,
    /// AVX2 and FMA: sixteen registers of 256 bits.
    V3,
    /// AVX-512 F, BW, DQ and VL: thirty-two registers of 512 bits, and masks.
    V4,
}

impl Isa {
    /// What a machine offers, if it is enough for this emitter.
    pub fn of(machine: &Machine) -> Option<Self> {
        let has = |features: &[Feature]| features.iter().all(|&f| machine.target.has(f));
        if machine.target.arch != Arch::X86_64 || !has(&[Feature::Sse42]) {
            return None;
        }
        if !has(&[Feature::Avx2, Feature::Fma]) {
            // What is rounded once where there is fused multiply-add must be so at 128 bits too.
            return (!machine.target.has_fma()).then_some(Isa::V2);
        }
        Some(if has(&[Feature::Avx512f, Feature::Avx512bw, Feature::Avx512dq, Feature::Avx512vl]) { Isa::V4 } else { Isa::V3 })
    }

    /// Lanes of 32 bits in the widest vector.
    pub fn lanes(self) -> u32 {
        match self {
            Isa::V2 => 4,
            Isa::V3 => 8,
            Isa::V4 => 16,
        }
    }
}

/// A level with the extensions that are not part of it.
#[derive(Clone, Copy, Debug)]
struct Unit {
    isa: Isa,
    /// Conversions of `f16`.
    f16c: bool,
    /// Integer dot products.
    vnni: bool,
    /// Bytes of the first-level cache.
    l1d_bytes: usize,
}

impl Unit {
    fn of(machine: &Machine) -> Option<Self> {
        let isa = Isa::of(machine)?;
        let has = |feature| machine.target.has(feature);
        let l1d_bytes = machine.target.l1d_bytes;
        Some(Unit {
            isa,
            l1d_bytes,
            f16c: isa == Isa::V4 || isa == Isa::V3 && has(Feature::F16c),
            vnni: isa == Isa::V4 && has(Feature::Avx512vnni),
        })
    }
}

/// The code of a kernel.
pub(super) fn compile(machine: &Machine, kernel: &Kernel, spilling: Spilling, text: bool) -> Result<Encoded, Refused> {
    let Some(unit) = Unit::of(machine) else { return Err(Refused(format!("{machine} is below x86-64-v2"))) };
    let kernel = shuffles::spell_out(kernel, &|ty| operands::is_word(ty.dtype));
    let kernel = legalize::legalize(&kernel, unit.isa.lanes());
    let kernel = gathers::spell_out(&kernel, &gather::has);
    let mut body = select::select(&kernel, unit)?;
    constants::hoist(&mut body, unit.isa);
    let found = allocation::allocate(&mut body, &unit.isa)?;
    if spilling == Spilling::Refused {
        allocation::check_innermost(&body)?;
    }
    encode::encode(&body, &found, unit.isa, text)
}

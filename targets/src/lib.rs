//! What a target is and offers: architectures, CPU levels, features, registers, ports, caches. Data only.
//!
//! [`Target`] describes the machine that code is made for; the triple (system, object format) is the compiler's business.
//! [`abi`] holds what the compiler and the linked product must agree on.
#![no_std]
#![forbid(unsafe_code)]

mod aarch64;
pub mod abi;
mod features;
mod x86_64;

use core::fmt;

pub use features::{Cpuid, CpuidRegister, Feature, Features, XCR0_AVX, XCR0_AVX512};

/// An architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// The first word of its triples.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }
}

/// How much of an architecture's extensions every CPU is expected to have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// What every CPU of the architecture has: `x86-64-v1`, or NEON on aarch64.
    Base,
    /// `x86-64-v2`: SSE4.2.
    V2,
    /// `x86-64-v3`: AVX2 and FMA.
    V3,
    /// `x86-64-v4`: AVX-512.
    V4,
}

impl Level {
    /// The levels of x86-64, lowest first.
    pub const X86_64: [Level; 4] = [Level::Base, Level::V2, Level::V3, Level::V4];

    /// The name on an architecture: `x86-64-v3`, `armv8-a`.
    pub fn name(self, arch: Arch) -> &'static str {
        match (arch, self) {
            (Arch::Aarch64, _) => "armv8-a",
            (_, Level::Base) => "x86-64-v1",
            (_, Level::V2) => "x86-64-v2",
            (_, Level::V3) => "x86-64-v3",
            (_, Level::V4) => "x86-64-v4",
        }
    }
}

/// The machine that code is made for.
///
/// Cache sizes are those of one core of common machines of the level; they choose tiles and never change results. What comes from caches and
/// memory in a cycle was measured on Zen 4, as products of 9 to 49 rows read weights of 8 to 17 MB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The architecture.
    pub arch: Arch,
    /// The level it was described by.
    pub level: Level,
    /// Everything that code may use: the level's features and those that were named.
    pub features: Features,
    /// Bits of the widest vector register.
    pub vector_bits: u32,
    /// Number of vector registers.
    pub n_vector_registers: u32,
    /// Multiply-adds that start per cycle, each of [`Self::port_bits`]; without fused ones, a multiplication and an addition.
    pub n_fma_ports: u32,
    /// Loads that start per cycle, each of [`Self::port_bits`].
    pub n_load_ports: u32,
    /// Stores that start per cycle, each of [`Self::port_bits`].
    pub n_store_ports: u32,
    /// Bits that go through a port in a cycle: wider vectors take several.
    pub port_bits: u32,
    /// Cycles from a multiply-add to one that adds to its result.
    pub fma_latency_cycles: u32,
    /// First-level data cache.
    pub l1d_bytes: usize,
    /// Associativity of the first-level data cache: so many lines whose addresses are whole ways apart stay in it.
    pub l1d_ways: usize,
    /// Second-level cache of one core.
    pub l2_bytes: usize,
    /// Last-level cache, which cores share.
    pub l3_bytes: usize,
    /// A cache line.
    pub line_bytes: usize,
    /// Bytes that come from the second-level cache in ten cycles beside multiply-adds of vectors that a port takes at once.
    pub l2_bytes_in_10_cycles: u32,
    /// The same from the last-level cache.
    pub l3_bytes_in_10_cycles: u32,
    /// The same from memory, to one core alone.
    pub memory_bytes_in_10_cycles: u32,
}

impl Target {
    /// x86-64 at a level.
    pub fn x86_64(level: Level) -> Self {
        x86_64::target(level)
    }

    /// 64-bit Arm as every CPU of it is.
    pub fn aarch64() -> Self {
        aarch64::target()
    }

    /// An architecture's lowest level.
    pub fn base(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::x86_64(Level::Base),
            Arch::Aarch64 => Self::aarch64(),
        }
    }

    /// A target as a user writes it: a level, features by name, or both: `x86-64-v3`, `v3`, `v2+fma`, `+dotprod`.
    ///
    /// # Errors
    /// Names the word that is not known.
    pub fn parse(arch: Arch, cpu: &str) -> Result<Self, UnknownCpu<'_>> {
        let mut words = cpu.split('+');
        let level = words.next().unwrap_or("");
        let mut target = match (arch, level) {
            (_, "" | "base") => Self::base(arch),
            (Arch::X86_64, "v1" | "x86-64" | "x86-64-v1") => Self::x86_64(Level::Base),
            (Arch::X86_64, "v2" | "x86-64-v2") => Self::x86_64(Level::V2),
            (Arch::X86_64, "v3" | "x86-64-v3") => Self::x86_64(Level::V3),
            (Arch::X86_64, "v4" | "x86-64-v4") => Self::x86_64(Level::V4),
            (Arch::Aarch64, "armv8-a" | "generic") => Self::aarch64(),
            _ => return Err(UnknownCpu { arch, word: level, is_feature: false }),
        };
        for word in words {
            let feature = Feature::parse(arch, word).ok_or(UnknownCpu { arch, word, is_feature: true })?;
            target = target.with(feature);
        }
        Ok(target)
    }

    /// The same target with one more feature and what that feature implies.
    #[must_use]
    pub fn with(mut self, feature: Feature) -> Self {
        self.features = self.features.with(feature);
        if self.arch == Arch::X86_64 {
            x86_64::set_vectors(&mut self);
        }
        self
    }

    /// Whether code may use a feature.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// Whether a multiply-add is one instruction that rounds once.
    pub fn has_fma(&self) -> bool {
        self.arch == Arch::Aarch64 || self.has(Feature::Fma)
    }
}

impl fmt::Display for Target {
    /// What [`Target::parse`] reads: the level, then the features beyond it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level.name(self.arch))?;
        let of_level = match self.arch {
            Arch::X86_64 => Self::x86_64(self.level).features,
            Arch::Aarch64 => Self::aarch64().features,
        };
        for feature in self.features.iter().filter(|&x| !of_level.has(x)) {
            write!(f, "+{}", feature.name())?;
        }
        Ok(())
    }
}

/// A level or a feature that an architecture does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCpu<'a> {
    /// The architecture.
    pub arch: Arch,
    /// What was written.
    pub word: &'a str,
    /// Whether it stood behind a `+`.
    pub is_feature: bool,
}

impl fmt::Display for UnknownCpu<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arch, word) = (self.arch.name(), self.word);
        if self.is_feature {
            write!(f, "`{word}` is not a feature of {arch}; expected one of")?;
            for feature in Feature::ALL.iter().filter(|x| x.arch() == self.arch) {
                write!(f, " {}", feature.name())?;
            }
            return Ok(());
        }
        let levels = match self.arch {
            Arch::X86_64 => "x86-64-v1, x86-64-v2, x86-64-v3, x86-64-v4 or native",
            Arch::Aarch64 => "armv8-a or native",
        };
        write!(f, "`{word}` is not a CPU level of {arch}; expected {levels}, with features as in `+NAME`")
    }
}

impl core::error::Error for UnknownCpu<'_> {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn parse(arch: Arch, cpu: &str) -> std::string::String {
        Target::parse(arch, cpu).map_or_else(|e| e.to_string(), |t| std::format!("{t} {}", t.vector_bits))
    }

    #[test]
    fn levels_and_features_are_read_and_printed() {
        assert_eq!(parse(Arch::X86_64, "v3"), "x86-64-v3 256");
        assert_eq!(parse(Arch::X86_64, "x86-64-v4+vnni"), "x86-64-v4+avx512vnni 512");
        assert_eq!(parse(Arch::X86_64, "v2+fma"), "x86-64-v2+avx+fma 256");
        assert_eq!(parse(Arch::Aarch64, "+dotprod"), "armv8-a+dotprod 128");
        assert!(parse(Arch::X86_64, "v5").starts_with("`v5` is not a CPU level of x86_64"));
        assert!(parse(Arch::Aarch64, "+fma").starts_with("`fma` is not a feature of aarch64; expected one of dotprod"));
    }

    #[test]
    fn levels_grow() {
        for pair in Level::X86_64.windows(2) {
            let (low, high) = (Target::x86_64(pair[0]), Target::x86_64(pair[1]));
            assert!(low.features.iter().all(|f| high.has(f)), "{high} lacks something of {low}");
        }
    }

    #[test]
    fn every_printed_target_parses_back() {
        for &feature in Feature::ALL {
            let target = Target::base(feature.arch()).with(feature);
            assert_eq!(Target::parse(target.arch, &target.to_string()), Ok(target));
        }
    }
}

//! The machine that code is made for: a triple with a [`Target`], and the Cranelift settings that follow from them.

use std::fmt;
use std::str::FromStr;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Aarch64Architecture, Architecture, BinaryFormat, Endianness, PointerWidth, Triple};
use tinsmith_targets::{Arch, Feature, Target};

use super::CodegenError;
use super::caches::{self, Cache};

pub use tinsmith_targets::Level;

/// What to compile for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Architecture, system and object format.
    pub triple: Triple,
    /// What its CPUs offer.
    pub target: Target,
}

/// Whether the code goes to a file or runs where it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Position-independent code for a linker.
    Object,
    /// Code for this process.
    InProcess,
}

impl Machine {
    /// x86-64 Linux at a level.
    pub fn x86_64(level: Level) -> Self {
        Machine { triple: Triple::from_str("x86_64-unknown-linux-gnu").expect("a triple"), target: Target::x86_64(level) }
    }

    /// 64-bit Arm Linux.
    pub fn aarch64() -> Self {
        Machine { triple: Triple::from_str("aarch64-unknown-linux-gnu").expect("a triple"), target: Target::aarch64() }
    }

    /// This machine, with everything that its CPU has, and its caches as far as the CPU tells their sizes.
    pub fn native() -> Self {
        let triple = Triple::host();
        let base = Machine { target: Target::base(arch(&triple).unwrap_or(Arch::X86_64)), triple };
        let mut target = base.target;
        if target.arch == Arch::X86_64 {
            let runs = |&level: &Level| missing_on_host(&Machine { target: Target::x86_64(level), ..base.clone() }).is_none();
            target = Target::x86_64(Level::X86_64.into_iter().rev().find(runs).unwrap_or(Level::Base));
        }
        for &feature in Feature::ALL.iter().filter(|f| f.arch() == base.target.arch) {
            let with = target.with(feature);
            if missing_on_host(&Machine { target: with, ..base.clone() }).is_none() {
                target = with;
            }
        }
        set_caches(&mut target, caches::of_host());
        Machine { target, ..base }
    }

    /// A machine as a user names it. Without a triple it is this one's; without a CPU it is [`Self::default_cpu`].
    ///
    /// # Errors
    /// If Tinsmith cannot compile for it, or a word is not known.
    pub fn parse(triple: Option<&str>, cpu: Option<&str>) -> Result<Self, CodegenError> {
        let text = triple.unwrap_or("this machine");
        let error = |message: String| CodegenError::Target { target: text.to_owned(), message };
        let triple = match triple {
            Some(text) => Triple::from_str(text).map_err(|e| error(e.to_string().to_lowercase()))?,
            None => Triple::host(),
        };
        let arch = arch(&triple).ok_or_else(|| error("expected an x86_64 or aarch64 triple".to_owned()))?;
        if triple.binary_format != BinaryFormat::Elf || triple.endianness() != Ok(Endianness::Little) {
            return Err(error("expected a system with little-endian ELF files, such as `x86_64-unknown-linux-gnu`".to_owned()));
        }
        if triple.pointer_width() != Ok(PointerWidth::U64) {
            return Err(error("expected 64-bit pointers".to_owned()));
        }
        let target = match cpu.unwrap_or(Self::default_cpu(arch)) {
            "native" => {
                let native = Machine::native();
                if native.triple.architecture != triple.architecture {
                    return Err(error(format!("`native` is a CPU of {}", native.triple.architecture)));
                }
                native.target
            }
            cpu => Target::parse(arch, cpu).map_err(|e| error(e.to_string()))?,
        };
        Ok(Machine { triple, target })
    }

    /// The CPU that libraries are made for where the user does not say: ten years old, so that hardly a machine in use lacks
    /// it. The library checks, and a run on an older one returns a status.
    pub fn default_cpu(arch: Arch) -> &'static str {
        match arch {
            Arch::X86_64 => "x86-64-v3",
            Arch::Aarch64 => "armv8-a",
        }
    }

    /// The Cranelift flags of its features.
    pub fn features(&self) -> Vec<&'static str> {
        self.target.features.iter().filter_map(cranelift_flag).collect()
    }

    /// The Cranelift back end for it. Kernels are scheduled before they come here, so the optimizer, which would reorder
    /// them, is off.
    pub fn isa(&self, usage: Usage) -> Result<OwnedTargetIsa, CodegenError> {
        let error = |message: String| CodegenError::Target { target: self.to_string(), message };
        let mut shared = settings::builder();
        let settings = [
            ("is_pic", if usage == Usage::Object { "true" } else { "false" }),
            ("opt_level", "none"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
            ("enable_probestack", "false"),
            ("unwind_info", "false"),
            ("enable_alias_analysis", "false"),
        ];
        for (name, value) in settings {
            shared.set(name, value).map_err(|e| error(e.to_string()))?;
        }
        let mut builder = isa::lookup(self.triple.clone()).map_err(|e| error(e.to_string()))?;
        for name in self.features() {
            builder.enable(name).map_err(|e| error(e.to_string()))?;
        }
        builder.finish(settings::Flags::new(shared)).map_err(|e| error(e.to_string()))
    }

    /// An error unless this process can execute code made for it.
    pub fn check_host(&self) -> Result<(), CodegenError> {
        match missing_on_host(self) {
            None => Ok(()),
            Some(missing) => Err(CodegenError::Host { target: self.to_string(), missing }),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.triple, self.target)
    }
}

fn arch(triple: &Triple) -> Option<Arch> {
    match triple.architecture {
        Architecture::X86_64 => Some(Arch::X86_64),
        Architecture::Aarch64(Aarch64Architecture::Aarch64) => Some(Arch::Aarch64),
        _ => None,
    }
}

fn cranelift_flag(feature: Feature) -> Option<&'static str> {
    Some(match feature {
        Feature::Sse3 => "has_sse3",
        Feature::Ssse3 => "has_ssse3",
        Feature::Sse41 => "has_sse41",
        Feature::Sse42 => "has_sse42",
        Feature::Popcnt => "has_popcnt",
        Feature::Cmpxchg16b => "has_cmpxchg16b",
        Feature::Avx => "has_avx",
        Feature::Avx2 => "has_avx2",
        Feature::Fma => "has_fma",
        Feature::Bmi1 => "has_bmi1",
        Feature::Bmi2 => "has_bmi2",
        Feature::Lzcnt => "has_lzcnt",
        Feature::Avx512f => "has_avx512f",
        Feature::Avx512dq => "has_avx512dq",
        Feature::Avx512vl => "has_avx512vl",
        _ => return None,
    })
}

fn missing_on_host(machine: &Machine) -> Option<String> {
    let host = Triple::host();
    if (machine.triple.architecture, machine.triple.operating_system) != (host.architecture, host.operating_system) {
        return Some(machine.triple.to_string());
    }
    machine.target.features.iter().find(|&f| !host_has(f)).map(|f| f.name().to_owned())
}

#[cfg(target_arch = "x86_64")]
fn host_has(feature: Feature) -> bool {
    use std::is_x86_feature_detected as has;
    match feature {
        Feature::Sse3 => has!("sse3"),
        Feature::Ssse3 => has!("ssse3"),
        Feature::Sse41 => has!("sse4.1"),
        Feature::Sse42 => has!("sse4.2"),
        Feature::Popcnt => has!("popcnt"),
        Feature::Cmpxchg16b => has!("cmpxchg16b"),
        Feature::Avx => has!("avx"),
        Feature::Avx2 => has!("avx2"),
        Feature::F16c => has!("f16c"),
        Feature::Fma => has!("fma"),
        Feature::Bmi1 => has!("bmi1"),
        Feature::Bmi2 => has!("bmi2"),
        Feature::Lzcnt => has!("lzcnt"),
        Feature::Movbe => has!("movbe"),
        Feature::Avx512f => has!("avx512f"),
        Feature::Avx512bw => has!("avx512bw"),
        Feature::Avx512cd => has!("avx512cd"),
        Feature::Avx512dq => has!("avx512dq"),
        Feature::Avx512vl => has!("avx512vl"),
        Feature::Avx512vnni => has!("avx512vnni"),
        Feature::Dotprod | Feature::I8mm | Feature::Fp16 | Feature::Bf16 => false,
    }
}

#[cfg(target_arch = "aarch64")]
fn host_has(feature: Feature) -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    match feature {
        Feature::Dotprod => has!("dotprod"),
        Feature::I8mm => has!("i8mm"),
        Feature::Fp16 => has!("fp16"),
        Feature::Bf16 => has!("bf16"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn host_has(_feature: Feature) -> bool {
    false
}

/// Takes the caches of one core as this machine tells them, where they are plausible.
fn set_caches(target: &mut Target, caches: [Option<Cache>; 3]) {
    let [first, second, third] = caches;
    if let Some(Cache { bytes, ways, line_bytes }) = first.filter(|c| (16 << 10..=256 << 10).contains(&c.bytes)) {
        target.l1d_bytes = bytes;
        target.l1d_ways = ways.filter(|&n| n <= 64 && bytes.is_multiple_of(n)).unwrap_or(target.l1d_ways);
        target.line_bytes = line_bytes.filter(|n| n.is_power_of_two() && (32..=256).contains(n)).unwrap_or(target.line_bytes);
    }
    // What several cores share is more; no core counts on it alone.
    if let Some(cache) = second.filter(|c| c.bytes >= 128 << 10) {
        target.l2_bytes = cache.bytes.min(2 << 20);
    }
    if let Some(cache) = third.filter(|c| c.bytes >= 1 << 20) {
        target.l3_bytes = cache.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_back_end() {
        for level in Level::X86_64 {
            assert!(Machine::x86_64(level).isa(Usage::Object).is_ok(), "{level:?}");
        }
        assert!(Machine::aarch64().isa(Usage::Object).is_ok());
    }

    #[test]
    fn code_for_another_architecture_is_refused() {
        let other = if cfg!(target_arch = "aarch64") { Machine::x86_64(Level::Base) } else { Machine::aarch64() };
        assert!(matches!(other.check_host(), Err(CodegenError::Host { .. })));
    }

    #[test]
    fn native_runs_here() {
        assert!(Machine::native().check_host().is_ok());
        assert_eq!(Machine::parse(None, Some("native")).map_err(|e| e.to_string()), Ok(Machine::native()));
    }

    #[test]
    fn caches_are_taken_where_they_are_plausible() {
        let taken = |caches| {
            let mut target = Target::aarch64();
            set_caches(&mut target, caches);
            [target.l1d_bytes >> 10, target.l1d_ways, target.line_bytes, target.l2_bytes >> 10, target.l3_bytes >> 20]
        };
        let cache = |kib: usize, ways| Some(Cache { bytes: kib << 10, ways, line_bytes: Some(128) });
        assert_eq!(taken([None; 3]), [32, 8, 64, 256, 32]);
        assert_eq!(taken([cache(128, Some(4)), cache(12 << 10, None), cache(64 << 10, None)]), [128, 4, 128, 2048, 64]);
        assert_eq!(taken([cache(4, Some(4)), cache(64, None), cache(512, None)]), [32, 8, 64, 256, 32]);
        assert_eq!(taken([cache(48, Some(5)), None, None])[..2], [48, 8]);
    }

    #[test]
    fn targets_are_read_from_text() {
        let parse = |triple, cpu| Machine::parse(Some(triple), cpu).map_or_else(|e| e.to_string(), |m| m.to_string());
        assert_eq!(parse("x86_64-unknown-linux-gnu", None), "x86_64-unknown-linux-gnu at x86-64-v3");
        assert_eq!(parse("x86_64-unknown-linux-gnu", Some("v2+fma")), "x86_64-unknown-linux-gnu at x86-64-v2+avx+fma");
        assert_eq!(parse("aarch64-unknown-linux-gnu", None), "aarch64-unknown-linux-gnu at armv8-a");
        assert!(parse("riscv64gc-unknown-linux-gnu", None).contains("expected an x86_64 or aarch64 triple"));
        assert!(parse("x86_64-pc-windows-msvc", None).contains("ELF"));
        assert!(parse("aarch64-unknown-linux-gnu", Some("v3")).contains("`v3` is not a CPU level of aarch64"));
        assert!(parse("nonsense", None).starts_with("target `nonsense`: "));
    }
}

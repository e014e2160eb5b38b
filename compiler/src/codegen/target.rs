//! The machine that code is made for: a triple with a CPU level, and the Cranelift settings that follow from it.

use std::fmt;
use std::str::FromStr;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Architecture, Triple};

use super::CodegenError;

/// How much of an architecture's extensions may be used.
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
}

/// A target: what to compile for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Architecture, system and object format.
    pub triple: Triple,
    /// CPU level.
    pub level: Level,
}

/// Whether the code goes to a file or runs where it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Position-independent code for a linker.
    Object,
    /// Code for this process.
    InProcess,
}

const V2: &[&str] = &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt", "has_cmpxchg16b"];
const V3: &[&str] = &["has_avx", "has_avx2", "has_fma", "has_bmi1", "has_bmi2", "has_lzcnt"];
const V4: &[&str] = &["has_avx512f", "has_avx512dq", "has_avx512vl"];

impl Machine {
    /// x86-64 Linux at a level.
    pub fn x86_64(level: Level) -> Self {
        Machine { triple: Triple::from_str("x86_64-unknown-linux-gnu").expect("a triple"), level }
    }

    /// 64-bit Arm Linux.
    pub fn aarch64() -> Self {
        Machine { triple: Triple::from_str("aarch64-unknown-linux-gnu").expect("a triple"), level: Level::Base }
    }

    /// This machine, at the highest level it has.
    pub fn native() -> Self {
        let triple = Triple::host();
        let base = Machine { triple: triple.clone(), level: Level::Base };
        if triple.architecture != Architecture::X86_64 {
            return base;
        }
        let best = Level::X86_64.into_iter().rev().find(|&level| missing_on_host(&Machine { level, ..base.clone() }).is_none());
        Machine { level: best.unwrap_or(Level::Base), ..base }
    }

    /// The Cranelift flags of the level.
    pub fn features(&self) -> Vec<&'static str> {
        let mut flags = vec![];
        if self.triple.architecture == Architecture::X86_64 {
            for (level, names) in [(Level::V2, V2), (Level::V3, V3), (Level::V4, V4)] {
                if self.level >= level {
                    flags.extend_from_slice(names);
                }
            }
        }
        flags
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
        write!(f, "{}", self.triple)?;
        if self.triple.architecture == Architecture::X86_64 {
            let level = match self.level {
                Level::Base => 1,
                Level::V2 => 2,
                Level::V3 => 3,
                Level::V4 => 4,
            };
            write!(f, " at x86-64-v{level}")?;
        }
        Ok(())
    }
}

fn missing_on_host(machine: &Machine) -> Option<String> {
    let host = Triple::host();
    if (machine.triple.architecture, machine.triple.operating_system) != (host.architecture, host.operating_system) {
        return Some(machine.triple.to_string());
    }
    machine.features().into_iter().find(|name| !host_has(name)).map(|name| name.trim_start_matches("has_").to_owned())
}

#[cfg(target_arch = "x86_64")]
fn host_has(flag: &str) -> bool {
    use std::is_x86_feature_detected as has;
    match flag {
        "has_sse3" => has!("sse3"),
        "has_ssse3" => has!("ssse3"),
        "has_sse41" => has!("sse4.1"),
        "has_sse42" => has!("sse4.2"),
        "has_popcnt" => has!("popcnt"),
        "has_cmpxchg16b" => has!("cmpxchg16b"),
        "has_avx" => has!("avx"),
        "has_avx2" => has!("avx2"),
        "has_fma" => has!("fma"),
        "has_bmi1" => has!("bmi1"),
        "has_bmi2" => has!("bmi2"),
        "has_lzcnt" => has!("lzcnt"),
        "has_avx512f" => has!("avx512f"),
        "has_avx512dq" => has!("avx512dq"),
        "has_avx512vl" => has!("avx512vl"),
        _ => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_has(_flag: &str) -> bool {
    false
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
}

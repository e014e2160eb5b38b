//! Whether this CPU and system can run code made for a target.

use tinsmith_targets::{Feature, Features};

/// The features of a set that this CPU or system lacks.
#[cfg(target_arch = "x86_64")]
pub fn missing(features: Features) -> impl Iterator<Item = Feature> {
    features.iter().filter(|feature| !feature.cpuid().is_some_and(x86_64::has))
}

/// The features of a set that this CPU or system lacks. Optional features of aarch64 need the system to tell, which takes
/// `std`: all are reported missing.
#[cfg(not(target_arch = "x86_64"))]
pub fn missing(features: Features) -> impl Iterator<Item = Feature> {
    features.iter()
}

/// Whether nothing is missing.
pub fn supports(features: Features) -> bool {
    missing(features).next().is_none()
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    use tinsmith_targets::{Cpuid, CpuidRegister};

    /// Bit of `cpuid(1).ecx`: the system has enabled `xgetbv`.
    const OSXSAVE: u32 = 1 << 27;

    pub(super) fn has(at: Cpuid) -> bool {
        let highest = __cpuid(at.leaf & 0x8000_0000).eax;
        if highest < at.leaf {
            return false;
        }
        let leaf = __cpuid_count(at.leaf, 0);
        let word = match at.register {
            CpuidRegister::Ebx => leaf.ebx,
            CpuidRegister::Ecx => leaf.ecx,
        };
        word & 1 << at.bit != 0 && (at.xcr0 == 0 || saves(at.xcr0))
    }

    fn saves(xcr0: u32) -> bool {
        // SAFETY: `xgetbv` exists where the system has enabled it, which the first operand says.
        __cpuid(1).ecx & OSXSAVE != 0 && unsafe { xgetbv() } as u32 & xcr0 == xcr0
    }

    /// # Safety
    /// The system must have enabled `xgetbv`.
    #[target_feature(enable = "xsave")]
    unsafe fn xgetbv() -> u64 {
        // SAFETY: the caller's duty.
        unsafe { _xgetbv(0) }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    extern crate std;

    use tinsmith_targets::{Level, Target};

    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        let known = [
            (Feature::Sse42, std::is_x86_feature_detected!("sse4.2")),
            (Feature::Avx2, std::is_x86_feature_detected!("avx2")),
            (Feature::Fma, std::is_x86_feature_detected!("fma")),
            (Feature::Lzcnt, std::is_x86_feature_detected!("lzcnt")),
            (Feature::Avx512vl, std::is_x86_feature_detected!("avx512vl")),
            (Feature::Avx512vnni, std::is_x86_feature_detected!("avx512vnni")),
        ];
        for (feature, has) in known {
            assert_eq!(feature.cpuid().is_some_and(x86_64::has), has, "{feature:?}");
        }
    }

    #[test]
    fn the_lowest_level_is_always_there() {
        assert!(supports(Target::x86_64(Level::Base).features));
    }
}

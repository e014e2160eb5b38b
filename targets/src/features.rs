//! Features by name, and where a CPU says that it has them.

use crate::Arch;

macro_rules! features {
    ($($id:ident $arch:ident $name:literal $(or $alias:literal)* $(needs $needs:ident)* $(at $cpuid:expr)?;)*) => {
        /// An extension of an architecture.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[expect(missing_docs, reason = "the names are the vendors' own")]
        pub enum Feature { $($id,)* }

        impl Feature {
            /// Every feature, in declaration order.
            pub const ALL: &[Feature] = &[$(Feature::$id,)*];

            /// The architecture it extends.
            pub fn arch(self) -> Arch {
                match self { $(Feature::$id => Arch::$arch,)* }
            }

            /// The name that users write: `avx2`, `dotprod`.
            pub fn name(self) -> &'static str {
                match self { $(Feature::$id => $name,)* }
            }

            /// The feature of an architecture with this name.
            pub fn parse(arch: Arch, name: &str) -> Option<Self> {
                let feature = match name { $($name $(| $alias)* => Feature::$id,)* _ => return None };
                (feature.arch() == arch).then_some(feature)
            }

            /// The features without which this one is of no use.
            pub fn needs(self) -> &'static [Feature] {
                match self { $(Feature::$id => &[$(Feature::$needs,)*],)* }
            }

            /// Where `cpuid` says whether an x86-64 CPU has it.
            pub fn cpuid(self) -> Option<Cpuid> {
                match self { $(Feature::$id => features!(@cpuid $($cpuid)?),)* }
            }
        }
    };
    (@cpuid) => { None };
    (@cpuid $cpuid:expr) => { Some($cpuid) };
}

features! {
    Sse3 X86_64 "sse3" at ecx(1, 0);
    Ssse3 X86_64 "ssse3" at ecx(1, 9);
    Sse41 X86_64 "sse4.1" or "sse41" needs Ssse3 at ecx(1, 19);
    Sse42 X86_64 "sse4.2" or "sse42" needs Sse41 at ecx(1, 20);
    Popcnt X86_64 "popcnt" at ecx(1, 23);
    Cmpxchg16b X86_64 "cmpxchg16b" at ecx(1, 13);
    Avx X86_64 "avx" needs Sse42 at with_state(ecx(1, 28), XCR0_AVX);
    Avx2 X86_64 "avx2" needs Avx at with_state(ebx(7, 5), XCR0_AVX);
    Bmi1 X86_64 "bmi1" at ebx(7, 3);
    Bmi2 X86_64 "bmi2" at ebx(7, 8);
    F16c X86_64 "f16c" needs Avx at with_state(ecx(1, 29), XCR0_AVX);
    Fma X86_64 "fma" needs Avx at with_state(ecx(1, 12), XCR0_AVX);
    Lzcnt X86_64 "lzcnt" at ecx(0x8000_0001, 5);
    Movbe X86_64 "movbe" at ecx(1, 22);
    Avx512f X86_64 "avx512f" needs Avx2 needs Fma at with_state(ebx(7, 16), XCR0_AVX512);
    Avx512bw X86_64 "avx512bw" needs Avx512f at with_state(ebx(7, 30), XCR0_AVX512);
    Avx512cd X86_64 "avx512cd" needs Avx512f at with_state(ebx(7, 28), XCR0_AVX512);
    Avx512dq X86_64 "avx512dq" needs Avx512f at with_state(ebx(7, 17), XCR0_AVX512);
    Avx512vl X86_64 "avx512vl" needs Avx512f at with_state(ebx(7, 31), XCR0_AVX512);
    Avx512vnni X86_64 "avx512vnni" or "vnni" needs Avx512f at with_state(ecx(7, 11), XCR0_AVX512);
    Dotprod Aarch64 "dotprod";
    I8mm Aarch64 "i8mm";
    Fp16 Aarch64 "fp16";
    Bf16 Aarch64 "bf16";
}

/// The bits of XCR0 that say that the system saves 128-bit and 256-bit registers.
pub const XCR0_AVX: u32 = 0x6;
/// The bits of XCR0 that say that the system also saves 512-bit and mask registers.
pub const XCR0_AVX512: u32 = 0xe6;

/// A bit that `cpuid` gives, and what the system must have enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpuid {
    /// Goes into `eax`; `ecx` is 0.
    pub leaf: u32,
    /// Where the bit comes out.
    pub register: CpuidRegister,
    /// Which bit.
    pub bit: u32,
    /// Bits of XCR0 that must be set; 0 where none.
    pub xcr0: u32,
}

/// A register that `cpuid` writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names are the vendor's own")]
pub enum CpuidRegister {
    Ebx,
    Ecx,
}

const fn ecx(leaf: u32, bit: u32) -> Cpuid {
    Cpuid { leaf, register: CpuidRegister::Ecx, bit, xcr0: 0 }
}

const fn ebx(leaf: u32, bit: u32) -> Cpuid {
    Cpuid { leaf, register: CpuidRegister::Ebx, bit, xcr0: 0 }
}

const fn with_state(cpuid: Cpuid, xcr0: u32) -> Cpuid {
    Cpuid { xcr0, ..cpuid }
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Features(u64);

impl Features {
    /// No features.
    pub const NONE: Features = Features(0);

    /// The set with a feature and all that it needs.
    #[must_use]
    pub fn with(self, feature: Feature) -> Self {
        let mut set = Features(self.0 | 1 << feature as u32);
        for &needed in feature.needs() {
            set = set.with(needed);
        }
        set
    }

    /// Whether the feature is in it.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The features, in declaration order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.iter().copied().filter(move |&f| self.has(f))
    }
}

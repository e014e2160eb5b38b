//! The levels of x86-64, as the System V ABI defines them.

use crate::{Arch, Feature, Features, Level, Target};

const V2: &[Feature] = &[Feature::Sse3, Feature::Ssse3, Feature::Sse41, Feature::Sse42, Feature::Popcnt, Feature::Cmpxchg16b];
const V3: &[Feature] =
    &[Feature::Avx, Feature::Avx2, Feature::Bmi1, Feature::Bmi2, Feature::F16c, Feature::Fma, Feature::Lzcnt, Feature::Movbe];
const V4: &[Feature] = &[Feature::Avx512f, Feature::Avx512bw, Feature::Avx512cd, Feature::Avx512dq, Feature::Avx512vl];

pub(crate) fn target(level: Level) -> Target {
    let mut features = Features::NONE;
    for (at, of_level) in [(Level::V2, V2), (Level::V3, V3), (Level::V4, V4)] {
        for &feature in of_level.iter().filter(|_| level >= at) {
            features = features.with(feature);
        }
    }
    let mut target = Target {
        arch: Arch::X86_64,
        level,
        features,
        vector_bits: 128,
        n_vector_registers: 16,
        n_fma_ports: 2,
        n_load_ports: 2,
        n_store_ports: 1,
        port_bits: 256,
        fma_latency_cycles: 4,
        l1d_bytes: 32 << 10,
        l1d_ways: 8,
        l2_bytes: if level >= Level::V4 { 1 << 20 } else { 256 << 10 },
        l3_bytes: 32 << 20,
        line_bytes: 64,
        l2_bytes_in_10_cycles: 200,
        l3_bytes_in_10_cycles: 100,
        memory_bytes_in_10_cycles: 36,
    };
    set_vectors(&mut target);
    target
}

/// Sets the size and number of the vector registers from the features.
pub(crate) fn set_vectors(target: &mut Target) {
    let avx512 = target.has(Feature::Avx512f) && target.has(Feature::Avx512vl);
    target.vector_bits = match () {
        () if target.has(Feature::Avx512f) => 512,
        () if target.has(Feature::Avx) => 256,
        () => 128,
    };
    target.n_vector_registers = if avx512 { 32 } else { 16 };
}
